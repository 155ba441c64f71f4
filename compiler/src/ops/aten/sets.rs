//! Distinct elements, membership, counts of values and quantiles.

use super::arrange::cat;
use super::index::check_all;
use super::nonzero::{positions, running_sum};
use super::resize::{clamped, constant};
use super::sort::ascending;
use super::view::{dim_arg, flat};
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Const, Dim, ExprId, Operand, ReduceOp, StoreMode, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::{as_tensor, compute_type, result_type};
use crate::ops::value::{Affine, Tensor, Value, int};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::_unique2", lower: unique2 },
    OpDef { name: "aten::_unique", lower: unique },
    OpDef { name: "aten::unique_dim", lower: unique_dim },
    OpDef { name: "aten::unique_consecutive", lower: unique_consecutive },
    OpDef { name: "aten::unique_dim_consecutive", lower: unique_dim_consecutive },
    OpDef { name: "aten::isin", lower: isin },
    OpDef { name: "aten::histc", lower: histc },
    OpDef { name: "aten::bincount", lower: bincount },
    OpDef { name: "aten::combinations", lower: combinations },
    OpDef { name: "aten::cartesian_prod", lower: cartesian_prod },
    OpDef { name: "aten::quantile", lower: |b, a| quantile(b, a, false) },
    OpDef { name: "aten::nanquantile", lower: |b, a| quantile(b, a, true) },
];

fn float(value: f64) -> Operand {
    Operand::Const(Const::float(DType::F64, value))
}

// ---- distinct elements

/// Runs of equal neighbours, from flags at their starts.
struct Runs {
    /// Where each starts.
    first: Tensor,
    /// The number of the run of each position.
    number: Tensor,
    lengths: Tensor,
}

fn runs(b: &mut Builder<'_>, starts: &Tensor) -> Runs {
    let n = starts.dims[0];
    let found = positions(b, starts);
    let first = views::select(b, &found, 1, int(0));
    let count = first.dims[0];
    let lengths = b.map(DType::I64, &[count], |k, i| {
        let (one, end) = (k.int(1), k.dim(n));
        let next = k.add(i[0], one);
        let inside = k.in_bounds(next, count);
        let end = k.load_or(&first, &[next], inside, end);
        let start = k.load(&first, i);
        k.sub(end, start)
    });
    let begun = running_sum(b, starts);
    let number = b.map(DType::I64, &[n], |k, i| {
        let begun = k.load(&begun, i);
        let one = k.int(1);
        k.sub(begun, one)
    });
    Runs { first, number, lengths }
}

/// Whether each position along `dim` differs from the one before it.
fn starts_along(b: &mut Builder<'_>, x: &Tensor, dim: usize) -> Tensor {
    let rest: Vec<Dim> = x.dims.iter().enumerate().filter(|(d, _)| *d != dim).map(|(_, n)| *n).collect();
    b.reduce(
        ReduceOp::Or,
        DType::Bool,
        &[x.dims[dim]],
        &rest,
        |k, i, over| {
            let (zero, one) = (k.int(0), k.int(1));
            let mut at = over.to_vec();
            at.insert(dim, i[0]);
            let own = k.load(x, &at);
            let before = k.sub(i[0], one);
            at[dim] = k.max(before, zero);
            let before = k.load(x, &at);
            let compute = compute_type(x.dtype);
            let (own, before) = (k.cast(compute, own), k.cast(compute, before));
            k.binary(BinaryOp::Ne, own, before)
        },
        |k, i, differs| {
            let zero = k.int(0);
            let is_first = k.binary(BinaryOp::Eq, i[0], zero);
            k.binary(BinaryOp::Or, is_first, differs)
        },
    )
}

