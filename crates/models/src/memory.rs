//! How much memory a model takes, from its sizes alone and before any of it is allocated, in bytes. For whoever asks whether
//! the work fits; the numbers behind it were read off the peaks of runs, and hold within a factor of two.

use crate::{Architecture, Sizes};

/// Bytes of a number.
const F32: f64 = 4.0;
/// Copies of its parameters that training holds at its peak, when it saves its state: the weights, two moments and the best
/// weights so far, and all of these once more on their way to the file.
const COPIES: f64 = 9.0;
/// The same of a student, of which no best weights are kept.
const COPIES_OF_A_STUDENT: f64 = 6.0;
/// Numbers that plain operations keep for each that the fused ones do, and for each weight of attention.
const PLAIN: (f64, f64) = (5.0, 40.0);

/// Number of parameters. Blocks are alike, so two of them tell of any number.
pub fn parameters(architecture: Architecture, sizes: &Sizes) -> f64 {
    let of = |blocks: usize| -> f64 {
        let mut sizes = *sizes;
        sizes.network.blocks = blocks;
        let count = |shape: &Vec<usize>| shape.iter().map(|&length| length as f64).product::<f64>();
        (architecture.declare)(&sizes).iter().map(|declared| count(&declared.shape)).sum()
    };
    let (one, two) = (of(1), of(2));
    one + (two - one) * (sizes.blocks as f64 - 1.0)
}

/// A number of parameters as papers have it: `604 million`.
pub fn in_words(parameters: f64) -> String {
    match parameters {
        _ if parameters >= 1e13 => format!("{parameters:.0e}"),
        _ if parameters >= 1e6 => format!("{:.0} million", parameters / 1e6),
        _ => format!("{parameters:.0}"),
    }
}

/// Parameters in training, with everything that is kept of them.
pub fn trained(architecture: Architecture, sizes: &Sizes) -> f64 {
    COPIES * F32 * parameters(architecture, sizes)
}

/// The same of a model that trains beside another and is not judged.
pub fn trained_as_student(architecture: Architecture, sizes: &Sizes) -> f64 {
    COPIES_OF_A_STUDENT * F32 * parameters(architecture, sizes)
}

/// What one step of training keeps of a batch of `tokens` in rows of at most `longest`, for its gradients; with the `fused`
/// operations of the CPU, or the plain ones.
pub fn step(architecture: Architecture, sizes: &Sizes, tokens: f64, longest: f64, fused: bool) -> f64 {
    let kept = (architecture.kept)(sizes) * tokens;
    if fused {
        return F32 * kept;
    }
    let heads = if architecture.has_heads { sizes.heads as f64 } else { 0.0 };
    F32 * (PLAIN.0 * kept + PLAIN.1 * sizes.blocks as f64 * heads * tokens * longest)
}

/// What one pass forward without gradients holds of a batch at a time, a few tensors of a layer.
pub fn pass(architecture: Architecture, sizes: &Sizes, tokens: f64, longest: f64, fused: bool) -> f64 {
    let mut one = *sizes;
    one.network.blocks = 1;
    0.5 * step(architecture, &one, tokens, longest, fused)
}

/// Keys and values, or states, that a causal model keeps of `rows` histories that grow to `longest` items.
pub fn cache(sizes: &Sizes, rows: f64, longest: f64) -> f64 {
    2.0 * F32 * rows * longest.min(sizes.max_len as f64) * sizes.hidden as f64 * sizes.blocks as f64
}

/// Tensors of `(positions, k)`: lists, negatives, scores and their gradients.
pub fn lists(positions: f64, k: usize) -> f64 {
    10.0 * F32 * positions * k as f64
}

#[cfg(test)]
mod tests {
    use artifact::settings::Network;

    use super::*;
    use crate::ARCHITECTURES;

    #[test]
    fn parameters_are_counted_without_declaring_every_block() {
        for architecture in &ARCHITECTURES {
            let network =
                Network { hidden: 12, blocks: 5, heads: 3, max_len: 9, dropout: 0.1, attention_dropout: 0.1 };
            let sizes = Sizes { items: 50, network };
            let declared: usize = (architecture.declare)(&sizes)
                .iter()
                .map(|tensor| tensor.shape.iter().product::<usize>())
                .sum();
            assert_eq!(parameters(*architecture, &sizes), declared as f64, "{architecture}");
            let huge = Network { blocks: 4_000_000_000, hidden: 4_000_000_000, ..network };
            assert!(parameters(*architecture, &Sizes { items: 50, network: huge }) > 1e18, "{architecture}");
        }
    }
}
