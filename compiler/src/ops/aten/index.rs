//! Gathering and scattering: elements chosen by tensors of indices or by masks.
//!
//! Indices are checked before they are used: one reduction finds whether all are in range, and the program raises if not.
//! Masks become indices by counting: how many elements hold is read back, and a scan writes their positions.

use super::contraction::require_equal;
use super::pointwise::choose;
use super::view::dim_arg;
use crate::diag::Result;
use crate::loops::{AxisKind, BinaryOp, Const, Dim, ExprId, Operand, ReduceOp, StoreMode};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::as_tensor;
use crate::ops::value::{Tensor, Value};
use crate::ops::views::{self, shape_text};
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::index.Tensor", lower: index },
    OpDef { name: "aten::index.Tensor_hacked_twin", lower: index },
    OpDef { name: "aten::_unsafe_index", lower: index },
    OpDef { name: "aten::index_put", lower: index_put },
    OpDef { name: "aten::index_put_", lower: index_put_in_place },
    OpDef { name: "aten::_index_put_impl", lower: index_put },
    OpDef { name: "aten::_index_put_impl_", lower: index_put_in_place },
    OpDef { name: "aten::_unsafe_index_put", lower: index_put },
    OpDef { name: "aten::index_select", lower: index_select },
    OpDef { name: "aten::gather", lower: gather },
    OpDef { name: "aten::take_along_dim", lower: take_along_dim },
    OpDef { name: "aten::take", lower: take },
    OpDef { name: "aten::put", lower: put },
    OpDef { name: "aten::scatter.src", lower: |b, a| scatter(b, a, StoreMode::Set) },
    OpDef { name: "aten::scatter.value", lower: |b, a| scatter(b, a, StoreMode::Set) },
    OpDef { name: "aten::scatter.reduce", lower: scatter_named },
    OpDef { name: "aten::scatter.value_reduce", lower: scatter_named },
    OpDef { name: "aten::scatter_add", lower: |b, a| scatter(b, a, StoreMode::Combine(ReduceOp::Sum)) },
    OpDef { name: "aten::scatter_reduce", lower: scatter_reduce },
    OpDef { name: "aten::index_add", lower: index_add },
    OpDef { name: "aten::index_copy", lower: index_copy },
    OpDef { name: "aten::index_fill", lower: index_fill },
    OpDef { name: "aten::nonzero", lower: nonzero_op },
    OpDef { name: "aten::argwhere", lower: nonzero_op },
    OpDef { name: "aten::nonzero_numpy", lower: nonzero_numpy },
    OpDef { name: "aten::where", lower: nonzero_numpy },
    OpDef { name: "aten::masked_select", lower: masked_select },
    OpDef { name: "aten::masked_scatter", lower: masked_scatter },
];

fn int(value: i64) -> Operand {
    Operand::Const(Const::int(value))
}

/// Raises unless `holds` is true of every element of an index tensor.
pub fn check_all(
    b: &mut Builder<'_>,
    index: &Tensor,
    class: &str,
    message: &str,
    holds: impl FnOnce(&mut KernelBuilder<'_, '_>, ExprId) -> ExprId,
) {
    let all = b.reduce(
        ReduceOp::And,
        DType::Bool,
        &[],
        &index.dims,
        |k, _, over| {
            let i = k.load(index, over);
            let i = k.cast(DType::I64, i);
            holds(k, i)
        },
        |_, _, v| v,
    );
    let all = b.item(&all);
    b.check_class(all, class, message);
}

/// Raises unless all indices are in `0..extent`, or from `-extent` on where negative ones count from the end.
fn check_bounds(b: &mut Builder<'_>, index: &Tensor, extent: Dim, dim: usize, wraps: bool) {
    let size = extent.known().map_or_else(|| "*".to_owned(), |n| n.to_string());
    let message = format!("index is out of bounds for dimension {dim} with size {size}");
    let class = if wraps { "IndexError" } else { "RuntimeError" };
    check_all(b, index, class, &message, |k, i| {
        if !wraps {
            return k.in_bounds(i, extent);
        }
        let n = k.dim(extent);
        let low = k.add(i, n);
        let zero = k.int(0);
        let low = k.binary(BinaryOp::Ge, low, zero);
        let high = k.binary(BinaryOp::Lt, i, n);
        k.and(low, high)
    });
}