/// `values[order[i]] = at[i]`, a permutation.
fn permuted_back(b: &mut Builder<'_>, values: &Tensor, order: &Tensor) -> Tensor {
    let buffer = b.new_buffer(DType::I64, &values.dims);
    let out = b.tensor_of(buffer);
    let mut k = KernelBuilder::new(b);
    let i = k.parallel(&values.dims);
    let (at, value) = (k.load(order, &i), k.load(values, &i));
    k.store_through(&out, &[at], value, None, StoreMode::Set);
    k.finish_ordered();
    out
}

/// The distinct elements in order, with the inverse and the counts.
fn unique_parts(b: &mut Builder<'_>, x: &Tensor) -> Result<[Tensor; 3]> {
    let line = flat(b, x);
    let (values, order) = ascending(b, &line, 0)?;
    let starts = starts_along(b, &values, 0);
    let runs = runs(b, &starts);
    let distinct = chosen(b, &values, 0, &runs.first);
    let inverse = permuted_back(b, &runs.number, &order);
    let inverse = views::reshape(b, &inverse, &x.dims);
    Ok([distinct, inverse, runs.lengths])
}

/// Slices at positions that are known to be in range.
fn chosen(b: &mut Builder<'_>, x: &Tensor, dim: usize, at: &Tensor) -> Tensor {
    let mut dims = x.dims.clone();
    dims[dim] = at.dims[0];
    b.map(x.dtype, &dims, |k, i| {
        let mut source = i.to_vec();
        source[dim] = k.load(at, &[i[dim]]);
        k.load(x, &source)
    })
}

/// What was asked for, an empty tensor in place of the rest.
fn asked(b: &mut Builder<'_>, parts: [Tensor; 3], wants: [bool; 2]) -> Vec<Value> {
    let [values, inverse, counts] = parts;
    let mut out = vec![Value::Tensor(values)];
    for (part, wanted) in [(inverse, wants[0]), (counts, wants[1])] {
        let part = if wanted { part } else { b.splat(int(0), DType::I64, &[Dim::Const(0)]) };
        out.push(Value::Tensor(part));
    }
    out
}

fn unique2(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let wants = [args.flag(b, 2)?, args.flag(b, 3)?];
    let parts = unique_parts(b, &x)?;
    Ok(Value::Tuple(asked(b, parts, wants), None))
}

fn unique(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let wants = [args.flag(b, 2)?, false];
    let parts = unique_parts(b, &x)?;
    let mut values = asked(b, parts, wants);
    values.truncate(2);
    Ok(Value::Tuple(values, None))
}

/// The distinct slices along a dimension, in lexicographic order.
fn unique_dim(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    let wants = [args.flag(b, 3)?, args.flag(b, 4)?];
    if x.rank() == 0 || x.dtype.is_complex() {
        return Err(b.unsupported("unique_dim of numbers without dimensions or complex ones"));
    }
    // The same order of dimensions with `dim` first: slices compare in row-major order.
    let mut order: Vec<usize> = (0..x.rank()).filter(|d| *d != dim).collect();
    order.insert(0, dim);
    let rows = views::permute(b, &x, &order);
    let input = b.row_major(&rows);
    let n = [x.dims[dim]];
    let (order, starts) = (b.new_buffer(DType::I64, &n), b.new_buffer(DType::Bool, &n));
    b.call("sort_rows", vec![Arg::Buffer(input), Arg::Buffer(order), Arg::Buffer(starts)], &[]);
    let (order, starts) = (b.tensor_of(order), b.tensor_of(starts));
    let runs = runs(b, &starts);
    let sources = chosen(b, &order, 0, &runs.first);
    let values = chosen(b, &x, dim, &sources);
    let inverse = permuted_back(b, &runs.number, &order);
    Ok(Value::Tuple(asked(b, [values, inverse, runs.lengths], wants), None))
}

