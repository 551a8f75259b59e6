//! Answers on their way from a client library's threads to the producer's.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::report::Durability;
use crate::worker::port::Answer;

/// Answers of consecutive records that come within so little time count as one, as of the last: a library that answers record by record would else cost the generator
/// more than the record does.
const TOGETHER: Duration = Duration::from_micros(5);

/// Holds the answers until the producer takes them, and wakes it when it waits for some.
#[derive(Debug, Default)]
pub(super) struct AnswerBox {
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    answers: Vec<Answer>,
    /// Records answered since the beginning.
    answered: u64,
    /// From when on the producer wants to be woken.
    awaited: Option<u64>,
}

impl AnswerBox {
    /// Puts in the answer to one record, that has come just now.
    pub(super) fn put(
        &self,
        partition: u32,
        token: u64,
        result: Result<Option<Durability>, String>,
    ) {
        let answered_at = Instant::now();
        let mut held = self.held();
        held.answered += 1;
        match held.answers.last_mut() {
            Some(last)
                if last.partition == partition
                    && last.first_token + last.records == token
                    && last.result.is_ok()
                    && last.result == result
                    && answered_at.duration_since(last.answered_at) < TOGETHER =>
            {
                last.records += 1;
                last.answered_at = answered_at;
            }
            _ => held.answers.push(Answer {
                partition,
                first_token: token,
                records: 1,
                answered_at,
                result,
            }),
        }
        let is_awaited = held.awaited.is_some_and(|awaited| held.answered >= awaited);
        drop(held);
        if is_awaited {
            self.changed.notify_one();
        }
    }

    /// Moves what there is into `into`.
    pub(super) fn take(&self, into: &mut Vec<Answer>) {
        into.append(&mut self.held().answers);
    }

    /// Waits until so many records are answered since the beginning. Gives how many are, which is less when that took longer than `patience`.
    pub(super) fn wait(&self, answered: u64, patience: Duration) -> u64 {
        let mut held = self.held();
        if held.answered >= answered {
            return held.answered;
        }
        held.awaited = Some(answered);
        let (mut held, _) = self
            .changed
            .wait_timeout_while(held, patience, |held| held.answered < answered)
            .unwrap_or_else(PoisonError::into_inner);
        held.awaited = None;
        held.answered
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Whatever panicked with the lock held, the books are whole between any two of its lines.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn taken(answers: &AnswerBox) -> Vec<Answer> {
        let mut into = Vec::new();
        answers.take(&mut into);
        into
    }

    #[test]
    fn what_is_put_in_is_taken_out_once_and_whole() {
        let answers = AnswerBox::default();
        for token in 0..100 {
            answers.put(token as u32 % 2, token / 2, Ok(None));
        }
        answers.put(1, 50, Err("no".to_owned()));
        let all = taken(&answers);
        for partition in [0, 1] {
            let mut next = 0;
            for answer in all.iter().filter(|answer| answer.partition == partition) {
                assert_eq!(answer.first_token, next);
                next += answer.records;
            }
            assert_eq!(next, 50 + u64::from(partition));
        }
        assert_eq!(all.last().unwrap().result, Err("no".to_owned()));
        assert!(taken(&answers).is_empty());
    }

    #[test]
    fn a_refusal_is_never_counted_with_its_neighbours() {
        let answers = AnswerBox::default();
        answers.put(0, 0, Ok(None));
        answers.put(0, 1, Err("no".to_owned()));
        answers.put(0, 2, Err("no".to_owned()));
        let records: Vec<_> = taken(&answers).iter().map(|one| one.records).collect();
        assert_eq!(records, [1, 1, 1]);
    }

    #[test]
    fn a_wait_ends_when_all_is_answered_or_patience_is_over() {
        let answers = Arc::new(AnswerBox::default());
        answers.put(0, 0, Ok(None));
        assert_eq!(answers.wait(2, Duration::from_millis(1)), 1);
        let other = answers.clone();
        let putting = std::thread::spawn(move || other.put(0, 1, Ok(None)));
        assert_eq!(answers.wait(2, Duration::from_secs(3600)), 2);
        putting.join().unwrap();
    }
}
