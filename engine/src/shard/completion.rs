//! What became of a request to the log, and who is to hear of it.

use std::rc::Rc;

use gannet_wire::frame::Durability;
use gannet_wire::{ErrorBody, ErrorCode, Offset, Timestamp};

/// What became of a request to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A batch has its offsets.
    Published {
        /// The first.
        base_offset: Offset,
        /// The append clock.
        append_time: Timestamp,
        /// What was reached.
        durability: Durability,
        /// Whether it was there already.
        duplicate: bool,
    },
    /// A committed offset is durable.
    Committed,
    /// It was refused, or cannot be kept.
    Failed(ErrorBody),
}

/// Takes what became of requests. Called on the shard's thread, many times in a row: it must only take note.
pub trait CompletionSink {
    /// `token` is the one the request came with.
    fn complete(&self, token: u64, outcome: Outcome);

    /// Whether the sender of a request that is not answered yet has sent others that are not either: it does not wait for an answer before it
    /// sends more.
    fn has_others_in_flight(&self) -> bool {
        false
    }
}

/// Who is to be told, exactly once. One that is dropped without a word, because whatever held it cannot go on, tells that storage failed.
pub struct Completion {
    sink: Option<Rc<dyn CompletionSink>>,
    token: u64,
}

impl Completion {
    /// `sink` knows the request by `token`.
    #[must_use]
    pub fn new(sink: Rc<dyn CompletionSink>, token: u64) -> Self {
        Self {
            sink: Some(sink),
            token,
        }
    }

    /// See [`CompletionSink::has_others_in_flight`].
    #[must_use]
    pub fn has_others_in_flight(&self) -> bool {
        self.sink
            .as_ref()
            .is_some_and(|sink| sink.has_others_in_flight())
    }

    /// Tells.
    pub fn complete(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Outcome) {
        if let Some(sink) = self.sink.take() {
            sink.complete(self.token, outcome);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if self.sink.is_some() {
            self.tell(Outcome::Failed(ErrorBody::of_code(
                ErrorCode::StorageFailed,
            )));
        }
    }
}
