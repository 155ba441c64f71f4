//! Lists, dicts, tuples and tensor objects. Lists and dicts are shared by reference.
#![allow(unsafe_code, reason = "changes objects that variables share")]

use super::{Call, raise};
use crate::abi::Status;
use crate::error::{Error, Result};
use crate::object::{Body, Item, ObjectRef};

pub(super) fn wrong() -> Error {
    Error::new(Status::Internal, "a routine got an object of another kind")
}

/// The elements of a list or tuple.
fn items(object: &ObjectRef) -> Result<&[Item]> {
    match object.body() {
        Body::List(items) | Body::Tuple(items) | Body::NamedTuple(_, items) => Ok(items),
        Body::Str(_) | Body::Dict(_) | Body::Tensor(_) | Body::Future(_) => Err(wrong()),
    }
}

/// Changes a list. The closure must not touch objects through other references.
fn with_list<T>(object: &ObjectRef, change: impl FnOnce(&mut Vec<Item>) -> T) -> Result<T> {
    // SAFETY: a call runs on one thread, and the reference ends here; closures only move elements.
    match unsafe { object.body_mut() } {
        Body::List(items) => Ok(change(items)),
        _ => Err(wrong()),
    }
}

fn with_dict<T>(object: &ObjectRef, change: impl FnOnce(&mut Vec<(Item, Item)>) -> T) -> Result<T> {
    // SAFETY: as in `with_list`.
    match unsafe { object.body_mut() } {
        Body::Dict(entries) => Ok(change(entries)),
        _ => Err(wrong()),
    }
}

/// A position that may count from the end.
fn position(index: i64, len: usize) -> Result<usize> {
    let at = if index < 0 { index.wrapping_add(len as i64) } else { index };
    match usize::try_from(at) {
        Ok(at) if at < len => Ok(at),
        _ => Err(Error::raised("IndexError", "list index out of range", "")),
    }
}

