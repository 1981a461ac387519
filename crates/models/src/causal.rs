//! What the causal architectures share: every place of a row predicts the item that comes after it, so that one
//! row holds the questions after all prefixes of a history.

use std::ops::Range;

use artifact::settings::{Sampling, Train};

use crate::{Contexts, TrainingBatch};

/// [`Recommender::push_prefixes`](crate::Recommender::push_prefixes) of a causal model: one row for all prefixes that fit into
/// `max_len` items, and a row of its latest items for each longer one.
pub fn push_prefixes(history: &[u32], prefixes: &[usize], max_len: usize, contexts: &mut Contexts) {
    let (whole, longer) = prefixes.split_at(prefixes.partition_point(|&length| length <= max_len));
    if let Some(&longest) = whole.last() {
        contexts.push(history[..longest].iter().copied(), whole.iter().map(|&length| length as u32 - 1));
    }
    for &length in longer {
        contexts.push(history[length - max_len..length].iter().copied(), [max_len as u32 - 1]);
    }
}

/// [`Recommender::sample`](crate::Recommender::sample) of a causal model: the window shifted by one place as
/// input, its items as labels.
///
/// The item before the window, if there is one, is input only, so that the window's first item is a label too;
/// the authors' code gives it to histories of a single window only. With [`Sampling::Prefixes`] the label is
/// the last item alone.
pub fn sample(history: &[u32], window: Range<usize>, objective: &Train, batch: &mut TrainingBatch) {
    let first = window.start.max(1);
    let input = &history[first - 1..window.end - 1];
    let asked = match objective.sampling {
        Sampling::Windows => 0..input.len(),
        Sampling::Prefixes => input.len() - 1..input.len(),
    };
    batch.labels.extend_from_slice(&history[first + asked.start..window.end]);
    batch.contexts.push(input.iter().copied(), asked.map(|place| place as u32));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_answers_all_prefixes_that_fit() {
        let mut contexts = Contexts::new();
        push_prefixes(&[1, 2, 3, 4, 5], &[1, 3, 4, 5], 3, &mut contexts);
        assert_eq!((contexts.rows(), contexts.positions(), contexts.tokens()), (3, 4, 9));
        let mut last = Contexts::new();
        push_prefixes(&[1, 2, 3, 4, 5], &[5], 3, &mut last);
        assert_eq!((last.rows(), last.positions(), last.tokens()), (1, 1, 3));
    }

    #[test]
    fn a_window_predicts_each_of_its_items_from_those_before() {
        let history = [5, 6, 7, 8, 9];
        let labels = |window, sampling| {
            let mut batch = TrainingBatch::default();
            sample(&history, window, &Train { sampling, ..Train::default() }, &mut batch);
            assert_eq!(batch.contexts.positions(), batch.labels.len());
            (batch.contexts.tokens(), batch.labels)
        };
        assert_eq!(labels(0..5, Sampling::Windows), (4, vec![6, 7, 8, 9]));
        assert_eq!(labels(2..5, Sampling::Windows), (3, vec![7, 8, 9]), "item 6 is input only");
        assert_eq!(labels(2..5, Sampling::Prefixes), (3, vec![9]));
    }
}
