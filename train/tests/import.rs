//! `gro-train import`, on archives laid out as `torch.save` lays them out: a zip with a protocol-2 pickle of
//! tensors that point into raw storages beside it.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use artifact::checkpoint::{Architecture, Array, Checkpoint};
use artifact::dataset::{self, UserSequence};
use candle_core::Device;
use recommender::{Parameters, Purpose, Sizes, Streams, declare};
use zip::write::SimpleFileOptions;

const SIZES: Sizes =
    Sizes { items: 12, hidden: 8, blocks: 2, heads: 2, max_len: 6, dropout: 0.1, attention_dropout: 0.1 };

type Tensors = std::collections::BTreeMap<String, Array>;

fn weights() -> Tensors {
    let declared = declare(Architecture::Bert, &SIZES);
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
    let user = UserSequence { train: &train, valid: 1, test: 2 };
    dataset::write(directory, &raw_items, &["u"], [user]).unwrap();
}

fn import(directory: &Path, data: &str, out: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gro-train"))
        .args(["import", "--from", "model.pth", "--arch", "bert", "--data", data, "--out", out])
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
    for (out, key) in [("bare", None), ("wrapped", Some("model_state_dict"))] {
        save(&at.join("model.pth"), &expected, key);
        let output = import(at, "data", out);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let Checkpoint { description, tensors } =
            Checkpoint::read(&at.join(out).join("model.safetensors")).unwrap();
        assert_eq!(Sizes::from(&description), SIZES);
        assert!(tensors == expected);
    }
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

    let mut part = whole.clone();
    part.remove("model.linear.bias");
    save(&at.join("model.pth"), &part, None);
    assert!(refusal("data").contains("`model.linear.bias` is missing"));

    let mut more = whole.clone();
    more.insert("model.gru.weight".to_owned(), Array { shape: vec![1], values: vec![0.0] });
    save(&at.join("model.pth"), &more, None);
    assert!(refusal("data").contains("`model.gru.weight` does not belong"));

    std::fs::write(at.join("model.pth"), b"not an archive").unwrap();
    assert!(refusal("data").contains("model.pth: expected a checkpoint"));
}
