//! The output directory of a stage: up to date or not, and if not, whole or not at all.
//!
//! The work happens in a directory beside the output. When it succeeded, the resolved settings and the lock are added,
//! everything is flushed to disk, and the directory takes the place of the old one in one step. A run that fails or is
//! interrupted leaves the old output as it was. This holds on any file system where a rename is atomic, shared ones
//! included, and needs no coordination between machines.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use artifact::digest;
use serde::Serialize;
use serde_yaml::{Mapping, Value};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::interrupt::Unfinished;
use crate::lock::{self, Cause, Entry, LOCK, Lock};
use crate::{Checked, Flags, OtherSplit, Refusal};

/// The resolved settings inside an output directory: a file that `--config` takes.
pub const SETTINGS: &str = "settings.yaml";
/// The record of the run inside an output directory.
pub const RUN_LOG: &str = "run.log";

/// What became of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The output was made before from the same things, and is whole: nothing was done.
    UpToDate,
    /// The output was made.
    Done,
}

/// What a stage is about to make, and everything that decides what it will be.
#[derive(Clone, Debug)]
pub struct Plan {
    command: &'static str,
    out: PathBuf,
    inputs: Vec<PathBuf>,
    /// Copies of what could be read only once, each with what the lock calls it.
    copies: Vec<(String, PathBuf)>,
    arguments: BTreeMap<String, String>,
    settings: Value,
    seed: u64,
    force: bool,
    device: RefCell<String>,
    questions: Cell<Option<u64>>,
}

/// The file `run.log`: what a person may want to know later and no result may depend on.
#[derive(Serialize)]
struct RunLog {
    started: String,
    ended: String,
    wall_seconds: f64,
    host: String,
    arguments: Vec<String>,
    working_directory: String,
    output: String,
    inputs: Vec<String>,
    device: String,
    threads: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_mib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    questions_asked: Option<u64>,
}

impl Plan {
    /// A plan for `command` (such as `gro-train`) to make the directory `out`, depending on the named sections of
    /// the settings.
    pub fn new(
        command: &'static str,
        out: &Path,
        flags: &Flags,
        settings: &Checked,
        sections: &[&str],
    ) -> Self {
        Self {
            command,
            out: out.to_owned(),
            inputs: Vec::new(),
            copies: Vec::new(),
            arguments: BTreeMap::new(),
            settings: settings.sections(sections),
            seed: settings.seed,
            force: flags.force,
            device: RefCell::new(flags.device.to_string()),
            questions: Cell::new(None),
        }
    }

    /// Add a file that the stage reads.
    #[must_use]
    pub fn input(mut self, path: impl Into<PathBuf>) -> Self {
        self.inputs.push(path.into());
        self
    }

    /// Add files that the stage reads.
    #[must_use]
    pub fn inputs(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.inputs.extend(paths);
        self
    }

    /// Add what the stage read from standard input or another source that can be read only once: the file at `copy` holds it, and
    /// lock and record call it `name`, since the copy is gone when the stage ends.
    #[must_use]
    pub fn copied_input(mut self, name: &str, copy: impl Into<PathBuf>) -> Self {
        self.copies.push((name.to_owned(), copy.into()));
        self
    }

    /// Add an argument of the command line that decides what is made, such as `method`.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "any plain value reads well at the call")]
    pub fn argument(mut self, name: &str, value: impl ToString) -> Self {
        self.arguments.insert(name.to_owned(), value.to_string());
        self
    }

    /// Notes that models of other splits are taken, where the flag is given: a lock without it is not that of this run.
    #[must_use]
    pub fn other_split(self, flag: OtherSplit) -> Self {
        if flag.other_split { self.argument("other-split", true) } else { self }
    }

    /// Says which device the work runs on, for `run.log`; by default what `--device` says.
    pub fn runs_on(&self, device: String) {
        self.device.replace(device);
    }

    /// Says how many questions a service of others was ever asked for this output, for `run.log`.
    pub fn has_asked(&self, questions: u64) {
        self.questions.set(Some(questions));
    }

