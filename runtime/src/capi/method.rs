//! Calls of a method on tensors: arguments are read where they lie, results are written to the host's memory.
//!
//! A call whose sizes repeat allocates nothing, unless an argument is strided or the host asks for memory.
#![allow(unsafe_code, reason = "the C interface is made of pointers")]

use super::tensor::owned_tensor;
use super::{
    AotError, AotModel, AotState, AotTensor, TENSOR_OWNED, aot_rt_tensor_release, bad, guard, host_slice, on_instance,
};
use crate::abi::{Leaf, MAX_RANK, Status, Tag};
use crate::arena::{ALIGN, Allocator};
use crate::desc::{InputKind, Tree};
use crate::entry::natural_align;
use crate::error::{Error, Result};
use crate::model::Instance;
use crate::overlaps::{leaf_addresses, refuse_overlaps};
use crate::tensor::{Dtype, Tensor, describe, size_bytes};
use std::ffi::c_void;

/// `foo_forward`: a method whose arguments are tensors and whose results are tensors and numbers (given as tensors without
/// dimensions). A result with null `data` is allocated and flagged [`TENSOR_OWNED`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_method(
    model: *mut AotModel,
    method: u32,
    state: *mut AotState,
    inputs: *const AotTensor,
    n_inputs: usize,
    outputs: *mut AotTensor,
    n_outputs: usize,
    workspace: *mut c_void,
    workspace_bytes: usize,
    err: *mut AotError,
) -> i32 {
    let call = || {
        // SAFETY: the host passes arrays of these lengths.
        let inputs = unsafe { host_slice(inputs, n_inputs, "in") }?;
        // SAFETY: as above.
        unsafe { host_slice(outputs, n_outputs, "out") }?;
        let outputs = if n_outputs == 0 {
            &mut [][..]
        } else {
            // SAFETY: as above; checked not to be null.
            unsafe { std::slice::from_raw_parts_mut(outputs, n_outputs) }
        };
        // SAFETY: the model and the state are of this library.
        unsafe {
            on_instance(model, state, |instance| {
                if !workspace.is_null()
                    && (workspace_bytes < instance.workspace_bytes() || !(workspace as usize).is_multiple_of(ALIGN))
                {
                    let bytes = instance.workspace_bytes();
                    return Err(bad(format!("workspace: expected {bytes} bytes aligned to 64, got {workspace_bytes}")));
                }
                let (mut ins, mut outs) = std::mem::take(&mut instance.scratch);
                let result = run_method(instance, method, inputs, outputs, workspace.cast(), &mut ins, &mut outs);
                instance.scratch = (ins, outs);
                result
            })
        }
    };
    // SAFETY: `err` is the host's.
    unsafe { guard(err, call) }
}

