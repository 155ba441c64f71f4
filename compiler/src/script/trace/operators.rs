//! One operator under trace: a node with everything but tensors as constants, and its results as new tensors of Python.

use super::super::construct::{Cell, Frame, Interpreter, Ref, TracedTensor, Value, element};
use super::matching::{Arg, Chosen, NamedArgs, Slot, TensorFacts, choose};
use super::record::Traced;
use crate::diag::{Diagnostic, Result};
use crate::ir::{OpName, ValueId};
use crate::source::Span;
use crate::syntax::ast::TextRange;
use crate::types::{DType, IValue, TensorData, TensorType, Type};
use std::sync::Arc;

/// An input of a node: in the trace, and in what is evaluated.
pub(crate) type Input = (Traced, ValueId);

impl Interpreter<'_, '_> {
    /// Whether a trace is under way.
    pub(crate) fn is_tracing(&self) -> bool {
        self.tracer.is_some()
    }

    /// The element type and the extents of a tensor.
    pub(crate) fn tensor_facts(&self, at: Ref) -> Option<(DType, Vec<i64>)> {
        match &self.heap[at] {
            Cell::Traced(tensor) => Some((tensor.dtype, tensor.sizes.clone())),
            Cell::Tensor(cell) => match &self.heap[cell.elements] {
                Cell::Elements(data) => Some((data.dtype(), data.sizes().to_vec())),
                _ => None,
            },
            _ => None,
        }
    }

    /// A value of Python as an operator's argument.
    pub(crate) fn argument(&mut self, frame: &mut Frame, value: &Value, range: TextRange) -> Result<Arg> {
        Ok(match value {
            Value::None => Arg::None,
            Value::Bool(b) => Arg::Bool(*b),
            Value::Int(n) => Arg::Int(*n),
            Value::Float(x) => Arg::Float(*x),
            Value::Complex(re, im) => Arg::Complex(*re, *im),
            Value::Str(text) => Arg::Str(Arc::clone(text)),
            Value::Device(text) => Arg::Device(Arc::clone(text)),
            Value::Path(path) => match code_of(path) {
                Some(code) => Arg::Code(code),
                None => return Err(self.refused(frame, value, "an operator's argument", range)),
            },
            Value::Ref(at) if self.is_tensor(value) => Arg::Tensor(*at),
            Value::Tuple(_) | Value::NamedTuple(..) | Value::Range(..) => self.sequence(frame, value, range)?,
            Value::Ref(at) if matches!(self.heap[*at], Cell::List(_)) => self.sequence(frame, value, range)?,
            other => return Err(self.refused(frame, other, "an operator's argument", range)),
        })
    }

    fn sequence(&mut self, frame: &mut Frame, value: &Value, range: TextRange) -> Result<Arg> {
        let items = self.items(frame, value, range)?;
        let items = items.iter().map(|item| self.argument(frame, item, range)).collect::<Result<_>>()?;
        Ok(Arg::Sequence(items))
    }

    /// Runs `aten::name` on values of Python.
    pub(crate) fn record(
        &mut self,
        frame: &mut Frame,
        name: &str,
        args: &[Value],
        named: &[(Arc<str>, Value)],
        range: TextRange,
    ) -> Result<Value> {
        let positional = args.iter().map(|value| self.argument(frame, value, range)).collect::<Result<Vec<_>>>()?;
        let mut by_name = NamedArgs::new();
        for (key, value) in named {
            if &**key != "requires_grad" {
                by_name.push((Arc::clone(key), self.argument(frame, value, range)?));
            }
        }
        self.operator(frame, name, &positional, &by_name, range)
    }

