//! A binary as its caller sees it: exit codes, streams, signals. The test is its own stage binary: started with a
//! variable set in its environment it is the stage, without it the caller. Hence no test harness, whose own command line
//! would be in the way.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it did"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use stage::{Build, Flags, Interruption, Plan, settings};
use tempfile::TempDir;

/// A test, given a directory with the input in it.
type Case = fn(&Path);

/// Set in the environment of the child.
const CHILD: &str = "STAGE_TEST_CHILD";

/// The commit that the child says it was built from, if it is to be another.
const COMMIT: &str = "STAGE_TEST_COMMIT";

/// A stage that writes one file
#[derive(Parser)]
#[command(name = "gro-test")]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[arg(long)]
    input: PathBuf,
    #[arg(long)]
    out: PathBuf,
    /// What to do: write, fail, bar, wait, step, hang
    #[arg(long, default_value = "write")]
    act: String,
}

#[expect(clippy::needless_pass_by_value, reason = "as `stage::main` asks for it")]
fn run(cli: Cli) -> anyhow::Result<()> {
    let settings = settings::load(&cli.flags)?;
    let plan = Plan::new("gro-test", &cli.out, &cli.flags, &settings, &["train"]).input(&cli.input);
    plan.produce(|out| {
        fs::write(out.join("threads"), rayon::current_num_threads().to_string())?;
        tracing::info!("working");
        match cli.act.as_str() {
            "fail" => Err(anyhow::anyhow!("the disk is on fire")).context("cannot do it"),
            "bar" => {
                let bar = stage::progress::bar(7, "epoch 1", cli.flags.quiet);
                bar.inc(3);
                // Progress is looked at twice a second.
                std::thread::sleep(Duration::from_millis(1500));
                bar.finish_and_clear();
                Ok(())
            }
            "wait" => {
                fs::write(cli.out.with_extension("waits"), "")?;
                std::thread::sleep(Duration::from_secs(60));
                Ok(())
            }
            // Steps after each of which it may be interrupted; or one that does not end.
            act @ ("step" | "hang") => {
                let interruption = Interruption::watch();
                fs::write(cli.out.with_extension("waits"), "")?;
                while act == "hang" || !interruption.requested() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                anyhow::bail!("interrupted between two steps")
            }
            _ => Ok(()),
        }
    })?;
    Ok(())
}

/// Start the stage in `directory`.
fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.current_dir(directory).env(CHILD, "1").env_remove("RUST_LOG").args(arguments);
    command
}

