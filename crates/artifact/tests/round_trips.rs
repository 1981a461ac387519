//! Every file of the contract: written, read back, compared; damaged, and refused by name.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use artifact::Error;
use artifact::checkpoint::{self, ActsOn, Array, Checkpoint, Defence, Description, Kind, Learning};
use artifact::dataset::{self, Dataset, UserSequence};
use artifact::history::{History, HistoryWriter, SpeedWriter};
use artifact::queries::{Generation, QueryHeader, QueryLog, QueryWriter, listed};
use artifact::ranks::{Column, Ranks};
use artifact::report::{self, Cell, REPORT_TABLE};
use artifact::settings::{Network, Sections};
use artifact::{digest, metrics};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

/// The message of an input error, its cause included.
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    assert!(error.is_input(), "{error} counts as a fault of the input");
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// The message of an error that is no fault of the input.
fn failed<T>(result: Result<T, Error>) -> String {
    let error = result.err().unwrap();
    assert!(!error.is_input(), "{error} does not count as a fault of the input");
    error.to_string()
}

fn assert_holds(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
}

/// Keep the first half of a file.
fn truncate(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

const RAW_ITEMS: [&str; 4] = ["10", "11", "ünï", "5000"];
const SEQUENCES: [UserSequence<'static>; 3] = [
    UserSequence { train: &[1, 2, 2, 3], valid: 4, test: Some(1) },
    UserSequence { train: &[], valid: 2, test: Some(2) },
    UserSequence { train: &[3], valid: 1, test: Some(4) },
];

fn write_data(directory: &Path) {
    dataset::write(directory, &RAW_ITEMS, &["a", "b", "c"], SEQUENCES).unwrap();
}

fn write_table(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn a_dataset_comes_back() {
    let directory = TempDir::new().unwrap();
    write_data(directory.path());
    let data = Dataset::read(directory.path()).unwrap();
    assert_eq!((data.users(), data.items(), data.interactions()), (3, 4, 11));
    for (index, sequence) in SEQUENCES.iter().enumerate() {
        assert_eq!(data.train(index), sequence.train);
        assert_eq!((data.valid(index), data.test(index)), (sequence.valid, sequence.test));
    }
    // By hand: item 1 is user 1's first and test, and user 3's valid; and so on.
    assert_eq!(data.item_counts(), [3, 4, 2, 2]);
    assert_eq!(data, Dataset::from_sequences(&RAW_ITEMS, SEQUENCES).unwrap());
    let stats = dataset::Stats::read(directory.path()).unwrap();
    assert_eq!((stats.shortest, stats.longest), (2, 6));
    assert_eq!(stats.density, 11.0 / 12.0);
    for file in dataset::files(directory.path()) {
        assert!(file.is_file());
    }
}

#[test]
fn datasets_larger_than_a_row_group_come_back() {
    let directory = TempDir::new().unwrap();
    let users = 70_000;
    let items = 70_000;
    let raw: Vec<String> = (0..items).map(|item| format!("i{item:06}")).collect();
    let train: Vec<u32> = (1..=20).collect();
    let sequences =
        || (0..users).map(|user| UserSequence { train: &train, valid: user % 7 + 1, test: Some(user + 1) });
    let users: Vec<String> = (0..users).map(|user| user.to_string()).collect();
    dataset::write(directory.path(), &raw, &users, sequences()).unwrap();
    assert_eq!(Dataset::read(directory.path()).unwrap(), Dataset::from_sequences(&raw, sequences()).unwrap());
}

#[test]
fn a_dataset_of_nobody_comes_back() {
    let directory = TempDir::new().unwrap();
    dataset::write::<&str, &str>(directory.path(), &[], &[], []).unwrap();
    assert_eq!(Dataset::read(directory.path()).unwrap().users(), 0);
}

#[test]
fn the_fingerprint_tells_numberings_apart() {
    let of = |ids: &[&str]| dataset::fingerprint(ids);
    assert_eq!(of(&["1", "23"]), of(&["1", "23"]));
    assert_ne!(of(&["1", "23"]), of(&["12", "3"]));
    assert_ne!(of(&["1", "23"]), of(&["23", "1"]));
    assert_ne!(of(&["1", "23"]), of(&["1", "23", ""]));
}

#[test]
fn columns_of_another_type_are_named() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(dataset::SEQUENCES);
    let ids = || -> ArrayRef { Arc::new(UInt32Array::from(vec![1])) };

    write_data(directory.path());
    let long: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1_i64)])]));
    write_table(&path, vec![("user", ids()), ("train", long), ("valid", ids()), ("test", ids())]);
    let message = refused(Dataset::read(directory.path()));
    assert_holds(&message, &["sequences.parquet", "column `train` is list<int64>, expected list<uint32>"]);

    let short: ArrayRef = Arc::new(ListArray::from_iter_primitive::<UInt32Type, _, _>([Some([Some(1)])]));
    write_table(&path, vec![("user", ids()), ("train", Arc::clone(&short)), ("valid", ids())]);
    let message = refused(Dataset::read(directory.path()));
    assert_holds(&message, &["has no column `test`; its columns are user, train, valid"]);

    let long: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    write_table(&path, vec![("user", ids()), ("train", short), ("valid", long), ("test", ids())]);
    assert_holds(&refused(Dataset::read(directory.path())), &["column `valid` is int64, expected uint32"]);
}

