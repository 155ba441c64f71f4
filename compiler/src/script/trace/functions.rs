//! Functions of `torch` under trace: almost all are operators of the same name.

use super::super::construct::{Frame, Interpreter, Value};
use crate::diag::Result;
use crate::script::names::{Item, Program};
use crate::source::Source;
use crate::syntax::Dialect;
use crate::syntax::ast::TextRange;
use crate::types::DType;
use std::sync::Arc;

/// Where the functions of `torch.nn.functional` are as Python runs them: numbers that are no tensors are decided there.
const FUNCTIONAL: &str = "__torch__.torch.nn.functional as traced";

/// Operators whose name is not that of their function.
const RENAMED: [(&str, &str); 1] = [("logsigmoid", "log_sigmoid")];

/// Convolutions of Python with their number of dimensions: the operator below them is recorded.
const CONVOLUTIONS: [(&str, usize, bool); 6] = [
    ("conv1d", 1, false),
    ("conv2d", 2, false),
    ("conv3d", 3, false),
    ("conv_transpose1d", 1, true),
    ("conv_transpose2d", 2, true),
    ("conv_transpose3d", 3, true),
];

/// Makes the functions known.
pub(crate) fn add_to(program: &mut Program<'_>) {
    let source =
        Source { name: "functional.py".into(), text: include_str!("functional.py").into(), origins: Vec::new() };
    program.add_text(FUNCTIONAL, Arc::new(source), Dialect::Python, None);
}

impl Interpreter<'_, '_> {
    /// What a path means under trace, if that is not what it means elsewhere.
    pub(crate) fn traced_path(&mut self, path: &str) -> Result<Option<Value>> {
        if self.tracer.as_ref().is_none_or(|tracer| tracer.is_paused()) {
            return Ok(None);
        }
        match path.strip_prefix("torch.nn.functional.").or_else(|| (path == "torch.norm").then_some("norm")) {
            Some(name) => self.functional(name),
            None => Ok(None),
        }
    }

    /// A function as Python runs it.
    pub(crate) fn functional(&mut self, name: &str) -> Result<Option<Value>> {
        if self.program.text_module(FUNCTIONAL)?.is_none() {
            add_to(self.program);
        }
        Ok(match self.program.item(&format!("{FUNCTIONAL}.{name}"))? {
            Some(Item::Function(name)) => Some(Value::Function(name)),
            _ => None,
        })
    }

    /// `torch.name(args)` under trace.
    pub(crate) fn trace_path(
        &mut self,
        frame: &mut Frame,
        path: &str,
        args: &[Value],
        named: &[(Arc<str>, Value)],
        range: TextRange,
    ) -> Result<Value> {
        let (space, name) = path.rsplit_once('.').unwrap_or(("torch", path));
        let by_name = |key: &str| named.iter().find(|(name, _)| &**name == key).map(|(_, value)| value.clone());
        if let Some((name, n_dims, is_transposed)) = CONVOLUTIONS.iter().find(|(own, ..)| *own == name) {
            return self.convolution(frame, name, (*n_dims, *is_transposed), args, named, range);
        }
        let prefix = match space {
            "torch.special" => "special_",
            "torch.linalg" => "linalg_",
            "torch.fft" => "fft_",
            _ => "",
        };
        match (name, args) {
            ("tensor" | "as_tensor", [data, ..]) if prefix.is_empty() => {
                let dtype = match by_name("dtype") {
                    Some(Value::Path(path)) => super::code_of(&path).and_then(DType::from_code),
                    _ => None,
                };
                if name == "as_tensor" && self.is_tensor(data) {
                    return Ok(data.clone());
                }
                self.trace_constant(frame, data, dtype, range)
            }
            ("einsum", [equation, operands @ ..]) => {
                let operands = match operands {
                    [one] if !self.is_tensor(one) => one.clone(),
                    several => Value::Tuple(several.into()),
                };
                self.record(&mut frame.nameless(), "einsum", &[equation.clone(), operands], &[], range)
            }
            ("split" | "numel" | "is_floating_point" | "is_complex", [tensor, rest @ ..]) if self.is_tensor(tensor) => {
                self.trace_method(frame, &tensor.clone(), name, rest, named, range)
            }
            ("lstm_cell" | "gru_cell" | "rnn_tanh_cell" | "rnn_relu_cell", [input, hx, weights @ ..]) => {
                self.cell(frame, name, input, hx, weights, range)
            }
            ("broadcast_tensors", tensors) => self.broadcast(frame, tensors, range),
            ("Size", [sizes]) => Ok(Value::Tuple(self.items(frame, sizes, range)?.into())),
            _ => {
                let name = RENAMED.iter().find(|(own, _)| *own == name).map_or(name, |(_, op)| op);
                self.record(frame, &format!("{prefix}{name}"), args, named, range)
            }
        }
    }