/// Exit code, stdout, stderr.
fn call(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(directory, arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn main() -> ExitCode {
    if std::env::var_os(CHILD).is_some() {
        let commit = std::env::var(COMMIT).unwrap_or_else(|_| "0123456789".to_owned());
        let build = Build::new(commit.leak()).with_cuda(false);
        return stage::main(build, |cli: &Cli| Some(cli.flags.clone()), run);
    }
    let cases: [(&str, Case); 10] = [
        ("codes_say_what_happened", codes_say_what_happened),
        ("stdout_is_for_data", stdout_is_for_data),
        ("threads_are_as_asked", threads_are_as_asked),
        ("the_log_can_be_read_by_machines", the_log_can_be_read_by_machines),
        ("progress_can_be_read_by_machines", progress_can_be_read_by_machines),
        ("help_and_completions_teach", help_and_completions_teach),
        ("pages_say_what_help_says", pages_say_what_help_says),
        ("a_version_names_its_commit_and_a_lock_does_not", a_version_names_its_commit_and_a_lock_does_not),
        ("a_signal_leaves_nothing_half_written", a_signal_leaves_nothing_half_written),
        ("a_signal_waits_for_the_step_to_end", a_signal_waits_for_the_step_to_end),
    ];
    for (name, case) in cases {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("in"), "input").unwrap();
        case(directory.path());
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

const WRITE: [&str; 4] = ["--input", "in", "--out", "out"];

fn with(more: &[&'static str]) -> Vec<&'static str> {
    WRITE.iter().chain(more).copied().collect()
}

fn codes_say_what_happened(directory: &Path) {
    assert_eq!(call(directory, &with(&["--act", "fail"])).0, 1);
    assert_eq!(call(directory, &WRITE).0, 0);
    let (code, _, stderr) = call(directory, &WRITE);
    assert!(code == 0 && stderr.contains("out is up to date"), "{stderr}");

    let (_, _, stderr) = call(directory, &with(&["--act", "fail", "--force", "--quiet"]));
    assert_eq!(stderr, "error: cannot do it: the disk is on fire\n");

    for (arguments, expected) in [
        (vec!["--out", "out"], "--input"),
        (with(&["--device", "tpu"]), "expected auto, cpu, cuda or cuda:N"),
        (with(&["--threads", "0"]), "--threads"),
        (with(&["--set", "train.epoch=3"]), "did you mean `train.epochs`?"),
        (with(&["--config", "none.yaml"]), "none.yaml"),
        (vec!["--input", "none", "--out", "out"], "none does not exist"),
        (vec!["completions", "tcl"], "tcl"),
        (vec!["completions"], "expected a shell"),
    ] {
        let (code, stdout, stderr) = call(directory, &arguments);
        assert!(
            code == 2 && stdout.is_empty() && stderr.contains(expected),
            "{arguments:?}: {code}, {stderr}"
        );
        assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
    }
}

fn stdout_is_for_data(directory: &Path) {
    let (code, stdout, stderr) = call(directory, &WRITE);
    assert!(code == 0 && stdout.is_empty() && stderr.contains("working"), "{stderr}");
    let (code, stdout, stderr) = call(directory, &with(&["--force", "--quiet"]));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", ""));
}

fn threads_are_as_asked(directory: &Path) {
    for threads in ["1", "3"] {
        let arguments: Vec<&str> = WRITE.iter().copied().chain(["--force", "--threads", threads]).collect();
        assert_eq!(call(directory, &arguments).0, 0);
        assert_eq!(fs::read_to_string(directory.join("out/threads")).unwrap(), threads);
    }
}

fn the_log_can_be_read_by_machines(directory: &Path) {
    let (code, _, stderr) = call(directory, &with(&["--json-log", "--act", "fail"]));
    assert_eq!(code, 1);
    let lines: Vec<&str> = stderr.lines().collect();
    for line in &lines {
        assert!(line.starts_with('{') && line.ends_with('}') && line.contains("\"timestamp\":"), "{line}");
    }
    assert!(
        lines[0].contains("\"level\":\"INFO\"") && lines[0].contains("\"message\":\"working\""),
        "{stderr}"
    );
    let last = lines[lines.len() - 1];
    assert!(
        last.contains("\"level\":\"ERROR\"") && last.contains("cannot do it: the disk is on fire"),
        "{last}"
    );
}

fn progress_can_be_read_by_machines(directory: &Path) {
    let (code, _, stderr) = call(directory, &with(&["--json-log", "--json-progress", "--act", "bar"]));
    assert_eq!(code, 0, "{stderr}");
    for position in [0, 3] {
        let expected = format!("\"message\":\"epoch 1\",\"position\":{position},\"total\":7");
        assert!(stderr.lines().any(|line| line.contains(&expected)), "{stderr}");
    }
    let (_, _, stderr) = call(directory, &with(&["--json-log", "--force", "--act", "bar"]));
    assert!(!stderr.contains("position"), "{stderr}");
    let (code, _, stderr) = call(directory, &with(&["--json-progress"]));
    assert!(code == 2 && stderr.contains("--json-log"), "{stderr}");
}

fn help_and_completions_teach(directory: &Path) {
    let (code, stdout, _) = call(directory, &["--help"]);
    assert_eq!(code, 0);
    for expected in
        ["A stage that writes one file", "--set train.epochs=20", "Flags of every stage", "completions"]
    {
        assert!(stdout.contains(expected), "{expected}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let (code, stdout, _) = call(directory, &["completions", shell]);
        assert!(code == 0 && stdout.contains("gro-test") && stdout.contains("json-log"), "{shell}");
    }
}

fn pages_say_what_help_says(directory: &Path) {
    let (code, stdout, stderr) = call(directory, &["man", "a/pages"]);
    assert_eq!((code, &*stdout, &*stderr), (0, "", ""));
    let page = fs::read_to_string(directory.join("a/pages/gro-test.1")).unwrap();
    for expected in [".TH gro-test 1", "A stage that writes one file", r"\-\-json\-log"] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    // The same pages from every commit.
    assert!(!page.contains("0123456789"), "{page}");
    for arguments in [&["man"][..], &["man", "a", "b"], &["man", "--help"]] {
        let (code, _, stderr) = call(directory, arguments);
        assert!(code == 2 && stderr.contains("expected the directory"), "{arguments:?}: {stderr}");
    }
    let (code, _, stderr) = call(directory, &["man", "in"]);
    assert!(code == 1 && stderr.contains("cannot write manual pages to in"), "{stderr}");
}

fn a_version_names_its_commit_and_a_lock_does_not(directory: &Path) {
    let version = env!("CARGO_PKG_VERSION");
    for flag in ["--version", "-V"] {
        let (code, stdout, _) = call(directory, &[flag]);
        assert_eq!(code, 0);
        assert_eq!(stdout, format!("gro-test {version} (commit 0123456789, without cuda)\n"));
    }
    assert_eq!(call(directory, &WRITE).0, 0);
    let lock = fs::read_to_string(directory.join("out/stage.lock")).unwrap();
    assert!(lock.contains(version) && !lock.contains("0123456789"), "{lock}");
    let other = command(directory, &WRITE).env(COMMIT, "9876543210-dirty").output().unwrap();
    let stderr = String::from_utf8(other.stderr).unwrap();
    assert!(stderr.contains("up to date"), "{stderr}");
}

/// The stage doing `act`, as soon as it says so.
fn busy(directory: &Path, act: &'static str) -> Child {
    let mut child = command(directory, &with(&["--act", act, "--seed", "2", "--quiet"]))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !directory.join("out.waits").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the stage ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::remove_file(directory.join("out.waits")).unwrap();
    child
}

fn send(signal: &str, child: &Child) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Exit code and stderr.
fn end(child: Child) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn a_signal_leaves_nothing_half_written(directory: &Path) {
    assert_eq!(call(directory, &WRITE).0, 0);
    let before = fs::read_to_string(directory.join("out/stage.lock")).unwrap();
    let child = busy(directory, "wait");
    send("-TERM", &child);
    // 128 + SIGTERM.
    assert_eq!(end(child).0, Some(143));
    assert_eq!(fs::read_to_string(directory.join("out/stage.lock")).unwrap(), before);
    assert_eq!(names(directory), ["in", "out"]);
}

fn a_signal_waits_for_the_step_to_end(directory: &Path) {
    let child = busy(directory, "step");
    send("-INT", &child);
    let (code, stderr) = end(child);
    assert_eq!(code, Some(130));
    assert!(stderr.ends_with("error: interrupted between two steps\n"), "{stderr}");
    assert_eq!(names(directory), ["in"]);

    // Whoever insists need not wait.
    let mut child = busy(directory, "hang");
    send("-INT", &child);
    std::thread::sleep(Duration::from_millis(200));
    assert!(child.try_wait().unwrap().is_none(), "the first signal did not wait");
    send("-TERM", &child);
    assert_eq!(end(child).0, Some(143));
    assert_eq!(names(directory), ["in"]);
}
