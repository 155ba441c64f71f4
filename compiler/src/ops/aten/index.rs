//! Reading elements at positions that tensors hold: indexing with tensors and masks, `index_select`, `gather`, `take`.
//!
//! Every position is checked before it is used: a kernel finds the least and the greatest one, and the program ends with
//! PyTorch's exception where they are out of range. Positions that are constants of the model are checked when compiling.

use super::nonzero::positions;
use super::view::{dim_arg, flat};
use crate::diag::Result;
use crate::loops::{BinaryOp, BufferClass, Dim, ExprId, Operand, ReduceOp, Stmt, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::primitives::KernelBuilder;
use crate::ops::value::{Contents, Tensor, Value, int, known_int};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::index.Tensor", lower: index },
    OpDef { name: "aten::index.Tensor_hacked_twin", lower: index },
    OpDef { name: "aten::_unsafe_index.Tensor", lower: index },
    OpDef { name: "aten::_unsafe_index.Tensor_hacked_twin", lower: index },
    OpDef { name: "aten::index_select", lower: index_select },
    OpDef { name: "aten::gather", lower: gather_op },
    OpDef { name: "aten::take", lower: take },
    OpDef { name: "aten::take_along_dim", lower: take_along_dim },
];

/// What a negative position means, and what is raised for one out of range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bounds {
    /// Counts from the end.
    Wrap,
    /// Is out of range: `gather`, `scatter`.
    Strict,
    /// The same, and the message is "index out of range in self": `index_select`, `index_add`.
    InSelf,
}

/// Ends the program unless every position in `index` is within the extent of a dimension.
pub fn check_positions(b: &mut Builder<'_>, index: &Tensor, extent: Dim, dim: usize, bounds: Bounds) {
    let n: Operand = extent.into();
    if let (Some(known), Some(n)) = (known_positions(b, index), extent.known()) {
        let low = if bounds == Bounds::Wrap { -n } else { 0 };
        if known.iter().all(|i| (low..n).contains(i)) {
            return;
        }
    }
    let (least, greatest) = if index.dims.iter().all(|d| *d == Dim::Const(1)) {
        let item = b.item(index);
        (item.clone(), item)
    } else {
        range(b, index)
    };
    let low = if bounds == Bounds::Wrap { b.binary(BinaryOp::Sub, int(0), n.clone()) } else { int(0) };
    let not_low = b.binary(BinaryOp::Ge, least.clone(), low);
    let not_high = b.binary(BinaryOp::Lt, greatest.clone(), n.clone());
    let inside = b.binary(BinaryOp::And, not_low.clone(), not_high);
    if bounds == Bounds::InSelf {
        b.check(inside, "index out of range in self");
        return;
    }
    let wrong = b.select(not_low, greatest, least);
    let message = "index {} is out of bounds for dimension {} with size {}";
    b.check(inside, Message::new(message, &[wrong.into(), dim.into(), n.into()]));
}

/// Ends the program unless `holds` is true of every element of an integer tensor.
pub fn check_all(
    b: &mut Builder<'_>,
    index: &Tensor,
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
    b.check(all, message);
}

/// The least and the greatest element of an index tensor, as host numbers.
fn range(b: &mut Builder<'_>, index: &Tensor) -> (Operand, Operand) {
    let (low, high) = (b.new_buffer(DType::I64, &[]), b.new_buffer(DType::I64, &[]));
    let mut k = KernelBuilder::new(b);
    let at = k.reduced(&index.dims);
    let position = k.load(index, &at);
    let position = k.cast(DType::I64, position);
    let (least, greatest) = (k.reduce(ReduceOp::Min, position), k.reduce(ReduceOp::Max, position));
    k.store(low, &[], least);
    k.store(high, &[], greatest);
    k.finish();
    let mut read = |buffer| {
        let var = b.new_var(VarType::Int, "");
        b.push(Stmt::Read(var, buffer));
        Operand::Var(var)
    };
    (read(low), read(high))
}

