//! The way from arguments to leaves and from result leaves to values: checks, copies of strided tensors, variant choice.
#![allow(unsafe_code, reason = "reads leaves that compiled code wrote")]

use crate::abi::{Leaf, MAX_RANK, Status, Tag};
use crate::arena::Allocator;
use crate::desc::{DimDesc, FunctionDesc, InputKind, MethodDesc, TensorDesc, Tree};
use crate::error::{Error, Result};
use crate::object::{Body, Item, ObjectRef};
use crate::overlaps::{copied_together, refuse_overlaps};
use crate::tensor::{Dtype, Tensor, describe};
use crate::value::Value;

impl Leaf {
    /// No value.
    pub const NONE: Self = Self { tag: Tag::None as i64, bits: 0, dtype: 0, rank: 0, sizes: [0; MAX_RANK] };

    /// A bool.
    pub fn bool(value: bool) -> Self {
        Self { tag: Tag::Bool as i64, bits: u64::from(value), ..Self::NONE }
    }

    /// An int.
    pub fn int(value: i64) -> Self {
        Self { tag: Tag::Int as i64, bits: value as u64, ..Self::NONE }
    }

    /// A float.
    pub fn float(value: f64) -> Self {
        Self { tag: Tag::Float as i64, bits: value.to_bits(), ..Self::NONE }
    }

    /// Text, which must outlive the leaf.
    pub fn text(text: &str) -> Self {
        let mut leaf = Self { tag: Tag::Text as i64, bits: text.as_ptr() as u64, ..Self::NONE };
        leaf.sizes[0] = text.len() as i64;
        leaf
    }

    /// A borrowed object.
    pub fn object(object: &ObjectRef) -> Self {
        Self { tag: Tag::Object as i64, bits: object.as_raw() as u64, ..Self::NONE }
    }

    /// A row-major tensor. At most [`MAX_RANK`] sizes are kept.
    pub fn tensor(dtype: Dtype, sizes: &[i64], data: *mut u8) -> Self {
        let rank = sizes.len().min(MAX_RANK);
        let mut leaf = Self { tag: Tag::Tensor as i64, bits: data as u64, dtype: i64::from(dtype.0), ..Self::NONE };
        leaf.rank = rank as i64;
        leaf.sizes[..rank].copy_from_slice(&sizes[..rank]);
        leaf
    }

    /// The extents of a tensor.
    pub fn dims(&self) -> &[i64] {
        &self.sizes[..usize::try_from(self.rank).map_or(0, |rank| rank.min(MAX_RANK))]
    }

    /// The element type of a tensor.
    pub fn element_type(&self) -> Dtype {
        Dtype(u8::try_from(self.dtype).unwrap_or(u8::MAX))
    }

    /// What it is; unknown tags are `None`.
    pub fn kind(&self) -> Tag {
        match self.tag {
            1 => Tag::Bool,
            2 => Tag::Int,
            3 => Tag::Float,
            4 => Tag::Tensor,
            5 => Tag::Object,
            6 => Tag::Text,
            _ => Tag::None,
        }
    }

    /// The bytes of text.
    ///
    /// # Safety
    /// The leaf was made for text that still lives, or is not a text leaf (then the result is empty).
    pub unsafe fn text_bytes<'a>(&self) -> &'a [u8] {
        if self.kind() != Tag::Text || self.bits == 0 {
            return &[];
        }
        // SAFETY: address and length of living text, by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.bits as *const u8, self.sizes[0] as usize) }
    }
}

/// Why a variant does not accept the arguments.
struct Mismatch {
    /// How many leaves fitted, to report the variant that came furthest.
    progress: usize,
    error: Error,
}

/// Extents bound to a function's variables.
#[derive(Default, Debug)]
pub(crate) struct Bindings(Vec<(u32, i64)>);

impl Bindings {
    pub(crate) fn get(&self, var: u32) -> Option<i64> {
        self.0.iter().find(|(v, _)| *v == var).map(|(_, n)| *n)
    }