fn unique_consecutive(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let wants = [args.flag(b, 1)?, args.flag(b, 2)?];
    if !matches!(args.value(3)?, Value::None) && x.rank() > 0 {
        let dim = dim_arg(b, args, 3, x.rank())?;
        return Ok(consecutive(b, &x, dim, wants));
    }
    let line = flat(b, &x);
    let starts = starts_along(b, &line, 0);
    let runs = runs(b, &starts);
    let values = chosen(b, &line, 0, &runs.first);
    let inverse = views::reshape(b, &runs.number, &x.dims);
    Ok(Value::Tuple(asked(b, [values, inverse, runs.lengths], wants), None))
}

fn unique_dim_consecutive(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    let wants = [args.flag(b, 2)?, args.flag(b, 3)?];
    Ok(consecutive(b, &x, dim, wants))
}

fn consecutive(b: &mut Builder<'_>, x: &Tensor, dim: usize, wants: [bool; 2]) -> Value {
    let starts = starts_along(b, x, dim);
    let runs = runs(b, &starts);
    let values = chosen(b, x, dim, &runs.first);
    Value::Tuple(asked(b, [values, runs.number, runs.lengths], wants), None)
}

// ---- membership and counts

/// Whether each element is among the test elements.
fn isin(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, tests) = (as_tensor(b, args.value(0)?)?, as_tensor(b, args.value(1)?)?);
    let inverts = args.flag(b, 3)?;
    let common = compute_type(result_type(&[&x, &tests]));
    Ok(Value::Tensor(b.reduce(
        ReduceOp::Or,
        DType::Bool,
        &x.dims,
        &tests.dims,
        |k, i, over| {
            let (v, t) = (k.load(&x, i), k.load(&tests, over));
            let (v, t) = (k.cast(common, v), k.cast(common, t));
            k.binary(BinaryOp::Eq, v, t)
        },
        |k, _, found| if inverts { k.unary(UnaryOp::Not, found) } else { found },
    )))
}

/// How many elements fall into each of equal bins between two bounds, those of the data if the bounds are equal.
fn histc(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, bins) = (args.tensor(0)?, args.int(b, 1)?);
    let (low, high) = (args.float(b, 2)?, args.float(b, 3)?);
    let line = flat(b, &x);
    let compute = compute_type(x.dtype);
    let positive = b.binary(BinaryOp::Gt, bins.clone(), int(0));
    b.check(positive, "torch.histc(): bins must be > 0");
    let extreme = |b: &mut Builder<'_>, op| {
        let value = |k: &mut KernelBuilder<'_, '_>, _: &[ExprId], i: &[ExprId]| {
            let v = k.load(&line, i);
            k.cast(compute, v)
        };
        let t = b.reduce(op, compute, &[], &line.dims, value, |_, _, v| v);
        let item = b.item(&t);
        b.cast(DType::F64, item)
    };
    let is_open = b.binary(BinaryOp::Eq, low.clone(), high.clone());
    let (low, high) = if crate::ops::value::known(&is_open).is_some_and(|c| c.bits == 0) {
        (low, high)
    } else {
        let (least, greatest) = (extreme(b, ReduceOp::Min), extreme(b, ReduceOp::Max));
        (b.select(is_open.clone(), least, low), b.select(is_open, greatest, high))
    };
    let is_point = b.binary(BinaryOp::Eq, low.clone(), high.clone());
    let (wider_low, wider_high) =
        (b.binary(BinaryOp::Sub, low.clone(), float(1.0)), b.binary(BinaryOp::Add, high.clone(), float(1.0)));
    let (low, high) = (b.select(is_point.clone(), wider_low, low), b.select(is_point, wider_high, high));
    let is_valid = b.binary(BinaryOp::Lt, low.clone(), high.clone());
    b.check(is_valid, "torch.histc: max must be larger than min");
    let dims = [b.dim(bins)];
    let counts = b.splat(int(0), DType::I64, &dims);
    b.own(counts.storage);
    let mut k = KernelBuilder::new(b);
    let i = k.parallel(&line.dims);
    let v = k.load(&line, &i);
    let v = k.cast(compute, v);
    let (low, high) = (k.number(&low, compute), k.number(&high, compute));
    let above = k.binary(BinaryOp::Ge, v, low);
    let below = k.binary(BinaryOp::Le, v, high);
    let inside = k.and(above, below);
    let n = k.dim(dims[0]);
    let n = k.cast(compute, n);
    // The place of an element is rounded to its type at every step, which decides borderline ones.
    let round = |k: &mut KernelBuilder<'_, '_>, v| {
        let v = k.cast(x.dtype, v);
        k.cast(compute, v)
    };
    let distance = k.sub(v, low);
    let distance = round(&mut k, distance);
    let scaled = k.mul(distance, n);
    let scaled = round(&mut k, scaled);
    let width = k.sub(high, low);
    let width = round(&mut k, width);
    let bin = k.div(scaled, width);
    let bin = round(&mut k, bin);
    let bin = k.cast(DType::I64, bin);
    let bin = clamped(&mut k, bin, dims[0]);
    let one = k.int(1);
    k.store_through(&counts, &[bin], one, Some(inside), StoreMode::Combine(ReduceOp::Sum));
    k.finish_ordered();
    Ok(Value::Tensor(b.map(x.dtype, &dims, |k, i| k.load(&counts, i))))
}

