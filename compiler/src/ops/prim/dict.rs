//! Dicts: with known keys, in the order they were set, or as objects of the running program.

use super::container::{cell, raise, same, store};
use crate::diag::Result;
use crate::loops::{Operand, VarId, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::run_time::var_arg;
use crate::ops::value::{Cell, CellId, EntryFacts, ItemFacts, RunTimeDict, Value, known};

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

/// A dict as an operator finds it.
enum Found {
    /// Its entries, all keys known.
    Known(CellId, Vec<(Value, Value)>),
    /// An object.
    RunTime(CellId, RunTimeDict),
}

fn dict_cell(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<Found> {
    match cell(b, args, at)? {
        (id, Cell::Dict(entries)) => Ok(Found::Known(id, entries)),
        (id, Cell::RunTimeDict(dict)) => Ok(Found::RunTime(id, dict)),
        (_, Cell::List(_) | Cell::RunTimeList(_) | Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_)) => {
            Err(b.user(format!("{} needs a dict", b.op_name)))
        }
    }
}

fn is_known_key(key: &Value) -> bool {
    match key {
        Value::Int(o) | Value::Float(o) | Value::Bool(o) => known(o).is_some(),
        Value::Complex(re, im) => known(re).is_some() && known(im).is_some(),
        Value::Str(o) => matches!(o, Operand::Str(_)),
        // A tensor is the key that it is, whatever its elements.
        Value::Tensor(_) => true,
        _ => false,
    }
}

/// The dict at position 0 as one in which the key at position 1 can be looked up: if only the running program knows the key, the
/// dict becomes an object.
fn for_key(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Found> {
    match dict_cell(b, args, 0)? {
        Found::Known(id, _) if !is_known_key(args.value(1)?) => Ok(Found::RunTime(id, b.to_run_time_dict(id)?)),
        found => Ok(found),
    }
}

/// [`for_key`] where entries are only read.
fn for_reading(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Found> {
    match dict_cell(b, args, 0)? {
        Found::Known(id, entries) if is_compared(&entries, args.value(1)?) => Ok(Found::Known(id, entries)),
        _ => for_key(b, args),
    }
}

/// Whether a key that is read is compared with each that is there: tensors and objects stay what they are, and the code that
/// follows is lowered once for each entry.
fn is_compared(entries: &[(Value, Value)], key: &Value) -> bool {
    is_number(key) && !entries.iter().all(|(_, value)| is_plain(value))
}

fn is_number(key: &Value) -> bool {
    matches!(key, Value::Int(_) | Value::Float(_) | Value::Bool(_))
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::Tuple(items, _) => items.iter().all(is_plain),
        _ => is_number(value) || matches!(value, Value::Str(_)),
    }
}

/// Where a key's entry is; a number that only the running program knows is compared with each, and the code that follows is
/// lowered once for each answer.
fn entry(b: &mut Builder<'_>, entries: &[(Value, Value)], key: &Value) -> Result<Option<usize>> {
    if is_known_key(key) {
        return Ok(entries.iter().position(|(k, _)| k == key));
    }
    for (at, (k, _)) in entries.iter().enumerate() {
        let is = same(b, k, key)?;
        if b.decide(&is)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Ends the running program for a key that is not there.
fn missing(b: &mut Builder<'_>, key: &Value) -> Value {
    let text = super::text::constant_text(key).unwrap_or_default();
    raise(b, &format!("KeyError: {text}"))
}

/// Sets a key's value; a new key goes to the end.
fn put(entries: &mut Vec<(Value, Value)>, key: Value, value: Value) {
    match entries.iter_mut().find(|(k, _)| *k == key) {
        Some(entry) => entry.1 = value,
        None => entries.push((key, value)),
    }
}

/// `dict[key]`
pub(super) fn get_item(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let key = args.value(1)?;
    match for_reading(b, args)? {
        Found::Known(_, entries) => Ok(match entry(b, &entries, key)? {
            Some(at) => entries[at].1.clone(),
            None => missing(b, key),
        }),
        Found::RunTime(_, dict) => {
            let key = b.item_arg(key)?;
            let facts = b.entries_at(0, &dict.entry).value;
            Ok(b.fetched("dict_get", vec![var_arg(dict.var), key], &facts))
        }
    }
}

/// `dict[key] = value`
pub(super) fn set(b: &mut Builder<'_>, id: CellId, key: &Value, value: &Value) -> Result<()> {
    match b.heap.cells[id].clone() {
        Cell::Dict(mut entries) if is_known_key(key) => {
            put(&mut entries, key.clone(), value.clone());
            store(b, id, Cell::Dict(entries));
            Ok(())
        }
        _ => {
            let dict = b.to_run_time_dict(id)?;
            let known = b.entries_at(0, &dict.entry);
            let entry = b.run_time_set(dict.var, &known, key, value)?;
            b.widen_dict(id, dict, entry)
        }
    }
}

/// `dict.pop(key[, default])`
pub(super) fn pop(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (key, default) = (args.value(1)?, args.values.get(2));
    match for_key(b, args)? {
        Found::Known(id, mut entries) => match entry(b, &entries, key)? {
            Some(at) => {
                let (_, value) = entries.remove(at);
                store(b, id, Cell::Dict(entries));
                Ok(value)
            }
            None => Ok(match default {
                Some(default) => default.clone(),
                None => missing(b, key),
            }),
        },
        Found::RunTime(_, dict) => looked_up(b, "dict_pop", &dict, key, default),
    }
}

/// What a routine gives for a key, or the default.
fn looked_up(
    b: &mut Builder<'_>,
    routine: &'static str,
    dict: &RunTimeDict,
    key: &Value,
    default: Option<&Value>,
) -> Result<Value> {
    let mut operands = vec![var_arg(dict.var), b.item_arg(key)?];
    let mut facts = b.entries_at(0, &dict.entry).value;
    if let Some(default) = default {
        // `setdefault` keeps it.
        let (default, joined) = b.kept_arg(&facts, default)?;
        operands.push(default);
        facts = joined;
    }
    Ok(b.fetched(routine, operands, &facts))
}

pub(super) fn keys(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(match dict_cell(b, args, 0)? {
        Found::Known(_, entries) => b.new_list(entries.into_iter().map(|(k, _)| k).collect()),
        Found::RunTime(_, dict) => {
            let (var, facts) = listed(b, "dict_keys", &dict);
            b.list_in(var, facts.key)
        }
    })
}

fn values(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(match dict_cell(b, args, 0)? {
        Found::Known(_, entries) => b.new_list(entries.into_iter().map(|(_, v)| v).collect()),
        Found::RunTime(_, dict) => {
            let (var, facts) = listed(b, "dict_values", &dict);
            b.list_in(var, facts.value)
        }
    })
}

fn entries(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(match dict_cell(b, args, 0)? {
        Found::Known(_, entries) => {
            b.new_list(entries.into_iter().map(|(k, v)| Value::Tuple(vec![k, v], None)).collect())
        }
        Found::RunTime(_, dict) => {
            let (var, facts) = listed(b, "dict_items", &dict);
            b.list_in(var, ItemFacts::Tuple(vec![facts.key, facts.value], None))
        }
    })
}

/// A list that a routine makes of a dict, and what is known of the dict's entries.
fn listed(b: &mut Builder<'_>, routine: &'static str, dict: &RunTimeDict) -> (VarId, EntryFacts) {
    (b.call_for_object(routine, vec![var_arg(dict.var)]), b.entries_at(0, &dict.entry))
}

/// `dict.get(key, default)`; without a default the lowerer asks first whether the key is there.
fn get(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (key, default) = (args.value(1)?, args.values.get(2));
    match for_reading(b, args)? {
        Found::Known(_, entries) => {
            let found = entry(b, &entries, key)?.map(|at| entries[at].1.clone());
            Ok(found.or_else(|| default.cloned()).unwrap_or(Value::None))
        }
        Found::RunTime(_, dict) => looked_up(b, "dict_get", &dict, key, default),
    }
}

fn set_default(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (key, value) = (args.value(1)?, args.value(2)?);
    match for_key(b, args)? {
        Found::Known(id, mut entries) => {
            if let Some(at) = entry(b, &entries, key)? {
                return Ok(entries[at].1.clone());
            }
            entries.push((key.clone(), value.clone()));
            store(b, id, Cell::Dict(entries));
            Ok(value.clone())
        }
        Found::RunTime(id, dict) => {
            let entry =
                EntryFacts { key: b.join_item(&dict.entry.key, key)?, value: b.join_item(&dict.entry.value, value)? };
            let value = looked_up(b, "dict_setdefault", &dict, key, Some(value))?;
            b.widen_dict(id, dict, entry)?;
            Ok(value)
        }
    }
}

fn update(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    match (dict_cell(b, args, 0)?, dict_cell(b, args, 1)?) {
        (Found::Known(id, mut entries), Found::Known(_, more)) => {
            for (key, value) in more {
                put(&mut entries, key, value);
            }
            store(b, id, Cell::Dict(entries));
        }
        (Found::Known(id, _) | Found::RunTime(id, _), _) => {
            let dict = b.to_run_time_dict(id)?;
            add_all(b, id, dict, args.value(1)?)?;
        }
    }
    Ok(Value::None)
}

/// Puts the entries of a dict or list of pairs into a run-time dict.
fn add_all(b: &mut Builder<'_>, id: CellId, dict: RunTimeDict, more: &Value) -> Result<()> {
    let facts = match b.item_facts(more)? {
        ItemFacts::Dict(entry) => *entry,
        ItemFacts::List(item) => match *item {
            ItemFacts::Tuple(pair, _) if pair.len() == 2 => EntryFacts { key: pair[0].clone(), value: pair[1].clone() },
            ItemFacts::Empty => EntryFacts { key: ItemFacts::Empty, value: ItemFacts::Empty },
            _ => return Err(b.user("dict expects a list of pairs")),
        },
        _ => return Err(b.user("update needs a dict")),
    };
    let entry = b.join_entries(&dict.entry, &facts)?;
    let more = b.item_arg(more)?;
    b.call("dict_update", vec![var_arg(dict.var), more], &[]);
    b.widen_dict(id, dict, entry)
}

fn pop_item(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    match dict_cell(b, args, 0)? {
        Found::Known(_, entries) if entries.is_empty() => Ok(raise(b, "popitem(): dictionary is empty")),
        Found::Known(id, mut entries) => {
            // PyTorch takes the first entry, unlike Python.
            let (key, value) = entries.remove(0);
            store(b, id, Cell::Dict(entries));
            Ok(Value::Tuple(vec![key, value], None))
        }
        Found::RunTime(_, dict) => {
            let facts = b.entries_at(0, &dict.entry);
            let facts = ItemFacts::Tuple(vec![facts.key, facts.value], None);
            Ok(b.fetched("dict_popitem", vec![var_arg(dict.var)], &facts))
        }
    }
}

/// A new dict: empty, a copy of one, or of a list of pairs.
fn dict(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut made = Vec::new();
    if !args.values.is_empty() {
        let known_pairs = |items: &[Value]| {
            let pair = |item: &Value| match item {
                Value::Tuple(pair, _) if pair.len() == 2 && is_known_key(&pair[0]) => {
                    Some((pair[0].clone(), pair[1].clone()))
                }
                _ => None,
            };
            items.iter().map(pair).collect::<Option<Vec<_>>>()
        };
        let known = match cell(b, args, 0)?.1 {
            Cell::Dict(entries) => Some(entries),
            Cell::List(items) => known_pairs(&items),
            Cell::RunTimeList(_)
            | Cell::RunTimeDict(_)
            | Cell::Object(_)
            | Cell::RunTimeObject(_)
            | Cell::Future(_) => None,
        };
        let Some(known) = known else {
            let id = b.heap.cells.push(Cell::Dict(Vec::new()));
            let dict = b.to_run_time_dict(id)?;
            add_all(b, id, dict, args.value(0)?)?;
            return Ok(Value::Cell(id));
        };
        for (key, value) in known {
            put(&mut made, key, value);
        }
    }
    Ok(Value::Cell(b.heap.cells.push(Cell::Dict(made))))
}

/// Whether only the running program knows if a key is in a dict.
pub fn is_looked_up(b: &Builder<'_>, dict: &Value, key: &Value) -> bool {
    let Value::Cell(id) = dict else { return false };
    match &b.heap.cells[*id] {
        Cell::RunTimeDict(_) => true,
        Cell::Dict(entries) => !is_known_key(key) && !is_compared(entries, key),
        Cell::List(_) | Cell::RunTimeList(_) | Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => false,
    }
}

/// Whether a key is in a dict that is looked up by the running program.
pub fn has_key(b: &mut Builder<'_>, dict: &Value, key: &Value) -> Result<Operand> {
    let operands = vec![b.item_arg(dict)?, b.item_arg(key)?];
    Ok(Operand::Var(b.call("dict_contains", operands, &[VarType::Bool])[0]))
}

/// A new dict of keys with their values.
pub fn new_dict(b: &mut Builder<'_>, pairs: Vec<(Value, Value)>) -> Result<Value> {
    let n_known = pairs.iter().take_while(|(key, _)| is_known_key(key)).count();
    let mut entries = Vec::with_capacity(pairs.len());
    for (key, value) in &pairs[..n_known] {
        put(&mut entries, key.clone(), value.clone());
    }
    let id = b.heap.cells.push(Cell::Dict(entries));
    for (key, value) in &pairs[n_known..] {
        set(b, id, key, value)?;
    }
    Ok(Value::Cell(id))
}
