//! Weights travel between this project and PyTorch under the names of the authors' code.
//!
//! Names and shapes are compared with the golden state dicts in every run. The rest needs a Python with `torch` and
//! `safetensors`: the one in `TORCH_PYTHON`, else `python3` where it has both; a run without says so on stderr. Then
//! `interchange.py`, whose networks are PyTorch modules of their own, is held to the golden scores, loads what we write
//! with `load_state_dict(strict=True)` and scores alike, and saves state dicts in every form for us to import.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should say where")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact::checkpoint::{Array, Checkpoint, Kind, MODEL, read_arrays, write_arrays};
use artifact::dataset::{self, UserSequence};
use artifact::settings::Network;
use candle_core::Device;
use models::parameters::to_array;
use models::{ARCHITECTURES, Architecture, Contexts, Declared, Mode, Parameters, Recommender, Sizes};
use stage::{Flags, Refusal};
use streams::{Purpose, Streams};

/// The sizes that `interchange.py save` writes.
const SAVED: Sizes = Sizes {
    items: 12,
    network: Network { hidden: 8, blocks: 2, heads: 2, max_len: 6, dropout: 0.1, attention_dropout: 0.1 },
};

/// To stderr itself, which the test harness does not capture: what was not tested must be seen.
fn say(message: &str) {
    std::io::stderr().write_all(format!("interchange: {message}\n").as_bytes()).unwrap();
}

fn golden() -> PathBuf {
    std::env::var_os("GOLDEN_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden"), PathBuf::from)
}