/// How often each number from 0 on occurs, or the sum of the weights that go with it.
fn bincount(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, weights, least) = (args.tensor(0)?, args.optional_tensor(1)?, args.int(b, 2)?);
    if x.rank() != 1 || x.dtype.is_floating_point() {
        return Err(b.user("bincount only supports 1-d non-negative integral inputs."));
    }
    check_all(b, &x, "bincount only supports 1-d non-negative integral inputs.", |k, i| {
        let zero = k.int(0);
        k.binary(BinaryOp::Ge, i, zero)
    });
    let greatest = b.reduce(
        ReduceOp::Max,
        DType::I64,
        &[],
        &x.dims,
        |k, _, i| {
            let v = k.load(&x, i);
            k.cast(DType::I64, v)
        },
        |k, _, v| {
            let minus_one = k.int(-1);
            k.max(v, minus_one)
        },
    );
    let greatest = b.item(&greatest);
    let extent = b.binary(BinaryOp::Add, greatest, int(1));
    let extent = b.binary(BinaryOp::Max, extent, least);
    let dims = [b.dim(extent)];
    let dtype = match &weights {
        None => DType::I64,
        Some(w) if w.dtype == DType::F32 => DType::F32,
        Some(_) => DType::F64,
    };
    if let Some(w) = &weights {
        let same = b.binary(BinaryOp::Eq, w.dims.first().copied().unwrap_or(Dim::Const(1)).into(), x.dims[0].into());
        b.check(same, "weights should be 1-d and have the same length as input");
        if w.rank() != 1 {
            return Err(b.user("weights should be 1-d and have the same length as input"));
        }
    }
    let counts = b.splat(int(0), dtype, &dims);
    b.own(counts.storage);
    let mut k = KernelBuilder::new(b);
    let i = k.parallel(&x.dims);
    let at = k.load(&x, &i);
    let at = k.cast(DType::I64, at);
    let value = match &weights {
        Some(w) => {
            let value = k.load(w, &i);
            k.cast(dtype, value)
        }
        None => k.int(1),
    };
    k.store_through(&counts, &[at], value, None, StoreMode::Combine(ReduceOp::Sum));
    k.finish_ordered();
    Ok(Value::Tensor(counts))
}

// ---- choices

