//! Expressions: names, literals, attributes, operators, iteration.

use super::classes;
use super::function::Emitter;
use super::names::Item;
use super::ssa::{Binding, V};
use super::stmt::Condition;
use super::typing::{is_subtype, members, unify, union};
use crate::diag::Result;
use crate::ir::{Attr, ClassKind, OpName};
use crate::syntax::ast::{self, BinaryOp, Expr, ExprKind, FormatPiece, StmtId, TextRange, UnaryOp};
use crate::types::{DType, EnumType, IValue, Type};
use std::sync::Arc;

/// What an expression means: a value, or something that only has a meaning in front of `.` or `(`.
#[derive(Clone, Debug)]
pub(crate) enum Sugared {
    /// A value.
    Value(V),
    /// The results of an operator with several (or no) results, with their field names.
    Multi(Vec<V>, Vec<Arc<str>>),
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
    /// A nested `def`.
    Closure(StmtId),
}

/// What a `for` runs over.
pub(crate) enum Iterable {
    /// `range(lo, hi, step)`.
    Range(V, V, V),
    /// A list, tensor, string or the keys of a dictionary.
    Items(V),
    /// A tuple.
    Fixed(Vec<V>),
    /// `enumerate(x, start)`.
    Enumerate(Box<Iterable>, V),
    /// `zip(a, b, ...)`.
    Zip(Vec<Iterable>),
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

/// The operator that reads a tensor's property.
fn tensor_property(name: &str) -> Option<&'static str> {
    Some(match name {
        "dtype" => "prim::dtype",
        "device" => "prim::device",
        "layout" => "prim::layout",
        "grad" => "prim::grad",
        "data" => "prim::data",
        "shape" => "aten::size",
        "ndim" => "aten::dim",
        "is_cuda" => "prim::is_cuda",
        "is_cpu" => "prim::is_cpu",
        "is_xpu" => "prim::is_xpu",
        "is_sparse" => "prim::is_sparse",
        "is_sparse_csr" => "prim::is_sparse_csr",
        "is_mkldnn" => "prim::is_mkldnn",
        "is_mps" => "prim::is_mps",
        "is_meta" => "prim::is_meta",
        "is_quantized" => "prim::is_quantized",
        "is_nested" => "prim::is_nested",
        "requires_grad" => "prim::requires_grad",
        "is_leaf" => "aten::is_leaf",
        "name" => "prim::name",
        "itemsize" => "prim::itemsize",
        "nbytes" => "prim::nbytes",
        "T" => "aten::numpy_T",
        "mT" => "aten::mT",
        "H" => "aten::matrix_H",
        "mH" => "aten::mH",
        "real" => "aten::real",
        "imag" => "aten::imag",
        _ => return None,
    })
}

impl Emitter<'_, '_> {
    /// The value of an expression.
    pub(crate) fn expr(&mut self, expr: &Expr) -> Result<V> {
        let made = self.expr_sugar(expr, None)?;
        self.value_of(made, expr.range)
    }

    /// The value, or an error if it is a function or class.
    pub(crate) fn value_of(&mut self, sugar: Sugared, range: TextRange) -> Result<V> {
        let what = match sugar {
            Sugared::Value(value) => return Ok(value),
            Sugared::Multi(mut values, _) if values.len() == 1 => return Ok(values.remove(0)),
            Sugared::Multi(values, _) if values.is_empty() => return Ok(self.none(range)),
            Sugared::Multi(values, _) => return Ok(self.tuple(values, range)),
            Sugared::Item(Item::Function(name)) => return Ok(self.function_constant(&name, range)),
            Sugared::Builtins(_) | Sugared::Namespace(_) => "a Class Namespace",
            Sugared::Constants => "the constant table",
            Sugared::Operator(_) => "builtin",
            Sugared::Item(_) | Sugared::New(_) => "class",
            Sugared::Method(..) => "method",
            Sugared::Form(_) => "special form",
            Sugared::Closure(_) => "closure",
        };
        Err(self.error(range, format!("{what} cannot be used as a value")))
    }

