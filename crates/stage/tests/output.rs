//! The output directory: whole or not at all, made again exactly when it must be.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use stage::{Checked, Flags, Outcome, Plan, Refusal, Settings, settings};
use tempfile::TempDir;

/// A directory with an input, and a stage that copies it.
struct Fixture {
    directory: TempDir,
    runs: Cell<usize>,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { directory: TempDir::new().unwrap(), runs: Cell::new(0) };
        fixture.write("raw/in.txt", "input");
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A plan that makes `out` from `input`.
    fn plan_for(&self, input: &str, out: &str, flags: &Flags) -> Plan {
        let settings = settings::load(flags).unwrap();
        Plan::new("gro-test run", &self.path(out), flags, &settings, &["train"]).input(self.path(input))
    }

    fn plan(&self) -> Plan {
        self.plan_for("raw/in.txt", "out", &Flags::default())
    }

    /// Make the output: a copy of the input, a nested file, and files that are no declared outputs.
    fn produce(&self, plan: &Plan, input: &str) -> anyhow::Result<Outcome> {
        plan.produce(|out| {
            self.runs.set(self.runs.get() + 1);
            fs::copy(self.path(input), out.join("copy.txt"))?;
            fs::create_dir(out.join("deep"))?;
            fs::write(out.join("deep/file.txt"), "deep")?;
            fs::write(out.join("speed.csv"), format!("run {}", self.runs.get()))?;
            fs::write(out.join("events.out.tfevents.1"), "events")?;
            Ok(())
        })
    }

    fn run(&self) -> Outcome {
        self.produce(&self.plan(), "raw/in.txt").unwrap()
    }

    /// Every name in the directory, to see that nothing is left over.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }
}

fn flags(set: &[&str]) -> Flags {
    Flags { set: set.iter().map(|&word| word.to_owned()).collect(), ..Flags::default() }
}

fn refused(result: anyhow::Result<Outcome>) -> String {
    let error = result.unwrap_err();
    assert!(error.is::<Refusal>(), "{error} is no refusal");
    format!("{error:#}")
}

#[test]
fn an_output_appears_with_its_settings_and_lock() {
    let fixture = Fixture::new();
    fixture.write("out.state/epoch", "3");
    assert_eq!(fixture.run(), Outcome::Done);
    assert_eq!(fixture.names(), ["out", "raw"], "neither a partial directory nor state is left");
    assert_eq!(fixture.read("out/copy.txt"), "input");
    assert!(fixture.read("out/settings.yaml").starts_with("seed: 1\ntrain:\n  batch: 128\n"));
    let log = fixture.read("out/run.log");
    assert!(log.contains("wall_seconds: ") && log.contains("host: ") && log.contains("device: auto"));
    let lock = fixture.read("out/stage.lock");
    assert!(lock.starts_with("command: gro-test run\nversion: "));
    assert!(lock.contains("- path: ../raw/in.txt\n  size: 5\n  blake3: "));
    assert!(lock.contains("- path: copy.txt\n") && lock.contains("- path: deep/file.txt\n  size: 4\n"));
    assert!(lock.contains("- path: settings.yaml\n"));
    for absent in ["run.log", "speed.csv", "events", "stage.lock", fixture.directory.path().to_str().unwrap()]
    {
        assert!(!lock.contains(absent), "{absent} stands in the lock");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &str| fs::metadata(fixture.path(path)).unwrap().permissions().mode();
        assert_eq!(mode("out"), mode("raw"), "the output is as open to others as any directory");
    }
}

#[test]
fn equal_runs_leave_equal_locks() {
    let (first, second) = (Fixture::new(), Fixture::new());
    first.run();
    second.run();
    assert_eq!(first.read("out/stage.lock"), second.read("out/stage.lock"));
    assert_eq!(first.read("out/settings.yaml"), second.read("out/settings.yaml"));
}

#[test]
fn nothing_is_done_twice() {
    let fixture = Fixture::new();
    assert_eq!(fixture.run(), Outcome::Done);
    assert_eq!(fixture.run(), Outcome::UpToDate);
    // A setting of another stage, written out or not, is nothing to this one.
    let others = fixture.plan_for("raw/in.txt", "out", &flags(&["evaluate.batch=3", "train.batch=128"]));
    assert_eq!(fixture.produce(&others, "raw/in.txt").unwrap(), Outcome::UpToDate);
    // Files that are no outputs may change or go.
    fs::remove_file(fixture.path("out/speed.csv")).unwrap();
    fs::write(fixture.path("out/events.out.tfevents.2"), "more").unwrap();
    fs::remove_file(fixture.path("out/run.log")).unwrap();
    assert_eq!(fixture.run(), Outcome::UpToDate);
    assert_eq!(fixture.runs.get(), 1);
}

