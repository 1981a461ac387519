//! The command `verify`: are outputs, copied from elsewhere or kept for long, still what their stages wrote?

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use stage::verify::{Verdict, tree};
use stage::{Flags, Refusal};

/// What `gro verify` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Outputs of stages, or directories above them
    #[arg(required = true, value_name = "DIR")]
    pub directories: Vec<PathBuf>,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

/// Prints a line for every output, and one for each thing that is wrong with it.
///
/// Fails, as a refusal, where anything is.
pub fn verify(arguments: &Arguments) -> anyhow::Result<()> {
    let (mut outputs, mut wrong) = (0, 0);
    let mut stdout = std::io::stdout().lock();
    for root in &arguments.directories {
        for verdict in tree(root)? {
            outputs += 1;
            wrong += usize::from(!(verdict.damage.is_empty() && verdict.outdated.is_empty()));
            stdout.write_all(lines(&verdict).as_bytes()).context("cannot print the verdicts")?;
        }
    }
    if wrong == 0 {
        return Ok(());
    }
    let message =
        format!("{wrong} of {outputs} outputs are not what their stages would write now; run those again");
    Err(Refusal::new(message).into())
}

fn lines(Verdict { directory, command, listed, damage, outdated }: &Verdict) -> String {
    let directory = directory.display();
    let wrote = command.as_ref().map(|command| format!(", by {command}")).unwrap_or_default();
    if damage.is_empty() && outdated.is_empty() {
        return format!("ok        {directory}: {listed} files{wrote}\n");
    }
    let damage = damage.iter().map(|what| format!("damaged   {directory}: {what}\n"));
    let outdated = outdated.iter().map(|what| format!("outdated  {directory}: its input {what}{wrote}\n"));
    damage.chain(outdated).collect()
}
