//! `autoregressive` (Yue, He, Zeng and McAuley, RecSys 2021): each item is drawn from the answer to those before it, uniformly unless
//! `generate.pick` says otherwise.

use artifact::settings::Pick;
use rand_chacha::ChaCha8Rng;

use super::{Asked, Course, QueryStrategy, Strategy, as_set, taking::Taking};

/// The registry's entry.
pub(super) const STRATEGY: Strategy = Strategy {
    name: "autoregressive",
    title: "Each item is drawn from the answer to those before it",
    section: None,
    divide: as_set,
    course: Course::Straight(|campaign| {
        Ok(Box::new(Autoregressive(Taking::new(campaign.settings, Pick::Uniform, campaign.items))))
    }),
};

/// The strategy, which is a way to take.
pub(super) struct Autoregressive(pub(super) Taking);

impl QueryStrategy for Autoregressive {
    fn next(&self, asked: &Asked<'_>, stream: &mut ChaCha8Rng) -> u32 {
        self.0.from_list(asked.sequence, asked.list(), stream)
    }
}
