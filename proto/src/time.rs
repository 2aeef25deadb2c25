//! Points in time as they travel and are stored: milliseconds since the Unix epoch, RFC 3339 UTC with
//! milliseconds in text. This module never asks what time it is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time in milliseconds since 1970-01-01T00:00:00Z, from year 0 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(i64);

const MIN_MS: i64 = -62_167_219_200_000;
const MAX_MS: i64 = 253_402_207_199_999;

impl Timestamp {
    /// From Unix milliseconds; values outside the years 0 to 9999 are brought to the nearest bound.
    #[must_use]
    pub fn from_unix_ms(ms: i64) -> Self {
        Self(ms.clamp(MIN_MS, MAX_MS))
    }

    /// Unix milliseconds.
    #[must_use]
    pub fn unix_ms(self) -> i64 {
        self.0
    }

    /// The same moment as a jiff timestamp.
    #[must_use]
    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// This moment plus `seconds`.
    #[must_use]
    pub fn plus_s(self, seconds: i64) -> Self {
        Self::from_unix_ms(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// Milliseconds from `earlier` to this moment; negative when this one is the earlier.
    #[must_use]
    pub fn ms_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.to_jiff())
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let at: jiff::Timestamp = text.parse()?;
        // Toward the past, so that a moment and its text order the same way.
        Ok(Self::from_unix_ms(at.as_nanosecond().div_euclid(1_000_000).try_into().unwrap_or(MAX_MS)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(|_| E::custom("not an RFC 3339 time such as 2026-11-21T08:00:00.000Z"))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_utc_with_milliseconds() {
        assert_eq!(Timestamp::from_unix_ms(1_795_248_000_000).to_string(), "2026-11-21T08:00:00.000Z");
        assert_eq!(Timestamp::from_unix_ms(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn times_of_other_zones_and_precision_read_as_utc_milliseconds() {
        let at: Timestamp = "2026-11-21T09:00:00.123456789+01:00".parse().unwrap();
        assert_eq!(at.to_string(), "2026-11-21T08:00:00.123Z");
    }

    #[test]
    fn the_bounds_survive_a_round_trip() {
        for ms in [MIN_MS, MAX_MS, i64::MIN, i64::MAX] {
            let at = Timestamp::from_unix_ms(ms);
            assert_eq!(at.to_string().parse::<Timestamp>().unwrap(), at);
        }
    }
}
