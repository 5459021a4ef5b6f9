//! Shapley values of anything that can be evaluated with some of its players left out.
//!
//! A *player* is what gets an attribution: a feature, a token, a region. A [`Coalition`] is the set of players that
//! are present; the others are at their baseline. The caller evaluates coalitions, many at a time, so that they
//! pass through a model as one batch.

use crate::random::Random;

/// The players that are present.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Coalition {
    players: usize,
    words: Vec<u64>,
}

impl Coalition {
    /// Nobody of `players`: the baseline.
    pub fn none(players: usize) -> Self {
        Coalition { players, words: vec![0; players.div_ceil(64)] }
    }

    /// Everybody: the instance itself.
    pub fn all(players: usize) -> Self {
        let mut coalition = Coalition::none(players);
        (0..players).for_each(|p| coalition.add(p));
        coalition
    }

    /// The same without `players`.
    #[must_use]
    pub fn without(&self, players: &[usize]) -> Self {
        let mut coalition = self.clone();
        for player in players.iter().filter(|&&player| player < self.players) {
            coalition.words[player / 64] &= !(1 << (player % 64));
        }
        coalition
    }

    /// Whether `player`, counted from 0, is present.
    pub fn contains(&self, player: usize) -> bool {
        player < self.players && self.words[player / 64] >> (player % 64) & 1 == 1
    }

    /// How many players there are, present or not.
    pub fn players(&self) -> usize {
        self.players
    }

    fn add(&mut self, player: usize) {
        self.words[player / 64] |= 1 << (player % 64);
    }

    /// Members from the bits of `set`; for at most 64 players.
    fn from_bits(players: usize, set: u64) -> Self {
        let mut coalition = Coalition::none(players);
        if let Some(word) = coalition.words.first_mut() {
            *word = set;
        }
        coalition
    }
}

/// How to sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Orders of the players to walk (Vertex AI's path count). Each costs `players − 1` evaluations.
    pub paths: usize,
    /// The same seed draws the same orders.
    pub seed: u64,
    /// The most coalitions to evaluate in one call.
    pub batch_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { paths: 25, seed: 0, batch_max: 1024 }
    }
}

/// Attributions of one output.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution {
    /// Shapley value of each player.
    pub values: Vec<f64>,
    /// Standard error of each value over the sampled orders; 0 where the values are exact. It says what
    /// [`approximation_error`](Attribution::approximation_error) cannot, because every walked order adds up.
    pub standard_errors: Vec<f64>,
    /// The output with every player present.
    pub instance_output: f64,
    /// The output with no player present.
    pub baseline_output: f64,
    /// [`crate::completeness_gap`].
    pub approximation_error: f64,
    /// Coalitions evaluated.
    pub evaluations: usize,
}

/// Why there is no attribution.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// The evaluation itself failed.
    #[error("an input could not be evaluated for its explanation")]
    Evaluation(#[source] E),
    /// The evaluation answered another number of outputs than it was given coalitions.
    #[error("{asked} inputs were to be evaluated and {answered} outputs came back")]
    Length {
        /// Coalitions given.
        asked: usize,
        /// Outputs received.
        answered: usize,
    },
    /// An output was not a number, so nothing can be attributed to it.
    #[error("the model's output is not a finite number for an input with parts left out")]
    NotFinite,
}

/// Shapley values by walking random orders of the players and averaging what each adds when it joins.
///
/// Orders are drawn in pairs, each followed by its reverse, which cancels much of the sampling noise (*antithetic*
/// sampling; Mitchell et al., JMLR 2022). With so few players that all `2^players` coalitions cost no more than the
/// orders asked for, all are evaluated and the values are exact.
pub fn sampled<E>(
    players: usize,
    options: &Options,
    mut evaluate: impl FnMut(&[Coalition]) -> Result<Vec<f64>, E>,
) -> Result<Attribution, Error<E>> {
    let mut game = Game { batch_max: options.batch_max.max(1), evaluations: 0, evaluate: &mut evaluate };
    let ends = game.outputs(&[Coalition::none(players), Coalition::all(players)])?;
    let (baseline, instance) = (ends[0], ends[1]);
    let paths = options.paths.max(1);
    let sampling_cost = paths.saturating_mul(players.saturating_sub(1));
    let (values, standard_errors) = if players < 32 && (1_usize << players).saturating_sub(2) <= sampling_cost
    {
        (exact(players, baseline, instance, &mut game)?, vec![0.0; players])
    } else {
        walk(players, paths, options.seed, baseline, instance, &mut game)?
    };
    Ok(Attribution {
        approximation_error: crate::completeness_gap(&values, instance, baseline),
        values,
        standard_errors,
        instance_output: instance,
        baseline_output: baseline,
        evaluations: game.evaluations,
    })
}

