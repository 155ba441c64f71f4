//! Lists, dicts, tuples and sets: items, subscripts and methods.

use super::operators::Order;
use super::{Cell, Frame, Interpreter, MAX_ITEMS, Value, value};
use crate::diag::Result;
use crate::syntax::ast::TextRange;
use std::sync::Arc;

/// Methods of collections that change them.
const CHANGING: [&str; 11] =
    ["append", "extend", "insert", "pop", "clear", "reverse", "sort", "add", "setdefault", "update", "remove"];

impl Interpreter<'_, '_> {
    /// A set of these items, each once.
    pub(crate) fn new_set(&mut self, items: Vec<Value>) -> Value {
        let mut kept: Vec<Value> = Vec::new();
        for item in items {
            if !kept.iter().any(|known| known.is_equal(&item, &self.heap, 0)) {
                kept.push(item);
            }
        }
        Value::Ref(self.heap.push(Cell::Set(kept)))
    }

    /// What a `for` over the value goes through.
    pub(crate) fn items(&mut self, frame: &mut Frame, value: &Value, range: TextRange) -> Result<Vec<Value>> {
        Ok(match value {
            Value::Tuple(items) | Value::NamedTuple(_, items) => items.to_vec(),
            Value::Str(text) => text.chars().map(|c| Value::str(c.to_string())).collect(),
            Value::Range(start, stop, step) => {
                let (start, stop, step) = (i128::from(*start), i128::from(*stop), i128::from(*step));
                let n = if step > 0 { (stop - start + step - 1) / step } else { (start - stop - step - 1) / -step };
                let n = usize::try_from(n.max(0)).unwrap_or(usize::MAX);
                if n > MAX_ITEMS {
                    return Err(frame.unsupported(range, "ranges of this length outside of compiled code"));
                }
                (0..n as i128).map(|i| Value::Int((start + i * step) as i64)).collect()
            }
            Value::Class(class) => {
                self.enum_members(class)?.ok_or_else(|| self.refused(frame, value, "iteration", range))?
            }
            Value::Ref(at) => match &self.heap[*at] {
                Cell::List(items) | Cell::Set(items) => items.clone(),
                Cell::Dict(entries) => entries.iter().map(|(key, _)| key.clone()).collect(),
                Cell::Tensor(_) | Cell::Traced(_) if self.is_tracing() => return self.trace_rows(frame, value, range),
                Cell::Tensor(_) => {
                    let rows = self.tensor_method(frame, value, "unbind", Vec::new(), Vec::new(), range)?;
                    return self.items(frame, &rows, range);
                }
                Cell::Instance(_) => match self.container_values(*at) {
                    Some(items) => items,
                    None => return Err(self.refused(frame, value, "iteration", range)),
                },
                Cell::Attribute(..) | Cell::Elements(_) | Cell::Traced(_) => {
                    return Err(self.refused(frame, value, "iteration", range));
                }
            },
            Value::Unknown(why) => return Err(Box::new((**why).clone())),
            other => {
                let name = value::type_name(other, &self.heap);
                return Err(frame.error(range, format!("TypeError: '{name}' object is not iterable")));
            }
        })
    }

    /// `len(value)`.
    pub(crate) fn len(&mut self, frame: &mut Frame, value: &Value, range: TextRange) -> Result<usize> {
        match value {
            Value::Ref(at) => match &self.heap[*at] {
                Cell::Instance(_) => match self.container_len(*at) {
                    Some(n) => Ok(n),
                    None => {
                        let made = self.call_named(frame, value, "__len__", Vec::new(), range)?;
                        made.as_int()
                            .and_then(|n| usize::try_from(n).ok())
                            .ok_or_else(|| self.refused(frame, value, "len()", range))
                    }
                },
                Cell::Tensor(_) | Cell::Traced(_) if self.is_tracing() => {
                    let n = self.trace_len(frame, value, range)?;
                    Ok(usize::try_from(n).unwrap_or(0))
                }
                Cell::Tensor(_) => {
                    let size = self.tensor_method(frame, value, "size", vec![Value::Int(0)], Vec::new(), range)?;
                    Ok(size.as_int().and_then(|n| usize::try_from(n).ok()).unwrap_or(0))
                }
                _ => Ok(self.items(frame, value, range)?.len()),
            },
            Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::None => {
                let name = value::type_name(value, &self.heap);
                Err(frame.error(range, format!("TypeError: object of type '{name}' has no len()")))
            }
            other => Ok(self.items(frame, other, range)?.len()),
        }
    }