    /// `torch.broadcast_tensors(a, b)`: what has the common shape already stays the tensor that it is.
    fn broadcast(&mut self, frame: &mut Frame, tensors: &[Value], range: TextRange) -> Result<Value> {
        let list = Value::Tuple(tensors.into());
        let made = self.record(&mut frame.nameless(), "broadcast_tensors", &[list], &[], range)?;
        let Value::Tuple(items) = &made else { return Ok(made) };
        let mut results = Vec::with_capacity(items.len());
        for (old, new) in tensors.iter().zip(items.iter()) {
            let (Value::Ref(a), Value::Ref(b)) = (old, new) else { continue };
            let is_same = self.tensor_facts(*a) == self.tensor_facts(*b);
            let parts = self.tracer.as_ref().and_then(|t| Some((*t.values.get(b)?, *t.eager_values.get(b)?)));
            results.push(match parts {
                Some((traced, eager)) if is_same => {
                    self.rebind(*a, traced, eager);
                    old.clone()
                }
                _ => new.clone(),
            });
        }
        Ok(Value::Tuple(results.into()))
    }

    /// A step of a recurrent layer: the operators it consists of are what PyTorch records.
    fn cell(
        &mut self,
        frame: &mut Frame,
        name: &str,
        input: &Value,
        hx: &Value,
        weights: &[Value],
        range: TextRange,
    ) -> Result<Value> {
        let [w_ih, w_hh, rest @ ..] = weights else {
            return Err(frame.error(range, format!("TypeError: {name}() misses weights")));
        };
        let bias = |at: usize| rest.get(at).cloned().unwrap_or(Value::None);
        let mut op = |name: &str, args: &[Value]| self.record(frame, name, args, &[], range);
        let n_chunks = |n: i64| [Value::Int(n), Value::Int(1)];
        let parts = |value: Value| match value {
            Value::Tuple(items) => items.to_vec(),
            one => vec![one],
        };
        let hidden = match hx {
            Value::Tuple(items) => items.to_vec(),
            one => vec![one.clone()],
        };
        let from_input = [input.clone(), w_ih.clone(), bias(0)];
        let from_hidden = [hidden[0].clone(), w_hh.clone(), bias(1)];
        if name == "gru_cell" {
            let [n, dim] = n_chunks(3);
            let gates = op("linear", &from_input)?;
            let input_gates = parts(op("unsafe_chunk", &[gates, n.clone(), dim.clone()])?);
            let gates = op("linear", &from_hidden)?;
            let hidden_gates = parts(op("unsafe_chunk", &[gates, n, dim])?);
            let ([i0, i1, i2], [h0, h1, h2]) = (&input_gates[..], &hidden_gates[..]) else {
                return Err(frame.error(range, "RuntimeError: a GRU has three gates"));
            };
            let mut gate = |hidden: &Value, input: &Value| {
                let sum = op("add_", &[hidden.clone(), input.clone()])?;
                op("sigmoid_", &[sum])
            };
            let (reset, update) = (gate(h0, i0)?, gate(h1, i1)?);
            let scaled = op("mul_", &[h2.clone(), reset])?;
            let new = op("add", &[i2.clone(), scaled])?;
            let new = op("tanh_", &[new])?;
            let change = op("sub", &[hidden[0].clone(), new.clone()])?;
            let change = op("mul_", &[change, update])?;
            return op("add_", &[change, new]);
        }
        let (a, b) = (op("linear", &from_hidden)?, op("linear", &from_input)?);
        let gates = op("add_", &[a, b])?;
        if name != "lstm_cell" {
            return op(if name == "rnn_relu_cell" { "relu" } else { "tanh" }, &[gates]);
        }
        let [n, dim] = n_chunks(4);
        let gates = parts(op("unsafe_chunk", &[gates, n, dim])?);
        let ([input_gate, forget, cell, output], [_, cx]) = (&gates[..], &hidden[..]) else {
            return Err(frame.error(range, "RuntimeError: an LSTM has four gates and two states"));
        };
        let input_gate = op("sigmoid_", std::slice::from_ref(input_gate))?;
        let forget = op("sigmoid_", std::slice::from_ref(forget))?;
        let cell = op("tanh_", std::slice::from_ref(cell))?;
        let output = op("sigmoid_", std::slice::from_ref(output))?;
        let kept = op("mul", &[forget, cx.clone()])?;
        let added = op("mul", &[input_gate, cell])?;
        let cy = op("add_", &[kept, added])?;
        let shown = op("tanh", std::slice::from_ref(&cy))?;
        let hy = op("mul", &[output, shown])?;
        Ok(Value::Tuple([hy, cy].into()))
    }

