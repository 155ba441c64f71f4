//! Module objects as classes and objects of the program: PyTorch's `infer_concrete_type_builder`. Objects of one Python class
//! share a TorchScript class as long as the types of their attributes and the values of their constants are the same.

use super::infer::{Inferred, not_cast, python_class};
use super::{Cell, Interpreter, Ref, Value, value};
use crate::diag::{Diagnostic, Result};
use crate::ir::{Class, ClassKind};
use crate::script::layers::MODULES;
use crate::script::names::{Declared, Definition, Item, ParsedFile, dotted};
use crate::script::python::demangled;
use crate::source::{Source, Span};
use crate::syntax::ast::{Expr, ExprKind, File, StmtKind};
use crate::syntax::{Dialect, parse_dialect};
use crate::types::{IValue, Object, Type};
use indexmap::{IndexMap, IndexSet};
use std::collections::HashMap;
use std::sync::Arc;

/// Attributes of the Python class that are no attributes of the program.
const IGNORED: [&str; 3] = ["_version", "_initializing", "dump_patches"];

/// What the compiler knows of a module's class besides attributes and methods.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModuleFacts {
    /// Attributes that are functions.
    pub functions: IndexMap<Arc<str>, FunctionAttribute>,
    /// Attributes of the Python object that have no form in the program.
    pub missing: IndexMap<Arc<str>, Missing>,
}

/// A function that is an attribute of a module.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum FunctionAttribute {
    /// One of a text, by its qualified name.
    Text(Arc<str>),
    /// One of a library, by its path.
    Library(Arc<str>),
}

/// Why an attribute has no form in the program.
#[derive(Clone, Debug)]
pub(crate) enum Missing {
    /// PyTorch has none either, and says this, perhaps of a place.
    Reason(String, Option<Span>),
    /// Its value is not known here.
    Unknown(Arc<Diagnostic>),
}

impl Missing {
    /// A reason that is about no place.
    pub(crate) fn because(reason: impl Into<String>) -> Self {
        Self::Reason(reason.into(), None)
    }
}

/// An attribute's type, and what it is registered as.
#[derive(Clone, PartialEq, Debug)]
struct Slot {
    ty: Type,
    is_parameter: bool,
    is_buffer: bool,
}

/// What tells the classes of modules apart.
#[derive(Clone, Debug, Default)]
struct Concrete {
    attrs: IndexMap<Arc<str>, Slot>,
    constants: IndexMap<Arc<str>, IValue>,
    modules: IndexMap<Arc<str>, Type>,
    facts: ModuleFacts,
}

impl Concrete {
    fn is_same(&self, other: &Self) -> bool {
        let text = |constants: &IndexMap<Arc<str>, IValue>| format!("{constants:?}");
        self.attrs == other.attrs
            && text(&self.constants) == text(&other.constants)
            && self.modules == other.modules
            && self.facts.functions == other.facts.functions
    }
}

/// The classes made so far, and the objects.
#[derive(Default)]
pub(crate) struct Store {
    known: HashMap<Arc<str>, Vec<(Concrete, Arc<str>)>>,
    classes: HashMap<Ref, Arc<str>>,
    objects: HashMap<Ref, Arc<Object>>,
    in_progress: IndexSet<Ref>,
    n_mangled: usize,
}

impl Store {
    /// Makes a module one of this class.
    pub(crate) fn set_class(&mut self, at: Ref, class: &Arc<str>) {
        self.classes.insert(at, Arc::clone(class));
    }

    /// The next number that tells names apart.
    pub(crate) fn next_mangle(&mut self) -> usize {
        self.n_mangled += 1;
        self.n_mangled - 1
    }
}

/// PyTorch's words for a function that is an attribute and does not compile.
fn not_compiled(error: &str) -> String {
    format!(
        "(This function exists as an attribute on the Python module, but we failed to compile it to a TorchScript function. \n\
         The error stack is reproduced here:\n{error})"
    )
}

/// The name of a class in Python.
fn demangled_name(class: &str) -> String {
    plain_name(&demangled(class)).to_owned()
}

