//! Calls in module-level code: functions and classes of texts, builtins of Python, `torch.jit`.

use super::value::{Container, Instance, TensorCell};
use super::{Cell, Flow, Frame, Interpreter, MAX_CALLS, Ref, Value, value};
use crate::diag::Result;
use crate::ir::ClassKind;
use crate::script::layers;
use crate::script::names::{Definition, dotted};
use crate::script::python::Mark;
use crate::syntax::ast::{self, Expr, ExprKind, ParamKind, StmtKind, TextRange};
use indexmap::IndexMap;
use std::sync::Arc;

/// Arguments by name.
pub(crate) type Named = Vec<(Arc<str>, Value)>;

/// Library functions that only print, warn or check.
const QUIET: [&str; 8] = [
    "builtins.print",
    "warnings.warn",
    "warnings.filterwarnings",
    "warnings.simplefilter",
    "torch.set_grad_enabled",
    "torch._C._log_api_usage_once",
    "torch.set_num_threads",
    "torch._assert",
];

/// Decorators and wrappers of `torch.jit` that give back what they take.
const TRANSPARENT: [&str; 8] = [
    "torch.jit.script",
    "torch.jit.script_if_tracing",
    "torch.jit.script_method",
    "torch.jit.export",
    "torch.jit.ignore",
    "torch.jit.unused",
    "torch.jit.interface",
    "torch.jit.optimize_for_inference",
];

impl Interpreter<'_, '_> {
    /// `callee(args)`.
    pub(crate) fn call_expr(
        &mut self,
        frame: &mut Frame,
        callee: &Expr,
        args: &[ast::Arg],
        range: TextRange,
    ) -> Result<Value> {
        let path = dotted(callee).map(|path| self.program.absolute(&frame.file, &path)).unwrap_or_default();
        if path == "super" && !frame.locals.contains_key("super") {
            return self.super_of(frame, range);
        }
        // Their first or second argument is a type, which is no value.
        match (path.as_str(), args) {
            ("torch.jit.annotate" | "typing.cast", [_, value]) => return self.eval(frame, &value.value),
            ("torch.jit.Attribute", [value, ty]) => {
                let value = self.eval(frame, &value.value)?;
                let file = Arc::clone(&frame.file);
                let ty = self.program.ty(&ty.value, &file)?;
                return Ok(Value::Ref(self.heap.push(Cell::Attribute(value, ty))));
            }
            _ => {}
        }
        let target = self.eval(frame, callee)?;
        let (mut positional, mut named) = (Vec::with_capacity(args.len()), Vec::new());
        for arg in args {
            match (&arg.name, &arg.value.kind) {
                (Some(name), _) => named.push((Arc::clone(&name.text), self.eval(frame, &arg.value)?)),
                (None, ExprKind::Starred(inner)) => {
                    let all = self.eval(frame, inner)?;
                    positional.extend(self.items(frame, &all, inner.range)?);
                }
                (None, _) => positional.push(self.eval(frame, &arg.value)?),
            }
        }
        self.call(frame, target, positional, named, range)
    }

    fn super_of(&self, frame: &Frame, range: TextRange) -> Result<Value> {
        let object = frame.locals.values().next().cloned();
        match (object, &frame.class) {
            (Some(Value::Ref(object)), Some(class)) => Ok(Value::Super(object, Arc::clone(class))),
            _ => Err(frame.error(range, "RuntimeError: super(): no arguments")),
        }
    }

