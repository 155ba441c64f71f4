//! Lists: grown, sliced, ordered, searched and summed up.

use super::container::{all_same, cell, list, object, raise, same, store};
use super::scalar::number_value;
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Const, Operand, UnaryOp, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::value::{Cell, CellId, RunTimeList, Value, int, known};
use crate::types::DType;
use aot_runtime::strings::slice_positions;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::append", lower: append },
    OpDef { name: "aten::extend", lower: extend },
    OpDef { name: "aten::insert", lower: insert },
    OpDef { name: "aten::reverse", lower: reverse },
    OpDef { name: "aten::slice.t", lower: slice },
    OpDef { name: "aten::add.t", lower: concat },
    OpDef { name: "aten::add_.t", lower: extend_same },
    OpDef { name: "aten::mul.left_t", lower: repeat },
    OpDef { name: "aten::mul.right_", lower: repeat },
    OpDef { name: "aten::index.list_int", lower: index },
    OpDef { name: "aten::index.list_float", lower: index },
    OpDef { name: "aten::index.list_bool", lower: index },
    OpDef { name: "aten::index.list_str", lower: index },
    OpDef { name: "aten::index.list_Tensor", lower: index },
    OpDef { name: "aten::count.int", lower: count },
    OpDef { name: "aten::count.float", lower: count },
    OpDef { name: "aten::count.bool", lower: count },
    OpDef { name: "aten::count.str", lower: count },
    OpDef { name: "aten::count.Tensor", lower: count },
    OpDef { name: "aten::remove", lower: remove },
    OpDef { name: "aten::eq.int_list", lower: |b, a| equal(b, a, false) },
    OpDef { name: "aten::eq.float_list", lower: |b, a| equal(b, a, false) },
    OpDef { name: "aten::eq.bool_list", lower: |b, a| equal(b, a, false) },
    OpDef { name: "aten::eq.str_list", lower: |b, a| equal(b, a, false) },
    OpDef { name: "aten::eq.Tensor_list", lower: |b, a| equal(b, a, false) },
    OpDef { name: "aten::ne.Tensor_list", lower: |b, a| equal(b, a, true) },
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
    OpDef { name: "aten::sum.int", lower: |b, a| fold(b, a, BinaryOp::Add) },
    OpDef { name: "aten::sum.float", lower: |b, a| fold(b, a, BinaryOp::Add) },
    OpDef { name: "aten::all.int", lower: |b, a| truth(b, a, BinaryOp::And) },
    OpDef { name: "aten::all.float", lower: |b, a| truth(b, a, BinaryOp::And) },
    OpDef { name: "aten::all.bool", lower: |b, a| truth(b, a, BinaryOp::And) },
    OpDef { name: "aten::any.int", lower: |b, a| truth(b, a, BinaryOp::Or) },
    OpDef { name: "aten::any.float", lower: |b, a| truth(b, a, BinaryOp::Or) },
    OpDef { name: "aten::any.bool", lower: |b, a| truth(b, a, BinaryOp::Or) },
    OpDef { name: "prim::rangelist", lower: rangelist },
];

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
        Cell::Dict(_) | Cell::Object(_) | Cell::Future(_) => return Err(b.user("append needs a list")),
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
            Cell::Dict(_) | Cell::Object(_) | Cell::Future(_) => return Err(b.user("extend needs a list")),
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
        let item = b.item_arg(&value)?;
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

fn concat(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, first) = cell(b, args, 0)?;
    let new = match first {
        Cell::RunTimeList(list) => {
            let var = b.call("list_copy", vec![object(&list)], &[VarType::Object])[0];
            Value::Cell(b.heap.cells.push(Cell::RunTimeList(RunTimeList { var, item: list.item })))
        }
        Cell::List(items) => b.new_list(items),
        Cell::Dict(_) | Cell::Object(_) | Cell::Future(_) => return Err(b.user("only lists can be concatenated")),
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

/// The first known position of an item; `None` if it is not there.
fn find(b: &mut Builder<'_>, args: &Args<'_>, items: &[Value]) -> Result<Option<usize>> {
    let wanted = args.value(1)?.clone();
    for (at, item) in items.iter().enumerate() {
        let is = same(b, item, &wanted)?;
        match known(&is) {
            Some(c) if c.bits != 0 => return Ok(Some(at)),
            Some(_) => {}
            // A comparison of numbers is found again when this is lowered for an answer; others are not.
            None if matches!(item, Value::Int(_) | Value::Float(_) | Value::Bool(_)) => {
                if b.decide(&is)? {
                    return Ok(Some(at));
                }
            }
            None => return Err(b.unsupported("a search among values that are known only when running")),
        }
    }
    Ok(None)
}

fn index(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, items) = list(b, args, 0)?;
    // The last match is overwritten by earlier ones, so that items compared only when running need no branch.
    let wanted = args.value(1)?.clone();
    let mut position = int(-1);
    for (at, item) in items.iter().enumerate().rev() {
        let is = same(b, item, &wanted)?;
        position = b.select(is, int(i64::try_from(at).unwrap_or(i64::MAX)), position);
    }
    if known(&position).is_none() {
        let is_there = b.binary(BinaryOp::Ge, position.clone(), int(0));
        let text = super::text::constant_text(&wanted).unwrap_or_default();
        b.check_class(is_there, "ValueError", &format!("'{text}' is not in list"));
        return Ok(Value::Int(position));
    }
    if let Some(at) = find(b, args, &items)? {
        Ok(Value::int(i64::try_from(at).unwrap_or(i64::MAX)))
    } else {
        let text = super::text::constant_text(args.value(1)?).unwrap_or_default();
        Ok(raise(b, "ValueError", &format!("'{text}' is not in list")))
    }
}

fn count(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, items) = list(b, args, 0)?;
    let wanted = args.value(1)?.clone();
    let mut total = int(0);
    for item in &items {
        let is = same(b, item, &wanted)?;
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
    let result = all_same(b, &x, &y)?;
    Ok(Value::Bool(if negated { b.unary(UnaryOp::Not, result) } else { result }))
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

fn rangelist(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let n = args.known_int(b, 0)?;
    Ok(b.new_list((0..n).map(Value::int).collect()))
}
