//! What `run` and `bench` share: a model or library opened for one method, and arguments from `--input`.

use super::options::{BackendArg, TextArgs};
use crate::diag::{Diagnostic, Result};
use crate::driver;
use crate::exec::Executable;
use crate::library::Library;
use crate::lower::{ArgSpec, DimSpec};
use crate::module::Module;
use crate::signatures::{self, split_name};
use crate::{npy, types};
use aot_runtime::random::Generator;
use aot_runtime::{Dtype, Tensor, Value};
use clap::Args;
use std::path::{Path, PathBuf};
use types::DType;

/// Options that say what to call with what.
#[derive(Debug, Args)]
pub(super) struct CallArgs {
    /// A model, or a library that `aot build` made (whose code will run).
    pub(super) model: PathBuf,
    /// An argument: NAME=rand, zeros, FILE.npy, f32[1,3] (random elements), or a value; a FILE.npz gives several.
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    inputs: Vec<String>,
    #[command(flatten)]
    text: TextArgs,
    /// The method to call.
    #[arg(long, default_value = "forward")]
    pub(super) method: String,
    /// Who compiles a model.
    #[arg(long, value_enum, default_value = "llvm")]
    backend: BackendArg,
    /// Most threads; 0 for as many as the machine has.
    #[arg(long, default_value = "0")]
    pub(super) threads: usize,
    /// Where random inputs begin, and the seed of the model's own random numbers.
    #[arg(long, default_value = "0")]
    seed: u64,
}

/// What a method takes, as far as it is known.
struct Params {
    names: Vec<String>,
    /// Signatures of arguments that are known already.
    specs: Vec<Option<ArgSpec>>,
    /// How many may not be left out.
    n_required: usize,
}

/// A model opened, with the arguments it will be called with.
pub(super) struct Prepared {
    pub(super) executable: Executable,
    pub(super) args: Vec<Value>,
    /// For a model: what it was compiled from.
    pub(super) module: Option<Module>,
}

impl CallArgs {
    /// Whether the file is a library.
    fn is_library(&self) -> bool {
        self.model.extension().is_some_and(|e| e == "so")
    }

    /// Opens the model and compiles the method for the arguments.
    pub(super) fn prepare(&self) -> Result<Prepared> {
        if self.is_library() {
            let library = Library::load(&self.model)?;
            let args = self.arguments(&library_params(&library, &self.method)?)?;
            let executable = Executable::Library(library);
            executable.set_threads(self.threads);
            return Ok(Prepared { executable, args, module: None });
        }
        self.prepare_model(|module| Module::of_ir(module, self.backend.into()))
    }

    /// [`Self::prepare`] for the evaluator, with a program that tells what each statement does.
    pub(super) fn prepare_traced(&self) -> Result<Prepared> {
        if self.is_library() {
            return Err(
                Diagnostic::user("a library has no statements to trace").help("give the model it was built from")
            );
        }
        self.prepare_model(Module::traced)
    }

    fn prepare_model(&self, make: impl FnOnce(crate::ir::Module) -> Module) -> Result<Prepared> {
        let (archive, module) = driver::open(&self.model, &self.text.options())?;
        let module = make(module);
        let method = module.method(&self.method)?;
        let ir = module.ir();
        let function = ir.method(&ir.root.class, &self.method).expect("the method was found above");
        let params = function.params.get(1..).unwrap_or_default();
        let recorded = archive.traced_inputs.get(&self.method);
        let specs = (0..params.len()).map(|i| recorded.and_then(|v| v.get(i)).map(signatures::of_value).transpose());
        let params = Params {
            names: params.iter().map(|p| p.name.to_string()).collect(),
            specs: specs.collect::<Result<_>>()?,
            n_required: params.iter().take_while(|p| p.default.is_none()).count(),
        };
        let args = self.arguments(&params)?;
        let executable = method.compile(&args)?;
        executable.set_threads(self.threads);
        Ok(Prepared { executable, args, module: Some(module) })
    }

