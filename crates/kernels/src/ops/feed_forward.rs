//! The feed-forward sublayer of both transformers as one operation:
//! `norm(x + drop(down(drop(activation(up(x))))))`.
//!
//! The values between the two linear maps are four times as wide as the model, and the largest that a training step would hold.
//! Fused, they exist for a few hundred tokens at a time, in the cache of the core that works on them, and the backward pass
//! computes them again. The plain twin is the chain of the plain operations.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::{
    activation::Activation,
    dropout::{self, Dropout, Mask},
    linear, norm,
};
use crate::cpu::{
    apply,
    bias::{column_sums, fill_rows},
    chunks::{self, TOKENS},
    matrix::{Store, View, ViewMut, multiply},
    panels::transposed,
    vectorized,
};

/// Tokens whose wide values are held at once: three such blocks of 256 columns fit into a second-level cache of 1 MB.
const BLOCK: usize = TOKENS / 2;

/// A feed-forward sublayer.
#[derive(Clone, Copy, Debug)]
pub struct FeedForward<'a> {
    /// Weight `(wide, hidden)` and bias `(wide)` of the first linear map.
    pub up: (&'a Tensor, &'a Tensor),
    /// The activation of its result.
    pub activation: Activation,
    /// Dropout on the activated values, `(tokens, wide)`.
    pub inner_dropout: Option<Dropout>,
    /// Weight `(hidden, wide)` and bias `(hidden)` of the second linear map.
    pub down: (&'a Tensor, &'a Tensor),
    /// Dropout on its result, `(tokens, hidden)`, before the residual sum.
    pub dropout: Option<Dropout>,
    /// Weight and bias `(hidden)` of the norm.
    pub norm: (&'a Tensor, &'a Tensor),
}

impl FeedForward<'_> {
    /// `x` `(tokens, hidden)` to `(tokens, hidden)`; `hidden` must be at least 2.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, hidden) = x.dims2()?;
        let wide = self.up.0.dim(0)?;
        let shapes = [
            (self.up.0, vec![wide, hidden]),
            (self.up.1, vec![wide]),
            (self.down.0, vec![hidden, wide]),
            (self.down.1, vec![hidden]),
            (self.norm.0, vec![hidden]),
            (self.norm.1, vec![hidden]),
        ];
        if let Some((tensor, expected)) = shapes.iter().find(|(tensor, shape)| tensor.dims() != shape) {
            bail!("feed-forward: x {:?} wants a tensor {expected:?}, found {:?}", x.dims(), tensor.dims());
        }
        if hidden < 2 {
            bail!("feed-forward: x {:?} has no deviation to divide by", x.dims());
        }
        for (dropout, width) in [(self.inner_dropout, wide), (self.dropout, hidden)] {
            dropout.map_or(Ok(()), |dropout| dropout.check(tokens * width))?;
        }
        if crate::fused(x.device()) { self.fused(x) } else { self.plain(x) }
    }

    /// Plain twin.
    pub(crate) fn plain(&self, x: &Tensor) -> Result<Tensor> {
        let wide = self.activation.plain(&linear::plain(x, self.up.0, Some(self.up.1))?)?;
        let wide = match self.inner_dropout {
            Some(inner) => dropout::plain(&wide, inner)?,
            None => wide,
        };
        let narrow = linear::plain(&wide, self.down.0, Some(self.down.1))?;
        norm::plain(&narrow, Some(x), self.dropout, self.norm.0, self.norm.1)
    }

    pub(crate) fn fused(&self, x: &Tensor) -> Result<Tensor> {
        // A custom operation takes three arguments at most: the parameters, short beside the tokens, travel as one.
        let parameters = [self.up, self.down, self.norm]
            .iter()
            .flat_map(|(weight, bias)| [weight, bias])
            .map(|tensor| tensor.flatten_all())
            .collect::<Result<Vec<_>>>()?;
        let parameters = Tensor::cat(&parameters, 0)?;
        let mask = |dropout: Option<Dropout>| dropout.and_then(|dropout| dropout.mask(0));
        let op = Fused {
            activation: self.activation,
            wide: self.up.0.dim(0)?,
            inner_mask: mask(self.inner_dropout),
            mask: mask(self.dropout),
            tracked: x.track_op() || parameters.track_op(),
            narrow: OnceLock::new(),
        };
        x.contiguous()?.apply_op2(&parameters, op)
    }
}

