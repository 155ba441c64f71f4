//! What a name, or `object.name`, means: a value, or something that only has a meaning in front of `.` or `(`.

use super::choice::Dispatch;
use super::classes;
use super::exits::is_builtin_exception;
use super::function::Emitter;
use super::library;
use super::names::Item;
use super::ssa::{Binding, V};
use crate::diag::Result;
use crate::syntax::ast::{StmtId, TextRange};
use crate::types::{DType, EnumType, IValue, Type};
use std::sync::Arc;

/// What an expression means: a value, or something that only has a meaning in front of `.` or `(`.
#[derive(Clone, Debug)]
pub(crate) enum Sugared {
    /// A value.
    Value(V),
    /// The results of an operator with several (or no) results, with their field names.
    Multi(Vec<V>, Vec<Arc<str>>),
    /// Values side by side that are no tuple yet: the item of an `enumerate` or `zip`.
    Row(Vec<Sugared>),
    /// A module of builtins: `torch`, `torch.jit`, `math`, `ops`, `ops.NS`.
    Builtins(Arc<str>),
    /// A part of a qualified name: `__torch__.a`.
    Namespace(Arc<str>),
    /// `CONSTANTS`.
    Constants,
    /// An operator: `aten::relu`.
    Operator(Arc<str>),
    /// A class, function or enumeration.
    Item(Item),
    /// `C.__new__`.
    New(Type),
    /// `value.method`.
    Method(V, Arc<str>),
    /// A form of the language: `annotate`, `isinstance`, ...
    Form(&'static str),
    /// A function that is one of two.
    Dispatch(Box<Dispatch>),
    /// A nested `def`.
    Closure(StmtId),
    /// A class of exceptions, by its qualified name.
    Exception(Arc<str>),
    /// An exception that is made but not raised yet: its message and its class.
    Raised(V, Arc<str>),
}

/// What messages call something that is no value.
pub(crate) fn kind_of(sugar: &Sugared) -> &'static str {
    match sugar {
        Sugared::Value(_) | Sugared::Multi(..) | Sugared::Row(_) => "value",
        Sugared::Builtins(_) => "module",
        Sugared::Namespace(_) => "a Class Namespace",
        Sugared::Constants => "the constant table",
        Sugared::Operator(_) => "builtin",
        Sugared::Item(Item::Function(_)) => "function",
        Sugared::Dispatch(_) => "boolean dispatch",
        Sugared::Item(Item::Enum(_)) => "EnumClass",
        Sugared::Item(Item::Class(_) | Item::NamedTuple(_)) | Sugared::New(_) => "Python type",
        Sugared::Method(object, _) if matches!(object.ty, Type::Class(_) | Type::Interface(_)) => "method",
        Sugared::Method(..) => "builtin",
        Sugared::Form(_) => "special form",
        Sugared::Closure(_) => "closure",
        Sugared::Exception(_) => "Python exception",
        Sugared::Raised(..) => "exception message",
    }
}

/// What is said of values that only Python has.
pub(crate) fn python_value(kind: &str) -> String {
    format!(
        "python value of type '{kind}' cannot be used as a value. Perhaps it is a closed over global variable? If so, please consider passing it in as an argument or use a local variable instead."
    )
}

/// The operator a Python builtin function is.
fn python_builtin(name: &str) -> Option<&'static str> {
    Some(match name {
        "print" => "prim::Print",
        "len" => "aten::len",
        "hex" => "aten::hex",
        "oct" => "aten::oct",
        "bin" => "aten::bin",
        "round" => "aten::round",
        "hash" => "aten::hash",
        "id" => "prim::id",
        "min" => "prim::min",
        "max" => "prim::max",
        "abs" => "prim::abs",
        "all" => "aten::all",
        "any" => "aten::any",
        "divmod" => "aten::divmod",
        "sum" => "aten::sum",
        "list" => "aten::list",
        "dict" => "aten::dict",
        "ord" => "aten::ord",
        "chr" => "aten::chr",
        "pow" => "aten::pow",
        "sorted" => "aten::sorted",
        "rangelist" => "prim::rangelist",
        _ => return None,
    })
}

