//! Operators that give a tensor another shape in place: `unsqueeze_`, `resize_`, `set_`, and those that write to a given result
//! (`out=`) that does not have the shape of what is computed.
//!
//! Values of lowering have no identity: a name stands for a tensor as it is. So `lower::reshaping` gives the tensor a new name
//! wherever such an operator has run, and only if it knows all its names; the lowerings here make what the new name stands for.

use super::args::Args;
use super::builder::Builder;
use super::schema;
use super::value::{Contents, Reshape, StorageId, Tensor, Value, int};
use crate::diag::Result;
use crate::ir::{Node, OpName};
use crate::loops::{BinaryOp, Const, Dim, Operand};

/// What the names of the tensor that an operator gives another shape are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Names {
    /// Not all are known: it keeps its shape.
    #[default]
    Unknown,
    /// From here on it has the name of the operator's result; others may show its memory.
    New,
    /// The same, and nothing else shows its memory.
    NewAlone,
}

/// Operators that always may give their first argument another shape, with the operator whose result has that shape.
const IN_PLACE: &[(&str, Option<(&str, &str)>)] = &[
    ("aten::unsqueeze_", Some(("aten::unsqueeze", ""))),
    ("aten::squeeze_", Some(("aten::squeeze", ""))),
    ("aten::t_", Some(("aten::t", ""))),
    ("aten::transpose_", Some(("aten::transpose", "int"))),
    ("aten::swapaxes_", Some(("aten::swapaxes", ""))),
    ("aten::swapdims_", Some(("aten::swapdims", ""))),
    ("aten::as_strided_", Some(("aten::as_strided", ""))),
    ("aten::resize_", None),
    ("aten::resize_as_", None),
    ("aten::set_", None),
];

/// The arguments of a node to which it may give another shape, each with the result that it is then.
pub fn reshaped(node: &Node) -> Vec<(usize, usize)> {
    if IN_PLACE.iter().any(|(name, _)| *name == &*node.op.name) {
        return vec![(0, 0)];
    }
    let Some(schema) = schema::schema(&node.op).filter(|s| s.args.len() == node.inputs.len()) else {
        return Vec::new();
    };
    let written = schema.args.iter().enumerate().filter(|(_, arg)| arg.kw_only && super::is_written(arg));
    let outs: Vec<(usize, usize)> = written.enumerate().map(|(result, (at, _))| (at, result)).collect();
    if outs.len() == node.outputs.len() { outs } else { Vec::new() }
}

/// Whether an operator is one of those that this file lowers.
pub fn is_defined(op: &OpName) -> bool {
    IN_PLACE.iter().any(|(name, _)| *name == &*op.name)
}

/// Lowers an in-place operator that may change its argument's shape; `None` for all others.
pub fn lower(b: &mut Builder<'_>, op: &OpName, args: &Args<'_>) -> Result<Option<Value>> {
    let Some((_, view)) = IN_PLACE.iter().find(|(name, _)| *name == &*op.name) else { return Ok(None) };
    let target = args.tensor(0)?;
    let result = match (view, &*op.name) {
        (Some((name, overload)), _) => {
            let overload = if overload.is_empty() { &op.overload } else { *overload };
            match super::lower(b, &OpName::with_overload(name, overload), args.values)? {
                Value::Tensor(result) => result,
                other => return Ok(Some(other)),
            }
        }
        (None, "aten::set_") => set(b, op, args, &target)?,
        (None, "aten::resize_as_") => {
            let dims = args.tensor(1)?.dims;
            resized(b, &target, &dims)?
        }
        (None, _) => {
            let sizes = args.int_list(b, 1)?;
            let dims: Vec<Dim> = sizes.into_iter().map(|size| b.dim(size)).collect();
            resized(b, &target, &dims)?
        }
    };
    let is_same = (&result.dims, &result.view, result.storage) == (&target.dims, &target.view, target.storage);
    if !is_same && b.names == Names::Unknown {
        return Err(unknown_names(b, op.name.trim_start_matches("aten::")));
    }
    Ok(Some(Value::Tensor(result)))
}

/// The refusal of a new shape for a tensor that may have names which are not known.
fn unknown_names(b: &Builder<'_>, what: &str) -> Box<crate::diag::Diagnostic> {
    let message = format!("{what} changes the shape of a tensor that may have other names");
    let note = "it is an argument, an attribute or an item, or was put into a list, an object or a call before";
    b.unsupported(message).note(note)
}

