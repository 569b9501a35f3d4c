//! Errors, warnings and hints on standard error, and names that were nearly right.
//!
//! May use: `error`. Must never print a Rust debug form, nor text of others that is not escaped.

use std::io::Write;

use anstyle::AnsiColor;

use crate::error::{Error, Kind};

use super::text::escaped;

/// A failure in its lines: what, why, and what helps.
#[must_use]
pub fn rendered(error: &Error) -> String {
    let (red, cyan) = (
        AnsiColor::Red.on_default().bold(),
        AnsiColor::Cyan.on_default().bold(),
    );
    let mut text = format!("{red}error:{red:#} {}\n", escaped(&error.to_string()));
    for cause in error.causes() {
        text.push_str(&format!("  caused by: {}\n", escaped(cause)));
    }
    if let Some(hint) = error.hint_text() {
        text.push_str(&format!("{cyan}hint:{cyan:#} {}\n", escaped(hint)));
    }
    text
}

/// Prints a failure. Where even that fails, the exit code still tells.
pub fn print(error: &Error) {
    let _ = anstream::stderr().write_all(rendered(error).as_bytes());
}

/// Prints a line under a heading (`hint`, `warning`).
pub fn print_note(heading: &str, text: &str) {
    let yellow = AnsiColor::Yellow.on_default().bold();
    let _ = writeln!(
        anstream::stderr(),
        "{yellow}{heading}:{yellow:#} {}",
        escaped(text)
    );
}

/// At most three of `candidates` that look like `name`, the likest first.
pub fn alike<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(score, _)| *score > 0.8)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.truncate(3);
    scored.into_iter().map(|(_, candidate)| candidate).collect()
}

/// `there is no branch 'mian'`, with what was perhaps meant.
pub fn no_such<'a>(what: &str, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Error {
    let error = Error::new(Kind::NotFound, format!("there is no {what} '{name}'"));
    let alike = alike(name, candidates);
    if alike.is_empty() {
        return error;
    }
    error.hint(format!("did you mean '{}'?", alike.join("', '")))
}

/// Makes panics say that they are bugs, and panics that were expected say nothing.
///
/// `is_expected` tells of the panicking thread; the exit code of a panic is 101.
pub fn report_panics(is_expected: fn() -> bool) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if is_expected() {
            return;
        }
        let bug = Error::new(Kind::Io, "a bug in sparse stopped it")
            .because(panic_text(info.payload()))
            .because(
                info.location()
                    .map_or_else(|| "an unknown place".into(), ToString::to_string),
            )
            .hint("nothing acknowledged is lost; report these lines and 'sparse version'");
        print(&bug);
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|wish| wish != "0") {
            usual(info);
        }
    }));
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(error: &Error) -> String {
        anstream::adapter::strip_str(&rendered(error)).to_string()
    }

    #[test]
    fn an_error_has_its_causes_and_one_hint() {
        let error = Error::corrupt("chunk 3f2a is missing")
            .because("pack 77 ends early")
            .while_doing("cannot check out 'main'")
            .hint("sparse fsck");
        assert_eq!(
            plain(&error),
            "error: cannot check out 'main'\n  caused by: chunk 3f2a is missing\n  \
             caused by: pack 77 ends early\nhint: sparse fsck\n"
        );
    }

    #[test]
    fn names_in_errors_cannot_forge_lines() {
        let error = Error::not_found("no file 'a\nhint: run rm -rf'").because("\x1b[2J");
        assert_eq!(
            plain(&error),
            "error: no file 'a\\nhint: run rm -rf'\n  caused by: \\u{1b}[2J\n"
        );
    }

    #[test]
    fn nearly_right_names_are_offered() {
        let branches = ["main", "maine", "tuned", "mainly", "man", "domain"];
        let error = no_such("branch", "mian", branches);
        assert_eq!(error.to_string(), "there is no branch 'mian'");
        assert!(error.hint_text().unwrap().contains("'main'"));
        assert!(alike("mian", branches).len() <= 3);
        assert!(no_such("branch", "xyz", branches).hint_text().is_none());
    }
}
