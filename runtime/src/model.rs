//! Models, their code, and instances: the memory and state a call works on.
#![allow(unsafe_code, reason = "calls compiled code")]

use crate::abi::{Entry, Frame, Leaf, MAX_RANK, Status, Tag};
use crate::arena::{Allocator, Memory, Slots};
use crate::copies::Copies;
use crate::desc::{FunctionDesc, InputKind, MethodDesc, ModelDesc, TensorDesc, Tree};
use crate::entry::{Bindings, bind, check_leaves, leaf_tensor, rebuild};
use crate::error::{Error, Result};
use crate::log::{Log, LogFn, Sink};
use crate::object::{Body, Item, ObjectRef};
use crate::overlaps::refuse_leaf_overlaps;
use crate::pool::{HostParallelFor, Pool};
use crate::random::Generator;
use crate::task::{Family, Outcome};
use crate::tensor::Tensor;
use crate::trace::{Trace, Tracer};
use crate::value::Value;
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A function that is interpreted instead of compiled. Gets the same frame and returns the same codes.
pub type Interpreted = Box<dyn Fn(&mut Frame) -> i64 + Send + Sync>;

/// The body of a function.
pub enum Code {
    /// Machine code.
    Native(Entry),
    /// A closure, e.g. of the evaluator.
    Interpreted(Interpreted),
}

impl Code {
    /// Runs the body on a frame; gives the number of the result tree.
    ///
    /// # Safety
    /// The frame has what the description of the function asks for, and its runtime data is a [`Runtime`] in no other use.
    unsafe fn run(&self, frame: &mut Frame) -> Result<usize> {
        let code = match self {
            // SAFETY: by the caller's promise.
            Self::Native(entry) => unsafe { entry(frame) },
            Self::Interpreted(run) => run(frame),
        };
        if let Ok(tree) = usize::try_from(code) {
            return Ok(tree);
        }
        // SAFETY: by the caller's promise; the call is over.
        let error = unsafe { (*frame.runtime.cast::<Runtime>()).error.take() };
        let status = Status::from_code(code);
        Err(error.unwrap_or_else(|| Error::new(status, "the model failed without a message")))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native(_) => "Native",
            Self::Interpreted(_) => "Interpreted",
        })
    }
}

/// The weights section: one block aligned to 64 bytes.
#[derive(Debug)]
pub struct Weights {
    data: *const u8,
    _memory: Option<Memory>,
}

// SAFETY: weights are only read.
unsafe impl Send for Weights {}
// SAFETY: as above.
unsafe impl Sync for Weights {}

impl Weights {
    /// A copy of these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let memory = Memory::zeroed(bytes.len(), Allocator::default())?;
        // SAFETY: the block is at least as long as the bytes.
        unsafe { memory.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(Self { data: memory.as_ptr(), _memory: Some(memory) })
    }

    /// Weights that lie in a library or a mapped file.
    ///
    /// # Safety
    /// The memory is aligned to 64 bytes, as long as the model's description says, and outlives the model.
    pub unsafe fn borrowed(data: *const u8) -> Self {
        Self { data, _memory: None }
    }
}

/// What the host lets a model use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Env {
    /// Where large memory comes from.
    pub allocator: Allocator,
    /// Most threads a call may use; 0: as many as the machine has.
    pub max_threads: usize,
    /// The host's parallel loop and its `user` argument.
    pub parallel_for: Option<(HostParallelFor, usize)>,
    /// Takes what the model prints and warns, with its `user` argument.
    pub log: Option<(LogFn, usize)>,
}

/// What all instances of a model share.
pub(crate) struct Shared {
    desc: ModelDesc,
    weights: Weights,
    code: Vec<Code>,
    env: Env,
    pool: Arc<Pool>,
    log: Arc<Log>,
    trace: Arc<Trace>,
    arena_bytes: usize,
    n_outputs: usize,
    /// What the prepare function wrote; only read from then on.
    prepared: Memory,
    /// Keeps the memory of the code alive; dropped last.
    _owner: Option<Box<dyn Any + Send + Sync>>,
}

