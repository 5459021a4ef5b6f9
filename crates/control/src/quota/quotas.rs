//! [`Quotas`]: quotas, prices and usage as an operator sees and sets them.

use serde::{Deserialize, Serialize};

use super::{Price, QuotaLimits, QuotaScope};
use crate::storage::blocking;
use crate::store::{Kind, MetadataStore, Record, list_all, modify, remove};
use crate::usage::{JobUsage, Money, Report, Wanted};
use crate::{Control, Error, ErrorCode, Result, Timestamp};

/// The name of the price of all models that have none of their own.
pub const ANY_MODEL: &str = "*";
/// The longest name of a model, in bytes.
const MODEL_BYTES_MAX: usize = 256;

/// A quota with what it has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Whom it binds.
    pub scope: QuotaScope,
    /// How much.
    pub limits: QuotaLimits,
    /// What was spent in this month.
    pub spent: Money,
    /// Seconds of training in this month.
    pub trained_seconds: u64,
    /// Bytes that are kept now, where that is limited.
    pub kept_bytes: Option<u64>,
}

/// Quotas, prices and usage. Get them from [`Control::quotas`].
#[derive(Clone)]
pub struct Quotas {
    control: Control,
}

/// A quota as it is stored.
#[derive(Clone, Serialize, Deserialize)]
struct StoredQuota {
    name: String,
    limits: QuotaLimits,
    etag: String,
    create_time: Timestamp,
}

/// A price as it is stored, under what people call the model.
#[derive(Clone, Serialize, Deserialize)]
struct StoredPrice {
    name: String,
    price: Price,
    etag: String,
    create_time: Timestamp,
}

macro_rules! record {
    ($type:ty, $kind:expr) => {
        impl Record for $type {
            const KIND: Kind = $kind;

            fn name(&self) -> &str {
                &self.name
            }

            fn parent(&self) -> String {
                String::new()
            }

            fn etag(&self) -> &str {
                &self.etag
            }

            fn created(&self) -> Timestamp {
                self.create_time
            }

            fn stamp(&mut self, etag: String, _: Timestamp) {
                self.etag = etag;
            }
        }
    };
}

record!(StoredQuota, Kind::Quota);
record!(StoredPrice, Kind::Price);

/// What is stored, for the books at the start.
pub(crate) async fn stored(
    store: &dyn MetadataStore,
) -> Result<(Vec<(QuotaScope, QuotaLimits)>, Vec<(String, Price)>)> {
    let quotas = list_all::<StoredQuota>(store, None).await?.into_iter();
    let quotas = quotas.map(|quota| Ok((quota.name.parse()?, quota.limits)));
    let prices = list_all::<StoredPrice>(store, None).await?.into_iter();
    Ok((quotas.collect::<Result<_>>()?, prices.map(|price| (price.name, price.price)).collect()))
}

impl Quotas {
    pub(crate) fn new(control: Control) -> Self {
        Quotas { control }
    }

    /// All quotas, by name.
    ///
    /// # Errors
    /// If the metadata cannot be read.
    pub async fn list(&self) -> Result<Vec<Quota>> {
        let stored = list_all::<StoredQuota>(self.control.store(), None).await?;
        let mut quotas = Vec::with_capacity(stored.len());
        for stored in stored {
            quotas.push(self.quota(stored.name.parse()?, stored.limits).await?);
        }
        Ok(quotas)
    }

    /// The quota of `scope`; without limits where none is set.
    ///
    /// # Errors
    /// If the metadata cannot be read.
    pub async fn get(&self, scope: QuotaScope) -> Result<Quota> {
        let stored: Result<StoredQuota> = crate::store::get(self.control.store(), &scope.to_string()).await;
        match stored {
            Ok(stored) => self.quota(scope, stored.limits).await,
            Err(error) if error.code == ErrorCode::NotFound => {
                self.quota(scope, QuotaLimits::default()).await
            }
            Err(error) => Err(error),
        }
    }