/// Positions that are constants of the model; of a view, those of the whole constant.
fn known_positions(b: &Builder<'_>, index: &Tensor) -> Option<Vec<i64>> {
    match &b.heap.storages[index.storage].contents {
        Contents::Splat(value) => Some(vec![known_int(value)?]),
        Contents::Buffer(buffer) => {
            let BufferClass::Weight(weight) = b.function.buffers[*buffer].class else { return None };
            let data = &b.program.weights[weight].data;
            let bytes = data.contiguous_bytes();
            match data.dtype() {
                DType::I64 => {
                    Some(bytes.chunks_exact(8).map(|c| i64::from_ne_bytes(c.try_into().expect("8"))).collect())
                }
                DType::I32 => {
                    let number = |c: &[u8]| i64::from(i32::from_ne_bytes(c.try_into().expect("4")));
                    Some(bytes.chunks_exact(4).map(number).collect())
                }
                _ => None,
            }
        }
    }
}

/// The position an index tensor holds, as an index that is not negative. It has been checked.
pub fn position(k: &mut KernelBuilder<'_, '_>, index: &Tensor, at: &[ExprId], extent: Dim, bounds: Bounds) -> ExprId {
    let position = k.load(index, at);
    let position = k.cast(DType::I64, position);
    if bounds != Bounds::Wrap || index.dtype == DType::U8 {
        return position;
    }
    let (zero, n) = (k.int(0), k.dim(extent));
    let is_negative = k.binary(BinaryOp::Lt, position, zero);
    let from_end = k.add(position, n);
    k.select(is_negative, from_end, position)
}

/// Indexing with tensors: which dimensions are indexed, by what, and where the indices' own dimensions go.
#[derive(Debug)]
pub struct Indexing {
    /// For each dimension of the indexed tensor, the positions, all of shape `shape`.
    indices: Vec<Option<Tensor>>,
    /// The shape the index tensors broadcast to.
    shape: Vec<Dim>,
    /// How many dimensions that are not indexed come before.
    lead: usize,
}

impl Indexing {
    /// From the list of an `index` call; masks become the positions of their true elements.
    pub fn new(b: &mut Builder<'_>, x: &Tensor, list: &[Option<Tensor>]) -> Result<Self> {
        let mut indices: Vec<Option<Tensor>> = Vec::with_capacity(x.rank());
        for (number, item) in list.iter().enumerate() {
            let Some(item) = item else {
                indices.push(None);
                continue;
            };
            match item.dtype {
                DType::Bool | DType::U8 => {
                    let first = indices.len();
                    for (d, &extent) in item.dims.iter().enumerate() {
                        let own = x.dims.get(first + d).copied();
                        let fits = match (own, extent) {
                            (None, _) => false,
                            (Some(Dim::Const(p)), Dim::Const(q)) => p == q,
                            (Some(own), _) => {
                                let equal = b.binary(BinaryOp::Eq, own.into(), extent.into());
                                b.check(equal, "The shape of the mask does not match the shape of the indexed tensor");
                                true
                            }
                        };
                        if !fits {
                            return Err(b.user(format!(
                                "The shape of the mask {} at index {d} does not match the shape of the indexed tensor {} at \
                                 index {}",
                                views::shape_text(&item.dims),
                                views::shape_text(&x.dims),
                                first + d
                            )));
                        }
                    }
                    let found = positions(b, item);
                    for d in 0..item.rank() {
                        indices.push(Some(views::select(b, &found, 1, int(i64::try_from(d).unwrap_or(0)))));
                    }
                }
                DType::I64 | DType::I32 | DType::I16 | DType::I8 => indices.push(Some(item.clone())),
                _ => {
                    let _ = number;
                    return Err(b.user("tensors used as indices must be long, int, byte or bool tensors"));
                }
            }
        }
        if indices.len() > x.rank() {
            return Err(b.user(format!(
                "too many indices for tensor of dimension {} (got {})",
                x.rank(),
                indices.len()
            )));
        }
        indices.resize(x.rank(), None);
        let shapes: Vec<&[Dim]> = indices.iter().flatten().map(|t| t.dims.as_slice()).collect();
        let shape = views::broadcast(b, &shapes).map_err(|_| {
            let shapes: Vec<_> = shapes.iter().map(|s| views::shape_text(s)).collect();
            b.user(format!(
                "shape mismatch: indexing tensors could not be broadcast together with shapes {}",
                shapes.join(", ")
            ))
        })?;
        for (dim, index) in indices.iter_mut().enumerate() {
            if let Some(index) = index {
                check_positions(b, index, x.dims[dim], dim, Bounds::Wrap);
                *index = views::expand_to(b, index, &shape)?;
            }
        }
        let first = indices.iter().position(Option::is_some).unwrap_or(0);
        let last = indices.iter().rposition(Option::is_some).unwrap_or(0);
        let is_adjacent = indices[first..].iter().take(last + 1 - first).all(Option::is_some);
        Ok(Self { indices, shape, lead: if is_adjacent { first } else { 0 } })
    }

