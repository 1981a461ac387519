use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_yaml::Value;

use crate::listed;

/// Lists that DVC cannot ask for, so that `dvc.yaml` holds them itself: the name of each there, and what `gro list` calls it.
const HELD: [(&str, &str); 5] = [
    ("architectures", "architectures"),
    ("policies", "policies"),
    ("keyed", "keyed"),
    ("defences", "defences"),
    ("published", "datasets"),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The lists at the head of `dvc.yaml`.
fn of_dvc() -> BTreeMap<String, Vec<String>> {
    let file: Value = serde_yaml::from_str(&read("pipelines/dvc.yaml")).unwrap();
    let lists = file["vars"].as_sequence().unwrap().iter().cloned();
    lists.flat_map(|list| serde_yaml::from_value::<BTreeMap<String, Vec<String>>>(list).unwrap()).collect()
}

/// The lists of the Makefile, as `make help` shows them.
fn of_make() -> BTreeMap<String, Vec<String>> {
    let mut command = Command::new("make");
    // `make test` itself may be what runs us.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    let help = command.arg("help").current_dir(root()).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let line = help.lines().find(|line| line.contains("architectures: ")).unwrap();
    let lists = line.trim().split("; ").map(|list| list.split_once(": ").unwrap());
    let words = |names: &str| names.split(' ').map(str::to_owned).collect();
    lists.map(|(name, names)| (name.to_owned(), words(names))).collect()
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

#[test]
fn the_workflows_hold_the_names_that_gro_lists() {
    let (dvc, make) = (of_dvc(), of_make());
    for (name, kind) in HELD {
        assert_eq!(dvc[name], listed(kind), "dvc.yaml: {name}");
    }
    assert_eq!(sorted(&make["architectures"]), sorted(&listed("architectures")), "Makefile");
    let datasets = [&["demo".to_owned()][..], &listed("datasets")].concat();
    assert_eq!((&dvc["datasets"], &make["datasets"]), (&datasets, &datasets));
}

#[test]
fn every_dataset_and_architecture_has_settings() {
    for dataset in &of_dvc()["datasets"] {
        let settings: Value = serde_yaml::from_str(&read(&format!("pipelines/{dataset}.yaml"))).unwrap();
        assert!(settings["model"]["architecture"].is_null(), "{dataset} goes with any architecture");
    }
    for architecture in listed("architectures") {
        let settings: Value = serde_yaml::from_str(&read(&format!("pipelines/{architecture}.yaml"))).unwrap();
        assert_eq!(settings["model"]["architecture"], architecture.as_str());
    }
}
