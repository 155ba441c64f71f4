//! Lists and dicts. Those whose items are known live only while compiling; run-time lists are objects that routines change.

use super::scalar::number_value;
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, BufferClass, Const, Dim, Operand, VarId, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::aten::arrange;
use crate::ops::builder::Builder;
use crate::ops::value::{Cell, CellId, ItemFacts, RunTimeList, Tensor, Value, known, known_int};
use crate::ops::views;
use crate::types::DType;

/// Lists.
pub const LIST_DEFS: &[OpDef] = &[
    OpDef { name: "aten::len", lower: len },
    OpDef { name: "aten::__getitem__", lower: get_item },
    OpDef { name: "aten::select.t", lower: get_item },
    OpDef { name: "aten::_set_item", lower: set_item },
    OpDef { name: "aten::append", lower: append },
    OpDef { name: "aten::extend", lower: extend },
    OpDef { name: "aten::insert", lower: insert },
    OpDef { name: "aten::pop", lower: pop },
    OpDef { name: "aten::Delete", lower: delete },
    OpDef { name: "aten::clear", lower: clear },
    OpDef { name: "aten::copy.t", lower: copy },
    OpDef { name: "aten::list", lower: copy },
    OpDef { name: "aten::reverse", lower: reverse },
    OpDef { name: "aten::sort.int", lower: sort },
    OpDef { name: "aten::sort.float", lower: sort },
    OpDef { name: "aten::sort.bool", lower: sort },
    OpDef { name: "aten::sort.str", lower: sort },
    OpDef { name: "aten::sorted", lower: sorted },
    OpDef { name: "aten::slice.t", lower: slice },
    OpDef { name: "aten::add.t", lower: concat },
    OpDef { name: "aten::add_.t", lower: extend_same },
    OpDef { name: "aten::mul.left_t", lower: repeat },
    OpDef { name: "aten::mul.right_", lower: repeat },
    OpDef { name: "aten::index.list_int", lower: index },
    OpDef { name: "aten::index.list_float", lower: index },
    OpDef { name: "aten::index.list_bool", lower: index },
    OpDef { name: "aten::index.list_str", lower: index },
    OpDef { name: "aten::count", lower: count },
    OpDef { name: "aten::remove", lower: remove },
    OpDef { name: "aten::__contains__", lower: contains },
    OpDef { name: "aten::eq.int_list", lower: |b, a| equal(b, a, false) },
    OpDef { name: "aten::eq.float_list", lower: |b, a| equal(b, a, false) },
    OpDef { name: "aten::eq.bool_list", lower: |b, a| equal(b, a, false) },
    OpDef { name: "aten::eq.str_list", lower: |b, a| equal(b, a, false) },
    OpDef { name: "aten::ne.int_list", lower: |b, a| equal(b, a, true) },
    OpDef { name: "aten::ne.float_list", lower: |b, a| equal(b, a, true) },
    OpDef { name: "aten::ne.bool_list", lower: |b, a| equal(b, a, true) },
    OpDef { name: "aten::ne.str_list", lower: |b, a| equal(b, a, true) },
    OpDef { name: "aten::eq.enum", lower: |_, a| Ok(Value::bool(a.value(0)? == a.value(1)?)) },
    OpDef { name: "aten::ne.enum", lower: |_, a| Ok(Value::bool(a.value(0)? != a.value(1)?)) },
    OpDef { name: "prim::min.self_int", lower: |b, a| fold(b, a, BinaryOp::Min) },
    OpDef { name: "prim::min.self_float", lower: |b, a| fold(b, a, BinaryOp::Min) },
    OpDef { name: "prim::min.self_bool", lower: |b, a| fold(b, a, BinaryOp::And) },
    OpDef { name: "prim::max.self_int", lower: |b, a| fold(b, a, BinaryOp::Max) },
    OpDef { name: "prim::max.self_float", lower: |b, a| fold(b, a, BinaryOp::Max) },
    OpDef { name: "prim::max.self_bool", lower: |b, a| fold(b, a, BinaryOp::Or) },
    OpDef { name: "prim::min.int_list", lower: |b, a| extreme_list(b, a, false) },
    OpDef { name: "prim::min.float_list", lower: |b, a| extreme_list(b, a, false) },
    OpDef { name: "prim::min.bool_list", lower: |b, a| extreme_list(b, a, false) },
    OpDef { name: "prim::max.int_list", lower: |b, a| extreme_list(b, a, true) },
    OpDef { name: "prim::max.float_list", lower: |b, a| extreme_list(b, a, true) },
    OpDef { name: "prim::max.bool_list", lower: |b, a| extreme_list(b, a, true) },
    OpDef { name: "aten::sum.int", lower: |b, a| fold(b, a, BinaryOp::Add) },
    OpDef { name: "aten::sum.float", lower: |b, a| fold(b, a, BinaryOp::Add) },
    OpDef { name: "aten::all.int", lower: |b, a| truth(b, a, BinaryOp::And) },
    OpDef { name: "aten::all.float", lower: |b, a| truth(b, a, BinaryOp::And) },
    OpDef { name: "aten::all.bool", lower: |b, a| truth(b, a, BinaryOp::And) },
    OpDef { name: "aten::any.int", lower: |b, a| truth(b, a, BinaryOp::Or) },
    OpDef { name: "aten::any.float", lower: |b, a| truth(b, a, BinaryOp::Or) },
    OpDef { name: "aten::any.bool", lower: |b, a| truth(b, a, BinaryOp::Or) },
    OpDef { name: "prim::rangelist", lower: rangelist },
    OpDef { name: "aten::Size", lower: copy },
];

