//! Whole programs: methods, their variants, and the state that outlives a call.
//!
//! An attribute that some method changes is *state*: an instance of the compiled model keeps it between calls. What is
//! known of all state at the end of a call (which attributes are `None`, shapes of tensors, values of numbers) is a state
//! *tag*. Each method is lowered once for every tag that can hold when it is called, starting from the archive's own
//! state; so code for "the recurrent state is empty" and "it is a `[2, 1, 128]` tensor" are separate functions, each with
//! known shapes. An attribute that takes on too many different facts is widened: its numbers and extents become variables.

use super::Request;
use super::aliases::{held, storages_of, writes_to_tensors};
use super::arguments::{argument, mark_mutated};
use super::attributes::{self, State};
use super::facts::{Before, Fact, Kind, Outcome, Stop};
use super::places::{Place, Stores};
use super::signature::ArgSpec;
use super::unpickle::{set_states, states};
use super::walk::Lowerer;
use crate::diag::{Diagnostic, Result};
use crate::ir::Module;
use crate::loops::{
    self, Arg, BufferClass, Const, Dim, Function, FunctionId, InputKind, Method, Operand, OutputTree, Program, Stmt,
    VarId, VarType, Variant,
};
use crate::ops::builder::Builder;
use crate::ops::value::{Cell, ItemFacts, StorageId, Value};
use crate::ops::views;
use crate::types::{IValue, Object};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Methods that callers of a loaded module do not reach, though other methods of it do.
const HIDDEN: [&str; 4] = ["__contains__", "__getitem__", "__iter__", "__len__"];
/// With more tags than this, attributes that differ between them are widened.
const MAX_TAGS: usize = 8;
/// The most values of integer arguments that get code of their own, for one signature.
const MAX_SPECIAL: usize = 4;
/// Widening happens at most this often, since each makes an attribute vary for good.
const MAX_WIDENINGS: usize = 64;

/// What methods change.
#[derive(Clone, Debug)]
struct StateAttr {
    what: State,
    is_wide: bool,
}

/// Where the program keeps state: scalars and slots by attribute and position within it.
#[derive(Default)]
struct Layout {
    scalars: HashMap<(usize, usize, bool), usize>,
    slots: HashMap<(usize, usize), usize>,
}

pub(super) fn lower_program(module: &Module, requests: &[Request]) -> Result<Program> {
    let mut attrs: Vec<_> =
        attributes::state(module).into_iter().map(|what| StateAttr { what, is_wide: false }).collect();
    let (mut nested, mut may_box) = (ItemFacts::Empty, false);
    for _ in 0..MAX_WIDENINGS {
        let mut lowering = ProgramLowering {
            module,
            attrs: attrs.clone(),
            program: Program::default(),
            tags: Vec::new(),
            layout: Layout::default(),
            returning: BTreeSet::new(),
            raising: Vec::new(),
            nested: nested.clone(),
            wider_nested: None,
            may_box,
            is_apart: false,
        };
        let ended = lowering.run(requests);
        if let Some(wider) = lowering.wider_nested.take() {
            nested = wider;
            continue;
        }
        if lowering.is_apart && !may_box {
            may_box = true;
            continue;
        }
        match ended? {
            Ended::Done => {
                loops::drop_unreached(&mut lowering.program);
                return Ok(lowering.program);
            }
            Ended::TooManyTags => {
                let before: Vec<bool> = attrs.iter().map(|a| a.is_wide).collect();
                for (i, attr) in attrs.iter_mut().enumerate() {
                    let first = &lowering.tags[0][i];
                    attr.is_wide |= lowering.tags.iter().any(|facts| facts[i] != *first);
                }
                if attrs.iter().map(|a| a.is_wide).eq(before) {
                    let message = "the module's state takes on too many different kinds of values";
                    return Err(Diagnostic::unsupported(message));
                }
            }
        }
    }
    Err(Diagnostic::unsupported("the module's state does not settle"))
}

enum Ended {
    Done,
    TooManyTags,
}

