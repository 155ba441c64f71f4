//! Nodes without control flow: constants, attributes, tuples, lists, calls' targets, and operators.

use super::facts::Outcome;
use super::reshaping::renamed;
use super::walk::Lowerer;
use crate::diag::Diagnostic;
use crate::ir::{Attr, Function, Graph, Node};
use crate::loops::{Arg, Block, Const, Dim, HostExpr, Operand, Stmt, VarType};
use crate::ops::value::{Affine, Cell, ObjectCell, Quantizer, RunTimeObject, Tensor, Value, known_int};
use crate::ops::views;
use crate::types::{DType, IValue, Object, TensorData, Type};
use std::sync::Arc;

impl Lowerer<'_, '_> {
    fn inputs(&self, act: usize, node: &Node) -> Outcome<Vec<Value>> {
        node.inputs.iter().map(|v| self.get(act, *v)).collect()
    }

    /// The exception of a `prim::RaiseException`; nothing follows it.
    pub(super) fn raise(&mut self, act: usize, node: &Node) -> Outcome<()> {
        let inputs = self.inputs(act, node)?;
        let message = match inputs.first() {
            Some(Value::Str(o)) => o.clone(),
            _ => Operand::Str("".into()),
        };
        let class = match inputs.get(1) {
            Some(Value::Str(Operand::Str(class))) => Arc::clone(class),
            _ => "".into(),
        };
        let place = self.b.place();
        self.b.push(Stmt::Raise { class, message, place });
        Ok(())
    }

    /// The graph that a call runs, and its arguments.
    pub(super) fn callee(&mut self, act: usize, node: &Node) -> Outcome<(Arc<Graph>, Vec<Value>)> {
        let mut inputs = self.inputs(act, node)?;
        match &*node.op.name {
            "prim::CallMethod" => {
                let name = node.attr_name("name").cloned().unwrap_or_else(|| "forward".into());
                Ok((self.method_of(&inputs[0], &name)?, inputs))
            }
            "prim::Enter" => Ok((self.method_of(&inputs[0], "__enter__")?, inputs)),
            "prim::Exit" => {
                inputs.extend([Value::None, Value::None, Value::None]);
                Ok((self.method_of(&inputs[0], "__exit__")?, inputs))
            }
            "prim::fork" => match node.attr("Subgraph") {
                Some(Attr::Graph(graph)) => Ok((Arc::clone(graph), inputs)),
                _ => Err(Diagnostic::internal("prim::fork has no graph").into()),
            },
            _ => {
                let Value::Function(name) = inputs.remove(0) else {
                    return Err(self.b.unsupported("a call of a function that is not known when compiling").into());
                };
                let found = self.module.functions.get(&*name);
                let function = found.ok_or_else(|| Diagnostic::internal(format!("there is no function {name}")))?;
                Ok((self.graph_of(function), inputs))
            }
        }
    }

    /// The qualified name of what a call runs.
    pub(super) fn callee_name(&self, act: usize, node: &Node) -> Outcome<String> {
        let method = match &*node.op.name {
            "prim::Enter" => "__enter__",
            "prim::Exit" => "__exit__",
            "prim::CallMethod" => node.attr_name("name").map_or("forward", |name| name),
            "prim::fork" => return Ok("fork".to_owned()),
            _ => {
                return match self.get(act, node.inputs[0])? {
                    Value::Function(name) => Ok(name.to_string()),
                    other => Ok(other.kind().to_owned()),
                };
            }
        };
        Ok(format!("{}.{method}", self.class_of(&self.get(act, node.inputs[0])?)?))
    }

    /// The graph of a method of an object.
    pub(super) fn method_of(&mut self, object: &Value, method: &str) -> Outcome<Arc<Graph>> {
        let class = self.class_of(object)?;
        let found = self.module.method(&class, method);
        let function = found.ok_or_else(|| Diagnostic::internal(format!("{class} has no method {method}")))?;
        Ok(self.graph_of(function))
    }

    fn graph_of(&mut self, function: &Function) -> Arc<Graph> {
        let make = || Arc::new(renamed(&function.graph));
        Arc::clone(self.graphs.entry(Arc::clone(&function.name)).or_insert_with(make))
    }

    pub(super) fn class_of(&self, value: &Value) -> Outcome<Arc<str>> {
        if let Value::Cell(cell) = value
            && let Cell::Object(ObjectCell { class, .. }) | Cell::RunTimeObject(RunTimeObject { class, .. }) =
                &self.b.heap.cells[*cell]
        {
            return Ok(Arc::clone(class));
        }
        Err(self.b.unsupported(format!("a method call on {}", value.kind())).into())
    }

