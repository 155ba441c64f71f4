//! The items of a list: numbers lie flat, eight bytes each, anything else as items.
//!
//! A list of numbers has a layout of its own, `kind, data, length, capacity`, so that compiled code reads, writes and appends
//! without a call ([`crate::object::layout`]). Which kind a list is follows from what was put in: an empty one takes the kind of
//! its first item, and one that gets an item of another kind becomes a list of items. Compiled code relies on this: what a list
//! of ints has room for is ints.
#![allow(unsafe_code, reason = "the layout is shared with compiled code, so the memory is a vector taken apart")]

use crate::object::Item;
use std::fmt;
use std::mem::{ManuallyDrop, offset_of};

/// What lies in a list's memory.
#[repr(u64)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Kind {
    /// [`Item`]s.
    Items = 0,
    /// `i64`
    Ints = 1,
    /// The bits of `f64`.
    Floats = 2,
    /// 0 or 1.
    Bools = 3,
}

/// The items of a list.
#[repr(C)]
pub struct List {
    kind: Kind,
    /// Of a vector of `Item` or `u64`, as `kind` says, and so are the two numbers.
    data: *mut u8,
    len: usize,
    capacity: usize,
}

// SAFETY: a list owns its memory and items, which may move between threads.
unsafe impl Send for List {}
// SAFETY: nothing changes through a shared reference.
unsafe impl Sync for List {}

/// The bits of a number with their kind; `None` for other items.
fn word(item: &Item) -> Option<(Kind, u64)> {
    match *item {
        Item::Bool(b) => Some((Kind::Bools, u64::from(b))),
        Item::Int(i) => Some((Kind::Ints, i as u64)),
        Item::Float(x) => Some((Kind::Floats, x.to_bits())),
        Item::None | Item::Complex(..) | Item::Object(_) => None,
    }
}

fn item(kind: Kind, word: u64) -> Item {
    match kind {
        Kind::Ints => Item::Int(word as i64),
        Kind::Floats => Item::Float(f64::from_bits(word)),
        Kind::Bools => Item::Bool(word != 0),
        Kind::Items => Item::None,
    }
}

impl List {
    /// Where its fields are, in bytes from its start.
    pub const KIND: usize = offset_of!(Self, kind);
    /// As above.
    pub const DATA: usize = offset_of!(Self, data);
    /// As above.
    pub const LEN: usize = offset_of!(Self, len);
    /// As above.
    pub const CAPACITY: usize = offset_of!(Self, capacity);

    /// An empty list.
    pub fn new() -> Self {
        Self::of_items(Vec::new())
    }

    fn of<T>(kind: Kind, items: Vec<T>) -> Self {
        let mut items = ManuallyDrop::new(items);
        Self { kind, data: items.as_mut_ptr().cast(), len: items.len(), capacity: items.capacity() }
    }

    fn of_items(items: Vec<Item>) -> Self {
        Self::of(Kind::Items, items)
    }

    /// What lies in its memory.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no items.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The items of a list that is not flat; none of a flat one.
    pub fn items(&self) -> &[Item] {
        match self.kind {
            // SAFETY: taken from such a vector.
            Kind::Items => unsafe { std::slice::from_raw_parts(self.data.cast(), self.len) },
            Kind::Ints | Kind::Floats | Kind::Bools => &[],
        }
    }

    /// The numbers of a flat list as they lie there; none of others.
    pub fn words(&self) -> &[u64] {
        match self.kind {
            Kind::Items => &[],
            // SAFETY: taken from such a vector.
            Kind::Ints | Kind::Floats | Kind::Bools => unsafe {
                std::slice::from_raw_parts(self.data.cast(), self.len)
            },
        }
    }

    /// Changes the vector that the memory is, which is one of `T`.
    ///
    /// # Safety
    /// `T` is what `kind` says; the closure does not panic while it holds moved items.
    unsafe fn with<T, R>(&mut self, change: impl FnOnce(&mut Vec<T>) -> R) -> R {
        // SAFETY: these are the parts of such a vector; they are replaced below and not used before.
        let mut items = unsafe { Vec::from_raw_parts(self.data.cast::<T>(), self.len, self.capacity) };
        let result = change(&mut items);
        let mut items = ManuallyDrop::new(items);
        (self.data, self.len, self.capacity) = (items.as_mut_ptr().cast(), items.len(), items.capacity());
        result
    }

    fn with_items<R>(&mut self, change: impl FnOnce(&mut Vec<Item>) -> R) -> R {
        self.spread();
        // SAFETY: now its memory holds items.
        unsafe { self.with(change) }
    }

    fn with_words<R>(&mut self, change: impl FnOnce(&mut Vec<u64>) -> R) -> R {
        debug_assert_ne!(self.kind, Kind::Items);
        // SAFETY: callers have seen that it is flat.
        unsafe { self.with(change) }
    }

    /// Makes it a list of items.
    fn spread(&mut self) {
        if self.kind != Kind::Items {
            *self = Self::of_items(self.iter().collect());
        }
    }

    /// The bits of an item that can be put in as they are; an empty list takes the kind of its first number.
    fn fitting(&mut self, item: &Item) -> Option<u64> {
        let (kind, word) = word(item)?;
        if self.kind != kind {
            if self.len > 0 {
                return None;
            }
            *self = Self::of::<u64>(kind, Vec::new());
        }
        Some(word)
    }

    /// Item `at`, which exists.
    pub fn get(&self, at: usize) -> Item {
        match self.kind {
            Kind::Items => self.items()[at].clone(),
            kind @ (Kind::Ints | Kind::Floats | Kind::Bools) => item(kind, self.words()[at]),
        }
    }

