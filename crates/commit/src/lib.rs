//! The commit that a binary was built from, for `--version` alone.
//!
//! A macro and no build script: what a build script of a crate says is an input of all that the crate and its dependents compile, so
//! that each commit would compile every stage again. A macro in `main.rs` concerns these few lines and the link, a second or two. It names the
//! files in which git keeps the present commit as inputs of that compilation, as `include_bytes!` does; whether files were changed since is
//! asked whenever a binary is compiled anew, as it is after a change of its code.

use std::path::{Path, PathBuf};
use std::process::Command;

use proc_macro::TokenStream;

/// Where there is no repository, as in an unpacked archive, or no git.
const UNKNOWN: &str = "unknown";

/// Digits of a commit. git's own choice grows with the repository, and the same commit is to give the same bytes.
const DIGITS: usize = 10;

/// A `&'static str`: the first ten digits of the commit, with `-dirty` where files that git knows were changed since; `unknown` outside
/// a repository. To be used in a package that lies in a folder of the workspace's root.
#[proc_macro]
pub fn commit(_: TokenStream) -> TokenStream {
    let found = std::env::var_os("CARGO_MANIFEST_DIR").and_then(|package| at(Path::new(&package).parent()?));
    expression(&found.unwrap_or_else(Found::nothing)).parse().unwrap_or_default()
}

/// What git says, and the files that change with it.
#[derive(Debug, PartialEq)]
struct Found {
    commit: String,
    files: Vec<PathBuf>,
}

impl Found {
    fn nothing() -> Self {
        Self { commit: UNKNOWN.to_owned(), files: Vec::new() }
    }
}

/// The commit of the repository whose root is `root`. A repository further up is another one, into which this was unpacked.
fn at(root: &Path) -> Option<Found> {
    if !root.join(".git").exists() {
        return None;
    }
    let abbreviation = format!("--abbrev={DIGITS}");
    let commit = git(root, &["describe", "--always", "--dirty", "--exclude=*", &abbreviation])?;
    // Of a worktree, HEAD lies in a directory of its own and the branches in that of the repository.
    let branch = git(root, &["symbolic-ref", "--quiet", "HEAD"]);
    let names = ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref());
    let files = names.filter_map(|name| {
        let path = root.join(git(root, &["rev-parse", "--git-path", name])?);
        path.canonicalize().ok().filter(|path| path.is_file())
    });
    Some(Found { commit, files: files.collect() })
}

/// What a command of git prints, without the end of line; nothing where it fails.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    // Without locks it leaves the index as it is, also beside another git.
    let output =
        Command::new("git").arg("--no-optional-locks").arg("-C").arg(root).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim_end();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}

/// The commit as an expression that makes the compiler look at the files again. Their bytes become part of nothing.
fn expression(found: &Found) -> String {
    let watched = found.files.iter().filter_map(|path| path.to_str());
    let items: Vec<String> =
        watched.map(|path| format!("const _: &[u8] = include_bytes!({path:?});")).collect();
    format!("{{ {} {:?} }}", items.join(" "), found.commit)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn run(root: &Path, arguments: &[&str]) -> Option<String> {
        let identity = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
        git(root, &[&identity[..], arguments].concat())
    }

    fn repository() -> tempfile::TempDir {
        let root = tempfile::TempDir::new().unwrap();
        run(root.path(), &["init", "--initial-branch=main"]).unwrap();
        fs::write(root.path().join("a"), "1").unwrap();
        run(root.path(), &["add", "a"]);
        run(root.path(), &["commit", "--message=one"]).unwrap();
        root
    }

    #[test]
    fn a_commit_has_ten_digits_and_says_whether_files_were_changed() {
        let root = repository();
        let commit = run(root.path(), &["rev-parse", "HEAD"]).unwrap()[..10].to_owned();
        assert_eq!(at(root.path()).unwrap().commit, commit);
        // A tag says nothing: the version stands before it anyway.
        run(root.path(), &["tag", "--annotate", "v1", "--message=v1"]);
        assert_eq!(at(root.path()).unwrap().commit, commit);
        fs::write(root.path().join("surplus"), "").unwrap();
        assert_eq!(at(root.path()).unwrap().commit, commit);
        fs::write(root.path().join("a"), "22").unwrap();
        assert_eq!(at(root.path()).unwrap().commit, format!("{commit}-dirty"));
    }

    #[test]
    fn a_commit_changes_a_file_that_is_watched() {
        let root = repository();
        let contents = || -> Vec<Vec<u8>> {
            at(root.path()).unwrap().files.iter().map(|path| fs::read(path).unwrap()).collect()
        };
        let before = contents();
        assert!(!before.is_empty());
        run(root.path(), &["commit", "--allow-empty", "--message=two"]).unwrap();
        let after = contents();
        assert_ne!(before, after);
        // Where branches are packed and nothing logs where they were.
        run(root.path(), &["pack-refs", "--all"]);
        run(root.path(), &["checkout", "--quiet", "-b", "other"]);
        assert_ne!(contents(), after);
    }

    #[test]
    fn a_worktree_is_found() {
        let root = repository();
        let other = root.path().join("tree");
        run(root.path(), &["worktree", "add", "--quiet", "-b", "side", other.to_str().unwrap()]);
        let found = at(&other).unwrap();
        assert_eq!(found.commit, at(root.path()).unwrap().commit);
        assert!(found.files.iter().any(|path| path.ends_with("refs/heads/side")), "{found:?}");
    }

    #[test]
    fn a_folder_of_another_repository_has_no_commit() {
        let root = repository();
        let unpacked = root.path().join("unpacked");
        fs::create_dir(&unpacked).unwrap();
        assert_eq!(at(&unpacked), None);
        assert_eq!(expression(&Found::nothing()), "{  \"unknown\" }");
    }

    #[test]
    fn the_expression_names_the_files() {
        let found = Found { commit: "0123456789".to_owned(), files: vec![PathBuf::from("/a \"b\"/HEAD")] };
        assert_eq!(
            expression(&found),
            r#"{ const _: &[u8] = include_bytes!("/a \"b\"/HEAD"); "0123456789" }"#
        );
    }
}