#[test]
fn whatever_decides_the_output_makes_it_anew() {
    let fixture = Fixture::new();
    fixture.run();
    let done = |plan: &Plan| assert_eq!(fixture.produce(plan, "raw/in.txt").unwrap(), Outcome::Done);
    done(&fixture.plan_for("raw/in.txt", "out", &flags(&["train.batch=3"])));
    done(&fixture.plan_for("raw/in.txt", "out", &flags(&["seed=2"])));
    done(&fixture.plan());
    done(&fixture.plan().argument("method", "gro"));
    done(&fixture.plan().argument("method", "none"));
    done(&fixture.plan().input(fixture.path("out/../raw/in.txt")));
    fixture.write("raw/in.txt", "edited");
    done(&fixture.plan());
    assert_eq!(fixture.read("out/copy.txt"), "edited");
    done(&fixture.plan_for("raw/in.txt", "out", &Flags { force: true, ..Flags::default() }));
    assert_eq!(fixture.run(), Outcome::UpToDate);
    assert_eq!(fixture.names(), ["out", "raw"]);
}

#[test]
fn a_damaged_output_is_made_anew() {
    let fixture = Fixture::new();
    fixture.run();
    for name in ["out/copy.txt", "out/deep/file.txt", "out/settings.yaml"] {
        let whole = fixture.read(name);
        fixture.write(name, &whole.to_uppercase());
        assert_eq!(fixture.run(), Outcome::Done, "{name} edited");
        fs::remove_file(fixture.path(name)).unwrap();
        assert_eq!(fixture.run(), Outcome::Done, "{name} gone");
        assert_eq!(fixture.read(name), whole);
    }
}

#[test]
fn a_run_that_fails_leaves_the_old_output_alone() {
    let fixture = Fixture::new();
    let fail = |plan: &Plan| {
        plan.produce(|out| {
            fs::write(out.join("half.txt"), "half")?;
            fs::create_dir_all(plan.state_dir())?;
            anyhow::bail!("out of luck")
        })
    };
    assert_eq!(fail(&fixture.plan()).unwrap_err().to_string(), "out of luck");
    assert_eq!(fixture.names(), ["out.state", "raw"], "the state stays for a resume");
    fixture.run();
    let lock = fixture.read("out/stage.lock");
    let changed = fixture.plan_for("raw/in.txt", "out", &flags(&["train.batch=3"]));
    assert!(fail(&changed).is_err());
    assert_eq!(fixture.read("out/stage.lock"), lock);
    assert_eq!(fixture.names(), ["out", "out.state", "raw"]);
    assert_eq!(fixture.run(), Outcome::UpToDate);
}

#[test]
fn a_work_that_panics_leaves_nothing() {
    let fixture = Fixture::new();
    let plan = fixture.plan();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        plan.produce(|out| {
            fs::write(out.join("half.txt"), "half")?;
            panic!("a bug")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(fixture.names(), ["raw"]);
}

#[test]
fn an_input_that_changed_on_its_way_is_caught() {
    let fixture = Fixture::new();
    fixture.run();
    let next =
        || fixture.produce(&fixture.plan_for("out/copy.txt", "next", &Flags::default()), "out/copy.txt");
    assert_eq!(next().unwrap(), Outcome::Done);
    fixture.write("out/copy.txt", "inp");
    let message = refused(next());
    assert!(
        message.contains("copy.txt was truncated, edited or replaced after `gro-test run` wrote it"),
        "{message}"
    );
    assert!(message.contains("3 bytes, not the 5"), "{message}");
    fixture.write("out/copy.txt", "INPUT");
    assert!(refused(next()).contains("its hash differs"));
    fixture.write("out/stage.lock", "no lock");
    assert!(refused(next()).contains("stage.lock is damaged"));
    assert_eq!(fixture.read("next/copy.txt"), "input");
}

#[test]
fn missing_inputs_say_who_makes_them() {
    let fixture = Fixture::new();
    for (name, maker) in [
        ("data/sequences.parquet", "`gro-preprocess run` makes it"),
        ("target/model.safetensors", "`gro-train`"),
        ("queries/queries.parquet", "`gro-attack generate` makes it"),
        ("raw/none.csv", "expected a file"),
    ] {
        let message = refused(fixture.produce(&fixture.plan_for(name, "out", &Flags::default()), name));
        assert!(
            message.contains(name) && message.contains("does not exist") && message.contains(maker),
            "{message}"
        );
    }
    let message = refused(fixture.produce(&fixture.plan_for("raw", "out", &Flags::default()), "raw"));
    assert!(message.contains("is not a file"), "{message}");
    assert_eq!(fixture.names(), ["raw"]);
}

#[test]
fn only_what_a_stage_wrote_is_replaced() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("out")).unwrap();
    assert_eq!(fixture.run(), Outcome::Done, "an empty directory is nobody's");

    fixture.write("out/notes.txt", "mine");
    let changed =
        || fixture.produce(&fixture.plan_for("raw/in.txt", "out", &flags(&["seed=2"])), "raw/in.txt");
    assert!(refused(changed()).contains("holds notes.txt, which no stage wrote"));
    fs::remove_file(fixture.path("out/notes.txt")).unwrap();
    assert_eq!(changed().unwrap(), Outcome::Done);

    fixture.write("own/thesis.tex", "mine");
    let own = |force| fixture.plan_for("raw/in.txt", "own", &Flags { force, ..Flags::default() });
    assert!(refused(fixture.produce(&own(false), "raw/in.txt")).contains("no stage wrote it"));
    assert_eq!(fixture.read("own/thesis.tex"), "mine");
    assert_eq!(fixture.produce(&own(true), "raw/in.txt").unwrap(), Outcome::Done);
    assert!(!fixture.path("own/thesis.tex").exists());

    fixture.write("file", "a file");
    let message =
        refused(fixture.produce(&fixture.plan_for("raw/in.txt", "file", &Flags::default()), "raw/in.txt"));
    assert!(message.contains("is a file, expected a directory"), "{message}");
    let message =
        refused(fixture.produce(&fixture.plan_for("raw/in.txt", "raw", &Flags::default()), "raw/in.txt"));
    assert!(message.contains("lies inside the output"), "{message}");
    assert_eq!(fixture.read("raw/in.txt"), "input");
}

