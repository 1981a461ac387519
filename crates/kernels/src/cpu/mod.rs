//! What the fused operations are built from: work cut into chunks, arithmetic in vector lanes, and matrix products.

pub(crate) mod bias;
pub(crate) mod chunks;
pub(crate) mod lanes;
pub(crate) mod matrix;
pub(crate) mod panels;
