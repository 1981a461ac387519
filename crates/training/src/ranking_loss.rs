//! The ranking loss with which a surrogate imitates answered lists (docs/mathematics.md, section 7.2; Yue et al., RecSys 2021):
//! neighbours of the list in order, and each place above a random item that was not answered. It is what GRO's student learns by,
//! and the `hinge` of the attacker's [`list_losses`](crate::list_losses).

use candle_core::Tensor;
use kernels::{Catalogue, Margins, RankingLoss};
use models::Result;
use rand::Rng;

use crate::negatives;

/// The loss of a model whose `states` `(rows, hidden)` meet lists `answers` `(rows, k)`, best first, with fresh
/// negatives; `gradient` of the result is the gradient at each answered place.
pub fn ranking_loss(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    margins: Margins,
    stream: &mut impl Rng,
) -> Result<RankingLoss> {
    let negatives = negatives::uniform(answers, answers.dim(1)?, catalogue.items, stream)?;
    Ok(catalogue.ranking_loss(states, answers, &negatives, margins)?)
}
