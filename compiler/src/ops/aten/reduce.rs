//! Reductions and scans: sums, means, extremes, norms, softmax, cumulative sums.

use super::copy::cast;
use super::pointwise::{number, unary};
use super::view::{dim_arg, dims_arg};
use crate::diag::Result;
use crate::loops::{AxisKind, BinaryOp, Const, Dim, ExprId, Operand, ReduceOp, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::{compute_type, expect_real, float_type};
use crate::ops::value::{Tensor, Value};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::sum", lower: sum },
    OpDef { name: "aten::sum.dim_IntList", lower: sum },
    OpDef { name: "aten::nansum", lower: nansum },
    OpDef { name: "aten::mean", lower: mean },
    OpDef { name: "aten::mean.dim", lower: mean },
    OpDef { name: "aten::nanmean", lower: nanmean },
    OpDef { name: "aten::prod", lower: prod },
    OpDef { name: "aten::prod.dim_int", lower: prod },
    OpDef { name: "aten::amax", lower: |b, a| extreme(b, a, ReduceOp::Max) },
    OpDef { name: "aten::amin", lower: |b, a| extreme(b, a, ReduceOp::Min) },
    OpDef { name: "aten::max", lower: |b, a| extreme_all(b, a, ReduceOp::Max) },
    OpDef { name: "aten::min", lower: |b, a| extreme_all(b, a, ReduceOp::Min) },
    OpDef { name: "aten::max.dim", lower: |b, a| extreme_dim(b, a, ReduceOp::Max, ReduceOp::ArgMax) },
    OpDef { name: "aten::min.dim", lower: |b, a| extreme_dim(b, a, ReduceOp::Min, ReduceOp::ArgMin) },
    OpDef { name: "aten::aminmax", lower: aminmax },
    OpDef { name: "aten::argmax", lower: |b, a| arg(b, a, ReduceOp::ArgMax) },
    OpDef { name: "aten::argmin", lower: |b, a| arg(b, a, ReduceOp::ArgMin) },
    OpDef { name: "aten::any", lower: |b, a| truth(b, a, ReduceOp::Or) },
    OpDef { name: "aten::all", lower: |b, a| truth(b, a, ReduceOp::And) },
    OpDef { name: "aten::count_nonzero", lower: count_nonzero },
    OpDef { name: "aten::count_nonzero.dim_IntList", lower: count_nonzero },
    OpDef { name: "aten::var", lower: |b, a| Ok(Value::Tensor(moments(b, a, false)?.0)) },
    OpDef { name: "aten::std", lower: |b, a| Ok(Value::Tensor(moments(b, a, true)?.0)) },
    OpDef { name: "aten::var_mean", lower: |b, a| pair(b, a, false) },
    OpDef { name: "aten::std_mean", lower: |b, a| pair(b, a, true) },
    OpDef { name: "aten::norm.Scalar", lower: norm },
    OpDef { name: "aten::norm.ScalarOpt_dim", lower: norm },
    OpDef { name: "aten::norm.ScalarOpt_dtype", lower: norm },
    OpDef { name: "aten::norm.ScalarOpt_dim_dtype", lower: norm },
    OpDef { name: "aten::linalg_vector_norm", lower: norm },
    OpDef { name: "aten::frobenius_norm.dim", lower: frobenius_norm },
    OpDef { name: "aten::logsumexp", lower: logsumexp },
    OpDef { name: "aten::special_logsumexp", lower: logsumexp },
    OpDef { name: "aten::softmax.int", lower: |b, a| softmax_op(b, a, false) },
    OpDef { name: "aten::_softmax", lower: |b, a| softmax_op(b, a, false) },
    OpDef { name: "aten::special_softmax", lower: |b, a| softmax_op(b, a, false) },
    OpDef { name: "aten::log_softmax.int", lower: |b, a| softmax_op(b, a, true) },
    OpDef { name: "aten::_log_softmax", lower: |b, a| softmax_op(b, a, true) },
    OpDef { name: "aten::special_log_softmax", lower: |b, a| softmax_op(b, a, true) },
    OpDef { name: "aten::cumsum", lower: |b, a| cumulative(b, a, ReduceOp::Sum) },
    OpDef { name: "aten::cumprod", lower: |b, a| cumulative(b, a, ReduceOp::Prod) },
    OpDef { name: "aten::cummax", lower: |b, a| cumulative_extreme(b, a, ReduceOp::Max) },
    OpDef { name: "aten::cummin", lower: |b, a| cumulative_extreme(b, a, ReduceOp::Min) },
    OpDef { name: "aten::logcumsumexp", lower: logcumsumexp },
];

