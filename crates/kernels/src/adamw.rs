//! One AdamW step of one tensor, with the clipping of its gradient (Loshchilov & Hutter, arXiv 1711.05101).
//!
//! PyTorch's arithmetic to the letter: the gradient of each tensor is clipped on its own norm, decay is decoupled and comes
//! first, epsilon is added to the root of the bias-corrected second moment.

use candle_core::{Result, Tensor, Var, bail};

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
    /// What the gradient is multiplied with, given its norm: `min(1, clip / (norm + 1e-6))`.
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
    plain(param, grad, first, second, s)
}

/// Plain twin.
pub(crate) fn plain(param: &Var, grad: &Tensor, first: &Var, second: &Var, s: &AdamWStep) -> Result<()> {
    let grad = grad.detach();
    let norm = grad.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>()?;
    let grad = (grad * s.clip(f64::from(norm)))?;
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
