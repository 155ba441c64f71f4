//! Lists of objects sorted by the order that their class defines (`__lt__`).

use super::facts::{Outcome, Stop};
use super::walk::{Lowerer, Next};
use crate::diag::Diagnostic;
use crate::ir::{Graph, NodeId, ValueId};
use crate::ops::prim::order::less;
use crate::ops::value::{Cell, Value, known};
use crate::types::Type;
use std::sync::Arc;

/// Sorts a list of instances of `T` by binary insertion, which leaves equal ones as they were.
const SORT: &str = "graph(%xs : T[], %descending : bool):
  %true : bool = prim::Constant[value=1]()
  %zero : int = prim::Constant[value=0]()
  %one : int = prim::Constant[value=1]()
  %two : int = prim::Constant[value=2]()
  %endless : int = prim::Constant[value=9223372036854775807]()
  %none : NoneType = prim::Constant()
  %n : int = aten::len(%xs)
  %rounds : int = aten::sub(%n, %one)
   = prim::Loop(%rounds, %true)
    block0(%round : int):
      %end : int = aten::add(%round, %one)
      %x : T = aten::__getitem__(%xs, %end)
      %at : int, %last : int = prim::Loop(%endless, %true, %zero, %end)
        block0(%step : int, %low : int, %high : int):
          %sum : int = aten::add(%low, %high)
          %middle : int = aten::floordiv(%sum, %two)
          %y : T = aten::__getitem__(%xs, %middle)
          %is_before : bool = prim::If(%descending)
            block0():
              %is_greater : bool = prim::CallMethod[name=\"__lt__\"](%y, %x)
              -> (%is_greater)
            block1():
              %is_less : bool = prim::CallMethod[name=\"__lt__\"](%x, %y)
              -> (%is_less)
          %behind : int = aten::add(%middle, %one)
          %new_low : int, %new_high : int = prim::If(%is_before)
            block0():
              -> (%low, %middle)
            block1():
              -> (%behind, %high)
          %goes_on : bool = aten::lt(%new_low, %new_high)
          -> (%goes_on, %new_low, %new_high)
      %taken : T = aten::pop(%xs, %end)
       = aten::insert(%xs, %at, %taken)
      -> (%true)
  return (%none)
";

impl<'m, 'p> Lowerer<'m, 'p> {
    /// Whether a list holds instances of script classes with an order, or tuples of such.
    pub(super) fn sorts_instances(&self, act: usize, list: ValueId) -> bool {
        let graph = self.graph(act);
        matches!(&graph.values[list].ty, Type::List(item) if self.has_own_order(item))
    }

    /// Whether a class says how values of a type are compared.
    fn has_own_order(&self, ty: &Type) -> bool {
        match ty {
            Type::Tuple(items) => items.iter().any(|item| self.has_own_order(item)),
            Type::NamedTuple(named) => named.fields.iter().any(|(_, item)| self.has_own_order(item)),
            Type::Class(class) => self.module.method(class, "__lt__").is_some(),
            _ => false,
        }
    }

    /// `sort` and `sorted` of such a list.
    pub(super) fn sort_instances(&mut self, act: usize, node: NodeId, next: &mut Next<'_, 'm, 'p>) -> Outcome<()> {
        let graph = self.graph(act);
        let node = &graph.nodes[node];
        let descending = node.inputs.get(1).map_or(Ok(Value::bool(false)), |flag| self.get(act, *flag))?;
        let mut list = self.get(act, node.inputs[0])?;
        let is_new = node.is("aten::sorted");
        if is_new {
            list = crate::ops::lower(&mut self.b, &crate::ir::OpName::with_overload("aten::list", "t"), &[list])?;
        }
        let Value::Cell(cell) = list else { return Err(self.wrong("a list", &list)) };
        let result = if is_new { list.clone() } else { Value::None };
        if let Cell::List(items) = self.b.heap.cells[cell].clone()
            && let Some(known_flag) = self.truth(&descending).ok().as_ref().and_then(known)
        {
            let snapshot = self.snapshot();
            if let Some(sorted) = self.sorted(items, known_flag.bits != 0)? {
                self.b.heap.cells[cell] = Cell::List(sorted);
                return next(self, vec![result]);
            }
            self.restore(&snapshot);
        }
        let Type::List(item) = &graph.values[node.inputs[0]].ty else { return Err(self.wrong("a list", &list)) };
        let Type::Class(class) = &**item else {
            return Err(self
                .b
                .unsupported("sorting tuples of objects whose order only the running program knows")
                .into());
        };
        let sort = self.sorting_graph(class)?;
        self.run_graph(&sort, &[list, descending], &mut |lw, _| next(lw, vec![result.clone()]))
    }

    fn sorting_graph(&mut self, class: &Arc<str>) -> Outcome<Arc<Graph>> {
        let name: Arc<str> = format!("sort of {class}").into();
        if let Some(graph) = self.graphs.get(&name) {
            return Ok(Arc::clone(graph));
        }
        let text = SORT.replace(": T", &format!(": {class}"));
        let graph = text.parse::<Graph>().map_err(|error| Diagnostic::internal(error.message))?;
        let graph = Arc::new(graph);
        self.graphs.insert(name, Arc::clone(&graph));
        Ok(graph)
    }

    /// Objects in order, where that is known when compiling; equal ones stay as they were.
    fn sorted(&mut self, mut objects: Vec<Value>, descending: bool) -> Outcome<Option<Vec<Value>>> {
        for end in 1..objects.len() {
            for at in (0..end).rev() {
                let (first, second) = if descending { (at, at + 1) } else { (at + 1, at) };
                match self.is_less(&objects[first].clone(), &objects[second].clone())? {
                    None => return Ok(None),
                    Some(false) => break,
                    Some(true) => objects.swap(at, at + 1),
                }
            }
        }
        Ok(Some(objects))
    }

    fn is_less(&mut self, x: &Value, y: &Value) -> Outcome<Option<bool>> {
        if let (Value::Tuple(p, _), Value::Tuple(q, _)) = (x, y) {
            for (x, y) in p.iter().zip(q) {
                match (self.is_less(x, y)?, self.is_less(y, x)?) {
                    (Some(true), _) => return Ok(Some(true)),
                    (Some(false), Some(true)) => return Ok(Some(false)),
                    (Some(false), Some(false)) => {}
                    (None, _) | (_, None) => return Ok(None),
                }
            }
            return Ok(Some(p.len() < q.len()));
        }
        let has_order = self.class_of(x).is_ok_and(|class| self.module.method(&class, "__lt__").is_some());
        let answer = if has_order {
            let method = self.method_of(x, "__lt__")?;
            let args = [x.clone(), y.clone()];
            let n_activations = self.n_activations();
            let result = self.straight(&mut |lw, next| lw.run_graph(&method, &args, next));
            self.drop_activations(n_activations);
            match result {
                Ok(Some(values)) => self.truth(values.first().unwrap_or(&Value::None))?,
                // Paths of a comparison that do not meet, or none that ends.
                Ok(None) | Err(Stop::Incompatible(_)) => return Ok(None),
                Err(stop) => return Err(stop),
            }
        } else {
            less(&mut self.b, x, y)?
        };
        Ok(known(&answer).map(|answer| answer.bits != 0))
    }
}
