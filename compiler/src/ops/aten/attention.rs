//! Scaled dot-product attention.
//!
//! Scores are one contraction with scale and mask in its last step, then a softmax over the keys, then a contraction with
//! the values. A row whose keys are all masked gives zeros.

use super::contraction::{Label, contract};
use super::copy::cast;
use super::pool::lowest;
use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, ReduceOp, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::promote::compute_type;
use crate::ops::value::{Tensor, Value};
use crate::ops::views::{self, shape_text};
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::scaled_dot_product_attention", lower: attention },
    OpDef { name: "aten::_scaled_dot_product_attention_math", lower: attention_math },
    OpDef { name: "aten::_scaled_dot_product_flash_attention_for_cpu", lower: flash_attention },
];

/// What changes the scores.
#[derive(Default)]
pub(super) struct Rules {
    /// Where a boolean is true a key is seen; other masks are added.
    pub mask: Option<Tensor>,
    /// Whether a query sees only keys up to its own position.
    pub is_causal: bool,
    /// The factor of the scores, by default the inverse root of the width.
    pub scale: Option<f64>,
    /// Whether groups of query heads share a key head.
    pub shares_keys: bool,
    /// Whether a row that sees no key gives NaN, not zeros.
    pub is_nan_where_empty: bool,
}

fn attention(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    expect_no_dropout(b, args, 4)?;
    let rules = Rules {
        mask: args.optional_tensor(3)?,
        is_causal: args.flag(b, 5)?,
        scale: args.optional_known_float(b, 6)?,
        shares_keys: args.flag(b, 7)?,
        is_nan_where_empty: false,
    };
    let Attended { output, .. } = attend(b, [args.tensor(0)?, args.tensor(1)?, args.tensor(2)?], &rules)?;
    Ok(Value::Tensor(output))
}

fn attention_math(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    expect_no_dropout(b, args, 4)?;
    let rules = Rules {
        mask: args.optional_tensor(3)?,
        is_causal: args.flag(b, 5)?,
        scale: args.optional_known_float(b, 7)?,
        shares_keys: args.flag(b, 8)?,
        is_nan_where_empty: false,
    };
    let Attended { output, weights, .. } = attend(b, [args.tensor(0)?, args.tensor(1)?, args.tensor(2)?], &rules)?;
    let weights = cast(b, &weights, output.dtype);
    Ok(Value::Tuple(vec![Value::Tensor(output), Value::Tensor(weights)], None))
}

fn flash_attention(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    expect_no_dropout(b, args, 3)?;
    let rules = Rules {
        mask: args.optional_tensor(5)?,
        is_causal: args.flag(b, 4)?,
        scale: args.optional_known_float(b, 6)?,
        shares_keys: false,
        is_nan_where_empty: false,
    };
    let Attended { output, greatest, factors, .. } =
        attend(b, [args.tensor(0)?, args.tensor(1)?, args.tensor(2)?], &rules)?;
    // The second result is the logarithm of the sum of each row's exponentials.
    let logs = b.map(greatest.dtype, &greatest.dims, |k, i| {
        let (m, factor) = (k.load(&greatest, i), k.load(&factors, i));
        let log = k.unary(UnaryOp::Log, factor);
        k.sub(m, log)
    });
    Ok(Value::Tuple(vec![Value::Tensor(output), Value::Tensor(logs)], None))
}

fn expect_no_dropout(b: &mut Builder<'_>, args: &Args<'_>, at: usize) -> Result<()> {
    if args.known_float(b, at)? == 0.0 {
        return Ok(());
    }
    Err(b.unsupported("attention with dropout"))
}

/// Keys or values repeated so that there are as many heads (dimension -3) as queries have.
fn repeat_heads(b: &mut Builder<'_>, t: &Tensor, heads: Dim) -> Result<Tensor> {
    let at = t.rank() - 3;
    let (Some(have), Some(want)) = (t.dims[at].known(), heads.known()) else {
        return Err(b.unsupported("grouped attention with an unknown number of heads"));
    };
    if have == want {
        return Ok(t.clone());
    }
    if have == 0 || want % have != 0 {
        return Err(b.user("Number of heads in key and value must divide the number of heads in query"));
    }
    let groups = b.map(
        t.dtype,
        &{
            let mut dims = t.dims.clone();
            dims[at] = heads;
            dims
        },
        |k, i| {
            let mut source = i.to_vec();
            let size = k.int(want / have);
            source[at] = k.binary(BinaryOp::FloorDiv, i[at], size);
            k.load(t, &source)
        },
    );
    Ok(groups)
}

/// What attention computes. All but the output is in the type that sums are computed in.
pub(super) struct Attended {
    /// The weighted values.
    pub output: Tensor,
    /// The weights: softmax of the scores.
    pub weights: Tensor,
    /// The greatest score of each row.
    greatest: Tensor,
    /// One over the sum of each row's exponentials, relative to the greatest score.
    factors: Tensor,
}

