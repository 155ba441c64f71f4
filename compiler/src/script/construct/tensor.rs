//! Tensors: an expression on them is compiled as a small function and evaluated, so operators have one definition.

use super::arguments::{floats, floats_by_name};
use super::call::Named;
use super::value::TensorCell;
use super::{Cell, Frame, Interpreter, Value};
use crate::diag::{Blame, Diagnostic, Result};
use crate::index::IndexVec;
use crate::script::names::{ParsedFile, Program};
use crate::script::{compile_interfaces, finished, source};
use crate::syntax::Dialect;
use crate::syntax::ast::{self, BinaryOp, Expr, ExprKind, File, Name, StmtKind, TextRange, UnaryOp};
use crate::types::{DType, IValue, Object, TensorData};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// What the names of computed functions begin with.
const MODULE: &str = "__torch__.computed";

/// Methods whose result may look at the elements of the tensor they are called on.
const VIEWS: [&str; 24] = [
    "view",
    "view_as",
    "reshape",
    "t",
    "transpose",
    "permute",
    "select",
    "narrow",
    "squeeze",
    "unsqueeze",
    "expand",
    "expand_as",
    "flatten",
    "unflatten",
    "contiguous",
    "chunk",
    "split",
    "unbind",
    "diagonal",
    "T",
    "mT",
    "real",
    "imag",
    "movedim",
];

/// What an expression under construction refers to.
#[derive(Default)]
struct Operands {
    params: Vec<ast::Param>,
    values: Vec<IValue>,
}

