//! The order of values: lists sorted and compared, also where items are known only when running.
//!
//! Items that are all known are sorted here. Numbers and texts of the running program are sorted by a routine; tuples by
//! comparing neighbours and choosing which goes first, part by part.

use super::container::{cell, list, same, store};
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Const, Operand, UnaryOp, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::run_time::var_arg;
use crate::ops::value::{Cell, ItemFacts, Value, known, known_int};
use crate::types::{DType, Type};
use std::cmp::Ordering;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::sort.int", lower: sort },
    OpDef { name: "aten::sort.float", lower: sort },
    OpDef { name: "aten::sort.bool", lower: sort },
    OpDef { name: "aten::sort.str", lower: sort },
    OpDef { name: "aten::sort.any", lower: sort },
    OpDef { name: "aten::sort.Tensor", lower: sort },
    OpDef { name: "aten::sorted", lower: sorted },
    OpDef { name: "prim::min.int_list", lower: |b, a| extreme(b, a, false) },
    OpDef { name: "prim::min.float_list", lower: |b, a| extreme(b, a, false) },
    OpDef { name: "prim::min.bool_list", lower: |b, a| extreme(b, a, false) },
    OpDef { name: "prim::max.int_list", lower: |b, a| extreme(b, a, true) },
    OpDef { name: "prim::max.float_list", lower: |b, a| extreme(b, a, true) },
    OpDef { name: "prim::max.bool_list", lower: |b, a| extreme(b, a, true) },
];

/// Longest list whose items are brought in order by comparing neighbours.
const MAX_COMPARED: usize = 64;

fn constant(value: bool) -> Operand {
    Operand::Const(Const::bool(value))
}

/// The order of two known values; `None` if one is not known or there is no order.
fn known_order(x: &Value, y: &Value) -> Option<Ordering> {
    match (x, y) {
        (Value::Int(p) | Value::Bool(p), Value::Int(q) | Value::Bool(q)) => Some(known_int(p)?.cmp(&known_int(q)?)),
        (Value::Int(p) | Value::Bool(p) | Value::Float(p), Value::Int(q) | Value::Bool(q) | Value::Float(q)) => {
            Some(known(p)?.as_f64().partial_cmp(&known(q)?.as_f64()).unwrap_or(Ordering::Equal))
        }
        (Value::Str(Operand::Str(p)), Value::Str(Operand::Str(q))) => Some(p.cmp(q)),
        (Value::Tuple(p, _), Value::Tuple(q, _)) => {
            for (x, y) in p.iter().zip(q) {
                match known_order(x, y)? {
                    Ordering::Equal => {}
                    other => return Some(other),
                }
            }
            Some(p.len().cmp(&q.len()))
        }
        _ => None,
    }
}

/// Whether the first value comes before the second.
pub fn less(b: &mut Builder<'_>, x: &Value, y: &Value) -> Result<Operand> {
    if let Some(order) = known_order(x, y) {
        return Ok(constant(order == Ordering::Less));
    }
    match (x, y) {
        (Value::Int(p) | Value::Bool(p) | Value::Float(p), Value::Int(q) | Value::Bool(q) | Value::Float(q)) => {
            let is_float = [p, q].iter().any(|o| b.operand_type(o) == VarType::Float);
            let dtype = if is_float { DType::F64 } else { DType::I64 };
            let (p, q) = (b.cast(dtype, p.clone()), b.cast(dtype, q.clone()));
            Ok(b.binary(BinaryOp::Lt, p, q))
        }
        (Value::Tensor(p), Value::Tensor(q)) => {
            let (p, q) = (b.item(p), b.item(q));
            let (p, q) = (b.cast(DType::F64, p), b.cast(DType::F64, q));
            Ok(b.binary(BinaryOp::Lt, p, q))
        }
        (Value::Tuple(p, _), Value::Tuple(q, _)) => sequence_less(b, p, q),
        _ if x.kind() != y.kind() => Err(b.user(format!("a {} and a {} cannot be compared", x.kind(), y.kind()))),
        _ => Err(b.unsupported(format!("the order of a {} and a {}", x.kind(), y.kind()))),
    }
}

/// Whether a sequence comes before another: at the first items that differ, else by their lengths.
fn sequence_less(b: &mut Builder<'_>, x: &[Value], y: &[Value]) -> Result<Operand> {
    let mut result = constant(x.len() < y.len());
    for (p, q) in x.iter().zip(y).rev() {
        let (is_less, is_same) = (less(b, p, q)?, same(b, p, q)?);
        let later = b.binary(BinaryOp::And, is_same, result);
        result = b.binary(BinaryOp::Or, is_less, later);
    }
    Ok(result)
}

