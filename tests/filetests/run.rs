//! The lines `# run: forward([1.0, -2.0]) == [1.0, 0.0]` of a test: a method gives this result on the evaluator and on both
//! code generators. Arguments and results are JSON: arrays of numbers are tensors (`float32`, or `int64` without fractions),
//! a tuple or list of other things is an array too. `raises CLASS: MESSAGE` in place of a result is an exception.

use super::{FileTest, stages};
use aot::diag::Result;
use aot::driver::{self, Backend, Timings};
use aot::loops::Program;
use aot::lower::Request;
use aot_runtime::{Tensor, Value};
use serde_json::{Value as Json, json};

/// The first line that does not hold.
pub(super) fn fault(test: &FileTest) -> Option<String> {
    for (number, line) in test.marked("# run: ") {
        for backend in [Backend::Reference, Backend::Cranelift, Backend::Llvm] {
            match holds(test, line, backend) {
                Ok(None) => {}
                Ok(Some(got)) => return Some(format!("line {number} on {backend:?}: {line}\nit gives {got}")),
                Err(error) => return Some(format!("line {number} on {backend:?}: {}", error.render())),
            }
        }
    }
    None
}

/// The result, where it is another than the line says.
fn holds(test: &FileTest, line: &str, backend: Backend) -> Result<Option<String>> {
    let (call, expected) = line.split_once(") ").expect("a call and what it gives");
    let (method, args) = call.split_once('(').expect("a method and its arguments");
    let args: Json = serde_json::from_str(&format!("[{args}]")).expect("arguments are JSON");
    let args: Vec<Value> = args.as_array().expect("brackets").iter().map(to_value).collect();
    let program = program(test, method, &args)?;
    let called = program.methods.first().map_or_else(|| method.to_owned(), |method| method.name.clone());
    let model = driver::load(program, backend, &mut Timings::default())?;
    let result = model.instance().and_then(|mut instance| instance.call(&called, &args));
    let got = match &result {
        Ok(value) => from_value(value).to_string(),
        Err(error) => format!("raises {}: {}", error.class, error.message),
    };
    let expected = match expected.strip_prefix("== ") {
        Some(json) => serde_json::from_str::<Json>(json).expect("the result is JSON").to_string(),
        None => expected.to_owned(),
    };
    Ok((got != expected).then_some(got))
}

fn program(test: &FileTest, method: &str, args: &[Value]) -> Result<Program> {
    if matches!(test.header[0].as_str(), "loops" | "schedule") {
        return stages::program(test);
    }
    let (module, method) = match stages::dialect(test) {
        Some(dialect) => (stages::text(test, dialect, Some(method))?, "forward"),
        None => (stages::module(test)?, method),
    };
    driver::lower(&module, &[Request::of_values(method, args)?], &mut Timings::default())
}

/// The sizes and elements of nested arrays of numbers.
fn tensor(json: &Json, sizes: &mut Vec<i64>, depth: usize, elements: &mut Vec<f64>) {
    if let Json::Array(items) = json {
        if sizes.len() == depth {
            sizes.push(items.len() as i64);
        }
        for item in items {
            tensor(item, sizes, depth + 1, elements);
        }
    } else {
        elements.push(json.as_f64().expect("an element is a number"));
    }
}

fn to_value(json: &Json) -> Value {
    match json {
        Json::Bool(value) => Value::Bool(*value),
        Json::String(text) => Value::Str(text.clone()),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().expect("a number")), Value::Int)
        }
        Json::Array(_) => {
            let (mut sizes, mut elements) = (Vec::new(), Vec::new());
            tensor(json, &mut sizes, 0, &mut elements);
            let is_float = json.to_string().contains('.');
            let made = if is_float {
                Tensor::from_f32(&sizes, &elements.iter().map(|&x| x as f32).collect::<Vec<_>>())
            } else {
                Tensor::from_i64(&sizes, &elements.iter().map(|&x| x as i64).collect::<Vec<_>>())
            };
            Value::Tensor(made.expect("the sizes fit"))
        }
        Json::Null | Json::Object(_) => panic!("{json} is no argument"),
    }
}

fn from_value(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Int(x) => json!(x),
        Value::Bool(x) => json!(x),
        Value::Float(x) => json!(x),
        Value::Str(x) => json!(x),
        Value::Tensor(tensor) => {
            let bytes = tensor.to_bytes();
            let element = |bytes: &[u8]| match (tensor.dtype.name(), bytes.len()) {
                ("float32", _) => {
                    let x = f32::from_ne_bytes(bytes.try_into().expect("four bytes"));
                    // The shortest text of the `float32`, not that of the `float64` of the same value.
                    json!(x.to_string().parse::<f64>().expect("a number"))
                }
                ("int64", _) => json!(i64::from_ne_bytes(bytes.try_into().expect("eight bytes"))),
                (_, 1) => json!(bytes[0]),
                (name, _) => panic!("a result of {name}"),
            };
            let elements: Vec<Json> = bytes.chunks_exact(tensor.item_bytes()).map(element).collect();
            nested(&tensor.sizes, &mut elements.into_iter())
        }
        Value::List(items) | Value::Tuple(items) => Json::Array(items.iter().map(from_value).collect()),
        Value::Dict(entries) => {
            Json::Array(entries.iter().map(|(key, value)| json!([from_value(key), from_value(value)])).collect())
        }
        other => json!(format!("{other:?}")),
    }
}

fn nested(sizes: &[i64], elements: &mut impl Iterator<Item = Json>) -> Json {
    match sizes.split_first() {
        None => elements.next().expect("as many elements as the sizes say"),
        Some((&n, inner)) => Json::Array((0..n).map(|_| nested(inner, elements)).collect()),
    }
}
