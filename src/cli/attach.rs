//! `sparse attach`, and how values are typed.
//!
//! May use: everything below.

use serde_json::Value;

use crate::error::{Error, IoContext, Result};

use super::args::Source;

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
