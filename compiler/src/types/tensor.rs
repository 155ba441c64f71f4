//! Constant tensors: a view of shared bytes.

use super::DType;
use std::sync::Arc;

/// Bytes that one or more tensors share, owned or memory-mapped.
#[derive(Clone)]
pub struct Storage {
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
}

impl Storage {
    /// A storage over anything that hands out bytes.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self { bytes: Arc::new(bytes) }
    }

    /// All bytes of the storage.
    pub fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }

    /// Whether two storages are the same memory, so that a write through one shows in the other.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.bytes, &other.bytes)
    }

    /// An address that tells storages apart while they live.
    pub fn key(&self) -> usize {
        Arc::as_ptr(&self.bytes).cast::<u8>() as usize
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Storage({} bytes)", self.bytes().len())
    }
}

/// A tensor whose elements are known: a strided view of a [`Storage`].
///
/// Invariant, kept by [`TensorData::new`]: every element lies inside the storage and no size is negative.
#[derive(Clone, Debug)]
pub struct TensorData {
    dtype: DType,
    sizes: Vec<i64>,
    strides: Vec<i64>,
    offset: i64,
    storage: Storage,
    /// Scale and zero point of a per-tensor quantised tensor.
    pub quantizer: Option<(f64, i64)>,
    /// Scales and zero points of a per-channel quantised tensor.
    pub channel_quantizer: Option<Arc<ChannelQuantizer>>,
}

/// How each slice along one dimension of a quantised tensor maps to real numbers.
#[derive(Clone, Debug)]
pub struct ChannelQuantizer {
    /// One scale a slice, of a floating type.
    pub scales: Arc<TensorData>,
    /// One zero point a slice.
    pub zero_points: Arc<TensorData>,
    /// The dimension.
    pub axis: usize,
}

impl TensorData {
    /// A view; `strides` and `offset` count elements. Fails with a message if an element would lie outside the storage.
    pub fn new(
        dtype: DType,
        sizes: Vec<i64>,
        strides: Vec<i64>,
        offset: i64,
        storage: Storage,
    ) -> Result<Self, String> {
        if sizes.len() != strides.len() {
            return Err(format!("tensor has {} sizes but {} strides", sizes.len(), strides.len()));
        }
        if offset < 0 {
            return Err(format!("tensor has the negative storage offset {offset}"));
        }
        let (mut last, mut is_empty) = (offset, false);
        for (&size, &stride) in sizes.iter().zip(&strides) {
            if size < 0 || stride < 0 {
                return Err(format!("tensor has a negative size or stride: sizes {sizes:?}, strides {strides:?}"));
            }
            is_empty |= size == 0;
            let span = (size - 1).max(0).checked_mul(stride);
            last = span.and_then(|s| last.checked_add(s)).ok_or("tensor extent overflows")?;
        }
        let numel = sizes.iter().try_fold(1i64, |n, &s| n.checked_mul(s)).ok_or("tensor size overflows")?;
        let element = i64::try_from(dtype.size_bytes()).expect("element sizes are small");
        numel.checked_mul(element).ok_or("tensor size overflows")?;
        let end = last.checked_add(1).and_then(|n| n.checked_mul(element)).ok_or("tensor extent overflows")?;
        let have = i64::try_from(storage.bytes().len()).unwrap_or(i64::MAX);
        if !is_empty && end > have {
            return Err(format!(
                "sizes {sizes:?}, strides {strides:?}, storage offset {offset} and itemsize {element} require a storage of \
                 at least {end} bytes, but the storage has {have} bytes"
            ));
        }
        Ok(Self { dtype, sizes, strides, offset, storage, quantizer: None, channel_quantizer: None })
    }

    /// A contiguous tensor that owns `bytes` in native byte order.
    pub fn from_bytes(dtype: DType, sizes: &[i64], bytes: Vec<u8>) -> Result<Self, String> {
        Self::new(dtype, sizes.to_vec(), contiguous_strides(sizes), 0, Storage::new(bytes))
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extent of each dimension.
    pub fn sizes(&self) -> &[i64] {
        &self.sizes
    }

    /// Distance in elements between neighbours along each dimension.
    pub fn strides(&self) -> &[i64] {
        &self.strides
    }

    /// Offset of the first element in the storage, in elements.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The bytes this tensor looks at.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Number of elements.
    pub fn numel(&self) -> i64 {
        self.sizes.iter().product()
    }

    /// Whether elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        let mut expect = 1;
        for (&size, &stride) in self.sizes.iter().zip(&self.strides).rev() {
            if size != 1 && stride != expect {
                return self.numel() == 0;
            }
            expect *= size;
        }
        true
    }

    /// The elements in row-major order, as native bytes; borrowed where they already lie so.
    pub fn contiguous_bytes(&self) -> std::borrow::Cow<'_, [u8]> {
        let element = self.dtype.size_bytes();
        let bytes = self.storage.bytes();
        let numel = usize::try_from(self.numel()).expect("checked by new");
        if numel == 0 {
            return std::borrow::Cow::Borrowed(&[]);
        }
        let at = |offset: i64| usize::try_from(offset).expect("checked by new") * element;
        if self.is_contiguous() {
            return std::borrow::Cow::Borrowed(&bytes[at(self.offset)..][..numel * element]);
        }
        let mut out = Vec::with_capacity(numel * element);
        let mut idx = vec![0i64; self.sizes.len()];
        for _ in 0..numel {
            let offset = self.offset + idx.iter().zip(&self.strides).map(|(i, s)| i * s).sum::<i64>();
            out.extend_from_slice(&bytes[at(offset)..][..element]);
            for dim in (0..idx.len()).rev() {
                idx[dim] += 1;
                if idx[dim] < self.sizes[dim] {
                    break;
                }
                idx[dim] = 0;
            }
        }
        std::borrow::Cow::Owned(out)
    }
}

/// Row-major strides, in elements, for these sizes.
fn contiguous_strides(sizes: &[i64]) -> Vec<i64> {
    let mut strides = vec![1i64; sizes.len()];
    for dim in (0..sizes.len().saturating_sub(1)).rev() {
        strides[dim] = strides[dim + 1].saturating_mul(sizes[dim + 1].max(1));
    }
    strides
}
