//! Schedules as people say them: "every night between 01:00 and 05:00" is a cron line and a jitter. A preset becomes a schedule and is recognised
//! in one; whatever none of them says is [`Preset::Custom`], so that nothing is lost by being edited.

use std::{fmt, str::FromStr};

use crate::domain::schedule::{MAX_JITTER_S, Schedule};

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
}

impl FromStr for TimeOfDay {
    type Err = ();
    /// Reads `HH:MM`, as time fields of browsers send it.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (hour, minute) = text.trim().split_once(':').ok_or(())?;
        let time = Self { hour: hour.parse().map_err(|_| ())?, minute: minute.parse().map_err(|_| ())? };
        if time.hour < 24 && time.minute < 60 { Ok(time) } else { Err(()) }
    }
}

impl TimeOfDay {
    fn minutes(self) -> u32 {
        u32::from(self.hour) * 60 + u32::from(self.minute)
    }

    fn plus_minutes(self, minutes: u32) -> Self {
        let sum = (self.minutes() + minutes) % (24 * 60);
        Self { hour: (sum / 60) as u8, minute: (sum % 60) as u8 }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour, self.minute)
    }
}

/// From when to when hosts may begin. Where both are the same, all begin at that time; past midnight it goes on with the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first may begin.
    pub from: TimeOfDay,
    /// The last has begun.
    pub to: TimeOfDay,
}

impl Window {
    fn jitter_s(self) -> u32 {
        (self.to.minutes() + 24 * 60 - self.from.minutes()) % (24 * 60) * 60
    }

    fn of(hour: u8, minute: u8, jitter_s: u32) -> Option<Self> {
        let from = TimeOfDay { hour, minute };
        // A whole day would look like no window at all.
        (jitter_s.is_multiple_of(60) && jitter_s < MAX_JITTER_S)
            .then(|| Self { from, to: from.plus_minutes(jitter_s / 60) })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            write!(f, "at {}", self.from)
        } else {
            write!(f, "between {} and {}", self.from, self.to)
        }
    }
}

/// Names of the days of the week, as cron counts them.
pub const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// How many hours [`Preset::EveryHours`] may have: what divides the day.
pub const HOUR_STEPS: [u8; 6] = [2, 3, 4, 6, 8, 12];

/// A schedule as people say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preset {
    /// Every day.
    Daily(Window),
    /// Every week on a day, 0 is Sunday.
    Weekly(u8, Window),
    /// Every month on a day, 1 to 28: those that every month has.
    Monthly(u8, Window),
    /// Every hour at this minute.
    Hourly(u8),
    /// Every so many hours at this minute.
    EveryHours(u8, u8),
    /// A cron line and a jitter in seconds.
    Custom(String, u32),
}

impl Preset {
    /// The cron line and the jitter in seconds.
    #[must_use]
    pub fn cron(&self) -> (String, u32) {
        let line = |window: &Window, rest: String| {
            (format!("{} {} {rest}", window.from.minute, window.from.hour), window.jitter_s())
        };
        match self {
            Self::Daily(window) => line(window, "* * *".to_owned()),
            Self::Weekly(day, window) => line(window, format!("* * {day}")),
            Self::Monthly(day, window) => line(window, format!("{day} * *")),
            Self::Hourly(minute) => (format!("{minute} * * * *"), 0),
            Self::EveryHours(hours, minute) => (format!("{minute} */{hours} * * *"), 0),
            Self::Custom(cron, jitter_s) => (cron.clone(), *jitter_s),
        }
    }

    /// The preset that a schedule is.
    #[must_use]
    pub fn of(schedule: &Schedule) -> Self {
        Self::recognised(schedule).unwrap_or_else(|| Self::Custom(schedule.cron.clone(), schedule.jitter_s))
    }

    fn recognised(schedule: &Schedule) -> Option<Self> {
        let number = |text: &str, below: u8| text.parse::<u8>().ok().filter(|n| *n < below);
        let fields: Vec<&str> = schedule.cron.split_whitespace().collect();
        let [minute, hour, day, "*", weekday] = fields[..] else { return None };
        let minute = number(minute, 60)?;
        let preset = match (hour, day, weekday) {
            ("*", "*", "*") if schedule.jitter_s == 0 => Self::Hourly(minute),
            (step, "*", "*") if step.starts_with("*/") && schedule.jitter_s == 0 => {
                Self::EveryHours(number(&step[2..], 24).filter(|step| HOUR_STEPS.contains(step))?, minute)
            }
            (hour, day, weekday) => {
                let window = Window::of(number(hour, 24)?, minute, schedule.jitter_s)?;
                match (day, weekday) {
                    ("*", "*") => Self::Daily(window),
                    // Cron has two numbers for Sunday.
                    ("*", weekday) => Self::Weekly(number(weekday, 8)? % 7, window),
                    (day, "*") => Self::Monthly(number(day, 29).filter(|day| *day > 0)?, window),
                    _ => return None,
                }
            }
        };
        Some(preset)
    }

