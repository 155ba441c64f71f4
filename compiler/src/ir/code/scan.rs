//! Which nodes of a graph the code printer writes inside the expressions of their users.

use crate::index::IndexVec;
use crate::ir::{Block, BlockId, Graph, Node, NodeId, ValueDef, ValueId};
use std::collections::{HashMap, HashSet};

/// Who uses a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum User {
    Node(NodeId),
    Return(BlockId),
}

#[derive(Clone, Copy)]
pub(super) struct Use {
    pub(super) user: User,
    pub(super) offset: usize,
}

/// How a value is referred to.
#[derive(Clone)]
pub(super) enum Text {
    /// A variable that has been assigned.
    Name(String),
    /// An expression not yet emitted.
    Inline(String),
}

/// A graph being printed.
pub(super) struct Body<'g> {
    pub(super) graph: &'g Graph,
    pub(super) uses: IndexVec<ValueId, Vec<Use>>,
    /// The node before each in its block.
    pub(super) before: IndexVec<NodeId, Option<NodeId>>,
    pub(super) inlined: IndexVec<NodeId, bool>,
    pub(super) texts: IndexVec<ValueId, Option<Text>>,
    /// How far the inputs of a node have been given names because a line got long.
    pub(super) split: HashMap<User, usize>,
    pub(super) annotated: HashSet<ValueId>,
}

impl<'g> Body<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        let mut body = Self {
            graph,
            uses: graph.values.iter().map(|_| Vec::new()).collect(),
            before: graph.nodes.iter().map(|_| None).collect(),
            inlined: graph.nodes.iter().map(|_| false).collect(),
            texts: graph.values.iter().map(|_| None).collect(),
            split: HashMap::new(),
            annotated: HashSet::new(),
        };
        let mut blocks = vec![graph.top];
        let mut at = 0;
        while let Some(&id) = blocks.get(at) {
            at += 1;
            let block = &graph.blocks[id];
            let mut before = None;
            for &node in &block.nodes {
                body.before[node] = before.replace(node);
                for (offset, &input) in graph.nodes[node].inputs.iter().enumerate() {
                    body.uses[input].push(Use { user: User::Node(node), offset });
                }
                blocks.extend(&graph.nodes[node].blocks);
            }
            for (offset, &value) in block.returns.iter().enumerate() {
                body.uses[value].push(Use { user: User::Return(id), offset });
            }
        }
        for id in blocks {
            body.scan(id);
        }
        body
    }

    pub(super) fn inputs(&self, user: User) -> &'g [ValueId] {
        match user {
            User::Node(id) => &self.graph.nodes[id].inputs,
            User::Return(id) => &self.graph.blocks[id].returns,
        }
    }

    pub(super) fn def(&self, value: ValueId) -> Option<(NodeId, &'g Node)> {
        match self.graph.values[value].def {
            ValueDef::Output(id, _) => Some((id, &self.graph.nodes[id])),
            ValueDef::Param(..) => None,
        }
    }

    fn skip_constants(&self, mut node: Option<NodeId>) -> Option<NodeId> {
        while let Some(id) = node.filter(|&id| self.graph.nodes[id].is("prim::Constant")) {
            node = self.before[id];
        }
        node
    }

    /// Decides which nodes of a block are inlined: from each statement, last first, through the tree of its operands
    /// from right to left, as long as each operand is the node right before what is placed already.
    fn scan(&mut self, id: BlockId) {
        let block: &Block = &self.graph.blocks[id];
        self.scan_user(User::Return(id), block.nodes.last().copied());
        for &node in block.nodes.iter().rev() {
            if !self.inlined[node] {
                self.scan_user(User::Node(node), self.before[node]);
            }
        }
    }

    fn scan_user(&mut self, user: User, before: Option<NodeId>) {
        let mut stack = vec![(user, self.inputs(user).len(), self.skip_constants(before))];
        while let Some((user, n_left, point)) = stack.last_mut() {
            if *n_left == 0 {
                let point = *point;
                stack.pop();
                if let Some((_, _, outer)) = stack.last_mut() {
                    *outer = point;
                }
                continue;
            }
            *n_left -= 1;
            let (user, offset, point) = (*user, *n_left, *point);
            let Some(&value) = self.inputs(user).get(offset) else { continue };
            let Some((id, node)) = self.def(value) else { continue };
            if node.is("prim::Constant") {
                self.inlined[id] = true;
            } else if Some(id) == point && self.can_inline(value, node) {
                self.inlined[id] = true;
                stack.push((User::Node(id), node.inputs.len(), self.skip_constants(self.before[id])));
            }
        }
    }

    fn can_inline(&self, value: ValueId, node: &Node) -> bool {
        let [Use { user, offset }] = self.uses[value][..] else { return false };
        if node.outputs.len() != 1 || !node.blocks.is_empty() || node.is("prim::isinstance") {
            return false;
        }
        match user {
            User::Return(_) => true,
            User::Node(_) if self.graph.values[value].debug_name().is_some() => false,
            // A carried value must be evaluated before the condition; a forked function may use a capture more than once.
            User::Node(user) => match &*self.graph.nodes[user].op.name {
                "prim::Loop" => offset < 2,
                "prim::fork" | "prim::awaitable" => false,
                _ => true,
            },
        }
    }

    pub(super) fn is_inlined_expression(&self, value: ValueId) -> bool {
        self.def(value).is_some_and(|(id, node)| self.inlined[id] && !node.is("prim::Constant"))
    }

    /// Constants in the order of their first use, through all blocks.
    pub(super) fn constants(&self) -> Vec<NodeId> {
        let (mut seen, mut order) = (HashSet::new(), Vec::new());
        let mut add = |values: &[ValueId]| {
            for &value in values {
                if let Some((id, _)) = self.def(value).filter(|(_, node)| node.is("prim::Constant"))
                    && seen.insert(id)
                {
                    order.push(id);
                }
            }
        };
        let mut steps = vec![Step::Block(self.graph.top)];
        while let Some(step) = steps.pop() {
            match step {
                Step::Block(id) => {
                    steps.push(Step::Return(id));
                    steps.extend(self.graph.blocks[id].nodes.iter().rev().map(|&node| Step::Node(node)));
                }
                Step::Node(id) => {
                    add(&self.graph.nodes[id].inputs);
                    steps.extend(self.graph.nodes[id].blocks.iter().rev().map(|&block| Step::Block(block)));
                }
                Step::Return(id) => add(&self.graph.blocks[id].returns),
            }
        }
        order
    }

    pub(super) fn text(&self, value: ValueId) -> String {
        match &self.texts[value] {
            Some(Text::Name(text) | Text::Inline(text)) => text.clone(),
            None => format!("{value}"),
        }
    }

    pub(super) fn list(&self, values: &[ValueId]) -> String {
        values.iter().map(|&value| self.text(value)).collect::<Vec<_>>().join(", ")
    }
}

/// What is still to be walked, last first.
enum Step {
    Block(BlockId),
    Node(NodeId),
    Return(BlockId),
}
