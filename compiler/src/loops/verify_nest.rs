//! Checks nests: registers and memories exist, types and lanes agree, parallel loops stand at the top, registers are set
//! before they are read.
//!
//! Costs one walk. A register that is set in one branch only, or in a loop that may run no round, counts as set after it:
//! schedules do so where they know better.

use super::nest::{Memory, Nest, NestStmt, Op, Reg, RegType, Val};
use super::{BinaryOp, ReduceOp, UnaryOp};
use crate::types::DType;

type Checked = Result<(), String>;

/// Whether a nest keeps the rules; the error names the nest and the statement.
pub fn verify_nest(nest: &Nest) -> Checked {
    let mut checker = Checker { nest, is_set: vec![false; nest.regs.len()], is_counter: vec![false; nest.regs.len()] };
    for (number, ty) in nest.regs.iter().enumerate() {
        if ty.lanes == 0 || !ty.lanes.is_power_of_two() {
            return Err(format!("nest {}: register r{number} has {} lanes", nest.name, ty.lanes));
        }
    }
    checker.block(&nest.body, true).map_err(|e| format!("nest {}: {e}", nest.name))
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(message()) }
}

struct Checker<'n> {
    nest: &'n Nest,
    is_set: Vec<bool>,
    is_counter: Vec<bool>,
}

