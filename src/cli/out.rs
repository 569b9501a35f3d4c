//! Results on standard output: for people, as JSON, as bare ids, with NUL ends.
//!
//! May use: `error`. Only results go through here; hints, warnings, errors and progress go to
//! standard error (`errors`, `bar`). Must never print a name that is not escaped, except with NUL
//! ends and in JSON, which are for machines.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Display, Write as _};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::{Command, Stdio};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::error::{Error, Kind, Result};

use super::text::escaped;

/// Who reads the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A person.
    Human,
    /// A program: one JSON document a line.
    Json,
    /// A script: ids only, one a line.
    Quiet,
}

/// A result with its three faces.
pub trait Report: Serialize {
    /// `sparse.VERB/NUMBER`; the number rises when a field changes its meaning.
    const SCHEMA: &'static str;

    /// For people.
    fn human(&self, page: &mut Page);

    /// For scripts: ids only.
    fn quiet(&self, page: &mut Page);
}

/// The meanings that have a colour; the words beside them say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tint {
    /// An id.
    Id,
    /// A branch, tag or remote.
    Name,
    /// What is new.
    New,
    /// What is gone or hurt.
    Gone,
    /// A heading.
    Strong,
    /// What matters less.
    Dim,
}

impl Tint {
    const fn style(self) -> Style {
        match self {
            Self::Id => AnsiColor::Yellow.on_default(),
            Self::Name => AnsiColor::Cyan.on_default().bold(),
            Self::New => AnsiColor::Green.on_default(),
            Self::Gone => AnsiColor::Red.on_default(),
            Self::Strong => Style::new().bold(),
            Self::Dim => Style::new().dimmed(),
        }
    }

    /// Something in this colour.
    pub fn on<T: Display>(self, what: T) -> Tinted<T> {
        Tinted(self.style(), what)
    }
}

/// See [`Tint::on`].
#[derive(Clone, Copy, Debug)]
pub struct Tinted<T>(Style, T);

impl<T: Display> Display for Tinted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(style, what) = self;
        // The width is that of the text, not of the colour codes.
        write!(f, "{style}")?;
        what.fmt(f)?;
        write!(f, "{style:#}")
    }
}

/// What a report writes on.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    nul: bool,
}

impl Page {
    /// A line. Text of others must have been escaped.
    pub fn line(&mut self, text: impl Display) {
        // Writing into a string does not fail.
        let _ = writeln!(self.text, "{text}");
    }

    /// A line that is one name; with NUL ends as it is, else escaped.
    pub fn name(&mut self, name: &str) {
        if self.nul {
            self.text.push_str(name);
            self.text.push('\0');
        } else {
            self.line(escaped(name));
        }
    }

    /// What was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Standard output in one of its modes.
pub struct Out {
    mode: Mode,
    pager: Option<String>,
    sink: RefCell<Box<dyn Write>>,
    /// Whether the sink is standard output behind a filter of colours.
    is_stdout: bool,
    closed: Cell<bool>,
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Document<'a, T> {
    schema: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

impl Out {
    /// Standard output; `pager` is the command for long output, if one is wanted.
    #[must_use]
    pub fn stdout(mode: Mode, pager: Option<String>) -> Self {
        Self {
            is_stdout: true,
            ..Self::to(Box::new(anstream::stdout()), mode, pager)
        }
    }

    /// The same, elsewhere.
    pub fn to(sink: Box<dyn Write>, mode: Mode, pager: Option<String>) -> Self {
        Self {
            mode,
            pager,
            sink: RefCell::new(sink),
            is_stdout: false,
            closed: Cell::new(false),
        }
    }

    /// Who reads.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the reader went away (`sparse log | head`), which is no error.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Prints a result; called several times it makes a stream, in JSON one document a line.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn print<R: Report>(&self, report: &R) -> Result<()> {
        self.write(self.render(report, false)?.as_bytes())
    }

    /// Prints a result whose names end in NUL bytes and are not escaped.
    ///
    /// # Errors
    /// As [`Out::print`].
    pub fn print_nul<R: Report>(&self, report: &R) -> Result<()> {
        // The filter of colours would take the NUL bytes out.
        self.write_raw(self.render(report, true)?.as_bytes())
    }

