//! Calls: functions, methods, constructors and whatever else can stand in front of `(`.

use super::classes;
use super::function::Emitter;
use super::mismatch;
use super::names::{Item, Param, Signature, called_from};
use super::python::{Mark, demangled};
use super::ssa::V;
use super::sugar::Sugared;
use crate::diag::{Blame, Diagnostic, Result};
use crate::ir::{Attr, ClassKind, OpName};
use crate::syntax::ast::{self, Expr, TextRange};
use crate::types::{DType, IValue, NamedTupleType, Type};
use std::sync::Arc;

/// The element type that an old constructor of tensors (`torch.FloatTensor`) makes.
fn legacy_tensor(operator: &str) -> Option<DType> {
    let name = operator.strip_prefix("aten::")?.strip_suffix("Tensor")?;
    let starts_upper = name.starts_with(|c: char| c.is_ascii_uppercase());
    cast_of(&name.to_ascii_lowercase()).filter(|_| starts_upper)
}

/// The element type that a method of tensors named like one casts to.
pub(crate) fn cast_of(name: &str) -> Option<DType> {
    Some(match name {
        "byte" => DType::U8,
        "char" => DType::I8,
        "short" => DType::I16,
        "int" => DType::I32,
        "long" => DType::I64,
        "half" => DType::F16,
        "bfloat16" => DType::BF16,
        "float" => DType::F32,
        "double" => DType::F64,
        "cfloat" => DType::C64,
        "cdouble" => DType::C128,
        "bool" => DType::Bool,
        _ => return None,
    })
}

impl Emitter<'_, '_> {
    /// `callee(args)`.
    pub(crate) fn call(
        &mut self,
        callee: &Expr,
        args: &[ast::Arg],
        range: TextRange,
        hint: Option<&Type>,
    ) -> Result<Sugared> {
        match self.expr_sugar(callee, None)? {
            Sugared::Operator(name) if &*name == "aten::device" => {
                let (positional, named) = self.arguments(args)?;
                if let ([one], true) = (positional.as_slice(), named.is_empty())
                    && let Some(IValue::Str(text)) = self.known(one)
                {
                    return Ok(Sugared::Value(self.folded(IValue::Device(text), Type::Device, range)));
                }
                self.builtin(&name, positional, named, range)
            }
            Sugared::Method(object, name) if &*name == "tolist" && matches!(object.ty, Type::Tensor(_)) => {
                let Some(ty) = hint else {
                    return Err(self.error(range, "Expected type hint for result of tolist()"));
                };
                self.emit_tolist(&object, ty, range)
            }
            Sugared::Item(Item::Class(Type::Class(class))) if self.program.ignored.contains(&class) => {
                let short = class.rsplit('.').next().unwrap_or(&class);
                Err(self.error(callee.range, format!("Cannot instantiate class '{short}' in a script function")))
            }
            Sugared::Operator(name) if self.is_text() && legacy_tensor(&name).is_some() => {
                let (positional, mut named) = self.arguments(args)?;
                if let Some((unknown, _)) = named.iter().find(|(name, _)| &**name != "device") {
                    let text = format!(
                        "Legacy Tensor Constructor only supports two schemas in TorchScript: \n'new(IntArrayRef size, *, Device? device=None)',\n'new(PyObject* data, *, Device? device=None)\n'Got kwarg {unknown}"
                    );
                    return Err(self.error(range, text));
                }
                let code = legacy_tensor(&name).map_or(0, DType::code);
                named.push(("dtype".into(), self.constant(IValue::Int(code), Type::Int, range)));
                self.builtin("aten::tensor", positional, named, range)
            }
            Sugared::Operator(name) if matches!(&*name, "aten::list" | "aten::dict") && self.is_text() => {
                let made = if &*name == "aten::list" {
                    self.list_call(args, range, hint)?
                } else {
                    self.dict_call(args, range, hint)?
                };
                match made {
                    Some(value) => Ok(Sugared::Value(value)),
                    None => {
                        let (positional, named) = self.arguments(args)?;
                        self.builtin(&name, positional, named, range)
                    }
                }
            }
            Sugared::Form(form) => self.form(form, args, range),
            // Its argument is the class itself.
            Sugared::New(ty) => Ok(Sugared::Value(self.prim("prim::CreateObject", &[], ty, range))),
            callee => {
                let (positional, named) = self.arguments(args)?;
                self.call_values(callee, positional, named, range)
            }
        }
    }

