//! When a repository is full, if it goes on as it did: a Theil–Sen line (the median of all slopes between two measurements) over the last 90 days,
//! which a prune or one large backup does not bend, with the slopes between which the true one lies with 90 % as its uncertainty.

use crate::domain::{Timestamp, health::Size};

/// Days that count.
pub const WINDOW_DAYS: i64 = 90;
/// Measurements that a forecast needs, and days that they must span.
pub const LEAST: usize = 7;
const LEAST_DAYS: f64 = 7.0;
/// Most measurements that are compared with each other: more are thinned evenly.
const MOST: usize = 180;
/// A forecast further ahead is none.
const FAR_DAYS: f64 = 3650.0;
/// Days ahead that make an alert.
pub const ALERT_DAYS: i64 = 30;

const DAY_MS: f64 = 86_400_000.0;

/// How a repository grows, in bytes a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Most likely.
    pub daily: f64,
    /// Not less than this, with 95 %.
    pub least: f64,
    /// Not more than this, with 95 %.
    pub most: f64,
}

/// When it is full.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Forecast {
    /// Nothing can be said: so many measurements of [`LEAST`], which must span a week.
    TooEarly {
        /// Measurements within the window.
        have: usize,
    },
    /// It is over the limit now.
    Full,
    /// It does not grow, or so slowly that it takes more than ten years.
    Never(Growth),
    /// It is full at about this time.
    On {
        /// Most likely.
        at: Timestamp,
        /// If it grows as fast as is likely.
        earliest: Timestamp,
        /// If it grows as slowly as is likely; `None`: then never.
        latest: Option<Timestamp>,
        /// How it grows.
        growth: Growth,
    },
}

impl Forecast {
    /// Whether someone should act now.
    #[must_use]
    pub fn is_near(&self, now: Timestamp) -> bool {
        match self {
            Self::Full => true,
            Self::On { at, .. } => *at < now.plus_s(ALERT_DAYS * 86_400),
            Self::TooEarly { .. } | Self::Never(_) => false,
        }
    }
}

/// How the repository grew within the window, where there is enough to tell. `sizes` are in the order of time.
#[must_use]
pub fn growth(sizes: &[Size], now: Timestamp) -> Option<Growth> {
    let points = points(sizes, now);
    let (first, last) = (points.first()?, points.last()?);
    if points.len() < LEAST || last.0 - first.0 < LEAST_DAYS {
        return None;
    }
    let mut slopes = Vec::with_capacity(points.len() * (points.len() - 1) / 2);
    for (i, a) in points.iter().enumerate() {
        for b in &points[i + 1..] {
            if b.0 > a.0 {
                slopes.push((b.1 - a.1) / (b.0 - a.0));
            }
        }
    }
    slopes.sort_unstable_by(f64::total_cmp);
    // Sen's interval: Kendall's variance says how far from the middle the ranks lie that hold the true slope with 90 %.
    let n = points.len() as f64;
    let spread = 1.645 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let pairs = slopes.len() as f64;
    let ranked = |rank: f64| slopes.get((rank.max(0.0) as usize).min(slopes.len() - 1)).copied();
    Some(Growth {
        daily: median(&slopes)?,
        least: ranked(f64::midpoint(pairs, -spread).floor())?,
        most: ranked(f64::midpoint(pairs, spread).ceil())?,
    })
}

/// When `limit` bytes are reached.
#[must_use]
pub fn forecast(sizes: &[Size], limit: u64, now: Timestamp) -> Forecast {
    let Some(last) = sizes.last() else { return Forecast::TooEarly { have: 0 } };
    if last.bytes >= limit {
        return Forecast::Full;
    }
    let Some(growth) = growth(sizes, now) else { return Forecast::TooEarly { have: points(sizes, now).len() } };
    let room = (limit - last.bytes) as f64;
    let when = |daily: f64| {
        let days = room / daily;
        (daily > 0.0 && days < FAR_DAYS).then(|| last.at.plus_s((days * 86_400.0) as i64).max(now))
    };
    match when(growth.daily) {
        Some(at) => {
            Forecast::On { at, earliest: when(growth.most).unwrap_or(at).min(at), latest: when(growth.least), growth }
        }
        None => Forecast::Never(growth),
    }
}

