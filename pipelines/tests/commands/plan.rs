//! `gro plan`: a table of what would be done, worked out and not run.

use super::Directory;

/// The cells of the line that begins with this stage.
#[track_caller]
fn line<'a>(out: &'a str, stage: &str) -> Vec<&'a str> {
    let line = out.lines().find(|line| line.starts_with(stage));
    let line = line.unwrap_or_else(|| panic!("no line of {stage} in\n{out}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn steps_are_those_of_the_settings() {
    let place = Directory::new();
    // 300 users of 18 items to train on, on average, none longer than a window and a half: a sample each.
    let ended = place.gro(&[
        "plan",
        "--size",
        "300,50,6000",
        "--speed",
        "100",
        "--methods",
        "none",
        "gro",
        "decoy",
        "--set",
        "model.max_len=100",
        "--set",
        "train.epochs=7",
        "--set",
        "generate.sequences=40",
        "--set",
        "generate.length=26",
        "--set",
        "distill.batch=100",
        "--set",
        "distill.epochs=2",
        "--set",
        "generate.top_k=20",
    ]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    let out = &ended.out;
    assert!(out.starts_with("300 users, 50 items, 6,000 interactions"), "{out}");
    assert_eq!(
        line(out, "train bert")[1..3],
        ["300 samples, 7 epochs", "21"],
        "three batches of 128 an epoch"
    );
    assert_eq!(line(out, "defend gro")[1..3], ["300 samples, 10 epochs", "130"], "thirteen batches of 24");
    assert_eq!(line(out, "defend decoy")[1..3], ["300 samples, 20 epochs", "100"], "five batches of 64");
    assert_eq!(line(out, "generate ×3")[1..3], ["40 accounts of 26 questions", "1,040"]);
    assert_eq!(
        line(out, "distil bert ×3")[1..3],
        ["1000 questions, 2 epochs", "20"],
        "one of each account is kept back"
    );
    assert!(line(out, "evaluate ×3")[1].starts_with("300 users"));
}

#[test]
fn fewer_samples_an_epoch_make_it_shorter() {
    let place = Directory::new();
    let settings = ["plan", "--size", "3000,50,60000", "--speed", "100", "--methods", "none"];
    let all = place.gro(&settings);
    let some = place.gro(&[&settings[..], &["--set", "train.epoch_samples=256"]].concat());
    assert_eq!(line(&some.out, "train bert")[1..3], ["256 samples, 200 epochs", "400"]);
    assert_ne!(line(&all.out, "train bert").last(), line(&some.out, "train bert").last());
}

#[test]
fn seeds_and_surrogates_multiply() {
    let place = Directory::new();
    let ended = place.gro(&[
        "plan",
        "--size",
        "300,500,6000",
        "--speed",
        "100",
        "--methods",
        "none",
        "--set",
        "seeds=[1,2,3]",
        "--set",
        "surrogates=[sas,narm]",
    ]);
    for stage in ["train bert ×3", "generate ×3", "distil sas ×3", "distil narm ×3"] {
        line(&ended.out, stage);
    }
}

#[test]
fn a_pipeline_has_the_layers_of_the_makefile() {
    let place = Directory::new();
    std::fs::create_dir(place.path("pipelines")).unwrap();
    std::fs::write(place.path("pipelines/my-shop.yaml"), "train: {epochs: 9}\n").unwrap();
    std::fs::write(place.path("pipelines/my-shop-sas.yaml"), "train: {epochs: 8}\n").unwrap();
    let shop = [
        "plan",
        "my-shop-sas",
        "--size",
        "300,500,6000",
        "--speed",
        "100",
        "--set",
        "model.architecture=sas",
    ];
    let ended = place.gro(&shop);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(line(&ended.out, "train sas")[1].ends_with("8 epochs"), "{}", ended.out);
}

#[test]
fn this_machine_is_measured_and_public_data_are_known() {
    let place = Directory::new();
    std::fs::create_dir(place.path("pipelines")).unwrap();
    std::fs::write(place.path("pipelines/ml-1m.yaml"), "train: {epochs: 9}\n").unwrap();
    let ended = place.gro(&["plan", "ml-1m-bert"]);
    assert!(ended.out.starts_with("6,040 users, 3,416 items, 999,611 interactions"), "{}", ended.out);
    assert!(ended.out.contains("measured on this machine"), "{}", ended.out);
}

#[test]
fn what_cannot_be_planned_for_is_refused() {
    let place = Directory::new();
    std::fs::create_dir(place.path("pipelines")).unwrap();
    std::fs::write(place.path("pipelines/shop.yaml"), "").unwrap();
    let cases: [(&[&str], &str); 8] = [
        (&["plan"], "of which data?"),
        (&["plan", "ml-1m-lstm"], "no DATASET-ARCHITECTURE"),
        (&["plan", "ml-1m-bert"], "pipelines/ml-1m.yaml does not exist"),
        (&["plan", "shop-bert"], "the size of shop is not known"),
        (&["plan", "--size", "300,6000"], "three numbers"),
        (&["plan", "--size", "300,20,600"], "five interactions each"),
        (&["plan", "--size", "300,500,6000", "--speed", "0"], "above 0"),
        (&["plan", "--data", "nowhere"], "nowhere"),
    ];
    for (arguments, expected) in cases {
        let ended = place.gro(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(expected) && ended.out.is_empty(), "{arguments:?}: {}", ended.err);
    }
}