    /// A convolution: `aten::_convolution` is what PyTorch records.
    fn convolution(
        &mut self,
        frame: &mut Frame,
        name: &str,
        (n_dims, is_transposed): (usize, bool),
        args: &[Value],
        named: &[(Arc<str>, Value)],
        range: TextRange,
    ) -> Result<Value> {
        let names: &[&str] = if is_transposed {
            &["input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"]
        } else {
            &["input", "weight", "bias", "stride", "padding", "dilation", "groups"]
        };
        let find = |key: &str| {
            let at = names.iter().position(|name| *name == key);
            let by_name = || named.iter().find(|(name, _)| &**name == key).map(|(_, value)| value);
            at.and_then(|at| args.get(at)).or_else(by_name).cloned()
        };
        let tensor = |key: &str| {
            find(key).ok_or_else(|| frame.error(range, format!("TypeError: {name}() missing the argument '{key}'")))
        };
        let (input, weight) = (tensor("input")?, tensor("weight")?);
        if matches!(find("padding"), Some(Value::Str(_))) {
            return self.record(frame, name, args, named, range);
        }
        let list = |key: &str, default: i64| match find(key) {
            None => Value::Tuple(vec![Value::Int(default); n_dims].into()),
            Some(one @ Value::Int(_)) => Value::Tuple(vec![one; n_dims].into()),
            Some(Value::Tuple(items)) if items.len() == 1 => Value::Tuple(vec![items[0].clone(); n_dims].into()),
            Some(items) => items,
        };
        let all = [
            input,
            weight,
            find("bias").unwrap_or(Value::None),
            list("stride", 1),
            list("padding", 0),
            list("dilation", 1),
            Value::Bool(is_transposed),
            if is_transposed { list("output_padding", 0) } else { Value::Tuple(vec![Value::Int(0); n_dims].into()) },
            self.plain_numbers(&[find("groups").unwrap_or(Value::Int(1))])?.remove(0),
            Value::Bool(false),
            Value::Bool(false),
            Value::Bool(true),
            Value::Bool(true),
        ];
        self.record(frame, "_convolution", &all, &[], range)
    }
}
