//! Python files: what their global names mean, and how their classes become classes of the program.
//!
//! A file's imports say what its names stand for; nothing is executed. Classes and functions of the file get the
//! qualified names they would have in an archive, so all that follows is the same for both.

use super::classes;
use super::function::Emitter;
use super::names::{Declared, Definition, Item, ParsedFile, Program, dotted};
use super::sugar::{Sugared, python_value};
use crate::diag::{Diagnostic, Result};
use crate::ir::{Class, ClassKind};
use crate::syntax::Dialect;
use crate::syntax::ast::{self, ExprKind, File, StmtKind, TextRange};
use crate::types::{EnumType, NamedTupleType, Type};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::sync::Arc;

const NO_INHERITANCE: &str =
    "TorchScript classes does not support inheritance yet. Please directly inherit from 'object'.";

/// The defaults a named tuple's fields have.
type Defaults = Vec<Option<ast::Expr>>;

impl Program<'_> {
    /// A dotted path with its first name replaced by what the file imports it as.
    pub(crate) fn absolute(&self, file: &Arc<File>, path: &str) -> String {
        let Some(parsed) = self.text_of(file) else { return path.to_owned() };
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        match parsed.imports.get(first) {
            Some(whole) if rest.is_empty() => whole.to_string(),
            Some(whole) => format!("{whole}.{rest}"),
            None => path.to_owned(),
        }
    }

    /// The type that a global name of a text means; `None` if it is not the text's own.
    pub(crate) fn text_type(&mut self, file: &Arc<File>, name: &str) -> Result<Option<Type>> {
        let Some(parsed) = self.text_of(file) else { return Ok(None) };
        if parsed.items.contains_key(name) || parsed.values.contains_key(name) {
            let item = match self.item(&format!("{}.{name}", parsed.module))? {
                Some(item) => Some(item),
                None => self.item_of_value(&parsed, name)?,
            };
            return Ok(match item {
                Some(Item::Class(ty)) => Some(ty),
                Some(Item::NamedTuple(ty)) => Some(Type::NamedTuple(ty)),
                Some(Item::Enum(ty)) => Some(Type::Enum(ty)),
                // A class that is being declared may refer to itself.
                Some(Item::Function(_)) | None => {
                    let qualified: Arc<str> = format!("{}.{name}", parsed.module).into();
                    self.in_progress.contains(&qualified).then_some(Type::Class(qualified))
                }
            });
        }
        let Some(path) = parsed.imports.get(name) else { return Ok(None) };
        Ok(match &**path {
            "torch.Tensor" | "torch.nn.Parameter" | "torch.nn.parameter.Parameter" => Some(Type::tensor()),
            "torch.device" => Some(Type::Device),
            "torch.dtype" => Some(Type::Int),
            _ => None,
        })
    }

    /// `Point = namedtuple("Point", ["x"])` and the like.
    pub(crate) fn item_of_value(&mut self, parsed: &Arc<ParsedFile>, name: &str) -> Result<Option<Item>> {
        match self.given.get(name) {
            Some(Ok(function)) => return Ok(Some(Item::Function(Arc::clone(function)))),
            Some(Err(why)) => return Err(Box::new((**why).clone())),
            None => {}
        }
        let Some(&id) = parsed.values.get(name) else { return Ok(None) };
        let StmtKind::Assign { value, .. } = &parsed.file.stmts[id].kind else { return Ok(None) };
        let file = Arc::clone(&parsed.file);
        let ExprKind::Call { callee, args } = &value.kind else {
            // Another name for something.
            return match &value.kind {
                ExprKind::Name(other) if **other != *name => {
                    if parsed.items.contains_key(other) {
                        return self.item(&format!("{}.{other}", parsed.module));
                    }
                    self.item_of_value(parsed, other)
                }
                _ => Ok(None),
            };
        };
        let path = dotted(callee).map(|path| self.absolute(&file, &path)).unwrap_or_default();
        let values: Vec<&ast::Expr> = args.iter().map(|arg| &arg.value).collect();
        match (path.as_str(), values.as_slice()) {
            ("torch.jit.script" | "torch.jit.script_if_tracing", [one, ..]) => match &one.kind {
                ExprKind::Name(other) if **other != *name && parsed.items.contains_key(other) => {
                    self.item(&format!("{}.{other}", parsed.module))
                }
                _ => Ok(None),
            },
            ("collections.namedtuple" | "typing.NamedTuple" | "NamedTuple", [title, fields, ..]) => {
                let title = if let ExprKind::Str(title) = &title.kind { classes::string(title) } else { name.into() };
                let qualified: Arc<str> = format!("{}.{title}", parsed.module).into();
                if let Some(item) = self.items.get(&qualified) {
                    return Ok(Some(item.clone()));
                }
                let mut list = Vec::new();
                match &fields.kind {
                    ExprKind::Str(text) => {
                        let text = classes::string(text);
                        let names = text.split([' ', ',']).filter(|part| !part.is_empty());
                        list.extend(names.map(|field| (Arc::from(field), Type::tensor())));
                    }
                    ExprKind::List(items) | ExprKind::Tuple(items) => {
                        for item in items {
                            match &item.kind {
                                ExprKind::Str(field) => list.push((classes::string(field), Type::tensor())),
                                ExprKind::Tuple(pair) => {
                                    if let [ast::Expr { kind: ExprKind::Str(field), .. }, ty] = pair.as_slice() {
                                        list.push((classes::string(field), self.ty(ty, &file)?));
                                    }
                                }
                                _ => {}
                            }
                        }
                    }
                    _ => return Ok(None),
                }
                let ty = NamedTupleType { name: Arc::clone(&qualified), fields: list };
                let attrs = ty.fields.iter().cloned().collect();
                let mut class = Class::new(Arc::clone(&qualified), ClassKind::NamedTuple);
                class.attrs = attrs;
                self.classes.insert(Arc::clone(&qualified), Declared { class, methods: HashMap::new() });
                let item = Item::NamedTuple(Arc::new(ty));
                self.items.insert(qualified, item.clone());
                Ok(Some(item))
            }
            _ => Ok(None),
        }
    }

    /// Declares a class of a Python file and compiles what its attributes come from.
    pub(crate) fn declare_text(&mut self, qualified: &Arc<str>, file: &Arc<File>, syntax: &ast::Class) -> Result<Item> {
        self.in_progress.insert(Arc::clone(qualified));
        let item = self.declare_text_inner(qualified, file, syntax);
        self.in_progress.remove(qualified);
        let (item, has_init) = item?;
        self.items.insert(Arc::clone(qualified), item.clone());
        if let Item::Class(ty @ (Type::Class(_) | Type::Interface(_))) = &item {
            self.read_signatures(qualified, ty)?;
        }
        if has_init {
            // Attributes are what the constructor assigns.
            self.compile_method(qualified, &"__init__".into())?;
        }
        Ok(item)
    }

    /// Reads the signatures of a script class or interface, which decide what it can be used as.
    fn read_signatures(&mut self, class: &Arc<str>, ty: &Type) -> Result<()> {
        let Some(declared) = self.classes.get(class).filter(|declared| declared.class.kind != ClassKind::Module) else {
            return Ok(());
        };
        let methods: Vec<(Arc<str>, Definition)> =
            declared.methods.iter().map(|(name, definition)| (Arc::clone(name), definition.clone())).collect();
        for (name, definition) in methods {
            match self.mark(&definition.file, definition.function()) {
                Mark::Ignore | Mark::Unused | Mark::Static | Mark::Overload => continue,
                Mark::Plain | Mark::Export | Mark::Getter | Mark::Setter => {}
            }
            self.check_enums_of(&definition)?;
            let signature = self.signature(&format!("{class}.{name}").into(), Some(ty))?;
            if matches!(ty, Type::Interface(_)) && signature.is_some_and(|signature| signature.result.is_none()) {
                let span = definition.file.span(definition.function().name.range);
                return Err(
                    Diagnostic::user("interface declarations must have a return type annotated.").at(Some(&span))
                );
            }
        }
        Ok(())
    }

    /// An enumeration that cannot be one names no type in a method.
    fn check_enums_of(&mut self, definition: &Definition) -> Result<()> {
        let Some(parsed) = self.text_of(&definition.file) else { return Ok(()) };
        for param in &definition.function().params {
            let Some(annotation) = &param.annotation else { continue };
            let ExprKind::Name(name) = &annotation.kind else { continue };
            let Some(&id) = parsed.items.get(name) else { continue };
            let StmtKind::Class(syntax) = &parsed.file.stmts[id].kind else { continue };
            if self.kind_of(&parsed, syntax, 0) == ClassKind::Enum
                && let Err(why) = self.item(&format!("{}.{name}", parsed.module))
            {
                let span = definition.file.span(annotation.range);
                return Err(Diagnostic::user(format!("Unknown type name '{name}'")).note(why.message).at(Some(&span)));
            }
        }
        Ok(())
    }

    /// Refuses to script a class with bases, which PyTorch does where the class itself is asked for.
    pub(crate) fn refuse_bases(&self, parsed: &ParsedFile, syntax: &ast::Class) -> Result<()> {
        let file = &parsed.file;
        match syntax.bases.iter().find(|base| self.has_base_here(parsed, base)) {
            Some(base) => Err(Diagnostic::user(NO_INHERITANCE).at(Some(&file.span(base.range)))),
            None => Ok(()),
        }
    }

    /// Whether a base is a class of the same file.
    fn has_base_here(&self, parsed: &ParsedFile, base: &ast::Expr) -> bool {
        let ExprKind::Name(name) = &base.kind else { return false };
        parsed.items.get(name).is_some_and(|&id| matches!(parsed.file.stmts[id].kind, StmtKind::Class(_)))
    }

    /// What kind of class this is, through bases of the same file.
    pub(crate) fn kind_of(&self, parsed: &Arc<ParsedFile>, syntax: &ast::Class, depth: usize) -> ClassKind {
        let file = &parsed.file;
        let is_interface = syntax.decorators.iter().any(|decorator| {
            dotted(decorator).map(|path| self.absolute(file, &path)).as_deref() == Some("torch.jit.interface")
        });
        if is_interface {
            return ClassKind::Interface;
        }
        for base in &syntax.bases {
            let path = dotted(base).map(|path| self.absolute(file, &path)).unwrap_or_default();
            match path.as_str() {
                "enum.Enum" | "Enum" | "enum.IntEnum" => return ClassKind::Enum,
                "typing.NamedTuple" | "NamedTuple" => return ClassKind::NamedTuple,
                "torch.nn.Module" | "torch.jit.ScriptModule" => return ClassKind::Module,
                path if path.starts_with("torch.nn.") => return ClassKind::Module,
                path => {
                    if let Some(&id) = parsed.items.get(path)
                        && depth < 20
                        && let StmtKind::Class(base) = &file.stmts[id].kind
                    {
                        let kind = self.kind_of(parsed, base, depth + 1);
                        if kind != ClassKind::Interface {
                            return kind;
                        }
                    }
                }
            }
        }
        ClassKind::Class
    }

    fn declare_text_inner(
        &mut self,
        qualified: &Arc<str>,
        file: &Arc<File>,
        syntax: &ast::Class,
    ) -> Result<(Item, bool)> {
        let Some(parsed) = self.text_of(file) else {
            return Err(Diagnostic::internal("a text's class without its text"));
        };
        let span = file.span(syntax.head);
        let kind = self.kind_of(&parsed, syntax, 0);
        if self.mark_of(file, &syntax.decorators) == Mark::Ignore {
            self.ignored.insert(Arc::clone(qualified));
        }
        let mut class = Class::new(Arc::clone(qualified), kind);
        let mut defaults: Defaults = Vec::new();
        if kind == ClassKind::Class
            && let Some(base) = syntax.bases.iter().find(|base| dotted(base).as_deref() != Some("object"))
            && !self.is_abstract_base(file, base)
        {
            let is_exception = dotted(base).is_some_and(|path| path.ends_with("Exception") || path.ends_with("Error"));
            let is_scripted = syntax.decorators.iter().any(|decorator| {
                dotted(decorator).is_some_and(|path| self.absolute(file, &path) == "torch.jit.script")
            });
            // Of a class that is used but not scripted itself, the methods of its bases are its own.
            if !is_exception && (is_scripted || !self.has_base_here(&parsed, base)) {
                return Err(Diagnostic::user(NO_INHERITANCE).at(Some(&file.span(base.range))));
            }
        }
        for &id in &syntax.body.stmts {
            match &file.stmts[id].kind {
                StmtKind::AnnAssign { target, annotation, value } => {
                    let ExprKind::Name(name) = &target.kind else { continue };
                    if kind == ClassKind::NamedTuple {
                        let ty = self.ty(annotation, file)?;
                        class.attrs.insert(Arc::clone(name), ty);
                        if let Some(default) = value
                            && self.kind_of_value(file, default) == "Tensor"
                        {
                            let text = "Tensors are not supported as default NamedTuple fields. Their mutability could \
                                        lead to potential memory aliasing problems";
                            return Err(Diagnostic::user(text).at(Some(&file.span(default.range))));
                        }
                        defaults.push(value.clone());
                    }
                }
                StmtKind::Assign { targets, value } if kind == ClassKind::Enum => {
                    let Some(ast::Expr { kind: ExprKind::Name(name), .. }) = targets.first() else { continue };
                    let literal = classes::literal(value, file);
                    let member = literal.map_err(|_| {
                        let what = self.kind_of_value(file, value);
                        Diagnostic::user(format!(
                            "Cannot create Enum with value type '{what}', only int, float and string are supported"
                        ))
                        .at(Some(&file.span(value.range)))
                    })?;
                    class.constants.insert(Arc::clone(name), member);
                }
                _ => {}
            }
        }
        if kind == ClassKind::Module
            && let Some((archived, stmt)) = self.find_archived(qualified)?
            && let StmtKind::Class(stored) = &archived.stmts[stmt].kind
        {
            let item = classes::declare(self, qualified, &archived, stored)?;
            self.methods_from_text(qualified)?;
            return Ok((item, false));
        }
        let mut methods = self.text_methods(&parsed, syntax, 0);
        if let Some(decorator) = self.dataclass_decorator(file, syntax).filter(|_| kind == ClassKind::Class) {
            methods.extend(self.dataclass_methods(&parsed, syntax, decorator)?);
        }
        class.methods = methods.keys().cloned().collect();
        if let Some(interface) = &mut class.interface {
            // PyTorch takes them in the order of `dir`.
            class.methods.sort();
            let is_module = |base: String| self.absolute(file, &base) == "torch.nn.Module";
            interface.is_module = syntax.bases.iter().filter_map(dotted).any(is_module);
        }
        let has_init = kind == ClassKind::Class && methods.contains_key("__init__");
        let item = match kind {
            ClassKind::Class | ClassKind::Module => Item::Class(Type::Class(Arc::clone(qualified))),
            ClassKind::Interface => Item::Class(Type::Interface(Arc::clone(qualified))),
            ClassKind::NamedTuple => {
                let fields = class.attrs.iter().map(|(name, ty)| (Arc::clone(name), ty.clone())).collect();
                self.field_defaults.insert(Arc::clone(qualified), defaults);
                Item::NamedTuple(Arc::new(NamedTupleType { name: Arc::clone(qualified), fields }))
            }
            ClassKind::Enum => {
                let mut value: Option<Type> = None;
                for (at, member) in class.constants.values().rev().enumerate() {
                    let ty = classes::type_of(member);
                    if !matches!(ty, Type::Int | Type::Float | Type::Str) {
                        return Err(Diagnostic::user(format!(
                            "Cannot create Enum with value type '{ty}', only int, float and string are supported"
                        ))
                        .at(Some(&span)));
                    }
                    if let Some(before) = value.as_ref().filter(|known| **known != ty) {
                        return Err(Diagnostic::user(format!(
                            "Could not unify type list since element {at} of type {ty} did not match the types before it ({before})"
                        ))
                        .note(format!("the values of the enum '{}' must have one type", syntax.name.text))
                        .at(Some(&span)));
                    }
                    value = Some(ty);
                }
                Item::Enum(Arc::new(EnumType { name: Arc::clone(qualified), value: value.unwrap_or(Type::Int) }))
            }
        };
        let methods = methods.into_iter().collect();
        self.classes.insert(Arc::clone(qualified), Declared { class, methods });
        Ok((item, has_init))
    }

    /// Whether the body of a text's class, and not its constructor, gives this name a value.
    pub(crate) fn is_class_attribute(&mut self, class: &str, name: &str) -> Result<bool> {
        let Some((file, stmt)) = self.find(class)? else { return Ok(false) };
        let StmtKind::Class(syntax) = &file.stmts[stmt].kind else { return Ok(false) };
        let is_text = self.text_of(&file).is_some();
        Ok(is_text
            && syntax.body.stmts.iter().any(|&id| match &file.stmts[id].kind {
                StmtKind::Assign { targets, .. } => targets.iter().any(|target| names(target, name)),
                StmtKind::AnnAssign { target, value: Some(_), .. } => names(target, name),
                StmtKind::Class(inner) => *inner.name.text == *name,
                _ => false,
            }))
    }

    fn is_abstract_base(&self, file: &Arc<File>, base: &ast::Expr) -> bool {
        dotted(base).is_some_and(|path| matches!(self.absolute(file, &path).as_str(), "abc.ABC" | "ABC"))
    }

    /// A word for a value that only Python could compute.
    fn kind_of_value(&self, file: &Arc<File>, value: &ast::Expr) -> &'static str {
        if let ExprKind::Call { callee, .. } = &value.kind
            && dotted(callee)
                .map(|path| self.absolute(file, &path))
                .is_some_and(|path| path.starts_with("torch.") && path != "torch.device")
        {
            return "Tensor";
        }
        "object"
    }

    /// The methods of a class and of its bases in the same file, with what their decorators make of them.
    pub(crate) fn text_methods(
        &self,
        parsed: &Arc<ParsedFile>,
        syntax: &ast::Class,
        depth: usize,
    ) -> IndexMap<Arc<str>, Definition> {
        let mut methods = IndexMap::new();
        for base in &syntax.bases {
            if let ExprKind::Name(name) = &base.kind
                && let Some(&id) = parsed.items.get(name)
                && depth < 20
                && let StmtKind::Class(base) = &parsed.file.stmts[id].kind
            {
                methods.extend(self.text_methods(parsed, base, depth + 1));
            }
        }
        methods.extend(self.own_methods(parsed, syntax));
        methods
    }

    fn own_methods(&self, parsed: &Arc<ParsedFile>, syntax: &ast::Class) -> IndexMap<Arc<str>, Definition> {
        let mut methods = IndexMap::new();
        let mut overloads: HashMap<&str, Vec<ast::StmtId>> = HashMap::new();
        for &id in &syntax.body.stmts {
            let StmtKind::Def(def) = &parsed.file.stmts[id].kind else { continue };
            let name = match self.mark(&parsed.file, def) {
                Mark::Overload => {
                    overloads.entry(&*def.name.text).or_default().push(id);
                    continue;
                }
                Mark::Getter => format!("__{}_getter", def.name.text).into(),
                Mark::Setter => format!("__{}_setter", def.name.text).into(),
                Mark::Plain | Mark::Export | Mark::Ignore | Mark::Unused | Mark::Static => Arc::clone(&def.name.text),
            };
            if let Some(declared) = overloads.get(&*def.name.text) {
                for (at, &declared) in declared.iter().enumerate() {
                    let file = Arc::clone(&parsed.file);
                    let definition = Definition { file, stmt: id, declared: Some(declared) };
                    methods.insert(overload_name(&name, at), definition);
                }
                continue;
            }
            methods.insert(name, Definition { file: Arc::clone(&parsed.file), stmt: id, declared: None });
        }
        methods
    }

    /// What the decorators of a function say.
    pub(crate) fn mark(&self, file: &Arc<File>, def: &ast::Function) -> Mark {
        self.mark_of(file, &def.decorators)
    }

    /// What decorators say.
    pub(crate) fn mark_of(&self, file: &Arc<File>, decorators: &[ast::Expr]) -> Mark {
        for decorator in decorators {
            let callee = if let ExprKind::Call { callee, .. } = &decorator.kind { callee } else { decorator };
            let path = dotted(callee).map(|path| self.absolute(file, &path)).unwrap_or_default();
            return match path.as_str() {
                "torch.jit.export" | "torch.jit.script_method" => Mark::Export,
                "torch.jit.ignore" if is_dropped(decorator) => Mark::Unused,
                "torch.jit.ignore" => Mark::Ignore,
                "torch.jit.unused" | "torch.jit._drop" => Mark::Unused,
                "torch.jit._overload_method"
                | "torch.jit._overload"
                | "torch._jit_internal._overload_method"
                | "torch._jit_internal._overload" => Mark::Overload,
                "staticmethod" => Mark::Static,
                "property" => Mark::Getter,
                path if path.ends_with(".setter") => Mark::Setter,
                _ => continue,
            };
        }
        Mark::Plain
    }

    /// Whether a method of a script class is compiled with the class.
    pub(crate) fn is_compiled_method(&self, class: &str, method: &str) -> bool {
        let definition = self.classes.get(class).and_then(|declared| declared.methods.get(method));
        definition.is_some_and(|definition| match self.mark(&definition.file, definition.function()) {
            Mark::Ignore | Mark::Unused | Mark::Static => false,
            Mark::Overload | Mark::Plain | Mark::Export | Mark::Getter | Mark::Setter => true,
        })
    }

    /// The methods of an archive's class that a text defines: `Net` of the text for `__torch__.___torch_mangle_3.Net`.
    pub(crate) fn methods_from_text(&mut self, qualified: &Arc<str>) -> Result<()> {
        if self.classes.get(qualified).is_none_or(|declared| declared.class.kind != ClassKind::Module) {
            return Ok(());
        }
        for class in self.mro(qualified)?.into_iter().rev() {
            let Some((parsed, id)) = self.text_class(&class)? else { continue };
            let StmtKind::Class(syntax) = &parsed.file.stmts[id].kind else { continue };
            let methods = self.own_methods(&parsed, syntax);
            if let Some(declared) = self.classes.get_mut(qualified) {
                declared.methods.extend(methods);
            }
        }
        Ok(())
    }

    /// The names of the methods that are compiled though nothing calls them.
    pub(crate) fn entry_methods(&self, class: &str) -> Vec<Arc<str>> {
        let Some(declared) = self.classes.get(class) else { return Vec::new() };
        let is_entry = |name: &&Arc<str>| {
            declared.methods.get(*name).is_some_and(|definition| {
                definition.file.dialect == Dialect::Own
                    || definition.declared.is_some()
                    || &***name == "forward" && self.mark(&definition.file, definition.function()) == Mark::Plain
                    || self.mark(&definition.file, definition.function()) == Mark::Export
            })
        };
        let mut names: Vec<Arc<str>> = declared.class.methods.iter().filter(is_entry).cloned().collect();
        let mut rest: Vec<&Arc<str>> = declared.methods.keys().filter(is_entry).collect();
        // Overloads come first, then `forward`, then what is exported.
        let is_plain = |name: &str| declared.methods.get(name).is_some_and(|definition| definition.declared.is_none());
        rest.sort_by_key(|name| (is_plain(name), &***name != "forward", Arc::clone(name)));
        for name in rest {
            if !names.contains(name) {
                names.push(Arc::clone(name));
            }
        }
        names
    }
}

