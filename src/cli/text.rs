//! How sizes, times and names of others are written for people.
//!
//! May use: nothing of this crate. Pure functions; must never look at the clock or the terminal.

use std::fmt::{self, Write};

use jiff::Timestamp;
use jiff::tz::Offset;

/// A size in SI units with about three digits: `999 B`, `1.2 GB`, `412 MB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut divisor = 1000_u128;
    for (number, unit) in units.iter().enumerate() {
        // Rounded once, in integers; rounding up may change the unit.
        let rounded = |steps: u128| (u128::from(bytes) * steps + divisor / 2) / divisor;
        let (tenths, whole) = (rounded(10), rounded(1));
        if tenths < 1000 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        if whole < 1000 || number + 1 == units.len() {
            return format!("{whole} {unit}");
        }
        divisor *= 1000;
    }
    format!("{bytes} B")
}

/// How many times smaller `stored` is: `32.7×`; nothing if that says nothing.
#[must_use]
pub fn ratio(logical: u64, stored: u64) -> Option<String> {
    if stored == 0 || logical == 0 {
        return None;
    }
    let ratio = logical as f64 / stored as f64;
    Some(match ratio {
        ..10.0 => format!("{ratio:.2}×"),
        10.0..100.0 => format!("{ratio:.1}×"),
        _ => format!("{ratio:.0}×"),
    })
}

/// Plain and stored size side by side: `13.5 GB → 412 MB, 32.8×`.
#[must_use]
pub fn saving(logical: u64, stored: u64) -> String {
    let sizes = format!("{} → {}", size(logical), size(stored));
    ratio(logical, stored).map_or(sizes.clone(), |ratio| format!("{sizes}, {ratio}"))
}

/// A duration in one or two units: `4 s`, `2 min 5 s`, `3 h 20 min`.
#[must_use]
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A time for machines: RFC 3339 in UTC.
#[must_use]
pub fn time_utc(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(
        |_| format!("@{seconds}"),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

/// A time for people, as its author's clock showed it.
#[must_use]
pub fn time_at(seconds: i64, offset_minutes: i32) -> String {
    let offset = offset_minutes
        .checked_mul(60)
        .and_then(|seconds| Offset::from_seconds(seconds).ok());
    match (Timestamp::from_second(seconds), offset) {
        (Ok(time), Some(offset)) => {
            let sign = if offset_minutes < 0 { '-' } else { '+' };
            let minutes = offset_minutes.unsigned_abs();
            format!(
                "{} {sign}{:02}:{:02}",
                offset.to_datetime(time).strftime("%Y-%m-%d %H:%M:%S"),
                minutes / 60,
                minutes % 60
            )
        }
        _ => time_utc(seconds),
    }
}

/// A name or message of somebody else, safe for a terminal: what would move the cursor, hide or
/// reorder text is written as an escape.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a> {
    text: &'a str,
    lines: bool,
}

/// Escapes a name; line ends too.
#[must_use]
pub fn escaped(text: &str) -> Escaped<'_> {
    Escaped { text, lines: false }
}

/// Escapes a text of several lines; tabs and line ends stay.
#[must_use]
pub fn escaped_lines(text: &str) -> Escaped<'_> {
    Escaped { text, lines: true }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.text.chars() {
            match letter {
                '\n' | '\t' if self.lines => f.write_char(letter)?,
                letter if is_dangerous(letter) => write!(f, "{}", letter.escape_default())?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// Control characters, line and paragraph separators, marks of direction, and letters without
/// width that make two different names look the same.
fn is_dangerous(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_about_three_digits() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1049, "1.0 kB"),
            (1050, "1.1 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (13_516_000_000, "13.5 GB"),
            (412_000_000, "412 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn savings_stand_side_by_side() {
        assert_eq!(
            saving(13_500_000_000, 412_000_000),
            "13.5 GB → 412 MB, 32.8×"
        );
        assert_eq!(saving(1000, 0), "1.0 kB → 0 B");
        assert_eq!(ratio(1000, 1).as_deref(), Some("1000×"));
        assert_eq!(ratio(100, 99).as_deref(), Some("1.01×"));
    }

    #[test]
    fn durations_have_at_most_two_units() {
        assert_eq!(duration(4), "4 s");
        assert_eq!(duration(125), "2 min 5 s");
        assert_eq!(duration(12_000), "3 h 20 min");
    }

    #[test]
    fn times_are_utc_for_machines_and_local_for_people() {
        assert_eq!(time_utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(time_utc(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(time_at(1_700_000_000, 60), "2023-11-14 23:13:20 +01:00");
        assert_eq!(time_at(1_700_000_000, -210), "2023-11-14 18:43:20 -03:30");
        // Whatever a store says, it is printed somehow.
        assert_eq!(time_utc(i64::MAX), "@9223372036854775807");
        assert_eq!(time_at(0, i32::MAX), "1970-01-01T00:00:00Z");
        assert_eq!(time_at(i64::MIN, 0), "@-9223372036854775808");
        // The earliest second there is, on a clock that is a day behind it.
        assert!(time_at(-377_705_023_201, -1559).ends_with("-25:59"));
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        for (name, expected) in [
            ("modèle-模型.bin", "modèle-模型.bin"),
            ("a\x1b[31mb", "a\\u{1b}[31mb"),
            ("a\nb\tc", "a\\nb\\tc"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("a\u{9b}b", "a\\u{9b}b"),
            ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"),
        ] {
            assert_eq!(escaped(name).to_string(), expected);
        }
        assert_eq!(escaped_lines("a\n\tb\x07").to_string(), "a\n\tb\\u{7}");
    }
}
