//! Whole programs: methods, their variants, and the state that outlives a call.
//!
//! An attribute that some method changes is *state*: an instance of the compiled model keeps it between calls. What is
//! known of all state at the end of a call (which attributes are `None`, shapes of tensors, values of numbers) is a state
//! *tag*. Each method is lowered once for every tag that can hold when it is called, starting from the archive's own
//! state; so code for "the recurrent state is empty" and "it is a `[2, 1, 128]` tensor" are separate functions, each with
//! known shapes. An attribute that takes on too many different facts is widened: its numbers and extents become variables.

use super::Request;
use super::aliases::{held, storages_of, writes_to_tensors};
use super::attributes::{self, State};
use super::facts::{Before, Fact, Kind, Outcome, Stop};
use super::places::{Place, Stores};
use super::signature::{ArgSpec, DimSpec};
use super::unpickle::{set_states, states};
use super::walk::Lowerer;
use crate::diag::{Diagnostic, Result};
use crate::ir::Module;
use crate::loops::{
    self, Arg, BufferClass, BufferId, Const, Dim, Function, FunctionId, Input, InputKind, Method, Operand, OutputTree,
    Program, Stmt, VarId, VarType, Variant,
};
use crate::ops::builder::Builder;
use crate::ops::prim::scalar::number_value;
use crate::ops::value::{Cell, ItemFacts, RunTimeDict, RunTimeList, StorageId, Tensor, Value};
use crate::ops::views;
use crate::types::{DEVICE_TYPES, DType, IValue, Object, Type, is_device};
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
    let mut nested = ItemFacts::Empty;
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
        };
        let ended = lowering.run(requests);
        if let Some(wider) = lowering.wider_nested.take() {
            nested = wider;
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
        let general = self.function(request, tag, &mut compared);
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
            match self.function(&special, tag, &mut BTreeSet::new()) {
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
        register_objects(&mut lowerer, &self.module.root);
        let outcome = self.init_body(&mut lowerer);
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

    /// Lowers a method for a signature and a state tag.
    fn function(
        &mut self,
        request: &Request,
        tag: Option<usize>,
        compared: &mut BTreeSet<(usize, i64)>,
    ) -> Result<Lowered> {
        let mut program = std::mem::take(&mut self.program);
        let b = Builder::new(&mut program, &request.method);
        let mut lowerer = Lowerer::new(self.module, b);
        lowerer.is_traced = request.is_traced;
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
            Err(Stop::Shared(_)) => return Err(Diagnostic::internal("a branch that does not share memory")),
            Err(Stop::Incompatible(why)) => {
                let message = "control flow merges values of different kinds";
                return Err(Diagnostic::unsupported(message).note(why));
            }
        }
        mark_mutated(&mut function, &by_tasks);
        let is_too_many = self.tags.len() > MAX_TAGS.max(n_tags.min(1));
        Ok(Lowered { function, is_too_many })
    }

    fn body(&mut self, lw: &mut Lowerer<'_, '_>, request: &Request, tag: Option<usize>) -> Outcome<()> {
        register_objects(lw, &self.module.root);
        let class = Arc::clone(&self.module.root.class);
        let method = self.module.method(&class, &request.method).expect("declared before");
        let graph = Arc::new(method.graph.clone());
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
                    let value = Self::argument(lw, spec, &param.ty, &param.name, &mut tree, &mut symbols)?;
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

    /// The value of an argument, and its part of the function's inputs.
    fn argument(
        lw: &mut Lowerer<'_, '_>,
        spec: &ArgSpec,
        ty: &Type,
        name: &str,
        tree: &mut Vec<OutputTree>,
        symbols: &mut HashMap<Arc<str>, VarId>,
    ) -> Outcome<Value> {
        let b = &mut lw.b;
        let ty = match ty {
            Type::Optional(inner) if *spec != ArgSpec::None => inner,
            other => other,
        };
        let mut scalar = |b: &mut Builder<'_>, kind: Kind, only: Option<Const>, leaf: OutputTree| {
            let var = b.new_var(kind.var_type(), name);
            b.function.inputs.push(Input { name: name.to_owned(), kind: InputKind::Scalar { var, only } });
            tree.push(leaf);
            match (only, kind) {
                (Some(c), Kind::Int) => Value::Int(Operand::Const(c)),
                (Some(c), Kind::Float) => Value::Float(Operand::Const(c)),
                (Some(c), Kind::Bool) => Value::Bool(Operand::Const(c)),
                _ => kind.value(var),
            }
        };
        Ok(match spec {
            ArgSpec::None => {
                b.function.inputs.push(Input { name: name.to_owned(), kind: InputKind::None });
                tree.push(OutputTree::None);
                Value::None
            }
            ArgSpec::Complex => complex_argument(b, name, tree),
            ArgSpec::Int(_) | ArgSpec::Float(_) if matches!(ty, Type::Complex) => complex_argument(b, name, tree),
            ArgSpec::Int(only) if matches!(ty, Type::Float) => {
                // Callers may pass an int for a float parameter.
                #[allow(clippy::cast_precision_loss, reason = "the conversion a caller's int undergoes")]
                let only = only.map(|x| Const::float(DType::F64, x as f64));
                scalar(b, Kind::Float, only, OutputTree::Float)
            }
            ArgSpec::Int(only) => scalar(b, Kind::Int, only.map(Const::int), OutputTree::Int),
            ArgSpec::Float(only) => {
                scalar(b, Kind::Float, only.map(|x| Const::float(DType::F64, x)), OutputTree::Float)
            }
            ArgSpec::Bool(only) => scalar(b, Kind::Bool, only.map(Const::bool), OutputTree::Bool),
            ArgSpec::Str(text) => {
                b.function.inputs.push(Input { name: name.to_owned(), kind: InputKind::Str(Arc::clone(text)) });
                tree.push(OutputTree::Str(Arc::clone(text)));
                if matches!(ty, Type::Device) && !is_device(text) {
                    let types = DEVICE_TYPES.join(", ");
                    let message = format!("Expected one of {types} device type at start of device string: {text}");
                    return Err(b.user(message).into());
                }
                if matches!(ty, Type::Device) { Value::Device(Arc::clone(text)) } else { Value::text(text) }
            }
            ArgSpec::Tensor(dtype, _) if dtype.is_quantised() => {
                return Err(b.unsupported("a quantised tensor as an argument").into());
            }
            ArgSpec::Tensor(dtype, dims) => {
                let dims: Vec<Dim> = dims
                    .iter()
                    .map(|d| match d {
                        DimSpec::Known(n) => Dim::Const(*n),
                        DimSpec::Symbol(symbol) => {
                            let var =
                                symbols.entry(Arc::clone(symbol)).or_insert_with(|| b.new_var(VarType::Int, symbol));
                            Dim::Var(*var)
                        }
                    })
                    .collect();
                let class = BufferClass::Input(b.function.inputs.len());
                let buffer = b.add_buffer(*dtype, &dims, class);
                name.clone_into(&mut b.function.buffers[buffer].name);
                let kind = InputKind::Tensor { buffer, is_mutated: false };
                b.function.inputs.push(Input { name: name.to_owned(), kind });
                tree.push(OutputTree::Tensor);
                let tensor = b.tensor_of(buffer);
                // Callers may pass a tensor of one element for a number.
                let number = match ty {
                    Type::Int => Some(DType::I64),
                    Type::Float => Some(DType::F64),
                    Type::Bool => Some(DType::Bool),
                    _ => None,
                };
                if let Some(dtype) = number {
                    let item = b.item(&tensor);
                    let item = b.cast(dtype, item);
                    return Ok(number_value(b, item));
                }
                b.heap.storages[tensor.storage].argument = Some(buffer);
                Value::Tensor(tensor)
            }
            ArgSpec::Tuple(items) => {
                let types: Vec<Type> = match ty {
                    Type::Tuple(types) => types.to_vec(),
                    Type::NamedTuple(named) => named.fields.iter().map(|(_, ty)| ty.clone()).collect(),
                    Type::List(elem) => vec![(**elem).clone(); items.len()],
                    _ => Vec::new(),
                };
                let mut trees = Vec::new();
                let values = items.iter().enumerate().map(|(i, item)| {
                    let ty = types.get(i).unwrap_or(&Type::Any);
                    Self::argument(lw, item, ty, &format!("{name}[{i}]"), &mut trees, symbols)
                });
                let values = values.collect::<Outcome<Vec<_>>>()?;
                tree.push(OutputTree::Tuple(trees));
                if let Type::List(_) = ty {
                    return Ok(lw.b.new_list(values));
                }
                Value::Tuple(values, Some(ty.clone()).filter(|t| matches!(t, Type::NamedTuple(_))))
            }
            ArgSpec::List(items) => {
                let elem = if let Type::List(elem) = ty { (**elem).clone() } else { Type::Any };
                let mut trees = Vec::new();
                let values = items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| Self::argument(lw, item, &elem, &format!("{name}[{i}]"), &mut trees, symbols));
                let values = values.collect::<Outcome<Vec<_>>>()?;
                tree.push(OutputTree::List(trees));
                lw.b.new_list(values)
            }
            ArgSpec::Dict(entries) => {
                let (key_ty, item_ty) =
                    if let Type::Dict(k, v) = ty { ((**k).clone(), (**v).clone()) } else { (Type::Any, Type::Any) };
                let mut trees = Vec::new();
                let mut values = Vec::new();
                for (i, (key, item)) in entries.iter().enumerate() {
                    let mut pair = Vec::new();
                    let k = Self::argument(lw, key, &key_ty, &format!("{name} key {i}"), &mut pair, symbols)?;
                    let v = Self::argument(lw, item, &item_ty, &format!("{name} value {i}"), &mut pair, symbols)?;
                    let item = pair.pop().expect("two trees");
                    trees.push((pair.pop().expect("two trees"), item));
                    values.push((k, v));
                }
                tree.push(OutputTree::Dict(trees));
                Value::Cell(lw.b.heap.cells.push(Cell::Dict(values)))
            }
        })
    }

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
fn register_objects(lw: &mut Lowerer<'_, '_>, root: &Arc<Object>) {
    for (object, path) in object_paths(root) {
        lw.object(&object);
        lw.paths.insert(Arc::as_ptr(&object) as usize, path);
    }
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

/// Notes which tensor arguments the body writes to, itself or through its tasks.
pub(super) fn mark_mutated(function: &mut Function, by_tasks: &HashSet<BufferId>) {
    let mut written = by_tasks.clone();
    loops::walk(&function.body, &mut |stmt| {
        if let Stmt::Kernel(kernel) = stmt {
            written.extend(kernel.stores.iter().map(|store| store.buffer));
        }
    });
    let is_written = |buffer| {
        written.contains(&buffer)
            || written
                .iter()
                .any(|w| matches!(function.buffers[*w].class, BufferClass::Alias { of, .. } if of == buffer))
    };
    for input in &mut function.inputs {
        if let InputKind::Tensor { buffer, is_mutated } = &mut input.kind {
            *is_mutated = is_written(*buffer);
        }
    }
}

impl Lowerer<'_, '_> {
    /// Arguments that moved into objects go back to the caller's memory.
    pub(super) fn write_arguments_back(&mut self) {
        for (id, buffer) in self.b.arguments_in_objects() {
            let mut stores = Stores::default();
            let storage = &self.b.heap.storages[id];
            stores.add_tensor(buffer, Tensor::whole(id, storage.dtype, &storage.dims));
            stores.emit(&mut self.b);
        }
    }

    /// A result value as a tree, with its leaves.
    fn result_tree(&mut self, value: &Value, leaves: &mut Vec<Arg>) -> Outcome<OutputTree> {
        let leaf = |leaves: &mut Vec<Arg>, operand: &Operand, tree: OutputTree| {
            leaves.push(Arg::Scalar(operand.clone()));
            tree
        };
        Ok(match value {
            Value::None | Value::Uninitialized => OutputTree::None,
            Value::Int(o) => leaf(leaves, o, OutputTree::Int),
            Value::Float(o) => leaf(leaves, o, OutputTree::Float),
            Value::Bool(o) => leaf(leaves, o, OutputTree::Bool),
            Value::Complex(re, im) => {
                leaves.extend([Arg::Scalar(re.clone()), Arg::Scalar(im.clone())]);
                OutputTree::Complex
            }
            Value::Str(Operand::Str(text)) | Value::Device(text) => OutputTree::Str(Arc::clone(text)),
            Value::Str(o) => leaf(leaves, o, OutputTree::Object),
            Value::OneOf(one) => leaf(leaves, &Operand::Var(one.item), OutputTree::Object),
            Value::Tensor(t) if t.dtype.is_quantised() => {
                return Err(self.b.unsupported("a quantised tensor as a result").into());
            }
            Value::Tensor(t) => {
                leaves.push(Arg::Buffer(self.b.row_major(t)));
                OutputTree::Tensor
            }
            Value::Tuple(items, ty) => {
                let trees = items.iter().map(|v| self.result_tree(v, leaves)).collect::<Outcome<Vec<_>>>()?;
                match ty {
                    Some(Type::NamedTuple(named)) => {
                        let names = named.fields.iter().map(|(name, _)| Arc::clone(name));
                        OutputTree::NamedTuple(Arc::clone(&named.name), names.zip(trees).collect())
                    }
                    _ => OutputTree::Tuple(trees),
                }
            }
            Value::Cell(cell) => match self.b.heap.cells[*cell].clone() {
                Cell::List(items) => {
                    OutputTree::List(items.iter().map(|v| self.result_tree(v, leaves)).collect::<Outcome<_>>()?)
                }
                Cell::Dict(entries) => {
                    let mut trees = Vec::with_capacity(entries.len());
                    for (k, v) in &entries {
                        trees.push((self.result_tree(k, leaves)?, self.result_tree(v, leaves)?));
                    }
                    OutputTree::Dict(trees)
                }
                Cell::RunTimeList(RunTimeList { var, .. }) | Cell::RunTimeDict(RunTimeDict { var, .. }) => {
                    leaf(leaves, &Operand::Var(var), OutputTree::Object)
                }
                Cell::Future(_) => return Err(self.b.unsupported("a Future as a result").into()),
                Cell::Object(object) => {
                    return Err(self.b.unsupported(format!("an object of class {} as a result", object.class)).into());
                }
            },
            Value::Enum(..) | Value::Function(_) => {
                return Err(self.b.unsupported(format!("a result of type {}", value.kind())).into());
            }
        })
    }
}

/// A complex argument: two inputs.
fn complex_argument(b: &mut Builder<'_>, name: &str, tree: &mut Vec<OutputTree>) -> Value {
    let mut part = || {
        let var = b.new_var(VarType::Float, name);
        b.function.inputs.push(Input { name: name.to_owned(), kind: InputKind::Scalar { var, only: None } });
        Operand::Var(var)
    };
    let parts = Value::Complex(part(), part());
    tree.push(OutputTree::Complex);
    parts
}
