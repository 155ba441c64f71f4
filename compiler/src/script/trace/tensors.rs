//! What Python does with tensors under trace: operators, methods, attributes, and the questions that give plain numbers.

use super::super::construct::{Cell, Frame, Interpreter, Ref, TracedTensor, Value};
use super::operators::{code_of, shaped};
use crate::diag::{Diagnostic, Result};
use crate::ir::OpName;
use crate::syntax::ast::{BinaryOp, TextRange, UnaryOp};
use crate::types::{DType, IValue, TensorData, Type};
use std::sync::Arc;

/// Arguments by name.
type Named = [(Arc<str>, Value)];

/// Methods that cast to an element type.
const CASTS: [(&str, DType); 9] = [
    ("float", DType::F32),
    ("double", DType::F64),
    ("half", DType::F16),
    ("bfloat16", DType::BF16),
    ("long", DType::I64),
    ("int", DType::I32),
    ("short", DType::I16),
    ("bool", DType::Bool),
    ("byte", DType::U8),
];

impl Interpreter<'_, '_> {
    /// `lhs op rhs` where one of them is a tensor.
    pub(crate) fn trace_binary(
        &mut self,
        frame: &mut Frame,
        op: BinaryOp,
        lhs: &Value,
        rhs: &Value,
        range: TextRange,
    ) -> Result<Value> {
        let is_first = self.is_tensor(lhs);
        // Methods of Python's own: there the tensor is called `self`.
        let is_python = match op {
            BinaryOp::Pow | BinaryOp::FloorDiv => true,
            BinaryOp::Sub | BinaryOp::Div | BinaryOp::Mod | BinaryOp::ShiftLeft | BinaryOp::ShiftRight => !is_first,
            _ => false,
        };
        let mut inner = frame.nameless();
        let frame = if is_python { &mut inner } else { frame };
        let (x, y) = (lhs.clone(), rhs.clone());
        // A number on the left makes Python ask the tensor on the right.
        let (name, args) = match (op, is_first) {
            (BinaryOp::Add, true) => ("add", [x, y]),
            (BinaryOp::Add, false) => ("add", [y, x]),
            (BinaryOp::Sub, true) => ("sub", [x, y]),
            (BinaryOp::Sub, false) => ("rsub", [y, x]),
            (BinaryOp::Mul, true) => ("mul", [x, y]),
            (BinaryOp::Mul, false) => ("mul", [y, x]),
            (BinaryOp::Div, true) => ("div", [x, y]),
            (BinaryOp::Div, false) => {
                let reciprocal = self.record(frame, "reciprocal", &[y], &[], range)?;
                ("mul", [reciprocal, x])
            }
            (BinaryOp::FloorDiv, _) => ("floor_divide", [x, y]),
            (BinaryOp::Mod, _) => ("remainder", [x, y]),
            (BinaryOp::Pow, _) => ("pow", [x, y]),
            (BinaryOp::MatMul, _) => ("matmul", [x, y]),
            (BinaryOp::BitAnd, true) => ("__and__", [x, y]),
            (BinaryOp::BitAnd, false) => ("__and__", [y, x]),
            (BinaryOp::BitOr, true) => ("__or__", [x, y]),
            (BinaryOp::BitOr, false) => ("__or__", [y, x]),
            (BinaryOp::BitXor, true) => ("__xor__", [x, y]),
            (BinaryOp::BitXor, false) => ("__xor__", [y, x]),
            (BinaryOp::ShiftLeft, _) => ("__lshift__", [x, y]),
            (BinaryOp::ShiftRight, _) => ("__rshift__", [x, y]),
            (BinaryOp::Eq | BinaryOp::Ne, _) if matches!((lhs, rhs), (Value::None, _) | (_, Value::None)) => {
                return Ok(Value::Bool(op == BinaryOp::Ne));
            }
            (BinaryOp::Eq, true) => ("eq", [x, y]),
            (BinaryOp::Eq, false) => ("eq", [y, x]),
            (BinaryOp::Ne, true) => ("ne", [x, y]),
            (BinaryOp::Ne, false) => ("ne", [y, x]),
            (BinaryOp::Lt, true) => ("lt", [x, y]),
            (BinaryOp::Lt, false) => ("gt", [y, x]),
            (BinaryOp::Le, true) => ("le", [x, y]),
            (BinaryOp::Le, false) => ("ge", [y, x]),
            (BinaryOp::Gt, true) => ("gt", [x, y]),
            (BinaryOp::Gt, false) => ("lt", [y, x]),
            (BinaryOp::Ge, true) => ("ge", [x, y]),
            (BinaryOp::Ge, false) => ("le", [y, x]),
            (BinaryOp::And | BinaryOp::Or | BinaryOp::In | BinaryOp::NotIn | BinaryOp::Is | BinaryOp::IsNot, _) => {
                return Err(frame.unsupported(range, format!("'{}' of tensors under trace", op.text())));
            }
        };
        self.record(frame, name, &args, &[], range)
    }