/// The form of the language a name is.
fn form(name: &str) -> Option<&'static str> {
    const FORMS: [&str; 18] = [
        "annotate",
        "unchecked_cast",
        "uninitialized",
        "fork",
        "isinstance",
        "getattr",
        "hasattr",
        "int",
        "float",
        "bool",
        "complex",
        "str",
        "tuple",
        "range",
        "enumerate",
        "zip",
        "is_scripting",
        "_unwrap_optional",
    ];
    FORMS.into_iter().find(|form| *form == name)
}

impl Emitter<'_, '_> {
    /// The value, or an error if it is a function or class.
    pub(crate) fn value_of(&mut self, sugar: Sugared, range: TextRange) -> Result<V> {
        let kind = match sugar {
            Sugared::Value(value) => return Ok(value),
            Sugared::Multi(mut values, _) if values.len() == 1 => return Ok(values.remove(0)),
            Sugared::Multi(values, _) if values.is_empty() => return Ok(self.none(range)),
            Sugared::Multi(values, _) => return Ok(self.tuple(values, range)),
            Sugared::Row(items) => {
                let items = items.into_iter().map(|item| self.value_of(item, range)).collect::<Result<_>>()?;
                return Ok(self.tuple(items, range));
            }
            Sugared::Item(Item::Function(name)) if !self.is_text() => return Ok(self.function_constant(&name, range)),
            Sugared::Builtins(_) if self.is_text() => return Err(self.error(range, python_value("module"))),
            other => kind_of(&other),
        };
        Err(self.error(range, format!("{kind} cannot be used as a value")))
    }

    /// What a name means here.
    pub(crate) fn name(&mut self, name: &Arc<str>, range: TextRange) -> Result<Sugared> {
        match self.scope.get(name) {
            Some(Binding::Value { value, .. }) => return Ok(Sugared::Value(value.clone())),
            Some(Binding::Sugar(sugar)) => return Ok(sugar.clone()),
            Some(Binding::Conflict(text, made)) => return Err(self.conflict(text, *made, range)),
            None => {}
        }
        if let Some(meaning) = self.global(name, range)? {
            return Ok(meaning);
        }
        Ok(match &**name {
            "torch" | "math" | "ops" => Sugared::Builtins(Arc::clone(name)),
            "__torch__" => Sugared::Namespace(Arc::clone(name)),
            "CONSTANTS" => Sugared::Constants,
            "inf" => Sugared::Value(self.constant(IValue::Float(f64::INFINITY), Type::Float, range)),
            "nan" => Sugared::Value(self.constant(IValue::Float(f64::NAN), Type::Float, range)),
            "infj" => Sugared::Value(self.constant(IValue::Complex(0.0, f64::INFINITY), Type::Complex, range)),
            "nanj" => Sugared::Value(self.constant(IValue::Complex(0.0, f64::NAN), Type::Complex, range)),
            text => match (form(text), python_builtin(text)) {
                (Some(form), _) => Sugared::Form(form),
                (None, Some(op)) => Sugared::Operator(op.into()),
                (None, None) if self.is_text() && is_builtin_exception(text) => {
                    Sugared::Exception(format!("builtins.{text}").into())
                }
                (None, None) => return Err(self.error(range, format!("undefined value {name}"))),
            },
        })
    }

