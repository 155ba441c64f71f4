//! Source text to syntax tree: logical lines through the grammar, then blocks from their indents.
//!
//! Text may come from strangers, so nothing here recurses over the depth of blocks: a stack of open blocks is kept,
//! and statements go into one vector. Expressions recurse to at most [`MAX_EXPR_DEPTH`].

use super::ast::{
    Block, Class, Expr, ExprKind, File, Function, Import, Name, Param, ParamKind, Stmt, StmtId, StmtKind, TextRange,
    WithItem,
};
use super::layout::{Line, invalid_token, layout, range};
use crate::diag::{Diagnostic, Result};
use crate::index::IndexVec;
use crate::source::{Source, Span};
use pest::Parser as _;
use pest::error::{ErrorVariant, InputLocation};
use pest::iterators::{Pair, Pairs};
use std::collections::HashMap;
use std::sync::Arc;

/// The deepest nesting of one expression: brackets, operators, attributes and conditionals together.
pub const MAX_EXPR_DEPTH: usize = 256;

/// The deepest nesting of blocks; each `elif` of a chain is one more.
pub const MAX_BLOCK_DEPTH: usize = 4000;

/// The longest text that is read.
pub const MAX_SOURCE_BYTES: usize = 1 << 30;

/// Whose rules hold where the two front ends of TorchScript differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// Archived code and text given to `define`: `and` and `or` bind alike, comparisons do not chain, few string escapes.
    Own,
    /// Python files: Python's precedence, chained comparisons, all escapes, string prefixes.
    Python,
}

/// What the grammar file generates.
#[allow(missing_docs, reason = "generated; the grammar file documents its rules")]
mod grammar {
    #[derive(pest_derive::Parser)]
    #[grammar = "syntax/torchscript.pest"]
    pub(in crate::syntax) struct Grammar;
}
use grammar::Grammar;
pub(super) use grammar::Rule;

/// Parses archived code, or text as `CompilationUnit.define` takes it.
///
/// # Errors
/// User errors with their place: wrong syntax or indentation, or nesting beyond the limits of this module.
pub fn parse(source: &Arc<Source>) -> Result<File> {
    parse_dialect(source, Dialect::Own)
}

/// Parses a Python file.
///
/// # Errors
/// As for [`parse`].
pub fn parse_python(source: &Arc<Source>) -> Result<File> {
    parse_dialect(source, Dialect::Python)
}

/// Parses by the rules of a dialect.
///
/// # Errors
/// As for [`parse`].
pub fn parse_dialect(source: &Arc<Source>, dialect: Dialect) -> Result<File> {
    if source.text.len() > MAX_SOURCE_BYTES {
        return Err(Diagnostic::user(format!(
            "{}: source text of {} bytes is too long",
            source.name,
            source.text.len()
        )));
    }
    let layout = layout(source, dialect)?;
    let mut parser = Parser {
        source,
        dialect,
        base: 0,
        words: HashMap::new(),
        stmts: IndexVec::new(),
        lone_minima: Vec::new(),
        open: vec![Open { indent: 0, slot: Slot::File, stmts: Vec::new(), chain: None, depth: 0 }],
        head: None,
        decorators: Vec::new(),
    };
    for line in &layout.lines {
        parser.line(*line)?;
    }
    let body = parser.finish()?;
    parser.comment_signatures(&layout.type_comments)?;
    Ok(File { source: Arc::clone(source), dialect, stmts: parser.stmts, body, type_comments: layout.type_comments })
}

/// The state of parsing one file.
pub(super) struct Parser<'i> {
    pub(super) source: &'i Arc<Source>,
    pub(super) dialect: Dialect,
    /// Offset in the file of the text that the grammar reads now.
    pub(super) base: usize,
    pub(super) words: HashMap<&'i str, Arc<str>>,
    pub(super) stmts: IndexVec<StmtId, Stmt>,
    /// Where 2^63 was read and no minus has yet made it a number that fits.
    pub(super) lone_minima: Vec<TextRange>,
    /// Blocks not yet closed, outermost first; never empty while lines come.
    open: Vec<Open>,
    /// A head without its block, which the next line must open.
    head: Option<(Slot, TextRange)>,
    /// Decorators waiting for their definition.
    decorators: Vec<Expr>,
}

struct Open {
    indent: usize,
    slot: Slot,
    stmts: Vec<StmtId>,
    /// The statement that an `elif`, `else` or `except` here would continue.
    chain: Option<Chain>,
    depth: usize,
}

