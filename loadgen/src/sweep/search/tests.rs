use proptest::prelude::*;

use super::*;

const GOAL: Goal = Goal {
    from: 1_000,
    to: RATE_MAX,
    factor: 2.0,
    kept_up_min: 0.97,
    p99_times: 10.0,
    precision: 0.05,
    tries: 2,
};

/// A broker that reaches so much and no more, and whose latency grows with the queue in front of it.
fn broker(capacity: f64) -> impl FnMut(u64) -> Load {
    move |offered| {
        let busy = (offered as f64 / capacity).min(0.999_9);
        Load {
            offered,
            achieved: (offered as f64).min(capacity),
            p99_us: 500.0 / (1.0 - busy),
        }
    }
}

/// The rates it tried, and the end.
fn sweep(goal: Goal, mut broker: impl FnMut(u64) -> Load) -> (Search, Vec<u64>, End) {
    let mut search = Search::new(goal);
    let mut tried = Vec::new();
    loop {
        match search.next() {
            Next::Try(rate) => {
                assert!(tried.len() < 200, "it goes on without end: {tried:?}");
                tried.push(rate);
                search.take(broker(rate));
            }
            Next::End(end) => return (search, tried, end),
        }
    }
}

#[test]
fn rates_rise_by_the_factor_until_one_is_too_high_and_then_close_in_on_the_knee() {
    let (search, tried, end) = sweep(GOAL, broker(20_000.0));
    assert_eq!(end, End::Found);
    assert_eq!(tried[..6], [1_000, 2_000, 4_000, 8_000, 16_000, 32_000]);
    // With ten times the low latency at 90.5 % of the capacity.
    let (low, high) = (search.kept_up().unwrap(), search.too_high().unwrap());
    assert!(
        low <= 18_100 && 18_100 <= high && high <= low * 21 / 20 + 1,
        "{low} to {high}"
    );
}

#[test]
fn a_rate_fails_twice_before_it_counts() {
    let mut hiccups = 1;
    let mut steady = broker(1e12);
    let goal = Goal { to: 16_000, ..GOAL };
    let (search, tried, end) = sweep(goal, |rate| {
        let load = steady(rate);
        if rate == 4_000 && hiccups > 0 {
            hiccups -= 1;
            return Load {
                p99_us: 1e6,
                ..load
            };
        }
        load
    });
    assert_eq!(end, End::ReachedHighest);
    assert_eq!(tried, [1_000, 2_000, 4_000, 4_000, 8_000, 16_000]);
    assert_eq!((search.kept_up(), search.too_high()), (Some(16_000), None));
}

#[test]
fn a_rate_that_is_reached_slowly_is_told_from_one_that_is_not_reached() {
    let mut search = Search::new(GOAL);
    let load = |offered, achieved, p99_us| Load {
        offered,
        achieved,
        p99_us,
    };
    search.take(load(1_000, 1_000.0, 500.0));
    assert_eq!(
        search.verdict(&load(2_000, 1_950.0, 4_900.0)),
        Verdict::KeptUp
    );
    assert_eq!(
        search.verdict(&load(2_000, 1_950.0, 5_100.0)),
        Verdict::Slow
    );
    assert_eq!(
        search.verdict(&load(2_000, 1_930.0, 400.0)),
        Verdict::FellBehind
    );
}

#[test]
fn a_first_rate_that_is_too_high_is_gone_below() {
    let goal = Goal {
        from: 100_000,
        ..GOAL
    };
    let (search, tried, end) = sweep(goal, broker(20_000.0));
    assert_eq!(end, End::Found);
    assert_eq!(tried[..4], [100_000, 100_000, 50_000, 50_000]);
    assert!(search.kept_up().unwrap() < 20_000);
}

#[test]
fn a_broker_that_does_nothing_ends_the_search() {
    let (search, _, end) = sweep(GOAL, broker(0.0));
    assert_eq!((end, search.kept_up()), (End::NothingKeptUp, None));
}

#[test]
fn a_rate_that_is_kept_up_with_above_one_that_is_not_does_not_count() {
    let mut search = Search::new(Goal { tries: 1, ..GOAL });
    let load = |offered, achieved| Load {
        offered,
        achieved,
        p99_us: 1.0,
    };
    for (offered, achieved) in [(1_000, 1_000.0), (2_000, 100.0), (4_000, 4_000.0)] {
        search.take(load(offered, achieved));
    }
    assert_eq!(
        (search.kept_up(), search.too_high()),
        (Some(1_000), Some(2_000))
    );
}

proptest! {
    #[test]
    fn the_knee_of_any_broker_is_found_within_few_steps(
        capacity in 10.0..1e8_f64,
        from in 1..1_000_000_u64,
        factor in 1.2..10.0_f64,
    ) {
        let goal = Goal { from, factor, ..GOAL };
        let (search, tried, end) = sweep(goal, broker(capacity));
        prop_assert_eq!(end, End::Found);
        let (low, high) = (search.kept_up().unwrap(), search.too_high().unwrap());
        prop_assert!(low < high);
        prop_assert!(high - low <= 1 || high as f64 <= low as f64 * 1.05 + 1.0, "{} to {}", low, high);
        // What was too high really was, and what was kept up with was reached.
        prop_assert!(low as f64 * 0.97 <= capacity);
        prop_assert!(tried.len() <= 160, "{} steps", tried.len());
    }

    #[test]
    fn no_rate_is_tried_more_often_than_asked_nor_beyond_the_highest(capacity in 10.0..1e6_f64, to in 1_000..1_000_000_u64) {
        let goal = Goal { to, ..GOAL };
        let (_, mut tried, _) = sweep(goal, broker(capacity));
        prop_assert!(tried.iter().all(|rate| (1..=to).contains(rate)), "{:?}", tried);
        tried.sort_unstable();
        prop_assert!(tried.windows(3).all(|three| three[0] != three[2]), "{:?}", tried);
    }
}
