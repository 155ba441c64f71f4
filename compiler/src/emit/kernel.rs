//! Nests to functions, operation by operation.
//!
//! A nest becomes `void nest(frame, buffers..., scalars...)`. The body of a parallel loop becomes two functions: a task
//! that the runtime calls with a context and a range of rounds, and the work itself, which takes the buffers as parameters
//! again, so that the optimiser knows that they do not overlap.

use super::builder::{Builder, Cmp, Conv, Func, Inst2, Lane, Linkage, Param, Signature, Ty, Value, Variable};
use super::registers::{self, Parallel};
use super::scalar::{self, Typed, lane};
use crate::diag::{Diagnostic, Result};
use crate::index::Id as _;
use crate::loops::nest::{Memory, Nest, NestStmt, Op, Reg, RegType, Val};
use crate::loops::{BinaryOp, Const};
use crate::types::DType;

/// Local arrays of one function together may take this much stack.
const MAX_STACK_BYTES: usize = 1 << 20;

/// Declares and emits a nest under this symbol.
///
/// # Errors
/// Internal ones: operations on types that do not have them, too large local arrays.
pub(super) fn emit(b: &dyn Builder, nest: &Nest, symbol: &str) -> Result<Func> {
    let mut params = vec![Param::from(Ty::PTR)];
    params.extend(buffer_params(nest));
    for &dtype in &nest.scalars {
        params.push(Ty::scalar(lane(dtype)?).into());
    }
    let func = b.declare(symbol, &Signature { params, ..Signature::default() }, Linkage::Internal);
    let values = b.begin(func);
    let (buffers, scalars) = values[1..].split_at(nest.buffers.len());
    let mut piece = Piece::new(b, nest, symbol, buffers.to_vec(), scalars.to_vec());
    piece.frame = Some(values[0]);
    piece.reserve(&registers::locals(&nest.body, Parallel::Skip).into_iter().collect::<Vec<_>>())?;
    piece.block(&nest.body)?;
    b.ret(None);
    b.end();
    let set_once = std::mem::take(&mut piece.set_once);
    for task in std::mem::take(&mut piece.tasks) {
        task.emit(b, nest, &set_once)?;
    }
    Ok(func)
}

fn buffer_params(nest: &Nest) -> impl Iterator<Item = Param> {
    nest.buffers.iter().map(|buffer| Param {
        ty: Ty::PTR,
        no_alias: true,
        align: buffer.align,
        is_read_only: !buffer.is_written,
    })
}

/// A loop body that runs as a task of the runtime, to be emitted after the nest itself.
struct Task<'a> {
    symbol: String,
    func: Func,
    body: &'a [NestStmt],
    counter: Reg,
    step: i64,
    context: Context,
}

/// Where things lie in a task's context: first the buffers, then the nest's scalars, then the loop's first value, each in 8
/// bytes, then captured registers.
struct Context {
    first: usize,
    captured: Vec<(Reg, usize)>,
    size_bytes: usize,
}

impl Context {
    fn new(nest: &Nest, captured: &[Reg]) -> Result<Self> {
        let first = 8 * (nest.buffers.len() + nest.scalars.len());
        let mut at = first + 8;
        let mut places = Vec::new();
        for &reg in captured {
            let size = memory_ty(nest.regs[reg])?.size_bytes();
            places.push((reg, at));
            at += size.next_multiple_of(8);
        }
        Ok(Self { first, captured: places, size_bytes: at })
    }
}

