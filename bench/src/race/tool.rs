//! Each broker's own load generator, beside ours: what it is told, and what it says.
//!
//! They check nothing, and each measures in its own way; that is why they are only a check that our driver does not hold their broker back.

use gannet_loadgen::driver::KAFKA_REQUESTS_MAX;
use serde::{Deserialize, Serialize};

use super::entrant::Peer;
use super::workload::Workload;

/// What a tool measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolFigures {
    /// Records acknowledged a second.
    pub publish_records_per_s: f64,
    /// From sending until the acknowledgement, in microseconds; absent where the tool measures something else.
    pub publish_p50_us: Option<f64>,
    /// Likewise.
    pub publish_p99_us: Option<f64>,
    /// Records consumed a second, when that was done after publishing; otherwise it only says how fast was published.
    pub consume_records_per_s: Option<f64>,
}

/// Fewer say nothing.
const RECORDS_MIN: u64 = 1000;

/// What the peer's script is told after `tool DIR`: everything in one call when it is consumed meanwhile, else one call for each side.
pub(super) fn calls(peer: Peer, topic: &str, load: &Workload, records: u64) -> Vec<Vec<String>> {
    let records = records.max(RECORDS_MIN).to_string();
    let rate = load
        .records_per_s
        .map_or_else(|| "-1".to_owned(), |rate| rate.to_string());
    let inflight = match peer {
        // Requests, of which it refuses more from an idempotent producer. Ours is one too.
        Peer::Kafka => u64::from(load.inflight.min(KAFKA_REQUESTS_MAX)),
        _ => load.records_in_flight(),
    };
    let publish = [
        topic.to_owned(),
        records.clone(),
        load.record_bytes.to_string(),
        rate,
        load.batch_bytes().to_string(),
        (load.linger_us / 1000).to_string(),
        inflight.to_string(),
    ];
    let call = |what: &str, arguments: &[String]| {
        let mut call = vec![what.to_owned()];
        call.extend_from_slice(arguments);
        call
    };
    let topic_call = call("topic", &[topic.to_owned(), load.partitions.to_string()]);
    if load.consumed_meanwhile {
        return vec![topic_call, call("both", &publish)];
    }
    let consume = [topic.to_owned(), records, load.record_bytes.to_string()];
    vec![
        topic_call,
        call("produce", &publish),
        call("consume", &consume),
    ]
}

/// What the calls' outputs say.
///
/// # Errors
/// A sentence when the tool said something else than expected.
pub(super) fn figures(peer: Peer, said: &str, load: &Workload) -> Result<ToolFigures, String> {
    let figures = match peer {
        Peer::Gannet => None,
        Peer::Kafka => of_kafka(said),
        Peer::RabbitMq => of_rabbitmq(said),
        Peer::Nats => of_nats(said),
    };
    let mut figures = figures.ok_or_else(|| {
        let last = said.trim_end().lines().next_back().unwrap_or_default();
        format!("its output has no figures; it ends: {last}")
    })?;
    if load.consumed_meanwhile {
        figures.consume_records_per_s = None;
    }
    Ok(figures)
}

/// `N records sent, N records/sec (N MB/sec), N ms avg latency, N ms max latency, N ms 50th, N ms 95th, N ms 99th, N ms 99.9th.` and, of the consumer, comma-separated figures
/// of which the last is records a second of fetching.
fn of_kafka(said: &str) -> Option<ToolFigures> {
    let line = said
        .lines()
        .rfind(|line| line.contains("records sent") && line.contains(" 99th"))?;
    let before = |words: &str| number(line.split(words).next()?.rsplit([' ', ',']).next()?);
    Some(ToolFigures {
        publish_records_per_s: before(" records/sec")?,
        publish_p50_us: before(" ms 50th").map(|ms| ms * 1e3),
        publish_p99_us: before(" ms 99th").map(|ms| ms * 1e3),
        consume_records_per_s: said.lines().rev().find_map(|line| {
            let fields: Vec<_> = line.split(", ").collect();
            (fields.len() == KAFKA_CONSUMER_FIELDS).then(|| number(fields.last()?))?
        }),
    })
}

const KAFKA_CONSUMER_FIELDS: usize = 10;

/// `sending rate avg: N msg/s`, `receiving rate avg: N msg/s`, `confirm latency min/median/75th/95th/99th N/N/N/N/N µs`, the last of each.
fn of_rabbitmq(said: &str) -> Option<ToolFigures> {
    let rate = |side: &str| -> Option<f64> {
        let words = format!("{side} rate avg: ");
        said.lines()
            .filter_map(|line| number(line.split_once(&words)?.1.split(' ').next()?))
            // A run of one side says 0 for the other.
            .rfind(|rate| *rate > 0.0)
    };
    let latency: Option<Vec<f64>> = said
        .lines()
        .filter_map(|line| line.split_once(", confirm latency min/median/75th/95th/99th "))
        .map(|(_, figures)| figures.split([' ', '/']).map_while(number).collect())
        .next_back();
    let latency = latency.unwrap_or_default();
    Some(ToolFigures {
        publish_records_per_s: rate("sending")?,
        publish_p50_us: latency.get(1).copied(),
        publish_p99_us: latency.get(4).copied(),
        consume_records_per_s: rate("receiving"),
    })
}