    /// The results of a node that has no blocks.
    pub(super) fn simple(&mut self, act: usize, node: &Node) -> Outcome<Vec<Value>> {
        let inputs = self.inputs(act, node)?;
        let graph = self.graph(act);
        let result_type = || node.outputs.first().map_or(Type::None, |o| graph.values[*o].ty.clone());
        Ok(vec![match &*node.op.name {
            "prim::Constant" => self.constant(node)?,
            "prim::GetAttr" => {
                let name = node.attr_name("name").ok_or_else(|| Diagnostic::internal("GetAttr without a name"))?;
                self.get_attr(&inputs[0], name)?
            }
            "prim::SetAttr" => {
                let name = node.attr_name("name").ok_or_else(|| Diagnostic::internal("SetAttr without a name"))?;
                self.set_attr(&inputs[0], name, inputs[1].clone())?;
                Value::None
            }
            "prim::CreateObject" => {
                let Type::Class(class) = result_type() else {
                    return Err(Diagnostic::internal("CreateObject makes no class").into());
                };
                let object = ObjectCell { class, loaded: None, attrs: indexmap::IndexMap::new() };
                Value::Cell(self.b.heap.cells.push(Cell::Object(object)))
            }
            "prim::TupleConstruct" => {
                let ty = Some(result_type()).filter(|ty| matches!(ty, Type::NamedTuple(_)));
                Value::Tuple(inputs, ty)
            }
            "prim::TupleUnpack" => match &inputs[0] {
                Value::Tuple(items, _) => return Ok(items.clone()),
                other => return Err(self.wrong("a tuple", other)),
            },
            "prim::TupleIndex" => match (&inputs[0], &inputs[1]) {
                (Value::Tuple(items, _), Value::Int(index)) => {
                    let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
                    let index = known_int(index).map(|i| if i < 0 { i + len } else { i });
                    let item = index.and_then(|i| items.get(usize::try_from(i).ok()?));
                    let wanted = "a tuple index known when compiling";
                    item.cloned().ok_or_else(|| self.b.unsupported(wanted))?
                }
                (other, _) => return Err(self.wrong("a tuple", other)),
            },
            "prim::TupleSlice" => match (&inputs[0], node.attr("beg"), node.attr("end")) {
                (Value::Tuple(items, _), Some(Attr::Int(beg)), Some(Attr::Int(end))) => {
                    let clamp = |i: i64| usize::try_from(i.max(0)).unwrap_or(0).min(items.len());
                    Value::Tuple(items[clamp(*beg)..clamp(*end).max(clamp(*beg))].to_vec(), None)
                }
                (other, ..) => return Err(self.wrong("a tuple", other)),
            },
            "prim::ListConstruct" => self.b.new_list(inputs),
            "prim::ListUnpack" => {
                self.b.node = Some((Arc::clone(&graph), node.inputs.clone()));
                let items = crate::ops::prim::list::unpacked(&mut self.b, &inputs[0], node.outputs.len())?;
                if items.len() != node.outputs.len() {
                    let message =
                        format!("Expected {} elements in a list but found {}", node.outputs.len(), items.len());
                    return Err(self.b.user(message).into());
                }
                return Ok(items);
            }
            "prim::DictConstruct" => {
                let pairs: Vec<_> = inputs.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
                crate::ops::prim::dict::new_dict(&mut self.b, pairs)?
            }
            "prim::unchecked_cast" if let Value::OneOf(one) = &inputs[0] => self.cast_to(one, &result_type()),
            "prim::unchecked_cast" | "aten::wait" | "prim::awaitable_wait" | "prim::awaitable_nowait" => {
                inputs[0].clone()
            }
            "aten::__is__" | "aten::__isnot__"
                if let [Value::OneOf(one), Value::None] | [Value::None, Value::OneOf(one)] = &inputs[..] =>
            {
                self.is_none(one, node.is("aten::__isnot__"))
            }
            "aten::_unwrap_optional" | "prim::unchecked_unwrap_optional" => {
                if let Value::OneOf(one) = &inputs[0] {
                    return Ok(vec![self.unwrapped(one)]);
                }
                if inputs[0] == Value::None {
                    return Err(self.b.user("Unwrapping null optional").into());
                }
                inputs[0].clone()
            }
            "prim::Uninitialized" => Value::Uninitialized,
            "prim::PythonOp" => return Err(crate::ir::not_exportable(node).into()),
            "prim::isinstance" => match node.attr("types") {
                Some(Attr::Types(types)) if let Value::OneOf(one) = &inputs[0] => self.is_one_of_types(one, types),
                Some(Attr::Types(types)) => Value::bool(types.iter().any(|ty| self.is_instance(&inputs[0], ty))),
                _ => return Err(Diagnostic::internal("isinstance without types").into()),
            },
            "prim::Print" => {
                let args = inputs.iter().map(|v| self.print_arg(v)).collect::<Outcome<_>>()?;
                self.b.call("print", args, &[]);
                Value::None
            }
            "prim::EnumValue" | "prim::EnumName" => match &inputs[0] {
                Value::Enum(_, value) if node.is("prim::EnumValue") => (**value).clone(),
                Value::Enum(class, value) => self.enum_name(class, value)?,
                other => return Err(self.wrong("an enum", other)),
            },
            _ => {
                if let ("aten::eq" | "aten::ne", [Value::Int(x), Value::Int(y)]) = (&*node.op.name, inputs.as_slice()) {
                    self.note_comparison(x, y);
                }
                self.b.names = self.names_after(act, node);
                self.b.node = Some((graph, node.inputs.clone()));
                let result = crate::ops::lower(&mut self.b, &node.op, &inputs).map_err(|e| e.at(node.span.as_ref()))?;
                return Ok(match result {
                    Value::Tuple(items, _) if node.outputs.len() > 1 => items,
                    one => vec![one],
                });
            }
        }])
    }

