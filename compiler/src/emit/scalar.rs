//! Operations of the loop program on values of any number of lanes, shared by nests and host code: arithmetic with the loop
//! program's rules, conversions between element types, reductions of lanes.

use super::builder::{Builder, Cmp, Conv, Inst1, Inst2, Lane, Signature, Ty, Value};
use super::math;
use crate::diag::{Diagnostic, Result};
use crate::loops::{BinaryOp, Const, ReduceOp, UnaryOp};
use crate::types::DType;

/// How an element type is held in registers. Half and bfloat16 are held as their bits; only casts look into them.
///
/// # Errors
/// Types that have no lanes: complex and quantised ones.
pub(super) fn lane(dtype: DType) -> Result<Lane> {
    Ok(match dtype {
        DType::Bool => Lane::I1,
        DType::U8 | DType::I8 => Lane::I8,
        DType::I16 | DType::U16 | DType::F16 | DType::BF16 => Lane::I16,
        DType::I32 | DType::U32 => Lane::I32,
        DType::I64 | DType::U64 => Lane::I64,
        DType::F32 => Lane::F32,
        DType::F64 => Lane::F64,
        DType::C32
        | DType::C64
        | DType::C128
        | DType::QI8
        | DType::QU8
        | DType::QI32
        | DType::F8E5M2
        | DType::F8E4M3 => return Err(Diagnostic::internal(format!("a register of type {dtype}"))),
    })
}

/// A value with the element type it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Typed {
    /// The value.
    pub value: Value,
    /// Its meaning.
    pub dtype: DType,
}

/// A constant in all lanes, as a value of this element type.
pub(super) fn constant(b: &dyn Builder, constant: Const, dtype: DType, lanes: u16) -> Result<Value> {
    let ty = Ty { lane: lane(dtype)?, lanes };
    Ok(match dtype {
        DType::F16 => b.int(ty, i64::from(math::half_bits(constant.as_f64()))),
        DType::BF16 => b.int(ty, i64::from(math::bfloat_bits(constant.as_f64()))),
        _ if ty.lane.is_float() => b.float(ty, constant.as_f64()),
        DType::Bool => b.int(ty, i64::from(Const::from_f64(DType::Bool, constant.as_f64()).bits != 0)),
        _ => b.int(ty, constant.as_i64()),
    })
}

/// `op a`.
pub(super) fn unary(b: &dyn Builder, op: UnaryOp, a: Typed) -> Result<Value> {
    let (value, ty) = (a.value, a.value.ty);
    let is_float = ty.lane.is_float();
    if matches!(a.dtype, DType::F16 | DType::BF16) {
        let wide = Typed { value: cast(b, a, DType::F32)?, dtype: DType::F32 };
        let result = unary(b, op, wide)?;
        let has_type = op != UnaryOp::IsNan;
        return if has_type { cast(b, Typed { value: result, dtype: DType::F32 }, a.dtype) } else { Ok(result) };
    }
    let simple = match op {
        UnaryOp::Neg if !is_float => Some(b.inst2(Inst2::Sub, b.zero(ty), value)),
        UnaryOp::Neg => Some(b.inst1(Inst1::FNeg, value)),
        UnaryOp::Abs if is_float => Some(b.inst1(Inst1::FAbs, value)),
        UnaryOp::Abs if a.dtype.is_signed() => {
            let zero = b.zero(ty);
            Some(b.select(b.compare(Cmp::SLt, value, zero), b.inst2(Inst2::Sub, zero, value), value))
        }
        UnaryOp::Abs => Some(value),
        UnaryOp::Not => Some(b.inst2(Inst2::Xor, value, b.int(ty, -1))),
        UnaryOp::IsNan if is_float => Some(b.compare(Cmp::FUnordered, value, value)),
        UnaryOp::IsNan => Some(b.zero(ty.with(Lane::I1))),
        // Rounding leaves integers as they are.
        UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc if !is_float => Some(value),
        UnaryOp::Floor => Some(b.inst1(Inst1::Floor, value)),
        UnaryOp::Ceil => Some(b.inst1(Inst1::Ceil, value)),
        UnaryOp::Round => Some(b.inst1(Inst1::Round, value)),
        UnaryOp::Trunc => Some(b.inst1(Inst1::Trunc, value)),
        _ => None,
    };
    match simple {
        Some(value) => Ok(value),
        None if is_float => math::unary(b, op, value),
        None => Err(Diagnostic::internal(format!("{op:?} of {}", a.dtype))),
    }
}

