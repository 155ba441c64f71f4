//! Losses of class scores against labels.
//!
//! Scores are `[C]` or `[N, C, d1, ...]`, labels `[]` or `[N, d1, ...]`. Source: PyTorch's manual, torch.nn.functional.

use super::criteria::{reduced, reduction};
use super::reduce::{Over, softmax, sum_over};
use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, ExprId, ReduceOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::compute_type;
use crate::ops::value::{Tensor, Value};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::nll_loss", lower: nll_loss },
    OpDef { name: "aten::nll_loss_nd", lower: nll_loss },
    OpDef { name: "aten::nll_loss2d", lower: nll_loss },
    OpDef { name: "aten::cross_entropy_loss", lower: cross_entropy_loss },
    OpDef { name: "aten::multi_margin_loss", lower: multi_margin_loss },
];

/// Scores with their labels and the weights of the classes.
struct Labelled {
    scores: Tensor,
    labels: Tensor,
    weight: Option<Tensor>,
    /// The label that stands for "no loss here".
    ignored: i64,
    /// The dimension of the scores that the classes lie along.
    class_dim: usize,
}

impl Labelled {
    fn new(b: &mut Builder<'_>, scores: Tensor, labels: Tensor, weight: Option<Tensor>, ignored: i64) -> Result<Self> {
        if scores.rank() == 0 || labels.rank() + 1 != scores.rank() {
            return Err(b.user(format!(
                "Expected target size of rank {}, got {}",
                scores.rank().saturating_sub(1),
                labels.rank()
            )));
        }
        let class_dim = usize::from(scores.rank() > 1);
        let mut outer = scores.dims.clone();
        let classes = outer.remove(class_dim);
        for (wanted, found) in outer.iter().zip(&labels.dims) {
            let message = "Expected input batch_size to match target batch_size";
            b.require_equal(*wanted, *found, message)?;
        }
        super::index::check_all(b, &labels, "Target is out of bounds.", |k, t| {
            let (inside, ignored) = (k.in_bounds(t, classes), k.int(ignored));
            let is_ignored = k.binary(BinaryOp::Eq, t, ignored);
            k.binary(BinaryOp::Or, inside, is_ignored)
        });
        Ok(Self { scores, labels, weight, ignored, class_dim })
    }

    /// Whether a label counts, and the label as a class that exists.
    fn label(&self, k: &mut KernelBuilder<'_, '_>, i: &[ExprId]) -> (ExprId, ExprId) {
        let label = k.load(&self.labels, i);
        let label = k.cast(DType::I64, label);
        let (ignored, zero) = (k.int(self.ignored), k.int(0));
        let counts = k.binary(BinaryOp::Ne, label, ignored);
        (counts, k.select(counts, label, zero))
    }

    /// The index of a class's score.
    fn at(&self, i: &[ExprId], class: ExprId) -> Vec<ExprId> {
        let mut index = i.to_vec();
        index.insert(self.class_dim, class);
        index
    }

    fn weight_of(&self, k: &mut KernelBuilder<'_, '_>, class: ExprId) -> ExprId {
        let compute = compute_type(self.scores.dtype);
        match &self.weight {
            Some(weight) => {
                let w = k.load(weight, &[class]);
                k.cast(compute, w)
            }
            None => k.one(compute),
        }
    }

    /// The weight of each label: 0 where it is ignored.
    fn weights(&self, b: &mut Builder<'_>) -> Tensor {
        let compute = compute_type(self.scores.dtype);
        b.map(compute, &self.labels.dims, |k, i| {
            let (counts, label) = self.label(k, i);
            let (weight, zero) = (self.weight_of(k, label), k.zero(compute));
            k.select(counts, weight, zero)
        })
    }

