//! Tensors at the border of a model: element type, sizes, strides and shared or borrowed memory.
#![allow(unsafe_code, reason = "tensors point at memory of the host")]

use crate::abi::{MAX_RANK, Status};
use crate::arena::{Allocator, Memory};
use crate::error::{Error, Result};
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

/// `PyTorch`'s code of an element type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Dtype(pub u8);

#[allow(missing_docs, reason = "self-explanatory")]
impl Dtype {
    pub const U8: Self = Self(0);
    pub const I8: Self = Self(1);
    pub const I16: Self = Self(2);
    pub const I32: Self = Self(3);
    pub const I64: Self = Self(4);
    pub const F16: Self = Self(5);
    pub const F32: Self = Self(6);
    pub const F64: Self = Self(7);
    pub const C32: Self = Self(8);
    pub const C64: Self = Self(9);
    pub const C128: Self = Self(10);
    pub const BOOL: Self = Self(11);
    pub const BF16: Self = Self(15);
    pub const U16: Self = Self(27);
    pub const U32: Self = Self(28);
    pub const U64: Self = Self(29);
}

impl Dtype {
    /// Bytes of an element; `None` for codes that have no memory form here.
    pub fn size(self) -> Option<usize> {
        Some(match self.0 {
            0 | 1 | 11 | 12 | 13 | 23..=26 => 1,
            2 | 5 | 15 | 27 => 2,
            3 | 6 | 8 | 14 | 28 => 4,
            4 | 7 | 9 | 29 => 8,
            10 => 16,
            _ => return None,
        })
    }

    /// `float32`, `int64`.
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "uint8",
            1 => "int8",
            2 => "int16",
            3 => "int32",
            4 => "int64",
            5 => "float16",
            6 => "float32",
            7 => "float64",
            8 => "complex32",
            9 => "complex64",
            10 => "complex128",
            11 => "bool",
            12 => "qint8",
            13 => "quint8",
            14 => "qint32",
            15 => "bfloat16",
            23 => "float8_e5m2",
            24 => "float8_e4m3fn",
            27 => "uint16",
            28 => "uint32",
            29 => "uint64",
            _ => "unknown",
        }
    }
}

/// A tensor: a view of memory that is shared (counted) or borrowed from the host.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Element type.
    pub dtype: Dtype,
    /// Extents; never negative.
    pub sizes: Vec<i64>,
    /// Distance of neighbours along each dimension, in elements.
    pub strides: Vec<i64>,
    data: *mut u8,
    /// Keeps the memory alive; `None` for borrowed memory.
    memory: Option<Arc<Memory>>,
}

// SAFETY: tensors are handed between threads like the plain memory they describe; writers answer for races.
unsafe impl Send for Tensor {}
// SAFETY: as above.
unsafe impl Sync for Tensor {}

impl Tensor {
    /// A row-major tensor of zeros.
    pub fn zeros(dtype: Dtype, sizes: &[i64]) -> Result<Self> {
        Self::zeros_in(dtype, sizes, Allocator::default())
    }

    /// A row-major tensor of zeros with memory of this allocator.
    pub fn zeros_in(dtype: Dtype, sizes: &[i64], allocator: Allocator) -> Result<Self> {
        Ok(Self::of_memory(dtype, sizes, Memory::zeroed(size_bytes(dtype, sizes)?, allocator)?))
    }

    /// A row-major tensor whose elements will be written before anyone reads them.
    pub(crate) fn uninit_in(dtype: Dtype, sizes: &[i64], allocator: Allocator) -> Result<Self> {
        Ok(Self::of_memory(dtype, sizes, Memory::allocate(size_bytes(dtype, sizes)?, allocator)?))
    }

    fn of_memory(dtype: Dtype, sizes: &[i64], memory: Memory) -> Self {
        Self {
            dtype,
            sizes: sizes.to_vec(),
            strides: row_major_strides(sizes),
            data: memory.as_ptr(),
            memory: Some(Arc::new(memory)),
        }
    }

