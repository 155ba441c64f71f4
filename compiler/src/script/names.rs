//! Which definition a qualified name means: files of the archive are parsed and classes declared only when asked for.
//!
//! `__torch__.a.b.C` is the class, function or enumeration `C` of `code/__torch__/a/b.py`.

use super::construct::ModuleFacts;
use super::typing::Classes;
use crate::archive::Archive;
use crate::diag::{Diagnostic, Result};
use crate::ir::{Argument, Class, Function};
use crate::source::{Source, Span};
use crate::syntax::ast::{self, ExprKind, File, StmtId, StmtKind, TextRange};
use crate::syntax::{Dialect, parse_dialect};
use crate::types::{EnumType, NamedTupleType, Type};
use indexmap::{IndexMap, IndexSet};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How deep calls may go through functions that are compiled because another one needs them.
pub(crate) const MAX_CALL_DEPTH: usize = 400;

const NO_VARIABLE_ARGUMENTS: &str =
    "Compiled functions can't take variable number of arguments or use keyword-only arguments with defaults";

/// How deep class declarations and types may refer to each other.
pub(crate) const MAX_TYPE_DEPTH: usize = 200;

/// A function where it is written.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    /// The file.
    pub file: Arc<File>,
    /// The `def` in it.
    pub stmt: StmtId,
    /// The `def` that declares its types, if it is one of several overloads that share a body.
    pub declared: Option<StmtId>,
}

impl Definition {
    /// The function's syntax.
    pub(crate) fn function(&self) -> &ast::Function {
        self.def(self.stmt)
    }

    /// The syntax that its signature is read from.
    pub(crate) fn declaration(&self) -> &ast::Function {
        self.def(self.declared.unwrap_or(self.stmt))
    }

    fn def(&self, stmt: StmtId) -> &ast::Function {
        match &self.file.stmts[stmt].kind {
            StmtKind::Def(def) => def,
            _ => unreachable!("a definition is made from a `def` only"),
        }
    }
}

/// A parameter or the result of a call's target.
#[derive(Clone, Debug)]
pub(crate) struct Param {
    /// Name.
    pub name: Arc<str>,
    /// Type.
    pub ty: Type,
    /// Whether it may be left out.
    pub default: Option<ast::Expr>,
    /// Whether it can only be given by name.
    pub is_keyword_only: bool,
    /// Whether it is a tensor because nothing says otherwise.
    pub is_inferred: bool,
    /// How many items the list has that one value stands for.
    pub list_size: Option<usize>,
}

impl Param {
    /// Whether one value of this type stands for a whole list.
    pub(crate) fn is_spread(&self, ty: &Type) -> bool {
        let list = if let Type::Optional(inner) = &self.ty { inner } else { &self.ty };
        self.list_size.is_some()
            && matches!(ty, Type::Int | Type::Float)
            && matches!(list, Type::List(elem) if **elem == *ty)
    }
}

/// What a caller must know of a function.
#[derive(Clone)]
pub(crate) struct Signature {
    /// Where it is written, for the spans of defaults; none of traced functions, which have no defaults.
    pub file: Option<Arc<File>>,
    /// Parameters, `self` included.
    pub params: Vec<Param>,
    /// The annotated result.
    pub result: Option<Type>,
}

/// A declared class with its methods' syntax.
pub(crate) struct Declared {
    /// The class as the IR has it.
    pub class: Class,
    /// Methods by name.
    pub methods: HashMap<Arc<str>, Definition>,
}

/// What a qualified name is.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A module or script class, or an interface.
    Class(Type),
    /// A named tuple.
    NamedTuple(Arc<NamedTupleType>),
    /// An enumeration.
    Enum(Arc<EnumType>),
    /// A function.
    Function(Arc<str>),
}

/// A file with what its top level names.
#[derive(Debug)]
pub(crate) struct ParsedFile {
    /// The syntax.
    pub file: Arc<File>,
    /// The qualified name that its items' names begin with: `__torch__`.
    pub module: Arc<str>,
    /// Classes and functions.
    pub items: HashMap<Arc<str>, StmtId>,
    /// Imported names with what they stand for: `F` is `torch.nn.functional`.
    pub imports: HashMap<Arc<str>, Arc<str>>,
    /// Assigned names.
    pub values: HashMap<Arc<str>, StmtId>,
    /// All functions of each name, in order: the last one is what the name means, others may declare overloads.
    pub defs: HashMap<Arc<str>, Vec<StmtId>>,
}

