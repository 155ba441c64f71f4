//! Lists, dicts, tuples and tensor objects. Lists and dicts are shared by reference.
#![allow(unsafe_code, reason = "changes objects that variables share")]

use super::bits_of;
use super::{Call, raise};
use crate::abi::{Status, Tag};
use crate::dict::{Dict, Key};
use crate::error::{Error, Result};
use crate::list::{Kind, List};
use crate::object::{Body, Item};

/// Longest list that is made in one piece.
const MAX_ITEMS: usize = 1 << 32;

pub(super) fn wrong() -> Error {
    Error::new(Status::Internal, "a routine got an object of another kind")
}

/// The list operand.
fn list<'a>(call: &Call<'a>, i: usize) -> Result<&'a List> {
    match call.borrowed(i)?.body() {
        Body::List(items) => Ok(items),
        _ => Err(wrong()),
    }
}

/// Changes the list operand. The closure must not touch objects through other references.
fn with_list<T>(call: &Call<'_>, i: usize, change: impl FnOnce(&mut List) -> T) -> Result<T> {
    // SAFETY: a call runs on one thread, and the reference ends here; closures only move elements.
    match unsafe { call.borrowed(i)?.body_mut() } {
        Body::List(items) => Ok(change(items)),
        _ => Err(wrong()),
    }
}

/// The dict operand.
fn dict<'a>(call: &Call<'a>, i: usize) -> Result<&'a Dict> {
    match call.borrowed(i)?.body() {
        Body::Dict(entries) => Ok(entries),
        _ => Err(wrong()),
    }
}

fn with_dict<T>(call: &Call<'_>, i: usize, change: impl FnOnce(&mut Dict) -> T) -> Result<T> {
    // SAFETY: as in `with_list`.
    match unsafe { call.borrowed(i)?.body_mut() } {
        Body::Dict(entries) => Ok(change(entries)),
        _ => Err(wrong()),
    }
}

/// A position that may count from the end.
fn position(index: i64, len: usize) -> Result<usize> {
    let at = if index < 0 { index.wrapping_add(len as i64) } else { index };
    match usize::try_from(at) {
        Ok(at) if at < len => Ok(at),
        _ => Err(Error::raised("RuntimeError", "list index out of range", "")),
    }
}

/// Whether two elements are equal, as `==` compares them; tensors are equal only to themselves.
pub(crate) fn is_equal(a: &Item, b: &Item) -> bool {
    match (a, b) {
        (Item::None, Item::None) => true,
        (Item::Object(a), Item::Object(b)) => match (a.body(), b.body()) {
            (Body::Str(a), Body::Str(b)) => **a == **b,
            (Body::List(a), Body::List(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| is_equal(&a, &b))
            }
            (Body::Tuple(a), Body::Tuple(b)) | (Body::NamedTuple(_, a), Body::NamedTuple(_, b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b))
            }
            (Body::Dict(a), Body::Dict(b)) => {
                a.len() == b.len() && a.iter().all(|(k, v)| b.get(Key::Item(k)).is_some_and(|w| is_equal(v, w)))
            }
            _ => a.as_raw() == b.as_raw(),
        },
        (Item::Int(a), Item::Int(b)) => a == b,
        (Item::Bool(a), Item::Bool(b)) => a == b,
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        },
    }
}

fn number(item: &Item) -> Option<f64> {
    match item {
        Item::Bool(b) => Some(f64::from(u8::from(*b))),
        Item::Int(i) => Some(*i as f64),
        Item::Float(x) => Some(*x),
        Item::None | Item::Complex(..) | Item::Object(_) => None,
    }
}

/// `list_new(...)`: a new list; a kind operand is accepted and not needed, as elements know what they are.
pub(super) fn list_new(call: &mut Call<'_>) -> Result<()> {
    call.ret_body(Body::List(List::new()))
}

pub(super) fn list_push(call: &mut Call<'_>) -> Result<()> {
    let item = call.item(1)?;
    with_list(call, 0, |items| items.push(item))
}

/// `list_get(list or tuple, index)`
pub(super) fn list_get(call: &mut Call<'_>) -> Result<()> {
    let index = call.int(1)?;
    let item = match call.borrowed(0)?.body() {
        Body::List(items) => items.get(position(index, items.len())?),
        Body::Tuple(items) | Body::NamedTuple(_, items) => items[position(index, items.len())?].clone(),
        Body::Str(_) | Body::Dict(_) | Body::Tensor(_) | Body::Future(_) | Body::Boxed(_) | Body::Instance(_) => {
            return Err(wrong());
        }
    };
    call.ret_item(0, item)
}

