//! Pickle nodes to values: objects, enums, containers with their type tags.
//!
//! What a pickle shares stays shared: a node that is referred to twice becomes one `Arc`, tensors of one storage key look
//! at one `Storage`. The value is a tree for those who do not look at identity, so its size *as a tree* is limited.

use super::Fault;
use super::pickle::{Global, Id, Node, Pickle};
use super::storages::Storages;
use crate::types::{DEVICE_TYPES, IValue, Object, Type, is_device};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::sync::Arc;

/// Deepest nesting of containers and objects. Later stages recurse over values, so this bounds their stack too.
const MAX_DEPTH: usize = 256;

/// Most values of one pickle, counting shared ones as often as they are referred to.
const MAX_VALUES: usize = 1 << 20;

/// Most dimensions of a tensor.
const MAX_RANK: usize = 64;

/// What a pickle may contain besides plain data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Vocabulary {
    /// Objects and enums of the archive's own classes.
    TorchScript,
    /// Only data.
    Plain,
}

/// The value of a whole pickle.
pub(super) fn read(pickle: &Pickle, storages: Option<Storages<'_>>, vocabulary: Vocabulary) -> Result<IValue, Fault> {
    let mut reader = Reader { pickle, storages, vocabulary, done: HashMap::new(), open: 0 };
    reader.value(pickle.root).map(|sized| sized.value)
}

/// A value with its size as a tree.
#[derive(Clone)]
pub(super) struct Counted {
    pub(super) value: IValue,
    pub(super) n_values: usize,
}

pub(super) struct Reader<'a> {
    pub(super) pickle: &'a Pickle,
    pub(super) storages: Option<Storages<'a>>,
    vocabulary: Vocabulary,
    /// Values of the nodes that have parts; `None` while they are being made.
    done: HashMap<Id, Option<Counted>>,
    /// Nodes being made now: the depth.
    open: usize,
}

