use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use toml::{Table, Value};

fn from_toml(text: &str) -> Result<Config, ConfigError> {
    Config::from_toml(Path::new("gannet.toml"), text)
}

fn refusal(text: &str) -> String {
    from_toml(text).expect_err("must be refused").to_string()
}

fn field_names(config: &Config) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (name, value) in config.to_table() {
        match value {
            Value::Table(section) => {
                names.extend(section.keys().map(|inner| format!("{name}.{inner}")))
            }
            _ => {
                names.insert(name);
            }
        }
    }
    names
}

#[test]
fn every_field_has_an_entry_and_every_entry_a_field() {
    let documented: BTreeSet<String> = keys().iter().map(|key| key.name.to_owned()).collect();
    assert_eq!(documented.len(), keys().len(), "a key is documented twice");
    assert_eq!(field_names(&Config::default()), documented);
}

#[test]
fn the_documented_default_is_the_real_one() {
    let real = Config::default().to_table();
    for key in keys() {
        let (section, name) = key.section_and_name();
        let text = if section.is_empty() {
            format!("{name} = {}", key.default)
        } else {
            format!("[{section}]\n{name} = {}", key.default)
        };
        // The entry alone is set, so a wrong default of any other key cannot hide it.
        let documented = from_toml(&text).expect(key.name).to_table();
        assert_eq!(documented, real, "{}", key.name);
        assert_eq!(
            from_toml(&text).expect(key.name).sources.of(key.name),
            &Source::File("gannet.toml".into()),
            "{} was not set at all",
            key.name
        );
    }
}

#[test]
fn every_entry_says_what_it_trades_and_bounds() {
    for key in keys() {
        for text in [key.trades, key.bounds] {
            assert!(text.ends_with('.'), "{}: {text}", key.name);
        }
        assert!(!key.unit.is_empty(), "{}", key.name);
    }
}

#[test]
fn the_example_file_parses_back_to_the_defaults_and_names_every_key() {
    let example = example_toml();
    let parsed = from_toml(&example).expect("the example is legal");
    assert_eq!(parsed.to_table(), Config::default().to_table());
    let written: Table = example.parse().expect("TOML");
    let leaves: usize = written
        .values()
        .map(|value| value.as_table().map_or(1, Table::len))
        .sum();
    assert_eq!(leaves, keys().len());
}

#[test]
fn every_number_of_the_defaults_is_within_its_range() {
    Config::default().check().expect("the defaults go together");
}

#[test]
fn every_number_refuses_what_lies_outside_its_range() {
    for key in keys() {
        let Some(range) = &key.range else { continue };
        let (section, name) = key.section_and_name();
        for value in [range.start().checked_sub(1), range.end().checked_add(1)]
            .into_iter()
            .flatten()
        {
            let text = format!("[{section}]\n{name} = {value}");
            let text = if section.is_empty() {
                format!("{name} = {value}")
            } else {
                text
            };
            let sentence = refusal(&text);
            assert!(sentence.contains(key.name), "{text}: {sentence}");
            assert!(sentence.contains("gannet.toml"), "{text}: {sentence}");
        }
    }
}

#[test]
fn an_unknown_key_is_refused_and_the_closest_known_one_named() {
    assert_eq!(
        refusal("[journal]\nfile_byte = 1"),
        "the file gannet.toml sets `journal.file_byte`, which is not a configuration key; the closest one is `journal.file_bytes`"
    );
    let misplaced = refusal("segment_bytes_max = 1");
    assert!(
        misplaced.ends_with("the closest one is `storage.segment_bytes_max`"),
        "{misplaced}"
    );
    let far = refusal("[zookeeper]\nensemble = 1");
    assert!(far.contains("--help-config"), "{far}");
}

#[test]
fn a_section_in_place_of_a_value_is_refused() {
    assert!(refusal("journal = 3").contains("`journal`, which is not"));
    assert!(refusal("[listen]\nport = 1").contains("`listen.port`"));
}

#[test]
fn a_file_that_is_not_toml_names_its_line() {
    let sentence = refusal("shards = 2\n[journal\n");
    assert!(
        sentence.starts_with("gannet.toml at line 2 is not valid TOML"),
        "{sentence}"
    );
}

