//! Programs from text: a function or a module class of a source file becomes a module like those of archives.

use super::construct::{Interpreter, Machine, Value};
use super::function::Emitter;
use super::names::{self, Item, Program, dotted};
use super::{classes, compile_interfaces, finished, on_large_stack, python};
use crate::archive::Archive;
use crate::diag::{Diagnostic, Result};
use crate::ir::{Argument, Class, ClassKind, Function, Module, ValueDef};
use crate::source::Source;
use crate::syntax::Dialect;
use crate::syntax::ast::{self, ExprKind, StmtKind};
use crate::types::{IValue, Object, TensorData, Type};
use indexmap::IndexMap;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// The class of a module that stands for a single function, as in archives of functions.
pub const FUNCTION_MODULE: &str = "__torch__.PlaceholderModule";

/// A text to compile.
#[derive(Clone, Debug)]
pub struct Text {
    /// The text.
    pub source: Arc<Source>,
    /// Python files are read by Python's rules, the texts that `CompilationUnit` takes by TorchScript's own.
    pub dialect: Dialect,
    /// What the qualified names of its classes and functions begin with: `__torch__` or `__torch__.net`.
    pub module: Arc<str>,
    /// Import statements of the Python file around a text of `CompilationUnit`, whose names it may use.
    pub imports: Option<Arc<Source>>,
    /// Seed of the generator that module-level code draws from; PyTorch's own without one.
    pub seed: Option<u64>,
}

/// Tensors by dotted names of attributes: `layers.0.weight`.
pub type Values = IndexMap<String, Arc<TensorData>>;

/// Where the values of a module's attributes come from.
#[derive(Clone, Copy, Debug, Default)]
pub enum Attributes<'a> {
    /// The text's own constructors.
    #[default]
    Own,
    /// An archive whose classes have the names of the text's.
    Archive(&'a Archive),
    /// The text's own constructors, with these tensors in place of theirs.
    Values(&'a Values),
}

impl<'a> From<Option<&'a Archive>> for Attributes<'a> {
    fn from(archive: Option<&'a Archive>) -> Self {
        archive.map_or(Self::Own, Self::Archive)
    }
}

/// Compiles what `entry` names in the text: a function, a module class, or a variable that holds one of them scripted.
/// Without `entry` it is the last function or module class of the text, or variable that holds one traced; of what `CompilationUnit` takes, all is compiled.
/// The values of a module's attributes are those of `attributes`; `machine` computes tensors. A variable that holds a traced,
/// frozen or loaded function or module is made by running the text's top level.
///
/// # Errors
/// User errors in PyTorch's words with their place; unsupported for what cannot be compiled yet.
pub fn compile_text(text: &Text, entry: Option<&str>, attributes: Attributes<'_>, machine: Machine) -> Result<Module> {
    let empty = empty_archive(Path::new(&text.source.name));
    let (archive, values) = match attributes {
        Attributes::Own => (&empty, None),
        Attributes::Archive(archive) => (archive, None),
        Attributes::Values(values) => (&empty, Some(values)),
    };
    on_large_stack(|| compile_here(text, entry, archive, values, machine))
}

/// An archive that holds nothing but a place for a function.
pub fn empty_archive(path: &Path) -> Archive {
    Archive {
        path: path.to_owned(),
        version: 10,
        root: Arc::new(Object { class: FUNCTION_MODULE.into(), attrs: IndexMap::new() }),
        constants: Vec::new(),
        sources: IndexMap::new(),
        traced_inputs: IndexMap::new(),
        extra_files: IndexMap::new(),
    }
}

/// What the qualified names of a text begin with whose module classes are those of an archive with this root class.
pub fn module_of(root: Option<&str>) -> Arc<str> {
    // A layer of the library stands for a module that the text makes of layers alone.
    let is_own = |class: &&str| *class != FUNCTION_MODULE && !class.starts_with("__torch__.torch.");
    let plain = root.filter(is_own).map(python::demangled);
    plain
        .and_then(|class| class.rsplit_once('.').map(|(module, _)| module.into()))
        .unwrap_or_else(|| "__torch__".into())
}

/// What an entry's name means.
enum Entry {
    Function(Arc<str>),
    Module(Arc<str>),
    /// Only running the text says what this variable holds.
    Python(Arc<str>),
}

