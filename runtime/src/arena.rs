//! Aligned memory: arenas, slots, tensors' storage. Comes from the host's allocator where one was given at open.
#![allow(unsafe_code, reason = "raw aligned allocation")]

use crate::abi::{Slot, Status};
use crate::error::{Error, Result};
use std::alloc::Layout;
use std::ffi::c_void;

/// Alignment of every block, in bytes: a cache line and the widest vector.
pub const ALIGN: usize = 64;

/// Asks the host for memory.
pub type AllocFn = unsafe extern "C" fn(user: *mut c_void, bytes: usize, align: usize) -> *mut c_void;
/// Gives memory back to the host.
pub type FreeFn = unsafe extern "C" fn(user: *mut c_void, memory: *mut c_void);

/// Where memory comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator {
    /// The host's functions with their `user` argument; `None`: the system's allocator.
    pub host: Option<(AllocFn, FreeFn, usize)>,
}

/// A block of memory aligned to [`ALIGN`], freed when dropped.
#[derive(Debug)]
pub struct Memory {
    data: *mut u8,
    bytes: usize,
    allocator: Allocator,
}

// SAFETY: a block is plain memory owned by this value; who writes through the pointer answers for races.
unsafe impl Send for Memory {}
// SAFETY: as above; no method writes through a shared reference.
unsafe impl Sync for Memory {}

impl Memory {
    /// No memory: a null pointer and zero bytes.
    pub const fn empty() -> Self {
        Self { data: std::ptr::null_mut(), bytes: 0, allocator: Allocator { host: None } }
    }

    /// A block of at least this many bytes, zeroed. Zero bytes give a block that can be pointed at all the same.
    pub fn zeroed(bytes: usize, allocator: Allocator) -> Result<Self> {
        let memory = Self::allocate(bytes, allocator)?;
        // SAFETY: the block has `memory.bytes` bytes.
        unsafe { memory.data.write_bytes(0, memory.bytes) };
        Ok(memory)
    }

    /// A block of at least this many bytes with undefined contents.
    pub(crate) fn allocate(bytes: usize, allocator: Allocator) -> Result<Self> {
        let no_memory = || Error::new(Status::Memory, format!("cannot allocate {bytes} bytes"));
        let rounded = bytes.max(1).checked_next_multiple_of(ALIGN).ok_or_else(no_memory)?;
        let layout = Layout::from_size_align(rounded, ALIGN).map_err(|_| no_memory())?;
        let data = match allocator.host {
            // SAFETY: the host promised a function of this type at open.
            Some((alloc, _, user)) => unsafe { alloc(user as *mut c_void, rounded, ALIGN) }.cast::<u8>(),
            // SAFETY: the size is not zero.
            None => unsafe { std::alloc::alloc(layout) },
        };
        if data.is_null() {
            return Err(no_memory());
        }
        if !(data as usize).is_multiple_of(ALIGN) {
            return Err(Error::new(
                Status::Memory,
                "the host's allocator returned memory that is not aligned to 64 bytes",
            ));
        }
        Ok(Self { data, bytes: rounded, allocator })
    }

    /// The first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.data
    }

    /// Another block with the same bytes.
    pub(crate) fn try_clone(&self) -> Result<Self> {
        let copy = Self::allocate(self.bytes, self.allocator)?;
        // SAFETY: both blocks hold as many bytes, and the new one is elsewhere.
        unsafe { copy.data.copy_from_nonoverlapping(self.data, self.bytes) };
        Ok(copy)
    }

    /// Bytes that can be used.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is no memory.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn into_raw(self) -> (*mut u8, usize) {
        let raw = (self.data, self.bytes);
        std::mem::forget(self);
        raw
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.data.is_null() {
            return;
        }
        match self.allocator.host {
            // SAFETY: the block came from the host's `alloc` with the same `user`.
            Some((_, free, user)) => unsafe { free(user as *mut c_void, self.data.cast()) },
            // SAFETY: the block came from `alloc` with this layout.
            None => unsafe { std::alloc::dealloc(self.data, Layout::from_size_align_unchecked(self.bytes, ALIGN)) },
        }
    }
}

/// The growable slots of an instance.
#[derive(Debug)]
pub struct Slots {
    slots: Box<[Slot]>,
    allocator: Allocator,
}

// SAFETY: slots own plain memory.
unsafe impl Send for Slots {}

impl Slots {
    /// This many empty slots.
    pub fn new(n_slots: usize, allocator: Allocator) -> Self {
        let slots = (0..n_slots).map(|_| Slot { data: std::ptr::null_mut(), capacity_bytes: 0 }).collect();
        Self { slots, allocator }
    }

    /// The slots, as compiled code sees them.
    pub fn as_mut_ptr(&mut self) -> *mut Slot {
        self.slots.as_mut_ptr()
    }

    /// Makes a slot hold at least this many bytes. Growth is by half at least, and loses the contents.
    pub fn reserve(&mut self, slot: usize, bytes: usize) -> Result<()> {
        let allocator = self.allocator;
        let Some(slot) = self.slots.get_mut(slot) else {
            return Err(Error::new(Status::Internal, "no such memory slot"));
        };
        if slot.capacity_bytes >= bytes.max(1) {
            return Ok(());
        }
        let wanted = bytes.max(slot.capacity_bytes.saturating_add(slot.capacity_bytes / 2));
        let fresh = Memory::allocate(wanted, allocator).or_else(|_| Memory::allocate(bytes, allocator))?;
        free_slot(slot, allocator);
        (slot.data, slot.capacity_bytes) = fresh.into_raw();
        Ok(())
    }

    /// A copy with the same contents.
    pub fn try_clone(&self) -> Result<Self> {
        let mut copy = Self::new(self.slots.len(), self.allocator);
        for (i, slot) in self.slots.iter().enumerate() {
            if !slot.data.is_null() {
                copy.reserve(i, slot.capacity_bytes)?;
                // SAFETY: both blocks hold `capacity_bytes` and are distinct.
                unsafe { slot.data.copy_to_nonoverlapping(copy.slots[i].data, slot.capacity_bytes) };
            }
        }
        Ok(copy)
    }
}

fn free_slot(slot: &mut Slot, allocator: Allocator) {
    if !slot.data.is_null() {
        drop(Memory { data: slot.data, bytes: slot.capacity_bytes, allocator });
        *slot = Slot { data: std::ptr::null_mut(), capacity_bytes: 0 };
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            free_slot(slot, self.allocator);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_slots_grow() {
        let block = Memory::zeroed(5, Allocator::default()).unwrap();
        assert_eq!((block.as_ptr() as usize % ALIGN, block.len()), (0, 64));
        let mut slots = Slots::new(2, Allocator::default());
        slots.reserve(1, 100).unwrap();
        assert_eq!(slots.slots[1].capacity_bytes, 128);
        slots.reserve(1, 90).unwrap();
        assert_eq!(slots.slots[1].capacity_bytes, 128);
        assert!(slots.reserve(2, 1).is_err());
        assert!(slots.reserve(0, usize::MAX - 3).is_err());
        assert_eq!(slots.try_clone().unwrap().slots[1].capacity_bytes, 128);
    }
}
