//! The layers of the settings and their check, through the files and words a user would write.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use artifact::names::{Named, Registry};
use stage::settings;
use stage::{Checked, Flags, Schema, Settings};
use tempfile::TempDir;

/// Settings from the texts of files and the values of `--set`.
fn load(files: &[&str], set: &[&str]) -> Result<Settings, String> {
    load_by(&Schema::default(), files, set)
}

/// The same, by a stage that knows more than the fixed tree.
fn load_by(schema: &Schema, files: &[&str], set: &[&str]) -> Result<Settings, String> {
    let directory = TempDir::new().unwrap();
    let config: Vec<PathBuf> =
        (0..files.len()).map(|index| directory.path().join(format!("{index}.yaml"))).collect();
    for (path, text) in config.iter().zip(files) {
        fs::write(path, text).unwrap();
    }
    let flags = Flags { config, set: set.iter().map(|&word| word.to_owned()).collect(), ..Flags::default() };
    let place = format!("{}/", directory.path().display());
    match schema.load(&flags) {
        Ok(checked) => Ok(checked.into_inner()),
        Err(refusal) => {
            let cause =
                std::error::Error::source(&refusal).map(|cause| format!(": {cause}")).unwrap_or_default();
            Err(format!("{refusal}{cause}").replace(&place, ""))
        }
    }
}

#[test]
fn no_file_an_empty_file_and_comments_mean_the_defaults() {
    for files in
        [&[][..], &[""], &["# nothing\n"], &["---\n"], &["train:\n", "model: {}\n"], &["train:\n  # later\n"]]
    {
        assert_eq!(load(files, &[]).unwrap(), Settings::default(), "{files:?}");
    }
}

#[test]
fn later_layers_win_key_by_key() {
    let settings = load(
        &[
            "seed: 5\nmodel: {hidden: 32, heads: 4}\nevaluate:\n  ks: [1, 2]\n",
            "model:\n  hidden: 16\ngenerate: {length: 50, strategy: random}\npreprocess: {format: movielens-1m}\n",
        ],
        &["generate.length=null", "train.epochs=3", "evaluate.ks=[7]"],
    )
    .unwrap();
    assert_eq!((settings.seed, settings.model.network.hidden, settings.model.network.heads), (5, 16, 4));
    assert_eq!((settings.generate.length, settings.generate.strategy.as_str()), (None, "random"));
    assert_eq!((settings.train.epochs, settings.evaluate.ks), (3, vec![7]));
    assert_eq!(settings.preprocess.format, "movielens-1m");
    assert_eq!(settings.train.batch, Settings::default().train.batch);
}

#[test]
fn an_experiment_can_be_repeated_for_seeds_and_surrogates() {
    let settings = load(&["seeds: [1, 2]\n"], &["surrogates=[bert, sas]"]).unwrap();
    assert_eq!(settings.seeds, Some(vec![1, 2]));
    assert_eq!(settings.surrogates, Some(vec!["bert".to_owned(), "sas".to_owned()]));
    assert_eq!(load(&["seeds: [1, 2]\n"], &["seeds=null"]).unwrap(), Settings::default());
    for (set, expected) in [
        ("seeds=[]", "`seeds` is empty"),
        ("seeds=[3, 4, 3]", "`seeds` holds 3 twice"),
        ("seeds=3", "seeds"),
        ("surrogates=[narm, narm]", "`surrogates` holds narm twice"),
    ] {
        let message = load(&[], &[set]).unwrap_err();
        assert!(message.contains(expected), "{set}: {message}");
    }
}

#[test]
fn a_seed_on_the_command_line_is_the_only_one_and_the_list_decides_no_output() {
    let with = |set: &str, seed| Flags { set: vec![set.to_owned()], seed, ..Flags::default() };
    let repeated = settings::load(&with("seeds=[1, 2]", Some(2))).unwrap();
    assert_eq!((repeated.seed, &repeated.seeds), (2, &None));
    // What a stage's lock holds of the settings: its sections, whatever the experiment is repeated for.
    let sections = |set| settings::load(&with(set, None)).unwrap().sections(&["model", "train"]);
    assert_eq!(sections("seeds=[1, 2]"), sections("seeds=[1, 2, 3]"));
    assert_eq!(sections("seeds=null"), sections("surrogates=[narm]"));
}

