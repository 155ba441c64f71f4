//! What compiled code does itself of the routines on lists of numbers: reading, writing and appending an item, and the length.
//!
//! A list of numbers has a layout that the runtime promises ([`layout`]). Code for the usual case stands before the call of the
//! routine, which does all others: lists of items, an index out of range, memory that must grow.
//!
//! ```text
//! if list.kind == INTS and index < list.length   { result = list.data[index] }
//! else                                            { call list_get }
//! ```

use super::builder::{Cmp, Inst2, Label, Lane, Ty, Value};
use super::host::Host;
use super::scalar;
use crate::diag::Result;
use crate::loops::{Arg, Operand, VarId, VarType};
use crate::types::DType;
use aot_runtime::list::Kind;
use aot_runtime::object::layout;

/// A routine for which code stands in place.
pub(super) enum Inline<'a> {
    Get { list: Value, index: Value, kind: Kind, result: VarId },
    Set { list: Value, index: Value, kind: Kind, item: Value },
    Push { list: Value, kind: Kind, item: Value },
    Len { list: Value, result: &'a VarId },
}

impl Host<'_> {
    /// What to put before the call of a routine, if anything.
    pub(super) fn inline<'a>(&self, routine: &str, args: &[Arg], results: &'a [VarId]) -> Result<Option<Inline<'a>>> {
        Ok(match (routine, args, results) {
            ("list_get", [list, index], [result]) => {
                let (list, index) = (self.list(list)?, self.index(index)?);
                let kind = kind(self.var_type(*result));
                let (Some(list), Some(index), Some(kind)) = (list, index, kind) else { return Ok(None) };
                Some(Inline::Get { list, index, kind, result: *result })
            }
            ("list_set", [list, index, item], []) => {
                let (list, index, item) = (self.list(list)?, self.index(index)?, self.item(item)?);
                let (Some(list), Some(index), Some((kind, item))) = (list, index, item) else { return Ok(None) };
                Some(Inline::Set { list, index, kind, item })
            }
            ("list_push", [list, item], []) => {
                let (Some(list), Some((kind, item))) = (self.list(list)?, self.item(item)?) else { return Ok(None) };
                Some(Inline::Push { list, kind, item })
            }
            ("list_len", [list], [result]) => self.list(list)?.map(|list| Inline::Len { list, result }),
            _ => None,
        })
    }

    /// Emits the usual case, which goes on at `next`; what comes after is all other cases.
    pub(super) fn usual_case(&self, inline: &Inline<'_>, next: Label) {
        let b = self.b;
        let slow = b.label();
        match *inline {
            Inline::Get { list, index, kind, result } => {
                self.require_kind(list, kind, slow);
                let at = self.item_address(list, index, slow);
                let bits = b.load(Ty::I64, at);
                b.set(self.vars[result], self.from_bits(bits, self.var_type(result)));
            }
            Inline::Set { list, index, kind, item } => {
                self.require_kind(list, kind, slow);
                let at = self.item_address(list, index, slow);
                b.store(item, at);
            }
            Inline::Push { list, kind, item } => {
                self.require_kind(list, kind, slow);
                let len = self.field(Ty::I64, list, layout::LEN);
                self.require(b.compare(Cmp::ULt, len, self.field(Ty::I64, list, layout::CAPACITY)), slow);
                let data = self.field(Ty::PTR, list, layout::DATA);
                b.store(item, b.element(data, len, 8));
                self.put(list, layout::LEN, b.inst2(Inst2::Add, len, self.int(1)));
            }
            Inline::Len { list, result } => {
                let variant = self.field(Ty::I64, list, layout::VARIANT);
                self.require(b.compare(Cmp::Eq, variant, self.int(layout::IS_LIST)), slow);
                b.set(self.vars[*result], self.field(Ty::I64, list, layout::LEN));
            }
        }
        b.jump(next);
        b.place(slow);
    }

    /// Goes to `slow` unless this holds.
    fn require(&self, cond: Value, slow: Label) {
        let next = self.b.label();
        self.b.branch(cond, next, slow);
        self.b.place(next);
    }

    fn require_kind(&self, list: Value, kind: Kind, slow: Label) {
        let found = self.field(Ty::I64, list, layout::KIND);
        self.require(self.b.compare(Cmp::Eq, found, self.int(kind as i64)), slow);
    }

    /// Where the item at an index is, which may count from the end.
    fn item_address(&self, list: Value, index: Value, slow: Label) -> Value {
        let b = self.b;
        let len = self.field(Ty::I64, list, layout::LEN);
        let from_end = b.inst2(Inst2::Add, index, len);
        let at = b.select(b.compare(Cmp::SLt, index, self.int(0)), from_end, index);
        self.require(b.compare(Cmp::ULt, at, len), slow);
        b.element(self.field(Ty::PTR, list, layout::DATA), at, 8)
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

    /// The bits of a number and what list they fit.
    fn item(&self, arg: &Arg) -> Result<Option<(Kind, Value)>> {
        let Arg::Scalar(operand @ (Operand::Var(_) | Operand::Const(_))) = arg else { return Ok(None) };
        let value = self.number(operand)?.value;
        let kind = match value.ty.lane {
            Lane::I64 => Kind::Ints,
            Lane::F64 => Kind::Floats,
            Lane::I1 => Kind::Bools,
            Lane::I8 | Lane::I16 | Lane::I32 | Lane::F32 | Lane::Ptr => return Ok(None),
        };
        Ok(Some((kind, self.to_bits(value))))
    }
}

fn kind(ty: VarType) -> Option<Kind> {
    match ty {
        VarType::Int => Some(Kind::Ints),
        VarType::Float => Some(Kind::Floats),
        VarType::Bool => Some(Kind::Bools),
        VarType::Object => None,
    }
}
