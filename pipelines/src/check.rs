//! The command `check`: would every stage take these settings? Whoever chains the stages asks before the first one works: what
//! the settings alone tell, and, once there is a dataset, what its size tells.

use std::path::PathBuf;

use anyhow::Context;
use artifact::dataset::{STATS, Stats};
use defend::methods::{DEFENCES, Method};
use stage::{Flags, Refusal};

/// What `gro check` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Dataset made by `gro-preprocess run`, whose size the settings have to suit as well
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Defences that will be run; all by default
    #[arg(long, value_name = "METHOD", num_args = 1.., value_parser = stage::choices(&DEFENCES))]
    pub methods: Vec<&'static Method>,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

/// Check, and print nothing.
///
/// Fails, as a refusal, for the first setting that some stage would refuse.
pub fn check(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = crate::settings::schema().load(&arguments.flags)?;
    let Some(data) = &arguments.data else { return Ok(()) };
    let stats = data.join(STATS);
    if !stats.exists() {
        let message = format!("{} does not exist; `gro-preprocess run` makes it", stats.display());
        return Err(Refusal::new(message).into());
    }
    let Stats { items, .. } = Stats::read(data).with_context(|| format!("reading {}", data.display()))?;
    attack::check(&settings.generate, items, data)?;
    evaluate::run::check(&settings.evaluate, items)?;
    let chosen = DEFENCES.iter().filter(|method| {
        arguments.methods.is_empty() || arguments.methods.iter().any(|chosen| chosen.name == method.name)
    });
    for method in chosen {
        (method.check)(&settings, items, data)?;
    }
    Ok(())
}