#[test]
fn a_value_is_found_by_its_path() {
    let checked = settings::load(&Flags::default()).unwrap();
    assert_eq!(checked.value("train.batch").unwrap().as_u64(), Some(128));
    assert!(checked.value("surrogates").unwrap().is_null());
    assert!(checked.value("model").unwrap().is_mapping());
    for (path, expected) in [("surogates", "`surrogates`"), ("train.bach", "`train.batch`"), ("", "train")] {
        let message = checked.value(path).unwrap_err().to_string();
        assert!(message.contains(expected), "{path}: {message}");
    }
}

#[test]
fn the_seed_flag_has_the_last_word() {
    let flags = Flags { set: vec!["seed=5".to_owned()], seed: Some(u64::MAX), ..Flags::default() };
    assert_eq!(settings::load(&flags).unwrap().seed, u64::MAX);
}

#[test]
fn numbers_read_as_they_are_commonly_written() {
    let settings =
        load(&["optimizer: {learning_rate: 1e-4, epsilon: 1.0e-8, weight_decay: 0}"], &[]).unwrap();
    assert_eq!(settings.optimizer.learning_rate, 1e-4);
    assert_eq!(settings.optimizer.epsilon, 1e-8);
    assert_eq!(settings.optimizer.weight_decay, 0.0);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let cases: [(&[&str], &[&str], &str); 7] = [
        (
            &["seed: 1\nmodel:\n  # width\n  hiden: 3\n"],
            &[],
            "0.yaml:4: unknown setting `model.hiden`; did you mean `model.hidden`?",
        ),
        (&["", "modle:\n  hidden: 3\n"], &[], "1.yaml:1: unknown setting `modle`; did you mean `model`?"),
        (
            &["train: {epoch: 3}\n"],
            &[],
            "0.yaml:1: unknown setting `train.epoch`; did you mean `train.epochs`?",
        ),
        (&["hidden: 3\n"], &[], "0.yaml:1: unknown setting `hidden`; did you mean `model.hidden`?"),
        (
            &["model:\n  dropout: 0.1\ntrain:\n  dropout: 0.1\n"],
            &[],
            "0.yaml:4: unknown setting `train.dropout`; did you mean `model.dropout`?",
        ),
        (
            &[],
            &["seed.x=1"],
            "--set seed.x=1: `seed` is a group of keys, expected a whole number of 0 or more",
        ),
        (
            &["optimizer:\n  zzz: 1\n"],
            &[],
            "0.yaml:2: unknown setting `optimizer.zzz`; the settings there are learning_rate, beta1, beta2, epsilon, \
             weight_decay, clip_norm, embedding_deviation, precision",
        ),
    ];
    for (files, set, expected) in cases {
        assert_eq!(load(files, set).unwrap_err(), expected);
    }
}

#[test]
fn the_layer_with_the_wrong_type_is_named() {
    let cases: [(&[&str], &[&str], &str); 5] = [
        (
            &["model:\n  hidden: wide\n"],
            &[],
            "0.yaml:2: `model.hidden` is \"wide\", expected a whole number of 0 or more",
        ),
        (
            &["evaluate:\n  ks: [1, x]\n", ""],
            &[],
            "0.yaml:2: `evaluate.ks[1]` is \"x\", expected a whole number of 0 or more",
        ),
        (
            &["train:\n  epochs: -1\n"],
            &[],
            "0.yaml:2: `train.epochs` is -1, expected a whole number of 0 or more",
        ),
        (&["model: 3\n"], &[], "0.yaml:1: `model` is one value, expected settings by name"),
        (&["- model\n"], &[], "0.yaml: it is a list, expected settings by name"),
    ];
    for (files, set, expected) in cases {
        let message = load(files, set).unwrap_err();
        assert!(message.contains(expected), "`{message}` does not say `{expected}`");
    }
}

