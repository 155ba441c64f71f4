//! `tensor[items]` and `tensor[items] = value` under trace: steps along dimensions, then a gather for tensors among the items.

use super::super::construct::{Cell, Frame, Interpreter, Ref, Value};
use super::tensors::dtype_value;
use crate::diag::Result;
use crate::syntax::ast::{Expr, TextRange};
use crate::types::DType;
use std::sync::Arc;

impl Interpreter<'_, '_> {
    /// `tensor[items]`.
    pub(crate) fn trace_elements(
        &mut self,
        frame: &mut Frame,
        tensor: &Value,
        items: &[Expr],
        range: TextRange,
    ) -> Result<Value> {
        let items = self.index_items(frame, items)?;
        let (view, indices) = self.steps(frame, tensor, &items, range)?;
        if indices.is_empty() {
            return Ok(view);
        }
        let indices = Value::Tuple(indices.into());
        self.record(frame, "index", &[view, indices], &[], range)
    }

    /// `tensor[items] = value`.
    pub(crate) fn trace_set_elements(
        &mut self,
        frame: &mut Frame,
        tensor: &Value,
        items: &[Expr],
        value: &Value,
        range: TextRange,
    ) -> Result<()> {
        let items = self.index_items(frame, items)?;
        let (view, indices) = self.steps(frame, tensor, &items, range)?;
        let is_tensor = self.is_tensor(value);
        if let (false, Some(Value::Ref(index))) = (is_tensor, indices.last())
            && indices.iter().filter(|index| !matches!(index, Value::None)).count() == 1
        {
            return self.fill_at(frame, view, indices.len() - 1, *index, value, range);
        }
        if !indices.is_empty() {
            let values = if is_tensor { value.clone() } else { self.filled(frame, tensor, value, range)? };
            let indices = Value::Tuple(indices.into());
            self.record(frame, "index_put_", &[view, indices, values], &[], range)?;
            return Ok(());
        }
        if !is_tensor {
            self.record(frame, "fill_", &[view, value.clone()], &[], range)?;
            return Ok(());
        }
        let sizes = |this: &Self, value: &Value| match value {
            Value::Ref(at) => this.tensor_facts(*at).map(|(_, sizes)| sizes).unwrap_or_default(),
            _ => Vec::new(),
        };
        let (have, want) = (sizes(self, value), sizes(self, &view));
        if have.is_empty() && !want.is_empty() {
            self.record(frame, "fill_", &[view, value.clone()], &[], range)?;
            return Ok(());
        }
        let value = if have == want {
            value.clone()
        } else {
            let list = |sizes: &[i64]| Value::Tuple(sizes.iter().map(|&n| Value::Int(n)).collect());
            let n_ones = have.iter().take_while(|&&n| n == 1).count();
            let plain = self.record(frame, "view", &[value.clone(), list(&have[n_ones..])], &[], range)?;
            self.record(frame, "expand", &[plain, list(&want)], &[], range)?
        };
        self.record(frame, "copy_", &[view, value], &[], range)?;
        Ok(())
    }

    /// Fills what one tensor says of a dimension with a number: a mask's true places, or numbered slices.
    fn fill_at(
        &mut self,
        frame: &mut Frame,
        view: Value,
        dim: usize,
        index: Ref,
        value: &Value,
        range: TextRange,
    ) -> Result<()> {
        let rank = |this: &Self, value: &Value| match value {
            Value::Ref(at) => this.tensor_facts(*at).map_or(0, |(_, sizes)| sizes.len()),
            _ => 0,
        };
        let is_mask = self.tensor_facts(index).is_some_and(|(dtype, _)| matches!(dtype, DType::Bool | DType::U8));
        let mut index = Value::Ref(index);
        if is_mask {
            let n_dims = rank(self, &index);
            for _ in dim + n_dims..rank(self, &view) {
                index = self.record(frame, "unsqueeze", &[index, Value::Int(-1)], &[], range)?;
            }
            self.record(frame, "masked_fill_", &[view, index, value.clone()], &[], range)?;
            return Ok(());
        }
        if rank(self, &index) != 1 {
            index = self.record(frame, "view", &[index, Value::Tuple([Value::Int(-1)].into())], &[], range)?;
        }
        self.record(frame, "index_fill_", &[view, Value::Int(dim as i64), index, value.clone()], &[], range)?;
        Ok(())
    }

