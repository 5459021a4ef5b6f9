//! [`Boards`]: the curves that clients keep of their runs; see [`Board`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::board::Curve;
use crate::check;
use crate::name::fresh_id;
use crate::notes::check_content;
use crate::store::{MetadataStore, Record, StoreError, Write, get, list_all, modify, update};
use crate::{
    Board, BoardKind, Control, CurvePoint, Error, ErrorCode, ListQuery, Page, Parent, Result, Timestamp,
};

/// Points of a curve, at most.
const POINTS_MAX: usize = 10_000;
/// How often a change is tried again when someone else writes in between.
const ATTEMPTS_MAX: usize = 32;

/// Curves of runs. Get one from [`Control::boards`].
#[derive(Clone)]
pub struct Boards {
    control: Control,
}

impl Boards {
    pub(crate) fn new(control: Control) -> Self {
        Boards { control }
    }

    fn store(&self) -> &dyn MetadataStore {
        self.control.store()
    }

    /// Keeps one in `within`, a project and location or what this kind lies in, under `id` or one that is made up.
    ///
    /// # Errors
    /// If there is one of that id, or nothing of the name `within`; if a field is malformed.
    pub async fn create(
        &self,
        kind: BoardKind,
        within: &str,
        id: Option<String>,
        content: Map<String, Value>,
    ) -> Result<Board> {
        check_content(&content)?;
        let id = match id {
            Some(id) => check::id("the id", &id).map(|()| id)?,
            None => fresh_id()?,
        };
        let mut writes = self.scope(kind, within).await?;
        let name = format!("{within}/{}/{id}", kind.collection());
        let now = Timestamp::now();
        let mut board = Board { name, content, create_time: now, update_time: now, etag: String::new() };
        writes.push(board.insert()?);
        match kind {
            BoardKind::Tensorboard if is_default(&board) => {
                for mut other in
                    list_all::<Board>(self.store(), Some(&format!("{within}/tensorboards"))).await?
                {
                    if is_default(&other) {
                        other.content.insert("isDefault".to_owned(), false.into());
                        writes.push(update(&mut other)?);
                    }
                }
            }
            BoardKind::TimeSeries => writes.push(Curve::of(&board.name).insert()?),
            _ => {}
        }
        self.store().commit(writes).await?;
        Ok(board)
    }