fn compile_here(
    text: &Text,
    name: Option<&str>,
    archive: &Archive,
    values: Option<&Values>,
    machine: Machine,
) -> Result<Module> {
    let has_archive = *archive.root.class != *FUNCTION_MODULE;
    let mut program = program_of(text, archive, !has_archive);
    let parsed = parsed_text(&mut program, text)?;
    let runs = uses_tracing(&parsed);
    let entry = match name {
        Some(name) => find_entry(&mut program, &parsed, name, 0)?,
        None => {
            if text.dialect == Dialect::Own {
                program.goes_on = true;
                compile_unit(&mut program, &parsed);
            }
            last_entry(&program, &parsed)?
        }
    };
    match (entry, name) {
        (Entry::Module(_), _) if has_archive && !runs => {
            let root = Arc::clone(&archive.root);
            program.goes_on = true;
            compile_classes(&mut program, &root, super::classes_of(&root), &text.module)?;
            all_errors(&mut program, &parsed, false)?;
            compile_interfaces(&mut program)?;
            finished(program, root)
        }
        (Entry::Function(function), _) if !runs => {
            if values.is_some() {
                return Err(without_attributes(&function));
            }
            compile_entry(program, &parsed, &function, name.is_none())
        }
        (entry, name) => {
            // What runs makes all values itself; those of an archive take their place afterwards.
            let empty = empty_archive(&archive.path);
            let mut program = program_of(text, &empty, true);
            let parsed = parsed_text(&mut program, text)?;
            let mut module = run(program, text, &parsed, (&entry, name), values, machine)?;
            if has_archive {
                module.root = with_values(&module.root, &archive.root);
            }
            Ok(module)
        }
    }
}

fn program_of<'a>(text: &Text, archive: &'a Archive, has_layers: bool) -> Program<'a> {
    let mut program = Program::new(archive);
    program.add_text(&text.module, Arc::clone(&text.source), text.dialect, text.imports.clone());
    program.has_library = true;
    if has_layers {
        program.add_layers();
    }
    program
}

fn parsed_text(program: &mut Program<'_>, text: &Text) -> Result<Arc<names::ParsedFile>> {
    program.file(&text.module)?.ok_or_else(|| Diagnostic::internal("a text that was given is not found"))
}

/// Whether the text traces anything, so that what its functions call may only be known by running it.
fn uses_tracing(parsed: &names::ParsedFile) -> bool {
    let is_trace = |path: &Arc<str>| matches!(&**path, "torch.jit.trace" | "torch.jit.trace_module");
    parsed.imports.values().any(is_trace) || parsed.file.source.text.contains("jit.trace")
}

fn compile_entry(
    mut program: Program<'_>,
    parsed: &Arc<names::ParsedFile>,
    name: &Arc<str>,
    is_whole: bool,
) -> Result<Module> {
    if !program.overloads(name)?.is_empty() {
        return Err(Diagnostic::user(format!(
            "Function {name} cannot be directly compiled because it is overloaded. It must be used in a context of a function where its inputs can determine which overload to call."
        )));
    }
    program.goes_on = true;
    if let Err(error) = program.compile_function(name, None, None) {
        program.report(error);
    }
    all_errors(&mut program, parsed, is_whole)?;
    compile_interfaces(&mut program)?;
    let root = Arc::new(Object { class: FUNCTION_MODULE.into(), attrs: IndexMap::new() });
    let mut module = finished(program, root)?;
    wrap(&mut module, name)?;
    Ok(module)
}

/// Runs the text's top level and compiles what the entry is then.
fn run(
    mut program: Program<'_>,
    text: &Text,
    parsed: &Arc<names::ParsedFile>,
    (entry, name): (&Entry, Option<&str>),
    values: Option<&Values>,
    machine: Machine,
) -> Result<Module> {
    let mut interpreter = Interpreter::new(&mut program, machine);
    if let Some(seed) = text.seed {
        interpreter.generator = aot_runtime::random::Generator::new(seed);
    }
    interpreter.run_file(parsed);
    let made = if name.is_none() { interpreter.last_compiled(parsed) } else { None };
    let value = match (entry, name) {
        _ if made.is_some() => made.unwrap_or(Value::None),
        (Entry::Function(function), _) => Value::Compiled(Arc::clone(function)),
        (_, Some(name)) => interpreter.entry(parsed, name)?,
        (Entry::Module(class) | Entry::Python(class), None) => match interpreter.last_instance(parsed) {
            Some(value) => value,
            None => interpreter.entry(parsed, class.rsplit('.').next().unwrap_or(class))?,
        },
    };
    if let Some(values) = values {
        interpreter.give(&value, values)?;
    }
    match value {
        Value::Module(module) => Ok((*module).clone()),
        Value::Compiled(function) | Value::Function(function) => {
            if values.is_some() {
                return Err(without_attributes(&function));
            }
            interpreter.give_functions(parsed);
            compile_entry(program, parsed, &function, name.is_none())
        }
        value => {
            let root = interpreter.finish(&value)?;
            interpreter.give_functions(parsed);
            program.goes_on = true;
            compile_object(&mut program, &root)?;
            all_errors(&mut program, parsed, false)?;
            compile_interfaces(&mut program)?;
            name_methods(&mut program);
            finished(program, root)
        }
    }
}

