//! Calls with values of any kind, and the way between the host's values and the runtime's.
#![allow(unsafe_code, reason = "the C interface is made of pointers")]

use super::tensor::owned_tensor;
use super::{
    AotError, AotModel, AotState, AotTensor, AotValue, VALUE_OWNED, aot_rt_tensor_release, bad, guard, host_ref,
    host_slice, on_instance,
};
use crate::abi::{MAX_RANK, Status};
use crate::arena::Allocator;
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Tensor, size_bytes};
use crate::value::Value;
use std::ffi::{CStr, c_char};

/// `foo_call`: any method with values of any kind. `out` is overwritten; release it with `foo_value_release`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_call(
    model: *mut AotModel,
    state: *mut AotState,
    method: *const c_char,
    inputs: *const AotValue,
    n_inputs: usize,
    out: *mut AotValue,
    err: *mut AotError,
) -> i32 {
    let call = || {
        if method.is_null() || out.is_null() {
            return Err(bad("method or out is null"));
        }
        // SAFETY: the host passes a zero-terminated name and `n_inputs` values.
        unsafe {
            let method = CStr::from_ptr(method).to_str().map_err(|_| bad("method is not UTF-8"))?;
            let inputs = host_slice(inputs, n_inputs, "in")?;
            let args = inputs.iter().map(|value| read_value(value, 0)).collect::<Result<Vec<_>>>()?;
            let result = on_instance(model, state, |instance| instance.call(method, &args))?;
            out.write(write_value(&result, (*model).0.env().allocator)?);
        }
        Ok(())
    };
    // SAFETY: `err` is the host's.
    unsafe { guard(err, call) }
}

/// Values of the host nest no deeper than this.
const MAX_DEPTH: usize = 64;

unsafe fn read_value(value: &AotValue, depth: usize) -> Result<Value> {
    if depth > MAX_DEPTH {
        return Err(bad("a value nests too deeply"));
    }
    // SAFETY: the host's value points at `n` items.
    let items = |n: usize| unsafe {
        let items = host_slice(value.bits[0] as *const AotValue, n, "items")?;
        items.iter().map(|item| read_value(item, depth + 1)).collect::<Result<Vec<_>>>()
    };
    Ok(match value.tag {
        0 => Value::None,
        1 => Value::Bool(value.bits[0] != 0),
        2 => Value::Int(value.bits[0] as i64),
        3 => Value::Float(f64::from_bits(value.bits[0])),
        4 => Value::Complex(f64::from_bits(value.bits[0]), f64::from_bits(value.bits[1])),
        5 => {
            // SAFETY: the host's string has `n` bytes.
            let bytes = unsafe { host_slice(value.bits[0] as *const u8, value.n, "string") }?;
            Value::Str(String::from_utf8(bytes.to_vec()).map_err(|_| bad("a string is not UTF-8"))?)
        }
        6 => {
            // SAFETY: the host's value points at a tensor.
            let tensor = unsafe { host_ref(value.bits[0] as *const AotTensor, "tensor") }?;
            let rank = usize::try_from(tensor.ndim).ok().filter(|&rank| rank <= MAX_RANK);
            let rank =
                rank.ok_or_else(|| Error::new(Status::Shape, format!("a tensor of {} dimensions", tensor.ndim)))?;
            // SAFETY: the host's tensor has `ndim` sizes, and strides where not null.
            unsafe {
                let sizes = host_slice(tensor.sizes, rank, "sizes")?;
                size_bytes(Dtype(tensor.dtype), sizes)?;
                let strides =
                    if tensor.strides.is_null() { None } else { Some(host_slice(tensor.strides, rank, "strides")?) };
                Value::Tensor(Tensor::borrowed(Dtype(tensor.dtype), sizes, strides, tensor.data.cast()))
            }
        }
        7 => Value::List(items(value.n)?),
        // A named tuple is accepted by position.
        8 | 9 => Value::Tuple(items(value.n)?),
        10 => {
            let n = value.n.checked_mul(2).ok_or_else(|| bad("a dict has too many entries"))?;
            let mut flat = items(n)?.into_iter();
            Value::Dict(std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect())
        }
        tag => return Err(bad(format!("unknown value tag {tag}"))),
    })
}

