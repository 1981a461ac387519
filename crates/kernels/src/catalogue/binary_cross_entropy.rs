//! SASRec's training loss (Kang & McAuley 2018, arXiv 1808.09781): the binary cross entropy of the next item of each position
//! against one drawn item.

use candle_core::{D, Result, Tensor, bail};
use rayon::prelude::*;

use super::{
    Catalogue,
    picked_scores::{self, PickedScores},
};
use crate::cpu::lanes;

/// Positions of one task.
const POSITIONS: usize = 1024;

impl Catalogue {
    /// Mean binary cross entropy over `2 * positions` terms, `softplus(-score(positive))` and `softplus(score(negative))`;
    /// a scalar with gradients.
    ///
    /// `states` is `(positions, hidden)`, `positives` and `negatives` `(positions)` of u32, columns.
    pub fn binary_cross_entropy(
        &self,
        states: &Tensor,
        positives: &Tensor,
        negatives: &Tensor,
    ) -> Result<Tensor> {
        let (positions, _) = states.dims2()?;
        if positives.dims() != [positions] || negatives.dims() != [positions] {
            bail!(
                "binary cross entropy: states {:?}, positives {:?} and negatives {:?} do not fit",
                states.dims(),
                positives.dims(),
                negatives.dims()
            );
        }
        if positions == 0 {
            bail!("binary cross entropy: needs at least one position");
        }
        if crate::fused(states.device()) {
            fused(self, states, positives, negatives)
        } else {
            plain(self, states, positives, negatives)
        }
    }
}

/// `ln(1 + e^x)`, which neither overflows nor loses what a very negative `x` leaves.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Fused: both scores of every position at once, then one pass over them for value and derivatives.
fn fused(catalogue: &Catalogue, states: &Tensor, positives: &Tensor, negatives: &Tensor) -> Result<Tensor> {
    let picked = PickedScores::new(catalogue, &[&positives.unsqueeze(1)?, &negatives.unsqueeze(1)?])?;
    let scores = picked.values(catalogue, states)?; // (positions, 2): positive, negative
    let terms = scores.len() as f64;
    let share = (1.0 / terms) as f32;
    let mut coefficients = vec![0.0; scores.len()];
    let sums: Vec<f64> = coefficients
        .par_chunks_mut(2 * POSITIONS)
        .zip(scores.par_chunks(2 * POSITIONS))
        .map(|(coefficients, scores)| {
            let mut sum = 0.0;
            for (coefficients, scores) in coefficients.chunks_exact_mut(2).zip(scores.chunks_exact(2)) {
                let (positive, negative) = (scores[0], scores[1]);
                sum += f64::from(softplus(-positive)) + f64::from(softplus(negative));
                coefficients[0] = -share * lanes::sigmoid(-positive);
                coefficients[1] = share * lanes::sigmoid(negative);
            }
            sum
        })
        .collect();
    let value = (sums.iter().sum::<f64>() / terms) as f32;
    picked.loss(catalogue, states, value, coefficients)
}

/// Plain twin.
fn plain(catalogue: &Catalogue, states: &Tensor, positives: &Tensor, negatives: &Tensor) -> Result<Tensor> {
    let positive = picked_scores::plain(catalogue, states, &positives.unsqueeze(1)?)?;
    let negative = picked_scores::plain(catalogue, states, &negatives.unsqueeze(1)?)?;
    let x = Tensor::cat(&[positive.neg()?, negative], 0)?;
    // ln(e^0 + e^x): smooth at 0, where a sum of relu and abs would have a slope of its own.
    Tensor::cat(&[x.zeros_like()?, x], 1)?.log_sum_exp(D::Minus1)?.mean_all()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::testing::{
        assert_close, assert_gradients, assert_twins, beside, catalogue_of, id_tensor, values, variable,
    };

    #[test]
    fn twins_agree() {
        // 20 columns go by whole blocks of scores; 1 position is as little, 2500 are several chunks.
        for (positions, items, hidden) in [(1, 30, 4), (130, 18, 24), (2500, 300, 16)] {
            let v = [
                variable(1, &[positions, hidden]),
                variable(2, &[items + 2, hidden]),
                variable(3, &[items + 2]),
            ];
            let (positives, negatives) =
                (id_tensor(4, positions, items + 2), id_tensor(5, positions, items + 2));
            for v in [&v[..], &v[..2]] {
                assert_twins(
                    "binary cross entropy",
                    v,
                    2e-5,
                    |v| fused(&catalogue_of(v, items), &v[0], &positives, &negatives)? * 100.0,
                    |v| {
                        plain(&catalogue_of(v, items), &v[0], &beside(&positives, v), &beside(&negatives, v))?
                            * 100.0
                    },
                );
            }
        }
    }

    #[test]
    fn gradients_are_differences() {
        let v = [variable(1, &[6, 5]), variable(2, &[12, 5]), variable(3, &[12])];
        let (positives, negatives) = (id_tensor(4, 6, 12), id_tensor(5, 6, 12));
        assert_gradients("binary cross entropy", &v, 1e-2, 5e-3, |v| {
            fused(&catalogue_of(v, 10), &v[0], &positives, &negatives)
        });
    }

    #[test]
    fn it_holds_far_out_and_at_zero() {
        let weight = Var::new(&[[0f32], [1.0], [-1.0]], &Device::Cpu).unwrap();
        let catalogue = Catalogue { weight: weight.as_tensor().clone(), bias: None, items: 2 };
        let positives = Tensor::new(&[1u32], &Device::Cpu).unwrap();
        let negatives = Tensor::new(&[2u32], &Device::Cpu).unwrap();
        // At a state x the scores are x and -x, and both terms are ln(1 + e^-x).
        for (x, loss, slope) in
            [(200f32, 0.0, 0.0), (0.0, std::f32::consts::LN_2, -0.5), (-200.0, 200.0, -1.0)]
        {
            let states = Var::new(&[[x]], &Device::Cpu).unwrap();
            for run in [fused, plain] {
                let y = run(&catalogue, &states, &positives, &negatives).unwrap();
                let slopes = values(y.backward().unwrap().get(&states).unwrap());
                assert_close("loss", &values(&y), &[loss], 1e-6);
                assert_close("slope", &slopes, &[slope], 1e-6);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let v = [variable(1, &[3, 2]), variable(2, &[6, 2])];
        let loss = |positives: Tensor, negatives: Tensor| {
            catalogue_of(&v, 5)
                .binary_cross_entropy(&v[0], &positives, &negatives)
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        assert_eq!(loss(id_tensor(1, 3, 6), id_tensor(2, 3, 6)), Ok(()));
        assert!(loss(id_tensor(1, 2, 6), id_tensor(2, 3, 6)).is_err());
        let outside = Tensor::new(&[1u32, 6, 2], &Device::Cpu).unwrap();
        assert!(loss(id_tensor(1, 3, 6), outside).is_err_and(|message| message.contains("id 6 in row 1")));
    }
}
