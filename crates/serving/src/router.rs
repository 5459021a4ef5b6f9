//! [`Router`]: from an endpoint's name to an answer.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use formats::Value;
use tensor::Tensors;
use tokio::sync::oneshot;

use crate::batcher::{Batcher, Limits};
use crate::bind::value_bytes;
use crate::counters::{CounterSnapshot, Counters, bump};
use crate::error::{PredictError, ServeError};
use crate::examples::{Examples, NearExample, Vectors};
use crate::explain::{Explain, Explanation};
use crate::language::{LanguageExplain, LanguageExplanation, LanguageRoute, project_of};
use crate::model::Model;
use crate::pool::Pool;
use crate::predictions::Predictions;
use crate::split::Split;

/// What every endpoint serves. Immutable once published.
#[derive(Debug, Default, Clone)]
pub struct RoutingTable {
    /// By the endpoint's resource name.
    pub routes: HashMap<String, Route>,
}

/// What one endpoint serves.
#[derive(Debug, Default, Clone)]
pub struct Route {
    /// The models behind it.
    pub deployed: Vec<Deployed>,
}

/// A model version behind an endpoint.
#[derive(Debug, Clone)]
pub struct Deployed {
    /// Unique in its endpoint. One that stays in the next table with the same model keeps its queue; its
    /// counts it keeps in any case.
    pub id: String,
    /// The loaded model.
    pub model: Arc<Model>,
    /// The model's resource name, without a version.
    pub model_name: String,
    /// The version.
    pub version: u32,
    /// What else the version is called.
    pub aliases: Vec<String>,
    /// What people call it.
    pub display_name: String,
    /// Its share of the endpoint's traffic, relative to the others'.
    pub weight: u32,
    /// How it explains when the request does not say; `None` for [`Explain::default`].
    pub explain: Option<Explain>,
    /// Where it explains by examples instead.
    pub nearest: Option<Nearest>,
    /// Batches of it that may run at once, where that is fewer than usual. A language model has its bound from its load:
    /// [`LanguageOptions::running_max`](crate::LanguageOptions::running_max).
    pub concurrency: Option<NonZeroUsize>,
}

impl Deployed {
    /// Whether `other` may go on with the queue of this one.
    fn runs_as(&self, other: &Deployed) -> bool {
        Arc::ptr_eq(&self.model, &other.model) && self.concurrency == other.concurrency
    }
}

/// Explanation by the examples nearest to an instance.
#[derive(Debug, Clone)]
pub struct Nearest {
    /// The examples.
    pub examples: Arc<Examples>,
    /// How many of them a request gets that does not say.
    pub count: usize,
}

/// What a caller says about a request.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// When the answer is of no use any more.
    pub deadline: Instant,
    /// A deployed model by its id, instead of one by the traffic split.
    pub deployed: Option<&'a str>,
}

/// A deployed model that is to answer a request.
#[derive(Clone)]
pub struct Chosen(Arc<Live>);

impl Chosen {
    /// Which one.
    pub fn deployed(&self) -> &Deployed {
        &self.0.deployed
    }
}

/// Predictions, and who made them.
#[derive(Debug, Clone)]
pub struct Answer {
    /// One row per instance, in order.
    pub predictions: Predictions,
    /// The deployed model that answered.
    pub deployed: Arc<Deployed>,
}

/// The examples nearest to instances, with the predictions where the model makes any, and who made them.
#[derive(Debug, Clone)]
pub struct NearAnswer {
    /// Those of each instance, the nearest first.
    pub nearest: Vec<Vec<NearExample>>,
    /// One row per instance, in order.
    pub predictions: Option<Predictions>,
    /// The deployed model that answered.
    pub deployed: Arc<Deployed>,
}

/// Explanations with the predictions they explain, and who made them.
#[derive(Debug, Clone)]
pub struct ExplainAnswer {
    /// One per instance, in order.
    pub explanations: Vec<Explanation>,
    /// One row per instance, in order.
    pub predictions: Predictions,
    /// The deployed model that answered.
    pub deployed: Arc<Deployed>,
}

