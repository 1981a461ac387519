//! The ranking loss with which a surrogate imitates answered lists (docs/mathematics.md, section 7.2; Yue et al., RecSys 2021):
//! neighbours of the list in order, and each place above a random item that was not answered. The attacker's
//! distillation and GRO's student share it; this file draws its negatives.

use candle_core::Tensor;
use kernels::{Catalogue, Margins, RankingLoss};
use models::{Error, Result};
use rand::Rng;
use streams::below;

/// Draws one negative for each answered place, uniform over the items outside the row's list: u32 ids of the
/// shape of `answers`, `(rows, k)`.
///
/// # Errors
/// [`Error::Request`] when the lists hold the whole catalogue and nothing is left to draw.
pub fn draw_negatives(answers: &Tensor, items: usize, stream: &mut impl Rng) -> Result<Tensor> {
    let (rows, k) = answers.dims2()?;
    if k >= items {
        return Err(Error::Request(format!(
            "lists of {k} leave nothing of {items} items to contrast them with; lower top_k below {items}"
        )));
    }
    let bound = (items - k) as u32;
    let draws: Vec<u32> = (0..rows * k).map(|_| below(stream, bound)).collect();
    let draws = Tensor::from_vec(draws, (rows, k), answers.device())?;
    Ok(kernels::outside(answers, &draws, items)?)
}

/// The loss of a model whose `states` `(rows, hidden)` meet lists `answers` `(rows, k)`, best first, with fresh
/// negatives; `gradient` of the result is the gradient at each answered place.
pub fn ranking_loss(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    margins: Margins,
    stream: &mut impl Rng,
) -> Result<RankingLoss> {
    let negatives = draw_negatives(answers, catalogue.items, stream)?;
    Ok(catalogue.ranking_loss(states, answers, &negatives, margins)?)
}