struct ProgramLowering<'m> {
    module: &'m Module,
    attrs: Vec<StateAttr>,
    program: Program,
    /// For each tag, what is known of each state attribute.
    tags: Vec<Vec<Fact>>,
    layout: Layout,
    /// Methods that return in some state.
    returning: BTreeSet<String>,
    /// Methods that no path returns from in some state, with what they end with.
    raising: Vec<(String, Box<Diagnostic>)>,
    /// What is known of tensors in lists and dicts that others hold.
    nested: ItemFacts,
    /// What has to be known of them instead.
    wider_nested: Option<ItemFacts>,
    /// Whether loops may leave values of several kinds.
    may_box: bool,
    /// Whether a method's paths hold values that only such a loop brings together.
    is_apart: bool,
}

/// What lowering a function found of the state at its end.
struct Lowered {
    function: Function,
    is_too_many: bool,
}

impl ProgramLowering<'_> {
    fn run(&mut self, requests: &[Request]) -> Result<Ended> {
        self.program.n_state_scalars = usize::from(!self.attrs.is_empty());
        if !self.attrs.is_empty() {
            self.init()?;
        }
        for request in requests {
            self.method(request)?;
        }
        let mut tag = 0;
        while tag < self.tags.len().max(1) {
            for request in requests {
                let state_tag = (!self.attrs.is_empty()).then_some(tag);
                if self.variants(request, state_tag)? {
                    return Ok(Ended::TooManyTags);
                }
            }
            tag += 1;
        }
        // What a method ends with in every state is an error of the program's.
        if let Some(at) = self.raising.iter().position(|(method, _)| !self.returning.contains(method)) {
            return Err(self.raising.swap_remove(at).1);
        }
        Ok(Ended::Done)
    }

    /// Lowers a method for a tag: for any arguments of the signature, and before that, where extents then are not known or it
    /// cannot be done at all, for each value that an integer argument is compared with. Gives whether there are too many tags.
    fn variants(&mut self, request: &Request, tag: Option<usize>) -> Result<bool> {
        let mut compared = BTreeSet::new();
        let general = self.function_for(request, tag, &mut compared);
        let is_open = |arg: usize| matches!(request.args.get(arg), Some(ArgSpec::Int(None)));
        let likely: BTreeSet<_> = request.likely.iter().copied().filter(|(arg, _)| is_open(*arg)).collect();
        let mut lowered = Vec::new();
        let is_plain = general
            .as_ref()
            .is_ok_and(|g| g.function.buffers.iter().all(|buffer| buffer.dims.iter().all(|d| d.known().is_some())));
        let special: Vec<_> =
            likely.iter().copied().chain(compared.into_iter().filter(|c| !likely.contains(c))).collect();
        let n_special = if is_plain { 0 } else { MAX_SPECIAL };
        for (arg, value) in special.into_iter().take(n_special) {
            let mut special = request.clone();
            special.args[arg] = ArgSpec::Int(Some(value));
            match self.function_for(&special, tag, &mut BTreeSet::new()) {
                Ok(one) => lowered.push(one),
                Err(error) if error.blame == crate::diag::Blame::Internal => return Err(error),
                Err(_) => {}
            }
        }
        match general {
            Ok(general) => lowered.push(general),
            Err(error) if lowered.is_empty() || error.blame == crate::diag::Blame::Internal => return Err(error),
            Err(_) => {}
        }
        let is_too_many = lowered.iter().any(|one| one.is_too_many);
        for one in lowered {
            let function = self.program.functions.push(one.function);
            let state_tag = tag.map(|t| i64::try_from(t).expect("few tags"));
            let method = self.program.methods.iter_mut().find(|m| m.name == request.method);
            method.expect("declared above").variants.push(Variant { state_tag, function });
        }
        Ok(is_too_many)
    }

    /// Declares a method.
    fn method(&mut self, request: &Request) -> Result<()> {
        if self.program.methods.iter().any(|m| m.name == request.method) {
            return Ok(());
        }
        if HIDDEN.contains(&&*request.method) {
            let message = format!("NotImplementedError: '{}' of a loaded module", request.method);
            return Err(Diagnostic::user(message).note("in PyTorch, the method that every module has hides it"));
        }
        let class = &self.module.root.class;
        let function = self.module.method(class, &request.method);
        let function =
            function.ok_or_else(|| Diagnostic::user(format!("the module has no method '{}'", request.method)))?;
        let params = function.params.iter().skip(1).map(|p| (p.name.to_string(), p.ty.clone())).collect();
        self.program.methods.push(Method { name: request.method.clone(), params, variants: Vec::new() });
        Ok(())
    }

    /// The function that gives a new instance the archive's own state, which is tag 0.
    fn init(&mut self) -> Result<()> {
        let mut program = std::mem::take(&mut self.program);
        let b = Builder::new(&mut program, "init");
        let mut lowerer = Lowerer::new(self.module, b);
        let outcome = register_objects(&mut lowerer, &self.module.root).and_then(|()| self.init_body(&mut lowerer));
        let function = lowerer.b.finish();
        self.program = program;
        if let Err(Stop::Error(error)) = outcome {
            return Err(error);
        }
        let id: FunctionId = self.program.functions.push(function);
        self.program.init = Some(id);
        Ok(())
    }

    fn init_body(&mut self, lw: &mut Lowerer<'_, '_>) -> Outcome<()> {
        let mut values = Vec::with_capacity(self.attrs.len());
        for attr in self.attrs.clone() {
            values.push(match attr.what {
                State::Attr(object, name) => {
                    let value = object.attrs.get(&name).cloned().unwrap_or(IValue::None);
                    lw.constant_value(&value, &name)?
                }
                State::Storage(whole, _) => lw.constant_value(&IValue::Tensor(whole), "storage")?,
            });
        }
        self.save(lw, &values)?;
        lw.b.function.results.push(OutputTree::None);
        lw.b.push(Stmt::Return(0, Vec::new()));
        Ok(())
    }

    /// Lowers a method for a signature and a state tag. Memory that arguments share counts only if the method writes to it.
    fn function_for(
        &mut self,
        request: &Request,
        tag: Option<usize>,
        compared: &mut BTreeSet<(usize, i64)>,
    ) -> Result<Lowered> {
        let lowered = self.function(request, tag, Vec::new(), compared)?;
        let is_tensor = |input: &&loops::Input| matches!(input.kind, InputKind::Tensor { .. });
        let tensors = lowered.function.inputs.iter().filter(is_tensor).zip(&request.overlaps);
        let is_written = |(input, strides): (&loops::Input, &Option<_>)| {
            strides.is_some() && matches!(input.kind, InputKind::Tensor { is_mutated: true, .. })
        };
        if tensors.clone().any(is_written) {
            return self.function(request, tag, request.overlaps.clone(), compared);
        }
        Ok(lowered)
    }

    fn function(
        &mut self,
        request: &Request,
        tag: Option<usize>,
        overlaps: Vec<Option<Vec<i64>>>,
        compared: &mut BTreeSet<(usize, i64)>,
    ) -> Result<Lowered> {
        let mut program = std::mem::take(&mut self.program);
        let b = Builder::new(&mut program, &request.method);
        let mut lowerer = Lowerer::new(self.module, b);
        lowerer.overlaps = overlaps.into_iter();
        lowerer.is_traced = request.is_traced;
        lowerer.may_box = self.may_box;
        lowerer.b.shares_memory = writes_to_tensors(self.module);
        lowerer.b.nested = self.nested.clone();
        let n_tags = self.tags.len();
        let outcome = self.body(&mut lowerer, request, tag);
        let (first_error, by_tasks) = (lowerer.first_error.take(), std::mem::take(&mut lowerer.written));
        compared.append(&mut lowerer.compared);
        self.wider_nested = lowerer.b.wider_nested.take().or_else(|| self.wider_nested.take());
        let mut function = lowerer.b.finish();
        self.program = program;
        match first_error {
            // No path returns, so this is what every call would end with.
            Some(error) if function.results.is_empty() && tag.is_none() => return Err(error),
            Some(error) if function.results.is_empty() => self.raising.push((request.method.clone(), error)),
            _ => _ = self.returning.insert(request.method.clone()),
        }
        match outcome {
            Ok(()) => {}
            Err(Stop::Error(error)) => return Err(error),
            Err(Stop::Shared(_) | Stop::Instances(_)) => {
                return Err(Diagnostic::internal("a branch that does not share what its paths put into objects"));
            }
            Err(Stop::Incompatible(why)) => {
                self.is_apart = true;
                let message = "control flow merges values of different kinds";
                return Err(Diagnostic::unsupported(message).note(why));
            }
        }
        mark_mutated(&mut function, &by_tasks);
        let is_too_many = self.tags.len() > MAX_TAGS.max(n_tags.min(1));
        Ok(Lowered { function, is_too_many })
    }

    fn body(&mut self, lw: &mut Lowerer<'_, '_>, request: &Request, tag: Option<usize>) -> Outcome<()> {
        register_objects(lw, &self.module.root)?;
        let class = Arc::clone(&self.module.root.class);
        let method = self.module.method(&class, &request.method).expect("declared before");
        let graph = Arc::new(super::reshaping::renamed(&method.graph));
        let mut args = vec![lw.object(&self.module.root)];
        let params: Vec<_> = method.params.iter().skip(1).cloned().collect();
        if request.args.len() > params.len() {
            let message = format!(
                "{}() expected at most {} argument(s) but received {}",
                request.method,
                params.len(),
                request.args.len()
            );
            return Err(Diagnostic::user(message).into());
        }
        let mut symbols = HashMap::new();
        for (i, param) in params.iter().enumerate() {
            let value = match (request.args.get(i), &param.default) {
                (Some(spec), _) => {
                    if !spec.is_for(&param.ty) {
                        let message = format!(
                            "{}() Expected a value of type '{}' for argument '{}' but instead found type '{}'.",
                            request.method,
                            param.ty.annotation(),
                            param.name,
                            spec.type_name()
                        );
                        return Err(Diagnostic::user(message).into());
                    }
                    let mut tree = Vec::new();
                    let value = argument(lw, spec, &param.ty, &param.name, &mut tree, &mut symbols)?;
                    if let Value::Int(Operand::Var(var)) = value {
                        lw.int_args.insert(var, i);
                    }
                    lw.b.function.params.append(&mut tree);
                    value
                }
                (None, Some(default)) => lw.constant_value(default, &param.name)?,
                (None, None) => {
                    let message = format!("{}() is missing value for argument '{}'", request.method, param.name);
                    return Err(Diagnostic::user(message).into());
                }
            };
            args.push(value);
        }
        if let Some(tag) = tag {
            self.load(lw, tag)?;
        }
        let unpickled = states(&self.module.root);
        let name = format!("{}.{}", self.module.root.class, request.method);
        set_states(lw, &unpickled, &mut |lw| {
            lw.trace_enter(&name, &graph, &args);
            lw.run_graph(&graph, &args, &mut |lw, values| {
                lw.write_arguments_back();
                let mut leaves = Vec::new();
                let result = lw.waited(values.first().unwrap_or(&Value::None))?;
                let tree = lw.result_tree(&result, &mut leaves)?;
                if tag.is_some() {
                    let values = self.current(lw)?;
                    // Results must not change with the state, so those that are its memory are copied first.
                    for leaf in &mut leaves {
                        if let Arg::Buffer(buffer) = leaf {
                            let tensor = lw.b.tensor_of(*buffer);
                            let copy = lw.b.copy(&tensor);
                            *buffer = lw.b.storage_buffer(copy.storage);
                        }
                    }
                    self.save(lw, &values)?;
                }
                let results = &mut lw.b.function.results;
                let at = results.iter().position(|known| *known == tree).unwrap_or_else(|| {
                    results.push(tree);
                    results.len() - 1
                });
                lw.b.push(Stmt::Return(at, leaves));
                Ok(())
            })
        })
    }

    // ---- arguments

    // ---- state

    /// Puts the state of a tag into the objects' attributes.
    fn load(&mut self, lw: &mut Lowerer<'_, '_>, tag: usize) -> Outcome<()> {
        for (i, attr) in self.attrs.clone().iter().enumerate() {
            let place = self.state_place(lw, i, &self.tags[tag][i].clone());
            let mut vars = Vec::new();
            place.vars(&mut vars);
            for (at, var) in vars.into_iter().enumerate() {
                let scalar = self.scalar(lw, i, at, var);
                lw.b.push(Stmt::LoadState(var, scalar));
            }
            let value = place.value(&mut lw.b);
            match (&attr.what, value) {
                (State::Attr(object, name), value) => Self::give(lw, object, name, value),
                (State::Storage(whole, views), Value::Tensor(tensor)) => {
                    for (object, name, view) in views {
                        let dims = view.sizes().iter().map(|n| Dim::Const(*n)).collect();
                        let offset = Dim::Const(view.offset());
                        let view = views::as_strided_on(&tensor, whole.numel(), offset, dims, view.strides());
                        Self::give(lw, object, name, Value::Tensor(view));
                    }
                    lw.shared.insert(whole.storage().key(), (tensor.clone(), whole.numel()));
                    lw.storages.insert(i, tensor);
                }
                (State::Storage(..), _) => return Err(Diagnostic::internal("a storage that is no tensor").into()),
            }
        }
        Ok(())
    }

    fn give(lw: &mut Lowerer<'_, '_>, object: &Arc<Object>, name: &Arc<str>, value: Value) {
        let Value::Cell(cell) = lw.object(object) else { unreachable!("objects are cells") };
        if let Cell::Object(object) = &mut lw.b.heap.cells[cell] {
            object.attrs.insert(Arc::clone(name), value);
        }
    }

    /// The present values of the state attributes.
    fn current(&self, lw: &mut Lowerer<'_, '_>) -> Outcome<Vec<Value>> {
        let mut values = Vec::with_capacity(self.attrs.len());
        for (i, attr) in self.attrs.iter().enumerate() {
            let value = match &attr.what {
                State::Attr(object, name) => {
                    let Value::Cell(cell) = lw.object(object) else { unreachable!("objects are cells") };
                    match &lw.b.heap.cells[cell] {
                        Cell::Object(object) => object.attrs.get(name).cloned(),
                        Cell::RunTimeObject(object) => {
                            let object = object.clone();
                            lw.b.attribute(&object, name)
                        }
                        Cell::List(_)
                        | Cell::Dict(_)
                        | Cell::RunTimeList(_)
                        | Cell::RunTimeDict(_)
                        | Cell::Future(_) => None,
                    }
                }
                State::Storage(..) => lw.storages.get(&i).cloned().map(Value::Tensor),
            };
            values.push(value.ok_or_else(|| Diagnostic::internal(format!("state {i} is lost")))?);
        }
        Ok(values)
    }

    /// Keeps these values as the state, with their tag.
    fn save(&mut self, lw: &mut Lowerer<'_, '_>, values: &[Value]) -> Outcome<()> {
        move_shared_to_objects(lw, values);
        let facts: Vec<Fact> = values
            .iter()
            .zip(&self.attrs)
            .map(|(value, attr)| self.lasting_fact(lw, value)?.lasting(attr.is_wide).growing(&lw.b, attr.is_wide))
            .collect::<Outcome<_>>()?;
        let tag = self.tags.iter().position(|known| *known == facts).unwrap_or_else(|| {
            self.tags.push(facts.clone());
            self.tags.len() - 1
        });
        let mut stores = Stores::default();
        let mut kept = Vec::new();
        for (i, (fact, value)) in facts.iter().zip(values).enumerate() {
            let place = self.state_place(lw, i, fact);
            stores.add(&mut lw.b, &place, value)?;
            let mut vars = Vec::new();
            place.vars(&mut vars);
            for (at, var) in vars.into_iter().enumerate() {
                let scalar = self.scalar(lw, i, at, var);
                kept.push((scalar, var));
            }
        }
        stores.emit(&mut lw.b);
        for (scalar, var) in kept {
            lw.b.push(Stmt::StoreState(scalar, Operand::Var(var)));
        }
        let tag = i64::try_from(tag).expect("few tags");
        lw.b.push(Stmt::StoreState(0, Operand::Const(Const::int(tag))));
        Ok(())
    }

    /// What is known of a value for longer than the call: nothing of its variables, and lists by their contents.
    fn lasting_fact(&self, lw: &Lowerer<'_, '_>, value: &Value) -> Outcome<Fact> {
        let fact = Fact::of(&lw.b, value, Before::NOTHING);
        match fact {
            Fact::Scalar(Kind::Str) => Err(lw.b.unsupported("a string made at run time as state").into()),
            Fact::Future(_) => Err(lw.b.unsupported("a Future as state").into()),
            fact => Ok(fact),
        }
    }

    fn state_place(&mut self, lw: &mut Lowerer<'_, '_>, attr: usize, fact: &Fact) -> Place {
        let mut n_tensors = 0;
        let slots = &mut self.layout.slots;
        Place::with_class(&mut lw.b, fact, &mut |b, _| {
            let key = (attr, n_tensors);
            n_tensors += 1;
            BufferClass::Slot(*slots.entry(key).or_insert_with(|| {
                b.program.n_slots += 1;
                b.program.n_slots - 1
            }))
        })
    }

    /// The scalar of the state that keeps a variable of an attribute's place: one for references, which are counted, and one for
    /// numbers.
    fn scalar(&mut self, lw: &mut Lowerer<'_, '_>, attr: usize, at: usize, var: VarId) -> usize {
        let is_object = lw.b.function.vars[var].ty == VarType::Object;
        *self.layout.scalars.entry((attr, at, is_object)).or_insert_with(|| {
            lw.b.program.n_state_scalars += 1;
            lw.b.program.n_state_scalars - 1
        })
    }
}

