//! What README tells a newcomer to type works as it is written.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use gannet_tests::{data_dir, gannet};

const README: &str = include_str!("../../README.md");

/// The first block of shell commands under a heading.
fn commands_under(heading: &str) -> &'static str {
    README
        .split(heading)
        .nth(1)
        .and_then(|rest| rest.split("```sh\n").nth(1))
        .and_then(|rest| rest.split("```").next())
        .expect("README has commands under its heading")
}

#[test]
fn the_first_session_works_as_it_is_written() {
    let repository = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let dir = data_dir();
    std::fs::copy(
        repository.join("LICENSE-APACHE"),
        dir.path().join("LICENSE-APACHE"),
    )
    .expect("the licence is part of the repository");
    // The session builds the program first; here it is what the tests built.
    let bin = dir.path().join("target/release");
    std::fs::create_dir_all(&bin).expect("an empty directory takes one");
    std::os::unix::fs::symlink(gannet(), bin.join("gannet")).expect("an empty directory takes it");
    let cargo = dir.path().join("cargo");
    std::fs::write(&cargo, "#!/bin/sh\n").expect("an empty directory takes a file");
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755))
        .expect("a file's owner may");

    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("there is a free port")
        .port();
    let path = std::env::var("PATH").unwrap_or_default();
    let script = format!(
        "shopt -s expand_aliases\ntrap 'kill -9 $(jobs -p) 2>/dev/null' EXIT\nset -o pipefail\n{}",
        commands_under("## A first session")
    );
    // Its servers would keep a pipe open: files take what they say.
    let (out, error) = (dir.path().join("out"), dir.path().join("error"));
    let create = |path: &Path| std::fs::File::create(path).expect("a directory takes a file");
    let status = Command::new("timeout")
        .args(["--kill-after=5", "100", "bash", "-c", &script])
        .current_dir(dir.path())
        .env("PATH", format!("{}:{path}", dir.path().display()))
        .env("GANNET_LISTEN", format!("127.0.0.1:{port}"))
        .env("GANNET_SERVER", format!("127.0.0.1:{port}"))
        .stdin(std::process::Stdio::null())
        .stdout(create(&out))
        .stderr(create(&error))
        .status()
        .expect("bash can be started");
    let said = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let (out, error) = (said(&out), said(&error));
    assert!(status.success(), "{status}: {out}\n{error}");
    for wrong in [
        "differ",
        "EOF",
        "gannet: 127.0.0.1",
        " ERROR ",
        "command not found",
    ] {
        assert!(!format!("{out}{error}").contains(wrong), "{out}\n{error}");
    }
    assert!(error.contains("records acknowledged by licence"), "{error}");
    assert!(out.contains("topic       licence"), "{out}");
}

#[test]
fn the_statuses_that_readme_lists_are_those_of_the_programs_help() {
    let help = Command::new(gannet())
        .arg("--help")
        .output()
        .expect("gannet can be started");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let table = README
        .split("## Exit statuses")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("README lists the statuses");
    let listed: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_whitespace().next())
        .filter(|word| word.parse::<u8>().is_ok())
        .collect();
    assert!(listed.len() > 5, "{table}");
    for status in listed {
        assert!(
            help.lines()
                .any(|line| line.split_whitespace().next() == Some(status)),
            "status {status} is not in the help: {help}"
        );
    }
}