    /// `item in container`.
    pub(crate) fn contains(
        &mut self,
        frame: &mut Frame,
        container: &Value,
        item: &Value,
        range: TextRange,
    ) -> Result<bool> {
        if let (Value::Str(text), Value::Str(part)) = (container, item) {
            return Ok(text.contains(&**part));
        }
        if let Value::Ref(at) = container
            && let Some(has) = self.container_has(*at, item)
        {
            return Ok(has);
        }
        let items = self.items(frame, container, range)?;
        Ok(items.iter().any(|known| known.is_equal(item, &self.heap, 0)))
    }

    fn position(&self, frame: &Frame, key: &Value, n: usize, what: &str, range: TextRange) -> Result<usize> {
        let Some(index) = key.as_int() else {
            let name = value::type_name(key, &self.heap);
            return Err(frame.error(range, format!("TypeError: {what} indices must be integers or slices, not {name}")));
        };
        let at = if index < 0 { index + i64::try_from(n).unwrap_or(i64::MAX) } else { index };
        let found = usize::try_from(at).ok().filter(|at| *at < n);
        found.ok_or_else(|| frame.error(range, format!("IndexError: {what} index out of range")))
    }

    fn slice(&self, frame: &Frame, key: &Value, n: usize, range: TextRange) -> Result<Option<Vec<usize>>> {
        let Value::NamedTuple(name, parts) = key else { return Ok(None) };
        if &**name != "slice" {
            return Ok(None);
        }
        let bound = |at: usize| parts.get(at).and_then(Value::as_int);
        let chosen = aot_runtime::strings::slice_positions(n, bound(0), bound(1), bound(2).unwrap_or(1));
        chosen.map(Some).ok_or_else(|| frame.error(range, "ValueError: slice step cannot be zero"))
    }

    /// `container[key]`.
    pub(crate) fn get_item(
        &mut self,
        frame: &mut Frame,
        container: &Value,
        key: &Value,
        range: TextRange,
    ) -> Result<Value> {
        match container {
            Value::Tuple(items) | Value::NamedTuple(_, items) => match self.slice(frame, key, items.len(), range)? {
                Some(chosen) => Ok(Value::Tuple(chosen.into_iter().map(|at| items[at].clone()).collect())),
                None => Ok(items[self.position(frame, key, items.len(), "tuple", range)?].clone()),
            },
            Value::Str(text) => {
                let chars: Vec<char> = text.chars().collect();
                match self.slice(frame, key, chars.len(), range)? {
                    Some(chosen) => Ok(Value::str(chosen.into_iter().map(|at| chars[at]).collect::<String>())),
                    None => Ok(Value::str(chars[self.position(frame, key, chars.len(), "string", range)?].to_string())),
                }
            }
            // `List[int]` where a value is expected stands for nothing that is computed with.
            Value::Path(path) => Ok(Value::Path(format!("{path}[...]").into())),
            Value::Class(class) => {
                let class = Arc::clone(class);
                match key {
                    Value::Str(name) => self.class_attribute(frame, &class, name, range),
                    _ => Err(self.refused(frame, container, "a subscript", range)),
                }
            }
            Value::Range(..) => {
                let items = self.items(frame, container, range)?;
                Ok(items[self.position(frame, key, items.len(), "range object", range)?].clone())
            }
            Value::Ref(at) => match &self.heap[*at] {
                Cell::List(items) => match self.slice(frame, key, items.len(), range)? {
                    Some(chosen) => {
                        let chosen = chosen.into_iter().map(|at| items[at].clone()).collect();
                        Ok(Value::Ref(self.heap.push(Cell::List(chosen))))
                    }
                    None => Ok(items[self.position(frame, key, items.len(), "list", range)?].clone()),
                },
                Cell::Dict(entries) => {
                    let found = entries.iter().find(|(known, _)| known.is_equal(key, &self.heap, 0));
                    let missing = || frame.error(range, format!("KeyError: {}", self.repr(key, 0)));
                    found.map(|(_, item)| item.clone()).ok_or_else(missing)
                }
                Cell::Instance(_) => self.container_item(frame, *at, key, range),
                Cell::Set(_) | Cell::Tensor(_) | Cell::Traced(_) | Cell::Attribute(..) | Cell::Elements(_) => {
                    Err(self.refused(frame, container, "a subscript", range))
                }
            },
            other => Err(self.refused(frame, other, "a subscript", range)),
        }
    }

