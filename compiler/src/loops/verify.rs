//! Checks a loop program before scheduling: ids are in range, types agree, kernels keep the rules of their documentation.
//!
//! A kernel that is neither ordered nor a scan does not load what it stores, with one exception: a load at exactly the index
//! of the store to the same buffer (an update in place), because each point then sees only its own element.
//! Variables are followed through branches: one that is used has been set on every path that leads there. A loop's body is
//! taken to run zero times for what comes after it. Object variables start as null and need no assignment.

use super::{
    Arg, AxisKind, BinaryOp, Block, Buffer, BufferClass, BufferId, Dim, Expr, ExprId, Exprs, Function, HostExpr,
    InputKind, Kernel, Layout, Operand, OutputTree, Program, ReduceOp, Stmt, StoreMode, UnaryOp, VarId, VarType,
};
use crate::index::Id as _;
use crate::types::DType;

type Checked = Result<(), String>;

/// Whether the program keeps the rules; the error names the function and, where there is one, the kernel.
pub fn verify(program: &Program) -> Result<(), String> {
    let is_function = |id| program.functions.get(id).is_some();
    for method in &program.methods {
        if let Some(variant) = method.variants.iter().find(|v| !is_function(v.function)) {
            return Err(format!("method {}: there is no function {}", method.name, variant.function));
        }
    }
    if let Some(init) = program.init.filter(|&init| !is_function(init)) {
        return Err(format!("init: there is no function {init}"));
    }
    if let Some(prepare) = program.prepare {
        let function =
            program.functions.get(prepare).ok_or_else(|| format!("prepare: there is no function {prepare}"))?;
        only_prepares(function).map_err(|e| format!("prepare: {e}"))?;
    }
    for (id, function) in program.functions.iter_ids() {
        let checker = Checker { program, function, is_prepare: program.prepare == Some(id) };
        checker.function().map_err(|e| format!("function {}: {e}", function.name))?;
    }
    Ok(())
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(message()) }
}

/// Whether a function can run where there is neither an instance nor an argument.
fn only_prepares(function: &Function) -> Checked {
    fn block(body: &Block) -> Checked {
        body.0.iter().try_for_each(|stmt| match stmt {
            Stmt::LoadState(..) | Stmt::StoreState(..) | Stmt::Alloc(_) | Stmt::Call { .. } => {
                Err(format!("{stmt:?} needs an instance"))
            }
            Stmt::If(_, then, other) => block(then).and_then(|()| block(other)),
            Stmt::While(_, body) => block(body),
            Stmt::Return(_, args) => ensure(args.is_empty(), || "it has results".into()),
            Stmt::Assign(..)
            | Stmt::Kernel(_)
            | Stmt::Launch(_)
            | Stmt::Read(..)
            | Stmt::Check { .. }
            | Stmt::Raise { .. } => Ok(()),
        })
    }
    ensure(function.inputs.is_empty(), || "it has inputs".into())?;
    block(&function.body)
}

/// Which variables are certainly set; `None` after a statement that does not end normally.
type Set = Option<Vec<bool>>;

struct Checker<'p> {
    program: &'p Program,
    function: &'p Function,
    /// Whether it is the function that prepares.
    is_prepare: bool,
}