#[test]
fn empty_values_and_foreign_ids_are_named() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(dataset::SEQUENCES);
    let column = |id: Option<u32>| -> ArrayRef { Arc::new(UInt32Array::from(vec![id])) };
    let list = |ids: Option<Vec<Option<u32>>>| -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<UInt32Type, _, _>([ids]))
    };
    let one = || column(Some(1));
    let cases: Vec<(Vec<(&str, ArrayRef)>, &str)> = vec![
        (
            vec![
                ("user", one()),
                ("train", list(Some(vec![Some(1)]))),
                ("valid", column(None)),
                ("test", one()),
            ],
            "column `valid` holds an empty value",
        ),
        (
            vec![("user", one()), ("train", list(None)), ("valid", one()), ("test", one())],
            "column `train` holds an empty value",
        ),
        (
            vec![("user", one()), ("train", list(Some(vec![None]))), ("valid", one()), ("test", one())],
            "column `train` holds a list with an empty value",
        ),
        (
            vec![("user", one()), ("train", list(Some(vec![Some(5)]))), ("valid", one()), ("test", one())],
            "column `train`, user 1: item 5 lies outside 1..=4",
        ),
        (
            vec![("user", one()), ("train", list(Some(vec![]))), ("valid", one()), ("test", column(Some(0)))],
            "column `test`, user 1: item 0 lies outside 1..=4",
        ),
        (
            vec![("user", column(Some(2))), ("train", list(Some(vec![]))), ("valid", one()), ("test", one())],
            "row 1 is user 2, expected user 1",
        ),
    ];
    write_data(directory.path());
    for (columns, expected) in cases {
        write_table(&path, columns);
        assert_holds(&refused(Dataset::read(directory.path())), &["sequences.parquet", expected]);
    }
}

#[test]
fn tables_written_by_pandas_read_as_well() {
    // pandas keeps strings as large_utf8 and its list elements under the name `item`, all nullable.
    let directory = TempDir::new().unwrap();
    write_data(directory.path());
    let raw: ArrayRef = Arc::new(arrow_array::LargeStringArray::from(RAW_ITEMS.to_vec()));
    let ids: ArrayRef = Arc::new(UInt32Array::from(vec![1, 2, 3, 4]));
    let counts: ArrayRef = Arc::new(UInt64Array::from(vec![3, 4, 2, 2]));
    write_table(
        &directory.path().join(dataset::ITEMS),
        vec![("count", counts), ("raw_id", raw), ("item", ids)],
    );
    assert_eq!(
        Dataset::read(directory.path()).unwrap(),
        Dataset::from_sequences(&RAW_ITEMS, SEQUENCES).unwrap()
    );
}