/// What a deployed model has been doing.
#[derive(Debug, Clone)]
pub struct DeployedMetrics {
    /// The endpoint's resource name.
    pub endpoint: String,
    /// The deployed model.
    pub deployed: Arc<Deployed>,
    /// Requests that wait now.
    pub queued: usize,
    /// Batches that run now.
    pub running: usize,
    /// Counts since the process started.
    pub counters: CounterSnapshot,
}

/// The data plane's front door. Cheap to clone; all clones are one router.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    table: ArcSwap<Table>,
    /// Held while a table is built, so that two publications do not lose each other's queues.
    publishing: Mutex<()>,
    limits: Limits,
    models: Arc<Pool>,
    explainers: Pool,
    explaining: Slots,
    binding: Slots,
}

/// Routes by their endpoints' resource names.
pub(crate) type Table = HashMap<String, Arc<LiveRoute>>;

/// A route with its queues.
pub(crate) struct LiveRoute {
    pub(crate) live: Vec<Arc<Live>>,
    split: Split,
    /// Requests so far, which the split counts on.
    turn: Arc<AtomicU64>,
}

/// A deployed model with its queue.
pub(crate) struct Live {
    pub(crate) deployed: Arc<Deployed>,
    pub(crate) batcher: Arc<Batcher>,
}

impl LiveRoute {
    /// The next deployed model by the traffic split; `None` when nothing takes traffic.
    pub(crate) fn draw(&self) -> Option<&Arc<Live>> {
        let turn = self.turn.fetch_add(1, Relaxed);
        self.split.choose(turn).and_then(|i| self.live.get(i))
    }
}

/// Explanations that may wait or run; further ones are refused as overloaded.
const EXPLAINING_MAX: usize = 64;
/// Large requests that may wait to be bound on a model thread.
const BINDING_MAX: usize = 256;
/// Requests with more bytes than this are bound on a model thread, as are all with image files.
const INLINE_BYTES_MAX: usize = 64 << 10;

impl Router {
    /// A router with nothing to serve, within [`Limits::default`].
    pub fn new() -> Router {
        Self::with_limits(Limits::default())
    }

    /// A router with nothing to serve, and its model threads.
    pub fn with_limits(limits: Limits) -> Router {
        let lanes = limits.lanes.max(1);
        let shared = Shared {
            table: ArcSwap::default(),
            publishing: Mutex::new(()),
            limits,
            // One more than a single deployed model can occupy.
            models: Arc::new(Pool::start("meuse-model", lanes + 1)),
            // Explanations are many predictions each: they get half the processors at most.
            explainers: Pool::start("meuse-explain", lanes.div_ceil(2)),
            explaining: Slots::new(EXPLAINING_MAX),
            binding: Slots::new(BINDING_MAX),
        };
        Router { shared: Arc::new(shared) }
    }

    /// Serves `table` from now on. Requests under way finish where they are, also on models that the table no
    /// longer has.
    pub fn publish(&self, table: RoutingTable) {
        let _publishing = self.shared.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.shared.table.load_full();
        let routes = table.routes.into_iter();
        let next = routes.map(|(name, route)| {
            let live = self.live(route, before.get(&name));
            (name, Arc::new(live))
        });
        self.shared.table.store(Arc::new(next.collect()));
    }

    fn live(&self, route: Route, before: Option<&Arc<LiveRoute>>) -> LiveRoute {
        let split = Split::new(route.deployed.iter().map(|d| d.weight));
        let turn = before.map_or_else(Arc::default, |route| route.turn.clone());
        let known = |id: &str| before.and_then(|route| route.live.iter().find(|live| live.deployed.id == id));
        let live = route.deployed.into_iter().map(|deployed| {
            let batcher = match known(&deployed.id) {
                Some(live) if live.deployed.runs_as(&deployed) => live.batcher.clone(),
                other => {
                    let counters = other.map_or_else(Arc::default, |live| live.batcher.counters.clone());
                    let (model, pool) = (deployed.model.clone(), self.shared.models.clone());
                    let limits = self.shared.limits.of(&model, deployed.concurrency);
                    Batcher::new(model, pool, limits, counters)
                }
            };
            Arc::new(Live { deployed: Arc::new(deployed), batcher })
        });
        LiveRoute { live: live.collect(), split, turn }
    }

