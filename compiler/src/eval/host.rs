//! Runs the host statements of a function: variables, control flow, memory of buffers, kernels.

use super::column::Column;
use super::kernel::{self, Place, World};
use crate::diag::{Diagnostic, Result};
use crate::index::Id as _;
use crate::loops::{
    Arg, Block, BufferClass, BufferId, Dim, Expr, Function, HostExpr, InputKind, Kernel, Operand, Program, Stmt, VarId,
    VarType, raise_args,
};
use crate::types::DType;
use std::borrow::Cow;
use std::collections::HashMap;

/// How objects and routines reach the runtime library; [`NoObjects`] where there is none.
pub(super) trait Objects {
    /// One more reference to an object.
    fn retain(&mut self, object: u64);
    /// One reference fewer.
    fn release(&mut self, object: u64);
    /// A new string object.
    fn text(&mut self, text: &str) -> Result<u64>;
    /// Copies the contents of a tensor object of this size.
    fn read_tensor(&mut self, object: u64, bytes: usize) -> Result<Vec<u8>>;
    /// Writes the contents of a tensor object.
    fn write_tensor(&mut self, object: u64, bytes: &[u8]) -> Result<()>;
    /// Calls a routine; gives the bits of its results, or a status. Tensors may be written to.
    fn call(
        &mut self,
        routine: &str,
        args: &mut [CallArg],
        n_results: usize,
    ) -> Result<std::result::Result<Vec<u64>, i64>>;
    /// Says where the user wrote the operator whose routine just failed.
    fn failed_at(&mut self, place: &str);
}

/// An argument of a routine.
pub(super) enum CallArg {
    /// A number and its type.
    Scalar(VarType, u64),
    /// Constant text.
    Text(std::sync::Arc<str>),
    /// A tensor's type, extents and contents.
    Tensor(DType, Vec<i64>, Vec<u8>),
}

/// For evaluation without a runtime: functions that use objects or routines are refused.
pub(super) struct NoObjects;

impl Objects for NoObjects {
    fn retain(&mut self, _: u64) {}
    fn release(&mut self, _: u64) {}
    fn text(&mut self, _: &str) -> Result<u64> {
        Err(Diagnostic::unsupported("evaluation of run-time objects without a runtime"))
    }
    fn read_tensor(&mut self, _: u64, _: usize) -> Result<Vec<u8>> {
        Err(Diagnostic::unsupported("evaluation of run-time objects without a runtime"))
    }
    fn write_tensor(&mut self, _: u64, _: &[u8]) -> Result<()> {
        Err(Diagnostic::unsupported("evaluation of run-time objects without a runtime"))
    }
    fn call(&mut self, routine: &str, _: &mut [CallArg], _: usize) -> Result<std::result::Result<Vec<u64>, i64>> {
        Err(Diagnostic::unsupported(format!("evaluation of the routine {routine} without a runtime")))
    }
    fn failed_at(&mut self, _: &str) {}
}

/// Why a function ended other than by `Return`.
#[derive(Debug)]
pub(super) enum Stop {
    /// It cannot be evaluated.
    Failed(Box<Diagnostic>),
    /// The model raised an exception.
    Raised {
        /// Exception class; may be empty.
        class: String,
        /// Constant text, or a string object (owned by nobody: the function's references are gone).
        message: Message,
        /// Where the user wrote it.
        place: String,
    },
    /// A routine failed with this status and recorded why.
    Status(i64),
}

/// The message of an exception.
#[derive(Debug)]
pub(super) enum Message {
    /// Constant text.
    Text(String),
    /// A string object, with a reference of its own.
    Object(u64),
}

impl From<Box<Diagnostic>> for Stop {
    fn from(diagnostic: Box<Diagnostic>) -> Self {
        Self::Failed(diagnostic)
    }
}

/// What a leaf of the arguments or results is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A number, or an object with a reference of its own, as bits.
    Scalar(VarType, u64),
    /// A row-major tensor.
    Tensor(DType, Vec<i64>, Vec<u8>),
}

/// The state that outlives a call.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Scalars.
    pub(super) scalars: Vec<u64>,
    /// Growable memory.
    pub(super) slots: Vec<Vec<u8>>,
    /// What the program's prepare function computed: the same for all instances.
    pub(super) prepared: Vec<Vec<u8>>,
}