/// All choices of `r` elements of a vector, in lexicographic order of positions.
fn combinations(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let (r, repeats) = (args.known_int(b, 1)?, args.flag(b, 2)?);
    let (1, Some(n)) = (x.rank(), x.dims.first().and_then(|d| d.known())) else {
        return Err(b.unsupported("combinations of a tensor that is no vector of known length"));
    };
    if r <= 0 {
        return Ok(Value::Tensor(b.splat(int(0), x.dtype, &[Dim::Const(0)])));
    }
    let width = usize::try_from(r).expect("positive");
    let mut rows: Vec<Vec<i64>> = vec![Vec::new()];
    for _ in 0..width {
        let mut longer = Vec::new();
        for row in &rows {
            let first = row.last().map_or(0, |last| last + i64::from(!repeats));
            longer.extend((first..n).map(|next| [&row[..], &[next]].concat()));
        }
        if longer.len() > 1 << 24 {
            return Err(b.unsupported("that many combinations"));
        }
        rows = longer;
    }
    let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let bytes = rows.iter().flatten().flat_map(|i| i.to_ne_bytes()).collect();
    let table = constant(b, DType::I64, &[count, r], bytes, "combinations")?;
    Ok(Value::Tensor(b.map(x.dtype, &[Dim::Const(count), Dim::Const(r)], |k, i| {
        let at = k.load_buffer(table, i);
        k.load(&x, &[at])
    })))
}

/// One element of each vector, in all ways; the last one changes fastest.
fn cartesian_prod(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let vectors = args.tensors(b, 0)?;
    if vectors.iter().any(|t| t.rank() > 1) || vectors.is_empty() {
        return Err(b.user("Expect a 1D vector"));
    }
    let vectors: Vec<_> = vectors.iter().map(|t| super::index::at_least_1d(b, t)).collect();
    if let [one] = vectors.as_slice() {
        return Ok(Value::Tensor(one.clone()));
    }
    let dims: Vec<Dim> = vectors.iter().map(|t| t.dims[0]).collect();
    let total = b.product(&dims);
    let column = [b.dim(total), Dim::Const(1)];
    let mut columns = Vec::with_capacity(vectors.len());
    for (axis, vector) in vectors.iter().enumerate() {
        let grid = views::remap(b, vector, &[Affine::axis(axis)], dims.clone());
        let grid = b.copy(&grid);
        columns.push(views::reshape(b, &grid, &column));
    }
    Ok(Value::Tensor(cat(b, &columns, 1)?))
}

// ---- quantiles

