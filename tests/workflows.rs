//! The same experiment through make, DVC, Snakemake, and stage by stage on machines that share nothing.
//!
//! DVC and Snakemake are those of [`tools`]. The settings are the demo's with next to nothing to do.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should say where")]

#[path = "tools.rs"]
mod tools;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tools::{text, tools};

const SETTINGS: &str = "
model: {hidden: 16, max_len: 10}
optimizer: {learning_rate: 0.01}
train: {batch: 64, epochs: 2, max_predictions: 4}
defend: {batch: 64, epochs: 1, top_k: 20, lambda: 0.1, student_warmup_epochs: 1, decoy: {epochs: 1, top_k: 20, histories: 40}}
generate: {sequences: 30, top_k: 20}
distill: {batch: 64, epochs: 1}
evaluate: {ks: [1, 10, 20], top_k: 20, bootstrap: 200}
";

/// What of the repository the workflows need.
const SOURCES: [&str; 6] =
    ["Makefile", "pipelines", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"];

const REPORT: &str = "pipelines/dvc.yaml:report@demo-bert";

/// Names of files that may differ between equal runs.
fn is_volatile(name: &str) -> bool {
    matches!(name, "run.log" | "speed.csv") || name.starts_with("events.")
}

/// The binaries of the workspace. Cargo puts test executables into a folder below them.
fn binaries() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    assert!(folder.join("gro-train").exists(), "no binaries; run `cargo test --workspace`");
    folder.to_owned()
}

/// Where tests write: beside the binaries, so that these can be linked instead of copied.
fn workspace() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A repository with the workflows and tiny settings, in a directory of its own.
struct Project {
    root: tempfile::TempDir,
    path: Vec<PathBuf>,
}

impl Project {
    fn new(tools: Option<&Path>) -> Self {
        let project = Self::empty(tools);
        let origin = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for source in SOURCES {
            copy(&origin.join(source), &project.at(source));
        }
        project.set(SETTINGS);
        project.run("git", &["init", "--quiet"]);
        project.commit();
        project
    }

    /// A clone of another one, with what that has committed.
    fn clone_of(other: &Self) -> Self {
        let clone = Self { path: other.path.clone(), ..Self::empty(None) };
        let origin = other.at("");
        clone.run("git", &["clone", "--quiet", origin.to_str().unwrap(), "."]);
        clone
    }

    fn empty(tools: Option<&Path>) -> Self {
        let project = Self { root: workspace(), path: tools.map(Path::to_owned).into_iter().collect() };
        fs::create_dir(project.root.path().join("home")).unwrap();
        fs::create_dir(project.at("")).unwrap();
        project
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join("repository").join(path)
    }

    /// Another file of settings for the demo.
    fn set(&self, settings: &str) {
        fs::write(self.at("pipelines/demo.yaml"), settings).unwrap();
    }

    fn commit(&self) {
        self.run("git", &["add", "--all"]);
        self.run("git", &["commit", "--quiet", "--message", "A step"]);
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let home = self.root.path().join("home");
        let mut path: Vec<PathBuf> = self.path.clone();
        path.push(binaries());
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let path: OsString = std::env::join_paths(path).unwrap();
        // `env` finds the program on the new PATH.
        let mut command = Command::new("env");
        command.arg(program).args(arguments).current_dir(self.at("")).env("PATH", path);
        // Nothing of the user's: caches, configuration, a name for commits.
        command.env("HOME", &home).env("XDG_CACHE_HOME", &home).env("DVC_SITE_CACHE_DIR", &home);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "test")
                .env(format!("GIT_{role}_EMAIL"), "test@localhost");
        }
        // There is nothing to resume, and that is no mistake.
        command.env("RESUME", "--resume");
        // `make test` itself may be what runs us.
        command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
        command
    }

    /// What a command printed that must succeed.
    #[track_caller]
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output));
        text(&output)
    }

    /// The pipeline of the demo through make, with the binaries that are there; what it printed.
    #[track_caller]
    fn make(&self) -> String {
        self.run("make", &["demo", "CARGO=true", &format!("BIN={}", binaries().display())])
    }

    /// Bring targets up to date with DVC; the names of the stages that ran, sorted.
    #[track_caller]
    fn repro(&self, arguments: &[&str]) -> Vec<String> {
        let log = self.run("dvc", &[&["repro"], arguments].concat());
        let stages = log.lines().filter_map(|line| line.strip_prefix("Running stage 'pipelines/dvc.yaml:"));
        let mut stages: Vec<String> = stages.map(|line| line.trim_end_matches("':").to_owned()).collect();
        stages.sort();
        stages
    }

    /// The declared files below a directory of the repository.
    fn files(&self, directory: &str) -> BTreeMap<String, Vec<u8>> {
        files(&self.at(directory))
    }
}