/// Whether two elements are equal, as `==` compares them; tensors are equal only to themselves.
pub(crate) fn is_equal(a: &Item, b: &Item) -> bool {
    match (a, b) {
        (Item::None, Item::None) => true,
        (Item::Object(a), Item::Object(b)) => match (a.body(), b.body()) {
            (Body::Str(a), Body::Str(b)) => a == b,
            (Body::List(a), Body::List(b))
            | (Body::Tuple(a), Body::Tuple(b))
            | (Body::NamedTuple(_, a), Body::NamedTuple(_, b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b))
            }
            (Body::Dict(a), Body::Dict(b)) => {
                a.len() == b.len() && a.iter().all(|(k, v)| b.iter().any(|(l, w)| is_equal(k, l) && is_equal(v, w)))
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
    call.ret_body(Body::List(Vec::new()))
}

pub(super) fn list_push(call: &mut Call<'_>) -> Result<()> {
    let item = call.item(1)?;
    with_list(&call.object(0)?, |items| items.push(item))
}

pub(super) fn list_get(call: &mut Call<'_>) -> Result<()> {
    let list = call.object(0)?;
    let items = items(&list)?;
    let item = items[position(call.int(1)?, items.len())?].clone();
    call.ret_item(0, item)
}

pub(super) fn list_set(call: &mut Call<'_>) -> Result<()> {
    let (list, item) = (call.object(0)?, call.item(2)?);
    let at = position(call.int(1)?, items(&list)?.len())?;
    let old = with_list(&list, |items| std::mem::replace(&mut items[at], item))?;
    drop(old);
    Ok(())
}

/// `list_len(object)`: of a list, tuple, dict or string.
pub(super) fn list_len(call: &mut Call<'_>) -> Result<()> {
    let object = call.object(0)?;
    let n = match object.body() {
        Body::Str(bytes) => bytes.len(),
        Body::List(items) | Body::Tuple(items) | Body::NamedTuple(_, items) => items.len(),
        Body::Dict(entries) => entries.len(),
        Body::Tensor(tensor) => tensor.sizes.first().map_or(0, |&n| n as usize),
        Body::Future(_) => return Err(wrong()),
    };
    call.ret_int(n as i64)
}

/// `list_pop(list[, index])`
pub(super) fn list_pop(call: &mut Call<'_>) -> Result<()> {
    let list = call.object(0)?;
    let n = items(&list)?.len();
    if n == 0 {
        return raise("IndexError", "pop from empty list");
    }
    let Ok(at) = position(call.int_or(1, -1)?, n) else { return raise("IndexError", "pop index out of range") };
    let item = with_list(&list, |items| items.remove(at))?;
    call.ret_item(0, item)
}

/// `list_insert(list, index, item)`; positions beyond the ends are clamped.
pub(super) fn list_insert(call: &mut Call<'_>) -> Result<()> {
    let (list, item) = (call.object(0)?, call.item(2)?);
    let n = items(&list)?.len() as i64;
    let index = call.int(1)?;
    let at = if index < 0 { index.saturating_add(n).max(0) } else { index.min(n) };
    with_list(&list, |items| items.insert(at as usize, item))
}

pub(super) fn list_extend(call: &mut Call<'_>) -> Result<()> {
    let more = items(&call.object(1)?)?.to_vec();
    with_list(&call.object(0)?, |items| items.extend(more))
}

pub(super) fn list_add(call: &mut Call<'_>) -> Result<()> {
    let mut sum = items(&call.object(0)?)?.to_vec();
    sum.extend_from_slice(items(&call.object(1)?)?);
    call.ret_body(Body::List(sum))
}

/// `list_slice(list, start, end, step)`; a `None` operand stands for the default.
pub(super) fn list_slice(call: &mut Call<'_>) -> Result<()> {
    let list = call.object(0)?;
    let items = items(&list)?;
    let n = items.len() as i64;
    let step = call.int_or(3, 1)?;
    if step <= 0 {
        return raise("RuntimeError", "slice step must be positive");
    }
    let clamp = |at: i64| if at < 0 { at.saturating_add(n).max(0) } else { at.min(n) };
    let (start, end) = (clamp(call.int_or(1, 0)?), clamp(call.int_or(2, i64::MAX)?));
    let range = items.get(start as usize..end.max(start) as usize).unwrap_or(&[]);
    let slice = range.iter().step_by(step as usize).cloned().collect();
    call.ret_body(Body::List(slice))
}

pub(super) fn list_clear(call: &mut Call<'_>) -> Result<()> {
    let old = with_list(&call.object(0)?, std::mem::take)?;
    drop(old);
    Ok(())
}

pub(super) fn list_copy(call: &mut Call<'_>) -> Result<()> {
    let copy = items(&call.object(0)?)?.to_vec();
    call.ret_body(Body::List(copy))
}

pub(super) fn list_reverse(call: &mut Call<'_>) -> Result<()> {
    with_list(&call.object(0)?, |items| items.reverse())
}

/// `list_sort(list[, reverse])`: stable; numbers, bools and strings.
pub(super) fn list_sort(call: &mut Call<'_>) -> Result<()> {
    let is_reverse = call.int_or(1, 0)? != 0;
    let list = call.object(0)?;
    let mut sorted = items(&list)?.to_vec();
    sorted.sort_by(|a, b| if is_reverse { order(b, a) } else { order(a, b) });
    with_list(&list, |items| *items = sorted)
}

fn order(a: &Item, b: &Item) -> std::cmp::Ordering {
    match (a, b) {
        (Item::Int(a), Item::Int(b)) => a.cmp(b),
        (Item::Object(a), Item::Object(b)) => match (a.body(), b.body()) {
            (Body::Str(a), Body::Str(b)) => a.cmp(b),
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
    let (list, item) = (call.object(0)?, call.item(1)?);
    Ok(items(&list)?.iter().position(|other| is_equal(other, &item)))
}

pub(super) fn list_remove(call: &mut Call<'_>) -> Result<()> {
    let Some(at) = find(call)? else { return raise("ValueError", "list.remove(x): x not in list") };
    let old = with_list(&call.object(0)?, |items| items.remove(at))?;
    drop(old);
    Ok(())
}

/// `list_delete(list, index)`
pub(super) fn list_delete(call: &mut Call<'_>) -> Result<()> {
    let list = call.object(0)?;
    let at = position(call.int(1)?, items(&list)?.len())?;
    let old = with_list(&list, |items| items.remove(at))?;
    drop(old);
    Ok(())
}

pub(super) fn list_index(call: &mut Call<'_>) -> Result<()> {
    match find(call)? {
        Some(at) => call.ret_int(at as i64),
        None => raise("ValueError", format!("'{}' is not in list", super::text::print_item(&call.item(1)?))),
    }
}

pub(super) fn list_count(call: &mut Call<'_>) -> Result<()> {
    let (list, item) = (call.object(0)?, call.item(1)?);
    let n = items(&list)?.iter().filter(|other| is_equal(other, &item)).count();
    call.ret_int(n as i64)
}

pub(super) fn list_contains(call: &mut Call<'_>) -> Result<()> {
    let found = find(call)?.is_some();
    call.ret_bool(found)
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
    call.ret_body(Body::Dict(Vec::new()))
}

fn lookup(call: &Call<'_>) -> Result<(ObjectRef, Item, Option<usize>)> {
    let (dict, key) = (call.object(0)?, call.item(1)?);
    let at = match dict.body() {
        Body::Dict(entries) => entries.iter().position(|(k, _)| is_equal(k, &key)),
        _ => return Err(wrong()),
    };
    Ok((dict, key, at))
}

fn missing<T>(key: &Item) -> Result<T> {
    raise("KeyError", super::text::print_item(key))
}

pub(super) fn dict_set(call: &mut Call<'_>) -> Result<()> {
    let value = call.item(2)?;
    let (dict, key, at) = lookup(call)?;
    let old = with_dict(&dict, |entries| {
        if let Some(at) = at {
            Some(std::mem::replace(&mut entries[at].1, value))
        } else {
            entries.push((key, value));
            None
        }
    })?;
    drop(old);
    Ok(())
}

/// `dict_get(dict, key[, default])`
pub(super) fn dict_get(call: &mut Call<'_>) -> Result<()> {
    let (dict, key, at) = lookup(call)?;
    let item = match at {
        Some(at) => with_dict(&dict, |entries| entries[at].1.clone())?,
        None if call.n_args() > 2 => call.item(2)?,
        None => return missing(&key),
    };
    call.ret_item(0, item)
}

pub(super) fn dict_contains(call: &mut Call<'_>) -> Result<()> {
    let found = lookup(call)?.2.is_some();
    call.ret_bool(found)
}

/// `dict_pop(dict, key[, default])`
pub(super) fn dict_pop(call: &mut Call<'_>) -> Result<()> {
    let (dict, key, at) = lookup(call)?;
    let item = match at {
        Some(at) => with_dict(&dict, |entries| entries.remove(at))?.1,
        None if call.n_args() > 2 => call.item(2)?,
        None => return missing(&key),
    };
    call.ret_item(0, item)
}

pub(super) fn dict_delete(call: &mut Call<'_>) -> Result<()> {
    let (dict, key, at) = lookup(call)?;
    let Some(at) = at else { return missing(&key) };
    let old = with_dict(&dict, |entries| entries.remove(at))?;
    drop(old);
    Ok(())
}

fn dict_list(call: &mut Call<'_>, pick: fn(&(Item, Item)) -> Item) -> Result<()> {
    let list = match call.object(0)?.body() {
        Body::Dict(entries) => entries.iter().map(pick).collect(),
        _ => return Err(wrong()),
    };
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
    let old = with_dict(&call.object(0)?, std::mem::take)?;
    drop(old);
    Ok(())
}

pub(super) fn dict_copy(call: &mut Call<'_>) -> Result<()> {
    let copy = match call.object(0)?.body() {
        Body::Dict(entries) => entries.clone(),
        _ => return Err(wrong()),
    };
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
        None => {
            raise("IndexError", format!("Dimension out of range for a tensor of {} dimensions, got {dim}", sizes.len()))
        }
    }
}

pub(super) fn tensor_rank(call: &mut Call<'_>) -> Result<()> {
    let rank = call.tensor(0)?.sizes.len();
    call.ret_int(rank as i64)
}

pub(super) fn tensor_dtype(call: &mut Call<'_>) -> Result<()> {
    let dtype = call.tensor(0)?.dtype;
    call.ret_int(i64::from(dtype.0))
}
