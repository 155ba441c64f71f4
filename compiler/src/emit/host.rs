//! Functions to machine code: `extern "C" fn(*mut Frame) -> i64` around calls of nests and runtime routines.
//!
//! Host variables are the backend's variables, so that loops over scalars run in machine registers. Object variables hold
//! counted pointers: they start null, own what they hold, and are released on every way out.

use super::builder::{Builder, Cmp, Conv, Func, Inst2, Label, Lane, Linkage, Signature, Ty, Value, Variable};
use super::last_uses::{self, LastUses};
use super::lists::Rest;
use super::scalar::{self, Typed};
use crate::diag::{Diagnostic, Result};
use crate::index::{Id as _, IndexVec};
use crate::loops::{
    Arg, Block, Buffer, BufferClass, BufferId, Dim, Function, HostExpr, InputKind, Launch, Layout, Operand, Program,
    Stmt, VarId, VarType, WeightId, raise_args,
};
use crate::types::DType;
use aot_runtime::abi::{Frame, Leaf, Slot, Status, Tag};
use std::mem::{offset_of, size_of};
use std::sync::Arc;

/// What functions share.
pub(super) struct Shared<'a> {
    /// The program.
    pub program: &'a Program,
    /// Emitted nests, in order.
    pub nests: &'a [Func],
    /// Where each weight lies in the weights section.
    pub weight_offsets: &'a [usize],
    /// Where each prepared tensor lies in their memory.
    pub prepared_offsets: &'a [usize],
}

/// Emits a function under this symbol.
///
/// # Errors
/// Internal ones: statements that scheduling should have removed, operands of wrong types.
pub(super) fn emit(b: &dyn Builder, shared: &Shared<'_>, function: &Function, symbol: &str) -> Result<Func> {
    let func = b.declare(symbol, &Signature::new(&[Ty::PTR], Some(Ty::I64)), Linkage::Hidden);
    let frame = b.begin(func)[0];
    let vars = function.vars.iter().map(|var| b.variable(var_ty(var.ty))).collect();
    let (status, exit) = (b.variable(Ty::I64), b.label());
    let mut host = Host { b, shared, function, frame, vars, last_uses: LastUses::of(function), status, exit };
    host.prologue()?;
    host.block(&function.body)?;
    // A body ends with `Return`; one that does not returns tree 0 without leaves, as an initialiser does.
    host.leave(b.int(Ty::I64, 0));
    host.epilogue();
    b.end();
    Ok(func)
}

fn var_ty(ty: VarType) -> Ty {
    Ty::scalar(match ty {
        VarType::Int => Lane::I64,
        VarType::Float => Lane::F64,
        VarType::Bool => Lane::I1,
        VarType::Object => Lane::Ptr,
    })
}

pub(super) struct Host<'a> {
    pub(super) b: &'a dyn Builder,
    shared: &'a Shared<'a>,
    function: &'a Function,
    frame: Value,
    pub(super) vars: IndexVec<VarId, Variable>,
    pub(super) last_uses: LastUses,
    /// What the function returns,
    status: Variable,
    /// and where it does.
    exit: Label,
}

