#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use artifact::checkpoint::{ActsOn, Checkpoint, Defence, Description, GOLD, MODEL};
use artifact::settings::Sections;
use service::guard::Parameters;
use service::guard::evidence::{Chance, bins};
use service::key::{Key, key_path};

use crate::scene::{ITEMS, Scene};

/// Puts the model of `from` behind a guard with this threshold, with its key beside it.
fn guard(scene: &Scene, from: &str, to: &str, threshold: f64) {
    marked(scene, from, to, (threshold, 0.0));
}

/// The same with a watermark that lifts items by such a share of their places.
fn marked(scene: &Scene, from: &str, to: &str, (threshold, watermark): (f64, f64)) {
    let Checkpoint { description, tensors } = Checkpoint::read(&scene.path(from).join(MODEL)).unwrap();
    let key = Key::of_seed(3);
    let bins = bins(ITEMS);
    let parameters = Parameters {
        threshold,
        watermark,
        canaries: 0.0,
        users: vec![1.0; bins.len()],
        bins,
        chance: Chance { user: 1e-4 },
        key: key.fingerprint(),
        ..Parameters::default()
    };
    let parameters: Sections = serde_json::from_value(serde_json::to_value(parameters).unwrap()).unwrap();
    let description = Description { defence: Defence::answers("guard", parameters), ..description };
    std::fs::create_dir_all(scene.path(to)).unwrap();
    Checkpoint { description, tensors }.write(&scene.path(to).join(MODEL)).unwrap();
    key.write(&key_path(&scene.path(to))).unwrap();
}

/// A target that learned decoys: whatever its own weights answer, what counts is the gold target beside it.
fn decoy(scene: &Scene, weights: &str, gold: &str, to: &str) {
    let Checkpoint { description, tensors } = Checkpoint::read(&scene.path(weights).join(MODEL)).unwrap();
    let key = Key::of_seed(3);
    std::fs::create_dir_all(scene.path(to)).unwrap();
    std::fs::copy(scene.path(gold).join(MODEL), scene.path(to).join(GOLD)).unwrap();
    let gold = artifact::digest::file(&scene.path(to).join(GOLD)).unwrap().blake3;
    let parameters = Sections::from_iter([
        ("key".to_owned(), key.fingerprint().into()),
        ("gold".to_owned(), gold.into()),
        ("after".to_owned(), 6.into()),
    ]);
    let defence = Defence { acts_on: ActsOn::Weights, ..Defence::answers("decoy", parameters) };
    let description = Description { defence, ..description };
    Checkpoint { description, tensors }.write(&scene.path(to).join(MODEL)).unwrap();
    key.write(&key_path(&scene.path(to))).unwrap();
}

fn scene() -> Scene {
    let scene = Scene::new();
    let data = scene.dataset("data", "a");
    scene.model("gold", &data, 1, "none");
    scene.model("innocent", &data, 2, "none");
    guard(&scene, "gold", "guarded", -1e9);
    scene
}

fn prove<'a>(suspect: &'a str, protected: &'a str, out: &'a str) -> Vec<&'a str> {
    vec![
        "prove",
        "--suspect",
        suspect,
        "--protected",
        protected,
        "--out",
        out,
        "--probes",
        "200",
        "--keys",
        "999",
        "--quiet",
    ]
}