/// The program under compilation.
pub(crate) struct Program<'a> {
    /// The archive it comes from.
    pub archive: &'a Archive,
    files: HashMap<String, Option<Arc<ParsedFile>>>,
    sources: HashMap<String, String>,
    /// Texts by the module they define, which come before the archive's files.
    texts: HashMap<String, Text>,
    /// Parsed texts by the address of their file.
    parsed_texts: HashMap<usize, Arc<ParsedFile>>,
    /// Files that were made for texts; kept, because their addresses tell whose they are.
    made: Vec<Arc<File>>,
    /// Defaults of the fields of named tuples.
    pub field_defaults: HashMap<Arc<str>, Vec<Option<ast::Expr>>>,
    /// Classes by qualified name.
    pub classes: IndexMap<Arc<str>, Declared>,
    pub items: HashMap<Arc<str>, Item>,
    pub in_progress: HashSet<Arc<str>>,
    /// Classes that stay with Python.
    pub ignored: HashSet<Arc<str>>,
    /// Finished functions by qualified name.
    pub functions: IndexMap<Arc<str>, Function>,
    /// Functions whose bodies are being compiled.
    pub compiling: Vec<Arc<str>>,
    /// Methods that were called through an interface.
    pub interface_calls: IndexMap<(Arc<str>, Arc<str>), ()>,
    /// The classes of modules that attributes hold as an interface, with that interface.
    pub held_as: IndexSet<(Arc<str>, Arc<str>)>,
    /// What is known of modules that were made without an archive, by their classes' qualified names.
    pub modules: IndexMap<Arc<str>, ModuleFacts>,
    /// Functions that variables of the text hold.
    pub given: HashMap<Arc<str>, std::result::Result<Arc<str>, Arc<Diagnostic>>>,
    /// Functions that have another name than their text says: static methods and overloads.
    pub definitions: HashMap<Arc<str>, Definition>,
    /// The overloads of functions, by the names these have as functions.
    pub overloads: HashMap<Arc<str>, Arc<[Arc<str>]>>,
    /// Whether texts may use PyTorch's own Python functions.
    pub has_library: bool,
    /// The library's texts that were asked for, by their module in Python.
    pub library: HashMap<&'static str, Arc<ParsedFile>>,
    signatures: HashMap<Arc<str>, Arc<Signature>>,
    /// How deep the type that is being read is nested.
    pub type_depth: usize,
    /// Blocks open in the functions under compilation.
    pub depth: usize,
    /// What is wrong with functions so far, one error each.
    errors: Vec<Diagnostic>,
    /// Whether other functions are still compiled after an error, for errors of their own.
    pub goes_on: bool,
    /// Functions that do not compile, and why, where others are still compiled.
    pub failed: HashMap<Arc<str>, Box<Diagnostic>>,
}

impl<'a> Program<'a> {
    pub(crate) fn new(archive: &'a Archive) -> Self {
        let stem = |path: &String| {
            let inner = path.strip_prefix("code/").unwrap_or(path);
            (inner.strip_suffix(".py").unwrap_or(inner).replace('/', "."), path.clone())
        };
        Self {
            archive,
            files: HashMap::new(),
            texts: HashMap::new(),
            parsed_texts: HashMap::new(),
            made: Vec::new(),
            field_defaults: HashMap::new(),
            sources: archive.sources.keys().map(stem).collect(),
            classes: IndexMap::new(),
            items: HashMap::new(),
            in_progress: HashSet::new(),
            ignored: HashSet::new(),
            functions: IndexMap::new(),
            compiling: Vec::new(),
            interface_calls: IndexMap::new(),
            held_as: IndexSet::new(),
            modules: IndexMap::new(),
            given: HashMap::new(),
            definitions: HashMap::new(),
            overloads: HashMap::new(),
            has_library: false,
            library: HashMap::new(),
            signatures: HashMap::new(),
            type_depth: 0,
            depth: 0,
            errors: Vec::new(),
            goes_on: false,
            failed: HashMap::new(),
        }
    }

