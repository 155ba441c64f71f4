//! Views: the same memory under other indices. None of these moves an element, except `reshape` where it must.

use super::builder::Builder;
use super::message::Message;
use super::value::{Affine, Reshape, Tensor, View, int, known, known_int};
use crate::diag::Result;
use crate::loops::{BinaryOp, Const, Dim, Operand, UnaryOp};

/// `[2, N]`, for messages.
pub fn shape_text(dims: &[Dim]) -> String {
    let text = dims.iter().map(|d| d.known().map_or_else(|| "*".to_owned(), |n| n.to_string()));
    format!("[{}]", text.collect::<Vec<_>>().join(", "))
}

impl View {
    /// The view with each axis replaced by a function of new axes.
    fn compose(&self, b: &mut Builder<'_>, axes: &[Affine]) -> Self {
        let mut index = Vec::with_capacity(self.index.len());
        for affine in &self.index {
            let mut sum = Affine { offset: affine.offset.clone(), terms: Vec::new() };
            for &(axis, coefficient) in &affine.terms {
                let part = &axes[axis];
                let scaled = b.binary(BinaryOp::Mul, part.offset.clone(), int(coefficient));
                sum.offset = b.binary(BinaryOp::Add, sum.offset, scaled);
                for &(new_axis, c) in &part.terms {
                    match sum.terms.iter_mut().find(|(a, _)| *a == new_axis) {
                        Some((_, old)) => *old += coefficient * c,
                        None => sum.terms.push((new_axis, coefficient * c)),
                    }
                }
            }
            sum.terms.retain(|(_, c)| *c != 0);
            sum.terms.sort_unstable();
            index.push(sum);
        }
        Self { reshaped: self.reshaped.clone(), index }
    }
}

/// The tensor seen under `dims`, where index `i` of the old axes is `axes[i]` of the new ones.
pub fn remap(b: &mut Builder<'_>, tensor: &Tensor, axes: &[Affine], dims: Vec<Dim>) -> Tensor {
    let view = tensor.view.compose(b, axes);
    Tensor { storage: tensor.storage, dtype: tensor.dtype, dims, view, is_wrapped_number: false }
}

fn constant(offset: Operand) -> Affine {
    Affine { offset, terms: Vec::new() }
}

/// The dimensions in another order: new dimension `i` is old dimension `order[i]`.
pub fn permute(b: &mut Builder<'_>, tensor: &Tensor, order: &[usize]) -> Tensor {
    let mut axes = vec![Affine::axis(0); tensor.rank()];
    for (new, &old) in order.iter().enumerate() {
        axes[old] = Affine::axis(new);
    }
    let dims = order.iter().map(|&old| tensor.dims[old]).collect();
    remap(b, tensor, &axes, dims)
}

/// Two dimensions exchanged.
pub fn transpose(b: &mut Builder<'_>, tensor: &Tensor, x: usize, y: usize) -> Tensor {
    let mut order: Vec<_> = (0..tensor.rank()).collect();
    if !order.is_empty() {
        order.swap(x, y);
    }
    permute(b, tensor, &order)
}

/// A new dimension of extent 1 before `at`.
pub fn unsqueeze(b: &mut Builder<'_>, tensor: &Tensor, at: usize) -> Tensor {
    let axes: Vec<_> = (0..tensor.rank()).map(|i| Affine::axis(i + usize::from(i >= at))).collect();
    let mut dims = tensor.dims.clone();
    dims.insert(at, Dim::Const(1));
    remap(b, tensor, &axes, dims)
}

/// Without the dimensions for which `drop` holds; their index is 0.
pub fn squeeze(b: &mut Builder<'_>, tensor: &Tensor, drop: impl Fn(usize) -> bool) -> Tensor {
    let mut dims = Vec::new();
    let axes: Vec<_> = (0..tensor.rank())
        .map(|i| {
            if drop(i) {
                return constant(int(0));
            }
            dims.push(tensor.dims[i]);
            Affine::axis(dims.len() - 1)
        })
        .collect();
    remap(b, tensor, &axes, dims)
}

