//! What the front end makes of an archive: classes, functions, and the root object.

use super::{Attr, Graph, Node};
use crate::diag::Diagnostic;
use crate::source::Span;
use crate::types::{IValue, Object, Type};
use indexmap::IndexMap;
use std::sync::Arc;

/// A parameter or result of a function.
#[derive(Clone, Debug)]
pub struct Argument {
    /// Name; empty for results.
    pub name: Arc<str>,
    /// Static type.
    pub ty: Type,
    /// Default value, if it has one.
    pub default: Option<IValue>,
}

/// A compiled function or method; a method's first parameter is `self`.
#[derive(Clone, Debug)]
pub struct Function {
    /// Qualified name: `__torch__.M.forward`.
    pub name: Arc<str>,
    /// Parameters.
    pub params: Vec<Argument>,
    /// The result's type.
    pub result: Type,
    /// The body.
    pub graph: Graph,
    /// Where it is written.
    pub span: Option<Span>,
    /// Whether it was recorded while Python ran: its graph stays as it was recorded.
    pub is_traced: bool,
}

/// What a class statement declares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum ClassKind {
    Module,
    Class,
    Interface,
    NamedTuple,
    Enum,
}

/// A class of the archive.
#[derive(Clone, Debug)]
pub struct Class {
    /// Qualified name.
    pub name: Arc<str>,
    /// Which kind of class.
    pub kind: ClassKind,
    /// Attributes in slot order.
    pub attrs: IndexMap<Arc<str>, Type>,
    /// `Final` constants and, for enums, the members.
    pub constants: IndexMap<Arc<str>, IValue>,
    /// Names in `__parameters__`.
    pub parameters: Vec<Arc<str>>,
    /// Names in `__buffers__`.
    pub buffers: Vec<Arc<str>>,
    /// Methods that run before calls from Python, in order: `__forward_pre_hooks__`. Calls in graphs are written out.
    pub forward_pre_hooks: Vec<Arc<str>>,
    /// Those that run after them.
    pub forward_hooks: Vec<Arc<str>>,
    /// Unqualified method names, in source order; bodies are in [`Module::functions`] under `class.method`.
    pub methods: Vec<Arc<str>>,
    /// What an interface asks for; `None` for every other class.
    pub interface: Option<Interface>,
}

/// What classes must have to be of an interface.
#[derive(Clone, Default, Debug)]
pub struct Interface {
    /// Whether only modules can be of it.
    pub is_module: bool,
    /// Its methods, in the order of [`Class::methods`].
    pub methods: Vec<InterfaceMethod>,
}

/// A method of an interface, which has no body.
#[derive(Clone, Debug)]
pub struct InterfaceMethod {
    /// Unqualified name.
    pub name: Arc<str>,
    /// Parameters after `self`. None has a default: PyTorch reads none of those an interface is written with.
    pub params: Vec<Argument>,
    /// The result's type.
    pub result: Type,
}

impl Class {
    /// Whether it is of a module, or an interface that only modules can be of.
    pub fn is_module(&self) -> bool {
        self.kind == ClassKind::Module || self.interface.as_ref().is_some_and(|interface| interface.is_module)
    }

    /// A class with nothing in it.
    pub fn new(name: Arc<str>, kind: ClassKind) -> Self {
        Self {
            name,
            kind,
            attrs: IndexMap::new(),
            constants: IndexMap::new(),
            parameters: Vec::new(),
            buffers: Vec::new(),
            forward_pre_hooks: Vec::new(),
            forward_hooks: Vec::new(),
            methods: Vec::new(),
            interface: (kind == ClassKind::Interface).then(Interface::default),
        }
    }
}

/// A loaded program: every class and function that the root's methods reach, compiled to graphs.
#[derive(Clone, Debug)]
pub struct Module {
    /// Classes by qualified name.
    pub classes: IndexMap<Arc<str>, Class>,
    /// Free functions and methods by qualified name.
    pub functions: IndexMap<Arc<str>, Function>,
    /// The root module object.
    pub root: Arc<Object>,
}

impl Module {
    /// The method of a class, compiled.
    pub fn method(&self, class: &str, method: &str) -> Option<&Function> {
        self.functions.get(format!("{class}.{method}").as_str())
    }
}

/// What is said of a `prim::PythonOp`, a call of a function that stays with Python, where there is no Python.
pub fn not_exportable(node: &Node) -> Box<Diagnostic> {
    let name = match node.attr("name") {
        Some(Attr::Name(name)) => name,
        _ => "",
    };
    Diagnostic::user(format!(
        "Could not export Python function call '{name}'. Remove calls to Python functions before export. Did you forget to add @script or @script_method annotation? If this is a nn.ModuleList, add it to __constants__"
    ))
    .at(node.span.as_ref())
}
