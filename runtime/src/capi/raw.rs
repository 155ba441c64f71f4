//! Calls of a method's first version by bare addresses: what the typed functions of a header forward to.
#![allow(unsafe_code, reason = "the C interface is made of pointers")]

use super::{AotModel, AotState, bad, guard, host_slice, on_instance};
use crate::abi::{Leaf, MAX_RANK, Status, Tag};
use crate::arena::ALIGN;
use crate::desc::{DimDesc, InputKind, TensorDesc};
use crate::entry::natural_align;
use crate::error::{Error, Result};
use crate::model::Instance;
use crate::overlaps::refuse_leaf_overlaps;
use crate::tensor::size_bytes;
use std::ffi::c_void;

/// `foo_forward_raw`: an address for each argument (of a number, too; null for `None`) and each result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_raw(
    model: *mut AotModel,
    method: u32,
    state: *mut AotState,
    inputs: *const *mut c_void,
    n_inputs: usize,
    outputs: *const *mut c_void,
    n_outputs: usize,
    workspace: *mut c_void,
) -> i32 {
    let call = || {
        if !(workspace as usize).is_multiple_of(ALIGN) {
            return Err(Error::new(Status::Alignment, "the workspace is not aligned to 64 bytes"));
        }
        // SAFETY: the library's own function passes arrays of these lengths; model and state are of this library.
        unsafe {
            let (inputs, outputs) = (host_slice(inputs, n_inputs, "in")?, host_slice(outputs, n_outputs, "out")?);
            on_instance(model, state, |instance| {
                let (mut ins, mut outs) = std::mem::take(&mut instance.scratch);
                let result = run(instance, method, inputs, outputs, workspace.cast(), &mut ins, &mut outs);
                instance.scratch = (ins, outs);
                result
            })
        }
    };
    // SAFETY: no place for an error.
    unsafe { guard(std::ptr::null_mut(), call) }
}

fn run(
    instance: &mut Instance,
    method: u32,
    inputs: &[*mut c_void],
    outputs: &[*mut c_void],
    workspace: *mut u8,
    ins: &mut Vec<Leaf>,
    outs: &mut Vec<Leaf>,
) -> Result<()> {
    let desc = instance.desc();
    let variant = desc.methods.get(method as usize).and_then(|method| method.variants.first());
    let first = variant.and_then(|variant| desc.functions.get(variant.function as usize));
    let first = first.ok_or_else(|| bad("no such method"))?;
    ins.clear();
    for (input, &data) in first.inputs.iter().zip(inputs) {
        ins.push(match &input.kind {
            InputKind::Tensor { tensor, .. } => tensor_leaf(tensor, data)?,
            // SAFETY: the library's own function passes the address of a number of this type.
            InputKind::Int { .. } => Leaf::int(unsafe { *data.cast::<i64>() }),
            // SAFETY: as above.
            InputKind::Float { .. } => Leaf::float(unsafe { *data.cast::<f64>() }),
            // SAFETY: as above.
            InputKind::Bool { .. } => Leaf::bool(unsafe { *data.cast::<u8>() } != 0),
            InputKind::None => Leaf::NONE,
            InputKind::Str(_) | InputKind::Object | InputKind::Shared { .. } => {
                return Err(bad("an argument is neither tensor nor number"));
            }
        });
    }
    outs.clear();
    for (k, &data) in outputs.iter().enumerate() {
        outs.push(match first.outputs.get(k) {
            Some(Some(tensor)) => tensor_leaf(tensor, data)?,
            _ => Leaf::NONE,
        });
    }
    let (function, n_outputs) = instance.choose(method as usize, ins)?;
    refuse_leaf_overlaps(&instance.desc().functions[function], ins)?;
    if n_outputs > outs.len() {
        return Err(bad("this state's version of the method has other results"));
    }
    instance.run(function, ins.as_ptr(), outs.as_mut_ptr(), workspace)?;
    let desc = instance.desc();
    let first = &desc.functions[desc.methods[method as usize].variants[0].function as usize];
    for (k, (leaf, &data)) in outs.iter().zip(outputs).enumerate() {
        let (bits, bytes) = match leaf.kind() {
            Tag::Tensor => {
                let expected = first.outputs.get(k).and_then(Option::as_ref);
                let expected = expected.map(|tensor| tensor_leaf(tensor, data)).transpose()?;
                let is_same = |e: &Leaf| (e.dtype, e.dims()) == (leaf.dtype, leaf.dims());
                if !expected.as_ref().is_some_and(is_same) {
                    return Err(Error::new(Status::Shape, "a result differs from the signature"));
                }
                (leaf.bits as *const u8, size_bytes(leaf.element_type(), leaf.dims())?)
            }
            Tag::Int | Tag::Float => ((&raw const leaf.bits).cast(), 8),
            Tag::Bool => ((&raw const leaf.bits).cast(), 1),
            Tag::None | Tag::Object | Tag::Text => return Err(bad("a result is neither tensor nor number")),
        };
        if bits != data.cast_const().cast() {
            if data.is_null() {
                return Err(bad("a result's address is null"));
            }
            // SAFETY: the host gave memory for a result of this signature; the leaf describes as many bytes.
            unsafe { data.cast::<u8>().copy_from(bits, bytes) };
        }
    }
    Ok(())
}

/// A tensor of fixed extents at this address.
fn tensor_leaf(tensor: &TensorDesc, data: *mut c_void) -> Result<Leaf> {
    let mut sizes = [0; MAX_RANK];
    let mut n_elements = 1;
    for (size, dim) in sizes.iter_mut().zip(&tensor.dims) {
        let DimDesc::Const(n) = *dim else { return Err(bad("the method has no fixed signature")) };
        *size = n;
        n_elements *= n;
    }
    if data.is_null() && n_elements != 0 {
        return Err(bad("an address is null"));
    }
    if !(data as usize).is_multiple_of(natural_align(tensor.dtype)) {
        return Err(Error::new(Status::Alignment, "data is not aligned to the size of its elements"));
    }
    Ok(Leaf::tensor(tensor.dtype, &sizes[..tensor.dims.len()], data.cast()))
}