fn write_value(value: &Value, allocator: Allocator) -> Result<AotValue> {
    let none = AotValue { tag: 0, flags: 0, n: 0, bits: [0; 2], names: std::ptr::null() };
    let owned = |tag, n, address: u64| AotValue { tag, flags: VALUE_OWNED, n, bits: [address, 0], ..none };
    let list = |tag, n, values: &mut dyn Iterator<Item = &Value>| {
        let mut items = Vec::new();
        for value in values {
            match write_value(value, allocator) {
                Ok(item) => items.push(item),
                Err(error) => {
                    // SAFETY: made just now.
                    items.iter_mut().for_each(|item| unsafe { aot_rt_value_release(item) });
                    return Err(error);
                }
            }
        }
        Ok(owned(tag, n, Box::into_raw(items.into_boxed_slice()).cast::<AotValue>() as u64))
    };
    Ok(match value {
        Value::None => none,
        Value::Bool(b) => AotValue { tag: 1, bits: [u64::from(*b), 0], ..none },
        Value::Int(i) => AotValue { tag: 2, bits: [*i as u64, 0], ..none },
        Value::Float(x) => AotValue { tag: 3, bits: [x.to_bits(), 0], ..none },
        Value::Complex(re, im) => AotValue { tag: 4, bits: [re.to_bits(), im.to_bits()], ..none },
        Value::Str(text) => owned(5, text.len(), c_text(text) as u64),
        Value::Tensor(tensor) => {
            let copy = owned_tensor(tensor.dtype, &tensor.sizes, allocator)?;
            // SAFETY: the copy has as many elements, row-major.
            unsafe { tensor.read_to(copy.data.cast()) };
            owned(6, 0, Box::into_raw(Box::new(copy)) as u64)
        }
        Value::List(items) => list(7, items.len(), &mut items.iter())?,
        Value::Tuple(items) => list(8, items.len(), &mut items.iter())?,
        Value::NamedTuple { name, fields } => {
            let mut result = list(9, fields.len(), &mut fields.iter().map(|(_, value)| value))?;
            let names = fields.iter().map(|(field, _)| field).chain([name]);
            let names: Box<[*const c_char]> = names.map(|name| c_text(name).cast_const()).collect();
            result.names = Box::into_raw(names).cast();
            result
        }
        Value::Dict(entries) => list(10, entries.len(), &mut entries.iter().flat_map(|(k, v)| [k, v]))?,
    })
}

/// A zero-terminated copy.
fn c_text(text: &str) -> *mut c_char {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    Box::into_raw(bytes.into_boxed_slice()).cast()
}

/// Frees a text of [`c_text`] of this many bytes, the last zero not counted.
unsafe fn free_text(text: *mut c_char, len: usize) {
    // SAFETY: by the caller's promise a box of `len + 1` bytes.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(text.cast::<u8>(), len + 1)) });
}

/// `foo_value_release`: frees a value of the library, with everything in it; others are left alone. Null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_value_release(value: *mut AotValue) {
    // SAFETY: null or a value of the host's.
    let Some(value) = (unsafe { value.as_mut() }) else { return };
    if value.flags & VALUE_OWNED == 0 {
        return;
    }
    // SAFETY: owned values point at boxes that `write_value` made.
    unsafe {
        match value.tag {
            5 => free_text(value.bits[0] as *mut c_char, value.n),
            6 => {
                let mut tensor = Box::from_raw(value.bits[0] as *mut AotTensor);
                aot_rt_tensor_release(&raw mut *tensor);
            }
            7..=10 => {
                let n = if value.tag == 10 { 2 * value.n } else { value.n };
                let items = std::ptr::slice_from_raw_parts_mut(value.bits[0] as *mut AotValue, n);
                for item in &mut Box::from_raw(items) {
                    aot_rt_value_release(item);
                }
                if !value.names.is_null() {
                    let names = std::ptr::slice_from_raw_parts_mut(value.names.cast_mut(), value.n + 1);
                    for &name in &Box::from_raw(names) {
                        free_text(name.cast_mut(), CStr::from_ptr(name).to_bytes().len());
                    }
                }
            }
            _ => {}
        }
    }
    *value = AotValue { tag: 0, flags: 0, n: 0, bits: [0; 2], names: std::ptr::null() };
}