/// One index of a dimension, already wrapped and checked; the dimension goes away.
pub fn select(b: &mut Builder<'_>, tensor: &Tensor, dim: usize, index: Operand) -> Tensor {
    let axes: Vec<_> = (0..tensor.rank())
        .map(|i| if i == dim { constant(index.clone()) } else { Affine::axis(i - usize::from(i > dim)) })
        .collect();
    let mut dims = tensor.dims.clone();
    dims.remove(dim);
    remap(b, tensor, &axes, dims)
}

/// `extent` indices of a dimension from `start` on, `step` apart, already clamped.
pub fn slice(b: &mut Builder<'_>, tensor: &Tensor, dim: usize, start: Operand, extent: Dim, step: i64) -> Tensor {
    let mut axes: Vec<_> = (0..tensor.rank()).map(Affine::axis).collect();
    axes[dim] = Affine { offset: start, terms: vec![(dim, step)] };
    let mut dims = tensor.dims.clone();
    dims[dim] = extent;
    remap(b, tensor, &axes, dims)
}

/// A dimension's index for `select`, wrapped (negative counts from the end) and checked against its extent.
pub fn wrap_index(b: &mut Builder<'_>, index: Operand, dims: &[Dim], dim: usize) -> Operand {
    let n: Operand = dims[dim].into();
    let is_negative = b.binary(BinaryOp::Lt, index.clone(), int(0));
    let from_end = b.binary(BinaryOp::Add, index.clone(), n.clone());
    let wrapped = b.select(is_negative, from_end, index.clone());
    let low = b.binary(BinaryOp::Ge, wrapped.clone(), int(0));
    let high = b.binary(BinaryOp::Lt, wrapped.clone(), n);
    let inside = b.binary(BinaryOp::And, low, high);
    let is_outside = known(&inside).is_some_and(|c| c.bits == 0);
    let message = "select(): index {} out of range for tensor of size {} at dimension {}";
    b.check(inside, Message::new(message, &[index.into(), dims.into(), dim.into()]));
    // The program ends before an element at another place is read.
    if is_outside { int(0) } else { wrapped }
}

/// The tensor with dimensions of extent 1 repeated, and new leading ones added, to have `dims`. A dimension known only when
/// running is taken to be the wanted one, and checked.
pub fn expand_to(b: &mut Builder<'_>, tensor: &Tensor, dims: &[Dim]) -> Result<Tensor> {
    expand_or(b, tensor, dims, |i, have, want| {
        let message = "The expanded size of the tensor ({}) must match the existing size ({}) at non-singleton dimension \
                       {}.  Target sizes: {}.  Tensor sizes: {}";
        Message::new(message, &[want.into(), have.into(), i.into(), dims.into(), (&tensor.dims).into()])
    })
}

/// [`expand_to`] of what is written into a tensor of these dimensions.
pub fn broadcast_into(b: &mut Builder<'_>, tensor: &Tensor, dims: &[Dim]) -> Result<Tensor> {
    expand_or(b, tensor, dims, |i, have, want| differing([want, have], i))
}

/// What an operator says whose arguments have these extents in a dimension of the result.
fn differing([x, y]: [Dim; 2], dim: usize) -> Message {
    let message = "The size of tensor a ({}) must match the size of tensor b ({}) at non-singleton dimension {}";
    Message::new(message, &[x.into(), y.into(), dim.into()])
}