#[test]
fn files_of_two_datasets_do_not_mix() {
    let directory = TempDir::new().unwrap();
    write_data(directory.path());
    let raw: ArrayRef = Arc::new(StringArray::from(vec!["10", "11", "12", "13"]));
    let ids: ArrayRef = Arc::new(UInt32Array::from(vec![1, 2, 3, 4]));
    let counts: ArrayRef = Arc::new(UInt64Array::from(vec![3, 4, 2, 2]));
    write_table(
        &directory.path().join(dataset::ITEMS),
        vec![("item", ids), ("raw_id", raw), ("count", counts)],
    );
    assert_holds(&refused(Dataset::read(directory.path())), &["stats.json", "fingerprint", "two runs"]);

    write_data(directory.path());
    dataset::write_sequences(&directory.path().join(dataset::SEQUENCES), 4, true, SEQUENCES[..2].to_vec())
        .unwrap();
    let message = refused(Dataset::read(directory.path()));
    assert_holds(&message, &["says 3 users and 11 interactions", "holds 2 and 8"]);
}

#[test]
fn truncated_and_missing_files_are_named() {
    for name in [dataset::SEQUENCES, dataset::ITEMS, dataset::STATS] {
        let directory = TempDir::new().unwrap();
        write_data(directory.path());
        truncate(&directory.path().join(name));
        assert_holds(&refused(Dataset::read(directory.path())), &["cannot read", name]);
        fs::remove_file(directory.path().join(name)).unwrap();
        assert_holds(&refused(Dataset::read(directory.path())), &["cannot read", name]);
    }
}

#[test]
fn no_foreign_id_is_ever_written() {
    let directory = TempDir::new().unwrap();
    let sequences = [UserSequence { train: &[1], valid: 5, test: Some(1) }];
    let message = failed(dataset::write(directory.path(), &RAW_ITEMS, &["a"], sequences));
    assert_holds(&message, &["user 1 has item 5, outside 1..=4"]);
    let message = failed(dataset::write(directory.path(), &RAW_ITEMS, &["a"], SEQUENCES));
    assert_holds(&message, &["3 sequences came for 1 users"]);
}

fn description() -> Description {
    Description {
        kind: Kind::Protected,
        architecture: "bert".to_owned(),
        items: 4,
        network: Network {
            hidden: 8,
            blocks: 1,
            heads: 2,
            max_len: 5,
            dropout: 0.1,
            attention_dropout: 0.25,
        },
        defence: Defence::answers(
            "random",
            Sections::from_iter([("answer_seed".to_owned(), u64::MAX.into())]),
        ),
        fingerprint: dataset::fingerprint(&RAW_ITEMS),
        splits: vec!["5e9".to_owned(), "c0c".to_owned()],
        queries: Some(QueryHeader {
            items: 4,
            k: 3,
            fingerprint: dataset::fingerprint(&RAW_ITEMS),
            splits: vec!["5e9".to_owned()],
            target: Some("7a4".to_owned()),
            queries: 12,
            sequences: 3,
            absent: 0,
            generation: None,
        }),
        learning: Some(Learning {
            loss: "softmax".to_owned(),
            suspicion: "none".to_owned(),
            choices: BTreeMap::from([("own_top".to_owned(), 0.5.into())]),
        }),
    }
}

fn checkpoint() -> Checkpoint {
    let tensors = [
        ("b.weight", Array { shape: vec![2, 3], values: vec![1.0, -0.0, 3.5e-40, f32::MAX, 0.1, -7.25] }),
        ("a.scalar", Array { shape: vec![], values: vec![2.0] }),
        ("a.empty", Array { shape: vec![0, 3], values: vec![] }),
    ];
    let tensors = tensors.into_iter().map(|(name, array)| (name.to_owned(), array)).collect();
    Checkpoint { description: description(), tensors }
}

