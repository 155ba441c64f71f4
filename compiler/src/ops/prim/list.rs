//! Lists: grown, sliced, ordered, searched and summed up.

use super::container::{all_same, cell, list, raise, same, store};
use super::scalar::number_value;
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Block, Const, Operand, Stmt, UnaryOp, VarId, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::run_time::var_arg;
use crate::ops::value::{Cell, CellId, ItemFacts, RunTimeList, Value, int, known, known_int};
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
    OpDef { name: "aten::eq.enum", lower: |b, a| same_member(b, a, false) },
    OpDef { name: "aten::ne.enum", lower: |b, a| same_member(b, a, true) },
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

/// Longest list that operators make of known items; longer ones are objects.
const MAX_KNOWN_ITEMS: usize = 1024;

/// Appends an item to whatever kind of list this is.
fn push(b: &mut Builder<'_>, id: CellId, item: Value) -> Result<()> {
    match b.heap.cells[id].clone() {
        Cell::List(mut items) => {
            items.push(item);
            store(b, id, Cell::List(items));
            Ok(())
        }
        Cell::RunTimeList(list) => {
            let known = b.items_at(0, &list.item);
            let facts = b.run_time_push(list.var, &known, &item)?;
            b.widen_list(id, list, facts)
        }
        Cell::Dict(_) | Cell::RunTimeDict(_) | Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => {
            Err(b.user("append needs a list"))
        }
    }
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
    let (id, _) = cell(b, args, 0)?;
    let (_, source) = cell(b, args, 1)?;
    if let Cell::RunTimeList(more) = source {
        let list = b.to_run_time_list(id)?;
        let facts = b.join_items(&list.item, &more.item)?;
        b.call("list_extend", vec![var_arg(list.var), var_arg(more.var)], &[]);
        b.widen_list(id, list, facts)?;
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
    let at = args.int(b, 1)?;
    match (contents, known_int(&at)) {
        (Cell::List(mut items), Some(at)) => {
            let n = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let at = if at < 0 { (at + n).max(0) } else { at.min(n) };
            items.insert(usize::try_from(at).unwrap_or(0), value);
            store(b, id, Cell::List(items));
        }
        _ => {
            let list = b.to_run_time_list(id)?;
            let (item, facts) = b.kept_arg(&b.items_at(0, &list.item), &value)?;
            b.call("list_insert", vec![var_arg(list.var), Arg::Scalar(at), item], &[]);
            b.widen_list(id, list, facts)?;
        }
    }
    Ok(Value::None)
}

fn reverse(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let (_, Cell::RunTimeList(list)) = cell(b, args, 0)? {
        b.call("list_reverse", vec![var_arg(list.var)], &[]);
        return Ok(Value::None);
    }
    let (id, mut items) = list(b, args, 0)?;
    items.reverse();
    store(b, id, Cell::List(items));
    Ok(Value::None)
}

/// A list as an object that is only read: one whose items are known is made an object for this once.
fn read_object(b: &mut Builder<'_>, args: &Args<'_>, at: usize) -> Result<(VarId, ItemFacts)> {
    match cell(b, args, at)?.1 {
        Cell::RunTimeList(list) => {
            let facts = b.items_at(at, &list.item);
            Ok((list.var, facts))
        }
        _ => {
            let items = b.items(args.value(at)?)?;
            b.run_time_list(&items)
        }
    }
}

fn is_run_time(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<bool> {
    Ok(matches!(cell(b, args, at)?.1, Cell::RunTimeList(_)))
}

fn slice(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut bounds = Vec::with_capacity(3);
    for (at, default) in [(1, i64::MAX), (2, i64::MAX), (3, 1)] {
        bounds.push(args.optional_int(b, at)?.unwrap_or_else(|| int(default)));
    }
    let known: Option<Vec<i64>> = bounds.iter().map(known_int).collect();
    let Some(known) = known.filter(|_| !matches!(cell(b, args, 0), Ok((_, Cell::RunTimeList(_))))) else {
        let (list, facts) = read_object(b, args, 0)?;
        let operands = std::iter::once(var_arg(list)).chain(bounds.into_iter().map(Arg::Scalar)).collect();
        let var = b.call_for_object("list_slice", operands);
        return Ok(b.list_in(var, facts));
    };
    let items = b.items(args.value(0)?)?;
    let is_none = |at: usize| matches!(args.values.get(at), None | Some(Value::None));
    let bound = |at: usize| (!is_none(at)).then(|| known[at - 1]);
    let chosen = slice_positions(items.len(), bound(1), bound(2), known[2]);
    let Some(chosen) = chosen else { return Err(b.user("slice step cannot be zero")) };
    let items = chosen.into_iter().map(|i| items[i].clone()).collect();
    Ok(b.new_list(items))
}

fn concat(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, first) = cell(b, args, 0)?;
    let new = match first {
        Cell::RunTimeList(list) => {
            let var = b.call_for_object("list_copy", vec![var_arg(list.var)]);
            b.list_in(var, list.item)
        }
        Cell::List(items) => b.new_list(items),
        Cell::Dict(_) | Cell::RunTimeDict(_) | Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => {
            return Err(b.user("only lists can be concatenated"));
        }
    };
    let both = [new, args.value(1)?.clone()];
    extend_same(b, &Args { schema: args.schema, values: &both })
}

fn repeat(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (of, times) = if matches!(args.value(0)?, Value::Cell(_)) { (0, 1) } else { (1, 0) };
    let count = args.int(b, times)?;
    if let (Some(n), false) = (known_int(&count), is_run_time(b, args, of)?) {
        let items = list(b, args, of)?.1;
        let n = usize::try_from(n.max(0)).unwrap_or(0);
        if n.saturating_mul(items.len()) <= MAX_KNOWN_ITEMS {
            let repeated = std::iter::repeat_n(items, n).flatten().collect();
            return Ok(b.new_list(repeated));
        }
    }
    let (list, facts) = read_object(b, args, of)?;
    let var = b.call_for_object("list_repeat", vec![var_arg(list), Arg::Scalar(count)]);
    Ok(b.list_in(var, facts))
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

/// What a routine that looks for an item in a run-time list gives.
fn searched(b: &mut Builder<'_>, routine: &'static str, args: &Args<'_>) -> Result<Operand> {
    let operands = vec![b.item_arg(args.value(0)?)?, b.item_arg(args.value(1)?)?];
    Ok(Operand::Var(b.call(routine, operands, &[VarType::Int])[0]))
}

fn index(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let is_plain = |v: &Value| matches!(v, Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Str(_));
    let wanted = args.value(1)?;
    if is_run_time(b, args, 0)? {
        return Ok(Value::Int(searched(b, "list_index", args)?));
    }
    if is_plain(wanted) && super::text::constant_text(wanted).is_none() {
        // What is missing is known only when running, and so is the message that names it.
        let (list, _) = read_object(b, args, 0)?;
        let operands = vec![var_arg(list), b.item_arg(wanted)?];
        return Ok(Value::Int(Operand::Var(b.call("list_index", operands, &[VarType::Int])[0])));
    }
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
        b.check(is_there, format!("'{text}' is not in list"));
        return Ok(Value::Int(position));
    }
    if let Some(at) = find(b, args, &items)? {
        Ok(Value::int(i64::try_from(at).unwrap_or(i64::MAX)))
    } else {
        let text = super::text::constant_text(args.value(1)?).unwrap_or_default();
        Ok(raise(b, &format!("'{text}' is not in list")))
    }
}

fn count(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if is_run_time(b, args, 0)? {
        return Ok(Value::Int(searched(b, "list_count", args)?));
    }
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
    if let (_, Cell::RunTimeList(list)) = cell(b, args, 0)? {
        let item = b.item_arg(args.value(1)?)?;
        b.call("list_remove", vec![var_arg(list.var), item], &[]);
        return Ok(Value::None);
    }
    let (id, mut items) = list(b, args, 0)?;
    let Some(at) = find(b, args, &items)? else {
        return Ok(raise(b, "list.remove(x): x not in list"));
    };
    items.remove(at);
    store(b, id, Cell::List(items));
    Ok(Value::None)
}

fn equal(b: &mut Builder<'_>, args: &Args<'_>, negated: bool) -> Result<Value> {
    let result = if is_run_time(b, args, 0)? || is_run_time(b, args, 1)? {
        let (x, y) = (read_object(b, args, 0)?.0, read_object(b, args, 1)?.0);
        Operand::Var(b.call("list_eq", vec![var_arg(x), var_arg(y)], &[VarType::Bool])[0])
    } else {
        let (x, y) = (b.items(args.value(0)?)?, b.items(args.value(1)?)?);
        all_same(b, &x, &y)?
    };
    Ok(Value::Bool(if negated { b.unary(UnaryOp::Not, result) } else { result }))
}

/// Whether two members of an enumeration are one.
fn same_member(b: &mut Builder<'_>, args: &Args<'_>, negated: bool) -> Result<Value> {
    let is = same(b, args.value(0)?, args.value(1)?)?;
    Ok(Value::Bool(if negated { b.unary(UnaryOp::Not, is) } else { is }))
}

/// A run-time list of numbers combined by a routine.
fn reduced(b: &mut Builder<'_>, routine: &'static str, list: &RunTimeList) -> Result<Value> {
    let facts = b.items_at(0, &list.item);
    let facts = match (routine, &facts) {
        ("list_all" | "list_any", _) => ItemFacts::Bool,
        ("list_sum", ItemFacts::Bool) => ItemFacts::Int,
        (_, ItemFacts::Int | ItemFacts::Float | ItemFacts::Bool) => facts,
        _ => return Err(b.user(format!("expected a list of numbers in {}", b.op_name))),
    };
    Ok(b.fetched(routine, vec![var_arg(list.var)], &facts))
}

/// All items of a list combined; an empty one is an error, except that its sum is 0.
fn fold(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    if let (_, Cell::RunTimeList(list)) = cell(b, args, 0)? {
        let routine = match op {
            BinaryOp::Min | BinaryOp::And => "list_min",
            BinaryOp::Max | BinaryOp::Or => "list_max",
            _ => "list_sum",
        };
        return reduced(b, routine, &list);
    }
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
            raise(b, &message)
        }
    })
}