    /// The one called `name`.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get(&self, kind: BoardKind, name: &str) -> Result<Board> {
        kind.check(name)?;
        get(self.store(), name).await
    }

    /// Those of one kind in `within`.
    ///
    /// # Errors
    /// If there is nothing of that name, or the query is malformed.
    pub async fn list(&self, kind: BoardKind, within: &str, query: &ListQuery) -> Result<Page<Board>> {
        self.scope(kind, within).await?;
        let scope = format!("{within}/{}", kind.collection());
        let boards = list_all::<Board>(self.store(), Some(&scope)).await?;
        query.page(&scope, boards, |board| (board.name.clone(), board.view()))
    }

    /// Puts the fields of `patch` in the place of those of the same name; one that is `None` goes.
    ///
    /// # Errors
    /// If there is none of that name, a field is malformed, or `etag` is given and is not the present one.
    pub async fn update(
        &self,
        kind: BoardKind,
        name: &str,
        patch: BTreeMap<String, Option<Value>>,
        etag: Option<&str>,
    ) -> Result<Board> {
        kind.check(name)?;
        let changed = modify::<Board>(self.store(), name, etag, |board| {
            for (field, value) in &patch {
                match value {
                    Some(value) => board.content.insert(field.clone(), value.clone()),
                    None => board.content.shift_remove(field),
                };
            }
            check_content(&board.content)?;
            Ok(Vec::new())
        });
        changed.await
    }

    /// Forgets the one called `name` and all that lies in it.
    ///
    /// # Errors
    /// If there is none.
    pub async fn delete(&self, kind: BoardKind, name: &str) -> Result<()> {
        kind.check(name)?;
        for _ in 0..ATTEMPTS_MAX {
            let mut writes = Vec::new();
            let mut open = vec![(kind, get::<Board>(self.store(), name).await?)];
            while let Some((kind, board)) = open.pop() {
                match kind.inner() {
                    Some(inner) => {
                        let scope = format!("{}/{}", board.name, inner.collection());
                        let within = list_all::<Board>(self.store(), Some(&scope)).await?;
                        open.extend(within.into_iter().map(|board| (inner, board)));
                    }
                    None => {
                        let curve: Curve = get(self.store(), &Curve::name_of(&board.name)).await?;
                        writes.push(curve.delete());
                    }
                }
                writes.push(board.delete());
            }
            match self.store().commit(writes).await {
                Err(StoreError::Stale { .. }) => {}
                done => return Ok(done?),
            }
        }
        Err(contended(name))
    }

    /// Adds points to curves of `run`, by their ids: all of them, or none.
    ///
    /// # Errors
    /// If there is no such curve, or one would have too many points.
    pub async fn append(&self, run: &str, points: &[(String, Vec<CurvePoint>)]) -> Result<()> {
        BoardKind::Run.check(run)?;
        for _ in 0..ATTEMPTS_MAX {
            let mut curves: BTreeMap<&str, Curve> = BTreeMap::new();
            for (id, more) in points {
                let name = format!("{run}/{}/{id}", BoardKind::TimeSeries.collection());
                BoardKind::TimeSeries.check(&name)?;
                let curve = match curves.remove(id.as_str()) {
                    Some(curve) => Ok(curve),
                    None => self.curve(&name).await,
                };
                let mut curve = curve?;
                curve.points.extend_from_slice(more);
                if curve.points.len() > POINTS_MAX {
                    return Err(Error::precondition(format!(
                        "{name} would have more than {POINTS_MAX} points, the limit; note fewer steps"
                    )));
                }
                curves.insert(id, curve);
            }
            let writes = curves.values_mut().map(update).collect::<Result<Vec<_>>>()?;
            match self.store().commit(writes).await {
                Err(StoreError::Stale { .. }) => {}
                done => return Ok(done?),
            }
        }
        Err(contended(run))
    }

    /// The points of a curve, at most `most` of them, spread over all and the last among them.
    ///
    /// # Errors
    /// If there is no such curve.
    pub async fn points(&self, series: &str, most: usize) -> Result<(Board, Vec<CurvePoint>)> {
        let board = self.get(BoardKind::TimeSeries, series).await?;
        let points = self.curve(series).await?.points;
        let step = points.len().div_ceil(most.max(1)).max(1);
        let last = points.len().saturating_sub(1);
        let kept = points.into_iter().enumerate().filter(|(i, _)| (last - i).is_multiple_of(step));
        Ok((board, kept.map(|(_, point)| point).collect()))
    }

    async fn curve(&self, series: &str) -> Result<Curve> {
        match get(self.store(), &Curve::name_of(series)).await {
            Err(error) if error.code == ErrorCode::NotFound => Err(Error::not_found(series)),
            found => found,
        }
    }

    /// Checks what those of this kind lie in; demands that it stays.
    async fn scope(&self, kind: BoardKind, within: &str) -> Result<Vec<Write>> {
        let outer = match kind {
            BoardKind::Tensorboard => return Parent::parse(within).map(|_| Vec::new()).map_err(Error::from),
            BoardKind::Experiment => BoardKind::Tensorboard,
            BoardKind::Run => BoardKind::Experiment,
            BoardKind::TimeSeries => BoardKind::Run,
        };
        Ok(vec![self.get(outer, within).await?.require()])
    }
}

fn is_default(board: &Board) -> bool {
    board.content.get("isDefault") == Some(&Value::Bool(true))
}

fn contended(name: &str) -> Error {
    Error::new(ErrorCode::Aborted, format!("{name} is being changed by too many at once; try again"))
}