#[test]
fn who_answers_with_the_decoys_is_found_and_who_knows_nothing_of_them_is_not() {
    let scene = scene();
    let ended = scene.evaluate(&prove("guarded", "guarded", "guilty"));
    assert_eq!((ended.code, ended.out.as_str()), (0, ""), "{}", ended.err);
    let proof = scene.json("guilty/proof.json");
    assert_eq!(proof["agreement"], 1.0, "the guarded target itself answers with nothing else");
    assert_eq!((proof["p"].as_f64().unwrap(), proof["at_least_as_high"].as_u64().unwrap()), (0.001, 0));
    assert_eq!((proof["probes"].as_u64(), proof["flagged"].as_u64()), (Some(200), Some(200)));
    let page = std::fs::read_to_string(scene.path("guilty/proof.html")).unwrap();
    assert!(
        page.contains("The suspect may have learned")
            || page.contains("The suspect learned from the protected answers"),
        "{page}"
    );
    assert!(page.contains("0 of 999 other keys agree as much, p = 0.001"), "{page}");

    for innocent in ["gold", "innocent"] {
        let ended = scene.evaluate(&prove(innocent, "guarded", innocent_out(innocent)));
        assert_eq!(ended.code, 0, "{}", ended.err);
        let proof = scene.json(&format!("{}/proof.json", innocent_out(innocent)));
        assert!(proof["p"].as_f64().unwrap() > 0.01, "{proof}");
        // Ten of forty items agree with any ten others on a quarter.
        assert!((proof["others"]["mean"].as_f64().unwrap() - 0.25).abs() < 0.02, "{proof}");
    }
    assert_eq!(scene.json("out-gold/proof.json")["agreement_with_true_lists"], 1.0);
    let bytes = |out: &str| std::fs::read(scene.path(out).join("proof.json")).unwrap();
    let again = [&prove("gold", "guarded", "again")[..], &["--threads", "1"]].concat();
    assert_eq!(scene.evaluate(&again).code, 0);
    assert_eq!(bytes("again"), bytes("out-gold"), "one thread, the same bytes");
}

#[test]
fn decoys_that_a_target_has_learned_are_told_by_the_gold_target_beside_it() {
    let scene = scene();
    decoy(&scene, "innocent", "gold", "trained");
    // The guarded one answers everybody with the decoys of the same key for the lists of the same gold target.
    let ended = scene.evaluate(&prove("guarded", "trained", "guilty"));
    assert_eq!((ended.code, ended.out.as_str()), (0, ""), "{}", ended.err);
    let proof = scene.json("guilty/proof.json");
    assert_eq!((&proof["agreement"], &proof["p"]), (&1.0.into(), &0.001.into()), "{proof}");
    // Histories have five or six items, and those of six are answered with decoys.
    let flagged = proof["flagged"].as_u64().unwrap();
    assert!(proof["probes"] == 200 && flagged > 70 && flagged < 130, "{proof}");
    for innocent in ["gold", "innocent"] {
        assert_eq!(scene.evaluate(&prove(innocent, "trained", innocent_out(innocent))).code, 0);
        let proof = scene.json(&format!("{}/proof.json", innocent_out(innocent)));
        assert!(proof["p"].as_f64().unwrap() > 0.01, "{proof}");
    }
    assert_eq!(scene.json("out-gold/proof.json")["agreement_with_true_lists"], 1.0);

    let refusal = |what: &str| {
        let ended = scene.evaluate(&prove("innocent", "trained", "out"));
        assert_eq!(ended.code, 2, "{}", ended.err);
        assert!(ended.err.contains(what) && !scene.path("out").exists(), "{what}: {}", ended.err);
    };
    std::fs::copy(scene.path("innocent").join(MODEL), scene.path("trained").join(GOLD)).unwrap();
    refusal("is not the target that trained/model.safetensors was made from");
    std::fs::remove_file(scene.path("trained").join(GOLD)).unwrap();
    refusal("gold.safetensors");
    std::fs::remove_file(key_path(&scene.path("trained"))).unwrap();
    Key::of_seed(4).write(&key_path(&scene.path("trained"))).unwrap();
    refusal(&Key::of_seed(3).fingerprint());
    std::fs::remove_file(key_path(&scene.path("trained"))).unwrap();
    refusal("answer.key: no such file");
}

