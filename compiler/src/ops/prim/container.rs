//! What lists and dicts share: items read, set and removed.
//!
//! Those whose items are known live only while compiling; those of the running program are objects (`ops::run_time`). A change
//! at a position or key that only the running program knows makes a known one an object.

use super::scalar::number_value;
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Const, Operand, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::aten::arrange;
use crate::ops::aten::pointwise::elementwise;
use crate::ops::builder::Builder;
use crate::ops::run_time::var_arg;
use crate::ops::value::{Cell, CellId, RunTimeDict, RunTimeList, Tensor, Value, int, known_int};
use crate::ops::views;
use crate::types::DType;

/// Operators of both.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::len", lower: len },
    OpDef { name: "aten::__getitem__", lower: get_item },
    OpDef { name: "aten::select.t", lower: get_item },
    OpDef { name: "aten::_set_item", lower: set_item },
    OpDef { name: "aten::pop", lower: pop },
    OpDef { name: "aten::Delete", lower: delete },
    OpDef { name: "aten::clear", lower: clear },
    OpDef { name: "aten::copy.t", lower: copy },
    OpDef { name: "aten::list", lower: copy },
    OpDef { name: "aten::__contains__", lower: contains },
    OpDef { name: "aten::Size", lower: copy },
    OpDef { name: "aten::copy.Dict_str", lower: copy },
    OpDef { name: "aten::copy.Dict_int", lower: copy },
    OpDef { name: "aten::copy.Dict_float", lower: copy },
    OpDef { name: "aten::copy.Dict_bool", lower: copy },
];

