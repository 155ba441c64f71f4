//! What a compiled model accepts and needs, and its binary form in the library's read-only data.
//!
//! The compiler calls [`ModelDesc::encode`]; the runtime calls [`ModelDesc::decode`], which checks every bound and so may be
//! given any bytes. The form is a sequence of little-endian fields; strings and lists carry their length first.

use crate::abi::{ABI_VERSION, MAX_RANK, Status};
use crate::error::{Error, Result};
use crate::tensor::{Dtype, describe};
use std::fmt::Write as _;

const MAGIC: u32 = 0x5452_4f41;
/// Trees nest no deeper than this, so that decoding does not run out of stack.
const MAX_DEPTH: usize = 64;

/// A compiled model, without its code and weights.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ModelDesc {
    /// The model's name, which prefixes the library's symbols.
    pub name: String,
    /// Name and version of the compiler.
    pub compiler: String,
    /// Hash of the archive, as text.
    pub model_hash: String,
    /// CPU features the code needs, in LLVM's spelling, separated by commas: `avx2,fma`.
    pub cpu_features: String,
    /// What the compiler was told: `-O2 --cpu x86-64-v3`.
    pub flags: String,
    /// Operators of the model with their places in the user's Python, in order of place.
    pub operators: Vec<OperatorDesc>,
    /// Size of the weights section.
    pub weights_bytes: u64,
    /// Scalars of an instance's state; scalar 0 is the state tag.
    pub n_state_scalars: u32,
    /// Which state scalars are counted references to objects (or null).
    pub state_objects: Vec<u32>,
    /// Growable memory slots of an instance.
    pub n_slots: u32,
    /// The function that writes the initial state.
    pub init: Option<u32>,
    /// The function that computes other forms of weights when a model is opened.
    pub prepare: Option<u32>,
    /// Size of what it writes.
    pub prepared_bytes: u64,
    /// For people: its parts, a name and a size each.
    pub prepared: Vec<(String, u64)>,
    /// Functions; `Code` lists are in the same order.
    pub functions: Vec<FunctionDesc>,
    /// Entry points.
    pub methods: Vec<MethodDesc>,
}

/// An operator where the user wrote it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct OperatorDesc {
    /// `net.py`
    pub file: String,
    /// 1-based line.
    pub line: u32,
    /// 0-based column.
    pub column: u32,
    /// `aten::conv2d`
    pub name: String,
}

/// An entry point.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct MethodDesc {
    /// `forward`
    pub name: String,
    /// Parameter names and static types as `TorchScript` prints them, without `self`.
    pub params: Vec<(String, String)>,
    /// Compiled versions, most special first.
    pub variants: Vec<VariantDesc>,
}

/// A compiled version of a method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VariantDesc {
    /// The state tag it is for; `None`: any.
    pub state_tag: Option<i64>,
    /// Number of the function.
    pub function: u32,
}

/// The interface of a function.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FunctionDesc {
    /// `forward.1`
    pub name: String,
    /// Size of its arena.
    pub arena_bytes: u64,
    /// How each argument nests; leaves match `inputs` in order.
    pub params: Vec<Tree>,
    /// Argument leaves.
    pub inputs: Vec<InputDesc>,
    /// Result trees that the function's number refers to.
    pub results: Vec<Tree>,
    /// For each result leaf of the first tree: the tensor that the caller may offer memory for, of class `Output` in the
    /// loop program. Its dims are constants or variables that the inputs set. `None` (or a missing entry): the function
    /// finds memory itself.
    pub outputs: Vec<Option<TensorDesc>>,
}

/// A leaf of the arguments.
#[derive(Clone, PartialEq, Debug)]
pub struct InputDesc {
    /// Path for messages: `x`, `state[0]`.
    pub name: String,
    /// What it must be.
    pub kind: InputKind,
}

