//! Sorting and selection of rows of row-major tensors.
//!
//! Where PyTorch leaves the order of equal elements open, it is still what its algorithms make of it, and programs see it in
//! the indices. So these are the same algorithms step by step: introsort, introselect, heap selection and quickselect with a
//! median of three, as C++ standard libraries and PyTorch have them. NaN counts as greater than every number.
#![allow(unsafe_code, reason = "writes to buffers of compiled code")]

use super::Call;
use super::text::element;
use crate::abi::Status;
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Tensor};

/// What rows are compared by.
enum Keys {
    Int(Vec<i64>),
    Float(Vec<f64>),
}

impl Keys {
    fn new(tensor: &Tensor) -> Self {
        let bytes = tensor.to_bytes();
        if tensor.dtype == Dtype::I64 {
            return Self::Int(bytes.chunks_exact(8).map(|c| c.try_into().map_or(0, i64::from_ne_bytes)).collect());
        }
        Self::Float((0..tensor.n_elements()).map(|i| element(tensor, &bytes, i)).collect())
    }

    fn less(&self, a: usize, b: usize) -> bool {
        match self {
            Self::Int(keys) => keys[a] < keys[b],
            Self::Float(keys) => keys[a] < keys[b] || keys[b].is_nan() && !keys[a].is_nan(),
        }
    }

    fn is_nan(&self, a: usize) -> bool {
        matches!(self, Self::Float(keys) if keys[a].is_nan())
    }

    /// Whether `a` comes before `b`.
    fn before(&self, a: usize, b: usize, is_descending: bool) -> bool {
        if is_descending { self.less(b, a) } else { self.less(a, b) }
    }
}

/// The rows of a selection: `(input, values, indices, ..)`, rows along the last dimension.
struct Rows {
    input: Tensor,
    keys: Keys,
    /// Elements of an input row.
    n: usize,
    /// Elements of a result row.
    k: usize,
    n_rows: usize,
    bytes: Vec<u8>,
    values: Tensor,
    indices: Tensor,
}

impl Rows {
    fn new(call: &Call<'_>) -> Result<Self> {
        let (input, values, indices) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
        let n = input.sizes.last().map_or(1, |&n| n as usize);
        let k = values.sizes.last().map_or(1, |&k| k as usize);
        let n_rows = input.n_elements().checked_div(n).unwrap_or(0);
        let fits = k <= n && values.n_elements() == n_rows * k && indices.n_elements() == n_rows * k;
        if indices.dtype != Dtype::I64 || values.dtype != input.dtype || n > 0 && !fits {
            return Err(Error::new(Status::Internal, "sort: buffers do not fit"));
        }
        let bytes = input.to_bytes();
        Ok(Self { keys: Keys::new(&input), n, k, n_rows, bytes, input, values, indices })
    }

    /// Fills each result row with the first elements of the order that `arrange` makes of the row's numbers.
    fn each(&self, mut arrange: impl FnMut(&Keys, &mut Vec<usize>)) {
        if self.n == 0 || self.k == 0 {
            return;
        }
        let item = self.input.item_bytes();
        // SAFETY: row-major memory of this size, which the routine may write; the element type of indices is checked.
        let (out, numbers) = unsafe {
            (
                std::slice::from_raw_parts_mut(self.values.data(), self.values.size_bytes()),
                std::slice::from_raw_parts_mut(self.indices.data().cast::<i64>(), self.indices.n_elements()),
            )
        };
        let mut order: Vec<usize> = Vec::with_capacity(self.n);
        for row in 0..self.n_rows {
            let first = row * self.n;
            order.clear();
            order.extend(first..first + self.n);
            arrange(&self.keys, &mut order);
            for (j, &from) in order[..self.k].iter().enumerate() {
                let to = row * self.k + j;
                out[to * item..(to + 1) * item].copy_from_slice(&self.bytes[from * item..(from + 1) * item]);
                numbers[to] = (from - first) as i64;
            }
        }
    }
}

