//! Calls: operators by overload, functions, methods, constructors and the special forms.
//!
//! An operator's overload is chosen in three rounds: exact scalar types, then subtypes, then implicit conversions. In
//! each round the overloads are tried in their order and the first that fits is taken. Nothing is emitted for an
//! overload that does not fit: matching makes a plan, and only the chosen plan becomes nodes.

use super::classes;
use super::expr::Sugared;
use super::function::Emitter;
use super::names::{Item, Param, Signature};
use super::ssa::{Binding, V};
use super::typing::{Bindings, bind, has_vars, is_subtype, substitute};
use crate::diag::Result;
use crate::ir::{Attr, OpName};
use crate::ops::schema::{self, Schema};
use crate::syntax::ast::{self, Expr, ExprKind, StmtId, StmtKind, TextRange};
use crate::types::{IValue, NamedTupleType, Type};
use indexmap::IndexSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// How freely arguments are fitted to parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Round {
    Exact,
    Subtype,
    Convert,
}

/// Where an argument of the node comes from.
enum Slot {
    /// A given value, made to fit this type.
    Given(V, Type),
    /// One scalar for a whole list of this length.
    Spread(V, Type, usize),
    /// Several positional arguments as one list.
    Gathered(Vec<V>, Type),
    /// The default.
    Default(IValue, Type),
}