/// An index with negatives counted from the end.
fn wrapped(k: &mut KernelBuilder<'_, '_>, i: ExprId, extent: Dim) -> ExprId {
    let (zero, n) = (k.int(0), k.dim(extent));
    let is_negative = k.binary(BinaryOp::Lt, i, zero);
    let from_end = k.add(i, n);
    k.select(is_negative, from_end, i)
}

fn expect_index(b: &Builder<'_>, index: &Tensor) -> Result<()> {
    if matches!(index.dtype, DType::I64 | DType::I32) {
        return Ok(());
    }
    Err(b.user(format!("{}(): Expected dtype int64 for index", b.op_name)))
}

/// An integer expression of an index tensor's element.
fn load_index(k: &mut KernelBuilder<'_, '_>, index: &Tensor, at: &[ExprId]) -> ExprId {
    let i = k.load(index, at);
    k.cast(DType::I64, i)
}

/// The tensor with at least one dimension.
fn at_least_1d(b: &mut Builder<'_>, t: &Tensor) -> Tensor {
    if t.rank() == 0 { views::unsqueeze(b, t, 0) } else { t.clone() }
}

// ---- by tensors of any kind

/// The index tensors of `x[...]` by dimension, masks replaced by the positions at which they hold, broadcast together.
struct Advanced {
    /// For each dimension of the tensor, its index tensor.
    by_dim: Vec<Option<Tensor>>,
    /// The shape the index tensors broadcast to.
    shape: Vec<Dim>,
    /// Where the dimensions of `shape` are in the result.
    at: usize,
}

impl Advanced {
    fn new(b: &mut Builder<'_>, x: &Tensor, list: &Value) -> Result<Self> {
        let mut by_dim: Vec<Option<Tensor>> = Vec::new();
        for item in b.items(list)? {
            match item {
                Value::None => by_dim.push(None),
                Value::Tensor(t) if matches!(t.dtype, DType::Bool | DType::U8) => {
                    for (d, &extent) in t.dims.iter().enumerate() {
                        let Some(&have) = x.dims.get(by_dim.len() + d) else {
                            return Err(too_many(b, x));
                        };
                        let message = format!(
                            "The shape of the mask {} at index {d} does not match the shape of the indexed tensor {} at \
                             index {}",
                            shape_text(&t.dims),
                            shape_text(&x.dims),
                            by_dim.len() + d
                        );
                        require_equal(b, extent, have, &message)?;
                    }
                    let positions = nonzero(b, &t);
                    for d in 0..t.rank() {
                        let column = i64::try_from(d).expect("ranks are small");
                        by_dim.push(Some(views::select(b, &positions, 1, int(column))));
                    }
                    if t.rank() == 0 {
                        return Err(b.unsupported("indexing with a 0-dim mask"));
                    }
                }
                Value::Tensor(t) => {
                    if !matches!(t.dtype, DType::I64 | DType::I32) {
                        return Err(b.user("tensors used as indices must be long, int, byte or bool tensors"));
                    }
                    by_dim.push(Some(t));
                }
                other => return Err(b.user(format!("cannot index a tensor with {}", other.kind()))),
            }
        }
        if by_dim.len() > x.rank() {
            return Err(too_many(b, x));
        }
        by_dim.resize(x.rank(), None);
        let shapes: Vec<Vec<Dim>> = by_dim.iter().flatten().map(|t| t.dims.clone()).collect();
        let shapes: Vec<&[Dim]> = shapes.iter().map(Vec::as_slice).collect();
        let shape = views::broadcast(b, &shapes)
            .map_err(|_| b.user("shape mismatch: indexing tensors could not be broadcast together"))?;
        for (d, slot) in by_dim.iter_mut().enumerate() {
            if let Some(t) = slot {
                check_bounds(b, t, x.dims[d], d, true);
                *t = views::expand_to(b, t, &shape)?;
            }
        }
        // Index tensors side by side leave their dimensions where they were; others put them first.
        let used: Vec<usize> = (0..by_dim.len()).filter(|d| by_dim[*d].is_some()).collect();
        let is_adjacent = used.windows(2).all(|w| w[1] == w[0] + 1);
        let at = if is_adjacent { used.first().copied().unwrap_or(0) } else { 0 };
        Ok(Self { by_dim, shape, at })
    }

