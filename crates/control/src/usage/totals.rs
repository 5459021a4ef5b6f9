//! [`Totals`]: all that was used on one day, folded out of the ledger.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Account, Amount, Day};
use crate::storage::sync_directory;
use crate::{Error, Result};

/// What was used on one day, by whom.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Totals {
    /// The last segment of the ledger that is in here.
    pub(super) through: u64,
    rows: Vec<(Account, Amount)>,
}

impl Totals {
    /// Those of `day`; empty where nothing of it was folded yet.
    pub(super) fn read(directory: &Path, day: Day) -> Result<Totals> {
        let path = path(directory, day);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| Error::internal(format_args!("reading {}", path.display()), e)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Totals::default()),
            Err(error) => Err(Error::internal(format_args!("reading {}", path.display()), error)),
        }
    }

    /// The days that have some, ascending.
    pub(super) fn days(directory: &Path) -> io::Result<Vec<Day>> {
        let mut days = Vec::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let day = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            days.extend(day.and_then(|day| day.parse::<Day>().ok()));
        }
        days.sort_unstable();
        Ok(days)
    }

    /// What each account used.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Account, &Amount)> {
        self.rows.iter().map(|(account, amount)| (account, amount))
    }

    /// Adds what is in segment `number`.
    pub(super) fn add(&mut self, number: u64, more: BTreeMap<Account, Amount>) {
        let mut all: BTreeMap<Account, Amount> = std::mem::take(&mut self.rows).into_iter().collect();
        for (account, amount) in more {
            *all.entry(account).or_default() += amount;
        }
        self.rows = all.into_iter().collect();
        self.through = number;
    }

    /// Puts them in place, whole.
    pub(super) fn write(&self, directory: &Path, day: Day) -> io::Result<()> {
        let path = path(directory, day);
        let staged = path.with_extension("new");
        let mut file = File::create(&staged)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&staged, &path)?;
        sync_directory(directory)
    }
}

const SUFFIX: &str = ".json";

fn path(directory: &Path, day: Day) -> PathBuf {
    directory.join(format!("{day}{SUFFIX}"))
}
