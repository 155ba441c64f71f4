//! Operators by name: the choice of the overload, and the conversions that make arguments fit it.
//!
//! An overload is chosen in three rounds: exact scalar types, then subtypes, then implicit conversions. In each round
//! the overloads are tried in their order and the first that fits is taken. Nothing is emitted for an overload that
//! does not fit: matching makes a plan, and only the chosen plan becomes nodes.

use super::classes;
use super::function::Emitter;
use super::mismatch::{self, Unmatched};
use super::ssa::V;
use super::sugar::Sugared;
use super::typing::{Bindings, bind, has_vars, is_of_kind, is_subtype, substitute};
use super::upgrade::Upgraded;
use crate::diag::Result;
use crate::ir::OpName;
use crate::ops::schema::{self, Schema, SchemaArg};
use crate::syntax::ast::TextRange;
use crate::types::{IValue, Type};
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

/// The arguments of a call.
struct Given<'a> {
    positional: &'a [V],
    named: &'a [(Arc<str>, V)],
    /// Which of the positional ones is the object of a method, and not written as an argument.
    object_at: Option<usize>,
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

    /// What an operator makes that the compiler calls of its own accord, without a place in printed graphs.
    pub(crate) fn builtin_unplaced(
        &mut self,
        name: &str,
        args: Vec<V>,
        named: Vec<(Arc<str>, V)>,
        range: TextRange,
    ) -> Result<V> {
        let made = self.builtin(name, args, named, range)?;
        let made = self.value_of(made, range)?;
        self.hide_place(&made);
        Ok(made)
    }

    /// A call of the operator `ns::name`: the overload is chosen and all its arguments are filled in.
    pub(crate) fn builtin(
        &mut self,
        name: &str,
        positional: Vec<V>,
        named: Vec<(Arc<str>, V)>,
        range: TextRange,
    ) -> Result<Sugared> {
        self.builtin_of(name, None, positional, named, range)
    }

    /// Like [`builtin`](Self::builtin), for a method, whose object stands among the positional arguments.
    pub(crate) fn builtin_of(
        &mut self,
        name: &str,
        object_at: Option<usize>,
        positional: Vec<V>,
        named: Vec<(Arc<str>, V)>,
        range: TextRange,
    ) -> Result<Sugared> {
        let (positional, named) = match self.upgraded(name, positional, named, range)? {
            Upgraded::Done(made) => return Ok(made),
            Upgraded::Call(positional, named) => (positional, named),
        };
        if let Some(value) = self.written_out(name, &positional, &named, range)? {
            return Ok(Sugared::Value(value));
        }
        if let ("aten::sort" | "aten::sorted", Some(Type::List(item))) =
            (name, positional.first().map(|v| v.ty.clone()))
        {
            self.use_order_of(&item, range)?;
        }
        let overloads = schema::overloads(name);
        if overloads.is_empty() {
            return Err(self.error(range, format!("Unknown builtin op: {name}.")));
        }
        let given = Given { positional: &positional, named: &named, object_at };
        let rounds = [Round::Exact, Round::Subtype, Round::Convert];
        for round in rounds {
            if round == Round::Convert
                && let Some(made) = self.scalar_on_the_left(name, &positional, &named, range)?
            {
                return Ok(made);
            }
            for schema in overloads {
                if let Ok(plan) = self.plan(schema, &given, round) {
                    return self.emit(plan, range);
                }
            }
        }
        let why = |schema| self.plan(schema, &given, Round::Convert).err().unwrap_or_default();
        if let [only] = overloads {
            return Err(self.error(range, mismatch::not_the_schema(only.text, &why(only))));
        }
        let mut variants: Vec<_> = overloads.iter().map(|schema| (schema.text.to_owned(), why(schema))).collect();
        variants.extend(self.no_function(name, &positional));
        Err(self.error(range, mismatch::no_variant(&variants)))
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
    fn plan(&self, schema: &'static Schema, given: &Given<'_>, round: Round) -> std::result::Result<Plan, String> {
        let Given { positional, named, object_at } = *given;
        let mut bindings = Bindings::new();
        let (mut slots, mut next) = (Vec::with_capacity(schema.args.len()), 0);
        let mut is_used = vec![false; named.len()];
        for (at, arg) in schema.args.iter().enumerate() {
            let by_name = named.iter().position(|(name, _)| *name == arg.name);
            let value = if !arg.kw_only && next < positional.len() {
                if !schema.is_vararg
                    && object_at.is_none_or(|at| next > at)
                    && schema.args.get(at + 1).is_none_or(|arg| arg.kw_only)
                    && let Some(gathered) = self.gathered(arg, &positional[next..], round)
                {
                    slots.push(gathered?);
                    next = positional.len();
                    continue;
                }
                next += 1;
                Some(&positional[next - 1])
            } else if let Some(by_name) = by_name {
                is_used[by_name] = true;
                Some(&named[by_name].1)
            } else {
                None
            };
            slots.push(match (value, &arg.default) {
                (Some(value), _) => self.slot(arg, value, &mut bindings, round)?,
                (None, Some(default)) => Slot::Default(default.clone(), arg.ty.clone()),
                (None, None) => return Err(mismatch::not_provided(&arg.name)),
            });
        }
        let rest = positional[next..].to_vec();
        if !rest.is_empty() && !schema.is_vararg {
            let n_hidden = usize::from(object_at.is_some());
            return Err(mismatch::too_many(next.saturating_sub(n_hidden), positional.len().saturating_sub(n_hidden)));
        }
        if let Some(unused) = is_used.iter().position(|is_used| !is_used) {
            let name = &named[unused].0;
            return Err(mismatch::unused_keyword(name, schema.arg_index(name).is_some()));
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

    /// The positional arguments that are left, as the one list that the last parameter takes; `None` if they are none.
    fn gathered(&self, arg: &SchemaArg, rest: &[V], round: Round) -> Option<std::result::Result<Slot, String>> {
        let is_list = matches!(rest[0].ty, Type::List(_) | Type::Tuple(_));
        let Type::List(elem) = &arg.ty else { return None };
        if is_list || has_vars(elem) || arg.list_size.is_some() && rest.len() == 1 {
            return None;
        }
        match rest.iter().find(|v| !self.can_fit(&v.ty, elem, round)) {
            None => Some(Ok(Slot::Gathered(rest.to_vec(), (**elem).clone()))),
            Some(_) if arg.list_size.is_some() => None,
            Some(misfit) => Some(Err(self.misfit(&mismatch::repr(elem), "<varargs>", misfit))),
        }
    }

    /// A value for an argument of a schema, or why it does not fit.
    fn slot(
        &self,
        arg: &SchemaArg,
        value: &V,
        bindings: &mut Bindings,
        round: Round,
    ) -> std::result::Result<Slot, String> {
        let ty = if has_vars(&arg.ty) {
            if !bind(&arg.ty, &value.ty, bindings, self.program) {
                let why = Unmatched { bindings, classes: self.program };
                return Err(mismatch::unbound(&arg.ty, &arg.name, &self.repr(value), &value.ty, &why));
            }
            substitute(&arg.ty, bindings).unwrap_or_else(|| value.ty.clone())
        } else {
            arg.ty.clone()
        };
        let list = match &ty {
            Type::Optional(inner) => inner,
            other => other,
        };
        match (arg.list_size, list) {
            // A number of just this type stands for a whole list.
            (Some(n), Type::List(elem)) if value.ty == **elem => Ok(Slot::Spread(value.clone(), (**elem).clone(), n)),
            _ if self.can_fit(&value.ty, &ty, round) || self.is_empty_literal(value, &ty) => {
                Ok(Slot::Given(value.clone(), ty))
            }
            _ => Err(self.misfit(&mismatch::repr(&arg.ty), &arg.name, value)),
        }
    }

    /// Whether a value is `[]`, which is an empty list of any type where it is used.
    pub(crate) fn is_empty_literal(&self, value: &V, want: &Type) -> bool {
        let list = if let Type::Optional(inner) = want { inner } else { want };
        self.empty_literals.contains(&value.id) && matches!(list, Type::List(_))
    }

    /// Whether a value of type `have` can be passed for `want` in this round.
    fn can_fit(&self, have: &Type, want: &Type, round: Round) -> bool {
        if round == Round::Exact && (*want == Type::Number || *want == Type::Any) {
            return have == want;
        }
        if let Type::Var(name) = want
            && is_of_kind(have, name)
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
        self.fits(have, want, true)
    }

    /// Whether a value of one type can be passed for another, by conversion of numbers or not.
    pub(crate) fn fits(&self, have: &Type, want: &Type, may_convert: bool) -> bool {
        self.can_fit(have, want, if may_convert { Round::Convert } else { Round::Subtype })
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
        if self.is_empty_literal(&value, want) {
            let list = if let Type::Optional(inner) = want { inner } else { want };
            return Ok(self.prim("prim::ListConstruct", &[], list.clone(), range));
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
                    return Ok(self.folded(IValue::Device(text), Type::Device, range));
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
                    self.folded(value, ty, range).id
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
