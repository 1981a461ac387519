//! Work that is cut off, taken up again, and held against work that was not: killed at any moment, asked to end by a signal,
//! out of disk, sent where it may not write. Whatever happens, the output is there whole or not at all, and `--resume` ends
//! in the same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should say where")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const SETTINGS: &str = "
model: {hidden: 16, max_len: 20, architecture: sas}
optimizer: {learning_rate: 0.01}
train: {batch: 8, epochs: 8, max_predictions: 4}
defend: {batch: 8, epochs: 4, top_k: 20, lambda: 0.1, student_warmup_epochs: 1, decoy: {batch: 8, epochs: 2, top_k: 20, histories: 60}}
generate: {sequences: 400, top_k: 60, batch: 16}
distill: {batch: 32, epochs: 4}
";

/// Moments at which each stage is killed.
const KILLS: usize = 20;

/// A binary of the workspace. Cargo puts test executables into a folder below the binaries.
fn binary(stage: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(format!("gro-{stage}"));
    assert!(path.exists(), "{} is not built; run `cargo test --workspace`", path.display());
    path
}

/// Long work of a stage, and everything it needs.
#[derive(Clone, Copy)]
struct Work {
    stage: &'static str,
    arguments: &'static [&'static str],
    /// Whether it says how often its state is saved.
    trains: bool,
}

const WORKS: [Work; 6] = [
    Work { stage: "train", arguments: &["--data", "../inputs/data"], trains: true },
    Work {
        stage: "defend",
        arguments: &["--data", "../inputs/data", "--target", "../inputs/train", "--method", "gro"],
        trains: true,
    },
    Work { stage: "attack", arguments: &["generate", "--target", "../inputs/defend"], trains: false },
    Work { stage: "attack", arguments: &["distill", "--queries", "../inputs/generate"], trains: true },
    // Asks, and trains copies in between.
    Work {
        stage: "attack",
        arguments: &[
            "generate",
            "--target",
            "../inputs/defend",
            "--set",
            ROUNDS,
            "--set",
            "generate.sequences=60",
        ],
        trains: false,
    },
    Work {
        stage: "defend",
        arguments: &["--data", "../inputs/data", "--target", "../inputs/train", "--method", "decoy"],
        trains: true,
    },
];

const ROUNDS: &str = "generate.strategy=rounds";

impl Work {
    fn name(&self) -> &'static str {
        match self.arguments {
            arguments if arguments.contains(&ROUNDS) => "rounds",
            arguments if arguments.contains(&"decoy") => "decoy",
            [command, ..] if self.stage == "attack" => command,
            _ => self.stage,
        }
    }

    /// The command in `directory`, to make the output of its name there.
    fn command(&self, directory: &Path, more: &[&str]) -> Command {
        let mut command = Command::new(binary(self.stage));
        command.args(self.arguments).args(["--out", self.name(), "--config", "../settings.yaml", "--quiet"]);
        command.args(more).args(["--threads", "1"]).current_dir(directory);
        command
    }

    /// The command that goes on, and saves at every step where that can be said.
    fn resumed(&self, directory: &Path) -> Command {
        let every: &[&str] = if self.trains { &["--resume", "--save-every", "0"] } else { &["--resume"] };
        self.command(directory, every)
    }

    fn directory(&self, directory: &Path) -> PathBuf {
        directory.join(self.name())
    }

    fn state(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.state", self.name()))
    }

    /// Whether its steps have begun, as far as can be seen from outside: there is a history, or a journal.
    fn is_under_way(&self, directory: &Path) -> bool {
        if !self.trains {
            return self.state_file(directory).exists();
        }
        names(directory).iter().any(|name| directory.join(name).join("history.csv").exists())
    }

    /// The file that holds the state.
    fn state_file(&self, directory: &Path) -> PathBuf {
        self.state(directory).join(if self.trains { "state.safetensors" } else { "answers.journal" })
    }
}

/// Every work done without an interruption, and how long each took.
struct Whole {
    root: tempfile::TempDir,
    seconds: BTreeMap<&'static str, Duration>,
}

impl Whole {
    /// A directory beside the whole one, so that the same relative paths lead to the inputs.
    fn beside(&self, name: &str) -> PathBuf {
        let directory = self.root.path().join(name);
        fs::create_dir(&directory).unwrap();
        directory
    }

