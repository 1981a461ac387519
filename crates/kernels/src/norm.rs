//! The normalisation of both transformers, with the residual sum and the dropout before it.
//!
//! Not PyTorch's `LayerNorm`: the models divide by the *sample* standard deviation (divisor `hidden - 1`) and add the
//! epsilon outside the root. Fused, a row is summed, masked and normalised while it is in registers; nothing is kept for the
//! way back but the arguments, from which a row's mean and deviation are computed again.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor, bail};

use crate::{
    chunks::{self, TOKENS},
    dropout::{self, Dropout, Mask},
    lanes,
};

/// Added to the standard deviation, outside the root.
const EPSILON: f64 = 1e-6;

/// `weight * (y - mean) / (std + 1e-6) + bias` for each row `y` of `residual + dropout(x)`.
///
/// `x` and `residual` are `(tokens, hidden)`, `weight` and `bias` `(hidden)`; `hidden` must be at least 2.
/// A constant row becomes `bias`; through its deviation flows no gradient.
pub fn norm(
    x: &Tensor,
    residual: Option<&Tensor>,
    dropout: Option<Dropout>,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    let (_, hidden) = x.dims2()?;
    if hidden < 2 || weight.dims() != [hidden] || bias.dims() != [hidden] {
        bail!("norm: x {:?}, weight {:?} and bias {:?} do not fit", x.dims(), weight.dims(), bias.dims());
    }
    if let Some(residual) = residual
        && residual.dims() != x.dims()
    {
        bail!("norm: x {:?} and residual {:?} differ in shape", x.dims(), residual.dims());
    }
    if let Some(dropout) = dropout {
        dropout.check(x.elem_count())?;
    }
    if crate::fused(x.device()) {
        fused(x, residual, dropout, weight, bias)
    } else {
        plain(x, residual, dropout, weight, bias)
    }
}

/// Plain twin.
pub(crate) fn plain(
    x: &Tensor,
    residual: Option<&Tensor>,
    dropout: Option<Dropout>,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    let x = match dropout {
        Some(dropout) => dropout::plain(x, dropout)?,
        None => x.clone(),
    };
    let y = match residual {
        Some(residual) => (residual + x)?,
        None => x,
    };
    let hidden = y.dim(D::Minus1)?;
    let mean = (y.sum_keepdim(D::Minus1)? / hidden as f64)?;
    let centred = y.broadcast_sub(&mean)?;
    let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / (hidden - 1) as f64)?;
    let scaled = centred.broadcast_div(&(variance.sqrt()? + EPSILON)?)?;
    scaled.broadcast_mul(weight)?.broadcast_add(bias)
}

pub(crate) fn fused(
    x: &Tensor,
    residual: Option<&Tensor>,
    dropout: Option<Dropout>,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    // A custom operation takes three arguments at most: weight and bias, both short, travel as one.
    let parameters = Tensor::cat(&[weight, bias], 0)?;
    let op = Norm { mask: dropout.and_then(|dropout| dropout.mask(0)) };
    match residual {
        Some(residual) => x.contiguous()?.apply_op3(&residual.contiguous()?, &parameters, op),
        None => x.contiguous()?.apply_op2(&parameters, op),
    }
}

struct Norm {
    mask: Option<Mask>,
}

/// `y = residual + mask * x` for a row that begins at element `start`; then its mean is taken off. Returns the deviation.
#[inline(always)]
fn centre(y: &mut [f32], x: &[f32], residual: Option<&[f32]>, mask: Option<Mask>, start: u32) -> f32 {
    match mask {
        Some(mask) => {
            for ((y, &x), offset) in y.iter_mut().zip(x).zip(0u32..) {
                *y = x * mask.factor(start.wrapping_add(offset));
            }
        }
        None => y.copy_from_slice(x),
    }
    if let Some(residual) = residual {
        for (y, &residual) in y.iter_mut().zip(residual) {
            *y += residual;
        }
    }
    let mean = lanes::sum(y) / y.len() as f32;
    for y in y.iter_mut() {
        *y -= mean;
    }
    (lanes::dot(y, y) / (y.len() - 1) as f32).sqrt()
}

