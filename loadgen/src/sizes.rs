//! How large records are: all alike, or drawn from a distribution.

use std::fmt;

use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::parse_bytes;

/// The sizes of records' values, in bytes. In a scenario: `1000`, `"10KiB"`, `{ uniform = [100, "10KiB"] }`, or
/// `{ choices = [{ size = "100", weight = 9 }, { size = "10KiB", weight = 1 }] }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordSizes {
    /// All alike.
    Fixed(usize),
    /// Each size from the first to the last as likely as another.
    Uniform {
        /// The smallest.
        min: usize,
        /// The largest.
        max: usize,
    },
    /// A few sizes, each as often as its weight says.
    Choices(Vec<SizeChoice>),
}

/// One of several sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeChoice {
    /// The size.
    #[serde(deserialize_with = "size")]
    pub size: usize,
    /// How often, against the weights of the others.
    pub weight: u32,
}

impl Default for RecordSizes {
    /// A thousand bytes each.
    fn default() -> Self {
        Self::Fixed(1000)
    }
}

impl RecordSizes {
    /// The size that a random word stands for: words that are evenly spread give sizes that are spread as they should be.
    ///
    /// # Panics
    /// When there is no choice with a weight: the plan of a run has checked that.
    #[must_use]
    #[inline]
    pub fn draw(&self, word: u64) -> usize {
        match self {
            Self::Fixed(size) => *size,
            Self::Uniform { min, max } => min + below(word, (max - min) as u64 + 1) as usize,
            Self::Choices(choices) => {
                let mut point = below(word, weights(choices));
                for choice in choices {
                    match point.checked_sub(choice.weight.into()) {
                        Some(rest) => point = rest,
                        None => return choice.size,
                    }
                }
                unreachable!("the point lies below the sum of the weights");
            }
        }
    }

    /// The smallest size there is.
    #[must_use]
    pub fn min(&self) -> usize {
        match self {
            Self::Fixed(size) => *size,
            Self::Uniform { min, .. } => *min,
            Self::Choices(choices) => choices.iter().map(|choice| choice.size).min().unwrap_or(0),
        }
    }

    /// The largest size there is.
    #[must_use]
    pub fn max(&self) -> usize {
        match self {
            Self::Fixed(size) => *size,
            Self::Uniform { max, .. } => *max,
            Self::Choices(choices) => choices.iter().map(|choice| choice.size).max().unwrap_or(0),
        }
    }

    /// The size to expect.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self {
            Self::Fixed(size) => *size as f64,
            Self::Uniform { min, max } => (*min as f64 + *max as f64) / 2.0,
            Self::Choices(choices) => {
                let weighed = choices
                    .iter()
                    .map(|choice| choice.size as f64 * f64::from(choice.weight));
                weighed.sum::<f64>() / (weights(choices).max(1) as f64)
            }
        }
    }

    /// The size to expect, rounded to whole bytes; never 0.
    #[must_use]
    pub fn mean_bytes(&self) -> usize {
        (self.mean().round() as usize).max(1)
    }

    /// Why these are no sizes, when they are none: what is wrong with them in itself, without a limit of a run.
    ///
    /// # Errors
    /// The rest of a sentence that begins with the key's name.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Uniform { min, max } if min > max => Err(format!(
                "is uniform from {min} to {max}: give the smaller size first"
            )),
            Self::Choices(choices) if weights(choices) == 0 => Err(
                "has no choices: give at least one { size, weight }, with a weight above 0"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for RecordSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Uniform { min, max } => write!(f, "uniform {min} to {max}"),
            Self::Choices(choices) => {
                for (choice, index) in choices.iter().zip(0..) {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{} x {}", choice.weight, choice.size)?;
                }
                Ok(())
            }
        }
    }
}

/// An even spread over 0 to `end`, which is not reached, of words evenly spread over all of theirs.
#[inline]
fn below(word: u64, end: u64) -> u64 {
    ((u128::from(word) * u128::from(end)) >> 64) as u64
}

fn weights(choices: &[SizeChoice]) -> u64 {
    choices.iter().map(|choice| u64::from(choice.weight)).sum()
}