/// Elements of the sorted rows at fractions of their length, interpolated.
fn quantile(b: &mut Builder<'_>, args: &Args<'_>, ignores_nan: bool) -> Result<Value> {
    let mut x = args.tensor(0)?;
    let q = as_tensor(b, args.value(1)?)?;
    let rank = x.rank();
    let keeps = args.flag(b, 3)?;
    let interpolation = args.text(b, 4)?;
    if !matches!(x.dtype, DType::F32 | DType::F64) {
        return Err(b.user("quantile() input tensor must be either float or double dtype"));
    }
    if q.rank() > 1 {
        return Err(b.user("quantile() q must be a scalar or 1D tensor"));
    }
    if !matches!(&*interpolation, "linear" | "lower" | "higher" | "midpoint" | "nearest") {
        return Err(b.user(format!(
            "quantile() interpolation must be one of linear, lower, higher, midpoint or nearest, but got {interpolation}"
        )));
    }
    let dim = if matches!(args.value(2)?, Value::None) {
        x = flat(b, &x);
        None
    } else {
        Some(dim_arg(b, args, 2, rank)?)
    };
    let x = super::index::at_least_1d(b, &x);
    let along = dim.unwrap_or(0);
    let n = x.dims[along];
    let some = b.binary(BinaryOp::Gt, n.into(), int(0));
    b.check(some, "quantile() input tensor must be non-empty");
    let dtype = x.dtype;
    let valid = b.reduce(
        ReduceOp::And,
        DType::Bool,
        &[],
        &q.dims,
        |k, _, i| {
            let v = k.load(&q, i);
            let (zero, one) = (k.zero(q.dtype), k.one(q.dtype));
            let low = k.binary(BinaryOp::Ge, v, zero);
            let high = k.binary(BinaryOp::Le, v, one);
            k.and(low, high)
        },
        |_, _, v| v,
    );
    let valid = b.item(&valid);
    b.check(valid, "quantile() q values must be in the range [0, 1]");
    let (sorted, _) = ascending(b, &x, along)?;
    // How many numbers each row has; those that are not numbers are at its end.
    let rest: Vec<Dim> = x.dims.iter().enumerate().filter(|(d, _)| *d != along).map(|(_, n)| *n).collect();
    let counts = b.reduce(
        ReduceOp::Sum,
        DType::I64,
        &rest,
        &[n],
        |k, i, over| {
            let mut at = i.to_vec();
            at.insert(along, over[0]);
            let v = k.load(&x, &at);
            let is_nan = k.unary(UnaryOp::IsNan, v);
            let is_number = k.unary(UnaryOp::Not, is_nan);
            k.cast(DType::I64, is_number)
        },
        |_, _, v| v,
    );
    let lead = q.rank();
    let dims = [&q.dims[..], &rest[..]].concat();
    let found = b.map(dtype, &dims, |k, i| {
        let (own, row) = i.split_at(lead);
        let fraction = k.load(&q, own);
        let fraction = k.cast(dtype, fraction);
        let count = k.load(&counts, row);
        let (zero, one) = (k.int(0), k.int(1));
        let last = k.sub(count, one);
        let last = k.max(last, zero);
        let last_float = k.cast(dtype, last);
        let mut place = k.mul(fraction, last_float);
        match &*interpolation {
            "lower" => place = k.unary(UnaryOp::Floor, place),
            "higher" => place = k.unary(UnaryOp::Ceil, place),
            "nearest" => place = k.unary(UnaryOp::Round, place),
            _ => {}
        }
        let floor = k.unary(UnaryOp::Floor, place);
        let ceil = k.unary(UnaryOp::Ceil, place);
        let element = |k: &mut KernelBuilder<'_, '_>, place: ExprId| {
            let index = k.cast(DType::I64, place);
            let mut at = row.to_vec();
            at.insert(along, clamped(k, index, n));
            k.load(&sorted, &at)
        };
        let (low, high) = (element(k, floor), element(k, ceil));
        let weight = match &*interpolation {
            "midpoint" => k.float(dtype, 0.5),
            _ => k.sub(place, floor),
        };
        let value = lerp(k, low, high, weight);
        let extent = k.dim(n);
        let missing =
            if ignores_nan { k.binary(BinaryOp::Eq, count, zero) } else { k.binary(BinaryOp::Lt, count, extent) };
        let nan = k.float(dtype, f64::NAN);
        k.select(missing, nan, value)
    });
    if !keeps {
        return Ok(Value::Tensor(found));
    }
    let kept = match dim {
        Some(dim) if rank > 0 => views::unsqueeze(b, &found, lead + dim),
        _ => {
            let mut kept = found;
            for _ in 0..rank {
                kept = views::unsqueeze(b, &kept, lead);
            }
            kept
        }
    };
    Ok(Value::Tensor(kept))
}

/// Between two numbers, from the nearer one.
fn lerp(k: &mut KernelBuilder<'_, '_>, low: ExprId, high: ExprId, weight: ExprId) -> ExprId {
    let dtype = k.dtype(low);
    let (half, one) = (k.float(dtype, 0.5), k.one(dtype));
    let difference = k.sub(high, low);
    let step = k.mul(weight, difference);
    let from_low = k.add(low, step);
    let left = k.sub(one, weight);
    let step = k.mul(difference, left);
    let from_high = k.sub(high, step);
    let is_near = k.binary(BinaryOp::Lt, weight, half);
    // Equal neighbours, infinite ones too, are the result themselves.
    let between = k.select(is_near, from_low, from_high);
    let is_same = k.binary(BinaryOp::Eq, low, high);
    k.select(is_same, low, between)
}