impl Interpreter<'_, '_> {
    pub(crate) fn tensor_cell(&self, value: &Value) -> Option<TensorCell> {
        match value {
            Value::Ref(at) => match &self.heap[*at] {
                Cell::Tensor(tensor) => Some(*tensor),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn is_tensor(&self, value: &Value) -> bool {
        matches!(value, Value::Ref(at) if matches!(self.heap[*at], Cell::Tensor(_) | Cell::Traced(_)))
    }

    /// The elements of a tensor.
    pub(crate) fn data(&self, cell: TensorCell) -> Arc<TensorData> {
        match &self.heap[cell.elements] {
            Cell::Elements(data) => Arc::clone(data),
            _ => Arc::new(TensorData::from_bytes(DType::F32, &[0], Vec::new()).expect("nothing fits nothing")),
        }
    }

    /// A tensor that owns these elements.
    pub(crate) fn new_tensor(&mut self, data: Arc<TensorData>, is_view: bool) -> Value {
        let elements = self.heap.push(Cell::Elements(data));
        let cell = TensorCell { elements, is_parameter: false, requires_grad: false, is_view };
        Value::Ref(self.heap.push(Cell::Tensor(cell)))
    }

    pub(crate) fn set_requires_grad(&mut self, tensor: &Value, is_on: bool) {
        if let Value::Ref(at) = tensor
            && let Cell::Tensor(cell) = &mut self.heap[*at]
        {
            cell.requires_grad = is_on;
        }
    }

    /// `lhs op rhs` where one of them is a tensor.
    pub(crate) fn tensor_binary(
        &mut self,
        frame: &mut Frame,
        op: BinaryOp,
        lhs: &Value,
        rhs: &Value,
        range: TextRange,
    ) -> Result<Value> {
        if self.is_tracing() {
            return self.trace_binary(frame, op, lhs, rhs, range);
        }
        let mut operands = Operands::default();
        let lhs = Box::new(self.operand(frame, &mut operands, lhs, range)?);
        let rhs = Box::new(self.operand(frame, &mut operands, rhs, range)?);
        self.computed(frame, operands, Expr { kind: ExprKind::Binary { op, lhs, rhs }, range })
    }

    pub(crate) fn tensor_unary(
        &mut self,
        frame: &mut Frame,
        op: UnaryOp,
        operand: &Value,
        range: TextRange,
    ) -> Result<Value> {
        if self.is_tracing() {
            return self.trace_unary(frame, op, operand, range);
        }
        let mut operands = Operands::default();
        let operand = Box::new(self.operand(frame, &mut operands, operand, range)?);
        self.computed(frame, operands, Expr { kind: ExprKind::Unary { op, operand }, range })
    }

    /// `tensor op= value`.
    pub(crate) fn tensor_augmented(
        &mut self,
        frame: &mut Frame,
        op: BinaryOp,
        tensor: &Value,
        value: &Value,
        range: TextRange,
    ) -> Result<Value> {
        if self.is_tracing() {
            return self.trace_augmented(frame, op, tensor, value, range);
        }
        let method = match op {
            BinaryOp::Add => "add_",
            BinaryOp::Sub => "sub_",
            BinaryOp::Mul => "mul_",
            BinaryOp::Div => "div_",
            _ => return Err(self.refused(frame, tensor, "this assignment", range)),
        };
        self.tensor_method(frame, tensor, method, vec![value.clone()], Vec::new(), range)
    }

    /// `tensor[items]`.
    pub(crate) fn elements(
        &mut self,
        frame: &mut Frame,
        tensor: &Value,
        items: &[Expr],
        range: TextRange,
    ) -> Result<Value> {
        if self.is_tracing() {
            return self.trace_elements(frame, tensor, items, range);
        }
        let mut operands = Operands::default();
        let value = Box::new(self.operand(frame, &mut operands, tensor, range)?);
        let items = self.subscript(frame, &mut operands, items)?;
        let made = self.computed(frame, operands, Expr { kind: ExprKind::Subscript { value, items }, range })?;
        self.mark_view(&made);
        Ok(made)
    }

    fn subscript(&mut self, frame: &mut Frame, operands: &mut Operands, items: &[Expr]) -> Result<Vec<Expr>> {
        let mut made = Vec::with_capacity(items.len());
        for item in items {
            if let ExprKind::Slice { start, stop, step } = &item.kind {
                let mut parts = [None, None, None];
                for (slot, part) in parts.iter_mut().zip([start, stop, step]) {
                    if let Some(part) = part {
                        let value = self.eval(frame, part)?;
                        *slot = Some(Box::new(self.operand(frame, operands, &value, part.range)?));
                    }
                }
                let [start, stop, step] = parts;
                made.push(Expr { kind: ExprKind::Slice { start, stop, step }, range: item.range });
            } else {
                let value = self.eval(frame, item)?;
                made.push(self.operand(frame, operands, &value, item.range)?);
            }
        }
        Ok(made)
    }

    /// `tensor[items] = value`.
    pub(crate) fn set_elements(
        &mut self,
        frame: &mut Frame,
        tensor: &Value,
        items: &[Expr],
        value: &Value,
        range: TextRange,
    ) -> Result<()> {
        if self.is_tracing() {
            return self.trace_set_elements(frame, tensor, items, value, range);
        }
        let cell = self.writable(frame, tensor, range)?;
        self.touch(cell.elements);
        let mut operands = Operands::default();
        let target = self.operand(frame, &mut operands, tensor, range)?;
        let items = self.subscript(frame, &mut operands, items)?;
        let value = self.operand(frame, &mut operands, value, range)?;
        let place = Expr { kind: ExprKind::Subscript { value: Box::new(target.clone()), items }, range };
        let assign = StmtKind::Assign { targets: vec![place], value };
        let made = self.run_small(frame, operands, vec![assign], target)?;
        if let IValue::Tensor(data) = made {
            self.heap[cell.elements] = Cell::Elements(data);
        }
        Ok(())
    }

    /// The tensor, if its elements may be changed: they are its own and not a copy of what it looks at.
    fn writable(&self, frame: &Frame, tensor: &Value, range: TextRange) -> Result<TensorCell> {
        match self.tensor_cell(tensor) {
            Some(cell) if !cell.is_view => Ok(cell),
            _ => Err(frame.unsupported(range, "writing to a view of a tensor outside of compiled code")),
        }
    }

    fn mark_view(&mut self, value: &Value) {
        match value {
            Value::Ref(at) => match &mut self.heap[*at] {
                Cell::Tensor(cell) => cell.is_view = true,
                Cell::List(items) => {
                    for item in items.clone() {
                        self.mark_view(&item);
                    }
                }
                _ => {}
            },
            Value::Tuple(items) => {
                for item in items.iter() {
                    self.mark_view(item);
                }
            }
            _ => {}
        }
    }

    /// `tensor.name`.
    pub(crate) fn tensor_attribute(
        &mut self,
        frame: &mut Frame,
        tensor: &Value,
        name: &Arc<str>,
        range: TextRange,
    ) -> Result<Value> {
        if self.is_tracing() {
            return self.trace_attribute(frame, tensor, name, range);
        }
        let Some(cell) = self.tensor_cell(tensor) else { return Ok(Value::None) };
        let data = self.data(cell);
        Ok(match &**name {
            "shape" => Value::Tuple(data.sizes().iter().map(|&n| Value::Int(n)).collect()),
            "ndim" => Value::Int(data.sizes().len() as i64),
            "dtype" => Value::Path(format!("torch.{}", data.dtype().python_name()).into()),
            "device" => Value::Device("cpu".into()),
            "requires_grad" => Value::Bool(cell.requires_grad),
            "grad" => Value::None,
            "is_cuda" => Value::Bool(false),
            "data" => {
                let cell = TensorCell { is_parameter: false, requires_grad: false, ..cell };
                Value::Ref(self.heap.push(Cell::Tensor(cell)))
            }
            "T" | "mT" | "real" | "imag" => {
                let mut operands = Operands::default();
                let value = Box::new(self.operand(frame, &mut operands, tensor, range)?);
                let name = Name { text: Arc::clone(name), range };
                let made = self.computed(frame, operands, Expr { kind: ExprKind::Attribute { value, name }, range })?;
                self.mark_view(&made);
                made
            }
            _ => Value::Method(Arc::new(tensor.clone()), Arc::clone(name)),
        })
    }

    /// `tensor.name = value`.
    pub(crate) fn set_tensor_attribute(
        &mut self,
        frame: &Frame,
        tensor: &Value,
        name: &str,
        value: &Value,
        range: TextRange,
    ) -> Result<()> {
        let (Value::Ref(at), Some(cell)) = (tensor, self.tensor_cell(tensor)) else { return Ok(()) };
        match (name, value, self.tensor_cell(value)) {
            ("requires_grad", Value::Bool(is_on), _) => self.set_requires_grad(tensor, *is_on),
            ("data", _, Some(other)) => self.heap[*at] = Cell::Tensor(TensorCell { elements: other.elements, ..cell }),
            ("grad", Value::None, _) => {}
            _ => {
                return Err(
                    frame.unsupported(range, format!("assigning '{name}' of a tensor outside of compiled code"))
                );
            }
        }
        Ok(())
    }

    /// `tensor.name(args)`.
    pub(crate) fn tensor_method(
        &mut self,
        frame: &mut Frame,
        tensor: &Value,
        name: &str,
        args: Vec<Value>,
        named: Named,
        range: TextRange,
    ) -> Result<Value> {
        if self.is_tracing() {
            return self.trace_method(frame, tensor, name, &args, &named, range);
        }
        let Some(cell) = self.tensor_cell(tensor) else { return Err(self.refused(frame, tensor, "a method", range)) };
        let sizes = self.data(cell).sizes().to_vec();
        let is_in_place = name.ends_with('_') && !name.ends_with("__");
        if is_in_place {
            self.touch(cell.elements);
        }
        match (name, args.as_slice()) {
            ("size", []) => return Ok(Value::Tuple(sizes.into_iter().map(Value::Int).collect())),
            ("dim" | "ndimension", []) => return Ok(Value::Int(sizes.len() as i64)),
            ("numel" | "nelement", []) => return Ok(Value::Int(sizes.iter().product())),
            ("requires_grad_", _) => {
                self.set_requires_grad(tensor, !matches!(args.first(), Some(Value::Bool(false))));
                return Ok(tensor.clone());
            }
            ("detach", []) => {
                let cell = TensorCell { is_parameter: false, requires_grad: false, ..cell };
                return Ok(Value::Ref(self.heap.push(Cell::Tensor(cell))));
            }
            ("cpu" | "detach_" | "share_memory_", []) => return Ok(tensor.clone()),
            ("resize_", _) => return self.resize(frame, tensor, &args, range),
            ("tolist", []) => return Ok(self.to_list(&self.data(cell), &mut 0, 0)),
            ("item", []) => {
                let data = self.data(cell);
                if data.numel() == 1 {
                    return Ok(element(&data, 0));
                }
                let text =
                    format!("RuntimeError: a Tensor with {} elements cannot be converted to Scalar", data.numel());
                return Err(frame.error(range, text));
            }
            _ => {}
        }
        let mut operands = Operands::default();
        let receiver = self.operand(frame, &mut operands, tensor, range)?;
        let callee = Expr {
            kind: ExprKind::Attribute { value: Box::new(receiver.clone()), name: Name { text: name.into(), range } },
            range,
        };
        let (args, named) = (floats(name, 1, args), floats_by_name(name, named));
        let call = self.call_of(frame, &mut operands, callee, &args, &named, range)?;
        if is_in_place {
            let cell = self.writable(frame, tensor, range)?;
            let made = self.run_small(frame, operands, vec![StmtKind::Expr(call)], receiver)?;
            if let IValue::Tensor(data) = made {
                self.heap[cell.elements] = Cell::Elements(data);
            }
            return Ok(tensor.clone());
        }
        let made = self.computed(frame, operands, call)?;
        if VIEWS.contains(&name) {
            self.mark_view(&made);
        }
        Ok(made)
    }

    /// `tensor.resize_(sizes)`, which keeps as many elements as there are.
    fn resize(&mut self, frame: &mut Frame, tensor: &Value, args: &[Value], range: TextRange) -> Result<Value> {
        let cell = self.writable(frame, tensor, range)?;
        let given = match args {
            [one @ (Value::Tuple(_) | Value::Ref(_))] => self.items(frame, one, range)?,
            several => several.to_vec(),
        };
        let sizes: Option<Vec<i64>> = given.iter().map(Value::as_int).collect();
        let data = self.data(cell);
        let made = sizes.and_then(|sizes| {
            let n_elements = sizes.iter().try_fold(1_usize, |n, &size| n.checked_mul(usize::try_from(size).ok()?))?;
            let bytes = data.contiguous_bytes().get(..n_elements.checked_mul(data.dtype().size_bytes())?)?.to_vec();
            TensorData::from_bytes(data.dtype(), &sizes, bytes).ok()
        });
        let made = made.ok_or_else(|| frame.unsupported(range, "a tensor that grows outside of compiled code"))?;
        self.heap[cell.elements] = Cell::Elements(Arc::new(made));
        Ok(tensor.clone())
    }

    /// Casts the elements, if they are floats, and keeps the tensor.
    pub(crate) fn cast_in_place(
        &mut self,
        frame: &mut Frame,
        tensor: &Value,
        method: &str,
        range: TextRange,
    ) -> Result<()> {
        let Some(cell) = self.tensor_cell(tensor) else { return Ok(()) };
        if !self.data(cell).dtype().is_floating_point() {
            return Ok(());
        }
        let made = self.tensor_method(frame, tensor, method, Vec::new(), Vec::new(), range)?;
        if let Some(made) = self.tensor_cell(&made) {
            let data = self.data(made);
            self.heap[cell.elements] = Cell::Elements(data);
        }
        Ok(())
    }

    /// `torch.name(args)`.
    pub(crate) fn tensor_function(
        &mut self,
        frame: &mut Frame,
        path: &str,
        args: Vec<Value>,
        mut named: Named,
        range: TextRange,
    ) -> Result<Value> {
        if self.is_tracing() {
            return self.trace_path(frame, path, &args, &named, range);
        }
        let requires_grad = named.iter().position(|(name, _)| &**name == "requires_grad").map(|at| named.remove(at).1);
        if let (Some(name), [first, rest @ ..]) =
            (path.strip_prefix("torch.").filter(|name| VIEWS.contains(name)), args.as_slice())
        {
            return self.tensor_method(frame, &first.clone(), name, rest.to_vec(), named, range);
        }
        let (path, args) = match (path, args.as_slice()) {
            ("torch.Tensor", [Value::Ref(at)]) if matches!(self.heap[*at], Cell::List(_)) => {
                ("torch.FloatTensor", args)
            }
            ("torch.Size", [sizes]) => return Ok(Value::Tuple(self.items(frame, &sizes.clone(), range)?.into())),
            _ => (path, args),
        };
        let mut operands = Operands::default();
        let name = path.rsplit('.').next().unwrap_or(path);
        let (args, named) = (floats(name, 0, args), floats_by_name(name, named));
        let call = self.call_of(frame, &mut operands, path_expr(path, range), &args, &named, range)?;
        let made = self.computed(frame, operands, call)?;
        if matches!(requires_grad, Some(Value::Bool(true))) {
            self.set_requires_grad(&made, true);
        }
        Ok(made)
    }

    fn call_of(
        &self,
        frame: &Frame,
        operands: &mut Operands,
        callee: Expr,
        args: &[Value],
        named: &Named,
        range: TextRange,
    ) -> Result<Expr> {
        let mut all = Vec::with_capacity(args.len() + named.len());
        for value in args {
            all.push(ast::Arg { name: None, value: self.operand(frame, operands, value, range)? });
        }
        for (name, value) in named {
            let name = Some(Name { text: Arc::clone(name), range });
            all.push(ast::Arg { name, value: self.operand(frame, operands, value, range)? });
        }
        Ok(Expr { kind: ExprKind::Call { callee: Box::new(callee), args: all }, range })
    }

    /// A value as an expression: tensors as parameters, everything else as it would be written.
    fn operand(&self, frame: &Frame, operands: &mut Operands, value: &Value, range: TextRange) -> Result<Expr> {
        let list = |operands: &mut Operands, items: &[Value]| {
            items.iter().map(|item| self.operand(frame, operands, item, range)).collect::<Result<Vec<_>>>()
        };
        let kind = match value {
            Value::None => ExprKind::None,
            Value::Bool(b) => ExprKind::Bool(*b),
            Value::Int(n) => ExprKind::Int(*n),
            Value::Float(x) if x.is_nan() => return Ok(path_expr("math.nan", range)),
            Value::Float(x) if x.is_infinite() => {
                let inf = path_expr("math.inf", range);
                if *x > 0.0 {
                    return Ok(inf);
                }
                ExprKind::Unary { op: UnaryOp::Neg, operand: Box::new(inf) }
            }
            Value::Float(x) => ExprKind::Float(*x),
            Value::Complex(re, im) => ExprKind::Binary {
                op: BinaryOp::Add,
                lhs: Box::new(Expr { kind: ExprKind::Float(*re), range }),
                rhs: Box::new(Expr { kind: ExprKind::Imaginary(*im), range }),
            },
            Value::Str(text) => ExprKind::Str(text.as_bytes().into()),
            Value::Ellipsis => ExprKind::Ellipsis,
            Value::Device(text) => {
                let text = Expr { kind: ExprKind::Str(text.as_bytes().into()), range };
                let args = vec![ast::Arg { name: None, value: text }];
                ExprKind::Call { callee: Box::new(path_expr("torch.device", range)), args }
            }
            Value::Tuple(items) | Value::NamedTuple(_, items) => ExprKind::Tuple(list(operands, items)?),
            Value::Path(path) if path.starts_with("torch.") => return Ok(path_expr(path, range)),
            Value::Path(path) if matches!(&**path, "builtins.int" | "builtins.float" | "builtins.bool") => {
                let dtype = match &**path {
                    "builtins.int" => "torch.int64",
                    "builtins.float" => "torch.float32",
                    _ => "torch.bool",
                };
                return Ok(path_expr(dtype, range));
            }
            Value::Ref(at) => match &self.heap[*at] {
                Cell::List(items) => ExprKind::List(list(operands, &items.clone())?),
                Cell::Tensor(cell) => {
                    let name: Arc<str> = format!("x{}", operands.params.len()).into();
                    operands.values.push(IValue::Tensor(self.data(*cell)));
                    operands.params.push(ast::Param {
                        name: Name { text: Arc::clone(&name), range },
                        annotation: None,
                        default: None,
                        kind: ast::ParamKind::Plain,
                    });
                    ExprKind::Name(name)
                }
                Cell::Dict(_)
                | Cell::Set(_)
                | Cell::Traced(_)
                | Cell::Elements(_)
                | Cell::Instance(_)
                | Cell::Attribute(..) => {
                    return Err(self.refused(frame, value, "an operator", range));
                }
            },
            Value::Enum(..)
            | Value::Range(..)
            | Value::Path(_)
            | Value::Class(_)
            | Value::Function(_)
            | Value::Compiled(_)
            | Value::Module(_)
            | Value::Closure(_)
            | Value::Lambda
            | Value::Method(..)
            | Value::Super(..)
            | Value::Unknown(_) => return Err(self.refused(frame, value, "an operator", range)),
        };
        Ok(Expr { kind, range })
    }

    /// The value of an expression on operands.
    fn computed(&mut self, frame: &Frame, operands: Operands, expr: Expr) -> Result<Value> {
        let made = self.run_small(frame, operands, Vec::new(), expr)?;
        Ok(self.value_of(&made))
    }

    /// A value that evaluation gave.
    pub(crate) fn value_of(&mut self, value: &IValue) -> Value {
        match value {
            IValue::None => Value::None,
            IValue::Bool(b) => Value::Bool(*b),
            IValue::Int(n) => Value::Int(*n),
            IValue::Float(x) => Value::Float(*x),
            IValue::Complex(re, im) => Value::Complex(*re, *im),
            IValue::Str(text) => Value::Str(Arc::clone(text)),
            IValue::Device(text) => Value::Device(Arc::clone(text)),
            IValue::Tensor(data) => self.new_tensor(Arc::clone(data), false),
            IValue::Tuple(items) => Value::Tuple(items.iter().map(|item| self.value_of(item)).collect()),
            IValue::List(_, items) => {
                let items = items.iter().map(|item| self.value_of(item)).collect();
                Value::Ref(self.heap.push(Cell::List(items)))
            }
            IValue::Dict(_, entries) => {
                let entries = entries.iter().map(|(k, v)| (self.value_of(k), self.value_of(v))).collect();
                Value::Ref(self.heap.push(Cell::Dict(entries)))
            }
            IValue::Object(_) | IValue::Enum { .. } => Value::None,
        }
    }

    /// Compiles a function of these statements that returns `result`, and runs it.
    fn run_small(&mut self, frame: &Frame, operands: Operands, before: Vec<StmtKind>, result: Expr) -> Result<IValue> {
        let range = result.range;
        let made = self.compiled(frame, &operands, before, result);
        let made = made.and_then(|module| (self.machine.evaluate)(&module, &operands.values, &mut self.generator));
        made.map_err(|error| {
            // What PyTorch raises when it runs the operator is the user's error; what does not compile may be right in Python.
            if error.blame == Blame::User && error.exception.is_some() {
                return error.at(Some(&frame.span(range)));
            }
            let mut made =
                Diagnostic::unsupported(format!("a computation outside of compiled code: {}", error.message));
            made.notes = error.notes;
            made.at(Some(&frame.span(range)))
        })
    }

    fn compiled(
        &mut self,
        frame: &Frame,
        operands: &Operands,
        before: Vec<StmtKind>,
        result: Expr,
    ) -> Result<crate::ir::Module> {
        let range = result.range;
        let mut stmts = IndexVec::new();
        let mut body = ast::Block::default();
        for kind in before.into_iter().chain([StmtKind::Return(Some(result))]) {
            body.stmts.push(stmts.push(ast::Stmt { kind, range }));
        }
        let def = ast::Function {
            name: Name { text: "f".into(), range },
            params: operands.params.clone(),
            returns: None,
            body,
            decorators: Vec::new(),
            head: range,
            range,
            mistake: None,
        };
        let def = stmts.push(ast::Stmt { kind: StmtKind::Def(Box::new(def)), range });
        let file = Arc::new(File {
            source: Arc::clone(&frame.file.source),
            dialect: Dialect::Python,
            stmts,
            body: ast::Block { stmts: vec![def] },
            type_comments: Vec::new(),
        });
        let own = |name: &str| (Arc::from(name), Arc::from(name));
        let parsed = ParsedFile {
            file,
            module: MODULE.into(),
            items: HashMap::from([("f".into(), def)]),
            imports: HashMap::from([own("torch"), own("math")]),
            values: HashMap::new(),
            defs: HashMap::new(),
        };
        let archive = source::empty_archive(Path::new(""));
        let mut program = Program::new(&archive);
        program.has_library = true;
        program.add_parsed(parsed);
        let name: Arc<str> = format!("{MODULE}.f").into();
        program.compile_function(&name, None, None)?;
        compile_interfaces(&mut program)?;
        let root = Arc::new(Object { class: source::FUNCTION_MODULE.into(), attrs: IndexMap::new() });
        let mut module = finished(program, root)?;
        source::wrap(&mut module, &name)?;
        Ok(module)
    }

    fn to_list(&mut self, data: &TensorData, at: &mut usize, dim: usize) -> Value {
        if dim == data.sizes().len() {
            *at += 1;
            return element(data, *at - 1);
        }
        let n = data.sizes()[dim];
        let items = (0..n).map(|_| self.to_list(data, at, dim + 1)).collect();
        Value::Ref(self.heap.push(Cell::List(items)))
    }
}

/// `a.b.c` as an expression.
fn path_expr(path: &str, range: TextRange) -> Expr {
    let mut parts = path.split('.');
    let mut made = Expr { kind: ExprKind::Name(parts.next().unwrap_or(path).into()), range };
    for part in parts {
        let name = Name { text: part.into(), range };
        made = Expr { kind: ExprKind::Attribute { value: Box::new(made), name }, range };
    }
    made
}

/// One element, in row-major order.
pub(crate) fn element(data: &TensorData, at: usize) -> Value {
    let size = data.dtype().size_bytes();
    let bytes = data.contiguous_bytes();
    let bytes = bytes.get(at * size..(at + 1) * size).unwrap_or(&[]);
    macro_rules! read {
        ($ty:ty) => {
            bytes.try_into().map(<$ty>::from_ne_bytes).unwrap_or_default()
        };
    }
    match data.dtype() {
        DType::F32 => Value::Float(f64::from(read!(f32))),
        DType::F64 => Value::Float(read!(f64)),
        DType::I64 => Value::Int(read!(i64)),
        DType::I32 => Value::Int(i64::from(read!(i32))),
        DType::I16 => Value::Int(i64::from(read!(i16))),
        DType::I8 => Value::Int(i64::from(read!(i8))),
        DType::U8 => Value::Int(i64::from(read!(u8))),
        DType::Bool => Value::Bool(bytes.first().is_some_and(|b| *b != 0)),
        _ => Value::Unknown(Arc::new(*Diagnostic::unsupported("elements of this type outside of compiled code"))),
    }
}
