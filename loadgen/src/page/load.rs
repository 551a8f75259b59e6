//! Latency against offered load.

use super::axis::{Axis, number};
use super::canvas::{PlotError, Svg};
use super::line::{LinePlot, Mark, Series, Stroke, lines};
use super::palette::Palette;

/// What was measured at one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadPoint {
    /// Records a second that were to be sent.
    pub offered_per_s: f64,
    /// Microseconds.
    pub p50_us: f64,
    /// Microseconds.
    pub p99_us: f64,
    /// Microseconds.
    pub p99_9_us: f64,
}

/// A sweep of one of several compared things.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadCurve {
    /// Its name.
    pub name: String,
    /// By rising load.
    pub points: Vec<LoadPoint>,
    /// The highest load at which it kept up, in records a second.
    pub knee_per_s: Option<f64>,
}

/// p50, p99 and p99.9 of each curve against the offered load, with the knee marked. One curve has three lines; of several, each has one, its p99, or they could not be told apart.
///
/// # Errors
/// [`PlotError`] when plotters cannot draw it.
pub fn latency_by_load(
    title: &str,
    curves: &[LoadCurve],
    palette: &Palette,
) -> Result<Svg, PlotError> {
    let series: Vec<Series> = match curves {
        [curve] => vec![
            of(curve, "p99.9", |point| point.p99_9_us).stroke(Stroke::Dotted),
            of(curve, "p99", |point| point.p99_us),
            of(curve, "p50", |point| point.p50_us).stroke(Stroke::Dashed),
        ],
        curves => curves
            .iter()
            .map(|curve| of(curve, &among_several(curve), |point| point.p99_us))
            .collect(),
    };
    let loads = curves.iter().flat_map(|curve| &curve.points);
    let plot = LinePlot {
        title: title.to_owned(),
        x: Axis::for_values(
            "offered load, records/s",
            loads.map(|point| point.offered_per_s),
        ),
        y: Axis::log("latency, µs"),
        series,
        marks: curves
            .iter()
            .filter_map(|curve| knee(curve, curves.len() == 1))
            .collect(),
    };
    lines(&plot, palette)
}

fn of(curve: &LoadCurve, percentile: &str, us: impl Fn(&LoadPoint) -> f64) -> Series {
    let points = curve
        .points
        .iter()
        .map(|point| (point.offered_per_s, us(point)));
    Series::new(format!("{} {percentile}", curve.name), points.collect())
        .colour_of(curve.name.clone())
}

/// Texts beside several knees would cover each other: the legend says where they are.
fn among_several(curve: &LoadCurve) -> String {
    match curve.knee_per_s {
        Some(knee) => format!("p99, knee at {}", number(knee)),
        None => "p99".to_owned(),
    }
}

fn knee(curve: &LoadCurve, alone: bool) -> Option<Mark> {
    let x = curve.knee_per_s?;
    Some(Mark {
        text: if alone {
            format!("knee {}", number(x))
        } else {
            String::new()
        },
        x,
        colour_of: curve.name.clone(),
    })
}