/// Which dimensions a reduction goes over, and whether they stay with extent 1.
#[derive(Clone, Debug)]
pub struct Over {
    dims: Vec<usize>,
    keep: bool,
}

impl Over {
    /// These dimensions (wrapped); they stay with extent 1 if `keep`.
    pub fn new(mut dims: Vec<usize>, keep: bool) -> Self {
        dims.sort_unstable();
        Self { dims, keep }
    }

    /// From the arguments `dim` (a number, a list, `None` or missing for all dimensions) and `keepdim`.
    fn from_args(b: &mut Builder<'_>, args: &Args<'_>, rank: usize) -> Result<Self> {
        let given = match args.position("dim").filter(|at| *at < args.values.len()) {
            Some(at) if !matches!(args.value(at)?, Value::None) => dims_arg(b, args, at, rank)?,
            _ => Vec::new(),
        };
        let keep = match args.position("keepdim").filter(|at| *at < args.values.len()) {
            Some(at) => args.flag(b, at)?,
            None => false,
        };
        let dims = if given.is_empty() { (0..rank).collect() } else { given };
        Ok(Self::new(dims.into_iter().filter(|d| *d < rank).collect(), keep))
    }

    fn extents(&self, x: &Tensor) -> Vec<Dim> {
        self.dims.iter().map(|d| x.dims[*d]).collect()
    }

    /// The result's extents: reduced dimensions gone or 1.
    fn result(&self, x: &Tensor) -> Vec<Dim> {
        let keep = |(i, d): (usize, &Dim)| match (self.dims.contains(&i), self.keep) {
            (false, _) => Some(*d),
            (true, true) => Some(Dim::Const(1)),
            (true, false) => None,
        };
        x.dims.iter().enumerate().filter_map(keep).collect()
    }

    /// The index into the operand of a result index and an index over the reduced extents.
    fn index(&self, rank: usize, outer: &[ExprId], inner: &[ExprId]) -> Vec<ExprId> {
        let (mut outer, mut inner) = (outer.iter(), inner.iter());
        let mut index = Vec::with_capacity(rank);
        for i in 0..rank {
            let is_reduced = self.dims.contains(&i);
            // A kept dimension takes part in the result's index with the only index 0.
            let kept = if !is_reduced || self.keep { outer.next() } else { None };
            let next = if is_reduced { inner.next() } else { kept };
            index.push(*next.expect("one index a dimension"));
        }
        index
    }

    /// The index of the result's element that belongs to an element of the operand.
    fn group(&self, k: &mut KernelBuilder<'_, '_>, index: &[ExprId]) -> Vec<ExprId> {
        let zero = k.int(0);
        let at = |(i, e): (usize, &ExprId)| match (self.dims.contains(&i), self.keep) {
            (false, _) => Some(*e),
            (true, true) => Some(zero),
            (true, false) => None,
        };
        index.iter().enumerate().filter_map(at).collect()
    }
}

