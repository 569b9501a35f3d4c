//! `sparse show`.

use crate::{Sandbox, safetensors};

fn filled() -> (Sandbox, String) {
    let sandbox = Sandbox::new().with_store();
    sandbox.write("m.safetensors", safetensors(&[("w", &[2, 3], 1.0)]));
    let id = sandbox.commit("first", 1);
    (sandbox, id)
}

#[test]
fn a_commit_is_told_with_its_size() {
    let (sandbox, id) = filled();
    let bytes = std::fs::metadata(sandbox.work("m.safetensors"))
        .unwrap()
        .len();
    assert_eq!(
        sandbox.at_work(&["show", "main"]),
        format!(
            "commit {} (main)\nauthor  Ada Lovelace <ada@example.org>\n\
             date    2024-05-06 07:08:01 +00:00\n\n    first\n\n1 files, {bytes} B\n",
            &id[..12]
        )
    );
    assert_eq!(sandbox.at_work(&["show", "-q", "main"]), format!("{id}\n"));
    let document = &sandbox.json(&["show", "main"])[0];
    assert_eq!(document["schema"], "sparse.show/1");
    assert_eq!(document["commit"], id.as_str());
    assert_eq!(document["logical_bytes"], bytes);
}

#[test]
fn a_file_is_told_with_its_tensors_and_chunks() {
    let (sandbox, id) = filled();
    let printed = sandbox.at_work(&["show", "main:m.safetensors"]);
    let start = format!(
        "m.safetensors in {}\nlayout  safetensors\nfile    ",
        &id[..12]
    );
    assert!(printed.starts_with(&start), "{printed}");
    assert!(
        printed.contains("      24 B  F32   [2, 3]         w\n"),
        "{printed}"
    );
    let document = &sandbox.json(&["show", "main:m.safetensors"])[0];
    assert_eq!(document["schema"], "sparse.show-file/1");
    let chunks = document["chunks"].as_array().unwrap();
    let sum: u64 = chunks
        .iter()
        .map(|chunk| chunk["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, document["bytes"].as_u64().unwrap());
    for chunk in chunks {
        assert_eq!(chunk["predictor"], "none");
        assert_eq!(chunk["copies"], 1);
        assert!(chunk["stored_bytes"].as_u64().unwrap() > 0);
    }
    assert_eq!(sandbox.refused(&["show", "main:nothing"]).0, 3);
    assert_eq!(sandbox.refused(&["show", "nothing"]).0, 3);
}