/// What a decorator makes of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    Plain,
    Export,
    Ignore,
    Unused,
    Static,
    Overload,
    Getter,
    Setter,
}

/// Whether what stays with Python is left out of what is saved: `ignore(drop=True)`.
fn is_dropped(decorator: &ast::Expr) -> bool {
    let ExprKind::Call { args, .. } = &decorator.kind else { return false };
    let is_drop = |arg: &ast::Arg| arg.name.as_ref().is_none_or(|name| &*name.text == "drop");
    args.first().is_some_and(|arg| is_drop(arg) && matches!(arg.value.kind, ExprKind::Bool(true)))
}

/// A qualified name without what tells classes of one name apart.
pub(crate) fn demangled(name: &str) -> String {
    let parts = name.split('.').filter(|part| !part.starts_with("___torch_mangle_"));
    parts.collect::<Vec<_>>().join(".")
}

/// The name of a method's overload.
pub(crate) fn overload_name(method: &str, at: usize) -> Arc<str> {
    format!("{method}__{at}").into()
}

impl Emitter<'_, '_> {
    /// What a global name of the text means; `None` if the text does not have it.
    pub(crate) fn global(&mut self, name: &Arc<str>, range: TextRange) -> Result<Option<Sugared>> {
        match self.program.text_of(&self.file) {
            Some(parsed) => self.meaning(&parsed, name, range),
            None => Ok(None),
        }
    }

