//! What compiled code does itself of the routines on dicts: it looks a key up, and reads or replaces the value where it lies.
//!
//! Looking up only reads, so that `d[key] += 1` after `key in d` looks once. As with lists, what is read as an int is one. The
//! routine is called for a key that is not there, and for values that are no numbers.

use super::builder::{Cmp, Conv, Label, Lane, Linkage, Part, Signature, Ty, Value};
use super::host::Host;
use super::lists::Rest;
use crate::diag::{Diagnostic, Result};
use crate::loops::{Arg, Operand, VarId, VarType};
use aot_runtime::object::layout;

/// What is done with the value of a key.
pub(super) enum Entry {
    Contains(VarId),
    Get(VarId),
    GetOr(VarId, Value),
    Set(Value),
}

impl Host<'_> {
    /// The use of an entry that a routine is, with the address of its value, if compiled code can make it.
    pub(super) fn entry(&self, routine: &str, args: &[Arg], results: &[VarId]) -> Result<Option<(Entry, Value)>> {
        let (dict, key, entry) = match (routine, args, results) {
            ("dict_contains", [dict, key], [result]) => (dict, key, Entry::Contains(*result)),
            ("dict_get", [dict, key], [result]) => (dict, key, Entry::Get(*result)),
            ("dict_get", [dict, key, default], [result]) => match self.plain(default)? {
                Some(value) if value.ty == self.vars[*result].ty => (dict, key, Entry::GetOr(*result, value)),
                _ => return Ok(None),
            },
            ("dict_set", [dict, key, item], []) => match self.plain(item)? {
                Some(item) => (dict, key, Entry::Set(item)),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let Some(dict) = self.held(dict)? else { return Ok(None) };
        let (name, key) = match key {
            Arg::Scalar(Operand::Str(text)) => {
                let len = self.int(i64::try_from(text.len()).unwrap_or(i64::MAX));
                ("aot_rt_dict_find_text", vec![self.b.bytes(text.as_bytes()), len])
            }
            Arg::Scalar(operand) => {
                let key = self.number(operand)?.value;
                match key.ty.lane {
                    Lane::I64 => ("aot_rt_dict_find_int", vec![key]),
                    Lane::Ptr => ("aot_rt_dict_find_object", vec![key]),
                    _ => return Ok(None),
                }
            }
            Arg::Buffer(_) => return Ok(None),
        };
        let args: Vec<Value> = std::iter::once(dict).chain(key).collect();
        let params: Vec<Ty> = args.iter().map(|arg| arg.ty).collect();
        let signature = Signature { only_reads: true, ..Signature::new(&params, Some(Ty::PTR)) };
        let found = self.b.call(self.b.declare(name, &signature, Linkage::Import), &args);
        Ok(Some((entry, found.ok_or_else(|| Diagnostic::internal("a call without its result"))?)))
    }

    /// Emits the usual case, which goes on at `next`; says what comes after.
    pub(super) fn use_entry(&self, entry: &Entry, found: Value, next: Label) -> Rest {
        let b = self.b;
        let is_there = b.compare(Cmp::Ne, self.to_bits(found), self.int(0));
        if let Entry::Contains(result) = *entry {
            b.set(self.vars[result], is_there);
            b.jump(next);
            return Rest::Nothing;
        }
        let rest = b.label();
        match *entry {
            Entry::Contains(_) => {}
            Entry::GetOr(result, default) => {
                let yes = b.label();
                b.branch(is_there, yes, rest);
                b.place(rest);
                b.set(self.vars[result], default);
                b.jump(next);
                b.place(yes);
                b.set(self.vars[result], self.value_at(found, self.var_type(result)));
                b.jump(next);
                return Rest::Nothing;
            }
            Entry::Get(result) if self.var_type(result) == VarType::Object => {
                self.require(is_there, rest);
                self.get_object(found, result, rest);
            }
            Entry::Get(result) => {
                self.require(is_there, rest);
                b.set(self.vars[result], self.value_at(found, self.var_type(result)));
            }
            Entry::Set(item) => {
                self.require(is_there, rest);
                let item = if item.ty.lane == Lane::I1 { b.convert(Conv::ZExt, item, Lane::I8) } else { item };
                b.store_part(item, self.at(found, layout::ITEM_BITS), Part::Items);
            }
        }
        b.jump(next);
        b.place(rest);
        match entry {
            Entry::Get(result) if self.var_type(*result) != VarType::Object => Rest::Fails,
            _ => Rest::Succeeds,
        }
    }

    /// What an item holds.
    fn value_at(&self, item: Value, ty: VarType) -> Value {
        let lane = match ty {
            VarType::Int => Lane::I64,
            VarType::Float => Lane::F64,
            VarType::Bool => Lane::I8,
            VarType::Object => Lane::Ptr,
        };
        let value = self.b.load_part(Ty::scalar(lane), self.at(item, layout::ITEM_BITS), Part::Items);
        if lane == Lane::I8 { self.b.compare(Cmp::Ne, value, self.b.zero(value.ty)) } else { value }
    }

    /// A number as an item holds it.
    fn plain(&self, arg: &Arg) -> Result<Option<Value>> {
        let Arg::Scalar(operand @ (Operand::Var(_) | Operand::Const(_))) = arg else { return Ok(None) };
        let value = self.number(operand)?.value;
        Ok(matches!(value.ty.lane, Lane::I64 | Lane::F64 | Lane::I1).then_some(value))
    }
}
