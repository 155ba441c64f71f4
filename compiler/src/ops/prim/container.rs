//! What lists and dicts share: items read, set and removed.
//!
//! Those whose items are known live only while compiling; run-time lists are objects that routines change.

use super::scalar::number_value;
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, BufferClass, Const, Dim, Operand, VarId, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::aten::arrange;
use crate::ops::aten::pointwise::elementwise;
use crate::ops::builder::Builder;
use crate::ops::value::{Cell, CellId, FutureCell, ItemFacts, RunTimeList, Tensor, Value, int, known, known_int};
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
        Cell::RunTimeList(_) | Cell::Dict(_) | Cell::Object(_) | Cell::Future(_) => b.items(args.value(at)?)?,
    };
    Ok((id, items))
}

/// Ends the running program with an exception of this class; gives what nothing will read.
pub(super) fn raise(b: &mut Builder<'_>, class: &str, message: &str) -> Value {
    b.check_class(Operand::Const(Const::bool(false)), class, message);
    Value::Uninitialized
}

/// The object that a run-time list is, as a routine's argument.
pub(super) fn object(list: &RunTimeList) -> Arg {
    Arg::Scalar(Operand::Var(list.var))
}

/// The value a routine gave as an item of a run-time list.
pub(super) fn fetched(b: &mut Builder<'_>, routine: &'static str, args: Vec<Arg>, facts: &ItemFacts) -> Value {
    let ty = match facts {
        ItemFacts::Int => VarType::Int,
        ItemFacts::Float => VarType::Float,
        ItemFacts::Bool => VarType::Bool,
        ItemFacts::Str | ItemFacts::Tensor(..) | ItemFacts::Future(_) => VarType::Object,
        ItemFacts::Empty => return raise(b, "IndexError", "list index out of range"),
    };
    let var = b.call(routine, args, &[ty])[0];
    match facts {
        ItemFacts::Tensor(dtype, dims) => Value::Tensor(tensor_in(b, var, *dtype, dims)),
        ItemFacts::Str => Value::Str(Operand::Var(var)),
        ItemFacts::Future(result) => {
            Value::Cell(b.heap.cells.push(Cell::Future(Box::new(FutureCell::new(var, *result)))))
        }
        ItemFacts::Int | ItemFacts::Float | ItemFacts::Bool | ItemFacts::Empty => number_value(b, Operand::Var(var)),
    }
}

/// The tensor in an object variable; extents that vary are asked of the object.
pub fn tensor_in(b: &mut Builder<'_>, var: VarId, dtype: DType, dims: &[Option<i64>]) -> Tensor {
    let mut extents = Vec::with_capacity(dims.len());
    for (i, dim) in dims.iter().enumerate() {
        extents.push(if let Some(n) = dim {
            Dim::Const(*n)
        } else {
            let at = Arg::Scalar(int(i64::try_from(i).unwrap_or(i64::MAX)));
            let found = b.call("tensor_dim", vec![Arg::Scalar(Operand::Var(var)), at], &[VarType::Int]);
            Dim::Var(found[0])
        });
    }
    let buffer = b.add_buffer(dtype, &extents, BufferClass::Object(var));
    b.tensor_of(buffer)
}

fn len(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let count = |n: usize| Value::int(i64::try_from(n).unwrap_or(i64::MAX));
    if let Value::Tuple(items, _) = args.value(0)? {
        return Ok(count(items.len()));
    }
    Ok(match cell(b, args, 0)?.1 {
        Cell::List(items) => count(items.len()),
        Cell::Dict(entries) => count(entries.len()),
        Cell::RunTimeList(list) => {
            let n = b.call("list_len", vec![object(&list)], &[VarType::Int]);
            Value::Int(Operand::Var(n[0]))
        }
        Cell::Object(_) | Cell::Future(_) => return Err(b.user("object of this type has no len()")),
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
            Cell::Dict(entries) => {
                return Ok(match entry(b, &entries, args.value(1)?)? {
                    Some(at) => entries[at].1.clone(),
                    None => missing(b, args.value(1)?),
                });
            }
            Cell::RunTimeList(list) => {
                let at = Arg::Scalar(args.int(b, 1)?);
                return Ok(fetched(b, "list_get", vec![object(&list), at], &list.item));
            }
            Cell::Object(_) | Cell::Future(_) => return Err(b.user("object is not subscriptable")),
        }
    };
    let index = args.int(b, 1)?;
    match known_int(&index) {
        Some(i) => Ok(match position(i, items.len()) {
            Some(at) => items[at].clone(),
            None => raise(b, "IndexError", "list index out of range"),
        }),
        None => pick(b, &items, index),
    }
}

