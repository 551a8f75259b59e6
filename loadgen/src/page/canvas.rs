//! What all plots have around them: the title, the names of the axes, the legend; and the way from plotters to an SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::line::Stroke;
use super::palette::{Form, Hue};

/// As wide as a phone: on a desktop a plot is enlarged, and its text stays legible on both.
pub(super) const WIDTH: u32 = 480;
/// Text and axes; a page draws them in its own colour of text.
pub(super) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// The lines behind.
pub(super) const GRID: RGBColor = RGBColor(0xD8, 0xD8, 0xD8);

const TITLE_LINE: u32 = 21;
const LINE: u32 = 18;
const MARGIN: u32 = 6;
/// plotters gives an SVG a font of this size divided by 1.24.
const TITLE_SIZE: f64 = 19.0;
pub(super) const TEXT_SIZE: f64 = 15.5;
/// About so wide is a character, in pixels of the plot.
const TITLE_CHARACTER: f64 = 8.6;
pub(super) const CHARACTER: f64 = 6.6;
/// A legend's names begin behind the sample of their line.
const SAMPLE: i32 = 34;

/// An SVG document of one plot, well-formed, every text in it escaped. Only this module makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Svg(String);

impl Svg {
    /// The document, to be put into HTML or into a file of its own.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why there is no plot: plotters could not draw it.
#[derive(Debug, thiserror::Error)]
#[error("the plot {title:?} could not be drawn: {source}")]
pub struct PlotError {
    title: String,
    source: DrawError,
}

pub(super) type DrawError = DrawingAreaErrorKind<std::io::Error>;
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// An entry of a legend.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) hue: Hue,
    pub(super) form: Form,
    pub(super) stroke: Stroke,
}

/// What stands around a plot.
#[derive(Clone, Debug)]
pub(super) struct Frame<'a> {
    pub(super) title: &'a str,
    /// Stands above the axis, where it can be read without turning one's head.
    pub(super) y_label: &'a str,
    pub(super) x_label: &'a str,
    pub(super) legend: Vec<Entry>,
}

impl Frame<'_> {
    /// Draws the frame around what `paint` draws in an area of that height.
    pub(super) fn draw(
        &self,
        height: u32,
        paint: impl FnOnce(&Area<'_>) -> Result<(), DrawError>,
    ) -> Result<Svg, PlotError> {
        let mut text = String::new();
        self.draw_into(&mut text, height, paint)
            .map_err(|source| PlotError {
                title: self.title.to_owned(),
                source,
            })?;
        Ok(Svg(with_title(&text, &clean(self.title))))
    }

    fn draw_into(
        &self,
        text: &mut String,
        height: u32,
        paint: impl FnOnce(&Area<'_>) -> Result<(), DrawError>,
    ) -> Result<(), DrawError> {
        let title = wrapped(self.title, f64::from(WIDTH - 2 * MARGIN) / TITLE_CHARACTER);
        let legend = Legend::of(&self.legend);
        let top = MARGIN + title.len() as u32 * TITLE_LINE + rows(self.y_label) * LINE;
        let below = rows(self.x_label) * LINE;
        let total = top + height + below + legend.rows * LINE + MARGIN;
        let root = SVGBackend::with_string(text, (WIDTH, total)).into_drawing_area();

        let (margin, centre) = (MARGIN as i32, WIDTH as i32 / 2);
        let mut y = margin;
        for line in &title {
            write(
                &root,
                line,
                (margin, y),
                TITLE_SIZE,
                FontStyle::Bold,
                HPos::Left,
            )?;
            y += TITLE_LINE as i32;
        }
        write_text(&root, self.y_label, (margin, y), HPos::Left)?;
        let (_, rest) = root.split_vertically(top);
        let (middle, foot) = rest.split_vertically(height);
        paint(&middle)?;
        write_text(&foot, self.x_label, (centre, 0), HPos::Center)?;
        let (_, legend_area) = foot.split_vertically(below);
        legend.draw(&legend_area)?;
        root.present()
    }
}

fn rows(label: &str) -> u32 {
    u32::from(!label.is_empty())
}

/// Where the entries of a legend stand: in two columns when all are short.
struct Legend<'a> {
    entries: Vec<(&'a Entry, Vec<String>)>,
    columns: usize,
    rows: u32,
}

impl<'a> Legend<'a> {
    fn of(entries: &'a [Entry]) -> Self {
        let room = |columns: u32| {
            let width = (WIDTH - 2 * MARGIN) / columns - SAMPLE as u32;
            f64::from(width) / CHARACTER
        };
        let longest = entries
            .iter()
            .map(|entry| entry.name.chars().count())
            .max()
            .unwrap_or(0);
        let columns = if longest as f64 <= room(2) { 2 } else { 1 };
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| (entry, wrapped(&entry.name, room(columns))))
            .collect();
        let rows = match columns {
            2 => entries.len().div_ceil(2),
            _ => entries.iter().map(|(_, lines)| lines.len()).sum(),
        };
        Self {
            entries,
            columns: columns as usize,
            rows: rows as u32,
        }
    }

    fn draw(&self, area: &Area<'_>) -> Result<(), DrawError> {
        let column_width = (WIDTH - 2 * MARGIN) as usize / self.columns;
        let mut row = 0;
        for (index, (entry, lines)) in self.entries.iter().enumerate() {
            let column = index % self.columns;
            let x = MARGIN as i32 + (column * column_width) as i32;
            let middle = row * LINE as i32 + LINE as i32 / 2;
            let line = vec![(x, middle), (x + SAMPLE - 8, middle)];
            entry.stroke.draw(area, line, entry.hue)?;
            entry
                .form
                .draw(area, (x + (SAMPLE - 8) / 2, middle), entry.hue)?;
            for (line, offset) in lines.iter().zip(0..) {
                let at = (x + SAMPLE, (row + offset) * LINE as i32 + 1);
                write_text(area, line, at, HPos::Left)?;
            }
            if column + 1 == self.columns {
                row += lines.len() as i32;
            }
        }
        Ok(())
    }
}

