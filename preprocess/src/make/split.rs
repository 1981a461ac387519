//! One point in time for everybody, instead of everybody's last items: what lies before is for training and validation, and the
//! first item of a user from there on is for testing. No model then learns from what others did after a test item (Meng et
//! al., RecSys 2020, arXiv 2007.13237; Ji et al., TOIS 2023, arXiv 2010.11060).

use stage::Refusal;

use crate::make::filter::{Kept, both};
use crate::read::interactions::Interactions;
use crate::read::timestamps::Timestamps;

/// A point in time, and what lies before it.
#[derive(Debug, PartialEq, Eq)]
pub struct Point {
    /// How the time was written, for messages.
    pub time: String,
    /// By user code: how many of the interactions that are kept lie before.
    pub before: Vec<usize>,
}

/// Interactions that a user needs before the point: one to train on and one to validate.
const LEAST: usize = 2;

impl Point {
    /// The point before which `share` of the interactions lie that are kept, up to those at the same time.
    ///
    /// # Errors
    /// A refusal of interactions without times.
    pub fn of(interactions: &Interactions, kept: &Kept, share: f64) -> Result<Self, Refusal> {
        let Some(times) = &interactions.times else {
            return Err(Refusal::new(
                "`preprocess.split` is time, and the interactions have no times; name them in preprocess.columns.timestamp, or \
                 set preprocess.split=leave-one-out",
            ));
        };
        let rows = || both(&interactions.user_codes, &kept.users, &interactions.item_codes, &kept.items);
        let mut keys: Vec<i64> = rows().map(|row| times.keys()[row]).collect();
        let place = ((keys.len() as f64 * share) as usize).min(keys.len().saturating_sub(1));
        if keys.is_empty() {
            return Ok(Self { time: String::new(), before: vec![0; interactions.users.len()] });
        }
        let (_, &mut point, _) = keys.select_nth_unstable(place);
        let mut before = vec![0; interactions.users.len()];
        for row in rows().filter(|&row| times.keys()[row] < point) {
            before[interactions.user_codes[row] as usize] += 1;
        }
        Ok(Self { time: Timestamps::show(times, point), before })
    }

    /// Drops the users with too few interactions before the point; returns how many went.
    pub fn narrow(&self, kept: &mut Kept, interactions: &Interactions) -> usize {
        let mut lost = 0;
        for (kept, &before) in kept.users.iter_mut().zip(&self.before) {
            lost += usize::from(*kept && before < LEAST);
            *kept &= before >= LEAST;
        }
        kept.settle(&interactions.user_codes, &interactions.item_codes);
        lost
    }
}
