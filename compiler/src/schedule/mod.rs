//! Scheduling: kernels of a loop program become nests, and buffers get their places in memory.
//!
//! [`schedule`] runs the transforms in order. Each is one file:
//! - `parts`: complex numbers of two doubles moved as their parts;
//! - `fuse`: maps into their consumers and producers (`effects` says what statements read and write);
//! - `contraction`: recognises sums of products; `pad`: padded inputs in place of tests; `pack`: weights in panels;
//! - `turn`: run-time right-hand sides of products with their columns next to each other;
//! - `phases`: transposed convolutions as plain ones;
//! - `prepare`: weights in other forms, stored in their place or computed when a model is opened;
//! - `winograd`: 3x3 convolutions as products of transformed data; `layout`: channels of their buffers in blocks;
//! - `depthwise`: channels last around depthwise convolutions, and their tiles;
//! - `flat`: a kernel with physical addresses (linear forms, see `linear`), neighbouring axes joined;
//! - `plan`: which axis is vectorised, tiles, what runs in parallel; `gemm`: tiles of contractions;
//! - `rows`: kernels that work on the same rows as one nest;
//! - `generic`: any kernel as a nest by its plan, written with `nest_builder`;
//! - `memory`: live ranges, places in the arena, results written where the caller wants them.
//!
//! To schedule a kernel in a special way, make a [`flat::Flat`] of it and call [`generic::build`] with a [`plan::Plan`] of your
//! own, or write the nest with [`nest_builder::NestBuilder`] directly.

mod contraction;
mod depthwise;
mod effects;
mod flat;
mod fuse;
mod gemm;
mod generic;
mod layout;
mod linear;
mod memory;
mod nest_builder;
mod pack;
mod pad;
mod parts;
mod phases;
mod plan;
mod prepare;
mod rows;
mod turn;
mod winograd;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod convolution_tests;
#[cfg(test)]
mod function_tests;
#[cfg(test)]
mod interpret;
#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod prepare_tests;

use crate::diag::{self, Diagnostic};
use crate::loops::nest::Nest;
use crate::loops::{Block, Expr, Exprs, Function, Kernel, Launch, Operand, Program, Stmt, StoreMode};
use crate::types::DType;
use flat::Flat;
use plan::Plan;
use prepare::Preparing;
use std::collections::HashMap;
use std::sync::Arc;

/// What schedules need to know about the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScheduleTarget {
    /// Bytes of a vector register: 16, 32 or 64; 0 for scalar code only.
    pub vector_bytes: usize,
    /// Number of vector registers: 16 or 32.
    pub n_registers: usize,
    /// Size of the first-level data cache of a core.
    pub l1_bytes: usize,
    /// Size of the second-level cache of a core.
    pub l2_bytes: usize,
    /// Whether masked loads and stores of 4- and 8-byte elements are cheap (AVX2, AVX-512, SVE).
    pub has_masks: bool,
}

/// Choices of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Whether nests may have parallel loops.
    pub threads: bool,
    /// Whether kernels are fused.
    pub fuse: bool,
    /// Whether convolutions are summed term by term, without methods that save multiplications and round differently.
    pub exact_convolution: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { threads: true, fuse: true, exact_convolution: false }
    }
}

/// Turns every kernel of the program into a launched nest, and plans the functions' memory.
pub fn schedule(program: &mut Program, target: &ScheduleTarget, options: &Options) -> diag::Result<()> {
    let (mut convolved, mut preparing) = (Vec::new(), Preparing::default());
    parts::move_parts(program);
    if options.fuse {
        fuse::fuse(program);
        phases::cut(program)?;
        if !options.exact_convolution && target.vector_bytes > 0 {
            convolved = winograd::rewrite(program, &mut preparing, target)?;
        }
        pad::pad_inputs(program);
        turn::turn_operands(program, target);
    }
    if target.vector_bytes > 0 {
        layout::choose(program, target, &convolved);
        depthwise::choose(program, target)?;
        pack::pack_weights(program, &mut preparing, target)?;
    }
    preparing.finish(program)?;
    layout::split(program);
    let mut nests = Nests { list: std::mem::take(&mut program.nests), known: HashMap::new() };
    for function in program.functions.iter_mut() {
        memory::place_results(function);
        let facts = rows::Facts::new(function);
        let mut body = std::mem::take(&mut function.body);
        lower_block(&mut body, function, &facts, target, options, &mut nests)?;
        function.body = body;
        memory::plan_arena(function)?;
    }
    program.nests = nests.list;
    Ok(())
}

/// A transform of programs, for one machine.
pub type Transform = fn(&mut Program, &ScheduleTarget) -> diag::Result<()>;

