//! The running state of a reduction.

use super::column::Column;
use crate::loops::ReduceOp;
use crate::types::DType;
use std::ops::Range;

/// What a reduction has taken in so far. Sums of floats are kept in `f64`.
#[derive(Clone, Debug)]
pub(super) struct State {
    op: ReduceOp,
    dtype: DType,
    /// The value: `f64` bits for floats, sign-extended for integers, 0 or 1 for booleans.
    bits: u64,
    payload: i64,
    is_started: bool,
}

impl State {
    /// The start of a reduction of values of this type.
    pub(super) fn new(op: ReduceOp, dtype: DType) -> Result<Self, String> {
        let is_computed = dtype == DType::Bool || dtype.is_integer() || matches!(dtype, DType::F32 | DType::F64);
        let is_logical = matches!(op, ReduceOp::And | ReduceOp::Or);
        if !is_computed || is_logical && dtype.is_floating_point() {
            return Err(format!("{op:?} of {dtype} values"));
        }
        let mut state = Self { op, dtype, bits: 0, payload: 0, is_started: false };
        state.reset();
        Ok(state)
    }

    /// Starts again.
    pub(super) fn reset(&mut self) {
        let (least, greatest) = match self.dtype {
            DType::Bool => (0, 1),
            d if d.is_floating_point() => (f64::NEG_INFINITY.to_bits(), f64::INFINITY.to_bits()),
            d if d.is_signed() => {
                let least = i64::MIN >> (64 - 8 * d.size_bytes());
                (least.cast_unsigned(), (!least).cast_unsigned())
            }
            d => (0, u64::MAX >> (64 - 8 * d.size_bytes())),
        };
        let one = if self.dtype.is_floating_point() { 1f64.to_bits() } else { 1 };
        self.bits = match self.op {
            ReduceOp::Sum | ReduceOp::Or => 0,
            ReduceOp::Prod => one,
            ReduceOp::Max | ReduceOp::ArgMax => least,
            ReduceOp::Min | ReduceOp::ArgMin => greatest,
            ReduceOp::And if self.dtype == DType::Bool => 1,
            ReduceOp::And => u64::MAX,
        };
        (self.payload, self.is_started) = (0, false);
    }