    /// Takes note of an error, after which other functions are still compiled. The functions under compilation are those
    /// that led to it.
    pub(crate) fn report(&mut self, mut error: Box<Diagnostic>) {
        if self.errors.iter().any(|known| known.message == error.message && known.span == error.span) {
            return;
        }
        for pair in self.compiling.windows(2).rev() {
            error = called_from(error, &pair[1], &pair[0]);
        }
        self.errors.push(*error);
    }

    /// Notes what is wrong with a function where other functions are still compiled; gives it back where not.
    pub(crate) fn noted(&mut self, compiled: Result<()>) -> Result<()> {
        match compiled {
            Err(error) if self.goes_on => {
                self.report(error);
                Ok(())
            }
            other => other,
        }
    }

    /// Whether any error has been noted.
    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The first error that was noted, with the others in it.
    pub(crate) fn first_error(&mut self) -> Option<Box<Diagnostic>> {
        let mut errors = std::mem::take(&mut self.errors).into_iter();
        let mut first = Box::new(errors.next()?);
        first.more = errors.collect();
        Some(first)
    }

    /// A class of the archive, whatever the texts say.
    pub(crate) fn find_archived(&mut self, name: &str) -> Result<Option<(Arc<File>, StmtId)>> {
        let Some((module, base)) = name.rsplit_once('.') else { return Ok(None) };
        let key = format!("{module} as archived");
        if !self.files.contains_key(&key) {
            let source = self.sources.get(module).and_then(|path| self.archive.sources.get(path));
            let parsed = match source {
                Some(source) => Some(Arc::new(ParsedFile::new(Arc::new(parse_dialect(source, Dialect::Own)?), module))),
                None => None,
            };
            self.files.insert(key.clone(), parsed);
        }
        let parsed = self.files.get(&key).and_then(Clone::clone);
        Ok(parsed.and_then(|parsed| parsed.items.get(base).map(|&stmt| (Arc::clone(&parsed.file), stmt))))
    }

    /// Adds a text whose items' names begin with `module`.
    pub(crate) fn add_text(
        &mut self,
        module: &str,
        source: Arc<Source>,
        dialect: Dialect,
        imports: Option<Arc<Source>>,
    ) {
        self.texts.insert(module.to_owned(), Text { source, dialect, imports });
    }

    /// Notes that in a file that was made for a text names mean what they mean there.
    pub(crate) fn add_text_within(&mut self, made: &Arc<File>, around: &Arc<ParsedFile>) {
        self.parsed_texts.insert(Arc::as_ptr(made).addr(), Arc::clone(around));
        self.made.push(Arc::clone(made));
    }

    /// Adds a file that is parsed already.
    pub(crate) fn add_parsed(&mut self, parsed: ParsedFile) {
        let parsed = self.add_parsed_text(parsed);
        self.files.insert(parsed.module.to_string(), Some(parsed));
    }

    /// Notes that a file is a text and no archived code.
    pub(crate) fn add_parsed_text(&mut self, parsed: ParsedFile) -> Arc<ParsedFile> {
        let parsed = Arc::new(parsed);
        self.parsed_texts.insert(Arc::as_ptr(&parsed.file).addr(), Arc::clone(&parsed));
        parsed
    }

    /// The parsed file of a module.
    pub(crate) fn file(&mut self, module: &str) -> Result<Option<Arc<ParsedFile>>> {
        if let Some(known) = self.files.get(module) {
            return Ok(known.clone());
        }
        let archived = self.sources.get(module).and_then(|path| self.archive.sources.get(path));
        let parsed = match (self.texts.get(module).cloned(), archived) {
            (Some(text), _) => {
                let file = Arc::new(parse_dialect(&text.source, text.dialect)?);
                let mut parsed = ParsedFile::new(file, module);
                if let Some(imports) = &text.imports {
                    let around = Arc::new(parse_dialect(imports, Dialect::Python)?);
                    parsed.imports = ParsedFile::new(around, module).imports;
                }
                Some(self.add_parsed_text(parsed))
            }
            (None, Some(source)) => {
                Some(Arc::new(ParsedFile::new(Arc::new(parse_dialect(source, Dialect::Own)?), module)))
            }
            (None, None) => None,
        };
        self.files.insert(module.to_owned(), parsed.clone());
        Ok(parsed)
    }