/// `sort(input, values, indices, descending, stable)`: along the last dimension. `values` and `indices` may be shorter along
/// it than `input`: then they take the first ones.
pub(super) fn sort(call: &mut Call<'_>) -> Result<()> {
    let rows = Rows::new(call)?;
    let is_descending = call.int_or(3, 0)? != 0;
    let is_stable = call.int_or(4, 1)? != 0;
    rows.each(|keys, order| {
        if is_stable {
            order.sort_by(|&a, &b| {
                if keys.before(a, b, is_descending) {
                    std::cmp::Ordering::Less
                } else if keys.before(b, a, is_descending) {
                    std::cmp::Ordering::Greater
                } else {
                    std::cmp::Ordering::Equal
                }
            });
        } else {
            introsort(order, &mut |a, b| keys.before(a, b, is_descending));
        }
    });
    Ok(())
}

/// `topk(input, values, indices, largest, sorted)`: as many as `values` has along the last dimension.
pub(super) fn topk(call: &mut Call<'_>) -> Result<()> {
    let rows = Rows::new(call)?;
    let (is_largest, is_sorted) = (call.int_or(3, 1)? != 0, call.int_or(4, 1)? != 0);
    let k = rows.k;
    rows.each(|keys, order| {
        let mut before = |a: usize, b: usize| keys.before(a, b, is_largest);
        // A few of many are found with a heap, as PyTorch does.
        if k * 64 <= order.len() {
            heap_select(order, k, &mut before);
            sort_heap(&mut order[..k], &mut before);
        } else {
            introselect(order, k - 1, &mut before);
            if is_sorted {
                introsort(&mut order[..k - 1], &mut before);
            }
        }
    });
    Ok(())
}

/// `kth(input, values, indices, k)`: the `k`-th least element of each row, from 1.
pub(super) fn kth(call: &mut Call<'_>) -> Result<()> {
    let rows = Rows::new(call)?;
    let k = call.int(3)?;
    let Some(at) = usize::try_from(k - 1).ok().filter(|k| *k < rows.n) else {
        return super::raise("RuntimeError", "kthvalue(): selected number k out of range");
    };
    rows.each(|keys, order| {
        quickselect(order, at, &mut |a, b| keys.less(b, a));
        order[0] = order[at];
    });
    Ok(())
}

/// `median(input, values, indices, ignore_nan)`: the lower median of each row; the first NaN if there is one.
pub(super) fn median(call: &mut Call<'_>) -> Result<()> {
    let rows = Rows::new(call)?;
    let ignores_nan = call.int_or(3, 0)? != 0;
    rows.each(|keys, order| {
        let nan = order.iter().copied().find(|&i| keys.is_nan(i));
        if let Some(nan) = nan.filter(|_| !ignores_nan) {
            order[0] = nan;
            return;
        }
        let n_nan = order.iter().filter(|&&i| keys.is_nan(i)).count();
        let at = (order.len() - n_nan).saturating_sub(1) / 2;
        introselect(order, at, &mut |a, b| keys.less(a, b));
        order[0] = order[at];
    });
    Ok(())
}

/// `mode(input, values, indices)`: the most frequent element of each row, the least of several.
pub(super) fn mode(call: &mut Call<'_>) -> Result<()> {
    let rows = Rows::new(call)?;
    rows.each(|keys, order| {
        introsort(order, &mut |a, b| keys.less(a, b));
        let (mut best, mut best_length, mut length) = (order[0], 0, 0);
        for i in 0..order.len() {
            length += 1;
            if i + 1 == order.len() || keys.less(order[i], order[i + 1]) {
                if length > best_length {
                    (best, best_length) = (order[i], length);
                }
                length = 0;
            }
        }
        order[0] = best;
    });
    Ok(())
}

/// `sort_rows(input, order, starts)`: numbers of the rows of a matrix in lexicographic order, and whether each is the first
/// of its kind.
pub(super) fn sort_rows(call: &mut Call<'_>) -> Result<()> {
    let (input, order, starts) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let n = order.n_elements();
    let width = input.n_elements().checked_div(n).unwrap_or(0);
    if order.dtype != Dtype::I64 || starts.dtype != Dtype::BOOL || starts.n_elements() != n {
        return Err(Error::new(Status::Internal, "sort_rows: buffers do not fit"));
    }
    if n == 0 {
        return Ok(());
    }
    let keys = Keys::new(&input);
    let less = |a: usize, b: usize| {
        for column in 0..width {
            let (p, q) = (a * width + column, b * width + column);
            if keys.less(p, q) {
                return true;
            }
            if keys.less(q, p) {
                return false;
            }
        }
        false
    };
    let mut numbers: Vec<usize> = (0..n).collect();
    introsort(&mut numbers, &mut |a, b| less(a, b));
    // SAFETY: element types and lengths are checked; nothing else uses the memory.
    let (out, flags) = unsafe {
        (
            std::slice::from_raw_parts_mut(order.data().cast::<i64>(), n),
            std::slice::from_raw_parts_mut(starts.data(), n),
        )
    };
    for (i, &number) in numbers.iter().enumerate() {
        out[i] = number as i64;
        flags[i] = u8::from(i == 0 || less(numbers[i - 1], number) || less(number, numbers[i - 1]));
    }
    Ok(())
}