#[test]
fn a_checkpoint_comes_back_to_the_bit() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(checkpoint::MODEL);
    checkpoint().write(&path).unwrap();
    let read = Checkpoint::read(&path).unwrap();
    assert_eq!(read, checkpoint());
    let bits =
        |of: &Checkpoint| -> Vec<u32> { of.tensors["b.weight"].values.iter().map(|x| x.to_bits()).collect() };
    assert_eq!(bits(&read), bits(&checkpoint()));
}

#[cfg(unix)]
#[test]
fn a_checkpoint_is_readable_as_any_other_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let [model, other] = ["model", "other"].map(|name| directory.path().join(name));
    checkpoint().write(&model).unwrap();
    std::fs::write(&other, "").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&model), mode(&other));
}

#[test]
fn a_checkpoint_of_something_else_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(checkpoint::MODEL);
    let raw = |dtype: &str, bytes: &[u8], metadata: &str| {
        let header = format!(
            r#"{{{metadata}"w":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,{}]}}}}"#,
            bytes.len()
        );
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(bytes);
        fs::write(&path, file).unwrap();
    };
    raw("F64", &1_f64.to_le_bytes(), "");
    assert_holds(
        &refused(Checkpoint::read(&path)),
        &["model.safetensors", "tensor `w` is F64, expected F32"],
    );
    raw("F32", &f32::NAN.to_le_bytes(), "");
    assert_holds(&refused(Checkpoint::read(&path)), &["tensor `w` holds NaN at index 0"]);
    raw("F32", &f32::NEG_INFINITY.to_le_bytes(), "");
    assert_holds(&refused(Checkpoint::read(&path)), &["tensor `w` holds -inf"]);
    raw("F32", &1_f32.to_le_bytes(), "");
    assert_holds(&refused(Checkpoint::read(&path)), &["no metadata key `gro`", "gro-train import"]);
    raw("F32", &1_f32.to_le_bytes(), r#""__metadata__":{"gro":"{\"kind\":\"target\"}"},"#);
    assert_holds(&refused(Checkpoint::read(&path)), &["model description", "architecture"]);

    checkpoint().write(&path).unwrap();
    truncate(&path);
    assert_holds(&refused(Checkpoint::read(&path)), &["cannot read", "truncated"]);
    fs::write(&path, b"").unwrap();
    assert_holds(&refused(Checkpoint::read(&path)), &["cannot read"]);
    fs::remove_file(&path).unwrap();
    assert_holds(&refused(Checkpoint::read(&path)), &["cannot read"]);
}

#[test]
fn a_model_that_diverged_is_not_kept() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(checkpoint::MODEL);
    let mut broken = checkpoint();
    broken.tensors.insert("c".to_owned(), Array { shape: vec![2], values: vec![0.0, f32::INFINITY] });
    assert_holds(&failed(broken.write(&path)), &["tensor `c` holds inf at index 1"]);
    broken.tensors.insert("c".to_owned(), Array { shape: vec![3], values: vec![0.0] });
    assert_holds(&failed(broken.write(&path)), &["tensor `c` has 1 values for the shape [3]"]);
    assert!(!path.exists());
}

#[test]
fn a_model_meets_its_own_dataset_only() {
    let (model, data) = (Path::new("target/model.safetensors"), Path::new("other/data"));
    let own = Dataset::from_sequences(&RAW_ITEMS, SEQUENCES).unwrap();
    description().check_dataset(&own, model, data).unwrap();
    let other = Dataset::from_sequences(&["1", "2", "3", "4"], SEQUENCES).unwrap();
    let message = refused(description().check_dataset(&other, model, data));
    assert_holds(
        &message,
        &["target/model.safetensors", "other/data", "another dataset", &own.fingerprint()[..12]],
    );
}

