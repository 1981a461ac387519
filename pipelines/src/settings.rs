//! The command `settings`: what layers of settings come to, for a reader and for whoever chains the stages.
//!
//! A Makefile has no YAML. To repeat an experiment for every seed and surrogate that the settings name it asks here, with
//! the same `--config` and `--set` that it gives to every stage.

use std::io::Write as _;

use anyhow::Context;
use attack::losses::LIST_LOSSES;
use attack::strategies::STRATEGIES;
use attack::suspicions::SUSPICIONS;
use defend::methods::DEFENCES;
use models::ARCHITECTURES;
use preprocess::read::LAYOUTS;
use serde_yaml::Value;
use stage::{Flags, Schema};

/// What `gro settings` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print this setting alone: a list as words with spaces between, null as nothing, a section as YAML
    #[arg(long, value_name = "KEY.PATH")]
    pub get: Option<String>,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

/// The settings of all stages: every name and every section is known here.
pub(crate) fn schema() -> Schema {
    Schema::default()
        .names(&ARCHITECTURES, models::SETTINGS)
        .names(&STRATEGIES, attack::strategies::SETTINGS)
        .names(&SUSPICIONS, attack::suspicions::SETTINGS)
        .names(&LIST_LOSSES, attack::losses::SETTINGS)
        .names_or("auto", &LAYOUTS, preprocess::read::layouts::SETTINGS)
        .sections("defend", DEFENCES.iter().filter_map(|method| method.section))
        .sections("generate", STRATEGIES.iter().filter_map(|strategy| strategy.section))
}

/// Print the settings to stdout.
///
/// Fails, as a refusal, where a layer is wrong or the key path leads nowhere.
pub fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = schema().load(&arguments.flags)?;
    let text = match &arguments.get {
        Some(path) => words(&settings.value(path)?)?,
        None => serde_yaml::to_string(&*settings).context("the settings cannot be shown as YAML")?,
    };
    writeln!(std::io::stdout().lock(), "{}", text.trim_end()).context("cannot print the settings")
}

/// A value as a shell reads it.
fn words(value: &Value) -> anyhow::Result<String> {
    Ok(match value {
        Value::Null => String::new(),
        Value::Sequence(values) => values.iter().map(words).collect::<anyhow::Result<Vec<_>>>()?.join(" "),
        _ => {
            serde_yaml::to_string(value).context("the setting cannot be shown as YAML")?.trim_end().to_owned()
        }
    })
}
