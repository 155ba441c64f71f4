//! Losses that compare each element with a target, or each row with one; the result is theirs, their mean or their sum.
//!
//! Source: the formulas of PyTorch's manual, torch.nn.functional.

use super::pointwise::{elementwise, elementwise_in, number};
use super::reduce::{Over, mean_over, norm_over, sum_over};
use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, ExprId, ReduceOp, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::{compute_type, float_type, result_type};
use crate::ops::value::{Tensor, Value};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::mse_loss", lower: |b, a| pairwise(b, a, 2, |k, d| k.mul(d, d)) },
    OpDef { name: "aten::l1_loss", lower: |b, a| pairwise(b, a, 2, |k, d| k.unary(UnaryOp::Abs, d)) },
    OpDef { name: "aten::smooth_l1_loss", lower: smooth_l1_loss },
    OpDef { name: "aten::huber_loss", lower: huber_loss },
    OpDef { name: "aten::soft_margin_loss", lower: soft_margin_loss },
    OpDef { name: "aten::hinge_embedding_loss", lower: hinge_embedding_loss },
    OpDef { name: "aten::margin_ranking_loss", lower: margin_ranking_loss },
    OpDef { name: "aten::poisson_nll_loss", lower: poisson_nll_loss },
    OpDef { name: "aten::kl_div", lower: kl_div },
    OpDef { name: "aten::binary_cross_entropy", lower: binary_cross_entropy },
    OpDef { name: "aten::binary_cross_entropy_with_logits", lower: binary_cross_entropy_with_logits },
    OpDef { name: "aten::cosine_embedding_loss", lower: cosine_embedding_loss },
    OpDef { name: "aten::pairwise_distance", lower: pairwise_distance },
    OpDef { name: "aten::triplet_margin_loss", lower: triplet_margin_loss },
    OpDef { name: "aten::multilabel_margin_loss", lower: multilabel_margin_loss },
];

/// The argument `reduction`, see [`reduced`].
pub fn reduction(b: &mut Builder<'_>, args: &Args<'_>, at: usize) -> Result<i64> {
    let found = args.choice(b, at, &[0, 1, 2])?;
    if (0..3).contains(&found) { Ok(found) } else { Err(b.user(format!("{found} is not a valid value for reduction"))) }
}

/// What the argument `reduction` asks for: each loss (0), their mean (1), their sum (2).
pub fn reduced(b: &mut Builder<'_>, losses: &Tensor, reduction: i64) -> Tensor {
    let all = Over::new((0..losses.rank()).collect(), false);
    match reduction {
        0 => losses.clone(),
        1 => mean_over(b, losses, &all, losses.dtype),
        _ => sum_over(b, losses, &all, losses.dtype),
    }
}

/// A loss of each element of the broadcast inputs, reduced as the argument at `reduction` says.
fn each(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    inputs: &[&Tensor],
    reduction: usize,
    f: impl FnOnce(&mut KernelBuilder<'_, '_>, &[ExprId]) -> ExprId,
) -> Result<Value> {
    let reduction = self::reduction(b, args, reduction)?;
    let losses = elementwise(b, inputs, None, f)?;
    Ok(Value::Tensor(reduced(b, &losses, reduction)))
}

/// A loss that depends on the difference of input and target.
fn pairwise(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    reduction: usize,
    f: impl FnOnce(&mut KernelBuilder<'_, '_>, ExprId) -> ExprId,
) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    each(b, args, &[&x, &y], reduction, |k, v| {
        let difference = k.sub(v[0], v[1]);
        f(k, difference)
    })
}

/// The greater of an expression and 0.
fn positive(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let zero = number(k, x, 0.0);
    k.max(x, zero)
}