fn expand_or(
    b: &mut Builder<'_>,
    tensor: &Tensor,
    dims: &[Dim],
    message: impl Fn(usize, Dim, Dim) -> Message,
) -> Result<Tensor> {
    if tensor.dims == dims {
        return Ok(tensor.clone());
    }
    let Some(lead) = dims.len().checked_sub(tensor.rank()) else {
        return Err(b.user(format!(
            "The expanded size of the tensor {} must match the existing size {}",
            shape_text(dims),
            shape_text(&tensor.dims)
        )));
    };
    let mut axes = Vec::with_capacity(tensor.rank());
    // The last dimension that does not fit is named, as PyTorch looks at it first.
    for (i, &have) in tensor.dims.iter().enumerate().rev() {
        let want = dims[i + lead];
        axes.push(if have == Dim::Const(1) && want != have {
            constant(int(0))
        } else {
            b.require_equal(have, want, message(i + lead, have, want))?;
            Affine::axis(i + lead)
        });
    }
    axes.reverse();
    let mut out = remap(b, tensor, &axes, dims.to_vec());
    out.is_wrapped_number = tensor.is_wrapped_number;
    Ok(out)
}

/// The shape that tensors of these shapes broadcast to.
pub fn broadcast(b: &mut Builder<'_>, shapes: &[&[Dim]]) -> Result<Vec<Dim>> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![Dim::Const(1); rank];
    for shape in shapes {
        for (i, &dim) in shape.iter().enumerate().rev() {
            let at = i + rank - shape.len();
            let have = out[at];
            if dim == Dim::Const(1) {
                continue;
            }
            if have != Dim::Const(1) {
                // One that is known only when running is taken to be the other, if that is known.
                b.require_equal(have, dim, differing([have, dim], at))?;
            }
            if have.known().is_none() || have == Dim::Const(1) {
                out[at] = if dim.known().is_some() || have == Dim::Const(1) { dim } else { have };
            }
        }
    }
    Ok(out)
}

/// The dims a reshape asks for, with one `-1` computed and the element count checked.
pub fn infer_dims(b: &mut Builder<'_>, tensor: &Tensor, wanted: &[Operand]) -> Result<Vec<Dim>> {
    let total = b.product(&tensor.dims);
    let invalid = "invalid shape dimension {} at index {} of shape {}";
    // Which extents are to be computed, as conditions; a hole is one that always is.
    let mut is_left_open = Vec::with_capacity(wanted.len());
    let mut before = Operand::Const(Const::bool(false));
    for (i, extent) in wanted.iter().enumerate() {
        if b.is_extent(extent) {
            is_left_open.push(Operand::Const(Const::bool(false)));
            continue;
        }
        let is_open = b.binary(BinaryOp::Eq, extent.clone(), int(-1));
        let both = b.binary(BinaryOp::And, before.clone(), is_open.clone());
        let only = b.unary(UnaryOp::Not, both);
        b.require(only, "only one dimension can be inferred")?;
        let is_valid = b.binary(BinaryOp::Ge, extent.clone(), int(-1));
        b.require(is_valid, Message::new(invalid, &[extent.into(), i.into(), wanted.into()]))?;
        before = b.binary(BinaryOp::Or, before, is_open.clone());
        is_left_open.push(is_open);
    }
    let hole = is_left_open.iter().position(|open| known(open).is_some_and(|c| c.bits != 0));
    let given: Vec<Operand> = (wanted.iter().zip(&is_left_open))
        .map(|(extent, is_open)| b.select(is_open.clone(), int(1), extent.clone()))
        .collect();
    let mut rest = int(1);
    for extent in &given {
        rest = b.binary(BinaryOp::Mul, rest, extent.clone());
    }
    let some_rest = b.binary(BinaryOp::Ne, rest.clone(), int(0));
    let some_total = b.binary(BinaryOp::Ne, total.clone(), int(0));
    let is_determined = b.binary(BinaryOp::Or, some_rest, some_total);
    let is_closed = b.unary(UnaryOp::Not, before);
    let is_determined = b.binary(BinaryOp::Or, is_determined, is_closed);
    let ambiguous = "cannot reshape tensor of 0 elements into shape {} because the unspecified dimension size -1 can be any \
                     value and is ambiguous";
    b.require(is_determined, Message::new(ambiguous, &[wanted.into()]))?;
    let mut out = Vec::with_capacity(wanted.len());
    for (i, is_open) in is_left_open.iter().enumerate() {
        let extent = if Some(i) == hole {
            divide_product(b, &tensor.dims, &given, hole, &total, &rest)
        } else if known(is_open).is_some() {
            given[i].clone()
        } else {
            let left = quotient(b, &total, &rest);
            b.select(is_open.clone(), left, given[i].clone())
        };
        out.push(b.dim(extent));
    }
    let count = b.product(&out);
    let equal = b.binary(BinaryOp::Eq, count, total.clone());
    b.require(equal, Message::new("shape '{}' is invalid for input of size {}", &[wanted.into(), total.into()]))?;
    Ok(out)
}