    /// The result's extents.
    fn dims(&self, x: &Tensor) -> Vec<Dim> {
        let kept = self.by_dim.iter().zip(&x.dims).filter(|(t, _)| t.is_none()).map(|(_, d)| *d);
        let mut dims: Vec<Dim> = kept.collect();
        dims.splice(self.at..self.at, self.shape.iter().copied());
        dims
    }

    /// The tensor's indices of an element of the result.
    fn source(&self, k: &mut KernelBuilder<'_, '_>, x: &Tensor, index: &[ExprId]) -> Vec<ExprId> {
        let inner = &index[self.at..self.at + self.shape.len()];
        let mut outer = index[..self.at].iter().chain(&index[self.at + self.shape.len()..]);
        let mut out = Vec::with_capacity(x.rank());
        for (slot, &extent) in self.by_dim.iter().zip(&x.dims) {
            out.push(match slot {
                Some(t) => {
                    let i = load_index(k, t, inner);
                    wrapped(k, i, extent)
                }
                None => *outer.next().expect("one index a kept dimension"),
            });
        }
        out
    }
}

fn too_many(b: &Builder<'_>, x: &Tensor) -> Box<crate::diag::Diagnostic> {
    b.user(format!("too many indices for tensor of dimension {}", x.rank()))
}

fn index(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let by = Advanced::new(b, &x, args.value(1)?)?;
    let dims = by.dims(&x);
    Ok(Value::Tensor(b.map(x.dtype, &dims, |k, i| {
        let at = by.source(k, &x, i);
        k.load(&x, &at)
    })))
}

/// A copy of a tensor that may be written in place.
fn writable_copy(b: &mut Builder<'_>, x: &Tensor) -> Tensor {
    let copy = b.map(x.dtype, &x.dims, |k, i| k.load(x, i));
    copy
}

/// Writes `values` where the indices say.
fn put_into(b: &mut Builder<'_>, target: &Tensor, by: &Advanced, values: &Tensor, mode: StoreMode) -> Result<()> {
    let dims = by.dims(target);
    let values = views::expand_to(b, values, &dims).map_err(|_| {
        b.user(format!(
            "shape mismatch: value tensor of shape {} cannot be broadcast to indexing result of shape {}",
            shape_text(&values.dims),
            shape_text(&dims)
        ))
    })?;
    // The values may be a view of what is written to.
    let values = if values.storage == target.storage { b.copy(&values) } else { values };
    b.own(target.storage);
    let mut k = KernelBuilder::new(b);
    let index = k.parallel(&dims);
    let at = by.source(&mut k, target, &index);
    let value = k.load(&values, &index);
    let value = k.cast(target.dtype, value);
    k.store_through(target, &at, value, None, mode);
    k.finish_ordered();
    Ok(())
}

