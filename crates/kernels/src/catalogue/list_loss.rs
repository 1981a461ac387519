//! Losses of ordered or unordered lists against items outside them: what [`list_mle`](super::list_mle), [`list_softmax`](super::list_softmax)
//! and [`list_set`](super::list_set) have in common. Each is a function of one row of scores, those of the list and of its
//! negatives; a loss is the mean over rows.
//!
//! Fused, the scores of all rows come at once ([`PickedScores`]) and one pass over them gives value and derivatives. All exponentials are
//! taken below the row's largest score, and where a sum of them falls below what f32 can hold it counts as [`LEAST`].

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::{Catalogue, picked_scores, picked_scores::PickedScores};

/// The smallest sum of exponentials, relative to the row's largest.
pub(super) const LEAST: f32 = 1e-37;

/// Refuses what does not fit together.
pub(super) fn check(what: &str, states: &Tensor, answers: &Tensor, negatives: &Tensor) -> Result<()> {
    let ((rows, k), (negative_rows, count)) = (answers.dims2()?, negatives.dims2()?);
    if negative_rows != rows || states.dim(0)? != rows {
        bail!(
            "{what}: states {:?}, answers {:?} and negatives {:?} do not fit",
            states.dims(),
            answers.dims(),
            negatives.dims()
        );
    }
    if rows == 0 || k == 0 || count == 0 {
        bail!("{what}: needs at least one row, one answer and one negative, found {rows}, {k} and {count}");
    }
    Ok(())
}

/// Fused: the mean over rows of `of_row`, which gets a row's scores, the list's `k` first, and leaves there the derivatives of the
/// value that it returns.
pub(super) fn fused(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    negatives: &Tensor,
    of_row: impl Fn(&mut [f32]) -> f32 + Sync,
) -> Result<Tensor> {
    let (rows, width) = (answers.dim(0)?, answers.dim(1)? + negatives.dim(1)?);
    let picked = PickedScores::new(catalogue, &[answers, negatives])?;
    let mut coefficients = picked.values(catalogue, states)?;
    let share = 1.0 / rows as f32;
    let losses: Vec<f32> = coefficients
        .par_chunks_mut(width)
        .with_min_len(16)
        .map(|row| {
            let loss = of_row(row);
            for derivative in row {
                *derivative *= share;
            }
            loss
        })
        .collect();
    let value = losses.into_iter().map(f64::from).sum::<f64>() / rows as f64;
    picked.loss(catalogue, states, value as f32, coefficients)
}

/// Plain: the scores of the list `(rows, k)` and of its negatives `(rows, c)`, both less the row's largest, which is `(rows, 1)` and a
/// constant.
pub(super) fn plain(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    negatives: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let listed = picked_scores::plain(catalogue, states, answers)?;
    let others = picked_scores::plain(catalogue, states, negatives)?;
    let most = Tensor::cat(&[listed.max_keepdim(1)?, others.max_keepdim(1)?], 1)?.max_keepdim(1)?.detach();
    Ok((listed.broadcast_sub(&most)?, others.broadcast_sub(&most)?))
}

#[cfg(test)]
pub(super) mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::testing::{
        assert_close, assert_gradients, assert_twins, beside, catalogue_of, id_tensor, values, variable,
    };

    pub(in super::super) fn assert_twins_agree(
        name: &str,
        fused: impl Fn(&Catalogue, &Tensor, &Tensor, &Tensor) -> Result<Tensor> + Sync,
        plain: impl Fn(&Catalogue, &Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) {
        // A small catalogue goes by whole blocks of scores, a large one by inner products; 1100 rows are several groups.
        for (rows, k, count, items, hidden) in
            [(1, 1, 1, 3, 4), (130, 10, 7, 50, 24), (130, 10, 20, 900, 24), (1100, 4, 4, 30, 8)]
        {
            let v =
                [variable(1, &[rows, hidden]), variable(2, &[items + 2, hidden]), variable(3, &[items + 2])];
            let (answers, negatives) =
                (id_tensor(4, (rows, k), items + 2), id_tensor(5, (rows, count), items + 2));
            for v in [&v[..], &v[..2]] {
                assert_twins(
                    name,
                    v,
                    2e-5,
                    |v| fused(&catalogue_of(v, items), &v[0], &answers, &negatives)? * 3.0,
                    |v| {
                        plain(&catalogue_of(v, items), &v[0], &beside(&answers, v), &beside(&negatives, v))?
                            * 3.0
                    },
                );
            }
        }
    }

    pub(in super::super) fn assert_gradients_are_differences(
        name: &str,
        fused: impl Fn(&Catalogue, &Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) {
        let v = [variable(1, &[6, 5]), variable(2, &[12, 5]), variable(3, &[12])];
        let (answers, negatives) = (id_tensor(4, (6, 4), 12), id_tensor(5, (6, 3), 12));
        assert_gradients(name, &v, 1e-2, 2e-2, |v| fused(&catalogue_of(v, 10), &v[0], &answers, &negatives));
    }

    /// Items 1 and 2 are the list, 3 and 4 its negatives; a score is the logarithm of what is given, and the gradient is that of
    /// the bias, whose share is the score's.
    #[track_caller]
    pub(in super::super) fn by_hand(
        run: impl Fn(&Catalogue, &Tensor, &Tensor, &Tensor) -> Result<Tensor>,
        scores: [f32; 4],
        expected: f32,
        gradient: [f32; 4],
    ) {
        let bias: Vec<f32> = [1.0].into_iter().chain(scores).map(f32::ln).collect();
        let bias = Var::from_vec(bias, 5, &Device::Cpu).unwrap();
        let weight = Tensor::zeros((5, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let catalogue = Catalogue { weight, bias: Some(bias.as_tensor().clone()), items: 4 };
        let states = Tensor::new(&[[1f32]], &Device::Cpu).unwrap();
        let (answers, negatives) = (
            Tensor::new(&[[1u32, 2]], &Device::Cpu).unwrap(),
            Tensor::new(&[[3u32, 4]], &Device::Cpu).unwrap(),
        );
        let loss = run(&catalogue, &states, &answers, &negatives).unwrap();
        assert_close("loss", &values(&loss), &[expected], 1e-6);
        let gradients = loss.backward().unwrap();
        assert_close("gradient", &values(gradients.get(&bias).unwrap())[1..], &gradient, 1e-5);
    }

    /// Where one score is far above all others, their exponentials vanish beside it.
    #[track_caller]
    pub(in super::super) fn assert_finite_far_apart(
        run: impl Fn(&Catalogue, &Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) {
        let states = Var::from_vec(vec![1f32], (1, 1), &Device::Cpu).unwrap();
        for far in [-300f32, 300.0] {
            let weight = Var::from_vec(vec![0f32, far, 1.0, 2.0, -1.0], (5, 1), &Device::Cpu).unwrap();
            let catalogue = Catalogue { weight: weight.as_tensor().clone(), bias: None, items: 4 };
            let (answers, negatives) = (
                Tensor::new(&[[1u32, 2]], &Device::Cpu).unwrap(),
                Tensor::new(&[[3u32, 4]], &Device::Cpu).unwrap(),
            );
            let loss = run(&catalogue, &states, &answers, &negatives).unwrap();
            let gradients = loss.backward().unwrap();
            let found = [values(&loss), values(gradients.get(&weight).unwrap())].concat();
            assert!(found.iter().all(|value| value.is_finite()), "{far}: {found:?}");
        }
    }
}
