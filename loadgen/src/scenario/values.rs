//! How a scenario writes sizes, times and rates.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

use crate::units::{parse_bytes, parse_duration};

/// A rate: a number of records a second, or `"max"`.
pub(super) mod rate {
    use super::*;
    use crate::options::Rate;

    pub(in super::super) fn serialize<S: Serializer>(
        rate: &Rate,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match rate {
            Rate::PerSecond(rate) => serializer.serialize_u64(*rate),
            Rate::Max => serializer.serialize_str("max"),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Rate, D::Error> {
        let text = number_or_text(
            deserializer,
            "a number of records a second above 0, or \"max\"",
        )?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A number of bytes: `1000` or `"128KiB"`.
pub(super) mod bytes {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        bytes: &u64,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(*bytes)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u64, D::Error> {
        let text = number_or_text(
            deserializer,
            "a number of bytes, such as 1000 or \"128KiB\"",
        )?;
        parse_bytes(&text).map_err(de::Error::custom)
    }
}

/// A number of bytes above 0, that may be left out.
pub(super) mod room {
    use std::num::NonZeroU64;

    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        bytes: &Option<NonZeroU64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(bytes.map_or(0, NonZeroU64::get))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<NonZeroU64>, D::Error> {
        let bytes = super::bytes::deserialize(deserializer)?;
        match NonZeroU64::new(bytes) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(de::Error::custom("there must be room for something")),
        }
    }
}

/// A time: `"30s"`, `"500ms"`, or a number of seconds.
pub(super) mod time {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        time: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}s", time.as_secs_f64()))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = number_or_text(deserializer, "a time, such as \"30s\" or \"500ms\"")?;
        parse_duration(&text).map_err(de::Error::custom)
    }
}

/// A time that may be left out.
pub(super) mod time_or_none {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        super::time::serialize(&time.unwrap_or_default(), serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        super::time::deserialize(deserializer).map(Some)
    }
}

/// A number, or a text that holds one with its unit.
fn number_or_text<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<String, D::Error> {
    struct NumberOrText(&'static str);

    impl Visitor<'_> for NumberOrText {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
            if number < 0 {
                return Err(E::invalid_value(de::Unexpected::Signed(number), &self));
            }
            Ok(number.to_string())
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
    }

    deserializer.deserialize_any(NumberOrText(expected))
}