/// A product of extents by another, which may be 0: then any number will do, as no shape has these.
fn quotient(b: &mut Builder<'_>, total: &Operand, rest: &Operand) -> Operand {
    let rest = b.binary(BinaryOp::Max, rest.clone(), int(1));
    b.binary(BinaryOp::FloorDiv, total.clone(), rest)
}

/// The extent for a `-1`: what is left of the old extents once those that stand in the new shape are struck out, so that
/// `x.view(x.size(0), -1)` of `[N, 3, 4]` gives the constant 12.
fn divide_product(
    b: &mut Builder<'_>,
    have: &[Dim],
    wanted: &[Operand],
    hole: Option<usize>,
    total: &Operand,
    rest: &Operand,
) -> Operand {
    let mut left: Vec<Dim> = have.to_vec();
    let mut struck = int(1);
    for (i, extent) in wanted.iter().enumerate() {
        if Some(i) == hole {
            continue;
        }
        match left.iter().position(|d| Operand::from(*d) == *extent && d.known().is_none()) {
            Some(at) => _ = left.remove(at),
            None => struck = b.binary(BinaryOp::Mul, struck, extent.clone()),
        }
    }
    let left = b.product(&left);
    match (known_int(&left), known_int(&struck)) {
        (Some(l), Some(s)) if s != 0 && l % s == 0 => int(l / s),
        (None, Some(1)) => left,
        _ => quotient(b, total, rest),
    }
}

/// The tensor under other dims (already inferred), in row-major order of its elements; a view where the memory allows.
pub fn reshape(b: &mut Builder<'_>, tensor: &Tensor, dims: &[Dim]) -> Tensor {
    if let Some(view) = view(b, tensor, dims) {
        return view;
    }
    let copy = b.copy(tensor);
    view(b, &copy, dims).expect("a row-major copy can be seen under any dims")
}

/// The tensor under other dims without moving elements, where the memory allows.
pub fn view(b: &mut Builder<'_>, tensor: &Tensor, dims: &[Dim]) -> Option<Tensor> {
    if tensor.dims == dims {
        return Some(Tensor { is_wrapped_number: false, ..tensor.clone() });
    }
    if b.splat_of(tensor).is_some() && b.heap.storages[tensor.storage].argument.is_none() {
        // A splat looks the same under any dims; as memory it is as large as its storage, so this must be all of it.
        if b.is_prefix(tensor) {
            return Some(whole_reshaped(tensor, Dim::Const(0), dims));
        }
        let value = b.splat_of(tensor).expect("checked");
        return Some(b.splat(value, tensor.dtype, dims));
    }
    if let Some(split) = split_or_drop_ones(b, tensor, dims) {
        return Some(split);
    }
    if b.is_prefix(tensor) {
        let offset = tensor.view.reshaped.as_ref().map_or(Dim::Const(0), |r| r.offset);
        return Some(whole_reshaped(tensor, offset, dims));
    }
    strided_view(b, tensor, dims)
}

/// All of a storage, row-major from an offset on, under other dims.
fn whole_reshaped(tensor: &Tensor, offset: Dim, dims: &[Dim]) -> Tensor {
    let view = View {
        reshaped: Some(Reshape { offset, dims: dims.to_vec() }),
        index: (0..dims.len()).map(Affine::axis).collect(),
    };
    Tensor { storage: tensor.storage, dtype: tensor.dtype, dims: dims.to_vec(), view, is_wrapped_number: false }
}

