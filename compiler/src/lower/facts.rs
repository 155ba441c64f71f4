//! What is known of a value, and what is known of either of two.
//!
//! Where control flow meets (after an `if`, around a loop, between two calls of a stateful module) the same name may hold
//! different values. Their facts are joined; a place for the joined fact is made (see `places`), and each side stores its
//! value there. Facts that cannot be joined (`None` and a tensor, tensors of different rank) are [`Stop::Incompatible`]; the
//! caller then copies the code that follows for each side instead.

use crate::diag::Diagnostic;
use crate::loops::{Dim, Operand, VarId, VarType};
use crate::ops::builder::Builder;
use crate::ops::value::{
    Cell, CellId, EntryFacts, ItemFacts, ObjectCell, ResultId, RunTimeDict, RunTimeList, RunTimeObject, StorageId,
    TensorFacts, Value, known,
};
use crate::types::{DType, Type};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why lowering stopped: an error, or facts that cannot be joined here.
#[derive(Debug)]
pub(super) enum Stop {
    /// An error to report.
    Error(Box<Diagnostic>),
    /// Two values that no one place can hold, in words.
    Incompatible(String),
    /// Storages that have to be in objects before control flow parts.
    Shared(BTreeSet<StorageId>),
    /// Instances of script classes that have to be objects of the running program before control flow parts.
    Instances(BTreeSet<CellId>),
}

impl From<Box<Diagnostic>> for Stop {
    fn from(error: Box<Diagnostic>) -> Self {
        Self::Error(error)
    }
}

/// The result of lowering a part.
pub(super) type Outcome<T> = Result<T, Stop>;

/// What is known of an extent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum DimFact {
    /// Its value.
    Known(i64),
    /// That it is this variable, which was set before control flow parted.
    Same(VarId),
    /// Nothing.
    Unknown,
}

/// What is known of a tensor.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct TensorFact {
    pub(super) dtype: DType,
    pub(super) dims: Vec<DimFact>,
    /// Whether it is in an object that others may hold, too, so that a place has to refer to that.
    pub(super) in_object: bool,
    /// Whether its elements lie row-major where it is in an object.
    pub(super) is_row_major: bool,
}

impl TensorFact {
    /// The extents that are known.
    pub(super) fn known_dims(&self) -> Vec<Option<i64>> {
        let known = |dim: &DimFact| if let DimFact::Known(n) = dim { Some(*n) } else { None };
        self.dims.iter().map(known).collect()
    }
}

/// What is known of a value.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Fact {
    /// Everything: it is this value on all sides.
    Fixed(Value),
    /// Its type.
    Scalar(Kind),
    /// Two floats.
    Complex,
    /// A tensor.
    Tensor(TensorFact),
    /// A tuple of these.
    Tuple(Vec<Fact>, Option<Type>),
    /// A list of these.
    List(Vec<Fact>),
    /// A dict with these entries.
    Dict(Vec<(Value, Fact)>),
    /// An object with these attributes.
    Object(Arc<str>, Vec<(Arc<str>, Fact)>),
    /// A run-time list, dict or instance, and whether another one holds it.
    RunTime(ItemFacts, bool),
    /// A member of an enumeration, whose value is known so far.
    Enum(Arc<str>, Box<Fact>),
    /// A task with this result.
    Future(ResultId),
    /// A value of any of these kinds.
    OneOf(Arc<[ItemFacts]>),
}

/// A kind of scalar.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Kind {
    Int,
    Float,
    Bool,
    Str,
}

/// Which variables and cells existed before control flow parted: those numbered below these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    pub(super) n_vars: u32,
    pub(super) n_cells: u32,
}

impl Before {
    /// Nothing existed: for facts that outlive the function.
    pub(super) const NOTHING: Self = Self { n_vars: 0, n_cells: 0 };

    /// What exists now.
    pub(super) fn now(b: &Builder<'_>) -> Self {
        let count = |n: usize| u32::try_from(n).expect("fewer than 2^32 ids of a kind");
        Self { n_vars: count(b.function.vars.len()), n_cells: count(b.heap.cells.len()) }
    }
}

impl Kind {
    pub(super) fn var_type(self) -> VarType {
        match self {
            Self::Int => VarType::Int,
            Self::Float => VarType::Float,
            Self::Bool => VarType::Bool,
            Self::Str => VarType::Object,
        }
    }

