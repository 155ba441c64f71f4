//! Numbers of the host: TorchScript's arithmetic on `int`, `float` and `bool`, folded where it is known.

use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Const, Operand, UnaryOp, VarType};
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::value::{Tensor, Value, int, known, known_int};
use crate::ops::{Lowering, OpDef};
use crate::types::DType;

/// Definitions for the overloads that operators on two numbers have.
macro_rules! binary_defs {
    ($($name:literal => $lower:expr,)*) => {
        &[$(
            OpDef { name: $name, lower: $lower },
            OpDef { name: concat!($name, ".int"), lower: $lower },
            OpDef { name: concat!($name, ".float"), lower: $lower },
            OpDef { name: concat!($name, ".int_float"), lower: $lower },
            OpDef { name: concat!($name, ".float_int"), lower: $lower },
        )*]
    };
}

/// Definitions for the overloads that functions of one number have.
macro_rules! unary_defs {
    ($($name:literal => $lower:expr,)*) => {
        &[$(
            OpDef { name: concat!($name, ".int"), lower: $lower },
            OpDef { name: concat!($name, ".float"), lower: $lower },
            OpDef { name: concat!($name, ".Scalar"), lower: $lower },
        )*]
    };
}

/// Operators on two numbers.
pub const BINARY_DEFS: &[OpDef] = binary_defs! {
    "aten::add" => |b, a| arithmetic(b, a, BinaryOp::Add),
    "aten::sub" => |b, a| arithmetic(b, a, BinaryOp::Sub),
    "aten::mul" => |b, a| arithmetic(b, a, BinaryOp::Mul),
    "aten::div" => |b, a| floats(b, a, BinaryOp::Div),
    "aten::floordiv" => floordiv,
    "aten::remainder" => remainder,
    "aten::fmod" => |b, a| floats(b, a, BinaryOp::Rem),
    "aten::mathremainder" => ieee_remainder,
    "aten::copysign" => |b, a| floats(b, a, BinaryOp::Copysign),
    "aten::divmod" => divmod,
    "aten::lt" => |b, a| compare(b, a, BinaryOp::Lt),
    "aten::le" => |b, a| compare(b, a, BinaryOp::Le),
    "aten::gt" => |b, a| compare(b, a, BinaryOp::Gt),
    "aten::ge" => |b, a| compare(b, a, BinaryOp::Ge),
    "aten::eq" => |b, a| compare(b, a, BinaryOp::Eq),
    "aten::ne" => |b, a| compare(b, a, BinaryOp::Ne),
    "prim::min" => |b, a| arithmetic(b, a, BinaryOp::Min),
    "prim::max" => |b, a| arithmetic(b, a, BinaryOp::Max),
};

/// Functions of one number.
pub const UNARY_DEFS: &[OpDef] = unary_defs! {
    "aten::neg" => |b, a| keeping(b, a, UnaryOp::Neg),
    "prim::abs" => |b, a| keeping(b, a, UnaryOp::Abs),
    "aten::fabs" => |b, a| float(b, a, UnaryOp::Abs),
    "aten::floor" => |b, a| to_int(b, a, UnaryOp::Floor),
    "aten::ceil" => |b, a| to_int(b, a, UnaryOp::Ceil),
    "aten::round" => |b, a| float(b, a, UnaryOp::Round),
    "aten::sqrt" => |b, a| float(b, a, UnaryOp::Sqrt),
    "aten::exp" => |b, a| float(b, a, UnaryOp::Exp),
    "aten::expm1" => |b, a| float(b, a, UnaryOp::Expm1),
    "aten::log" => |b, a| float(b, a, UnaryOp::Log),
    "aten::log10" => |b, a| float(b, a, UnaryOp::Log10),
    "aten::log1p" => |b, a| float(b, a, UnaryOp::Log1p),
    "aten::sin" => |b, a| float(b, a, UnaryOp::Sin),
    "aten::cos" => |b, a| float(b, a, UnaryOp::Cos),
    "aten::tan" => |b, a| float(b, a, UnaryOp::Tan),
    "aten::asin" => |b, a| float(b, a, UnaryOp::Asin),
    "aten::acos" => |b, a| float(b, a, UnaryOp::Acos),
    "aten::atan" => |b, a| float(b, a, UnaryOp::Atan),
    "aten::sinh" => |b, a| float(b, a, UnaryOp::Sinh),
    "aten::cosh" => |b, a| float(b, a, UnaryOp::Cosh),
    "aten::tanh" => |b, a| float(b, a, UnaryOp::Tanh),
    "aten::asinh" => |b, a| float(b, a, UnaryOp::Asinh),
    "aten::acosh" => |b, a| float(b, a, UnaryOp::Acosh),
    "aten::atanh" => |b, a| float(b, a, UnaryOp::Atanh),
    "aten::erf" => |b, a| float(b, a, UnaryOp::Erf),
    "aten::erfc" => |b, a| float(b, a, UnaryOp::Erfc),
    "aten::lgamma" => |b, a| float(b, a, UnaryOp::Lgamma),
    "aten::gamma" => gamma,
    "aten::degrees" => |b, a| scaled(b, a, 180.0 / std::f64::consts::PI),
    "aten::radians" => |b, a| scaled(b, a, std::f64::consts::PI / 180.0),
};

