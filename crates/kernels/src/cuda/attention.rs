//! Attention over ragged rows: heads padded to the longest row, two batched products of cuBLAS, and between them one launch for
//! scale, mask, softmax and dropout.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{CudaStorage, Result, Shape, Tensor};

use super::function::{Of, apply};
use super::{LANES, NULL, THREADS, count, elementwise, grid, launch, lock, locked, run, values};
use crate::ops::attention::Attention;
use crate::ops::dropout::Dropout;
use crate::rows::Rows;

/// [`Attention`] of at least one query.
pub(crate) fn attend(attention: &Attention, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (keys, queries, heads) = (&attention.rows, attention.query_rows(), attention.heads);
    let size = k.dim(1)? / heads;
    let [of_keys, of_queries] = [keys, queries].map(|rows| Padding::new(rows, heads, size, k));
    let (of_keys, of_queries) = (of_keys?, of_queries?);
    let (q, k, v) = (of_queries.pad(q)?, of_keys.pad(k)?, of_keys.pad(v)?);
    let mut visible = vec![0; keys.len() * queries.longest()];
    for row in 0..keys.len() {
        for query in 0..queries.length(row) {
            visible[row * queries.longest() + query] = attention.visible(row, query) as u32;
        }
    }
    let lengths: Vec<u32> = (0..keys.len()).map(|row| keys.length(row) as u32).collect();
    let softmax = Softmax {
        visible: Tensor::from_vec(visible, keys.len() * queries.longest(), q.device())?,
        lengths: Tensor::from_vec(lengths, keys.len(), q.device())?,
        dropout: attention.dropout.filter(|dropout| dropout.probability > 0.0),
        scale: 1.0 / (size as f32).sqrt(),
        heads,
    };
    let probabilities = softmax.of(&q.matmul(&k.transpose(1, 2)?)?)?;
    of_queries.unpad(&probabilities.matmul(&v)?)
}

/// How tokens `(tokens, heads size)` become padded heads `(rows heads, longest, size)`, and back.
#[derive(Clone)]
struct Padding {
    /// The first token of each row, and their number at its end.
    starts: Tensor,
    tokens: usize,
    longest: usize,
    heads: usize,
    size: usize,
}

impl Padding {
    fn new(rows: &Rows, heads: usize, size: usize, like: &Tensor) -> Result<Self> {
        let starts: Vec<u32> = rows.offsets().iter().map(|&start| start as u32).collect();
        let count = starts.len();
        let starts = Tensor::from_vec(starts, count, like.device())?;
        Ok(Self { starts, tokens: rows.tokens(), longest: rows.longest(), heads, size })
    }

    fn pad(&self, x: &Tensor) -> Result<Tensor> {
        let (forth, back) = (self.clone(), self.clone());
        apply(
            "pad",
            [x],
            move |[x]| forth.copy(x, false),
            move |_, _, g| Ok([run([g], |[g]| back.copy(g, true))?]),
        )
    }

    fn unpad(&self, x: &Tensor) -> Result<Tensor> {
        let (forth, back) = (self.clone(), self.clone());
        apply(
            "unpad",
            [x],
            move |[x]| forth.copy(x, true),
            move |_, _, g| Ok([run([g], |[g]| back.copy(g, false))?]),
        )
    }

    /// The padded heads of tokens, or the tokens of padded heads.
    fn copy(&self, from: Of<'_>, back: bool) -> Result<(CudaStorage, Shape)> {
        let device = from.0.device().clone();
        let [guard] = lock([&self.starts]);
        let starts = locked::<u32>(&guard)?;
        let batch = (starts.len() - 1) * self.heads;
        let all = batch * self.longest * self.size;
        let elements = if back { self.tokens * self.heads * self.size } else { all };
        let from = values::<f32>(from.0, from.1)?;
        // SAFETY: the rows are all tokens: the kernel writes every place of a padded head, or all tokens.
        let to = unsafe { device.alloc::<f32>(elements)? };
        let sizes = (self.heads as u32, self.longest as u32, self.size as u32, u32::from(back), count(all)?);
        let written = to.slice(..);
        let (tokens, padded) = if back { (&written, &from) } else { (&from, &written) };
        let blocks = elementwise(all);
        launch!(
            device,
            "pad_heads",
            blocks,
            tokens,
            padded,
            &starts,
            &sizes.0,
            &sizes.1,
            &sizes.2,
            &sizes.3,
            &sizes.4
        );
        let shape: Shape = if back {
            (self.tokens, self.heads * self.size).into()
        } else {
            (batch, self.longest, self.size).into()
        };
        Ok((CudaStorage::wrap_cuda_slice(to, device), shape))
    }
}

/// From scores `(rows heads, queries, keys)` to probabilities.
#[derive(Clone)]
struct Softmax {
    /// Keys that each query sees, `(rows queries)`; 0 for padding.
    visible: Tensor,
    /// Keys of each row.
    lengths: Tensor,
    dropout: Option<Dropout>,
    scale: f32,
    heads: usize,
}

impl Softmax {
    fn of(self, scores: &Tensor) -> Result<Tensor> {
        let back = self.clone();
        apply(
            "softmax",
            [scores],
            move |[scores]| self.launch(scores, None),
            move |[scores], _, g| Ok([run([&scores, g], |[scores, g]| back.launch(scores, Some(g)))?]),
        )
    }

    /// The probabilities of scores, or the gradient of these from `g`.
    fn launch(&self, scores: Of<'_>, g: Option<Of<'_>>) -> Result<(CudaStorage, Shape)> {
        let (device, shape) = (scores.0.device().clone(), scores.1.shape().clone());
        let (parts, queries, keys) = shape.dims3()?;
        let (threshold, kept) = self.dropout.map_or((0, 1.0), Dropout::threshold_and_scale);
        let key = self.dropout.map_or(0, |dropout| dropout.key);
        let guards = lock([&self.visible, &self.lengths]);
        let (visible, lengths) = (locked::<u32>(&guards[0])?, locked::<u32>(&guards[1])?);
        let scores = values::<f32>(scores.0, scores.1)?;
        // SAFETY: the kernel writes every key of every query.
        let y = unsafe { device.alloc::<f32>(parts * queries * keys)? };
        let sizes = (count(parts * queries)?, self.heads as u32, queries as u32, keys as u32);
        let blocks = grid((parts * queries).div_ceil(THREADS as usize / LANES).max(1), THREADS);
        if let Some(g) = g {
            let g = values::<f32>(g.0, g.1)?;
            launch!(
                device,
                "attend",
                blocks,
                &scores,
                &g,
                &y,
                &visible,
                &lengths,
                &self.scale,
                &key,
                &threshold,
                &kept,
                &sizes.0,
                &sizes.1,
                &sizes.2,
                &sizes.3
            );
        } else {
            launch!(
                device,
                "attend",
                blocks,
                &scores,
                &NULL,
                &y,
                &visible,
                &lengths,
                &self.scale,
                &key,
                &threshold,
                &kept,
                &sizes.0,
                &sizes.1,
                &sizes.2,
                &sizes.3
            );
        }
        Ok((CudaStorage::wrap_cuda_slice(y, device), shape))
    }
}
