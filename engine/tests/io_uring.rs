//! The real disk and the executors, on a real file system: the temporary directory of the build, never a tmpfs.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use gannet_engine::io::uring::{
    ExecutorConfig, SHARD_PANIC_EXIT_STATUS, UringClock, UringDisk, UringSpawn, start_executor,
};
use gannet_engine::io::{
    BLOCK_BYTES, Clock, Disk, DiskBuffer, DiskBufferMut, DiskFile, OpenMode, Spawn,
};

fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn config() -> ExecutorConfig {
    ExecutorConfig {
        panic_stops_process: false,
        ..ExecutorConfig::new("test")
    }
}

/// Runs `test` on an executor of its own.
fn on_disk(test: impl AsyncFnOnce(UringDisk, PathBuf) + Send + 'static) {
    let dir = temp_dir();
    let path = dir.path().to_owned();
    let executor = start_executor(config(), move || async move {
        test(UringDisk, path).await;
    });
    if let Err(panic) = executor.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

fn filled(disk: &UringDisk, byte: u8, blocks: usize) -> DiskBuffer {
    let mut buffer = disk.buffer(blocks * BLOCK_BYTES);
    buffer.fill(byte);
    buffer.freeze()
}

const BLOCK: u64 = BLOCK_BYTES as u64;

mod disk {
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::sync::mpsc;

    use super::*;

    /// Large enough to take the disk some time.
    const WRITE_BLOCKS: usize = 256;

    #[test]
    fn an_executor_does_not_end_before_the_reads_and_writes_it_began() {
        let dir = temp_dir();
        let path = dir.path().join("file");
        let created = path.clone();
        let executor = start_executor(config(), move || async move {
            let disk = UringDisk;
            let file = disk.open(&created, OpenMode::CreateNew).await;
            let file = Rc::new(file.unwrap());
            for number in 0..32 {
                let file = file.clone();
                let buffer = filled(&disk, 1, WRITE_BLOCKS);
                UringSpawn.spawn(async move {
                    let position = number * WRITE_BLOCKS as u64 * BLOCK;
                    file.write_at(position, &buffer).await.unwrap();
                });
            }
            // One turn of the others: all are begun, and nobody waits for them. For one of them nobody even wants to.
            gannet_engine::io::local::yield_once().await;
            let last = filled(&disk, 1, WRITE_BLOCKS);
            let mut unwanted = Box::pin(file.write_at(32 * WRITE_BLOCKS as u64 * BLOCK, &last));
            assert!(begun(unwanted.as_mut()).await);
        });
        executor.unwrap().join().unwrap();
        // The last first, before the disk has the time to make up for it.
        let file = std::fs::File::open(path).unwrap();
        for number in (0..33).rev() {
            let mut written = vec![0; WRITE_BLOCKS * BLOCK_BYTES];
            let position = number * WRITE_BLOCKS as u64 * BLOCK;
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut written, position).unwrap();
            assert!(written.iter().all(|byte| *byte == 1), "write {number}");
        }
    }

    #[test]
    fn an_executor_ends_although_nobody_looks_at_what_was_begun() {
        let dir = temp_dir();
        let path = dir.path().join("file");
        let executor = start_executor(config(), move || async move {
            let disk = UringDisk;
            let file = disk.open(&path, OpenMode::CreateNew).await.unwrap();
            // As what was read ahead is kept by a cache, and that by a task that waits for something else.
            UringSpawn.spawn(async move {
                let buffer = filled(&disk, 1, 1);
                let mut kept = Box::pin(file.write_at(0, &buffer));
                assert!(begun(kept.as_mut()).await);
                std::future::pending::<()>().await;
                drop(kept);
            });
            gannet_engine::io::local::yield_once().await;
        })
        .unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !executor.is_finished() {
            assert!(std::time::Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        executor.join().unwrap();
    }

    /// Looks at an operation once, which begins it; whether it is under way now.
    async fn begun<F: Future>(mut operation: std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(operation.as_mut().poll(context).is_pending())
        })
        .await
    }

    #[test]
    fn files_that_are_slow_to_open_do_not_stop_the_shard() {
        let dir = temp_dir();
        // To open one of them for reading takes until somebody opens it for writing.
        let pipes: Vec<PathBuf> = (0..6)
            .map(|number| dir.path().join(number.to_string()))
            .collect();
        for pipe in &pipes {
            let made = Command::new("mkfifo").arg(pipe).status().unwrap();
            assert!(made.success());
        }
        let (tell, told) = mpsc::channel();
        let opened = pipes.clone();
        let executor = start_executor(config(), move || async move {
            let opens = opened
                .iter()
                .map(|pipe| UringDisk.open(pipe, OpenMode::Read));
            let works_on = async {
                // Longer than it takes to hand them all to other threads.
                UringClock::new().sleep(Duration::from_millis(50)).await;
                tell.send(()).unwrap();
            };
            futures_util::future::join(join_all(opens), works_on).await;
        })
        .unwrap();
        let works_on = told.recv_timeout(Duration::from_secs(10));
        for pipe in &pipes {
            // Both ways at once does not wait for anybody, and lets the reader in.
            let writer = std::fs::File::options()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(pipe)
                .unwrap();
            // Kept open until the process ends: its reader may come later.
            std::mem::forget(writer);
        }
        executor.join().unwrap();
        assert_eq!(works_on, Ok(()), "the shard stood still");
    }

    #[test]
    fn what_one_handle_writes_another_reads() {
        on_disk(async |disk, dir| {
            let path = dir.join("file");
            let file = disk.open(&path, OpenMode::CreateNew).await.unwrap();
            file.write_at(0, &filled(&disk, 1, 3)).await.unwrap();
            file.write_at(BLOCK, &filled(&disk, 2, 1)).await.unwrap();
            file.sync().await.unwrap();
            disk.sync_dir(&dir).await.unwrap();
            file.close().await.unwrap();
            let file = disk.open(&path, OpenMode::Read).await.unwrap();
            let read = file.read_at(0, 3 * BLOCK_BYTES).await.unwrap();
            let firsts: Vec<u8> = read.chunks(BLOCK_BYTES).map(|block| block[0]).collect();
            assert_eq!(firsts, [1, 2, 1]);
            assert!(file.write_at(0, &filled(&disk, 1, 1)).await.is_err());
        });
    }

    #[test]
    fn a_read_ends_at_the_end_of_the_file() {
        on_disk(async |disk, dir| {
            let path = dir.join("file");
            std::fs::write(&path, [7; BLOCK_BYTES + 10]).unwrap();
            let file = disk.open(&path, OpenMode::Read).await.unwrap();
            let end = file.read_at(BLOCK, 4 * BLOCK_BYTES).await.unwrap();
            assert_eq!(&*end, [7; 10]);
            assert!(
                file.read_at(2 * BLOCK, BLOCK_BYTES)
                    .await
                    .unwrap()
                    .is_empty()
            );
            assert_eq!(file.bytes().await.unwrap(), BLOCK + 10);
        });
    }

    #[test]
    fn an_empty_file_opened_first_does_not_spoil_later_reads() {
        on_disk(async |disk, dir| {
            let empty = disk.open(&dir.join("empty"), OpenMode::CreateNew).await;
            let empty = empty.unwrap();
            assert!(empty.read_at(0, BLOCK_BYTES).await.unwrap().is_empty());
            empty.write_at(0, &filled(&disk, 1, 1)).await.unwrap();
            assert_eq!(empty.read_at(0, BLOCK_BYTES).await.unwrap()[0], 1);
        });
    }

    #[test]
    fn a_durable_file_is_opened_with_o_dsync_and_every_file_with_o_direct() {
        on_disk(async |disk, dir| {
            let path = dir.join("file");
            std::fs::write(&path, [0; BLOCK_BYTES]).unwrap();
            let durable = disk.open(&path, OpenMode::WriteDurable).await.unwrap();
            let flags = open_flags(&path);
            assert!(flags & libc::O_DSYNC != 0 && flags & libc::O_DIRECT != 0);
            durable.write_at(0, &filled(&disk, 1, 1)).await.unwrap();
            durable.close().await.unwrap();
            let _plain = disk.open(&path, OpenMode::Write).await.unwrap();
            let flags = open_flags(&path);
            assert!(flags & libc::O_DSYNC == 0 && flags & libc::O_DIRECT != 0);
        });
    }

    /// The flags of the one descriptor that this process has open on `path`.
    fn open_flags(path: &Path) -> i32 {
        let descriptor = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .map(|entry| entry.unwrap())
            .find(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path))
            .unwrap();
        let info = Path::new("/proc/self/fdinfo").join(descriptor.file_name());
        let info = std::fs::read_to_string(info).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        i32::from_str_radix(flags.unwrap().trim(), 8).unwrap()
    }

    #[test]
    fn reserved_space_extends_the_file_and_reads_as_zeros() {
        on_disk(async |disk, dir| {
            let file = disk.open(&dir.join("file"), OpenMode::CreateNew).await;
            let file = file.unwrap();
            file.write_at(0, &filled(&disk, 1, 1)).await.unwrap();
            file.allocate(3 * BLOCK).await.unwrap();
            assert_eq!(file.bytes().await.unwrap(), 3 * BLOCK);
            let read = file.read_at(0, 4 * BLOCK_BYTES).await.unwrap();
            assert_eq!((read.len(), read[0]), (3 * BLOCK_BYTES, 1));
            assert!(read[BLOCK_BYTES..].iter().all(|byte| *byte == 0));
            file.allocate(BLOCK).await.unwrap();
            assert_eq!(file.bytes().await.unwrap(), 3 * BLOCK);
        });
    }

    #[test]
    fn a_buffer_from_the_heap_can_be_written_too() {
        on_disk(async |disk, dir| {
            let file = disk.open(&dir.join("file"), OpenMode::CreateNew).await;
            let file = file.unwrap();
            let mut buffer = DiskBufferMut::heap(BLOCK_BYTES);
            buffer.fill(9);
            file.write_at(0, &buffer.freeze()).await.unwrap();
            assert_eq!(
                &*file.read_at(0, BLOCK_BYTES).await.unwrap(),
                [9; BLOCK_BYTES]
            );
        });
    }

    #[test]
    fn many_writes_are_in_flight_at_once() {
        on_disk(async |disk, dir| {
            let file = disk.open(&dir.join("file"), OpenMode::CreateNew).await;
            let file = Rc::new(file.unwrap());
            join_all((0..200_u8).map(|index| {
                let (file, buffer) = (Rc::clone(&file), filled(&disk, index, 1));
                async move {
                    file.write_at(u64::from(index) * BLOCK, &buffer)
                        .await
                        .unwrap()
                }
            }))
            .await;
            let read = file.read_at(0, 200 * BLOCK_BYTES).await.unwrap();
            for (index, block) in (0..).zip(read.chunks(BLOCK_BYTES)) {
                assert!(block.iter().all(|byte| *byte == index));
            }
        });
    }

    #[test]
    fn errors_keep_the_number_of_the_operating_system() {
        on_disk(async |disk, dir| {
            let missing = disk.open(&dir.join("missing"), OpenMode::Write).await;
            assert_eq!(missing.unwrap_err().raw_os_error(), Some(libc::ENOENT));
            let path = dir.join("file");
            disk.open(&path, OpenMode::CreateNew).await.unwrap();
            let again = disk.open(&path, OpenMode::CreateNew).await;
            assert_eq!(again.unwrap_err().raw_os_error(), Some(libc::EEXIST));
            let list = disk.list(&dir.join("missing")).await;
            assert_eq!(list.unwrap_err().raw_os_error(), Some(libc::ENOENT));
        });
    }

    #[test]
    fn directories_are_made_listed_and_removed() {
        on_disk(async |disk, dir| {
            let deep = dir.join("a/b/c");
            disk.create_dir_all(&deep).await.unwrap();
            disk.create_dir_all(&deep).await.unwrap();
            std::fs::write(dir.join("a/file"), [0; 5]).unwrap();
            let mut entries = disk.list(&dir.join("a")).await.unwrap();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            let entries: Vec<_> = entries
                .iter()
                .map(|entry| (entry.name.as_str(), entry.is_dir, entry.bytes))
                .collect();
            assert_eq!(entries, [("b", true, 0), ("file", false, 5)]);
            disk.remove(&dir.join("a/file")).await.unwrap();
            assert!(disk.remove(&dir.join("a/file")).await.is_err());
            disk.remove_dir_all(&dir.join("a")).await.unwrap();
            disk.remove_dir_all(&dir.join("a")).await.unwrap();
            disk.sync_dir(&dir).await.unwrap();
            assert_eq!(disk.list(&dir).await.unwrap(), []);
            assert!(disk.available_bytes(&dir).await.unwrap() > 0);
        });
    }

    #[test]
    #[should_panic(expected = "unaligned access")]
    fn an_unaligned_read_is_refused() {
        on_disk(async |disk, dir| {
            let file = disk.open(&dir.join("file"), OpenMode::CreateNew).await;
            let _ = file.unwrap().read_at(512, BLOCK_BYTES).await;
        });
    }
}

