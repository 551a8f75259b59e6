//! What a run shows while it runs: a moving line on a terminal, plain lines elsewhere. All on stderr: stdout has the result.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::units::grouped;

/// Between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(2);
/// Between two looks at the counts.
pub const TICK: Duration = Duration::from_millis(100);

/// Shows how far a run is.
#[derive(Debug)]
pub struct ProgressLine {
    bar: Option<ProgressBar>,
    /// Of what all steps are part; empty when they are all there is.
    whole: String,
    step: String,
    began: Instant,
    last_line: Instant,
    last: Option<(Instant, [u64; 3])>,
}

impl ProgressLine {
    /// For a terminal when stderr is one.
    #[must_use]
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(TICK);
            bar
        });
        Self {
            bar,
            whole: String::new(),
            step: String::new(),
            began: Instant::now(),
            last_line: Instant::now(),
            last: None,
        }
    }

    /// Says of what the steps from now on are part.
    pub fn whole(&mut self, whole: impl Into<String>) {
        self.whole = whole.into();
    }

    /// Says what is done now.
    pub fn step(&mut self, step: impl Into<String>) {
        let step = step.into();
        self.step = if self.whole.is_empty() {
            step
        } else {
            format!("{}: {step}", self.whole)
        };
        self.began = Instant::now();
        self.last_line = self.began;
        self.last = None;
        match &self.bar {
            Some(bar) => bar.set_message(self.step.clone()),
            None => self.line(&self.step.clone()),
        }
    }

    /// Shows the counts of records sent, acknowledged and consumed.
    pub fn counts(&mut self, sent: u64, acked: u64, consumed: u64) {
        let now = Instant::now();
        if self.bar.is_none() && now - self.last_line < LINE_INTERVAL {
            return;
        }
        let counts = [sent, acked, consumed];
        let (since, before) = self.last.unwrap_or((self.began, [0; 3]));
        let seconds = (now - since).as_secs_f64().max(1e-3);
        let per_s = |index: usize| {
            let (count, before) = (counts.get(index), before.get(index));
            let grown = count
                .zip(before)
                .map_or(0, |(count, before)| count.saturating_sub(*before));
            grouped((grown as f64 / seconds) as u64)
        };
        let text = format!(
            "{} {:.0} s: {} acknowledged ({}/s), {} consumed ({}/s), {} in flight",
            self.step,
            (now - self.began).as_secs_f64(),
            grouped(acked),
            per_s(1),
            grouped(consumed),
            per_s(2),
            grouped(sent.saturating_sub(acked)),
        );
        // Rates over a second or more: shorter ones flicker.
        if seconds >= 1.0 {
            self.last = Some((now, counts));
        }
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => {
                self.last_line = now;
                self.line(&text);
            }
        }
    }

    /// Clears the moving line.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        // Nobody reads it any more: no reason to end a measurement.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

impl Default for ProgressLine {
    fn default() -> Self {
        Self::new()
    }
}