    /// The negative weighted score of each label: 0 where it is ignored.
    fn losses(&self, b: &mut Builder<'_>, dtype: DType) -> Tensor {
        let compute = compute_type(self.scores.dtype);
        b.map(dtype, &self.labels.dims, |k, i| {
            let (counts, label) = self.label(k, i);
            let (weight, zero) = (self.weight_of(k, label), k.zero(compute));
            let score = k.load(&self.scores, &self.at(i, label));
            let score = k.cast(compute, score);
            let product = k.mul(weight, score);
            let loss = k.sub(zero, product);
            k.select(counts, loss, zero)
        })
    }

    /// Losses as they are, their weighted mean or their sum.
    fn reduced(&self, b: &mut Builder<'_>, losses: &Tensor, reduction: i64) -> Tensor {
        if reduction != 1 {
            return reduced(b, losses, reduction);
        }
        let weights = self.weights(b);
        let all = Over::new((0..losses.rank()).collect(), false);
        let compute = compute_type(losses.dtype);
        let (sum, total) = (sum_over(b, losses, &all, compute), sum_over(b, &weights, &all, compute));
        b.map(self.scores.dtype, &[], |k, i| {
            let (sum, total) = (k.load(&sum, i), k.load(&total, i));
            k.div(sum, total)
        })
    }
}

fn nll_loss(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (scores, labels, weight) = (args.tensor(0)?, args.tensor(1)?, args.optional_tensor(2)?);
    let (reduction, ignored) = (reduction(b, args, 3)?, args.known_int(b, 4)?);
    let labelled = Labelled::new(b, scores, labels, weight, ignored)?;
    let dtype = if reduction == 0 { labelled.scores.dtype } else { compute_type(labelled.scores.dtype) };
    let losses = labelled.losses(b, dtype);
    let result = labelled.reduced(b, &losses, reduction);
    Ok(Value::Tensor(super::copy::cast(b, &result, labelled.scores.dtype)))
}

/// The loss of `log_softmax(scores)`; labels are classes, or probabilities of them; smoothing mixes in the mean over classes.
fn cross_entropy_loss(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (scores, labels, weight) = (args.tensor(0)?, args.tensor(1)?, args.optional_tensor(2)?);
    let (reduction, ignored) = (reduction(b, args, 3)?, args.known_int(b, 4)?);
    let smoothing = args.known_float(b, 5)?;
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(b.user(format!("label_smoothing must be between 0.0 and 1.0. Got: {smoothing}")));
    }
    let class_dim = usize::from(scores.rank() > 1);
    let Some(classes) = scores.dims.get(class_dim).copied() else {
        return Err(b.user("cross_entropy_loss expects scores with a dimension of classes"));
    };
    let logs = softmax(b, &scores, class_dim, scores.dtype, true);
    if labels.rank() == scores.rank() {
        return probabilities(b, &logs, &labels, weight.as_ref(), (class_dim, classes), reduction, smoothing);
    }
    let labelled = Labelled::new(b, logs, labels, weight, ignored)?;
    let mut losses = labelled.losses(b, scores.dtype);
    if smoothing > 0.0 {
        let compute = compute_type(scores.dtype);
        let dims = losses.dims.clone();
        let spread = b.reduce(
            ReduceOp::Sum,
            compute,
            &dims,
            &[classes],
            |k, i, over| {
                let score = k.load(&labelled.scores, &labelled.at(i, over[0]));
                let score = k.cast(compute, score);
                let weight = labelled.weight_of(k, over[0]);
                k.mul(score, weight)
            },
            |_, _, v| v,
        );
        losses = b.map(scores.dtype, &dims, |k, i| {
            let (counts, _) = labelled.label(k, i);
            let (loss, spread) = (k.load(&losses, i), k.load(&spread, i));
            let loss = k.cast(compute, loss);
            let (kept, share, zero) = (k.float(compute, 1.0 - smoothing), k.float(compute, smoothing), k.zero(compute));
            let n = k.dim(classes);
            let n = k.cast(compute, n);
            let share = k.div(share, n);
            let spread = k.mul(share, spread);
            let loss = k.mul(kept, loss);
            let loss = k.sub(loss, spread);
            k.select(counts, loss, zero)
        });
    }
    Ok(Value::Tensor(labelled.reduced(b, &losses, reduction)))
}