/// The rest of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::eq.bool", lower: |b, a| compare(b, a, BinaryOp::Eq) },
    OpDef { name: "aten::ne.bool", lower: |b, a| compare(b, a, BinaryOp::Ne) },
    OpDef { name: "aten::pow.int", lower: power },
    OpDef { name: "aten::pow.float", lower: power },
    OpDef { name: "aten::pow.int_float", lower: power },
    OpDef { name: "aten::pow.float_int", lower: power },
    OpDef { name: "aten::pow.Scalar_Scalar", lower: power },
    OpDef { name: "aten::pow.int_to_int", lower: power_of_ints },
    OpDef { name: "aten::atan2.int", lower: |b, a| floats(b, a, BinaryOp::Atan2) },
    OpDef { name: "aten::atan2.float", lower: |b, a| floats(b, a, BinaryOp::Atan2) },
    OpDef { name: "aten::atan2.int_float", lower: |b, a| floats(b, a, BinaryOp::Atan2) },
    OpDef { name: "aten::atan2.float_int", lower: |b, a| floats(b, a, BinaryOp::Atan2) },
    OpDef { name: "aten::atan2.Scalar_Scalar", lower: |b, a| floats(b, a, BinaryOp::Atan2) },
    OpDef { name: "aten::log.int_int", lower: log_base },
    OpDef { name: "aten::log.int_float", lower: log_base },
    OpDef { name: "aten::log.float_int", lower: log_base },
    OpDef { name: "aten::log.float_float", lower: log_base },
    OpDef { name: "aten::log.Scalar_Scalar", lower: log_base },
    OpDef { name: "aten::__and__.int", lower: |b, a| arithmetic(b, a, BinaryOp::And) },
    OpDef { name: "aten::__or__.int", lower: |b, a| arithmetic(b, a, BinaryOp::Or) },
    OpDef { name: "aten::__xor__.int", lower: |b, a| arithmetic(b, a, BinaryOp::Xor) },
    OpDef { name: "aten::__lshift__.int", lower: |b, a| shift(b, a, BinaryOp::Shl) },
    OpDef { name: "aten::__rshift__.int", lower: |b, a| shift(b, a, BinaryOp::Shr) },
    OpDef { name: "aten::__and__.bool", lower: |b, a| logical(b, a, BinaryOp::And) },
    OpDef { name: "aten::__or__.bool", lower: |b, a| logical(b, a, BinaryOp::Or) },
    OpDef { name: "aten::__xor__.bool", lower: |b, a| logical(b, a, BinaryOp::Xor) },
    OpDef { name: "aten::__not__", lower: not },
    OpDef { name: "aten::__round_to_zero_floordiv.int", lower: truncated_quotient },
    OpDef { name: "aten::gcd.int", lower: gcd },
    OpDef { name: "aten::factorial.int", lower: factorial },
    OpDef { name: "aten::ldexp", lower: ldexp },
    OpDef { name: "aten::frexp", lower: frexp },
    OpDef { name: "aten::modf", lower: modf },
    OpDef { name: "aten::isnan.float", lower: isnan },
    OpDef { name: "aten::isinf.float", lower: isinf },
    OpDef { name: "aten::isfinite.float", lower: isfinite },
    OpDef { name: "aten::Int", lower: int_of },
    OpDef { name: "aten::Float", lower: float_of },
    OpDef { name: "aten::Bool", lower: bool_of },
    OpDef { name: "aten::IntImplicit", lower: |b, a| implicit(b, a, int_of) },
    OpDef { name: "aten::FloatImplicit", lower: |b, a| implicit(b, a, float_of) },
    OpDef { name: "aten::ScalarImplicit", lower: |b, a| implicit(b, a, item) },
    OpDef { name: "aten::item", lower: item },
    OpDef { name: "aten::_local_scalar_dense", lower: item },
    OpDef { name: "prim::NumToTensor", lower: num_to_tensor },
    OpDef { name: "aten::__range_length", lower: range_length },
    OpDef { name: "aten::__derive_index", lower: derive_index },
    OpDef { name: "aten::__is__", lower: |b, a| is(b, a, true) },
    OpDef { name: "aten::__isnot__", lower: |b, a| is(b, a, false) },
];