/// A qualified name's last part.
pub(crate) fn plain_name(class: &str) -> &str {
    class.rsplit('.').next().unwrap_or(class)
}

impl Interpreter<'_, '_> {
    /// An object that was made before.
    pub(crate) fn known_object(&self, at: Ref) -> Option<Arc<Object>> {
        self.types.objects.get(&at).cloned()
    }

    pub(crate) fn remember(&mut self, at: Ref, object: &Arc<Object>) {
        self.types.objects.insert(at, Arc::clone(object));
    }

    /// The module as an object, with those it holds.
    pub(crate) fn concrete_object(&mut self, at: Ref) -> Result<Arc<Object>> {
        if let Some(known) = self.known_object(at) {
            return Ok(known);
        }
        let class = self.concrete_class(at)?;
        let Some(instance) = self.instance(at).cloned() else {
            return Err(Diagnostic::internal("a module without its instance"));
        };
        let declared =
            self.program.classes.get(&class).map(|declared| declared.class.attrs.clone()).unwrap_or_default();
        let parts = instance.parts.unwrap_or_default();
        let mut attrs = IndexMap::new();
        for (name, ty) in declared {
            let groups = [&instance.attrs, &parts.parameters, &parts.buffers, &parts.modules];
            let Some(value) = groups.into_iter().find_map(|group| group.get(&name)).cloned() else {
                let class = demangled_name(&class);
                return Err(Diagnostic::user(format!("AttributeError: '{class}' object has no attribute '{name}'")));
            };
            match self.cast(&value, &ty)? {
                Ok(value) => _ = attrs.insert(name, value),
                Err(why) => return Err(Diagnostic::user(not_cast(&name, &ty, &why))),
            }
        }
        let object = Arc::new(Object { class, attrs });
        self.remember(at, &object);
        Ok(object)
    }

    /// The class of a module, declared.
    fn concrete_class(&mut self, at: Ref) -> Result<Arc<str>> {
        if let Some(known) = self.types.classes.get(&at) {
            return Ok(Arc::clone(known));
        }
        let Some(instance) = self.instance(at) else { return Err(Diagnostic::internal("no module")) };
        let python = Arc::clone(&instance.class);
        if !self.types.in_progress.insert(at) {
            return Err(Diagnostic::user(format!("the module '{}' contains itself", plain_name(&python))));
        }
        self.descend()?;
        let concrete = self.concrete(at, &python);
        self.depth -= 1;
        let concrete = concrete?;
        self.types.in_progress.shift_remove(&at);
        let known = self.types.known.get(&python).into_iter().flatten();
        let shared = known.into_iter().find(|(known, _)| known.is_same(&concrete)).map(|(_, name)| Arc::clone(name));
        let name = match shared {
            Some(name) => name,
            None => {
                let name = self.declare(&python, concrete)?;
                let parts = self.instance(at).and_then(|instance| instance.parts.as_ref());
                let keys: Vec<Arc<str>> = parts.map_or_else(Vec::new, |parts| parts.modules.keys().cloned().collect());
                self.add_container_methods(&python, &name, &keys)?;
                name
            }
        };
        self.types.classes.insert(at, Arc::clone(&name));
        Ok(name)
    }

    fn declare(&mut self, python: &Arc<str>, concrete: Concrete) -> Result<Arc<str>> {
        let is_taken = self.types.known.contains_key(python);
        let name: Arc<str> = match python.rsplit_once('.') {
            Some((module, base)) if is_taken => {
                let number = self.types.next_mangle();
                format!("{module}.___torch_mangle_{number}.{base}").into()
            }
            _ => Arc::clone(python),
        };
        let named = |test: fn(&Slot) -> bool| {
            concrete.attrs.iter().filter(|(_, slot)| test(slot)).map(|(name, _)| Arc::clone(name)).collect::<Vec<_>>()
        };
        let attrs = concrete.attrs.iter().map(|(name, slot)| (Arc::clone(name), slot.ty.clone()));
        let modules = concrete.modules.iter().map(|(name, ty)| (Arc::clone(name), ty.clone()));
        let class = Class {
            attrs: attrs.chain(modules).collect(),
            constants: concrete.constants.clone(),
            parameters: named(|slot| slot.is_parameter),
            buffers: named(|slot| slot.is_buffer),
            ..Class::new(Arc::clone(&name), ClassKind::Module)
        };
        self.program.classes.insert(Arc::clone(&name), Declared { class, methods: HashMap::new() });
        self.program.items.insert(Arc::clone(&name), Item::Class(Type::Class(Arc::clone(&name))));
        self.program.modules.insert(Arc::clone(&name), concrete.facts.clone());
        self.program.methods_from_text(&name)?;
        self.types.known.entry(Arc::clone(python)).or_default().push((concrete, Arc::clone(&name)));
        Ok(name)
    }