/// The list or dict at this position, and its contents.
pub(super) fn cell(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<(CellId, Cell)> {
    match args.value(at)? {
        Value::Cell(id) => Ok((*id, b.heap.cells[*id].clone())),
        other => Err(b.user(format!("expected a list or dict in {}, found {}", b.op_name, other.kind()))),
    }
}

/// A list's items where they are known.
pub(super) fn list(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<(CellId, Vec<Value>)> {
    let (id, cell) = cell(b, args, at)?;
    let items = match cell {
        Cell::List(items) => items,
        Cell::RunTimeList(_)
        | Cell::RunTimeDict(_)
        | Cell::Dict(_)
        | Cell::Object(_)
        | Cell::RunTimeObject(_)
        | Cell::Future(_) => b.items(args.value(at)?)?,
    };
    Ok((id, items))
}

/// Ends the running program with an exception of this class; gives what nothing will read.
pub(super) fn raise(b: &mut Builder<'_>, message: &str) -> Value {
    b.check(Operand::Const(Const::bool(false)), message);
    Value::Uninitialized
}

fn len(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let count = |n: usize| Value::int(i64::try_from(n).unwrap_or(i64::MAX));
    if let Value::Tuple(items, _) = args.value(0)? {
        return Ok(count(items.len()));
    }
    Ok(match cell(b, args, 0)?.1 {
        Cell::List(items) => count(items.len()),
        Cell::Dict(entries) => count(entries.len()),
        Cell::RunTimeList(RunTimeList { var, .. }) => {
            Value::Int(Operand::Var(b.call("list_len", vec![var_arg(var)], &[VarType::Int])[0]))
        }
        Cell::RunTimeDict(RunTimeDict { var, .. }) => {
            Value::Int(Operand::Var(b.call("dict_len", vec![var_arg(var)], &[VarType::Int])[0]))
        }
        Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => {
            return Err(b.user("object of this type has no len()"));
        }
    })
}

/// A known position in a list of this length; `None` if it is outside.
fn position(index: i64, len: usize) -> Option<usize> {
    let n = i64::try_from(len).ok()?;
    let at = if index < 0 { index + n } else { index };
    usize::try_from(at).ok().filter(|at| *at < len)
}

fn get_item(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let items = if let Value::Tuple(items, _) = args.value(0)? {
        items.clone()
    } else {
        match cell(b, args, 0)?.1 {
            Cell::List(items) => items,
            Cell::Dict(_) | Cell::RunTimeDict(_) => return super::dict::get_item(b, args),
            Cell::RunTimeList(list) => {
                let at = Arg::Scalar(args.int(b, 1)?);
                let facts = b.items_at(0, &list.item);
                return Ok(b.fetched("list_get", vec![var_arg(list.var), at], &facts));
            }
            Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => {
                return Err(b.user("object is not subscriptable"));
            }
        }
    };
    let index = args.int(b, 1)?;
    match known_int(&index) {
        Some(i) => Ok(match position(i, items.len()) {
            Some(at) => items[at].clone(),
            None => raise(b, "list index out of range"),
        }),
        None => pick(b, &items, index),
    }
}

/// A position that only the running program knows, counted from the start of a list of this length.
fn inside(b: &mut Builder<'_>, index: Operand, len: usize) -> Operand {
    let n = i64::try_from(len).unwrap_or(i64::MAX);
    let is_negative = b.binary(BinaryOp::Lt, index.clone(), int(0));
    let moved = b.binary(BinaryOp::Add, index.clone(), int(n));
    let index = b.select(is_negative, moved, index);
    let (low, high) = (b.binary(BinaryOp::Ge, index.clone(), int(0)), b.binary(BinaryOp::Lt, index.clone(), int(n)));
    let inside = b.binary(BinaryOp::And, low, high);
    b.check(inside, "list index out of range");
    index
}

/// The item of a known list at a position only the running program knows.
fn pick(b: &mut Builder<'_>, items: &[Value], index: Operand) -> Result<Value> {
    let index = inside(b, index, items.len());
    let Some(first) = items.first() else { return Ok(Value::Uninitialized) };
    if let (Value::Tensor(tensor), false) = (first, b.shares_memory) {
        let same = |v: &Value| matches!(v, Value::Tensor(t) if t.dims == tensor.dims && t.dtype == tensor.dtype);
        if items.iter().all(same) {
            let mut rows = Vec::with_capacity(items.len());
            for item in items {
                if let Value::Tensor(t) = item {
                    rows.push(views::unsqueeze(b, t, 0));
                }
            }
            let all = arrange::cat(b, &rows, 0)?;
            return Ok(Value::Tensor(views::select(b, &all, 0, index)));
        }
    }
    // Only numbers of one kind have a selection: anything else the running program takes from a list object.
    let is_number =
        |v: &Value| matches!(v, Value::Int(_) | Value::Float(_) | Value::Bool(_)) && v.kind() == first.kind();
    if !items.iter().all(is_number) {
        let (var, facts) = b.run_time_list(items)?;
        return Ok(b.fetched("list_get", vec![var_arg(var), Arg::Scalar(index)], &facts));
    }
    let mut chosen: Option<Operand> = None;
    for (i, item) in (0..).zip(items) {
        let (Value::Int(o) | Value::Float(o) | Value::Bool(o)) = item else {
            return Err(b.unsupported(format!("a {} chosen from a list when running", item.kind())));
        };
        chosen = Some(match chosen {
            None => o.clone(),
            Some(rest) => {
                let is = b.binary(BinaryOp::Eq, index.clone(), int(i));
                b.select(is, o.clone(), rest)
            }
        });
    }
    let chosen = chosen.expect("the list is not empty");
    Ok(number_value(b, chosen))
}

/// Replaces what a list or dict holds.
pub(super) fn store(b: &mut Builder<'_>, id: CellId, cell: Cell) {
    b.heap.cells[id] = cell;
}

/// Longest list in which an item is set by a choice for each position.
const MAX_CHOSEN: usize = 16;

fn set_item(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, contents) = cell(b, args, 0)?;
    let value = args.value(2)?.clone();
    match contents {
        Cell::List(mut items) => {
            let index = args.int(b, 1)?;
            if let Some(index) = known_int(&index) {
                let at = position(index, items.len());
                let Some(at) = at else { return Ok(raise(b, "list index out of range")) };
                items[at] = value;
                store(b, id, Cell::List(items));
            } else if let (Some(chosen), true) = (number(&value), items.len() <= MAX_CHOSEN)
                && items.iter().all(|item| item.kind() == value.kind())
            {
                let index = inside(b, index, items.len());
                for (at, item) in (0..).zip(&mut items) {
                    let old = number(item).expect("all are numbers");
                    let is_it = b.binary(BinaryOp::Eq, index.clone(), int(at));
                    let new = b.select(is_it, chosen.clone(), old);
                    *item = number_value(b, new);
                }
                store(b, id, Cell::List(items));
            } else {
                b.to_run_time_list(id)?;
                return set_item(b, args);
            }
        }
        Cell::Dict(_) | Cell::RunTimeDict(_) => super::dict::set(b, id, args.value(1)?, &value)?,
        Cell::RunTimeList(list) => {
            let at = Arg::Scalar(args.int(b, 1)?);
            let (item, facts) = b.kept_arg(&b.items_at(0, &list.item), &value)?;
            b.call("list_set", vec![var_arg(list.var), at, item], &[]);
            b.widen_list(id, list, facts)?;
        }
        Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => {
            return Err(b.user("object does not support item assignment"));
        }
    }
    Ok(args.value(0)?.clone())
}

/// The operand of a number.
fn number(value: &Value) -> Option<Operand> {
    match value {
        Value::Int(o) | Value::Float(o) | Value::Bool(o) => Some(o.clone()),
        _ => None,
    }
}

fn pop(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, contents) = cell(b, args, 0)?;
    match contents {
        Cell::Dict(_) | Cell::RunTimeDict(_) => super::dict::pop(b, args),
        Cell::RunTimeList(list) => {
            let at = if args.values.len() > 1 { args.int(b, 1)? } else { int(-1) };
            let facts = b.items_at(0, &list.item);
            Ok(b.fetched("list_pop", vec![var_arg(list.var), Arg::Scalar(at)], &facts))
        }
        Cell::List(mut items) => {
            let at = if args.values.len() > 1 { args.int(b, 1)? } else { int(-1) };
            if items.is_empty() {
                return Ok(raise(b, "pop from empty list"));
            }
            let Some(at) = known_int(&at) else {
                b.to_run_time_list(id)?;
                return pop(b, args);
            };
            let Some(at) = position(at, items.len()) else {
                return Ok(raise(b, "list index out of range"));
            };
            let item = items.remove(at);
            store(b, id, Cell::List(items));
            Ok(item)
        }
        Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => Err(b.user("pop needs a list or dict")),
    }
}