/// What version 0.1 wrote, key for key.
#[test]
fn a_defence_written_as_three_keys_is_still_read() {
    let read = |policy: &str, defense: &str| -> Defence {
        let earlier = format!(
            r#"{{"kind":"protected","architecture":"bert","items":4,"hidden":8,"blocks":1,"heads":2,"max_len":5,
            "dropout":0.1,"attention_dropout":0.25,"policy":"{policy}","policy_seed":7,"defense":"{defense}",
            "fingerprint":"f"}}"#
        );
        let read: Description = serde_json::from_str(&earlier).unwrap();
        assert_eq!(read.network, description().network);
        assert_eq!((read.architecture.as_str(), read.items, read.queries), ("bert", 4, None));
        read.defence
    };
    assert_eq!(read("none", "none"), Defence::none());
    assert_eq!(read("reverse", "reverse"), Defence::answers("reverse", Sections::new()));
    let seed = Sections::from_iter([("answer_seed".to_owned(), 7.into())]);
    assert_eq!(read("random", "random"), Defence::answers("random", seed));
    let gro = read("none", "gro");
    assert_eq!((gro.name.as_str(), gro.acts_on, gro.parameters.len()), ("gro", ActsOn::Weights, 0));
}

fn metrics_text(value: &impl serde::Serialize) -> String {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("metrics.json");
    metrics::write(&path, value).unwrap();
    fs::read_to_string(path).unwrap()
}

#[test]
fn metrics_are_exact_and_in_order() {
    let value = serde_json::json!({ "hr@10": { "value": 0.1, "low": 1e-20 }, "agr": 1.0 / 3.0, "b": null });
    let expected = "{\n  \"hr@10\": {\n    \"value\": 0.1,\n    \"low\": 1e-20\n  },\n  \"agr\": 0.3333333333333333,\n  \
                    \"b\": null\n}\n";
    assert_eq!(metrics_text(&value), expected);
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("metrics.json");
    metrics::write(&path, &value).unwrap();
    assert_eq!(metrics::read::<serde_json::Value>(&path).unwrap(), value);
    truncate(&path);
    assert_holds(&refused(metrics::read::<serde_json::Value>(&path)), &["metrics.json", "line"]);
}

/// Sequence `number` of a log over `items` items and lists of `k`, and its answers.
fn asked(number: usize, items: usize, k: usize) -> (Vec<u32>, Vec<u32>) {
    let length = number % 5 + 1;
    let id = |place: usize| (place % items) as u32 + 1;
    (
        (0..length).map(|step| id(number * 31 + step)).collect(),
        (0..length * k).map(|place| id(number + place)).collect(),
    )
}

#[test]
fn a_query_log_comes_back_in_bounded_groups() {
    let directory = TempDir::new().unwrap();
    let (items, k, sequences) = (50, 7, 200);
    let path = directory.path().join("queries.parquet");
    let generation = Generation {
        strategy: "random".to_owned(),
        seed_sequences: 0.1,
        seeded: 20,
        seed_length: 3,
        owned: 7,
        choices: BTreeMap::from([("pick".to_owned(), "1/place".into())]),
    };
    let header = QueryHeader {
        items,
        k,
        fingerprint: "f".to_owned(),
        queries: 9,
        sequences: 9,
        generation: Some(generation.clone()),
        ..QueryHeader::default()
    };
    let mut writer = QueryWriter::create(&path, header).unwrap();
    for number in 0..sequences {
        let (sequence, answers) = asked(number, items, k);
        writer.push(&sequence, &answers).unwrap();
    }
    let header = writer.finish().unwrap();
    assert_eq!((header.sequences, header.queries), (200, 600));
    assert_eq!(header.generation, Some(generation));

    let log = QueryLog::open(&path).unwrap();
    assert_eq!(*log.header(), header);
    assert_eq!((log.k(), log.sequences(), log.groups()), (k, sequences, 4));
    assert_eq!(
        log.longest_sequence().unwrap(),
        (0..sequences).map(|number| asked(number, items, k).0.len()).max().unwrap()
    );
    // From the last group to the first: groups do not depend on each other.
    for group in (0..log.groups()).rev() {
        for (place, query) in log.read_group(group).unwrap().into_iter().enumerate() {
            let (sequence, answers) = asked(group * 64 + place, items, k);
            assert_eq!((query.sequence, query.answers), (sequence, answers));
        }
    }
    assert_eq!(log.read_group(3).unwrap().len(), 200 - 3 * 64);
    assert_holds(&refused(log.read_group(4)), &["4 row groups"]);
}