/// Reads tensor arguments to leaves; where the method takes a number, the one element of a tensor without dimensions. Strided
/// ones are copied; the copies are returned with their argument's number. Without data only numbers are looked at, and those
/// may be missing, too.
fn read_inputs(
    instance: &Instance,
    method: u32,
    inputs: &[AotTensor],
    has_data: bool,
    leaves: &mut Vec<Leaf>,
) -> Result<Vec<(usize, Tensor, Tensor)>> {
    let method = instance.desc().methods.get(method as usize).ok_or_else(|| bad("no such method"))?;
    leaves.clear();
    // Which arguments are numbers is the same for every version of a method.
    let function = method.variants.first().and_then(|v| instance.desc().functions.get(v.function as usize));
    let kinds = function.map(|function| &function.inputs);
    let mut copies = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let name = || method.params.get(i).map_or_else(|| format!("{i}"), |(name, _)| name.clone());
        let wrong = |status, text: String| Error::new(status, format!("argument '{}': {text}", name()));
        let rank = usize::try_from(input.ndim).unwrap_or(usize::MAX);
        if rank > MAX_RANK {
            return Err(wrong(Status::Shape, format!("{} dimensions", input.ndim)));
        }
        // SAFETY: the host passes `ndim` extents.
        let sizes = unsafe { host_slice(input.sizes, rank, "sizes") }.map_err(|e| wrong(e.status, e.message))?;
        let dtype = Dtype(input.dtype);
        let bytes = size_bytes(dtype, sizes).map_err(|e| wrong(e.status, e.message))?;
        let kind = kinds.and_then(|inputs| Some(&inputs.get(i)?.kind));
        if rank == 0
            && let Some(leaf) = kind.and_then(|kind| number(kind, dtype, input.data, has_data))
        {
            leaves.push(leaf);
            continue;
        }
        let input = if has_data {
            *input
        } else {
            AotTensor { data: ALIGN as *mut c_void, strides: std::ptr::null(), ..*input }
        };
        if input.data.is_null() && bytes > 0 {
            return Err(wrong(Status::Argument, "null data pointer".into()));
        }
        if !(input.data as usize).is_multiple_of(natural_align(dtype)) {
            return Err(wrong(Status::Alignment, format!("data is not aligned to {} bytes", natural_align(dtype))));
        }
        let mut data = input.data.cast();
        if !input.strides.is_null() {
            // SAFETY: the host passes `ndim` strides.
            let strides =
                unsafe { host_slice(input.strides, rank, "strides") }.map_err(|e| wrong(e.status, e.message))?;
            if !crate::tensor::is_row_major(sizes, strides) {
                // SAFETY: the host's tensor lives during the call.
                let original = unsafe { Tensor::borrowed(dtype, sizes, Some(strides), data) };
                let copy = original.to_owned_tensor()?;
                data = copy.data();
                copies.push((i, original, copy));
            }
        } else if input.size_bytes != 0 && input.size_bytes < bytes {
            return Err(wrong(Status::Shape, format!("expected {bytes} bytes, got {}", input.size_bytes)));
        }
        leaves.push(Leaf::tensor(dtype, sizes, data));
    }
    Ok(copies)
}

/// The number in a tensor without dimensions, for an argument that is one; `None` if the argument or the tensor is of another
/// kind. A number that is not there is the one that the method was compiled for, or zero.
fn number(kind: &InputKind, dtype: Dtype, data: *const c_void, has_data: bool) -> Option<Leaf> {
    let scalar = |tag: Tag, bits: u64| Leaf { tag: tag as i64, bits, ..Leaf::NONE };
    let is_there = has_data || !data.is_null();
    let is_readable = !data.is_null() && (data as usize).is_multiple_of(natural_align(dtype));
    if is_there && !is_readable {
        return None;
    }
    match (kind, dtype) {
        (InputKind::Int { only }, Dtype::I64) => {
            // SAFETY: the host's tensor has one element of this type; the pointer is not null and aligned.
            let value = if is_there { unsafe { *data.cast::<i64>() } } else { only.unwrap_or(0) };
            Some(scalar(Tag::Int, value as u64))
        }
        (InputKind::Float { only }, Dtype::F64) => {
            // SAFETY: as above.
            let value = if is_there { unsafe { *data.cast::<f64>() } } else { only.unwrap_or(0.0) };
            Some(scalar(Tag::Float, value.to_bits()))
        }
        (InputKind::Bool { only }, Dtype::BOOL) => {
            // SAFETY: as above.
            let value = if is_there { unsafe { *data.cast::<u8>() != 0 } } else { only.unwrap_or(false) };
            Some(scalar(Tag::Bool, u64::from(value)))
        }
        _ => None,
    }
}