fn without_attributes(function: &str) -> Box<Diagnostic> {
    let name = function.rsplit('.').next().unwrap_or(function);
    Diagnostic::user(format!("'{name}' is a function, which has no attributes"))
}

/// Lets classes that were made without an archive say which of their methods are compiled.
pub(crate) fn name_methods(program: &mut Program<'_>) {
    for class in program.modules.keys() {
        let own = |name: &Arc<str>| {
            let (owner, method) = name.rsplit_once('.')?;
            (*owner == **class).then(|| Arc::from(method))
        };
        if let Some(declared) = program.classes.get_mut(class) {
            declared.class.methods = program.functions.keys().filter_map(own).collect();
        }
    }
}

/// Compiles the methods of an object that was made here, and of those it holds.
pub(crate) fn compile_object(program: &mut Program<'_>, root: &Arc<Object>) -> Result<()> {
    let mut classes = super::classes_of(root);
    // As in PyTorch: what a module holds is compiled before it.
    classes.reverse();
    let module = root.class.rsplit_once('.').map_or("", |(module, _)| module);
    compile_classes(program, root, classes, &python::demangled(module))
}

fn compile_classes(program: &mut Program<'_>, root: &Arc<Object>, classes: Vec<Arc<str>>, module: &str) -> Result<()> {
    classes::check_objects(program, root)?;
    for class in classes {
        for method in program.entry_methods(&class) {
            if class == root.class || python::demangled(&class).starts_with(module) {
                let compiled = program.compile_method(&class, &method);
                program.noted(compiled)?;
            }
        }
        if program.classes.get(&class).is_some_and(|c| c.methods.contains_key("__setstate__")) {
            let compiled = program.compile_method(&class, &"__setstate__".into());
            program.noted(compiled)?;
        }
    }
    Ok(())
}

/// The object with the tensors of another one wherever both have one of the same type and shape.
fn with_values(object: &Arc<Object>, other: &Arc<Object>) -> Arc<Object> {
    let value = |name: &Arc<str>, value: &IValue| match (value, other.attrs.get(name)) {
        (IValue::Object(own), Some(IValue::Object(other))) => IValue::Object(with_values(own, other)),
        (IValue::Tensor(own), Some(IValue::Tensor(other)))
            if own.dtype() == other.dtype() && own.sizes() == other.sizes() =>
        {
            IValue::Tensor(Arc::clone(other))
        }
        (own, _) => own.clone(),
    };
    let attrs = object.attrs.iter().map(|(name, own)| (Arc::clone(name), value(name, own))).collect();
    Arc::new(Object { class: Arc::clone(&object.class), attrs })
}

/// Gives the errors that were noted, if any. Then the functions of the text that nobody needed are looked at, too: those
/// that are scripted by a decorator, or all if the text `is_whole`, asked for without a name.
fn all_errors(program: &mut Program<'_>, parsed: &Arc<names::ParsedFile>, is_whole: bool) -> Result<()> {
    if program.has_errors() {
        for &id in &parsed.file.body.stmts {
            let StmtKind::Def(def) = &parsed.file.stmts[id].kind else { continue };
            let is_scripted = def.decorators.iter().any(|decorator| {
                dotted(decorator).is_some_and(|path| program.absolute(&parsed.file, &path) == "torch.jit.script")
            });
            if is_scripted || is_whole && program.mark(&parsed.file, def) == python::Mark::Plain {
                let name = format!("{}.{}", parsed.module, def.name.text).into();
                if let Err(error) = program.compile_function(&name, None, None) {
                    program.report(error);
                }
            }
        }
    }
    program.first_error().map_or(Ok(()), Err)
}

/// Compiles every function of the text, as `CompilationUnit` does, and notes the errors.
fn compile_unit(program: &mut Program<'_>, parsed: &names::ParsedFile) {
    let mut defined = HashSet::new();
    for &id in &parsed.file.body.stmts {
        if let StmtKind::Def(def) = &parsed.file.stmts[id].kind {
            if !defined.insert(&def.name.text) {
                let text = format!("method '{}' already defined.", def.name.text);
                program.report(Diagnostic::user(text).at(Some(&parsed.file.span(def.head))));
            }
            let name = format!("{}.{}", parsed.module, def.name.text).into();
            if let Err(error) = program.compile_function(&name, None, None) {
                program.report(error);
            }
        }
    }
}

