//! Random numbers: the runtime's generator fills row-major buffers in PyTorch's order, so that seeded results agree.

use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Const, Dim, Operand};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::promote::compute_type;
use crate::ops::value::{Tensor, Value, int};
use crate::ops::write_result;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::rand", lower: |b, a| sized(b, a, uniform01) },
    OpDef { name: "aten::randn", lower: |b, a| sized(b, a, normal01) },
    OpDef { name: "aten::rand_like", lower: |b, a| like(b, a, uniform01) },
    OpDef { name: "aten::randn_like", lower: |b, a| like(b, a, normal01) },
    OpDef { name: "aten::randint", lower: |b, a| randint(b, a, None) },
    OpDef { name: "aten::randint.generator", lower: |b, a| randint(b, a, None) },
    OpDef { name: "aten::randint.low", lower: |b, a| randint(b, a, Some(0)) },
    OpDef { name: "aten::randint.low_generator", lower: |b, a| randint(b, a, Some(0)) },
    OpDef { name: "aten::randint_like", lower: |b, a| randint_like(b, a, None) },
    OpDef { name: "aten::randint_like.low_dtype", lower: |b, a| randint_like(b, a, Some(1)) },
    OpDef { name: "aten::randint_like.low_generator_dtype", lower: |b, a| randint_like(b, a, Some(1)) },
    OpDef { name: "aten::randperm", lower: randperm },
    OpDef { name: "aten::uniform", lower: uniform },
    OpDef { name: "aten::normal_functional", lower: normal },
    OpDef { name: "aten::normal_", lower: normal_in_place },
    OpDef { name: "aten::_no_grad_normal_", lower: normal_in_place },
    OpDef { name: "aten::_no_grad_uniform_", lower: uniform_in_place },
    OpDef { name: "aten::manual_seed", lower: manual_seed },
    OpDef { name: "aten::normal.float_float", lower: normal_sized },
    OpDef { name: "aten::bernoulli", lower: bernoulli_of },
    OpDef { name: "aten::bernoulli.p", lower: bernoulli_p },
    OpDef { name: "aten::bernoulli_.float", lower: bernoulli_in_place },
    OpDef { name: "aten::bernoulli.Tensor", lower: bernoulli_tensor },
    OpDef { name: "aten::dropout", lower: dropout },
    OpDef { name: "aten::feature_dropout", lower: feature_dropout },
];

fn float(value: f64) -> Operand {
    Operand::Const(Const::float(DType::F64, value))
}

/// A new tensor filled by a routine in this type, then converted.
pub fn filled(
    b: &mut Builder<'_>,
    routine: &'static str,
    drawn: DType,
    dtype: DType,
    dims: &[Dim],
    numbers: &[Operand],
) -> Tensor {
    let buffer = b.new_buffer(drawn, dims);
    let mut args = vec![Arg::Buffer(buffer)];
    args.extend(numbers.iter().cloned().map(Arg::Scalar));
    b.call(routine, args, &[]);
    let out = b.tensor_of(buffer);
    if drawn == dtype { out } else { b.map(dtype, dims, |k, i| k.load(&out, i)) }
}

fn expect_float(b: &Builder<'_>, dtype: DType) -> Result<()> {
    if dtype.is_floating_point() {
        return Ok(());
    }
    Err(b.user(format!("\"{}\" not implemented for '{}'", b.op_name, dtype.graph_name())))
}

/// Uniform numbers in `[0, 1)`.
pub fn uniform01(b: &mut Builder<'_>, dtype: DType, dims: &[Dim]) -> Result<Tensor> {
    expect_float(b, dtype)?;
    Ok(filled(b, "fill_uniform", compute_type(dtype), dtype, dims, &[float(0.0), float(1.0)]))
}

fn normal01(b: &mut Builder<'_>, dtype: DType, dims: &[Dim]) -> Result<Tensor> {
    expect_float(b, dtype)?;
    Ok(filled(b, "fill_normal", compute_type(dtype), dtype, dims, &[float(0.0), float(1.0)]))
}