fn real(value: f64) -> Operand {
    Operand::Const(Const::float(DType::F64, value))
}

/// An operand with the kind of value its type says it is.
pub fn number_value(b: &Builder<'_>, operand: Operand) -> Value {
    match b.operand_type(&operand).dtype() {
        Some(DType::Bool) => Value::Bool(operand),
        Some(DType::F64) => Value::Float(operand),
        _ => Value::Int(operand),
    }
}

/// The two first arguments as numbers of one type: floats if either is one.
fn pair(b: &mut Builder<'_>, args: &Args<'_>) -> Result<(Operand, Operand, bool)> {
    let (x, y) = (args.number(b, 0)?, args.number(b, 1)?);
    let is = |b: &Builder<'_>, o: &Operand| b.operand_type(o).dtype() == Some(DType::F64);
    let is_float = is(b, &x) || is(b, &y);
    let dtype = if is_float { DType::F64 } else { DType::I64 };
    Ok((b.cast(dtype, x), b.cast(dtype, y), is_float))
}

fn float_pair(b: &mut Builder<'_>, args: &Args<'_>) -> Result<(Operand, Operand)> {
    Ok((args.float(b, 0)?, args.float(b, 1)?))
}

fn arithmetic(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    if args.values.iter().any(|v| matches!(v, Value::Complex(..))) {
        return super::complex::binary(b, args, op);
    }
    let (x, y, is_float) = pair(b, args)?;
    let result = b.binary(op, x, y);
    Ok(if is_float { Value::Float(result) } else { Value::Int(result) })
}

/// A shift by the count's lowest six bits, as processors shift: those beyond are not looked at.
fn shift(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let (x, count) = (args.int(b, 0)?, args.int(b, 1)?);
    let count = b.binary(BinaryOp::And, count, int(63));
    Ok(Value::Int(b.binary(op, x, count)))
}

fn floats(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    if args.values.iter().any(|v| matches!(v, Value::Complex(..))) {
        return super::complex::binary(b, args, op);
    }
    let (x, y) = float_pair(b, args)?;
    Ok(Value::Float(b.binary(op, x, y)))
}