/// Dicts.
pub const DICT_DEFS: &[OpDef] = &[
    OpDef { name: "aten::keys", lower: keys },
    OpDef { name: "aten::values", lower: values },
    OpDef { name: "aten::items", lower: entries },
    OpDef { name: "aten::get", lower: get },
    OpDef { name: "aten::setdefault", lower: set_default },
    OpDef { name: "aten::update", lower: update },
    OpDef { name: "aten::popitem", lower: pop_item },
    OpDef { name: "aten::dict", lower: dict },
    OpDef { name: "aten::copy.Dict_str", lower: copy },
    OpDef { name: "aten::copy.Dict_int", lower: copy },
    OpDef { name: "aten::copy.Dict_float", lower: copy },
    OpDef { name: "aten::copy.Dict_bool", lower: copy },
];

fn int(value: i64) -> Operand {
    Operand::Const(Const::int(value))
}

/// The list or dict at this position, and its contents.
fn cell(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<(CellId, Cell)> {
    match args.value(at)? {
        Value::Cell(id) => Ok((*id, b.heap.cells[*id].clone())),
        other => Err(b.user(format!("expected a list or dict in {}, found {}", b.op_name, other.kind()))),
    }
}

/// A list's items where they are known.
fn list(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<(CellId, Vec<Value>)> {
    let (id, cell) = cell(b, args, at)?;
    let items = match cell {
        Cell::List(items) => items,
        Cell::RunTimeList(_) | Cell::Dict(_) | Cell::Object(_) => b.items(args.value(at)?)?,
    };
    Ok((id, items))
}

fn dict_cell(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<(CellId, Vec<(Value, Value)>)> {
    match cell(b, args, at)? {
        (id, Cell::Dict(entries)) => Ok((id, entries)),
        _ => Err(b.unsupported(format!("{} of something other than a dict with known keys", b.op_name))),
    }
}

/// Ends the running program with an exception of this class; gives what nothing will read.
fn raise(b: &mut Builder<'_>, class: &str, message: &str) -> Value {
    b.check_class(Operand::Const(Const::bool(false)), class, message);
    Value::Uninitialized
}

/// The object that a run-time list is, as a routine's argument.
fn object(list: &RunTimeList) -> Arg {
    Arg::Scalar(Operand::Var(list.var))
}

fn item_arg(b: &mut Builder<'_>, value: &Value) -> Result<Arg> {
    Ok(match value {
        Value::Int(o) | Value::Float(o) | Value::Bool(o) | Value::Str(o) => Arg::Scalar(o.clone()),
        Value::Tensor(t) => Arg::Buffer(b.row_major(t)),
        other => return Err(b.unsupported(format!("a run-time list of {}", other.kind()))),
    })
}

/// The value a routine gave as an item of a run-time list.
fn fetched(b: &mut Builder<'_>, routine: &'static str, args: Vec<Arg>, facts: &ItemFacts) -> Value {
    let ty = match facts {
        ItemFacts::Int => VarType::Int,
        ItemFacts::Float => VarType::Float,
        ItemFacts::Bool => VarType::Bool,
        ItemFacts::Str | ItemFacts::Tensor(..) => VarType::Object,
        ItemFacts::Empty => return raise(b, "IndexError", "list index out of range"),
    };
    let var = b.call(routine, args, &[ty])[0];
    match facts {
        ItemFacts::Tensor(dtype, dims) => Value::Tensor(tensor_in(b, var, *dtype, dims)),
        ItemFacts::Str => Value::Str(Operand::Var(var)),
        ItemFacts::Int | ItemFacts::Float | ItemFacts::Bool | ItemFacts::Empty => number_value(b, Operand::Var(var)),
    }
}

/// The tensor in an object variable; extents that vary are asked of the object.
pub fn tensor_in(b: &mut Builder<'_>, var: VarId, dtype: DType, dims: &[Option<i64>]) -> Tensor {
    let mut extents = Vec::with_capacity(dims.len());
    for (i, dim) in dims.iter().enumerate() {
        extents.push(match dim {
            Some(n) => Dim::Const(*n),
            None => {
                let at = Arg::Scalar(int(i64::try_from(i).unwrap_or(i64::MAX)));
                let found = b.call("tensor_dim", vec![Arg::Scalar(Operand::Var(var)), at], &[VarType::Int]);
                Dim::Var(found[0])
            }
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
        Cell::Object(_) => return Err(b.user("object of this type has no len()")),
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
                let key = known_key(b, args, 1)?;
                let found = entries.into_iter().find(|(k, _)| *k == key);
                return Ok(match found {
                    Some((_, value)) => value,
                    None => missing(b, &key),
                });
            }
            Cell::RunTimeList(list) => {
                let at = Arg::Scalar(args.int(b, 1)?);
                return Ok(fetched(b, "list_get", vec![object(&list), at], &list.item));
            }
            Cell::Object(_) => return Err(b.user("object is not subscriptable")),
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
        if !items.iter().all(same) {
            return Err(b.unsupported("a tensor chosen when running from a list of tensors of different shapes"));
        }
        let mut rows = Vec::with_capacity(items.len());
        for item in items {
            if let Value::Tensor(t) = item {
                rows.push(views::unsqueeze(b, t, 0));
            }
        }
        let all = arrange::cat(b, &rows, 0)?;
        return Ok(Value::Tensor(views::select(b, &all, 0, index)));
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

fn missing(b: &mut Builder<'_>, key: &Value) -> Value {
    let text = super::text::constant_text(key).unwrap_or_default();
    raise(b, "KeyError", &text)
}

/// A key that is known when compiling.
fn known_key(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<Value> {
    let key = args.value(at)?;
    let is_known = match key {
        Value::Int(o) | Value::Float(o) | Value::Bool(o) => known(o).is_some(),
        Value::Str(o) => matches!(o, Operand::Str(_)),
        _ => false,
    };
    if is_known {
        return Ok(key.clone());
    }
    Err(b.unsupported(format!("{} with a key that is known only when running", b.op_name)))
}

fn store(b: &mut Builder<'_>, id: CellId, cell: Cell) {
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
            let key = known_key(b, args, 1)?;
            put(&mut entries, key, value);
            store(b, id, Cell::Dict(entries));
        }
        Cell::RunTimeList(list) => {
            let at = Arg::Scalar(args.int(b, 1)?);
            let item = item_arg(b, &value)?;
            let facts = b.join_item(&list.item, &value)?;
            b.call("list_set", vec![object(&list), at, item], &[]);
            store(b, id, Cell::RunTimeList(RunTimeList { var: list.var, item: facts }));
        }
        Cell::Object(_) => return Err(b.user("object does not support item assignment")),
    }
    Ok(args.value(0)?.clone())
}

fn put(entries: &mut Vec<(Value, Value)>, key: Value, value: Value) {
    match entries.iter_mut().find(|(k, _)| *k == key) {
        Some(entry) => entry.1 = value,
        None => entries.push((key, value)),
    }
}

/// Appends an item to whatever kind of list this is.
fn push(b: &mut Builder<'_>, id: CellId, item: Value) -> Result<()> {
    match b.heap.cells[id].clone() {
        Cell::List(mut items) => {
            items.push(item);
            store(b, id, Cell::List(items));
        }
        Cell::RunTimeList(list) => {
            let facts = b.run_time_push(list.var, &list.item, &item)?;
            store(b, id, Cell::RunTimeList(RunTimeList { var: list.var, item: facts }));
        }
        Cell::Dict(_) | Cell::Object(_) => return Err(b.user("append needs a list")),
    }
    Ok(())
}

fn append(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, _) = cell(b, args, 0)?;
    push(b, id, args.value(1)?.clone())?;
    Ok(args.value(0)?.clone())
}

fn extend(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    extend_same(b, args)?;
    Ok(Value::None)
}

fn extend_same(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, target) = cell(b, args, 0)?;
    let (_, source) = cell(b, args, 1)?;
    if let Cell::RunTimeList(more) = source {
        let target = match target {
            Cell::RunTimeList(list) => list,
            Cell::List(items) => {
                let (var, item) = b.run_time_list(&items)?;
                RunTimeList { var, item }
            }
            Cell::Dict(_) | Cell::Object(_) => return Err(b.user("extend needs a list")),
        };
        let facts = b.join_items(&target.item, &more.item)?;
        b.call("list_extend", vec![object(&target), object(&more)], &[]);
        store(b, id, Cell::RunTimeList(RunTimeList { var: target.var, item: facts }));
    } else {
        for item in b.items(args.value(1)?)? {
            push(b, id, item)?;
        }
    }
    Ok(args.value(0)?.clone())
}

fn insert(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, contents) = cell(b, args, 0)?;
    let value = args.value(2)?.clone();
    if let Cell::RunTimeList(list) = contents {
        let at = Arg::Scalar(args.int(b, 1)?);
        let item = item_arg(b, &value)?;
        let facts = b.join_item(&list.item, &value)?;
        b.call("list_insert", vec![object(&list), at, item], &[]);
        store(b, id, Cell::RunTimeList(RunTimeList { var: list.var, item: facts }));
        return Ok(Value::None);
    }
    let (_, mut items) = list(b, args, 0)?;
    let n = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let at = args.known_int(b, 1)?;
    let at = if at < 0 { (at + n).max(0) } else { at.min(n) };
    items.insert(usize::try_from(at).unwrap_or(0), value);
    store(b, id, Cell::List(items));
    Ok(Value::None)
}

fn pop(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, contents) = cell(b, args, 0)?;
    match contents {
        Cell::Dict(mut entries) => {
            let key = known_key(b, args, 1)?;
            match entries.iter().position(|(k, _)| *k == key) {
                Some(at) => {
                    let (_, value) = entries.remove(at);
                    store(b, id, Cell::Dict(entries));
                    Ok(value)
                }
                None => match args.values.get(2) {
                    Some(default) => Ok(default.clone()),
                    None => Ok(missing(b, &key)),
                },
            }
        }
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
        Cell::Object(_) => Err(b.user("pop needs a list or dict")),
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
        Cell::List(_) | Cell::Object(_) => Cell::List(Vec::new()),
    };
    store(b, id, empty);
    Ok(Value::None)
}

fn copy(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let Value::Str(_) = args.value(0)? {
        let text = args.text(b, 0)?;
        let letters = text.chars().map(|c| Value::text(&c.to_string())).collect();
        return Ok(b.new_list(letters));
    }
    let (_, contents) = cell(b, args, 0)?;
    let copied = match contents {
        Cell::RunTimeList(list) => {
            let var = b.call("list_copy", vec![object(&list)], &[VarType::Object])[0];
            Cell::RunTimeList(RunTimeList { var, item: list.item })
        }
        Cell::Object(_) => return Err(b.user("copy needs a list or dict")),
        other @ (Cell::List(_) | Cell::Dict(_)) => other,
    };
    Ok(Value::Cell(b.heap.cells.push(copied)))
}

fn reverse(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let (_, Cell::RunTimeList(list)) = cell(b, args, 0)? {
        b.call("list_reverse", vec![object(&list)], &[]);
        return Ok(Value::None);
    }
    let (id, mut items) = list(b, args, 0)?;
    items.reverse();
    store(b, id, Cell::List(items));
    Ok(Value::None)
}

/// Known numbers or texts in ascending order; stable.
fn in_order(b: &Builder<'_>, mut items: Vec<Value>, descending: bool) -> Result<Vec<Value>> {
    let key = |v: &Value| match v {
        Value::Int(o) | Value::Float(o) | Value::Bool(o) => known(o).map(|c| (c.as_f64(), None)),
        Value::Str(Operand::Str(text)) => Some((0.0, Some(text.clone()))),
        _ => None,
    };
    if items.iter().any(|v| key(v).is_none()) {
        return Err(b.unsupported("sorting a list of values known only when running"));
    }
    let compare = |x: &Value, y: &Value| {
        let (x, y) = (key(x), key(y));
        x.partial_cmp(&y).unwrap_or(std::cmp::Ordering::Equal)
    };
    items.sort_by(|x, y| if descending { compare(y, x) } else { compare(x, y) });
    Ok(items)
}

fn sort(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let descending = args.values.len() > 1 && args.flag(b, 1)?;
    if let (_, Cell::RunTimeList(list)) = cell(b, args, 0)? {
        let flag = Arg::Scalar(Operand::Const(Const::bool(descending)));
        b.call("list_sort", vec![object(&list), flag], &[]);
        return Ok(Value::None);
    }
    let (id, items) = list(b, args, 0)?;
    let items = in_order(b, items, descending)?;
    store(b, id, Cell::List(items));
    Ok(Value::None)
}

fn sorted(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, items) = list(b, args, 0)?;
    let items = in_order(b, items, false)?;
    Ok(b.new_list(items))
}