/// Combines `value` of the elements, in the type `compute`.
fn fold(
    b: &mut Builder<'_>,
    x: &Tensor,
    over: &Over,
    op: ReduceOp,
    (compute, result): (DType, DType),
    value: impl FnOnce(&mut KernelBuilder<'_, '_>, ExprId) -> ExprId,
    finish: impl FnOnce(&mut KernelBuilder<'_, '_>, ExprId) -> ExprId,
) -> Tensor {
    b.reduce(
        op,
        result,
        &over.result(x),
        &over.extents(x),
        |k, outer, inner| {
            let index = over.index(x.rank(), outer, inner);
            let v = k.load(x, &index);
            let v = k.cast(compute, v);
            value(k, v)
        },
        |k, _, acc| finish(k, acc),
    )
}

/// The type given by `dtype`, if any.
fn dtype_arg(b: &Builder<'_>, args: &Args<'_>) -> Result<Option<DType>> {
    match args.position("dtype").filter(|at| *at < args.values.len()) {
        Some(at) => args.dtype(b, at),
        None => Ok(None),
    }
}

/// The type sums and products have: integers and booleans become `int64`.
fn sum_type(b: &Builder<'_>, args: &Args<'_>, x: &Tensor) -> Result<DType> {
    let own = if x.dtype.is_floating_point() || x.dtype.is_complex() { x.dtype } else { DType::I64 };
    Ok(dtype_arg(b, args)?.unwrap_or(own))
}

/// The sum over dimensions.
pub fn sum_over(b: &mut Builder<'_>, x: &Tensor, over: &Over, dtype: DType) -> Tensor {
    fold(b, x, over, ReduceOp::Sum, (compute_type(dtype), dtype), |_, v| v, |_, acc| acc)
}

fn sum(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::from_args(b, args, x.rank())?;
    let dtype = sum_type(b, args, &x)?;
    Ok(Value::Tensor(sum_over(b, &x, &over, dtype)))
}

/// NaN as 0.
fn without_nan(k: &mut KernelBuilder<'_, '_>, v: ExprId) -> ExprId {
    if !k.dtype(v).is_floating_point() {
        return v;
    }
    let zero = number(k, v, 0.0);
    let is_nan = k.unary(UnaryOp::IsNan, v);
    k.select(is_nan, zero, v)
}

fn nansum(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::from_args(b, args, x.rank())?;
    let dtype = sum_type(b, args, &x)?;
    let types = (compute_type(dtype), dtype);
    Ok(Value::Tensor(fold(b, &x, &over, ReduceOp::Sum, types, without_nan, |_, acc| acc)))
}

/// The number of elements each result element is made of.
fn count(b: &mut Builder<'_>, x: &Tensor, over: &Over) -> Operand {
    let extents = over.extents(x);
    b.product(&extents)
}

fn mean_type(b: &Builder<'_>, args: &Args<'_>, x: &Tensor) -> Result<DType> {
    let dtype = dtype_arg(b, args)?.unwrap_or(x.dtype);
    expect_real(b, dtype)?;
    if !dtype.is_floating_point() {
        return Err(b.user(format!(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. Got: {}",
            dtype.graph_name()
        )));
    }
    Ok(dtype)
}

/// The mean over dimensions.
pub fn mean_over(b: &mut Builder<'_>, x: &Tensor, over: &Over, dtype: DType) -> Tensor {
    let n = count(b, x, over);
    let types = (compute_type(dtype), dtype);
    fold(
        b,
        x,
        over,
        ReduceOp::Sum,
        types,
        |_, v| v,
        |k, acc| {
            let n = k.number(&n, k.dtype(acc));
            k.div(acc, n)
        },
    )
}

fn mean(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::from_args(b, args, x.rank())?;
    let dtype = mean_type(b, args, &x)?;
    Ok(Value::Tensor(mean_over(b, &x, &over, dtype)))
}