    /// A row-major tensor with a copy of these bytes, which are its elements in the machine's byte order.
    pub fn from_bytes(dtype: Dtype, sizes: &[i64], bytes: &[u8]) -> Result<Self> {
        let tensor = Self::zeros(dtype, sizes)?;
        if bytes.len() != tensor.size_bytes() {
            let message = format!("tensor data: expected {} bytes, got {}", tensor.size_bytes(), bytes.len());
            return Err(Error::new(Status::Argument, message));
        }
        // SAFETY: the fresh block holds `size_bytes` bytes.
        unsafe { tensor.data.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(tensor)
    }

    /// A row-major `float32` tensor.
    pub fn from_f32(sizes: &[i64], elements: &[f32]) -> Result<Self> {
        let bytes: Vec<u8> = elements.iter().flat_map(|x| x.to_ne_bytes()).collect();
        Self::from_bytes(Dtype::F32, sizes, &bytes)
    }

    /// A row-major `int64` tensor.
    pub fn from_i64(sizes: &[i64], elements: &[i64]) -> Result<Self> {
        let bytes: Vec<u8> = elements.iter().flat_map(|x| x.to_ne_bytes()).collect();
        Self::from_bytes(Dtype::I64, sizes, &bytes)
    }

    /// A view of memory that belongs to someone else. Without strides it is row-major.
    ///
    /// # Safety
    /// The memory that sizes and strides reach must stay valid while the tensor and its clones are used.
    pub unsafe fn borrowed(dtype: Dtype, sizes: &[i64], strides: Option<&[i64]>, data: *mut u8) -> Self {
        let strides = strides.map_or_else(|| row_major_strides(sizes), <[i64]>::to_vec);
        Self { dtype, sizes: sizes.to_vec(), strides, data, memory: None }
    }

    /// Other elements of the same memory: the first is `offset` elements from the first of this one. The caller answers for it
    /// that all of them are elements of this tensor.
    pub(crate) fn view(&self, offset: i64, sizes: Vec<i64>, strides: Vec<i64>) -> Self {
        let data = self.data.wrapping_offset(offset as isize * self.item_bytes() as isize);
        Self { dtype: self.dtype, sizes, strides, data, memory: self.memory.clone() }
    }

    /// The memory it is in, unless that is borrowed.
    pub(crate) fn memory(&self) -> Option<&Memory> {
        self.memory.as_deref()
    }

    /// Its memory seen as elements of another kind, the first of them `offset` elements from its start. Fails where one of them
    /// would lie outside of the memory, and for element types that are not known.
    pub fn reinterpret(&self, dtype: Dtype, sizes: &[i64], strides: &[i64], offset: i64) -> Result<Self> {
        let is_empty = size_bytes(dtype, sizes)? == 0;
        let reach = |is_low: bool| {
            let steps = sizes.iter().zip(strides).map(|(size, stride)| i128::from(size - 1) * i128::from(*stride));
            i128::from(offset) + steps.filter(|step| (*step < 0) == is_low).sum::<i128>()
        };
        let item = dtype.size().unwrap_or(1);
        let room = (self.size_bytes() / item) as i128;
        let is_inside = || is_empty || reach(true) >= 0 && reach(false) < room;
        if sizes.len() != strides.len() || !self.is_contiguous() || !is_inside() {
            let text = describe(dtype, sizes);
            let message = format!("{text} by {strides:?} at {offset} does not lie in {}", self.describe());
            return Err(Error::new(Status::Argument, message));
        }
        let offset = if is_empty { 0 } else { offset as isize * item as isize };
        let data = self.data.wrapping_offset(offset);
        Ok(Self { dtype, sizes: sizes.to_vec(), strides: strides.to_vec(), data, memory: self.memory.clone() })
    }

    /// The addresses of its elements, from the first to behind the last.
    pub(crate) fn addresses(&self) -> Range<usize> {
        let start = self.data as usize;
        if self.n_elements() == 0 {
            return start..start;
        }
        let (mut low, mut high) = (0, 0);
        for (size, stride) in self.sizes.iter().zip(&self.strides) {
            let reach = (size - 1) * stride;
            if reach < 0 { low += reach } else { high += reach }
        }
        let at = |elements: i64| start.wrapping_add_signed(elements as isize * self.item_bytes() as isize);
        at(low)..at(high + 1)
    }

    /// The same elements in a copy of its memory.
    pub(crate) fn moved_to(&self, copy: &Arc<Memory>) -> Self {
        let from = self.memory().map_or(self.data, Memory::as_ptr);
        self.moved(from as usize, copy)
    }

    /// The same elements in a copy of the memory that starts at this address.
    pub(crate) fn moved(&self, from: usize, copy: &Arc<Memory>) -> Self {
        let data = copy.as_ptr().wrapping_add(self.data as usize - from);
        Self { data, memory: Some(Arc::clone(copy)), ..self.clone() }
    }

    /// Overwrites the elements with those of a tensor of the same element type and sizes.
    pub(crate) fn copy_from(&self, other: &Self) {
        self.write_from(other.to_bytes().as_ptr());
    }

    /// The first element.
    pub fn data(&self) -> *mut u8 {
        self.data
    }

    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        self.sizes.iter().map(|&n| n as usize).product()
    }

