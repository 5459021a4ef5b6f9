//! [`Day`]: the day of a use, in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use jiff::civil::{Date, date};
use jiff::{Span, ToSpan};

use crate::{Error, Result};

/// Milliseconds in a day.
const DAY_MS: u64 = 86_400_000;

/// A day in UTC, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u32);

impl Day {
    /// Before all others.
    pub const MIN: Day = Day(0);
    /// After all others.
    pub const MAX: Day = Day(u32::MAX);

    /// The day of a moment, in milliseconds since 1970.
    pub fn of(at_ms: u64) -> Day {
        Day(u32::try_from(at_ms / DAY_MS).unwrap_or(u32::MAX))
    }

    /// Today.
    pub fn today() -> Day {
        Day::of(now_ms())
    }

    /// The first day of its month.
    pub fn month_begin(self) -> Day {
        Day::on(self.date().first_of_month())
    }

    /// The first day of the month after its own.
    pub fn month_end(self) -> Day {
        self.date().first_of_month().checked_add(1.month()).map_or(Day::MAX, Day::on)
    }

    /// Its first moment, in milliseconds since 1970.
    pub fn begin_ms(self) -> u64 {
        u64::from(self.0) * DAY_MS
    }

    fn date(self) -> Date {
        let since = Span::new().try_days(self.0);
        since.and_then(|since| EPOCH.checked_add(since)).unwrap_or(Date::MAX)
    }

    fn on(date: Date) -> Day {
        let since = EPOCH.until(date).map_or(i32::MAX, |since| since.get_days());
        Day(u32::try_from(since).unwrap_or_default())
    }
}

const EPOCH: Date = date(1970, 1, 1);

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date())
    }
}

impl FromStr for Day {
    type Err = Error;

    /// Reads `2026-11-27`.
    fn from_str(text: &str) -> Result<Day> {
        let read = text.parse::<Date>().ok().filter(|date| *date >= EPOCH && text.len() == 10);
        read.map(Day::on)
            .ok_or_else(|| Error::invalid(format!("{text:?} is no day; write it as in 2026-11-27")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn days_are_read_written_and_gathered_in_months() {
        let day: Day = "2026-12-31".parse().unwrap();
        assert_eq!(day.to_string(), "2026-12-31");
        assert_eq!(day.month_begin().to_string(), "2026-12-01");
        assert_eq!(day.month_end().to_string(), "2027-01-01");
        assert_eq!(
            (Day::of(day.begin_ms()), Day::of(day.begin_ms() - 1).to_string()),
            (day, "2026-12-30".into())
        );
        assert_eq!(Day::of(0).to_string(), "1970-01-01");
        for wrong in ["", "2026-13-01", "2026-12", "1969-12-31", "20261231", "2026-12-31T00:00:00"] {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
    }
}
