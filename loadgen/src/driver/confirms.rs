//! Publishing with libraries that give a future for each record: what is in flight is bounded here, and awaited in the order of sending.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::answers::AnswerBox;
use crate::worker::port::{Answer, PortError};

/// A record not answered by then fails the run.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(60);
/// A producer that waits for room goes on when a sixteenth of the window is free: to be woken for each answer would cost more than the records do.
const ROOM_SHARE: u64 = 16;

/// Resolves when the broker has answered: with why it refused, if it did.
pub(super) type Confirmation = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// The records that one producer has in flight.
pub(super) struct Confirms {
    runtime: Handle,
    answers: Arc<AnswerBox>,
    /// For each partition that records went to, the way to the task that awaits their answers. What lies there is bounded by the window.
    awaited: Vec<Option<UnboundedSender<(u64, Confirmation)>>>,
    window: u64,
    sent: u64,
}

impl Confirms {
    /// For a topic of that many partitions, with at most `window` records in flight.
    pub(super) fn new(runtime: Handle, partitions: u32, window: u64) -> Self {
        Self {
            runtime,
            answers: Arc::default(),
            awaited: vec![None; partitions as usize],
            window: window.max(1),
            sent: 0,
        }
    }

    /// Waits until one more record may be sent.
    pub(super) fn wait_for_room(&self) -> Result<(), PortError> {
        if self.sent < self.window || self.answered() > self.sent - self.window {
            return Ok(());
        }
        let room = (self.window / ROOM_SHARE).max(1);
        let awaited = self.sent - self.window + room;
        if self.answers.wait(awaited, ANSWER_MAX) < awaited {
            return Err(PortError(format!(
                "with {} record(s) in flight, not {room} were answered in {} s",
                self.window,
                ANSWER_MAX.as_secs()
            )));
        }
        Ok(())
    }

    /// Takes the confirmation of a record that was sent just now.
    pub(super) fn add(
        &mut self,
        partition: u32,
        token: u64,
        confirmation: Confirmation,
    ) -> Result<(), PortError> {
        let gone = || {
            PortError(format!(
                "nobody awaits the answers of partition {partition}"
            ))
        };
        let awaited = self.awaited.get_mut(partition as usize).ok_or_else(gone)?;
        let awaited =
            awaited.get_or_insert_with(|| await_all(&self.runtime, partition, &self.answers));
        awaited.send((token, confirmation)).map_err(|_| gone())?;
        self.sent += 1;
        Ok(())
    }

    /// Moves the answers that have come into `into`.
    pub(super) fn take(&self, into: &mut Vec<Answer>) {
        self.answers.take(into);
    }

    /// Waits until all is answered.
    pub(super) fn flush(&self) -> Result<(), PortError> {
        match self.sent - self.answers.wait(self.sent, ANSWER_MAX * 2) {
            0 => Ok(()),
            open => Err(PortError(format!("{open} record(s) were never answered"))),
        }
    }

    fn answered(&self) -> u64 {
        self.answers.wait(0, Duration::ZERO)
    }
}

/// A task for each partition: answers of one come in the order of sending, and do not wait for those of others.
fn await_all(
    runtime: &Handle,
    partition: u32,
    answers: &Arc<AnswerBox>,
) -> UnboundedSender<(u64, Confirmation)> {
    let (sender, mut awaited) = unbounded_channel::<(u64, Confirmation)>();
    let answers = answers.clone();
    runtime.spawn(async move {
        while let Some((token, confirmation)) = awaited.recv().await {
            // What the answer means, only the broker's configuration knows.
            answers.put(partition, token, confirmation.await.map(|()| None));
        }
    });
    sender
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap()
    }

    fn confirmation() -> (oneshot::Sender<Result<(), String>>, Confirmation) {
        let (sender, receiver) = oneshot::channel();
        (sender, Box::pin(async move { receiver.await.unwrap() }))
    }

    #[test]
    fn answers_come_in_the_order_of_sending_whatever_order_they_were_given_in() {
        let runtime = runtime();
        let mut confirms = Confirms::new(runtime.handle().clone(), 1, 10);
        let (first, confirmation_of_first) = confirmation();
        let (second, confirmation_of_second) = confirmation();
        confirms.add(0, 0, confirmation_of_first).unwrap();
        confirms.add(0, 1, confirmation_of_second).unwrap();
        second.send(Err("no".to_owned())).unwrap();
        first.send(Ok(())).unwrap();
        confirms.flush().unwrap();
        let mut answers = Vec::new();
        confirms.take(&mut answers);
        let order: Vec<_> = answers
            .iter()
            .map(|answer| (answer.first_token, answer.result.clone()))
            .collect();
        assert_eq!(order, [(0, Ok(None)), (1, Err("no".to_owned()))]);
    }

    #[test]
    fn a_producer_waits_while_as_much_is_in_flight_as_may_be() {
        let runtime = runtime();
        let mut confirms = Confirms::new(runtime.handle().clone(), 2, 2);
        let (first, confirmation_of_first) = confirmation();
        let (_second, confirmation_of_second) = confirmation();
        confirms.wait_for_room().unwrap();
        confirms.add(0, 0, confirmation_of_first).unwrap();
        confirms.wait_for_room().unwrap();
        confirms.add(1, 0, confirmation_of_second).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| confirms.wait_for_room());
            assert!(!waiting.is_finished());
            first.send(Ok(())).unwrap();
            waiting.join().unwrap().unwrap();
        });
        assert_eq!(confirms.answered(), 1);
    }
}