fn slice(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, contents) = cell(b, args, 0)?;
    if let Cell::RunTimeList(list) = contents {
        let mut operands = vec![object(&list)];
        for (at, default) in [(1, 0), (2, i64::MAX), (3, 1)] {
            let bound = args.optional_int(b, at)?.unwrap_or_else(|| int(default));
            operands.push(Arg::Scalar(bound));
        }
        let var = b.call("list_slice", operands, &[VarType::Object])[0];
        let sliced = Cell::RunTimeList(RunTimeList { var, item: list.item });
        return Ok(Value::Cell(b.heap.cells.push(sliced)));
    }
    let items = b.items(args.value(0)?)?;
    let bound = |b: &mut Builder<'_>, at: usize| -> Result<Option<i64>> {
        if matches!(args.value(at)?, Value::None) { Ok(None) } else { args.known_int(b, at).map(Some) }
    };
    let (start, end) = (bound(b, 1)?, bound(b, 2)?);
    let step = args.known_int(b, 3)?;
    let chosen = slice_positions(items.len(), start, end, step);
    let Some(chosen) = chosen else { return Err(b.user("slice step cannot be zero")) };
    let items = chosen.into_iter().map(|i| items[i].clone()).collect();
    Ok(b.new_list(items))
}

/// The positions Python's slice takes of a sequence; `None` for a step of 0.
pub fn slice_positions(len: usize, start: Option<i64>, end: Option<i64>, step: i64) -> Option<Vec<usize>> {
    let n = i64::try_from(len).ok()?;
    // Going backwards the position before the first is a bound too.
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let clamp = |bound: i64| {
        let moved = if bound < 0 { bound.saturating_add(n) } else { bound };
        moved.clamp(low, high)
    };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let (mut at, end) = (start.map_or(first, clamp), end.map_or(last, clamp));
    if step == 0 {
        return None;
    }
    let mut positions = Vec::new();
    while if step > 0 { at < end } else { at > end } {
        positions.push(usize::try_from(at).ok()?);
        at = at.saturating_add(step);
    }
    Some(positions)
}

