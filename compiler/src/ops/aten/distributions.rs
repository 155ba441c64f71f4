//! Random numbers of particular distributions, made from uniform or normal ones drawn in PyTorch's order, and the layers that
//! use them in training.

use super::nonzero::running_sum;
use super::random::{coin, filled, uniform01};
use super::sort::{count_before, first_of};
use super::view::flat;
use crate::diag::Result;
use crate::loops::{AxisKind, BinaryOp, Const, Dim, ExprId, Operand, ReduceOp, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::{as_tensor, compute_type};
use crate::ops::value::{Tensor, Value, int};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::multinomial", lower: multinomial },
    OpDef { name: "aten::exponential", lower: exponential_op },
    OpDef { name: "aten::cauchy", lower: cauchy },
    OpDef { name: "aten::geometric", lower: geometric },
    OpDef { name: "aten::log_normal", lower: log_normal },
    OpDef { name: "aten::normal.Tensor_float", lower: normal_of },
    OpDef { name: "aten::normal.float_Tensor", lower: normal_of },
    OpDef { name: "aten::normal.Tensor_Tensor", lower: normal_of },
    OpDef { name: "aten::random", lower: random_all },
    OpDef { name: "aten::random.from", lower: random_between },
    OpDef { name: "aten::random.to", lower: random_below },
    OpDef { name: "aten::alpha_dropout", lower: |b, a| alpha_dropout(b, a, usize::MAX) },
    OpDef { name: "aten::feature_alpha_dropout", lower: |b, a| alpha_dropout(b, a, 2) },
    OpDef { name: "aten::native_dropout", lower: native_dropout },
    OpDef { name: "aten::native_dropout_backward", lower: native_dropout_backward },
];

fn float(value: f64) -> Operand {
    Operand::Const(Const::float(DType::F64, value))
}

/// Elements that are a function of uniform numbers in `[0, 1)` with 53 bits, computed in `float64`.
fn from_uniform(
    b: &mut Builder<'_>,
    dtype: DType,
    dims: &[Dim],
    f: impl FnOnce(&mut KernelBuilder<'_, '_>, ExprId) -> ExprId,
) -> Result<Tensor> {
    let u = uniform01(b, DType::F64, dims)?;
    Ok(b.map(dtype, dims, |k, i| {
        let u = k.load(&u, i);
        f(k, u)
    }))
}

/// `-log(1 - u) / lambda`
fn exponential(b: &mut Builder<'_>, dtype: DType, dims: &[Dim], lambda: &Operand) -> Result<Tensor> {
    from_uniform(b, dtype, dims, |k, u| {
        let negated = k.unary(UnaryOp::Neg, u);
        let log = k.unary(UnaryOp::Log1p, negated);
        let minus_one = k.float(DType::F64, -1.0);
        let lambda = k.number(lambda, DType::F64);
        let scale = k.div(minus_one, lambda);
        k.mul(scale, log)
    })
}

fn exponential_op(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, lambda) = (args.tensor(0)?, args.float(b, 1)?);
    let is_valid = b.binary(BinaryOp::Gt, lambda.clone(), float(0.0));
    b.check(is_valid, "exponential_ expects lambda > 0.0");
    exponential(b, x.dtype, &x.dims, &lambda).map(Value::Tensor)
}

/// `median + sigma tan(pi (u - 1/2))`
fn cauchy(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, median, sigma) = (args.tensor(0)?, args.float(b, 1)?, args.float(b, 2)?);
    let is_valid = b.binary(BinaryOp::Gt, sigma.clone(), float(0.0));
    b.check(is_valid, "cauchy_ expects sigma > 0.0");
    let drawn = from_uniform(b, x.dtype, &x.dims, |k, u| {
        let (half, pi) = (k.float(DType::F64, 0.5), k.float(DType::F64, std::f64::consts::PI));
        let centred = k.sub(u, half);
        let angle = k.mul(pi, centred);
        let tangent = k.unary(UnaryOp::Tan, angle);
        let (median, sigma) = (k.number(&median, DType::F64), k.number(&sigma, DType::F64));
        let wide = k.mul(sigma, tangent);
        k.add(median, wide)
    })?;
    Ok(Value::Tensor(drawn))
}