    fn arguments(&self, params: &Params) -> Result<Vec<Value>> {
        let mut random = Generator::new(self.seed);
        let mut given: Vec<Option<Value>> = vec![None; params.names.len()];
        let mut next = 0;
        for text in &self.inputs {
            let (_, name, rest) = split_name(text);
            if name.is_none() && Path::new(rest).extension().is_some_and(|e| e == "npz") {
                for (i, (name, array)) in npy::read_zip(Path::new(rest))?.into_iter().enumerate() {
                    // Arrays without names of their own (arr_0, in0) go in order.
                    let place = params.names.iter().position(|p| *p == name).or_else(|| numbered(&name)).unwrap_or(i);
                    if let Some(slot) = given.get_mut(place) {
                        *slot = Some(Value::Tensor(array));
                    }
                }
                continue;
            }
            let place = match &name {
                Some(name) => params.names.iter().position(|p| p == name),
                None => Some(next).filter(|&next| next < params.names.len()),
            };
            let place = place.ok_or_else(|| {
                Diagnostic::user(format!("{}() has no place for the input '{text}'", self.method))
                    .note(format!("its arguments: {}", params.names.join(", ")))
            })?;
            next = place + 1;
            given[place] = Some(argument(rest, params.specs[place].as_ref(), &params.names[place], &mut random)?);
        }
        let last = given.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let n_args = last.max(params.n_required).max(params.specs.iter().take_while(|spec| spec.is_some()).count());
        let mut args = Vec::new();
        for (i, given) in given.into_iter().enumerate().take(n_args) {
            let value = match (given, &params.specs[i]) {
                (Some(value), _) => value,
                (None, Some(spec)) => filled(spec, &mut random, Fill::Random)?,
                (None, None) => {
                    return Err(Diagnostic::user(format!("no value for the argument '{}'", params.names[i]))
                        .help(format!("give --input {}=f32[1,3,224,224], a value, or a FILE.npy", params.names[i])));
                }
            };
            args.push(value);
        }
        Ok(args)
    }

    /// Seeds the model's random numbers.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }
}

/// The position that a name like `in0` or `arr_1` says.
fn numbered(name: &str) -> Option<usize> {
    name.strip_prefix("in").or_else(|| name.strip_prefix("arr_"))?.parse().ok()
}

/// Parameters from the signature that a library states: `(x: float32[1, 512], sr: int = 16000) -> float32[1, 1]`.
fn library_params(library: &Library, method: &str) -> Result<Params> {
    let info = library.info();
    let signature = info.methods.iter().find(|(name, _)| name == method).ok_or_else(|| {
        let names: Vec<&str> = info.methods.iter().map(|(name, _)| name.as_str()).collect();
        Diagnostic::user(format!("the library has no method '{method}'"))
            .note(format!("its methods: {}", names.join(", ")))
    })?;
    let line = signature.1.lines().next().unwrap_or_default();
    let inside = line.strip_prefix('(').and_then(|rest| rest.split_once(") ->")).map_or("", |(inside, _)| inside);
    let mut params = Params { names: Vec::new(), specs: Vec::new(), n_required: 0 };
    let mut depth = 0;
    let mut pieces = vec![String::new()];
    for c in inside.chars() {
        depth += i32::from("([{".contains(c)) - i32::from(")]}".contains(c));
        if c == ',' && depth == 0 {
            pieces.push(String::new());
        } else {
            pieces.last_mut().expect("there is one piece").push(c);
        }
    }
    for piece in pieces.iter().filter(|piece| !piece.trim().is_empty()) {
        let (name, ty) = piece.split_once(':').unwrap_or((piece, ""));
        let ty = ty.split_once('=').map_or(ty, |(_, only)| only);
        params.names.push(name.trim().to_owned());
        params.specs.push(ArgSpec::parse(ty.trim().trim_end_matches(" (written to)")).ok());
    }
    params.n_required = params.names.len();
    Ok(params)
}

/// How elements are made that nobody gave.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    Random,
    Zeros,
}