    /// When it runs, in words, without the time zone.
    #[must_use]
    pub fn in_words(&self, schedule: &Schedule) -> String {
        match self {
            Self::Daily(window) => {
                let night = window.from.hour < 6 || window.from.hour > 20;
                format!("every {} {window}", if night { "night" } else { "day" })
            }
            Self::Weekly(day, window) => {
                format!("every {} {window}", WEEKDAYS.get(usize::from(*day)).unwrap_or(&"week"))
            }
            Self::Monthly(day, window) => format!("on day {day} of every month {window}"),
            Self::Hourly(minute) => format!("every hour at :{minute:02}"),
            Self::EveryHours(hours, minute) => format!("every {hours} hours at :{minute:02}"),
            Self::Custom(cron, jitter_s) => {
                let words = schedule.calendar().map_or_else(|_| cron.clone(), |calendar| calendar.in_words());
                let mut words = words.trim_end_matches('.').to_owned();
                if let Some(first) = words.get_mut(..1) {
                    first.make_ascii_lowercase();
                }
                match jitter_s {
                    0 => words,
                    s => format!("{words}, spread over {}", span(*s)),
                }
            }
        }
    }
}

/// A jitter in words.
#[must_use]
pub fn span(seconds: u32) -> String {
    match seconds {
        s if s.is_multiple_of(3600) => format!("{} h", s / 3600),
        s if s > 3600 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        s if s.is_multiple_of(60) => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::schedule::CatchUp;

    fn schedule(cron: &str, jitter_s: u32) -> Schedule {
        Schedule {
            cron: cron.to_owned(),
            timezone: "Europe/Berlin".to_owned(),
            jitter_s,
            catch_up: CatchUp::Once,
            enabled: true,
        }
    }

    fn window(from: &str, to: &str) -> Window {
        Window { from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    #[test]
    fn every_preset_becomes_cron_and_jitter_and_is_recognised_again() {
        let cases = [
            (Preset::Daily(window("01:00", "05:00")), "0 1 * * *", 14_400),
            (Preset::Daily(window("23:30", "02:15")), "30 23 * * *", 9_900),
            (Preset::Daily(window("03:00", "03:00")), "0 3 * * *", 0),
            (Preset::Weekly(6, window("22:00", "23:00")), "0 22 * * 6", 3600),
            (Preset::Monthly(28, window("00:05", "00:05")), "5 0 28 * *", 0),
            (Preset::Hourly(15), "15 * * * *", 0),
            (Preset::EveryHours(4, 0), "0 */4 * * *", 0),
            (Preset::Custom("*/5 9-17 * * 1-5".to_owned(), 90), "*/5 9-17 * * 1-5", 90),
        ];
        for (preset, cron, jitter_s) in cases {
            assert_eq!(preset.cron(), (cron.to_owned(), jitter_s));
            let made = schedule(cron, jitter_s);
            assert!(made.calendar().is_ok(), "{cron}");
            assert_eq!(Preset::of(&made), preset);
        }
    }

    #[test]
    fn what_no_preset_says_stays_as_it_is() {
        let odd = ["0 1 * * 1-5", "0 1 1 * 1", "0 1 31 * *", "0 */5 * * *", "60 1 * * *", "0 1 * 6 *", "0 1 * *", ""];
        for cron in odd {
            assert_eq!(Preset::of(&schedule(cron, 0)), Preset::Custom(cron.to_owned(), 0));
        }
        for (cron, jitter_s) in [("0 1 * * *", 90), ("0 1 * * *", MAX_JITTER_S), ("5 * * * *", 60)] {
            assert_eq!(Preset::of(&schedule(cron, jitter_s)).cron(), (cron.to_owned(), jitter_s));
        }
        assert_eq!(Preset::of(&schedule("0 1 * * 7", 0)), Preset::Weekly(0, window("01:00", "01:00")));
    }

    #[test]
    fn a_schedule_is_said_in_words() {
        let words = |cron, jitter_s| schedule(cron, jitter_s).in_words();
        assert_eq!(words("0 1 * * *", 14_400), "every night between 01:00 and 05:00, Europe/Berlin");
        assert_eq!(words("30 12 * * *", 0), "every day at 12:30, Europe/Berlin");
        assert_eq!(words("0 22 * * 0", 3600), "every Sunday between 22:00 and 23:00, Europe/Berlin");
        assert_eq!(words("0 2 1 * *", 0), "on day 1 of every month at 02:00, Europe/Berlin");
        assert_eq!(words("5 */6 * * *", 0), "every 6 hours at :05, Europe/Berlin");
        assert!(words("30 2 * * 1-5", 600).ends_with(", spread over 10 min, Europe/Berlin"));
    }
}