    /// The parsed text of a module, if a text defines it.
    pub(crate) fn text_module(&mut self, module: &str) -> Result<Option<Arc<ParsedFile>>> {
        if self.texts.contains_key(module) { self.file(module) } else { Ok(None) }
    }

    /// The top level of a file, if it is a text and not archived code.
    pub(crate) fn text_of(&self, file: &Arc<File>) -> Option<Arc<ParsedFile>> {
        self.parsed_texts.get(&Arc::as_ptr(file).addr()).cloned()
    }

    pub(crate) fn find(&mut self, name: &str) -> Result<Option<(Arc<File>, StmtId)>> {
        let Some((module, base)) = name.rsplit_once('.') else { return Ok(None) };
        let found = |parsed: Arc<ParsedFile>| parsed.items.get(base).map(|&stmt| (Arc::clone(&parsed.file), stmt));
        // An archive holds of the library's functions only those it calls, and no longer knows what one value may stand for.
        match self.library_text_of(module, base)? {
            Some(library) => Ok(found(library)),
            None => match self.file(module)?.and_then(found) {
                // An object of the archive may be of a class that the text does not have.
                None if self.texts.contains_key(module) => {
                    let archived = self.find_archived(name)?;
                    Ok(archived.filter(|(file, stmt)| matches!(file.stmts[*stmt].kind, StmtKind::Class(_))))
                }
                found => Ok(found),
            },
        }
    }

    /// Whether the archive has a file in which the name would be defined.
    pub(crate) fn is_archived(&self, name: &str) -> bool {
        name.rsplit_once('.').is_some_and(|(module, _)| self.sources.contains_key(module))
    }

    /// The class, function or enumeration of this qualified name, declared on first use; `None` if there is none.
    pub(crate) fn item(&mut self, name: &str) -> Result<Option<Item>> {
        if let Some(item) = self.items.get(name) {
            return Ok(Some(item.clone()));
        }
        if name.starts_with("__torch__.torch.classes.") {
            return Ok(Some(Item::Class(Type::Class(name.into()))));
        }
        if self.in_progress.contains(name) {
            return Ok(None);
        }
        let found = match self.find(name)? {
            Some(found) => Some(found),
            // Objects of an archive may be of classes that the text in place of its file does not have.
            None => {
                let archived = self.find_archived(name)?;
                archived.filter(|(file, stmt)| matches!(file.stmts[*stmt].kind, StmtKind::Class(_)))
            }
        };
        let Some((file, stmt)) = found else { return Ok(None) };
        let qualified: Arc<str> = name.into();
        let item = match &file.stmts[stmt].kind {
            StmtKind::Class(class) => {
                if file.dialect == Dialect::Python {
                    return self.declare_text(&qualified, &file, class).map(Some);
                }
                if self.in_progress.len() > MAX_TYPE_DEPTH {
                    let span = file.span(class.head);
                    return Err(Diagnostic::unsupported("classes refer to each other too deeply").at(Some(&span)));
                }
                self.in_progress.insert(Arc::clone(&qualified));
                let item = super::classes::declare(self, &qualified, &file, class);
                self.in_progress.remove(&qualified);
                let item = item?;
                self.methods_from_text(&qualified)?;
                item
            }
            _ => Item::Function(Arc::clone(&qualified)),
        };
        self.items.insert(qualified, item.clone());
        Ok(Some(item))
    }

    /// Where a function or method of this qualified name is written.
    pub(crate) fn definition(&mut self, name: &str) -> Result<Option<Definition>> {
        if let Some(definition) = self.definitions.get(name) {
            return Ok(Some(definition.clone()));
        }
        if let Some((owner, method)) = name.rsplit_once('.')
            && let Some(declared) = self.classes.get(owner)
        {
            return Ok(declared.methods.get(method).cloned());
        }
        let found = self.find(name)?;
        Ok(found.and_then(|(file, stmt)| {
            matches!(file.stmts[stmt].kind, StmtKind::Def(_)).then_some(Definition { file, stmt, declared: None })
        }))
    }