#[test]
fn the_state_lies_beside_the_output() {
    let (flags, settings) = (Flags::default(), Checked::new(Settings::default()).unwrap());
    for out in ["a/out", "a/out/"] {
        let plan = Plan::new("gro-test run", Path::new(out), &flags, &settings, &[]);
        assert_eq!(plan.state_dir(), Path::new("a/out.state"));
    }
}

#[cfg(unix)]
#[test]
fn an_output_that_is_a_link_is_replaced_where_it_lies() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("disk/out")).unwrap();
    std::os::unix::fs::symlink(fixture.path("disk/out"), fixture.path("out")).unwrap();
    assert_eq!(fixture.run(), Outcome::Done);
    assert_eq!(fixture.run(), Outcome::UpToDate);
    assert!(fixture.path("out").is_symlink());
    assert_eq!(fixture.read("disk/out/copy.txt"), "input");
    assert_eq!(fs::read_dir(fixture.path("disk")).unwrap().count(), 1);
}

#[test]
fn a_state_that_cannot_be_kept_is_found_out_before_the_work() {
    let fixture = Fixture::new();
    std::os::unix::fs::symlink("nowhere", fixture.path("out.state")).unwrap();
    let message = refused(fixture.produce(&fixture.plan(), "raw/in.txt"));
    assert!(message.contains("out.state is a link to nowhere, which does not exist"), "{message}");
    fs::remove_file(fixture.path("out.state")).unwrap();
    fixture.write("out.state", "mine");
    let message = refused(fixture.produce(&fixture.plan(), "raw/in.txt"));
    assert!(message.contains("out.state is a file, where the state"), "{message}");
    assert_eq!((fixture.runs.get(), fixture.read("out.state").as_str()), (0, "mine"));
}

#[test]
fn what_is_read_once_has_a_name_in_lock_and_record() {
    let fixture = Fixture::new();
    fixture.write("copy", "input");
    let flags = Flags::default();
    let plan = || {
        let settings = settings::load(&flags).unwrap();
        let plan = Plan::new("gro-test run", &fixture.path("out"), &flags, &settings, &["train"]);
        plan.copied_input("standard input", fixture.path("copy"))
    };
    assert_eq!(fixture.produce(&plan(), "copy").unwrap(), Outcome::Done);
    for file in ["out/stage.lock", "out/run.log"] {
        assert!(fixture.read(file).contains("standard input"), "{}", fixture.read(file));
    }
    assert_eq!(fixture.produce(&plan(), "copy").unwrap(), Outcome::UpToDate);
    fixture.write("copy", "another");
    assert_eq!(fixture.produce(&plan(), "copy").unwrap(), Outcome::Done);
}

#[test]
fn a_directory_is_claimed_by_one_at_a_time() {
    let fixture = Fixture::new();
    let claimed = stage::output::claim(&fixture.path("raw")).unwrap();
    assert!(claimed.is_some());
    let message = stage::output::claim(&fixture.path("raw")).unwrap_err().to_string();
    assert!(message.contains("another run is writing"), "{message}");
    drop(claimed);
    assert!(stage::output::claim(&fixture.path("raw")).unwrap().is_some());
    assert!(stage::output::claim(&fixture.path("nowhere")).unwrap().is_none());
}