/// `0.5 * d² / beta` where `|d| < beta`, else `|d| - 0.5 * beta`.
fn smooth_l1_loss(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let beta = args.known_float(b, 3)?;
    if beta < 0.0 {
        return Err(b.user("smooth_l1_loss does not support negative values for beta."));
    }
    pairwise(b, args, 2, |k, d| {
        let size = k.unary(UnaryOp::Abs, d);
        let (half, beta, half_beta) = (number(k, d, 0.5), number(k, d, beta), number(k, d, 0.5 * beta));
        let is_small = k.binary(BinaryOp::Lt, size, beta);
        let square = k.mul(half, size);
        let square = k.mul(square, size);
        let square = k.div(square, beta);
        let line = k.sub(size, half_beta);
        k.select(is_small, square, line)
    })
}

/// `0.5 * d²` where `|d| <= delta`, else `delta * (|d| - 0.5 * delta)`.
fn huber_loss(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let delta = args.known_float(b, 3)?;
    if delta <= 0.0 {
        return Err(b.user("huber_loss does not support non-positive values for delta."));
    }
    pairwise(b, args, 2, |k, d| {
        let size = k.unary(UnaryOp::Abs, d);
        let (half, delta, half_delta) = (number(k, d, 0.5), number(k, d, delta), number(k, d, 0.5 * delta));
        let is_small = k.binary(BinaryOp::Le, size, delta);
        let square = k.mul(half, size);
        let square = k.mul(square, size);
        let line = k.sub(size, half_delta);
        let line = k.mul(delta, line);
        k.select(is_small, square, line)
    })
}

/// `log(1 + exp(-y * x))`.
fn soft_margin_loss(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    each(b, args, &[&x, &y], 2, |k, v| {
        let negated = k.unary(UnaryOp::Neg, v[1]);
        let product = k.mul(negated, v[0]);
        let e = k.unary(UnaryOp::Exp, product);
        k.unary(UnaryOp::Log1p, e)
    })
}

/// `x` for targets of 1, `max(0, margin - x)` for targets of -1; the sum of both for others.
fn hinge_embedding_loss(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y, margin) = (args.tensor(0)?, args.tensor(1)?, args.known_float(b, 2)?);
    each(b, args, &[&x, &y], 3, |k, v| {
        let (margin, zero) = (number(k, v[0], margin), number(k, v[0], 0.0));
        let (one, minus_one) = (number(k, v[1], 1.0), number(k, v[1], -1.0));
        let distance = k.sub(margin, v[0]);
        let distance = k.max(distance, zero);
        let is_other = k.binary(BinaryOp::Ne, v[1], one);
        let distance = k.select(is_other, distance, zero);
        let is_near = k.binary(BinaryOp::Ne, v[1], minus_one);
        let near = k.select(is_near, v[0], zero);
        k.add(distance, near)
    })
}

/// `max(0, -y * (x1 - x2) + margin)`.
fn margin_ranking_loss(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, other, y) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    let margin = args.known_float(b, 3)?;
    each(b, args, &[&x, &other, &y], 4, |k, v| {
        let difference = k.sub(v[0], v[1]);
        let negated = k.unary(UnaryOp::Neg, v[2]);
        let product = k.mul(negated, difference);
        let margin = number(k, product, margin);
        let sum = k.add(product, margin);
        positive(k, sum)
    })
}

/// `exp(x) - y * x`, or `x - y * log(x + eps)` of inputs that are no logarithms; with `full` the Stirling term where `y > 1`.
fn poisson_nll_loss(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    let (is_log, is_full, eps) = (args.flag(b, 2)?, args.flag(b, 3)?, args.known_float(b, 4)?);
    each(b, args, &[&x, &y], 5, |k, v| {
        let loss = if is_log {
            let e = k.unary(UnaryOp::Exp, v[0]);
            let product = k.mul(v[1], v[0]);
            k.sub(e, product)
        } else {
            let eps = number(k, v[0], eps);
            let moved = k.add(v[0], eps);
            let log = k.unary(UnaryOp::Log, moved);
            let product = k.mul(v[1], log);
            k.sub(v[0], product)
        };
        if !is_full {
            return loss;
        }
        let (one, zero, half) = (number(k, v[1], 1.0), number(k, v[1], 0.0), number(k, v[1], 0.5));
        let circle = number(k, v[1], std::f64::consts::TAU);
        let log = k.unary(UnaryOp::Log, v[1]);
        let entropy = k.mul(v[1], log);
        let rest = k.mul(circle, v[1]);
        let rest = k.unary(UnaryOp::Log, rest);
        let rest = k.mul(half, rest);
        let term = k.sub(entropy, v[1]);
        let term = k.add(term, rest);
        let is_large = k.binary(BinaryOp::Gt, v[1], one);
        let term = k.select(is_large, term, zero);
        k.add(loss, term)
    })
}

