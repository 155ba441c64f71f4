//! Lists of tensors as one tensor, and tensors in as many pieces as only the running program knows.
#![allow(unsafe_code, reason = "moves rows of elements between tensors")]

use super::containers::wrong;
use super::{Call, raise};
use crate::abi::{Status, Tag};
use crate::arena::Allocator;
use crate::error::{Error, Result};
use crate::object::{Body, Item};
use crate::tensor::{Dtype, Tensor};

/// The tensors of a list operand, row-major.
fn tensors(call: &Call<'_>, i: usize) -> Result<Vec<Tensor>> {
    let wrong = || Error::new(Status::Internal, "a routine expected a list of tensors");
    let list = call.object(i)?;
    let Body::List(items) = list.body() else { return Err(wrong()) };
    let tensor = |item: Item| match item {
        Item::Object(ref object) => match object.body() {
            Body::Tensor(tensor) => tensor.contiguous(),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    };
    items.iter().map(tensor).collect()
}

/// The dimension operand; the compiler has checked it against the rank.
fn dimension(call: &Call<'_>, i: usize, rank: usize) -> Result<usize> {
    let dim = usize::try_from(call.int(i)?).ok().filter(|dim| *dim < rank);
    dim.ok_or_else(|| Error::new(Status::Internal, "a routine got a dimension out of range"))
}

fn product(sizes: &[i64]) -> usize {
    sizes.iter().map(|n| *n as usize).product()
}

/// Copies rows of bytes between a whole, whose rows are `whole_row` bytes long, and a part that takes `part_row` of them from
/// byte `at` of each row on.
///
/// # Safety
/// Both memories hold `n_rows` rows of their length, and do not overlap.
unsafe fn copy_rows(
    whole: *mut u8,
    whole_row: usize,
    part: *mut u8,
    part_row: usize,
    at: usize,
    n_rows: usize,
    gather: bool,
) {
    for row in 0..n_rows {
        // SAFETY: by the caller's promise.
        let (w, p) = unsafe { (whole.add(row * whole_row + at), part.add(row * part_row)) };
        let (to, from) = if gather { (w, p) } else { (p, w) };
        // SAFETY: by the caller's promise.
        unsafe { to.copy_from_nonoverlapping(from, part_row) };
    }
}

fn text(sizes: &[i64]) -> String {
    let sizes: Vec<_> = sizes.iter().map(ToString::to_string).collect();
    format!("[{}]", sizes.join(", "))
}

/// The parts side by side: each gives `n` rows of its share of bytes.
fn gather(parts: &[Tensor], sizes: &[i64], n_rows: usize, allocator: Allocator) -> Result<Tensor> {
    let whole = Tensor::uninit_in(parts[0].dtype, sizes, allocator)?;
    if n_rows == 0 {
        return Ok(whole);
    }
    let whole_row = whole.size_bytes() / n_rows;
    let mut at = 0;
    for part in parts {
        let part_row = part.size_bytes() / n_rows;
        // SAFETY: parts are row-major, agree in the leading extents, and their rows add up to those of the whole.
        unsafe { copy_rows(whole.data(), whole_row, part.data(), part_row, at, n_rows, true) };
        at += part_row;
    }
    Ok(whole)
}

/// `list_cat(list, dim)`: the tensors one after another along a dimension. Tensors of shape `[0]` fit beside any others.
pub(super) fn list_cat(call: &mut Call<'_>) -> Result<()> {
    let all = tensors(call, 0)?;
    let Some(some) = all.first().cloned() else {
        return raise("RuntimeError", "torch.cat(): expected a non-empty list of Tensors");
    };
    let parts: Vec<_> = all.into_iter().filter(|t| t.sizes != [0]).collect();
    let Some(first) = parts.first() else { return call.ret_body(Body::Tensor(some)) };
    let dim = dimension(call, 1, first.sizes.len())?;
    let mut sizes = first.sizes.clone();
    sizes[dim] = 0;
    for (at, part) in parts.iter().enumerate() {
        if part.sizes.len() != sizes.len() {
            let (n, m) = (sizes.len(), part.sizes.len());
            return raise("RuntimeError", format!("Tensors must have same number of dimensions: got {n} and {m}"));
        }
        for i in (0..sizes.len()).filter(|i| *i != dim) {
            let (want, found) = (sizes[i], part.sizes[i]);
            if want != found {
                return raise(
                    "RuntimeError",
                    format!(
                        "Sizes of tensors must match except in dimension {dim}. Expected size {want} but got size {found} \
                         for tensor number {at} in the list."
                    ),
                );
            }
        }
        sizes[dim] += part.sizes[dim];
    }
    let whole = gather(&parts, &sizes, product(&sizes[..dim]), call.runtime.env.allocator)?;
    call.ret_body(Body::Tensor(whole))
}

/// `list_stack(list, dim)`: the tensors along a new dimension.
pub(super) fn list_stack(call: &mut Call<'_>) -> Result<()> {
    let parts = tensors(call, 0)?;
    let Some(first) = parts.first() else {
        return raise("RuntimeError", "stack expects a non-empty TensorList");
    };
    if let Some(at) = parts.iter().position(|part| part.sizes != first.sizes) {
        let (want, found) = (text(&first.sizes), text(&parts[at].sizes));
        let message =
            format!("stack expects each tensor to be equal size, but got {want} at entry 0 and {found} at entry {at}");
        return raise("RuntimeError", message);
    }
    let dim = dimension(call, 1, first.sizes.len() + 1)?;
    let mut sizes = first.sizes.clone();
    sizes.insert(dim, parts.len() as i64);
    let whole = gather(&parts, &sizes, product(&sizes[..dim]), call.runtime.env.allocator)?;
    call.ret_body(Body::Tensor(whole))
}

/// `list_tensor(list, kind)`: the numbers of nested lists as a tensor of 64-bit ints (kind 0), floats (1) or of bools (2).
pub(super) fn list_tensor(call: &mut Call<'_>) -> Result<()> {
    let dtype = match call.int(1)? {
        0 => Dtype::I64,
        1 => Dtype::F64,
        _ => Dtype::BOOL,
    };
    let list = Item::Object(call.object(0)?);
    let mut sizes = Vec::new();
    let mut first = Some(list.clone());
    while let Some(Item::Object(object)) = first {
        let Body::List(items) = object.body() else { return Err(wrong()) };
        sizes.push(items.len() as i64);
        first = items.iter().next();
    }
    let mut bytes = Vec::new();
    // Where the first list is empty the others are not looked at.
    if !sizes.contains(&0) {
        numbers(&list, dtype, &sizes, 0, &mut bytes)?;
    }
    call.ret_body(Body::Tensor(Tensor::from_bytes(dtype, &sizes, &bytes)?))
}

/// Appends the elements of nested lists, which must have the lengths of the first ones at each depth.
fn numbers(item: &Item, dtype: Dtype, sizes: &[i64], dim: usize, bytes: &mut Vec<u8>) -> Result<()> {
    let Item::Object(object) = item else {
        match (dtype, item) {
            (Dtype::BOOL, _) => bytes.push(u8::from(!matches!(item, Item::Bool(false)))),
            (Dtype::F64, Item::Float(x)) => bytes.extend(x.to_ne_bytes()),
            (Dtype::I64, Item::Int(i)) => bytes.extend(i.to_ne_bytes()),
            _ => return Err(wrong()),
        }
        return Ok(());
    };
    let Body::List(items) = object.body() else { return Err(wrong()) };
    let (want, found) = (sizes.get(dim).copied().unwrap_or(0), items.len() as i64);
    if want != found {
        let message = format!("Expected sequence of length {want} at dim {dim} (got {found})");
        return raise("RuntimeError", message);
    }
    items.iter().try_for_each(|item| numbers(&item, dtype, sizes, dim + 1, bytes))
}

/// The operand's pieces of these lengths along a dimension, as a list: views of an object, copies of a buffer.
fn scatter(call: &mut Call<'_>, whole: &Tensor, dim: usize, lengths: &[i64]) -> Result<()> {
    if call.leaf(0)?.kind() == Tag::Object {
        let mut at = 0;
        let part = |&length: &i64| {
            let mut sizes = whole.sizes.clone();
            sizes[dim] = length;
            let part = whole.view(at * whole.strides[dim], sizes, whole.strides.clone());
            at += length;
            Item::from(Body::Tensor(part))
        };
        let parts: Vec<Item> = lengths.iter().map(part).collect();
        return call.ret_body(Body::List(parts.into()));
    }
    let n_rows = product(&whole.sizes[..dim]);
    let unit = product(&whole.sizes[dim + 1..]) * whole.item_bytes();
    let whole_row = whole.sizes[dim] as usize * unit;
    let (mut at, mut items) = (0, Vec::with_capacity(lengths.len()));
    for &length in lengths {
        let mut sizes = whole.sizes.clone();
        sizes[dim] = length;
        let part = Tensor::uninit_in(whole.dtype, &sizes, call.runtime.env.allocator)?;
        let part_row = length as usize * unit;
        // SAFETY: the whole is row-major, and the lengths add up to its extent at most.
        unsafe { copy_rows(whole.data(), whole_row, part.data(), part_row, at, n_rows, false) };
        at += part_row;
        items.push(Item::from(Body::Tensor(part)));
    }
    call.ret_body(Body::List(items.into()))
}

/// Lengths of consecutive pieces of this size; the last may be shorter.
fn even(n: i64, size: i64) -> Vec<i64> {
    let count = if size == 0 { 1 } else { (n.saturating_add(size - 1) / size).max(1) };
    (0..count).map(|i| size.min(n - i * size)).collect()
}

/// `tensor_split(tensor, size, dim)`
pub(super) fn tensor_split(call: &mut Call<'_>) -> Result<()> {
    let (whole, size) = (call.tensor(0)?, call.int(1)?);
    let dim = dimension(call, 2, whole.sizes.len())?;
    let n = whole.sizes[dim];
    if size < 0 {
        let message = format!("split expects split_size be non-negative, but got split_size={size}");
        return raise("RuntimeError", message);
    }
    if size == 0 && n != 0 {
        let message = format!("split_size can only be 0 if dimension size is 0, but got dimension size of {n}");
        return raise("RuntimeError", message);
    }
    scatter(call, &whole, dim, &even(n, size))
}

/// `tensor_chunk(tensor, n_chunks, dim)`
pub(super) fn tensor_chunk(call: &mut Call<'_>) -> Result<()> {
    let (whole, chunks) = (call.tensor(0)?, call.int(1)?);
    let dim = dimension(call, 2, whole.sizes.len())?;
    let n = whole.sizes[dim];
    if chunks <= 0 {
        return raise("RuntimeError", format!("chunk expects `chunks` to be greater than 0, got: {chunks}"));
    }
    let lengths = if n == 0 { vec![0; chunks as usize] } else { even(n, n.saturating_add(chunks - 1) / chunks) };
    scatter(call, &whole, dim, &lengths)
}

/// `tensor_split_sizes(tensor, list of sizes, dim)`
pub(super) fn tensor_split_sizes(call: &mut Call<'_>) -> Result<()> {
    let (whole, list) = (call.tensor(0)?, call.object(1)?);
    let dim = dimension(call, 2, whole.sizes.len())?;
    let Body::List(items) = list.body() else {
        return Err(Error::new(Status::Internal, "a routine expected a list of ints"));
    };
    let sizes: Vec<_> = items.iter().map(|item| if let Item::Int(n) = item { n } else { -1 }).collect();
    let total = sizes.iter().fold(0i64, |sum, n| sum.saturating_add(*n));
    if sizes.iter().any(|n| *n < 0) {
        let message = "split_with_sizes expects split_sizes have only non-negative entries, but got split_sizes=";
        return raise("RuntimeError", format!("{message}{}", text(&sizes)));
    }
    if total != whole.sizes[dim] {
        return raise(
            "RuntimeError",
            format!(
                "split_with_sizes expects split_sizes to sum exactly to {} (input tensor's size at dimension {dim}), but \
                 got split_sizes={}",
                whole.sizes[dim],
                text(&sizes)
            ),
        );
    }
    scatter(call, &whole, dim, &sizes)
}

/// `tensor_unbind(tensor, 0, dim)`: the tensor at each index of a dimension; views of an object, copies of a buffer.
pub(super) fn tensor_unbind(call: &mut Call<'_>) -> Result<()> {
    let whole = call.tensor(0)?;
    let dim = dimension(call, 2, whole.sizes.len())?;
    if call.leaf(0)?.kind() == Tag::Object {
        let without = |dims: &[i64]| dims.iter().enumerate().filter(|(d, _)| *d != dim).map(|(_, n)| *n).collect();
        let part = |i| whole.view(i * whole.strides[dim], without(&whole.sizes), without(&whole.strides));
        let parts: Vec<Item> = (0..whole.sizes[dim]).map(|i| Item::from(Body::Tensor(part(i)))).collect();
        return call.ret_body(Body::List(parts.into()));
    }
    let (n_rows, unit) = (product(&whole.sizes[..dim]), product(&whole.sizes[dim + 1..]) * whole.item_bytes());
    let n = whole.sizes[dim] as usize;
    let mut sizes = whole.sizes.clone();
    sizes.remove(dim);
    let mut items = Vec::with_capacity(n);
    for i in 0..n {
        let part = Tensor::uninit_in(whole.dtype, &sizes, call.runtime.env.allocator)?;
        // SAFETY: the whole is row-major, and this is one of its indices.
        unsafe { copy_rows(whole.data(), n * unit, part.data(), unit, i * unit, n_rows, false) };
        items.push(Item::from(Body::Tensor(part)));
    }
    call.ret_body(Body::List(items.into()))
}