/// `ceil(log(u) / log(1 - p))`
fn geometric(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, p) = (args.tensor(0)?, args.float(b, 1)?);
    let low = b.binary(BinaryOp::Gt, p.clone(), float(0.0));
    let high = b.binary(BinaryOp::Lt, p.clone(), float(1.0));
    let is_valid = b.binary(BinaryOp::And, low, high);
    b.check(is_valid, "geometric_ expects p to be in (0, 1)");
    let drawn = from_uniform(b, x.dtype, &x.dims, |k, u| {
        let p = k.number(&p, DType::F64);
        let negated = k.unary(UnaryOp::Neg, p);
        let (above, below) = (k.unary(UnaryOp::Log, u), k.unary(UnaryOp::Log1p, negated));
        let quotient = k.div(above, below);
        k.unary(UnaryOp::Ceil, quotient)
    })?;
    Ok(Value::Tensor(drawn))
}

/// The exponential of normal numbers, drawn one by one.
fn log_normal(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, mean, std) = (args.tensor(0)?, args.float(b, 1)?, args.float(b, 2)?);
    let normal = filled(b, "fill_normal_each", DType::F64, DType::F64, &x.dims, &[mean, std]);
    Ok(Value::Tensor(b.map(x.dtype, &x.dims, |k, i| {
        let v = k.load(&normal, i);
        k.unary(UnaryOp::Exp, v)
    })))
}

/// Normal numbers whose mean or deviation are tensors.
fn normal_of(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (mean, std) = (as_tensor(b, args.value(0)?)?, as_tensor(b, args.value(1)?)?);
    let dims = views::broadcast(b, &[&mean.dims, &std.dims])?;
    let dtype = if mean.is_wrapped_number { std.dtype } else { mean.dtype };
    if !dtype.is_floating_point() {
        return Err(b.user(format!("normal expects floating point tensors, got {dtype}")));
    }
    let (mean, std) = (views::expand_to(b, &mean, &dims)?, views::expand_to(b, &std, &dims)?);
    let compute = compute_type(dtype);
    let drawn = filled(b, "fill_normal", compute, compute, &dims, &[float(0.0), float(1.0)]);
    Ok(Value::Tensor(b.map(dtype, &dims, |k, i| {
        let (v, mean, std) = (k.load(&drawn, i), k.load(&mean, i), k.load(&std, i));
        let (mean, std) = (k.cast(compute, mean), k.cast(compute, std));
        let wide = k.mul(v, std);
        k.add(wide, mean)
    })))
}

fn integers(b: &mut Builder<'_>, x: &Tensor, low: Operand, high: Operand) -> Value {
    Value::Tensor(filled(b, "fill_randint", DType::I64, x.dtype, &x.dims, &[low, high]))
}

/// Integers over all that the type can count.
fn random_all(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let high = match x.dtype {
        DType::Bool => 2,
        DType::U8 => 1 << 8,
        DType::I8 => 1 << 7,
        DType::I16 => 1 << 15,
        DType::I32 => 1 << 31,
        DType::F32 => (1 << 24) + 1,
        DType::F64 => (1 << 53) + 1,
        DType::F16 => (1 << 11) + 1,
        DType::BF16 => (1 << 8) + 1,
        _ => return Err(b.unsupported(format!("random_ of {}", x.dtype))),
    };
    Ok(integers(b, &x, int(0), int(high)))
}

fn random_between(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, low) = (args.tensor(0)?, args.int(b, 1)?);
    let Some(high) = args.optional_int(b, 2)? else {
        return Err(b.unsupported("random_ without an upper bound"));
    };
    Ok(integers(b, &x, low, high))
}

fn random_below(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, high) = (args.tensor(0)?, args.int(b, 1)?);
    Ok(integers(b, &x, int(0), high))
}

