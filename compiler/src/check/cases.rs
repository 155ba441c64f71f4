//! Case files: a dict with the calls of a model and what PyTorch gave for each.

use super::{Outcome, TextKind, compare};
use crate::diag::{Diagnostic, Result};
use crate::types::{IValue, TensorData};
use aot_runtime::abi::Status;
use aot_runtime::{Dtype, Tensor, Value};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The contents of a case file.
#[derive(Clone, Debug)]
pub struct CaseFile {
    /// Calls, each on a fresh instance.
    pub calls: Vec<Call>,
    /// Rows of calls, each row on one instance.
    pub sequences: Vec<Vec<Call>>,
    /// Relative tolerance of floats.
    pub rtol: f64,
    /// Absolute tolerance of floats.
    pub atol: f64,
    /// Whether only shapes and types are comparable, since results are unique only up to a basis.
    pub is_gauge_dependent: bool,
    /// What PyTorch printed of the method of the first call.
    pub texts: Vec<(TextKind, String)>,
}

/// A recorded call.
#[derive(Clone, Debug)]
pub struct Call {
    /// `forward` or another method.
    pub method: String,
    /// Arguments by position.
    pub inputs: Vec<IValue>,
    /// Arguments by name.
    pub kwargs: Vec<(String, IValue)>,
    /// What came of it.
    pub expected: Expected,
    /// The arguments afterwards, where the call changes them.
    pub inputs_after: Option<Vec<IValue>>,
    /// Seed of the random generator.
    pub seed: Option<u64>,
    /// Whether only shapes and types count: the memory is uninitialised.
    pub is_meta: bool,
}

/// What came of a recorded call.
#[derive(Clone, Debug)]
pub enum Expected {
    /// This result.
    Value(IValue),
    /// An exception: `TypeName: first line`.
    Raises(String),
}

fn get<'a>(dict: &'a IValue, key: &str) -> Option<&'a IValue> {
    let IValue::Dict(_, entries) = dict else { return None };
    entries.iter().find(|(k, _)| matches!(k, IValue::Str(text) if **text == *key)).map(|(_, v)| v)
}

fn items(value: Option<&IValue>) -> &[IValue] {
    match value {
        Some(IValue::List(_, items) | IValue::Tuple(items)) => items,
        _ => &[],
    }
}

impl CaseFile {
    /// Reads the dict of a case file.
    pub fn read(data: &IValue) -> Result<Self> {
        let number = |key: &str| match get(data, key) {
            Some(IValue::Float(x)) => *x,
            #[allow(clippy::cast_precision_loss, reason = "tolerances are small")]
            Some(IValue::Int(x)) => *x as f64,
            _ => 0.0,
        };
        let calls = items(get(data, "cases")).iter().map(Call::read).collect::<Result<_>>()?;
        let sequences = items(get(data, "sequences"));
        let sequence = |s: &IValue| items(Some(s)).iter().map(Call::read).collect::<Result<_>>();
        let sequences = sequences.iter().map(sequence).collect::<Result<_>>()?;
        let tags = items(get(data, "tags"));
        let is_gauge_dependent = tags.iter().any(|t| matches!(t, IValue::Str(text) if &**text == "gauge_dependent"));
        let text = |kind: TextKind| match get(data, kind.key()) {
            Some(IValue::Str(text)) => Some((kind, text.to_string())),
            _ => None,
        };
        let texts = TextKind::ALL.into_iter().filter_map(text).collect();
        Ok(Self { calls, sequences, rtol: number("rtol"), atol: number("atol"), is_gauge_dependent, texts })
    }

    /// A label for every call.
    pub(super) fn labels(&self) -> impl Iterator<Item = String> + '_ {
        let calls = self.calls.iter().enumerate().map(|(i, c)| format!("case {i} {}", c.method));
        let rows = self.sequences.iter().enumerate();
        let rows = rows.flat_map(|(i, row)| {
            row.iter().enumerate().map(move |(j, c)| format!("sequence {i} call {j} {}", c.method))
        });
        calls.chain(rows)
    }
}

impl Call {
    fn read(data: &IValue) -> Result<Self> {
        let text = |key: &str| match get(data, key) {
            Some(IValue::Str(text)) => Some(text.to_string()),
            _ => None,
        };
        let expected = match (get(data, "expected"), text("raises")) {
            (_, Some(raises)) => Expected::Raises(raises),
            (Some(value), None) => Expected::Value(value.clone()),
            (None, None) => return Err(Diagnostic::user("a case has neither 'expected' nor 'raises'")),
        };
        let kwargs = match get(data, "kwargs") {
            Some(IValue::Dict(_, entries)) => entries
                .iter()
                .filter_map(|(k, v)| if let IValue::Str(k) = k { Some((k.to_string(), v.clone())) } else { None })
                .collect(),
            _ => Vec::new(),
        };
        let seed = match get(data, "seed") {
            Some(IValue::Int(seed)) => Some(seed.cast_unsigned()),
            _ => None,
        };
        Ok(Self {
            method: text("method").unwrap_or_else(|| "forward".to_owned()),
            inputs: items(get(data, "inputs")).to_vec(),
            kwargs,
            expected,
            inputs_after: get(data, "inputs_after").map(|v| items(Some(v)).to_vec()),
            seed,
            is_meta: text("check").as_deref() == Some("meta"),
        })
    }

