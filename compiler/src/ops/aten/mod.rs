//! The `aten::` operators, one file a family.

pub mod activation;
pub mod arithmetic;
pub mod arrange;
pub mod attention;
pub mod compare;
pub mod contraction;
pub mod conv;
pub mod copy;
pub mod create;
pub mod distributions;
pub mod embedding;
pub mod encoder;
pub mod index;
pub mod loss;
pub mod nonzero;
pub mod norm;
pub mod pad;
pub mod part;
pub mod pointwise;
pub mod pool;
pub mod random;
pub mod reduce;
pub mod resize;
pub mod rnn;
pub mod sample;
pub mod scatter;
pub mod sets;
pub mod shape;
pub mod sort;
pub mod split;
pub mod unary;
pub mod view;

use super::OpDef;

/// Every family's definitions.
pub const FAMILIES: &[&[OpDef]] = &[
    activation::DEFS,
    arithmetic::DEFS,
    arrange::DEFS,
    attention::DEFS,
    compare::DEFS,
    contraction::DEFS,
    conv::DEFS,
    copy::DEFS,
    create::DEFS,
    distributions::DEFS,
    embedding::DEFS,
    encoder::DEFS,
    index::DEFS,
    loss::DEFS,
    nonzero::DEFS,
    norm::DEFS,
    pad::DEFS,
    part::DEFS,
    pointwise::DEFS,
    pool::DEFS,
    random::DEFS,
    reduce::DEFS,
    resize::DEFS,
    rnn::DEFS,
    sample::DEFS,
    scatter::DEFS,
    sets::DEFS,
    shape::DEFS,
    sort::DEFS,
    split::DEFS,
    unary::DEFS,
    unary::FLOAT_DEFS,
    view::DEFS,
];
