//! Latency by percentile.

use super::axis::{Axis, Scale};
use super::canvas::{PlotError, Svg};
use super::line::{LinePlot, Series, lines};
use super::palette::Palette;

/// The percentiles of one of several compared things.
#[derive(Clone, Debug, PartialEq)]
pub struct PercentileCurve {
    /// Its name.
    pub name: String,
    /// Percentiles (0 to 100) and what so much percent were at most, in microseconds: a report's `curve`.
    pub curve: Vec<(f64, f64)>,
}

/// Latency by percentile, both logarithmic: p90, p99 and p99.9 are equally far apart.
///
/// # Errors
/// [`PlotError`] when plotters cannot draw it.
pub fn percentiles(
    title: &str,
    curves: &[PercentileCurve],
    palette: &Palette,
) -> Result<Svg, PlotError> {
    let series = |curve: &PercentileCurve| Series::new(curve.name.clone(), curve.curve.clone());
    let plot = LinePlot {
        title: title.to_owned(),
        x: Axis {
            label: "percentile".to_owned(),
            scale: Scale::Nines,
        },
        y: Axis::log("latency, µs"),
        series: curves.iter().map(series).collect(),
        marks: Vec::new(),
    };
    lines(&plot, palette)
}
