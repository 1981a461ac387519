//! The pairwise ranking loss with which a surrogate imitates a target's ordered lists (Yue et al. 2021, arXiv 2109.01165).
//!
//! GRO needs from it, beside the gradients of weights, its derivative with respect to the score of each answer:
//! [`RankingLoss::gradient`], whose signs decide which item replaces which (Zhang et al. 2024, arXiv 2310.16335). A derivative whose
//! parts cancel must therefore be exactly zero: its parts are the same constants with opposite signs, and are added as such.

use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;

use super::{
    Catalogue,
    picked_scores::{self, PickedScores},
};

/// Margins of the two hinges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margins {
    /// By how much each answer must score above the next.
    pub rank: f64,
    /// By how much each answer must score above its negative.
    pub negative: f64,
}

/// The loss, and its derivative with respect to the score of each answer.
#[derive(Clone, Debug)]
pub struct RankingLoss {
    /// Scalar, with gradients of states, weight and bias.
    pub loss: Tensor,
    /// `(rows, k)`: derivative of the loss with respect to the score of each answer, without gradient.
    pub gradient: Tensor,
}

impl Catalogue {
    /// The ranking loss of `answers` (best first) against `negatives`, both `(rows, k)` of u32, columns:
    /// `mean max(0, s[a_(i+1)] - s[a_i] + rank) + mean max(0, s[u_j] - s[a_j] + negative)`, over `rows * (k - 1)` and
    /// `rows * k` terms.
    pub fn ranking_loss(
        &self,
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
        if crate::fused(states.device()) {
            fused(self, states, answers, negatives, margins)
        } else {
            plain(self, states, answers, negatives, margins)
        }
    }
}

/// Fused: the scores of all answers and negatives at once, then one pass over them for value, derivatives and gradient.
fn fused(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    negatives: &Tensor,
    margins: Margins,
) -> Result<RankingLoss> {
    let (rows, k) = answers.dims2()?;
    let picked = PickedScores::new(catalogue, &[answers, negatives])?;
    let scores = picked.values(catalogue, states)?;
    let (pairs, terms) = ((rows * (k - 1)) as f64, (rows * k) as f64);
    let (rank_share, against_share) = ((1.0 / pairs) as f32, (1.0 / terms) as f32);
    let (rank_margin, against_margin) = (margins.rank as f32, margins.negative as f32);
    let mut coefficients = vec![0.0; rows * 2 * k];
    let sums: Vec<(f64, f64)> = coefficients
        .par_chunks_mut(2 * k)
        .zip(scores.par_chunks(2 * k))
        .with_min_len(32)
        .map(|(coefficients, scores)| {
            let (positive, negative) = scores.split_at(k);
            let (gradient, negative_gradient) = coefficients.split_at_mut(k);
            let (mut rank, mut against) = (0.0, 0.0);
            // The parts of an answer's derivative are added in the plain twin's order: as lower of a pair, as upper, against
            // its negative.
            for j in 0..k - 1 {
                let hinge = positive[j + 1] - positive[j] + rank_margin;
                if hinge > 0.0 {
                    rank += f64::from(hinge);
                    gradient[j] -= rank_share;
                    gradient[j + 1] += rank_share;
                }
            }
            for j in 0..k {
                let hinge = negative[j] - positive[j] + against_margin;
                if hinge > 0.0 {
                    against += f64::from(hinge);
                    gradient[j] -= against_share;
                    negative_gradient[j] = against_share;
                }
            }
            (rank, against)
        })
        .collect();
    let (rank, against) = sums.iter().fold((0.0, 0.0), |total, row| (total.0 + row.0, total.1 + row.1));
    let value = (rank / pairs + against / terms) as f32;
    let gradient: Vec<f32> =
        coefficients.chunks_exact(2 * k).flat_map(|row| row[..k].iter().copied()).collect();
    let gradient = Tensor::from_vec(gradient, (rows, k), states.device())?;
    Ok(RankingLoss { loss: picked.loss(catalogue, states, value, coefficients)?, gradient })
}

