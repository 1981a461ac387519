//! What `make install` and `make tarball` give people, laid down from the binaries that this test run built.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should say where")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BINARIES: [&str; 7] =
    ["gro", "gro-preprocess", "gro-train", "gro-defend", "gro-attack", "gro-evaluate", "gro-serve"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A command of make's that takes the binaries beside this test for those that it would build.
fn make(arguments: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let binaries = test.parent().and_then(Path::parent).unwrap();
    assert!(binaries.join("gro-train").exists(), "no binaries; run `cargo test --workspace`");
    let mut command = Command::new("make");
    command.args(["--silent", "--old-file=build", &format!("BIN={}", binaries.display())]);
    // `make test` itself may be what runs us.
    command.args(arguments).current_dir(root()).env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    command.output().unwrap()
}

fn done(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Every file below a directory with its permissions, by its path from there.
fn files(directory: &Path) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::metadata(&path).unwrap().permissions().mode() & 0o777);
            }
        }
    }
    found
}

/// What every tree holds, whichever way it came.
fn check(tree: &Path) {
    let files = files(tree);
    for name in BINARIES {
        assert_eq!(files.get(&format!("bin/{name}")), Some(&0o755), "{name}");
        for path in [
            format!("share/man/man1/{name}.1"),
            format!("share/bash-completion/completions/{name}"),
            format!("share/zsh/site-functions/_{name}"),
            format!("share/fish/vendor_completions.d/{name}.fish"),
        ] {
            let text = fs::read_to_string(tree.join(&path)).expect(&path);
            assert!(text.contains(name), "{path}: {text}");
        }
    }
    for path in [
        "share/man/man1/gro-attack-generate.1",
        "share/gro/ml-100k.yaml",
        "share/gro/bert.yaml",
        "share/doc/gro/README.md",
        "share/doc/gro/LICENSE-MIT",
        "share/doc/gro/LICENSE-APACHE",
        "share/doc/gro/docs/artifacts.md",
        "share/doc/gro/docs/examples/item_item.py",
        "share/doc/gro/docs/examples/table.py",
    ] {
        assert_eq!(files.get(path).map(|mode| mode & 0o444), Some(0o444), "{path}");
    }
}

#[test]
fn an_installed_tree_has_all_that_a_user_needs() {
    let home = tempfile::TempDir::new().unwrap();
    let to = home.path().join("a b");
    done(&make(&["install", &format!("DESTDIR={}", to.display()), "PREFIX=/usr"]));
    let tree = to.join("usr");
    check(&tree);
    for name in BINARIES {
        let version = done(&Command::new(tree.join("bin").join(name)).arg("--version").output().unwrap());
        let expected = format!("{name} {} (commit ", env!("CARGO_PKG_VERSION"));
        assert!(version.starts_with(&expected), "{version}, not {expected}");
        let computes = !matches!(name, "gro" | "gro-preprocess");
        assert_eq!(version.contains("cuda"), computes, "{version}");
    }
    let settings = format!("{}/share/gro/bert.yaml", tree.display());
    let asked = ["settings", "--config", &settings, "--get", "model.architecture"];
    assert_eq!(done(&Command::new(tree.join("bin/gro")).args(asked).output().unwrap()), "bert\n");
}

#[test]
fn an_archive_holds_the_tree_and_the_licences_of_what_is_linked_in() {
    let home = tempfile::TempDir::new().unwrap();
    let archive = |folder: &str| {
        let folder = home.path().join(folder);
        let printed = done(&make(&["tarball", "PACK=gzip -n -1", &format!("PACKAGES={}", folder.display())]));
        PathBuf::from(printed.trim_end())
    };
    let first = archive("one");
    let name = first.file_name().unwrap().to_str().unwrap();
    let name = name.strip_suffix(".tar.gz").unwrap();
    assert!(name.starts_with(&format!("gro-{}-", env!("CARGO_PKG_VERSION"))), "{name}");
    let unpack = Command::new("tar").arg("-xzf").arg(&first).arg("-C").arg(home.path()).output();
    done(&unpack.unwrap());
    let tree = home.path().join(name);
    check(&tree);
    let licences = fs::read_to_string(tree.join("share/doc/gro/LICENCES")).unwrap();
    for package in ["candle-core 0.", "parquet 6", "zstd-sys 2"] {
        assert!(licences.lines().any(|line| line.starts_with(package)), "{package}");
    }
    assert!(licences.contains("Permission is hereby granted"), "{licences}");
    assert!(
        fs::read(&first).unwrap() == fs::read(archive("two")).unwrap(),
        "two archives of one tree differ"
    );
}

#[test]
fn without_binaries_nothing_is_installed() {
    let home = tempfile::TempDir::new().unwrap();
    let output = make(&["install", "BIN=nowhere", &format!("DESTDIR={}", home.path().display())]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && message.contains("run make build first"), "{message}");
    assert_eq!(files(home.path()).len(), 0);
}