    /// Questions that a service of others was asked for the finished output which this one replaces, as its `run.log` says; 0 where it says
    /// nothing.
    pub fn asked_before(&self) -> u64 {
        let text = fs::read_to_string(self.out.join(RUN_LOG)).unwrap_or_default();
        let record: Value = serde_yaml::from_str(&text).unwrap_or_default();
        record.get("questions_asked").and_then(Value::as_u64).unwrap_or(0)
    }

    /// The directory that will be made.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Where the state of unfinished work is kept for `--resume`: `<out>.state/`. The stage makes it when it has something
    /// to keep; it is removed when the output is done.
    pub fn state_dir(&self) -> PathBuf {
        let mut name = self.out.components().as_path().as_os_str().to_owned();
        name.push(".state");
        PathBuf::from(name)
    }

    /// A digest of everything that decides what the output will be: command, version, arguments, seed, settings and the
    /// content of the inputs. State for `--resume` is kept under it.
    ///
    /// # Errors
    /// A refusal for a missing or damaged input.
    pub fn identity(&self) -> anyhow::Result<String> {
        let cause = serde_yaml::to_string(&self.cause(&self.place()?)?)?;
        Ok(digest::bytes(cause.as_bytes()))
    }

    /// Make the output with `work`, which fills the empty directory it is given, unless it is up to date.
    ///
    /// # Errors
    /// A refusal for a missing or damaged input and for an output directory that is not ours to replace; the error of
    /// `work`; a failure to write. In every case an old output is as it was and nothing new is left.
    pub fn produce(&self, work: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<Outcome> {
        let (started, clock) = (timestamp(), Instant::now());
        let place = self.place()?;
        let cause = self.cause(&place)?;
        let existing = self.existing(&place)?;
        if let Some(lock) = &existing {
            if !self.force && lock.cause == cause && lock.outputs_are_whole(&place) {
                tracing::info!("{} is up to date", self.out.display());
                return Ok(Outcome::UpToDate);
            }
            tracing::debug!("{} was made from something else or has changed", self.out.display());
        }
        let (beside, _alive) = begin(&place, &self.out)?;
        let directory = beside.path().to_owned();
        let unfinished = Unfinished::begin(beside);
        work(&directory)?;

        self.write(&directory, SETTINGS, &self.resolved_settings()?)?;
        let lock = Lock { cause, outputs: entries(&directory)? };
        self.write(&directory, LOCK, &lock.to_yaml()?)?;
        self.write(&directory, RUN_LOG, &serde_yaml::to_string(&self.run_log(started, clock))?)?;
        flush(&directory).with_context(|| format!("cannot flush {} to disk", self.out.display()))?;
        unfinished
            .finish(|beside| replace(beside, &place))
            .with_context(|| format!("cannot move the finished output to {}", self.out.display()))?;
        let state = self.state_dir();
        if state.exists() {
            fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))?;
        }
        tracing::info!("wrote {} in {:.1} s", self.out.display(), clock.elapsed().as_secs_f64());
        Ok(Outcome::Done)
    }

    /// The output's path, absolute; its parent exists afterwards.
    fn place(&self) -> anyhow::Result<PathBuf> {
        let absolute = std::path::absolute(&self.out).map_err(|source| {
            Refusal::because(format!("{} is no path for an output", self.out.display()), source)
        })?;
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            let message =
                format!("{} cannot be an output directory; name one to be made", self.out.display());
            return Err(Refusal::new(message).into());
        };
        fs::create_dir_all(parent)
            .map_err(|error| unwritable(format!("cannot make the directory {}", parent.display()), error))?;
        let parent = fs::canonicalize(parent).with_context(|| format!("cannot find {}", parent.display()))?;
        // An output that is a link to another disk is replaced there.
        let named = parent.join(name);
        check_link(&named, &self.out)?;
        let place = fs::canonicalize(&named).unwrap_or(named);
        if place.exists() && !place.is_dir() {
            let message =
                format!("{} is a file, expected a directory to make or replace", self.out.display());
            return Err(Refusal::new(message).into());
        }
        // Where the state of a long run is to lie is found out before the run.
        let state = self.state_dir();
        check_link(&state, &state)?;
        if state.exists() && !state.is_dir() {
            let message = format!(
                "{} is a file, where the state of unfinished work is to lie; move it, or choose another --out",
                state.display()
            );
            return Err(Refusal::new(message).into());
        }
        Ok(place)
    }

    /// Hash the inputs, and refuse those that are missing, damaged or inside the output.
    fn cause(&self, place: &Path) -> anyhow::Result<Cause> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let canonical = existing_file(input)?;
            if canonical.starts_with(place) {
                let message = format!(
                    "the input {} lies inside the output {}, which would replace it; choose another --out",
                    input.display(),
                    self.out.display()
                );
                return Err(Refusal::new(message).into());
            }
            if let Some(home) = canonical.parent()
                && place.starts_with(home)
                && home.join(LOCK).exists()
            {
                let message = format!(
                    "the output {} lies inside {}, which a stage wrote and may replace; choose another --out",
                    self.out.display(),
                    input.parent().unwrap_or(input).display()
                );
                return Err(Refusal::new(message).into());
            }
            let digest = digest::file(input)?;
            lock::check_against_neighbour(input, &digest)?;
            inputs.push(Entry { path: lock::relative(&canonical, place), digest });
        }
        for (name, copy) in &self.copies {
            inputs.push(Entry { path: name.clone(), digest: digest::file(copy)? });
        }
        Ok(Cause {
            command: self.command.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            arguments: self.arguments.clone(),
            seed: self.seed,
            settings: self.settings.clone(),
            inputs,
        })
    }

    /// The lock of the output that is there, if any. A directory that no stage wrote, or in which someone keeps files of
    /// their own, is not replaced without `--force`.
    fn existing(&self, place: &Path) -> anyhow::Result<Option<Lock>> {
        if self.force || !place.exists() {
            return Ok(None);
        }
        let shown = self.out.display();
        let Some(lock) = Lock::read(place)? else {
            let mut entries = fs::read_dir(place).with_context(|| format!("cannot read {shown}"))?;
            if entries.next().is_none() {
                return Ok(None);
            }
            let message = format!(
                "{shown} holds files and no {LOCK}, so no stage wrote it; choose another --out, or --force"
            );
            return Err(Refusal::new(message).into());
        };
        let foreign = files(place)?
            .into_iter()
            .find(|path| is_declared(path) && !lock.outputs.iter().any(|entry| entry.path == *path));
        match foreign {
            None => Ok(Some(lock)),
            Some(path) => {
                let message = format!(
                    "{shown} holds {path}, which no stage wrote; move it elsewhere, or --force to lose it"
                );
                Err(Refusal::new(message).into())
            }
        }
    }

    fn resolved_settings(&self) -> anyhow::Result<String> {
        let mut resolved = Mapping::from_iter([(Value::from("seed"), Value::from(self.seed))]);
        if let Value::Mapping(sections) = &self.settings {
            resolved.extend(sections.clone());
        }
        serde_yaml::to_string(&resolved).context("the settings cannot be shown as YAML")
    }

    fn run_log(&self, started: String, clock: Instant) -> RunLog {
        let absolute =
            |path: &PathBuf| fs::canonicalize(path).unwrap_or_else(|_| path.clone()).display().to_string();
        RunLog {
            started,
            ended: timestamp(),
            wall_seconds: (clock.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            host: host(),
            arguments: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            working_directory: std::env::current_dir()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            output: std::path::absolute(&self.out).map(|path| path.display().to_string()).unwrap_or_default(),
            inputs: self
                .inputs
                .iter()
                .map(absolute)
                .chain(self.copies.iter().map(|(name, _)| name.clone()))
                .collect(),
            device: self.device.borrow().clone(),
            threads: rayon::current_num_threads(),
            cpu_seconds: cpu_seconds(),
            peak_memory_mib: peak_memory_mib(),
            questions_asked: self.questions.get(),
        }
    }

    fn write(&self, directory: &Path, name: &str, text: &str) -> anyhow::Result<()> {
        fs::write(directory.join(name), text)
            .with_context(|| format!("cannot write {}", self.out.join(name).display()))
    }
}

