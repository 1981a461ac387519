//! `guard`: puts a target behind a guard that is fitted to its users (docs/mathematics.md, section 6.1). The weights stay as they
//! are. What was fitted stands in the checkpoint; the key lies beside it, in a file that nobody but its owner may read.

use anyhow::Result;
use artifact::checkpoint::{ActsOn, Checkpoint, Defence, Description, Kind, MODEL};
use artifact::settings::checks::{above_zero, at_least, at_most, number, probability};
use artifact::settings::{self, Invalid, Owned, Section, Sections};
use serde::{Deserialize, Serialize};
use service::guard::MOST_LIFTED;
use service::guard::fit::{Part, Wanted, fit};
use stage::memory::check_loading;
use stage::{Refusal, progress, splits};
use std::path::Path;

use super::{Job, Method};

/// What files, settings and command lines call it.
const METHOD_NAME: &str = "guard";

/// The registry's entry.
pub(super) const METHOD: Method = Method {
    name: METHOD_NAME,
    title: "Answers accounts that take like thieves with decoys",
    acts_on: ActsOn::Answers,
    section: Some(Section::new::<Settings>("defend", "guard")),
    depends_on: &[],
    needs_data: true,
    keyed: true,
    check,
    protect,
};

/// Fewest users that a guard can be fitted to and have its threshold set on, each.
const FEWEST: usize = 20;

/// Settings of the guard, the section `defend.guard`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// First places of a list, which hold no canary.
    pub honest: usize,
    /// Share of the places past these that hold canaries for an account that nothing speaks for, at least 0 and less than 1.
    pub canaries: f64,
    /// Evidence for a user, in nats, at which a list holds no canary any more; between that and none, their number falls evenly.
    pub trust: f64,
    /// Share of their places by which the key's green items are lifted in the ranking, for accounts that are not flagged: a watermark; 0 to 0.5,
    /// and 0 for none.
    pub watermark: f64,
    /// Share of users that may ever be flagged, 0 to 1.
    pub false_alarms: f64,
    /// Share of users' accounts that may begin under suspicion because other accounts of their client were taken for thieves', less than 1;
    /// 0 where none may.
    pub client_alarms: f64,
    /// Length of the lists that users are taken to have chosen from.
    pub top_k: usize,
    /// Users looked at, at most; their number changes the time it takes.
    pub users: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            honest: 10,
            canaries: 0.5,
            trust: 4.0,
            watermark: 0.0,
            false_alarms: 0.05,
            client_alarms: 0.001,
            top_k: 100,
            users: 2000,
        }
    }
}

impl Owned for Settings {
    fn check(&self) -> Result<(), Invalid> {
        at_least("defend.guard.honest", self.honest, 0)?;
        at_least("defend.guard.top_k", self.top_k, 2)?;
        at_least("defend.guard.users", self.users, 2 * FEWEST)?;
        probability("defend.guard.canaries", self.canaries)?;
        above_zero("defend.guard.trust", self.trust)?;
        number("defend.guard.watermark", self.watermark, "a share from 0 to 0.5", |share| {
            (0.0..=MOST_LIFTED).contains(&share)
        })?;
        probability("defend.guard.client_alarms", self.client_alarms)?;
        // Of all users, nobody would be left to be told from a thief.
        probability("defend.guard.false_alarms", self.false_alarms)
    }
}

/// Refuses lists that no catalogue of `items` can answer.
fn check(settings: &settings::Settings, items: usize, _: &Path) -> Result<()> {
    let own: Settings = settings::owned(&settings.defend, METHOD_NAME)?;
    Ok(at_most("defend.guard.top_k", own.top_k, items.saturating_sub(1))
        .map_err(|invalid| Refusal::new(format!("{invalid}: the catalogue holds {items} items")))?)
}

fn protect(job: &Job<'_>) -> Result<()> {
    let settings: Settings = job.own_settings()?;
    let (data, dataset) = job.dataset()?;
    check_loading(job.target)?;
    let Checkpoint { description, tensors } = Checkpoint::read(job.target)?;
    description.check_dataset(&dataset, job.target, data)?;
    splits::differ(job.target, &description.splits, data, job.other_split)?;
    check(job.settings, description.items, job.target)?;
    let device = job.device()?;
    let (model, _) = models::load(job.target, &device)?;
    let key = job.write_key()?;
    let of = |part| -> Vec<Vec<u32>> {
        let users = (0..dataset.users()).filter(|&user| Part::of(user) == part);
        // Those that the threshold is set on end with what the model was not trained on.
        let latest = |user| (part == Part::Threshold).then(|| dataset.valid(user));
        let histories = users.map(|user| (dataset.train(user), latest(user)));
        histories
            .filter(|(train, _)| train.len() > 1)
            .map(|(train, latest)| train.iter().copied().chain(latest).collect())
            .take(settings.users / 2)
            .collect()
    };
    let (fitted, others) = (of(Part::Fit), of(Part::Threshold));
    if fitted.len().min(others.len()) < FEWEST {
        return Err(Refusal::new(format!(
            "{} holds {} users to fit a guard to and {} to set its threshold on, expected at least {FEWEST} of each with two \
             items to train on",
            data.display(),
            fitted.len(),
            others.len()
        ))
        .into());
    }
    let allowed = settings.false_alarms * others.len() as f64;
    if allowed > 0.0 && allowed < 1.0 {
        tracing::warn!(
            "defend.guard.false_alarms is {}, which is less than one of the {} users the threshold is set on: none of them is flagged",
            settings.false_alarms,
            others.len()
        );
    }
    let wanted = Wanted {
        honest: settings.honest,
        canaries: settings.canaries,
        trust: settings.trust,
        watermark: settings.watermark,
        false_alarms: settings.false_alarms,
        client_alarms: settings.client_alarms,
        top_k: settings.top_k,
    };
    let bar = progress::bar((fitted.len() + others.len()) as u64, "users", job.flags.quiet);
    let parameters = fit(&wanted, &key, &*model, (&fitted, &others), &device, &|users| bar.inc(users))?;
    bar.finish_and_clear();
    tracing::info!(
        "flagged above {:.2} nats; users take a canary at {:.1e} of the chances",
        parameters.threshold,
        parameters.chance.user
    );
    let parameters: Sections = serde_json::from_value(serde_json::to_value(&parameters)?)?;
    let defence = job.over(Defence::answers(METHOD_NAME, parameters), description.defence);
    let description = Description { kind: Kind::Protected, defence, ..description };
    Ok(Checkpoint { description, tensors }.write(&job.output.join(MODEL))?)
}
