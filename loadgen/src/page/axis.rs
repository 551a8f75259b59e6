//! Where an axis begins and ends, where its ticks are, and what they say.

/// How values lie along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from zero.
    Linear,
    /// Each factor as wide as the next. Values at or below zero are not drawn.
    Log,
    /// Percentiles by their distance from 100: p90, p99 and p99.9 are equally far apart. p100 is not drawn.
    Nines,
}

/// An axis: what it says and how values lie along it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// What is measured, and its unit.
    pub label: String,
    /// How values lie.
    pub scale: Scale,
}

/// The place and the text of a tick.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) text: String,
}

/// An axis laid out for its values. Places are in the scale's own units, evenly.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) ticks: Vec<Tick>,
}

/// What is larger than this was not measured, and its digits would have no room.
const VALUE_MAX: f64 = 1e15;
/// About so many ticks have room.
const TICKS: f64 = 5.0;
/// More decades than these get a tick at every second or third of them.
const DECADES_MAX: i32 = 6;
/// The percentiles that have a tick.
const PERCENTILES: [(f64, &str); 6] = [
    (50.0, "p50"),
    (90.0, "p90"),
    (99.0, "p99"),
    (99.9, "p99.9"),
    (99.99, "p99.99"),
    (99.999, "p99.999"),
];

impl Axis {
    /// An even axis from zero.
    #[must_use]
    pub fn linear(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            scale: Scale::Linear,
        }
    }

    /// A logarithmic axis.
    #[must_use]
    pub fn log(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            scale: Scale::Log,
        }
    }

    /// A logarithmic axis if the values span a factor of 20 or more, an even one from zero otherwise.
    #[must_use]
    pub fn for_values(label: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = values
            .into_iter()
            .filter(|value| value.is_finite() && *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if high >= 20.0 * low {
            Self::log(label)
        } else {
            Self::linear(label)
        }
    }

    /// The axis for these values; those that have no place are passed over.
    pub(super) fn layout(&self, values: impl IntoIterator<Item = f64>) -> Layout {
        let places = values
            .into_iter()
            .filter_map(|value| self.scale.place(value));
        let (low, high) = places.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), place| {
            (low.min(place), high.max(place))
        });
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        match self.scale {
            Scale::Linear => linear(low, high),
            Scale::Log => log(low, high),
            Scale::Nines => nines(high),
        }
    }
}

impl Scale {
    /// Where a value lies, or `None` when it has no place.
    pub(super) fn place(self, value: f64) -> Option<f64> {
        let place = match self {
            Self::Linear => value,
            Self::Log => value.log10(),
            Self::Nines => -(1.0 - value / 100.0).log10(),
        };
        (value.abs() <= VALUE_MAX && place.is_finite()).then_some(place)
    }
}

/// From zero, or from below it when there are negative values, to a tick at or above the largest.
fn linear(low: f64, high: f64) -> Layout {
    let low = low.min(0.0);
    let span = if high > low { high - low } else { 1.0 };
    let step = round_step(span / TICKS);
    let from = (low / step).floor();
    // A value a hair above a tick by rounding needs no further one.
    let to = ((low + span) / step - 1e-9).ceil();
    let ticks = (from as i64..=to as i64).map(|index| {
        let at = index as f64 * step;
        Tick {
            at,
            text: number(at),
        }
    });
    Layout {
        from: from * step,
        to: to * step,
        ticks: ticks.collect(),
    }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let decade = 10.0_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * decade)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * decade)
}

/// From a tick at or below the lowest to one at or above the highest: at 1, 2 and 5 of each decade when there are few decades, else at decades.
fn log(low: f64, high: f64) -> Layout {
    let few = high - low < 1.6;
    let steps: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let every = (((high - low).ceil() as i32) / DECADES_MAX + 1).max(1);
    let (first, last) = (low.floor() as i32 - every, high.ceil() as i32 + every);
    let all: Vec<Tick> = (first..=last)
        .filter(|decade| decade.rem_euclid(every) == 0)
        .flat_map(|decade| {
            steps.iter().map(move |step| {
                let value = step * 10.0_f64.powi(decade);
                Tick {
                    at: value.log10(),
                    text: number(value),
                }
            })
        })
        .collect();
    let last_at = |below: f64| all.iter().rposition(|tick| tick.at <= below + 1e-9);
    let first_at = |above: f64| all.iter().position(|tick| tick.at >= above - 1e-9);
    let from = last_at(low).unwrap_or(0);
    let to = first_at(high).unwrap_or(all.len() - 1).max(from + 1);
    let ticks: Vec<Tick> = all.into_iter().take(to + 1).skip(from).collect();
    Layout {
        from: ticks.first().map_or(low, |tick| tick.at),
        to: ticks.last().map_or(high, |tick| tick.at),
        ticks,
    }
}