/// A function in progress.
pub(super) struct Machine<'p> {
    function: &'p Function,
    vars: Vec<u64>,
    scalars: Vec<u64>,
    n_slots: usize,
    n_prepared: usize,
    /// The slots, what is prepared, then one memory for each buffer that has its own.
    memory: Vec<Cow<'p, [u8]>>,
    objects: &'p mut dyn Objects,
}

enum Flow {
    Next,
    Return(usize, Vec<Value>),
}

fn internal(message: impl Into<String>) -> Stop {
    Stop::Failed(Diagnostic::internal(message))
}

/// Runs a function. `inputs` are its leaves in order: tensors and scalars (anything for the kinds without a value). State is
/// changed in place; the contents of mutated tensor inputs come back in `inputs`.
pub(super) fn run<'p>(
    program: &'p Program,
    function: &'p Function,
    inputs: &mut [Value],
    state: &mut State,
    objects: &'p mut dyn Objects,
) -> std::result::Result<(usize, Vec<Value>), Stop> {
    state.scalars.resize(program.n_state_scalars, 0);
    state.slots.resize(program.n_slots, Vec::new());
    state.prepared.resize(program.prepared.len(), Vec::new());
    let shared = state.slots.drain(..).chain(state.prepared.drain(..));
    let mut memory: Vec<Cow<'p, [u8]>> = shared.map(Cow::Owned).collect();
    for buffer in function.buffers.iter() {
        memory.push(match buffer.class {
            BufferClass::Weight(w) => match program.weights.get(w) {
                Some(weight) => weight.data.contiguous_bytes(),
                None => return Err(internal(format!("there is no weight {w}"))),
            },
            _ => Cow::Owned(Vec::new()),
        });
    }
    let mut machine = Machine {
        function,
        vars: vec![0; function.vars.len()],
        scalars: std::mem::take(&mut state.scalars),
        n_slots: program.n_slots,
        n_prepared: program.prepared.len(),
        memory,
        objects,
    };
    let result = machine.enter(inputs).and_then(|()| machine.block(&function.body));
    for (id, var) in function.vars.iter_ids() {
        if var.ty == VarType::Object {
            machine.objects.release(machine.vars[id.index()]);
        }
    }
    // Mutated inputs and the state go back, whatever happened.
    for (input, value) in function.inputs.iter().zip(inputs) {
        if let (InputKind::Tensor { buffer, .. }, Value::Tensor(_, _, bytes)) = (&input.kind, value) {
            let storage = machine.storage(*buffer);
            *bytes = std::mem::take(&mut machine.memory[storage]).into_owned();
        }
    }
    state.scalars = machine.scalars;
    state.slots = machine.memory.drain(..program.n_slots).map(Cow::into_owned).collect();
    state.prepared = machine.memory.drain(..program.prepared.len()).map(Cow::into_owned).collect();
    match result? {
        Flow::Return(tree, values) => Ok((tree, values)),
        Flow::Next => Err(internal(format!("function {} ends without a return", function.name))),
    }
}