    /// Runs `aten::name`.
    pub(crate) fn operator(
        &mut self,
        frame: &mut Frame,
        name: &str,
        positional: &[Arg],
        named: &[(Arc<str>, Arg)],
        range: TextRange,
    ) -> Result<Value> {
        let full = format!("aten::{name}");
        let facts = |at: Ref| self.tensor_facts(at).map(|(dtype, sizes)| TensorFacts { dtype, rank: sizes.len() });
        let Some(chosen) = choose(&full, positional, named, &facts) else {
            if crate::ops::schema::overloads(&full).is_empty() {
                return Err(frame.unsupported(range, format!("'{name}' under trace")));
            }
            return Err(frame.error(range, format!("TypeError: {name}() received an invalid combination of arguments")));
        };
        self.apply(frame, &chosen, range).map_err(|error| error.at(Some(&frame.span(range))))
    }

    fn apply(&mut self, frame: &mut Frame, chosen: &Chosen, range: TextRange) -> Result<Value> {
        let schema = chosen.schema;
        let span = frame.span(range);
        let takes_tensor = schema.args.iter().any(|arg| matches!(arg.ty, Type::Tensor(_)));
        let mut inputs = Vec::with_capacity(chosen.slots.len());
        for (slot, arg) in chosen.slots.iter().zip(&schema.args) {
            let is_none = matches!(slot, Slot::Default(IValue::None) | Slot::Given(Arg::None));
            // What Python's options say where nothing is said.
            let slot = match &*arg.name {
                "pin_memory" if is_none && arg.kw_only && &*schema.name.name != "aten::to" => {
                    Slot::Given(Arg::Bool(false))
                }
                "device" if is_none && arg.kw_only && !takes_tensor => Slot::Given(Arg::Device("cpu".into())),
                _ => slot.clone(),
            };
            let input = self.slot(frame, &slot, &arg.ty, &span)?;
            let given = self.tracer.as_ref().map(|tracer| tracer.recorder.ty(input.0));
            if let (Type::Tensor(_), Some(ty @ Type::Optional(_))) = (&arg.ty, given) {
                let name = &schema.name.name;
                return Err(
                    frame.unsupported(range, format!("a value of type {ty} as '{}' of {name} under trace", arg.name))
                );
            }
            inputs.push(input);
        }
        let mut types: Vec<Type> = schema.returns.iter().map(|r| r.ty.clone()).collect();
        let written = schema.args.iter().zip(&chosen.slots).find_map(|(arg, slot)| {
            let is_written = arg.alias.as_ref().is_some_and(|alias| alias.is_write);
            match slot {
                Slot::Given(Arg::Tensor(at)) if is_written => Some(*at),
                _ => None,
            }
        });
        let eager_inputs: Vec<ValueId> = inputs.iter().map(|&(_, eager)| eager).collect();
        let around = self.compiled_module();
        let tracer = self.tracer.as_mut().expect("operators are recorded only under trace");
        tracer.n_operators += 1;
        if tracer.n_operators > MAX_OPERATORS {
            return Err(Diagnostic::unsupported(format!("a trace of more than {MAX_OPERATORS} operators")));
        }
        let inferred = tracer.eager.infer(&self.machine, &around, &schema.name, &[], &eager_inputs, &types)?;
        for (ty, made) in types.iter_mut().zip(&inferred) {
            if matches!((&*ty, made), (Type::Tensor(_), Type::Tensor(_))) {
                ty.clone_from(made);
            }
        }
        let eager = tracer.eager.node(schema.name.clone(), Vec::new(), eager_inputs, &types);
        let traced_inputs: Vec<Traced> = inputs.iter().map(|&(traced, _)| traced).collect();
        let traced = tracer.recorder.node(schema.name.clone(), &traced_inputs, &types, Some(&span));
        // Operators that have nothing to do give back their argument.
        let written = written.or_else(|| self.kept(chosen, types.first()));
        let mut values = Vec::with_capacity(types.len());
        for ((traced, eager), (ty, made)) in traced.into_iter().zip(eager).zip(types.iter().zip(&inferred)) {
            values.push(match (ty, written) {
                (Type::Tensor(_), Some(at)) if schema.returns.len() == 1 => {
                    self.rebind(at, traced, eager);
                    Value::Ref(at)
                }
                _ => self.result((traced, eager), ty, made)?,
            });
        }
        if STRIDED.contains(&&*schema.name.name) {
            for value in &values {
                self.mark_strided(value);
            }
        }
        Ok(match values.len() {
            0 => Value::None,
            1 => values.remove(0),
            _ => {
                let names = schema.returns.iter().map(|r| &*r.name).collect::<Vec<_>>().join(",");
                Value::NamedTuple(format!("{RETURN_TYPES}{names}").into(), values.into())
            }
        })
    }