    /// What an expression means; `hint` is the type wanted, which decides empty lists and the like.
    pub(crate) fn expr_sugar(&mut self, expr: &Expr, hint: Option<&Type>) -> Result<Sugared> {
        let range = expr.range;
        let value = match &expr.kind {
            ExprKind::Name(name) => return self.name(name, range),
            ExprKind::Int(value) => self.int(*value, range),
            ExprKind::Float(value) => self.constant(IValue::Float(*value), Type::Float, range),
            ExprKind::Imaginary(value) => self.constant(IValue::Complex(0.0, *value), Type::Complex, range),
            ExprKind::Bool(value) => self.constant(IValue::Bool(*value), Type::Bool, range),
            ExprKind::Str(text) => self.constant(IValue::Str(classes::string(text)), Type::Str, range),
            ExprKind::None => self.none(range),
            ExprKind::Attribute { value, name } => {
                let object = self.expr_sugar(value, None)?;
                return self.attribute(object, &name.text, range);
            }
            ExprKind::Subscript { value, items } => {
                let object = self.expr(value)?;
                if let (Type::Class(class), Some(hint)) = (&object.ty, hint)
                    && self.program.classes.get(class).is_some_and(|c| c.class.kind == ClassKind::Module)
                    && let [key] = items.as_slice()
                {
                    let key = self.expr(key)?;
                    let hint = hint.clone();
                    return Ok(Sugared::Value(self.prim("prim::ModuleContainerIndex", &[&object, &key], hint, range)));
                }
                self.subscript_value(object, items, range)?
            }
            ExprKind::Call { callee, args } => return self.call(callee, args, range, hint),
            ExprKind::Tuple(items) => {
                let hints: Vec<Option<Type>> = match hint {
                    Some(Type::Tuple(types)) if types.len() == items.len() => types.iter().cloned().map(Some).collect(),
                    _ => vec![None; items.len()],
                };
                let mut values = Vec::with_capacity(items.len());
                for (item, hint) in items.iter().zip(hints) {
                    if let ExprKind::Starred(inner) = &item.kind {
                        let made = self.expr_sugar(inner, None)?;
                        let n = self.n_unpacked(&made, inner.range)?;
                        values.extend(self.unpack(made, n, false, inner.range)?);
                    } else {
                        let made = self.expr_sugar(item, hint.as_ref())?;
                        values.push(self.value_of(made, item.range)?);
                    }
                }
                self.tuple(values, range)
            }
            ExprKind::List(items) => self.list(items, hint, range)?,
            ExprKind::Dict(entries) => self.dict(entries, hint, range)?,
            ExprKind::ListComp { element, generators } => {
                let [generator] = generators.as_slice() else {
                    return Err(self.error(range, "Only a single generator is supported in a list comprehension"));
                };
                self.comprehension(generator, range, Self::expr, element, hint)?
            }
            ExprKind::DictComp { .. } => return Err(self.unsupported(range, "dict comprehension in archived code")),
            ExprKind::Unary { op, operand } => self.unary(*op, operand, range)?,
            ExprKind::Binary { op: BinaryOp::And | BinaryOp::Or | BinaryOp::Is | BinaryOp::IsNot, .. } => {
                let condition = self.condition(expr)?;
                self.condition_as_value(condition, range)
            }
            ExprKind::Binary { op, lhs, rhs } => {
                let (lhs, rhs) = (self.expr(lhs)?, self.expr(rhs)?);
                self.binary(*op, lhs, rhs, range)?
            }
            ExprKind::Compare { first, rest } => {
                let (mut lhs, mut all): (V, Option<V>) = (self.expr(first)?, None);
                for (op, rhs) in rest {
                    let rhs = self.expr(rhs)?;
                    let one = self.binary(*op, lhs, rhs.clone(), range)?;
                    all = Some(match all {
                        None => one,
                        Some(all) => self.builtin_value("aten::__and__", vec![all, one], range)?,
                    });
                    lhs = rhs;
                }
                all.ok_or_else(|| self.error(range, "a comparison without operands"))?
            }
            ExprKind::Ternary { cond, then, orelse } => self.ternary(cond, then, orelse, hint, range)?,
            ExprKind::Format(pieces) => {
                let (mut text, mut args) = (Vec::new(), Vec::new());
                for piece in pieces {
                    match piece {
                        FormatPiece::Text(bytes) => text.extend_from_slice(bytes),
                        FormatPiece::Value(value) => {
                            text.extend_from_slice(b"{}");
                            args.push(self.expr(value)?);
                        }
                    }
                }
                let text = self.constant(IValue::Str(classes::string(&text)), Type::Str, range);
                args.insert(0, text);
                self.builtin_value("aten::format", args, range)?
            }
            ExprKind::Ellipsis | ExprKind::Slice { .. } | ExprKind::Starred(_) => {
                return Err(self.error(range, "unexpected expression: it has a meaning in a subscript or call only"));
            }
            ExprKind::Set(_) => return Err(self.error(range, "Set aren't supported")),
            ExprKind::Unsupported(what) => return Err(self.error(range, format!("{what} aren't supported"))),
        };
        Ok(Sugared::Value(value))
    }

