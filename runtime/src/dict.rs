//! The entries of a dict: in the order of insertion, found through a table of hashes.
//!
//! The table holds positions of entries and is probed linearly. A removed entry leaves a gap in the order, which is closed when
//! the gaps are as many as the entries; so insertion, look-up and removal cost the same however many there are.

use crate::object::{Body, Item};
use crate::routines::is_equal;

/// A free place of the table.
const FREE: usize = usize::MAX;
/// Up to this many entries are compared one by one, without a table.
const FEW: usize = 8;
/// An odd number whose bits look random: 2^64 divided by the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// A key to look for.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Key<'a> {
    Int(i64),
    Text(&'a [u8]),
    Item(&'a Item),
}

#[derive(Clone, Debug)]
struct Entry {
    hash: u64,
    /// Key and value; `None` where they were removed.
    pair: Option<(Item, Item)>,
}

/// The entries of a dict.
#[derive(Clone, Debug, Default)]
pub struct Dict {
    entries: Vec<Entry>,
    /// Entries that were not removed.
    len: usize,
    /// Positions of entries by hash, or [`FREE`]; a power of two and at least twice the entries, or empty.
    table: Vec<usize>,
}

fn mix(hash: u64, word: u64) -> u64 {
    let wide = u128::from(hash ^ word).wrapping_mul(u128::from(MIX));
    (wide as u64) ^ (wide >> 64) as u64
}

fn hash_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words
        .iter()
        .fold(mix(MIX, bytes.len() as u64), |hash, word| mix(hash.rotate_left(23), u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash.rotate_left(23), u64::from_le_bytes(last))
}

fn hash_int(int: i64) -> u64 {
    mix(MIX, int as u64)
}

/// Equal items, as `is_equal` has it, have equal hashes.
fn hash_item(item: &Item) -> u64 {
    let float = |x: f64| mix(MIX, if x == x.trunc() { x as i64 as u64 } else { x.to_bits() });
    match item {
        Item::None => 0,
        Item::Bool(b) => mix(MIX, u64::from(*b)),
        Item::Int(i) => hash_int(*i),
        Item::Float(x) => float(*x),
        Item::Complex(re, im) => float(*re) ^ float(*im).rotate_left(1),
        Item::Object(object) => match object.body() {
            Body::Str(bytes) => hash_bytes(bytes),
            Body::Tuple(items) | Body::NamedTuple(_, items) => {
                items.iter().fold(MIX, |hash, item| mix(hash.rotate_left(23), hash_item(item)))
            }
            // Lists and dicts compare by contents, which may change; the others by identity.
            Body::List(_) | Body::Dict(_) => 1,
            Body::Tensor(_) | Body::Future(_) | Body::Boxed(_) | Body::Instance(_) => mix(MIX, object.as_raw() as u64),
        },
    }
}

impl Key<'_> {
    fn hash(self) -> u64 {
        match self {
            Self::Int(int) => hash_int(int),
            Self::Text(bytes) => hash_bytes(bytes),
            Self::Item(item) => hash_item(item),
        }
    }

    fn is(self, item: &Item) -> bool {
        match self {
            Self::Int(int) => match item {
                Item::Int(key) => *key == int,
                _ => is_equal(item, &Item::Int(int)),
            },
            Self::Text(bytes) => matches!(item, Item::Object(o) if matches!(o.body(), Body::Str(b) if **b == *bytes)),
            Self::Item(key) => is_equal(item, key),
        }
    }
}

impl Dict {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = &(Item, Item)> {
        self.entries.iter().filter_map(|entry| entry.pair.as_ref())
    }

    fn start(&self, hash: u64) -> usize {
        hash as usize & (self.table.len() - 1)
    }

    #[inline]
    fn find(&self, key: Key<'_>, hash: u64) -> Option<usize> {
        let is_it = |entry: &Entry| entry.hash == hash && entry.pair.as_ref().is_some_and(|(k, _)| key.is(k));
        if self.table.is_empty() {
            return self.entries.iter().position(is_it);
        }
        let mut at = self.start(hash);
        loop {
            match self.table[at] {
                FREE => return None,
                position if is_it(&self.entries[position]) => return Some(position),
                _ => at = (at + 1) & (self.table.len() - 1),
            }
        }
    }

    /// The value of a key.
    pub fn get(&self, key: Key<'_>) -> Option<&Item> {
        let at = self.find(key, key.hash())?;
        self.entries[at].pair.as_ref().map(|(_, value)| value)
    }