impl Reader<'_> {
    pub(super) fn value(&mut self, id: Id) -> Result<Counted, Fault> {
        let leaf = |value| Ok(Counted { value, n_values: 1 });
        match self.pickle.node(id) {
            Node::None => return leaf(IValue::None),
            Node::Bool(b) => return leaf(IValue::Bool(*b)),
            Node::Int(n) => return leaf(IValue::Int(*n)),
            Node::Float(x) => return leaf(IValue::Float(*x)),
            Node::Str(text) => return leaf(IValue::Str(text.clone())),
            Node::Global(Global::DType(dtype)) => return leaf(IValue::Int(dtype.code())),
            Node::Global(global) => return Err(Fault::bad(format!("{global:?} is used as a value"))),
            Node::Persistent(_) => return Err(Fault::bad("a storage is used as a value")),
            Node::Tuple(_) | Node::List(_) | Node::Dict(_) | Node::Reduce(..) | Node::Object(..) => {}
        }
        match self.done.get(&id) {
            Some(Some(sized)) => return Ok(sized.clone()),
            Some(None) => return Err(Fault::bad("a value contains itself")),
            None => {}
        }
        if self.open >= MAX_DEPTH {
            return Err(Fault::bad(format!("values are nested more than {MAX_DEPTH} deep")));
        }
        self.done.insert(id, None);
        self.open += 1;
        let sized = self.compound(id)?;
        self.open -= 1;
        if sized.n_values > MAX_VALUES {
            return Err(Fault::bad(format!("the pickle holds more than {MAX_VALUES} values")));
        }
        self.done.insert(id, Some(sized.clone()));
        Ok(sized)
    }

    fn compound(&mut self, id: Id) -> Result<Counted, Fault> {
        let pickle = self.pickle;
        match pickle.node(id) {
            Node::Tuple(items) => {
                let (items, n_values) = self.values(items)?;
                Ok(Counted { value: IValue::Tuple(items.into()), n_values })
            }
            Node::List(items) => {
                let (items, n_values) = self.values(items)?;
                Ok(Counted { value: IValue::List(None, items.into()), n_values })
            }
            Node::Dict(items) => {
                let (items, n_values) = self.entries(items)?;
                Ok(Counted { value: IValue::Dict(None, items.into()), n_values })
            }
            Node::Object(class, state) => self.object(class, *state),
            Node::Reduce(global, args) => self.call(global, *args),
            _ => Err(Fault::bad("a value is expected here")),
        }
    }

    fn values(&mut self, ids: &[Id]) -> Result<(Vec<IValue>, usize), Fault> {
        let mut n_values = 1usize;
        let mut values = Vec::with_capacity(ids.len().min(MAX_VALUES));
        for &id in ids {
            let sized = self.value(id)?;
            n_values = count(n_values, sized.n_values)?;
            values.push(sized.value);
        }
        Ok((values, n_values))
    }

    fn entries(&mut self, ids: &[(Id, Id)]) -> Result<(Vec<(IValue, IValue)>, usize), Fault> {
        let mut n_values = 1usize;
        let mut entries: Vec<(IValue, IValue)> = Vec::with_capacity(ids.len().min(MAX_VALUES));
        let mut seen: HashMap<Key, usize> = HashMap::new();
        for &(key, value) in ids {
            let (key, value) = (self.value(key)?, self.value(value)?);
            n_values = count(n_values, key.n_values.saturating_add(value.n_values))?;
            let at = *seen.entry(Key::of(&key.value)?).or_insert(entries.len());
            match entries.get_mut(at) {
                // As in Python, a later value replaces an earlier one of the same key in its place.
                Some(entry) => entry.1 = value.value,
                None => entries.push((key.value, value.value)),
            }
        }
        Ok((entries, n_values))
    }

    fn object(&mut self, class: &Arc<str>, state: Option<Id>) -> Result<Counted, Fault> {
        if self.vocabulary == Vocabulary::Plain {
            return Err(Fault::bad(format!("plain data is expected, found an object of class {class}")));
        }
        let mut attrs = IndexMap::new();
        let mut n_values = 1usize;
        let pickle = self.pickle;
        match state.map(|state| (state, pickle.node(state))) {
            None => {}
            // Attributes are a bare dict of names; the result of `__getstate__` carries a type tag if it is a dict.
            Some((_, Node::Dict(items))) if !is_custom(class) => {
                for &(key, value) in items {
                    let Node::Str(name) = pickle.node(key) else {
                        return Err(Fault::bad(format!("an attribute name of class {class} is not a string")));
                    };
                    let sized = self.value(value)?;
                    n_values = count(n_values, sized.n_values)?;
                    if attrs.insert(name.clone(), sized.value).is_some() {
                        return Err(Fault::bad(format!("class {class} has the attribute '{name}' twice")));
                    }
                }
            }
            Some((state, _)) => {
                let sized = self.value(state)?;
                n_values = count(n_values, sized.n_values)?;
                attrs.insert("__state__".into(), sized.value);
            }
        }
        Ok(Counted { value: IValue::Object(Arc::new(Object { class: class.clone(), attrs })), n_values })
    }

    fn call(&mut self, global: &Global, args: Id) -> Result<Counted, Fault> {
        let leaf = |value| Ok(Counted { value, n_values: 1 });
        let pickle = self.pickle;
        if let Global::Class(class) = global {
            if self.vocabulary == Vocabulary::Plain {
                return Err(Fault::bad(format!("plain data is expected, found a value of class {class}")));
            }
            let sized = self.value(args)?;
            if !matches!(sized.value, IValue::Int(_) | IValue::Float(_) | IValue::Str(_)) {
                return Err(Fault::bad(format!("the value of enum {class} is a {}", sized.value.kind())));
            }
            return Ok(Counted {
                value: IValue::Enum { class: class.clone(), value: Arc::new(sized.value) },
                n_values: 2,
            });
        }
        let Node::Tuple(args) = pickle.node(args) else {
            return Err(Fault::bad(format!("{global:?} is called with something that is not a tuple")));
        };
        let wrong = || Fault::bad(format!("{global:?} is called with {} arguments of unexpected kinds", args.len()));
        match (global, &**args) {
            (Global::RestoreTypeTag, [value, tag]) => {
                let Node::Str(tag) = pickle.node(*tag) else { return Err(wrong()) };
                let ty = Type::parse_annotation(tag);
                let ty = ty.ok_or_else(|| Fault::bad(format!("the type tag '{tag}' is not a type")))?;
                let sized = self.value(*value)?;
                tagged(sized, ty)
            }
            (Global::BuildIntList, [list]) => self.typed_list(*list, Type::Int),
            (Global::BuildDoubleList, [list]) => self.typed_list(*list, Type::Float),
            (Global::BuildBoolList, [list]) => self.typed_list(*list, Type::Bool),
            (Global::BuildTensorList, [list]) => self.typed_list(*list, Type::tensor()),
            (Global::Size, [items]) => {
                let Node::Tuple(items) = pickle.node(*items) else { return Err(wrong()) };
                let (items, n_values) = self.values(items)?;
                tagged(Counted { value: IValue::List(None, items.into()), n_values }, Type::list(Type::Int))
            }
            (Global::Device, [name, rest @ ..]) => {
                let Node::Str(name) = pickle.node(*name) else { return Err(wrong()) };
                let text = match rest {
                    [] => name.to_string(),
                    [index] => format!("{name}:{}", self.int(*index)?),
                    _ => return Err(wrong()),
                };
                check_device(&text)?;
                leaf(IValue::Device(text.into()))
            }
            (Global::Complex, [re, im]) => match (self.value(*re)?.value, self.value(*im)?.value) {
                (IValue::Float(re), IValue::Float(im)) => leaf(IValue::Complex(re, im)),
                _ => Err(wrong()),
            },
            (Global::GetLayout, [name]) => match pickle.node(*name) {
                Node::Str(name) if &**name == "torch.strided" => leaf(IValue::Int(0)),
                Node::Str(name) if &**name == "torch.sparse_coo" => leaf(IValue::Int(1)),
                Node::Str(name) => Err(Fault::Unsupported(format!("tensors of layout {name} are not supported"))),
                _ => Err(wrong()),
            },
            (Global::RebuildParameter, [data, ..]) => self.value(*data),
            (Global::RebuildTensorV2, [storage, offset, sizes, strides, _grad, _hooks, rest @ ..])
                if rest.len() <= 1 =>
            {
                let tensor = self.tensor(*storage, *offset, *sizes, *strides, None)?;
                let tensor = self.resolve_bits(tensor, rest.first().copied())?;
                leaf(IValue::Tensor(Arc::new(tensor)))
            }
            (Global::RebuildTensorV3, [storage, offset, sizes, strides, _grad, _hooks, dtype, rest @ ..])
                if rest.len() <= 1 =>
            {
                let Node::Global(Global::DType(dtype)) = pickle.node(*dtype) else { return Err(wrong()) };
                let tensor = self.tensor(*storage, *offset, *sizes, *strides, Some(*dtype))?;
                let tensor = self.resolve_bits(tensor, rest.first().copied())?;
                leaf(IValue::Tensor(Arc::new(tensor)))
            }
            (Global::RebuildQTensor, [storage, offset, sizes, strides, quantizer, _grad, _hooks]) => {
                let mut tensor = self.tensor(*storage, *offset, *sizes, *strides, None)?;
                self.set_quantizer(&mut tensor, *quantizer)?;
                leaf(IValue::Tensor(Arc::new(tensor)))
            }
            (Global::RebuildSparseTensor, args) => self.sparse(args),
            (Global::BuildTensorFromId, _) => Err(Fault::Unsupported(
                "tensors by table index (archives of PyTorch 1.0 to 1.3) are not supported".into(),
            )),
            (Global::RRef, _) => Err(Fault::Unsupported("remote references (RRef) are not supported".into())),
            _ => Err(wrong()),
        }
    }

    fn typed_list(&mut self, list: Id, elem: Type) -> Result<Counted, Fault> {
        let sized = self.value(list)?;
        tagged(sized, Type::list(elem))
    }

    pub(super) fn int(&self, id: Id) -> Result<i64, Fault> {
        match self.pickle.node(id) {
            Node::Int(n) => Ok(*n),
            _ => Err(Fault::bad("an integer is expected in a tensor's description")),
        }
    }

    pub(super) fn ints(&self, id: Id) -> Result<Vec<i64>, Fault> {
        let Node::Tuple(items) = self.pickle.node(id) else {
            return Err(Fault::bad("a tuple of integers is expected in a tensor's description"));
        };
        if items.len() > MAX_RANK {
            return Err(Fault::bad(format!("a tensor has {} dimensions; at most {MAX_RANK} are read", items.len())));
        }
        items.iter().map(|&item| self.int(item)).collect()
    }
}