/// Indices drawn with the probabilities that each row gives (not normalised).
fn multinomial(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (p, n) = (args.tensor(0)?, args.int(b, 1)?);
    let with_replacement = args.flag(b, 2)?;
    if !p.dtype.is_floating_point() {
        return Err(b.user("multinomial only supports floating-point dtypes for input"));
    }
    if !(1..=2).contains(&p.rank()) {
        return Err(b.user("prob_dist must be 1 or 2 dim"));
    }
    let positive = b.binary(BinaryOp::Gt, n.clone(), int(0));
    b.check(positive, "cannot sample n_sample <= 0 samples");
    let (last, lead) = p.dims.split_last().expect("the rank is 1 or 2");
    let (last, lead) = (*last, lead.to_vec());
    check_distribution(b, &p);
    let is_one = b.binary(BinaryOp::Eq, n.clone(), int(1));
    let count = b.dim(n.clone());
    if with_replacement && crate::ops::value::known_int(&is_one) != Some(1) {
        return with_replacement_of(b, &p, &[&lead[..], &[count]].concat());
    }
    let fits = b.binary(BinaryOp::Le, n, last.into());
    b.check(fits, "cannot sample n_sample > prob_dist.size(-1) samples without replacement");
    let waits = exponential(b, p.dtype, &p.dims, &float(1.0))?;
    let compute = compute_type(p.dtype);
    let rates = b.map(p.dtype, &p.dims, |k, i| {
        let (p, wait) = (k.load(&p, i), k.load(&waits, i));
        let (p, wait) = (k.cast(compute, p), k.cast(compute, wait));
        k.div(p, wait)
    });
    let (_, chosen) = first_of(b, &rates, p.rank() - 1, count, true)?;
    Ok(Value::Tensor(chosen))
}

/// Probabilities must be finite and not negative.
fn check_distribution(b: &mut Builder<'_>, p: &Tensor) {
    let compute = compute_type(p.dtype);
    let valid = b.reduce(
        ReduceOp::And,
        DType::Bool,
        &[],
        &p.dims,
        |k, _, i| {
            let v = k.load(p, i);
            let v = k.cast(compute, v);
            let (zero, inf) = (k.zero(compute), k.float(compute, f64::INFINITY));
            let low = k.binary(BinaryOp::Ge, v, zero);
            let high = k.binary(BinaryOp::Lt, v, inf);
            k.and(low, high)
        },
        |_, _, v| v,
    );
    let valid = b.item(&valid);
    b.check(valid, "probability tensor contains either `inf`, `nan` or element < 0");
}

/// For each uniform number, the first category whose cumulative probability reaches it.
fn with_replacement_of(b: &mut Builder<'_>, p: &Tensor, dims: &[Dim]) -> Result<Value> {
    let compute = compute_type(p.dtype);
    let sums = b.new_buffer(compute, &p.dims);
    let last = p.rank() - 1;
    let mut k = KernelBuilder::new(b);
    let mut i = k.parallel(&p.dims[..last]);
    i.push(k.axis(p.dims[last], AxisKind::Scan));
    let v = k.load(p, &i);
    let v = k.cast(compute, v);
    let sum = k.reduce(ReduceOp::Sum, v);
    k.store(sums, &i, sum);
    k.finish();
    let sums = b.tensor_of(sums);
    let shares = b.map(compute, &p.dims, |k, i| {
        let (n, one) = (k.dim(p.dims[last]), k.int(1));
        let end = k.sub(n, one);
        let mut at = i.to_vec();
        at[last] = end;
        let (sum, total) = (k.load(&sums, i), k.load(&sums, &at));
        let share = k.div(sum, total);
        let is_last = k.binary(BinaryOp::Eq, i[last], end);
        let whole = k.one(compute);
        k.select(is_last, whole, share)
    });
    let drawn = uniform01(b, DType::F64, dims)?;
    Ok(Value::Tensor(count_before(b, &shares, &drawn, false, DType::I64)))
}

