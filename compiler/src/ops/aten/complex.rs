//! Tensors of complex numbers. In memory an element is two floats side by side; operators are written on the parts.
//!
//! Taking a tensor apart and putting one together copies, so what is written into `real(x)` does not reach `x`.

use super::pointwise::{elementwise, number};
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Const, Dim, ExprId, Operand, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::result_type;
use crate::ops::reshaping::write_out;
use crate::ops::value::{Tensor, Value};
use crate::ops::{Lowering, lookup, views};
use crate::types::DType;

/// Operators that make or read complex tensors.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::complex", lower: complex },
    OpDef { name: "aten::complex.out", lower: |b, a| into_given(b, a, complex) },
    OpDef { name: "aten::polar", lower: polar },
    OpDef { name: "aten::polar.out", lower: |b, a| into_given(b, a, polar) },
    OpDef { name: "aten::conj", lower: |_, a| Ok(a.value(0)?.clone()) },
    OpDef { name: "aten::view_as_real", lower: view_as_real },
    OpDef { name: "aten::view_as_complex", lower: view_as_complex },
    OpDef { name: "aten::real", lower: |b, a| part(b, a, 0) },
    OpDef { name: "aten::imag", lower: |b, a| part(b, a, 1) },
];

/// The forms that operators take when an argument is complex, by the name of all overloads.
const FORMS: &[OpDef] = &[
    OpDef { name: "aten::add", lower: |b, a| sum(b, a, BinaryOp::Add) },
    OpDef { name: "aten::sub", lower: |b, a| sum(b, a, BinaryOp::Sub) },
    OpDef { name: "aten::subtract", lower: |b, a| sum(b, a, BinaryOp::Sub) },
    OpDef { name: "aten::rsub", lower: reversed_sub },
    OpDef { name: "aten::mul", lower: |b, a| binary(b, a, product) },
    OpDef { name: "aten::multiply", lower: |b, a| binary(b, a, product) },
    OpDef { name: "aten::div", lower: |b, a| binary(b, a, quotient) },
    OpDef { name: "aten::true_divide", lower: |b, a| binary(b, a, quotient) },
    OpDef { name: "aten::equal", lower: equal },
    OpDef { name: "aten::eq", lower: |b, a| compare(b, a, BinaryOp::Eq, BinaryOp::And) },
    OpDef { name: "aten::ne", lower: |b, a| compare(b, a, BinaryOp::Ne, BinaryOp::Or) },
    OpDef {
        name: "aten::neg",
        lower: |b, a| each(b, a, |k, [x, y]| [k.unary(UnaryOp::Neg, x), k.unary(UnaryOp::Neg, y)]),
    },
    OpDef { name: "aten::conj", lower: |b, a| each(b, a, |k, [x, y]| [x, k.unary(UnaryOp::Neg, y)]) },
    OpDef { name: "aten::conj_physical", lower: |b, a| each(b, a, |k, [x, y]| [x, k.unary(UnaryOp::Neg, y)]) },
    OpDef { name: "aten::resolve_conj", lower: |_, a| Ok(a.value(0)?.clone()) },
    OpDef { name: "aten::resolve_neg", lower: |_, a| Ok(a.value(0)?.clone()) },
    OpDef { name: "aten::adjoint", lower: adjoint },
    OpDef { name: "aten::mH", lower: adjoint },
    OpDef { name: "aten::matrix_H", lower: adjoint },
    OpDef { name: "aten::abs", lower: |b, a| to_real(b, a, length) },
    OpDef { name: "aten::angle", lower: |b, a| to_real(b, a, |k, [x, y]| k.binary(BinaryOp::Atan2, y, x)) },
    OpDef { name: "aten::exp", lower: |b, a| each(b, a, exp) },
    OpDef { name: "aten::log", lower: |b, a| each(b, a, log) },
    OpDef { name: "aten::square", lower: |b, a| each(b, a, |k, z| product(k, z, z)) },
    OpDef { name: "aten::matmul", lower: contraction },
    OpDef { name: "aten::mm", lower: contraction },
    OpDef { name: "aten::bmm", lower: contraction },
    OpDef { name: "aten::mv", lower: contraction },
    OpDef { name: "aten::dot", lower: contraction },
    OpDef { name: "aten::outer", lower: contraction },
    OpDef { name: "aten::ger", lower: contraction },
    OpDef { name: "aten::inner", lower: contraction },
    OpDef { name: "aten::tensordot", lower: contraction },
    OpDef { name: "aten::item", lower: item_value },
];

