//! Training windows (docs/mathematics.md, section 3.1): a history shorter than L + L/2 is one window, its last L items; a
//! longer one gives windows of length L at every L/2, counted from the end, so that the latest items are
//! always covered and what does not fill a window at the beginning is left out. With `sampling: prefixes` every
//! item but the first ends a window of its own. A history of a single item has nothing to predict it from.

use std::ops::Range;

use artifact::dataset::Dataset;
use artifact::settings::{self, Sampling};
use models::{Recommender, TrainingBatch};
use streams::{Purpose, Streams};

use crate::fit::epoch_order;
use crate::validation::some_users;
use crate::{Error, Result};

/// One window: items `range` of the train sequence of the user with this index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Index of the user, from 0.
    pub user: usize,
    /// Place of the window in the user's train sequence.
    pub range: Range<usize>,
}

/// The windows of train sequences with these lengths, by user, latest first. Sequences of fewer than two items
/// give none.
pub fn windows(lengths: impl IntoIterator<Item = usize>, max_len: usize) -> Vec<Window> {
    let stride = (max_len / 2).max(1);
    let mut windows = Vec::new();
    for (user, length) in lengths.into_iter().enumerate() {
        if length < 2 {
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

/// A window of at most `max_len` items before the end of every prefix of at least two items, by user.
pub fn prefixes(lengths: impl IntoIterator<Item = usize>, max_len: usize) -> Vec<Window> {
    let of_user = |(user, length)| {
        (2..=length).map(move |end: usize| Window { user, range: end.saturating_sub(max_len)..end })
    };
    lengths.into_iter().enumerate().flat_map(of_user).collect()
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
    ///
    /// # Errors
    /// [`Error::Request`] where no train sequence has two items.
    pub fn new(
        dataset: &'a Dataset,
        max_len: usize,
        batch: usize,
        objective: &settings::Train,
        streams: Streams,
    ) -> Result<Self> {
        let lengths = (0..dataset.users()).map(|user| dataset.train(user).len());
        let windows = match objective.sampling {
            Sampling::Windows => windows(lengths, max_len),
            Sampling::Prefixes => prefixes(lengths, max_len),
        };
        if windows.is_empty() {
            return Err(Error::Request(
                "no user has two items to train on, one to learn from and one to predict; lower the counts that \
                 preprocess.min_item_count asks for, or give more data"
                    .to_owned(),
            ));
        }
        Ok(Self { dataset, windows, objective: objective.clone(), streams, batch, order: (0, Vec::new()) })
    }

    /// Number of samples in an epoch.
    pub fn count(&self) -> usize {
        self.objective.epoch_samples.map_or(self.windows.len(), |most| most.min(self.windows.len()))
    }

    /// Users whose next item is asked for in a validation.
    pub fn validation_users(&self) -> Vec<usize> {
        some_users(self.dataset.users(), self.objective.validation_users)
    }

    /// Tokens of a batch of the longest samples, and of the longest sample: for estimates of memory. A mask or an item before the
    /// window may add one.
    pub fn largest_batch(&self) -> (f64, f64) {
        let mut lengths: Vec<usize> = self.windows.iter().map(|window| window.range.len() + 1).collect();
        lengths.sort_unstable_by(|left, right| right.cmp(left));
        let tokens: usize = lengths.iter().take(self.batch).sum();
        (tokens as f64, lengths.first().copied().unwrap_or(0) as f64)
    }

    /// Number of batches in an epoch, the last one possibly smaller.
    pub fn steps(&self) -> usize {
        self.count().div_ceil(self.batch)
    }

    /// Batch `step` of `epoch`, as `model` makes samples of windows.
    pub fn batch(&mut self, model: &dyn Recommender, epoch: usize, step: usize) -> TrainingBatch {
        self.turn_to(epoch);
        let mut batch = TrainingBatch::default();
        for &index in self.drawn(step) {
            let Window { user, range } = &self.windows[index];
            let mut stream = self.streams.open(Purpose::Masks, epoch as u64, index as u64, 0);
            let history = self.dataset.train(*user);
            model.sample(history, range.clone(), &self.objective, &mut stream, &mut batch);
        }
        batch
    }

    /// The items in the windows of batch `step` of `epoch`, in the order of the batch.
    pub fn items(&mut self, epoch: usize, step: usize) -> Vec<&'a [u32]> {
        let dataset = self.dataset;
        let items = |window: &Window| &dataset.train(window.user)[window.range.clone()];
        self.turn_to(epoch);
        self.drawn(step).iter().map(|&index| items(&self.windows[index])).collect()
    }

    /// Makes the order of `epoch` the current one.
    fn turn_to(&mut self, epoch: usize) {
        if self.order.0 != epoch || self.order.1.is_empty() {
            self.order = (epoch, epoch_order(self.windows.len(), &self.streams, epoch));
        }
    }

    /// The windows of batch `step` of the current epoch.
    fn drawn(&self, step: usize) -> &[usize] {
        let begin = step * self.batch;
        &self.order.1[begin..(begin + self.batch).min(self.count())]
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
        assert_eq!(spans(1, 10), []);
        assert_eq!(spans(4, 10), [(0, 4)]);
        assert_eq!(spans(14, 10), [(4, 14)]);
        assert_eq!(spans(15, 10), [(5, 15), (0, 10)]);
        assert_eq!(spans(23, 10), [(13, 23), (8, 18), (3, 13)]);
        assert_eq!(spans(3, 1), [(2, 3), (1, 2), (0, 1)]);
    }

    #[test]
    fn data_without_anything_to_predict_is_refused() {
        use artifact::dataset::UserSequence;
        let raw_ids = ["1", "2", "3"].map(str::to_owned);
        let samples = |train: &[u32]| {
            let user = UserSequence { train, valid: 2, test: Some(3) };
            let dataset = Dataset::from_sequences(&raw_ids, [user]).unwrap();
            Samples::new(&dataset, 5, 1, &settings::Train::default(), Streams::new(1)).map(|s| s.count())
        };
        assert_eq!(samples(&[1, 2]).unwrap(), 1);
        let refusal = samples(&[1]).unwrap_err();
        assert!(matches!(&refusal, Error::Request(message) if message.contains("two items")), "{refusal}");
    }

    #[test]
    fn an_epoch_may_be_a_part_of_the_samples_which_differs_from_the_next() {
        use artifact::dataset::UserSequence;
        let raw_ids = ["1", "2", "3"].map(str::to_owned);
        let user = |train| UserSequence { train, valid: 2, test: Some(3) };
        let users = [&[1, 2], &[2, 1], &[3, 1], &[1, 3], &[2, 3]].map(|train| user(train));
        let dataset = Dataset::from_sequences(&raw_ids, users).unwrap();
        let objective = settings::Train { epoch_samples: Some(3), ..settings::Train::default() };
        let mut samples = Samples::new(&dataset, 5, 2, &objective, Streams::new(1)).unwrap();
        assert_eq!((samples.count(), samples.steps()), (3, 2));
        let mut epoch = |epoch| -> Vec<Vec<u32>> {
            (0..2).flat_map(|step| samples.items(epoch, step)).map(<[u32]>::to_vec).collect()
        };
        let mut seen = epoch(1);
        assert_eq!(seen.len(), 3);
        for later in 2..20 {
            seen.extend(epoch(later));
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 5, "in time every sample is drawn");
    }

    #[test]
    fn every_prefix_ends_a_window_of_its_own() {
        let spans: Vec<_> =
            prefixes([1, 4, 2], 3).into_iter().map(|w| (w.user, w.range.start, w.range.end)).collect();
        assert_eq!(spans, [(1, 0, 2), (1, 0, 3), (1, 1, 4), (2, 0, 2)]);
    }
}
