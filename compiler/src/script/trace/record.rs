//! The graphs a trace makes: one for each call of a module, as operators run.
//!
//! Each call of a submodule is a *frame* with a graph of its own, which becomes a method of that submodule. What a frame
//! uses of the frames around it becomes its parameter, what others use of it becomes its result, and attributes are read
//! at its start. Values are named by the variables of Python that hold them, which may become known after the value is
//! used, so names and parameters are settled in [`Recorder::finish`].

use crate::index::{IndexVec, ids};
use crate::ir::{Argument, Attr, Function, Graph, NodeId, OpName, ValueDef, ValueId};
use crate::source::Span;
use crate::types::{IValue, Type};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::sync::Arc;

ids! {
    /// A call under trace.
    #[allow(unreachable_pub, reason = "ids are declared in one way")]
    FrameId = "frame";
}

/// Attribute names from the traced module on.
pub(crate) type Path = Vec<Arc<str>>;

/// A value of one frame's graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Traced {
    pub frame: FrameId,
    pub value: ValueId,
}

/// The module a frame is a call of.
#[derive(Clone, Debug)]
struct Owner {
    path: Path,
    class: Arc<str>,
    this: ValueId,
}

#[derive(Debug)]
struct Frame {
    graph: Graph,
    owner: Option<Owner>,
    /// The frame that makes the call, and the node there.
    parent: Option<(FrameId, NodeId)>,
    /// Attributes that this frame reads, with the values that stand for them.
    attributes: IndexMap<Path, ValueId>,
    /// For each read attribute, the nodes that read it.
    readers: Vec<Vec<NodeId>>,
    /// Parameters that stand for attributes of modules outside, and the parent's values for them.
    outer_attributes: IndexMap<Path, (ValueId, ValueId)>,
    /// Parameters that stand for values of frames outside, and the parent's values for them.
    captured: IndexMap<Traced, (ValueId, ValueId)>,
    /// Values that others use, and the parent's values for them.
    lifted: IndexMap<ValueId, ValueId>,
    returns: Vec<ValueId>,
}

/// What is recorded so far.
#[derive(Debug)]
pub(crate) struct Recorder {
    frames: IndexVec<FrameId, Frame>,
    open: Vec<FrameId>,
    /// Classes of the modules by their paths; empty where a function is traced.
    classes: HashMap<Path, Arc<str>>,
    /// Whether nothing is recorded for now.
    pub is_paused: bool,
}

/// What stands for values while nothing is recorded.
const NOTHING: Traced = Traced { frame: FrameId(0), value: ValueId(u32::MAX) };

/// A method or function that was traced.
pub(crate) struct Method {
    /// The class whose method it is; none for a function.
    pub class: Option<Arc<str>>,
    /// `forward`, `forward1`, ...
    pub name: Arc<str>,
    pub function: Function,
}

impl Recorder {
    /// A trace of a function, or of a method of the root of these modules.
    pub(crate) fn new(classes: HashMap<Path, Arc<str>>) -> Self {
        let mut frames = IndexVec::new();
        let root = classes.get(&Path::new()).map(|class| (Path::new(), Arc::clone(class)));
        let root = frames.push(Frame::new(root, None));
        Self { frames, open: vec![root], classes, is_paused: false }
    }

    /// The innermost frame.
    fn here(&self) -> FrameId {
        *self.open.last().expect("the root frame stays open")
    }

    /// A new parameter of the whole trace.
    pub(crate) fn input(&mut self, name: Option<Arc<str>>, ty: Type) -> Traced {
        let frame = self.open[0];
        let graph = &mut self.frames[frame].graph;
        Traced { frame, value: graph.add_param(graph.top, ty, name) }
    }

    /// Enters a call of the submodule at a path.
    pub(crate) fn enter(&mut self, path: Path, class: Arc<str>, span: Option<&Span>) {
        if self.is_paused {
            return;
        }
        let parent = self.here();
        let this = self.attribute(parent, &path, &Type::Class(Arc::clone(&class)));
        let graph = &mut self.frames[parent].graph;
        let call = graph.append(graph.top, OpName::new("prim::CallMethod"), vec![this], &[], span.cloned());
        let frame = self.frames.push(Frame::new(Some((path, class)), Some((parent, call))));
        self.open.push(frame);
    }

    /// Leaves the innermost call.
    pub(crate) fn leave(&mut self) {
        if self.open.len() > 1 && !self.is_paused {
            self.open.pop();
        }
    }

    /// A constant in the innermost frame.
    pub(crate) fn constant(&mut self, value: IValue, ty: Type, span: Option<&Span>) -> Traced {
        if self.is_paused {
            return NOTHING;
        }
        let frame = self.here();
        let graph = &mut self.frames[frame].graph;
        Traced { frame, value: graph.append_constant(graph.top, value, ty, span.cloned()) }
    }

