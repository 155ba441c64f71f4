//! Plain execution of unscheduled loop programs: the reference that compiled code is compared with, and constant folding.
//!
//! Correct first: every index of every load and store is checked, memory with undefined contents holds a pattern, and a
//! program that breaks the rules of [`crate::loops`] is reported as an internal error that names the kernel.

mod column;
mod contraction;
mod fold;
mod frame;
#[cfg(test)]
mod frame_tests;
mod host;
mod kernel;
mod math;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;

use crate::diag::{Diagnostic, Result};
use crate::loops::{FunctionId, Program, VarType};
use crate::types::TensorData;
pub use frame::load;
use host::{Message, NoObjects, State, Stop, Value};

/// A leaf of a function's arguments or results.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Arg {
    /// For inputs that take `None` or constant text.
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Tensor(TensorData),
}

/// An instance's state, kept from call to call.
#[derive(Clone, Debug, Default)]
pub struct Session {
    state: State,
}

impl Session {
    /// A new instance: runs the program's `prepare` and `init`.
    pub fn new(program: &Program) -> Result<Self> {
        let mut session = Self::default();
        for first in [program.prepare, program.init].into_iter().flatten() {
            session.run(program, first, &mut [])?;
        }
        Ok(session)
    }

    /// Runs a function; gives the number of its result tree and the tree's leaves. Tensors that the function mutates are
    /// replaced in `inputs`. An exception of the model is an error of the user's.
    pub fn run(&mut self, program: &Program, function: FunctionId, inputs: &mut [Arg]) -> Result<(usize, Vec<Arg>)> {
        let body = program.functions.get(function);
        let body = body.ok_or_else(|| Diagnostic::internal(format!("there is no function {function}")))?;
        let mut values: Vec<Value> = inputs.iter().map(to_value).collect();
        let result = host::run(program, body, &mut values, &mut self.state, &mut NoObjects);
        for (input, value) in inputs.iter_mut().zip(values) {
            if matches!(input, Arg::Tensor(_)) {
                *input = from_value(value)?;
            }
        }
        let (tree, leaves) = result.map_err(diagnostic)?;
        Ok((tree, leaves.into_iter().map(from_value).collect::<Result<_>>()?))
    }
}

/// Runs a function of a fresh instance; gives the number of its result tree and the tree's leaves.
pub fn run(program: &Program, function: FunctionId, inputs: &[Arg]) -> Result<(usize, Vec<Arg>)> {
    Session::new(program)?.run(program, function, &mut inputs.to_vec())
}

/// Runs a function without inputs or state whose results are tensors: what constant folding asks for.
pub fn run_pure(program: &Program, function: FunctionId) -> Result<Vec<TensorData>> {
    let (_, leaves) = Session::default().run(program, function, &mut [])?;
    let tensor = |leaf| match leaf {
        Arg::Tensor(tensor) => Ok(tensor),
        other => Err(Diagnostic::internal(format!("a folded function gives {other:?}, not a tensor"))),
    };
    leaves.into_iter().map(tensor).collect()
}

fn to_value(arg: &Arg) -> Value {
    match arg {
        Arg::None => Value::Scalar(VarType::Bool, 0),
        Arg::Bool(x) => Value::Scalar(VarType::Bool, u64::from(*x)),
        Arg::Int(x) => Value::Scalar(VarType::Int, x.cast_unsigned()),
        Arg::Float(x) => Value::Scalar(VarType::Float, x.to_bits()),
        Arg::Tensor(t) => Value::Tensor(t.dtype(), t.sizes().to_vec(), t.contiguous_bytes().into_owned()),
    }
}

fn from_value(value: Value) -> Result<Arg> {
    Ok(match value {
        Value::Scalar(VarType::Bool, bits) => Arg::Bool(bits != 0),
        Value::Scalar(VarType::Int, bits) => Arg::Int(bits.cast_signed()),
        Value::Scalar(VarType::Float, bits) => Arg::Float(f64::from_bits(bits)),
        Value::Scalar(VarType::Object, _) => {
            return Err(Diagnostic::unsupported("evaluation of run-time objects without a runtime"));
        }
        Value::Tensor(dtype, sizes, bytes) => {
            Arg::Tensor(TensorData::from_bytes(dtype, &sizes, bytes).map_err(Diagnostic::internal)?)
        }
    })
}

/// An exception of the model as an error of the user's, anything else as it is.
fn diagnostic(stop: Stop) -> Box<Diagnostic> {
    match stop {
        Stop::Failed(diagnostic) => diagnostic,
        Stop::Raised { class, message, place } => {
            let text = match message {
                Message::Text(text) => text,
                Message::Object(_) => "the model raised an exception".into(),
            };
            let diagnostic = Diagnostic::user(text).note(format!("raised as {class}"));
            if place.is_empty() { diagnostic } else { diagnostic.note(format!("at {place}")) }
        }
        Stop::Status(status) => Diagnostic::internal(format!("a routine failed with status {status}")),
    }
}
