//! Values while a graph is being lowered: what is known of them, and where the rest will be when the program runs.
//!
//! A graph is lowered by running it on these values. Numbers are host operands, so constants fold on the way; lists, tuples,
//! dicts and objects whose shape is known exist only here and leave nothing in the program; a tensor is a view of a
//! *storage*, so that in-place operations and views mean what they mean in PyTorch.

use crate::index::ids;
use crate::loops::{BufferId, Const, Dim, Operand, VarId};
use crate::types::{DType, Object, Type};
use indexmap::IndexMap;
use std::sync::Arc;

ids! {
    /// A list, dict or object: something with identity that can change.
    CellId = "cell";
    /// The memory behind tensors.
    StorageId = "s";
    /// What is known of the results of tasks.
    ResultId = "r";
}

/// A value of the program being lowered.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// An integer; also dtypes, layouts and memory formats.
    Int(Operand),
    /// A float.
    Float(Operand),
    /// A boolean.
    Bool(Operand),
    /// A complex number: real and imaginary part.
    Complex(Operand, Operand),
    /// Text: constant, or a string object in a variable.
    Str(Operand),
    /// A device.
    Device(Arc<str>),
    /// A tensor.
    Tensor(Tensor),
    /// A tuple; a named one has its type.
    Tuple(Vec<Value>, Option<Type>),
    /// A list, dict, object, run-time list or future.
    Cell(CellId),
    /// A value of which only the running program knows what kind it is.
    OneOf(OneOf),
    /// A member of an enumeration: class and value.
    Enum(Arc<str>, Box<Value>),
    /// A function or method value.
    Function(Arc<str>),
    /// A value that control flow never lets anyone read.
    Uninitialized,
}

/// A value of which only the running program knows what kind it is: `None` or a tensor, an int or a text.
#[derive(Clone, Debug, PartialEq)]
pub struct OneOf {
    /// The variable of the box that it is in; set once.
    pub item: VarId,
    /// The variable with the number of its kind (`aot_runtime::routines::kinds::kind`); set once.
    pub kind: VarId,
    /// What it may be, each of another kind.
    pub options: Arc<[ItemFacts]>,
}

/// The contents of a [`CellId`].
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A list whose items are known.
    List(Vec<Value>),
    /// A dict whose keys are known constants, in insertion order.
    Dict(Vec<(Value, Value)>),
    /// An instance of a module or script class.
    Object(ObjectCell),
    /// A list that only the running program knows.
    RunTimeList(RunTimeList),
    /// A dict that only the running program knows.
    RunTimeDict(RunTimeDict),
    /// An instance of a script class that only the running program knows.
    RunTimeObject(RunTimeObject),
    /// What a task gives.
    Future(Box<FutureCell>),
}

/// What a task gives when it ends.
#[derive(Clone, Debug, PartialEq)]
pub struct FutureCell {
    /// The variable that refers to it; set once.
    pub var: VarId,
    /// What is known of the result for as long as the function runs.
    pub result: ResultId,
    /// The same where the variables that the task captured hold what they held.
    pub exact: ResultId,
    /// The result, after a wait.
    pub value: Option<Value>,
}

impl FutureCell {
    /// The future in a variable, of which nothing more is known.
    pub fn new(var: VarId, result: ResultId) -> Self {
        Self { var, result, exact: result, value: None }
    }
}

/// An instance of a module or script class.
#[derive(Clone, Debug)]
pub struct ObjectCell {
    /// Qualified class name.
    pub class: Arc<str>,
    /// The object of the archive this is, whose attributes are read when first asked for; `None` for new objects.
    pub loaded: Option<Arc<Object>>,
    /// Attributes read or written so far.
    pub attrs: IndexMap<Arc<str>, Value>,
}

impl PartialEq for ObjectCell {
    fn eq(&self, other: &Self) -> bool {
        self.class == other.class
            && self.attrs == other.attrs
            && match (&self.loaded, &other.loaded) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
    }
}

/// A list in an object variable of the running program.
#[derive(Clone, Debug, PartialEq)]
pub struct RunTimeList {
    /// The variable that refers to it; set once.
    pub var: VarId,
    /// What is known of every item.
    pub item: ItemFacts,
    /// Whether another list or dict holds it, which knows the same of it.
    pub is_nested: bool,
}

/// A dict in an object variable of the running program.
#[derive(Clone, Debug, PartialEq)]
pub struct RunTimeDict {
    /// The variable that refers to it; set once.
    pub var: VarId,
    /// What is known of every entry.
    pub entry: EntryFacts,
    /// Whether another list or dict holds it, which knows the same of it.
    pub is_nested: bool,
}

/// An instance of a script class in an object variable of the running program.
#[derive(Clone, Debug, PartialEq)]
pub struct RunTimeObject {
    /// The variable that refers to it; set once.
    pub var: VarId,
    /// Qualified class name.
    pub class: Arc<str>,
}

/// What is known of every entry of a run-time dict.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryFacts {
    /// Of its key.
    pub key: ItemFacts,
    /// Of its value.
    pub value: ItemFacts,
}

