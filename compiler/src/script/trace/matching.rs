//! Which overload of an operator a call from Python means, and its arguments.
//!
//! Python's rules are not those of compiled code: numbers stand for tensors only for a few operators, sizes may be given
//! one by one, and a size that was taken from a tensor under trace is a tensor itself.

use super::super::construct::Ref;
use crate::ops::schema::{self, Schema};
use crate::types::{DType, IValue, Type};
use std::sync::Arc;

/// An argument.
#[derive(Clone, Debug)]
pub(crate) enum Arg {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Complex(f64, f64),
    Str(Arc<str>),
    Device(Arc<str>),
    /// A code: of an element type, a layout or a memory format.
    Code(i64),
    Tensor(Ref),
    Sequence(Vec<Arg>),
}

/// Arguments by name.
pub(crate) type NamedArgs = Vec<(Arc<str>, Arg)>;

/// What overloads ask of a tensor.
#[derive(Clone, Debug)]
pub(crate) struct TensorFacts {
    pub dtype: DType,
    pub rank: usize,
}

/// An argument of the chosen overload.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    /// As it was given.
    Given(Arg),
    /// One number for a list of this length.
    Spread(Arg, usize),
    /// The default.
    Default(IValue),
}

/// A call that fits an overload.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub schema: &'static Schema,
    /// One for each argument of the schema.
    pub slots: Vec<Slot>,
}

/// Operators whose tensors may be given as numbers.
const TAKE_NUMBERS: [&str; 11] =
    ["add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "floor_divide", "_conj", "copy"];

/// Overloads of one name with the same arguments.
struct Call<'a> {
    positional: &'a [Arg],
    named: &'a [(Arc<str>, Arg)],
    facts: &'a dyn Fn(Ref) -> Option<TensorFacts>,
    takes_numbers: bool,
    /// Whether tensors without dimensions may stand for numbers.
    is_loose: bool,
}

/// The overload of `ns::name` that takes these arguments.
pub(crate) fn choose(
    name: &str,
    positional: &[Arg],
    named: &[(Arc<str>, Arg)],
    facts: &dyn Fn(Ref) -> Option<TensorFacts>,
) -> Option<Chosen> {
    let base = name.rsplit("::").next().unwrap_or(name);
    let takes_numbers = TAKE_NUMBERS.contains(&base.strip_suffix('_').unwrap_or(base));
    for is_loose in [false, true] {
        let call = Call { positional, named, facts, takes_numbers, is_loose };
        // Python tries the form that takes lists of scales first.
        let (first, rest): (Vec<_>, Vec<_>) =
            schema::overloads(name).iter().partition(|schema| &*schema.name.overload == "vec");
        for schema in first.into_iter().chain(rest) {
            if takes_numbers && &*schema.name.overload == "Scalar" {
                continue;
            }
            if let Some(slots) = call.slots(schema) {
                return Some(Chosen { schema, slots });
            }
        }
    }
    None
}

impl Call<'_> {
    fn slots(&self, schema: &'static Schema) -> Option<Vec<Slot>> {
        let is_out = |arg: &schema::SchemaArg| arg.kw_only && arg.alias.as_ref().is_some_and(|alias| alias.is_write);
        let has_tensor =
            schema.args.iter().any(|arg| holds_tensor(&arg.ty)) || schema.returns.iter().any(|r| holds_tensor(&r.ty));
        if schema.is_vararg || !has_tensor || schema.args.iter().any(is_out) {
            return None;
        }
        let (mut next, mut n_named) = (0, 0);
        let mut slots = Vec::with_capacity(schema.args.len());
        let n_positional = schema.args.iter().filter(|arg| !arg.kw_only && &*arg.name != "self").count();
        for arg in &schema.args {
            let by_name =
                self.named.iter().find(|(name, _)| *name == arg.name || &**name == "input" && &*arg.name == "self");
            let given = match by_name {
                Some((_, value)) => {
                    n_named += 1;
                    Some(value)
                }
                None if arg.kw_only || next >= self.positional.len() => None,
                None => {
                    let rest = &self.positional[next..];
                    let takes_rest = n_positional == 1 && rest.len() > 1 && is_list_of_ints(&arg.ty);
                    if takes_rest && rest.iter().all(|item| self.fits(item, &Type::Int)) {
                        next = self.positional.len();
                        slots.push(Slot::Given(Arg::Sequence(rest.to_vec())));
                        continue;
                    }
                    // Sizes may be given without brackets even where there is only one.
                    if n_positional == 1
                        && arg.list_size.is_none()
                        && is_list_of_ints(&arg.ty)
                        && self.fits(&rest[0], &Type::Int)
                    {
                        next += 1;
                        slots.push(Slot::Given(Arg::Sequence(vec![rest[0].clone()])));
                        continue;
                    }
                    next += 1;
                    Some(&rest[0])
                }
            };
            slots.push(match (given, &arg.default) {
                (Some(value), _) => self.slot(value, &arg.ty, arg.list_size)?,
                (None, Some(default)) => Slot::Default(default.clone()),
                (None, None) => return None,
            });
        }
        (next == self.positional.len() && n_named == self.named.len()).then_some(slots)
    }

    fn slot(&self, value: &Arg, ty: &Type, list_size: Option<usize>) -> Option<Slot> {
        if self.fits(value, ty) {
            return Some(Slot::Given(value.clone()));
        }
        let list = if let Type::Optional(inner) = ty { inner } else { ty };
        match (list_size, list) {
            (Some(n), Type::List(item)) if self.fits(value, item) => Some(Slot::Spread(value.clone(), n)),
            _ => None,
        }
    }

    fn fits(&self, value: &Arg, ty: &Type) -> bool {
        let scalar = |at: &Ref| (self.facts)(*at).filter(|facts| facts.rank == 0);
        match (ty, value) {
            (Type::Optional(_), Arg::None) => true,
            (Type::Optional(inner), value) => self.fits(value, inner),
            (Type::Tensor(_), Arg::Tensor(_)) => true,
            (Type::Tensor(_), Arg::Bool(_) | Arg::Int(_) | Arg::Float(_) | Arg::Complex(..)) => self.takes_numbers,
            (Type::Int, Arg::Int(_) | Arg::Code(_)) => true,
            (Type::Int, Arg::Tensor(at)) => scalar(at).is_some_and(|facts| facts.dtype.is_integer()),
            (Type::Float, Arg::Int(_) | Arg::Float(_)) => true,
            (Type::Number, Arg::Bool(_) | Arg::Int(_) | Arg::Float(_) | Arg::Complex(..)) => true,
            (Type::Float | Type::Number, Arg::Tensor(at)) => self.is_loose && scalar(at).is_some(),
            (Type::Bool, Arg::Bool(_)) => true,
            (Type::Str, Arg::Str(_)) => true,
            (Type::Device, Arg::Device(_) | Arg::Str(_)) => true,
            (Type::Generator, Arg::None) => true,
            (Type::List(item), Arg::Sequence(items)) => items.iter().all(|value| self.fits(value, item)),
            _ => false,
        }
    }
}

fn is_list_of_ints(ty: &Type) -> bool {
    let ty = if let Type::Optional(inner) = ty { inner } else { ty };
    matches!(ty, Type::List(item) if **item == Type::Int)
}

fn holds_tensor(ty: &Type) -> bool {
    match ty {
        Type::Tensor(_) => true,
        Type::List(item) | Type::Optional(item) => holds_tensor(item),
        _ => false,
    }
}
