//! TorchScript's types and their two text forms: annotations (`List[int]`) and graphs (`int[]`).

use super::DType;
use std::fmt;
use std::sync::Arc;

/// A TorchScript type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the variants are the language's own")]
pub enum Type {
    Tensor(TensorType),
    Int,
    Float,
    Bool,
    Complex,
    /// `number`, which prints as `Scalar` in graphs: an int, a float or a complex.
    Number,
    Str,
    None,
    Device,
    Generator,
    Stream,
    Storage,
    Capsule,
    Any,
    AnyTuple,
    AnyList,
    Function,
    List(Arc<Type>),
    Dict(Arc<Type>, Arc<Type>),
    Tuple(Arc<[Type]>),
    NamedTuple(Arc<NamedTupleType>),
    Optional(Arc<Type>),
    Union(Arc<[Type]>),
    Future(Arc<Type>),
    Await(Arc<Type>),
    RRef(Arc<Type>),
    Enum(Arc<EnumType>),
    /// A module or script class, by qualified name.
    Class(Arc<str>),
    Interface(Arc<str>),
    /// A type variable of an operator schema (`t`, `tVal`).
    Var(Arc<str>),
}

/// What is known of a tensor: nothing for most values of a scripted graph, everything for traced ones.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TensorType {
    /// Element type, if known.
    pub dtype: Option<DType>,
    /// One entry a dimension, each with its extent if known; `None`: not even the rank is known.
    pub sizes: Option<Vec<Option<i64>>>,
    /// Strides in elements, where the text gave them.
    pub strides: Option<Vec<i64>>,
    /// `requires_grad`, where the text gave it.
    pub requires_grad: Option<bool>,
    /// `device`, where the text gave it.
    pub device: Option<Arc<str>>,
}

/// A named tuple: nominal name and fields in order.
#[derive(PartialEq, Eq, Hash, Debug)]
pub struct NamedTupleType {
    /// Qualified name.
    pub name: Arc<str>,
    /// Field names and types.
    pub fields: Vec<(Arc<str>, Type)>,
}

/// An enumeration class; members' values live with the class definition.
#[derive(PartialEq, Eq, Hash, Debug)]
pub struct EnumType {
    /// Qualified name.
    pub name: Arc<str>,
    /// The type of every member's value.
    pub value: Type,
}

impl Type {
    /// Whether a type has no identity and no contents that could be written to.
    pub fn is_immutable(&self) -> bool {
        match self {
            Self::Int
            | Self::Float
            | Self::Bool
            | Self::Complex
            | Self::Number
            | Self::Str
            | Self::None
            | Self::Device
            | Self::Enum(_)
            | Self::Function => true,
            Self::Tuple(items) => items.iter().all(Self::is_immutable),
            Self::NamedTuple(named) => named.fields.iter().all(|(_, ty)| ty.is_immutable()),
            Self::Optional(inner) => inner.is_immutable(),
            Self::Union(items) => items.iter().all(Self::is_immutable),
            Self::Tensor(_)
            | Self::Generator
            | Self::Stream
            | Self::Storage
            | Self::Capsule
            | Self::Any
            | Self::AnyTuple
            | Self::AnyList
            | Self::List(_)
            | Self::Dict(..)
            | Self::Future(_)
            | Self::Await(_)
            | Self::RRef(_)
            | Self::Class(_)
            | Self::Interface(_)
            | Self::Var(_) => false,
        }
    }

    /// A tensor of which nothing is known.
    pub const fn tensor() -> Self {
        Self::Tensor(TensorType { dtype: None, sizes: None, strides: None, requires_grad: None, device: None })
    }

    /// `List[elem]`.
    pub fn list(elem: Self) -> Self {
        Self::List(Arc::new(elem))
    }

    /// `Optional[ty]`; an optional of an optional is one optional.
    pub fn optional(ty: Self) -> Self {
        if matches!(ty, Self::Optional(_) | Self::None | Self::Any) { ty } else { Self::Optional(Arc::new(ty)) }
    }

