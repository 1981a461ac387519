//! Items that a list is held against: uniform over those outside it, and, where a thief wants them, from the top of his own copy. Bad
//! items that a copy already ranks low teach it little; those that it ranks high and the target did not list are its mistakes
//! (the bound of RCE-KD, arXiv 2509.20989, holds for items of the student's own top only).

use candle_core::Tensor;
use kernels::Catalogue;
use models::{Error, Result};
use rand::Rng;
use streams::{below, unit};

/// Draws `count` negatives for each row of `answers` `(rows, k)`, uniform over the items outside the row's list: u32 ids,
/// `(rows, count)`.
///
/// # Errors
/// [`Error::Request`] when the lists hold the whole catalogue and nothing is left to draw.
pub fn uniform(answers: &Tensor, count: usize, items: usize, stream: &mut impl Rng) -> Result<Tensor> {
    let (rows, k) = answers.dims2()?;
    if k >= items {
        return Err(Error::Request(format!(
            "lists of {k} leave nothing of {items} items to contrast them with; lower top_k below {items}"
        )));
    }
    let bound = (items - k) as u32;
    let draws: Vec<u32> = (0..rows * count).map(|_| below(stream, bound)).collect();
    let draws = Tensor::from_vec(draws, (rows, count), answers.device())?;
    Ok(kernels::outside(answers, &draws, items)?)
}

/// Replaces each of `negatives` `(rows, c)` with the probability `share` by an item that the model ranks among its best 2 k after the
/// row's history and that is not of the row's list in `answers` `(rows, k)`, each such item as likely as any other.
///
/// # Errors
/// Where a tensor operation fails.
pub fn with_own_top(
    catalogue: &Catalogue,
    states: &Tensor,
    answers: &Tensor,
    negatives: &Tensor,
    share: f64,
    stream: &mut impl Rng,
) -> Result<Tensor> {
    let (rows, k) = answers.dims2()?;
    let depth = (2 * k).min(catalogue.items);
    let best = catalogue.detached().top_k(&states.detach(), depth)?.to_vec2::<u32>()?;
    let lists = answers.to_vec2::<u32>()?;
    let mut ids = negatives.to_vec2::<u32>()?;
    // Item `id` is of the list of row r where place `id` holds r + 1.
    let mut listed = vec![0usize; catalogue.items + 1];
    for row in 0..rows {
        for &id in &lists[row] {
            listed[id as usize] = row + 1;
        }
        let own: Vec<u32> = best[row].iter().copied().filter(|&id| listed[id as usize] != row + 1).collect();
        for id in &mut ids[row] {
            // Both draws are taken either way, so that an item does not depend on those before it.
            let (taken, place) = (unit(stream) < share, below(stream, own.len() as u32));
            if taken {
                *id = own[place as usize];
            }
        }
    }
    Ok(Tensor::new(ids, negatives.device())?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use streams::{Purpose, Streams};

    use super::*;

    #[test]
    fn own_negatives_are_those_the_copy_ranks_high_and_the_list_does_not_hold() {
        // Scores fall with the id: the best four of ten are 1 to 4, of which 1 and 3 are listed.
        let weight = Tensor::new((0..=10).map(|id| vec![-(id as f32)]).collect::<Vec<_>>(), &Device::Cpu);
        let catalogue = Catalogue { weight: weight.unwrap(), bias: None, items: 10 };
        let states = Tensor::new(&[[1f32]], &Device::Cpu).unwrap();
        let answers = Tensor::new(&[[3u32, 1]], &Device::Cpu).unwrap();
        let mut stream = Streams::new(1).open(Purpose::Negatives, 0, 0, 0);
        let drawn = uniform(&answers, 4000, 10, &mut stream).unwrap();
        let mut mix = |share| {
            let ids = with_own_top(&catalogue, &states, &answers, &drawn, share, &mut stream).unwrap();
            let ids: Vec<u32> = ids.flatten_all().unwrap().to_vec1().unwrap();
            let mut counts = [0usize; 11];
            for id in ids {
                counts[id as usize] += 1;
            }
            counts
        };
        let own = mix(1.0);
        assert!(own[2] + own[4] == 4000 && own[2].abs_diff(2000) < 130, "{own:?}");
        // A half of 4,000 over 2 and 4, the other over the eight outside: 1,125 + 125 of the two, 250 of the rest.
        let half = mix(0.5);
        assert!(
            half[2].abs_diff(1250) < 120 && half[9].abs_diff(250) < 70 && half[1] + half[3] == 0,
            "{half:?}"
        );
        assert!(mix(0.0)[9].abs_diff(500) < 90);
    }
}