impl Host<'_> {
    pub(super) fn int(&self, value: i64) -> Value {
        self.b.int(Ty::I64, value)
    }

    fn size(&self, value: usize) -> Value {
        self.int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub(super) fn at(&self, pointer: Value, offset: usize) -> Value {
        if offset == 0 { pointer } else { self.b.element(pointer, self.size(offset), 1) }
    }

    pub(super) fn field(&self, ty: Ty, pointer: Value, offset: usize) -> Value {
        self.b.load(ty, self.at(pointer, offset))
    }

    pub(super) fn put(&self, pointer: Value, offset: usize, value: Value) {
        self.b.store(value, self.at(pointer, offset));
    }

    pub(super) fn runtime(&self, name: &str, params: &[Ty], result: Option<Ty>, args: &[Value]) -> Option<Value> {
        let func = self.b.declare(name, &Signature::new(params, result), Linkage::Import);
        self.b.call(func, args)
    }

    pub(super) fn var_type(&self, var: VarId) -> VarType {
        self.function.vars[var].ty
    }

    // Leaves.

    fn input(&self, index: usize) -> Value {
        let inputs = self.field(Ty::PTR, self.frame, offset_of!(Frame, inputs));
        self.at(inputs, index * size_of::<Leaf>())
    }

    fn output(&self, index: usize) -> Value {
        let outputs = self.field(Ty::PTR, self.frame, offset_of!(Frame, outputs));
        self.at(outputs, index * size_of::<Leaf>())
    }

    /// Bits as stored in leaves and the state, as a value of a variable's type.
    pub(super) fn from_bits(&self, bits: Value, ty: VarType) -> Value {
        match ty {
            VarType::Int => bits,
            VarType::Float => self.b.convert(Conv::Bits, bits, Lane::F64),
            VarType::Bool => self.b.compare(Cmp::Ne, bits, self.int(0)),
            VarType::Object => self.b.convert(Conv::Bits, bits, Lane::Ptr),
        }
    }

    pub(super) fn to_bits(&self, value: Value) -> Value {
        match value.ty.lane {
            Lane::I1 => self.b.convert(Conv::ZExt, value, Lane::I64),
            Lane::F64 | Lane::Ptr => self.b.convert(Conv::Bits, value, Lane::I64),
            Lane::I8 | Lane::I16 | Lane::I32 | Lane::I64 | Lane::F32 => value,
        }
    }

    fn prologue(&mut self) -> Result<()> {
        let b = self.b;
        for (id, variable) in self.vars.iter_ids() {
            let ty = var_ty(self.var_type(id));
            b.set(*variable, b.zero(ty));
        }
        let mut is_set = vec![false; self.vars.len()];
        let bits_at = offset_of!(Leaf, bits);
        for (index, input) in self.function.inputs.iter().enumerate() {
            match &input.kind {
                InputKind::Tensor { buffer, .. } => {
                    for (axis, dim) in self.function.buffers[*buffer].dims.iter().enumerate() {
                        let Dim::Var(var) = *dim else { continue };
                        if !std::mem::replace(&mut is_set[var.index()], true) {
                            let offset = offset_of!(Leaf, sizes) + 8 * axis;
                            let size = self.field(Ty::I64, self.input(index), offset);
                            b.set(self.vars[var], size);
                        }
                    }
                }
                InputKind::Scalar { var, .. } => {
                    let bits = self.field(Ty::I64, self.input(index), bits_at);
                    b.set(self.vars[*var], self.from_bits(bits, self.var_type(*var)));
                }
                InputKind::None | InputKind::Str(_) => {}
                InputKind::Object(var) | InputKind::Shared { var, .. } => {
                    let object = self.field(Ty::PTR, self.input(index), bits_at);
                    self.runtime("aot_rt_retain", &[Ty::PTR], None, &[object]);
                    b.set(self.vars[*var], object);
                }
            }
        }
        Ok(())
    }

    /// Returns; the current block ends.
    fn leave(&self, status: Value) {
        self.b.set(self.status, status);
        self.b.jump(self.exit);
    }

    /// Releases objects and returns, wherever the function is left.
    fn epilogue(&self) {
        self.b.place(self.exit);
        for (id, variable) in self.vars.iter_ids() {
            if self.var_type(id) == VarType::Object {
                self.runtime("aot_rt_release", &[Ty::PTR], None, &[self.b.get(*variable)]);
            }
        }
        self.b.ret(Some(self.b.get(self.status)));
    }

    /// Leaves with this status if it is negative, else goes on. The error happened at this place of the user's, if any.
    fn leave_if_failed(&self, status: Value, place: &str) {
        let (failed, next) = (self.b.label(), self.b.label());
        self.b.branch_usually(self.b.compare(Cmp::SGe, status, self.int(0)), next, failed);
        self.b.place(failed);
        self.leave_failed(status, place);
        self.b.place(next);
    }

    /// Leaves with the status of what failed at this place of the user's, if any.
    fn leave_failed(&self, status: Value, place: &str) {
        if !place.is_empty() {
            let args = [self.frame, self.b.bytes(place.as_bytes()), self.size(place.len())];
            self.runtime("aot_rt_failed_at", &[Ty::PTR, Ty::PTR, Ty::I64], None, &args);
        }
        self.leave(status);
    }

    // Operands.

    /// A number, or the pointer a variable holds.
    pub(super) fn number(&self, operand: &Operand) -> Result<Typed> {
        match operand {
            Operand::Const(c) => Ok(Typed { value: scalar::constant(self.b, *c, c.dtype, 1)?, dtype: c.dtype }),
            Operand::Var(var) => {
                let dtype = self.var_type(*var).dtype().unwrap_or(DType::I64);
                Ok(Typed { value: self.b.get(self.vars[*var]), dtype })
            }
            Operand::Str(_) => Err(Diagnostic::internal("text where a number is wanted")),
        }
    }

    fn condition(&self, operand: &Operand) -> Result<Value> {
        let typed = self.number(operand)?;
        scalar::cast(self.b, typed, DType::Bool)
    }

    fn dim(&self, dim: Dim) -> Value {
        match dim {
            Dim::Const(n) => self.int(n),
            Dim::Var(var) => self.b.get(self.vars[var]),
        }
    }

    /// An owned object.
    fn object(&self, operand: &Operand) -> Result<Value> {
        match operand {
            Operand::Str(text) => {
                let args = [self.frame, self.b.bytes(text.as_bytes()), self.size(text.len())];
                let object = self.runtime("aot_rt_text", &[Ty::PTR, Ty::PTR, Ty::I64], Some(Ty::PTR), &args);
                object.ok_or_else(|| Diagnostic::internal("a call without its result"))
            }
            Operand::Var(var) if self.var_type(*var) == VarType::Object => {
                let object = self.b.get(self.vars[*var]);
                self.runtime("aot_rt_retain", &[Ty::PTR], None, &[object]);
                Ok(object)
            }
            // A null object, as constants of no type are.
            Operand::Const(c) if c.bits == 0 => Ok(self.b.zero(Ty::PTR)),
            Operand::Var(_) | Operand::Const(_) => Err(Diagnostic::internal("a number where an object is wanted")),
        }
    }

    /// Sets a variable; an object is owned by it from now on.
    pub(super) fn assign(&self, var: VarId, value: Value) {
        let (b, variable) = (self.b, self.vars[var]);
        if self.var_type(var) == VarType::Object {
            let former = b.get(variable);
            b.set(variable, value);
            let (held, next) = (b.label(), b.label());
            b.branch(b.compare(Cmp::Ne, self.to_bits(former), self.int(0)), held, next);
            b.place(held);
            self.runtime("aot_rt_release", &[Ty::PTR], None, &[former]);
            b.jump(next);
            b.place(next);
        } else {
            b.set(variable, value);
        }
    }

    fn expr(&self, expr: &HostExpr, to: VarType) -> Result<Value> {
        let b = self.b;
        let Some(dtype) = to.dtype() else {
            return match expr {
                HostExpr::Copy(operand) => self.object(operand),
                HostExpr::Select(cond, yes, no) => {
                    let (yes, no) = (self.object(yes)?, self.object(no)?);
                    let cond = self.condition(cond)?;
                    self.runtime("aot_rt_release", &[Ty::PTR], None, &[b.select(cond, no, yes)]);
                    Ok(b.select(cond, yes, no))
                }
                HostExpr::Unary(..) | HostExpr::Binary(..) | HostExpr::Cast(..) => {
                    Err(Diagnostic::internal("arithmetic on objects"))
                }
            };
        };
        let (value, from) = match expr {
            HostExpr::Copy(a) => {
                let a = self.number(a)?;
                (a.value, a.dtype)
            }
            HostExpr::Unary(op, a) => {
                let a = self.number(a)?;
                let result = scalar::unary(b, *op, a)?;
                (result, if result.ty.lane == Lane::I1 { DType::Bool } else { a.dtype })
            }
            HostExpr::Binary(op, a, c) => {
                if let (true, Operand::Var(var)) = (op.is_comparison(), a)
                    && self.var_type(*var) == VarType::Object
                {
                    return self.compare_objects(*op, a, c);
                }
                let second = if let Operand::Const(c) = c { Some(*c) } else { None };
                let (a, c) = (self.number(a)?, self.number(c)?);
                let right = scalar::cast(b, c, a.dtype)?;
                let result = scalar::binary(b, *op, a, right, second)?;
                (result, if result.ty.lane == Lane::I1 { DType::Bool } else { a.dtype })
            }
            HostExpr::Select(cond, yes, no) => {
                let (yes, no) = (self.number(yes)?, self.number(no)?);
                let (yes, no) = (scalar::cast(b, yes, dtype)?, scalar::cast(b, no, dtype)?);
                (b.select(self.condition(cond)?, yes, no), dtype)
            }
            HostExpr::Cast(through, a) => {
                let a = self.number(a)?;
                (scalar::cast(b, a, *through)?, *through)
            }
        };
        scalar::cast(b, Typed { value, dtype: from }, dtype)
    }

    /// Objects compare by identity: whether a variable is null.
    fn compare_objects(&self, op: crate::loops::BinaryOp, a: &Operand, c: &Operand) -> Result<Value> {
        let bits = |operand: &Operand| Ok::<_, Box<Diagnostic>>(self.to_bits(self.number(operand)?.value));
        scalar::binary(self.b, op, Typed { value: bits(a)?, dtype: DType::I64 }, bits(c)?, None)
    }

    // Buffers.

    fn buffer(&self, id: BufferId) -> &Buffer {
        &self.function.buffers[id]
    }

    /// The address of a buffer's first element.
    fn base(&self, id: BufferId) -> Result<Value> {
        let buffer = self.buffer(id);
        let frame = |offset| self.field(Ty::PTR, self.frame, offset);
        Ok(match buffer.class {
            BufferClass::Input(index) => self.field(Ty::PTR, self.input(index), offset_of!(Leaf, bits)),
            BufferClass::Output(index) => self.field(Ty::PTR, self.output(index), offset_of!(Leaf, bits)),
            BufferClass::Weight(weight) => self.at(frame(offset_of!(Frame, weights)), self.weight_offset(weight)?),
            BufferClass::Prepared(prepared) => {
                let offset = self.shared.prepared_offsets.get(prepared.index()).copied();
                let offset = offset.ok_or_else(|| Diagnostic::internal("a prepared tensor that the program lacks"))?;
                self.at(frame(offset_of!(Frame, prepared)), offset)
            }
            BufferClass::Temp { offset } => {
                let offset = offset.ok_or_else(|| Diagnostic::internal("a temporary buffer without a place"))?;
                self.at(frame(offset_of!(Frame, arena)), offset)
            }
            BufferClass::Slot(slot) => {
                let offset = slot * size_of::<Slot>() + offset_of!(Slot, data);
                self.field(Ty::PTR, frame(offset_of!(Frame, slots)), offset)
            }
            BufferClass::Alias { of, offset } => {
                let base = self.base(of)?;
                self.b.element(base, self.dim(offset), buffer.dtype.size_bytes())
            }
            BufferClass::Object(var) => {
                let object = self.b.get(self.vars[var]);
                let data = self.runtime("aot_rt_tensor_data", &[Ty::PTR], Some(Ty::PTR), &[object]);
                data.ok_or_else(|| Diagnostic::internal("a call without its result"))?
            }
        })
    }

    fn weight_offset(&self, weight: WeightId) -> Result<usize> {
        let offset = self.shared.weight_offsets.get(weight.index()).copied();
        offset.ok_or_else(|| Diagnostic::internal("a weight that the program lacks"))
    }

    /// Writes what describes a buffer as a tensor.
    fn tensor_leaf(&self, leaf: Value, id: BufferId) -> Result<()> {
        let base = self.base(id)?;
        let buffer = self.buffer(id);
        if buffer.dims.len() > aot_runtime::abi::MAX_RANK {
            return Err(Diagnostic::unsupported("a tensor of more than 16 dimensions"));
        }
        self.put(leaf, offset_of!(Leaf, tag), self.int(Tag::Tensor as i64));
        self.put(leaf, offset_of!(Leaf, bits), base);
        self.put(leaf, offset_of!(Leaf, dtype), self.int(buffer.dtype.code()));
        self.put(leaf, offset_of!(Leaf, rank), self.size(buffer.dims.len()));
        for (axis, &dim) in buffer.dims.iter().enumerate() {
            self.put(leaf, offset_of!(Leaf, sizes) + 8 * axis, self.dim(dim));
        }
        Ok(())
    }

    fn scalar_leaf(&self, leaf: Value, tag: Tag, bits: Value) {
        self.put(leaf, offset_of!(Leaf, tag), self.int(tag as i64));
        self.put(leaf, offset_of!(Leaf, bits), bits);
    }

    fn number_leaf(&self, leaf: Value, typed: Typed) {
        let tag = match typed.value.ty.lane {
            Lane::I1 => Tag::Bool,
            Lane::F64 => Tag::Float,
            Lane::Ptr => Tag::Object,
            Lane::I8 | Lane::I16 | Lane::I32 | Lane::I64 | Lane::F32 => Tag::Int,
        };
        self.scalar_leaf(leaf, tag, self.to_bits(typed.value));
    }

    // Statements.

    fn block(&mut self, block: &Block) -> Result<()> {
        block.0.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<()> {
        let b = self.b;
        match stmt {
            Stmt::Assign(var, HostExpr::Copy(Operand::Var(from)))
                if from != var
                    && self.var_type(*var) == VarType::Object
                    && self.var_type(*from) == VarType::Object
                    && self.last_uses.is_last(stmt, *from) =>
            {
                let object = self.take(*from);
                self.assign(*var, object);
            }
            Stmt::Assign(var, expr) => {
                let value = self.expr(expr, self.var_type(*var))?;
                self.assign(*var, value);
            }
            Stmt::Kernel(kernel) => {
                return Err(Diagnostic::internal(format!("kernel '{}' is not scheduled", kernel.name)));
            }
            Stmt::Launch(launch) => self.launch(launch)?,
            Stmt::Alloc(id) => self.alloc(*id)?,
            Stmt::Read(var, id) => {
                let dtype = self.buffer(*id).dtype;
                let lane = scalar::lane(dtype)?;
                let memory = if lane == Lane::I1 { Lane::I8 } else { lane };
                let loaded = b.load(Ty::scalar(memory), self.base(*id)?);
                let value = if lane == Lane::I1 { b.compare(Cmp::Ne, loaded, b.zero(loaded.ty)) } else { loaded };
                let to = self.var_type(*var).dtype();
                let to = to.ok_or_else(|| Diagnostic::internal("an element read into an object"))?;
                b.set(self.vars[*var], scalar::cast(b, Typed { value, dtype }, to)?);
            }
            Stmt::LoadState(var, index) => {
                let state = self.field(Ty::PTR, self.frame, offset_of!(Frame, state));
                let bits = self.field(Ty::I64, state, 8 * index);
                let value = self.from_bits(bits, self.var_type(*var));
                if self.var_type(*var) == VarType::Object {
                    // The state keeps its reference.
                    self.runtime("aot_rt_retain", &[Ty::PTR], None, &[value]);
                }
                self.assign(*var, value);
            }
            Stmt::StoreState(index, operand) => {
                let state = self.field(Ty::PTR, self.frame, offset_of!(Frame, state));
                let is_object = match operand {
                    Operand::Const(_) => false,
                    Operand::Str(_) => true,
                    Operand::Var(var) => self.var_type(*var) == VarType::Object,
                };
                if is_object {
                    let value = self.object(operand)?;
                    let former = self.field(Ty::I64, state, 8 * index);
                    self.put(state, 8 * index, self.to_bits(value));
                    self.runtime("aot_rt_release", &[Ty::PTR], None, &[self.from_bits(former, VarType::Object)]);
                } else {
                    self.put(state, 8 * index, self.to_bits(self.number(operand)?.value));
                }
            }
            Stmt::If(cond, yes, no) => {
                let (yes_label, no_label, join) = (b.label(), b.label(), b.label());
                b.branch(self.condition(cond)?, yes_label, no_label);
                for (label, block) in [(yes_label, yes), (no_label, no)] {
                    b.place(label);
                    self.block(block)?;
                    b.jump(join);
                }
                b.place(join);
            }
            Stmt::While(var, body) => {
                let (test, round, exit) = (b.label(), b.label(), b.label());
                b.jump(test);
                b.place(test);
                b.branch(b.get(self.vars[*var]), round, exit);
                b.place(round);
                self.block(body)?;
                b.jump(test);
                b.place(exit);
            }
            Stmt::Call { routine, args, results, place } => {
                let taken = self.extended(stmt, routine, args);
                let routine = if taken.is_some() { "str_extend" } else { routine };
                if self.put_together(routine, args, results, taken)? {
                    // Appending does not fail.
                } else if let Some(inline) = self.inline(stmt, routine, args, results)? {
                    let next = b.label();
                    match self.usual_case(&inline, next) {
                        Rest::Nothing => {}
                        Rest::Fails => {
                            let status = self.call(routine, args, results, taken)?.0;
                            // It fails, as the usual case is all that succeeds.
                            let failed = b.compare(Cmp::SLt, status, self.int(0));
                            let status = b.select(failed, status, self.int(Status::Internal as i64));
                            self.leave_failed(status, place);
                        }
                        Rest::Succeeds => {
                            self.call_checked(routine, args, results, taken, place)?;
                            b.jump(next);
                        }
                    }
                    b.place(next);
                } else {
                    self.call_checked(routine, args, results, taken, place)?;
                }
            }
            Stmt::Check { cond, class, message, parts, place } => {
                let (failed, next) = (b.label(), b.label());
                b.branch_usually(self.condition(cond)?, next, failed);
                b.place(failed);
                if parts.is_empty() {
                    self.leave(self.raise(class, message, place)?);
                } else {
                    let (status, _) = self.call("raise_format", &raise_args(class, message, parts), &[], None)?;
                    self.leave_failed(status, place);
                }
                b.place(next);
            }
            Stmt::Raise { class, message, place } => {
                let status = self.raise(class, message, place)?;
                self.leave(status);
                // Statements after it are never reached, but are emitted.
                b.place(b.label());
            }
            Stmt::Return(tree, leaves) => {
                for (index, leaf) in leaves.iter().enumerate() {
                    self.result(index, leaf)?;
                }
                self.leave(self.size(*tree));
                b.place(b.label());
            }
        }
        Ok(())
    }

    fn result(&self, index: usize, arg: &Arg) -> Result<()> {
        let leaf = self.output(index);
        match arg {
            Arg::Buffer(id) => {
                self.tensor_leaf(leaf, *id)?;
                if let Some(var) = last_uses::owner(self.function, *id) {
                    let object = self.b.get(self.vars[var]);
                    self.runtime("aot_rt_keep", &[Ty::PTR, Ty::PTR], None, &[self.frame, object]);
                }
            }
            Arg::Scalar(Operand::Str(text)) => {
                let object = self.object(&Operand::Str(text.clone()))?;
                self.scalar_leaf(leaf, Tag::Object, self.to_bits(object));
            }
            Arg::Scalar(operand) => {
                let typed = self.number(operand)?;
                if typed.value.ty.lane == Lane::Ptr {
                    self.runtime("aot_rt_retain", &[Ty::PTR], None, &[typed.value]);
                }
                self.number_leaf(leaf, typed);
            }
        }
        Ok(())
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        let b = self.b;
        let nest = self.shared.program.nests.get(launch.nest);
        let (Some(nest), Some(&func)) = (nest, self.shared.nests.get(launch.nest)) else {
            return Err(Diagnostic::internal(format!("nest {} does not exist", launch.nest)));
        };
        if launch.buffers.len() != nest.buffers.len() || launch.scalars.len() != nest.scalars.len() {
            return Err(Diagnostic::internal(format!("nest '{}' gets the wrong arguments", nest.name)));
        }
        let mut args = vec![self.frame];
        for &id in &launch.buffers {
            args.push(self.base(id)?);
        }
        for (operand, &dtype) in launch.scalars.iter().zip(&nest.scalars) {
            args.push(scalar::cast(b, self.number(operand)?, dtype)?);
        }
        b.call(func, &args);
        Ok(())
    }

    fn alloc(&self, id: BufferId) -> Result<()> {
        let buffer = self.buffer(id);
        let BufferClass::Slot(slot) = buffer.class else {
            return Err(Diagnostic::internal(format!("buffer '{}' of fixed memory is allocated", buffer.name)));
        };
        let mut bytes = self.size(buffer.dtype.size_bytes());
        for (axis, &dim) in buffer.dims.iter().enumerate() {
            let mut extent = self.dim(dim);
            if let Layout::Blocked { dim, block } = buffer.layout
                && dim == axis
            {
                let block = self.size(block);
                let up = self.b.inst2(Inst2::Add, extent, self.b.inst2(Inst2::Sub, block, self.int(1)));
                extent = self.b.inst2(Inst2::Mul, self.b.inst2(Inst2::SDiv, up, block), block);
            }
            bytes = self.b.inst2(Inst2::Mul, bytes, extent);
        }
        let args = [self.frame, self.size(slot), bytes];
        if let Some(status) = self.runtime("aot_rt_slot", &[Ty::PTR, Ty::I64, Ty::I64], Some(Ty::I64), &args) {
            self.leave_if_failed(status, "");
        }
        Ok(())
    }

    /// The text that a call makes longer, if nothing uses it afterwards: then it may grow where it lies.
    fn extended(&self, stmt: &Stmt, routine: &str, args: &[Arg]) -> Option<VarId> {
        let ("str_format", [_, Arg::Scalar(Operand::Var(text)), others @ ..]) = (routine, args) else { return None };
        let is_same = |arg: &Arg| matches!(arg, Arg::Scalar(Operand::Var(var)) if var == text);
        let is_object = self.var_type(*text) == VarType::Object;
        (is_object && !others.iter().any(is_same) && self.last_uses.is_last(stmt, *text)).then_some(*text)
    }

    /// The object in a variable, whose reference it loses.
    pub(super) fn take(&self, var: VarId) -> Value {
        let object = self.b.get(self.vars[var]);
        self.b.set(self.vars[var], self.b.zero(Ty::PTR));
        object
    }

    /// Calls a routine, and goes on with its results if it succeeds.
    fn call_checked(
        &self,
        routine: &str,
        args: &[Arg],
        results: &[VarId],
        taken: Option<VarId>,
        place: &str,
    ) -> Result<()> {
        let (status, bits) = self.call(routine, args, results, taken)?;
        self.leave_if_failed(status, place);
        for (index, &var) in results.iter().enumerate() {
            let value = self.field(Ty::I64, bits, 8 * index);
            self.assign(var, self.from_bits(value, self.var_type(var)));
        }
        Ok(())
    }

    /// Calls a routine; the reference in `taken`, an operand, becomes the routine's. Gives the status and where results are.
    fn call(&self, routine: &str, args: &[Arg], results: &[VarId], taken: Option<VarId>) -> Result<(Value, Value)> {
        let b = self.b;
        let leaves = b.stack(args.len().max(1) * size_of::<Leaf>(), 16);
        for (index, arg) in args.iter().enumerate() {
            let leaf = self.at(leaves, index * size_of::<Leaf>());
            match arg {
                Arg::Buffer(id) => self.tensor_leaf(leaf, *id)?,
                Arg::Scalar(Operand::Str(text)) => {
                    self.scalar_leaf(leaf, Tag::Text, self.to_bits(b.bytes(text.as_bytes())));
                    self.put(leaf, offset_of!(Leaf, sizes), self.size(text.len()));
                }
                Arg::Scalar(operand) => self.number_leaf(leaf, self.number(operand)?),
            }
        }
        if let Some(var) = taken {
            self.take(var);
        }
        let bits = b.stack(results.len().max(1) * 8, 8);
        let symbol = format!("aot_rt_{routine}");
        let params = [Ty::PTR, Ty::PTR, Ty::I64, Ty::PTR];
        let args = [self.frame, leaves, self.size(args.len()), bits];
        let status = self.runtime(&symbol, &params, Some(Ty::I64), &args);
        Ok((status.ok_or_else(|| Diagnostic::internal("a call without its result"))?, bits))
    }

    /// Records an exception; gives the status.
    fn raise(&self, class: &Arc<str>, message: &Operand, place: &Arc<str>) -> Result<Value> {
        let b = self.b;
        let text = |text: &str| [b.bytes(text.as_bytes()), self.size(text.len())];
        let mut args = vec![self.frame];
        args.extend(text(class));
        let mut params = vec![Ty::PTR, Ty::PTR, Ty::I64];
        let name = match message {
            Operand::Str(message) => {
                args.extend(text(message));
                params.extend([Ty::PTR, Ty::I64]);
                "aot_rt_raise"
            }
            Operand::Var(var) if self.var_type(*var) == VarType::Object => {
                args.push(b.get(self.vars[*var]));
                params.push(Ty::PTR);
                "aot_rt_raise_object"
            }
            Operand::Var(_) | Operand::Const(_) => return Err(Diagnostic::internal("a message that is no text")),
        };
        args.extend(text(place));
        params.extend([Ty::PTR, Ty::I64]);
        let status = self.runtime(name, &params, Some(Ty::I64), &args);
        status.ok_or_else(|| Diagnostic::internal("a call without its result"))
    }
}