    /// Notes that elements need not lie in row-major order.
    fn mark_strided(&mut self, value: &Value) {
        match value {
            Value::Ref(at) => {
                if let Cell::Traced(tensor) = &mut self.heap[*at] {
                    tensor.is_dense = tensor.sizes.len() < 2;
                }
            }
            Value::Tuple(items) => {
                for item in items.iter() {
                    self.mark_strided(item);
                }
            }
            _ => {}
        }
    }

    /// The argument of a call whose result is this very tensor: a cast to its own type, dropout outside of training.
    fn kept(&self, chosen: &Chosen, result: Option<&Type>) -> Option<Ref> {
        let given = |name: &str| {
            let at = chosen.schema.arg_index(name)?;
            chosen.slots.get(at)
        };
        let at = match chosen.slots.first()? {
            Slot::Given(Arg::Tensor(at)) => *at,
            _ => return None,
        };
        let is_on = |name: &str| matches!(given(name), Some(Slot::Given(Arg::Bool(true))));
        let is_same = match (self.tensor_facts(at), result) {
            (Some((dtype, _)), Some(Type::Tensor(made))) => made.dtype == Some(dtype),
            _ => false,
        };
        let keeps = match &*chosen.schema.name.name {
            "aten::to" | "aten::type_as" => is_same && !is_on("copy"),
            "aten::dropout" | "aten::feature_dropout" | "aten::alpha_dropout" | "aten::feature_alpha_dropout" => {
                !is_on("train")
            }
            "aten::positive" => true,
            "aten::contiguous" => !matches!(&self.heap[at], Cell::Traced(tensor) if !tensor.is_dense),
            _ => false,
        };
        keeps.then_some(at)
    }

    /// A result as a value of Python; lists and tuples are taken apart.
    pub(crate) fn result(&mut self, (traced, eager): Input, ty: &Type, made: &Type) -> Result<Value> {
        let unpack = match (ty, made) {
            (Type::Tensor(_), Type::Tensor(facts)) => return self.traced_tensor((traced, eager), facts),
            (Type::List(item), Type::Tuple(items)) => ("prim::ListUnpack", vec![(**item).clone(); items.len()], items),
            (Type::Tuple(types), Type::Tuple(items)) => ("prim::TupleUnpack", types.to_vec(), items),
            (Type::None, _) => return Ok(Value::None),
            (Type::Int | Type::Float | Type::Bool, _) => return self.number_of(eager),
            _ => return Err(Diagnostic::unsupported(format!("a result of type {ty} under trace"))),
        };
        let (op, mut types, items) = unpack;
        for (ty, item) in types.iter_mut().zip(items.iter()) {
            if matches!((&*ty, item), (Type::Tensor(_), Type::Tensor(_))) {
                ty.clone_from(item);
            }
        }
        let tracer = self.tracer.as_mut().expect("results are made only under trace");
        let parts = tracer.recorder.node(OpName::new(op), &[traced], &types, None);
        let eager_parts = tracer.eager.node(OpName::new(op), Vec::new(), vec![eager], &types);
        let mut values = Vec::with_capacity(types.len());
        for (part, (ty, item)) in parts.into_iter().zip(eager_parts).zip(types.iter().zip(items.iter())) {
            values.push(self.result(part, ty, item)?);
        }
        Ok(Value::Tuple(values.into()))
    }

