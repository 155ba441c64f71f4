//! Batch normalisation: each channel over the batch and space, with running statistics.
//!
//! Statistics of a batch without `float32` parameters are rounded to the type of the input where PyTorch does so: in all steps
//! of `bfloat16`, before they are used in `float16`.

use super::norm::{Params, Stats, deviations, expect_channels, inverse_std, inverse_stds, mean_over, rounded, stats};
use crate::diag::Result;
use crate::loops::{BinaryOp, Const, Dim, ExprId, Operand, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::compute_type;
use crate::ops::value::{Tensor, Value, known_int};
use crate::ops::views::shape_text;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::batch_norm", lower: batch_norm },
    OpDef { name: "aten::native_batch_norm", lower: native_batch_norm },
    OpDef { name: "aten::_native_batch_norm_legit", lower: native_batch_norm },
    OpDef { name: "aten::_native_batch_norm_legit.no_stats", lower: native_batch_norm_no_stats },
    OpDef { name: "aten::_native_batch_norm_legit_no_training", lower: native_batch_norm_no_training },
];

/// What the elements of a channel are divided by.
#[derive(Clone, Copy)]
enum Spread<'a> {
    /// The root of these variances and of a small number.
    Variance(&'a Tensor, f64),
    /// Divided into 1 already.
    Inverse(&'a Tensor),
}

impl Spread<'_> {
    /// The factor of a channel.
    fn inverse(self, k: &mut KernelBuilder<'_, '_>, channel: &[ExprId], compute: DType) -> ExprId {
        let (Spread::Variance(source, _) | Spread::Inverse(source)) = self;
        let v = k.load(source, channel);
        let v = k.cast(compute, v);
        match self {
            Spread::Variance(_, eps) => inverse_std(k, v, eps),
            Spread::Inverse(_) => v,
        }
    }
}

/// Normalises channels with given statistics: for each channel one factor and one summand, which depend on nothing else.
fn normalise_channels(b: &mut Builder<'_>, x: &Tensor, mean: &Tensor, spread: Spread<'_>, p: Params<'_>) -> Tensor {
    let compute = compute_type(x.dtype);
    b.map(x.dtype, &x.dims, |k, i| {
        let channel = [i[1]];
        let mut factor = spread.inverse(k, &channel, compute);
        if let Some(weight) = p.weight {
            let w = k.load(weight, &channel);
            let w = k.cast(compute, w);
            factor = k.mul(factor, w);
        }
        let m = k.load(mean, &channel);
        let m = k.cast(compute, m);
        let shift = k.mul(m, factor);
        let shift = match p.bias {
            Some(bias) => {
                let v = k.load(bias, &channel);
                let v = k.cast(compute, v);
                k.sub(v, shift)
            }
            None => k.unary(UnaryOp::Neg, shift),
        };
        let x = k.load(x, i);
        let x = k.cast(compute, x);
        let product = k.mul(x, factor);
        k.add(product, shift)
    })
}

/// Statistics of each channel over batch and space.
fn channel_stats(b: &mut Builder<'_>, x: &Tensor) -> Stats {
    let reduced = [&x.dims[..1], &x.dims[2..]].concat();
    stats(b, x, &x.dims[1..2], &reduced, |_, i, over| [&over[..1], i, &over[1..]].concat())
}

/// Statistics of each channel, rounded to the channel's type where PyTorch rounds: the mean and the sum of squares, then what
/// becomes of them.
struct RoundedStats {
    mean: Tensor,
    /// Sums of squared deviations from the mean before it was rounded.
    squares: Tensor,
    inverse: Tensor,
}

fn rounded_stats(b: &mut Builder<'_>, x: &Tensor, eps: f64) -> RoundedStats {
    let dtype = x.dtype;
    let (dims, reduced) = (&x.dims[1..2], [&x.dims[..1], &x.dims[2..]].concat());
    let at = |i: &[ExprId], over: &[ExprId]| [&over[..1], i, &over[1..]].concat();
    let mean = mean_over(b, x, dims, &reduced, |_, i, over| at(i, over));
    let squares = deviations(b, x, &mean, dims, &reduced, |_, i, over| at(i, over), |k, sum| k.cast(dtype, sum));
    let squares = rounded(b, squares, dtype);
    let count = b.product(&reduced);
    let inverse = b.map(dtype, dims, |k, i| {
        let sum = k.load(&squares, i);
        let variance = rounded_quotient(k, sum, &count);
        let variance = k.cast(DType::F64, variance);
        let inverse = inverse_std(k, variance, eps);
        k.cast(DType::F32, inverse)
    });
    RoundedStats { mean: rounded(b, mean, dtype), squares, inverse }
}