    /// A call whose arguments are evaluated.
    pub(crate) fn call_values(
        &mut self,
        callee: Sugared,
        positional: Vec<V>,
        named: Vec<(Arc<str>, V)>,
        range: TextRange,
    ) -> Result<Sugared> {
        match callee {
            Sugared::Operator(name) => {
                // Builtin functions that classes define for themselves.
                let magic = match &*name {
                    "aten::len" => "__len__",
                    "aten::hex" => "__hex__",
                    "aten::oct" => "__oct__",
                    "aten::round" => "__round__",
                    "aten::hash" => "__hash__",
                    "prim::abs" => "__abs__",
                    _ => return self.builtin(&name, positional, named, range),
                };
                if let Some(value) = self.container_question(magic, &positional, range)? {
                    return Ok(Sugared::Value(value));
                }
                match positional.as_slice() {
                    [object] if matches!(object.ty, Type::Class(_)) && self.is_text() => {
                        self.call_method(&object.clone(), &magic.into(), Vec::new(), named, range)
                    }
                    _ => self.builtin(&name, positional, named, range),
                }
            }
            Sugared::Method(object, name) => self.call_method(&object, &name, positional, named, range),
            Sugared::Item(Item::Function(name)) => self.call_function(&name, positional, named, range),
            Sugared::Dispatch(dispatch) => {
                let variant = self.dispatched(&dispatch, &positional, &named, range)?;
                self.call_values(variant, positional, named, range)
            }
            Sugared::Exception(class) => {
                let message = self.exception_message(&class, positional, range)?;
                Ok(Sugared::Raised(message, class))
            }
            Sugared::Item(Item::NamedTuple(named_tuple)) => self.named_tuple(&named_tuple, positional, named, range),
            Sugared::Item(Item::Class(ty)) => {
                let object = self.prim("prim::CreateObject", &[], ty, range);
                self.call_method(&object, &"__init__".into(), positional, named, range)?;
                Ok(Sugared::Value(object))
            }
            Sugared::Value(object) if matches!(object.ty, Type::Class(_)) => {
                let class = if let Type::Class(class) = &object.ty { Arc::clone(class) } else { "".into() };
                let has_call = self.program.classes.get(&class).is_some_and(|c| c.methods.contains_key("__call__"));
                let method = if has_call { "__call__" } else { "forward" };
                self.call_method(&object, &method.into(), positional, named, range)
            }
            Sugared::Value(object) if matches!(object.ty, Type::Interface(_)) => {
                self.call_method(&object, &"forward".into(), positional, named, range)
            }
            Sugared::Value(value) => {
                Err(self.error(range, format!("cannot call a value of type '{}'", mismatch::repr(&value.ty))))
            }
            Sugared::Namespace(name) => {
                Err(self.error(range, format!("Unknown type name '{name}'")).note("cannot call a Class Namespace"))
            }
            Sugared::Multi(..)
            | Sugared::Row(_)
            | Sugared::Builtins(_)
            | Sugared::Constants
            | Sugared::Closure(_)
            | Sugared::New(_)
            | Sugared::Raised(..)
            | Sugared::Form(_) => Err(self.error(range, "cannot call a value of this kind")),
            Sugared::Item(Item::Enum(ty)) => {
                Err(self.error(range, "cannot call a EnumClass").note(format!("it is the enum '{}'", ty.name)))
            }
        }
    }

