//! `gro-train import`, on archives laid out as `torch.save` lays them out: a zip with a protocol-2 pickle of
//! tensors that point into raw storages beside it.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use artifact::checkpoint::{Array, Checkpoint, read_arrays};
use artifact::dataset::{self, UserSequence};
use artifact::settings::Network;
use candle_core::{DType, Device};
use models::parameters::to_array;
use models::{ARCHITECTURES, Architecture, Contexts, Mode, Parameters, Sizes, bert4rec};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use streams::{Purpose, Streams};
use zip::write::SimpleFileOptions;

const SIZES: Sizes = Sizes {
    items: 12,
    network: Network { hidden: 8, blocks: 2, heads: 2, max_len: 6, dropout: 0.1, attention_dropout: 0.1 },
};

type Tensors = std::collections::BTreeMap<String, Array>;

fn weights() -> Tensors {
    let declared = (bert4rec::ARCHITECTURE.declare)(&SIZES);
    Parameters::initial(&declared, 1.0, &Streams::new(1), Purpose::TargetWeights, &Device::Cpu)
        .unwrap()
        .to_arrays()
        .unwrap()
}

/// Pickle opcodes, as far as a state dict needs them.
#[derive(Default)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn number(&mut self, number: usize) {
        self.0.push(b'J');
        self.0.extend((number as u32).to_le_bytes());
    }

    fn numbers(&mut self, numbers: &[usize]) {
        self.0.push(b'(');
        for &number in numbers {
            self.number(number);
        }
        self.0.push(b't');
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").bytes());
    }

    fn tensor(&mut self, storage: usize, shape: &[usize]) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.0.extend(b"((");
        self.text("storage");
        self.global("torch", "FloatStorage");
        self.text(&storage.to_string());
        self.text("cpu");
        self.number(shape.iter().product());
        self.0.extend(b"tQ");
        self.number(0);
        self.numbers(shape);
        let strides: Vec<usize> = (0..shape.len()).map(|d| shape[d + 1..].iter().product()).collect();
        self.numbers(&strides);
        self.0.push(0x89);
        self.global("collections", "OrderedDict");
        self.0.extend(b")RtR");
    }

    fn state_dict(&mut self, tensors: &Tensors) {
        self.0.extend(b"}(");
        for (storage, (name, array)) in tensors.iter().enumerate() {
            self.text(name);
            self.tensor(storage, &array.shape);
        }
        self.0.push(b'u');
    }
}

fn save(path: &Path, tensors: &Tensors, key: Option<&str>) {
    let mut pickle = Pickle(b"\x80\x02".to_vec());
    match key {
        None => pickle.state_dict(tensors),
        Some(key) => {
            pickle.0.extend(b"}(");
            pickle.text(key);
            pickle.state_dict(tensors);
            pickle.text("epoch");
            pickle.number(7);
            pickle.0.push(b'u');
        }
    }
    pickle.0.push(b'.');
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut archive = zip::ZipWriter::new(File::create(path).unwrap());
    archive.start_file("archive/data.pkl", options).unwrap();
    archive.write_all(&pickle.0).unwrap();
    for (storage, array) in tensors.values().enumerate() {
        archive.start_file(format!("archive/data/{storage}"), options).unwrap();
        let bytes: Vec<u8> = array.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        archive.write_all(&bytes).unwrap();
    }
    archive.finish().unwrap();
}

fn write_dataset(directory: &Path, items: u32) {
    std::fs::create_dir(directory).unwrap();
    let raw_items: Vec<String> = (1..=items).map(|id| id.to_string()).collect();
    let train: Vec<u32> = (1..=items).collect();
    let user = UserSequence { train: &train, valid: 1, test: Some(2) };
    dataset::write(directory, &raw_items, &["u"], [user]).unwrap();
}

fn import(directory: &Path, data: &str, out: &str) -> Output {
    import_as(bert4rec::ARCHITECTURE, directory, data, out, &[])
}

fn import_as(
    architecture: Architecture,
    directory: &Path,
    data: &str,
    out: &str,
    flags: &[String],
) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gro-train"))
        .args(["import", "--from", "model.pth", "--arch", &architecture.to_string()])
        .args(["--data", data, "--out", out])
        .args(flags)
        .current_dir(directory)
        .output()
        .unwrap()
}

#[test]
fn a_checkpoint_comes_in_bare_or_wrapped() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write_dataset(&at.join("data"), 12);
    let expected = weights();
    for (out, key) in [
        ("bare", None),
        ("wrapped", Some("model_state_dict")),
        ("lightning", Some("state_dict")),
        ("short", Some("model")),
    ] {
        save(&at.join("model.pth"), &expected, key);
        let output = import(at, "data", out);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let Checkpoint { description, tensors } =
            Checkpoint::read(&at.join(out).join("model.safetensors")).unwrap();
        assert_eq!(Sizes::from(&description), SIZES);
        assert!(tensors == expected);
    }
}

