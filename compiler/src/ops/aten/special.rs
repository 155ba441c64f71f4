//! Special functions that routines compute: Bessel functions, incomplete gamma functions, orthogonal polynomials.

use super::pointwise::operands;
use crate::diag::Result;
use crate::loops::{Arg, Dim, Operand};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::promote::{as_tensor, float_type, result_type};
use crate::ops::value::{Tensor, Value};
use crate::ops::views;
use crate::types::DType;

/// Definitions by what the routine calls the function: of one argument, or of two.
macro_rules! specials {
    ($($name:literal => $how:ident $function:literal,)*) => {
        &[$(OpDef { name: concat!("aten::", $name), lower: |b, a| $how(b, a, $function) },)*
        OpDef { name: "aten::polygamma", lower: polygamma },
        OpDef { name: "aten::polygamma_", lower: polygamma_in_place },
        OpDef { name: "aten::special_polygamma", lower: polygamma },
        OpDef { name: "aten::gcd", lower: |b, a| integers(b, a, "gcd") },
        OpDef { name: "aten::lcm", lower: |b, a| integers(b, a, "lcm") },
        OpDef { name: "aten::frexp.Tensor", lower: frexp },
        OpDef { name: "aten::nextafter", lower: next_after },]
    };
}

/// The definitions of this family.
pub const DEFS: &[OpDef] = specials! {
    "i0" => of_one "i0",
    "special_i0" => of_one "i0",
    "special_i0e" => of_one "i0e",
    "special_i1" => of_one "i1",
    "special_i1e" => of_one "i1e",
    "special_bessel_j0" => of_one "j0",
    "special_bessel_j1" => of_one "j1",
    "special_bessel_y0" => of_one "y0",
    "special_bessel_y1" => of_one "y1",
    "special_modified_bessel_i0" => of_one "i0",
    "special_modified_bessel_i1" => of_one "i1",
    "special_modified_bessel_k0" => of_one "k0",
    "special_modified_bessel_k1" => of_one "k1",
    "special_scaled_modified_bessel_k0" => of_one "k0e",
    "special_scaled_modified_bessel_k1" => of_one "k1e",
    "special_spherical_bessel_j0" => of_one "spherical_j0",
    "special_erfcx" => of_one "erfcx",
    "special_ndtri" => of_one "ndtri",
    "special_log_ndtr" => of_one "log_ndtr",
    "special_zeta" => of_two "zeta",
    "igamma" => of_two "igamma",
    "special_gammainc" => of_two "igamma",
    "igammac" => of_two "igammac",
    "special_gammaincc" => of_two "igammac",
    "special_chebyshev_polynomial_t" => of_two "chebyshev_t",
    "special_chebyshev_polynomial_u" => of_two "chebyshev_u",
    "special_chebyshev_polynomial_v" => of_two "chebyshev_v",
    "special_chebyshev_polynomial_w" => of_two "chebyshev_w",
    "special_shifted_chebyshev_polynomial_t" => of_two "shifted_chebyshev_t",
    "special_shifted_chebyshev_polynomial_u" => of_two "shifted_chebyshev_u",
    "special_shifted_chebyshev_polynomial_v" => of_two "shifted_chebyshev_v",
    "special_shifted_chebyshev_polynomial_w" => of_two "shifted_chebyshev_w",
    "special_hermite_polynomial_h" => of_two "hermite_h",
    "special_hermite_polynomial_he" => of_two "hermite_he",
    "special_laguerre_polynomial_l" => of_two "laguerre_l",
    "special_legendre_polynomial_p" => of_two "legendre_p",
};

/// Two tensors in this type with the extents that they broadcast to, row-major.
fn row_major(b: &mut Builder<'_>, x: &Tensor, y: &Tensor, dtype: DType) -> Result<([Arg; 2], Vec<Dim>)> {
    let dims = views::broadcast(b, &[&x.dims, &y.dims])?;
    let mut of = |t: &Tensor| {
        let t = views::expand_to(b, t, &dims)?;
        let t = super::copy::cast(b, &t, dtype);
        Ok::<_, Box<crate::diag::Diagnostic>>(Arg::Buffer(b.row_major(&t)))
    };
    Ok(([of(x)?, of(y)?], dims))
}

