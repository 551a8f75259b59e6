//! A client command that is talked to while it runs.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{PATIENCE, gannet, wait};

/// A running client command. Dropping it kills it.
pub struct RunningCommand {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    printed: Arc<Mutex<Vec<u8>>>,
    printing: Option<JoinHandle<()>>,
    said: String,
}

impl RunningCommand {
    /// Starts `gannet` with these arguments against that server.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(server: SocketAddr, arguments: &[&str]) -> Self {
        let mut command = Command::new(gannet());
        command
            .args(arguments)
            .env("GANNET_SERVER", server.to_string());
        Self::run(command)
    }

    /// Starts any other program.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command can be started");
        let stderr = child.stderr.take().expect("stderr is piped");
        let mut stdout = child.stdout.take().expect("stdout is piped");
        let (saying, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if saying.send(line).is_err() {
                    return;
                }
            }
        });
        let printed = Arc::new(Mutex::new(Vec::new()));
        let printing = std::thread::spawn({
            let printed = Arc::clone(&printed);
            move || {
                let mut piece = [0; 4096];
                while let Ok(bytes @ 1..) = stdout.read(&mut piece) {
                    locked(&printed).extend_from_slice(&piece[..bytes]);
                }
            }
        });
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            printed,
            printing: Some(printing),
            said: String::new(),
        }
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// When it does not read any more.
    pub fn write(&mut self, input: &[u8]) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        stdin.write_all(input).expect("it reads its input");
    }

    /// Ends its standard input.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Waits for a line on the standard error that contains `text`.
    ///
    /// # Panics
    /// When it does not come.
    pub fn await_line(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let Ok(line) = line else {
                panic!("it did not say {text}, but: {}", self.said);
            };
            self.said.push_str(&line);
            self.said.push('\n');
            if line.contains(text) {
                return;
            }
        }
    }

    /// Waits until it has printed this much.
    ///
    /// # Panics
    /// When it does not.
    pub fn await_printed(&self, bytes: usize) {
        let deadline = Instant::now() + PATIENCE;
        while locked(&self.printed).len() < bytes {
            assert!(Instant::now() < deadline, "it does not print {bytes} bytes");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it runs no more.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .expect("a running process can be signalled");
    }

    /// Waits for the end; returns the status, what it printed, and all that it said on the standard error.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ended(mut self) -> (ExitStatus, String, String) {
        self.end_input();
        let status = wait(&mut self.child);
        if let Some(printing) = self.printing.take() {
            let _ = printing.join();
        }
        let printed = std::mem::take(&mut *locked(&self.printed));
        // The lines end with the process.
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.said.push_str(&line);
            self.said.push('\n');
        }
        (
            status,
            String::from_utf8_lossy(&printed).into_owned(),
            std::mem::take(&mut self.said),
        )
    }
}

fn locked(printed: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    printed.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