/// A table in the place of a size. One of the keys must be there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Distribution {
    #[serde(skip_serializing_if = "Option::is_none")]
    uniform: Option<[Size; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: Option<Vec<SizeChoice>>,
}

/// A number of bytes, as `1000` or `"10KiB"`.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
struct Size(#[serde(deserialize_with = "size")] usize);

impl Serialize for RecordSizes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (uniform, choices) = match self {
            Self::Fixed(size) => return size.serialize(serializer),
            Self::Uniform { min, max } => (Some([Size(*min), Size(*max)]), None),
            Self::Choices(choices) => (None, Some(choices.clone())),
        };
        Distribution { uniform, choices }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RecordSizes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizesVisitor)
    }
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    deserializer.deserialize_any(SizeVisitor)
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes, such as 1000 or \"10KiB\"")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<usize, E> {
        usize::try_from(bytes).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(bytes), &self))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<usize, E> {
        usize::try_from(bytes).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<usize, E> {
        self.visit_u64(parse_bytes(text).map_err(E::custom)?)
    }
}

struct SizesVisitor;

impl<'de> Visitor<'de> for SizesVisitor {
    type Value = RecordSizes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a number of bytes such as 1000 or \"10KiB\", or { uniform = [min, max] }, or { choices = [{ size, weight }, ...] }",
        )
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<RecordSizes, E> {
        SizeVisitor.visit_u64(bytes).map(RecordSizes::Fixed)
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<RecordSizes, E> {
        SizeVisitor.visit_i64(bytes).map(RecordSizes::Fixed)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RecordSizes, E> {
        SizeVisitor.visit_str(text).map(RecordSizes::Fixed)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RecordSizes, A::Error> {
        let distribution = Distribution::deserialize(MapAccessDeserializer::new(map))?;
        match (distribution.uniform, distribution.choices) {
            (Some([Size(min), Size(max)]), None) => Ok(RecordSizes::Uniform { min, max }),
            (None, Some(choices)) => Ok(RecordSizes::Choices(choices)),
            _ => Err(de::Error::custom(
                "give either `uniform` or `choices` in the table",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn choice(size: usize, weight: u32) -> SizeChoice {
        SizeChoice { size, weight }
    }

    #[test]
    fn a_uniform_size_reaches_both_ends() {
        let sizes = RecordSizes::Uniform { min: 40, max: 44 };
        assert_eq!((sizes.draw(0), sizes.draw(u64::MAX)), (40, 44));
    }

    #[test]
    fn choices_come_as_often_as_their_weights_say() {
        let sizes = RecordSizes::Choices(vec![choice(100, 3), choice(7, 0), choice(200, 1)]);
        let step = u64::MAX / 1000;
        let large = (0..1000)
            .filter(|index| sizes.draw(index * step) == 200)
            .count();
        assert!((249..=251).contains(&large), "{large} of 1000");
        assert!((0..1000).all(|index| sizes.draw(index * step) != 7));
        assert!((sizes.mean() - 125.0).abs() < 1e-9);
    }

    #[test]
    fn what_makes_no_sizes_is_said() {
        let reversed = RecordSizes::Uniform { min: 9, max: 3 };
        assert!(reversed.check().unwrap_err().contains("smaller size first"));
        for none in [vec![], vec![choice(100, 0)]] {
            let error = RecordSizes::Choices(none).check().unwrap_err();
            assert!(error.contains("at least one"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_draw_lies_between_the_smallest_and_the_largest(
            word: u64, min in 0..9_000_usize, more in 0..9_000_usize, weights in prop::collection::vec(1..9_u32, 1..5)
        ) {
            let choices = weights.iter().map(|&weight| choice(min + weight as usize * more, weight));
            for sizes in [
                RecordSizes::Fixed(min),
                RecordSizes::Uniform { min, max: min + more },
                RecordSizes::Choices(choices.collect()),
            ] {
                let drawn = sizes.draw(word);
                prop_assert!((sizes.min()..=sizes.max()).contains(&drawn), "{drawn} of {sizes:?}");
                let mean = sizes.mean();
                prop_assert!(mean >= sizes.min() as f64 && mean <= sizes.max() as f64, "{mean} of {sizes:?}");
            }
        }
    }
}
