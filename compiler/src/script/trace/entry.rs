//! `torch.jit.trace` and `torch.jit.trace_module`: example inputs go in, functions and modules of the program come out.

use super::super::construct::{Cell, Frame, Interpreter, Named, Ref, TracedTensor, Value};
use super::argument;
use super::operators::shaped;
use super::record::{Method, Path, Recorder, Traced};
use super::{Submodule, Tracer};
use crate::diag::{Diagnostic, Result};
use crate::ir::{self, Class, ClassKind, OpName};
use crate::script::names::{Declared, Definition, Item};
use crate::syntax::ast::{ParamKind, TextRange};
use crate::types::{IValue, Type};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::sync::Arc;

/// Why dicts are no inputs or results of a trace.
const DICT: &str = "RuntimeError: Encountering a dict at the output of the tracer might cause the trace to be incorrect, this is \
                    only valid if the container structure does not change based on the module's inputs. Consider using a \
                    constant container instead (e.g. for `list`, use a `tuple` instead. for `dict`, use a `NamedTuple` \
                    instead). If you absolutely need this and know the side effects, pass strict=False to trace() to allow \
                    this behavior.";

/// How deep modules may hold each other.
const MAX_DEPTH: usize = 200;

/// How something is traced.
struct Options {
    /// Further inputs, whose traces must give the same graphs.
    check_inputs: Vec<Value>,
    /// Whether lists and dicts are refused as results.
    is_strict: bool,
    range: TextRange,
}

/// What is traced.
struct Call<'v> {
    callee: &'v Value,
    method: Option<Arc<str>>,
    /// Names of its parameters.
    names: Vec<Arc<str>>,
}

/// The modules whose methods a trace makes.
#[derive(Default)]
struct Modules {
    modules: IndexMap<Ref, Submodule>,
    attributes: HashMap<Ref, Path>,
}

impl Modules {
    fn classes(&self) -> HashMap<Path, Arc<str>> {
        self.modules.values().map(|module| (module.path.clone(), Arc::clone(&module.class))).collect()
    }
}

impl Interpreter<'_, '_> {
    /// `torch.jit.trace(function, example_inputs)`.
    pub(crate) fn trace(
        &mut self,
        frame: &mut Frame,
        args: &[Value],
        named: &Named,
        range: TextRange,
    ) -> Result<Value> {
        let argument = |at: usize, key: &str| argument(args, named, at, key);
        let Some(function) = argument(0, "func") else {
            return Err(frame.error(range, "TypeError: trace() missing 1 required positional argument: 'func'"));
        };
        let Some(inputs) = argument(1, "example_inputs") else {
            return Err(frame
                .error(range, "RuntimeError: example_kwarg_inputs should be a dict")
                .note("no example inputs are given"));
        };
        let options = self.options(frame, argument(4, "check_inputs"), argument(6, "strict"), range)?;
        match &function {
            Value::Ref(at) if self.is_module(&function) => {
                if self.is_compiled_module(*at) {
                    return Ok(function);
                }
                self.trace_methods(frame, *at, vec![("forward".into(), inputs)], &options)
            }
            Value::Method(object, name) if self.is_module(object) => match (&**object, &**name) {
                (Value::Ref(at), "forward") => self.trace_methods(frame, *at, vec![(Arc::clone(name), inputs)], &options),
                _ => Err(frame.error(
                    range,
                    "AttributeError: trace doesn't support compiling individual module's functions.\nPlease use trace_module",
                )),
            },
            Value::Unknown(why) => Err(Box::new((**why).clone())),
            _ => self.trace_function(frame, &function, &inputs, &options),
        }
    }