#[derive(Clone, Copy)]
struct Chain {
    stmt: StmtId,
    /// Links of `elif` so far.
    n_links: usize,
}

/// Which block of which statement an indented block is.
#[derive(Clone, Copy)]
enum Slot {
    File,
    Body(StmtId),
    Orelse(StmtId),
}

impl<'i> Parser<'i> {
    /// The place of a pair in the file.
    pub(super) fn range(&self, pair: &Pair<'i, Rule>) -> TextRange {
        let span = pair.as_span();
        range(self.base + span.start(), self.base + span.end())
    }

    /// An error at a place.
    pub(super) fn fail<T>(&self, message: impl Into<String>, at: TextRange) -> Result<T> {
        let span = Span { source: Arc::clone(self.source), start: at.start as usize, end: at.end as usize };
        Err(Diagnostic::user(message).at(Some(&span)))
    }

    /// The grammar gave something that this parser does not know: they are out of step.
    pub(super) fn unexpected<T>(&self, pair: &Pair<'i, Rule>) -> Result<T> {
        let at = self.range(pair);
        let span = Span { source: Arc::clone(self.source), start: at.start as usize, end: at.end as usize };
        Err(Diagnostic::internal(format!("the parser does not know the grammar's {:?}", pair.as_rule()))
            .at(Some(&span)))
    }

