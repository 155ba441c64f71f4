//! Dicts with known keys, in the order they were set.

use super::container::{cell, entry, known_key, put, raise, store};
use crate::diag::Result;
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::value::{Cell, CellId, Value};

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::keys", lower: keys },
    OpDef { name: "aten::values", lower: values },
    OpDef { name: "aten::items", lower: entries },
    OpDef { name: "aten::get", lower: get },
    OpDef { name: "aten::setdefault", lower: set_default },
    OpDef { name: "aten::update", lower: update },
    OpDef { name: "aten::popitem", lower: pop_item },
    OpDef { name: "aten::dict", lower: dict },
];

fn dict_cell(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<(CellId, Vec<(Value, Value)>)> {
    match cell(b, args, at)? {
        (id, Cell::Dict(entries)) => Ok((id, entries)),
        _ => Err(b.unsupported(format!("{} of something other than a dict with known keys", b.op_name))),
    }
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
    let found = entry(b, &entries, args.value(1)?)?.map(|at| entries[at].1.clone());
    Ok(found.or_else(|| args.values.get(2).cloned()).unwrap_or(Value::None))
}

fn set_default(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (id, mut entries) = dict_cell(b, args, 0)?;
    if let Some(at) = entry(b, &entries, args.value(1)?)? {
        return Ok(entries[at].1.clone());
    }
    let key = known_key(b, args, 1)?;
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
    if entries.is_empty() {
        return Ok(raise(b, "KeyError", "popitem(): dictionary is empty"));
    }
    // PyTorch takes the first entry, unlike Python.
    let (key, value) = entries.remove(0);
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
            Cell::RunTimeList(_) | Cell::Object(_) | Cell::Future(_) => {
                return Err(b.unsupported("a dict of a list known only when running"));
            }
        }
    }
    Ok(Value::Cell(b.heap.cells.push(Cell::Dict(made))))
}