    /// `torch.jit.trace_module(module, {method: inputs})`.
    pub(crate) fn trace_module(
        &mut self,
        frame: &mut Frame,
        args: &[Value],
        named: &Named,
        range: TextRange,
    ) -> Result<Value> {
        let argument = |at: usize, key: &str| argument(args, named, at, key);
        let Some(module @ Value::Ref(at)) = argument(0, "mod") else {
            return Err(frame.error(range, "AttributeError: expected torch.nn.Module as the first argument"));
        };
        if !self.is_module(&module) {
            return Err(frame.error(range, "AttributeError: expected torch.nn.Module as the first argument"));
        }
        let inputs = match argument(1, "inputs") {
            Some(Value::Ref(at)) if let Cell::Dict(entries) = &self.heap[at] => entries.clone(),
            _ => return Err(frame.error(range, "AttributeError: expected a dictionary of (method_name, input) pairs")),
        };
        let options = self.options(frame, argument(4, "check_inputs"), argument(6, "strict"), range)?;
        let method = |(name, inputs)| match name {
            Value::Str(name) => Ok((name, inputs)),
            _ => Err(frame.error(range, "AttributeError: expected a dictionary of (method_name, input) pairs")),
        };
        let methods = inputs.into_iter().map(method).collect::<Result<Vec<_>>>()?;
        self.trace_methods(frame, at, methods, &options)
    }

    fn options(
        &mut self,
        frame: &mut Frame,
        check_inputs: Option<Value>,
        strict: Option<Value>,
        range: TextRange,
    ) -> Result<Options> {
        let check_inputs = match check_inputs {
            Some(Value::None) | None => Vec::new(),
            Some(inputs) => self.items(frame, &inputs, range)?,
        };
        Ok(Options { check_inputs, is_strict: !matches!(strict, Some(Value::Bool(false))), range })
    }

    fn trace_function(
        &mut self,
        frame: &mut Frame,
        function: &Value,
        inputs: &Value,
        options: &Options,
    ) -> Result<Value> {
        let definition = match function {
            Value::Function(name) => self.program.definition(name)?,
            Value::Closure(closure) => Some(closure.definition.clone()),
            _ => None,
        };
        let name: Arc<str> = match (function, &definition) {
            (Value::Function(name), _) => Arc::clone(name),
            (_, Some(definition)) => format!("{}.{}", frame.parsed.module, definition.function().name.text).into(),
            _ => format!("{}.traced", frame.parsed.module).into(),
        };
        let name = self.fresh_function(&name);
        let call = Call { callee: function, method: None, names: names_of(definition.as_ref(), 0) };
        let traced = Modules::default();
        let methods = self.recorded(frame, &call, &traced, inputs, options, &name, &mut HashMap::new())?;
        for inputs in &options.check_inputs {
            let again = self.recorded(frame, &call, &traced, inputs, options, &name, &mut HashMap::new())?;
            same_graphs(frame, &methods, &again, options.range)?;
        }
        self.add_methods(methods);
        Ok(Value::Compiled(name))
    }

    /// Runs a call under trace.
    #[allow(clippy::too_many_arguments, reason = "what a traced call consists of")]
    fn recorded(
        &mut self,
        frame: &mut Frame,
        call: &Call<'_>,
        traced: &Modules,
        inputs: &Value,
        options: &Options,
        name: &Arc<str>,
        n_methods: &mut HashMap<Arc<str>, usize>,
    ) -> Result<Vec<Method>> {
        if self.tracer.is_some() {
            return Err(frame.unsupported(options.range, "a trace inside of a trace"));
        }
        let mut tracer = Tracer::new(Recorder::new(traced.classes()), self.generator.clone());
        tracer.modules = traced.modules.iter().map(|(at, module)| (*at, module.clone())).collect();
        tracer.attributes.clone_from(&traced.attributes);
        self.tracer = Some(Box::new(tracer));
        let result = self.traced_result(frame, call, inputs, options);
        let tracer = self.tracer.take();
        let (result, tracer) = (result?, tracer.ok_or_else(|| Diagnostic::internal("the trace is lost"))?);
        Ok(tracer.recorder.finish(result, name, n_methods))
    }

