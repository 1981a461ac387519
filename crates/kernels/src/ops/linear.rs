//! The affine map `x W^T + b`, weights laid out as PyTorch's `Linear` has them.
//!
//! Fused, a task takes a chunk of tokens through one serial product and adds the bias while the result is in cache. In the
//! backward pass a task yields the gradient of its tokens and its share of the gradients of weight and bias.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::cpu::{
    bias::{column_sums, fill_rows},
    chunks,
    matrix::{Store, View, ViewMut, multiply},
    panels::transposed,
};

/// `x W^T + b`: `x` is `(tokens, in)`, `weight` `(out, in)`, `bias` `(out)`; the result is `(tokens, out)`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (_, inputs) = x.dims2()?;
    let (outputs, weight_inputs) = weight.dims2()?;
    if inputs != weight_inputs || bias.is_some_and(|bias| bias.dims() != [outputs]) {
        bail!(
            "linear: x {:?}, weight {:?} and bias {:?} do not fit",
            x.dims(),
            weight.dims(),
            bias.map(Tensor::dims)
        );
    }
    if !crate::fused(x.device()) {
        return plain(x, weight, bias);
    }
    fused(x, weight, bias)
}

/// Plain twin: a matrix product and a broadcast sum, of the type of `x`.
pub(crate) fn plain(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) && x.rank() == 2 {
        return crate::cuda::linear::linear(x, weight, bias);
    }
    let product = x.contiguous()?.matmul(&weight.to_dtype(x.dtype())?.t()?)?;
    match bias {
        Some(bias) => product.broadcast_add(&bias.to_dtype(x.dtype())?),
        None => Ok(product),
    }
}

pub(crate) fn fused(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, Linear),
        None => x.apply_op2(&weight, Linear),
    }
}

struct Linear;

fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, inputs: usize, outputs: usize) -> Vec<f32> {
    let tokens = x.len() / inputs;
    // So that a token's result is the same bytes in any batch, and no product has to transpose it again.
    let weight = transposed(weight, inputs);
    let chunk = chunks::tokens(tokens);
    chunks::build(tokens * outputs, chunk * outputs, |index, y| {
        let count = y.len() / outputs;
        let x = &x[index * chunk * inputs..];
        if let Some(bias) = bias {
            fill_rows(y, bias);
        }
        multiply(
            ViewMut::new(y, count, outputs),
            if bias.is_some() { Store::Add } else { Store::Overwrite },
            View::new(x, count, inputs),
            View::new(&weight, inputs, outputs),
            1.0,
        );
    })
}

/// Which gradients of `x`, weight and bias are wanted.
#[derive(Clone, Copy)]
struct Wanted {
    x: bool,
    weight: bool,
    bias: bool,
}

/// The gradients of `x`, weight and bias; empty where not wanted.
fn backward(
    x: &[f32],
    weight: &[f32],
    g: &[f32],
    inputs: usize,
    outputs: usize,
    wanted: Wanted,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let tokens = x.len() / inputs;
    let chunk = chunks::tokens(tokens);
    let share = |index: usize| {
        let range = index * chunk..tokens.min((index + 1) * chunk);
        let count = range.len();
        let (x, g) =
            (&x[range.start * inputs..range.end * inputs], &g[range.start * outputs..range.end * outputs]);
        let mut weight_part = vec![0.0; if wanted.weight { outputs * inputs } else { 0 }];
        if wanted.weight {
            let (g, x) = (View::new(g, count, outputs), View::new(x, count, inputs));
            multiply(ViewMut::new(&mut weight_part, outputs, inputs), Store::Overwrite, g.t(), x, 1.0);
        }
        let mut bias_part = vec![0.0; if wanted.bias { outputs } else { 0 }];
        if wanted.bias {
            column_sums(&mut bias_part, g);
        }
        (weight_part, bias_part)
    };
    let (x_gradient, shares) = if wanted.x {
        // The task that owns a chunk does both, so that `g` is read once.
        chunks::build_with(tokens * inputs, chunk * inputs, |index, part| {
            let count = part.len() / inputs;
            let g = View::new(&g[index * chunk * outputs..], count, outputs);
            let weight = View::new(weight, outputs, inputs);
            multiply(ViewMut::new(part, count, inputs), Store::Overwrite, g, weight, 1.0);
            share(index)
        })
    } else {
        (Vec::new(), (0..tokens.div_ceil(chunk)).into_par_iter().map(share).collect())
    };
    let (weight_parts, bias_parts): (Vec<_>, Vec<_>) = shares.into_iter().unzip();
    let weight_gradient =
        if wanted.weight { chunks::add_up(&weight_parts, outputs * inputs) } else { Vec::new() };
    let bias_gradient = if wanted.bias { chunks::add_up(&bias_parts, outputs) } else { Vec::new() };
    (x_gradient, weight_gradient, bias_gradient)
}

