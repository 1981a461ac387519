//! What is held out of everybody's sequence, by the last two items or by a point in time. The files
//! themselves are [`artifact::dataset`]'s.

use std::path::Path;

use artifact::dataset::{self, Stats, UserSequence};
use stage::Refusal;

use crate::make::order::Sequences;

/// The raw ids of items and users, in the order of their dense ids.
#[derive(Clone, Copy, Debug)]
pub struct RawIds<'a> {
    /// Of items.
    pub items: &'a [String],
    /// Of users.
    pub users: &'a [String],
}

/// Leave one out: the last item of a user is for testing, the one before for validation, the rest for training.
///
/// # Errors
/// A refusal for a user with fewer than three interactions; a failure to write.
pub fn leave_one_out(directory: &Path, raw: RawIds<'_>, sequences: &Sequences) -> anyhow::Result<Stats> {
    let short = (0..sequences.users()).find(|&user| sequences.of(user).len() < 3);
    if let Some(user) = short {
        // The check of the settings excludes this. If it did not, such a user would be left out without a word.
        let message =
            format!("user {} has fewer than 3 interactions, so they cannot be split", raw.users[user]);
        return Err(Refusal::new(message).into());
    }
    let rows = (0..sequences.users()).filter_map(|user| match sequences.of(user) {
        [train @ .., valid, test] => Some(UserSequence { train, valid: *valid, test: Some(*test) }),
        _ => None,
    });
    Ok(dataset::write_tables(directory, raw.items, raw.users, true, rows)?)
}

/// One point in time: of the first `before[user]` items of a user, at least two, the last is for validation, and the item after
/// them, if any, for testing.
///
/// # Errors
/// A failure to write.
pub fn at_point(
    directory: &Path,
    raw: RawIds<'_>,
    sequences: &Sequences,
    before: &[usize],
) -> anyhow::Result<Stats> {
    let rows = (0..sequences.users()).filter_map(|user| {
        let (before, after) = sequences.of(user).split_at_checked(before[user])?;
        let (valid, train) = before.split_last()?;
        Some(UserSequence { train, valid: *valid, test: after.first().copied() })
    });
    Ok(dataset::write_tables(directory, raw.items, raw.users, false, rows)?)
}
