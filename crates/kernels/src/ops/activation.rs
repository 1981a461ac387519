//! The activations of the feed-forward sublayers, GELU in BERT4Rec and ReLU in SASRec, and GELU as an operation of its own.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::cpu::{
    apply,
    chunks::{self, ELEMENTS},
    lanes, vectorized,
};

/// The tanh form of GELU, elementwise (Hendrycks & Gimpel 2016, arXiv 1606.08415; the form BERT4Rec uses).
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if crate::fused(x.device()) { fused(x) } else { plain_gelu(x) }
}

/// Plain twin of [`gelu`].
pub(crate) fn plain_gelu(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::activation::activate(x, Activation::Gelu);
    }
    x.gelu()
}

/// Plain twin of [`Activation::relu`]: a product with the sign's indicator, because candle's own `relu` has derivative 1 at 0.
pub(crate) fn plain_relu(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::activation::activate(x, Activation::Relu);
    }
    x * x.gt(&x.zeros_like()?)?.to_dtype(x.dtype())?
}

pub(crate) fn fused(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Gelu)
}

/// An activation, applied elementwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// [`gelu`].
    Gelu,
    /// `max(0, x)`; its derivative at 0 is 0.
    Relu,
}

/// `sqrt(2 / pi)`, doubled: gelu(x) = x / (1 + exp(-2 u)) with u = sqrt(2 / pi) (x + 0.044715 x^3).
const DOUBLED_ROOT: f32 = 1.595_769_2;
const CUBIC: f32 = 0.044_715;

impl Activation {
    /// The tanh form of GELU, and its derivative.
    #[inline(always)]
    pub(crate) fn gelu(x: f32) -> (f32, f32) {
        let twice = DOUBLED_ROOT * x * (CUBIC * x).mul_add(x, 1.0);
        let share = 1.0 / (1.0 + lanes::exp(-twice));
        let inner = DOUBLED_ROOT * (3.0 * CUBIC * x).mul_add(x, 1.0);
        (x * share, (x * share * (1.0 - share)).mul_add(inner, share))
    }

    /// `max(0, x)` and its derivative.
    #[inline(always)]
    pub(crate) fn relu(x: f32) -> (f32, f32) {
        if x > 0.0 { (x, 1.0) } else { (0.0, 0.0) }
    }

    /// Plain twin of either activation.
    pub(crate) fn plain(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Activation::Gelu => plain_gelu(x),
            Activation::Relu => plain_relu(x),
        }
    }
}

/// `y = gelu(x)`.
#[apply(vectorized!)]
fn forward(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = Activation::gelu(x).0;
    }
}

/// `dx = gelu'(x) * g`.
#[apply(vectorized!)]
fn backward(dx: &mut [f32], x: &[f32], g: &[f32]) {
    for ((dx, &x), &g) in dx.iter_mut().zip(x).zip(g) {
        *dx = g * Activation::gelu(x).1;
    }
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = chunks::slice(storage, layout)?;
        let y = chunks::build(x.len(), ELEMENTS, |index, y| forward(y, &x[index * ELEMENTS..][..y.len()]));
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let dx = chunks::with_values(x, |x| {
            chunks::with_values(g, |g| {
                Ok(chunks::build(x.len(), ELEMENTS, |index, dx| {
                    let range = index * ELEMENTS..index * ELEMENTS + dx.len();
                    backward(dx, &x[range.clone()], &g[range]);
                }))
            })
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::testing::{assert_close, assert_gradients, assert_twins, values, variable};

    #[test]
    fn twins_agree() {
        for shape in [[1, 9], [3, 7], [1300, 64]] {
            let x = [variable(1, &shape)];
            assert_twins(
                "gelu",
                &x,
                2e-6,
                |v| fused(&(v[0].as_tensor() * 6.0)?),
                |v| plain_gelu(&(v[0].as_tensor() * 6.0)?),
            );
        }
    }

    #[test]
    fn gelu_holds_far_out() {
        let x = [-1e4f32, -40.0, -12.0, -0.0, 0.0, 12.0, 40.0, 1e4];
        let x = Var::new(&x, &Device::Cpu).and_then(|x| fused(&x));
        let expected = [0.0, 0.0, 0.0, 0.0, 0.0, 12.0, 40.0, 1e4];
        assert!(x.is_ok_and(|x| {
            assert_close("gelu", &values(&x), &expected, 1e-9);
            true
        }));
    }

    #[test]
    fn gradients_are_differences() {
        assert_gradients("gelu", &[variable(4, &[3, 5])], 1e-2, 2e-3, |v| fused(&(v[0].as_tensor() * 3.0)?));
    }

    #[test]
    fn relu_is_flat_at_zero() {
        assert_eq!([0.0, -0.0, 1.0].map(|x| Activation::relu(x).1), [0.0, 0.0, 1.0]);
        let x = Var::new(&[0f32, -0.0, 1.0], &Device::Cpu);
        let gradient = x.and_then(|x| {
            let grads = plain_relu(&x)?.sum_all()?.backward()?;
            grads.get(&x).map(Tensor::to_vec1::<f32>).transpose()
        });
        assert!(gradient.is_ok_and(|gradient| gradient == Some(vec![0.0, 0.0, 1.0])));
    }
}