/// The caller's function, in bounded batches, with its answers checked.
struct Game<'a, F> {
    batch_max: usize,
    evaluations: usize,
    evaluate: &'a mut F,
}

impl<F> Game<'_, F> {
    fn outputs<E>(&mut self, coalitions: &[Coalition]) -> Result<Vec<f64>, Error<E>>
    where
        F: FnMut(&[Coalition]) -> Result<Vec<f64>, E>,
    {
        let mut outputs = Vec::with_capacity(coalitions.len());
        for batch in coalitions.chunks(self.batch_max) {
            let answered = (self.evaluate)(batch).map_err(Error::Evaluation)?;
            if answered.len() != batch.len() {
                return Err(Error::Length { asked: batch.len(), answered: answered.len() });
            }
            outputs.extend(answered);
        }
        if outputs.iter().any(|o| !o.is_finite()) {
            return Err(Error::NotFinite);
        }
        self.evaluations += coalitions.len();
        Ok(outputs)
    }
}

/// Every coalition, each player's additions weighted by how many orders they stand for. At least one player,
/// at most 31.
fn exact<E, F>(
    players: usize,
    baseline: f64,
    instance: f64,
    game: &mut Game<'_, F>,
) -> Result<Vec<f64>, Error<E>>
where
    F: FnMut(&[Coalition]) -> Result<Vec<f64>, E>,
{
    let everybody = (1_u64 << players) - 1;
    let between: Vec<Coalition> = (1..everybody).map(|set| Coalition::from_bits(players, set)).collect();
    let mut outputs = vec![baseline];
    outputs.extend(game.outputs(&between)?);
    if players > 0 {
        outputs.push(instance);
    }
    let weights = joining_weights(players);
    let value = |player: usize| {
        let joins = (0..=everybody).filter(|set| set >> player & 1 == 0);
        joins
            .map(|set| {
                let added = outputs[(set | 1 << player) as usize] - outputs[set as usize];
                weights[set.count_ones() as usize] * added
            })
            .sum()
    };
    Ok((0..players).map(value).collect())
}

/// The share of all orders in which one given set of `size` players is exactly what precedes a given player:
/// `size! (players − size − 1)! / players!`, by size.
fn joining_weights(players: usize) -> Vec<f64> {
    let mut weights = Vec::with_capacity(players);
    let mut choices = 1.0; // players − 1 choose size
    for size in 0..players {
        weights.push(1.0 / (players as f64 * choices));
        choices *= (players - 1 - size) as f64 / (size + 1) as f64;
    }
    weights
}

/// Values and their standard errors from `paths` random orders.
fn walk<E, F>(
    players: usize,
    paths: usize,
    seed: u64,
    baseline: f64,
    instance: f64,
    game: &mut Game<'_, F>,
) -> Result<(Vec<f64>, Vec<f64>), Error<E>>
where
    F: FnMut(&[Coalition]) -> Result<Vec<f64>, E>,
{
    let mut random = Random::new(seed);
    let mut samples = Samples::new(players);
    let mut left = paths;
    while left > 0 {
        let mut pair = vec![random_order(players, &mut random)];
        if left > 1 {
            pair.push(pair[0].iter().rev().copied().collect());
        }
        left -= pair.len();
        let coalitions: Vec<Coalition> = pair.iter().flat_map(|order| prefixes(order)).collect();
        let outputs = game.outputs(&coalitions)?;
        samples.add(&pair, &outputs, baseline, instance);
    }
    Ok((samples.means(), samples.standard_errors()))
}