    /// A call of a value.
    pub(crate) fn call(
        &mut self,
        frame: &mut Frame,
        callee: Value,
        args: Vec<Value>,
        named: Named,
        range: TextRange,
    ) -> Result<Value> {
        match &callee {
            Value::Path(path) => {
                let path = Arc::clone(path);
                self.call_path(frame, &path, args, named, range)
            }
            Value::Class(class) => self.instantiate(frame, class, args, named, range),
            Value::Function(name) if self.is_tracing() && self.is_compiled_function(name)? => {
                self.trace_compiled(frame, name, None, args, named, range)
            }
            Value::Compiled(name) => self.call_compiled(frame, name, args, named, range),
            Value::Function(name) => match self.program.definition(name)? {
                Some(definition) => self.run(frame, &definition, None, None, args, named, range),
                None => Err(self.refused(frame, &callee, "a call", range)),
            },
            Value::Closure(closure) => {
                let closure = Arc::clone(closure);
                let names = Some(&closure.names);
                self.run(frame, &closure.definition, closure.class.as_ref(), names, args, named, range)
            }
            Value::Method(object, name) => {
                let (object, name) = (Arc::clone(object), Arc::clone(name));
                self.call_method(frame, &object, &name, args, named, range)
            }
            Value::Ref(at) if self.is_tracing() && self.is_module(&callee) => {
                self.trace_module_call(frame, *at, args, named, range)
            }
            Value::Ref(at) if matches!(self.heap[*at], Cell::Instance(_)) => {
                let name = if self.is_module(&callee) { "forward" } else { "__call__" };
                self.call_method(frame, &callee, &name.into(), args, named, range)
            }
            Value::Unknown(why) => Err(Box::new((**why).clone())),
            Value::Lambda => Err(self.refused(frame, &callee, "a call", range)),
            other => {
                let name = value::type_name(other, &self.heap);
                Err(frame.error(range, format!("TypeError: '{name}' object is not callable")))
            }
        }
    }

    /// `object.name(args)`.
    pub(crate) fn call_named(
        &mut self,
        frame: &mut Frame,
        object: &Value,
        name: &str,
        args: Vec<Value>,
        range: TextRange,
    ) -> Result<Value> {
        self.call_method(frame, object, &name.into(), args, Vec::new(), range)
    }

    pub(crate) fn call_method(
        &mut self,
        frame: &mut Frame,
        object: &Value,
        name: &Arc<str>,
        mut args: Vec<Value>,
        named: Named,
        range: TextRange,
    ) -> Result<Value> {
        match object {
            Value::Str(text) => self.str_method(frame, &Arc::clone(text), name, &args, range),
            Value::Super(at, class) => {
                let bases: Vec<Arc<str>> = self.program.mro(class)?.into_iter().skip(1).collect();
                match self.find_method(&bases, name)? {
                    Some((owner, definition)) => {
                        args.insert(0, Value::Ref(*at));
                        self.run(frame, &definition, Some(&owner), None, args, named, range)
                    }
                    None => self.module_method(frame, *at, name, args, named, range),
                }
            }
            Value::Ref(at) => match &self.heap[*at] {
                Cell::Tensor(_) | Cell::Traced(_) => self.tensor_method(frame, object, name, args, named, range),
                Cell::Instance(instance) => {
                    let classes = self.program.mro(&Arc::clone(&instance.class))?;
                    match self.find_method(&classes, name)? {
                        Some((owner, definition)) => {
                            if self.program.mark(&definition.file, definition.function()) != Mark::Static {
                                args.insert(0, object.clone());
                            }
                            self.run(frame, &definition, Some(&owner), None, args, named, range)
                        }
                        None => self.module_method(frame, *at, name, args, named, range),
                    }
                }
                _ => self.collection_method(frame, object, name, &args, range),
            },
            Value::Class(class) => {
                let classes = self.program.mro(class)?;
                match self.find_method(&classes, name)? {
                    Some((owner, definition)) => self.run(frame, &definition, Some(&owner), None, args, named, range),
                    // `nn.Module.__init__(self)`.
                    None => match args.first() {
                        Some(Value::Ref(at)) => self.module_method(frame, *at, name, args[1..].to_vec(), named, range),
                        _ => Err(self.refused(frame, object, "a method", range)),
                    },
                }
            }
            Value::Int(_) | Value::Float(_) | Value::Bool(_) if &**name == "item" => Ok(object.clone()),
            other => self.collection_method(frame, other, name, &args, range),
        }
    }

