//! The command line: words in, a call of the library, words out.
//!
//! May use: everything below, and every crate-wide type. The door of clap, indicatif, TOML, the
//! clock, the variables and of printing. A file a verb; each has `run(&Context, &XArgs)`.
//! Must never decide how something is stored.

mod adapter;
pub mod args;
mod attach;
pub mod bar;
mod branch;
mod cat;
mod checkout;
mod clone;
mod commit;
mod completions;
mod config;
mod diff;
pub mod env;
pub mod errors;
mod far;
mod fetch;
mod fsck;
mod gc;
mod help;
mod init;
mod log;
mod ls;
pub mod out;
pub mod place;
mod pull;
mod push;
mod remote;
mod repack;
mod repair;
pub mod session;
pub mod settings;
mod show;
pub mod signal;
mod stats;
mod status;
mod svd;
mod tag;
pub mod text;
mod undo;
mod version;

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{FromArgMatches, ValueEnum};

use crate::error::{Error, IoContext, Kind, Result};
use crate::par::Threads;

use args::{Cli, ColorWhen, Globals, Level, Verb};
use bar::Bar;
use env::{Environment, Signature};
use out::{Mode, Out};
use place::Place;
use settings::{Config, Key};
use signal::Signals;

/// What every verb is handed.
#[derive(Debug)]
pub struct Context {
    /// What was typed before or after the verb.
    pub globals: Globals,
    /// Where results go.
    pub out: Out,
    /// Where progress, hints and warnings go, and who says when to stop.
    pub progress: Bar,
    /// The settings.
    pub config: Config,
    /// The variables.
    pub environment: Environment,
    place: Option<Place>,
    answer: Cell<Answer>,
}

/// What a verb that was asked a question says by the exit code; all others say yes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Exit code 0.
    #[default]
    Yes,
    /// Exit code 1, with no error: the work was done.
    No,
}

impl Context {
    /// States the exit code of a verb that fails in nothing.
    pub fn answer(&self, answer: Answer) {
        self.answer.set(answer);
    }

    fn new(globals: Globals, signals: Arc<Signals>, settings_matter: bool) -> Result<Self> {
        let environment = Environment::read();
        let place = Place::find(stated_place(&globals, &environment).as_deref()).ok();
        let config = if settings_matter {
            Config::load(&environment, place.as_ref().map(|place| &*place.store))?
        } else {
            Config::default()
        };
        if globals.color.is_none()
            && let Some(when) = config.get(Key::CoreColor)?
            && let Ok(when) = ColorWhen::from_str(&when, false)
        {
            choose_color(when);
        }
        // Refused by every verb, as the flag is.
        if environment.get(env::names::THREADS).is_some() {
            config.get(Key::CoreThreads)?;
        }
        let mode = match (globals.json, globals.quiet) {
            (true, _) => Mode::Json,
            (_, true) => Mode::Quiet,
            _ => Mode::Human,
        };
        let pager = match config.get(Key::CorePager)? {
            Some(pager) if !globals.no_pager => Some(pager),
            _ => None,
        };
        let hidden = globals.no_progress
            || mode != Mode::Human
            || environment.get(env::names::NO_PROGRESS).is_some();
        Ok(Self {
            out: Out::stdout(mode, pager),
            progress: Bar::new(hidden, mode == Mode::Human, signals),
            globals,
            config,
            environment,
            place,
            answer: Cell::default(),
        })
    }

    /// The store that the verb is about.
    ///
    /// # Errors
    /// If there is none.
    pub fn place(&self) -> Result<Place> {
        match &self.place {
            Some(place) => Ok(place.clone()),
            // Only to say where was looked.
            None => Place::find(stated_place(&self.globals, &self.environment).as_deref()),
        }
    }

    /// How many threads work: `-j`, else the setting, else all cores.
    ///
    /// # Errors
    /// If the setting makes no sense.
    pub fn threads(&self) -> Result<Threads> {
        if let Some(stated) = self.globals.threads {
            return Ok(Threads::new(stated.get()));
        }
        let set = self.config.get(Key::CoreThreads)?;
        let count = set.and_then(|count| count.parse().ok());
        Ok(count.map_or_else(Threads::all, Threads::new))
    }

    /// How much work to spend: as stated, else the setting.
    ///
    /// # Errors
    /// If the setting makes no sense.
    pub fn level(&self, stated: Option<Level>) -> Result<Level> {
        if let Some(stated) = stated {
            return Ok(stated);
        }
        let set = self.config.get(Key::CommitLevel)?;
        let level = set.and_then(|level| Level::from_str(&level, false).ok());
        Ok(level.unwrap_or_default())
    }

    /// Who does this, and when.
    ///
    /// # Errors
    /// If a variable or setting makes no sense.
    pub fn signature(&self) -> Result<Signature> {
        let name = self.config.get(Key::UserName)?;
        let email = self.config.get(Key::UserEmail)?;
        self.environment
            .signature(name.as_deref(), email.as_deref())
    }

    /// Goes on only if the person says yes; without a person only with `--yes`.
    ///
    /// # Errors
    /// If the answer is not yes.
    pub fn confirm(&self, question: &str) -> Result<()> {
        if self.globals.yes {
            return Ok(());
        }
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Err(
                Error::usage(format!("{question}: nobody is here to answer")).hint("add --yes"),
            );
        }
        let mut answer = String::new();
        let _ = write!(anstream::stderr(), "{question}? [y/N] ");
        stdin
            .lock()
            .read_line(&mut answer)
            .at("read", "the answer")?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Error::new(Kind::Interrupted, "nothing was changed")),
        }
    }

    /// Fails where no remote may be reached.
    ///
    /// # Errors
    /// With `--offline`.
    pub fn online(&self) -> Result<()> {
        if self.globals.offline {
            return Err(Error::new(
                Kind::Unreachable,
                "--offline forbids to reach a remote",
            ));
        }
        Ok(())
    }
}

