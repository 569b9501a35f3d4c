//! `sparse ls`.
//!
//! May use: everything below.

use serde::Serialize;
use store_format::layout::Tensor;
use store_format::manifest::Manifest;

use crate::error::Result;
use crate::flow::list;
use crate::flow::tree::{Leaf, Leafy};

use super::Context;
use super::args::LsArgs;
use super::out::{Page, Report, Tint};
use super::session::Session;
use super::text::{escaped, size};

#[derive(Serialize)]
struct Listing {
    commit: String,
    entries: Vec<Entry>,
    #[serde(skip)]
    bare: bool,
}

#[derive(Serialize)]
struct Entry {
    path: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl Entry {
    fn new(leaf: Leaf) -> Self {
        let bytes = match &leaf.node {
            Leafy::File { bytes, .. } => Some(*bytes),
            Leafy::Symlink(_) | Leafy::EmptyDirectory | Leafy::Attachment(_) => None,
        };
        let (kind, target) = match leaf.node {
            Leafy::File { executable, .. } => {
                (if executable { "executable" } else { "file" }, None)
            }
            Leafy::Symlink(target) => ("link", Some(target)),
            Leafy::EmptyDirectory => ("directory", None),
            Leafy::Attachment(_) => ("attachment", None),
        };
        Self {
            path: leaf.path,
            kind,
            bytes,
            target,
        }
    }
}

impl Report for Listing {
    const SCHEMA: &'static str = "sparse.ls/1";

    fn human(&self, page: &mut Page) {
        for entry in &self.entries {
            if self.bare {
                page.name(&entry.path);
                continue;
            }
            let bytes = entry.bytes.map_or_else(|| "-".to_owned(), size);
            let sign = match entry.kind {
                "executable" => "*",
                "directory" => "/",
                _ => "",
            };
            let target = entry
                .target
                .as_ref()
                .map_or_else(String::new, |target| format!(" -> {}", escaped(target)));
            page.line(format_args!(
                "{bytes:>8}  {}{sign}{target}",
                escaped(&entry.path)
            ));
        }
    }

    fn quiet(&self, page: &mut Page) {
        self.entries.iter().for_each(|entry| page.name(&entry.path));
    }
}

/// A tensor in one line.
#[derive(Serialize)]
pub(super) struct TensorLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    name: String,
    dtype: &'static str,
    shape: Vec<u64>,
    bytes: u64,
}

impl TensorLine {
    pub(super) fn new(path: Option<&str>, tensor: &Tensor) -> Self {
        Self {
            path: path.map(str::to_owned),
            name: tensor.name.clone(),
            dtype: tensor.dtype.name(),
            shape: tensor.shape.clone(),
            bytes: tensor.bytes,
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        page.line(format_args!(
            "  {:>8}  {:<5} {:<14} {}",
            size(self.bytes),
            self.dtype,
            format!("{:?}", self.shape),
            escaped(&self.name)
        ));
    }
}

#[derive(Serialize)]
struct Tensors {
    commit: String,
    tensors: Vec<TensorLine>,
}

impl Report for Tensors {
    const SCHEMA: &'static str = "sparse.ls-tensors/1";

    fn human(&self, page: &mut Page) {
        let mut file = None;
        for tensor in &self.tensors {
            if file != Some(&tensor.path) {
                let path = tensor.path.as_deref().unwrap_or_default();
                page.line(Tint::Name.on(escaped(path)));
                file = Some(&tensor.path);
            }
            tensor.write(page);
        }
    }

    fn quiet(&self, page: &mut Page) {
        self.tensors
            .iter()
            .for_each(|tensor| page.name(&tensor.name));
    }
}

pub(super) fn run(context: &Context, args: &LsArgs) -> Result<()> {
    let session = Session::open(context)?;
    let (rev, path) = match &args.what {
        Some(what) => (&*what.rev, what.path.as_deref().unwrap_or_default()),
        None => ("HEAD", ""),
    };
    let commit = session.resolve(rev)?;
    let leaves = list::list(&session.rebuilder, &commit, path)?;
    if args.tensors {
        let mut tensors = Vec::new();
        for leaf in &leaves {
            if let Leafy::File { manifest, .. } = &leaf.node {
                let manifest = session.rebuilder.object::<Manifest>(manifest)?;
                let lines = manifest.tensors.iter();
                tensors.extend(lines.map(|tensor| TensorLine::new(Some(&leaf.path), tensor)));
            }
        }
        let commit = commit.to_string();
        return context.out.print(&Tensors { commit, tensors });
    }
    let listing = Listing {
        commit: commit.to_string(),
        entries: leaves.into_iter().map(Entry::new).collect(),
        bare: args.nul,
    };
    if args.nul {
        context.out.print_nul(&listing)
    } else {
        context.out.print(&listing)
    }
}