    /// The deployed models of an endpoint; `None` if there is no such endpoint.
    pub fn deployed(&self, endpoint: &str) -> Option<Vec<Arc<Deployed>>> {
        let table = self.shared.table.load();
        Some(table.get(endpoint)?.live.iter().map(|live| live.deployed.clone()).collect())
    }

    /// What every deployed model has been doing, endpoints in no order.
    pub fn metrics(&self) -> Vec<DeployedMetrics> {
        let table = self.shared.table.load();
        let of = |(endpoint, live): (&String, &Arc<Live>)| DeployedMetrics {
            endpoint: endpoint.clone(),
            deployed: live.deployed.clone(),
            queued: live.batcher.queued(),
            running: live.batcher.running(),
            counters: live.batcher.counters.snapshot(),
        };
        table
            .iter()
            .flat_map(|(name, route)| route.live.iter().map(move |live| (name, live)))
            .map(of)
            .collect()
    }

    /// Has models that nobody asks give their memory back, where they were told to; to be called now and then.
    pub fn rest(&self) {
        for live in self.table().values().flat_map(|route| &route.live) {
            live.deployed.model.rest();
        }
    }

    /// Predicts `instances` on the endpoint's deployed model that the traffic split chooses. Dropping the future
    /// withdraws the request.
    ///
    /// # Errors
    /// See [`ServeError`]. No instance is predicted unless all are.
    pub async fn predict(
        &self,
        endpoint: &str,
        instances: Vec<Value>,
        call: &Call<'_>,
    ) -> Result<Answer, ServeError> {
        let chosen = self.choose(endpoint, call.deployed)?;
        self.predict_chosen(&chosen, instances, call.deadline).await
    }

    /// The endpoint's deployed model of this id, or the next one by the traffic split, for one request.
    ///
    /// # Errors
    /// If there is none.
    pub fn choose(&self, endpoint: &str, deployed: Option<&str>) -> Result<Chosen, ServeError> {
        self.choose_live(endpoint, deployed).map(Chosen)
    }