fn count(so_far: usize, more: usize) -> Result<usize, Fault> {
    let total = so_far.saturating_add(more);
    if total > MAX_VALUES {
        Err(Fault::bad(format!("the pickle holds more than {MAX_VALUES} values")))
    } else {
        Ok(total)
    }
}

/// Whether a class is implemented in C++ (`torch.classes`), so that its state is opaque.
pub(super) fn is_custom(class: &str) -> bool {
    class.starts_with("__torch__.torch.classes.")
}

/// Gives a list or dict its static type.
fn tagged(sized: Counted, ty: Type) -> Result<Counted, Fault> {
    let value = match (sized.value, ty) {
        (IValue::List(_, items), Type::List(elem)) => {
            let is_right = |item: &IValue| match &*elem {
                Type::Int => matches!(item, IValue::Int(_)),
                Type::Float => matches!(item, IValue::Float(_)),
                Type::Bool => matches!(item, IValue::Bool(_)),
                Type::Str => matches!(item, IValue::Str(_)),
                _ => true,
            };
            if let Some(item) = items.iter().find(|item| !is_right(item)) {
                return Err(Fault::bad(format!("a list of {} holds a {}", elem.annotation(), item.kind())));
            }
            IValue::List(Some((*elem).clone()), items)
        }
        (IValue::Dict(_, items), Type::Dict(key, value)) => {
            IValue::Dict(Some(((*key).clone(), (*value).clone())), items)
        }
        (value @ (IValue::List(..) | IValue::Dict(..)), ty) => {
            return Err(Fault::bad(format!("a {} is tagged with the type {}", value.kind(), ty.annotation())));
        }
        (value, _) => value,
    };
    Ok(Counted { value, n_values: sized.n_values })
}

