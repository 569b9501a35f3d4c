//! What values of the known namespaces look like: the published JSON Schemas.
//!
//! May use: `error`. The only door of jsonschema. Must never fetch anything: schemas are part of
//! the program. A namespace that is not known is free.

use serde_json::Value;

use crate::error::{Error, Kind, Result};

/// The known namespaces and their schemas, ascending.
pub const SCHEMAS: [(&str, &str); 9] = [
    ("adapter", include_str!("../../docs/schemas/adapter.json")),
    ("data", include_str!("../../docs/schemas/data.json")),
    ("eval", include_str!("../../docs/schemas/eval.json")),
    ("license", include_str!("../../docs/schemas/license.json")),
    ("mor", include_str!("../../docs/schemas/mor.json")),
    ("prune", include_str!("../../docs/schemas/prune.json")),
    ("routing", include_str!("../../docs/schemas/routing.json")),
    ("svd", include_str!("../../docs/schemas/svd.json")),
    ("training", include_str!("../../docs/schemas/training.json")),
];

/// Faults that are named; there may be many more.
const FAULTS_MAX: usize = 5;

/// Checks a value of a namespace.
///
/// # Errors
/// `Usage`, with the path of each fault in the value.
pub fn check(namespace: &str, value: &Value) -> Result<()> {
    let Some((_, schema)) = SCHEMAS.iter().find(|(name, _)| *name == namespace) else {
        return Ok(());
    };
    let broken = |why: String| {
        Error::new(
            Kind::Unsupported,
            format!("the schema of '{namespace}' is broken"),
        )
        .because(why)
    };
    let schema: Value = serde_json::from_str(schema).map_err(|error| broken(error.to_string()))?;
    let validator =
        jsonschema::draft202012::new(&schema).map_err(|error| broken(error.to_string()))?;
    let mut faults = validator.iter_errors(value).take(FAULTS_MAX).peekable();
    if faults.peek().is_none() {
        return Ok(());
    }
    let error = Error::usage(format!("this is no value for '{namespace}'"));
    let error = faults.fold(error, |error, fault| {
        let place = fault.instance_path().to_string();
        let place = if place.is_empty() { "/" } else { &place };
        error.because(format!("at {place}: {fault}"))
    });
    Err(error.hint(format!(
        "docs/schemas/{namespace}.json says what fits; a namespace of your own is free"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fits(namespace: &str, value: &Value) -> bool {
        check(namespace, value).is_ok()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table of cases")]
    fn good_and_bad_values_are_told_apart() {
        let good = [
            (
                "adapter",
                json!({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "use_rslora": false, "bias": "none"}),
            ),
            (
                "data",
                json!({"source": "openwebtext", "commit": "ab".repeat(32), "rows": 10, "license": "CC0-1.0"}),
            ),
            ("eval", json!({"accuracy": 0.913, "latency_ms": 41})),
            (
                "eval",
                json!({"suite": "mmlu", "class": "complex", "metric": "accuracy", "value": 0.5, "n": 100, "standard_error": 0.05}),
            ),
            ("license", json!({"spdx": "Apache-2.0"})),
            (
                "mor",
                json!({"variant": "sparmor", "sparsity_k": 200, "depths": [1, 2, 3], "gate_hidden": 64}),
            ),
            (
                "mor",
                json!({"variant": "mor-expert", "num_recursion": 3, "sharing": "middle_cycle", "router": {"type": "linear", "alpha": 0.1}}),
            ),
            (
                "prune",
                json!({"type": "width", "method": "PPM", "percentage": 20, "divisor": 128}),
            ),
            (
                "prune",
                json!({"type": "depth", "method": "last", "layers": [10, 11]}),
            ),
            (
                "routing",
                json!({"hardware": "t4", "engine": "candle", "latency_ms": {"p50": 10, "p99": 30}, "cost_per_1m_tokens": 2.8, "quality_score": 0.88}),
            ),
            (
                "svd",
                json!({"rank": 16, "avg_reconstruction_error": 0.01, "max_reconstruction_error": 0.2, "lossy": true}),
            ),
            (
                "training",
                json!({"seed": 7, "optimizer": "adamw", "learning_rate": 5e-5, "epochs": 3}),
            ),
        ];
        for (namespace, value) in good {
            assert!(
                fits(namespace, &value),
                "{namespace}: {value}: {:?}",
                check(namespace, &value)
            );
        }
        let bad = [
            ("adapter", json!({"r": 8})),
            ("adapter", json!({"peft_type": "LORA", "r": 0})),
            ("data", json!({"rows": -1})),
            ("data", json!({"source": "x", "commit": "not hex"})),
            ("eval", json!({"accuracy": "high"})),
            ("eval", json!({"metric": "accuracy"})),
            (
                "eval",
                json!({"suite": "mmlu", "class": "hard", "metric": "accuracy", "value": 1}),
            ),
            ("eval", json!([1, 2])),
            ("license", json!({})),
            ("license", json!({"spdx": ""})),
            (
                "mor",
                json!({"variant": "sparmor", "depths": [1], "sparsity_k": 0}),
            ),
            ("mor", json!({"variant": "mor-token"})),
            ("prune", json!({"type": "width", "method": "magic"})),
            ("prune", json!({"type": "depth", "method": "PPM"})),
            (
                "prune",
                json!({"type": "width", "method": "PPM", "percentage": 101}),
            ),
            ("routing", json!({"quality_score": 2})),
            ("routing", json!({"latency_ms": {"p50": -1}})),
            ("svd", json!({"rank": 0})),
            ("svd", json!({"avg_reconstruction_error": 0.1})),
            ("training", json!({"seed": "seven"})),
            ("training", json!({"epochs": -3})),
        ];
        for (namespace, value) in bad {
            assert!(!fits(namespace, &value), "{namespace}: {value}");
        }
        assert!(fits("my.own", &json!([null, "anything"])));
    }

    #[test]
    fn a_fault_is_named_by_its_path() {
        let error = check("routing", &json!({"latency_ms": {"p50": -1}})).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(
            error.causes()[0].starts_with("at /latency_ms/p50: "),
            "{:?}",
            error.causes()
        );
    }

    #[test]
    fn every_known_namespace_has_good_and_bad_values_above_and_a_sound_schema() {
        assert!(SCHEMAS.is_sorted_by(|a, b| a.0 < b.0));
        for (name, schema) in SCHEMAS {
            let schema: Value = serde_json::from_str(schema).unwrap();
            assert!(jsonschema::meta::is_valid(&schema), "{name}");
            assert_eq!(
                schema["$schema"],
                "https://json-schema.org/draft/2020-12/schema"
            );
            assert_eq!(schema["title"], name);
        }
    }
}
