//! Where in a training sample target and student are compared.
//!
//! Models of one reading look at the same positions: BERT4Rec at the hidden places of its own training samples, causal models
//! after the prefixes of theirs, at most `most` of each sample. Between cloze and causal reading there are no such positions:
//! hidden items would be strange to the one, unhidden ones an answer sheet to the other. Both are then asked for the item
//! after prefixes of the sample's window, a question every recommender answers and the only one a thief can ask.

use candle_core::Tensor;
use models::{Contexts, Mode, Recommender};
use rand::Rng;
use streams::choose;
use training::samples::Samples;

/// The states of both models at the compared positions of a batch, and the target's own loss on the batch.
pub struct ComparedStates {
    /// L_t, the target's training loss: of all label positions, compared or not.
    pub target_loss: Tensor,
    /// The target's states, `(positions, hidden)`.
    pub target_states: Tensor,
    /// The student's, of the same shape.
    pub student_states: Tensor,
}

/// The states of both models on batch `step` of `epoch`. Each model comes with the mode it is run in; positions are drawn from
/// `stream`.
pub fn compared_states(
    (target, target_mode): (&dyn Recommender, Mode),
    (student, student_mode): (&dyn Recommender, Mode),
    samples: &mut Samples<'_>,
    (epoch, step): (usize, usize),
    most: usize,
    stream: &mut impl Rng,
) -> training::Result<ComparedStates> {
    let batch = samples.batch(target, epoch, step);
    let device = target.catalogue().weight.device();
    let label_states = target.encode(&batch.contexts.upload(device)?, target_mode)?;
    let target_loss = target.training_loss(&label_states, &batch)?;

    let (target_states, questions) = if target.reading() == student.reading() {
        let (questions, kept) = batch.contexts.thinned(most, stream);
        (pick(&label_states, &kept)?, questions)
    } else {
        let windows = samples.items(epoch, step);
        let (of_target, of_student) = after_prefixes(&windows, most, [target, student], stream);
        (target.encode(&of_target.upload(device)?, target_mode)?, of_student)
    };
    let student_states = student.encode(&questions.upload(device)?, student_mode)?;
    Ok(ComparedStates { target_loss, target_states, student_states })
}

/// The rows of `states` `(positions, hidden)` that are `kept`, in ascending order.
pub(super) fn pick(states: &Tensor, kept: &[u32]) -> training::Result<Tensor> {
    if kept.len() == states.dim(0)? {
        return Ok(states.clone());
    }
    Ok(kernels::embedding(states, &Tensor::from_slice(kept, kept.len(), states.device())?)?)
}

/// What target and student are asked after at most `most` prefixes of each window, as each of them reads it.
fn after_prefixes(
    windows: &[&[u32]],
    most: usize,
    [target, student]: [&dyn Recommender; 2],
    stream: &mut impl Rng,
) -> (Contexts, Contexts) {
    let (mut of_target, mut of_student) = (Contexts::new(), Contexts::new());
    for window in windows {
        let prefixes: Vec<usize> = choose(window.len(), most, stream).into_iter().map(|i| i + 1).collect();
        target.push_prefixes(window, &prefixes, &mut of_target);
        student.push_prefixes(window, &prefixes, &mut of_student);
    }
    (of_target, of_student)
}