/// `asynchronous publisher stats: N msgs/sec ~ ...` and `ordered ephemeral consumer stats: N msgs/sec ~ ...`. Its latencies are those of whole windows, since it sends one and waits
/// for all of it.
fn of_nats(said: &str) -> Option<ToolFigures> {
    let rate = |whose: &str| -> Option<f64> {
        said.lines().rev().find_map(|line| {
            let (before, after) = line.split_once(" stats: ")?;
            before
                .ends_with(whose)
                .then(|| number(after.split(' ').next()?))?
        })
    };
    Some(ToolFigures {
        publish_records_per_s: rate("publisher")?,
        publish_p50_us: None,
        publish_p99_us: None,
        consume_records_per_s: rate("consumer"),
    })
}

fn number(text: &str) -> Option<f64> {
    text.trim().replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Workload = Workload {
        partitions: 2,
        record_bytes: 1000,
        records_per_s: None,
        batch_bytes: 65_536,
        batch_records: None,
        linger_us: 0,
        inflight: 5,
        consumed_meanwhile: false,
    };

    #[test]
    fn kafkas_tools_are_read() {
        let said = "59713 records sent, 11933.1 records/sec (11.38 MB/sec), 1467.8 ms avg latency, 2303.0 ms max latency.\n\
            200000 records sent, 23733.238400 records/sec (22.63 MB/sec), 1801.60 ms avg latency, 2893.00 ms max latency, 1748 ms 50th, 2791 ms 95th, 2860 ms 99th, 2879 ms 99.9th.\n\
            start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n\
            2026-11-25 08:27:56:536, 2026-11-25 08:28:04:196, 190.7349, 24.9001, 200000, 26109.6606, 5345, 2315, 82.3909, 86393.0886\n";
        assert_eq!(
            figures(Peer::Kafka, said, &AFTER),
            Ok(ToolFigures {
                publish_records_per_s: 23_733.238_4,
                publish_p50_us: Some(1_748_000.0),
                publish_p99_us: Some(2_860_000.0),
                consume_records_per_s: Some(86_393.088_6),
            })
        );
    }

    #[test]
    fn rabbitmqs_tool_is_read() {
        let said = "id: test-083105-204, sending rate avg: 5145 msg/s\n\
            id: test-083105-204, receiving rate avg: 0 msg/s\n\
            id: test-083105-204, confirm latency min/median/75th/95th/99th 1616/8266/14587/48797/201203 µs\n\
            id: test-083116-193, sending rate avg: 0 msg/s\n\
            id: test-083116-193, receiving rate avg: 13154 msg/s\n\
            id: test-083116-193, consumer latency min/median/75th/95th/99th 0/0/0/0/0 µs\n";
        assert_eq!(
            figures(Peer::RabbitMq, said, &AFTER),
            Ok(ToolFigures {
                publish_records_per_s: 5145.0,
                publish_p50_us: Some(8266.0),
                publish_p99_us: Some(201_203.0),
                consume_records_per_s: Some(13_154.0),
            })
        );
    }

    #[test]
    fn nats_tool_is_read() {
        let said = "NATS JetStream asynchronous publisher stats: 66,064 msgs/sec ~ 63 MiB/sec ~ min: 8,880.71us ~ P99: 24,665.46us\n\
            NATS JetStream ordered ephemeral consumer stats: 86,847 msgs/sec ~ 11 MiB/sec\n";
        assert_eq!(
            figures(Peer::Nats, said, &AFTER),
            Ok(ToolFigures {
                publish_records_per_s: 66_064.0,
                publish_p50_us: None,
                publish_p99_us: None,
                consume_records_per_s: Some(86_847.0),
            })
        );
    }

    #[test]
    fn a_tool_that_says_something_else_is_a_sentence_and_no_figure() {
        for peer in [Peer::Kafka, Peer::RabbitMq, Peer::Nats] {
            let error = figures(peer, "warming up\nconnection refused\n", &AFTER).unwrap_err();
            assert!(error.contains("connection refused"), "{error}");
        }
    }

    #[test]
    fn what_is_consumed_while_it_is_published_says_nothing_of_consuming() {
        let meanwhile = Workload {
            consumed_meanwhile: true,
            ..AFTER
        };
        let said = "x publisher stats: 10 msgs/sec ~\nx consumer stats: 9 msgs/sec ~\n";
        let figures = figures(Peer::Nats, said, &meanwhile).unwrap();
        assert_eq!(figures.consume_records_per_s, None);
    }

    #[test]
    fn a_tool_is_told_the_window_in_what_it_counts() {
        let window = |peer| calls(peer, "t", &AFTER, 5000)[1].last().cloned();
        assert_eq!(window(Peer::Kafka), Some("5".to_owned()));
        assert_eq!(window(Peer::Nats), Some((65 * 5 * 2).to_string()));
    }

    #[test]
    fn kafkas_tool_is_told_no_more_requests_than_it_takes() {
        let wide = Workload {
            inflight: 62,
            ..AFTER
        };
        let window = |peer| calls(peer, "t", &wide, 5000)[1].last().cloned();
        assert_eq!(window(Peer::Kafka), Some("5".to_owned()));
        assert_eq!(window(Peer::RabbitMq), Some((65 * 62 * 2).to_string()));
    }

    #[test]
    fn a_scenario_that_is_consumed_meanwhile_is_one_call_of_both() {
        let meanwhile = Workload {
            consumed_meanwhile: true,
            ..AFTER
        };
        let what = |load| -> Vec<String> {
            let calls = calls(Peer::Kafka, "t", load, 1);
            calls.iter().map(|call| call[0].clone()).collect()
        };
        assert_eq!(what(&meanwhile), ["topic", "both"]);
        assert_eq!(what(&AFTER), ["topic", "produce", "consume"]);
    }
}
