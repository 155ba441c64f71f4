//! Models whose functions are evaluated instead of compiled: between a call's frame and the evaluator's values.
//!
//! The frame is read and written as compiled code would, so that arguments, state, exceptions, routines and results go
//! through the same entry code whatever the backend. Memory is copied in and out of a call: the evaluator itself works on
//! vectors it owns and checks every access.
#![allow(unsafe_code, reason = "the frame of a call is made of pointers")]

use super::host::{self, CallArg, GARBAGE, Message, Objects, State, Stop, Value};
use crate::diag::{Blame, Diagnostic, Result};
use crate::link::metadata::{Facts, describe, dtype as runtime_dtype};
use crate::loops::{Function, FunctionId, InputKind, Prepared, Program, VarType, prepared_offsets};
use aot_runtime::object::{Body, ObjectRef};
use aot_runtime::{Code, Error, Frame, Leaf, Model, Status, Weights, host as rt, routines};
use std::slice;
use std::sync::Arc;

/// A program before scheduling as a model that evaluates it.
///
/// # Errors
/// What the description or the runtime says of the program.
pub fn load(program: Arc<Program>) -> Result<Model> {
    let mut desc = describe(&program, &Facts { name: "model".into(), ..Facts::default() })?;
    // Tensor results lie in slots of their own, after the program's, until the caller has copied them.
    let n_results = desc.functions.iter().map(aot_runtime::desc::FunctionDesc::n_outputs).max().unwrap_or(0);
    desc.n_slots += u32::try_from(n_results).map_err(|_| Diagnostic::internal("too many results"))?;
    let code = program.functions.ids().map(|id| {
        let program = program.clone();
        Code::Interpreted(Box::new(move |frame| call(&program, id, frame)))
    });
    let failed = |error: Error| Diagnostic::internal(format!("loading the evaluator: {error}"));
    let weights = Weights::from_bytes(&[]).map_err(failed)?;
    Model::new(desc, weights, code.collect()).map_err(failed)
}

/// Runs a function on a frame; gives the number of the result tree or a status.
fn call(program: &Program, id: FunctionId, frame: &mut Frame) -> i64 {
    let function = &program.functions[id];
    let frame: *mut Frame = frame;
    // SAFETY: the runtime made the frame for this function by the description of the same program.
    let (mut inputs, mut state) = unsafe { (read_inputs(function, frame), read_state(program, frame)) };
    let is_prepare = program.prepare == Some(id);
    if !is_prepare && !program.prepared.is_empty() {
        // SAFETY: the runtime prepares before it calls anything else.
        state.prepared = unsafe { read_prepared(program, frame) };
    }
    let mut objects = FrameObjects { frame };
    let result = host::run(program, function, &mut inputs, &mut state, &mut objects);
    // SAFETY: as above.
    let stored = unsafe {
        write_inputs(function, &inputs, frame);
        if is_prepare {
            write_prepared(program, &state, frame);
        }
        write_state(&state, frame)
    };
    let result = match (stored, result) {
        (Ok(()), Ok((tree, values))) => {
            // SAFETY: as above; the tree's leaves are as many as the runtime made room for.
            unsafe { write_results(program, values, frame) }.map(|()| i64::try_from(tree).unwrap_or(i64::MAX))
        }
        (Err(status), Ok((_, values))) => {
            release_all(&mut objects, values);
            Err(Stop::Status(status))
        }
        (_, Err(stop)) => Err(stop),
    };
    result.unwrap_or_else(|stop| report(stop, frame))
}

fn release_all(objects: &mut FrameObjects, values: Vec<Value>) {
    for value in values {
        if let Value::Scalar(VarType::Object, bits) = value {
            objects.release(bits);
        }
    }
}

