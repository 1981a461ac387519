//! The tensor operations the models are made of, each in two versions that agree.
//!
//! candle's own operations leave most of a CPU idle: each runs one pass over memory, and many of them on one thread. So every
//! operation here has a *fused* version (a `CustomOp` with its own backward pass, parallel over rows, in one pass over memory
//! where one suffices) and beside it, in the same file, a *plain* twin in ordinary candle operations, with which the tests compare
//! the fused version. [`set_plain`] makes the whole process use the plain twins.
//!
//! `ops` holds the operations, one file each. `catalogue` holds the [`Catalogue`] and everything that is computed over all
//! items: lists, ranks, extremes, picked scores, negatives and losses. `cpu` is what fused versions are built from.
//!
//! On a GPU the plain twins run, but where time goes into launching many small kernels, on kernels of our own: linear maps, norms,
//! activations, dropout, both kinds of attention, the recurrent unit, AdamW, the gradient of a lookup, cross entropy, extremes and
//! top-k. `cuda` holds their launches and backward passes, `cuda/kernels.cu` the kernels; a test runs their code on the CPU,
//! thread by thread, and compares it with the CPU's. Top-k, extremes, dropout and the gradient of a lookup give the same bytes on
//! both, the others the same but for rounding.
//!
//! Plain twins follow the type of their tokens: activations may be bf16, which only NARM's attention and the recurrent
//! unit turn to f32 for kernels of our own, while weights, norms, softmax and losses stay f32.
//!
//! Conventions. Tensors are `f32` (activations of plain twins may be `bf16`), contiguous, row-major. A batch is *packed*: the
//! concatenation of its rows' real tokens, `(tokens, hidden)`, with [`Rows`] saying where each row lies. Work is cut into chunks
//! whose size depends on shapes only, and partial sums are added in chunk order: results are the same bytes for any number of
//! threads.

#![expect(
    clippy::inline_always,
    reason = "vector code must be inlined into the version for each instruction set"
)]

mod catalogue;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod ops;
mod rows;

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Device;

pub use catalogue::{Catalogue, Margins, Prepared, RankingLoss, outside};
#[cfg(feature = "cuda")]
pub use cuda::cuda_device;
pub use ops::{
    Activation, AdamWStep, Attention, Dropout, Embed, FeedForward, KeyValueCache, QueryTokens, SelfAttention,
    adamw, additive_attention, additive_attention_step, dropout, embedding, gelu, gru, gru_step, linear,
};
pub use rows::Rows;

static PLAIN: AtomicBool = AtomicBool::new(false);

/// Makes every operation of the process use its plain twin (`true`) or, on the CPU, its fused version (`false`, the default).
pub fn set_plain(plain: bool) {
    PLAIN.store(plain, Ordering::Relaxed);
}

/// Whether operations on `device` run fused.
pub fn fused(device: &Device) -> bool {
    device.is_cpu() && !PLAIN.load(Ordering::Relaxed)
}

#[cfg(test)]
#[path = "cuda/emulation.rs"]
mod emulation;
#[cfg(test)]
mod testing;