fn stated_place(globals: &Globals, environment: &Environment) -> Option<PathBuf> {
    let variable = || environment.get(env::names::DIR).map(PathBuf::from);
    globals.repo.clone().or_else(variable)
}

/// The whole program; `src/main.rs` calls nothing else.
#[must_use]
pub fn main() -> ExitCode {
    errors::report_panics(panic_is_expected);
    let arguments = args::spelled_out(std::env::args_os().collect());
    if let Some(when) = typed_color(&arguments) {
        choose_color(when);
    }
    let parsed = args::command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => run(cli),
        Err(error) => {
            // Help and version come this way too, with exit code 0. If they cannot be printed,
            // nobody is there to be told.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

fn run(cli: Cli) -> ExitCode {
    let prepared = prepare(&cli);
    let (context, signals) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            errors::print(&error);
            return ExitCode::from(error.kind().exit_code());
        }
    };
    let Err(error) = dispatch(&context, &cli.verb) else {
        return match context.answer.get() {
            Answer::Yes => ExitCode::SUCCESS,
            Answer::No => ExitCode::from(1),
        };
    };
    if context.out.is_closed() {
        // `sparse log | head`: the reader has what it wanted.
        return ExitCode::SUCCESS;
    }
    errors::print(&error);
    ExitCode::from(match (error.kind(), signals.received()) {
        (Kind::Interrupted, Some(signal)) => signal.exit_code(),
        (kind, _) => kind.exit_code(),
    })
}

fn prepare(cli: &Cli) -> Result<(Context, Arc<Signals>)> {
    if let Some(folder) = &cli.globals.directory {
        std::env::set_current_dir(folder).at("change to", folder)?;
    }
    let signals = Arc::new(Signals::listen()?);
    let settings_matter = !matches!(
        cli.verb,
        Verb::Completions(_) | Verb::Version(_) | Verb::Help(_) | Verb::Add(_)
    );
    let context = Context::new(cli.globals.clone(), Arc::clone(&signals), settings_matter)?;
    Ok((context, signals))
}

fn dispatch(context: &Context, verb: &Verb) -> Result<()> {
    match verb {
        Verb::Config(args) => config::run(context, args),
        Verb::Completions(args) => completions::run(context, args),
        Verb::Remote(args) => remote::run(context, args),
        Verb::Version(args) => version::run(context, args),
        Verb::Help(args) => help::run(context, args),
        Verb::Add(_) => Err(Error::usage("there is no 'add' and no index")
            .hint("'sparse commit -m MESSAGE' takes the whole work tree")),
        Verb::Init(args) => init::run(context, args),
        Verb::Commit(args) => commit::run(context, args),
        Verb::Checkout(args) => checkout::run(context, args),
        Verb::Status(args) => status::run(context, args),
        Verb::Log(args) => log::run(context, args),
        Verb::Show(args) => show::run(context, args),
        Verb::Ls(args) => ls::run(context, args),
        Verb::Cat(args) => cat::run(context, args),
        Verb::Diff(args) => diff::run(context, args),
        Verb::Branch(args) => branch::run(context, args),
        Verb::Tag(args) => tag::run(context, args),
        Verb::Attach(args) => attach::run(context, args),
        Verb::Svd(args) => svd::run(context, args),
        Verb::Adapter(args) => adapter::run(context, args),
        Verb::Undo(args) => undo::run(context, args),
        Verb::Stats(args) => stats::run(context, args),
        Verb::Gc(args) => gc::run(context, args),
        Verb::Fsck(args) => fsck::run(context, args),
        Verb::Repair(args) => repair::run(context, args),
        Verb::Repack(args) => repack::run(context, args),
        Verb::Clone(args) => clone::run(context, args),
        Verb::Push(args) => push::run(context, args),
        Verb::Fetch(args) => fetch::run(context, args),
        Verb::Pull(args) => pull::run(context, args),
    }
}

/// Panics that the cache turns into misses, on this thread or on those that sled starts.
fn panic_is_expected() -> bool {
    crate::cache::in_guarded_call()
        || std::thread::current()
            .name()
            .is_some_and(|name| name.starts_with("sled-"))
}

/// `--color WHEN` as typed, before anything is parsed: help and errors of parsing are coloured too.
fn typed_color(arguments: &[OsString]) -> Option<ColorWhen> {
    let words: Vec<&str> = arguments
        .iter()
        .map_while(|word| word.to_str().filter(|word| *word != "--"))
        .collect();
    let after = |index: usize| words.get(index + 1).copied();
    let when = words.iter().enumerate().find_map(|(index, word)| {
        word.strip_prefix("--color=")
            .or_else(|| (*word == "--color").then(|| after(index)).flatten())
    })?;
    ColorWhen::from_str(when, false).ok()
}

fn choose_color(when: ColorWhen) {
    match when {
        ColorWhen::Auto => anstream::ColorChoice::Auto,
        ColorWhen::Always => anstream::ColorChoice::Always,
        ColorWhen::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_for_colour_is_seen_before_parsing() {
        let typed = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            typed_color(&words)
        };
        assert_eq!(typed("sparse log --color=never"), Some(ColorWhen::Never));
        assert_eq!(typed("sparse --color always x"), Some(ColorWhen::Always));
        assert_eq!(typed("sparse log --color"), None);
        assert_eq!(typed("sparse log -- --color=never"), None);
    }
}
