//! What a traced program tells of itself: functions, statements and values, as they come.

use crate::log::{Level, Log};
use crate::object::{Body, Item};
use crate::routines::text::{print_item, summary};
use crate::value::Value;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Something that a traced program does.
#[derive(Clone, Debug)]
pub enum Event {
    /// A function of this name begins.
    Enter(String),
    /// It gets this argument.
    Argument(String, Option<Value>),
    /// A statement begins: `net.py:12: y = x + 1`.
    Statement(String),
    /// The statement has given a value, or something without one, a name.
    Value(String, Option<Value>),
    /// A name of a function that runs, counted from the outermost, has another value now, or shows memory that has changed.
    Update(usize, String, Option<Value>),
    /// The function that began last ends.
    Leave,
}

/// Takes events while the program waits.
pub type Tracer = Arc<dyn Fn(Event) + Send + Sync>;

/// A model's tracer.
#[derive(Default)]
pub struct Trace(RwLock<Option<Tracer>>);

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace")
    }
}

impl Trace {
    /// Later events go there; without a tracer they are lines of output.
    pub fn set(&self, tracer: Option<Tracer>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tracer;
    }

    fn tracer(&self) -> Option<Tracer> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells of what has no value.
    pub(crate) fn event(&self, event: Event) {
        if let Some(tracer) = self.tracer() {
            tracer(event);
        }
    }

    /// Tells of a value that another name's statement changed.
    pub(crate) fn update(&self, depth: usize, name: String, value: &Item) {
        if let Some(tracer) = self.tracer() {
            tracer(Event::Update(depth, name, value.to_value().ok()));
        }
    }

    /// Tells that a statement begins, once for all that belongs to it.
    pub(crate) fn statement(&self, last: &mut String, statement: String, log: &Log) {
        match self.tracer() {
            Some(tracer) => tracer(Event::Statement(statement.clone())),
            None if *last != statement => log.line(Level::Print, &statement),
            None => {}
        }
        *last = statement;
    }

    /// A statement goes on after functions that it called.
    pub(crate) fn resumed(&self, last: &mut String, statement: String, log: &Log) {
        if self.tracer().is_none() {
            log.line(Level::Print, &statement);
        }
        *last = statement;
    }

    /// Tells of a value; where nobody takes events, of what it is like.
    pub(crate) fn value(&self, name: String, value: Option<&Item>, is_argument: bool, log: &Log) {
        if let Some(tracer) = self.tracer() {
            let value = value.and_then(|item| item.to_value().ok());
            tracer(if is_argument { Event::Argument(name, value) } else { Event::Value(name, value) });
            return;
        }
        let Some(item) = value.filter(|_| !is_argument) else { return };
        let text = match item {
            Item::Object(object) => match object.body() {
                Body::Tensor(tensor) => summary(tensor),
                _ => print_item(item),
            },
            _ => print_item(item),
        };
        log.line(Level::Print, &format!("    {name} = {text}"));
    }
}
