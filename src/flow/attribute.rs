//! Attributes: typed JSON under namespaces, checked against the published schemas.
//!
//! May use: tiers 0 to 4. Holds: what is stored is one JSON document in one spelling, so that
//! equal values have equal bytes.

use std::collections::BTreeMap;

use serde_json::Value;
use store_format::commit::{Attribute, check_namespace};
use store_format::limits;

use crate::error::{Error, Result};
use crate::flow::schema;

/// The attributes of these values, ascending by namespace; several objects of one namespace are
/// united.
///
/// # Errors
/// `Usage` for a namespace or value that is not allowed, or does not fit its schema.
pub fn collect(values: Vec<(String, Value)>) -> Result<Vec<Attribute>> {
    let mut united: BTreeMap<String, Value> = BTreeMap::new();
    for (namespace, value) in values {
        match (united.get_mut(&namespace), value) {
            (Some(Value::Object(all)), Value::Object(more)) => all.extend(more),
            (Some(_), _) => {
                return Err(Error::usage(format!(
                    "'{namespace}' is given twice and is no object"
                )));
            }
            (None, value) => {
                united.insert(namespace, value);
            }
        }
    }
    united
        .into_iter()
        .map(|(namespace, value)| attribute(namespace, &value))
        .collect()
}

/// One attribute.
///
/// # Errors
/// As [`collect`].
pub fn attribute(namespace: String, value: &Value) -> Result<Attribute> {
    check_namespace(&namespace)
        .map_err(|rule| Error::usage(format!("'{namespace}' is no namespace: {rule}")))?;
    schema::check(&namespace, value)?;
    // Keys of objects ascend and numbers keep their text: one spelling.
    let json = value.to_string();
    if json.len() > limits::ATTRIBUTE_BYTES_MAX {
        return Err(
            Error::usage(format!("the value of '{namespace}' is too long"))
                .hint("commit it as a file and name the file"),
        );
    }
    Ok(Attribute { namespace, json })
}