    /// The type as annotations and archived code write it (`List[int]`, `Optional[Tensor]`).
    pub fn annotation(&self) -> String {
        let list = |items: &[Self]| items.iter().map(Self::annotation).collect::<Vec<_>>().join(", ");
        match self {
            Self::Tensor(_) => "Tensor".into(),
            Self::Int => "int".into(),
            Self::Float => "float".into(),
            Self::Bool => "bool".into(),
            Self::Complex => "complex".into(),
            Self::Number => "number".into(),
            Self::Str => "str".into(),
            Self::None => "NoneType".into(),
            Self::Device => "Device".into(),
            Self::Generator => "Generator".into(),
            Self::Stream => "Stream".into(),
            Self::Storage => "Storage".into(),
            Self::Capsule => "Capsule".into(),
            Self::Any => "Any".into(),
            Self::AnyTuple => "tuple".into(),
            Self::AnyList => "list".into(),
            Self::Function => "Function".into(),
            Self::List(t) => format!("List[{}]", t.annotation()),
            Self::Dict(k, v) => format!("Dict[{}, {}]", k.annotation(), v.annotation()),
            Self::Tuple(items) if items.is_empty() => "Tuple[()]".into(),
            Self::Tuple(items) => format!("Tuple[{}]", list(items)),
            Self::NamedTuple(t) => t.name.to_string(),
            Self::Optional(t) => format!("Optional[{}]", t.annotation()),
            Self::Union(items) => format!("Union[{}]", list(items)),
            Self::Future(t) => format!("Future[{}]", t.annotation()),
            Self::Await(t) => format!("Await[{}]", t.annotation()),
            Self::RRef(t) => format!("RRef[{}]", t.annotation()),
            Self::Enum(t) => t.name.to_string(),
            Self::Class(name) | Self::Interface(name) | Self::Var(name) => name.to_string(),
        }
    }
}

/// The graph form (`int[]`, `Tensor?`, `Float(2, 3)`).
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comma = |f: &mut fmt::Formatter<'_>, items: &[Self]| {
            items.iter().enumerate().try_for_each(|(i, t)| write!(f, "{}{t}", if i == 0 { "" } else { ", " }))
        };
        match self {
            Self::Tensor(t) => t.fmt(f),
            Self::Number => f.write_str("Scalar"),
            Self::List(t) => write!(f, "{t}[]"),
            Self::Dict(k, v) => write!(f, "Dict({k}, {v})"),
            Self::Tuple(items) => {
                f.write_str("(")?;
                comma(f, items)?;
                f.write_str(")")
            }
            Self::NamedTuple(t) => {
                f.write_str("NamedTuple(")?;
                for (i, (name, ty)) in t.fields.iter().enumerate() {
                    write!(f, "{}{name} : {ty}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
            Self::Optional(t) => write!(f, "{t}?"),
            Self::Union(items) => {
                f.write_str("Union(")?;
                comma(f, items)?;
                f.write_str(")")
            }
            Self::Future(t) => write!(f, "Future[{t}]"),
            Self::Await(t) => write!(f, "Await({t})"),
            Self::RRef(t) => write!(f, "RRef[{t}]"),
            Self::Enum(t) => write!(f, "Enum<{}>", t.name),
            Self::Interface(name) => write!(f, "InterfaceType<{}>", name.rsplit('.').next().unwrap_or(name)),
            Self::Int
            | Self::Float
            | Self::Bool
            | Self::Complex
            | Self::Str
            | Self::None
            | Self::Device
            | Self::Generator
            | Self::Stream
            | Self::Storage
            | Self::Capsule
            | Self::Any
            | Self::AnyTuple
            | Self::AnyList
            | Self::Function
            | Self::Class(_)
            | Self::Var(_) => f.write_str(&self.annotation()),
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dtype.is_none() && self.sizes.is_none() {
            return f.write_str("Tensor");
        }
        let mut parts = Vec::new();
        if let Some(sizes) = &self.sizes {
            parts.extend(sizes.iter().map(|s| s.map_or("*".to_owned(), |s| s.to_string())));
        }
        if let Some(strides) = self.strides.as_ref().filter(|s| !s.is_empty()) {
            parts.push(format!("strides={strides:?}"));
        }
        parts.extend(self.requires_grad.map(|r| format!("requires_grad={}", i32::from(r))));
        parts.extend(self.device.as_ref().map(|d| format!("device={d}")));
        let dtype = self.dtype.map_or("", DType::graph_name);
        let name = if self.sizes.is_some() && !dtype.is_empty() { dtype.to_owned() } else { format!("{dtype}Tensor") };
        write!(f, "{name}({})", parts.join(", "))
    }
}