    fn files(&self, work: &Work) -> BTreeMap<String, Vec<u8>> {
        files(&work.directory(&self.root.path().join("whole")))
    }
}

fn whole() -> &'static Whole {
    static WHOLE: OnceLock<Whole> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("settings.yaml"), SETTINGS).unwrap();
        let [inputs, directory] = ["inputs", "whole"].map(|name| root.path().join(name));
        for directory in [&inputs, &directory] {
            fs::create_dir(directory).unwrap();
        }
        let synth =
            ["synth", "--users", "120", "--items", "80", "--interactions", "4000", "--out", "ratings"];
        let run = ["run", "--input", "ratings", "--out", "data"];
        for arguments in [&synth[..], &run[..]] {
            let output =
                Command::new(binary("preprocess")).args(arguments).current_dir(&inputs).output().unwrap();
            assert!(output.status.success(), "{}", text(&output));
        }
        let mut seconds = BTreeMap::new();
        for work in WORKS {
            let begun = Instant::now();
            let output = work.command(&directory, &[]).output().unwrap();
            assert!(output.status.success(), "{}", text(&output));
            seconds.insert(work.name(), begun.elapsed());
            // What the next one reads.
            copy(&work.directory(&directory), &work.directory(&inputs));
        }
        Whole { root, seconds }
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The declared files of an output.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| !matches!(&**name, "run.log" | "speed.csv") && !name.starts_with("events."))
        .collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn assert_whole(work: &Work, directory: &Path) {
    let (expected, found) = (whole().files(work), files(&work.directory(directory)));
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{}", work.name());
    for (name, bytes) in &expected {
        assert!(found[name] == *bytes, "{} of {} is not that of a run never interrupted", name, work.name());
    }
}

/// Ends in success, with the bytes of the whole run and nothing beside them.
#[track_caller]
fn finishes(work: &Work, directory: &Path) {
    let output = work.resumed(directory).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_whole(work, directory);
    assert_eq!(names(directory), [work.name()], "nothing is left of what was interrupted");
}

/// A generator of moments (Steele's SplitMix64), the same every time.
struct Moments(u64);

