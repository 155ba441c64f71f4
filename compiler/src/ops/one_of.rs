//! Values of which only the running program knows what kind they are: optional ones, unions, items of lists that hold several kinds.
//!
//! Such a value is in a box, an object that holds any item, and the number of its kind is in a variable. What asks for the kind (`is`,
//! `isinstance`) compares that number; a cast takes the item out of the box; anything else is lowered once for each kind.

use super::builder::Builder;
use super::run_time::var_arg;
use super::value::{ItemFacts, OneOf, Value, int};
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Const, Operand, VarId, VarType};
use aot_runtime::routines::kinds::kind;
use std::sync::Arc;

/// The most kinds that one value may be of; a rank that grows in a loop has no end.
const MAX_KINDS: usize = 12;

impl ItemFacts {
    /// The number of the kind of items that this is known of; `None` for items of no or several kinds.
    pub fn kind(&self) -> Option<i64> {
        Some(match self {
            Self::Empty | Self::OneOf(_) => return None,
            Self::None => kind::NONE,
            Self::Bool => kind::BOOL,
            Self::Int => kind::INT,
            Self::Float => kind::FLOAT,
            Self::Complex => kind::COMPLEX,
            Self::Str => kind::STR,
            Self::List(_) => kind::LIST,
            Self::Dict(_) => kind::DICT,
            Self::Future(_) => kind::FUTURE,
            Self::Object(class) => kind::class(class),
            Self::Enum(_, value) => return value.kind(),
            Self::Tuple(items, _) => kind::tuple(items.len()),
            Self::Tensor(facts) => kind::tensor(facts.dtype.code() as u8, facts.dims.len()),
        })
    }

    /// The kinds of items that this is known of, each by itself.
    pub fn options(&self) -> Vec<Self> {
        match self {
            Self::Empty => Vec::new(),
            Self::OneOf(options) => options.to_vec(),
            one => vec![one.clone()],
        }
    }
}

impl Builder<'_> {
    /// What is known of items that are of either of two kinds, or of several.
    pub(super) fn join_kinds(&self, a: &ItemFacts, b: &ItemFacts) -> Result<ItemFacts> {
        if a.kind().is_some() && a.kind() == b.kind() {
            return Err(self.unsupported("items of a run-time list or dict whose parts do not go together"));
        }
        let mut options = a.options();
        for option in b.options() {
            match options.iter_mut().find(|known| known.kind() == option.kind()) {
                Some(known) => *known = self.join_items(known, &option)?,
                None => options.push(option),
            }
        }
        if options.len() > MAX_KINDS {
            return Err(self.unsupported(format!("a value of more than {MAX_KINDS} kinds")));
        }
        Ok(if options.len() == 1 { options.remove(0) } else { ItemFacts::OneOf(options.into()) })
    }

    /// A box with this value, for a place that holds values of several kinds, and the number of its kind.
    pub fn boxed(&mut self, value: &Value) -> Result<(Operand, Operand)> {
        if let Value::OneOf(one) = value {
            return Ok((Operand::Var(one.item), Operand::Var(one.kind)));
        }
        let facts = self.item_facts(value)?;
        let Some(kind) = facts.kind() else { return Err(self.unsupported("a value of no known kind")) };
        let item = match value {
            // The operand of a complex number is a box already.
            Value::Complex(re, im) => self.boxed_complex(re, im),
            _ => {
                let arg = self.item_arg(value)?;
                self.call_for_object("box", vec![arg])
            }
        };
        Ok((Operand::Var(item), int(kind)))
    }

    /// A complex number as an operand of routines.
    pub(super) fn boxed_complex(&mut self, re: &Operand, im: &Operand) -> VarId {
        self.call_for_object("box_complex", vec![Arg::Scalar(re.clone()), Arg::Scalar(im.clone())])
    }

    /// The item of several kinds that a routine gives.
    pub(super) fn fetched_box(&mut self, routine: &'static str, args: Vec<Arg>, options: &Arc<[ItemFacts]>) -> Value {
        let name = Arg::Scalar(Operand::Str(routine.into()));
        let item = self.call_for_object("boxed", std::iter::once(name).chain(args).collect());
        let kind = self.call("box_kind", vec![var_arg(item)], &[VarType::Int])[0];
        Value::OneOf(OneOf { item, kind, options: Arc::clone(options) })
    }

    /// The complex number in a box.
    pub(super) fn complex_in(&mut self, item: VarId) -> Value {
        let mut part =
            |at| Operand::Var(self.call("box_part", vec![var_arg(item), Arg::Scalar(int(at))], &[VarType::Float])[0]);
        Value::Complex(part(0), part(1))
    }

    /// Whether a value is of the kind of this option.
    pub fn is_kind(&mut self, one: &OneOf, option: &ItemFacts) -> Operand {
        let kind = option.kind().unwrap_or(-1);
        self.binary(BinaryOp::Eq, Operand::Var(one.kind), int(kind))
    }

    /// Whether a value is of the kind of one of these options.
    pub fn is_any_kind<'o>(&mut self, one: &OneOf, options: impl Iterator<Item = &'o ItemFacts>) -> Operand {
        let mut any = Operand::Const(Const::bool(false));
        for option in options {
            let is = self.is_kind(one, option);
            any = self.binary(BinaryOp::Or, any, is);
        }
        any
    }

    /// What a value may be where this code runs.
    pub fn remaining(&mut self, one: &OneOf) -> Vec<ItemFacts> {
        let mut remaining = Vec::new();
        for option in one.options.iter() {
            let is = self.is_kind(one, option);
            match self.assumed(&is) {
                Some(true) => return vec![option.clone()],
                Some(false) => {}
                None => remaining.push(option.clone()),
            }
        }
        remaining
    }

    /// The value, known to be one of these: out of its box, if that leaves one kind.
    pub fn narrowed(&mut self, one: &OneOf, mut options: Vec<ItemFacts>) -> Value {
        match options.len() {
            0 => Value::Uninitialized,
            1 => match options.remove(0) {
                ItemFacts::None => Value::None,
                option => self.fetched("unbox", vec![var_arg(one.item)], &option),
            },
            _ => Value::OneOf(OneOf { options: options.into(), ..one.clone() }),
        }
    }
}