fn argument(text: &str, known: Option<&ArgSpec>, name: &str, random: &mut Generator) -> Result<Value> {
    let path = Path::new(text);
    if path.extension().is_some_and(|e| e == "npy") {
        let bytes = std::fs::read(path).map_err(|e| Diagnostic::user(format!("cannot read {text}: {e}")))?;
        let tensor = npy::read(&bytes, text)?;
        // An array of one number is that number where the method takes one.
        return Ok(match known {
            Some(ArgSpec::Int(_)) if tensor.dtype == Dtype::I64 && tensor.n_elements() == 1 => {
                Value::Int(i64::from_ne_bytes(tensor.to_bytes().try_into().expect("eight bytes")))
            }
            _ => Value::Tensor(tensor),
        });
    }
    let (word, rest) = text.split_once(':').unwrap_or((text, ""));
    let fill = match word {
        "rand" => Fill::Random,
        "zeros" => Fill::Zeros,
        _ => return filled(&ArgSpec::parse(text)?, random, Fill::Random),
    };
    let spec = if rest.is_empty() { known.cloned() } else { Some(ArgSpec::parse(rest)?) };
    let spec = spec.ok_or_else(|| {
        Diagnostic::user(format!("the shape of '{name}' is not known"))
            .help(format!("give it: --input {name}={word}:f32[1,3,224,224]"))
    })?;
    filled(&spec, random, fill)
}

/// A value of this signature: floats from a normal distribution, integers from 0 to 9.
fn filled(spec: &ArgSpec, random: &mut Generator, fill: Fill) -> Result<Value> {
    let mut all = |specs: &[ArgSpec]| specs.iter().map(|spec| filled(spec, random, fill)).collect::<Result<Vec<_>>>();
    Ok(match spec {
        ArgSpec::None => Value::None,
        ArgSpec::Int(n) => Value::Int(n.unwrap_or(1)),
        ArgSpec::Float(x) => Value::Float(x.unwrap_or(1.0)),
        ArgSpec::Bool(b) => Value::Bool(b.unwrap_or(false)),
        ArgSpec::Complex => Value::Complex(1.0, 0.0),
        ArgSpec::Str(text) => Value::Str(text.to_string()),
        ArgSpec::Tuple(items) => Value::Tuple(all(items)?),
        ArgSpec::List(items) => Value::List(all(items)?),
        ArgSpec::Dict(entries) => {
            let mut one = |spec| filled(spec, random, fill);
            Value::Dict(entries.iter().map(|(k, v)| Ok((one(k)?, one(v)?))).collect::<Result<_>>()?)
        }
        ArgSpec::Tensor(dtype, dims) => {
            let size = |dim: &DimSpec| match dim {
                DimSpec::Known(n) => Ok(*n),
                DimSpec::Symbol(name) => Err(Diagnostic::user(format!("the extent '{name}' of {spec} is open"))
                    .help("give a tensor of a known shape: --input NAME=f32[2,3]")),
            };
            let sizes: Vec<i64> = dims.iter().map(size).collect::<Result<_>>()?;
            let code = u8::try_from(dtype.code()).expect("codes of element types are small");
            let zeros = Tensor::zeros(Dtype(code), &sizes).map_err(|e| Diagnostic::user(e.to_string()))?;
            if fill == Fill::Zeros {
                return Ok(Value::Tensor(zeros));
            }
            Value::Tensor(randomised(*dtype, zeros, random)?)
        }
    })
}

fn randomised(dtype: DType, zeros: Tensor, random: &mut Generator) -> Result<Tensor> {
    let n = zeros.n_elements();
    let mut bytes = Vec::with_capacity(zeros.size_bytes());
    #[allow(clippy::cast_possible_truncation, reason = "random numbers of single precision")]
    for _ in 0..n {
        match dtype {
            DType::F32 => bytes.extend((random.normal() as f32).to_ne_bytes()),
            DType::F64 => bytes.extend(random.normal().to_ne_bytes()),
            DType::BF16 => bytes.extend(((random.normal() as f32).to_bits() >> 16).to_ne_bytes()[..2].iter()),
            DType::Bool => bytes.push(u8::from(random.randint(0, 2) == 1)),
            DType::U8 | DType::I8 | DType::I16 | DType::I32 | DType::I64 => {
                bytes.extend(random.randint(0, 10).to_le_bytes()[..dtype.size_bytes()].iter());
            }
            _ => return Ok(zeros),
        }
    }
    Tensor::from_bytes(zeros.dtype, &zeros.sizes, &bytes).map_err(|e| Diagnostic::user(e.to_string()))
}