    /// `op operand` of a tensor.
    pub(crate) fn trace_unary(
        &mut self,
        frame: &mut Frame,
        op: UnaryOp,
        operand: &Value,
        range: TextRange,
    ) -> Result<Value> {
        let name = match op {
            UnaryOp::Neg => "neg",
            UnaryOp::Pos => "positive",
            UnaryOp::Invert => "bitwise_not",
            UnaryOp::Not => {
                let is_true = self.truth(frame, operand, range)?;
                return Ok(Value::Bool(!is_true));
            }
        };
        self.record(frame, name, std::slice::from_ref(operand), &[], range)
    }

    /// `tensor op= value`, which writes to the tensor.
    pub(crate) fn trace_augmented(
        &mut self,
        frame: &mut Frame,
        op: BinaryOp,
        tensor: &Value,
        value: &Value,
        range: TextRange,
    ) -> Result<Value> {
        let name = match op {
            BinaryOp::Add => "add_",
            BinaryOp::Sub => "sub_",
            BinaryOp::Mul => "mul_",
            BinaryOp::Div => "div_",
            BinaryOp::FloorDiv => "floor_divide_",
            BinaryOp::Mod => "remainder_",
            BinaryOp::Pow => "pow_",
            BinaryOp::BitAnd => "__iand__",
            BinaryOp::BitOr => "__ior__",
            BinaryOp::BitXor => "__ixor__",
            BinaryOp::ShiftLeft => "__ilshift__",
            BinaryOp::ShiftRight => "__irshift__",
            _ => return self.trace_binary(frame, op, tensor, value, range),
        };
        if self.size_value(tensor).is_some() || !self.is_tensor(tensor) {
            // Sizes are numbers to the program: the variable gets a new one.
            return self.trace_binary(frame, op, tensor, value, range);
        }
        self.record(frame, name, &[tensor.clone(), value.clone()], &[], range)
    }

    fn size_value(&self, tensor: &Value) -> Option<i64> {
        let Value::Ref(at) = tensor else { return None };
        self.tracer.as_ref().and_then(|tracer| tracer.sizes.get(at)).copied()
    }

    /// `tensor.name`.
    pub(crate) fn trace_attribute(
        &mut self,
        frame: &mut Frame,
        tensor: &Value,
        name: &Arc<str>,
        range: TextRange,
    ) -> Result<Value> {
        let Some((at, dtype, sizes)) = self.facts(tensor) else {
            return Err(Diagnostic::internal("an attribute of a tensor that is none"));
        };
        Ok(match &**name {
            "shape" => return self.shape(frame, at, range),
            "ndim" => Value::Int(sizes.len() as i64),
            "dtype" => Value::Path(format!("torch.{}", dtype.python_name()).into()),
            "device" => Value::Device("cpu".into()),
            "layout" => Value::Path("torch.strided".into()),
            "requires_grad" => Value::Bool(matches!(&self.heap[at], Cell::Tensor(cell) if cell.requires_grad)),
            "is_cuda" | "is_sparse" | "is_quantized" | "is_mkldnn" => Value::Bool(false),
            "grad" => Value::None,
            "T" => return self.record(frame, "numpy_T", std::slice::from_ref(tensor), &[], range),
            "mT" => return self.record(frame, "mT", std::slice::from_ref(tensor), &[], range),
            // Outside of the trace: what is computed from it is a constant.
            "data" => {
                let data = self.elements_now(at)?;
                self.new_tensor(data, false)
            }
            "real" | "imag" if !dtype.is_complex() => tensor.clone(),
            "real" | "imag" => return self.record(frame, name, std::slice::from_ref(tensor), &[], range),
            _ => Value::Method(Arc::new(tensor.clone()), Arc::clone(name)),
        })
    }