/// An empty directory beside the output, removed again unless it takes the output's place; and the sign that this process
/// is alive and fills it: a lock on it, which the system lifts from whoever is killed. So what killed runs left is told
/// from what a run is writing: the one is removed, the other a reason to refuse. Where directories cannot be locked, as on some
/// NFS, what is left stays, with a warning.
fn begin(place: &Path, shown: &Path) -> anyhow::Result<(tempfile::TempDir, Option<File>)> {
    let parent = place.parent().unwrap_or(place);
    // Two that begin at once must not both find nobody. Held for as long as it takes to look and to make a directory.
    let _only_one_looks = only_one(parent);
    let prefix = partial(place);
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            let path = entry.path();
            let lock = File::open(&path).map(|directory| directory.try_lock());
            let dead = matches!(lock, Ok(Ok(())));
            if matches!(lock, Ok(Err(TryLockError::WouldBlock))) {
                return Err(busy(shown).into());
            } else if dead && fs::remove_dir_all(&path).is_ok() {
                tracing::info!("removed {}, which a run left that was killed", path.display());
            } else if path.exists() {
                tracing::warn!(
                    "{} is left from a run that was killed, or a run is writing it now",
                    path.display()
                );
            }
        }
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any directory is made, where tempfile's default would shut out everyone else.
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    let beside = builder
        .tempdir_in(parent)
        .map_err(|error| unwritable(format!("cannot make a directory in {}", parent.display()), error))?;
    let alive = File::open(beside.path()).ok().filter(|directory| directory.try_lock().is_ok());
    Ok((beside, alive))
}

