//! Identities as they travel: ULIDs, one newtype per kind of thing, so that a host can't be passed for a job.
//! Parsing accepts either case (Crockford base 32); printing is always upper case.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ulid::Ulid;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind} id: expected 26 characters of Crockford base 32 (a ULID)")]
pub struct IdError {
    kind: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// The id made of a time and 80 random bits: sorts by creation.
            #[must_use]
            pub fn from_parts(unix_ms: u64, random: u128) -> Self {
                Self(Ulid::from_parts(unix_ms, random))
            }

            /// Its 128 bits: the milliseconds on top, then the random part.
            #[must_use]
            pub fn bits(self) -> u128 {
                self.0.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut buf = [0; ulid::ULID_LEN];
                f.pad(self.0.array_to_str(&mut buf))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let refused = IdError { kind: $kind };
                // The first character carries 3 bits: more would overflow 128 and not come back as the same text.
                match text.as_bytes() {
                    [b'0'..=b'7', ..] if text.len() == ulid::ULID_LEN => {
                        Ulid::from_string(text).map(Self).map_err(|_| refused)
                    }
                    _ => Err(refused),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut buf = [0; ulid::ULID_LEN];
                serializer.serialize_str(self.0.array_to_str(&mut buf))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a ", $kind, " id (ULID)"))
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

id!(
    /// A machine that Flotilla looks after.
    HostId, "host"
);
id!(
    /// One run of one kind of work on one host.
    JobId, "job"
);
id!(
    /// A restic repository.
    RepoId, "repository"
);
id!(
    /// A backup plan: what, where, what to keep.
    PlanId, "plan"
);
id!(
    /// A schedule entry.
    ScheduleId, "schedule"
);
id!(
    /// Something that lives on a host: a web site, an application.
    SiteId, "site"
);
id!(
    /// A question that is asked of a host again and again.
    ProbeId, "probe"
);
id!(
    /// A run of one runbook over many hosts.
    WaveId, "wave"
);
id!(
    /// A person's account.
    UserId, "user"
);
id!(
    /// An API or enrolment token's record (not its secret).
    TokenId, "token"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_in_either_case_and_prints_in_upper_case() {
        let id: JobId = "01jd3k8zqv5c0f8r4x7m2n9abc".parse().unwrap();
        assert_eq!(id.to_string(), "01JD3K8ZQV5C0F8R4X7M2N9ABC");
    }

    #[test]
    fn texts_that_are_no_ulid_are_refused() {
        for bad in ["", "01", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01JD3K8ZQV5C0F8R4X7M2N9AB!", "01JD3K8ZQV5C0F8R4X7M2N9ABCD"]
        {
            assert!(bad.parse::<HostId>().is_err(), "{bad} passed");
        }
    }
}