impl Task<'_> {
    fn emit(&self, b: &dyn Builder, nest: &Nest, set_once: &[bool]) -> Result<()> {
        let mut params: Vec<Param> = buffer_params(nest).collect();
        params.extend([Ty::PTR, Ty::I64, Ty::I64].map(Param::from));
        let work_symbol = format!("{}.work", self.symbol);
        let work = b.declare(&work_symbol, &Signature { params, ..Signature::default() }, Linkage::Internal);
        let n_buffers = nest.buffers.len();

        let values = b.begin(self.func);
        let at = |index: usize| b.element(values[0], b.int(Ty::I64, to_i64(index)), 8);
        let mut args: Vec<Value> = (0..n_buffers).map(|index| b.load(Ty::PTR, at(index))).collect();
        args.extend([values[0], values[1], values[2]]);
        b.call(work, &args);
        b.ret(None);
        b.end();

        let values = b.begin(work);
        let (buffers, rest) = values.split_at(n_buffers);
        let &[context, begin, end] = rest else {
            return Err(Diagnostic::internal("a task has a context and a range"));
        };
        let at = |offset: usize| b.element(context, b.int(Ty::I64, to_i64(offset)), 1);
        let mut scalars = Vec::new();
        for (index, &dtype) in nest.scalars.iter().enumerate() {
            scalars.push(load_register(b, RegType::scalar(dtype), at(8 * (n_buffers + index)))?);
        }
        let mut piece = Piece::new(b, nest, &self.symbol, buffers.to_vec(), scalars);
        piece.set_once = set_once.to_vec();
        for &(reg, offset) in &self.context.captured {
            let value = load_register(b, nest.regs[reg], at(offset))?;
            piece.define(reg, value);
        }
        let first = b.load(Ty::I64, at(self.context.first));
        piece.reserve(&registers::locals(self.body, Parallel::Include).into_iter().collect::<Vec<_>>())?;
        let round_ty = b.int(Ty::I64, self.step);
        piece.counted(begin, end, 1, &mut |piece, round| {
            let counter = b.inst2(Inst2::Add, first, b.inst2(Inst2::Mul, round, round_ty));
            piece.values[self.counter.index()] = Some(Place::Value(counter));
            piece.block(self.body)
        })?;
        b.ret(None);
        b.end();
        Ok(())
    }
}

/// Where a register's value is.
#[derive(Clone, Copy)]
enum Place {
    Value(Value),
    Variable(Variable),
}

/// A function under construction: a nest without its parallel bodies, or one such body.
struct Piece<'a> {
    b: &'a dyn Builder,
    nest: &'a Nest,
    symbol: &'a str,
    frame: Option<Value>,
    buffers: Vec<Value>,
    scalars: Vec<Value>,
    locals: Vec<Option<Value>>,
    values: Vec<Option<Place>>,
    set_once: Vec<bool>,
    tasks: Vec<Task<'a>>,
}

/// What a loop's rounds do, given the counter.
type Round<'r, 'a> = &'r mut dyn FnMut(&mut Piece<'a>, Value) -> Result<()>;

impl<'a> Piece<'a> {
    fn new(b: &'a dyn Builder, nest: &'a Nest, symbol: &'a str, buffers: Vec<Value>, scalars: Vec<Value>) -> Self {
        Self {
            b,
            nest,
            symbol,
            frame: None,
            buffers,
            scalars,
            locals: vec![None; nest.locals.len()],
            values: vec![None; nest.regs.len()],
            set_once: registers::set_once(nest),
            tasks: Vec::new(),
        }
    }

    /// Takes stack memory for local arrays.
    fn reserve(&mut self, locals: &[usize]) -> Result<()> {
        let bytes = |local: usize| {
            let local = self.nest.locals[local];
            local.len.checked_mul(local.dtype.size_bytes()).filter(|&bytes| bytes <= MAX_STACK_BYTES)
        };
        let total = locals.iter().try_fold(0, |total: usize, &local| Some(total + bytes(local)?));
        if total.is_none_or(|total| total > MAX_STACK_BYTES) {
            return Err(Diagnostic::internal(format!("local arrays of '{}' exceed the stack", self.symbol)));
        }
        for &local in locals {
            // Vectors may be read across the end of an array with a mask; whole ones never are.
            self.locals[local] = Some(self.b.stack(bytes(local).unwrap_or(0).max(1), 64));
        }
        Ok(())
    }

    fn ty(&self, reg: Reg) -> Result<Ty> {
        let RegType { dtype, lanes } = self.nest.regs[reg];
        Ok(Ty { lane: lane(dtype)?, lanes })
    }