/// The gradients as tensors, `None` where the argument is not tracked.
fn gradients(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    g: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
    let (outputs, inputs) = weight.dims2()?;
    let wanted =
        Wanted { x: x.track_op(), weight: weight.track_op(), bias: bias.is_some_and(Tensor::track_op) };
    let (dx, dw, db) = chunks::with_values(x, |x_values| {
        chunks::with_values(weight, |weight_values| {
            chunks::with_values(g, |g| Ok(backward(x_values, weight_values, g, inputs, outputs, wanted)))
        })
    })?;
    let tensor = |wanted: bool, values: Vec<f32>, like: &Tensor| -> Result<Option<Tensor>> {
        wanted.then(|| Tensor::from_vec(values, like.shape(), like.device())).transpose()
    };
    Ok((
        tensor(wanted.x, dx, x)?,
        tensor(wanted.weight, dw, weight)?,
        match bias {
            Some(bias) => tensor(wanted.bias, db, bias)?,
            None => None,
        },
    ))
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (outputs, inputs) = l2.shape().dims2()?;
        let y = forward(chunks::slice(s1, l1)?, chunks::slice(s2, l2)?, None, inputs, outputs);
        Ok((CpuStorage::F32(y), (l1.dims()[0], outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, _) = gradients(x, weight, None, g)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear with bias"
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
        let (outputs, inputs) = l2.shape().dims2()?;
        let bias = chunks::slice(s3, l3)?;
        let y = forward(chunks::slice(s1, l1)?, chunks::slice(s2, l2)?, Some(bias), inputs, outputs);
        Ok((CpuStorage::F32(y), (l1.dims()[0], outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        gradients(x, weight, Some(bias), g)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_gradients, assert_twins, variable};

    #[test]
    fn twins_agree() {
        for (tokens, inputs, outputs) in [(1, 3, 5), (7, 64, 64), (1100, 24, 40), (1537, 64, 17)] {
            let inputs_ =
                [variable(1, &[tokens, inputs]), variable(2, &[outputs, inputs]), variable(3, &[outputs])];
            let (with, without) = (&inputs_, &inputs_[..2]);
            assert_twins(
                "linear",
                with,
                2e-5,
                |v| fused(&v[0], &v[1], Some(&v[2])),
                |v| plain(&v[0], &v[1], Some(&v[2])),
            );
            assert_twins(
                "linear",
                without,
                2e-5,
                |v| fused(&v[0], &v[1], None),
                |v| plain(&v[0], &v[1], None),
            );
        }
    }

    #[test]
    fn gradients_are_differences() {
        let inputs = [variable(1, &[5, 6]), variable(2, &[4, 6]), variable(3, &[4])];
        assert_gradients("linear", &inputs, 1e-2, 1e-3, |v| fused(&v[0], &v[1], Some(&v[2])));
    }

    #[test]
    fn weights_alone_can_be_tracked() {
        let (x, weight) = (variable(1, &[700, 6]).as_detached_tensor(), variable(2, &[4, 6]));
        let loss = fused(&x, &weight, None).and_then(|y| y.sqr()).and_then(|y| y.sum_all());
        let grads = loss.and_then(|loss| loss.backward());
        assert!(grads.is_ok_and(|grads| grads.get(&weight).is_some()));
    }
}
