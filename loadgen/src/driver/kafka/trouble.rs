//! What librdkafka complains of on its own threads.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use crate::worker::port::PortError;

/// The last thing that it complained of: it may be why something did not happen.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<String>>);

impl Trouble {
    /// Keeps an error.
    pub(super) fn note(&self, error: &KafkaError, reason: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error}: {reason}"));
    }

    /// The sentence, and the last error if there was one.
    pub(super) fn add_to(&self, sentence: &str) -> PortError {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        PortError(match last.as_ref() {
            Some(last) => format!("{sentence} (librdkafka last said: {last})"),
            None => sentence.to_owned(),
        })
    }
}

/// A client's context that keeps what it complains of.
pub(super) struct Watch(pub(super) Arc<Trouble>);

impl ClientContext for Watch {
    // What matters of it comes as an error too.
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.note(&error, reason);
    }
}

impl ConsumerContext for Watch {}
