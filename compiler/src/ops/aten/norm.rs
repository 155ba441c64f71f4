//! Normalisation: over batches, layers, groups, instances and neighbouring channels.
//!
//! Statistics are two reductions (mean, then mean of squared deviations, so that large means lose nothing) and the
//! normalisation is a map. With known statistics, as in `batch_norm` of inference, only the map is left.

use super::batch_norm::{batch_norm_of, update_running};
use crate::diag::Result;
use crate::loops::{BinaryOp, Const, Dim, ExprId, Operand, ReduceOp, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::{Message, Part};
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::compute_type;
use crate::ops::value::{Tensor, Value};
use crate::ops::views::{self, shape_text};
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::layer_norm", lower: layer_norm },
    OpDef { name: "aten::native_layer_norm", lower: native_layer_norm },
    OpDef { name: "aten::group_norm", lower: group_norm },
    OpDef { name: "aten::native_group_norm", lower: native_group_norm },
    OpDef { name: "aten::instance_norm", lower: instance_norm },
    OpDef { name: "aten::rms_norm", lower: rms_norm },
    OpDef { name: "aten::_weight_norm", lower: weight_norm },
    OpDef { name: "aten::norm_except_dim", lower: norm_except_dim },
];

/// The mean and the biased variance of a tensor over groups of its elements.
pub struct Stats {
    /// The mean of each group.
    pub mean: Tensor,
    /// The variance of each group, for as many points as there are.
    pub variance: Tensor,
}

/// Statistics over `reduced` points for each of `dims`; `at` gives the tensor's indices of a group and a point.
pub fn stats(
    b: &mut Builder<'_>,
    x: &Tensor,
    dims: &[Dim],
    reduced: &[Dim],
    at: impl Fn(&mut KernelBuilder<'_, '_>, &[ExprId], &[ExprId]) -> Vec<ExprId>,
) -> Stats {
    let compute = compute_type(x.dtype);
    let count = b.product(reduced);
    let mean = mean_over(b, x, dims, reduced, &at);
    let variance = deviations(b, x, &mean, dims, reduced, &at, |k, sum| {
        let n = k.number(&count, compute);
        k.div(sum, n)
    });
    Stats { mean, variance }
}

/// The means of [`stats`].
pub fn mean_over(
    b: &mut Builder<'_>,
    x: &Tensor,
    dims: &[Dim],
    reduced: &[Dim],
    at: impl Fn(&mut KernelBuilder<'_, '_>, &[ExprId], &[ExprId]) -> Vec<ExprId>,
) -> Tensor {
    let compute = compute_type(x.dtype);
    let count = b.product(reduced);
    b.reduce(
        ReduceOp::Sum,
        compute,
        dims,
        reduced,
        |k, i, over| {
            let at = at(k, i, over);
            let v = k.load(x, &at);
            k.cast(compute, v)
        },
        |k, _, sum| {
            let n = k.number(&count, compute);
            k.div(sum, n)
        },
    )
}

/// What `finish` makes of the sum of squared deviations from `mean`, for groups and points as in [`stats`].
pub fn deviations(
    b: &mut Builder<'_>,
    x: &Tensor,
    mean: &Tensor,
    dims: &[Dim],
    reduced: &[Dim],
    at: impl Fn(&mut KernelBuilder<'_, '_>, &[ExprId], &[ExprId]) -> Vec<ExprId>,
    finish: impl FnOnce(&mut KernelBuilder<'_, '_>, ExprId) -> ExprId,
) -> Tensor {
    let compute = compute_type(x.dtype);
    b.reduce(
        ReduceOp::Sum,
        compute,
        dims,
        reduced,
        |k, i, over| {
            let at = at(k, i, over);
            let v = k.load(x, &at);
            let v = k.cast(compute, v);
            let m = k.load(mean, i);
            let d = k.sub(v, m);
            k.mul(d, d)
        },
        |k, _, sum| finish(k, sum),
    )
}