impl Checker<'_> {
    fn block(&mut self, body: &[NestStmt], is_top: bool) -> Checked {
        for stmt in body {
            match stmt {
                NestStmt::Set(reg, op) => {
                    let ty = self.reg(*reg)?;
                    ensure(!self.is_counter[reg.0 as usize], || format!("the loop counter {reg} is set"))?;
                    self.op(ty, op).map_err(|e| format!("{reg} = {op:?}: {e}"))?;
                    self.is_set[reg.0 as usize] = true;
                }
                NestStmt::For { counter, begin, end, step, parallel, body } => {
                    ensure(!*parallel || is_top, || format!("the parallel loop over {counter} is inside a loop"))?;
                    ensure(*step > 0, || format!("the loop over {counter} has the step {step}"))?;
                    ensure(self.reg(*counter)? == RegType::INDEX, || {
                        format!("the loop counter {counter} is no index")
                    })?;
                    self.expect(*begin, RegType::INDEX)?;
                    self.expect(*end, RegType::INDEX)?;
                    let at = counter.0 as usize;
                    ensure(!self.is_counter[at], || format!("the loop over {counter} is in a loop over it"))?;
                    (self.is_set[at], self.is_counter[at]) = (true, true);
                    self.block(body, false)?;
                    self.is_counter[at] = false;
                }
                NestStmt::If { cond, then_body, else_body } => {
                    self.expect(*cond, RegType::scalar(DType::Bool))?;
                    self.block(then_body, false)?;
                    self.block(else_body, false)?;
                }
                NestStmt::Store { memory, offset, value, mask, .. } => {
                    let dtype = self.memory(*memory)?;
                    if let Memory::Buffer(n) = memory {
                        ensure(self.nest.buffers[*n].is_written, || format!("a store to p{n}, which is only read"))?;
                    }
                    self.expect(*offset, RegType::INDEX)?;
                    let ty = self.val(*value)?;
                    ensure(ty.dtype == dtype, || format!("a {} is stored to {memory}, of {dtype}", ty.dtype))?;
                    self.mask(*mask, ty.lanes)?;
                }
                NestStmt::Prefetch { memory, offset } => {
                    self.memory(*memory)?;
                    self.expect(*offset, RegType::INDEX)?;
                }
            }
        }
        Ok(())
    }

    fn reg(&self, reg: Reg) -> Result<RegType, String> {
        self.nest.regs.get(reg).copied().ok_or_else(|| format!("there is no register {reg}"))
    }

    /// The type of an operand that has a value.
    fn val(&self, val: Val) -> Result<RegType, String> {
        match val {
            Val::Const(c) => Ok(RegType::scalar(c.dtype)),
            Val::Reg(reg) => {
                let ty = self.reg(reg)?;
                ensure(self.is_set[reg.0 as usize], || format!("{reg} is read before it is set"))?;
                Ok(ty)
            }
        }
    }

    fn expect(&self, val: Val, want: RegType) -> Checked {
        let ty = self.val(val)?;
        ensure(ty == want, || format!("{val} is {ty:?}, not {want:?}"))
    }

    /// An operand for these lanes: as many, or one that spreads.
    fn lanes(&self, val: Val, lanes: u16) -> Result<DType, String> {
        let ty = self.val(val)?;
        ensure(ty.lanes == lanes || ty.lanes == 1, || format!("{val} has {} lanes, not {lanes}", ty.lanes))?;
        Ok(ty.dtype)
    }

    fn operand(&self, val: Val, want: RegType) -> Checked {
        let dtype = self.lanes(val, want.lanes)?;
        ensure(dtype == want.dtype, || format!("{val} is a {dtype}, not a {}", want.dtype))
    }

    fn mask(&self, mask: Option<Val>, lanes: u16) -> Checked {
        mask.map_or(Ok(()), |mask| self.operand(mask, RegType { dtype: DType::Bool, lanes }))
    }

    fn memory(&self, memory: Memory) -> Result<DType, String> {
        let dtype = match memory {
            Memory::Buffer(n) => self.nest.buffers.get(n).map(|buffer| buffer.dtype),
            Memory::Local(n) => self.nest.locals.get(n).map(|local| local.dtype),
        };
        dtype.ok_or_else(|| format!("there is no memory {memory}"))
    }

    fn op(&self, to: RegType, op: &Op) -> Checked {
        match op {
            Op::Copy(a) => self.operand(*a, to),
            Op::Param(n) => {
                let dtype = self.nest.scalars.get(*n).copied().ok_or_else(|| format!("there is no scalar s{n}"))?;
                ensure(to == RegType::scalar(dtype), || format!("a {dtype} is put in {to:?}"))
            }
            Op::Unary(UnaryOp::IsNan, a) => {
                self.lanes(*a, to.lanes)?;
                ensure(to.dtype == DType::Bool, || "a question gives a boolean".into())
            }
            Op::Unary(_, a) => self.operand(*a, to),
            Op::Binary(op, a, b) => {
                let (x, y) = (self.lanes(*a, to.lanes)?, self.lanes(*b, to.lanes)?);
                // The distance of a shift and the exponent of an integer power have the type of what they act on.
                ensure(x == y, || format!("operands of {x} and {y}"))?;
                let result = if BinaryOp::is_comparison(*op) { DType::Bool } else { x };
                ensure(to.dtype == result, || format!("a {result} is put in a {}", to.dtype))
            }
            Op::Fma(a, b, c) => [a, b, c].into_iter().try_for_each(|val| self.operand(*val, to)),
            Op::Select(c, a, b) => {
                self.mask(Some(*c), to.lanes)?;
                self.operand(*a, to)?;
                self.operand(*b, to)
            }
            Op::Cast(a) => self.lanes(*a, to.lanes).map(|_| ()),
            Op::Load { memory, offset, mask, .. } => {
                let dtype = self.memory(*memory)?;
                self.expect(*offset, RegType::INDEX)?;
                self.mask(*mask, to.lanes)?;
                ensure(dtype == to.dtype, || format!("{memory} is of {dtype}, not {}", to.dtype))
            }
            Op::Gather { memory, offsets, mask } => {
                let dtype = self.memory(*memory)?;
                self.operand(*offsets, RegType { dtype: DType::I64, lanes: to.lanes })?;
                self.mask(*mask, to.lanes)?;
                ensure(dtype == to.dtype, || format!("{memory} is of {dtype}, not {}", to.dtype))
            }
            Op::Iota(a) => {
                self.expect(*a, RegType::INDEX)?;
                ensure(to.dtype == DType::I64, || "counting gives an int64".into())
            }
            Op::Horizontal(op, a) => {
                let ty = self.val(Val::Reg(*a))?;
                let is_arg = matches!(op, ReduceOp::ArgMax | ReduceOp::ArgMin);
                ensure(!is_arg && to == RegType::scalar(ty.dtype), || format!("{a} is {ty:?}"))
            }
            Op::Extract(a, lane) => {
                let ty = self.val(Val::Reg(*a))?;
                ensure(*lane < ty.lanes && to == RegType::scalar(ty.dtype), || format!("{a} is {ty:?}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Const;
    use super::super::nest::NestBuffer;
    use super::*;

    fn nest(body: impl FnOnce(Reg, Reg) -> Vec<NestStmt>) -> Nest {
        let mut nest = Nest {
            name: "t".into(),
            buffers: vec![NestBuffer { dtype: DType::F32, is_written: true, align: 4 }],
            ..Nest::default()
        };
        let i = nest.regs.push(RegType::INDEX);
        let x = nest.regs.push(RegType { dtype: DType::F32, lanes: 8 });
        nest.body = body(i, x);
        nest
    }

    fn looped(counter: Reg, parallel: bool, body: Vec<NestStmt>) -> NestStmt {
        let bound = |n| Val::Const(Const::int(n));
        NestStmt::For { counter, begin: bound(0), end: bound(8), step: 1, parallel, body }
    }

    fn load(x: Reg, i: Reg, n: usize) -> NestStmt {
        NestStmt::Set(x, Op::Load { memory: Memory::Buffer(n), offset: Val::Reg(i), stride: 1, mask: None })
    }

    #[test]
    fn rules_of_nests() {
        let right = nest(|i, x| {
            let memory = Memory::Buffer(0);
            let store = NestStmt::Store { memory, offset: Val::Reg(i), stride: 1, value: Val::Reg(x), mask: None };
            vec![looped(i, true, vec![load(x, i, 0), store])]
        });
        verify_nest(&right).expect("it keeps the rules");
        let says = |nest: Nest, text: &str| {
            let error = verify_nest(&nest).expect_err(text);
            assert!(error.contains(text), "{error}");
        };
        says(nest(|i, x| vec![looped(i, false, vec![load(x, i, 1)])]), "there is no memory p1");
        says(nest(|i, x| vec![load(x, i, 0)]), "r0 is read before it is set");
        says(
            nest(|i, _| vec![looped(i, false, vec![looped(i, true, vec![])])]),
            "parallel loop over r0 is inside a loop",
        );
        let one = Val::Const(Const::int(1));
        says(nest(|_, x| vec![NestStmt::Set(x, Op::Copy(one))]), "is a Long, not a Float");
    }
}