    fn define(&mut self, reg: Reg, value: Value) {
        let place = &mut self.values[reg.index()];
        if self.set_once[reg.index()] {
            *place = Some(Place::Value(value));
            return;
        }
        let variable = match *place {
            Some(Place::Variable(variable)) => variable,
            _ => self.b.variable(value.ty),
        };
        *place = Some(Place::Variable(variable));
        self.b.set(variable, value);
    }

    fn register(&mut self, reg: Reg) -> Result<Value> {
        match self.values[reg.index()] {
            Some(Place::Value(value)) => Ok(value),
            Some(Place::Variable(variable)) => Ok(self.b.get(variable)),
            None => {
                // Read before any setting in this function (in a round that a first one sets it for): a variable.
                let variable = self.b.variable(self.ty(reg)?);
                self.values[reg.index()] = Some(Place::Variable(variable));
                Ok(self.b.get(variable))
            }
        }
    }

    fn dtype(&self, val: Val) -> DType {
        match val {
            Val::Reg(reg) => self.nest.regs[reg].dtype,
            Val::Const(c) => c.dtype,
        }
    }

    /// An operand as so many lanes; constants as this type.
    fn operand(&mut self, val: Val, dtype: DType, lanes: u16) -> Result<Value> {
        match val {
            Val::Const(c) => scalar::constant(self.b, c, dtype, lanes),
            Val::Reg(reg) => {
                let value = self.register(reg)?;
                Ok(if value.ty.lanes == lanes { value } else { self.b.splat(value, lanes) })
            }
        }
    }

    fn offset(&mut self, val: Val) -> Result<Value> {
        self.operand(val, DType::I64, 1)
    }

    fn memory(&self, memory: Memory) -> Result<(Value, DType)> {
        match memory {
            Memory::Buffer(index) => Ok((self.buffers[index], self.nest.buffers[index].dtype)),
            Memory::Local(index) => {
                let pointer = self.locals[index].ok_or_else(|| Diagnostic::internal("a local array without memory"))?;
                Ok((pointer, self.nest.locals[index].dtype))
            }
        }
    }

    fn address(&mut self, memory: Memory, offset: Val) -> Result<Value> {
        let (pointer, dtype) = self.memory(memory)?;
        let offset = self.offset(offset)?;
        Ok(self.b.element(pointer, offset, dtype.size_bytes()))
    }

    fn block(&mut self, stmts: &'a [NestStmt]) -> Result<()> {
        stmts.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &'a NestStmt) -> Result<()> {
        let b = self.b;
        match stmt {
            NestStmt::Set(reg, op) => {
                let value = self.op(self.nest.regs[*reg], op)?;
                debug_assert_eq!(value.ty, self.ty(*reg)?, "{op:?} has its register's type");
                self.define(*reg, value);
            }
            NestStmt::For { counter, begin, end, step, parallel, body } => {
                if *parallel && self.frame.is_some() {
                    return self.parallel(*counter, *begin, *end, *step, body);
                }
                if let (Val::Const(first), Val::Const(last)) = (begin, end) {
                    let (first, last) = (first.as_i64(), last.as_i64());
                    if first >= last {
                        return Ok(());
                    }
                    if first + step >= last {
                        self.values[counter.index()] = Some(Place::Value(b.int(Ty::I64, first)));
                        return self.block(body);
                    }
                }
                let (first, last) = (self.offset(*begin)?, self.offset(*end)?);
                let is_entered = matches!((begin, end), (Val::Const(_), Val::Const(_)));
                let mut round = |piece: &mut Self, value| {
                    piece.values[counter.index()] = Some(Place::Value(value));
                    piece.block(body)
                };
                if is_entered {
                    self.rotated(first, last, *step, &mut round)?;
                } else {
                    self.counted(first, last, *step, &mut round)?;
                }
            }
            NestStmt::If { cond, then_body, else_body } => {
                let cond = self.operand(*cond, DType::Bool, 1)?;
                let (then_label, else_label, join) = (b.label(), b.label(), b.label());
                b.branch(cond, then_label, else_label);
                for (label, body) in [(then_label, then_body), (else_label, else_body)] {
                    b.place(label);
                    self.block(body)?;
                    b.jump(join);
                }
                b.place(join);
            }
            NestStmt::Store { memory, offset, stride, value, mask } => {
                self.store(*memory, *offset, *stride, *value, *mask)?;
            }
            NestStmt::Prefetch { memory, offset } => {
                let address = self.address(*memory, *offset)?;
                b.prefetch(address);
            }
        }
        Ok(())
    }