    /// Bytes of an element.
    pub fn item_bytes(&self) -> usize {
        self.dtype.size().unwrap_or(1)
    }

    /// Bytes of all elements, without gaps.
    pub fn size_bytes(&self) -> usize {
        self.n_elements() * self.item_bytes()
    }

    /// Whether elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        is_row_major(&self.sizes, &self.strides)
    }

    /// Itself if contiguous, else a row-major copy.
    pub fn contiguous(&self) -> Result<Self> {
        if self.is_contiguous() { Ok(self.clone()) } else { self.to_owned_tensor() }
    }

    /// A row-major copy in memory of its own.
    pub fn to_owned_tensor(&self) -> Result<Self> {
        let copy = Self::uninit_in(self.dtype, &self.sizes, Allocator::default())?;
        self.copy_elements(copy.data, false);
        Ok(copy)
    }

    /// The elements in row-major order as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size_bytes()];
        self.copy_elements(bytes.as_mut_ptr(), false);
        bytes
    }

    /// Copies the elements to row-major memory.
    ///
    /// # Safety
    /// There is room for [`Self::size_bytes`].
    pub(crate) unsafe fn read_to(&self, row_major: *mut u8) {
        self.copy_elements(row_major, false);
    }

    /// Overwrites the elements from row-major memory of the same dtype and sizes.
    pub(crate) fn write_from(&self, row_major: *const u8) {
        self.copy_elements(row_major.cast_mut(), true);
    }

    /// Overwrites the elements with these, as [`Self::to_bytes`] gives them. `None` for another number of bytes.
    pub fn set_bytes(&self, row_major: &[u8]) -> Option<()> {
        (row_major.len() == self.size_bytes()).then(|| self.write_from(row_major.as_ptr()))
    }

    /// Copies elements to row-major memory, or back from it.
    fn copy_elements(&self, row_major: *mut u8, is_back: bool) {
        if self.n_elements() == 0 {
            return;
        }
        let item = self.item_bytes();
        let copy = |here: *mut u8, there: *mut u8, bytes: usize| {
            let (from, to) = if is_back { (there, here) } else { (here, there) };
            // SAFETY: both ranges lie in their tensors; they may be one memory when a host passes overlapping tensors.
            unsafe { std::ptr::copy(from, to, bytes) };
        };
        if self.is_contiguous() {
            return copy(self.data, row_major, self.size_bytes());
        }
        let rank = self.sizes.len();
        let mut index = vec![0_i64; rank];
        let mut at = 0_i64;
        for i in 0..self.n_elements() {
            // SAFETY: the offset is that of an element.
            copy(unsafe { self.data.offset(at as isize * item as isize) }, unsafe { row_major.add(i * item) }, item);
            for d in (0..rank).rev() {
                index[d] += 1;
                at += self.strides[d];
                if index[d] < self.sizes[d] {
                    break;
                }
                at -= index[d] * self.strides[d];
                index[d] = 0;
            }
        }
    }

    /// `float32[2, 64]`
    pub fn describe(&self) -> String {
        describe(self.dtype, &self.sizes)
    }
}