#[test]
fn later_layers_win_and_each_value_knows_its_source() {
    let mut layers = Layers::default();
    layers
        .file(
            Path::new("gannet.toml"),
            "shards = 2\nlisten = \"127.0.0.1:1\"\n[journal]\nfile_bytes = \"8 MiB\"\n",
        )
        .expect("file");
    layers
        .environment([
            ("GANNET_SHARDS".to_owned(), "3".to_owned()),
            ("GANNET_LISTEN".to_owned(), "127.0.0.1:2".to_owned()),
            ("HOME".to_owned(), "/".to_owned()),
        ])
        .expect("environment");
    layers.flag("--shards", "shards", "4").expect("flag");
    let config = layers.build().expect("legal");
    assert_eq!(config.shards, Auto::Fixed(4));
    assert_eq!(config.listen.port(), 2);
    assert_eq!(config.journal.file_bytes, 8 << 20);
    assert_eq!(
        config.sources.of("shards"),
        &Source::Flag("--shards".to_owned())
    );
    assert_eq!(
        config.sources.of("listen"),
        &Source::Environment("GANNET_LISTEN".to_owned())
    );
    assert_eq!(
        config.sources.of("journal.file_bytes"),
        &Source::File("gannet.toml".into())
    );
    assert_eq!(config.sources.of("topics.durability"), &Source::Default);
}

#[test]
fn an_unknown_variable_of_ours_is_refused_and_those_of_kubernetes_are_not() {
    let set = |name: &str| Layers::default().environment([(name.to_owned(), "1".to_owned())]);
    let sentence = set("GANNET_JOURNAL_FILE_BYTE")
        .expect_err("unknown")
        .to_string();
    assert!(
        sentence.ends_with("the closest one is `GANNET_JOURNAL_FILE_BYTES`"),
        "{sentence}"
    );
    for name in [
        "GANNET_PORT_7470_TCP",
        "GANNET_SERVICE_HOST",
        "GANNET_SERVER",
    ] {
        set(name).expect(name);
    }
}

#[test]
fn the_environment_can_set_every_key_to_its_default() {
    for key in keys() {
        let name = format!("GANNET_{}", key.name.replace('.', "_").to_uppercase());
        let value = key.default.trim_matches('"').to_owned();
        let mut layers = Layers::default();
        layers.environment([(name, value)]).expect(key.name);
        let config = layers.build().expect(key.name);
        assert_eq!(config.to_table(), Config::default().to_table());
        assert_ne!(config.sources.of(key.name), &Source::Default);
    }
}

#[test]
fn a_value_of_the_wrong_kind_names_its_key_and_source() {
    let sentence = refusal("[journal]\nfile_bytes = true");
    assert!(
        sentence.starts_with("`journal.file_bytes`, set by the file gannet.toml, cannot be true:"),
        "{sentence}"
    );
    assert!(sentence.contains("a size such as"), "{sentence}");
    let sentence = refusal("[topics]\ndurability = \"maybe\"");
    assert!(
        sentence.contains("accepted") && sentence.contains("durable"),
        "{sentence}"
    );
}

#[test]
fn relations_are_refused_with_both_values_and_a_remedy() {
    let sentence = refusal("[journal]\nfile_bytes = \"4 MiB\"\ncommit_bytes_max = \"2 MiB\"");
    assert_eq!(
        sentence,
        "`journal.commit_bytes_max` is 2097152 (the file gannet.toml) but can be at most a quarter of `journal.file_bytes`, \
         which is 4194304 (the file gannet.toml): lower the one to 1048576 or raise the other"
    );
    for text in [
        "[network]\nbatch_bytes_max = \"2 MiB\"",
        "[topics]\npartitions_max = 100000",
        "[network]\nconnection_buffer_bytes_max = \"1 MiB\"",
        "[network]\ndecompressed_bytes_max = \"512 KiB\"",
        "[topics]\npartitions_default = 20000",
        "[storage]\nown_segment_bytes_min = \"1 MiB\"",
        "[storage]\ndirect_bytes_min = \"2 MiB\"",
        "[journal]\ncommit_bytes_max = \"256 KiB\"",
        "[storage]\nsegment_bytes_max = \"1 MiB\"",
    ] {
        assert!(refusal(text).contains("can be at most"), "{text}");
    }
}

