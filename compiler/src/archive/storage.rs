//! Bytes of a file: memory-mapped or owned, shared and sliced without copying.
//!
//! [`Bytes`] is what the zip reader hands out for a member, and what a tensor's `types::Storage` stands on, so a stored
//! (not compressed) tensor is used where it lies in the map.

#![allow(unsafe_code, reason = "memory-mapping a file is an unsafe call; this is the one place that makes it")]

use crate::diag::{Diagnostic, Result};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Tensor bytes that do not start at a multiple of this are copied to where they do, so that later stages may load whole
/// elements of any type from them.
pub(super) const ALIGNMENT_BYTES: usize = 64;

/// The alignment that bytes used in place must have: the size of the largest element (`complex128`).
const ELEMENT_ALIGNMENT_BYTES: usize = 16;

/// A range of shared, immutable bytes. Cloning and slicing do not copy.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    /// Invariant: lies inside `owner`'s bytes.
    range: Range<usize>,
}

impl Bytes {
    /// Bytes over anything that hands them out.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let range = 0..owner.as_ref().len();
        Self { owner: Arc::new(owner), range }
    }

    /// The bytes of a file, mapped. The file must not be truncated while the value or a tensor of it lives.
    pub(super) fn map(path: &Path) -> Result<Self> {
        let fail = |e: std::io::Error| Diagnostic::user(format!("{}: cannot read the file: {e}", path.display()));
        let file = File::open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.len() == 0 {
            return Ok(Self::new(Vec::new()));
        }
        // SAFETY: the map is private and read-only. That nobody truncates or rewrites the file while it is mapped cannot
        // be enforced by us; it is the documented duty of the caller, as for every program that maps its inputs.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(fail)?;
        Ok(Self::new(map))
    }

    /// The part of these bytes at `range`, if it is inside.
    pub(super) fn slice(&self, range: Range<usize>) -> Option<Self> {
        let (start, end) = (self.range.start.checked_add(range.start)?, self.range.start.checked_add(range.end)?);
        (start <= end && end <= self.range.end).then(|| Self { owner: self.owner.clone(), range: start..end })
    }

    /// The same bytes at an address fit for elements of any type: themselves, or a copy.
    pub(super) fn aligned(self) -> Self {
        if self.as_ref().as_ptr().addr() % ELEMENT_ALIGNMENT_BYTES == 0 {
            return self;
        }
        let bytes = self.as_ref();
        let mut out = AlignedBuffer::with_capacity(bytes.len());
        out.bytes.extend_from_slice(bytes);
        out.finish()
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        (*self.owner).as_ref().get(self.range.clone()).unwrap_or(&[])
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({})", self.range.len())
    }
}

/// A growing buffer whose content starts at a multiple of [`ALIGNMENT_BYTES`], as long as it stays in its capacity.
pub(super) struct AlignedBuffer {
    /// Filler up to the aligned address, then the content.
    pub(super) bytes: Vec<u8>,
    skip: usize,
}

impl AlignedBuffer {
    /// An empty buffer with room for `n_bytes`.
    pub(super) fn with_capacity(n_bytes: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(n_bytes.saturating_add(ALIGNMENT_BYTES));
        let skip = bytes.as_ptr().addr().wrapping_neg() % ALIGNMENT_BYTES;
        bytes.resize(skip, 0);
        Self { bytes, skip }
    }

    /// The content.
    pub(super) fn finish(self) -> Bytes {
        let range = self.skip..self.bytes.len();
        Bytes { owner: Arc::new(self.bytes), range }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_and_stay_inside() {
        let bytes = Bytes::new(b"0123456789".to_vec());
        let part = bytes.slice(2..6).expect("inside");
        assert_eq!(part.as_ref(), b"2345");
        assert_eq!(part.slice(1..3).expect("inside").as_ref(), b"34");
        assert!(part.slice(1..5).is_none());
        assert!(bytes.slice(usize::MAX..usize::MAX).is_none());
    }

    #[test]
    fn unaligned_bytes_are_moved() {
        let bytes = Bytes::new(vec![7u8; 100]);
        for start in 0..20 {
            let aligned = bytes.slice(start..90).expect("inside").aligned();
            assert_eq!(aligned.as_ref().as_ptr().addr() % 16, 0);
            assert_eq!(aligned.as_ref(), &vec![7u8; 90 - start][..]);
        }
    }
}
