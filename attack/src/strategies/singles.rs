//! `singles`: an account for every item, and one question of each, about that item alone. Whatever a service makes of an account, it knows
//! nothing of one that has asked nothing yet, so that this thief is answered as a newcomer is. He learns what stands beside what; what follows
//! longer histories his copy has to work out.
//!
//! Items are asked about in a random order, and in another once all were: the first questions of a log are a thief of the same kind.

use artifact::settings::{Generate, Pick};
use rand_chacha::ChaCha8Rng;
use streams::{Purpose, shuffle};

use super::{Asked, Course, Division, QueryStrategy, Strategy, taking::Taking};
use crate::campaign::Campaign;

/// The registry's entry.
pub(super) const STRATEGY: Strategy = Strategy {
    name: "singles",
    title: "An account for every item, and one question of each, about that item alone",
    section: None,
    divide,
    course: Course::Straight(|campaign| Ok(Box::new(Singles::new(campaign)))),
};

/// An account for each of the `items`, unless the settings say how many.
#[expect(
    clippy::unnecessary_wraps,
    reason = "other strategies read settings of their own, which may be wrong"
)]
fn divide(settings: &Generate, _longest: usize, items: usize) -> Division {
    Ok((settings.accounts.unwrap_or(items), settings.questions.unwrap_or(1)))
}

/// The strategy: what accounts begin with, in their order; who asks more than once goes on as `autoregressive` does.
struct Singles {
    firsts: Vec<u32>,
    taking: Taking,
}

impl Singles {
    fn new(campaign: &Campaign<'_>) -> Self {
        let items = campaign.items;
        let pass = |pass: usize| {
            let mut order: Vec<u32> = (1..=items as u32).collect();
            shuffle(&mut order, &mut campaign.streams.open(Purpose::Singles, 0, pass as u64, 0));
            order
        };
        let firsts = (0..campaign.accounts.div_ceil(items.max(1))).flat_map(pass).take(campaign.accounts);
        Self { firsts: firsts.collect(), taking: Taking::new(campaign.settings, Pick::Uniform, items) }
    }
}

impl QueryStrategy for Singles {
    fn begin(&self, account: usize, _items: usize, _stream: &mut ChaCha8Rng) -> u32 {
        self.firsts[account]
    }

    fn next(&self, asked: &Asked<'_>, stream: &mut ChaCha8Rng) -> u32 {
        self.taking.from_list(asked.sequence, asked.list(), stream)
    }
}