/// A function of two tensors, in double precision.
fn computed(b: &mut Builder<'_>, x: &Tensor, y: &Tensor, dtype: DType, name: &str) -> Result<Value> {
    let ([x, y], dims) = row_major(b, x, y, DType::F64)?;
    let out = b.new_buffer(DType::F64, &dims);
    b.call("special", vec![Arg::Scalar(Operand::Str(name.into())), x, y, Arg::Buffer(out)], &[]);
    let result = b.tensor_of(out);
    Ok(Value::Tensor(super::copy::cast(b, &result, dtype)))
}

fn of_one(b: &mut Builder<'_>, args: &Args<'_>, name: &str) -> Result<Value> {
    let x = args.tensor(0)?;
    crate::ops::promote::expect_real(b, x.dtype)?;
    computed(b, &x, &x, float_type(x.dtype), name)
}

fn of_two(b: &mut Builder<'_>, args: &Args<'_>, name: &str) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    let dtype = float_type(result_type(&[&x, &y]));
    crate::ops::promote::expect_real(b, dtype)?;
    computed(b, &x, &y, dtype, name)
}

fn polygamma_of(b: &mut Builder<'_>, n: &Value, x: &Tensor) -> Result<Value> {
    if let Value::Int(Operand::Const(n)) = n
        && n.as_i64() < 0
    {
        return Err(b.user("polygamma(n, x) does not support negative n."));
    }
    let order = as_tensor(b, n)?;
    let order = if x.rank() == 0 { order } else { views::expand_to(b, &order, &x.dims)? };
    computed(b, &order, x, float_type(x.dtype), "polygamma")
}

fn polygamma(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    polygamma_of(b, args.value(0)?, &args.tensor(1)?)
}

/// `polygamma_(self, n)`, whose arguments stand the other way round.
fn polygamma_in_place(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let Value::Tensor(result) = polygamma_of(b, args.value(1)?, &x)? else {
        return Err(b.unsupported("this form of polygamma_"));
    };
    crate::ops::write_result(b, &x, &result)?;
    Ok(Value::Tensor(x))
}

fn integers(b: &mut Builder<'_>, args: &Args<'_>, name: &str) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    let dtype = result_type(&[&x, &y]);
    if !dtype.is_integer() {
        return Err(b.user(format!("\"{name}_cpu\" not implemented for '{}'", dtype.graph_name())));
    }
    let ([x, y], dims) = row_major(b, &x, &y, DType::I64)?;
    let out = b.new_buffer(DType::I64, &dims);
    b.call("integers", vec![Arg::Scalar(Operand::Str(name.into())), x, y, Arg::Buffer(out)], &[]);
    let result = b.tensor_of(out);
    Ok(Value::Tensor(super::copy::cast(b, &result, dtype)))
}

fn frexp(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if !x.dtype.is_floating_point() {
        return Err(b.user("torch.frexp() only supports floating-point dtypes"));
    }
    let wide = super::copy::cast(b, &x, DType::F64);
    let from = b.row_major(&wide);
    let (mantissas, exponents) = (b.new_buffer(DType::F64, &x.dims), b.new_buffer(DType::I32, &x.dims));
    b.call("frexp_each", vec![Arg::Buffer(from), Arg::Buffer(mantissas), Arg::Buffer(exponents)], &[]);
    let mantissas = b.tensor_of(mantissas);
    let mantissas = super::copy::cast(b, &mantissas, x.dtype);
    Ok(Value::Tuple(vec![Value::Tensor(mantissas), Value::Tensor(b.tensor_of(exponents))], None))
}

fn next_after(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    let dtype = result_type(&[&x, &y]);
    if !matches!(dtype, DType::F32 | DType::F64) {
        return Err(b.unsupported(format!("nextafter of {}", dtype.graph_name())));
    }
    let ([x, y], dims) = row_major(b, &x, &y, dtype)?;
    let out = b.new_buffer(dtype, &dims);
    b.call("next_after", vec![x, y, Arg::Buffer(out)], &[]);
    Ok(Value::Tensor(b.tensor_of(out)))
}
