//! `gro-preprocess synth`: made-up ratings in MovieLens-20M's csv layout, for trials of any size without a network.
//!
//! Items are popular by a Zipf–Mandelbrot law and belong to clusters of taste. A user stays with a taste for a while
//! and then drifts, mostly to the neighbouring one; within a taste the next item is often the sequel of the last (the
//! next in the cluster's order of popularity), otherwise a popular one, and now and then anything at all. So the
//! next item depends on the last few, and a sequential model has something to find that popularity does not know.
//! As in MovieLens, nobody rates an item twice, and the file is sorted by user and movie, not by time.
//!
//! Every user has a random stream of its own, keyed by (seed, user), and only additions and divisions touch floats:
//! the same seed gives the same bytes on any number of threads and any machine. Memory holds the catalogue and the
//! users' lengths, never the interactions.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use indicatif::ProgressBar;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use stage::memory::Need;
use stage::{Checked, Flags, Outcome, Plan, Refusal, progress};
use streams::{below_wide, unit};

/// Share of steps that take the sequel of the last item.
const SEQUEL: f64 = 0.45;
/// Share of steps that take any item of the catalogue by its popularity, without changing the taste.
const ANYTHING: f64 = 0.08;
/// Chance, before each step, that the taste drifts.
const DRIFT: f64 = 0.08;
/// Of the drifts, the share that ends at the neighbouring taste.
const TO_NEIGHBOUR: f64 = 0.8;
/// Draws, all of seen items, after which the next unseen item in order is taken.
const DRAWS: usize = 6;
/// Every user rates this many items where the total allows (MovieLens admits nobody with fewer).
const SHORTEST: u64 = 20;
/// Users generated in one go by one thread.
const USERS_AT_ONCE: u32 = 64;
/// 9 January 1995, the first day of MovieLens-20M.
const FIRST_SECOND: u64 = 789_652_000;
/// First ratings are spread over twenty years from then on.
const SPREAD_SECONDS: u64 = 20 * 365 * 86_400;

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Number of users, all of whom appear.
    pub users: u32,
    /// Number of items; the least popular may not appear.
    pub items: u32,
    /// Number of interactions, exactly.
    pub interactions: u64,
    /// Seed of all that is random.
    pub seed: u64,
}

impl Recipe {
    /// The most interactions one user can have: a user with nearly all items has nothing left to choose.
    fn longest(&self) -> u64 {
        u64::from(self.items) * 4 / 5
    }

    /// Refuses what cannot be made.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.users == 0 || self.items == 0 {
            return Err(Refusal::new("--users and --items must be at least 1"));
        }
        if self.longest() < 3 {
            return Err(Refusal::new(format!(
                "--items is {}, expected at least 4: a user has three interactions or more, with at most four fifths of the items",
                self.items
            )));
        }
        let (least, most) = (u64::from(self.users) * 3, u64::from(self.users) * self.longest());
        if self.interactions < least || self.interactions > most {
            return Err(Refusal::new(format!(
                "--interactions is {}, expected {least} (three for each of {} users) to {most} (at most four fifths of \
                 the {} items for each)",
                self.interactions, self.users, self.items
            )));
        }
        Ok(())
    }
}

/// Makes the directory `out` with the recipe's `ratings.csv`, unless it is up to date.
///
/// # Errors
/// A refusal for a recipe that cannot be met; a failure to write.
pub fn synthesise(recipe: &Recipe, out: &Path, settings: &Checked, flags: &Flags) -> anyhow::Result<Outcome> {
    recipe.check()?;
    let plan = Plan::new("gro-preprocess synth", out, flags, settings, &[])
        .argument("users", recipe.users)
        .argument("items", recipe.items)
        .argument("interactions", recipe.interactions);
    plan.produce(|directory| {
        // Lengths and weights of the users; weights, sums and names of the items.
        let (users, items) = (f64::from(recipe.users), f64::from(recipe.items));
        Need::new()
            .part("users", 24.0 * users, &["--users"])
            .part("items", 40.0 * items, &["--items"])
            .check()?;
        let path = directory.join("ratings.csv");
        let bar = progress::bar(recipe.interactions, "making ratings up", flags.quiet);
        let file = || {
            let mut file = BufWriter::new(File::create(&path)?);
            write(recipe, &mut file, &bar)?;
            file.flush()
        };
        file().with_context(|| format!("cannot write {}", path.display()))?;
        bar.finish_and_clear();
        Ok(())
    })
}

