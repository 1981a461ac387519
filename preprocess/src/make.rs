//! The third room: from interactions to the dataset of an experiment, which is `gro-preprocess run`
//! (docs/mathematics.md, section 1). [`repeats`] drops interactions that repeat others, [`filter`] decides
//! which users and items stay, [`identifiers`] gives them dense ids, [`order`] puts everybody's items in order of time, and
//! [`write`](mod@write) holds out the last two, or what [`split`] says, and writes the files that every later stage begins with. The log says what each step
//! took and what it left, and the numbers end up in `stats.json`. Nothing here depends on where the interactions came from.

pub mod filter;
pub mod identifiers;
pub mod order;
pub mod repeats;
pub mod split;
pub mod write;

use std::path::Path;

use artifact::dataset::Stats;
use stage::settings::{Checked, Filter, Preprocess, Repeats, Split};
use stage::{Flags, Outcome, Plan, Refusal, progress};

use crate::make::filter::{Kept, Limits};
use crate::make::identifiers::Identifiers;
use crate::make::order::Sequences;
use crate::make::split::Point;
use crate::make::write::RawIds;
use crate::read::interactions::Interactions;
use crate::read::{self, Layout, Part, Spool, layouts};

/// Makes the dataset in `out` from the ratings at `input`, a file, a directory with one or, as `-`, standard input, unless it is
/// up to date.
///
/// # Errors
/// A refusal where the input is not as its layout has it, or nothing of it is left; else a failure to write.
pub fn dataset(input: &Path, out: &Path, settings: &Checked, flags: &Flags) -> anyhow::Result<Outcome> {
    let spool = Spool::of(input)?;
    let parts = if let Some(spool) = &spool {
        vec![Part::copied(spool.path(), spool.source())]
    } else {
        let found = layouts::find(input, Layout::wanted(&settings.preprocess)?)?;
        found.into_iter().map(Part::from).collect()
    };
    let shown = match parts.as_slice() {
        [only] => &only.name,
        _ => input,
    };
    let plan = Plan::new("gro-preprocess run", out, flags, settings, &["preprocess"]);
    let plan = match &spool {
        Some(spool) => plan.copied_input(spool.name(), spool.path()),
        None => plan.inputs(parts.iter().map(|part| part.path.clone())),
    };
    plan.produce(|directory| make(&parts, shown, directory, &settings.preprocess, flags.quiet))
}

