//! `prada`: whether the distances between an account's queries are normally distributed (Juuti, Szyller, Marchal and Asokan, EuroS&P
//! 2019, algorithm 3), carried over to histories.
//!
//! As published: each query has its distance to the nearest of a *growing set* of earlier ones; it joins the set where that distance
//! exceeds a threshold, which is the largest so far of mean minus deviation of the distances with which members joined. The distances
//! of all queries, without those more than three deviations from their mean, are tested for normality by Shapiro and Wilk; an alarm
//! where W falls below a threshold. The score here is 1 - W, so that every threshold is tried.
//!
//! Carried over: a query is the account's history so far, and its representation the model's state, for a history has no pixels;
//! distances are Euclidean. A list has no class, so there is one growing set and not one a class. W is looked at from 20 distances on,
//! not 100 ([`super::FEWEST`]).

use super::shapiro_wilk::statistic;
use super::{Detector, FEWEST, Judge, Question, UNJUDGED};

/// The registry's entry.
pub(super) const DETECTOR: Detector = Detector {
    name: "prada",
    title: "Whether the distances between its histories are normally distributed",
    fit: |_| Box::new(Prada),
};

struct Prada;

impl Judge for Prada {
    fn scores(&self, account: &[Question]) -> Vec<f64> {
        let mut growing: Vec<&[f32]> = Vec::new();
        let mut joined: Vec<f64> = Vec::new();
        let mut distances: Vec<f64> = Vec::new();
        let mut threshold: f64 = 0.0;
        let mut scores = Vec::with_capacity(account.len());
        for question in account {
            let state = question.state.as_slice();
            let nearest = growing.iter().map(|other| distance(state, other)).fold(f64::INFINITY, f64::min);
            if growing.is_empty() {
                growing.push(state);
                joined.push(0.0);
            } else {
                distances.push(nearest);
                if nearest > threshold {
                    growing.push(state);
                    joined.push(nearest);
                    let (mean, deviation) = moments(&joined);
                    threshold = threshold.max(mean - deviation);
                }
            }
            scores.push(score(&distances));
        }
        scores
    }
}

fn score(distances: &[f64]) -> f64 {
    if distances.len() < FEWEST {
        return UNJUDGED;
    }
    let (mean, deviation) = moments(distances);
    let mut near: Vec<f64> =
        distances.iter().copied().filter(|distance| (distance - mean).abs() <= 3.0 * deviation).collect();
    near.sort_unstable_by(f64::total_cmp);
    statistic(&near).map_or(UNJUDGED, |w| 1.0 - w)
}

fn distance(one: &[f32], other: &[f32]) -> f64 {
    let squares = one.iter().zip(other).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>().sqrt()
}

/// Mean and deviation (of the values themselves, as the authors' program takes it).
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(place: f32) -> Question {
        Question { nats: 0.0, flagged: false, state: vec![place, 0.0], entropy: 0.0 }
    }

    #[test]
    fn distances_are_those_to_the_growing_set() {
        // 0 begins the set. 1 is 1 away: it joins; of (0, 1) mean less deviation is 0. 1.5 is .5 away and joins: (0, 1, .5) has mean .5,
        // deviation .408, so the threshold is .092. 1.55 is .05 away and does not join, so that 1.6 is .1 away, not .05.
        let mut account: Vec<Question> = [0.0, 1.0, 1.5, 1.55, 1.6].map(at).into();
        // As many distances as it takes; all far apart, each .1 more than the one before.
        let mut place = 10.0;
        for step in 0..16 {
            account.push(at(place));
            place += 2.0 + 0.1 * step as f32;
        }
        let scores = Prada.scores(&account);
        assert!(scores[..20].iter().all(|&score| score == UNJUDGED), "19 distances");
        let mut expected: Vec<f64> = vec![1.0, 0.5, 0.05, 0.1, 8.4];
        expected.extend((0..15).map(|step| 2.0 + 0.1 * f64::from(step)));
        // 8.4 is further than three deviations from the mean.
        let (mean, deviation) = moments(&expected);
        assert!(8.4 - mean > 3.0 * deviation);
        expected.retain(|&distance| distance < 8.0);
        expected.sort_unstable_by(f64::total_cmp);
        let w = statistic(&expected).unwrap();
        assert!((scores[20] - (1.0 - w)).abs() < 1e-5, "{} {}", scores[20], 1.0 - w);
    }

    #[test]
    fn two_heaps_of_distances_are_less_normal_than_even_ones() {
        let even: Vec<Question> = (0..40).map(|step| at((step * step) as f32)).collect();
        // Half the steps of 1, half of 1000: two heaps.
        let mut place = 0.0;
        let heaps: Vec<Question> = (0..40)
            .map(|step| {
                place +=
                    if step % 2 == 0 { 1000.0 } else { 999.0 } + 200.0 * f32::from(u8::from(step % 4 < 2));
                at(place)
            })
            .collect();
        assert!(Prada.scores(&heaps)[39] > Prada.scores(&even)[39]);
    }
}