/// The weights as a safetensors file of this type.
fn save_safetensors(path: &Path, tensors: &Tensors, dtype: Dtype) {
    let bytes = |array: &Array| -> Vec<u8> {
        let values = array.values.iter();
        match dtype {
            // Of numbers that are exact in it, the upper half.
            Dtype::BF16 => values.flat_map(|value| value.to_le_bytes()[2..].to_vec()).collect(),
            Dtype::F64 => values.flat_map(|value| f64::from(*value).to_le_bytes()).collect(),
            _ => values.flat_map(|value| value.to_le_bytes()).collect(),
        }
    };
    let data: Vec<(&String, Vec<usize>, Vec<u8>)> =
        tensors.iter().map(|(name, array)| (name, array.shape.clone(), bytes(array))).collect();
    let views = data
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

#[test]
fn names_may_all_begin_with_something_and_numbers_be_of_another_type() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write_dataset(&at.join("data"), 12);
    // Exact in every type.
    let expected: Tensors = weights()
        .into_iter()
        .map(|(name, mut array)| {
            array.values.iter_mut().for_each(|value| *value = (*value * 64.0).round() / 64.0);
            (name, array)
        })
        .collect();
    let named = |prefix: &str| -> Tensors {
        expected.iter().map(|(name, array)| (format!("{prefix}{name}"), array.clone())).collect()
    };
    let imported = |what: &str| {
        let output = import(at, "data", "out");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{what}: {log}");
        assert!(Checkpoint::read(&at.join("out/model.safetensors")).unwrap().tensors == expected, "{what}");
        log
    };
    for prefix in ["module.", "model.", "_orig_mod.", "module._orig_mod.", "recommender."] {
        save(&at.join("model.pth"), &named(prefix), Some("state_dict"));
        let log = imported(prefix);
        let first = prefix.split_inclusive('.').next().unwrap();
        assert!(log.contains(&format!("every name in model.pth begins with `{first}`")), "{log}");
    }
    for dtype in [Dtype::F32, Dtype::BF16, Dtype::F64] {
        for prefix in ["", "module."] {
            save_safetensors(&at.join("model.pth"), &named(prefix), dtype);
            imported(&format!("{dtype:?} {prefix}"));
        }
    }
    // The first byte of a header's length may be that of a pickle.
    let mut padded = std::fs::read(at.join("model.pth")).unwrap();
    let length = u64::from_le_bytes(padded[..8].try_into().unwrap());
    let more = (0x80 + 256 - length % 256) % 256;
    padded.splice((8 + length) as usize..(8 + length) as usize, std::iter::repeat_n(b' ', more as usize));
    padded[..8].copy_from_slice(&(length + more).to_le_bytes());
    assert_eq!(padded[0], 0x80);
    std::fs::write(at.join("model.pth"), &padded).unwrap();
    imported("padded");
    for (bytes, expected) in [
        (&padded[..padded.len() / 2], "model.pth is no whole safetensors file; copy it again"),
        (&padded[..200], "model.pth is no whole safetensors file; copy it again"),
        (&b"\x1f\x8b\x08\0"[..], "model.pth: is packed with gzip, expected a checkpoint"),
        (b"{\"a\": 1}", "model.pth: is JSON, expected a checkpoint"),
    ] {
        std::fs::write(at.join("model.pth"), bytes).unwrap();
        let output = import(at, "data", "out");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && message.contains(expected), "{message}");
    }
}

#[test]
fn keys_that_are_none_of_weights_are_listed() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write_dataset(&at.join("data"), 12);
    save(&at.join("model.pth"), &weights(), Some("weights"));
    let output = import(at, "data", "out");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(
        message.contains(
            "model.pth: holds no tensors, bare or under `model_state_dict`, `state_dict` or `model`; the keys there are \
             epoch, weights"
        ),
        "{message}"
    );
    // Of many that do not fit a few are shown.
    let foreign: Tensors =
        weights().into_iter().map(|(name, array)| (name.replace('.', "/"), array)).collect();
    save(&at.join("model.pth"), &foreign, None);
    let output = import(at, "data", "out");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains(" and ") && message.contains(" more; ") && message.len() < 1500, "{message}");
    assert_eq!(message.trim_end().lines().count(), 1, "{message}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write_dataset(&at.join("data"), 12);
    write_dataset(&at.join("other"), 13);
    let refusal = |data: &str| {
        let output = import(at, data, "out");
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!at.join("out").exists());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let whole = weights();
    save(&at.join("model.pth"), &whole, None);
    assert!(refusal("other").contains("scores 12 items, other has 13"));

    // Everything that does not fit is listed, in name order.
    let mut other = whole.clone();
    other.remove("model.linear.bias");
    other.remove("embedding.layer_norm.bias");
    other.insert("model.gru.weight".to_owned(), Array { shape: vec![1], values: vec![0.0] });
    other.insert("model.linear.weight".to_owned(), Array { shape: vec![8, 4], values: vec![0.0; 32] });
    save(&at.join("model.pth"), &other, None);
    assert!(
        refusal("data").contains(
            "model.pth holds no bert of 12 items, hidden 8, 2 blocks, 2 heads, max_len 6: 38 tensors are there, 39 expected; \
             2 missing: `embedding.layer_norm.bias` [8], `model.linear.bias` [8]; \
             1 not belonging there: `model.gru.weight` [1]; \
             1 of another shape: `model.linear.weight` has shape [8, 4], expected [8, 8]\n"
        ),
        "{}",
        refusal("data")
    );

    // Sizes that the shapes agree on and no model has.
    let declared =
        (bert4rec::ARCHITECTURE.declare)(&Sizes { network: Network { hidden: 7, ..SIZES.network }, ..SIZES });
    let odd = declared.into_iter().map(|tensor| {
        let values = vec![0.5; tensor.shape.iter().product()];
        (tensor.name, Array { shape: tensor.shape, values })
    });
    save(&at.join("model.pth"), &odd.collect(), None);
    assert!(refusal("data").contains("2 heads do not divide its width of 7; set model.heads"));

    let mut infinite = whole.clone();
    infinite.get_mut("model.bias").unwrap().values[3] = f32::NAN;
    save(&at.join("model.pth"), &infinite, None);
    assert!(refusal("data").contains("tensor `model.bias` holds NaN at index 3"));
}

