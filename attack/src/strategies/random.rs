//! `random`: each item is drawn uniformly from the whole catalogue, whatever was answered.

use artifact::settings::Pick;
use rand_chacha::ChaCha8Rng;

use super::{Asked, Course, QueryStrategy, Strategy, as_set, taking::Taking};

/// The registry's entry.
pub(super) const STRATEGY: Strategy = Strategy {
    name: "random",
    title: "Each item is drawn from the whole catalogue",
    section: None,
    divide: as_set,
    course: Course::Straight(|campaign| {
        Ok(Box::new(Random(Taking::new(campaign.settings, Pick::Uniform, campaign.items))))
    }),
};

struct Random(Taking);

impl QueryStrategy for Random {
    fn next(&self, asked: &Asked<'_>, stream: &mut ChaCha8Rng) -> u32 {
        self.0.from_catalogue(asked.sequence, stream)
    }
}
