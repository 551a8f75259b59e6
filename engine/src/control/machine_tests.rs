use super::*;
use crate::limits::{GIB, MIB};

fn machine() -> Machine {
    Machine {
        cores: vec![0, 1, 2, 3],
        memory_bytes: 4 * GIB,
        descriptors_max: 1 << 20,
    }
}

#[test]
fn automatic_budgets_are_an_eighth_of_memory_split_over_one_shard_a_core() {
    let budgets = Config::default().budgets(&machine()).expect("fits");
    assert_eq!(budgets.shards, 4);
    assert_eq!(budgets.unflushed_bytes_max, 512 * MIB);
    assert_eq!(budgets.shard_unflushed_bytes_max, 128 * MIB);
    assert_eq!(budgets.flush_bytes, 32 * MIB);
    assert_eq!(budgets.notes, Vec::<String>::new());
}

#[test]
fn automatic_unflushed_data_stays_at_a_gibibyte_on_a_large_machine() {
    let large = Machine {
        memory_bytes: 512 * GIB,
        ..machine()
    };
    assert_eq!(
        Config::default()
            .budgets(&large)
            .expect("fits")
            .unflushed_bytes_max,
        GIB
    );
}

#[test]
fn more_pinned_shards_than_cores_are_refused_and_unpinned_ones_are_not() {
    let mut config = Config {
        shards: Auto::Fixed(5),
        ..Config::default()
    };
    let sentence = config
        .budgets(&machine())
        .expect_err("too many")
        .to_string();
    assert!(sentence.contains("only 4 cores"), "{sentence}");
    config.runtime.pin = false;
    assert_eq!(config.budgets(&machine()).expect("fits").shards, 5);
}

#[test]
fn a_core_that_the_process_may_not_use_is_refused() {
    let mut config = Config::default();
    config.runtime.cores = Auto::Fixed(vec![1, 9]);
    let sentence = config
        .budgets(&machine())
        .expect_err("no core 9")
        .to_string();
    assert!(sentence.contains("core 9"), "{sentence}");
}

#[test]
fn unflushed_data_too_small_for_the_shards_is_refused_with_what_they_need() {
    let mut config = Config::default();
    config.storage.unflushed_bytes_max = Auto::Fixed(4 * MIB);
    let sentence = config
        .budgets(&machine())
        .expect_err("too small")
        .to_string();
    assert!(
        sentence.contains("4 shards need at least 8388608"),
        "{sentence}"
    );
}

#[test]
fn a_flush_that_starts_above_half_of_the_budget_is_refused() {
    let mut config = Config::default();
    config.storage.flush_bytes = Auto::Fixed(65 * MIB);
    let sentence = config
        .budgets(&machine())
        .expect_err("too late")
        .to_string();
    assert!(sentence.contains("at most half"), "{sentence}");
}

#[test]
fn few_descriptors_narrow_the_broker_with_a_note() {
    let narrow = Machine {
        descriptors_max: 64,
        cores: vec![0, 1],
        ..machine()
    };
    let config = Config {
        shards: Auto::Fixed(2),
        ..Config::default()
    };
    let budgets = config.budgets(&narrow).expect("still starts");
    // What is held back for the log is nobody else's.
    assert_eq!(budgets.connections_max, 4);
    assert_eq!(budgets.shard_open_files_max, 2);
    assert_eq!(budgets.notes.len(), 1);
}

#[test]
fn few_connections_leave_their_descriptors_to_open_segments() {
    let mut config = Config::default();
    config.network.connections_max = 10;
    let narrow = Machine {
        descriptors_max: 1_000,
        cores: vec![0],
        ..machine()
    };
    let budgets = config.budgets(&narrow).expect("starts");
    assert_eq!(budgets.connections_max, 10);
    assert_eq!(budgets.shard_open_files_max, 1_000 - 32 - 8 - 10);
}

#[test]
fn memory_is_read_from_the_kernels_table() {
    assert_eq!(
        meminfo_total_bytes("MemTotal:       24000000 kB\nMemFree: 1 kB\n"),
        Some(24_000_000 * 1024)
    );
    assert_eq!(meminfo_total_bytes("MemFree: 1 kB\n"), None);
}

#[test]
fn this_machine_has_a_core_memory_and_descriptors() {
    let machine = Machine::detect();
    assert!(!machine.cores.is_empty());
    assert!(machine.memory_bytes > 0);
    assert!(machine.descriptors_max > 0);
}

#[test]
fn the_descriptor_limit_is_raised_as_far_as_it_goes() {
    raise_descriptor_limit();
    let limit = getrlimit(Resource::Nofile);
    assert_eq!(limit.current, limit.maximum);
}

#[test]
fn two_or_three_cores_leave_one_to_the_clients() {
    let shards_on: Vec<u16> = [1, 2, 3, 4, 300].map(auto_shards).to_vec();
    assert_eq!(shards_on, [1, 1, 2, 4, 256]);
}