/// What an argument leaf must be.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum InputKind {
    Tensor {
        tensor: TensorDesc,
        /// Whether the function writes to it.
        is_mutated: bool,
    },
    /// An int; with `only`, of this value.
    Int {
        only: Option<i64>,
    },
    /// A float; with `only`, of these bits.
    Float {
        only: Option<f64>,
    },
    /// A bool; with `only`, of this value.
    Bool {
        only: Option<bool>,
    },
    None,
    /// Exactly this text.
    Str(String),
    /// A string, list or dict, passed as an object.
    Object,
    /// A tensor of these strides, passed as an object because other arguments may show the same memory.
    Shared {
        tensor: TensorDesc,
        strides: Vec<i64>,
    },
}

/// Element type and extents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorDesc {
    /// Element type.
    pub dtype: Dtype,
    /// Extents.
    pub dims: Vec<DimDesc>,
}

/// An extent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DimDesc {
    /// Known.
    Const(i64),
    /// Set by the argument; equal numbers in one function stand for equal extents.
    Var(u32),
}

/// How an argument or result nests; see the loop program's `OutputTree`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Tree {
    /// A leaf in arguments, none in results.
    None,
    Tensor,
    Int,
    Float,
    Bool,
    /// Two leaves.
    Complex,
    /// One leaf, converted by its own kind.
    Object,
    /// A leaf in arguments, none in results.
    Str(String),
    Tuple(Vec<Tree>),
    NamedTuple(String, Vec<(String, Tree)>),
    List(Vec<Tree>),
    Dict(Vec<(Tree, Tree)>),
}

impl Tree {
    /// Number of leaves of a result.
    pub fn n_result_leaves(&self) -> usize {
        match self {
            Self::None | Self::Str(_) => 0,
            Self::Tensor | Self::Int | Self::Float | Self::Bool | Self::Object => 1,
            Self::Complex => 2,
            Self::Tuple(items) | Self::List(items) => items.iter().map(Self::n_result_leaves).sum(),
            Self::NamedTuple(_, fields) => fields.iter().map(|(_, t)| t.n_result_leaves()).sum(),
            Self::Dict(items) => items.iter().map(|(k, v)| k.n_result_leaves() + v.n_result_leaves()).sum(),
        }
    }
}

impl TensorDesc {
    /// `float32[1, 64]`, `float32[N0, 64]`
    pub fn describe(&self) -> String {
        let mut text = describe(self.dtype, &[]);
        text.pop();
        for (i, dim) in self.dims.iter().enumerate() {
            text.push_str(if i == 0 { "" } else { ", " });
            let _ = match dim {
                DimDesc::Const(n) => write!(text, "{n}"),
                DimDesc::Var(v) => write!(text, "N{v}"),
            };
        }
        text.push(']');
        text
    }
}

impl FunctionDesc {
    /// The most result leaves any of the result trees has.
    pub fn n_outputs(&self) -> usize {
        self.results.iter().map(Tree::n_result_leaves).max().unwrap_or(0)
    }
}

impl ModelDesc {
    /// The number of the operator at this place (`net.py:42:8`).
    pub fn operator_at(&self, place: &str) -> Option<usize> {
        let (rest, column) = place.rsplit_once(':')?;
        let (file, line) = rest.rsplit_once(':')?;
        let (line, column) = (line.parse::<u32>().ok()?, column.parse::<u32>().ok()?);
        self.operators.iter().position(|op| (op.line, op.column, op.file.as_str()) == (line, column, file))
    }

    /// The method of this name and its number.
    pub fn method(&self, name: &str) -> Option<(usize, &MethodDesc)> {
        self.methods.iter().enumerate().find(|(_, method)| method.name == name)
    }

    /// Bytes of scratch memory that a call of any method may need.
    pub fn workspace_bytes(&self) -> usize {
        let called = self.functions.iter().enumerate().filter(|(i, _)| self.prepare != u32::try_from(*i).ok());
        called.map(|(_, function)| function.arena_bytes as usize).max().unwrap_or(0)
    }

