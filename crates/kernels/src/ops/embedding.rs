//! Looking rows of a table up by id.
//!
//! Many tokens may look up the same row, whose gradient is then a sum. The tokens are sorted by id (a stable counting sort) and
//! each task takes a range of ids: gradients of equal ids add in token order whatever the threads, and no task needs a table of
//! partial sums.

use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::cpu::{
    apply,
    chunks::{self, TOKENS},
    lanes, vectorized,
};

/// Row `ids[t]` of `table` for each `t`: `table` is `(rows, hidden)`, `ids` `(tokens)` of u32; the result is `(tokens, hidden)`.
///
/// The gradient of the table is dense, `(rows, hidden)`; tokens with equal ids add up in token order whatever the threads.
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    if crate::fused(table.device()) { fused(table, ids) } else { plain(table, ids) }
}

/// Plain twin: candle's own lookup, but with [`SegmentSum`] as its gradient, since candle's is slow on CUDA. The table may be of
/// any type.
pub(crate) fn plain(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    table.contiguous()?.apply_op2(&ids.contiguous()?, Gather)
}

pub(crate) fn fused(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let ids = checked_ids(ids, table.dim(0)?)?;
    table.contiguous()?.apply_op1(Lookup { ids })
}

/// The ids, checked to lie within a table of `rows` rows.
pub(crate) fn checked_ids(ids: &Tensor, rows: usize) -> Result<Arc<[u32]>> {
    let ids = ids.to_vec1::<u32>()?;
    if let Some(place) = ids.iter().position(|&id| id as usize >= rows) {
        bail!("embedding: id {} at place {place} is outside a table of {rows} rows", ids[place]);
    }
    Ok(ids.into())
}

/// Fills the rows `y` with those of `table` that `ids` name.
pub(crate) fn gather(y: &mut [f32], table: &[f32], ids: &[u32]) {
    let hidden = y.len() / ids.len().max(1);
    for (row, &id) in y.chunks_exact_mut(hidden.max(1)).zip(ids) {
        row.copy_from_slice(&table[id as usize * hidden..][..hidden]);
    }
}

/// The gradient of a table of `rows` rows, from the gradient `g` `(ids, hidden)` of the rows looked up.
pub(crate) fn gradient(g: &[f32], ids: &[u32], rows: usize, hidden: usize) -> Vec<f32> {
    let sorted = Sorted::new(ids, rows, |_| true);
    let mut gradient = vec![0.0; rows * hidden];
    gradient
        .par_chunks_mut(hidden)
        .with_min_len(16)
        .enumerate()
        .for_each(|(id, sum)| add_rows(sum, g, sorted.of(id)));
    gradient
}

/// The fused lookup: the ids are part of the operation.
struct Lookup {
    ids: Arc<[u32]>,
}

/// The plain lookup: table and ids are its arguments, on one device.
struct Gather;