    /// A name like this that no function has yet.
    fn fresh_function(&mut self, name: &Arc<str>) -> Arc<str> {
        let (module, base) = name.rsplit_once('.').unwrap_or(("__torch__", name));
        let mut made = Arc::clone(name);
        while self.program.functions.contains_key(&made) {
            made = format!("{module}.___torch_mangle_{}.{base}", self.next_mangle()).into();
        }
        made
    }

    fn traced_result(
        &mut self,
        frame: &mut Frame,
        call: &Call<'_>,
        inputs: &Value,
        options: &Options,
    ) -> Result<Traced> {
        let range = options.range;
        let inputs = match inputs {
            tensor if self.is_tensor(tensor) => vec![tensor.clone()],
            Value::Ref(at) if matches!(self.heap[*at], Cell::Dict(_)) => vec![inputs.clone()],
            _ => self.items(frame, inputs, range)?,
        };
        let mut args = Vec::with_capacity(inputs.len());
        for (at, input) in inputs.iter().enumerate() {
            let ty = self.input_type(frame, input, range)?;
            let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
            let traced = tracer.recorder.input(call.names.get(at).cloned(), ty.clone());
            args.push((input, traced, ty));
        }
        let args =
            args.into_iter().map(|(input, traced, ty)| self.example(input, traced, &ty)).collect::<Result<Vec<_>>>()?;
        let result = match &call.method {
            Some(method) => self.call_method(frame, call.callee, method, args, Vec::new(), range)?,
            None => self.call(frame, call.callee.clone(), args, Vec::new(), range)?,
        };
        if matches!(result, Value::None) {
            return Err(frame.error(
                range,
                "RuntimeError: The traced function didn't return any values! Side-effects are not captured in traces, so it \
                 would be a no-op.",
            ));
        }
        self.output(frame, &result, options.is_strict, range)
    }

    fn input_type(&mut self, frame: &mut Frame, value: &Value, range: TextRange) -> Result<Type> {
        match value {
            Value::Ref(at) if self.is_tensor(value) => {
                let facts = self.tensor_facts(*at);
                let (dtype, sizes) = facts.ok_or_else(|| Diagnostic::internal("a tensor without facts"))?;
                return Ok(Type::Tensor(shaped(dtype, &sizes)));
            }
            Value::Tuple(items) => {
                let types = items.iter().map(|item| self.input_type(frame, item, range)).collect::<Result<Vec<_>>>()?;
                return Ok(Type::Tuple(types.into()));
            }
            Value::Ref(at) => {
                if matches!(self.heap[*at], Cell::Dict(_)) {
                    return Err(frame.error(range, DICT));
                }
                if let Cell::List(items) = self.heap[*at].clone() {
                    for item in &items {
                        self.input_type(frame, item, range)?;
                    }
                    return Ok(Type::list(Type::tensor()));
                }
            }
            Value::Unknown(why) => return Err(Box::new((**why).clone())),
            _ => {}
        }
        let class = super::super::construct::type_name(value, &self.heap);
        Err(frame.error(
            range,
            format!(
                "RuntimeError: Type 'Tuple[{class}]' cannot be traced. Only Tensors and (possibly nested) Lists, Dicts, and \
                 Tuples of Tensors can be traced"
            ),
        ))
    }

