//! Data classes: the methods that Python's `dataclass` gives a class, as PyTorch's compiler writes them for its own.
//!
//! They are made as text, which is parsed and compiled as if it stood in the class.

use super::names::{Definition, ParsedFile, Program, dotted};
use crate::diag::{Diagnostic, Result};
use crate::source::Source;
use crate::syntax::ast::{self, ExprKind, File, StmtKind};
use crate::syntax::{Dialect, parse_dialect};
use indexmap::IndexMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// A field of a data class.
#[allow(clippy::struct_excessive_bools, reason = "each is for itself, as in Python")]
struct Field {
    name: Arc<str>,
    annotation: String,
    default: Option<String>,
    is_optional: bool,
    /// Whether it is only an argument of the constructor, for `__post_init__`.
    is_argument: bool,
    in_init: bool,
    in_repr: bool,
    is_compared: bool,
}

impl Program<'_> {
    /// The decorator that makes a class a data class, called or not.
    pub(crate) fn dataclass_decorator<'s>(&self, file: &Arc<File>, syntax: &'s ast::Class) -> Option<&'s ast::Expr> {
        syntax.decorators.iter().find(|decorator| {
            let callee = if let ExprKind::Call { callee, .. } = &decorator.kind { &**callee } else { decorator };
            let path = dotted(callee).map(|path| self.absolute(file, &path));
            path.is_some_and(|path| path == "dataclass" || path == "dataclasses.dataclass")
        })
    }

    /// The methods that the class does not write itself.
    pub(crate) fn dataclass_methods(
        &mut self,
        parsed: &Arc<ParsedFile>,
        syntax: &ast::Class,
        decorator: &ast::Expr,
    ) -> Result<IndexMap<Arc<str>, Definition>> {
        let file = &parsed.file;
        let fields = self.fields(file, syntax)?;
        let is_own = |method: &str| {
            let own =
                |id: &ast::StmtId| matches!(&file.stmts[*id].kind, StmtKind::Def(def) if &*def.name.text == method);
            syntax.body.stmts.iter().any(own)
        };
        let option = |name: &str, default: bool| match &decorator.kind {
            ExprKind::Call { args, .. } => truth_of(args, name).unwrap_or(default),
            _ => default,
        };
        let class = &*syntax.name.text;
        if option("frozen", false) {
            // Python gives such a class methods that PyTorch has no text of.
            let text = format!(
                "Can't get source for <function {class}.__delattr__>. TorchScript requires source access in order to carry out compilation, make sure original .py files are available."
            );
            return Err(Diagnostic::user(text).at(Some(&file.span(syntax.head))));
        }
        let mut text = String::new();
        if option("init", true) && !is_own("__init__") {
            text.push_str(&constructor(&fields, is_own("__post_init__")));
        }
        if option("repr", true) && !is_own("__repr__") {
            let shown = fields.iter().filter(|field| field.in_repr && !field.is_argument);
            let shown: Vec<String> = shown.map(|Field { name, .. }| format!("{name}=self.{name}")).collect();
            let _ = writeln!(text, "def __repr__(self) -> str:\n  return '{class}({})'", shown.join(", "));
        }
        if option("eq", true) && !is_own("__eq__") {
            text.push_str(&comparison(class, "__eq__", &fields, true, &["if val1 != val2: return False"]));
        }
        if option("order", false) {
            for (name, op, allow_eq) in
                [("__lt__", "<", false), ("__le__", "<", true), ("__gt__", ">", false), ("__ge__", ">", true)]
            {
                let inner = [format!("if val1 {op} val2: return True"), format!("elif val2 {op} val1: return False")];
                let inner: Vec<&str> = inner.iter().map(String::as_str).collect();
                text.push_str(&comparison(class, name, &fields, allow_eq, &inner));
            }
        }
        let source = Source { name: file.source.name.clone(), text, origins: Vec::new() };
        let made = Arc::new(parse_dialect(&Arc::new(source), Dialect::Python)?);
        self.add_text_within(&made, parsed);
        let definition = |&stmt: &ast::StmtId| match &made.stmts[stmt].kind {
            StmtKind::Def(def) => {
                Some((Arc::clone(&def.name.text), Definition { file: Arc::clone(&made), stmt, declared: None }))
            }
            _ => None,
        };
        Ok(made.body.stmts.iter().filter_map(definition).collect())
    }

    fn fields(&self, file: &Arc<File>, syntax: &ast::Class) -> Result<Vec<Field>> {
        let mut fields = Vec::new();
        for &id in &syntax.body.stmts {
            let StmtKind::AnnAssign { target, annotation, value } = &file.stmts[id].kind else { continue };
            let ExprKind::Name(name) = &target.kind else { continue };
            let (head, inner) = match &annotation.kind {
                ExprKind::Subscript { value, items } => (dotted(value), items.as_slice()),
                _ => (None, [].as_slice()),
            };
            let head = head.map(|path| self.absolute(file, &path)).unwrap_or_default();
            let head = head.rsplit('.').next().unwrap_or_default();
            if head == "ClassVar" {
                continue;
            }
            let is_argument = head == "InitVar";
            let written = inner.first().filter(|_| is_argument).unwrap_or(annotation);
            let is_union_with_none = |expr: &ast::Expr| {
                matches!(&expr.kind, ExprKind::Binary { lhs, rhs, .. }
                    if matches!(lhs.kind, ExprKind::None) || matches!(rhs.kind, ExprKind::None))
            };
            let mut field = Field {
                name: Arc::clone(name),
                annotation: file.text(written.range).to_owned(),
                default: value.as_ref().map(|value| file.text(value.range).to_owned()),
                is_optional: head == "Optional" || is_union_with_none(annotation),
                is_argument,
                in_init: true,
                in_repr: true,
                is_compared: true,
            };
            if let Some(ast::Expr { kind: ExprKind::Call { callee, args }, range }) = value
                && dotted(callee).is_some_and(|path| self.absolute(file, &path) == "dataclasses.field")
            {
                let given = |name: &str| args.iter().find(|arg| arg.name.as_ref().is_some_and(|n| &*n.text == name));
                if given("default_factory").is_some() {
                    let text = "Default factory initializers are not supported in TorchScript dataclasses";
                    return Err(Diagnostic::user(text).at(Some(&file.span(*range))));
                }
                field.default = given("default").map(|arg| file.text(arg.value.range).to_owned());
                field.in_init = truth_of(args, "init").unwrap_or(true);
                field.in_repr = truth_of(args, "repr").unwrap_or(true);
                field.is_compared = truth_of(args, "compare").unwrap_or(true);
            }
            fields.push(field);
        }
        Ok(fields)
    }
}

