//! The matrix arithmetic that a work cannot avoid, counted from its shapes: multiplications and additions of matrix products,
//! in GFLOP. Over the speed of the machine's matrix products ([`peak`]) it gives the floor of the work's time. What is computed
//! twice, softmax, norms, dropout, the optimizer and memory are not in it.

use anyhow::Result;
use candle_core::{DType, Tensor};

use crate::{Iteration, TOP_K, Work, models};

/// Width of a state, H.
const HIDDEN: f64 = 64.0;

/// A product, and the two of its way back.
pub const THERE_AND_BACK: f64 = 3.0;

/// Columns and rows of the product, by the models' own operation, that gives the machine's speed.
const SIDE: usize = 2048;

/// A row of `length` tokens of which `picked` are asked, once through the two blocks of a transformer. Where each token sees
/// only those before it, half of the attention is not needed.
pub fn transformer(length: f64, picked: f64, bert: bool) -> f64 {
    let block = |queries: f64| {
        let maps = 4.0 * length + 2.0 * queries + if bert { 2.0 * queries } else { 0.0 } + 16.0 * queries;
        let attention = 4.0 * length * queries * if bert { 1.0 } else { 0.5 };
        maps * HIDDEN * HIDDEN + attention * HIDDEN
    };
    let head = if bert { 2.0 * picked * HIDDEN * HIDDEN } else { 0.0 };
    (block(length) + block(picked) + head) / 1e9
}

/// A row of `length` tokens once through NARM, all prefixes asked: two maps into the gates, two into the attention, the
/// attention over what came before, and the map to the states.
pub fn narm(length: f64) -> f64 {
    let maps = (12.0 + 24.0 + 16.0 + 8.0) * length * HIDDEN * HIDDEN;
    let attention = length * length / 2.0 * 8.0 * HIDDEN;
    (maps + attention) / 1e9
}

/// Scores of `items` items for `states` states, once.
pub fn scores(states: f64, items: usize) -> f64 {
    2.0 * states * HIDDEN * items as f64 / 1e9
}

/// Scores of the items of lists and of as many negatives, there and back, for `states` states.
pub fn lists(states: f64) -> f64 {
    THERE_AND_BACK * scores(states, 2 * TOP_K)
}

/// The speed of matrix products on this machine, which gives the floors of all other works.
pub fn peak() -> Work {
    let name = "matrix product f32";
    Work::new("machine", name, format!("{SIDE} x {SIDE} x {SIDE}"), products)
        .arithmetic(2.0 * (SIDE as f64).powi(3) / 1e9)
}

fn products() -> Result<Iteration> {
    let device = models::device()?;
    let a = Tensor::ones((SIDE, SIDE), DType::F32, &device)?.affine(0.5, 0.1)?;
    Ok(Box::new(move || {
        let product = kernels::linear(&a, &a, None)?;
        // A GPU may still be at work; to have a number is to wait for it.
        product.narrow(0, 0, 1)?.sum_all()?.to_scalar::<f32>()?;
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_costs_what_its_products_cost() {
        // By hand, one block of which every token is asked: 3 maps into attention, 1 out of it, 2 of 4 times the width, and
        // two products of (length, length) with the states.
        let (length, hidden) = (200.0, HIDDEN);
        let block = 2.0 * length * hidden * hidden * (4.0 + 8.0) + 2.0 * 2.0 * length * length * hidden;
        let head = 2.0 * length * hidden * hidden;
        assert!((transformer(length, length, true) - (2.0 * block + head) / 1e9).abs() < 1e-12);
        assert!(transformer(length, 1.0, true) < 0.6 * transformer(length, length, true));
    }
}