/// Records why a function stopped; gives the status.
fn report(stop: Stop, frame: *mut Frame) -> i64 {
    match stop {
        Stop::Status(status) => status,
        Stop::Failed(diagnostic) => {
            let status = match diagnostic.blame {
                Blame::User => Status::Argument,
                Blame::Unsupported => Status::Unsupported,
                Blame::Internal => Status::Internal,
            };
            let text = std::iter::once(diagnostic.message).chain(diagnostic.notes).collect::<Vec<_>>().join("\n  ");
            // SAFETY: the frame is that of the running call.
            unsafe { rt::fail(frame, Error::new(status, text)) }
        }
        // SAFETY: as above; the texts live during the call, the object has a reference of its own.
        Stop::Raised { class, message, place } => unsafe {
            match message {
                Message::Text(text) => rt::fail(frame, Error::raised(&class, text, &place)),
                Message::Object(object) => {
                    let (class, place) = (class.as_bytes(), place.as_bytes());
                    let object = object as *mut _;
                    let status = rt::aot_rt_raise_object(
                        frame,
                        class.as_ptr(),
                        class.len(),
                        object,
                        place.as_ptr(),
                        place.len(),
                    );
                    rt::aot_rt_release(object);
                    status
                }
            }
        },
    }
}

/// Copies bytes from an address that may be anything where there are none.
///
/// # Safety
/// `len` initialised bytes at `data` may be read.
unsafe fn copy(data: *const u8, len: usize) -> Vec<u8> {
    // SAFETY: by the caller's promise.
    if len == 0 { Vec::new() } else { unsafe { slice::from_raw_parts(data, len) }.to_vec() }
}

/// The values of a function's argument leaves.
///
/// # Safety
/// The frame is that of a call of this function.
unsafe fn read_inputs(function: &Function, frame: *mut Frame) -> Vec<Value> {
    let read = |(i, input): (usize, &crate::loops::Input)| {
        // SAFETY: the runtime made a leaf for every input.
        let leaf = unsafe { &*(*frame).inputs.add(i) };
        match &input.kind {
            InputKind::Tensor { buffer, .. } => {
                let dtype = function.buffers[*buffer].dtype;
                let elements: i64 = leaf.dims().iter().product();
                let bytes = usize::try_from(elements).unwrap_or(0) * dtype.size_bytes();
                // SAFETY: the leaf is a row-major tensor of this element type, checked on entry.
                let bytes = unsafe { copy(leaf.bits as *const u8, bytes) };
                Value::Tensor(dtype, leaf.dims().to_vec(), bytes)
            }
            InputKind::Scalar { var, .. } => Value::Scalar(function.vars[*var].ty, leaf.bits),
            InputKind::Object(_) | InputKind::Shared { .. } => Value::Scalar(VarType::Object, leaf.bits),
            InputKind::None | InputKind::Str(_) => Value::Scalar(VarType::Bool, 0),
        }
    };
    function.inputs.iter().enumerate().map(read).collect()
}