/// Plain twin: scores of the chosen columns, hinges by hand.
fn plain(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    negatives: &Tensor,
    margins: Margins,
) -> Result<RankingLoss> {
    let (rows, k) = answers.dims2()?;
    let positive = picked_scores::plain(catalogue, states, answers)?;
    let negative = picked_scores::plain(catalogue, states, negatives)?;
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
    let gradient = ((as_lower - as_upper)? - against_share)?;
    Ok(RankingLoss { loss, gradient })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::testing::{
        assert_close, assert_gradients, assert_twins, beside, catalogue_of, id_tensor, values, variable,
    };

    const MARGINS: Margins = Margins { rank: 0.5, negative: 0.5 };

    #[test]
    fn twins_agree() {
        // A small catalogue goes by whole blocks of scores, a large one by inner products; 1100 rows are several groups.
        for (rows, k, items, hidden) in
            [(1, 2, 3, 4), (130, 10, 50, 24), (130, 10, 900, 24), (1100, 4, 30, 8)]
        {
            let v =
                [variable(1, &[rows, hidden]), variable(2, &[items + 2, hidden]), variable(3, &[items + 2])];
            let (answers, negatives) =
                (id_tensor(4, (rows, k), items + 2), id_tensor(5, (rows, k), items + 2));
            for v in [&v[..], &v[..2]] {
                assert_twins(
                    "ranking loss",
                    v,
                    2e-5,
                    |v| fused(&catalogue_of(v, items), &v[0], &answers, &negatives, MARGINS)?.loss * 3.0,
                    |v| {
                        let (answers, negatives) = (beside(&answers, v), beside(&negatives, v));
                        plain(&catalogue_of(v, items), &v[0], &answers, &negatives, MARGINS)?.loss * 3.0
                    },
                );
                let gradient =
                    fused(&catalogue_of(v, items), &v[0], &answers, &negatives, MARGINS).unwrap().gradient;
                let expected =
                    plain(&catalogue_of(v, items), &v[0], &answers, &negatives, MARGINS).unwrap().gradient;
                let (gradient, expected) = (values(&gradient), values(&expected));
                assert_close("gradient", &gradient, &expected, 1e-5);
                assert_eq!(
                    gradient.iter().filter(|&&g| g == 0.0).count(),
                    expected.iter().filter(|&&g| g == 0.0).count()
                );
            }
        }
    }

    #[test]
    fn gradients_are_differences() {
        let v = [variable(1, &[6, 5]), variable(2, &[12, 5]), variable(3, &[12])];
        let (answers, negatives) = (id_tensor(4, (6, 4), 12), id_tensor(5, (6, 4), 12));
        assert_gradients("ranking loss", &v, 1e-3, 2e-2, |v| {
            Ok(fused(&catalogue_of(v, 10), &v[0], &answers, &negatives, MARGINS)?.loss)
        });
    }

    #[test]
    fn gradients_that_cancel_are_exactly_zero() {
        // Scores 3, 3, 3 with far negatives: the middle answer is pulled down by one pair and up by the other.
        let states = Tensor::new(&[[1f32]], &Device::Cpu).unwrap();
        let weight = Tensor::new(&[[0f32], [3.0], [3.0], [3.0], [-9.0]], &Device::Cpu).unwrap();
        let catalogue = Catalogue { weight, bias: None, items: 4 };
        let answers = Tensor::new(&[[1u32, 2, 3]], &Device::Cpu).unwrap();
        let negatives = Tensor::new(&[[4u32, 4, 4]], &Device::Cpu).unwrap();
        for run in [fused, plain] {
            let result = run(&catalogue, &states, &answers, &negatives, MARGINS).unwrap();
            assert_eq!(values(&result.gradient), [-0.5, 0.0, 0.5]);
            assert_eq!(values(&result.loss), [0.5]);
        }
    }
}