/// Normalises the rows of a chunk whose first element has index `start`; `parameters` holds weight, then bias.
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
    "x86_64+avx2+fma"
))]
pub(crate) fn forward(
    y: &mut [f32],
    x: &[f32],
    residual: Option<&[f32]>,
    mask: Option<Mask>,
    parameters: &[f32],
    start: usize,
) {
    let (weight, bias) = parameters.split_at(parameters.len() / 2);
    let hidden = weight.len();
    for (row, (y, x)) in y.chunks_exact_mut(hidden).zip(x.chunks_exact(hidden)).enumerate() {
        let residual = residual.map(|residual| &residual[row * hidden..(row + 1) * hidden]);
        let deviation = centre(y, x, residual, mask, (start + row * hidden) as u32);
        let scale = 1.0 / (deviation + EPSILON as f32);
        for ((y, &weight), &bias) in y.iter_mut().zip(weight).zip(bias) {
            *y = (*y * scale).mul_add(weight, bias);
        }
    }
}

/// The gradient of the sum that was normalised, into `dy`, and a chunk's share of weight's and bias's into `parts`.
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
    "x86_64+avx2+fma"
))]
pub(crate) fn backward(
    dy: &mut [f32],
    parts: &mut [f32],
    g: &[f32],
    (x, residual): (&[f32], Option<&[f32]>),
    mask: Option<Mask>,
    weight: &[f32],
    start: usize,
) {
    let hidden = weight.len();
    let (weight_part, bias_part) = parts.split_at_mut(hidden);
    let mut centred = vec![0.0; hidden];
    for (row, ((dy, x), g)) in
        dy.chunks_exact_mut(hidden).zip(x.chunks_exact(hidden)).zip(g.chunks_exact(hidden)).enumerate()
    {
        let residual = residual.map(|residual| &residual[row * hidden..(row + 1) * hidden]);
        let deviation = centre(&mut centred, x, residual, mask, (start + row * hidden) as u32);
        let scale = 1.0 / (deviation + EPSILON as f32);
        for (((part, sum), &g), &c) in weight_part.iter_mut().zip(bias_part.iter_mut()).zip(g).zip(&centred) {
            *part = (g * scale).mul_add(c, *part);
            *sum += g;
        }
        for ((dy, &g), &weight) in dy.iter_mut().zip(g).zip(weight) {
            *dy = g * weight;
        }
        let mean = lanes::sum(dy) / hidden as f32;
        // d deviation / d y = centred / ((hidden - 1) deviation); a constant row has no direction there.
        let through_deviation = if deviation > 0.0 {
            lanes::dot(dy, &centred) * scale * scale / ((hidden - 1) as f32 * deviation)
        } else {
            0.0
        };
        for (dy, &c) in dy.iter_mut().zip(&centred) {
            *dy = (*dy - mean).mul_add(scale, -through_deviation * c);
        }
    }
}

impl Norm {
    fn run(&self, x: &[f32], residual: Option<&[f32]>, parameters: &[f32]) -> Vec<f32> {
        let chunk = TOKENS * parameters.len() / 2;
        chunks::build(x.len(), chunk, |index, y| {
            let range = index * chunk..index * chunk + y.len();
            let residual = residual.map(|residual| &residual[range.clone()]);
            forward(y, &x[range.clone()], residual, self.mask, parameters, range.start);
        })
    }

