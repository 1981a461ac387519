//! One AdamW step of one tensor, with the clipping of its gradient (Loshchilov & Hutter, arXiv 1711.05101).
//!
//! The arithmetic is PyTorch's: the gradient of each tensor is clipped by its own norm, decay is decoupled and comes first,
//! and epsilon is added to the root of the bias-corrected second moment. Fused, both moments and the parameter are updated in
//! place, each in one pass.

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use crate::cpu::{
    apply,
    chunks::{self, ELEMENTS},
    lanes, vectorized,
};

/// The settings of one step for one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// Decoupled decay; 0 for tensors that do not decay.
    pub weight_decay: f64,
    /// Largest norm of this tensor's gradient; a larger one is scaled down to it. Infinity clips nothing.
    pub clip_norm: f64,
    /// Number of this step, from 1.
    pub step: u64,
}

impl AdamWStep {
    /// The factor of a gradient of this norm: `min(1, clip / (norm + 1e-6))`.
    fn clip(&self, norm: f64) -> f64 {
        if self.clip_norm.is_finite() { (self.clip_norm / (norm + 1e-6)).min(1.0) } else { 1.0 }
    }
}

/// Updates `param` and its moments in place from `grad`; all four have one shape.
pub fn adamw(param: &Var, grad: &Tensor, first: &Var, second: &Var, s: &AdamWStep) -> Result<()> {
    if param.dims() != grad.dims() || param.dims() != first.dims() || param.dims() != second.dims() {
        bail!(
            "adamw: parameter {:?}, gradient {:?}, moments {:?} and {:?} differ in shape",
            param.dims(),
            grad.dims(),
            first.dims(),
            second.dims()
        );
    }
    if s.step == 0 {
        bail!("adamw: steps are counted from 1");
    }
    if crate::fused(param.device()) {
        return fused(param, grad, first, second, s);
    }
    #[cfg(feature = "cuda")]
    if param.device().is_cuda() {
        return crate::cuda::adamw(param, grad, (first, second), s, &Update::new(s));
    }
    plain(param, grad, first, second, s)
}

/// Plain twin.
pub(crate) fn plain(param: &Var, grad: &Tensor, first: &Var, second: &Var, s: &AdamWStep) -> Result<()> {
    let grad = grad.detach();
    let grad = if s.clip_norm.is_finite() {
        // As `clip`, on the device: a GPU need not wait for the host to know the norm.
        let norm = grad.sqr()?.sum_all()?.sqrt()?;
        grad.broadcast_mul(&((norm + 1e-6)?.recip()? * s.clip_norm)?.minimum(1.0)?)?
    } else {
        grad
    };
    let m = ((first.as_detached_tensor() * s.beta1)? + (&grad * (1.0 - s.beta1))?)?;
    let v = ((second.as_detached_tensor() * s.beta2)? + (grad.sqr()? * (1.0 - s.beta2))?)?;
    let t = s.step as f64;
    let (correction1, correction2) = (1.0 - s.beta1.powf(t), 1.0 - s.beta2.powf(t));
    let denominator = ((v.sqrt()? / correction2.sqrt())? + s.epsilon)?;
    let decayed = (param.as_detached_tensor() * (1.0 - s.lr * s.weight_decay))?;
    let next = (decayed - ((&m / denominator)? * (s.lr / correction1))?)?;
    param.set(&next)?;
    first.set(&m)?;
    second.set(&v)
}

/// Fused: a pass for the norm, and one each over first moment, second moment and parameter.
pub(crate) fn fused(param: &Var, grad: &Tensor, first: &Var, second: &Var, s: &AdamWStep) -> Result<()> {
    let grad = grad.detach().contiguous()?;
    let squares = chunks::with_values(&grad, |grad| {
        let parts: Vec<f64> = grad.par_chunks(ELEMENTS).map(|part| f64::from(square_sum(part))).collect();
        Ok(parts.iter().sum::<f64>())
    })?;
    let clip = s.clip(squares.sqrt()) as f32;
    first.inplace_op2(&grad, &Moment { beta: s.beta1, clip, squared: false })?;
    second.inplace_op2(&grad, &Moment { beta: s.beta2, clip, squared: true })?;
    param.inplace_op3(first, second, &Update::new(s))
}

#[apply(vectorized!)]
fn square_sum(x: &[f32]) -> f32 {
    lanes::dot(x, x)
}

/// The exponential mean of the clipped gradient, or of its square.
struct Moment {
    beta: f64,
    clip: f32,
    squared: bool,
}

#[apply(vectorized!)]
fn average(moment: &mut [f32], grad: &[f32], kept: f32, taken: f32, clip: f32, squared: bool) {
    if squared {
        for (m, &g) in moment.iter_mut().zip(grad) {
            let g = g * clip;
            *m = *m * kept + g * g * taken;
        }
    } else {
        for (m, &g) in moment.iter_mut().zip(grad) {
            *m = *m * kept + g * clip * taken;
        }
    }
}