    /// An example input as what the traced function gets.
    fn example(&mut self, value: &Value, traced: Traced, ty: &Type) -> Result<Value> {
        let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
        let (op, items, types) = match (value, ty) {
            (Value::Tuple(items), Type::Tuple(types)) => ("prim::TupleUnpack", items.to_vec(), types.to_vec()),
            (Value::Ref(at), Type::List(item)) => match &self.heap[*at] {
                Cell::List(items) => ("prim::ListUnpack", items.clone(), vec![(**item).clone(); items.len()]),
                _ => return Err(Diagnostic::internal("a list is expected")),
            },
            (Value::Ref(at), _) => {
                let (dtype, sizes) =
                    self.tensor_facts(*at).ok_or_else(|| Diagnostic::internal("a tensor is expected"))?;
                let data = self.elements_now(*at)?;
                let made = self.heap.push(Cell::Traced(TracedTensor { dtype, sizes: sizes.clone(), is_dense: true }));
                let ty = Type::Tensor(shaped(dtype, &sizes));
                let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
                // A copy, as the traced function may write to it.
                let eager = tracer.eager.constant(IValue::Tensor(data), ty.clone());
                let none = tracer.eager.constant(IValue::None, Type::None);
                let eager = tracer.eager.node(OpName::new("aten::clone"), Vec::new(), vec![eager, none], &[ty]);
                self.rebind(made, traced, eager[0]);
                return Ok(Value::Ref(made));
            }
            _ => return Err(Diagnostic::internal("an example that has no type")),
        };
        let parts = tracer.recorder.node(OpName::new(op), &[traced], &types, None);
        let mut made = Vec::with_capacity(items.len());
        for ((item, part), ty) in items.iter().zip(parts).zip(&types) {
            made.push(self.example(item, part, ty)?);
        }
        if op == "prim::ListUnpack" {
            return Ok(Value::Ref(self.heap.push(Cell::List(made))));
        }
        Ok(Value::Tuple(made.into()))
    }

    /// The result of the traced call, in the trace.
    fn output(&mut self, frame: &mut Frame, value: &Value, is_strict: bool, range: TextRange) -> Result<Traced> {
        let span = frame.span(range);
        let (op, items) = match value {
            Value::Ref(at) if self.is_tensor(value) => {
                let is_known =
                    self.tracer.as_ref().is_some_and(|t| t.values.contains_key(at) || t.attributes.contains_key(at));
                if !is_known {
                    return Err(frame.error(
                        range,
                        "RuntimeError: output 1 of traced region did not have observable data dependence with trace inputs; \
                         this probably indicates your program cannot be understood by the tracer.",
                    ));
                }
                return self.traced_operand(frame, *at, &span).map(|(traced, _)| traced);
            }
            Value::Tuple(items) | Value::NamedTuple(_, items) => ("prim::TupleConstruct", items.to_vec()),
            Value::Ref(at) => match self.heap[*at].clone() {
                Cell::Dict(_) if is_strict => return Err(frame.error(range, DICT)),
                Cell::List(items) if items.is_empty() => {
                    let text = "RuntimeError: Tracer cannot infer type of []\n:List trace inputs must have elements";
                    return Err(frame.error(range, text));
                }
                Cell::List(items) if items.iter().all(|item| self.is_tensor(item)) => ("prim::ListConstruct", items),
                Cell::Dict(entries) => ("prim::DictConstruct", entries.into_iter().flat_map(|(k, v)| [k, v]).collect()),
                _ => return Err(self.no_output(frame, range)),
            },
            Value::Unknown(why) => return Err(Box::new((**why).clone())),
            _ => return Err(self.no_output(frame, range)),
        };
        let mut parts = Vec::with_capacity(items.len());
        for item in &items {
            parts.push(match (item, op) {
                (Value::Str(text), "prim::DictConstruct") => {
                    let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
                    tracer.recorder.constant(IValue::Str(Arc::clone(text)), Type::Str, Some(&span))
                }
                _ => self.output(frame, item, is_strict, range)?,
            });
        }
        let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
        let types: Vec<Type> = parts.iter().map(|&part| tracer.recorder.ty(part)).collect();
        let ty = match op {
            "prim::TupleConstruct" => Type::Tuple(types.into()),
            "prim::ListConstruct" => Type::list(types.first().cloned().map_or_else(Type::tensor, |ty| plain(&ty))),
            _ => match &types[..] {
                [key, item, ..] => Type::Dict(Arc::new(key.clone()), Arc::new(plain(item))),
                _ => Type::Dict(Arc::new(Type::Str), Arc::new(Type::tensor())),
            },
        };
        Ok(tracer.recorder.node(OpName::new(op), &parts, &[ty], Some(&span))[0])
    }

    fn no_output(&self, frame: &Frame, range: TextRange) -> Box<Diagnostic> {
        frame.error(
            range,
            "RuntimeError: Only tensors, lists, tuples of tensors, or dictionary of tensors can be output from traced functions",
        )
    }