/// Attention of query, key and value. Scores and weights are not rounded to the inputs' type.
pub(super) fn attend(b: &mut Builder<'_>, inputs: [Tensor; 3], rules: &Rules) -> Result<Attended> {
    let [q, mut key, mut value] = inputs;
    if q.rank() < 2 || key.rank() < 2 || value.rank() < 2 {
        return Err(b.user("Expected query, key, and value to all be at least 2 dimensional"));
    }
    if q.dtype != key.dtype || q.dtype != value.dtype {
        return Err(b.user("Expected query, key, and value to have the same dtype"));
    }
    if rules.is_causal && rules.mask.is_some() {
        return Err(b.user("Explicit attn_mask should not be set when is_causal=True"));
    }
    if rules.shares_keys && q.rank() >= 3 {
        let heads = q.dims[q.rank() - 3];
        key = repeat_heads(b, &key, heads)?;
        value = repeat_heads(b, &value, heads)?;
    }
    let width = q.dims[q.rank() - 1];
    b.require_equal(width, key.dims[key.rank() - 1], "query and key must have the same embedding size")?;
    let (n_keys, n_values) = (key.dims[key.rank() - 2], value.dims[value.rank() - 2]);
    b.require_equal(n_keys, n_values, "key and value must have the same sequence length")?;
    let batch = q.rank().max(key.rank()).max(value.rank()) - 2;
    let with = |rank: usize, last: [Label; 2]| -> Vec<Label> {
        let from = batch - (rank - 2);
        (from..batch).map(|l| Label::try_from(l).expect("ranks are small")).chain(last).collect()
    };
    let (rows, columns, e, v) = (100, 101, 102, 103);
    let compute = compute_type(q.dtype);
    let scale = rules.scale;
    let batch_dims =
        views::broadcast(b, &[&q.dims[..q.rank() - 2], &key.dims[..key.rank() - 2], &value.dims[..value.rank() - 2]])?;
    let score_batch = batch_dims.len().min(q.rank().max(key.rank()) - 2);
    let score_dims = [&batch_dims[batch_dims.len() - score_batch..], &[q.dims[q.rank() - 2], n_keys]].concat();
    let mask = match &rules.mask {
        Some(mask) => {
            if mask.dtype != DType::Bool && !mask.dtype.is_floating_point() {
                return Err(b.user("Expected attn_mask dtype to be bool or float or to match query dtype"));
            }
            Some(views::expand_to(b, mask, &score_dims).map_err(|_| {
                b.user(format!(
                    "The expanded size of the attention mask {} must match the scores' {}",
                    shape_text(&mask.dims),
                    shape_text(&score_dims)
                ))
            })?)
        }
        None => None,
    };
    let score_labels = with(score_batch + 2, [rows, columns]);
    let (q_labels, k_labels) = (with(q.rank(), [rows, e]), with(key.rank(), [columns, e]));
    let scores = contract(b, &[(&q, &q_labels), (&key, &k_labels)], &score_labels, compute, |k, i, sum| {
        let factor = if let Some(scale) = scale {
            k.float(compute, scale)
        } else {
            let width = k.dim(width);
            let width = k.cast(compute, width);
            let root = k.unary(UnaryOp::Sqrt, width);
            let one = k.one(compute);
            k.div(one, root)
        };
        let mut score = k.mul(sum, factor);
        let least = lowest(k, compute);
        if let Some(mask) = &mask {
            let m = k.load(mask, i);
            score = if mask.dtype == DType::Bool {
                k.select(m, score, least)
            } else {
                let m = k.cast(compute, m);
                k.add(score, m)
            };
        }
        if rules.is_causal {
            let sees = k.binary(BinaryOp::Le, i[i.len() - 1], i[i.len() - 2]);
            score = k.select(sees, score, least);
        }
        score
    })?;
    let may_be_empty = mask.is_some() || rules.is_causal;
    let [weights, greatest, factors] = softmax_rows(b, &scores, may_be_empty && !rules.is_nan_where_empty);
    let out_labels = with(batch + 2, [rows, v]);
    let v_labels = with(value.rank(), [columns, v]);
    let output = contract(b, &[(&weights, &score_labels), (&value, &v_labels)], &out_labels, q.dtype, |_, _, sum| sum)?;
    Ok(Attended { output, weights, greatest, factors })
}

/// Softmax over the last dimension. Rows of nothing but -inf, which only masks make, give zeros where `has_mask`, else NaN.
/// Also gives each row's greatest element and one over the sum of its exponentials.
fn softmax_rows(b: &mut Builder<'_>, x: &Tensor, has_mask: bool) -> [Tensor; 3] {
    let (last, lead) = x.dims.split_last().expect("scores have rows");
    let (lead, last) = (lead.to_vec(), [*last]);
    let compute = compute_type(x.dtype);
    let at = |i: &[_], over: &[_]| [i, over].concat();
    let greatest = b.reduce(
        ReduceOp::Max,
        compute,
        &lead,
        &last,
        |k, i, over| {
            let v = k.load(x, &at(i, over));
            k.cast(compute, v)
        },
        |k, _, v| {
            if !has_mask {
                return v;
            }
            // A row without keys: its exponentials are all exp(-inf - 0) = 0.
            let (least, zero) = (lowest(k, compute), k.zero(compute));
            let is_empty = k.binary(BinaryOp::Eq, v, least);
            k.select(is_empty, zero, v)
        },
    );
    let exponentials = b.map(compute, &x.dims, |k, i| {
        let v = k.load(x, i);
        let v = k.cast(compute, v);
        let m = k.load(&greatest, &i[..i.len() - 1]);
        let d = k.sub(v, m);
        k.unary(UnaryOp::Exp, d)
    });
    let factors = b.reduce(
        ReduceOp::Sum,
        compute,
        &lead,
        &last,
        |k, i, over| k.load(&exponentials, &at(i, over)),
        |k, _, sum| {
            let one = k.one(compute);
            let inverse = k.div(one, sum);
            if !has_mask {
                return inverse;
            }
            let zero = k.zero(compute);
            let is_empty = k.binary(BinaryOp::Eq, sum, zero);
            k.select(is_empty, one, inverse)
        },
    );
    let weights = b.map(x.dtype, &x.dims, |k, i| {
        let (e, factor) = (k.load(&exponentials, i), k.load(&factors, &i[..i.len() - 1]));
        k.mul(e, factor)
    });
    [weights, greatest, factors]
}
