//! The syntax tree of TorchScript source: what was written, with the place of every part, and no meaning yet.
//!
//! Statements live in one vector per file and blocks hold their ids, so a program of any block depth is built, walked
//! and freed without recursion. Expressions are boxed trees; the parser bounds their depth by
//! [`MAX_EXPR_DEPTH`](super::parse::MAX_EXPR_DEPTH), so a recursive walk over one is safe.
//! Type annotations are expressions too: `Optional[Tensor]` is a subscript of a name.

use super::parse::Dialect;
use crate::index::{IndexVec, ids};
use crate::source::{Source, Span};
use std::sync::Arc;

ids! {
    /// A statement of a [`File`].
    StmtId = "stmt";
}

/// A range of bytes of the file's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct TextRange {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl TextRange {
    /// From the start of `self` to the end of `other`.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end }
    }
}

/// A parsed file.
#[derive(Debug)]
pub struct File {
    /// The text it came from.
    pub source: Arc<Source>,
    /// Whose rules it was read by.
    pub dialect: Dialect,
    /// Every statement of the file at any depth; blocks refer to them.
    pub stmts: IndexVec<StmtId, Stmt>,
    /// The top-level statements: classes, functions, imports.
    pub body: Block,
    /// `# type: ...` comments in the order of the text; those that are signatures stand in their functions, too.
    pub type_comments: Vec<TypeComment>,
}

/// A `# type: TEXT` comment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeComment {
    /// What follows `type:`, trimmed.
    pub text: Arc<str>,
    /// Where `text` stands.
    pub range: TextRange,
    /// Whether it begins with `# type:` just so; others are taken for comments, or refused.
    pub is_exact: bool,
}

impl File {
    /// The full span of a range of this file.
    pub fn span(&self, range: TextRange) -> Span {
        Span { source: Arc::clone(&self.source), start: range.start as usize, end: range.end as usize }
    }

    /// The text of a range; empty if it is not one of this file's.
    pub fn text(&self, range: TextRange) -> &str {
        self.source.text.get(range.start as usize..range.end as usize).unwrap_or("")
    }

    /// The statements of a block, in order.
    pub fn block<'a>(&'a self, block: &'a Block) -> impl DoubleEndedIterator<Item = &'a Stmt> {
        block.stmts.iter().map(|&id| &self.stmts[id])
    }

    /// The classes at the top level, in order.
    pub fn classes(&self) -> impl Iterator<Item = &Class> {
        self.block(&self.body)
            .filter_map(|stmt| if let StmtKind::Class(class) = &stmt.kind { Some(&**class) } else { None })
    }

    /// The functions at the top level, in order.
    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        self.functions_of(&self.body)
    }

    /// The functions directly in a block: the methods, if it is the body of a class.
    pub fn functions_of<'a>(&'a self, block: &'a Block) -> impl Iterator<Item = &'a Function> {
        self.block(block).filter_map(|stmt| if let StmtKind::Def(def) = &stmt.kind { Some(&**def) } else { None })
    }
}

/// Statements in order; never empty where the language wants at least one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Block {
    /// Ids into [`File::stmts`].
    pub stmts: Vec<StmtId>,
}

/// An identifier where it stands.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Name {
    /// The identifier.
    pub text: Arc<str>,
    /// Where.
    pub range: TextRange,
}

/// A statement.
#[derive(Clone, PartialEq, Debug)]
pub struct Stmt {
    /// What it is.
    pub kind: StmtKind,
    /// The statement; of a compound one, its head up to the colon.
    pub range: TextRange,
}

