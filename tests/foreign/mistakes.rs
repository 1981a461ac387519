//! What cannot work: one line that says why, exit code 2, nothing written.

use crate::scene::{Place, said, scene, serve};
use crate::service::{Behaviour, Fault, authority_certificate, certificate};

#[test]
fn a_certificate_that_is_not_trusted_is_told_and_how_to_trust_it() {
    let place = Place::new();
    let (tls, authority) = certificate("localhost", false);
    let (other, _) = certificate("localhost", false);
    std::fs::write(place.path("ca.pem"), authority).unwrap();
    let service = serve("target", Behaviour { tls: Some(tls), ..Behaviour::default() });
    let at = |name: &str| format!("https://{name}:{}", service.port());
    let text = place.refused(&at("localhost"), &[]);
    assert!(text.contains("is not trusted: it is signed by itself") && text.contains("--ca FILE"), "{text}");
    let text = place.refused(&at("127.0.0.1"), &["--ca", "ca.pem"]);
    assert!(text.contains("is for another name"), "{text}");
    let another = serve("target", Behaviour { tls: Some(other), ..Behaviour::default() });
    let text = place.refused(&format!("https://localhost:{}", another.port()), &["--ca", "ca.pem"]);
    assert!(text.contains("none of those in the file given with --ca"), "{text}");
    let (expired, authority) = certificate("localhost", true);
    std::fs::write(place.path("old.pem"), authority).unwrap();
    let old = serve("target", Behaviour { tls: Some(expired), ..Behaviour::default() });
    let text = place.refused(&format!("https://localhost:{}", old.port()), &["--ca", "old.pem"]);
    assert!(text.contains("has expired"), "{text}");
    let (tls, pem) = authority_certificate("localhost");
    std::fs::write(place.path("authority.pem"), pem).unwrap();
    let own = serve("target", Behaviour { tls: Some(tls), ..Behaviour::default() });
    for more in [&[][..], &["--ca", "authority.pem"]] {
        let text = place.refused(&format!("https://localhost:{}", own.port()), more);
        assert!(text.contains("is an authority's (CA:TRUE)") && text.contains("CA:FALSE"), "{text}");
    }
    let plain = serve("target", Behaviour::default());
    let text = place.refused(&plain.url().replace("http:", "https:"), &[]);
    assert!(text.contains("does not speak TLS"), "{text}");
}

#[test]
fn a_key_that_is_missing_or_wrong_is_told_and_never_shown() {
    let place = Place::new();
    let service = serve("target", Behaviour { key: Some("right"), ..Behaviour::default() });
    let text = place.refused(&service.url(), &[]);
    assert!(text.contains("401") && text.contains("a key is needed") && text.contains("--key-env"), "{text}");
    let text = place.refused(&service.url(), &["--key-env", "GRO_TEST_NO_SUCH_KEY"]);
    assert!(text.contains("GRO_TEST_NO_SUCH_KEY, which --key-env names, is not set"), "{text}");
    let arguments = ["generate", "--target", &service.url(), "--out", "out", "--key-env", "SHOP_KEY"];
    for (key, expected) in [("wr0ng", "the key came from SHOP_KEY"), ("a\nb", "holds what no header can")] {
        let output = place.command("attack", &arguments).env("SHOP_KEY", key).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected) && !text.contains(key), "{text}");
    }
}

#[test]
fn a_target_of_another_catalogue_is_refused() {
    let place = Place::new();
    let service = serve("target", Behaviour::default());
    let seeds = ["--set", "generate.seed_sequences=0.5", "--seeds"];
    place.done(
        "preprocess",
        &["synth", "--users", "50", "--items", "40", "--interactions", "1000", "--out", "ratings"],
    );
    place.done("preprocess", &["run", "--input", "ratings", "--out", "other"]);
    let text = place.refused(&service.url(), &[&seeds[..], &["other"]].concat());
    assert!(text.contains("has another catalogue than other"), "{text}");
    // A list that lacks items that are answered.
    let ids = artifact::dataset::read_raw_items(&scene().join("data")).unwrap();
    std::fs::write(place.path("half.txt"), ids[..30].join("\n")).unwrap();
    let text = place.refused(&service.url(), &["--catalogue", "half.txt"]);
    assert!(text.contains("none of the 30 of its catalogue"), "{text}");
}

#[test]
fn answers_that_cannot_be_learned_from_are_refused() {
    for (fault, expected) in [
        (Fault::Short, "a list of 9 items where 10 were asked for; set generate.top_k to 9 or less"),
        (Fault::Unknown, "answered item \"nothing\", which is none of the 60"),
        (Fault::Twice, "twice in one list"),
        (Fault::Garbage, "answered what is no list"),
        (Fault::Status(422, None), "422"),
    ] {
        let place = Place::new();
        let always: fn(usize) -> Option<Fault> = match fault {
            Fault::Short => |_| Some(Fault::Short),
            Fault::Unknown => |_| Some(Fault::Unknown),
            Fault::Twice => |_| Some(Fault::Twice),
            Fault::Garbage => |_| Some(Fault::Garbage),
            _ => |_| Some(Fault::Status(422, None)),
        };
        let service = serve("target", Behaviour { fault: Some(always), ..Behaviour::default() });
        let text = place.refused(&service.url(), &[]);
        assert!(text.contains(expected), "{fault:?}: {text}");
    }
}

#[test]
fn what_is_asked_for_in_vain_is_refused_before_a_question() {
    let place = Place::new();
    let service = serve("target", Behaviour::default());
    let url = service.url();
    let directory = scene().join("target");
    for (target, more, expected) in [
        (url.as_str(), &["--set", "generate.top_k=60"][..], "less than the 60 items"),
        (&url, &["--set", "generate.top_k=55"], "answers lists of at most 50; set it to 50 or less"),
        (&url, &["--key", "answer.key"], "--key-env"),
        (&url, &["--mapping", "shop.yaml"], "give these with --catalogue"),
        (&url, &["--catalogue", "nowhere.txt"], "nowhere.txt"),
        (&url, &["--ca", "nowhere.pem"], "--ca nowhere.pem"),
        (directory.to_str().unwrap(), &["--rate", "3"], "--rate is for a target that others run"),
        ("http://me:secret@127.0.0.1", &[], "before an @"),
        ("command:", &[], "names no program"),
        ("command:gro-no-such-program", &[], "cannot start"),
    ] {
        let text = place.refused(target, more);
        assert!(text.contains(expected), "{target} {more:?}: {text}");
    }
    let output = place.generate("ftp://x", "refused", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("ftp:// leads to no target; expected http://"), "{}", said(&output));
    for (flag, value) in [("--rate", "0"), ("--timeout", "-1"), ("--concurrency", "0"), ("--budget", "0")] {
        let output = place.generate(&url, "refused", &[&format!("{flag}={value}")]);
        assert_eq!(output.status.code(), Some(2), "{flag}: {}", said(&output));
    }
    assert_eq!(service.record().questions(), 0);
}

#[test]
fn a_service_that_is_not_there_is_told_in_seconds() {
    let place = Place::new();
    let gone = serve("target", Behaviour::default()).url();
    let output = place.generate(&gone, "out", &["--retries", "1", "--quiet"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&gone) && text.contains("asked 2 times"), "{text}");
}
