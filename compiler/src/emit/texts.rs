//! Texts that are put together of others and of integers: a text that nothing else refers to is made longer where it lies.
//!
//! A few letters that are known and for which there is room are stored without a call.

use super::builder::{Cmp, Inst2, Lane, Part, Ty, Value};
use super::host::Host;
use crate::diag::{Diagnostic, Result};
use crate::loops::{Arg, Operand, VarId, VarType};
use aot_runtime::object::layout;

/// The most letters that are stored one by one.
const FEW: usize = 16;

impl Host<'_> {
    /// Emits what a routine puts together; `false` if it does more than appending texts and integers.
    pub(super) fn put_together(
        &self,
        routine: &str,
        args: &[Arg],
        results: &[VarId],
        taken: Option<VarId>,
    ) -> Result<bool> {
        let ("str_format" | "str_extend", [Arg::Scalar(Operand::Str(template)), parts @ ..], &[result]) =
            (routine, args, results)
        else {
            return Ok(false);
        };
        if **template != *"{}".repeat(parts.len()) || !parts.iter().all(|part| self.is_text_or_int(part)) {
            return Ok(false);
        }
        let b = self.b;
        let missing = || Diagnostic::internal("a call without its result");
        let (text, parts) = if let Some(var) = taken {
            (self.own_text(self.take(var)), &parts[1..])
        } else {
            (self.runtime("aot_rt_text_new", &[], Some(Ty::PTR), &[]), parts)
        };
        let text = text.ok_or_else(missing)?;
        for part in parts {
            match part {
                Arg::Scalar(Operand::Str(more)) => self.add_letters(text, more.as_bytes()),
                Arg::Scalar(operand) => {
                    let value = self.number(operand)?.value;
                    let name =
                        if value.ty.lane == Lane::Ptr { "aot_rt_text_add_object" } else { "aot_rt_text_add_int" };
                    self.runtime(name, &[Ty::PTR, value.ty], None, &[text, value]);
                }
                Arg::Buffer(_) => return Err(missing()),
            }
        }
        debug_assert_eq!(text.ty, b.get(self.vars[result]).ty, "texts are objects");
        self.assign(result, text);
        Ok(true)
    }

    fn is_text_or_int(&self, part: &Arg) -> bool {
        match part {
            Arg::Scalar(Operand::Str(_)) => true,
            Arg::Scalar(Operand::Var(var)) => matches!(self.var_type(*var), VarType::Object | VarType::Int),
            Arg::Scalar(Operand::Const(_)) | Arg::Buffer(_) => false,
        }
    }

    /// An owned object as a text to which nothing else refers.
    fn own_text(&self, object: Value) -> Option<Value> {
        let b = self.b;
        let text = b.variable(Ty::PTR);
        b.set(text, object);
        let (rest, next) = (b.label(), b.label());
        self.require(b.compare(Cmp::Ne, self.to_bits(object), self.int(0)), rest);
        let count = b.load_part(Ty::I64, self.at(object, layout::COUNT), Part::Fields);
        self.require(b.compare(Cmp::Eq, count, self.int(1)), rest);
        let variant = b.load_part(Ty::I64, self.at(object, layout::VARIANT), Part::Fields);
        self.require(b.compare(Cmp::Eq, variant, self.int(layout::IS_TEXT)), rest);
        b.jump(next);
        b.place(rest);
        b.set(text, self.runtime("aot_rt_text_begin", &[Ty::PTR], Some(Ty::PTR), &[object])?);
        b.jump(next);
        b.place(next);
        Some(b.get(text))
    }

    fn add_letters(&self, text: Value, letters: &[u8]) {
        let b = self.b;
        let n = self.int(i64::try_from(letters.len()).unwrap_or(i64::MAX));
        let (rest, next) = (b.label(), b.label());
        if letters.len() <= FEW {
            let field = |ty, offset| b.load_part(ty, self.at(text, offset), Part::Fields);
            let len = field(Ty::I64, layout::TEXT_LEN);
            let end = b.inst2(Inst2::Add, len, n);
            self.require(b.compare(Cmp::ULe, end, field(Ty::I64, layout::TEXT_CAPACITY)), rest);
            let at = b.element(field(Ty::PTR, layout::TEXT_DATA), len, 1);
            for (i, &letter) in letters.iter().enumerate() {
                b.store_part(b.int(Ty::scalar(Lane::I8), i64::from(letter)), self.at(at, i), Part::Items);
            }
            b.store_part(end, self.at(text, layout::TEXT_LEN), Part::Fields);
            b.jump(next);
        } else {
            b.jump(rest);
        }
        b.place(rest);
        self.runtime("aot_rt_text_add", &[Ty::PTR, Ty::PTR, Ty::I64], None, &[text, b.bytes(letters), n]);
        b.jump(next);
        b.place(next);
    }
}
