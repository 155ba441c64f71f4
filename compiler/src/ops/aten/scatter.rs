//! Writing elements at positions that tensors hold: `index_put`, `scatter` and its reductions, `index_add` and its kin, and
//! writing through a view into a copy.
//!
//! The in-place forms write into the memory of their first argument; the others into a copy of it. Stores may collide, so the
//! kernels run their points in order.

use super::index::{
    Bounds, Indexing, at_least_1d, check_fits, check_positions, index_list, index_vector, position, require_long,
};
use super::part::{diagonal_of, slice_dim};
use super::view::{dim_arg, flat};
use crate::diag::Result;
use crate::loops::{BinaryOp, Const, Dim, ExprId, ReduceOp, StoreMode};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::{as_tensor, compute_type};
use crate::ops::value::{Tensor, Value, int, known_int};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::index_put", lower: index_put },
    OpDef { name: "aten::index_put_", lower: index_put },
    OpDef { name: "aten::_index_put_impl_", lower: index_put },
    OpDef { name: "aten::_unsafe_index_put", lower: index_put },
    OpDef { name: "aten::put", lower: put },
    OpDef { name: "aten::put_", lower: put },
    OpDef { name: "aten::scatter", lower: scatter },
    OpDef { name: "aten::scatter_", lower: scatter },
    OpDef { name: "aten::scatter_add", lower: scatter_add },
    OpDef { name: "aten::scatter_add_", lower: scatter_add },
    OpDef { name: "aten::scatter_reduce.two", lower: scatter_reduce },
    OpDef { name: "aten::scatter_reduce_.two", lower: scatter_reduce },
    OpDef { name: "aten::index_add", lower: index_add },
    OpDef { name: "aten::index_add_", lower: index_add },
    OpDef { name: "aten::index_copy", lower: index_copy },
    OpDef { name: "aten::index_copy_", lower: index_copy },
    OpDef { name: "aten::index_fill", lower: index_fill },
    OpDef { name: "aten::index_fill_", lower: index_fill },
    OpDef { name: "aten::index_reduce", lower: index_reduce },
    OpDef { name: "aten::index_reduce_", lower: index_reduce },
    OpDef { name: "aten::select_scatter", lower: select_scatter },
    OpDef { name: "aten::slice_scatter", lower: slice_scatter },
    OpDef { name: "aten::diagonal_scatter", lower: diagonal_scatter },
    OpDef { name: "aten::as_strided_scatter", lower: as_strided_scatter },
];

/// At a point of the source: where its element goes, and the element.
type Placed<'a> = dyn Fn(&mut KernelBuilder<'_, '_>, &[ExprId]) -> (Vec<ExprId>, ExprId) + 'a;

/// What is written to: the first argument for in-place forms, else a copy of it.
fn target(b: &mut Builder<'_>, x: &Tensor) -> Tensor {
    let target = if b.op_name.ends_with('_') { x.clone() } else { b.copy(x) };
    b.own(target.storage);
    target
}

/// An operand that stays as it is while `x` is written to.
fn apart_from(b: &mut Builder<'_>, operand: &Tensor, x: &Tensor) -> Tensor {
    if operand.storage == x.storage && b.op_name.ends_with('_') { b.copy(operand) } else { operand.clone() }
}

/// For every point of `dims`, stores or combines the value at the index that `place` gives.
fn scatter_into(
    b: &mut Builder<'_>,
    target: &Tensor,
    dims: &[Dim],
    mode: StoreMode,
    place: impl FnOnce(&mut KernelBuilder<'_, '_>, &[ExprId]) -> (Vec<ExprId>, ExprId),
) {
    let mut k = KernelBuilder::new(b);
    let i = k.parallel(dims);
    let (at, value) = place(&mut k, &i);
    let value = k.cast(target.dtype, value);
    k.store_through(target, &at, value, None, mode);
    k.finish_ordered();
}

/// How several values for one element combine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Combine {
    Sum,
    Prod,
    Mean,
    Max,
    Min,
}

impl Combine {
    /// The name that `scatter_reduce` and `index_reduce` take.
    fn parse(b: &Builder<'_>, name: &str) -> Result<Self> {
        Ok(match name {
            "sum" | "add" => Self::Sum,
            "prod" | "multiply" => Self::Prod,
            "mean" => Self::Mean,
            "amax" => Self::Max,
            "amin" => Self::Min,
            _ => return Err(b.user("reduce argument must be either sum, prod, mean, amax or amin.")),
        })
    }

    fn op(self) -> ReduceOp {
        match self {
            Self::Sum | Self::Mean => ReduceOp::Sum,
            Self::Prod => ReduceOp::Prod,
            Self::Max => ReduceOp::Max,
            Self::Min => ReduceOp::Min,
        }
    }