/// The complex form of an operator, if these arguments ask for it and it has one.
pub fn form(name: &str, values: &[Value]) -> Option<&'static OpDef> {
    let is_complex = |v: &Value| match v {
        Value::Tensor(t) => t.dtype.is_complex(),
        Value::Complex(..) => values.iter().any(|v| matches!(v, Value::Tensor(_))),
        _ => false,
    };
    let forms = FORMS.iter().chain(super::complex_functions::FORMS);
    if values.iter().any(is_complex) { forms.into_iter().find(|def| def.name == name) } else { None }
}

/// The type of the parts.
pub fn part_type(dtype: DType) -> DType {
    if dtype == DType::C64 || dtype == DType::C32 { DType::F32 } else { DType::F64 }
}

/// The complex type with parts of this type.
pub fn whole_type(part: DType) -> DType {
    if part == DType::F64 { DType::C128 } else { DType::C64 }
}

/// A complex tensor as floats with a last dimension of 2.
pub fn as_floats(b: &mut Builder<'_>, x: &Tensor) -> Result<Tensor> {
    if x.dtype == DType::C32 {
        return Err(b.unsupported("complex numbers of two halves"));
    }
    let from = b.row_major(x);
    let dims: Vec<Dim> = x.dims.iter().copied().chain([Dim::Const(2)]).collect();
    let to = b.new_buffer(part_type(x.dtype), &dims);
    b.call("copy_bytes", vec![Arg::Buffer(from), Arg::Buffer(to)], &[]);
    Ok(b.tensor_of(to))
}

/// Floats with a last dimension of 2 as a complex tensor.
pub fn as_complex(b: &mut Builder<'_>, x: &Tensor) -> Tensor {
    let from = b.row_major(x);
    let dims = &x.dims[..x.rank() - 1];
    let to = b.new_buffer(whole_type(x.dtype), dims);
    b.call("copy_bytes", vec![Arg::Buffer(from), Arg::Buffer(to)], &[]);
    b.tensor_of(to)
}

/// Real and imaginary part; those of a real tensor are itself and zeros.
pub fn parts(b: &mut Builder<'_>, x: &Tensor) -> Result<[Tensor; 2]> {
    if !x.dtype.is_complex() {
        let zero = Operand::Const(Const::float(DType::F64, 0.0));
        let mut nothing = b.splat(zero, x.dtype, &x.dims.clone());
        nothing.is_wrapped_number = x.is_wrapped_number;
        return Ok([x.clone(), nothing]);
    }
    let floats = as_floats(b, x)?;
    let at = |i| Operand::Const(Const::int(i));
    let mut parts = [views::select(b, &floats, x.rank(), at(0)), views::select(b, &floats, x.rank(), at(1))];
    for part in &mut parts {
        part.is_wrapped_number = x.is_wrapped_number;
    }
    Ok(parts)
}

/// The complex tensor with these parts, of one shape and type.
pub fn joined(b: &mut Builder<'_>, [re, im]: &[Tensor; 2], part: DType) -> Tensor {
    let dims: Vec<Dim> = re.dims.iter().copied().chain([Dim::Const(2)]).collect();
    let floats = b.map(part, &dims, |k, i| {
        let (at, which) = i.split_at(i.len() - 1);
        let (x, y) = (k.load(re, at), k.load(im, at));
        let (x, y) = (k.cast(part, x), k.cast(part, y));
        let zero = k.int(0);
        let is_real = k.binary(BinaryOp::Eq, which[0], zero);
        k.select(is_real, x, y)
    });
    as_complex(b, &floats)
}

/// The complex tensor with one number everywhere.
pub fn filled(b: &mut Builder<'_>, number: [Operand; 2], dtype: DType, dims: &[Dim]) -> Tensor {
    let part = part_type(dtype);
    let sides = number.map(|side| b.splat(side, part, dims));
    joined(b, &sides, part)
}

/// A complex tensor as one of another type, or a real one as a complex one; a real result is the real part.
pub fn converted(b: &mut Builder<'_>, x: &Tensor, dtype: DType) -> Tensor {
    // What has no parts is refused where elements are computed.
    let [re, im] = parts(b, x).unwrap_or_else(|_| [x.clone(), x.clone()]);
    if !dtype.is_complex() {
        return super::copy::cast(b, &re, dtype);
    }
    joined(b, &[re, im], part_type(dtype))
}

/// Whether two tensors have the same shape and elements.
fn equal(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let whole = |b: &mut Builder<'_>, at: usize| {
        let x = args.tensor(at)?;
        let x = if x.dtype.is_complex() { x } else { converted(b, &x, DType::C128) };
        as_floats(b, &x)
    };
    let (x, y) = (whole(b, 0)?, whole(b, 1)?);
    super::compare::equal_tensors(b, &x, &y)
}