    /// Predicts `instances` on what was chosen. As [`Router::predict`] else.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn predict_chosen(
        &self,
        chosen: &Chosen,
        instances: Vec<Value>,
        deadline: Instant,
    ) -> Result<Answer, ServeError> {
        let live = &chosen.0;
        bump(&live.batcher.counters.requests);
        let inputs = self.bind(live, instances, deadline).await?;
        let rows = live.batcher.predict(inputs, deadline).await?;
        Ok(Answer { predictions: live.deployed.model.read_rows(rows), deployed: live.deployed.clone() })
    }

    /// Predicts and explains `instances`. What is asked for goes before the deployed model's own way to explain.
    /// Runs on threads of its own, a few at a time; dropping the future ends the work soon.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn explain(
        &self,
        endpoint: &str,
        instances: Vec<Value>,
        explain: Option<Explain>,
        call: &Call<'_>,
    ) -> Result<ExplainAnswer, ServeError> {
        let live = self.choose_live(endpoint, call.deployed)?;
        bump(&live.batcher.counters.explanations);
        not_empty(&instances)?;
        let slot = self.shared.explaining.take().ok_or_else(|| {
            bump(&live.batcher.counters.overloaded);
            ServeError::Overloaded { retry_after: Duration::from_secs(1) }
        })?;
        let explain = explain.unwrap_or_default().or(live.deployed.explain.as_ref());
        let (deployed, deadline) = (live.deployed.clone(), call.deadline);
        let result = run_on(&self.shared.explainers, deadline, slot, move |stop| {
            deployed.model.explain_until(&instances, &explain, stop)
        });
        let (predictions, explanations) = count(&live.batcher.counters, result.await)?;
        Ok(ExplainAnswer { explanations, predictions, deployed: live.deployed.clone() })
    }

    /// Explains `instances` by the examples nearest to each, `wanted` of them or as many as usual. `None` if the model that was chosen does not explain
    /// so.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn nearest(
        &self,
        endpoint: &str,
        instances: &[Value],
        wanted: Option<usize>,
        call: &Call<'_>,
    ) -> Result<Option<NearAnswer>, ServeError> {
        let live = self.choose_live(endpoint, call.deployed)?;
        let Some(Nearest { examples, count: usual }) = live.deployed.nearest.clone() else { return Ok(None) };
        let counters = &live.batcher.counters;
        bump(&counters.explanations);
        not_empty(instances)?;
        let slot = self.shared.explaining.take().ok_or_else(|| {
            bump(&counters.overloaded);
            ServeError::Overloaded { retry_after: Duration::from_secs(1) }
        })?;
        let made = live
            .deployed
            .model
            .vectors(project_of(endpoint), instances.to_vec(), examples.output(), call.deadline)
            .await;
        let Vectors { vectors, predictions } = made.inspect_err(|error| match error {
            ServeError::BadInstance { .. } | ServeError::BadRequest { .. } => bump(&counters.bad_requests),
            ServeError::DeadlineExceeded => bump(&counters.expired),
            _ => bump(&counters.failed),
        })?;
        let number = wanted.unwrap_or(usual);
        let result = run_on(&self.shared.explainers, call.deadline, slot, move |stop| {
            examples.nearest(&vectors, number, stop)
        });
        let nearest = count(counters, result.await)?;
        Ok(Some(NearAnswer { nearest, predictions, deployed: live.deployed.clone() }))
    }

    /// Explains an answer of a language model that was chosen for a caller of `project`. As [`Router::explain`] else.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn explain_answer(
        &self,
        route: &LanguageRoute,
        project: &str,
        explain: LanguageExplain,
        deadline: Instant,
    ) -> Result<LanguageExplanation, ServeError> {
        bump(&route.counters.explanations);
        let slot = self.shared.explaining.take().ok_or_else(|| {
            bump(&route.counters.overloaded);
            ServeError::Overloaded { retry_after: Duration::from_secs(1) }
        })?;
        let (language, project) = (route.language.clone(), project.to_owned());
        let result = run_on(&self.shared.explainers, deadline, slot, move |stop| {
            language.explain_until(&project, &explain, deadline, stop)
        });
        count(&route.counters, result.await)
    }

    /// The language model that answers on an endpoint, or on one of its deployed models; `None` where what answers there is
    /// no language model, or nothing does.
    ///
    /// # Errors
    /// If none of its language models takes traffic, or the one asked for is not there.
    pub fn language_at(
        &self,
        endpoint: &str,
        deployed: Option<&str>,
    ) -> Result<Option<LanguageRoute>, ServeError> {
        let found = self.at(endpoint, deployed, |model| model.language().cloned())?;
        Ok(found.map(|(live, language)| LanguageRoute {
            endpoint: endpoint.to_owned(),
            deployed: live.deployed.clone(),
            language,
            counters: live.batcher.counters.clone(),
        }))
    }

    /// What answers on an endpoint, or on one of its deployed models, if it has what `of` looks for.
    pub(crate) fn at<T>(
        &self,
        endpoint: &str,
        deployed: Option<&str>,
        of: impl Fn(&Model) -> Option<T>,
    ) -> Result<Option<(Arc<Live>, T)>, ServeError> {
        let has = |live: &Arc<Live>| of(&live.deployed.model).is_some();
        // Who asks without need must not take a turn in the split.
        if !self.table().get(endpoint).is_some_and(|route| route.live.iter().any(has)) {
            return Ok(None);
        }
        let live = self.choose_live(endpoint, deployed)?;
        Ok(of(&live.deployed.model).map(|found| (live, found)))
    }

    /// Whether a language model answers on an endpoint.
    pub fn speaks(&self, endpoint: &str) -> bool {
        let speaks = |live: &Arc<Live>| live.deployed.model.language().is_some();
        self.table().get(endpoint).is_some_and(|route| route.live.iter().any(speaks))
    }

    /// What is served now.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.shared.table.load_full()
    }

    fn choose_live(&self, endpoint: &str, deployed: Option<&str>) -> Result<Arc<Live>, ServeError> {
        let table = self.shared.table.load();
        let endpoint_name = || endpoint.to_owned();
        let route =
            table.get(endpoint).ok_or_else(|| ServeError::UnknownEndpoint { endpoint: endpoint_name() })?;
        let live = match deployed {
            Some(id) => route.live.iter().find(|live| live.deployed.id == id).ok_or_else(|| {
                ServeError::UnknownDeployed { endpoint: endpoint_name(), deployed: id.to_owned() }
            })?,
            None => route.draw().ok_or_else(|| ServeError::NothingDeployed { endpoint: endpoint_name() })?,
        };
        Ok(live.clone())
    }

    /// The instances' tensors. Large requests are bound on a model thread.
    pub(crate) async fn bind(
        &self,
        live: &Live,
        instances: Vec<Value>,
        deadline: Instant,
    ) -> Result<Tensors, ServeError> {
        let counters = &live.batcher.counters;
        let result = match not_empty(&instances) {
            Err(e) => Err(e),
            Ok(())
                if live.deployed.model.binds_quickly()
                    && instances.iter().map(value_bytes).sum::<usize>() <= INLINE_BYTES_MAX =>
            {
                live.deployed.model.bind(&instances)
            }
            Ok(()) => {
                let slot = self.shared.binding.take().ok_or_else(|| {
                    bump(&counters.overloaded);
                    ServeError::Overloaded { retry_after: Duration::from_secs(1) }
                })?;
                let model = live.deployed.model.clone();
                run_on(&self.shared.models, deadline, slot, move |_| model.bind(&instances)).await
            }
        };
        count(counters, result)
    }
}

