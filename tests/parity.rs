//! Parity with the authors' PyTorch code. The numbers lie in `tests/golden/` of the repository (or the folder
//! in `GOLDEN_DIR`), one folder a set; every set found there is read. Its README says how they were made.
//!
//! Scores and losses must agree to 1e-4 relative, gradients to 1e-4 of the tensor's largest, weights after a
//! step to 2e-6, except elements whose gradient is itself rounding noise: Adam moves those by up to its
//! learning rate whatever their size. Tensors whose true gradient is zero are left out, but for being tiny.
//!
//! `GRO_DEVICE=cuda:0` does it on a GPU, `GRO_KERNELS=plain` with the operations that a GPU uses.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should say where")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use artifact::settings::{Network, Optimizer, Precision};
use candle_core::{DType, Device, Tensor};
use defend::methods::gro::{self, ZeroGradient};
use kernels::Margins;
use models::{
    Architecture, Contexts, Mode, Parameters, Recommender, Sizes, TrainingBatch, Weights, bert4rec, narm,
    sasrec,
};
use training::Trainee;
use training::optimizer::AdamW;

type Tensors = HashMap<String, Tensor>;

/// Where to compute, as the environment says it.
fn device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let named = |name: &str| std::env::var(name).ok();
    let plain = named("GRO_KERNELS").is_some_and(|kernels| kernels == "plain");
    DEVICE
        .get_or_init(|| {
            kernels::set_plain(plain);
            models::device(named("GRO_DEVICE").as_deref().unwrap_or("cpu").parse().unwrap()).unwrap()
        })
        .clone()
}

struct Set {
    path: PathBuf,
    architecture: Architecture,
    sizes: Sizes,
    config: serde_json::Value,
}

impl Set {
    fn read(&self, file: &str) -> Tensors {
        candle_core::safetensors::load(self.path.join(file), &device()).unwrap()
    }

    fn number(&self, key: &str) -> f64 {
        self.config[key].as_f64().unwrap()
    }

    fn optimizer(&self) -> Optimizer {
        Optimizer {
            learning_rate: self.number("lr"),
            beta1: self.config["adam_betas"][0].as_f64().unwrap(),
            beta2: self.config["adam_betas"][1].as_f64().unwrap(),
            epsilon: self.number("adam_epsilon"),
            weight_decay: self.number("weight_decay"),
            clip_norm: self.number("clip_norm_per_parameter"),
            embedding_deviation: 1.0,
            precision: Precision::F32,
        }
    }

    fn margins(&self) -> Margins {
        Margins { rank: self.number("margin_topk"), negative: self.number("margin_neg") }
    }

    /// Parameters from the tensors under `prefix`.
    fn parameters(&self, tensors: &Tensors, prefix: &str) -> Parameters {
        let arrays = tensors
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor)))
            .map(|(name, tensor)| (name, models::parameters::to_array(tensor).unwrap()))
            .collect();
        let declared = (self.architecture.declare)(&self.sizes);
        Parameters::from_arrays(&arrays, &declared, "golden", &device()).unwrap()
    }

    fn build(&self, weights: &Weights) -> Box<dyn Recommender> {
        (self.architecture.build)(&self.sizes, weights).unwrap()
    }
}

/// Every golden set of an architecture.
fn sets(architecture: Architecture) -> Vec<Set> {
    let root = std::env::var_os("GOLDEN_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden"), PathBuf::from);
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let sets: Vec<Set> = folders
        .into_iter()
        .map(|folder| folder.join(architecture.to_string()))
        .filter(|path| path.join("config.json").exists())
        .map(|path| {
            let text = std::fs::read_to_string(path.join("config.json")).unwrap();
            let config: serde_json::Value = serde_json::from_str(&text).unwrap();
            let size = |key: &str| config[key].as_u64().unwrap() as usize;
            let sizes = Sizes {
                items: size("num_items"),
                network: Network {
                    hidden: size("hidden"),
                    blocks: size("num_blocks"),
                    heads: size("num_heads"),
                    max_len: size("max_len"),
                    dropout: 0.0,
                    attention_dropout: 0.0,
                },
            };
            Set { path, architecture, sizes, config }
        })
        .collect();
    assert!(!sets.is_empty(), "no golden set of {architecture} in {}", root.display());
    sets
}

