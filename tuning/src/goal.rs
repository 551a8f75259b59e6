//! What a search is to reach, as it is written on the command line.
//!
//! ```text
//! goal    = latency " < " time " at " load
//!         | "max throughput" [ " with " latency " < " time ]
//! latency = [ "publish" | "end to end" ] ( "p50" | "p90" | "p99" | "p99.9" | "max" )
//! time    = number ( "us" | "ms" | "s" )
//! load    = number ( "KB/s" | "MB/s" | "GB/s" | "records/s" )
//! ```
//!
//! Upper and lower case are the same, and blanks may be left out where two words would not grow together. Without a name a latency is that of publishing: from when a record
//! should have been sent until its acknowledgement was there. End to end ends with a consumer that has it. KB, MB and GB are powers of 1,000 and count record values, as the load
//! generator does.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest latency that is a goal, and the shortest.
const LATENCY_MAX: Duration = Duration::from_secs(60);
const LATENCY_MIN: Duration = Duration::from_micros(1);
/// More of either a second is beyond any machine, and a slip of the hand.
const BYTES_PER_S_MAX: f64 = 1e12;
const RECORDS_PER_S_MAX: f64 = 1e9;

/// What a search is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// A latency below a bound at a fixed load; the lower the better.
    Latency {
        /// The bound.
        bound: Bound,
        /// The load at which it must hold.
        load: Load,
    },
    /// As much as can be, with a latency below a bound if there is one.
    Throughput {
        /// The bound.
        bound: Option<Bound>,
    },
}

/// A latency and what it must stay below.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// From sending to where.
    pub way: Way,
    /// Which of the distribution.
    pub percentile: Percentile,
    /// It must be less than this.
    pub below: Duration,
}

/// From when a record should have been sent, to where a latency goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the acknowledgement.
    Publish,
    /// To a consumer.
    EndToEnd,
}

/// One figure of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Percentile {
    P50,
    P90,
    P99,
    P99_9,
    Max,
}

/// So much a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Bytes of record values.
    BytesPerSecond(f64),
    /// Records.
    RecordsPerSecond(f64),
}

/// Why a text is no goal: a sentence that says where it stops making sense and what could stand there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no goal: {reason}; examples: {EXAMPLES}")]
pub struct GoalError {
    text: String,
    reason: String,
}

const EXAMPLES: &str = "\"p99 < 2ms at 100 MB/s\", \"end to end p99.9 < 10ms at 20000 records/s\", \"max throughput with p99 < 10ms\"";

impl Goal {
    /// The latency that must stay below something, if there is one.
    #[must_use]
    pub fn bound(&self) -> Option<Bound> {
        match *self {
            Self::Latency { bound, .. } => Some(bound),
            Self::Throughput { bound } => bound,
        }
    }
}

impl Percentile {
    /// The share of the records that may take longer: 0 for the longest.
    #[must_use]
    pub fn share_above(self) -> f64 {
        match self {
            Self::P50 => 0.5,
            Self::P90 => 0.1,
            Self::P99 => 0.01,
            Self::P99_9 => 0.001,
            Self::Max => 0.0,
        }
    }

    const ALL: [(Self, &'static str); 5] = [
        (Self::P50, "p50"),
        (Self::P90, "p90"),
        (Self::P99, "p99"),
        (Self::P99_9, "p99.9"),
        (Self::Max, "max"),
    ];
}

impl Load {
    /// In records a second, when each has so many bytes.
    #[must_use]
    pub fn records_per_s(self, record_bytes: u64) -> f64 {
        match self {
            Self::BytesPerSecond(bytes) => bytes / record_bytes as f64,
            Self::RecordsPerSecond(records) => records,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency { bound, load } => write!(f, "{bound} at {load}"),
            Self::Throughput { bound: None } => f.write_str("max throughput"),
            Self::Throughput { bound: Some(bound) } => write!(f, "max throughput with {bound}"),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.below.as_nanos() as f64 / 1e3;
        write!(f, "{} {} < ", self.way, self.percentile)?;
        if micros < 1e3 {
            write!(f, "{micros} us")
        } else if micros < 1e6 {
            write!(f, "{} ms", micros / 1e3)
        } else {
            write!(f, "{} s", micros / 1e6)
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish",
            Self::EndToEnd => "end to end",
        })
    }
}

impl fmt::Display for Percentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(percentile, _)| percentile == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BytesPerSecond(bytes) => write!(f, "{} MB/s", bytes / 1e6),
            Self::RecordsPerSecond(records) => write!(f, "{records} records/s"),
        }
    }
}

impl FromStr for Goal {
    type Err = GoalError;

    fn from_str(text: &str) -> Result<Self, GoalError> {
        Reader::new(text).goal().map_err(|reason| GoalError {
            text: text.to_owned(),
            reason,
        })
    }
}

/// What is left of a goal that is being read.
struct Reader {
    rest: String,
}

impl Reader {
    fn new(text: &str) -> Self {
        Self {
            rest: text.trim().to_lowercase(),
        }
    }