    fn facts(&self, tensor: &Value) -> Option<(Ref, DType, Vec<i64>)> {
        let Value::Ref(at) = tensor else { return None };
        self.tensor_facts(*at).map(|(dtype, sizes)| (*at, dtype, sizes))
    }

    /// The sizes, each a tensor of the trace.
    fn shape(&mut self, frame: &mut Frame, at: Ref, range: TextRange) -> Result<Value> {
        let n = self.tensor_facts(at).map_or(0, |(_, sizes)| sizes.len());
        let sizes = (0..n).map(|dim| self.size(frame, at, dim as i64, range)).collect::<Result<Vec<_>>>()?;
        Ok(Value::Tuple(sizes.into()))
    }

    /// One size, as a tensor of the trace, so that what is computed from it follows the input.
    fn size(&mut self, frame: &mut Frame, at: Ref, dim: i64, range: TextRange) -> Result<Value> {
        let sizes = self.tensor_facts(at).map(|(_, sizes)| sizes).unwrap_or_default();
        let rank = sizes.len() as i64;
        let place = usize::try_from(if dim < 0 { dim + rank } else { dim }).ok().filter(|place| *place < sizes.len());
        let Some(place) = place else {
            let text = format!(
                "IndexError: Dimension out of range (expected to be in range of [{}, {}], but got {dim})",
                -rank,
                rank - 1
            );
            return Err(frame.error(range, text));
        };
        let span = frame.span(range);
        let (traced, _) = self.traced_operand(frame, at, &span)?;
        let n = sizes[place];
        let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
        let dim = tracer.recorder.constant(IValue::Int(dim), Type::Int, Some(&span));
        let size =
            tracer.recorder.node(OpName::with_overload("aten::size", "int"), &[traced, dim], &[Type::Int], Some(&span));
        self.number_tensor(size[0], n)
    }

    /// An int of the trace as a tensor of it.
    fn number_tensor(&mut self, traced: super::record::Traced, n: i64) -> Result<Value> {
        let data = TensorData::from_bytes(DType::I64, &[], n.to_ne_bytes().to_vec()).map_err(Diagnostic::internal)?;
        let ty = Type::Tensor(shaped(DType::I64, &[]));
        let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
        let op = OpName::with_overload("prim::NumToTensor", "Scalar");
        let traced = tracer.recorder.node(op, &[traced], std::slice::from_ref(&ty), None);
        let eager = tracer.eager.constant(IValue::Tensor(Arc::new(data)), ty);
        let made = self.heap.push(Cell::Traced(TracedTensor { dtype: DType::I64, sizes: Vec::new(), is_dense: true }));
        self.rebind(made, traced[0], eager);
        if let Some(tracer) = &mut self.tracer {
            tracer.sizes.insert(made, n);
        }
        Ok(Value::Ref(made))
    }