    fn note_comparison(&mut self, x: &Operand, y: &Operand) {
        for (argument, value) in [(x, y), (y, x)] {
            if let (Operand::Var(var), Some(value)) = (argument, known_int(value)) {
                self.compared.extend(self.int_args.get(var).map(|arg| (*arg, value)));
            }
        }
    }

    pub(super) fn wrong(&self, want: &str, found: &Value) -> super::facts::Stop {
        Diagnostic::internal(format!("expected {want}, found {}", found.kind())).at(self.b.span.as_ref()).into()
    }

    pub(super) fn print_arg(&mut self, value: &Value) -> Outcome<Arg> {
        Ok(match value {
            Value::Int(o) | Value::Float(o) | Value::Bool(o) | Value::Str(o) => Arg::Scalar(o.clone()),
            Value::Device(text) => Arg::Scalar(Operand::Str(Arc::clone(text))),
            Value::None => Arg::Scalar(Operand::Str("None".into())),
            Value::Tensor(t) => Arg::Buffer(self.b.row_major(t)),
            other => {
                let str_of = crate::ir::OpName::with_overload("aten::str", "");
                match crate::ops::lower(&mut self.b, &str_of, std::slice::from_ref(other))? {
                    Value::Str(text) => Arg::Scalar(text),
                    _ => return Err(self.b.unsupported(format!("printing a {}", other.kind())).into()),
                }
            }
        })
    }

    /// The name of the member of an enumeration that has this value.
    fn enum_name(&mut self, class: &Arc<str>, value: &Value) -> Outcome<Value> {
        let members = self.module.classes.get(&**class).map(|c| &c.constants);
        if !matches!(
            value,
            Value::Int(Operand::Const(_)) | Value::Float(Operand::Const(_)) | Value::Str(Operand::Str(_))
        ) {
            let members: Vec<_> = members.into_iter().flatten().collect();
            let found = self.b.new_var(VarType::Object, "name");
            for (name, member) in members {
                let member = self.constant_value(member, name)?;
                let is_it = crate::ops::prim::container::same(&mut self.b, value, &member)?;
                let name = Stmt::Assign(found, HostExpr::Copy(Operand::Str(Arc::clone(name))));
                self.b.push(Stmt::If(is_it, Block(vec![name]), Block::default()));
            }
            return Ok(Value::Str(Operand::Var(found)));
        }
        let same = |v: &IValue| match (v, value) {
            (IValue::Int(x), Value::Int(o)) => known_int(o) == Some(*x),
            (IValue::Str(x), Value::Str(Operand::Str(y))) => x == y,
            (IValue::Float(x), Value::Float(Operand::Const(c))) => c.bits == x.to_bits(),
            _ => false,
        };
        let name = members.and_then(|m| m.iter().find(|(_, v)| same(v)));
        name.map(|(name, _)| Value::text(name))
            .ok_or_else(|| self.b.unsupported(format!("the name of a member of {class}")).into())
    }

