#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Barrier;

use super::*;

/// A directory on the disk this is built on: `/tmp` may be in memory.
fn real_dir() -> tempfile::TempDir {
    let binary = std::env::current_exe().unwrap();
    tempfile::tempdir_in(binary.parent().unwrap()).unwrap()
}

#[test]
fn directories_of_one_parent_are_made_side_by_side() {
    const THREADS: usize = 4;
    let root = real_dir();
    for round in 0..200 {
        let parent = root.path().join(format!("{round}/topic"));
        let together = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (dir, together) = (parent.join(thread.to_string()), &together);
                scope.spawn(move || {
                    together.wait();
                    create_dirs(&dir).unwrap();
                    assert!(dir.is_dir());
                });
            }
        });
    }
}

#[test]
fn a_directory_that_cannot_be_is_an_error_and_not_an_endless_attempt() {
    let error = create_dirs(Path::new("/proc/gannet/topic")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let root = real_dir();
    let file = root.path().join("file");
    std::fs::write(&file, b"taken").unwrap();
    for dir in [file.clone(), file.join("below")] {
        assert!(create_dirs(&dir).is_err(), "{dir:?}");
    }
}