    /// The binary form.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer(Vec::new());
        w.u32(MAGIC);
        w.u32(ABI_VERSION);
        for text in [&self.name, &self.compiler, &self.model_hash, &self.cpu_features, &self.flags] {
            w.text(text);
        }
        w.list(&self.operators, |w, operator| {
            w.text(&operator.file);
            w.u32(operator.line);
            w.u32(operator.column);
            w.text(&operator.name);
        });
        w.i64(self.weights_bytes as i64);
        w.u32(self.n_state_scalars);
        w.list(&self.state_objects, |w, &i| w.u32(i));
        w.u32(self.n_slots);
        w.option(self.init, Writer::u32);
        w.option(self.prepare, Writer::u32);
        w.i64(self.prepared_bytes as i64);
        w.list(&self.prepared, |w, (name, bytes)| {
            w.text(name);
            w.i64(*bytes as i64);
        });
        w.list(&self.functions, Writer::function);
        w.list(&self.methods, |w, method| {
            w.text(&method.name);
            w.list(&method.params, |w, (name, ty)| {
                w.text(name);
                w.text(ty);
            });
            w.list(&method.variants, |w, variant| {
                w.option(variant.state_tag, Writer::i64);
                w.u32(variant.function);
            });
        });
        w.0
    }

    /// Reads the binary form. Fails on anything [`Self::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader { bytes, depth: 0 };
        if r.u32()? != MAGIC {
            return Err(Error::new(Status::Abi, "the model description is not one of this compiler"));
        }
        let version = r.u32()?;
        if version != ABI_VERSION {
            let message = format!("the model is of ABI version {version}, the runtime of {ABI_VERSION}");
            return Err(Error::new(Status::Abi, message));
        }
        let desc = Self {
            name: r.text()?,
            compiler: r.text()?,
            model_hash: r.text()?,
            cpu_features: r.text()?,
            flags: r.text()?,
            operators: r
                .list(|r| Ok(OperatorDesc { file: r.text()?, line: r.u32()?, column: r.u32()?, name: r.text()? }))?,
            weights_bytes: r.i64()? as u64,
            n_state_scalars: r.u32()?,
            state_objects: r.list(Reader::u32)?,
            n_slots: r.u32()?,
            init: r.option(Reader::u32)?,
            prepare: r.option(Reader::u32)?,
            prepared_bytes: r.i64()? as u64,
            prepared: r.list(|r| Ok((r.text()?, r.i64()? as u64)))?,
            functions: r.list(Reader::function)?,
            methods: r.list(|r| {
                Ok(MethodDesc {
                    name: r.text()?,
                    params: r.list(|r| Ok((r.text()?, r.text()?)))?,
                    variants: r.list(|r| Ok(VariantDesc { state_tag: r.option(Reader::i64)?, function: r.u32()? }))?,
                })
            })?,
        };
        if !r.bytes.is_empty() {
            return Err(malformed());
        }
        let is_function = |f: u32| (f as usize) < desc.functions.len();
        let variants = desc.methods.iter().flat_map(|m| &m.variants).map(|v| v.function);
        if variants.chain(desc.init).chain(desc.prepare).all(is_function)
            && desc.state_objects.iter().all(|&i| i < desc.n_state_scalars)
        {
            Ok(desc)
        } else {
            Err(malformed())
        }
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.u32(items.len() as u32);
        for item in items {
            write(self, item);
        }
    }

    fn option<T>(&mut self, item: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(item.is_some()));
        if let Some(item) = item {
            write(self, item);
        }
    }

    fn function(&mut self, function: &FunctionDesc) {
        self.text(&function.name);
        self.i64(function.arena_bytes as i64);
        self.list(&function.params, Self::tree);
        self.list(&function.inputs, |w, input| {
            w.text(&input.name);
            match &input.kind {
                InputKind::Tensor { tensor, is_mutated } => {
                    w.u8(u8::from(*is_mutated));
                    w.tensor(tensor);
                }
                InputKind::Int { only } => {
                    w.u8(2);
                    w.option(*only, Self::i64);
                }
                InputKind::Float { only } => {
                    w.u8(3);
                    w.option(only.map(|x| x.to_bits() as i64), Self::i64);
                }
                InputKind::Bool { only } => {
                    w.u8(4);
                    w.option(only.map(u8::from), Self::u8);
                }
                InputKind::None => w.u8(5),
                InputKind::Str(text) => {
                    w.u8(6);
                    w.text(text);
                }
                InputKind::Object => w.u8(7),
                InputKind::Shared { tensor, strides } => {
                    w.u8(8);
                    w.tensor(tensor);
                    w.list(strides, |w, stride| w.i64(*stride));
                }
            }
        });
        self.list(&function.results, Self::tree);
        self.list(&function.outputs, |w, output| w.option(output.as_ref(), Self::tensor));
    }

    fn tensor(&mut self, tensor: &TensorDesc) {
        self.u8(tensor.dtype.0);
        self.list(&tensor.dims, |w, dim| match dim {
            DimDesc::Const(n) => {
                w.u8(0);
                w.i64(*n);
            }
            DimDesc::Var(v) => {
                w.u8(1);
                w.u32(*v);
            }
        });
    }

    fn tree(&mut self, tree: &Tree) {
        match tree {
            Tree::None => self.u8(0),
            Tree::Tensor => self.u8(1),
            Tree::Int => self.u8(2),
            Tree::Float => self.u8(3),
            Tree::Bool => self.u8(4),
            Tree::Complex => self.u8(5),
            Tree::Object => self.u8(6),
            Tree::Str(text) => {
                self.u8(7);
                self.text(text);
            }
            Tree::Tuple(items) => {
                self.u8(8);
                self.list(items, Self::tree);
            }
            Tree::NamedTuple(name, fields) => {
                self.u8(9);
                self.text(name);
                self.list(fields, |w, (name, tree)| {
                    w.text(name);
                    w.tree(tree);
                });
            }
            Tree::List(items) => {
                self.u8(10);
                self.list(items, Self::tree);
            }
            Tree::Dict(items) => {
                self.u8(11);
                self.list(items, |w, (key, value)| {
                    w.tree(key);
                    w.tree(value);
                });
            }
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    depth: usize,
}

fn malformed() -> Error {
    Error::new(Status::Abi, "the model description is malformed")
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(n).ok_or_else(malformed)?;
        self.bytes = tail;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?.try_into().map_err(|_| malformed())?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn i64(&mut self) -> Result<i64> {
        let bytes = self.take(8)?.try_into().map_err(|_| malformed())?;
        Ok(i64::from_le_bytes(bytes))
    }

    fn text(&mut self) -> Result<String> {
        let n = self.u32()? as usize;
        String::from_utf8(self.take(n)?.to_vec()).map_err(|_| malformed())
    }

    /// Every item takes a byte at least, which bounds the length that is believed.
    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let n = self.u32()? as usize;
        if n > self.bytes.len() {
            return Err(malformed());
        }
        (0..n).map(|_| read(self)).collect()
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(malformed()),
        }
    }

    fn function(&mut self) -> Result<FunctionDesc> {
        Ok(FunctionDesc {
            name: self.text()?,
            arena_bytes: self.i64()? as u64,
            params: self.list(Self::tree)?,
            inputs: self.list(|r| {
                let name = r.text()?;
                let kind = match r.u8()? {
                    0 => InputKind::Tensor { tensor: r.tensor()?, is_mutated: false },
                    1 => InputKind::Tensor { tensor: r.tensor()?, is_mutated: true },
                    2 => InputKind::Int { only: r.option(Self::i64)? },
                    3 => InputKind::Float { only: r.option(Self::i64)?.map(|bits| f64::from_bits(bits as u64)) },
                    4 => InputKind::Bool { only: r.option(Self::u8)?.map(|b| b != 0) },
                    5 => InputKind::None,
                    6 => InputKind::Str(r.text()?),
                    7 => InputKind::Object,
                    8 => InputKind::Shared { tensor: r.tensor()?, strides: r.list(Self::i64)? },
                    _ => return Err(malformed()),
                };
                Ok(InputDesc { name, kind })
            })?,
            results: self.list(Self::tree)?,
            outputs: self.list(|r| r.option(Self::tensor))?,
        })
    }

    fn tensor(&mut self) -> Result<TensorDesc> {
        let dtype = Dtype(self.u8()?);
        let dims = self.list(|r| match r.u8()? {
            0 => Ok(DimDesc::Const(r.i64()?)),
            1 => Ok(DimDesc::Var(r.u32()?)),
            _ => Err(malformed()),
        })?;
        if dims.len() > MAX_RANK { Err(malformed()) } else { Ok(TensorDesc { dtype, dims }) }
    }

    fn tree(&mut self) -> Result<Tree> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(malformed());
        }
        let tree = match self.u8()? {
            0 => Tree::None,
            1 => Tree::Tensor,
            2 => Tree::Int,
            3 => Tree::Float,
            4 => Tree::Bool,
            5 => Tree::Complex,
            6 => Tree::Object,
            7 => Tree::Str(self.text()?),
            8 => Tree::Tuple(self.list(Self::tree)?),
            9 => Tree::NamedTuple(self.text()?, self.list(|r| Ok((r.text()?, r.tree()?)))?),
            10 => Tree::List(self.list(Self::tree)?),
            11 => Tree::Dict(self.list(|r| Ok((r.tree()?, r.tree()?)))?),
            _ => return Err(malformed()),
        };
        self.depth -= 1;
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ModelDesc {
        let x = TensorDesc { dtype: Dtype::F32, dims: vec![DimDesc::Const(1), DimDesc::Var(3)] };
        let kinds = [
            InputKind::Tensor { tensor: x.clone(), is_mutated: true },
            InputKind::Int { only: Some(-3) },
            InputKind::Float { only: Some(0.5) },
            InputKind::Bool { only: Some(true) },
            InputKind::None,
            InputKind::Str("a".into()),
            InputKind::Object,
            InputKind::Shared { tensor: x.clone(), strides: vec![1, -2] },
        ];
        let inputs = kinds.into_iter().map(|kind| InputDesc { name: "x".into(), kind }).collect();
        let tree = Tree::NamedTuple(
            "P".into(),
            vec![
                ("a".into(), Tree::List(vec![Tree::Int])),
                ("b".into(), Tree::Dict(vec![(Tree::Str("k".into()), Tree::Tensor)])),
            ],
        );
        ModelDesc {
            name: "m".into(),
            operators: vec![OperatorDesc { file: "net.py".into(), line: 7, column: 4, name: "aten::relu".into() }],
            n_state_scalars: 2,
            state_objects: vec![1],
            init: Some(0),
            prepare: Some(0),
            prepared_bytes: 64,
            prepared: vec![("w".into(), 60)],
            functions: vec![FunctionDesc {
                name: "forward".into(),
                arena_bytes: 128,
                params: vec![Tree::Tensor, Tree::Tuple(vec![Tree::None])],
                inputs,
                results: vec![tree],
                outputs: vec![None, Some(x)],
            }],
            methods: vec![MethodDesc {
                name: "forward".into(),
                params: vec![("x".into(), "Tensor".into())],
                variants: vec![VariantDesc { state_tag: Some(1), function: 0 }],
            }],
            ..ModelDesc::default()
        }
    }

    #[test]
    fn descriptions_survive_the_binary_form() {
        let desc = sample();
        let bytes = desc.encode();
        assert_eq!(ModelDesc::decode(&bytes).unwrap(), desc);
        assert_eq!((desc.operator_at("net.py:7:4"), desc.operator_at("net.py:7:8")), (Some(0), None));
    }

    #[test]
    fn cut_or_changed_descriptions_are_refused_without_panic() {
        let bytes = sample().encode();
        for n in 0..bytes.len() {
            assert!(ModelDesc::decode(&bytes[..n]).is_err());
            let mut changed = bytes.clone();
            changed[n] ^= 0xff;
            let _ = ModelDesc::decode(&changed);
        }
    }
}
