//! Leave one out: the last item of a user is for testing, the one before for validation, the rest for training. The files
//! themselves are [`artifact::dataset`]'s.

use std::path::Path;

use artifact::dataset::{self, Stats, UserSequence};
use stage::Refusal;

use crate::make::order::Sequences;

/// Splits the sequences and writes them, with the raw ids of items and users in the order of their dense ids.
///
/// # Errors
/// A refusal for a user with fewer than three interactions; a failure to write.
pub fn leave_one_out(
    directory: &Path,
    raw_items: &[String],
    raw_users: &[String],
    sequences: &Sequences,
) -> anyhow::Result<Stats> {
    let short = (0..sequences.users()).find(|&user| sequences.of(user).len() < 3);
    if let Some(user) = short {
        // The check of the settings excludes this. If it did not, such a user would be left out without a word.
        let message =
            format!("user {} has fewer than 3 interactions, so they cannot be split", raw_users[user]);
        return Err(Refusal::new(message).into());
    }
    let rows = (0..sequences.users()).filter_map(|user| match sequences.of(user) {
        [train @ .., valid, test] => Some(UserSequence { train, valid: *valid, test: *test }),
        _ => None,
    });
    Ok(dataset::write_tables(directory, raw_items, raw_users, rows)?)
}
