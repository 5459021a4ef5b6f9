//! [`Trainer`]: the loop over epochs and batches.

use std::time::{Duration, Instant};

use formats::spec::{EarlyStopping, Layer, Monitor, SpecError, TrainSpec};

use super::plan::Plan;
use super::stop;
use crate::features::Input;
use crate::head::Sums;
use crate::network::{Batch, Mode, Net, Param, PassError, Wanted};
use crate::optimizer::Stepper;
use crate::products::Products;
use crate::random::Random;
use crate::{Epoch, Flow, TrainError};

/// Rows of a validation batch.
const VALIDATION_ROWS: usize = 256;
/// How often the caller is asked whether to go on.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// A network being trained.
pub(super) struct Trainer<'a> {
    spec: &'a TrainSpec,
    plan: &'a Plan,
    input: &'a Input,
    net: Net,
    stepper: Stepper,
    products: Products,
    /// Order of rows.
    order: Random,
    /// Which units drop out.
    dropout: Random,
    /// Buffers of a batch.
    answers: (Vec<u32>, Vec<f32>),
    gradient: Vec<f32>,
    /// By each weight array.
    gradients: Vec<Vec<f32>>,
    /// When it was last asked whether to go on.
    asked: Instant,
}

impl<'a> Trainer<'a> {
    pub(super) fn new(spec: &'a TrainSpec, plan: &'a Plan, input: &'a Input) -> Result<Self, TrainError> {
        let net = Net::new(&input.shape, &plan.layers, plan.classifies(), spec.seed)?;
        if !net.params.iter().any(Param::learns) {
            return Err(SpecError::new("layers", "no layer has weights to learn").into());
        }
        let stepper = Stepper::new(spec.optimizer, net.params.iter().map(|p| p.values.len()));
        Ok(Trainer {
            spec,
            plan,
            input,
            stepper,
            products: Products::new().map_err(PassError::from)?,
            gradients: net.gradients(),
            net,
            order: Random::new(spec.seed, 3),
            dropout: Random::new(spec.seed, 4),
            answers: Default::default(),
            gradient: Vec::new(),
            asked: Instant::now(),
        })
    }

    /// The network, with the weights reached.
    pub(super) fn into_net(self) -> Net {
        self.net
    }

    /// Trains to the last epoch, or to where early stopping ends it.
    pub(super) fn run(
        &mut self,
        training: &[usize],
        validation: &[usize],
        on_epoch: &mut dyn FnMut(&Epoch) -> Flow,
        check: &mut dyn FnMut() -> Flow,
    ) -> Result<Vec<Epoch>, TrainError> {
        let mut epochs = Vec::new();
        let mut patience = self.spec.early_stopping.map(Patience::new);
        let mut order = training.to_vec();
        for number in 1..=self.spec.epochs {
            let begin = Instant::now();
            if self.spec.shuffle {
                self.order.shuffle(&mut order);
            }
            let trained = self.pass(&order, number, check)?;
            let validated = match validation {
                [] => None,
                rows => Some(self.validate(rows, check)?),
            };
            let epoch = self.epoch(number, trained, validated, begin.elapsed());
            let flow = on_epoch(&epoch);
            let ends = patience.as_mut().is_some_and(|patience| patience.ends(&epoch, &self.net));
            epochs.push(epoch);
            stop(flow)?;
            if ends {
                break;
            }
        }
        if let Some(best) = patience.and_then(|patience| patience.best) {
            self.net.params = best;
        }
        Ok(epochs)
    }

    /// One pass over the training rows.
    fn pass(
        &mut self,
        order: &[usize],
        epoch: usize,
        check: &mut dyn FnMut() -> Flow,
    ) -> Result<Sums, TrainError> {
        let mut sums = Sums::default();
        for rows in order.chunks(self.spec.batch_size) {
            let step = self.step(rows)?;
            sums.add(step);
            if !step.loss.is_finite() {
                let learning_rate = self.spec.optimizer.learning_rate;
                return Err(TrainError::NotFinite { epoch, loss: step.loss, learning_rate });
            }
            self.ask(check)?;
        }
        Ok(sums)
    }

    /// Asks whether to go on, if the last time is a while ago, in whichever epoch.
    fn ask(&mut self, check: &mut dyn FnMut() -> Flow) -> Result<(), TrainError> {
        if self.asked.elapsed() >= CHECK_EVERY {
            stop(check())?;
            self.asked = Instant::now();
        }
        Ok(())
    }

