//! Values of which only the running program knows what kind they are (`ops::one_of`): questions about the kind, casts, and operators,
//! which are lowered once for each kind.

use super::facts::Outcome;
use super::walk::{Lowerer, Next};
use crate::ir::{Node, NodeId, ValueId};
use crate::loops::{Const, Operand, UnaryOp};
use crate::ops::value::{Cell, ItemFacts, OneOf, Value};
use crate::types::Type;

/// Nodes that take such a value as it is.
const TAKES_ANY_KIND: [&str; 18] = [
    "prim::If",
    "prim::fork",
    "prim::TupleConstruct",
    "prim::TupleUnpack",
    "prim::TupleIndex",
    "prim::TupleSlice",
    "prim::ListConstruct",
    "prim::ListUnpack",
    "prim::DictConstruct",
    "prim::CallFunction",
    "prim::Loop",
    "prim::unchecked_cast",
    "prim::isinstance",
    "prim::unchecked_unwrap_optional",
    "aten::_unwrap_optional",
    "aten::__is__",
    "aten::__isnot__",
    "aten::append",
];

/// Nodes that need to know what their first argument is, and no more.
const OF_AN_OBJECT: [&str; 3] = ["prim::SetAttr", "prim::GetAttr", "prim::CallMethod"];

/// Of nodes that put a value into a list or dict, which argument that is.
fn stored(node: &Node) -> Option<usize> {
    match &*node.op.name {
        "aten::_set_item" | "aten::insert" | "aten::setdefault" => Some(2),
        _ => None,
    }
}

/// Whether a value of what is known of these items may be of a type.
fn may_be(facts: &ItemFacts, ty: &Type) -> bool {
    match (ty, facts) {
        (Type::Any, _) => true,
        (Type::Optional(inner), facts) => *facts == ItemFacts::None || may_be(facts, inner),
        (Type::Union(members), facts) => members.iter().any(|member| may_be(facts, member)),
        (Type::None, ItemFacts::None)
        | (Type::Int, ItemFacts::Int)
        | (Type::Float, ItemFacts::Float)
        | (Type::Bool, ItemFacts::Bool)
        | (Type::Complex, ItemFacts::Complex)
        | (Type::Str, ItemFacts::Str)
        | (Type::Number, ItemFacts::Int | ItemFacts::Float | ItemFacts::Complex)
        | (Type::Tensor(_), ItemFacts::Tensor(_))
        | (Type::Future(_), ItemFacts::Future(_))
        | (Type::AnyTuple, ItemFacts::Tuple(..))
        | (Type::AnyList, ItemFacts::List(_)) => true,
        (Type::Tuple(types), ItemFacts::Tuple(items, _)) => {
            types.len() == items.len() && types.iter().zip(items).all(|(ty, item)| may_be(item, ty))
        }
        (Type::Class(name), ItemFacts::Object(class)) => name == class,
        (Type::Enum(of), ItemFacts::Enum(class, _)) => of.name == *class,
        (Type::NamedTuple(named), ItemFacts::Tuple(_, Some(Type::NamedTuple(own)))) => named.name == own.name,
        (Type::List(ty), ItemFacts::List(item)) => **item == ItemFacts::Empty || may_be(item, ty),
        (Type::Dict(_, ty), ItemFacts::Dict(entry)) => entry.value == ItemFacts::Empty || may_be(&entry.value, ty),
        (ty, ItemFacts::OneOf(options)) => options.iter().any(|option| may_be(option, ty)),
        _ => false,
    }
}

impl<'m, 'p> Lowerer<'m, 'p> {
    /// The first argument of a node that is not lowered before its kind is known.
    pub(super) fn of_open_kind(&self, act: usize, node: &Node) -> Option<ValueId> {
        if OF_AN_OBJECT.contains(&&*node.op.name) {
            return node
                .inputs
                .first()
                .copied()
                .filter(|object| matches!(self.known(act, *object), Some(Value::OneOf(_))));
        }
        if TAKES_ANY_KIND.contains(&&*node.op.name) {
            return None;
        }
        let kept = stored(node);
        let open = |(at, input): &(usize, ValueId)| Some(*at) != kept && self.holds_open_kind(self.known(act, *input));
        node.inputs.iter().copied().enumerate().find(open).map(|(_, input)| input)
    }

