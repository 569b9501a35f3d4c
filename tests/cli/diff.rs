//! `sparse diff`.

use crate::{Sandbox, safetensors};

const BIG: &[u64] = &[300, 300];

fn two() -> Sandbox {
    let sandbox = Sandbox::new().with_store();
    let tensors = [
        ("a", BIG, 1.0),
        ("b", BIG, 2.0),
        ("c", &[4], 3.0),
        ("d", &[4], 4.0),
    ];
    sandbox.write("m.safetensors", safetensors(&tensors));
    sandbox.write("config.json", "{}");
    sandbox.write("old", "x");
    sandbox.commit("first", 1);
    let tensors = [
        ("a", BIG, 1.0),
        ("b", BIG, 2.5),
        ("c", &[4], 3.5),
        ("d", &[4], 4.0),
        ("e", &[2, 2], 0.0),
    ];
    sandbox.write("m.safetensors", safetensors(&tensors));
    std::fs::remove_file(sandbox.work("old")).unwrap();
    sandbox.write("new", "xy");
    sandbox
}

const SEEN: &str = "changed  m.safetensors  720 kB\n  \
    changed  b  F32 [300, 300], 360 kB in chunks that differ\n  \
    perhaps  c  F32 [4], shares a chunk that differs\n  \
    perhaps  d  F32 [4], shares a chunk that differs\n  \
    new      e  F32 [2, 2]\n  \
    same     1 tensors\n\
    new      new  2 B\n\
    deleted  old  1 B\n";

#[test]
fn versions_and_the_work_tree_are_compared_alike() {
    let sandbox = two();
    assert_eq!(sandbox.at_work(&["diff", "main"]), SEEN);
    sandbox.commit("second", 2);
    assert_eq!(sandbox.at_work(&["diff", "main~1", "main"]), SEEN);
    assert_eq!(sandbox.at_work(&["diff", "main"]), "nothing differs\n");
    assert_eq!(
        sandbox.at_work(&["diff", "-q", "main~1", "main"]),
        "m.safetensors\nnew\nold\n"
    );
}

#[test]
fn json_tells_types_shapes_and_bytes() {
    let sandbox = two();
    let document = &sandbox.json(&["diff", "main"])[0];
    assert_eq!(document["schema"], "sparse.diff/1");
    assert_eq!(document["to"], serde_json::Value::Null);
    assert_eq!(
        document["files"][0]["tensors"][0],
        serde_json::json!({
            "name": "b", "change": "changed",
            "before": {"dtype": "F32", "shape": [300, 300]},
            "after": {"dtype": "F32", "shape": [300, 300]},
            "changed_bytes": 360_000,
        })
    );
}

#[test]
fn the_exit_code_answers_when_asked() {
    let sandbox = two();
    let code = |words: &[&str]| sandbox.run(&[&["-C", "work"], words].concat()).code;
    assert_eq!(code(&["diff", "main"]), 0);
    assert_eq!(code(&["diff", "--exit-code", "main"]), 1);
    assert_eq!(code(&["diff", "--exit-code", "main", "main"]), 0);
    assert_eq!(code(&["diff", "--exit-code", "nowhere", "main"]), 3);
}
