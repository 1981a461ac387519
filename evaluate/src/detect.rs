//! The command `detect`: a dataset, a guarded target and query logs in; how well the guard and other detectors tell the accounts of
//! thieves from those of users out.
//!
//! The guard was fitted to one part of the users and its threshold set on another ([`Part`]); what is measured here are users of the third,
//! with their validation and test items, of which no detector has seen anything. Whoever is watched, user or thief, is watched as if
//! he had asked for lists of the length that the thief asked for.

pub mod accounts;
pub mod detectors;
pub mod figures;
pub mod markdown;
pub mod plot;
pub mod tidy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use accounts::{Account, Observer};
use anyhow::Context;
use artifact::asked;
use artifact::checkpoint::{ActsOn, Description, MODEL};
use artifact::dataset::{self, Dataset};
use artifact::queries::{QUERIES, QueryHeader, QueryLog};
use candle_core::Device;
use detectors::{DETECTORS, Judge};
use figures::{Detection, Guarded, Thief};
use metrics::Bootstrap;
use models::Recommender;
use service::guard::Guard;
use service::guard::fit::Part;
use service::policies::{Answering, key_of, policy_of};
use stage::memory::check_loading;
use stage::{Flags, Kernels, OtherSplit, Plan, Refusal, Settings, progress, settings, splits};

use crate::figures::Subject;
use crate::report::grouping::names_of;
use crate::report::{once, print};
use crate::run::subject;
use crate::theft::curves::strategy_of;

/// Name of the readable report.
pub const DETECT: &str = "detect.md";
/// Name of the same numbers for programs.
pub const DETECT_JSON: &str = "detect.json";
/// Name of the same numbers in long form.
pub const DETECT_CSV: &str = "detect.csv";
/// Name of the picture.
pub const PLOT: &str = "detect.svg";

/// The policy that is measured.
const GUARD: &str = "guard";

/// Fewest users to fit to, and to measure.
const FEWEST: usize = 20;

/// Users that detectors are fitted to, at most: what is seen of them is held in memory.
const FITTED: usize = 2000;

/// What `gro-evaluate detect` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Dataset made by `gro-preprocess run`, of whose users the guard was fitted to some
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Directory of the target, made by `gro-defend --method guard`
    #[arg(long, value_name = "DIR")]
    pub target: PathBuf,
    /// Key of the target; by default answer.key beside its model
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Directories of query logs, made by `gro-attack generate`: a thief each; or of what `gro-serve http --log` wrote, such as asked/k-10
    #[arg(long, num_args = 1.., required = true, value_name = "DIR")]
    pub queries: Vec<PathBuf>,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub other_split: OtherSplit,
    /// Directory to write detect.md, detect.json, detect.csv and detect.svg to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

/// Measure detection, unless that is up to date, and print the tables to stdout.
///
/// Fails, as a refusal, where the target has no guard or not this key, a log is of another catalogue, or users are too few.
pub fn detect(arguments: &Arguments) -> anyhow::Result<()> {
    kernels::set_plain(arguments.flags.kernels == Kernels::Plain);
    let settings = settings::load(&arguments.flags)?;
    let queries = once("--queries", &arguments.queries);
    let target = arguments.target.join(MODEL);
    let plan = Plan::new("gro-evaluate detect", &arguments.out, &arguments.flags, &settings, &["evaluate"])
        .inputs(dataset::files(&arguments.data))
        .input(&target)
        .inputs(arguments.key.clone())
        .inputs(queries.iter().flat_map(|directory| log_files(directory)))
        .other_split(arguments.other_split);
    plan.produce(|directory| {
        let device = models::device(arguments.flags.device)?;
        plan.runs_on(models::name_of(&device));
        let measurement = Measurement::read(arguments, &queries, &device)?;
        write(&measurement.measure(&settings, arguments.flags.quiet)?, directory)
    })?;
    print(&arguments.out.join(DETECT), PICTURE)
}

/// The line of the report that shows the plot; a terminal is spared it.
const PICTURE: &str = "![share of thieves' accounts caught over the share of users ever flagged](detect.svg)";

fn write(detection: &Detection, directory: &Path) -> anyhow::Result<()> {
    let path = directory.join(DETECT);
    std::fs::write(&path, format!("{}\n{PICTURE}\n", markdown::markdown(detection)))
        .with_context(|| format!("cannot write {}", path.display()))?;
    artifact::metrics::write(&directory.join(DETECT_JSON), detection)?;
    tidy::write_csv(detection, &directory.join(DETECT_CSV))?;
    plot::draw(detection, &directory.join(PLOT))
}

