//! Values of Python while module-level statements and constructors run: plain data by value, what can be changed by [`Ref`].

use crate::diag::Diagnostic;
use crate::index::{IndexVec, ids};
use crate::ir::Module;
use crate::script::names::Definition;
use crate::types::{DType, TensorData, Type};
use indexmap::IndexMap;
use std::sync::Arc;

ids! {
    /// A thing with an identity: a list, a tensor, an object.
    #[allow(unreachable_pub, reason = "ids are declared in one way")]
    Ref = "ref";
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Complex(f64, f64),
    Str(Arc<str>),
    Ellipsis,
    Device(Arc<str>),
    Tuple(Arc<[Value]>),
    /// Qualified name and fields.
    NamedTuple(Arc<str>, Arc<[Value]>),
    /// Qualified name of the enumeration, the member's name and its value.
    Enum(Arc<str>, Arc<str>, Arc<Value>),
    /// `range(start, stop, step)`.
    Range(i64, i64, i64),
    /// Something of a library by its dotted path: `torch.float32`, `math.pi`, `builtins.len`.
    Path(Arc<str>),
    /// A class of a text by its qualified name.
    Class(Arc<str>),
    /// A function at the top level of a text, by its qualified name.
    Function(Arc<str>),
    /// A compiled function of the program, by its qualified name.
    Compiled(Arc<str>),
    /// A compiled module that is no object of Python: a frozen or a loaded one.
    Module(Arc<Module>),
    /// A function written inside another one, with the names it was made among.
    Closure(Arc<Closure>),
    /// A lambda.
    Lambda,
    /// `object.name` of something that is called.
    Method(Arc<Value>, Arc<str>),
    /// `super()`: the object, and the class whose bases are asked.
    Super(Ref, Arc<str>),
    /// What has an identity.
    Ref(Ref),
    /// What could not be evaluated, and why.
    Unknown(Arc<Diagnostic>),
}

/// A nested function.
#[derive(Debug)]
pub(crate) struct Closure {
    pub definition: Definition,
    pub names: IndexMap<Arc<str>, Value>,
    /// The class whose method it is written in.
    pub class: Option<Arc<str>>,
}

/// What a [`Ref`] refers to.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Set(Vec<Value>),
    /// Elements that several tensors may share.
    Elements(Arc<TensorData>),
    Tensor(TensorCell),
    /// A tensor that exists only in a trace.
    Traced(TracedTensor),
    Instance(Instance),
    /// `torch.jit.Attribute(value, type)`.
    Attribute(Value, Type),
}

/// What is known of a tensor under trace.
#[derive(Clone, Debug)]
pub(crate) struct TracedTensor {
    pub dtype: DType,
    pub sizes: Vec<i64>,
    /// Whether elements lie in row-major order, as far as the operator that made it tells.
    pub is_dense: bool,
}

/// A tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorCell {
    /// A [`Cell::Elements`].
    pub elements: Ref,
    pub is_parameter: bool,
    pub requires_grad: bool,
    /// Whether it may look at the elements of another tensor, of which it holds a copy here.
    pub is_view: bool,
}

/// An object of a class.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// Qualified name of its class.
    pub class: Arc<str>,
    /// Whether the class derives from `torch.nn.Module`.
    pub is_module: bool,
    /// Which container of modules or parameters it is, if it is one.
    pub container: Option<Container>,
    /// What Python has in `__dict__`.
    pub attrs: IndexMap<Arc<str>, Value>,
    /// Of modules, once their constructor has run.
    pub parts: Option<Parts>,
}

/// Containers of `torch.nn`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Container {
    Sequential,
    ModuleList,
    ModuleDict,
    ParameterList,
    ParameterDict,
}

impl Container {
    /// The container with this name, if there is one.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "Sequential" => Self::Sequential,
            "ModuleList" => Self::ModuleList,
            "ModuleDict" => Self::ModuleDict,
            "ParameterList" => Self::ParameterList,
            "ParameterDict" => Self::ParameterDict,
            _ => return None,
        })
    }

    /// Whether its items have names, not places.
    pub(crate) fn has_names(self) -> bool {
        matches!(self, Self::ModuleDict | Self::ParameterDict)
    }

    /// Whether its items are parameters.
    pub(crate) fn is_of_parameters(self) -> bool {
        matches!(self, Self::ParameterList | Self::ParameterDict)
    }
}

/// What a module registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    pub parameters: IndexMap<Arc<str>, Value>,
    pub buffers: IndexMap<Arc<str>, Value>,
    pub modules: IndexMap<Arc<str>, Value>,
}

/// Everything with an identity.
pub(crate) type Heap = IndexVec<Ref, Cell>;

impl Value {
    /// A text.
    pub(crate) fn str(text: impl Into<Arc<str>>) -> Self {
        Self::Str(text.into())
    }

