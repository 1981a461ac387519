//! NARM's local attention: a block of threads for each query, and in the backward pass another for each token.

use std::sync::{Arc, OnceLock};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{CudaStorage, Result, Shape, Tensor, bail};

use super::function::{Of, apply};
use super::linear::column_sums;
use super::{THREADS, grid, launch, lock, locked, tensor, values};
use crate::ops::attention::QueryTokens;
use crate::rows::Rows;

/// [`additive_attention`](crate::additive_attention) of at least one query, over rows of at most
/// [`MOST_KEYS`](super::MOST_KEYS) tokens.
pub(crate) fn attend(
    query: &Tensor,
    keys: &Tensor,
    v: &Tensor,
    tokens: &Tensor,
    rows: &Rows,
    queries: &QueryTokens,
) -> Result<Tensor> {
    let width = keys.dim(1)?;
    let v = v.flatten_all()?;
    let places = Places::new(rows, queries, keys)?;
    let kept: Arc<OnceLock<Tensor>> = Arc::default();
    let (forth, keep) = (places.clone(), Arc::clone(&kept));
    let both = Tensor::cat(&[keys, tokens], 1)?;
    apply(
        "additive attention",
        [query, &both, &v],
        move |of| {
            let (y, shape, probabilities) = forth.forward(of, width)?;
            // A second forward pass of the same operation does not happen, nor would it differ.
            let _ = keep.set(probabilities);
            Ok((y, shape))
        },
        move |[query, both, v], _, g| {
            let Some(probabilities) = kept.get() else {
                bail!("additive attention: backward without forward")
            };
            places.backward([g, &query, &both, &v, probabilities], width)
        },
    )
}

/// Which queries and tokens meet.
#[derive(Clone)]
struct Places {
    longest: usize,
    /// Of each query: the first token of its row, and how many it sees.
    of_queries: [Tensor; 2],
    /// Of each token: its place in its row, and the row's queries, from and to.
    of_tokens: [Tensor; 3],
}

impl Places {
    fn new(rows: &Rows, queries: &QueryTokens, like: &Tensor) -> Result<Self> {
        let query_rows = queries.query_rows(rows);
        let on_device = |values: Vec<u32>| {
            let count = values.len();
            Tensor::from_vec(values, count, like.device())
        };
        let each_query =
            || (0..rows.len()).flat_map(|row| (0..query_rows.length(row)).map(move |i| (row, i)));
        let each_token = || (0..rows.len()).flat_map(|row| (0..rows.length(row)).map(move |i| (row, i)));
        Ok(Self {
            longest: rows.longest(),
            of_queries: [
                on_device(each_query().map(|(row, _)| rows.row(row).start as u32).collect())?,
                on_device(each_query().map(|(row, i)| queries.visible(row, i) as u32).collect())?,
            ],
            of_tokens: [
                on_device(each_token().map(|(_, i)| i as u32).collect())?,
                on_device(each_token().map(|(row, _)| query_rows.row(row).start as u32).collect())?,
                on_device(each_token().map(|(row, _)| query_rows.row(row).end as u32).collect())?,
            ],
        })
    }

    /// The sums, and the probabilities `(queries, longest)`.
    fn forward(&self, [query, both, v]: [Of<'_>; 3], width: usize) -> Result<(CudaStorage, Shape, Tensor)> {
        let device = query.0.device().clone();
        let (count, hidden) = (query.1.dims()[0], both.1.dims()[1] - width);
        let [query, both, v] = [query, both, v].map(|of| values::<f32>(of.0, of.1));
        let guards = lock(self.of_queries.each_ref());
        let (firsts, visible) = (locked::<u32>(&guards[0])?, locked::<u32>(&guards[1])?);
        // SAFETY: the block of each query writes its rows of both.
        let (probabilities, y) =
            unsafe { (device.alloc::<f32>(count * self.longest)?, device.alloc::<f32>(count * hidden)?) };
        let sizes = (width as u32, hidden as u32, self.longest as u32);
        launch!(
            device,
            "add_attend",
            grid(count, THREADS),
            &query?,
            &both?,
            &v?,
            &firsts,
            &visible,
            &probabilities,
            &y,
            &sizes.0,
            &sizes.1,
            &sizes.2,
        );
        let probabilities = tensor(probabilities, &device, (count, self.longest));
        Ok((CudaStorage::wrap_cuda_slice(y, device), (count, hidden).into(), probabilities))
    }

    /// The gradients of query, keys and values side by side, and v.
    fn backward(&self, inputs: [&Tensor; 5], width: usize) -> Result<[Tensor; 3]> {
        let [g, query, both, ..] = inputs;
        let device = query.device().as_cuda_device()?;
        let (count, hidden, tokens) = (query.dim(0)?, g.dim(1)?, both.dim(0)?);
        let guards = lock(inputs);
        let [g, query, both, v, probabilities] = guards.each_ref().map(locked::<f32>);
        let (g, query, both, v, probabilities) = (g?, query?, both?, v?, probabilities?);
        let (of_queries, of_tokens) = (lock(self.of_queries.each_ref()), lock(self.of_tokens.each_ref()));
        let [firsts, visible] = of_queries.each_ref().map(locked::<u32>);
        let [places, starts, ends] = of_tokens.each_ref().map(locked::<u32>);
        // SAFETY: the block of each query writes its rows of these.
        let (of_scores, dq, dv) = unsafe {
            (
                device.alloc::<f32>(count * self.longest)?,
                device.alloc::<f32>(count * width)?,
                device.alloc::<f32>(count * width)?,
            )
        };
        // SAFETY: the block of each token writes its row.
        let dk = unsafe { device.alloc::<f32>(tokens * (width + hidden))? };
        let sizes = (width as u32, hidden as u32, self.longest as u32);
        launch!(
            device,
            "add_attend_queries",
            grid(count, THREADS),
            &g,
            &query,
            &both,
            &v,
            &firsts?,
            &visible?,
            &probabilities,
            &of_scores,
            &dq,
            &dv,
            &sizes.0,
            &sizes.1,
            &sizes.2,
        );
        launch!(
            device,
            "add_attend_keys",
            grid(tokens, THREADS),
            &g,
            &query,
            &both,
            &v,
            &probabilities,
            &of_scores,
            &places?,
            &starts?,
            &ends?,
            &dk,
            &sizes.0,
            &sizes.1,
            &sizes.2,
        );
        let dv = column_sums(&tensor(dv, device, (count, width)))?;
        Ok([tensor(dq, device, (count, width)), tensor(dk, device, (tokens, width + hidden)), dv])
    }
}