/// Detectors that were fitted, and the users that are measured as these see them.
struct Known {
    judges: Vec<Box<dyn Judge>>,
    users: Vec<Account>,
}

/// A thief's log.
struct Log {
    name: String,
    header: QueryHeader,
    accounts: Vec<Vec<u32>>,
    answered_here: Option<bool>,
}

/// The inputs, found to belong together.
struct Measurement<'a> {
    fingerprint: String,
    sequences: String,
    other_split: bool,
    fitted: Vec<Vec<u32>>,
    users: Vec<Vec<u32>>,
    guard: Box<Guard>,
    model: Box<dyn Recommender>,
    target: Subject,
    logs: Vec<Log>,
    device: &'a Device,
}

impl<'a> Measurement<'a> {
    fn read(arguments: &Arguments, queries: &[PathBuf], device: &'a Device) -> anyhow::Result<Self> {
        let data = &arguments.data;
        let dataset = Dataset::read(data)?;
        let users = measured(&dataset);
        let fitted = fitted(&dataset);
        for (found, what) in [(users.len(), "measure detection on"), (fitted.len(), "fit detectors to")] {
            if found < FEWEST {
                return Err(Refusal::new(format!(
                    "{} holds {found} users to {what}, expected at least {FEWEST}: of all users with a test item a fifth is measured, \
                     and detectors are fitted to two fifths",
                    data.display()
                ))
                .into());
            }
        }
        let path = arguments.target.join(MODEL);
        check_loading(&path)?;
        let (model, description) =
            models::load(&path, device).with_context(|| format!("loading {}", path.display()))?;
        description.check_dataset(&dataset, &path, data)?;
        let other_split = splits::differ(&path, &description.splits, data, arguments.other_split)?;
        let guard = guard_of(&description, arguments, &path)?;
        let target = subject(&path, &description)?;
        let named = queries.iter().zip(names_of(queries));
        let logs =
            named.map(|(directory, name)| read_log(directory, name, &dataset, data, &target.checkpoint));
        let logs = logs.collect::<anyhow::Result<_>>()?;
        Ok(Self {
            fingerprint: dataset.fingerprint().to_owned(),
            sequences: splits::of(data)?,
            other_split,
            fitted,
            users,
            guard,
            model,
            target,
            logs,
            device,
        })
    }

    fn measure(self, settings: &Settings, quiet: bool) -> anyhow::Result<Detection> {
        let bootstrap = Bootstrap { resamples: settings.evaluate.bootstrap, seed: settings.seed };
        let mut lengths: Vec<usize> = self.logs.iter().map(|log| log.header.k).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let thieves: usize = self.logs.iter().map(|log| log.accounts.len()).sum();
        let total = lengths.len() * (self.fitted.len() + self.users.len()) + thieves;
        let bar = progress::bar(total as u64, "accounts", quiet);
        let advance = || bar.inc(1);
        // By length of lists.
        let mut known: BTreeMap<usize, Known> = BTreeMap::new();
        for &k in &lengths {
            let observer = self.observer(k);
            let fitted = observer.observe_all(&self.fitted, &advance)?;
            let judges: Vec<Box<dyn Judge>> =
                DETECTORS.iter().map(|detector| (detector.fit)(&fitted)).collect();
            let users = observer.judge(&self.users, &judges, &advance)?;
            known.insert(k, Known { judges, users });
        }
        let mut found = Vec::with_capacity(self.logs.len());
        for log in &self.logs {
            let Some(Known { judges, users }) = known.get(&log.header.k) else { continue };
            let accounts = self.observer(log.header.k).judge(&log.accounts, judges, &advance)?;
            let names = (log.name.clone(), strategy_of(&log.header));
            let thief = Thief::of(names, &log.header, log.answered_here, (users, &accounts), &bootstrap)
                .context("resampling accounts")?;
            found.push(thief);
        }
        bar.finish_and_clear();
        Ok(Detection {
            fingerprint: self.fingerprint,
            sequences: self.sequences,
            items: self.model.sizes().items,
            fitted_users: self.fitted.len(),
            users: self.users.len(),
            other_split: self.other_split,
            bootstrap: bootstrap.resamples,
            seed: bootstrap.seed,
            target: self.target,
            threshold: self.guard.parameters().threshold,
            false_alarms: self.guard.parameters().false_alarms,
            guarded: known.iter().map(|(&k, known)| Guarded::of(k, &known.users)).collect(),
            thieves: found,
        })
    }

