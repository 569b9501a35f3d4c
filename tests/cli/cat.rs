//! `sparse cat` and `sparse ls`.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::{Sandbox, safetensors};

fn filled() -> Sandbox {
    let sandbox = Sandbox::new().with_store();
    // Bytes that a filter of colours would take out.
    sandbox.write("colour.bin", b"\x1b[31mred\x1b[0m\xff\x00");
    sandbox.write("dir/run.sh", "#!/bin/sh\n");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(sandbox.work("dir/run.sh"), mode).unwrap();
    symlink("run.sh", sandbox.work("dir/link")).unwrap();
    std::fs::create_dir(sandbox.work("empty")).unwrap();
    sandbox.write("m.safetensors", safetensors(&[("w", &[2, 3], 1.0)]));
    sandbox.commit("first", 1);
    sandbox
}

#[test]
fn files_come_out_byte_for_byte() {
    let sandbox = filled();
    for name in ["colour.bin", "m.safetensors", "dir/run.sh"] {
        let output = sandbox
            .command(&["-C", "work", "cat", &format!("main:{name}")])
            .output()
            .unwrap();
        assert_eq!(output.stdout, std::fs::read(sandbox.work(name)).unwrap());
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let sandbox = filled();
    for (what, code) in [
        ("main", 2),
        ("main:", 2),
        ("main:dir", 2),
        ("main:dir/link", 2),
        ("main:nothing", 3),
        ("main:colour.bin/x", 3),
        ("nowhere:x", 3),
    ] {
        assert_eq!(sandbox.refused(&["cat", what]).0, code, "{what}");
    }
    let (_, err) = sandbox.refused(&["cat", "main:dir/link"]);
    assert!(
        err.starts_with("error: 'dir/link' is a link to 'run.sh'\n"),
        "{err}"
    );
}

#[test]
fn paths_are_listed_with_sizes() {
    let sandbox = filled();
    let printed = sandbox.at_work(&["ls"]);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(
        &lines[..4],
        [
            "    14 B  colour.bin",
            "       -  dir/link -> run.sh",
            "    10 B  dir/run.sh*",
            "       -  empty/",
        ]
    );
    assert_eq!(
        sandbox.at_work(&["ls", "-q", "main:dir"]),
        "dir/link\ndir/run.sh\n"
    );
    assert_eq!(
        sandbox.at_work(&["ls", "-z", "main:dir/"]),
        "dir/link\0dir/run.sh\0"
    );
    let document = &sandbox.json(&["ls", "main:dir/run.sh"])[0];
    assert_eq!(document["schema"], "sparse.ls/1");
    assert_eq!(
        document["entries"],
        serde_json::json!([{"path": "dir/run.sh", "kind": "executable", "bytes": 10}])
    );
    assert_eq!(sandbox.refused(&["ls", "main:nothing"]).0, 3);
}

#[test]
fn tensors_are_listed_with_types_and_shapes() {
    let sandbox = filled();
    assert_eq!(
        sandbox.at_work(&["ls", "--tensors", "main"]),
        "m.safetensors\n      24 B  F32   [2, 3]         w\n"
    );
    assert_eq!(
        sandbox.json(&["ls", "--tensors"])[0]["tensors"],
        serde_json::json!([{
            "path": "m.safetensors", "name": "w", "dtype": "F32", "shape": [2, 3], "bytes": 24,
        }])
    );
}
