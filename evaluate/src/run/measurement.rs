//! One pass over the users: ranks of the test items and fidelity of the surrogate, user by user.
//!
//! The history of a user at test time is train and validation items together (where settings are chosen, by validation items, the
//! train items alone; see [`super::held_out`]). Two things are asked of each model after
//! it: where among *all* n items the user's test item stands, and which items head the list. The target is asked through
//! its answer policy, as any client would ask it: with policy `none` an answer is the model's own ranking, which can be
//! followed past the end of a list by counting; under any other policy the rank is the place in the answered list, and
//! an item outside of it is a miss. A target that others run is asked as behind any other policy, for nothing else can be seen of it.
//!
//! A checkpoint is asked a second time, about the last item of each history alone: a table of its lists to single items, which costs a thief a
//! question an item and no training. A rank is the place in the list that is looked up, whatever the policy. Among candidates there is none.
//!
//! `exclude_seen` takes the items of the history out of the rankings (and out of the answered list) before the test item
//! is placed; fidelity is always that of the lists as answered.
//!
//! Under a sampled protocol the user's candidates (the test item and its negatives, see [`super::candidates`]) take the
//! place of the catalogue, for the rank and for nothing else. With policy `none`, of a surrogate and of the popular items
//! the rank counts the negatives that do not score below the test item. Under any other policy the model ranks the
//! candidates, its best `top_k` of them are the list the service would answer had it no other items, the policy acts on
//! that list, and the rank is the place in it. The other reading, to look for the candidates in the list answered from
//! the whole catalogue, would find no more than a handful of a hundred negatives there, and make every list look good
//! that holds the test item at all, a reversed one included. Fidelity is still that of lists from the whole catalogue.
//!
//! What ranks, lists and scores are worth is for the metrics to say, all that there are in [`metrics::METRICS`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use artifact::checkpoint::Description;
use artifact::dataset::Dataset;
use artifact::settings::HeldOut;
use candle_core::{DType, Device, Tensor};
use metrics::{Answers, Ks, Measure, OfLists, OfRank, OfScores, listed, place_in, rank_of, rank_of_unseen};
use models::{Mode, Recommender};
use service::black_box::{BlackBox, ProtectedTarget};
use service::key::Key;
use stage::Refusal;

use super::candidates::Candidates;
use super::held_out::HeldOutItems;
use super::popularity::Popularity;

/// Scores held at once where a ranking has to leave seen items out: 16 MiB of them.
const SCORES_AT_ONCE: usize = 4 << 20;

/// What is asked of the models.
#[derive(Debug, Clone)]
pub struct Questions {
    /// The K of HR@K and the like, ascending.
    pub ks: Vec<usize>,
    /// Length of the lists asked for.
    pub top_k: usize,
    /// Take items of the history out of the rankings.
    pub exclude_seen: bool,
    /// Whether the items that are looked for are those of the test or of the validation.
    pub held_out: HeldOut,
    /// What the test items are ranked against; `None` for the whole catalogue.
    pub candidates: Option<Candidates>,
    /// Users of one batch.
    pub batch: usize,
}

/// The target of an evaluation.
pub enum Target<'a> {
    /// A checkpoint, of which all is known.
    Checkpoint {
        /// The model itself, for its own ranking.
        model: Arc<dyn Recommender>,
        /// The checkpoint, for messages.
        path: PathBuf,
        /// The service around it, where its policy changes answers.
        service: Option<Box<ProtectedTarget>>,
    },
    /// A recommender that others run, of which nothing is seen but what it answers. Account i is user i of the dataset.
    Foreign(&'a mut dyn BlackBox),
}

/// What a target makes of some users.
struct Told {
    /// The ranks of their test items.
    ranks: Vec<Option<u32>>,
    /// What it answers, flat `(users, k)`.
    answers: Vec<u32>,
    /// What its model itself would say; none where nobody knows.
    own: Option<Own>,
}