/// A quotient in the type of `x`, which the divisor takes first.
fn rounded_quotient(k: &mut KernelBuilder<'_, '_>, x: ExprId, divisor: &Operand) -> ExprId {
    let narrow = k.dtype(x);
    let n = k.number(divisor, narrow);
    let (x, n) = (k.cast(DType::F32, x), k.cast(DType::F32, n));
    let quotient = k.div(x, n);
    k.cast(narrow, quotient)
}

/// [`update_running`] with products and sums rounded one by one.
fn update_rounded_running(
    b: &mut Builder<'_>,
    x: &Tensor,
    batch: &RoundedStats,
    running: [Option<&Tensor>; 2],
    momentum: &Operand,
) {
    let narrow = x.dtype;
    let count = b.product(&[&x.dims[..1], &x.dims[2..]].concat());
    let one = Operand::Const(Const::int(1));
    let rest = b.binary(BinaryOp::Sub, count, one);
    for (target, source, is_variance) in [(running[0], &batch.mean, false), (running[1], &batch.squares, true)] {
        let Some(target) = target else { continue };
        b.write(target, |k, i| {
            let round = |k: &mut KernelBuilder<'_, '_>, v: ExprId| {
                let v = k.cast(narrow, v);
                k.cast(DType::F32, v)
            };
            let (old, new) = (k.load(target, i), k.load(source, i));
            let new = if is_variance { rounded_quotient(k, new, &rest) } else { new };
            let (old, new) = (k.cast(DType::F32, old), k.cast(DType::F32, new));
            let m = k.number(momentum, narrow);
            let m = k.cast(DType::F32, m);
            let one = k.one(DType::F32);
            let keep = k.sub(one, m);
            let keep = round(k, keep);
            let (old, new) = (k.mul(old, keep), k.mul(new, m));
            let old = round(k, old);
            // The variance stays a float32 from here on.
            let new = if is_variance { new } else { round(k, new) };
            let sum = k.add(old, new);
            k.cast(narrow, sum)
        });
    }
}

/// Moves running statistics towards those of a batch: `running = (1 - momentum) * running + momentum * batch`, with the
/// unbiased variance.
pub fn update_running(
    b: &mut Builder<'_>,
    x: &Tensor,
    batch: &Stats,
    running: [Option<&Tensor>; 2],
    momentum: &Operand,
) -> Result<()> {
    let reduced = [&x.dims[..1], &x.dims[2..]].concat();
    let count = b.product(&reduced);
    for (target, source, is_variance) in [(running[0], &batch.mean, false), (running[1], &batch.variance, true)] {
        let Some(target) = target else { continue };
        let dtype = target.dtype;
        let compute = compute_type(dtype);
        b.write(target, |k, i| {
            let old = k.load(target, i);
            let old = k.cast(compute, old);
            let new = k.load(source, i);
            let mut new = k.cast(compute, new);
            if is_variance {
                let n = k.number(&count, compute);
                let one = k.one(compute);
                let rest = k.sub(n, one);
                let factor = k.div(n, rest);
                new = k.mul(new, factor);
            }
            let m = k.number(momentum, compute);
            let one = k.one(compute);
            let keep = k.sub(one, m);
            let (old, new) = (k.mul(old, keep), k.mul(new, m));
            let sum = k.add(old, new);
            k.cast(dtype, sum)
        });
    }
    Ok(())
}

/// In training a channel must have more than one value.
fn expect_many_values(b: &mut Builder<'_>, x: &Tensor) -> Result<()> {
    let reduced = [&x.dims[..1], &x.dims[2..]].concat();
    let count = b.product(&reduced);
    if known_int(&count) == Some(1) {
        return Err(b.user(format!(
            "Expected more than 1 value per channel when training, got input size {}",
            shape_text(&x.dims)
        )));
    }
    Ok(())
}

/// The parts of a batch norm's result.
pub struct BatchNorm {
    /// The normalised input.
    pub output: Tensor,
    /// Mean and inverse standard deviation of the batch, where these were used.
    batch: Option<[Tensor; 2]>,
}