/// A schema that fits, with its arguments.
struct Plan {
    schema: &'static Schema,
    slots: Vec<Slot>,
    rest: Vec<V>,
    returns: Vec<Type>,
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
                    return Ok(Sugared::Value(self.constant(IValue::Device(text), Type::Device, range)));
                }
                self.builtin(&name, positional, named, range)
            }
            Sugared::Operator(name) => {
                let (positional, named) = self.arguments(args)?;
                self.builtin(&name, positional, named, range)
            }
            Sugared::Method(object, name) if &*name == "tolist" && matches!(object.ty, Type::Tensor(_)) => {
                let Some(ty) = hint else {
                    return Err(self.error(range, "Expected type hint for result of tolist()"));
                };
                self.emit_tolist(&object, ty, range)
            }
            Sugared::Method(object, name) => {
                let (positional, named) = self.arguments(args)?;
                self.call_method(&object, &name, positional, named, range)
            }
            Sugared::Form(form) => self.form(form, args, range),
            Sugared::New(ty) => Ok(Sugared::Value(self.prim("prim::CreateObject", &[], ty, range))),
            Sugared::Item(Item::Function(name)) => {
                let (positional, named) = self.arguments(args)?;
                self.call_function(&name, positional, named, range)
            }
            Sugared::Item(Item::NamedTuple(named_tuple)) => {
                let (positional, named) = self.arguments(args)?;
                self.named_tuple(&named_tuple, positional, named, range)
            }
            Sugared::Item(Item::Class(ty)) => {
                let (positional, named) = self.arguments(args)?;
                let object = self.prim("prim::CreateObject", &[], ty, range);
                self.call_method(&object, &"__init__".into(), positional, named, range)?;
                Ok(Sugared::Value(object))
            }
            Sugared::Value(object) if matches!(object.ty, Type::Class(_)) => {
                let (positional, named) = self.arguments(args)?;
                let class = if let Type::Class(class) = &object.ty { Arc::clone(class) } else { "".into() };
                let has_call = self.program.classes.get(&class).is_some_and(|c| c.methods.contains_key("__call__"));
                let method = if has_call { "__call__" } else { "forward" };
                self.call_method(&object, &method.into(), positional, named, range)
            }
            Sugared::Value(value) => Err(self.error(range, format!("'{}' object is not callable", value.ty))),
            Sugared::Namespace(name) => {
                Err(self.error(range, format!("Unknown type name '{name}'")).note("cannot call a Class Namespace"))
            }
            Sugared::Multi(..) | Sugared::Builtins(_) | Sugared::Constants | Sugared::Closure(_) => {
                Err(self.error(range, "cannot call a value of this kind"))
            }
            Sugared::Item(Item::Enum(ty)) => Err(self.error(range, format!("cannot call the enum '{}'", ty.name))),
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
            Type::Complex => 2,
            Type::Bool => 3,
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

    fn form(&mut self, form: &'static str, args: &[ast::Arg], range: TextRange) -> Result<Sugared> {
        let file = Arc::clone(&self.file);
        let arg = |at: usize| args.get(at).map(|arg| &arg.value);
        let need = |e: &Self, at: usize| {
            arg(at).ok_or_else(|| {
                e.error(range, format!("{form} expected at least {} arguments but found {}", at + 1, args.len()))
            })
        };
        Ok(match form {
            "annotate" => {
                let ty = self.program.ty(need(self, 0)?, &file)?;
                let expr = need(self, 1)?;
                let made = self.expr_sugar(expr, Some(&ty))?;
                let made = self.value_of(made, expr.range)?;
                let made = self.convert(made, &ty, true, range).map_err(|v| {
                    self.error(range, format!("expected an expression of type {ty} but found {}", v.ty))
                })?;
                Sugared::Value(V { id: made.id, ty })
            }
            "unchecked_cast" => {
                let ty = self.program.ty(need(self, 0)?, &file)?;
                let value = self.expr(need(self, 1)?)?;
                Sugared::Value(self.prim("prim::unchecked_cast", &[&value], ty, range))
            }
            "uninitialized" => {
                let ty = self.program.ty(need(self, 0)?, &file)?;
                Sugared::Value(self.uninitialized(&ty, range))
            }
            "_unwrap_optional" => {
                let value = self.expr(need(self, 0)?)?;
                self.builtin("aten::_unwrap_optional", vec![value], Vec::new(), range)?
            }
            "fork" => self.fork(need(self, 0)?, range)?,
            "isinstance" | "hasattr" => {
                let call = Expr {
                    kind: ExprKind::Call {
                        callee: Box::new(Expr { kind: ExprKind::Name(form.into()), range }),
                        args: args.to_vec(),
                    },
                    range,
                };
                Sugared::Value(self.condition_value(&call)?)
            }
            "getattr" => {
                let object = self.expr_sugar(need(self, 0)?, None)?;
                let ExprKind::Str(name) = &need(self, 1)?.kind else {
                    return Err(self.error(range, "getattr's second argument must be a string literal"));
                };
                self.attribute(object, &classes::string(name), range)?
            }
            "is_scripting" => Sugared::Value(self.constant(IValue::Bool(true), Type::Bool, range)),
            "tuple" => {
                let value = self.expr(need(self, 0)?)?;
                match &value.ty {
                    Type::Tuple(_) => Sugared::Value(value),
                    ty => return Err(self.error(range, format!("cannot make a tuple of a value of type {ty}"))),
                }
            }
            "range" | "enumerate" | "zip" => {
                return Err(self.unsupported(range, format!("{form} outside of a for loop")));
            }
            _ => {
                let (op, ty) = match form {
                    "int" => ("aten::Int", Type::Int),
                    "float" => ("aten::Float", Type::Float),
                    "bool" => ("aten::Bool", Type::Bool),
                    "complex" => ("aten::Complex", Type::Complex),
                    _ => ("aten::str", Type::Str),
                };
                let (positional, named) = self.arguments(args)?;
                match (positional.as_slice(), &ty) {
                    ([one], _) if one.ty == ty => Sugared::Value(one.clone()),
                    ([], Type::Str) => Sugared::Value(self.constant(IValue::Str("".into()), Type::Str, range)),
                    ([one], Type::Str | Type::Bool | Type::Int | Type::Float) if matches!(one.ty, Type::Class(_)) => {
                        let one = one.clone();
                        self.call_method(&one, &format!("__{form}__").into(), Vec::new(), Vec::new(), range)?
                    }
                    ([one], Type::Bool) if !matches!(one.ty, Type::Tensor(_) | Type::Int | Type::Float) => {
                        let (one, zero) = (one.clone(), self.int(0, range));
                        let len = self.builtin_value("aten::len", vec![one], range)?;
                        self.builtin("aten::gt", vec![len, zero], Vec::new(), range)?
                    }
                    _ => self.builtin(op, positional, named, range)?,
                }
            }
        })
    }

    fn fork(&mut self, target: &Expr, range: TextRange) -> Result<Sugared> {
        let target = self.expr_sugar(target, None)?;
        let Sugared::Closure(stmt) = target else {
            return Err(self.unsupported(range, "fork of anything but a nested function"));
        };
        let file = Arc::clone(&self.file);
        let StmtKind::Def(def) = &file.stmts[stmt].kind else {
            return Err(self.error(range, "fork expects a function"));
        };
        let mut names = IndexSet::new();
        read_names(&file, &def.body.stmts, &mut names);
        let mut captured = Vec::new();
        let mut sugar = Vec::new();
        for name in names {
            match self.scope.get(&name) {
                Some(Binding::Value { value, .. }) => captured.push((name, value.clone())),
                Some(Binding::Sugar(other)) => sugar.push((name, other.clone())),
                Some(Binding::Conflict(_)) | None => {}
            }
        }
        let name: Arc<str> = format!("{}.{}", self.name, def.name.text).into();
        let mut inner = Emitter::new(self.program, Arc::clone(&file), name);
        for (name, value) in &captured {
            let top = inner.graph.top;
            let id = inner.graph.add_param(top, value.ty.clone(), Some(Arc::clone(name)));
            let value = V { id, ty: value.ty.clone() };
            inner.scope.set(Arc::clone(name), Some(Binding::Value { value, is_refined: false }));
        }
        for (name, other) in sugar {
            inner.scope.set(name, Some(Binding::Sugar(other)));
        }
        let ty = inner.body(&def.body, def.head)?;
        let graph = inner.finish();
        let inputs: Vec<&V> = captured.iter().map(|(_, v)| v).collect();
        let made = self.prim_attr(
            "prim::fork",
            ("Subgraph", Attr::Graph(Arc::new(graph))),
            &inputs,
            Type::Future(Arc::new(ty)),
            range,
        );
        Ok(Sugared::Value(made))
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
        let Some(signature) = self.program.signature(name, None).map_err(|e| e.at(Some(&span)))? else {
            return Err(self.error(range, format!("undefined value {name}")));
        };
        self.program.compile_function(name, None, Some(&span)).map_err(|e| called_from(e, name, &self.name))?;
        let args = self.fit(&signature, &signature.params, positional, named, range)?;
        let result = self.program.functions.get(name).map_or(Type::None, |f| f.result.clone());
        let function = self.function_constant(name, range);
        let mut inputs = vec![&function];
        inputs.extend(&args);
        Ok(Sugared::Value(self.prim("prim::CallFunction", &inputs, result, range)))
    }

    /// The result type of a method, which is compiled; `None` if the class does not have it.
    pub(crate) fn method_result(&mut self, class: &Arc<str>, method: &str, range: TextRange) -> Result<Option<Type>> {
        if !self.program.classes.get(class).is_some_and(|c| c.methods.contains_key(method)) {
            return Ok(None);
        }
        let full: Arc<str> = format!("{class}.{method}").into();
        let (ty, span) = (Type::Class(Arc::clone(class)), self.span(range));
        self.program.compile_function(&full, Some(&ty), Some(&span)).map_err(|e| called_from(e, &full, &self.name))?;
        Ok(self.program.functions.get(&full).map(|f| f.result.clone()))
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
        let (class, is_interface) = match &object.ty {
            Type::Class(class) => (Arc::clone(class), false),
            Type::Interface(class) => (Arc::clone(class), true),
            Type::Future(_) if &**name == "wait" => {
                positional.insert(0, object.clone());
                return self.builtin("aten::wait", positional, named, range);
            }
            _ => {
                positional.insert(0, object.clone());
                return self.builtin(&format!("aten::{name}"), positional, named, range);
            }
        };
        if class.starts_with("__torch__.torch.classes.") {
            return Err(self.unsupported(range, format!("method '{name}' of the native class {class}")));
        }
        let full: Arc<str> = format!("{class}.{name}").into();
        let ty = object.ty.clone();
        let Some(signature) = self.program.signature(&full, Some(&ty))? else {
            return Err(self.error(range, format!("'{class}' object has no attribute or method '{name}'")));
        };
        let result = if is_interface {
            self.program.interface_calls.insert((class, Arc::clone(name)), ());
            signature.result.clone().unwrap_or_else(Type::tensor)
        } else {
            match self.method_result(&class, name, range)? {
                Some(result) => result,
                None => return Err(self.error(range, format!("'{class}' object has no attribute or method '{name}'"))),
            }
        };
        let args = self.fit(&signature, Self::without_self(&signature.params), positional, named, range)?;
        let mut inputs = vec![object];
        inputs.extend(&args);
        let attr = ("name", Attr::Name(Arc::clone(name)));
        Ok(Sugared::Value(self.prim_attr("prim::CallMethod", attr, &inputs, result, range)))
    }

    fn named_tuple(
        &mut self,
        ty: &Arc<NamedTupleType>,
        positional: Vec<V>,
        named: Vec<(Arc<str>, V)>,
        range: TextRange,
    ) -> Result<Sugared> {
        let params: Vec<Param> = ty
            .fields
            .iter()
            .map(|(name, ty)| Param { name: Arc::clone(name), ty: ty.clone(), default: None })
            .collect();
        let signature = Signature { file: Arc::clone(&self.file), params: Vec::new(), result: None };
        let args = self.fit(&signature, &params, positional, named, range)?;
        let inputs: Vec<&V> = args.iter().collect();
        Ok(Sugared::Value(self.prim("prim::TupleConstruct", &inputs, Type::NamedTuple(Arc::clone(ty)), range)))
    }

    /// Arguments for declared parameters, converted, with defaults filled in.
    fn fit(
        &mut self,
        signature: &Signature,
        params: &[Param],
        positional: Vec<V>,
        named: Vec<(Arc<str>, V)>,
        range: TextRange,
    ) -> Result<Vec<V>> {
        if positional.len() > params.len() {
            return Err(self.error(
                range,
                format!(
                    "Expected at most {} argument(s) but found {} positional arguments",
                    params.len(),
                    positional.len()
                ),
            ));
        }
        let mut given: Vec<Option<V>> = positional.into_iter().map(Some).collect();
        given.resize_with(params.len(), || None);
        let places: std::collections::HashMap<&str, usize> =
            params.iter().enumerate().map(|(at, param)| (&*param.name, at)).collect();
        for (name, value) in named {
            match places.get(&*name).map(|&at| &mut given[at]) {
                Some(slot @ None) => *slot = Some(value),
                Some(Some(_)) => {
                    return Err(self.error(range, format!("Argument '{name}' specified twice in schema")));
                }
                None => return Err(self.error(range, format!("Unknown keyword argument '{name}'"))),
            }
        }
        let mut args = Vec::with_capacity(params.len());
        for (param, value) in params.iter().zip(given) {
            let value = match (value, &param.default) {
                (Some(value), _) => value,
                (None, Some(default)) => {
                    let outside = std::mem::replace(&mut self.file, Arc::clone(&signature.file));
                    let value = self.default_value(default, &param.ty);
                    self.file = outside;
                    self.constant(value?, param.ty.clone(), range)
                }
                (None, None) => {
                    return Err(self.error(range, format!("Argument {} not provided.", param.name)));
                }
            };
            let fitted = self.convert(value, &param.ty, true, range).map_err(|v| {
                self.error(
                    range,
                    format!(
                        "Expected a value of type '{}' for argument '{}' but instead found type '{}'.",
                        param.ty, param.name, v.ty
                    ),
                )
            })?;
            args.push(fitted);
        }
        Ok(args)
    }

    /// A call of an operator with one result.
    pub(crate) fn builtin_value(&mut self, name: &str, args: Vec<V>, range: TextRange) -> Result<V> {
        let made = self.builtin(name, args, Vec::new(), range)?;
        self.value_of(made, range)
    }

    /// A call of the operator `ns::name`: the overload is chosen and all its arguments are filled in.
    pub(crate) fn builtin(
        &mut self,
        name: &str,
        positional: Vec<V>,
        named: Vec<(Arc<str>, V)>,
        range: TextRange,
    ) -> Result<Sugared> {
        let (positional, named) = match self.upgraded(name, positional, named, range)? {
            super::upgrade::Upgraded::Done(made) => return Ok(made),
            super::upgrade::Upgraded::Call(positional, named) => (positional, named),
        };
        let overloads = schema::overloads(name);
        if overloads.is_empty() {
            return Err(self.error(range, format!("Unknown builtin op: {name}.")));
        }
        let rounds = [Round::Exact, Round::Subtype, Round::Convert];
        for round in rounds {
            if round == Round::Convert
                && let Some(made) = self.scalar_on_the_left(name, &positional, &named, range)?
            {
                return Ok(made);
            }
            for schema in overloads {
                if let Ok(plan) = self.plan(schema, &positional, &named, round) {
                    return self.emit(plan, range);
                }
            }
        }
        if let [only] = overloads {
            let why = self.plan(only, &positional, &named, Round::Convert).err().unwrap_or_default();
            return Err(self.error(range, why).note(format!("the schema is {}", only.text)));
        }
        let mut text = "Arguments for call are not valid.\nThe following variants are available:\n".to_owned();
        for schema in overloads {
            let why = self.plan(schema, &positional, &named, Round::Convert).err().unwrap_or_default();
            let _ = write!(text, "\n  {}:\n  {why}\n", schema.text);
        }
        Err(self.error(range, text))
    }

    /// `n - x` for a number and a tensor, as PyTorch computes it.
    fn scalar_on_the_left(
        &mut self,
        name: &str,
        positional: &[V],
        named: &[(Arc<str>, V)],
        range: TextRange,
    ) -> Result<Option<Sugared>> {
        let [n, x] = positional else { return Ok(None) };
        let is_number = matches!(n.ty, Type::Int | Type::Float | Type::Complex | Type::Number);
        if !named.is_empty() || !is_number || !matches!(x.ty, Type::Tensor(_)) {
            return Ok(None);
        }
        let (n, x) = (n.clone(), x.clone());
        Ok(Some(Sugared::Value(match name {
            "aten::add" | "aten::mul" | "aten::eq" | "aten::ne" => self.builtin_value(name, vec![x, n], range)?,
            "aten::sub" => {
                let neg = self.builtin_value("aten::neg", vec![x], range)?;
                self.builtin_value("aten::add", vec![neg, n], range)?
            }
            "aten::div" => {
                let reciprocal = self.builtin_value("aten::reciprocal", vec![x], range)?;
                self.builtin_value("aten::mul", vec![reciprocal, n], range)?
            }
            "aten::lt" => self.builtin_value("aten::gt", vec![x, n], range)?,
            "aten::le" => self.builtin_value("aten::ge", vec![x, n], range)?,
            "aten::gt" => self.builtin_value("aten::lt", vec![x, n], range)?,
            "aten::ge" => self.builtin_value("aten::le", vec![x, n], range)?,
            _ => return Ok(None),
        })))
    }

    /// How the arguments fit the schema, or why they do not.
    fn plan(
        &self,
        schema: &'static Schema,
        positional: &[V],
        named: &[(Arc<str>, V)],
        round: Round,
    ) -> std::result::Result<Plan, String> {
        let mut bindings = Bindings::new();
        let (mut slots, mut next, mut n_named) = (Vec::with_capacity(schema.args.len()), 0, 0);
        for (at, arg) in schema.args.iter().enumerate() {
            let by_name = named.iter().find(|(name, _)| *name == arg.name);
            let given = if let Some((_, value)) = by_name {
                n_named += 1;
                Some(value)
            } else if !arg.kw_only && next < positional.len() {
                let is_last = schema.args.get(at + 1).is_none_or(|arg| arg.kw_only);
                if round != Round::Exact
                    && is_last
                    && !schema.is_vararg
                    && !matches!(positional[next].ty, Type::List(_) | Type::Tuple(_))
                    && let Type::List(elem) = &arg.ty
                    && !has_vars(elem)
                    && (arg.list_size.is_none() || positional.len() - next > 1)
                    && positional[next..].iter().all(|v| self.can_fit(&v.ty, elem, round))
                {
                    slots.push(Slot::Gathered(positional[next..].to_vec(), (**elem).clone()));
                    next = positional.len();
                    continue;
                }
                next += 1;
                Some(&positional[next - 1])
            } else {
                None
            };
            match (given, &arg.default) {
                (Some(value), _) => {
                    let ty = if has_vars(&arg.ty) {
                        if !bind(&arg.ty, &value.ty, &mut bindings, self.program) {
                            return Err(mismatch(&arg.ty, &arg.name, &value.ty));
                        }
                        substitute(&arg.ty, &bindings).unwrap_or_else(|| value.ty.clone())
                    } else {
                        arg.ty.clone()
                    };
                    let list = match &ty {
                        Type::Optional(inner) => inner,
                        other => other,
                    };
                    match (arg.list_size, list) {
                        (Some(n), Type::List(elem))
                            if self.can_fit(&value.ty, elem, round) && value.ty != Type::None =>
                        {
                            slots.push(Slot::Spread(value.clone(), (**elem).clone(), n));
                        }
                        _ if self.can_fit(&value.ty, &ty, round) => slots.push(Slot::Given(value.clone(), ty)),
                        _ => return Err(mismatch(&ty, &arg.name, &value.ty)),
                    }
                }
                (None, Some(default)) => slots.push(Slot::Default(default.clone(), arg.ty.clone())),
                (None, None) => return Err(format!("Argument {} not provided.", arg.name)),
            }
        }
        let rest = positional[next..].to_vec();
        if !rest.is_empty() && !schema.is_vararg {
            return Err(format!(
                "Expected at most {} arguments but found {} positional arguments.",
                schema.args.len(),
                positional.len()
            ));
        }
        if n_named < named.len() {
            let unknown = named.iter().find(|(name, _)| schema.arg_index(name).is_none());
            return Err(match unknown {
                Some((name, _)) => format!("Unknown keyword argument '{name}'."),
                None => "an argument is given twice.".to_owned(),
            });
        }
        let returns = schema.returns.iter().map(|r| substitute(&r.ty, &bindings)).collect::<Option<Vec<_>>>();
        let returns = returns.ok_or("the result's type is not determined by the arguments.")?;
        Ok(Plan { schema, slots, rest, returns })
    }

    /// Whether a value of type `have` can be passed for `want` in this round.
    fn can_fit(&self, have: &Type, want: &Type, round: Round) -> bool {
        if round == Round::Exact && (*want == Type::Number || *want == Type::Any) {
            return have == want;
        }
        if let (Type::Var(name), Type::Enum(_)) = (want, have)
            && &**name == "AnyEnumType"
        {
            return true;
        }
        if is_subtype(have, want, self.program) {
            return true;
        }
        match (have, want) {
            (Type::Optional(_), Type::Optional(_)) => false,
            (_, Type::Optional(inner)) => self.can_fit(have, inner, round),
            (Type::Tuple(items), Type::List(elem)) => items.iter().all(|item| self.can_fit(item, elem, round)),
            (Type::Tuple(a), Type::Tuple(b)) if a.len() == b.len() => {
                a.iter().zip(b.iter()).all(|(a, b)| self.can_fit(a, b, round))
            }
            _ if round != Round::Convert => false,
            (Type::Tensor(_), Type::Int | Type::Float | Type::Complex | Type::Number) => true,
            (Type::Number, Type::Int | Type::Float | Type::Complex) => true,
            (Type::Bool, Type::Int | Type::Number) => true,
            (Type::Str, Type::Device) => true,
            _ => false,
        }
    }

    /// The value as one of type `want`, by implicit conversion if need be; gives it back if it cannot be one.
    pub(crate) fn convert(
        &mut self,
        value: V,
        want: &Type,
        may_convert: bool,
        range: TextRange,
    ) -> std::result::Result<V, V> {
        if is_subtype(&value.ty, want, self.program) {
            return Ok(value);
        }
        let round = if may_convert { Round::Convert } else { Round::Subtype };
        if !self.can_fit(&value.ty, want, round) {
            return Err(value);
        }
        let (op, overload, ty) = match (&value.ty, want) {
            (_, Type::Optional(inner)) => return self.convert(value, inner, may_convert, range),
            (Type::Tuple(items), Type::List(_) | Type::Tuple(_)) => {
                let n = items.len();
                let Ok(items) = self.unpack(Sugared::Value(value.clone()), n, false, range) else { return Err(value) };
                let wanted: Vec<Type> = match want {
                    Type::List(elem) => vec![(**elem).clone(); n],
                    Type::Tuple(types) => types.to_vec(),
                    _ => return Err(value),
                };
                let mut made = Vec::with_capacity(n);
                for (item, ty) in items.into_iter().zip(wanted) {
                    made.push(self.convert(item, &ty, may_convert, range)?);
                }
                let kind = if matches!(want, Type::List(_)) { "prim::ListConstruct" } else { "prim::TupleConstruct" };
                let inputs: Vec<&V> = made.iter().collect();
                return Ok(self.prim(kind, &inputs, want.clone(), range));
            }
            (Type::Tensor(_), Type::Int) => ("aten::IntImplicit", "", Type::Int),
            (Type::Tensor(_), Type::Float) => ("aten::FloatImplicit", "", Type::Float),
            (Type::Tensor(_), Type::Complex) => ("aten::ComplexImplicit", "", Type::Complex),
            (Type::Tensor(_), Type::Number) => ("aten::ScalarImplicit", "", Type::Number),
            (Type::Number, Type::Int) => ("aten::Int", "Scalar", Type::Int),
            (Type::Number, Type::Float) => ("aten::Float", "Scalar", Type::Float),
            (Type::Number, Type::Complex) => ("aten::Complex", "Scalar", Type::Complex),
            (Type::Bool, Type::Int | Type::Number) => ("aten::Int", "bool", Type::Int),
            (Type::Str, Type::Device) => {
                if let Some(IValue::Str(text)) = self.known(&value) {
                    return Ok(self.constant(IValue::Device(text), Type::Device, range));
                }
                ("aten::device", "", Type::Device)
            }
            _ => return Ok(value),
        };
        let node = self.node(OpName::with_overload(op, overload), vec![value.id], std::slice::from_ref(&ty), range);
        Ok(V { id: self.graph.nodes[node].outputs[0], ty })
    }

    fn emit(&mut self, plan: Plan, range: TextRange) -> Result<Sugared> {
        let mut inputs = Vec::with_capacity(plan.slots.len());
        for slot in plan.slots {
            let refuse = |e: &Self, v: V| e.error(range, format!("cannot convert a value of type {}", v.ty));
            inputs.push(match slot {
                Slot::Given(value, ty) => self.convert(value, &ty, true, range).map_err(|v| refuse(self, v))?.id,
                Slot::Spread(value, elem, n) => {
                    let value = self.convert(value, &elem, true, range).map_err(|v| refuse(self, v))?;
                    self.prim("prim::ListConstruct", &vec![&value; n], Type::list(elem), range).id
                }
                Slot::Gathered(values, elem) => {
                    let convert = |e: &mut Self, v: V| e.convert(v, &elem, true, range).map_err(|v| refuse(e, v));
                    let values = values.into_iter().map(|v| convert(self, v)).collect::<Result<Vec<_>>>()?;
                    let items: Vec<&V> = values.iter().collect();
                    self.prim("prim::ListConstruct", &items, Type::list(elem.clone()), range).id
                }
                Slot::Default(value, ty) => {
                    let ty = match (&value, ty) {
                        (IValue::List(..), Type::Optional(list)) => (*list).clone(),
                        (IValue::List(..), list) => list,
                        _ => classes::type_of(&value),
                    };
                    self.constant(value, ty, range).id
                }
            });
        }
        inputs.extend(plan.rest.iter().map(|v| v.id));
        if plan.schema.is_varret {
            return Err(self.unsupported(range, format!("{} by this name", plan.schema.name)));
        }
        let node = self.node(plan.schema.name.clone(), inputs, &plan.returns, range);
        let outputs = self.graph.nodes[node].outputs.clone();
        let values: Vec<V> = outputs.into_iter().zip(plan.returns).map(|(id, ty)| V { id, ty }).collect();
        if let [value] = values.as_slice() {
            return Ok(Sugared::Value(value.clone()));
        }
        let names = plan.schema.returns.iter().map(|r| Arc::clone(&r.name)).collect();
        Ok(Sugared::Multi(values, names))
    }
}

