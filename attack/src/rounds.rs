//! A thief with a copy in the loop (after BECOME, CIKM 2025): all accounts ask a little; a copy is trained on what was answered; where
//! its own list agrees least with the last answer (Agr@10), the account goes on, the worse half of them, and so on round by round. The
//! budget is spent evenly over the rounds.
//!
//! The copy is trained as `gro-attack distill` would, from the weights of the round before, on all answers so far, for
//! `generate.rounds.epochs`: by default half of `distill.epochs`, so that with four rounds all trainings together cost three
//! quarters of a distillation from the whole log.
//!
//! All answers are held in memory until the end, for any account may go on: 40 MB for 100,000 lists of 100. Interrupted, answers
//! come from the journal again and the copies from their saved states, so that the log ends in the same bytes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use artifact::queries::{QUERIES, QueryHeader, QueryLog, QueryWriter};
use artifact::settings::{Distill, Settings};
use candle_core::Device;
use indicatif::ProgressBar;
use models::{ARCHITECTURES, Sizes, Weights};
use service::black_box::BlackBox;
use streams::Purpose;
use training::fit::{Keep, Run, Schedule, fit};
use training::state::Saving;

use crate::campaign::Campaign;
use crate::distill::Surrogate;
use crate::generate::{Growing, first_item, grow};
use crate::strategies::QueryStrategy;

/// How a strategy goes in rounds.
#[derive(Clone, Copy)]
pub struct RoundsPlan {
    /// Rounds of asking.
    pub rounds: usize,
    /// Epochs of a training between two of them; none for half of `distill.epochs`.
    pub epochs: Option<usize>,
    /// Questions of an account at most.
    pub longest: usize,
    /// The choice of items in a round, from a catalogue of so many items, where item `id` stood so often in the sequences
    /// when the round began.
    pub next: fn(&Campaign<'_>, usize, &[u64]) -> Box<dyn QueryStrategy>,
}

/// What the copy is trained with, and where its state is kept.
pub struct Copying<'a> {
    /// Sections `model`, `optimizer` and `distill`.
    pub settings: &'a Settings,
    /// Where it is trained.
    pub device: &'a Device,
    /// The directory of the stage's state.
    pub state: PathBuf,
    /// A digest of what the stage depends on.
    pub identity: String,
    /// Whether saved states are taken up.
    pub resume: bool,
    /// How long a training goes on at most without saving.
    pub every: Duration,
    /// Asked after each step: whether to save and stop there.
    pub interrupted: &'a dyn Fn() -> bool,
    /// Whether to show no progress.
    pub quiet: bool,
}

/// Queries `target` in rounds and writes every account's sequence with its answers. Returns the number of queries asked.
///
/// # Errors
/// As [`generate`](crate::generate::generate); what a training returns.
pub fn generate(
    target: &mut dyn BlackBox,
    campaign: &Campaign<'_>,
    plan: &RoundsPlan,
    copying: &Copying<'_>,
    header: &QueryHeader,
    log: &mut QueryWriter,
    bar: &ProgressBar,
) -> Result<u64> {
    let (items, k) = (target.items(), campaign.settings.top_k);
    ensure!(
        items == campaign.items,
        "the target has {items} items, and the campaign was made for {}",
        campaign.items
    );
    campaign.check()?;
    bar.set_length(campaign.budget() as u64);
    let asked_before = target.queries();
    let mut accounts: Vec<Growing> = (0..campaign.accounts)
        .map(|account| Growing::new(campaign, account, None, |stream| first_item(stream, items)))
        .collect();
    let mut copy = None;
    for round in 1..=plan.rounds {
        let asked: Vec<usize> = accounts.iter().map(|account| account.asked(k)).collect();
        let goals = if round == 1 {
            vec![(campaign.questions / plan.rounds).max(2); accounts.len()]
        } else {
            let trained = copying.train(campaign, plan, round - 1, &accounts, header, copy.take())?;
            let histories: Vec<&[u32]> =
                accounts.iter().zip(&asked).map(|(a, &n)| &a.sequence[..n]).collect();
            let latest: Vec<&[u32]> = accounts.iter().map(|a| &a.answers[a.answers.len() - k..]).collect();
            let agreement = trained.agreement_at_10(&histories, &latest)?;
            copy = Some(trained.parameters().snapshot()?);
            // A first round of two questions may be ahead of its share.
            let due = campaign.budget() * round / plan.rounds;
            let budget = due.saturating_sub(asked.iter().sum());
            let share = |place: usize| agreement[place];
            allot(&asked, share, plan.longest, budget)
        };
        let strategy = (plan.next)(campaign, items, &counts(&accounts, items));
        for account in accounts.iter_mut().filter(|_| round > 1) {
            account.stream =
                campaign.streams.open(Purpose::Generation, 0, account.account as u64, round as u64 - 1);
        }
        // Accounts that have asked equally much, and go equally far, ask side by side.
        let mut order: Vec<(usize, usize, &mut Growing)> = asked
            .into_iter()
            .zip(goals)
            .zip(&mut accounts)
            .map(|((a, goal), account)| (a, goal, account))
            .collect();
        order.sort_by_key(|(asked, goal, account)| (*asked, *goal, account.account));
        for alike in order.chunk_by_mut(|a, b| (a.0, a.1) == (b.0, b.1)) {
            for together in alike.chunks_mut(campaign.settings.batch) {
                let goal = together[0].1;
                let mut together: Vec<&mut Growing> =
                    together.iter_mut().map(|(_, _, account)| &mut **account).collect();
                grow(target, campaign, &*strategy, &mut together, goal, &[], bar)?;
            }
        }
    }
    write(&accounts, k, log)?;
    bar.finish_and_clear();
    Ok(target.queries() - asked_before)
}