#[test]
fn types_are_told_in_plain_words() {
    const COUNT: &str = "expected a whole number of 0 or more";
    for (set, expected) in [
        ("train.epochs=3.0", format!("`train.epochs` is 3.0, {COUNT}: write 3")),
        ("train.epochs=", format!("`train.epochs` is an empty value, {COUNT}")),
        ("train.epochs=many", format!("`train.epochs` is \"many\", {COUNT}")),
        ("train.epochs=-1", format!("`train.epochs` is -1, {COUNT}")),
        ("train.epochs=true", format!("`train.epochs` is true, {COUNT}")),
        ("train.epochs=1e30", format!("`train.epochs` is 1e30, {COUNT}, at most 18446744073709551615")),
        (
            "train.epochs=18446744073709551616",
            "the value holds 18446744073709551616, expected a number of at most 18446744073709551615".into(),
        ),
        (
            "train.epochs=18446744073709551615",
            "`train.epochs` is 18446744073709551615, expected at most 4294967295".into(),
        ),
        ("train.epochs=[3]", format!("`train.epochs` is a list, {COUNT}")),
        ("train.epochs={a: 3}", format!("`train.epochs` is a group of keys, {COUNT}")),
        ("model.dropout=low", "`model.dropout` is \"low\", expected a number".into()),
        ("model.dropout=", "`model.dropout` is an empty value, expected a number".into()),
        ("evaluate.exclude_seen=1", "`evaluate.exclude_seen` is 1, expected true or false".into()),
        ("evaluate.exclude_seen=yes", "`evaluate.exclude_seen` is \"yes\", expected true or false".into()),
        ("evaluate.ks=10", "`evaluate.ks` is 10, expected a list".into()),
        ("evaluate.ks=[1,2.5]", format!("`evaluate.ks[1]` is 2.5, {COUNT}")),
        ("generate.length=half", format!("`generate.length` is \"half\", {COUNT}")),
        ("generate.strategy=3", "`generate.strategy` is 3, expected a text".into()),
        ("surrogates=bert", "`surrogates` is \"bert\", expected a list".into()),
        ("train.loss=mse", "`train.loss` is `mse`, expected bce or cross_entropy".into()),
        ("train.loss=3", "`train.loss` is 3, expected bce or cross_entropy".into()),
        ("train.loss=[bce]", "`train.loss` is a list, expected bce or cross_entropy".into()),
        (
            "evaluate.ranking=all",
            "`evaluate.ranking` is `all`, expected one of full, uniform, popularity".into(),
        ),
        ("seed=one", format!("`seed` is \"one\", {COUNT}")),
        ("seeds=[1,x]", format!("`seeds[1]` is \"x\", {COUNT}")),
        ("preprocess.format=[csv]", "`preprocess.format` is a list, expected a text".into()),
        ("train=3", "`train` is one value, expected settings by name".into()),
    ] {
        let message = load(&[], &[set]).unwrap_err();
        assert!(message.contains(&*expected), "{set}: {message}");
    }
    let owned = load_by(&owner(), &[], &["defend.mirror.depth=2.0"]).unwrap_err();
    assert!(owned.ends_with(&format!("`defend.mirror.depth` is 2.0, {COUNT}: write 2")), "{owned}");
}

#[test]
fn a_dotted_key_in_a_file_is_told_how_to_nest() {
    for (file, expected) in [
        (
            "train.epochs: 3\n",
            "0.yaml:1: `train.epochs`: a key in a file has no dots; write it as `train: {epochs: 3}`",
        ),
        (
            "seed: 1\ndefend:\n  mirror.depth: 4\n",
            "0.yaml:3: `defend.mirror.depth`: a key in a file has no dots; write it as `defend: {mirror: {depth: 4}}`",
        ),
        ("evaluate.ks: [1, 5]\n", "write it as `evaluate: {ks: …}`"),
        ("train:{epochs: 3}\n", "a blank stands behind a colon; write it as `train: {epochs`"),
        ("train.epoch: 3\n", "unknown setting `train.epoch`; did you mean `train.epochs`?"),
        ("defend.random.answer_seed.x: 3\n", "unknown setting `defend.random.answer_seed.x`"),
    ] {
        let message = load_by(&owner(), &[file], &[]).unwrap_err();
        assert!(message.contains(expected), "{file}: {message}");
    }
    // Also where sections of others pass unread.
    let message = load(&["defend:\n  gro.lambda: 2\n"], &[]).unwrap_err();
    assert!(message.contains("unknown setting `defend.gro.lambda`"), "{message}");
}