    /// One step on a batch.
    fn step(&mut self, rows: &[usize]) -> Result<Sums, TrainError> {
        let batch = self.batch(rows);
        let pass = self.net.run(batch, Mode::Training(&mut self.dropout), &mut self.products)?;
        let answers = self.plan.gather(rows, &mut self.answers);
        let Plan { head, width, weights, .. } = self.plan;
        let sums = head.measure(pass.output(), *width, answers, weights, &mut self.gradient);
        let wanted = Wanted::Weights(&mut self.gradients);
        self.net.back(&pass, self.gradient.clone(), wanted, &mut self.products).map_err(PassError::from)?;
        self.stepper.begin();
        for (i, (param, gradient)) in self.net.params.iter_mut().zip(&self.gradients).enumerate() {
            if param.learns() {
                self.stepper.update(i, &mut param.values, gradient);
            }
        }
        for (layer, mean, variance) in pass.statistics() {
            self.follow(layer, "moving_mean", mean);
            self.follow(layer, "moving_variance", variance);
        }
        Ok(sums)
    }

    /// Moves moving statistics towards those of a batch.
    fn follow(&mut self, layer: usize, name: &str, batch: &[f32]) {
        let momentum = match self.net.layers.get(layer) {
            Some(Layer::BatchNormalization { momentum, .. }) => *momentum as f32,
            _ => return,
        };
        for param in self.net.params.iter_mut().filter(|p| p.layer == layer && p.name == name) {
            for (moving, new) in param.values.iter_mut().zip(batch) {
                *moving = *moving * momentum + new * (1.0 - momentum);
            }
        }
    }

    fn validate(&mut self, rows: &[usize], check: &mut dyn FnMut() -> Flow) -> Result<Sums, TrainError> {
        let mut sums = Sums::default();
        for rows in rows.chunks(VALIDATION_ROWS) {
            let pass = self.net.run(self.batch(rows), Mode::Logits, &mut self.products)?;
            let answers = self.plan.gather(rows, &mut self.answers);
            let Plan { head, width, .. } = self.plan;
            sums.add(head.measure(pass.output(), *width, answers, &[], &mut self.gradient));
            self.ask(check)?;
        }
        Ok(sums)
    }

    fn batch(&self, rows: &[usize]) -> Batch {
        let width = self.input.shape.iter().product::<usize>();
        let row = |i: &usize| self.input.rows.get(i * width..(i + 1) * width).unwrap_or_default();
        if self.input.ids {
            return Batch::Ids(rows.iter().flat_map(|i| row(i).iter().map(|id| *id as i32)).collect());
        }
        let mut values = Vec::with_capacity(rows.len() * width);
        rows.iter().for_each(|i| values.extend_from_slice(row(i)));
        Batch::Numbers(values)
    }

    fn epoch(&self, epoch: usize, trained: Sums, validated: Option<Sums>, time: Duration) -> Epoch {
        let deviation = self.plan.scale.1;
        let classifies = self.plan.classifies();
        let mean = |sum: f64, sums: &Sums| sum / sums.rows.max(1) as f64;
        let loss = |s: &Sums| mean(s.loss, s) * deviation * deviation;
        let accuracy = |s: &Sums| classifies.then(|| mean(s.correct as f64, s));
        let error = |s: &Sums| (!classifies).then(|| mean(s.absolute_error, s) * deviation);
        Epoch {
            epoch,
            loss: loss(&trained),
            accuracy: accuracy(&trained),
            mean_absolute_error: error(&trained),
            validation_loss: validated.as_ref().map(loss),
            validation_accuracy: validated.as_ref().and_then(accuracy),
            validation_mean_absolute_error: validated.as_ref().and_then(error),
            seconds: time.as_secs_f64(),
        }
    }
}

/// Early stopping, under way.
struct Patience {
    stopping: EarlyStopping,
    reached: Option<f64>,
    waited: usize,
    /// Weights of the best epoch, where they are to be restored.
    best: Option<Vec<Param>>,
}

impl Patience {
    fn new(stopping: EarlyStopping) -> Self {
        Patience { stopping, reached: None, waited: 0, best: None }
    }

    /// Whether training ends with this epoch.
    fn ends(&mut self, epoch: &Epoch, net: &Net) -> bool {
        // Larger is better.
        let now = match self.stopping.monitor {
            Monitor::Loss => Some(-epoch.loss),
            Monitor::Accuracy => epoch.accuracy,
            Monitor::ValidationLoss => epoch.validation_loss.map(|loss| -loss),
            Monitor::ValidationAccuracy => epoch.validation_accuracy,
        };
        let Some(now) = now else { return false };
        if self.reached.is_none_or(|best| now > best + self.stopping.min_delta) {
            self.reached = Some(now);
            self.waited = 0;
            if self.stopping.restore_best {
                self.best = Some(net.params.clone());
            }
            return false;
        }
        self.waited += 1;
        self.waited >= self.stopping.patience
    }
}