/// `y * (log(y) - x)`, 0 where `y` is 0; `exp(y) * (y - x)` of targets that are logarithms.
fn kl_div(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y, is_log) = (args.tensor(0)?, args.tensor(1)?, args.flag(b, 3)?);
    each(b, args, &[&x, &y], 2, |k, v| {
        if is_log {
            let e = k.unary(UnaryOp::Exp, v[1]);
            let difference = k.sub(v[1], v[0]);
            return k.mul(e, difference);
        }
        let zero = number(k, v[1], 0.0);
        let log = k.unary(UnaryOp::Log, v[1]);
        let entropy = k.mul(v[1], log);
        let is_zero = k.binary(BinaryOp::Eq, v[1], zero);
        let entropy = k.select(is_zero, zero, entropy);
        let product = k.mul(v[1], v[0]);
        k.sub(entropy, product)
    })
}

/// The inputs of a loss with an optional factor at the end.
fn with_weight<'t>(inputs: &[&'t Tensor], weight: Option<&'t Tensor>) -> Vec<&'t Tensor> {
    inputs.iter().copied().chain(weight).collect()
}

/// `-(y * log(x) + (1 - y) * log(1 - x))` with logarithms of at least -100, times the weight.
fn binary_cross_entropy(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y, weight) = (args.tensor(0)?, args.tensor(1)?, args.optional_tensor(2)?);
    let is_fine = b.reduce(
        ReduceOp::And,
        DType::Bool,
        &[],
        &x.dims,
        |k, _, at| {
            let v = k.load(&x, at);
            let v = k.cast(compute_type(x.dtype), v);
            let (zero, one) = (number(k, v, 0.0), number(k, v, 1.0));
            let (low, high) = (k.binary(BinaryOp::Ge, v, zero), k.binary(BinaryOp::Le, v, one));
            k.and(low, high)
        },
        |_, _, v| v,
    );
    let is_fine = b.item(&is_fine);
    b.check(is_fine, "all elements of input should be between 0 and 1");
    each(b, args, &with_weight(&[&x, &y], weight.as_ref()), 3, |k, v| {
        let (one, least) = (number(k, v[0], 1.0), number(k, v[0], -100.0));
        let log = k.unary(UnaryOp::Log, v[0]);
        let log = k.max(log, least);
        let negated = k.unary(UnaryOp::Neg, v[0]);
        let other = k.unary(UnaryOp::Log1p, negated);
        let other = k.max(other, least);
        let left = k.sub(v[1], one);
        let left = k.mul(left, other);
        let right = k.mul(v[1], log);
        let loss = k.sub(left, right);
        v.get(2).map_or(loss, |w| k.mul(loss, *w))
    })
}

/// The same of `sigmoid(x)`, computed without overflow; `pos_weight` multiplies the terms of positive targets.
fn binary_cross_entropy_with_logits(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    let (weight, pos_weight) = (args.optional_tensor(2)?, args.optional_tensor(3)?);
    let n = 2 + usize::from(pos_weight.is_some());
    let inputs = with_weight(&with_weight(&[&x, &y], pos_weight.as_ref()), weight.as_ref());
    let has_pos_weight = pos_weight.is_some();
    each(b, args, &inputs, 4, |k, v| {
        let (one, zero) = (number(k, v[0], 1.0), number(k, v[0], 0.0));
        // -log(sigmoid(x)) = log(1 + exp(-|x|)) + max(-x, 0).
        let size = k.unary(UnaryOp::Abs, v[0]);
        let size = k.unary(UnaryOp::Neg, size);
        let e = k.unary(UnaryOp::Exp, size);
        let log = k.unary(UnaryOp::Log1p, e);
        let negated = k.unary(UnaryOp::Neg, v[0]);
        let below = k.max(negated, zero);
        let mut term = k.add(log, below);
        if has_pos_weight {
            let more = k.sub(v[2], one);
            let more = k.mul(more, v[1]);
            let factor = k.add(more, one);
            term = k.mul(factor, term);
        }
        let rest = k.sub(one, v[1]);
        let rest = k.mul(rest, v[0]);
        let loss = k.add(rest, term);
        v.get(n).map_or(loss, |w| k.mul(loss, *w))
    })
}

