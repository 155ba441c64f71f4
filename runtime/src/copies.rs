//! Objects of their own for another thread or instance. What the originals share among each other, the copies share, too.

use crate::arena::Memory;
use crate::error::Result;
use crate::instance::Instance;
use crate::object::{Body, Item, ObjectRef};
use crate::tensor::Tensor;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Copies made so far, by the address of the original.
#[derive(Default)]
pub(crate) struct Copies {
    objects: HashMap<usize, ObjectRef>,
    memories: HashMap<usize, Arc<Memory>>,
}

impl Copies {
    /// A copy of an item in which all that can change in place is new.
    pub(crate) fn item(&mut self, item: &Item) -> Result<Item> {
        match item {
            Item::Object(object) => self.object(object).map(Item::Object),
            plain => Ok(plain.clone()),
        }
    }

    fn items(&mut self, items: &[Item]) -> Result<Vec<Item>> {
        items.iter().map(|item| self.item(item)).collect()
    }

    /// A copy of an object; texts and futures do not change, so they are the same ones.
    pub(crate) fn object(&mut self, object: &ObjectRef) -> Result<ObjectRef> {
        let key = object.as_raw() as usize;
        if let Some(copy) = self.objects.get(&key) {
            return Ok(copy.clone());
        }
        let copy = ObjectRef::new(match object.body() {
            Body::Str(_) | Body::Future(_) => return Ok(object.clone()),
            Body::List(items) => Body::List(items.iter().map(|item| self.item(&item)).collect::<Result<_>>()?),
            Body::Tuple(items) => Body::Tuple(self.items(items)?),
            Body::NamedTuple(names, items) => Body::NamedTuple(names.clone(), self.items(items)?),
            Body::Dict(entries) => {
                let entries = entries.iter().map(|(k, v)| Ok((self.item(k)?, self.item(v)?)));
                Body::Dict(entries.collect::<Result<_>>()?)
            }
            Body::Tensor(tensor) => Body::Tensor(self.tensor(tensor)?),
            Body::Boxed(item) => Body::Boxed(self.item(item)?),
            Body::Instance(instance) => {
                let attributes = self.items(&instance.attributes)?;
                Body::Instance(Instance { kind: instance.kind, attributes })
            }
        });
        self.objects.insert(key, copy.clone());
        Ok(copy)
    }

    fn tensor(&mut self, tensor: &Tensor) -> Result<Tensor> {
        let Some(memory) = tensor.memory() else { return tensor.to_owned_tensor() };
        let copy = match self.memories.entry(memory.as_ptr() as usize) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Arc::new(memory.try_clone()?)),
        };
        Ok(tensor.moved_to(copy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    #[test]
    fn what_is_shared_stays_shared() {
        let whole = Tensor::from_f32(&[4], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        let part = whole.view(2, vec![2], vec![1]);
        let inner = Item::from(Body::Tensor(part));
        let items = vec![Item::from(Body::Tensor(whole.clone())), inner.clone(), inner];
        let list = Item::from(Body::List(items.into()));
        let copy = Copies::default().item(&list).unwrap();
        whole.set_bytes(&[0; 16]).unwrap();
        let Item::Object(copy) = copy else { panic!("a list is an object") };
        let Body::List(items) = copy.body() else { panic!("the copy of a list is one") };
        let objects: Vec<ObjectRef> = items
            .iter()
            .map(|item| if let Item::Object(object) = item { object } else { panic!("a tensor") })
            .collect();
        let tensor = |i: usize| if let Body::Tensor(t) = objects[i].body() { t.clone() } else { panic!("a tensor") };
        assert_eq!(tensor(1).to_bytes(), Tensor::from_f32(&[2], &[3.0, 4.0]).unwrap().to_bytes());
        assert_eq!(objects[1].as_raw(), objects[2].as_raw());
        tensor(1).set_bytes(&[0; 8]).unwrap();
        assert_eq!(tensor(0).to_bytes(), Tensor::from_f32(&[4], &[1.0, 2.0, 0.0, 0.0]).unwrap().to_bytes());
        assert_eq!(tensor(0).dtype, Dtype::F32);
    }
}