    fn goal(mut self) -> Result<Goal, String> {
        let goal = if self.takes("max throughput") || self.takes("maximum throughput") {
            let bound = if self.rest.is_empty() {
                None
            } else {
                self.word("with")?;
                Some(self.bound()?)
            };
            Goal::Throughput { bound }
        } else {
            let bound = self.bound()?;
            self.word("at")?;
            let load = self.load()?;
            Goal::Latency { bound, load }
        };
        if self.rest.is_empty() {
            Ok(goal)
        } else {
            Err(format!("{:?} is too much", self.rest))
        }
    }

    fn bound(&mut self) -> Result<Bound, String> {
        let way = if self.takes("end to end") || self.takes("end-to-end") {
            Way::EndToEnd
        } else {
            self.takes("publish");
            Way::Publish
        };
        let percentile = self.percentile()?;
        if !self.takes("<") {
            return Err(format!(
                "`<` should follow the latency, not {}",
                self.here()
            ));
        }
        let below = self.time()?;
        Ok(Bound {
            way,
            percentile,
            below,
        })
    }

    fn percentile(&mut self) -> Result<Percentile, String> {
        // The longest first: p99.9 begins with p99.
        let mut all = Percentile::ALL;
        all.sort_by_key(|(_, name)| std::cmp::Reverse(name.len()));
        let found = all.into_iter().find(|(_, name)| {
            self.rest.strip_prefix(name).is_some_and(|rest| {
                !rest.starts_with(|next: char| next.is_alphanumeric() || next == '.')
            })
        });
        let Some((percentile, name)) = found else {
            return Err(format!(
                "a latency is one of p50, p90, p99, p99.9 and max (or it is \"max throughput\"), not {}",
                self.here()
            ));
        };
        self.takes(name);
        Ok(percentile)
    }

    fn time(&mut self) -> Result<Duration, String> {
        let number = self.number("a time such as 2ms")?;
        let seconds = match self.unit() {
            unit if unit == "us" || unit == "µs" => number / 1e6,
            unit if unit == "ms" => number / 1e3,
            unit if unit == "s" => number,
            unit => return Err(format!("a time is in us, ms or s, not {unit:?}")),
        };
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        if time < LATENCY_MIN || time > LATENCY_MAX {
            return Err(format!(
                "a latency lies between 1 us and {} s",
                LATENCY_MAX.as_secs()
            ));
        }
        Ok(time)
    }

    fn load(&mut self) -> Result<Load, String> {
        let number = self.number("a load such as 100 MB/s")?;
        let unit = self.unit();
        let (load, most) = match unit.as_str() {
            "kb/s" => (Load::BytesPerSecond(number * 1e3), BYTES_PER_S_MAX),
            "mb/s" => (Load::BytesPerSecond(number * 1e6), BYTES_PER_S_MAX),
            "gb/s" => (Load::BytesPerSecond(number * 1e9), BYTES_PER_S_MAX),
            "records/s" | "record/s" => (Load::RecordsPerSecond(number), RECORDS_PER_S_MAX),
            _ => {
                return Err(format!(
                    "a load is in KB/s, MB/s, GB/s or records/s, not {unit:?}"
                ));
            }
        };
        let (Load::BytesPerSecond(amount) | Load::RecordsPerSecond(amount)) = load;
        if amount < 1.0 || amount > most {
            return Err(format!("{load} is no load that a machine could carry"));
        }
        Ok(load)
    }

    fn number(&mut self, what: &str) -> Result<f64, String> {
        let end = self
            .rest
            .find(|next: char| !(next.is_ascii_digit() || next == '.' || next == ','))
            .unwrap_or(self.rest.len());
        let here = self.here();
        let digits: String = self.rest.drain(..end).collect();
        self.skip_blanks();
        // Digits and points alone: neither infinite, nor negative, nor no number.
        without_separators(&digits)
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| format!("{what} should stand at {here}"))
    }

    fn unit(&mut self) -> String {
        let end = self
            .rest
            .find(char::is_whitespace)
            .unwrap_or(self.rest.len());
        let unit = self.rest.drain(..end).collect();
        self.skip_blanks();
        unit
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        if self.takes(word) {
            Ok(())
        } else {
            Err(format!("{word:?} should follow, not {}", self.here()))
        }
    }

    fn takes(&mut self, word: &str) -> bool {
        let mut rest = self.rest.as_str();
        for part in word.split(' ') {
            match rest.trim_start().strip_prefix(part) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        self.rest = rest.trim_start().to_owned();
        true
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start().to_owned();
    }

    fn here(&self) -> String {
        if self.rest.is_empty() {
            "the end".to_owned()
        } else {
            format!("{:?}", self.rest)
        }
    }
}

/// `20,000` without its comma. `None` where a comma does not part thousands: `1,5` may be meant as one and a half.
fn without_separators(digits: &str) -> Option<String> {
    let whole = digits.split('.').next()?;
    let thousands = whole.split(',').skip(1).all(|part| part.len() == 3);
    let fraction = digits.get(whole.len()..)?;
    (thousands && !fraction.contains(',')).then(|| digits.replace(',', ""))
}

#[cfg(test)]
mod tests;