/// Writes the ratings to `out`, as csv with a header. `progress` counts interactions.
pub fn write(recipe: &Recipe, out: &mut impl Write, progress: &ProgressBar) -> io::Result<()> {
    let catalogue = Catalogue::new(recipe);
    let lengths = lengths(recipe);
    out.write_all(b"userId,movieId,rating,timestamp\n")?;
    let mut first = 0;
    while first < recipe.users {
        let end = recipe.users.min(first.saturating_add(USERS_AT_ONCE * rayon::current_num_threads() as u32));
        let starts: Vec<u32> = (first..end).step_by(USERS_AT_ONCE as usize).collect();
        let texts: Vec<Vec<u8>> = starts
            .into_par_iter()
            .map(|start| {
                let mut simulation = Simulation::new(&catalogue, recipe.seed);
                let mut text = Vec::new();
                for user in start..end.min(start + USERS_AT_ONCE) {
                    simulation.write_user(user, lengths[user as usize], &mut text);
                }
                text
            })
            .collect();
        for text in texts {
            out.write_all(&text)?;
        }
        progress.inc(lengths[first as usize..end as usize].iter().map(|&length| u64::from(length)).sum());
        first = end;
    }
    Ok(())
}

/// A random stream of this recipe: stream 0 is the catalogue's, the last is of the lengths, the others are the users'.
fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut stream = ChaCha8Rng::seed_from_u64(seed);
    stream.set_stream(number);
    stream
}

/// How many items each user rates: a few rate very many. The sum is exactly the recipe's.
fn lengths(recipe: &Recipe) -> Vec<u32> {
    let users = u64::from(recipe.users);
    // At least three for everybody, else half of the mean if that is less than MovieLens' twenty.
    let shortest = (recipe.interactions / users / 2).clamp(3, SHORTEST);
    let mut spare = recipe.interactions - shortest * users;
    let mut stream = stream(recipe.seed, u64::MAX);
    // Weights from 1/1.05 to 20 with a mean near 3, in thousandths.
    let weights: Vec<u64> = (0..users).map(|_| (1000.0 / (unit(&mut stream) + 0.05)) as u64).collect();
    let total: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    let (mut seen, mut dealt) = (0u128, 0u64);
    let shared = spare;
    let mut lengths: Vec<u64> = Vec::with_capacity(weights.len());
    for weight in weights {
        seen += u128::from(weight);
        let due = (u128::from(shared) * seen / total) as u64;
        let length = (shortest + due - dealt).min(recipe.longest());
        dealt = due;
        spare -= length - shortest;
        lengths.push(length);
    }
    // What was cut off at the top goes to those who have room.
    for length in &mut lengths {
        let more = spare.min(recipe.longest() - *length);
        *length += more;
        spare -= more;
    }
    lengths.into_iter().map(|length| length as u32).collect()
}

/// The catalogue: which items belong together and how popular they are. Items are known by popularity rank here.
struct Catalogue {
    /// Running sums of the weights of all ranks.
    popularity: Vec<f64>,
    /// Per cluster, running sums of the weights of its ranks. Rank `r` is the `r / clusters`-th of cluster
    /// `r % clusters`.
    clusters: Vec<Vec<f64>>,
    /// The movie id of each rank, so that ids do not tell popularity.
    movies: Vec<u32>,
}

impl Catalogue {
    fn new(recipe: &Recipe) -> Self {
        let items = recipe.items as usize;
        let clusters = ((recipe.items as f64).sqrt() * 0.7).round().max(1.0) as usize;
        // The offset flattens the head: with the sizes of MovieLens-20M a draw by popularity alone is the first item in
        // 0.3 % of all cases, as there. (Sequels, and that nobody rates twice, flatten it further.)
        let offset = (recipe.items as f64).sqrt() / 3.0;
        let weight = |rank: usize| 1.0 / (rank as f64 + 1.0 + offset);
        let running = |ranks: &mut dyn Iterator<Item = usize>| -> Vec<f64> {
            let sums = ranks.scan(0.0, |sum, rank| {
                *sum += weight(rank);
                Some(*sum)
            });
            sums.collect()
        };
        let mut movies: Vec<u32> = (1..=recipe.items).collect();
        let mut stream = stream(recipe.seed, 0);
        for last in (1..items).rev() {
            movies.swap(last, below_wide(&mut stream, last as u64 + 1) as usize);
        }
        Self {
            popularity: running(&mut (0..items)),
            clusters: (0..clusters).map(|first| running(&mut (first..items).step_by(clusters))).collect(),
            movies,
        }
    }