/// The `dtype` argument, or another type where there is none.
fn dtype_arg(b: &Builder<'_>, args: &Args<'_>, default: DType) -> Result<DType> {
    match args.position("dtype") {
        Some(at) => Ok(args.dtype(b, at)?.unwrap_or(default)),
        None => Ok(default),
    }
}

type Fill = fn(&mut Builder<'_>, DType, &[Dim]) -> Result<Tensor>;

fn sized(b: &mut Builder<'_>, args: &Args<'_>, fill: Fill) -> Result<Value> {
    let dims = args.shape(b, 0)?;
    let dtype = dtype_arg(b, args, DType::F32)?;
    fill(b, dtype, &dims).map(Value::Tensor)
}

fn like(b: &mut Builder<'_>, args: &Args<'_>, fill: Fill) -> Result<Value> {
    let x = args.tensor(0)?;
    let dtype = dtype_arg(b, args, x.dtype)?;
    fill(b, dtype, &x.dims).map(Value::Tensor)
}

fn integers(b: &mut Builder<'_>, dtype: DType, dims: &[Dim], low: Operand, high: Operand) -> Tensor {
    filled(b, "fill_randint", DType::I64, dtype, dims, &[low, high])
}

/// `randint(high, size)`, or `randint(low, high, size)` where `low` has a position.
fn randint(b: &mut Builder<'_>, args: &Args<'_>, low: Option<usize>) -> Result<Value> {
    let first = usize::from(low.is_some());
    let low = low.map_or(Ok(int(0)), |at| args.int(b, at))?;
    let high = args.int(b, first)?;
    let dims = args.shape(b, first + 1)?;
    let dtype = dtype_arg(b, args, DType::I64)?;
    Ok(Value::Tensor(integers(b, dtype, &dims, low, high)))
}

fn randint_like(b: &mut Builder<'_>, args: &Args<'_>, low: Option<usize>) -> Result<Value> {
    let x = args.tensor(0)?;
    let high = args.int(b, 1 + usize::from(low.is_some()))?;
    let low = low.map_or(Ok(int(0)), |at| args.int(b, at))?;
    let dtype = dtype_arg(b, args, x.dtype)?;
    Ok(Value::Tensor(integers(b, dtype, &x.dims, low, high)))
}

fn randperm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let n = args.int(b, 0)?;
    let is_valid = b.binary(BinaryOp::Ge, n.clone(), int(0));
    b.check(is_valid, "n must be non-negative");
    let dims = [b.dim(n)];
    let dtype = dtype_arg(b, args, DType::I64)?;
    Ok(Value::Tensor(filled(b, "randperm", DType::I64, dtype, &dims, &[])))
}

fn uniform(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, low, high) = (args.tensor(0)?, args.float(b, 1)?, args.float(b, 2)?);
    expect_float(b, x.dtype)?;
    Ok(Value::Tensor(filled(b, "fill_uniform", compute_type(x.dtype), x.dtype, &x.dims, &[low, high])))
}

fn normal(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, mean, std) = (args.tensor(0)?, args.float(b, 1)?, args.float(b, 2)?);
    expect_float(b, x.dtype)?;
    Ok(Value::Tensor(filled(b, "fill_normal", compute_type(x.dtype), x.dtype, &x.dims, &[mean, std])))
}

/// Has no functional twin of its name.
fn uniform_in_place(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let target = args.tensor(0)?;
    if let Value::Tensor(result) = uniform(b, args)? {
        write_result(b, &target, &result)?;
    }
    Ok(Value::Tensor(target))
}

fn manual_seed(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let seed = args.int(b, 0)?;
    b.call("random_seed", vec![Arg::Scalar(seed)], &[]);
    Ok(Value::None)
}

fn normal_in_place(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let target = args.tensor(0)?;
    if let Value::Tensor(result) = normal(b, args)? {
        write_result(b, &target, &result)?;
    }
    Ok(Value::Tensor(target))
}

