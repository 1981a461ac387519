//! The matrix arithmetic that a work cannot avoid, counted from its shapes: multiplications and additions of matrix products,
//! in GFLOP. Over the speed of the machine's matrix products ([`peak`]) it gives the floor of the work's time. What is computed
//! twice, softmax, norms, dropout, the optimizer and memory are not in it.

use anyhow::Result;
use candle_core::{DType, Tensor};
use models::Architecture;

use crate::{ITEMS, Iteration, TOP_K, Work, learners};

/// Width of a state, H.
const HIDDEN: f64 = 64.0;

/// A product, and the two of its backward.
pub const FORWARD_AND_BACKWARD: f64 = 3.0;

/// Columns and rows of the product, by the models' own operation, that gives the machine's speed.
const SIDE: usize = 2048;

/// A row of `length` tokens, of which `picked` states are wanted, once through the network, without scores.
pub fn encoder(architecture: Architecture, length: f64, picked: f64) -> f64 {
    let sizes = learners::sizes(length as usize, ITEMS);
    (architecture.operations)(&sizes, length, picked) / 1e9
}

/// Scores of `items` items for `states` states, once.
pub fn scores(states: f64, items: usize) -> f64 {
    2.0 * states * HIDDEN * items as f64 / 1e9
}

/// Scores of the items of lists and of as many negatives, forward and backward, for `states` states.
pub fn lists(states: f64) -> f64 {
    FORWARD_AND_BACKWARD * scores(states, 2 * TOP_K)
}

/// The speed of matrix products on this machine, which gives the floors of all other works.
pub fn peak() -> Work {
    let name = "matrix product f32";
    Work::new("machine", name, format!("{SIDE} x {SIDE} x {SIDE}"), products)
        .arithmetic(2.0 * (SIDE as f64).powi(3) / 1e9)
}

fn products() -> Result<Iteration> {
    let device = learners::device()?;
    let a = Tensor::ones((SIDE, SIDE), DType::F32, &device)?.affine(0.5, 0.1)?;
    Ok(Box::new(move || {
        let product = kernels::linear(&a, &a, None)?;
        // A GPU may still be at work; to have a number is to wait for it.
        product.narrow(0, 0, 1)?.sum_all()?.to_scalar::<f32>()?;
        Ok(())
    }))
}
