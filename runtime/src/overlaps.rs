//! Arguments that show the same memory.

use crate::abi::{Leaf, Status, Tag};
use crate::arena::{Allocator, Memory};
use crate::desc::{FunctionDesc, InputKind};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::value::Value;
use std::ops::Range;
use std::sync::Arc;

/// The tensors of arguments that share memory with another of them: for each tensor, in the order in which arguments nest, its
/// strides if it does.
pub fn overlapping(args: &[Value]) -> Vec<Option<Vec<i64>>> {
    let mut tensors = Vec::new();
    for arg in args {
        collect(arg, &mut tensors);
    }
    let mut shared = vec![None; tensors.len()];
    for group in groups(&tensors).into_iter().filter(|group| group.len() > 1) {
        for at in group {
            shared[at] = Some(tensors[at].strides.clone());
        }
    }
    shared
}

fn collect<'a>(value: &'a Value, tensors: &mut Vec<&'a Tensor>) {
    match value {
        Value::Tensor(tensor) => tensors.push(tensor),
        Value::List(items) | Value::Tuple(items) => items.iter().for_each(|item| collect(item, tensors)),
        Value::NamedTuple { fields, .. } => fields.iter().for_each(|(_, item)| collect(item, tensors)),
        Value::Dict(entries) => {
            for (key, item) in entries {
                collect(key, tensors);
                collect(item, tensors);
            }
        }
        Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Complex(..) | Value::Str(_) => {}
    }
}

/// Numbers of tensors that are connected by shared memory.
fn groups(tensors: &[&Tensor]) -> Vec<Vec<usize>> {
    let mut order: Vec<(Range<usize>, usize)> =
        tensors.iter().enumerate().map(|(at, tensor)| (tensor.addresses(), at)).collect();
    order.sort_unstable_by_key(|(addresses, at)| (addresses.start, *at));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut end = 0;
    for (addresses, at) in order {
        match groups.last_mut() {
            Some(group) if addresses.start < end && !addresses.is_empty() => group.push(at),
            _ => groups.push(vec![at]),
        }
        end = end.max(addresses.end);
    }
    groups
}

/// Code that was not compiled for shared memory takes it that what it writes to is no other argument's. `memory` has the leaves
/// that are tensors, with their addresses.
pub(crate) fn refuse_overlaps(
    function: &FunctionDesc,
    memory: impl Iterator<Item = (usize, Range<usize>)> + Clone,
) -> Result<()> {
    let is_written = |leaf: usize| matches!(function.inputs[leaf].kind, InputKind::Tensor { is_mutated: true, .. });
    // Most functions write to no argument, and a call of a small one takes less than a look at all addresses.
    if !(0..function.inputs.len()).any(is_written) {
        return Ok(());
    }
    for (leaf, own) in memory.clone().filter(|(leaf, _)| is_written(*leaf)) {
        let meets = |other: &Range<usize>| own.start < other.end && other.start < own.end;
        if let Some((other, _)) = memory.clone().find(|(other, addresses)| *other != leaf && meets(addresses)) {
            let (name, other) = (&function.inputs[leaf].name, &function.inputs[other].name);
            let message = format!("arguments '{name}' and '{other}' share memory, and the method writes to '{name}'");
            return Err(Error::new(Status::Argument, message));
        }
    }
    Ok(())
}

/// The same for leaves, whose tensors are row-major.
pub(crate) fn refuse_leaf_overlaps(function: &FunctionDesc, leaves: &[Leaf]) -> Result<()> {
    let addresses = |(leaf, value)| Some((leaf, leaf_addresses(value)?));
    refuse_overlaps(function, leaves.iter().enumerate().filter_map(addresses))
}

/// The addresses of a row-major tensor in a leaf.
pub(crate) fn leaf_addresses(leaf: &Leaf) -> Option<Range<usize>> {
    if leaf.kind() != Tag::Tensor {
        return None;
    }
    let bytes = crate::tensor::size_bytes(leaf.element_type(), leaf.dims()).ok()?;
    Some(leaf.bits as usize..leaf.bits as usize + bytes)
}

/// The same tensors in copies of their memory that are as shared as it is, so that what the model keeps of them lives on.
pub(crate) fn copied_together(tensors: &[&Tensor]) -> Result<Vec<Tensor>> {
    let mut copies = vec![None; tensors.len()];
    for group in groups(tensors) {
        let addresses = group.iter().map(|at| tensors[*at].addresses());
        let start = addresses.clone().map(|addresses| addresses.start).min().unwrap_or(0);
        let end = addresses.map(|addresses| addresses.end).max().unwrap_or(start);
        let memory = Memory::allocate(end - start, Allocator::default())?;
        let memory = Arc::new(memory);
        for at in group {
            let copy = tensors[at].moved(start, &memory);
            copy.copy_from(tensors[at]);
            copies[at] = Some(copy);
        }
    }
    copies.into_iter().map(|copy| copy.ok_or_else(|| Error::new(Status::Internal, "a tensor in no group"))).collect()
}
