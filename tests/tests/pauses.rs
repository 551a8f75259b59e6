//! A broker that is killed, or stands still for a while, under load from several producers and consumers.

use std::time::Duration;

use gannet_tests::ordeal::Pauses;

#[test]
fn kills_and_pauses_under_load_lose_double_and_reorder_nothing_and_change_nothing_delivered() {
    let pauses = Pauses {
        // Two of three are kills.
        rounds: 15,
        pause: Duration::from_secs(1),
        seed: 1,
    };
    let report = pauses.run(|_| {});
    assert_eq!((report.kills, report.pauses), (10, 10));
    assert!(report.delivered > 0, "{report:?}");
}
