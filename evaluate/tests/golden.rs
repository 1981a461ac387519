//! Parity with the metrics of the GRO authors' public PyTorch code: every set folder under `$GOLDEN_DIR` (by default the
//! copy at the root of this repository) holds scores and the figures that code computed from them in float32.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};

use metrics::{agreement, exact_match, hit, kl_over_top, mean, ndcg, rank_of, top_k};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

struct Set {
    name: String,
    expected: Value,
    bytes: Vec<u8>,
}

fn sets() -> Vec<Set> {
    let root = std::env::var_os("GOLDEN_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden"), PathBuf::from);
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "no set of golden numbers under {}", root.display());
    folders
        .into_iter()
        .map(|folder| Set {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            expected: serde_json::from_slice(&std::fs::read(folder.join("metrics.json")).unwrap()).unwrap(),
            bytes: std::fs::read(folder.join("metrics.safetensors")).unwrap(),
        })
        .collect()
}

/// Rows of a matrix of 32-bit floats.
fn scores(set: &Set, tensor: &str) -> Vec<Vec<f32>> {
    let tensors = SafeTensors::deserialize(&set.bytes).unwrap();
    let view = tensors.tensor(tensor).unwrap();
    assert_eq!(view.dtype(), Dtype::F32);
    let values: Vec<f32> =
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    values.chunks(view.shape()[1]).map(<[f32]>::to_vec).collect()
}

/// Rows of a matrix of item ids.
fn ids(set: &Set, tensor: &str) -> Vec<Vec<u32>> {
    let tensors = SafeTensors::deserialize(&set.bytes).unwrap();
    let view = tensors.tensor(tensor).unwrap();
    assert_eq!(view.dtype(), Dtype::I64);
    let values: Vec<u32> = view
        .data()
        .chunks_exact(8)
        .map(|b| u32::try_from(i64::from_le_bytes(b.try_into().unwrap())).unwrap())
        .collect();
    values.chunks(view.shape()[1]).map(<[u32]>::to_vec).collect()
}

fn check(set: &Set, section: &str, figure: &str, found: f64) {
    let expected = set.expected[section][figure].as_f64().unwrap();
    let room = 1e-6 * expected.abs().max(1e-3);
    assert!(
        (found - expected).abs() <= room,
        "{}: {section} {figure}: {found}, expected {expected}",
        set.name
    );
}

fn check_ranks(set: &Set, section: &str, ranks: &[Option<u32>]) {
    let mean_of =
        |value: &dyn Fn(Option<u32>) -> f64| mean(&ranks.iter().map(|&rank| value(rank)).collect::<Vec<_>>());
    let named = set.expected[section].as_object().unwrap();
    assert!(!named.is_empty());
    for figure in named.keys() {
        let (kind, k) = figure.split_once('@').unwrap();
        let k: usize = k.parse().unwrap();
        let found = match kind {
            "Recall" => mean_of(&|rank| hit(rank, k)),
            "NDCG" => mean_of(&|rank| ndcg(rank, k)),
            other => panic!("{}: {section} holds a figure unknown here: {other}", set.name),
        };
        check(set, section, figure, found);
    }
}

#[test]
fn golden_full_ranking() {
    for set in sets() {
        let answers = ids(&set, "answers");
        let ranks: Vec<_> = scores(&set, "scores")
            .iter()
            .zip(&answers)
            .map(|(row, answer)| rank_of(row, answer[0]))
            .collect();
        check_ranks(&set, "full_ranking", &ranks);
    }
}

#[test]
fn golden_sampled_candidates() {
    for set in sets() {
        // The first candidate is the item sought, the others are its sampled negatives.
        let ranks: Vec<_> = scores(&set, "candidate_scores").iter().map(|row| rank_of(row, 1)).collect();
        check_ranks(&set, "sampled_candidates", &ranks);
    }
}

#[test]
fn golden_similarity() {
    for set in sets() {
        // `similarity_is` names the two sides; another spelling would mean another order of the arguments.
        assert_eq!(set.expected["similarity_is"], "surrogate=scores, target=target_scores", "{}", set.name);
        let k_kl = set.expected["k_kl"].as_u64().unwrap() as usize;
        let (surrogate, target) = (scores(&set, "scores"), scores(&set, "target_scores"));
        for figure in set.expected["similarity"].as_object().unwrap().keys() {
            let rows = target.iter().zip(&surrogate);
            let values: Vec<f64> = match figure
                .split_once('@')
                .map(|(kind, k)| (kind, k.parse::<usize>().unwrap()))
            {
                None => {
                    assert_eq!(figure, "KL-Div");
                    rows.map(|(t, s)| kl_over_top(t, s, k_kl)).collect()
                }
                Some(("Agr", k)) => rows.map(|(t, s)| agreement(&top_k(t, k), &top_k(s, k), k)).collect(),
                Some(("EM", k)) => rows.map(|(t, s)| exact_match(&top_k(t, k), &top_k(s, k), k)).collect(),
                Some((other, _)) => panic!("{}: a figure unknown here: {other}", set.name),
            };
            check(&set, "similarity", figure, mean(&values));
        }
    }
}

#[test]
fn golden_reversed_lists() {
    for set in sets() {
        for (row, reversed) in scores(&set, "scores").iter().zip(ids(&set, "reverse_top_items")) {
            let mut list = top_k(row, reversed.len());
            list.reverse();
            assert_eq!(list, reversed, "{}", set.name);
        }
    }
}
