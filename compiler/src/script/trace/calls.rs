//! Calls under trace: of modules, whose operators become their methods, and of compiled functions, which stay calls.

use super::super::construct::{Cell, Frame, Interpreter, Named, Ref, Value};
use super::matching::Arg;
use super::operators::Input;
use super::record::Traced;
use crate::diag::{Blame, Diagnostic, Result};
use crate::ir::{Argument, Attr, OpName};
use crate::script::names::dotted;
use crate::source::Span;
use crate::syntax::ast::{ExprKind, TextRange};
use crate::types::{IValue, Type};
use std::sync::Arc;

impl Interpreter<'_, '_> {
    /// A call of a module under trace.
    pub(crate) fn trace_module_call(
        &mut self,
        frame: &mut Frame,
        at: Ref,
        args: Vec<Value>,
        named: Named,
        range: TextRange,
    ) -> Result<Value> {
        let object = Value::Ref(at);
        let known = self.tracer.as_ref().and_then(|tracer| tracer.modules.get(&at)).cloned();
        let Some(module) = known else {
            if self.is_compiled_module(at) {
                return Err(frame.unsupported(range, "a call of a compiled module that is no part of what is traced"));
            }
            return self.call_method(frame, &object, &"forward".into(), args, named, range);
        };
        if module.is_compiled {
            let name: Arc<str> = format!("{}.forward", module.class).into();
            return self.trace_compiled(frame, &name, Some(at), args, named, range);
        }
        let span = frame.span(range);
        if let Some(tracer) = &mut self.tracer {
            tracer.recorder.enter(module.path, module.class, Some(&span));
        }
        let made = self.call_method(frame, &object, &"forward".into(), args, named, range);
        if let Some(tracer) = &mut self.tracer {
            tracer.recorder.leave();
        }
        made
    }

    /// Whether a function of a text is compiled where it is defined.
    pub(crate) fn is_compiled_function(&mut self, name: &Arc<str>) -> Result<bool> {
        let Some(definition) = self.program.definition(name)? else { return Ok(false) };
        let found = definition.function().decorators.iter().any(|decorator| {
            let callee = if let ExprKind::Call { callee, .. } = &decorator.kind { callee } else { decorator };
            let path = dotted(callee).map(|path| self.program.absolute(&definition.file, &path)).unwrap_or_default();
            matches!(path.as_str(), "torch.jit.script" | "torch.jit.script_if_tracing")
        });
        Ok(found)
    }

