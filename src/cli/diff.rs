//! `sparse diff`.
//!
//! May use: everything below.

use serde::Serialize;
use store_format::dtype::DType;

use crate::error::Result;
use crate::flow::diff::{self, Difference, How, TensorDifference};
use crate::flow::status;

use super::args::DiffArgs;
use super::env::now_ns;
use super::out::{Page, Report};
use super::session::Session;
use super::status::{Tree, tint, word};
use super::text::{escaped, size};
use super::{Answer, Context};

#[derive(Serialize)]
struct Differences {
    from: String,
    /// Nothing for the work tree.
    to: Option<String>,
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    path: String,
    change: &'static str,
    bytes_before: Option<u64>,
    bytes_after: Option<u64>,
    same_tensors: u64,
    tensors: Vec<TensorLine>,
}

#[derive(Serialize)]
struct TensorLine {
    name: String,
    change: &'static str,
    before: Option<Kind>,
    after: Option<Kind>,
    changed_bytes: u64,
}

#[derive(Serialize)]
struct Kind {
    dtype: &'static str,
    shape: Vec<u64>,
}

impl Kind {
    fn text(&self) -> String {
        format!("{} {:?}", self.dtype, self.shape)
    }
}

impl From<Difference> for File {
    fn from(found: Difference) -> Self {
        Self {
            path: found.path,
            change: word(found.change),
            bytes_before: found.bytes.0,
            bytes_after: found.bytes.1,
            same_tensors: found.same_tensors,
            tensors: found.tensors.into_iter().map(TensorLine::from).collect(),
        }
    }
}

impl From<TensorDifference> for TensorLine {
    fn from(found: TensorDifference) -> Self {
        let kind = |(dtype, shape): (DType, Vec<u64>)| Kind {
            dtype: dtype.name(),
            shape,
        };
        Self {
            name: found.name,
            change: match found.how {
                How::New => "new",
                How::Deleted => "deleted",
                How::Changed => "changed",
                How::Perhaps => "perhaps",
            },
            before: found.before.map(kind),
            after: found.after.map(kind),
            changed_bytes: found.changed_bytes,
        }
    }
}

impl Report for Differences {
    const SCHEMA: &'static str = "sparse.diff/1";

    fn human(&self, page: &mut Page) {
        for file in &self.files {
            let sizes = match (file.bytes_before, file.bytes_after) {
                (Some(before), Some(after)) if size(before) != size(after) => {
                    format!("  {} → {}", size(before), size(after))
                }
                (Some(bytes), _) | (None, Some(bytes)) => format!("  {}", size(bytes)),
                (None, None) => String::new(),
            };
            page.line(format_args!(
                "{} {}{sizes}",
                tint(file.change).on(format!("{:<8}", file.change)),
                escaped(&file.path)
            ));
            file.tensors.iter().for_each(|tensor| tensor.write(page));
            if !file.tensors.is_empty() && file.same_tensors > 0 {
                page.line(format_args!("  same     {} tensors", file.same_tensors));
            }
        }
        if self.files.is_empty() {
            page.line("nothing differs");
        }
    }

    fn quiet(&self, page: &mut Page) {
        self.files.iter().for_each(|file| page.name(&file.path));
    }
}

impl TensorLine {
    fn write(&self, page: &mut Page) {
        let kinds = match (&self.before, &self.after) {
            (Some(before), Some(after)) if before.text() != after.text() => {
                format!("{} → {}", before.text(), after.text())
            }
            (Some(kind), _) | (None, Some(kind)) => kind.text(),
            (None, None) => String::new(),
        };
        let bytes = match self.change {
            "changed" => format!(", {} in chunks that differ", size(self.changed_bytes)),
            "perhaps" => ", shares a chunk that differs".to_owned(),
            _ => String::new(),
        };
        page.line(format_args!(
            "  {} {}  {kinds}{bytes}",
            tint(self.change).on(format!("{:<8}", self.change)),
            escaped(&self.name)
        ));
    }
}

pub(super) fn run(context: &Context, args: &DiffArgs) -> Result<()> {
    let session = Session::open(context)?;
    let from = session.resolve(&args.from)?;
    let to = args.to.as_ref().map(|to| session.resolve(to)).transpose()?;
    let (rebuilder, progress) = (&session.rebuilder, &context.progress);
    let found = match &to {
        Some(to) => diff::diff(rebuilder, &from, to)?,
        None => {
            let tree = Tree::of(&session, now_ns())?;
            let known = tree.known();
            let report = status::status(rebuilder, &tree.root, Some(from), &known, progress)?;
            diff::with_work_tree(rebuilder, &from, &tree.root, &report.changes, progress)?
        }
    };
    if args.exit_code && !found.is_empty() {
        context.answer(Answer::No);
    }
    context.out.page(&Differences {
        from: from.to_string(),
        to: to.map(|to| to.to_string()),
        files: found.into_iter().map(File::from).collect(),
    })
}