fn random_order(players: usize, random: &mut Random) -> Vec<usize> {
    let mut order: Vec<usize> = (0..players).collect();
    random.shuffle(&mut order);
    order
}

/// The coalitions after each player but the last has joined: their outputs are not known yet.
fn prefixes(order: &[usize]) -> impl Iterator<Item = Coalition> + '_ {
    let mut present = Coalition::none(order.len());
    order.iter().take(order.len().saturating_sub(1)).map(move |player| {
        present.add(*player);
        present.clone()
    })
}

/// What players added, averaged over independent draws. A draw is a pair of orders, or one at the end.
struct Samples {
    orders: f64,
    draws: f64,
    sums: Vec<f64>,
    /// Of the draws' means, for the standard error.
    draw_sums: Vec<f64>,
    draw_squares: Vec<f64>,
}

impl Samples {
    fn new(players: usize) -> Self {
        let zeros = vec![0.0; players];
        Samples {
            orders: 0.0,
            draws: 0.0,
            sums: zeros.clone(),
            draw_sums: zeros.clone(),
            draw_squares: zeros,
        }
    }

    fn add(&mut self, orders: &[Vec<usize>], outputs: &[f64], baseline: f64, instance: f64) {
        let players = self.sums.len();
        let mut added = vec![0.0; players];
        let inner = players.saturating_sub(1);
        for (i, order) in orders.iter().enumerate() {
            let mut before = baseline;
            let after = outputs[i * inner..(i + 1) * inner].iter().copied().chain([instance]);
            for (player, output) in order.iter().zip(after) {
                added[*player] += output - before;
                before = output;
            }
        }
        self.orders += orders.len() as f64;
        self.draws += 1.0;
        for (player, added) in added.iter().enumerate() {
            let mean = added / orders.len() as f64;
            self.sums[player] += added;
            self.draw_sums[player] += mean;
            self.draw_squares[player] += mean * mean;
        }
    }

