//! Values that go into and come out of a model.

use crate::tensor::Tensor;

/// An argument or result.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Real and imaginary part.
    Complex(f64, f64),
    Str(String),
    Tensor(Tensor),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    NamedTuple {
        /// Class name.
        name: String,
        fields: Vec<(String, Value)>,
    },
    /// In insertion order.
    Dict(Vec<(Value, Value)>),
}

impl Value {
    /// The name of the value's type as `TorchScript` messages print it.
    pub fn type_name(&self) -> String {
        match self {
            Self::None => "NoneType".into(),
            Self::Bool(_) => "bool".into(),
            Self::Int(_) => "int".into(),
            Self::Float(_) => "float".into(),
            Self::Complex(..) => "complex".into(),
            Self::Str(_) => "str".into(),
            Self::Tensor(_) => "Tensor".into(),
            Self::List(_) => "list".into(),
            Self::Tuple(_) => "tuple".into(),
            Self::NamedTuple { name, .. } => name.clone(),
            Self::Dict(_) => "dict".into(),
        }
    }

    /// The tensor, if it is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        if let Self::Tensor(tensor) = self { Some(tensor) } else { None }
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}
