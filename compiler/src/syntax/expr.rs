//! Expressions: the grammar's flat lists of operators to trees, with the precedence of the dialect.

use super::ast::{Arg, BinaryOp, Expr, ExprKind, Generator, Name, TextRange, UnaryOp};
use super::literal::{is_number, number};
use super::parse::{Dialect, MAX_EXPR_DEPTH, Parser, Rule};
use crate::diag::Result;
use pest::iterators::Pair;
use std::iter::Peekable;
use std::sync::Arc;

/// An expression and the depth of its tree.
pub(super) struct Built {
    pub(super) expr: Expr,
    pub(super) depth: usize,
}

#[derive(Clone, Copy)]
enum Prefix {
    Unary(UnaryOp),
    /// Something refused later; it takes all that follows.
    Unsupported(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Infix {
    Binary(BinaryOp),
    If,
    Else,
    Walrus,
}

enum Token {
    Prefix(Prefix, TextRange),
    Operand(Built),
    Infix(Infix, TextRange),
}

type Tokens = Peekable<std::vec::IntoIter<Token>>;

/// How tightly an infix operator binds; greater is tighter.
const fn binding(dialect: Dialect, op: BinaryOp) -> u8 {
    use BinaryOp::{
        Add, And, BitAnd, BitOr, BitXor, Div, Eq, FloorDiv, Ge, Gt, In, Is, IsNot, Le, Lt, MatMul, Mod, Mul, Ne, NotIn,
        Or, Pow, ShiftLeft, ShiftRight, Sub,
    };
    match (dialect, op) {
        (Dialect::Own, And | Or) | (Dialect::Python, Or) => 3,
        (Dialect::Python, And) => 4,
        (_, Eq | Ne | Lt | Le | Gt | Ge | In | NotIn | Is | IsNot) => 6,
        (_, BitOr) => 7,
        (_, BitXor) => 8,
        (_, BitAnd) => 9,
        (_, ShiftLeft | ShiftRight) => 10,
        (_, Add | Sub) => 11,
        (_, Mul | Div | FloorDiv | Mod | MatMul) => 12,
        (_, Pow) => 14,
    }
}

const OUT_OF_RANGE: &str = "Integral constant out of range (must fit in a signed 64 bit integer)";
const WALRUS: u8 = 1;
const TERNARY: u8 = 2;

/// How tightly a prefix operator holds its operand.
const fn prefix_binding(dialect: Dialect, op: UnaryOp) -> u8 {
    match (dialect, op) {
        (_, UnaryOp::Not) | (Dialect::Own, UnaryOp::Invert) => 5,
        (Dialect::Own, UnaryOp::Neg | UnaryOp::Pos) => 12,
        (Dialect::Python, UnaryOp::Neg | UnaryOp::Pos | UnaryOp::Invert) => 13,
    }
}

fn binary_op(text: &str) -> Option<BinaryOp> {
    use BinaryOp::{
        Add, BitAnd, BitOr, BitXor, Div, Eq, FloorDiv, Ge, Gt, Le, Lt, MatMul, Mod, Mul, Ne, Pow, ShiftLeft,
        ShiftRight, Sub,
    };
    Some(match text {
        "+" => Add,
        "-" => Sub,
        "*" => Mul,
        "/" => Div,
        "//" => FloorDiv,
        "%" => Mod,
        "**" => Pow,
        "@" => MatMul,
        "&" => BitAnd,
        "|" => BitOr,
        "^" => BitXor,
        "<<" => ShiftLeft,
        ">>" => ShiftRight,
        "==" => Eq,
        "!=" | "<>" => Ne,
        "<" => Lt,
        "<=" => Le,
        ">" => Gt,
        ">=" => Ge,
        _ => return None,
    })
}

impl<'i> Parser<'i> {
    /// An `expr` of the grammar.
    pub(super) fn expr(&mut self, pair: Pair<'i, Rule>) -> Result<Expr> {
        Ok(self.built(pair)?.expr)
    }

    /// `exprs` or `targets`: one expression, or a tuple if there is a comma.
    pub(super) fn exprs(&mut self, pair: Pair<'i, Rule>) -> Result<Expr> {
        let range = self.range(&pair);
        Ok(self.sequence(pair, range)?.expr)
    }

    /// An expression that stands left of `=`, after `for`, `as` or `del`.
    pub(super) fn target(&mut self, pair: Pair<'i, Rule>) -> Result<Expr> {
        let expr = match pair.as_rule() {
            Rule::exprs | Rule::targets => self.exprs(pair)?,
            _ => self.expr(pair)?,
        };
        self.check_target(&expr)?;
        Ok(expr)
    }

    /// Refuses what cannot be assigned to.
    pub(super) fn check_target(&self, expr: &Expr) -> Result<()> {
        match &expr.kind {
            ExprKind::Name(_) | ExprKind::Attribute { .. } | ExprKind::Subscript { .. } => Ok(()),
            ExprKind::Starred(inner) => self.check_target(inner),
            ExprKind::Tuple(items) | ExprKind::List(items) => items.iter().try_for_each(|item| self.check_target(item)),
            _ if self.dialect == Dialect::Own => {
                self.fail("unexpected expression on left-hand side of assignment", expr.range)
            }
            _ => self.fail("cannot assign to this expression", expr.range),
        }
    }

    /// The augmented operator of `+=` and its like.
    pub(super) fn aug_op(text: &str) -> Option<BinaryOp> {
        binary_op(text.strip_suffix('=')?)
    }

    pub(super) fn node(&self, kind: ExprKind, range: TextRange, depth: usize) -> Result<Built> {
        if depth >= MAX_EXPR_DEPTH {
            return self.too_deep(range);
        }
        Ok(Built { expr: Expr { kind, range }, depth: depth + 1 })
    }

    pub(super) fn too_deep<T>(&self, range: TextRange) -> Result<T> {
        self.fail(format!("expression is nested too deeply: more than {MAX_EXPR_DEPTH} levels"), range)
    }

    pub(super) fn sequence(&mut self, pair: Pair<'i, Rule>, range: TextRange) -> Result<Built> {
        let mut items = Vec::new();
        let (mut depth, mut is_tuple) = (0, false);
        for pair in pair.into_inner() {
            if pair.as_rule() == Rule::comma {
                is_tuple = true;
                continue;
            }
            let item = self.built(pair)?;
            depth = depth.max(item.depth);
            items.push(item.expr);
        }
        match items.pop() {
            Some(expr) if !is_tuple && items.is_empty() => Ok(Built { expr, depth }),
            last => {
                items.extend(last);
                self.node(ExprKind::Tuple(items), range, depth)
            }
        }
    }

    fn built(&mut self, pair: Pair<'i, Rule>) -> Result<Built> {
        match pair.as_rule() {
            Rule::expr | Rule::expr_no_if => self.operators(pair),
            Rule::postfix => self.postfix(pair),
            Rule::target => self.only(pair, Self::built),
            Rule::starred | Rule::starred_target => {
                let range = self.range(&pair);
                let inner = self.only(pair, Self::built)?;
                self.node(ExprKind::Starred(Box::new(inner.expr)), range, inner.depth)
            }
            _ => self.unexpected(&pair),
        }
    }

    /// Passes the first inner pair on.
    fn only<T>(
        &mut self,
        pair: Pair<'i, Rule>,
        then: impl FnOnce(&mut Self, Pair<'i, Rule>) -> Result<T>,
    ) -> Result<T> {
        let outer = pair.clone();
        match pair.into_inner().next() {
            Some(inner) => then(self, inner),
            None => self.unexpected(&outer),
        }
    }

    fn operators(&mut self, pair: Pair<'i, Rule>) -> Result<Built> {
        let mut inner = pair.clone().into_inner();
        let first = inner.next();
        if let (Some(first), None) = (first, inner.next())
            && first.as_rule() == Rule::postfix
        {
            let built = self.postfix(first)?;
            self.no_lone_minima()?;
            return Ok(built);
        }
        let mut tokens = Vec::new();
        for pair in pair.into_inner() {
            tokens.push(self.token(pair)?);
        }
        let mut tokens = tokens.into_iter().peekable();
        let built = self.climb(&mut tokens, 0, 0)?;
        match tokens.next() {
            None => {}
            Some(Token::Infix(_, range) | Token::Prefix(_, range)) => {
                return self.fail("unexpected 'else' here", range);
            }
            Some(Token::Operand(operand)) => return self.fail("unexpected expression", operand.expr.range),
        }
        self.no_lone_minima()?;
        Ok(built)
    }

    fn no_lone_minima(&self) -> Result<()> {
        match self.lone_minima.first() {
            Some(&range) => self.fail(OUT_OF_RANGE, range),
            None => Ok(()),
        }
    }

    fn token(&mut self, pair: Pair<'i, Rule>) -> Result<Token> {
        let range = self.range(&pair);
        let binary = |op| Ok(Token::Infix(Infix::Binary(op), range));
        match pair.as_rule() {
            Rule::symbol => match binary_op(pair.as_str()) {
                Some(op) => binary(op),
                None => self.unexpected(&pair),
            },
            Rule::k_and => binary(BinaryOp::And),
            Rule::k_or => binary(BinaryOp::Or),
            Rule::k_in => binary(BinaryOp::In),
            Rule::k_is => binary(BinaryOp::Is),
            Rule::not_in => binary(BinaryOp::NotIn),
            Rule::is_not => binary(BinaryOp::IsNot),
            Rule::k_if => Ok(Token::Infix(Infix::If, range)),
            Rule::k_else => Ok(Token::Infix(Infix::Else, range)),
            Rule::walrus => Ok(Token::Infix(Infix::Walrus, range)),
            Rule::prefix => {
                let prefix = match pair.clone().into_inner().next().map(|inner| inner.as_rule()) {
                    None => match pair.as_str() {
                        "-" => Prefix::Unary(UnaryOp::Neg),
                        "+" => Prefix::Unary(UnaryOp::Pos),
                        _ => Prefix::Unary(UnaryOp::Invert),
                    },
                    Some(Rule::k_not) => Prefix::Unary(UnaryOp::Not),
                    Some(Rule::k_await) => Prefix::Unsupported("Await aren't supported"),
                    Some(Rule::k_yield) => Prefix::Unsupported("Yield aren't supported"),
                    Some(_) => Prefix::Unsupported("Lambda aren't supported"),
                };
                Ok(Token::Prefix(prefix, range))
            }
            _ => self.postfix(pair).map(Token::Operand),
        }
    }

    /// Reads operators that bind more tightly than `above`. `level` counts the recursion, which the depth of the tree alone does not bound.
    fn climb(&mut self, tokens: &mut Tokens, above: u8, level: usize) -> Result<Built> {
        let mut lhs = match tokens.next() {
            Some(Token::Operand(built)) => built,
            Some(Token::Prefix(_, range)) if level >= MAX_EXPR_DEPTH => return self.too_deep(range),
            Some(Token::Prefix(Prefix::Unary(op), range)) => {
                let operand = self.climb(tokens, prefix_binding(self.dialect, op), level + 1)?;
                self.unary(op, range, operand)?
            }
            Some(Token::Prefix(Prefix::Unsupported(what), range)) => {
                let operand = self.climb(tokens, 0, level + 1)?;
                self.node(ExprKind::Unsupported(what), range.to(operand.expr.range), 0)?
            }
            Some(Token::Infix(_, range)) => return self.fail("expected an expression here", range),
            None => return self.fail("expected an expression here", TextRange::default()),
        };
        while let Some(Token::Infix(infix, op_range)) = tokens.peek() {
            let (infix, op_range) = (*infix, *op_range);
            let tightness = match infix {
                Infix::Binary(op) => binding(self.dialect, op),
                Infix::If => TERNARY,
                Infix::Walrus => WALRUS,
                Infix::Else => break,
            };
            if tightness <= above {
                break;
            }
            if level >= MAX_EXPR_DEPTH {
                return self.too_deep(op_range);
            }
            tokens.next();
            let start = lhs.expr.range;
            lhs = match infix {
                Infix::Binary(op) if op.is_comparison() && self.dialect == Dialect::Python => {
                    self.comparison(lhs, op, tokens, tightness, level)?
                }
                Infix::Binary(op) => {
                    // Powers group to the right, all others to the left.
                    let above = if op == BinaryOp::Pow { tightness - 1 } else { tightness };
                    let rhs = self.climb(tokens, above, level + 1)?;
                    self.binary(op, lhs, rhs)?
                }
                Infix::If => {
                    let cond = self.climb(tokens, 0, level + 1)?;
                    let Some(Token::Infix(Infix::Else, _)) = tokens.next() else {
                        return self.fail("expected else after this condition", cond.expr.range);
                    };
                    let orelse = self.climb(tokens, TERNARY - 1, level + 1)?;
                    let depth = lhs.depth.max(cond.depth).max(orelse.depth);
                    let range = start.to(orelse.expr.range);
                    let [cond, then, orelse] = [cond, lhs, orelse].map(|built| Box::new(built.expr));
                    self.node(ExprKind::Ternary { cond, then, orelse }, range, depth)?
                }
                Infix::Walrus => {
                    let rhs = self.climb(tokens, 0, level + 1)?;
                    self.node(ExprKind::Unsupported("NamedExpr aren't supported"), start.to(rhs.expr.range), 0)?
                }
                Infix::Else => return self.fail("unexpected 'else' here", op_range),
            };
        }
        Ok(lhs)
    }

    fn unary(&mut self, op: UnaryOp, at: TextRange, operand: Built) -> Result<Built> {
        let range = at.to(operand.expr.range);
        let folded = match (op, &operand.expr.kind) {
            (UnaryOp::Neg, ExprKind::Int(value)) => {
                self.lone_minima.retain(|&minimum| minimum != operand.expr.range);
                ExprKind::Int(value.wrapping_neg())
            }
            (UnaryOp::Neg, ExprKind::Float(value)) => ExprKind::Float(-value),
            (UnaryOp::Neg, ExprKind::Imaginary(value)) => ExprKind::Imaginary(-value),
            _ => ExprKind::Unary { op, operand: Box::new(operand.expr) },
        };
        self.node(folded, range, operand.depth)
    }

    fn binary(&self, op: BinaryOp, lhs: Built, rhs: Built) -> Result<Built> {
        let range = lhs.expr.range.to(rhs.expr.range);
        let depth = lhs.depth.max(rhs.depth);
        let kind = ExprKind::Binary { op, lhs: Box::new(lhs.expr), rhs: Box::new(rhs.expr) };
        self.node(kind, range, depth)
    }

    /// Python's comparisons: several in a row share their operands.
    fn comparison(&mut self, lhs: Built, op: BinaryOp, tokens: &mut Tokens, above: u8, level: usize) -> Result<Built> {
        let first = self.climb(tokens, above, level + 1)?;
        let mut rest = Vec::new();
        let (mut range, mut depth) = (lhs.expr.range.to(first.expr.range), lhs.depth.max(first.depth));
        while let Some(Token::Infix(Infix::Binary(next), _)) = tokens.peek() {
            let next = *next;
            if !next.is_comparison() {
                break;
            }
            tokens.next();
            let operand = self.climb(tokens, above, level + 1)?;
            range = range.to(operand.expr.range);
            depth = depth.max(operand.depth);
            rest.push((next, operand.expr));
        }
        if rest.is_empty() {
            return self.binary(op, lhs, first);
        }
        rest.insert(0, (op, first.expr));
        self.node(ExprKind::Compare { first: Box::new(lhs.expr), rest }, range, depth)
    }

    fn postfix(&mut self, pair: Pair<'i, Rule>) -> Result<Built> {
        let outer = pair.clone();
        let mut pairs = pair.into_inner().peekable();
        let Some(atom) = pairs.next() else { return self.unexpected(&outer) };
        let mut built = if atom.as_rule() == Rule::string {
            let mut strings = vec![atom];
            while let Some(next) = pairs.next_if(|pair| pair.as_rule() == Rule::string) {
                strings.push(next);
            }
            self.strings(&strings)?
        } else {
            self.atom(atom)?
        };
        for pair in pairs {
            let range = built.expr.range.to(self.range(&pair));
            let depth = built.depth;
            let value = Box::new(built.expr);
            built = match pair.as_rule() {
                Rule::attribute => {
                    let name = self.only(pair, |parser, name| Ok(parser.name(&name)))?;
                    self.node(ExprKind::Attribute { value, name }, range, depth)?
                }
                Rule::args => {
                    let (args, args_depth) = self.args_built(pair)?;
                    self.node(ExprKind::Call { callee: value, args }, range, depth.max(args_depth))?
                }
                Rule::subscript => {
                    let (mut items, mut items_depth) = (Vec::new(), 0);
                    for item in pair.into_inner() {
                        let item = self.item(item)?;
                        items_depth = items_depth.max(item.depth);
                        items.push(item.expr);
                    }
                    self.node(ExprKind::Subscript { value, items }, range, depth.max(items_depth))?
                }
                _ => return self.unexpected(&pair),
            };
        }
        Ok(built)
    }

    fn atom(&mut self, pair: Pair<'i, Rule>) -> Result<Built> {
        let range = self.range(&pair);
        match pair.as_rule() {
            Rule::word => {
                let kind = match pair.as_str() {
                    "True" => ExprKind::Bool(true),
                    "False" => ExprKind::Bool(false),
                    "None" => ExprKind::None,
                    "yield" => ExprKind::Unsupported("Yield aren't supported"),
                    word if is_keyword(word) => {
                        return self.fail(format!("expected an expression but found '{word}' here"), range);
                    }
                    word => ExprKind::Name(self.intern(word)),
                };
                self.node(kind, range, 0)
            }
            Rule::number if !is_number(pair.as_str(), self.dialect) => {
                self.fail(format!("invalid syntax: found '{}' here", pair.as_str()), range)
            }
            Rule::number => match number(pair.as_str()) {
                Some(ExprKind::Int(i64::MIN)) => {
                    self.lone_minima.push(range);
                    self.node(ExprKind::Int(i64::MIN), range, 0)
                }
                Some(kind) => self.node(kind, range, 0),
                None => self.fail(OUT_OF_RANGE, range),
            },
            Rule::ellipsis => self.node(ExprKind::Ellipsis, range, 0),
            Rule::paren | Rule::list => self.display(pair, range),
            Rule::braces => self.braces(pair, range),
            _ => self.unexpected(&pair),
        }
    }

    /// `( )` and `[ ]`: grouping, tuples, lists and comprehensions.
    fn display(&mut self, pair: Pair<'i, Rule>, range: TextRange) -> Result<Built> {
        let is_list = pair.as_rule() == Rule::list;
        let (mut items, mut generators) = (Vec::new(), Vec::new());
        let (mut depth, mut is_tuple) = (0, false);
        for pair in pair.into_inner() {
            match pair.as_rule() {
                Rule::comma => is_tuple = true,
                Rule::comp_for => generators.push(self.generator(pair, &mut depth)?),
                _ => {
                    let item = self.built(pair)?;
                    depth = depth.max(item.depth);
                    items.push(item.expr);
                }
            }
        }
        let kind = match items.pop() {
            Some(element) if !generators.is_empty() => ExprKind::ListComp { element: Box::new(element), generators },
            Some(expr) if !is_list && !is_tuple && items.is_empty() => return Ok(Built { expr, depth }),
            last => {
                items.extend(last);
                if is_list { ExprKind::List(items) } else { ExprKind::Tuple(items) }
            }
        };
        self.node(kind, range, depth)
    }

    /// `{ }`: dicts, sets and comprehensions.
    fn braces(&mut self, pair: Pair<'i, Rule>, range: TextRange) -> Result<Built> {
        let (mut pairs, mut singles, mut generators) = (Vec::new(), Vec::new(), Vec::new());
        let mut depth = 0;
        for pair in pair.into_inner() {
            if pair.as_rule() == Rule::comp_for {
                generators.push(self.generator(pair, &mut depth)?);
                continue;
            }
            let entry_range = self.range(&pair);
            let mut parts = Vec::new();
            for part in pair.into_inner() {
                let part = match part.as_rule() {
                    Rule::colon => continue,
                    Rule::dict_expansion => {
                        return self.node(
                            ExprKind::Unsupported("Dict expansion (e.g. `{**dict}`) is not supported"),
                            range,
                            0,
                        );
                    }
                    _ => self.built(part)?,
                };
                depth = depth.max(part.depth);
                parts.push(part.expr);
            }
            match (parts.pop(), parts.pop()) {
                (Some(value), Some(key)) => pairs.push((key, value)),
                (Some(single), None) => singles.push(single),
                (None, _) => return self.fail("expected an expression here", entry_range),
            }
        }
        let kind = match (singles.is_empty(), generators.is_empty()) {
            (true, true) => ExprKind::Dict(pairs),
            (true, false) => match pairs.pop() {
                Some((key, value)) => ExprKind::DictComp { key: Box::new(key), value: Box::new(value), generators },
                None => return self.fail("expected an expression here", range),
            },
            (false, true) if pairs.is_empty() => ExprKind::Set(singles),
            (false, true) => return self.fail("a key without a value in a dict", range),
            (false, false) => ExprKind::Unsupported("SetComp aren't supported"),
        };
        self.node(kind, range, depth)
    }

    fn generator(&mut self, pair: Pair<'i, Rule>, depth: &mut usize) -> Result<Generator> {
        let outer = pair.clone();
        let (mut target, mut iter, mut conditions) = (None, None, Vec::new());
        for pair in pair.into_inner() {
            match pair.as_rule() {
                Rule::targets => {
                    let range = self.range(&pair);
                    let built = self.sequence(pair, range)?;
                    self.check_target(&built.expr)?;
                    *depth = (*depth).max(built.depth);
                    target = Some(built.expr);
                }
                Rule::expr_no_if => {
                    let built = self.built(pair)?;
                    *depth = (*depth).max(built.depth);
                    if iter.is_none() {
                        iter = Some(built.expr);
                    } else {
                        conditions.push(built.expr);
                    }
                }
                Rule::k_async => return self.fail("async comprehensions aren't supported", self.range(&pair)),
                _ => {}
            }
        }
        match (target, iter) {
            (Some(target), Some(iter)) => Ok(Generator { target, iter, conditions }),
            _ => self.unexpected(&outer),
        }
    }

    /// The arguments of a call or the bases of a class.
    pub(super) fn args(&mut self, pair: Pair<'i, Rule>) -> Result<Vec<Arg>> {
        Ok(self.args_built(pair)?.0)
    }

    fn args_built(&mut self, pair: Pair<'i, Rule>) -> Result<(Vec<Arg>, usize)> {
        let (mut args, mut depth) = (Vec::new(), 0);
        for pair in pair.into_inner() {
            let range = self.range(&pair);
            let (mut name, mut value, mut generators) = (None, None, Vec::new());
            for part in pair.into_inner() {
                match part.as_rule() {
                    Rule::keyword_expansion => {
                        value = Some(self.node(
                            ExprKind::Unsupported("keyword-arg expansion is not supported"),
                            range,
                            0,
                        )?);
                    }
                    Rule::keyword => {
                        for part in part.into_inner() {
                            match part.as_rule() {
                                Rule::word => name = Some(self.name(&part)),
                                _ => value = Some(self.built(part)?),
                            }
                        }
                    }
                    Rule::comp_for => generators.push(self.generator(part, &mut depth)?),
                    _ => value = Some(self.built(part)?),
                }
            }
            let Some(mut value) = value else { return self.fail("expected an argument here", range) };
            if !generators.is_empty() {
                let kind = ExprKind::ListComp { element: Box::new(value.expr), generators };
                value = self.node(kind, range, value.depth.max(depth))?;
            }
            depth = depth.max(value.depth);
            args.push(Arg { name, value: value.expr });
        }
        Ok((args, depth))
    }

    /// One item between the commas of a subscript.
    fn item(&mut self, pair: Pair<'i, Rule>) -> Result<Built> {
        let range = self.range(&pair);
        let (mut parts, mut depth, mut n_colons) = ([None, None, None], 0, 0);
        for part in pair.into_inner() {
            if part.as_rule() == Rule::slice_colon {
                n_colons += 1;
                continue;
            }
            let built = self.built(part)?;
            depth = depth.max(built.depth);
            if let Some(slot) = parts.get_mut(n_colons) {
                *slot = Some(Box::new(built.expr));
            }
        }
        match parts {
            [Some(only), ..] if n_colons == 0 => Ok(Built { expr: *only, depth }),
            [start, stop, step] => self.node(ExprKind::Slice { start, stop, step }, range, depth),
        }
    }

    /// The name that a `name` or `word` spells.
    pub(super) fn name(&mut self, pair: &Pair<'i, Rule>) -> Name {
        Name { text: self.intern(pair.as_str()), range: self.range(pair) }
    }

    /// One shared copy of each word.
    pub(super) fn intern(&mut self, text: &'i str) -> Arc<str> {
        Arc::clone(self.words.entry(text).or_insert_with(|| text.into()))
    }
}

/// Words that are no names.
fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "if" | "in"
            | "is"
            | "for"
            | "else"
            | "elif"
            | "not"
            | "and"
            | "or"
            | "as"
            | "def"
            | "del"
            | "class"
            | "return"
            | "raise"
            | "assert"
            | "pass"
            | "break"
            | "continue"
            | "while"
            | "with"
            | "lambda"
            | "from"
            | "import"
            | "global"
            | "nonlocal"
            | "try"
            | "except"
            | "finally"
            | "async"
            | "await"
    )
}