    /// The shape of what is indexed out of `x`.
    pub fn dims(&self, x: &Tensor) -> Vec<Dim> {
        let rest = x.dims.iter().zip(&self.indices).filter(|(_, index)| index.is_none()).map(|(d, _)| *d);
        let mut dims: Vec<_> = rest.collect();
        dims.splice(self.lead..self.lead, self.shape.iter().copied());
        dims
    }

    /// The index into `x` of an index into the result.
    pub fn source(&self, k: &mut KernelBuilder<'_, '_>, x: &Tensor, i: &[ExprId]) -> Vec<ExprId> {
        let (own, after) = i[self.lead..].split_at(self.shape.len());
        let mut rest = i[..self.lead].iter().chain(after);
        let mut at = Vec::with_capacity(x.rank());
        for (dim, index) in self.indices.iter().enumerate() {
            at.push(match index {
                Some(index) => position(k, index, own, x.dims[dim], Bounds::Wrap),
                None => *rest.next().expect("one index for each dimension that is not indexed"),
            });
        }
        at
    }
}

/// The list of tensors or `None` at this position.
pub fn index_list(b: &mut Builder<'_>, args: &Args<'_>, at: usize) -> Result<Vec<Option<Tensor>>> {
    let items = b.items(args.value(at)?)?;
    let tensor = |item: &Value| match item {
        Value::Tensor(t) => Ok(Some(t.clone())),
        Value::None => Ok(None),
        other => Err(b.user(format!("tensors used as indices must be tensors, not {}", other.kind()))),
    };
    items.iter().map(tensor).collect()
}

fn index(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let list = index_list(b, args, 1)?;
    let indexing = Indexing::new(b, &x, &list)?;
    let dims = indexing.dims(&x);
    Ok(Value::Tensor(b.map(x.dtype, &dims, |k, i| {
        let at = indexing.source(k, &x, i);
        k.load(&x, &at)
    })))
}

/// An index vector: one dimension, of an integer type.
pub fn index_vector(b: &mut Builder<'_>, index: &Tensor) -> Result<Tensor> {
    if !matches!(index.dtype, DType::I64 | DType::I32) {
        return Err(b.user(format!("{}(): Expected dtype int32/int64 for index", b.op_name)));
    }
    match index.rank() {
        0 => Ok(views::unsqueeze(b, index, 0)),
        1 => Ok(index.clone()),
        _ => Err(b.user(format!("{}(): Index is supposed to be a vector", b.op_name))),
    }
}

fn index_select(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    let index = args.tensor(2)?;
    let index = index_vector(b, &index)?;
    if x.rank() == 0 {
        check_positions(b, &index, Dim::Const(1), 0, Bounds::InSelf);
        return Ok(Value::Tensor(b.copy(&x)));
    }
    Ok(Value::Tensor(selected(b, &x, dim, &index)))
}

/// The elements at these positions of a dimension.
pub fn selected(b: &mut Builder<'_>, x: &Tensor, dim: usize, index: &Tensor) -> Tensor {
    check_positions(b, index, x.dims[dim], dim, Bounds::InSelf);
    let mut dims = x.dims.clone();
    dims[dim] = index.dims[0];
    b.map(x.dtype, &dims, |k, i| {
        let mut at = i.to_vec();
        at[dim] = position(k, index, &[i[dim]], x.dims[dim], Bounds::InSelf);
        k.load(x, &at)
    })
}

/// The tensor with one dimension if it has none.
pub fn at_least_1d(b: &mut Builder<'_>, x: &Tensor) -> Tensor {
    if x.rank() == 0 { views::unsqueeze(b, x, 0) } else { x.clone() }
}

