//! Settings and locks that somebody edited, or a disk spoilt: each is read or refused in one line that names the file.

use std::fs;

use fuzzing::Target;
use stage::{Checked, Flags, Plan, Refusal, Settings, settings, verify};

const FILE: &str = "x-base: &base {batch: 7, epochs: 9}
seed: 5 # of everything
seeds: [1, 2]
model:
  architecture: sas
  hidden: 32
  dropout: 1e-1
train:
  <<: *base
  loss: cross_entropy
generate: {length: null, strategy: random, seed_sequences: .5}
evaluate:
  ks:
  - 1
  - 10
  exclude_seen: true
defend:
  gro: {lambda: 0.1}
preprocess:
  columns: {user: 'u', item: \"i\"}
";

const TOKENS: [&str; 24] = [
    "\n",
    "\t",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "&base ",
    "*base",
    "<<: ",
    "---\n",
    "...",
    "!!str ",
    "'",
    "\"",
    "|\n ",
    "null",
    "-1",
    "1e400",
    "18446744073709551616",
    ".nan",
    "\u{feff}",
    "train.epochs: 3",
];

/// What is said of an input, which does not speak of Rust's types unless the input does.
fn checked(refusal: &Refusal, input: &str) -> String {
    let message = refusal.to_string();
    for word in ["usize", "u64", "f64", "unit value", "invalid type", "struct "] {
        assert!(!message.contains(word) || input.contains(word), "{message}");
    }
    message
}

#[test]
fn a_damaged_settings_file_is_read_or_refused() {
    let directory = fuzzing::directory();
    let path = directory.path().join("settings.yaml");
    let flags = Flags { config: vec![path.clone()], ..Flags::default() };
    let all = serde_yaml::to_string(&Settings::default()).unwrap();
    let seeds = [FILE.as_bytes().to_vec(), all.into_bytes()];
    Target::new("settings", seeds).tokens(&TOKENS).holds(|bytes| {
        fs::write(&path, bytes).unwrap();
        settings::load(&flags).map(drop).map_err(|refusal| {
            let message = checked(&refusal, &String::from_utf8_lossy(bytes));
            assert!(message.contains("settings.yaml") || message.starts_with('`'), "{message}");
            message
        })
    });
}

#[test]
fn a_slip_in_an_assignment_is_read_or_refused() {
    let seeds = [
        "train.epochs=3",
        "evaluate.ks=[1, 10]",
        "generate.length=null",
        "preprocess.columns={user: u, item: i}",
        "defend.gro.lambda=0.1",
        "optimizer.learning_rate=1e-3",
    ];
    let seeds = seeds.map(|seed| seed.as_bytes().to_vec());
    Target::new("assignment", seeds).tokens(&TOKENS).tokens(&["=", ".", "model.", "seed"]).holds(|bytes| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let flags = Flags { set: vec![text.clone()], ..Flags::default() };
        settings::load(&flags).map(drop).map_err(|refusal| checked(&refusal, &text))
    });
}

#[test]
fn a_damaged_lock_is_read_or_refused() {
    let directory = fuzzing::directory();
    let (input, out) = (directory.path().join("input"), directory.path().join("out"));
    fs::write(&input, "input").unwrap();
    let settings = Checked::new(Settings::default()).unwrap();
    let plan = Plan::new("gro-test", &out, &Flags::default(), &settings, &["train"]).input(&input);
    plan.produce(|directory| Ok(fs::write(directory.join("output"), "output")?)).unwrap();
    let lock = out.join("stage.lock");
    let whole = fs::read(&lock).unwrap();
    let tokens =
        ["\n", "  ", "- path: ", "size: ", "18446744073709551615", "../", "[", "{", "null", "outputs:\n"];
    let next = Plan::new("gro-test", &directory.path().join("next"), &Flags::default(), &settings, &[]);
    let next = next.input(out.join("output"));
    Target::new("lock", [whole]).tokens(&tokens).holds_in(&lock, |_| {
        // Whoever verifies it tells what is wrong, and never fails over it.
        let verdicts = verify::tree(&out).map_err(|error| error.to_string())?;
        assert_eq!(verdicts.len(), 1);
        // And whoever reads the output refuses it, or finds it whole.
        match next.identity() {
            Ok(_) => Ok(()),
            Err(error) => {
                assert!(error.is::<Refusal>(), "{error:#}");
                Err(error.to_string())
            }
        }
    });
}