/// `1 / sqrt(variance + eps)`
pub fn inverse_std(k: &mut KernelBuilder<'_, '_>, variance: ExprId, eps: f64) -> ExprId {
    let dtype = k.dtype(variance);
    let eps = k.float(dtype, eps);
    let sum = k.add(variance, eps);
    let std = k.unary(UnaryOp::Sqrt, sum);
    let one = k.one(dtype);
    k.div(one, std)
}

/// `(x - mean) * scale * weight + bias`, of expressions in one type.
fn affine(
    k: &mut KernelBuilder<'_, '_>,
    x: ExprId,
    scale: ExprId,
    weight: Option<(&Tensor, &[ExprId])>,
    bias: Option<(&Tensor, &[ExprId])>,
) -> ExprId {
    let dtype = k.dtype(x);
    let mut y = k.mul(x, scale);
    if let Some((weight, at)) = weight {
        let w = k.load(weight, at);
        let w = k.cast(dtype, w);
        y = k.mul(y, w);
    }
    if let Some((bias, at)) = bias {
        let v = k.load(bias, at);
        let v = k.cast(dtype, v);
        y = k.add(y, v);
    }
    y
}

/// The inverse standard deviations of variances, as a tensor.
pub fn inverse_stds(b: &mut Builder<'_>, variance: &Tensor, eps: f64, dtype: DType) -> Tensor {
    b.map(dtype, &variance.dims, |k, i| {
        let v = k.load(variance, i);
        inverse_std(k, v, eps)
    })
}

/// A tensor in this type; itself where it has it.
pub fn rounded(b: &mut Builder<'_>, t: Tensor, dtype: DType) -> Tensor {
    if t.dtype == dtype { t } else { b.map(dtype, &t.dims, |k, i| k.load(&t, i)) }
}

/// Refuses what has no channels, and integers.
pub fn expect_channels(b: &Builder<'_>, x: &Tensor) -> Result<()> {
    if x.rank() < 2 {
        return Err(b.user(format!("Expected at least 2 dimensions, but got input of size: {}", shape_text(&x.dims))));
    }
    if !x.dtype.is_floating_point() {
        return Err(b.user(format!("\"{}\" not implemented for '{}'", b.op_name, x.dtype.graph_name())));
    }
    Ok(())
}

/// Weight and bias of a normalisation.
#[derive(Clone, Copy)]
pub struct Params<'a> {
    /// Multiplies what is normalised.
    pub weight: Option<&'a Tensor>,
    /// Is added to it then.
    pub bias: Option<&'a Tensor>,
}

/// Checks that a tensor ends with `normalized_shape`; gives the number of dimensions before that.
fn leading(b: &mut Builder<'_>, args: &Args<'_>, x: &Tensor) -> Result<usize> {
    let shape = args.int_list(b, 1)?;
    let wanted: Vec<Dim> = shape.into_iter().map(|o| b.dim(o)).collect();
    let items = vec!["{}"; wanted.len()].join(", ");
    let message =
        format!("Given normalized_shape={{}}, expected input with shape [*, {items}], but got input of size{{}}");
    let mut parts = vec![Part::from(&wanted)];
    parts.extend(wanted.iter().map(|extent| Part::from(*extent)));
    parts.push((&x.dims).into());
    let message = Message::new(&message, &parts);
    let Some(lead) = x.rank().checked_sub(wanted.len()).filter(|_| !wanted.is_empty()) else {
        return Err(b.fail(message));
    };
    for (&have, &want) in x.dims[lead..].iter().zip(&wanted) {
        b.require_equal(have, want, message.clone())?;
    }
    if !x.dtype.is_floating_point() {
        return Err(b.user(format!("\"LayerNormKernelImpl\" not implemented for '{}'", x.dtype.graph_name())));
    }
    Ok(lead)
}

fn layer_norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (output, _) = layer_norm_of_args(b, args)?;
    Ok(Value::Tensor(output))
}