/// The statements.
#[derive(Clone, PartialEq, Debug)]
pub enum StmtKind {
    /// An expression for its effect; a docstring is one that holds a [`ExprKind::Str`].
    Expr(Expr),
    /// `a = b`, `a = b = c`, `a, b = c`, `x[i] = c`: targets from left to right. An unpacking target is a
    /// [`ExprKind::Tuple`] or `List` (`a, = t` is a tuple of one), a starred one holds [`ExprKind::Starred`].
    Assign {
        /// At least one.
        targets: Vec<Expr>,
        /// The right side.
        value: Expr,
    },
    /// `x : T = v`, `self.x : T = v`, `__annotations__["0"] : T`, or without value.
    AnnAssign {
        /// A name, attribute or subscript.
        target: Expr,
        /// The type.
        annotation: Expr,
        /// The value, if given.
        value: Option<Expr>,
    },
    /// `a += b`.
    AugAssign {
        /// A name, attribute or subscript.
        target: Expr,
        /// The operator without its `=`.
        op: BinaryOp,
        /// The right side.
        value: Expr,
    },
    /// `if`; `elif` is an `If` alone in `orelse`.
    If {
        /// The condition.
        cond: Expr,
        /// Run if it holds.
        then: Block,
        /// Run otherwise; empty without `else`.
        orelse: Block,
    },
    /// `for target in iter:`.
    For {
        /// A name or (nested) tuple of names.
        target: Expr,
        /// `a, b` without parentheses is a tuple.
        iter: Expr,
        /// The body.
        body: Block,
        /// The block of a loop's `else`, which the language refuses; empty normally.
        orelse: Block,
    },
    /// `while`.
    While {
        /// The condition.
        cond: Expr,
        /// The body.
        body: Block,
        /// As for `For`.
        orelse: Block,
    },
    /// `with a as b, c:`.
    With {
        /// At least one.
        items: Vec<WithItem>,
        /// The body.
        body: Block,
    },
    /// `return`; `return a, b` holds a tuple.
    Return(Option<Expr>),
    /// `raise E(...)`; without an expression it re-raises, which the language refuses.
    Raise {
        /// The exception.
        error: Option<Expr>,
        /// `from` this.
        cause: Option<Expr>,
    },
    /// `assert cond, message`.
    Assert {
        /// Must hold.
        cond: Expr,
        /// The message, if given.
        message: Option<Expr>,
    },
    /// `del a, b[0]`.
    Delete(Vec<Expr>),
    /// `break`.
    Break,
    /// `continue`.
    Continue,
    /// `pass`.
    Pass,
    /// `import ...` or `from ... import ...`.
    Import(Vec<Import>),
    /// `def`, at any depth.
    Def(Box<Function>),
    /// `class`, at any depth.
    Class(Box<Class>),
    /// A statement of Python that the language does not have; only compiling it is an error.
    Unsupported {
        /// `try`, `global`, `nonlocal`, `async`, `yield`, `match`, ...
        what: Arc<str>,
        /// The blocks it had.
        blocks: Vec<Block>,
    },
}

/// One item of a `with`.
#[derive(Clone, PartialEq, Debug)]
pub struct WithItem {
    /// The context manager.
    pub context: Expr,
    /// `as` this.
    pub target: Option<Expr>,
}

/// One imported name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Import {
    /// `torch.nn` in `from torch.nn import Linear as L`; none in a plain `import`.
    pub from: Option<Arc<str>>,
    /// The dotted name, or `*`.
    pub name: Name,
    /// The name it gets, if changed.
    pub alias: Option<Name>,
}

/// A function or method.
#[derive(Clone, PartialEq, Debug)]
pub struct Function {
    /// The name.
    pub name: Name,
    /// The parameters, `self` included.
    pub params: Vec<Param>,
    /// The annotation after `->`.
    pub returns: Option<Expr>,
    /// The body.
    pub body: Block,
    /// The expressions after `@`, in order.
    pub decorators: Vec<Expr>,
    /// From `def` to the colon.
    pub head: TextRange,
    /// From `def` to the end of the last statement.
    pub range: TextRange,
    /// What is wrong with its `# type:` comments, and where; an error once the function is compiled.
    pub mistake: Option<(Arc<str>, TextRange)>,
}

/// A parameter.
#[derive(Clone, PartialEq, Debug)]
pub struct Param {
    /// The name.
    pub name: Name,
    /// The type, if written.
    pub annotation: Option<Expr>,
    /// The default, if any.
    pub default: Option<Expr>,
    /// How arguments reach it.
    pub kind: ParamKind,
}

/// How arguments reach a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParamKind {
    /// By place or name.
    Plain,
    /// By name only: after a bare `*` or `*args`.
    KeywordOnly,
    /// `*args`.
    Rest,
    /// `**kwargs`.
    KeywordRest,
}

/// A class statement.
#[derive(Clone, PartialEq, Debug)]
pub struct Class {
    /// The name.
    pub name: Name,
    /// `Module`, `Interface`, `ModuleInterface`, `NamedTuple`, `Enum`, or any expression in user code; empty for a plain class.
    pub bases: Vec<Expr>,
    /// Annotated and plain assignments, functions, docstrings, as written.
    pub body: Block,
    /// The expressions after `@`, in order.
    pub decorators: Vec<Expr>,
    /// From `class` to the colon.
    pub head: TextRange,
    /// From `class` to the end of the last statement.
    pub range: TextRange,
}

/// An expression.
#[derive(Clone, PartialEq, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where, without surrounding parentheses (except those of a tuple).
    pub range: TextRange,
}

