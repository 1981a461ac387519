//! Commands that people give by mistake, and files that they have: each is refused at once with what to do, or does what was
//! meant. The cases come from public bug reports on programs of this kind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should say where")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use artifact::checkpoint::{Checkpoint, MODEL};
use artifact::dataset::{self, Dataset, UserSequence};

const SETTINGS: &str = "
model: {architecture: sas, hidden: 16, blocks: 1, heads: 2, max_len: 12}
train: {epochs: 3, batch: 32, loss: cross_entropy}
optimizer: {learning_rate: 0.01}
defend: {gro: {epochs: 1, top_k: 20, batch: 32}, guard: {top_k: 20}, decoy: {epochs: 1, top_k: 20, batch: 32, histories: 40, length: 12}}
generate: {sequences: 20, top_k: 20}
distill: {epochs: 2, batch: 16}
evaluate: {ks: [1, 5, 10], top_k: 20, bootstrap: 50}
";

/// A binary of the workspace. Cargo puts test executables into a folder below the binaries.
fn binary(stage: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(format!("gro-{stage}"));
    assert!(path.exists(), "{} is not built; run `cargo test --workspace`", path.display());
    path
}

/// Runs a stage on `words`, parted by blanks, in `directory`.
fn run_in(directory: &Path, stage: &str, words: &str) -> Output {
    let mut command = Command::new(binary(stage));
    command.args(words.split_whitespace()).args(["--threads", "1"]).current_dir(directory);
    command.output().unwrap()
}

fn log_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `data` of 60 users and 40 items, `reversed`, which is the same with every history back to front, and a `target` trained
/// on `data`; made once and copied for each test.
fn made() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let root = MADE.get_or_init(|| {
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        fs::write(at.join("settings.yaml"), SETTINGS).unwrap();
        let stage = |stage: &str, words: &str| {
            let output = run_in(at, stage, words);
            assert!(output.status.success(), "gro-{stage} {words}: {}", log_of(&output));
        };
        stage("preprocess", "synth --users 60 --items 40 --interactions 1400 --out ratings");
        stage("preprocess", "run --input ratings --out data");
        stage("train", "--config settings.yaml --data data --out target");
        let data = Dataset::read(&at.join("data")).unwrap();
        let raw = |count: usize, what: &str| (1..=count).map(|id| format!("{what}{id}")).collect::<Vec<_>>();
        let histories: Vec<Vec<u32>> = (0..data.users())
            .map(|user| {
                let history =
                    data.train(user).iter().copied().chain([data.valid(user)]).chain(data.test(user));
                history.rev().collect()
            })
            .collect();
        let sequences = histories.iter().map(|history| {
            let (train, &[valid, test]) = history.split_last_chunk().unwrap();
            UserSequence { train, valid, test: Some(test) }
        });
        fs::create_dir(at.join("reversed")).unwrap();
        dataset::write(&at.join("reversed"), &raw(data.items(), ""), &raw(data.users(), "u"), sequences)
            .unwrap();
        // The items keep their raw ids, so that the fingerprint is the same.
        for file in ["items.parquet", "stats.json"] {
            fs::copy(at.join("data").join(file), at.join("reversed").join(file)).unwrap();
        }
        root
    });
    root.path()
}