/// Ends the program where 0 is raised to a negative power.
fn check_power(b: &mut Builder<'_>, args: &Args<'_>) -> Result<()> {
    if args.values.iter().any(|v| matches!(v, Value::Complex(..))) {
        return Ok(());
    }
    let (x, y) = float_pair(b, args)?;
    let is_positive = |c: Const| f64::from_bits(c.bits) >= 0.0;
    if known(&y).is_some_and(is_positive) || known(&x).is_some_and(|c| f64::from_bits(c.bits) != 0.0) {
        return Ok(());
    }
    let is_fine = b.binary(BinaryOp::Ne, x, real(0.0));
    let is_not_negative = b.binary(BinaryOp::Ge, y.clone(), real(0.0));
    // Not a number is not less than 0.
    let is_nan = b.binary(BinaryOp::Ne, y.clone(), y);
    let is_not_negative = b.binary(BinaryOp::Or, is_not_negative, is_nan);
    let is_fine = b.binary(BinaryOp::Or, is_fine, is_not_negative);
    b.check(is_fine, "0.0 cannot be raised to a negative power");
    Ok(())
}

fn power(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    check_power(b, args)?;
    floats(b, args, BinaryOp::Pow)
}

fn power_of_ints(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    check_power(b, args)?;
    arithmetic(b, args, BinaryOp::Pow)
}

fn compare(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    if args.values.iter().any(|v| matches!(v, Value::Complex(..))) {
        return super::complex::binary(b, args, op);
    }
    let (x, y, _) = pair(b, args)?;
    Ok(Value::Bool(b.binary(op, x, y)))
}

/// An integer division, after the check that the divisor is not 0.
fn divide(b: &mut Builder<'_>, op: BinaryOp, x: Operand, y: Operand, message: &str) -> Operand {
    let is_fine = b.binary(BinaryOp::Ne, y.clone(), int(0));
    b.check(is_fine, message);
    if known_int(&y) == Some(0) { int(0) } else { b.binary(op, x, y) }
}

fn floordiv(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y, is_float) = pair(b, args)?;
    if is_float {
        let quotient = b.binary(BinaryOp::Div, x, y);
        return Ok(Value::Float(b.unary(UnaryOp::Floor, quotient)));
    }
    Ok(Value::Int(divide(b, BinaryOp::FloorDiv, x, y, "division by 0")))
}

fn truncated_quotient(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y, _) = pair(b, args)?;
    Ok(Value::Int(divide(b, BinaryOp::Div, x, y, "division by 0")))
}

/// The remainder with the sign of the divisor; of floats as `fmod(fmod(x, y) + y, y)`.
fn remainder(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y, is_float) = pair(b, args)?;
    if is_float {
        let rest = b.binary(BinaryOp::Rem, x, y.clone());
        let moved = b.binary(BinaryOp::Add, rest, y.clone());
        return Ok(Value::Float(b.binary(BinaryOp::Rem, moved, y)));
    }
    Ok(Value::Int(divide(b, BinaryOp::FloorMod, x, y, "integer modulo by zero")))
}

/// `x - y * n` for the whole n nearest to `x / y`, half to even.
fn ieee_remainder(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = float_pair(b, args)?;
    let quotient = b.binary(BinaryOp::Div, x.clone(), y.clone());
    let n = b.unary(UnaryOp::Round, quotient);
    let whole = b.binary(BinaryOp::Mul, y, n);
    Ok(Value::Float(b.binary(BinaryOp::Sub, x, whole)))
}

fn divmod(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y, is_float) = pair(b, args)?;
    if is_float {
        let is_fine = b.binary(BinaryOp::Ne, y.clone(), real(0.0));
        b.check(is_fine, "ZeroDivisionError: float divmod()");
        let rest = b.binary(BinaryOp::Rem, x.clone(), y.clone());
        let moved = b.binary(BinaryOp::Add, rest, y.clone());
        let rest = b.binary(BinaryOp::Rem, moved, y.clone());
        let whole = b.binary(BinaryOp::Sub, x, rest.clone());
        let quotient = b.binary(BinaryOp::Div, whole, y);
        return Ok(Value::Tuple(vec![Value::Float(quotient), Value::Float(rest)], None));
    }
    let message = "ZeroDivisionError: integer division or modulo by zero";
    let quotient = divide(b, BinaryOp::FloorDiv, x.clone(), y.clone(), message);
    let rest = divide(b, BinaryOp::FloorMod, x, y, message);
    Ok(Value::Tuple(vec![Value::Int(quotient), Value::Int(rest)], None))
}