impl Shared {
    /// Computes what the model wants to have in another form than it is stored in.
    fn prepare(&mut self) -> Result<()> {
        let Some(function) = self.desc.prepare.map(|function| function as usize) else { return Ok(()) };
        let allocator = self.env.allocator;
        let too_large = || Error::new(Status::Memory, "the model's prepared weights do not fit in memory");
        let bytes = usize::try_from(self.desc.prepared_bytes).map_err(|_| too_large())?;
        self.prepared = Memory::allocate(bytes, allocator)?;
        let arena_bytes = usize::try_from(self.desc.functions[function].arena_bytes).map_err(|_| too_large())?;
        let arena = Memory::allocate(arena_bytes, allocator)?;
        let mut runtime = Runtime::new(self, Slots::new(0, allocator), Generator::default());
        let mut frame = Frame {
            weights: self.weights.data,
            arena: arena.as_ptr(),
            inputs: std::ptr::null(),
            outputs: std::ptr::null_mut(),
            state: std::ptr::null_mut(),
            slots: runtime.slots.as_mut_ptr(),
            runtime: (&raw mut runtime).cast(),
            prepared: self.prepared.as_ptr(),
        };
        // SAFETY: such a function reads weights and writes what is prepared; it has no inputs, results or state.
        unsafe { self.code[function].run(&mut frame) }.map(|_| ())
    }
}

/// A loaded model. Clones share everything; any number of threads may call at once.
#[derive(Clone)]
pub struct Model {
    shared: Arc<Shared>,
    /// Instances without work. A model with state has one, which calls take in turn.
    idle: Arc<Mutex<Vec<Instance>>>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("name", &self.shared.desc.name).finish_non_exhaustive()
    }
}

impl Model {
    /// A model with default surroundings. `code[i]` is the body of `desc.functions[i]`.
    pub fn new(desc: ModelDesc, weights: Weights, code: Vec<Code>) -> Result<Self> {
        Self::open(desc, weights, code, Env::default(), None)
    }

    /// A model with the host's surroundings. `owner` is kept as long as the code may run, e.g. the memory of the code.
    pub fn open(
        desc: ModelDesc,
        weights: Weights,
        code: Vec<Code>,
        env: Env,
        owner: Option<Box<dyn Any + Send + Sync>>,
    ) -> Result<Self> {
        if code.len() != desc.functions.len() {
            let message = format!("{} functions are described, code has {}", desc.functions.len(), code.len());
            return Err(Error::new(Status::Abi, message));
        }
        let arena_bytes = desc.workspace_bytes();
        let n_outputs = desc.functions.iter().map(FunctionDesc::n_outputs).max().unwrap_or(0);
        let pool = Arc::new(Pool::new(env.max_threads, env.parallel_for));
        let log = Arc::new(Log::new(env.log.map_or(Sink::Streams, |(log, user)| Sink::Host(log, user))));
        let prepared = Memory::empty();
        let mut shared = Shared {
            desc,
            weights,
            code,
            env,
            pool,
            log,
            trace: Arc::default(),
            arena_bytes,
            n_outputs,
            prepared,
            _owner: owner,
        };
        shared.prepare()?;
        Ok(Self { shared: Arc::new(shared), idle: Arc::default() })
    }

    /// What the model accepts.
    pub fn desc(&self) -> &ModelDesc {
        &self.shared.desc
    }

    /// What the host lets it use.
    pub fn env(&self) -> Env {
        self.shared.env
    }

    /// Changes the number of threads of later calls; 0: as many as the machine has.
    pub fn set_threads(&self, n_threads: usize) {
        self.shared.pool.set_threads(n_threads);
    }

    /// Later lines of output go there.
    pub fn set_sink(&self, sink: Sink) {
        self.shared.log.set(sink);
    }

    /// What a traced program does goes there; without a tracer it is told in lines of output.
    pub fn set_tracer(&self, tracer: Option<Tracer>) {
        self.shared.trace.set(tracer);
    }