    /// Runs the grammar on a piece of the file that starts at [`Self::base`].
    pub(super) fn pest(&self, rule: Rule, text: &'i str) -> Result<Pairs<'i, Rule>> {
        Grammar::parse(rule, text).or_else(|error| {
            let at = match error.location {
                InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
            };
            let rest = text.get(at..).unwrap_or("");
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let len = match rest.chars().next() {
                Some(c) if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                Some(c) => c.len_utf8(),
                None => 0,
            };
            let found = match rest.get(..len) {
                None | Some("") => "the end of the line".to_owned(),
                Some(token) if token.len() > 40 => "this word".to_owned(),
                Some(token) => format!("'{token}'"),
            };
            let is_known = |c: char| is_word(c) || "+-*/%@()[]:,={}><.?!&^|~\"'".contains(c);
            if let (Dialect::Own, Some(c)) = (self.dialect, rest.chars().next())
                && !is_known(c)
            {
                let (message, at) = invalid_token(&self.source.text, self.base + at);
                return self.fail(message, range(at, at + 1));
            }
            let message = match error.variant {
                ErrorVariant::ParsingError { ref positives, .. }
                    if self.dialect == Dialect::Own && positives.contains(&Rule::EOI) =>
                {
                    format!("expected newline but found '{}' here", token_kind(rest.get(..len).unwrap_or("")))
                }
                ErrorVariant::ParsingError { positives, .. } => {
                    let mut expected: Vec<&str> = positives.iter().map(|rule| describe(*rule)).collect();
                    expected.sort_unstable();
                    expected.dedup();
                    match expected.as_slice() {
                        [one] => format!("expected {one} but found {found} here"),
                        _ => format!("invalid syntax: found {found} here"),
                    }
                }
                ErrorVariant::CustomError { message } => format!("invalid syntax: {message}"),
            };
            self.fail(message, range(self.base + at, self.base + at + len.max(1)))
        })
    }

    /// Takes one logical line: closes the blocks it is not part of, opens the one it starts, and adds its statements.
    fn line(&mut self, line: Line) -> Result<()> {
        self.place(line)?;
        let Some(text) = self.source.text.get(line.range.start as usize..line.range.end as usize) else {
            return self.fail("line cuts a character", line.range);
        };
        self.base = line.range.start as usize;
        for pair in self.pest(Rule::line, text)? {
            match pair.as_rule() {
                Rule::EOI => {}
                Rule::simples => {
                    let stmts = self.simples(pair)?;
                    self.no_decorators(line.range)?;
                    self.add(stmts);
                }
                Rule::decorator => {
                    let pair = pair.into_inner().next();
                    let decorator = pair.map(|pair| self.expr(pair)).transpose()?;
                    self.decorators.extend(decorator);
                }
                _ => self.compound(pair)?,
            }
        }
        Ok(())
    }

    fn place(&mut self, line: Line) -> Result<()> {
        let here = self.open.last().map_or(0, |open| open.indent);
        if let Some((slot, head)) = self.head.take() {
            if line.indent > here {
                let depth =
                    self.open.last().map_or(0, |open| open.depth + open.chain.map_or(0, |chain| chain.n_links)) + 1;
                if depth > MAX_BLOCK_DEPTH {
                    return self
                        .fail(format!("blocks are nested too deeply: more than {MAX_BLOCK_DEPTH} levels"), head);
                }
                self.open.push(Open { indent: line.indent, slot, stmts: Vec::new(), chain: None, depth });
                return Ok(());
            }
            if self.open.iter().any(|open| open.indent == line.indent) {
                return self.fail("expected an indented block after this", head);
            }
            return self.fail(format!("invalid indent level {}", line.indent), line.range);
        }
        if line.indent > here {
            return self.fail("unexpected indent", line.range);
        }
        while self.open.last().is_some_and(|open| open.indent > line.indent) {
            self.close();
        }
        if self.open.last().is_none_or(|open| open.indent != line.indent) {
            return self.fail(format!("invalid indent level {}", line.indent), line.range);
        }
        Ok(())
    }

    /// Closes the innermost block and hands it to its statement.
    fn close(&mut self) {
        if let Some(open) = self.open.pop() {
            self.attach(open.slot, open.stmts);
        }
    }

    fn attach(&mut self, slot: Slot, stmts: Vec<StmtId>) {
        let end = stmts.last().map(|&last| self.end_of(last));
        let block = Block { stmts };
        match slot {
            Slot::File => {}
            Slot::Body(id) => match &mut self.stmts[id].kind {
                StmtKind::If { then: body, .. }
                | StmtKind::For { body, .. }
                | StmtKind::While { body, .. }
                | StmtKind::With { body, .. } => *body = block,
                StmtKind::Def(def) => {
                    def.body = block;
                    def.range.end = end.unwrap_or(def.range.end);
                }
                StmtKind::Class(class) => {
                    class.body = block;
                    class.range.end = end.unwrap_or(class.range.end);
                }
                StmtKind::Unsupported { blocks, .. } => blocks.push(block),
                _ => {}
            },
            Slot::Orelse(id) => match &mut self.stmts[id].kind {
                StmtKind::If { orelse, .. } | StmtKind::For { orelse, .. } | StmtKind::While { orelse, .. } => {
                    *orelse = block;
                }
                StmtKind::Unsupported { blocks, .. } => blocks.push(block),
                _ => {}
            },
        }
    }

    /// The end of a statement with its blocks. Only definitions remember it; for others the head's end is near enough.
    fn end_of(&self, id: StmtId) -> u32 {
        let stmt = &self.stmts[id];
        match &stmt.kind {
            StmtKind::Def(def) => def.range.end,
            StmtKind::Class(class) => class.range.end,
            _ => stmt.range.end,
        }
    }

    fn finish(&mut self) -> Result<Block> {
        if let Some((_, head)) = self.head {
            return self.fail("expected an indented block after this", head);
        }
        let end = self.source.text.len();
        self.no_decorators(range(end, end))?;
        while self.open.len() > 1 {
            self.close();
        }
        Ok(Block { stmts: self.open.pop().map(|open| open.stmts).unwrap_or_default() })
    }

    fn no_decorators(&self, at: TextRange) -> Result<()> {
        if self.decorators.is_empty() {
            Ok(())
        } else {
            self.fail("expected a function or class after a decorator", at)
        }
    }

    /// Adds statements to the innermost block; what came before can no longer be continued.
    fn add(&mut self, stmts: Vec<StmtId>) {
        if let Some(open) = self.open.last_mut() {
            open.stmts.extend(stmts);
            open.chain = None;
        }
    }

    /// Adds a compound statement whose head ends the line, or carries its block.
    fn begin(&mut self, kind: StmtKind, head: TextRange, inline: Option<Vec<StmtId>>) {
        let is_chain = matches!(
            kind,
            StmtKind::If { .. } | StmtKind::For { .. } | StmtKind::While { .. } | StmtKind::Unsupported { .. }
        );
        let id = self.stmts.push(Stmt { kind, range: head });
        self.add(vec![id]);
        if let Some(open) = self.open.last_mut() {
            open.chain = is_chain.then_some(Chain { stmt: id, n_links: 0 });
        }
        self.body(Slot::Body(id), head, inline);
    }

    fn body(&mut self, slot: Slot, head: TextRange, inline: Option<Vec<StmtId>>) {
        match inline {
            Some(stmts) => self.attach(slot, stmts),
            None => self.head = Some((slot, head)),
        }
    }

    fn compound(&mut self, pair: Pair<'i, Rule>) -> Result<()> {
        let rule = pair.as_rule();
        let outer = pair.clone();
        let mut head = self.range(&pair);
        let (mut parts, mut inline) = (Vec::new(), None);
        let mut is_async = false;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::colon => head.end = self.range(&part).end,
                Rule::simples => inline = Some(self.simples(part)?),
                Rule::k_async => is_async = true,
                Rule::k_if | Rule::k_elif | Rule::k_else | Rule::k_for | Rule::k_in | Rule::k_while => {}
                Rule::k_with | Rule::k_def | Rule::k_class => {}
                _ => parts.push(part),
            }
        }
        if !matches!(rule, Rule::def_head | Rule::class_head) {
            self.no_decorators(head)?;
        }
        let mut parts = parts.into_iter();
        let mut next = || parts.next().ok_or(());
        let empty = Block::default;
        let kind = match (rule, next()) {
            (Rule::if_head, Ok(cond)) => StmtKind::If { cond: self.expr(cond)?, then: empty(), orelse: empty() },
            (Rule::while_head, Ok(cond)) => StmtKind::While { cond: self.expr(cond)?, body: empty(), orelse: empty() },
            (Rule::for_head, Ok(target)) => {
                let Ok(iter) = next() else { return self.unexpected(&outer) };
                StmtKind::For { target: self.target(target)?, iter: self.exprs(iter)?, body: empty(), orelse: empty() }
            }
            (Rule::with_head, Ok(first)) => {
                let items = std::iter::once(first).chain(parts);
                let items = items.map(|item| self.with_item(item)).collect::<Result<_>>()?;
                StmtKind::With { items, body: empty() }
            }
            (Rule::def_head, Ok(name)) => {
                let name = self.name(&name);
                let (params, returns) = self.signature(parts)?;
                let decorators = std::mem::take(&mut self.decorators);
                let def =
                    Function { name, params, returns, body: empty(), decorators, head, range: head, mistake: None };
                StmtKind::Def(Box::new(def))
            }
            (Rule::class_head, Ok(name)) => {
                let name = self.name(&name);
                let args = next().ok().map(|pair| self.args(pair)).transpose()?;
                let bases = args.into_iter().flatten().map(|arg| arg.value).collect();
                let decorators = std::mem::take(&mut self.decorators);
                StmtKind::Class(Box::new(Class { name, bases, body: empty(), decorators, head, range: head }))
            }
            (Rule::elif_head, Ok(cond)) => return self.elif(cond, head, inline),
            (Rule::else_head, _) => return self.continued(head, inline),
            (Rule::try_head, Ok(word)) if word.as_str() == "try" => {
                StmtKind::Unsupported { what: "try".into(), blocks: Vec::new() }
            }
            (Rule::try_head, Ok(_)) => return self.continued(head, inline),
            _ => return self.unexpected(&outer),
        };
        let kind = if is_async { StmtKind::Unsupported { what: "async".into(), blocks: Vec::new() } } else { kind };
        self.begin(kind, head, inline);
        Ok(())
    }

    /// `elif`: an `if` alone in the `else` of the one before.
    fn elif(&mut self, cond: Pair<'i, Rule>, head: TextRange, inline: Option<Vec<StmtId>>) -> Result<()> {
        let cond = self.expr(cond)?;
        let depth = self.open.last().map_or(0, |open| open.depth);
        let chain = self.open.last().and_then(|open| open.chain);
        let Some(Chain { stmt, n_links }) = chain else { return self.fail("'elif' without an 'if' before it", head) };
        if depth + n_links >= MAX_BLOCK_DEPTH {
            return self.fail(format!("blocks are nested too deeply: more than {MAX_BLOCK_DEPTH} levels"), head);
        }
        if !matches!(self.stmts[stmt].kind, StmtKind::If { .. }) {
            return self.fail("'elif' without an 'if' before it", head);
        }
        let kind = StmtKind::If { cond, then: Block::default(), orelse: Block::default() };
        let id = self.stmts.push(Stmt { kind, range: head });
        self.attach(Slot::Orelse(stmt), vec![id]);
        if let Some(open) = self.open.last_mut() {
            open.chain = Some(Chain { stmt: id, n_links: n_links + 1 });
        }
        self.body(Slot::Body(id), head, inline);
        Ok(())
    }

    /// `else`, `except` or `finally`.
    fn continued(&mut self, head: TextRange, inline: Option<Vec<StmtId>>) -> Result<()> {
        let chain = self.open.last_mut().and_then(|open| open.chain.take());
        let Some(chain) = chain else { return self.fail("this continues no statement before it", head) };
        let is_try = matches!(self.stmts[chain.stmt].kind, StmtKind::Unsupported { .. });
        if is_try && let Some(open) = self.open.last_mut() {
            open.chain = Some(chain);
        }
        self.body(Slot::Orelse(chain.stmt), head, inline);
        Ok(())
    }

    fn with_item(&mut self, pair: Pair<'i, Rule>) -> Result<WithItem> {
        let outer = pair.clone();
        let (mut context, mut target) = (None, None);
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::expr => context = Some(self.expr(part)?),
                Rule::target => target = Some(self.one_target(part)?),
                _ => {}
            }
        }
        match context {
            Some(context) => Ok(WithItem { context, target }),
            None => self.unexpected(&outer),
        }
    }

    fn one_target(&mut self, pair: Pair<'i, Rule>) -> Result<Expr> {
        let outer = pair.clone();
        match pair.into_inner().next() {
            Some(inner) => self.target(inner),
            None => self.unexpected(&outer),
        }
    }

    fn signature(&mut self, parts: impl Iterator<Item = Pair<'i, Rule>>) -> Result<(Vec<Param>, Option<Expr>)> {
        let (mut params, mut returns) = (Vec::new(), None);
        let mut kind = ParamKind::Plain;
        for part in parts {
            let outer = part.clone();
            let Some(inner) = part.into_inner().next() else { return self.unexpected(&outer) };
            let (outer, this) = match (outer.as_rule(), inner.as_rule()) {
                (Rule::returns, _) => {
                    returns = Some(self.expr(inner)?);
                    continue;
                }
                (_, Rule::only_positional) => continue,
                (_, Rule::rest) => {
                    kind = ParamKind::KeywordOnly;
                    if inner.clone().into_inner().next().is_none() {
                        continue;
                    }
                    (inner, ParamKind::Rest)
                }
                (_, Rule::keyword_rest) => (inner, ParamKind::KeywordRest),
                _ => (outer, kind),
            };
            params.push(self.param(outer, this)?);
        }
        Ok((params, returns))
    }

    fn param(&mut self, pair: Pair<'i, Rule>, kind: ParamKind) -> Result<Param> {
        let outer = pair.clone();
        let (mut name, mut annotation, mut default, mut is_annotation) = (None, None, None, false);
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::name => name = Some(self.name(&part)),
                Rule::colon => is_annotation = true,
                _ if is_annotation => {
                    is_annotation = false;
                    annotation = Some(self.expr(part)?);
                }
                _ => default = Some(self.expr(part)?),
            }
        }
        match name {
            Some(name) => Ok(Param { name, annotation, default, kind }),
            None => self.unexpected(&outer),
        }
    }

    fn simples(&mut self, pair: Pair<'i, Rule>) -> Result<Vec<StmtId>> {
        let mut stmts = Vec::new();
        for pair in pair.into_inner() {
            let range = self.range(&pair);
            let kind = self.simple(pair)?;
            stmts.push(self.stmts.push(Stmt { kind, range }));
        }
        Ok(stmts)
    }

    fn simple(&mut self, pair: Pair<'i, Rule>) -> Result<StmtKind> {
        let outer = pair.clone();
        let rule = pair.as_rule();
        let mut parts = pair.into_inner();
        // Each of these starts with its keyword.
        if rule != Rule::s_expr {
            parts.next();
        }
        let mut next = || parts.next();
        Ok(match rule {
            Rule::s_return => StmtKind::Return(next().map(|pair| self.exprs(pair)).transpose()?),
            Rule::s_raise => {
                let error = next().map(|pair| self.expr(pair)).transpose()?;
                next();
                StmtKind::Raise { error, cause: next().map(|pair| self.expr(pair)).transpose()? }
            }
            Rule::s_assert => {
                let Some(cond) = next() else { return self.unexpected(&outer) };
                StmtKind::Assert { cond: self.expr(cond)?, message: next().map(|pair| self.expr(pair)).transpose()? }
            }
            Rule::s_del => StmtKind::Delete(parts.map(|pair| self.one_target(pair)).collect::<Result<_>>()?),
            Rule::s_pass => StmtKind::Pass,
            Rule::s_break => StmtKind::Break,
            Rule::s_continue => StmtKind::Continue,
            Rule::s_import => StmtKind::Import(parts.map(|pair| self.imported(pair, None)).collect::<Result<_>>()?),
            Rule::s_from => {
                let from: Option<Arc<str>> = next().map(|module| module.as_str().into());
                let names = parts.filter(|pair| pair.as_rule() != Rule::k_import);
                StmtKind::Import(names.map(|pair| self.imported(pair, from.clone())).collect::<Result<_>>()?)
            }
            Rule::s_scope => {
                let what = outer.into_inner().next().map_or("", |word| word.as_str());
                StmtKind::Unsupported { what: what.into(), blocks: Vec::new() }
            }
            Rule::s_expr => {
                let Some(first) = next() else { return self.unexpected(&outer) };
                let rest: Vec<_> = parts.collect();
                self.expression_statement(first, rest)?
            }
            _ => return self.unexpected(&outer),
        })
    }

    fn expression_statement(&mut self, first: Pair<'i, Rule>, rest: Vec<Pair<'i, Rule>>) -> Result<StmtKind> {
        let outer = first.clone();
        match rest.first().map(Pair::as_rule) {
            None => Ok(StmtKind::Expr(self.exprs(first)?)),
            Some(Rule::assigned) => {
                let mut exprs = vec![self.exprs(first)?];
                for pair in rest {
                    let outer = pair.clone();
                    let Some(inner) = pair.into_inner().next() else { return self.unexpected(&outer) };
                    exprs.push(self.exprs(inner)?);
                }
                let Some(value) = exprs.pop() else { return self.unexpected(&outer) };
                exprs.iter().try_for_each(|target| self.check_target(target))?;
                Ok(StmtKind::Assign { targets: exprs, value })
            }
            Some(rule) => {
                let target = self.target(first)?;
                if matches!(target.kind, ExprKind::Tuple(_) | ExprKind::List(_) | ExprKind::Starred(_)) {
                    return self.fail("only a single target can be annotated or augmented", target.range);
                }
                let parts = rest.into_iter().flat_map(Pair::into_inner).filter(|pair| pair.as_rule() != Rule::colon);
                let parts: Vec<_> = parts.collect();
                let mut parts = parts.into_iter();
                let Some(part) = parts.next() else { return self.unexpected(&outer) };
                if rule == Rule::annotated {
                    let annotation = self.expr(part)?;
                    let value = parts.next().map(|pair| self.exprs(pair)).transpose()?;
                    return Ok(StmtKind::AnnAssign { target, annotation, value });
                }
                match (Self::aug_op(part.as_str()), parts.next()) {
                    (Some(op), Some(value)) => Ok(StmtKind::AugAssign { target, op, value: self.exprs(value)? }),
                    _ => self.unexpected(&outer),
                }
            }
        }
    }

    fn imported(&mut self, pair: Pair<'i, Rule>, from: Option<Arc<str>>) -> Result<Import> {
        let outer = pair.clone();
        if pair.as_rule() == Rule::star_import {
            return Ok(Import { from, name: self.name(&pair), alias: None });
        }
        let (mut name, mut alias) = (None::<Name>, None);
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::dotted => name = Some(self.name(&part)),
                Rule::name => alias = Some(self.name(&part)),
                _ => {}
            }
        }
        match name {
            Some(name) => Ok(Import { from, name, alias }),
            None => self.unexpected(&outer),
        }
    }
}