    /// The methods that PyTorch gives containers so that `len(...)` and `in` work on them from Python.
    fn add_container_methods(&mut self, python: &Arc<str>, name: &Arc<str>, keys: &[Arc<str>]) -> Result<()> {
        let kinds = self.program.mro(python)?;
        let is_a = |base: &str| kinds.iter().any(|kind| kind.strip_prefix(MODULES) == Some(base));
        let is_dict = is_a("container.ModuleDict");
        if !is_dict && !is_a("container.ModuleList") && !is_a("container.Sequential") {
            return Ok(());
        }
        let mut text = format!("def __len__(self):\n   return {}\n", keys.len());
        if is_dict && keys.is_empty() {
            text += "def __contains__(self, key: str):\n   return False\n";
        } else if is_dict {
            let keys = keys.iter().map(|key| crate::ir::quoted(key)).collect::<Vec<_>>().join(", ");
            text += &format!("def __contains__(self, key: str):\n   return key in [{keys}]\n");
        }
        let source = Arc::new(Source { name: "container".into(), text, origins: Vec::new() });
        let file = Arc::new(parse_dialect(&source, Dialect::Own)?);
        let Some(declared) = self.program.classes.get_mut(name) else { return Ok(()) };
        for &stmt in &file.body.stmts {
            if let StmtKind::Def(def) = &file.stmts[stmt].kind {
                let definition = Definition { file: Arc::clone(&file), stmt, declared: None };
                declared.methods.entry(Arc::clone(&def.name.text)).or_insert(definition);
            }
        }
        self.program.add_parsed(ParsedFile::of(file, &format!("{name}.container")));
        Ok(())
    }

    fn concrete(&mut self, at: Ref, python: &Arc<str>) -> Result<Concrete> {
        let Some(instance) = self.instance(at).cloned() else { return Err(Diagnostic::internal("no module")) };
        let Some(parts) = instance.parts else {
            let class = python_class(&Value::Ref(at), self);
            let text = format!("'{class}' has not been initialized, did you forget to call 'super()'?");
            return Err(Diagnostic::user(text));
        };
        let annotations = self.annotations(python)?;
        let ignored = self.names_of(python, "__jit_ignored_attributes__")?;
        let mut made = Concrete::default();
        let mut added: IndexSet<Arc<str>> = IndexSet::new();
        for (group, is_parameter) in [(&parts.parameters, true), (&parts.buffers, false)] {
            for (name, item) in group.iter().filter(|(name, _)| !ignored.contains(*name)) {
                let ty = self.attribute_type(&annotations, name, item)?.0;
                let ty = ty.map_err(|why| missing(python, name, &why))?;
                made.attrs.insert(Arc::clone(name), Slot { ty, is_parameter, is_buffer: !is_parameter });
                added.insert(Arc::clone(name));
            }
        }
        for (name, item) in parts.modules.iter().filter(|(name, _)| !ignored.contains(*name)) {
            let Value::Ref(inner) = item else {
                let slot = Slot { ty: Type::None, is_parameter: false, is_buffer: false };
                made.attrs.insert(Arc::clone(name), slot);
                continue;
            };
            let annotated = match annotations.get(name) {
                Some(annotation) => Some(self.annotated(annotation)?),
                None => None,
            };
            let ty = match annotated {
                Some(ty @ Type::Interface(_)) => {
                    let class = self.concrete_class(*inner)?;
                    if let Some(method) = self.lacking(&class, &ty) {
                        let text = format!("'{}' object has no attribute '{method}'", demangled_name(&class));
                        return Err(Diagnostic::user(text));
                    }
                    ty
                }
                _ => Type::Class(self.concrete_class(*inner)?),
            };
            made.modules.insert(Arc::clone(name), ty);
            added.insert(Arc::clone(name));
        }
        self.add_constants(at, python, &annotations, &mut added, &mut made)?;
        for (name, item) in &instance.attrs {
            if added.contains(name) || IGNORED.contains(&&**name) || name.starts_with("__") {
                continue;
            }
            if ignored.contains(name) {
                let why = Missing::because("attribute was ignored during compilation");
                made.facts.missing.insert(Arc::clone(name), why);
                continue;
            }
            self.add_attribute(&annotations, name, item, &mut made)?;
        }
        Ok(made)
    }

