//! Names and the values they stand for while a function is turned into SSA form.
//!
//! One table maps each visible name to its present binding; every open block has a frame that remembers what the
//! names it assigned meant before. Closing a frame hands back the block's last bindings and restores the old ones,
//! so a branch costs what it assigns, however many names are visible.

use super::sugar::Sugared;
use crate::ir::ValueId;
use crate::syntax::ast::TextRange;
use crate::types::Type;
use indexmap::IndexMap;
use std::collections::HashMap;
use std::sync::Arc;

/// A value with the type the source sees, which may be wider than the type of the SSA value (`x: Optional[int] = 5`).
#[derive(Clone, Debug)]
pub(crate) struct V {
    /// The SSA value.
    pub id: ValueId,
    /// Its type as declared.
    pub ty: Type,
}

/// What a name means.
#[derive(Clone)]
pub(crate) enum Binding {
    /// A value.
    Value { value: V },
    /// A function, class or namespace.
    Sugar(Sugared),
    /// Nothing usable, for the reason given, since the statement given; an error if it is read.
    Conflict(Arc<str>, TextRange),
}

/// The names of one function.
#[derive(Default)]
pub(crate) struct Scope {
    names: HashMap<Arc<str>, Binding>,
    frames: Vec<IndexMap<Arc<str>, Option<Binding>>>,
}

/// The bindings a closed block left, in the order of their first assignment; `None` for a deleted name.
pub(crate) type Changed = IndexMap<Arc<str>, Option<Binding>>;

impl Scope {
    /// The present meaning of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Binding> {
        self.names.get(name)
    }

    /// Gives a name a meaning until the innermost open block ends.
    pub(crate) fn set(&mut self, name: Arc<str>, binding: Option<Binding>) {
        let old = match binding {
            Some(binding) => self.names.insert(Arc::clone(&name), binding),
            None => self.names.remove(&name),
        };
        if let Some(frame) = self.frames.last_mut() {
            frame.entry(name).or_insert(old);
        }
    }

    /// What the name meant outside the innermost open block; `None` at the top level of the function.
    pub(crate) fn outer(&self, name: &str) -> Option<&Binding> {
        match self.frames.last()?.get(name) {
            Some(saved) => saved.as_ref(),
            None => self.names.get(name),
        }
    }

    /// Opens a block.
    pub(crate) fn open(&mut self) {
        self.frames.push(IndexMap::new());
    }

    /// Closes the innermost block: the names mean what they did before.
    pub(crate) fn close(&mut self) -> Changed {
        let frame = self.frames.pop().expect("every close has its open");
        let restore = |(name, old): (Arc<str>, Option<Binding>)| {
            let new = match old {
                Some(old) => self.names.insert(Arc::clone(&name), old),
                None => self.names.remove(&name),
            };
            (name, new)
        };
        frame.into_iter().map(restore).collect()
    }

    /// Replaces a meaning without any block noticing; gives back the old one.
    pub(crate) fn swap(&mut self, name: &Arc<str>, binding: Binding) -> Option<Binding> {
        self.names.insert(Arc::clone(name), binding)
    }
}
