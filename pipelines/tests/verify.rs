#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;

use crate::scene::Scene;

/// A tree of two outputs, one made from the other.
fn tree() -> Scene {
    let scene = Scene::new();
    for (name, inputs) in [("data", "[]"), ("target", "[{path: ../data/a, size: 1, blake3: HASH}]")] {
        fs::create_dir_all(scene.path("out").join(name)).unwrap();
        let directory = scene.path("out").join(name);
        fs::write(directory.join("a"), name.get(..1).unwrap()).unwrap();
        fs::write(directory.join("run.log"), "any").unwrap();
        let hash = |bytes: &str| artifact::digest::bytes(bytes.as_bytes());
        let lock = format!(
            "command: gro-{name}\nversion: 0.1.0\nseed: 1\nsettings: {{}}\ninputs: {}\noutputs: [{{path: a, size: 1, \
             blake3: {}}}]\n",
            inputs.replace("HASH", &hash("d")),
            hash(name.get(..1).unwrap()),
        );
        fs::write(directory.join("stage.lock"), lock).unwrap();
    }
    scene
}

#[test]
fn a_tree_as_it_was_written_is_in_order() {
    let scene = tree();
    let ended = scene.evaluate(&["verify", "out"]);
    let expected = "ok        out/data: 1 files, by gro-data\nok        out/target: 1 files, by gro-target\n";
    assert_eq!((ended.code, &*ended.out, &*ended.err), (0, expected, ""));
    // A part of it, copied elsewhere without its input; and what a killed run left is no output.
    fs::rename(scene.path("out/target"), scene.path("alone")).unwrap();
    fs::create_dir(scene.path("alone/.partial")).unwrap();
    fs::remove_dir(scene.path("alone/.partial")).unwrap();
    assert_eq!(scene.evaluate(&["verify", "alone", "out"]).code, 0);
}

#[test]
fn whatever_was_changed_is_named() {
    type Change<'a> = &'a dyn Fn(&Scene);
    let cases: [(Change<'_>, &[&str]); 6] = [
        (
            &|scene| fs::write(scene.path("out/data/a"), "e").unwrap(),
            &["damaged   out/data: a was edited", "outdated  out/target: its input ../data/a was edited"],
        ),
        (
            &|scene| fs::write(scene.path("out/target/a"), "").unwrap(),
            &["out/target: a has 0 bytes, expected 1"],
        ),
        (&|scene| fs::remove_file(scene.path("out/target/a")).unwrap(), &["out/target: a is missing"]),
        (
            &|scene| fs::write(scene.path("out/target/b"), "b").unwrap(),
            &["out/target: b is not in stage.lock"],
        ),
        (
            &|scene| fs::write(scene.path("out/target/stage.lock"), "command: [").unwrap(),
            &["stage.lock is damaged"],
        ),
        (
            &|scene| fs::write(scene.path("out/data/a"), "").unwrap(),
            &["damaged   out/data", "outdated  out/target"],
        ),
    ];
    for (change, expected) in cases {
        let scene = tree();
        change(&scene);
        let ended = scene.evaluate(&["verify", "out"]);
        assert_eq!(ended.code, 2, "{}", ended.out);
        for line in expected {
            assert!(ended.out.contains(line), "{line}: {}", ended.out);
        }
        assert!(ended.err.contains("of 2 outputs"), "{}", ended.err);
    }
}

#[test]
fn where_no_stage_wrote_there_is_nothing_to_verify() {
    let scene = Scene::new();
    fs::create_dir(scene.path("empty")).unwrap();
    for name in ["empty", "nowhere"] {
        let ended = scene.evaluate(&["verify", name]);
        assert!(ended.code != 0 && ended.err.contains(name), "{}", ended.err);
    }
    assert_eq!(scene.evaluate(&["verify"]).code, 2);
}
