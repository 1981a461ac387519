//! Data and targets that all tests here ask, made once, and how the programs are run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use artifact::queries::{Query, QueryLog};

use crate::service::{Behaviour, Service};

/// Sizes of all models here, and a campaign of 24 accounts with 6 questions each.
pub(crate) const SETTINGS: &str = "
model: {hidden: 16, max_len: 6, architecture: sas}
train: {batch: 32, epochs: 2}
# A service knows a thief as one client by his key, files do not.
defend: {guard: {top_k: 10, client_alarms: 0, watermark: 0.2}}
generate: {sequences: 24, top_k: 10, batch: 8}
distill: {batch: 64, epochs: 2}
evaluate: {ks: [1, 10], top_k: 10, bootstrap: 100}
";
/// Questions of the campaign.
pub(crate) const QUESTIONS: usize = 24 * 6;

/// A binary of the workspace. Cargo puts test executables into a folder below the binaries.
fn binary(stage: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(format!("gro-{stage}"));
    assert!(path.exists(), "{} is not built; run `cargo test --workspace`", path.display());
    path
}

/// A directory with `settings.yaml`, `data`, `target` and `protected-guard`, never written to again.
pub(crate) fn scene() -> &'static Path {
    static SCENE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = SCENE.get_or_init(|| {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("settings.yaml"), SETTINGS).unwrap();
        let run = |stage: &str, arguments: &[&str]| {
            let output =
                Command::new(binary(stage)).args(arguments).current_dir(root.path()).output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
        };
        run(
            "preprocess",
            &["synth", "--users", "60", "--items", "60", "--interactions", "1400", "--out", "ratings"],
        );
        let settings = ["--config", "settings.yaml"];
        run("preprocess", &[&["run", "--input", "ratings", "--out", "data"], &settings[..]].concat());
        run("train", &[&["--data", "data", "--out", "target"], &settings[..]].concat());
        let guard = ["--data", "data", "--target", "target", "--method", "guard", "--out", "protected-guard"];
        run("defend", &[&guard[..], &settings[..]].concat());
        root
    });
    made.path()
}

/// A service of one of the targets.
pub(crate) fn serve(target: &str, behaviour: Behaviour) -> Service {
    Service::start(&scene().join(target), &scene().join("data"), behaviour)
}

/// What a program said.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A place to work in.
pub(crate) struct Place {
    root: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A program as it is.
    pub(crate) fn bare(&self, stage: &str) -> Command {
        let mut command = Command::new(binary(stage));
        command.current_dir(self.root.path());
        command
    }

    /// A stage with the settings of the scene.
    pub(crate) fn command(&self, stage: &str, arguments: &[&str]) -> Command {
        let mut command = self.bare(stage);
        command.args(arguments).arg("--config").arg(scene().join("settings.yaml")).args(["--threads", "1"]);
        // What the machine has set for itself is not to reach a service of the test.
        for name in [
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
        ] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn run(&self, stage: &str, arguments: &[&str]) -> Output {
        self.command(stage, arguments).output().unwrap()
    }

    /// Runs a stage that must succeed; what it said.
    #[track_caller]
    pub(crate) fn done(&self, stage: &str, arguments: &[&str]) -> String {
        let output = self.run(stage, arguments);
        assert!(output.status.success(), "gro-{stage} {arguments:?}: {}", said(&output));
        said(&output)
    }

    /// Asks a target.
    pub(crate) fn generate(&self, target: &str, out: &str, more: &[&str]) -> Output {
        self.run("attack", &[&["generate", "--target", target, "--out", out], more].concat())
    }

    /// Asks a target that must answer all; what was said.
    #[track_caller]
    pub(crate) fn asked(&self, target: &str, out: &str, more: &[&str]) -> String {
        let output = self.generate(target, out, more);
        assert!(output.status.success(), "{target} {more:?}: {}", said(&output));
        said(&output)
    }

    /// Asks a target that must not be asked: exit code 2 and one line.
    #[track_caller]
    pub(crate) fn refused(&self, target: &str, more: &[&str]) -> String {
        let output = self.generate(target, "refused", &[more, &["--quiet"]].concat());
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{target} {more:?}: {text}");
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && text.trim_end().ends_with(errors[0]), "{text}");
        assert!(!self.path("refused").exists());
        text
    }

    /// The bytes of a log.
    pub(crate) fn log(&self, out: &str) -> Vec<u8> {
        std::fs::read(self.path(out).join("queries.parquet")).unwrap()
    }

    /// The questions of a log.
    pub(crate) fn queries(&self, out: &str) -> Vec<Query> {
        let log = QueryLog::open(&self.path(out).join("queries.parquet")).unwrap();
        (0..log.groups()).flat_map(|group| log.read_group(group).unwrap()).collect()
    }
}
