//! The text of a tensor, as the C++ side of PyTorch writes it (which `print` in TorchScript and `str` use).
//!
//! A matrix is written in blocks of columns that fit a line; one of higher rank as its matrices, the first index fastest,
//! each with a format of its own. The format follows from the least and greatest magnitude: whole numbers as they are, others
//! with four decimals, after a common factor where that keeps them short, in scientific form where they differ too much.

use super::text::element;
use crate::tensor::{Dtype, Tensor};
use std::fmt::Write as _;

/// Characters that a line of a matrix may have.
const LINE: usize = 80;

/// Appends the text of a tensor; complex ones show their real parts.
pub(super) fn write_tensor(out: &mut String, tensor: &Tensor) {
    let bytes = tensor.to_bytes();
    let values: Vec<f64> = (0..tensor.n_elements()).map(|i| element(tensor, &bytes, i)).collect();
    let sizes: Vec<usize> = tensor.sizes.iter().map(|&n| n as usize).collect();
    match (sizes.as_slice(), values.as_slice()) {
        (_, []) => {}
        ([], values) => out.extend(values.iter().map(|&x| shortest(x) + "\n")),
        ([_], values) => {
            let format = Format::of(values);
            format.write_factor(out);
            out.extend(values.iter().map(|&x| format.number(x) + "\n"));
        }
        ([_, n_columns], values) => write_matrix(out, values, *n_columns, 0),
        ([outer @ .., n_rows, n_columns], values) => {
            for number in 0..outer.iter().product() {
                let (mut rest, mut at) = (number, 0);
                let mut index = String::new();
                for (dim, &n) in outer.iter().enumerate() {
                    let _ = write!(index, "{},", rest % n + 1);
                    at += rest % n * outer[dim + 1..].iter().product::<usize>();
                    rest /= n;
                }
                let _ = writeln!(out, "{}({index}.,.) = ", if number == 0 { "" } else { "\n" });
                let n = n_rows * n_columns;
                write_matrix(out, &values[at * n..(at + 1) * n], *n_columns, 1);
            }
        }
    }
    let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    let _ = write!(out, "[ CPU{}Type{{{}}} ]", type_name(tensor.dtype), sizes.join(","));
}

fn write_matrix(out: &mut String, values: &[f64], n_columns: usize, indent: usize) {
    let format = Format::of(values);
    let n_fitting = ((LINE - indent) / (format.width + 1)).max(1);
    let n_rows = values.len() / n_columns;
    for first in (0..n_columns).step_by(n_fitting) {
        let end = n_columns.min(first + n_fitting);
        if n_fitting < n_columns {
            let gap = if first == 0 { "" } else { "\n" };
            let _ = write!(out, "{gap}Columns {} to {end}{:indent$}", first + 1, "");
        }
        if format.write_factor(out) {
            let _ = write!(out, "{:indent$}", "");
        }
        for (number, row) in values.chunks(n_columns).enumerate() {
            let numbers: Vec<String> = row[first..end].iter().map(|&x| format.number(x)).collect();
            let _ = writeln!(out, "{}", numbers.join(" "));
            if number + 1 < n_rows {
                // What follows the first row stands further in than it.
                let more = indent + usize::from(format.has_factor());
                let _ = write!(out, "{:more$}", "");
            }
        }
    }
}

/// How the numbers of a vector or matrix are written.
struct Format {
    kind: Kind,
    width: usize,
    /// What all are divided by.
    factor: f64,
}

enum Kind {
    Whole,
    Fixed,
    Scientific,
}

impl Format {
    fn of(values: &[f64]) -> Self {
        let magnitudes = values.iter().filter(|x| x.is_finite()).map(|x| x.abs());
        let greatest = magnitudes.clone().reduce(f64::max).unwrap_or(1.0);
        let least = magnitudes.clone().reduce(f64::min).unwrap_or(1.0);
        let digits = |x: f64| if x == 0.0 { 1 } else { x.log10().floor() as i32 + 1 };
        let (low, high) = (digits(least), digits(greatest));
        let is_whole = magnitudes.clone().all(|x| x.fract() == 0.0);
        let (kind, width, factor) = if is_whole {
            if high > 9 { (Kind::Scientific, 11, 1.0) } else { (Kind::Whole, high.max(1) as usize + 1, 1.0) }
        } else if high - low > 4 {
            (Kind::Scientific, if high.abs() > 99 || low.abs() > 99 { 12 } else { 11 }, 1.0)
        } else if !(0..=5).contains(&high) {
            (Kind::Fixed, 7, 10.0_f64.powi(high - 1))
        } else {
            (Kind::Fixed, if high == 0 { 7 } else { high as usize + 6 }, 1.0)
        };
        Self { kind, width, factor }
    }

    #[allow(clippy::float_cmp, reason = "the factor 1 is set, not computed")]
    fn has_factor(&self) -> bool {
        self.factor != 1.0
    }