    /// The sizes of an offered result, if the variables are known.
    pub(crate) fn sizes(&self, tensor: &TensorDesc, sizes: &mut [i64; MAX_RANK]) -> bool {
        tensor.dims.iter().zip(sizes.iter_mut()).all(|(dim, size)| {
            let known = match *dim {
                DimDesc::Const(n) => Some(n),
                DimDesc::Var(v) => self.get(v),
            };
            known.map(|n| *size = n).is_some()
        })
    }
}

/// Whether leaves fit the inputs of a function; says at which leaf they do not. Allocates only when they do not, or when
/// `bindings` must grow.
pub(crate) fn check_leaves(
    method: &MethodDesc,
    function: &FunctionDesc,
    leaves: &[Leaf],
    bindings: &mut Bindings,
) -> std::result::Result<(), (usize, Error)> {
    bindings.0.clear();
    if leaves.len() != function.inputs.len() {
        let message = count_message(method, function.inputs.len(), leaves.len());
        return Err((0, Error::new(Status::Argument, message)));
    }
    for (i, (input, leaf)) in function.inputs.iter().zip(leaves).enumerate() {
        let expected = match &input.kind {
            InputKind::Tensor { tensor, .. } | InputKind::Shared { tensor, .. } if leaf.kind() == Tag::Tensor => {
                if let Err(status) = check_tensor(tensor, leaf, bindings) {
                    let got = describe(leaf.element_type(), leaf.dims());
                    let message =
                        format!("argument '{}': expected {}, got {got}", input.name, expected_tensor(tensor, bindings));
                    return Err((i, Error::new(status, message)));
                }
                continue;
            }
            InputKind::Tensor { .. } | InputKind::Shared { .. } => "Tensor",
            InputKind::Int { only } if leaf.kind() == Tag::Int => {
                check_only(i, &input.name, only.is_none_or(|n| n as u64 == leaf.bits), *only, &(leaf.bits as i64))?;
                continue;
            }
            InputKind::Int { .. } => "int",
            InputKind::Float { only } if leaf.kind() == Tag::Float => {
                let fits = only.is_none_or(|x| x.to_bits() == leaf.bits);
                check_only(i, &input.name, fits, *only, &f64::from_bits(leaf.bits))?;
                continue;
            }
            InputKind::Float { .. } => "float",
            InputKind::Bool { only } if leaf.kind() == Tag::Bool => {
                check_only(i, &input.name, only.is_none_or(|b| u64::from(b) == leaf.bits), *only, &(leaf.bits != 0))?;
                continue;
            }
            InputKind::Bool { .. } => "bool",
            InputKind::None if leaf.kind() == Tag::None => continue,
            InputKind::None => "NoneType",
            // SAFETY: text leaves point at text of the caller, alive during the call.
            InputKind::Str(text) if unsafe { leaf.text_bytes() } == text.as_bytes() && leaf.kind() == Tag::Text => {
                continue;
            }
            InputKind::Str(text) if leaf.kind() == Tag::Text => {
                // SAFETY: as above.
                let got = String::from_utf8_lossy(unsafe { leaf.text_bytes() });
                let message = format!("argument '{}': this model was compiled for '{text}', got '{got}'", input.name);
                return Err((i, Error::new(Status::Argument, message)));
            }
            InputKind::Str(_) => "str",
            InputKind::Object if leaf.kind() == Tag::Object => continue,
            InputKind::Object => "object",
        };
        let found = match leaf.kind() {
            Tag::None => "NoneType",
            Tag::Bool => "bool",
            Tag::Int => "int",
            Tag::Float => "float",
            Tag::Tensor => "Tensor",
            Tag::Object => "object",
            Tag::Text => "str",
        };
        return Err((i, type_error(&method.name, expected, &input.name, found)));
    }
    Ok(())
}

fn check_only<T: Copy + std::fmt::Display>(
    leaf: usize,
    name: &str,
    is_fitting: bool,
    only: Option<T>,
    got: &T,
) -> std::result::Result<(), (usize, Error)> {
    match only {
        Some(only) if !is_fitting => {
            let message = format!("argument '{name}': this model was compiled for the value {only}, got {got}");
            Err((leaf, Error::new(Status::Argument, message)))
        }
        _ => Ok(()),
    }
}