/// The item of a known list at a position only the running program knows.
fn pick(b: &mut Builder<'_>, items: &[Value], index: Operand) -> Result<Value> {
    let n = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let is_negative = b.binary(BinaryOp::Lt, index.clone(), int(0));
    let moved = b.binary(BinaryOp::Add, index.clone(), int(n));
    let index = b.select(is_negative, moved, index);
    let (low, high) = (b.binary(BinaryOp::Ge, index.clone(), int(0)), b.binary(BinaryOp::Lt, index.clone(), int(n)));
    let inside = b.binary(BinaryOp::And, low, high);
    b.check_class(inside, "IndexError", "list index out of range");
    let Some(first) = items.first() else { return Ok(Value::Uninitialized) };
    if let Value::Tensor(tensor) = first {
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
    // What is not a number has no selection of its own: the running program takes it from a list object.
    if matches!(first, Value::Tensor(_) | Value::Str(_)) {
        let (var, facts) = b.run_time_list(items)?;
        let list = Arg::Scalar(Operand::Var(var));
        return Ok(fetched(b, "list_get", vec![list, Arg::Scalar(index)], &facts));
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

/// Ends the running program for a key that is not there.
pub(super) fn missing(b: &mut Builder<'_>, key: &Value) -> Value {
    let text = super::text::constant_text(key).unwrap_or_default();
    raise(b, "KeyError", &text)
}

/// Where a key's entry is; a key that only the running program knows is compared with each, and the code that follows is
/// lowered once for each answer.
pub(super) fn entry(b: &mut Builder<'_>, entries: &[(Value, Value)], key: &Value) -> Result<Option<usize>> {
    if is_known_key(key) {
        return Ok(entries.iter().position(|(k, _)| k == key));
    }
    if !matches!(key, Value::Int(_) | Value::Float(_) | Value::Bool(_)) {
        return Err(b.unsupported(format!("{} with a key that is known only when running", b.op_name)));
    }
    for (at, (k, _)) in entries.iter().enumerate() {
        let is = same(b, k, key)?;
        if b.decide(&is)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn is_known_key(key: &Value) -> bool {
    match key {
        Value::Int(o) | Value::Float(o) | Value::Bool(o) => known(o).is_some(),
        Value::Complex(re, im) => known(re).is_some() && known(im).is_some(),
        Value::Str(o) => matches!(o, Operand::Str(_)),
        _ => false,
    }
}

/// A key that is known when compiling.
pub(super) fn known_key(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<Value> {
    let key = args.value(at)?;
    if is_known_key(key) {
        return Ok(key.clone());
    }
    Err(b.unsupported(format!("{} with a key that is known only when running", b.op_name)))
}

/// Replaces what a list or dict holds.
pub(super) fn store(b: &mut Builder<'_>, id: CellId, cell: Cell) {
    b.heap.cells[id] = cell;
}

fn set_item(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, contents) = cell(b, args, 0)?;
    let value = args.value(2)?.clone();
    match contents {
        Cell::List(mut items) => {
            let at = position(args.known_int(b, 1)?, items.len());
            let Some(at) = at else { return Ok(raise(b, "IndexError", "list index out of range")) };
            items[at] = value;
            store(b, id, Cell::List(items));
        }
        Cell::Dict(mut entries) => {
            match entry(b, &entries, args.value(1)?)? {
                Some(at) => entries[at].1 = value,
                None => entries.push((known_key(b, args, 1)?, value)),
            }
            store(b, id, Cell::Dict(entries));
        }
        Cell::RunTimeList(list) => {
            let at = Arg::Scalar(args.int(b, 1)?);
            let item = b.item_arg(&value)?;
            let facts = b.join_item(&list.item, &value)?;
            b.call("list_set", vec![object(&list), at, item], &[]);
            store(b, id, Cell::RunTimeList(RunTimeList { var: list.var, item: facts }));
        }
        Cell::Object(_) | Cell::Future(_) => return Err(b.user("object does not support item assignment")),
    }
    Ok(args.value(0)?.clone())
}

/// Sets a key's value; a new key goes to the end.
pub(super) fn put(entries: &mut Vec<(Value, Value)>, key: Value, value: Value) {
    match entries.iter_mut().find(|(k, _)| *k == key) {
        Some(entry) => entry.1 = value,
        None => entries.push((key, value)),
    }
}

fn pop(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, contents) = cell(b, args, 0)?;
    match contents {
        Cell::Dict(mut entries) => match entry(b, &entries, args.value(1)?)? {
            Some(at) => {
                let (_, value) = entries.remove(at);
                store(b, id, Cell::Dict(entries));
                Ok(value)
            }
            None => match args.values.get(2) {
                Some(default) => Ok(default.clone()),
                None => Ok(missing(b, args.value(1)?)),
            },
        },
        Cell::RunTimeList(list) => {
            let at = if args.values.len() > 1 { args.int(b, 1)? } else { int(-1) };
            Ok(fetched(b, "list_pop", vec![object(&list), Arg::Scalar(at)], &list.item))
        }
        Cell::List(mut items) => {
            let at = if args.values.len() > 1 { args.known_int(b, 1)? } else { -1 };
            if items.is_empty() {
                return Ok(raise(b, "IndexError", "pop from empty list"));
            }
            let Some(at) = position(at, items.len()) else {
                return Ok(raise(b, "IndexError", "pop index out of range"));
            };
            let item = items.remove(at);
            store(b, id, Cell::List(items));
            Ok(item)
        }
        Cell::Object(_) | Cell::Future(_) => Err(b.user("pop needs a list or dict")),
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
            b.call("list_clear", vec![object(&list)], &[]);
            return Ok(Value::None);
        }
        Cell::List(_) | Cell::Object(_) | Cell::Future(_) => Cell::List(Vec::new()),
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
            let var = b.call("list_copy", vec![object(&list)], &[VarType::Object])[0];
            Cell::RunTimeList(RunTimeList { var, item: list.item })
        }
        Cell::Object(_) | Cell::Future(_) => return Err(b.user("copy needs a list or dict")),
        other @ (Cell::List(_) | Cell::Dict(_)) => other,
    };
    Ok(Value::Cell(b.heap.cells.push(copied)))
}

/// Whether two items are equal: folded where both are known.
pub(super) fn same(b: &mut Builder<'_>, x: &Value, y: &Value) -> Result<Operand> {
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
        (Value::Cell(p), Value::Cell(q)) if p != q => match (b.heap.cells[*p].clone(), b.heap.cells[*q].clone()) {
            (Cell::List(p), Cell::List(q)) => return all_same(b, &p, &q),
            (Cell::Dict(p), Cell::Dict(q)) => return same_entries(b, &p, &q),
            _ => Operand::Const(Const::bool(false)),
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
        Cell::RunTimeList(list) => {
            let item = b.item_arg(args.value(1)?)?;
            let found = b.call("list_contains", vec![object(&list), item], &[VarType::Bool]);
            return Ok(Value::Bool(Operand::Var(found[0])));
        }
        Cell::Object(_) | Cell::Future(_) => return Err(b.user("object is not a container")),
    };
    let wanted = args.value(1)?.clone();
    let mut found = Operand::Const(Const::bool(false));
    for item in &items {
        let is = same(b, item, &wanted)?;
        found = b.binary(BinaryOp::Or, found, is);
    }
    Ok(Value::Bool(found))
}