pub(super) fn list_set(call: &mut Call<'_>) -> Result<()> {
    let item = call.item(2)?;
    let at = position(call.int(1)?, list(call, 0)?.len())?;
    let old = with_list(call, 0, |items| items.set(at, item))?;
    drop(old);
    Ok(())
}

/// `list_len(object)`: of a list, tuple, dict or string.
pub(super) fn list_len(call: &mut Call<'_>) -> Result<()> {
    let n = match call.borrowed(0)?.body() {
        Body::Str(bytes) => bytes.len(),
        Body::List(items) => items.len(),
        Body::Tuple(items) | Body::NamedTuple(_, items) => items.len(),
        Body::Dict(entries) => entries.len(),
        Body::Tensor(tensor) => tensor.sizes.first().map_or(0, |&n| n as usize),
        Body::Future(_) | Body::Boxed(_) | Body::Instance(_) => return Err(wrong()),
    };
    call.ret_int(n as i64)
}

/// `list_pop(list[, index])`
pub(super) fn list_pop(call: &mut Call<'_>) -> Result<()> {
    let n = list(call, 0)?.len();
    if n == 0 {
        return raise("RuntimeError", "pop from empty list");
    }
    let Ok(at) = position(call.int_or(1, -1)?, n) else { return raise("RuntimeError", "list index out of range") };
    let item = with_list(call, 0, |items| items.remove(at))?;
    call.ret_item(0, item)
}

/// `list_insert(list, index, item)`; positions beyond the ends are clamped.
pub(super) fn list_insert(call: &mut Call<'_>) -> Result<()> {
    let item = call.item(2)?;
    let n = list(call, 0)?.len() as i64;
    let index = call.int(1)?;
    let at = if index < 0 { index.saturating_add(n).max(0) } else { index.min(n) };
    with_list(call, 0, |items| items.insert(at as usize, item))
}

pub(super) fn list_extend(call: &mut Call<'_>) -> Result<()> {
    // A copy, as a list may be extended by itself.
    let more = list(call, 1)?.clone();
    with_list(call, 0, |items| items.extend(&more))
}

pub(super) fn list_add(call: &mut Call<'_>) -> Result<()> {
    let mut sum = list(call, 0)?.clone();
    sum.extend(list(call, 1)?);
    call.ret_body(Body::List(sum))
}

/// `list_slice(list, start, end, step)`; a `None` operand stands for the default.
pub(super) fn list_slice(call: &mut Call<'_>) -> Result<()> {
    let items = list(call, 0)?;
    let n = items.len() as i64;
    let step = call.int_or(3, 1)?;
    if step == 0 {
        return raise("RuntimeError", "List slice should have non-zero step");
    }
    // The greatest number stands for a bound that is not given.
    let (start, end) = (call.int_or(1, i64::MAX)?, call.int_or(2, i64::MAX)?);
    let (least, most) = if step < 0 { (-1, n - 1) } else { (0, n) };
    let clamp = |at: i64| if at < 0 { at.saturating_add(n).max(least) } else { at.min(most) };
    let start = if start == i64::MAX && step > 0 { 0 } else { clamp(start) };
    let end = if end == i64::MAX && step < 0 { -1 } else { clamp(end) };
    let length = if step < 0 { start - end } else { end - start };
    let count = if length > 0 { (length - 1) / step.saturating_abs() + 1 } else { 0 };
    let slice = items.pick((0..count).map(|i| (start + i * step) as usize));
    call.ret_body(Body::List(slice))
}

pub(super) fn list_clear(call: &mut Call<'_>) -> Result<()> {
    let old = with_list(call, 0, std::mem::take)?;
    drop(old);
    Ok(())
}

pub(super) fn list_copy(call: &mut Call<'_>) -> Result<()> {
    let copy = list(call, 0)?.clone();
    call.ret_body(Body::List(copy))
}

pub(super) fn list_reverse(call: &mut Call<'_>) -> Result<()> {
    with_list(call, 0, List::reverse)
}

/// `list_sort(list[, reverse])`: stable; numbers, bools, strings and tuples of such.
pub(super) fn list_sort(call: &mut Call<'_>) -> Result<()> {
    let is_reverse = call.int_or(1, 0)? != 0;
    with_list(call, 0, |items| items.sort_by(|a, b| if is_reverse { order(b, a) } else { order(a, b) }))
}