#[test]
fn lengths_of_disk_writes_are_whole_blocks() {
    let sentence = refusal("[storage]\nflush_write_bytes = 5000");
    assert!(sentence.contains("the next one is 8192"), "{sentence}");
}

#[test]
fn cores_are_a_list_a_text_or_a_number_and_named_once() {
    let cores = |text: &str| from_toml(text).map(|config| config.runtime.cores);
    assert_eq!(
        cores("[runtime]\ncores = [2, 0]").expect("list"),
        Auto::Fixed(vec![2, 0])
    );
    assert_eq!(
        cores("[runtime]\ncores = \"0,2-4\"").expect("text"),
        Auto::Fixed(vec![0, 2, 3, 4])
    );
    assert_eq!(
        cores("[runtime]\ncores = 3").expect("number"),
        Auto::Fixed(vec![3])
    );
    assert!(refusal("[runtime]\ncores = [1, 1]").contains("named twice"));
    assert!(refusal("[runtime]\ncores = []").contains("no core"));
    assert!(refusal("[runtime]\ncores = \"4-2\"").contains("not a list of cores"));
    assert!(refusal("shards = 3\n[runtime]\ncores = [0, 1]").contains("only 2 cores"));
}

#[test]
fn sizes_and_durations_are_read_with_their_units() {
    for (text, bytes) in [
        ("4096", 4096),
        ("64 MiB", 64 << 20),
        ("64MiB", 64 << 20),
        ("1 GB", 1_000_000_000),
        ("1_000", 1000),
    ] {
        assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
    }
    for (text, ms) in [
        ("10 ms", 10),
        ("7 days", 604_800_000),
        ("7d", 604_800_000),
        ("250", 250),
        ("2 h", 7_200_000),
    ] {
        assert_eq!(parse_milliseconds(text), Ok(ms), "{text}");
    }
    for text in [
        "",
        "MiB",
        "64 mib",
        "1.5 GiB",
        "-1 KiB",
        "9999999 TiB",
        "18446744073709551615",
    ] {
        assert!(parse_bytes(text).is_err(), "{text}");
    }
    for text in ["", "days", "1 fortnight", "-1", "9223372036854775807 days"] {
        assert!(parse_milliseconds(text).is_err(), "{text}");
    }
}

#[test]
fn no_limit_is_written_as_minus_one_or_none() {
    for text in ["-1", "\"none\"", "\"-1\""] {
        let config = from_toml(&format!(
            "[topics]\nretention_ms = {text}\nretention_bytes = {text}"
        ))
        .expect(text);
        assert_eq!(
            (config.topics.retention_ms, config.topics.retention_bytes),
            (-1, -1)
        );
    }
    assert!(refusal("[topics]\nretention_ms = 0").contains("keep nothing"));
}

#[test]
fn a_written_configuration_reads_back_the_same() {
    let mut config = Config {
        shards: Auto::Fixed(3),
        ..Config::default()
    };
    config.runtime.cores = Auto::Fixed(vec![0, 1, 2]);
    config.storage.unflushed_bytes_max = Auto::Fixed(64 << 20);
    config.topics.durability = Durability::Accepted;
    let text = toml::to_string(&config).expect("TOML");
    assert_eq!(
        from_toml(&text).expect("legal").to_table(),
        config.to_table()
    );
}

#[test]
fn a_name_to_listen_on_is_refused_with_what_can_be_written() {
    let refusal = refusal("listen = \"localhost:7470\"");
    for words in ["`listen`", "127.0.0.1:7470", "not looked up"] {
        assert!(refusal.contains(words), "{refusal}");
    }
}

#[test]
fn a_number_below_its_range_is_refused_with_the_least() {
    let refusal = refusal("shards = 0");
    assert!(refusal.contains("the least is 1 (cores)"), "{refusal}");
}
