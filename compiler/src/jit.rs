//! Programs in this process: machine code, weights and description become a model that can be called.
#![allow(unsafe_code, reason = "names addresses of functions of the C library and calls machine code")]

use crate::diag::{Diagnostic, Result};
use crate::emit::target::Target;
use crate::emit::{self, symbol};
use crate::link::metadata::{Facts, describe};
use crate::loops::{Program, weight_offsets};
use aot_runtime::abi::Entry;
use aot_runtime::{Code, Model, Weights, direct, host, math, routines};
use std::any::Any;

/// Who makes the machine code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// LLVM, optimising.
    #[cfg(feature = "llvm")]
    Llvm,
    /// LLVM without optimisation, for tests.
    #[cfg(feature = "llvm")]
    LlvmO0,
    /// Cranelift: compiles in milliseconds, vectors of 16 bytes.
    #[cfg(feature = "cranelift")]
    Cranelift,
}

impl Backend {
    /// The machine that programs for this backend are scheduled for, given the one the user named.
    #[must_use]
    pub fn target(self, target: Target) -> Target {
        match self {
            #[cfg(feature = "llvm")]
            Self::Llvm | Self::LlvmO0 => target,
            #[cfg(feature = "cranelift")]
            Self::Cranelift => target.for_cranelift(),
        }
    }
}

/// A scheduled and planned program as a model for the host's machine.
///
/// # Errors
/// Internal ones of the emitter; what the runtime says of the description.
pub fn load(program: &Program, backend: Backend) -> Result<Model> {
    load_with(program, backend, &backend.target(Target::host()), &Facts { name: "model".into(), ..Facts::default() })
}

/// [`load`] for a machine that is known to be compatible with the host, and with facts for the description.
///
/// # Errors
/// As [`load`].
pub fn load_with(program: &Program, backend: Backend, target: &Target, facts: &Facts) -> Result<Model> {
    let failed = |error: aot_runtime::Error| Diagnostic::internal(format!("loading compiled code: {error}"));
    let desc = describe(program, facts)?;
    let exports: Vec<String> = program.functions.ids().map(|id| symbol("aot", id)).collect();
    let (owner, addresses) = code(program, backend, target, &exports)?;
    // SAFETY: these are the addresses of functions emitted with exactly this type.
    let entry = |address: *const u8| Code::Native(unsafe { std::mem::transmute::<*const u8, Entry>(address) });
    let code = addresses.into_iter().map(entry).collect();
    let weights = Weights::from_bytes(&weights(program)).map_err(failed)?;
    Model::open(desc, weights, code, aot_runtime::model::Env::default(), Some(owner)).map_err(failed)
}

/// The memory of the code and the addresses of the functions.
type Loaded = (Box<dyn Any + Send + Sync>, Vec<*const u8>);

fn code(program: &Program, backend: Backend, target: &Target, exports: &[String]) -> Result<Loaded> {
    let emit = |b: &dyn emit::builder::Builder| emit::program(b, program, "aot");
    match backend {
        #[cfg(feature = "llvm")]
        Backend::Llvm | Backend::LlvmO0 => {
            use emit::llvm::{Level, LlvmCode};
            let level = if backend == Backend::Llvm { Level::Full } else { Level::None };
            let (code, addresses) = LlvmCode::load(&emit, target, level, &address, exports)?;
            Ok((Box::new(code), addresses))
        }
        #[cfg(feature = "cranelift")]
        Backend::Cranelift => {
            let (code, addresses) = emit::cranelift::CraneliftCode::load(&emit, target, address, exports)?;
            Ok((Box::new(code), addresses))
        }
    }
}

/// The weights section: every weight at its offset.
fn weights(program: &Program) -> Vec<u8> {
    let (offsets, total) = weight_offsets(program);
    let mut bytes = vec![0; total];
    for (weight, offset) in program.weights.iter().zip(offsets) {
        let data = weight.data.contiguous_bytes();
        bytes[offset..offset + data.len()].copy_from_slice(&data);
    }
    bytes
}

/// Functions of the C library with one and two parameters, in double and single precision.
macro_rules! c_functions {
    ($($one:ident $one_single:ident)*; $($two:ident $two_single:ident)*) => {
        mod c {
            unsafe extern "C" {
                $(pub(super) fn $one(x: f64) -> f64; pub(super) fn $one_single(x: f32) -> f32;)*
                $(pub(super) fn $two(x: f64, y: f64) -> f64; pub(super) fn $two_single(x: f32, y: f32) -> f32;)*
            }
        }
        fn c_function(name: &str) -> Option<*const u8> {
            Some(match name {
                $(stringify!($one) => c::$one as *const u8, stringify!($one_single) => c::$one_single as *const u8,)*
                $(stringify!($two) => c::$two as *const u8, stringify!($two_single) => c::$two_single as *const u8,)*
                _ => return None,
            })
        }
    };
}
c_functions! {
    exp expf exp2 exp2f expm1 expm1f log logf log2 log2f log10 log10f log1p log1pf sin sinf cos cosf tan tanf asin asinf
    acos acosf atan atanf sinh sinhf cosh coshf tanh tanhf asinh asinhf acosh acoshf atanh atanhf erf erff erfc erfcf
    lgamma lgammaf floor floorf ceil ceilf trunc truncf roundeven roundevenf sqrt sqrtf;
    pow powf fmod fmodf atan2 atan2f
}