    /// Adds what a trace made to the program.
    fn add_methods(&mut self, methods: Vec<Method>) {
        for Method { class, name, function } in methods {
            if let Some(declared) = class.and_then(|class| self.program.classes.get_mut(&class)) {
                declared.class.methods.push(name);
            }
            self.program.functions.insert(Arc::clone(&function.name), function);
        }
    }

    /// Traces methods of a module, which gives another module of the same parameters.
    fn trace_methods(
        &mut self,
        frame: &mut Frame,
        at: Ref,
        methods: Vec<(Arc<str>, Value)>,
        options: &Options,
    ) -> Result<Value> {
        let mut traced = Modules::default();
        let span = frame.span(options.range);
        self.traced_class(at, &Path::new(), &mut traced.modules).map_err(|error| error.at(Some(&span)))?;
        for (&inner, module) in &traced.modules {
            let parts = self.instance(inner).and_then(|instance| instance.parts.clone()).unwrap_or_default();
            for (name, value) in parts.parameters.iter().chain(&parts.buffers) {
                let Value::Ref(tensor) = value else { continue };
                let path = module.path.iter().chain([name]).cloned().collect();
                if traced.attributes.insert(*tensor, path).is_some() {
                    let text = "ValueError: TracedModules don't support parameter sharing between modules";
                    return Err(frame.error(options.range, text));
                }
            }
        }
        let object = Value::Ref(at);
        let mut n_methods = HashMap::new();
        for (method, inputs) in methods {
            let python = self.instance(at).map(|instance| Arc::clone(&instance.class)).unwrap_or_default();
            let order = self.program.mro(&python)?;
            let definition = self.find_method(&order, &method)?.map(|(_, definition)| definition);
            let names = names_of(definition.as_ref(), 1);
            let call = Call { callee: &object, method: Some(Arc::clone(&method)), names };
            let before = n_methods.clone();
            let made = self.recorded(frame, &call, &traced, &inputs, options, &method, &mut n_methods)?;
            for inputs in &options.check_inputs {
                let inputs = self.method_inputs(inputs, &method);
                let again = self.recorded(frame, &call, &traced, &inputs, options, &method, &mut before.clone())?;
                same_graphs(frame, &made, &again, options.range)?;
            }
            self.add_methods(made);
        }
        self.traced_instance(at, &traced.modules)
    }

    /// The inputs of a method in a dict of those of all methods; other inputs are those of `forward`.
    fn method_inputs(&self, inputs: &Value, method: &str) -> Value {
        if let Value::Ref(at) = inputs
            && let Cell::Dict(entries) = &self.heap[*at]
            && let Some((_, inputs)) =
                entries.iter().find(|(name, _)| matches!(name, Value::Str(name) if &**name == method))
        {
            return inputs.clone();
        }
        inputs.clone()
    }

