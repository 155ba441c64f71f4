//! Numbers in other forms: digits of other bases, printf's formats, hashes.

use super::{Call, raise};
use crate::error::Result;
use crate::math;
use crate::object::{Body, Item};
use std::sync::OnceLock;
use std::time::Instant;

/// `number_text(form, number)`: `form` is the code of a letter, `x`, `o` or `b` of integers, `f` or `e` of floats.
pub(super) fn number_text(call: &mut Call<'_>) -> Result<()> {
    let form = u8::try_from(call.int(0)?).map_or('?', char::from);
    let text = match form {
        'x' | 'o' | 'b' => {
            let number = call.int(1)?;
            let (sign, size) = (if number < 0 { "-" } else { "" }, number.unsigned_abs());
            match form {
                'x' => format!("{sign}0x{size:x}"),
                'o' => format!("{sign}0o{size:o}"),
                _ => format!("{sign}0b{size:b}"),
            }
        }
        _ => {
            let text = printf(form.to_ascii_lowercase(), call.float(1)?);
            if form.is_ascii_uppercase() { text.to_ascii_uppercase() } else { text }
        }
    };
    call.ret_text(text)
}

/// A float as C's `%f` and `%e` print it, with 6 digits.
fn printf(form: char, x: f64) -> String {
    if !x.is_finite() {
        return if x.is_nan() { "nan".into() } else { if x < 0.0 { "-inf" } else { "inf" }.into() };
    }
    if form != 'e' {
        return format!("{x:.6}");
    }
    let text = format!("{x:.6e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `gamma(x)`
pub(super) fn gamma(call: &mut Call<'_>) -> Result<()> {
    let value = math::gamma(call.float(0)?);
    call.ret_float(value)
}

/// `gcd(a, b)`
pub(super) fn gcd(call: &mut Call<'_>) -> Result<()> {
    let value = math::gcd(call.int(0)?, call.int(1)?);
    call.ret_int(value)
}

/// `factorial(n)`
pub(super) fn factorial(call: &mut Call<'_>) -> Result<()> {
    let value = math::factorial(call.int(0)?);
    call.ret_int(value)
}

/// `ldexp(x, exponent)`
pub(super) fn ldexp(call: &mut Call<'_>) -> Result<()> {
    let value = math::ldexp(call.float(0)?, call.int(1)?);
    call.ret_float(value)
}

/// `frexp(x)`: mantissa and exponent.
pub(super) fn frexp(call: &mut Call<'_>) -> Result<()> {
    let (mantissa, exponent) = math::frexp(call.float(0)?);
    call.ret_item(0, Item::Float(mantissa))?;
    call.ret_item(1, Item::Int(exponent))
}

/// `time_point()`: nanoseconds since some moment before the first call.
pub(super) fn time_point(call: &mut Call<'_>) -> Result<()> {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed().as_nanos();
    call.ret_int(i64::try_from(elapsed).unwrap_or(i64::MAX))
}

/// `hash(item)`: of integers themselves, of floats and text what the C++ library of GCC computes.
pub(super) fn hash(call: &mut Call<'_>) -> Result<()> {
    let hash = match call.item(0)? {
        Item::None => 0,
        Item::Bool(x) => u64::from(x),
        Item::Int(x) => x as u64,
        // 0 and -0 are equal, so their hashes are.
        Item::Float(0.0) => 0,
        Item::Float(x) => murmur(&x.to_ne_bytes()),
        Item::Object(object) => match object.body() {
            Body::Str(bytes) => murmur(bytes),
            _ => return raise("RuntimeError", "Can't hash this value"),
        },
        Item::Complex(..) => return raise("RuntimeError", "Can't hash complex numbers"),
    };
    call.ret_int(hash as i64)
}

/// The 64-bit Murmur hash, version 2, with GCC's seed. Source: A. Appleby (public domain).
fn murmur(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    const SEED: u64 = 0xc70f_6907;
    let mix = |x: u64| x ^ (x >> 47);
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = (hash ^ mix(word.wrapping_mul(FACTOR)).wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = (hash ^ word).wrapping_mul(FACTOR);
    }
    mix(mix(hash).wrapping_mul(FACTOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_hash_as_in_pytorch() {
        assert_eq!(murmur(&20.0_f64.to_ne_bytes()) as i64, -1_756_865_576_808_486_527);
        assert_eq!(murmur(&22.443_f64.to_ne_bytes()) as i64, -7_539_466_320_051_675_080);
    }

    #[test]
    fn floats_print_as_in_c() {
        assert_eq!(printf('e', 1.0), "1.000000e+00");
        assert_eq!(printf('e', -1.5e-7), "-1.500000e-07");
        assert_eq!(printf('f', 2.5), "2.500000");
    }
}
