//! Random fills of row-major tensors.
#![allow(unsafe_code, reason = "writes to buffers of compiled code")]

use super::{Call, raise};
use crate::abi::Status;
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Tensor};

/// The elements of a buffer to write.
///
/// # Safety
/// `T` is the Rust type of the element type, and nothing else uses the memory.
#[allow(clippy::mut_from_ref, reason = "a tensor is a view; the memory is not its own")]
pub(super) unsafe fn elements<T>(tensor: &Tensor) -> &mut [T] {
    if tensor.n_elements() == 0 {
        return &mut [];
    }
    // SAFETY: row-major memory of this many elements, by the contract of routines and the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(tensor.data().cast(), tensor.n_elements()) }
}

fn unsupported<T>(what: &str, dtype: Dtype) -> Result<T> {
    Err(Error::new(Status::Unsupported, format!("{what} of {}", dtype.name())))
}

/// `copy_bytes(from, to)`: the memory of one buffer as another of as many bytes.
pub(super) fn copy_bytes(call: &mut Call<'_>) -> Result<()> {
    let (from, to) = (call.tensor(0)?, call.tensor(1)?);
    let n_bytes = from.n_elements() * from.item_bytes();
    if n_bytes != to.n_elements() * to.item_bytes() {
        return Err(Error::new(Status::Internal, "copy_bytes got buffers of different sizes"));
    }
    if n_bytes > 0 {
        // SAFETY: row-major memory of this many bytes each, by the contract of routines; two buffers do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from.data(), to.data(), n_bytes) };
    }
    Ok(())
}

/// `random_seed(seed)`: what `torch.manual_seed` does.
pub(super) fn random_seed(call: &mut Call<'_>) -> Result<()> {
    let seed = call.int(0)?;
    call.runtime.generator = crate::random::Generator::new(seed as u64);
    Ok(())
}

/// `fill_uniform(buffer, low, high)`
pub(super) fn fill_uniform(call: &mut Call<'_>) -> Result<()> {
    let (tensor, low, high) = (call.tensor(0)?, call.float(1)?, call.float(2)?);
    let generator = &mut call.runtime.generator;
    match tensor.dtype {
        // SAFETY: the element type is checked.
        Dtype::F32 => unsafe { elements::<f32>(&tensor) }.iter_mut().for_each(|x| {
            // One rounding, as by the fused multiply-add of PyTorch's builds: the product of two 24-bit numbers is exact.
            let span = high as f32 - low as f32;
            *x = (f64::from(generator.uniform_f32()) * f64::from(span) + f64::from(low as f32)) as f32;
        }),
        // SAFETY: as above.
        Dtype::F64 => unsafe { elements::<f64>(&tensor) }.iter_mut().for_each(|x| {
            *x = generator.uniform_f64().mul_add(high - low, low);
        }),
        other => return unsupported("uniform numbers", other),
    }
    Ok(())
}

/// `fill_normal(buffer, mean, std)`
pub(super) fn fill_normal(call: &mut Call<'_>) -> Result<()> {
    let (tensor, mean, std) = (call.tensor(0)?, call.float(1)?, call.float(2)?);
    let generator = &mut call.runtime.generator;
    match tensor.dtype {
        // SAFETY: the element type is checked.
        Dtype::F32 => generator.fill_normal_f32(unsafe { elements(&tensor) }, mean as f32, std as f32),
        // SAFETY: as above.
        Dtype::F64 => generator.fill_normal_f64(unsafe { elements(&tensor) }, mean, std),
        other => return unsupported("normal numbers", other),
    }
    Ok(())
}

/// `fill_normal_each(buffer, mean, std)`: one number after the other, whatever their count; a `float64` buffer.
pub(super) fn fill_normal_each(call: &mut Call<'_>) -> Result<()> {
    let (tensor, mean, std) = (call.tensor(0)?, call.float(1)?, call.float(2)?);
    if tensor.dtype != Dtype::F64 {
        return unsupported("single normal numbers", tensor.dtype);
    }
    let generator = &mut call.runtime.generator;
    // SAFETY: the element type is checked.
    // SAFETY: as above.
    unsafe { elements::<f64>(&tensor) }.iter_mut().for_each(|x| *x = generator.normal() * std + mean);
    Ok(())
}

/// `fill_bernoulli(buffer, p)`
pub(super) fn fill_bernoulli(call: &mut Call<'_>) -> Result<()> {
    let (tensor, p) = (call.tensor(0)?, call.float(1)?);
    let generator = &mut call.runtime.generator;
    let mut draw = || generator.uniform_f64() < p;
    match tensor.dtype {
        // SAFETY: the element type is checked.
        Dtype::F32 => unsafe { elements::<f32>(&tensor) }.iter_mut().for_each(|x| *x = f32::from(u8::from(draw()))),
        // SAFETY: as above.
        Dtype::F64 => unsafe { elements::<f64>(&tensor) }.iter_mut().for_each(|x| *x = f64::from(u8::from(draw()))),
        // SAFETY: as above.
        Dtype::I64 => unsafe { elements::<i64>(&tensor) }.iter_mut().for_each(|x| *x = i64::from(draw())),
        // SAFETY: as above.
        Dtype::BOOL | Dtype::U8 => unsafe { elements::<u8>(&tensor) }.iter_mut().for_each(|x| *x = u8::from(draw())),
        other => return unsupported("random bits", other),
    }
    Ok(())
}

/// `fill_randint(buffer, low, high)`
pub(super) fn fill_randint(call: &mut Call<'_>) -> Result<()> {
    let (tensor, low, high) = (call.tensor(0)?, call.int(1)?, call.int(2)?);
    if low >= high {
        return raise(
            "RuntimeError",
            format!("random_ expects 'from' to be less than 'to', but got from={low} >= to={high}"),
        );
    }
    let generator = &mut call.runtime.generator;
    match tensor.dtype {
        // SAFETY: the element type is checked.
        Dtype::I64 => unsafe { elements::<i64>(&tensor) }.iter_mut().for_each(|x| *x = generator.randint(low, high)),
        // SAFETY: as above.
        Dtype::I32 => {
            // SAFETY: as above.
            unsafe { elements::<i32>(&tensor) }.iter_mut().for_each(|x| *x = generator.randint(low, high) as i32);
        }
        // SAFETY: as above.
        Dtype::F32 => {
            // SAFETY: as above.
            unsafe { elements::<f32>(&tensor) }.iter_mut().for_each(|x| *x = generator.randint(low, high) as f32);
        }
        // SAFETY: as above.
        Dtype::F64 => {
            // SAFETY: as above.
            unsafe { elements::<f64>(&tensor) }.iter_mut().for_each(|x| *x = generator.randint(low, high) as f64);
        }
        other => return unsupported("random integers", other),
    }
    Ok(())
}

/// `randperm(buffer)`: an `int64` vector.
pub(super) fn randperm(call: &mut Call<'_>) -> Result<()> {
    let tensor = call.tensor(0)?;
    if tensor.dtype != Dtype::I64 {
        return unsupported("permutations", tensor.dtype);
    }
    // SAFETY: the element type is checked.
    call.runtime.generator.randperm(unsafe { elements(&tensor) });
    Ok(())
}
