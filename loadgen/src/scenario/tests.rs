use clap::Parser;
use proptest::prelude::*;

use super::*;
use crate::options::CommandLine;
use crate::sizes::SizeChoice;

fn parse(text: &str) -> Result<Scenario, String> {
    Scenario::parse("race/x.toml", text).map_err(|error| error.to_string())
}

fn options(arguments: &[&str]) -> Options {
    CommandLine::try_parse_from([&["gannet-loadgen"], arguments].concat())
        .unwrap()
        .options
}

#[test]
fn an_empty_file_is_the_defaults_under_the_files_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nothing-said.toml");
    std::fs::write(&path, "").unwrap();
    let expected = Scenario {
        name: "nothing-said".to_owned(),
        ..Scenario::default()
    };
    assert_eq!(Scenario::read(&path).unwrap(), expected);
}

#[test]
fn every_key_is_read() {
    let scenario = parse(
        r#"
        name = "all"
        producers = 3
        consumers = 4
        partitions = 5
        record_size = "2KiB"
        keys = 6
        rate = 7000
        batch_bytes = "64KiB"
        batch_records = 8
        linger_us = 9
        inflight = 10
        buffer_bytes = "11MiB"
        retention_bytes = "14GiB"
        durability = "accepted"
        duration = "12s"
        warm_up = "500ms"
        fan_out = 13
        "#,
    )
    .unwrap();
    let expected = Scenario {
        name: "all".to_owned(),
        producers: 3.try_into().unwrap(),
        consumers: 4,
        partitions: 5.try_into().unwrap(),
        record_size: RecordSizes::Fixed(2048),
        keys: 6,
        rate: Rate::PerSecond(7000),
        batch_bytes: 64 << 10,
        batch_records: Some(8.try_into().unwrap()),
        linger_us: 9,
        inflight: Some(10.try_into().unwrap()),
        buffer_bytes: Some((11 << 20).try_into().unwrap()),
        retention_bytes: Some((14 << 30).try_into().unwrap()),
        durability: Durability::Accepted,
        duration: Duration::from_secs(12),
        warm_up: Some(Duration::from_millis(500)),
        fan_out: 13.try_into().unwrap(),
    };
    assert_eq!(scenario, expected);
}

#[test]
fn sizes_are_read_as_a_number_a_text_or_a_distribution() {
    for (text, sizes) in [
        ("100", RecordSizes::Fixed(100)),
        ("\"10KiB\"", RecordSizes::Fixed(10_240)),
        (
            "{ uniform = [40, \"1KiB\"] }",
            RecordSizes::Uniform { min: 40, max: 1024 },
        ),
        (
            "{ choices = [{ size = \"100\", weight = 9 }, { size = \"10KiB\", weight = 1 }] }",
            RecordSizes::Choices(vec![
                SizeChoice {
                    size: 100,
                    weight: 9,
                },
                SizeChoice {
                    size: 10_240,
                    weight: 1,
                },
            ]),
        ),
    ] {
        let scenario = parse(&format!("record_size = {text}")).unwrap();
        assert_eq!(scenario.record_size, sizes, "{text}");
    }
}