    /// A loop that may have no rounds.
    fn counted(&mut self, first: Value, last: Value, step: i64, round: Round<'_, 'a>) -> Result<()> {
        let b = self.b;
        let (enter, exit) = (b.label(), b.label());
        b.branch(b.compare(Cmp::SLt, first, last), enter, exit);
        b.place(enter);
        self.rotated(first, last, step, round)?;
        b.jump(exit);
        b.place(exit);
        Ok(())
    }

    /// A loop with at least one round; the test is at its end.
    fn rotated(&mut self, first: Value, last: Value, step: i64, round: Round<'_, 'a>) -> Result<()> {
        let b = self.b;
        let counter = b.variable(Ty::I64);
        b.set(counter, first);
        let (again, exit) = (b.label(), b.label());
        b.jump(again);
        b.place(again);
        let now = b.get(counter);
        round(self, now)?;
        let next = b.inst2(Inst2::Add, now, b.int(Ty::I64, step));
        b.set(counter, next);
        b.branch(b.compare(Cmp::SLt, next, last), again, exit);
        b.place(exit);
        Ok(())
    }

    fn parallel(&mut self, counter: Reg, begin: Val, end: Val, step: i64, body: &'a [NestStmt]) -> Result<()> {
        let b = self.b;
        let (first, last) = (self.offset(begin)?, self.offset(end)?);
        let captured = registers::captured(self.nest, body, counter);
        let context = Context::new(self.nest, &captured)?;
        let memory = b.stack(context.size_bytes, 64);
        let at = |offset: usize| b.element(memory, b.int(Ty::I64, to_i64(offset)), 1);
        let shared = self.buffers.iter().chain(&self.scalars).copied();
        for (index, value) in shared.enumerate() {
            store_register(b, value, at(8 * index));
        }
        b.store(first, at(context.first));
        for &(reg, offset) in &context.captured {
            let value = self.register(reg)?;
            store_register(b, value, at(offset));
        }
        let symbol = format!("{}.task{}", self.symbol, self.tasks.len());
        let signature = Signature::new(&[Ty::PTR, Ty::I64, Ty::I64], None);
        let func = b.declare(&symbol, &signature, Linkage::Internal);
        let int = |value| b.int(Ty::I64, value);
        let span = b.inst2(Inst2::Add, b.inst2(Inst2::Sub, last, first), int(step - 1));
        let rounds = if step == 1 { span } else { b.inst2(Inst2::SDiv, span, int(step)) };
        let runtime = b.declare(
            "aot_rt_parallel_for",
            &Signature::new(&[Ty::PTR, Ty::I64, Ty::I64, Ty::PTR, Ty::PTR], None),
            Linkage::Import,
        );
        let frame = self.frame.ok_or_else(|| Diagnostic::internal("a parallel loop in a parallel loop"))?;
        let cost = int(i64::try_from(self.nest.cost).unwrap_or(i64::MAX));
        b.call(runtime, &[frame, rounds, cost, b.address(func), memory]);
        self.tasks.push(Task { symbol, func, body, counter, step, context });
        Ok(())
    }

