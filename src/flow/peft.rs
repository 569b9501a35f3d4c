//! What a PEFT folder says: which tensors are parts of adapters, and how they are merged.
//!
//! May use: tiers 0 to 4. Must never trust the configuration: it is a file like any other, and a
//! wrong one makes a wrong prediction, never wrong bytes.

use serde_json::{Map, Value};

use crate::predict::adapter::{Adapter, Form};

/// The file beside an adapter's tensors that says how they are used.
pub const CONFIG: &str = "adapter_config.json";

/// The longest configuration that is read.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// What PEFT puts before the names of a wrapped model's tensors.
pub const PREFIX: &str = "base_model.model.";

/// Parts of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Rank rows of the layer's inputs.
    A,
    /// A row of the rank for each output.
    B,
    /// The length of each output's row, where weights are decomposed (DoRA).
    Magnitude,
}

impl Part {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// Its place beside the others.
    #[must_use]
    pub const fn place(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
            Self::Magnitude => 2,
        }
    }
}

/// Whether a file of an adapter's folder holds its tensors: PEFT names them so, and a folder may
/// hold the states of a trainer besides.
#[must_use]
pub fn is_weights(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.starts_with("adapter_model.")
}

/// The layer whose adapter a tensor is part of.
#[must_use]
pub fn part_of_adapter(name: &str) -> Option<(&str, Part)> {
    let name = name.strip_suffix(".weight").unwrap_or(name);
    let (layer, part) = name.rsplit_once('.')?;
    match part {
        "lora_A" => Some((layer, Part::A)),
        "lora_B" => Some((layer, Part::B)),
        "lora_magnitude_vector" => Some((layer, Part::Magnitude)),
        _ => None,
    }
}

/// The configuration of an adapter.
#[derive(Clone, Debug)]
pub struct Config {
    fields: Map<String, Value>,
}