/// `a op c` for values of one type; `second` is the right operand where it is constant, which saves checks.
pub(super) fn binary(b: &dyn Builder, op: BinaryOp, a: Typed, c: Value, second: Option<Const>) -> Result<Value> {
    if matches!(a.dtype, DType::F16 | DType::BF16) {
        let wide = |value| cast(b, Typed { value, dtype: a.dtype }, DType::F32);
        let left = Typed { value: wide(a.value)?, dtype: DType::F32 };
        let result = binary(b, op, left, wide(c)?, second)?;
        let narrow = Typed { value: result, dtype: DType::F32 };
        return if op.is_comparison() { Ok(result) } else { cast(b, narrow, a.dtype) };
    }
    if a.value.ty.lane.is_float() { float_binary(b, op, a.value, c, second) } else { int_binary(b, op, a, c, second) }
}

fn float_binary(b: &dyn Builder, op: BinaryOp, a: Value, c: Value, second: Option<Const>) -> Result<Value> {
    let is_number = second.is_some_and(|second| !second.as_f64().is_nan());
    Ok(match op {
        BinaryOp::Add => b.inst2(Inst2::FAdd, a, c),
        BinaryOp::Sub => b.inst2(Inst2::FSub, a, c),
        BinaryOp::Mul => b.inst2(Inst2::FMul, a, c),
        BinaryOp::Div => b.inst2(Inst2::FDiv, a, c),
        BinaryOp::FloorDiv => b.inst1(Inst1::Floor, b.inst2(Inst2::FDiv, a, c)),
        BinaryOp::Min | BinaryOp::Max => {
            let cmp = if op == BinaryOp::Min { Cmp::FLt } else { Cmp::FGt };
            // With a NaN on the left the comparison fails and the left one is given: one instruction on most machines.
            let plain = b.select(b.compare(cmp, c, a), c, a);
            if is_number { plain } else { b.select(b.compare(Cmp::FUnordered, c, c), c, plain) }
        }
        BinaryOp::Copysign => {
            let bits = if a.ty.lane == Lane::F32 { Lane::I32 } else { Lane::I64 };
            let sign = b.int(a.ty.with(bits), if bits == Lane::I32 { i64::from(i32::MIN) } else { i64::MIN });
            let sign_of = b.inst2(Inst2::And, b.convert(Conv::Bits, c, bits), sign);
            let size = b.convert(Conv::Bits, b.inst1(Inst1::FAbs, a), bits);
            b.convert(Conv::Bits, b.inst2(Inst2::Or, size, sign_of), a.ty.lane)
        }
        BinaryOp::Eq => b.compare(Cmp::FEq, a, c),
        BinaryOp::Ne => b.compare(Cmp::FNe, a, c),
        BinaryOp::Lt => b.compare(Cmp::FLt, a, c),
        BinaryOp::Le => b.compare(Cmp::FLe, a, c),
        BinaryOp::Gt => b.compare(Cmp::FGt, a, c),
        BinaryOp::Ge => b.compare(Cmp::FGe, a, c),
        BinaryOp::Rem => math::binary(b, "fmod", a, c),
        BinaryOp::FloorMod => {
            let rem = math::binary(b, "fmod", a, c);
            let zero = b.zero(a.ty);
            let signs = b.inst2(Inst2::Xor, b.compare(Cmp::FLt, rem, zero), b.compare(Cmp::FLt, c, zero));
            let wrong = b.inst2(Inst2::And, signs, b.compare(Cmp::FNe, rem, zero));
            b.select(wrong, b.inst2(Inst2::FAdd, rem, c), rem)
        }
        BinaryOp::Pow => math::pow(b, a, c, second.map(Const::as_f64)),
        BinaryOp::Atan2 => math::atan2(b, a, c),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr => {
            return Err(Diagnostic::internal(format!("{op:?} of floats")));
        }
    })
}