    /// All items.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Item> + DoubleEndedIterator {
        (0..self.len).map(|at| self.get(at))
    }

    /// Appends.
    pub fn push(&mut self, item: Item) {
        match self.fitting(&item) {
            Some(word) => self.with_words(|words| words.push(word)),
            None => self.with_items(|items| items.push(item)),
        }
    }

    /// Replaces item `at`, which exists; gives the former one.
    pub fn set(&mut self, at: usize, new: Item) -> Item {
        let old = self.get(at);
        match self.fitting(&new) {
            Some(word) => self.with_words(|words| words[at] = word),
            None => self.with_items(|items| items[at] = new),
        }
        old
    }

    /// Inserts before position `at`, which is at most the length.
    pub fn insert(&mut self, at: usize, item: Item) {
        match self.fitting(&item) {
            Some(word) => self.with_words(|words| words.insert(at, word)),
            None => self.with_items(|items| items.insert(at, item)),
        }
    }

    /// Takes item `at`, which exists, out.
    pub fn remove(&mut self, at: usize) -> Item {
        match self.kind {
            Kind::Items => self.with_items(|items| items.remove(at)),
            kind @ (Kind::Ints | Kind::Floats | Kind::Bools) => item(kind, self.with_words(|words| words.remove(at))),
        }
    }

    /// Appends all items of another list.
    pub fn extend(&mut self, more: &Self) {
        if self.is_empty() {
            *self = more.clone();
        } else if self.kind == more.kind && self.kind != Kind::Items {
            self.with_words(|words| words.extend_from_slice(more.words()));
        } else {
            self.with_items(|items| items.extend(more.iter()));
        }
    }

    /// Turns the order round.
    pub fn reverse(&mut self) {
        match self.kind {
            Kind::Items => self.with_items(|items| items.reverse()),
            Kind::Ints | Kind::Floats | Kind::Bools => self.with_words(|words| words.reverse()),
        }
    }

    /// Sorts, keeping the order of equals.
    pub fn sort_by(&mut self, order: impl Fn(&Item, &Item) -> std::cmp::Ordering) {
        match self.kind {
            Kind::Items => {
                let mut sorted = self.items().to_vec();
                sorted.sort_by(order);
                *self = Self::of_items(sorted);
            }
            kind @ (Kind::Ints | Kind::Floats | Kind::Bools) => {
                self.with_words(|words| words.sort_by(|a, b| order(&item(kind, *a), &item(kind, *b))));
            }
        }
    }

    /// The items at these positions, which exist.
    #[must_use]
    pub fn pick(&self, positions: impl Iterator<Item = usize>) -> Self {
        match self.kind {
            Kind::Items => Self::of_items(positions.map(|at| self.items()[at].clone()).collect()),
            kind @ (Kind::Ints | Kind::Floats | Kind::Bools) => {
                let words = self.words();
                Self::of::<u64>(kind, positions.map(|at| words[at]).collect())
            }
        }
    }
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for List {
    fn drop(&mut self) {
        let (data, len, capacity) = (self.data, self.len, self.capacity);
        match self.kind {
            // SAFETY: these are the parts of such a vector, which is not used again.
            Kind::Items => drop(unsafe { Vec::from_raw_parts(data.cast::<Item>(), len, capacity) }),
            Kind::Ints | Kind::Floats | Kind::Bools => {
                // SAFETY: as above.
                drop(unsafe { Vec::from_raw_parts(data.cast::<u64>(), len, capacity) });
            }
        }
    }
}

impl Clone for List {
    fn clone(&self) -> Self {
        match self.kind {
            Kind::Items => Self::of_items(self.items().to_vec()),
            kind @ (Kind::Ints | Kind::Floats | Kind::Bools) => Self::of(kind, self.words().to_vec()),
        }
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl FromIterator<Item> for List {
    fn from_iter<I: IntoIterator<Item = Item>>(items: I) -> Self {
        let mut list = Self::new();
        items.into_iter().for_each(|item| list.push(item));
        list
    }
}

impl From<Vec<Item>> for List {
    fn from(items: Vec<Item>) -> Self {
        // An empty one has no memory, so that what is put in first finds none of another kind's.
        if items.first().is_none_or(|first| word(first).is_some()) {
            items.into_iter().collect()
        } else {
            Self::of_items(items)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(list: &List) -> String {
        format!("{:?} {list:?}", list.kind())
    }

    #[test]
    fn numbers_lie_flat_until_another_kind_comes() {
        let mut list: List = [Item::Int(3), Item::Int(1)].into_iter().collect();
        list.push(Item::Int(2));
        list.insert(0, Item::Int(9));
        assert_eq!(text(&list), "Ints [Int(9), Int(3), Int(1), Int(2)]");
        list.reverse();
        let copy = list.clone();
        list.extend(&copy);
        assert!(matches!(list.remove(0), Item::Int(2)));
        assert_eq!(text(&list.pick((0..5).step_by(2))), "Ints [Int(1), Int(9), Int(1)]");
        assert!(matches!(list.set(0, Item::None), Item::Int(1)));
        assert_eq!(text(&list), "Items [None, Int(3), Int(9), Int(2), Int(1), Int(3), Int(9)]");
    }

    #[test]
    fn an_emptied_list_takes_the_kind_of_what_comes_next() {
        let mut list = List::from(vec![Item::from(crate::object::Body::Str(b"x".to_vec().into()))]);
        assert_eq!(list.kind(), Kind::Items);
        drop(list.remove(0));
        list.push(Item::Float(0.5));
        assert_eq!(text(&list), "Floats [Float(0.5)]");
        assert!(matches!(list.remove(0), Item::Float(_)));
        list.push(Item::Bool(true));
        assert_eq!(text(&list), "Bools [Bool(true)]");
    }
}