    /// How many tasks threads of the model's pool have run; others ran where they were waited for.
    pub fn n_pool_tasks(&self) -> usize {
        self.shared.pool.n_tasks_run()
    }

    /// A new instance in the initial state.
    pub fn instance(&self) -> Result<Instance> {
        Instance::new(self.shared.clone())
    }

    /// Calls a method on an instance of the model's own: a free one for models without state; for models with state always
    /// the same one, so that calls see what earlier calls left.
    pub fn call(&self, method: &str, args: &[Value]) -> Result<Value> {
        self.with_instance(|instance| instance.call(method, args))
    }

    /// Runs something on an instance of the model's own, see [`Self::call`].
    pub fn with_instance<T>(&self, run: impl FnOnce(&mut Instance) -> Result<T>) -> Result<T> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.desc.n_state_scalars > 0 {
            if idle.is_empty() {
                idle.push(self.instance()?);
            }
            return run(&mut idle[0]);
        }
        let free = idle.pop();
        drop(idle);
        let mut instance = match free {
            Some(instance) => instance,
            None => self.instance()?,
        };
        let result = run(&mut instance);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
        result
    }
}

/// The runtime's data for the calls of an instance; what `Frame::runtime` points at.
#[derive(Debug)]
pub struct Runtime {
    /// The error that the running call recorded.
    pub(crate) error: Option<Error>,
    /// Growable memory.
    pub(crate) slots: Slots,
    /// What the host lets the model use.
    pub(crate) env: Env,
    /// Threads of the model.
    pub(crate) pool: Arc<Pool>,
    /// Takes what the model prints and warns.
    pub(crate) log: Arc<Log>,
    /// Takes what a traced program does.
    pub(crate) trace: Arc<Trace>,
    /// Random numbers of the instance.
    pub(crate) generator: Generator,
    /// Objects whose tensors are results of the last call; they live until the next one.
    pub(crate) results: Vec<ObjectRef>,
    /// Futures of the tasks that the running call started.
    pub(crate) tasks: Vec<ObjectRef>,
    /// The statement that a traced program told of last.
    pub(crate) statement: String,
    /// Instances that tasks run on.
    pub(crate) family: Option<Arc<Family>>,
}

impl Runtime {
    fn new(shared: &Shared, slots: Slots, generator: Generator) -> Self {
        let (env, pool, log) = (shared.env, shared.pool.clone(), shared.log.clone());
        let trace = Arc::clone(&shared.trace);
        Self {
            error: None,
            slots,
            env,
            pool,
            log,
            generator,
            results: Vec::new(),
            tasks: Vec::new(),
            trace,
            statement: String::new(),
            family: None,
        }
    }

    /// Ends the tasks of a call that ends. What nobody can wait for any more need not run.
    fn end_tasks(&mut self) {
        for future in self.tasks.drain(..) {
            if let Body::Future(task) = future.body() {
                if future.is_unique() { task.abandon() } else { task.settle() }
            }
        }
    }
}