    /// Whether a value is of a type, where its kind alone decides.
    fn is_instance(&self, value: &Value, ty: &Type) -> bool {
        let cell = |value: &Value| if let Value::Cell(c) = value { Some(&self.b.heap.cells[*c]) } else { None };
        match (ty, value) {
            (Type::Any, _) => true,
            (Type::Tensor(_), Value::Tensor(_))
            | (Type::Int, Value::Int(_))
            | (Type::Float, Value::Float(_))
            | (Type::Bool, Value::Bool(_))
            | (Type::Complex, Value::Complex(..))
            | (Type::Str, Value::Str(_))
            | (Type::None, Value::None)
            | (Type::Device, Value::Device(_))
            | (Type::AnyTuple, Value::Tuple(..))
            | (Type::Number, Value::Int(_) | Value::Float(_) | Value::Complex(..)) => true,
            (Type::Optional(inner), _) => *value == Value::None || self.is_instance(value, inner),
            (Type::Union(members), _) => members.iter().any(|m| self.is_instance(value, m)),
            (Type::Tuple(types), Value::Tuple(items, _)) => {
                types.len() == items.len() && types.iter().zip(items).all(|(t, v)| self.is_instance(v, t))
            }
            (Type::NamedTuple(named), Value::Tuple(_, Some(Type::NamedTuple(own)))) => named.name == own.name,
            (Type::AnyList, _) => matches!(cell(value), Some(Cell::List(_) | Cell::RunTimeList(_))),
            (Type::List(elem), _) => match cell(value) {
                Some(Cell::List(items)) => items.iter().all(|v| self.is_instance(v, elem)),
                Some(Cell::RunTimeList(_)) => true,
                _ => false,
            },
            (Type::Dict(key, item), _) => match cell(value) {
                Some(Cell::RunTimeDict(_)) => true,
                Some(Cell::Dict(entries)) => {
                    entries.iter().all(|(k, v)| self.is_instance(k, key) && self.is_instance(v, item))
                }
                _ => false,
            },
            (Type::Class(name), _) => self.class_of(value).is_ok_and(|class| class == *name),
            (Type::Enum(ty), Value::Enum(class, _)) => ty.name == *class,
            _ => false,
        }
    }

    // ---- constants and attributes

    fn constant(&mut self, node: &Node) -> Outcome<Value> {
        match node.attrs.first() {
            None => Ok(Value::None),
            Some((_, Attr::Name(name))) => Ok(Value::Function(Arc::clone(name))),
            Some((_, Attr::Value(IValue::Tensor(data)))) if data.sizes().is_empty() => {
                // PyTorch's interpreter treats 0-dim tensors among a graph's constants as the numbers they were traced from.
                if let Some(number) = element(data) {
                    let mut tensor = self.b.splat(Operand::Const(number), data.dtype(), &[]);
                    tensor.is_wrapped_number = true;
                    return Ok(Value::Tensor(tensor));
                }
                Ok(Value::Tensor(self.weight(data, "constant")?))
            }
            Some((_, Attr::Value(value))) => self.constant_value(value, "constant"),
            Some(_) => Err(Diagnostic::internal("a constant without a value").into()),
        }
    }