mod executors {
    use super::*;

    #[test]
    fn an_executor_is_pinned_to_its_core_and_returns_what_its_future_does() {
        let config = ExecutorConfig {
            core: Some(0),
            spin_before_park: Some(Duration::from_micros(10)),
            ..config()
        };
        let executor = start_executor(config, || async {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            status
                .lines()
                .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
                .map(|cores| cores.trim().to_owned())
        });
        assert_eq!(executor.unwrap().join().unwrap().unwrap(), "0");
    }

    #[test]
    fn an_executor_that_cannot_be_made_is_an_error() {
        let config = ExecutorConfig {
            core: Some(100_000),
            ..config()
        };
        assert!(start_executor(config, || async {}).is_err());
    }

    #[test]
    fn a_spawned_task_runs_beside_the_others_and_time_passes() {
        let executor = start_executor(config(), || async {
            let clock = UringClock::new();
            let (done, finished) = futures_channel();
            UringSpawn.spawn(async move {
                clock.sleep(Duration::from_millis(2)).await;
                done.send(clock.monotonic()).unwrap();
            });
            finished.recv_async().await.unwrap()
        });
        assert!(executor.unwrap().join().unwrap() >= Duration::from_millis(2));
        assert!(UringClock::new().wall_ms() > 1_700_000_000_000);
    }

