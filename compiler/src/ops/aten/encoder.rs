//! Fused transformer blocks, as inference reaches them: multi-head attention with packed projections, and encoder layers.
//!
//! Both are compositions of contractions, [`attend`] and layer norm. Their masks are true where a key is *not* seen.

use super::activation::gelu_erf;
use super::attention::{Attended, Rules, attend};
use super::contraction::linear_of;
use super::copy::cast;
use super::norm::layer_norm_last;
use crate::diag::Result;
use crate::loops::{Dim, ReduceOp, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::promote::compute_type;
use crate::ops::value::{Tensor, Value, int};
use crate::ops::views::{self, shape_text};
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::_native_multi_head_attention", lower: multi_head_attention },
    OpDef { name: "aten::_transformer_encoder_layer_fwd", lower: encoder_layer },
];

/// The parameters of multi-head attention.
struct Heads {
    width: i64,
    n_heads: i64,
    /// `[3 * width, width]`, queries first, and `[3 * width]`.
    qkv: [Tensor; 2],
    /// Weight and bias of the projection of the joined heads.
    out: [Tensor; 2],
    mask: Option<Tensor>,
    mask_type: Option<i64>,
}

fn optional_known_int(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<Option<i64>> {
    if matches!(args.value(at)?, Value::None) { Ok(None) } else { args.known_int(b, at).map(Some) }
}

/// The mask as one for scores `[batch, heads, queries, keys]`, true where a key is seen.
fn seen_keys(b: &mut Builder<'_>, mask: &Tensor, mask_type: Option<i64>) -> Result<Tensor> {
    let expect = |b: &Builder<'_>, rank: usize, shape: &str| {
        if mask.rank() == rank {
            return Ok(());
        }
        let kind = mask_type.unwrap_or_default();
        Err(b.user(format!("For mask_type == {kind} mask shape should be {shape}, got {}", shape_text(&mask.dims))))
    };
    let shaped = match mask_type {
        Some(0) => {
            expect(b, 2, "(L, L)")?;
            mask.clone()
        }
        Some(1) => {
            expect(b, 2, "(B, L)")?;
            let with_heads = views::unsqueeze(b, mask, 1);
            views::unsqueeze(b, &with_heads, 1)
        }
        Some(2) => mask.clone(),
        Some(_) => {
            return Err(b.user("Mask Type should be 0 (src_mask) or 1 (src_key_padding_mask), or 2 (default_mask)"));
        }
        None => return Err(b.user("Mask Type should be defined")),
    };
    Ok(b.map(DType::Bool, &shaped.dims, |k, i| {
        let hides = k.load(&shaped, i);
        let hides = k.cast(DType::Bool, hides);
        k.unary(UnaryOp::Not, hides)
    }))
}

/// The projections of query, key and value, each `[batch, length, width]`. One contraction makes all three of one input.
fn project(b: &mut Builder<'_>, inputs: [&Tensor; 3], p: &Heads) -> Result<[Tensor; 3]> {
    let width = Dim::Const(p.width);
    let [weight, bias] = &p.qkv;
    let part =
        |b: &mut Builder<'_>, t: &Tensor, dim: usize, n: i64| views::slice(b, t, dim, int(n * p.width), width, 1);
    if inputs[0] == inputs[1] && inputs[1] == inputs[2] {
        let all = linear_of(b, inputs[0], weight, Some(bias))?;
        return Ok([0, 1, 2].map(|n| part(b, &all, 2, n)));
    }
    let mut out = Vec::with_capacity(3);
    for (n, input) in (0..).zip(inputs) {
        let (w, c) = (part(b, weight, 0, n), part(b, bias, 0, n));
        out.push(linear_of(b, input, &w, Some(&c))?);
    }
    Ok(<[Tensor; 3]>::try_from(out).expect("there are three"))
}

/// The projected output and the attention weights `[batch, heads, queries, keys]`.
fn attend_heads(b: &mut Builder<'_>, inputs: [&Tensor; 3], p: &Heads) -> Result<(Tensor, Tensor)> {
    for (input, name) in inputs.iter().zip(["query", "key", "value"]) {
        if input.rank() != 3 {
            return Err(b.user(format!("expected 3-D `{name}`, got {}-D tensor", input.rank())));
        }
    }
    if p.n_heads <= 0 || p.width % p.n_heads != 0 {
        return Err(b.user(format!("`embed_dim` must divide evenly by `num_heads`, got {} and {}", p.width, p.n_heads)));
    }
    let size = Dim::Const(p.width / p.n_heads);
    let split = project(b, inputs, p)?.map(|t| {
        let dims = [t.dims[0], t.dims[1], Dim::Const(p.n_heads), size];
        let heads = views::reshape(b, &t, &dims);
        views::transpose(b, &heads, 1, 2)
    });
    let mask = match &p.mask {
        Some(mask) => Some(seen_keys(b, mask, p.mask_type)?),
        None => None,
    };
    let Attended { output: context, weights, .. } =
        attend(b, split, &Rules { mask, is_nan_where_empty: true, ..Rules::default() })?;
    let weights = cast(b, &weights, context.dtype);
    let (batch, length) = (context.dims[0], context.dims[2]);
    let rows = views::transpose(b, &context, 1, 2);
    let rows = views::reshape(b, &rows, &[batch, length, Dim::Const(p.width)]);
    let output = linear_of(b, &rows, &p.out[0], Some(&p.out[1]))?;
    Ok((output, weights))
}