    /// `container[key] = item`.
    pub(crate) fn set_item(
        &mut self,
        frame: &mut Frame,
        container: &Value,
        key: Value,
        item: Value,
        range: TextRange,
    ) -> Result<()> {
        let Value::Ref(at) = container else {
            return Err(self.refused(frame, container, "an item's assignment", range));
        };
        self.touch(*at);
        if let Value::Unknown(why) = &key {
            return Err(Box::new((**why).clone()));
        }
        match &self.heap[*at] {
            Cell::List(items) => {
                let place = self.position(frame, &key, items.len(), "list assignment", range)?;
                if let Cell::List(items) = &mut self.heap[*at] {
                    items[place] = item;
                }
            }
            Cell::Dict(entries) => {
                let place = entries.iter().position(|(known, _)| known.is_equal(&key, &self.heap, 0));
                if let Cell::Dict(entries) = &mut self.heap[*at] {
                    match place {
                        Some(place) => entries[place].1 = item,
                        None => entries.push((key, item)),
                    }
                }
            }
            Cell::Instance(_) => return self.set_container_item(frame, *at, &key, item, range),
            _ => return Err(self.refused(frame, container, "an item's assignment", range)),
        }
        Ok(())
    }

    /// `del container[key]`.
    pub(crate) fn delete_item(
        &mut self,
        frame: &mut Frame,
        container: &Value,
        key: &Value,
        range: TextRange,
    ) -> Result<()> {
        let Value::Ref(at) = container else { return Err(self.refused(frame, container, "'del'", range)) };
        self.touch(*at);
        match &self.heap[*at] {
            Cell::List(items) => {
                let place = self.position(frame, key, items.len(), "list assignment", range)?;
                if let Cell::List(items) = &mut self.heap[*at] {
                    items.remove(place);
                }
            }
            Cell::Dict(entries) => {
                let place = entries.iter().position(|(known, _)| known.is_equal(key, &self.heap, 0));
                let Some(place) = place else {
                    return Err(frame.error(range, format!("KeyError: {}", self.repr(key, 0))));
                };
                if let Cell::Dict(entries) = &mut self.heap[*at] {
                    entries.remove(place);
                }
            }
            _ => return Err(self.refused(frame, container, "'del'", range)),
        }
        Ok(())
    }