    fn name(&mut self, name: &Arc<str>, range: TextRange) -> Result<Sugared> {
        match self.scope.get(name) {
            Some(Binding::Value { value, .. }) => return Ok(Sugared::Value(value.clone())),
            Some(Binding::Sugar(sugar)) => return Ok(sugar.clone()),
            Some(Binding::Conflict(text)) => return Err(self.error(range, text.to_string())),
            None => {}
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
                (None, None) => return Err(self.error(range, format!("undefined value {name}"))),
            },
        })
    }

    /// `object.name`.
    pub(crate) fn attribute(&mut self, object: Sugared, name: &Arc<str>, range: TextRange) -> Result<Sugared> {
        match object {
            Sugared::Value(value) => self.value_attribute(value, name, range),
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
                    super::classes::check_objects(self.program, object)?;
                }
                let ty = classes::type_of(&value);
                Ok(Sugared::Value(self.constant(value, ty, range)))
            }
            Sugared::Item(Item::Enum(ty)) => Ok(Sugared::Value(self.enum_member(&ty, name, range)?)),
            Sugared::Item(Item::Class(ty)) if &**name == "__new__" => Ok(Sugared::New(ty)),
            Sugared::Item(Item::Class(Type::Class(class))) => {
                let full: Arc<str> = format!("{class}.{name}").into();
                if self.program.definition(&full)?.is_some() {
                    return Ok(Sugared::Item(Item::Function(full)));
                }
                Err(self.error(range, format!("type object '{class}' has no attribute '{name}'")))
            }
            Sugared::Form("bool" | "int" | "float" | "str") | Sugared::Item(_) | Sugared::New(_) => {
                Err(self.error(range, format!("class has no attribute '{name}'")))
            }
            Sugared::Operator(_) | Sugared::Method(..) | Sugared::Form(_) | Sugared::Closure(_) => {
                Err(self.error(range, format!("attribute lookup is not defined on builtin: '{name}'")))
            }
        }
    }

    fn builtin_attribute(&mut self, module: &str, name: &Arc<str>, range: TextRange) -> Result<Sugared> {
        let float = |x: f64| (IValue::Float(x), Type::Float);
        let constant = match (module, &**name) {
            ("ops", _) => return Ok(Sugared::Builtins(format!("ops.{name}").into())),
            ("torch", "ops") => return Ok(Sugared::Builtins("ops".into())),
            ("torch", "jit" | "autograd" | "nn" | "special" | "linalg" | "fft" | "_C" | "classes") => {
                return Ok(Sugared::Builtins(format!("torch.{name}").into()));
            }
            ("torch.nn", "functional") | ("torch._C", "_nn") => return Ok(Sugared::Builtins("torch".into())),
            ("torch.jit", form_name) => {
                return match form(form_name) {
                    Some(form) => Ok(Sugared::Form(form)),
                    None if form_name == "wait" => Ok(Sugared::Operator("aten::wait".into())),
                    None => Err(self.error(range, format!("module 'torch.jit' has no attribute '{name}'"))),
                };
            }
            ("torch", "float") => Some((IValue::Int(DType::F32.code()), Type::Int)),
            ("torch", "double") => Some((IValue::Int(DType::F64.code()), Type::Int)),
            ("torch", "half") => Some((IValue::Int(DType::F16.code()), Type::Int)),
            ("torch", "long") => Some((IValue::Int(DType::I64.code()), Type::Int)),
            ("torch", "int") => Some((IValue::Int(DType::I32.code()), Type::Int)),
            ("torch", "short") => Some((IValue::Int(DType::I16.code()), Type::Int)),
            ("torch", "strided" | "contiguous_format" | "per_tensor_affine") => Some((IValue::Int(0), Type::Int)),
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
            return Err(self.error(range, format!("Enum '{}' has no member '{name}'", ty.name)));
        };
        let member = IValue::Enum { class: Arc::clone(&ty.name), value: Arc::new(value) };
        Ok(self.constant(member, Type::Enum(Arc::clone(ty)), range))
    }

    fn value_attribute(&mut self, value: V, name: &Arc<str>, range: TextRange) -> Result<Sugared> {
        match &value.ty {
            Type::Class(class) => {
                let class = Arc::clone(class);
                if let Some(declared) = self.program.classes.get(&class) {
                    if let Some(ty) = declared.class.attrs.get(name) {
                        let ty = ty.clone();
                        let made = self.prim_attr(
                            "prim::GetAttr",
                            ("name", Attr::Name(Arc::clone(name))),
                            &[&value],
                            ty,
                            range,
                        );
                        self.graph.values[made.id].name.get_or_insert_with(|| Arc::clone(name));
                        return Ok(Sugared::Value(made));
                    }
                    if let Some(constant) = declared.class.constants.get(name).cloned() {
                        let ty = classes::type_of(&constant);
                        return Ok(Sugared::Value(self.constant(constant, ty, range)));
                    }
                    let getter: Arc<str> = format!("__{name}_getter").into();
                    if declared.methods.contains_key(&getter) {
                        return self.call_method(&value, &getter, Vec::new(), Vec::new(), range);
                    }
                    if !declared.methods.contains_key(name) {
                        return Err(self.error(
                            range,
                            format!(
                                "'{class}' object has no attribute or method '{name}'. Did you forget to initialize an attribute in __init__()?"
                            ),
                        ));
                    }
                }
                Ok(Sugared::Method(value, Arc::clone(name)))
            }
            Type::NamedTuple(named) if named.fields.iter().any(|(field, _)| field == name) => {
                let at = named.fields.iter().position(|(field, _)| field == name).expect("checked by the guard");
                Ok(Sugared::Value(self.tuple_index(&value, at, range)))
            }
            Type::Enum(named) if matches!(&**name, "value" | "name") => {
                let (kind, ty) = if &**name == "value" {
                    ("prim::EnumValue", named.value.clone())
                } else {
                    ("prim::EnumName", Type::Str)
                };
                if kind == "prim::EnumName" {
                    return Ok(Sugared::Value(self.prim(kind, &[&value], ty, range)));
                }
                let overload = ty.annotation();
                let node =
                    self.node(OpName::with_overload(kind, &overload), vec![value.id], std::slice::from_ref(&ty), range);
                Ok(Sugared::Value(V { id: self.graph.nodes[node].outputs[0], ty }))
            }
            Type::Tensor(_) => match tensor_property(name) {
                Some(op) => self.builtin(op, vec![value], Vec::new(), range),
                None => self.method_of_value(value, name, range),
            },
            Type::Device if matches!(&**name, "type" | "index") => {
                self.builtin(&format!("prim::{name}"), vec![value], Vec::new(), range)
            }
            _ => self.method_of_value(value, name, range),
        }
    }

    fn method_of_value(&mut self, value: V, name: &Arc<str>, range: TextRange) -> Result<Sugared> {
        let is_known = matches!(value.ty, Type::Interface(_) | Type::Future(_))
            || &**name == "tolist"
            || !crate::ops::schema::overloads(&format!("aten::{name}")).is_empty();
        if is_known {
            return Ok(Sugared::Method(value, Arc::clone(name)));
        }
        Err(self.error(range, format!("'{}' object has no attribute or method '{name}'.", value.ty)))
    }

    /// The declared type of `object.name`, for the right side of an assignment to it.
    pub(crate) fn attribute_type(&mut self, target: &Expr) -> Result<Option<Type>> {
        let ExprKind::Attribute { value, name } = &target.kind else { return Ok(None) };
        let ExprKind::Name(object) = &value.kind else { return Ok(None) };
        let Some(Binding::Value { value, .. }) = self.scope.get(object) else { return Ok(None) };
        let Type::Class(class) = &value.ty else { return Ok(None) };
        Ok(self.program.classes.get(class).and_then(|c| c.class.attrs.get(&name.text)).cloned())
    }

    /// `object.name = value`.
    pub(crate) fn set_attribute(&mut self, object: &V, name: &Arc<str>, value: V, range: TextRange) -> Result<()> {
        let Type::Class(class) = object.ty.clone() else {
            return Err(self.error(range, format!("Tried to set an attribute: {name} on a non-class: {}", object.ty)));
        };
        let declared = self.program.classes.get(&class);
        let Some(ty) = declared.and_then(|c| c.class.attrs.get(name)).cloned() else {
            let setter: Arc<str> = format!("__{name}_setter").into();
            if declared.is_some_and(|c| c.methods.contains_key(&setter)) {
                self.call_method(object, &setter, vec![value], Vec::new(), range)?;
                return Ok(());
            }
            return Err(self.error(
                range,
                format!("Tried to set nonexistent attribute: {name}. Did you forget to initialize it in __init__()?"),
            ));
        };
        let value = self.convert(value, &ty, true, range).map_err(|v| {
            self.error(range, format!("Wrong type for attribute assignment. Expected {ty} but got {}", v.ty))
        })?;
        let node = self.node(OpName::new("prim::SetAttr"), vec![object.id, value.id], &[], range);
        self.graph.nodes[node].attrs.push(("name", Attr::Name(Arc::clone(name))));
        Ok(())
    }

    fn unary(&mut self, op: UnaryOp, operand: &Expr, range: TextRange) -> Result<V> {
        if let (UnaryOp::Neg, ExprKind::Name(name)) = (op, &operand.kind)
            && &**name == "inf"
            && self.scope.get("inf").is_none()
        {
            return Ok(self.constant(IValue::Float(f64::NEG_INFINITY), Type::Float, range));
        }
        if op == UnaryOp::Not {
            let value = self.condition_value(operand)?;
            return self.builtin_value("aten::__not__", vec![value], range);
        }
        let value = self.expr(operand)?;
        match (op, self.known(&value)) {
            (UnaryOp::Neg, Some(IValue::Int(x))) => return Ok(self.int(x.wrapping_neg(), range)),
            (UnaryOp::Neg, Some(IValue::Float(x))) => return Ok(self.constant(IValue::Float(-x), Type::Float, range)),
            (UnaryOp::Neg, Some(IValue::Complex(re, im))) => {
                return Ok(self.constant(IValue::Complex(-re, -im), Type::Complex, range));
            }
            _ => {}
        }
        match op {
            UnaryOp::Neg => self.operator("__neg__", "aten::neg", vec![value], range),
            UnaryOp::Invert => self.operator("__invert__", "aten::bitwise_not", vec![value], range),
            UnaryOp::Pos => Err(self.error(range, "unsupported unary operator: +")),
            UnaryOp::Not => unreachable!("handled above"),
        }
    }

    /// An operator with a magic method for classes.
    fn operator(&mut self, magic: &str, op: &str, mut values: Vec<V>, range: TextRange) -> Result<V> {
        if let Type::Class(class) = &values[0].ty
            && self.program.classes.get(class).is_some_and(|c| c.methods.contains_key(magic))
        {
            let object = values.remove(0);
            let made = self.call_method(&object, &magic.into(), values, Vec::new(), range)?;
            return self.value_of(made, range);
        }
        self.builtin_value(op, values, range)
    }

    /// `lhs op rhs`, except `and`, `or`.
    pub(crate) fn binary(&mut self, op: BinaryOp, lhs: V, rhs: V, range: TextRange) -> Result<V> {
        if let (BinaryOp::Add | BinaryOp::Sub, Some(re), Some(IValue::Complex(zero, im))) =
            (op, self.known(&lhs), self.known(&rhs))
            && zero == 0.0
        {
            let im = if op == BinaryOp::Sub { -im } else { im };
            let re = match re {
                IValue::Float(x) => Some(x),
                IValue::Int(x) => Some(x as f64),
                _ => None,
            };
            if let Some(re) = re {
                return Ok(self.constant(IValue::Complex(re, im), Type::Complex, range));
            }
        }
        let (magic, name) = match op {
            BinaryOp::Add => ("__add__", "aten::add"),
            BinaryOp::Sub => ("__sub__", "aten::sub"),
            BinaryOp::Mul => ("__mul__", "aten::mul"),
            BinaryOp::Div => ("__truediv__", "aten::div"),
            BinaryOp::FloorDiv if matches!(lhs.ty, Type::Tensor(_)) => ("__floordiv__", "aten::floor_divide"),
            BinaryOp::FloorDiv => ("__floordiv__", "aten::floordiv"),
            BinaryOp::Mod if lhs.ty == Type::Str => {
                let mut values = vec![lhs];
                match &rhs.ty {
                    Type::Tuple(items) => {
                        let n = items.len();
                        values.extend(self.unpack(Sugared::Value(rhs), n, false, range)?);
                    }
                    _ => values.push(rhs),
                }
                return self.builtin_value("aten::percentFormat", values, range);
            }
            BinaryOp::Mod => ("__mod__", "aten::remainder"),
            BinaryOp::Pow => ("__pow__", "aten::pow"),
            BinaryOp::MatMul => ("__matmul__", "aten::matmul"),
            BinaryOp::BitAnd => ("__and__", "aten::__and__"),
            BinaryOp::BitOr => ("__or__", "aten::__or__"),
            BinaryOp::BitXor => ("__xor__", "aten::__xor__"),
            BinaryOp::ShiftLeft => ("__lshift__", "aten::__lshift__"),
            BinaryOp::ShiftRight => ("__rshift__", "aten::__rshift__"),
            BinaryOp::Eq => ("__eq__", "aten::eq"),
            BinaryOp::Ne => ("__ne__", "aten::ne"),
            BinaryOp::Lt => ("__lt__", "aten::lt"),
            BinaryOp::Le => ("__le__", "aten::le"),
            BinaryOp::Gt => ("__gt__", "aten::gt"),
            BinaryOp::Ge => ("__ge__", "aten::ge"),
            BinaryOp::In => return self.operator("__contains__", "aten::__contains__", vec![rhs, lhs], range),
            BinaryOp::NotIn => {
                let is_in = self.operator("__contains__", "aten::__contains__", vec![rhs, lhs], range)?;
                return self.builtin_value("aten::__not__", vec![is_in], range);
            }
            BinaryOp::Is => ("", "aten::__is__"),
            BinaryOp::IsNot => ("", "aten::__isnot__"),
            BinaryOp::And | BinaryOp::Or => return Err(self.error(range, "and/or is a condition")),
        };
        self.operator(magic, name, vec![lhs, rhs], range)
    }

    fn ternary(&mut self, cond: &Expr, then: &Expr, orelse: &Expr, hint: Option<&Type>, range: TextRange) -> Result<V> {
        let condition = self.condition(cond)?;
        let value = match condition.value {
            Ok(value) => value,
            Err(truth) => {
                let live = if truth { then } else { orelse };
                let made = self.expr_sugar(live, hint)?;
                return self.value_of(made, live.range);
            }
        };
        self.select(
            &value,
            condition.then,
            condition.orelse,
            range,
            |e| {
                let made = e.expr_sugar(then, hint)?;
                e.value_of(made, then.range)
            },
            |e| {
                let made = e.expr_sugar(orelse, hint)?;
                e.value_of(made, orelse.range)
            },
        )
    }

    /// A condition's value: the truth as a constant, or the SSA value.
    fn condition_as_value(&mut self, condition: Condition, range: TextRange) -> V {
        match condition.value {
            Ok(value) => value,
            Err(truth) => self.constant(IValue::Bool(truth), Type::Bool, range),
        }
    }

    /// The value of a condition as a `bool`.
    pub(crate) fn condition_value(&mut self, expr: &Expr) -> Result<V> {
        let condition = self.condition(expr)?;
        Ok(self.condition_as_value(condition, expr.range))
    }

    /// A condition with what it says about types.
    pub(crate) fn condition(&mut self, expr: &Expr) -> Result<Condition> {
        let range = expr.range;
        match &expr.kind {
            ExprKind::Unary { op: UnaryOp::Not, operand } => {
                let inner = self.condition(operand)?;
                let value = match inner.value {
                    Ok(value) => Ok(self.builtin_value("aten::__not__", vec![value], range)?),
                    Err(truth) => Err(!truth),
                };
                Ok(Condition { value, then: inner.orelse, orelse: inner.then })
            }
            ExprKind::Binary { op: op @ (BinaryOp::Is | BinaryOp::IsNot), lhs, rhs } => {
                let (left, right) = (self.expr(lhs)?, self.expr(rhs)?);
                let is_not = *op == BinaryOp::IsNot;
                let (subject, name) = match (&left.ty, &right.ty) {
                    (_, Type::None) => (&left, lhs),
                    (Type::None, _) => (&right, rhs),
                    _ => {
                        let value = self.binary(*op, left, right, range)?;
                        return Ok(Condition { value: Ok(value), then: Vec::new(), orelse: Vec::new() });
                    }
                };
                let may_be_none = is_subtype(&Type::None, &subject.ty, self.program);
                let decided = match &subject.ty {
                    Type::None => Some(true),
                    _ if !may_be_none => Some(false),
                    _ => None,
                };
                if let Some(is_none) = decided {
                    return Ok(Condition { value: Err(is_none != is_not), then: Vec::new(), orelse: Vec::new() });
                }
                let (mut none, mut some) = (Vec::new(), Vec::new());
                if let ExprKind::Name(name) = &name.kind
                    && subject.ty != Type::Any
                {
                    let rest = members(&subject.ty).into_iter().filter(|ty| *ty != Type::None).collect();
                    none.push((Arc::clone(name), Type::None));
                    some.push((Arc::clone(name), union(rest, self.program)));
                }
                let value = self.binary(*op, left, right, range)?;
                let (then, orelse) = if is_not { (some, none) } else { (none, some) };
                Ok(Condition { value: Ok(value), then, orelse })
            }
            ExprKind::Binary { op: op @ (BinaryOp::And | BinaryOp::Or), lhs, rhs } => {
                let is_and = *op == BinaryOp::And;
                let left = self.condition(lhs)?;
                match left.value {
                    // Decided by the left side alone: the right side is not compiled.
                    Err(truth) if truth != is_and => Ok(left),
                    Err(_) => {
                        let right = self.condition(rhs)?;
                        let (mut then, mut orelse) = (left.then, left.orelse);
                        if is_and {
                            then.extend(right.then);
                            orelse.clear();
                        } else {
                            orelse.extend(right.orelse);
                            then.clear();
                        }
                        Ok(Condition { value: right.value, then, orelse })
                    }
                    Ok(value) => {
                        let mut both = Vec::new();
                        let live = |e: &mut Self, both: &mut Vec<(Arc<str>, Type)>| {
                            let right = e.condition(rhs)?;
                            both.extend(if is_and { right.then.clone() } else { right.orelse.clone() });
                            Ok(e.condition_as_value(right, rhs.range))
                        };
                        let fixed = |e: &mut Self| Ok(e.constant(IValue::Bool(!is_and), Type::Bool, range));
                        let (then, orelse) = (left.then.clone(), left.orelse.clone());
                        let value = if is_and {
                            self.select(&value, then, orelse, range, |e| live(e, &mut both), fixed)?
                        } else {
                            self.select(&value, then, orelse, range, fixed, |e| live(e, &mut both))?
                        };
                        let (mut then, mut orelse) = (left.then, left.orelse);
                        if is_and {
                            then.extend(both);
                            orelse.clear();
                        } else {
                            orelse.extend(both);
                            then.clear();
                        }
                        Ok(Condition { value: Ok(value), then, orelse })
                    }
                }
            }
            ExprKind::Call { callee, args } if matches!(&callee.kind, ExprKind::Name(name) if &**name == "isinstance" || &**name == "hasattr") =>
            {
                if args.len() == 2
                    && let ExprKind::Name(name) = &callee.kind
                {
                    return if &**name == "isinstance" {
                        self.isinstance(&args[0].value, &args[1].value, range)
                    } else {
                        let object = self.expr(&args[0].value)?;
                        let has = match (&object.ty, &args[1].value.kind) {
                            (Type::Class(class), ExprKind::Str(attr)) => {
                                let attr = classes::string(attr);
                                self.program.classes.get(class).is_some_and(|c| {
                                    c.class.attrs.contains_key(&attr)
                                        || c.class.constants.contains_key(&attr)
                                        || c.methods.contains_key(&attr)
                                })
                            }
                            (Type::NamedTuple(named), ExprKind::Str(attr)) => {
                                let attr = classes::string(attr);
                                named.fields.iter().any(|(field, _)| *field == attr)
                            }
                            _ => {
                                return Err(
                                    self.error(range, "hasattr's first argument must be an object or NamedTuple")
                                );
                            }
                        };
                        Ok(Condition { value: Err(has), then: Vec::new(), orelse: Vec::new() })
                    };
                }
                Err(self.error(range, "expected exactly two arguments"))
            }
            _ => {
                let value = self.expr(expr)?;
                let value = self.truth(value, range)?;
                Ok(Condition { value: Ok(value), then: Vec::new(), orelse: Vec::new() })
            }
        }
    }

    /// The value as a `bool`.
    fn truth(&mut self, value: V, range: TextRange) -> Result<V> {
        match &value.ty {
            Type::Bool => Ok(value),
            Type::Int | Type::Float | Type::Tensor(_) => self.builtin_value("aten::Bool", vec![value], range),
            Type::Str | Type::List(_) | Type::Dict(..) => {
                let len = self.builtin_value("aten::len", vec![value], range)?;
                let zero = self.int(0, range);
                self.builtin_value("aten::gt", vec![len, zero], range)
            }
            Type::Class(_) => self.operator("__bool__", "aten::Bool", vec![value], range),
            ty => Err(self.error(range, format!("Could not cast value of type {ty} to bool"))),
        }
    }

    fn isinstance(&mut self, subject: &Expr, types: &Expr, range: TextRange) -> Result<Condition> {
        let value = self.expr(subject)?;
        let file = Arc::clone(&self.file);
        let exprs: Vec<&Expr> = match &types.kind {
            ExprKind::Tuple(items) => items.iter().collect(),
            _ => vec![types],
        };
        let types = exprs.iter().map(|ty| self.program.ty(ty, &file)).collect::<Result<Vec<_>>>()?;
        let is_one = |ty: &Type, e: &Self| types.iter().any(|t| is_subtype(ty, t, e.program));
        let all = members(&value.ty);
        let (yes, no): (Vec<Type>, Vec<Type>) = all.into_iter().partition(|ty| is_one(ty, self));
        let is_open = value.ty == Type::Any || types.iter().any(|t| is_subtype(t, &value.ty, self.program));
        if no.is_empty() {
            return Ok(Condition { value: Err(true), then: Vec::new(), orelse: Vec::new() });
        }
        if yes.is_empty() && !is_open {
            return Ok(Condition { value: Err(false), then: Vec::new(), orelse: Vec::new() });
        }
        let made =
            self.prim_attr("prim::isinstance", ("types", Attr::Types(types.clone())), &[&value], Type::Bool, range);
        let (mut then, mut orelse) = (Vec::new(), Vec::new());
        if let ExprKind::Name(name) = &subject.kind {
            let narrow = if yes.is_empty() { types } else { yes };
            then.push((Arc::clone(name), union(narrow, self.program)));
            orelse.push((Arc::clone(name), union(no, self.program)));
        }
        Ok(Condition { value: Ok(made), then, orelse })
    }

    /// A tuple of the values.
    pub(crate) fn tuple(&mut self, values: Vec<V>, range: TextRange) -> V {
        let ty = Type::Tuple(values.iter().map(|v| v.ty.clone()).collect());
        let inputs: Vec<&V> = values.iter().collect();
        self.prim("prim::TupleConstruct", &inputs, ty, range)
    }

    fn list(&mut self, items: &[Expr], hint: Option<&Type>, range: TextRange) -> Result<V> {
        let hint = hint.and_then(|hint| match hint {
            Type::List(elem) => Some((**elem).clone()),
            Type::Optional(inner) => match &**inner {
                Type::List(elem) => Some((**elem).clone()),
                _ => None,
            },
            _ => None,
        });
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            if let ExprKind::Starred(inner) = &item.kind {
                let made = self.expr_sugar(inner, None)?;
                let n = self.n_unpacked(&made, inner.range)?;
                values.extend(self.unpack(made, n, false, inner.range)?);
            } else {
                let made = self.expr_sugar(item, hint.as_ref())?;
                values.push(self.value_of(made, item.range)?);
            }
        }
        let elem = match hint {
            Some(elem) => {
                let convert = |e: &mut Self, v: V| {
                    e.convert(v, &elem, true, range).map_err(|v| {
                        e.error(range, format!("Type hint for list was List[{elem}], but an element has type {}", v.ty))
                    })
                };
                values = values.into_iter().map(|v| convert(self, v)).collect::<Result<_>>()?;
                elem
            }
            None => self.common_type(&values),
        };
        let inputs: Vec<&V> = values.iter().collect();
        Ok(self.prim("prim::ListConstruct", &inputs, Type::list(elem), range))
    }

    /// The element type of a display; `Tensor` if it is empty.
    fn common_type(&self, values: &[V]) -> Type {
        let Some(first) = values.first() else { return Type::tensor() };
        let mut all = super::typing::unshaped(&first.ty);
        for value in &values[1..] {
            all = unify(&all, &value.ty, self.program)
                .unwrap_or_else(|| union(vec![all.clone(), value.ty.clone()], self.program));
        }
        all
    }

    fn dict(&mut self, entries: &[(Expr, Expr)], hint: Option<&Type>, range: TextRange) -> Result<V> {
        let hint = match hint {
            Some(Type::Dict(k, v)) => Some(((**k).clone(), (**v).clone())),
            _ => None,
        };
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (key, value) in entries {
            keys.push(self.expr(key)?);
            let made = self.expr_sugar(value, hint.as_ref().map(|h| &h.1))?;
            values.push(self.value_of(made, value.range)?);
        }
        let (key, value) = hint.unwrap_or_else(|| {
            let key = if keys.is_empty() { Type::Str } else { self.common_type(&keys) };
            (key, self.common_type(&values))
        });
        let mut inputs = Vec::with_capacity(keys.len() * 2);
        for (k, v) in keys.into_iter().zip(values) {
            for (item, ty) in [(k, &key), (v, &value)] {
                let item = self.convert(item, ty, true, range).map_err(|v| {
                    self.error(range, format!("Type hint for dict was {ty}, but an entry has type {}", v.ty))
                })?;
                inputs.push(item);
            }
        }
        let inputs: Vec<&V> = inputs.iter().collect();
        let ty = Type::Dict(Arc::new(key), Arc::new(value));
        Ok(self.prim("prim::DictConstruct", &inputs, ty, range))
    }

    /// How many values a starred value stands for.
    pub(crate) fn n_unpacked(&self, value: &Sugared, range: TextRange) -> Result<usize> {
        match value {
            Sugared::Multi(values, _) => Ok(values.len()),
            Sugared::Value(V { ty: Type::Tuple(items), .. }) => Ok(items.len()),
            Sugared::Value(V { ty: Type::NamedTuple(named), .. }) => Ok(named.fields.len()),
            _ => Err(self.error(range, "cannot statically infer the expected size of a list in this context")),
        }
    }

    /// The values for `n` targets (one of them starred, perhaps).
    pub(crate) fn unpack(&mut self, value: Sugared, n: usize, has_star: bool, range: TextRange) -> Result<Vec<V>> {
        let values = match value {
            Sugared::Multi(values, _) => values,
            other => {
                let value = self.value_of(other, range)?;
                let types: Vec<Type> = match &value.ty {
                    Type::Tuple(items) => items.to_vec(),
                    Type::NamedTuple(named) => named.fields.iter().map(|(_, ty)| ty.clone()).collect(),
                    Type::List(elem) if !has_star => {
                        let types = vec![(**elem).clone(); n];
                        let node = self.node(OpName::new("prim::ListUnpack"), vec![value.id], &types, range);
                        let outputs = self.graph.nodes[node].outputs.clone();
                        return Ok(outputs.into_iter().zip(types).map(|(id, ty)| V { id, ty }).collect());
                    }
                    Type::List(_) => {
                        return Err(
                            self.error(range, "cannot statically infer the expected size of a list in this context")
                        );
                    }
                    Type::Tensor(_) if !has_star => {
                        let zero = self.int(0, range);
                        let list = self.builtin_value("aten::unbind", vec![value, zero], range)?;
                        return self.unpack(Sugared::Value(list), n, false, range);
                    }
                    ty => return Err(self.error(range, format!("{ty} cannot be used as a tuple"))),
                };
                let node = self.node(OpName::new("prim::TupleUnpack"), vec![value.id], &types, range);
                let outputs = self.graph.nodes[node].outputs.clone();
                outputs.into_iter().zip(types).map(|(id, ty)| V { id, ty }).collect()
            }
        };
        let have = values.len();
        if (has_star && have + 1 < n) || (!has_star && have != n) {
            let word = if have < n { "need" } else { "too many values to unpack: need" };
            return Err(self.error(range, format!("{word} {n} values to unpack, but found {have}")));
        }
        Ok(values)
    }

    /// What a `for` runs over.
    pub(crate) fn iterable(&mut self, expr: &Expr) -> Result<Iterable> {
        if let ExprKind::Call { callee, args } = &expr.kind
            && let ExprKind::Name(name) = &callee.kind
            && self.scope.get(name).is_none()
        {
            match &**name {
                "range" => {
                    let mut values = args.iter().map(|arg| self.expr(&arg.value)).collect::<Result<Vec<_>>>()?;
                    for value in &mut values {
                        let converted = self.convert(value.clone(), &Type::Int, true, expr.range);
                        *value = converted.map_err(|v| {
                            self.error(
                                expr.range,
                                format!("Expected a value of type 'int' for range but found '{}'", v.ty),
                            )
                        })?;
                    }
                    let (zero, one) = (self.int(0, expr.range), self.int(1, expr.range));
                    let mut values = values.into_iter();
                    return match (values.next(), values.next(), values.next(), values.next()) {
                        (Some(hi), None, ..) => Ok(Iterable::Range(zero, hi, one)),
                        (Some(lo), Some(hi), step, None) => Ok(Iterable::Range(lo, hi, step.unwrap_or(one))),
                        _ => Err(self.error(expr.range, "range expects 1 to 3 arguments")),
                    };
                }
                "enumerate" => {
                    let Some(first) = args.first() else {
                        return Err(self.error(expr.range, "enumerate expects an argument"));
                    };
                    let inner = self.iterable(&first.value)?;
                    let start = match args.get(1) {
                        Some(start) => self.expr(&start.value)?,
                        None => self.int(0, expr.range),
                    };
                    return Ok(Iterable::Enumerate(Box::new(inner), start));
                }
                "zip" => {
                    let parts = args.iter().map(|arg| self.iterable(&arg.value)).collect::<Result<Vec<_>>>()?;
                    if parts.is_empty() {
                        return Err(self.error(expr.range, "zip expects at least one argument"));
                    }
                    return Ok(Iterable::Zip(parts));
                }
                _ => {}
            }
        }
        let made = self.expr_sugar(expr, None)?;
        let value = self.value_of(made, expr.range)?;
        match &value.ty {
            Type::Tuple(items) => {
                let n = items.len();
                Ok(Iterable::Fixed(self.unpack(Sugared::Value(value), n, false, expr.range)?))
            }
            Type::Dict(..) => Ok(Iterable::Items(self.builtin_value("aten::keys", vec![value], expr.range)?)),
            Type::List(_) | Type::Tensor(_) | Type::Str => Ok(Iterable::Items(value)),
            ty => Err(self.error(expr.range, format!("'{ty}' object is not iterable"))),
        }
    }

    /// The items, if their number is known from the types.
    pub(crate) fn unrolled(&mut self, items: &Iterable, range: TextRange) -> Result<Option<Vec<V>>> {
        Ok(match items {
            Iterable::Fixed(values) => Some(values.clone()),
            Iterable::Enumerate(inner, start) => match self.unrolled(inner, range)? {
                None => None,
                Some(values) => {
                    let start = match self.known(start) {
                        Some(IValue::Int(start)) => start,
                        _ => return Err(self.unsupported(range, "enumerate over a tuple from a computed start")),
                    };
                    let mut all = Vec::with_capacity(values.len());
                    for (value, at) in values.into_iter().zip(start..) {
                        let at = self.int(at, range);
                        all.push(self.tuple(vec![at, value], range));
                    }
                    Some(all)
                }
            },
            Iterable::Zip(parts) => {
                let mut columns = Vec::new();
                for part in parts {
                    match self.unrolled(part, range)? {
                        Some(values) => columns.push(values),
                        None => return Ok(None),
                    }
                }
                let n = columns.iter().map(Vec::len).min().unwrap_or(0);
                let rows = (0..n).map(|at| {
                    let row = columns.iter().map(|column| column[at].clone()).collect();
                    self.tuple(row, range)
                });
                Some(rows.collect())
            }
            Iterable::Range(..) | Iterable::Items(_) => None,
        })
    }

    /// How often the loop runs.
    pub(crate) fn iterable_len(&mut self, items: &Iterable, range: TextRange) -> Result<V> {
        match items {
            Iterable::Range(lo, hi, step) => {
                let is = |e: &Self, v: &V, n: i64| matches!(e.known(v), Some(IValue::Int(x)) if x == n);
                if is(self, lo, 0) && is(self, step, 1) {
                    return Ok(hi.clone());
                }
                let args = vec![lo.clone(), hi.clone(), step.clone()];
                self.builtin_value("aten::__range_length", args, range)
            }
            Iterable::Items(value) => self.builtin_value("aten::len", vec![value.clone()], range),
            Iterable::Fixed(values) => Ok(self.int(i64::try_from(values.len()).unwrap_or(i64::MAX), range)),
            Iterable::Enumerate(inner, _) => self.iterable_len(inner, range),
            Iterable::Zip(parts) => {
                let lens = parts.iter().map(|part| self.iterable_len(part, range)).collect::<Result<Vec<_>>>()?;
                let inputs: Vec<&V> = lens.iter().collect();
                let list = self.prim("prim::ListConstruct", &inputs, Type::list(Type::Int), range);
                self.builtin_value("prim::min", vec![list], range)
            }
        }
    }

    /// The item of iteration `index`.
    pub(crate) fn iterable_item(&mut self, items: &Iterable, index: &V, range: TextRange) -> Result<Sugared> {
        Ok(match items {
            Iterable::Range(lo, _, step) => {
                let is = |e: &Self, v: &V, n: i64| matches!(e.known(v), Some(IValue::Int(x)) if x == n);
                if is(self, lo, 0) && is(self, step, 1) {
                    return Ok(Sugared::Value(index.clone()));
                }
                let args = vec![index.clone(), lo.clone(), step.clone()];
                Sugared::Value(self.builtin_value("aten::__derive_index", args, range)?)
            }
            Iterable::Items(value) if matches!(value.ty, Type::Tensor(_)) => {
                let zero = self.int(0, range);
                Sugared::Value(self.builtin_value("aten::select", vec![value.clone(), zero, index.clone()], range)?)
            }
            Iterable::Items(value) => {
                Sugared::Value(self.builtin_value("aten::__getitem__", vec![value.clone(), index.clone()], range)?)
            }
            Iterable::Fixed(_) => {
                return Err(self.unsupported(range, "a tuple zipped with something of unknown length"));
            }
            Iterable::Enumerate(inner, start) => {
                let is_zero = matches!(self.known(start), Some(IValue::Int(0)));
                let at = if is_zero {
                    index.clone()
                } else {
                    self.builtin_value("aten::add", vec![index.clone(), start.clone()], range)?
                };
                let item = self.iterable_item(inner, index, range)?;
                let item = self.value_of(item, range)?;
                Sugared::Value(self.tuple(vec![at, item], range))
            }
            Iterable::Zip(parts) => {
                let mut row = Vec::with_capacity(parts.len());
                for part in parts {
                    let item = self.iterable_item(part, index, range)?;
                    row.push(self.value_of(item, range)?);
                }
                Sugared::Value(self.tuple(row, range))
            }
        })
    }

    /// The arguments of a call as values.
    pub(crate) fn arguments(&mut self, args: &[ast::Arg]) -> Result<(Vec<V>, Vec<(Arc<str>, V)>)> {
        let (mut positional, mut named) = (Vec::with_capacity(args.len()), Vec::new());
        for arg in args {
            match (&arg.name, &arg.value.kind) {
                (Some(name), _) => {
                    let value = self.expr(&arg.value)?;
                    named.push((Arc::clone(&name.text), value));
                }
                (None, ExprKind::Starred(inner)) => {
                    let made = self.expr_sugar(inner, None)?;
                    let n = self.n_unpacked(&made, inner.range)?;
                    positional.extend(self.unpack(made, n, false, inner.range)?);
                }
                (None, _) => positional.push(self.expr(&arg.value)?),
            }
        }
        Ok((positional, named))
    }
}
