//! What a thief sets out to do: how many accounts he opens, how many questions each asks, and which real histories he begins with.
//! His price is known from this before the first question.

use artifact::settings::checks::at_least;
use artifact::settings::{Generate, Invalid};
use rand_chacha::ChaCha8Rng;
use service::guard::clients::Asker;
use streams::{Purpose, Streams};

use crate::generate::BLOCK;
use crate::strategies::{Course, STRATEGIES, Strategy};

/// A campaign.
#[derive(Clone, Debug)]
pub struct Campaign<'a> {
    /// The settings it follows.
    pub settings: &'a Generate,
    /// How the next item is chosen.
    pub strategy: &'static Strategy,
    /// Items of the target's catalogue.
    pub items: usize,
    /// Number of accounts, of which each asks about one sequence.
    pub accounts: usize,
    /// Questions of an account, on average where they differ.
    pub questions: usize,
    /// Questions of an account at most.
    pub longest: usize,
    /// Real histories that accounts begin with, spread evenly over them.
    pub seeds: Vec<&'a [u32]>,
    /// Where draws come from.
    pub streams: Streams,
}

impl<'a> Campaign<'a> {
    /// The campaign of the settings, against a target that reads `max_len` items of a history and ranks `items`.
    ///
    /// # Errors
    /// A strategy that is not known, settings it cannot use, accounts without a question.
    pub fn new(
        settings: &'a Generate,
        (max_len, items): (usize, usize),
        seeds: &[&'a [u32]],
        streams: Streams,
    ) -> Result<Self, Invalid> {
        let strategy =
            STRATEGIES.find(&settings.strategy).map_err(|unknown| Invalid::new(unknown.to_string()))?;
        let (accounts, questions) = (strategy.divide)(settings, max_len, items)?;
        let key = if settings.questions.is_none() && settings.length.is_some() {
            "generate.length"
        } else {
            "generate.questions"
        };
        at_least(key, questions, 1)?;
        let longest = settings.length.unwrap_or(max_len).max(questions);
        Ok(Self { settings, strategy, items, accounts, questions, longest, seeds: seeds.to_vec(), streams })
    }

    /// Questions of all accounts together.
    pub fn budget(&self) -> usize {
        self.accounts * self.questions
    }

    /// Refuses what the catalogue cannot answer.
    ///
    /// # Errors
    /// More clients than accounts, or any where all accounts grow at once; lists longer than the catalogue; sequences longer than it, where no item may stand in one twice; more real histories than
    /// accounts, or one that is empty or longer than a sequence.
    pub fn check(&self) -> Result<(), Invalid> {
        let Self { settings, items, accounts, questions, longest, seeds, .. } = self;
        let refused = |message: String| Err(Invalid::new(message));
        if settings.top_k > *items {
            return refused(format!(
                "`generate.top_k` is {}, expected at most the {items} items",
                settings.top_k
            ));
        }
        if !settings.repeats && longest > items {
            return refused(format!(
                "`generate.repeats` is false, but {longest} different items cannot be had of {items}; ask fewer questions an account"
            ));
        }
        if settings.twice > 0.0 && matches!(self.strategy.course, Course::Rounds(_)) {
            return refused(format!(
                "`generate.twice` is {}, but {} grows all accounts at once, and none has asked before another",
                settings.twice, self.strategy.name
            ));
        }
        if let Some(clients) = settings.clients {
            if clients > *accounts {
                return refused(format!(
                    "`generate.clients` is {clients}, expected at most the {accounts} accounts"
                ));
            }
            if matches!(self.strategy.course, Course::Rounds(_)) {
                return refused(format!(
                    "`generate.clients` is {clients}, but {} grows all accounts at once, and none of a client has ended before another; leave it out",
                    self.strategy.name
                ));
            }
        }
        if seeds.len() > *accounts {
            return refused(format!(
                "{} real histories for {accounts} accounts, expected no more",
                seeds.len()
            ));
        }
        if seeds.iter().any(|seed| !(1..=*questions).contains(&seed.len())) {
            return refused(format!("a real history to begin with holds 1 to {questions} items"));
        }
        Ok(())
    }

    /// The stream of an account.
    pub fn stream_of(&self, account: usize) -> ChaCha8Rng {
        self.streams.open(Purpose::Generation, 0, account as u64, 0)
    }

    /// Who asks for an account.
    pub fn asker(&self, account: usize) -> Asker {
        let client = self.settings.clients.map(|clients| (account % clients) as u64);
        Asker { client, account: account as u64 }
    }

    /// Whether an account asks again what one of the block before asked. These lie at equal distances too.
    pub fn asks_twice(&self, account: usize) -> bool {
        let count = (self.settings.twice * self.accounts as f64).round() as usize;
        let before = |account: usize| account * count / self.accounts;
        account >= BLOCK && before(account + 1) > before(account)
    }

    /// The real history that an account begins with: those that have one lie at equal distances.
    pub fn seed_of(&self, account: usize) -> Option<&'a [u32]> {
        let before = |account: usize| account * self.seeds.len() / self.accounts;
        (before(account + 1) > before(account)).then(|| self.seeds[before(account)])
    }
}