/// Writes mutated arguments back.
///
/// # Safety
/// As for [`read_inputs`], whose values these are.
unsafe fn write_inputs(function: &Function, values: &[Value], frame: *mut Frame) {
    for (i, (input, value)) in function.inputs.iter().zip(values).enumerate() {
        if let (InputKind::Tensor { is_mutated: true, .. }, Value::Tensor(_, _, bytes)) = (&input.kind, value) {
            // SAFETY: the leaf is the tensor whose bytes were copied from it, and the caller lets the function write to it.
            unsafe {
                ((*(*frame).inputs.add(i)).bits as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            };
        }
    }
}

/// A copy of the instance's state.
///
/// # Safety
/// The frame is that of a call of a function of this program.
unsafe fn read_state(program: &Program, frame: *mut Frame) -> State {
    // SAFETY: the instance has as many scalars and slots as the description says; all bytes of a slot were written when it
    // grew, see `write_slot`.
    unsafe {
        let scalars = (0..program.n_state_scalars).map(|i| *(*frame).state.add(i)).collect();
        let slots = (0..program.n_slots).map(|i| {
            let slot = &*(*frame).slots.add(i);
            copy(slot.data, if slot.data.is_null() { 0 } else { slot.capacity_bytes })
        });
        State { scalars, slots: slots.collect(), prepared: Vec::new() }
    }
}

/// A copy of what the model's prepare function computed.
///
/// # Safety
/// The frame is that of a call of a function of this program, and that one has run.
unsafe fn read_prepared(program: &Program, frame: *mut Frame) -> Vec<Vec<u8>> {
    let (offsets, _) = prepared_offsets(program);
    let read = |(prepared, offset): (&Prepared, usize)| {
        // SAFETY: there is memory for all that is prepared, and by the caller's promise it has been written.
        unsafe { copy((*frame).prepared.add(offset), prepared.size_bytes()) }
    };
    program.prepared.iter().zip(offsets).map(read).collect()
}

/// Writes what the model's prepare function computed.
///
/// # Safety
/// The frame is that of the call of this function; nothing else runs.
unsafe fn write_prepared(program: &Program, state: &State, frame: *mut Frame) {
    let (offsets, _) = prepared_offsets(program);
    for ((prepared, offset), bytes) in program.prepared.iter().zip(offsets).zip(&state.prepared) {
        let n_bytes = bytes.len().min(prepared.size_bytes());
        // SAFETY: there is memory for all that is prepared.
        unsafe { (*frame).prepared.add(offset).copy_from_nonoverlapping(bytes.as_ptr(), n_bytes) };
    }
}

/// Writes the state back.
///
/// # Safety
/// As for [`read_state`].
unsafe fn write_state(state: &State, frame: *mut Frame) -> std::result::Result<(), i64> {
    // SAFETY: as for `read_state`.
    unsafe {
        for (i, &bits) in state.scalars.iter().enumerate() {
            *(*frame).state.add(i) = bits;
        }
        for (i, bytes) in state.slots.iter().enumerate() {
            if !bytes.is_empty() {
                write_slot(i, bytes, frame)?;
            }
        }
    }
    Ok(())
}

/// Puts bytes at the start of a slot and gives its address.
///
/// # Safety
/// The frame is that of the running call, whose instance has this slot.
unsafe fn write_slot(slot: usize, bytes: &[u8], frame: *mut Frame) -> std::result::Result<u64, i64> {
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    // SAFETY: by the caller's promise; after the check the slot holds at least these bytes.
    unsafe {
        let before = (*(*frame).slots.add(slot)).capacity_bytes;
        let status = rt::aot_rt_slot(frame, number(slot), number(bytes.len()));
        if status < 0 {
            return Err(status);
        }
        let slot = &*(*frame).slots.add(slot);
        if slot.capacity_bytes != before {
            slot.data.write_bytes(GARBAGE, slot.capacity_bytes);
        }
        slot.data.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        Ok(slot.data as u64)
    }
}

/// Writes the leaves of a result.
///
/// # Safety
/// The frame is that of a call of a function of this program, with room for these leaves.
unsafe fn write_results(program: &Program, values: Vec<Value>, frame: *mut Frame) -> std::result::Result<(), Stop> {
    for (k, value) in values.into_iter().enumerate() {
        let leaf = match value {
            Value::Scalar(VarType::Bool, bits) => Leaf::bool(bits != 0),
            Value::Scalar(VarType::Int, bits) => Leaf::int(bits.cast_signed()),
            Value::Scalar(VarType::Float, bits) => Leaf::float(f64::from_bits(bits)),
            Value::Scalar(VarType::Object, bits) => Leaf { tag: aot_runtime::Tag::Object as i64, bits, ..Leaf::NONE },
            Value::Tensor(dtype, sizes, bytes) => {
                if sizes.len() > aot_runtime::abi::MAX_RANK {
                    return Err(Diagnostic::unsupported(format!("a result of {} dimensions", sizes.len())).into());
                }
                // SAFETY: `load` asked for one slot for each result after the program's.
                let data = unsafe { write_slot(program.n_slots + k, &bytes, frame) }.map_err(Stop::Status)?;
                Leaf::tensor(runtime_dtype(dtype)?, &sizes, data as *mut u8)
            }
        };
        // SAFETY: by the caller's promise.
        unsafe { *(*frame).outputs.add(k) = leaf };
    }
    Ok(())
}

/// Objects and routines of the runtime library, for the call of this frame.
struct FrameObjects {
    frame: *mut Frame,
}

impl FrameObjects {
    /// The object's tensor, which must have this many bytes.
    fn tensor(object: u64, bytes: usize) -> Result<aot_runtime::Tensor> {
        // SAFETY: the evaluator passes objects of live variables only.
        let object = unsafe { ObjectRef::from_borrowed(object as *mut _) };
        match object.as_ref().map(ObjectRef::body) {
            Some(Body::Tensor(tensor)) if tensor.size_bytes() == bytes => Ok(tensor.clone()),
            Some(Body::Tensor(tensor)) => Err(Diagnostic::internal(format!(
                "a buffer of {bytes} bytes is in a tensor object of {}",
                tensor.size_bytes()
            ))),
            _ => Err(Diagnostic::internal("a buffer is in an object that is not a tensor")),
        }
    }
}

impl Objects for FrameObjects {
    fn retain(&mut self, object: u64) {
        // SAFETY: null, or held by a variable, the state or the caller.
        unsafe { rt::aot_rt_retain(object as *mut _) };
    }

    fn release(&mut self, object: u64) {
        // SAFETY: null, or a reference that the evaluator owned.
        unsafe { rt::aot_rt_release(object as *mut _) };
    }

    fn text(&mut self, text: &str) -> Result<u64> {
        Ok(ObjectRef::text(text).into_raw() as u64)
    }

    fn read_tensor(&mut self, object: u64, bytes: usize) -> Result<Vec<u8>> {
        Ok(Self::tensor(object, bytes)?.to_bytes())
    }

    fn write_tensor(&mut self, object: u64, bytes: &[u8]) -> Result<()> {
        let written = Self::tensor(object, bytes.len())?.set_bytes(bytes);
        written.ok_or_else(|| Diagnostic::internal("a tensor object is written with too few bytes"))
    }

    fn call(
        &mut self,
        routine: &str,
        args: &mut [CallArg],
        n_results: usize,
    ) -> Result<std::result::Result<Vec<u64>, i64>> {
        let Some(function) = routines::find(routine) else {
            return Err(Diagnostic::internal(format!("there is no routine {routine}")));
        };
        let leaf = |arg: &mut CallArg| {
            Ok(match arg {
                CallArg::Scalar(VarType::Bool, bits) => Leaf::bool(*bits != 0),
                CallArg::Scalar(VarType::Int, bits) => Leaf::int(bits.cast_signed()),
                CallArg::Scalar(VarType::Float, bits) => Leaf::float(f64::from_bits(*bits)),
                CallArg::Scalar(VarType::Object, bits) => {
                    Leaf { tag: aot_runtime::Tag::Object as i64, bits: *bits, ..Leaf::NONE }
                }
                CallArg::Text(text) => Leaf::text(text),
                CallArg::Tensor(dtype, sizes, bytes) => Leaf::tensor(runtime_dtype(*dtype)?, sizes, bytes.as_mut_ptr()),
            })
        };
        let leaves = args.iter_mut().map(leaf).collect::<Result<Vec<_>>>()?;
        // Room for more than the program asks for costs nothing and keeps a mistaken program from harm.
        let mut results = vec![0; n_results.max(8)];
        // SAFETY: the frame is that of the running call; the leaves point at the arguments, which live during the call.
        let status = unsafe {
            function(self.frame, leaves.as_ptr(), i64::try_from(leaves.len()).unwrap_or(0), results.as_mut_ptr())
        };
        results.truncate(n_results);
        Ok(if status < 0 { Err(status) } else { Ok(results) })
    }

    fn failed_at(&mut self, place: &str) {
        // SAFETY: the frame is that of the running call; the text is valid.
        unsafe { rt::aot_rt_failed_at(self.frame, place.as_ptr(), place.len()) };
    }
}