/// Days (before `now` negative) and bytes of the measurements that count.
fn points(sizes: &[Size], now: Timestamp) -> Vec<(f64, f64)> {
    let from = now.plus_s(-WINDOW_DAYS * 86_400);
    let counted: Vec<&Size> = sizes.iter().filter(|size| size.at >= from).collect();
    let step = counted.len().div_ceil(MOST).max(1);
    // From the end, so that the latest is always among them.
    let mut points: Vec<(f64, f64)> = counted
        .iter()
        .rev()
        .step_by(step)
        .map(|size| (-(now.ms_since(size.at) as f64) / DAY_MS, size.bytes as f64))
        .collect();
    points.reverse();
    points
}

fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(sorted.len() / 2 - 1)?, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn now() -> Timestamp {
        Timestamp::from_unix_ms(1_795_248_000_000)
    }

    /// One measurement a day, the last one now.
    fn daily(bytes: impl IntoIterator<Item = u64>) -> Vec<Size> {
        let bytes: Vec<u64> = bytes.into_iter().collect();
        let days = bytes.len() as i64;
        let size = |(day, bytes): (i64, u64)| Size {
            at: now().plus_s((day + 1 - days) * 86_400),
            bytes,
            uncompressed: None,
            restore_size: None,
            snapshots: 1,
            blobs: None,
        };
        (0..).zip(bytes).map(size).collect()
    }

    fn days_ahead(at: Timestamp) -> i64 {
        at.ms_since(now()) / 86_400_000
    }

    #[test]
    fn a_steady_growth_is_full_when_the_room_is_used_up() {
        let sizes = daily((1..=30).map(|day| day * GIB));
        match forecast(&sizes, 50 * GIB, now()) {
            Forecast::On { at, earliest, latest, .. } => {
                assert_eq!((days_ahead(at), days_ahead(earliest), latest.map(days_ahead)), (20, 20, Some(20)));
            }
            other => panic!("{other:?}"),
        }
        assert!(forecast(&sizes, 50 * GIB, now()).is_near(now()));
        assert!(!forecast(&sizes, 100 * GIB, now()).is_near(now()));
    }

    #[test]
    fn one_large_backup_and_one_prune_do_not_bend_the_line() {
        let sizes = daily((1..=60).map(|day| match day {
            20 => 500 * GIB,
            40 => GIB,
            day => (100 + day) * GIB,
        }));
        let Some(growth) = growth(&sizes, now()) else { panic!("enough measurements") };
        assert!((growth.daily / GIB as f64 - 1.0).abs() < 0.02, "{growth:?}");
    }

    #[test]
    fn what_jumps_up_and_down_is_said_with_a_wide_range() {
        let sizes = daily((1..=20).map(|day| (100 + day + day * 7919 % 23) * GIB));
        match forecast(&sizes, 200 * GIB, now()) {
            Forecast::On { at, earliest, latest, .. } => {
                assert!(
                    earliest < at && at > now() && latest.is_none_or(|latest| latest > at),
                    "{earliest} {at} {latest:?}"
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn too_few_measurements_or_too_short_a_time_make_no_forecast() {
        assert_eq!(forecast(&daily((1..=6).map(|day| day * GIB)), 50 * GIB, now()), Forecast::TooEarly { have: 6 });
        let mut hourly = daily((1..=20).map(|day| day * GIB));
        for (hours, size) in (0..).zip(hourly.iter_mut().rev()) {
            size.at = now().plus_s(-3600 * hours);
        }
        assert_eq!(growth(&hourly, now()), None, "20 hours are not a week");
        assert_eq!(forecast(&[], GIB, now()), Forecast::TooEarly { have: 0 });
    }

    #[test]
    fn what_shrinks_is_never_full_and_what_is_over_is_full_now() {
        let sizes = daily((1..=30).map(|day| (40 - day) * GIB));
        assert!(matches!(forecast(&sizes, 50 * GIB, now()), Forecast::Never(_)));
        assert_eq!(forecast(&sizes, 5 * GIB, now()), Forecast::Full);
    }

    #[test]
    fn measurements_of_more_than_90_days_ago_do_not_count() {
        let sizes = daily((1..=200).map(|day| if day <= 109 { 1000 * GIB } else { day * GIB }));
        let Some(growth) = growth(&sizes, now()) else { panic!("enough measurements") };
        assert!((growth.daily / GIB as f64 - 1.0).abs() < 0.01, "{growth:?}");
    }
}
