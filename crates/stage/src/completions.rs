//! `gro-… completions SHELL`: shell completions from every binary, without a line in any of them.

use std::io::Write;

use clap::Command;
use clap_complete::Shell;

use crate::Refusal;

/// The word that asks for completions in place of a subcommand.
const WORD: &str = "completions";

/// The completion script, when that is what `arguments` (program name included) ask for.
pub(crate) fn requested(arguments: &[String], command: &Command) -> Option<Result<Vec<u8>, Refusal>> {
    let [_, word, rest @ ..] = arguments else { return None };
    if word != WORD {
        return None;
    }
    let [shell] = rest else {
        return Some(Err(Refusal::new(
            "expected a shell: `completions bash`, zsh, fish, elvish or powershell",
        )));
    };
    let shell: Shell = match shell.parse() {
        Ok(shell) => shell,
        Err(message) => return Some(Err(Refusal::new(message))),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command.clone(), command.get_name(), &mut script);
    Some(Ok(script))
}

/// Write the script to stdout.
pub(crate) fn print(script: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(script)?;
    stdout.flush()
}