/// The expressions.
#[derive(Clone, PartialEq, Debug)]
pub enum ExprKind {
    /// A variable; also `inf`, `nan` and the like, which are names.
    Name(Arc<str>),
    /// `7`, `-7` (the sign is folded in), `0x10`.
    Int(i64),
    /// `1.5`, `-1e-3`.
    Float(f64),
    /// `3.j`: the imaginary part. `1.+3.j` is a sum of a float and this.
    Imaginary(f64),
    /// Adjacent literals joined, escapes resolved. Bytes: the text of the file is copied untouched, escapes may make any byte.
    Str(Arc<[u8]>),
    /// An f-string: the pieces between and the expressions, in order. Python source only.
    Format(Vec<FormatPiece>),
    /// `True`, `False`.
    Bool(bool),
    /// `None`.
    None,
    /// `...`.
    Ellipsis,
    /// `value.name`.
    Attribute {
        /// The object.
        value: Box<Expr>,
        /// The attribute.
        name: Name,
    },
    /// `value[a, b:c]`.
    Subscript {
        /// The object.
        value: Box<Expr>,
        /// The items between commas; at least one. `x[(a, b)]` and `x[a, b]` differ here but not in meaning.
        items: Vec<Expr>,
    },
    /// `a:b:c`, only as an item of a subscript.
    Slice {
        /// Before the first colon.
        start: Option<Box<Expr>>,
        /// After it.
        stop: Option<Box<Expr>>,
        /// After the second.
        step: Option<Box<Expr>>,
    },
    /// `callee(args)`.
    Call {
        /// What is called.
        callee: Box<Expr>,
        /// The arguments as written; a starred one holds [`ExprKind::Starred`].
        args: Vec<Arg>,
    },
    /// `(a, b)`, `a,`, `()`.
    Tuple(Vec<Expr>),
    /// `[a, b]`.
    List(Vec<Expr>),
    /// `{k: v}`.
    Dict(Vec<(Expr, Expr)>),
    /// `{a, b}`, which the language refuses.
    Set(Vec<Expr>),
    /// `[element for target in iter]`; a generator argument `f(e for ...)` is one too, as the language reads it.
    ListComp {
        /// The element.
        element: Box<Expr>,
        /// At least one; the language allows exactly one, without conditions.
        generators: Vec<Generator>,
    },
    /// `{key: value for target in iter}`.
    DictComp {
        /// The key.
        key: Box<Expr>,
        /// The value.
        value: Box<Expr>,
        /// As for `ListComp`.
        generators: Vec<Generator>,
    },
    /// `*value`, in calls, displays and targets.
    Starred(Box<Expr>),
    /// `-x`, `not x`, `~x`, `+x`.
    Unary {
        /// The operator.
        op: UnaryOp,
        /// The operand.
        operand: Box<Expr>,
    },
    /// `a + b`, `a < b`, `a and b`, `a in b`.
    Binary {
        /// The operator.
        op: BinaryOp,
        /// The left side.
        lhs: Box<Expr>,
        /// The right side.
        rhs: Box<Expr>,
    },
    /// `a < b < c` in Python source: two or more comparisons that share operands. The own parser nests them as `Binary`.
    Compare {
        /// The first operand.
        first: Box<Expr>,
        /// Each operator with the operand after it.
        rest: Vec<(BinaryOp, Expr)>,
    },
    /// `then if cond else orelse`.
    Ternary {
        /// The condition.
        cond: Box<Expr>,
        /// The value if it holds.
        then: Box<Expr>,
        /// The value otherwise.
        orelse: Box<Expr>,
    },
    /// An expression of Python that the language does not have: `lambda`, `yield`, `await`, `:=`. Only compiling it is an error.
    Unsupported(&'static str),
}

/// A piece of an f-string.
#[derive(Clone, PartialEq, Debug)]
pub enum FormatPiece {
    /// Literal bytes.
    Text(Arc<[u8]>),
    /// `{value}`.
    Value(Expr),
}

/// An argument of a call.
#[derive(Clone, PartialEq, Debug)]
pub struct Arg {
    /// `name=`, if by name.
    pub name: Option<Name>,
    /// The value.
    pub value: Expr,
}

/// `for target in iter if cond` of a comprehension.
#[derive(Clone, PartialEq, Debug)]
pub struct Generator {
    /// A name or tuple of names.
    pub target: Expr,
    /// What is iterated.
    pub iter: Expr,
    /// The conditions, which the language refuses.
    pub conditions: Vec<Expr>,
}

/// The prefix operators.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum UnaryOp {
    Neg,
    Pos,
    Not,
    Invert,
}

/// The infix operators.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
    MatMul,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
    And,
    Or,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
    Is,
    IsNot,
}

impl BinaryOp {
    /// The operator as written.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::FloorDiv => "//",
            Self::Mod => "%",
            Self::Pow => "**",
            Self::MatMul => "@",
            Self::BitAnd => "&",
            Self::BitOr => "|",
            Self::BitXor => "^",
            Self::ShiftLeft => "<<",
            Self::ShiftRight => ">>",
            Self::And => "and",
            Self::Or => "or",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::In => "in",
            Self::NotIn => "not in",
            Self::Is => "is",
            Self::IsNot => "is not",
        }
    }

    /// Whether it compares: the operators that Python chains.
    pub const fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Eq
                | Self::Ne
                | Self::Lt
                | Self::Le
                | Self::Gt
                | Self::Ge
                | Self::In
                | Self::NotIn
                | Self::Is
                | Self::IsNot
        )
    }
}

impl UnaryOp {
    /// The operator as written.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Neg => "-",
            Self::Pos => "+",
            Self::Not => "not",
            Self::Invert => "~",
        }
    }
}