/// Moves memory that several of these values show into objects, so that they share it in later calls, too.
fn move_shared_to_objects(lw: &mut Lowerer<'_, '_>, values: &[Value]) {
    let mut seen = HashSet::new();
    for value in values {
        let mut storages: BTreeSet<StorageId> = storages_of(value).collect();
        if let Value::Cell(cell) = value {
            storages.extend(held(&lw.b.heap.cells[*cell]).flat_map(storages_of));
        }
        for id in storages {
            if !seen.insert(id) {
                lw.b.move_to_object(id);
            }
        }
    }
}

/// Makes the cells of all objects of the archive, so that they are the same cells on all paths, with their paths.
fn register_objects(lw: &mut Lowerer<'_, '_>, root: &Arc<Object>) -> Outcome<()> {
    let objects = object_paths(root);
    for (object, path) in &objects {
        lw.object(object);
        lw.paths.insert(Arc::as_ptr(object) as usize, path.clone());
    }
    // Instances of script classes may become objects of the running program, with all that they have.
    let classes = Arc::clone(&lw.b.classes);
    for (object, _) in objects.iter().filter(|(object, _)| classes.contains(&object.class)) {
        for name in object.attrs.keys() {
            let owner = lw.object(object);
            let value = lw.get_attr(&owner, name)?;
            ProgramLowering::give(lw, object, name, value);
        }
    }
    Ok(())
}

