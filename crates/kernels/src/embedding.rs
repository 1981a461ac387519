//! Looking rows of a table up by id.

use candle_core::{Result, Tensor};

/// Row `ids[t]` of `table` for each `t`: `table` is `(rows, hidden)`, `ids` `(tokens)` of u32; the result is `(tokens, hidden)`.
///
/// The gradient of the table is dense, `(rows, hidden)`; tokens with equal ids add up in token order whatever the threads.
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    plain(table, ids)
}

/// Plain twin.
pub(crate) fn plain(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    table.index_select(ids, 0)
}
