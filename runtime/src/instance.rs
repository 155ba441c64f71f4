//! Instances of script classes.

use crate::object::Item;
use std::cell::RefCell;

/// An instance of a script class: the attributes that its methods read and write.
#[derive(Debug)]
pub struct Instance {
    /// The number of its kind, which says its class.
    pub kind: i64,
    /// In the order in which the class declares them; `None` before they are set.
    pub attributes: Vec<Item>,
}

thread_local! {
    /// What is to be given up, while an instance is.
    static PENDING: RefCell<Option<Vec<Item>>> = const { RefCell::new(None) };
}

impl Drop for Instance {
    /// Gives up what it holds one after the other: instances that hold each other make chains longer than any stack.
    fn drop(&mut self) {
        let attributes = std::mem::take(&mut self.attributes);
        // At a thread's end there is nothing to queue in, and they are dropped as they are.
        let _ = PENDING.try_with(|pending| {
            if let Some(queue) = pending.borrow_mut().as_mut() {
                return queue.extend(attributes);
            }
            pending.replace(Some(attributes));
            loop {
                let item = pending.borrow_mut().as_mut().and_then(Vec::pop);
                match item {
                    Some(item) => drop(item),
                    None => break,
                }
            }
            pending.replace(None);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Body, ObjectRef};

    #[test]
    fn a_long_chain_is_given_up() {
        let text = ObjectRef::text("end");
        let mut chain = Item::Object(text.clone());
        for _ in 0..1_000_000 {
            chain = Item::from(Body::Instance(Instance { kind: 0, attributes: vec![chain, Item::Int(1)] }));
        }
        assert!(!text.is_unique());
        drop(chain);
        assert!(text.is_unique());
    }
}