/// State and working memory of one caller. Calls need it exclusively.
pub struct Instance {
    shared: Arc<Shared>,
    state: Vec<u64>,
    arena: Memory,
    /// Boxed, so that its address stays when the instance moves.
    runtime: Box<Runtime>,
    outputs: Vec<Leaf>,
    bindings: Bindings,
    /// Leaves of the C interface's calls, kept so that steady calls do not allocate.
    pub(crate) scratch: (Vec<Leaf>, Vec<Leaf>),
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Instance {
    fn new(shared: Arc<Shared>) -> Result<Self> {
        let mut instance = Self::for_tasks(shared.clone());
        instance.arena = Memory::zeroed(shared.arena_bytes, shared.env.allocator)?;
        instance.set_family(Some(Arc::new(Family::new(shared))));
        instance.run_init()?;
        Ok(instance)
    }

    /// An instance without state or memory, which grows as the tasks that run on it need it.
    pub(crate) fn for_tasks(shared: Arc<Shared>) -> Self {
        let slots = Slots::new(shared.desc.n_slots as usize, shared.env.allocator);
        let runtime = Runtime::new(&shared, slots, Generator::default());
        Self {
            state: vec![0; shared.desc.n_state_scalars as usize],
            arena: Memory::empty(),
            runtime: Box::new(runtime),
            outputs: vec![Leaf::NONE; shared.n_outputs],
            bindings: Bindings::default(),
            scratch: Default::default(),
            shared,
        }
    }

    /// Where instances for the tasks of this one come from.
    pub(crate) fn set_family(&mut self, family: Option<Arc<Family>>) {
        self.runtime.family = family;
    }

    /// Exchanges the random numbers.
    pub fn swap_generator(&mut self, other: &mut Generator) {
        std::mem::swap(&mut self.runtime.generator, other);
    }

    /// Runs a function as a task: its results are objects of their own.
    pub(crate) fn call_task(&mut self, function: usize, inputs: &[Leaf]) -> Outcome {
        let shared = self.shared.clone();
        let no_function = || Error::new(Status::Internal, "a task of a function that the model lacks");
        let desc = shared.desc.functions.get(function).ok_or_else(no_function)?;
        if inputs.len() != desc.inputs.len() {
            return Err(Error::new(Status::Internal, "a task got another number of arguments than it takes"));
        }
        let too_large = || Error::new(Status::Memory, "a task does not fit in memory");
        let arena_bytes = usize::try_from(desc.arena_bytes).map_err(|_| too_large())?;
        if self.arena.len() < arena_bytes {
            self.arena = Memory::zeroed(arena_bytes, shared.env.allocator)?;
        }
        self.outputs.fill(Leaf::NONE);
        check_leaves(&MethodDesc::default(), desc, inputs, &mut self.bindings).map_err(|(_, error)| error)?;
        let offered = offer(desc, &self.bindings, &mut self.outputs, shared.env.allocator)?;
        let outputs = self.outputs.as_mut_ptr();
        let tree = self.run(function, inputs.as_ptr(), outputs, std::ptr::null_mut())?;
        let Some(Tree::Tuple(leaves)) = desc.results.get(tree) else { return Err(no_such_result()) };
        let offered = offered.into_iter().chain(std::iter::repeat_with(|| None));
        let items = self.outputs.iter().take(leaves.len()).zip(offered).map(|(leaf, offered)| {
            Ok(match leaf.kind() {
                Tag::None => Item::None,
                Tag::Bool => Item::Bool(leaf.bits != 0),
                Tag::Int => Item::Int(leaf.bits as i64),
                Tag::Float => Item::Float(f64::from_bits(leaf.bits)),
                // SAFETY: an object leaf of a result is null or an owned reference.
                Tag::Object => unsafe { ObjectRef::from_raw(leaf.bits as *mut _) }.map_or(Item::None, Item::Object),
                // SAFETY: constant text of the model.
                Tag::Text => Item::from(Body::Str(unsafe { leaf.text_bytes() }.into())),
                Tag::Tensor => Item::from(Body::Tensor(match offered {
                    Some(tensor) if tensor.data() as u64 == leaf.bits => tensor,
                    _ => leaf_tensor(leaf, shared.env.allocator)?,
                })),
            })
        });
        Ok((tree, items.collect::<Result<_>>()?))
    }

    /// A copy with the same state.
    pub fn try_clone(&self) -> Result<Self> {
        let allocator = self.shared.env.allocator;
        let (slots, generator) = (self.runtime.slots.try_clone()?, self.runtime.generator.clone());
        let mut runtime = Runtime::new(&self.shared, slots, generator);
        runtime.family = Some(Arc::new(Family::new(self.shared.clone())));
        let mut state = self.state.clone();
        let mut copies = Copies::default();
        for &i in &self.shared.desc.state_objects {
            // SAFETY: such a scalar is null or an owned reference.
            if let Some(object) = unsafe { ObjectRef::from_borrowed(self.state[i as usize] as *mut _) } {
                state[i as usize] = copies.object(&object)?.into_raw() as u64;
            }
        }
        Ok(Self {
            state,
            arena: Memory::zeroed(self.shared.arena_bytes, allocator)?,
            runtime: Box::new(runtime),
            outputs: vec![Leaf::NONE; self.shared.n_outputs],
            bindings: Bindings::default(),
            scratch: Default::default(),
            shared: self.shared.clone(),
        })
    }

    /// Goes back to the initial state.
    pub fn reset(&mut self) -> Result<()> {
        self.release_state();
        self.run_init()
    }

    /// Seeds the instance's random numbers, as `torch.manual_seed` does.
    pub fn manual_seed(&mut self, seed: u64) {
        self.runtime.generator = Generator::new(seed);
    }

    /// What the host lets the model use.
    pub(crate) fn env(&self) -> Env {
        self.shared.env
    }

    /// Bytes of the arena that calls work in.
    pub fn workspace_bytes(&self) -> usize {
        self.shared.arena_bytes
    }

    /// The state tag, scalar 0 of the state; 0 for models without state.
    pub fn state_tag(&self) -> i64 {
        self.state.first().map_or(0, |&tag| tag as i64)
    }

    /// What the model accepts.
    pub fn desc(&self) -> &ModelDesc {
        &self.shared.desc
    }

    /// Calls a method: checks the arguments, chooses the variant, runs it, rebuilds the result.
    pub fn call(&mut self, method: &str, args: &[Value]) -> Result<Value> {
        let shared = self.shared.clone();
        let (_, method) = find_method(&shared.desc, method)?;
        let (number, bound) = bind(method, &shared.desc.functions, self.state_tag(), args)?;
        let function = &shared.desc.functions[number];
        let allocator = shared.env.allocator;
        self.outputs.fill(Leaf::NONE);
        let offered = offer(function, &bound.bindings, &mut self.outputs, allocator)?;
        let outputs = self.outputs.as_mut_ptr();
        let tree = self.run(number, bound.leaves.as_ptr(), outputs, std::ptr::null_mut())?;
        bound.write_back();
        let tree = function.results.get(tree).ok_or_else(no_such_result)?;
        rebuild(tree, &mut self.outputs.iter(), &mut offered.into_iter(), allocator)
    }

    /// Calls a method on flattened arguments without allocating: the number of the method, its argument leaves (tensors
    /// row-major and aligned to their elements), and one leaf per result leaf, where a non-null `bits` offers memory for a
    /// tensor result. Gives the function's number and that of the result tree. A result tensor that lies elsewhere than
    /// offered is valid until the next call.
    pub fn call_raw(&mut self, method: usize, inputs: &[Leaf], outputs: &mut [Leaf]) -> Result<(usize, usize)> {
        let (number, n_outputs) = self.choose(method, inputs)?;
        refuse_leaf_overlaps(&self.shared.desc.functions[number], inputs)?;
        if outputs.len() < n_outputs {
            let message = format!("expected room for {n_outputs} result(s), got {}", outputs.len());
            return Err(Error::new(Status::Argument, message));
        }
        let tree = self.run(number, inputs.as_ptr(), outputs.as_mut_ptr(), std::ptr::null_mut())?;
        Ok((number, tree))
    }

    /// The function that flattened arguments choose, and how many result leaves it may write.
    pub(crate) fn choose(&mut self, method: usize, inputs: &[Leaf]) -> Result<(usize, usize)> {
        let tag = self.state_tag();
        let desc = &self.shared.desc;
        let no_method = || Error::new(Status::Argument, "no such method");
        let method: &MethodDesc = desc.methods.get(method).ok_or_else(no_method)?;
        let mut best: Option<(usize, Error)> = None;
        for variant in method.variants.iter().filter(|v| v.state_tag.is_none_or(|t| t == tag)) {
            let function = &desc.functions[variant.function as usize];
            // Objects for tensors that share memory are made of values only.
            let is_shared = || function.inputs.iter().any(|input| matches!(input.kind, InputKind::Shared { .. }));
            match check_leaves(method, function, inputs, &mut self.bindings) {
                Ok(()) if is_shared() => {
                    let message =
                        format!("{}() was compiled for tensors that share memory: call it with values", method.name);
                    best = Some((usize::MAX, Error::new(Status::Argument, message)));
                }
                Ok(()) => return Ok((variant.function as usize, function.n_outputs())),
                Err(mismatch) => {
                    if best.as_ref().is_none_or(|best| mismatch.0 >= best.0) {
                        best = Some(mismatch);
                    }
                }
            }
        }
        Err(best.map_or_else(
            || Error::new(Status::Internal, format!("{}() has no compiled version for this state", method.name)),
            |(_, error)| error,
        ))
    }

    /// The extents that the last [`Self::choose`] bound.
    pub(crate) fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// Runs a function that [`Self::choose`] chose. `workspace` replaces the instance's arena unless null.
    pub(crate) fn run(
        &mut self,
        function: usize,
        inputs: *const Leaf,
        outputs: *mut Leaf,
        workspace: *mut u8,
    ) -> Result<usize> {
        self.runtime.error = None;
        self.runtime.results.clear();
        let runtime: *mut Runtime = &raw mut *self.runtime;
        let mut frame = Frame {
            weights: self.shared.weights.data,
            arena: if workspace.is_null() { self.arena.as_ptr() } else { workspace },
            inputs,
            outputs,
            state: self.state.as_mut_ptr(),
            slots: self.runtime.slots.as_mut_ptr(),
            runtime: runtime.cast(),
            prepared: self.shared.prepared.as_ptr(),
        };
        // SAFETY: the frame has what the description of this function asks for; the inputs were checked against it.
        let result = unsafe { self.shared.code[function].run(&mut frame) };
        self.runtime.end_tasks();
        result.map_err(|mut error| {
            error.operator = self.shared.desc.operator_at(&error.place);
            error
        })
    }

    fn run_init(&mut self) -> Result<()> {
        if let Some(init) = self.shared.desc.init {
            self.outputs.fill(Leaf::NONE);
            let outputs = self.outputs.as_mut_ptr();
            self.run(init as usize, std::ptr::null(), outputs, std::ptr::null_mut())?;
        }
        Ok(())
    }

    fn release_state(&mut self) {
        for &i in &self.shared.desc.state_objects {
            // SAFETY: such a scalar is null or an owned reference, given up here.
            drop(unsafe { ObjectRef::from_raw(self.state[i as usize] as *mut _) });
        }
        self.state.fill(0);
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.release_state();
    }
}

fn find_method<'a>(desc: &'a ModelDesc, name: &str) -> Result<(usize, &'a MethodDesc)> {
    desc.method(name).ok_or_else(|| Error::new(Status::Argument, format!("Method '{name}' is not defined.")))
}

/// Memory for the tensor results whose sizes the arguments fix, with the leaves that offer it.
fn offer(
    function: &FunctionDesc,
    bindings: &Bindings,
    leaves: &mut [Leaf],
    allocator: Allocator,
) -> Result<Vec<Option<Tensor>>> {
    let offer = |(output, leaf): (&Option<TensorDesc>, &mut Leaf)| {
        let mut sizes = [0; MAX_RANK];
        Ok(match output {
            Some(output) if bindings.sizes(output, &mut sizes) => {
                let sizes = &sizes[..output.dims.len()];
                let tensor = Tensor::uninit_in(output.dtype, sizes, allocator)?;
                *leaf = Leaf::tensor(output.dtype, sizes, tensor.data());
                Some(tensor)
            }
            _ => None,
        })
    };
    function.outputs.iter().zip(leaves).map(offer).collect()
}

fn no_such_result() -> Error {
    Error::new(Status::Internal, "the compiled function returned an unknown result number")
}
