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
        let shared = self.shared(&positions, device)?;
        Ok(PackedBatch {
            shared,
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

impl Contexts {
    /// The tokens that rows have in common with the row before them, from its beginning, once; `None` where that saves less than half of
    /// them. `positions` are those of all tokens.
    fn shared(&self, positions: &[u32], device: &Device) -> Result<Option<Shared>> {
        let mut of: Vec<u32> = Vec::with_capacity(self.tokens.len());
        let (mut tokens, mut places) = (Vec::new(), Vec::new());
        let (mut start, mut before) = (0, 0..0);
        for &length in &self.lengths {
            let row = &self.tokens[start..start + length];
            let common = row.iter().zip(&self.tokens[before.clone()]).take_while(|(a, b)| a == b).count();
            of.extend_from_within(before.start..before.start + common);
            of.extend((tokens.len() as u32..).take(length - common));
            tokens.extend_from_slice(&row[common..]);
            places.extend_from_slice(&positions[start + common..start + length]);
            before = start..start + length;
            start += length;
        }
        if 2 * tokens.len() > self.tokens.len() {
            return Ok(None);
        }
        let count = tokens.len();
        Ok(Some(Shared {
            tokens: Tensor::from_vec(tokens, count, device)?,
            positions: Tensor::from_vec(places, count, device)?,
            of: of.into(),
        }))
    }
}

/// Tokens of a packed batch, each once that rows have in common: prefixes of one history, one after another, begin alike.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Token ids, `(distinct)`.
    pub tokens: Tensor,
    /// Their position ids, `(distinct)`.
    pub positions: Tensor,
    /// For each token of the rows, which of these it is.
    pub of: Arc<[u32]>,
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
    /// The tokens, each once that rows have in common, where that saves half of them or more.
    pub shared: Option<Shared>,
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
    fn rows_that_begin_alike_share_their_tokens() -> Result<()> {
        let mut contexts = Contexts::new();
        let (longest, last) = (&[5, 6, 7, 8, 4, 2, 9][..], &[3, 9]);
        for row in [&[5, 6, 9][..], &[5, 6, 7, 9], &[5, 6, 7, 8, 9], &[5, 6, 7, 8, 4, 9], longest, last] {
            contexts.push(row.iter().copied(), [row.len() as u32 - 1]);
        }
        let shared = contexts.upload(&Device::Cpu)?.shared.expect("most are shared");
        assert_eq!(shared.tokens.to_vec1::<u32>()?, [5, 6, 9, 7, 9, 8, 9, 4, 9, 2, 9, 3, 9]);
        assert_eq!(shared.positions.to_vec1::<u32>()?, [1, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 1, 2]);
        let expected = [0, 1, 2, 0, 1, 3, 4, 0, 1, 3, 5, 6, 0, 1, 3, 5, 7, 8, 0, 1, 3, 5, 7, 9, 10, 11, 12];
        assert_eq!(*shared.of, expected);
        contexts.push([1, 2, 3, 4, 5, 6], [0]);
        assert!(contexts.upload(&Device::Cpu)?.shared.is_none(), "19 of 33 tokens are distinct");
        Ok(())
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