/// A Python that has `torch` and `safetensors`.
fn python() -> Option<String> {
    let has_torch = |python: &str| {
        let output = Command::new(python).args(["-c", "import torch, safetensors.torch"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if let Ok(named) = std::env::var("TORCH_PYTHON") {
        assert!(has_torch(&named), "TORCH_PYTHON is {named}, which cannot import torch and safetensors");
        return Some(named);
    }
    let found = has_torch("python3").then(|| "python3".to_owned());
    if found.is_none() {
        say(
            "PyTorch half SKIPPED: no torch and safetensors in python3; name a Python that has them in TORCH_PYTHON",
        );
    }
    found
}

/// Runs `interchange.py`, which must succeed.
#[track_caller]
fn run(python: &str, command: &str, architecture: Option<Architecture>, folder: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interchange.py");
    let architecture = architecture.map(|architecture| architecture.to_string());
    let output =
        Command::new(python).arg(script).arg(command).args(architecture).arg(folder).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command}: {out}{err}");
}

#[test]
fn names_and_shapes_are_those_of_the_authors() {
    let mut sets: Vec<PathBuf> =
        std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path()).collect();
    sets.retain(|path| path.is_dir());
    assert!(!sets.is_empty());
    let mut compared = 0;
    for (set, architecture) in
        sets.iter().flat_map(|set| ARCHITECTURES.entries.iter().copied().map(move |a| (set, a)))
    {
        let folder = set.join(architecture.to_string());
        if !folder.exists() {
            // The authors have no such network.
            continue;
        }
        let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        let size = |key: &str| config[key].as_u64().unwrap() as usize;
        let sizes = Sizes {
            items: size("num_items"),
            network: Network {
                hidden: size("hidden"),
                blocks: size("num_blocks"),
                heads: size("num_heads"),
                max_len: size("max_len"),
                ..SAVED.network
            },
        };
        let (theirs, _) = read_arrays(&folder.join("weights.safetensors")).unwrap();
        let theirs: BTreeMap<String, Vec<usize>> =
            theirs.into_iter().map(|(name, array)| (name, array.shape)).collect();
        let ours = (architecture.declare)(&sizes);
        let ours: BTreeMap<String, Vec<usize>> =
            ours.into_iter().map(|Declared { name, shape, .. }| (name, shape)).collect();
        assert_eq!(ours, theirs, "{}", folder.display());
        compared += 1;
    }
    assert_eq!(compared, 3 * sets.len());
}

#[test]
fn the_pytorch_networks_are_those_of_the_golden_numbers() {
    if let Some(python) = python() {
        run(&python, "golden", None, &golden());
    }
}

/// Scores after each row, `(rows, columns of the catalogue)`.
fn scores(model: &dyn Recommender, rows: &[Vec<u32>]) -> Array {
    let mut contexts = Contexts::new();
    for row in rows {
        contexts.push(row.iter().copied(), [row.len() as u32 - 1]);
    }
    let states = model.encode(&contexts.upload(&Device::Cpu).unwrap(), Mode::Evaluate).unwrap();
    to_array(&model.catalogue().scores(&states).unwrap()).unwrap()
}

#[test]
fn our_checkpoints_load_strictly_in_pytorch_and_score_alike() {
    let Some(python) = python() else { return };
    for architecture in ARCHITECTURES.entries.iter().copied() {
        let directory = tempfile::tempdir().unwrap();
        let sizes = Sizes {
            items: 50,
            network: Network { hidden: 24, blocks: 3, heads: 4, max_len: 9, ..SAVED.network },
        };
        let declared = (architecture.declare)(&sizes);
        let parameters =
            Parameters::initial(&declared, 1.0, &Streams::new(5), Purpose::TargetWeights, &Device::Cpu)
                .unwrap();
        let model = (architecture.build)(&sizes, &parameters.detached()).unwrap();

        // Rows of every length, right padded in the file only.
        let rows: Vec<Vec<u32>> = (1..=9)
            .map(|length| (0..length).map(|place| 1 + (7 * length + 11 * place) % 50).collect())
            .collect();
        let padded =
            rows.iter().flat_map(|row| (0..9).map(|place| row.get(place).map_or(0.0, |&id| id as f32)));
        let asked = Array { shape: vec![rows.len(), 9], values: padded.collect() };
        let answered = scores(&*model, &rows);

        let description = sizes.describe(Kind::Target, architecture, "of no dataset");
        let tensors = parameters.to_arrays().unwrap();
        Checkpoint { description, tensors }.write(&directory.path().join(MODEL)).unwrap();
        let exchanged = BTreeMap::from([("rows".to_owned(), asked), ("scores".to_owned(), answered)]);
        write_arrays(&directory.path().join("scores.safetensors"), &exchanged, None).unwrap();
        run(&python, "load", Some(architecture), directory.path());
    }
}

/// Imports a `.pth` file; the checkpoint it gave, or the refusal.
fn import(from: &Path, architecture: Architecture, data: &Path) -> Result<BTreeMap<String, Array>, String> {
    let out = from.with_extension("imported");
    // NARM has no positions, so that its longest input is a setting.
    let before = out.exists();
    let set = vec![format!("model.max_len={}", SAVED.max_len)];
    match train::import::import(from, architecture, data, &out, &Flags { set, ..Flags::default() }) {
        Ok(()) => {
            let Checkpoint { description, tensors } = Checkpoint::read(&out.join(MODEL)).unwrap();
            assert_eq!(Sizes::from(&description), SAVED);
            Ok(tensors)
        }
        Err(error) => {
            assert!(error.downcast_ref::<Refusal>().is_some(), "no refusal: {error:#}");
            assert_eq!(out.exists(), before, "a refusal wrote something");
            Err(format!("{error:#}"))
        }
    }
}

fn write_dataset(directory: &Path) {
    std::fs::create_dir(directory).unwrap();
    let raw_items: Vec<String> = (1..=SAVED.items).map(|id| id.to_string()).collect();
    let train: Vec<u32> = (1..=SAVED.items as u32).collect();
    let user = UserSequence { train: &train, valid: 1, test: Some(2) };
    dataset::write(directory, &raw_items, &["u"], [user]).unwrap();
}

#[test]
fn what_torch_saves_is_imported_to_the_bit_or_refused_by_name() {
    let Some(python) = python() else { return };
    for architecture in ARCHITECTURES.entries.iter().copied() {
        let directory = tempfile::tempdir().unwrap();
        let (data, saved) = (directory.path().join("data"), directory.path().join("saved"));
        write_dataset(&data);
        std::fs::create_dir(&saved).unwrap();
        run(&python, "save", Some(architecture), &saved);

        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&saved).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "pth"));
        files.sort();
        let (refused, imported): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|path| path.to_string_lossy().contains("refused-"));
        assert_eq!(imported.len(), 26, "{imported:?}");
        for path in imported {
            let (expected, _) = read_arrays(&path.with_extension("safetensors")).unwrap();
            let tensors = import(&path, architecture, &data).unwrap();
            assert_eq!(tensors.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (name, array) in expected {
                assert_eq!(tensors[&name], array, "{architecture}, {}: {name}", path.display());
            }
        }

        let expected = BTreeMap::from([
            ("refused-complex", "unsupported storage type"),
            ("refused-infinite", "expected finite numbers"),
            ("refused-legacy", "before PyTorch 1.6"),
            ("refused-module", "save the model's state_dict()"),
            ("refused-nothing", "or `model`; the keys there are epoch"),
        ]);
        assert_eq!(refused.len(), expected.len());
        for path in refused {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let message = import(&path, architecture, &data).unwrap_err();
            assert!(message.contains(expected[&*name]) && message.contains(&name), "{message}");
        }
        // Another architecture's checkpoint is told apart.
        for other in ARCHITECTURES.entries.iter().copied().filter(|other| *other != architecture) {
            let message = import(&saved.join("bare.pth"), other, &data).unwrap_err();
            assert!(message.contains(&format!("give --arch {architecture}")), "{message}");
        }
        // A file that was cut off on its way here.
        let whole = std::fs::read(saved.join("bare.pth")).unwrap();
        let cut = saved.join("cut.pth");
        std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
        let message = import(&cut, architecture, &data).unwrap_err();
        assert!(message.contains("cut.pth: its zip archive is not whole"), "{message}");
    }
}
