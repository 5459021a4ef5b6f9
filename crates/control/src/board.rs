//! [`Board`]: where a client keeps the curves of its runs: a board, an experiment of it, a run of that, and a curve.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::note::client_view;
use crate::store::{Kind, Record};
use crate::{Error, Parent, Result, Timestamp, is_id};

/// One of the four kinds. What it says is the client's; nothing here reads it but which board is the default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// `projects/{p}/locations/{l}/tensorboards/{t}`, then as far as its kind goes `/experiments/{e}/runs/{r}/timeSeries/{s}`.
    pub name: String,
    /// Its fields, as the client wrote them.
    pub content: Map<String, Value>,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
    /// Changes with every write; a write that names another one is refused.
    pub etag: String,
}

/// What a [`Board`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BoardKind {
    /// The whole.
    Tensorboard,
    /// What belongs together.
    Experiment,
    /// One attempt.
    Run,
    /// One number of it, as it goes.
    TimeSeries,
}

/// The points of a curve, apart from it so that curves can be listed without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Curve {
    /// That of the curve, and `/points`.
    pub(crate) name: String,
    pub(crate) points: Vec<CurvePoint>,
    create_time: Timestamp,
    etag: String,
}

/// One number, and when it was so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The client's count.
    pub step: i64,
    /// The client's clock, as it wrote it.
    pub wall_time: Value,
    /// The number, or the text that stands for one that JSON has none for.
    pub value: Value,
}

/// The segments of names, from the whole on.
const COLLECTIONS: [&str; 4] = ["tensorboards", "experiments", "runs", "timeSeries"];

/// Fields that a client may leave out, and filters may name all the same.
const FIELDS: [&str; 6] =
    ["display_name", "description", "is_default", "labels", "plugin_name", "value_type"];

impl BoardKind {
    /// The last segment but one of its names.
    pub(crate) fn collection(self) -> &'static str {
        COLLECTIONS[self as usize]
    }

    /// What lies in one of these.
    pub(crate) fn inner(self) -> Option<BoardKind> {
        match self {
            BoardKind::Tensorboard => Some(BoardKind::Experiment),
            BoardKind::Experiment => Some(BoardKind::Run),
            BoardKind::Run => Some(BoardKind::TimeSeries),
            BoardKind::TimeSeries => None,
        }
    }

    /// Checks that `name` is that of one of these.
    pub(crate) fn check(self, name: &str) -> Result<()> {
        let (_, rest) = Parent::split(name)?;
        let segments: Vec<&str> = rest.split('/').collect();
        let fits = |(pair, collection): (&[&str], &&str)| matches!(pair, [found, id] if found == collection && is_id(id));
        let wanted = &COLLECTIONS[..=self as usize];
        if segments.len() == wanted.len() * 2 && segments.chunks(2).zip(wanted).all(fits) {
            return Ok(());
        }
        Err(Error::invalid(format!("{name:?} is none of projects/{{project}}/locations/{{location}}/{self}")))
    }
}

impl fmt::Display for BoardKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segments: Vec<String> =
            COLLECTIONS[..=*self as usize].iter().map(|c| format!("{c}/{{id}}")).collect();
        f.write_str(&segments.join("/"))
    }
}

impl Record for Board {
    const KIND: Kind = Kind::Board;

    fn name(&self) -> &str {
        &self.name
    }

    fn etag(&self) -> &str {
        &self.etag
    }

    fn created(&self) -> Timestamp {
        self.create_time
    }

    fn stamp(&mut self, etag: String, now: Timestamp) {
        (self.etag, self.update_time) = (etag, now);
    }

    /// The client's fields beside our own, as filters name them: `display_name`.
    fn view(&self) -> Value {
        let view = client_view(&FIELDS, &self.content, &self.name, self.create_time, self.update_time);
        Value::Object(view)
    }
}

impl Curve {
    /// An empty one, of the curve of this name.
    pub(crate) fn of(series: &str) -> Curve {
        let (name, etag) = (Curve::name_of(series), String::new());
        Curve { name, points: Vec::new(), create_time: Timestamp::now(), etag }
    }

    /// What the points of the curve of this name are kept as.
    pub(crate) fn name_of(series: &str) -> String {
        format!("{series}/points")
    }
}

impl Record for Curve {
    const KIND: Kind = Kind::Curve;

    fn name(&self) -> &str {
        &self.name
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_their_kind() {
        let run = "projects/p/locations/l/tensorboards/t/experiments/e/runs/r";
        assert!(BoardKind::Run.check(run).is_ok());
        assert!(BoardKind::TimeSeries.check(&format!("{run}/timeSeries/s")).is_ok());
        assert!(BoardKind::Experiment.check(run).is_err() && BoardKind::TimeSeries.check(run).is_err());
        for wrong in ["projects/p/locations/l/tensorboards/t/runs/r", "projects/p/locations/l/tensorboards/"]
        {
            assert!(BoardKind::Experiment.check(wrong).is_err(), "{wrong}");
        }
    }
}
