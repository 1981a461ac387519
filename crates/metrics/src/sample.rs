//! What was measured of the same users under several seeds, boiled down to what inference needs.
//!
//! Users and seeds are *crossed*: every seed's model meets the same users. A value is then a mean, plus what is particular to the user
//! (variance *a*), plus what is particular to the seed (*b*), plus what is particular to the two together (*e*). A sample keeps the mean of
//! each user over the seeds, the mean of each seed over the users, and the mean square of what neither explains; its size does not grow
//! with the number of seeds.

use crate::Error;
use crate::intervals::mean;

/// Values of the same users under one seed or several.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Of each user, over the seeds.
    users: Vec<f64>,
    /// Of each seed, over the users.
    seeds: Vec<f64>,
    /// Mean square of what is left when users' and seeds' means are taken out; estimates *e*. 0 of one seed.
    left: f64,
}

/// Variances of a value: of users, of seeds, and of both together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Variances {
    pub(crate) users: f64,
    pub(crate) seeds: f64,
    pub(crate) both: f64,
}

impl Sample {
    /// From a column of values for each seed, `(seeds, users)`.
    ///
    /// # Errors
    /// Where there is no seed or no user, and where columns differ in length.
    pub fn new(columns: &[&[f64]]) -> Result<Self, Error> {
        let users = columns.first().map_or(0, |column| column.len());
        if users == 0 {
            return Err(Error::NoUsers);
        }
        if let Some(other) = columns.iter().find(|column| column.len() != users) {
            return Err(Error::LengthMismatch { left: users, right: other.len() });
        }
        let count = columns.len() as f64;
        let mut of_users = columns[0].to_vec();
        for column in &columns[1..] {
            of_users.iter_mut().zip(*column).for_each(|(sum, value)| *sum += value);
        }
        if columns.len() > 1 {
            for sum in &mut of_users {
                *sum /= count;
            }
        }
        let of_seeds: Vec<f64> = columns.iter().map(|column| mean(column)).collect();
        let centre = mean(&of_seeds);
        let mut squares = 0.0;
        for (column, of_seed) in columns.iter().zip(&of_seeds) {
            let left = column.iter().zip(&of_users).map(|(value, user)| value - user - of_seed + centre);
            squares += left.map(|left| left * left).sum::<f64>();
        }
        let freedom = (columns.len() - 1) * (users - 1);
        let left = if freedom == 0 { 0.0 } else { squares / freedom as f64 };
        Ok(Self { users: of_users, seeds: of_seeds, left })
    }

    /// The mean over users and seeds.
    pub fn mean(&self) -> f64 {
        mean(&self.users)
    }

    /// The mean of each user over the seeds, `(users)`.
    pub fn users(&self) -> &[f64] {
        &self.users
    }

    /// The mean of each seed over the users, `(seeds)`.
    pub fn seeds(&self) -> &[f64] {
        &self.seeds
    }

    /// Sample standard deviation of the users' means.
    pub fn deviation_of_users(&self) -> f64 {
        variance(&self.users).sqrt()
    }

    /// The squared standard error that users contribute to the mean. What users and seeds have together is in it once over.
    pub(crate) fn error_of_users(&self) -> f64 {
        variance(&self.users) / self.users.len() as f64
    }

    /// The squared standard error that seeds contribute, what both have together in it again; 0 of one seed, which says nothing of others.
    pub(crate) fn error_of_seeds(&self) -> f64 {
        variance(&self.seeds) / self.seeds.len() as f64
    }

    /// The variances that are behind the means. Of one seed, that of users holds what they have with the seed.
    pub(crate) fn variances(&self) -> Variances {
        let (users, seeds) = (self.users.len() as f64, self.seeds.len() as f64);
        Variances {
            users: (variance(&self.users) - self.left / seeds).max(0.0),
            seeds: (variance(&self.seeds) - self.left / users).max(0.0),
            both: self.left,
        }
    }
}

/// Sample variance, divisor n - 1; 0 of fewer than two values.
fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let centre = mean(values);
    values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variances_are_those_of_a_crossed_table() {
        // Users 0, 2, 4 with seeds -1 and 1 on top, and nothing of both.
        let sample = Sample::new(&[&[-1.0, 1.0, 3.0], &[1.0, 3.0, 5.0]]).unwrap();
        assert_eq!((sample.users(), sample.seeds()), (&[0.0, 2.0, 4.0][..], &[1.0, 3.0][..]));
        assert_eq!(sample.variances(), Variances { users: 4.0, seeds: 2.0, both: 0.0 });
        assert_eq!((sample.error_of_users(), sample.error_of_seeds()), (4.0 / 3.0, 1.0));
        // Two users, two seeds, nothing but the interaction: mean square 4 * .25 / 1.
        let crossed = Sample::new(&[&[0.5, -0.5], &[-0.5, 0.5]]).unwrap();
        assert_eq!(crossed.variances(), Variances { users: 0.0, seeds: 0.0, both: 1.0 });
    }

    #[test]
    fn columns_must_speak_of_the_same_users() {
        assert_eq!(Sample::new(&[]), Err(Error::NoUsers));
        assert_eq!(Sample::new(&[&[]]), Err(Error::NoUsers));
        assert_eq!(Sample::new(&[&[1.0], &[1.0, 2.0]]), Err(Error::LengthMismatch { left: 1, right: 2 }));
    }
}