/// Normalises with the statistics of the batch, which move the running ones, or without a momentum with these.
pub fn batch_norm_of(
    b: &mut Builder<'_>,
    x: &Tensor,
    p: Params<'_>,
    running: [Option<&Tensor>; 2],
    momentum: Option<Operand>,
    eps: f64,
) -> Result<BatchNorm> {
    expect_channels(b, x)?;
    for (name, t) in [("weight", p.weight), ("bias", p.bias), ("running_mean", running[0]), ("running_var", running[1])]
    {
        let Some(t) = t else { continue };
        if t.rank() != 1 {
            return Err(b.user(format!("{name} should be a vector, got {}", shape_text(&t.dims))));
        }
        let parts = [name.into(), x.dims[1].into(), t.dims[0].into()];
        b.require_equal(x.dims[1], t.dims[0], Message::new("{} should contain {} elements not {}", &parts))?;
    }
    let Some(momentum) = momentum else {
        let [Some(mean), Some(variance)] = running else {
            return Err(b.user("Expected running_mean and running_var to be defined when not training"));
        };
        return Ok(BatchNorm {
            output: normalise_channels(b, x, mean, Spread::Variance(variance, eps), p),
            batch: None,
        });
    };
    // Unless parameters are `float32`, PyTorch normalises with statistics in the type of the input.
    let first = [p.weight, p.bias, running[0], running[1]].into_iter().flatten().next().map_or(x.dtype, |t| t.dtype);
    if x.dtype == DType::BF16 && first == x.dtype {
        let batch = rounded_stats(b, x, eps);
        let output = normalise_channels(b, x, &batch.mean, Spread::Inverse(&batch.inverse), p);
        update_rounded_running(b, x, &batch, running, &momentum);
        return Ok(BatchNorm { output, batch: Some([batch.mean, batch.inverse]) });
    }
    let batch = channel_stats(b, x);
    let saved = if first == x.dtype { x.dtype } else { compute_type(x.dtype) };
    let inverse = inverse_stds(b, &batch.variance, eps, saved);
    let mean = rounded(b, batch.mean.clone(), saved);
    let is_exact = saved == compute_type(x.dtype);
    let spread = if is_exact { Spread::Variance(&batch.variance, eps) } else { Spread::Inverse(&inverse) };
    let output = normalise_channels(b, x, &mean, spread, p);
    update_running(b, x, &batch, running, &momentum)?;
    Ok(BatchNorm { output, batch: Some([mean, inverse]) })
}

fn batch_norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, weight, bias) = (args.tensor(0)?, args.optional_tensor(1)?, args.optional_tensor(2)?);
    let (mean, variance) = (args.optional_tensor(3)?, args.optional_tensor(4)?);
    if x.known_dims().is_some_and(|dims| dims.contains(&0)) {
        return Ok(Value::Tensor(b.copy(&x)));
    }
    let momentum = if args.flag(b, 5)? {
        expect_many_values(b, &x)?;
        Some(args.float(b, 6)?)
    } else {
        None
    };
    let eps = args.known_float(b, 7)?;
    let p = Params { weight: weight.as_ref(), bias: bias.as_ref() };
    let norm = batch_norm_of(b, &x, p, [mean.as_ref(), variance.as_ref()], momentum, eps)?;
    Ok(Value::Tensor(norm.output))
}

/// Result, saved mean and saved inverse standard deviation; the last two are empty outside training.
fn saved(b: &mut Builder<'_>, norm: BatchNorm) -> Value {
    let [mean, inverse] = norm.batch.unwrap_or_else(|| {
        let zero = Operand::Const(Const::float(DType::F64, 0.0));
        let empty = b.splat(zero, norm.output.dtype, &[Dim::Const(0)]);
        [empty.clone(), empty]
    });
    Value::Tuple(vec![Value::Tensor(norm.output), Value::Tensor(mean), Value::Tensor(inverse)], None)
}

fn native_batch_norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, weight, bias) = (args.tensor(0)?, args.optional_tensor(1)?, args.optional_tensor(2)?);
    let (mean, variance) = (args.optional_tensor(3)?, args.optional_tensor(4)?);
    let momentum = if args.flag(b, 5)? { Some(args.float(b, 6)?) } else { None };
    let eps = args.known_float(b, 7)?;
    let p = Params { weight: weight.as_ref(), bias: bias.as_ref() };
    let norm = batch_norm_of(b, &x, p, [mean.as_ref(), variance.as_ref()], momentum, eps)?;
    Ok(saved(b, norm))
}

fn native_batch_norm_no_stats(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, weight, bias) = (args.tensor(0)?, args.optional_tensor(1)?, args.optional_tensor(2)?);
    let momentum = if args.flag(b, 3)? { Some(args.float(b, 4)?) } else { None };
    let eps = args.known_float(b, 5)?;
    let p = Params { weight: weight.as_ref(), bias: bias.as_ref() };
    let norm = batch_norm_of(b, &x, p, [None, None], momentum, eps)?;
    Ok(saved(b, norm))
}

fn native_batch_norm_no_training(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, weight, bias) = (args.tensor(0)?, args.optional_tensor(1)?, args.optional_tensor(2)?);
    let (mean, variance) = (args.tensor(3)?, args.tensor(4)?);
    let eps = args.known_float(b, 6)?;
    let p = Params { weight: weight.as_ref(), bias: bias.as_ref() };
    let norm = batch_norm_of(b, &x, p, [Some(&mean), Some(&variance)], None, eps)?;
    Ok(saved(b, norm))
}