/// The transforms that rewrite kernels and buffers, by name and in the order of [`schedule`], each to be run by itself.
pub const TRANSFORMS: [(&str, Transform); 11] = [
    ("parts", |program, _| {
        parts::move_parts(program);
        Ok(())
    }),
    ("fuse", |program, _| {
        fuse::fuse(program);
        Ok(())
    }),
    ("phases", |program, _| phases::cut(program)),
    ("winograd", |program, target| {
        let mut preparing = Preparing::default();
        winograd::rewrite(program, &mut preparing, target)?;
        preparing.finish(program)
    }),
    ("pad", |program, _| {
        pad::pad_inputs(program);
        Ok(())
    }),
    ("turn", |program, target| {
        turn::turn_operands(program, target);
        Ok(())
    }),
    // Which buffers are blocked follows from the convolutions that were rewritten.
    ("layout", |program, target| {
        let mut preparing = Preparing::default();
        let convolved = winograd::rewrite(program, &mut preparing, target)?;
        layout::choose(program, target, &convolved);
        preparing.finish(program)
    }),
    ("depthwise", |program, target| depthwise::choose(program, target)),
    ("pack", |program, target| {
        let mut preparing = Preparing::default();
        pack::pack_weights(program, &mut preparing, target)?;
        preparing.finish(program)
    }),
    ("split", |program, _| {
        layout::split(program);
        Ok(())
    }),
    ("memory", |program, _| {
        program.functions.iter_mut().try_for_each(|function| {
            memory::place_results(function);
            memory::plan_arena(function)
        })
    }),
];

/// The program's nests, equal ones once.
struct Nests {
    list: Vec<Arc<Nest>>,
    known: HashMap<Arc<Nest>, usize>,
}

impl Nests {
    /// The number of this nest; the name of the first of several equal ones stays.
    fn add(&mut self, mut nest: Nest) -> usize {
        #[cfg(test)]
        assert_eq!(crate::loops::verify_nest(&nest), Ok(()), "nests keep their rules");
        let name = std::mem::take(&mut nest.name);
        if let Some(&number) = self.known.get(&nest) {
            return number;
        }
        let number = self.list.len();
        self.known.insert(Arc::new(nest.clone()), number);
        nest.name = name;
        self.list.push(Arc::new(nest));
        number
    }
}

fn lower_block(
    block: &mut Block,
    function: &Function,
    facts: &rows::Facts,
    target: &ScheduleTarget,
    options: &Options,
    nests: &mut Nests,
) -> diag::Result<()> {
    let mut stmts = std::collections::VecDeque::from(std::mem::take(&mut block.0));
    loop {
        if options.fuse
            && let Some(group) = rows::group(stmts.make_contiguous(), function, facts, target, options)
        {
            stmts.drain(..group.n_stmts);
            let scalars = group.scalars.into_iter().map(Operand::Var).collect();
            let launch = Launch { nest: nests.add(group.nest), buffers: group.buffers, scalars };
            block.0.push(Stmt::Launch(launch));
            continue;
        }
        let Some(mut stmt) = stmts.pop_front() else { break };
        match &mut stmt {
            Stmt::Kernel(kernel) => {
                let launch = lower_kernel(kernel, function, target, options, nests)?;
                block.0.extend(launch.map(Stmt::Launch));
                continue;
            }
            Stmt::If(_, then_body, else_body) => {
                lower_block(then_body, function, facts, target, options, nests)?;
                lower_block(else_body, function, facts, target, options, nests)?;
            }
            Stmt::While(_, body) => lower_block(body, function, facts, target, options, nests)?,
            _ => {}
        }
        block.0.push(stmt);
    }
    Ok(())
}

/// The launch that runs a kernel; none if the kernel has no points.
fn lower_kernel(
    kernel: &Kernel,
    function: &Function,
    target: &ScheduleTarget,
    options: &Options,
    nests: &mut Nests,
) -> diag::Result<Option<Launch>> {
    let is_reduced = |axis: &crate::loops::Axis| axis.kind == crate::loops::AxisKind::Reduce;
    if kernel.axes.iter().any(|axis| !is_reduced(axis) && axis.extent.known() == Some(0)) {
        return Ok(None);
    }
    let flat = Flat::new(function, kernel);
    check_types(&flat)?;
    let mut plan = Plan::choose(&flat, target, options);
    gemm::refine(&flat, &mut plan, target);
    depthwise::refine(&flat, &mut plan, target);
    layout::refine(&flat, &mut plan);
    let (nest, buffers, scalars) = generic::build(function, &flat, &plan, &kernel.name);
    let scalars = scalars.into_iter().map(Operand::Var).collect();
    Ok(Some(Launch { nest: nests.add(nest), buffers, scalars }))
}

/// Refuses arithmetic on elements that nests can only move.
fn check_types(flat: &Flat) -> diag::Result<()> {
    let is_moved = |dtype: DType| dtype == DType::C128 || nest_builder::carrier(dtype) != dtype;
    let refuse = |dtype: DType| Err(Diagnostic::unsupported(format!("arithmetic on elements of type {dtype}")));
    for &id in &flat.used {
        let expr = flat.exprs.get(id);
        let dtype = flat.exprs.dtype(id);
        let computes = match expr {
            Expr::Unary(..) | Expr::Binary(..) | Expr::Cast(..) => true,
            Expr::Const(c) => c.bits != 0,
            Expr::Axis(_) | Expr::Var(..) | Expr::Load { .. } | Expr::Select(..) | Expr::Acc(..) => {
                dtype == DType::C128
            }
        };
        let of_operand = Exprs::operands(expr).into_iter().map(|a| flat.exprs.dtype(a));
        if let Some(moved) = of_operand.chain([dtype]).find(|&d| computes && is_moved(d)) {
            return refuse(moved);
        }
    }
    let reduced = flat.reductions.iter().map(|r| flat.exprs.dtype(r.value));
    let combined = flat.stores.iter().filter(|s| s.mode != StoreMode::Set).map(|s| s.dtype);
    reduced.chain(combined).find(|&d| is_moved(d)).map_or(Ok(()), refuse)
}
