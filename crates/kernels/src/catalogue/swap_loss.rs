//! The swap loss of Gradient-based Ranking Optimization (Zhang, Yin, Chen and Long, WSDM 2024, arXiv 2310.16335): the target
//! learns to score each answer below the item that, put in its place, would hurt the student most.
//!
//! ```text
//! L_swap = 1 / (rows * k) * sum over rows and places j of [r_j != 0] * max(0, s[a_j] - s[r_j] + margin)
//! ```
//!
//! where `s` are the target's scores in the row, `a_j` is the answer at place `j` of its list, and `r_j` the replacement wanted
//! there, 0 for none.

use candle_core::{DType, Result, Tensor, bail};

use super::{
    Catalogue,
    picked_scores::{self, PickedScores},
};

/// Plain twin: the equation, in candle's operations.
fn plain(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    replacements: &Tensor,
    margin: f64,
) -> Result<Tensor> {
    let gap = (picked_scores::plain(catalogue, states, answers)?
        - picked_scores::plain(catalogue, states, replacements)?)?;
    let gap = (gap + margin)?;
    let active = gap.detach().gt(0f32)?.mul(&replacements.ne(0u32)?)?.to_dtype(DType::F32)?;
    (gap * active)?.sum_all()? / answers.elem_count() as f64
}

/// Fused: the scores of answers and replacements at once, then one pass over them for value and derivatives.
fn fused(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    replacements: &Tensor,
    margin: f64,
) -> Result<Tensor> {
    let (rows, k) = answers.dims2()?;
    let picked = PickedScores::new(catalogue, &[answers, replacements])?;
    let scores = picked.values(catalogue, states)?;
    let replacements = replacements.flatten_all()?.to_vec1::<u32>()?;
    let terms = (rows * k) as f64;
    let share = (1.0 / terms) as f32;
    let mut coefficients = vec![0.0; rows * 2 * k];
    let mut total = 0.0;
    for ((coefficients, scores), replacements) in
        coefficients.chunks_exact_mut(2 * k).zip(scores.chunks_exact(2 * k)).zip(replacements.chunks_exact(k))
    {
        for j in 0..k {
            let hinge = scores[j] - scores[k + j] + margin as f32;
            if replacements[j] != 0 && hinge > 0.0 {
                total += f64::from(hinge);
                coefficients[j] = share;
                coefficients[k + j] = -share;
            }
        }
    }
    picked.loss(catalogue, states, (total / terms) as f32, coefficients)
}

impl Catalogue {
    /// The swap loss, `mean max(0, s[a_j] - s[r_j] + margin)` over `rows * k` terms; a scalar with gradients.
    ///
    /// `answers` and `replacements` are `(rows, k)` of u32. Replacement 0 is none: its term is 0 and still counts in the mean.
    pub fn swap_loss(
        &self,
        states: &Tensor,
        answers: &Tensor,
        replacements: &Tensor,
        margin: f64,
    ) -> Result<Tensor> {
        let (rows, k) = answers.dims2()?;
        if replacements.dims() != answers.dims() || states.dim(0)? != rows {
            bail!(
                "swap loss: states {:?}, answers {:?} and replacements {:?} do not fit",
                states.dims(),
                answers.dims(),
                replacements.dims()
            );
        }
        if rows == 0 || k == 0 {
            bail!("swap loss: needs at least one row and one answer, found {rows} and {k}");
        }
        if crate::fused(states.device()) {
            fused(self, states, answers, replacements, margin)
        } else {
            plain(self, states, answers, replacements, margin)
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::testing::{assert_gradients, assert_twins, beside, catalogue_of, id_tensor, values, variable};

    #[test]
    fn twins_agree() {
        for (rows, k, items, hidden) in [(1, 1, 3, 4), (130, 10, 50, 24), (130, 10, 900, 24)] {
            let v =
                [variable(1, &[rows, hidden]), variable(2, &[items + 1, hidden]), variable(3, &[items + 1])];
            let (answers, other) = (id_tensor(4, (rows, k), items), id_tensor(5, (rows, k), items));
            for v in [&v[..], &v[..2]] {
                assert_twins(
                    "swap loss",
                    v,
                    2e-5,
                    |v| fused(&catalogue_of(v, items), &v[0], &answers, &other, 0.1),
                    |v| plain(&catalogue_of(v, items), &v[0], &beside(&answers, v), &beside(&other, v), 0.1),
                );
            }
        }
    }

    #[test]
    fn gradients_are_differences() {
        let v = [variable(1, &[6, 5]), variable(2, &[12, 5])];
        let (answers, other) = (id_tensor(4, (6, 4), 12), id_tensor(5, (6, 4), 12));
        assert_gradients("swap loss", &v, 1e-3, 2e-2, |v| {
            fused(&catalogue_of(v, 10), &v[0], &answers, &other, 0.0)
        });
    }

    #[test]
    fn no_replacement_counts_as_zero_in_the_mean() {
        let states = Tensor::new(&[[1f32]], &Device::Cpu).unwrap();
        let weight = Tensor::new(&[[-50f32], [3.0], [1.0]], &Device::Cpu).unwrap();
        let catalogue = Catalogue { weight, bias: None, items: 2 };
        let answers = Tensor::new(&[[1u32, 1]], &Device::Cpu).unwrap();
        let replacements = Tensor::new(&[[0u32, 2]], &Device::Cpu).unwrap();
        for run in [fused, plain] {
            assert_eq!(values(&run(&catalogue, &states, &answers, &replacements, 0.0).unwrap()), [1.0]);
        }
    }
}