    /// A number that a trace computed.
    fn number_of(&mut self, eager: ValueId) -> Result<Value> {
        Ok(match self.evaluated(eager)? {
            IValue::Int(n) => Value::Int(n),
            IValue::Float(x) => Value::Float(x),
            IValue::Bool(b) => Value::Bool(b),
            other => return Err(Diagnostic::internal(format!("a number is expected, found a {}", other.kind()))),
        })
    }

    /// The present value of what a trace computed.
    pub(crate) fn evaluated(&mut self, eager: ValueId) -> Result<IValue> {
        let around = self.compiled_module();
        let tracer = self.tracer.as_ref().expect("values are evaluated only under trace");
        tracer.eager.value(&self.machine, &around, eager)
    }

    /// The elements of a tensor under trace, as they are now.
    pub(crate) fn elements_now(&mut self, at: Ref) -> Result<Arc<TensorData>> {
        if let Cell::Tensor(cell) = &self.heap[at]
            && !self.tracer.as_ref().is_some_and(|tracer| tracer.eager_values.contains_key(&at))
            && let Cell::Elements(data) = &self.heap[cell.elements]
        {
            return Ok(Arc::clone(data));
        }
        let eager = self.eager_value(at)?;
        match self.evaluated(eager)? {
            IValue::Tensor(data) => Ok(data),
            other => Err(Diagnostic::internal(format!("a tensor is expected, found a {}", other.kind()))),
        }
    }

    fn traced_tensor(&mut self, (traced, eager): Input, facts: &TensorType) -> Result<Value> {
        let sizes: Option<Vec<i64>> = facts.sizes.as_ref().and_then(|sizes| sizes.iter().copied().collect());
        let (dtype, sizes) = match (facts.dtype, sizes) {
            (Some(dtype), Some(sizes)) => (dtype, sizes),
            _ => match self.evaluated(eager)? {
                IValue::Tensor(data) => (data.dtype(), data.sizes().to_vec()),
                _ => return Err(Diagnostic::internal("a tensor has the value of something else")),
            },
        };
        if let Some(tracer) = &mut self.tracer {
            tracer.eager.set_type(eager, Type::Tensor(shaped(dtype, &sizes)));
        }
        let at = self.heap.push(Cell::Traced(TracedTensor { dtype, sizes, is_dense: true }));
        self.rebind(at, traced, eager);
        Ok(Value::Ref(at))
    }

    /// Makes a tensor of Python stand for other values from now on.
    pub(crate) fn rebind(&mut self, at: Ref, traced: Traced, eager: ValueId) {
        let Some(tracer) = &mut self.tracer else { return };
        // What a compiled function writes to stays what it is in the trace.
        if !tracer.is_paused() || !tracer.values.contains_key(&at) {
            tracer.values.insert(at, traced);
        }
        tracer.eager_values.insert(at, eager);
    }

    fn slot(&mut self, frame: &Frame, slot: &Slot, ty: &Type, span: &Span) -> Result<Input> {
        match slot {
            Slot::Given(arg) => self.input(frame, arg, ty, span),
            Slot::Spread(arg, n) => {
                let all = Arg::Sequence(vec![arg.clone(); *n]);
                self.input(frame, &all, ty, span)
            }
            Slot::Default(value) => {
                let arg = argument_of(value);
                self.input(frame, &arg, ty, span)
            }
        }
    }