/// How the names of directories begin in which runs fill what will be at `place`.
fn partial(place: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(place.file_name().unwrap_or_default());
    prefix.push(".partial-");
    prefix
}

/// The directory that a run is filling now, or that a killed one left, to be put at `out` when it is done; the last by name, where there
/// are several. For whoever wants to see how far it is: it may be gone at any moment.
pub fn begun(out: &Path) -> Option<PathBuf> {
    let prefix = partial(out);
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = fs::read_dir(parent).ok()?.flatten();
    let named =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()));
    named.map(|entry| entry.path()).max()
}

/// The lock on a directory, once nobody else has it; none where it cannot be had in a second or two.
fn only_one(directory: &Path) -> Option<File> {
    let opened = File::open(directory).ok()?;
    lock_soon(&opened, Duration::from_secs(2)).is_ok().then_some(opened)
}

/// Locks a directory, and tries again for a while where another has it: a process that is just being started holds what its
/// parent has open until it becomes another program.
fn lock_soon(directory: &File, patience: Duration) -> Result<(), TryLockError> {
    let begun = Instant::now();
    loop {
        match directory.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
}

fn busy(shown: &Path) -> Refusal {
    Refusal::new(format!(
        "another run is writing {}; wait for it, or name another directory",
        shown.display()
    ))
}

/// Takes the directory at `path`, which exists, for this process to write into, until what is returned is dropped; the system
/// lifts it from whoever is killed. None where directories cannot be locked. A [`Plan`] does so by itself; this is for what is
/// made without one.
///
/// # Errors
/// A refusal where another process has it.
pub fn claim(path: &Path) -> Result<Option<File>, Refusal> {
    claim_within(path, Duration::from_millis(500))
}

/// As [`claim`], where others that write there are done soon: they are waited for so long.
///
/// # Errors
/// As [`claim`].
pub fn claim_within(path: &Path, patience: Duration) -> Result<Option<File>, Refusal> {
    let Ok(directory) = File::open(path) else { return Ok(None) };
    match lock_soon(&directory, patience) {
        Ok(()) => Ok(Some(directory)),
        Err(TryLockError::WouldBlock) => Err(busy(path)),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Refuses a link that leads nowhere as the place of an output: what comes there would take the link's place and not its
/// target's. `shown` is the path as the user gave it. A [`Plan`] does so by itself; this is for what is made without one.
///
/// # Errors
/// A refusal that says where the link leads.
pub fn check_link(path: &Path, shown: &Path) -> Result<(), Refusal> {
    match fs::read_link(path) {
        Ok(target) if !path.exists() => Err(Refusal::new(format!(
            "{} is a link to {}, which does not exist; make that directory, or remove the link",
            shown.display(),
            target.display()
        ))),
        _ => Ok(()),
    }
}

/// Where a directory will be that is written without a [`Plan`], every link on its path followed; it need not exist yet. `flag` names
/// it. A stage replaces its output as a whole, so nothing else may lie within one.
///
/// # Errors
/// A refusal where something that is no directory stands in the way, where nothing can be written, and within what a stage wrote.
pub fn place_beside(flag: &str, path: &Path) -> Result<PathBuf, Refusal> {
    check_link(path, path)?;
    let (found, place) = resolved(path)
        .map_err(|source| Refusal::because(format!("{flag} {}: cannot be found", path.display()), source))?;
    if !found.is_dir() {
        let message =
            format!("{flag} {}: {} is a file, expected a directory", path.display(), found.display());
        return Err(Refusal::new(message));
    }
    if let Some(home) = place.ancestors().find(|home| home.join(LOCK).exists()) {
        return Err(Refusal::new(format!(
            "{flag} {} lies in {}, which a stage wrote and may replace; name another directory",
            path.display(),
            home.display()
        )));
    }
    // Such a file has no name, and is gone at once.
    tempfile::tempfile_in(&found).map_err(|source| {
        Refusal::because(format!("{flag} {}: nothing can be written there", path.display()), source)
    })?;
    Ok(place)
}

/// Where `path` leads: the part of it that exists, and all of it, links followed.
///
/// # Errors
/// A path that is none, or cannot be followed.
pub fn resolved(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let absolute = std::path::absolute(path)?;
    let found = absolute.ancestors().find(|part| part.exists()).unwrap_or(&absolute);
    let real = fs::canonicalize(found)?;
    let rest = absolute.strip_prefix(found).unwrap_or(Path::new(""));
    // An empty rest would leave a slash at the end, which a file does not bear.
    let place = if rest.as_os_str().is_empty() { real.clone() } else { real.join(rest) };
    Ok((real, place))
}

/// What cannot be written because of where it is to lie is the caller's to mend; a full disk is not.
fn unwritable(message: String, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::NotFound
        | io::ErrorKind::InvalidFilename => {
            Refusal::because(message + "; choose another --out", error).into()
        }
        _ => anyhow::Error::new(error).context(message),
    }
}

/// Refuses an input that is missing or not as the lock beside it says. A [`Plan`] does so by itself; this is for what is
/// made without one.
///
/// # Errors
/// A refusal that says which command makes the file, or how it differs.
pub fn check_input(input: &Path) -> anyhow::Result<()> {
    existing_file(input)?;
    lock::check_against_neighbour(input, &digest::file(input)?)?;
    Ok(())
}

/// The canonical path of an input that is there and is a file.
fn existing_file(input: &Path) -> Result<PathBuf, Refusal> {
    let canonical = fs::canonicalize(input)
        .map_err(|_| Refusal::new(format!("{} does not exist{}", input.display(), maker(input))))?;
    if canonical.is_file() {
        return Ok(canonical);
    }
    Err(Refusal::new(format!("{} is not a file, expected one to read", input.display())))
}

/// Which command makes a file of that name.
fn maker(input: &Path) -> &'static str {
    match input.file_name().and_then(|name| name.to_str()) {
        Some("sequences.parquet" | "items.parquet" | "users.parquet" | "stats.json") => {
            "; `gro-preprocess run` makes it"
        }
        Some("model.safetensors") => {
            "; `gro-train` makes a target, `gro-defend` a protected one, `gro-attack distill` a surrogate"
        }
        Some("student.safetensors") => "; `gro-defend --method gro` makes it",
        Some("gold.safetensors") => "; `gro-defend --method decoy` makes it",
        Some("queries.parquet") => "; `gro-attack generate` makes it",
        Some("metrics.json" | "ranks.parquet") => "; `gro-evaluate run` makes it",
        _ => ", expected a file to read",
    }
}

/// False for what may differ between equal runs, and so is neither hashed nor compared; and for the lock itself.
pub(crate) fn is_declared(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    !matches!(name, LOCK | RUN_LOG | "speed.csv") && !name.starts_with("events.")
}

/// All files under `directory`, relative to it, sorted.
pub(crate) fn files(directory: &Path) -> anyhow::Result<Vec<String>> {
    fn walk(directory: &Path, prefix: &str, found: &mut Vec<String>) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                walk(&entry.path(), &format!("{path}/"), found)?;
            } else {
                found.push(path);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(directory, "", &mut found).with_context(|| format!("cannot read {}", directory.display()))?;
    found.sort();
    Ok(found)
}

/// The declared files under `directory` with their hashes.
fn entries(directory: &Path) -> anyhow::Result<Vec<Entry>> {
    let declared = files(directory)?.into_iter().filter(|path| is_declared(path));
    declared.map(|path| Ok(Entry { digest: digest::file(&directory.join(&path))?, path })).collect()
}

/// Flush every file and directory under `directory`, and `directory` itself.
fn flush(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            flush(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(directory)?.sync_all()
}

/// Let `beside` take the place of what is at `place`.
fn replace(beside: tempfile::TempDir, place: &Path) -> io::Result<()> {
    if !place.exists() {
        // The guard is given up only after the rename, so a rename that fails leaves nothing behind.
        fs::rename(beside.path(), place)?;
        let _ = beside.keep();
    } else if exchange(beside.path(), place).is_ok() {
        // The guard now holds the old output, and removes it.
        beside.close()?;
    } else {
        // No atomic exchange here: the old output steps aside, and comes back should the new one not arrive.
        let parent = place.parent().unwrap_or(place);
        let aside = tempfile::Builder::new().prefix(".replaced-").tempdir_in(parent)?;
        let old = aside.path().join("old");
        fs::rename(place, &old)?;
        if let Err(error) = fs::rename(beside.path(), place) {
            fs::rename(&old, place)?;
            return Err(error);
        }
        let _ = beside.keep();
        aside.close()?;
    }
    place.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Swap two paths in one step.
#[cfg(target_os = "linux")]
fn exchange(left: &Path, right: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, left, CWD, right, RenameFlags::EXCHANGE)?)
}

/// Swap two paths in one step: not offered here.
#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The time in UTC, as RFC 3339 writes it.
fn timestamp() -> String {
    let mut text = String::new();
    match tracing_subscriber::fmt::time::SystemTime.format_time(&mut Writer::new(&mut text)) {
        Ok(()) => text,
        Err(_) => format!("{:?}", SystemTime::now()),
    }
}

/// The name of this machine, as well as it can be told.
fn host() -> String {
    let known =
        fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    known.map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// Seconds that processors have worked for this process, all its threads together, where the system says so.
fn cpu_seconds() -> Option<f64> {
    /// What Linux counts in for programs, on every architecture it is built for.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program stands in brackets, and may hold blanks and brackets itself.
    let (_, numbers) = stat.rsplit_once(')')?;
    let mut ticks = numbers.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user + system) as f64 / TICKS_A_SECOND)
}

/// The most memory this process has held, where the system says so.
fn peak_memory_mib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}