    /// A method of the interface that the class does not have.
    fn lacking(&self, class: &str, interface: &Type) -> Option<Arc<str>> {
        let Type::Interface(interface) = interface else { return None };
        let (have, want) = (self.program.classes.get(class)?, self.program.classes.get(interface)?);
        want.class.methods.iter().find(|method| !have.methods.contains_key(*method)).cloned()
    }

    fn add_constants(
        &mut self,
        at: Ref,
        python: &Arc<str>,
        annotations: &Annotations,
        added: &mut IndexSet<Arc<str>>,
        made: &mut Concrete,
    ) -> Result<()> {
        let mut names = self.names_of(python, "__constants__")?;
        names.extend(
            annotations.iter().filter(|(_, annotation)| is_final(annotation)).map(|(name, _)| Arc::clone(name)),
        );
        for name in names {
            if added.contains(&name) {
                continue;
            }
            let own = self.instance(at).and_then(|instance| instance.attrs.get(&name)).cloned();
            let value = match own {
                Some(value) => Some(value),
                None => self.class_value(python, &name)?,
            };
            let Some(value) = value else { continue };
            let Some(constant) = self.constant(&value)? else {
                let (class, owner) = (python_class(&value, self), plain_name(python));
                return Err(Diagnostic::user(format!(
                    "'{class}' object in attribute '{owner}.{name}' is not a valid constant."
                ))
                .help(
                    "Valid constants are: a nn.ModuleList; a value of type {bool, float, int, str, NoneType, torch.device, \
                     torch.layout, torch.dtype, torch.qscheme}; a list or tuple of these",
                ));
            };
            made.constants.insert(Arc::clone(&name), constant);
            added.insert(name);
        }
        Ok(())
    }

    /// An entry of the object's `__dict__`.
    fn add_attribute(
        &mut self,
        annotations: &Annotations,
        name: &Arc<str>,
        item: &Value,
        made: &mut Concrete,
    ) -> Result<()> {
        let function = match item {
            Value::Function(function) | Value::Compiled(function) => {
                Some(FunctionAttribute::Text(Arc::clone(function)))
            }
            Value::Path(path) if value::type_name(item, &self.heap) == "builtin_function_or_method" => {
                Some(FunctionAttribute::Library(Arc::clone(path)))
            }
            _ => None,
        };
        if let Some(function) = function {
            if let FunctionAttribute::Text(text) = &function
                && let Err(error) = self.program.compile_function(text, None, None)
            {
                let missing = Missing::Reason(not_compiled(&error.render()), error.span.clone());
                made.facts.missing.insert(Arc::clone(name), missing);
                return Ok(());
            }
            made.facts.functions.insert(Arc::clone(name), function);
            return Ok(());
        }
        match item {
            Value::Lambda => {
                let missing = Missing::because(not_compiled("Expected a single top-level function"));
                made.facts.missing.insert(Arc::clone(name), missing);
                return Ok(());
            }
            Value::Closure(closure) => {
                let span = closure.definition.file.span(closure.definition.function().head);
                let why = Diagnostic::unsupported("a function written inside of another one, as an attribute")
                    .at(Some(&span));
                made.facts.missing.insert(Arc::clone(name), Missing::Unknown(Arc::new(*why)));
                return Ok(());
            }
            _ => {}
        }
        let (ty, is_inferred) = self.attribute_type(annotations, name, item)?;
        match ty {
            Ok(ty) => {
                let slot = Slot { ty, is_parameter: false, is_buffer: false };
                made.attrs.insert(Arc::clone(name), slot);
            }
            Err(Missing::Reason(reason, _)) => {
                let advice = if is_inferred {
                    "Its type was inferred; try adding a type annotation for the attribute."
                } else {
                    ""
                };
                let class = python_class(item, self);
                let hint = format!(
                    "(This attribute exists on the Python module, but we failed to convert Python type: '{class}' to a \
                     TorchScript type. {reason}. {advice})"
                );
                made.facts.missing.insert(Arc::clone(name), Missing::because(hint));
            }
            Err(unknown) => _ = made.facts.missing.insert(Arc::clone(name), unknown),
        }
        Ok(())
    }

