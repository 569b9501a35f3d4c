//! Names, shapes and storages of the tensors in a PyTorch pickle, by reading it as data.
//!
//! May use: `store_format`. Must never execute, import or construct anything a pickle names:
//! a global is a word to compare, and a call is at most remembered as "a tensor lies there".
//!
//! An opcode that is not on the list, or a limit that is passed, ends the reading without names.
//! A global that is not on the list becomes an inert object, so that a checkpoint with a
//! configuration in it keeps the names of its tensors.

mod walk;

use std::collections::HashMap;

use store_format::dtype::DType;

use super::DIMENSIONS_MAX;

/// A longer pickle is not looked at: tensors' bytes are not in it.
pub(super) const PICKLE_BYTES_MAX: u64 = 64 << 20;

/// Values in all containers together, and values on the stack. They bound memory, since an
/// opcode of one byte can make a container.
const CELLS_MAX: usize = 1 << 21;
const STACK_MAX: usize = 1 << 20;

/// A tensor as the pickle has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// Its path through the containers, joined with dots.
    pub(super) name: String,
    /// What holds its bytes.
    pub(super) storage: Storage,
    /// The type of its elements.
    pub(super) dtype: DType,
    /// Its first element in the storage.
    pub(super) first: u64,
    pub(super) shape: Vec<u64>,
    pub(super) strides: Vec<u64>,
}

/// A run of bytes outside the pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    /// The name of its entry, as a place in the pickle.
    key: Text,
    /// Its elements; of `None` its bytes.
    pub(super) dtype: Option<DType>,
    pub(super) count: u64,
}

impl Storage {
    /// The name of its entry.
    pub(super) fn key<'a>(&self, pickle: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(self.key.of(pickle)).ok()
    }
}

/// A text that stands in the pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Text {
    start: u32,
    bytes: u32,
}

impl Text {
    fn of(self, pickle: &[u8]) -> &[u8] {
        let start = self.start as usize;
        pickle
            .get(start..start.saturating_add(self.bytes as usize))
            .unwrap_or_default()
    }
}

/// What stands on the stack; containers lie in a table, since a pickle may share them.
#[derive(Clone, Copy, Debug)]
enum Value {
    /// Of no interest: nothing, truth values, floats, bytes, long numbers.
    Other,
    Int(i64),
    Text(Text),
    Global(Global),
    /// Index of a [`Node`].
    Node(u32),
}

/// The globals that mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Global {
    Dict,
    /// Arguments: storage, offset, shape, strides, …
    Tensor,
    /// The same, with an element type of its own as the seventh argument.
    TypedTensor,
    /// Its first argument is the tensor.
    Parameter,
    Storage(DType),
    UntypedStorage,
    Type(DType),
    Unknown,
}

impl Global {
    fn of(module: &[u8], name: &[u8]) -> Self {
        match (module, name) {
            (b"collections", b"OrderedDict" | b"defaultdict") => Self::Dict,
            (b"torch._utils", b"_rebuild_tensor_v2") => Self::Tensor,
            (b"torch._utils", b"_rebuild_tensor_v3") => Self::TypedTensor,
            (b"torch._utils", b"_rebuild_parameter" | b"_rebuild_parameter_with_state") => {
                Self::Parameter
            }
            (b"torch.storage", b"UntypedStorage") => Self::UntypedStorage,
            (b"torch", name) => match name.strip_suffix(b"Storage") {
                Some(kind) => storage_type(kind).map_or(Self::Unknown, Self::Storage),
                None => element_type(name).map_or(Self::Unknown, Self::Type),
            },
            _ => Self::Unknown,
        }
    }
}

/// The element type of `torch.FloatStorage` and the like.
fn storage_type(kind: &[u8]) -> Option<DType> {
    Some(match kind {
        b"Double" => DType::F64,
        b"Float" => DType::F32,
        b"Half" => DType::F16,
        b"BFloat16" => DType::Bf16,
        b"Long" => DType::I64,
        b"Int" => DType::I32,
        b"Short" => DType::I16,
        b"Char" => DType::I8,
        b"Byte" => DType::U8,
        b"Bool" => DType::Bool,
        b"ComplexFloat" => DType::C64,
        _ => return None,
    })
}

