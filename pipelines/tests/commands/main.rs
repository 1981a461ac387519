//! `gro` as a user or a Makefile runs it: arguments in; stdout, messages and an exit code out.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

// Names of a kind.
mod list;
// Hours and bytes before the work.
mod plan;
// The workflows' own lists, held to these.
mod pipelines;
// The settings in words, for whoever chains the stages.
mod settings;
// Strengths of defences, for the Makefile.
mod sweep;
mod verify;

use std::path::PathBuf;
use std::process::Command;

/// How a call of the binary ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

/// A directory of one test.
struct Directory {
    root: tempfile::TempDir,
}

impl Directory {
    fn new() -> Self {
        Self { root: tempfile::TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Run the binary inside it.
    fn gro(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gro"));
        let ended = command.args(arguments).current_dir(self.root.path()).output().unwrap();
        Ended {
            code: ended.status.code().unwrap(),
            out: String::from_utf8(ended.stdout).unwrap(),
            err: String::from_utf8(ended.stderr).unwrap(),
        }
    }
}

/// The names that `gro list` prints of a kind.
#[track_caller]
fn listed(kind: &str) -> Vec<String> {
    let ended = Directory::new().gro(&["list", kind]);
    assert_eq!((ended.code, &*ended.err), (0, ""), "{kind}");
    ended.out.lines().map(str::to_owned).collect()
}

#[test]
fn the_version_names_the_commit_that_is_checked_out() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let head = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root).output();
    let commit = match head {
        Ok(head) if root.join(".git").exists() && head.status.success() => {
            String::from_utf8(head.stdout).unwrap()[..10].to_owned()
        }
        _ => "unknown".to_owned(),
    };
    let ended = Directory::new().gro(&["--version"]);
    let expected = format!("gro {} (commit {commit}", env!("CARGO_PKG_VERSION"));
    assert!(ended.out.starts_with(&expected), "{}, not {expected}", ended.out);
}