    pub(super) fn value(self, var: VarId) -> Value {
        let operand = Operand::Var(var);
        match self {
            Self::Int => Value::Int(operand),
            Self::Float => Value::Float(operand),
            Self::Bool => Value::Bool(operand),
            Self::Str => Value::Str(operand),
        }
    }

    /// Which kind of scalar a value is, if it is one.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Int(_) => Some(Self::Int),
            Value::Float(_) => Some(Self::Float),
            Value::Bool(_) => Some(Self::Bool),
            Value::Str(_) => Some(Self::Str),
            Value::None
            | Value::Complex(..)
            | Value::Device(_)
            | Value::Tensor(_)
            | Value::Tuple(..)
            | Value::Cell(_)
            | Value::OneOf(_)
            | Value::Enum(..)
            | Value::Function(_)
            | Value::Uninitialized => None,
        }
    }
}

impl Fact {
    /// A few words for messages.
    fn describe(&self) -> String {
        match self {
            Self::Fixed(value) => value.kind().to_owned(),
            Self::Scalar(kind) => format!("{kind:?}").to_lowercase(),
            Self::Complex => "complex".to_owned(),
            Self::Tensor(t) => format!("a {} tensor of {} dimensions", t.dtype, t.dims.len()),
            Self::Tuple(items, _) => format!("a tuple of {}", items.len()),
            Self::List(items) => format!("a list of {}", items.len()),
            Self::Dict(entries) => format!("a dict of {}", entries.len()),
            Self::Object(class, _) => class.to_string(),
            Self::RunTime(ItemFacts::Object(class), _) | Self::Enum(class, _) => class.to_string(),
            Self::RunTime(..) => "a run-time list or dict".to_owned(),
            Self::Future(_) => "a Future".to_owned(),
            Self::OneOf(_) => "a value of several kinds".to_owned(),
        }
    }

    /// What is known of a value, for control flow that parted at `before`.
    pub(super) fn of(b: &Builder<'_>, value: &Value, before: Before) -> Self {
        let scalar = |kind: Kind, o: &Operand| match o {
            Operand::Var(var) if var.0 >= before.n_vars => Self::Scalar(kind),
            Operand::Var(_) | Operand::Const(_) | Operand::Str(_) => Self::Fixed(value.clone()),
        };
        match value {
            Value::None | Value::Device(_) | Value::Function(_) | Value::Uninitialized => Self::Fixed(value.clone()),
            Value::Enum(class, inner) => match Self::of(b, inner, before) {
                Self::Fixed(_) => Self::Fixed(value.clone()),
                fact => Self::Enum(Arc::clone(class), Box::new(fact)),
            },
            Value::Int(o) => scalar(Kind::Int, o),
            Value::Float(o) => scalar(Kind::Float, o),
            Value::Bool(o) => scalar(Kind::Bool, o),
            Value::Str(o) => scalar(Kind::Str, o),
            Value::Complex(re, im) if known(re).is_some() && known(im).is_some() => Self::Fixed(value.clone()),
            Value::Complex(..) => Self::Complex,
            // What quantised integers stand for belongs to their storage, which no other place has.
            Value::Tensor(t) if t.dtype.is_quantised() => Self::Fixed(value.clone()),
            Value::Tensor(t) => {
                let dim = |d: &Dim| match d {
                    Dim::Const(n) => DimFact::Known(*n),
                    Dim::Var(var) if var.0 < before.n_vars => DimFact::Same(*var),
                    Dim::Var(_) => DimFact::Unknown,
                };
                Self::Tensor(TensorFact {
                    dtype: t.dtype,
                    dims: t.dims.iter().map(dim).collect(),
                    in_object: b.shares_memory && b.object_behind(t.storage).is_some(),
                    is_row_major: b.is_row_major_object(t),
                })
            }
            Value::Tuple(items, ty) => Self::Tuple(items.iter().map(|v| Self::of(b, v, before)).collect(), ty.clone()),
            Value::OneOf(one) if one.item.0.max(one.kind.0) < before.n_vars => Self::Fixed(value.clone()),
            Value::OneOf(one) => Self::OneOf(Arc::clone(&one.options)),
            Value::Cell(cell) if cell.0 < before.n_cells => Self::Fixed(value.clone()),
            Value::Cell(cell) => Self::of_cell(b, &b.heap.cells[*cell], before),
        }
    }

