//! Reaching the server: where it is, and what its refusals mean to the shell.

use clap::Args;
use gannet_wire::client::blocking::Client;
use gannet_wire::client::{ClientConfig, ClientError};
use gannet_wire::{ErrorBody, ErrorCode, Fault, Retry};

use super::exit::{ExitStatus, Failure};

/// Which server a client command talks to.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// Address and port of the server
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "GANNET_SERVER",
        default_value = "127.0.0.1:7470",
        value_parser = parse_server
    )]
    server: String,
}

/// A host, by name or address, and a port. Which addresses a name has is asked for later.
fn parse_server(text: &str) -> Result<String, String> {
    let whole = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty() && (bracketed || !host.contains(':')) && port.parse::<u16>().is_ok()
    });
    if whole {
        return Ok(text.to_owned());
    }
    Err("write it as HOST:PORT, such as 127.0.0.1:7470, localhost:7470 or [::1]:7470".to_owned())
}

impl ServerArgs {
    pub(super) fn connect(&self) -> Result<Client, Failure> {
        let config = ClientConfig {
            client_name: concat!("gannet/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..ClientConfig::default()
        };
        Client::connect(self.server.as_str(), config).map_err(|error| self.failure(&error))
    }

    /// Which server that is, for sentences.
    pub(super) fn name(&self) -> &str {
        &self.server
    }

    /// What happened, whose fault it is, and what to do.
    pub(super) fn failure(&self, error: &ClientError) -> Failure {
        let server = &self.server;
        let status = status_of(error);
        let sentence = match (status, refusal_in(error)) {
            (_, Some(body)) => format!("{server}: {error} ({})", advice(body)),
            (ExitStatus::Unreachable, None) => {
                format!(
                    "{server}: {error}; is the server running there, and is --server (or GANNET_SERVER) right?"
                )
            }
            (ExitStatus::Bug, None) => {
                format!(
                    "{server}: {error}; this is a bug there or here, or no gannet listens there"
                )
            }
            _ => error.to_string(),
        };
        Failure::new(status, sentence)
    }
}

fn status_of(error: &ClientError) -> ExitStatus {
    match error {
        ClientError::Io { .. } | ClientError::ConnectionLost(_) | ClientError::TimedOut(_) => {
            ExitStatus::Unreachable
        }
        ClientError::Server(_) | ClientError::SubscriptionEnded { .. } => ExitStatus::Server,
        ClientError::Record(_) | ClientError::InvalidArgument(_) => ExitStatus::Usage,
        ClientError::GaveUp { cause, .. }
        | ClientError::HeldUp { cause, .. }
        | ClientError::Behind(cause)
        | ClientError::Undelivered { cause, .. } => status_of(cause),
        // A frame that is none, a batch damaged under way, a use after the end, and what a later client adds.
        _ => ExitStatus::Bug,
    }
}

/// What the server said, when it was the server that said no.
fn refusal_in(error: &ClientError) -> Option<&ErrorBody> {
    match error {
        ClientError::Server(body) => Some(body),
        ClientError::SubscriptionEnded { error, .. } => Some(error),
        ClientError::GaveUp { cause, .. }
        | ClientError::HeldUp { cause, .. }
        | ClientError::Behind(cause)
        | ClientError::Undelivered { cause, .. } => refusal_in(cause),
        _ => None,
    }
}

fn advice(body: &ErrorBody) -> &'static str {
    if body.code == ErrorCode::RangeFenced {
        return "the server's disk is at fault; gannet consume --skip-damaged goes on behind it, gannet topic describe shows all of it";
    }
    match (body.fault, body.retry) {
        (Fault::Bug, _) => "a bug in the server: report it, with its log",
        (_, Retry::Later) => "try the same again later",
        (_, Retry::Refresh) => "try again",
        (Fault::Environment, Retry::No) => "the server's machine is at fault: see its log",
        (Fault::Caller | Fault::Peer, Retry::No) => "as things are, the same request fails again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(error: &ClientError) -> Failure {
        ServerArgs {
            server: "example:7470".to_owned(),
        }
        .failure(error)
    }

    #[test]
    fn a_refusal_says_whose_fault_it_is_and_what_to_do() {
        let body = ErrorBody::new(ErrorCode::TopicUnknown, "there is no topic orders");
        let failure = failure(&ClientError::Server(body));
        assert_eq!(failure.status, ExitStatus::Server);
        assert!(
            failure.sentence.contains("there is no topic orders"),
            "{failure}"
        );
        assert!(failure.sentence.contains("fails again"), "{failure}");
    }

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for whole in [
            "127.0.0.1:7470",
            "localhost:1",
            "[::1]:7470",
            "a.example:65535",
        ] {
            assert_eq!(parse_server(whole), Ok(whole.to_owned()));
        }
        for part in ["foo", "127.0.0.1", ":7470", "foo:", "foo:70000", "::1", ""] {
            let sentence = parse_server(part).expect_err(part);
            assert!(sentence.contains("HOST:PORT"), "{sentence}");
        }
    }

    #[test]
    fn a_refusal_that_held_something_up_until_its_time_was_over_is_the_servers() {
        let full = ErrorBody::new(ErrorCode::DiskFull, "the disk is nearly full");
        let failure = failure(&ClientError::HeldUp {
            what: "a batch was not acknowledged",
            cause: Box::new(ClientError::Server(full)),
        });
        assert_eq!(failure.status, ExitStatus::Server);
        assert!(failure.sentence.contains("disk_full"), "{failure}");
        assert!(failure.sentence.contains("later"), "{failure}");
    }

    #[test]
    fn a_lost_connection_is_unreachable_however_deep_it_lies() {
        let lost = ClientError::ConnectionLost("reset".to_owned());
        let undelivered = ClientError::Undelivered {
            records: 3,
            cause: Box::new(lost.clone()),
        };
        for error in [lost, undelivered] {
            let failure = failure(&error);
            assert_eq!(failure.status, ExitStatus::Unreachable);
            assert!(failure.sentence.contains("--server"), "{failure}");
        }
    }

    #[test]
    fn bytes_that_are_no_frame_are_a_bug_or_another_program() {
        let failure = failure(&ClientError::Protocol("a reply to nothing"));
        assert_eq!(failure.status, ExitStatus::Bug);
        assert!(
            failure.sentence.contains("no gannet listens there"),
            "{failure}"
        );
    }
}
