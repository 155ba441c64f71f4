//! Signatures: what is known of a method's arguments before it is lowered.

use crate::types::{DType, Type};
use aot_runtime::Value as Argument;
use std::sync::Arc;

/// What is known of an argument.
#[derive(Clone, PartialEq, Debug)]
pub enum ArgSpec {
    /// `None`.
    None,
    /// A tensor of this type and shape.
    Tensor(DType, Vec<DimSpec>),
    /// An int, and its value if the code is to be special for it.
    Int(Option<i64>),
    /// A float, and its value if the code is to be special for it.
    Float(Option<f64>),
    /// A bool, and its value if the code is to be special for it.
    Bool(Option<bool>),
    /// A complex number.
    Complex,
    /// Text; the code is special for it.
    Str(Arc<str>),
    /// A tuple.
    Tuple(Vec<ArgSpec>),
    /// A list of known length.
    List(Vec<ArgSpec>),
    /// A dict with known keys.
    Dict(Vec<(ArgSpec, ArgSpec)>),
}

/// An extent of an argument.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DimSpec {
    /// This and no other.
    Known(i64),
    /// Any; equal symbols are equal extents.
    Symbol(Arc<str>),
}

impl ArgSpec {
    /// The signature of an actual argument: tensors by exact shape; numbers by type. Fails, in words, for kinds of values
    /// that no compiled method takes.
    pub fn of(value: &Argument) -> Result<Self, String> {
        Ok(match value {
            Argument::None => Self::None,
            Argument::Bool(_) => Self::Bool(None),
            Argument::Int(_) => Self::Int(None),
            Argument::Float(_) => Self::Float(None),
            Argument::Str(text) => Self::Str(text.as_str().into()),
            Argument::Tensor(t) => {
                let code = i64::from(t.dtype.0);
                let dtype = DType::from_code(code).ok_or_else(|| format!("unknown element type {code}"))?;
                Self::Tensor(dtype, t.sizes.iter().map(|&n| DimSpec::Known(n)).collect())
            }
            Argument::Tuple(items) => Self::Tuple(items.iter().map(Self::of).collect::<Result<_, _>>()?),
            Argument::NamedTuple { fields, .. } => {
                Self::Tuple(fields.iter().map(|(_, v)| Self::of(v)).collect::<Result<_, _>>()?)
            }
            Argument::List(items) => Self::List(items.iter().map(Self::of).collect::<Result<_, _>>()?),
            Argument::Dict(entries) => {
                let entry = |(k, v): &(Argument, Argument)| Ok((Self::key(k)?, Self::of(v)?));
                Self::Dict(entries.iter().map(entry).collect::<Result<_, String>>()?)
            }
            Argument::Complex(..) => Self::Complex,
        })
    }

    /// Whether a caller may pass this for a parameter of the type. Python's own conversions apply: a bool is an int, an int is
    /// a float, a tuple is a list.
    pub fn is_for(&self, ty: &Type) -> bool {
        let all = |items: &[Self], ty: &Type| items.iter().all(|item| item.is_for(ty));
        match (ty, self) {
            (Type::Tensor(_), spec) => matches!(spec, Self::Tensor(..)),
            (Type::Int, spec) => matches!(spec, Self::Int(_) | Self::Bool(_) | Self::Tensor(..)),
            (Type::Float, spec) => matches!(spec, Self::Float(_) | Self::Int(_) | Self::Bool(_) | Self::Tensor(..)),
            (Type::Str, spec) => matches!(spec, Self::Str(_)),
            (Type::Optional(inner), spec) => *spec == Self::None || spec.is_for(inner),
            (Type::Union(members), spec) => members.iter().any(|member| spec.is_for(member)),
            (Type::None, spec) => *spec == Self::None,
            (Type::List(item), Self::List(items) | Self::Tuple(items)) => all(items, item),
            (Type::List(_) | Type::Dict(..), Self::Tensor(..)) => false,
            (Type::List(_), spec) => !matches!(
                spec,
                Self::None
                    | Self::Int(_)
                    | Self::Float(_)
                    | Self::Bool(_)
                    | Self::Complex
                    | Self::Str(_)
                    | Self::Dict(_)
            ),
            (Type::Dict(key, item), Self::Dict(entries)) => {
                entries.iter().all(|(k, v)| k.is_for(key) && v.is_for(item))
            }
            (Type::Dict(..), _) => false,
            (Type::Tuple(types), Self::Tuple(items)) => {
                items.len() == types.len() && items.iter().zip(types.iter()).all(|(item, ty)| item.is_for(ty))
            }
            (Type::NamedTuple(named), Self::Tuple(items)) => {
                let mut fields = items.iter().zip(&named.fields);
                items.len() == named.fields.len() && fields.all(|(item, (_, ty))| item.is_for(ty))
            }
            (Type::Enum(of), spec) => spec.is_for(&of.value),
            (Type::Class(_) | Type::Interface(_) | Type::Function | Type::Future(_), _) => false,
            _ => true,
        }
    }

    /// The name that Python has for the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Tensor(..) => "Tensor",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Bool(_) => "bool",
            Self::Complex => "complex",
            Self::Str(_) => "str",
            Self::Tuple(_) => "tuple",
            Self::List(_) => "list",
            Self::Dict(_) => "dict",
        }
    }

    /// A dict key: special for its value.
    fn key(value: &Argument) -> Result<Self, String> {
        Ok(match value {
            Argument::Int(n) => Self::Int(Some(*n)),
            Argument::Float(x) => Self::Float(Some(*x)),
            Argument::Bool(x) => Self::Bool(Some(*x)),
            other => Self::of(other)?,
        })
    }
}
