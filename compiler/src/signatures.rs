//! Which methods to compile and for which arguments: from what the user says, else from what the archive recorded.

use crate::archive::Archive;
use crate::diag::{Diagnostic, Result};
use crate::ir::{Function, Module};
use crate::lower::{ArgSpec, DimSpec, Request};
use crate::types::{IValue, Type};

/// One `--input`: an argument of one method, or of every chosen method that has it.
#[derive(Clone, PartialEq, Debug)]
pub struct InputSpec {
    /// `encode` in `encode.x=f32[1,8]`.
    pub method: Option<String>,
    /// The parameter; without a name, inputs go to the parameters in order.
    pub name: Option<String>,
    /// What is known of the argument.
    pub spec: ArgSpec,
}

impl InputSpec {
    /// Reads `x=f32[1,8]`, `encode.x=f32[1,8]` or `f32[1,8]`.
    ///
    /// # Errors
    /// Those of [`ArgSpec::parse`].
    pub fn parse(text: &str) -> Result<Self> {
        let (method, name, rest) = split_name(text);
        Ok(Self { method, name, spec: ArgSpec::parse(rest)? })
    }
}

/// The method, the name and the rest of `method.name=rest`, where the first two are optional.
pub fn split_name(text: &str) -> (Option<String>, Option<String>, &str) {
    let is_name = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    match text.split_once('=').map(|(name, rest)| (name.trim(), rest)) {
        Some((name, rest)) if is_name(name) => match name.split_once('.') {
            Some((method, name)) => (Some(method.to_owned()), Some(name.to_owned()), rest),
            None => (None, Some(name.to_owned()), rest),
        },
        _ => (None, None, text),
    }
}

/// The requests for a build: the methods asked for, or `forward` and every method that inputs are given or recorded for.
/// A parameter that is given several times makes as many signatures.
///
/// # Errors
/// User errors for methods and parameters that do not exist, and where nothing tells what an argument will be.
pub fn requests(archive: &Archive, module: &Module, methods: &[String], inputs: &[InputSpec]) -> Result<Vec<Request>> {
    let class = &module.root.class;
    let mut chosen: Vec<String> = methods.to_vec();
    if chosen.is_empty() {
        if module.method(class, "forward").is_some() {
            chosen.push("forward".to_owned());
        }
        let given = inputs.iter().filter_map(|input| input.method.clone());
        for method in given.chain(archive.traced_inputs.keys().cloned()) {
            if !chosen.contains(&method) {
                chosen.push(method);
            }
        }
    }
    if chosen.is_empty() {
        return Err(Diagnostic::user("the module has no method 'forward'")
            .note(format!("its methods: {}", method_names(module).join(", ")))
            .help("choose with --method NAME"));
    }
    // A name that is nowhere is said first: it is likelier a slip than an argument forgotten.
    let has_place = |input: &&InputSpec| {
        let mut functions = chosen.iter().filter(|m| input.method.as_ref().is_none_or(|method| method == *m));
        let Some(name) = &input.name else { return true };
        functions.any(|method| {
            module.method(class, method).is_none_or(|f| f.params.iter().skip(1).any(|p| *p.name == **name))
        })
    };
    if let Some(input) = inputs.iter().find(|input| !has_place(input)) {
        return Err(no_place(module, &chosen, input));
    }
    let mut used = vec![false; inputs.len()];
    let mut requests = Vec::new();
    for method in &chosen {
        let function = module.method(class, method).ok_or_else(|| {
            Diagnostic::user(format!("the module has no method '{method}'"))
                .note(format!("its methods: {}", method_names(module).join(", ")))
        })?;
        requests.extend(of_method(archive, function, method, inputs, &mut used)?);
    }
    if let Some(unused) = used.iter().position(|used| !used) {
        return Err(no_place(module, &chosen, &inputs[unused]));
    }
    Ok(requests)
}

fn no_place(module: &Module, chosen: &[String], input: &InputSpec) -> Box<Diagnostic> {
    let name = input.name.as_deref().unwrap_or("without a name");
    let error = Diagnostic::user(format!("no compiled method has a place for the input '{name}'"));
    chosen.iter().fold(error, |error, method| match module.method(&module.root.class, method) {
        Some(function) => error.note(describe(method, function)),
        None => error,
    })
}

/// Methods of the root module.
pub fn method_names(module: &Module) -> Vec<String> {
    let class = module.classes.get(&module.root.class);
    class.map_or_else(Vec::new, |class| class.methods.iter().map(ToString::to_string).collect())
}