fn put_mode(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<StoreMode> {
    Ok(if args.flag(b, at)? { StoreMode::Combine(ReduceOp::Sum) } else { StoreMode::Set })
}

fn index_put(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let target = writable_copy(b, &x);
    index_put_to(b, args, target)
}

fn index_put_in_place(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let target = args.tensor(0)?;
    index_put_to(b, args, target)
}

fn index_put_to(b: &mut Builder<'_>, args: &Args<'_>, target: Tensor) -> Result<Value> {
    let values = as_tensor(b, args.value(2)?)?;
    if values.dtype != target.dtype && !values.is_wrapped_number {
        return Err(b.user(format!(
            "Index put requires the source and destination dtypes match, got {} for the destination and {} for the \
             source.",
            target.dtype.graph_name(),
            values.dtype.graph_name()
        )));
    }
    let mode = put_mode(b, args, 3)?;
    // One mask and one value: no positions are needed.
    let items = b.items(args.value(1)?)?;
    if let [Value::Tensor(mask)] = items.as_slice() {
        let is_choice = mask.dtype == DType::Bool && mask.rank() > 0 && mask.rank() <= target.rank();
        if is_choice && values.dims.iter().all(|d| *d == Dim::Const(1)) && mode == StoreMode::Set {
            let mut wide = mask.clone();
            for (have, want) in mask.dims.iter().zip(&target.dims) {
                let message = format!(
                    "The shape of the mask {} does not match the shape of the indexed tensor {}",
                    shape_text(&mask.dims),
                    shape_text(&target.dims)
                );
                require_equal(b, *have, *want, &message)?;
            }
            while wide.rank() < target.rank() {
                wide = views::unsqueeze(b, &wide, wide.rank());
            }
            let value = views::squeeze(b, &values, |_| true);
            let chosen = choose(b, &wide, &value, &target, target.dtype)?;
            crate::ops::write_result(b, &target, &chosen)?;
            return Ok(Value::Tensor(target));
        }
    }
    let by = Advanced::new(b, &target, args.value(1)?)?;
    put_into(b, &target, &by, &values, mode)?;
    Ok(Value::Tensor(target))
}

// ---- along one dimension

fn index_select(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, index) = (args.tensor(0)?, args.tensor(2)?);
    let dim = dim_arg(b, args, 1, x.rank())?;
    expect_index(b, &index)?;
    if index.rank() > 1 {
        return Err(b.user("index_select(): Index is supposed to be a vector"));
    }
    let is_scalar = x.rank() == 0;
    let x = at_least_1d(b, &x);
    let index = at_least_1d(b, &index);
    select_along(b, &x, dim, &index, is_scalar)
}

fn select_along(b: &mut Builder<'_>, x: &Tensor, dim: usize, index: &Tensor, is_scalar: bool) -> Result<Value> {
    check_bounds(b, index, x.dims[dim], dim, false);
    let mut dims = x.dims.clone();
    dims[dim] = index.dims[0];
    let out = b.map(x.dtype, &dims, |k, i| {
        let mut at = i.to_vec();
        at[dim] = load_index(k, index, &i[dim..=dim]);
        k.load(x, &at)
    });
    Ok(Value::Tensor(if is_scalar { views::squeeze(b, &out, |_| true) } else { out }))
}

fn gather(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, index) = (args.tensor(0)?, args.tensor(2)?);
    let dim = dim_arg(b, args, 1, x.rank())?;
    expect_index(b, &index)?;
    gather_along(b, &x, dim, &index)
}

fn gather_along(b: &mut Builder<'_>, x: &Tensor, dim: usize, index: &Tensor) -> Result<Value> {
    let is_scalar = index.rank() == 0;
    let (x, index) = (at_least_1d(b, x), at_least_1d(b, index));
    if x.rank() != index.rank() {
        return Err(b.user("Index tensor must have the same number of dimensions as input tensor"));
    }
    for d in 0..x.rank() {
        let fits = match (index.dims[d].known(), x.dims[d].known()) {
            _ if d == dim => true,
            (Some(i), Some(n)) => i <= n,
            _ => {
                let fits = b.binary(BinaryOp::Le, index.dims[d].into(), x.dims[d].into());
                b.check(fits, "Size does not match at a dimension of the index tensor");
                true
            }
        };
        if !fits {
            return Err(b.user(format!(
                "Size does not match at dimension {d} expected index {} to be no larger than self {} apart from \
                 dimension {dim}",
                shape_text(&index.dims),
                shape_text(&x.dims)
            )));
        }
    }
    check_bounds(b, &index, x.dims[dim], dim, false);
    let out = b.map(x.dtype, &index.dims, |k, i| {
        let mut at = i.to_vec();
        at[dim] = load_index(k, &index, i);
        k.load(&x, &at)
    });
    Ok(Value::Tensor(if is_scalar { views::squeeze(b, &out, |_| true) } else { out }))
}