/// `1 - cos(x1, x2)` for targets of 1, `max(0, cos(x1, x2) - margin)` for targets of -1.
fn cosine_embedding_loss(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, other, y) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    let margin = args.known_float(b, 3)?;
    if y.rank() > 1 || x.rank() != y.rank() + 1 || other.rank() != x.rank() {
        return Err(b.user("0D or 1D target tensor expected, with inputs of one dimension more"));
    }
    let over = Over::new(vec![y.rank()], false);
    let mut dot = |p: &Tensor, q: &Tensor| -> Result<Tensor> {
        let product = elementwise(b, &[p, q], None, |k, v| k.mul(v[0], v[1]))?;
        let dtype = if product.dtype.is_floating_point() { product.dtype } else { DType::I64 };
        Ok(sum_over(b, &product, &over, dtype))
    };
    let (product, first, second) = (dot(&x, &other)?, dot(&x, &x)?, dot(&other, &other)?);
    let common = result_type(&[&product, &y]);
    let float = float_type(common);
    let reduction = self::reduction(b, args, 4)?;
    let losses = elementwise_in(b, &[&product, &first, &second, &y], float, float, |k, v| {
        // Keeps the quotient finite for vectors of length 0.
        let (eps, one, zero) = (number(k, v[0], 1e-12), number(k, v[0], 1.0), number(k, v[0], 0.0));
        let (p, q) = (k.add(v[1], eps), k.add(v[2], eps));
        let length = k.mul(p, q);
        let length = k.unary(UnaryOp::Sqrt, length);
        let cosine = k.div(v[0], length);
        let apart = k.sub(one, cosine);
        let margin = number(k, v[0], margin);
        let near = k.sub(cosine, margin);
        let near = positive(k, near);
        let minus_one = number(k, v[0], -1.0);
        let (is_same, is_other) = (k.binary(BinaryOp::Eq, v[3], one), k.binary(BinaryOp::Eq, v[3], minus_one));
        let (apart, near) = (k.select(is_same, apart, zero), k.select(is_other, near, zero));
        k.add(apart, near)
    })?;
    Ok(Value::Tensor(reduced(b, &losses, reduction)))
}

/// The p-norm of `x - y + eps` along the last dimension.
fn distance(b: &mut Builder<'_>, x: &Tensor, y: &Tensor, p: f64, eps: f64, keeps: bool) -> Result<Tensor> {
    let dtype = float_type(result_type(&[x, y]));
    let difference = elementwise_in(b, &[x, y], dtype, dtype, |k, v| {
        let d = k.sub(v[0], v[1]);
        let eps = number(k, d, eps);
        k.add(d, eps)
    })?;
    let last = Over::new(difference.rank().checked_sub(1).into_iter().collect(), keeps);
    Ok(norm_over(b, &difference, &last, p, difference.dtype))
}

fn pairwise_distance(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    let (p, eps, keeps) = (args.known_float(b, 2)?, args.known_float(b, 3)?, args.flag(b, 4)?);
    Ok(Value::Tensor(distance(b, &x, &y, p, eps, keeps)?))
}

