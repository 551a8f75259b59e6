//! The general plot: lines over two axes, each even or logarithmic.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::{Axis, Layout, Tick};
use super::canvas::{
    Area, CHARACTER, DrawError, Entry, Frame, GRID, INK, PlotError, Svg, TEXT_SIZE, write_text,
};
use super::palette::{Hue, Palette};

/// How high the axes are, ticks included.
const HEIGHT: u32 = 260;
const LEFT: u32 = 74;
const RIGHT: u32 = 36;
const TOP: u32 = 8;
const BOTTOM: u32 = 27;
/// More points than these do not all get a mark.
const MARKED_MAX: usize = 16;

/// How a line is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stroke {
    /// In one.
    #[default]
    Solid,
    /// With gaps.
    Dashed,
    /// As dots.
    Dotted,
}

/// A named line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// x and y, in the order in which they are joined. What has no place on an axis is left out.
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub stroke: Stroke,
    /// Whose colour it has in the palette, when that is not its own name's.
    pub colour_of: Option<String>,
}

/// A place on the x axis that is marked with a line from top to bottom.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// What it says, beside its line; nothing when the legend says it.
    pub text: String,
    /// Where.
    pub x: f64,
    /// Whose colour it has in the palette.
    pub colour_of: String,
}

/// Lines over two axes.
#[derive(Clone, Debug, PartialEq)]
pub struct LinePlot {
    /// What is shown.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
    /// Marked places.
    pub marks: Vec<Mark>,
}

impl Series {
    /// A solid line in the colour of its name.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points,
            stroke: Stroke::Solid,
            colour_of: None,
        }
    }

    /// The same line drawn otherwise.
    #[must_use]
    pub fn stroke(self, stroke: Stroke) -> Self {
        Self { stroke, ..self }
    }

    /// The same line in the colour of another name.
    #[must_use]
    pub fn colour_of(self, name: impl Into<String>) -> Self {
        Self {
            colour_of: Some(name.into()),
            ..self
        }
    }

    fn colour_name(&self) -> &str {
        self.colour_of.as_deref().unwrap_or(&self.name)
    }
}

/// The plot.
///
/// # Errors
/// [`PlotError`] when plotters cannot draw it.
pub fn lines(plot: &LinePlot, palette: &Palette) -> Result<Svg, PlotError> {
    let frame = Frame {
        title: &plot.title,
        y_label: &plot.y.label,
        x_label: &plot.x.label,
        legend: plot
            .series
            .iter()
            .map(|series| Entry {
                name: series.name.clone(),
                hue: palette.hue(series.colour_name()),
                form: palette.form(series.colour_name()),
                stroke: series.stroke,
            })
            .collect(),
    };
    frame.draw(HEIGHT, |area| paint(area, plot, palette))
}

fn paint(area: &Area<'_>, plot: &LinePlot, palette: &Palette) -> Result<(), DrawError> {
    let placed: Vec<Vec<(f64, f64)>> = plot
        .series
        .iter()
        .map(|series| placed(plot, series))
        .collect();
    let all = || plot.series.iter().flat_map(|series| &series.points);
    let marked = plot.marks.iter().map(|mark| mark.x);
    // A point that is not drawn for one of its values must not stretch the other one's axis.
    let drawn = |point: &&(f64, f64)| place(plot, **point).is_some();
    let x = plot
        .x
        .layout(all().filter(drawn).map(|point| point.0).chain(marked));
    let y = plot.y.layout(all().filter(drawn).map(|point| point.1));
    let mut chart = ChartBuilder::on(area)
        .margin_top(TOP)
        .margin_right(RIGHT)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, BOTTOM)
        .build_cartesian_2d(Coordinate::from(&x), Coordinate::from(&y))?;
    let font = ("sans-serif", TEXT_SIZE).into_font().color(&INK);
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(font)
        .x_label_formatter(&|at| text_at(&x.ticks, *at))
        .y_label_formatter(&|at| text_at(&y.ticks, *at))
        .draw()?;

    let pixel = |point: &(f64, f64)| chart.backend_coord(point);
    let (left, top) = pixel_origin(area);
    let inside = |point: &(f64, f64)| {
        let (x, y) = pixel(point);
        (x - left, y - top)
    };
    for (series, points) in plot.series.iter().zip(&placed) {
        let hue = palette.hue(series.colour_name());
        let form = palette.form(series.colour_name());
        let points: Vec<(i32, i32)> = points.iter().map(inside).collect();
        let every = points.len().div_ceil(MARKED_MAX).max(1);
        for at in points.iter().step_by(every) {
            form.draw(area, *at, hue)?;
        }
        series.stroke.draw(area, points, hue)?;
    }
    for (mark, row) in plot.marks.iter().zip(0..) {
        if let Some(at) = plot.x.scale.place(mark.x) {
            let hue = palette.hue(&mark.colour_of);
            let (x, bottom) = inside(&(at, y.from));
            let (_, top) = inside(&(at, y.to));
            Stroke::Dashed.draw(area, vec![(x, bottom), (x, top)], hue)?;
            write_mark(area, &mark.text, (x, top + 2 + row * 16))?;
        }
    }
    Ok(())
}

/// The text of a mark, on the side of its line where there is room.
fn write_mark(area: &Area<'_>, text: &str, (x, y): (i32, i32)) -> Result<(), DrawError> {
    let width = (text.chars().count() as f64 * CHARACTER) as i32;
    let (right, _) = area.dim_in_pixel();
    if x + width + 6 > right as i32 {
        write_text(area, text, (x - 5, y), HPos::Right)
    } else {
        write_text(area, text, (x + 5, y), HPos::Left)
    }
}

impl Stroke {
    /// Joins places by a line.
    pub(super) fn draw(
        self,
        area: &Area<'_>,
        points: Vec<(i32, i32)>,
        hue: Hue,
    ) -> Result<(), DrawError> {
        let style = hue.light.stroke_width(2);
        match self {
            _ if points.len() < 2 => Ok(()),
            Self::Solid => area.draw(&PathElement::new(points, style)),
            Self::Dashed => area.draw(&DashedPathElement::new(points, 7, 4, style)),
            Self::Dotted => area.draw(&DashedPathElement::new(points, 2, 4, style)),
        }
    }
}

/// Where a point lies, in the units of the scales.
fn place(plot: &LinePlot, (x, y): (f64, f64)) -> Option<(f64, f64)> {
    plot.x.scale.place(x).zip(plot.y.scale.place(y))
}

fn placed(plot: &LinePlot, series: &Series) -> Vec<(f64, f64)> {
    let points = series.points.iter();
    points.filter_map(|point| place(plot, *point)).collect()
}

fn pixel_origin(area: &Area<'_>) -> (i32, i32) {
    let (x, y) = area.get_pixel_range();
    (x.start, y.start)
}

/// An axis as plotters wants it.
struct Coordinate {
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl From<&Layout> for Coordinate {
    fn from(layout: &Layout) -> Self {
        Self {
            from: layout.from,
            to: layout.to,
            ticks: layout.ticks.iter().map(|tick| tick.at).collect(),
        }
    }
}

impl Ranged for Coordinate {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (begin, end): (i32, i32)) -> i32 {
        let share = (value - self.from) / (self.to - self.from);
        begin + (share * f64::from(end - begin)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // There are no lines between the ticks.
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.ticks.clone()
        }
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

fn text_at(ticks: &[Tick], at: f64) -> String {
    ticks
        .iter()
        .find(|tick| (tick.at - at).abs() < 1e-9 * tick.at.abs().max(1.0))
        .map_or_else(String::new, |tick| tick.text.clone())
}