    /// What a global name of this text means; `None` if it does not have it.
    pub(crate) fn meaning(
        &mut self,
        parsed: &Arc<ParsedFile>,
        name: &Arc<str>,
        range: TextRange,
    ) -> Result<Option<Sugared>> {
        if parsed.items.contains_key(name) {
            let qualified: Arc<str> = format!("{}.{name}", parsed.module).into();
            let span = self.span(range);
            if self.program.in_progress.contains(&qualified) {
                return Ok(Some(Sugared::Item(Item::Class(Type::Class(qualified)))));
            }
            return Ok(self.program.item(&qualified).map_err(|e| e.at(Some(&span)))?.map(Sugared::Item));
        }
        if let Some(path) = parsed.imports.get(name).cloned() {
            return self.imported(&path, range).map(Some);
        }
        if let Some(&id) = parsed.values.get(name) {
            if let Some(item) = self.program.item_of_value(parsed, name)? {
                return Ok(Some(Sugared::Item(item)));
            }
            if let Some(dispatch) = self.program.dispatch(parsed, id) {
                return Ok(Some(Sugared::Dispatch(Box::new(dispatch))));
            }
            let StmtKind::Assign { value, .. } = &parsed.file.stmts[id].kind else { return Ok(None) };
            let kind = match &value.kind {
                ExprKind::None => return Ok(None),
                ExprKind::Int(_) => "int",
                ExprKind::Float(_) => "float",
                ExprKind::Bool(_) => "bool",
                ExprKind::Str(_) => "str",
                ExprKind::List(_) | ExprKind::ListComp { .. } => "list",
                ExprKind::Dict(_) | ExprKind::DictComp { .. } => "dict",
                ExprKind::Tuple(_) => "tuple",
                ExprKind::Attribute { .. } => {
                    if let Some(path) = dotted(value) {
                        let path = self.program.absolute(&parsed.file, &path);
                        return self.imported(&path, range).map(Some);
                    }
                    "object"
                }
                _ => "Tensor",
            };
            return Err(self.error(range, python_value(kind)));
        }
        Ok(None)
    }

    /// What an imported path stands for.
    pub(crate) fn imported(&mut self, path: &str, range: TextRange) -> Result<Sugared> {
        let mut parts = path.split('.');
        let first = parts.next().unwrap_or("");
        let mut made = match first {
            "torch" | "math" | "cmath" => Sugared::Builtins(first.into()),
            _ => return Ok(Sugared::Builtins(path.into())),
        };
        for part in parts {
            made = self.attribute(made, &part.into(), range)?;
        }
        Ok(made)
    }
}

/// Whether assigning to the target gives this name a value.
fn names(target: &ast::Expr, name: &str) -> bool {
    match &target.kind {
        ExprKind::Name(own) => **own == *name,
        ExprKind::Tuple(targets) | ExprKind::List(targets) => targets.iter().any(|target| names(target, name)),
        _ => false,
    }
}