    /// `object.name`.
    pub(crate) fn attribute(&mut self, object: Sugared, name: &Arc<str>, range: TextRange) -> Result<Sugared> {
        match object {
            Sugared::Value(value) => self.value_attribute(value, name, range),
            row @ Sugared::Row(_) => {
                let value = self.value_of(row, range)?;
                self.value_attribute(value, name, range)
            }
            Sugared::Multi(values, names) => match names.iter().position(|field| field == name) {
                Some(at) => Ok(Sugared::Value(values[at].clone())),
                None => Err(self.error(range, format!("tuple has no attribute or method '{name}'"))),
            },
            Sugared::Builtins(module) => self.builtin_attribute(&module, name, range),
            Sugared::Namespace(path) => {
                let full = format!("{path}.{name}");
                Ok(match self.program.item(&full).map_err(|e| e.at(Some(&self.span(range))))? {
                    Some(item) => Sugared::Item(item),
                    None => Sugared::Namespace(full.into()),
                })
            }
            Sugared::Constants => {
                let value = self.stored_constant(name, range)?;
                if let IValue::Object(object) = &value {
                    classes::check_objects(self.program, object)?;
                }
                let ty = classes::type_of(&value);
                Ok(Sugared::Value(self.constant(value, ty, range)))
            }
            Sugared::Item(Item::Enum(ty)) => Ok(Sugared::Value(self.enum_member(&ty, name, range)?)),
            Sugared::Item(Item::Class(ty)) if &**name == "__new__" => Ok(Sugared::New(ty)),
            Sugared::Item(Item::Class(Type::Class(class))) => {
                let full: Arc<str> = format!("{class}.{name}").into();
                if let Some(function) = self.static_method(&class, name) {
                    return Ok(Sugared::Item(Item::Function(function)));
                }
                if self.program.definition(&full)?.is_some() {
                    return Ok(Sugared::Item(Item::Function(full)));
                }
                Err(self
                    .error(range, format!("Tried to lookup unknown attribute on class {class}"))
                    .note(format!("there is no '{name}'")))
            }
            Sugared::Form("bool" | "int" | "float" | "str") | Sugared::Item(_) | Sugared::New(_) => {
                Err(self.error(range, format!("class has no attribute '{name}'")))
            }
            Sugared::Operator(_)
            | Sugared::Method(..)
            | Sugared::Form(_)
            | Sugared::Dispatch(_)
            | Sugared::Closure(_)
            | Sugared::Exception(_)
            | Sugared::Raised(..) => {
                Err(self.error(range, format!("attribute lookup is not defined on builtin: '{name}'")))
            }
        }
    }

