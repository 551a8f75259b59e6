//! Where a run is made, and what it may use there: for who reads its figures.

use std::fmt;
use std::path::Path;

use rustix::process::{Resource, getrlimit, getuid};

use crate::filesystem::Filesystem;
use crate::report::Machine;
use crate::units::bytes;

impl Machine {
    /// This machine; with the directory in which the broker's data goes, unless that is somewhere else.
    #[must_use]
    pub fn here(data: Option<(&Path, &Filesystem)>) -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            filesystem: data.map(|(_, filesystem)| filesystem.to_string()),
            journal: data.and_then(|(directory, filesystem)| filesystem.has_journal(directory)),
            uid: Some(getuid().as_raw()),
            // The broker raises its own to this.
            memlock_bytes: getrlimit(Resource::Memlock).maximum,
        }
    }

    /// The filesystem, and whether it has a journal; empty for a broker that was not started by this run.
    #[must_use]
    pub fn disk(&self) -> String {
        let filesystem = self.filesystem.as_deref().unwrap_or_default();
        match self.journal {
            Some(true) => format!("{filesystem} with a journal"),
            Some(false) => format!("{filesystem} without a journal"),
            None => filesystem.to_owned(),
        }
    }

    /// How much memory may be locked; empty in reports of before it was kept.
    #[must_use]
    pub fn memlock(&self) -> String {
        match (self.memlock_bytes, self.uid) {
            (Some(memlock_bytes), _) => bytes(memlock_bytes),
            (None, Some(_)) => "unlimited".to_owned(),
            (None, None) => String::new(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} core(s), {}", self.cores, self.kernel)?;
        if self.filesystem.is_some() {
            write!(f, ", {}", self.disk())?;
        }
        if let Some(uid) = self.uid {
            write!(f, ", uid {uid}, limit of locked memory {}", self.memlock())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_says_who_runs_there_and_on_what() {
        let mut machine = Machine {
            cores: 2,
            kernel: "6.18".to_owned(),
            filesystem: Some("ext4".to_owned()),
            journal: Some(true),
            uid: Some(65_534),
            memlock_bytes: Some(8 << 20),
        };
        assert_eq!(
            machine.to_string(),
            "2 core(s), 6.18, ext4 with a journal, uid 65534, limit of locked memory 8.0 MiB"
        );
        machine.journal = Some(false);
        machine.memlock_bytes = None;
        assert_eq!(
            machine.to_string(),
            "2 core(s), 6.18, ext4 without a journal, uid 65534, limit of locked memory unlimited"
        );
    }

    #[test]
    fn a_report_of_before_users_were_kept_says_nothing_of_them() {
        let old = r#"{"cores": 2, "kernel": "6.18", "filesystem": "ext4"}"#;
        let machine: Machine = serde_json::from_str(old).unwrap();
        assert_eq!(machine.to_string(), "2 core(s), 6.18, ext4");
        assert_eq!(machine.memlock(), "");
    }

    #[test]
    fn this_machine_has_a_user_and_without_a_directory_no_filesystem() {
        let machine = Machine::here(None);
        assert_eq!(machine.uid, Some(getuid().as_raw()));
        assert_eq!((machine.filesystem, machine.journal), (None, None));
    }
}
