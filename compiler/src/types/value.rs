//! Values that are known before the program runs: module attributes, constants, recorded inputs and results.

use super::{DType, EnumType, TensorData, Type};
use indexmap::IndexMap;
use std::sync::Arc;

/// A TorchScript value, named as users of PyTorch know it. Objects are shared by reference.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the variants are the language's own")]
pub enum IValue {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Complex(f64, f64),
    Str(Arc<str>),
    Device(Arc<str>),
    Tensor(Arc<TensorData>),
    Tuple(Arc<[IValue]>),
    /// Element type, where the archive says it, and the items.
    List(Option<Type>, Arc<[IValue]>),
    /// Key and value type, where the archive says them, and the entries in insertion order.
    Dict(Option<(Type, Type)>, Arc<[(IValue, IValue)]>),
    Object(Arc<Object>),
    Enum {
        class: Arc<str>,
        value: Arc<IValue>,
    },
}

/// An instance of a module or script class. Identity is the `Arc`'s address.
#[derive(Debug)]
pub struct Object {
    /// Qualified class name, e.g. `__torch__.torch.nn.modules.linear.Linear`.
    pub class: Arc<str>,
    /// Attributes in slot order. For a class with `__setstate__` the one entry `__state__` holds its argument.
    pub attrs: IndexMap<Arc<str>, IValue>,
}

impl IValue {
    /// A word for messages: `Tensor`, `int`, `List`, ...
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Complex(..) => "complex",
            Self::Str(_) => "str",
            Self::Device(_) => "Device",
            Self::Tensor(_) => "Tensor",
            Self::Tuple(_) => "Tuple",
            Self::List(..) => "List",
            Self::Dict(..) => "Dict",
            Self::Object(_) => "Object",
            Self::Enum { .. } => "Enum",
        }
    }

    /// The type of the value, as far as it tells: an empty list without a tag is one of tensors.
    pub fn ty(&self) -> Type {
        match self {
            Self::None => Type::None,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Float(_) => Type::Float,
            Self::Complex(..) => Type::Complex,
            Self::Str(_) => Type::Str,
            Self::Device(_) => Type::Device,
            Self::Tensor(_) => Type::tensor(),
            Self::Tuple(items) => Type::Tuple(items.iter().map(Self::ty).collect()),
            Self::List(Some(elem), _) => Type::list(elem.clone()),
            Self::List(None, items) => Type::list(items.first().map_or_else(Type::tensor, Self::ty)),
            Self::Dict(Some((k, v)), _) => Type::Dict(Arc::new(k.clone()), Arc::new(v.clone())),
            Self::Dict(None, entries) => {
                let (k, v) = entries.first().map_or((Type::Str, Type::tensor()), |(k, v)| (k.ty(), v.ty()));
                Type::Dict(Arc::new(k), Arc::new(v))
            }
            Self::Object(object) => Type::Class(Arc::clone(&object.class)),
            Self::Enum { class, value } => {
                Type::Enum(Arc::new(EnumType { name: Arc::clone(class), value: value.ty() }))
            }
        }
    }

    /// A 0-dim tensor of one `int64`, for tests and scalar results.
    pub fn scalar_i64(value: i64) -> Self {
        let data = TensorData::from_bytes(DType::I64, &[], value.to_ne_bytes().to_vec());
        Self::Tensor(Arc::new(data.expect("one element fits its own bytes")))
    }
}