/// What the language's own parser calls a token.
fn token_kind(token: &str) -> &str {
    const KEYWORDS: [&str; 26] = [
        "def", "class", "import", "if", "else", "elif", "while", "for", "in", "not", "is", "and", "or", "return",
        "raise", "assert", "break", "continue", "with", "as", "del", "global", "None", "True", "False", "pass",
    ];
    match token.chars().next() {
        None => "newline",
        Some(_) if KEYWORDS.contains(&token) => token,
        Some('"' | '\'') => "string_literal",
        Some(c) if c.is_ascii_digit() => "number",
        Some(c) if c.is_alphabetic() || c == '_' => "ident",
        Some(_) => token,
    }
}

/// What a rule stands for, in an error message.
fn describe(rule: Rule) -> &'static str {
    match rule {
        Rule::colon => "':'",
        Rule::comma => "','",
        Rule::name | Rule::word | Rule::dotted => "a name",
        Rule::k_in => "'in'",
        Rule::k_import => "'import'",
        Rule::EOI => "the end of the line",
        Rule::symbol
        | Rule::not_in
        | Rule::is_not
        | Rule::k_is
        | Rule::k_and
        | Rule::k_or
        | Rule::k_if
        | Rule::k_else
        | Rule::walrus
        | Rule::attribute
        | Rule::args
        | Rule::subscript => "an operator",
        _ => "an expression",
    }
}
