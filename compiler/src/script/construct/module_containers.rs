//! The containers of `torch.nn`: what their constructors take, their items and methods.

use super::call::Named;
use super::value::{Container, TensorCell};
use super::{Cell, Frame, Interpreter, Ref, Value, value};
use crate::diag::Result;
use crate::syntax::ast::TextRange;
use std::sync::Arc;

impl Interpreter<'_, '_> {
    /// What the constructor of a container does with its arguments.
    pub(crate) fn fill_container(
        &mut self,
        frame: &mut Frame,
        at: Ref,
        container: Container,
        args: Vec<Value>,
        named: Named,
        range: TextRange,
    ) -> Result<()> {
        let given = args
            .first()
            .cloned()
            .or_else(|| named.into_iter().next().map(|(_, value)| value))
            .filter(|value| !matches!(value, Value::None));
        if container == Container::ParameterList
            && let Some(instance) = self.instance_mut(at)
        {
            instance.attrs.insert("_size".into(), Value::Int(0));
        }
        if container == Container::ParameterDict {
            let keys = Value::Ref(self.heap.push(Cell::Dict(Vec::new())));
            if let Some(instance) = self.instance_mut(at) {
                instance.attrs.insert("_keys".into(), keys);
            }
        }
        let Some(given) = given else { return Ok(()) };
        if container == Container::Sequential {
            let is_dict = matches!(&given, Value::Ref(at) if matches!(self.heap[*at], Cell::Dict(_)));
            if is_dict && args.len() == 1 {
                for (name, module) in self.entries(frame, &given, range)? {
                    self.set_container_item(frame, at, &name, module, range)?;
                }
                return Ok(());
            }
            return args.into_iter().try_for_each(|module| self.push_item(frame, at, container, module, range));
        }
        if container.has_names() {
            for (name, item) in self.entries(frame, &given, range)? {
                self.set_container_item(frame, at, &name, item, range)?;
            }
            return Ok(());
        }
        for item in self.items(frame, &given, range)? {
            self.push_item(frame, at, container, item, range)?;
        }
        Ok(())
    }

    fn push_item(
        &mut self,
        frame: &mut Frame,
        at: Ref,
        container: Container,
        item: Value,
        range: TextRange,
    ) -> Result<()> {
        let n = self.container_len(at).unwrap_or(0);
        self.set_container_item(frame, at, &Value::str(n.to_string()), item, range)?;
        if container == Container::ParameterList
            && let Some(instance) = self.instance_mut(at)
        {
            instance.attrs.insert("_size".into(), Value::Int(n as i64 + 1));
        }
        Ok(())
    }

    pub(crate) fn container_method_call(
        &mut self,
        frame: &mut Frame,
        at: Ref,
        container: Container,
        name: &str,
        args: &[Value],
        range: TextRange,
    ) -> Result<Option<Value>> {
        let object = Value::Ref(at);
        Ok(Some(match (name, args) {
            ("append", [item]) if !container.has_names() => {
                self.push_item(frame, at, container, item.clone(), range)?;
                object
            }
            ("extend", [more]) if !container.has_names() => {
                for item in self.items(frame, more, range)? {
                    self.push_item(frame, at, container, item, range)?;
                }
                object
            }
            ("update", [more]) if container.has_names() => {
                for (name, item) in self.entries(frame, more, range)? {
                    self.set_container_item(frame, at, &name, item, range)?;
                }
                Value::None
            }
            ("keys" | "values" | "items", []) if container.has_names() => {
                let entries = self.container_entries(at).unwrap_or_default();
                let row = |(key, item): (Value, Value)| match name {
                    "keys" => key,
                    "values" => item,
                    _ => Value::Tuple([key, item].into()),
                };
                Value::Tuple(entries.into_iter().map(row).collect())
            }
            ("insert" | "pop" | "get", _) => {
                return Err(frame.unsupported(range, format!("'{name}' of containers outside of compiled code")));
            }
            _ => return Ok(None),
        }))
    }

    /// The items of a container by name.
    pub(crate) fn container_entries(&self, at: Ref) -> Option<Vec<(Value, Value)>> {
        let instance = self.instance(at)?;
        let parts = instance.parts.as_ref()?;
        let group = if instance.container?.is_of_parameters() { &parts.parameters } else { &parts.modules };
        Some(group.iter().map(|(name, item)| (Value::Str(Arc::clone(name)), item.clone())).collect())
    }