    /// The type of an attribute, annotated or inferred, and whether it is inferred.
    fn attribute_type(&mut self, annotations: &Annotations, name: &Arc<str>, item: &Value) -> Result<(Inferred, bool)> {
        if let Some(annotation) = annotations.get(name) {
            return Ok((Ok(self.annotated(annotation)?), false));
        }
        if let Value::Ref(at) = item
            && let Cell::Attribute(_, ty) = &self.heap[*at]
        {
            return Ok((Ok(ty.clone()), false));
        }
        Ok((self.infer(item)?, true))
    }

    pub(super) fn annotated(&mut self, annotation: &Annotation) -> Result<Type> {
        match annotation {
            Annotation::Text(file, expr) => self.program.ty(expr, file),
            Annotation::Known(ty) => Ok(ty.clone()),
        }
    }

    /// The annotations in the body of the first class that has any.
    pub(super) fn annotations(&mut self, python: &Arc<str>) -> Result<Annotations> {
        for class in self.program.mro(python)? {
            let Some((file, stmt)) = self.program.find(&class)? else { continue };
            let StmtKind::Class(syntax) = &file.stmts[stmt].kind else { continue };
            let mut found = Annotations::new();
            for &id in &syntax.body.stmts {
                if let StmtKind::AnnAssign { target, annotation, .. } = &file.stmts[id].kind
                    && let ExprKind::Name(name) = &target.kind
                {
                    found.insert(Arc::clone(name), Annotation::Text(Arc::clone(&file), annotation.clone()));
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let known = |name: &str, ty: Type| (Arc::from(name), Annotation::Known(ty));
        Ok([known("training", Type::Bool), known("_is_full_backward_hook", Type::optional(Type::Bool))].into())
    }

    /// The texts in a list or tuple that the class gives a name.
    fn names_of(&mut self, python: &Arc<str>, name: &str) -> Result<IndexSet<Arc<str>>> {
        let Some(value) = self.class_value(python, &name.into())? else { return Ok(IndexSet::new()) };
        let items = match &value {
            Value::Tuple(items) => items.to_vec(),
            Value::Ref(at) => match &self.heap[*at] {
                Cell::List(items) | Cell::Set(items) => items.clone(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        Ok(items
            .iter()
            .filter_map(|item| if let Value::Str(text) = item { Some(Arc::clone(text)) } else { None })
            .collect())
    }
}

/// Annotations of a class by name.
pub(super) type Annotations = IndexMap<Arc<str>, Annotation>;

/// A type as it is annotated.
pub(super) enum Annotation {
    Text(Arc<File>, Expr),
    Known(Type),
}

/// Whether the annotation is `Final` or `Final[T]`.
fn is_final(annotation: &Annotation) -> bool {
    let Annotation::Text(_, expr) = annotation else { return false };
    let head = if let ExprKind::Subscript { value, .. } = &expr.kind { value } else { expr };
    dotted(head).is_some_and(|path| path.rsplit('.').next() == Some("Final"))
}

/// The error for a parameter or buffer without a type.
fn missing(python: &str, name: &str, why: &Missing) -> Box<Diagnostic> {
    match why {
        Missing::Reason(reason, _) => {
            Diagnostic::user(format!("Error inferring type for {name} of '{}': {reason}", demangled(python)))
        }
        Missing::Unknown(error) => Box::new((**error).clone()),
    }
}
