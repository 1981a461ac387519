//! What the parity tests do not cover of GRO: which item replaces which, and that a step moves both models.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::process::Command;

use candle_core::{Device, Tensor};
use defend::methods::gro::{ZeroGradient, replacements};
use kernels::Catalogue;

/// Three items in one dimension: scores are the state times 1, -2, 3.
fn catalogue() -> Catalogue {
    let weight = Tensor::new(&[[0f32], [1.0], [-2.0], [3.0]], &Device::Cpu).unwrap();
    Catalogue { weight, bias: None, items: 3 }
}

#[test]
fn a_place_is_given_to_the_item_with_the_largest_gradient() {
    let states = Tensor::new(&[[1f32], [-1.0]], &Device::Cpu).unwrap();
    let pull = Tensor::new(&[[0.5f32, -0.5, 0.0], [0.25, -0.25, 0.0]], &Device::Cpu).unwrap();
    let replace = |zero| -> Vec<Vec<u32>> {
        replacements(&catalogue(), &states, &pull, zero).unwrap().to_vec2().unwrap()
    };
    assert_eq!(replace(ZeroGradient::Skip), [[3, 2, 0], [2, 3, 0]]);
    assert_eq!(replace(ZeroGradient::FirstItem), [[3, 2, 1], [2, 3, 1]]);

    // The rank-one shortcut against its definition: the arg max over items of g_j s_i.
    let scores = catalogue().scores(&states).unwrap().to_vec2::<f32>().unwrap();
    for ((pull, scores), chosen) in
        pull.to_vec2::<f32>().unwrap().iter().zip(&scores).zip(replace(ZeroGradient::Skip))
    {
        for (g, &chosen) in pull.iter().zip(&chosen).filter(|(g, _)| **g != 0.0) {
            let best = (1..=3usize).max_by(|&a, &b| (g * scores[a]).total_cmp(&(g * scores[b]))).unwrap();
            assert_eq!(chosen as usize, best);
        }
    }
}

#[test]
fn gro_without_data_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_gro-defend"))
        .args(["--target", "t", "--method", "gro", "--out", "p"])
        .current_dir(tempfile::tempdir().unwrap().path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--data"));
}