#[test]
fn what_is_no_whole_archive_of_torch_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write_dataset(&at.join("data"), 12);
    save(&at.join("model.pth"), &weights(), None);
    let whole = std::fs::read(at.join("model.pth")).unwrap();
    let mut changed = whole.clone();
    // A number inside a storage: the archive's checksum does not hold any more.
    let inside = changed.windows(14).position(|bytes| bytes == b"archive/data/3").unwrap() + 20;
    changed[inside] ^= 1;
    let mut foreign = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    foreign.start_file("weights.bin", SimpleFileOptions::default()).unwrap();
    let foreign = foreign.finish().unwrap().into_inner();
    // The first bytes of what torch.save wrote before its archives: a pickled magic number.
    let legacy = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.";

    for (bytes, expected) in [
        (&b"not an archive"[..], "expected a checkpoint that torch.save wrote"),
        (b"", "expected a checkpoint that torch.save wrote"),
        (legacy, "which torch.save wrote before PyTorch 1.6"),
        (&whole[..whole.len() / 2], "its zip archive is not whole; copy the file again"),
        (&changed, "archive/data/3 is damaged; copy the file again"),
        (&foreign, "a zip archive without data.pkl"),
    ] {
        std::fs::write(at.join("model.pth"), bytes).unwrap();
        let output = import(at, "data", "out");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected) && message.contains("model.pth"), "{message}");
        assert!(!at.join("out").exists());
    }
}

/// The golden weights of every architecture come in as a `.pth` file, and score as the authors' code does.
#[test]
fn an_imported_model_scores_as_it_did_where_it_came_from() {
    let golden = std::env::var_os("GOLDEN_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden"), PathBuf::from);
    let mut compared = 0;
    for set in std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path()) {
        for architecture in ARCHITECTURES.entries.iter().copied() {
            let folder = set.join(architecture.to_string());
            if !folder.exists() {
                continue;
            }
            import_golden(architecture, &folder);
            compared += 1;
        }
    }
    assert!(compared > 0);
}

fn import_golden(architecture: Architecture, folder: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    write_dataset(&at.join("data"), config["num_items"].as_u64().unwrap() as u32);
    let (weights, _) = read_arrays(&folder.join("weights.safetensors")).unwrap();
    save(&at.join("model.pth"), &weights, Some("model_state_dict"));
    // What shapes do not tell.
    let flags = ["max_len", "num_heads"].into_iter().flat_map(|key| {
        ["--set".to_owned(), format!("model.{}={}", key.trim_start_matches("num_"), config[key])]
    });
    let output = import_as(architecture, at, "data", "out", &flags.collect::<Vec<_>>());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (model, description) = models::load(&at.join("out/model.safetensors"), &Device::Cpu).unwrap();
    let size = |key: &str| config[key].as_u64().unwrap() as usize;
    assert_eq!((description.network.hidden, description.network.max_len), (size("hidden"), size("max_len")));

    let forward = candle_core::safetensors::load(folder.join("forward.safetensors"), &Device::Cpu).unwrap();
    let rows = forward["seqs"].to_dtype(DType::U32).unwrap().to_vec2::<u32>().unwrap();
    let mut contexts = Contexts::new();
    for row in rows {
        let real: Vec<u32> = row.into_iter().filter(|&id| id > 0).collect();
        let last = real.len() as u32 - 1;
        contexts.push(real, [last]);
    }
    let states = model.encode(&contexts.upload(&Device::Cpu).unwrap(), Mode::Evaluate).unwrap();
    let ours = to_array(&model.catalogue().scores(&states).unwrap()).unwrap();
    // NARM has one row of scores a sequence, the others a row for every place as well.
    let theirs = to_array(forward.get("scores_last").unwrap_or(&forward["scores"])).unwrap();
    assert_eq!(ours.shape, theirs.shape);
    let scale = theirs.values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    for (index, (a, b)) in ours.values.iter().zip(&theirs.values).enumerate() {
        assert!((a - b).abs() <= 1e-4 * scale, "{}, score {index}: {a} against {b}", folder.display());
    }
}