/// How many questions each account is to have asked after a round of `budget` more: those that `agree` least get them, evenly
/// over the worse half of those that have not asked `longest`, and over others where these are full.
fn allot(asked: &[usize], agree: impl Fn(usize) -> f64, longest: usize, budget: usize) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..asked.len()).collect();
    ranked.sort_by(|&a, &b| agree(a).total_cmp(&agree(b)).then(a.cmp(&b)));
    let half = asked.len().div_ceil(2);
    let (mut goals, mut left) = (asked.to_vec(), budget);
    while left > 0 {
        let open: Vec<usize> =
            ranked.iter().copied().filter(|&account| goals[account] < longest).take(half).collect();
        if open.is_empty() {
            break;
        }
        let each = (left / open.len()).max(1);
        for account in open {
            let more = each.min(longest - goals[account]).min(left);
            goals[account] += more;
            left -= more;
        }
    }
    goals
}

/// How often each item stands in what was asked; item `id` at place `id`.
fn counts(accounts: &[Growing], items: usize) -> Vec<u64> {
    let mut counts = vec![0; items + 1];
    for item in accounts.iter().filter(|account| !account.answers.is_empty()).flat_map(|a| &a.sequence) {
        counts[*item as usize] += 1;
    }
    counts
}

/// Of a real history that is longer than what was asked, only that much is written.
fn write(accounts: &[Growing], k: usize, log: &mut QueryWriter) -> Result<()> {
    for account in accounts {
        log.push(&account.sequence[..account.asked(k)], &account.answers)?;
    }
    Ok(())
}

impl Copying<'_> {
    /// The copy after `round`, trained on all answers so far.
    fn train(
        &self,
        campaign: &Campaign<'_>,
        plan: &RoundsPlan,
        round: usize,
        accounts: &[Growing],
        header: &QueryHeader,
        before: Option<Weights>,
    ) -> Result<Surrogate> {
        let directory = self.state.join(format!("round-{round}"));
        std::fs::create_dir_all(&directory)?;
        let path = directory.join(QUERIES);
        let mut log = QueryWriter::create(&path, header.clone())?;
        write(accounts, header.k, &mut log)?;
        log.finish()?;
        let Settings { model, optimizer, distill, .. } = self.settings;
        let distill = Distill {
            epochs: plan.epochs.unwrap_or((distill.epochs / 2).max(1)),
            budget: None,
            ..distill.clone()
        };
        let sizes = Sizes { items: header.items, network: model.network };
        let architecture = *ARCHITECTURES.find(&model.architecture)?;
        let log = QueryLog::open(&path)?;
        let mut copy =
            Surrogate::new(architecture, &sizes, log, &distill, optimizer, campaign.streams, self.device)?;
        if let Some(weights) = before {
            copy.parameters().restore(&weights)?;
        }
        let run = Run {
            output: &directory,
            saving: Saving {
                directory: directory.join("training"),
                identity: format!("{} round {round}", self.identity),
                resume: self.resume,
                every: self.every,
                interrupted: self.interrupted,
            },
            bar: stage::progress::bar(0, "copy", self.quiet),
        };
        let Distill { epochs, patience, validate_every, .. } = distill;
        let setting = "generate.rounds.epochs";
        fit(
            &mut copy,
            &Schedule {
                setting,
                step_size: "optimizer.learning_rate",
                epochs,
                patience,
                validate_every,
                keep: Keep::Best,
            },
            &run,
        )?;
        Ok(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_half_goes_on_and_the_whole_budget_is_spent() {
        let agree = [0.9, 0.1, 0.5, 0.1, 0.7];
        let goals = allot(&[4; 5], |place| agree[place], 20, 9);
        assert_eq!(goals, [4, 7, 7, 7, 4], "three of five, evenly");
        let goals = allot(&[4; 5], |place| agree[place], 20, 10);
        assert_eq!(goals, [4, 8, 7, 7, 4], "what is left over goes to the worst, the first of equals");
    }

    #[test]
    fn full_accounts_give_way_to_the_next() {
        let agree = [0.9, 0.1, 0.5, 0.1, 0.7];
        let goals = allot(&[4, 6, 4, 6, 4], |place| agree[place], 6, 4);
        assert_eq!(goals, [5, 6, 6, 6, 5]);
        assert_eq!(allot(&[6; 2], |_| 0.0, 6, 4), [6, 6]);
    }
}
