//! What `torch.jit` does to live objects: compiles, traces, freezes, saves and loads them.

use super::super::construct::{Frame, Interpreter, Named, Ref, Value};
use super::argument;
use crate::diag::Result;
use crate::ir::Module;
use crate::script::source;
use crate::syntax::ast::TextRange;
use crate::types::IValue;
use indexmap::IndexMap;
use std::sync::Arc;

impl Interpreter<'_, '_> {
    /// A call of a function of `torch.jit`; `None` if it is none that is known here.
    pub(crate) fn jit(
        &mut self,
        frame: &mut Frame,
        path: &str,
        args: &[Value],
        named: &Named,
        range: TextRange,
    ) -> Result<Option<Value>> {
        let Some(name) = path.strip_prefix("torch.jit.") else { return Ok(None) };
        let argument = |at: usize, key: &str| argument(args, named, at, key);
        if let Some(Value::Unknown(why)) = args.iter().find(|arg| matches!(arg, Value::Unknown(_))) {
            return Err(Box::new((**why).clone()));
        }
        Ok(Some(match name {
            "is_tracing" => Value::Bool(self.tracer.as_ref().is_some_and(|tracer| !tracer.is_paused())),
            "trace" => self.trace(frame, args, named, range)?,
            "trace_module" => self.trace_module(frame, args, named, range)?,
            "script" => match argument(0, "obj") {
                Some(Value::Function(name)) => {
                    self.program.compile_function(&name, None, Some(&frame.span(range)))?;
                    Value::Compiled(name)
                }
                Some(module @ Value::Ref(at)) if self.is_module(&module) => {
                    self.compiled.insert(at);
                    module
                }
                Some(other) => other,
                None => {
                    return Err(frame.error(range, "TypeError: script() missing 1 required positional argument: 'obj'"));
                }
            },
            "freeze" => {
                let Some(module) = argument(0, "mod") else {
                    return Err(frame.error(range, "TypeError: freeze() missing 1 required positional argument: 'mod'"));
                };
                let preserved = match argument(1, "preserved_attrs") {
                    Some(names) => self.items(frame, &names, range)?,
                    None => Vec::new(),
                };
                let preserved = preserved
                    .iter()
                    .filter_map(|name| if let Value::Str(name) = name { Some(Arc::clone(name)) } else { None });
                let preserved: Vec<Arc<str>> = preserved.collect();
                let module = self.module_of(frame, &module, range)?;
                Value::Module(Arc::new((self.machine.freeze)(module, &preserved)?))
            }
            "save" => {
                let (Some(module), Some(Value::Str(path))) = (argument(0, "m"), argument(1, "f")) else {
                    return Err(frame.unsupported(range, "saving to something that is no path"));
                };
                self.saved.insert(path, module);
                Value::None
            }
            "load" => {
                let Some(Value::Str(path)) = argument(0, "f") else {
                    return Err(frame.unsupported(range, "loading from something that is no path"));
                };
                match self.saved.get(&path) {
                    Some(module) => module.clone(),
                    None => {
                        return Err(
                            frame.unsupported(range, format!("loading the archive '{path}' while a text is compiled"))
                        );
                    }
                }
            }
            _ => return Ok(None),
        }))
    }

    /// A compiled module with all methods that others may call.
    fn module_of(&mut self, frame: &Frame, value: &Value, range: TextRange) -> Result<Module> {
        match value {
            Value::Module(module) => Ok((**module).clone()),
            Value::Ref(at) if self.is_module(value) => {
                let (at, is_compiled) = (*at, self.is_compiled_module(*at));
                if !is_compiled {
                    return Err(frame.error(
                        range,
                        "RuntimeError: Freezing expects a ScriptModule as input. Please use torch.jit.script or torch.jit.trace to \
                         script your 'nn.Module'.",
                    ));
                }
                let root = self.concrete_object(at)?;
                source::compile_object(self.program, &root)?;
                let mut module = self.compiled_module();
                module.root = root;
                Ok(module)
            }
            other => Err(self.refused(frame, other, "freezing", range)),
        }
    }

    /// Whether a module is compiled: scripted or traced.
    pub(crate) fn is_compiled_module(&self, at: Ref) -> bool {
        self.compiled.contains(&at)
    }

    /// The functions and classes of the program so far, as a module without a root of its own.
    pub(crate) fn compiled_module(&self) -> Module {
        let classes =
            self.program.classes.iter().map(|(name, declared)| (Arc::clone(name), declared.class.clone())).collect();
        let root = Arc::new(crate::types::Object { class: source::FUNCTION_MODULE.into(), attrs: IndexMap::new() });
        Module { classes, functions: self.program.functions.clone(), root }
    }

    /// A call of a compiled function.
    pub(crate) fn call_compiled(
        &mut self,
        frame: &mut Frame,
        name: &Arc<str>,
        args: Vec<Value>,
        named: Named,
        range: TextRange,
    ) -> Result<Value> {
        if self.is_tracing() {
            return self.trace_compiled(frame, name, None, args, named, range);
        }
        let mut module = self.compiled_module();
        source::wrap(&mut module, name)?;
        let mut inputs = Vec::with_capacity(args.len());
        for arg in &args {
            match self.tensor_cell(arg) {
                Some(cell) if named.is_empty() => inputs.push(IValue::Tensor(self.data(cell))),
                _ => return Err(frame.unsupported(range, "a call of a compiled function with arguments of this kind")),
            }
        }
        let made = (self.machine.evaluate)(&module, &inputs, &mut self.generator);
        let made = made.map_err(|error| error.at(Some(&frame.span(range))))?;
        Ok(self.value_of(&made))
    }

    /// Makes a module one that was traced, of this class.
    pub(crate) fn set_class_of(&mut self, at: Ref, class: &Arc<str>) {
        self.compiled.insert(at);
        self.types.set_class(at, class);
    }

    /// The next number that tells names apart.
    pub(crate) fn next_mangle(&mut self) -> usize {
        self.types.next_mangle()
    }
}