#[test]
fn a_key_that_is_none_is_refused_with_its_line_and_what_there_is() {
    let sentence = parse("producers = 2\nprodcers = 3\n").unwrap_err();
    for part in [
        "race/x.toml, line 2",
        "prodcers",
        "`producers`",
        "`fan_out`",
    ] {
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[test]
fn a_value_that_its_key_cannot_take_is_refused_with_the_key_and_what_it_takes() {
    for (line, parts) in [
        ("producers = 0", ["producers", "nonzero"]),
        ("record_size = 15", ["`record_size` 15", "16 bytes"]),
        (
            "record_size = 16\nproducers = 65537",
            ["`producers` 65537", "40 bytes"],
        ),
        (
            "record_size = 16\nduration = \"400h\"",
            ["`duration` is too long", "12 days"],
        ),
        ("record_size = \"9MiB\"", ["`record_size`", "at most"]),
        ("record_size = true", ["record_size = true", "10KiB"]),
        ("record_size = -1", ["record_size = -1", "number of bytes"]),
        (
            "record_size = { uniform = [90, 50] }",
            ["`record_size`", "smaller size first"],
        ),
        (
            "record_size = { choices = [] }",
            ["`record_size`", "at least one"],
        ),
        (
            "record_size = { normal = [90, 50] }",
            ["`normal`", "`choices`"],
        ),
        ("record_size = {}", ["record_size", "either `uniform` or"]),
        ("rate = 0", ["rate = 0", "or max"]),
        ("rate = \"fast\"", ["rate", "or max"]),
        ("rate = -5", ["rate = -5", "or \"max\""]),
        ("batch_bytes = \"12 furlongs\"", ["batch_bytes", "KiB"]),
        ("batch_bytes = 0", ["`batch_bytes` 0", "128KiB"]),
        ("buffer_bytes = 0", ["buffer_bytes = 0", "room"]),
        ("retention_bytes = 0", ["retention_bytes = 0", "room"]),
        (
            "retention_bytes = 9\nconsumers = 0",
            ["`retention_bytes` 9", "at least 1 consumer"],
        ),
        ("durability = \"perhaps\"", ["perhaps", "`durable`"]),
        ("duration = \"10 d\"", ["duration", "use ms, s, m or h"]),
        ("duration = \"10ms\"", ["`duration`", "at least 100ms"]),
        ("warm_up = \"10s\"", ["`warm_up` 10 s", "longer duration"]),
        ("fan_out = 2\nconsumers = 0", ["`fan_out`", "at least 1"]),
        ("fan_out = 5000", ["`fan_out`", "at most 4096"]),
    ] {
        let sentence = parse(line).unwrap_err();
        assert!(sentence.starts_with("race/x.toml"), "{sentence}");
        for part in parts {
            assert!(sentence.contains(part), "{line}: {sentence}");
        }
    }
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    let sentence = parse("producers = 2\nconsumers").unwrap_err();
    assert!(sentence.contains("race/x.toml, line 2"), "{sentence}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Scenario::read(Path::new("/nonexistent/x.toml")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/x.toml"), "{error}");
}

#[test]
fn a_flag_counts_before_the_key_and_a_flag_not_given_does_not() {
    let scenario =
        parse("producers = 3\nrate = 500\nrecord_size = { uniform = [40, 90] }").unwrap();
    let with = scenario.with(&options(&["--rate", "max", "--keys", "4"]));
    let expected = Scenario {
        rate: Rate::Max,
        keys: 4,
        ..scenario.clone()
    };
    assert_eq!(with, expected);
    let with = scenario.with(&options(&["--record-size", "1000"]));
    assert_eq!(with.record_size, RecordSizes::Fixed(1000));
    assert_eq!(scenario.with(&options(&[])), scenario);
}

#[test]
fn a_run_cut_short_by_a_flag_keeps_something_to_measure() {
    let scenario = parse("duration = \"60s\"\nwarm_up = \"10s\"").unwrap();
    let warm_up = |arguments: &[&str]| scenario.with(&options(arguments)).warm_up;
    let ms = |ms| Some(Duration::from_millis(ms));
    assert_eq!(warm_up(&["--duration", "2s"]), ms(500));
    assert_eq!(warm_up(&["--duration", "50s"]), ms(10_000));
    assert_eq!(warm_up(&["--duration", "9s", "--warm-up", "3s"]), ms(3000));
}

#[test]
fn the_scenarios_that_come_with_the_project_are_scenarios() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/scenarios");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let scenario = Scenario::read(&entry.unwrap().path()).unwrap();
        names.push(scenario.name);
    }
    for name in [
        "saturated-large",
        "saturated-single",
        "paced",
        "fan-out",
        "mixed-sizes",
    ] {
        assert!(names.iter().any(|known| known == name), "{name}: {names:?}");
    }
}

fn sizes() -> impl Strategy<Value = RecordSizes> {
    let size = || 40_usize..(8 << 20);
    let choice = (size(), 1..1000_u32).prop_map(|(size, weight)| SizeChoice { size, weight });
    prop_oneof![
        size().prop_map(RecordSizes::Fixed),
        (size(), size()).prop_map(|(one, other)| RecordSizes::Uniform {
            min: one.min(other),
            max: one.max(other)
        }),
        prop::collection::vec(choice, 1..5).prop_map(RecordSizes::Choices),
    ]
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let count = || (1..1000_u32).prop_map(|count| NonZeroU32::new(count).unwrap());
    let rate = prop_oneof![
        Just(Rate::Max),
        (1..i64::MAX as u64).prop_map(Rate::PerSecond)
    ];
    let room = (1..i64::MAX as u64).prop_map(|bytes| NonZeroU64::new(bytes).unwrap());
    let durability = prop_oneof![Just(Durability::Accepted), Just(Durability::Durable)];
    let times = (100..100_000_000_u64, prop::option::of(0.0..1.0_f64)).prop_map(|(ms, share)| {
        let warm_up = share.map(|share| Duration::from_millis((ms as f64 * share) as u64));
        (Duration::from_millis(ms), warm_up)
    });
    (
        (
            "[a-z\\\\\"é\n -]{0,12}",
            count(),
            1..40_u32,
            count(),
            sizes(),
        ),
        (0..1000_u32, rate, 1..=u64::from(u32::MAX)),
        (
            prop::option::of(count()),
            0..i64::MAX as u64,
            prop::option::of(count()),
            prop::option::of(room.clone()),
            prop::option::of(room),
        ),
        (durability, times, 1..100_u32),
    )
        .prop_map(|(who, what, how, when)| {
            let (name, producers, consumers, partitions, record_size) = who;
            let (keys, rate, batch_bytes) = what;
            let (batch_records, linger_us, inflight, buffer_bytes, retention_bytes) = how;
            let (durability, (duration, warm_up), fan_out) = when;
            Scenario {
                name,
                producers,
                consumers,
                partitions,
                record_size,
                keys,
                rate,
                batch_bytes,
                batch_records,
                linger_us,
                inflight,
                buffer_bytes,
                retention_bytes,
                durability,
                duration,
                warm_up,
                fan_out: NonZeroU32::new(fan_out).unwrap(),
            }
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(scenario in scenarios()) {
        let text = toml::to_string(&scenario).unwrap();
        prop_assert_eq!(parse(&text).unwrap(), scenario, "{}", text);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-z_]{0,8} ?= ?[0-9a-z\"\\[\\]{}=, -]{0,30}\n?[a-z_=]{0,9}") {
        let _ = parse(&text);
    }
}