#[test]
fn long_sequences_end_a_group_early() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("queries.parquet");
    let (items, k, length) = (1000, 1000, 300);
    let header = QueryHeader { items, k, ..QueryHeader::default() };
    let mut writer = QueryWriter::create(&path, header).unwrap();
    let answers: Vec<u32> = (0..length * k).map(|place| (place % items) as u32 + 1).collect();
    for _ in 0..10 {
        writer.push(&vec![1; length], &answers).unwrap();
    }
    writer.finish().unwrap();
    // 300,000 ids a sequence: the fourth reaches 2^20.
    let log = QueryLog::open(&path).unwrap();
    assert_eq!(log.groups(), 3);
    // A header that does not say how the sequences were chosen, as older logs have it.
    assert_eq!(log.header().generation, None);
}

#[test]
fn a_list_may_hold_fewer_items_and_ends_where_it_does() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("queries.parquet");
    let header = QueryHeader { items: 9, k: 3, ..QueryHeader::default() };
    let mut writer = QueryWriter::create(&path, header).unwrap();
    let answers = [7, 0, 0, 4, 5, 6, 1, 2, 0];
    writer.push(&[1, 2, 3], &answers).unwrap();
    assert_holds(&failed(writer.push(&[1], &[0, 0, 0])), &["item 0, outside 1..=9"]);
    assert_holds(&failed(writer.push(&[1], &[1, 0, 2])), &["item 0, outside 1..=9"]);
    assert_holds(&failed(writer.push(&[0], &[1, 2, 3])), &["item 0, outside 1..=9"]);
    assert_holds(&failed(writer.push(&[1], &[10, 0, 0])), &["item 10, outside 1..=9"]);
    let header = writer.finish().unwrap();
    assert_eq!((header.absent, header.price().items_listed), (3, 6));
    assert_eq!(header.first(1, 1).absent, 1);
    let log = QueryLog::open(&path).unwrap();
    assert_eq!(*log.header(), header);
    let query = log.read_group(0).unwrap().remove(0);
    assert_eq!(query.answers, answers);
    assert_eq!(
        query.answers.chunks_exact(3).map(listed).collect::<Vec<_>>(),
        [&[7][..], &[4, 5, 6], &[1, 2]]
    );
}

#[test]
fn a_query_log_that_its_header_does_not_fit_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("queries.parquet");
    let write = |items: usize, answers: &[u32]| {
        let header = QueryHeader { items, k: 2, ..QueryHeader::default() };
        let mut writer = QueryWriter::create(&path, header).unwrap();
        writer.push(&[1, 2], answers).unwrap();
        writer.finish().unwrap();
        fs::read(&path).unwrap()
    };
    for items in [usize::MAX, u32::MAX as usize] {
        write(items, &[1, 2, 3, 1]);
        assert_holds(&refused(QueryLog::open(&path)), &["queries.parquet", &format!("says {items} items")]);
    }
    write(9, &[1, 2, 3, 3]);
    assert_holds(
        &refused(QueryLog::open(&path).unwrap().read_group(0)),
        &["queries.parquet", "row 0 of group 0: the answer to question 2 lists item 3 twice"],
    );
    let whole = write(9, &[1, 2, 3, 1]);
    QueryLog::open(&path).unwrap().read_group(0).unwrap();
    // The header is text at the end of the file: another of the same length takes its place.
    for (said, other, expected) in [
        ("\"queries\":2", "\"queries\":9", "holds 4 answered ids, but its header says 9 lists of 2"),
        ("\"sequences\":1", "\"sequences\":8", "holds 1 sequences, but its header says 8"),
    ] {
        let place = whole.windows(said.len()).position(|window| window == said.as_bytes()).unwrap();
        let mut damaged = whole.clone();
        damaged[place..place + said.len()].copy_from_slice(other.as_bytes());
        fs::write(&path, &damaged).unwrap();
        assert_holds(&refused(QueryLog::open(&path)), &["queries.parquet", expected]);
    }
}