fn concat(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, first) = cell(b, args, 0)?;
    let new = match first {
        Cell::RunTimeList(list) => {
            let var = b.call("list_copy", vec![object(&list)], &[VarType::Object])[0];
            Value::Cell(b.heap.cells.push(Cell::RunTimeList(RunTimeList { var, item: list.item })))
        }
        Cell::List(items) => b.new_list(items),
        Cell::Dict(_) | Cell::Object(_) => return Err(b.user("only lists can be concatenated")),
    };
    let both = [new, args.value(1)?.clone()];
    extend_same(b, &Args { schema: args.schema, values: &both })
}

fn repeat(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (of, times) = if matches!(args.value(0)?, Value::Cell(_)) { (0, 1) } else { (1, 0) };
    let (_, items) = list(b, args, of)?;
    let n = usize::try_from(args.known_int(b, times)?.max(0)).unwrap_or(0);
    let repeated = std::iter::repeat_n(items, n).flatten().collect();
    Ok(b.new_list(repeated))
}

/// Whether two items are equal: folded where both are known.
fn same(b: &mut Builder<'_>, x: &Value, y: &Value) -> Operand {
    match (x, y) {
        (Value::Int(p) | Value::Bool(p) | Value::Float(p), Value::Int(q) | Value::Bool(q) | Value::Float(q)) => {
            let (p, q) = (b.cast(DType::F64, p.clone()), b.cast(DType::F64, q.clone()));
            b.binary(BinaryOp::Eq, p, q)
        }
        (Value::Str(p), Value::Str(q)) => super::text::same(b, p, q),
        _ => Operand::Const(Const::bool(x == y)),
    }
}

