//! Saying that a command waits for the server, and why: a line once a while, instead of silence.

use std::time::{Duration, Instant};

use gannet_wire::client::ClientError;

/// What stands in the way of a command, and what was said of it. Call [`look`](Self::look) about twice a second.
#[derive(Debug)]
pub(super) struct Waiting {
    server: String,
    since: Option<Instant>,
    said_at: Option<Instant>,
}

impl Waiting {
    pub(super) fn new(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            since: None,
            said_at: None,
        }
    }

    /// What is to be said now, given what stands in the way.
    pub(super) fn look(&mut self, obstacle: Option<&ClientError>, now: Instant) -> Option<String> {
        let Some(obstacle) = obstacle else {
            let since = self.since.take()?;
            self.said_at.take()?;
            let waited = now.saturating_duration_since(since).as_secs();
            return Some(format!("{}: goes on after {waited} s", self.server));
        };
        let since = *self.since.get_or_insert(now);
        let due_at = self.said_at.map_or(since + PATIENCE, |at| at + SAY_EVERY);
        if now < due_at {
            return None;
        }
        self.said_at = Some(now);
        let waited = now.saturating_duration_since(since).as_secs();
        Some(format!(
            "{}: waiting for {waited} s, and trying again: {obstacle}",
            self.server
        ))
    }
}

/// What passes sooner is not worth a line.
const PATIENCE: Duration = Duration::from_secs(2);
const SAY_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn lost() -> ClientError {
        ClientError::ConnectionLost("the server closed it".to_owned())
    }

    #[test]
    fn a_wait_is_said_with_its_reason_once_a_while_and_when_it_is_over() {
        let mut waiting = Waiting::new("h:1");
        let begin = Instant::now();
        let lost = lost();
        assert_eq!(waiting.look(Some(&lost), begin), None);
        let said = waiting.look(Some(&lost), begin + seconds(2));
        let said = said.expect("two seconds are long");
        assert!(
            said.contains("h:1") && said.contains("the server closed it"),
            "{said}"
        );
        assert_eq!(waiting.look(Some(&lost), begin + seconds(11)), None);
        assert!(waiting.look(Some(&lost), begin + seconds(12)).is_some());
        let over = waiting.look(None, begin + seconds(15));
        assert_eq!(over.as_deref(), Some("h:1: goes on after 15 s"));
        assert_eq!(waiting.look(None, begin + seconds(16)), None);
    }

    #[test]
    fn a_wait_that_is_soon_over_is_not_worth_a_word() {
        let mut waiting = Waiting::new("h:1");
        let begin = Instant::now();
        let lost = lost();
        assert_eq!(waiting.look(Some(&lost), begin), None);
        assert_eq!(waiting.look(None, begin + seconds(1)), None);
        assert_eq!(waiting.look(Some(&lost), begin + seconds(5)), None);
    }
}