    /// A number as a constant tensor of the element type that it is put into.
    fn filled(&mut self, frame: &mut Frame, tensor: &Value, value: &Value, range: TextRange) -> Result<Value> {
        let dtype = match tensor {
            Value::Ref(at) => self.tensor_facts(*at).map_or(DType::F32, |(dtype, _)| dtype),
            _ => DType::F32,
        };
        let tracer = self.tracer.take();
        let named = vec![(Arc::from("dtype"), dtype_value(dtype))];
        let made = self.tensor_function(frame, "torch.tensor", vec![value.clone()], named, range);
        self.tracer = tracer;
        made
    }

    fn index_items(&mut self, frame: &mut Frame, items: &[Expr]) -> Result<Vec<Value>> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            values.push(self.eval(frame, item)?);
        }
        // `x[(a, b)]` is `x[a, b]`.
        if let [Value::Tuple(inner)] = values.as_slice() {
            return Ok(inner.to_vec());
        }
        Ok(values)
    }

    /// Applies what works along one dimension; gives the view and the tensors that index what is left of it.
    fn steps(
        &mut self,
        frame: &mut Frame,
        tensor: &Value,
        items: &[Value],
        range: TextRange,
    ) -> Result<(Value, Vec<Value>)> {
        let rank = |this: &Self, value: &Value| match value {
            Value::Ref(at) => this.tensor_facts(*at).map_or(0, |(_, sizes)| sizes.len()),
            _ => 0,
        };
        let is_mask = |this: &Self, value: &Value| match value {
            Value::Ref(at) => this.tensor_facts(*at).is_some_and(|(dtype, _)| matches!(dtype, DType::Bool | DType::U8)),
            _ => false,
        };
        let n_dims: usize = items
            .iter()
            .map(|item| match item {
                Value::None | Value::Ellipsis | Value::Bool(_) => 0,
                item if is_mask(self, item) => rank(self, item),
                _ => 1,
            })
            .sum();
        let (mut view, mut dim, mut indices) = (tensor.clone(), 0_usize, Vec::<Value>::new());
        if let [Value::Ellipsis] = items {
            return Ok((self.record(frame, "alias", &[view], &[], range)?, indices));
        }
        for item in items {
            let at = Value::Int(dim as i64);
            match item {
                Value::Int(index) => {
                    let sizes = match &view {
                        Value::Ref(at) => self.tensor_facts(*at).map(|(_, sizes)| sizes),
                        _ => None,
                    };
                    if let Some(&n) = sizes.as_ref().and_then(|sizes| sizes.get(dim))
                        && !(-n..n).contains(index)
                    {
                        // The dimension is one of the tensor that is indexed, of which others may be gone.
                        let real = dim + rank(self, tensor).saturating_sub(rank(self, &view));
                        let text =
                            format!("IndexError: index {index} is out of bounds for dimension {real} with size {n}");
                        return Err(frame.error(range, text));
                    }
                    view = self.record(frame, "select", &[view, at, item.clone()], &[], range)?;
                }
                Value::None => {
                    view = self.record(frame, "unsqueeze", &[view, at], &[], range)?;
                    dim += 1;
                }
                Value::Ellipsis => dim += rank(self, tensor).saturating_sub(n_dims),
                Value::NamedTuple(name, parts) if &**name == "slice" => {
                    let part = |at: usize, default: i64| match parts.get(at) {
                        Some(Value::None) | None => Value::Int(default),
                        Some(value) => value.clone(),
                    };
                    let args = [view, at, part(0, 0), part(1, i64::MAX), part(2, 1)];
                    view = self.record(frame, "slice", &args, &[], range)?;
                    dim += 1;
                }
                Value::Ref(_) if self.is_tensor(item) => {
                    if rank(self, item) == 0 && !is_mask(self, item) {
                        view = self.record(frame, "select", &[view, at, item.clone()], &[], range)?;
                        continue;
                    }
                    indices.resize(dim.max(indices.len()), Value::None);
                    indices.push(item.clone());
                    dim += if is_mask(self, item) { rank(self, item) } else { 1 };
                }
                Value::Ref(list) if matches!(self.heap[*list], Cell::List(_)) => {
                    let tracer = self.tracer.take();
                    let made = self.tensor_function(frame, "torch.tensor", vec![item.clone()], Vec::new(), range);
                    self.tracer = tracer;
                    let made = made?;
                    let dtype = match &made {
                        Value::Ref(at) => self.tensor_facts(*at).map_or(DType::I64, |(dtype, _)| dtype),
                        _ => DType::I64,
                    };
                    let args = [made, Value::Device("cpu".into()), dtype_value(dtype)];
                    let made = self.record(&mut frame.nameless(), "to", &args, &[], range)?;
                    indices.resize(dim.max(indices.len()), Value::None);
                    indices.push(made);
                    dim += 1;
                }
                other => return Err(self.refused(frame, other, "an index under trace", range)),
            }
        }
        Ok((view, indices))
    }
}
