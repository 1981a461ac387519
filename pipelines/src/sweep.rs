//! The command `sweep`: which defences a sweep over strengths runs, one a line, for the Makefile, which has no YAML.
//!
//! A line is the defence, a colon and the setting, as in `gro:defend.gro.lambda=0.3`. A value that comes to the same settings as an
//! earlier line (the default, in two lists of one defence) is one point of both curves, and is run once.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use defend::methods::DEFENCES;
use serde_yaml::{Mapping, Value};
use stage::{Flags, Refusal};

use crate::settings::schema;

/// What `gro sweep` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// YAML file of lists of values, each under `DEFENCE.KEY`
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

/// Print the defences to stdout, one a line.
///
/// Fails, as a refusal, where the file is not such a mapping, or a value is none that its defence can be set to.
pub fn sweep(arguments: &Arguments) -> anyhow::Result<()> {
    let mut text = String::new();
    for (defence, setting) in strengths(&arguments.file, &arguments.flags)? {
        let _ = writeln!(text, "{defence}:{setting}");
    }
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot print the defences")
}

/// Defences with the settings that they are to be run with, in the order of the file.
fn strengths(file: &Path, flags: &Flags) -> anyhow::Result<Vec<(String, String)>> {
    let shown = file.display();
    let refuse = |message: String| Refusal::new(format!("{shown}: {message}"));
    let text = std::fs::read_to_string(file)
        .map_err(|error| Refusal::because(format!("cannot read {shown}"), error))?;
    let lists: Mapping = serde_yaml::from_str(&text)
        .map_err(|error| Refusal::because(format!("{shown} is no YAML mapping of lists"), error))?;
    let mut found: Vec<(String, String)> = Vec::new();
    let mut met: Vec<(String, String)> = Vec::new();
    for (key, values) in &lists {
        let name = key.as_str().unwrap_or_default();
        let Some((defence, _)) = name.split_once('.') else {
            let message =
                format!("`{}` names no setting of a defence, expected one as in gro.lambda", plain(key));
            return Err(refuse(message).into());
        };
        DEFENCES.find(defence).map_err(|unknown| refuse(format!("{name}: {unknown}")))?;
        let Some(values) = values.as_sequence().filter(|values| !values.is_empty()) else {
            return Err(refuse(format!("{name} has no list of values, expected one as in [0.1, 0.3]")).into());
        };
        for value in values {
            if matches!(value, Value::Mapping(_) | Value::Sequence(_) | Value::Tagged(_)) {
                return Err(
                    refuse(format!("{name} holds a value that is no number, word or truth value")).into()
                );
            }
            let setting = format!("defend.{name}={}", plain(value));
            let mut with = flags.clone();
            with.set.push(setting.clone());
            let settings = schema().load(&with).with_context(|| format!("{shown}: {setting}"))?;
            let section = settings.value(&format!("defend.{defence}"))?;
            let whole = (defence.to_owned(), serde_yaml::to_string(&section).unwrap_or_default());
            if !met.contains(&whole) {
                met.push(whole);
                found.push((defence.to_owned(), setting));
            }
        }
    }
    Ok(found)
}

/// A value as a command line takes it.
fn plain(value: &Value) -> String {
    serde_yaml::to_string(value).unwrap_or_default().trim_end().to_owned()
}
