//! Operators whose meaning changed since an older file-format version was written.
//!
//! `div` divided integers like C before version 4; `full` always made floats before 5; `linspace` and `logspace` had
//! 100 steps by default before 8 and 9; `gelu` had no `approximate` before 10, which its default covers.

use super::function::Emitter;
use super::ssa::V;
use super::sugar::Sugared;
use crate::diag::Result;
use crate::ir::Attr;
use crate::syntax::ast::TextRange;
use crate::types::{IValue, Type};
use std::sync::Arc;

/// The old call in today's terms.
pub(crate) enum Upgraded {
    /// Nothing else to do: these nodes are the call.
    Done(Sugared),
    /// The call with these arguments.
    Call(Vec<V>, Vec<(Arc<str>, V)>),
}

impl Emitter<'_, '_> {
    /// What a call of an operator in this archive means today.
    pub(crate) fn upgraded(
        &mut self,
        name: &str,
        mut positional: Vec<V>,
        mut named: Vec<(Arc<str>, V)>,
        range: TextRange,
    ) -> Result<Upgraded> {
        let version = self.program.archive.version;
        if version >= 10 || self.is_upgrading {
            return Ok(Upgraded::Call(positional, named));
        }
        let has_mode = named.iter().any(|(name, _)| &**name == "rounding_mode");
        match name {
            "aten::div" | "aten::div_" if version < 4 && !has_mode && positional.len() == 2 => {
                let [a, b] = <[V; 2]>::try_from(positional).expect("the guard counts two");
                if !matches!(a.ty, Type::Tensor(_)) && !matches!(b.ty, Type::Tensor(_)) {
                    return Ok(Upgraded::Call(vec![a, b], named));
                }
                self.is_upgrading = true;
                let made = self.old_div(name, a, b, named, range);
                self.is_upgrading = false;
                return Ok(Upgraded::Done(Sugared::Value(made?)));
            }
            "aten::full" if version < 5 => {
                let has_dtype = named.iter().any(|(name, v)| &**name == "dtype" && v.ty != Type::None);
                let has_out = named.iter().any(|(name, _)| matches!(&**name, "out" | "names"));
                if !has_dtype && !has_out {
                    let value = match positional.get_mut(1) {
                        Some(value) => Some(value),
                        None => named.iter_mut().find(|(name, _)| &**name == "fill_value").map(|(_, v)| v),
                    };
                    if let Some(value) = value
                        && value.ty != Type::Float
                        && value.ty != Type::Complex
                    {
                        let old = value.clone();
                        *value = self.builtin_value("aten::Float", vec![old], range)?;
                    }
                }
            }
            "aten::linspace" | "aten::logspace" if version < if name == "aten::linspace" { 8 } else { 9 } => {
                let hundred = self.int(100, range);
                let by_name = named.iter_mut().find(|(name, _)| &**name == "steps");
                match (positional.get_mut(2), by_name) {
                    (Some(steps), _) | (None, Some((_, steps))) => {
                        if matches!(steps.ty, Type::None | Type::Optional(_)) {
                            if steps.ty != Type::None {
                                return Err(self.unsupported(range, format!("{name} with an optional number of steps")));
                            }
                            *steps = hundred;
                        }
                    }
                    (None, None) => named.push(("steps".into(), hundred)),
                }
            }
            _ => {}
        }
        Ok(Upgraded::Call(positional, named))
    }

    /// Division before version 4: true division if a side is floating point, else rounded towards zero.
    fn old_div(&mut self, name: &str, a: V, b: V, named: Vec<(Arc<str>, V)>, range: TextRange) -> Result<V> {
        let is_float = |e: &mut Self, v: &V| match v.ty {
            Type::Tensor(_) => e.builtin_value("aten::is_floating_point", vec![v.clone()], range),
            Type::Number => {
                let types = ("types", Attr::Types(vec![Type::Float]));
                Ok(e.prim_attr("prim::isinstance", types, &[v], Type::Bool, range))
            }
            _ => Ok(e.constant(IValue::Bool(v.ty == Type::Float), Type::Bool, range)),
        };
        let (x, y) = (is_float(self, &a)?, is_float(self, &b)?);
        let is_true = self.builtin_value("aten::__or__", vec![x, y], range)?;
        let args = [a, b];
        self.select(
            &is_true,
            Vec::new(),
            Vec::new(),
            range,
            |e| {
                let made = e.builtin(name, args.to_vec(), named.clone(), range)?;
                e.value_of(made, range)
            },
            |e| {
                let mode = e.constant(IValue::Str("trunc".into()), Type::Str, range);
                let mut named = named.clone();
                named.push(("rounding_mode".into(), mode));
                let made = e.builtin(name, args.to_vec(), named, range)?;
                e.value_of(made, range)
            },
        )
    }
}
