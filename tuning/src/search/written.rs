//! The result as a gannet.toml in which every value says what was measured for it.

use std::fmt::Write;

use gannet_engine::control::config::keys;
use gannet_loadgen::units::bytes;

use super::figures::{Spread, written, written_cost, written_latency, written_rate};
use super::found::{Found, Standing, written_gain, written_percent};
use super::history::{Measured, Rung, median};
use super::knobs::{CLIENT, client_trades};
use super::space::{Knob, KnobIndex, Point};
use crate::goal::Goal;

const LINE_CHARACTERS: usize = 110;

impl Found {
    /// The file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        self.write_toml(&mut text)
            .expect("writing to a string does not fail");
        text
    }

    /// What a terminal shows at the end.
    #[must_use]
    pub fn to_summary(&self) -> String {
        let mut text = String::new();
        self.write_summary(&mut text)
            .expect("writing to a string does not fail");
        text
    }

    fn write_summary(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "goal       {}", self.goal)?;
        writeln!(text, "reached    {}", self.reached_sentence())?;
        let default = self.space.default_point();
        writeln!(text, "defaults   {}", self.line_of(&default))?;
        if self.choice.point != default {
            writeln!(text, "chosen     {}", self.line_of(&self.choice.point))?;
        }
        for (name, value) in self.space.changes(&self.choice.point) {
            writeln!(text, "           {name} = {value}")?;
        }
        writeln!(text, "{}", self.why())?;
        for failure in &self.failures {
            writeln!(text, "FAILED: {failure}")?;
        }
        Ok(())
    }

    fn write_toml(&self, text: &mut String) -> std::fmt::Result {
        self.write_head(text)?;
        self.write_client(text)?;
        let mut section_before = "";
        for key in keys() {
            let Some((index, knob)) = self.knob_named(key.name) else {
                continue;
            };
            let (section, name) = key.section_and_name();
            if section != section_before {
                write!(text, "\n[{section}]\n")?;
                section_before = section;
            }
            writeln!(text)?;
            comment(text, &self.knob_sentence(index, knob))?;
            writeln!(text, "{name} = {}", self.chosen_value(index, knob))?;
        }
        Ok(())
    }

    fn write_head(&self, text: &mut String) -> std::fmt::Result {
        let place = &self.place;
        comment(
            text,
            &format!(
                "Written by gannet-tune {} on {}. `gannet-tune explain` says what each value trades, `gannet serve --config` runs a broker with it.",
                env!("CARGO_PKG_VERSION"),
                self.date
            ),
        )?;
        writeln!(text, "#")?;
        comment(text, &format!("Goal: {}", self.goal))?;
        comment(text, &format!("Reached: {}", self.reached_sentence()))?;
        comment(text, &self.why())?;
        writeln!(text, "#")?;
        let default = self.space.default_point();
        comment(text, &format!("Defaults: {}", self.line_of(&default)))?;
        if self.choice.point == default {
            comment(text, "Chosen: the defaults.")?;
        } else {
            comment(
                text,
                &format!("Chosen: {}", self.line_of(&self.choice.point)),
            )?;
        }
        writeln!(text, "#")?;
        comment(text, &format!("Load: {}.", self.workload))?;
        comment(
            text,
            &format!(
                "Machine: {} core(s), {} of memory, Linux {}, {} at {}. Generator and brokers shared it.",
                place.cores,
                bytes(place.memory_bytes),
                place.kernel,
                place.filesystem,
                place.directory.display()
            ),
        )?;
        let spread = match self.spread {
            Some(spread) => format!(
                "two runs of one configuration differ by about {} here",
                written_percent(spread)
            ),
            None => "too few runs to know how far two of one configuration differ here".to_owned(),
        };
        comment(
            text,
            &format!(
                "Search: {} trials in {:.0} s (of {:.0} s{}), seed {}; {spread}.",
                self.trials.len(),
                self.took_s,
                self.budget_s,
                if self.interrupted {
                    ", interrupted"
                } else {
                    ""
                },
                self.seed
            ),
        )?;
        comment(
            text,
            "Below, each value that was tried stood in place of the one in what was best until then; the figure of the defaults beside it is from the same minutes.",
        )?;
        if !self.failures.is_empty() {
            comment(
                text,
                "DO NOT USE: something was wrong with records or brokers while this was measured.",
            )?;
            for failure in &self.failures {
                comment(text, &format!("- {failure}"))?;
            }
        }
        Ok(())
    }

    fn write_client(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "#")?;
        comment(
            text,
            "What the client was set to. These are no keys of the broker: set them where you make a producer.",
        )?;
        for (index, knob) in self.space.indexes().zip(self.space.knobs()) {
            if knob.name.starts_with(CLIENT) {
                writeln!(text, "#")?;
                writeln!(
                    text,
                    "#   {} = {}",
                    knob.name,
                    self.chosen_value(index, knob)
                )?;
                comment(text, client_trades(knob.name))?;
                comment(text, &self.knob_sentence(index, knob))?;
            }
        }
        Ok(())
    }

    fn knob_named(&self, name: &str) -> Option<(KnobIndex, &Knob)> {
        self.space
            .indexes()
            .zip(self.space.knobs())
            .find(|(_, knob)| knob.name == name)
    }

    fn chosen_value<'a>(&self, index: KnobIndex, knob: &'a Knob) -> &'a str {
        value_of(knob, self.choice.point.value(index))
    }

    /// Why a knob has its value, and what its other values did.
    fn knob_sentence(&self, index: KnobIndex, knob: &Knob) -> String {
        let mut sentence = match self.kept(index) {
            Some(decision) => format!(
                "{} instead of {}: {} in the middle of its longer trials, where more than {} was needed.",
                value_of(knob, decision.to),
                value_of(knob, decision.from),
                written_gain(&self.goal, decision.gain),
                written_percent(decision.needed)
            ),
            None => "The default.".to_owned(),
        };
        let tried: Vec<String> = (0..knob.values.len())
            .filter_map(|value| {
                Some(format!(
                    "{}: {}",
                    value_of(knob, value),
                    self.value_sentence(index, value)?
                ))
            })
            .collect();
        if !tried.is_empty() {
            let _ = write!(sentence, " Tried: {}.", tried.join("; "));
        }
        sentence.push_str(&self.untried_sentence(index, knob, !tried.is_empty()));
        sentence
    }

    /// Which values of a knob nothing is known of, and why.
    fn untried_sentence(&self, index: KnobIndex, knob: &Knob, some_tried: bool) -> String {
        let known = [
            self.choice.point.value(index),
            self.space.default_point().value(index),
        ];
        let untried: Vec<&str> = (0..knob.values.len())
            .filter(|value| !known.contains(value) && !self.was_tried(index, *value))
            .map(|value| value_of(knob, value))
            .collect();
        if untried.is_empty() {
            return if some_tried {
                ""
            } else {
                " It has no other value here."
            }
            .to_owned();
        }
        let untried = untried.join(", ");
        // Knobs are gone through in their order at first.
        let went_on = self
            .space
            .indexes()
            .zip(self.space.knobs())
            .skip_while(|(other, _)| *other != index)
            .skip(1)
            .any(|(other, knob)| (0..knob.values.len()).any(|value| self.was_tried(other, value)));
        match (some_tried, went_on) {
            (true, true) => format!(" Not tried, as what lies nearer was no better: {untried}."),
            (true, false) if self.interrupted => format!(
                " Not tried, as what lies nearer was no better or the search was ended before: {untried}."
            ),
            (true, false) => format!(
                " Not tried, as what lies nearer was no better or the budget was over: {untried}."
            ),
            (false, _) if self.interrupted => {
                format!(" Not tried, as the search was ended before: {untried}.")
            }
            (false, _) => format!(" Not tried, as the budget did not reach it: {untried}."),
        }
    }

    fn was_tried(&self, index: KnobIndex, value: usize) -> bool {
        self.trials_of(index, value).next().is_some()
    }

    /// What the trials of a value came to. `None` when it was not tried in place of another one.
    fn value_sentence(&self, index: KnobIndex, value: usize) -> Option<String> {
        let trials: Vec<_> = self.trials_of(index, value).collect();
        if trials.is_empty() {
            return None;
        }
        let costs: Vec<f64> = trials
            .iter()
            .filter_map(|made| cost_of(made.measured))
            .collect();
        let beside: Vec<f64> = trials.iter().filter_map(|made| made.default_cost).collect();
        let Some(middle) = median(&costs) else {
            let why = trials.iter().find_map(|made| made.refused.clone());
            return Some(format!(
                "refused{}",
                why.map_or_else(String::new, |why| format!(" ({why})"))
            ));
        };
        // Where half or more did not get to their end, the middle is only a bound.
        let ended = trials
            .iter()
            .filter(|made| matches!(made.measured, Measured::AtLeast(_)))
            .count();
        let measured = if 2 * ended >= costs.len() {
            Measured::AtLeast(middle)
        } else {
            Measured::Cost(middle)
        };
        let beside = median(&beside).map_or_else(String::new, |beside| {
            format!(
                ", the defaults beside it {}",
                written_cost(&self.goal, beside)
            )
        });
        let capped = trials.iter().find_map(|made| made.capped.as_deref());
        let capped = capped.map_or_else(String::new, |why| format!("; {why}"));
        let trials = match trials.len() {
            1 => "1 trial".to_owned(),
            several => format!("{several} trials"),
        };
        Some(format!(
            "{}{beside} ({trials}{capped})",
            written(&self.goal, measured)
        ))
    }

    fn reached_sentence(&self) -> String {
        let Some(standing) = self.standing(&self.choice.point) else {
            return "unknown: nothing was measured.".to_owned();
        };
        let figures = self.standing_line(&standing);
        match (self.reached(), standing.reached) {
            (Some(true), _) => format!(
                "yes, in all of {} trial(s): {figures}",
                standing.figures.len()
            ),
            (Some(false), Some(reached)) => format!(
                "NO, only in {reached} of {} trial(s): {figures}",
                standing.figures.len()
            ),
            _ => format!("there is no bound to reach: {figures}"),
        }
    }

    fn line_of(&self, point: &Point) -> String {
        self.standing(point).map_or_else(
            || "not measured.".to_owned(),
            |standing| self.standing_line(&standing),
        )
    }

    /// The middle and the extremes of what a configuration's longest trials came to, never better than measured.
    fn standing_line(&self, standing: &Standing<'_>) -> String {
        let Spread {
            least,
            middle,
            most,
        } = standing.cost;
        let each = |cost| written_cost(&self.goal, cost);
        let of = |value: fn(&super::figures::Figures) -> f64| {
            let values: Vec<f64> = standing
                .figures
                .iter()
                .map(|figures| value(figures))
                .collect();
            median(&values).unwrap_or_default()
        };
        let name = match self.goal {
            Goal::Latency { bound, .. } => format!("{} {}", bound.way, bound.percentile),
            Goal::Throughput { .. } => "throughput".to_owned(),
        };
        let trials = match (standing.rung, standing.figures.len()) {
            (Rung::Final, count) => format!("{count} trial(s) at the end"),
            (Rung::Long, count) => format!("{count} longer trial(s)"),
            (Rung::Short, count) => format!("{count} short trial(s)"),
        };
        format!(
            "{name} {} ({} to {}) in {trials}; at {} ({:.1} MB/s), publish p50 {}, p99 {}, longest {}; end to end p99 {}.",
            each(middle),
            each(least),
            each(most),
            written_rate(of(|figures| figures.records_per_s)),
            (of(|figures| figures.mb_per_s) * 10.0).floor() / 10.0,
            written_latency(of(|figures| figures.publish_us.p50)),
            written_latency(of(|figures| figures.publish_us.p99)),
            written_latency(of(|figures| figures.publish_us.max)),
            written_latency(of(|figures| figures.end_to_end_us.p99)),
        )
    }
}

fn value_of(knob: &Knob, value: usize) -> &str {
    knob.values.get(value).map_or("", String::as_str)
}

fn cost_of(measured: Measured) -> Option<f64> {
    match measured {
        Measured::Cost(cost) | Measured::AtLeast(cost) => Some(cost),
        Measured::Refused => None,
    }
}

/// Writes a text as lines of comment.
fn comment(text: &mut String, sentences: &str) -> std::fmt::Result {
    // What a broker said may have several lines; each of them must stay a comment.
    let mut line = String::from("#");
    for word in sentences.split_whitespace() {
        if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > LINE_CHARACTERS {
            writeln!(text, "{line}")?;
            line = String::from("#");
        }
        line.push(' ');
        // A control character is no TOML, not even in a comment.
        line.extend(word.chars().filter(|letter| !letter.is_control()));
    }
    writeln!(text, "{line}")
}

#[cfg(test)]
mod tests;
