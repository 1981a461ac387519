use crate::Directory;

const FILE: &str = "seeds: [1, 2, 3]\nmodel: {architecture: narm, hidden: 32}\n";

#[test]
fn a_setting_is_printed_in_words_for_a_shell() {
    let directory = Directory::new();
    std::fs::write(directory.path("a.yaml"), FILE).unwrap();
    for (more, path, expected) in [
        (&[][..], "seeds", "1 2 3"),
        (&["--set", "seeds=[7]"], "seeds", "7"),
        (&["--set", "seeds=null"], "seeds", ""),
        // One seed on the command line is the only one.
        (&["--seed", "5"], "seeds", ""),
        (&["--seed", "5"], "seed", "5"),
        (&[], "surrogates", ""),
        (&["--set", "surrogates=[bert,sas]"], "surrogates", "bert sas"),
        (&[], "model.architecture", "narm"),
        (&[], "optimizer.learning_rate", "0.001"),
        // Flags for the stages do no harm here.
        (&["--force", "--threads", "1", "--device", "cpu", "--quiet"], "evaluate.ks", "1 5 10 20 100"),
    ] {
        let ended = directory.gro(&[&["settings", "--config", "a.yaml", "--get", path], more].concat());
        assert_eq!((ended.code, ended.out.as_str()), (0, &*format!("{expected}\n")), "{path}: {}", ended.err);
    }
}

#[test]
fn all_settings_are_printed_as_a_file_that_reads_back() {
    let directory = Directory::new();
    std::fs::write(directory.path("a.yaml"), FILE).unwrap();
    let all = directory.gro(&["settings", "--config", "a.yaml"]);
    assert_eq!(all.code, 0, "{}", all.err);
    assert!(all.out.contains("hidden: 32\n") && all.out.contains("bootstrap: 1000\n"), "{}", all.out);
    std::fs::write(directory.path("b.yaml"), &all.out).unwrap();
    assert_eq!(directory.gro(&["settings", "--config", "b.yaml"]).out, all.out);
    let section = directory.gro(&["settings", "--config", "a.yaml", "--get", "model"]);
    assert!(section.out.starts_with("architecture: narm\nhidden: 32\n"), "{}", section.out);
}

#[test]
fn what_is_no_setting_is_refused() {
    let directory = Directory::new();
    for (arguments, expected) in [
        (&["--get", "surogates"][..], "`surrogates`"),
        (&["--get", "train.epoch"], "`train.epochs`"),
        (&["--set", "seeds=[1,1]"], "1 twice"),
        (&["--set", "model.architecture=bret"], "did you mean `bert`?"),
        (&["--set", "surrogates=[sas,norm]"], "did you mean `narm`?"),
        (&["--set", "generate.strategy=rnd"], "known: autoregressive, random"),
        (&["--set", "preprocess.format=movielens"], "movielens-100k"),
        (&["--set", "defend.gro.lamda=2"], "did you mean `defend.gro.lambda`?"),
        (&["--set", "defend.gro.student=nrm"], "did you mean `narm`?"),
        (&["--set", "defend.gro.top_k=1"], "expected at least 2"),
        (&["--set", "defend.lambda=-1"], "`defend.gro.lambda` is -1"),
        (&["--set", "generate.echo={length: 3}"], "unknown setting `generate.echo`"),
        (&["--set", "defend.mirror={}"], "unknown setting `defend.mirror`"),
        (&["--config", "lost.yaml"], "lost.yaml"),
    ] {
        let ended = directory.gro(&[&["settings"], arguments].concat());
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{arguments:?}");
        assert!(ended.err.contains(expected), "{arguments:?}: {}", ended.err);
    }
}
