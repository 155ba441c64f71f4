//! Values of operators on constants, by lowering a small graph and evaluating it: the operators' own definitions are the
//! only rule for them.

use crate::diag::{Diagnostic, Exception, Result};
use crate::eval;
use crate::ir::{Argument, Class, ClassKind, Function, Graph, Module, NodeId, OpName, ValueId};
use crate::lower::{self, ArgSpec, Request};
use crate::types::{DType, IValue, Object, TensorData, Type};
use aot_runtime::random::Generator;
use aot_runtime::{Dtype, Tensor, Value};
use indexmap::IndexMap;
use std::sync::Arc;

/// The class of the object whose method is evaluated.
const CLASS: &str = "__torch__.Folding";

/// A graph without inputs that computes something from constants.
#[derive(Debug)]
pub struct Computation {
    graph: Graph,
}

impl Default for Computation {
    fn default() -> Self {
        let mut graph = Graph::new();
        graph.add_param(graph.top, Type::Class(CLASS.into()), Some("self".into()));
        Self { graph }
    }
}

impl Computation {
    /// A constant.
    pub fn constant(&mut self, value: IValue, ty: Type) -> ValueId {
        self.graph.append_constant(self.graph.top, value, ty, None)
    }

    /// An int.
    pub fn int(&mut self, value: i64) -> ValueId {
        self.constant(IValue::Int(value), Type::Int)
    }

    /// The result of an operator.
    pub fn op(&mut self, name: &OpName, inputs: Vec<ValueId>, ty: Type) -> ValueId {
        let node = self.graph.append(self.graph.top, name.clone(), inputs, &[ty], None);
        self.graph.nodes[node].outputs[0]
    }

    /// The tensor that an operator gives; the name is with its overload, `aten::add.Tensor`.
    pub fn tensor(&mut self, name: &str, inputs: Vec<ValueId>) -> ValueId {
        let (base, overload) = name.split_once('.').unwrap_or((name, ""));
        self.op(&OpName::with_overload(base, overload), inputs, Type::tensor())
    }

    /// The value; `None` where it cannot be computed when compiling, or computing it raises an exception.
    pub fn run(mut self, value: ValueId) -> Option<IValue> {
        let top = self.graph.top;
        let ty = self.graph.values[value].ty.clone();
        let result = ty.clone();
        self.graph.blocks[top].returns = vec![value];
        let class = Class { methods: vec!["forward".into()], ..Class::new(CLASS.into(), ClassKind::Module) };
        let name: Arc<str> = format!("{CLASS}.forward").into();
        let params = vec![Argument { name: "self".into(), ty: Type::Class(CLASS.into()), default: None }];
        let function = Function { name: name.clone(), params, result, graph: self.graph, span: None, is_traced: false };
        let module = Module {
            classes: IndexMap::from([(Arc::from(CLASS), class)]),
            functions: IndexMap::from([(name, function)]),
            root: Arc::new(Object { class: CLASS.into(), attrs: IndexMap::new() }),
        };
        let request = Request::new("forward", Vec::new());
        let program = lower::lower(&module, &[request]).ok()?;
        let model = eval::load(Arc::new(program)).ok()?;
        let value = model.call("forward", &[]).ok()?;
        // A list has an identity, so it is no constant; a named tuple is more than its values.
        if has_identity_or_name(&value) { None } else { Some(typed(from_runtime(&value)?, &ty)) }
    }
}

/// The values of the outputs of a node whose inputs are constants.
pub fn node(graph: &Graph, id: NodeId) -> Option<Vec<IValue>> {
    let node = &graph.nodes[id];
    let mut computation = Computation::default();
    let mut inputs = Vec::new();
    for &input in &node.inputs {
        inputs.push(computation.constant(graph.constant(input)?, graph.values[input].ty.clone()));
    }
    let types: Vec<Type> = node.outputs.iter().map(|output| graph.values[*output].ty.clone()).collect();
    let copy = computation.graph.append(computation.graph.top, node.op.clone(), inputs, &types, None);
    computation.graph.nodes[copy].attrs.clone_from(&node.attrs);
    let outputs = computation.graph.nodes[copy].outputs.clone();
    match outputs[..] {
        [] => None,
        [output] => computation.run(output).map(|value| vec![value]),
        _ => {
            let name = OpName::new("prim::TupleConstruct");
            let tuple = computation.op(&name, outputs, Type::Tuple(types.into()));
            match computation.run(tuple)? {
                IValue::Tuple(items) => Some(items.to_vec()),
                _ => None,
            }
        }
    }
}

