//! The command `results`: experiments in, a page of results out, on which every number comes from a file that is kept beside it.
//!
//! An *experiment* is the directory that `make results-DATASET-ARCHITECTURE` fills: a target behind each defence, copied by each thief, for
//! several seeds, and the report on all of that. What the page needs of it is kept as one small `report.json` ([`kept`]), together with
//! what the experiment cost and the proofs of theft; the rest may be thrown away. The page is written from what is kept alone, so that
//! experiments may come in over days, and from several machines.
//!
//! The page may hold words of people too: what stands between two marks is replaced, and nothing else.

pub mod cost;
pub mod kept;
pub mod page;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kept::{KEPT, Kept};
use stage::{Flags, Refusal, settings};

use crate::report::{FRONTIER, PAGE, REPORT_JSON};

/// Where the part of the page begins that is written here.
pub const BEGIN: &str = "<!-- results: begin; written by `gro-evaluate results`, edits are lost -->";
/// Where it ends.
pub const END: &str = "<!-- results: end -->";

/// What `gro-evaluate results` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directories of finished experiments, as `make results-DATASET-ARCHITECTURE` leaves them, to be collected first
    #[arg(long, num_args = 1.., value_name = "DIR")]
    pub collect: Vec<PathBuf>,
    /// Directory where a report.json, a report.html and a frontier.svg of each experiment are kept
    #[arg(long, value_name = "DIR", default_value = "docs/results")]
    pub kept: PathBuf,
    /// Markdown file to write the results into, between its two marks; a new one where there is none
    #[arg(long, value_name = "FILE", default_value = "docs/results.md")]
    pub page: PathBuf,
    /// The machine that ran what is collected, in words; by default the kind of its processor
    #[arg(long, value_name = "TEXT")]
    pub machine: Option<String>,
    /// Write nothing, and fail where the page says anything else than what is kept
    #[arg(long, conflicts_with = "collect")]
    pub check: bool,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

/// Collect experiments and write the page.
///
/// Fails, as a refusal, where an experiment has no report, two are called the same, what is kept is damaged, the page has lost a mark, or, with `--check`, the page
/// is not what would be written.
pub fn results(arguments: &Arguments) -> anyhow::Result<()> {
    // No setting takes part, but a misspelt one should not pass unnoticed.
    settings::load(&arguments.flags)?;
    let before = read_page(&arguments.page)?;
    let mut collected: Vec<(&PathBuf, Kept)> = Vec::with_capacity(arguments.collect.len());
    for directory in &arguments.collect {
        let machine = arguments.machine.clone().unwrap_or_else(cost::machine);
        let kept = Kept::of(directory, machine)?;
        if let Some((other, _)) = collected.iter().find(|(_, other)| other.experiment == kept.experiment) {
            let message = format!(
                "{} and {} are both kept as {}, and the one would take the place of the other; collect one of them, or rename its directory",
                other.display(),
                directory.display(),
                kept.experiment
            );
            return Err(Refusal::new(message).into());
        }
        collected.push((directory, kept));
    }
    for (directory, kept) in &collected {
        keep(&arguments.kept, directory, kept)?;
    }
    let all = Kept::all(&arguments.kept)?;
    if all.is_empty() {
        let message = format!(
            "{} keeps no experiment; `make results-DATASET-ARCHITECTURE` makes one, for example results-ml-100k-sas",
            arguments.kept.display()
        );
        return Err(Refusal::new(message).into());
    }
    let after = before.with(&page::markdown(&all, &seen_from(&arguments.page, &arguments.kept)));
    if arguments.check {
        if before.text() == after {
            return Ok(());
        }
        let message = format!(
            "{} does not say what {} holds; write it again with `gro-evaluate results`",
            arguments.page.display(),
            arguments.kept.display()
        );
        return Err(Refusal::new(message).into());
    }
    replace(&arguments.page, after.as_bytes())?;
    tracing::info!("{} speaks of {} experiments", arguments.page.display(), all.len());
    Ok(())
}

/// Put what is kept of an experiment, its page with pictures and its frontier below `root`.
fn keep(root: &Path, directory: &Path, kept: &Kept) -> anyhow::Result<()> {
    let home = root.join(&kept.experiment);
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    for name in [PAGE, FRONTIER] {
        let made = directory.join("report").join(name);
        let pictures =
            fs::read(&made).with_context(|| format!("cannot read {}; report again", made.display()))?;
        replace(&home.join(name), &pictures)?;
    }
    replace(&home.join(KEPT), kept.to_json()?.as_bytes())
}

/// Write a file whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = path.with_file_name(name);
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // What is left of it is nobody's; that the disk is full, say, is what matters.
        let _ = fs::remove_file(&partial);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// A page in three parts.
struct Page {
    head: String,
    written: String,
    tail: String,
}

impl Page {
    /// The page with another part between the marks.
    fn with(&self, written: &str) -> String {
        format!("{}{BEGIN}\n\n{written}\n{END}{}", self.head, self.tail)
    }

    fn text(&self) -> String {
        format!("{}{}{}", self.head, self.written, self.tail)
    }
}

/// The page as it is; where there is none, what a new one has around the results.
fn read_page(path: &Path) -> anyhow::Result<Page> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let (head, tail) = ("# Results\n\n".to_owned(), "\n".to_owned());
            return Ok(Page { head, written: String::new(), tail });
        }
        Err(error) => return Err(Refusal::because(format!("cannot read {}", path.display()), error).into()),
    };
    let lost = || {
        Refusal::new(format!(
            "{} lacks the marks between which results are written, each once and in this order; add the lines `{BEGIN}` and `{END}`",
            path.display()
        ))
    };
    let (begin, end) = (text.find(BEGIN).ok_or_else(lost)?, text.find(END).ok_or_else(lost)?);
    if begin > end || text.matches(BEGIN).count() > 1 || text.matches(END).count() > 1 {
        return Err(lost().into());
    }
    let end = end + END.len();
    Ok(Page {
        head: text[..begin].to_owned(),
        written: text[begin..end].to_owned(),
        tail: text[end..].to_owned(),
    })
}

/// The directory of what is kept, as links of the page name it.
fn seen_from(page: &Path, kept: &Path) -> String {
    let beside = page.parent().unwrap_or_else(|| Path::new(""));
    match kept.strip_prefix(beside) {
        Ok(path) => path.display().to_string(),
        Err(_) => kept.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// The report of an experiment.
pub(crate) fn report_of(directory: &Path) -> PathBuf {
    directory.join("report").join(REPORT_JSON)
}