fn contains(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, contents) = cell(b, args, 0)?;
    let items: Vec<Value> = match contents {
        Cell::Dict(entries) => entries.into_iter().map(|(k, _)| k).collect(),
        Cell::List(items) => items,
        Cell::RunTimeList(list) => {
            let item = item_arg(b, args.value(1)?)?;
            let found = b.call("list_contains", vec![object(&list), item], &[VarType::Bool]);
            return Ok(Value::Bool(Operand::Var(found[0])));
        }
        Cell::Object(_) => return Err(b.user("object is not a container")),
    };
    let wanted = args.value(1)?.clone();
    let mut found = Operand::Const(Const::bool(false));
    for item in &items {
        let is = same(b, item, &wanted);
        found = b.binary(BinaryOp::Or, found, is);
    }
    Ok(Value::Bool(found))
}

/// The first known position of an item; `None` if it is not there.
fn find(b: &mut Builder<'_>, args: &Args<'_>, items: &[Value]) -> Result<Option<usize>> {
    let wanted = args.value(1)?.clone();
    for (at, item) in items.iter().enumerate() {
        let is = same(b, item, &wanted);
        match known(&is) {
            Some(c) if c.bits != 0 => return Ok(Some(at)),
            Some(_) => {}
            None => return Err(b.unsupported("a search among values that are known only when running")),
        }
    }
    Ok(None)
}

