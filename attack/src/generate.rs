//! Query generation (Yue, He, Zeng and McAuley, RecSys 2021): the attacker makes histories from the answers. A
//! sequence starts from a random item, unless the strategy knows a better one, or from the first items of a real history where the attacker owns some; each
//! next item is chosen by a strategy ([`strategies`](crate::strategies)), until the sequence has its length, and one more
//! question is asked about the whole.
//!
//! Every prefix is asked about, those inside a real history too, so that a budget buys the same number of answers
//! however a sequence begins. A sequence is what one account asks about.
//!
//! With `generate.twice` some accounts ask again what another was answered, by another way: they begin with three items that stood in
//! a row in the sequence of an account of the block before, whose answers then depended on all that came before these. A service that
//! answers a suspected account otherwise than a new one contradicts itself there.
//!
//! This module sees a [`BlackBox`] and nothing behind it: ids in, ordered ids out, every question counted.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use artifact::queries::QueryWriter;
use indicatif::ProgressBar;
use rand_chacha::ChaCha8Rng;
use service::black_box::BlackBox;
use service::guard::clients::Asker;
use streams::below;
use training::forecast::{Forecast, Length};

use crate::campaign::Campaign;
use crate::strategies::{Asked, Course, QueryStrategy};

/// Accounts of a block: a strategy that remembers what others were answered remembers the block before.
pub const BLOCK: usize = 64;

/// Items of another account with which one begins that asks twice.
const ASKED_TWICE: usize = 3;