    /// The signature of a function or method; `self_ty` is the type of an unannotated `self`.
    pub(crate) fn signature(&mut self, name: &Arc<str>, self_ty: Option<&Type>) -> Result<Option<Arc<Signature>>> {
        if let Some(known) = self.signatures.get(name) {
            return Ok(Some(Arc::clone(known)));
        }
        if let Some(traced) = self.functions.get(name).filter(|function| function.is_traced) {
            let param = |argument: &Argument| Param {
                name: Arc::clone(&argument.name),
                ty: argument.ty.clone(),
                default: None,
                is_keyword_only: false,
                is_inferred: false,
                list_size: None,
            };
            let params = traced.params.iter().map(param).collect();
            return Ok(Some(Arc::new(Signature { file: None, params, result: Some(traced.result.clone()) })));
        }
        let Some(definition) = self.definition(name)? else { return Ok(None) };
        let declaration = definition.declaration();
        if definition.declared.is_some()
            && declaration.returns.is_none()
            && declaration.params.iter().all(|param| param.annotation.is_none())
        {
            let plain = name.rsplit_once("__").map_or(&**name, |(plain, _)| plain);
            let text = format!("Must explicitly add type annotations to overloaded functions: {plain}");
            return Err(Diagnostic::user(text).at(Some(&definition.file.span(declaration.head))));
        }
        let mut signature = self.read_signature(&definition.file, declaration, self_ty)?;
        if matches!(self_ty, Some(Type::Interface(_))) {
            // PyTorch does not read the defaults of an interface: calls through it give every argument.
            signature.params.iter_mut().for_each(|param| param.default = None);
        }
        if definition.declared.is_some() && self_ty.is_none() {
            self.default_as(&mut signature, definition.function(), &definition.file);
        }
        let signature = Arc::new(signature);
        self.signatures.insert(Arc::clone(name), Arc::clone(&signature));
        Ok(Some(signature))
    }

    /// A signature that has been read before.
    pub(crate) fn known_signature(&self, name: &Arc<str>) -> Option<Arc<Signature>> {
        self.signatures.get(name).map(Arc::clone)
    }

    /// The signature a `def` is written with.
    pub(crate) fn read_signature(
        &mut self,
        file: &Arc<File>,
        def: &ast::Function,
        self_ty: Option<&Type>,
    ) -> Result<Signature> {
        if let Some((message, place)) = &def.mistake {
            return Err(Diagnostic::user(&**message).at(Some(&file.span(*place))));
        }
        let mut params = Vec::with_capacity(def.params.len());
        // What is never run takes anything.
        let is_unused = self.mark(file, def) == super::python::Mark::Unused;
        for (at, param) in def.params.iter().enumerate() {
            if matches!(param.kind, ast::ParamKind::Rest | ast::ParamKind::KeywordRest) {
                if is_unused {
                    continue;
                }
                return Err(Diagnostic::user(NO_VARIABLE_ARGUMENTS).at(Some(&file.span(param.name.range))));
            }
            if let (ast::ParamKind::KeywordOnly, Some(default)) = (param.kind, &param.default)
                && self.text_of(file).is_some()
            {
                return Err(Diagnostic::user(NO_VARIABLE_ARGUMENTS).at(Some(&file.span(default.range))));
            }
            let ty = match (&param.annotation, self_ty) {
                (_, Some(self_ty)) if at == 0 => self_ty.clone(),
                _ if is_unused => Type::Any,
                (Some(annotation), _) => self.ty(annotation, file)?,
                (None, _) => Type::tensor(),
            };
            params.push(Param {
                name: Arc::clone(&param.name.text),
                ty,
                default: param.default.clone(),
                is_keyword_only: param.kind == ast::ParamKind::KeywordOnly,
                is_inferred: param.annotation.is_none()
                    && (at > 0 || self_ty.is_none())
                    && self.text_of(file).is_some(),
                list_size: param.annotation.as_ref().and_then(super::annotation::broadcast_size),
            });
        }
        let result = def.returns.as_ref().map(|ty| self.ty(ty, file)).transpose()?;
        Ok(Signature { file: Some(Arc::clone(file)), params, result })
    }