impl CustomOp2 for Gather {
    fn name(&self) -> &'static str {
        "gather rows"
    }

    fn cpu_fwd(
        &self,
        table: &CpuStorage,
        table_layout: &Layout,
        ids: &CpuStorage,
        ids_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = (ids_layout.dims()[0], table_layout.dims()[1]);
        Ok((table.index_select(ids, table_layout, ids_layout, 0)?, shape.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        table: &CudaStorage,
        table_layout: &Layout,
        ids: &CudaStorage,
        ids_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let shape = (ids_layout.dims()[0], table_layout.dims()[1]);
        Ok((table.index_select(ids, table_layout, ids_layout, 0)?, shape.into()))
    }

    fn bwd(
        &self,
        table: &Tensor,
        ids: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = g.to_dtype(DType::F32)?.contiguous()?;
        let sums = g.apply_op2_no_bwd(ids, &SegmentSum { rows: table.dim(0)? })?;
        Ok((Some(sums.to_dtype(table.dtype())?), None))
    }
}

/// The gradient of a table of `rows` rows, from the gradient of the rows looked up and their ids: the ids are sorted, and the
/// gradients of equal ids added in their order.
struct SegmentSum {
    rows: usize,
}

impl CustomOp2 for SegmentSum {
    fn name(&self) -> &'static str {
        "segment sum"
    }

    fn cpu_fwd(
        &self,
        g: &CpuStorage,
        g_layout: &Layout,
        ids: &CpuStorage,
        ids_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let hidden = g_layout.dims()[1];
        let (CpuStorage::U32(ids), Some((start, end))) = (ids, ids_layout.contiguous_offsets()) else {
            bail!("segment sum: ids {:?} are not contiguous u32", ids_layout.dims())
        };
        let sums = gradient(chunks::slice(g, g_layout)?, &ids[start..end], self.rows, hidden);
        Ok((CpuStorage::F32(sums), (self.rows, hidden).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        g: &CudaStorage,
        g_layout: &Layout,
        ids: &CudaStorage,
        ids_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let hidden = g_layout.dims()[1];
        let sums = crate::cuda::segment_sum((g, g_layout), (ids, ids_layout), self.rows, hidden)?;
        Ok((sums, (self.rows, hidden).into()))
    }
}

/// Places sorted by their key: those of key `i` are `places[starts[i]..starts[i + 1]]`, ascending.
pub(crate) struct Sorted {
    pub(crate) starts: Vec<u32>,
    pub(crate) places: Vec<u32>,
}

impl Sorted {
    /// Sorts the places `0..keys.len()` for which `wanted` holds by their key, which is below `bound`.
    pub(crate) fn new(keys: &[u32], bound: usize, wanted: impl Fn(usize) -> bool) -> Self {
        let mut starts = vec![0u32; bound + 2];
        for (place, &key) in keys.iter().enumerate() {
            starts[key as usize + 2] += u32::from(wanted(place));
        }
        for key in 2..starts.len() {
            starts[key] += starts[key - 1];
        }
        let mut places = vec![0u32; starts[bound + 1] as usize];
        for (place, &key) in keys.iter().enumerate() {
            if wanted(place) {
                let next = &mut starts[key as usize + 1];
                places[*next as usize] = place as u32;
                *next += 1;
            }
        }
        starts.pop();
        Self { starts, places }
    }

    /// The places of this key.
    pub(crate) fn of(&self, key: usize) -> &[u32] {
        &self.places[self.starts[key] as usize..self.starts[key + 1] as usize]
    }
}

/// Adds to `sum` the rows of `g` at `places`.
#[apply(vectorized!)]
fn add_rows(sum: &mut [f32], g: &[f32], places: &[u32]) {
    let hidden = sum.len();
    for &place in places {
        let start = place as usize * hidden;
        lanes::axpy(sum, 1.0, &g[start..start + hidden]);
    }
}

impl CustomOp1 for Lookup {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, hidden) = layout.shape().dims2()?;
        let table = chunks::slice(storage, layout)?;
        let y = chunks::build(self.ids.len() * hidden, TOKENS * hidden, |index, y| {
            let start = index * TOKENS;
            gather(y, table, &self.ids[start..start + y.len() / hidden]);
        });
        Ok((CpuStorage::F32(y), (self.ids.len(), hidden).into()))
    }

    fn bwd(&self, table: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let (rows, hidden) = table.dims2()?;
        let gradient = chunks::with_values(g, |g| Ok(gradient(g, &self.ids, rows, hidden)))?;
        Ok(Some(Tensor::from_vec(gradient, table.shape(), table.device())?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::testing::{assert_twins, beside, ids, variable};

    #[test]
    fn twins_agree() {
        for (rows, hidden, tokens) in [(1, 1, 1), (9, 5, 400), (300, 64, 1500)] {
            let ids = Tensor::new(ids(3, tokens, rows as u32), &Device::Cpu).unwrap();
            let table = [variable(1, &[rows, hidden])];
            let truth = |v: &[Var]| v[0].index_select(&beside(&ids, v), 0);
            assert_twins("embedding", &table, 1e-6, |v| fused(&v[0], &ids), truth);
            assert_twins("plain embedding", &table, 1e-6, |v| plain(&v[0], &ids), truth);
        }
    }

    #[test]
    fn ids_outside_the_table_are_refused() {
        let ids = Tensor::new(&[0u32, 3], &Device::Cpu).unwrap();
        let message = fused(&variable(1, &[3, 2]), &ids).unwrap_err().to_string();
        assert!(message.contains("id 3 at place 1"), "{message}");
    }
}