impl Checker<'_> {
    fn function(&self) -> Checked {
        let mut set: Vec<bool> = self.function.vars.iter().map(|v| v.ty == VarType::Object).collect();
        for (id, buffer) in self.function.buffers.iter_ids() {
            self.declared(buffer).map_err(|e| format!("buffer {id}: {e}"))?;
        }
        for (number, input) in self.function.inputs.iter().enumerate() {
            let given = match &input.kind {
                InputKind::Tensor { buffer, .. } => {
                    let info = self.buffer(*buffer)?;
                    ensure(info.class == BufferClass::Input(number), || {
                        format!("input {number} is in {buffer}, which is {:?}", info.class)
                    })?;
                    for dim in &info.dims {
                        if let Dim::Var(var) = dim {
                            set[var.index()] = true;
                        }
                    }
                    continue;
                }
                InputKind::Scalar { var, .. } => {
                    ensure(self.var(*var)? != VarType::Object, || format!("{var} is an object, not a scalar"))?;
                    *var
                }
                InputKind::Object(var) | InputKind::Shared { var, .. } => {
                    self.typed(*var, VarType::Object)?;
                    *var
                }
                InputKind::None | InputKind::Str(_) => continue,
            };
            set[given.index()] = true;
        }
        self.block(&self.function.body, Some(set)).map(|_| ())
    }

    fn declared(&self, buffer: &Buffer) -> Checked {
        for dim in buffer.measures() {
            self.dim(dim)?;
        }
        if let Layout::Strided(strides) = &buffer.layout {
            ensure(strides.len() == buffer.dims.len(), || "it does not have a stride for each dimension".into())?;
            let is_object = matches!(buffer.class, BufferClass::Object(_));
            ensure(is_object, || "only tensors in objects have strides of their own".into())?;
        }
        match buffer.class {
            BufferClass::Input(n) => ensure(n < self.function.inputs.len(), || format!("there is no input {n}")),
            BufferClass::Output(_) => Ok(()),
            BufferClass::Weight(id) => {
                let weight = self.program.weights.get(id).ok_or_else(|| format!("there is no weight {id}"))?;
                let known: Option<Vec<i64>> = buffer.dims.iter().map(|d| d.known()).collect();
                ensure(known.as_deref() == Some(weight.data.sizes()) && buffer.dtype == weight.data.dtype(), || {
                    format!("{} {:?} is not the type of weight {id}", buffer.dtype, buffer.dims)
                })
            }
            BufferClass::Prepared(id) => {
                let prepared = self.program.prepared.get(id).ok_or_else(|| format!("there is no prepared {id}"))?;
                let numel = buffer.dims.iter().try_fold(1i64, |n, dim| n.checked_mul(dim.known()?));
                let is_whole = numel.and_then(|n| usize::try_from(n).ok()) == Some(prepared.n_elements);
                ensure(is_whole && buffer.dtype == prepared.dtype, || {
                    format!("{} {:?} is not the type of prepared {id}", buffer.dtype, buffer.dims)
                })
            }
            BufferClass::Temp { .. } => ensure(buffer.dims.iter().all(|d| d.known().is_some()), || {
                "scratch of unknown size is a slot, not a temp".into()
            }),
            BufferClass::Slot(slot) => ensure(slot < self.program.n_slots, || format!("there is no slot {slot}")),
            BufferClass::Alias { of, offset } => {
                self.dim(offset)?;
                let of_buffer = self.buffer(of)?;
                let is_strided = matches!(of_buffer.layout, Layout::Strided(_));
                ensure(!is_strided, || format!("it is an alias of {of}, whose elements do not lie row-major"))?;
                let is_alias = matches!(of_buffer.class, BufferClass::Alias { .. });
                ensure(!is_alias, || format!("it is an alias of {of}, itself an alias"))
            }
            BufferClass::Object(var) => self.typed(var, VarType::Object),
        }
    }

    fn dim(&self, dim: Dim) -> Checked {
        match dim {
            Dim::Const(n) => ensure(n >= 0, || format!("the extent {n} is negative")),
            Dim::Var(var) => self.typed(var, VarType::Int),
        }
    }

    fn buffer(&self, id: BufferId) -> Result<&Buffer, String> {
        self.function.buffers.get(id).ok_or_else(|| format!("there is no buffer {id}"))
    }

    fn var(&self, id: VarId) -> Result<VarType, String> {
        self.function.vars.get(id).map(|v| v.ty).ok_or_else(|| format!("there is no variable {id}"))
    }

    fn typed(&self, id: VarId, want: VarType) -> Checked {
        let ty = self.var(id)?;
        ensure(ty == want, || format!("{id} is of type {ty:?}, not {want:?}"))
    }

    /// The type of an operand whose variable is set.
    fn operand(&self, operand: &Operand, set: &[bool]) -> Result<VarType, String> {
        match operand {
            Operand::Const(c) => match c.dtype {
                DType::I64 => Ok(VarType::Int),
                DType::F64 => Ok(VarType::Float),
                DType::Bool => Ok(VarType::Bool),
                other => Err(format!("a host constant of type {other}")),
            },
            Operand::Str(_) => Ok(VarType::Object),
            Operand::Var(var) => {
                let ty = self.var(*var)?;
                is_set(*var, set)?;
                Ok(ty)
            }
        }
    }

    fn expect(&self, operand: &Operand, want: VarType, set: &[bool]) -> Checked {
        let ty = self.operand(operand, set)?;
        ensure(ty == want, || format!("{operand:?} is of type {ty:?}, not {want:?}"))
    }

    /// A buffer in use: the variables of its dims and offset are set.
    fn used(&self, id: BufferId, set: &[bool]) -> Result<&Buffer, String> {
        let buffer = self.buffer(id)?;
        let mut dims: Vec<Dim> = buffer.measures().collect();
        if let BufferClass::Alias { of, .. } = buffer.class {
            dims.extend(&self.buffer(of)?.dims);
        }
        for dim in dims {
            if let Dim::Var(var) = dim {
                is_set(var, set).map_err(|e| format!("buffer {id}: {e}"))?;
            }
        }
        Ok(buffer)
    }

    /// A buffer in use as elements in row-major order.
    fn used_row_major(&self, id: BufferId, set: &[bool]) -> Checked {
        let buffer = self.used(id, set)?;
        ensure(!matches!(buffer.layout, Layout::Strided(_)), || format!("the elements of {id} do not lie row-major"))
    }

    fn block(&self, block: &Block, mut set: Set) -> Result<Set, String> {
        for stmt in &block.0 {
            // What follows a return or raise is not reached, and not checked.
            let Some(now) = set else { return Ok(None) };
            set = self.stmt(stmt, now)?;
        }
        Ok(set)
    }

    fn stmt(&self, stmt: &Stmt, mut set: Vec<bool>) -> Result<Set, String> {
        match stmt {
            Stmt::Assign(var, expr) => {
                let (want, ty) = (self.var(*var)?, self.host_expr(expr, &set)?);
                ensure(want == ty, || format!("{var} of type {want:?} is set to a {ty:?}: {expr:?}"))?;
                set[var.index()] = true;
            }
            Stmt::Kernel(kernel) => {
                self.kernel(kernel, &set).map_err(|e| format!("kernel {}: {e}", kernel.name))?;
            }
            Stmt::Launch(launch) => {
                let nest = self.program.nests.get(launch.nest).ok_or_else(|| format!("no nest {}", launch.nest))?;
                let fits = (launch.buffers.len(), launch.scalars.len()) == (nest.buffers.len(), nest.scalars.len());
                ensure(fits, || format!("nest {} is launched with other parameters than it has", nest.name))?;
                for (&buffer, parameter) in launch.buffers.iter().zip(&nest.buffers) {
                    let dtype = self.used(buffer, &set)?.dtype;
                    ensure(dtype == parameter.dtype, || format!("nest {}: {buffer} is of {dtype}", nest.name))?;
                }
                for (scalar, &dtype) in launch.scalars.iter().zip(&nest.scalars) {
                    let have = self.operand(scalar, &set)?.dtype();
                    ensure(have == Some(dtype), || format!("nest {}: {scalar:?} is not of {dtype}", nest.name))?;
                }
            }
            Stmt::Alloc(buffer) => {
                let class = self.used(*buffer, &set)?.class;
                ensure(matches!(class, BufferClass::Slot(_)), || format!("alloc of {buffer}, which is not a slot"))?;
            }
            Stmt::Read(var, buffer) => {
                ensure(self.var(*var)? != VarType::Object, || format!("a number is read into the object {var}"))?;
                self.used_row_major(*buffer, &set)?;
                set[var.index()] = true;
            }
            Stmt::LoadState(var, index) => {
                self.var(*var)?;
                self.state(*index)?;
                set[var.index()] = true;
            }
            Stmt::StoreState(index, value) => {
                self.state(*index)?;
                self.operand(value, &set)?;
            }
            Stmt::If(cond, then, other) => {
                self.expect(cond, VarType::Bool, &set)?;
                let then = self.block(then, Some(set.clone()))?;
                return Ok(match (then, self.block(other, Some(set))?) {
                    (Some(a), Some(b)) => Some(a.into_iter().zip(b).map(|(a, b)| a && b).collect()),
                    (a, b) => a.or(b),
                });
            }
            Stmt::While(cond, body) => {
                self.expect(&Operand::Var(*cond), VarType::Bool, &set)?;
                self.block(body, Some(set.clone()))?;
            }
            Stmt::Call { routine, args, results, .. } => {
                if let Some(task) = super::task_of(stmt) {
                    let function = self.program.functions.get(task);
                    let function = function.ok_or_else(|| format!("{routine}: there is no function {task}"))?;
                    ensure(function.inputs.len() + 1 == args.len(), || {
                        format!("{routine}: {task} takes {} arguments", function.inputs.len())
                    })?;
                }
                for arg in args {
                    self.arg(arg, &set).map_err(|e| format!("call of {routine}: {e}"))?;
                }
                for &var in results {
                    self.var(var)?;
                    set[var.index()] = true;
                }
            }
            Stmt::Check { cond, message, parts, .. } => {
                self.expect(cond, VarType::Bool, &set)?;
                self.expect(message, VarType::Object, &set)?;
                for part in parts {
                    self.operand(part, &set)?;
                }
            }
            Stmt::Raise { message, .. } => {
                self.expect(message, VarType::Object, &set)?;
                return Ok(None);
            }
            Stmt::Return(tree, args) => {
                for arg in args {
                    self.arg(arg, &set)?;
                }
                let shape =
                    self.function.results.get(*tree).ok_or_else(|| format!("there is no result tree {tree}"))?;
                let mut want = Vec::new();
                leaves(shape, &mut want);
                ensure(want.len() == args.len(), || {
                    format!("result tree {tree} has {} leaves, the return {}", want.len(), args.len())
                })?;
                for (number, (want, arg)) in want.into_iter().zip(args).enumerate() {
                    let have = match arg {
                        Arg::Buffer(_) => None,
                        Arg::Scalar(operand) => Some(self.operand(operand, &set)?),
                    };
                    ensure(want == have, || format!("leaf {number} of a return is {have:?}, not {want:?}"))?;
                }
                return Ok(None);
            }
        }
        Ok(Some(set))
    }

    fn state(&self, index: usize) -> Checked {
        ensure(index < self.program.n_state_scalars, || format!("there is no state scalar {index}"))
    }

    fn arg(&self, arg: &Arg, set: &[bool]) -> Checked {
        match arg {
            Arg::Scalar(operand) => self.operand(operand, set).map(|_| ()),
            Arg::Buffer(buffer) => self.used_row_major(*buffer, set),
        }
    }

    fn host_expr(&self, expr: &HostExpr, set: &[bool]) -> Result<VarType, String> {
        let number = |operand| {
            let ty = self.operand(operand, set)?;
            if ty == VarType::Object { Err("arithmetic on an object".to_owned()) } else { Ok(ty) }
        };
        match expr {
            HostExpr::Copy(a) => self.operand(a, set),
            HostExpr::Unary(UnaryOp::IsNan, a) => number(a).map(|_| VarType::Bool),
            HostExpr::Unary(_, a) => number(a),
            HostExpr::Binary(op, a, b) => {
                let (x, y) = (number(a)?, number(b)?);
                ensure(x == y, || format!("{op:?} of {x:?} and {y:?}"))?;
                Ok(if op.is_comparison() { VarType::Bool } else { x })
            }
            HostExpr::Select(c, a, b) => {
                self.expect(c, VarType::Bool, set)?;
                let (x, y) = (number(a)?, number(b)?);
                ensure(x == y, || format!("select between {x:?} and {y:?}"))?;
                Ok(x)
            }
            HostExpr::Cast(dtype, a) => {
                number(a)?;
                match dtype {
                    DType::I64 => Ok(VarType::Int),
                    DType::F64 => Ok(VarType::Float),
                    DType::Bool => Ok(VarType::Bool),
                    other => Err(format!("a host value is converted to {other}")),
                }
            }
        }
    }

    fn kernel(&self, kernel: &Kernel, set: &[bool]) -> Checked {
        let rank = |kind| match kind {
            AxisKind::Parallel => 0,
            AxisKind::Scan => 1,
            AxisKind::Reduce => 2,
        };
        let in_order = kernel.axes.windows(2).all(|w| rank(w[0].kind) <= rank(w[1].kind));
        let n_scans = kernel.axes.iter().filter(|axis| axis.kind == AxisKind::Scan).count();
        ensure(in_order && n_scans <= 1, || "axes are not parallel, one scan, reduced, in this order".into())?;
        for axis in &kernel.axes {
            self.dim(axis.extent)?;
            if let Dim::Var(var) = axis.extent {
                is_set(var, set)?;
            }
        }
        for id in kernel.exprs.ids() {
            self.expr(kernel, id, set).map_err(|e| format!("{id}: {e}"))?;
        }
        let exprs = &kernel.exprs;
        let known = |id: ExprId| ensure(id.index() < exprs.len(), || format!("there is no expression {id}"));
        for r in &kernel.reductions {
            known(r.value)?;
            ensure(!needs(exprs, r.value, |e| matches!(e, Expr::Acc(..))), || "a reduction uses a reduction".into())?;
            let is_arg = matches!(r.op, ReduceOp::ArgMax | ReduceOp::ArgMin);
            ensure(r.payload.is_some() == is_arg, || format!("{:?} with payload {:?}", r.op, r.payload))?;
            if let Some(payload) = r.payload {
                known(payload)?;
                ensure(exprs.dtype(payload) == DType::I64, || "a payload is not an int64".into())?;
            }
        }
        for store in &kernel.stores {
            let buffer = self.used(store.buffer, set)?;
            let n = store.index.len();
            ensure(n == buffer.dims.len(), || {
                format!("{n} indices for {} of rank {}", store.buffer, buffer.dims.len())
            })?;
            for &id in store.index.iter().chain([&store.value]).chain(&store.guard) {
                known(id)?;
            }
            let is_int = store.index.iter().all(|&i| exprs.dtype(i) == DType::I64);
            ensure(is_int, || format!("an index of the store to {} is not an int64", store.buffer))?;
            let dtype = exprs.dtype(store.value);
            ensure(dtype == buffer.dtype, || format!("a {dtype} is stored to {}, of {}", store.buffer, buffer.dtype))?;
            let is_cond = store.guard.is_none_or(|g| exprs.dtype(g) == DType::Bool);
            ensure(is_cond, || format!("the guard of the store to {} is not a boolean", store.buffer))?;
            let is_arg = matches!(store.mode, StoreMode::Combine(ReduceOp::ArgMax | ReduceOp::ArgMin));
            ensure(!is_arg, || "a store cannot combine by an arg reduction".into())?;
            let is_constant = match self.buffer(self.memory(store.buffer))?.class {
                BufferClass::Weight(_) => true,
                BufferClass::Prepared(_) => !self.is_prepare,
                BufferClass::Input(_)
                | BufferClass::Output(_)
                | BufferClass::Temp { .. }
                | BufferClass::Slot(_)
                | BufferClass::Alias { .. }
                | BufferClass::Object(_) => false,
            };
            ensure(!is_constant, || format!("a store to {}, a constant", store.buffer))?;
            // Stores are per point of the outer axes; a reduced axis has no index there.
            let has_reduced = store.index.iter().chain([&store.value]).chain(&store.guard).any(|&id| {
                let reduced = |e: &Expr| {
                    matches!(e, Expr::Axis(a) if kernel.axes.get(*a).is_some_and(|a| a.kind == AxisKind::Reduce))
                };
                needs(exprs, id, reduced)
            });
            ensure(!has_reduced, || format!("the store to {} uses a reduced axis", store.buffer))?;
        }
        if kernel.is_ordered || n_scans > 0 {
            return Ok(());
        }
        for id in exprs.ids() {
            let Expr::Load { buffer, index, .. } = exprs.get(id) else { continue };
            for store in &kernel.stores {
                let is_same = self.memory(store.buffer) == self.memory(*buffer);
                let is_own = store.buffer == *buffer && store.index == *index;
                ensure(!is_same || is_own, || {
                    format!("{id} loads {buffer} at another index than the store to {}", store.buffer)
                })?;
            }
        }
        Ok(())
    }

    /// The buffer whose memory a buffer has.
    fn memory(&self, id: BufferId) -> BufferId {
        match self.function.buffers.get(id).map(|b| b.class) {
            Some(BufferClass::Alias { of, .. }) => of,
            _ => id,
        }
    }

    fn expr(&self, kernel: &Kernel, id: ExprId, set: &[bool]) -> Checked {
        let (exprs, expr) = (&kernel.exprs, kernel.exprs.get(id));
        ensure(Exprs::operands(expr).iter().all(|&o| o < id), || "an operand comes later".into())?;
        let is_bool = |id| exprs.dtype(id) == DType::Bool;
        match expr {
            Expr::Const(_) | Expr::Unary(..) | Expr::Cast(..) => Ok(()),
            Expr::Axis(axis) => ensure(*axis < kernel.axes.len(), || format!("there is no axis {axis}")),
            Expr::Var(var, dtype) => {
                let ty = self.var(*var)?;
                is_set(*var, set)?;
                ensure(ty.dtype() == Some(*dtype), || format!("{var} of type {ty:?} is used as {dtype}"))
            }
            Expr::Load { buffer, dtype, index, guard } => {
                let info = self.used(*buffer, set)?;
                ensure(info.dtype == *dtype, || format!("{buffer} of {} is loaded as {dtype}", info.dtype))?;
                let (n, rank) = (index.len(), info.dims.len());
                ensure(n == rank, || format!("{n} indices for {buffer} of rank {rank}"))?;
                let is_int = index.iter().all(|&i| exprs.dtype(i) == DType::I64);
                ensure(is_int, || format!("an index of the load of {buffer} is not an int64"))?;
                let fits = guard.is_none_or(|g| is_bool(g.cond) && exprs.dtype(g.other) == *dtype);
                ensure(fits, || format!("the guard of the load of {buffer} has other types"))
            }
            Expr::Binary(op, a, b) => {
                let (x, y) = (exprs.dtype(*a), exprs.dtype(*b));
                ensure(x == y, || format!("{op:?} of {x} and {y}"))?;
                let is_integral = matches!(op, BinaryOp::Shl | BinaryOp::Shr | BinaryOp::And | BinaryOp::Or);
                ensure(!(is_integral && x.is_floating_point()), || format!("{op:?} of floats"))
            }
            Expr::Select(c, a, b) => {
                let (x, y) = (exprs.dtype(*a), exprs.dtype(*b));
                ensure(is_bool(*c) && x == y, || format!("select between {x} and {y} by a {}", exprs.dtype(*c)))
            }
            Expr::Acc(number, dtype) => {
                let r = kernel.reductions.get(*number).ok_or_else(|| format!("there is no reduction {number}"))?;
                ensure(r.value.index() < exprs.len(), || format!("there is no expression {}", r.value))?;
                let want = if r.payload.is_some() { DType::I64 } else { exprs.dtype(r.value) };
                ensure(want == *dtype, || format!("reduction {number} gives {want}, not {dtype}"))
            }
        }
    }
}

