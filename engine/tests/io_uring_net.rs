//! Connections and mailboxes on real executors.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use gannet_engine::io::Spawn;
use gannet_engine::io::uring::{
    Connection, ConnectionOptions, ExecutorConfig, SEND_SLICES_MAX, TrySendError, UringSpawn,
    inlet, mailboxes, start_executor,
};
use gannet_wire::ShardIndex;

fn config(name: &str) -> ExecutorConfig {
    ExecutorConfig {
        panic_stops_process: false,
        ..ExecutorConfig::new(name)
    }
}

fn on_executor<T: Send + 'static>(test: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    match start_executor(config("test"), move || async move { test().await })
        .unwrap()
        .join()
    {
        Ok(output) => output,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// What one poll says, without waiting for more.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// Both ends of a connection: the client's and the accepted one.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    (client, accepted)
}

fn small_buffers() -> ConnectionOptions {
    ConnectionOptions {
        send_buffer_bytes: Some(64 * 1024),
        ..ConnectionOptions::default()
    }
}

mod connections {
    use super::*;

    #[test]
    fn slices_arrive_in_order_though_they_are_more_than_one_call_takes() {
        let (mut client, accepted) = pair();
        let count = 3 * SEND_SLICES_MAX + 7;
        let parts: Vec<Vec<u8>> = (0..count)
            .map(|index| vec![index as u8; index % 5 * 100])
            .collect();
        let expected = parts.concat();
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap();
            received
        });
        on_executor(async move || {
            let connection = Connection::from_std(accepted, &small_buffers()).unwrap();
            let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            connection.write_vectored_all(&mut slices).await.unwrap();
        });
        assert_eq!(reader.join().unwrap(), expected);
    }

    #[test]
    fn a_write_waits_for_a_slow_reader_and_loses_nothing() {
        let (mut client, accepted) = pair();
        let sent: Vec<u8> = (0..4_000_000_u32).map(|index| index as u8).collect();
        let expected = sent.clone();
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            let mut chunk = [0; 1000];
            loop {
                match client.read(&mut chunk).unwrap() {
                    0 => return received,
                    read => received.extend_from_slice(&chunk[..read]),
                }
            }
        });
        on_executor(async move || {
            let connection = Connection::from_std(accepted, &small_buffers()).unwrap();
            let mut slices: Vec<_> = sent.chunks(100_000).map(IoSlice::new).collect();
            connection.write_vectored_all(&mut slices).await.unwrap();
        });
        assert_eq!(reader.join().unwrap(), expected);
    }

    #[test]
    fn nothing_to_write_is_written_at_once() {
        let (_client, accepted) = pair();
        on_executor(async move || {
            let connection = Connection::from_std(accepted, &small_buffers()).unwrap();
            connection.write_vectored_all(&mut []).await.unwrap();
            let mut empty = [IoSlice::new(&[]), IoSlice::new(&[])];
            connection.write_vectored_all(&mut empty).await.unwrap();
        });
    }

    #[test]
    fn a_peer_that_never_reads_ends_the_write_at_the_deadline() {
        let (client, accepted) = pair();
        let kind = on_executor(async move || {
            let options = ConnectionOptions {
                write_deadline: Duration::from_millis(50),
                ..small_buffers()
            };
            let connection = Connection::from_std(accepted, &options).unwrap();
            let large = vec![1; 32 << 20];
            let mut slices = [IoSlice::new(&large)];
            let written = connection.write_vectored_all(&mut slices).await;
            written.unwrap_err().kind()
        });
        assert_eq!(kind, ErrorKind::TimedOut);
        drop(client);
    }

    #[test]
    fn a_write_to_a_peer_that_is_gone_fails() {
        let (client, accepted) = pair();
        drop(client);
        on_executor(async move || {
            let connection = Connection::from_std(accepted, &small_buffers());
            // The kernel may know already, or find out at the first write.
            let Ok(connection) = connection else { return };
            let chunk = vec![1; 100_000];
            loop {
                let written = connection
                    .write_vectored_all(&mut [IoSlice::new(&chunk)])
                    .await;
                if written.is_err() {
                    return;
                }
            }
        });
    }

    #[test]
    fn what_arrives_is_appended_and_the_end_reads_as_zero() {
        let (mut client, accepted) = pair();
        client.write_all(b"hello").unwrap();
        on_executor(async move || {
            let connection = Connection::from_std(accepted, &small_buffers()).unwrap();
            let mut buffer = BytesMut::with_capacity(64);
            buffer.extend_from_slice(b"> ");
            let (read, buffer) = connection.read(buffer).await;
            assert_eq!((read.unwrap(), &buffer[..]), (5, &b"> hello"[..]));
            client.write_all(b", world").unwrap();
            drop(client);
            let (read, buffer) = connection.read(buffer).await;
            assert_eq!(read.unwrap(), 7);
            let (read, buffer) = connection.read(buffer).await;
            assert_eq!(read.unwrap(), 0);
            assert_eq!(&buffer[..], b"> hello, world");
        });
    }

    #[test]
    fn a_read_takes_no_more_than_there_is_room_for() {
        let (mut client, accepted) = pair();
        client.write_all(&[7; 100]).unwrap();
        on_executor(async move || {
            let connection = Connection::from_std(accepted, &small_buffers()).unwrap();
            let mut received = 0;
            while received < 100 {
                let buffer = BytesMut::with_capacity(32);
                let room = buffer.capacity();
                let (read, buffer) = connection.read(buffer).await;
                let read = read.unwrap();
                assert!(read <= room && buffer.iter().all(|byte| *byte == 7));
                received += read;
            }
            assert_eq!(received, 100);
        });
    }

    #[test]
    fn one_task_reads_while_another_waits_to_write() {
        let (mut client, accepted) = pair();
        let bytes = 2 << 20;
        let peer = std::thread::spawn(move || {
            // Sends all before it reads anything: were one direction to wait for the other, both would hang.
            client.write_all(&vec![1; bytes]).unwrap();
            let mut received = vec![0; bytes];
            client.read_exact(&mut received).unwrap();
            received
        });
        on_executor(async move || {
            let connection = Rc::new(Connection::from_std(accepted, &small_buffers()).unwrap());
            let (done, written) = flume::bounded(1);
            UringSpawn.spawn({
                let connection = Rc::clone(&connection);
                async move {
                    let data = vec![2; bytes];
                    let mut slices = [IoSlice::new(&data)];
                    connection.write_vectored_all(&mut slices).await.unwrap();
                    done.send(()).unwrap();
                }
            });
            let mut received = 0;
            let mut buffer = BytesMut::new();
            while received < bytes {
                buffer.clear();
                buffer.reserve(64 * 1024);
                let (read, filled) = connection.read(buffer).await;
                received += read.unwrap();
                buffer = filled;
            }
            written.recv_async().await.unwrap();
        });
        assert_eq!(peer.join().unwrap(), vec![2; bytes]);
    }

    #[test]
    fn a_dropped_connection_ends_for_the_peer_while_a_read_was_waiting() {
        let (mut client, accepted) = pair();
        let (go_on, wait) = flume::bounded::<()>(1);
        let peer = std::thread::spawn(move || {
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap();
            drop(go_on);
            received
        });
        on_executor(async move || {
            let connection = Connection::from_std(accepted, &small_buffers()).unwrap();
            connection
                .write_vectored_all(&mut [IoSlice::new(b"last words")])
                .await
                .unwrap();
            {
                let buffer = BytesMut::with_capacity(16);
                let mut reading = std::pin::pin!(connection.read(buffer));
                let polled = poll_once(reading.as_mut()).await;
                assert!(polled.is_pending());
            }
            drop(connection);
            // The executor stays: only the drop can have closed it.
            assert!(wait.recv_async().await.is_err());
        });
        assert_eq!(peer.join().unwrap(), b"last words");
    }

    #[test]
    fn a_shut_down_connection_wakes_its_own_reader() {
        let (_client, accepted) = pair();
        on_executor(async move || {
            let connection = Rc::new(Connection::from_std(accepted, &small_buffers()).unwrap());
            UringSpawn.spawn({
                let connection = Rc::clone(&connection);
                async move { connection.shutdown() }
            });
            let (read, _) = connection.read(BytesMut::with_capacity(16)).await;
            assert_eq!(read.unwrap(), 0);
        });
    }

    #[test]
    #[should_panic(expected = "no room to read into")]
    fn a_read_without_room_is_refused() {
        let (_client, accepted) = pair();
        on_executor(async move || {
            let connection = Connection::from_std(accepted, &small_buffers()).unwrap();
            let _ = connection.read(BytesMut::new()).await;
        });
    }
}