/// One of two values of a kind.
fn choose(b: &mut Builder<'_>, cond: &Operand, x: &Value, y: &Value) -> Result<Value> {
    if x == y {
        return Ok(x.clone());
    }
    if let Some(known) = known(cond) {
        return Ok(if known.bits != 0 { x.clone() } else { y.clone() });
    }
    Ok(match (x, y) {
        (Value::Int(p), Value::Int(q)) => Value::Int(b.select(cond.clone(), p.clone(), q.clone())),
        (Value::Float(p), Value::Float(q)) => Value::Float(b.select(cond.clone(), p.clone(), q.clone())),
        (Value::Bool(p), Value::Bool(q)) => Value::Bool(b.select(cond.clone(), p.clone(), q.clone())),
        (Value::Tuple(p, ty), Value::Tuple(q, _)) if p.len() == q.len() => {
            let items = p.iter().zip(q).map(|(x, y)| choose(b, cond, x, y)).collect::<Result<_>>()?;
            Value::Tuple(items, ty.clone())
        }
        (Value::Tensor(p), Value::Tensor(q)) if p.dtype == q.dtype && p.dims == q.dims => {
            Value::Tensor(b.map(p.dtype, &p.dims, |k, i| {
                let cond = k.operand(cond);
                let (p, q) = (k.load(p, i), k.load(q, i));
                k.select(cond, p, q)
            }))
        }
        (Value::Str(p), Value::Str(q)) => {
            let (list, _) = b.run_time_list(&[Value::Str(q.clone()), Value::Str(p.clone())])?;
            let at = b.cast(DType::I64, cond.clone());
            b.fetched("list_get", vec![var_arg(list), Arg::Scalar(at)], &ItemFacts::Str)
        }
        _ => return Err(b.unsupported(format!("sorting a list of {}", x.kind()))),
    })
}

/// Whether values of this kind have an order at all.
fn is_sortable(value: &Value) -> bool {
    match value {
        Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Str(_) | Value::Tensor(_) => true,
        Value::Tuple(items, _) => items.iter().all(is_sortable),
        _ => false,
    }
}

/// Items in order; equal ones stay as they were.
fn in_order(b: &mut Builder<'_>, mut items: Vec<Value>, descending: bool) -> Result<Vec<Value>> {
    if let Some(item) = items.iter().find(|item| !is_sortable(item)) {
        let item = b.argument_type(0).map_or_else(|| item.kind().to_owned(), Type::to_string);
        return Err(b.user(format!(
            "Only list of Tensors, ints, floats, bools, strs, a User Defined Class that defines the __lt__ compare method \
             or Tuples of aforementioned types can be sorted, got list of {item} instead"
        )));
    }
    let all_known = items.iter().all(|x| known_order(x, x).is_some());
    if all_known {
        items.sort_by(|x, y| {
            let (x, y) = if descending { (y, x) } else { (x, y) };
            known_order(x, y).unwrap_or(Ordering::Equal)
        });
        return Ok(items);
    }
    let is_plain = |v: &Value| matches!(v, Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Str(_));
    if items.iter().all(is_plain) {
        let (var, facts) = b.run_time_list(&items)?;
        let list = var_arg(var);
        b.call("list_sort", vec![list.clone(), Arg::Scalar(constant(descending))], &[]);
        let n = i64::try_from(items.len()).unwrap_or(i64::MAX);
        let at = |i: i64| Arg::Scalar(Operand::Const(Const::int(i)));
        return Ok((0..n).map(|i| b.fetched("list_get", vec![list.clone(), at(i)], &facts)).collect());
    }
    if items.len() > MAX_COMPARED {
        return Err(b.unsupported("sorting a long list of values known only when running"));
    }
    for end in (1..items.len()).rev() {
        for at in 0..end {
            let (x, y) = (items[at].clone(), items[at + 1].clone());
            let swaps = if descending { less(b, &x, &y)? } else { less(b, &y, &x)? };
            items[at] = choose(b, &swaps, &y, &x)?;
            items[at + 1] = choose(b, &swaps, &x, &y)?;
        }
    }
    Ok(items)
}

fn sort(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let descending = args.values.len() > 1 && args.flag(b, 1)?;
    if let (_, Cell::RunTimeList(list)) = cell(b, args, 0)? {
        b.call("list_sort", vec![var_arg(list.var), Arg::Scalar(constant(descending))], &[]);
        return Ok(Value::None);
    }
    let (id, items) = list(b, args, 0)?;
    let items = in_order(b, items, descending)?;
    store(b, id, Cell::List(items));
    Ok(Value::None)
}

fn sorted(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let (_, Cell::RunTimeList(list)) = cell(b, args, 0)? {
        let var = b.call_for_object("list_copy", vec![var_arg(list.var)]);
        b.call("list_sort", vec![var_arg(var), Arg::Scalar(constant(false))], &[]);
        return Ok(b.list_in(var, list.item));
    }
    let (_, items) = list(b, args, 0)?;
    let items = in_order(b, items, false)?;
    Ok(b.new_list(items))
}

/// The lesser or greater of two lists, compared item by item.
fn extreme(b: &mut Builder<'_>, args: &Args<'_>, greatest: bool) -> Result<Value> {
    let (x, y) = (list(b, args, 0)?.1, list(b, args, 1)?.1);
    let takes_second = if greatest { sequence_less(b, &x, &y)? } else { sequence_less(b, &y, &x)? };
    // A list is chosen, not its items: it stays the list it is.
    let takes_second = match known(&takes_second) {
        Some(known) => known.bits != 0,
        None => {
            let keeps_first = b.unary(UnaryOp::Not, takes_second);
            !b.decide(&keeps_first)?
        }
    };
    Ok(args.value(usize::from(takes_second))?.clone())
}
