//! Instances without an archive: module-level statements and constructors run on values of Python, and what they make
//! becomes the classes and objects of the program, as `torch.jit.script` makes them of live objects.
//!
//! ```text
//! top level, __init__ ─► Interpreter (stmt, expr, operators, call, modules, tensor) ─► values
//!                                                                                        │ infer, concrete
//!                                      script: methods of these classes ◄── classes, root object
//! ```
//!
//! Only the subset of Python that constructors are written in is known. What is not known makes an *unknown* value that
//! is an error only where something needs it. Tensors are computed by compiling the expression as a small function and
//! running it on [`Evaluate`], so operators have no second definition here.

mod arguments;
mod builtins;
mod call;
mod concrete;
mod containers;
mod expr;
mod given;
mod infer;
mod module_containers;
mod modules;
mod operators;
mod stmt;
mod tensor;
mod text;
mod value;

pub(crate) use concrete::{FunctionAttribute, Missing, ModuleFacts};

use super::names::{ParsedFile, Program};
use super::trace::Tracer;
use crate::diag::{Blame, Diagnostic, Result};
use crate::index::Id as _;
use crate::ir::Module;
use crate::source::Span;
use crate::syntax::ast::{self, Expr, ExprKind, File, StmtKind, TextRange};
use crate::types::{IValue, Object, Type};
use aot_runtime::random::Generator;
pub(crate) use call::Named;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
pub(crate) use tensor::element;
pub(crate) use value::{Cell, Heap, Ref, TracedTensor, Value, type_name};

/// Runs `forward` of a module without state on arguments, drawing random numbers from a generator: what stands below this
/// layer cannot do so itself.
pub type Evaluate = fn(&Module, &[IValue], &mut Generator) -> Result<IValue>;

/// What running Python needs of the layers above.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Runs a computation.
    pub evaluate: Evaluate,
    /// The type of what `forward` of a module gives for tensors of these types; a list of known length is a tuple.
    pub infer: fn(&Module, &[Type]) -> Result<Type>,
    /// Freezes a module that was just compiled; what is named stays.
    pub freeze: fn(Module, &[Arc<str>]) -> Result<Module>,
}

/// Most statements and expressions that run before a text is taken to loop.
const MAX_STEPS: usize = 5_000_000;

/// How deep calls may nest.
const MAX_CALLS: usize = 200;

/// How deep values may nest, calls around them included.
const MAX_NESTING: usize = 1000;

/// Longest list, tuple, range or text.
const MAX_ITEMS: usize = 10_000_000;

/// Runs module-level statements and constructors.
pub(crate) struct Interpreter<'p, 'a> {
    pub program: &'p mut Program<'a>,
    pub machine: Machine,
    /// The trace under way.
    pub tracer: Option<Box<Tracer>>,
    /// Modules that are compiled: scripted or traced ones.
    pub compiled: HashSet<Ref>,
    /// Models that were saved, by their paths.
    pub saved: HashMap<Arc<str>, Value>,
    pub heap: Heap,
    pub generator: Generator,
    /// Values of top-level names by module and name.
    globals: HashMap<(Arc<str>, Arc<str>), Value>,
    /// Globals that are being evaluated, so that they are not asked for again.
    pending: Vec<(Arc<str>, Arc<str>)>,
    n_steps: usize,
    pub(crate) depth: usize,
    /// The oldest thing that was changed, or would have been, since the present assignment began.
    oldest_changed: usize,
    pub types: concrete::Store,
}

/// What names mean where a statement runs.
pub(crate) struct Frame {
    pub file: Arc<File>,
    pub parsed: Arc<ParsedFile>,
    pub locals: indexmap::IndexMap<Arc<str>, Value>,
    /// The class whose method runs.
    pub class: Option<Arc<str>>,
    /// Whether assigned names are the module's.
    pub is_global: bool,
}

/// How a statement ends.
pub(crate) enum Flow {
    Next,
    Return(Value),
    Break,
    Continue,
}