// ---- algorithms: `before(a, b)` says whether `a` must come before `b`

type Before<'a> = dyn FnMut(usize, usize) -> bool + 'a;

/// Rounds of partitioning after which a heap takes over.
fn depth_limit(n: usize) -> u32 {
    2 * n.checked_ilog2().unwrap_or(0)
}

fn introsort(items: &mut [usize], before: &mut Before<'_>) {
    if items.len() < 2 {
        return;
    }
    introsort_loop(items, depth_limit(items.len()), before);
    let head = items.len().min(16);
    insertion_sort(&mut items[..head], before);
    for i in head..items.len() {
        insert_backwards(items, i, before);
    }
}

fn introsort_loop(items: &mut [usize], mut depth: u32, before: &mut Before<'_>) {
    let mut end = items.len();
    while end > 16 {
        if depth == 0 {
            heap_select(&mut items[..end], end, before);
            sort_heap(&mut items[..end], before);
            return;
        }
        depth -= 1;
        let cut = partition(&mut items[..end], before);
        introsort_loop(&mut items[cut..end], depth, before);
        end = cut;
    }
}

/// Puts the element that belongs at `at` there; smaller ones come before it.
fn introselect(items: &mut [usize], at: usize, before: &mut Before<'_>) {
    if items.is_empty() || at >= items.len() {
        return;
    }
    let (mut first, mut last) = (0, items.len());
    let mut depth = depth_limit(items.len());
    while last - first > 3 {
        if depth == 0 {
            heap_select(&mut items[first..last], at + 1 - first, before);
            items.swap(first, at);
            return;
        }
        depth -= 1;
        let cut = first + partition(&mut items[first..last], before);
        if cut <= at {
            first = cut;
        } else {
            last = cut;
        }
    }
    insertion_sort(&mut items[first..last], before);
}

/// Moves the median of three to the front and cuts the rest at it; where the second part starts.
fn partition(items: &mut [usize], before: &mut Before<'_>) -> usize {
    let (a, b, c) = (1, items.len() / 2, items.len() - 1);
    let median = if before(items[a], items[b]) {
        if before(items[b], items[c]) {
            b
        } else if before(items[a], items[c]) {
            c
        } else {
            a
        }
    } else if before(items[a], items[c]) {
        a
    } else if before(items[b], items[c]) {
        c
    } else {
        b
    };
    items.swap(0, median);
    let (mut low, mut high) = (1, items.len());
    loop {
        while before(items[low], items[0]) {
            low += 1;
        }
        high -= 1;
        while before(items[0], items[high]) {
            high -= 1;
        }
        if low >= high {
            return low;
        }
        items.swap(low, high);
        low += 1;
    }
}

fn insertion_sort(items: &mut [usize], before: &mut Before<'_>) {
    for i in 1..items.len() {
        if before(items[i], items[0]) {
            items[..=i].rotate_right(1);
        } else {
            insert_backwards(items, i, before);
        }
    }
}

/// Moves the element at `i` back past those it comes before; one that it does not is in front.
fn insert_backwards(items: &mut [usize], i: usize, before: &mut Before<'_>) {
    let item = items[i];
    let mut at = i;
    while at > 0 && before(item, items[at - 1]) {
        items[at] = items[at - 1];
        at -= 1;
    }
    items[at] = item;
}

/// Makes a heap of the `k` elements that come first, with the last of them on top.
fn heap_select(items: &mut [usize], k: usize, before: &mut Before<'_>) {
    for parent in (0..k / 2).rev() {
        let item = items[parent];
        sift(&mut items[..k], parent, item, before);
    }
    for i in k..items.len() {
        if k > 0 && before(items[i], items[0]) {
            let item = items[i];
            items[i] = items[0];
            sift(&mut items[..k], 0, item, before);
        }
    }
}

