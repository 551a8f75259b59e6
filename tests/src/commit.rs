//! Which commit a program was made from, so that a finding can be shown again.

use std::path::Path;
use std::process::{Command, Stdio};

/// What stands where the commit cannot be told: without a clone, as in a tarball, or away from it.
const UNKNOWN: &str = "unknown commit";

/// The commit of this program: its short name, with `-dirty` where tracked files differ from it.
///
/// The clone is asked while the program runs: a name that is compiled in would have everything made again at each commit. So the sources are looked at as well,
/// whether they are still the ones that the program was made from.
#[must_use]
pub fn commit() -> String {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let fresh = std::env::current_exe()
        .ok()
        .and_then(|program| is_newer_than_its_sources(&program));
    match (commit_of(workspace), fresh) {
        (Some(commit), Some(true)) => format!("commit {commit}"),
        (Some(_), Some(false)) => format!("{UNKNOWN}, older than the sources"),
        (None, _) | (_, None) => UNKNOWN.to_owned(),
    }
}

/// `None` where cargo has left no list of the sources beside the program.
fn is_newer_than_its_sources(program: &Path) -> Option<bool> {
    let made = program.metadata().ok()?.modified().ok()?;
    let list = std::fs::read_to_string(program.with_extension("d")).ok()?;
    let (_, sources) = list.split_once(": ")?;
    // A space that belongs to a name is escaped.
    let newer = sources
        .replace("\\ ", "\0")
        .split_whitespace()
        .all(|source| {
            let changed = Path::new(&source.replace('\0', " "))
                .metadata()
                .and_then(|metadata| metadata.modified());
            changed.is_ok_and(|changed| changed <= made)
        });
    Some(newer)
}

/// The commit that this folder is a clone of; `None` where it is none, though it may lie within another one.
fn commit_of(clone: &Path) -> Option<String> {
    let top = git(clone, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != clone.canonicalize().ok()? {
        return None;
    }
    let commit = git(clone, &["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(clone, &["status", "--porcelain", "--untracked-files=no"])?;
    let dirty = if changed.is_empty() { "" } else { "-dirty" };
    Some(format!("{commit}{dirty}"))
}

/// What git answers, without the end of its line; `None` when it refuses, or is not there.
fn git(clone: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // In a hook of git these would lead elsewhere.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    let answered = command
        .arg("-C")
        .arg(clone)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let answer = String::from_utf8(answered.stdout).ok()?;
    answered
        .status
        .success()
        .then(|| answer.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;
    use crate::{data_dir, skipped};

    #[test]
    fn a_folder_that_is_no_clone_has_no_commit_though_it_lies_in_one() {
        let dir = data_dir();
        assert_eq!(commit_of(dir.path()), None);
    }

    #[test]
    fn a_program_is_older_than_a_source_that_changed_since_or_is_gone() {
        let dir = data_dir();
        let [program, source, list] =
            ["program", "a source.rs", "program.d"].map(|name| dir.path().join(name));
        std::fs::write(&source, "").expect("an empty directory takes a file");
        std::fs::write(&program, "").expect("the directory takes a file");
        assert_eq!(is_newer_than_its_sources(&program), None);
        let named = source.display().to_string().replace(' ', "\\ ");
        std::fs::write(&list, format!("{}: {named}\n", program.display()))
            .expect("the directory takes a file");
        assert_eq!(is_newer_than_its_sources(&program), Some(true));
        let later = program
            .metadata()
            .and_then(|metadata| metadata.modified())
            .expect("a file has a time")
            + Duration::from_secs(1);
        let changed = File::options()
            .write(true)
            .open(&source)
            .and_then(|file| file.set_modified(later));
        changed.expect("a file's time can be set");
        assert_eq!(is_newer_than_its_sources(&program), Some(false));
        std::fs::remove_file(&source).expect("it is there");
        assert_eq!(is_newer_than_its_sources(&program), Some(false));
    }

    #[test]
    fn a_clone_has_its_commit_and_says_when_a_file_differs_from_it() {
        let dir = data_dir();
        let clone = dir.path();
        let file = clone.join("file");
        std::fs::write(&file, "one").expect("an empty directory takes a file");
        if git(clone, &["init", "--quiet"]).is_none() {
            return skipped("there is no git");
        }
        assert_eq!(commit_of(clone), None, "nothing is committed");
        let who = [
            "-c",
            "user.name=somebody",
            "-c",
            "user.email=nobody@nowhere",
        ];
        git(clone, &["add", "file"]).expect("git takes a file");
        let commit = ["commit", "--quiet", "--no-gpg-sign", "--message", "one"];
        git(clone, &[&who[..], &commit[..]].concat()).expect("git commits");
        let clean = commit_of(clone).expect("it has a commit");
        assert_eq!(clean.len(), 12, "{clean}");
        std::fs::write(clone.join("other"), "new").expect("the directory takes a file");
        assert_eq!(commit_of(clone), Some(clean.clone()));
        std::fs::write(&file, "two").expect("a file can be changed");
        assert_eq!(commit_of(clone), Some(format!("{clean}-dirty")));
    }
}
