//! The description of the service's interface, before a public validator of OpenAPI.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should say where")]

mod tools;

use std::path::Path;
use std::process::Command;

use tools::{text, tools};

#[test]
fn a_public_validator_accepts_the_description() {
    let Some(tools) = tools() else { return };
    let described = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("serve/src/openapi.json");
    let validate = |path: &Path| {
        Command::new(tools.join("python")).args(["-m", "openapi_spec_validator"]).arg(path).output().unwrap()
    };
    let output = validate(&described);
    assert!(output.status.success() && text(&output).contains(": OK"), "{}", text(&output));
    // And would not accept anything.
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("openapi.json");
    let described = std::fs::read_to_string(described).unwrap();
    std::fs::write(&broken, described.replace("\"responses\"", "\"answers\"").replace("\"schemas/", "\""))
        .unwrap();
    assert!(!validate(&broken).status.success());
}
