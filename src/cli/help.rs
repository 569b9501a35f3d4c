//! `sparse help`.
//!
//! May use: `error`.

use serde::Serialize;

use crate::error::Result;

use super::args::{HelpArgs, command};
use super::out::{Page, Report};
use super::{Context, errors};

/// The topics that are no verbs.
const EXIT_CODES: &str = "exit-codes";

#[derive(Serialize)]
struct ExitCodes {
    codes: &'static [Code],
}

#[derive(Serialize)]
struct Code {
    code: u8,
    meaning: &'static str,
}

const CODES: &[Code] = &[
    code(0, "done"),
    code(
        1,
        "failed, no better class; 'diff --exit-code' found differences",
    ),
    code(2, "wrong usage"),
    code(3, "not found: store, revision, path, remote"),
    code(4, "not logged in or not allowed"),
    code(
        5,
        "conflict: a branch moved, or local changes would be overwritten",
    ),
    code(
        6,
        "bytes are not what they must be: the store or a transfer is damaged",
    ),
    code(7, "a remote could not be reached"),
    code(8, "no space left, or over a limit"),
    code(101, "a bug in sparse"),
    code(130, "stopped by Ctrl-C (SIGINT)"),
    code(143, "stopped by SIGTERM"),
];

const fn code(code: u8, meaning: &'static str) -> Code {
    Code { code, meaning }
}

impl Report for ExitCodes {
    const SCHEMA: &'static str = "sparse.exit-codes/1";

    fn human(&self, page: &mut Page) {
        for Code { code, meaning } in self.codes {
            page.line(format_args!("{code:>3}  {meaning}"));
        }
    }

    fn quiet(&self, page: &mut Page) {
        for Code { code, .. } in self.codes {
            page.line(code);
        }
    }
}

pub(super) fn run(context: &Context, args: &HelpArgs) -> Result<()> {
    if args.topic == [EXIT_CODES] {
        return context.out.print(&ExitCodes { codes: CODES });
    }
    let mut root = command();
    // Gives the verbs their full names and the global options.
    root.build();
    let mut verb = &mut root;
    for topic in &args.topic {
        let mut known: Vec<String> = verb
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set())
            .map(|verb| verb.get_name().to_string())
            .collect();
        known.push(EXIT_CODES.into());
        verb = verb
            .find_subcommand_mut(topic)
            .ok_or_else(|| errors::no_such("topic", topic, known.iter().map(String::as_str)))?;
    }
    let text = verb.render_long_help();
    context.out.write(text.ansi().to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn every_kind_of_error_has_a_documented_code() {
        for kind in [
            Kind::Usage,
            Kind::NotFound,
            Kind::Forbidden,
            Kind::Conflict,
            Kind::Corrupt,
            Kind::Unreachable,
            Kind::Full,
            Kind::Unsupported,
            Kind::Io,
            Kind::Interrupted,
        ] {
            assert!(CODES.iter().any(|known| known.code == kind.exit_code()));
        }
    }
}
