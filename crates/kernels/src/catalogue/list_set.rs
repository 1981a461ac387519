//! `set`: the list against the rest, its order ignored. Each listed item is held against all negatives and against no other of the list,
//! so that nothing is learned from an order that a defence may have made up.

use candle_core::{Result, Tensor};

use super::{Catalogue, list_loss};
use crate::cpu::{apply, lanes, vectorized};

impl Catalogue {
    /// The mean over rows and places of `-log(exp s[a_i] / (exp s[a_i] + sum_u exp s[u]))`, for `answers` `(rows, k)`, in any order, and
    /// `negatives` `(rows, c)`, columns of u32; a scalar with gradients.
    pub fn list_set(&self, states: &Tensor, answers: &Tensor, negatives: &Tensor) -> Result<Tensor> {
        list_loss::check("set", states, answers, negatives)?;
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
    let rest = f64::from(lanes::sum(others));
    let share = 1.0 / k as f64;
    let (mut logarithms, mut against) = (0.0, 0.0);
    for score in list.iter_mut() {
        let both = (f64::from(*score) + rest).max(f64::from(list_loss::LEAST));
        logarithms += both.ln();
        against += both.recip();
        *score = ((f64::from(*score) / both - 1.0) * share) as f32;
    }
    let scale = (against * share) as f32;
    for score in others.iter_mut() {
        *score *= scale;
    }
    ((logarithms - listed) * share) as f32
}

/// Fused: one pass over a row.
fn fused(catalogue: &Catalogue, states: &Tensor, answers: &Tensor, negatives: &Tensor) -> Result<Tensor> {
    let k = answers.dim(1)?;
    list_loss::fused(catalogue, states, answers, negatives, |row| of_row(row, k))
}

/// Plain twin: the equation, in candle's operations.
fn plain(catalogue: &Catalogue, states: &Tensor, answers: &Tensor, negatives: &Tensor) -> Result<Tensor> {
    let (listed, others) = list_loss::plain(catalogue, states, answers, negatives)?;
    let both = listed.exp()?.broadcast_add(&others.exp()?.sum_keepdim(1)?)?;
    (both.maximum(list_loss::LEAST)?.log()? - &listed)?.sum_all()? / listed.elem_count() as f64
}

#[cfg(test)]
mod tests {
    use super::super::list_loss::tests::{
        assert_finite_far_apart, assert_gradients_are_differences, assert_twins_agree, by_hand,
    };
    use super::*;

    #[test]
    fn twins_agree() {
        assert_twins_agree("set", fused, plain);
    }

    #[test]
    fn gradients_are_differences() {
        assert_gradients_are_differences("set", fused);
    }

    #[test]
    fn scores_far_apart_give_numbers() {
        assert_finite_far_apart(fused);
        assert_finite_far_apart(plain);
    }

    /// Scores ln 4, ln 2 of the list and ln 1, ln 3 of the negatives: 4 of 8 and 2 of 6.
    #[test]
    fn listed_items_do_not_compete() {
        let expected = -(0.5f32.ln() + (1.0f32 / 3.0).ln()) / 2.0;
        // 4/8 - 1, 2/6 - 1, 1/8 + 1/6 and three times that, halved.
        let gradient = [-0.25, -1.0 / 3.0, 0.145_833, 0.4375];
        for run in [fused, plain] {
            by_hand(run, [4.0, 2.0, 1.0, 3.0], expected, gradient);
        }
    }
}