/// A dict key by value, for finding repeated keys.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Bits(u8, u64, u64),
    Str(Arc<str>),
    Tuple(Vec<Key>),
}

impl Key {
    fn of(value: &IValue) -> Result<Self, Fault> {
        Ok(match value {
            IValue::None => Self::Bits(0, 0, 0),
            IValue::Bool(b) => Self::Bits(1, u64::from(*b), 0),
            IValue::Int(n) => Self::Bits(2, u64::from_ne_bytes(n.to_ne_bytes()), 0),
            IValue::Float(x) => Self::Bits(3, x.to_bits(), 0),
            IValue::Complex(re, im) => Self::Bits(4, re.to_bits(), im.to_bits()),
            IValue::Tensor(t) => Self::Bits(5, Arc::as_ptr(t).addr() as u64, 0),
            IValue::Str(text) | IValue::Device(text) => Self::Str(text.clone()),
            IValue::Tuple(items) => Self::Tuple(items.iter().map(Self::of).collect::<Result<_, _>>()?),
            IValue::Enum { value, .. } => Self::Tuple(vec![Self::of(value)?]),
            IValue::List(..) | IValue::Dict(..) | IValue::Object(_) => {
                return Err(Fault::bad(format!("a dict has a key of type {}", value.kind())));
            }
        })
    }
}