#[test]
fn who_ranks_as_the_watermark_does_is_found_where_no_history_is_flagged() {
    let scene = scene();
    marked(&scene, "gold", "marked", (1e9, 0.5));
    let ended = scene.evaluate(&prove("marked", "marked", "guilty"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("nothing can be proved by decoys, only by the watermark"), "{}", ended.err);
    let proof = scene.json("guilty/proof.json");
    let found = &proof["watermark"];
    assert_eq!(
        (found["lift"].as_f64(), found["at_least_as_high"].as_u64(), found["p"].as_f64()),
        (Some(0.5), Some(0), Some(0.001)),
        "{proof}"
    );
    // A neighbour of the other colour, as half of them are, stands so with a chance of .755, and one of the same as often as not; a third of that is
    // drawn away.
    assert!((found["share"].as_f64().unwrap() - 0.585).abs() < 0.02, "{proof}");
    assert!((found["others"]["mean"].as_f64().unwrap() - 0.5).abs() < 0.02, "{proof}");
    assert!(proof["p"].as_f64().unwrap() > 0.01 && proof["flagged"] == 0, "{proof}");
    assert_eq!(proof["corrected"]["watermark"], 0.002, "two tests");
    assert_eq!(proof["corrected"]["decoys"], proof["p"]);
    let page = std::fs::read_to_string(scene.path("guilty/proof.html")).unwrap();
    assert!(
        page.contains("<h2>The watermark</h2>") && page.contains("corrected for two tests, 0.002"),
        "{page}"
    );
    assert!(page.contains("The suspect may have learned from the protected answers"), "{page}");
    assert!(page.contains("by the decoys and 0.001 by the watermark, whatever the recommender is"), "{page}");
    for innocent in ["gold", "innocent"] {
        let ended = scene.evaluate(&prove(innocent, "marked", innocent_out(innocent)));
        assert_eq!(ended.code, 0, "{}", ended.err);
        let proof = scene.json(&format!("{}/proof.json", innocent_out(innocent)));
        assert!(proof["watermark"]["p"].as_f64().unwrap() > 0.01, "{proof}");
    }
    let more = [&prove("marked", "marked", "more")[..], &["--data", "data"]].concat();
    assert_eq!(scene.evaluate(&more).code, 0);
    let more = scene.json("more/proof.json");
    assert_eq!(
        (more["watermark"]["histories"].as_u64(), found["histories"].as_u64()),
        (Some(440), Some(240))
    );
    assert_eq!((more["watermark"]["p"].as_f64(), &more["p"]), (Some(0.001), &proof["p"]));
    let again = [&prove("gold", "marked", "again")[..], &["--threads", "1"]].concat();
    assert_eq!(scene.evaluate(&again).code, 0);
    let bytes = |out: &str| std::fs::read(scene.path(out).join("proof.json")).unwrap();
    assert_eq!(bytes("again"), bytes("out-gold"), "one thread, the same bytes");
    // Without a watermark there is one test, and nothing of another.
    assert_eq!(scene.evaluate(&prove("gold", "guarded", "plain")).code, 0);
    let plain = scene.json("plain/proof.json");
    assert!(plain.get("watermark").is_none() && plain.get("corrected").is_none(), "{plain}");
    let page = std::fs::read_to_string(scene.path("plain/proof.html")).unwrap();
    assert!(!page.contains("watermark"), "{page}");
}

fn innocent_out(name: &str) -> &'static str {
    if name == "gold" { "out-gold" } else { "out-innocent" }
}

#[test]
fn what_proves_nothing_is_refused() {
    let scene = scene();
    let refusal = |arguments: &[&str]| {
        let ended = scene.evaluate(arguments);
        assert_eq!(ended.code, 2, "{}", ended.err);
        assert!(!scene.path("out").exists());
        ended.err
    };
    assert!(refusal(&prove("innocent", "gold", "out")).contains("expected a target protected by `guard`"));
    let other = scene.dataset("other", "b");
    scene.model("stranger", &other, 3, "none");
    assert!(refusal(&prove("stranger", "guarded", "out")).contains("numbers it otherwise"));
    Key::of_seed(4).write(&scene.path("other.key")).unwrap();
    let wrong = [&prove("innocent", "guarded", "out")[..], &["--key-file", "other.key"]].concat();
    assert!(refusal(&wrong).contains(&Key::of_seed(3).fingerprint()));
    let unused = [&prove("innocent", "guarded", "unused")[..], &["--data", "data"]].concat();
    let ended = scene.evaluate(&unused);
    assert!(ended.code == 0 && ended.err.contains("carry no watermark"), "{}", ended.err);
    marked(&scene, "gold", "marked", (1.0, 0.2));
    let other = [&prove("innocent", "marked", "out")[..], &["--data", "other"]].concat();
    assert!(refusal(&other).contains("was trained on another dataset"));
    guard(&scene, "gold", "patient", 1e9);
    assert!(refusal(&prove("innocent", "patient", "out")).contains("its threshold is too high for that"));
    std::fs::remove_file(key_path(&scene.path("guarded"))).unwrap();
    assert!(refusal(&prove("innocent", "guarded", "out")).contains("no such file"));
}