/// A directory of a test's own with what [`made`] holds.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        copy(made(), place.path());
        Self(place)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn run(&self, stage: &str, words: &str) -> Output {
        run_in(self.0.path(), stage, words)
    }

    /// Runs a stage that must succeed; its log.
    #[track_caller]
    fn done(&self, stage: &str, words: &str) -> String {
        let output = self.run(stage, words);
        let log = log_of(&output);
        assert!(output.status.success(), "gro-{stage} {words}: {log}");
        log
    }

    /// Runs a stage that must refuse; its one message.
    #[track_caller]
    fn refused(&self, stage: &str, words: &str) -> String {
        let output = self.run(stage, words);
        let log = log_of(&output);
        assert_eq!(output.status.code(), Some(2), "gro-{stage} {words}: {log}");
        assert!(log.starts_with("error: ") && log.trim_end().lines().count() == 1, "{log}");
        log
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_target_is_not_judged_on_other_splits_than_it_was_trained_on() {
    let place = Place::new();
    let evaluate = "run --config settings.yaml --target target --data";
    let own = place.done("evaluate", &format!("{evaluate} data --out own"));
    assert!(!own.contains("splits"), "{own}");
    let message = place.refused("evaluate", &format!("{evaluate} reversed --out e"));
    for part in
        ["target/model.safetensors was trained on other splits than those of reversed", "--other-split"]
    {
        assert!(message.contains(part), "{message}");
    }
    assert!(!place.at("e").exists());

    // Whoever means it gets it, and whoever reads it sees it.
    let log = place.done("evaluate", &format!("{evaluate} reversed --other-split --out e"));
    assert!(log.contains("models trained on other splits"), "{log}");
    let protocol = |run: &str| fs::read_to_string(place.at(run).join("protocol.json")).unwrap();
    assert!(protocol("e").contains("\"other_split\": true"), "{}", protocol("e"));
    assert!(!protocol("own").contains("other_split"), "{}", protocol("own"));
    // The flag alone changes nothing that is right.
    place.done("evaluate", &format!("{evaluate} data --other-split --out flagged"));
    assert_eq!(protocol("own"), protocol("flagged"));
}

#[test]
fn training_goes_on_from_a_model_of_the_same_items() {
    let place = Place::new();
    let train = "--config settings.yaml --set train.epochs=1 --set model.architecture=narm --set model.hidden=12 --from";
    // Steps so small that the weights stay what they were.
    let still = "--set optimizer.learning_rate=1e-12";
    let log = place.done("train", &format!("{train} target --data data {still} --out still"));
    assert!(log.contains("going on from the"), "{log}");
    let read = |directory: &str| Checkpoint::read(&place.at(directory).join(MODEL)).unwrap();
    let (target, stayed) = (read("target"), read("still"));
    assert_eq!(stayed.description, target.description, "the sizes are those of the model");
    for (name, tensor) in &target.tensors {
        let moved = tensor.values.iter().zip(&stayed.tensors[name].values).map(|(a, b)| (a - b).abs());
        assert!(moved.fold(0.0, f32::max) < 1e-6, "{name}");
    }
    place.done("train", &format!("{train} target --data data --out moved"));
    assert_ne!(read("moved").tensors, target.tensors);

    let message = place.refused("train", &format!("{train} target --data reversed --out other"));
    assert!(message.contains("trained on other splits than those of reversed"), "{message}");
    place.done("train", &format!("{train} target --data reversed --other-split --out other"));
    assert_eq!(read("other").description.splits.len(), 2, "it has seen both");
    let message = place.refused("train", &format!("{train} missing --data data --out nothing"));
    assert!(message.contains("missing/model.safetensors"), "{message}");
}

#[test]
fn a_protected_target_and_a_surrogate_keep_the_splits_of_their_target() {
    let place = Place::new();
    let settings = "--config settings.yaml";
    let message =
        place.refused("defend", &format!("{settings} --data reversed --target target --method gro --out p"));
    assert!(message.contains("trained on other splits than those of reversed"), "{message}");
    let chain = |name: &str, method: &str| {
        place.done("defend", &format!("{settings} {method} --target target --out p-{name}"));
        place.done("attack", &format!("generate {settings} --target p-{name} --out q-{name}"));
        place.done("attack", &format!("distill {settings} --queries q-{name} --out s-{name}"));
        let evaluate = format!("run {settings} --target p-{name} --surrogate s-{name}");
        let own = place.done("evaluate", &format!("{evaluate} --data data --out e-{name}"));
        assert!(!own.contains("splits"), "{own}");
        place.refused("evaluate", &format!("{evaluate} --data reversed --out f"))
    };
    for (name, method) in [("reverse", "--method reverse"), ("gro", "--method gro --data data")] {
        let message = chain(name, method);
        assert!(
            message.contains(&format!("p-{name}/model.safetensors was trained on other splits")),
            "{message}"
        );
    }
    // The copy alone, too: of a target that was trained on these.
    let other = format!("{settings} --set seed=2 --data reversed --out other");
    place.done("train", &other);
    let message = place.refused(
        "evaluate",
        &format!("run {settings} --data reversed --target other --surrogate s-gro --out f"),
    );
    assert!(message.contains("s-gro/model.safetensors was trained on other splits"), "{message}");
    // And on these, but of another target.
    let words = format!("run {settings} --data data --target target --surrogate s-gro --out f");
    let log = place.done("evaluate", &words);
    assert!(
        log.contains("s-gro/model.safetensors copies another target than target/model.safetensors"),
        "{log}"
    );
    // A defence that learned on both belongs to neither.
    let words = format!("{settings} --data reversed --target target --method gro --other-split --out both");
    place.done("defend", &words);
    for data in ["data", "reversed"] {
        place.refused("evaluate", &format!("run {settings} --data {data} --target both --out f"));
    }
}

#[test]
fn real_histories_come_from_the_splits_of_the_target() {
    let place = Place::new();
    let words =
        "generate --config settings.yaml --set generate.seed_sequences=0.5 --target target --out q --seeds";
    let message = place.refused("attack", &format!("{words} reversed"));
    assert!(message.contains("trained on other splits than those of reversed"), "{message}");
    place.done("attack", &format!("{words} data"));
    place.done("attack", &format!("{words} reversed --other-split --force"));
    // Of other items, that is what is said.
    place.done("preprocess", "synth --users 60 --items 30 --interactions 1400 --out fewer");
    place.done("preprocess", "run --input fewer --out others");
    let message = place.refused("attack", &format!("{words} others --force"));
    assert!(message.contains("was trained on another dataset than others"), "{message}");
}

#[test]
fn a_defence_that_cannot_be_computed_names_its_own_settings() {
    let place = Place::new();
    let protect = "--config settings.yaml --data data --target target --out p --method";
    let output = place.run("defend", &format!("{protect} decoy --set defend.decoy.learning_rate=1e30"));
    let log = log_of(&output);
    assert!(output.status.code() == Some(1) && log.contains("; lower defend.decoy.learning_rate"), "{log}");
    let message = place.refused("defend", &format!("{protect} gro --set defend.gro.student=.nan"));
    assert!(message.contains("`defend.gro.student` is NaN"), "{message}");
    for setting in ["gro.lambda", "gro.margin_swap", "decoy.keep"] {
        let message = place.refused("defend", &format!("{protect} gro --set defend.{setting}=1e308"));
        assert!(message.contains(&format!("`defend.{setting}` is 1e308")), "{message}");
    }
}

#[test]
fn what_does_not_say_its_splits_is_taken_with_a_warning() {
    let place = Place::new();
    // As earlier versions wrote it: no splits in the checkpoint, and a lock that knows them.
    let model = place.at("target/model.safetensors");
    let mut checkpoint = artifact::checkpoint::Checkpoint::read(&model).unwrap();
    assert_eq!(checkpoint.description.splits.len(), 1);
    checkpoint.description.splits.clear();
    checkpoint.write(&model).unwrap();
    let digest = artifact::digest::file(&model).unwrap();
    let lock = place.at("target/stage.lock");
    let text = fs::read_to_string(&lock).unwrap();
    let start = text.find("path: model.safetensors").unwrap();
    let end = start + text[start..].find("- path").unwrap_or(text.len() - start);
    let entry = format!("path: model.safetensors\n  size: {}\n  blake3: {}\n", digest.size, digest.blake3);
    fs::write(&lock, [&text[..start], &entry, &text[end..]].concat()).unwrap();
    let evaluate = "run --config settings.yaml --target target --data";
    place.done("evaluate", &format!("{evaluate} data --out own"));
    let message = place.refused("evaluate", &format!("{evaluate} reversed --out e"));
    assert!(message.contains("trained on other splits"), "{message}");
    // Without the lock nobody knows.
    fs::remove_file(&lock).unwrap();
    for data in ["data", "reversed"] {
        let log = place.done("evaluate", &format!("{evaluate} {data} --out without-{data}"));
        assert!(
            log.contains("target/model.safetensors does not say which splits it was trained on"),
            "{log}"
        );
    }
}

#[test]
fn an_output_that_cannot_be_made_is_refused_before_the_work() {
    let place = Place::new();
    std::os::unix::fs::symlink("nowhere", place.at("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", place.at("link.inter")).unwrap();
    fs::write(place.at("file"), "mine").unwrap();
    fs::create_dir(place.at("directory.inter")).unwrap();
    let settings = "--config settings.yaml";
    place.done("attack", &format!("generate {settings} --target target --out queries"));
    place.done("evaluate", &format!("run {settings} --data data --target target --out evaluated"));
    let stages = [
        ("preprocess", "synth --users 60 --items 40 --interactions 1400", "ratings"),
        ("preprocess", "run --input ratings", "ratings"),
        ("preprocess", "export --data data", "data"),
        ("train", &format!("{settings} --data data"), "data"),
        ("defend", &format!("{settings} --method gro --data data --target target"), "target"),
        ("defend", &format!("{settings} --method reverse --target target"), "target"),
        ("attack", &format!("generate {settings} --target target"), "target"),
        ("attack", &format!("distill {settings} --queries queries"), "queries"),
        ("evaluate", &format!("run {settings} --data data --target target"), "data"),
        ("evaluate", "report --runs evaluated", "evaluated"),
    ];
    for (stage, words, input) in stages {
        let refused = |out: &str| place.refused(stage, &format!("{words} --out {out}"));
        let message = refused("link");
        assert!(message.contains("link is a link to nowhere, which does not exist"), "{message}");
        assert!(refused("file").contains("file is a file, expected a directory"));
        let message = refused("file/x");
        assert!(
            message.contains("cannot make the directory") && message.contains("choose another --out"),
            "{message}"
        );
        if !words.starts_with("synth") {
            assert!(refused(input).contains("lies inside the output"));
            let message = refused(&format!("{input}/deeper"));
            assert!(message.contains(&format!("lies inside {input}, which a stage wrote")), "{message}");
        }
    }
    for (out, expected) in [("link.inter", "is a link to nowhere"), ("directory.inter", "is a directory")] {
        let message = place.refused("preprocess", &format!("export --data data --out {out}"));
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(fs::read_to_string(place.at("file")).unwrap(), "mine");
    // Ratings of one's own are no output of a stage, and `.` is where people have them.
    place.done("preprocess", "synth --users 60 --items 40 --interactions 1400 --out own");
    fs::remove_file(place.at("own/stage.lock")).unwrap();
    place.done("preprocess", "run --input own/ratings.csv --out own/data");
}

#[test]
fn two_runs_do_not_write_one_output() {
    let place = Place::new();
    let words = "--config settings.yaml --data data --threads 1 --set train.patience=100000 --out c";
    let mut first = Command::new(binary("train"));
    first.args(words.split(' ')).args(["--set", "train.epochs=100000"]).current_dir(place.0.path());
    let mut first = first.stderr(Stdio::null()).spawn().unwrap();
    let partial = || {
        let names = fs::read_dir(place.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with(".c.partial-")).count()
    };
    while partial() == 0 {
        assert!(first.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::os::unix::fs::symlink(".", place.at("here")).unwrap();
    for out in ["c", "./c/", "here/c"] {
        let message = place.refused("train", &format!("--config settings.yaml --data data --out {out}"));
        assert!(message.contains(&format!("another run is writing {out}")), "{message}");
    }
    assert_eq!(partial(), 1);
    // The system lifts the lock of who is killed, and what it left is swept up.
    first.kill().unwrap();
    first.wait().unwrap();
    let log = place.done("train", "--config settings.yaml --data data --out c");
    assert!(log.contains("which a run left that was killed"), "{log}");
    assert_eq!(partial(), 0);
}

#[test]
fn two_runs_that_begin_at_once_do_not_both_work() {
    let place = Place::new();
    for round in 0..5 {
        let begin = || {
            let mut command = Command::new(binary("train"));
            let out = format!("c{round}");
            command.args(["--config", "settings.yaml", "--data", "data", "--threads", "1", "--out", &out]);
            command.args(["--set", "train.epochs=40", "--set", "train.patience=40"]);
            command.current_dir(place.0.path()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let ended = [begin(), begin()].map(|child| child.wait_with_output().unwrap());
        let codes = ended.each_ref().map(|output| output.status.code().unwrap());
        let logs = ended.each_ref().map(log_of);
        // One that came when the other had ended finds its work done.
        let fine = |place: usize| codes[place] == 0 || logs[place].contains("another run is writing");
        assert!(codes.contains(&0) && fine(0) && fine(1), "{logs:?}");
        assert!(logs.iter().filter(|log| log.contains("wrote c")).count() == 1, "{logs:?}");
    }
}

#[test]
fn lists_of_the_whole_catalogue_are_refused_before_they_are_asked_for() {
    let place = Place::new();
    let words = "generate --config settings.yaml --target target --out q --set generate.top_k=40";
    let message = place.refused("attack", words);
    assert!(message.contains("generate.top_k is 40, expected less than the 40 items"), "{message}");
    for (set, expected) in [
        ("generate.length=0", "`generate.length` is 0, expected at least 1"),
        (
            "generate.seed_sequences=0.001",
            "`generate.seed_sequences` is 0.001, which is none of 20 sequences",
        ),
        (
            "generate={length: 4, seed_length: 4}",
            "`generate.seed_length` is 4, expected less than `generate.length`, 4",
        ),
    ] {
        let mut command = Command::new(binary("attack"));
        command.args([
            "generate",
            "--config",
            "settings.yaml",
            "--target",
            "target",
            "--out",
            "q",
            "--set",
            set,
        ]);
        let output = command.current_dir(place.0.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(log_of(&output).contains(expected), "{}", log_of(&output));
    }
    assert!(!place.at("q").exists());
}

#[test]
fn a_report_shows_the_cutoffs_that_there_are() {
    let place = Place::new();
    let evaluate = |name: &str, ks: &str, top_k: usize| {
        let words =
            format!("--set evaluate.ks={ks} --set evaluate.top_k={top_k} --data data --target target");
        place.done("evaluate", &format!("run --config settings.yaml {words} --out {name}"));
    };
    let report = |runs: &str, name: &str| {
        place.done("evaluate", &format!("report --runs {runs} --out {name}"));
        for file in ["report.csv", "report.parquet", "chart.svg"] {
            assert!(place.at(name).join(file).is_file(), "{file}");
        }
        let json = fs::read_to_string(place.at(name).join("report.json")).unwrap();
        let ks = serde_json::from_str::<serde_json::Value>(&json).unwrap()["ks"].to_string();
        (fs::read_to_string(place.at(name).join("report.md")).unwrap(), ks)
    };
    evaluate("usual", "[1,5,10]", 20);
    let (text, ks) = report("usual", "r-usual");
    assert_eq!(ks, "[1,5,10]");
    assert!(text.contains("HR@5") && text.contains("HR@10") && text.contains("NDCG@10"), "{text}");
    assert!(!text.contains("HR@20") && !text.contains("HR@1 "), "{text}");
    assert!(fs::read_to_string(place.at("r-usual/chart.svg")).unwrap().contains("HR@10"));
    // As of a catalogue with fewer items than any usual K.
    evaluate("short", "[1,3]", 5);
    let (text, _) = report("short", "r-short");
    assert!(text.contains("HR@1 ") && text.contains("HR@3") && text.contains("NDCG@3"), "{text}");
    assert!(fs::read_to_string(place.at("r-short/chart.svg")).unwrap().contains("HR@3"));

    // What two have in common; or nothing.
    place.done("defend", "--config settings.yaml --method reverse --target target --out protected");
    let words = "--set evaluate.ks=[5,20] --data data --target protected";
    place.done("evaluate", &format!("run --config settings.yaml {words} --out other"));
    let (text, ks) = report("usual other", "r-both");
    assert_eq!(ks, "[5]");
    assert!(text.contains("HR@5") && !text.contains("HR@10") && !text.contains("HR@20"), "{text}");
    let words = "--set evaluate.ks=[20] --data data --target protected";
    place.done("evaluate", &format!("run --config settings.yaml {words} --out apart"));
    let message = place.refused("evaluate", "report --runs usual apart --out r-apart");
    assert!(
        message.contains("evaluated at [20] (evaluate.ks) and the runs before it at [1, 5, 10]"),
        "{message}"
    );
}

#[test]
fn a_chain_is_checked_before_its_first_stage() {
    let place = Place::new();
    let gro = |words: &str| {
        let mut command = Command::new(binary("preprocess").with_file_name("gro"));
        command.args(words.split_whitespace()).current_dir(place.0.path()).output().unwrap()
    };
    let check = |set: &str, more: &str| gro(&format!("check --config settings.yaml --set {set}{more}"));
    let fine = check("seed=1", " --data data");
    assert_eq!((fine.status.code(), fine.stdout.len()), (Some(0), 0), "{}", log_of(&fine));
    for (set, data, expected) in [
        ("evaluate.ks=[30]", "", "`evaluate.ks` reaches 30"),
        ("distill.batch=0", "", "`distill.batch` is 0"),
        ("defend.gro.top_k=1", "", "`defend.gro.top_k` is 1"),
        ("evaluate.top_k=41", " --data data", "`evaluate.top_k` is 41, but the catalogue holds 40 items"),
        (
            "generate.top_k=40",
            " --data data",
            "generate.top_k is 40, expected less than the 40 items of data",
        ),
        (
            "defend.decoy.top_k=40",
            " --data data",
            "`defend.decoy.top_k` is 40, expected at most 39: the catalogue holds 40 items",
        ),
        (
            "defend.gro.top_k=40",
            " --data data",
            "defend.gro.top_k is 40, expected less than the 40 items of data",
        ),
        ("seed=1", " --data lost", "lost/stats.json does not exist; `gro-preprocess run` makes it"),
        ("evaluate={ranking:", "", "--set"),
    ] {
        let output = check(set, data);
        assert_eq!(output.status.code(), Some(2), "{set}: {}", log_of(&output));
        assert!(log_of(&output).contains(expected), "{set}: {}", log_of(&output));
    }
    let negatives = gro(
        "check --data data --set evaluate.ranking=uniform --set evaluate.negatives=40 --set evaluate.top_k=20 \
                         --set evaluate.ks=[10] --set generate.top_k=20",
    );
    assert!(log_of(&negatives).contains("`evaluate.negatives` is 40, but the catalogue holds 40 items"));
    // A defence that will not be run is not asked.
    let chosen = check("defend.gro.top_k=40", " --data data --methods none reverse");
    assert_eq!(chosen.status.code(), Some(0), "{}", log_of(&chosen));
}

#[test]
fn a_guarded_target_needs_its_key_and_no_other() {
    let place = Place::new();
    let protect = "--config settings.yaml --data data --target target --method";
    place.done("defend", &format!("{protect} guard --out guarded"));
    place.done("defend", &format!("{protect} guard --key service.key --out service"));
    let key = |path: &str| fs::read_to_string(place.at(path)).unwrap();
    assert_eq!(key("service.key"), key("service/answer.key"));
    assert_ne!(key("service.key"), key("guarded/answer.key"));
    #[cfg(unix)]
    for path in ["service.key", "service/answer.key", "guarded/answer.key"] {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(place.at(path)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
    // The key stands nowhere else.
    for entry in fs::read_dir(place.at("service")).unwrap().map(Result::unwrap) {
        let bytes = fs::read(entry.path()).unwrap();
        let digits = key("service.key");
        let found = bytes.windows(64).any(|window| window == digits.trim_end().as_bytes());
        assert_eq!(found, entry.file_name() == "answer.key", "{:?}", entry.file_name());
    }
    // Made once, used again.
    let again = place.done("defend", &format!("{protect} guard --key service.key --out service"));
    assert!(again.contains("up to date"), "{again}");

    let ask = "generate --config settings.yaml --target";
    place.done("attack", &format!("{ask} guarded --out q"));
    let refused = |stage: &str, words: &str, expected: &str| {
        let message = place.refused(stage, &format!("{words} --out nothing"));
        assert!(message.contains(expected), "{message}");
        assert!(!place.at("nothing").exists());
    };
    refused("attack", &format!("{ask} guarded --key service.key"), "but the target was protected with");
    refused("attack", &format!("{ask} target --key service.key"), "has no key; leave it out");
    refused("defend", &format!("{protect} gro --key service.key"), "gro has no key; leave it out");
    refused(
        "defend",
        &format!("{protect} guard --set defend.guard.false_alarms=1"),
        "at least 0 and less than 1",
    );
    refused("defend", &format!("{protect} guard --set defend.guard.canaries=1"), "less than 1");
    refused("defend", &format!("{protect} guard --set defend.guard.watermark=2"), "a share from 0 to 0.5");
    refused(
        "defend",
        &format!("{protect} guard --set defend.guard.top_k=40"),
        "the catalogue holds 40 items",
    );
    // A key that protected nothing is not left behind, and one that was there is.
    for file in ["new.key", "service.key"] {
        let words = format!("{protect} guard --key {file} --set defend.guard.top_k=40");
        refused("defend", &words, "the catalogue holds 40 items");
    }
    refused(
        "defend",
        "--config settings.yaml --data data --target missing --method guard --key new.key",
        "missing",
    );
    assert!(!place.at("new.key").exists());
    fs::write(place.at("junk.key"), "junk").unwrap();
    #[cfg(unix)]
    fs::set_permissions(place.at("junk.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for (file, expected) in [
        ("junk.key", "junk.key: holds no key, expected 64 hexadecimal digits"),
        ("nowhere/new.key", "nowhere is no directory"),
        ("junk.key/new.key", "junk.key is no directory"),
    ] {
        refused("defend", &format!("{protect} guard --key {file}"), expected);
    }
    assert_eq!(key("service.key"), key("service/answer.key"));
    let protect = "--config settings.yaml --target target --method guard";
    refused("defend", protect, "guard needs the dataset; give it with --data");
    fs::write(place.at("guarded/answer.key"), "00").unwrap();
    refused("attack", &format!("{ask} guarded"), "expected 64 hexadecimal digits");
    fs::remove_file(place.at("guarded/answer.key")).unwrap();
    refused("attack", &format!("{ask} guarded"), "answer.key: no such file");
    refused(
        "evaluate",
        "run --config settings.yaml --data data --target guarded",
        "answer.key: no such file",
    );
}

#[test]
fn a_target_trained_to_answer_decoys_needs_its_key_for_proofs_alone() {
    let place = Place::new();
    let protect = "--config settings.yaml --data data --target target --method decoy";
    place.done("defend", &format!("{protect} --out trained"));
    place.done("defend", &format!("{protect} --key service.key --out service"));
    let bytes = |path: &str| fs::read(place.at(path)).unwrap();
    assert_eq!(bytes("service.key"), bytes("service/answer.key"));
    assert_ne!(
        bytes("service/model.safetensors"),
        bytes("trained/model.safetensors"),
        "another key, another target"
    );
    assert_eq!(bytes("trained/gold.safetensors"), bytes("target/model.safetensors"));
    // The key stands nowhere else.
    for entry in fs::read_dir(place.at("service")).unwrap().map(Result::unwrap) {
        let (bytes, digits) = (fs::read(entry.path()).unwrap(), bytes("service.key"));
        let found = bytes.windows(64).any(|window| window == &digits[..64]);
        assert_eq!(found, entry.file_name() == "answer.key", "{:?}", entry.file_name());
    }
    let prove = "prove --probes 20 --keys 19 --suspect target --protected";
    place.done("evaluate", &format!("{prove} trained --out proof"));

    let refused = |stage: &str, words: &str, expected: &str| {
        let message = place.refused(stage, &format!("{words} --out nothing"));
        assert!(message.contains(expected), "{message}");
        assert!(!place.at("nothing").exists());
    };
    for (set, expected) in [
        ("lambda=-1", "`defend.decoy.lambda` is -1"),
        ("random=1.5", "a share from 0 to 1"),
        ("after=13", "`defend.decoy.after` is 13"),
        ("after=0", "`defend.decoy.after` is 0"),
        ("top_k=40", "the catalogue holds 40 items"),
        ("lamda=1", "defend.decoy.lambda"),
    ] {
        // A key that protected nothing is not left behind.
        refused("defend", &format!("{protect} --key new.key --set defend.decoy.{set}"), expected);
        assert!(!place.at("new.key").exists(), "{set}");
    }
    // Longer than what the target reads.
    let far = "--set defend.decoy.length=60 --set defend.decoy.after=13";
    refused("defend", &format!("{protect} {far}"), "the target reads the latest 12 items");
    refused(
        "defend",
        "--config settings.yaml --target target --method decoy",
        "decoy needs the dataset; give it with --data",
    );
    refused(
        "evaluate",
        &format!("{prove} trained --key-file service.key"),
        "but the target was protected with",
    );
    // It answers without its key, and proves nothing.
    fs::remove_file(place.at("trained/answer.key")).unwrap();
    place.done("attack", "generate --config settings.yaml --target trained --out q");
    refused("evaluate", &format!("{prove} trained"), "answer.key: no such file");
}

/// Runs a stage in a shell that may have so many KiB of addresses.
fn limited(place: &Place, stage: &str, words: &str, kib: u64) -> Output {
    let script = format!("ulimit -v {kib}; exec {} {words} --threads 1", binary(stage).display());
    Command::new("sh").args(["-c", &script]).current_dir(place.0.path()).output().unwrap()
}

#[test]
fn what_cannot_fit_into_memory_is_refused_with_the_settings_to_lower() {
    let place = Place::new();
    let settings = "--config settings.yaml";
    place.done("attack", &format!("generate {settings} --target target --out queries"));
    let huge = "--set model.hidden=2048 --set model.max_len=2000 --set model.blocks=12";
    let train = format!("{settings} --data data --out t");
    let evaluate = format!("run {settings} --data data --target target --out e");
    let distill = format!("distill {settings} --queries queries --out s");
    let generate = format!("generate {settings} --target target --out q");
    // What fits under the limit works.
    let fits = limited(&place, "train", &format!("{settings} --data data --out fits"), 1_200_000);
    assert!(fits.status.success(), "{}", log_of(&fits));
    for (stage, words, expected) in [
        (
            "train",
            format!("{train} {huge}"),
            &["this needs about 19", "GiB of memory: 558 million parameters", "`ulimit -v`"][..],
        ),
        ("train", format!("{train} {huge}"), &["lower model.hidden, model.blocks, model.max_len"]),
        (
            "attack",
            format!("{distill} {huge}"),
            &["the surrogate, its optimizer and copies", "lower model.hidden"],
        ),
        (
            "attack",
            format!("{generate} --set generate.length=10000000 --set generate.batch=20"),
            &["lower generate.batch"],
        ),
        ("evaluate", format!("{evaluate} --set evaluate.bootstrap=100000000"), &["lower evaluate.bootstrap"]),
        (
            "train",
            format!("{train} --set model.max_len=100000000"),
            &["lower model.hidden, model.blocks, model.max_len"],
        ),
    ] {
        let output = limited(&place, stage, &words, 1_200_000);
        let log = log_of(&output);
        assert_eq!(output.status.code(), Some(2), "{words}: {log}");
        for part in expected {
            assert!(log.contains(part), "{words}: no `{part}` in {log}");
        }
    }
    for out in ["t", "e", "s", "q"] {
        assert!(!place.at(out).exists(), "{out}");
    }
}

#[test]
fn sizes_that_no_machine_has_are_refused() {
    let place = Place::new();
    let train = "--config settings.yaml --data data --out t --set";
    let evaluate = "run --config settings.yaml --data data --target target --out e --set";
    let defend = "--config settings.yaml --data data --target target --method gro --out p --set";
    let decoy = defend.replace("gro", "decoy");
    let generate = "generate --config settings.yaml --target target --out q --set";
    for (stage, words) in [
        ("evaluate", format!("{evaluate} evaluate.bootstrap=18446744073709551615")),
        ("evaluate", format!("{evaluate} evaluate.bootstrap=4294967295")),
        ("evaluate", format!("{evaluate} evaluate.batch=18446744073709551615")),
        ("evaluate", format!("{evaluate} evaluate.top_k=18446744073709551615")),
        ("evaluate", format!("{evaluate} evaluate.ks=[18446744073709551615]")),
        ("train", format!("{train} model.hidden=9223372036854775806")),
        ("train", format!("{train} model.hidden=4294967294")),
        ("train", format!("{train} model.blocks=4294967295")),
        ("train", format!("{train} model.max_len=4294967295")),
        ("train", format!("{train} model.max_len=18446744073709551615")),
        ("train", format!("{train} train.epochs=18446744073709551615")),
        ("train", format!("{train} train.batch=9223372036854775807")),
        ("defend", format!("{defend} defend.gro.epochs=18446744073709551615")),
        ("defend", format!("{defend} defend.gro.student_warmup_epochs=18446744073709551615")),
        ("defend", format!("{defend} defend.gro.positions_per_sequence=18446744073709551615")),
        ("defend", format!("{decoy} defend.decoy.thieves=4294967295")),
        ("defend", format!("{decoy} defend.decoy.histories=4294967295")),
        ("defend", format!("{decoy} defend.decoy.epochs=18446744073709551615")),
        ("attack", format!("{generate} generate.sequences=18446744073709551615")),
        ("attack", format!("{generate} generate.length=18446744073709551615")),
        ("attack", format!("{generate} generate.length=4294967295")),
        (
            "preprocess",
            "synth --users 4294967295 --items 4294967295 --interactions 12884901885 --out r".to_owned(),
        ),
    ] {
        place.refused(stage, &words);
    }
    // Large, and of no consequence: a batch is never larger than what there is to put into it.
    place.done("train", &format!("{train} train.batch=4294967295"));
    place.done("evaluate", &format!("{evaluate} evaluate.batch=4294967295"));
}

#[test]
fn the_estimate_of_memory_is_honest() {
    let place = Place::new();
    let synth = "synth --users 100 --items 300 --interactions 10000 --out more";
    place.done("preprocess", synth);
    place.done("preprocess", "run --input more --out many");
    for (architecture, sizes) in [
        ("sas", "model.hidden=512"),
        ("bert", "model.hidden=256"),
        ("narm", "model.hidden=128"),
        ("gru", "model.hidden=192"),
    ] {
        let mut command = Command::new(binary("train"));
        let words = format!(
            "--config settings.yaml --data many --out t --force --threads 1 --set model.architecture={architecture} \
             --set {sizes} --set model.blocks=2 --set model.max_len=100 --set train.batch=128 --set train.epochs=1"
        );
        command.args(words.split_whitespace()).current_dir(place.0.path()).env("RUST_LOG", "debug");
        let output = command.output().unwrap();
        let log = log_of(&output);
        assert!(output.status.success(), "{log}");
        let estimate =
            log.split_once("about ").and_then(|(_, rest)| rest.split_once(" MiB of memory is needed"));
        let estimate: f64 = estimate.unwrap_or_else(|| panic!("{log}")).0.parse().unwrap();
        let record = fs::read_to_string(place.at("t/run.log")).unwrap();
        let peak = record.lines().find_map(|line| line.strip_prefix("peak_memory_mib: ")).unwrap();
        let peak: f64 = peak.parse().unwrap();
        assert!(peak > 150.0, "{architecture}: {peak} MiB says little");
        assert!((0.5..2.0).contains(&(estimate / peak)), "{architecture}: {estimate} for {peak} MiB");
    }
}

#[test]
fn threads_far_above_the_cores_are_not_started() {
    let place = Place::new();
    let mut command = Command::new(binary("preprocess"));
    command.args(["run", "--threads", "100000", "--input", "ratings", "--out", "threads"]);
    let output = command.current_dir(place.0.path()).output().unwrap();
    let log = log_of(&output);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("--threads is 100000, far above the"), "{log}");
    let same = |file: &str| {
        fs::read(place.at("threads").join(file)).unwrap() == fs::read(place.at("data").join(file)).unwrap()
    };
    assert!(same("sequences.parquet"));
}

#[test]
fn a_target_has_one_policy_and_lists_as_long_as_it_gives() {
    let place = Place::new();
    let protect = "--config settings.yaml --target target --method";
    place.done("defend", &format!("{protect} reverse --out backwards"));
    // The later policy takes the place of the earlier, and says so.
    let over = "--config settings.yaml --target backwards --method short --set defend.short.longest=12";
    let log = place.done("defend", &format!("{over} --out short"));
    assert!(
        log.contains("backwards/model.safetensors answers by `reverse`, which gives way to `short`"),
        "{log}"
    );
    let log = place.done("defend", &format!("{protect} short --set defend.short.longest=12 --out alone"));
    assert!(!log.contains("gives way"), "{log}");
    let message = place.refused("attack", "generate --config settings.yaml --target short --out asked");
    let expected = "`generate.top_k` is 20, and short/model.safetensors answers with 12 items at most";
    assert!(message.contains(expected), "{message}");
    place
        .done("attack", "generate --config settings.yaml --set generate.top_k=12 --target short --out asked");
}