    /// A place of `sums` drawn by weight.
    fn draw(sums: &[f64], stream: &mut impl Rng) -> usize {
        let total = sums.last().copied().unwrap_or(0.0);
        let point = unit(stream) * total;
        sums.partition_point(|&sum| sum <= point).min(sums.len() - 1)
    }
}

/// Simulates users, one after another; the memory of one is reused for the next.
struct Simulation<'a> {
    catalogue: &'a Catalogue,
    seed: u64,
    /// By rank: the last user simulated here (counted from 1) who rated it.
    seen_by: Vec<u32>,
    /// Movie, rating in half stars, second.
    rows: Vec<(u32, u8, u64)>,
}

impl<'a> Simulation<'a> {
    fn new(catalogue: &'a Catalogue, seed: u64) -> Self {
        Self { catalogue, seed, seen_by: vec![0; catalogue.movies.len()], rows: Vec::new() }
    }

    /// Writes the rows of the user at `place` (counted from 0).
    fn write_user(&mut self, place: u32, length: u32, text: &mut Vec<u8>) {
        let user = place + 1;
        let clusters = self.catalogue.clusters.len();
        let mut stream = stream(self.seed, u64::from(user));
        let mut taste = Catalogue::draw(&self.catalogue.popularity, &mut stream) % clusters;
        // The place within the taste of what was rated last there.
        let mut last = None;
        let mut second = FIRST_SECOND + below_wide(&mut stream, SPREAD_SECONDS);
        self.rows.clear();
        for _ in 0..length {
            if unit(&mut stream) < DRIFT {
                let neighbour = unit(&mut stream) < TO_NEIGHBOUR;
                taste = if neighbour { taste + 1 } else { below_wide(&mut stream, clusters as u64) as usize }
                    % clusters;
                last = None;
            }
            let kind = unit(&mut stream);
            let (rank, liking) = if kind < ANYTHING {
                (self.unseen_anywhere(user, &mut stream), 2)
            } else {
                let sequel = last.filter(|_| kind < ANYTHING + SEQUEL);
                let (found, place) = self.unseen_of_taste(user, taste, sequel, &mut stream);
                taste = found;
                last = Some(place);
                (taste + place * clusters, 6)
            };
            self.seen_by[rank] = user;
            let half_stars = liking + below_wide(&mut stream, 5) as u8;
            self.rows.push((self.catalogue.movies[rank], half_stars, second));
            // Mostly seconds and minutes apart, sometimes days.
            let pause = if unit(&mut stream) < 0.03 { 30 * 86_400 } else { 120 };
            second += 1 + below_wide(&mut stream, pause);
        }
        self.rows.sort_unstable();
        let mut number = itoa::Buffer::new();
        for &(movie, half_stars, second) in &self.rows {
            text.extend_from_slice(number.format(user).as_bytes());
            text.push(b',');
            text.extend_from_slice(number.format(movie).as_bytes());
            text.extend_from_slice(&[b',', b'0' + half_stars / 2, b'.', b'0' + half_stars % 2 * 5, b',']);
            text.extend_from_slice(number.format(second).as_bytes());
            text.push(b'\n');
        }
    }

    /// The rank of an unseen item, by popularity. There is one: nobody rates more than four fifths.
    fn unseen_anywhere(&self, user: u32, stream: &mut impl Rng) -> usize {
        let mut rank = Catalogue::draw(&self.catalogue.popularity, stream);
        for _ in 1..DRAWS {
            if self.seen_by[rank] != user {
                break;
            }
            rank = Catalogue::draw(&self.catalogue.popularity, stream);
        }
        while self.seen_by[rank] == user {
            rank = (rank + 1) % self.seen_by.len();
        }
        rank
    }