/// The objects of an archive, once each, with their paths: `layers.0`; the root's is empty.
pub(crate) fn object_paths(root: &Arc<Object>) -> Vec<(Arc<Object>, String)> {
    let mut queue = vec![(Arc::clone(root), String::new())];
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    while let Some((object, path)) = queue.pop() {
        if !seen.insert(Arc::as_ptr(&object) as usize) {
            continue;
        }
        for (name, value) in object.attrs.iter().rev() {
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            objects_in(value, &path, &mut queue);
        }
        found.push((object, path));
    }
    found
}

pub(super) fn objects_in(value: &IValue, path: &str, out: &mut Vec<(Arc<Object>, String)>) {
    match value {
        IValue::Object(object) => out.push((Arc::clone(object), path.to_owned())),
        IValue::Tuple(items) | IValue::List(_, items) => {
            items.iter().enumerate().for_each(|(i, v)| objects_in(v, &format!("{path}.{i}"), out));
        }
        IValue::Dict(_, entries) => {
            entries.iter().enumerate().for_each(|(i, (_, v))| objects_in(v, &format!("{path}.{i}"), out));
        }
        IValue::None
        | IValue::Bool(_)
        | IValue::Int(_)
        | IValue::Float(_)
        | IValue::Complex(..)
        | IValue::Str(_)
        | IValue::Device(_)
        | IValue::Tensor(_)
        | IValue::Enum { .. } => {}
    }
}
