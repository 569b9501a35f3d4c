//! The tensors in the containers of a pickle, each named by its path.
//!
//! May use: nothing beyond its parent. Must never recurse: a pickle may nest as deep as it is
//! long, and its containers may contain themselves.

use super::{Node, Stored, Value};
use crate::layout::TENSORS_MAX;

/// Containers deeper than this, and longer paths, are passed over.
const DEPTH_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 1024;

/// Bytes of all names together.
const NAMES_BYTES_MAX: usize = 64 << 20;

/// What modules keep their parts in; the words say nothing in a name.
const INNER: [&[u8]; 3] = [b"_modules", b"_parameters", b"_buffers"];

/// A container that is being gone through.
struct Frame {
    node: usize,
    next: usize,
    /// Length of the path that leads here.
    path_bytes: usize,
}

/// All tensors in the order in which they are found; each container is entered once, by its
/// first path, but a tensor is listed each time it is named.
pub(super) fn walk(pickle: &[u8], nodes: &[Node], root: Value) -> Option<Vec<Stored>> {
    let mut found = Vec::new();
    let mut names_bytes = 0_usize;
    let mut seen = vec![false; nodes.len()];
    let mut path = String::new();
    let mut frames = Vec::new();
    enter(nodes, root, 0, &mut seen, &mut frames);
    while let Some(frame) = frames.last_mut() {
        path.truncate(frame.path_bytes);
        let Some((key, value)) = child(nodes.get(frame.node)?, frame.next) else {
            frames.pop();
            continue;
        };
        let fits = step(pickle, &mut path, key, frame.next);
        frame.next += 1;
        if !fits {
            continue;
        }
        if let Value::Node(index) = value
            && let Some(Node::Tensor(tensor)) = nodes.get(index as usize)
        {
            names_bytes += path.len();
            if found.len() == TENSORS_MAX || names_bytes > NAMES_BYTES_MAX {
                return None;
            }
            let mut tensor = Stored::clone(tensor);
            tensor.name.clone_from(&path);
            found.push(tensor);
        } else if frames.len() < DEPTH_MAX {
            enter(nodes, value, path.len(), &mut seen, &mut frames);
        }
    }
    Some(found)
}

/// Goes into a container that was not seen yet.
fn enter(
    nodes: &[Node],
    value: Value,
    path_bytes: usize,
    seen: &mut [bool],
    frames: &mut Vec<Frame>,
) {
    let Value::Node(index) = value else { return };
    let index = index as usize;
    let is_container = match nodes.get(index) {
        Some(Node::List(_) | Node::Dict(_) | Node::Object(_)) => true,
        Some(Node::Storage(_) | Node::Tensor(_)) | None => false,
    };
    if is_container
        && seen
            .get_mut(index)
            .is_some_and(|s| !std::mem::replace(s, true))
    {
        frames.push(Frame {
            node: index,
            next: 0,
            path_bytes,
        });
    }
}

/// What leads from a container to one of its parts.
enum Key {
    Value(Value),
    Position,
    /// From an object to its attributes.
    Nothing,
}

/// One part of a container.
fn child(node: &Node, at: usize) -> Option<(Key, Value)> {
    match node {
        Node::List(items) => items.get(at).map(|&value| (Key::Position, value)),
        Node::Dict(items) => items.get(at).map(|&(key, value)| (Key::Value(key), value)),
        Node::Object(state) => (at == 0).then_some((Key::Nothing, *state)),
        Node::Storage(_) | Node::Tensor(_) => None,
    }
}

/// Makes the path longer by a key; says whether the key can stand in a name.
fn step(pickle: &[u8], path: &mut String, key: Key, position: usize) -> bool {
    let part = match key {
        Key::Nothing => return true,
        Key::Position => position.to_string(),
        Key::Value(Value::Int(int)) => int.to_string(),
        Key::Value(Value::Text(text)) => {
            let text = text.of(pickle);
            if INNER.contains(&text) {
                return true;
            }
            if text.len() > NAME_BYTES_MAX {
                return false;
            }
            String::from_utf8_lossy(text).into_owned()
        }
        Key::Value(Value::Other | Value::Global(_) | Value::Node(_)) => return false,
    };
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&part);
    path.len() <= NAME_BYTES_MAX
}