/// The declared files below a directory, with their bytes.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(directory: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{prefix}{name}/"), files);
            } else if !is_volatile(&name) {
                files.insert(format!("{prefix}{name}"), fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(directory, "", &mut files);
    files
}

/// Copy a file, or a directory with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    if from.is_dir() {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

/// Names of the form `stage@demo-bert` with and without a defence.
fn stages(names: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = names
        .iter()
        .map(|name| match name.split_once('-') {
            Some((stage, defence)) => format!("{stage}@demo-bert-{defence}"),
            None => format!("{name}@demo-bert"),
        })
        .collect();
    names.sort();
    names
}

#[track_caller]
fn assert_same_files(ours: &BTreeMap<String, Vec<u8>>, theirs: &BTreeMap<String, Vec<u8>>, who: &str) {
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{who}");
    for (name, bytes) in ours {
        assert!(*bytes == theirs[name], "{who}: {name} differs");
    }
}

/// Two strategies and two losses at two budgets: one log serves both budgets of the one, the other asks anew for each.
#[test]
fn make_draws_theft_curves() {
    let project = Project::new(None);
    let bin = format!("BIN={}", binaries().display());
    let budgets = "BUDGETS=100 200";
    let thieves = ["STRATEGIES=short rounds", "LOSSES=hinge set", budgets, "DEFENCES=none reverse"];
    let epochs = "FLAGS=--set distill.epochs=2 --set distill.epoch_questions=0 --set generate.sequences=10";
    let arguments = [&["theft-demo-sas", "CARGO=true", "OUT=my out", &bin, epochs][..], &thieves].concat();
    project.run("make", &arguments);
    let out = project.at("my out/theft-demo-sas");
    let report = fs::read_to_string(out.join("theft/theft.md")).unwrap();
    for line in ["## SASRec, defence none", "## SASRec, defence reverse", "### With 200 questions"] {
        assert!(report.contains(line), "{report}");
    }
    let csv = fs::read_to_string(out.join("theft/theft.csv")).unwrap();
    // Two targets, four thieves, two budgets, five figures; and a heading.
    assert_eq!(csv.lines().count(), 1 + 2 * 4 * 2 * 5, "{csv}");
    let logs = ["queries-none-short", "queries-none-rounds-100", "queries-none-rounds-200"];
    assert!(logs.iter().all(|log| out.join(log).exists()) && !out.join("queries-none-short-100").exists());
    // Nothing is done twice.
    let again = project.run("make", &arguments);
    assert!(!again.contains("wrote "), "{again}");
}

/// Every thief against every defence, the proofs that a guard allows, what is kept and the page; then another seed, for which
/// nothing of the first is done again.
#[test]
fn make_collects_results() {
    let project = Project::new(None);
    let bin = format!("BIN={}", binaries().display());
    let few = "FLAGS=--set distill.epochs=2 --set distill.epoch_questions=0 --set generate.sequences=10";
    let thieves = ["THIEVES=autoregressive:hinge short:set", "DEFENCES=none random guard"];
    let make = |seeds: &str| {
        let always =
            ["results-demo-sas", "CARGO=true", "OUT=my out", "KEPT=kept", "PAGE=page.md", &bin, few, seeds];
        project.run("make", &[&always[..], &thieves].concat())
    };
    make("SEEDS=1");
    let out = project.at("my out/results-demo-sas/seed-1");
    for made in [
        "proof-guard-short-set-sas",
        "proof-none-short-set-sas",
        "eval-none-autoregressive-hinge-sas",
        "eval-random-random-10-listmle-shuffled-sas",
        "eval-random-mimic-10-listmle-shuffled-sas",
        "proof-guard-short-by-2-listmle-decoys-sas",
        "proof-guard-mimic-listmle-decoys-sas",
        "detect",
    ] {
        assert!(out.join(made).is_dir(), "{made}");
    }
    let page = || fs::read_to_string(project.at("page.md")).unwrap();
    assert!(page().contains("### demo-sas") && page().contains("one seed was run"), "{}", page());
    assert!(project.at("kept/demo-sas/report.json").is_file());
    let shown = fs::read_to_string(project.at("kept/demo-sas/report.html")).unwrap();
    assert!(shown.contains("<h2>Detection</h2>"), "how thieves are told from users");
    let more = make("SEEDS=1 2");
    assert!(!more.lines().any(|line| line.contains("wrote ") && line.contains("seed-1")), "{more}");
    assert!(page().contains("2 seeds were run"), "{}", page());
    let ended =
        project.command("make", &["results-demo-sas", "CARGO=true", &bin, "THIEVES=short"]).output().unwrap();
    assert!(!ended.status.success() && text(&ended).contains("expected STRATEGY:LOSS"), "{}", text(&ended));
    let ended = project
        .command("make", &["results-demo-sas", "CARGO=true", &bin, "THIEVES=short:sat"])
        .output()
        .unwrap();
    assert!(!ended.status.success() && text(&ended).contains("sat"), "{}", text(&ended));
}

#[test]
fn make_dvc_and_snakemake_end_in_the_same_bytes() {
    let Some(tools) = tools() else { return };
    let [make, dvc, snakemake] = [(); 3].map(|()| Project::new(Some(tools)));
    make.make();
    dvc.repro(&[REPORT]);
    let report = "out/demo-bert/report/report.md";
    snakemake.run("snakemake", &["-s", "pipelines/Snakefile", "--cores", "2", report]);

    for directory in ["data", "out"] {
        let expected = make.files(directory);
        assert!(expected.keys().any(|name| name.ends_with("stage.lock")), "{expected:?}");
        let mut found = dvc.files(directory);
        // DVC keeps the resolved settings beside the outputs.
        found.retain(|name, _| !["demo/settings.yaml", "demo-bert/settings.yaml"].contains(&&**name));
        assert_same_files(&expected, &found, "DVC");
        assert_same_files(&expected, &snakemake.files(directory), "Snakemake");
    }
    // The folders are the same, too: make finds the work of the others done.
    for other in [&dvc, &snakemake] {
        let log = other.make();
        assert_eq!(log.matches("up to date").count(), 4 + 4 * 9, "{log}");
    }
}

#[test]
fn dvc_runs_what_a_change_reaches_and_shows_metrics_and_plots() {
    let Some(tools) = tools() else { return };
    let project = Project::new(Some(tools));
    let first = project.repro(&[REPORT]);
    assert_eq!(first.len(), 2 + 2 + 1 + 4 * 9 + 1, "{first:?}");
    project.commit();
    assert_eq!(project.repro(&[REPORT]), Vec::<String>::new());

    // A setting of one defence: that defence, and who attacks and measures it.
    project.set(&SETTINGS.replace("lambda: 0.1", "lambda: 0.2"));
    let mut expected = stages(&["settings", "gro", "generate-gro", "distill-gro", "evaluate-gro", "report"]);
    expected.insert(0, "dataset-settings@demo".to_owned());
    assert_eq!(project.repro(&[REPORT]), expected);
    // Back: the run cache has it all.
    project.set(SETTINGS);
    assert_eq!(project.repro(&[REPORT]), Vec::<String>::new());

    let json = |text: &str| -> serde_json::Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let metrics = "out/demo-bert/eval-gro-bert/metrics.json";
    let shown = json(&project.run("dvc", &["metrics", "show", "--json", metrics]));
    let stored = json(&fs::read_to_string(project.at(metrics)).unwrap());
    assert_eq!(shown[""]["data"][metrics]["data"], stored);
    assert!(stored["target"]["HR@10"]["mean"].is_f64(), "{stored}");
    for (plot, rows) in
        [("target/history.csv", 3), ("protected-gro/history.csv", 3), ("report/report.csv", 203)]
    {
        let plot = format!("out/demo-bert/{plot}");
        let shown = json(&project.run("dvc", &["plots", "show", "--json", &plot]));
        let points = shown["data"][&plot][0]["content"]["data"]["values"].as_array().unwrap();
        assert_eq!(points.len(), rows, "{points:?}");
    }
}

#[test]
fn a_clone_completes_with_dvc_what_another_began() {
    let Some(tools) = tools() else { return };
    let here = Project::new(Some(tools));
    let remote = here.root.path().join("remote");
    let share = |project: &Project| {
        project.run("dvc", &["remote", "add", "--local", "--default", "shared", remote.to_str().unwrap()]);
    };
    share(&here);
    let half = ["none", "gro"].map(|defence| format!("pipelines/dvc.yaml:distill@demo-bert-{defence}"));
    let begun = here.repro(&[&half[0], &half[1]]);
    here.run("dvc", &["push", "--run-cache"]);

    // Without dvc.lock the run cache alone says what was done; only synth, which has no dependency, is not in it.
    let there = Project::clone_of(&here);
    share(&there);
    let mut rest = there.repro(&["--pull", REPORT]);
    rest.retain(|name| name != "synth");
    let missing = stages(&[
        "policy-random",
        "policy-reverse",
        "policy-short",
        "keyed-tail",
        "keyed-replace",
        "guard",
        "decoy",
        "generate-random",
        "generate-reverse",
        "generate-short",
        "generate-tail",
        "generate-replace",
        "generate-guard",
        "generate-decoy",
        "distill-random",
        "distill-reverse",
        "distill-short",
        "distill-tail",
        "distill-replace",
        "distill-guard",
        "distill-decoy",
        "evaluate-random",
        "evaluate-reverse",
        "evaluate-short",
        "evaluate-tail",
        "evaluate-replace",
        "evaluate-guard",
        "evaluate-decoy",
        "evaluate-none",
        "evaluate-gro",
        "report",
    ]);
    assert_eq!(rest, missing);
    assert!(begun.iter().all(|stage| !missing.contains(stage)), "{begun:?}");

    // With it, nothing at all is done twice; and both end where one alone does.
    here.commit();
    let third = Project::clone_of(&here);
    share(&third);
    assert_eq!(third.repro(&["--pull", REPORT]), missing);
    here.repro(&[REPORT]);
    let expected = here.files("out");
    assert_same_files(&expected, &there.files("out"), "the clone without dvc.lock");
    assert_same_files(&expected, &third.files("out"), "the clone with dvc.lock");
}

/// The `--config` of a grid: two targets, two defences, two surrogates, two seeds.
const GRID: [&str; 7] = [
    "--config",
    "datasets=[demo]",
    "targets=[bert,sas]",
    "defences=[none,gro]",
    "surrogates=[bert,sas]",
    "seeds=[1,2]",
    "threads=1",
];

/// How often each rule ran, by Snakemake's log; `all` does nothing.
fn rules(log: &str) -> BTreeMap<String, usize> {
    let mut rules = BTreeMap::new();
    for line in log.lines() {
        let line = line.strip_prefix("local").unwrap_or(line);
        if let Some(rule) = line.strip_prefix("rule ").and_then(|rest| rest.strip_suffix(':')) {
            *rules.entry(rule.to_owned()).or_default() += 1;
        }
    }
    rules.remove("all");
    rules
}

fn counted(rules: &[(&str, usize)]) -> BTreeMap<String, usize> {
    rules.iter().map(|&(rule, count)| (rule.to_owned(), count)).collect()
}

#[test]
fn snakemake_fills_a_grid_and_a_failed_job_costs_its_own_cells_only() {
    let Some(tools) = tools() else { return };
    let mut project = Project::new(Some(tools));
    // A binary that leaves half a surrogate behind, for one cell of the grid.
    let broken = project.root.path().join("broken");
    let cell = "out/demo-sas/seed-2/surrogate-gro-bert";
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n*\"--out {cell}\") echo half > {cell}/model.safetensors; exit 1 ;;\nesac\n\
         exec {}/gro-attack \"$@\"\n",
        binaries().display()
    );
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("gro-attack"), script).unwrap();
    project.run("chmod", &["+x", broken.join("gro-attack").to_str().unwrap()]);
    project.path.insert(0, broken);

    let grid = [&["-s", "pipelines/Snakefile", "--cores", "2", "--keep-going"], &GRID[..]].concat();
    let output = project.command("snakemake", &grid).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(!project.at(cell).join("model.safetensors").exists());
    assert!(!project.at("out/demo-grid/report").join("report.md").exists());
    let evaluated = || project.files("out").keys().filter(|name| name.ends_with("metrics.json")).count();
    assert_eq!(evaluated(), 15);

    project.path.remove(0);
    let log = project.run("snakemake", &grid);
    assert_eq!(rules(&log), counted(&[("distill", 1), ("evaluate", 1), ("report", 1)]), "{log}");
    assert!(project.run("snakemake", &grid).contains("Nothing to be done"));

    // One table of the grid: a popular row, 4 targets of 5 figures, their tables of lists of 8, 8 surrogates of 9, each over both seeds.
    let csv = fs::read_to_string(project.at("out/demo-grid/report/report.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 5 + 4 * 5 + 4 * 8 + 8 * 9);
    assert!(csv.lines().skip(1).all(|line| line.contains(",1 2,")), "{csv}");
    assert!(project.at("out/demo-grid/report/report.parquet").exists());

    // What a change reaches and nothing else.
    project.set(&SETTINGS.replace("lambda: 0.1", "lambda: 0.2"));
    let log = project.run("snakemake", &[&["--dry-run"], &grid[..]].concat());
    let expected = [("gro", 4), ("generate", 4), ("distill", 8), ("evaluate", 8), ("report", 1)];
    assert_eq!(rules(&log), counted(&expected), "{log}");
}

#[test]
fn seed_zero_is_a_seed() {
    let Some(tools) = tools() else { return };
    let project = Project::new(Some(tools));
    let grid = ["--config", "datasets=[demo]", "targets=[sas]", "surrogates=[sas]", "defences=[none]"];
    let plan = |seeds: &[&str]| {
        let dry_run = ["-s", "pipelines/Snakefile", "--dry-run", "--printshellcmds"];
        project.run("snakemake", &[&dry_run, &grid[..], seeds].concat())
    };
    for seeds in ["seeds=[0,1]", "seeds=0"] {
        let plan = plan(&[seeds]);
        for part in ["--seed 0 ", "out/demo-sas/seed-0/target", "out/demo-sas/seed-0/eval-none-sas"] {
            assert!(plan.contains(part), "{seeds}, {part}: {plan}");
        }
        assert!(!plan.contains("out/demo-sas/target"), "{seeds}: {plan}");
    }
    // Without any the settings say: one run, in no folder of its own.
    let plan = plan(&[]);
    assert!(plan.contains("out/demo-sas/target") && !plan.contains("seed-"), "{plan}");
}

#[test]
fn snakemake_takes_one_value_for_a_list_and_refuses_what_it_does_not_know() {
    let Some(tools) = tools() else { return };
    let project = Project::new(Some(tools));
    let plan = |words: &[&str]| {
        let dry_run =
            ["-s", "pipelines/Snakefile", "--dry-run", "--printshellcmds", "--config", "datasets=demo"];
        project.command("snakemake", &[&dry_run, words].concat()).output().unwrap()
    };
    // As text, a number has digits, and a name letters, which are no list.
    for seeds in ["seeds=10", "seeds='10'", "seeds=['10']"] {
        let output = plan(&["targets=sas", "surrogates=bert", "defences=none", seeds]);
        let plan = text(&output);
        assert!(output.status.success(), "{plan}");
        for part in ["--seed 10 ", "out/demo-sas/seed-10/surrogate-none-bert"] {
            assert!(plan.contains(part), "{seeds}, {part}: {plan}");
        }
        assert!(!plan.contains("seed-1/") && !plan.contains("seed-0/"), "{plan}");
    }
    for (words, part) in [
        ("seeds=[-1]", "--config: seeds names -1, expected whole numbers of 0 or more"),
        ("seeds=[1.5]", "--config: seeds names 1.5, expected whole numbers"),
        ("targets=[sasrec]", "--config: targets names sasrec, expected some of bert, sas"),
        ("defences=[none,all]", "--config: defences names all, expected some of none"),
        ("seed=3", "--config: seed is not known, expected some of datasets, targets"),
    ] {
        let output = plan(&[words]);
        assert!(!output.status.success() && text(&output).contains(part), "{}", text(&output));
    }
}

/// Make, with the binaries that are there and one defence.
fn make_with(project: &Project, goal: &str, words: &[&str]) -> Output {
    let binaries = format!("BIN={}", binaries().display());
    let all = [&[goal, "CARGO=true", &binaries, "DEFENCES=none"], words].concat();
    project.command("make", &all).output().unwrap()
}

#[test]
fn make_takes_paths_with_blanks_quotation_marks_and_dashes() {
    let project = Project::new(None);
    let report = |out: &str| project.at(out).join("demo-sas/report/report.md");
    // What it makes itself lies where RAW says, with a blank in it too.
    for out in ["my out", "it's \"mine\", 50% & more", "-out"] {
        let made = make_with(&project, "demo-sas", &[&format!("OUT={out}"), "RAW=raw data"]);
        assert!(made.status.success() && report(out).is_file(), "{out}: {}", text(&made));
    }
    assert!(project.at("raw data/demo/ratings.csv").is_file() && !project.at("data/raw").exists());
    // Ratings and settings of one's own; a path in quotation marks of its own is as good.
    fs::create_dir(project.at("my ratings")).unwrap();
    fs::rename(project.at("raw data/demo/ratings.csv"), project.at("my ratings/ratings.csv")).unwrap();
    fs::write(project.at("my settings.yaml"), "train: {epochs: 1}\n").unwrap();
    for (out, input) in [("a", "my ratings"), ("b", "\"my ratings\""), ("c d", "my ratings/ratings.csv")] {
        let words = [&format!("OUT={out}"), &format!("INPUT={input}"), "FLAGS=--config 'my settings.yaml'"];
        let made = make_with(&project, "demo-sas", &words);
        assert!(made.status.success() && report(out).is_file(), "{input}: {}", text(&made));
    }
    // The attacker's own histories, and several seeds.
    let words = ["OUT=c d", "INPUT=my ratings", "FLAGS=--set generate.seed_sequences=0.5 --set seeds=[1,2]"];
    let made = make_with(&project, "demo-sas", &words);
    assert!(
        made.status.success() && project.at("c d/demo-sas/seed-2/eval-none-sas").is_dir(),
        "{}",
        text(&made)
    );

    for out in ["my out", "it's \"mine\", 50% & more", "-out"] {
        let made = make_with(&project, "clean", &[&format!("OUT={out}")]);
        assert!(made.status.success() && !project.at(out).exists(), "{out}: {}", text(&made));
    }
    assert!(project.at("a").exists() && project.at("c d").exists() && project.at("raw data").exists());
}

#[test]
fn make_checks_every_setting_before_the_first_stage() {
    let project = Project::new(None);
    for (goal, set, expected) in [
        ("demo-sas", "evaluate.ks=[30]", "`evaluate.ks` reaches 30"),
        ("grid-demo", "distill.batch=0", "`distill.batch` is 0"),
    ] {
        let refused = make_with(&project, goal, &[&format!("FLAGS=--set {set}")]);
        assert!(!refused.status.success() && text(&refused).contains(expected), "{}", text(&refused));
        assert!(!project.at("data/raw/demo").exists(), "{goal}: ratings were made first");
    }
    // What takes the data to know is said once there are data, and before anything is trained.
    let refused = make_with(&project, "demo-sas", &["FLAGS=--set generate.top_k=200"]);
    assert!(!refused.status.success(), "{}", text(&refused));
    assert!(text(&refused).contains("generate.top_k is 200, expected less than the"), "{}", text(&refused));
    assert!(project.at("out/demo/data").exists() && !project.at("out/demo-sas").exists());
}

#[test]
fn snakemake_and_dvc_take_paths_with_blanks() {
    let Some(tools) = tools() else { return };
    let project = Project::new(Some(tools));
    fs::write(project.at("my settings.yaml"), "train: {epochs: 1}\n").unwrap();
    let grid = [
        "-s",
        "pipelines/Snakefile",
        "--cores",
        "2",
        "--config",
        "datasets=[demo]",
        "targets=[sas]",
        "defences=[none]",
        "surrogates=[sas]",
        "threads=1",
        "out=my out",
        "raw=raw data",
        "flags=--config 'my settings.yaml' --set generate.seed_sequences=0.5",
    ];
    project.run("snakemake", &grid);
    assert!(project.at("my out/demo-grid/report/report.md").is_file());
    assert!(project.at("raw data/demo/ratings.csv").is_file());
    let settings = fs::read_to_string(project.at("my out/demo-sas/target/settings.yaml")).unwrap();
    assert!(settings.contains("epochs: 1"), "{settings}");

    // The folders of DVC are given; files in $FLAGS are the user's.
    let mut command = project.command("dvc", &["repro", "pipelines/dvc.yaml:preprocess@demo"]);
    command.env("FLAGS", format!("--config '{}'", project.at("my settings.yaml").display()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn every_job_of_a_cluster_runs_in_a_working_copy_of_its_own() {
    let Some(tools) = tools() else { return };
    let project = Project::new(Some(tools));
    let copies = project.root.path().join("copies");
    fs::create_dir(&copies).unwrap();
    let submit = format!("python {}/submit.py", env!("CARGO_MANIFEST_DIR"));
    let arguments = ["-s", "pipelines/Snakefile", "--executor", "cluster-generic", "--jobs", "2"];
    let cluster = ["--cluster-generic-submit-cmd", &submit, "--seconds-between-status-checks", "1"];
    let grid = [
        "--config",
        "datasets=[demo]",
        "targets=[sas]",
        "surrogates=[sas]",
        "defences=[gro]",
        "threads=1",
        "resume=true",
    ];
    // A scheduler is asked for a GPU by the five jobs of these eight that train or ask a model, if at all.
    let mut plan = [&["-s", "pipelines/Snakefile", "--dry-run"], &grid[..]].concat();
    assert!(!project.run("snakemake", &plan).contains("gpu="));
    plan.push("gpus=1");
    assert_eq!(project.run("snakemake", &plan).matches("gpu=1,").count(), 5);

    let mut command = project.command("snakemake", &[&arguments[..], &cluster, &grid].concat());
    let output = command.env("WORKING_COPIES", &copies).output().unwrap();
    let logs = || fs::read_dir(&copies).unwrap().map(|copy| copy.unwrap().path().join("job.log"));
    let said = || logs().map(|log| fs::read_to_string(log).unwrap_or_default()).collect::<String>();
    assert!(output.status.success(), "{}{}", text(&output), said());
    // synth, preprocess, train, gro, generate, distill, evaluate, report
    assert_eq!(logs().count(), 8);

    // What came together from the copies is what one machine makes.
    let alone = Project::new(Some(tools));
    alone.run("snakemake", &[&["-s", "pipelines/Snakefile", "--cores", "2"], &grid[..]].concat());
    let expected = alone.files("out");
    assert!(expected.contains_key("demo-grid/report/report.parquet"), "{expected:?}");
    assert_same_files(&expected, &project.files("out"), "the cluster");
}

/// A machine with one binary, the settings, and what is carried there.
struct Machine {
    root: tempfile::TempDir,
    binary: &'static str,
}

impl Machine {
    fn with(binary: &'static str) -> Self {
        let root = workspace();
        fs::hard_link(binaries().join(binary), root.path().join(binary)).unwrap();
        let bert = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/bert.yaml");
        copy(&bert, &root.path().join("pipelines/bert.yaml"));
        fs::write(root.path().join("pipelines/demo.yaml"), SETTINGS).unwrap();
        Self { root, binary }
    }

    /// Run the binary without any environment.
    fn run(&self, arguments: &str) -> Output {
        let settings = ["--config", "pipelines/demo.yaml", "--config", "pipelines/bert.yaml"];
        let mut command = Command::new(self.root.path().join(self.binary));
        command.args(arguments.split(' ')).args(settings).current_dir(self.root.path()).env_clear();
        command.output().unwrap()
    }

    /// Copy a directory or a file from another machine to the same place here.
    fn carry(&self, from: &Path, path: &str) {
        copy(&from.join(path), &self.root.path().join(path));
    }
}

/// One stage on a machine of its own.
struct Step {
    binary: &'static str,
    arguments: String,
    /// The directory it makes.
    output: String,
    /// Files and directories it reads, in the order in which it asks for them, and what it says when one is missing.
    inputs: Vec<(String, &'static str)>,
}

/// The pipeline of the demo under GRO, stage by stage; the report is about `runs`.
fn walk(runs: &[String]) -> [Step; 7] {
    let step = |binary, output: &str, arguments: &str, inputs: &[(&str, &'static str)]| Step {
        binary,
        arguments: format!("{arguments} --out {output}"),
        output: output.to_owned(),
        inputs: inputs.iter().map(|&(path, message)| (path.to_owned(), message)).collect(),
    };
    let data = ("out/demo/data", "`gro-preprocess run` makes it");
    let target = ("out/demo-bert/target/model.safetensors", "`gro-train` makes a target");
    let protected = ("out/demo-bert/protected-gro/model.safetensors", "`gro-defend` a protected one");
    let queries = ("out/demo-bert/queries-gro/queries.parquet", "`gro-attack generate` makes it");
    let surrogate =
        ("out/demo-bert/surrogate-gro-bert/model.safetensors", "`gro-attack distill` a surrogate");
    let mut models: Vec<String> = runs.iter().map(|run| run.replace("/eval-", "/surrogate-")).collect();
    models.push("out/demo-bert/target".to_owned());
    let histories: Vec<String> = models.iter().map(|model| format!("{model}/history.csv")).collect();
    let mut read: Vec<_> = runs.iter().map(|run| (&**run, "`gro-evaluate run` makes it")).collect();
    read.push(data);
    read.extend(histories.iter().map(|history| (&**history, "history.csv does not exist")));
    [
        step(
            "gro-preprocess",
            "out/demo/data",
            "run --input data/raw/demo",
            &[("data/raw/demo/ratings.csv", "no interactions at data/raw/demo")],
        ),
        step("gro-train", "out/demo-bert/target", "--data out/demo/data", &[data]),
        step(
            "gro-defend",
            "out/demo-bert/protected-gro",
            "--data out/demo/data --target out/demo-bert/target --method gro",
            &[target, data],
        ),
        step(
            "gro-attack",
            "out/demo-bert/queries-gro",
            "generate --target out/demo-bert/protected-gro",
            &[protected],
        ),
        step(
            "gro-attack",
            "out/demo-bert/surrogate-gro-bert",
            "distill --queries out/demo-bert/queries-gro --surrogate bert",
            &[queries],
        ),
        step(
            "gro-evaluate",
            "out/demo-bert/eval-gro-bert",
            "run --data out/demo/data --target out/demo-bert/protected-gro \
             --surrogate out/demo-bert/surrogate-gro-bert",
            &[data, protected, surrogate],
        ),
        step(
            "gro-evaluate",
            "out/demo-bert/report",
            &format!(
                "report --data out/demo/data --histories {} --runs {}",
                models.join(" "),
                runs.join(" ")
            ),
            &read,
        ),
    ]
}

#[test]
fn every_stage_runs_on_a_machine_that_has_its_binary_settings_and_inputs() {
    let whole = Project::new(None);
    whole.make();
    let runs = ["none", "random", "reverse", "short", "tail", "replace", "guard", "gro", "decoy"]
        .map(|name| format!("out/demo-bert/eval-{name}-bert"));
    for Step { binary, arguments, output, inputs } in walk(&runs) {
        let machine = Machine::with(binary);
        for (path, expected) in &inputs {
            // Still missing: one message names it and says what makes it, and nothing is written.
            let refused = machine.run(&arguments);
            let message = text(&refused);
            assert_eq!(refused.status.code(), Some(2), "{binary} {arguments}: {message}");
            assert!(message.contains(expected), "{binary} without {path}: {message}");
            assert!(!machine.root.path().join(&output).exists(), "{binary} without {path} wrote {output}");
            machine.carry(&whole.at(""), path);
        }
        let done = machine.run(&arguments);
        assert!(done.status.success(), "{binary} {arguments}: {}", text(&done));
        assert_same_files(&whole.files(&output), &files(&machine.root.path().join(&output)), binary);
    }
}