/// The parts of the one element of a complex tensor as host numbers.
pub fn item(b: &mut Builder<'_>, x: &Tensor) -> (Operand, Operand) {
    match parts(b, x) {
        Ok([re, im]) => (b.item(&re), b.item(&im)),
        Err(_) => (b.item(x), Operand::Const(Const::float(DType::F64, 0.0))),
    }
}

fn item_value(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let [re, im] = parts(b, &args.tensor(0)?)?;
    Ok(Value::Complex(b.item(&re), b.item(&im)))
}

/// An operand by its parts: a tensor, or a number that ranks below tensors in promotion.
fn operand(b: &mut Builder<'_>, value: &Value) -> Result<([Tensor; 2], DType)> {
    if let Value::Complex(re, im) = value {
        let mut wrap = |o: &Operand| {
            let mut t = b.splat(o.clone(), DType::F64, &[]);
            t.is_wrapped_number = true;
            t
        };
        return Ok(([wrap(re), wrap(im)], DType::C64));
    }
    let x = crate::ops::promote::as_tensor(b, value)?;
    let dtype = x.dtype;
    Ok((parts(b, &x)?, dtype))
}

/// The type of the parts of a result: that of the operands' parts, at least a float.
fn float_parts(x: &[Tensor; 2], y: &[Tensor; 2]) -> DType {
    match result_type(&[&x[0], &y[0]]) {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// An operator on two operands, element by element.
pub fn binary(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    f: impl Fn(&mut KernelBuilder<'_, '_>, [ExprId; 2], [ExprId; 2]) -> [ExprId; 2],
) -> Result<Value> {
    let (x, y) = (operand(b, args.value(0)?)?.0, operand(b, args.value(1)?)?.0);
    let part = float_parts(&x, &y);
    let mut side = |which: usize| {
        super::pointwise::elementwise_in(b, &[&x[0], &x[1], &y[0], &y[1]], part, part, |k, v| {
            let v: Vec<ExprId> = v.iter().map(|v| k.cast(part, *v)).collect();
            f(k, [v[0], v[1]], [v[2], v[3]])[which]
        })
    };
    let result = [side(0)?, side(1)?];
    Ok(Value::Tensor(joined(b, &result, part)))
}

/// `x + alpha * y` or `x - alpha * y`.
fn sum(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let alpha = match args.named("alpha") {
        Some(Value::Int(o) | Value::Float(o) | Value::Bool(o)) => o.clone(),
        Some(Value::Complex(..)) => return Err(b.unsupported("a complex alpha")),
        _ => Operand::Const(Const::int(1)),
    };
    binary(b, args, |k, x, y| {
        let factor = k.number(&alpha, k.dtype(y[0]));
        [0, 1].map(|i| {
            let term = k.mul(factor, y[i]);
            k.binary(op, x[i], term)
        })
    })
}

fn reversed_sub(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut values = args.values.to_vec();
    values.swap(0, 1);
    sum(b, &Args { schema: args.schema, values: &values }, BinaryOp::Sub)
}

/// The product of two complex numbers.
pub fn product(k: &mut KernelBuilder<'_, '_>, x: [ExprId; 2], y: [ExprId; 2]) -> [ExprId; 2] {
    let (ac, bd) = (k.mul(x[0], y[0]), k.mul(x[1], y[1]));
    let (ad, bc) = (k.mul(x[0], y[1]), k.mul(x[1], y[0]));
    [k.sub(ac, bd), k.add(ad, bc)]
}

/// The quotient, scaled by the greater part of the divisor so that squares do not overflow (R. Smith, 1962).
pub fn quotient(k: &mut KernelBuilder<'_, '_>, x: [ExprId; 2], y: [ExprId; 2]) -> [ExprId; 2] {
    let (c, d) = (k.unary(UnaryOp::Abs, y[0]), k.unary(UnaryOp::Abs, y[1]));
    let is_wide = k.binary(BinaryOp::Ge, c, d);
    let (great, small) = (k.select(is_wide, y[0], y[1]), k.select(is_wide, y[1], y[0]));
    let ratio = k.div(small, great);
    let scale = k.mul(small, ratio);
    let scale = k.add(great, scale);
    // (a + bi) / (c + di) = (b - ai) / (d - ci): the same with the parts exchanged and the result conjugated.
    let (p, q) = (k.select(is_wide, x[0], x[1]), k.select(is_wide, x[1], x[0]));
    let along = k.mul(q, ratio);
    let re = k.add(p, along);
    let across = k.mul(p, ratio);
    let im = k.sub(q, across);
    let (re, im) = (k.div(re, scale), k.div(im, scale));
    let below = k.unary(UnaryOp::Neg, im);
    [re, k.select(is_wide, im, below)]
}

fn compare(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp, joined: BinaryOp) -> Result<Value> {
    let (x, y) = (operand(b, args.value(0)?)?.0, operand(b, args.value(1)?)?.0);
    let result = elementwise(b, &[&x[0], &x[1], &y[0], &y[1]], Some(DType::Bool), |k, v| {
        let (re, im) = (k.binary(op, v[0], v[2]), k.binary(op, v[1], v[3]));
        k.binary(joined, re, im)
    })?;
    Ok(Value::Tensor(result))
}

/// A function of one tensor, element by element.
pub fn each(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    f: impl Fn(&mut KernelBuilder<'_, '_>, [ExprId; 2]) -> [ExprId; 2],
) -> Result<Value> {
    let x = args.tensor(0)?;
    let (part, [re, im]) = (part_type(x.dtype), parts(b, &x)?);
    let mut side = |which: usize| {
        b.map(part, &x.dims, |k, i| {
            let z = [k.load(&re, i), k.load(&im, i)];
            f(k, z)[which]
        })
    };
    let result = [side(0), side(1)];
    Ok(Value::Tensor(joined(b, &result, part)))
}

/// A float-valued function of one tensor.
pub fn to_real(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    f: impl FnOnce(&mut KernelBuilder<'_, '_>, [ExprId; 2]) -> ExprId,
) -> Result<Value> {
    let x = args.tensor(0)?;
    let (part, [re, im]) = (part_type(x.dtype), parts(b, &x)?);
    Ok(Value::Tensor(b.map(part, &x.dims, |k, i| {
        let z = [k.load(&re, i), k.load(&im, i)];
        f(k, z)
    })))
}

/// `|z|`, without overflow.
pub fn length(k: &mut KernelBuilder<'_, '_>, [x, y]: [ExprId; 2]) -> ExprId {
    let (x, y) = (k.unary(UnaryOp::Abs, x), k.unary(UnaryOp::Abs, y));
    let (great, small) = (k.max(x, y), k.min(x, y));
    let ratio = k.div(small, great);
    let square = k.mul(ratio, ratio);
    let one = number(k, square, 1.0);
    let square = k.add(one, square);
    let root = k.unary(UnaryOp::Sqrt, square);
    let scaled = k.mul(great, root);
    // 0 and infinity have no ratio.
    let (zero, infinity) = (number(k, great, 0.0), number(k, great, f64::INFINITY));
    let (low, high) = (k.binary(BinaryOp::Gt, great, zero), k.binary(BinaryOp::Lt, great, infinity));
    let is_inside = k.and(low, high);
    k.select(is_inside, scaled, great)
}

/// `exp(x) (cos y + i sin y)`
pub fn exp(k: &mut KernelBuilder<'_, '_>, [x, y]: [ExprId; 2]) -> [ExprId; 2] {
    let size = k.unary(UnaryOp::Exp, x);
    let (cos, sin) = (k.unary(UnaryOp::Cos, y), k.unary(UnaryOp::Sin, y));
    [k.mul(size, cos), k.mul(size, sin)]
}

/// `log |z| + i angle(z)`
pub fn log(k: &mut KernelBuilder<'_, '_>, z: [ExprId; 2]) -> [ExprId; 2] {
    let size = length(k, z);
    [k.unary(UnaryOp::Log, size), k.binary(BinaryOp::Atan2, z[1], z[0])]
}

/// The conjugate of the transposed matrix.
fn adjoint(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let Value::Tensor(x) = each(b, args, |k, [x, y]| [x, k.unary(UnaryOp::Neg, y)])? else {
        return Err(b.unsupported("this form of adjoint"));
    };
    if x.rank() < 2 {
        return Ok(Value::Tensor(x));
    }
    let rank = x.rank();
    Ok(Value::Tensor(views::transpose(b, &x, rank - 2, rank - 1)))
}

/// The operator's own definition, for other arguments.
pub fn plain(b: &mut Builder<'_>, args: &Args<'_>, values: &[Value]) -> Result<Tensor> {
    let name = args.schema.map(|s| s.name.clone());
    let def = name.and_then(|name| lookup(&name)).ok_or_else(|| b.unsupported("this form of a complex operator"))?;
    match (def.lower)(b, &Args { schema: args.schema, values })? {
        Value::Tensor(t) => Ok(t),
        other => Err(b.unsupported(format!("complex numbers in an operator that gives {}", other.kind()))),
    }
}

/// The parts of what an operator gives that is linear in its first two arguments, from their parts: four of its results.
pub fn products(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    values: &[Value],
    [x, y]: [&[Tensor; 2]; 2],
) -> Result<[Tensor; 2]> {
    let mut of = |x: &Tensor, y: &Tensor| {
        let mut values = values.to_vec();
        (values[0], values[1]) = (Value::Tensor(x.clone()), Value::Tensor(y.clone()));
        plain(b, args, &values)
    };
    let (ac, bd, ad, bc) = (of(&x[0], &y[0])?, of(&x[1], &y[1])?, of(&x[0], &y[1])?, of(&x[1], &y[0])?);
    let re = elementwise(b, &[&ac, &bd], None, |k, v| k.sub(v[0], v[1]))?;
    let im = elementwise(b, &[&ad, &bc], None, |k, v| k.add(v[0], v[1]))?;
    Ok([re, im])
}

/// A sum of products.
fn contraction(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    if x.dtype != y.dtype {
        return Err(b.user(format!("expected both operands of {} to have the same dtype", b.op_name)));
    }
    let part = part_type(x.dtype);
    let (x, y) = (parts(b, &x)?, parts(b, &y)?);
    let result = products(b, args, args.values, [&x, &y])?;
    Ok(Value::Tensor(joined(b, &result, part)))
}

fn complex(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    made(b, args, |_, x, y| [x, y])
}

fn polar(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    made(b, args, |k, size, angle| {
        let (cos, sin) = (k.unary(UnaryOp::Cos, angle), k.unary(UnaryOp::Sin, angle));
        [k.mul(size, cos), k.mul(size, sin)]
    })
}

/// The result of two float tensors in a tensor that is given for it, which must have the result's type.
fn into_given(b: &mut Builder<'_>, args: &Args<'_>, lower: Lowering) -> Result<Value> {
    let (Value::Tensor(result), target) = (lower(b, args)?, args.tensor(2)?) else {
        return Err(b.unsupported("this form of a complex operator"));
    };
    if result.dtype != target.dtype {
        return Err(b.user(format!(
            "Expected object of scalar type {} but got scalar type {} for argument 'out'",
            result.dtype.graph_name(),
            target.dtype.graph_name()
        )));
    }
    write_out(b, &target, &result).map(Value::Tensor)
}

/// A complex tensor of two float tensors.
fn made(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    f: impl Fn(&mut KernelBuilder<'_, '_>, ExprId, ExprId) -> [ExprId; 2],
) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    let part = x.dtype;
    if !matches!(part, DType::F32 | DType::F64) {
        let found = [x.dtype, y.dtype].map(DType::graph_name);
        let words = "Expected both inputs to be Half, Float or Double tensors but got";
        return Err(b.user(format!("{words} {} and {}", found[0], found[1])));
    }
    if y.dtype != part {
        let found = [x.dtype, y.dtype].map(DType::graph_name);
        return Err(b.user(format!(
            "Expected object of scalar type {} but got scalar type {} for second argument",
            found[0], found[1]
        )));
    }
    let mut side = |which: usize| elementwise(b, &[&x, &y], Some(part), |k, v| f(k, v[0], v[1])[which]);
    let result = [side(0)?, side(1)?];
    Ok(Value::Tensor(joined(b, &result, part)))
}

fn view_as_real(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if !x.dtype.is_complex() {
        return Err(b.user("view_as_real is only supported for complex tensors"));
    }
    Ok(Value::Tensor(as_floats(b, &x)?))
}

fn view_as_complex(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if !matches!(x.dtype, DType::F32 | DType::F64) {
        let found = x.dtype.graph_name();
        return Err(b.user(format!(
            "view_as_complex is only supported for half, float and double tensors, but got a tensor of scalar type: {found}"
        )));
    }
    if x.dims.last() != Some(&Dim::Const(2)) {
        return Err(b.user("Tensor must have a last dimension of size 2"));
    }
    Ok(Value::Tensor(as_complex(b, &x)))
}

fn part(b: &mut Builder<'_>, args: &Args<'_>, which: usize) -> Result<Value> {
    let x = args.tensor(0)?;
    if !x.dtype.is_complex() {
        if which == 0 {
            return Ok(Value::Tensor(x));
        }
        return Err(b.user("imag is not implemented for tensors with non-complex dtypes."));
    }
    let [re, im] = parts(b, &x)?;
    Ok(Value::Tensor(if which == 0 { re } else { im }))
}