/// Gather with broadcasting of all other dimensions; without `dim` of the flattened tensor.
fn take_along_dim(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (mut x, mut index) = (args.tensor(0)?, args.tensor(1)?);
    expect_index(b, &index)?;
    if matches!(args.value(2)?, Value::None) {
        x = flattened(b, &x);
        index = flattened(b, &index);
        return gather_along(b, &x, 0, &index);
    }
    let dim = dim_arg(b, args, 2, x.rank())?;
    if x.rank() != index.rank() {
        return Err(b.user("torch.take_along_dim(): input and indices should have the same number of dimensions"));
    }
    let (mut x_dims, mut i_dims) = (x.dims.clone(), index.dims.clone());
    (x_dims[dim], i_dims[dim]) = (Dim::Const(1), Dim::Const(1));
    let shape = views::broadcast(b, &[&x_dims, &i_dims])?;
    (x_dims, i_dims) = (shape.clone(), shape);
    (x_dims[dim], i_dims[dim]) = (x.dims[dim], index.dims[dim]);
    x = views::expand_to(b, &x, &x_dims)?;
    index = views::expand_to(b, &index, &i_dims)?;
    gather_along(b, &x, dim, &index)
}

/// The elements as a vector, in row-major order.
fn flattened(b: &mut Builder<'_>, t: &Tensor) -> Tensor {
    let total = b.product(&t.dims);
    let total = b.dim(total);
    views::reshape(b, t, &[total])
}

/// Elements of the flattened tensor.
fn take(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, index) = (args.tensor(0)?, args.tensor(1)?);
    expect_index(b, &index)?;
    let flat = flattened(b, &x);
    check_bounds(b, &index, flat.dims[0], 0, true);
    Ok(Value::Tensor(b.map(x.dtype, &index.dims, |k, i| {
        let at = load_index(k, &index, i);
        let at = wrapped(k, at, flat.dims[0]);
        k.load(&flat, &[at])
    })))
}

/// Writes elements of the flattened tensor.
fn put(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, index, source) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    expect_index(b, &index)?;
    let mode = put_mode(b, args, 3)?;
    let target = writable_copy(b, &x);
    let (flat, index, source) = (flattened(b, &target), flattened(b, &index), flattened(b, &source));
    let message = "put_(): expected source and index to have the same number of elements";
    require_equal(b, index.dims[0], source.dims[0], message)?;
    let list = b.new_list(vec![Value::Tensor(index)]);
    let by = Advanced::new(b, &flat, &list)?;
    put_into(b, &flat, &by, &source, mode)?;
    Ok(Value::Tensor(target))
}

// ---- scatter

/// Writes `value(indices)` of each point of `index` to the place it names along `dim`.
fn scatter_into(
    b: &mut Builder<'_>,
    target: &Tensor,
    dim: usize,
    index: &Tensor,
    value: impl FnOnce(&mut KernelBuilder<'_, '_>, &[ExprId]) -> ExprId,
    mode: StoreMode,
) -> Result<()> {
    let (target, index) = (at_least_1d(b, target), at_least_1d(b, index));
    if index.dims.contains(&Dim::Const(0)) {
        return Ok(());
    }
    if target.rank() != index.rank() {
        return Err(b.user("Index tensor must have the same number of dimensions as self tensor"));
    }
    for d in (0..target.rank()).filter(|d| *d != dim) {
        match (index.dims[d].known(), target.dims[d].known()) {
            (Some(i), Some(n)) if i > n => {
                return Err(b.user(format!(
                    "Expected index {} to be no larger than self {} apart from dimension {dim}",
                    shape_text(&index.dims),
                    shape_text(&target.dims)
                )));
            }
            (Some(_), Some(_)) => {}
            _ => {
                let fits = b.binary(BinaryOp::Le, index.dims[d].into(), target.dims[d].into());
                b.check(fits, "Expected index to be no larger than self apart from the scattered dimension");
            }
        }
    }
    check_bounds(b, &index, target.dims[dim], dim, false);
    b.own(target.storage);
    let mut k = KernelBuilder::new(b);
    let i = k.parallel(&index.dims);
    let mut at = i.clone();
    at[dim] = load_index(&mut k, &index, &i);
    let value = value(&mut k, &i);
    let value = k.cast(target.dtype, value);
    k.store_through(&target, &at, value, None, mode);
    k.finish_ordered();
    Ok(())
}