fn normal_sized(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (mean, std) = (args.float(b, 0)?, args.float(b, 1)?);
    let dims = args.shape(b, 2)?;
    let dtype = dtype_arg(b, args, DType::F32)?;
    expect_float(b, dtype)?;
    Ok(Value::Tensor(filled(b, "fill_normal", compute_type(dtype), dtype, &dims, &[mean, std])))
}

/// 1 with this probability, else 0.
pub fn coin(b: &mut Builder<'_>, dtype: DType, dims: &[Dim], p: Operand) -> Tensor {
    let inside = |b: &mut Builder<'_>, p: &Operand| {
        let low = b.binary(BinaryOp::Ge, p.clone(), float(0.0));
        let high = b.binary(BinaryOp::Le, p.clone(), float(1.0));
        b.binary(BinaryOp::And, low, high)
    };
    let is_valid = inside(b, &p);
    b.check(is_valid, "bernoulli_ expects p to be in [0, 1]");
    filled(b, "fill_bernoulli", DType::Bool, dtype, dims, &[p])
}

fn bernoulli_p(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, p) = (args.tensor(0)?, args.float(b, 1)?);
    Ok(Value::Tensor(coin(b, x.dtype, &x.dims, p)))
}

fn bernoulli_in_place(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (target, p) = (args.tensor(0)?, args.float(b, 1)?);
    let result = coin(b, target.dtype, &target.dims, p);
    write_result(b, &target, &result)?;
    Ok(Value::Tensor(target))
}

/// 1 where a uniform number is less than the probability at its place.
fn coins(b: &mut Builder<'_>, p: &Tensor, dtype: DType) -> Result<Tensor> {
    expect_float(b, p.dtype)?;
    let drawn = compute_type(p.dtype);
    let u = uniform01(b, drawn, &p.dims)?;
    Ok(b.map(dtype, &p.dims, |k, i| {
        let (u, p) = (k.load(&u, i), k.load(p, i));
        let p = k.cast(drawn, p);
        let holds = k.binary(BinaryOp::Lt, u, p);
        k.cast(dtype, holds)
    }))
}

fn bernoulli_of(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let p = args.tensor(0)?;
    coins(b, &p, p.dtype).map(Value::Tensor)
}

fn bernoulli_tensor(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, p) = (args.tensor(0)?, args.tensor(1)?);
    let p = crate::ops::views::expand_to(b, &p, &x.dims)?;
    coins(b, &p, x.dtype).map(Value::Tensor)
}

/// In training each element is dropped with probability `p` and the others are scaled up; otherwise nothing happens.
fn dropout(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dims = x.dims.clone();
    dropped(b, args, &x, &dims)
}

/// The same for whole channels.
fn feature_dropout(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dims = x.dims.iter().enumerate().map(|(d, n)| if d < 2 { *n } else { Dim::Const(1) }).collect::<Vec<_>>();
    dropped(b, args, &x, &dims)
}

fn dropped(b: &mut Builder<'_>, args: &Args<'_>, x: &Tensor, mask_dims: &[Dim]) -> Result<Value> {
    if !args.flag(b, 2)? {
        return Ok(Value::Tensor(x.clone()));
    }
    let p = args.known_float(b, 1)?;
    if !(0.0..=1.0).contains(&p) {
        return Err(b.user(format!("dropout probability has to be between 0 and 1, but got {p}")));
    }
    if p == 0.0 {
        return Ok(Value::Tensor(x.clone()));
    }
    if p == 1.0 {
        let zero = b.splat(int(0), x.dtype, &x.dims);
        return Ok(Value::Tensor(zero));
    }
    let mask = coin(b, DType::Bool, mask_dims, float(1.0 - p));
    let mask = crate::ops::views::expand_to(b, &mask, &x.dims)?;
    let compute = compute_type(x.dtype);
    Ok(Value::Tensor(b.map(x.dtype, &x.dims, |k, i| {
        let (v, m) = (k.load(x, i), k.load(&mask, i));
        let (v, m) = (k.cast(compute, v), k.cast(compute, m));
        let keep = k.float(compute, 1.0 - p);
        let m = k.div(m, keep);
        k.mul(v, m)
    })))
}
