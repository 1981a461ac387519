//! How large the data are: users, the lengths of their histories, items. Of a data set that lies there all of it is known; of one
//! that does not, the published sizes, with lengths as an exponential law has them, which those of the known data sets follow roughly.

use std::path::Path;

use anyhow::Context;
use artifact::dataset::Dataset;
use preprocess::raw::DATASETS;
use stage::Refusal;

/// Items of a history that training does not see: for validation, and for the test.
const HELD_OUT: f64 = 2.0;

/// The shortest train sequence that the default filter leaves.
const SHORTEST: f64 = 3.0;

/// The sizes of a data set.
pub(super) struct Shape {
    /// Lengths of the train sequences, by user.
    pub(super) lengths: Vec<usize>,
    /// Items of the catalogue.
    pub(super) items: usize,
    /// Interactions, those held out too.
    pub(super) interactions: u64,
    /// Whether the lengths are those of the data.
    pub(super) exact: bool,
}

impl Shape {
    /// Of the data set in this directory.
    pub(super) fn read(directory: &Path) -> anyhow::Result<Self> {
        let dataset = Dataset::read(directory)
            .with_context(|| format!("reading {}", directory.display()))
            .map_err(|error| Refusal::new(format!("{error:#}")))?;
        let lengths = (0..dataset.users()).map(|user| dataset.train(user).len()).collect();
        Ok(Self { lengths, items: dataset.items(), interactions: dataset.interactions(), exact: true })
    }

    /// Of data with so many users, items and interactions.
    pub(super) fn of(users: u64, items: u64, interactions: u64) -> anyhow::Result<Self> {
        let mean = interactions as f64 / users as f64 - HELD_OUT;
        if users == 0 || items < 2 || mean < SHORTEST {
            let message =
                "users who have five interactions each, and two items, are the least there is to plan for";
            return Err(Refusal::new(message).into());
        }
        // Quantiles of the exponential law above the shortest.
        let length = |user: u64| {
            let share = (user as f64 + 0.5) / users as f64;
            (SHORTEST - (mean - SHORTEST) * (1.0 - share).ln()).round() as usize
        };
        let lengths = (0..users).map(length).collect();
        Ok(Self { lengths, items: items as usize, interactions, exact: false })
    }

    /// Of a public data set, by its name.
    pub(super) fn published(name: &str) -> anyhow::Result<Self> {
        let Ok(dataset) = DATASETS.find(name) else {
            let known = DATASETS.iter().map(|dataset| dataset.name).collect::<Vec<_>>().join(", ");
            return Err(Refusal::new(format!(
                "the size of {name} is not known (that of {known} is); give --data, or --size users,items,interactions"
            ))
            .into());
        };
        let [users, items, interactions] = dataset.filtered;
        Self::of(users, items, interactions)
    }

    /// Number of users.
    pub(super) fn users(&self) -> usize {
        self.lengths.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Shape;

    #[test]
    fn lengths_add_up_to_the_interactions() {
        let shape = Shape::of(6040, 3416, 999_611).unwrap();
        let all = shape.lengths.iter().sum::<usize>() + 2 * shape.users();
        assert!((all as f64 / 999_611.0 - 1.0).abs() < 0.01, "{all}");
        assert!(shape.lengths.iter().all(|&length| length >= 3));
    }

    #[test]
    fn every_public_data_set_can_be_planned_for() {
        for dataset in &super::DATASETS {
            assert!(Shape::published(dataset.name).is_ok(), "{}", dataset.name);
        }
        assert!(Shape::published("ml-10m").is_err());
    }
}