/// One call of [`FeedForward::forward`].
struct Fused {
    activation: Activation,
    wide: usize,
    inner_mask: Option<Mask>,
    mask: Option<Mask>,
    /// Whether there may be a backward pass.
    tracked: bool,
    /// The results of the second linear map, chunk by chunk, kept for the backward pass.
    narrow: OnceLock<Vec<Vec<f32>>>,
}

/// The parameters, as they lie one after another.
struct Parameters<'a> {
    up: &'a [f32],
    up_bias: &'a [f32],
    down: &'a [f32],
    down_bias: &'a [f32],
    /// Weight, then bias.
    norm: &'a [f32],
}

/// Where each parameter ends.
fn ends(hidden: usize, wide: usize) -> [usize; 4] {
    let weight = hidden * wide;
    [weight, weight + wide, 2 * weight + wide, 2 * weight + wide + hidden]
}

impl<'a> Parameters<'a> {
    fn new(values: &'a [f32], hidden: usize, wide: usize) -> Self {
        let [up, up_bias, down, down_bias] = ends(hidden, wide);
        Self {
            up: &values[..up],
            up_bias: &values[up..up_bias],
            down: &values[up_bias..down],
            down_bias: &values[down..down_bias],
            norm: &values[down_bias..],
        }
    }
}

/// Turns the results of the first linear map, whose first element has index `start`, into activated, masked values.
#[apply(vectorized!)]
fn activate(values: &mut [f32], activation: Activation, mask: Option<Mask>, start: u32) {
    match activation {
        Activation::Gelu => {
            for value in values.iter_mut() {
                *value = Activation::gelu(*value).0;
            }
        }
        Activation::Relu => {
            for value in values.iter_mut() {
                *value = Activation::relu(*value).0;
            }
        }
    }
    if let Some(mask) = mask {
        for (value, offset) in values.iter_mut().zip(0u32..) {
            *value *= mask.factor(start.wrapping_add(offset));
        }
    }
}

/// As [`activate`], with the derivative of each value.
#[apply(vectorized!)]
fn activate_with_slopes(
    values: &mut [f32],
    slopes: &mut [f32],
    activation: Activation,
    mask: Option<Mask>,
    start: u32,
) {
    match activation {
        Activation::Gelu => {
            for (value, slope) in values.iter_mut().zip(slopes.iter_mut()) {
                (*value, *slope) = Activation::gelu(*value);
            }
        }
        Activation::Relu => {
            for (value, slope) in values.iter_mut().zip(slopes.iter_mut()) {
                (*value, *slope) = Activation::relu(*value);
            }
        }
    }
    if let Some(mask) = mask {
        for ((value, slope), offset) in values.iter_mut().zip(slopes.iter_mut()).zip(0u32..) {
            let factor = mask.factor(start.wrapping_add(offset));
            *value *= factor;
            *slope *= factor;
        }
    }
}

/// `y *= x`, elementwise.
#[apply(vectorized!)]
fn scale(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y *= x;
    }
}

impl Fused {
    /// Writes the result of the first linear map for the tokens of `x` to `wide`. `up` is its weight, transposed.
    fn map_up(&self, wide: &mut [f32], x: &[f32], up: &[f32], bias: &[f32]) {
        let count = wide.len() / self.wide;
        let hidden = x.len() / count;
        fill_rows(wide, bias);
        let (x, up) = (View::new(x, count, hidden), View::new(up, hidden, self.wide));
        multiply(ViewMut::new(wide, count, self.wide), Store::Add, x, up, 1.0);
    }

