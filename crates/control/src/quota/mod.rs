//! Quotas: how much projects and keys may use, reserved before and settled after.
//!
//! [`Books`] are what requests meet: in memory, made from the metadata and the ledger at the start. A request that is
//! admitted has a [`Meter`], a job a [`JobMeter`]; [`Quotas`] are the operator's side.

mod allowance;
mod books;
mod bucket;
mod exceeded;
mod job_meter;
mod limits;
mod meter;
mod price;
mod quotas;
mod rates;
mod training;

pub(crate) use allowance::Allowance;
pub use books::{Books, NotAdmitted};
pub use exceeded::{Exceeded, Limited};
pub(crate) use job_meter::JobMeter;
pub use limits::{QuotaLimits, QuotaScope};
pub use meter::Meter;
pub use price::Price;
pub(crate) use quotas::stored;
pub use quotas::{ANY_MODEL, Quota, Quotas};
pub use rates::{Rate, Rates};
pub(crate) use training::TrainingLease;
