//! How constants are spelled in graphs and code: floats, strings, containers, small tensors.

use crate::types::{IValue, TensorData, Type};
use std::fmt::Write as _;

/// A float as PyTorch prints it: whole numbers below 1e10 with a bare dot, others with 17 significant digits.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    if value.fract() == 0.0 && value.abs() < 1e10 {
        return format!("{value:.0}.");
    }
    general(value, 17)
}

/// A float in C's `%.Ng` form: the shorter of fixed and scientific, without trailing zeros.
pub(super) fn general(value: f64, n_digits: usize) -> String {
    if !value.is_finite() {
        return float(value);
    }
    let scientific = format!("{value:.*e}", n_digits.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| {
        let digits = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
        digits.to_owned()
    };
    let n_digits = i64::try_from(n_digits).unwrap_or(17);
    if exponent < -4 || exponent >= n_digits {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let n_decimals = usize::try_from(n_digits - 1 - exponent).unwrap_or(0);
    trim(&format!("{value:.n_decimals$}"))
}

/// `1.+3.j`.
pub(super) fn complex(re: f64, im: f64) -> String {
    let sign = if im >= 0.0 { "+" } else { "-" };
    format!("{}{sign}{}j", float(re), float(im.abs()))
}

/// A string in double quotes. Bytes outside printable ASCII become octal escapes of three digits.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for byte in text.bytes() {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\'' => out.push_str("\\'"),
            b'"' => out.push_str("\\\""),
            7 => out.push_str("\\a"),
            8 => out.push_str("\\b"),
            12 => out.push_str("\\f"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            11 => out.push_str("\\v"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => _ = write!(out, "\\{byte:03o}"),
        }
    }
    out.push('"');
    out
}

/// A value in the form that source text and the insides of containers use.
///
/// `special` may spell a value itself, or by a prefix that `Err` holds (the name of a named tuple); `None` leaves it to this function.
pub fn repr(value: &IValue, special: &mut dyn FnMut(&IValue) -> Option<String>) -> String {
    if let Some(text) = special(value) {
        return text;
    }
    let mut list = |items: &[IValue]| items.iter().map(|item| repr(item, special)).collect::<Vec<_>>().join(", ");
    match value {
        IValue::None => "None".into(),
        IValue::Bool(true) => "True".into(),
        IValue::Bool(false) => "False".into(),
        IValue::Int(value) => value.to_string(),
        IValue::Float(value) => float(*value),
        IValue::Complex(re, im) => complex(*re, *im),
        IValue::Str(text) => quoted(text),
        IValue::Device(name) => format!("torch.device({})", quoted(name)),
        IValue::Tensor(data) => tensor(data),
        IValue::Tuple(items) if items.len() == 1 => format!("({},)", list(items)),
        IValue::Tuple(items) => format!("({})", list(items)),
        IValue::List(Some(elem), items) if items.is_empty() => format!("annotate(List[{}], [])", elem.annotation()),
        IValue::List(_, items) => format!("[{}]", list(items)),
        IValue::Dict(Some((key, value)), items) if items.is_empty() => {
            format!("annotate(Dict[{}, {}], {{}})", key.annotation(), value.annotation())
        }
        IValue::Dict(_, items) => {
            let pairs = items.iter().map(|(k, v)| format!("{}: {}", repr(k, special), repr(v, special)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        IValue::Object(object) => format!("object({})", object.class),
        IValue::Enum { class, value } => format!("{class}({})", repr(value, special)),
    }
}

/// A constant as the `value` of a graph's `prim::Constant`, whose output has this type.
pub(super) fn attribute(value: &IValue, ty: &Type) -> String {
    match value {
        IValue::Bool(value) => u8::from(*value).to_string(),
        IValue::Device(name) => quoted(name),
        IValue::List(_, items) if matches!(items.first(), Some(IValue::Tensor(_))) => "[<Tensors>]".into(),
        IValue::List(None, items) if items.is_empty() => format!("annotate({}, [])", ty.annotation()),
        IValue::Dict(None, items) if items.is_empty() => format!("annotate({}, {{}})", ty.annotation()),
        _ => repr(value, &mut |_| None),
    }
}

/// Tensors of more elements print as `<Tensor>`.
const MAX_TENSOR_ELEMENTS: usize = 10;

/// A constant tensor: `{1}` for one element, all elements on one line for few, `<Tensor>` for many.
fn tensor(data: &TensorData) -> String {
    let numel = usize::try_from(data.numel()).unwrap_or(usize::MAX);
    if numel > MAX_TENSOR_ELEMENTS {
        return "<Tensor>".into();
    }
    let Some(elements) = elements(data) else { return "<Tensor>".into() };
    if let [(re, im)] = elements[..] {
        let is_whole = !(data.dtype().is_floating_point() || data.dtype().is_complex());
        return match im {
            Some(im) => format!("{{({},{})}}", general(re, 6), general(im, 6)),
            None if is_whole => format!("{{{re:.0}}}"),
            None => format!("{{{}}}", general(re, 6)),
        };
    }
    if elements.iter().any(|(_, im)| im.is_some()) {
        return "<Tensor>".into();
    }
    let values: Vec<f64> = elements.into_iter().map(|(re, _)| re).collect();
    let sizes: Vec<usize> = data.sizes().iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
    let mut out = String::new();
    match sizes.as_slice() {
        _ if values.is_empty() => {}
        [_] => Layout::of(&values).rows(&mut out, &values, 1, ""),
        [_, columns] => Layout::of(&values).rows(&mut out, &values, *columns, ""),
        [outer @ .., rows, columns] => {
            let step = rows * columns;
            for (at, matrix) in values.chunks(step.max(1)).enumerate() {
                let mut index = Vec::new();
                let mut rest = at;
                for size in outer.iter().rev() {
                    index.push((rest % size.max(&1) + 1).to_string());
                    rest /= size.max(&1);
                }
                index.reverse();
                let gap = if at == 0 { "" } else { "\n" };
                let _ = writeln!(out, "{gap}({},.,.) = ", index.join(","));
                Layout::of(matrix).rows(&mut out, matrix, *columns, " ");
            }
        }
        [] => {}
    }
    let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    let _ = write!(out, "[ CPU{}Type{{{}}} ]", data.dtype(), sizes.join(","));
    out.replace('\n', " ")
}

/// The elements as (real part, imaginary part), or `None` for quantised types.
fn elements(data: &TensorData) -> Option<Vec<(f64, Option<f64>)>> {
    use crate::types::DType;
    let bytes = data.contiguous_bytes();
    let size = data.dtype().size_bytes();
    let each = bytes.chunks_exact(size);
    let half = |b: &[u8]| half_to_f64(u16::from_ne_bytes(array(b)), 5);
    let (single, double) =
        (|b: &[u8]| f64::from(f32::from_ne_bytes(array(b))), |b: &[u8]| f64::from_ne_bytes(array(b)));
    #[allow(clippy::cast_precision_loss, reason = "printed with few digits")]
    let real = |b: &[u8]| {
        Some(match data.dtype() {
            DType::U8 => f64::from(u8::from_ne_bytes(array(b))),
            DType::Bool => f64::from(u8::from(array::<1>(b) != [0])),
            DType::I8 => f64::from(i8::from_ne_bytes(array(b))),
            DType::I16 => f64::from(i16::from_ne_bytes(array(b))),
            DType::I32 => f64::from(i32::from_ne_bytes(array(b))),
            DType::I64 => i64::from_ne_bytes(array(b)) as f64,
            DType::U16 => f64::from(u16::from_ne_bytes(array(b))),
            DType::U32 => f64::from(u32::from_ne_bytes(array(b))),
            DType::U64 => u64::from_ne_bytes(array(b)) as f64,
            DType::F16 => half(b),
            DType::BF16 => f64::from(f32::from_bits(u32::from(u16::from_ne_bytes(array(b))) << 16)),
            DType::F32 => single(b),
            DType::F64 => double(b),
            DType::C32 | DType::C64 | DType::C128 | DType::QI8 | DType::QU8 | DType::QI32 => return None,
            DType::F8E5M2 | DType::F8E4M3 => return None,
        })
    };
    each.map(|bytes| {
        let (re, im) = bytes.split_at(size / 2);
        match data.dtype() {
            DType::C32 => Some((half(re), Some(half(im)))),
            DType::C64 => Some((single(re), Some(single(im)))),
            DType::C128 => Some((double(re), Some(double(im)))),
            _ => real(bytes).map(|value| (value, None)),
        }
    })
    .collect()
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

/// An IEEE half, or any 16-bit format with this many exponent bits.
fn half_to_f64(bits: u16, n_exponent: u32) -> f64 {
    let n_mantissa = 15 - n_exponent;
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits >> n_mantissa) & ((1 << n_exponent) - 1);
    let mantissa = f64::from(bits & ((1 << n_mantissa) - 1)) / f64::from(1 << n_mantissa);
    let bias = (1_i32 << (n_exponent - 1)) - 1;
    match exponent {
        0 => sign * mantissa * 2f64.powi(1 - bias),
        e if e == (1 << n_exponent) - 1 => {
            if mantissa == 0.0 {
                sign * f64::INFINITY
            } else {
                f64::NAN
            }
        }
        e => sign * (1.0 + mantissa) * 2f64.powi(e - bias),
    }
}

/// How the numbers of one matrix are aligned: a common scale, a width, and a style.
struct Layout {
    scale: f64,
    width: usize,
    style: Style,
}

#[derive(Clone, Copy)]
enum Style {
    Whole,
    Fixed,
    Scientific,
}

impl Layout {
    /// The rule of PyTorch's printer: by the decimal exponents of the smallest and largest finite magnitudes.
    fn of(values: &[f64]) -> Self {
        let is_whole = values.iter().all(|v| v.is_nan() || v.fract() == 0.0 || v.is_infinite());
        let finite = || values.iter().filter(|v| v.is_finite()).map(|v| v.abs());
        #[allow(clippy::cast_possible_truncation, reason = "the exponent of a double is small")]
        let exponent = |value: f64| if value == 0.0 { 1 } else { value.log10().floor() as i32 + 1 };
        let low = finite().reduce(f64::min).map_or(1, exponent);
        let high = finite().reduce(f64::max).map_or(1, exponent);
        let columns = |n: i32| usize::try_from(n).unwrap_or(1);
        if is_whole {
            return match high {
                10.. => Self { scale: 1.0, width: 11, style: Style::Scientific },
                _ => Self { scale: 1.0, width: columns(high + 1), style: Style::Whole },
            };
        }
        if high - low > 4 {
            let width = if high.abs() > 99 || low.abs() > 99 { 12 } else { 11 };
            return Self { scale: 1.0, width, style: Style::Scientific };
        }
        match high {
            0 => Self { scale: 1.0, width: 7, style: Style::Fixed },
            1..=5 => Self { scale: 1.0, width: columns(high + 6), style: Style::Fixed },
            _ => Self { scale: 10f64.powi(high - 1), width: 7, style: Style::Fixed },
        }
    }

    fn rows(&self, out: &mut String, values: &[f64], n_columns: usize, indent: &str) {
        let is_scaled = (self.scale - 1.0).abs() > 0.0;
        out.push_str(indent);
        if is_scaled {
            let _ = write!(out, "{} *\n{indent}", general(self.scale, 6));
        }
        let n_columns = n_columns.max(1);
        let n_rows = values.len() / n_columns;
        for (at, row) in values.chunks(n_columns).enumerate() {
            let cells: Vec<String> = row.iter().map(|value| self.cell(value / self.scale)).collect();
            let _ = writeln!(out, "{}", cells.join(" "));
            if at + 1 < n_rows {
                out.push_str(indent);
                if is_scaled && n_columns > 1 {
                    out.push(' ');
                }
            }
        }
    }

    fn cell(&self, value: f64) -> String {
        let text = match self.style {
            _ if !value.is_finite() => general(value, 6),
            Style::Whole => format!("{value:.0}"),
            Style::Fixed => format!("{value:.4}"),
            Style::Scientific => {
                let text = format!("{value:.4e}");
                let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let exponent: i32 = exponent.parse().unwrap_or(0);
                format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
            }
        };
        format!("{text:>width$}", width = self.width)
    }
}