#[test]
fn a_wrong_query_log_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("queries.parquet");
    let header = QueryHeader { items: 3, k: 2, ..QueryHeader::default() };
    let mut writer = QueryWriter::create(&path, header.clone()).unwrap();
    assert_holds(&failed(writer.push(&[1, 2], &[1, 2, 3])), &["2 items and 3 answered ids"]);
    assert_holds(&failed(writer.push(&[], &[])), &["0 items"]);
    assert_holds(&failed(writer.push(&[4], &[1, 2])), &["item 4, outside 1..=3"]);
    assert_holds(&failed(writer.push(&[1], &[0, 2])), &["item 0, outside 1..=3"]);
    writer.push(&[1], &[3, 2]).unwrap();
    writer.finish().unwrap();
    truncate(&path);
    assert_holds(&refused(QueryLog::open(&path)), &["queries.parquet", "truncated"]);
    assert_holds(
        &failed(QueryWriter::create(&path, QueryHeader { k: 4, ..header })),
        &["lists of 4", "3 items"],
    );

    let ids: ArrayRef = Arc::new(UInt32Array::from(vec![1]));
    write_table(&path, vec![("sequence", ids)]);
    assert_holds(&refused(QueryLog::open(&path)), &["no metadata key `gro`", "gro-attack generate"]);
}

#[test]
fn ranks_come_back_with_their_gaps() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ranks.parquet");
    let ranks = Ranks {
        users: vec![1, 2, 3],
        columns: vec![
            ("rank".to_owned(), Column::Counts(vec![Some(1), None, Some(100)])),
            ("agr@10".to_owned(), Column::Values(vec![Some(0.1), Some(1.0), None])),
        ],
    };
    ranks.write(&path).unwrap();
    let read = Ranks::read(&path).unwrap();
    assert_eq!(read, ranks);
    assert_eq!(read.column("rank"), Some(&ranks.columns[0].1));
    assert_eq!(read.column("other"), None);
    let uneven = Ranks { users: vec![1], ..ranks };
    assert_holds(&failed(uneven.write(&path)), &["column `rank` has 3 rows for 1 users"]);
}

#[test]
fn a_history_resumes_where_its_state_was_saved() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("history.csv");
    let whole = |path: &Path| {
        let mut writer = HistoryWriter::create(path).unwrap();
        writer.push(1, &[("loss", Some(1.0 / 3.0)), ("valid", None)]).unwrap();
        writer.push(2, &[("valid", Some(1e-9)), ("loss", Some(2.0))]).unwrap();
        writer.push(3, &[("loss", Some(f64::NAN))]).unwrap();
        writer
    };
    drop(whole(&path));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, "epoch,loss,valid\n1,0.3333333333333333,\n2,2,0.000000001\n3,NaN,\n");

    let earlier = History::read(&path).unwrap();
    assert_eq!(earlier.series("valid"), [(2, 1e-9)]);
    assert_eq!(earlier.series("other"), []);
    let resumed = directory.path().join("resumed.csv");
    let mut writer = HistoryWriter::resume(&resumed, &earlier, 2).unwrap();
    writer.push(3, &[("loss", Some(f64::NAN))]).unwrap();
    assert_eq!(fs::read_to_string(&resumed).unwrap(), text);
    assert_holds(&failed(writer.push(4, &[("new", Some(1.0))])), &["epoch 4", "`new`"]);
}

#[test]
fn a_bad_history_is_refused_with_its_line() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("history.csv");
    for (text, parts) in [
        ("loss\n1\n", ["line 1", "begins with `epoch`"]),
        ("epoch,loss\n1,2\n2,x\n", ["line 3", "`2,x`"]),
        ("epoch,loss\n1,2,3\n", ["line 2", "1 numbers"]),
    ] {
        fs::write(&path, text).unwrap();
        assert_holds(&refused(History::read(&path)), &parts);
    }
    fs::write(&path, "").unwrap();
    assert_eq!(History::read(&path).unwrap(), History::default());
    let mut writer = HistoryWriter::create(&path).unwrap();
    assert_holds(&failed(writer.push(1, &[("a,b", None)])), &["`a,b`"]);
}