    /// A taste and the place in it of an unseen item: the sequel of `last` if one is asked for, else drawn by
    /// popularity. A taste without unseen items gives way to its neighbour.
    fn unseen_of_taste(
        &self,
        user: u32,
        taste: usize,
        last: Option<usize>,
        stream: &mut impl Rng,
    ) -> (usize, usize) {
        let clusters = self.catalogue.clusters.len();
        let mut taste = taste;
        let mut last = last;
        loop {
            let sums = &self.catalogue.clusters[taste];
            let seen = |place: usize| self.seen_by[taste + place * clusters] == user;
            let mut place =
                last.map_or_else(|| Catalogue::draw(sums, stream), |last| (last + 1) % sums.len());
            if last.is_none() {
                for _ in 1..DRAWS {
                    if !seen(place) {
                        break;
                    }
                    place = Catalogue::draw(sums, stream);
                }
            }
            for _ in 0..sums.len() {
                if !seen(place) {
                    return (taste, place);
                }
                place = (place + 1) % sums.len();
            }
            taste = (taste + 1) % clusters;
            last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(recipe: &Recipe) -> Vec<(u32, u32, f64, u64)> {
        let mut bytes = Vec::new();
        write(recipe, &mut bytes, &ProgressBar::hidden()).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("userId,movieId,rating,timestamp"));
        lines
            .map(|line| {
                let fields: Vec<&str> = line.split(',').collect();
                let [user, movie, rating, time] = fields.as_slice() else { panic!("{line}") };
                (
                    user.parse().unwrap(),
                    movie.parse().unwrap(),
                    rating.parse().unwrap(),
                    time.parse().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn a_recipe_is_met_exactly() {
        for (users, items, interactions) in
            [(400, 200, 20_000), (1, 10, 8), (7, 5, 21), (50, 30, 1200), (3, 1000, 2000)]
        {
            let recipe = Recipe { users, items, interactions, seed: 5 };
            recipe.check().unwrap();
            let rows = rows(&recipe);
            assert_eq!(rows.len() as u64, interactions);
            assert!(
                rows.windows(2).all(|pair| (pair[0].0, pair[0].1) < (pair[1].0, pair[1].1)),
                "order or repeats"
            );
            assert_eq!((rows[0].0, rows[rows.len() - 1].0), (1, users));
            for &(_, movie, rating, _) in &rows {
                assert!(
                    (1..=items).contains(&movie)
                        && (0.5..=5.0).contains(&rating)
                        && (rating * 2.0).fract() == 0.0
                );
            }
        }
    }

    #[test]
    fn impossible_recipes_are_refused() {
        for (users, items, interactions) in [(0, 5, 0), (5, 0, 15), (5, 10, 14), (5, 10, 41)] {
            assert!(
                Recipe { users, items, interactions, seed: 1 }.check().is_err(),
                "{users} {items} {interactions}"
            );
        }
        let few = Recipe { users: 10, items: 3, interactions: 30, seed: 1 }.check().unwrap_err().to_string();
        assert!(few.contains("--items is 3, expected at least 4"), "{few}");
    }

    #[test]
    fn the_last_item_tells_more_than_popularity() {
        let recipe = Recipe { users: 400, items: 200, interactions: 20_000, seed: 1 };
        let mut rows = rows(&recipe);
        rows.sort_by_key(|&(user, _, _, time)| (user, time));
        let mut popular = vec![0u32; 201];
        let mut follows = vec![vec![0u32; 201]; 201];
        let mut tests = Vec::new();
        for pair in rows.windows(2) {
            let ((user, movie, ..), (next_user, next, ..)) = (pair[0], pair[1]);
            popular[movie as usize] += 1;
            if user == next_user {
                follows[movie as usize][next as usize] += 1;
                tests.push((user, movie, next));
            }
        }
        // The last transition of each user, guessed from all others.
        tests.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                *earlier = *later;
            }
            same
        });
        let hit = |scores: &[u32], item: u32| {
            scores.iter().filter(|&&score| score >= scores[item as usize]).count() <= 10
        };
        let (mut by_popularity, mut by_last) = (0, 0);
        for &(_, movie, next) in &tests {
            follows[movie as usize][next as usize] -= 1;
            by_popularity += u32::from(hit(&popular, next));
            by_last += u32::from(hit(&follows[movie as usize], next));
        }
        assert_eq!(tests.len(), 400);
        assert!(
            by_last > 2 * by_popularity && by_last > 120,
            "last item {by_last}, popularity {by_popularity}"
        );
    }
}
