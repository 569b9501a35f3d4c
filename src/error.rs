//! What went wrong, by what the caller can do about it. Each kind has one exit code.
//!
//! May use: nothing of this crate. Must never print or exit.

use std::fmt;
use std::path::{Path, PathBuf};

use store_format::FormatError;

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// What the caller can do about a failure. The exit codes are documented in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request makes no sense: read the hint and retype. Exit code 2.
    Usage,
    /// A name, revision, path or store that is not there. Exit code 3.
    NotFound,
    /// Not logged in or not allowed. Exit code 4.
    Forbidden,
    /// Somebody else was first, or local changes would be lost. Exit code 5.
    Conflict,
    /// Bytes are not what they must be. Exit code 6.
    Corrupt,
    /// A remote could not be reached. Exit code 7.
    Unreachable,
    /// No space left, or beyond a limit. Exit code 8.
    Full,
    /// Made by a newer version of this program. Exit code 1.
    Unsupported,
    /// The disk or the network failed. Exit code 1.
    Io,
    /// The caller asked to stop. Exit code 130.
    Interrupted,
}

impl Kind {
    /// The exit code of the program for this kind.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Io | Self::Unsupported => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Forbidden => 4,
            Self::Conflict => 5,
            Self::Corrupt => 6,
            Self::Unreachable => 7,
            Self::Full => 8,
            Self::Interrupted => 130,
        }
    }
}

/// A failure: what happened, what caused it, and what to do next.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    what: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Error {
    /// A failure of a kind; `what` is one line in lower case without a full stop.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            what: what.into(),
            causes: Vec::new(),
            hint: None,
        }))
    }

    /// A request that makes no sense.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// Something named that is not there.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, what)
    }

    /// Bytes that are not what they must be.
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, what)
    }

    /// Somebody else was first, or something would be overwritten.
    pub fn conflict(what: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, what)
    }

    /// An operation on a file that the system refused; a full disk and what is not allowed are told
    /// apart.
    pub fn io(action: &str, path: &Path, source: &std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        let inner = source
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Self>());
        if let Some(inner) = inner {
            // A remote that is used as a disk: what it said is kept.
            let error = Self::new(
                inner.kind(),
                format!("cannot {action} '{}'", path.display()),
            );
            let causes = std::iter::once(&inner.0.what).chain(&inner.0.causes);
            let error = causes.fold(error, |error, cause| error.because(cause));
            return match inner.hint_text() {
                Some(hint) => error.hint(hint),
                None => error,
            };
        }
        let kind = match source.kind() {
            E::StorageFull | E::QuotaExceeded | E::FileTooLarge => Kind::Full,
            E::NotFound => Kind::NotFound,
            E::Interrupted => Kind::Interrupted,
            E::PermissionDenied => Kind::Forbidden,
            _ => Kind::Io,
        };
        let error = Self::new(kind, format!("cannot {action} '{}'", path.display()));
        let error = error.because(source);
        match kind {
            Kind::Full => {
                error.hint("free some space and try again; what was stored before is whole")
            }
            Kind::Forbidden => error.hint("see who owns it and who may read and write it"),
            _ => error,
        }
    }

    /// The same failure, with what caused it.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.0.causes.push(cause.to_string());
        self
    }

    /// The same failure, with a command or an act that helps.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same failure seen from one level up: `what` becomes the line, the old line a cause.
    #[must_use]
    pub fn while_doing(mut self, what: impl Into<String>) -> Self {
        let inner = &mut *self.0;
        inner
            .causes
            .insert(0, std::mem::replace(&mut inner.what, what.into()));
        self
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The causes, nearest first.
    #[must_use]
    pub fn causes(&self) -> &[String] {
        &self.0.causes
    }

    /// The command or act that helps, if one is known.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)
    }
}

impl std::error::Error for Error {}

/// Damaged bytes, or bytes of a newer version; callers say of which file or object.
impl From<FormatError> for Error {
    fn from(source: FormatError) -> Self {
        let kind = match source {
            FormatError::Unsupported { .. } | FormatError::UnknownFeature { .. } => {
                Kind::Unsupported
            }
            _ => Kind::Corrupt,
        };
        Self::new(kind, source.to_string())
    }
}

/// Adds the path and the action to an [`std::io::Error`].
pub trait IoContext<T> {
    /// Turns a failure into [`Error::io`].
    ///
    /// # Errors
    /// The failure itself, with `action` and `path`.
    fn at(self, action: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn at(self, action: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| {
            let path: PathBuf = path.as_ref().into();
            Error::io(action, &path, &source)
        })
    }
}