    fn emit_tolist(&mut self, tensor: &V, ty: &Type, range: TextRange) -> Result<Sugared> {
        let (mut depth, mut elem) = (0, ty);
        while let Type::List(inner) = elem {
            depth += 1;
            elem = inner;
        }
        let code = match elem {
            Type::Int => 0,
            Type::Float => 1,
            Type::Bool => 2,
            Type::Complex => 3,
            other => {
                return Err(self.error(
                    range,
                    format!("{other} is not one of the supported element types for tolist: int, float, complex, bool"),
                ));
            }
        };
        let (dim, code) = (self.int(depth, range), self.int(code, range));
        Ok(Sugared::Value(self.prim("prim::tolist", &[tensor, &dim, &code], ty.clone(), range)))
    }

    /// `name(args)` for a function of the archive.
    pub(crate) fn call_function(
        &mut self,
        name: &Arc<str>,
        positional: Vec<V>,
        named: Vec<(Arc<str>, V)>,
        range: TextRange,
    ) -> Result<Sugared> {
        let span = self.span(range);
        let chosen = self.overload_of_function(name, &positional, &named, range)?;
        let name = chosen.as_ref().unwrap_or(name);
        let Some(signature) = self.program.signature(name, None).map_err(|e| e.at(Some(&span)))? else {
            return Err(self.error(range, format!("undefined value {name}")));
        };
        if self.mark_of(name)? == Some(Mark::Overload) {
            return Err(self.no_implementation(name)?);
        }
        if let Some(mark @ (Mark::Unused | Mark::Ignore)) = self.mark_of(name)? {
            let callee = Callee { name, signature: &signature, result: signature.result.clone() };
            let args = self.fit(&callee, 0, positional, named, range)?;
            return Ok(self.python_call(mark, &callee, &args, range));
        }
        let result = self.compiled_result(name, None, range)?;
        let callee = Callee { name, signature: &signature, result: Some(result.clone()) };
        let args = self.fit(&callee, 0, positional, named, range)?;
        let function = self.function_constant(name, range);
        let mut inputs = vec![&function];
        inputs.extend(&args);
        Ok(Sugared::Value(self.prim("prim::CallFunction", &inputs, result, range)))
    }

    /// The error of a call of a function that is declared with overloads only.
    fn no_implementation(&mut self, name: &Arc<str>) -> Result<Box<Diagnostic>> {
        let text = format!(
            "Implementation for the function \"{name}\" is missing. Please make sure a definition is provided and defined after all overload declarations."
        );
        let definition = self.program.definition(name)?;
        let span = definition.map(|d| d.file.span(d.function().head));
        Ok(Diagnostic::user(text).at(span.as_ref()))
    }

    /// What a function's decorators make of it.
    fn mark_of(&mut self, name: &Arc<str>) -> Result<Option<Mark>> {
        let definition = self.program.definition(name)?;
        Ok(definition.map(|d| self.program.mark(&d.file, d.function())))
    }

    /// A call of a function that stays with Python. One marked as ignored is called by a node that neither runs nor can be
    /// saved; one marked as unused raises, and what it gives has the type that it declares.
    fn python_call(&mut self, mark: Mark, callee: &Callee<'_>, args: &[V], range: TextRange) -> Sugared {
        let ty = callee.result.clone().unwrap_or_else(Type::tensor);
        if mark == Mark::Ignore {
            let short: Arc<str> = callee.name.rsplit('.').next().unwrap_or(callee.name).into();
            let inputs: Vec<&V> = args.iter().collect();
            return Sugared::Value(self.prim_attr("prim::PythonOp", ("name", Attr::Name(short)), &inputs, ty, range));
        }
        let text = "This Python function is annotated to be ignored and cannot be run";
        let message = self.constant(IValue::Str(text.into()), Type::Str, range);
        let class = self.none(range);
        self.node(OpName::new("prim::RaiseException"), vec![message.id, class.id], &[], range);
        Sugared::Value(self.uninitialized(&ty, range))
    }