    pub(crate) fn input(&mut self, frame: &Frame, arg: &Arg, ty: &Type, span: &Span) -> Result<Input> {
        let value = match (ty, arg) {
            (_, Arg::None) => (IValue::None, Type::None),
            (Type::Optional(inner), arg) => return self.input(frame, arg, inner, span),
            (Type::Tensor(_), Arg::Tensor(at)) => return self.traced_operand(frame, *at, span),
            (Type::Tensor(_), number) => {
                let data = Arc::new(number_tensor(number)?);
                let ty = Type::Tensor(facts_of(&data));
                (IValue::Tensor(data), ty)
            }
            (Type::Int, Arg::Tensor(at)) => return self.size_operand(frame, *at, span),
            (Type::Float | Type::Number, Arg::Tensor(at)) => {
                let (traced, eager) = self.traced_operand(frame, *at, span)?;
                let (op, ty) = match ty {
                    Type::Float => ("aten::FloatImplicit", Type::Float),
                    _ => ("aten::ScalarImplicit", Type::Number),
                };
                // As the number it is, so that extents that follow from it are known.
                let number = match self.evaluated(eager)? {
                    IValue::Tensor(data) => element(&data, 0),
                    _ => Value::None,
                };
                let number = match (number, &ty) {
                    (Value::Int(n), Type::Float) => IValue::Float(n as f64),
                    (Value::Int(n), _) => IValue::Int(n),
                    (Value::Float(x), _) => IValue::Float(x),
                    (Value::Bool(b), _) => IValue::Bool(b),
                    _ => return Err(Diagnostic::unsupported("a number of this type under trace")),
                };
                let tracer = self.tracer.as_mut().expect("inputs are made only under trace");
                let own = number.ty();
                let eager = tracer.eager.constant(number, own);
                return Ok((tracer.recorder.node_behind(OpName::new(op), traced, ty), eager));
            }
            (Type::Float, Arg::Int(n)) => (IValue::Float(*n as f64), Type::Float),
            (Type::Device, Arg::Str(text)) => (IValue::Device(Arc::clone(text)), Type::Device),
            (Type::List(item), Arg::Sequence(items)) => {
                let mut inputs = Vec::with_capacity(items.len());
                for arg in items {
                    inputs.push(self.input(frame, arg, item, span)?);
                }
                let ty = Type::list((**item).clone());
                let (traced, eager): (Vec<Traced>, Vec<ValueId>) = inputs.into_iter().unzip();
                let tracer = self.tracer.as_mut().expect("inputs are made only under trace");
                let op = || OpName::new("prim::ListConstruct");
                let eager = tracer.eager.node(op(), Vec::new(), eager, std::slice::from_ref(&ty));
                let traced = tracer.recorder.node(op(), &traced, &[ty], Some(span));
                return Ok((traced[0], eager[0]));
            }
            (_, Arg::Bool(b)) => (IValue::Bool(*b), Type::Bool),
            (_, Arg::Int(n) | Arg::Code(n)) => (IValue::Int(*n), Type::Int),
            (_, Arg::Float(x)) => (IValue::Float(*x), Type::Float),
            (_, Arg::Complex(re, im)) => (IValue::Complex(*re, *im), Type::Complex),
            (_, Arg::Str(text)) => (IValue::Str(Arc::clone(text)), Type::Str),
            (_, Arg::Device(text)) => (IValue::Device(Arc::clone(text)), Type::Device),
            (_, Arg::Tensor(_) | Arg::Sequence(_)) => {
                return Err(Diagnostic::internal("an argument does not fit the overload that was chosen for it"));
            }
        };
        let (value, ty) = value;
        let tracer = self.tracer.as_mut().expect("inputs are made only under trace");
        let eager = tracer.eager.constant(value.clone(), ty.clone());
        Ok((tracer.recorder.constant(value, ty, Some(span)), eager))
    }

    /// A tensor without dimensions where an int is wanted: a size that was taken under trace.
    fn size_operand(&mut self, frame: &Frame, at: Ref, span: &Span) -> Result<Input> {
        let n = self.int_of(at)?;
        let is_traced = self.tracer.as_ref().is_some_and(|tracer| tracer.values.contains_key(&at));
        if !is_traced {
            return self.input(frame, &Arg::Int(n), &Type::Int, span);
        }
        let (traced, _) = self.traced_operand(frame, at, span)?;
        let tracer = self.tracer.as_mut().expect("inputs are made only under trace");
        let traced = tracer.recorder.node_behind(OpName::with_overload("aten::Int", "Tensor"), traced, Type::Int);
        Ok((traced, tracer.eager.constant(IValue::Int(n), Type::Int)))
    }

