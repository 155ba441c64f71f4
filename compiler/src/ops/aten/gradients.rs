//! Gradients: those of convolutions, and the refusal of others, for nothing that is computed here requires any.

use super::conv::{Window, conv_of, even, per_group, spread};
use super::reduce::{Over, sum_over};
use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, ReduceOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::promote::compute_type;
use crate::ops::value::{Tensor, Value};
use crate::ops::views::shape_text;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::backward", lower: nothing_to_derive },
    OpDef { name: "aten::_backward", lower: nothing_to_derive },
    OpDef { name: "aten::grad", lower: nothing_to_derive },
    OpDef { name: "aten::retain_grad", lower: nothing_to_retain },
    OpDef { name: "aten::retains_grad", lower: |_, _| Ok(Value::bool(false)) },
    OpDef { name: "aten::output_nr", lower: |_, _| Ok(Value::int(0)) },
    OpDef { name: "aten::convolution_backward", lower: convolution_backward },
];

/// Programs run as under `torch.no_grad()`, where PyTorch raises this.
fn nothing_to_derive(b: &mut Builder<'_>, _: &Args<'_>) -> Result<Value> {
    Err(b.user("element 0 of tensors does not require grad and does not have a grad_fn"))
}

fn nothing_to_retain(b: &mut Builder<'_>, _: &Args<'_>) -> Result<Value> {
    Err(b.user("can't retain_grad on Tensor that has requires_grad=False"))
}

/// The gradients of a convolution's input, weight and bias; those that the mask leaves out are `None`.
fn convolution_backward(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (gradient, x, w) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    let rank = w.rank().saturating_sub(2);
    if rank == 0 || x.rank() != w.rank() || gradient.rank() != w.rank() {
        return Err(b.user(format!(
            "Expected gradient, input and weight of one rank in convolution_backward, but got sizes {}, {} and {}",
            shape_text(&gradient.dims),
            shape_text(&x.dims),
            shape_text(&w.dims)
        )));
    }
    let window = Window {
        stride: args.known_ints_of(b, 4, rank, &vec![1; rank])?,
        padding: even(&args.known_ints_of(b, 5, rank, &vec![0; rank])?),
        dilation: args.known_ints_of(b, 6, rank, &vec![1; rank])?,
        groups: args.known_int(b, 9)?,
    };
    let is_transposed = args.flag(b, 7)?;
    let mut wanted = Vec::new();
    for item in b.items(args.value(10)?)? {
        let Value::Bool(flag) = item else { return Err(b.user("output_mask must be a list of bools")) };
        wanted.push(b.decide(&flag)?);
    }
    let &[of_input, of_weight, of_bias] = &wanted[..] else {
        return Err(b.user("output_mask must have three entries"));
    };
    let message = "Expected gradient and input of one batch size in convolution_backward";
    b.require_equal(gradient.dims[0], x.dims[0], message)?;
    let input = match (of_input, is_transposed) {
        (false, _) => Value::None,
        (true, false) => Value::Tensor(spread(b, &gradient, &w, None, &window, &x.dims[2..])?),
        (true, true) => Value::Tensor(conv_of(b, &gradient, &w, None, &window)?),
    };
    // A transposed convolution is the other one's gradient, so input and gradient change places.
    let (points, source) = if is_transposed { (&x, &gradient) } else { (&gradient, &x) };
    let weight = if of_weight { Value::Tensor(weight_gradient(b, points, source, &w, &window)?) } else { Value::None };
    let bias = if of_bias {
        let dims = (0..gradient.rank()).filter(|d| *d != 1).collect();
        Value::Tensor(sum_over(b, &gradient, &Over::new(dims, false), gradient.dtype))
    } else {
        Value::None
    };
    Ok(Value::Tuple(vec![input, weight, bias], None))
}

/// The gradient of a weight `[P, S / groups, K..]`: for each of its elements the sum, over all `points [N, P, L..]`, of these
/// times what the element met there in `source [N, S, M..]`.
fn weight_gradient(
    b: &mut Builder<'_>,
    points: &Tensor,
    source: &Tensor,
    w: &Tensor,
    window: &Window,
) -> Result<Tensor> {
    let rank = window.stride.len();
    let (points_per_group, sources_per_group) = if window.groups == 1 {
        (1, 1)
    } else {
        (per_group(b, w.dims[0], window.groups)?, per_group(b, source.dims[1], window.groups)?)
    };
    b.require_equal(points.dims[1], w.dims[0], "Expected as many channels as the weight has in convolution_backward")?;
    let reduced: Vec<Dim> = [&points.dims[..1], &points.dims[2..]].concat();
    let compute = compute_type(w.dtype);
    Ok(b.reduce(
        ReduceOp::Sum,
        w.dtype,
        &w.dims,
        &reduced,
        |k, i, over| {
            let mut channel = i[1];
            if window.groups > 1 {
                let (n_points, n_sources) = (k.int(points_per_group), k.int(sources_per_group));
                let group = k.binary(BinaryOp::FloorDiv, i[0], n_points);
                let first = k.mul(group, n_sources);
                channel = k.add(first, i[1]);
            }
            let (mut at, mut inside) = (vec![over[0], channel], k.bool(true));
            for d in 0..rank {
                let (stride, dilation) = (k.int(window.stride[d]), k.int(window.dilation[d]));
                let (start, step) = (k.mul(over[1 + d], stride), k.mul(i[2 + d], dilation));
                let point = k.add(start, step);
                let before = k.int(window.padding[d].0);
                let point = k.sub(point, before);
                let fits = k.in_bounds(point, source.dims[2 + d]);
                inside = k.and(inside, fits);
                at.push(point);
            }
            let zero = k.zero(source.dtype);
            let met = k.load_or(source, &at, inside, zero);
            let own = k.load(points, &[&[over[0], i[0]], &over[1..]].concat());
            let (met, own) = (k.cast(compute, met), k.cast(compute, own));
            k.mul(met, own)
        },
        |_, _, sum| sum,
    ))
}