/// An index that goes with `x` element by element along `dim`: same rank, and elsewhere no larger.
pub fn check_fits(b: &mut Builder<'_>, index: &Tensor, x: &Tensor, dim: Option<usize>, what: &str) -> Result<()> {
    if index.rank() != x.rank() {
        return Err(b.user(format!("Index tensor must have the same number of dimensions as {what} tensor")));
    }
    for d in (0..x.rank()).filter(|d| Some(*d) != dim) {
        match (index.dims[d].known(), x.dims[d].known()) {
            (Some(p), Some(q)) if p > q => {
                return Err(b.user(format!(
                    "Size does not match at dimension {d} expected index {} to be no larger than {what} {} apart from \
                     dimension {}",
                    views::shape_text(&index.dims),
                    views::shape_text(&x.dims),
                    dim.unwrap_or(0)
                )));
            }
            (Some(_), Some(_)) => {}
            _ => {
                let fits = b.binary(BinaryOp::Le, index.dims[d].into(), x.dims[d].into());
                b.check(fits, format!("Size does not match at dimension {d}: the index is larger than {what}"));
            }
        }
    }
    Ok(())
}

/// The index tensor of `gather` and `scatter`.
pub fn require_long(b: &Builder<'_>, index: &Tensor) -> Result<()> {
    if matches!(index.dtype, DType::I64 | DType::I32) {
        return Ok(());
    }
    Err(b.user(format!("{}(): Expected dtype int32/int64 for index", b.op_name)))
}

fn gather_op(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, index) = (args.tensor(0)?, args.tensor(2)?);
    let dim = dim_arg(b, args, 1, x.rank())?;
    Ok(Value::Tensor(gather(b, &x, dim, &index, Bounds::Strict)?))
}

/// `x[.., index[..], ..]` along a dimension, in the shape of the index.
fn gather(b: &mut Builder<'_>, x: &Tensor, dim: usize, index: &Tensor, bounds: Bounds) -> Result<Tensor> {
    let dims = index.dims.clone();
    let (x, index) = (at_least_1d(b, x), at_least_1d(b, index));
    if index.dims.contains(&Dim::Const(0)) {
        return Ok(b.splat(int(0), x.dtype, &dims));
    }
    require_long(b, &index)?;
    check_fits(b, &index, &x, Some(dim), "self")?;
    check_positions(b, &index, x.dims[dim], dim, bounds);
    let gathered = b.map(x.dtype, &index.dims, |k, i| {
        let mut at = i.to_vec();
        at[dim] = position(k, &index, i, x.dims[dim], bounds);
        k.load(&x, &at)
    });
    Ok(views::reshape(b, &gathered, &dims))
}

fn take(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, index) = (args.tensor(0)?, args.tensor(1)?);
    require_long(b, &index)?;
    let x = at_least_1d(b, &x);
    let x = flat(b, &x);
    check_positions(b, &index, x.dims[0], 0, Bounds::Wrap);
    Ok(Value::Tensor(b.map(x.dtype, &index.dims, |k, i| {
        let at = position(k, &index, i, x.dims[0], Bounds::Wrap);
        k.load(&x, &[at])
    })))
}

/// [`gather`] of tensors that broadcast apart from the dimension; all elements without one.
fn take_along_dim(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, index) = (args.tensor(0)?, args.tensor(1)?);
    if matches!(args.value(2)?, Value::None) {
        let (x, index) = (flat(b, &x), flat(b, &index));
        return Ok(Value::Tensor(gather(b, &x, 0, &index, Bounds::Wrap)?));
    }
    let dim = dim_arg(b, args, 2, x.rank())?;
    if x.rank() != index.rank() {
        return Err(b.user(format!(
            "torch.take_along_dim(): input and indices should have the same number of dimensions, but got {} dimensions for \
             input, and {} dimensions for indices",
            x.rank(),
            index.rank()
        )));
    }
    let (mut own, mut positions) = (x.dims.clone(), index.dims.clone());
    if !own.is_empty() {
        (own[dim], positions[dim]) = (Dim::Const(1), Dim::Const(1));
    }
    let mut dims = views::broadcast(b, &[&own, &positions])?;
    let with = |dims: &mut Vec<Dim>, t: &Tensor| {
        if let Some(d) = t.dims.get(dim) {
            dims[dim] = *d;
        }
        dims.clone()
    };
    let wanted = with(&mut dims, &x);
    let x = views::expand_to(b, &x, &wanted)?;
    let wanted = with(&mut dims, &index);
    let index = views::expand_to(b, &index, &wanted)?;
    Ok(Value::Tensor(gather(b, &x, dim, &index, Bounds::Wrap)?))
}