    /// A call of a compiled function, or of a method of a compiled module, as a node.
    pub(crate) fn trace_compiled(
        &mut self,
        frame: &mut Frame,
        name: &Arc<str>,
        object: Option<Ref>,
        args: Vec<Value>,
        named: Named,
        range: TextRange,
    ) -> Result<Value> {
        if self.tracer.as_ref().is_some_and(|tracer| tracer.is_paused()) {
            return self.run_compiled(frame, name, object, args, named, range);
        }
        let span = frame.span(range);
        let owner = name.rsplit_once('.').map(|(class, _)| Type::Class(class.into())).filter(|_| object.is_some());
        self.program.compile_function(name, owner.as_ref(), Some(&span))?;
        let Some(function) = self.program.functions.get(name) else {
            return Err(Diagnostic::internal("a compiled function is missing"));
        };
        let (params, result) = (function.params[usize::from(object.is_some())..].to_vec(), function.result.clone());
        let bound = self.bound(frame, &params, &args, &named, range)?;
        let mut inputs = Vec::with_capacity(bound.len() + 1);
        match object {
            Some(at) => {
                let path =
                    self.tracer.as_ref().and_then(|tracer| tracer.modules.get(&at)).map(|module| module.path.clone());
                let object = self.concrete_object(at)?;
                let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
                let ty = Type::Class(Arc::clone(&object.class));
                let eager = tracer.eager.constant(IValue::Object(object), ty.clone());
                inputs.push((tracer.recorder.attribute_value(&path.unwrap_or_default(), &ty), eager));
            }
            None => {
                let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
                let attrs = || vec![("name", Attr::Name(Arc::clone(name)))];
                let op = || OpName::new("prim::Constant");
                let eager = tracer.eager.node(op(), attrs(), Vec::new(), &[Type::Function]);
                inputs
                    .push((tracer.recorder.node_with(op(), attrs(), &[], &[Type::Function], Some(&span))[0], eager[0]));
            }
        }
        for (value, param) in bound.iter().zip(&params) {
            inputs.push(self.value_input(frame, value, &param.ty, &span)?);
        }
        // Run by itself first: what it gives may be one of its arguments.
        let made = if self.program.functions.get(name).is_some_and(|function| function.is_traced) {
            None
        } else {
            self.pause(true);
            let made = self.run_compiled(frame, name, object, args, named, range);
            self.pause(false);
            match made {
                Err(error) if error.blame != Blame::User => None,
                made => Some(made?),
            }
        };
        let (traced_inputs, eager_inputs): (Vec<Traced>, Vec<_>) = inputs.into_iter().unzip();
        let (op, attrs) = match object {
            Some(_) => {
                let method = name.rsplit('.').next().unwrap_or(name);
                (OpName::new("prim::CallMethod"), vec![("name", Attr::Name(method.into()))])
            }
            None => (OpName::new("prim::CallFunction"), Vec::new()),
        };
        let around = self.compiled_module();
        let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
        let types = std::slice::from_ref(&result);
        let traced = tracer.recorder.node_with(op.clone(), attrs.clone(), &traced_inputs, types, Some(&span));
        if let Some(made) = made {
            let bound = self.bind_result(&made, traced[0], &result);
            bound.map_err(|error| error.at(Some(&span)))?;
            return Ok(made);
        }
        let inferred = tracer.eager.infer(&self.machine, &around, &op, &attrs, &eager_inputs, types)?;
        let known = match (&result, &inferred[..]) {
            (Type::Tensor(_), [one @ Type::Tensor(_)]) => one.clone(),
            _ => result.clone(),
        };
        let eager = tracer.eager.node(op, attrs, eager_inputs, &[known]);
        match &inferred[..] {
            [one] => self.result((traced[0], eager[0]), &result, one),
            several => self.result((traced[0], eager[0]), &result, &Type::Tuple(several.into())),
        }
    }

    fn pause(&mut self, is_on: bool) {
        if let Some(tracer) = &mut self.tracer {
            tracer.recorder.is_paused = is_on;
        }
    }

    /// Runs the Python that a compiled function was compiled from.
    fn run_compiled(
        &mut self,
        frame: &mut Frame,
        name: &Arc<str>,
        object: Option<Ref>,
        args: Vec<Value>,
        named: Named,
        range: TextRange,
    ) -> Result<Value> {
        match object {
            Some(at) => {
                let method = name.rsplit('.').next().unwrap_or(name).into();
                self.call_method(frame, &Value::Ref(at), &method, args, named, range)
            }
            None => match self.program.definition(name)? {
                Some(definition) => self.run(frame, &definition, None, None, args, named, range),
                None => Err(frame.unsupported(range, format!("running the archived function {name}"))),
            },
        }
    }

    /// Arguments in the order of parameters.
    fn bound(
        &mut self,
        frame: &mut Frame,
        params: &[Argument],
        args: &[Value],
        named: &Named,
        range: TextRange,
    ) -> Result<Vec<Value>> {
        let mut bound = Vec::with_capacity(params.len());
        for (at, param) in params.iter().enumerate() {
            let by_name = || named.iter().find(|(name, _)| *name == param.name).map(|(_, value)| value.clone());
            bound.push(match (args.get(at).cloned().or_else(by_name), &param.default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.value_of(default),
                (None, None) => {
                    return Err(
                        frame.error(range, format!("RuntimeError: missing value for argument '{}'", param.name))
                    );
                }
            });
        }
        if args.len() > params.len() {
            let text =
                format!("RuntimeError: expected at most {} argument(s) but received {}", params.len(), args.len());
            return Err(frame.error(range, text));
        }
        Ok(bound)
    }

