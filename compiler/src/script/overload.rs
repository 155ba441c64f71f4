//! Operators by name: the choice of the overload, and the conversions that make arguments fit it.
//!
//! An overload is chosen in three rounds: exact scalar types, then subtypes, then implicit conversions. In each round
//! the overloads are tried in their order and the first that fits is taken. Nothing is emitted for an overload that
//! does not fit: matching makes a plan, and only the chosen plan becomes nodes.

use super::classes;
use super::function::Emitter;
use super::ssa::V;
use super::sugar::Sugared;
use super::typing::{Bindings, bind, has_vars, is_subtype, substitute};
use super::upgrade::Upgraded;
use crate::diag::Result;
use crate::ir::OpName;
use crate::ops::schema::{self, Schema};
use crate::syntax::ast::TextRange;
use crate::types::{IValue, Type};
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
            Upgraded::Done(made) => return Ok(made),
            Upgraded::Call(positional, named) => (positional, named),
        };
        if let ("aten::sort" | "aten::sorted", Some(Type::List(item))) =
            (name, positional.first().map(|v| v.ty.clone()))
        {
            self.use_order_of(&item, range)?;
        }
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

    /// Sorting objects calls their class's `__lt__`.
    fn use_order_of(&mut self, item: &Type, range: TextRange) -> Result<()> {
        match item {
            Type::Class(class) => self.method_result(class, &Arc::from("__lt__"), range).map(|_| ()),
            Type::Tuple(items) => items.iter().try_for_each(|item| self.use_order_of(item, range)),
            _ => Ok(()),
        }
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
                            return Err(unbound(&arg.ty, &arg.name, &value.ty, &bindings));
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
                Some((name, _)) => format!("Keyword argument {name} unknown."),
                None => "an argument is given twice.".to_owned(),
            });
        }
        let returns = schema.returns.iter().map(|r| substitute(&r.ty, &bindings)).collect::<Option<Vec<_>>>();
        let returns = returns.ok_or_else(|| match schema.args.iter().find(|arg| has_vars(&arg.ty)) {
            Some(arg) => format!(
                "Type variables in type {} could not be inferred from actual type NoneType",
                arg.ty.annotation()
            ),
            None => "the result's type is not determined by the arguments.".to_owned(),
        })?;
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

    /// Whether a value of one type becomes one of another when it is an argument.
    pub(crate) fn is_convertible(&self, have: &Type, want: &Type) -> bool {
        self.can_fit(have, want, Round::Convert)
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
    let (want, have) = (want.annotation(), have.annotation());
    format!("Expected a value of type '{want}' for argument '{name}' but instead found type '{have}'.")
}

/// Why a value does not fit a parameter whose type has variables.
fn unbound(want: &Type, name: &str, have: &Type, bindings: &Bindings) -> String {
    let Type::Var(var) = want else { return mismatch(want, name, have) };
    let Some((_, bound)) = bindings.iter().find(|(bound, _)| bound == var) else { return mismatch(want, name, have) };
    let (have, bound) = (have.annotation(), bound.annotation());
    format!(
        "Could not match type {have} to {var} in argument '{name}': Type variable '{var}' previously matched to type {bound} is matched to type {have}."
    )
}