    /// The first of these classes that defines a method.
    pub(crate) fn find_method(&mut self, classes: &[Arc<str>], name: &str) -> Result<Option<(Arc<str>, Definition)>> {
        for class in classes {
            let Some((file, stmt)) = self.program.find(class)? else { continue };
            let StmtKind::Class(syntax) = &file.stmts[stmt].kind else { continue };
            let last = syntax.body.stmts.iter().rev().find(|&&id| match &file.stmts[id].kind {
                StmtKind::Def(def) => *def.name.text == *name && self.program.mark(&file, def) != Mark::Setter,
                _ => false,
            });
            if let Some(&stmt) = last {
                return Ok(Some((Arc::clone(class), Definition { file: Arc::clone(&file), stmt, declared: None })));
            }
        }
        Ok(None)
    }

    /// Makes an object of a class of a text.
    fn instantiate(
        &mut self,
        frame: &mut Frame,
        class: &Arc<str>,
        args: Vec<Value>,
        named: Named,
        range: TextRange,
    ) -> Result<Value> {
        match self.program.kind_of_class(class)? {
            ClassKind::NamedTuple => return self.named_tuple(frame, class, args, named, range),
            ClassKind::Enum => {
                let members = self.enum_members(class)?.unwrap_or_default();
                let wanted = args.first().cloned().unwrap_or(Value::None);
                let found = members
                    .into_iter()
                    .find(|member| matches!(member, Value::Enum(_, _, v) if v.is_equal(&wanted, &self.heap, 0)));
                return found.ok_or_else(|| {
                    let text = format!(
                        "ValueError: {} is not a valid {}",
                        self.repr(&wanted, 0),
                        super::concrete::plain_name(class)
                    );
                    frame.error(range, text)
                });
            }
            ClassKind::Class | ClassKind::Module | ClassKind::Interface => {}
        }
        let classes = self.program.mro(class)?;
        let container = classes
            .iter()
            .find_map(|class| Container::named(class.strip_prefix(layers::MODULES)?.strip_prefix("container.")?));
        let is_module = self.program.kind_of_class(class)? == ClassKind::Module;
        let instance = Instance { class: Arc::clone(class), is_module, container, attrs: IndexMap::new(), parts: None };
        let at = self.heap.push(Cell::Instance(instance));
        match self.find_method(&classes, "__init__")? {
            Some((owner, definition)) => {
                let args = std::iter::once(Value::Ref(at)).chain(args).collect();
                self.run(frame, &definition, Some(&owner), None, args, named, range)?;
            }
            None if is_module => {
                self.module_method(frame, at, &"__init__".into(), args, named, range)?;
            }
            None => {}
        }
        Ok(Value::Ref(at))
    }

    fn named_tuple(
        &mut self,
        frame: &mut Frame,
        class: &Arc<str>,
        args: Vec<Value>,
        named: Named,
        range: TextRange,
    ) -> Result<Value> {
        self.program.item(class)?;
        let fields: Vec<Arc<str>> = self
            .program
            .classes
            .get(class)
            .map(|declared| declared.class.attrs.keys().cloned().collect())
            .unwrap_or_default();
        let defaults = self.program.field_defaults.get(class).cloned().unwrap_or_default();
        let mut values: Vec<Option<Value>> = args.into_iter().map(Some).collect();
        if values.len() > fields.len() {
            return Err(frame.error(
                range,
                format!("TypeError: {} takes {} fields", super::concrete::plain_name(class), fields.len()),
            ));
        }
        values.resize_with(fields.len(), || None);
        for (name, value) in named {
            match fields.iter().position(|field| *field == name) {
                Some(at) => values[at] = Some(value),
                None => {
                    return Err(frame.error(range, format!("TypeError: got an unexpected keyword argument '{name}'")));
                }
            }
        }
        let mut items = Vec::with_capacity(fields.len());
        for (at, value) in values.into_iter().enumerate() {
            items.push(match (value, defaults.get(at)) {
                (Some(value), _) => value,
                (None, Some(Some(default))) => self.eval(frame, default)?,
                (None, _) => {
                    return Err(frame
                        .error(range, format!("TypeError: missing 1 required positional argument: '{}'", fields[at])));
                }
            });
        }
        Ok(Value::NamedTuple(Arc::clone(class), items.into()))
    }