    /// A value of Python as an input of a call.
    fn value_input(&mut self, frame: &mut Frame, value: &Value, ty: &Type, span: &Span) -> Result<Input> {
        let range = TextRange { start: span.start as u32, end: span.end as u32 };
        if let (Type::Tuple(types), Value::Tuple(items)) = (ty, value) {
            let mut inputs = Vec::with_capacity(items.len());
            for (item, ty) in items.iter().zip(types.iter()) {
                inputs.push(self.value_input(frame, item, ty, span)?);
            }
            let (traced, eager): (Vec<Traced>, Vec<_>) = inputs.into_iter().unzip();
            let Some(tracer) = &mut self.tracer else { return Err(Diagnostic::internal("there is no trace")) };
            let op = || OpName::new("prim::TupleConstruct");
            let eager = tracer.eager.node(op(), Vec::new(), eager, std::slice::from_ref(ty));
            return Ok((tracer.recorder.node(op(), &traced, std::slice::from_ref(ty), Some(span))[0], eager[0]));
        }
        let arg = self.argument(frame, value, range)?;
        let fits = match (ty, &arg) {
            (Type::Tensor(_), Arg::Tensor(_)) => true,
            (Type::Tensor(_), _) => false,
            _ => true,
        };
        if !fits {
            return Err(
                frame.error(range, format!("RuntimeError: a Tensor is expected, found a {}", self.repr(value, 0)))
            );
        }
        self.input(frame, &arg, ty, span)
    }

    /// Makes what a call gave stand for the node's result.
    fn bind_result(&mut self, made: &Value, traced: Traced, ty: &Type) -> Result<()> {
        let Some(tracer) = &mut self.tracer else { return Ok(()) };
        let (items, parts, types) = match (made, ty) {
            (Value::Ref(at), Type::Tensor(_) | Type::Optional(_))
                if matches!(self.heap[*at], Cell::Tensor(_) | Cell::Traced(_)) =>
            {
                tracer.values.insert(*at, traced);
                return Ok(());
            }
            (Value::Tuple(items) | Value::NamedTuple(_, items), Type::Tuple(types)) => {
                let parts = tracer.recorder.node(OpName::new("prim::TupleUnpack"), &[traced], types, None);
                (items.to_vec(), parts, types.to_vec())
            }
            (Value::Ref(at), Type::List(item)) if let Cell::List(items) = &self.heap[*at] => {
                let types = vec![(**item).clone(); items.len()];
                let parts = tracer.recorder.node(OpName::new("prim::ListUnpack"), &[traced], &types, None);
                (items.clone(), parts, types)
            }
            (Value::Ref(at), Type::Dict(key_type, item)) if let Cell::Dict(entries) = &self.heap[*at] => {
                let mut parts = Vec::with_capacity(entries.len());
                for (key, _) in entries {
                    let key = match key {
                        Value::Str(text) => IValue::Str(Arc::clone(text)),
                        Value::Int(n) => IValue::Int(*n),
                        _ => return Err(Diagnostic::unsupported(format!("keys of type {key_type} under trace"))),
                    };
                    let key = tracer.recorder.constant(key, (**key_type).clone(), None);
                    let get = OpName::new("aten::__getitem__");
                    parts.extend(tracer.recorder.node(get, &[traced, key], std::slice::from_ref(&**item), None));
                }
                let items = entries.iter().map(|(_, item)| item.clone()).collect();
                (items, parts, vec![(**item).clone(); entries.len()])
            }
            _ => {
                let what = match (made, ty) {
                    (Value::None, _) => "None",
                    (_, Type::Bool) => "Bool",
                    (_, Type::Int) => "Int",
                    (_, Type::Float) => "Double",
                    (_, Type::Complex) => "ComplexDouble",
                    (_, Type::Str) => "String",
                    (_, Type::Device) => "Device",
                    (_, Type::Enum(..)) => "Enum",
                    _ => "Object",
                };
                return Err(Diagnostic::user(format!(
                    "RuntimeError: Tracer cannot set value trace for type {what}. Supported types are tensor, tensor list, and tuple of tensors."
                )));
            }
        };
        for ((item, part), ty) in items.iter().zip(parts).zip(&types) {
            self.bind_result(item, part, ty)?;
        }
        Ok(())
    }
}