    /// The int in a tensor with one element.
    pub(crate) fn int_of(&mut self, at: Ref) -> Result<i64> {
        if let Some(&n) = self.tracer.as_ref().and_then(|tracer| tracer.sizes.get(&at)) {
            return Ok(n);
        }
        let data = self.elements_now(at)?;
        let bytes = data.contiguous_bytes();
        let word = |n: usize| bytes.get(..n).map(<[u8]>::to_vec).unwrap_or_default();
        match data.dtype() {
            DType::I64 => Ok(i64::from_ne_bytes(word(8).try_into().unwrap_or_default())),
            DType::I32 => Ok(i64::from(i32::from_ne_bytes(word(4).try_into().unwrap_or_default()))),
            DType::I16 => Ok(i64::from(i16::from_ne_bytes(word(2).try_into().unwrap_or_default()))),
            DType::U8 | DType::Bool => Ok(i64::from(bytes.first().copied().unwrap_or_default())),
            other => Err(Diagnostic::unsupported(format!("an integer of a tensor of {other} under trace"))),
        }
    }

    /// A tensor as an input, named by the variable that holds it.
    pub(crate) fn traced_operand(&mut self, frame: &Frame, at: Ref, span: &Span) -> Result<Input> {
        let eager = self.eager_value(at)?;
        let facts = self.type_of(at);
        let (is_trained, name) = (self.requires_grad(at), name_of(frame, at));
        let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
        if let Some(&traced) = tracer.values.get(&at) {
            if let Some(name) = name {
                tracer.recorder.name(traced, &name);
            }
            return Ok((traced, eager));
        }
        if let Some(path) = tracer.attributes.get(&at).cloned() {
            return Ok((tracer.recorder.attribute_value(&path, &Type::tensor()), eager));
        }
        if is_trained {
            return Err(Diagnostic::user(
                "Cannot insert a Tensor that requires grad as a constant. Consider making it a parameter or input, or detaching \
                 the gradient",
            )
            .at(Some(span)));
        }
        let data = self.elements_now(at)?;
        let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
        Ok((tracer.recorder.constant(IValue::Tensor(data), facts, Some(span)), eager))
    }

    /// A tensor in what is evaluated.
    pub(crate) fn eager_value(&mut self, at: Ref) -> Result<ValueId> {
        let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
        if let Some(&known) = tracer.eager_values.get(&at) {
            return Ok(known);
        }
        let Cell::Tensor(cell) = &self.heap[at] else { return Err(Diagnostic::internal("a tensor of an ended trace")) };
        let Cell::Elements(data) = &self.heap[cell.elements] else {
            return Err(Diagnostic::internal("a tensor without elements"));
        };
        let ty = Type::Tensor(facts_of(data));
        let constant = tracer.eager.constant(IValue::Tensor(Arc::clone(data)), ty);
        tracer.eager_values.insert(at, constant);
        Ok(constant)
    }

    fn type_of(&self, at: Ref) -> Type {
        match self.tensor_facts(at) {
            Some((dtype, sizes)) => Type::Tensor(shaped(dtype, &sizes)),
            None => Type::tensor(),
        }
    }

    fn requires_grad(&self, at: Ref) -> bool {
        matches!(&self.heap[at], Cell::Tensor(cell) if cell.requires_grad)
    }
}

/// Most operators of one trace: a loop that does not end is stopped here.
const MAX_OPERATORS: usize = 50_000;