/// What a model itself would say, before a policy touches it.
struct Own {
    /// Its lists, flat `(users, k)`.
    lists: Vec<u32>,
    /// Its scores of these, `(users, k)`.
    scores: Vec<Vec<f32>>,
}

/// Values user by user.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Ids of the users that were asked about: those with a test item.
    pub users: Vec<u32>,
    /// Rank of the test item among the most popular.
    pub popular_ranks: Vec<Option<u32>>,
    /// Rank of the test item in what the target answers; `None` outside the answered list.
    pub target_ranks: Vec<Option<u32>>,
    /// Of a table of the target's lists to single items; none of a target that others run, where every question counts, and none among
    /// candidates, of which its lists hold few.
    pub table: Option<TableMeasured>,
    /// Of the surrogate, where there is one.
    pub surrogate: Option<SurrogateMeasured>,
}

/// Values of the copy that learns nothing, user by user: a table of what the target answers to each item alone, in which the last item of a
/// history is looked up.
#[derive(Debug, Clone)]
pub struct TableMeasured {
    /// Place of the test item in the list that is looked up; `None` outside of it.
    pub ranks: Vec<Option<u32>>,
    /// Fidelity to the lists that the target answers to whole histories.
    pub answered: Values<OfLists>,
    /// Fidelity to the target model's own lists to these.
    pub own: Values<OfLists>,
    /// Items on the longest list.
    pub listed: usize,
}

/// Values of a surrogate, user by user.
#[derive(Debug, Clone)]
pub struct SurrogateMeasured {
    /// Rank of the test item.
    pub ranks: Vec<Option<u32>>,
    /// Fidelity to the lists that the target answers.
    pub answered: Values<OfLists>,
    /// Fidelity to the target model's own lists, and to its scores of these; none of a target that others run.
    pub own: Option<(Values<OfLists>, Values<OfScores>)>,
}

impl SurrogateMeasured {
    fn new(ks: &[usize], of_checkpoint: bool) -> Self {
        let lists = Values::new(metrics::of_lists(Ks::Each(ks)));
        let scores = Values::new(metrics::of_scores(Ks::Each(ks)));
        Self { ranks: Vec::new(), answered: lists.clone(), own: of_checkpoint.then_some((lists, scores)) }
    }
}

/// A column's name and its values, `(users)`.
pub type Column = (String, Vec<f64>);

/// What measures gave, user by user.
#[derive(Debug, Clone)]
pub struct Values<Function> {
    /// With the values of each, `(users)`.
    columns: Vec<(Measure<Function>, Vec<f64>)>,
}

impl<Function> Values<Function> {
    fn new(measures: Vec<Measure<Function>>) -> Self {
        Self { columns: measures.into_iter().map(|measure| (measure, Vec::new())).collect() }
    }

    /// Another user.
    fn push(&mut self, value: impl Fn(&Measure<Function>) -> f64) {
        for (measure, values) in &mut self.columns {
            values.push(value(measure));
        }
    }

    /// The columns, for means and for `ranks.parquet`.
    pub fn columns(&self) -> Vec<Column> {
        self.columns.iter().map(|(measure, values)| (measure.to_string(), values.clone())).collect()
    }
}

/// What the ranks of test items are worth: the columns of quality, for means.
pub fn quality(ranks: &[Option<u32>], ks: &[usize]) -> Vec<Column> {
    let column = |measure: Measure<OfRank>| {
        (measure.to_string(), ranks.iter().map(|&rank| measure.value(rank)).collect())
    };
    metrics::of_ranks(Ks::Each(ks)).into_iter().map(column).collect()
}

