//! A short soak: half of what saturates a broker, with consumers that come and go. What grows in minutes, the long one shows.

use std::time::Duration;

use gannet_tests::ordeal::Soak;

#[test]
fn nothing_is_lost_doubled_or_reordered_at_half_of_saturation_while_consumers_come_and_go() {
    let soak = Soak {
        saturated: Duration::from_secs(2),
        // Every consumer of the first ones goes meanwhile.
        duration: Soak::STAY_MAX + Duration::from_secs(2),
    };
    // It panics at the first record that is not what and where it should be.
    let report = soak.run();
    assert!(report.visits > Soak::COMERS, "nobody left: {report:?}");
    assert!(
        report.parts.len() > 1,
        "no part after the first: {report:?}"
    );
    for part in &report.parts {
        for latency in [&part.publish_us, &part.end_to_end_us] {
            assert!(latency.count > 0, "nothing was measured: {report:?}");
        }
    }
    assert_eq!(report.beyond(), Vec::<String>::new());
}