    /// The value that changes nothing.
    fn identity(self, dtype: DType) -> Const {
        let bits = u32::try_from(dtype.size_bytes() * 8).unwrap_or(64);
        let is_unsigned = matches!(dtype, DType::U8 | DType::Bool);
        let least = if is_unsigned { 0 } else { i64::MIN >> (64 - bits) };
        let greatest = if is_unsigned { 255 } else { !least };
        match self {
            Self::Sum | Self::Mean => Const::from_i64(dtype, 0),
            Self::Prod => Const::from_i64(dtype, 1),
            Self::Max if dtype.is_floating_point() => Const::float(dtype, f64::NEG_INFINITY),
            Self::Min if dtype.is_floating_point() => Const::float(dtype, f64::INFINITY),
            Self::Max => Const::from_i64(dtype, least),
            Self::Min => Const::from_i64(dtype, greatest),
        }
    }
}

/// [`scatter_into`] with values that combine, with or without the element that was there.
fn combine_into(
    b: &mut Builder<'_>,
    target: &Tensor,
    dims: &[Dim],
    combine: Combine,
    include_self: bool,
    place: impl Fn(&mut KernelBuilder<'_, '_>, &[ExprId]) -> (Vec<ExprId>, ExprId),
) {
    if !include_self {
        let identity = combine.identity(target.dtype);
        scatter_into(b, target, dims, StoreMode::Set, |k, i| {
            let (at, _) = place(k, i);
            let value = if identity.dtype.is_floating_point() {
                k.float(identity.dtype, identity.as_f64())
            } else {
                let value = k.int(identity.as_i64());
                k.cast(identity.dtype, value)
            };
            (at, value)
        });
    }
    scatter_into(b, target, dims, StoreMode::Combine(combine.op()), &place);
    if combine != Combine::Mean {
        return;
    }
    let counts = b.splat(int(i64::from(include_self)), DType::I64, &target.dims);
    b.own(counts.storage);
    scatter_into(b, &counts, dims, StoreMode::Combine(ReduceOp::Sum), |k, i| {
        let (at, _) = place(k, i);
        (at, k.int(1))
    });
    let compute = compute_type(target.dtype);
    let source = target.clone();
    b.write(target, |k, i| {
        let (sum, count) = (k.load(&source, i), k.load(&counts, i));
        let one = k.int(1);
        let count = k.max(count, one);
        let (sum, count) = (k.cast(compute, sum), k.cast(compute, count));
        let op = if compute.is_floating_point() { BinaryOp::Div } else { BinaryOp::FloorDiv };
        let mean = k.binary(op, sum, count);
        k.cast(source.dtype, mean)
    });
}

/// `value` as a tensor that broadcasts to `dims`; leading dimensions of extent 1 beyond them do not count.
fn spread(b: &mut Builder<'_>, value: &Tensor, dims: &[Dim]) -> Result<Tensor> {
    let mut value = value.clone();
    while value.rank() > dims.len() && value.dims[0] == Dim::Const(1) {
        value = views::select(b, &value, 0, int(0));
    }
    views::expand_to(b, &value, dims).map_err(|_| {
        b.user(format!(
            "shape mismatch: value tensor of shape {} cannot be broadcast to indexing result of shape {}",
            views::shape_text(&value.dims),
            views::shape_text(dims)
        ))
    })
}

fn index_put(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let list = index_list(b, args, 1)?;
    let values = args.tensor(2)?;
    let accumulate = args.flag(b, 3)?;
    let values = apart_from(b, &values, &x);
    let list: Vec<_> = list.iter().map(|t| t.as_ref().map(|t| apart_from(b, t, &x))).collect();
    if let ([Some(mask)], false) = (list.as_slice(), accumulate)
        && mask.dtype == DType::Bool
        && values.dims.iter().all(|d| *d == Dim::Const(1))
        && mask.rank() <= x.rank()
    {
        return masked_put(b, &x, mask, &values);
    }
    let indexing = Indexing::new(b, &x, &list)?;
    let dims = indexing.dims(&x);
    let values = spread(b, &values, &dims)?;
    let out = target(b, &x);
    let mode = match (accumulate, x.dtype) {
        (false, _) => StoreMode::Set,
        (true, DType::Bool) => StoreMode::Combine(ReduceOp::Or),
        (true, _) => StoreMode::Combine(ReduceOp::Sum),
    };
    scatter_into(b, &out, &dims, mode, |k, i| {
        let at = indexing.source(k, &out, i);
        (at, k.load(&values, i))
    });
    Ok(Value::Tensor(out))
}

