//! The report as a page with its plots.

use gannet_loadgen::page::{
    Axis, Bar, BarPlot, Cell, LinePlot, Page, Palette, PercentileCurve, PlotError, Section, Series,
    Table, bars, lines, percentiles,
};

use super::document::{self, Block, Document};
use super::entrant::{Entrant, Peer};

/// The page, in one file.
///
/// # Errors
/// When a plot cannot be drawn.
pub fn html(document: &Document) -> Result<String, PlotError> {
    // A broker has the same colour in every plot, whoever is missing.
    let brokers = Entrant::of(&Peer::ALL)
        .into_iter()
        .map(|entrant| entrant.to_string());
    let palette = Palette::new(brokers);
    let mut page = Page::new(document.title.clone());
    for section in &document.sections {
        page.section(drawn(section, &palette)?);
    }
    Ok(page.html())
}

fn drawn(section: &document::Section, palette: &Palette) -> Result<Section, PlotError> {
    let mut drawn = Section::new(section.title.clone());
    for block in &section.blocks {
        match block {
            Block::Text(text) => {
                drawn.text(plain(text));
            }
            Block::List(points) => {
                for point in points {
                    drawn.text(format!("• {}", plain(point)));
                }
            }
            Block::Code(code) => {
                for line in code.lines() {
                    drawn.text(line);
                }
            }
            Block::Table(table) => {
                drawn.table(table_of(table));
            }
            Block::Lines(plot) => {
                // Each plot of lines compares its own.
                let names = plot.lines.iter().map(|(name, _)| name.clone());
                let plot = LinePlot {
                    title: plot.title.clone(),
                    x: if plot.x_is_logarithmic {
                        Axis::log(plot.x.clone())
                    } else {
                        Axis::linear(plot.x.clone())
                    },
                    y: Axis::for_values(
                        plot.y.clone(),
                        plot.lines
                            .iter()
                            .flat_map(|(_, points)| points.iter().map(|(_, y)| *y)),
                    ),
                    series: plot
                        .lines
                        .iter()
                        .map(|(name, points)| Series::new(name.clone(), points.clone()))
                        .collect(),
                    marks: Vec::new(),
                };
                drawn.plot(lines(&plot, &Palette::new(names))?);
            }
            Block::Bars(plot) => {
                let bar = |(name, spread): &(String, super::spread::Spread)| Bar {
                    name: name.clone(),
                    min: spread.min,
                    median: spread.median,
                    max: spread.max,
                };
                let plot = BarPlot {
                    title: plot.title.clone(),
                    label: plot.unit.clone(),
                    bars: plot.bars.iter().map(bar).collect(),
                };
                drawn.plot(bars(&plot, palette)?);
            }
            Block::Percentiles(plot) => {
                let curves: Vec<_> = plot
                    .curves
                    .iter()
                    .map(|(name, curve)| PercentileCurve {
                        name: name.clone(),
                        curve: curve.clone(),
                    })
                    .collect();
                drawn.plot(percentiles(&plot.title, &curves, palette)?);
            }
        }
    }
    Ok(drawn)
}

fn table_of(table: &document::Table) -> Table {
    let mut drawn = Table::new(table.head.clone());
    for row in &table.rows {
        let cell = |cell: &String| {
            let text = plain(cell);
            if text.starts_with(|first: char| first.is_ascii_digit()) {
                Cell::Figure(text)
            } else {
                Cell::Text(text)
            }
        };
        drawn.row(row.iter().map(cell).collect());
    }
    drawn
}

/// Without what only Markdown reads.
fn plain(text: &str) -> String {
    text.replace("**", "").replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::super::document::{LinesOver, Percentiles, SpreadBars};
    use super::super::spread::Spread;
    use super::*;

    #[test]
    fn every_kind_of_block_is_in_the_page() {
        let spread = Spread::of([1.0, 3.0]).unwrap();
        let section = document::Section::new("Figures")
            .text("**Mind** this.")
            .list(vec!["one point".to_owned()])
            .table(&["what"], vec![vec!["7 <x>".to_owned()]])
            .block(Block::Code("rate = 1".to_owned()))
            .block(Block::Lines(LinesOver {
                title: "Lines".to_owned(),
                x: "partitions".to_owned(),
                y: "MB/s".to_owned(),
                x_is_logarithmic: true,
                lines: vec![("published".to_owned(), vec![(2.0, 5.0), (100.0, 4.0)])],
            }))
            .block(Block::Bars(SpreadBars {
                title: "Bars".to_owned(),
                unit: "MB/s".to_owned(),
                bars: vec![("Gannet durable".to_owned(), spread)],
            }))
            .block(Block::Percentiles(Percentiles {
                title: "Curves".to_owned(),
                curves: vec![("Kafka default".to_owned(), vec![(50.0, 1.0), (99.0, 9.0)])],
            }));
        let page = html(&Document {
            title: "Race".to_owned(),
            sections: vec![section],
        })
        .unwrap();
        assert_eq!(page.matches("<svg").count(), 3);
        for text in ["Mind this.", "one point", "rate = 1", "7 &lt;x&gt;"] {
            assert!(page.contains(text), "{text:?} is not in the page");
        }
    }
}