fn check_tensor(expected: &TensorDesc, leaf: &Leaf, bindings: &mut Bindings) -> std::result::Result<(), Status> {
    if leaf.element_type() != expected.dtype {
        return Err(Status::Dtype);
    }
    if leaf.rank != expected.dims.len() as i64 {
        return Err(Status::Shape);
    }
    for (dim, &size) in expected.dims.iter().zip(leaf.dims()) {
        match *dim {
            DimDesc::Const(n) if n == size => {}
            DimDesc::Const(_) => return Err(Status::Shape),
            DimDesc::Var(var) => match bindings.get(var) {
                Some(n) if n == size => {}
                Some(_) => return Err(Status::Shape),
                None => bindings.0.push((var, size)),
            },
        }
    }
    Ok(())
}

/// The expected tensor for a message, with the extents that earlier arguments fixed.
fn expected_tensor(tensor: &TensorDesc, bindings: &Bindings) -> String {
    let dims = tensor.dims.iter().map(|&dim| match dim {
        DimDesc::Var(var) => bindings.get(var).map_or(dim, DimDesc::Const),
        DimDesc::Const(_) => dim,
    });
    TensorDesc { dtype: tensor.dtype, dims: dims.collect() }.describe()
}

fn type_error(method: &str, expected: &str, name: &str, found: &str) -> Error {
    let message = format!(
        "{method}() Expected a value of type '{expected}' for argument '{name}' but instead found type '{found}'."
    );
    Error::new(Status::Argument, message)
}

fn count_message(method: &MethodDesc, expected: usize, got: usize) -> String {
    let name = &method.name;
    if got > expected {
        format!("{name}() expected at most {expected} argument(s) but received {got} argument(s).")
    } else {
        let param = method.params.get(got).map_or("", |(name, _)| name.as_str());
        format!("{name}() is missing value for argument '{param}'.")
    }
}

/// Arguments that fit a variant, ready for its function. Keeps alive what the leaves point at.
#[derive(Default, Debug)]
pub(crate) struct Bound {
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) bindings: Bindings,
    /// Tensors with the copies that stand for them and are to be written back.
    write_back: Vec<(Tensor, Tensor)>,
    copies: Vec<Tensor>,
    objects: Vec<ObjectRef>,
}

impl Bound {
    /// Copies what the function wrote to copies of strided arguments back to the arguments.
    pub(crate) fn write_back(&self) {
        for (original, copy) in &self.write_back {
            original.copy_from(copy);
        }
    }
}

