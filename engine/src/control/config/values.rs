//! How values are written: sizes as `"64 MiB"`, durations as `"7 days"`, both as bare integers too.

use std::fmt;

use gannet_wire::frame::Durability;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::limits::{GIB, KIB, MIB, TIB};

/// A value that the broker may choose by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto<T> {
    /// The broker chooses: see the key's documentation for the rule.
    Auto,
    /// Exactly this.
    Fixed(T),
}

impl<T> Auto<T> {
    /// The fixed value, if it is one.
    pub fn fixed(self) -> Option<T> {
        match self {
            Self::Auto => None,
            Self::Fixed(value) => Some(value),
        }
    }
}

/// Reads `"64 MiB"`, `"1 GB"` or `"4096"` as a number of bytes. The error says what was expected.
///
/// # Errors
/// When it is not a whole number followed by a known unit, or does not fit.
pub fn parse_bytes(text: &str) -> Result<i64, String> {
    parse_quantity(text, |unit| match unit {
        "" | "B" | "byte" | "bytes" => Some(1),
        "KiB" => Some(KIB),
        "MiB" => Some(MIB),
        "GiB" => Some(GIB),
        "TiB" => Some(TIB),
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "TB" => Some(1_000_000_000_000),
        _ => None,
    })
    .ok_or_else(|| format!("`{text}` is not a size: write bytes, or a whole number with KiB, MiB, GiB or TiB, such as \"64 MiB\""))
}

/// Reads `"10 ms"`, `"7 days"`, `"7d"` or `"250"` as a number of milliseconds. The error says what was expected.
///
/// # Errors
/// When it is not a whole number followed by a known unit, or does not fit.
pub fn parse_milliseconds(text: &str) -> Result<i64, String> {
    parse_quantity(text, |unit| match unit {
        "" | "ms" | "millisecond" | "milliseconds" => Some(1),
        "s" | "second" | "seconds" => Some(1_000),
        "m" | "min" | "minute" | "minutes" => Some(60_000),
        "h" | "hour" | "hours" => Some(3_600_000),
        "d" | "day" | "days" => Some(86_400_000),
        "w" | "week" | "weeks" => Some(604_800_000),
        _ => None,
    })
    .ok_or_else(|| {
        format!("`{text}` is not a duration: write milliseconds, or a whole number with ms, s, min, h or days, such as \"10 s\"")
    })
}

/// Reads `"0,2,4-7"` as processor numbers, in the order given.
///
/// # Errors
/// When it is not a list of numbers and ranges.
pub fn parse_cores(text: &str) -> Result<Vec<u16>, String> {
    let wrong = || {
        format!(
            "`{text}` is not a list of cores: write \"auto\", or numbers and ranges such as \"0,2,4-7\""
        )
    };
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u16 = first.trim().parse().map_err(|_| wrong())?;
        let last: u16 = last.trim().parse().map_err(|_| wrong())?;
        if first > last {
            return Err(wrong());
        }
        cores.extend(first..=last);
    }
    Ok(cores)
}

fn parse_quantity(text: &str, multiplier: impl Fn(&str) -> Option<u64>) -> Option<i64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.replace('_', "").parse().ok()?;
    let value = number.checked_mul(multiplier(unit.trim())?)?;
    i64::try_from(value).ok()
}

/// What a TOML integer or string may become: the integer as it is, the text through `parse`.
struct NumberOrText {
    expected: &'static str,
    parse: fn(&str) -> Result<i64, String>,
}

impl Visitor<'_> for NumberOrText {
    type Value = i64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.expected)
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
        i64::try_from(value).map_err(|_| E::custom(format!("{value} is too large")))
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<i64, E> {
        (self.parse)(value).map_err(E::custom)
    }
}

const SIZE: NumberOrText = NumberOrText {
    expected: "a size such as 65536 or \"64 MiB\"",
    parse: parse_bytes,
};
const DURATION: NumberOrText = NumberOrText {
    expected: "a duration such as 10000 (milliseconds) or \"10 s\"",
    parse: parse_milliseconds,
};

/// `-1` is how "no limit" is stored, `"none"` how it may be written.
const NONE: i64 = -1;
const SIZE_OR_NONE: NumberOrText = NumberOrText {
    expected: "a size such as \"10 GiB\", or -1 for no limit",
    parse: |text| none_or(text, parse_bytes),
};
const DURATION_OR_NONE: NumberOrText = NumberOrText {
    expected: "a duration such as \"7 days\", or -1 for never",
    parse: |text| none_or(text, parse_milliseconds),
};