/// The step of the parameter, its moments being up to date.
pub(crate) struct Update {
    /// What decay leaves of the parameter.
    pub keep: f32,
    /// Learning rate over the first moment's correction.
    pub rate: f32,
    /// By which the second moment's root is corrected.
    pub root: f32,
    pub epsilon: f32,
}

impl Update {
    pub(crate) fn new(s: &AdamWStep) -> Self {
        let t = s.step as f64;
        let (correction1, correction2) = (1.0 - s.beta1.powf(t), 1.0 - s.beta2.powf(t));
        Self {
            keep: (1.0 - s.lr * s.weight_decay) as f32,
            rate: (s.lr / correction1) as f32,
            root: (1.0 / correction2.sqrt()) as f32,
            epsilon: s.epsilon as f32,
        }
    }
}

#[apply(vectorized!)]
fn advance(param: &mut [f32], first: &[f32], second: &[f32], update: &Update) {
    for ((p, &m), &v) in param.iter_mut().zip(first).zip(second) {
        *p = *p * update.keep - update.rate * (m / (v.sqrt() * update.root + update.epsilon));
    }
}

/// The values of the tensor an operation updates in place.
fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => bail!("adamw: a tensor of shape {:?} is not contiguous f32", layout.dims()),
    }
}

impl InplaceOp2 for Moment {
    fn name(&self) -> &'static str {
        "adamw moment"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let (kept, taken) = (self.beta as f32, (1.0 - self.beta) as f32);
        let grad = chunks::slice(s2, l2)?;
        slice_mut(s1, l1)?
            .par_chunks_mut(ELEMENTS)
            .zip(grad.par_chunks(ELEMENTS))
            .for_each(|(moment, grad)| average(moment, grad, kept, taken, self.clip, self.squared));
        Ok(())
    }
}

impl InplaceOp3 for Update {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<()> {
        let (first, second) = (chunks::slice(s2, l2)?, chunks::slice(s3, l3)?);
        slice_mut(s1, l1)?
            .par_chunks_mut(ELEMENTS)
            .zip(first.par_chunks(ELEMENTS))
            .zip(second.par_chunks(ELEMENTS))
            .for_each(|((param, first), second)| advance(param, first, second, self));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, on_threads, values, variable};

    fn settings(clip_norm: f64, step: u64) -> AdamWStep {
        AdamWStep { lr: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-9, weight_decay: 0.05, clip_norm, step }
    }

    type Step = fn(&Var, &Tensor, &Var, &Var, &AdamWStep) -> Result<()>;

    fn three_steps(run: Step, clip_norm: f64, shape: &[usize]) -> Vec<Vec<f32>> {
        let param = variable(1, shape);
        let zeros = param.zeros_like().unwrap();
        let (first, second) = (Var::from_tensor(&zeros).unwrap(), Var::from_tensor(&zeros).unwrap());
        for step in 1..=3 {
            run(&param, &variable(10 + step, shape), &first, &second, &settings(clip_norm, step)).unwrap();
        }
        [param, first, second].iter().map(|x| values(x)).collect()
    }

    #[test]
    fn twins_agree() {
        for shape in [&[1usize][..], &[7, 5], &[70, 1000]] {
            for clip_norm in [0.5, 5.0, f64::INFINITY] {
                let expected = three_steps(plain, clip_norm, shape);
                let fused_values = on_threads(1, || three_steps(fused, clip_norm, shape));
                for (place, (a, b)) in fused_values.iter().zip(&expected).enumerate() {
                    assert_close(&format!("adamw {place}"), a, b, 1e-6);
                }
                assert_eq!(fused_values, on_threads(3, || three_steps(fused, clip_norm, shape)));
            }
        }
    }

    #[test]
    fn the_first_step_is_the_sign_of_the_gradient() {
        // By hand: m / correction = g, v / correction = g^2, so the step is lr * g / |g| after the decay.
        let param = Var::new(&[2f32, -4.0], &candle_core::Device::Cpu).unwrap();
        let grad = Tensor::new(&[0.3f32, -0.1], &candle_core::Device::Cpu).unwrap();
        let moments = || Var::from_tensor(&grad.zeros_like().unwrap()).unwrap();
        adamw(&param, &grad, &moments(), &moments(), &settings(5.0, 1)).unwrap();
        let keep = 1.0 - 1e-2 * 0.05;
        assert_close("step", &values(&param), &[2.0 * keep - 1e-2, -4.0 * keep + 1e-2], 1e-7);
    }

    #[test]
    fn shapes_that_differ_are_refused() {
        let (a, b) = (variable(1, &[2]), variable(1, &[3]));
        assert!(adamw(&a, &b, &a, &a, &settings(1.0, 1)).is_err());
        assert!(
            adamw(&a, &a.as_detached_tensor(), &variable(2, &[2]), &variable(3, &[2]), &settings(1.0, 0))
                .is_err()
        );
    }
}
