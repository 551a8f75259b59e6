//! A start that fails half way leaves nothing behind that runs.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use gannet_engine::control::Config;
use gannet_engine::control::config::Auto;
use gannet_engine::{Engine, StartError};

fn config(data_dir: &Path) -> Config {
    let mut config = Config {
        data_dir: data_dir.to_owned(),
        ..Config::default()
    };
    config.listen.set_port(0);
    config.shards = Auto::Fixed(2);
    config.runtime.pin = false;
    config.journal.file_bytes = 8 << 20;
    config.storage.disk_reserve_bytes = 1 << 20;
    config
}

/// Threads of this process that an engine has started.
fn threads() -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("gannet-"))
        .collect()
}

#[test]
fn when_one_shard_cannot_start_the_others_have_ended_before_the_error_is_told() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    Engine::start(config(dir.path())).unwrap().stop().unwrap();
    let layout = std::fs::read_dir(dir.path())
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().contains("layout-"))
        .unwrap();
    for entry in std::fs::read_dir(layout.join("shard-1")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    // The first shard is sound, and recovers.
    for _ in 0..2 {
        let refused = Engine::start(config(dir.path()));
        assert!(
            matches!(refused, Err(StartError::Storage(_))),
            "{refused:?}"
        );
        assert_eq!(threads(), Vec::<String>::new());
    }
}