fn index(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, items) = list(b, args, 0)?;
    match find(b, args, &items)? {
        Some(at) => Ok(Value::int(i64::try_from(at).unwrap_or(i64::MAX))),
        None => {
            let text = super::text::constant_text(args.value(1)?).unwrap_or_default();
            Ok(raise(b, "ValueError", &format!("'{text}' is not in list")))
        }
    }
}

fn count(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, items) = list(b, args, 0)?;
    let wanted = args.value(1)?.clone();
    let mut total = int(0);
    for item in &items {
        let is = same(b, item, &wanted);
        let one = b.cast(DType::I64, is);
        total = b.binary(BinaryOp::Add, total, one);
    }
    Ok(Value::Int(total))
}

fn remove(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, mut items) = list(b, args, 0)?;
    let Some(at) = find(b, args, &items)? else {
        return Ok(raise(b, "ValueError", "list.remove(x): x not in list"));
    };
    items.remove(at);
    store(b, id, Cell::List(items));
    Ok(Value::None)
}

fn equal(b: &mut Builder<'_>, args: &Args<'_>, negated: bool) -> Result<Value> {
    let (x, y) = (b.items(args.value(0)?)?, b.items(args.value(1)?)?);
    let mut result = Operand::Const(Const::bool(x.len() == y.len()));
    for (p, q) in x.iter().zip(&y) {
        let is = same(b, p, q);
        result = b.binary(BinaryOp::And, result, is);
    }
    Ok(Value::Bool(if negated { b.unary(crate::loops::UnaryOp::Not, result) } else { result }))
}

/// All items of a list combined; an empty one is an error, except that its sum is 0.
fn fold(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let (_, items) = list(b, args, 0)?;
    let mut result: Option<Operand> = None;
    for item in &items {
        let (Value::Int(o) | Value::Float(o) | Value::Bool(o)) = item else {
            return Err(b.user(format!("expected a list of numbers in {}", b.op_name)));
        };
        result = Some(match result {
            None => o.clone(),
            Some(so_far) => b.binary(op, so_far, o.clone()),
        });
    }
    Ok(match result {
        Some(result) => number_value(b, result),
        None if op == BinaryOp::Add => Value::int(0),
        None => {
            let message = format!("{}() arg is an empty sequence", b.op_name);
            raise(b, "ValueError", &message)
        }
    })
}