/// A value as one of this type, where the runtime has one form for two: devices are text there.
fn typed(value: IValue, ty: &Type) -> IValue {
    match (value, ty) {
        (IValue::Str(text), Type::Device) => IValue::Device(text),
        (IValue::Tuple(items), Type::Tuple(types)) => {
            IValue::Tuple(items.iter().zip(types.iter()).map(|(item, ty)| typed(item.clone(), ty)).collect())
        }
        (value, _) => value,
    }
}

fn from_runtime(value: &Value) -> Option<IValue> {
    Some(match value {
        Value::None => IValue::None,
        Value::Bool(x) => IValue::Bool(*x),
        Value::Int(x) => IValue::Int(*x),
        Value::Float(x) => IValue::Float(*x),
        Value::Complex(re, im) => IValue::Complex(*re, *im),
        Value::Str(text) => IValue::Str(text.as_str().into()),
        Value::Tensor(tensor) => {
            let dtype = DType::from_code(i64::from(tensor.dtype.0))?;
            IValue::Tensor(Arc::new(TensorData::from_bytes(dtype, &tensor.sizes, tensor.to_bytes()).ok()?))
        }
        Value::Tuple(items) => IValue::Tuple(items.iter().map(from_runtime).collect::<Option<Vec<_>>>()?.into()),
        Value::List(items) => {
            let items = items.iter().map(from_runtime).collect::<Option<Vec<_>>>()?;
            IValue::List(items.first().map(IValue::ty), items.into())
        }
        Value::NamedTuple { fields, .. } => {
            IValue::Tuple(fields.iter().map(|(_, value)| from_runtime(value)).collect::<Option<Vec<_>>>()?.into())
        }
        Value::Dict(_) => return None,
    })
}

fn has_identity_or_name(value: &Value) -> bool {
    match value {
        Value::Tuple(items) => items.iter().any(has_identity_or_name),
        Value::List(_) | Value::NamedTuple { .. } => true,
        _ => false,
    }
}

/// Runs `forward` of a module without state on these arguments, drawing random numbers from a generator.
///
/// # Errors
/// What the method raises, as [`Diagnostic::exception`]; unsupported for what cannot be compiled or has no form here.
pub fn call(module: &Module, args: &[IValue], generator: &mut Generator) -> Result<IValue> {
    let mut values = Vec::with_capacity(args.len());
    for arg in args {
        let IValue::Tensor(data) = arg else {
            return Err(Diagnostic::unsupported(format!("a {} as an argument of a computation", arg.kind())));
        };
        let code = u8::try_from(data.dtype().code()).map_err(|_| Diagnostic::internal("a code of an element type"))?;
        let tensor = Tensor::from_bytes(Dtype(code), data.sizes(), &data.contiguous_bytes());
        values.push(Value::Tensor(tensor.map_err(|e| Diagnostic::user(e.to_string()))?));
    }
    let specs = values.iter().map(ArgSpec::of).collect::<std::result::Result<Vec<_>, _>>();
    let request = Request::new("forward", specs.map_err(Diagnostic::unsupported)?);
    let program = lower::lower(module, &[request])?;
    let model = eval::load(Arc::new(program))?;
    let raised = |error: aot_runtime::Error| {
        let mut diagnostic = Diagnostic::user(error.to_string());
        diagnostic.exception =
            Some(Box::new(Exception { class: error.class, message: error.message, ..Exception::default() }));
        diagnostic
    };
    let mut instance = model.instance().map_err(raised)?;
    instance.swap_generator(generator);
    let result = instance.call("forward", &values);
    instance.swap_generator(generator);
    let ty = module.method(&module.root.class, "forward").map_or(Type::None, |function| function.result.clone());
    let value = from_runtime(&result.map_err(raised)?);
    let value = value.ok_or_else(|| Diagnostic::unsupported("a computation that gives a dict"))?;
    Ok(typed(value, &ty))
}