fn sort_heap(items: &mut [usize], before: &mut Before<'_>) {
    for end in (1..items.len()).rev() {
        let item = items[end];
        items[end] = items[0];
        sift(&mut items[..end], 0, item, before);
    }
}

/// Fills the hole in a heap with an item: the hole goes down to a leaf, then the item rises to its place.
fn sift(heap: &mut [usize], top: usize, item: usize, before: &mut Before<'_>) {
    let n = heap.len();
    let mut hole = top;
    while 2 * hole + 2 < n {
        let mut child = 2 * hole + 2;
        if before(heap[child], heap[child - 1]) {
            child -= 1;
        }
        heap[hole] = heap[child];
        hole = child;
    }
    if 2 * hole + 2 == n {
        heap[hole] = heap[2 * hole + 1];
        hole = 2 * hole + 1;
    }
    while hole > top {
        let parent = (hole - 1) / 2;
        if !before(heap[parent], item) {
            break;
        }
        heap[hole] = heap[parent];
        hole = parent;
    }
    heap[hole] = item;
}

/// Puts the element that belongs at `at` there. `after(a, b)` says whether `a` must come after `b`.
fn quickselect(items: &mut [usize], at: usize, after: &mut Before<'_>) {
    let (mut left, mut right) = (0, items.len() - 1);
    loop {
        if right <= left {
            return;
        }
        if right == left + 1 {
            if after(items[left], items[right]) {
                items.swap(left, right);
            }
            return;
        }
        items.swap(left + (right - left) / 2, left + 1);
        for (a, b) in [(left + 1, right), (left, right), (left + 1, left)] {
            if after(items[a], items[b]) {
                items.swap(a, b);
            }
        }
        let (mut i, mut j) = (left + 1, right);
        let pivot = items[left];
        loop {
            i += 1;
            while after(pivot, items[i]) {
                i += 1;
            }
            j -= 1;
            while after(items[j], pivot) {
                j -= 1;
            }
            if j < i {
                break;
            }
            items.swap(i, j);
        }
        items.swap(left, j);
        if j <= at {
            left = i;
        }
        if j >= at {
            // The pivot's place is at least `left`, which is not 0 here unless nothing is left.
            right = j.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers with many repeats, and some order to defeat.
    fn keys(n: usize) -> Vec<usize> {
        (0..n).map(|i| (i * 7919 + i / 3) % (n / 4 + 1)).collect()
    }

    #[test]
    fn every_way_of_sorting_sorts() {
        for n in [0, 1, 2, 15, 16, 17, 40, 1000] {
            let keys = keys(n);
            let mut expected = keys.clone();
            expected.sort_unstable();
            let sorted = |order: &[usize]| order.iter().map(|&i| keys[i]).collect::<Vec<_>>();
            let mut order: Vec<usize> = (0..n).collect();
            introsort(&mut order, &mut |a, b| keys[a] < keys[b]);
            assert_eq!(sorted(&order), expected);
            let mut order: Vec<usize> = (0..n).collect();
            heap_select(&mut order, n, &mut |a, b| keys[a] < keys[b]);
            sort_heap(&mut order, &mut |a, b| keys[a] < keys[b]);
            assert_eq!(sorted(&order), expected);
        }
    }

    #[test]
    fn selections_find_the_element_of_a_rank() {
        let keys = keys(300);
        let mut expected = keys.clone();
        expected.sort_unstable();
        for at in [0, 1, 150, 299] {
            let mut order: Vec<usize> = (0..keys.len()).collect();
            introselect(&mut order, at, &mut |a, b| keys[a] < keys[b]);
            assert_eq!(keys[order[at]], expected[at]);
            let mut order: Vec<usize> = (0..keys.len()).collect();
            quickselect(&mut order, at, &mut |a, b| keys[a] > keys[b]);
            assert_eq!(keys[order[at]], expected[at]);
            let mut order: Vec<usize> = (0..keys.len()).collect();
            heap_select(&mut order, at + 1, &mut |a, b| keys[a] < keys[b]);
            sort_heap(&mut order[..=at], &mut |a, b| keys[a] < keys[b]);
            assert_eq!(keys[order[at]], expected[at]);
        }
    }
}
