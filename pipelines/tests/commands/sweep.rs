use std::fs;

use crate::Directory;

#[test]
fn strengths_are_defences_with_a_setting_each_point_once() {
    let directory = Directory::new();
    // .5 canaries and .05 false alarms are what the guard has anyway.
    let sweep = "gro.lambda: [0.3, 1]\nguard.canaries: [0.3, 0.5]\nguard.false_alarms: [0.01, 0.05]\n";
    fs::write(directory.path("sweep.yaml"), sweep).unwrap();
    let ended = directory.gro(&["sweep", "sweep.yaml"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let expected = [
        "gro:defend.gro.lambda=0.3",
        "gro:defend.gro.lambda=1",
        "guard:defend.guard.canaries=0.3",
        "guard:defend.guard.canaries=0.5",
        "guard:defend.guard.false_alarms=0.01",
    ];
    assert_eq!(ended.out.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn what_no_defence_can_be_set_to_is_refused_by_name() {
    let directory = Directory::new();
    for (sweep, expected) in [
        ("gor.lambda: [1]", "gor"),
        ("gro.lamda: [1]", "lamda"),
        ("gro.lambda: [-1]", "defend.gro.lambda"),
        ("guard.canaries: [2]", "guard.canaries"),
        ("gro: [1]", "names no setting of a defence"),
        ("gro.lambda: 1", "no list of values"),
        ("gro.lambda: []", "no list of values"),
        ("gro.lambda: [[1]]", "no number, word or truth value"),
        ("- gro", "no YAML mapping"),
    ] {
        fs::write(directory.path("sweep.yaml"), sweep).unwrap();
        let ended = directory.gro(&["sweep", "sweep.yaml"]);
        assert_eq!((ended.code, &*ended.out), (2, ""), "{sweep}: {}", ended.err);
        assert!(ended.err.contains(expected), "{sweep}: {}", ended.err);
    }
    assert_eq!(directory.gro(&["sweep", "none.yaml"]).code, 2);
}

#[test]
fn the_strengths_of_the_pipelines_can_be_run() {
    let directory = Directory::new();
    let pipelines = concat!(env!("CARGO_MANIFEST_DIR"), "/sweep.yaml");
    let ended = directory.gro(&["sweep", pipelines]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.lines().count() >= 10, "{}", ended.out);
}
