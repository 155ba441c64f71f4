//! Values of attributes from a file: they take the place of what constructors made, or of what only an annotation declares.

use super::{Cell, Interpreter, Ref, Value, value};
use crate::diag::{Diagnostic, Result};
use crate::script::Values;
use crate::types::{TensorData, Type};
use std::sync::Arc;

/// How many names a note lists.
const MAX_LISTED: usize = 8;

impl Interpreter<'_, '_> {
    /// Gives the attributes of a module, and of what it holds, these values.
    pub(crate) fn give(&mut self, module: &Value, values: &Values) -> Result<()> {
        let (Value::Ref(root), true) = (module, self.is_module(module)) else { return Ok(()) };
        for (path, data) in values {
            let (owner, name) = path.rsplit_once('.').unwrap_or(("", path));
            let modules = self.all_modules(*root);
            let Some((_, at)) = modules.iter().find(|(known, _)| known == owner) else {
                let known = modules.iter().map(|(name, _)| name.as_str()).filter(|name| !name.is_empty());
                return Err(Diagnostic::user(format!("there is no module '{owner}' for the attribute '{path}'"))
                    .note(listed("the modules that there are", known)));
            };
            self.give_one(*at, &name.into(), path, data)?;
        }
        Ok(())
    }

    fn give_one(&mut self, at: Ref, name: &Arc<str>, path: &str, data: &Arc<TensorData>) -> Result<()> {
        let Some(instance) = self.instance(at).cloned() else { return Ok(()) };
        let parts = instance.parts.unwrap_or_default();
        let groups = [&parts.parameters, &parts.buffers, &instance.attrs];
        let own = groups.iter().find_map(|group| group.get(name));
        let annotations = self.annotations(&instance.class)?;
        let annotated = match annotations.get(name) {
            Some(annotation) => Some(self.annotated(annotation)?),
            None => None,
        };
        let wrong = |what: &str| {
            Diagnostic::user(format!("the attribute '{path}' is {what}, but the file has {}", described(data)))
        };
        let made = match (own, annotated) {
            (Some(value), _) if self.is_tensor(value) => {
                let Some(cell) = self.tensor_cell(value) else { return Ok(()) };
                let old = self.data(cell);
                if old.dtype() != data.dtype() || old.sizes() != data.sizes() {
                    return Err(wrong(&described(&old)));
                }
                self.heap[cell.elements] = Cell::Elements(Arc::clone(data));
                return Ok(());
            }
            (None | Some(Value::Unknown(_)), Some(ty)) => {
                self.of_type(data, &ty).ok_or_else(|| wrong(&ty.annotation()))?
            }
            (Some(Value::Unknown(_)), None) => self.new_tensor(Arc::clone(data), false),
            (Some(value), _) => {
                let ty = self.infer(value)?.ok();
                let made = ty.as_ref().and_then(|ty| self.of_type(data, ty));
                made.ok_or_else(|| wrong(&format!("a {}", value::type_name(value, &self.heap))))?
            }
            (None, None) => {
                let known = groups.into_iter().flatten().map(|(name, _)| &**name).filter(|name| !name.starts_with('_'));
                let class = super::concrete::plain_name(&instance.class);
                return Err(Diagnostic::user(format!("'{class}' has no attribute '{name}' for the file's '{path}'"))
                    .note(listed("its attributes", known)));
            }
        };
        if let Cell::Instance(instance) = &mut self.heap[at] {
            instance.attrs.insert(Arc::clone(name), made);
        }
        Ok(())
    }

    /// The elements as a value of a type: a tensor, a number of a tensor without dimensions, a list of one with one.
    fn of_type(&mut self, data: &Arc<TensorData>, ty: &Type) -> Option<Value> {
        match ty {
            Type::Tensor(_) => Some(self.new_tensor(Arc::clone(data), false)),
            Type::Optional(inner) => self.of_type(data, inner),
            Type::Int | Type::Float | Type::Bool if data.sizes().is_empty() => {
                let value = super::tensor::element(data, 0);
                let fits = match ty {
                    Type::Int => matches!(value, Value::Int(_)),
                    Type::Float => matches!(value, Value::Float(_)),
                    _ => matches!(value, Value::Bool(_)),
                };
                fits.then_some(value)
            }
            Type::List(elem) if data.sizes().len() == 1 => {
                let n = usize::try_from(data.numel()).ok()?;
                let items: Vec<Value> = (0..n).map(|at| super::tensor::element(data, at)).collect();
                let fits = items.iter().all(|item| match &**elem {
                    Type::Int => matches!(item, Value::Int(_)),
                    Type::Float => matches!(item, Value::Float(_)),
                    Type::Bool => matches!(item, Value::Bool(_)),
                    _ => false,
                });
                fits.then(|| Value::Ref(self.heap.push(Cell::List(items))))
            }
            _ => None,
        }
    }
}

/// `float32[2, 3]`
fn described(data: &TensorData) -> String {
    format!("{}{:?}", data.dtype().python_name(), data.sizes())
}

fn listed<'n>(what: &str, names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    let more = if names.len() > MAX_LISTED { ", ..." } else { "" };
    format!("{what}: {}{more}", names.get(..MAX_LISTED).unwrap_or(&names).join(", "))
}
