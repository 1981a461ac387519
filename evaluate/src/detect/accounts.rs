//! Accounts before the detectors: what is seen of each question, and what is kept of an account once it was judged.
//!
//! An account is a history, and its questions are the prefixes of it. What is seen of them is dropped as soon as every detector has
//! scored it: of an account remain the questions at which a score rose above all before, and when it was answered with decoys.

use candle_core::{Device, Tensor};
use models::Recommender;
use rayon::prelude::*;
use service::guard::{Guard, Watched};

use super::detectors::{Judge, Question, UNJUDGED};

/// Questions whose scores of the whole catalogue are held at once.
const ROWS: usize = 128;

/// A guarded target, and lists of one length.
#[derive(Clone, Copy)]
pub struct Observer<'a> {
    /// The guard.
    pub guard: &'a Guard,
    /// The model behind it.
    pub model: &'a dyn Recommender,
    /// Where the model is.
    pub device: &'a Device,
    /// Length of the lists that accounts ask for.
    pub k: usize,
}

/// What is kept of an account.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Questions it asked.
    pub questions: u32,
    /// Those that the guard answers with decoys, in order, counted from 1.
    pub decoyed: Vec<u32>,
    /// By detector: its scores.
    pub scores: Vec<Scores>,
}

/// How a detector scored an account over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// The questions, counted from 1, at which the score was higher than ever before, with that score.
    rises: Vec<(u32, f64)>,
}

impl Scores {
    /// From the scores of all questions.
    pub fn of(scores: &[f64]) -> Self {
        let mut rises: Vec<(u32, f64)> = Vec::new();
        for (question, &score) in (1..).zip(scores) {
            if score > rises.last().map_or(UNJUDGED, |&(_, highest)| highest) {
                rises.push((question, score));
            }
        }
        Self { rises }
    }

    /// The highest score ever.
    pub fn highest(&self) -> f64 {
        self.rises.last().map_or(UNJUDGED, |&(_, highest)| highest)
    }

    /// The first question at which the score is above the threshold.
    pub fn first_above(&self, threshold: f64) -> Option<u32> {
        self.rises.iter().find(|&&(_, score)| score > threshold).map(|&(question, _)| question)
    }

    /// Whether the detector ever said anything of the account.
    pub fn judged(&self) -> bool {
        !self.rises.is_empty()
    }
}

impl Account {
    /// The first question that was answered with decoys.
    pub fn first_flagged(&self) -> Option<u32> {
        self.decoyed.first().copied()
    }

    /// Whether the guard answers the question before the last with decoys: the one about a user's test item.
    pub fn flagged_at_test(&self) -> bool {
        self.decoyed.contains(&(self.questions - 1))
    }
}

