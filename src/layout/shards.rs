//! The index file of a model that is split into several files.
//!
//! May use: nothing of this crate. Must never read a file.

use std::collections::BTreeMap;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// A longer index is not looked at.
const INDEX_BYTES_MAX: usize = 64 << 20;

/// Whether a name is that of an index file (`model.safetensors.index.json` and the like).
#[must_use]
pub fn is_index(name: &str) -> bool {
    name.ends_with(".safetensors.index.json") || name.ends_with(".bin.index.json")
}

/// Which file holds each tensor, from the bytes of an index file; `None` if it is not one, if a
/// tensor is named twice, or if a file name is not a plain name in the same directory.
#[must_use]
pub fn weight_map(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    if bytes.len() > INDEX_BYTES_MAX {
        return None;
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let found = json.deserialize_map(Index).ok()?;
    json.end().ok()?;
    found
}

/// A name that cannot lead out of the directory.
fn is_plain(file: &str) -> bool {
    !file.is_empty() && file != "." && file != ".." && !file.contains(['/', '\\', '\0'])
}

/// The whole index: all but `weight_map` is skipped.
struct Index;

impl<'de> Visitor<'de> for Index {
    type Value = Option<BTreeMap<String, String>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an index of shards")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == "weight_map" {
                if found.is_some() {
                    return Ok(None);
                }
                found = Some(map.next_value::<Weights>()?.0);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// The map itself, each tensor once.
struct Weights(BTreeMap<String, String>);

impl<'de> serde::Deserialize<'de> for Weights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WeightsVisitor)
    }
}

struct WeightsVisitor;

impl<'de> Visitor<'de> for WeightsVisitor {
    type Value = Weights;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("tensor names to file names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Weights, A::Error> {
        use serde::de::Error as _;
        let mut weights = BTreeMap::new();
        while let Some((tensor, file)) = map.next_entry::<String, String>()? {
            if !is_plain(&file) {
                return Err(A::Error::custom("not a plain file name"));
            }
            if weights.insert(tensor, file).is_some() {
                return Err(A::Error::custom("a tensor is named twice"));
            }
        }
        Ok(Weights(weights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_and_the_rest_skipped() {
        let json = br#"{"metadata":{"total_size":12},"weight_map":{"b":"2.safetensors","a":"1.safetensors"}}"#;
        let map = weight_map(json).expect("an index");
        assert_eq!(map.get("a").map(String::as_str), Some("1.safetensors"));
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn odd_indexes_are_refused() {
        for json in [
            &b"{}"[..],
            b"",
            b"[]",
            b"{\"weight_map\":3}",
            b"{\"weight_map\":{\"a\":1}}",
            b"{\"weight_map\":{\"a\":\"../x\"}}",
            b"{\"weight_map\":{\"a\":\"/x\"}}",
            b"{\"weight_map\":{\"a\":\"\"}}",
            b"{\"weight_map\":{\"a\":\"x\",\"a\":\"x\"}}",
            b"{\"weight_map\":{},\"weight_map\":{}}",
            b"{\"weight_map\":{\"a\":\"x\"}} trailing",
            b"{\"weight_map\":{\"a\":\"x\"}",
        ] {
            assert_eq!(weight_map(json), None, "{}", String::from_utf8_lossy(json));
        }
        let deep = [b"{\"x\":".as_slice(), &vec![b'['; 1 << 20]].concat();
        assert_eq!(weight_map(&deep), None);
    }

    #[test]
    fn names_of_indexes() {
        assert!(is_index("model.safetensors.index.json"));
        assert!(is_index("pytorch_model.bin.index.json"));
        assert!(!is_index("config.json"));
    }
}