/// `forward(Tensor x, int sr=16000) -> Tensor`
pub fn describe(method: &str, function: &Function) -> String {
    let params: Vec<String> = function
        .params
        .iter()
        .skip(1)
        .map(|p| format!("{}: {}{}", p.name, p.ty.annotation(), if p.default.is_some() { " = ..." } else { "" }))
        .collect();
    format!("{method}({}) -> {}", params.join(", "), function.result.annotation())
}

fn of_method(
    archive: &Archive,
    function: &Function,
    method: &str,
    inputs: &[InputSpec],
    used: &mut [bool],
) -> Result<Vec<Request>> {
    let params = function.params.get(1..).unwrap_or_default();
    let mut given: Vec<Vec<ArgSpec>> = vec![Vec::new(); params.len()];
    let mut n_unnamed = 0;
    for (i, input) in inputs.iter().enumerate() {
        if input.method.as_ref().is_some_and(|m| m != method) {
            continue;
        }
        let place = if let Some(name) = &input.name {
            params.iter().position(|p| *p.name == **name)
        } else {
            n_unnamed += 1;
            (n_unnamed <= params.len()).then(|| n_unnamed - 1)
        };
        if let Some(place) = place {
            used[i] = true;
            fits(&params[place].ty, &input.spec, &params[place].name)?;
            given[place].push(input.spec.clone());
        }
    }
    let recorded = archive.traced_inputs.get(method);
    let last_given = given.iter().rposition(|specs| !specs.is_empty());
    let n_signatures = given.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let mut requests = Vec::new();
    for k in 0..n_signatures {
        let mut args = Vec::new();
        for (i, param) in params.iter().enumerate() {
            if let Some(spec) = given[i].get(k).or_else(|| given[i].last()) {
                args.push(spec.clone());
            } else if let Some(value) = recorded.and_then(|values| values.get(i)) {
                args.push(of_value(value)?);
            } else if let Some(default) = &param.default {
                if last_given.is_none_or(|last| i > last) && recorded.is_none_or(|values| i >= values.len()) {
                    break;
                }
                args.push(constant(default)?);
            } else {
                args.push(of_type(&param.ty).ok_or_else(|| {
                    Diagnostic::user(format!("nothing says what the argument '{}' of {method}() will be", param.name))
                        .note(describe(method, function))
                        .help(format!("give --input {}={}", param.name, example(&param.ty)))
                })?);
            }
        }
        requests.push(Request::new(method, args));
    }
    Ok(requests)
}

/// The same method for arguments of the same ranks and element types and of any extents: requests to be tried in order. The
/// first takes every extent as one of its own; the second takes extents as equal that are equal in the given signature, for
/// methods that need to know which are. Nothing where no extent is fixed.
pub fn for_any_extents(request: &Request) -> Vec<Request> {
    let with = |is_shared: bool| {
        let mut symbols = Symbols { is_shared, n: 0 };
        let args = request.args.iter().map(|arg| symbols.arg(arg)).collect();
        (Request { args, ..request.clone() }, symbols.n)
    };
    let (own, n) = with(false);
    let (shared, _) = with(true);
    let mut requests = Vec::new();
    if n > 0 {
        requests.push(own);
        if requests[0].args != shared.args {
            requests.push(shared);
        }
    }
    requests
}

/// Names for fixed extents.
struct Symbols {
    /// Whether equal extents get one name; extents of 1 never do, as they are likely to differ from each other.
    is_shared: bool,
    /// Fixed extents so far.
    n: usize,
}

impl Symbols {
    fn arg(&mut self, spec: &ArgSpec) -> ArgSpec {
        let mut all = |items: &[ArgSpec]| items.iter().map(|item| self.arg(item)).collect();
        match spec {
            ArgSpec::Tuple(items) => ArgSpec::Tuple(all(items)),
            ArgSpec::List(items) => ArgSpec::List(all(items)),
            ArgSpec::Dict(entries) => {
                ArgSpec::Dict(entries.iter().map(|(key, value)| (key.clone(), self.arg(value))).collect())
            }
            ArgSpec::Tensor(dtype, dims) => ArgSpec::Tensor(*dtype, dims.iter().map(|dim| self.dim(dim)).collect()),
            ArgSpec::None
            | ArgSpec::Int(_)
            | ArgSpec::Float(_)
            | ArgSpec::Bool(_)
            | ArgSpec::Complex
            | ArgSpec::Str(_) => spec.clone(),
        }
    }

    fn dim(&mut self, dim: &DimSpec) -> DimSpec {
        let DimSpec::Known(n) = dim else { return dim.clone() };
        self.n += 1;
        // Names of the user's begin with a letter.
        let name = if self.is_shared && *n > 1 { format!("={n}") } else { format!("#{}", self.n) };
        DimSpec::Symbol(name.into())
    }
}