fn find_entry(program: &mut Program<'_>, parsed: &Arc<names::ParsedFile>, name: &str, depth: usize) -> Result<Entry> {
    let missing = || Diagnostic::user(format!("{}: there is no '{name}' in this text", parsed.file.source.name));
    let qualified: Arc<str> = format!("{}.{name}", parsed.module).into();
    if let Some(&id) = parsed.items.get(name) {
        return match &parsed.file.stmts[id].kind {
            StmtKind::Class(class) => match program.kind_of(parsed, class, 0) {
                ClassKind::Module => Ok(Entry::Module(qualified)),
                _ => {
                    program.refuse_bases(parsed, class)?;
                    program.item(&qualified)?;
                    // Scripting a class compiles all of it.
                    let methods = program.classes.get(&qualified).map_or_else(Vec::new, |c| c.class.methods.clone());
                    for method in methods {
                        program.compile_method(&qualified, &method)?;
                    }
                    Err(Diagnostic::unsupported(format!("'{name}' is neither a function nor a module class")))
                }
            },
            _ => Ok(Entry::Function(qualified)),
        };
    }
    let Some(&id) = parsed.values.get(name).filter(|_| depth < 20) else { return Err(missing()) };
    let StmtKind::Assign { value, .. } = &parsed.file.stmts[id].kind else { return Err(missing()) };
    if let Some(Item::Function(function)) = program.item_of_value(parsed, name)? {
        return Ok(Entry::Function(function));
    }
    scripted(program, parsed, value, depth).unwrap_or_else(|| Ok(Entry::Python(name.into())))
}

/// What `torch.jit.script(f)`, `torch.jit.script(M())` or `M()` compiles.
fn scripted(
    program: &mut Program<'_>,
    parsed: &Arc<names::ParsedFile>,
    value: &ast::Expr,
    depth: usize,
) -> Option<Result<Entry>> {
    match &value.kind {
        ExprKind::Name(name) => Some(find_entry(program, parsed, name, depth + 1)),
        ExprKind::Call { callee, args } => {
            let path = dotted(callee).map(|path| program.absolute(&parsed.file, &path))?;
            match (path.as_str(), args.as_slice()) {
                ("torch.jit.script", [one, ..]) => scripted(program, parsed, &one.value, depth + 1),
                (name, _) if parsed.items.contains_key(name) => Some(find_entry(program, parsed, name, depth + 1)),
                (path, _) if path.starts_with("torch.nn.") => Some(Ok(Entry::Module(path.into()))),
                _ => None,
            }
        }
        _ => None,
    }
}

fn last_entry(program: &Program<'_>, parsed: &Arc<names::ParsedFile>) -> Result<Entry> {
    for &id in parsed.file.body.stmts.iter().rev() {
        match &parsed.file.stmts[id].kind {
            StmtKind::Def(def) => return Ok(Entry::Function(format!("{}.{}", parsed.module, def.name.text).into())),
            StmtKind::Class(class) if program.kind_of(parsed, class, 0) == ClassKind::Module => {
                return Ok(Entry::Module(format!("{}.{}", parsed.module, class.name.text).into()));
            }
            _ => {}
        }
    }
    Err(Diagnostic::user(format!("{}: no function and no module class to compile", parsed.file.source.name)))
}

/// Gives the module a class whose `forward` is the function, without its default values: PyTorch saves functions so.
pub(crate) fn wrap(module: &mut Module, name: &str) -> Result<()> {
    let Some(function) = module.functions.get(name) else {
        return Err(Diagnostic::internal("the compiled function is missing"));
    };
    let class: Arc<str> = FUNCTION_MODULE.into();
    let mut forward: Function = function.clone();
    let ty = Type::Class(Arc::clone(&class));
    forward.name = format!("{class}.forward").into();
    forward.params.iter_mut().for_each(|param| param.default = None);
    forward.params.insert(0, Argument { name: "self".into(), ty: ty.clone(), default: None });
    let graph = &mut forward.graph;
    let top = graph.top;
    graph.add_param(top, ty, Some("self".into()));
    graph.blocks[top].params.rotate_right(1);
    let params = graph.blocks[top].params.clone();
    for (at, value) in params.into_iter().enumerate() {
        graph.values[value].def = ValueDef::Param(top, at);
    }
    let placeholder = Class { methods: vec!["forward".into()], ..Class::new(Arc::clone(&class), ClassKind::Module) };
    module.classes.insert(class, placeholder);
    module.functions.insert(Arc::clone(&forward.name), forward);
    Ok(())
}

impl Emitter<'_, '_> {
    /// Whether the function under compilation is written in a text and not in an archive.
    pub(crate) fn is_text(&self) -> bool {
        self.program.text_of(&self.file).is_some()
    }
}
