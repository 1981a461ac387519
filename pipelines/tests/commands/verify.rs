use std::fs;

use crate::Directory;

/// A tree of two outputs, one made from the other.
fn tree() -> Directory {
    let directory = Directory::new();
    for (name, inputs) in [("data", "[]"), ("target", "[{path: ../data/a, size: 1, blake3: HASH}]")] {
        fs::create_dir_all(directory.path("out").join(name)).unwrap();
        let output = directory.path("out").join(name);
        fs::write(output.join("a"), name.get(..1).unwrap()).unwrap();
        fs::write(output.join("run.log"), "any").unwrap();
        let hash = |bytes: &str| artifact::digest::bytes(bytes.as_bytes());
        let lock = format!(
            "command: gro-{name}\nversion: 0.1.0\nseed: 1\nsettings: {{}}\ninputs: {}\noutputs: [{{path: a, size: 1, \
             blake3: {}}}]\n",
            inputs.replace("HASH", &hash("d")),
            hash(name.get(..1).unwrap()),
        );
        fs::write(output.join("stage.lock"), lock).unwrap();
    }
    directory
}

#[test]
fn a_tree_as_it_was_written_is_in_order() {
    let directory = tree();
    let ended = directory.gro(&["verify", "out"]);
    let expected = "ok        out/data: 1 files, by gro-data\nok        out/target: 1 files, by gro-target\n";
    assert_eq!((ended.code, &*ended.out, &*ended.err), (0, expected, ""));
    // A part of it, copied elsewhere without its input; and what a killed run left is no output.
    fs::rename(directory.path("out/target"), directory.path("alone")).unwrap();
    fs::create_dir(directory.path("alone/.partial")).unwrap();
    fs::remove_dir(directory.path("alone/.partial")).unwrap();
    assert_eq!(directory.gro(&["verify", "alone", "out"]).code, 0);
}

#[test]
fn whatever_was_changed_is_named() {
    type Change<'a> = &'a dyn Fn(&Directory);
    let cases: [(Change<'_>, &[&str]); 6] = [
        (
            &|directory| fs::write(directory.path("out/data/a"), "e").unwrap(),
            &["damaged   out/data: a was edited", "outdated  out/target: its input ../data/a was edited"],
        ),
        (
            &|directory| fs::write(directory.path("out/target/a"), "").unwrap(),
            &["out/target: a has 0 bytes, expected 1"],
        ),
        (
            &|directory| fs::remove_file(directory.path("out/target/a")).unwrap(),
            &["out/target: a is missing"],
        ),
        (
            &|directory| fs::write(directory.path("out/target/b"), "b").unwrap(),
            &["out/target: b is not in stage.lock"],
        ),
        (
            &|directory| fs::write(directory.path("out/target/stage.lock"), "command: [").unwrap(),
            &["stage.lock is damaged"],
        ),
        (
            &|directory| fs::write(directory.path("out/data/a"), "").unwrap(),
            &["damaged   out/data", "outdated  out/target"],
        ),
    ];
    for (change, expected) in cases {
        let directory = tree();
        change(&directory);
        let ended = directory.gro(&["verify", "out"]);
        assert_eq!(ended.code, 2, "{}", ended.out);
        for line in expected {
            assert!(ended.out.contains(line), "{line}: {}", ended.out);
        }
        assert!(ended.err.contains("of 2 outputs"), "{}", ended.err);
    }
}

#[test]
fn where_no_stage_wrote_there_is_nothing_to_verify() {
    let directory = Directory::new();
    fs::create_dir(directory.path("empty")).unwrap();
    for name in ["empty", "nowhere"] {
        let ended = directory.gro(&["verify", name]);
        assert!(ended.code != 0 && ended.err.contains(name), "{}", ended.err);
    }
    assert_eq!(directory.gro(&["verify"]).code, 2);
}