fn delete(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    pop(b, args)?;
    Ok(Value::None)
}

fn clear(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, contents) = cell(b, args, 0)?;
    let empty = match contents {
        Cell::Dict(_) => Cell::Dict(Vec::new()),
        Cell::RunTimeList(list) => {
            b.call("list_clear", vec![var_arg(list.var)], &[]);
            return Ok(Value::None);
        }
        Cell::RunTimeDict(dict) => {
            b.call("dict_clear", vec![var_arg(dict.var)], &[]);
            return Ok(Value::None);
        }
        Cell::List(_) | Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => Cell::List(Vec::new()),
    };
    store(b, id, empty);
    Ok(Value::None)
}

fn copy(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let Value::Str(_) = args.value(0)? {
        return super::strings::letters(b, args);
    }
    let (_, contents) = cell(b, args, 0)?;
    let copied = match contents {
        Cell::RunTimeList(list) => {
            let var = b.call_for_object("list_copy", vec![var_arg(list.var)]);
            Cell::RunTimeList(RunTimeList { var, item: list.item, is_nested: false })
        }
        // A dict as a list is its keys.
        Cell::Dict(_) | Cell::RunTimeDict(_) if b.op_name == "aten::list" => return super::dict::keys(b, args),
        Cell::RunTimeDict(dict) => {
            let var = b.call_for_object("dict_copy", vec![var_arg(dict.var)]);
            Cell::RunTimeDict(RunTimeDict { var, entry: dict.entry, is_nested: false })
        }
        Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => return Err(b.user("copy needs a list or dict")),
        other @ (Cell::List(_) | Cell::Dict(_)) => other,
    };
    Ok(Value::Cell(b.heap.cells.push(copied)))
}

