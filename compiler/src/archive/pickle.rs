//! A restricted unpickler: opcodes to a flat table of nodes. No name is looked up outside a closed list and nothing is
//! called; what a global *means* is decided in `values.rs`.
//!
//! Protocol 2, with the opcodes that TorchScript writes and the few more (`APPEND`, `SETITEM`) that Python's pickler
//! writes for plain data. Nodes live in one vector and refer to each other by index, so neither building nor dropping a
//! deeply nested or cyclic pickle recurses.
//! Source: the opcode comments of Python's `pickletools` module.

use super::Fault;
use std::collections::HashMap;
use std::sync::Arc;

/// Most nodes of one pickle.
const MAX_NODES: usize = 4 << 20;
/// Largest memo index; writers number from 0 on, at most one a node.
const MAX_MEMO: u32 = 4 << 20;
/// Most marks that are open at once. Each is a container being filled, so real ones are as deep as the values nest.
const MAX_MARKS: usize = 1 << 14;
/// Longest module or class name of a `GLOBAL`.
const MAX_GLOBAL_BYTES: usize = 4096;

/// Index of a node of one [`Pickle`].
pub(super) type Id = u32;

/// A value in pickled form.
#[derive(Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// A persistent id: the tuple that describes a storage.
    Persistent(Id),
    /// `global(args)`; for an enum `args` is the value itself.
    Reduce(Global, Id),
    /// An instance and the argument of its `BUILD`, if there was one.
    Object(Arc<str>, Option<Id>),
}

/// The names a pickle may refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// A class of the archive's own code, by qualified name `__torch__.pkg.Class`.
    Class(Arc<str>),
    /// `torch.XStorage`, by the element type's name `X`; `None` for untyped bytes.
    Storage(Option<crate::types::DType>),
    /// `torch.float32` and its like.
    DType(crate::types::DType),
    RestoreTypeTag,
    BuildIntList,
    BuildDoubleList,
    BuildBoolList,
    BuildTensorList,
    BuildTensorFromId,
    RebuildTensorV2,
    RebuildTensorV3,
    RebuildQTensor,
    RebuildSparseTensor,
    RebuildParameter,
    PerTensorAffine,
    PerChannelAffine,
    OrderedDict,
    Device,
    Size,
    Complex,
    GetLayout,
    RRef,
}

impl Global {
    /// The closed list of names. Anything else is refused here, before it can be part of a value.
    fn resolve(module: &str, name: &str) -> Result<Self, Fault> {
        use crate::types::DType;
        let is_code = module == "__torch__" || module.starts_with("__torch__.");
        Ok(match (module, name) {
            _ if is_code && !name.is_empty() => Self::Class(format!("{module}.{name}").into()),
            ("torch.jit._pickle", "restore_type_tag") => Self::RestoreTypeTag,
            ("torch.jit._pickle", "build_intlist") | ("__main__", "IntList") => Self::BuildIntList,
            ("torch.jit._pickle", "build_doublelist") => Self::BuildDoubleList,
            ("torch.jit._pickle", "build_boollist") => Self::BuildBoolList,
            ("torch.jit._pickle", "build_tensorlist") => Self::BuildTensorList,
            ("torch.jit._pickle", "build_tensor_from_id") | ("__main__", "TensorID") => Self::BuildTensorFromId,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensorV2,
            ("torch._utils", "_rebuild_tensor_v3") => Self::RebuildTensorV3,
            ("torch._utils", "_rebuild_qtensor") => Self::RebuildQTensor,
            ("torch._utils", "_rebuild_sparse_tensor") => Self::RebuildSparseTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "per_tensor_affine") => Self::PerTensorAffine,
            ("torch", "per_channel_affine") => Self::PerChannelAffine,
            ("torch", "device") => Self::Device,
            ("torch", "Size") => Self::Size,
            ("torch.storage", "UntypedStorage") => Self::Storage(None),
            ("torch.serialization", "_get_layout") => Self::GetLayout,
            ("torch.distributed.rpc", "rref") => Self::RRef,
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("builtins" | "__builtin__", "complex") => Self::Complex,
            ("torch", _) => {
                let storage = name.strip_suffix("Storage").and_then(DType::from_graph_name);
                let dtype = || DType::from_python_name(name).map(Self::DType);
                let found = storage.map(|dtype| Self::Storage(Some(dtype))).or_else(dtype);
                found.ok_or_else(|| Fault::bad(format!("Unpickler found unknown torch global, 'torch.{name}'")))?
            }
            _ => {
                return Err(Fault::bad(format!(
                    "Unknown type name '{module}.{name}': the pickle refers to code outside the archive"
                )));
            }
        })
    }
}

