//! The report's texts before they are Markdown or a page.

use std::fmt::Write;

use super::spread::Spread;

/// A report.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// Its sections, in order.
    pub sections: Vec<Section>,
}

/// A titled part of it.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Its title.
    pub title: String,
    /// What stands in it, in order.
    pub blocks: Vec<Block>,
}

/// A part of a section.
#[derive(Clone, Debug)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Points.
    List(Vec<String>),
    /// As it is, in a fixed width.
    Code(String),
    /// A table with a head.
    Table(Table),
    /// A plot: drawn in the page, left out of Markdown, where its table stands.
    Lines(LinesOver),
    /// Likewise.
    Bars(SpreadBars),
    /// Likewise.
    Percentiles(Percentiles),
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The columns' names.
    pub head: Vec<String>,
    /// As many cells as columns each.
    pub rows: Vec<Vec<String>>,
}

/// Lines over a common axis.
#[derive(Clone, Debug, PartialEq)]
pub struct LinesOver {
    /// Its title.
    pub title: String,
    /// Below it.
    pub x: String,
    /// Beside it.
    pub y: String,
    /// Whether steps to the right multiply.
    pub x_is_logarithmic: bool,
    /// Names with their points.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// A bar for each of several brokers.
#[derive(Clone, Debug, PartialEq)]
pub struct SpreadBars {
    /// Its title.
    pub title: String,
    /// What is measured, and its unit.
    pub unit: String,
    /// Names with their figures.
    pub bars: Vec<(String, Spread)>,
}

/// Latencies by percentile.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentiles {
    /// Its title.
    pub title: String,
    /// Names with percentiles and microseconds.
    pub curves: Vec<(String, Vec<(f64, f64)>)>,
}

impl Section {
    /// An empty one.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            blocks: Vec::new(),
        }
    }

    /// With a paragraph at its end.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Self {
        self.block(Block::Text(text.into()))
    }

    /// With points at its end.
    #[must_use]
    pub fn list(self, points: Vec<String>) -> Self {
        self.block(Block::List(points))
    }

    /// With a table at its end.
    #[must_use]
    pub fn table(self, head: &[&str], rows: Vec<Vec<String>>) -> Self {
        self.block(Block::Table(Table {
            head: head.iter().map(|&name| name.to_owned()).collect(),
            rows,
        }))
    }

    /// With anything at its end.
    #[must_use]
    pub fn block(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }
}

impl Document {
    /// As Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        self.write(&mut text)
            .expect("writing to a string does not fail");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "# {}", self.title)?;
        for section in &self.sections {
            writeln!(text, "\n## {}", section.title)?;
            for block in &section.blocks {
                match block {
                    Block::Text(paragraph) => writeln!(text, "\n{paragraph}")?,
                    Block::List(points) => {
                        writeln!(text)?;
                        for point in points {
                            writeln!(text, "- {point}")?;
                        }
                    }
                    Block::Code(code) => writeln!(text, "\n```\n{}\n```", code.trim_end())?,
                    Block::Table(table) => write_table(text, table)?,
                    Block::Lines(_) | Block::Bars(_) | Block::Percentiles(_) => {}
                }
            }
        }
        Ok(())
    }
}

fn write_table(text: &mut String, table: &Table) -> std::fmt::Result {
    let cells = |cells: &[String]| -> String {
        // A line is a row, whatever a cell says.
        let cell = |cell: &String| cell.replace('|', "\\|").replace('\n', " ");
        let cells: Vec<_> = cells.iter().map(cell).collect();
        format!("| {} |", cells.join(" | "))
    };
    writeln!(text, "\n{}", cells(&table.head))?;
    writeln!(text, "|{}", "---|".repeat(table.head.len()))?;
    for row in &table.rows {
        writeln!(text, "{}", cells(row))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_markdown() {
        let section = Section::new("Figures")
            .text("Of today.")
            .table(&["what", "a|b"], vec![vec!["x".to_owned(), "1".to_owned()]])
            .list(vec!["one".to_owned()]);
        let document = Document {
            title: "Race".to_owned(),
            sections: vec![section],
        };
        assert_eq!(
            document.markdown(),
            "# Race\n\n## Figures\n\nOf today.\n\n| what | a\\|b |\n|---|---|\n| x | 1 |\n\n- one\n"
        );
    }
}