/// Whether two items are equal: folded where both are known.
pub fn same(b: &mut Builder<'_>, x: &Value, y: &Value) -> Result<Operand> {
    Ok(match (x, y) {
        (Value::Int(p) | Value::Bool(p) | Value::Float(p), Value::Int(q) | Value::Bool(q) | Value::Float(q)) => {
            let is_float = [p, q].iter().any(|o| b.operand_type(o) == VarType::Float);
            let dtype = if is_float { DType::F64 } else { DType::I64 };
            let (p, q) = (b.cast(dtype, p.clone()), b.cast(dtype, q.clone()));
            b.binary(BinaryOp::Eq, p, q)
        }
        (Value::Str(p), Value::Str(q)) => super::text::same(b, p, q),
        (Value::Tensor(p), Value::Tensor(q)) => return same_tensors(b, p, q),
        (Value::Complex(..) | Value::Int(_) | Value::Float(_) | Value::Bool(_), Value::Complex(..))
        | (Value::Complex(..), _) => {
            let (Some((p, i)), Some((q, j))) = (super::complex::parts(b, x), super::complex::parts(b, y)) else {
                return Ok(Operand::Const(Const::bool(false)));
            };
            let (real, imaginary) = (b.binary(BinaryOp::Eq, p, q), b.binary(BinaryOp::Eq, i, j));
            b.binary(BinaryOp::And, real, imaginary)
        }
        (Value::Tuple(p, _), Value::Tuple(q, _)) => return all_same(b, p, q),
        (Value::Enum(c, p), Value::Enum(d, q)) if c == d => return same(b, p, q),
        (Value::Cell(p), Value::Cell(q)) if p != q => match (b.heap.cells[*p].clone(), b.heap.cells[*q].clone()) {
            (Cell::List(p), Cell::List(q)) => return all_same(b, &p, &q),
            (Cell::Dict(p), Cell::Dict(q)) => return same_entries(b, &p, &q),
            (Cell::RunTimeList(_) | Cell::RunTimeDict(_), _) | (_, Cell::RunTimeList(_) | Cell::RunTimeDict(_)) => {
                let objects = vec![b.item_arg(x)?, b.item_arg(y)?];
                Operand::Var(b.call("object_eq", objects, &[VarType::Bool])[0])
            }
            _ => b.is_same_cell(*p, *q),
        },
        _ => Operand::Const(Const::bool(x == y)),
    })
}

/// Whether two lists have equal items.
pub(super) fn all_same(b: &mut Builder<'_>, x: &[Value], y: &[Value]) -> Result<Operand> {
    let mut result = Operand::Const(Const::bool(x.len() == y.len()));
    for (p, q) in x.iter().zip(y) {
        let is = same(b, p, q)?;
        result = b.binary(BinaryOp::And, result, is);
    }
    Ok(result)
}

/// Whether two dicts have equal values at equal keys.
fn same_entries(b: &mut Builder<'_>, x: &[(Value, Value)], y: &[(Value, Value)]) -> Result<Operand> {
    let mut result = Operand::Const(Const::bool(x.len() == y.len()));
    for (key, value) in x {
        let is = match y.iter().find(|(k, _)| k == key) {
            Some((_, other)) => same(b, value, other)?,
            None => Operand::Const(Const::bool(false)),
        };
        result = b.binary(BinaryOp::And, result, is);
    }
    Ok(result)
}

/// Whether two tensors of one element are equal; of more elements the question has no answer.
fn same_tensors(b: &mut Builder<'_>, x: &Tensor, y: &Tensor) -> Result<Operand> {
    let equal = elementwise(b, &[x, y], Some(DType::Bool), |k, v| k.binary(BinaryOp::Eq, v[0], v[1]))?;
    let count = b.product(&equal.dims);
    match known_int(&count) {
        Some(1) => {}
        Some(0) => return Err(b.user("Boolean value of Tensor with no values is ambiguous")),
        Some(_) => return Err(b.user("Boolean value of Tensor with more than one value is ambiguous")),
        None => {
            let is_one = b.binary(BinaryOp::Eq, count, int(1));
            b.check(is_one, "Boolean value of Tensor with more than one value is ambiguous");
        }
    }
    Ok(b.item(&equal))
}

fn contains(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, contents) = cell(b, args, 0)?;
    let items: Vec<Value> = match contents {
        Cell::Dict(entries) => entries.into_iter().map(|(k, _)| k).collect(),
        Cell::List(items) => items,
        Cell::RunTimeList(RunTimeList { var, .. }) | Cell::RunTimeDict(RunTimeDict { var, .. }) => {
            let routine = if matches!(contents, Cell::RunTimeList(_)) { "list_contains" } else { "dict_contains" };
            let item = b.item_arg(args.value(1)?)?;
            return Ok(Value::Bool(Operand::Var(b.call(routine, vec![var_arg(var), item], &[VarType::Bool])[0])));
        }
        Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => return Err(b.user("object is not a container")),
    };
    let wanted = args.value(1)?.clone();
    let mut found = Operand::Const(Const::bool(false));
    for item in &items {
        let is = same(b, item, &wanted)?;
        found = b.binary(BinaryOp::Or, found, is);
    }
    Ok(Value::Bool(found))
}