/// Operators whose results look at the elements of their argument in another order, or at some of them.
const STRIDED: [&str; 18] = [
    "aten::t",
    "aten::numpy_T",
    "aten::mT",
    "aten::transpose",
    "aten::swapaxes",
    "aten::swapdims",
    "aten::permute",
    "aten::movedim",
    "aten::select",
    "aten::slice",
    "aten::narrow",
    "aten::expand",
    "aten::expand_as",
    "aten::diagonal",
    "aten::unbind",
    "aten::chunk",
    "aten::split",
    "aten::split_with_sizes",
];

/// What names of tuples that operators give begin with; the names of their fields follow.
const RETURN_TYPES: &str = "torch.return_types:";

/// The place of a field in a tuple that an operator gave.
pub(crate) fn field_of(tuple: &str, field: &str) -> Option<usize> {
    tuple.strip_prefix(RETURN_TYPES)?.split(',').position(|name| name == field)
}

/// The variable that holds a tensor.
fn name_of(frame: &Frame, at: Ref) -> Option<Arc<str>> {
    let found = frame.locals.iter().find(|(_, value)| matches!(value, Value::Ref(own) if *own == at));
    found.map(|(name, _)| Arc::clone(name)).filter(|name| &**name != "self")
}

/// The code that an operator takes for an element type, a layout or a memory format.
pub(crate) fn code_of(path: &str) -> Option<i64> {
    let name = path.strip_prefix("torch.")?;
    Some(match name {
        "float" => DType::F32.code(),
        "double" => DType::F64.code(),
        "half" => DType::F16.code(),
        "long" => DType::I64.code(),
        "int" => DType::I32.code(),
        "short" => DType::I16.code(),
        "strided" | "contiguous_format" => 0,
        "preserve_format" | "sparse_coo" => 1,
        "channels_last" => 2,
        "channels_last_3d" => 3,
        other => DType::from_python_name(other)?.code(),
    })
}

fn argument_of(value: &IValue) -> Arg {
    match value {
        IValue::Bool(b) => Arg::Bool(*b),
        IValue::Int(n) => Arg::Int(*n),
        IValue::Float(x) => Arg::Float(*x),
        IValue::Complex(re, im) => Arg::Complex(*re, *im),
        IValue::Str(text) => Arg::Str(Arc::clone(text)),
        IValue::Device(text) => Arg::Device(Arc::clone(text)),
        IValue::Tuple(items) | IValue::List(_, items) => Arg::Sequence(items.iter().map(argument_of).collect()),
        IValue::None | IValue::Tensor(_) | IValue::Dict(..) | IValue::Object(_) | IValue::Enum { .. } => Arg::None,
    }
}

/// A number of Python as the tensor that stands for it.
fn number_tensor(number: &Arg) -> Result<TensorData> {
    let (dtype, bytes) = match number {
        Arg::Bool(b) => (DType::Bool, vec![u8::from(*b)]),
        Arg::Int(n) => (DType::I64, n.to_ne_bytes().to_vec()),
        Arg::Float(x) => (DType::F64, x.to_ne_bytes().to_vec()),
        Arg::Complex(re, im) => (DType::C128, [re.to_ne_bytes(), im.to_ne_bytes()].concat()),
        _ => return Err(Diagnostic::internal("only numbers become tensors")),
    };
    TensorData::from_bytes(dtype, &[], bytes).map_err(Diagnostic::internal)
}

fn facts_of(data: &TensorData) -> TensorType {
    shaped(data.dtype(), data.sizes())
}

/// What is known of a tensor under trace.
pub(crate) fn shaped(dtype: DType, sizes: &[i64]) -> TensorType {
    let mut strides = vec![1; sizes.len()];
    for dim in (1..sizes.len()).rev() {
        strides[dim - 1] = strides[dim] * sizes[dim].max(1);
    }
    TensorType {
        dtype: Some(dtype),
        sizes: Some(sizes.iter().map(|&size| Some(size)).collect()),
        strides: Some(strides),
        requires_grad: Some(false),
        device: Some("cpu".into()),
    }
}