mod mailbox {
    use super::*;

    #[test]
    fn each_shard_receives_from_each_other_in_order_though_the_room_is_small() {
        const MESSAGES: u32 = 1000;
        let executors: Vec<_> = mailboxes::<u32>(3, 2)
            .into_iter()
            .map(|seat| {
                let name = format!("shard-{}", seat.shard());
                start_executor(config(&name), move || async move {
                    let own = seat.shard();
                    let (mailbox, receivers) = seat.take();
                    assert_eq!(receivers.len(), 2);
                    let (done, sent) = flume::bounded(1);
                    UringSpawn.spawn(async move {
                        for message in 0..MESSAGES {
                            for to in (0..3).map(ShardIndex).filter(|to| *to != own) {
                                mailbox.send(to, message).await.unwrap();
                            }
                        }
                        drop(mailbox);
                        done.send(()).unwrap();
                    });
                    let loops = receivers.into_iter().map(|receiver| async move {
                        assert_ne!(receiver.from(), own);
                        for expected in 0..MESSAGES {
                            assert_eq!(receiver.recv().await, Some(expected));
                        }
                        assert_eq!(receiver.recv().await, None);
                    });
                    futures_util::future::join_all(loops).await;
                    sent.recv_async().await.unwrap();
                })
                .unwrap()
            })
            .collect();
        for executor in executors {
            executor.join().unwrap();
        }
    }

