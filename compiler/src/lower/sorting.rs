//! Lists of objects sorted by the order that their class defines (`__lt__`).

use super::facts::Outcome;
use super::walk::Lowerer;
use crate::ir::{Node, ValueId};
use crate::ops::prim::order::less;
use crate::ops::value::{Cell, Value, known};

impl Lowerer<'_, '_> {
    /// The items of a list that holds objects of script classes with an order, or tuples of such; `None` for other lists.
    pub(super) fn objects_in(&self, act: usize, list: ValueId) -> Outcome<Option<Vec<Value>>> {
        let Value::Cell(cell) = self.get(act, list)? else { return Ok(None) };
        let Cell::List(items) = &self.b.heap.cells[cell] else { return Ok(None) };
        Ok(Some(items.clone()).filter(|items| items.iter().any(|item| self.has_own_order(item))))
    }

    /// Whether a class says how the value is compared.
    fn has_own_order(&self, value: &Value) -> bool {
        match value {
            Value::Tuple(items, _) => items.iter().any(|item| self.has_own_order(item)),
            Value::Cell(cell) => match &self.b.heap.cells[*cell] {
                Cell::Object(object) => self.module.method(&object.class, "__lt__").is_some(),
                _ => false,
            },
            _ => false,
        }
    }

    /// Objects in order; equal ones stay as they were. Their order must be known when compiling.
    pub(super) fn sort_objects(&mut self, mut objects: Vec<Value>, descending: bool) -> Outcome<Vec<Value>> {
        for end in 1..objects.len() {
            for at in (0..end).rev() {
                let (first, second) = if descending { (at, at + 1) } else { (at + 1, at) };
                if !self.is_less(&objects[first].clone(), &objects[second].clone())? {
                    break;
                }
                objects.swap(at, at + 1);
            }
        }
        Ok(objects)
    }

    fn is_less(&mut self, x: &Value, y: &Value) -> Outcome<bool> {
        if let (Value::Tuple(p, _), Value::Tuple(q, _)) = (x, y) {
            for (x, y) in p.iter().zip(q) {
                if self.is_less(x, y)? {
                    return Ok(true);
                }
                if self.is_less(y, x)? {
                    return Ok(false);
                }
            }
            return Ok(p.len() < q.len());
        }
        let answer = if self.has_own_order(x) {
            let method = self.method_of(x, "__lt__")?;
            let args = [x.clone(), y.clone()];
            let n_activations = self.n_activations();
            let result = self.straight(&mut |lw, next| lw.run_graph(&method, &args, next))?;
            self.drop_activations(n_activations);
            let Some([answer]) = result.as_deref() else {
                return Err(self.b.unsupported("sorting objects whose comparison never ends").into());
            };
            self.truth(answer)?
        } else {
            less(&mut self.b, x, y)?
        };
        match known(&answer) {
            Some(answer) => Ok(answer.bits != 0),
            None => Err(self.b.unsupported("sorting objects whose order only the running program knows").into()),
        }
    }

    /// Puts sorted items where the operator leaves them: in the list itself, or in a new one.
    pub(super) fn place_sorted(&mut self, act: usize, node: &Node, sorted: Vec<Value>) -> Outcome<Value> {
        if node.is("aten::sorted") {
            return Ok(self.b.new_list(sorted));
        }
        if let Value::Cell(cell) = self.get(act, node.inputs[0])? {
            self.b.heap.cells[cell] = Cell::List(sorted);
        }
        Ok(Value::None)
    }
}