fn nanmean(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::from_args(b, args, x.rank())?;
    let dtype = mean_type(b, args, &x)?;
    let compute = compute_type(dtype);
    let total = fold(b, &x, &over, ReduceOp::Sum, (compute, compute), without_nan, |_, acc| acc);
    let n = fold(
        b,
        &x,
        &over,
        ReduceOp::Sum,
        (compute, compute),
        |k, v| {
            let is_nan = k.unary(UnaryOp::IsNan, v);
            let (zero, one) = (number(k, v, 0.0), number(k, v, 1.0));
            k.select(is_nan, zero, one)
        },
        |_, acc| acc,
    );
    Ok(Value::Tensor(b.map(dtype, &total.dims, |k, i| {
        let (total, n) = (k.load(&total, i), k.load(&n, i));
        k.div(total, n)
    })))
}

fn prod(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::from_args(b, args, x.rank())?;
    let dtype = sum_type(b, args, &x)?;
    let types = (compute_type(dtype), dtype);
    Ok(Value::Tensor(fold(b, &x, &over, ReduceOp::Prod, types, |_, v| v, |_, acc| acc)))
}

/// Raises for reductions that have no neutral element over nothing.
fn check_not_empty(b: &mut Builder<'_>, args: &Args<'_>, x: &Tensor, over: &Over) -> Result<()> {
    let is_given = args.position("dim").is_some_and(|at| args.values.get(at).is_some_and(|dim| *dim != Value::None));
    let is_all = over.dims.len() == x.rank() && (!is_given || x.rank() != 1);
    for &dim in &over.dims {
        if x.dims[dim] == Dim::Const(0) {
            return Err(b.user(if is_all {
                let how = match b.op_name.as_str() {
                    "argmax" | "argmin" => "",
                    _ => " Specify the reduction dim with the 'dim' argument.",
                };
                format!("{}(): Expected reduction dim to be specified for input.numel() == 0.{how}", b.op_name)
            } else {
                format!("{}(): Expected reduction dim {dim} to have non-zero size.", b.op_name)
            }));
        }
    }
    Ok(())
}

/// The greatest or least over dimensions; NaN wins.
pub fn extreme_over(b: &mut Builder<'_>, x: &Tensor, over: &Over, op: ReduceOp) -> Tensor {
    // Booleans have no extremes of their own: true is the greatest.
    let (op, dtype) = match (op, x.dtype) {
        (ReduceOp::Max, DType::Bool) => (ReduceOp::Or, x.dtype),
        (ReduceOp::Min, DType::Bool) => (ReduceOp::And, x.dtype),
        (op, dtype) => (op, dtype),
    };
    fold(b, x, over, op, (compute_type(dtype), dtype), |_, v| v, |_, acc| acc)
}

fn extreme(b: &mut Builder<'_>, args: &Args<'_>, op: ReduceOp) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::from_args(b, args, x.rank())?;
    check_not_empty(b, args, &x, &over)?;
    Ok(Value::Tensor(extreme_over(b, &x, &over, op)))
}

fn extreme_all(b: &mut Builder<'_>, args: &Args<'_>, op: ReduceOp) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::new((0..x.rank()).collect(), false);
    check_not_empty(b, args, &x, &over)?;
    Ok(Value::Tensor(extreme_over(b, &x, &over, op)))
}

/// The index along the one dimension gone over of the first greatest or least element.
fn arg_over(b: &mut Builder<'_>, x: &Tensor, over: &Over, op: ReduceOp) -> Tensor {
    let (dims, extents) = (over.result(x), over.extents(x));
    let buffer = b.new_buffer(DType::I64, &dims);
    let mut k = KernelBuilder::new(b);
    let outer = k.parallel(&dims);
    let inner = k.reduced(&extents);
    let index = over.index(x.rank(), &outer, &inner);
    let v = k.load(x, &index);
    let compute = if x.dtype == DType::Bool { DType::U8 } else { compute_type(x.dtype) };
    let v = k.cast(compute, v);
    let zero = k.int(0);
    let payload = inner.first().copied().unwrap_or(zero);
    let acc = k.reduce_arg(op, v, payload);
    k.store(buffer, &outer, acc);
    k.finish();
    b.tensor_of(buffer)
}