fn keeping(b: &mut Builder<'_>, args: &Args<'_>, op: UnaryOp) -> Result<Value> {
    let x = args.number(b, 0)?;
    let x = if b.operand_type(&x).dtype() == Some(DType::Bool) { b.cast(DType::I64, x) } else { x };
    let result = b.unary(op, x);
    Ok(number_value(b, result))
}

fn float(b: &mut Builder<'_>, args: &Args<'_>, op: UnaryOp) -> Result<Value> {
    let x = args.float(b, 0)?;
    Ok(Value::Float(b.unary(op, x)))
}

fn to_int(b: &mut Builder<'_>, args: &Args<'_>, op: UnaryOp) -> Result<Value> {
    let x = args.number(b, 0)?;
    if b.operand_type(&x).dtype() != Some(DType::F64) {
        return Ok(Value::Int(b.cast(DType::I64, x)));
    }
    let rounded = b.unary(op, x.clone());
    if known(&x).is_none_or(|c| !is_int64(f64::from_bits(c.bits))) {
        let is_fine = within_int64(b, &rounded);
        b.check(is_fine, Message::new("Cannot convert float {} to integer", &[x.into()]));
    }
    Ok(Value::Int(b.cast(DType::I64, rounded)))
}

/// Whether an int can hold the number.
fn is_int64(x: f64) -> bool {
    (-INT64_END..INT64_END).contains(&x)
}

/// 2^63, the first integer that an int cannot hold.
const INT64_END: f64 = 9_223_372_036_854_775_808.0;

fn within_int64(b: &mut Builder<'_>, x: &Operand) -> Operand {
    let low = b.binary(BinaryOp::Ge, x.clone(), real(-INT64_END));
    let high = b.binary(BinaryOp::Lt, x.clone(), real(INT64_END));
    b.binary(BinaryOp::And, low, high)
}

fn scaled(b: &mut Builder<'_>, args: &Args<'_>, factor: f64) -> Result<Value> {
    let x = args.float(b, 0)?;
    Ok(Value::Float(b.binary(BinaryOp::Mul, x, real(factor))))
}

fn log_base(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, base) = float_pair(b, args)?;
    let (x, base) = (b.unary(UnaryOp::Log, x), b.unary(UnaryOp::Log, base));
    Ok(Value::Float(b.binary(BinaryOp::Div, x, base)))
}

fn truth(b: &mut Builder<'_>, args: &Args<'_>, at: usize) -> Result<Operand> {
    let x = args.number(b, at)?;
    Ok(b.cast(DType::Bool, x))
}

fn logical(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let (x, y) = (truth(b, args, 0)?, truth(b, args, 1)?);
    Ok(Value::Bool(b.binary(op, x, y)))
}

fn not(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = truth(b, args, 0)?;
    Ok(Value::Bool(b.unary(UnaryOp::Not, x)))
}

fn gcd(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.int(b, 0)?, args.int(b, 1)?);
    if let (Some(x), Some(y)) = (known_int(&x), known_int(&y)) {
        return Ok(Value::int(aot_runtime::math::gcd(x, y)));
    }
    Ok(Value::Int(Operand::Var(b.call("gcd", vec![Arg::Scalar(x), Arg::Scalar(y)], &[VarType::Int])[0])))
}

fn factorial(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let n = args.int(b, 0)?;
    let is_fine = b.binary(BinaryOp::Ge, n.clone(), int(0));
    b.check(is_fine, "factorial() not defined for negative values");
    if let Some(n) = known_int(&n) {
        return Ok(Value::int(aot_runtime::math::factorial(n)));
    }
    Ok(Value::Int(Operand::Var(b.call("factorial", vec![Arg::Scalar(n)], &[VarType::Int])[0])))
}