/// A parsed pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    nodes: Vec<Node>,
    pub(super) root: Id,
}

impl Pickle {
    /// The node of an id of this pickle.
    pub(super) fn node(&self, id: Id) -> &Node {
        // Ids come from `push` alone; the fallback keeps a slip from being a panic on somebody's file.
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }

    /// Reads a pickle up to its `STOP`; what follows is ignored, as PyTorch ignores it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader =
            Reader { bytes, at: 0, nodes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        let at_fault = |fault, at| match fault {
            Fault::Bad(what) => Fault::Bad(format!("{what} (at byte {at} of the pickle)")),
            Fault::Unsupported(what) => Fault::Unsupported(what),
        };
        loop {
            let at = reader.at;
            match reader.step() {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Self { nodes: reader.nodes, root }),
                Err(fault) => return Err(at_fault(fault, at)),
            }
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Stack heights at each `MARK` that is open.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Reader<'_> {
    /// Runs one opcode; the root at `STOP`.
    fn step(&mut self) -> Result<Option<Id>, Fault> {
        let at = self.at;
        let opcode = self.byte()?;
        if (at == 0) != (opcode == 0x80) {
            return Err(Fault::bad("Only Pickle protocol 2 is supported, and the pickle must begin with it"));
        }
        match opcode {
            0x80 => match self.byte()? {
                2 => {}
                other => {
                    return Err(Fault::bad(format!("Only Pickle protocol 2 is supported, found protocol = {other}")));
                }
            },
            b'.' => return self.pop().map(Some),
            b'(' if self.marks.len() >= MAX_MARKS => return Err(Fault::bad("values are nested too deep")),
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Node::Tuple(Box::default()))?,
            b']' => self.push(Node::List(Vec::new()))?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b'N' => self.push(Node::None)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'K' => {
                let n = self.byte()?;
                self.push(Node::Int(i64::from(n)))?;
            }
            b'M' => {
                let n = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(i64::from(n)))?;
            }
            b'J' => {
                let n = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(i64::from(n)))?;
            }
            0x8a => {
                let n = self.long()?;
                self.push(Node::Int(n))?;
            }
            b'G' => {
                let x = f64::from_be_bytes(self.array()?);
                self.push(Node::Float(x))?;
            }
            b'X' => {
                let n = u32::from_le_bytes(self.array()?);
                let bytes = self.take(usize::try_from(n).unwrap_or(usize::MAX))?;
                let text = std::str::from_utf8(bytes).map_err(|_| Fault::bad("a string is not UTF-8"))?;
                let text = Node::Str(text.into());
                self.push(text)?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Node::Tuple(items.into()))?;
            }
            0x85 => self.tuple::<1>()?,
            0x86 => self.tuple::<2>()?,
            0x87 => self.tuple::<3>()?,
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Node::List(items))?;
            }
            b'd' => {
                let items = pairs(&self.pop_mark()?)?;
                self.push(Node::Dict(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[(key, value)])?;
            }
            b'u' => {
                let items = pairs(&self.pop_mark()?)?;
                self.set_items(&items)?;
            }
            b'q' => {
                let index = u32::from(self.byte()?);
                self.put(index)?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.put(index)?;
            }
            b'h' => {
                let index = u32::from(self.byte()?);
                self.get(index)?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.get(index)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Global(Global::resolve(&module, &name)?))?;
            }
            0x81 => self.new_object()?,
            b'b' => self.build()?,
            b'R' => self.reduce()?,
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id))?;
            }
            other => return Err(Fault::bad(format!("Unknown opcode for unpickling: {other} (0x{other:02x})"))),
        }
        Ok(None)
    }

    fn take(&mut self, n: usize) -> Result<&[u8], Fault> {
        let end = self.at.checked_add(n);
        let bytes = end.and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.ok_or_else(|| Fault::bad("Unexpected end of pickler archive"))?;
        self.at += n;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.try_into().map_err(|_| Fault::bad("Unexpected end of pickler archive"))
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// `LONG1`: a length byte and a little-endian two's complement integer.
    fn long(&mut self) -> Result<i64, Fault> {
        let n = usize::from(self.byte()?);
        let bytes = self.take(n)?;
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut out = [fill; 8];
        for (i, &byte) in bytes.iter().enumerate() {
            match out.get_mut(i) {
                Some(slot) => *slot = byte,
                None if byte == fill => {}
                None => return Err(Fault::bad("an integer does not fit in 64 bits")),
            }
        }
        let value = i64::from_le_bytes(out);
        if n > 8 && (value < 0) != (fill != 0) {
            return Err(Fault::bad("an integer does not fit in 64 bits"));
        }
        Ok(value)
    }

    /// The text up to a newline, of a `GLOBAL`.
    fn line(&mut self) -> Result<String, Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let rest = rest.get(..MAX_GLOBAL_BYTES).unwrap_or(rest);
        let n = rest.iter().position(|&b| b == b'\n').ok_or_else(|| Fault::bad("the name of a global has no end"))?;
        let text = rest.get(..n).and_then(|text| std::str::from_utf8(text).ok());
        let text = text.ok_or_else(|| Fault::bad("the name of a global is not UTF-8"))?.to_owned();
        self.at += n + 1;
        Ok(text)
    }

    fn add(&mut self, node: Node) -> Result<Id, Fault> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Fault::bad(format!("the pickle has more than {MAX_NODES} values")));
        }
        let id = Id::try_from(self.nodes.len()).map_err(|_| Fault::bad("the pickle has too many values"))?;
        self.nodes.push(node);
        Ok(id)
    }

    fn push(&mut self, node: Node) -> Result<(), Fault> {
        let id = self.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    /// Pops a value above the innermost mark.
    fn pop(&mut self) -> Result<Id, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(Fault::bad("Parsing error: the stack has too few elements"));
        }
        self.stack.pop().ok_or_else(|| Fault::bad("Parsing error: the stack is empty"))
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, Fault> {
        let mark = self.marks.pop().ok_or_else(|| Fault::bad("Parsing error: no MARK for this opcode"))?;
        if mark > self.stack.len() {
            return Err(Fault::bad("Parsing error: the stack has too few elements"));
        }
        Ok(self.stack.split_off(mark))
    }

    fn tuple<const N: usize>(&mut self) -> Result<(), Fault> {
        let mut items = [0; N];
        for slot in items.iter_mut().rev() {
            *slot = self.pop()?;
        }
        self.push(Node::Tuple(Box::new(items)))
    }

    fn top(&mut self) -> Result<&mut Node, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.get(floor..).and_then(|above| above.last());
        let node = top.and_then(|&id| self.nodes.get_mut(id as usize));
        node.ok_or_else(|| Fault::bad("Parsing error: the stack has too few elements"))
    }

    fn append(&mut self, items: &[Id]) -> Result<(), Fault> {
        match self.top()? {
            Node::List(list) => list.extend_from_slice(items),
            _ => return Err(Fault::bad("values are appended to something that is not a list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[(Id, Id)]) -> Result<(), Fault> {
        match self.top()? {
            Node::Dict(dict) => dict.extend_from_slice(items),
            _ => return Err(Fault::bad("items are set in something that is not a dict")),
        }
        Ok(())
    }

    fn put(&mut self, index: u32) -> Result<(), Fault> {
        if index > MAX_MEMO {
            return Err(Fault::bad(format!("the memo index {index} is too large")));
        }
        let top = self.stack.last().copied().ok_or_else(|| Fault::bad("Parsing error: nothing to memoise"))?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn get(&mut self, index: u32) -> Result<(), Fault> {
        let id = self.memo.get(&index).copied();
        let id = id.ok_or_else(|| Fault::bad(format!("memo entry {index} is read but never written")))?;
        if self.stack.len() >= MAX_NODES {
            return Err(Fault::bad(format!("the pickle has more than {MAX_NODES} values")));
        }
        self.stack.push(id);
        Ok(())
    }

    fn pop_global(&mut self) -> Result<Global, Fault> {
        let id = self.pop()?;
        match self.nodes.get(id as usize) {
            Some(Node::Global(global)) => Ok(global.clone()),
            _ => Err(Fault::bad("a value that is not a class or function is called")),
        }
    }

    fn new_object(&mut self) -> Result<(), Fault> {
        let args = self.pop()?;
        if !matches!(self.nodes.get(args as usize), Some(Node::Tuple(items)) if items.is_empty()) {
            return Err(Fault::bad("an object is made with arguments"));
        }
        match self.pop_global()? {
            Global::Class(name) => self.push(Node::Object(name, None)),
            other => Err(Fault::bad(format!("{other:?} is not a class of the archive"))),
        }
    }

    fn build(&mut self) -> Result<(), Fault> {
        let argument = self.pop()?;
        match self.top()? {
            Node::Object(_, state @ None) => *state = Some(argument),
            Node::Object(..) => return Err(Fault::bad("an object's state is set twice")),
            // Python attributes of an OrderedDict (`_metadata` of a state dict) are no part of its value.
            Node::Dict(_) => {}
            _ => return Err(Fault::bad("state is set on something that is not an object")),
        }
        Ok(())
    }

    fn reduce(&mut self) -> Result<(), Fault> {
        let args = self.pop()?;
        let global = self.pop_global()?;
        let node = match global {
            // Later opcodes fill the dict, so it must be one from the start.
            Global::OrderedDict if matches!(self.nodes.get(args as usize), Some(Node::Tuple(t)) if t.is_empty()) => {
                Node::Dict(Vec::new())
            }
            global => Node::Reduce(global, args),
        };
        self.push(node)
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, Fault> {
    if !items.len().is_multiple_of(2) {
        return Err(Fault::bad("a dict has a key without a value"));
    }
    Ok(items.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(body: &[u8]) -> String {
        match Pickle::parse(&[b"\x80\x02", body].concat()) {
            Err(Fault::Bad(what) | Fault::Unsupported(what)) => what,
            Ok(pickle) => panic!("parses: {pickle:?}"),
        }
    }

    #[test]
    fn integers_of_every_width() {
        for (body, value) in [
            (&b"K\xff."[..], 255),
            (b"M\x00\x01.", 256),
            (b"J\xff\xff\xff\xff.", -1),
            (b"\x8a\x00.", 0),
            (b"\x8a\x02\x00\xff.", -256),
            (b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80.", i64::MIN),
            (b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\x7f\x00.", i64::MAX),
        ] {
            let pickle = Pickle::parse(&[b"\x80\x02", body].concat()).expect("valid");
            assert!(matches!(pickle.node(pickle.root), Node::Int(n) if *n == value), "{value}");
        }
        assert!(fault(b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00.").contains("64 bits"));
    }

    #[test]
    fn hostile_pickles_are_refused_by_name_of_the_fault() {
        assert!(fault(b"cos\nsystem\nX\x02\0\0\0ls\x85R.").contains("'os.system'"));
        assert!(fault(b"ctorch\nload\n.").contains("'torch.load'"));
        assert!(fault(b"N").contains("Unexpected end"));
        assert!(fault(b"t.").contains("MARK"));
        assert!(fault(b"(N(.").contains("too few"));
        assert!(fault(b"K\x01)R.").contains("is called"));
        assert!(fault(b"Nr\xff\xff\xff\xff.").contains("memo index"));
        assert!(fault(b"](K\x01s.").contains("too few"));
        assert!(fault(b"\xf7.").contains("Unknown opcode"));
        assert!(matches!(Pickle::parse(b"\x80\x04N."), Err(Fault::Bad(what)) if what.contains("protocol = 4")));
        assert!(Pickle::parse(b"N.").is_err());
    }
}