/// Ask the models about every user of the dataset with an item held out, in order. `advance` is told how many users each batch was.
///
/// The surrogate comes with its checkpoint, for messages.
///
/// Fails where a tensor operation does; as a refusal, where the scores of a model are no finite numbers.
pub fn measure(
    dataset: &Dataset,
    mut target: Target<'_>,
    surrogate: Option<(&dyn Recommender, &Path)>,
    questions: &Questions,
    device: &Device,
    mut advance: impl FnMut(usize),
) -> anyhow::Result<Measured> {
    let popularity = Popularity::of(dataset);
    let mut measured = Measured {
        surrogate: surrogate
            .map(|_| SurrogateMeasured::new(&questions.ks, matches!(target, Target::Checkpoint { .. }))),
        table: (matches!(target, Target::Checkpoint { .. }) && questions.candidates.is_none()).then(|| {
            let lists = Values::new(metrics::of_lists(Ks::Each(&questions.ks)));
            TableMeasured { ranks: Vec::new(), answered: lists.clone(), own: lists, listed: 0 }
        }),
        ..Measured::default()
    };
    let held_out = HeldOutItems::of(dataset, questions.held_out);
    for users in held_out.users().chunks(questions.batch.max(1)) {
        let histories: Vec<Vec<u32>> = users.iter().map(|&user| held_out.history(user)).collect();
        let batch = Batch {
            histories: histories.iter().map(Vec::as_slice).collect(),
            tests: users.iter().filter_map(|&user| held_out.item(user)).collect(),
            candidates: match &questions.candidates {
                Some(candidates) => Some(candidates.draw(dataset, users)?),
                None => None,
            },
            exclude_seen: questions.exclude_seen,
            device,
        };
        measured.users.extend(users.iter().map(|&user| user as u32 + 1));
        let what = || match users {
            [first, .., last] => format!("asking about users {} to {}", first + 1, last + 1),
            _ => format!("asking about user {}", users[0] + 1),
        };
        let told = match &mut target {
            Target::Checkpoint { model, path, service } => batch.told(
                (model.as_ref(), path),
                service.as_deref_mut(),
                questions.top_k,
                surrogate.is_some(),
            ),
            Target::Foreign(service) => batch.told_by(*service, users, questions.top_k),
        };
        let Told { ranks, answers, own } = told.with_context(what)?;
        measured.target_ranks.extend(ranks);
        if let (Target::Checkpoint { model, path, service }, Some(table)) = (&mut target, &mut measured.table)
        {
            let looked_up = batch.looked_up((model.as_ref(), path), service.as_deref_mut(), questions.top_k);
            let looked_up = looked_up.with_context(what)?;
            table.ranks.extend(batch.places(&looked_up, questions.top_k));
            let lists = || looked_up.chunks_exact(questions.top_k).map(listed);
            for (answer, list) in answers.chunks_exact(questions.top_k).zip(lists()) {
                table.listed = table.listed.max(list.len());
                table.answered.push(|measure| measure.value(listed(answer), list));
            }
            let own = own.iter().flat_map(|own| own.lists.chunks_exact(questions.top_k));
            own.zip(lists()).for_each(|(own, list)| table.own.push(|measure| measure.value(own, list)));
        }
        measured.popular_ranks.extend(batch.popular_ranks(&popularity));

        if let (Some((model, path)), Some(found)) = (surrogate, &mut measured.surrogate) {
            let (copied, lists) =
                batch.ranked(model, path, &batch.histories, questions.top_k).with_context(what)?;
            found.ranks.extend(batch.ranks(model, &copied).with_context(what)?);
            for (answer, list) in
                answers.chunks_exact(questions.top_k).zip(lists.chunks_exact(questions.top_k))
            {
                let answer = listed(answer);
                found.answered.push(|measure| measure.value(answer, list));
            }
            if let (Some(own), Some((of_lists, of_scores))) = (own, &mut found.own) {
                for (own, list) in
                    own.lists.chunks_exact(questions.top_k).zip(lists.chunks_exact(questions.top_k))
                {
                    of_lists.push(|measure| measure.value(own, list));
                }
                let ids = Tensor::from_slice(&own.lists, (batch.tests.len(), questions.top_k), device)?;
                let of_surrogate = model.catalogue().pick(&copied, &ids)?;
                check_finite(&of_surrogate, path).with_context(what)?;
                let of_surrogate = of_surrogate.to_vec2::<f32>()?;
                for (target, surrogate) in own.scores.iter().zip(&of_surrogate) {
                    of_scores.push(|measure| measure.value(target, surrogate));
                }
            }
        }
        advance(batch.tests.len());
    }
    Ok(measured)
}