    /// Prints a result that may be long: for a person at a terminal through the pager.
    ///
    /// # Errors
    /// As [`Out::print`].
    pub fn page<R: Report>(&self, report: &R) -> Result<()> {
        let text = self.render(report, false)?;
        match &self.pager {
            Some(pager) if self.mode == Mode::Human && io::stdout().is_terminal() => {
                if !through_pager(pager, &text) {
                    self.write(text.as_bytes())?;
                }
                Ok(())
            }
            _ => self.write(text.as_bytes()),
        }
    }

    fn render<R: Report>(&self, report: &R, nul: bool) -> Result<String> {
        let mut page = Page {
            text: String::new(),
            nul,
        };
        match self.mode {
            Mode::Human => report.human(&mut page),
            Mode::Quiet => report.quiet(&mut page),
            Mode::Json => {
                let document = Document {
                    schema: R::SCHEMA,
                    body: report,
                };
                page.line(serde_json::to_string(&document).map_err(|source| {
                    Error::new(Kind::Io, "cannot write the result as JSON").because(source)
                })?);
            }
        }
        Ok(page.text)
    }

    /// Writes text; its colours are left out where nobody would see them.
    ///
    /// # Errors
    /// If the output cannot be written; [`Out::is_closed`] tells the harmless case.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut sink = self.sink.borrow_mut();
        self.told(sink.write_all(bytes).and_then(|()| sink.flush()))
    }

    /// Writes bytes as they are: a file's content, names with NUL ends.
    ///
    /// # Errors
    /// As [`Out::write`].
    pub fn write_raw(&self, bytes: &[u8]) -> Result<()> {
        if !self.is_stdout {
            return self.write(bytes);
        }
        let mut stdout = io::stdout().lock();
        self.told(stdout.write_all(bytes).and_then(|()| stdout.flush()))
    }

    fn told(&self, written: io::Result<()>) -> Result<()> {
        written.map_err(|source| {
            self.closed.set(source.kind() == ErrorKind::BrokenPipe);
            Error::io("write", "standard output".as_ref(), &source)
        })
    }
}

/// Shows text in a pager; `false` if there is none to be had. A pager that is left early is fine.
fn through_pager(command: &str, text: &str) -> bool {
    let mut words = command.split_whitespace();
    let Some(program) = words.next() else {
        return false;
    };
    let child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        return false;
    };
    if let Some(input) = child.stdin.take() {
        // Whether to colour was decided for the terminal that the pager writes to.
        let choice = anstream::AutoStream::choice(&io::stdout());
        let _ = anstream::AutoStream::new(Box::new(input) as Box<dyn Write>, choice)
            .write_all(text.as_bytes());
    }
    child.wait().is_ok()
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[derive(Serialize)]
    struct Files {
        names: Vec<&'static str>,
    }

    impl Report for Files {
        const SCHEMA: &'static str = "sparse.test/1";
        fn human(&self, page: &mut Page) {
            page.line(format_args!("{} files", self.names.len()));
            self.quiet(page);
        }
        fn quiet(&self, page: &mut Page) {
            self.names.iter().for_each(|name| page.name(name));
        }
    }

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printed(mode: Mode, print: impl Fn(&Out, &Files) -> Result<()>) -> String {
        let shared = Shared::default();
        let out = Out::to(Box::new(shared.clone()), mode, None);
        let names = vec!["a", "b\nc"];
        print(&out, &Files { names }).unwrap();
        let bytes = shared.0.borrow().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_report_has_a_face_for_each_reader() {
        assert_eq!(printed(Mode::Human, Out::print), "2 files\na\nb\\nc\n");
        assert_eq!(printed(Mode::Quiet, Out::print), "a\nb\\nc\n");
        assert_eq!(printed(Mode::Quiet, Out::print_nul), "a\0b\nc\0");
        assert_eq!(
            printed(Mode::Json, Out::print),
            "{\"schema\":\"sparse.test/1\",\"names\":[\"a\",\"b\\nc\"]}\n"
        );
    }

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_told_apart_from_a_full_disk() {
        let out = Out::to(Box::new(Failing(ErrorKind::BrokenPipe)), Mode::Human, None);
        out.write(b"x").unwrap_err();
        assert!(out.is_closed());
        let out = Out::to(Box::new(Failing(ErrorKind::StorageFull)), Mode::Human, None);
        assert_eq!(out.write(b"x").unwrap_err().kind(), Kind::Full);
        assert!(!out.is_closed());
    }

    #[test]
    fn a_width_counts_letters_and_not_colours() {
        let text = format!("[{:<5}]", Tint::Id.on("ab"));
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), "[ab   ]");
    }
}
