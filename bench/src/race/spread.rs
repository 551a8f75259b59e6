//! A figure over the rounds: its median, and how far it spreads.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Of several measurements of the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one; of an even number the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there were.
    pub rounds: usize,
}

impl Spread {
    /// Of these figures; those that are no numbers are left out. `None` when none is left.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().filter(|x| x.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let upper = sorted.len() / 2;
        let lower = (sorted.len() - 1) / 2;
        let at = |index: usize| sorted.get(index).copied();
        Some(Self {
            median: f64::midpoint(at(lower)?, at(upper)?),
            min,
            max,
            rounds: sorted.len(),
        })
    }

    /// The same in another unit.
    #[must_use]
    pub fn divided_by(self, divisor: f64) -> Self {
        Self {
            median: self.median / divisor,
            min: self.min / divisor,
            max: self.max / divisor,
            rounds: self.rounds,
        }
    }

    /// Written with the same function three times: `median (min..max)`.
    #[must_use]
    pub fn written(&self, write: impl Fn(f64) -> String) -> String {
        if self.rounds == 1 {
            return write(self.median);
        }
        format!(
            "{} ({}..{})",
            write(self.median),
            write(self.min),
            write(self.max)
        )
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(figure))
    }
}

/// With as many digits as say something.
#[must_use]
pub fn figure(number: f64) -> String {
    match number.abs() {
        size if size >= 1000.0 => gannet_loadgen::units::grouped(number.round() as u64),
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        size if size >= 0.01 || size == 0.0 => format!("{number:.2}"),
        _ => format!("{number:.5}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_whatever_the_order() {
        let spread = Spread::of([3.0, 100.0, 1.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (3.0, 1.0, 100.0));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    }

    #[test]
    fn a_division_by_nothing_is_left_out() {
        let spread = Spread::of([1.0, f64::INFINITY, f64::NAN]).unwrap();
        assert_eq!((spread.max, spread.rounds), (1.0, 1));
        assert_eq!(Spread::of([f64::NAN]), None);
    }

    #[test]
    fn a_figure_is_written_with_its_spread() {
        let spread = Spread::of([1234.4, 15.0, 0.126]).unwrap();
        assert_eq!(spread.to_string(), "15.0 (0.13..1,234)");
        assert_eq!(Spread::of([2.0]).unwrap().to_string(), "2.00");
    }
}
