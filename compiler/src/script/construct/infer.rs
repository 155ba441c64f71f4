//! The TorchScript types of Python's values, and values as those of a type: PyTorch's `tryToInferType` and `toIValue`.

use super::concrete::{Missing, plain_name};
use super::{Cell, Interpreter, Value, value};
use crate::diag::Result;
use crate::ir::ClassKind;
use crate::script::names::Item;
use crate::script::python::Mark;
use crate::script::typing::unify;
use crate::types::{DType, EnumType, IValue, Object, Type};
use indexmap::IndexMap;
use std::sync::Arc;

/// A type, or why there is none.
pub(crate) type Inferred = std::result::Result<Type, Missing>;

/// A value, or why the type does not take it.
type Cast = std::result::Result<IValue, String>;

impl Interpreter<'_, '_> {
    /// The type of a value, as far as it has one.
    pub(crate) fn infer(&mut self, value: &Value) -> Result<Inferred> {
        self.descend()?;
        let made = self.infer_inner(value);
        self.depth -= 1;
        made
    }

    fn infer_inner(&mut self, value: &Value) -> Result<Inferred> {
        let unfit = |this: &Self| {
            let name = value::type_name(value, &this.heap);
            Ok(Err(Missing::because(format!(
                "Only tensors and (possibly nested) tuples of tensors, lists, or dicts are supported as inputs or outputs of \
                 traced functions, but instead got value of type {name}."
            ))))
        };
        Ok(Ok(match value {
            Value::None => Type::None,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Float(_) => Type::Float,
            Value::Complex(..) => Type::Complex,
            Value::Str(_) => Type::Str,
            Value::Device(_) => Type::Device,
            Value::Path(path) if dtype_of(path).is_some() => Type::Int,
            // A named tuple is a tuple to Python, which is what PyTorch asks it.
            Value::Tuple(items) | Value::NamedTuple(_, items) => {
                let mut types = Vec::with_capacity(items.len());
                for item in items.iter() {
                    match self.infer(item)? {
                        Ok(ty) => types.push(ty),
                        Err(reason) => return Ok(Err(reason)),
                    }
                }
                Type::Tuple(types.into())
            }
            Value::Enum(name, _, inner) => match self.program.item(name)? {
                Some(Item::Enum(ty)) => Type::Enum(ty),
                _ => {
                    let inner = self.infer(inner)?.unwrap_or(Type::Int);
                    Type::Enum(Arc::new(EnumType { name: Arc::clone(name), value: inner }))
                }
            },
            Value::Unknown(why) => return Ok(Err(Missing::Unknown(Arc::clone(why)))),
            Value::Ref(at) => match self.heap[*at].clone() {
                Cell::Tensor(_) | Cell::Traced(_) | Cell::Elements(_) => Type::tensor(),
                Cell::Attribute(_, ty) => ty,
                Cell::List(items) => {
                    let Some((first, rest)) = items.split_first() else {
                        return Ok(Err(Missing::because("List trace inputs must have elements")));
                    };
                    match self.common(
                        first,
                        rest,
                        "List inputs to traced functions must have consistent element type",
                    )? {
                        Ok(elem) => Type::list(elem),
                        Err(reason) => return Ok(Err(reason)),
                    }
                }
                Cell::Dict(entries) => {
                    let Some(((key, item), rest)) = entries.split_first() else {
                        return Ok(Err(Missing::because("Dictionary inputs must have entries")));
                    };
                    let (keys, items): (Vec<Value>, Vec<Value>) = rest.iter().cloned().unzip();
                    let what = "Dictionary inputs to traced functions must have consistent type";
                    match (self.common(key, &keys, what)?, self.common(item, &items, what)?) {
                        (Ok(key), Ok(item)) => Type::Dict(Arc::new(key), Arc::new(item)),
                        (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
                    }
                }
                Cell::Instance(instance) if !instance.is_module && self.can_compile(&instance.class)? => {
                    match self.program.item(&instance.class)? {
                        Some(Item::Class(ty)) => ty,
                        _ => return unfit(self),
                    }
                }
                Cell::Instance(_) | Cell::Set(_) => return unfit(self),
            },
            Value::Ellipsis
            | Value::Range(..)
            | Value::Path(_)
            | Value::Class(_)
            | Value::Function(_)
            | Value::Compiled(_)
            | Value::Module(_)
            | Value::Closure(_)
            | Value::Lambda
            | Value::Method(..)
            | Value::Super(..) => return unfit(self),
        }))
    }

    /// The type of several values.
    fn common(&mut self, first: &Value, rest: &[Value], what: &str) -> Result<Inferred> {
        let mut common = match self.infer(first)? {
            Ok(ty) => ty,
            Err(reason) => return Ok(Err(reason)),
        };
        for item in rest {
            let ty = match self.infer(item)? {
                Ok(ty) => ty,
                Err(reason) => return Ok(Err(reason)),
            };
            match unify(&common, &ty, self.program) {
                Some(both) => common = both,
                None => {
                    let text = format!("{what}. Found {} and {}", common.annotation(), ty.annotation());
                    return Ok(Err(Missing::because(text)));
                }
            }
        }
        Ok(Ok(common))
    }

    /// Whether objects of a plain class become objects of a TorchScript class.
    fn can_compile(&mut self, class: &Arc<str>) -> Result<bool> {
        if self.program.kind_of_class(class)? != ClassKind::Class {
            return Ok(false);
        }
        let Some((file, stmt)) = self.program.find(class)? else { return Ok(false) };
        let crate::syntax::ast::StmtKind::Class(syntax) = &file.stmts[stmt].kind else { return Ok(false) };
        let is_builtin = |base: &crate::syntax::ast::Expr| {
            let path = crate::script::names::dotted(base).unwrap_or_default();
            matches!(path.as_str(), "tuple" | "list" | "Exception") || path.ends_with("Error")
        };
        let mark = self.program.mark_of(&file, &syntax.decorators);
        Ok(!syntax.bases.iter().any(is_builtin) && !matches!(mark, Mark::Ignore | Mark::Unused))
    }

    /// The value as one of a type.
    pub(crate) fn cast(&mut self, value: &Value, ty: &Type) -> Result<Cast> {
        self.descend()?;
        let made = self.cast_inner(value, ty);
        self.depth -= 1;
        made
    }

    fn cast_inner(&mut self, value: &Value, ty: &Type) -> Result<Cast> {
        let refuse = |this: &Self| {
            let name = value::type_name(value, &this.heap);
            Ok(Err(format!("Unable to cast Python instance of type <class '{name}'> to C++ type '?'")))
        };
        if let Value::Unknown(why) = value {
            return Err(Box::new((**why).clone()));
        }
        if let Value::Ref(at) = value
            && let Cell::Attribute(inner, _) = self.heap[*at].clone()
        {
            return self.cast(&inner, ty);
        }
        Ok(Ok(match (ty, value) {
            (Type::Optional(_) | Type::None, Value::None) => IValue::None,
            (Type::Optional(inner), _) => return self.cast(value, inner),
            (Type::Union(members), _) => {
                let inferred = self.infer(value)?;
                let exact = members.iter().find(|member| inferred.as_ref().is_ok_and(|ty| ty == *member));
                for member in exact.into_iter().chain(members.iter()) {
                    if let Ok(made) = self.cast(value, member)? {
                        return Ok(Ok(made));
                    }
                }
                return Ok(Err(format!("Expected a member of {}", ty.annotation())));
            }
            (Type::Any, _) => match self.infer(value)? {
                Ok(ty) => return self.cast(value, &ty),
                Err(_) => return refuse(self),
            },
            (Type::Tensor(_), _) => match self.tensor_cell(value) {
                Some(cell) => IValue::Tensor(self.data(cell)),
                None => return Ok(Err(format!("Unable to cast {} to Tensor", self.str(value)))),
            },
            (Type::Float, _) if value.as_float().is_some() => IValue::Float(value.as_float().unwrap_or_default()),
            (Type::Complex, Value::Complex(re, im)) => IValue::Complex(*re, *im),
            (Type::Complex, _) if value.as_float().is_some() => {
                IValue::Complex(value.as_float().unwrap_or_default(), 0.0)
            }
            (Type::Int, Value::Path(path)) if dtype_of(path).is_some() => {
                IValue::Int(dtype_of(path).unwrap_or_default())
            }
            (Type::Int, _) if value.as_int().is_some() => IValue::Int(value.as_int().unwrap_or_default()),
            (Type::Number, Value::Int(n)) => IValue::Int(*n),
            (Type::Number, Value::Float(x)) => IValue::Float(*x),
            (Type::Bool, Value::Bool(b)) => IValue::Bool(*b),
            (Type::Str, Value::Str(text)) => IValue::Str(Arc::clone(text)),
            (Type::Device, Value::Device(text) | Value::Str(text)) => IValue::Device(Arc::clone(text)),
            (Type::List(elem), Value::Ref(at)) => {
                let Cell::List(items) = self.heap[*at].clone() else { return refuse(self) };
                match self.cast_all(&items, std::iter::repeat(&**elem))? {
                    Ok(items) => IValue::List(Some((**elem).clone()), items.into()),
                    Err(why) => return Ok(Err(why)),
                }
            }
            (Type::List(elem), Value::Tuple(items)) => match self.cast_all(items, std::iter::repeat(&**elem))? {
                Ok(items) => IValue::List(Some((**elem).clone()), items.into()),
                Err(why) => return Ok(Err(why)),
            },
            (Type::Dict(key, item), Value::Ref(at)) => {
                let Cell::Dict(entries) = self.heap[*at].clone() else { return refuse(self) };
                let mut made = Vec::with_capacity(entries.len());
                for (k, v) in &entries {
                    match (self.cast(k, key)?, self.cast(v, item)?) {
                        (Ok(k), Ok(v)) => made.push((k, v)),
                        (Err(why), _) | (_, Err(why)) => return Ok(Err(why)),
                    }
                }
                IValue::Dict(Some(((**key).clone(), (**item).clone())), made.into())
            }
            (Type::Tuple(types), Value::Tuple(items) | Value::NamedTuple(_, items)) => {
                if items.len() != types.len() {
                    let (text, ty) = (self.repr(value, 0), ty.annotation());
                    return Ok(Err(format!("Object {text} had a different number of elements than type {ty}")));
                }
                match self.cast_all(items, types.iter())? {
                    Ok(items) => IValue::Tuple(items.into()),
                    Err(why) => return Ok(Err(why)),
                }
            }
            (Type::NamedTuple(named), Value::NamedTuple(_, items) | Value::Tuple(items)) => {
                match self.cast_all(items, named.fields.iter().map(|(_, ty)| ty))? {
                    Ok(items) => IValue::Tuple(items.into()),
                    Err(why) => return Ok(Err(why)),
                }
            }
            (Type::Enum(named), Value::Enum(class, _, inner)) if named.name == *class => {
                match self.cast(inner, &named.value)? {
                    Ok(inner) => IValue::Enum { class: Arc::clone(class), value: Arc::new(inner) },
                    Err(why) => return Ok(Err(why)),
                }
            }
            (Type::Class(_) | Type::Interface(_), Value::Ref(at)) if self.is_module(value) => {
                IValue::Object(self.concrete_object(*at)?)
            }
            (Type::Class(class), Value::Ref(at)) => {
                let Cell::Instance(instance) = self.heap[*at].clone() else { return refuse(self) };
                if let Some(known) = self.known_object(*at) {
                    return Ok(Ok(IValue::Object(known)));
                }
                let attrs =
                    self.program.classes.get(class).map(|declared| declared.class.attrs.clone()).unwrap_or_default();
                let mut made = IndexMap::new();
                for (name, ty) in &attrs {
                    let Some(value) = instance.attrs.get(name) else {
                        return Ok(Err(format!(
                            "Tried to cast object to type {class} but object was missing attribute {name}"
                        )));
                    };
                    match self.cast(value, ty)? {
                        Ok(value) => _ = made.insert(Arc::clone(name), value),
                        Err(why) => return Ok(Err(not_cast(name, ty, &why))),
                    }
                }
                let object = Arc::new(Object { class: Arc::clone(class), attrs: made });
                self.remember(*at, &object);
                IValue::Object(object)
            }
            _ => return refuse(self),
        }))
    }

    fn cast_all<'t>(
        &mut self,
        items: &[Value],
        types: impl Iterator<Item = &'t Type>,
    ) -> Result<std::result::Result<Vec<IValue>, String>> {
        let mut made = Vec::with_capacity(items.len());
        for (item, ty) in items.iter().zip(types) {
            match self.cast(item, ty)? {
                Ok(item) => made.push(item),
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(Ok(made))
    }

    /// The value as a constant of a module: what `_get_valid_constant` takes.
    pub(crate) fn constant(&mut self, value: &Value) -> Result<Option<IValue>> {
        Ok(Some(match value {
            Value::Tuple(items) => match self.constants(items)? {
                Some(items) => IValue::Tuple(items.into()),
                None => return Ok(None),
            },
            Value::Ref(at) => match self.heap[*at].clone() {
                Cell::List(items) => match self.constants(&items)? {
                    Some(items) => IValue::Tuple(items.into()),
                    None => return Ok(None),
                },
                _ => return Ok(None),
            },
            Value::Unknown(why) => return Err(Box::new((**why).clone())),
            plain => match self.infer(plain)? {
                Ok(ty @ (Type::Bool | Type::Float | Type::Int | Type::Str | Type::None | Type::Device)) => {
                    return Ok(self.cast(plain, &ty)?.ok());
                }
                _ => return Ok(None),
            },
        }))
    }

    fn constants(&mut self, items: &[Value]) -> Result<Option<Vec<IValue>>> {
        items.iter().map(|item| self.constant(item)).collect()
    }
}

/// PyTorch's words for an attribute whose value is not of its type.
pub(crate) fn not_cast(name: &str, ty: &Type, why: &str) -> String {
    format!("Could not cast attribute '{name}' to type {}: {why}", ty.annotation())
}

/// The code of an element type, a layout or a memory format by its path.
fn dtype_of(path: &str) -> Option<i64> {
    let name = path.strip_prefix("torch.")?;
    let short = match name {
        "float" => "float32",
        "double" => "float64",
        "half" => "float16",
        "long" => "int64",
        "int" => "int32",
        "short" => "int16",
        "strided" | "contiguous_format" => return Some(0),
        "sparse_coo" | "preserve_format" => return Some(1),
        "channels_last" => return Some(2),
        other => other,
    };
    DType::from_python_name(short).map(DType::code)
}

/// The Python class of a value as PyTorch's messages name it: with its module, unless that is `builtins`.
pub(crate) fn python_class(value: &Value, this: &Interpreter<'_, '_>) -> String {
    let name = value::type_name(value, &this.heap);
    match value {
        Value::Ref(at) => match &this.heap[*at] {
            Cell::Instance(instance) => {
                let module = instance.class.rsplit_once('.').map_or("", |(module, _)| module);
                let module = module.strip_prefix("__torch__").unwrap_or(module).trim_start_matches('.');
                let module = if module.is_empty() { "__main__" } else { module };
                format!("{module}.{}", plain_name(&instance.class))
            }
            Cell::Tensor(_) => format!("torch.{name}"),
            _ => name,
        },
        Value::NamedTuple(..) | Value::Enum(..) => format!("__main__.{name}"),
        _ => name,
    }
}
