//! The third room: from interactions to the dataset of an experiment, which is `gro-preprocess run`
//! (docs/mathematics.md, section 1). [`filter`] decides
//! which users and items stay, [`identifiers`] gives them dense ids, [`order`] puts everybody's items in order of time, and
//! [`write`](mod@write) holds out the last two and writes the files that every later stage begins with. The log says what each step
//! left, and the numbers end up in `stats.json`. Nothing here depends on where the interactions came from.

pub mod filter;
pub mod identifiers;
pub mod order;
pub mod write;

use std::path::Path;

use artifact::dataset::Stats;
use stage::settings::{Checked, Filter, Preprocess};
use stage::{Flags, Outcome, Plan, Refusal, progress};

use crate::make::filter::Limits;
use crate::make::identifiers::Identifiers;
use crate::make::order::Sequences;
use crate::read::{self, Layout, layouts};

/// Makes the dataset in `out` from the ratings at `input`, a file or a directory with one, unless it is up to date.
///
/// # Errors
/// A refusal where the input is not as its layout has it, or nothing of it is left; else a failure to write.
pub fn dataset(input: &Path, out: &Path, settings: &Checked, flags: &Flags) -> anyhow::Result<Outcome> {
    let path = layouts::find(input, Layout::wanted(&settings.preprocess)?)?;
    let plan = Plan::new("gro-preprocess run", out, flags, settings, &["preprocess"]).input(&path);
    plan.produce(|directory| make(&path, directory, &settings.preprocess, flags.quiet))
}

fn make(path: &Path, directory: &Path, settings: &Preprocess, quiet: bool) -> anyhow::Result<()> {
    let bar = progress::byte_bar(0, "reading", quiet);
    let interactions = read::read(path, settings, &bar)?;
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
    let sequences = Sequences::build(&interactions, &users, &items, settings.ties);
    drop(interactions);
    let stats = write::leave_one_out(directory, &raw_items, &raw_users, &sequences)?;
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