    #[test]
    fn a_full_mailbox_refuses_and_one_whose_receiver_is_gone_gives_the_message_back() {
        let mut seats = mailboxes::<u32>(2, 2).into_iter();
        let (first, second) = (seats.next().unwrap(), seats.next().unwrap());
        let (full, is_full) = flume::bounded::<()>(0);
        let receiver = start_executor(config("receiver"), move || async move {
            let connected = second.take();
            is_full.recv_async().await.unwrap();
            drop(connected);
        })
        .unwrap();
        on_executor(async move || {
            let (mailbox, _receivers) = first.take();
            let to = ShardIndex(1);
            mailbox.try_send(to, 1).unwrap();
            mailbox.try_send(to, 2).unwrap();
            assert!(matches!(
                mailbox.try_send(to, 3),
                Err(TrySendError::Full(3))
            ));
            let mut waiting = std::pin::pin!(mailbox.send(to, 4));
            assert!(poll_once(waiting.as_mut()).await.is_pending());
            full.send_async(()).await.unwrap();
            assert_eq!(waiting.await.unwrap_err().0, 4);
            assert!(matches!(
                mailbox.try_send(to, 5),
                Err(TrySendError::Closed(5))
            ));
        });
        receiver.join().unwrap();
    }

    #[test]
    fn any_thread_reaches_a_shard() {
        let (sender, receiver) = inlet::<u32>(1);
        let thread = std::thread::spawn(move || {
            for message in 0..100 {
                sender.send(message).unwrap();
            }
        });
        let received = on_executor(async move || {
            let mut received = Vec::new();
            while let Ok(message) = receiver.recv_async().await {
                received.push(message);
            }
            received
        });
        thread.join().unwrap();
        assert_eq!(received, (0..100).collect::<Vec<_>>());
    }
}