/// What is known of every item of a run-time list, and of the keys and values of a dict.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemFacts {
    /// Nothing was put in yet.
    Empty,
    /// Integers.
    Int,
    /// Floats.
    Float,
    /// Booleans.
    Bool,
    /// Strings.
    Str,
    /// Tensors.
    Tensor(TensorFacts),
    /// Futures of tasks with these results.
    Future(ResultId),
    /// Tuples of these; named ones have their type.
    Tuple(Vec<ItemFacts>, Option<Type>),
    /// Run-time lists of these.
    List(Box<ItemFacts>),
    /// Run-time dicts of these.
    Dict(Box<EntryFacts>),
    /// Instances of a script class.
    Object(Arc<str>),
    /// Members of an enumeration, with what is known of their values.
    Enum(Arc<str>, Box<ItemFacts>),
    /// `None`.
    None,
    /// Complex numbers.
    Complex,
    /// Some of these, each of another kind.
    OneOf(Arc<[ItemFacts]>),
}

impl ItemFacts {
    /// The rank of tensors; 0 for anything else.
    pub fn rank(&self) -> usize {
        if let Self::Tensor(facts) = self { facts.dims.len() } else { 0 }
    }

    /// What a static type alone says of items.
    pub fn of_type(ty: &Type) -> Self {
        match ty {
            Type::Int => Self::Int,
            Type::Float => Self::Float,
            Type::Bool => Self::Bool,
            Type::Str => Self::Str,
            Type::Optional(_) | Type::Union(_) => Self::Empty.completed(ty),
            Type::None => Self::None,
            Type::Complex => Self::Complex,
            Type::Tuple(types) => Self::Tuple(types.iter().map(Self::of_type).collect(), None),
            Type::NamedTuple(named) => {
                Self::Tuple(named.fields.iter().map(|(_, ty)| Self::of_type(ty)).collect(), Some(ty.clone()))
            }
            Type::Class(name) => Self::Object(Arc::clone(name)),
            Type::Enum(of) => Self::Enum(Arc::clone(&of.name), Box::new(Self::of_type(&of.value))),
            Type::List(item) => Self::List(Box::new(Self::of_type(item))),
            Type::Dict(key, value) => {
                Self::Dict(Box::new(EntryFacts { key: Self::of_type(key), value: Self::of_type(value) }))
            }
            _ => Self::Empty,
        }
    }

    /// The same, and where nothing is known what the static type says.
    #[must_use]
    pub fn completed(&self, ty: &Type) -> Self {
        match (self, ty) {
            // A list of optional numbers is one whatever is in it so far: compiled code must not take it for one of numbers.
            (_, Type::Optional(_) | Type::Union(_)) => {
                let inner: Vec<&Type> = match ty {
                    Type::Optional(inner) => vec![&**inner, &Type::None],
                    Type::Union(members) => members.iter().collect(),
                    _ => Vec::new(),
                };
                let mut options: Vec<Self> = self.options();
                for option in inner.into_iter().flat_map(|ty| Self::of_type(ty).options()) {
                    if options.iter().all(|known| known.kind() != option.kind()) {
                        options.push(option);
                    }
                }
                Self::OneOf(options.into())
            }
            (Self::Empty, ty) => Self::of_type(ty),
            (Self::Tuple(items, named), Type::Tuple(types)) if items.len() == types.len() => {
                let items = items.iter().zip(types.iter()).map(|(item, ty)| item.completed(ty)).collect();
                Self::Tuple(items, named.clone())
            }
            (Self::List(item), Type::List(ty)) => Self::List(Box::new(item.completed(ty))),
            (Self::Dict(entry), Type::Dict(key, value)) => {
                let (key, value) = (entry.key.completed(key), entry.value.completed(value));
                Self::Dict(Box::new(EntryFacts { key, value }))
            }
            _ => self.clone(),
        }
    }

    /// What is known of everything in them that holds nothing else, however deep.
    pub fn leaves(&self) -> Vec<&Self> {
        match self {
            Self::OneOf(options) => options.iter().flat_map(Self::leaves).collect(),
            Self::Tuple(items, _) => items.iter().flat_map(Self::leaves).collect(),
            Self::List(item) => item.leaves(),
            Self::Dict(entry) => [entry.key.leaves(), entry.value.leaves()].concat(),
            leaf => vec![leaf],
        }
    }

    /// Whether a static type says as much, so that it holds whatever is put in.
    pub fn is_of_type(&self) -> bool {
        match self {
            Self::Int | Self::Float | Self::Bool | Self::Str | Self::None | Self::Complex | Self::Object(_) => true,
            Self::Enum(_, value) => value.is_of_type(),
            Self::OneOf(options) => options.iter().all(Self::is_of_type),
            Self::Tuple(items, _) => items.iter().all(Self::is_of_type),
            Self::List(item) => item.is_of_type(),
            Self::Dict(entry) => entry.key.is_of_type() && entry.value.is_of_type(),
            Self::Empty | Self::Tensor(_) | Self::Future(_) => false,
        }
    }
}