fn native_layer_norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let eps = args.known_float(b, 4)?;
    let (output, stats) = layer_norm_of_args(b, args)?;
    let rank = output.rank();
    let inverse = inverse_stds(b, &stats.variance, eps, output.dtype);
    let stats = Stats { mean: rounded(b, stats.mean, output.dtype), variance: stats.variance };
    let widen = |b: &mut Builder<'_>, mut t: Tensor| {
        while t.rank() < rank {
            t = views::unsqueeze(b, &t, t.rank());
        }
        Value::Tensor(t)
    };
    let (mean, inverse) = (widen(b, stats.mean), widen(b, inverse));
    Ok(Value::Tuple(vec![Value::Tensor(output), mean, inverse], None))
}

fn layer_norm_of_args(b: &mut Builder<'_>, args: &Args<'_>) -> Result<(Tensor, Stats)> {
    let x = args.tensor(0)?;
    let lead = leading(b, args, &x)?;
    let (weight, bias) = (args.optional_tensor(2)?, args.optional_tensor(3)?);
    let eps = args.known_float(b, 4)?;
    layer_norm_of(b, &x, lead, weight.as_ref(), bias.as_ref(), eps)
}

/// Normalises over the dimensions from `lead` on.
fn layer_norm_of(
    b: &mut Builder<'_>,
    x: &Tensor,
    lead: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Stats)> {
    let s = stats(b, x, &x.dims[..lead], &x.dims[lead..], |_, i, over| [i, over].concat());
    let compute = compute_type(x.dtype);
    let output = b.map(x.dtype, &x.dims, |k, i| {
        let v = k.load(&s.variance, &i[..lead]);
        let scale = inverse_std(k, v, eps);
        let m = k.load(&s.mean, &i[..lead]);
        let v = k.load(x, i);
        let v = k.cast(compute, v);
        let centred = k.sub(v, m);
        affine(k, centred, scale, weight.map(|w| (w, &i[lead..])), bias.map(|w| (w, &i[lead..])))
    });
    Ok((output, s))
}

/// Layer norm for other families: over the last dimension.
pub fn layer_norm_last(
    b: &mut Builder<'_>,
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    layer_norm_of(b, x, x.rank() - 1, weight, bias, eps).map(|(output, _)| output)
}

/// Normalises each of `groups` groups of channels, over space.
fn group_norm_of(b: &mut Builder<'_>, x: &Tensor, groups: i64, p: Params<'_>, eps: f64) -> Result<(Tensor, Stats)> {
    expect_channels(b, x)?;
    let channels = x.dims[1].known().ok_or_else(|| b.unsupported("group_norm with an unknown number of channels"))?;
    if groups <= 0 || channels % groups != 0 {
        return Err(b.user(format!(
            "Expected number of channels in input to be divisible by num_groups, but got input of shape {} and \
             num_groups={groups}",
            shape_text(&x.dims)
        )));
    }
    let size = channels / groups;
    let reduced = [&[Dim::Const(size)], &x.dims[2..]].concat();
    let s = stats(b, x, &[x.dims[0], Dim::Const(groups)], &reduced, |k, i, over| {
        let size = k.int(size);
        let first = k.mul(i[1], size);
        let channel = k.add(first, over[0]);
        [&[i[0], channel], &over[1..]].concat()
    });
    let compute = compute_type(x.dtype);
    let output = b.map(x.dtype, &x.dims, |k, i| {
        let size = k.int(size);
        let group = k.binary(BinaryOp::FloorDiv, i[1], size);
        let at = [i[0], group];
        let v = k.load(&s.variance, &at);
        let scale = inverse_std(k, v, eps);
        let m = k.load(&s.mean, &at);
        let v = k.load(x, i);
        let v = k.cast(compute, v);
        let centred = k.sub(v, m);
        affine(k, centred, scale, p.weight.map(|w| (w, &i[1..2])), p.bias.map(|w| (w, &i[1..2])))
    });
    Ok((output, s))
}