fn int_binary(b: &dyn Builder, op: BinaryOp, a: Typed, c: Value, second: Option<Const>) -> Result<Value> {
    let (dtype, a) = (a.dtype, a.value);
    let signed = |yes, no| if dtype.is_signed() { yes } else { no };
    let select = |cmp| b.select(b.compare(cmp, a, c), a, c);
    Ok(match op {
        BinaryOp::Add if dtype == DType::Bool => b.inst2(Inst2::Or, a, c),
        BinaryOp::Mul if dtype == DType::Bool => b.inst2(Inst2::And, a, c),
        BinaryOp::Min if dtype == DType::Bool => b.inst2(Inst2::And, a, c),
        BinaryOp::Max if dtype == DType::Bool => b.inst2(Inst2::Or, a, c),
        BinaryOp::Add => b.inst2(Inst2::Add, a, c),
        BinaryOp::Sub => b.inst2(Inst2::Sub, a, c),
        BinaryOp::Mul => b.inst2(Inst2::Mul, a, c),
        BinaryOp::And => b.inst2(Inst2::And, a, c),
        BinaryOp::Or => b.inst2(Inst2::Or, a, c),
        BinaryOp::Xor => b.inst2(Inst2::Xor, a, c),
        BinaryOp::Shl | BinaryOp::Shr => shift(b, op, dtype, a, c),
        BinaryOp::Min => select(signed(Cmp::SLt, Cmp::ULt)),
        BinaryOp::Max => select(signed(Cmp::SGt, Cmp::UGt)),
        BinaryOp::Eq => b.compare(Cmp::Eq, a, c),
        BinaryOp::Ne => b.compare(Cmp::Ne, a, c),
        BinaryOp::Lt => b.compare(signed(Cmp::SLt, Cmp::ULt), a, c),
        BinaryOp::Le => b.compare(signed(Cmp::SLe, Cmp::ULe), a, c),
        BinaryOp::Gt => b.compare(signed(Cmp::SGt, Cmp::UGt), a, c),
        BinaryOp::Ge => b.compare(signed(Cmp::SGe, Cmp::UGe), a, c),
        BinaryOp::Div | BinaryOp::Rem | BinaryOp::FloorDiv | BinaryOp::FloorMod if dtype == DType::Bool => {
            return Err(Diagnostic::internal(format!("{op:?} of booleans")));
        }
        BinaryOp::Div | BinaryOp::Rem | BinaryOp::FloorDiv | BinaryOp::FloorMod => {
            divide(b, op, dtype.is_signed(), a, c, second)
        }
        BinaryOp::Pow => {
            let wide = |value| cast(b, Typed { value, dtype }, DType::I64);
            let signature = Signature::new(&[Ty::I64, Ty::I64], Some(Ty::I64));
            let result = math::call_lanes(b, "aot_rt_pow_int", &signature, &[wide(a)?, wide(c)?]);
            return cast(b, Typed { value: result, dtype: DType::I64 }, dtype);
        }
        BinaryOp::Atan2 | BinaryOp::Copysign => return Err(Diagnostic::internal(format!("{op:?} of integers"))),
    })
}

/// Shifts; amounts of the width and more shift everything out (arithmetically for signed types), negative ones as well.
fn shift(b: &dyn Builder, op: BinaryOp, dtype: DType, a: Value, c: Value) -> Value {
    let width = i64::try_from(a.ty.lane.size_bytes() * 8).unwrap_or(64);
    let fits = b.compare(Cmp::ULt, c, b.int(a.ty, width));
    let most = b.int(a.ty, width - 1);
    let amount = b.select(fits, c, most);
    match (op, dtype.is_signed()) {
        (BinaryOp::Shl, _) => b.select(fits, b.inst2(Inst2::Shl, a, amount), b.zero(a.ty)),
        (_, true) => b.inst2(Inst2::AShr, a, amount),
        (_, false) => b.select(fits, b.inst2(Inst2::LShr, a, amount), b.zero(a.ty)),
    }
}

