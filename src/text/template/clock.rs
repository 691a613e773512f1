//! The clock that a render is told, and `strftime` over it.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// A civil date and time. Templates print it; Pumice never asks the machine while rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime {
    /// For example 2026.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

/// A text that is not `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM:SS`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no date: expected YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS")]
pub struct DateError(String);

impl FromStr for DateTime {
    type Err = DateError;

    fn from_str(s: &str) -> Result<Self, DateError> {
        let error = || DateError(s.chars().take(64).collect());
        let (date, time) = s.split_once(['T', ' ']).unwrap_or((s, "00:00:00"));
        let numbers = |part: &str, sep| -> Option<[u16; 3]> {
            let mut parts =
                part.split(sep).map(|p| p.split(['.', '+', 'Z']).next().unwrap_or(p).parse().ok());
            let rv = [parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?];
            parts.next().is_none().then_some(rv)
        };
        let [year, month, day] = numbers(date, '-').ok_or_else(error)?;
        let [hour, minute, second] = numbers(time, ':').ok_or_else(error)?;
        let year = i64::from(year);
        if !(1..=12).contains(&month)
            || day == 0
            || i64::from(day) > month_days(year, month as u8)
            || hour > 23
            || minute > 59
            || second > 59
        {
            return Err(error());
        }
        Ok(DateTime {
            year,
            month: month as u8,
            day: day as u8,
            hour: hour as u8,
            minute: minute as u8,
            second: second as u8,
        })
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            self.year, self.month, self.day, self.hour, self.minute, self.second
        )
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_days(year: i64, month: u8) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl DateTime {
    /// The machine's clock in its time zone: that of the environment variable `TZ`, else the system's;
    /// UTC where neither can be told.
    pub fn now_local() -> DateTime {
        let now = jiff::Zoned::now();
        let part = |n: i8| u8::try_from(n).unwrap_or(0);
        DateTime {
            year: i64::from(now.year()),
            month: part(now.month()),
            day: part(now.day()),
            hour: part(now.hour()),
            minute: part(now.minute()),
            second: part(now.second()),
        }
    }

    /// The machine's clock in UTC.
    pub fn now_utc() -> DateTime {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        DateTime::from_unix(i64::try_from(seconds).unwrap_or(0))
    }

    /// The UTC date and time of seconds since 1970.
    pub fn from_unix(seconds: i64) -> DateTime {
        let (mut days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let mut year = 1970 + days.div_euclid(146_097) * 400;
        days = days.rem_euclid(146_097);
        while days >= 365 + i64::from(is_leap(year)) {
            days -= 365 + i64::from(is_leap(year));
            year += 1;
        }
        let mut month = 1;
        while days >= month_days(year, month) {
            days -= month_days(year, month);
            month += 1;
        }
        let part = |n: i64| u8::try_from(n).unwrap_or(0);
        DateTime {
            year,
            month,
            day: part(days + 1),
            hour: part(rest / 3600),
            minute: part(rest / 60 % 60),
            second: part(rest % 60),
        }
    }

    /// Days since the start of the year, from 0.
    fn day_of_year(&self) -> i64 {
        (1..self.month).map(|m| month_days(self.year, m)).sum::<i64>() + i64::from(self.day) - 1
    }

    /// 0 for Monday.
    fn weekday(&self) -> i64 {
        let y = self.year - 1;
        // 1 January of the year 1 was a Monday
        (y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + self.day_of_year())
            .rem_euclid(7)
    }

    /// `strftime` in the C locale; unknown directives stay as they are.
    pub fn strftime(&self, format: &str) -> String {
        let mut rv = String::with_capacity(format.len() * 2);
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                rv.push(c);
                continue;
            }
            let Some(mut d) = chars.next() else {
                rv.push('%');
                break;
            };
            // glibc's `%-d`: the same without padding
            let bare = d == '-';
            if bare {
                let Some(next) = chars.next() else {
                    rv.push_str("%-");
                    break;
                };
                d = next;
            }
            let field = self.field(d);
            rv.push_str(match &field {
                Some(s) if bare => match s.trim_start_matches(['0', ' ']) {
                    "" => "0",
                    s => s,
                },
                Some(s) => s,
                None => {
                    rv.push('%');
                    rv.push(d);
                    continue;
                }
            });
        }
        rv
    }

    fn field(&self, directive: char) -> Option<String> {
        let (weekday, yday) = (self.weekday(), self.day_of_year());
        let hour12 = (self.hour + 11) % 12 + 1;
        let day_name = DAYS[weekday as usize];
        let month_name = MONTHS[usize::from(self.month) - 1];
        Some(match directive {
            'Y' => self.year.to_string(),
            'y' => format!("{:02}", self.year.rem_euclid(100)),
            'm' => format!("{:02}", self.month),
            'd' => format!("{:02}", self.day),
            'e' => format!("{:2}", self.day),
            'H' => format!("{:02}", self.hour),
            'I' => format!("{hour12:02}"),
            'M' => format!("{:02}", self.minute),
            'S' => format!("{:02}", self.second),
            'f' => "000000".into(),
            'p' => if self.hour < 12 { "AM" } else { "PM" }.into(),
            'A' => day_name.into(),
            'a' => day_name[..3].into(),
            'B' => month_name.into(),
            'b' | 'h' => month_name[..3].into(),
            'j' => format!("{:03}", yday + 1),
            'u' => (weekday + 1).to_string(),
            'w' => ((weekday + 1) % 7).to_string(),
            'U' => format!("{:02}", (yday + 7 - (weekday + 1) % 7) / 7),
            'W' => format!("{:02}", (yday + 7 - weekday) / 7),
            'F' => self.strftime("%Y-%m-%d"),
            'D' | 'x' => self.strftime("%m/%d/%y"),
            'T' | 'X' => self.strftime("%H:%M:%S"),
            'R' => self.strftime("%H:%M"),
            'c' => self.strftime("%a %b %e %H:%M:%S %Y"),
            'z' | 'Z' => String::new(),
            '%' => "%".into(),
            'n' => "\n".into(),
            't' => "\t".into(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_print_as_python_prints_them() {
        let t: DateTime = "2026-02-03T04:05:06".parse().unwrap();
        assert_eq!(
            t.strftime("%d %b %Y|%A %B|%j %U %W %u|%I %p|%-d %-I|%%|%Q"),
            "03 Feb 2026|Tuesday February|034 05 05 2|04 AM|3 4|%|%Q"
        );
        assert_eq!(t.to_string(), "2026-02-03T04:05:06");
        assert_eq!(DateTime::from_unix(1_770_091_506), t);
        assert_eq!("2024-02-29".parse::<DateTime>().unwrap().strftime("%j %a"), "060 Thu");
        assert!("2026-02-30".parse::<DateTime>().is_err());
        assert!("yesterday".parse::<DateTime>().is_err());
    }
}