    fn observer(&self, k: usize) -> Observer<'_> {
        Observer { guard: &self.guard, model: &*self.model, device: self.device, k }
    }
}

/// All items of the users that are measured, in order.
fn measured(dataset: &Dataset) -> Vec<Vec<u32>> {
    let users = dataset.tested().into_iter().filter(|&user| Part::of(user) == Part::Measure);
    users
        .map(|user| {
            let held_out = [Some(dataset.valid(user)), dataset.test(user)].into_iter().flatten();
            dataset.train(user).iter().copied().chain(held_out).collect()
        })
        .collect()
}

/// The training items of the users that detectors are fitted to.
fn fitted(dataset: &Dataset) -> Vec<Vec<u32>> {
    let users = (0..dataset.users()).filter(|&user| Part::of(user) == Part::Fit);
    let histories = users.map(|user| dataset.train(user)).filter(|history| history.len() > 1);
    histories.take(FITTED).map(<[u32]>::to_vec).collect()
}

/// The guard of the target.
fn guard_of(description: &Description, arguments: &Arguments, path: &Path) -> anyhow::Result<Box<Guard>> {
    let without = || {
        Refusal::new(format!(
            "{} has no guard (its defence is `{}`), so there is no evidence to measure; make one with `gro-defend --method guard`",
            path.display(),
            description.defence.name
        ))
    };
    // Before the key is read: that there is nothing to measure says more than that a key is of no use.
    let guarded = description.defence.acts_on == ActsOn::Answers && description.defence.name == GUARD;
    if !guarded {
        return Err(without().into());
    }
    let key = key_of(description, &arguments.target, arguments.key.as_deref())?;
    match policy_of(description, key)? {
        Answering::ByAccount(guard) if guard.items() == description.items => Ok(guard),
        Answering::ByAccount(guard) => Err(Refusal::new(format!(
            "{}: the guard was fitted to a catalogue of {} items, the model has {}",
            path.display(),
            guard.items(),
            description.items
        ))
        .into()),
        Answering::AsRanked | Answering::ByQuestion(_) => Err(without().into()),
    }
}

/// The files of a log: that of an attack, or those of a service, which has several. A directory that holds neither is one where the first
/// is missing.
fn log_files(directory: &Path) -> Vec<PathBuf> {
    let attack = directory.join(QUERIES);
    let service = asked::files(directory).unwrap_or_default();
    if attack.exists() || service.is_empty() { vec![attack] } else { service }
}

/// A log's header, and the sequences of its accounts.
fn accounts_of(directory: &Path) -> anyhow::Result<(QueryHeader, Vec<Vec<u32>>)> {
    let path = directory.join(QUERIES);
    if log_files(directory) != [path.clone()] {
        return Ok(asked::accounts(directory)?);
    }
    let log = QueryLog::open(&path)?;
    let mut accounts = Vec::with_capacity(log.sequences());
    for group in 0..log.groups() {
        accounts.extend(log.read_group(group)?.into_iter().map(|query| query.sequence));
    }
    Ok((log.header().clone(), accounts))
}

/// A thief's log, refused where it is of another catalogue. That another target answered it is said aloud.
fn read_log(
    directory: &Path,
    name: String,
    dataset: &Dataset,
    data: &Path,
    checkpoint: &str,
) -> anyhow::Result<Log> {
    let (header, accounts) = accounts_of(directory)?;
    let path = directory.join(QUERIES);
    let path = if path.exists() { &path } else { directory };
    if (header.fingerprint.as_str(), header.items) != (dataset.fingerprint(), dataset.items()) {
        return Err(Refusal::new(format!(
            "{} asked about another catalogue than that of {}: {} items with other ids or another order against {}; give a log of \
             this dataset",
            path.display(),
            data.display(),
            header.items,
            dataset.items()
        ))
        .into());
    }
    if accounts.is_empty() {
        return Err(Refusal::new(format!(
            "{} holds no sequence, so there is no thief to detect",
            path.display()
        ))
        .into());
    }
    let answered_here = header.target.as_ref().map(|target| *target == checkpoint);
    if answered_here != Some(true) {
        let by = match answered_here {
            None => "does not say which target answered it",
            Some(_) => "was answered by another target",
        };
        tracing::warn!(
            "{} {by}: its accounts are judged as if they had asked this one the same",
            path.display()
        );
    }
    Ok(Log { name, header, accounts, answered_here })
}