fn order(a: &Item, b: &Item) -> std::cmp::Ordering {
    match (a, b) {
        (Item::Int(a), Item::Int(b)) => a.cmp(b),
        (Item::Object(a), Item::Object(b)) => match (a.body(), b.body()) {
            (Body::Str(a), Body::Str(b)) => (**a).cmp(&**b),
            (Body::Tuple(a) | Body::NamedTuple(_, a), Body::Tuple(b) | Body::NamedTuple(_, b)) => {
                let parts = a.iter().zip(b).map(|(a, b)| order(a, b));
                parts.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then).then(a.len().cmp(&b.len()))
            }
            _ => std::cmp::Ordering::Equal,
        },
        _ => {
            let (a, b) = (number(a).unwrap_or(0.0), number(b).unwrap_or(0.0));
            // A total order, so that sorting never fails; NaN is greatest.
            a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        }
    }
}

fn find(call: &Call<'_>) -> Result<Option<usize>> {
    let item = call.item(1)?;
    Ok(list(call, 0)?.iter().position(|other| is_equal(&other, &item)))
}

pub(super) fn list_remove(call: &mut Call<'_>) -> Result<()> {
    let Some(at) = find(call)? else { return raise("RuntimeError", "list.remove(x): x not in list") };
    let old = with_list(call, 0, |items| items.remove(at))?;
    drop(old);
    Ok(())
}

/// `list_delete(list, index)`
pub(super) fn list_delete(call: &mut Call<'_>) -> Result<()> {
    let at = position(call.int(1)?, list(call, 0)?.len())?;
    let old = with_list(call, 0, |items| items.remove(at))?;
    drop(old);
    Ok(())
}

pub(super) fn list_index(call: &mut Call<'_>) -> Result<()> {
    match find(call)? {
        Some(at) => call.ret_int(at as i64),
        None => raise("RuntimeError", format!("'{}' is not in list", super::text::print_item(&call.item(1)?))),
    }
}

pub(super) fn list_count(call: &mut Call<'_>) -> Result<()> {
    let item = call.item(1)?;
    let n = list(call, 0)?.iter().filter(|other| is_equal(other, &item)).count();
    call.ret_int(n as i64)
}

pub(super) fn list_contains(call: &mut Call<'_>) -> Result<()> {
    let found = find(call)?.is_some();
    call.ret_bool(found)
}

/// `list_repeat(list, n)`
pub(super) fn list_repeat(call: &mut Call<'_>) -> Result<()> {
    let (items, n) = (list(call, 0)?, usize::try_from(call.int(1)?.max(0)).unwrap_or(usize::MAX));
    if items.len().checked_mul(n).is_none_or(|len| len > MAX_ITEMS) {
        return raise("RuntimeError", format!("a list of {} items repeated {n} times is too long", items.len()));
    }
    let repeated = items.pick((0..n).flat_map(|_| 0..items.len()));
    call.ret_body(Body::List(repeated))
}

/// `list_range(n)`: 0 to n.
pub(super) fn list_range(call: &mut Call<'_>) -> Result<()> {
    let n = call.int(0)?;
    if n > MAX_ITEMS as i64 {
        return raise("RuntimeError", format!("a list of {n} items is too long"));
    }
    call.ret_body(Body::List((0..n).map(Item::Int).collect()))
}

/// The sum: of bools an int, of no items 0 of the list's kind.
pub(super) fn list_sum(call: &mut Call<'_>) -> Result<()> {
    let items = list(call, 0)?;
    let sum = match items.kind() {
        Kind::Floats => Item::Float(items.words().iter().map(|word| f64::from_bits(*word)).sum()),
        Kind::Ints | Kind::Bools => Item::Int(items.words().iter().fold(0, |sum, word| sum.wrapping_add(*word as i64))),
        Kind::Items => Item::Int(0),
    };
    call.ret_item(0, sum)
}

/// The first item that no other comes before.
fn extreme(call: &mut Call<'_>, name: &str, before: std::cmp::Ordering) -> Result<()> {
    let first = list(call, 0)?.iter().reduce(|best, item| if order(&item, &best) == before { item } else { best });
    match first {
        Some(item) => call.ret_item(0, item),
        None => raise("RuntimeError", format!("{name}() arg is an empty sequence")),
    }
}

pub(super) fn list_min(call: &mut Call<'_>) -> Result<()> {
    extreme(call, "min", std::cmp::Ordering::Less)
}

pub(super) fn list_max(call: &mut Call<'_>) -> Result<()> {
    extreme(call, "max", std::cmp::Ordering::Greater)
}

pub(super) fn list_any(call: &mut Call<'_>) -> Result<()> {
    let any = list(call, 0)?.iter().any(|item| number(&item).is_some_and(|x| x != 0.0));
    call.ret_bool(any)
}