    /// Compares what a call gave with what was recorded.
    pub(super) fn judge(
        &self,
        result: std::result::Result<Value, aot_runtime::Error>,
        args: &[Value],
        file: &CaseFile,
    ) -> Outcome {
        match (&self.expected, result) {
            (Expected::Raises(_), Err(error)) if error.status != Status::Internal => Outcome::Passed,
            (Expected::Raises(raises), Ok(_)) => Outcome::Failed(format!("expected an exception: {raises}")),
            (_, Err(error)) if error.status == Status::Unsupported => Outcome::Unsupported(error.to_string()),
            (_, Err(error)) => Outcome::Failed(error.to_string()),
            (Expected::Value(expected), Ok(value)) => {
                let tolerance = compare::Tolerance {
                    rtol: file.rtol,
                    atol: file.atol,
                    is_meta: self.is_meta || file.is_gauge_dependent,
                };
                let mut difference = compare::difference(&value, expected, tolerance, "result");
                if let Some(after) = &self.inputs_after {
                    for (i, (arg, expected)) in args.iter().zip(after).enumerate() {
                        let name = format!("argument {i} afterwards");
                        difference = difference.or_else(|| compare::difference(arg, expected, tolerance, &name));
                    }
                }
                difference.map_or(Outcome::Passed, Outcome::Failed)
            }
        }
    }
}

/// A recorded value as an argument.
///
/// # Errors
/// Unsupported for kinds of values that no method takes.
pub fn value(value: &IValue) -> Result<Value> {
    value_in(value, &mut HashMap::new())
}

/// Recorded values as arguments of one call: tensors that were views of the same memory are so again.
///
/// # Errors
/// As [`value`].
pub fn values<'a>(values: impl IntoIterator<Item = &'a IValue>) -> Result<Vec<Value>> {
    let mut memory = HashMap::new();
    values.into_iter().map(|value| value_in(value, &mut memory)).collect()
}

/// A constant tensor as an argument, in a copy of its memory.
fn tensor_in(data: &TensorData, memory: &mut HashMap<usize, Tensor>) -> Result<Tensor> {
    let code = u8::try_from(data.dtype().code()).expect("codes of element types are small");
    let failed = |e: aot_runtime::Error| Diagnostic::user(e.to_string());
    let whole = match memory.entry(data.storage().key()) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => {
            let bytes = data.storage().bytes();
            let n_bytes = i64::try_from(bytes.len()).map_err(|_| Diagnostic::user("a tensor is too large"))?;
            place.insert(Tensor::from_bytes(Dtype::U8, &[n_bytes], bytes).map_err(failed)?)
        }
    };
    whole.reinterpret(Dtype(code), data.sizes(), data.strides(), data.offset()).map_err(failed)
}

fn value_in(value: &IValue, memory: &mut HashMap<usize, Tensor>) -> Result<Value> {
    let mut values = |items: &[IValue]| items.iter().map(|item| value_in(item, memory)).collect::<Result<Vec<_>>>();
    Ok(match value {
        IValue::None => Value::None,
        IValue::Bool(x) => Value::Bool(*x),
        IValue::Int(x) => Value::Int(*x),
        IValue::Float(x) => Value::Float(*x),
        IValue::Complex(re, im) => Value::Complex(*re, *im),
        IValue::Str(text) | IValue::Device(text) => Value::Str(text.to_string()),
        IValue::Tensor(data) => Value::Tensor(tensor_in(data, memory)?),
        IValue::Tuple(items) => Value::Tuple(values(items)?),
        IValue::List(_, items) => Value::List(values(items)?),
        IValue::Dict(_, entries) => {
            if let Some(IValue::Str(kind)) = get(value, "__type__") {
                special(value, kind)?
            } else {
                let mut entry = |(k, v): &(IValue, IValue)| Ok((value_in(k, memory)?, value_in(v, memory)?));
                Value::Dict(entries.iter().map(&mut entry).collect::<Result<_>>()?)
            }
        }
        IValue::Object(_) | IValue::Enum { .. } => {
            return Err(Diagnostic::unsupported(format!("a {} as an argument", value.kind())));
        }
    })
}

/// Values outside the vocabulary of plain data are dicts with a `__type__`.
fn special(dict: &IValue, kind: &str) -> Result<Value> {
    let float = |key: &str| match get(dict, key) {
        Some(IValue::Float(x)) => *x,
        _ => 0.0,
    };
    Ok(match kind {
        "complex" => Value::Complex(float("re"), float("im")),
        "namedtuple" => Value::Tuple(items(get(dict, "values")).iter().map(value).collect::<Result<_>>()?),
        "dtype" | "layout" | "memory_format" => match get(dict, "str") {
            Some(IValue::Str(text)) => Value::Int(code(text)?),
            _ => return Err(Diagnostic::user(format!("a {kind} without a name"))),
        },
        "device" => match get(dict, "str") {
            Some(IValue::Str(text)) => Value::Str(text.to_string()),
            _ => return Err(Diagnostic::user("a device without a name")),
        },
        other => return Err(Diagnostic::unsupported(format!("a value of type {other}"))),
    })
}

/// The TorchScript integer of `torch.float32`, `torch.strided`, `torch.channels_last`.
fn code(text: &str) -> Result<i64> {
    let name = text.strip_prefix("torch.").unwrap_or(text);
    if let Some(dtype) = crate::types::DType::from_python_name(name) {
        return Ok(dtype.code());
    }
    match name {
        "strided" | "contiguous_format" => Ok(0),
        "preserve_format" | "sparse_coo" => Ok(1),
        "channels_last" => Ok(2),
        "channels_last_3d" => Ok(3),
        _ => Err(Diagnostic::unsupported(format!("the value {text}"))),
    }
}

/// What a special dict stands for, for comparison with a result.
pub(super) fn plain(expected: &IValue) -> Option<Value> {
    get(expected, "__type__").and_then(|_| value(expected).ok())
}