fn is_set(var: VarId, set: &[bool]) -> Checked {
    ensure(set.get(var.index()).copied().unwrap_or(false), || format!("{var} is used before it is set on some path"))
}

/// Whether an expression, or one it is made of, is such. Values of reductions are not followed.
fn needs(exprs: &Exprs, root: ExprId, is: impl Fn(&Expr) -> bool) -> bool {
    let mut is_needed = vec![false; root.index() + 1];
    is_needed[root.index()] = true;
    for index in (0..=root.index()).rev() {
        if !is_needed[index] {
            continue;
        }
        let expr = exprs.get(ExprId::new(index));
        if is(expr) {
            return true;
        }
        for operand in Exprs::operands(expr) {
            is_needed[operand.index()] = true;
        }
    }
    false
}

/// What each leaf of a result is: `None` for tensors.
fn leaves(tree: &OutputTree, out: &mut Vec<Option<VarType>>) {
    match tree {
        OutputTree::None | OutputTree::Str(_) => {}
        OutputTree::Tensor => out.push(None),
        OutputTree::Int => out.push(Some(VarType::Int)),
        OutputTree::Float => out.push(Some(VarType::Float)),
        OutputTree::Bool => out.push(Some(VarType::Bool)),
        OutputTree::Complex => out.extend([Some(VarType::Float); 2]),
        OutputTree::Object => out.push(Some(VarType::Object)),
        OutputTree::Tuple(items) | OutputTree::List(items) => items.iter().for_each(|item| leaves(item, out)),
        OutputTree::NamedTuple(_, fields) => fields.iter().for_each(|(_, item)| leaves(item, out)),
        OutputTree::Dict(entries) => {
            for (key, value) in entries {
                leaves(key, out);
                leaves(value, out);
            }
        }
    }
}