fn extreme_dim(b: &mut Builder<'_>, args: &Args<'_>, op: ReduceOp, arg: ReduceOp) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::from_args(b, args, x.rank())?;
    check_not_empty(b, args, &x, &over)?;
    let values = extreme_over(b, &x, &over, op);
    let indices = arg_over(b, &x, &over, arg);
    Ok(Value::Tuple(vec![Value::Tensor(values), Value::Tensor(indices)], None))
}

fn aminmax(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::from_args(b, args, x.rank())?;
    check_not_empty(b, args, &x, &over)?;
    let low = extreme_over(b, &x, &over, ReduceOp::Min);
    let high = extreme_over(b, &x, &over, ReduceOp::Max);
    Ok(Value::Tuple(vec![Value::Tensor(low), Value::Tensor(high)], None))
}

fn arg(b: &mut Builder<'_>, args: &Args<'_>, op: ReduceOp) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::from_args(b, args, x.rank())?;
    check_not_empty(b, args, &x, &over)?;
    if !matches!(args.value(1)?, Value::None) {
        return Ok(Value::Tensor(arg_over(b, &x, &over, op)));
    }
    // Over all dimensions the index counts in the flattened tensor.
    let flat = super::view::flat(b, &x);
    let line = arg_over(b, &flat, &Over::new(vec![0], false), op);
    let dims = over.result(&x);
    Ok(Value::Tensor(views::reshape(b, &line, &dims)))
}

fn truth(b: &mut Builder<'_>, args: &Args<'_>, op: ReduceOp) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::from_args(b, args, x.rank())?;
    // A byte tensor keeps its type here.
    let result = if x.dtype == DType::U8 { DType::U8 } else { DType::Bool };
    Ok(Value::Tensor(fold(b, &x, &over, op, (DType::Bool, result), |_, v| v, |_, acc| acc)))
}

fn count_nonzero(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::from_args(b, args, x.rank())?;
    let types = (DType::Bool, DType::I64);
    Ok(Value::Tensor(fold(b, &x, &over, ReduceOp::Sum, types, |k, v| k.cast(DType::I64, v), |_, acc| acc)))
}

/// Variance or standard deviation, and the mean.
fn moments(b: &mut Builder<'_>, args: &Args<'_>, is_root: bool) -> Result<(Tensor, Tensor)> {
    let x = args.tensor(0)?;
    expect_real(b, x.dtype)?;
    if !x.dtype.is_floating_point() {
        return Err(b.user("std and var only support floating point and complex dtypes"));
    }
    let over = Over::from_args(b, args, x.rank())?;
    let correction = if let Some(at) = args.position("unbiased") {
        f64::from(u8::from(args.flag(b, at)?))
    } else {
        match args.position("correction") {
            Some(at) => args.optional_known_float(b, at)?.unwrap_or(1.0),
            None => 1.0,
        }
    };
    let compute = compute_type(x.dtype);
    let n = count(b, &x, &over);
    let mean = mean_over(b, &x, &over, compute);
    let variance = b.reduce(
        ReduceOp::Sum,
        x.dtype,
        &over.result(&x),
        &over.extents(&x),
        |k, outer, inner| {
            let index = over.index(x.rank(), outer, inner);
            let v = k.load(&x, &index);
            let v = k.cast(compute, v);
            let m = k.load(&mean, outer);
            let d = k.sub(v, m);
            k.mul(d, d)
        },
        |k, _, acc| {
            let n = k.number(&n, compute);
            let correction = k.float(compute, correction);
            let zero = k.float(compute, 0.0);
            let left = k.sub(n, correction);
            let divisor = k.max(left, zero);
            let variance = k.div(acc, divisor);
            if is_root { k.unary(UnaryOp::Sqrt, variance) } else { variance }
        },
    );
    Ok((variance, cast(b, &mean, x.dtype)))
}