/// What flattening leaves for later, with the leaf's number.
enum Pending<'a> {
    Tensor(usize, &'a Tensor),
    Object(usize, &'a Value),
}

/// Finds the first variant that accepts the arguments in this state. Gives the function's number.
pub(crate) fn bind(
    method: &MethodDesc,
    functions: &[FunctionDesc],
    state_tag: i64,
    args: &[Value],
) -> Result<(usize, Bound)> {
    let mut best: Option<Mismatch> = None;
    for variant in method.variants.iter().filter(|v| v.state_tag.is_none_or(|tag| tag == state_tag)) {
        let function = &functions[variant.function as usize];
        match bind_variant(method, function, args) {
            Ok(bound) => return Ok((variant.function as usize, bound)),
            Err(mismatch) => {
                if best.as_ref().is_none_or(|best| mismatch.progress >= best.progress) {
                    best = Some(mismatch);
                }
            }
        }
    }
    Err(best.map_or_else(
        || Error::new(Status::Internal, format!("{}() has no compiled version for this state", method.name)),
        |mismatch| mismatch.error,
    ))
}

fn bind_variant(method: &MethodDesc, function: &FunctionDesc, args: &[Value]) -> std::result::Result<Bound, Mismatch> {
    if args.len() != function.params.len() {
        let message = count_message(method, function.params.len(), args.len());
        return Err(Mismatch { progress: 0, error: Error::new(Status::Argument, message) });
    }
    let mut bound = Bound::default();
    let mut pending = Vec::new();
    for (i, (tree, value)) in function.params.iter().zip(args).enumerate() {
        let progress = bound.leaves.len();
        flatten(tree, value, &mut bound.leaves, &mut pending).map_err(|detail| {
            let (name, ty) = method.params.get(i).map_or(("", "value"), |(name, ty)| (name, ty));
            let error = match detail {
                Some(detail) => Error::new(Status::Argument, format!("argument '{name}': {detail}")),
                None => type_error(&method.name, ty, name, &value.type_name()),
            };
            Mismatch { progress, error }
        })?;
    }
    check_leaves(method, function, &bound.leaves, &mut bound.bindings)
        .map_err(|(progress, error)| Mismatch { progress, error })?;
    resolve(function, &pending, &mut bound).map_err(|error| Mismatch { progress: usize::MAX, error })?;
    Ok(bound)
}

/// Appends the leaves of a value. On failure gives a detail, or `None` where the type as a whole is wrong.
fn flatten<'a>(
    tree: &Tree,
    value: &'a Value,
    leaves: &mut Vec<Leaf>,
    pending: &mut Vec<Pending<'a>>,
) -> std::result::Result<(), Option<String>> {
    match (tree, value) {
        (Tree::Tensor, Value::Tensor(tensor)) => {
            if tensor.sizes.len() > MAX_RANK {
                return Err(Some(format!("a tensor of more than {MAX_RANK} dimensions")));
            }
            pending.push(Pending::Tensor(leaves.len(), tensor));
            leaves.push(Leaf::tensor(tensor.dtype, &tensor.sizes, tensor.data()));
        }
        (Tree::Int, Value::Int(i)) => leaves.push(Leaf::int(*i)),
        (Tree::Float, Value::Float(x)) => leaves.push(Leaf::float(*x)),
        // Callers may give an int for a float, as from Python.
        (Tree::Float, Value::Int(i)) => leaves.push(Leaf::float(*i as f64)),
        (Tree::Bool, Value::Bool(b)) => leaves.push(Leaf::bool(*b)),
        (Tree::Complex, Value::Complex(re, im)) => leaves.extend([Leaf::float(*re), Leaf::float(*im)]),
        (Tree::Complex, Value::Float(re)) => leaves.extend([Leaf::float(*re), Leaf::float(0.0)]),
        (Tree::Complex, Value::Int(re)) => leaves.extend([Leaf::float(*re as f64), Leaf::float(0.0)]),
        (Tree::None, Value::None) => leaves.push(Leaf::NONE),
        (Tree::Str(_), Value::Str(text)) => leaves.push(Leaf::text(text)),
        (
            Tree::Object,
            Value::Str(_)
            | Value::List(_)
            | Value::Dict(_)
            | Value::Tuple(_)
            | Value::NamedTuple { .. }
            | Value::Tensor(_),
        ) => {
            pending.push(Pending::Object(leaves.len(), value));
            leaves.push(Leaf { tag: Tag::Object as i64, ..Leaf::NONE });
        }
        (Tree::Tuple(trees), Value::Tuple(values))
        | (Tree::List(trees), Value::List(values) | Value::Tuple(values)) => {
            check_count(trees.len(), values.len())?;
            for (tree, value) in trees.iter().zip(values) {
                flatten(tree, value, leaves, pending)?;
            }
        }
        (Tree::Tuple(trees), Value::NamedTuple { fields, .. }) => {
            check_count(trees.len(), fields.len())?;
            for (tree, (_, value)) in trees.iter().zip(fields) {
                flatten(tree, value, leaves, pending)?;
            }
        }
        (Tree::NamedTuple(_, trees), Value::NamedTuple { fields, .. }) => {
            check_count(trees.len(), fields.len())?;
            for ((_, tree), (_, value)) in trees.iter().zip(fields) {
                flatten(tree, value, leaves, pending)?;
            }
        }
        (Tree::NamedTuple(_, trees), Value::Tuple(values)) => {
            check_count(trees.len(), values.len())?;
            for ((_, tree), value) in trees.iter().zip(values) {
                flatten(tree, value, leaves, pending)?;
            }
        }
        (Tree::Dict(trees), Value::Dict(entries)) => {
            check_count(trees.len(), entries.len())?;
            for (i, (key_tree, tree)) in trees.iter().enumerate() {
                // Entries are found by key where keys are constant text, so that the host's order does not matter.
                let entry = match key_tree {
                    Tree::Str(text) => entries
                        .iter()
                        .find(|(key, _)| matches!(key, Value::Str(key) if key == text))
                        .ok_or_else(|| Some(format!("missing key '{text}'")))?,
                    _ => &entries[i],
                };
                flatten(key_tree, &entry.0, leaves, pending)?;
                flatten(tree, &entry.1, leaves, pending)?;
            }
        }
        _ => return Err(None),
    }
    Ok(())
}