/// `x[mask] = value`, one value: no positions are needed.
fn masked_put(b: &mut Builder<'_>, x: &Tensor, mask: &Tensor, value: &Tensor) -> Result<Value> {
    for (d, (own, extent)) in x.dims.iter().zip(&mask.dims).enumerate() {
        match (own.known(), extent.known()) {
            (Some(p), Some(q)) if p != q => {
                return Err(b.user(format!(
                    "The shape of the mask {} at index {d} does not match the shape of the indexed tensor {} at index {d}",
                    views::shape_text(&mask.dims),
                    views::shape_text(&x.dims)
                )));
            }
            _ => {
                let equal = b.binary(BinaryOp::Eq, (*own).into(), (*extent).into());
                let message = "The shape of the mask does not match the shape of the indexed tensor";
                b.check(equal, message);
            }
        }
    }
    let value = spread(b, value, &[])?;
    let out = target(b, x);
    let source = out.clone();
    b.write(&out, |k, i| {
        let flag = k.load(mask, &i[..mask.rank()]);
        let (own, new) = (k.load(&source, i), k.load(&value, &[]));
        let new = k.cast(source.dtype, new);
        k.select(flag, new, own)
    });
    Ok(Value::Tensor(out))
}

/// Writes to positions of all elements in one line.
fn put(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, index, source) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    let accumulate = args.flag(b, 3)?;
    require_long(b, &index)?;
    let (index, source) = (apart_from(b, &index, &x), apart_from(b, &source, &x));
    let (index, source) = (at_least_1d(b, &index), at_least_1d(b, &source));
    let (index, source) = (flat(b, &index), flat(b, &source));
    let same = b.binary(BinaryOp::Eq, index.dims[0].into(), source.dims[0].into());
    b.check(same, "put_(): Expected source and index to have the same number of elements");
    let total = b.product(&x.dims);
    let total = b.dim(total);
    check_positions(b, &index, total, 0, Bounds::Wrap);
    let out = target(b, &x);
    let mode = if accumulate { StoreMode::Combine(ReduceOp::Sum) } else { StoreMode::Set };
    scatter_into(b, &out, &index.dims, mode, |k, i| {
        let mut rest = position(k, &index, i, total, Bounds::Wrap);
        let mut at = vec![rest; out.rank()];
        for d in (0..out.rank()).rev() {
            let extent = k.dim(out.dims[d]);
            at[d] = k.binary(BinaryOp::FloorMod, rest, extent);
            rest = k.binary(BinaryOp::FloorDiv, rest, extent);
        }
        (at, k.load(&source, i))
    });
    Ok(Value::Tensor(out))
}

/// What the scatter family shares: `(self, dim, index, src, ..)`, checked; `src` may be a number.
struct Scatter {
    x: Tensor,
    dim: usize,
    index: Tensor,
    source: Tensor,
}