/// Each old dimension cut into consecutive new ones, and extents of 1 added or dropped: no element changes its index within
/// the storage, so the view keeps the storage's own dims.
fn split_or_drop_ones(b: &mut Builder<'_>, tensor: &Tensor, dims: &[Dim]) -> Option<Tensor> {
    if b.is_prefix(tensor) {
        // A whole tensor is better seen as reshaped memory: its kernels then index the new dims directly.
        return None;
    }
    let mut axes = Vec::with_capacity(tensor.rank());
    let mut next = 0;
    for &old in &tensor.dims {
        if old == Dim::Const(1) {
            axes.push(constant(int(0)));
            continue;
        }
        while next < dims.len() && dims[next] == Dim::Const(1) {
            next += 1;
        }
        let first = next;
        if dims.get(next) == Some(&old) {
            axes.push(Affine::axis(next));
            next += 1;
            continue;
        }
        let total = old.known()?;
        let mut size = 1;
        while size < total {
            size *= dims.get(next)?.known().filter(|n| *n > 0)?;
            next += 1;
        }
        if size != total {
            return None;
        }
        let mut terms = Vec::new();
        let mut stride = 1;
        for axis in (first..next).rev() {
            let extent = dims[axis].known()?;
            if extent != 1 {
                terms.push((axis, stride));
            }
            stride *= extent;
        }
        terms.sort_unstable();
        axes.push(Affine { offset: int(0), terms });
    }
    if dims[next..].iter().any(|d| *d != Dim::Const(1)) {
        return None;
    }
    Some(remap(b, tensor, &axes, dims.to_vec()))
}

/// The rule of `Tensor.view` on strides: neighbouring dimensions may join where the outer one's stride is the inner one's
/// extent times its stride.
fn strided_view(b: &mut Builder<'_>, tensor: &Tensor, dims: &[Dim]) -> Option<Tensor> {
    let old: Vec<i64> = tensor.known_dims()?;
    let new: Vec<i64> = dims.iter().map(|d| d.known()).collect::<Option<_>>()?;
    if b.strides_behind(tensor.storage).is_some() {
        // Only a buffer that lies row-major has others beside it.
        return None;
    }
    let storage_dims = b.heap.storages[tensor.storage].dims.clone();
    let total: i64 = storage_dims.iter().map(|d| d.known()).product::<Option<i64>>()?;
    let (strides, offset) = b.flat_view(tensor)?;
    let mut new_strides = vec![0i64; new.len()];
    let mut at = new.len();
    let mut dim = old.len();
    while dim > 0 {
        // One run of old dimensions that lie like one long dimension.
        let mut extent = old[dim - 1];
        let inner = strides[dim - 1];
        let mut first = dim - 1;
        while first > 0 && (old[first - 1] == 1 || strides[first - 1] == extent * inner) {
            first -= 1;
            extent *= old[first];
        }
        let mut filled = 1;
        while at > 0 && (filled < extent || new[at - 1] == 1) {
            at -= 1;
            new_strides[at] = filled * inner;
            filled *= new[at];
        }
        if filled != extent {
            return None;
        }
        dim = first;
    }
    if at != 0 {
        return None;
    }
    Some(as_strided_on(tensor, total, offset, dims.to_vec(), &new_strides))
}

/// A view of a storage's `total` elements in row-major order by offset and strides.
pub fn as_strided_on(tensor: &Tensor, total: i64, offset: Dim, dims: Vec<Dim>, strides: &[i64]) -> Tensor {
    let mut terms: Vec<_> =
        strides.iter().copied().enumerate().filter(|(i, s)| *s != 0 && dims[*i] != Dim::Const(1)).collect();
    terms.sort_unstable();
    let view = View {
        reshaped: Some(Reshape { offset: Dim::Const(0), dims: vec![Dim::Const(total)] }),
        index: vec![Affine { offset: offset.into(), terms }],
    };
    Tensor { storage: tensor.storage, dtype: tensor.dtype, dims, view, is_wrapped_number: false }
}
