use super::*;
use crate::advice::tests::facts;

#[test]
fn the_table_has_every_measurement() {
    let table = table(&facts());
    for word in [
        "6.18.0",
        "4 usable",
        "0; 1; 2; 3",
        "1 (cores 0-3)",
        "36 (nvme0q1): core 0: 10",
        "may go to 0-3",
        "16.0 GiB",
        "unlimited",
        "available; completions on demand yes",
        "/dev/nvme0n1 at /data, rw,noatime",
        "scheduler none, cache write through",
        "100 us",
        "2000 MB/s",
        "sequential read   3000 MB/s",
        "at a time: 5000 MB/s",
        "priority          nice -10",
        "sockets without threads yes",
        "four at once: 1500 MB/s",
        "not run for 0.09 % of 1.0 s, longest 80 us",
        "stolen            0.00 %",
        "CPU quota         none",
        "80,000",
        "60 us",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
}

#[test]
fn what_cannot_be_read_is_said_to_be_unknown() {
    let facts = Facts {
        nodes: None,
        interrupts: None,
        mount: None,
        queue: None,
        governor: None,
        nice: None,
        ring_features: RingFeatures::default(),
        steadiness: Steadiness::default(),
        ..facts()
    };
    let table = table(&facts);
    for name in [
        "NUMA nodes",
        "stolen",
        "interrupts",
        "mount",
        "device",
        "frequency",
        "priority",
    ] {
        let line = table.lines().find(|line| line.starts_with(name));
        assert!(
            line.is_some_and(|line| line.ends_with("unknown")),
            "{name}: {table}"
        );
    }
    assert!(table.contains("completions on demand unknown"), "{table}");
}
