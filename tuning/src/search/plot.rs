//! What was tried, as a page with plots.

use gannet_loadgen::page::{
    Axis, Bar, BarPlot, LinePlot, Page, Palette, PlotError, Section, Series, Stroke, Svg, bars,
    lines,
};

use super::figures::cost;
use super::found::{Found, TrialMade};
use super::history::Measured;
use super::space::{Knob, KnobIndex};
use crate::goal::Goal;

const DEFAULTS: &str = "defaults";
const TRIED: &str = "tried";
const CHOSEN: &str = "chosen";

impl Found {
    /// One self-contained HTML page.
    ///
    /// # Errors
    /// [`PlotError`].
    pub fn to_page(&self) -> Result<String, PlotError> {
        let palette = Palette::new([DEFAULTS, CHOSEN, TRIED]);
        let mut page = Page::new(format!("gannet-tune: {}", self.goal));
        for line in self.to_summary().lines() {
            page.lead(line);
        }
        page.lead(format!("{} Load: {}.", self.date, self.workload));

        let mut over_time = Section::new("Over time");
        over_time.text(
            "Every trial that ran to its end. The defaults are tried again and again: what they do over time is the machine's doing.",
        );
        over_time.plot(self.over_time(&palette)?);
        if let Some(plot) = self.at_the_end(&palette)? {
            over_time.plot(plot);
        }
        page.section(over_time);

        let mut values = Section::new("Value by value");
        values.text(
            "Each value in place of the one that was best until then, over what the defaults did around the same time. The bar is the middle of its trials, the line goes from the least to the most. \
             What was ended early or refused has no bar.",
        );
        for (index, knob) in self.space.indexes().zip(self.space.knobs()) {
            if let Some(plot) = self.of_knob(index, knob, &palette)? {
                values.plot(plot);
            }
        }
        page.section(values);
        Ok(page.html())
    }

    fn over_time(&self, palette: &Palette) -> Result<Svg, PlotError> {
        let default = self.space.default_point();
        let points = |of_default: bool| {
            self.trials
                .iter()
                .filter(|made| (made.point == default) == of_default)
                .filter_map(|made| Some((made.at_s, self.shown(measured_cost(made)?))))
                .collect::<Vec<_>>()
        };
        let (defaults, tried) = (points(true), points(false));
        let all: Vec<f64> = defaults
            .iter()
            .chain(&tried)
            .map(|(_, shown)| *shown)
            .collect();
        lines(
            &LinePlot {
                title: "Every trial".to_owned(),
                x: Axis::linear("seconds from the beginning"),
                y: Axis::for_values(self.unit(), all),
                series: vec![
                    Series::new(DEFAULTS, defaults),
                    Series::new(TRIED, tried).stroke(Stroke::Dotted),
                ],
                marks: Vec::new(),
            },
            palette,
        )
    }

    fn at_the_end(&self, palette: &Palette) -> Result<Option<Svg>, PlotError> {
        let default = self.space.default_point();
        if self.choice.point == default {
            return Ok(None);
        }
        let of = |name: &str, point| {
            let standing = self.standing(point)?;
            let costs = standing
                .figures
                .iter()
                .map(|figures| self.shown(cost(&self.goal, figures)));
            Bar::of_rounds(name, costs.collect::<Vec<_>>())
        };
        self.bars(
            "Defaults and choice",
            self.unit(),
            [of(DEFAULTS, &default), of(CHOSEN, &self.choice.point)],
            palette,
        )
    }

    fn of_knob(
        &self,
        index: KnobIndex,
        knob: &Knob,
        palette: &Palette,
    ) -> Result<Option<Svg>, PlotError> {
        let of = |(value, written): (usize, &String)| {
            let ratios = self.trials_of(index, value).filter_map(|made| {
                let beside = self.shown(made.default_cost?);
                Some(self.shown(measured_cost(made)?) / beside)
            });
            Bar::of_rounds(written.as_str(), ratios.collect::<Vec<_>>())
        };
        let values: Vec<_> = knob.values.iter().enumerate().map(of).collect();
        let label = match self.goal {
            Goal::Latency { .. } => "latency / that of the defaults",
            Goal::Throughput { .. } => "throughput / that of the defaults",
        };
        self.bars(knob.name, label, values, palette)
    }

    fn bars(
        &self,
        title: &str,
        label: &str,
        bars_of: impl IntoIterator<Item = Option<Bar>>,
        palette: &Palette,
    ) -> Result<Option<Svg>, PlotError> {
        let plot = BarPlot {
            title: title.to_owned(),
            label: label.to_owned(),
            bars: bars_of.into_iter().flatten().collect(),
        };
        if plot.bars.is_empty() {
            return Ok(None);
        }
        bars(&plot, palette).map(Some)
    }

    /// A cost as it is drawn: a throughput has its usual direction.
    fn shown(&self, cost: f64) -> f64 {
        match self.goal {
            Goal::Latency { .. } => cost,
            Goal::Throughput { .. } => 1e6 / cost,
        }
    }

    fn unit(&self) -> &'static str {
        match self.goal {
            Goal::Latency { .. } => "latency, µs",
            Goal::Throughput { .. } => "records/s",
        }
    }
}

/// What a trial that ran to its end cost.
fn measured_cost(made: &TrialMade) -> Option<f64> {
    match made.measured {
        Measured::Cost(cost) => Some(cost),
        Measured::AtLeast(_) | Measured::Refused => None,
    }
}