    /// Sets the value of a key; gives the former one.
    pub fn insert(&mut self, key: Item, value: Item) -> Option<Item> {
        let hash = hash_item(&key);
        if let Some(at) = self.find(Key::Item(&key), hash) {
            return self.entries[at].pair.as_mut().map(|(_, old)| std::mem::replace(old, value));
        }
        self.push(hash, key, value);
        None
    }

    /// The value of a key, to be changed.
    #[inline]
    pub fn get_mut(&mut self, key: Key<'_>) -> Option<&mut Item> {
        let at = self.find(key, key.hash())?;
        self.entries[at].pair.as_mut().map(|(_, value)| value)
    }

    fn push(&mut self, hash: u64, key: Item, value: Item) {
        self.len += 1;
        self.entries.push(Entry { hash, pair: Some((key, value)) });
        if self.entries.len() * 2 > self.table.len() && self.entries.len() > FEW {
            self.rebuild();
        } else if !self.table.is_empty() {
            self.enter(self.entries.len() - 1);
        }
    }

    fn enter(&mut self, position: usize) {
        let mut at = self.start(self.entries[position].hash);
        while self.table[at] != FREE {
            at = (at + 1) & (self.table.len() - 1);
        }
        self.table[at] = position;
    }

    /// Closes the gaps and makes a table with room for as many entries again.
    fn rebuild(&mut self) {
        self.entries.retain(|entry| entry.pair.is_some());
        self.table.clear();
        if self.entries.len() > FEW {
            self.table.resize((self.entries.len() * 4).next_power_of_two(), FREE);
            (0..self.entries.len()).for_each(|position| self.enter(position));
        }
    }

    /// Takes a key out with its value.
    pub fn remove(&mut self, key: Key<'_>) -> Option<(Item, Item)> {
        let at = self.find(key, key.hash())?;
        let pair = self.entries[at].pair.take();
        self.len -= 1;
        if self.len * 2 < self.entries.len() {
            self.rebuild();
        }
        pair
    }
}

impl FromIterator<(Item, Item)> for Dict {
    fn from_iter<I: IntoIterator<Item = (Item, Item)>>(entries: I) -> Self {
        let mut dict = Self::default();
        for (key, value) in entries {
            dict.insert(key, value);
        }
        dict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Item {
        Item::from(Body::Str(text.as_bytes().into()))
    }

    fn int(item: Option<&Item>) -> Option<i64> {
        item.map(|item| if let Item::Int(i) = item { *i } else { -1 })
    }

    #[test]
    fn entries_are_found_whatever_was_put_in_and_taken_out() {
        let mut dict = Dict::default();
        let mut model: Vec<(i64, i64)> = Vec::new();
        let mut state = 1_u64;
        for round in 0..4000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let key = (state >> 40) as i64 % 300;
            let at = model.iter().position(|(k, _)| *k == key);
            if state >> 33 & 1 == 0 {
                let removed = dict.remove(Key::Item(&Item::Int(key)));
                assert_eq!(removed.is_some(), at.is_some());
                at.map(|at| model.remove(at));
            } else {
                let old = dict.insert(Item::Int(key), Item::Int(round));
                assert_eq!(int(old.as_ref()), at.map(|at| model[at].1));
                match at {
                    Some(at) => model[at].1 = round,
                    None => model.push((key, round)),
                }
            }
            assert_eq!(dict.len(), model.len());
        }
        let found: Vec<_> = dict.iter().map(|(k, v)| (int(Some(k)), int(Some(v)))).collect();
        assert_eq!(found, model.iter().map(|&(k, v)| (Some(k), Some(v))).collect::<Vec<_>>());
        assert!(model.iter().all(|(k, v)| int(dict.get(Key::Item(&Item::Int(*k)))) == Some(*v)));
    }

    #[test]
    fn equal_keys_of_several_forms_are_one() {
        let mut dict = Dict::default();
        for i in 0..20 {
            assert!(dict.insert(text(&format!("a long key number {i}")), Item::Int(i)).is_none());
        }
        assert_eq!(int(dict.get(Key::Text(b"a long key number 7"))), Some(7));
        assert_eq!(int(dict.get(Key::Item(&text("a long key number 19")))), Some(19));
        assert!(dict.get(Key::Text(b"a long key number")).is_none());
        assert!(dict.get_mut(Key::Text(b"x")).is_none());
        *dict.get_mut(Key::Text(b"a long key number 3")).unwrap() = Item::Int(-3);
        assert_eq!(int(dict.get(Key::Text(b"a long key number 3"))), Some(-3));
        dict.insert(Item::Float(2.0), Item::Int(-2));
        assert_eq!(int(dict.get(Key::Item(&Item::Int(2)))), Some(-2));
    }
}