fn multi_head_attention(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let inputs = [args.tensor(0)?, args.tensor(1)?, args.tensor(2)?];
    let parameters = Heads {
        width: args.known_int(b, 3)?,
        n_heads: args.known_int(b, 4)?,
        qkv: [args.tensor(5)?, args.tensor(6)?],
        out: [args.tensor(7)?, args.tensor(8)?],
        mask: args.optional_tensor(9)?,
        mask_type: optional_known_int(b, args, 12)?,
    };
    let (needs_weights, averages) = (args.flag(b, 10)?, args.flag(b, 11)?);
    let (output, weights) = attend_heads(b, [&inputs[0], &inputs[1], &inputs[2]], &parameters)?;
    let weights = match (needs_weights, averages) {
        // An undefined tensor, which programs see as `None`.
        (false, _) => Value::None,
        (true, false) => Value::Tensor(weights),
        (true, true) => Value::Tensor(average_heads(b, &weights, parameters.n_heads)),
    };
    Ok(Value::Tuple(vec![Value::Tensor(output), weights], None))
}

fn average_heads(b: &mut Builder<'_>, weights: &Tensor, n_heads: i64) -> Tensor {
    let compute = compute_type(weights.dtype);
    let dims = [weights.dims[0], weights.dims[2], weights.dims[3]];
    b.reduce(
        ReduceOp::Sum,
        weights.dtype,
        &dims,
        &[weights.dims[1]],
        |k, i, over| {
            let w = k.load(weights, &[i[0], over[0], i[1], i[2]]);
            k.cast(compute, w)
        },
        |k, _, sum| {
            #[allow(clippy::cast_precision_loss, reason = "there are few heads")]
            let n = k.float(compute, n_heads as f64);
            k.div(sum, n)
        },
    )
}

fn add(b: &mut Builder<'_>, x: &Tensor, y: &Tensor) -> Tensor {
    let compute = compute_type(x.dtype);
    b.map(x.dtype, &x.dims, |k, i| {
        let (x, y) = (k.load(x, i), k.load(y, i));
        let (x, y) = (k.cast(compute, x), k.cast(compute, y));
        k.add(x, y)
    })
}

/// Self-attention and a two-layer network, each with a residual and a norm before or after.
fn encoder_layer(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let src = args.tensor(0)?;
    let attention = Heads {
        width: args.known_int(b, 1)?,
        n_heads: args.known_int(b, 2)?,
        qkv: [args.tensor(3)?, args.tensor(4)?],
        out: [args.tensor(5)?, args.tensor(6)?],
        mask: args.optional_tensor(18)?,
        mask_type: optional_known_int(b, args, 19)?,
    };
    let (uses_gelu, norm_first, eps) = (args.flag(b, 7)?, args.flag(b, 8)?, args.known_float(b, 9)?);
    let norms = [[args.tensor(10)?, args.tensor(11)?], [args.tensor(12)?, args.tensor(13)?]];
    let norm = |b: &mut Builder<'_>, x: &Tensor, n: usize| {
        let [weight, bias] = &norms[n];
        layer_norm_last(b, x, Some(weight), Some(bias), eps)
    };

    let input = if norm_first { norm(b, &src, 0)? } else { src.clone() };
    let (attended, _) = attend_heads(b, [&input, &input, &input], &attention)?;
    let mut x = add(b, &attended, &src);
    if !norm_first {
        x = norm(b, &x, 0)?;
    }

    let input = if norm_first { norm(b, &x, 1)? } else { x.clone() };
    let hidden = linear_of(b, &input, &args.tensor(14)?, Some(&args.tensor(15)?))?;
    let compute = compute_type(hidden.dtype);
    let active = b.map(hidden.dtype, &hidden.dims, |k, i| {
        let v = k.load(&hidden, i);
        let v = k.cast(compute, v);
        let zero = k.zero(compute);
        if uses_gelu { gelu_erf(k, v) } else { k.max(v, zero) }
    });
    let grown = linear_of(b, &active, &args.tensor(16)?, Some(&args.tensor(17)?))?;
    x = add(b, &grown, &x);
    if !norm_first {
        x = norm(b, &x, 1)?;
    }
    Ok(Value::Tensor(x))
}
