//! A packed batch: the real tokens of all rows one after the other, and the places whose states are wanted.
//! Padding does not exist here; a row of length c uses positions 1..=c (docs/mathematics.md, section 2), so a row means
//! the same whatever stands around it. States are computed for the picked places and no others.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use kernels::{QueryTokens, Rows};
use rand::Rng;
use streams::choose;

use crate::Result;

/// Packed rows of item ids with picked places, on the host.
#[derive(Clone, Debug, Default)]
pub struct Contexts {
    tokens: Vec<u32>,
    lengths: Vec<usize>,
    places: Vec<u32>,
    picks: Vec<usize>,
}

impl Contexts {
    /// No rows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a row of token ids, of which the states at `places` (ascending, counted within the row from 0)
    /// are wanted.
    pub fn push(&mut self, tokens: impl IntoIterator<Item = u32>, places: impl IntoIterator<Item = u32>) {
        let (before, picked) = (self.tokens.len(), self.places.len());
        self.tokens.extend(tokens);
        self.places.extend(places);
        self.lengths.push(self.tokens.len() - before);
        self.picks.push(self.places.len() - picked);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Number of tokens over all rows.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Number of picked places over all rows: the rows of what a model's `encode` returns.
    pub fn positions(&self) -> usize {
        self.places.len()
    }

    /// The same rows with at most `most` of the picked places in each, drawn from `stream`, and which of the picked
    /// places these are, in ascending order.
    pub fn thinned(&self, most: usize, stream: &mut impl Rng) -> (Self, Vec<u32>) {
        let mut kept = Vec::with_capacity(self.places.len());
        let mut picks = Vec::with_capacity(self.picks.len());
        let mut next = 0;
        for &count in &self.picks {
            let chosen = choose(count, most, stream);
            picks.push(chosen.len());
            kept.extend(chosen.into_iter().map(|pick| (next + pick) as u32));
            next += count;
        }
        let places = kept.iter().map(|&pick| self.places[pick as usize]).collect();
        (Self { tokens: self.tokens.clone(), lengths: self.lengths.clone(), places, picks }, kept)
    }

    /// Uploads the batch.
    pub fn upload(&self, device: &Device) -> Result<PackedBatch> {
        let total = self.tokens.len();
        let mut positions = Vec::with_capacity(total);
        let mut picked = Vec::with_capacity(self.places.len());
        let (mut start, mut next) = (0u32, 0);
        for (&length, &picks) in self.lengths.iter().zip(&self.picks) {
            positions.extend(1..=length as u32);
            picked.extend(self.places[next..next + picks].iter().map(|place| start + place));
            start += length as u32;
            next += picks;
        }
        let everything = picked.len() == total;
        Ok(PackedBatch {
            tokens: Tensor::from_slice(&self.tokens, total, device)?,
            positions: Tensor::from_vec(positions, total, device)?,
            rows: Rows::from_lengths(self.lengths.iter().copied()),
            picked: if everything { None } else { Some(Tensor::from_slice(&picked, picked.len(), device)?) },
            // A row of one token has one query that is picked, beside longer rows as among its like: the same bytes.
            queries: if everything && self.lengths.iter().any(|&length| length > 1) {
                QueryTokens::All
            } else {
                QueryTokens::Picked {
                    rows: Rows::from_lengths(self.picks.iter().copied()),
                    places: Arc::from(self.places.as_slice()),
                }
            },
        })
    }
}

/// A packed batch on a device.
#[derive(Clone, Debug)]
pub struct PackedBatch {
    /// Token ids, `(tokens)`.
    pub tokens: Tensor,
    /// Position ids from 1 within each row, `(tokens)`.
    pub positions: Tensor,
    /// Where each row begins and ends.
    pub rows: Rows,
    /// Index of each picked place among the tokens, `(positions)`; none where every place is picked.
    pub picked: Option<Tensor>,
    /// The picked places as attention wants them.
    pub queries: QueryTokens,
}

impl PackedBatch {
    /// The rows of `x` `(tokens, hidden)` at the picked places, `(positions, hidden)`.
    pub fn pick(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match &self.picked {
            Some(picked) => kernels::embedding(x, picked)?,
            None => x.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streams::{Purpose, Streams};

    #[test]
    fn thinning_leaves_rows_and_takes_places() {
        let mut contexts = Contexts::new();
        contexts.push([5, 6, 7, 8], [0, 1, 2, 3]);
        contexts.push([9], [0]);
        let mut stream = Streams::new(1).open(Purpose::LabelPositions, 0, 0, 0);
        let (thin, kept) = contexts.thinned(2, &mut stream);
        assert_eq!((thin.rows(), thin.tokens(), thin.positions()), (2, 5, 3));
        assert!(kept[0] < kept[1] && kept[1] < 4 && kept[2] == 4, "{kept:?}");
        assert_eq!(thin.places, [kept[0], kept[1], 0]);
    }

    #[test]
    fn positions_restart_with_each_row() -> Result<()> {
        let mut contexts = Contexts::new();
        contexts.push([5, 6, 7], [2]);
        contexts.push([9], []);
        contexts.push([3, 4], [0, 1]);
        assert_eq!((contexts.rows(), contexts.tokens(), contexts.positions()), (3, 6, 3));
        let placed = contexts.upload(&Device::Cpu)?;
        assert_eq!(placed.positions.to_vec1::<u32>()?, [1, 2, 3, 1, 1, 2]);
        let picked = placed.picked.as_ref().map(Tensor::to_vec1::<u32>).transpose()?;
        assert_eq!(picked, Some(vec![2, 4, 5]));
        Ok(())
    }
}