/// `-sum(weight * p * log)` over the classes; the mean is over all positions.
fn probabilities(
    b: &mut Builder<'_>,
    logs: &Tensor,
    labels: &Tensor,
    weight: Option<&Tensor>,
    (class_dim, classes): (usize, Dim),
    reduction: i64,
    smoothing: f64,
) -> Result<Value> {
    let labels = views::expand_to(b, labels, &logs.dims)?;
    let compute = compute_type(logs.dtype);
    let mut dims = logs.dims.clone();
    dims.remove(class_dim);
    let losses = b.reduce(
        ReduceOp::Sum,
        logs.dtype,
        &dims,
        &[classes],
        |k, i, over| {
            let mut at = i.to_vec();
            at.insert(class_dim, over[0]);
            let (p, log) = (k.load(&labels, &at), k.load(logs, &at));
            let (mut p, log) = (k.cast(compute, p), k.cast(compute, log));
            if smoothing > 0.0 {
                let (kept, share, n) = (k.float(compute, 1.0 - smoothing), k.float(compute, smoothing), k.dim(classes));
                let n = k.cast(compute, n);
                let share = k.div(share, n);
                p = k.mul(p, kept);
                p = k.add(p, share);
            }
            if let Some(weight) = weight {
                let w = k.load(weight, &[over[0]]);
                let w = k.cast(compute, w);
                p = k.mul(p, w);
            }
            k.mul(p, log)
        },
        |k, _, sum| {
            let zero = k.zero(compute);
            k.sub(zero, sum)
        },
    );
    Ok(Value::Tensor(reduced(b, &losses, reduction)))
}

/// `sum over j other than the label t of weight[t] * max(0, margin - x[t] + x[j])^p`, divided by the number of classes.
fn multi_margin_loss(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (mut scores, mut labels, weight) = (args.tensor(0)?, args.tensor(1)?, args.optional_tensor(4)?);
    let (p, margin, reduction) = (args.known_float(b, 2)?, args.known_float(b, 3)?, reduction(b, args, 5)?);
    let is_square = match p {
        1.0 => false,
        2.0 => true,
        _ => return Err(b.user("only p == 1 and p == 2 supported")),
    };
    if scores.rank() == 0 {
        scores = views::unsqueeze(b, &scores, 0);
    }
    if scores.rank() == 1 && labels.rank() == 1 {
        labels = views::reshape(b, &labels, &[]);
    }
    // No label is ignored: all must be classes.
    let labelled = Labelled::new(b, scores, labels, weight, 0)?;
    let (dtype, compute) = (labelled.scores.dtype, compute_type(labelled.scores.dtype));
    let classes = labelled.scores.dims[labelled.class_dim];
    let dims = labelled.labels.dims.clone();
    let losses = b.reduce(
        ReduceOp::Sum,
        dtype,
        &dims,
        &[classes],
        |k, i, over| {
            let label = k.load(&labelled.labels, i);
            let label = k.cast(DType::I64, label);
            let own = k.load(&labelled.scores, &labelled.at(i, label));
            let other = k.load(&labelled.scores, &labelled.at(i, over[0]));
            let (own, other) = (k.cast(compute, own), k.cast(compute, other));
            let (margin, zero) = (k.float(compute, margin), k.zero(compute));
            let distance = k.sub(margin, own);
            let distance = k.add(distance, other);
            let distance = k.max(distance, zero);
            let distance = if is_square { k.mul(distance, distance) } else { distance };
            let weight = labelled.weight_of(k, label);
            let distance = k.mul(distance, weight);
            let is_own = k.binary(BinaryOp::Eq, over[0], label);
            k.select(is_own, zero, distance)
        },
        |k, _, sum| {
            let n = k.dim(classes);
            let n = k.cast(compute, n);
            k.div(sum, n)
        },
    );
    Ok(Value::Tensor(reduced(b, &losses, reduction)))
}
