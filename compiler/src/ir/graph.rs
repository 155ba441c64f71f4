//! Values, nodes and blocks, each in a vector indexed by its id.
//!
//! A graph is one top block. A block has parameters, a list of nodes in order of execution, and returned values.
//! `prim::If(cond)` has two blocks without parameters; their returns become its outputs. `prim::Loop(trip, cond,
//! carried...)` has one block with parameters `(iteration, carried...)` that returns `(cond, carried...)`.

use crate::index::{IndexVec, ids};
use crate::source::Span;
use crate::types::{IValue, Type};
use std::fmt;
use std::sync::Arc;

ids! {
    /// A value of a graph.
    ValueId = "%";
    /// A node of a graph.
    NodeId = "node";
    /// A block of a graph.
    BlockId = "block";
}

/// An operator's name with its overload: `aten::add` + `Tensor`. The overload is empty for prim kinds that have none.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OpName {
    /// Namespace and name: `aten::add`.
    pub name: Arc<str>,
    /// Overload: `Tensor`; may be empty.
    pub overload: Arc<str>,
}

impl OpName {
    /// A name without an overload.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), overload: "".into() }
    }

    /// A name with an overload.
    pub fn with_overload(name: &str, overload: &str) -> Self {
        Self { name: name.into(), overload: overload.into() }
    }
}

impl fmt::Display for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.overload.is_empty() { Ok(()) } else { write!(f, ".{}", self.overload) }
    }
}

/// An attribute of a node.
#[derive(Clone, Debug)]
pub enum Attr {
    /// A constant (`value=` of `prim::Constant`).
    Value(IValue),
    /// A name (`name=` of `prim::GetAttr`, `prim::CallMethod`).
    Name(Arc<str>),
    /// Types (`types=` of `prim::isinstance`).
    Types(Vec<Type>),
    /// An integer (`beg=` and `end=` of `prim::TupleSlice`).
    Int(i64),
    /// A nested graph (`Subgraph=` of `prim::fork`).
    Graph(Arc<Graph>),
}

/// An SSA value.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its static type.
    pub ty: Type,
    /// The debug name, without `%`.
    pub name: Option<Arc<str>>,
    /// What defines it.
    pub def: ValueDef,
}

/// What defines a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueDef {
    /// The parameter of a block at this position.
    Param(BlockId, usize),
    /// The output of a node at this position.
    Output(NodeId, usize),
}

/// An operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does: `aten::relu`, `prim::If`, ...
    pub op: OpName,
    /// Values it reads.
    pub inputs: Vec<ValueId>,
    /// Values it defines.
    pub outputs: Vec<ValueId>,
    /// Attributes in the order they print.
    pub attrs: Vec<(&'static str, Attr)>,
    /// Nested blocks.
    pub blocks: Vec<BlockId>,
    /// Where in the source it comes from.
    pub span: Option<Span>,
    /// Whether its place stays out of printed graphs: PyTorch's compiler makes some nodes without one.
    pub hides_place: bool,
    /// Spans of the calls this node was inlined through, innermost first.
    pub callers: Arc<[Span]>,
}

/// A sequence of nodes.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Values defined on entry.
    pub params: Vec<ValueId>,
    /// Nodes in order of execution.
    pub nodes: Vec<NodeId>,
    /// Values handed to whoever runs the block.
    pub returns: Vec<ValueId>,
}

/// The body of a function. Removed nodes stay in `nodes` but in no block.
#[derive(Clone, Debug)]
pub struct Graph {
    /// All values ever made.
    pub values: IndexVec<ValueId, Value>,
    /// All nodes ever made.
    pub nodes: IndexVec<NodeId, Node>,
    /// All blocks ever made.
    pub blocks: IndexVec<BlockId, Block>,
    /// The outermost block: its parameters are the function's.
    pub top: BlockId,
}

impl Graph {
    /// A graph with an empty top block.
    pub fn new() -> Self {
        let mut blocks = IndexVec::new();
        let top = blocks.push(Block::default());
        Self { values: IndexVec::new(), nodes: IndexVec::new(), blocks, top }
    }

    /// Every node that is in a block, outer before inner, in order of execution.
    pub fn nodes_in_order(&self) -> Vec<(BlockId, NodeId)> {
        self.nodes_within(self.top)
    }

