//! The text of a syntax tree: one statement a line, every operation in parentheses, so that what binds tighter shows.
//!
//! ```text
//! y = a + b * c if not k else -2     ->     y = ((a + (b * c)) if (not k) else -2)
//! ```
//!
//! The tree keeps no comments, line ends or redundant parentheses, and so neither does its text; signs that belong to a
//! literal stay with it, f-strings are `format(...)` of their pieces. For reading and for tests; nothing parses it again.

use super::ast::{
    Arg, Block, Class, Expr, ExprKind, File, FormatPiece, Function, Generator, Import, Param, ParamKind, StmtId,
    StmtKind, WithItem,
};
use std::fmt::{self, Display, Formatter};

impl Display for File {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for comment in &self.type_comments {
            let (line, _) = self.span(comment.range).line_column();
            writeln!(f, "# line {line} has type: {}", comment.text)?;
        }
        // Blocks nest as deeply as a text likes, so what is left to print waits on a stack of our own.
        let mut left = Vec::new();
        push(&mut left, &self.body, 0);
        while let Some((part, depth)) = left.pop() {
            match part {
                Part::Stmt(id) => statement(f, self, id, depth, &mut left)?,
                Part::Line(line) => writeln!(f, "{:1$}{line}", "", depth * 2)?,
            }
        }
        Ok(())
    }
}