fn mismatch(want: &Type, name: &str, have: &Type) -> String {
    format!("Expected a value of type '{want}' for argument '{name}' but instead found type '{have}'.")
}

/// Says who needed the function that failed.
fn called_from(
    error: Box<crate::diag::Diagnostic>,
    callee: &Arc<str>,
    caller: &Arc<str>,
) -> Box<crate::diag::Diagnostic> {
    const MAX_NOTES: usize = 8;
    if error.notes.len() >= MAX_NOTES {
        return error;
    }
    error.note(format!("'{callee}' is being compiled since it was called from '{caller}'"))
}

/// Adds every name that the statements read.
fn read_names(file: &ast::File, body: &[StmtId], out: &mut IndexSet<Arc<str>>) {
    for &id in body {
        // Names are taken from the text, which is more than is read but never less.
        let stmt = &file.stmts[id];
        let mut exprs: Vec<&Expr> = Vec::new();
        match &stmt.kind {
            StmtKind::Expr(e) => exprs.push(e),
            StmtKind::Assign { targets, value } => {
                exprs.extend(targets);
                exprs.push(value);
            }
            StmtKind::AnnAssign { target, value, .. } => {
                exprs.push(target);
                exprs.extend(value);
            }
            StmtKind::AugAssign { target, value, .. } => exprs.extend([target, value]),
            StmtKind::If { cond, then, orelse } => {
                exprs.push(cond);
                read_names(file, &then.stmts, out);
                read_names(file, &orelse.stmts, out);
            }
            StmtKind::For { iter, body, .. } => {
                exprs.push(iter);
                read_names(file, &body.stmts, out);
            }
            StmtKind::While { cond, body, .. } => {
                exprs.push(cond);
                read_names(file, &body.stmts, out);
            }
            StmtKind::With { items, body } => {
                exprs.extend(items.iter().map(|item| &item.context));
                read_names(file, &body.stmts, out);
            }
            StmtKind::Return(value) => exprs.extend(value),
            StmtKind::Raise { error, .. } => exprs.extend(error),
            StmtKind::Assert { cond, message } => {
                exprs.push(cond);
                exprs.extend(message);
            }
            StmtKind::Delete(targets) => exprs.extend(targets),
            StmtKind::Def(def) => read_names(file, &def.body.stmts, out),
            StmtKind::Break
            | StmtKind::Continue
            | StmtKind::Pass
            | StmtKind::Import(_)
            | StmtKind::Class(_)
            | StmtKind::Unsupported { .. } => {}
        }
        exprs.into_iter().for_each(|e| expr_names(e, out));
    }
}