fn check_count(expected: usize, got: usize) -> std::result::Result<(), Option<String>> {
    if expected == got { Ok(()) } else { Err(Some(format!("expected {expected} element(s), got {got}"))) }
}

/// Copies strided tensors to row-major and makes objects.
fn resolve(function: &FunctionDesc, pending: &[Pending<'_>], bound: &mut Bound) -> Result<()> {
    let tensors = pending.iter().filter_map(|pending| match pending {
        Pending::Tensor(leaf, tensor) => Some((*leaf, *tensor)),
        Pending::Object(..) => None,
    });
    refuse_overlaps(function, tensors.map(|(leaf, tensor)| (leaf, tensor.addresses())))?;
    let mut shared = Vec::new();
    for pending in pending {
        match *pending {
            Pending::Tensor(leaf, tensor) => {
                if tensor.data().is_null() && tensor.n_elements() > 0 {
                    let message = format!("argument '{}': null data pointer", function.inputs[leaf].name);
                    return Err(Error::new(Status::Argument, message));
                }
                if let InputKind::Shared { strides, .. } = &function.inputs[leaf].kind {
                    if *strides != tensor.strides {
                        let (name, got) = (&function.inputs[leaf].name, &tensor.strides);
                        let message = format!("argument '{name}': expected strides {strides:?}, got {got:?}");
                        return Err(Error::new(Status::Shape, message));
                    }
                    shared.push((leaf, tensor));
                    continue;
                }
                if tensor.is_contiguous() && (tensor.data() as usize).is_multiple_of(natural_align(tensor.dtype)) {
                    continue;
                }
                let copy = tensor.to_owned_tensor()?;
                bound.leaves[leaf].bits = copy.data() as u64;
                if matches!(function.inputs[leaf].kind, InputKind::Tensor { is_mutated: true, .. }) {
                    bound.write_back.push((tensor.clone(), copy));
                } else {
                    bound.copies.push(copy);
                }
            }
            Pending::Object(leaf, value) => {
                if let Item::Object(object) = Item::from_value(value)? {
                    bound.leaves[leaf].bits = object.as_raw() as u64;
                    bound.objects.push(object);
                }
            }
        }
    }
    let originals: Vec<&Tensor> = shared.iter().map(|(_, tensor)| *tensor).collect();
    for ((leaf, original), copy) in shared.iter().zip(copied_together(&originals)?) {
        let object = ObjectRef::new(Body::Tensor(copy.clone()));
        bound.leaves[*leaf] = Leaf::object(&object);
        bound.objects.push(object);
        bound.write_back.push(((*original).clone(), copy));
    }
    Ok(())
}

/// The alignment compiled code relies on for elements of arguments, in bytes.
pub(crate) fn natural_align(dtype: Dtype) -> usize {
    dtype.size().unwrap_or(1).min(8)
}

/// Rebuilds a result from its leaves. `offered` are tensors whose memory was offered for leaves; a leaf that lies elsewhere
/// is copied. Object references in the leaves are taken over.
pub(crate) fn rebuild(
    tree: &Tree,
    leaves: &mut std::slice::Iter<'_, Leaf>,
    offered: &mut dyn Iterator<Item = Option<Tensor>>,
    allocator: Allocator,
) -> Result<Value> {
    let mut next = || {
        let offer = offered.next().flatten();
        leaves
            .next()
            .map(|leaf| (leaf, offer))
            .ok_or_else(|| Error::new(Status::Internal, "a result has too few leaves"))
    };
    Ok(match tree {
        Tree::None => Value::None,
        Tree::Str(text) => Value::Str(text.clone()),
        Tree::Int => Value::Int(next()?.0.bits as i64),
        Tree::Float => Value::Float(f64::from_bits(next()?.0.bits)),
        Tree::Bool => Value::Bool(next()?.0.bits != 0),
        Tree::Complex => {
            let re = f64::from_bits(next()?.0.bits);
            Value::Complex(re, f64::from_bits(next()?.0.bits))
        }
        Tree::Tensor => {
            let (leaf, offer) = next()?;
            match offer {
                Some(tensor) if tensor.data() as u64 == leaf.bits => Value::Tensor(tensor),
                _ => Value::Tensor(leaf_tensor(leaf, allocator)?),
            }
        }
        Tree::Object => {
            let (leaf, _) = next()?;
            match leaf.kind() {
                // SAFETY: a result's object leaf is an owned reference.
                Tag::Object => match unsafe { ObjectRef::from_raw(leaf.bits as *mut _) } {
                    None => Value::None,
                    Some(object) => match object.body() {
                        // The model is done with a tensor that only this reference holds, but a list in the state may share it.
                        Body::Tensor(tensor) => Value::Tensor(tensor.to_owned_tensor()?),
                        _ => object.to_value()?,
                    },
                },
                Tag::Int => Value::Int(leaf.bits as i64),
                Tag::Float => Value::Float(f64::from_bits(leaf.bits)),
                Tag::Bool => Value::Bool(leaf.bits != 0),
                Tag::Tensor => Value::Tensor(leaf_tensor(leaf, allocator)?),
                // SAFETY: constant text of the model.
                Tag::Text => Value::Str(String::from_utf8_lossy(unsafe { leaf.text_bytes() }).into_owned()),
                Tag::None => Value::None,
            }
        }
        Tree::Tuple(trees) => Value::Tuple(rebuild_all(trees, leaves, offered, allocator)?),
        Tree::List(trees) => Value::List(rebuild_all(trees, leaves, offered, allocator)?),
        Tree::NamedTuple(name, trees) => {
            let field = |(name, tree): &(String, Tree)| Ok((name.clone(), rebuild(tree, leaves, offered, allocator)?));
            Value::NamedTuple { name: name.clone(), fields: trees.iter().map(field).collect::<Result<_>>()? }
        }
        Tree::Dict(trees) => {
            let entry = |(key, value): &(Tree, Tree)| {
                Ok((rebuild(key, leaves, offered, allocator)?, rebuild(value, leaves, offered, allocator)?))
            };
            Value::Dict(trees.iter().map(entry).collect::<Result<_>>()?)
        }
    })
}

fn rebuild_all(
    trees: &[Tree],
    leaves: &mut std::slice::Iter<'_, Leaf>,
    offered: &mut dyn Iterator<Item = Option<Tensor>>,
    allocator: Allocator,
) -> Result<Vec<Value>> {
    trees.iter().map(|tree| rebuild(tree, leaves, offered, allocator)).collect()
}

/// An owned copy of the tensor a leaf describes.
pub(crate) fn leaf_tensor(leaf: &Leaf, allocator: Allocator) -> Result<Tensor> {
    let copy = Tensor::uninit_in(leaf.element_type(), leaf.dims(), allocator)?;
    if copy.size_bytes() > 0 {
        // SAFETY: the leaf describes a row-major tensor of these sizes; the copy has as many bytes.
        unsafe { copy.data().copy_from(leaf.bits as *const u8, copy.size_bytes()) };
    }
    Ok(copy)
}