    /// The span of a range of a file.
    pub(crate) fn span(file: &Arc<File>, range: TextRange) -> Span {
        file.span(range)
    }
}

impl Classes for Program<'_> {
    fn satisfies(&self, class: &str, interface: &str) -> bool {
        let (Some(have), Some(want)) = (self.classes.get(class), self.classes.get(interface)) else { return false };
        let Some(asked) = &want.class.interface else { return false };
        (have.class.is_module() || !asked.is_module)
            && want
                .class
                .methods
                .iter()
                .all(|method| have.methods.contains_key(method) && self.is_compatible(class, interface, method))
    }
}

/// Says who needed the function that failed.
pub(crate) fn called_from(error: Box<Diagnostic>, callee: &str, caller: &str) -> Box<Diagnostic> {
    const MAX_NOTES: usize = 8;
    if error.notes.len() >= MAX_NOTES {
        return error;
    }
    error.note(format!("'{callee}' is being compiled since it was called from '{caller}'"))
}

/// A text that is compiled with, or instead of, an archive.
#[derive(Clone, Debug)]
struct Text {
    source: Arc<Source>,
    dialect: Dialect,
    imports: Option<Arc<Source>>,
}

impl ParsedFile {
    /// A file whose names mean nothing to others.
    pub(crate) fn of(file: Arc<File>, module: &str) -> Self {
        Self {
            module: module.into(),
            items: HashMap::new(),
            imports: HashMap::new(),
            values: HashMap::new(),
            defs: HashMap::new(),
            file,
        }
    }

    /// A file with what its top level names.
    pub(crate) fn new(file: Arc<File>, module: &str) -> Self {
        let mut parsed = Self::of(Arc::clone(&file), module);
        let mut todo: Vec<&ast::Block> = vec![&file.body];
        while let Some(block) = todo.pop() {
            for &id in &block.stmts {
                match &file.stmts[id].kind {
                    StmtKind::Class(class) => _ = parsed.items.insert(Arc::clone(&class.name.text), id),
                    StmtKind::Def(def) => {
                        parsed.items.insert(Arc::clone(&def.name.text), id);
                        parsed.defs.entry(Arc::clone(&def.name.text)).or_default().push(id);
                    }
                    StmtKind::Assign { targets, .. } => {
                        for target in targets {
                            if let ExprKind::Name(name) = &target.kind {
                                parsed.values.insert(Arc::clone(name), id);
                            }
                        }
                    }
                    StmtKind::Import(imports) => imports.iter().for_each(|import| parsed.import(import)),
                    // `try: import a` and `except: import b` name the same thing.
                    StmtKind::Unsupported { blocks, .. } => todo.extend(blocks),
                    StmtKind::If { then, orelse, .. } => todo.extend([then, orelse]),
                    _ => {}
                }
            }
        }
        parsed
    }

    fn import(&mut self, import: &ast::Import) {
        let name = &import.name.text;
        let (local, path) = match (&import.from, &import.alias) {
            (Some(_), _) if &**name == "*" => return,
            (Some(from), alias) => {
                (alias.as_ref().map_or(name, |alias| &alias.text), Arc::from(format!("{from}.{name}")))
            }
            (None, Some(alias)) => (&alias.text, Arc::clone(name)),
            // `import a.b` names `a`.
            (None, None) => {
                let first: Arc<str> = name.split('.').next().unwrap_or(name).into();
                _ = self.imports.insert(Arc::clone(&first), first);
                return;
            }
        };
        self.imports.entry(Arc::clone(local)).or_insert(path);
    }
}

/// `a.b.c` as one text, if the expression is a chain of names.
pub(crate) fn dotted(expr: &ast::Expr) -> Option<String> {
    let (mut parts, mut at) = (Vec::new(), expr);
    loop {
        match &at.kind {
            ExprKind::Attribute { value, name } => {
                parts.push(&*name.text);
                at = value;
            }
            ExprKind::Name(name) => {
                parts.push(name);
                break;
            }
            _ => return None,
        }
    }
    parts.reverse();
    Some(parts.join("."))
}