fn make(
    parts: &[Part],
    shown: &Path,
    directory: &Path,
    settings: &Preprocess,
    quiet: bool,
) -> anyhow::Result<()> {
    let bar = progress::byte_bar(0, "reading", quiet);
    let mut interactions = read::read(parts, settings, &bar)?;
    bar.finish_and_clear();
    report_read(&interactions, shown, settings)?;
    let raw = (interactions.rows_read(), interactions.users.len() as u64, interactions.items.len() as u64);
    if settings.repeats != Repeats::Keep {
        let lost = repeats::drop(&mut interactions, settings.repeats, settings.ties);
        tracing::info!("left out {lost} repeated interactions (preprocess.repeats)");
    }

    let limits = Limits {
        item: settings.min_item_count as u64,
        user: settings.min_user_count as u64,
        core: settings.filter == Filter::Core,
    };
    let mut kept = filter::filter(
        &interactions.user_codes,
        &interactions.item_codes,
        interactions.users.len(),
        interactions.items.len(),
        limits,
    );
    report_filter(&kept, settings);
    if kept.interactions == 0 {
        let message = format!(
            "nothing is left of the {} interactions in {}; lower preprocess.min_item_count ({}), \
             preprocess.min_user_count ({}){}, or look at what was left out above",
            raw.0,
            shown.display(),
            settings.min_item_count,
            settings.min_user_count,
            settings.min_rating.map_or(String::new(), |least| format!(" or preprocess.min_rating ({least})")),
        );
        return Err(Refusal::new(message).into());
    }

    let point = match settings.split {
        Split::LeaveOneOut => None,
        Split::Time => Some(Point::of(&interactions, &kept, settings.train_share)?),
    };
    if let Some(point) = &point {
        let lost = point.narrow(&mut kept, &interactions);
        tracing::info!("left out {lost} users with fewer than 2 interactions before {}", point.time);
    }

    let users = Identifiers::assign(&interactions.users, &kept.users);
    let items = Identifiers::assign(&interactions.items, &kept.items);
    users.warn_of_two_spellings(&interactions.users, "users");
    items.warn_of_two_spellings(&interactions.items, "items");
    let raw_users = users.texts(&interactions.users);
    let raw_items = items.texts(&interactions.items);
    let sequences = Sequences::build(&interactions, &users, &items, settings.ties);
    drop(interactions);
    let raw_ids = RawIds { items: &raw_items, users: &raw_users };
    let stats = match &point {
        None => write::leave_one_out(directory, raw_ids, &sequences)?,
        Some(point) => {
            let before: Vec<usize> = users.codes.iter().map(|&code| point.before[code as usize]).collect();
            let stats = write::at_point(directory, raw_ids, &sequences, &before)?;
            report_split(&stats, point, kept.interactions)?;
            stats
        }
    };
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

/// Says what was read, and of every kind of row that is no interaction how many there were.
///
/// # Errors
/// A refusal where nothing was read.
fn report_read(interactions: &Interactions, shown: &Path, settings: &Preprocess) -> Result<(), Refusal> {
    let (counts, rows) = (interactions.counts, interactions.rows_read());
    let shown = shown.display();
    if counts.incomplete > 0 {
        tracing::warn!(
            "{} of the {} lines in {shown} lack a user, an item, a time or a rating and were passed over",
            counts.incomplete,
            counts.incomplete + rows,
        );
    }
    if rows == 0 {
        return Err(Refusal::new(format!("{shown} holds no rows, expected one interaction a line")));
    }
    tracing::info!(
        "read {rows} interactions of {} users with {} items from {shown}",
        interactions.users.len(),
        interactions.items.len(),
    );
    if counts.trimmed > 0 {
        tracing::warn!("{} ids in {shown} had blanks around them, which were cut", counts.trimmed);
    }
    if counts.continued > 0 {
        tracing::warn!(
            "{} rows of {shown} go on over several lines, within quotation marks; if that is news, one opens that should not",
            counts.continued
        );
    }
    if counts.unwanted > 0 {
        tracing::info!("left out {} interactions that preprocess.keep does not name", counts.unwanted);
    }
    if let Some(least) = settings.min_rating {
        tracing::info!(
            "left out {} interactions rated below {least} (preprocess.min_rating)",
            counts.low_rated
        );
    }
    Ok(())
}

/// Says what the parts of a split in time hold.
///
/// # Errors
/// A refusal where nobody is left to test.
fn report_split(stats: &Stats, point: &Point, kept: usize) -> Result<(), Refusal> {
    let tested = stats.tested_users.unwrap_or(stats.users);
    tracing::info!(
        "split at {}: {} users to train on and to validate, {tested} of them to test; {} interactions after the test item are not \
         used",
        point.time,
        stats.users,
        (kept as u64).saturating_sub(stats.interactions)
    );
    if tested == 0 {
        return Err(Refusal::new(format!(
            "no user has two interactions before {} and one from there on; lower preprocess.train_share, or set \
             preprocess.split=leave-one-out",
            point.time
        )));
    }
    Ok(())
}

/// Says what the filter took.
fn report_filter(kept: &Kept, settings: &Preprocess) {
    for (lost, kind, key, least) in [
        (kept.lost_items, "items", "preprocess.min_item_count", settings.min_item_count),
        (kept.lost_users, "users", "preprocess.min_user_count", settings.min_user_count),
    ] {
        if lost.count > 0 {
            tracing::info!(
                "left out {} {kind} with fewer than {least} interactions ({key}), and with them {} interactions",
                lost.count,
                lost.interactions
            );
        }
    }
}