#[test]
fn a_flag_that_is_written_as_a_setting_is_named() {
    for (file, expected) in [
        ("threads: 4\n", "0.yaml:1: `threads` is no setting; give the flag --threads N instead"),
        ("device: cpu\n", "give the flag --device DEVICE instead"),
        ("quiet: true\n", "give the flag --quiet instead"),
        ("json-log: true\n", "give the flag --json-log instead"),
        ("config: a.yaml\n", "give the flag --config FILE instead"),
        ("force: true\n", "give the flag --force instead"),
        (
            "train:\n  threads: 4\n",
            "0.yaml:2: `train.threads` is no setting; give the flag --threads N instead",
        ),
        ("out: there\n", "give the flag --out DIR to every stage instead"),
        ("data: there\n", "give the flag --data DIR to gro-train, gro-defend and gro-evaluate run instead"),
        ("target: there\n", "give the flag --target DIR to gro-defend, "),
        ("resume: true\n", "give the flag --resume to the stages that work long instead"),
        ("surrogate: bert\n", "give the flag --surrogate NAME to gro-attack distill instead"),
        ("method: gro\n", "give the flag --method NAME to gro-defend instead"),
    ] {
        let message = load(&[file], &[]).unwrap_err();
        assert!(message.contains(expected), "{file}: {message}");
    }
    // The seed is both.
    assert_eq!(load(&["seed: 7\n"], &[]).unwrap().seed, 7);
}

#[test]
fn anchors_and_merge_keys_are_resolved() {
    let settings = load(
        &["x-run: &run\n  batch: 7\n  epochs: 9\ntrain:\n  <<: *run\n  epochs: 3\ndistill: {<<: *run}\n\
           model: &m\n  hidden: &h 32\n  max_len: *h\n"],
        &[],
    )
    .unwrap();
    assert_eq!((settings.train.batch, settings.train.epochs), (7, 3));
    assert_eq!((settings.distill.batch, settings.distill.epochs), (7, 9));
    assert_eq!((settings.model.network.hidden, settings.model.network.max_len), (32, 32));
    // Several at once, the first winning; and within a section.
    let several =
        "x-a: &a {depth: 4}\nx-b: &b {depth: 5, strength: 2}\ndefend:\n  mirror:\n    <<: [*a, *b]\n";
    assert_eq!(mirror(&[several], &[]), Mirror { strength: 2.0, depth: 4, colour: None });
    for (file, expected) in [
        ("train:\n  <<: *run\n", "0.yaml:2: no anchor of that name"),
        ("train:\n  <<: 3\n", "0.yaml:2: `<<` merges keys, expected settings by name behind it"),
        (
            "base: &base {epochs: 3}\ntrain: {<<: *base}\n",
            "0.yaml:1: unknown setting `base`; the settings there are seed,",
        ),
        ("base: &base {epochs: 3}\n", "; a key that only holds an anchor begins with `x-`"),
    ] {
        let message = load(&[file], &[]).unwrap_err();
        assert!(message.contains(expected), "{file}: {message}");
    }
}