fn ids(tensor: &Tensor) -> Vec<Vec<u32>> {
    let tensor = if tensor.rank() == 1 { tensor.unsqueeze(1).unwrap() } else { tensor.clone() };
    tensor.to_dtype(DType::U32).unwrap().to_vec2().unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn scalar(tensor: &Tensor) -> f32 {
    values(tensor)[0]
}

#[track_caller]
fn assert_close(ours: &[f32], theirs: &[f32], relative: f32, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let scale = theirs.iter().fold(0f32, |m, v| m.max(v.abs())).max(1e-6);
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= relative * scale, "{what}[{i}]: {a} against {b} (scale {scale})");
    }
}

/// Without those whose true gradient is zero: the key bias, and NARM's `a_global`, which at these weights keeps every
/// hardsigmoid on its straight part and so shifts the energies of all steps alike.
fn has_gradient(name: &str) -> bool {
    !name.ends_with("linear_layers.1.bias") && name != "model.a_global.weight"
}

#[track_caller]
fn assert_gradients(
    parameters: &Parameters,
    gradients: &candle_core::backprop::GradStore,
    golden: &Tensors,
    prefix: &str,
) {
    for (name, variable) in parameters.iter() {
        let gradient = gradients.get(variable).unwrap_or_else(|| panic!("{name} has no gradient"));
        if has_gradient(name) {
            assert_close(&values(gradient), &values(&golden[&format!("{prefix}{name}")]), 1e-4, name);
        } else {
            assert!(values(gradient).iter().all(|g| g.abs() < 1e-6), "{name} has a gradient");
        }
    }
}

#[track_caller]
fn assert_stepped(set: &Set, parameters: &Parameters, golden: &Tensors, after: &str, grad: &str) {
    let lr = set.number("lr") as f32;
    for (name, variable) in parameters.iter().filter(|(name, _)| has_gradient(name)) {
        let (ours, theirs) = (values(variable), values(&golden[&format!("{after}{name}")]));
        let gradient = values(&golden[&format!("{grad}{name}")]);
        // What the comparison of gradients lets pass.
        let noise = 1e-4 * gradient.iter().fold(1e-6, |m: f32, g| m.max(g.abs()));
        for (i, ((a, b), g)) in ours.iter().zip(&theirs).zip(&gradient).enumerate() {
            let bound = if g.abs() <= noise { 2.0 * lr } else { 2e-6 };
            assert!((a - b).abs() <= bound, "{after}{name}[{i}]: {a} against {b}, gradient {g}");
        }
    }
}

/// Rows without their left padding, and where each kept place lay in the padded matrix.
fn unpad(rows: &[Vec<u32>]) -> (Vec<Vec<u32>>, Vec<usize>) {
    let width = rows[0].len();
    let mut places = Vec::new();
    let real = rows
        .iter()
        .enumerate()
        .map(|(r, row)| {
            let first = row.iter().position(|&id| id != 0).unwrap_or(width);
            places.extend((first..width).map(|column| r * width + column));
            row[first..].to_vec()
        })
        .collect();
    (real, places)
}

/// Every row whole, and the last place of each alone.
fn forward(architecture: Architecture) {
    for set in sets(architecture) {
        let parameters = set.parameters(&set.read("weights.safetensors"), "");
        let golden = set.read("forward.safetensors");
        let model = set.build(&parameters.detached());
        let (rows, places) = unpad(&ids(&golden["seqs"]));
        let mut contexts = Contexts::new();
        for row in &rows {
            contexts.push(row.iter().copied(), 0..row.len() as u32);
        }
        let states = model.encode(&contexts.upload(&device()).unwrap(), Mode::Evaluate).unwrap();
        let scores = model.catalogue().scores(&states).unwrap();
        let columns = scores.dim(1).unwrap();
        let theirs = values(&golden["scores"]);
        let expected: Vec<f32> =
            places.iter().flat_map(|p| theirs[p * columns..(p + 1) * columns].to_vec()).collect();
        assert_close(&values(&scores), &expected, 1e-4, "scores");

        // The last places alone, as prediction asks for them, give the same scores.
        let mut contexts = Contexts::new();
        for row in &rows {
            contexts.push(row.iter().copied(), [row.len() as u32 - 1]);
        }
        let states = model.encode(&contexts.upload(&device()).unwrap(), Mode::Evaluate).unwrap();
        let last = model.catalogue().scores(&states).unwrap();
        assert_close(&values(&last), &values(&golden["scores_last"]), 1e-4, "scores_last");
    }
}