    /// The class that a module gets when it is traced, and those of the modules it holds.
    fn traced_class(&mut self, at: Ref, path: &Path, modules: &mut IndexMap<Ref, Submodule>) -> Result<Arc<str>> {
        if let Some(known) = modules.get(&at) {
            return Ok(Arc::clone(&known.class));
        }
        if self.is_compiled_module(at) {
            let class = Arc::clone(&self.concrete_object(at)?.class);
            modules.insert(at, Submodule { path: path.clone(), class: Arc::clone(&class), is_compiled: true });
            return Ok(class);
        }
        let Some(instance) = self.instance(at).cloned() else { return Err(Diagnostic::internal("no module")) };
        let short = instance.class.rsplit('.').next().unwrap_or(&instance.class);
        if path.len() > MAX_DEPTH {
            return Err(Diagnostic::user(format!("the module '{short}' contains itself")));
        }
        let Some(parts) = instance.parts else {
            let text = format!("'{short}' has not been initialized, did you forget to call 'super()'?");
            return Err(Diagnostic::user(text));
        };
        let mut attrs = IndexMap::new();
        let tensors = |group: &IndexMap<Arc<str>, Value>| {
            let present = group.iter().filter(|(_, value)| !matches!(value, Value::None));
            present.map(|(name, _)| Arc::clone(name)).collect::<Vec<_>>()
        };
        let (parameters, buffers) = (tensors(&parts.parameters), tensors(&parts.buffers));
        attrs.extend(parameters.iter().chain(&buffers).map(|name| (Arc::clone(name), Type::tensor())));
        attrs.insert("training".into(), Type::Bool);
        attrs.insert("_is_full_backward_hook".into(), Type::optional(Type::Bool));
        for (name, value) in &parts.modules {
            let Value::Ref(inner) = value else { continue };
            let path: Path = path.iter().chain([name]).cloned().collect();
            let class = self.traced_class(*inner, &path, modules)?;
            attrs.insert(Arc::clone(name), Type::Class(class));
        }
        let (module, base) = instance.class.rsplit_once('.').unwrap_or(("__torch__", &instance.class));
        let mut name = Arc::clone(&instance.class);
        while self.program.classes.contains_key(&name) {
            name = format!("{module}.___torch_mangle_{}.{base}", self.next_mangle()).into();
        }
        let class = Class { attrs, parameters, buffers, ..Class::new(Arc::clone(&name), ClassKind::Module) };
        self.program.classes.insert(Arc::clone(&name), Declared { class, methods: HashMap::new() });
        self.program.items.insert(Arc::clone(&name), Item::Class(Type::Class(Arc::clone(&name))));
        modules.insert(at, Submodule { path: path.clone(), class: Arc::clone(&name), is_compiled: false });
        Ok(name)
    }

    /// The traced module as an object of Python that holds the same tensors.
    fn traced_instance(&mut self, at: Ref, modules: &IndexMap<Ref, Submodule>) -> Result<Value> {
        let Some(module) = modules.get(&at).filter(|module| !module.is_compiled) else { return Ok(Value::Ref(at)) };
        let Some(mut instance) = self.instance(at).cloned() else { return Err(Diagnostic::internal("no module")) };
        if let Some(parts) = &mut instance.parts {
            for value in parts.modules.values_mut() {
                if let Value::Ref(inner) = value.clone() {
                    *value = self.traced_instance(inner, modules)?;
                }
            }
        }
        let made = self.heap.push(Cell::Instance(instance));
        self.set_class_of(made, &module.class);
        Ok(Value::Ref(made))
    }
}

/// The names of a function's parameters, if it takes no variable number of arguments.
fn names_of(definition: Option<&Definition>, n_skipped: usize) -> Vec<Arc<str>> {
    let Some(definition) = definition else { return Vec::new() };
    let params = &definition.function().params;
    if params.iter().any(|param| param.kind != ParamKind::Plain) {
        return Vec::new();
    }
    params.iter().skip(n_skipped).map(|param| Arc::clone(&param.name.text)).collect()
}

/// The type without what only holds for the example inputs.
fn plain(ty: &Type) -> Type {
    if matches!(ty, Type::Tensor(_)) { Type::tensor() } else { ty.clone() }
}

/// Traces of one call with other inputs must have the same graphs.
fn same_graphs(frame: &Frame, methods: &[Method], again: &[Method], range: TextRange) -> Result<()> {
    let texts = |methods: &[Method]| {
        let text = |method: &Method| ir::canonical(&method.function.graph).to_string();
        methods.iter().map(text).collect::<Vec<_>>().join("\n")
    };
    let (first, second) = (texts(methods), texts(again));
    if first == second {
        return Ok(());
    }
    let difference = first.lines().zip(second.lines()).find(|(a, b)| a != b);
    let (a, b) = difference.unwrap_or(("the end of the graph", "more nodes"));
    let text = "TracingCheckError: Tracing failed sanity checks!\nERROR: Graphs differed across invocations!";
    Err(frame
        .error(range, text)
        .note(format!("the first trace has: {}", a.trim()))
        .note(format!("another has: {}", b.trim())))
}
