//! `sparse attach`, and how values are typed.
//!
//! May use: everything below.

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, IoContext, Result};
use crate::flow::{attribute, notes};

use super::Context;
use super::args::{AttachArgs, Source};
use super::out::{Page, Report, Tint};
use super::session::{Session, signature};
use super::text::escaped;

#[derive(Serialize)]
struct Attached {
    attachment: String,
    commit: String,
    namespace: String,
    value: Value,
}

impl Report for Attached {
    const SCHEMA: &'static str = "sparse.attach/1";

    fn human(&self, page: &mut Page) {
        page.line(format_args!(
            "attached {} to {}",
            Tint::Name.on(escaped(&self.namespace)),
            Tint::Id.on(&self.commit[..12])
        ));
    }

    fn quiet(&self, page: &mut Page) {
        page.line(&self.attachment);
    }
}

pub(super) fn run(context: &Context, args: &AttachArgs) -> Result<()> {
    let session = Session::open(context)?;
    let commit = session.resolve(&args.rev)?;
    let mut values = Vec::new();
    for source in &args.sources {
        values.push((args.namespace.clone(), value(source)?));
    }
    let collected = attribute::collect(values)?;
    let [attribute] = collected.as_slice() else {
        return Err(Error::usage("a file or key=value is missing"));
    };
    let id = notes::attach(&session.store, commit, attribute, &signature(context)?)?;
    context.out.print(&Attached {
        attachment: id.to_string(),
        commit: commit.to_string(),
        namespace: args.namespace.clone(),
        value: notes::value(attribute)?,
    })
}

/// The value that a source gives: a file's JSON, or an object with one key. A value that reads
/// as JSON is that, anything else a text.
pub(super) fn value(source: &Source) -> Result<Value> {
    match source {
        Source::Pair(key, text) => {
            let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str()));
            Ok(Value::Object([(key.clone(), value)].into_iter().collect()))
        }
        Source::File(path) => {
            let text = std::fs::read_to_string(path).at("read", path)?;
            serde_json::from_str(&text).map_err(|error| {
                Error::usage(format!("'{}' is not JSON", path.display())).because(error)
            })
        }
    }
}