impl Scatter {
    fn from_args(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Self> {
        let (x, index) = (args.tensor(0)?, args.tensor(2)?);
        let dim = dim_arg(b, args, 1, x.rank())?;
        let index = apart_from(b, &index, &x);
        let index = at_least_1d(b, &index);
        let source = as_tensor(b, args.value(3)?)?;
        let is_number = !matches!(args.value(3)?, Value::Tensor(_));
        let source = if is_number {
            views::expand_to(b, &source, &index.dims)?
        } else {
            let source = apart_from(b, &source, &x);
            at_least_1d(b, &source)
        };
        Ok(Self { x, dim, index, source })
    }

    fn run(
        &self,
        b: &mut Builder<'_>,
        write: impl FnOnce(&mut Builder<'_>, &Tensor, &[Dim], &Placed<'_>),
    ) -> Result<Value> {
        let Self { x, dim, index, source } = self;
        if index.dims.contains(&Dim::Const(0)) {
            return Ok(Value::Tensor(target(b, x)));
        }
        require_long(b, index)?;
        let line = at_least_1d(b, x);
        check_fits(b, index, &line, Some(*dim), "self")?;
        check_fits(b, index, source, None, "src")?;
        check_positions(b, index, line.dims[*dim], *dim, Bounds::Strict);
        let out = target(b, x);
        let line = at_least_1d(b, &out);
        write(b, &line, &index.dims, &|k, i| {
            let mut at = i.to_vec();
            at[*dim] = position(k, index, i, line.dims[*dim], Bounds::Strict);
            (at, k.load(source, i))
        });
        Ok(Value::Tensor(out))
    }
}

/// `scatter`: values overwrite, or with `reduce` add or multiply.
fn scatter(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let scatter = Scatter::from_args(b, args)?;
    let mode = match args.position("reduce") {
        Some(at) => {
            let name = args.text(b, at)?;
            StoreMode::Combine(Combine::parse(b, &name)?.op())
        }
        None => StoreMode::Set,
    };
    scatter.run(b, |b, out, dims, place| scatter_into(b, out, dims, mode, place))
}

fn scatter_add(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let scatter = Scatter::from_args(b, args)?;
    let mode = StoreMode::Combine(if scatter.x.dtype == DType::Bool { ReduceOp::Or } else { ReduceOp::Sum });
    scatter.run(b, |b, out, dims, place| scatter_into(b, out, dims, mode, place))
}

fn scatter_reduce(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let scatter = Scatter::from_args(b, args)?;
    let name = args.text(b, 4)?;
    let combine = Combine::parse(b, &name)?;
    let include_self = args.flag(b, 5)?;
    scatter.run(b, |b, out, dims, place| combine_into(b, out, dims, combine, include_self, place))
}

/// What the `index_*` family shares: `(self, dim, index, source)`, whole slices at positions of a dimension.
struct Slices {
    x: Tensor,
    dim: usize,
    index: Tensor,
    source: Tensor,
}

impl Slices {
    fn from_args(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Self> {
        let (x, index, source) = (args.tensor(0)?, args.tensor(2)?, args.tensor(3)?);
        let dim = dim_arg(b, args, 1, x.rank())?;
        let index = apart_from(b, &index, &x);
        let index = index_vector(b, &index)?;
        let source = apart_from(b, &source, &x);
        let line = at_least_1d(b, &x);
        let mut dims = line.dims.clone();
        dims[dim] = index.dims[0];
        let source = if source.rank() == 0 { at_least_1d(b, &source) } else { source };
        if source.rank() != dims.len() {
            return Err(b.user(format!(
                "{}(): Source/destination tensor must have same slice shapes. Destination slice shape: {} at dimension {dim} \
                 and source slice shape: {}",
                b.op_name,
                views::shape_text(&x.dims),
                views::shape_text(&source.dims)
            )));
        }
        for (d, (have, want)) in source.dims.clone().iter().zip(&dims).enumerate() {
            let same = b.binary(BinaryOp::Eq, (*have).into(), (*want).into());
            let message = if d == dim {
                "Number of indices should be equal to source.size(dim)"
            } else {
                "Source/destination tensor must have same slice shapes"
            };
            b.check(same, message);
        }
        Ok(Self { x, dim, index, source })
    }

    fn run(
        &self,
        b: &mut Builder<'_>,
        write: impl FnOnce(&mut Builder<'_>, &Tensor, &[Dim], &Placed<'_>),
    ) -> Result<Value> {
        let Self { x, dim, index, source } = self;
        let line = at_least_1d(b, x);
        check_positions(b, index, line.dims[*dim], *dim, Bounds::InSelf);
        let out = target(b, x);
        let line = at_least_1d(b, &out);
        write(b, &line, &source.dims, &|k, i| {
            let mut at = i.to_vec();
            at[*dim] = position(k, index, &[i[*dim]], line.dims[*dim], Bounds::InSelf);
            (at, k.load(source, i))
        });
        Ok(Value::Tensor(out))
    }
}

fn index_add(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let slices = Slices::from_args(b, args)?;
    let alpha = args.number(b, 4)?;
    let mode = StoreMode::Combine(if slices.x.dtype == DType::Bool { ReduceOp::Or } else { ReduceOp::Sum });
    let compute = compute_type(slices.x.dtype);
    slices.run(b, |b, out, dims, place| {
        scatter_into(b, out, dims, mode, |k, i| {
            let (at, value) = place(k, i);
            if known_int(&alpha) == Some(1) {
                return (at, value);
            }
            let (value, alpha) = (k.cast(compute, value), k.number(&alpha, compute));
            let scaled = if compute == DType::Bool { k.and(value, alpha) } else { k.mul(value, alpha) };
            (at, scaled)
        });
    })
}

fn index_copy(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let slices = Slices::from_args(b, args)?;
    slices.run(b, |b, out, dims, place| scatter_into(b, out, dims, StoreMode::Set, place))
}

fn index_reduce(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let slices = Slices::from_args(b, args)?;
    let name = args.text(b, 4)?;
    let combine = Combine::parse(b, &name)?;
    let include_self = args.flag(b, 5)?;
    slices.run(b, |b, out, dims, place| combine_into(b, out, dims, combine, include_self, place))
}

/// One value at positions of a dimension.
fn index_fill(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, index) = (args.tensor(0)?, args.tensor(2)?);
    let dim = dim_arg(b, args, 1, x.rank())?;
    let index = apart_from(b, &index, &x);
    let index = index_vector(b, &index)?;
    let value = as_tensor(b, args.value(3)?)?;
    if value.rank() > 0 {
        return Err(b.user(format!(
            "index_fill_ only supports a 0-dimensional value tensor, but got tensor with {} dimension(s).",
            value.rank()
        )));
    }
    let value = apart_from(b, &value, &x);
    let line = at_least_1d(b, &x);
    check_positions(b, &index, line.dims[dim], dim, Bounds::Wrap);
    let out = target(b, &x);
    let line = at_least_1d(b, &out);
    let mut dims = line.dims.clone();
    dims[dim] = index.dims[0];
    scatter_into(b, &line, &dims, StoreMode::Set, |k, i| {
        let mut at = i.to_vec();
        at[dim] = position(k, &index, &[i[dim]], line.dims[dim], Bounds::Wrap);
        (at, k.load(&value, &[]))
    });
    Ok(Value::Tensor(out))
}

/// A copy of `x` with `source` written through a view of it.
fn written_through(
    b: &mut Builder<'_>,
    x: &Tensor,
    source: &Tensor,
    view: impl FnOnce(&mut Builder<'_>, &Tensor) -> Result<Tensor>,
) -> Result<Value> {
    let out = b.copy(x);
    let part = view(b, &out)?;
    let source = views::expand_to(b, source, &part.dims).map_err(|_| {
        b.user(format!(
            "expected src to have a size equal to the slice of self. src size = {}, slice size = {}",
            views::shape_text(&source.dims),
            views::shape_text(&part.dims)
        ))
    })?;
    b.write(&part, |k, i| {
        let value = k.load(&source, i);
        k.cast(x.dtype, value)
    });
    Ok(Value::Tensor(out))
}

fn select_scatter(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, source) = (args.tensor(0)?, args.tensor(1)?);
    let dim = dim_arg(b, args, 2, x.rank())?;
    let index = args.int(b, 3)?;
    let index = views::wrap_index(b, index, &x.dims, dim);
    written_through(b, &x, &source, |b, out| Ok(views::select(b, out, dim, index)))
}

fn slice_scatter(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, source) = (args.tensor(0)?, args.tensor(1)?);
    let dim = dim_arg(b, args, 2, x.rank())?;
    let (start, end) = (args.optional_int(b, 3)?, args.optional_int(b, 4)?);
    let step = args.known_int(b, 5)?;
    if step <= 0 {
        return Err(b.user("slice step must be positive"));
    }
    written_through(b, &x, &source, |b, out| Ok(slice_dim(b, out, dim, start.as_ref(), end.as_ref(), step)))
}