fn group_norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, groups) = (args.tensor(0)?, args.known_int(b, 1)?);
    let (weight, bias) = (args.optional_tensor(2)?, args.optional_tensor(3)?);
    let eps = args.known_float(b, 4)?;
    let p = Params { weight: weight.as_ref(), bias: bias.as_ref() };
    Ok(Value::Tensor(group_norm_of(b, &x, groups, p, eps)?.0))
}

fn native_group_norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, weight, bias) = (args.tensor(0)?, args.optional_tensor(1)?, args.optional_tensor(2)?);
    let (groups, eps) = (args.known_int(b, 6)?, args.known_float(b, 7)?);
    let p = Params { weight: weight.as_ref(), bias: bias.as_ref() };
    let (output, s) = group_norm_of(b, &x, groups, p, eps)?;
    let inverse = inverse_stds(b, &s.variance, eps, output.dtype);
    let mean = rounded(b, s.mean, output.dtype);
    Ok(Value::Tuple(vec![Value::Tensor(output), Value::Tensor(mean), Value::Tensor(inverse)], None))
}

/// Each channel of each sample over space, or with running statistics like a batch norm.
fn instance_norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, weight, bias) = (args.tensor(0)?, args.optional_tensor(1)?, args.optional_tensor(2)?);
    let (mean, variance) = (args.optional_tensor(3)?, args.optional_tensor(4)?);
    let use_input_stats = args.flag(b, 5)?;
    let eps = args.known_float(b, 7)?;
    let p = Params { weight: weight.as_ref(), bias: bias.as_ref() };
    if !use_input_stats {
        let norm = batch_norm_of(b, &x, p, [mean.as_ref(), variance.as_ref()], None, eps)?;
        return Ok(Value::Tensor(norm.output));
    }
    expect_channels(b, &x)?;
    let s = stats(b, &x, &x.dims[..2], &x.dims[2..], |_, i, over| [i, over].concat());
    let compute = compute_type(x.dtype);
    let output = b.map(x.dtype, &x.dims, |k, i| {
        let v = k.load(&s.variance, &i[..2]);
        let scale = inverse_std(k, v, eps);
        let m = k.load(&s.mean, &i[..2]);
        let v = k.load(&x, i);
        let v = k.cast(compute, v);
        let centred = k.sub(v, m);
        affine(k, centred, scale, p.weight.map(|w| (w, &i[1..2])), p.bias.map(|w| (w, &i[1..2])))
    });
    update_instance_running(b, args, &x, &s, [mean.as_ref(), variance.as_ref()])?;
    Ok(Value::Tensor(output))
}

/// Running statistics of an instance norm follow the mean over samples of the statistics of each.
fn update_instance_running(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    x: &Tensor,
    s: &Stats,
    running: [Option<&Tensor>; 2],
) -> Result<()> {
    if running.iter().all(Option::is_none) {
        return Ok(());
    }
    let momentum = args.float(b, 6)?;
    let mut over_samples = |source: &Tensor| {
        let compute = source.dtype;
        b.reduce(
            ReduceOp::Sum,
            compute,
            &x.dims[1..2],
            &x.dims[..1],
            |k, i, over| k.load(source, &[over[0], i[0]]),
            |k, _, sum| {
                let n = k.dim(x.dims[0]);
                let n = k.cast(compute, n);
                k.div(sum, n)
            },
        )
    };
    let batch = Stats { mean: over_samples(&s.mean), variance: over_samples(&s.variance) };
    // The unbiased variance counts the points of one instance, so the batch counts as one sample.
    let instance = views::slice(b, x, 0, Operand::Const(Const::int(0)), Dim::Const(1), 1);
    update_running(b, &instance, &batch, running, &momentum)
}

