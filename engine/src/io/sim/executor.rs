//! Tasks in seeded order under virtual time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::Random;
use crate::io::{Clock, Spawn};

/// Runs tasks of one thread in an order that the seed decides. Time stands still while any task can run, and then
/// jumps to the next thing that is due.
pub struct SimExecutor {
    core: Rc<Core>,
}

/// Why a bounded run ended without its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every task waits, and nothing is due: it would wait for ever.
    Stuck,
    /// The steps were used up.
    StepsSpent,
}

impl SimExecutor {
    /// An executor whose order, and all that is derived from it, `seed` determines.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            core: Rc::new(Core {
                random: RefCell::new(Random::new(seed)),
                now: Cell::new(Duration::ZERO),
                wall_ahead_ms: Cell::new(WALL_START_MS),
                next_id: Cell::new(ROOT + 1),
                steps: Cell::new(0),
                tasks: RefCell::default(),
                due: RefCell::default(),
                ready: Arc::default(),
            }),
        }
    }

    /// The clock of this executor.
    #[must_use]
    pub fn clock(&self) -> SimClock {
        SimClock {
            core: Rc::clone(&self.core),
        }
    }

    /// A handle that starts tasks on this executor.
    #[must_use]
    pub fn spawner(&self) -> SimSpawn {
        SimSpawn {
            core: Rc::clone(&self.core),
        }
    }

    /// A generator of its own for a part of the simulated world.
    #[must_use]
    pub fn fork_random(&self) -> Random {
        self.core.random.borrow_mut().fork()
    }

    /// Runs all tasks until `future` ends.
    ///
    /// # Panics
    /// When it would wait for ever.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        match self.block_on_steps(future, u64::MAX) {
            Ok(output) => output,
            Err(stopped) => panic!(
                "{stopped:?}: the future waits for ever, after {} steps",
                self.steps()
            ),
        }
    }

    /// Runs all tasks until `future` ends, for at most `steps_max` steps; unfinished, it is dropped. A step polls one
    /// task or moves time to the next thing that is due.
    ///
    /// # Errors
    /// Why it did not end.
    pub fn block_on_steps<T>(
        &self,
        future: impl Future<Output = T>,
        steps_max: u64,
    ) -> Result<T, Stopped> {
        let mut future = pin!(future);
        let waker = self.core.waker(ROOT);
        waker.wake_by_ref();
        for _ in 0..steps_max {
            match self.core.pick() {
                Some(ROOT) => {
                    self.core.count_step();
                    let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
                    if let Poll::Ready(output) = polled {
                        return Ok(output);
                    }
                }
                Some(task) => self.core.poll(task),
                None => {
                    if !self.core.advance(Duration::MAX) {
                        return Err(Stopped::Stuck);
                    }
                }
            }
        }
        Err(Stopped::StepsSpent)
    }

    /// Runs until every task has ended or waits for something that no time brings. A task with an endless timer never
    /// lets this return: use [`SimExecutor::run_for`] then.
    pub fn run_until_idle(&self) {
        while self.core.step(Duration::MAX) {}
    }

    /// Runs what can run without time passing.
    pub fn run_ready(&self) {
        while let Some(task) = self.core.pick() {
            self.core.poll(task);
        }
    }

    /// Runs for at most `steps_max` steps, and says how many there were.
    pub fn run_steps(&self, steps_max: u64) -> u64 {
        (0..steps_max)
            .take_while(|_| self.core.step(Duration::MAX))
            .count() as u64
    }

    /// Runs until `duration` of virtual time has passed.
    pub fn run_for(&self, duration: Duration) {
        let until = self.core.now.get() + duration;
        while self.core.step(until) {}
        self.core.now.set(until);
    }

    /// Steps since the executor was made: a place in the run that the same seed finds again.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.core.steps.get()
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.core.tasks.borrow().len()
    }

    /// Drops all tasks where they stand, as a crash of the process does. Time goes on; so does what was handed to the disk,
    /// until [`SimDisk::crash`](super::SimDisk::crash).
    pub fn crash(&self) {
        // A task's drop may start another one.
        while !self.core.tasks.borrow().is_empty() {
            let tasks = std::mem::take(&mut *self.core.tasks.borrow_mut());
            drop(tasks);
        }
        self.core.ready().clear();
    }
}

impl Drop for SimExecutor {
    /// Tasks hold handles to the executor: without this they would keep each other alive.
    fn drop(&mut self) {
        self.crash();
        let due = std::mem::take(&mut *self.core.due.borrow_mut());
        drop(due);
    }
}