fn not_empty(instances: &[Value]) -> Result<(), PredictError> {
    if instances.is_empty() {
        return Err(PredictError::BadRequest {
            message: "the request has no instances; send at least one".into(),
        });
    }
    Ok(())
}

/// Counts how a request ended that did not reach a batch.
pub(crate) fn count<T>(counters: &Counters, result: Result<T, PredictError>) -> Result<T, ServeError> {
    result.map_err(|e| {
        bump(match &e {
            PredictError::BadInstance { .. } | PredictError::BadRequest { .. } => &counters.bad_requests,
            PredictError::Failed { .. } | PredictError::NoMemory { .. } => &counters.failed,
            PredictError::Stopped => &counters.expired,
        });
        e.into()
    })
}

/// Runs `work` on `pool`. The work may ask whether the deadline has passed or the caller has left; one for which
/// that is so before it begins is not begun.
async fn run_on<T: Send + 'static>(
    pool: &Pool,
    deadline: Instant,
    slot: Slot,
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, PredictError> + Send + 'static,
) -> Result<T, PredictError> {
    let (reply, answer) = oneshot::channel();
    pool.submit(Box::new(move || {
        let _slot = slot;
        let stop = || reply.is_closed() || Instant::now() >= deadline;
        let result = if stop() { Err(PredictError::Stopped) } else { guarded(|| work(&stop)) };
        // A caller that has left needs no answer.
        let _ = reply.send(result);
    }));
    match tokio::time::timeout_at(deadline.into(), answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => {
            Err(PredictError::Failed { message: "the model's thread ended before it answered".into() })
        }
        Err(_) => Err(PredictError::Stopped),
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T, PredictError>) -> Result<T, PredictError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!("a model panicked; its request is answered as failed");
        let message = "the model stopped on a defect; the server's log has the cause".into();
        Err(PredictError::Failed { message })
    })
}

/// A number of places.
struct Slots(Arc<AtomicUsize>);

/// One place, given back when dropped.
struct Slot(Arc<AtomicUsize>);

impl Slots {
    fn new(n: usize) -> Self {
        Slots(Arc::new(AtomicUsize::new(n)))
    }

    fn take(&self) -> Option<Slot> {
        self.0.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(1)).ok()?;
        Some(Slot(self.0.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