fn diagonal_scatter(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, source) = (args.tensor(0)?, args.tensor(1)?);
    let offset = args.known_int(b, 2)?;
    let (p, q) = (dim_arg(b, args, 3, x.rank())?, dim_arg(b, args, 4, x.rank())?);
    if p == q {
        return Err(b.user(format!("diagonal dimensions cannot be identical {p}, {q}")));
    }
    written_through(b, &x, &source, |b, out| Ok(diagonal_of(b, out, offset, p, q)))
}

/// Through a view by sizes and strides of a copy that lies row-major.
fn as_strided_scatter(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, source) = (args.tensor(0)?, args.tensor(1)?);
    let (sizes, strides) = (args.known_ints(b, 2)?, args.known_ints(b, 3)?);
    let offset = args.optional_int(b, 4)?.as_ref().map_or(Some(0), known_int);
    let (Some(own), Some(offset)) = (x.known_dims(), offset) else {
        return Err(b.unsupported("as_strided_scatter of extents known only when running"));
    };
    let total: i64 = own.iter().product();
    let reach =
        sizes.iter().zip(&strides).try_fold(offset, |sum, (n, stride)| (n - 1).checked_mul(*stride)?.checked_add(sum));
    let is_empty = sizes.contains(&0);
    if sizes.len() != strides.len() || strides.iter().chain(&sizes).any(|n| *n < 0) || offset < 0 {
        return Err(b.user("as_strided: mismatch in length of strides and shape, or negative values"));
    }
    if !is_empty && reach.is_none_or(|last| last >= total) {
        return Err(b.user(format!("as_strided: the view is out of bounds for storage of {total} elements")));
    }
    let dims: Vec<Dim> = sizes.iter().map(|n| Dim::Const(*n)).collect();
    written_through(b, &x, &source, |_, out| Ok(views::as_strided_on(out, total, Dim::Const(offset), dims, &strides)))
}
