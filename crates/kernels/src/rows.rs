//! Where each row of a packed batch lies.
//!
//! Padding is never stored: a batch of histories of different lengths is one long run of tokens, and [`Rows`] says where each
//! history begins and ends.

use std::{ops::Range, sync::Arc};

use candle_core::{Result, bail};

/// Offsets of packed rows: row `r` is the tokens `offsets[r]..offsets[r + 1]`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    offsets: Arc<[usize]>,
}

impl Rows {
    /// Rows from their offsets: one more offset than rows, the first 0, none smaller than the one before it.
    pub fn new(offsets: impl Into<Arc<[usize]>>) -> Result<Self> {
        let offsets = offsets.into();
        if offsets.first() != Some(&0) {
            bail!("rows: the first offset must be 0, found {:?}", offsets.first());
        }
        if let Some(place) = offsets.windows(2).position(|pair| pair[1] < pair[0]) {
            bail!(
                "rows: offset {} is {}, smaller than {} before it",
                place + 1,
                offsets[place + 1],
                offsets[place]
            );
        }
        Ok(Self { offsets })
    }

    /// Rows of the given lengths, one after another.
    pub fn from_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut end = 0;
        let mut offsets = vec![0];
        offsets.extend(lengths.into_iter().map(|length| {
            end += length;
            end
        }));
        Self { offsets: offsets.into() }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no row at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens of row `r`. Panics when there is no such row, as indexing does.
    pub fn row(&self, r: usize) -> Range<usize> {
        self.offsets[r]..self.offsets[r + 1]
    }

    /// Number of tokens in row `r`.
    pub fn length(&self, r: usize) -> usize {
        self.offsets[r + 1] - self.offsets[r]
    }

    /// Number of tokens of all rows together.
    pub fn tokens(&self) -> usize {
        self.offsets[self.len()]
    }

    /// Number of tokens of the longest row; 0 without rows.
    pub fn longest(&self) -> usize {
        (0..self.len()).map(|r| self.length(r)).max().unwrap_or(0)
    }

    /// The offsets themselves, one more than rows.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }
}