fn pair(b: &mut Builder<'_>, args: &Args<'_>, is_root: bool) -> Result<Value> {
    let (first, mean) = moments(b, args, is_root)?;
    Ok(Value::Tuple(vec![Value::Tensor(first), Value::Tensor(mean)], None))
}

/// The p-norm over dimensions.
pub fn norm_over(b: &mut Builder<'_>, x: &Tensor, over: &Over, p: f64, dtype: DType) -> Tensor {
    let types = (compute_type(dtype), dtype);
    let size = |k: &mut KernelBuilder<'_, '_>, v: ExprId| k.unary(UnaryOp::Abs, v);
    #[allow(clippy::float_cmp, reason = "the special orders are exact")]
    if p == 2.0 {
        fold(b, x, over, ReduceOp::Sum, types, |k, v| k.mul(v, v), |k, acc| k.unary(UnaryOp::Sqrt, acc))
    } else if p == 1.0 {
        fold(b, x, over, ReduceOp::Sum, types, size, |_, acc| acc)
    } else if p == 0.0 {
        let nonzero = |k: &mut KernelBuilder<'_, '_>, v: ExprId| {
            let zero = number(k, v, 0.0);
            let is = k.binary(BinaryOp::Ne, v, zero);
            k.cast(k.dtype(v), is)
        };
        fold(b, x, over, ReduceOp::Sum, types, nonzero, |_, acc| acc)
    } else if p.is_infinite() {
        let op = if p > 0.0 { ReduceOp::Max } else { ReduceOp::Min };
        let start = if p > 0.0 { 0.0 } else { f64::INFINITY };
        fold(b, x, over, op, types, size, |k, acc| {
            let start = number(k, acc, start);
            k.binary(if p > 0.0 { BinaryOp::Max } else { BinaryOp::Min }, acc, start)
        })
    } else {
        let power = |k: &mut KernelBuilder<'_, '_>, v: ExprId| {
            let (size, p) = (k.unary(UnaryOp::Abs, v), number(k, v, p));
            k.binary(BinaryOp::Pow, size, p)
        };
        fold(b, x, over, ReduceOp::Sum, types, power, |k, acc| {
            let root = number(k, acc, 1.0 / p);
            k.binary(BinaryOp::Pow, acc, root)
        })
    }
}

fn norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::from_args(b, args, x.rank())?;
    let p = args.optional_known_float(b, 1)?.unwrap_or(2.0);
    let dtype = dtype_arg(b, args)?.unwrap_or(x.dtype);
    expect_real(b, dtype)?;
    if !dtype.is_floating_point() {
        return Err(b.user(format!(
            "linalg.vector_norm: Expected a floating point or complex tensor as input. Got {}",
            dtype.graph_name()
        )));
    }
    Ok(Value::Tensor(norm_over(b, &x, &over, p, dtype)))
}

fn frobenius_norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let over = Over::from_args(b, args, x.rank())?;
    Ok(Value::Tensor(norm_over(b, &x, &over, 2.0, x.dtype)))
}

/// `max + log(sum(exp(x - max)))`; the max counts as 0 where it is infinite.
fn logsumexp(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dtype = float_type(x.dtype);
    let x = cast(b, &x, dtype);
    let over = Over::from_args(b, args, x.rank())?;
    let compute = compute_type(dtype);
    let greatest = fold(
        b,
        &x,
        &over,
        ReduceOp::Max,
        (compute, compute),
        |_, v| v,
        |k, acc| {
            let (size, inf) = (k.unary(UnaryOp::Abs, acc), number(k, acc, f64::INFINITY));
            let zero = number(k, acc, 0.0);
            let is_inf = k.binary(BinaryOp::Eq, size, inf);
            k.select(is_inf, zero, acc)
        },
    );
    Ok(Value::Tensor(b.reduce(
        ReduceOp::Sum,
        dtype,
        &over.result(&x),
        &over.extents(&x),
        |k, outer, inner| {
            let index = over.index(x.rank(), outer, inner);
            let v = k.load(&x, &index);
            let v = k.cast(compute, v);
            let m = k.load(&greatest, outer);
            let d = k.sub(v, m);
            k.unary(UnaryOp::Exp, d)
        },
        |k, outer, acc| {
            let m = k.load(&greatest, outer);
            let log = k.unary(UnaryOp::Log, acc);
            k.add(log, m)
        },
    )))
}