/// The four integer divisions. Lanes that no one looks at (behind a mask) may hold any divisor, so unless it is constant
/// the machine's division never sees 0 or -1.
fn divide(b: &dyn Builder, op: BinaryOp, is_signed: bool, a: Value, c: Value, second: Option<Const>) -> Value {
    let (zero, one) = (b.zero(a.ty), b.int(a.ty, 1));
    let is_remainder = matches!(op, BinaryOp::Rem | BinaryOp::FloorMod);
    let is_floor = matches!(op, BinaryOp::FloorDiv | BinaryOp::FloorMod);
    let second = second.map(Const::as_i64).filter(|&second| second != 0);
    if !is_signed {
        let safe = if second.is_some() { c } else { b.select(b.compare(Cmp::Eq, c, zero), one, c) };
        return b.inst2(if is_remainder { Inst2::URem } else { Inst2::UDiv }, a, safe);
    }
    if let Some(power) = second.filter(|&second| second > 0 && second.count_ones() == 1 && is_floor) {
        // Two's complement rounds shifts and masks down.
        return if is_remainder {
            b.inst2(Inst2::And, a, b.int(a.ty, power - 1))
        } else {
            b.inst2(Inst2::AShr, a, b.int(a.ty, i64::from(power.trailing_zeros())))
        };
    }
    let is_minus_one = b.compare(Cmp::Eq, c, b.int(a.ty, -1));
    let safe = match second {
        Some(-1) => one,
        Some(_) => c,
        None => b.select(b.inst2(Inst2::Or, is_minus_one, b.compare(Cmp::Eq, c, zero)), one, c),
    };
    let quotient = b.inst2(Inst2::SDiv, a, safe);
    let remainder = b.inst2(Inst2::Sub, a, b.inst2(Inst2::Mul, quotient, safe));
    // Wherever -1 became 1 the remainder is 0, as it should be; the quotient changes its sign.
    let may_be_minus_one = matches!(second, None | Some(-1));
    let signed_quotient =
        if may_be_minus_one { b.select(is_minus_one, b.inst2(Inst2::Sub, zero, quotient), quotient) } else { quotient };
    if !is_floor {
        return if is_remainder { remainder } else { signed_quotient };
    }
    // Rounding down differs from truncation where there is a remainder whose sign is not the divisor's.
    let signs = b.compare(Cmp::SLt, b.inst2(Inst2::Xor, remainder, safe), zero);
    let differs = b.inst2(Inst2::And, signs, b.compare(Cmp::Ne, remainder, zero));
    if is_remainder {
        b.select(differs, b.inst2(Inst2::Add, remainder, safe), remainder)
    } else {
        b.select(differs, b.inst2(Inst2::Sub, signed_quotient, one), signed_quotient)
    }
}