impl Frame {
    /// The same place without variables, for what runs in Python functions of libraries.
    pub(crate) fn nameless(&self) -> Self {
        Self {
            file: Arc::clone(&self.file),
            parsed: Arc::clone(&self.parsed),
            locals: indexmap::IndexMap::new(),
            class: None,
            is_global: false,
        }
    }

    pub(crate) fn span(&self, range: TextRange) -> Span {
        self.file.span(range)
    }

    /// An error of the user's: what Python would raise.
    pub(crate) fn error(&self, range: TextRange, message: impl Into<String>) -> Box<Diagnostic> {
        Diagnostic::user(message).at(Some(&self.span(range)))
    }

    /// What is right in Python but not known here.
    pub(crate) fn unsupported(&self, range: TextRange, message: impl Into<String>) -> Box<Diagnostic> {
        Diagnostic::unsupported(message).at(Some(&self.span(range)))
    }
}

impl<'p, 'a> Interpreter<'p, 'a> {
    pub(crate) fn new(program: &'p mut Program<'a>, machine: Machine) -> Self {
        Self {
            program,
            machine,
            tracer: None,
            compiled: HashSet::new(),
            saved: HashMap::new(),
            heap: Heap::new(),
            generator: Generator::default(),
            globals: HashMap::new(),
            pending: Vec::new(),
            n_steps: 0,
            depth: 0,
            oldest_changed: usize::MAX,
            types: concrete::Store::default(),
        }
    }

    /// Runs the statements of a file's top level in order. One that fails leaves its names unknown.
    pub(crate) fn run_file(&mut self, parsed: &Arc<ParsedFile>) {
        let mut frame = self.global_frame(parsed);
        for &id in &parsed.file.body.stmts {
            match self.stmt(&mut frame, id) {
                Ok(Flow::Return(_)) => break,
                Ok(Flow::Next | Flow::Break | Flow::Continue) => {}
                Err(error) => self.forget(&frame, id, &Arc::new(*error)),
            }
        }
    }

    pub(crate) fn global_frame(&self, parsed: &Arc<ParsedFile>) -> Frame {
        Frame {
            file: Arc::clone(&parsed.file),
            parsed: Arc::clone(parsed),
            locals: indexmap::IndexMap::new(),
            class: None,
            is_global: true,
        }
    }

    /// Makes unknown what a statement that could not be run might have assigned or changed.
    fn forget(&mut self, frame: &Frame, id: ast::StmtId, why: &Arc<Diagnostic>) {
        let file = &frame.file;
        let key = |name: &Arc<str>| (Arc::clone(&frame.parsed.module), Arc::clone(name));
        let mut targets = indexmap::IndexSet::new();
        let mut changed = indexmap::IndexSet::new();
        match &file.stmts[id].kind {
            StmtKind::Assign { targets: all, .. } => {
                for target in all {
                    super::form::expr_names(target, &mut targets);
                }
            }
            StmtKind::AnnAssign { target, .. } | StmtKind::AugAssign { target, .. } => {
                super::form::expr_names(target, &mut targets);
            }
            // A library's function, such as `torch.save`, leaves objects as they are.
            StmtKind::Expr(Expr { kind: ExprKind::Call { callee, .. }, .. }) if self.is_of_library(frame, callee) => {}
            _ => super::form::read_names(file, &[id], &mut changed),
        }
        for name in targets {
            self.globals.insert(key(&name), Value::Unknown(Arc::clone(why)));
        }
        for name in changed {
            if matches!(self.globals.get(&key(&name)), Some(Value::Ref(_))) {
                self.globals.insert(key(&name), Value::Unknown(Arc::clone(why)));
            }
        }
    }

    fn is_of_library(&self, frame: &Frame, callee: &Expr) -> bool {
        let Some(path) = super::names::dotted(callee) else { return false };
        let first = path.split('.').next().unwrap_or(&path);
        frame.parsed.imports.contains_key(first)
            || !self.globals.contains_key(&(Arc::clone(&frame.parsed.module), first.into()))
                && !frame.parsed.items.contains_key(first)
    }

