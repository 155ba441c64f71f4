//! Tensors that the library allocates and the host releases.
#![allow(unsafe_code, reason = "the C interface is made of pointers")]

use super::{AotTensor, TENSOR_OWNED};
use crate::arena::{Allocator, Memory};
use crate::error::Result;
use crate::tensor::{Dtype, size_bytes};

/// What lies in front of an owned tensor's elements.
#[repr(C, align(64))]
struct OwnedHeader(Memory);

/// A tensor with memory of its own: header, elements, extents in one block.
pub(super) fn owned_tensor(dtype: Dtype, sizes: &[i64], allocator: Allocator) -> Result<AotTensor> {
    let bytes = size_bytes(dtype, sizes)?;
    let sizes_at = size_of::<OwnedHeader>() + bytes.next_multiple_of(8);
    let memory = Memory::allocate(sizes_at + size_of_val(sizes), allocator)?;
    let block = memory.as_ptr();
    // SAFETY: the block has room for header, elements and extents, and is aligned to 64 bytes.
    unsafe {
        let extents = block.add(sizes_at).cast::<i64>();
        extents.copy_from_nonoverlapping(sizes.as_ptr(), sizes.len());
        block.cast::<OwnedHeader>().write(OwnedHeader(memory));
        Ok(AotTensor {
            data: block.add(size_of::<OwnedHeader>()).cast(),
            sizes: extents,
            strides: std::ptr::null(),
            ndim: sizes.len() as i32,
            dtype: dtype.0,
            flags: TENSOR_OWNED,
            reserved: 0,
            size_bytes: bytes,
        })
    }
}

/// `foo_tensor_release`: frees a tensor of the library; others are left alone. Null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_tensor_release(tensor: *mut AotTensor) {
    // SAFETY: null or a tensor of the host's.
    let Some(tensor) = (unsafe { tensor.as_mut() }) else { return };
    if tensor.flags & TENSOR_OWNED == 0 || tensor.data.is_null() {
        return;
    }
    // SAFETY: owned tensors have a header in front of their elements; it is read out once and dropped.
    drop(unsafe { tensor.data.cast::<OwnedHeader>().sub(1).read() });
    tensor.data = std::ptr::null_mut();
    tensor.sizes = std::ptr::null();
    tensor.flags = 0;
    tensor.size_bytes = 0;
}
