//! GRO's swap loss: the target learns to score each answer below the item the student would rather see in its place
//! (Zhang et al. 2024, arXiv 2310.16335).

use candle_core::{DType, Result, Tensor, bail};

use crate::catalogue::Catalogue;

pub(crate) fn swap_loss(
    catalogue: &Catalogue,
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
    plain(catalogue, states, answers, replacements, margin)
}

/// Plain twin.
pub(crate) fn plain(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    replacements: &Tensor,
    margin: f64,
) -> Result<Tensor> {
    let gap = (catalogue.pick(states, answers)? - catalogue.pick(states, replacements)?)?;
    let gap = (gap + margin)?;
    let active = gap.detach().gt(0f32)?.mul(&replacements.ne(0u32)?)?.to_dtype(DType::F32)?;
    (gap * active)?.sum_all()? / answers.elem_count() as f64
}