    /// The result type of a method, which is compiled; `None` if the class does not have it.
    pub(crate) fn method_result(&mut self, class: &Arc<str>, method: &str, range: TextRange) -> Result<Option<Type>> {
        let full: Arc<str> = format!("{class}.{method}").into();
        let is_written = self.program.classes.get(class).is_some_and(|c| c.methods.contains_key(method));
        if !is_written && !self.program.functions.get(&full).is_some_and(|function| function.is_traced) {
            return Ok(None);
        }
        self.compiled_result(&full, Some(&Type::Class(Arc::clone(class))), range).map(Some)
    }

    /// Compiles what is called and gives its result. If that fails, but the result is declared, the error is noted, and the
    /// caller is compiled for errors of its own.
    fn compiled_result(&mut self, name: &Arc<str>, self_ty: Option<&Type>, range: TextRange) -> Result<Type> {
        let span = self.span(range);
        let Err(error) = self.program.compile_function(name, self_ty, Some(&span)) else {
            return Ok(self.program.functions.get(name).map_or(Type::None, |f| f.result.clone()));
        };
        let error = called_from(error, name, &self.name);
        let declared = self.program.known_signature(name).and_then(|signature| signature.result.clone());
        match declared.filter(|_| self.program.goes_on && self.is_text() && error.blame != Blame::Internal) {
            Some(ty) => {
                self.program.report(error);
                Ok(ty)
            }
            None => Err(error),
        }
    }

    /// `object.name(args)`.
    pub(crate) fn call_method(
        &mut self,
        object: &V,
        name: &Arc<str>,
        mut positional: Vec<V>,
        named: Vec<(Arc<str>, V)>,
        range: TextRange,
    ) -> Result<Sugared> {
        if let Some(made) = self.container_method(object, name, range)? {
            return Ok(made);
        }
        let (class, is_interface) = match &object.ty {
            Type::Class(class) => (Arc::clone(class), false),
            Type::Interface(class) => (Arc::clone(class), true),
            Type::Future(_) if &**name == "wait" => {
                positional.insert(0, object.clone());
                return self.builtin("aten::wait", positional, named, range);
            }
            Type::Tensor(_) if positional.is_empty() && named.is_empty() && cast_of(name).is_some() => {
                let code = cast_of(name).map_or(0, DType::code);
                let dtype = self.constant(IValue::Int(code), Type::Int, range);
                return self.builtin("aten::to", vec![object.clone(), dtype], Vec::new(), range);
            }
            _ => {
                let op = format!("aten::{name}");
                // The object is the argument that is called `self`, which is not always the first.
                let place =
                    crate::ops::schema::overloads(&op).iter().filter_map(|schema| schema.arg_index("self")).min();
                let place = place.unwrap_or(0).min(positional.len());
                positional.insert(place, object.clone());
                return self.builtin_of(&op, Some(place), positional, named, range);
            }
        };
        if class.starts_with("__torch__.torch.classes.") {
            return Err(self.unsupported(range, format!("method '{name}' of the native class {class}")));
        }
        if let Some(function) = self.static_method(&class, name) {
            return self.call_function(&function, positional, named, range);
        }
        let chosen = self.overload_of_method(&class, name, &object.ty, &positional, &named)?;
        let name = chosen.as_ref().unwrap_or(name);
        let full: Arc<str> = format!("{class}.{name}").into();
        let ty = object.ty.clone();
        let Some(signature) = self.program.signature(&full, Some(&ty))? else {
            return Err(self.no_attribute(&object.ty, name, range));
        };
        if let Some(mark @ (Mark::Unused | Mark::Ignore)) = self.mark_of(&full)? {
            let callee = Callee { name, signature: &signature, result: signature.result.clone() };
            let args = self.fit(&callee, 1, positional, named, range)?;
            return Ok(self.python_call(mark, &callee, &args, range));
        }
        let result = if is_interface {
            self.program.interface_calls.insert((class, Arc::clone(name)), ());
            signature.result.clone().unwrap_or_else(Type::tensor)
        } else {
            match self.method_result(&class, name, range)? {
                Some(result) => result,
                None => return Err(self.no_attribute(&object.ty, name, range)),
            }
        };
        let callee = Callee { name, signature: &signature, result: Some(result.clone()) };
        let args = self.fit(&callee, 1, positional, named, range)?;
        let mut inputs = vec![object];
        inputs.extend(&args);
        let attr = ("name", Attr::Name(Arc::clone(name)));
        Ok(Sugared::Value(self.prim_attr("prim::CallMethod", attr, &inputs, result, range)))
    }