fn softmax_op(b: &mut Builder<'_>, args: &Args<'_>, is_log: bool) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    let dtype = match dtype_arg(b, args)? {
        Some(dtype) => dtype,
        None => x.dtype,
    };
    if !dtype.is_floating_point() {
        return Err(b.user(format!("\"softmax_lastdim_kernel_impl\" not implemented for '{}'", dtype.graph_name())));
    }
    Ok(Value::Tensor(softmax(b, &x, dim, dtype, is_log)))
}

/// `exp(x - max) / sum(exp(x - max))` along a dimension, or its logarithm.
pub fn softmax(b: &mut Builder<'_>, x: &Tensor, dim: usize, dtype: DType, is_log: bool) -> Tensor {
    let compute = compute_type(dtype);
    let over = Over::new(if x.rank() == 0 { Vec::new() } else { vec![dim] }, true);
    let greatest = fold(b, x, &over, ReduceOp::Max, (compute, compute), |_, v| v, |_, acc| acc);
    let difference = |k: &mut KernelBuilder<'_, '_>, index: &[ExprId], group: &[ExprId]| {
        let v = k.load(x, index);
        let v = k.cast(compute, v);
        let m = k.load(&greatest, group);
        k.sub(v, m)
    };
    if is_log {
        let exponential = |k: &mut KernelBuilder<'_, '_>, outer: &[ExprId], inner: &[ExprId]| {
            let d = difference(k, &over.index(x.rank(), outer, inner), outer);
            k.unary(UnaryOp::Exp, d)
        };
        let log = |k: &mut KernelBuilder<'_, '_>, _: &[ExprId], acc| k.unary(UnaryOp::Log, acc);
        let (groups, extents) = (over.result(x), over.extents(x));
        let total = b.reduce(ReduceOp::Sum, compute, &groups, &extents, exponential, log);
        return b.map(dtype, &x.dims, |k, i| {
            let group = over.group(k, i);
            let (d, total) = (difference(k, i, &group), k.load(&total, &group));
            k.sub(d, total)
        });
    }
    // Exponentials are made once and kept, and a division is made for each sum, not for each element.
    let exponentials = b.map(compute, &x.dims, |k, i| {
        let group = over.group(k, i);
        let d = difference(k, i, &group);
        k.unary(UnaryOp::Exp, d)
    });
    let invert = |k: &mut KernelBuilder<'_, '_>, acc| {
        let one = k.one(compute);
        k.div(one, acc)
    };
    let factor = fold(b, &exponentials, &over, ReduceOp::Sum, (compute, compute), |_, v| v, invert);
    b.map(dtype, &x.dims, |k, i| {
        let group = over.group(k, i);
        let (e, factor) = (k.load(&exponentials, i), k.load(&factor, &group));
        k.mul(e, factor)
    })
}

