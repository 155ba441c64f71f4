//! The SSA graph of a TorchScript function, as PyTorch's JIT has it: nodes with blocks (`prim::If`, `prim::Loop`).

mod canonical;
mod code;
mod graph;
mod module;
pub mod parse;
pub mod print;
#[cfg(test)]
mod tests;
mod text;
mod verify;

pub use canonical::{canonical, first_uses, renumbered};
pub use code::{Code, CodeFacts, CodeOptions, SchemaFact, code, code_with};
pub use graph::{Attr, Block, BlockId, Graph, Node, NodeId, OpName, Value, ValueDef, ValueId};
pub use module::{Argument, Class, ClassKind, Function, Interface, InterfaceMethod, Module, not_exportable};
pub use print::PrintOptions;
pub use text::{quoted, repr};
pub use verify::verify;
