//! A page of titled sections: text, tables and plots in one file of HTML.

use std::fmt::Write;

use plotters::style::RGBColor;

use super::canvas::{GRID, INK, Svg, clean};
use super::palette::HUES;

/// How it looks; the colours of the plots are added from the palette.
const STYLE: &str = include_str!("page.css");

/// A page.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    title: String,
    lead: Vec<String>,
    sections: Vec<Section>,
}

/// A titled part of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    title: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Remark(String),
    Table(Table),
    Plot(Svg),
}

/// Rows under a head.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Words, from the left.
    Text(String),
    /// A figure with its unit or without, from the right.
    Figure(String),
    /// A figure that must not be read without the remark.
    Remarked(String, String),
}

impl Page {
    /// A page without anything in it.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            lead: Vec::new(),
            sections: Vec::new(),
        }
    }

    /// Adds a paragraph under the title.
    pub fn lead(&mut self, text: impl Into<String>) -> &mut Self {
        self.lead.push(text.into());
        self
    }

    /// Adds a section.
    pub fn section(&mut self, section: Section) -> &mut Self {
        self.sections.push(section);
        self
    }

    /// The page as one file.
    #[must_use]
    pub fn html(&self) -> String {
        let mut html = String::new();
        self.write(&mut html)
            .expect("writing to a string does not fail");
        html
    }

    fn write(&self, html: &mut String) -> std::fmt::Result {
        let title = escaped(&self.title);
        // The elements are closed and the attributes quoted, so that it is XML too.
        write!(
            html,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <meta name=\"color-scheme\" content=\"light dark\"/>\n\
             <title>{title}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n",
            plot_style()?,
        )?;
        for text in &self.lead {
            writeln!(html, "<p>{}</p>", escaped(text))?;
        }
        if self.sections.len() > 2 {
            html.push_str("<nav><ul>\n");
            for (section, number) in self.sections.iter().zip(1..) {
                writeln!(
                    html,
                    "<li><a href=\"#s{number}\">{}</a></li>",
                    escaped(&section.title)
                )?;
            }
            html.push_str("</ul></nav>\n");
        }
        for (section, number) in self.sections.iter().zip(1..) {
            section.write(html, number)?;
        }
        html.push_str("</main>\n</body>\n</html>\n");
        Ok(())
    }
}

impl Section {
    /// A section without anything in it.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            parts: Vec::new(),
        }
    }

    /// Adds a paragraph.
    pub fn text(&mut self, text: impl Into<String>) -> &mut Self {
        self.parts.push(Part::Text(text.into()));
        self
    }

    /// Adds a paragraph that must not be overlooked.
    pub fn remark(&mut self, text: impl Into<String>) -> &mut Self {
        self.parts.push(Part::Remark(text.into()));
        self
    }

    /// Adds a table.
    pub fn table(&mut self, table: Table) -> &mut Self {
        self.parts.push(Part::Table(table));
        self
    }

    /// Adds a plot. Plots that follow each other stand side by side where there is room.
    pub fn plot(&mut self, svg: Svg) -> &mut Self {
        self.parts.push(Part::Plot(svg));
        self
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn write(&self, html: &mut String, number: usize) -> std::fmt::Result {
        writeln!(
            html,
            "<section id=\"s{number}\">\n<h2>{}</h2>",
            escaped(&self.title)
        )?;
        let mut among_plots = false;
        for part in &self.parts {
            let is_plot = matches!(part, Part::Plot(_));
            match (among_plots, is_plot) {
                (false, true) => html.push_str("<div class=\"plots\">\n"),
                (true, false) => html.push_str("</div>\n"),
                _ => {}
            }
            among_plots = is_plot;
            match part {
                Part::Text(text) => writeln!(html, "<p>{}</p>", escaped(text))?,
                Part::Remark(text) => writeln!(html, "<p class=\"remark\">{}</p>", escaped(text))?,
                Part::Table(table) => table.write(html)?,
                Part::Plot(svg) => write!(html, "<figure>\n{}</figure>\n", svg.as_str())?,
            }
        }
        if among_plots {
            html.push_str("</div>\n");
        }
        html.push_str("</section>\n");
        Ok(())
    }
}

impl Table {
    /// A table with these columns.
    pub fn new<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Self {
        Self {
            head: head.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) -> &mut Self {
        self.rows.push(cells);
        self
    }

    fn write(&self, html: &mut String) -> std::fmt::Result {
        // A column's head stands over its figures.
        let class = |column: usize| match self.rows.first().and_then(|row| row.get(column)) {
            Some(Cell::Figure(_) | Cell::Remarked(..)) => " class=\"figure\"",
            _ => "",
        };
        html.push_str("<div class=\"wide\"><table>\n<thead><tr>");
        for (head, column) in self.head.iter().zip(0..) {
            write!(html, "<th{}>{}</th>", class(column), escaped(head))?;
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            html.push_str("<tr>");
            for cell in row {
                match cell {
                    Cell::Text(text) => write!(html, "<td>{}</td>", escaped(text))?,
                    Cell::Figure(text) => {
                        write!(html, "<td class=\"figure\">{}</td>", escaped(text))?
                    }
                    Cell::Remarked(text, remark) => write!(
                        html,
                        "<td class=\"figure\">{}<br/><small class=\"remark\">{}</small></td>",
                        escaped(text),
                        escaped(remark)
                    )?,
                }
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody>\n</table></div>\n");
        Ok(())
    }
}

/// Text as HTML and XML show it, in an element or in a quoted attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A plot's colours stand in its attributes, as every viewer of SVG reads them. A page's style comes before those, and so a plot follows the page into the dark.
fn plot_style() -> Result<String, std::fmt::Error> {
    let mut style = String::new();
    write_colour(&mut style, INK, "var(--text)")?;
    write_colour(&mut style, GRID, "var(--line)")?;
    writeln!(style, "@media (prefers-color-scheme: dark) {{")?;
    for hue in HUES {
        write_colour(&mut style, hue.light, &hex(hue.dark))?;
    }
    writeln!(style, "}}")?;
    Ok(style)
}

fn write_colour(style: &mut String, from: RGBColor, to: &str) -> std::fmt::Result {
    let from = hex(from);
    for attribute in ["fill", "stroke"] {
        writeln!(
            style,
            "svg [{attribute}=\"{from}\"] {{ {attribute}: {to}; }}"
        )?;
    }
    Ok(())
}

/// As plotters writes it.
fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}