/// What is left to print.
enum Part {
    Stmt(StmtId),
    Line(&'static str),
}

/// Puts a block where it is printed next.
fn push(left: &mut Vec<(Part, usize)>, block: &Block, depth: usize) {
    left.extend(block.stmts.iter().rev().map(|&id| (Part::Stmt(id), depth)));
}

/// Prints the head of a statement and leaves its blocks on the stack.
fn statement(
    f: &mut Formatter<'_>,
    file: &File,
    id: StmtId,
    depth: usize,
    left: &mut Vec<(Part, usize)>,
) -> fmt::Result {
    let indent = " ".repeat(depth * 2);
    let mut with_else = |body: &Block, orelse: &Block| {
        push(left, orelse, depth + 1);
        if !orelse.stmts.is_empty() {
            left.push((Part::Line("else"), depth));
        }
        push(left, body, depth + 1);
    };
    match &file.stmts[id].kind {
        StmtKind::Expr(value) => writeln!(f, "{indent}{value}"),
        StmtKind::Assign { targets, value } => {
            let targets: Vec<String> = targets.iter().map(|target| format!("{target} = ")).collect();
            writeln!(f, "{indent}{}{value}", targets.concat())
        }
        StmtKind::AnnAssign { target, annotation, value } => {
            writeln!(f, "{indent}{target}: {annotation}{}", after(" = ", value.as_ref()))
        }
        StmtKind::AugAssign { target, op, value } => writeln!(f, "{indent}{target} {}= {value}", op.text()),
        StmtKind::If { cond, then, orelse } => {
            with_else(then, orelse);
            writeln!(f, "{indent}if {cond}")
        }
        StmtKind::For { target, iter, body, orelse } => {
            with_else(body, orelse);
            writeln!(f, "{indent}for {target} in {iter}")
        }
        StmtKind::While { cond, body, orelse } => {
            with_else(body, orelse);
            writeln!(f, "{indent}while {cond}")
        }
        StmtKind::With { items, body } => {
            push(left, body, depth + 1);
            writeln!(f, "{indent}with {}", listed(items))
        }
        StmtKind::Return(value) => writeln!(f, "{indent}return{}", after(" ", value.as_ref())),
        StmtKind::Raise { error, cause } => {
            writeln!(f, "{indent}raise{}{}", after(" ", error.as_ref()), after(" from ", cause.as_ref()))
        }
        StmtKind::Assert { cond, message } => {
            writeln!(f, "{indent}assert {cond}{}", after(", ", message.as_ref()))
        }
        StmtKind::Delete(targets) => writeln!(f, "{indent}del {}", listed(targets)),
        StmtKind::Break => writeln!(f, "{indent}break"),
        StmtKind::Continue => writeln!(f, "{indent}continue"),
        StmtKind::Pass => writeln!(f, "{indent}pass"),
        StmtKind::Import(imports) => writeln!(f, "{indent}import {}", listed(imports)),
        StmtKind::Def(def) => {
            let Function { name, params, returns, body, decorators, .. } = &**def;
            push(left, body, depth + 1);
            for decorator in decorators {
                writeln!(f, "{indent}@{decorator}")?;
            }
            writeln!(f, "{indent}def {}({}){}", name.text, listed(params), after(" -> ", returns.as_ref()))
        }
        StmtKind::Class(class) => {
            let Class { name, bases, body, decorators, .. } = &**class;
            push(left, body, depth + 1);
            for decorator in decorators {
                writeln!(f, "{indent}@{decorator}")?;
            }
            writeln!(f, "{indent}class {}({})", name.text, listed(bases))
        }
        StmtKind::Unsupported { what, blocks } => {
            for block in blocks.iter().rev() {
                push(left, block, depth + 1);
            }
            writeln!(f, "{indent}unsupported: {what}")
        }
    }
}

/// Items between commas.
fn listed<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// An optional part with the mark that introduces it.
fn after<T: Display>(mark: &str, part: Option<T>) -> String {
    part.map_or_else(String::new, |part| format!("{mark}{part}"))
}

/// The bytes of a literal in quotes.
fn quoted(text: &[u8]) -> String {
    format!("\"{}\"", text.escape_ascii())
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Name(name) => f.write_str(name),
            ExprKind::Int(value) => write!(f, "{value}"),
            ExprKind::Float(value) => write!(f, "{value:?}"),
            ExprKind::Imaginary(value) => write!(f, "{value:?}j"),
            ExprKind::Str(text) => f.write_str(&quoted(text)),
            ExprKind::Format(pieces) => write!(f, "format({})", listed(pieces)),
            ExprKind::Bool(true) => f.write_str("True"),
            ExprKind::Bool(false) => f.write_str("False"),
            ExprKind::None => f.write_str("None"),
            ExprKind::Ellipsis => f.write_str("..."),
            ExprKind::Attribute { value, name } => write!(f, "{value}.{}", name.text),
            ExprKind::Subscript { value, items } => write!(f, "{value}[{}]", listed(items)),
            ExprKind::Slice { start, stop, step } => {
                write!(f, "{}:{}{}", after("", start.as_ref()), after("", stop.as_ref()), after(":", step.as_ref()))
            }
            ExprKind::Call { callee, args } => write!(f, "{callee}({})", listed(args)),
            ExprKind::Tuple(items) => match &items[..] {
                [item] => write!(f, "({item},)"),
                items => write!(f, "({})", listed(items)),
            },
            ExprKind::List(items) => write!(f, "[{}]", listed(items)),
            ExprKind::Dict(entries) => {
                let entries: Vec<String> = entries.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                write!(f, "{{{}}}", entries.join(", "))
            }
            ExprKind::Set(items) => write!(f, "set{{{}}}", listed(items)),
            ExprKind::ListComp { element, generators } => {
                write!(f, "[{element}{}]", generators.iter().map(ToString::to_string).collect::<String>())
            }
            ExprKind::DictComp { key, value, generators } => {
                write!(f, "{{{key}: {value}{}}}", generators.iter().map(ToString::to_string).collect::<String>())
            }
            ExprKind::Starred(value) => write!(f, "*{value}"),
            ExprKind::Unary { op, operand } => {
                let space = if op.text().len() > 1 { " " } else { "" };
                write!(f, "({}{space}{operand})", op.text())
            }
            ExprKind::Binary { op, lhs, rhs } => write!(f, "({lhs} {} {rhs})", op.text()),
            ExprKind::Compare { first, rest } => {
                let rest: String = rest.iter().map(|(op, operand)| format!(" {} {operand}", op.text())).collect();
                write!(f, "({first}{rest})")
            }
            ExprKind::Ternary { cond, then, orelse } => write!(f, "({then} if {cond} else {orelse})"),
            ExprKind::Unsupported(what) => write!(f, "<{what}>"),
        }
    }
}

impl Display for FormatPiece {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Value(value) => value.fmt(f),
        }
    }
}

impl Display for Arg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = self.name.as_ref().map_or_else(String::new, |name| format!("{}=", name.text));
        write!(f, "{name}{}", self.value)
    }
}

impl Display for Generator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " for {} in {}", self.target, self.iter)?;
        self.conditions.iter().try_for_each(|condition| write!(f, " if {condition}"))
    }
}

impl Display for Param {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mark = match self.kind {
            ParamKind::Plain => "",
            ParamKind::KeywordOnly => "keyword ",
            ParamKind::Rest => "*",
            ParamKind::KeywordRest => "**",
        };
        let (annotation, default) = (after(": ", self.annotation.as_ref()), after(" = ", self.default.as_ref()));
        write!(f, "{mark}{}{annotation}{default}", self.name.text)
    }
}

impl Display for WithItem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.context, after(" as ", self.target.as_ref()))
    }
}

impl Display for Import {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let alias = after(" as ", self.alias.as_ref().map(|alias| &alias.text));
        write!(f, "{}{alias}{}", self.name.text, after(" from ", self.from.as_ref()))
    }
}