    /// A value of the archive as a value of the program; `name` is for weights.
    pub(super) fn constant_value(&mut self, value: &IValue, name: &str) -> Outcome<Value> {
        Ok(match value {
            IValue::None => Value::None,
            IValue::Bool(x) => Value::bool(*x),
            IValue::Int(x) => Value::int(*x),
            IValue::Float(x) => Value::float(*x),
            IValue::Complex(re, im) => {
                let float = |x: f64| Operand::Const(Const::float(crate::types::DType::F64, x));
                Value::Complex(float(*re), float(*im))
            }
            IValue::Str(text) => Value::Str(Operand::Str(Arc::clone(text))),
            IValue::Device(text) => Value::Device(Arc::clone(text)),
            IValue::Tensor(data) => match self.shared.get(&data.storage().key()) {
                Some((whole, numel)) if whole.dtype == data.dtype() => {
                    let dims = data.sizes().iter().map(|n| Dim::Const(*n)).collect();
                    let offset = Dim::Const(data.offset());
                    Value::Tensor(views::as_strided_on(whole, *numel, offset, dims, data.strides()))
                }
                _ => Value::Tensor(self.weight(data, name)?),
            },
            IValue::Tuple(items) => Value::Tuple(self.constant_values(items, name)?, None),
            IValue::List(_, items) => {
                let items = self.constant_values(items, name)?;
                self.b.new_list(items)
            }
            IValue::Dict(_, entries) => {
                let entry =
                    |(k, v): &(IValue, IValue)| Ok((self.constant_value(k, name)?, self.constant_value(v, name)?));
                let entries = entries.iter().map(entry).collect::<Outcome<Vec<_>>>()?;
                Value::Cell(self.b.heap.cells.push(Cell::Dict(entries)))
            }
            // Packed parameters are what they were packed from.
            IValue::Object(object) if object.class.starts_with("__torch__.torch.classes.") => {
                match object.attrs.get("__state__") {
                    Some(state) => self.constant_value(state, name)?,
                    None => return Err(self.b.unsupported(format!("an object of class {}", object.class)).into()),
                }
            }
            IValue::Object(object) => self.object(object),
            IValue::Enum { class, value } => {
                Value::Enum(Arc::clone(class), Box::new(self.constant_value(value, name)?))
            }
        })
    }

    fn constant_values(&mut self, items: &[IValue], name: &str) -> Outcome<Vec<Value>> {
        items.iter().map(|v| self.constant_value(v, name)).collect()
    }

    fn weight(&mut self, data: &Arc<TensorData>, name: &str) -> Outcome<Tensor> {
        if data.dtype().is_quantised() {
            return self.quantised_weight(data, name);
        }
        // A transposed or expanded tensor stays a view, so that its strides are what PyTorch says they are.
        if let Some((lying, order)) = lying_row_major(data) {
            let buffer = self.b.weight(&lying, name);
            let whole = self.b.tensor_of(buffer);
            let whole = views::permute(&mut self.b, &whole, &order);
            let dims: Vec<Dim> = data.sizes().iter().map(|n| Dim::Const(*n)).collect();
            return Ok(views::expand_to(&mut self.b, &whole, &dims)?);
        }
        let buffer = self.b.weight(data, name);
        Ok(self.b.tensor_of(buffer))
    }

    /// A quantised constant: its integers, whose storage knows what they stand for.
    fn quantised_weight(&mut self, data: &Arc<TensorData>, name: &str) -> Outcome<Tensor> {
        let (sizes, strides) = (data.sizes().to_vec(), data.strides().to_vec());
        let plain = TensorData::new(data.dtype().stored(), sizes, strides, data.offset(), data.storage().clone());
        let plain = Arc::new(plain.map_err(Diagnostic::internal)?);
        let mut integers = self.weight(&plain, name)?;
        let quantizer = if let Some(channels) = &data.channel_quantizer {
            let scales = Box::new(self.weight(&channels.scales, name)?);
            let zero_points = Box::new(self.weight(&channels.zero_points, name)?);
            let is_of_channel = |a: &Affine| a.is_axis(channels.axis);
            let dim = integers.view.index.iter().position(is_of_channel);
            match dim.filter(|_| integers.view.reshaped.is_none()) {
                Some(dim) => Quantizer::PerChannel { scales, zero_points, dim },
                None => return Err(self.b.unsupported("a quantised constant whose channels overlap").into()),
            }
        } else {
            let (scale, zero_point) =
                data.quantizer.ok_or_else(|| Diagnostic::user("a quantised tensor has no scale"))?;
            Quantizer::PerTensor(
                Operand::Const(Const::float(DType::F64, scale)),
                Operand::Const(Const::int(zero_point)),
            )
        };
        self.b.heap.storages[integers.storage].quantizer = Some(quantizer);
        integers.dtype = data.dtype();
        Ok(integers)
    }

    /// The cell of an object of the archive.
    pub(super) fn object(&mut self, object: &Arc<Object>) -> Value {
        let key = Arc::as_ptr(object) as usize;
        if let Some(cell) = self.objects.get(&key) {
            return Value::Cell(*cell);
        }
        let contents = ObjectCell {
            class: Arc::clone(&object.class),
            loaded: Some(Arc::clone(object)),
            attrs: indexmap::IndexMap::new(),
        };
        let cell = self.b.heap.cells.push(Cell::Object(contents));
        self.objects.insert(key, cell);
        Value::Cell(cell)
    }