    /// `tensor.name(args)`.
    pub(crate) fn trace_method(
        &mut self,
        frame: &mut Frame,
        tensor: &Value,
        name: &str,
        args: &[Value],
        named: &Named,
        range: TextRange,
    ) -> Result<Value> {
        let Some((at, dtype, sizes)) = self.facts(tensor) else {
            return Err(Diagnostic::internal("a method of a tensor that is none"));
        };
        let by_name = |key: &str| named.iter().find(|(name, _)| &**name == key).map(|(_, value)| value.clone());
        let one = std::slice::from_ref(tensor);
        match (name, args) {
            ("size", []) => match by_name("dim") {
                Some(Value::Int(dim)) => return self.size(frame, at, dim, range),
                _ => return self.shape(frame, at, range),
            },
            ("size", [Value::Int(dim)]) => return self.size(frame, at, *dim, range),
            ("dim" | "ndimension", []) => return Ok(Value::Int(sizes.len() as i64)),
            ("numel" | "nelement", []) => {
                let span = frame.span(range);
                let (traced, _) = self.traced_operand(frame, at, &span)?;
                let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
                let n = tracer.recorder.node(OpName::new("aten::numel"), &[traced], &[Type::Int], Some(&span));
                return self.number_tensor(n[0], sizes.iter().product());
            }
            ("item" | "tolist" | "numpy", []) => {
                let data = self.elements_now(at)?;
                let cell = self.new_tensor(data, false);
                let tracer = self.tracer.take();
                let made = self.tensor_method(frame, &cell, name, Vec::new(), Vec::new(), range);
                self.tracer = tracer;
                return made;
            }
            ("__len__", []) => return self.trace_len(frame, tensor, range).map(Value::Int),
            ("is_floating_point", []) => return Ok(Value::Bool(dtype.is_floating_point())),
            ("is_complex", []) => return Ok(Value::Bool(dtype.is_complex())),
            ("is_contiguous" | "is_same_size", _) => return Ok(Value::Bool(true)),
            ("requires_grad_" | "share_memory_", _) => return Ok(tensor.clone()),
            ("cpu", []) => return self.trace_to(frame, tensor, &[Value::Device("cpu".into())], &[], range),
            ("norm", _) => {
                let Some(function) = self.functional("norm")? else { return Ok(Value::None) };
                let all = one.iter().chain(args).cloned().collect();
                return self.call(frame, function, all, named.to_vec(), range);
            }
            ("get_device", []) => return Ok(Value::Int(-1)),
            ("type", []) => return Ok(Value::str("torch.FloatTensor")),
            ("to" | "type", _) => return self.trace_to(frame, tensor, args, named, range),
            ("split", _) => {
                let frame = &mut frame.nameless();
                let size = args.first().cloned().or_else(|| by_name("split_size")).unwrap_or(Value::None);
                let dim = args.get(1).cloned().or_else(|| by_name("dim")).unwrap_or(Value::Int(0));
                let op =
                    if matches!(size, Value::Int(_)) || self.is_tensor(&size) { "split" } else { "split_with_sizes" };
                return self.record(frame, op, &[tensor.clone(), size, dim], &[], range);
            }
            ("new_tensor", [data, ..]) => return self.trace_constant(frame, data, Some(dtype), range),
            (
                "view" | "reshape" | "expand" | "repeat" | "permute" | "new_zeros" | "new_ones" | "new_empty"
                | "new_full" | "flip" | "tile",
                _,
            ) => {}
            _ => {
                if let ([], Some((_, to))) = (args, CASTS.iter().find(|(cast, _)| *cast == name)) {
                    return self.record(frame, "to", &[tensor.clone(), dtype_value(*to)], &[], range);
                }
            }
        }
        let all: Vec<Value> = one.iter().chain(args).cloned().collect();
        self.record(frame, name, &all, named, range)
    }

