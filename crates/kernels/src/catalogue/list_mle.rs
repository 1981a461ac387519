//! `listmle` (Xia, Liu, Wang, Zhang and Li, ICML 2008, doi 10.1145/1390156.1390306), with negatives: the likelihood that the list is
//! drawn in its order, item after item, each against those that follow it and the negatives.

use candle_core::{DType, Result, Tensor};

use super::{Catalogue, list_loss};
use crate::cpu::{apply, lanes, vectorized};

impl Catalogue {
    /// The mean over rows and places of `-(s[a_i] - log(sum_{j >= i} exp s[a_j] + sum_u exp s[u]))`, for `answers` `(rows, k)`, best
    /// first, and `negatives` `(rows, c)`, columns of u32; a scalar with gradients.
    pub fn list_mle(&self, states: &Tensor, answers: &Tensor, negatives: &Tensor) -> Result<Tensor> {
        list_loss::check("listmle", states, answers, negatives)?;
        if crate::fused(states.device()) {
            fused(self, states, answers, negatives)
        } else {
            plain(self, states, answers, negatives)
        }
    }
}

/// The loss of one row; scores become derivatives.
#[apply(vectorized!)]
fn of_row(scores: &mut [f32], k: usize) -> f32 {
    let most = lanes::max(scores);
    let mut listed = 0.0f64;
    for &score in &scores[..k] {
        listed += f64::from(score - most);
    }
    for score in scores.iter_mut() {
        *score = lanes::exp(*score - most);
    }
    let (list, others) = scores.split_at_mut(k);
    // From the last place up: the sum of what is still to be drawn. Its logarithms are added, its reciprocals kept.
    let mut left = f64::from(lanes::sum(others));
    let mut reciprocals = vec![0.0f64; k];
    let mut logarithms = 0.0;
    for place in (0..k).rev() {
        left += f64::from(list[place]);
        let left = left.max(f64::from(list_loss::LEAST));
        logarithms += left.ln();
        reciprocals[place] = left.recip();
    }
    // From the first down: an item is drawn against in its own place and in all before.
    let share = 1.0 / k as f64;
    let mut before = 0.0;
    for (place, score) in list.iter_mut().enumerate() {
        before += reciprocals[place];
        *score = ((f64::from(*score) * before - 1.0) * share) as f32;
    }
    let scale = (before * share) as f32;
    for score in others.iter_mut() {
        *score *= scale;
    }
    ((logarithms - listed) * share) as f32
}

/// Fused: one pass up and one down a row.
fn fused(catalogue: &Catalogue, states: &Tensor, answers: &Tensor, negatives: &Tensor) -> Result<Tensor> {
    let k = answers.dim(1)?;
    list_loss::fused(catalogue, states, answers, negatives, |row| of_row(row, k))
}

/// Plain twin: the sums of what follows come from a product with a triangle of ones.
fn plain(catalogue: &Catalogue, states: &Tensor, answers: &Tensor, negatives: &Tensor) -> Result<Tensor> {
    let (listed, others) = list_loss::plain(catalogue, states, answers, negatives)?;
    let (rows, k) = listed.dims2()?;
    let from_here_on = Tensor::tril2(k, DType::F32, states.device())?;
    let left = listed.exp()?.matmul(&from_here_on)?.broadcast_add(&others.exp()?.sum_keepdim(1)?)?;
    (left.maximum(list_loss::LEAST)?.log()? - listed)?.sum_all()? / (rows * k) as f64
}

#[cfg(test)]
mod tests {
    use super::super::list_loss::tests::{
        assert_finite_far_apart, assert_gradients_are_differences, assert_twins_agree, by_hand,
    };
    use super::*;

    #[test]
    fn twins_agree() {
        assert_twins_agree("listmle", fused, plain);
    }

    #[test]
    fn gradients_are_differences() {
        assert_gradients_are_differences("listmle", fused);
    }

    #[test]
    fn scores_far_apart_give_numbers() {
        assert_finite_far_apart(fused);
        assert_finite_far_apart(plain);
    }

    /// Scores ln 4, ln 2 of the list and ln 1, ln 3 of the negatives: 4 of 10, then 2 of 6.
    #[test]
    fn a_list_is_drawn_item_after_item() {
        let expected = -((4.0f32 / 10.0).ln() + (2.0f32 / 6.0).ln()) / 2.0;
        // Against 1/10 and 1/6: 4/10 - 1, 2 (1/10 + 1/6) - 1, (1/10 + 1/6) and three times that, halved.
        let gradient = [-0.3, -0.233_333, 0.133_333, 0.4];
        for run in [fused, plain] {
            by_hand(run, [4.0, 2.0, 1.0, 3.0], expected, gradient);
        }
    }
}