    fn op(&mut self, to: RegType, op: &Op) -> Result<Value> {
        let b = self.b;
        let RegType { dtype, lanes } = to;
        match *op {
            Op::Copy(a) => self.operand(a, dtype, lanes),
            Op::Param(index) => {
                let from = Typed { value: self.scalars[index], dtype: self.nest.scalars[index] };
                Ok(b.splat(scalar::cast(b, from, dtype)?, lanes))
            }
            Op::Unary(op, a) => {
                let from = self.dtype(a);
                let value = self.operand(a, from, lanes)?;
                scalar::unary(b, op, Typed { value, dtype: from })
            }
            Op::Binary(op, a, c) => self.binary(op, a, c, lanes),
            Op::Fma(a, c, d) => {
                let value = |piece: &mut Self, val| piece.operand(val, dtype, lanes);
                let (a, c, d) = (value(self, a)?, value(self, c)?, value(self, d)?);
                if a.ty.lane.is_float() {
                    return Ok(b.fma(a, c, d));
                }
                let product = scalar::binary(b, BinaryOp::Mul, Typed { value: a, dtype }, c, None)?;
                scalar::binary(b, BinaryOp::Add, Typed { value: product, dtype }, d, None)
            }
            Op::Select(cond, a, c) => {
                let is_scalar = matches!(cond, Val::Reg(reg) if self.nest.regs[reg].lanes == 1);
                let cond = self.operand(cond, DType::Bool, if is_scalar { 1 } else { lanes })?;
                let (a, c) = (self.operand(a, dtype, lanes)?, self.operand(c, dtype, lanes)?);
                Ok(b.select(cond, a, c))
            }
            Op::Cast(a) => {
                let from = self.dtype(a);
                // Constants of narrower floats are rounded to their type first.
                if let Val::Const(c) = a
                    && (from == DType::F64 || !from.is_floating_point())
                {
                    let folded = if from == DType::F64 {
                        Const::from_f64(dtype, c.as_f64())
                    } else {
                        Const::from_i64(dtype, c.as_i64())
                    };
                    return scalar::constant(b, folded, dtype, lanes);
                }
                let value = self.operand(a, from, lanes)?;
                scalar::cast(b, Typed { value, dtype: from }, dtype)
            }
            Op::Load { memory, offset, stride, mask } => self.load(to, memory, offset, stride, mask),
            Op::Gather { memory, offsets, mask } => {
                let (pointer, _) = self.memory(memory)?;
                let offsets = self.operand(offsets, DType::I64, lanes)?;
                let mask = self.mask(mask, lanes)?;
                let loaded = b.gather(memory_ty(to)?, pointer, offsets, mask);
                Ok(from_memory(b, loaded, dtype))
            }
            Op::Iota(start) => {
                let start = self.operand(start, DType::I64, lanes)?;
                Ok(b.inst2(Inst2::Add, start, self.steps(lanes, 1)))
            }
            Op::Horizontal(op, reg) => {
                let value = self.register(reg)?;
                scalar::horizontal(b, op, Typed { value, dtype: self.nest.regs[reg].dtype })
            }
            Op::Extract(reg, lane) => {
                let value = self.register(reg)?;
                Ok(b.extract(value, lane))
            }
        }
    }

    fn binary(&mut self, op: BinaryOp, a: Val, c: Val, lanes: u16) -> Result<Value> {
        // A constant on the right saves checks, so those that commute are turned.
        let commutes = matches!(op, BinaryOp::Min | BinaryOp::Max);
        let (a, c) = if commutes && matches!((a, c), (Val::Const(_), Val::Reg(_))) { (c, a) } else { (a, c) };
        let dtype = if let Val::Reg(_) = a { self.dtype(a) } else { self.dtype(c) };
        let (left, right) = (self.operand(a, dtype, lanes)?, self.operand(c, dtype, lanes)?);
        let second = if let Val::Const(c) = c { Some(c) } else { None };
        scalar::binary(self.b, op, Typed { value: left, dtype }, right, second)
    }

    /// 0, stride, 2 * stride, ...
    fn steps(&self, lanes: u16, stride: i64) -> Value {
        let steps: Vec<_> = (0..lanes).map(|lane| self.b.int(Ty::I64, i64::from(lane) * stride)).collect();
        self.b.pack(&steps)
    }

    /// A mask in so many lanes; none where it is constantly true.
    fn mask(&mut self, mask: Option<Val>, lanes: u16) -> Result<Option<Value>> {
        match mask {
            Some(Val::Const(c)) if c.bits != 0 => Ok(None),
            Some(mask) => self.operand(mask, DType::Bool, lanes).map(Some),
            None => Ok(None),
        }
    }

