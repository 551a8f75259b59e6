use super::*;
use crate::driver::DriverKind;
use crate::report::{
    BrokerReport, Durability, EndToEndReport, FlowReport, GeneratorReport, GroupReport, KillReport,
    LimitsReport, Machine, PublishReport, RereadReport, Settings,
};
use crate::verify::Findings;

fn phase(rate: Option<u64>) -> PhaseReport {
    let latency_us = LatencySummary {
        count: 9,
        mean: 300.0,
        p50: 250.0,
        p90: 400.0,
        p99: 900.0,
        p99_9: 1_500.0,
        max: 12_000.0,
        curve: Vec::new(),
    };
    PhaseReport {
        name: "paced".to_owned(),
        rate,
        seconds: 6.0,
        publish: PublishReport {
            flow: FlowReport::new(60_000, 1000, 6.0),
            latency_us,
            durability: Some(Durability::Durable),
        },
        consume: FlowReport::new(60_000, 1000, 6.0),
        broker: Some(BrokerReport {
            cpu_cores: 0.5,
            cpu_us_per_record: 1.25,
            rss_bytes: 40 << 20,
            rss_peak_bytes: 64 << 20,
        }),
        generator: GeneratorReport {
            cpu_cores: 0.25,
            producers_waiting: Some(0.9),
            machine_busy: 0.4,
            ..GeneratorReport::default()
        },
        ..PhaseReport::default()
    }
}

fn report() -> Report {
    Report {
        version: "0".to_owned(),
        scenario: Some("paced".to_owned()),
        driver: DriverKind::Native,
        label: "native".to_owned(),
        seed: 1,
        settings: Settings {
            server: "127.0.0.1:1".to_owned(),
            own_broker: true,
            topic: "t".to_owned(),
            partitions: 2,
            producers: 1,
            consumers: 1,
            record_bytes: 1000,
            durability: Some(Durability::Durable),
            shards: None,
            ..Settings::default()
        },
        machine: Machine {
            cores: 2,
            kernel: "6.18".to_owned(),
            filesystem: Some("ext4".to_owned()),
            journal: Some(true),
            ..Machine::default()
        },
        last: phase(None),
        phases: vec![phase(Some(10_000)), phase(None)],
        findings: Findings::default(),
        group_findings: Vec::new(),
        unacked: 0,
        sent: 123_456,
        acked: 123_456,
        reread: Some(RereadReport::default()),
        kill: Some(KillReport {
            recovery_ms: 321.0,
            ..KillReport::default()
        }),
        limits: Some(LimitsReport {
            publish_alone_ratio: Some(1.25),
            ..LimitsReport::default()
        }),
        passed: true,
        failures: Vec::new(),
        notes: vec!["mind the gap".to_owned()],
    }
}

#[test]
fn what_reading_again_cost_the_generator_stands_below_it() {
    let mut report = report();
    report.reread = Some(RereadReport {
        consumers: 2,
        consumers_waiting: Some(0.02),
        generator_cpu_cores: Some(1.75),
        machine_busy: Some(0.9),
        ..RereadReport::default()
    });
    let table = render(&report);
    assert!(
        table.contains("1.75 cores, 2 consumer(s) waiting 2 % of the time; machine 90 % busy"),
        "{table}"
    );
    assert!(
        table.contains("limited by the generator: its 2 consumer(s) waited only 2 %"),
        "{table}"
    );
}

#[test]
fn the_table_has_every_part_of_the_report() {
    let table = render(&report());
    for word in [
        "ext4 with a journal",
        "10,000 records/s",
        "as fast as it goes",
        "250 us",
        "900 us",
        "12 ms",
        "1.25 us CPU a record",
        "64.0 MiB",
        "acks say    durable",
        "321 ms",
        "1.25 at p50",
        "mind the gap",
        "sent 123,456",
        "lost 0",
        "passed",
    ] {
        assert!(table.contains(word), "{word} is missing from\n{table}");
    }
}

#[test]
fn a_failed_run_says_why_and_does_not_say_passed() {
    let report = Report {
        passed: false,
        failures: vec!["3 acknowledged record(s) never came out".to_owned()],
        findings: Findings {
            lost: 3,
            ..Findings::default()
        },
        ..report()
    };
    let table = render(&report);
    assert!(table.contains("FAILED: 3 acknowledged"), "{table}");
    assert!(
        table.contains("lost 3") && !table.contains("passed"),
        "{table}"
    );
}

#[test]
fn a_broker_whose_acks_say_nothing_is_never_called_durable() {
    let mut report = report();
    report.driver = DriverKind::Kafka;
    report.settings.durability = None;
    report.settings.durability_label = Some("page cache".to_owned());
    for phase in &mut report.phases {
        phase.publish.durability = None;
    }
    let table = render(&report);
    for words in [
        "by kafka",
        "acks say    nothing about durability",
        "acks mean   page cache, as the caller says",
    ] {
        assert!(table.contains(words), "{words} is missing from\n{table}");
    }
    assert!(!table.contains("durable"), "{table}");
}

#[test]
fn each_group_of_consumers_has_a_line_and_what_it_missed() {
    let mut report = report();
    let group = || GroupReport {
        consume: FlowReport::new(1_234, 100, 1.0),
        end_to_end: EndToEndReport::default(),
    };
    report.phases[0].groups = (0..12).map(|_| group()).collect();
    report.group_findings = vec![Findings::default(); 12];
    report.group_findings[11].lost = 5;
    let table = render(&report);
    assert!(
        table.contains("  group 9 ") && table.contains("1,234"),
        "{table}"
    );
    assert!(table.contains("and 2 more groups"), "{table}");
    assert!(table.contains("  group 11: lost 5,"), "{table}");
}

#[test]
fn a_latency_never_measured_is_a_dash_and_not_a_zero() {
    let mut report = report();
    report.phases[0].publish.latency_us = LatencySummary::default();
    assert!(render(&report).contains("          -"));
}

#[test]
fn the_json_keeps_the_fields_that_others_read() {
    let json = serde_json::to_value(report()).unwrap();
    for pointer in [
        "/publish/records_per_s",
        "/publish/mb_per_s",
        "/publish/latency_us/p50",
        "/publish/latency_us/p99_9",
        "/publish/latency_us/max",
        "/publish/durability",
        "/consume/mb_per_s",
        "/end_to_end/latency_us/p99",
        "/lost",
        "/duplicated",
        "/reordered",
        "/corrupt",
        "/unacked",
        "/broker/cpu_us_per_record",
        "/broker/rss_peak_bytes",
        "/generator/late_us/p99",
        "/kill/recovery_ms",
        "/reread/mb_per_s",
        "/limits/publish_alone_ratio",
        "/phases/0/publish/records_per_s",
        "/passed",
        "/scenario",
        "/driver",
        "/label",
        "/settings/record_size",
    ] {
        assert!(json.pointer(pointer).is_some(), "{pointer}");
    }
}

#[test]
fn the_json_is_read_back() {
    let text = serde_json::to_string(&report()).unwrap();
    let back: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(render(&back), render(&report()));
}

#[test]
fn a_number_that_the_generator_limited_says_so_beside_it() {
    let mut report = report();
    assert!(!render(&report).contains("limited by the generator"));
    report.phases[1].limited_by_generator = Some("it was asleep".to_owned());
    assert!(render(&report).contains("limited by the generator: it was asleep"));
}