/// The source of a scatter: a tensor at least as large as the index, or a number.
fn scatter_source(b: &mut Builder<'_>, args: &Args<'_>, index: &Tensor, dtype: DType) -> Result<Tensor> {
    let source = as_tensor(b, args.value(3)?)?;
    if source.is_wrapped_number {
        let dims = at_least_1d(b, index).dims;
        return views::expand_to(b, &source, &dims);
    }
    if source.dtype != dtype {
        return Err(b.user("scatter(): Expected self.dtype to be equal to src.dtype"));
    }
    let source = at_least_1d(b, &source);
    let index = at_least_1d(b, index);
    if source.rank() != index.rank() {
        return Err(b.user("Index tensor must have the same number of dimensions as src tensor"));
    }
    for (&s, &i) in source.dims.iter().zip(&index.dims) {
        match (i.known(), s.known()) {
            (Some(i), Some(s)) if i <= s => {}
            (Some(_), Some(_)) => {
                return Err(b.user(format!(
                    "Expected index {} to be no larger than src {}",
                    shape_text(&index.dims),
                    shape_text(&source.dims)
                )));
            }
            _ => {
                let fits = b.binary(BinaryOp::Le, i.into(), s.into());
                b.check(fits, "Expected index to be no larger than src");
            }
        }
    }
    Ok(source)
}

fn scatter(b: &mut Builder<'_>, args: &Args<'_>, mode: StoreMode) -> Result<Value> {
    let (x, index) = (args.tensor(0)?, args.tensor(2)?);
    let dim = dim_arg(b, args, 1, x.rank())?;
    expect_index(b, &index)?;
    let source = scatter_source(b, args, &index, x.dtype)?;
    let target = writable_copy(b, &x);
    scatter_into(b, &target, dim, &index, |k, i| k.load(&source, i), mode)?;
    Ok(Value::Tensor(target))
}

fn scatter_named(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let op = match &*args.text(b, 4)? {
        "add" => ReduceOp::Sum,
        "multiply" => ReduceOp::Prod,
        other => return Err(b.user(format!("reduce argument must be either add or multiply, got {other}"))),
    };
    scatter(b, args, StoreMode::Combine(op))
}

/// With `include_self` false, elements that are hit start from the reduction's neutral value.
fn scatter_reduce(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, index) = (args.tensor(0)?, args.tensor(2)?);
    let dim = dim_arg(b, args, 1, x.rank())?;
    expect_index(b, &index)?;
    let source = scatter_source(b, args, &index, x.dtype)?;
    let name = args.text(b, 4)?;
    let include_self = args.flag(b, 5)?;
    let op = match &*name {
        "sum" | "mean" => ReduceOp::Sum,
        "prod" => ReduceOp::Prod,
        "amax" => ReduceOp::Max,
        "amin" => ReduceOp::Min,
        other => {
            return Err(b.user(format!("reduce argument must be either sum, prod, mean, amax or amin, got {other}")));
        }
    };
    let target = writable_copy(b, &x);
    if !include_self {
        scatter_into(b, &target, dim, &index, |k, _| neutral(k, op, x.dtype), StoreMode::Set)?;
    }
    scatter_into(b, &target, dim, &index, |k, i| k.load(&source, i), StoreMode::Combine(op))?;
    if &*name != "mean" {
        return Ok(Value::Tensor(target));
    }
    let start = int(i64::from(include_self));
    let count = b.splat(start, DType::I64, &x.dims);
    let count = writable_copy(b, &count);
    scatter_into(b, &count, dim, &index, |k, _| k.int(1), StoreMode::Combine(ReduceOp::Sum))?;
    Ok(Value::Tensor(b.map(x.dtype, &x.dims, |k, i| {
        let (sum, n, one) = (k.load(&target, i), k.load(&count, i), k.int(1));
        let n = k.max(n, one);
        if x.dtype.is_floating_point() {
            let n = k.cast(x.dtype, n);
            return k.div(sum, n);
        }
        let sum = k.cast(DType::I64, sum);
        k.binary(BinaryOp::FloorDiv, sum, n)
    })))
}