    /// `tensor.to(...)` in all its forms.
    fn trace_to(
        &mut self,
        frame: &mut Frame,
        tensor: &Value,
        args: &[Value],
        named: &Named,
        range: TextRange,
    ) -> Result<Value> {
        let (mut dtype, mut device, mut rest) = (None, None, Vec::new());
        let (_, own, _) = self.facts(tensor).ok_or_else(|| Diagnostic::internal("a cast of no tensor"))?;
        let given = args.iter().map(|value| (None, value)).chain(named.iter().map(|(name, value)| (Some(name), value)));
        for (name, value) in given {
            match value {
                Value::Device(_) | Value::Str(_) => device = Some(value.clone()),
                Value::Path(path) if code_of(path).is_some() && name.is_none_or(|name| &**name == "dtype") => {
                    dtype = Some(value.clone());
                }
                Value::Ref(_) if self.is_tensor(value) => {
                    let (_, other, _) = self.facts(value).ok_or_else(|| Diagnostic::internal("a cast to no tensor"))?;
                    (dtype, device) = (Some(dtype_value(other)), Some(Value::Device("cpu".into())));
                }
                Value::None => {}
                other => {
                    if let Some(name) = name {
                        rest.push((Arc::clone(name), other.clone()));
                    }
                }
            }
        }
        match (device, dtype) {
            (None, None) => Ok(tensor.clone()),
            (None, Some(dtype)) => self.record(frame, "to", &[tensor.clone(), dtype], &rest, range),
            (Some(device), Some(dtype)) => self.record(frame, "to", &[tensor.clone(), device, dtype], &rest, range),
            (Some(device), None) => {
                let options =
                    [("dtype", dtype_value(own)), ("layout", Value::Path("torch.strided".into())), ("device", device)];
                let options = options.into_iter().map(|(name, value)| (Arc::from(name), value)).chain(rest);
                let options: Vec<(Arc<str>, Value)> = options.collect();
                self.record(frame, "to", std::slice::from_ref(tensor), &options, range)
            }
        }
    }

    /// `torch.tensor(data)`: a constant of the trace.
    pub(crate) fn trace_constant(
        &mut self,
        frame: &mut Frame,
        data: &Value,
        dtype: Option<DType>,
        range: TextRange,
    ) -> Result<Value> {
        let tracer = self.tracer.take();
        let named = dtype.map(|dtype| (Arc::from("dtype"), dtype_value(dtype))).into_iter().collect();
        let made = self.tensor_function(frame, "torch.tensor", vec![data.clone()], named, range);
        self.tracer = tracer;
        let made = made?;
        let dtype = self.facts(&made).map_or(DType::F32, |(_, dtype, _)| dtype);
        let args = [made, Value::Device("cpu".into()), dtype_value(dtype)];
        let moved = self.record(frame, "to", &args, &[], range)?;
        self.record(frame, "detach", &[moved], &[], range)
    }

    /// `len(tensor)`: a plain number.
    pub(crate) fn trace_len(&mut self, frame: &mut Frame, tensor: &Value, range: TextRange) -> Result<i64> {
        let (_, _, sizes) = self.facts(tensor).ok_or_else(|| Diagnostic::internal("the length of no tensor"))?;
        sizes.first().copied().ok_or_else(|| frame.error(range, "TypeError: len() of a 0-d tensor"))
    }

    /// What a `for` over a tensor goes through.
    pub(crate) fn trace_rows(&mut self, frame: &mut Frame, tensor: &Value, range: TextRange) -> Result<Vec<Value>> {
        let (_, _, sizes) = self.facts(tensor).ok_or_else(|| Diagnostic::internal("the rows of no tensor"))?;
        if sizes.is_empty() {
            return Err(frame.error(range, "TypeError: iteration over a 0-d tensor"));
        }
        match self.record(frame, "unbind", &[tensor.clone(), Value::Int(0)], &[], range)? {
            Value::Tuple(rows) => Ok(rows.to_vec()),
            one => Ok(vec![one]),
        }
    }

    /// The values with sizes that are tensors of the trace as the numbers they are.
    pub(crate) fn plain_numbers(&mut self, values: &[Value]) -> Result<Vec<Value>> {
        let number = |this: &mut Self, value: &Value| match value {
            Value::Ref(at) if matches!(this.heap[*at], Cell::Traced(_)) => this.int_of(*at).map(Value::Int),
            other => Ok(other.clone()),
        };
        values.iter().map(|value| number(self, value)).collect()
    }

    /// Whether a tensor with one element is not zero.
    pub(crate) fn trace_truth(&mut self, frame: &mut Frame, tensor: &Value, range: TextRange) -> Result<bool> {
        if let Some(n) = self.size_value(tensor) {
            return Ok(n != 0);
        }
        let item = self.trace_method(frame, tensor, "item", &[], &[], range)?;
        self.truth(frame, &item, range)
    }
}

/// An element type as Python has it.
pub(crate) fn dtype_value(dtype: DType) -> Value {
    Value::Path(format!("torch.{}", dtype.python_name()).into())
}
