//! What the fused operations are built from: work cut into chunks, arithmetic in vector lanes, and matrix products.

pub(crate) mod bias;
pub(crate) mod chunks;
pub(crate) mod lanes;
pub(crate) mod matrix;
pub(crate) mod panels;

pub(crate) use macro_rules_attribute::apply;

/// Compiles a function for AVX-512, for AVX2 and for any x86-64, and calls the best version that the CPU can run:
/// `#[apply(vectorized!)]` before the function. The one list of instruction sets of this crate.
///
/// [`lanes`] says what such a function may look like.
macro_rules! vectorized {
    ($($function:tt)*) => {
        #[multiversion::multiversion(targets(
            "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
            "x86_64+avx2+fma"
        ))]
        $($function)*
    };
}
pub(crate) use vectorized;
