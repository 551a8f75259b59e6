//! A row of the table: a figure, and the bar it is to reach.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a figure is to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// This or less.
    AtMost(f64),
    /// Less than this.
    Below(f64),
    /// This or more.
    AtLeast(f64),
    /// Nothing: the figure is for the reader.
    Reported,
}

impl Bar {
    /// Whether a figure reaches it; `None` when there is none.
    #[must_use]
    pub fn is_reached_by(self, measured: f64) -> Option<bool> {
        match self {
            Self::AtMost(bar) => Some(measured <= bar),
            Self::Below(bar) => Some(measured < bar),
            Self::AtLeast(bar) => Some(measured >= bar),
            Self::Reported => None,
        }
    }
}

/// Something was measured and no figure came of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: nothing was measured")]
pub struct NoFigure(pub String);

/// A figure with its bar.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// What it is to reach.
    pub bar: Bar,
    /// What it is, in `unit`.
    pub measured: f64,
    /// The unit; `x` is a ratio.
    pub unit: &'static str,
    /// Whether the bar is reached; absent without one.
    pub reached: Option<bool>,
    /// What the figure was made of, and what stood beside it; the names end in the units.
    pub figures: BTreeMap<&'static str, f64>,
}

impl Row {
    /// A row, judged.
    ///
    /// # Errors
    /// [`NoFigure`] when the figure, or one that it is made of, is not a number.
    pub fn new(
        what: impl Into<String>,
        (measured, unit): (f64, &'static str),
        bar: Bar,
        figures: impl IntoIterator<Item = (&'static str, f64)>,
    ) -> Result<Self, NoFigure> {
        let what = what.into();
        let figures: BTreeMap<_, _> = figures.into_iter().collect();
        // A division by nothing, most likely.
        if !measured.is_finite() || figures.values().any(|figure| !figure.is_finite()) {
            return Err(NoFigure(what));
        }
        Ok(Self {
            what,
            bar,
            measured,
            unit,
            reached: bar.is_reached_by(measured),
            figures,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_reached_from_its_own_side() {
        assert_eq!(Bar::AtMost(1.3).is_reached_by(1.3), Some(true));
        assert_eq!(Bar::AtMost(1.3).is_reached_by(1.31), Some(false));
        assert_eq!(Bar::AtLeast(0.5).is_reached_by(0.5), Some(true));
        assert_eq!(Bar::AtLeast(0.5).is_reached_by(0.49), Some(false));
        assert_eq!(Bar::Below(1024.0).is_reached_by(1023.9), Some(true));
        assert_eq!(Bar::Below(1024.0).is_reached_by(1024.0), Some(false));
        assert_eq!(Bar::Reported.is_reached_by(1.0), None);
    }

    #[test]
    fn a_division_by_nothing_is_no_figure() {
        let row = Row::new("throughput", (1.0 / 0.0, "x"), Bar::AtLeast(0.5), []);
        assert_eq!(row.unwrap_err(), NoFigure("throughput".to_owned()));
        let row = Row::new(
            "throughput",
            (1.0, "x"),
            Bar::Reported,
            [("mb_per_s", f64::NAN)],
        );
        assert!(row.is_err());
    }
}