impl Machine<'_> {
    /// Where the memory of a buffer that has its own is.
    fn storage(&self, buffer: BufferId) -> usize {
        self.n_slots + self.n_prepared + buffer.index()
    }

    /// Takes the arguments: contents of tensors, variable dims, scalars.
    fn enter(&mut self, inputs: &mut [Value]) -> std::result::Result<(), Stop> {
        if inputs.len() != self.function.inputs.len() {
            let (have, want) = (inputs.len(), self.function.inputs.len());
            return Err(internal(format!("function {} takes {want} inputs, not {have}", self.function.name)));
        }
        let mut set = vec![false; self.vars.len()];
        for (input, value) in self.function.inputs.iter().zip(inputs) {
            let wrong = || internal(format!("input {} of function {} does not fit", input.name, self.function.name));
            match (&input.kind, value) {
                (InputKind::Tensor { buffer, .. }, Value::Tensor(dtype, sizes, bytes)) => {
                    let info = &self.function.buffers[*buffer];
                    if info.dtype != *dtype || info.dims.len() != sizes.len() {
                        return Err(wrong());
                    }
                    for (&dim, &size) in info.dims.iter().zip(&*sizes) {
                        let fits = match dim {
                            Dim::Const(n) => n == size,
                            Dim::Var(var) if set[var.index()] => self.vars[var.index()] == size.cast_unsigned(),
                            Dim::Var(var) => {
                                self.vars[var.index()] = size.cast_unsigned();
                                set[var.index()] = true;
                                true
                            }
                        };
                        if !fits {
                            return Err(wrong());
                        }
                    }
                    let storage = self.storage(*buffer);
                    self.memory[storage] = Cow::Owned(std::mem::take(bytes));
                }
                (InputKind::Scalar { var, .. }, Value::Scalar(ty, bits)) if self.function.vars[*var].ty == *ty => {
                    self.vars[var.index()] = *bits;
                    set[var.index()] = true;
                }
                (InputKind::Object(var) | InputKind::Shared { var, .. }, Value::Scalar(VarType::Object, bits)) => {
                    self.objects.retain(*bits);
                    self.vars[var.index()] = *bits;
                }
                (InputKind::None | InputKind::Str(_), _) => {}
                _ => return Err(wrong()),
            }
        }
        Ok(())
    }

    fn block(&mut self, block: &Block) -> std::result::Result<Flow, Stop> {
        for stmt in &block.0 {
            if let Flow::Return(tree, values) = self.stmt(stmt)? {
                return Ok(Flow::Return(tree, values));
            }
        }
        Ok(Flow::Next)
    }

    fn stmt(&mut self, stmt: &Stmt) -> std::result::Result<Flow, Stop> {
        match stmt {
            Stmt::Assign(var, expr) => self.assign(*var, expr)?,
            Stmt::Kernel(kernel) => self.kernel(kernel)?,
            Stmt::Launch(_) => return Err(internal("the evaluator runs programs before scheduling only")),
            Stmt::Alloc(buffer) => {
                let BufferClass::Slot(slot) = self.function.buffers[*buffer].class else {
                    return Err(internal(format!("alloc of {buffer}, which is not a slot")));
                };
                let bytes = self.bytes_of(*buffer)?;
                let memory = self.memory.get_mut(..self.n_slots).and_then(|slots| slots.get_mut(slot));
                let memory = memory.ok_or_else(|| internal(format!("there is no slot {slot}")))?;
                if memory.len() < bytes {
                    // Former contents are lost, and what is there is not zero.
                    *memory = Cow::Owned(vec![GARBAGE; bytes]);
                }
            }
            Stmt::Read(var, buffer) => {
                let place = self.place(*buffer)?;
                if place.dims.iter().any(|&d| d != 1) {
                    return Err(internal(format!("read of {buffer}, which has dims {:?}", place.dims)));
                }
                let column = Column::gather(place.dtype, &self.memory[place.storage][place.offset..], &[0]);
                self.set_column(*var, column.map_err(internal)?)?;
            }
            Stmt::LoadState(var, index) => {
                let bits = *self.scalars.get(*index).ok_or_else(|| internal(format!("there is no state {index}")))?;
                let former = std::mem::replace(&mut self.vars[var.index()], bits);
                if self.function.vars[*var].ty == VarType::Object {
                    self.objects.retain(bits);
                    self.objects.release(former);
                }
            }
            Stmt::StoreState(index, value) => {
                let (ty, bits) = self.owned_operand(value)?;
                let state = self.scalars.get_mut(*index);
                let state = state.ok_or_else(|| internal(format!("there is no state {index}")))?;
                let former = std::mem::replace(state, bits);
                if ty == VarType::Object {
                    self.objects.release(former);
                }
            }
            Stmt::If(cond, then, other) => {
                let branch = if self.cond(cond)? { then } else { other };
                return self.block(branch);
            }
            Stmt::While(cond, body) => {
                while self.vars[cond.index()] != 0 {
                    if let Flow::Return(tree, values) = self.block(body)? {
                        return Ok(Flow::Return(tree, values));
                    }
                }
            }
            Stmt::Call { routine, args, results, place } => self.call(routine, args, results, place)?,
            Stmt::Check { cond, class, message, parts, place } => {
                if !self.cond(cond)? {
                    if parts.is_empty() {
                        return Err(self.raise(class, message, place)?);
                    }
                    self.call("raise_format", &raise_args(class, message, parts), &[], place)?;
                }
            }
            Stmt::Raise { class, message, place } => return Err(self.raise(class, message, place)?),
            Stmt::Return(tree, args) => {
                let mut values = Vec::new();
                for arg in args {
                    values.push(match arg {
                        Arg::Scalar(operand) => {
                            let (ty, bits) = self.owned_operand(operand)?;
                            Value::Scalar(ty, bits)
                        }
                        Arg::Buffer(buffer) => {
                            let (dtype, dims, bytes) = self.contents(*buffer)?;
                            Value::Tensor(dtype, dims, bytes)
                        }
                    });
                }
                return Ok(Flow::Return(*tree, values));
            }
        }
        Ok(Flow::Next)
    }

    fn assign(&mut self, var: VarId, expr: &HostExpr) -> std::result::Result<(), Stop> {
        if self.function.vars[var].ty == VarType::Object {
            let operand = match expr {
                HostExpr::Copy(operand) => operand,
                HostExpr::Select(c, a, b) => {
                    if self.cond(c)? {
                        a
                    } else {
                        b
                    }
                }
                _ => return Err(internal(format!("arithmetic on the object variable {var}"))),
            };
            let (_, bits) = self.owned_operand(operand)?;
            let former = std::mem::replace(&mut self.vars[var.index()], bits);
            self.objects.release(former);
            return Ok(());
        }
        let column = match expr {
            HostExpr::Copy(a) => self.column(a)?,
            HostExpr::Unary(op, a) => self.column(a)?.unary(*op).map_err(internal)?,
            HostExpr::Binary(op, a, b) => self.column(a)?.binary(*op, &self.column(b)?).map_err(internal)?,
            HostExpr::Select(c, a, b) => {
                let column = if self.cond(c)? { a } else { b };
                self.column(column)?
            }
            HostExpr::Cast(dtype, a) => self.column(a)?.cast(*dtype).map_err(internal)?,
        };
        let (ty, bits) = scalar_bits(&column).map_err(internal)?;
        if ty != self.function.vars[var].ty {
            return Err(internal(format!("{var} is set to a value of type {ty:?}: {expr:?}")));
        }
        self.vars[var.index()] = bits;
        Ok(())
    }

    /// Sets a variable to a single value, converted to its type.
    fn set_column(&mut self, var: VarId, column: Column) -> std::result::Result<(), Stop> {
        let dtype = self.function.vars[var].ty.dtype();
        let dtype = dtype.ok_or_else(|| internal(format!("a number is read into the object variable {var}")))?;
        let column = column.cast(dtype).map_err(internal)?;
        self.vars[var.index()] = scalar_bits(&column).map_err(internal)?.1;
        Ok(())
    }

    /// The type and bits of an operand; objects are borrowed, and text is refused.
    fn operand(&self, operand: &Operand) -> std::result::Result<(VarType, u64), Stop> {
        match operand {
            Operand::Const(c) => Ok((
                match c.dtype {
                    DType::I64 => VarType::Int,
                    DType::F64 => VarType::Float,
                    DType::Bool => VarType::Bool,
                    other => return Err(internal(format!("a host constant of type {other}"))),
                },
                c.bits,
            )),
            Operand::Var(var) => Ok((self.function.vars[*var].ty, self.vars[var.index()])),
            Operand::Str(_) => Err(internal("text is used as a number")),
        }
    }

    /// The same with a reference of its own, and text made an object.
    fn owned_operand(&mut self, operand: &Operand) -> std::result::Result<(VarType, u64), Stop> {
        if let Operand::Str(text) = operand {
            return Ok((VarType::Object, self.objects.text(text)?));
        }
        let (ty, bits) = self.operand(operand)?;
        if ty == VarType::Object {
            self.objects.retain(bits);
        }
        Ok((ty, bits))
    }

    fn column(&self, operand: &Operand) -> std::result::Result<Column, Stop> {
        let (ty, bits) = self.operand(operand)?;
        scalar_column(ty, bits).map_err(internal)
    }

    fn cond(&self, operand: &Operand) -> std::result::Result<bool, Stop> {
        match self.operand(operand)? {
            (VarType::Bool, bits) => Ok(bits != 0),
            (other, _) => Err(internal(format!("a condition of type {other:?}"))),
        }
    }

    fn dim(&self, dim: Dim) -> i64 {
        match dim {
            Dim::Const(n) => n,
            Dim::Var(var) => self.vars[var.index()].cast_signed(),
        }
    }

    fn dims(&self, buffer: BufferId) -> std::result::Result<Vec<i64>, Stop> {
        let dims: Vec<i64> = self.function.buffers[buffer].dims.iter().map(|&d| self.dim(d)).collect();
        if dims.iter().any(|&d| d < 0) {
            return Err(internal(format!("buffer {buffer} has dims {dims:?}")));
        }
        Ok(dims)
    }

    fn bytes_of(&self, buffer: BufferId) -> std::result::Result<usize, Stop> {
        let dims = self.dims(buffer)?;
        let size = i64::try_from(self.function.buffers[buffer].dtype.size_bytes()).unwrap_or(i64::MAX);
        let bytes = dims.iter().try_fold(size, |n, &d| n.checked_mul(d)).and_then(|n| usize::try_from(n).ok());
        bytes
            .filter(|&n| n < 1 << 46)
            .ok_or_else(|| internal(format!("buffer {buffer} with dims {dims:?} is too large")))
    }

    /// Where a buffer lies, with memory for all its elements.
    fn place(&mut self, buffer: BufferId) -> std::result::Result<Place, Stop> {
        let info = &self.function.buffers[buffer];
        let (dims, bytes) = (self.dims(buffer)?, self.bytes_of(buffer)?);
        let (mut base, mut offset) = (buffer, 0);
        if let BufferClass::Alias { of, offset: elements } = info.class {
            base = of;
            offset = usize::try_from(self.dim(elements)).map_err(|_| internal("an alias starts before its buffer"))?;
            offset *= info.dtype.size_bytes();
        }
        let storage = self.storage(base);
        let storage = match self.function.buffers[base].class {
            BufferClass::Slot(slot) if slot < self.n_slots => slot,
            BufferClass::Slot(slot) => return Err(internal(format!("there is no slot {slot}"))),
            BufferClass::Alias { .. } => return Err(internal(format!("{buffer} is an alias of an alias"))),
            BufferClass::Prepared(prepared) if prepared.index() >= self.n_prepared => {
                return Err(internal(format!("there is no prepared {prepared}")));
            }
            class @ (BufferClass::Temp { .. } | BufferClass::Output(_) | BufferClass::Prepared(_)) => {
                let storage = match class {
                    BufferClass::Prepared(prepared) => self.n_slots + prepared.index(),
                    _ => storage,
                };
                let needed = self.bytes_of(base)?;
                if self.memory[storage].len() < needed {
                    self.memory[storage].to_mut().resize(needed, GARBAGE);
                }
                storage
            }
            BufferClass::Object(var) => {
                let object = self.vars[var.index()];
                let needed = self.bytes_of(base)?;
                self.memory[storage] = Cow::Owned(self.objects.read_tensor(object, needed)?);
                storage
            }
            BufferClass::Input(_) | BufferClass::Weight(_) => storage,
        };
        let have = self.memory[storage].len();
        if offset + bytes > have {
            return Err(internal(format!("buffer {buffer} ends at byte {} of memory of {have}", offset + bytes)));
        }
        Ok(Place { storage, offset, dtype: info.dtype, dims })
    }

    /// A copy of a buffer's type, extents and elements.
    fn contents(&mut self, buffer: BufferId) -> std::result::Result<(DType, Vec<i64>, Vec<u8>), Stop> {
        let bytes = self.bytes_of(buffer)?;
        let place = self.place(buffer)?;
        Ok((place.dtype, place.dims, self.memory[place.storage][place.offset..][..bytes].to_vec()))
    }

    /// After a write to a buffer: what lies in an object goes back there.
    fn written(&mut self, buffer: BufferId) -> std::result::Result<(), Stop> {
        let base = match self.function.buffers[buffer].class {
            BufferClass::Alias { of, .. } => of,
            _ => buffer,
        };
        if let BufferClass::Object(var) = self.function.buffers[base].class {
            let bytes = &self.memory[self.storage(base)];
            self.objects.write_tensor(self.vars[var.index()], bytes)?;
        }
        Ok(())
    }

    fn kernel(&mut self, kernel: &Kernel) -> std::result::Result<(), Stop> {
        let (mut places, mut vars) = (HashMap::new(), HashMap::new());
        for id in kernel.exprs.ids() {
            match kernel.exprs.get(id) {
                Expr::Load { buffer, .. } => {
                    places.insert(*buffer, self.place(*buffer)?);
                }
                Expr::Var(var, dtype) => {
                    let column = self.column(&Operand::Var(*var))?;
                    vars.insert(*var, column.cast(*dtype).map_err(internal)?);
                }
                _ => {}
            }
        }
        for store in &kernel.stores {
            places.insert(store.buffer, self.place(store.buffer)?);
        }
        let extents: Vec<i64> = kernel.axes.iter().map(|axis| self.dim(axis.extent)).collect();
        let mut world = World { places, vars, memory: &mut self.memory };
        kernel::run(kernel, &extents, &mut world).map_err(|message| {
            let diagnostic = Diagnostic::internal(format!("kernel {}: {message}", kernel.name));
            Stop::Failed(if kernel.place.is_empty() {
                diagnostic
            } else {
                diagnostic.note(format!("for {}", kernel.place))
            })
        })?;
        for store in &kernel.stores {
            self.written(store.buffer)?;
        }
        Ok(())
    }

    fn call(&mut self, routine: &str, args: &[Arg], results: &[VarId], place: &str) -> std::result::Result<(), Stop> {
        let mut values = Vec::new();
        for arg in args {
            values.push(match arg {
                Arg::Scalar(Operand::Str(text)) => CallArg::Text(text.clone()),
                Arg::Scalar(operand) => {
                    let (ty, bits) = self.operand(operand)?;
                    CallArg::Scalar(ty, bits)
                }
                Arg::Buffer(buffer) => {
                    let (dtype, dims, bytes) = self.contents(*buffer)?;
                    CallArg::Tensor(dtype, dims, bytes)
                }
            });
        }
        let out = self.objects.call(routine, &mut values, results.len())?.map_err(|status| {
            self.objects.failed_at(place);
            Stop::Status(status)
        })?;
        for (arg, value) in args.iter().zip(values) {
            if let (Arg::Buffer(buffer), CallArg::Tensor(_, _, bytes)) = (arg, value) {
                let place = self.place(*buffer)?;
                // A routine may write to any buffer passed to it; untouched memory (weights) stays shared.
                if self.memory[place.storage][place.offset..][..bytes.len()] != bytes[..] {
                    self.memory[place.storage].to_mut()[place.offset..][..bytes.len()].copy_from_slice(&bytes);
                    self.written(*buffer)?;
                }
            }
        }
        for (&var, bits) in results.iter().zip(out) {
            let former = std::mem::replace(&mut self.vars[var.index()], bits);
            if self.function.vars[var].ty == VarType::Object {
                self.objects.release(former);
            }
        }
        Ok(())
    }

    fn raise(&mut self, class: &str, message: &Operand, place: &str) -> std::result::Result<Stop, Stop> {
        let message = match message {
            Operand::Str(text) => Message::Text(text.to_string()),
            operand => match self.owned_operand(operand)? {
                (VarType::Object, object) => Message::Object(object),
                (other, _) => return Err(internal(format!("an exception's message of type {other:?}"))),
            },
        };
        Ok(Stop::Raised { class: class.into(), message, place: place.into() })
    }
}

/// What fills memory whose contents are undefined, so that reading it shows.
pub(super) const GARBAGE: u8 = 0xcd;

fn scalar_column(ty: VarType, bits: u64) -> std::result::Result<Column, String> {
    Ok(match ty {
        VarType::Int => Column::I64(vec![bits.cast_signed()]),
        VarType::Float => Column::F64(vec![f64::from_bits(bits)]),
        VarType::Bool => Column::Bool(vec![bits != 0]),
        // Compared with 0 to tell whether it is null.
        VarType::Object => Column::I64(vec![bits.cast_signed()]),
    })
}

fn scalar_bits(column: &Column) -> std::result::Result<(VarType, u64), String> {
    match column {
        Column::I64(v) => Ok((VarType::Int, v[0].cast_unsigned())),
        Column::F64(v) => Ok((VarType::Float, v[0].to_bits())),
        Column::Bool(v) => Ok((VarType::Bool, u64::from(v[0]))),
        _ => Err("a host value that is not an int, float or bool".into()),
    }
}
