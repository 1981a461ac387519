//! The best items of many states at once, by selection from scores that are never all held.

use anyhow::Result;
use candle_core::Tensor;
use models::bert4rec;

use crate::{Iteration, TOP_K, Work, learners};

/// Lists for `positions` states over a catalogue of `items`.
pub fn work(subject: &'static str, positions: usize, items: usize) -> Work {
    let shape = format!("{positions} positions, hidden 64, {items} items");
    Work::new(subject, "top 100", shape, move || lists(positions, items))
}

fn lists(positions: usize, items: usize) -> Result<Iteration> {
    let model = learners::recommender(bert4rec::ARCHITECTURE, &learners::sizes(1, items))?;
    let states = Tensor::randn(0f32, 1.0, (positions, model.sizes().hidden), &learners::device()?)?;
    Ok(Box::new(move || {
        // Reading one id waits for a GPU.
        model.catalogue().top_k(&states, TOP_K)?.get(0)?.get(0)?.to_scalar::<u32>()?;
        Ok(())
    }))
}