/// The value a reduction starts from.
fn neutral(k: &mut KernelBuilder<'_, '_>, op: ReduceOp, dtype: DType) -> ExprId {
    match op {
        ReduceOp::Sum | ReduceOp::Or => k.zero(dtype),
        ReduceOp::Prod | ReduceOp::And => k.one(dtype),
        ReduceOp::Max | ReduceOp::ArgMax => super::pool::lowest(k, dtype),
        ReduceOp::Min | ReduceOp::ArgMin => {
            if dtype.is_floating_point() {
                return k.float(dtype, f64::INFINITY);
            }
            let bits =
                u32::try_from(dtype.size_bytes() * 8).expect("elements are small") - u32::from(dtype.is_signed());
            let greatest = if bits >= 63 { i64::MAX } else { (1 << bits) - 1 };
            k.constant(Const::from_i64(dtype, if dtype == DType::Bool { 1 } else { greatest }))
        }
    }
}

/// Slices of `source` written or added to slices of a copy of `self`; `value` makes the element from the source's.
fn index_slices(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    source: &Tensor,
    mode: StoreMode,
    value: impl FnOnce(&mut KernelBuilder<'_, '_>, ExprId) -> ExprId,
) -> Result<Value> {
    let (x, index) = (args.tensor(0)?, args.tensor(2)?);
    let dim = dim_arg(b, args, 1, x.rank())?;
    expect_index(b, &index)?;
    if index.rank() > 1 {
        return Err(b.user(format!("{}(): Index is supposed to be a vector", b.op_name)));
    }
    let index = at_least_1d(b, &index);
    let target = writable_copy(b, &x);
    let view = at_least_1d(b, &target);
    let mut dims = view.dims.clone();
    dims[dim] = index.dims[0];
    let source = if source.rank() == 0 && !source.is_wrapped_number { at_least_1d(b, source) } else { source.clone() };
    let source = views::expand_to(b, &source, &dims)?;
    check_bounds(b, &index, view.dims[dim], dim, false);
    b.own(view.storage);
    let mut k = KernelBuilder::new(b);
    let i = k.parallel(&dims);
    let mut at = i.clone();
    at[dim] = load_index(&mut k, &index, &i[dim..=dim]);
    let element = k.load(&source, &i);
    let element = k.cast(x.dtype, element);
    let element = value(&mut k, element);
    k.store_through(&view, &at, element, None, mode);
    k.finish_ordered();
    Ok(Value::Tensor(target))
}

fn index_add(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (source, alpha) = (args.tensor(3)?, args.number(b, 4)?);
    index_slices(b, args, &source, StoreMode::Combine(ReduceOp::Sum), |k, v| {
        let alpha = k.number(&alpha, k.dtype(v));
        k.mul(v, alpha)
    })
}

fn index_copy(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let source = args.tensor(3)?;
    index_slices(b, args, &source, StoreMode::Set, |_, v| v)
}

fn index_fill(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut value = as_tensor(b, args.value(3)?)?;
    if value.rank() > 0 {
        return Err(b.user("index_fill_ only supports a 0-dimensional value tensor"));
    }
    value.is_wrapped_number = true;
    index_slices(b, args, &value, StoreMode::Set, |_, v| v)
}

// ---- by masks