/// The truth value that a keyword argument is written as.
fn truth_of(args: &[ast::Arg], name: &str) -> Option<bool> {
    args.iter().find_map(|arg| match (&arg.name, &arg.value.kind) {
        (Some(own), ExprKind::Bool(truth)) if &*own.text == name => Some(*truth),
        _ => None,
    })
}

fn constructor(fields: &[Field], has_post_init: bool) -> String {
    let mut text = "def __init__(self".to_owned();
    for Field { name, annotation, default, .. } in fields.iter().filter(|field| field.in_init) {
        let _ = write!(text, ", {name}: {annotation}");
        if let Some(default) = default {
            let _ = write!(text, " = {default}");
        }
    }
    text.push_str(") -> None:\n");
    let stored: Vec<&Field> = fields.iter().filter(|field| field.in_init && !field.is_argument).collect();
    for Field { name, .. } in &stored {
        let _ = writeln!(text, "  self.{name} = {name}");
    }
    if has_post_init {
        let arguments: Vec<&str> = fields.iter().filter(|field| field.is_argument).map(|field| &*field.name).collect();
        let _ = writeln!(text, "  self.__post_init__({})", arguments.join(", "));
    } else if stored.is_empty() {
        text.push_str("  pass\n");
    }
    text
}

/// A comparison, field by field; `inner` decides on the values of one.
fn comparison(class: &str, name: &str, fields: &[Field], allow_eq: bool, inner: &[&str]) -> String {
    let mut text = format!("def {name}(self, other: {class}) -> bool:\n");
    for field in fields.iter().filter(|field| field.is_compared && !field.is_argument) {
        let _ = writeln!(text, "  val1 = self.{0}\n  val2 = other.{0}", field.name);
        let indent = if field.is_optional { "    " } else { "  " };
        if field.is_optional {
            text.push_str("  if val1 is not None and val2 is not None:\n");
        }
        for line in inner {
            let _ = writeln!(text, "{indent}{line}");
        }
        if field.is_optional {
            text.push_str("  elif (val1 is None) != (val2 is None):\n");
            if name == "__eq__" {
                text.push_str("    return False\n");
            } else {
                let _ = writeln!(text, "    raise TypeError('Cannot compare {class} with None')");
            }
        }
    }
    let _ = writeln!(text, "  return {}", if allow_eq { "True" } else { "False" });
    text
}