    fn run(&self, x: &[f32], parameters: &[f32], hidden: usize) -> (Vec<f32>, Vec<Vec<f32>>) {
        let parameters = Parameters::new(parameters, hidden, self.wide);
        let (up, down) = (transposed(parameters.up, hidden), transposed(parameters.down, self.wide));
        let chunk = chunks::tokens(x.len() / hidden);
        chunks::build_with(x.len(), chunk * hidden, |index, y| {
            let x = &x[index * chunk * hidden..][..y.len()];
            let mut narrow = parameters.down_bias.repeat(y.len() / hidden);
            let mut wide = vec![0.0; BLOCK.min(y.len() / hidden) * self.wide];
            for (block, (narrow, x)) in
                narrow.chunks_mut(BLOCK * hidden).zip(x.chunks(BLOCK * hidden)).enumerate()
            {
                let count = x.len() / hidden;
                let wide = &mut wide[..count * self.wide];
                self.map_up(wide, x, &up, parameters.up_bias);
                let start = (index * chunk + block * BLOCK) * self.wide;
                activate(wide, self.activation, self.inner_mask, start as u32);
                let (wide, down) = (View::new(wide, count, self.wide), View::new(&down, self.wide, hidden));
                multiply(ViewMut::new(narrow, count, hidden), Store::Add, wide, down, 1.0);
            }
            norm::forward(y, &narrow, Some(x), self.mask, parameters.norm, index * chunk * hidden);
            narrow
        })
    }