fn truth(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    if let (_, Cell::RunTimeList(list)) = cell(b, args, 0)? {
        return reduced(b, if op == BinaryOp::And { "list_all" } else { "list_any" }, &list);
    }
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

/// The items of a list that must have this many; one that only the running program knows is asked when it runs.
pub fn unpacked(b: &mut Builder<'_>, value: &Value, n: usize) -> Result<Vec<Value>> {
    let Value::Cell(id) = value else { return b.items(value) };
    let Cell::RunTimeList(list) = b.heap.cells[*id].clone() else { return b.items(value) };
    let wanted = int(i64::try_from(n).unwrap_or(i64::MAX));
    let len = Operand::Var(b.call("list_len", vec![var_arg(list.var)], &[VarType::Int])[0]);
    let fits = b.binary(BinaryOp::Eq, len.clone(), wanted.clone());
    b.open_region();
    let template = Operand::Str("Expected {} elements in a list but found {}".into());
    let message = b.call_for_object("str_format", [template, wanted, len].map(Arg::Scalar).into());
    let place = b.place();
    b.push(Stmt::Raise { class: "RuntimeError".into(), message: Operand::Var(message), place });
    let raise = b.close_region();
    b.push(Stmt::If(fits, Block::default(), raise));
    let facts = b.items_at(0, &list.item);
    let item = |at| b.fetched("list_get", vec![var_arg(list.var), Arg::Scalar(int(at))], &facts);
    Ok((0..i64::try_from(n).unwrap_or(i64::MAX)).map(item).collect())
}

fn rangelist(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let count = args.int(b, 0)?;
    match known_int(&count) {
        Some(n) if usize::try_from(n).is_ok_and(|n| n <= MAX_KNOWN_ITEMS) => {
            Ok(b.new_list((0..n).map(Value::int).collect()))
        }
        _ => {
            let var = b.call_for_object("list_range", vec![Arg::Scalar(count)]);
            Ok(b.list_in(var, ItemFacts::Int))
        }
    }
}