#[test]
fn golden_bert_forward() {
    forward(bert4rec::ARCHITECTURE);
}

#[test]
fn golden_sas_forward() {
    forward(sasrec::ARCHITECTURE);
}

/// NARM's rows are padded on the right, and scored after their last item; all prefixes come from one pass.
#[test]
fn golden_narm_forward() {
    for set in sets(narm::ARCHITECTURE) {
        let parameters = set.parameters(&set.read("weights.safetensors"), "");
        let golden = set.read("forward.safetensors");
        let model = set.build(&parameters.detached());
        let states =
            |contexts: Contexts| model.encode(&contexts.upload(&device()).unwrap(), Mode::Evaluate).unwrap();
        let rows: Vec<Vec<u32>> = ids(&golden["seqs"]).iter().map(|row| real(row)).collect();
        let histories: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let last = states(model.contexts(&histories));
        let scores = model.catalogue().scores(&last).unwrap();
        assert_close(&values(&scores), &values(&golden["scores"]), 1e-4, "scores");

        for row in histories {
            let mut all = Contexts::new();
            model.push_prefixes(row, &(1..=row.len()).collect::<Vec<_>>(), &mut all);
            let prefixes: Vec<&[u32]> = (1..=row.len()).map(|length| &row[..length]).collect();
            let one_by_one = states(model.contexts(&prefixes));
            assert_close(&values(&states(all)), &values(&one_by_one), 1e-5, "prefixes");
        }
    }
}

/// The items of a row without its padding.
fn real(row: &[u32]) -> Vec<u32> {
    row.iter().copied().filter(|&id| id != 0).collect()
}

/// Reads a tensor of ids of the step at hand.
type ReadIds<'a> = &'a dyn Fn(&str) -> Vec<Vec<u32>>;

