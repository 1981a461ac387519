//! The input of both transformers as one operation: `drop(norm(token + position))`, the norm in BERT4Rec only.
//!
//! Fused, the two rows of a token are looked up, summed, normalised and masked in one pass. The backward pass keeps only the
//! ids, and sums the gradient of each table as [`embedding`](crate::embedding()) does.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use super::{
    dropout::{self, Dropout, Mask},
    embedding::{self, gather},
    norm,
};
use crate::cpu::chunks::{self, TOKENS, add};

/// The input sublayer of a transformer.
#[derive(Clone, Copy, Debug)]
pub struct Embed<'a> {
    /// A row for each token id, `(ids, hidden)`.
    pub token: &'a Tensor,
    /// A row for each position id, `(positions, hidden)`.
    pub position: &'a Tensor,
    /// Weight and bias `(hidden)` of the norm of their sum.
    pub norm: Option<(&'a Tensor, &'a Tensor)>,
    /// Dropout on the result.
    pub dropout: Option<Dropout>,
    /// Type of the result, and so of all activations after it: f32, or bf16 in the plain twin.
    pub activations: DType,
}

impl Embed<'_> {
    /// `(tokens, hidden)` of token and position ids `(tokens)` of u32.
    pub fn forward(&self, ids: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let (tokens, hidden) = (ids.dims1()?, self.token.dim(1)?);
        if positions.dims() != [tokens] || self.position.dim(1)? != hidden {
            bail!(
                "embed: ids {:?}, positions {:?}, tables {:?} and {:?} do not fit",
                ids.dims(),
                positions.dims(),
                self.token.dims(),
                self.position.dims()
            );
        }
        if let Some((weight, bias)) = self.norm
            && (hidden < 2 || weight.dims() != [hidden] || bias.dims() != [hidden])
        {
            bail!("embed: hidden {hidden}, norm {:?} and {:?} do not fit", weight.dims(), bias.dims());
        }
        if let Some(dropout) = self.dropout {
            dropout.check(tokens * hidden)?;
        }
        if crate::fused(self.token.device()) {
            if self.activations != DType::F32 {
                bail!("embed: the fused version gives f32, not {:?}", self.activations);
            }
            self.fused(ids, positions)
        } else {
            self.plain(ids, positions)
        }
    }

    /// Plain twin.
    pub(crate) fn plain(&self, ids: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let token = embedding::plain(self.token, ids)?;
        let position = embedding::plain(self.position, positions)?;
        let x = match self.norm {
            Some((weight, bias)) => norm::plain(&token, Some(&position), None, weight, bias)?,
            None => (token + position)?,
        };
        let x = x.to_dtype(self.activations)?;
        match self.dropout {
            Some(dropout) => dropout::plain(&x, dropout),
            None => Ok(x),
        }
    }

    pub(crate) fn fused(&self, ids: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let op = Fused {
            ids: embedding::checked_ids(ids, self.token.dim(0)?)?,
            positions: embedding::checked_ids(positions, self.position.dim(0)?)?,
            mask: self.dropout.and_then(|dropout| dropout.mask(0)),
        };
        let (token, position) = (self.token.contiguous()?, self.position.contiguous()?);
        match self.norm {
            Some((weight, bias)) => token.apply_op3(&position, &Tensor::cat(&[weight, bias], 0)?, op),
            None => token.apply_op2(&position, op),
        }
    }
}

/// One call of [`Embed::forward`].
struct Fused {
    ids: Arc<[u32]>,
    positions: Arc<[u32]>,
    mask: Option<Mask>,
}

impl Fused {
    /// The looked-up rows of both tables for chunk `index`.
    fn lookup(
        &self,
        index: usize,
        count: usize,
        token: &[f32],
        position: &[f32],
        hidden: usize,
    ) -> [Vec<f32>; 2] {
        let range = index * TOKENS..index * TOKENS + count;
        [(&self.ids, token), (&self.positions, position)].map(|(ids, table)| {
            let mut rows = vec![0.0; count * hidden];
            gather(&mut rows, table, &ids[range.clone()]);
            rows
        })
    }

    fn run(&self, token: &[f32], position: &[f32], norm: Option<&[f32]>, hidden: usize) -> Vec<f32> {
        chunks::build(self.ids.len() * hidden, TOKENS * hidden, |index, y| {
            let [mut x, residual] = self.lookup(index, y.len() / hidden, token, position, hidden);
            let start = index * TOKENS * hidden;
            if let Some(norm) = norm {
                norm::forward(y, &x, Some(&residual), None, norm, start);
            } else {
                y.copy_from_slice(&x);
                add(y, &residual);
            }
            if let Some(mask) = self.mask {
                x.copy_from_slice(y);
                dropout::masked(mask, start as u32, y, &x);
            }
        })
    }