fn expr_names(expr: &Expr, out: &mut IndexSet<Arc<str>>) {
    match &expr.kind {
        ExprKind::Name(name) => _ = out.insert(Arc::clone(name)),
        ExprKind::Attribute { value, .. } | ExprKind::Starred(value) => expr_names(value, out),
        ExprKind::Subscript { value, items } => {
            expr_names(value, out);
            items.iter().for_each(|e| expr_names(e, out));
        }
        ExprKind::Slice { start, stop, step } => {
            [start, stop, step].into_iter().flatten().for_each(|e| expr_names(e, out));
        }
        ExprKind::Call { callee, args } => {
            expr_names(callee, out);
            args.iter().for_each(|arg| expr_names(&arg.value, out));
        }
        ExprKind::Tuple(items) | ExprKind::List(items) | ExprKind::Set(items) => {
            items.iter().for_each(|e| expr_names(e, out));
        }
        ExprKind::Dict(entries) => entries.iter().for_each(|(k, v)| {
            expr_names(k, out);
            expr_names(v, out);
        }),
        ExprKind::ListComp { element, generators } => {
            expr_names(element, out);
            generators.iter().for_each(|g| expr_names(&g.iter, out));
        }
        ExprKind::DictComp { key, value, generators } => {
            expr_names(key, out);
            expr_names(value, out);
            generators.iter().for_each(|g| expr_names(&g.iter, out));
        }
        ExprKind::Unary { operand, .. } => expr_names(operand, out),
        ExprKind::Binary { lhs, rhs, .. } => {
            expr_names(lhs, out);
            expr_names(rhs, out);
        }
        ExprKind::Compare { first, rest } => {
            expr_names(first, out);
            rest.iter().for_each(|(_, e)| expr_names(e, out));
        }
        ExprKind::Ternary { cond, then, orelse } => [cond, then, orelse].into_iter().for_each(|e| expr_names(e, out)),
        ExprKind::Format(pieces) => pieces.iter().for_each(|piece| {
            if let ast::FormatPiece::Value(e) = piece {
                expr_names(e, out);
            }
        }),
        ExprKind::Int(_)
        | ExprKind::Float(_)
        | ExprKind::Imaginary(_)
        | ExprKind::Str(_)
        | ExprKind::Bool(_)
        | ExprKind::None
        | ExprKind::Ellipsis
        | ExprKind::Unsupported(_) => {}
    }
}