    /// Takes in the values in this range; `payload` belongs to arg reductions.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the state's bits hold the type's value"
    )]
    #[allow(clippy::cast_lossless, clippy::cast_possible_wrap, reason = "the state's bits hold the type's value")]
    pub(super) fn fold(
        &mut self,
        column: &Column,
        payload: Option<&Column>,
        range: Range<usize>,
    ) -> Result<(), String> {
        if matches!(self.op, ReduceOp::ArgMax | ReduceOp::ArgMin) {
            let payload = payload.ok_or("an arg reduction has no payload")?.ints()?;
            return self.fold_arg(column, &payload[range.clone()], range);
        }
        macro_rules! ints {
            ($v:ident, $t:ty) => {{
                let (v, start) = (&$v[range], self.bits as $t);
                let out = match self.op {
                    ReduceOp::Sum => v.iter().fold(start, |a, &x| a.wrapping_add(x)),
                    ReduceOp::Prod => v.iter().fold(start, |a, &x| a.wrapping_mul(x)),
                    ReduceOp::Max => v.iter().fold(start, |a, &x| a.max(x)),
                    ReduceOp::Min => v.iter().fold(start, |a, &x| a.min(x)),
                    ReduceOp::And => v.iter().fold(start, |a, &x| a & x),
                    ReduceOp::Or | ReduceOp::ArgMax | ReduceOp::ArgMin => v.iter().fold(start, |a, &x| a | x),
                };
                self.bits = out as i64 as u64;
            }};
        }
        macro_rules! floats {
            ($v:ident, $t:ty) => {{
                let (v, start) = (&$v[range], f64::from_bits(self.bits));
                let out = match self.op {
                    ReduceOp::Sum => v.iter().fold(start, |a, &x| a + x as f64),
                    ReduceOp::Prod => v.iter().fold(start as $t, |a, &x| a * x) as f64,
                    ReduceOp::Max => v.iter().fold(start as $t, |a, &x| if a > x || a.is_nan() { a } else { x }) as f64,
                    _ => v.iter().fold(start as $t, |a, &x| if a < x || a.is_nan() { a } else { x }) as f64,
                };
                self.bits = out.to_bits();
            }};
        }
        match column {
            Column::Bool(v) => {
                let (v, start) = (&v[range], self.bits != 0);
                let is_all = matches!(self.op, ReduceOp::And | ReduceOp::Min | ReduceOp::Prod);
                let out = if is_all { start && v.iter().all(|&x| x) } else { start || v.iter().any(|&x| x) };
                self.bits = u64::from(out);
            }
            Column::U8(v) => ints!(v, u8),
            Column::I8(v) => ints!(v, i8),
            Column::I16(v) => ints!(v, i16),
            Column::I32(v) => ints!(v, i32),
            Column::I64(v) => ints!(v, i64),
            Column::U16(v) => ints!(v, u16),
            Column::U32(v) => ints!(v, u32),
            Column::U64(v) => ints!(v, u64),
            Column::F32(v) => floats!(v, f32),
            Column::F64(v) => floats!(v, f64),
            Column::F16(_) | Column::BF16(_) | Column::C64(_) | Column::C128(_) => {
                return Err("a reduction of a type that has no arithmetic".into());
            }
        }
        Ok(())
    }

    /// The first point with the greatest or least value; NaN beats all.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the state's bits hold the type's value"
    )]
    #[allow(clippy::cast_lossless, clippy::cast_possible_wrap, reason = "the state's bits hold the type's value")]
    fn fold_arg(&mut self, column: &Column, payload: &[i64], range: Range<usize>) -> Result<(), String> {
        let is_max = self.op == ReduceOp::ArgMax;
        macro_rules! arg {
            ($v:ident, $from:expr, $to:expr) => {{
                let mut best = $from(self.bits);
                for (&x, &p) in $v[range].iter().zip(payload) {
                    #[allow(clippy::eq_op, reason = "NaN is not itself, and integers have none")]
                    let is_better = best == best && (x != x || if is_max { x > best } else { x < best });
                    if !self.is_started || is_better {
                        (best, self.payload, self.is_started) = (x, p, true);
                    }
                }
                self.bits = $to(best);
            }};
        }
        match column {
            Column::Bool(v) => arg!(v, |b: u64| b != 0, |x: bool| x as u64),
            Column::U8(v) => arg!(v, |b: u64| b as u8, |x: u8| x as u64),
            Column::I8(v) => arg!(v, |b: u64| b as i8, |x: i8| x as i64 as u64),
            Column::I16(v) => arg!(v, |b: u64| b as i16, |x: i16| x as i64 as u64),
            Column::I32(v) => arg!(v, |b: u64| b as i32, |x: i32| x as i64 as u64),
            Column::I64(v) => arg!(v, |b: u64| b as i64, |x: i64| x as u64),
            Column::U16(v) => arg!(v, |b: u64| b as u16, |x: u16| x as u64),
            Column::U32(v) => arg!(v, |b: u64| b as u32, |x: u32| x as u64),
            Column::U64(v) => arg!(v, |b: u64| b, |x: u64| x),
            Column::F32(v) => arg!(v, |b: u64| f64::from_bits(b) as f32, |x: f32| (x as f64).to_bits()),
            Column::F64(v) => arg!(v, f64::from_bits, f64::to_bits),
            Column::F16(_) | Column::BF16(_) | Column::C64(_) | Column::C128(_) => {
                return Err("a reduction of a type that has no order".into());
            }
        }
        Ok(())
    }

    /// An empty column of the result's type.
    pub(super) fn column(&self) -> Result<Column, String> {
        let is_arg = matches!(self.op, ReduceOp::ArgMax | ReduceOp::ArgMin);
        Column::empty(if is_arg { DType::I64 } else { self.dtype })
    }

    /// Appends the present result.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "the state's bits hold the type's value"
    )]
    pub(super) fn push_to(&self, out: &mut Column) -> Result<(), String> {
        let bits = self.bits;
        if matches!(self.op, ReduceOp::ArgMax | ReduceOp::ArgMin) {
            let Column::I64(v) = out else { return Err("an arg reduction gives an int64".into()) };
            v.push(self.payload);
            return Ok(());
        }
        match out {
            Column::Bool(v) => v.push(bits != 0),
            Column::U8(v) => v.push(bits as u8),
            Column::I8(v) => v.push(bits as i8),
            Column::I16(v) => v.push(bits as i16),
            Column::I32(v) => v.push(bits as i32),
            Column::I64(v) => v.push(bits as i64),
            Column::U16(v) => v.push(bits as u16),
            Column::U32(v) => v.push(bits as u32),
            Column::U64(v) => v.push(bits),
            Column::F32(v) => v.push(f64::from_bits(bits) as f32),
            Column::F64(v) => v.push(f64::from_bits(bits)),
            Column::F16(_) | Column::BF16(_) | Column::C64(_) | Column::C128(_) => {
                return Err("a reduction of a type that has no arithmetic".into());
            }
        }
        Ok(())
    }
}