    /// What a `for` over a container goes through.
    pub(crate) fn container_values(&self, at: Ref) -> Option<Vec<Value>> {
        let has_names = self.instance(at)?.container?.has_names();
        let entries = self.container_entries(at)?;
        Some(entries.into_iter().map(|(name, item)| if has_names { name } else { item }).collect())
    }

    /// `len(container)`.
    pub(crate) fn container_len(&self, at: Ref) -> Option<usize> {
        self.container_entries(at).map(|entries| entries.len())
    }

    /// `item in container`.
    pub(crate) fn container_has(&self, at: Ref, item: &Value) -> Option<bool> {
        self.container_values(at).map(|items| items.iter().any(|known| known.is_equal(item, &self.heap, 0)))
    }

    /// `container[key]`.
    pub(crate) fn container_item(
        &mut self,
        frame: &mut Frame,
        at: Ref,
        key: &Value,
        range: TextRange,
    ) -> Result<Value> {
        let object = Value::Ref(at);
        let (Some(entries), Some(container)) =
            (self.container_entries(at), self.instance(at).and_then(|i| i.container))
        else {
            return self.call_named(frame, &object, "__getitem__", vec![key.clone()], range);
        };
        if container.has_names() {
            let found = entries.into_iter().find(|(name, _)| name.is_equal(key, &self.heap, 0));
            return found
                .map(|(_, item)| item)
                .ok_or_else(|| frame.error(range, format!("KeyError: {}", self.repr(key, 0))));
        }
        let items = Value::Tuple(entries.into_iter().map(|(_, item)| item).collect());
        let found = self.get_item(frame, &items, key, range)?;
        if let (Value::Tuple(_), Value::NamedTuple(..)) = (&found, key) {
            // A slice of a container is one of the same class.
            let class =
                Value::Class(self.instance(at).map_or_else(|| "".into(), |instance| Arc::clone(&instance.class)));
            let args = match (container, &found) {
                (Container::Sequential, Value::Tuple(items)) => items.to_vec(),
                _ => vec![found],
            };
            return self.call(frame, class, args, Vec::new(), range);
        }
        Ok(found)
    }

    /// `container[key] = item`.
    pub(crate) fn set_container_item(
        &mut self,
        frame: &mut Frame,
        at: Ref,
        key: &Value,
        item: Value,
        range: TextRange,
    ) -> Result<()> {
        let Some(container) = self.instance(at).and_then(|instance| instance.container) else {
            let args = vec![key.clone(), item];
            return self.call_named(frame, &Value::Ref(at), "__setitem__", args, range).map(|_| ());
        };
        let name: Arc<str> = match key {
            Value::Str(name) => Arc::clone(name),
            Value::Int(index) => {
                let n = self.container_len(at).unwrap_or(0) as i64;
                (if *index < 0 { index + n } else { *index }).to_string().into()
            }
            other => return Err(self.refused(frame, other, "a container's key", range)),
        };
        if container.is_of_parameters() {
            let item = match self.tensor_cell(&item) {
                Some(cell) if !cell.is_parameter => {
                    let cell = TensorCell { is_parameter: true, requires_grad: true, ..cell };
                    Value::Ref(self.heap.push(Cell::Tensor(cell)))
                }
                _ => item,
            };
            if container == Container::ParameterDict
                && let Some(Value::Ref(keys)) =
                    self.instance(at).and_then(|instance| instance.attrs.get("_keys")).cloned()
            {
                self.set_item(frame, &Value::Ref(keys), Value::Str(Arc::clone(&name)), Value::None, range)?;
            }
            return self.set_attribute(frame, &Value::Ref(at), &name, item, range);
        }
        let ty = value::type_name(&item, &self.heap);
        if let Value::Unknown(why) = &item {
            return Err(Box::new((**why).clone()));
        }
        if !self.is_module(&item) && !matches!(item, Value::None) {
            return Err(frame.error(range, format!("TypeError: {ty} is not a Module subclass")));
        }
        if let Some(parts) = self.instance_mut(at).and_then(|instance| instance.parts.as_mut()) {
            parts.modules.insert(name, item);
        }
        Ok(())
    }
}