    /// Gradients of x and of the parameters.
    fn gradients(&self, x: &[f32], parameters: &[f32], g: &[f32], hidden: usize) -> [Vec<f32>; 2] {
        let kept = self.narrow.get_or_init(|| self.run(x, parameters, hidden).1);
        let length = parameters.len();
        let parameters = Parameters::new(parameters, hidden, self.wide);
        let up_transposed = transposed(parameters.up, hidden);
        let [up, up_bias, down, down_bias] = ends(hidden, self.wide);
        let chunk = chunks::tokens(x.len() / hidden);
        let (dx, parts) = chunks::build_with(x.len(), chunk * hidden, |index, dx| {
            let start = index * chunk;
            let range = start * hidden..start * hidden + dx.len();
            let (x, g, narrow) = (&x[range.clone()], &g[range], &kept[index]);
            let mut parts = vec![0.0; length];
            let (weights, norm_part) = parts.split_at_mut(down_bias);
            let (up_part, rest) = weights.split_at_mut(up);
            let (up_bias_part, rest) = rest.split_at_mut(up_bias - up);
            let (down_part, down_bias_part) = rest.split_at_mut(down - up_bias);
            let norm_weight = &parameters.norm[..hidden];
            // Through the norm into the residual sum ...
            norm::backward(dx, norm_part, g, (narrow, Some(x)), self.mask, norm_weight, start * hidden);
            // ... and from there into the result of the second map.
            let mut d_narrow = dx.to_vec();
            if let Some(mask) = self.mask {
                dropout::masked(mask, (start * hidden) as u32, &mut d_narrow, dx);
            }
            column_sums(down_bias_part, &d_narrow);
            let most = BLOCK.min(dx.len() / hidden) * self.wide;
            let (mut values, mut slopes, mut d_wide) = (vec![0.0; most], vec![0.0; most], vec![0.0; most]);
            let blocks = x.chunks(BLOCK * hidden).zip(d_narrow.chunks(BLOCK * hidden));
            for (block, ((x, d_narrow), dx)) in blocks.zip(dx.chunks_mut(BLOCK * hidden)).enumerate() {
                let count = x.len() / hidden;
                let size = count * self.wide;
                let (values, slopes) = (&mut values[..size], &mut slopes[..size]);
                let d_wide = &mut d_wide[..size];
                self.map_up(values, x, &up_transposed, parameters.up_bias);
                let first = (start + block * BLOCK) * self.wide;
                activate_with_slopes(values, slopes, self.activation, self.inner_mask, first as u32);

                let (x, d_narrow) = (View::new(x, count, hidden), View::new(d_narrow, count, hidden));
                let down_weight = View::new(parameters.down, hidden, self.wide);
                let values = View::new(values, count, self.wide);
                let part = ViewMut::new(down_part, hidden, self.wide);
                multiply(part, Store::Add, d_narrow.t(), values, 1.0);
                let to = ViewMut::new(d_wide, count, self.wide);
                multiply(to, Store::Overwrite, d_narrow, down_weight, 1.0);
                scale(d_wide, slopes);
                column_sums(up_bias_part, d_wide);
                let d_wide = View::new(d_wide, count, self.wide);
                multiply(ViewMut::new(up_part, self.wide, hidden), Store::Add, d_wide.t(), x, 1.0);
                let up_weight = View::new(parameters.up, self.wide, hidden);
                multiply(ViewMut::new(dx, count, hidden), Store::Add, d_wide, up_weight, 1.0);
            }
            parts
        });
        [dx, chunks::add_up(&parts, length)]
    }
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "feed-forward"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, hidden) = l1.shape().dims2()?;
        let (y, narrow) = self.run(chunks::slice(s1, l1)?, chunks::slice(s2, l2)?, hidden);
        if self.tracked {
            self.narrow.get_or_init(|| narrow);
        }
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        parameters: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, hidden) = x.dims2()?;
        chunks::both_gradients([x, parameters], g, |x, parameters, g| {
            self.gradients(x, parameters, g, hidden)
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::testing::{assert_gradients, assert_twins, variable};

    /// x, the two maps and the norm.
    fn inputs(tokens: usize, hidden: usize, wide: usize) -> Vec<Var> {
        let shapes: [&[usize]; 7] =
            [&[tokens, hidden], &[wide, hidden], &[wide], &[hidden, wide], &[hidden], &[hidden], &[hidden]];
        (1..).zip(shapes).map(|(seed, shape)| variable(seed, shape)).collect()
    }

    fn layer(v: &[Var], activation: Activation, dropped: bool) -> FeedForward<'_> {
        let drop = |key| dropped.then_some(Dropout { probability: 0.2, key });
        FeedForward {
            up: (&v[1], &v[2]),
            activation,
            inner_dropout: if activation == Activation::Relu { drop(3) } else { None },
            down: (&v[3], &v[4]),
            dropout: drop(4),
            norm: (&v[5], &v[6]),
        }
    }

    #[test]
    fn twins_agree() {
        for (tokens, hidden, wide) in [(1, 4, 8), (7, 6, 24), (1100, 8, 32), (513, 64, 256)] {
            let v = inputs(tokens, hidden, wide);
            for activation in [Activation::Gelu, Activation::Relu] {
                for dropped in [false, true] {
                    assert_twins(
                        "feed-forward",
                        &v,
                        1e-4,
                        |v| layer(v, activation, dropped).fused(v[0].as_tensor()),
                        |v| layer(v, activation, dropped).plain(v[0].as_tensor()),
                    );
                }
            }
        }
    }

    #[test]
    fn gradients_are_differences() {
        let v = inputs(5, 6, 12);
        assert_gradients("feed-forward", &v, 1e-2, 5e-3, |v| {
            layer(v, Activation::Gelu, true).fused(v[0].as_tensor())
        });
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let v = inputs(3, 4, 8);
        let crossed = FeedForward { up: (&v[3], &v[2]), ..layer(&v, Activation::Gelu, false) };
        let message = crossed.forward(&v[0]).unwrap_err().to_string();
        assert!(message.contains("feed-forward"), "{message}");
    }
}