    /// Gradients of x, residual and the parameters.
    fn gradients(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        parameters: &Tensor,
        g: &Tensor,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let hidden = parameters.dim(0)? / 2;
        let chunk = TOKENS * hidden;
        let run = |x: &[f32], residual: Option<&[f32]>, parameters: &[f32], g: &[f32]| {
            chunks::build_with(x.len(), chunk, |index, dy| {
                let range = index * chunk..index * chunk + dy.len();
                let mut parts = vec![0.0; 2 * hidden];
                backward(
                    dy,
                    &mut parts,
                    &g[range.clone()],
                    (&x[range.clone()], residual.map(|residual| &residual[range.clone()])),
                    self.mask,
                    &parameters[..hidden],
                    range.start,
                );
                parts
            })
        };
        let (dy, partials) = chunks::with_values(x, |x| {
            chunks::with_values(parameters, |parameters| {
                chunks::with_values(g, |g| match residual {
                    Some(residual) => {
                        chunks::with_values(residual, |residual| Ok(run(x, Some(residual), parameters, g)))
                    }
                    None => Ok(run(x, None, parameters, g)),
                })
            })
        })?;
        let dx = self.mask.map(|mask| {
            let values = chunks::build(dy.len(), chunk, |index, dx| {
                let start = index * chunk;
                dropout::masked(mask, start as u32, dx, &dy[start..start + dx.len()]);
            });
            Tensor::from_vec(values, x.shape(), x.device())
        });
        let dy = Tensor::from_vec(dy, x.shape(), x.device())?;
        let dx = dx.transpose()?.unwrap_or_else(|| dy.clone());
        let parameter_gradient =
            Tensor::from_vec(chunks::add_up(&partials, 2 * hidden), 2 * hidden, x.device())?;
        Ok((dx, dy, parameter_gradient))
    }
}

impl CustomOp2 for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = self.run(chunks::slice(s1, l1)?, None, chunks::slice(s2, l2)?);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        parameters: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, _, parameter_gradient) = self.gradients(x, None, parameters, g)?;
        Ok((Some(dx), Some(parameter_gradient)))
    }
}

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "norm with residual"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = self.run(chunks::slice(s1, l1)?, Some(chunks::slice(s2, l2)?), chunks::slice(s3, l3)?);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        residual: &Tensor,
        parameters: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dy, parameter_gradient) = self.gradients(x, Some(residual), parameters, g)?;
        Ok((Some(dx), Some(dy), Some(parameter_gradient)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_gradients, assert_twins, variable};

    #[test]
    fn twins_agree() {
        for (tokens, hidden) in [(1, 2), (5, 20), (1100, 64), (33, 130)] {
            let shape = [tokens, hidden];
            let v =
                [variable(1, &shape), variable(2, &shape), variable(3, &[hidden]), variable(4, &[hidden])];
            for dropout in [None, Some(Dropout { probability: 0.25, key: 11 })] {
                let tolerance = if hidden == 2 { 1e-3 } else { 2e-5 };
                assert_twins(
                    "norm with residual",
                    &v,
                    tolerance,
                    |v| fused(&v[0], Some(&v[1]), dropout, &v[2], &v[3]),
                    |v| plain(&v[0], Some(&v[1]), dropout, &v[2], &v[3]),
                );
            }
            let v = [v[0].clone(), v[2].clone(), v[3].clone()];
            assert_twins(
                "norm",
                &v,
                1e-3,
                |v| fused(&v[0], None, None, &v[1], &v[2]),
                |v| plain(&v[0], None, None, &v[1], &v[2]),
            );
        }
    }

    #[test]
    fn gradients_are_differences() {
        let v = [variable(1, &[4, 9]), variable(2, &[4, 9]), variable(3, &[9]), variable(4, &[9])];
        let dropout = Some(Dropout { probability: 0.25, key: 11 });
        assert_gradients("norm", &v, 1e-2, 5e-3, |v| fused(&v[0], Some(&v[1]), dropout, &v[2], &v[3]));
    }

    #[test]
    fn a_constant_row_has_finite_gradients() {
        let (weight, bias) = (variable(3, &[8]), variable(4, &[8]));
        let x = variable(1, &[1, 8]);
        let gradient = (&*x * 0.0).and_then(|zero| {
            let grads = fused(&(zero + 2.0)?, Some(&x), None, &weight, &bias)?.sum_all()?.backward()?;
            Ok(grads.get(&x).is_some_and(|g| crate::testing::values(g).iter().all(|x| x.is_finite())))
        });
        assert!(gradient.is_ok_and(|finite| finite));
    }
}