/// Three steps of the optimizer, on batches made of the tensors `seqs`, `labels` and what else there is.
fn train(architecture: Architecture, batch: fn(ReadIds<'_>) -> TrainingBatch) {
    for set in sets(architecture) {
        let parameters = set.parameters(&set.read("weights.safetensors"), "");
        let golden = set.read("train.safetensors");
        let model = set.build(&parameters.trainable());
        let mut optimizer = AdamW::new(&parameters, set.optimizer()).unwrap();
        for step in 0..3 {
            let at = |what: &str| format!("step{step}.{what}");
            let batch = batch(&|what| ids(&golden[&at(what)]));
            let states = model.encode(&batch.contexts.upload(&device()).unwrap(), Mode::Evaluate).unwrap();
            let loss = model.training_loss(&states, &batch).unwrap();
            assert_close(&[scalar(&loss)], &[scalar(&golden[&at("loss")])], 1e-5, &at("loss"));
            let gradients = loss.backward().unwrap();
            assert_gradients(&parameters, &gradients, &golden, &at("grad."));
            optimizer.step(&gradients).unwrap();
            assert_stepped(&set, &parameters, &golden, &at("after."), &at("grad."));
            // The next step begins where theirs did: what rounding noise moved must not add up.
            let theirs = parameters
                .iter()
                .map(|(name, _)| (name.to_owned(), golden[&at(&format!("after.{name}"))].clone()));
            parameters.restore(&theirs.collect()).unwrap();
        }
    }
}

#[test]
fn golden_bert_train() {
    train(bert4rec::ARCHITECTURE, |tensor| cloze_batch(&tensor("seqs"), &tensor("labels")));
}

#[test]
fn golden_sas_train() {
    train(sasrec::ARCHITECTURE, |tensor| {
        let mut batch = TrainingBatch::default();
        let rows = tensor("seqs").into_iter().zip(tensor("labels")).zip(tensor("negatives"));
        for ((row, labels), negatives) in rows {
            // A history of one item leaves nothing but padding as input.
            let first = row.iter().position(|&id| id != 0).unwrap_or(row.len());
            batch.contexts.push(row[first..].iter().copied(), 0..(row.len() - first) as u32);
            batch.labels.extend_from_slice(&labels[first..]);
            batch.negatives.extend_from_slice(&negatives[first..]);
        }
        batch
    });
}

#[test]
fn golden_narm_train() {
    train(narm::ARCHITECTURE, |tensor| {
        let mut batch = TrainingBatch::default();
        for row in tensor("seqs") {
            let row = real(&row);
            batch.contexts.push(row.iter().copied(), [row.len() as u32 - 1]);
        }
        batch.labels = tensor("labels").concat();
        batch
    });
}

/// A batch whose picked places are those with a label.
fn cloze_batch(seqs: &[Vec<u32>], labels: &[Vec<u32>]) -> TrainingBatch {
    let mut batch = TrainingBatch::default();
    for (row, labels) in seqs.iter().zip(labels) {
        let first = row.iter().position(|&id| id != 0).unwrap();
        let labels = &labels[first..];
        let places = labels.iter().enumerate().filter(|(_, label)| **label != 0);
        batch.contexts.push(row[first..].iter().copied(), places.clone().map(|(place, _)| place as u32));
        batch.labels.extend(places.map(|(_, label)| *label));
    }
    batch
}

fn distill(architecture: Architecture) {
    for set in sets(architecture) {
        let golden = set.read("distill.safetensors");
        let parameters = set.parameters(&golden, "weight.");
        let model = set.build(&parameters.trainable());
        let mut contexts = Contexts::new();
        for row in ids(&golden["seqs"]).iter().map(|row| real(row)) {
            contexts.push(row.iter().copied(), [row.len() as u32 - 1]);
        }
        let states = model.encode(&contexts.upload(&device()).unwrap(), Mode::Evaluate).unwrap();
        let answers = golden["candidates"].to_dtype(DType::U32).unwrap();
        let negatives = golden["negatives"].to_dtype(DType::U32).unwrap();
        let loss = model.catalogue().ranking_loss(&states, &answers, &negatives, set.margins()).unwrap().loss;
        assert_close(&[scalar(&loss)], &[scalar(&golden["loss"])], 1e-5, "loss");
        assert_gradients(&parameters, &loss.backward().unwrap(), &golden, "grad.");
    }
}

#[test]
fn golden_bert_distill() {
    distill(bert4rec::ARCHITECTURE);
}

#[test]
fn golden_sas_distill() {
    distill(sasrec::ARCHITECTURE);
}

#[test]
fn golden_narm_distill() {
    distill(narm::ARCHITECTURE);
}

fn generate(architecture: Architecture) {
    for set in sets(architecture) {
        let golden = set.read("generate.safetensors");
        let parameters = set.parameters(&golden, "weight.");
        let model = set.build(&parameters.detached());
        let rankings = golden["rankings"].to_dtype(DType::U32).unwrap().to_vec3::<u32>().unwrap();
        let (starts, picks, sequences) =
            (ids(&golden["start"]), ids(&golden["picks"]), ids(&golden["sequences"]));
        let k = rankings[0][0].len();
        for (row, start) in starts.iter().enumerate() {
            let mut history = start.clone();
            for (step, ranking) in rankings[row].iter().enumerate() {
                let contexts = model.contexts(&[&history]).upload(&device()).unwrap();
                let states = model.encode(&contexts, Mode::Evaluate).unwrap();
                let answer = values(&model.catalogue().top_k(&states, k).unwrap());
                let answer: Vec<u32> = answer.into_iter().map(|id| id as u32).collect();
                assert_eq!(&answer, ranking, "row {row} step {step}");
                if let Some(&pick) = picks[row].get(step) {
                    history.push(answer[pick as usize]);
                }
            }
            assert_eq!(history, sequences[row], "row {row}");
        }
    }
}

#[test]
fn golden_bert_generate() {
    generate(bert4rec::ARCHITECTURE);
}

#[test]
fn golden_sas_generate() {
    generate(sasrec::ARCHITECTURE);
}

#[test]
fn golden_narm_generate() {
    generate(narm::ARCHITECTURE);
}

/// One whole step of GRO: lists, replacements, losses, gradients, and both models after their optimizers.
/// The authors take item 1 where the gradient is zero, hence `first_item`.
#[test]
fn golden_bert_gro() {
    for set in sets(bert4rec::ARCHITECTURE) {
        let golden = set.read("gro.safetensors");
        let trainee = |prefix: &str| {
            let parameters = set.parameters(&golden, &format!("{prefix}.weight."));
            Trainee::new(set.architecture, &set.sizes, parameters, &set.optimizer()).unwrap()
        };
        let (mut target, mut student) = (trainee("target"), trainee("student"));

        let batch = cloze_batch(&ids(&golden["seqs"]), &ids(&golden["labels"]));
        let contexts = batch.contexts.upload(&device()).unwrap();
        let states = target.model.encode(&contexts, Mode::Evaluate).unwrap();
        let student_states = student.model.encode(&contexts, Mode::Evaluate).unwrap();
        let (_, k) = golden["top_k"].dims2().unwrap();
        let lists = target.model.catalogue().top_k(&states, k).unwrap();
        assert_eq!(ids(&lists), item_ids(&golden["top_k"]), "lists");

        let negatives = Tensor::new(item_ids(&golden["negatives"]), &device()).unwrap();
        let settings = gro::Settings {
            top_k: k,
            lambda: set.number("lambda_"),
            margin_rank: set.number("margin_topk"),
            margin_negative: set.number("margin_neg"),
            margin_swap: 0.0,
            zero_gradient: ZeroGradient::FirstItem,
            ..gro::Settings::default()
        };
        let losses = |settings| {
            let target = (target.model.catalogue(), &states);
            let student = (student.model.catalogue(), &student_states);
            gro::compare(target, student, &lists, &negatives, settings).unwrap()
        };
        let step = losses(&settings);
        assert_eq!(ids(&step.replacements), item_ids(&golden["replacement"]), "replacements");
        let zero: Vec<f32> = values(&step.gradient).iter().map(|&g| f32::from(g == 0.0)).collect();
        assert_eq!(zero, values(&golden["row_has_zero_gradient"]), "rows without a gradient");
        let own = target.model.training_loss(&states, &batch).unwrap();
        assert_close(&[scalar(&own)], &[scalar(&golden["target_loss"])], 1e-5, "target loss");
        assert_close(&[scalar(&step.student_loss)], &[scalar(&golden["student_loss"])], 1e-5, "student loss");
        assert_close(
            &[scalar(&step.swap_loss)],
            &[scalar(&golden["swap_loss_unweighted"])],
            1e-5,
            "swap loss",
        );

        // By default those rows have no replacement, and nothing else changes.
        let skipped = losses(&gro::Settings { zero_gradient: ZeroGradient::Skip, ..settings.clone() });
        let (skip, first) = (values(&skipped.replacements), values(&step.replacements));
        for ((skip, first), zero) in skip.iter().zip(&first).zip(&zero) {
            assert_eq!(*skip, if *zero == 1.0 { 0.0 } else { *first });
        }

        let total = (&own + (&step.swap_loss * settings.lambda).unwrap()).unwrap();
        assert_close(&[scalar(&total)], &[scalar(&golden["total_target_loss"])], 1e-5, "total");
        let sides = [("target", &total), ("student", &step.student_loss)];
        for (side, loss) in sides {
            let parameters = if side == "target" { &target.parameters } else { &student.parameters };
            let gradients = loss.backward().unwrap();
            assert_gradients(parameters, &gradients, &golden, &format!("{side}.grad."));
        }
        gro::update((&mut target, Some(&own)), &mut student, &step, settings.lambda).unwrap();
        for (side, trainee) in [("target", &target), ("student", &student)] {
            let (grad, after) = (format!("{side}.grad."), format!("{side}.after."));
            assert_stepped(&set, &trainee.parameters, &golden, &after, &grad);
        }
    }
}

/// Item ids from 0-based indices.
fn item_ids(indices: &Tensor) -> Vec<Vec<u32>> {
    ids(indices).into_iter().map(|row| row.into_iter().map(|index| index + 1).collect()).collect()
}
