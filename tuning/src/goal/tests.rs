use proptest::prelude::*;

use super::*;

fn goal(text: &str) -> Goal {
    text.parse().unwrap()
}

fn refusal(text: &str) -> String {
    text.parse::<Goal>().unwrap_err().to_string()
}

fn bound(way: Way, percentile: Percentile, micros: u64) -> Bound {
    Bound {
        way,
        percentile,
        below: Duration::from_micros(micros),
    }
}

#[test]
fn a_latency_at_a_load_is_read() {
    assert_eq!(
        goal("p99 < 2ms at 100 MB/s"),
        Goal::Latency {
            bound: bound(Way::Publish, Percentile::P99, 2000),
            load: Load::BytesPerSecond(1e8),
        }
    );
    assert_eq!(
        goal("end to end p99.9 < 1.5 s at 20,000 records/s"),
        Goal::Latency {
            bound: bound(Way::EndToEnd, Percentile::P99_9, 1_500_000),
            load: Load::RecordsPerSecond(20_000.0),
        }
    );
}

#[test]
fn throughput_with_and_without_a_bound_is_read() {
    assert_eq!(goal("max throughput"), Goal::Throughput { bound: None });
    assert_eq!(
        goal("max throughput with publish max < 10ms"),
        Goal::Throughput {
            bound: Some(bound(Way::Publish, Percentile::Max, 10_000)),
        }
    );
}

#[test]
fn case_and_blanks_do_not_matter() {
    let plain = goal("end to end p50 < 250us at 2 GB/s");
    for text in [
        "End-to-End P50<250us AT 2gb/s",
        "  end  to end p50 <250 us at 2GB/s  ",
        "end to end p50 < 250µs at 2000 MB/s",
    ] {
        assert_eq!(goal(text), plain, "{text}");
    }
}

#[test]
fn what_is_no_goal_is_refused_with_what_should_stand_there() {
    for (text, words) in [
        ("", "not the end"),
        ("fast", "p99.9 and max"),
        ("p999 < 2ms at 1 MB/s", "p99.9 and max"),
        ("p99.99 < 2ms at 1 MB/s", "p99.9 and max"),
        ("p99 <= 2ms at 1 MB/s", "a time such as 2ms"),
        ("p99 2ms at 1 MB/s", "`<` should follow"),
        ("p99 < 2 at 1 MB/s", "us, ms or s, not \"at\""),
        ("p99 < 2ms", "\"at\" should follow, not the end"),
        ("p99 < 2ms at 100", "records/s, not \"\""),
        ("p99 < 2ms at 100 MiB/s", "records/s, not \"mib/s\""),
        ("p99 < 2ms at 0 MB/s", "no load"),
        ("p99 < 2ms at 1.2.3 MB/s", "a load such as 100 MB/s"),
        ("p99 < 1,5ms at 1 MB/s", "a time such as 2ms"),
        ("p99 < 0ms at 1 MB/s", "between 1 us and 60 s"),
        ("p99 < 61s at 1 MB/s", "between 1 us and 60 s"),
        ("p99 < 2ms at 1 MB/s please", "\"please\" is too much"),
        ("max throughput at 5 MB/s", "\"with\" should follow"),
        ("max throughput with", "not the end"),
    ] {
        let said = refusal(text);
        assert!(said.contains(words), "{text:?}: {said}");
        assert!(said.contains("examples: "), "{said}");
    }
}

fn any_bound() -> impl Strategy<Value = Bound> {
    let ways = prop::sample::select(vec![Way::Publish, Way::EndToEnd]);
    let percentiles = prop::sample::select(Percentile::ALL.to_vec());
    (ways, percentiles, 1..60_000_000_u64)
        .prop_map(|(way, (percentile, _), micros)| bound(way, percentile, micros))
}

fn any_goal() -> impl Strategy<Value = Goal> {
    let load = prop_oneof![
        (1..1_000_000_000_u32).prop_map(|records| Load::RecordsPerSecond(records.into())),
        (1..1_000_000_u32).prop_map(|megabytes| Load::BytesPerSecond(f64::from(megabytes) * 1e6)),
    ];
    prop_oneof![
        (any_bound(), load).prop_map(|(bound, load)| Goal::Latency { bound, load }),
        prop::option::of(any_bound()).prop_map(|bound| Goal::Throughput { bound }),
    ]
}

proptest! {
    #[test]
    fn a_goal_that_is_written_is_read_as_the_same(goal in any_goal()) {
        prop_assert_eq!(goal.to_string().parse::<Goal>(), Ok(goal));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC*") {
        let _ = text.parse::<Goal>();
    }

    #[test]
    fn no_text_like_a_goal_makes_the_reader_panic(words in prop::collection::vec(prop::sample::select(vec![
        "p99", "p99.9", "max", "max throughput", "with", "end to end", "publish", "<", "at", "2ms", "1,5", ".", ",", "100 MB/s", "7records/s", "µs", "e9", "-1",
    ]), 0..9)) {
        if let Ok(goal) = words.join(" ").parse::<Goal>() {
            prop_assert_eq!(goal.to_string().parse::<Goal>(), Ok(goal));
        }
    }
}