    fn builtin_attribute(&mut self, module: &str, name: &Arc<str>, range: TextRange) -> Result<Sugared> {
        if self.is_text() {
            let path = format!("{module}.{name}");
            if library::is_module(&path) {
                return Ok(Sugared::Builtins(path.into()));
            }
            if let Some(parsed) = self.program.library_text(module, name)?
                && let Some(meaning) = self.meaning(&parsed, name, range)?
            {
                return Ok(meaning);
            }
        }
        let float = |x: f64| (IValue::Float(x), Type::Float);
        let constant = match (module, &**name) {
            ("ops", _) => return Ok(Sugared::Builtins(format!("ops.{name}").into())),
            ("torch", "ops") => return Ok(Sugared::Builtins("ops".into())),
            ("torch", "jit" | "autograd" | "nn" | "special" | "linalg" | "fft" | "_C" | "classes") => {
                return Ok(Sugared::Builtins(format!("torch.{name}").into()));
            }
            ("torch.nn", layer) if self.is_text() && layer.starts_with(|c: char| c.is_ascii_uppercase()) => {
                return Err(self.error(range, format!("Class {layer} does not have an __init__ function defined")));
            }
            ("torch.nn", "functional") => return Ok(Sugared::Builtins("torch".into())),
            ("torch._C", "_nn" | "_VariableFunctions") | ("torch", "_VF") => {
                return Ok(Sugared::Builtins("torch._C._nn".into()));
            }
            ("torch", "backends")
            | ("torch.backends", "cudnn")
            | ("torch.nn", "modules")
            | ("torch.nn.modules", "utils") => {
                return Ok(Sugared::Builtins(format!("{module}.{name}").into()));
            }
            ("torch.backends.cudnn", "enabled") => Some((IValue::Bool(true), Type::Bool)),
            ("torch.nn.modules.utils", "_list_with_default") => {
                return Ok(Sugared::Operator("aten::list_with_default".into()));
            }
            ("torch.jit", "is_tracing") if self.is_text() => {
                let item = self.program.item(library::IS_TRACING)?;
                return item.map(Sugared::Item).ok_or_else(|| self.error(range, "undefined value is_tracing"));
            }
            ("torch.jit", form_name) => {
                return match form(form_name.strip_prefix('_').filter(|rest| *rest == "fork").unwrap_or(form_name)) {
                    Some(form) => Ok(Sugared::Form(form)),
                    None if form_name == "wait" || form_name == "_wait" => Ok(Sugared::Operator("aten::wait".into())),
                    None => Err(self.error(range, format!("module 'torch.jit' has no attribute '{name}'"))),
                };
            }
            ("torch", "float") => Some((IValue::Int(DType::F32.code()), Type::Int)),
            ("torch", "double") => Some((IValue::Int(DType::F64.code()), Type::Int)),
            ("torch", "half") => Some((IValue::Int(DType::F16.code()), Type::Int)),
            ("torch", "long") => Some((IValue::Int(DType::I64.code()), Type::Int)),
            ("torch", "int") => Some((IValue::Int(DType::I32.code()), Type::Int)),
            ("torch", "short") => Some((IValue::Int(DType::I16.code()), Type::Int)),
            ("torch", "strided" | "contiguous_format" | "legacy_contiguous_format" | "per_tensor_affine") => {
                Some((IValue::Int(0), Type::Int))
            }
            ("torch", "sparse_coo" | "preserve_format" | "per_channel_affine") => Some((IValue::Int(1), Type::Int)),
            ("torch", "channels_last") => Some((IValue::Int(2), Type::Int)),
            ("torch", "channels_last_3d") => Some((IValue::Int(3), Type::Int)),
            ("torch" | "math", "pi") => Some(float(std::f64::consts::PI)),
            ("torch" | "math", "e") => Some(float(std::f64::consts::E)),
            ("math", "tau") => Some(float(std::f64::consts::TAU)),
            ("torch" | "math", "inf") => Some(float(f64::INFINITY)),
            ("torch" | "math", "nan") => Some(float(f64::NAN)),
            ("math", "remainder") => return Ok(Sugared::Operator("aten::mathremainder".into())),
            ("torch", dtype) => DType::from_python_name(dtype).map(|dtype| (IValue::Int(dtype.code()), Type::Int)),
            _ => None,
        };
        if let Some((value, ty)) = constant {
            return Ok(Sugared::Value(self.constant(value, ty, range)));
        }
        if self.is_text() && matches!(module, "math" | "ops.aten" | "ops.prim") {
            let space = module.strip_prefix("ops.").unwrap_or("aten");
            if crate::ops::schema::overloads(&format!("{space}::{name}")).is_empty() {
                return Err(self.error(range, format!("object has no attribute {name}")));
            }
        }
        let space = module.strip_prefix("ops.");
        Ok(Sugared::Operator(match (space, module) {
            (Some(space), _) => format!("{space}::{name}").into(),
            (None, "torch.special") => format!("aten::special_{name}").into(),
            (None, "torch.linalg") => format!("aten::linalg_{name}").into(),
            (None, "torch.fft") => format!("aten::fft_{name}").into(),
            (None, _) => format!("aten::{name}").into(),
        }))
    }

    /// The member of an enumeration.
    pub(crate) fn enum_member(&mut self, ty: &Arc<EnumType>, name: &str, range: TextRange) -> Result<V> {
        let value = self.program.classes.get(&ty.name).and_then(|declared| declared.class.constants.get(name)).cloned();
        let Some(value) = value else {
            return Err(self.error(range, format!("Enum<{}>' has no attribute '{name}'", ty.name)));
        };
        let member = IValue::Enum { class: Arc::clone(&ty.name), value: Arc::new(value) };
        Ok(self.constant(member, Type::Enum(Arc::clone(ty)), range))
    }
}