impl Observer<'_> {
    /// What is seen of an account at each of its questions.
    fn observe(&self, history: &[u32]) -> anyhow::Result<Vec<Question>> {
        let watched = self.guard.watch(self.model, history, self.k, self.device)?;
        let mut questions = Vec::with_capacity(watched.len());
        for rows in watched.chunks(ROWS) {
            let entropies = self.entropies(rows)?;
            questions.extend(rows.iter().zip(entropies).map(|(watched, entropy)| Question {
                nats: watched.nats,
                flagged: watched.flagged,
                state: watched.state.clone(),
                entropy,
            }));
        }
        Ok(questions)
    }

    /// The entropy of the model's softmax over the catalogue at each question, in nats.
    fn entropies(&self, rows: &[Watched]) -> anyhow::Result<Vec<f64>> {
        let states: Vec<f32> = rows.iter().flat_map(|watched| watched.state.iter().copied()).collect();
        let width = states.len() / rows.len().max(1);
        let states = Tensor::from_vec(states, (rows.len(), width), self.device)?;
        let catalogue = self.model.catalogue();
        // (rows, columns), of which the items are columns 1 to n.
        let scores = catalogue.scores(&states)?.narrow(1, 1, catalogue.items)?.to_vec2::<f32>()?;
        Ok(scores.iter().map(|scores| entropy(scores)).collect())
    }

    fn each<T: Send>(
        &self,
        histories: &[Vec<u32>],
        of: impl Fn(&[u32]) -> anyhow::Result<T> + Send + Sync,
    ) -> anyhow::Result<Vec<T>> {
        // A device of its own is busy with one account at a time.
        if kernels::fused(self.device) {
            histories.par_iter().map(|history| of(history)).collect()
        } else {
            histories.iter().map(|history| of(history)).collect()
        }
    }

    /// What is seen of all these accounts, for detectors to be fitted to.
    ///
    /// # Errors
    /// Those of the model.
    pub fn observe_all(
        &self,
        histories: &[Vec<u32>],
        advance: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Vec<Vec<Question>>> {
        self.each(histories, |history| {
            let questions = self.observe(history)?;
            advance();
            Ok(questions)
        })
    }

    /// What is kept of all these accounts once these detectors have judged them.
    ///
    /// # Errors
    /// Those of the model.
    pub fn judge(
        &self,
        histories: &[Vec<u32>],
        judges: &[Box<dyn Judge>],
        advance: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Vec<Account>> {
        self.each(histories, |history| {
            let questions = self.observe(history)?;
            let decoyed = (1..).zip(&questions).filter(|(_, question)| question.flagged);
            let account = Account {
                questions: questions.len() as u32,
                decoyed: decoyed.map(|(number, _)| number).collect(),
                scores: judges.iter().map(|judge| Scores::of(&judge.scores(&questions))).collect(),
            };
            advance();
            Ok(account)
        })
    }
}

/// The entropy of the softmax of these scores, in nats: with weights `e_i = exp(s_i - max)` and their sum S it is
/// `ln S - sum_i e_i (s_i - max) / S`.
fn entropy(scores: &[f32]) -> f64 {
    let highest = f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let (mut sum, mut weighted) = (0.0, 0.0);
    for &score in scores {
        let below = f64::from(score) - highest;
        let weight = below.exp();
        sum += weight;
        weighted += weight * below;
    }
    sum.ln() - weighted / sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropies_by_hand() {
        assert!((entropy(&[7.0; 8]) - 8f64.ln()).abs() < 1e-12);
        // Chances 1/2, 1/4, 1/4.
        let scores = [0.0, -(2f32.ln()), -(2f32.ln())];
        assert!((entropy(&scores) - 1.5 * 2f64.ln()).abs() < 1e-6);
        assert_eq!(entropy(&[1000.0, -1000.0]), 0.0);
    }

    #[test]
    fn scores_keep_what_rose_above_all_before() {
        let scores = Scores::of(&[UNJUDGED, 0.5, 0.2, 0.5, 0.7, 0.6, 1.2]);
        assert_eq!(scores.rises, [(2, 0.5), (5, 0.7), (7, 1.2)]);
        assert_eq!((scores.highest(), scores.judged()), (1.2, true));
        assert_eq!(scores.first_above(f64::NEG_INFINITY), Some(2));
        assert_eq!(scores.first_above(0.5), Some(5));
        assert_eq!(scores.first_above(1.2), None);
        let silent = Scores::of(&[UNJUDGED; 3]);
        assert_eq!(
            (silent.highest(), silent.judged(), silent.first_above(UNJUDGED)),
            (UNJUDGED, false, None)
        );
    }

    #[test]
    fn the_test_question_is_the_one_before_the_last() {
        let account =
            |decoyed: &[u32]| Account { questions: 5, decoyed: decoyed.to_vec(), scores: Vec::new() };
        assert!(account(&[2, 4]).flagged_at_test());
        assert!(!account(&[3, 5]).flagged_at_test());
        assert_eq!(account(&[3, 5]).first_flagged(), Some(3));
    }
}