fn none_or(text: &str, parse: fn(&str) -> Result<i64, String>) -> Result<i64, String> {
    match text.trim() {
        "none" | "-1" => Ok(NONE),
        other => parse(other),
    }
}

/// Stands outside every legal value: how [`Auto::Auto`] passes through a [`NumberOrText`].
const AUTO: i64 = i64::MIN;
const SIZE_OR_AUTO: NumberOrText = NumberOrText {
    expected: "\"auto\" or a size such as \"64 MiB\"",
    parse: |text| auto_or(text, parse_bytes),
};
const COUNT_OR_AUTO: NumberOrText = NumberOrText {
    expected: "\"auto\" or a number",
    parse: |text| {
        auto_or(text, |text| {
            text.parse()
                .map_err(|_| format!("`{text}` is neither \"auto\" nor a number"))
        })
    },
};

fn auto_or(text: &str, parse: fn(&str) -> Result<i64, String>) -> Result<i64, String> {
    match text.trim() {
        "auto" => Ok(AUTO),
        other => parse(other),
    }
}

fn fit<T: TryFrom<i64>, E: de::Error>(value: i64) -> Result<T, E> {
    T::try_from(value).map_err(|_| {
        E::custom(if value < 0 {
            format!("{value} is negative")
        } else {
            format!("{value} is too large")
        })
    })
}

macro_rules! number_format {
    ($($name:ident: $visitor:expr;)*) => {$(
        pub(super) mod $name {
            use super::*;

            pub(crate) fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
                value.serialize(serializer)
            }
            pub(crate) fn deserialize<'de, T: TryFrom<i64>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
                fit(deserializer.deserialize_any($visitor)?)
            }
        }
    )*};
}

macro_rules! auto_format {
    ($($name:ident: $visitor:expr;)*) => {$(
        pub(super) mod $name {
            use super::*;

            pub(crate) fn serialize<T: Serialize, S: Serializer>(value: &Auto<T>, serializer: S) -> Result<S::Ok, S::Error> {
                match value {
                    Auto::Auto => serializer.serialize_str("auto"),
                    Auto::Fixed(value) => value.serialize(serializer),
                }
            }
            pub(crate) fn deserialize<'de, T: TryFrom<i64>, D: Deserializer<'de>>(deserializer: D) -> Result<Auto<T>, D::Error> {
                Ok(match deserializer.deserialize_any($visitor)? {
                    AUTO => Auto::Auto,
                    value => Auto::Fixed(fit(value)?),
                })
            }
        }
    )*};
}

number_format! {
    bytes: SIZE;
    milliseconds: DURATION;
    bytes_or_none: SIZE_OR_NONE;
    milliseconds_or_none: DURATION_OR_NONE;
}
auto_format! {
    auto_bytes: SIZE_OR_AUTO;
    auto_count: COUNT_OR_AUTO;
}

pub(super) mod auto_cores {
    use super::*;

    struct Cores;

    impl<'de> Visitor<'de> for Cores {
        type Value = Auto<Vec<u16>>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("\"auto\" or a list of cores such as [0, 2]")
        }
        fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
            match value.trim() {
                "auto" => Ok(Auto::Auto),
                list => parse_cores(list).map(Auto::Fixed).map_err(E::custom),
            }
        }
        /// One core, as a number in the environment or on the command line arrives.
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
            Ok(Auto::Fixed(vec![fit(value)?]))
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut cores = Vec::new();
            while let Some(core) = list.next_element::<u16>()? {
                cores.push(core);
            }
            Ok(Auto::Fixed(cores))
        }
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &Auto<Vec<u16>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Auto::Auto => serializer.serialize_str("auto"),
            Auto::Fixed(cores) => cores.serialize(serializer),
        }
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Auto<Vec<u16>>, D::Error> {
        deserializer.deserialize_any(Cores)
    }
}

pub(super) mod address {
    use std::net::SocketAddr;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        value: &SocketAddr,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SocketAddr, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            de::Error::custom(
                "it is not an address and a port, such as 127.0.0.1:7470 or [::]:7470 (a name is not looked up)",
            )
        })
    }
}

pub(super) mod durability {
    use super::*;

    /// How the wire's type, which knows nothing of files, is written in one.
    #[derive(Serialize, Deserialize)]
    #[serde(remote = "Durability", rename_all = "lowercase")]
    enum Written {
        Accepted,
        Durable,
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &Durability,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Written::serialize(value, serializer)
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Durability, D::Error> {
        Written::deserialize(deserializer)
    }
}