/// The element type of `torch.float32` and the like.
fn element_type(name: &[u8]) -> Option<DType> {
    Some(match name {
        b"float64" => DType::F64,
        b"float32" => DType::F32,
        b"float16" => DType::F16,
        b"bfloat16" => DType::Bf16,
        b"int64" => DType::I64,
        b"int32" => DType::I32,
        b"int16" => DType::I16,
        b"int8" => DType::I8,
        b"uint64" => DType::U64,
        b"uint32" => DType::U32,
        b"uint16" => DType::U16,
        b"uint8" => DType::U8,
        b"bool" => DType::Bool,
        b"complex64" => DType::C64,
        b"float8_e4m3fn" => DType::F8E4M3,
        b"float8_e5m2" => DType::F8E5M2,
        b"float8_e4m3fnuz" => DType::F8E4M3Fnuz,
        b"float8_e5m2fnuz" => DType::F8E5M2Fnuz,
        b"float8_e8m0fnu" => DType::F8E8M0,
        _ => return None,
    })
}

/// A container, a storage or a tensor.
enum Node {
    /// Tuples, lists and sets.
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// An instance of an unknown class, with what was set on it.
    Object(Value),
    Storage(Storage),
    Tensor(Box<Stored>),
}

/// Reads a pickle; `None` means that it has no names to give.
pub(super) fn read(pickle: &[u8]) -> Option<Vec<Stored>> {
    if pickle.len() as u64 > PICKLE_BYTES_MAX {
        return None;
    }
    let mut machine = Machine {
        pickle,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        nodes: Vec::new(),
        cells: 0,
    };
    let root = machine.run()?;
    walk::walk(pickle, &machine.nodes, root)
}

/// The reader's state: a stack, marks in it, and a memo.
struct Machine<'a> {
    pickle: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    nodes: Vec<Node>,
    cells: usize,
}

