//! `softmax`: the cross entropy of the scores of a list and its negatives against weights that fall with the place, as in
//! listwise distillation (Cao, Qin, Liu, Tsai and Li, ICML 2007, doi 10.1145/1273496.1273513, with the target's scores, which a thief
//! does not see, replaced by what the place tells).

use candle_core::{Result, Tensor};

use super::{Catalogue, list_loss};
use crate::cpu::{apply, lanes, vectorized};

impl Catalogue {
    /// The mean over rows of `log(sum_j exp s[a_j] + sum_u exp s[u]) - sum_i w_i s[a_i]`, for `answers` `(rows, k)`, best first, and
    /// `negatives` `(rows, c)`, columns of u32; `w_i` is `i^-fall` over the sum of these. A scalar with gradients.
    pub fn list_softmax(
        &self,
        states: &Tensor,
        answers: &Tensor,
        negatives: &Tensor,
        fall: f64,
    ) -> Result<Tensor> {
        list_loss::check("softmax", states, answers, negatives)?;
        if crate::fused(states.device()) {
            fused(self, states, answers, negatives, fall)
        } else {
            plain(self, states, answers, negatives, fall)
        }
    }
}

/// The weights of `k` places, which sum to 1.
fn weights(k: usize, fall: f64) -> Vec<f32> {
    let weights: Vec<f64> = (1..=k).map(|place| (place as f64).powf(-fall)).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| (weight / sum) as f32).collect()
}

/// The loss of one row; scores become derivatives.
#[apply(vectorized!)]
fn of_row(scores: &mut [f32], weights: &[f32]) -> f32 {
    let most = lanes::max(scores);
    let mut wanted = 0.0;
    for (&score, &weight) in scores.iter().zip(weights) {
        wanted += weight * (score - most);
    }
    for score in scores.iter_mut() {
        *score = lanes::exp(*score - most);
    }
    let total = lanes::sum(scores);
    let scale = 1.0 / total;
    for score in scores.iter_mut() {
        *score *= scale;
    }
    for (score, &weight) in scores.iter_mut().zip(weights) {
        *score -= weight;
    }
    total.ln() - wanted
}

/// Fused: the probabilities of a row, less the weights.
fn fused(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    negatives: &Tensor,
    fall: f64,
) -> Result<Tensor> {
    let weights = weights(answers.dim(1)?, fall);
    list_loss::fused(catalogue, states, answers, negatives, |row| of_row(row, &weights))
}

/// Plain twin: the equation, in candle's operations.
fn plain(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    negatives: &Tensor,
    fall: f64,
) -> Result<Tensor> {
    let (listed, others) = list_loss::plain(catalogue, states, answers, negatives)?;
    let (rows, k) = listed.dims2()?;
    let weights = Tensor::from_vec(weights(k, fall), (1, k), states.device())?;
    let total = (listed.exp()?.sum(1)? + others.exp()?.sum(1)?)?.log()?;
    (total.sum_all()? - listed.broadcast_mul(&weights)?.sum_all()?)? / rows as f64
}

#[cfg(test)]
mod tests {
    use super::super::list_loss::tests::{
        assert_finite_far_apart, assert_gradients_are_differences, assert_twins_agree, by_hand,
    };
    use super::*;

    type Run = fn(&Catalogue, &Tensor, &Tensor, &Tensor) -> Result<Tensor>;
    const FUSED: Run =
        |catalogue, states, answers, negatives| fused(catalogue, states, answers, negatives, 1.0);
    const PLAIN: Run =
        |catalogue, states, answers, negatives| plain(catalogue, states, answers, negatives, 1.0);

    #[test]
    fn twins_agree() {
        assert_twins_agree("softmax", FUSED, PLAIN);
    }

    #[test]
    fn gradients_are_differences() {
        assert_gradients_are_differences("softmax", FUSED);
    }

    #[test]
    fn scores_far_apart_give_numbers() {
        assert_finite_far_apart(FUSED);
        assert_finite_far_apart(PLAIN);
    }

    #[test]
    fn weights_fall_with_the_place() {
        assert_eq!(weights(2, 1.0), [2.0 / 3.0, 1.0 / 3.0]);
        assert_eq!(weights(4, 0.0), [0.25; 4]);
        assert_eq!(weights(2, 2.0), [0.8, 0.2]);
    }

    /// Scores ln 4, ln 2 of the list and ln 1, ln 3 of the negatives, weights 2/3 and 1/3.
    #[test]
    fn probabilities_are_held_against_the_weights() {
        let expected = 10.0f32.ln() - 2.0 / 3.0 * 4.0f32.ln() - 2.0f32.ln() / 3.0;
        let gradient = [0.4 - 2.0 / 3.0, 0.2 - 1.0 / 3.0, 0.1, 0.3];
        for run in [FUSED, PLAIN] {
            by_hand(run, [4.0, 2.0, 1.0, 3.0], expected, gradient);
        }
    }
}