/// A kernel that goes along `dim` in order; `body` gives the values of the buffers' elements.
fn scan(
    b: &mut Builder<'_>,
    x: &Tensor,
    dim: usize,
    dtypes: &[DType],
    body: impl FnOnce(&mut KernelBuilder<'_, '_>, &[ExprId]) -> Vec<ExprId>,
) -> Vec<Tensor> {
    let buffers: Vec<_> = dtypes.iter().map(|d| b.new_buffer(*d, &x.dims)).collect();
    let mut k = KernelBuilder::new(b);
    let outer: Vec<Dim> = x.dims.iter().enumerate().filter(|(i, _)| *i != dim).map(|(_, d)| *d).collect();
    let mut index = k.parallel(&outer);
    if x.rank() > 0 {
        let along = k.axis(x.dims[dim], AxisKind::Scan);
        index.insert(dim, along);
    }
    let values = body(&mut k, &index);
    for ((buffer, value), dtype) in buffers.iter().zip(values).zip(dtypes) {
        let value = k.cast(*dtype, value);
        k.store(*buffer, &index, value);
    }
    k.finish();
    buffers.into_iter().map(|buffer| b.tensor_of(buffer)).collect()
}

fn cumulative(b: &mut Builder<'_>, args: &Args<'_>, op: ReduceOp) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    let dtype = sum_type(b, args, &x)?;
    if x.rank() == 0 {
        return Ok(Value::Tensor(unary(b, &x, dtype, |_, v| v)));
    }
    let compute = compute_type(dtype);
    let results = scan(b, &x, dim, &[dtype], |k, i| {
        let v = k.load(&x, i);
        let v = k.cast(compute, v);
        vec![k.reduce(op, v)]
    });
    Ok(Value::Tensor(results[0].clone()))
}

/// Running extremes and where they are. Of equal elements the last one counts, as in PyTorch.
fn cumulative_extreme(b: &mut Builder<'_>, args: &Args<'_>, op: ReduceOp) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    if x.rank() == 0 {
        let zero = b.splat(Operand::Const(Const::int(0)), DType::I64, &[]);
        return Ok(Value::Tuple(vec![Value::Tensor(x), Value::Tensor(zero)], None));
    }
    let dtype = x.dtype;
    let compute = if dtype == DType::Bool { DType::U8 } else { compute_type(dtype) };
    let values = scan(b, &x, dim, &[dtype], |k, i| {
        let v = k.load(&x, i);
        let v = k.cast(compute, v);
        vec![k.reduce(op, v)]
    });
    let running = values[0].clone();
    let indices = scan(b, &x, dim, &[DType::I64], |k, i| {
        let (v, best) = (k.load(&x, i), k.load(&running, i));
        let (v, best) = (k.cast(compute, v), k.cast(compute, best));
        let mut is_best = k.binary(BinaryOp::Eq, v, best);
        if compute.is_floating_point() {
            let is_nan = k.unary(UnaryOp::IsNan, v);
            is_best = k.binary(BinaryOp::Or, is_best, is_nan);
        }
        let none = k.int(0);
        let at = k.select(is_best, i[dim], none);
        vec![k.reduce(ReduceOp::Max, at)]
    });
    Ok(Value::Tuple(vec![Value::Tensor(running), Value::Tensor(indices[0].clone())], None))
}

/// Running `log(sum(exp))`, relative to the greatest element of the row.
fn logcumsumexp(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    if x.rank() == 0 {
        return Ok(Value::Tensor(x));
    }
    let compute = compute_type(x.dtype);
    let over = Over::new(vec![dim], true);
    let greatest = fold(b, &x, &over, ReduceOp::Max, (compute, compute), |_, v| v, |_, acc| acc);
    let sums = scan(b, &x, dim, &[compute], |k, i| {
        let group = over.group(k, i);
        let (v, m) = (k.load(&x, i), k.load(&greatest, &group));
        let v = k.cast(compute, v);
        let d = k.sub(v, m);
        let e = k.unary(UnaryOp::Exp, d);
        vec![k.reduce(ReduceOp::Sum, e)]
    });
    Ok(Value::Tensor(b.map(x.dtype, &x.dims, |k, i| {
        let group = over.group(k, i);
        let (sum, m) = (k.load(&sums[0], i), k.load(&greatest, &group));
        let log = k.unary(UnaryOp::Log, sum);
        k.add(log, m)
    })))
}