/// The service that answers for a target, where its policy changes answers.
///
/// # Errors
/// For a policy that is not known, or a key that is missing or another's.
pub fn service_of(
    model: &Arc<dyn Recommender>,
    description: &Description,
    key: Option<Key>,
    device: &Device,
) -> anyhow::Result<Option<Box<ProtectedTarget>>> {
    let service = ProtectedTarget::new(Arc::clone(model), description, key, device.clone())?;
    Ok(service.changes_answers().then(|| Box::new(service)))
}

/// The lists of a model, best first, flat `(users, k)`.
fn lists(model: &dyn Recommender, states: &Tensor, k: usize) -> anyhow::Result<Vec<u32>> {
    Ok(model.catalogue().top_k(states, k)?.flatten_all()?.to_vec1()?)
}

/// Refuses what a model makes of finite weights where it is infinite or none at all: nothing can be ranked by that.
fn check_finite(values: &Tensor, path: &Path) -> anyhow::Result<()> {
    let values = values.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    let message = format!(
        "{}: its scores are no finite numbers, for its weights are too large; train it again with a lower learning rate",
        path.display()
    );
    Err(Refusal::new(message).into())
}

/// Users asked about at once.
struct Batch<'a> {
    histories: Vec<&'a [u32]>,
    tests: Vec<u32>,
    /// `(users, c)`, the test item first; `None` where it is ranked against all items.
    candidates: Option<Answers>,
    exclude_seen: bool,
    device: &'a Device,
}

impl<'a> Batch<'a> {
    /// What a table of lists has for these users, flat `(users, k)`: the answers to the last items of their histories, asked for as an account's
    /// first question each.
    fn looked_up(
        &self,
        (model, path): (&dyn Recommender, &Path),
        service: Option<&mut ProtectedTarget>,
        k: usize,
    ) -> anyhow::Result<Vec<u32>> {
        let last = |history: &&'a [u32]| &history[history.len().saturating_sub(1)..];
        let histories: Vec<&[u32]> = self.histories.iter().map(last).collect();
        match service {
            Some(service) => Ok(service.top_k(&histories, k)?.ids),
            None => Ok(self.ranked(model, path, &histories, k)?.1),
        }
    }

    /// What a checkpoint makes of the users; its scores where these are `compared`.
    fn told(
        &self,
        (model, path): (&dyn Recommender, &Path),
        service: Option<&mut ProtectedTarget>,
        k: usize,
        compared: bool,
    ) -> anyhow::Result<Told> {
        let (states, own) = self.ranked(model, path, &self.histories, k)?;
        let (ranks, answers) = match service {
            Some(service) => {
                let answers = service.top_k(&self.histories, k)?.ids;
                let ranks = match &self.candidates {
                    Some(candidates) => self.places_among(service, candidates, k)?,
                    None => self.places(&answers, k),
                };
                (ranks, answers)
            }
            None => (self.ranks(model, &states)?, own.clone()),
        };
        let scores = if compared {
            let ids = Tensor::from_slice(&own, (self.tests.len(), k), self.device)?;
            let scores = model.catalogue().pick(&states, &ids)?;
            check_finite(&scores, path)?;
            scores.to_vec2::<f32>()?
        } else {
            Vec::new()
        };
        Ok(Told { ranks, answers, own: Some(Own { lists: own, scores }) })
    }

    /// What a recommender that others run makes of `users`.
    fn told_by(&self, service: &mut dyn BlackBox, users: &[usize], k: usize) -> anyhow::Result<Told> {
        let accounts: Vec<u64> = users.iter().map(|&user| user as u64 + 1).collect();
        let answers = service.top_k_for(&accounts, &self.histories, k)?.ids;
        Ok(Told { ranks: self.places(&answers, k), answers, own: None })
    }

