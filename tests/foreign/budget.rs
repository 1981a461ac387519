//! What is asked is counted: budgets hold, rates are kept, and attackers that are killed at any moment lose no answer and pay for
//! none twice but those that were on their way.

use std::process::Stdio;
use std::time::Duration;

use remote::ledger::{Counts, LEDGER};

use crate::scene::{Place, QUESTIONS, said, scene, serve};
use crate::service::{Behaviour, Fault};

/// What the ledger of an unfinished output says, read as a resumed attacker reads it.
fn counts(place: &Place, out: &str) -> Option<Counts> {
    let directory = place.path(&format!("{out}.state"));
    let text = std::fs::read(directory.join(LEDGER)).ok()?;
    let end = text.iter().position(|&byte| byte == b'\n')?;
    let identity = std::str::from_utf8(&text[..end]).unwrap().strip_prefix("questions asked by ").unwrap();
    Some(remote::Ledger::open(&directory, identity, true, None).unwrap().counts())
}

/// A generator of moments (Steele's SplitMix64), the same every time.
struct Moments(u64);

impl Moments {
    fn below(&mut self, longest: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        longest.mul_f64((z >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[test]
fn an_attacker_that_is_killed_loses_nothing_and_asks_nothing_twice_but_what_was_on_its_way() {
    let place = Place::new();
    place.asked(scene().join("protected-guard").to_str().unwrap(), "from-files", &[]);
    let service =
        serve("protected-guard", Behaviour { slow: Duration::from_millis(20), ..Behaviour::default() });
    let concurrency = 3;
    let arguments = [
        "generate",
        "--target",
        &service.url(),
        "--out",
        "killed",
        "--resume",
        "--concurrency",
        "3",
        "--quiet",
    ];
    let (mut moments, mut kills, mut with_answers) = (Moments(7), 0, 0);
    let mut before = Counts::default();
    while !place.path("killed").exists() {
        let mut child = place.command("attack", &arguments).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20) + moments.below(Duration::from_millis(250)));
        let ended = child.try_wait().unwrap();
        if ended.is_none() && kills < 25 {
            child.kill().unwrap();
            kills += 1;
        }
        let status = child.wait().unwrap();
        if status.success() {
            break;
        }
        if let Some(now) = counts(&place, "killed") {
            assert!(now.answered >= before.answered && now.asked >= before.asked, "{before:?}, then {now:?}");
            with_answers += usize::from(now.answered > before.answered);
            before = now;
        }
    }
    assert!(kills >= 3 && with_answers >= 3, "{kills} kills, {with_answers} of them met answers");
    assert!(place.log("killed") == place.log("from-files"));
    let record = service.record();
    assert_eq!(record.answered.len(), QUESTIONS, "nothing is missing");
    // A block of 8 accounts is asked in 3 calls of at most 3 questions, all of which may be on their way at a kill.
    let twice = record.questions() - QUESTIONS;
    assert!(twice <= kills * concurrency * 3, "{twice} asked again after {kills} kills");
    assert!(twice as u64 <= before.lost(), "{twice} asked again, and {before:?} counted");
}

#[test]
fn the_same_moment_of_a_kill_is_taken_up_with_every_answer_that_came() {
    let place = Place::new();
    let service = serve("target", Behaviour { slow: Duration::from_millis(10), ..Behaviour::default() });
    let more = ["generate", "--target", &service.url(), "--out", "cut", "--concurrency", "1"];
    let mut child = place.command("attack", &more).stderr(Stdio::null()).spawn().unwrap();
    while counts_of(&place) < 5 {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = counts(&place, "cut").unwrap();
    let answered = service.record();
    assert!(before.answered >= 5 && before.answered < QUESTIONS as u64, "{before:?}");
    // Begun anew without a word, it would throw away what was paid for.
    let text = place.refused_out("cut", &service.url(), &[]);
    assert!(text.contains("give --resume"), "{text}");
    let text = place.refused_out("cut", &service.url(), &["--resume", "--set", "generate.strategy=random"]);
    assert!(text.contains("other settings"), "{text}");
    let log = place.asked(&service.url(), "cut", &["--resume"]);
    assert!(log.contains(&format!("resuming from the {} answers", before.answered)), "{log}");
    let after = service.record();
    let again = answered.answered.keys().filter(|question| after.answered.contains_key(*question)).count();
    assert!(again as u64 <= before.lost(), "{again} asked again, {before:?}");
    assert!(!place.path("cut.state").exists());
}

#[test]
fn an_attacker_that_is_asked_to_stop_waits_for_what_is_on_its_way() {
    let place = Place::new();
    let service = serve("target", Behaviour { slow: Duration::from_millis(10), ..Behaviour::default() });
    let more = ["generate", "--target", &service.url(), "--out", "cut"];
    let child = place.command("attack", &more).stderr(Stdio::piped()).spawn().unwrap();
    while counts_of(&place) < 20 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(said(&output).contains("--resume goes on from there"), "{}", said(&output));
    let kept = counts(&place, "cut").unwrap();
    assert!(kept.lost() == 0 && (20..144).contains(&kept.answered), "{kept:?}");
    let log = place.asked(&service.url(), "cut", &["--resume"]);
    assert!(log.contains("144 questions asked, 144 answered, 0 lost"), "{log}");
    assert_eq!(service.record().questions(), QUESTIONS, "nothing was asked twice");
}

/// How many answers have come, by the size of the ledger: another process writes it, and reading must not cut it.
fn counts_of(place: &Place) -> u64 {
    let size = std::fs::metadata(place.path("cut.state").join(LEDGER)).map_or(0, |file| file.len());
    // A headline, then for each question 9 bytes before and 29 and four an item after.
    size.saturating_sub(100) / (9 + 25 + 40)
}

#[test]
fn a_budget_is_never_exceeded_and_what_it_bought_is_kept() {
    let place = Place::new();
    let answer = |call: usize| call.is_multiple_of(2).then_some(Fault::Cut);
    let service = serve("target", Behaviour { fault: Some(answer), ..Behaviour::default() });
    let few = ["--set", "generate.sequences=8"];
    let text = place.refused(&service.url(), &[&few[..], &["--budget", "47"]].concat());
    assert!(text.contains("asks 48 questions (8 accounts, 6 each), and --budget is 47"), "{text}");
    assert_eq!(service.record().questions(), 0);

    // Every second call is answered to nobody, so that half of the budget is lost.
    let more = [&few[..], &["--budget", "54", "--concurrency", "2"]].concat();
    let output = place.generate(&service.url(), "spent", &more);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let asked = service.record();
    assert_eq!(asked.questions(), 54, "each was counted when it went out");
    let kept = counts(&place, "spent").unwrap();
    assert_eq!(kept.asked, 54);
    let message = said(&output);
    let expected = format!("the budget of 54 questions is spent: {} are answered and kept in", kept.answered);
    assert!(message.contains(&expected) && message.contains("--resume with a higher --budget"), "{message}");
    assert!(!place.path("spent").exists());

    let output = place.generate(&service.url(), "spent", &[&more[..], &["--resume"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(service.record().questions(), 0, "nothing is left of it after the resumption either");

    place.asked(
        &service.url(),
        "spent",
        &[&few[..], &["--budget", "200", "--concurrency", "2", "--resume"]].concat(),
    );
    let rest = service.record();
    let lost: u64 = (asked.questions() + rest.questions() - 48) as u64;
    assert!(lost >= kept.lost() && asked.questions() + rest.questions() <= 200);
    place.asked(scene().join("target").to_str().unwrap(), "from-files", &few);
    assert!(place.log("spent") == place.log("from-files"));
}

#[test]
fn what_was_asked_for_an_output_that_is_replaced_counts() {
    let place = Place::new();
    let service = serve("target", Behaviour::default());
    let few = ["--set", "generate.sequences=4", "--set", "generate.questions=3"];
    let again = |more: &[&str]| {
        let arguments = ["generate", "--target", &service.url(), "--out", "asked"];
        place.run("attack", &[&arguments[..], &few, more].concat())
    };
    assert!(again(&["--budget", "12"]).status.success());
    assert!(said(&again(&["--budget", "12"])).contains("is up to date"));
    assert_eq!(service.record().questions(), 12);
    let other = ["--set", "generate.strategy=random", "--budget", "23"];
    for more in [&["--force", "--budget", "23"][..], &other] {
        let output = again(more);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}", said(&output));
        let expected = "12 questions were asked for this output before and count, the campaign asks 12 anew, and --budget is 23; allow 24 or more";
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
    assert_eq!(service.record().questions(), 0);
    let output = again(&["--force", "--budget", "24"]);
    assert!(
        output.status.success() && said(&output).contains("12 questions were asked for this output before")
    );
    // Without a budget it is said all the same, and all of them count afterwards.
    let output = again(&["--force"]);
    assert!(
        output.status.success() && said(&output).contains("24 questions were asked for this output before")
    );
    assert_eq!(service.record().questions(), 24);
    assert!(said(&again(&["--force", "--budget", "47"])).contains("36 questions were asked"));
}

#[test]
fn what_a_service_turns_away_does_not_count() {
    let place = Place::new();
    let busy = |call: usize| (!call.is_multiple_of(4)).then_some(Fault::Status(429, Some(0)));
    let service = serve("target", Behaviour { fault: Some(busy), ..Behaviour::default() });
    // Three calls of four are turned away, more in all than a question is asked again.
    let few = ["--set", "generate.sequences=3", "--set", "generate.questions=3", "--retries", "6"];
    let log = place.asked(&service.url(), "busy", &[&few[..], &["--budget", "9"]].concat());
    assert!(log.contains("9 questions asked, 9 answered, 0 lost"), "{log}");
    assert_eq!(service.record().questions(), 9);
}

#[test]
fn the_rate_is_kept_and_a_wish_to_be_left_alone_is_heeded() {
    let place = Place::new();
    let more = ["--set", "generate.sequences=4", "--set", "generate.questions=5", "--concurrency", "3"];
    let service = serve("target", Behaviour::default());
    place.asked(&service.url(), "slow", &[&more[..], &["--rate", "40"]].concat());
    let times = service.record().times;
    assert_eq!(times.len(), 20);
    // Twenty questions at forty a second; the last call may have held up to two.
    let took = times[19] - times[0];
    assert!(took >= Duration::from_millis(400), "{took:?}");

    let once = |call: usize| (call == 2).then_some(Fault::Status(429, Some(1)));
    let service = serve("target", Behaviour { fault: Some(once), single: true, ..Behaviour::default() });
    place.asked(&service.url(), "paused", &[&more[..4], &["--concurrency", "1"]].concat());
    let times = service.record().times;
    let pause = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(pause >= Duration::from_millis(900), "{pause:?}");
}

impl Place {
    /// Asks into an output with state that must not be gone on from.
    #[track_caller]
    fn refused_out(&self, out: &str, target: &str, more: &[&str]) -> String {
        let output = self.generate(target, out, more);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        said(&output)
    }
}