/// What is known of tensors in objects of the running program.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorFacts {
    /// Element type.
    pub dtype: DType,
    /// Extents; `None` is one that varies.
    pub dims: Vec<Option<i64>>,
    /// Whether the elements lie row-major without gaps.
    pub is_row_major: bool,
}

impl TensorFacts {
    /// Of tensors that own their memory.
    pub fn row_major(dtype: DType, dims: Vec<Option<i64>>) -> Self {
        Self { dtype, dims, is_row_major: true }
    }
}

/// A tensor: a view of a storage.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The memory. In-place operations on any view of it show in all.
    pub storage: StorageId,
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub dims: Vec<Dim>,
    /// Where elements are.
    pub view: View,
    /// A number that arithmetic made into a tensor (`x + 1`): it ranks below 0-dim tensors in type promotion.
    pub is_wrapped_number: bool,
}

/// Where the elements of a tensor are in its storage.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The storage seen row-major under other dims from an element offset on, or as it is.
    pub reshaped: Option<Reshape>,
    /// For each dimension of that, the index as a function of the tensor's own indices.
    pub index: Vec<Affine>,
}

/// Row-major memory seen under other dims.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reshape {
    /// Elements skipped.
    pub offset: Dim,
    /// The dims it is seen under.
    pub dims: Vec<Dim>,
}

/// `offset + sum of coefficient * index[axis]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    /// The constant part.
    pub offset: Operand,
    /// Axes with their coefficients, by axis.
    pub terms: Vec<(usize, i64)>,
}

impl Affine {
    /// The index along one axis itself.
    pub fn axis(axis: usize) -> Self {
        Self { offset: Operand::Const(Const::int(0)), terms: vec![(axis, 1)] }
    }

    /// Whether this is the index along `axis` itself.
    pub fn is_axis(&self, axis: usize) -> bool {
        self.offset == Operand::Const(Const::int(0)) && self.terms == [(axis, 1)]
    }
}

/// The memory behind tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// What it holds now.
    pub contents: Contents,
    /// The dims of the contents.
    pub dims: Vec<Dim>,
    /// Element type.
    pub dtype: DType,
    /// The nesting of regions (branches, loops) in which it was made; only there may it be written in place.
    pub region: usize,
    /// The buffer of the argument it is, if it is one: the caller sees writes.
    pub argument: Option<BufferId>,
    /// For the integers of a quantised tensor: the real numbers they stand for.
    pub quantizer: Option<Quantizer>,
}

/// How the integers of a quantised tensor stand for real numbers: `scale * (integer - zero point)`.
#[derive(Clone, Debug, PartialEq)]
pub enum Quantizer {
    /// One scale and zero point, a float and an int of the host.
    PerTensor(Operand, Operand),
    /// Scales and zero points for each index of one dimension of the storage.
    PerChannel {
        /// `[extent]`, floats.
        scales: Box<Tensor>,
        /// `[extent]`, integers.
        zero_points: Box<Tensor>,
        /// The dimension of the storage.
        dim: usize,
    },
}

/// What a storage holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Contents {
    /// The elements of a buffer.
    Buffer(BufferId),
    /// One value everywhere: `zeros`, `full`, numbers made into tensors. Of type `I64`, `F64` or `Bool`, converted when read.
    Splat(Operand),
}

impl Tensor {
    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The extents, where all are known.
    pub fn known_dims(&self) -> Option<Vec<i64>> {
        self.dims.iter().map(|d| d.known()).collect()
    }
}

impl Value {
    /// A constant integer.
    pub fn int(value: i64) -> Self {
        Self::Int(Operand::Const(Const::int(value)))
    }

    /// A constant boolean.
    pub fn bool(value: bool) -> Self {
        Self::Bool(Operand::Const(Const::bool(value)))
    }

    /// A constant float.
    pub fn float(value: f64) -> Self {
        Self::Float(Operand::Const(Const::float(DType::F64, value)))
    }

    /// Constant text.
    pub fn text(value: &str) -> Self {
        Self::Str(Operand::Str(value.into()))
    }

    /// A word for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Bool(_) => "bool",
            Self::Complex(..) => "complex",
            Self::Str(_) => "str",
            Self::Device(_) => "Device",
            Self::Tensor(_) => "Tensor",
            Self::Tuple(..) => "Tuple",
            Self::Cell(_) => "List, Dict or object",
            Self::OneOf(_) => "value of a kind known only when running",
            Self::Enum(..) => "Enum",
            Self::Function(_) => "Function",
            Self::Uninitialized => "uninitialized",
        }
    }
}

/// An integer that is known when compiling.
pub fn int(value: i64) -> Operand {
    Operand::Const(Const::int(value))
}

/// The constant an operand is, if it is one.
pub fn known(operand: &Operand) -> Option<Const> {
    match operand {
        Operand::Const(c) => Some(*c),
        Operand::Str(_) | Operand::Var(_) => None,
    }
}

/// The integer an operand is known to be.
pub fn known_int(operand: &Operand) -> Option<i64> {
    known(operand).map(Const::as_i64)
}