    /// The states `(users, hidden)` of a model after histories and its lists, flat `(users, k)`, whose best scores are numbers.
    fn ranked(
        &self,
        model: &dyn Recommender,
        path: &Path,
        histories: &[&[u32]],
        k: usize,
    ) -> anyhow::Result<(Tensor, Vec<u32>)> {
        let placed = model.contexts(histories).upload(self.device)?;
        let states = model.encode(&placed, Mode::Evaluate)?;
        check_finite(&states, path)?;
        let lists = lists(model, &states, k)?;
        let heads: Vec<u32> = lists.iter().step_by(k).copied().collect();
        let heads = Tensor::from_vec(heads, (self.tests.len(), 1), self.device)?;
        check_finite(&model.catalogue().pick(&states, &heads)?, path)?;
        Ok((states, lists))
    }

    /// The ranks that the scores of a model give the test items.
    fn ranks(&self, model: &dyn Recommender, states: &Tensor) -> anyhow::Result<Vec<Option<u32>>> {
        let catalogue = model.catalogue();
        if let Some(candidates) = &self.candidates {
            let ids = Tensor::from_slice(&candidates.ids, (self.tests.len(), candidates.k), self.device)?;
            let scores = catalogue.pick(states, &ids)?.to_vec2::<f32>()?; // (users, candidates)
            return Ok(scores.iter().map(|scores| rank_of(scores, 1)).collect());
        }
        if !self.exclude_seen {
            let tests = Tensor::from_slice(&self.tests, self.tests.len(), self.device)?;
            return Ok(catalogue.ranks(states, &tests)?.to_vec1::<u32>()?.into_iter().map(Some).collect());
        }
        let mut ranks = Vec::with_capacity(self.tests.len());
        let rows_at_once = (SCORES_AT_ONCE / catalogue.items.max(1)).max(1);
        for start in (0..self.tests.len()).step_by(rows_at_once) {
            let rows = rows_at_once.min(self.tests.len() - start);
            let scores = catalogue.scores(&states.narrow(0, start, rows)?)?; // (rows, columns)
            let scores = scores.narrow(1, 1, catalogue.items)?.to_vec2::<f32>()?; // (rows, items)
            for (row, scores) in (start..).zip(&scores) {
                ranks.push(rank_of_unseen(scores, self.tests[row], self.histories[row]));
            }
        }
        Ok(ranks)
    }

    /// The ranks of the test items among the most popular.
    fn popular_ranks(&self, popularity: &Popularity) -> Vec<Option<u32>> {
        let rows = self.tests.iter().zip(&self.histories).enumerate();
        rows.map(|(row, (&test, history))| {
            Some(match &self.candidates {
                Some(candidates) => popularity.rank_among(test, candidates.row(row)),
                None => popularity.rank(test, if self.exclude_seen { history } else { &[] }),
            })
        })
        .collect()
    }

    /// The places of the test items in what a service answers when it has their candidates to choose from and no others.
    fn places_among(
        &self,
        service: &ProtectedTarget,
        candidates: &Answers,
        top_k: usize,
    ) -> anyhow::Result<Vec<Option<u32>>> {
        let answers = service.top_k_among(&self.histories, candidates, top_k.min(candidates.k))?;
        Ok(answers.iter().zip(&self.tests).map(|(list, &test)| place_in(list, test)).collect())
    }

    /// The places of the test items in answered lists, flat `(users, k)`.
    fn places(&self, ids: &[u32], k: usize) -> Vec<Option<u32>> {
        let rows = ids.chunks_exact(k).zip(&self.tests).zip(&self.histories);
        rows.map(|((list, &test), history)| {
            if !self.exclude_seen {
                return place_in(list, test);
            }
            let left: Vec<u32> =
                list.iter().copied().filter(|id| *id == test || !history.contains(id)).collect();
            place_in(&left, test)
        })
        .collect()
    }
}
