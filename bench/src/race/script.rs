//! The peers' scripts in `bench/peers`: installing, starting and stopping a broker that is not ours.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gannet_loadgen::broker::{RemovedWhenInterrupted, kill_group};

use super::command::{self, Ran};
use super::entrant::{Entrant, Peer};
use super::process_tree::{Usage, usage_of_tree};

/// Building or downloading on a slow line.
const INSTALL_MAX: Duration = Duration::from_secs(1800);
/// Beyond what the scripts themselves wait.
const START_MAX: Duration = Duration::from_secs(300);
const STOP_MAX: Duration = Duration::from_secs(180);
const ASK_MAX: Duration = Duration::from_secs(30);

/// One peer's script.
#[derive(Clone, Debug)]
pub(super) struct PeerScript {
    peer: Peer,
    program: PathBuf,
    /// Where it is installed; the script's own place without.
    installed_in: Option<PathBuf>,
    removed: RemovedWhenInterrupted,
}

impl PeerScript {
    pub(super) fn new(
        peer: Peer,
        peers_dir: &Path,
        installed_in: Option<&Path>,
        removed: &RemovedWhenInterrupted,
    ) -> Self {
        Self {
            peer,
            program: peers_dir.join(peer.slug()).join("peer.sh"),
            installed_in: installed_in.map(Path::to_owned),
            removed: removed.clone(),
        }
    }

    /// Installs what is missing.
    ///
    /// # Errors
    /// The script's last words, as with all of these.
    pub(super) fn install(&self) -> Result<(), String> {
        self.call(&["install"], INSTALL_MAX).map(|_| ())
    }

    /// Its name and version.
    pub(super) fn version(&self) -> Result<String, String> {
        let ran = self.call(&["version"], ASK_MAX)?;
        match ran.said.lines().next() {
            Some(line) => Ok(line.trim().to_owned()),
            None => Err("it does not say its version".to_owned()),
        }
    }

    /// What differs from its defaults: a line each.
    pub(super) fn settings(&self, entrant: Entrant) -> Result<Vec<String>, String> {
        let ran = self.call(&["settings", entrant.mode_name()], ASK_MAX)?;
        Ok(ran.said.lines().map(str::to_owned).collect())
    }

    /// Starts it on a new directory.
    pub(super) fn start(&self, entrant: Entrant, directory: &Path) -> Result<RunningPeer, String> {
        let shown = directory.to_string_lossy();
        let ran = self.call(&["start", &shown, entrant.mode_name()], START_MAX)?;
        let group = ran.group;
        self.removed.add_group(group);
        let pid_file = directory.join(format!("{}.pid", self.peer.slug()));
        let pid = std::fs::read_to_string(pid_file)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let address = ran.said.lines().next().map(|line| line.trim().to_owned());
        let running = RunningPeer {
            script: self.clone(),
            directory: directory.to_owned(),
            address: address.unwrap_or_default(),
            pid: pid.unwrap_or_default(),
            group,
        };
        match running.usage() {
            Ok(_) => Ok(running),
            // It is dropped, and so ends.
            Err(error) => Err(format!("it does not run: {error}")),
        }
    }

    fn call(&self, arguments: &[&str], duration_max: Duration) -> Result<Ran, String> {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        if let Some(installed_in) = &self.installed_in {
            command.env("GANNET_PEERS_DIR", installed_in);
        }
        command::run(command, duration_max, &self.removed, || {})?.succeeded()
    }
}

/// A peer that serves. It ends with this value.
#[derive(Debug)]
pub(super) struct RunningPeer {
    script: PeerScript,
    directory: PathBuf,
    address: String,
    pid: u32,
    /// 0 once it was stopped.
    group: u32,
}

impl RunningPeer {
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// What it has used, with the processes that it started.
    pub(super) fn usage(&self) -> std::io::Result<Usage> {
        usage_of_tree(self.pid)
    }

    /// Runs its own load generator; gives what it said.
    pub(super) fn tool(&self, call: &[String], duration_max: Duration) -> Result<String, String> {
        let directory = self.directory.to_string_lossy();
        let mut arguments = vec!["tool", &directory];
        arguments.extend(call.iter().map(String::as_str));
        self.script
            .call(&arguments, duration_max)
            .map(|ran| ran.said)
    }

    /// Stops it cleanly.
    pub(super) fn stop(mut self) -> Result<(), String> {
        let shown = self.directory.to_string_lossy();
        self.script.call(&["stop", &shown], STOP_MAX)?;
        // Nobody is left in it, and its number may become another's.
        self.script.removed.remove_group(self.group);
        self.group = 0;
        Ok(())
    }
}

impl Drop for RunningPeer {
    fn drop(&mut self) {
        if self.group != 0 {
            kill_group(self.group);
            self.script.removed.remove_group(self.group);
        }
    }
}
