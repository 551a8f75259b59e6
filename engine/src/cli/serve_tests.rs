use clap::Parser;

use super::*;
use crate::control::config::{Auto, Source};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    serve: ServeArgs,
}

fn loaded(flags: &[&str]) -> Result<Config, Failure> {
    let line = Line::try_parse_from(["gannet"].iter().chain(flags)).expect("a legal command line");
    load(&line.serve)
}

#[test]
fn flags_set_their_keys_and_are_named_as_the_source() {
    let config = loaded(&[
        "--data-dir",
        "/d",
        "--listen",
        "127.0.0.1:9",
        "--shards",
        "auto",
    ])
    .expect("legal");
    assert_eq!(config.data_dir, std::path::Path::new("/d"));
    assert_eq!(config.listen.port(), 9);
    assert_eq!(config.shards, Auto::Auto);
    assert_eq!(
        config.sources.of("data_dir"),
        &Source::Flag("--data-dir".to_owned())
    );
}

#[test]
fn any_key_can_be_set_and_a_flag_of_its_own_wins() {
    let config = loaded(&[
        "--set",
        "journal.file_bytes=8 MiB",
        "--set",
        "shards=2",
        "--shards",
        "3",
    ])
    .expect("legal");
    assert_eq!(config.journal.file_bytes, 8 << 20);
    assert_eq!(config.shards, Auto::Fixed(3));
}

#[test]
fn an_operator_can_say_that_the_wall_clock_is_right() {
    assert!(!loaded(&[]).expect("legal").storage.trust_wall_clock);
    let config = loaded(&["--trust-wall-clock"]).expect("legal");
    assert!(config.storage.trust_wall_clock);
}

#[test]
fn a_number_for_a_directory_is_its_name() {
    let config = loaded(&["--data-dir", "7"]).expect("legal");
    assert_eq!(config.data_dir, std::path::Path::new("7"));
}

#[test]
fn a_setting_without_a_value_is_a_wrong_command_line() {
    assert_eq!(
        loaded(&["--set", "shards"]).expect_err("no value").status,
        ExitStatus::Usage
    );
}

#[test]
fn a_wrong_flag_is_named_in_the_refusal() {
    let failure = loaded(&["--shards", "many"]).expect_err("no number");
    assert_eq!(failure.status, ExitStatus::Configuration);
    assert!(failure.sentence.contains("the flag --shards"), "{failure}");
    let failure = loaded(&["--set", "jurnal.file_bytes=1"]).expect_err("no key");
    assert!(
        failure.sentence.contains("`journal.file_bytes`"),
        "{failure}"
    );
}
