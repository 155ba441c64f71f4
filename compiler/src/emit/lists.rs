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
use super::entries::Entry;
use super::host::Host;
use super::scalar;
use crate::diag::Result;
use crate::loops::{Arg, Operand, Stmt, VarId, VarType};
use crate::types::DType;
use aot_runtime::object::layout;

/// A routine for which code stands in place.
pub(super) enum Inline<'a> {
    Get {
        list: Value,
        index: Value,
        result: VarId,
    },
    Set {
        list: Value,
        index: Value,
        item: Value,
    },
    Push {
        list: Value,
        item: Value,
    },
    /// The object that a variable holds, and whether it is the variable's last use.
    PushObject {
        list: Value,
        object: VarId,
        is_last: bool,
    },
    GetObject {
        list: Value,
        index: Value,
        result: VarId,
    },
    Len {
        list: Value,
        result: &'a VarId,
    },
    /// The use of an entry of a dict, and where its value is.
    Entry(Entry, Value),
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
    pub(super) fn inline<'a>(
        &self,
        stmt: &Stmt,
        routine: &str,
        args: &[Arg],
        results: &'a [VarId],
    ) -> Result<Option<Inline<'a>>> {
        Ok(match (routine, args, results) {
            ("list_get", [list, index], [result]) => {
                let (list, index) = (self.held(list)?, self.index(index)?);
                let (Some(list), Some(index)) = (list, index) else { return Ok(None) };
                let result = *result;
                Some(match self.var_type(result) {
                    VarType::Object => Inline::GetObject { list, index, result },
                    VarType::Int | VarType::Float | VarType::Bool => Inline::Get { list, index, result },
                })
            }
            ("list_set", [list, index, item], []) => {
                let (list, index, item) = (self.held(list)?, self.index(index)?, self.item(item)?);
                let (Some(list), Some(index), Some(item)) = (list, index, item) else { return Ok(None) };
                Some(Inline::Set { list, index, item })
            }
            ("list_push", [list, Arg::Scalar(Operand::Var(object))], [])
                if self.var_type(*object) == VarType::Object =>
            {
                let is_last = self.last_uses.is_last(stmt, *object);
                self.held(list)?.map(|list| Inline::PushObject { list, object: *object, is_last })
            }
            ("list_push", [list, item], []) => {
                let (Some(list), Some(item)) = (self.held(list)?, self.item(item)?) else { return Ok(None) };
                Some(Inline::Push { list, item })
            }
            ("list_len", [list], [result]) => self.held(list)?.map(|list| Inline::Len { list, result }),
            _ => self.entry(routine, args, results)?.map(|(entry, found)| Inline::Entry(entry, found)),
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
        if let Inline::Entry(entry, found) = inline {
            return self.use_entry(entry, *found, next);
        }
        let rest = b.label();
        match *inline {
            Inline::Get { list, index, result } => {
                let at = self.item_address(list, index, 8, rest);
                let bits = b.load_part(Ty::I64, at, Part::Items);
                b.set(self.vars[result], self.from_bits(bits, self.var_type(result)));
            }
            Inline::Set { list, index, item } => {
                let at = self.item_address(list, index, 8, rest);
                b.store_part(item, at, Part::Items);
            }
            Inline::Push { list, item } => {
                let at = self.new_item(list, 8, rest);
                b.store_part(item, at, Part::Items);
            }
            Inline::PushObject { list, object, is_last } => {
                let held = b.get(self.vars[object]);
                self.require(b.compare(Cmp::Ne, self.to_bits(held), self.int(0)), rest);
                let at = self.new_item(list, layout::ITEM_BYTES, rest);
                b.store_part(self.int(layout::IS_OBJECT), self.at(at, layout::ITEM_TAG), Part::Items);
                b.store_part(held, self.at(at, layout::ITEM_BITS), Part::Items);
                if is_last {
                    self.take(object);
                } else {
                    self.runtime("aot_rt_retain", &[Ty::PTR], None, &[held]);
                }
            }
            Inline::GetObject { list, index, result } => {
                let at = self.item_address(list, index, layout::ITEM_BYTES, rest);
                self.get_object(at, result, rest);
            }
            Inline::Len { .. } | Inline::Entry(..) => {}
        }
        b.jump(next);
        b.place(rest);
        if matches!(inline, Inline::Get { .. } | Inline::Set { .. }) { Rest::Fails } else { Rest::Succeeds }
    }

    /// Makes a variable refer to the object that an item is; goes to `rest` if it is none.
    pub(super) fn get_object(&self, item: Value, result: VarId, rest: Label) {
        let tag = self.b.load_part(Ty::I64, self.at(item, layout::ITEM_TAG), Part::Items);
        self.require(self.b.compare(Cmp::Eq, tag, self.int(layout::IS_OBJECT)), rest);
        let object = self.b.load_part(Ty::PTR, self.at(item, layout::ITEM_BITS), Part::Items);
        self.runtime("aot_rt_retain", &[Ty::PTR], None, &[object]);
        self.assign(result, object);
    }

    /// Makes a list longer by an item of this size, if there is room; gives its address.
    fn new_item(&self, list: Value, size_bytes: usize, rest: Label) -> Value {
        let b = self.b;
        let len = self.list_field(Ty::I64, list, layout::LEN);
        self.require(b.compare(Cmp::ULt, len, self.list_field(Ty::I64, list, layout::CAPACITY)), rest);
        let data = self.list_field(Ty::PTR, list, layout::DATA);
        b.store_part(b.inst2(Inst2::Add, len, self.int(1)), self.at(list, layout::LEN), Part::Fields);
        b.element(data, len, size_bytes)
    }

    /// Goes to `rest` unless this holds.
    pub(super) fn require(&self, cond: Value, rest: Label) {
        let next = self.b.label();
        self.b.branch_usually(cond, next, rest);
        self.b.place(next);
    }

    fn list_field(&self, ty: Ty, list: Value, offset: usize) -> Value {
        self.b.load_part(ty, self.at(list, offset), Part::Fields)
    }

    /// Where the item at an index is, which may count from the end.
    fn item_address(&self, list: Value, index: Value, size_bytes: usize, rest: Label) -> Value {
        let b = self.b;
        let len = self.list_field(Ty::I64, list, layout::LEN);
        let from_end = b.inst2(Inst2::Add, index, len);
        let at = b.select(b.compare(Cmp::SLt, index, self.int(0)), from_end, index);
        self.require(b.compare(Cmp::ULt, at, len), rest);
        b.element(self.list_field(Ty::PTR, list, layout::DATA), at, size_bytes)
    }

    /// An object operand.
    pub(super) fn held(&self, arg: &Arg) -> Result<Option<Value>> {
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
