//! [`JobUsage`]: what jobs took, written in the commits of what they have done, so that each is counted once whatever a
//! crash leaves.

use serde::{Deserialize, Serialize};

use super::{Account, Amount, Day};
use crate::store::{self, Kind, MetadataStore, Record, Write};
use crate::{ErrorCode, Result, Timestamp};

/// What a project's jobs took of one model on one day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobUsage {
    /// `{day}/{project}/{model}`.
    name: String,
    pub(crate) account: Account,
    pub(crate) amount: Amount,
    etag: String,
    create_time: Timestamp,
}

impl Record for JobUsage {
    const KIND: Kind = Kind::JobUsage;

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

impl JobUsage {
    /// The day. `None` of a name that is none of ours.
    pub(crate) fn day(&self) -> Option<Day> {
        self.name.split_once('/').and_then(|(day, _)| day.parse().ok())
    }

    /// All there are.
    pub(crate) async fn all(store: &dyn MetadataStore) -> Result<Vec<JobUsage>> {
        store::list_all(store, None).await
    }

    /// What adds `amount` to what jobs of `account` took today, for a commit that fails if another adds to it meanwhile.
    pub(crate) async fn added(store: &dyn MetadataStore, account: Account, amount: Amount) -> Result<Write> {
        let name = format!("{}/{}/{}", Day::today(), account.project, account.model);
        match store::get::<JobUsage>(store, &name).await {
            Ok(mut there) => {
                there.amount += amount;
                store::update(&mut there)
            }
            Err(error) if error.code == ErrorCode::NotFound => {
                let (etag, create_time) = (String::new(), Timestamp::now());
                JobUsage { name, account, amount, etag, create_time }.insert()
            }
            Err(error) => Err(error),
        }
    }
}
