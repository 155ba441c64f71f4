//! The loop program: host control flow around kernels over index spaces.
//!
//! It has two levels. *Kernels* ([`Kernel`]) say what each element is, as an expression over an index space; views are index
//! expressions, reductions and scans are kinds of axes. The plain evaluator runs them as they stand, and fusion rewrites
//! them. *Nests* ([`nest::Nest`]) say how: explicit loops, vector registers, tiles. Scheduling turns each kernel (or group of
//! kernels) into a nest, and the emitter turns nests into machine code.
//!
//! Nothing here knows an operator of TorchScript.

mod expr;
pub mod nest;
mod parse;
mod print;
mod program;
mod tasks;
mod verify;
mod verify_nest;
mod walk;

pub use expr::{BinaryOp, Const, Expr, ExprId, Exprs, Guard, Substitution, UnaryOp, fold_i64};
pub use parse::parse;
pub use program::{
    Arg, Axis, AxisKind, Block, Buffer, BufferClass, BufferId, Dim, Function, FunctionId, HostExpr, Input, InputKind,
    Kernel, Launch, Layout, Method, Operand, OutputTree, Prepared, PreparedId, Program, ReduceOp, Reduction, Stmt,
    Store, StoreMode, Var, VarId, VarType, Variant, Weight, WeightId, prepared_offsets, weight_offsets,
};
pub use tasks::{drop_unreached, keep_used_inputs, task_arg, task_of};
pub use verify::verify;
pub use verify_nest::verify_nest;
pub use walk::{kernel_reads, raise_args, touched, walk, walk_mut, walk_stmts};