/// `x / sqrt(mean(x^2) + eps) * weight`; without `eps` it is the type's machine epsilon.
fn rms_norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let lead = leading(b, args, &x)?;
    let weight = args.optional_tensor(2)?;
    let eps = args.optional_known_float(b, 3)?.unwrap_or(match x.dtype {
        DType::F64 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    });
    let compute = compute_type(x.dtype);
    let count = b.product(&x.dims[lead..]);
    let scale = b.reduce(
        ReduceOp::Sum,
        compute,
        &x.dims[..lead],
        &x.dims[lead..],
        |k, i, over| {
            let v = k.load(&x, &[i, over].concat());
            let v = k.cast(compute, v);
            k.mul(v, v)
        },
        |k, _, sum| {
            let n = k.number(&count, compute);
            let mean = k.div(sum, n);
            inverse_std(k, mean, eps)
        },
    );
    Ok(Value::Tensor(b.map(x.dtype, &x.dims, |k, i| {
        let v = k.load(&x, i);
        let v = k.cast(compute, v);
        let s = k.load(&scale, &i[..lead]);
        affine(k, v, s, weight.as_ref().map(|w| (w, &i[lead..])), None)
    })))
}

/// The norm over all dimensions but one, which stays where it is; the others become 1. `None`: over all.
fn norm_except(b: &mut Builder<'_>, v: &Tensor, dim: Option<usize>, power: i64) -> Tensor {
    let kept: Vec<Dim> = dim.map(|d| v.dims[d]).into_iter().collect();
    let reduced: Vec<Dim> = (0..v.rank()).filter(|d| Some(*d) != dim).map(|d| v.dims[d]).collect();
    let compute = compute_type(v.dtype);
    #[allow(clippy::cast_precision_loss, reason = "exponents are small")]
    let p = power as f64;
    let norm = b.reduce(
        ReduceOp::Sum,
        compute,
        &kept,
        &reduced,
        |k, i, over| {
            let mut at = over.to_vec();
            if let Some(d) = dim {
                at.insert(d, i[0]);
            }
            let x = k.load(v, &at);
            let x = k.cast(compute, x);
            if power == 2 {
                return k.mul(x, x);
            }
            let x = k.unary(UnaryOp::Abs, x);
            let p = k.float(compute, p);
            k.binary(BinaryOp::Pow, x, p)
        },
        |k, _, sum| {
            if power == 2 {
                return k.unary(UnaryOp::Sqrt, sum);
            }
            let p = k.float(compute, 1.0 / p);
            k.binary(BinaryOp::Pow, sum, p)
        },
    );
    let Some(dim) = dim else { return norm };
    let mut out = norm;
    for d in 0..v.rank() {
        if d != dim {
            out = views::unsqueeze(b, &out, d);
        }
    }
    out
}

/// The dimension of a weight norm; -1 stands for none.
fn kept_dim(b: &Builder<'_>, v: &Tensor, dim: i64) -> Result<Option<usize>> {
    if dim == -1 {
        return Ok(None);
    }
    v.wrap_dim(dim).map(Some).ok_or_else(|| b.user(format!("Dimension out of range, got {dim}")))
}

fn norm_except_dim(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (v, power, dim) = (args.tensor(0)?, args.known_int(b, 1)?, args.known_int(b, 2)?);
    let dim = kept_dim(b, &v, dim)?;
    Ok(Value::Tensor(norm_except(b, &v, dim, power)))
}

/// `v * (g / norm(v))`
fn weight_norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (v, g, dim) = (args.tensor(0)?, args.tensor(1)?, args.known_int(b, 2)?);
    let dim = kept_dim(b, &v, dim)?;
    let norm = norm_except(b, &v, dim, 2);
    let norm = views::expand_to(b, &norm, &v.dims)?;
    let g = views::expand_to(b, &g, &v.dims)?;
    let compute = compute_type(v.dtype);
    Ok(Value::Tensor(b.map(v.dtype, &v.dims, |k, i| {
        let (x, g, n) = (k.load(&v, i), k.load(&g, i), k.load(&norm, i));
        let (x, g, n) = (k.cast(compute, x), k.cast(compute, g), k.cast(compute, n));
        let factor = k.div(g, n);
        k.mul(x, factor)
    })))
}