    /// The function that a static method of a module is.
    pub(crate) fn static_method(&mut self, class: &str, name: &str) -> Option<Arc<str>> {
        let declared = self.program.classes.get(class).filter(|declared| declared.class.kind == ClassKind::Module)?;
        let definition = declared.methods.get(name)?;
        if self.program.mark(&definition.file, definition.function()) != Mark::Static {
            return None;
        }
        let plain = demangled(class);
        let module = plain.rsplit_once('.').map_or(&*plain, |(module, _)| module);
        let function: Arc<str> = format!("{module}.{name}").into();
        let definition = definition.clone();
        self.program.definitions.insert(Arc::clone(&function), definition);
        Some(function)
    }

    fn named_tuple(
        &mut self,
        ty: &Arc<NamedTupleType>,
        positional: Vec<V>,
        named: Vec<(Arc<str>, V)>,
        range: TextRange,
    ) -> Result<Sugared> {
        let defaults = self.program.field_defaults.get(&ty.name).cloned().unwrap_or_default();
        let defaults = defaults.into_iter().chain(std::iter::repeat(None));
        let params: Vec<Param> = ty
            .fields
            .iter()
            .zip(defaults)
            .map(|((name, ty), default)| Param {
                name: Arc::clone(name),
                ty: ty.clone(),
                default,
                is_keyword_only: false,
                is_inferred: false,
                list_size: None,
            })
            .collect();
        let signature = Signature { file: Some(Arc::clone(&self.file)), params, result: None };
        let nothing = Some(Type::Tuple([].into()));
        let callee = Callee { name: &ty.name, signature: &signature, result: nothing };
        let args = self.fit(&callee, 0, positional, named, range)?;
        let inputs: Vec<&V> = args.iter().collect();
        Ok(Sugared::Value(self.prim("prim::TupleConstruct", &inputs, Type::NamedTuple(Arc::clone(ty)), range)))
    }