/// Positions of the elements that are not zero: `[count, rank]`, row-major.
pub fn nonzero(b: &mut Builder<'_>, x: &Tensor) -> Tensor {
    let total = b.product(&x.dims);
    let total = b.dim(total);
    let count = b.reduce(
        ReduceOp::Sum,
        DType::I64,
        &[],
        &x.dims,
        |k, _, over| {
            let v = k.load(x, over);
            let v = k.cast(DType::Bool, v);
            k.cast(DType::I64, v)
        },
        |_, _, v| v,
    );
    let count = b.item(&count);
    let count = b.dim(count);
    let rank = x.rank();
    let width = i64::try_from(rank).expect("ranks are small");
    let out = b.new_buffer(DType::I64, &[count, Dim::Const(width)]);
    if rank == 0 {
        return b.tensor_of(out);
    }
    let dims = x.dims.clone();
    let mut k = KernelBuilder::new(b);
    let flat = k.axis(total, AxisKind::Scan);
    let mut index = vec![flat; rank];
    let mut rest = flat;
    for d in (1..rank).rev() {
        let extent = k.dim(dims[d]);
        index[d] = k.binary(BinaryOp::FloorMod, rest, extent);
        rest = k.binary(BinaryOp::FloorDiv, rest, extent);
    }
    index[0] = rest;
    let v = k.load(x, &index);
    let holds = k.cast(DType::Bool, v);
    let one_more = k.cast(DType::I64, holds);
    let so_far = k.reduce(ReduceOp::Sum, one_more);
    let one = k.int(1);
    let row = k.sub(so_far, one);
    let tensor = k.b.tensor_of(out);
    for (d, &i) in index.iter().enumerate() {
        let column = k.int(i64::try_from(d).expect("ranks are small"));
        k.store_through(&tensor, &[row, column], i, Some(holds), StoreMode::Set);
    }
    k.finish();
    b.tensor_of(out)
}

fn nonzero_op(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(nonzero(b, &x)))
}

/// One vector of positions a dimension.
fn nonzero_numpy(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let x = at_least_1d(b, &x);
    let positions = nonzero(b, &x);
    let mut columns = Vec::new();
    for d in 0..x.rank() {
        let column = int(i64::try_from(d).expect("ranks are small"));
        columns.push(Value::Tensor(views::select(b, &positions, 1, column)));
    }
    Ok(b.new_list(columns))
}

fn masked_select(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, mask) = (args.tensor(0)?, args.tensor(1)?);
    if mask.dtype != DType::Bool {
        return Err(b.user("masked_select: expected BoolTensor for mask"));
    }
    let dims = views::broadcast(b, &[&x.dims, &mask.dims])?;
    let (x, mask) = (views::expand_to(b, &x, &dims)?, views::expand_to(b, &mask, &dims)?);
    let (x, mask) = (at_least_1d(b, &x), at_least_1d(b, &mask));
    let positions = nonzero(b, &mask);
    Ok(Value::Tensor(b.map(x.dtype, &positions.dims[..1].to_vec(), |k, i| {
        let at: Vec<ExprId> = (0..x.rank())
            .map(|d| {
                let column = k.int(i64::try_from(d).expect("ranks are small"));
                k.load(&positions, &[i[0], column])
            })
            .collect();
        k.load(&x, &at)
    })))
}

/// Elements where the mask holds, replaced by those of `source` one after another.
fn masked_scatter(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, mask, source) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    if source.dtype != x.dtype {
        return Err(b.user("masked_scatter: expected self and source to have same dtypes"));
    }
    let dims = views::broadcast(b, &[&x.dims, &mask.dims])?;
    let (x, mask) = (views::expand_to(b, &x, &dims)?, views::expand_to(b, &mask, &dims)?);
    let target = writable_copy(b, &x);
    let (view, mask) = (at_least_1d(b, &target), at_least_1d(b, &mask));
    let positions = nonzero(b, &mask);
    let source = flattened(b, &source);
    let enough = b.binary(BinaryOp::Le, positions.dims[0].into(), source.dims[0].into());
    b.check(
        enough,
        "masked_scatter: expected the number of elements in source to be at least the number of ones in mask",
    );
    b.own(view.storage);
    let mut k = KernelBuilder::new(b);
    let i = k.parallel(&positions.dims[..1]);
    let at: Vec<ExprId> = (0..view.rank())
        .map(|d| {
            let column = k.int(i64::try_from(d).expect("ranks are small"));
            k.load(&positions, &[i[0], column])
        })
        .collect();
    let value = k.load(&source, &i);
    k.store_through(&view, &at, value, None, StoreMode::Set);
    k.finish();
    Ok(Value::Tensor(target))
}
