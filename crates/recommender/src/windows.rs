//! Training windows (spec of training): a history shorter than L + L/2 is one window, its last L items; a
//! longer one gives windows of length L at every L/2, counted from the end, so that the latest items are
//! always covered and what does not fill a window at the beginning is left out.

use std::ops::Range;

use artifact::dataset::Dataset;
use artifact::settings;

use crate::fit::epoch_order;
use crate::{Purpose, Recommender, Streams, TrainingBatch};

/// One window: items `range` of the train sequence of the user with this index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Index of the user, from 0.
    pub user: usize,
    /// Place of the window in the user's train sequence.
    pub range: Range<usize>,
}

/// The windows of train sequences with these lengths, by user, latest first. Empty sequences give none.
pub fn windows(lengths: impl IntoIterator<Item = usize>, max_len: usize) -> Vec<Window> {
    let stride = (max_len / 2).max(1);
    let mut windows = Vec::new();
    for (user, length) in lengths.into_iter().enumerate() {
        if length == 0 {
            continue;
        }
        if length < max_len + max_len / 2 {
            windows.push(Window { user, range: length.saturating_sub(max_len)..length });
            continue;
        }
        let mut end = length;
        while end >= max_len {
            windows.push(Window { user, range: end - max_len..end });
            end -= stride;
        }
    }
    windows
}

/// The training samples of a data set: its windows in a new order each epoch, cut into batches.
///
/// What is drawn in a sample depends on the epoch and the window, not on the batch it falls into.
pub struct Samples<'a> {
    dataset: &'a Dataset,
    windows: Vec<Window>,
    objective: settings::Train,
    streams: Streams,
    batch: usize,
    order: (usize, Vec<usize>),
}

impl<'a> Samples<'a> {
    /// The samples of the train sequences of `dataset` in windows of `max_len`, `batch` at a time.
    pub fn new(
        dataset: &'a Dataset,
        max_len: usize,
        batch: usize,
        objective: &settings::Train,
        streams: Streams,
    ) -> Self {
        let windows = windows((0..dataset.users()).map(|user| dataset.train(user).len()), max_len);
        Self { dataset, windows, objective: objective.clone(), streams, batch, order: (0, Vec::new()) }
    }

    /// Number of samples in an epoch.
    pub fn count(&self) -> usize {
        self.windows.len()
    }

    /// Number of batches in an epoch, the last one possibly smaller.
    pub fn steps(&self) -> usize {
        self.windows.len().div_ceil(self.batch)
    }

    /// Batch `step` of `epoch`, as `model` makes samples of windows.
    pub fn batch(&mut self, model: &dyn Recommender, epoch: usize, step: usize) -> TrainingBatch {
        if self.order.0 != epoch || self.order.1.is_empty() {
            self.order = (epoch, epoch_order(self.windows.len(), &self.streams, epoch));
        }
        let begin = step * self.batch;
        let end = (begin + self.batch).min(self.windows.len());
        let mut batch = TrainingBatch::default();
        for &index in &self.order.1[begin..end] {
            let Window { user, range } = &self.windows[index];
            let mut stream = self.streams.open(Purpose::Masks, epoch as u64, index as u64, 0);
            let window = &self.dataset.train(*user)[range.clone()];
            model.sample(window, &self.objective, &mut stream, &mut batch);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_histories_give_one_window_and_long_ones_overlap() {
        let spans = |length, max_len| -> Vec<(usize, usize)> {
            windows([length], max_len).into_iter().map(|w| (w.range.start, w.range.end)).collect()
        };
        assert_eq!(spans(0, 10), []);
        assert_eq!(spans(4, 10), [(0, 4)]);
        assert_eq!(spans(14, 10), [(4, 14)]);
        assert_eq!(spans(15, 10), [(5, 15), (0, 10)]);
        assert_eq!(spans(23, 10), [(13, 23), (8, 18), (3, 13)]);
        assert_eq!(spans(3, 1), [(2, 3), (1, 2), (0, 1)]);
    }
}