fn truth(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let (_, items) = list(b, args, 0)?;
    let mut result = Operand::Const(Const::bool(op == BinaryOp::And));
    for item in &items {
        if let Value::Int(o) | Value::Float(o) | Value::Bool(o) = item {
            let one = b.cast(DType::Bool, o.clone());
            result = b.binary(op, result, one);
        }
    }
    Ok(Value::Bool(result))
}

/// The lesser or greater of two lists of known numbers, compared item by item.
fn extreme_list(b: &mut Builder<'_>, args: &Args<'_>, greatest: bool) -> Result<Value> {
    let numbers = |items: Vec<Value>| -> Option<Vec<f64>> {
        let number = |v: &Value| match v {
            Value::Int(o) | Value::Float(o) | Value::Bool(o) => known(o).map(Const::as_f64),
            _ => None,
        };
        items.iter().map(number).collect()
    };
    let (x, y) = (list(b, args, 0)?.1, list(b, args, 1)?.1);
    let (Some(x), Some(y)) = (numbers(x), numbers(y)) else {
        return Err(b.unsupported("comparing lists of values known only when running"));
    };
    let takes_second = if greatest { y > x } else { y < x };
    Ok(args.value(usize::from(takes_second))?.clone())
}

fn rangelist(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let n = args.known_int(b, 0)?;
    Ok(b.new_list((0..n).map(Value::int).collect()))
}

fn keys(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, entries) = dict_cell(b, args, 0)?;
    Ok(b.new_list(entries.into_iter().map(|(k, _)| k).collect()))
}

fn values(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, entries) = dict_cell(b, args, 0)?;
    Ok(b.new_list(entries.into_iter().map(|(_, v)| v).collect()))
}

fn entries(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, entries) = dict_cell(b, args, 0)?;
    Ok(b.new_list(entries.into_iter().map(|(k, v)| Value::Tuple(vec![k, v], None)).collect()))
}

fn get(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, entries) = dict_cell(b, args, 0)?;
    let key = known_key(b, args, 1)?;
    let found = entries.into_iter().find(|(k, _)| *k == key).map(|(_, v)| v);
    Ok(found.or_else(|| args.values.get(2).cloned()).unwrap_or(Value::None))
}

fn set_default(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, mut entries) = dict_cell(b, args, 0)?;
    let key = known_key(b, args, 1)?;
    if let Some((_, value)) = entries.iter().find(|(k, _)| *k == key) {
        return Ok(value.clone());
    }
    let value = args.value(2)?.clone();
    entries.push((key, value.clone()));
    store(b, id, Cell::Dict(entries));
    Ok(value)
}

fn update(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, mut entries) = dict_cell(b, args, 0)?;
    for (key, value) in dict_cell(b, args, 1)?.1 {
        put(&mut entries, key, value);
    }
    store(b, id, Cell::Dict(entries));
    Ok(Value::None)
}

fn pop_item(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, mut entries) = dict_cell(b, args, 0)?;
    let Some((key, value)) = entries.pop() else {
        return Ok(raise(b, "KeyError", "popitem(): dictionary is empty"));
    };
    store(b, id, Cell::Dict(entries));
    Ok(Value::Tuple(vec![key, value], None))
}

/// A new dict: empty, a copy of one, or of a list of pairs.
fn dict(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut made = Vec::new();
    if !args.values.is_empty() {
        match cell(b, args, 0)?.1 {
            Cell::Dict(entries) => made = entries,
            Cell::List(items) => {
                for item in items {
                    let Value::Tuple(pair, _) = item else { return Err(b.user("dict expects a list of pairs")) };
                    let [key, value] = &pair[..] else { return Err(b.user("dict expects a list of pairs")) };
                    put(&mut made, key.clone(), value.clone());
                }
            }
            Cell::RunTimeList(_) | Cell::Object(_) => {
                return Err(b.unsupported("a dict of a list known only when running"));
            }
        }
    }
    Ok(Value::Cell(b.heap.cells.push(Cell::Dict(made))))
}
