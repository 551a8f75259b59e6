//! Running other programs, with the processes that they start in turn, for a bounded time.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gannet_loadgen::broker::{RemovedWhenInterrupted, kill_group};

const LOOK: Duration = Duration::from_millis(20);
/// Its output ends so long after it, or it left something running.
const OUTPUT_MAX: Duration = Duration::from_secs(5);
/// Most that is kept of what a program says.
const SAID_BYTES_MAX: u64 = 4 << 20;

/// What a program said and how it ended.
#[derive(Debug)]
pub(super) struct Ran {
    /// On its standard output and, behind that, its standard error.
    pub(super) said: String,
    /// On its standard error alone.
    pub(super) complained: String,
    pub(super) status: ExitStatus,
    /// The group that it led: programs that it left running are in it.
    pub(super) group: u32,
}

impl Ran {
    /// What it said.
    ///
    /// # Errors
    /// The end of what it said when it did not end with success.
    pub(super) fn succeeded(self) -> Result<Self, String> {
        if self.status.success() {
            return Ok(self);
        }
        let complaint = if self.complained.trim().is_empty() {
            &self.said
        } else {
            &self.complained
        };
        let complaint = last_lines(complaint);
        Err(match complaint.as_str() {
            "" => format!("it ended with {}", self.status),
            complaint => format!("{complaint} ({})", self.status),
        })
    }
}

const COMPLAINT_LINES: usize = 3;

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(COMPLAINT_LINES)..].join("; ")
}

/// Runs it until it ends. `meanwhile` is called now and then. What it started and what still has its output 5 s after its end is killed.
///
/// # Errors
/// A sentence when it cannot be started, or does not end in time; it and what it started are killed then.
pub(super) fn run(
    mut command: Command,
    duration_max: Duration,
    removed: &RemovedWhenInterrupted,
    mut meanwhile: impl FnMut(),
) -> Result<Ran, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // So that what it starts can be ended with it.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    let group = child.id();
    removed.add_group(group);
    let out = read_aside(child.stdout.take());
    let err = read_aside(child.stderr.take());
    let ended = wait(&mut child, duration_max, &mut meanwhile);
    let status = match ended {
        Ok(Some(status)) => status,
        ended => {
            kill_group(group);
            removed.remove_group(group);
            // Reaps what was killed.
            let _ = child.wait();
            return Err(match ended {
                Err(error) => error.to_string(),
                _ => format!("{program} did not end within {} s", duration_max.as_secs()),
            });
        }
    };
    // What it left behind in the background may hold its output open for ever.
    let mut is_read = end_within(&[&out, &err], OUTPUT_MAX);
    if !is_read {
        kill_group(group);
        is_read = end_within(&[&out, &err], OUTPUT_MAX);
    }
    removed.remove_group(group);
    if !is_read {
        return Err(format!(
            "{program} left something running that still has its output"
        ));
    }
    let [mut said, complained] = [out, err].map(|reader| {
        let bytes = reader.map(|reader| reader.join().unwrap_or_default());
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    });
    said.push_str(&complained);
    Ok(Ran {
        said,
        complained,
        status,
        group,
    })
}

fn wait(
    child: &mut Child,
    duration_max: Duration,
    meanwhile: &mut impl FnMut(),
) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    while began.elapsed() < duration_max {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        meanwhile();
        std::thread::sleep(LOOK);
    }
    Ok(None)
}

/// Whether all is read in this time.
fn end_within(readers: &[&Option<JoinHandle<Vec<u8>>>], duration_max: Duration) -> bool {
    let began = Instant::now();
    loop {
        let mut open = readers.iter().filter_map(|reader| reader.as_ref());
        if open.all(JoinHandle::is_finished) {
            return true;
        }
        if began.elapsed() >= duration_max {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

fn read_aside(stream: Option<impl Read + Send + 'static>) -> Option<JoinHandle<Vec<u8>>> {
    let stream = stream?;
    Some(std::thread::spawn(move || {
        let mut said = Vec::new();
        // What is behind the bound is read all the same: a full pipe would hold the program up.
        let mut stream = stream.take(SAID_BYTES_MAX);
        let _ = stream.read_to_end(&mut said);
        let _ = io::copy(&mut stream.into_inner(), &mut io::sink());
        said
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, duration_max: Duration) -> Result<Ran, String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(
            command,
            duration_max,
            &RemovedWhenInterrupted::default(),
            || {},
        )
    }

    const AMPLE: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_that_fails_is_told_by_its_last_words() {
        let ran = shell("echo fine; echo 'no such peer' >&2; exit 3", AMPLE).unwrap();
        assert_eq!(ran.said, "fine\nno such peer\n");
        let reason = ran.succeeded().unwrap_err();
        assert!(
            reason.contains("no such peer") && reason.contains('3'),
            "{reason}"
        );
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_what_it_started() {
        let error = shell("sleep 600 & sleep 600", Duration::from_millis(100)).unwrap_err();
        assert!(error.contains("did not end"), "{error}");
    }

    #[test]
    fn what_a_program_leaves_behind_with_its_output_is_killed() {
        let ran = shell("sleep 600 & echo said", AMPLE).unwrap();
        assert_eq!(ran.said, "said\n");
    }

    #[test]
    fn a_program_that_is_not_there_is_a_sentence() {
        let command = Command::new("/no/such/program");
        let error = run(command, AMPLE, &RemovedWhenInterrupted::default(), || {}).unwrap_err();
        assert!(error.contains("/no/such/program"), "{error}");
    }
}