/// `max(0, d(anchor, positive) - d(anchor, negative) + margin)` with p-norm distances along the last dimension.
fn triplet_margin_loss(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (anchor, near, far) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    let (margin, p, eps) = (args.known_float(b, 3)?, args.known_float(b, 4)?, args.known_float(b, 5)?);
    let swap = args.flag(b, 6)?;
    let mut distance = |x: &Tensor, y: &Tensor| distance(b, x, y, p, eps, false);
    let (near_by, mut far_off) = (distance(&anchor, &near)?, distance(&anchor, &far)?);
    if swap {
        let between = distance(&near, &far)?;
        far_off = elementwise(b, &[&far_off, &between], None, |k, v| k.min(v[0], v[1]))?;
    }
    each(b, args, &[&near_by, &far_off], 7, |k, v| {
        let margin = number(k, v[0], margin);
        let sum = k.add(margin, v[0]);
        let sum = k.sub(sum, v[1]);
        positive(k, sum)
    })
}

/// Of each row the sum over its targets `t` (those before the first -1) and all `j` that are none of `max(0, 1 - x[t] + x[j])`,
/// divided by the row's length.
fn multilabel_margin_loss(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (mut x, mut y, reduction) = (args.tensor(0)?, args.tensor(1)?, reduction(b, args, 2)?);
    let is_single = x.rank() < 2;
    while x.rank() < 2 {
        (x, y) = (views::unsqueeze(b, &x, 0), views::unsqueeze(b, &y, 0));
    }
    let (rows, n) = (x.dims[0], x.dims[1]);
    super::index::check_all(b, &y, "target out of range", |k, t| {
        let minus_one = k.int(-1);
        let (low, n) = (k.binary(BinaryOp::Ge, t, minus_one), k.dim(n));
        let high = k.binary(BinaryOp::Lt, t, n);
        k.and(low, high)
    });
    let target = |k: &mut KernelBuilder<'_, '_>, row: ExprId, at: ExprId| {
        let t = k.load(&y, &[row, at]);
        k.cast(DType::I64, t)
    };
    let is_listed = b.reduce(
        ReduceOp::And,
        DType::Bool,
        &[rows, n],
        &[n],
        |k, i, over| {
            let (t, zero) = (target(k, i[0], over[0]), k.int(0));
            let is_later = k.binary(BinaryOp::Gt, over[0], i[1]);
            let is_target = k.binary(BinaryOp::Ge, t, zero);
            k.binary(BinaryOp::Or, is_later, is_target)
        },
        |_, _, v| v,
    );
    let is_target = b.reduce(
        ReduceOp::Or,
        DType::Bool,
        &[rows, n],
        &[n],
        |k, i, over| {
            let t = target(k, i[0], over[0]);
            let is_here = k.binary(BinaryOp::Eq, t, i[1]);
            let counts = k.load(&is_listed, &[i[0], over[0]]);
            k.and(is_here, counts)
        },
        |_, _, v| v,
    );
    let compute = compute_type(x.dtype);
    let losses = b.reduce(
        ReduceOp::Sum,
        x.dtype,
        &[rows],
        &[n, n],
        |k, i, over| {
            let t = target(k, i[0], over[0]);
            let counts = k.load(&is_listed, &[i[0], over[0]]);
            let (zero, nothing) = (k.int(0), k.zero(compute));
            let t = k.max(t, zero);
            let (own, other) = (k.load(&x, &[i[0], t]), k.load(&x, &[i[0], over[1]]));
            let (own, other) = (k.cast(compute, own), k.cast(compute, other));
            let one = k.one(compute);
            let margin = k.sub(one, own);
            let margin = k.add(margin, other);
            let margin = k.max(margin, nothing);
            let excluded = k.load(&is_target, &[i[0], over[1]]);
            let margin = k.select(excluded, nothing, margin);
            k.select(counts, margin, nothing)
        },
        |k, _, sum| {
            let n = k.dim(n);
            let n = k.cast(compute, n);
            k.div(sum, n)
        },
    );
    let losses = if is_single { views::reshape(b, &losses, &[] as &[Dim]) } else { losses };
    Ok(Value::Tensor(reduced(b, &losses, reduction)))
}
