//! Parity with the metrics of the GRO authors' public PyTorch code: every set folder under `$GOLDEN_DIR` (by default the
//! copy at the root of this repository) holds scores and the figures that code computed from them in float32.
//!
//! The path is that of an evaluation: lists, ranks and the scores of a list come from a [`Catalogue`], which is made so that
//! the scores are the golden ones to the bit; values come from the registry of metrics.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use kernels::Catalogue;
use metrics::{Ks, Measure, mean, of_lists, of_ranks, of_scores, rank_of};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

struct Set {
    name: String,
    expected: Value,
    bytes: Vec<u8>,
}

fn sets() -> Vec<Set> {
    let root = std::env::var_os("GOLDEN_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden"), PathBuf::from);
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

/// A catalogue, and states, whose scores are these: state i is the unit vector i, and item j's weight is column j.
struct Model {
    catalogue: Catalogue,
    states: Tensor,
}

impl Model {
    fn of(scores: &[Vec<f32>]) -> Self {
        let (rows, items) = (scores.len(), scores[0].len());
        let padding = std::iter::repeat_n(0.0, rows);
        let weight = padding.chain((0..items).flat_map(|item| scores.iter().map(move |row| row[item])));
        let weight = Tensor::from_vec(weight.collect::<Vec<f32>>(), (items + 1, rows), &Device::Cpu).unwrap();
        let states = Tensor::eye(rows, DType::F32, &Device::Cpu).unwrap();
        let model = Self { catalogue: Catalogue { weight, bias: None, items }, states };
        let all: Vec<u32> = (1..=items as u32).collect();
        assert_eq!(model.scores_of(&vec![all; rows]), scores);
        model
    }

    /// The first `k` items of each row.
    fn lists(&self, k: usize) -> Vec<Vec<u32>> {
        self.catalogue.top_k(&self.states, k).unwrap().to_vec2().unwrap()
    }

    /// The scores of items, a list a row.
    fn scores_of(&self, lists: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let ids = Tensor::from_vec(lists.concat(), (lists.len(), lists[0].len()), &Device::Cpu).unwrap();
        self.catalogue.pick(&self.states, &ids).unwrap().to_vec2().unwrap()
    }

    /// The rank of an item a row among all.
    fn ranks(&self, items: Vec<u32>) -> Vec<u32> {
        let items = Tensor::from_vec(items, self.states.dim(0).unwrap(), &Device::Cpu).unwrap();
        self.catalogue.ranks(&self.states, &items).unwrap().to_vec1().unwrap()
    }
}

/// The measure of that name, such as `NDCG@10`; the authors say Recall for hit rate, and KL-Div.
#[track_caller]
fn measure<Function>(figure: &str, of: fn(Ks<'_>) -> Vec<Measure<Function>>) -> Measure<Function> {
    let ours = figure.replace("Recall", "HR").replace("KL-Div", "KL");
    let ks: Vec<usize> = ours.split_once('@').map(|(_, k)| k.parse().unwrap()).into_iter().collect();
    let found = of(Ks::Each(&ks)).into_iter().find(|measure| measure.to_string() == ours);
    found.unwrap_or_else(|| panic!("a figure unknown here: {figure}"))
}

fn check(set: &Set, section: &str, figure: &str, values: &[f64]) {
    let (found, expected) = (mean(values), set.expected[section][figure].as_f64().unwrap());
    let room = 1e-6 * expected.abs().max(1e-3);
    assert!(
        (found - expected).abs() <= room,
        "{}: {section} {figure}: {found}, expected {expected}",
        set.name
    );
}

fn check_ranks(set: &Set, section: &str, ranks: &[Option<u32>]) {
    let named = set.expected[section].as_object().unwrap();
    assert!(!named.is_empty());
    for figure in named.keys() {
        let measure = measure(figure, of_ranks);
        let values: Vec<f64> = ranks.iter().map(|&rank| measure.value(rank)).collect();
        check(set, section, figure, &values);
    }
}

#[test]
fn golden_full_ranking() {
    for set in sets() {
        let answers = ids(&set, "answers").iter().map(|answer| answer[0]).collect();
        let ranks = Model::of(&scores(&set, "scores")).ranks(answers);
        check_ranks(&set, "full_ranking", &ranks.into_iter().map(Some).collect::<Vec<_>>());
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
        let surrogate = Model::of(&scores(&set, "scores"));
        let target = Model::of(&scores(&set, "target_scores"));
        let lists = target.lists(k_kl);
        let copied = surrogate.lists(k_kl);
        for figure in set.expected["similarity"].as_object().unwrap().keys() {
            let values: Vec<f64> = if figure == "KL-Div" {
                let measure = measure(figure, of_scores);
                let rows = target.scores_of(&lists).into_iter().zip(surrogate.scores_of(&lists));
                rows.map(|(target, surrogate)| measure.value(&target, &surrogate)).collect()
            } else {
                let measure = measure(figure, of_lists);
                lists.iter().zip(&copied).map(|(target, copy)| measure.value(target, copy)).collect()
            };
            check(&set, "similarity", figure, &values);
        }
    }
}

#[test]
fn golden_reversed_lists() {
    for set in sets() {
        let expected = ids(&set, "reverse_top_items");
        let mut lists = Model::of(&scores(&set, "scores")).lists(expected[0].len());
        for list in &mut lists {
            list.reverse();
        }
        assert_eq!(lists, expected, "{}", set.name);
    }
}