    /// Arguments for declared parameters, converted, with defaults filled in. The first `n_hidden` parameters are not written
    /// as arguments: the object of a method.
    fn fit(
        &mut self,
        callee: &Callee<'_>,
        n_hidden: usize,
        positional: Vec<V>,
        named: Vec<(Arc<str>, V)>,
        range: TextRange,
    ) -> Result<Vec<V>> {
        let signature = callee.signature;
        let refuse = |e: &Self, why: &str| {
            let text = e.program.schema_text(callee.name, signature, callee.result.as_ref());
            e.error(range, mismatch::not_the_schema(&text, why))
        };
        let n_given = positional.len() + n_hidden;
        let mut positional = positional.into_iter();
        let mut named: Vec<(Arc<str>, Option<V>)> = named.into_iter().map(|(name, v)| (name, Some(v))).collect();
        let mut args = Vec::with_capacity(signature.params.len());
        let last = signature.params.iter().rfind(|param| !param.is_keyword_only).map(|param| &param.name);
        for param in signature.params.iter().skip(n_hidden) {
            let by_place = if param.is_keyword_only { None } else { positional.next() };
            let by_place_at = by_place.as_ref().map(|_| last == Some(&param.name));
            let by_name = |named: &mut Vec<(Arc<str>, Option<V>)>| {
                named.iter_mut().find(|(name, _)| *name == param.name).and_then(|(_, value)| value.take())
            };
            let value = match (by_place.or_else(|| by_name(&mut named)), &param.default) {
                (Some(value), _) => value,
                (None, Some(default)) => {
                    let file = signature.file.clone().unwrap_or_else(|| Arc::clone(&self.file));
                    let outside = std::mem::replace(&mut self.file, file);
                    let value = self.default_value(default, &param.ty);
                    self.file = outside;
                    // As if it had been written: `None` has a type of its own, and one value may stand for a list.
                    let value = value?;
                    let own = classes::type_of(&value);
                    let ty = if own == Type::None || param.is_spread(&own) { own } else { param.ty.clone() };
                    self.constant(value, ty, range)
                }
                (None, None) => return Err(refuse(self, &mismatch::not_provided(&param.name))),
            };
            if by_place_at.is_some_and(|rest| rest) && self.gathers(param, &value) {
                let Type::List(elem) = &param.ty else { unreachable!("only lists gather") };
                let mut items = Vec::new();
                for v in std::iter::once(value).chain(positional.by_ref()) {
                    let item = self.convert(v, elem, true, range);
                    items.push(item.map_err(|v| refuse(self, &self.misfit(&mismatch::repr(elem), "<varargs>", &v)))?);
                }
                let items: Vec<&V> = items.iter().collect();
                args.push(self.prim("prim::ListConstruct", &items, param.ty.clone(), range));
                continue;
            }
            if param.is_spread(&value.ty) {
                let items = vec![&value; param.list_size.unwrap_or(1)];
                args.push(self.prim("prim::ListConstruct", &items, Type::list(value.ty.clone()), range));
                continue;
            }
            let fitted = self.convert(value, &param.ty, true, range).map_err(|v| {
                let want = if param.is_inferred { "Tensor (inferred)".to_owned() } else { mismatch::repr(&param.ty) };
                let mut why = self.misfit(&want, &param.name, &v);
                if let Some(more) = self.program.why_not_of(&v.ty, &param.ty) {
                    why.push('\n');
                    why.push_str(&more);
                }
                refuse(self, &why)
            })?;
            args.push(fitted);
        }
        if positional.next().is_some() {
            let n_taken = signature.params.iter().filter(|param| !param.is_keyword_only).count();
            return Err(refuse(self, &mismatch::too_many(n_taken, n_given)));
        }
        if let Some((name, _)) = named.iter().find(|(_, value)| value.is_some()) {
            let is_parameter = signature.params.iter().any(|param| param.name == *name);
            return Err(refuse(self, &mismatch::unused_keyword(name, is_parameter)));
        }
        Ok(args)
    }
}

impl Emitter<'_, '_> {
    /// Whether the last parameter takes all arguments that are left as one list.
    fn gathers(&self, param: &Param, value: &V) -> bool {
        let is_list = matches!(value.ty, Type::List(_));
        self.is_text()
            && matches!(param.ty, Type::List(_))
            && param.list_size.is_none()
            && !is_list
            && !self.fits(&value.ty, &param.ty, true)
    }

    /// Why a function does not take these arguments, with its schema.
    pub(crate) fn why_not(
        &mut self,
        name: &str,
        signature: &Signature,
        result: Option<Type>,
        positional: &[V],
        named: &[(Arc<str>, V)],
        range: TextRange,
    ) -> (String, String) {
        let callee = Callee { name, signature, result };
        let fitted = self.fit(&callee, 0, positional.to_vec(), named.to_vec(), range);
        let text = fitted.err().map(|error| error.message).unwrap_or_default();
        text.split_once(":\n").map(|(schema, why)| (schema.to_owned(), why.to_owned())).unwrap_or_default()
    }
}

/// What a call is checked against.
struct Callee<'a> {
    name: &'a str,
    signature: &'a Signature,
    /// The result, where it is known.
    result: Option<Type>,
}