impl Machine<'_> {
    /// All opcodes up to the last one; gives what stands on the stack then.
    fn run(&mut self) -> Option<Value> {
        loop {
            let [opcode] = self.take()?;
            if opcode == b'.' {
                return self.stack.pop();
            }
            self.step(opcode)?;
        }
    }

    /// One opcode. The list is that of protocols 2 to 5, without those that only text forms,
    /// buffers outside the pickle and registered extensions need.
    fn step(&mut self, opcode: u8) -> Option<()> {
        match opcode {
            // Protocol and frame: nothing to remember.
            0x80 => self.skip(1),
            0x95 => self.skip(8),
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            b'G' => {
                self.skip(8)?;
                self.push(Value::Other)
            }
            b'J' | b'K' | b'M' | 0x8a => self.int(opcode),
            b'U' | b'T' | b'X' | 0x8c | 0x8d => self.text(opcode),
            b'C' | b'B' | 0x8e | 0x96 => self.bytes(opcode),
            b'(' => {
                self.marks.push(self.stack.len());
                (self.marks.len() <= STACK_MAX).then_some(())
            }
            b'}' => self.make(Node::Dict(Vec::new())),
            b']' | b')' | 0x8f => self.make(Node::List(Vec::new())),
            b't' | b'l' | 0x91 => {
                let items = self.take_marked()?;
                self.make(Node::List(items))
            }
            0x85..=0x87 => {
                let items = self.last(usize::from(opcode - 0x84))?;
                self.make(Node::List(items))
            }
            b'd' => {
                let items = self.take_marked()?;
                self.make(Node::Dict(Vec::new()))?;
                self.set_items(&items)
            }
            b'a' => {
                let items = self.last(1)?;
                self.append(&items)
            }
            b'e' | 0x90 => {
                let items = self.take_marked()?;
                self.append(&items)
            }
            b's' => {
                let items = self.last(2)?;
                self.set_items(&items)
            }
            b'u' => {
                let items = self.take_marked()?;
                self.set_items(&items)
            }
            b'q' | b'r' | b'h' | b'j' | 0x94 => self.remember(opcode),
            b'0' => self.stack.pop().map(drop),
            b'1' => self.take_marked().map(drop),
            b'2' => self.push(*self.stack.last()?),
            b'c' | 0x93 => self.global(opcode),
            b'R' | 0x81 | 0x92 | b'b' => self.call(opcode),
            b'Q' => self.storage(),
            _ => None,
        }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let found = *self.pickle.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(found)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.at = self.at.checked_add(bytes)?;
        (self.at <= self.pickle.len()).then_some(())
    }

    fn push(&mut self, value: Value) -> Option<()> {
        self.stack.push(value);
        (self.stack.len() <= STACK_MAX).then_some(())
    }

    /// Pays for values that are kept.
    fn pay(&mut self, cells: usize) -> Option<()> {
        self.cells = self.cells.checked_add(cells)?;
        (self.cells <= CELLS_MAX).then_some(())
    }

    /// Keeps a node and pushes it.
    fn make(&mut self, node: Node) -> Option<()> {
        let items = match &node {
            Node::List(items) => items.len(),
            Node::Tensor(tensor) => tensor.shape.len() * 2,
            Node::Dict(_) | Node::Object(_) | Node::Storage(_) => 0,
        };
        self.pay(items + 1)?;
        let index = u32::try_from(self.nodes.len()).ok()?;
        self.nodes.push(node);
        self.push(Value::Node(index))
    }

    /// Takes everything above the last mark off the stack.
    fn take_marked(&mut self) -> Option<Vec<Value>> {
        let mark = self.marks.pop()?;
        (mark <= self.stack.len()).then(|| self.stack.split_off(mark))
    }

    /// Takes the last few values off the stack.
    fn last(&mut self, count: usize) -> Option<Vec<Value>> {
        let at = self.stack.len().checked_sub(count)?;
        Some(self.stack.split_off(at))
    }

    fn int(&mut self, opcode: u8) -> Option<()> {
        let int = match opcode {
            b'J' => i64::from(i32::from_le_bytes(self.take()?)),
            b'K' => i64::from(u8::from_le_bytes(self.take()?)),
            b'M' => i64::from(u16::from_le_bytes(self.take()?)),
            _ => {
                let bytes = usize::from(u8::from_le_bytes(self.take()?));
                let start = self.at;
                self.skip(bytes)?;
                let digits = self.pickle.get(start..self.at)?;
                if digits.len() > 8 {
                    return self.push(Value::Other);
                }
                // Two's complement of any length, so the last byte has the sign.
                let is_negative = digits.last().is_some_and(|&byte| byte >= 0x80);
                let mut wide = [if is_negative { 0xff } else { 0 }; 8];
                wide.get_mut(..digits.len())?.copy_from_slice(digits);
                i64::from_le_bytes(wide)
            }
        };
        self.push(Value::Int(int))
    }

    /// A length in front of bytes: of one, four or eight bytes itself.
    fn length(&mut self, opcode: u8) -> Option<usize> {
        match opcode {
            b'U' | b'C' | 0x8c => Some(usize::from(u8::from_le_bytes(self.take()?))),
            b'T' | b'B' | b'X' => usize::try_from(u32::from_le_bytes(self.take()?)).ok(),
            _ => usize::try_from(u64::from_le_bytes(self.take()?)).ok(),
        }
    }

    fn text(&mut self, opcode: u8) -> Option<()> {
        let bytes = self.length(opcode)?;
        let start = u32::try_from(self.at).ok()?;
        self.skip(bytes)?;
        let bytes = u32::try_from(bytes).ok()?;
        self.push(Value::Text(Text { start, bytes }))
    }

    fn bytes(&mut self, opcode: u8) -> Option<()> {
        let bytes = self.length(opcode)?;
        self.skip(bytes)?;
        self.push(Value::Other)
    }

    /// Adds to the list on top of the stack; what is no list swallows it.
    fn append(&mut self, items: &[Value]) -> Option<()> {
        self.pay(items.len())?;
        if let Node::List(list) = self.top()? {
            list.extend_from_slice(items);
        }
        Some(())
    }

    /// Adds keys and values to the dictionary on top of the stack; what is none swallows them.
    fn set_items(&mut self, items: &[Value]) -> Option<()> {
        let (pairs, odd) = items.as_chunks::<2>();
        if !odd.is_empty() {
            return None;
        }
        self.pay(items.len())?;
        if let Node::Dict(dict) = self.top()? {
            dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        }
        Some(())
    }

    /// The container on top of the stack.
    fn top(&mut self) -> Option<&mut Node> {
        match self.stack.last()? {
            Value::Node(index) => self.nodes.get_mut(*index as usize),
            Value::Other | Value::Int(_) | Value::Text(_) | Value::Global(_) => None,
        }
    }

    fn remember(&mut self, opcode: u8) -> Option<()> {
        let index = match opcode {
            b'q' | b'h' => u32::from(u8::from_le_bytes(self.take()?)),
            b'r' | b'j' => u32::from_le_bytes(self.take()?),
            _ => u32::try_from(self.memo.len()).ok()?,
        };
        if matches!(opcode, b'h' | b'j') {
            return self.push(*self.memo.get(&index)?);
        }
        self.pay(1)?;
        self.memo.insert(index, *self.stack.last()?);
        Some(())
    }

    /// A line of text, without its end.
    fn line(&mut self) -> Option<&[u8]> {
        let start = self.at;
        let rest = self.pickle.get(start..)?;
        let bytes = rest.iter().position(|&byte| byte == b'\n')?;
        self.at = start + bytes + 1;
        rest.get(..bytes)
    }

    fn global(&mut self, opcode: u8) -> Option<()> {
        let global = if opcode == b'c' {
            let module = self.line()?.to_vec();
            Global::of(&module, self.line()?)
        } else {
            let [Value::Text(module), Value::Text(name)] = *self.last(2)?.first_chunk()? else {
                return None;
            };
            Global::of(module.of(self.pickle), name.of(self.pickle))
        };
        self.push(Value::Global(global))
    }

    /// What would make or fill an object if it were executed.
    fn call(&mut self, opcode: u8) -> Option<()> {
        match opcode {
            b'R' => {
                let [function, arguments] = *self.last(2)?.first_chunk()?;
                self.reduce(function, arguments)
            }
            b'b' => {
                let [state] = *self.last(1)?.first_chunk()?;
                if let Node::Object(slot) = self.top()? {
                    *slot = state;
                }
                Some(())
            }
            _ => {
                // A class with its arguments, once with named ones as well.
                self.last(if opcode == 0x81 { 2 } else { 3 })?;
                self.make(Node::Object(Value::Other))
            }
        }
    }

    fn reduce(&mut self, function: Value, arguments: Value) -> Option<()> {
        let unknown = Node::Object(Value::Other);
        let (Value::Global(function), Some(list)) = (function, self.list(arguments)) else {
            return self.make(unknown);
        };
        match function {
            Global::Dict => self.make(Node::Dict(Vec::new())),
            Global::Tensor | Global::TypedTensor => match self.tensor(function, list) {
                Some(tensor) => self.make(Node::Tensor(Box::new(tensor))),
                None => self.make(unknown),
            },
            Global::Parameter => {
                let tensor = *list.first()?;
                self.push(tensor)
            }
            Global::Storage(_) | Global::UntypedStorage | Global::Type(_) | Global::Unknown => {
                self.make(unknown)
            }
        }
    }

    /// The items of a tuple or list.
    fn list(&self, value: Value) -> Option<&[Value]> {
        match self.node(value)? {
            Node::List(items) => Some(items),
            Node::Dict(_) | Node::Object(_) | Node::Storage(_) | Node::Tensor(_) => None,
        }
    }

    fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(index) => self.nodes.get(index as usize),
            Value::Other | Value::Int(_) | Value::Text(_) | Value::Global(_) => None,
        }
    }

    /// The tensor that the arguments describe, without its name.
    fn tensor(&self, function: Global, arguments: &[Value]) -> Option<Stored> {
        let [storage, first, shape, strides] = *arguments.first_chunk()?;
        let Node::Storage(storage) = *self.node(storage)? else {
            return None;
        };
        let dtype = match (function, arguments.get(6)) {
            (Global::TypedTensor, Some(Value::Global(Global::Type(dtype)))) => *dtype,
            (Global::TypedTensor, _) => return None,
            _ => storage.dtype?,
        };
        Some(Stored {
            name: String::new(),
            storage,
            dtype,
            first: number(first)?,
            shape: self.numbers(shape)?,
            strides: self.numbers(strides)?,
        })
    }

    /// A tuple of dimensions.
    fn numbers(&self, value: Value) -> Option<Vec<u64>> {
        let items = self.list(value)?;
        if items.len() > DIMENSIONS_MAX {
            return None;
        }
        items.iter().map(|&item| number(item)).collect()
    }

    /// A persistent id: `("storage", type, key, device, count, …)`. Others are unknown objects.
    fn storage(&mut self) -> Option<()> {
        let [id] = *self.last(1)?.first_chunk()?;
        let node = match self.list(id).and_then(<[Value]>::first_chunk) {
            Some(
                &[
                    Value::Text(word),
                    Value::Global(kind),
                    Value::Text(key),
                    _,
                    Value::Int(count),
                ],
            ) if word.of(self.pickle) == b"storage" => {
                let dtype = match kind {
                    Global::Storage(dtype) => Some(Some(dtype)),
                    Global::UntypedStorage => Some(None),
                    _ => None,
                };
                let count = u64::try_from(count).ok();
                dtype
                    .zip(count)
                    .map(|(dtype, count)| Node::Storage(Storage { key, dtype, count }))
            }
            _ => None,
        };
        self.make(node.unwrap_or(Node::Object(Value::Other)))
    }
}

/// A whole number that is not negative.
fn number(value: Value) -> Option<u64> {
    match value {
        Value::Int(int) => u64::try_from(int).ok(),
        Value::Other | Value::Text(_) | Value::Global(_) | Value::Node(_) => None,
    }
}

#[cfg(test)]
pub(in crate::layout) mod tests;