impl Config {
    /// Reads it; nothing where it is not a JSON object that names a type of adapter.
    ///
    /// ```
    /// use sparse_store::flow::peft::Config;
    /// let config = Config::parse(br#"{"peft_type": "LORA", "r": 8, "lora_alpha": 16}"#).unwrap();
    /// assert_eq!(config.peft_type(), "LORA");
    /// assert_eq!(config.scale("model.layers.0.self_attn.q_proj", 8), Some(2.0));
    /// ```
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let Value::Object(fields) = serde_json::from_slice(bytes).ok()? else {
            return None;
        };
        fields.get("peft_type")?.as_str()?;
        Some(Self { fields })
    }

    /// The type of adapter, as PEFT names it: `LORA`.
    #[must_use]
    pub fn peft_type(&self) -> &str {
        let name = self.fields.get("peft_type").and_then(Value::as_str);
        name.unwrap_or_default()
    }

    fn flag(&self, name: &str) -> bool {
        self.fields.get(name).and_then(Value::as_bool) == Some(true)
    }

    /// Why this adapter cannot be merged, if it cannot.
    #[must_use]
    pub fn unmergeable(&self) -> Option<String> {
        let kind = self.peft_type();
        if kind != "LORA" {
            return Some(format!("adapters of type {kind}"));
        }
        // The length of an output would be that of a column.
        (self.flag("use_dora") && self.flag("fan_in_fan_out")).then(|| {
            "weight-decomposed adapters (DoRA) of weights with a row for each input".into()
        })
    }

    /// How the layers lie in their weights, and whether their rows have lengths of their own.
    #[must_use]
    pub fn form(&self) -> Form {
        if self.flag("use_dora") {
            Form::Decomposed
        } else if self.flag("fan_in_fan_out") {
            Form::ByInput
        } else {
            Form::ByOutput
        }
    }

    /// The factor of a layer's product, by its own or the common alpha; patterns name layers by
    /// how their names end.
    #[must_use]
    pub fn scale(&self, layer: &str, rank: u64) -> Option<f32> {
        let patterns = self.fields.get("alpha_pattern").and_then(Value::as_object);
        let own = patterns.into_iter().flatten().find(|(pattern, _)| {
            let rest = layer.strip_suffix(pattern.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        let own = own.and_then(|(_, alpha)| alpha.as_f64());
        let alpha = own.or_else(|| self.fields.get("lora_alpha")?.as_f64())?;
        let rank = u32::try_from(rank).unwrap_or(u32::MAX).max(1);
        Some(Adapter::scale_of(alpha, rank, self.flag("use_rslora")))
    }

    /// Whether a layer may have this rank: the common one, or that of a pattern. Any is right
    /// where none is stated.
    #[must_use]
    pub fn allows_rank(&self, rank: u64) -> bool {
        let patterns = self.fields.get("rank_pattern").and_then(Value::as_object);
        let own = patterns.into_iter().flatten().map(|(_, rank)| rank);
        let common = self.fields.get("r").and_then(Value::as_u64);
        common.is_none_or(|common| common == rank) || own.into_iter().any(|own| *own == rank)
    }

    /// The fields that the attribute `adapter` has, as far as they are stated.
    #[must_use]
    pub fn attribute(&self) -> Map<String, Value> {
        const FIELDS: [&str; 14] = [
            "peft_type",
            "r",
            "lora_alpha",
            "lora_dropout",
            "target_modules",
            "modules_to_save",
            "rank_pattern",
            "alpha_pattern",
            "use_rslora",
            "use_dora",
            "fan_in_fan_out",
            "bias",
            "task_type",
            "base_model_name_or_path",
        ];
        let stated = |name: &&str| self.fields.get(*name).filter(|value| !value.is_null());
        let field = |name: &&str| Some(((*name).to_owned(), stated(name)?.clone()));
        FIELDS.iter().filter_map(field).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_by_their_names() {
        let q = "base_model.model.layers.0.q_proj";
        let of = |name: &str| {
            part_of_adapter(&format!("{q}.{name}")).map(|(layer, part)| {
                assert_eq!(layer, q);
                part
            })
        };
        assert_eq!(of("lora_A.weight"), Some(Part::A));
        assert_eq!(of("lora_B"), Some(Part::B));
        assert_eq!(of("lora_magnitude_vector"), Some(Part::Magnitude));
        assert_eq!((of("weight"), part_of_adapter("lora_A")), (None, None));
    }

    #[test]
    fn tensors_of_an_adapter_are_told_from_those_of_its_trainer() {
        assert!(is_weights("adapter_model.safetensors") && is_weights("a/b/adapter_model.bin"));
        assert!(!is_weights("optimizer.pt") && !is_weights("adapter_model/x.pt"));
    }

    #[test]
    fn a_layer_has_its_own_alpha_or_the_common_one() {
        let config = br#"{"peft_type": "LORA", "lora_alpha": 16, "use_rslora": true,
            "alpha_pattern": {"q_proj": 32, "1.v_proj": "x"}}"#;
        let config = Config::parse(config).unwrap();
        assert_eq!(config.scale("layers.0.q_proj", 16), Some(8.0));
        assert_eq!(config.scale("layers.0.aq_proj", 16), Some(4.0));
        assert_eq!(config.scale("layers.1.v_proj", 16), Some(4.0));
        assert_eq!(config.unmergeable(), None);
        let bare = Config::parse(br#"{"peft_type": "LORA"}"#).unwrap();
        assert_eq!(bare.scale("q_proj", 8), None);
    }

    #[test]
    fn a_layer_has_the_common_rank_or_that_of_a_pattern() {
        let of = |text: &str| Config::parse(text.as_bytes()).unwrap();
        let config = of(r#"{"peft_type": "LORA", "r": 8, "rank_pattern": {"q_proj": 4}}"#);
        assert_eq!(
            [8, 4, 16].map(|rank| config.allows_rank(rank)),
            [true, true, false]
        );
        assert!(of(r#"{"peft_type": "LORA", "rank_pattern": {}}"#).allows_rank(16));
    }

    #[test]
    fn what_cannot_be_merged_is_named() {
        let of = |text: &str| Config::parse(text.as_bytes()).unwrap().unmergeable();
        assert!(of(r#"{"peft_type": "IA3"}"#).unwrap().contains("IA3"));
        let dora = r#"{"peft_type": "LORA", "use_dora": true, "fan_in_fan_out": true}"#;
        assert!(of(dora).unwrap().contains("DoRA"));
        assert!(Config::parse(b"{}").is_none() && Config::parse(b"[").is_none());
    }

    #[test]
    fn the_attribute_has_what_is_stated_and_fits_its_schema() {
        let config = br#"{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none",
            "modules_to_save": null, "peft_version": "0.17"}"#;
        let attribute = Config::parse(config).unwrap().attribute();
        let names: Vec<&str> = attribute.keys().map(String::as_str).collect();
        assert_eq!(names, ["bias", "lora_alpha", "peft_type", "r"]);
        let attribute = Value::Object(attribute);
        crate::flow::schema::check("adapter", &attribute).unwrap();
    }
}
