//! What a test item is ranked against where that is not the whole catalogue: the sampled protocols.
//!
//! Each user's negatives are drawn without replacement, uniformly or as likely as items are frequent (train, validation
//! and test together, the counts of items.parquet); never the item that is looked for, and with `exclude_seen` no item of the history.
//! The draw is keyed by the seed and the user and by nothing else, so target, surrogate, every defence and the popular
//! items are asked about the same candidates, which is what lets them be compared user by user.

use artifact::dataset::Dataset;
use artifact::settings::{Evaluate, HeldOut, Ranking};
use metrics::Answers;
use stage::Refusal;
use streams::negatives::Negatives;
use streams::{Purpose, Streams};

use super::held_out::HeldOutItems;

/// The candidates of every user: the test item and its negatives.
#[derive(Debug, Clone)]
pub struct Candidates {
    negatives: Negatives,
    count: usize,
    exclude_seen: bool,
    held_out: HeldOut,
    streams: Streams,
}

impl Candidates {
    /// The candidates that the settings ask for; none where the test item is ranked against all items.
    ///
    /// Fails, as a refusal, where some user has fewer items left than are to be drawn.
    pub fn of(dataset: &Dataset, settings: &Evaluate, seed: u64) -> Result<Option<Self>, Refusal> {
        let negatives = match settings.ranking {
            Ranking::Full => return Ok(None),
            Ranking::Uniform => Negatives::uniform(dataset.items()),
            Ranking::Popularity => Negatives::weighted(dataset.item_counts()),
        };
        let candidates = Self {
            negatives,
            count: settings.negatives,
            exclude_seen: settings.exclude_seen,
            held_out: settings.held_out,
            streams: Streams::new(seed),
        };
        candidates.check(dataset)?;
        Ok(Some(candidates))
    }

    fn check(&self, dataset: &Dataset) -> Result<(), Refusal> {
        for user in HeldOutItems::of(dataset, self.held_out).users() {
            let left = self.negatives.left(&self.excluded(dataset, user));
            if left < self.count {
                return Err(Refusal::new(format!(
                    "`evaluate.negatives` is {}, but user {} leaves {left} of the {} items to draw from; set it to at most \
                     {left}",
                    self.count,
                    user + 1,
                    dataset.items()
                )));
            }
        }
        Ok(())
    }

    /// What is not drawn for a user: the test item, and the history where seen items are left out.
    fn excluded(&self, dataset: &Dataset, user: usize) -> Vec<u32> {
        let held_out = HeldOutItems::of(dataset, self.held_out);
        let mut excluded: Vec<u32> = held_out.item(user).into_iter().collect();
        if self.exclude_seen {
            excluded.extend(held_out.history(user));
        }
        excluded
    }

    /// The candidates of some users, a row each: the test item first, then its negatives; `(users, 1 + negatives)`.
    ///
    /// Never fails for the dataset that they are of, and users that have a test item.
    pub fn draw(&self, dataset: &Dataset, users: &[usize]) -> anyhow::Result<Answers> {
        let mut ids = Vec::with_capacity(users.len() * (1 + self.count));
        for &user in users {
            let mut stream = self.streams.open(Purpose::Candidates, 0, user as u64, 0);
            ids.extend(HeldOutItems::of(dataset, self.held_out).item(user));
            ids.extend(self.negatives.draw(self.count, &self.excluded(dataset, user), &mut stream)?);
        }
        Ok(Answers::new(1 + self.count, ids)?)
    }
}