/// Refuses what can never be an argument of this type.
fn fits(ty: &Type, spec: &ArgSpec, name: &str) -> Result<()> {
    let is_fine = match (ty, spec) {
        (Type::Tensor(_), spec) => matches!(spec, ArgSpec::Tensor(..)),
        (Type::Int, spec) => matches!(spec, ArgSpec::Int(_)),
        (Type::Bool, spec) => matches!(spec, ArgSpec::Bool(_)),
        (Type::Float, spec) => matches!(spec, ArgSpec::Float(_) | ArgSpec::Int(_)),
        (Type::List(_), spec) => matches!(spec, ArgSpec::List(_)),
        (Type::Tuple(items), ArgSpec::Tuple(given)) => {
            return if items.len() == given.len() {
                items.iter().zip(given).try_for_each(|(ty, spec)| fits(ty, spec, name))
            } else {
                Err(Diagnostic::user(format!(
                    "argument '{name}' is a tuple of {} items, {} are given",
                    items.len(),
                    given.len()
                )))
            };
        }
        (Type::Tuple(_), _) => false,
        (Type::Optional(ty), spec) => return if *spec == ArgSpec::None { Ok(()) } else { fits(ty, spec, name) },
        _ => true,
    };
    if is_fine {
        return Ok(());
    }
    Err(Diagnostic::user(format!("argument '{name}' is of type {}, not {spec}", ty.annotation()))
        .help(format!("give --input {name}={}", example(ty))))
}

/// What a type alone says.
fn of_type(ty: &Type) -> Option<ArgSpec> {
    match ty {
        Type::Int => Some(ArgSpec::Int(None)),
        Type::Float => Some(ArgSpec::Float(None)),
        Type::Bool => Some(ArgSpec::Bool(None)),
        Type::Complex => Some(ArgSpec::Complex),
        Type::Tuple(items) => Some(ArgSpec::Tuple(items.iter().map(of_type).collect::<Option<_>>()?)),
        _ => None,
    }
}

/// An example of the text form for a parameter of this type.
fn example(ty: &Type) -> String {
    match ty {
        Type::Tensor(_) => "f32[1,3,224,224]".to_owned(),
        Type::Int => "int".to_owned(),
        Type::Float => "float".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Str => "'text'".to_owned(),
        Type::Optional(ty) => example(ty),
        Type::List(ty) => format!("[{0},{0}]", example(ty)),
        Type::Tuple(items) => format!("({})", items.iter().map(example).collect::<Vec<_>>().join(",")),
        Type::Dict(key, value) => format!("{{{}:{}}}", example(key), example(value)),
        _ => "VALUE".to_owned(),
    }
}

/// The signature of a recorded argument: tensors by exact shape, numbers by type.
pub fn of_value(value: &IValue) -> Result<ArgSpec> {
    let all = |items: &[IValue]| items.iter().map(of_value).collect::<Result<Vec<_>>>();
    Ok(match value {
        IValue::Tensor(data) => {
            ArgSpec::Tensor(data.dtype(), data.sizes().iter().map(|&n| DimSpec::Known(n)).collect())
        }
        IValue::Int(_) => ArgSpec::Int(None),
        IValue::Float(_) => ArgSpec::Float(None),
        IValue::Bool(_) => ArgSpec::Bool(None),
        IValue::Complex(..) => ArgSpec::Complex,
        IValue::Tuple(items) => ArgSpec::Tuple(all(items)?),
        IValue::List(_, items) => ArgSpec::List(all(items)?),
        IValue::Dict(_, entries) => {
            let entry = |(key, value): &(IValue, IValue)| Ok((constant(key)?, of_value(value)?));
            ArgSpec::Dict(entries.iter().map(entry).collect::<Result<_>>()?)
        }
        IValue::None | IValue::Str(_) => constant(value)?,
        _ => return Err(Diagnostic::unsupported(format!("a {} as an argument", value.kind()))),
    })
}

/// The signature that stands for exactly this value.
fn constant(value: &IValue) -> Result<ArgSpec> {
    Ok(match value {
        IValue::None => ArgSpec::None,
        IValue::Int(n) => ArgSpec::Int(Some(*n)),
        IValue::Float(x) => ArgSpec::Float(Some(*x)),
        IValue::Bool(b) => ArgSpec::Bool(Some(*b)),
        IValue::Str(text) => ArgSpec::Str(text.clone()),
        IValue::Tuple(items) => ArgSpec::Tuple(items.iter().map(constant).collect::<Result<_>>()?),
        IValue::List(_, items) => ArgSpec::List(items.iter().map(constant).collect::<Result<_>>()?),
        other => return of_value(other),
    })
}