    /// Gradients of the tables and of the norm's parameters, the latter empty without a norm.
    fn gradients(
        &self,
        (token, position, norm): (&Tensor, &Tensor, Option<&Tensor>),
        g: &Tensor,
    ) -> Result<[Tensor; 3]> {
        let hidden = token.dim(1)?;
        let width = if norm.is_some() { 2 * hidden } else { 0 };
        let sums = |token: &[f32], position: &[f32], norm: &[f32], g: &[f32]| {
            chunks::build_with(g.len(), TOKENS * hidden, |index, sum| {
                let start = index * TOKENS * hidden;
                let g = &g[start..start + sum.len()];
                let mut parts = vec![0.0; width];
                let Some(mask) = self.mask else {
                    self.sum_gradient(index, sum, (token, position, norm, g), &mut parts, hidden);
                    return parts;
                };
                let mut masked = vec![0.0; g.len()];
                dropout::masked(mask, start as u32, &mut masked, g);
                self.sum_gradient(index, sum, (token, position, norm, &masked), &mut parts, hidden);
                parts
            })
        };
        let (sum, parts) = chunks::with_values(token, |token| {
            chunks::with_values(position, |position| {
                chunks::with_values(g, |g| match norm {
                    Some(norm) => chunks::with_values(norm, |norm| Ok(sums(token, position, norm, g))),
                    None => Ok(sums(token, position, &[], g)),
                })
            })
        })?;
        let table = |table: &Tensor, ids: &[u32]| -> Result<Tensor> {
            let gradient = embedding::gradient(&sum, ids, table.dim(0)?, hidden);
            Tensor::from_vec(gradient, table.shape(), table.device())
        };
        let parts = chunks::add_up(&parts, width);
        Ok([
            table(token, &self.ids)?,
            table(position, &self.positions)?,
            Tensor::from_vec(parts, width, token.device())?,
        ])
    }

    /// Writes the gradient of a chunk's sums of rows to `sum`, and its share of the norm's gradient to `parts`.
    fn sum_gradient(
        &self,
        index: usize,
        sum: &mut [f32],
        (token, position, norm, g): (&[f32], &[f32], &[f32], &[f32]),
        parts: &mut [f32],
        hidden: usize,
    ) {
        if norm.is_empty() {
            sum.copy_from_slice(g);
            return;
        }
        let [x, residual] = self.lookup(index, g.len() / hidden, token, position, hidden);
        norm::backward(sum, parts, g, (&x, Some(&residual)), None, &norm[..hidden], 0);
    }
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let hidden = l1.dims()[1];
        let y = self.run(chunks::slice(s1, l1)?, chunks::slice(s2, l2)?, None, hidden);
        Ok((CpuStorage::F32(y), (self.ids.len(), hidden).into()))
    }

    fn bwd(
        &self,
        token: &Tensor,
        position: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [token, position, _] = self.gradients((token, position, None), g)?;
        Ok((Some(token), Some(position)))
    }
}

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "embed with norm"
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
        let hidden = l1.dims()[1];
        let norm = chunks::slice(s3, l3)?;
        let y = self.run(chunks::slice(s1, l1)?, chunks::slice(s2, l2)?, Some(norm), hidden);
        Ok((CpuStorage::F32(y), (self.ids.len(), hidden).into()))
    }

    fn bwd(
        &self,
        token: &Tensor,
        position: &Tensor,
        norm: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [token, position, norm] = self.gradients((token, position, Some(norm)), g)?;
        Ok((Some(token), Some(position), Some(norm)))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::testing::{assert_gradients, assert_twins, beside, ids, values, variable};

    /// Two tables and a norm; ids and positions of `tokens` tokens.
    fn inputs(tokens: usize, hidden: usize) -> (Vec<Var>, Tensor, Tensor) {
        let v = [(1, vec![9, hidden]), (2, vec![5, hidden]), (3, vec![hidden]), (4, vec![hidden])];
        let draw = |seed, bound| Tensor::new(ids(seed, tokens, bound), &Device::Cpu).unwrap();
        (v.iter().map(|(seed, shape)| variable(*seed, shape)).collect(), draw(5, 9), draw(6, 5))
    }

    fn layer(v: &[Var], dropped: bool) -> Embed<'_> {
        Embed {
            token: &v[0],
            position: &v[1],
            norm: v.get(2).map(|weight| (weight.as_tensor(), v[3].as_tensor())),
            dropout: dropped.then_some(Dropout { probability: 0.2, key: 3 }),
            activations: DType::F32,
        }
    }

    #[test]
    fn twins_agree() {
        for (tokens, hidden) in [(1, 4), (40, 6), (1300, 16)] {
            let (v, ids, positions) = inputs(tokens, hidden);
            for inputs in [&v[..], &v[..2]] {
                for dropped in [false, true] {
                    assert_twins(
                        "embed",
                        inputs,
                        2e-5,
                        |v| layer(v, dropped).fused(&ids, &positions),
                        |v| layer(v, dropped).plain(&beside(&ids, v), &beside(&positions, v)),
                    );
                }
            }
        }
    }

    #[test]
    fn gradients_are_differences() {
        let (v, ids, positions) = inputs(12, 6);
        assert_gradients("embed", &v, 1e-2, 2e-3, |v| layer(v, true).fused(&ids, &positions));
    }

    #[test]
    fn a_constant_sum_has_finite_gradients() {
        let (v, ids, positions) = inputs(3, 8);
        let constant = |v: &Var, value: f32| {
            let values = Tensor::full(value, v.shape(), &Device::Cpu).unwrap();
            v.set(&values).unwrap();
        };
        constant(&v[0], 2.0);
        constant(&v[1], -0.5);
        let y = layer(&v, false).fused(&ids, &positions).unwrap();
        let grads = y.sum_all().and_then(|y| y.backward()).unwrap();
        for v in &v {
            assert!(values(grads.get(v).unwrap()).iter().all(|x| x.is_finite()));
        }
    }

    #[test]
    fn ids_outside_a_table_are_refused() {
        let (v, ids, positions) = inputs(40, 4);
        let message = layer(&v, false).forward(&positions, &ids).unwrap_err().to_string();
        assert!(message.contains("outside a table of 5 rows"), "{message}");
    }
}