/// Conversion with the rules of `Expr::Cast`.
pub(super) fn cast(b: &dyn Builder, a: Typed, to: DType) -> Result<Value> {
    let (from, value) = (a.dtype, a.value);
    if from == to {
        return Ok(value);
    }
    let narrow = |dtype| matches!(dtype, DType::F16 | DType::BF16);
    if narrow(from) {
        let wide = if from == DType::F16 { math::half_to_float(b, value) } else { math::bfloat_to_float(b, value) };
        return cast(b, Typed { value: wide, dtype: DType::F32 }, to);
    }
    if narrow(to) {
        let float = cast(b, a, DType::F32)?;
        return Ok(if to == DType::F16 { math::float_to_half(b, float) } else { math::float_to_bfloat(b, float) });
    }
    let (ty, target) = (value.ty, lane(to)?);
    let size = |lane: Lane| lane.size_bytes();
    Ok(match (ty.lane.is_float(), target.is_float()) {
        _ if to == DType::Bool && ty.lane.is_float() => b.compare(Cmp::FNe, value, b.zero(ty)),
        _ if to == DType::Bool => b.compare(Cmp::Ne, value, b.zero(ty)),
        (false, true) if from == DType::Bool => {
            b.select(value, b.float(ty.with(target), 1.0), b.float(ty.with(target), 0.0))
        }
        (false, false) if from == DType::Bool => b.convert(Conv::ZExt, value, target),
        (false, false) if size(ty.lane) == size(target) => value,
        (false, false) if size(ty.lane) > size(target) => b.convert(Conv::Trunc, value, target),
        (false, false) => b.convert(if from.is_signed() { Conv::SExt } else { Conv::ZExt }, value, target),
        (true, true) => b.convert(if size(ty.lane) < size(target) { Conv::FExt } else { Conv::FTrunc }, value, target),
        (false, true) if from == DType::U64 => b.convert(Conv::UToF, value, target),
        (false, true) => {
            // Small integers go through 32 bits, which vector units convert at once; so do none through unsigned.
            let through = match (ty.lane, from) {
                (Lane::I8 | Lane::I16, _) => Lane::I32,
                (_, DType::U32) => Lane::I64,
                (lane, _) => lane,
            };
            let extend = if from.is_signed() { Conv::SExt } else { Conv::ZExt };
            let wide = if through == ty.lane { value } else { b.convert(extend, value, through) };
            b.convert(Conv::SToF, wide, target)
        }
        (true, false) if to == DType::U64 => {
            // Below 2^63 signed conversion serves, negative numbers wrap; above, it takes the unsigned one.
            let is_large = b.compare(Cmp::FGe, value, b.float(ty, 9_223_372_036_854_775_808.0));
            let small = b.select(is_large, b.zero(ty), value);
            let large = b.select(is_large, value, b.zero(ty));
            b.select(is_large, b.convert(Conv::FToU, large, target), b.convert(Conv::FToS, small, target))
        }
        (true, false) => {
            let through = match (target, to) {
                (Lane::I8 | Lane::I16, _) => Lane::I32,
                (_, DType::U32) => Lane::I64,
                (lane, _) => lane,
            };
            let wide = b.convert(Conv::FToS, value, through);
            if through == target { wide } else { b.convert(Conv::Trunc, wide, target) }
        }
    })
}

/// All lanes combined: halves with halves, so the order is fixed.
pub(super) fn horizontal(b: &dyn Builder, op: ReduceOp, a: Typed) -> Result<Value> {
    let mut value = a.value;
    if value.ty.lane == Lane::I1 && value.ty.lanes > 1 {
        let all = |value| {
            let not = |value: Value| b.inst2(Inst2::Xor, value, b.int(value.ty, 1));
            not(b.any(not(value)))
        };
        return match op {
            ReduceOp::And | ReduceOp::Min | ReduceOp::Prod => Ok(all(value)),
            ReduceOp::Or | ReduceOp::Max | ReduceOp::Sum => Ok(b.any(value)),
            ReduceOp::ArgMax | ReduceOp::ArgMin => Err(Diagnostic::internal("a position of a mask's lanes")),
        };
    }
    let op = match op {
        ReduceOp::Sum => BinaryOp::Add,
        ReduceOp::Prod => BinaryOp::Mul,
        ReduceOp::Max => BinaryOp::Max,
        ReduceOp::Min => BinaryOp::Min,
        ReduceOp::And => BinaryOp::And,
        ReduceOp::Or => BinaryOp::Or,
        ReduceOp::ArgMax | ReduceOp::ArgMin => {
            return Err(Diagnostic::internal("positions are reduced by selects, not across lanes"));
        }
    };
    while value.ty.lanes > 1 {
        let low = Typed { value: b.half(value, false), dtype: a.dtype };
        value = binary(b, op, low, b.half(value, true), None)?;
    }
    Ok(value)
}