    /// Runs a function of a text.
    #[allow(clippy::too_many_arguments, reason = "what a call consists of")]
    pub(crate) fn run(
        &mut self,
        caller: &mut Frame,
        definition: &Definition,
        class: Option<&Arc<str>>,
        names: Option<&IndexMap<Arc<str>, Value>>,
        args: Vec<Value>,
        named: Named,
        range: TextRange,
    ) -> Result<Value> {
        let Some(parsed) = self.program.text_of(&definition.file) else {
            return Err(caller.unsupported(range, "calls of archived functions outside of compiled code"));
        };
        if self.depth >= MAX_CALLS {
            return Err(caller
                .unsupported(range, format!("calls that nest more than {MAX_CALLS} deep outside of compiled code")));
        }
        let def = definition.function();
        let mut frame = self.global_frame(&parsed);
        frame.is_global = false;
        frame.class = class.cloned();
        let wrong = |text: String| caller.error(range, format!("TypeError: {}() {text}", def.name.text));
        let (mut args, mut named) = (args.into_iter(), named);
        for param in &def.params {
            let name = &param.name.text;
            let by_name = named.iter().position(|(given, _)| given == name).map(|at| named.remove(at).1);
            let value = match param.kind {
                ParamKind::Rest => Value::Tuple(args.by_ref().collect()),
                ParamKind::KeywordRest => {
                    let rest =
                        std::mem::take(&mut named).into_iter().map(|(name, value)| (Value::Str(name), value)).collect();
                    Value::Ref(self.heap.push(Cell::Dict(rest)))
                }
                ParamKind::Plain | ParamKind::KeywordOnly => {
                    let by_place = if param.kind == ParamKind::Plain { args.next() } else { None };
                    match (by_place, by_name, &param.default) {
                        (Some(_), Some(_), _) => {
                            return Err(wrong(format!("got multiple values for argument '{name}'")));
                        }
                        (Some(value), None, _) | (None, Some(value), _) => value,
                        (None, None, Some(default)) => {
                            let mut outer = self.global_frame(&parsed);
                            self.eval(&mut outer, default)?
                        }
                        (None, None, None) => {
                            return Err(wrong(format!("missing 1 required positional argument: '{name}'")));
                        }
                    }
                }
            };
            frame.locals.insert(Arc::clone(name), value);
        }
        let n_left = args.count();
        if n_left > 0 {
            let (n, given) = (def.params.len(), def.params.len() + n_left);
            return Err(wrong(format!("takes {n} positional arguments but {given} were given")));
        }
        if let Some((name, _)) = named.first() {
            return Err(wrong(format!("got an unexpected keyword argument '{name}'")));
        }
        for (name, value) in names.into_iter().flatten() {
            frame.locals.entry(Arc::clone(name)).or_insert_with(|| value.clone());
        }
        self.depth += 1;
        let done = self.block(&mut frame, &def.body);
        self.depth -= 1;
        Ok(match done? {
            Flow::Return(value) => value,
            Flow::Next | Flow::Break | Flow::Continue => Value::None,
        })
    }