/// `float32[2, 64]`
pub(crate) fn describe(dtype: Dtype, sizes: &[i64]) -> String {
    let mut text = format!("{}[", dtype.name());
    for (i, n) in sizes.iter().enumerate() {
        let _ = write!(text, "{}{n}", if i == 0 { "" } else { ", " });
    }
    text.push(']');
    text
}

/// Whether these strides are row-major without gaps; dimensions of extent one may have any stride, and so may empty tensors.
pub fn is_row_major(sizes: &[i64], strides: &[i64]) -> bool {
    if sizes.contains(&0) {
        return true;
    }
    let mut expected = 1;
    for (&size, &stride) in sizes.iter().zip(strides).rev() {
        if size != 1 && stride != expected {
            return false;
        }
        expected *= size;
    }
    true
}

/// Strides of a row-major tensor, in elements.
pub fn row_major_strides(sizes: &[i64]) -> Vec<i64> {
    let mut strides = vec![1_i64; sizes.len()];
    for d in (1..sizes.len()).rev() {
        strides[d - 1] = strides[d].saturating_mul(sizes[d].max(1));
    }
    strides
}

/// Bytes of a row-major tensor. Fails for unknown element types, too many dimensions, negative or too large extents.
pub fn size_bytes(dtype: Dtype, sizes: &[i64]) -> Result<usize> {
    let item = dtype
        .size()
        .ok_or_else(|| Error::new(Status::Dtype, format!("element type code {} is not supported", dtype.0)))?;
    if sizes.len() > MAX_RANK {
        let message = format!("a tensor of {} dimensions; at most {MAX_RANK} are supported", sizes.len());
        return Err(Error::new(Status::Shape, message));
    }
    let bytes = sizes
        .iter()
        .try_fold(item, |bytes, &n| usize::try_from(n).ok().and_then(|n| bytes.checked_mul(n)))
        .filter(|&bytes| isize::try_from(bytes).is_ok());
    bytes.ok_or_else(|| Error::new(Status::Shape, format!("invalid sizes {}", describe(dtype, sizes))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_tensors_are_copied_in_row_major_order() {
        let mut t = Tensor::from_i64(&[2, 3], &[1, 2, 3, 4, 5, 6]).unwrap();
        assert!(t.is_contiguous());
        t.sizes = vec![3, 2];
        t.strides = vec![1, 3];
        assert!(!t.is_contiguous());
        let copy = t.contiguous().unwrap();
        let expected = Tensor::from_i64(&[6], &[1, 4, 2, 5, 3, 6]).unwrap();
        assert_eq!(copy.to_bytes(), expected.to_bytes());
        t.write_from(Tensor::from_i64(&[6], &[10, 40, 20, 50, 30, 60]).unwrap().data());
        assert_eq!(t.to_bytes(), Tensor::from_i64(&[6], &[10, 40, 20, 50, 30, 60]).unwrap().to_bytes());
    }

    #[test]
    fn sizes_are_checked() {
        assert!(size_bytes(Dtype::F32, &[-1]).is_err());
        assert!(size_bytes(Dtype::F32, &[i64::MAX, 4]).is_err());
        assert!(size_bytes(Dtype(99), &[1]).is_err());
        assert_eq!(size_bytes(Dtype::C128, &[2, 0]).unwrap(), 0);
        assert_eq!(describe(Dtype::F32, &[1, 64]), "float32[1, 64]");
    }
}
