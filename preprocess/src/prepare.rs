//! `gro-preprocess run`: the whole way from a ratings file to the data of an experiment (docs/mathematics.md, section 1). Each step
//! says in the log what it left; the numbers end up in `stats.json`.

use std::path::Path;

use artifact::dataset::{self, Stats, UserSequence};
use stage::settings::{Checked, Filter, Preprocess, Ties};
use stage::{Flags, Outcome, Plan, Refusal, progress};

use crate::filter::{self, Limits};
use crate::identifiers::Identifiers;
use crate::sequences::{Sequences, TieRule};
use crate::{layout, reader};

/// Makes the data in `out` from the ratings at `input`, a file or a directory with one, unless it is up to date.
pub fn prepare(input: &Path, out: &Path, settings: &Checked, flags: &Flags) -> anyhow::Result<Outcome> {
    let path = layout::find(input, layout::wanted(&settings.preprocess))?;
    let plan = Plan::new("gro-preprocess run", out, flags, settings, &["preprocess"]).input(&path);
    plan.produce(|directory| write(&path, directory, &settings.preprocess, flags.quiet))
}

fn write(path: &Path, directory: &Path, settings: &Preprocess, quiet: bool) -> anyhow::Result<()> {
    let bar = progress::byte_bar(0, "reading", quiet);
    let interactions = reader::read(path, settings, &bar)?;
    bar.finish_and_clear();
    let raw = (interactions.rows_read, interactions.users.len() as u64, interactions.items.len() as u64);
    tracing::info!(
        "read {} interactions of {} users with {} items from {}",
        raw.0,
        raw.1,
        raw.2,
        path.display()
    );

    let limits = Limits {
        item: settings.min_item_count as u64,
        user: settings.min_user_count as u64,
        core: settings.filter == Filter::Core,
    };
    let kept = filter::filter(
        &interactions.user_codes,
        &interactions.item_codes,
        interactions.users.len(),
        interactions.items.len(),
        limits,
    );
    if kept.interactions == 0 {
        let message = format!(
            "nothing is left of the {} interactions in {}; lower preprocess.min_item_count ({}), \
             preprocess.min_user_count ({}) or preprocess.min_rating ({})",
            raw.0,
            path.display(),
            settings.min_item_count,
            settings.min_user_count,
            settings.min_rating
        );
        return Err(Refusal::new(message).into());
    }

    let users = Identifiers::assign(&interactions.users, &kept.users);
    let items = Identifiers::assign(&interactions.items, &kept.items);
    let raw_users = users.texts(&interactions.users);
    let raw_items = items.texts(&interactions.items);
    let ties = match settings.ties {
        Ties::Item => TieRule::Item,
        Ties::Input => TieRule::Input,
    };
    let sequences = Sequences::build(&interactions, &users, &items, ties);
    drop(interactions);
    let stats = split_and_write(directory, &raw_items, &raw_users, &sequences)?;
    tracing::info!(
        "kept {} interactions of {} users with {} items, {:.1} a user",
        stats.interactions,
        stats.users,
        stats.items,
        stats.mean_length
    );
    let stats =
        Stats { raw_interactions: Some(raw.0), raw_users: Some(raw.1), raw_items: Some(raw.2), ..stats };
    stats.write(directory)?;
    Ok(())
}

/// Leave one out: the last item is for testing, the one before for validation.
fn split_and_write(
    directory: &Path,
    raw_items: &[String],
    raw_users: &[String],
    sequences: &Sequences,
) -> anyhow::Result<Stats> {
    let short = (0..sequences.users()).find(|&user| sequences.of(user).len() < 3);
    if let Some(user) = short {
        // The check of the settings excludes this; past it, an unsplittable user would be silently wrong data.
        let message =
            format!("user {} has fewer than 3 interactions, so they cannot be split", raw_users[user]);
        return Err(Refusal::new(message).into());
    }
    let rows = (0..sequences.users()).filter_map(|user| match sequences.of(user) {
        [train @ .., valid, test] => Some(UserSequence { train, valid: *valid, test: *test }),
        _ => None,
    });
    Ok(dataset::write(directory, raw_items, raw_users, rows)?)
}