#[test]
fn speed_stands_apart() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("speed.csv");
    SpeedWriter::create(&path).unwrap().push(1, 2.0, 100).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "epoch,seconds,samples_per_second\n1,2.000,50.0\n");
}

#[test]
fn a_report_has_a_typed_row_for_every_figure() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(REPORT_TABLE);
    let popular = Cell {
        model: "popular".to_owned(),
        seeds: vec![1],
        figure: "MRR".to_owned(),
        mean: 0.1,
        low: Some(0.0),
        ..Cell::default()
    };
    let surrogate = Cell {
        model: "surrogate".to_owned(),
        target: Some("bert".to_owned()),
        seeds: vec![1, 7],
        queries: Some(1 << 40),
        deviation: Some(0.2),
        p_corrected: Some(0.03),
        seeds_needed: Some(4),
        ..popular.clone()
    };
    report::write(&path, &[popular, surrogate]).unwrap();

    let file = fs::File::open(&path).unwrap();
    let mut batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batch: RecordBatch = batches.next().unwrap().unwrap();
    assert_eq!((batch.num_rows(), batch.num_columns()), (2, 20));
    let column = |name: &str| batch.column_by_name(name).unwrap();
    let targets: Vec<_> = column("target").as_string::<i32>().iter().collect();
    assert_eq!(targets, [None, Some("bert")]);
    let queries: Vec<_> = column("queries").as_primitive::<UInt64Type>().iter().collect();
    assert_eq!(queries, [None, Some(1 << 40)]);
    let deviations: Vec<_> = column("deviation").as_primitive::<Float64Type>().iter().collect();
    assert_eq!(deviations, [None, Some(0.2)]);
    let chances: Vec<_> = column("p_corrected").as_primitive::<Float64Type>().iter().collect();
    assert_eq!(chances, [None, Some(0.03)]);
    let needed: Vec<_> = column("seeds_needed").as_primitive::<UInt64Type>().iter().collect();
    assert_eq!(needed, [None, Some(4)]);
    let seeds = column("seeds").as_list::<i32>().value(1);
    assert_eq!(seeds.as_primitive::<UInt64Type>().values(), &[1, 7]);
}

#[test]
fn equal_contents_give_equal_bytes() {
    let write_all = |directory: &Path| {
        write_data(directory);
        checkpoint().write(&directory.join("model.safetensors")).unwrap();
        let header = QueryHeader { items: 9, k: 3, ..QueryHeader::default() };
        let mut writer = QueryWriter::create(&directory.join("queries.parquet"), header).unwrap();
        for number in 0..100 {
            let (sequence, answers) = asked(number, 9, 3);
            writer.push(&sequence, &answers).unwrap();
        }
        writer.finish().unwrap();
        let column = Column::Counts(vec![None, Some(3)]);
        let ranks = Ranks { users: vec![1, 2], columns: vec![("rank".to_owned(), column)] };
        ranks.write(&directory.join("ranks.parquet")).unwrap();
    };
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write_all(first.path());
    write_all(second.path());
    let digests = |directory: &Path| -> BTreeMap<String, digest::Digest> {
        let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        files
            .map(|path| {
                (path.file_name().unwrap().to_str().unwrap().to_owned(), digest::file(&path).unwrap())
            })
            .collect()
    };
    assert_eq!(digests(first.path()).len(), 7);
    assert_eq!(digests(first.path()), digests(second.path()));
}

#[test]
fn a_digest_is_blake3() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, b"").unwrap();
    // The hash of nothing, from the first test vector that BLAKE3 publishes.
    let digest = digest::file(&path).unwrap();
    assert_eq!(digest.blake3, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    assert_eq!(digest.size, 0);
    assert_holds(&refused(digest::file(&directory.path().join("none"))), &["none"]);
}