fn run_method(
    instance: &mut Instance,
    method: u32,
    inputs: &[AotTensor],
    outputs: &mut [AotTensor],
    workspace: *mut u8,
    ins: &mut Vec<Leaf>,
    outs: &mut Vec<Leaf>,
) -> Result<()> {
    let copies = read_inputs(instance, method, inputs, true, ins)?;
    let (function, n_outputs) = instance.choose(method as usize, ins)?;
    if outputs.len() != n_outputs {
        return Err(bad(format!("expected room for {n_outputs} result(s), got {}", outputs.len())));
    }
    let memory = ins.iter().enumerate().filter_map(|(leaf, value)| {
        let original = copies.iter().find(|(i, ..)| *i == leaf).map(|(_, original, _)| original.addresses());
        Some((leaf, original.or_else(|| leaf_addresses(value))?))
    });
    refuse_overlaps(&instance.desc().functions[function], memory)?;
    let allocator = instance.env().allocator;
    outs.clear();
    for (k, output) in outputs.iter_mut().enumerate() {
        let mut leaf = Leaf::NONE;
        let mut sizes = [0; MAX_RANK];
        if let Some(Some(expected)) = instance.desc().functions[function].outputs.get(k)
            && instance.bindings().sizes(expected, &mut sizes)
        {
            let sizes = &sizes[..expected.dims.len()];
            let data = place_output(output, k, expected.dtype, sizes, allocator)?;
            leaf = Leaf::tensor(expected.dtype, sizes, data);
        }
        outs.push(leaf);
    }
    let ran = instance.run(function, ins.as_ptr(), outs.as_mut_ptr(), workspace);
    let description = &instance.desc().functions[function];
    let done = ran.and_then(|tree| {
        let tree = description.results.get(tree).ok_or_else(|| bad("unknown result"))?;
        if tree.n_result_leaves() != outputs.len() {
            let message = format!("this call has {} result(s), not {}", tree.n_result_leaves(), outputs.len());
            return Err(bad(message));
        }
        if has_objects(tree) {
            return Err(bad("this call has results other than tensors and numbers; use the call function with values"));
        }
        outputs.iter_mut().zip(outs.iter()).enumerate().try_for_each(|(k, (output, leaf))| {
            let (dtype, bits) = match leaf.kind() {
                Tag::Tensor => (leaf.element_type(), leaf.bits as *const u8),
                Tag::Int => (Dtype::I64, (&raw const leaf.bits).cast()),
                Tag::Float => (Dtype::F64, (&raw const leaf.bits).cast()),
                Tag::Bool => (Dtype::BOOL, (&raw const leaf.bits).cast()),
                Tag::None | Tag::Object | Tag::Text => return Err(bad("a result is neither tensor nor number")),
            };
            if bits == output.data.cast_const().cast() && !bits.is_null() {
                return Ok(());
            }
            let data = place_output(output, k, dtype, leaf.dims(), allocator)?;
            // SAFETY: the leaf describes a row-major tensor of this size; `place_output` checked the room.
            unsafe { data.copy_from(bits, size_bytes(dtype, leaf.dims())?) };
            Ok(())
        })
    });
    if done.is_err() {
        for output in outputs.iter_mut().filter(|output| output.flags & TENSOR_OWNED != 0) {
            // SAFETY: flagged tensors were made by `place_output`.
            unsafe { aot_rt_tensor_release(output) };
        }
    }
    done?;
    for (i, original, copy) in &copies {
        if matches!(description.inputs[*i].kind, InputKind::Tensor { is_mutated: true, .. }) {
            original.write_from(copy.data());
        }
    }
    Ok(())
}

fn has_objects(tree: &Tree) -> bool {
    match tree {
        Tree::Object => true,
        Tree::None | Tree::Tensor | Tree::Int | Tree::Float | Tree::Bool | Tree::Complex | Tree::Str(_) => false,
        Tree::Tuple(items) | Tree::List(items) => items.iter().any(has_objects),
        Tree::NamedTuple(_, fields) => fields.iter().any(|(_, tree)| has_objects(tree)),
        Tree::Dict(entries) => entries.iter().any(|(k, v)| has_objects(k) || has_objects(v)),
    }
}