    async fn quota(&self, scope: QuotaScope, limits: QuotaLimits) -> Result<Quota> {
        let books = self.control.books();
        let (spent, trained_seconds) = (books.spent(&scope), books.trained(&scope));
        let kept_bytes = match (&scope, limits.stored_bytes) {
            (QuotaScope::Project(project), Some(_)) => {
                Some(self.control.storage(project).kept(project).await?)
            }
            _ => None,
        };
        Ok(Quota { scope, limits, spent, trained_seconds, kept_bytes })
    }

    /// Sets the limits of `scope`, from now on; without any there is no quota.
    ///
    /// # Errors
    /// If a limit is zero where that means nothing, or one that a key does not have, or there is no such key.
    pub async fn set(&self, scope: QuotaScope, limits: QuotaLimits) -> Result<Quota> {
        let zero = [limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent_requests];
        if zero.contains(&Some(0)) {
            return Err(Error::invalid(
                "a limit of 0 would stop everything: give 1 or more, or leave it out for no limit",
            ));
        }
        if matches!(scope, QuotaScope::Key(_))
            && (limits.stored_bytes.is_some() || limits.training_minutes.is_some())
        {
            return Err(Error::invalid(
                "storedBytes and trainingMinutes are limits of projects: a key has none of its own",
            ));
        }
        if let QuotaScope::Key(key) = &scope
            && !self.control.keys().list(None).iter().any(|info| info.id == *key)
        {
            return Err(Error::not_found(&scope));
        }
        let name = scope.to_string();
        if limits.is_empty() {
            delete::<StoredQuota>(self.control.store(), &name).await?;
        } else {
            let fresh = StoredQuota { name, limits, etag: String::new(), create_time: Timestamp::now() };
            put(self.control.store(), fresh, |stored| stored.limits = limits).await?;
        }
        self.control.books().set_limits(scope.clone(), limits);
        self.quota(scope, limits).await
    }

    /// All prices, by what people call the models.
    ///
    /// # Errors
    /// If the metadata cannot be read.
    pub async fn prices(&self) -> Result<Vec<(String, Price)>> {
        let stored = list_all::<StoredPrice>(self.control.store(), None).await?;
        Ok(stored.into_iter().map(|stored| (stored.name, stored.price)).collect())
    }

    /// Sets what the model that people call `model` costs, from now on; [`ANY_MODEL`] for all that have no price of their
    /// own. Without a price it has none of its own.
    ///
    /// # Errors
    /// If it is no name.
    pub async fn set_price(&self, model: &str, price: Option<Price>) -> Result<()> {
        if model.is_empty() || model.len() > MODEL_BYTES_MAX || model.contains(char::is_control) {
            return Err(Error::invalid("give the price the name that people call the model by, or `*`"));
        }
        match price {
            None => delete::<StoredPrice>(self.control.store(), model).await?,
            Some(price) => {
                let (name, etag) = (model.to_owned(), String::new());
                let fresh = StoredPrice { name, price, etag, create_time: Timestamp::now() };
                put(self.control.store(), fresh, |stored| stored.price = price).await?;
            }
        }
        self.control.books().set_price(model, price);
        Ok(())
    }

    /// What was used.
    ///
    /// # Errors
    /// If there is too much of it for one report, or the ledger cannot be read.
    pub async fn usage(&self, wanted: Wanted) -> Result<Report> {
        let jobs = JobUsage::all(self.control.store()).await?;
        let books = self.control.books().clone();
        blocking(move || books.report(&jobs, &wanted)).await
    }
}

/// Stores `fresh`, or changes what is stored under its name.
async fn put<T: Record>(store: &dyn MetadataStore, mut fresh: T, change: impl Fn(&mut T)) -> Result<()> {
    let name = fresh.name().to_owned();
    let changed = modify::<T>(store, &name, None, |stored| {
        change(stored);
        Ok(Vec::new())
    });
    match changed.await {
        Err(error) if error.code == ErrorCode::NotFound => {
            let write = fresh.insert()?;
            Ok(store.commit(vec![write]).await?)
        }
        done => done.map(drop),
    }
}

/// Removes what is stored under `name`, if anything is.
async fn delete<T: Record>(store: &dyn MetadataStore, name: &str) -> Result<()> {
    match remove::<T>(store, name, None, |_| Ok(Vec::new())).await {
        Err(error) if error.code == ErrorCode::NotFound => Ok(()),
        done => done.map(drop),
    }
}
