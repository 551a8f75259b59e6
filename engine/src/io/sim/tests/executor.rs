use super::*;

fn order(seed: u64) -> Vec<u32> {
    let executor = SimExecutor::new(seed);
    let order = Rc::new(RefCell::new(Vec::new()));
    for task in 0..8 {
        let (order, clock) = (Rc::clone(&order), executor.clock());
        executor.spawner().spawn(async move {
            order.borrow_mut().push(task);
            clock.sleep(Duration::from_millis(1)).await;
            order.borrow_mut().push(task);
        });
    }
    executor.run_until_idle();
    assert_eq!(executor.tasks(), 0);
    order.take()
}

#[test]
fn the_seed_decides_the_order_of_tasks() {
    assert_eq!(order(7), order(7));
    let orders: BTreeSet<_> = SEEDS.map(order).collect();
    assert!(orders.len() > 32, "only {} orders", orders.len());
}

#[test]
fn time_stands_still_while_a_task_can_run() {
    let executor = SimExecutor::new(1);
    let clock = executor.clock();
    executor.spawner().spawn({
        let clock = clock.clone();
        async move { clock.sleep(Duration::from_secs(3600)).await }
    });
    executor.run_ready();
    assert_eq!(clock.monotonic(), Duration::ZERO);
    executor.run_until_idle();
    assert_eq!(clock.monotonic(), Duration::from_secs(3600));
}

#[test]
fn running_for_a_while_stops_in_the_middle_of_a_sleep() {
    let executor = SimExecutor::new(1);
    executor.spawner().spawn({
        let clock = executor.clock();
        async move { clock.sleep(Duration::from_secs(10)).await }
    });
    executor.run_for(Duration::from_secs(9));
    assert_eq!(executor.tasks(), 1);
    executor.run_for(Duration::from_secs(1));
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn a_future_that_nothing_wakes_is_reported_as_stuck() {
    let executor = SimExecutor::new(1);
    let never = std::future::pending::<()>();
    assert_eq!(executor.block_on_steps(never, 1000), Err(Stopped::Stuck));
}

#[test]
fn a_future_that_does_not_end_in_its_steps_is_dropped() {
    let executor = SimExecutor::new(1);
    let clock = executor.clock();
    let held = Rc::new(());
    let future = async {
        let _held = Rc::clone(&held);
        loop {
            clock.sleep(Duration::from_millis(1)).await;
        }
    };
    let stopped = executor.block_on_steps::<()>(future, 100);
    assert_eq!(stopped, Err(Stopped::StepsSpent));
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_crash_drops_every_task() {
    let executor = SimExecutor::new(1);
    let held = Rc::new(());
    for _ in 0..3 {
        let (held, clock) = (Rc::clone(&held), executor.clock());
        executor.spawner().spawn(async move {
            let _held = held;
            clock.sleep(Duration::from_secs(1)).await;
        });
    }
    executor.run_ready();
    executor.crash();
    assert_eq!((executor.tasks(), Rc::strong_count(&held)), (0, 1));
    executor.run_until_idle();
}

#[test]
fn the_wall_clock_jumps_alone() {
    let executor = SimExecutor::new(1);
    let clock = executor.clock();
    let before = clock.wall_ms();
    executor.run_for(Duration::from_millis(5));
    clock.jump_wall_ms(-1000);
    assert_eq!(clock.wall_ms(), before + 5 - 1000);
    assert_eq!(clock.monotonic(), Duration::from_millis(5));
}