    /// Writes the factor, if there is one.
    fn write_factor(&self, out: &mut String) -> bool {
        if self.has_factor() {
            let _ = writeln!(out, "{} *", shortest(self.factor));
        }
        self.has_factor()
    }

    fn number(&self, x: f64) -> String {
        let text = match self.kind {
            _ if x.is_nan() => "nan".into(),
            _ if x.is_infinite() => if x < 0.0 { "-inf" } else { "inf" }.into(),
            Kind::Whole => six_digits(x),
            Kind::Fixed => format!("{:.4}", x / self.factor),
            Kind::Scientific => scientific(&format!("{x:.4e}")),
        };
        format!("{text:>width$}", width = self.width)
    }
}

/// `1.5e7` with an exponent of a sign and two digits at least.
fn scientific(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// A whole number, in scientific form where it has more than six digits.
fn six_digits(x: f64) -> String {
    if x.abs() < 999_999.5 {
        return format!("{x:.0}");
    }
    let text = format!("{x:.5e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    scientific(&format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.')))
}

/// As few digits as tell the number from others; in scientific form where it is very large or small.
fn shortest(x: f64) -> String {
    let text = format!("{x:e}");
    let exponent: i32 = text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    if x.is_nan() {
        "nan".into()
    } else if (-4..16).contains(&exponent) {
        x.to_string()
    } else {
        scientific(&text)
    }
}

fn type_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::U8 => "Byte",
        Dtype::I8 => "Char",
        Dtype::I16 => "Short",
        Dtype::I32 => "Int",
        Dtype::I64 => "Long",
        Dtype::F16 => "Half",
        Dtype::F32 => "Float",
        Dtype::F64 => "Double",
        Dtype::C64 => "ComplexFloat",
        Dtype::C128 => "ComplexDouble",
        Dtype::BOOL => "Bool",
        Dtype::BF16 => "BFloat16",
        Dtype::U16 => "UInt16",
        Dtype::U32 => "UInt32",
        Dtype::U64 => "UInt64",
        _ => "Undefined",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sizes: &[i64], values: &[f32], expected: &str) {
        let mut out = String::new();
        write_tensor(&mut out, &Tensor::from_f32(sizes, values).unwrap());
        assert_eq!(out, expected);
    }

    #[test]
    fn vectors_have_a_number_on_each_line() {
        check(&[2], &[1.0, 2.5], " 1.0000\n 2.5000\n[ CPUFloatType{2} ]");
        check(&[2], &[0.001, 0.005], "0.001 *\n 1.0000\n 5.0000\n[ CPUFloatType{2} ]");
        check(&[2], &[1e-8, 1.0], " 1.0000e-08\n 1.0000e+00\n[ CPUFloatType{2} ]");
        check(&[2], &[-5_000_000.0, 1.0], "  -5e+06\n       1\n[ CPUFloatType{2} ]");
        check(&[2], &[f32::NAN, 0.5], "    nan\n 0.5000\n[ CPUFloatType{2} ]");
        check(&[0], &[], "[ CPUFloatType{0} ]");
    }

    #[test]
    fn a_number_is_as_long_as_it_must_be() {
        check(&[], &[3.5], "3.5\n[ CPUFloatType{} ]");
        check(&[], &[0.1], "0.10000000149011612\n[ CPUFloatType{} ]");
        check(&[], &[1e20], "1.0000000200408773e+20\n[ CPUFloatType{} ]");
        check(&[], &[1e-10], "1.000000013351432e-10\n[ CPUFloatType{} ]");
    }

    #[test]
    fn wide_matrices_are_cut() {
        let row = |n: usize| vec![" 1.0000"; n].join(" ");
        let expected = format!(
            "Columns 1 to 10100000 *\n{}\n {}\n\nColumns 11 to 12100000 *\n{}\n {}\n[ CPUFloatType{{2,12}} ]",
            row(10),
            row(10),
            row(2),
            row(2)
        );
        check(&[2, 12], &[100_000.5; 24], &expected);
    }

    #[test]
    fn matrices_of_higher_ranks_have_formats_of_their_own() {
        let expected = "(1,.,.) = \n 0  1\n  2  3\n\n(2,.,.) = \n 0.5000\n[ CPUFloatType{2,2,2} ]";
        let expected = expected.replace(" 0.5000\n", " 0.5000  1.5000\n  2.5000  3.5000\n");
        check(&[2, 2, 2], &[0.0, 1.0, 2.0, 3.0, 0.5, 1.5, 2.5, 3.5], &expected);
        let expected =
            "(1,1,.,.) = \n 0\n\n(2,1,.,.) = \n 2\n\n(1,2,.,.) = \n 1\n\n(2,2,.,.) = \n 3\n[ CPUFloatType{2,2,1,1} ]";
        check(&[2, 2, 1, 1], &[0.0, 1.0, 2.0, 3.0], expected);
    }
}
