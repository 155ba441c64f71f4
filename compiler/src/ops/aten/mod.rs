//! The `aten::` operators, one file a family. The first sentence of its header is what the README says of it.

pub mod activation;
pub mod arithmetic;
pub mod arrange;
pub mod attention;
pub mod batch_norm;
pub mod compare;
pub mod complex;
pub mod complex_functions;
pub mod compound;
pub mod contraction;
pub mod conv;
pub mod copy;
pub mod create;
pub mod criteria;
pub mod distributions;
pub mod embedding;
pub mod encoder;
pub mod fft;
pub mod gradients;
pub mod index;
pub mod labels;
pub mod linalg;
pub mod loss;
pub mod nonzero;
pub mod norm;
pub mod packed;
pub mod pad;
pub mod part;
pub mod pointwise;
pub mod pool;
pub mod quantized;
pub mod random;
pub mod reduce;
pub mod resize;
pub mod rnn;
pub mod sample;
pub mod scatter;
pub mod sets;
pub mod shape;
pub mod sort;
pub mod special;
pub mod spectral;
pub mod split;
pub mod stft;
pub mod unary;
pub mod view;
pub mod windows;

use super::OpDef;

/// Every family: the file it stands in, and its definitions.
pub const FAMILIES: &[(&str, &[OpDef])] = &[
    ("activation", activation::DEFS),
    ("arithmetic", arithmetic::DEFS),
    ("arrange", arrange::DEFS),
    ("attention", attention::DEFS),
    ("batch_norm", batch_norm::DEFS),
    ("compare", compare::DEFS),
    ("complex", complex::DEFS),
    ("compound", compound::DEFS),
    ("contraction", contraction::DEFS),
    ("conv", conv::DEFS),
    ("copy", copy::DEFS),
    ("create", create::DEFS),
    ("criteria", criteria::DEFS),
    ("distributions", distributions::DEFS),
    ("embedding", embedding::DEFS),
    ("encoder", encoder::DEFS),
    ("fft", fft::DEFS),
    ("gradients", gradients::DEFS),
    ("index", index::DEFS),
    ("labels", labels::DEFS),
    ("linalg", linalg::DEFS),
    ("loss", loss::DEFS),
    ("nonzero", nonzero::DEFS),
    ("norm", norm::DEFS),
    ("packed", packed::DEFS),
    ("pad", pad::DEFS),
    ("part", part::DEFS),
    ("pointwise", pointwise::DEFS),
    ("pool", pool::DEFS),
    ("quantized", quantized::DEFS),
    ("random", random::DEFS),
    ("reduce", reduce::DEFS),
    ("resize", resize::DEFS),
    ("rnn", rnn::DEFS),
    ("sample", sample::DEFS),
    ("scatter", scatter::DEFS),
    ("sets", sets::DEFS),
    ("shape", shape::DEFS),
    ("sort", sort::DEFS),
    ("special", special::DEFS),
    ("spectral", spectral::DEFS),
    ("split", split::DEFS),
    ("stft", stft::DEFS),
    ("unary", unary::DEFS),
    ("unary", unary::FLOAT_DEFS),
    ("view", view::DEFS),
    ("windows", windows::DEFS),
];
