//! The storage members that tensors share: found by key, checked against their declared lengths, in this machine's byte order.

use super::Fault;
use super::storage::{AlignedBuffer, Bytes};
use super::zip::Container;
use crate::types::Storage;
use std::collections::HashMap;
use std::sync::Arc;

/// Most bytes of zeros made up for tensors of which only type and shape were recorded.
const MAX_ZERO_BYTES: u64 = 256 << 20;

/// Byte order of the tensor elements in storages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

/// What an empty storage member with a declared length means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EmptyMember {
    /// The file is broken.
    Refused,
    /// Only type and shape were recorded: elements read as zero.
    Zeros,
}

/// Where the tensors of a pickle find their bytes.
pub(super) struct Storages<'a> {
    container: &'a Container,
    /// Members are `FOLDER/KEY`.
    folder: String,
    order: ByteOrder,
    empty: EmptyMember,
    /// Bytes of zeros that may still be made up for empty members.
    zeros_left: u64,
    loaded: HashMap<Arc<str>, Storage>,
}

impl<'a> Storages<'a> {
    pub(super) fn new(container: &'a Container, folder: String, order: ByteOrder, empty: EmptyMember) -> Self {
        Self { container, folder, order, empty, zeros_left: MAX_ZERO_BYTES, loaded: HashMap::new() }
    }

    /// The storage of `key`, which must have at least `size_bytes`; `unit_bytes` is what byte order is about.
    pub(super) fn load(&mut self, key: &Arc<str>, size_bytes: u64, unit_bytes: usize) -> Result<Storage, Fault> {
        let member = format!("{}/{key}", self.folder);
        let short = |have: u64| {
            Fault::bad(format!("storage {member} is declared with {size_bytes} bytes but its member has {have}"))
        };
        let storage = if let Some(storage) = self.loaded.get(key) {
            storage.clone()
        } else {
            let bytes = match self.container.size_bytes(&member) {
                None if size_bytes == 0 => Bytes::new(Vec::new()),
                Some(0) if self.empty == EmptyMember::Zeros => self.zeros(size_bytes)?,
                None => return Err(Fault::bad(format!("the storage member {member} is not found"))),
                Some(have) if have < size_bytes => return Err(short(have)),
                Some(have) if have > size_bytes && self.container.is_deflated(&member) => {
                    return Err(Fault::bad(format!(
                        "compressed storage {member} inflates to {have} bytes where {size_bytes} are declared"
                    )));
                }
                Some(_) => self.container.content(&member)?,
            };
            let storage = Storage::new(self.native(bytes, unit_bytes)?);
            self.loaded.insert(key.clone(), storage.clone());
            storage
        };
        let have = u64::try_from(storage.bytes().len()).unwrap_or(u64::MAX);
        if have < size_bytes { Err(short(have)) } else { Ok(storage) }
    }

    fn zeros(&mut self, size_bytes: u64) -> Result<Bytes, Fault> {
        let too_large = || Fault::Unsupported(format!("a tensor without data has {size_bytes} bytes"));
        self.zeros_left = self.zeros_left.checked_sub(size_bytes).ok_or_else(too_large)?;
        Ok(Bytes::new(vec![0; usize::try_from(size_bytes).map_err(|_| too_large())?]))
    }

    /// The bytes in this machine's order, which is little-endian on every target.
    fn native(&self, bytes: Bytes, unit_bytes: usize) -> Result<Bytes, Fault> {
        if self.order == ByteOrder::Little || unit_bytes == 1 {
            return Ok(bytes.aligned());
        }
        let bytes = bytes.as_ref();
        if bytes.len() % unit_bytes != 0 {
            return Err(Fault::bad("a big-endian storage is not a whole number of elements"));
        }
        let mut out = AlignedBuffer::with_capacity(bytes.len());
        bytes.chunks_exact(unit_bytes).for_each(|unit| out.bytes.extend(unit.iter().rev()));
        Ok(out.finish())
    }
}
