//! Who pays for a defence: what it takes from users of each fifth by activity, and by how popular the item is that they were looking for.
//!
//! A mean over all users can hide that a few of them pay for all. Users are sorted by what they have, and cut into five groups of about the
//! same size; users who are alike are never parted. The difference of a group is that of [`super::table`]: user by user and seed by seed,
//! the target behind the defence against the target without.

use anyhow::Context;
use artifact::dataset::Dataset;
use artifact::ranks::Column;
use artifact::settings::Ranking;
use indexmap::IndexMap;
use metrics::{Bootstrap, Interval, Sample};

use super::grouping::{Run, group};
use super::table::{Table, drawn, paired, undefended};
use crate::figures::{POPULAR_RANK, TARGET_RANK, grouped};
use crate::run::held_out::HeldOutItems;

/// Groups that users are cut into.
const GROUPS: usize = 5;

/// Users sorted by one thing they have.
#[derive(Debug)]
pub struct Payers {
    /// What they are sorted by, in words.
    pub by: &'static str,
    /// The groups in ascending order: what its users have, and how many they are.
    pub groups: Vec<(String, usize)>,
    /// What each defence takes from each group: by the place of its verdict in the table.
    pub differences: IndexMap<usize, Vec<Interval>>,
}

/// What is to be known of users.
struct Trait {
    by: &'static str,
    /// `(users)`
    values: Vec<u64>,
}

/// Who pays, by all that is known of the users. The dataset, where it is given, is that of the runs.
pub fn payers(runs: &[Run], table: &Table, dataset: Option<&Dataset>) -> anyhow::Result<Vec<Payers>> {
    let (Some(first), Some(measure)) = (runs.first(), drawn(&table.ks).into_iter().next()) else {
        return Ok(Vec::new());
    };
    let targets = group(runs)?;
    let bootstrap = Bootstrap { resamples: table.protocol.bootstrap, seed: table.seeds[0] };
    // Verdicts stand in the order of the targets.
    let mut paid: Vec<(usize, Vec<Vec<f64>>)> = Vec::new();
    for (place, target) in targets.iter().enumerate() {
        if let Some(other) = undefended(&targets, target) {
            let columns = paired(&target.runs, &other.runs, TARGET_RANK, &measure)?;
            if !columns.is_empty() {
                paid.push((place, columns));
            }
        }
    }
    if paid.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for known in traits(first, table, dataset) {
        let groups = cut(&known.values);
        let mut differences: IndexMap<usize, Vec<Interval>> = IndexMap::new();
        for users in &groups {
            let of_group = |columns: &Vec<Vec<f64>>| {
                let picked: Vec<Vec<f64>> =
                    columns.iter().map(|column| users.iter().map(|&user| column[user]).collect()).collect();
                Sample::new(&picked.iter().map(Vec::as_slice).collect::<Vec<_>>())
            };
            let samples = paid.iter().map(|(_, columns)| of_group(columns)).collect::<Result<Vec<_>, _>>()?;
            let intervals = bootstrap.over_seeds(&samples).context("resampling a group of users")?;
            for ((place, _), interval) in paid.iter().zip(intervals) {
                differences.entry(*place).or_default().push(interval);
            }
        }
        let named = groups.iter().map(|users| {
            let of = |user: &usize| known.values[*user];
            let (low, high) = (users.iter().map(of).min(), users.iter().map(of).max());
            let (low, high) = (grouped(low.unwrap_or(0)), grouped(high.unwrap_or(0)));
            (if low == high { low } else { format!("{low} to {high}") }, users.len())
        });
        all.push(Payers { by: known.by, groups: named.collect(), differences });
    }
    Ok(all)
}

fn traits(first: &Run, table: &Table, dataset: Option<&Dataset>) -> Vec<Trait> {
    let mut traits = Vec::new();
    if let Some(dataset) = dataset {
        let users = || first.ranks.users.iter().map(|&user| user as usize - 1);
        let held_out = HeldOutItems::of(dataset, table.protocol.held_out);
        let activity = users().map(|user| held_out.history(user).len() as u64).collect();
        traits.push(Trait { by: "items in the user's history", values: activity });
        let counts = dataset.item_counts();
        let popularity = users().map(|user| {
            let item = held_out.item(user).unwrap_or(1);
            counts.get(item as usize - 1).copied().unwrap_or(0)
        });
        traits
            .push(Trait { by: "users who have the item that was looked for", values: popularity.collect() });
    } else if table.protocol.ranking == Ranking::Full
        && let Some(Column::Counts(ranks)) = first.ranks.column(POPULAR_RANK)
    {
        // Among sampled negatives a place says little of popularity.
        let values = ranks.iter().map(|rank| u64::from(rank.unwrap_or(u32::MAX))).collect();
        traits.push(Trait { by: "place among the most popular of the item that was looked for", values });
    }
    traits
}

/// The places of users in groups of about one size, in ascending order of their values; equal values stay together.
fn cut(values: &[u64]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&user| values[user]);
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); GROUPS];
    let mut start = 0;
    for alike in order.chunk_by(|&left, &right| values[left] == values[right]) {
        // Where the middle of those who are alike falls.
        let place = (2 * start + alike.len() - 1) * GROUPS / (2 * values.len());
        groups[place.min(GROUPS - 1)].extend(alike);
        start += alike.len();
    }
    groups.retain(|group| !group.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_of_one_size_and_part_nobody_alike() {
        let sizes = |values: &[u64]| cut(values).iter().map(Vec::len).collect::<Vec<_>>();
        let different: Vec<u64> = (0..100).rev().collect();
        assert_eq!(sizes(&different), [20; 5]);
        assert_eq!(cut(&different)[0][0], 99, "the lowest value first");
        // Half of them have the same: one group, and no empty ones.
        let half: Vec<u64> = (0..100).map(|user| if user < 50 { 1 } else { user }).collect();
        assert_eq!(sizes(&half), [50, 10, 20, 20]);
        assert_eq!(sizes(&[7; 30]), [30]);
    }
}