    fn holds_open_kind(&self, value: Option<&Value>) -> bool {
        match value {
            Some(Value::OneOf(_)) => true,
            Some(Value::Tuple(items, _)) => items.iter().any(|item| self.holds_open_kind(Some(item))),
            Some(Value::Cell(cell)) => match &self.b.heap.cells[*cell] {
                Cell::List(items) => items.iter().any(|item| matches!(item, Value::OneOf(_))),
                _ => false,
            },
            _ => false,
        }
    }

    /// Lowers a node once for each kind that this argument may be of.
    pub(super) fn of_each_kind(
        &mut self,
        act: usize,
        node: NodeId,
        input: ValueId,
        next: &mut Next<'_, 'm, 'p>,
    ) -> Outcome<()> {
        let held = self.get(act, input)?;
        let Some((one, options)) = self.first_open(&held) else { return self.lower_node(act, node, next) };
        if let [option, others @ ..] = &options[..]
            && !others.is_empty()
        {
            let cond = self.b.is_kind(&one, option);
            let mut arm = |lw: &mut Self, next: &mut Next<'_, 'm, 'p>| lw.of_each_kind(act, node, input, next);
            let mut other = arm;
            return self.branch(&cond, Some((act, node)), &mut arm, &mut other, next);
        }
        let plain = self.b.narrowed(&one, options);
        // Only this node sees it so: the name is that of a value of several kinds elsewhere.
        let narrowed = self.with_plain(&held, &one, &plain);
        self.set(act, input, narrowed);
        let result = self.of_each_kind(act, node, input, &mut |lw, values| {
            lw.set(act, input, held.clone());
            next(lw, values)
        });
        self.set(act, input, held.clone());
        result
    }

    /// The first value of several kinds that this is or holds, with those that remain.
    fn first_open(&mut self, value: &Value) -> Option<(OneOf, Vec<ItemFacts>)> {
        match value {
            Value::OneOf(one) => {
                let remaining = self.b.remaining(one);
                Some((one.clone(), remaining))
            }
            Value::Tuple(items, _) => items.iter().find_map(|item| self.first_open(item)),
            Value::Cell(cell) => match self.b.heap.cells[*cell].clone() {
                Cell::List(items) => items.iter().find_map(|item| self.first_open(item)),
                _ => None,
            },
            _ => None,
        }
    }

    fn with_plain(&mut self, value: &Value, one: &OneOf, plain: &Value) -> Value {
        match value {
            Value::OneOf(other) if other == one => plain.clone(),
            Value::Tuple(items, ty) => {
                Value::Tuple(items.iter().map(|item| self.with_plain(item, one, plain)).collect(), ty.clone())
            }
            Value::Cell(cell) => match self.b.heap.cells[*cell].clone() {
                Cell::List(items) if items.iter().any(|item| matches!(item, Value::OneOf(_))) => {
                    let items = items.iter().map(|item| self.with_plain(item, one, plain)).collect();
                    self.b.new_list(items)
                }
                _ => value.clone(),
            },
            other => other.clone(),
        }
    }

    /// `x is None`, for a value of several kinds; or its opposite.
    pub(super) fn is_none(&mut self, one: &OneOf, is_negated: bool) -> Value {
        let is = self.b.is_any_kind(one, one.options.iter().filter(|option| **option == ItemFacts::None));
        Value::Bool(if is_negated { self.b.unary(UnaryOp::Not, is) } else { is })
    }

    /// `isinstance(x, types)`, for a value of several kinds.
    pub(super) fn is_one_of_types(&mut self, one: &OneOf, types: &[Type]) -> Value {
        let fits = |option: &&ItemFacts| types.iter().any(|ty| may_be(option, ty));
        if one.options.iter().all(|option| fits(&option)) {
            return Value::Bool(Operand::Const(Const::bool(true)));
        }
        Value::Bool(self.b.is_any_kind(one, one.options.iter().filter(fits)))
    }

    /// The value, which is of this type.
    pub(super) fn cast_to(&mut self, one: &OneOf, ty: &Type) -> Value {
        let mut options = self.b.remaining(one);
        options.retain(|option| may_be(option, ty));
        self.b.narrowed(one, options)
    }

    /// The value if it is not `None`, which ends the program.
    pub(super) fn unwrapped(&mut self, one: &OneOf) -> Value {
        let Value::Bool(is_there) = self.is_none(one, true) else { return Value::OneOf(one.clone()) };
        self.b.check(is_there, "Unwrapping null optional");
        let mut options = self.b.remaining(one);
        options.retain(|option| *option != ItemFacts::None);
        self.b.narrowed(one, options)
    }
}