    /// Every node of a block and of the blocks within, outer before inner, in order of execution.
    pub fn nodes_within(&self, block: BlockId) -> Vec<(BlockId, NodeId)> {
        let last_first = |block: BlockId| self.blocks[block].nodes.iter().rev().map(move |&node| (block, node));
        let mut out = Vec::new();
        let mut pending: Vec<_> = last_first(block).collect();
        while let Some((block, id)) = pending.pop() {
            out.push((block, id));
            for &inner in self.nodes[id].blocks.iter().rev() {
                pending.extend(last_first(inner));
            }
        }
        out
    }

    /// A new empty block, owned by whichever node lists it.
    pub fn add_block(&mut self) -> BlockId {
        self.blocks.push(Block::default())
    }

    /// A new last parameter of a block.
    pub fn add_param(&mut self, block: BlockId, ty: Type, name: Option<Arc<str>>) -> ValueId {
        let def = ValueDef::Param(block, self.blocks[block].params.len());
        let value = self.values.push(Value { ty, name, def });
        self.blocks[block].params.push(value);
        value
    }

    /// A new node that is in no block yet, without outputs.
    pub fn create_node(&mut self, op: OpName, inputs: Vec<ValueId>, span: Option<Span>) -> NodeId {
        let (outputs, attrs, blocks, callers) = (Vec::new(), Vec::new(), Vec::new(), [].into());
        self.nodes.push(Node { op, inputs, outputs, attrs, blocks, span, hides_place: false, callers })
    }

    /// A new last output of a node.
    pub fn add_output(&mut self, node: NodeId, ty: Type) -> ValueId {
        let def = ValueDef::Output(node, self.nodes[node].outputs.len());
        let value = self.values.push(Value { ty, name: None, def });
        self.nodes[node].outputs.push(value);
        value
    }

    /// A new node at the end of a block, with one output for each type.
    pub fn append(
        &mut self,
        block: BlockId,
        op: OpName,
        inputs: Vec<ValueId>,
        outputs: &[Type],
        span: Option<Span>,
    ) -> NodeId {
        let node = self.create_node(op, inputs, span);
        for ty in outputs {
            self.add_output(node, ty.clone());
        }
        self.blocks[block].nodes.push(node);
        node
    }

    /// A new `prim::Constant` at the end of a block. Its type is `ty`; a `None` value has no `value` attribute.
    pub fn append_constant(&mut self, block: BlockId, value: IValue, ty: Type, span: Option<Span>) -> ValueId {
        let node = self.append(block, OpName::new("prim::Constant"), Vec::new(), &[ty], span);
        if !matches!(value, IValue::None) {
            self.nodes[node].attrs.push(("value", Attr::Value(value)));
        }
        self.nodes[node].outputs[0]
    }

    /// The constant a value stands for, if a `prim::Constant` with a value (or None) defines it.
    pub fn constant(&self, value: ValueId) -> Option<IValue> {
        let ValueDef::Output(node, 0) = self.values[value].def else { return None };
        let node = &self.nodes[node];
        if &*node.op.name != "prim::Constant" {
            return None;
        }
        match node.attrs.first() {
            None => Some(IValue::None),
            Some((_, Attr::Value(value))) => Some(value.clone()),
            Some(_) => None,
        }
    }

    /// Makes every use of `old`, in nodes and block returns, a use of `new`. Costs a walk of the whole graph.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        let swap = |values: &mut Vec<ValueId>| values.iter_mut().filter(|v| **v == old).for_each(|v| *v = new);
        self.nodes.iter_mut().for_each(|node| swap(&mut node.inputs));
        self.blocks.iter_mut().for_each(|block| swap(&mut block.returns));
    }
}

impl Default for Graph {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// Whether this node is of the kind with this name.
    pub fn is(&self, name: &str) -> bool {
        &*self.op.name == name
    }

    /// The attribute with this key.
    pub fn attr(&self, key: &str) -> Option<&Attr> {
        self.attrs.iter().find(|(k, _)| *k == key).map(|(_, attr)| attr)
    }

    /// The text of a `Name` attribute with this key.
    pub fn attr_name(&self, key: &str) -> Option<&Arc<str>> {
        match self.attr(key) {
            Some(Attr::Name(name)) => Some(name),
            Some(Attr::Value(_) | Attr::Types(_) | Attr::Int(_) | Attr::Graph(_)) | None => None,
        }
    }
}