/// The memory of another tensor, or none.
fn set(b: &mut Builder<'_>, op: &OpName, args: &Args<'_>, target: &Tensor) -> Result<Tensor> {
    match &*op.overload {
        "" => Ok(b.splat(int(0), target.dtype, &[Dim::Const(0)])),
        "source_Tensor" => {
            let source = args.tensor(1)?;
            if source.dtype != target.dtype {
                return Err(b.unsupported("set_ of a tensor of another element type"));
            }
            Ok(Tensor { is_wrapped_number: false, ..source })
        }
        _ => Err(b.unsupported(format!("operator {op}"))),
    }
}

/// The tensor with these extents: its memory from its first element on, which grows if it is too small.
fn resized(b: &mut Builder<'_>, x: &Tensor, dims: &[Dim]) -> Result<Tensor> {
    if is_shape(b, x, dims)? {
        return Ok(x.clone());
    }
    let storage = &b.heap.storages[x.storage];
    if let Contents::Splat(value) = &storage.contents {
        // Elements that come new may have any value.
        let value = value.clone();
        if b.names == Names::New {
            return Err(shared_memory(b));
        }
        return Ok(b.splat(value, x.dtype, dims));
    }
    let whole = storage.dims.clone();
    let (total, wanted) = (b.product(&whole), b.product(dims));
    let offset = if b.strides_behind(x.storage).is_some() { None } else { b.flat_view(x).map(|(_, offset)| offset) };
    let Some(offset) = offset else {
        return Err(
            b.unsupported(format!("{} of a tensor whose place in memory is known only when running", b.op_name))
        );
    };
    let end = b.binary(BinaryOp::Add, offset.into(), wanted);
    let fits = b.binary(BinaryOp::Le, end.clone(), total.clone());
    if b.decide(&fits)? {
        return Ok(contiguous_at(x, x.storage, offset, dims));
    }
    if b.names == Names::New {
        return Err(shared_memory(b));
    }
    let total = b.dim(total);
    let flat = contiguous_at(x, x.storage, Dim::Const(0), &[total]);
    let end = b.dim(end);
    let grown = b.map(x.dtype, &[end], |k, i| {
        let (inside, nothing) = (k.in_bounds(i[0], total), k.zero(x.dtype));
        k.load_or(&flat, i, inside, nothing)
    });
    Ok(contiguous_at(x, grown.storage, offset, dims))
}

/// The elements of a storage from an offset on, row-major.
fn contiguous_at(like: &Tensor, storage: StorageId, offset: Dim, dims: &[Dim]) -> Tensor {
    let mut tensor = Tensor::whole(storage, like.dtype, dims);
    tensor.view.reshaped = Some(Reshape { offset, dims: dims.to_vec() });
    tensor
}

fn shared_memory(b: &Builder<'_>) -> Box<crate::diag::Diagnostic> {
    b.unsupported(format!("{} of a tensor whose memory others may show", b.op_name))
}

/// Whether a tensor has these extents. Where only the running program knows, the operator is lowered once for each answer.
fn is_shape(b: &mut Builder<'_>, x: &Tensor, dims: &[Dim]) -> Result<bool> {
    let differs = |(own, other): (&Dim, &Dim)| matches!((own.known(), other.known()), (Some(m), Some(n)) if m != n);
    if x.rank() != dims.len() || x.dims.iter().zip(dims).any(differs) {
        return Ok(false);
    }
    let mut same = Operand::Const(Const::bool(true));
    for (own, other) in x.dims.iter().zip(dims) {
        let is = b.binary(BinaryOp::Eq, (*own).into(), (*other).into());
        same = b.binary(BinaryOp::And, same, is);
    }
    b.decide(&same)
}

/// Writes a result to the tensor that was given for it, which gets its shape.
pub fn write_out(b: &mut Builder<'_>, target: &Tensor, result: &Tensor) -> Result<Tensor> {
    let dims = result.dims.clone();
    if b.names == Names::Unknown {
        // A shape that is not known is taken to be right, and checked.
        if let (Some(own), Some(made)) = (target.known_dims(), result.known_dims())
            && own != made
        {
            return Err(unknown_names(b, &format!("out= of {}", b.op_name)));
        }
    } else if !is_shape(b, target, &dims)? {
        if b.names == Names::New {
            return Err(shared_memory(b));
        }
        let value = super::as_written(b, target, result)?;
        let dtype = target.dtype;
        return Ok(b.map(dtype, &dims, |k, i| {
            let element = k.load(&value, i);
            k.cast(dtype, element)
        }));
    }
    super::write_result(b, target, result)?;
    Ok(target.clone())
}