fn gamma(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = Arg::Scalar(args.float(b, 0)?);
    Ok(Value::Float(Operand::Var(b.call("gamma", vec![x], &[VarType::Float])[0])))
}

fn ldexp(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let operands = vec![Arg::Scalar(args.float(b, 0)?), Arg::Scalar(args.int(b, 1)?)];
    Ok(Value::Float(Operand::Var(b.call("ldexp", operands, &[VarType::Float])[0])))
}

fn frexp(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = Arg::Scalar(args.float(b, 0)?);
    let parts = b.call("frexp", vec![x], &[VarType::Float, VarType::Int]);
    Ok(Value::Tuple(vec![Value::Float(Operand::Var(parts[0])), Value::Int(Operand::Var(parts[1]))], None))
}

/// The fraction and the whole part, both with the number's sign.
fn modf(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.float(b, 0)?;
    let whole = b.unary(UnaryOp::Trunc, x.clone());
    let rest = b.binary(BinaryOp::Sub, x.clone(), whole.clone());
    // An infinite number has no fraction.
    let size = b.unary(UnaryOp::Abs, x.clone());
    let is_infinite = b.binary(BinaryOp::Eq, size, real(f64::INFINITY));
    let rest = b.select(is_infinite, real(0.0), rest);
    let fraction = b.binary(BinaryOp::Copysign, rest, x);
    Ok(Value::Tuple(vec![Value::Float(fraction), Value::Float(whole)], None))
}

fn isnan(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.float(b, 0)?;
    Ok(Value::Bool(b.unary(UnaryOp::IsNan, x)))
}

fn isinf(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.float(b, 0)?;
    let size = b.unary(UnaryOp::Abs, x);
    Ok(Value::Bool(b.binary(BinaryOp::Eq, size, real(f64::INFINITY))))
}

fn isfinite(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.float(b, 0)?;
    let size = b.unary(UnaryOp::Abs, x);
    Ok(Value::Bool(b.binary(BinaryOp::Lt, size, real(f64::INFINITY))))
}

/// Whether the one element of a tensor is not 0.
pub fn truth_of(b: &mut Builder<'_>, t: &Tensor) -> Result<Operand> {
    const MANY: &str = "Boolean value of Tensor with more than one value is ambiguous";
    const NONE: &str = "Boolean value of Tensor with no values is ambiguous";
    let count = b.product(&t.dims);
    match known_int(&count) {
        Some(1) => {}
        Some(0) => return Err(b.user(NONE)),
        Some(_) => return Err(b.user(MANY)),
        None => {
            let (some, few) = (b.binary(BinaryOp::Gt, count.clone(), int(0)), b.binary(BinaryOp::Lt, count, int(2)));
            b.check(some, NONE);
            b.check(few, MANY);
        }
    }
    let item = b.item(t);
    Ok(b.cast(DType::Bool, item))
}