pub(super) fn list_all(call: &mut Call<'_>) -> Result<()> {
    let all = list(call, 0)?.iter().all(|item| number(&item).is_none_or(|x| x != 0.0));
    call.ret_bool(all)
}

/// `object_eq(a, b)`: strings, lists, tuples, dicts.
pub(super) fn object_eq(call: &mut Call<'_>) -> Result<()> {
    let equal = is_equal(&call.item(0)?, &call.item(1)?);
    call.ret_bool(equal)
}

/// `tuple_new(items...)`
pub(super) fn tuple_new(call: &mut Call<'_>) -> Result<()> {
    let items = (0..call.n_args()).map(|i| call.item(i)).collect::<Result<_>>()?;
    call.ret_body(Body::Tuple(items))
}

pub(super) fn dict_new(call: &mut Call<'_>) -> Result<()> {
    call.ret_body(Body::Dict(Dict::default()))
}

/// Runs a function on the key operand, which is not made an object only to be looked for.
fn with_key<T>(call: &Call<'_>, run: impl FnOnce(Key<'_>) -> Result<T>) -> Result<T> {
    match call.leaf(1)?.kind() {
        Tag::Int => run(Key::Int(call.int(1)?)),
        Tag::Bool | Tag::Float => run(Key::Item(&call.item(1)?)),
        Tag::Object if !matches!(call.borrowed(1)?.body(), Body::Str(_)) => run(Key::Item(&call.item(1)?)),
        _ => run(Key::Text(call.text(1)?)),
    }
}

fn missing<T>(call: &Call<'_>) -> Result<T> {
    raise("RuntimeError", format!("KeyError: {}", super::text::print_item(&call.item(1)?)))
}

pub(super) fn dict_set(call: &mut Call<'_>) -> Result<()> {
    let value = call.item(2)?;
    // What stood there is dropped when nothing of the dict is borrowed any more.
    let left = with_key(call, |key| {
        with_dict(call, 0, |entries| match entries.get_mut(key) {
            Some(old @ (Item::None | Item::Bool(_) | Item::Int(_) | Item::Float(_) | Item::Complex(..))) => {
                *old = value;
                Ok(None)
            }
            Some(old @ Item::Object(_)) => Ok(Some(std::mem::replace(old, value))),
            None => Err(value),
        })
    })?;
    if let Err(value) = left {
        let key = call.item(1)?;
        with_dict(call, 0, |entries| entries.insert(key, value))?;
    }
    Ok(())
}

/// `dict_get(dict, key[, default])`
pub(super) fn dict_get(call: &mut Call<'_>) -> Result<()> {
    let found = with_key(call, |key| Ok(dict(call, 0)?.get(key).map(bits_of)))?;
    match found {
        Some(bits) => call.ret_int(bits as i64),
        None if call.n_args() > 2 => call.ret_item(0, call.item(2)?),
        None => missing(call),
    }
}

pub(super) fn dict_contains(call: &mut Call<'_>) -> Result<()> {
    let found = with_key(call, |key| Ok(dict(call, 0)?.get(key).is_some()))?;
    call.ret_bool(found)
}

fn take(call: &Call<'_>) -> Result<Option<(Item, Item)>> {
    with_key(call, |key| with_dict(call, 0, |entries| entries.remove(key)))
}

/// `dict_pop(dict, key[, default])`
pub(super) fn dict_pop(call: &mut Call<'_>) -> Result<()> {
    let item = match take(call)? {
        Some((_, item)) => item,
        None if call.n_args() > 2 => call.item(2)?,
        None => return missing(call),
    };
    call.ret_item(0, item)
}

/// `dict_setdefault(dict, key, default)`: the key's value, which is the default from now on if it had none.
pub(super) fn dict_setdefault(call: &mut Call<'_>) -> Result<()> {
    let known = with_key(call, |key| Ok(dict(call, 0)?.get(key).cloned()))?;
    let item = match known {
        Some(item) => item,
        None => {
            let (key, value) = (call.item(1)?, call.item(2)?);
            with_dict(call, 0, |entries| entries.insert(key, value.clone()))?;
            value
        }
    };
    call.ret_item(0, item)
}

/// `dict_popitem(dict)`: takes the first entry, unlike Python, as a tuple.
pub(super) fn dict_popitem(call: &mut Call<'_>) -> Result<()> {
    let Some((key, _)) = dict(call, 0)?.iter().next().cloned() else {
        return raise("RuntimeError", "popitem(): dictionary is empty");
    };
    let taken = with_dict(call, 0, |entries| entries.remove(Key::Item(&key)))?;
    let (key, value) = taken.ok_or_else(wrong)?;
    call.ret_body(Body::Tuple(vec![key, value]))
}