    /// What is known of the contents of a cell.
    pub(super) fn of_cell(b: &Builder<'_>, cell: &Cell, before: Before) -> Self {
        let of = |v: &Value| Self::of(b, v, before);
        match cell {
            Cell::List(items) => Self::List(items.iter().map(of).collect()),
            Cell::Dict(entries) => Self::Dict(entries.iter().map(|(k, v)| (k.clone(), of(v))).collect()),
            Cell::Object(object) => {
                let attrs = object.attrs.iter().map(|(name, v)| (Arc::clone(name), of(v)));
                Self::Object(Arc::clone(&object.class), attrs.collect())
            }
            Cell::RunTimeList(list) => Self::RunTime(ItemFacts::List(Box::new(list.item.clone())), list.is_nested),
            Cell::RunTimeDict(dict) => Self::RunTime(ItemFacts::Dict(Box::new(dict.entry.clone())), dict.is_nested),
            Cell::RunTimeObject(object) => Self::RunTime(ItemFacts::Object(Arc::clone(&object.class)), true),
            Cell::Future(future) => Self::Future(future.result),
        }
    }

    /// The facts of a container's items, in order.
    pub(super) fn parts_mut(&mut self) -> Box<dyn Iterator<Item = &mut Self> + '_> {
        match self {
            Self::List(items) => Box::new(items.iter_mut()),
            Self::Dict(entries) => Box::new(entries.iter_mut().map(|(_, fact)| fact)),
            Self::Object(_, attrs) => Box::new(attrs.iter_mut().map(|(_, fact)| fact)),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// What is known of a value that has one of two facts.
    pub(super) fn join(b: &Builder<'_>, x: &Self, y: &Self) -> Outcome<Self> {
        if x == y {
            return Ok(x.clone());
        }
        let join_all =
            |m: &[Self], n: &[Self]| m.iter().zip(n).map(|(p, q)| Self::join(b, p, q)).collect::<Outcome<Vec<Self>>>();
        match (x, y) {
            (Self::Fixed(Value::Uninitialized), other) | (other, Self::Fixed(Value::Uninitialized)) => {
                return Ok(other.clone());
            }
            (Self::Fixed(Value::Complex(..)) | Self::Complex, Self::Fixed(Value::Complex(..)) | Self::Complex) => {
                return Ok(Self::Complex);
            }
            (Self::Tensor(m), Self::Tensor(n)) if m.dtype == n.dtype && m.dims.len() == n.dims.len() => {
                let dims = m.dims.iter().zip(&n.dims).map(|(p, q)| if p == q { *p } else { DimFact::Unknown });
                return Ok(Self::Tensor(TensorFact {
                    dtype: m.dtype,
                    dims: dims.collect(),
                    in_object: m.in_object || n.in_object,
                    is_row_major: m.is_row_major && n.is_row_major,
                }));
            }
            (Self::Tuple(m, ty), Self::Tuple(n, _)) if m.len() == n.len() => {
                return Ok(Self::Tuple(join_all(m, n)?, ty.clone()));
            }
            (Self::List(m), Self::List(n)) if m.len() == n.len() => return Ok(Self::List(join_all(m, n)?)),
            (Self::Dict(m), Self::Dict(n)) if m.len() == n.len() && m.iter().zip(n).all(|((k, _), (l, _))| k == l) => {
                let joined = m.iter().zip(n).map(|((k, p), (_, q))| Ok((k.clone(), Self::join(b, p, q)?)));
                return Ok(Self::Dict(joined.collect::<Outcome<_>>()?));
            }
            (Self::Object(c, m), Self::Object(d, n))
                if c == d && m.len() == n.len() && m.iter().zip(n).all(|((k, _), (l, _))| k == l) =>
            {
                let joined = m.iter().zip(n).map(|((k, p), (_, q))| Ok((Arc::clone(k), Self::join(b, p, q)?)));
                return Ok(Self::Object(Arc::clone(c), joined.collect::<Outcome<_>>()?));
            }
            (Self::RunTime(m, p), Self::RunTime(n, q)) if m.kind() == n.kind() => {
                return Self::run_time(b, (m, *p), (n, *q));
            }
            (Self::Object(c, _), object @ Self::RunTime(ItemFacts::Object(d), _))
            | (object @ Self::RunTime(ItemFacts::Object(d), _), Self::Object(c, _))
                if c == d =>
            {
                return Ok(object.clone());
            }
            _ => {}
        }
        if let (Some((c, p)), Some((d, q))) = (x.member(), y.member())
            && c == d
        {
            return Ok(Self::Enum(Arc::clone(c), Box::new(Self::join(b, &p, &q)?)));
        }
        let is_boxed = |fact: &Self| matches!(fact, Self::OneOf(_) | Self::Fixed(Value::OneOf(_)));
        match (x.scalar_kind(), y.scalar_kind()) {
            (Some(k), Some(l)) if k == l => Ok(Self::Scalar(k)),
            _ if (b.boxes || is_boxed(x) || is_boxed(y))
                && let (Ok(p), Ok(q)) = (x.item(b), y.item(b))
                && let Ok(joined) = b.join_items(&p, &q) =>
            {
                // One kind of container is one object, whatever becomes of it.
                if matches!(joined, ItemFacts::List(_) | ItemFacts::Dict(_) | ItemFacts::Object(_))
                    && let (Some(m), Some(n)) = (x.container(b), y.container(b))
                {
                    let ((m, p), (n, q)) = (m?, n?);
                    return Self::run_time(b, (&m, p), (&n, q));
                }
                Ok(Self::OneOf(joined.options().into()))
            }
            _ => Err(Stop::Incompatible(format!("{} and {}", x.describe(), y.describe()))),
        }
    }

    /// The class of a member of an enumeration, and what is known of its value.
    fn member(&self) -> Option<(&Arc<str>, Self)> {
        match self {
            Self::Enum(class, fact) => Some((class, (**fact).clone())),
            Self::Fixed(Value::Enum(class, value)) => Some((class, Self::Fixed((**value).clone()))),
            _ => None,
        }
    }

    fn scalar_kind(&self) -> Option<Kind> {
        match self {
            Self::Scalar(kind) => Some(*kind),
            Self::Fixed(value) => Kind::of(value),
            Self::Complex
            | Self::Tensor(..)
            | Self::Tuple(..)
            | Self::List(_)
            | Self::Dict(_)
            | Self::Object(..)
            | Self::RunTime(..)
            | Self::Enum(..)
            | Self::Future(_)
            | Self::OneOf(_) => None,
        }
    }

    /// Either of two run-time lists or dicts. What another one knows of what it holds stays as it is.
    fn run_time(b: &Builder<'_>, x: (&ItemFacts, bool), y: (&ItemFacts, bool)) -> Outcome<Self> {
        let joined = b.join_items(x.0, y.0)?;
        let is_nested = x.1 || y.1;
        if is_nested && x.0 != y.0 && !joined.is_of_type() {
            return Err(Stop::Incompatible("lists in lists whose items differ".to_owned()));
        }
        Ok(Self::RunTime(joined, is_nested))
    }

    /// What is known of a list, dict or instance if it becomes one of the running program, and whether others hold it.
    fn container(&self, b: &Builder<'_>) -> Option<Outcome<(ItemFacts, bool)>> {
        // As long as they can be known by their attributes, instances are.
        let may_move = |class: &Arc<str>| b.boxes && b.classes.contains(class);
        match self {
            Self::RunTime(facts, is_nested) => Some(Ok((facts.clone(), *is_nested))),
            Self::Object(class, _) if may_move(class) => Some(self.item(b).map(|facts| (facts, true))),
            Self::List(_) | Self::Dict(_) => Some(self.item(b).map(|facts| (facts, false))),
            Self::Fixed(value @ Value::Cell(id)) => match &b.heap.cells[*id] {
                Cell::List(_) | Cell::Dict(_) => {
                    Some(b.item_facts(value).map(|facts| (facts, false)).map_err(Stop::from))
                }
                Cell::RunTimeList(RunTimeList { is_nested, .. }) | Cell::RunTimeDict(RunTimeDict { is_nested, .. }) => {
                    Some(b.item_facts(value).map(|facts| (facts, *is_nested)).map_err(Stop::from))
                }
                Cell::Object(ObjectCell { class, .. }) | Cell::RunTimeObject(RunTimeObject { class, .. })
                    if may_move(class) =>
                {
                    Some(Ok((ItemFacts::Object(Arc::clone(class)), true)))
                }
                Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => None,
            },
            _ => None,
        }
    }

    /// [`Self::join`] for the contents of a cell that a loop changes: lists of different lengths become a run-time list, dicts with
    /// different keys a run-time dict.
    pub(super) fn join_growing(b: &Builder<'_>, x: &Self, y: &Self) -> Outcome<Self> {
        match Self::join(b, x, y) {
            Err(Stop::Incompatible(why)) => match (x.container(b), y.container(b)) {
                (Some(m), Some(n)) => match (m?, n?) {
                    ((m, p), (n, q)) if m.kind() == n.kind() => Self::run_time(b, (&m, p), (&n, q)),
                    _ => Err(Stop::Incompatible(why)),
                },
                _ => Err(Stop::Incompatible(why)),
            },
            joined => joined,
        }
    }

    /// What is known of an item of a run-time list or dict that this is known of.
    fn item(&self, b: &Builder<'_>) -> Outcome<ItemFacts> {
        let all = |items: &[Self]| -> Outcome<ItemFacts> {
            items.iter().try_fold(ItemFacts::Empty, |facts, item| Ok(b.join_items(&facts, &item.item(b)?)?))
        };
        Ok(match self {
            Self::Fixed(value) => b.item_facts(value)?,
            Self::Scalar(Kind::Int) => ItemFacts::Int,
            Self::Scalar(Kind::Float) => ItemFacts::Float,
            Self::Scalar(Kind::Bool) => ItemFacts::Bool,
            Self::Scalar(Kind::Str) => ItemFacts::Str,
            Self::Tensor(t) => {
                ItemFacts::Tensor(TensorFacts { dtype: t.dtype, dims: t.known_dims(), is_row_major: t.is_row_major })
            }
            Self::Future(result) => ItemFacts::Future(*result),
            Self::Tuple(items, ty) => {
                ItemFacts::Tuple(items.iter().map(|item| item.item(b)).collect::<Outcome<_>>()?, ty.clone())
            }
            Self::List(items) => ItemFacts::List(Box::new(b.as_nested(&all(items)?))),
            Self::Dict(entries) => {
                let (keys, values): (Vec<_>, Vec<_>) =
                    entries.iter().map(|(key, value)| (Self::Fixed(key.clone()), value.clone())).unzip();
                let entry = EntryFacts { key: all(&keys)?, value: all(&values)? };
                ItemFacts::Dict(Box::new(b.as_nested_entry(&entry)))
            }
            Self::RunTime(facts, _) => b.as_nested(facts),
            Self::Complex => ItemFacts::Complex,
            Self::OneOf(options) => ItemFacts::OneOf(Arc::clone(options)),
            Self::Enum(class, value) => ItemFacts::Enum(Arc::clone(class), Box::new(value.item(b)?)),
            Self::Object(class, _) if b.classes.contains(class) => ItemFacts::Object(Arc::clone(class)),
            Self::Object(..) => {
                return Err(Stop::Incompatible(format!("a run-time list of {}", self.describe())));
            }
        })
    }

    /// A list or dict whose length varies from call to call is one of the running program.
    pub(super) fn growing(self, b: &Builder<'_>, is_wide: bool) -> Outcome<Self> {
        match self {
            Self::List(_) | Self::Dict(_) if is_wide => Ok(Self::RunTime(self.item(b)?, false)),
            other => Ok(other),
        }
    }

    /// What stays true of a value kept from call to call. Where `is_wide`, numbers and extents are taken to vary.
    pub(super) fn lasting(self, is_wide: bool) -> Self {
        match self {
            Self::Fixed(value) => match (Kind::of(&value), &value) {
                (Some(kind), Value::Int(o) | Value::Float(o) | Value::Bool(o)) if is_wide || known(o).is_none() => {
                    Self::Scalar(kind)
                }
                _ => Self::Fixed(value),
            },
            Self::Tensor(t) => {
                let keep = |d: DimFact| match d {
                    DimFact::Known(n) if !is_wide => DimFact::Known(n),
                    DimFact::Known(_) | DimFact::Same(_) | DimFact::Unknown => DimFact::Unknown,
                };
                let dims = t.dims.into_iter().map(keep).collect();
                Self::Tensor(TensorFact { dims, is_row_major: t.is_row_major || !t.in_object, ..t })
            }
            Self::Tuple(items, ty) => Self::Tuple(items.into_iter().map(|f| f.lasting(is_wide)).collect(), ty),
            Self::List(items) => Self::List(items.into_iter().map(|f| f.lasting(is_wide)).collect()),
            Self::Dict(entries) => Self::Dict(entries.into_iter().map(|(k, f)| (k, f.lasting(is_wide))).collect()),
            Self::Object(class, attrs) => {
                Self::Object(class, attrs.into_iter().map(|(k, f)| (k, f.lasting(is_wide))).collect())
            }
            Self::Enum(class, value) => Self::Enum(class, Box::new(value.lasting(is_wide))),
            Self::Scalar(_) | Self::Complex | Self::RunTime(..) | Self::Future(_) | Self::OneOf(_) => self,
        }
    }
}