    /// A call of a library's function by its path.
    fn call_path(
        &mut self,
        frame: &mut Frame,
        path: &str,
        args: Vec<Value>,
        named: Named,
        range: TextRange,
    ) -> Result<Value> {
        if QUIET.contains(&path) {
            return Ok(Value::None);
        }
        if let Some(name) = path.strip_prefix("builtins.") {
            return self.builtin(frame, name, args, range);
        }
        if let Some(made) = self.jit(frame, path, &args, &named, range)? {
            return Ok(made);
        }
        if let (true, Some(first)) = (TRANSPARENT.contains(&path), args.first()) {
            return Ok(first.clone());
        }
        match (path, args.as_slice()) {
            ("torch.nn.Parameter" | "torch.nn.parameter.Parameter", [] | [_, ..]) => {
                let data = args
                    .first()
                    .cloned()
                    .or_else(|| named.iter().find(|(n, _)| &**n == "data").map(|(_, v)| v.clone()));
                let is_trained =
                    args.get(1).or_else(|| named.iter().find(|(n, _)| &**n == "requires_grad").map(|(_, v)| v));
                let requires_grad = !matches!(is_trained, Some(Value::Bool(false)));
                if let Some(Value::Unknown(why)) = &data {
                    return Err(Box::new((**why).clone()));
                }
                let elements = match data.as_ref().and_then(|data| self.tensor_cell(data)) {
                    Some(cell) => cell.elements,
                    None => return Err(frame.error(range, "TypeError: Parameter() expects a tensor")),
                };
                let cell = TensorCell { elements, is_parameter: true, requires_grad, is_view: false };
                Ok(Value::Ref(self.heap.push(Cell::Tensor(cell))))
            }
            ("torch.manual_seed" | "torch.random.manual_seed", [Value::Int(seed)]) => {
                self.generator = aot_runtime::random::Generator::new(seed.cast_unsigned());
                Ok(Value::None)
            }
            ("torch.device", [Value::Str(text)]) => Ok(Value::Device(Arc::clone(text))),
            ("torch.device", [Value::Device(_)]) => Ok(args[0].clone()),
            ("torch.is_tensor", [value]) => Ok(Value::Bool(self.is_tensor(value))),
            ("torch.get_default_dtype", []) => Ok(Value::Path("torch.float32".into())),
            ("torch.jit.is_scripting" | "torch.cuda.is_available", []) => Ok(Value::Bool(false)),
            ("collections.OrderedDict", []) => Ok(Value::Ref(self.heap.push(Cell::Dict(Vec::new())))),
            ("collections.OrderedDict", [source]) => self.builtin(frame, "dict", vec![source.clone()], range),
            ("copy.deepcopy" | "copy.copy", [value]) => self.copied(frame, value, path == "copy.deepcopy", range),
            (_, values) if path.starts_with("math.") => self.math(frame, path, values, range),
            _ if path.starts_with("torch.nn.") && self.is_layer(path) => {
                let text = format!("the layer '{path}' without an archive that holds its attributes");
                Err(frame.unsupported(range, text))
            }
            (_, [tensor, rest @ ..])
                if path.starts_with("torch.")
                    && path.ends_with('_')
                    && self.is_tensor(tensor)
                    && !self.is_tracing() =>
            {
                // What writes to its argument is a method of it; initialisers have theirs with the generator last.
                let name = path.rsplit('.').next().unwrap_or(path);
                let (method, rest) = match (name.strip_prefix("_no_grad_"), rest) {
                    (Some(method), [rest @ .., Value::None]) => (method, rest),
                    (Some(method), _) => (method, rest),
                    (None, _) => (name, rest),
                };
                self.tensor_method(frame, tensor, method, rest.to_vec(), named, range)
            }
            _ if path.starts_with("torch.") => self.tensor_function(frame, path, args, named, range),
            _ => Err(frame.unsupported(range, format!("'{path}' outside of compiled code"))),
        }
    }