impl Moments {
    fn below(&mut self, longest: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        longest.mul_f64((z >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// True if the process ended by itself within `time`.
fn ended_within(child: &mut Child, time: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < time {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// Killed again and again on the way to its end, and, having reached it, sent on its way once more.
fn survives_kills(work: Work) {
    let directory = whole().beside(&format!("killed-{}", work.name()));
    let (mut moments, longest) =
        (Moments(work.name().len() as u64), whole().seconds[work.name()].mul_f64(0.6));
    let (mut kills, mut with_state) = (0, 0);
    while kills < KILLS {
        let mut child = work.resumed(&directory).stderr(Stdio::null()).spawn().unwrap();
        if ended_within(&mut child, moments.below(longest)) {
            assert!(child.wait().unwrap().success());
            assert_whole(&work, &directory);
            fs::remove_dir_all(work.directory(&directory)).unwrap();
            continue;
        }
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            // It was done the moment before.
            fs::remove_dir_all(work.directory(&directory)).unwrap();
            continue;
        }
        kills += 1;
        with_state += usize::from(work.state_file(&directory).exists());
        if work.directory(&directory).exists() {
            // Between the output's arrival and the end of the process.
            assert_whole(&work, &directory);
            fs::remove_dir_all(work.directory(&directory)).unwrap();
        }
    }
    assert!(with_state > KILLS / 4, "only {with_state} of {KILLS} kills met a run with a saved state");
    finishes(&work, &directory);
}

#[test]
fn training_survives_kills() {
    survives_kills(WORKS[0]);
}

#[test]
fn defending_survives_kills() {
    survives_kills(WORKS[1]);
}

#[test]
fn generation_survives_kills() {
    survives_kills(WORKS[2]);
}

#[test]
fn distillation_survives_kills() {
    survives_kills(WORKS[3]);
}

#[test]
fn asking_in_rounds_survives_kills() {
    survives_kills(WORKS[4]);
}

#[test]
fn learning_decoys_survives_kills() {
    survives_kills(WORKS[5]);
}

/// What one strategy was answered is no other's to go on from.
#[test]
fn a_journal_of_one_strategy_is_refused_to_another() {
    let directory = cut_off(&WORKS[2], "strategy");
    let file = WORKS[2].state_file(&directory);
    let bytes = fs::read(&file).unwrap();
    let output =
        WORKS[2].command(&directory, &["--resume", "--set", "generate.strategy=mimic"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("begun by a run with other settings"), "{}", text(&output));
    assert!(fs::read(&file).unwrap() == bytes, "a refused state stays as it is");
}

/// Sends a signal once the work is under way, and returns how it ended.
fn signalled(work: &Work, directory: &Path, signal: &str) -> Output {
    // Saved at no step but the one that the signal meets.
    let every: &[&str] = if work.trains { &["--resume", "--save-every", "3600"] } else { &["--resume"] };
    let mut later = whole().seconds[work.name()].mul_f64(0.3);
    let mut tries = 0;
    loop {
        tries += 1;
        let mut child = work.command(directory, every).stderr(Stdio::piped()).spawn().unwrap();
        let mut ended = false;
        while !ended && !work.is_under_way(directory) {
            ended = ended_within(&mut child, Duration::from_millis(2));
        }
        if !ended_within(&mut child, later) {
            let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
            assert!(sent.success());
        }
        let output = child.wait_with_output().unwrap();
        // Where the signal met no step but what comes after the last one, the run stops at once and says nothing at all.
        if !work.directory(directory).exists() && (!text(&output).is_empty() || tries == 10) {
            return output;
        }
        // In both cases it was faster than the run it is compared with.
        fs::remove_dir_all(directory).unwrap();
        fs::create_dir(directory).unwrap();
        later = later.mul_f64(0.5);
    }
}

#[test]
fn a_signal_saves_the_state_and_ends_the_run() {
    for work in WORKS {
        for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
            let directory = whole().beside(&format!("signalled-{}{signal}", work.name()));
            let output = signalled(&work, &directory, signal);
            assert_eq!(output.status.code(), Some(code), "{}", text(&output));
            assert_eq!(names(&directory), [format!("{}.state", work.name())], "{}", text(&output));
            assert!(text(&output).contains("--resume goes on from there"), "{}", text(&output));
            finishes(&work, &directory);
        }
    }
}

/// A key that was made for a run is its own, and the run goes on with it.
#[test]
fn a_key_that_was_made_is_kept_for_the_run_that_goes_on() {
    let (work, directory) = (WORKS[5], whole().beside("keyed"));
    let more = ["--key", "new.key", "--set", "defend.decoy.epochs=10", "--resume"];
    let mut child = work.command(&directory, &more).stderr(Stdio::null()).spawn().unwrap();
    while !work.is_under_way(&directory) {
        assert!(!ended_within(&mut child, Duration::from_millis(2)), "it ended before it had begun");
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(names(&directory), ["decoy.state", "new.key"]);
    let output = work.command(&directory, &more).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let key = |path: &Path| fs::read(path).unwrap();
    assert_eq!(key(&directory.join("new.key")), key(&work.directory(&directory).join("answer.key")));
}

/// A run cut off by a signal, in a directory of its own.
fn cut_off(work: &Work, name: &str) -> PathBuf {
    let directory = whole().beside(&format!("{name}-{}", work.name()));
    signalled(work, &directory, "-TERM");
    assert!(work.state_file(&directory).exists());
    directory
}

#[test]
fn the_half_of_a_state_does_not_matter() {
    for work in WORKS {
        let directory = cut_off(&work, "half");
        let file = work.state_file(&directory);
        let bytes = fs::read(&file).unwrap();
        if work.trains {
            // Killed while the state was written beside the one before.
            fs::write(file.with_extension("safetensors.partial"), &bytes[..bytes.len() / 2]).unwrap();
        } else {
            // Killed, or out of disk, within a record.
            fs::write(&file, &bytes[..bytes.len() - 5]).unwrap();
        }
        finishes(&work, &directory);
    }
}

#[test]
fn a_damaged_or_foreign_state_never_becomes_a_result() {
    for work in WORKS {
        let directory = cut_off(&work, "damaged");
        let file = work.state_file(&directory);
        let bytes = fs::read(&file).unwrap();

        // Of other settings.
        let output = work.command(&directory, &["--resume", "--seed", "7"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(
            text(&output).contains(name) && text(&output).contains("without --resume"),
            "{}",
            text(&output)
        );
        assert!(fs::read(&file).unwrap() == bytes, "a refused state stays as it is");

        // A flipped bit in the last number of a state; in a journal, which knows every answer by its checksum, in the
        // middle: what follows is asked again.
        let mut flipped = bytes.clone();
        let place = if work.trains { bytes.len() - 1 } else { bytes.len() / 2 };
        flipped[place] ^= 1;
        fs::write(&file, &flipped).unwrap();
        if work.trains {
            for damaged in [&flipped[..], &bytes[..bytes.len() / 2]] {
                fs::write(&file, damaged).unwrap();
                let output = work.resumed(&directory).output().unwrap();
                assert_eq!(output.status.code(), Some(2), "{}", text(&output));
                assert!(
                    text(&output).contains(name) && text(&output).contains("damaged"),
                    "{}",
                    text(&output)
                );
            }
            fs::write(&file, &bytes).unwrap();
        }
        finishes(&work, &directory);
    }
}

/// True where this test may mount what it likes where nobody else sees it.
fn may_mount() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]);
    unshare.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The work in a file system of its own, mounted over its directory by `mount`; then `after` in the same one, whose standard
/// output is returned.
fn mounted(work: &Work, directory: &Path, mount: &str, after: &str) -> Output {
    let inner = work.resumed(directory);
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    unshare.arg(format!("{mount} && cd \"$PWD\" && {{ \"$@\"; code=$?; {after}; exit $code; }}"));
    unshare.arg("sh").arg(inner.get_program()).args(inner.get_args());
    unshare.current_dir(directory).output().unwrap()
}

#[test]
fn a_full_disk_costs_the_run_and_nothing_else() {
    for work in WORKS {
        // A limit on the size of a file meets the state first, wherever there is a shell.
        let directory = whole().beside(&format!("limited-{}", work.name()));
        let inner = work.resumed(&directory);
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh"]);
        shell.arg(inner.get_program()).args(inner.get_args()).current_dir(&directory);
        let output = shell.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(&format!("{}.state", work.name())), "{}", text(&output));
        assert!(
            !work.directory(&directory).exists() && names(&directory).len() <= 1,
            "{:?}",
            names(&directory)
        );
        finishes(&work, &directory);
    }
    if !may_mount() {
        eprintln!("no mount namespaces here: not tested on a full tmpfs");
        return;
    }
    for work in WORKS {
        let directory = whole().beside(&format!("full-{}", work.name()));
        let mount = format!("mount -t tmpfs -o size={} tmpfs .", if work.trains { "48k" } else { "24k" });
        let output = mounted(&work, &directory, &mount, "ls");
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("No space left"), "{}", text(&output));
        let left = String::from_utf8(output.stdout).unwrap();
        assert!(left.lines().all(|name| name == format!("{}.state", work.name())), "{left}");
    }
}

#[test]
fn where_nothing_can_be_written_nothing_is_done() {
    if !may_mount() {
        eprintln!("no mount namespaces here: not tested on a read-only file system");
        return;
    }
    for work in WORKS {
        let directory = whole().beside(&format!("read-only-{}", work.name()));
        let begun = Instant::now();
        let output = mounted(&work, &directory, "mount -t tmpfs -o ro tmpfs .", "ls");
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains("Read-only file system"), "{}", text(&output));
        assert!(output.stdout.is_empty());
        // Said before the work, not after it.
        assert!(
            begun.elapsed() < whole().seconds[work.name()].max(Duration::from_secs(1)),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn what_a_killed_run_left_goes_and_what_a_living_one_fills_is_left_to_it() {
    let work = WORKS[0];
    let directory = whole().beside("left");
    let partial = |name: &str| directory.join(format!(".{}.partial-{name}", work.name()));
    for name in ["dead", "alive"] {
        fs::create_dir(partial(name)).unwrap();
    }
    let alive = File::open(partial("alive")).unwrap();
    alive.lock().unwrap();
    let output = work.resumed(&directory).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("another run is writing"), "{}", text(&output));
    drop(alive);
    let output = work.resumed(&directory).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(names(&directory), ["train"]);
}

const SPACE: &str = "optimizer.learning_rate: {log: [0.001, 0.03]}\nmodel.hidden: [8, 16]\n";

/// A search for settings, in a directory beside the inputs.
fn search(directory: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(binary("train"));
    command.args([
        "tune",
        "--data",
        "../inputs/data",
        "--space",
        "../space.yaml",
        "--rounds",
        "1",
        "--out",
        "tuned",
    ]);
    command
        .args(["--config", "../settings.yaml", "--threads", "1", "--quiet"])
        .args(more)
        .current_dir(directory);
    command
}

/// Killed in the midst of trainings, and between them, it ends in the bytes of one that was not, and has trained nothing twice that it had
/// finished.
#[test]
fn a_search_for_settings_goes_on_where_it_was() {
    let whole = whole();
    fs::write(whole.root.path().join("space.yaml"), SPACE).unwrap();
    let directory = whole.beside("tune");
    let output = search(&directory, &[]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let expected = files(&directory.join("tuned"));
    assert_eq!(
        expected.keys().collect::<Vec<_>>(),
        ["best.yaml", "settings.yaml", "stage.lock", "tried.csv", "tried.md"]
    );
    let tried = String::from_utf8(expected["tried.csv"].clone()).unwrap();
    // Nine for an epoch of eight, three for three, one for all.
    let epochs: Vec<&str> = tried.lines().skip(1).map(|line| line.split(',').nth(2).unwrap()).collect();
    assert_eq!(epochs, [["1"; 9].to_vec(), ["3"; 3].to_vec(), vec!["8"]].concat(), "{tried}");
    let score = |line: &str| line.rsplit(',').next().unwrap().parse::<f64>().unwrap();
    let of_first: Vec<f64> = tried.lines().skip(1).take(9).map(score).collect();
    let drawn = |line: &str| line.split(',').nth(1).unwrap().parse::<usize>().unwrap();
    let mut going_on: Vec<f64> =
        tried.lines().skip(10).take(3).map(|line| of_first[drawn(line) - 1]).collect();
    let mut best = of_first.clone();
    for scores in [&mut going_on, &mut best] {
        scores.sort_by(|left, right| right.total_cmp(left));
    }
    assert_eq!(going_on, best[..3], "the best third goes on");
    // What it found is a layer, and trains to the score that it promises.
    let mut train = Command::new(binary("train"));
    train.args([
        "--data",
        "../inputs/data",
        "--out",
        "best",
        "--config",
        "../settings.yaml",
        "--config",
        "tuned/best.yaml",
    ]);
    let output = train.args(["--threads", "1", "--quiet"]).current_dir(&directory).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let history = fs::read_to_string(directory.join("best/history.csv")).unwrap();
    let place = history.lines().next().unwrap().split(',').position(|name| name == "ndcg@10").unwrap();
    let highest = history.lines().skip(1).filter_map(|line| line.split(',').nth(place)?.parse().ok());
    assert_eq!(highest.fold(f64::MIN, f64::max), score(tried.lines().last().unwrap()), "{history}");

    let cut = whole.beside("tune-killed");
    let kept = cut.join("tuned.state/tried.jsonl");
    let lines = || fs::read_to_string(&kept).map_or(0, |text| text.lines().count());
    for (trainings, resume) in [(2, &[][..]), (6, &["--resume"]), (11, &["--resume"])] {
        let more = [resume, &["--save-every", "0"]].concat();
        let mut child = search(&cut, &more).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        while lines() < trainings && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it had not ended");
        assert!(!cut.join("tuned").exists() && lines() >= trainings);
    }
    let before = fs::read_to_string(&kept).unwrap();
    let output = search(&cut, &["--resume"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let found = files(&cut.join("tuned"));
    for (name, bytes) in &expected {
        assert!(found[name] == *bytes, "{name} is not that of a search never interrupted");
    }
    assert!(before.lines().count() >= 11 && names(&cut) == ["tuned"]);

    // Of other settings, what was kept is refused.
    fs::create_dir(cut.join("tuned.state")).unwrap();
    fs::write(&kept, before).unwrap();
    let output = search(&cut, &["--resume", "--seed", "2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("tried.jsonl is of other settings"), "{}", text(&output));
}
