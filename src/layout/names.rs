//! Names of the same tensor in GGUF and in Hugging Face files.
//!
//! May use: nothing beyond its parent. Must never guess: a name that is not in the table has no
//! other name.
//!
//! The table is that of decoders of the Llama family (Llama, Mistral, Qwen and others that name
//! their parts alike). Experts are left out: GGUF stacks them in one tensor.

use super::GgufMeta;

/// Names outside the layers: in GGUF and in Hugging Face files, without what follows the last dot.
const OUTER: [(&str, &str); 3] = [
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
];

/// Names inside a layer, in the same way.
const INNER: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Where layers stand: in GGUF and in Hugging Face files.
const LAYERS: (&str, &str) = ("blk.", "model.layers.");

/// The name in Hugging Face files of a tensor of a GGUF file.
#[must_use]
pub fn from_gguf(name: &str) -> Option<String> {
    let (stem, kind) = split(name)?;
    if let Some((number, stem)) = layer(stem, LAYERS.0) {
        let (_, other) = INNER.iter().find(|(gguf, _)| *gguf == stem)?;
        return Some(format!("{}{number}.{other}.{kind}", LAYERS.1));
    }
    let (_, other) = OUTER.iter().find(|(gguf, _)| *gguf == stem)?;
    Some(format!("{other}.{kind}"))
}

/// The name in a GGUF file of a tensor of Hugging Face files.
#[must_use]
pub fn to_gguf(name: &str) -> Option<String> {
    let (stem, kind) = split(name)?;
    if let Some((number, stem)) = layer(stem, LAYERS.1) {
        let (other, _) = INNER.iter().find(|(_, hugging)| *hugging == stem)?;
        return Some(format!("{}{number}.{other}.{kind}", LAYERS.0));
    }
    let (other, _) = OUTER.iter().find(|(_, hugging)| *hugging == stem)?;
    Some(format!("{other}.{kind}"))
}

/// Heads of a projection whose rows GGUF keeps in another order for rotary positions: rows are
/// to be seen as (heads, 2, rest) and the last two exchanged. `None`: rows stand as they are.
#[must_use]
pub fn rotary_heads(meta: &GgufMeta, name: &str) -> Option<u64> {
    // Of the architectures of the table only this one is converted so.
    if meta.text("general.architecture")? != "llama" {
        return None;
    }
    let heads = || meta.number("llama.attention.head_count");
    let (stem, _) = split(name)?;
    match layer(stem, LAYERS.0)?.1 {
        "attn_q" => heads(),
        "attn_k" => meta.number("llama.attention.head_count_kv").or_else(heads),
        _ => None,
    }
}

/// A name and its last part, if that is one of the two that tensors have.
fn split(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.')
        .filter(|(_, kind)| matches!(*kind, "weight" | "bias"))
}

/// The number of a layer, and what follows it.
fn layer<'a>(stem: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let (number, rest) = stem.strip_prefix(prefix)?.split_once('.')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::GgufValue;

    #[test]
    fn every_name_of_the_table_leads_back() {
        for (gguf, hugging) in INNER {
            for kind in ["weight", "bias"] {
                let gguf = format!("blk.17.{gguf}.{kind}");
                let hugging = format!("model.layers.17.{hugging}.{kind}");
                assert_eq!(from_gguf(&gguf).as_deref(), Some(hugging.as_str()));
                assert_eq!(to_gguf(&hugging), Some(gguf));
            }
        }
        for (gguf, hugging) in OUTER {
            let (gguf, hugging) = (format!("{gguf}.weight"), format!("{hugging}.weight"));
            assert_eq!(from_gguf(&gguf).as_deref(), Some(hugging.as_str()));
            assert_eq!(to_gguf(&hugging), Some(gguf));
        }
    }

    #[test]
    fn other_names_have_no_other_name() {
        let odd = [
            "",
            ".",
            "weight",
            "blk.weight",
            "blk..attn_q.weight",
            "blk.x.attn_q.weight",
        ];
        let more = [
            "blk.0.attn_q",
            "blk.0.ffn_gate_exps.weight",
            "rope_freqs.weight",
        ];
        for name in odd.into_iter().chain(more) {
            assert_eq!(from_gguf(name), None, "{name}");
            assert_eq!(to_gguf(name), None, "{name}");
        }
    }

    #[test]
    fn only_queries_and_keys_of_llama_are_turned() {
        let meta = |architecture: &str, kv: bool| GgufMeta {
            version: 3,
            alignment: 32,
            keys: [
                ("general.architecture", GgufValue::Text(architecture.into())),
                ("llama.attention.head_count", GgufValue::Unsigned(16)),
            ]
            .into_iter()
            .chain(kv.then_some(("llama.attention.head_count_kv", GgufValue::Unsigned(4))))
            .map(|(key, value)| (key.to_string(), value))
            .collect(),
        };
        let llama = meta("llama", true);
        assert_eq!(rotary_heads(&llama, "blk.3.attn_q.weight"), Some(16));
        assert_eq!(rotary_heads(&llama, "blk.3.attn_k.weight"), Some(4));
        assert_eq!(rotary_heads(&llama, "blk.3.attn_v.weight"), None);
        assert_eq!(rotary_heads(&llama, "output.weight"), None);
        assert_eq!(
            rotary_heads(&meta("llama", false), "blk.3.attn_k.weight"),
            Some(16)
        );
        assert_eq!(
            rotary_heads(&meta("qwen2", true), "blk.3.attn_q.weight"),
            None
        );
    }
}