    /// Whether the path names a class below `torch.nn`.
    fn is_layer(&self, path: &str) -> bool {
        path.rsplit('.').next().is_some_and(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
    }

    /// A number's function of `math`.
    fn math(&mut self, frame: &Frame, path: &str, args: &[Value], range: TextRange) -> Result<Value> {
        let numbers: Option<Vec<f64>> = args.iter().map(Value::as_float).collect();
        let domain = || frame.error(range, "ValueError: math domain error");
        let name = path.rsplit('.').next().unwrap_or(path);
        let made = match (name, numbers.as_deref()) {
            ("sqrt", Some([x])) if *x >= 0.0 => x.sqrt(),
            ("log", Some([x])) if *x > 0.0 => x.ln(),
            ("log", Some([x, base])) if *x > 0.0 && *base > 0.0 => x.ln() / base.ln(),
            ("log2", Some([x])) if *x > 0.0 => x.log2(),
            ("log10", Some([x])) if *x > 0.0 => x.log10(),
            ("sqrt" | "log" | "log2" | "log10", Some(_)) => return Err(domain()),
            ("exp", Some([x])) => x.exp(),
            ("sin", Some([x])) => x.sin(),
            ("cos", Some([x])) => x.cos(),
            ("tan", Some([x])) => x.tan(),
            ("atan", Some([x])) => x.atan(),
            ("tanh", Some([x])) => x.tanh(),
            ("fabs", Some([x])) => x.abs(),
            ("pow", Some([x, y])) => x.powf(*y),
            ("floor" | "ceil" | "trunc", Some([x])) => {
                let whole = match name {
                    "floor" => x.floor(),
                    "ceil" => x.ceil(),
                    _ => x.trunc(),
                };
                return Ok(Value::Int(whole as i64));
            }
            ("isnan", Some([x])) => return Ok(Value::Bool(x.is_nan())),
            ("isinf", Some([x])) => return Ok(Value::Bool(x.is_infinite())),
            ("prod", None) => {
                let [all] = args else { return Err(frame.unsupported(range, "math.prod of these arguments")) };
                let mut product = Value::Int(1);
                let mut inner = Frame {
                    locals: IndexMap::new(),
                    file: Arc::clone(&frame.file),
                    parsed: Arc::clone(&frame.parsed),
                    class: None,
                    is_global: false,
                };
                for item in self.items(&mut inner, all, range)? {
                    product = self.binary(&mut inner, ast::BinaryOp::Mul, &product, &item, range)?;
                }
                return Ok(product);
            }
            _ => return Err(frame.unsupported(range, format!("'{path}' outside of compiled code"))),
        };
        Ok(Value::Float(made))
    }

    /// A copy whose parts are shared unless it is deep.
    fn copied(&mut self, frame: &Frame, value: &Value, is_deep: bool, range: TextRange) -> Result<Value> {
        let mut known: Vec<(Ref, Ref)> = Vec::new();
        match value {
            Value::Ref(at) if !is_deep => {
                let cell = self.heap[*at].clone();
                Ok(Value::Ref(self.heap.push(cell)))
            }
            Value::Unknown(_) => Err(self.refused(frame, value, "a copy", range)),
            other => self.deep(other, &mut known),
        }
    }

    fn deep(&mut self, value: &Value, known: &mut Vec<(Ref, Ref)>) -> Result<Value> {
        self.descend()?;
        let made = self.deep_inner(value, known);
        self.depth -= 1;
        made
    }

    fn deep_inner(&mut self, value: &Value, known: &mut Vec<(Ref, Ref)>) -> Result<Value> {
        match value {
            Value::Ref(at) => {
                if let Some((_, copy)) = known.iter().find(|(old, _)| old == at) {
                    return Ok(Value::Ref(*copy));
                }
                let copy = self.heap.push(Cell::List(Vec::new()));
                known.push((*at, copy));
                let cell = match self.heap[*at].clone() {
                    Cell::List(items) => {
                        Cell::List(items.iter().map(|item| self.deep(item, known)).collect::<Result<_>>()?)
                    }
                    Cell::Set(items) => Cell::Set(items),
                    Cell::Dict(entries) => {
                        let entry = |(k, v): &(Value, Value)| Ok((k.clone(), self.deep(v, known)?));
                        Cell::Dict(entries.iter().map(entry).collect::<Result<_>>()?)
                    }
                    Cell::Tensor(tensor) => match self.deep(&Value::Ref(tensor.elements), known)? {
                        Value::Ref(elements) => Cell::Tensor(TensorCell { elements, ..tensor }),
                        _ => Cell::Tensor(tensor),
                    },
                    Cell::Attribute(inner, ty) => Cell::Attribute(self.deep(&inner, known)?, ty),
                    Cell::Instance(mut instance) => {
                        let parts = instance.parts.iter_mut();
                        let groups =
                            parts.flat_map(|parts| [&mut parts.parameters, &mut parts.buffers, &mut parts.modules]);
                        for group in std::iter::once(&mut instance.attrs).chain(groups) {
                            for item in group.values_mut() {
                                *item = self.deep(item, known)?;
                            }
                        }
                        Cell::Instance(instance)
                    }
                    other @ (Cell::Elements(_) | Cell::Traced(_)) => other,
                };
                self.heap[copy] = cell;
                Ok(Value::Ref(copy))
            }
            Value::Tuple(items) => {
                Ok(Value::Tuple(items.iter().map(|item| self.deep(item, known)).collect::<Result<_>>()?))
            }
            other => Ok(other.clone()),
        }
    }
}
