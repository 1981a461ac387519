//! The third stage: a gold target in, a protected one out.
//!
//! A defence is a method of [`methods`]: GRO and decoys change the weights; answer policies change answers only, and stand in the
//! checkpoint's description, which everything that serves the target obeys.

pub mod methods;

use std::path::{Path, PathBuf};

use anyhow::Result;
use artifact::checkpoint::MODEL;
use artifact::dataset;
use service::key::Key;
use stage::settings::Checked;
use stage::{Flags, Kernels, OtherSplit, Plan, Refusal, Resume, Schema};

use crate::methods::{DEFENCES, Job, Method, missing_data};

/// Protect a target.
///
/// Reads the target that `gro-train` made and writes a protected one: model.safetensors; with GRO the student's
/// student.safetensors, with decoy the target as it was, gold.safetensors; with both history.csv and TensorBoard events.
///
/// Example: gro-defend --config pipelines/ml-100k.yaml --config pipelines/bert.yaml --data out/ml-100k/data
/// --target out/ml-100k-bert/target --method gro --out out/ml-100k-bert/protected-gro
#[derive(clap::Parser, Debug)]
#[command(name = "gro-defend", version)]
pub struct Cli {
    /// Dataset made by `gro-preprocess run`; methods that change answers only do not read it
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Target made by `gro-train`
    #[arg(long, value_name = "DIR")]
    target: PathBuf,
    /// The defence
    #[arg(long, value_name = "METHOD", value_parser = stage::choices(&DEFENCES))]
    method: &'static Method,
    /// Secret key that answers depend on, made where there is no such file
    ///
    /// The policies guard, tail and replace answer by a key, and decoy trains by one. It lies as answer.key beside the protected target, readable by its owner alone. Without
    /// this flag it is the key of the seed, so that an experiment can be repeated; a service needs one that nobody can guess.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Directory to write the protected target to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    other_split: OtherSplit,
    #[command(flatten)]
    resume: Resume,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

impl Cli {
    /// The flags every stage has.
    pub fn flags(&self) -> Option<&Flags> {
        Some(&self.flags)
    }
}

/// The settings that this stage reads.
fn schema() -> Schema {
    Schema::default()
        .names(&models::ARCHITECTURES, models::SETTINGS)
        .sections("defend", DEFENCES.iter().filter_map(|method| method.section))
}

/// Protects, unless the output is up to date.
pub fn run(cli: &Cli) -> Result<()> {
    kernels::set_plain(cli.flags.kernels == Kernels::Plain);
    let settings = schema().load(&cli.flags)?;
    let (method, target) = (cli.method, cli.target.join(MODEL));
    let own = method.section.map(|section| format!("{}.{}", section.parent, section.name));
    let sections: Vec<&str> = method.depends_on.iter().copied().chain(own.as_deref()).collect();
    // What does not depend on a setting, or on the data, is not redone when it changes.
    let data = cli.data.as_deref().filter(|_| method.needs_data);
    if method.needs_data && data.is_none() {
        return Err(missing_data(method).into());
    }
    let key = cli.key.as_deref();
    let made = key.map_or(Ok(false), |path| prepare_key(method, path))?;
    let done = protect(cli, &settings, &sections, &target, data);
    if let (true, Some(path)) = (made, key) {
        let interrupted = done
            .as_ref()
            .err()
            .is_some_and(|error| matches!(error.downcast_ref(), Some(training::Error::Interrupted(_))));
        // What was cut off goes on with the key that it began with.
        if done.is_ok() || interrupted {
            tracing::info!(
                "a new key in {}; keep it, for without it no answer can be repeated and no theft proved",
                path.display()
            );
        } else if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!("{} holds a key that nothing was protected with: {error}", path.display());
        }
    }
    done
}

/// Protects the `target` with what `cli` asks for; a key that it names is there.
fn protect(
    cli: &Cli,
    settings: &Checked,
    sections: &[&str],
    target: &PathBuf,
    data: Option<&Path>,
) -> Result<()> {
    let (method, key) = (cli.method, cli.key.as_deref());
    let plan = Plan::new("gro-defend", &cli.out, &cli.flags, settings, sections)
        .argument("method", method.name)
        .input(target)
        .inputs(data.map(dataset::files).into_iter().flatten())
        .inputs(key.map(Path::to_owned));
    let plan = plan.other_split(cli.other_split);
    let identity = plan.identity()?;
    plan.produce(|directory| {
        (method.protect)(&Job {
            method,
            settings,
            data,
            target,
            key,
            output: directory,
            plan: &plan,
            identity: &identity,
            resume: &cli.resume,
            other_split: cli.other_split,
            flags: &cli.flags,
        })
    })?;
    Ok(())
}

/// Makes the key where there is none, and says whether it did; refuses one that would not be used.
fn prepare_key(method: &Method, path: &Path) -> Result<bool> {
    if !method.keyed {
        return Err(Refusal::new(format!(
            "--key {} would not be used: {} has no key; leave it out",
            path.display(),
            method.name
        ))
        .into());
    }
    let missing = !path.try_exists().unwrap_or(false);
    if missing {
        let home = path.parent().filter(|home| !home.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !home.is_dir() {
            return Err(Refusal::new(format!(
                "--key {}: {} is no directory; make it, or name another file",
                path.display(),
                home.display()
            ))
            .into());
        }
        Key::random()?.write(path)?;
    }
    Ok(missing)
}