    fn load(&mut self, to: RegType, memory: Memory, offset: Val, stride: i64, mask: Option<Val>) -> Result<Value> {
        let b = self.b;
        let ty = memory_ty(to)?;
        let (pointer, dtype) = self.memory(memory)?;
        let mask = self.mask(mask, to.lanes)?;
        let address = self.address(memory, offset)?;
        let one = Ty::scalar(ty.lane);
        let loaded = match (mask, stride) {
            (None, _) if ty.lanes == 1 => b.load(ty, address),
            (Some(mask), _) if ty.lanes == 1 => b.load_if(ty, address, mask),
            (None, 0) => b.splat(b.load(one, address), ty.lanes),
            (Some(mask), 0) => {
                let lanes = b.splat(b.load_if(one, address, b.any(mask)), ty.lanes);
                b.select(mask, lanes, b.zero(ty))
            }
            (None, 1) => b.load(ty, address),
            (Some(mask), 1) => b.load_masked(ty, address, mask),
            (None, _) => {
                let lane = |lane| b.load(one, b.element(address, b.int(Ty::I64, lane * stride), dtype.size_bytes()));
                b.pack(&(0..i64::from(ty.lanes)).map(lane).collect::<Vec<_>>())
            }
            (Some(mask), _) => {
                let offset = self.offset(offset)?;
                let offsets = b.inst2(Inst2::Add, b.splat(offset, ty.lanes), self.steps(ty.lanes, stride));
                b.gather(ty, pointer, offsets, Some(mask))
            }
        };
        Ok(from_memory(b, loaded, to.dtype))
    }

    fn store(&mut self, memory: Memory, offset: Val, stride: i64, value: Val, mask: Option<Val>) -> Result<()> {
        let b = self.b;
        let (_, dtype) = self.memory(memory)?;
        let lanes_of = |val: Val| if let Val::Reg(reg) = val { self.nest.regs[reg].lanes } else { 1 };
        let lanes = lanes_of(value).max(mask.map_or(1, lanes_of));
        let value = self.operand(value, dtype, lanes)?;
        let value = if value.ty.lane == Lane::I1 { b.convert(Conv::ZExt, value, Lane::I8) } else { value };
        let mask = self.mask(mask, lanes)?;
        let address = self.address(memory, offset)?;
        match mask {
            None if lanes == 1 || stride == 1 => b.store(value, address),
            Some(mask) if lanes == 1 => b.store_if(value, address, mask),
            Some(mask) if stride == 1 => b.store_masked(value, address, mask),
            _ => {
                for lane in 0..lanes {
                    let at = b.element(address, b.int(Ty::I64, i64::from(lane) * stride), dtype.size_bytes());
                    match mask {
                        Some(mask) => b.store_if(b.extract(value, lane), at, b.extract(mask, lane)),
                        None => b.store(b.extract(value, lane), at),
                    }
                }
            }
        }
        Ok(())
    }
}

/// The type a register's value has in memory.
fn memory_ty(reg: RegType) -> Result<Ty> {
    let lane = lane(reg.dtype)?;
    Ok(Ty { lane: if lane == Lane::I1 { Lane::I8 } else { lane }, lanes: reg.lanes })
}

fn from_memory(b: &dyn Builder, loaded: Value, dtype: DType) -> Value {
    if dtype == DType::Bool { b.compare(Cmp::Ne, loaded, b.zero(loaded.ty)) } else { loaded }
}

fn load_register(b: &dyn Builder, reg: RegType, pointer: Value) -> Result<Value> {
    Ok(from_memory(b, b.load(memory_ty(reg)?, pointer), reg.dtype))
}

fn store_register(b: &dyn Builder, value: Value, pointer: Value) {
    let value = if value.ty.lane == Lane::I1 { b.convert(Conv::ZExt, value, Lane::I8) } else { value };
    b.store(value, pointer);
}

fn to_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
