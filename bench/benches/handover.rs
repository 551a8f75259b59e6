//! From one task to another: on one executor by signal and semaphore, and from core to core by mailbox.

use std::rc::Rc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gannet_engine::io::Spawn;
use gannet_engine::io::local::{Semaphore, Signal};
use gannet_engine::io::uring::UringSpawn;
use gannet_engine::io::uring_exec::{ExecutorConfig, start_executor};
use gannet_engine::io::uring_mailbox::{MailboxSeat, mailboxes};
use gannet_wire::ShardIndex;

/// Runs a future on an executor of its own, as a shard's tasks run.
fn on_an_executor<F>(body: impl FnOnce() -> F + Send + 'static) -> Duration
where
    F: Future<Output = Duration> + 'static,
{
    start_executor(ExecutorConfig::new("bench"), body)
        .expect("io_uring is there")
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn local(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("local-round-trip");
    group.throughput(Throughput::Elements(1));
    group.sample_size(20);
    group.bench_function("signal", |bench| {
        bench.iter_custom(|rounds| on_an_executor(move || signal_rounds(rounds)));
    });
    group.bench_function("semaphore", |bench| {
        bench.iter_custom(|rounds| on_an_executor(move || semaphore_rounds(rounds)));
    });
    group.finish();
}

async fn signal_rounds(rounds: u64) -> Duration {
    let there = Rc::new(Signal::new());
    let back = Rc::new(Signal::new());
    UringSpawn.spawn({
        let (there, back) = (there.clone(), back.clone());
        async move {
            for round in 0..rounds {
                there.changed_since(round).await;
                back.notify_all();
            }
        }
    });
    let began = Instant::now();
    for round in 0..rounds {
        there.notify_all();
        back.changed_since(round).await;
    }
    began.elapsed()
}

/// Both take turns with a budget of one.
async fn semaphore_rounds(rounds: u64) -> Duration {
    let there = Rc::new(Semaphore::new(1));
    let back = Rc::new(Semaphore::new(1));
    there.acquire(1).await;
    back.acquire(1).await;
    UringSpawn.spawn({
        let (there, back) = (there.clone(), back.clone());
        async move {
            for _ in 0..rounds {
                there.acquire(1).await;
                back.release(1);
            }
        }
    });
    let began = Instant::now();
    for _ in 0..rounds {
        there.release(1);
        back.acquire(1).await;
    }
    began.elapsed()
}

fn between_cores(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mailbox-round-trip");
    group.throughput(Throughput::Elements(1));
    group.sample_size(10);
    group.measurement_time(Duration::from_secs(3));
    for (name, spin) in [
        ("parked", None),
        ("spinning-200us", Some(Duration::from_micros(200))),
    ] {
        group.bench_function(name, |bench| {
            bench.iter_custom(|rounds| mailbox_rounds(rounds, spin));
        });
    }
    group.finish();
}

/// One message to and fro between two executors.
fn mailbox_rounds(rounds: u64, spin: Option<Duration>) -> Duration {
    let config = |name, core| ExecutorConfig {
        core,
        spin_before_park: spin,
        ..ExecutorConfig::new(name)
    };
    let [first_core, second_core] = two_cores();
    let mut seats = mailboxes::<u64>(2, 64);
    let (Some(second), Some(first)) = (seats.pop(), seats.pop()) else {
        unreachable!("two seats were asked for")
    };
    let echoing = start_executor(config("bench-1", second_core), move || echo(second));
    let asking = start_executor(config("bench-0", first_core), move || ask(first, rounds));
    let (echoing, asking) = echoing
        .and_then(|echoing| Ok((echoing, asking?)))
        .expect("io_uring is there");
    let took = asking
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    echoing
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    took
}

/// Two that this process may use, as shards are pinned; none where there is only one.
fn two_cores() -> [Option<usize>; 2] {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else {
        return [None; 2];
    };
    let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    match (cores.next(), cores.next()) {
        (first, Some(second)) => [first, Some(second)],
        _ => [None; 2],
    }
}

async fn ask(seat: MailboxSeat<u64>, rounds: u64) -> Duration {
    let (mailbox, mut receivers) = seat.take();
    let receiver = receivers.pop().expect("there is one other");
    let began = Instant::now();
    for round in 0..rounds {
        let sent = mailbox.send(ShardIndex(1), round).await;
        assert!(sent.is_ok(), "the other one waits for it");
        assert_eq!(receiver.recv().await, Some(round));
    }
    let took = began.elapsed();
    // Here, not at the executor's end: only now does the other one hear of it.
    drop(mailbox);
    took
}

async fn echo(seat: MailboxSeat<u64>) {
    let (mailbox, mut receivers) = seat.take();
    let receiver = receivers.pop().expect("there is one other");
    while let Some(round) = receiver.recv().await {
        if mailbox.send(ShardIndex(0), round).await.is_err() {
            break;
        }
    }
    drop(mailbox);
}

criterion_group!(benches, local, between_cores);
criterion_main!(benches);
