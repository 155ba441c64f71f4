//! What errors say: a template whose `{}` are filled in when the error happens, as extents and indices may be known only then.

use super::builder::Builder;
use super::value::known;
use crate::diag::Result;
use crate::loops::{BinaryOp, Const, Dim, Operand, Stmt};

/// What a `{}` of a template stands for.
#[derive(Clone, Debug)]
pub enum Part {
    /// Text.
    Text(String),
    /// A number.
    Number(Operand),
    /// A shape, written as `[2, 3]`.
    Shape(Vec<Operand>),
}

impl From<Operand> for Part {
    fn from(number: Operand) -> Self {
        Self::Number(number)
    }
}

impl From<&Operand> for Part {
    fn from(number: &Operand) -> Self {
        Self::Number(number.clone())
    }
}

impl From<Dim> for Part {
    fn from(extent: Dim) -> Self {
        Self::Number(extent.into())
    }
}

impl From<usize> for Part {
    fn from(number: usize) -> Self {
        Self::Text(number.to_string())
    }
}

impl From<&str> for Part {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&[Dim]> for Part {
    fn from(shape: &[Dim]) -> Self {
        Self::Shape(shape.iter().map(|dim| (*dim).into()).collect())
    }
}

impl From<&Vec<Dim>> for Part {
    fn from(shape: &Vec<Dim>) -> Self {
        shape.as_slice().into()
    }
}

impl From<&[Operand]> for Part {
    fn from(shape: &[Operand]) -> Self {
        Self::Shape(shape.to_vec())
    }
}

/// What an error says: text in which each `{}` is a number that only the running program knows.
#[derive(Clone, Debug)]
pub struct Message {
    template: String,
    numbers: Vec<Operand>,
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<&String> for Message {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<String> for Message {
    fn from(template: String) -> Self {
        Self { template, numbers: Vec::new() }
    }
}

impl Message {
    /// A template with its parts, one for each `{}`.
    pub fn new(template: &str, parts: &[Part]) -> Self {
        let mut message = Self { template: String::new(), numbers: Vec::new() };
        let mut texts = template.split("{}");
        message.template.push_str(texts.next().expect("a split has a first part"));
        let mut n_parts = 0;
        for (part, text) in parts.iter().zip(texts) {
            message.append(part);
            message.template.push_str(text);
            n_parts += 1;
        }
        assert_eq!(n_parts, template.matches("{}").count(), "a template has as many parts as it has places for them");
        message
    }

    fn append(&mut self, part: &Part) {
        match part {
            Part::Text(text) => self.template.push_str(text),
            Part::Number(number) => self.number(number),
            Part::Shape(shape) => {
                self.template.push('[');
                for (i, extent) in shape.iter().enumerate() {
                    self.template.push_str(if i > 0 { ", " } else { "" });
                    self.number(extent);
                }
                self.template.push(']');
            }
        }
    }

    fn number(&mut self, number: &Operand) {
        match known(number) {
            Some(c) if c.dtype.is_floating_point() => self.template.push_str(&c.as_f64().to_string()),
            Some(c) => self.template.push_str(&c.as_i64().to_string()),
            None => {
                self.template.push_str("{}");
                self.numbers.push(number.clone());
            }
        }
    }

    /// The message with `*` for what is not known yet.
    pub fn text(&self) -> String {
        if self.numbers.is_empty() { self.template.clone() } else { self.template.replace("{}", "*") }
    }
}

impl Builder<'_> {
    /// Ends the program with a `RuntimeError` unless the condition holds; a condition known to fail is a raise.
    pub fn check(&mut self, cond: Operand, message: impl Into<Message>) {
        if known(&cond).is_some_and(|c| c.bits != 0) || !self.note_checked(&cond) {
            return;
        }
        let Message { template, numbers } = message.into();
        let (class, message, place) = ("RuntimeError".into(), Operand::Str(template.into()), self.place());
        self.push(Stmt::Check { cond, class, message, parts: numbers, place });
    }

    /// [`Self::check`], but a condition known to fail is an error here.
    ///
    /// # Errors
    /// What the message says.
    pub fn require(&mut self, cond: Operand, message: impl Into<Message>) -> Result<()> {
        let message = message.into();
        if known(&cond).is_some_and(|c| c.bits == 0) {
            return Err(self.fail(message));
        }
        self.check(cond, message);
        Ok(())
    }

    /// The error for an operator that cannot work on its arguments, whatever else the running program finds.
    pub fn fail(&mut self, message: impl Into<Message>) -> Box<crate::diag::Diagnostic> {
        let message = message.into();
        let text = message.text();
        if !message.numbers.is_empty() {
            // Ends the path with the whole message, before the one of the error does.
            self.check(Operand::Const(Const::bool(false)), message);
        }
        self.user(text)
    }

    /// Ends compilation (or the program, where an extent is known only then) unless the extents are equal.
    ///
    /// # Errors
    /// What the message says.
    pub fn require_equal(&mut self, x: Dim, y: Dim, message: impl Into<Message>) -> Result<()> {
        if x == y {
            return Ok(());
        }
        // Equal questions are one condition, whichever extent is named first.
        let (x, y) = match (x, y) {
            (Dim::Const(_), Dim::Var(_)) => (y, x),
            (Dim::Var(p), Dim::Var(q)) if q < p => (y, x),
            _ => (x, y),
        };
        let equal = self.binary(BinaryOp::Eq, x.into(), y.into());
        self.require(equal, message)
    }
}
