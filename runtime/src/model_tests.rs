//! Tests of models from the outside: matching, results, and the C interface, with interpreted and native code.
#![allow(unsafe_code, reason = "plays the part of compiled code and of a C host")]

use crate::abi::{Entry, Frame, Leaf, Status};
use crate::arena::{AllocFn, Allocator, FreeFn};
use crate::capi::{AotEnv, AotError, AotTensor, aot_rt_close, aot_rt_method, aot_rt_open, aot_rt_tensor_release};
use crate::desc::{DimDesc, FunctionDesc, InputDesc, InputKind, MethodDesc, ModelDesc, TensorDesc, Tree, VariantDesc};
use crate::error::Result;
use crate::model::{Code, Env, Model, Weights};
use crate::tensor::{Dtype, Tensor};
use crate::value::Value;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `y = 2 x`, in the memory offered for `y`.
unsafe extern "C" fn double(frame: *mut Frame) -> i64 {
    // SAFETY: called with a frame that fits `description`.
    unsafe {
        let (input, output) = (*(*frame).inputs, &mut *(*frame).outputs);
        let n = input.dims().iter().product::<i64>() as usize;
        for i in 0..n {
            *(output.bits as *mut f32).add(i) = 2.0 * *(input.bits as *const f32).add(i);
        }
        *output = Leaf::tensor(Dtype::F32, input.dims(), output.bits as *mut u8);
    }
    0
}

fn description() -> ModelDesc {
    let x = TensorDesc { dtype: Dtype::F32, dims: vec![DimDesc::Var(0), DimDesc::Const(2)] };
    let kind = InputKind::Tensor { tensor: x.clone(), is_mutated: false };
    ModelDesc {
        functions: vec![FunctionDesc {
            params: vec![Tree::Tensor],
            inputs: vec![InputDesc { name: "x".into(), kind }],
            results: vec![Tree::Tensor],
            outputs: vec![Some(x)],
            arena_bytes: 64,
            ..FunctionDesc::default()
        }],
        methods: vec![MethodDesc {
            name: "forward".into(),
            params: vec![("x".into(), "Tensor".into())],
            variants: vec![VariantDesc { state_tag: None, function: 0 }],
        }],
        ..ModelDesc::default()
    }
}

fn model() -> Model {
    Model::new(description(), Weights::from_bytes(&[]).unwrap(), vec![Code::Native(double)]).unwrap()
}

#[test]
fn calls_check_arguments_and_give_results() {
    let model = model();
    let x = Tensor::from_f32(&[1, 2], &[1.0, 2.0]).unwrap();
    let y = model.call("forward", &[x.clone().into()]).unwrap();
    let expected = Tensor::from_f32(&[1, 2], &[2.0, 4.0]).unwrap();
    assert_eq!(y.as_tensor().unwrap().to_bytes(), expected.to_bytes());
    let message = |args: &[Value]| model.call("forward", args).unwrap_err().message;
    assert_eq!(
        message(&[Value::Int(1)]),
        "forward() Expected a value of type 'Tensor' for argument 'x' but instead found type 'int'."
    );
    assert_eq!(message(&[]), "forward() is missing value for argument 'x'.");
    assert_eq!(
        message(&[x.clone().into(), x.into()]),
        "forward() expected at most 1 argument(s) but received 2 argument(s)."
    );
    let wrong = Tensor::from_f32(&[1, 3], &[0.0; 3]).unwrap();
    assert_eq!(message(&[wrong.into()]), "argument 'x': expected float32[1, 2], got float32[1, 3]");
}