impl Form {
    /// Draws the mark at a place.
    pub(super) fn draw(
        self,
        area: &Area<'_>,
        (x, y): (i32, i32),
        hue: Hue,
    ) -> Result<(), DrawError> {
        let style = hue.light.filled();
        let corners = |corners: &[(i32, i32)]| {
            let corners = corners.iter().map(|(right, down)| (x + right, y + down));
            Polygon::new(corners.collect::<Vec<_>>(), style)
        };
        match self {
            Self::Circle => area.draw(&Circle::new((x, y), 3, style)),
            Self::Square => area.draw(&corners(&[(-3, -3), (3, -3), (3, 3), (-3, 3)])),
            Self::Triangle => area.draw(&corners(&[(0, -4), (4, 3), (-4, 3)])),
            Self::Diamond => area.draw(&corners(&[(0, -5), (4, 0), (0, 5), (-4, 0)])),
            Self::Cross => area.draw(&Cross::new((x, y), 3, hue.light.stroke_width(2))),
        }
    }
}

/// Ordinary text, its upper edge at that place.
pub(super) fn write_text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    side: HPos,
) -> Result<(), DrawError> {
    write(area, text, at, TEXT_SIZE, FontStyle::Normal, side)
}

fn write(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: f64,
    font: FontStyle,
    side: HPos,
) -> Result<(), DrawError> {
    if text.is_empty() {
        return Ok(());
    }
    let style = TextStyle::from(("sans-serif", size, font).into_font())
        .color(&INK)
        .pos(Pos::new(side, VPos::Top));
    area.draw(&Text::new(clean(text), at, style))
}

/// Characters that no XML may hold, and those that would break a line, become spaces.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => ' ',
            c => c,
        })
        .collect()
}

/// Lines of at most about so many characters, broken at spaces where there are some.
fn wrapped(text: &str, characters: f64) -> Vec<String> {
    let most = (characters as usize).max(1);
    let mut lines: Vec<String> = Vec::new();
    for word in clean(text).split_whitespace() {
        let word: Vec<char> = word.chars().collect();
        for part in word.chunks(most) {
            match lines.last_mut() {
                Some(line) if line.chars().count() + 1 + part.len() <= most => {
                    line.push(' ');
                    line.extend(part);
                }
                _ => lines.push(part.iter().collect()),
            }
        }
    }
    lines
}

/// A title is what a screen reader says of a picture.
fn with_title(svg: &str, title: &str) -> String {
    let title = super::document::escaped(title);
    match svg.split_once(">\n") {
        Some((head, body)) => format!("{head} role=\"img\">\n<title>{title}</title>\n{body}"),
        None => svg.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_breaks_at_spaces_and_a_long_word_anywhere() {
        assert_eq!(wrapped("one two three", 8.0), ["one two", "three"]);
        assert_eq!(wrapped("abcdefgh", 3.0), ["abc", "def", "gh"]);
        assert_eq!(wrapped("", 3.0), Vec::<String>::new());
    }

    #[test]
    fn what_no_xml_may_hold_becomes_a_space() {
        assert_eq!(clean("a\0b\u{ffff}c\nd<&>"), "a b c d<&>");
    }
}