/// The address of a function that compiled code imports: the runtime's and the C library's.
pub fn address(name: &str) -> Option<*const u8> {
    let Some(runtime) = name.strip_prefix("aot_rt_") else { return c_function(name) };
    Some(match runtime {
        "raise" => host::aot_rt_raise as *const u8,
        "raise_object" => host::aot_rt_raise_object as *const u8,
        "failed_at" => host::aot_rt_failed_at as *const u8,
        "slot" => host::aot_rt_slot as *const u8,
        "parallel_for" => host::aot_rt_parallel_for as *const u8,
        "retain" => host::aot_rt_retain as *const u8,
        "release" => host::aot_rt_release as *const u8,
        "keep" => host::aot_rt_keep as *const u8,
        "text" => host::aot_rt_text as *const u8,
        "tensor_data" => host::aot_rt_tensor_data as *const u8,
        "erfinv" => math::aot_rt_erfinv as *const u8,
        "digamma" => math::aot_rt_digamma as *const u8,
        "pow_int" => math::aot_rt_pow_int as *const u8,
        "dict_find_int" => direct::aot_rt_dict_find_int as *const u8,
        "dict_find_text" => direct::aot_rt_dict_find_text as *const u8,
        "dict_find_object" => direct::aot_rt_dict_find_object as *const u8,
        "text_new" => direct::aot_rt_text_new as *const u8,
        "text_begin" => direct::aot_rt_text_begin as *const u8,
        "text_add" => direct::aot_rt_text_add as *const u8,
        "text_add_object" => direct::aot_rt_text_add_object as *const u8,
        "text_add_int" => direct::aot_rt_text_add_int as *const u8,
        _ => routines::find(runtime)? as *const u8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Id as _, IndexVec};
    use crate::loops::nest::{Memory, Nest, NestBuffer, NestStmt, Op, RegType, Val};
    use crate::loops::{
        Arg, BinaryOp, Buffer, BufferClass, Const, Dim, Function, FunctionId, Input, InputKind, Launch, Layout, Method,
        OutputTree, Stmt, Variant, Weight,
    };
    use crate::types::{DType, TensorData, Type};
    use aot_runtime::{Dtype, Tensor, Value};
    use std::sync::Arc;

    /// forward(x) = x + weight over 5 elements, in parallel, one lane at a time.
    fn program() -> Program {
        let mut regs = IndexVec::new();
        let i = regs.push(RegType::INDEX);
        let [x, y, sum] = [0; 3].map(|_| regs.push(RegType::scalar(DType::F32)));
        let load = |n| Op::Load { memory: Memory::Buffer(n), offset: Val::Reg(i), stride: 1, mask: None };
        let body = vec![
            NestStmt::Set(x, load(0)),
            NestStmt::Set(y, load(1)),
            NestStmt::Set(sum, Op::Binary(BinaryOp::Add, Val::Reg(x), Val::Reg(y))),
            NestStmt::Store {
                memory: Memory::Buffer(2),
                offset: Val::Reg(i),
                stride: 1,
                value: Val::Reg(sum),
                mask: None,
            },
        ];
        let int = |value| Val::Const(Const::int(value));
        let body = vec![NestStmt::For { counter: i, begin: int(0), end: int(5), step: 1, parallel: true, body }];
        let buffer = |is_written| NestBuffer { dtype: DType::F32, is_written, align: 4 };
        let buffers = vec![buffer(false), buffer(false), buffer(true)];
        let nest = Nest { name: "add".into(), buffers, regs, body, cost: 1 << 40, ..Nest::default() };
        let mut program = Program { nests: vec![Arc::new(nest)], ..Program::default() };
        let ones = (0..5u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        let data = Arc::new(TensorData::from_bytes(DType::F32, &[5], ones).unwrap());
        let weight = program.weights.push(Weight { name: "w".into(), data });
        let mut function = Function { name: "forward".into(), params: vec![OutputTree::Tensor], ..Function::default() };
        function.results = vec![OutputTree::Tensor];
        let classes = [BufferClass::Input(0), BufferClass::Weight(weight), BufferClass::Output(0)];
        let ids = classes.map(|class| {
            let (name, dims) = (String::new(), vec![Dim::Const(5)]);
            function.buffers.push(Buffer { name, dtype: DType::F32, dims, class, layout: Layout::RowMajor })
        });
        let kind = InputKind::Tensor { buffer: ids[0], is_mutated: false };
        function.inputs.push(Input { name: "x".into(), kind });
        function.body.0.push(Stmt::Launch(Launch { nest: 0, buffers: ids.to_vec(), scalars: Vec::new() }));
        function.body.0.push(Stmt::Return(0, vec![Arg::Buffer(ids[2])]));
        program.functions.push(function);
        let variants = vec![Variant { state_tag: None, function: FunctionId::new(0) }];
        let params = vec![("x".into(), Type::tensor())];
        program.methods.push(Method { name: "forward".into(), params, variants });
        program
    }

    #[test]
    fn models_run_on_each_backend() {
        let mut backends = Vec::new();
        #[cfg(feature = "llvm")]
        backends.extend([Backend::Llvm, Backend::LlvmO0]);
        #[cfg(feature = "cranelift")]
        backends.push(Backend::Cranelift);
        for backend in backends {
            let model = load(&program(), backend).unwrap();
            let bytes: Vec<u8> = [1f32; 5].iter().flat_map(|x| x.to_le_bytes()).collect();
            let x = Value::Tensor(Tensor::from_bytes(Dtype::F32, &[5], &bytes).unwrap());
            let result = model.call("forward", &[x]).unwrap();
            let Value::Tensor(result) = result else { panic!("{backend:?}: {result:?}") };
            let expected: Vec<u8> = [1f32, 2.0, 3.0, 4.0, 5.0].iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(result.to_bytes(), expected, "{backend:?}");
        }
    }
}