/// From p0, at least to p99.
fn nines(high: f64) -> Layout {
    let ticks: Vec<Tick> = PERCENTILES
        .into_iter()
        .filter_map(|(percentile, text)| {
            let at = Scale::Nines.place(percentile)?;
            (at <= high.max(2.0) + 1e-6).then(|| Tick {
                at,
                text: text.to_owned(),
            })
        })
        .collect();
    Layout {
        from: 0.0,
        to: high.max(2.0),
        ticks,
    }
}

/// A number for people: thousands separated, and no more digits behind the point than tell it apart.
#[must_use]
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let size = value.abs();
    let digits = match size {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        // Two digits that say something.
        size => (1 - size.log10().floor() as i32).clamp(2, 9) as usize,
    };
    let text = format!("{size:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut grouped = String::with_capacity(text.len() * 4 / 3 + 1);
    if value < 0.0 && (fraction != "" || whole != "0") {
        grouped.push('-');
    }
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if !fraction.is_empty() {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(layout: &Layout) -> Vec<&str> {
        layout.ticks.iter().map(|tick| tick.text.as_str()).collect()
    }

    #[test]
    fn numbers_have_separators_and_as_many_digits_as_say_something() {
        assert_eq!(
            [
                0.0,
                1.5,
                0.05,
                0.0123,
                12.34,
                100.0,
                1234.6,
                1_234_567.0,
                -1500.0,
                2.0
            ]
            .map(number),
            [
                "0",
                "1.5",
                "0.05",
                "0.012",
                "12.3",
                "100",
                "1,235",
                "1,234,567",
                "-1,500",
                "2"
            ]
        );
        assert_eq!(number(f64::NAN), "-");
    }

    #[test]
    fn an_even_axis_begins_at_zero() {
        let layout = Axis::linear("records/s").layout([180_000.0, 234_212.0]);
        assert_eq!(
            texts(&layout),
            ["0", "50,000", "100,000", "150,000", "200,000", "250,000"]
        );
    }

    #[test]
    fn a_logarithmic_axis_over_several_decades_has_a_tick_at_each() {
        let layout = Axis::log("us").layout([85.0, 42_000.0]);
        assert_eq!(texts(&layout), ["10", "100", "1,000", "10,000", "100,000"]);
    }

    #[test]
    fn a_logarithmic_axis_over_less_than_a_decade_has_ticks_between() {
        let layout = Axis::log("us").layout([460.0, 2_400.0]);
        assert_eq!(texts(&layout), ["200", "500", "1,000", "2,000", "5,000"]);
    }

    #[test]
    fn percentiles_are_equally_far_apart_by_their_nines() {
        let place = |percentile| Scale::Nines.place(percentile).unwrap();
        assert!((place(99.0) - 2.0 * place(90.0)).abs() < 1e-9);
        assert_eq!(Scale::Nines.place(100.0), None);
        let layout = Axis {
            label: String::new(),
            scale: Scale::Nines,
        }
        .layout([0.0, 50.0, 99.99]);
        assert_eq!(texts(&layout), ["p50", "p90", "p99", "p99.9", "p99.99"]);
    }

    #[test]
    fn values_far_apart_get_a_logarithmic_axis() {
        assert_eq!(Axis::for_values("", [1_000.0, 200_000.0]).scale, Scale::Log);
        assert_eq!(
            Axis::for_values("", [1_000.0, 4_000.0]).scale,
            Scale::Linear
        );
        assert_eq!(
            Axis::for_values("", [0.0, f64::NAN, 10.0]).scale,
            Scale::Linear
        );
    }

    proptest! {
        #[test]
        fn every_value_lies_on_its_axis_between_few_ticks(
            exponents in prop::collection::vec(-6.0..12.0_f64, 1..20),
            scale in prop::sample::select(vec![Scale::Linear, Scale::Log]),
        ) {
            let values: Vec<f64> = exponents.into_iter().map(|exponent| 10.0_f64.powf(exponent)).collect();
            let layout = Axis { label: String::new(), scale }.layout(values.iter().copied());
            for value in &values {
                let place = scale.place(*value).unwrap();
                prop_assert!(layout.from <= place + 1e-6 && place <= layout.to * (1.0 + 1e-6) + 1e-6, "{} outside of {:?}", value, layout);
            }
            prop_assert!((2..=9).contains(&layout.ticks.len()), "{:?}", layout);
            prop_assert!(layout.ticks.windows(2).all(|two| two[0].at < two[1].at && two[0].text != two[1].text), "{:?}", layout);
        }

        #[test]
        fn an_axis_of_nothing_or_of_one_value_has_a_length(value in prop::option::of(0.0..1e9_f64)) {
            for scale in [Scale::Linear, Scale::Log, Scale::Nines] {
                let layout = Axis { label: String::new(), scale }.layout(value);
                prop_assert!(layout.from < layout.to, "{:?}", layout);
            }
        }
    }
}
