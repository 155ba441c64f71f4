//! What compiled code does itself of the routines on lists of numbers: reading, writing and appending an item, and the length.
//!
//! A list of numbers has a layout that the runtime promises ([`layout`]): one that was only ever given numbers of one kind lies
//! flat, so what is read as an int or put in as one tells where it lies. The routine is called for what is left: an index out
//! of range, where the call fails and nothing follows it, and memory that must grow. So a loop that only reads and replaces
//! items has no call in it, and where the items lie is read before it.
//!
//! ```text
//! if index < list.length   { result = list.data[index] }
//! else                      { call list_get; leave }
//! ```

use super::builder::{Cmp, Inst2, Label, Lane, Part, Ty, Value};
use super::host::Host;
use super::scalar;
use crate::diag::Result;
use crate::loops::{Arg, Operand, VarId, VarType};
use crate::types::DType;
use aot_runtime::object::layout;

/// A routine for which code stands in place.
pub(super) enum Inline<'a> {
    Get { list: Value, index: Value, result: VarId },
    Set { list: Value, index: Value, item: Value },
    Push { list: Value, item: Value },
    Len { list: Value, result: &'a VarId },
}

/// What is left for the routine besides the usual case.
pub(super) enum Rest {
    /// Nothing: it is not called.
    Nothing,
    /// What it refuses.
    Fails,
    /// What it can do.
    Succeeds,
}

impl Host<'_> {
    /// What to put before the call of a routine, if anything.
    pub(super) fn inline<'a>(&self, routine: &str, args: &[Arg], results: &'a [VarId]) -> Result<Option<Inline<'a>>> {
        Ok(match (routine, args, results) {
            ("list_get", [list, index], [result]) => {
                let (list, index) = (self.list(list)?, self.index(index)?);
                let (Some(list), Some(index)) = (list, index) else { return Ok(None) };
                let is_number = self.var_type(*result) != VarType::Object;
                is_number.then_some(Inline::Get { list, index, result: *result })
            }
            ("list_set", [list, index, item], []) => {
                let (list, index, item) = (self.list(list)?, self.index(index)?, self.item(item)?);
                let (Some(list), Some(index), Some(item)) = (list, index, item) else { return Ok(None) };
                Some(Inline::Set { list, index, item })
            }
            ("list_push", [list, item], []) => {
                let (Some(list), Some(item)) = (self.list(list)?, self.item(item)?) else { return Ok(None) };
                Some(Inline::Push { list, item })
            }
            ("list_len", [list], [result]) => self.list(list)?.map(|list| Inline::Len { list, result }),
            _ => None,
        })
    }

    /// Emits the usual case, which goes on at `next`; says what comes after.
    pub(super) fn usual_case(&self, inline: &Inline<'_>, next: Label) -> Rest {
        let b = self.b;
        if let Inline::Len { list, result } = *inline {
            b.set(self.vars[*result], self.list_field(Ty::I64, list, layout::LEN));
            b.jump(next);
            return Rest::Nothing;
        }
        let rest = b.label();
        match *inline {
            Inline::Get { list, index, result } => {
                let at = self.item_address(list, index, rest);
                let bits = b.load_part(Ty::I64, at, Part::Items);
                b.set(self.vars[result], self.from_bits(bits, self.var_type(result)));
            }
            Inline::Set { list, index, item } => {
                let at = self.item_address(list, index, rest);
                b.store_part(item, at, Part::Items);
            }
            Inline::Push { list, item } => {
                let len = self.list_field(Ty::I64, list, layout::LEN);
                self.require(b.compare(Cmp::ULt, len, self.list_field(Ty::I64, list, layout::CAPACITY)), rest);
                let data = self.list_field(Ty::PTR, list, layout::DATA);
                b.store_part(item, b.element(data, len, 8), Part::Items);
                let len = b.inst2(Inst2::Add, len, self.int(1));
                b.store_part(len, self.at(list, layout::LEN), Part::Fields);
            }
            Inline::Len { .. } => {}
        }
        b.jump(next);
        b.place(rest);
        if matches!(inline, Inline::Push { .. }) { Rest::Succeeds } else { Rest::Fails }
    }

    /// Goes to `rest` unless this holds.
    fn require(&self, cond: Value, rest: Label) {
        let next = self.b.label();
        self.b.branch_usually(cond, next, rest);
        self.b.place(next);
    }

    fn list_field(&self, ty: Ty, list: Value, offset: usize) -> Value {
        self.b.load_part(ty, self.at(list, offset), Part::Fields)
    }

    /// Where the item at an index is, which may count from the end.
    fn item_address(&self, list: Value, index: Value, rest: Label) -> Value {
        let b = self.b;
        let len = self.list_field(Ty::I64, list, layout::LEN);
        let from_end = b.inst2(Inst2::Add, index, len);
        let at = b.select(b.compare(Cmp::SLt, index, self.int(0)), from_end, index);
        self.require(b.compare(Cmp::ULt, at, len), rest);
        b.element(self.list_field(Ty::PTR, list, layout::DATA), at, 8)
    }

    fn list(&self, arg: &Arg) -> Result<Option<Value>> {
        match arg {
            Arg::Scalar(list @ Operand::Var(var)) if self.var_type(*var) == VarType::Object => {
                Ok(Some(self.number(list)?.value))
            }
            Arg::Scalar(_) | Arg::Buffer(_) => Ok(None),
        }
    }

    fn index(&self, arg: &Arg) -> Result<Option<Value>> {
        let Arg::Scalar(operand @ (Operand::Var(_) | Operand::Const(_))) = arg else { return Ok(None) };
        let number = self.number(operand)?;
        let is_int = number.value.ty.lane == Lane::I64;
        if is_int { scalar::cast(self.b, number, DType::I64).map(Some) } else { Ok(None) }
    }

    /// The bits of a number.
    fn item(&self, arg: &Arg) -> Result<Option<Value>> {
        let Arg::Scalar(operand @ (Operand::Var(_) | Operand::Const(_))) = arg else { return Ok(None) };
        let value = self.number(operand)?.value;
        let is_number = matches!(value.ty.lane, Lane::I64 | Lane::F64 | Lane::I1);
        Ok(is_number.then(|| self.to_bits(value)))
    }
}