#[test]
fn strided_arguments_are_copied() {
    let mut x = Tensor::from_f32(&[2, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
    x.strides = vec![1, 2];
    let y = model().call("forward", &[x.into()]).unwrap();
    let expected = Tensor::from_f32(&[2, 2], &[2.0, 6.0, 4.0, 8.0]).unwrap();
    assert_eq!(y.as_tensor().unwrap().to_bytes(), expected.to_bytes());
}

#[test]
fn many_threads_may_call_one_model() {
    let model = model();
    std::thread::scope(|scope| {
        for t in 0..4_i16 {
            let model = &model;
            scope.spawn(move || {
                for i in 0..50_i16 {
                    let x = Tensor::from_f32(&[1, 2], &[f32::from(i), f32::from(t)]).unwrap();
                    let y = model.call("forward", &[x.into()]).unwrap();
                    let expected = Tensor::from_f32(&[1, 2], &[2.0 * f32::from(i), 2.0 * f32::from(t)]).unwrap();
                    assert_eq!(y.as_tensor().unwrap().to_bytes(), expected.to_bytes());
                }
            });
        }
    });
}

#[test]
fn the_c_interface_opens_calls_and_reports() {
    let metadata = description().encode();
    let entries = [double as crate::abi::Entry];
    let (mut x, mut y, sizes) = ([1.0_f32, 2.0], [0.0_f32; 2], [1_i64, 2]);
    let tensor = |data: *mut f32| AotTensor {
        data: data.cast(),
        sizes: sizes.as_ptr(),
        strides: std::ptr::null(),
        ndim: 2,
        dtype: Dtype::F32.0,
        flags: 0,
        reserved: 0,
        size_bytes: 8,
    };
    let mut model = std::ptr::null_mut();
    let mut err = AotError { code: 0, op: 0, text: [0; 248] };
    let (input, mut output, no_env) = (tensor(x.as_mut_ptr()), tensor(y.as_mut_ptr()), std::ptr::null::<AotEnv>());
    let no_state = std::ptr::null_mut();
    // SAFETY: everything passed is valid as the interface asks.
    unsafe {
        let (data, len) = (metadata.as_ptr(), metadata.len());
        let opened =
            aot_rt_open(&raw mut model, data, len, std::ptr::null(), entries.as_ptr(), 1, no_env, &raw mut err);
        assert_eq!(opened, 0);
        let mut call = |input: &AotTensor, output: &mut AotTensor| {
            aot_rt_method(model, 0, no_state, input, 1, output, 1, std::ptr::null_mut(), 0, &raw mut err)
        };
        assert_eq!(call(&input, &mut output), 0);
        assert_eq!(y.map(f32::to_bits), [2.0_f32, 4.0].map(f32::to_bits));
        // Without memory, the library allocates.
        let mut owned =
            AotTensor { data: std::ptr::null_mut(), sizes: std::ptr::null(), ..tensor(std::ptr::null_mut()) };
        assert_eq!(call(&input, &mut owned), 0);
        assert_eq!(
            (owned.flags, *owned.sizes.add(1), (*owned.data.cast::<f32>()).to_bits()),
            (1, 2, 2.0_f32.to_bits())
        );
        aot_rt_tensor_release(&raw mut owned);
        assert!(owned.data.is_null());
        let wrong = AotTensor { dtype: Dtype::F64.0, size_bytes: 0, ..input };
        assert_eq!(call(&wrong, &mut output), Status::Dtype as i32);
        let text = std::ffi::CStr::from_bytes_until_nul(&err.text).unwrap().to_str().unwrap();
        assert_eq!(text, "argument 'x': expected float32[N0, 2], got float64[1, 2]");
        aot_rt_close(model);
    }
}

/// Writes 3 to what is prepared.
unsafe extern "C" fn prepare(frame: *mut Frame) -> i64 {
    // SAFETY: called with a frame that fits `prepared_description`.
    unsafe { (*frame).prepared.cast::<f32>().write(3.0) };
    0
}

/// `y = x` times what is prepared.
unsafe extern "C" fn times_prepared(frame: *mut Frame) -> i64 {
    // SAFETY: as above.
    unsafe {
        let factor = (*frame).prepared.cast::<f32>().read();
        let status = double(frame);
        let output = (*(*frame).outputs).bits as *mut f32;
        output.write(*output / 2.0 * factor);
        status
    }
}

fn prepared_description() -> ModelDesc {
    let mut desc = description();
    // A function that prepares takes no part in the size of workspaces.
    desc.functions.push(FunctionDesc { arena_bytes: 1 << 20, ..FunctionDesc::default() });
    (desc.prepare, desc.prepared_bytes) = (Some(1), 4);
    desc
}

fn open_prepared(env: Env) -> Result<Model> {
    let code = vec![Code::Native(times_prepared), Code::Native(prepare)];
    Model::open(prepared_description(), Weights::from_bytes(&[]).unwrap(), code, env, None)
}

#[test]
fn models_prepare_once_when_opened() {
    let model = open_prepared(Env::default()).unwrap();
    for instance in [model.instance(), model.instance()] {
        let mut instance = instance.unwrap();
        assert_eq!(instance.workspace_bytes(), 64);
        let x = Tensor::from_f32(&[1, 2], &[5.0, 0.0]).unwrap();
        let y = instance.call("forward", &[x.into()]).unwrap();
        assert_eq!(y.as_tensor().unwrap().to_bytes(), Tensor::from_f32(&[1, 2], &[15.0, 0.0]).unwrap().to_bytes());
    }
}

/// Counts its living blocks in `user`, an `AtomicUsize`; has no blocks of over 100 kB.
unsafe extern "C" fn counting_alloc(user: *mut c_void, bytes: usize, align: usize) -> *mut c_void {
    if bytes > 100 << 10 {
        return std::ptr::null_mut();
    }
    let layout = std::alloc::Layout::from_size_align(100 << 10, align).unwrap();
    // SAFETY: `user` is the test's counter; the layout has a size.
    unsafe {
        (*user.cast::<AtomicUsize>()).fetch_add(1, Ordering::Relaxed);
        std::alloc::alloc(layout).cast()
    }
}

unsafe extern "C" fn counting_free(user: *mut c_void, memory: *mut c_void) {
    // SAFETY: a block of `counting_alloc`.
    unsafe {
        (*user.cast::<AtomicUsize>()).fetch_sub(1, Ordering::Relaxed);
        std::alloc::dealloc(memory.cast(), std::alloc::Layout::from_size_align(100 << 10, 64).unwrap());
    }
}

#[test]
fn prepared_memory_is_the_hosts_and_may_be_refused() {
    let n_blocks = AtomicUsize::new(0);
    let host = Some((counting_alloc as AllocFn, counting_free as FreeFn, &raw const n_blocks as usize));
    let env = Env { allocator: Allocator { host }, ..Env::default() };
    let error = open_prepared(env).unwrap_err();
    assert_eq!(error.status, Status::Memory);
    assert_eq!(n_blocks.load(Ordering::Relaxed), 0, "what a failing open took is given back");
    let mut desc = prepared_description();
    desc.functions[1].arena_bytes = 0;
    let code = || vec![Code::Native(times_prepared as Entry), Code::Native(prepare)];
    let models =
        [(); 2].map(|()| Model::open(desc.clone(), Weights::from_bytes(&[]).unwrap(), code(), env, None).unwrap());
    assert_eq!(n_blocks.load(Ordering::Relaxed), 2, "one block for each open model");
    drop(models);
    assert_eq!(n_blocks.load(Ordering::Relaxed), 0);
}