/// Dropout that keeps mean and variance: what is dropped becomes the negative saturation of `selu`. The first `n_own`
/// dimensions have noise of their own.
fn alpha_dropout(b: &mut Builder<'_>, args: &Args<'_>, n_own: usize) -> Result<Value> {
    const ALPHA: f64 = 1.758_099_340_847_376_6;
    let x = args.tensor(0)?;
    let p = args.known_float(b, 1)?;
    if !(0.0..=1.0).contains(&p) {
        return Err(b.user(format!("dropout probability has to be between 0 and 1, but got {p}")));
    }
    if !args.flag(b, 2)? || p == 0.0 {
        return Ok(Value::Tensor(x));
    }
    if p == 1.0 {
        return Ok(Value::Tensor(b.splat(int(0), x.dtype, &x.dims)));
    }
    let dims: Vec<Dim> = x.dims.iter().enumerate().map(|(d, n)| if d < n_own { *n } else { Dim::Const(1) }).collect();
    let noise = coin(b, DType::Bool, &dims, float(1.0 - p));
    let noise = views::expand_to(b, &noise, &x.dims)?;
    let a = 1.0 / ((ALPHA * ALPHA * p + 1.0) * (1.0 - p)).sqrt();
    let compute = compute_type(x.dtype);
    Ok(Value::Tensor(b.map(x.dtype, &x.dims, |k, i| {
        let (v, kept) = (k.load(&x, i), k.load(&noise, i));
        let (v, kept) = (k.cast(compute, v), k.cast(compute, kept));
        let (one, scale) = (k.one(compute), k.float(compute, ALPHA * a));
        let shift = k.float(compute, ALPHA * a * p);
        let dropped = k.sub(kept, one);
        let dropped = k.mul(dropped, scale);
        let offset = k.add(dropped, shift);
        let gain = k.float(compute, a);
        let gain = k.mul(kept, gain);
        let scaled = k.mul(v, gain);
        k.add(scaled, offset)
    })))
}

/// The result and the mask of what was kept.
fn native_dropout(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let p = args.known_float(b, 1)?;
    let trains = matches!(args.value(2)?, Value::None) || args.flag(b, 2)?;
    if !trains || p == 0.0 {
        let mask = b.splat(Operand::Const(Const::bool(true)), DType::Bool, &x.dims);
        let same = b.copy(&x);
        return Ok(Value::Tuple(vec![Value::Tensor(same), Value::Tensor(mask)], None));
    }
    let mask = coin(b, DType::Bool, &x.dims, float(1.0 - p));
    let scale = if p == 1.0 { 0.0 } else { 1.0 / (1.0 - p) };
    let compute = compute_type(x.dtype);
    let out = b.map(x.dtype, &x.dims, |k, i| {
        let (v, kept) = (k.load(&x, i), k.load(&mask, i));
        let (v, kept) = (k.cast(compute, v), k.cast(compute, kept));
        let scale = k.float(compute, scale);
        let v = k.mul(v, kept);
        k.mul(v, scale)
    });
    Ok(Value::Tuple(vec![Value::Tensor(out), Value::Tensor(mask)], None))
}

/// What was kept of the gradient, scaled.
fn native_dropout_backward(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, mask, scale) = (args.tensor(0)?, args.tensor(1)?, args.float(b, 2)?);
    let mask = views::expand_to(b, &mask, &x.dims)?;
    let compute = compute_type(x.dtype);
    Ok(Value::Tensor(b.map(x.dtype, &x.dims, |k, i| {
        let (v, kept) = (k.load(&x, i), k.load(&mask, i));
        let (v, kept) = (k.cast(compute, v), k.cast(compute, kept));
        let scale = k.number(&scale, compute);
        let v = k.mul(v, kept);
        k.mul(v, scale)
    })))
}

/// Leaky ReLU whose slope is drawn anew for each element that is not positive.
pub fn rrelu_training(b: &mut Builder<'_>, x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    let line = flat(b, x);
    let compute = compute_type(x.dtype);
    let flags = b.map(DType::I64, &line.dims, |k, i| {
        let v = k.load(&line, i);
        let v = k.cast(compute, v);
        let zero = k.zero(compute);
        let draws = k.binary(BinaryOp::Le, v, zero);
        k.cast(DType::I64, draws)
    });
    let numbers = running_sum(b, &flags);
    let total = b.reduce(ReduceOp::Sum, DType::I64, &[], &line.dims, |k, _, i| k.load(&flags, i), |_, _, v| v);
    let total = b.item(&total);
    let total = [b.dim(total)];
    let slopes = filled(b, "fill_uniform", DType::F64, DType::F64, &total, &[float(low), float(high)]);
    let out = b.map(x.dtype, &line.dims, |k, i| {
        let (v, flag, number) = (k.load(&line, i), k.load(&flags, i), k.load(&numbers, i));
        let draws = k.cast(DType::Bool, flag);
        let minus_one = k.int(-1);
        let at = k.add(number, minus_one);
        let one = k.one(DType::F64);
        let slope = k.load_or(&slopes, &[at], draws, one);
        let (v, slope) = (k.cast(compute, v), k.cast(compute, slope));
        k.mul(v, slope)
    });
    Ok(views::reshape(b, &out, &x.dims))
}
