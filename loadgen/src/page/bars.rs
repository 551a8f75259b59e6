//! Bars with a spread.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::{Axis, Layout, Scale, number};
use super::canvas::{
    Area, CHARACTER, DrawError, Frame, GRID, INK, PlotError, Svg, WIDTH, write_text,
};
use super::palette::Palette;

/// A bar's name stands above it, so that it may be long.
const ROW: u32 = 44;
const NAME: i32 = 18;
const BAR: i32 = 16;
const LEFT: i32 = 8;
const RIGHT: i32 = 36;
const TICKS: u32 = 24;

/// One of several measured things.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// The lowest of its rounds.
    pub min: f64,
    /// The median of its rounds; the bar ends here.
    pub median: f64,
    /// The highest of its rounds.
    pub max: f64,
}

/// Bars, one under the other.
#[derive(Clone, Debug, PartialEq)]
pub struct BarPlot {
    /// What is shown.
    pub title: String,
    /// What is measured, and its unit.
    pub label: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

impl Bar {
    /// The spread of what several rounds measured; `None` without any.
    pub fn of_rounds(
        name: impl Into<String>,
        rounds: impl IntoIterator<Item = f64>,
    ) -> Option<Self> {
        let mut rounds: Vec<f64> = rounds
            .into_iter()
            .filter(|value| Scale::Linear.place(*value).is_some())
            .collect();
        rounds.sort_by(f64::total_cmp);
        let (min, max) = (*rounds.first()?, *rounds.last()?);
        let low = *rounds.get((rounds.len() - 1) / 2)?;
        let high = *rounds.get(rounds.len() / 2)?;
        Some(Self {
            name: name.into(),
            min,
            median: f64::midpoint(low, high),
            max,
        })
    }

    /// What stands behind the name.
    fn text(&self) -> String {
        if self.min < self.max {
            format!(
                "{}   ({} to {})",
                number(self.median),
                number(self.min),
                number(self.max)
            )
        } else {
            number(self.median)
        }
    }
}

/// The plot: a bar to the median, a line from the lowest to the highest round.
///
/// # Errors
/// [`PlotError`] when plotters cannot draw it.
pub fn bars(plot: &BarPlot, palette: &Palette) -> Result<Svg, PlotError> {
    let frame = Frame {
        title: &plot.title,
        y_label: "",
        x_label: &plot.label,
        legend: Vec::new(),
    };
    let height = plot.bars.len() as u32 * ROW + TICKS;
    frame.draw(height, |area| paint(area, plot, palette))
}

fn paint(area: &Area<'_>, plot: &BarPlot, palette: &Palette) -> Result<(), DrawError> {
    let axis = Axis::linear("");
    let layout = axis.layout(
        plot.bars
            .iter()
            .flat_map(|bar| [bar.min, bar.median, bar.max]),
    );
    let bottom = (plot.bars.len() as u32 * ROW) as i32;
    for tick in &layout.ticks {
        let x = x_of(&layout, tick.at);
        area.draw(&PathElement::new(vec![(x, 0), (x, bottom)], GRID))?;
        write_text(area, &tick.text, (x, bottom + 3), HPos::Center)?;
    }
    let begin = x_of(&layout, 0.0);
    for (bar, row) in plot.bars.iter().zip(0..) {
        let top = row * ROW as i32;
        let hue = palette.hue(&bar.name);
        let (name, text) = (&bar.name, bar.text());
        // A name that would run into the figures gives way.
        let room = (f64::from(WIDTH as i32 - LEFT - RIGHT)) / CHARACTER
            - text.chars().count() as f64
            - 3.0;
        write_text(
            area,
            &shortened(name, room as usize),
            (LEFT + 4, top),
            HPos::Left,
        )?;
        write_text(area, &text, (WIDTH as i32 - RIGHT, top), HPos::Right)?;
        if [bar.min, bar.median, bar.max]
            .into_iter()
            .any(|value| Scale::Linear.place(value).is_none())
        {
            continue;
        }
        let (from, to) = (top + NAME, top + NAME + BAR);
        area.draw(&Rectangle::new(
            [(begin, from), (x_of(&layout, bar.median), to)],
            hue.light.filled(),
        ))?;
        if bar.min < bar.max {
            let middle = i32::midpoint(from, to);
            let (left, right) = (x_of(&layout, bar.min), x_of(&layout, bar.max));
            for line in [
                [(left, middle), (right, middle)],
                [(left, from + 3), (left, to - 3)],
                [(right, from + 3), (right, to - 3)],
            ] {
                area.draw(&PathElement::new(line.to_vec(), INK.stroke_width(2)))?;
            }
        }
    }
    area.draw(&PathElement::new(vec![(begin, 0), (begin, bottom)], INK))
}

fn x_of(layout: &Layout, value: f64) -> i32 {
    let width = f64::from(WIDTH as i32 - LEFT - RIGHT);
    let share = (value - layout.from) / (layout.to - layout.from);
    LEFT + (share * width).round() as i32
}

fn shortened(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    let mut short: String = name.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_ends_at_the_median_of_its_rounds() {
        let bar = Bar::of_rounds("a", [3.0, 1.0, 2.0, 10.0]).unwrap();
        assert_eq!((bar.min, bar.median, bar.max), (1.0, 2.5, 10.0));
        assert_eq!(Bar::of_rounds("a", [f64::NAN]), None);
    }

    #[test]
    fn a_name_that_is_too_long_says_that_it_was_cut() {
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("abcd", 4), "abcd");
    }
}