    /// `list.name(args)` and the like.
    pub(crate) fn collection_method(
        &mut self,
        frame: &mut Frame,
        object: &Value,
        name: &str,
        args: &[Value],
        range: TextRange,
    ) -> Result<Value> {
        let unknown = |this: &Self| {
            let ty = value::type_name(object, &this.heap);
            frame.unsupported(range, format!("{ty}.{name} outside of compiled code"))
        };
        let Value::Ref(at) = object else {
            return match (object, name, args) {
                (Value::Tuple(items), "index", [item]) => {
                    let found = items.iter().position(|known| known.is_equal(item, &self.heap, 0));
                    let missing = || frame.error(range, "ValueError: tuple.index(x): x not in tuple");
                    Ok(Value::Int(found.ok_or_else(missing)? as i64))
                }
                (Value::Tuple(items), "count", [item]) => {
                    Ok(Value::Int(items.iter().filter(|known| known.is_equal(item, &self.heap, 0)).count() as i64))
                }
                _ => Err(unknown(self)),
            };
        };
        let at = *at;
        if CHANGING.contains(&name) {
            self.touch(at);
        }
        match (&self.heap[at], name, args) {
            (Cell::List(_), "append", [item]) => self.edit_list(at, |items| items.push(item.clone())),
            (Cell::List(_), "extend", [more]) => {
                let more = self.items(frame, more, range)?;
                if self.n_items(object) + more.len() > MAX_ITEMS {
                    return Err(frame.unsupported(range, "sequences of this length outside of compiled code"));
                }
                self.edit_list(at, |items| items.extend(more));
            }
            (Cell::List(items), "insert", [place, item]) => {
                let n = items.len() as i64;
                let place = place.as_int().ok_or_else(|| unknown(self))?;
                let place = if place < 0 { (place + n).max(0) } else { place.min(n) } as usize;
                self.edit_list(at, |items| items.insert(place, item.clone()));
            }
            (Cell::List(items), "pop", [] | [_]) => {
                let key = args.first().cloned().unwrap_or(Value::Int(-1));
                let place = self.position(frame, &key, items.len(), "pop", range)?;
                let item = items[place].clone();
                self.edit_list(at, |items| _ = items.remove(place));
                return Ok(item);
            }
            (Cell::List(_), "clear", []) => self.edit_list(at, Vec::clear),
            (Cell::List(_), "reverse", []) => self.edit_list(at, |items| items.reverse()),
            (Cell::List(items), "copy", []) => {
                let copy = Cell::List(items.clone());
                return Ok(Value::Ref(self.heap.push(copy)));
            }
            (Cell::List(items), "index", [item]) => {
                let found = items.iter().position(|known| known.is_equal(item, &self.heap, 0));
                let missing = || frame.error(range, format!("ValueError: {} is not in list", self.repr(item, 0)));
                return Ok(Value::Int(found.ok_or_else(missing)? as i64));
            }
            (Cell::List(items), "count", [item]) => {
                return Ok(Value::Int(items.iter().filter(|known| known.is_equal(item, &self.heap, 0)).count() as i64));
            }
            (Cell::List(items), "sort", []) => {
                let sorted = self.sorted(frame, items.clone(), range)?;
                self.edit_list(at, |items| *items = sorted);
            }
            (Cell::Set(_), "add", [item]) => {
                if !self.contains(frame, object, item, range)?
                    && let Cell::Set(items) = &mut self.heap[at]
                {
                    items.push(item.clone());
                }
            }
            (Cell::Dict(entries), "keys" | "values" | "items", []) => {
                let row = |(key, item): &(Value, Value)| match name {
                    "keys" => key.clone(),
                    "values" => item.clone(),
                    _ => Value::Tuple([key.clone(), item.clone()].into()),
                };
                return Ok(Value::Tuple(entries.iter().map(row).collect()));
            }
            (Cell::Dict(entries), "get" | "pop" | "setdefault", [key] | [key, _]) => {
                let found =
                    entries.iter().find(|(known, _)| known.is_equal(key, &self.heap, 0)).map(|(_, item)| item.clone());
                let default = args.get(1).cloned();
                match (found, name) {
                    (Some(item), "pop") => {
                        self.delete_item(frame, object, key, range)?;
                        return Ok(item);
                    }
                    (Some(item), _) => return Ok(item),
                    (None, "pop") if default.is_none() => {
                        return Err(frame.error(range, format!("KeyError: {}", self.repr(key, 0))));
                    }
                    (None, "setdefault") => {
                        let item = default.unwrap_or(Value::None);
                        self.set_item(frame, object, key.clone(), item.clone(), range)?;
                        return Ok(item);
                    }
                    (None, _) => return Ok(default.unwrap_or(Value::None)),
                }
            }
            (Cell::Dict(_), "update", [more]) => {
                for (key, item) in self.entries(frame, more, range)? {
                    self.set_item(frame, object, key, item, range)?;
                }
            }
            (Cell::Dict(entries), "copy", []) => {
                let copy = Cell::Dict(entries.clone());
                return Ok(Value::Ref(self.heap.push(copy)));
            }
            _ => return Err(unknown(self)),
        }
        Ok(Value::None)
    }

    fn edit_list(&mut self, at: super::Ref, edit: impl FnOnce(&mut Vec<Value>)) {
        if let Cell::List(items) = &mut self.heap[at] {
            edit(items);
        }
    }

    /// The entries of a dict, or of an iterable of pairs.
    pub(crate) fn entries(
        &mut self,
        frame: &mut Frame,
        value: &Value,
        range: TextRange,
    ) -> Result<Vec<(Value, Value)>> {
        if let Value::Ref(at) = value {
            if let Cell::Dict(entries) = &self.heap[*at] {
                return Ok(entries.clone());
            }
            if let Some(entries) = self.container_entries(*at) {
                return Ok(entries);
            }
        }
        let mut entries = Vec::new();
        for item in self.items(frame, value, range)? {
            match self.items(frame, &item, range)?.as_slice() {
                [key, item] => entries.push((key.clone(), item.clone())),
                other => {
                    let text = format!(
                        "ValueError: dictionary update sequence element has length {}; 2 is required",
                        other.len()
                    );
                    return Err(frame.error(range, text));
                }
            }
        }
        Ok(entries)
    }

    /// The items in ascending order.
    pub(crate) fn sorted(&self, frame: &Frame, mut items: Vec<Value>, range: TextRange) -> Result<Vec<Value>> {
        let mut is_ordered = true;
        items.sort_by(|a, b| {
            if let Order::Is(order) = self.order(a, b) {
                return order;
            }
            is_ordered = false;
            std::cmp::Ordering::Equal
        });
        if is_ordered {
            Ok(items)
        } else {
            Err(frame.unsupported(range, "sorting items of these types outside of compiled code"))
        }
    }
}