    fn means(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.orders).collect()
    }

    /// Unknown from a single draw: 0 then, as nothing better can be said.
    fn standard_errors(&self) -> Vec<f64> {
        if self.draws < 2.0 {
            return vec![0.0; self.sums.len()];
        }
        let both = self.draw_sums.iter().zip(&self.draw_squares);
        both.map(|(sum, squares)| {
            let variance = (squares - sum * sum / self.draws).max(0.0) / (self.draws - 1.0);
            (variance / self.draws).sqrt()
        })
        .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    type Output = Result<Vec<f64>, Infallible>;

    /// A game by its value function on one coalition.
    fn game(value: impl Fn(&Coalition) -> f64) -> impl FnMut(&[Coalition]) -> Output {
        move |coalitions| Ok(coalitions.iter().map(&value).collect())
    }

    fn near(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() <= tolerance, "{found:?} is not {expected:?}");
        }
    }

    /// The definition: the mean over all orders.
    fn brute_force(players: usize, value: &dyn Fn(&Coalition) -> f64) -> Vec<f64> {
        fn orders(prefix: &mut Vec<usize>, players: usize, visit: &mut dyn FnMut(&[usize])) {
            if prefix.len() == players {
                return visit(prefix);
            }
            for p in 0..players {
                if !prefix.contains(&p) {
                    prefix.push(p);
                    orders(prefix, players, visit);
                    prefix.pop();
                }
            }
        }
        let mut sums = vec![0.0; players];
        let mut n = 0.0;
        orders(&mut Vec::new(), players, &mut |order| {
            n += 1.0;
            let mut present = Coalition::none(players);
            for p in order {
                let before = value(&present);
                present.add(*p);
                sums[*p] += value(&present) - before;
            }
        });
        sums.iter().map(|s| s / n).collect()
    }

    /// Random value of a coalition, the same each time it is asked for.
    fn random_value(seed: u64, coalition: &Coalition) -> f64 {
        let mut random = Random::new(seed);
        for word in &coalition.words {
            random = Random::new(random.next() ^ word);
        }
        random.unit()
    }

    #[test]
    fn linear_game_is_exact_with_one_path() {
        let weights: Vec<f64> = (0..100).map(|i| f64::from(i) - 30.0).collect();
        let value =
            |c: &Coalition| 5.0 + (0..100).filter(|p| c.contains(*p)).map(|p| weights[p]).sum::<f64>();
        for paths in [1, 2, 7] {
            let options = Options { paths, seed: 3, ..Options::default() };
            let found = sampled(100, &options, game(value)).unwrap();
            near(&found.values, &weights, 1e-9);
            near(&found.standard_errors, &[0.0; 100], 1e-6);
            assert!(found.approximation_error < 1e-12);
            assert_eq!((found.baseline_output, found.evaluations), (5.0, 2 + 99 * paths));
        }
    }

    #[test]
    fn small_games_are_exact() {
        for players in 1..=7 {
            let value = |c: &Coalition| random_value(players as u64, c);
            let options = Options { paths: 50, ..Options::default() };
            let found = sampled(players, &options, game(value)).unwrap();
            near(&found.values, &brute_force(players, &value), 1e-12);
            assert_eq!(found.standard_errors, vec![0.0; players]);
            assert!(found.approximation_error < 1e-12);
            assert_eq!(found.evaluations, 1 << players);
        }
    }

    #[test]
    fn the_glove_game_has_its_textbook_values() {
        // Players 0 and 1 hold left gloves, 2 a right one; a pair is worth 1.
        let value = |c: &Coalition| f64::from((c.contains(0) || c.contains(1)) && c.contains(2));
        let found = sampled(3, &Options::default(), game(value)).unwrap();
        near(&found.values, &[1.0 / 6.0, 1.0 / 6.0, 4.0 / 6.0], 1e-12);
    }

    #[test]
    fn sampling_comes_near_and_always_adds_up() {
        let value = |c: &Coalition| random_value(11, c);
        let truth = brute_force(7, &value);
        let options = Options { paths: 10, seed: 5, ..Options::default() };
        let few = sampled(7, &options, game(value)).unwrap();
        assert!(few.approximation_error < 1e-12 && few.evaluations == 2 + 60);

        let mut random = Random::new(0);
        let mut samples = Samples::new(7);
        for _ in 0..20_000 {
            let order = random_order(7, &mut random);
            let outputs: Vec<f64> = prefixes(&order).map(|c| value(&c)).collect();
            samples.add(&[order], &outputs, value(&Coalition::none(7)), value(&Coalition::all(7)));
        }
        for ((mean, error), truth) in samples.means().iter().zip(samples.standard_errors()).zip(&truth) {
            assert!((mean - truth).abs() < 5.0 * error, "{mean} ± {error} is not {truth}");
        }
    }

    #[test]
    fn same_seed_same_values_whatever_the_batches() {
        let value = |c: &Coalition| random_value(1, c);
        let run = |seed, batch_max| {
            let options = Options { paths: 6, seed, batch_max };
            sampled(20, &options, game(value)).unwrap().values
        };
        assert_eq!(run(1, 1), run(1, 1000));
        assert_ne!(run(1, 64), run(2, 64));
    }

    #[test]
    fn batches_are_bounded() {
        let mut largest = 0;
        let options = Options { paths: 5, seed: 0, batch_max: 8 };
        sampled(50, &options, |c: &[Coalition]| -> Output {
            largest = largest.max(c.len());
            Ok(vec![1.0; c.len()])
        })
        .unwrap();
        assert_eq!(largest, 8);
    }

    #[test]
    fn no_players_no_values() {
        let found = sampled(0, &Options::default(), game(|_| 2.0)).unwrap();
        assert!(found.values.is_empty());
        assert_eq!((found.instance_output, found.approximation_error), (2.0, 0.0));
    }

    #[test]
    fn faults_are_named() {
        let short = sampled(3, &Options::default(), |_| -> Output { Ok(vec![0.0]) });
        assert!(matches!(short, Err(Error::Length { asked: 2, answered: 1 })));
        let nan = sampled(3, &Options::default(), game(|_| f64::NAN));
        assert!(matches!(nan, Err(Error::NotFinite)));
        let failed = sampled(3, &Options::default(), |_| Err::<Vec<f64>, _>("down"));
        assert!(matches!(failed, Err(Error::Evaluation("down"))));
    }
}