#[test]
fn a_file_that_is_not_one_document_of_settings_is_told_so() {
    for (file, expected) in [
        ("train:\n\tepochs: 3\n", "0.yaml:2: is indented with a tab, expected blanks"),
        ("train: {epochs: 3}\n---\nseed: 2\n", "0.yaml:2: a second document begins with `---`, expected one"),
        (
            "# first\n---\nseed: 1\n---\nseed: 2\n",
            "0.yaml:4: a second document begins with `---`, expected one",
        ),
        ("train\n", "0.yaml: it is one value, expected settings by name, such as `train: {epochs: 3}`"),
        ("- seed: 1\n", "0.yaml: it is a list, expected settings by name"),
        (
            "seed: 1\ntrain: {epochs: 3, batch: 2, epochs: 4}\n",
            "the key `train.epochs` stands there twice; keep one",
        ),
        ("1: 2\n", "0.yaml: the key 1 is no name of a setting"),
        ("train: {3: 4}\n", "the key 3 in `train` is no name of a setting"),
    ] {
        let message = load(&[file], &[]).unwrap_err();
        assert!(message.contains(expected), "{file}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert_eq!(load(&["\u{feff}seed: 5\n"], &[]).unwrap().seed, 5);
    assert_eq!(load(&["seed: 5\r\ntrain:\r\n  epochs: 3\r\n"], &[]).unwrap().train.epochs, 3);
    assert_eq!(load(&["\u{feff}"], &[]).unwrap(), Settings::default());
    let directory = TempDir::new().unwrap();
    for (bytes, expected) in [
        (&b"\xff\xfes\0e\0e\0d\0"[..], "settings.yaml: is UTF-16, expected UTF-8"),
        (b"seed: 1\n# \xe9\n", "settings.yaml:2: is not UTF-8"),
    ] {
        let path = directory.path().join("settings.yaml");
        fs::write(&path, bytes).unwrap();
        let message =
            settings::load(&Flags { config: vec![path], ..Flags::default() }).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn what_is_no_setting_at_all_is_refused() {
    let cases: [(&[&str], &[&str], &str); 6] = [
        (&["model: [1\n"], &[], "0.yaml:2: is not YAML as it should be: "),
        (&["seed: 1\nseed: 2\n"], &[], "0.yaml:1: the key `seed` stands there twice; keep one"),
        (&[], &["train.epochs"], "expected key.path=value"),
        (&[], &["train..epochs=1"], "expected key.path=value"),
        (&[], &["=1"], "expected key.path=value"),
        (&[], &["train.epochs=[1"], "the value is not YAML as it should be"),
    ];
    for (files, set, expected) in cases {
        let message = load(files, set).unwrap_err();
        assert!(message.contains(expected), "`{message}` does not say `{expected}`");
    }
    let flags = Flags { config: vec![PathBuf::from("nowhere.yaml")], ..Flags::default() };
    assert!(settings::load(&flags).unwrap_err().to_string().contains("nowhere.yaml"));
}

#[test]
fn values_that_no_run_can_use_are_refused_by_key() {
    for (assignment, expected) in [
        ("preprocess.min_user_count=2", "expected at least 3"),
        ("preprocess.min_rating=.nan", "expected a number"),
        ("model.hidden=0", "expected at least 1"),
        ("model.heads=3", "`model.heads` is 3, expected a divisor of `model.hidden`, 64"),
        ("model.max_len=1", "expected at least 2"),
        ("model.dropout=1", "`model.dropout` is 1, expected at least 0 and less than 1"),
        ("model.attention_dropout=-0.1", "expected at least 0"),
        ("optimizer.learning_rate=0", "expected more than 0"),
        ("optimizer.learning_rate=.inf", "expected more than 0"),
        ("optimizer.epsilon=1e-320", "is 1e-320, expected 0 or a number from 1e-45 to 3.4e38"),
        ("optimizer.learning_rate=1e308", "is 1e308, expected 0 or a number from 1e-45 to 3.4e38"),
        ("distill.margin_rank=1e308", "is 1e308, expected 0 or a number"),
        ("optimizer.beta2=1", "less than 1"),
        ("optimizer.weight_decay=-1", "expected at least 0"),
        ("optimizer.clip_norm=.nan", "expected more than 0"),
        ("train.epochs=0", "`train.epochs` is 0, expected at least 1"),
        ("train.mask_prob=0", "more than 0 and at most 1"),
        ("train.validate_every=0", "expected at least 1"),
        ("generate.top_k=1", "expected at least 2"),
        ("generate.length=0", "`generate.length` is 0"),
        ("distill.margin_rank=-1", "expected at least 0"),
        ("evaluate.ks=[]", "ascending order"),
        ("evaluate.ks=[0]", "ascending order"),
        ("evaluate.ks=[5,5]", "ascending order"),
        ("evaluate.ks=[101]", "expected at most `evaluate.top_k`, 100"),
        ("evaluate.bootstrap=0", "expected at least 1"),
    ] {
        let message = load(&[], &[assignment]).unwrap_err();
        let key = assignment.split('=').next().unwrap();
        assert!(
            message.contains(expected) && message.contains(&format!("`{key}`")),
            "{assignment}: {message}"
        );
    }
    assert!(load(&[], &["train.mask_prob=1", "model.dropout=0"]).is_ok());
}

#[test]
fn a_stage_depends_on_its_sections_only() {
    let checked = Checked::new(Settings::default()).unwrap();
    let sections = serde_yaml::to_string(&checked.sections(&["train", "optimizer"])).unwrap();
    assert!(sections.starts_with("optimizer:\n  learning_rate: 0.001\n"));
    assert!(sections.contains("\ntrain:\n  batch: 128\n") && !sections.contains("model:"));
    // What is written beside an output can be read again.
    let all = serde_yaml::to_string(&*checked).unwrap();
    assert_eq!(load(&[&all], &[]).unwrap(), Settings::default());
}

#[test]
fn columns_are_named_for_a_table_and_each_once() {
    for (set, expected) in [
        (
            &["preprocess.columns.user=u"][..],
            "`preprocess.columns.item` is null, expected the name of a column",
        ),
        (&["preprocess.format=table"], "`preprocess.columns.user` is null"),
        (&["preprocess.columns={user: u, item: u}"], "`preprocess.columns` names `u` twice"),
        (
            &["preprocess.columns={user: u, item: i}", "preprocess.format=amazon"],
            "expected only with `preprocess.format` auto, table or inter",
        ),
    ] {
        let message = load(&[], set).unwrap_err();
        assert!(message.contains(expected), "{set:?}: {message}");
    }
    let settings = load(&["preprocess:\n  columns:\n    user: u\n"], &["preprocess.columns.item=i"]).unwrap();
    assert_eq!(settings.preprocess.columns.user, Some(settings::Column::Name("u".to_owned())));
    assert_eq!(settings.preprocess.columns.timestamp, None);
}

/// A method with settings of its own, one of which names a colour.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mirror {
    strength: f64,
    depth: usize,
    colour: Option<String>,
}

impl Default for Mirror {
    fn default() -> Self {
        Self { strength: 0.5, depth: 3, colour: None }
    }
}

impl settings::Owned for Mirror {
    fn check(&self) -> Result<(), settings::Invalid> {
        settings::checks::not_negative("defend.mirror.strength", self.strength)
    }
}

struct Colour;

impl Named for Colour {
    fn name(&self) -> &'static str {
        "green"
    }

    fn title(&self) -> &'static str {
        "Green"
    }
}

const COLOURS: Registry<Colour> = Registry { kind: "colour", entries: &[Colour] };

/// A stage that owns the section and knows the colours.
fn owner() -> Schema {
    Schema::default()
        .names(&COLOURS, &["surrogates"])
        .sections("defend", [settings::Section::new::<Mirror>("defend", "mirror").read_flat()])
}

fn mirror(files: &[&str], set: &[&str]) -> Mirror {
    settings::owned(&load_by(&owner(), files, set).unwrap().defend, "mirror").unwrap()
}

#[test]
fn a_section_is_read_by_its_owner_over_its_defaults() {
    assert_eq!(mirror(&[], &[]), Mirror::default());
    let files = ["defend:\n  mirror:\n    depth: 4\n", "defend: {mirror: {strength: 1}}\n"];
    assert_eq!(mirror(&files, &[]), Mirror { strength: 1.0, depth: 4, colour: None });
    assert_eq!(mirror(&files, &["defend.mirror.depth=9"]).depth, 9);
    // As files of version 0.1 have it; what stands in the section itself is meant.
    assert_eq!(
        mirror(&["defend:\n  depth: 5\n"], &["defend.strength=2"]),
        Mirror { strength: 2.0, depth: 5, colour: None }
    );
    assert_eq!(mirror(&["defend: {depth: 5, mirror: {depth: 6}}\n"], &[]).depth, 6);
    assert_eq!(mirror(&["defend:\n"], &[]), Mirror::default());
    // JSON, as which sections are kept, has no such numbers, and would take them for nothing.
    for number in [".nan", ".inf", "-.inf"] {
        for key in ["defend.mirror.colour", "defend.colour", "defend.mirror.strength"] {
            let message = load_by(&owner(), &[], &[&format!("{key}={number}")]).unwrap_err();
            let setting = key.rsplit('.').next().unwrap();
            let expected = format!("`defend.mirror.{setting}` is ");
            assert!(
                message.contains(&expected) && message.contains("expected a finite number"),
                "{key}: {message}"
            );
        }
    }
}

#[test]
fn what_its_owner_cannot_use_is_refused_by_place() {
    for (files, set, expected) in [
        (
            &["defend:\n  mirror:\n    dept: 4\n"][..],
            &[][..],
            "0.yaml:3: unknown setting `defend.mirror.dept`; did you mean `defend.mirror.depth`?",
        ),
        (
            &["defend:\n  dept: 4\n"],
            &[],
            "0.yaml:2: unknown setting `defend.dept`; did you mean `defend.mirror.depth`?",
        ),
        (
            &["defend:\n  miror: {}\n"],
            &[],
            "0.yaml:2: unknown setting `defend.miror`; did you mean `defend.mirror`?",
        ),
        (
            &["defend:\n  mirror:\n    depth: deep\n"],
            &[],
            "0.yaml:3: `defend.mirror.depth` is \"deep\", expected a whole number of 0 or more",
        ),
        (
            &["defend:\n  depth: deep\n"],
            &[],
            "0.yaml:2: `defend.mirror.depth` is \"deep\", expected a whole number of 0 or more",
        ),
        (
            &["defend:\n  mirror: 3\n"],
            &[],
            "0.yaml:2: `defend.mirror` is one value, expected settings by name, such as `train: {epochs: 3}`",
        ),
        (&[], &["defend.mirror.strength=-1"], "`defend.mirror.strength` is -1, expected at least 0"),
        (
            &["surrogates: [green, gren]\n"],
            &[],
            "0.yaml:1: `surrogates`: `gren` is not a colour; did you mean `green`? known: green",
        ),
        (
            &[],
            &["surrogates=[red]"],
            "--set surrogates=[red]: `surrogates`: `red` is not a colour; known: green",
        ),
    ] {
        let message = load_by(&owner(), files, set).unwrap_err();
        assert!(message.ends_with(expected), "`{message}` does not end with `{expected}`");
    }
}

#[test]
fn sections_of_other_stages_pass_unread() {
    let files = ["defend:\n  depth: 5\n  mirror: {depth: deep}\n", "generate:\n  echo: {length: 3}\n"];
    let settings = load(&files, &[]).unwrap();
    assert_eq!(settings.defend["mirror"]["depth"], "deep");
    assert_eq!(settings.generate.strategies["echo"]["length"], 3);
    // But a misspelt setting of the fixed tree is no section.
    let message = load(&["generate:\n  sequencs: 3\n"], &[]).unwrap_err();
    assert!(message.contains("did you mean `generate.sequences`?"), "{message}");
}

#[test]
fn a_stage_depends_on_the_section_of_its_method_alone() {
    let checked = owner().load(&Flags::default()).unwrap();
    let sections = serde_yaml::to_string(&checked.sections(&["train", "defend.mirror"])).unwrap();
    assert!(
        sections.ends_with("defend.mirror:\n  strength: 0.5\n  depth: 3\n  colour: null\n"),
        "{sections}"
    );
}