    pub(super) fn get_attr(&mut self, object: &Value, name: &Arc<str>) -> Outcome<Value> {
        let Value::Cell(cell) = object else { return Err(self.wrong("an object", object)) };
        let contents = match &self.b.heap.cells[*cell] {
            Cell::Object(contents) => contents,
            Cell::RunTimeObject(object) => {
                let object = object.clone();
                return match self.b.attribute(&object, name) {
                    Some(value) => Ok(value),
                    None => self.class_constant(&object.class, name),
                };
            }
            _ => return Err(self.wrong("an object", object)),
        };
        if let Some(value) = contents.attrs.get(name) {
            return Ok(value.clone());
        }
        let loaded = contents.loaded.clone();
        let value = loaded.as_ref().and_then(|object| object.attrs.get(name).cloned());
        let (Some(loaded), Some(value)) = (loaded, value) else {
            return self.class_constant(&contents.class.clone(), name);
        };
        let path = self.paths.get(&(Arc::as_ptr(&loaded) as usize)).cloned().unwrap_or_default();
        let name = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        self.constant_value(&value, &name)
    }

    fn class_constant(&mut self, class: &Arc<str>, name: &Arc<str>) -> Outcome<Value> {
        let declared = self.module.classes.get(&**class).and_then(|c| c.constants.get(name)).cloned();
        match declared {
            Some(value) => self.constant_value(&value, name),
            None => Err(self.b.user(format!("'{class}' object has no attribute '{name}'")).into()),
        }
    }

    fn set_attr(&mut self, object: &Value, name: &Arc<str>, value: Value) -> Outcome<()> {
        let Value::Cell(cell) = object else { return Err(self.wrong("an object", object)) };
        let class = self.class_of(object)?;
        match &mut self.b.heap.cells[*cell] {
            Cell::Object(contents) => _ = contents.attrs.insert(Arc::clone(name), value),
            Cell::RunTimeObject(object) => {
                let object = object.clone();
                self.b.set_attribute(&object, name, &value)?;
            }
            _ => return Err(Diagnostic::internal(format!("{class} is no object")).into()),
        }
        Ok(())
    }
}

/// The one element of a 0-dim tensor as a host number; `None` for types that host numbers do not have.
fn element(data: &TensorData) -> Option<Const> {
    let bytes = data.contiguous_bytes();
    Some(match data.dtype() {
        DType::F64 => Const::float(DType::F64, f64::from_ne_bytes(bytes.as_ref().try_into().ok()?)),
        DType::F32 => Const::float(DType::F64, f64::from(f32::from_ne_bytes(bytes.as_ref().try_into().ok()?))),
        DType::I64 => Const::int(i64::from_ne_bytes(bytes.as_ref().try_into().ok()?)),
        DType::I32 => Const::int(i64::from(i32::from_ne_bytes(bytes.as_ref().try_into().ok()?))),
        DType::Bool => Const::bool(bytes[0] != 0),
        _ => return None,
    })
}

/// For a tensor whose elements lie without gaps, but in another order or repeated: a row-major tensor of the same memory, and
/// for each dimension of the former the dimension of the latter it is.
fn lying_row_major(data: &TensorData) -> Option<(Arc<TensorData>, Vec<usize>)> {
    if data.is_contiguous() || data.numel() == 0 {
        return None;
    }
    let mut by_stride: Vec<usize> = (0..data.sizes().len()).collect();
    let stride = |i: usize| if data.sizes()[i] == 1 { 0 } else { data.strides()[i] };
    by_stride.sort_by_key(|&i| std::cmp::Reverse(data.strides()[i]));
    let size = |i: usize| if stride(i) == 0 { 1 } else { data.sizes()[i] };
    let sizes: Vec<i64> = by_stride.iter().map(|&i| size(i)).collect();
    let mut strides = vec![1i64; sizes.len()];
    for dim in (0..sizes.len().saturating_sub(1)).rev() {
        strides[dim] = strides[dim + 1] * sizes[dim + 1];
    }
    let lies_so = by_stride.iter().zip(&strides).all(|(&i, &s)| size(i) == 1 || stride(i) == s);
    let lying = TensorData::new(data.dtype(), sizes, strides, data.offset(), data.storage().clone()).ok()?;
    let mut order = vec![0; by_stride.len()];
    for (at, &dim) in by_stride.iter().enumerate() {
        order[dim] = at;
    }
    lies_so.then(|| (Arc::new(lying), order))
}