    /// The value of a name at a file's top level, if it has one.
    pub(crate) fn global(&self, parsed: &ParsedFile, name: &str) -> Option<Value> {
        self.globals.get(&(Arc::clone(&parsed.module), name.into())).cloned()
    }

    /// The module instance that an entry's name stands for: the value of a variable, or a class called without arguments.
    pub(crate) fn entry(&mut self, parsed: &Arc<ParsedFile>, name: &str) -> Result<Value> {
        if let Some(value) = self.global(parsed, name) {
            return Ok(value);
        }
        let mut frame = self.global_frame(parsed);
        let range = match parsed.items.get(name).map(|&id| &parsed.file.stmts[id].kind) {
            Some(StmtKind::Class(class)) => class.head,
            _ => TextRange::default(),
        };
        let class = self.load_name(&mut frame, &name.into(), range)?;
        self.call(&mut frame, class, Vec::new(), Vec::new(), range)
    }

    /// The last variable of the top level that holds a module.
    pub(crate) fn last_instance(&self, parsed: &ParsedFile) -> Option<Value> {
        let mut named: Vec<_> = parsed.values.iter().collect();
        named.sort_by_key(|(_, id)| std::cmp::Reverse(**id));
        named.into_iter().find_map(|(name, _)| {
            let value = self.global(parsed, name)?;
            self.is_module(&value).then_some(value)
        })
    }

    /// The last variable of the top level that holds something compiled, or that could not be made, unless a function or class comes after it.
    pub(crate) fn last_compiled(&self, parsed: &ParsedFile) -> Option<Value> {
        let (name, at) = parsed.values.iter().max_by_key(|(_, id)| **id)?;
        let is_last = parsed.items.values().all(|id| id < at);
        let value = self.global(parsed, name).filter(|_| is_last)?;
        let is_compiled = match &value {
            Value::Compiled(_) | Value::Module(_) | Value::Unknown(_) => true,
            Value::Ref(at) => self.is_compiled_module(*at),
            _ => false,
        };
        is_compiled.then_some(value)
    }

    /// Declares the class of a module and of everything it holds, and gives it as an object.
    pub(crate) fn finish(&mut self, value: &Value) -> Result<Arc<Object>> {
        match value {
            Value::Unknown(why) => Err(Box::new((**why).clone())),
            Value::Ref(at) if self.is_module(value) => self.concrete_object(*at),
            other => {
                Err(Diagnostic::user(format!("a module is expected, found a {}", value::type_name(other, &self.heap))))
            }
        }
    }

    /// Lets compiled code of a text call what its variables hold: functions that are compiled already. Where Python would have
    /// failed to make one, using it says why.
    pub(crate) fn give_functions(&mut self, parsed: &ParsedFile) {
        let function = |name: &Arc<str>| match self.global(parsed, name) {
            Some(Value::Compiled(function)) => Some((Arc::clone(name), Ok(function))),
            Some(Value::Unknown(why)) if why.blame == Blame::User => Some((Arc::clone(name), Err(why))),
            _ => None,
        };
        self.program.given = parsed.values.keys().filter_map(function).collect();
    }

    /// Goes one level deeper into a value; the caller comes back with `depth -= 1`.
    pub(crate) fn descend(&mut self) -> Result<()> {
        self.n_steps += 1;
        if self.n_steps > MAX_STEPS || self.depth >= MAX_NESTING {
            return Err(Diagnostic::unsupported("values of this size or depth outside of compiled code"));
        }
        self.depth += 1;
        Ok(())
    }

    /// Notes that a thing is about to be changed.
    pub(crate) fn touch(&mut self, at: Ref) {
        self.oldest_changed = self.oldest_changed.min(at.index());
    }

    /// Counts a step.
    fn step(&mut self, frame: &Frame, range: TextRange) -> Result<()> {
        self.n_steps += 1;
        if self.n_steps > MAX_STEPS {
            return Err(frame.unsupported(range, "module-level code that runs this long"));
        }
        Ok(())
    }
}