/// Queries `target` and writes every account's sequence with its answers, as many queries as items. Returns the number of
/// queries asked.
///
/// Each account has a random stream of its own, so that the result does not depend on `generate.batch`, nor a sequence on how
/// others begin.
///
/// # Errors
/// Where the black box refuses a question or the log cannot be written; a campaign that the catalogue cannot answer, or that
/// goes in rounds ([`crate::rounds`]).
pub fn generate(
    target: &mut dyn BlackBox,
    campaign: &Campaign<'_>,
    log: &mut QueryWriter,
    bar: &ProgressBar,
) -> Result<u64> {
    let items = target.items();
    ensure!(items > 0, "the target's catalogue is empty");
    ensure!(
        items == campaign.items,
        "the target has {items} items, and the campaign was made for {}",
        campaign.items
    );
    campaign.check()?;
    let Course::Straight(build) = campaign.strategy.course else {
        bail!("{} asks in rounds, and trains a copy between them", campaign.strategy.name)
    };
    let strategy = build(campaign)?;
    bar.set_length(campaign.budget() as u64);
    let asked_before = target.queries();
    let twice = campaign.settings.twice > 0.0;
    let clients = campaign.settings.clients.is_some();
    let (mut others, mut block) = (Vec::new(), Vec::new());
    let (mut sequences, mut before): (Vec<Vec<u32>>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
    // Sequences are what the bar does not count, and what the settings do.
    let sequences_ahead = Length {
        setting: if campaign.settings.accounts.is_some() {
            "generate.accounts"
        } else {
            "generate.sequences"
        },
        count: campaign.accounts as u64,
        steps: 1,
        beside: Duration::ZERO,
        may_end_early: false,
    };
    let mut forecast = Forecast::new(sequences_ahead, 0);
    let mut first = 0;
    while first < campaign.accounts {
        let (begun, remembered) = (Instant::now(), target.remembers());
        let mut end = (first + campaign.settings.batch).min(campaign.accounts);
        if strategy.remembers_others() || twice || clients {
            if first.is_multiple_of(BLOCK) {
                (others, before) = (std::mem::take(&mut block), std::mem::take(&mut sequences));
            }
            end = end.min((first / BLOCK + 1) * BLOCK);
        }
        let mut growing: Vec<Growing> = (first..end)
            .map(|account| {
                let asked = campaign.asks_twice(account).then(|| &before[account % BLOCK][..]);
                Growing::new(campaign, account, asked, |stream| strategy.begin(account, items, stream))
            })
            .collect();
        let mut together: Vec<&mut Growing> = growing.iter_mut().collect();
        let (questions, k) = (campaign.questions, campaign.settings.top_k);
        grow(target, campaign, &*strategy, &mut together, questions, &others, bar)?;
        for Growing { sequence, answers, .. } in &growing {
            log.push(sequence, answers)?;
            if strategy.remembers_others() {
                block.extend_from_slice(answers);
            }
            if twice || clients {
                sequences.push(sequence.clone());
            }
        }
        if remembered {
            forecast = Forecast::new(sequences_ahead, end as u64);
        } else if let Some(words) = forecast.advance(begun.elapsed(), (end - first) as u64) {
            tracing::info!("{words}");
        }
        first = end;
        if clients && (first.is_multiple_of(BLOCK) || first == campaign.accounts) {
            // All accounts of a block ask before one of them counts for or against another.
            let askers: Vec<Asker> =
                (first - sequences.len()..first).map(|account| campaign.asker(account)).collect();
            let histories: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
            target.close(&askers, &histories, k)?;
        }
    }
    bar.finish_and_clear();
    Ok(target.queries() - asked_before)
}

/// Asks for some accounts side by side, which have asked equally many questions, until each has asked `until`.
pub(crate) fn grow(
    target: &mut dyn BlackBox,
    campaign: &Campaign<'_>,
    strategy: &dyn QueryStrategy,
    growing: &mut [&mut Growing],
    until: usize,
    others: &[u32],
    bar: &ProgressBar,
) -> Result<()> {
    let k = campaign.settings.top_k;
    let begun = growing.first().map_or(until, |first| first.asked(k));
    for asked in begun + 1..=until {
        for sequence in growing.iter_mut() {
            // A sequence that was left after its last answer goes on.
            if sequence.sequence.len() < asked {
                sequence.take_next(strategy, k, others);
            }
        }
        let histories: Vec<&[u32]> = growing.iter().map(|g| &g.sequence[..asked]).collect();
        let answers = if campaign.settings.clients.is_some() {
            let askers: Vec<Asker> = growing.iter().map(|g| campaign.asker(g.account)).collect();
            target.top_k_of(&askers, &histories, k)?
        } else {
            let accounts: Vec<u64> = growing.iter().map(|g| g.account as u64).collect();
            target.top_k_for(&accounts, &histories, k)?
        };
        for (sequence, list) in growing.iter_mut().zip(answers.iter()) {
            sequence.answers.extend_from_slice(list);
        }
        bar.inc(growing.len() as u64);
    }
    Ok(())
}

/// The item that a sequence without a real history begins with.
pub(crate) fn first_item(stream: &mut ChaCha8Rng, items: usize) -> u32 {
    1 + below(stream, items as u32)
}

/// A sequence in the making.
pub(crate) struct Growing {
    pub(crate) account: usize,
    pub(crate) sequence: Vec<u32>,
    pub(crate) answers: Vec<u32>,
    pub(crate) stream: ChaCha8Rng,
}

impl Growing {
    /// What an account begins with: a real history, some of what another `asked`, or the item that `begin` draws.
    pub(crate) fn new(
        campaign: &Campaign<'_>,
        account: usize,
        asked: Option<&[u32]>,
        begin: impl FnOnce(&mut ChaCha8Rng) -> u32,
    ) -> Self {
        let mut stream = campaign.stream_of(account);
        let sequence = match (campaign.seed_of(account), asked) {
            (Some(seed), _) => seed.to_vec(),
            (None, Some(asked)) => {
                let count = ASKED_TWICE.min(campaign.questions).min(asked.len());
                let place = below(&mut stream, (asked.len() - count) as u32 + 1) as usize;
                asked[place..place + count].to_vec()
            }
            (None, None) => vec![begin(&mut stream)],
        };
        Self { account, sequence, answers: Vec::new(), stream }
    }

    /// Questions asked so far.
    pub(crate) fn asked(&self, k: usize) -> usize {
        self.answers.len() / k
    }

    fn take_next(&mut self, strategy: &dyn QueryStrategy, k: usize, others: &[u32]) {
        let asked =
            Asked { account: self.account, sequence: &self.sequence, lists: &self.answers, k, others };
        let next = strategy.next(&asked, &mut self.stream);
        self.sequence.push(next);
    }
}
