//! The bytes of a string: short ones lie in the object itself, longer ones in memory that grows.
#![allow(unsafe_code, reason = "the layout is shared with compiled code, so the memory is a vector taken apart")]

use std::fmt;
use std::mem::{ManuallyDrop, offset_of};
use std::ops::Deref;

/// The longest text that needs no memory of its own.
const SHORT: usize = 48;

/// Bytes, UTF-8 by convention.
#[repr(C)]
pub struct Text {
    len: usize,
    /// Bytes that there is room for in memory of its own; 0 where it has none.
    capacity: usize,
    place: Place,
}

#[repr(C)]
union Place {
    /// Of a vector of `capacity` bytes.
    data: *mut u8,
    short: [u8; SHORT],
}

// SAFETY: a text owns its memory.
unsafe impl Send for Text {}
// SAFETY: nothing changes through a shared reference.
unsafe impl Sync for Text {}

impl Text {
    /// Where its fields are, in bytes from its start.
    pub const LEN: usize = offset_of!(Self, len);
    /// As above.
    pub const CAPACITY: usize = offset_of!(Self, capacity);
    /// As above; an address only where there is a capacity.
    pub const DATA: usize = offset_of!(Self, place);

    /// No bytes.
    pub fn new() -> Self {
        Self { len: 0, capacity: 0, place: Place { short: [0; SHORT] } }
    }

    fn of_vec(bytes: Vec<u8>) -> Self {
        let mut bytes = ManuallyDrop::new(bytes);
        Self { len: bytes.len(), capacity: bytes.capacity(), place: Place { data: bytes.as_mut_ptr() } }
    }

    /// Appends.
    pub fn extend_from_slice(&mut self, more: &[u8]) {
        if self.capacity == 0 {
            let end = self.len + more.len();
            if end <= SHORT {
                // SAFETY: a text without memory of its own lies in the field, all of which was written.
                let short = unsafe { &mut self.place.short };
                short[self.len..end].copy_from_slice(more);
                self.len = end;
                return;
            }
            let mut bytes = Vec::with_capacity(end.max(2 * SHORT));
            bytes.extend_from_slice(self);
            bytes.extend_from_slice(more);
            *self = Self::of_vec(bytes);
            return;
        }
        // SAFETY: the parts of a vector; they are replaced below and not used before, as appending does not panic midway.
        let mut bytes = unsafe { Vec::from_raw_parts(self.place.data, self.len, self.capacity) };
        bytes.extend_from_slice(more);
        let mut bytes = ManuallyDrop::new(bytes);
        (self.len, self.capacity, self.place) = (bytes.len(), bytes.capacity(), Place { data: bytes.as_mut_ptr() });
    }

    /// Appends the decimal digits of an integer.
    pub fn push_int(&mut self, value: i64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = value.unsigned_abs();
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            at -= 1;
            digits[at] = b'-';
        }
        self.extend_from_slice(&digits[at..]);
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.capacity == 0 {
            // SAFETY: a text without memory of its own lies in the field, all of which was written.
            unsafe { &self.place.short[..self.len] }
        } else {
            // SAFETY: the parts of a vector.
            unsafe { std::slice::from_raw_parts(self.place.data, self.len) }
        }
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: the parts of a vector, which is not used again.
            drop(unsafe { Vec::from_raw_parts(self.place.data, self.len, self.capacity) });
        }
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        let mut text = Self::new();
        text.extend_from_slice(bytes);
        text
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= SHORT { Self::from(&bytes[..]) } else { Self::of_vec(bytes) }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(self), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_grow_out_of_their_object() {
        let mut text = Text::new();
        let mut expected = Vec::new();
        for i in 0..40 {
            text.extend_from_slice(b"abc");
            text.push_int(i * i - 300);
            expected.extend_from_slice(format!("abc{}", i * i - 300).as_bytes());
            assert_eq!(*text, *expected);
        }
        let long = Text::from(expected.clone());
        assert_eq!(*long, *expected);
        assert_eq!(*Text::from(b"short".to_vec()), *b"short");
    }

    #[test]
    fn integers_have_all_their_digits() {
        for value in [0, 7, 10, -1, -10, i64::MAX, i64::MIN] {
            let mut text = Text::new();
            text.push_int(value);
            assert_eq!(*text, *value.to_string().as_bytes());
        }
    }
}