/// Virtual time.
#[derive(Clone)]
pub struct SimClock {
    core: Rc<Core>,
}

impl SimClock {
    /// Lets the wall clock jump, ahead or back; the monotonic one does not notice.
    pub fn jump_wall_ms(&self, by_ms: i64) {
        self.core
            .wall_ahead_ms
            .set(self.core.wall_ahead_ms.get() + by_ms);
    }

    /// Runs `event` when `delay` has passed, whatever becomes of the tasks.
    pub(super) fn after(&self, delay: Duration, event: impl FnOnce() + 'static) {
        self.core
            .at(self.core.now.get() + delay, Due::Run(Box::new(event)));
    }
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        self.core.now.get()
    }

    fn wall_ms(&self) -> i64 {
        self.core.wall_ahead_ms.get() + self.core.now.get().as_millis() as i64
    }

    async fn sleep(&self, duration: Duration) {
        Sleep {
            core: &self.core,
            until: self.core.now.get() + duration,
            due: None,
        }
        .await;
    }
}

/// Starts tasks on a [`SimExecutor`].
#[derive(Clone)]
pub struct SimSpawn {
    core: Rc<Core>,
}

impl Spawn for SimSpawn {
    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let id = self.core.next_id();
        self.core.tasks.borrow_mut().insert(id, Box::pin(future));
        self.core.ready().push(id);
    }
}

struct Core {
    random: RefCell<Random>,
    now: Cell<Duration>,
    wall_ahead_ms: Cell<i64>,
    next_id: Cell<u64>,
    steps: Cell<u64>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    due: RefCell<BTreeMap<(Duration, u64), Due>>,
    /// Behind a lock only because a `Waker` must be `Send`.
    ready: Arc<Mutex<Vec<u64>>>,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

enum Due {
    Wake(Waker),
    Run(Box<dyn FnOnce()>),
}

impl Core {
    fn next_id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id
    }

    fn count_step(&self) {
        self.steps.set(self.steps.get() + 1);
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, Vec<u64>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waker(&self, task: u64) -> Waker {
        Waker::from(Arc::new(TaskWaker {
            task,
            ready: Arc::clone(&self.ready),
        }))
    }

    /// One of the tasks that can run.
    fn pick(&self) -> Option<u64> {
        let mut ready = self.ready();
        if ready.is_empty() {
            return None;
        }
        let index = self.random.borrow_mut().index(ready.len());
        Some(ready.swap_remove(index))
    }

    fn poll(&self, id: u64) {
        self.count_step();
        // Taken out, so that it may start tasks. One that ended may still be woken.
        let task = self.tasks.borrow_mut().remove(&id);
        let Some(mut task) = task else {
            return;
        };
        let waker = self.waker(id);
        if task
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            self.tasks.borrow_mut().insert(id, task);
        }
    }

    /// Polls a task, or lets time pass, but not beyond `until`.
    fn step(&self, until: Duration) -> bool {
        match self.pick() {
            Some(task) => {
                self.poll(task);
                true
            }
            None => self.advance(until),
        }
    }

    /// Lets time pass to the next thing that is due, unless that is after `until`.
    fn advance(&self, until: Duration) -> bool {
        let first = {
            let mut due = self.due.borrow_mut();
            match due.first_entry() {
                Some(entry) if entry.key().0 <= until => entry.remove_entry(),
                _ => return false,
            }
        };
        let ((at, _), due) = first;
        self.count_step();
        self.now.set(self.now.get().max(at));
        match due {
            Due::Wake(waker) => waker.wake(),
            Due::Run(event) => event(),
        }
        true
    }

    fn at(&self, when: Duration, due: Due) -> (Duration, u64) {
        let key = (when, self.next_id());
        self.due.borrow_mut().insert(key, due);
        key
    }
}

struct TaskWaker {
    task: u64,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&self.task) {
            ready.push(self.task);
        }
    }
}

struct Sleep<'a> {
    core: &'a Core,
    until: Duration,
    due: Option<(Duration, u64)>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.core.now.get() >= self.until {
            return Poll::Ready(());
        }
        let waker = Due::Wake(context.waker().clone());
        match self.due {
            Some(key) => {
                self.core.due.borrow_mut().insert(key, waker);
            }
            None => self.due = Some(self.core.at(self.until, waker)),
        }
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.due {
            self.core.due.borrow_mut().remove(&key);
        }
    }
}

/// The future of `block_on`; tasks count from the next number.
const ROOT: u64 = 0;
/// 2026-01-01, so that the wall clock looks like one.
const WALL_START_MS: i64 = 1_767_225_600_000;
