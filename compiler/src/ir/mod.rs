//! The SSA graph of a TorchScript function, as PyTorch's JIT has it: nodes with blocks (`prim::If`, `prim::Loop`).

mod graph;
mod module;
mod verify;

pub use graph::{Attr, Block, BlockId, Graph, Node, NodeId, OpName, Value, ValueDef, ValueId};
pub use module::{Argument, Class, ClassKind, Function, Module};
pub use verify::verify;
