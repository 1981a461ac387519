//! The pairwise ranking loss with which a surrogate imitates a target's ordered lists (Yue et al. 2021, arXiv 2109.01165).
//!
//! GRO needs from it not only gradients of weights but, for each answer, how the loss pulls at its score:
//! [`RankingLoss::pull`]. Its signs decide which item replaces which (Zhang et al. 2024, arXiv 2310.16335), so a pull
//! whose parts cancel must be exactly zero: the parts are the same constants with opposite signs, added as such.

use candle_core::{DType, Result, Tensor, bail};

use crate::catalogue::Catalogue;

/// Margins of the two hinges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margins {
    /// By how much each answer must score above the next.
    pub rank: f64,
    /// By how much each answer must score above its negative.
    pub negative: f64,
}

/// The loss, and how it pulls at each answer.
#[derive(Clone, Debug)]
pub struct RankingLoss {
    /// Scalar, with gradients of states, weight and bias.
    pub loss: Tensor,
    /// `(rows, k)`: derivative of the loss with respect to the score of each answer, without gradient.
    pub pull: Tensor,
}

pub(crate) fn ranking_loss(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    negatives: &Tensor,
    margins: Margins,
) -> Result<RankingLoss> {
    let (rows, k) = answers.dims2()?;
    if negatives.dims() != answers.dims() || states.dim(0)? != rows {
        bail!(
            "ranking loss: states {:?}, answers {:?} and negatives {:?} do not fit",
            states.dims(),
            answers.dims(),
            negatives.dims()
        );
    }
    if rows == 0 || k < 2 {
        bail!("ranking loss: needs at least one row and two answers, found {rows} and {k}");
    }
    plain(catalogue, states, answers, negatives, margins)
}

/// Plain twin: scores of the chosen columns, hinges by hand.
pub(crate) fn plain(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    negatives: &Tensor,
    margins: Margins,
) -> Result<RankingLoss> {
    let (rows, k) = answers.dims2()?;
    let positive = catalogue.pick(states, answers)?;
    let negative = catalogue.pick(states, negatives)?;
    let upper = positive.narrow(1, 0, k - 1)?;
    let lower = positive.narrow(1, 1, k - 1)?;
    let rank = ((lower - upper)? + margins.rank)?;
    let against = ((negative - positive)? + margins.negative)?;
    let rank_active = rank.detach().gt(0f32)?.to_dtype(DType::F32)?;
    let against_active = against.detach().gt(0f32)?.to_dtype(DType::F32)?;
    let (pairs, terms) = ((rows * (k - 1)) as f64, (rows * k) as f64);
    let loss =
        (((rank * &rank_active)?.sum_all()? / pairs)? + ((against * &against_active)?.sum_all()? / terms)?)?;

    let rank_share = (rank_active * (1.0 / pairs))?;
    let against_share = (against_active * (1.0 / terms))?;
    let edge = Tensor::zeros((rows, 1), DType::F32, states.device())?;
    let as_lower = Tensor::cat(&[&edge, &rank_share], 1)?;
    let as_upper = Tensor::cat(&[&rank_share, &edge], 1)?;
    let pull = ((as_lower - as_upper)? - against_share)?;
    Ok(RankingLoss { loss, pull })
}