/// `dict_update(dict, other)`: with the entries of a dict, or a list of pairs.
pub(super) fn dict_update(call: &mut Call<'_>) -> Result<()> {
    let pair = |item: Item| match &item {
        Item::Object(object) => match object.body() {
            Body::Tuple(items) if items.len() == 2 => Ok((items[0].clone(), items[1].clone())),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    };
    let more: Vec<(Item, Item)> = match call.borrowed(1)?.body() {
        Body::Dict(entries) => entries.iter().cloned().collect(),
        Body::List(items) => items.iter().map(pair).collect::<Result<_>>()?,
        _ => return Err(wrong()),
    };
    let replaced: Vec<_> =
        with_dict(call, 0, |entries| more.into_iter().filter_map(|(key, value)| entries.insert(key, value)).collect())?;
    drop(replaced);
    Ok(())
}

pub(super) fn dict_delete(call: &mut Call<'_>) -> Result<()> {
    match take(call)? {
        Some(_) => Ok(()),
        None => missing(call),
    }
}

fn dict_list(call: &mut Call<'_>, pick: fn(&(Item, Item)) -> Item) -> Result<()> {
    let list = dict(call, 0)?.iter().map(pick).collect();
    call.ret_body(Body::List(list))
}

pub(super) fn dict_keys(call: &mut Call<'_>) -> Result<()> {
    dict_list(call, |entry| entry.0.clone())
}

pub(super) fn dict_values(call: &mut Call<'_>) -> Result<()> {
    dict_list(call, |entry| entry.1.clone())
}

pub(super) fn dict_items(call: &mut Call<'_>) -> Result<()> {
    dict_list(call, |(key, value)| Item::from(Body::Tuple(vec![key.clone(), value.clone()])))
}

pub(super) fn dict_clear(call: &mut Call<'_>) -> Result<()> {
    let old = with_dict(call, 0, std::mem::take)?;
    drop(old);
    Ok(())
}

pub(super) fn dict_copy(call: &mut Call<'_>) -> Result<()> {
    let copy = dict(call, 0)?.clone();
    call.ret_body(Body::Dict(copy))
}

/// `tensor_new(buffer)`: a tensor object with a copy of a buffer.
pub(super) fn tensor_new(call: &mut Call<'_>) -> Result<()> {
    let item = call.item(0)?;
    call.ret_item(0, item)
}

/// `tensor_dim(object, i)`: an extent; `i` may count from the end.
pub(super) fn tensor_dim(call: &mut Call<'_>) -> Result<()> {
    let sizes = call.tensor(0)?.sizes;
    let dim = call.int(1)?;
    let at = if dim < 0 { dim + sizes.len() as i64 } else { dim };
    match usize::try_from(at).ok().and_then(|at| sizes.get(at)) {
        Some(&size) => call.ret_int(size),
        None => raise(
            "RuntimeError",
            format!("Dimension out of range for a tensor of {} dimensions, got {dim}", sizes.len()),
        ),
    }
}

/// `tensor_stride(object, i)`: how many elements neighbours along a dimension are apart.
pub(super) fn tensor_stride(call: &mut Call<'_>) -> Result<()> {
    let (tensor, dim) = (call.tensor(0)?, call.int(1)?);
    let stride = usize::try_from(dim).ok().and_then(|dim| tensor.strides.get(dim).copied());
    match stride {
        Some(stride) => call.ret_int(stride),
        None => Err(Error::new(Status::Internal, "a routine got a dimension out of range")),
    }
}

/// `tensor_view(object, offset, extents..., strides...)`: a tensor object that shows elements of another one's memory.
pub(super) fn tensor_view(call: &mut Call<'_>) -> Result<()> {
    let (tensor, offset) = (call.tensor(0)?, call.int(1)?);
    let rank = (call.n_args() - 2) / 2;
    let ints = |from: usize| (from..from + rank).map(|i| call.int(i)).collect::<Result<Vec<_>>>();
    let view = tensor.view(offset, ints(2)?, ints(2 + rank)?);
    call.ret_body(Body::Tensor(view))
}

pub(super) fn tensor_rank(call: &mut Call<'_>) -> Result<()> {
    let rank = call.tensor(0)?.sizes.len();
    call.ret_int(rank as i64)
}

pub(super) fn tensor_dtype(call: &mut Call<'_>) -> Result<()> {
    let dtype = call.tensor(0)?.dtype;
    call.ret_int(i64::from(dtype.0))
}
