//! `gro-… man DIRECTORY`: the manual pages of every binary, without a line in any of them. They say what `--help` says.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Command;

use crate::Refusal;

/// The word that asks for manual pages in place of a subcommand.
const WORD: &str = "man";

/// The directory for them, when manual pages are what `arguments` (program name included) ask for.
pub(crate) fn requested(arguments: &[OsString]) -> Option<Result<PathBuf, Refusal>> {
    let [_, word, rest @ ..] = arguments else { return None };
    if word != OsStr::new(WORD) {
        return None;
    }
    Some(match rest {
        [directory] if !directory.to_string_lossy().starts_with('-') => Ok(directory.into()),
        _ => Err(Refusal::new("expected the directory that gets the manual pages: `man DIRECTORY`")),
    })
}

/// Write `gro-train.1`, and a page for each subcommand such as `gro-train-import.1`, into `directory`, which is made if need be.
pub(crate) fn write(command: Command, directory: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot write manual pages to {}", directory.display());
    fs::create_dir_all(directory).with_context(context)?;
    clap_mangen::generate_to(command, directory).with_context(context)
}
