//! Plots as SVG, and one self-contained HTML page for them: no script, no external file, readable in light and dark, on a phone and on a desktop.
//!
//! A [`Palette`] is made once for a page, of the names of everything that is compared there, and given to every plot: the same name then has the same colour and the same mark in
//! each of them. What is drawn comes from plotters; where the axes end, what they say and which colours there are is decided here, purely, and tested.
//!
//! ```
//! use gannet_loadgen::page::{Axis, LinePlot, Page, Palette, Section, Series, lines};
//!
//! let palette = Palette::new(["one shard", "two shards"]);
//! let plot = lines(
//!     &LinePlot {
//!         title: "Throughput by partitions".to_owned(),
//!         x: Axis::log("partitions"),
//!         y: Axis::linear("records/s"),
//!         series: vec![
//!             Series::new("one shard", vec![(2.0, 230_000.0), (10_000.0, 210_000.0)]),
//!             Series::new("two shards", vec![(2.0, 310_000.0), (10_000.0, 300_000.0)]),
//!         ],
//!         marks: Vec::new(),
//!     },
//!     &palette,
//! )?;
//! let mut section = Section::new("Scale");
//! section.text("Measured with 1,000-byte records.").plot(plot);
//! let mut page = Page::new("A race");
//! page.section(section);
//! assert!(page.html().contains("<svg"));
//! # Ok::<(), gannet_loadgen::page::PlotError>(())
//! ```

mod axis;
mod bars;
mod canvas;
mod document;
mod line;
mod load;
mod palette;
mod percentiles;

pub use axis::{Axis, Scale, number};
pub use bars::{Bar, BarPlot, bars};
pub use canvas::{PlotError, Svg};
pub use document::{Cell, Page, Section, Table};
pub use line::{LinePlot, Mark, Series, Stroke, lines};
pub use load::{LoadCurve, LoadPoint, latency_by_load};
pub use palette::Palette;
pub use percentiles::{PercentileCurve, percentiles};

#[cfg(test)]
mod tests;