/// Makes the memory of a result ready: checks the host's, or allocates. Fills in what the host asked to know.
fn place_output(
    output: &mut AotTensor,
    k: usize,
    dtype: Dtype,
    sizes: &[i64],
    allocator: Allocator,
) -> Result<*mut u8> {
    let bytes = size_bytes(dtype, sizes)?;
    if output.data.is_null() || output.flags & TENSOR_OWNED != 0 {
        if !output.data.is_null() {
            // SAFETY: flagged tensors were made below.
            unsafe { aot_rt_tensor_release(output) };
        }
        *output = owned_tensor(dtype, sizes, allocator)?;
        return Ok(output.data.cast());
    }
    if output.size_bytes < bytes {
        let message = format!("result {k}: {} needs {bytes} bytes, got {}", describe(dtype, sizes), output.size_bytes);
        return Err(Error::new(Status::Shape, message));
    }
    if !(output.data as usize).is_multiple_of(natural_align(dtype)) {
        let message = format!("result {k}: data is not aligned to {} bytes", natural_align(dtype));
        return Err(Error::new(Status::Alignment, message));
    }
    if !output.sizes.is_null() {
        let rank = usize::try_from(output.ndim).unwrap_or(0);
        // SAFETY: the host passes `ndim` extents.
        let expected = unsafe { host_slice(output.sizes, rank, "sizes") }?;
        if expected != sizes || Dtype(output.dtype) != dtype {
            let got = describe(Dtype(output.dtype), expected);
            return Err(Error::new(Status::Shape, format!("result {k} is {}, not {got}", describe(dtype, sizes))));
        }
    }
    output.ndim = sizes.len() as i32;
    output.dtype = dtype.0;
    Ok(output.data.cast())
}

/// `foo_forward_shapes`: dtype, rank, sizes and bytes of each result for these arguments (their data may be null). The
/// extents are written to `dims` one result after another and pointed at by `out[i].sizes`. A result whose size only the
/// computation tells has `ndim` -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_shapes(
    model: *mut AotModel,
    method: u32,
    state: *mut AotState,
    inputs: *const AotTensor,
    n_inputs: usize,
    outputs: *mut AotTensor,
    n_outputs: usize,
    dims: *mut i64,
    n_dims: usize,
    err: *mut AotError,
) -> i32 {
    let call = || {
        // SAFETY: the host passes arrays of these lengths.
        let inputs = unsafe { host_slice(inputs, n_inputs, "in") }?;
        // SAFETY: as above.
        unsafe {
            host_slice(outputs, n_outputs, "out")?;
            host_slice(dims, n_dims, "dims")?;
        }
        let mut n_used = 0;
        let shapes = |instance: &mut Instance| {
            let mut leaves = Vec::new();
            read_inputs(instance, method, inputs, false, &mut leaves)?;
            let (function, n_results) = instance.choose(method as usize, &leaves)?;
            if n_results != n_outputs {
                return Err(bad(format!("expected room for {n_results} result(s), got {n_outputs}")));
            }
            for k in 0..n_outputs {
                let mut sizes = [0; MAX_RANK];
                let mut shape = AotTensor {
                    data: std::ptr::null_mut(),
                    sizes: std::ptr::null(),
                    strides: std::ptr::null(),
                    ndim: -1,
                    dtype: 0,
                    flags: 0,
                    reserved: 0,
                    size_bytes: 0,
                };
                if let Some(Some(tensor)) = instance.desc().functions[function].outputs.get(k)
                    && instance.bindings().sizes(tensor, &mut sizes)
                {
                    let sizes = &sizes[..tensor.dims.len()];
                    if n_used + sizes.len() > n_dims {
                        return Err(bad(format!("dims: {n_dims} are too few")));
                    }
                    shape.ndim = sizes.len() as i32;
                    shape.dtype = tensor.dtype.0;
                    shape.size_bytes = size_bytes(tensor.dtype, sizes)?;
                    if !sizes.is_empty() {
                        // SAFETY: there is room, as just checked.
                        unsafe {
                            shape.sizes = dims.add(n_used);
                            dims.add(n_used).copy_from_nonoverlapping(sizes.as_ptr(), sizes.len());
                        }
                    }
                    n_used += sizes.len();
                }
                // SAFETY: `outputs` has `n_outputs` elements.
                unsafe { outputs.add(k).write(shape) };
            }
            Ok(())
        };
        // SAFETY: the model and the state are of this library.
        unsafe { on_instance(model, state, shapes) }
    };
    // SAFETY: `err` is the host's.
    unsafe { guard(err, call) }
}

/// `foo_forward_workspace`: bytes, aligned to 64, that a call of the method may be given; 0 for a null model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_workspace(model: *const AotModel, _method: u32) -> usize {
    // SAFETY: null or of this library.
    unsafe { model.as_ref() }.map_or(0, |model| model.0.desc().workspace_bytes())
}