    /// Whether both are one object, or equal values that have no identity here.
    pub(crate) fn is_same(&self, other: &Self, heap: &Heap) -> bool {
        match (self, other) {
            (Self::Ref(a), Self::Ref(b)) => a == b,
            (Self::None, Self::None) | (Self::Ellipsis, Self::Ellipsis) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Bool(_), _) | (_, Self::Bool(_)) => false,
            _ => self.is_equal(other, heap, 0),
        }
    }

    /// `==`, except of tensors and of objects with methods of their own.
    pub(crate) fn is_equal(&self, other: &Self, heap: &Heap, depth: usize) -> bool {
        if depth > 100 {
            return false;
        }
        let all =
            |a: &[Self], b: &[Self]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_equal(b, heap, depth + 1));
        match (self, other) {
            (Self::None, Self::None) | (Self::Ellipsis, Self::Ellipsis) => true,
            (Self::Str(a), Self::Str(b))
            | (Self::Path(a), Self::Path(b))
            | (Self::Class(a), Self::Class(b))
            | (Self::Device(a), Self::Device(b))
            | (Self::Function(a), Self::Function(b)) => a == b,
            (Self::Tuple(a) | Self::NamedTuple(_, a), Self::Tuple(b) | Self::NamedTuple(_, b)) => all(a, b),
            (Self::Enum(a, m, _), Self::Enum(b, n, _)) => a == b && m == n,
            (Self::Range(a, b, c), Self::Range(d, e, f)) => (a, b, c) == (d, e, f),
            (Self::Ref(a), Self::Ref(b)) => {
                a == b
                    || match (&heap[*a], &heap[*b]) {
                        (Cell::List(a), Cell::List(b)) => all(a, b),
                        (Cell::Dict(a), Cell::Dict(b)) => {
                            let same = |k: &Self, v: &Self| {
                                b.iter()
                                    .any(|(k2, v2)| k.is_equal(k2, heap, depth + 1) && v.is_equal(v2, heap, depth + 1))
                            };
                            a.len() == b.len() && a.iter().all(|(k, v)| same(k, v))
                        }
                        (Cell::Set(a), Cell::Set(b)) => {
                            a.len() == b.len() && a.iter().all(|x| b.iter().any(|y| x.is_equal(y, heap, depth + 1)))
                        }
                        _ => false,
                    }
            }
            (a, b) => match (a.as_int(), b.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => matches!((a.as_float(), b.as_float()), (Some(a), Some(b)) if a == b),
            },
        }
    }

    /// The integer, also of a bool.
    pub(crate) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Bool(b) => Some(i64::from(*b)),
            _ => None,
        }
    }

    /// The number as a float.
    pub(crate) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(x) => Some(*x),
            other => other.as_int().map(|n| n as f64),
        }
    }
}

/// The name of the value's Python class, as `type(value).__name__`.
pub(crate) fn type_name(value: &Value, heap: &Heap) -> String {
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    match value {
        Value::None => "NoneType".into(),
        Value::Bool(_) => "bool".into(),
        Value::Int(_) => "int".into(),
        Value::Float(_) => "float".into(),
        Value::Complex(..) => "complex".into(),
        Value::Str(_) => "str".into(),
        Value::Ellipsis => "ellipsis".into(),
        Value::Device(_) => "device".into(),
        Value::Tuple(_) => "tuple".into(),
        Value::NamedTuple(name, _) | Value::Enum(name, ..) => last(name),
        Value::Range(..) => "range".into(),
        Value::Path(path) if crate::types::DType::from_python_name(&last(path)).is_some() => "dtype".into(),
        Value::Path(path) if is_class_path(path) => "type".into(),
        Value::Path(path) if path.starts_with("builtins.") || path.starts_with("torch.") => {
            "builtin_function_or_method".into()
        }
        Value::Path(_) => "module".into(),
        Value::Class(_) => "type".into(),
        Value::Function(_) | Value::Closure(_) | Value::Lambda => "function".into(),
        Value::Compiled(_) => "ScriptFunction".into(),
        Value::Module(_) => "RecursiveScriptModule".into(),
        Value::Method(..) => "method".into(),
        Value::Super(..) => "super".into(),
        Value::Unknown(_) => "object".into(),
        Value::Ref(at) => match &heap[*at] {
            Cell::List(_) => "list".into(),
            Cell::Dict(_) => "dict".into(),
            Cell::Set(_) => "set".into(),
            Cell::Tensor(tensor) if tensor.is_parameter => "Parameter".into(),
            Cell::Tensor(_) | Cell::Traced(_) | Cell::Elements(_) => "Tensor".into(),
            Cell::Instance(instance) => last(&instance.class),
            Cell::Attribute(..) => "Attribute".into(),
        },
    }
}

/// Whether a library's path names a class.
fn is_class_path(path: &str) -> bool {
    let name = path.rsplit('.').next().unwrap_or(path);
    matches!(name, "object" | "int" | "float" | "str" | "bool" | "list" | "dict" | "tuple" | "set" | "complex" | "type")
        || name.starts_with(|c: char| c.is_ascii_uppercase())
}
