//! Clients that never read, that read or send a byte a second, that are gone without a word, that are too many. What they cost the others is for the long run to
//! say; here it is that the others lose nothing by it, and that there is a figure for each.

use std::time::Duration;

use gannet_tests::Cable;
use gannet_tests::ordeal::{Disturbed, Neighbours};

#[test]
fn the_neighbours_of_bad_clients_lose_nothing_and_every_kind_has_its_three_figures() {
    let neighbours = Neighbours {
        duration: Duration::from_millis(800),
    };
    let mut kinds: Vec<Disturbed> = Vec::new();
    // It panics at the first record of a neighbour that is not what and where it should be.
    neighbours.run(|disturbed| kinds.push(disturbed.clone()));
    let mut expected = vec![
        "16 subscribers that never read",
        "16 subscribers that read a byte a second",
        "64 publishers of a byte a second",
        "64 subscribers gone without a word",
        "100 connections to 64 descriptors",
    ];
    if Cable::new().is_none() {
        expected.remove(3);
    }
    let who: Vec<&str> = kinds.iter().map(|kind| kind.who).collect();
    assert_eq!(who, expected);
    for kind in &kinds {
        let figures = kind.publish_p99_us.iter().chain(&kind.end_to_end_p99_us);
        assert!(figures.clone().all(|us| *us > 0.0), "{kind:?}");
    }
}