/// The number a tensor of one element holds, or the number itself.
fn number_of(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Operand> {
    let Value::Tensor(t) = args.value(0)? else { return args.number(b, 0) };
    let count = b.product(&t.dims);
    if let Some(n) = known_int(&count).filter(|n| *n != 1) {
        return Err(b.user(format!("a Tensor with {n} elements cannot be converted to Scalar")));
    }
    let is_one = b.binary(BinaryOp::Eq, count, int(1));
    b.check(is_one, "a Tensor with more or less than one element cannot be converted to Scalar");
    Ok(b.item(t))
}

/// The number that a tensor is given for: without dimensions.
fn implicit(b: &mut Builder<'_>, args: &Args<'_>, of: Lowering) -> Result<Value> {
    match args.value(0)? {
        Value::Tensor(t) if t.rank() > 0 => {
            Err(b.user("Cannot input a tensor of dimension other than 0 as a scalar argument"))
        }
        Value::Tensor(t) if b.op_name == "IntImplicit" && !t.dtype.is_integer() => {
            Err(b.user(format!("Cannot input a tensor of type {} as an integral argument", t.dtype)))
        }
        _ => of(b, args),
    }
}

fn int_of(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let Value::Str(text) = args.value(0)? {
        return super::text::to_int(b, text);
    }
    let x = number_of(b, args)?;
    if matches!(args.value(0)?, Value::Tensor(_)) && b.operand_type(&x).dtype() == Some(DType::F64) {
        let is_fine = within_int64(b, &x);
        b.check(is_fine, "value cannot be converted to type int64_t without overflow");
    }
    Ok(Value::Int(b.cast(DType::I64, x)))
}

fn float_of(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let Value::Str(text) = args.value(0)? {
        return super::text::to_float(b, text);
    }
    let x = number_of(b, args)?;
    Ok(Value::Float(b.cast(DType::F64, x)))
}

fn bool_of(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let Value::Tensor(t) = args.value(0)? {
        return Ok(Value::Bool(truth_of(b, &t.clone())?));
    }
    let x = number_of(b, args)?;
    Ok(Value::Bool(b.cast(DType::Bool, x)))
}

fn item(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = number_of(b, args)?;
    Ok(number_value(b, x))
}

/// A 0-dim tensor of the number's own 64-bit type.
fn num_to_tensor(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.number(b, 0)?;
    let dtype = b.operand_type(&x).dtype().unwrap_or(DType::I64);
    Ok(Value::Tensor(b.splat(x, dtype, &[])))
}

fn range_length(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (low, high, step) = (args.int(b, 0)?, args.int(b, 1)?, args.int(b, 2)?);
    if let Some(step) = known_int(&step) {
        if step == 0 {
            b.check(Operand::Const(Const::bool(false)), "range() arg 3 must not be zero");
            return Ok(Value::int(0));
        }
        let (from, to) = if step > 0 { (low, high) } else { (high, low) };
        let distance = b.binary(BinaryOp::Sub, to, from);
        let distance = b.binary(BinaryOp::Max, distance, int(0));
        let size = step.saturating_abs();
        let up = b.binary(BinaryOp::Add, distance, int(size - 1));
        return Ok(Value::Int(b.binary(BinaryOp::FloorDiv, up, int(size))));
    }
    let is_fine = b.binary(BinaryOp::Ne, step.clone(), int(0));
    b.check(is_fine, "range() arg 3 must not be zero");
    let is_up = b.binary(BinaryOp::Gt, step.clone(), int(0));
    let forth = b.binary(BinaryOp::Sub, high.clone(), low.clone());
    let back = b.binary(BinaryOp::Sub, low, high);
    let distance = b.select(is_up, forth, back);
    let distance = b.binary(BinaryOp::Max, distance, int(0));
    let size = b.unary(UnaryOp::Abs, step);
    let less = b.binary(BinaryOp::Sub, size.clone(), int(1));
    let up = b.binary(BinaryOp::Add, distance, less);
    Ok(Value::Int(b.binary(BinaryOp::FloorDiv, up, size)))
}

fn derive_index(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (index, start, step) = (args.int(b, 0)?, args.int(b, 1)?, args.int(b, 2)?);
    let moved = b.binary(BinaryOp::Mul, index, step);
    Ok(Value::Int(b.binary(BinaryOp::Add, start, moved)))
}

/// Whether two values are one object: what asks for it is `x is None`.
fn is(b: &mut Builder<'_>, args: &Args<'_>, wanted: bool) -> Result<Value> {
    let (x, y) = (args.value(0)?, args.value(1)?);
    let same = match (x, y) {
        (Value::Bool(p), Value::Bool(q)) => b.binary(BinaryOp::Eq, p.clone(), q.clone()),
        (Value::Int(p), Value::Int(q)) => b.binary(BinaryOp::Eq, p.clone(), q.clone()),
        (Value::Cell(p), Value::Cell(q)) => b.is_same_cell(*p, *q),
        _ => Operand::Const(Const::bool(x == y)),
    };
    let result = if wanted { same } else { b.unary(UnaryOp::Not, same) };
    debug_assert!(known(&result).is_none_or(|c| c.dtype == DType::Bool));
    Ok(Value::Bool(result))
}