/// Refuses device texts that name no device type. Where the data was saved from does not matter to us: it is read to
/// memory.
pub(super) fn check_device(text: &str) -> Result<(), Fault> {
    if is_device(text) {
        return Ok(());
    }
    let shown: String = text.chars().take(60).collect();
    Err(Fault::bad(format!(
        "Expected one of {} device type at start of device string: {shown}",
        DEVICE_TYPES.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Bytes;
    use crate::archive::load_data;
    use crate::archive::zip::tests::stored;

    fn plain(body: &[u8]) -> Result<IValue, String> {
        let pickle = Pickle::parse(&[b"\x80\x02", body].concat()).expect("valid opcodes");
        read(&pickle, None, Vocabulary::TorchScript).map_err(|fault| match fault {
            Fault::Bad(what) | Fault::Unsupported(what) => what,
        })
    }

    /// `_rebuild_tensor_v2` of storage 0 of `class` with `numel` elements, as 1-dim tensor of all, with metadata.
    fn tensor(class: &str, numel: u8, metadata: &[u8]) -> Vec<u8> {
        let storage = format!("(X\x07\0\0\0storagectorch\n{class}\nX\x01\0\0\00X\x03\0\0\0cpuK");
        [
            &b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("[..],
            storage.as_bytes(),
            &[numel],
            b"tQK\0K",
            &[numel],
            b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)R",
            metadata,
            b"tR.",
        ]
        .concat()
    }

    fn load(pickle: &[u8], storage: &[u8], order: &[u8]) -> Vec<u8> {
        let zip = stored(&[("m/data.pkl", pickle), ("m/byteorder", order), ("m/data/0", storage)]);
        match load_data(Bytes::new(zip), "test").expect("loads") {
            IValue::Tensor(tensor) => tensor.contiguous_bytes().into_owned(),
            other => panic!("a tensor, not {other:?}"),
        }
    }

    #[test]
    fn what_is_shared_stays_shared() {
        let IValue::Tuple(items) = plain(b"]q\0K\x01ah\0\x86.").expect("valid") else { panic!("a tuple") };
        match &*items {
            [IValue::List(None, a), IValue::List(None, b)] => assert!(Arc::ptr_eq(a, b)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn dicts_keep_order_and_the_last_value_of_a_key() {
        let IValue::Dict(_, entries) = plain(b"}(K\x02K\x07K\x01NK\x02K\x09u.").expect("valid") else {
            panic!("a dict")
        };
        assert_eq!(format!("{entries:?}"), "[(Int(2), Int(9)), (Int(1), None)]");
    }

    #[test]
    fn sizes_and_shapes_of_values_are_limited() {
        assert!(plain(b"]q\0h\0a.").expect_err("cyclic").contains("contains itself"));
        let deep = [&b"]".repeat(300)[..], &b"a".repeat(299), b"."].concat();
        assert!(plain(&deep).expect_err("deep").contains("nested"));
        let mut laughs = b"]q\0Na".to_vec();
        for i in 0u8..8 {
            laughs.extend([&b"]q"[..], &[i + 1, b'('], &[b'h', i].repeat(10), b"e"].concat());
        }
        laughs.push(b'.');
        assert!(plain(&laughs).expect_err("10**8 values").contains("more than"));
    }

    #[test]
    fn type_tags_are_checked() {
        let tag = |value: &[u8], tag: &str| {
            let length = [u8::try_from(tag.len()).expect("short"), 0, 0, 0];
            plain(
                &[b"ctorch.jit._pickle\nrestore_type_tag\n", value, b"X", &length[..], tag.as_bytes(), b"\x86R."]
                    .concat(),
            )
        };
        let list = tag(b"](K\x01e", "List[int]").expect("fits");
        assert!(matches!(list, IValue::List(Some(Type::Int), _)), "{list:?}");
        assert!(tag(b"](Ne", "List[int]").is_err());
        assert!(tag(b"]", "Dict[str, int]").is_err());
        assert!(tag(b"]", "List[").is_err());
    }

    #[test]
    fn conjugate_negative_and_big_endian_elements_are_resolved() {
        let bytes = |xs: [f32; 4]| xs.map(f32::to_le_bytes).concat();
        let swapped = [1f32, 2., -3., 4.].map(f32::to_be_bytes).concat();
        let set = |key: &str| {
            [&b"}X"[..], &[u8::try_from(key.len()).expect("short"), 0, 0, 0], key.as_bytes(), b"\x88s"].concat()
        };
        let data = bytes([1., 2., -3., 4.]);
        assert_eq!(load(&tensor("FloatStorage", 4, b""), &data, b"little"), data);
        assert_eq!(load(&tensor("ComplexFloatStorage", 2, b""), &swapped, b"big"), data);
        let conj = load(&tensor("ComplexFloatStorage", 2, &set("conj")), &data, b"little");
        assert_eq!(conj, bytes([1., -2., -3., -4.]));
        let neg = load(&tensor("FloatStorage", 4, &set("neg")), &data, b"little");
        assert_eq!(neg, bytes([-1., -2., 3., -4.]));
    }
}