    #[test]
    fn an_executor_ends_after_the_directory_operations_that_it_began() {
        let dir = temp_dir();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        for file in 0..2_000 {
            std::fs::write(tree.join(file.to_string()), b"").unwrap();
        }
        let doomed = tree.clone();
        let executor = start_executor(config(), move || async move {
            let disk = UringDisk;
            let (begins, begun) = flume::bounded(1);
            UringSpawn.spawn(async move {
                let removal = disk.remove_dir_all(&doomed);
                begins.send(()).unwrap();
                removal.await.unwrap();
            });
            begun.recv_async().await.unwrap();
            // The task that was woken last goes last: the removal is under way when this ends.
            UringClock::new().sleep(Duration::ZERO).await;
        });
        executor.unwrap().join().unwrap();
        assert!(!tree.exists(), "the removal was left in the middle");
    }

    fn futures_channel() -> (flume::Sender<Duration>, flume::Receiver<Duration>) {
        flume::bounded(1)
    }

    #[test]
    fn a_panic_of_a_task_comes_out_of_join_where_it_does_not_stop_the_process() {
        let executor = start_executor(config(), || async {
            UringSpawn.spawn(async { panic!("the task's message") });
            std::future::pending::<()>().await;
        });
        let panic = executor.unwrap().join().unwrap_err();
        let message = panic.downcast_ref::<&str>().unwrap();
        assert!(message.contains("a task of this executor panicked"));
    }

    #[test]
    fn a_panic_of_a_task_stops_the_process_with_a_message_and_a_status_of_its_own() {
        const CHILD: &str = "GANNET_TEST_PANICKING_SHARD";
        if std::env::var_os(CHILD).is_some() {
            let executor = start_executor(ExecutorConfig::new("shard-0"), || async {
                UringSpawn.spawn(async { panic!("the task's message") });
                std::future::pending::<()>().await;
            });
            // Left half alive, the process would wait here for ever.
            let _executor = executor.unwrap();
            loop {
                std::thread::park();
            }
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("executors::a_panic_of_a_task_stops_the_process_with_a_message_and_a_status_of_its_own")
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(SHARD_PANIC_EXIT_STATUS));
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(printed.contains("the task's message"), "{printed}");
        assert!(printed.contains("shard shard-0 panicked"), "{printed}");
    }
}