    /// A node in the innermost frame.
    pub(crate) fn node(&mut self, op: OpName, inputs: &[Traced], outputs: &[Type], span: Option<&Span>) -> Vec<Traced> {
        self.node_with(op, Vec::new(), inputs, outputs, span)
    }

    /// A node with attributes in the innermost frame.
    pub(crate) fn node_with(
        &mut self,
        op: OpName,
        attrs: Vec<(&'static str, Attr)>,
        inputs: &[Traced],
        outputs: &[Type],
        span: Option<&Span>,
    ) -> Vec<Traced> {
        if self.is_paused {
            return vec![NOTHING; outputs.len()];
        }
        let frame = self.here();
        let inputs = inputs.iter().map(|&input| self.resolve(frame, input)).collect();
        let graph = &mut self.frames[frame].graph;
        let node = graph.append(graph.top, op, inputs, outputs, span.cloned());
        graph.nodes[node].attrs = attrs;
        graph.nodes[node].outputs.iter().map(|&value| Traced { frame, value }).collect()
    }

    /// A node right behind what defines its only input.
    pub(crate) fn node_behind(&mut self, op: OpName, input: Traced, output: Type) -> Traced {
        if self.is_paused {
            return NOTHING;
        }
        let Traced { frame, value } = input;
        let graph = &mut self.frames[frame].graph;
        let at = match graph.values[value].def {
            ValueDef::Output(node, _) => graph.blocks[graph.top].nodes.iter().position(|&id| id == node),
            ValueDef::Param(..) => None,
        };
        let node = graph.create_node(op, vec![value], None);
        let value = graph.add_output(node, output);
        let top = graph.top;
        graph.blocks[top].nodes.insert(at.map_or(0, |at| at + 1), node);
        Traced { frame, value }
    }

    /// The attribute at a path from the root, as a value.
    pub(crate) fn attribute_value(&mut self, path: &Path, ty: &Type) -> Traced {
        if self.is_paused {
            return NOTHING;
        }
        let frame = self.here();
        Traced { frame, value: self.attribute(frame, path, ty) }
    }

    fn attribute(&mut self, frame: FrameId, path: &Path, ty: &Type) -> ValueId {
        if let Some(&known) = self.frames[frame].attributes.get(path) {
            return known;
        }
        if let Some(&(known, _)) = self.frames[frame].outer_attributes.get(path) {
            return known;
        }
        let own = self.frames[frame].owner.as_ref().filter(|owner| path.starts_with(&owner.path)).cloned();
        if let Some(owner) = own {
            let graph = &mut self.frames[frame].graph;
            let (mut value, mut nodes) = (owner.this, Vec::new());
            let n_steps = path.len() - owner.path.len();
            for (at, name) in path[owner.path.len()..].iter().enumerate() {
                let node = graph.create_node(OpName::new("prim::GetAttr"), vec![value], None);
                graph.nodes[node].attrs.push(("name", Attr::Name(Arc::clone(name))));
                let inner =
                    self.classes.get(&path[..=owner.path.len() + at]).map(|class| Type::Class(Arc::clone(class)));
                value = graph.add_output(node, inner.filter(|_| at + 1 < n_steps).unwrap_or_else(|| ty.clone()));
                let starts_with_digit = name.starts_with(|c: char| c.is_ascii_digit());
                let label = if starts_with_digit { format!("_{name}").into() } else { Arc::clone(name) };
                graph.values[value].name = Some(label);
                nodes.push(node);
            }
            self.frames[frame].attributes.insert(path.clone(), value);
            self.frames[frame].readers.push(nodes);
            return value;
        }
        let (parent, _) = self.frames[frame].parent.expect("the root frame owns all attributes");
        let outer = self.attribute(parent, path, ty);
        let graph = &mut self.frames[frame].graph;
        let value = graph.add_param(graph.top, ty.clone(), None);
        self.frames[frame].outer_attributes.insert(path.clone(), (value, outer));
        value
    }

    /// What a value of any frame is called in this one.
    fn resolve(&mut self, frame: FrameId, mut traced: Traced) -> ValueId {
        while !self.is_inside(frame, traced.frame) {
            traced = self.lift(traced);
        }
        self.capture(frame, traced)
    }

    fn is_inside(&self, mut frame: FrameId, outer: FrameId) -> bool {
        loop {
            if frame == outer {
                return true;
            }
            match self.frames[frame].parent {
                Some((parent, _)) => frame = parent,
                None => return false,
            }
        }
    }

    /// The value that the caller of a finished frame gets for one of it.
    fn lift(&mut self, traced: Traced) -> Traced {
        let Traced { frame, value } = traced;
        let (parent, call) = self.frames[frame].parent.expect("only calls are finished before the trace");
        if let Some(&value) = self.frames[frame].lifted.get(&value) {
            return Traced { frame: parent, value };
        }
        let ty = self.frames[frame].graph.values[value].ty.clone();
        let outer = self.frames[parent].graph.add_output(call, ty);
        self.frames[frame].lifted.insert(value, outer);
        Traced { frame: parent, value: outer }
    }

    fn capture(&mut self, frame: FrameId, traced: Traced) -> ValueId {
        if traced.frame == frame {
            return traced.value;
        }
        if let Some(&(known, _)) = self.frames[frame].captured.get(&traced) {
            return known;
        }
        let (parent, _) = self.frames[frame].parent.expect("the value's frame is around this one");
        let outer = self.capture(parent, traced);
        let ty = self.frames[parent].graph.values[outer].ty.clone();
        let graph = &mut self.frames[frame].graph;
        let value = graph.add_param(graph.top, ty, None);
        self.frames[frame].captured.insert(traced, (value, outer));
        value
    }

    /// The type of a value.
    pub(crate) fn ty(&self, traced: Traced) -> Type {
        if traced == NOTHING {
            return Type::tensor();
        }
        self.frames[traced.frame].graph.values[traced.value].ty.clone()
    }

    /// Names a value that has no name yet.
    pub(crate) fn name(&mut self, traced: Traced, name: &Arc<str>) {
        if traced == NOTHING {
            return;
        }
        let value = &mut self.frames[traced.frame].graph.values[traced.value];
        if value.name.is_none() {
            value.name = Some(Arc::clone(name));
        }
    }

    /// Ends the trace with its result: the methods and functions it made, callees first. `name` is that of the root's.
    ///
    /// `n_methods` counts, for each class, the methods that modules got from being called.
    pub(crate) fn finish(
        mut self,
        result: Traced,
        name: &Arc<str>,
        n_methods: &mut HashMap<Arc<str>, usize>,
    ) -> Vec<Method> {
        let root = self.open[0];
        let result = self.resolve(root, result);
        self.frames[root].returns = vec![result];
        let ids: Vec<FrameId> = self.frames.ids().collect();
        // Parents come before the frames they call, so that names travel inward.
        for &id in &ids {
            self.settle(id);
        }
        let mut methods = Vec::new();
        self.collect(root, name, &mut methods, n_methods);
        methods
    }

    /// Makes the parameters, attributes and results of a frame final, in it and at its call.
    fn settle(&mut self, id: FrameId) {
        let parent = self.frames[id].parent;
        if let Some((parent, call)) = parent {
            let captured: Vec<(ValueId, ValueId)> = self.frames[id].captured.values().copied().collect();
            for &(own, outer) in &captured {
                let name = self.frames[parent].graph.values[outer].name.clone();
                self.frames[id].graph.values[own].name = name;
            }
            let attributes: Vec<(ValueId, ValueId)> = self.frames[id].outer_attributes.values().copied().collect();
            let outer = attributes.iter().chain(&captured).map(|&(_, outer)| outer);
            self.frames[parent].graph.nodes[call].inputs.extend(outer.collect::<Vec<_>>());
            let graph = &mut self.frames[id].graph;
            let top = graph.top;
            let this = graph.blocks[top].params.first().copied();
            let own = attributes.iter().chain(&captured).map(|&(own, _)| own);
            graph.blocks[top].params = this.into_iter().chain(own).collect();
            for (at, value) in graph.blocks[top].params.clone().into_iter().enumerate() {
                graph.values[value].def = ValueDef::Param(top, at);
            }
            self.settle_returns(id, parent, call);
        }
        let frame = &mut self.frames[id];
        let top = frame.graph.top;
        let readers = frame.readers.iter().rev().flatten().copied();
        frame.graph.blocks[top].nodes.splice(0..0, readers.collect::<Vec<_>>());
        frame.graph.blocks[top].returns.clone_from(&frame.returns);
    }

    /// One result is returned as it is, several are as a tuple, and without any `None` is.
    fn settle_returns(&mut self, id: FrameId, parent: FrameId, call: NodeId) {
        let lifted: Vec<(ValueId, ValueId)> =
            self.frames[id].lifted.iter().map(|(&own, &outer)| (own, outer)).collect();
        let graph = &mut self.frames[id].graph;
        let top = graph.top;
        let own: Vec<ValueId> = lifted.iter().map(|&(own, _)| own).collect();
        let returned = match own[..] {
            [] => graph.append_constant(top, IValue::None, Type::None, None),
            [only] => only,
            _ => {
                let ty = Type::Tuple(own.iter().map(|&value| graph.values[value].ty.clone()).collect());
                let node = graph.append(top, OpName::new("prim::TupleConstruct"), own.clone(), &[ty], None);
                graph.nodes[node].outputs[0]
            }
        };
        let ty = graph.values[returned].ty.clone();
        self.frames[id].returns = vec![returned];
        let outer = &mut self.frames[parent].graph;
        match own.len() {
            0 => _ = outer.add_output(call, ty),
            1 => {}
            _ => {
                let results = std::mem::take(&mut outer.nodes[call].outputs);
                let tuple = outer.add_output(call, ty);
                let unpack = outer.create_node(OpName::new("prim::TupleUnpack"), vec![tuple], None);
                for (at, &value) in results.iter().enumerate() {
                    outer.values[value].def = ValueDef::Output(unpack, at);
                }
                outer.nodes[unpack].outputs = results;
                let top = outer.top;
                let at = outer.blocks[top].nodes.iter().position(|&node| node == call).unwrap_or(0);
                outer.blocks[top].nodes.insert(at + 1, unpack);
            }
        }
    }

    /// The frame's method behind those it calls.
    fn collect(
        &mut self,
        id: FrameId,
        name: &Arc<str>,
        methods: &mut Vec<Method>,
        n_methods: &mut HashMap<Arc<str>, usize>,
    ) {
        let frame = &self.frames[id];
        let calls: Vec<NodeId> = frame.graph.blocks[frame.graph.top].nodes.clone();
        let children: HashMap<NodeId, FrameId> = self
            .frames
            .ids()
            .filter_map(|child| {
                self.frames[child].parent.filter(|&(parent, _)| parent == id).map(|(_, call)| (call, child))
            })
            .collect();
        for call in calls {
            let Some(&child) = children.get(&call) else { continue };
            let class = self.frames[child].owner.as_ref().map_or_else(|| "".into(), |owner| Arc::clone(&owner.class));
            // Inner calls of the same class come first.
            let before = methods.len();
            self.collect(child, &"forward".into(), methods, n_methods);
            let count = n_methods.entry(Arc::clone(&class)).or_default();
            let name: Arc<str> = if *count == 0 { "forward".into() } else { format!("forward{count}").into() };
            *count += 1;
            if let Some(made) = methods.get_mut(before..).and_then(<[Method]>::last_mut) {
                made.name = Arc::clone(&name);
                made.function.name = format!("{class}.{name}").into();
            }
            self.frames[id].graph.nodes[call].attrs = vec![("name", Attr::Name(name))];
        }
        let frame = &mut self.frames[id];
        let graph = std::mem::take(&mut frame.graph);
        let top = &graph.blocks[graph.top];
        let argument = |(at, &value): (usize, &ValueId)| Argument {
            name: graph.values[value].name.clone().unwrap_or_else(|| format!("argument_{at}").into()),
            ty: plain(&graph.values[value].ty),
            default: None,
        };
        let params = top.params.iter().enumerate().map(argument).collect();
        let result = top.returns.first().map_or(Type::None, |&value| plain(&graph.values[value].ty));
        let class = frame.owner.as_ref().map(|owner| Arc::clone(&owner.class));
        let full = class.as_ref().map_or_else(|| Arc::clone(name), |class| format!("{class}.{name}").into());
        let function = Function { name: full, params, result, graph, span: None, is_traced: true };
        methods.push(Method { class, name: Arc::clone(name), function });
    }
}

impl Frame {
    fn new(owner: Option<(Path, Arc<str>)>, parent: Option<(FrameId, NodeId)>) -> Self {
        let mut graph = Graph::new();
        let owner = owner.map(|(path, class)| {
            let this = graph.add_param(graph.top, Type::Class(Arc::clone(&class)), Some("self".into()));
            Owner { path, class, this }
        });
        Self {
            graph,
            owner,
            parent,
            attributes: IndexMap::new(),
            readers: Vec::new(),
            outer_attributes: IndexMap::new(),
            captured: IndexMap::new(),
            lifted: IndexMap::new(),
            returns: Vec::new(),
        }
    }
}

/// The type without what only holds for the traced inputs.
fn plain(ty: &Type) -> Type {
    match ty {
        Type::Tensor(_) => Type::tensor(),
        Type::Tuple(items) => Type::Tuple(items.iter().map(plain).collect()),
        Type::List(item) => Type::list(plain(item)),
        Type::Dict(key, item) => Type::Dict(Arc::new(plain(key)), Arc::new(plain(item))),
        other => other.clone(),
    }
}
