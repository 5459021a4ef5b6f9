//! Who is asked: the project of a call, and the model that a name stands for in it.

use control::ALL_PROJECTS;
use serving::{EmbedderRoute, LanguageRoute, LanguageRouteError, Pick, PredictorRoute};

use crate::fields::invalid;
use crate::http::{App, Call};
use crate::{Code, Fault};

/// The project of a key for all projects that names none.
const USUAL_PROJECT: &str = "default";
/// The longest name of a model, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// The project in which a call acts: the key's; for a key of all projects the one that `header` names, in protocols
/// that have one.
pub(crate) fn project_of(call: &Call, header: Option<&str>) -> Result<String, Fault> {
    let named = header.and_then(|header| call.header(header)).filter(|name| !name.is_empty());
    let own = call.principal.as_ref().map_or("", |principal| principal.project.as_str());
    match named {
        _ if own == ALL_PROJECTS => Ok(named.unwrap_or(USUAL_PROJECT).to_owned()),
        Some(named) if named != own => {
            let header = header.unwrap_or_default();
            let message = format!("this key belongs to project {own}, not to the one that `{header}` names");
            Err(Fault::new(Code::PermissionDenied, message))
        }
        _ => Ok(own.to_owned()),
    }
}

/// The language model called `name` in `project`.
pub(crate) fn find(app: &App, project: &str, name: &str) -> Result<LanguageRoute, Fault> {
    check(name)?;
    app.router.language(project, name).map_err(|error| missing(app, error))
}

/// The encoder called `name` in `project`.
pub(crate) fn find_encoder(app: &App, project: &str, name: &str) -> Result<EmbedderRoute, Fault> {
    check(name)?;
    app.router.embedder(project, name).map_err(|error| missing(app, error))
}

/// The model that predicts and is called `name` in `project`.
pub(crate) fn find_predictor(
    app: &App,
    project: &str,
    name: &str,
    pick: Pick<'_>,
) -> Result<PredictorRoute, Fault> {
    check(name)?;
    app.router.predictor(project, name, pick).map_err(|error| missing(app, error))
}

fn check(name: &str) -> Result<(), Fault> {
    if name.len() > NAME_BYTES_MAX {
        return Err(invalid("model", "is longer than any name"));
    }
    Ok(())
}

/// The language model behind `endpoint`, a resource name.
pub(crate) fn find_behind(app: &App, endpoint: &str) -> Result<LanguageRoute, Fault> {
    app.router.language_behind(endpoint).map_err(|error| missing(app, error))
}

/// What to tell a client whose model was not found.
fn missing(app: &App, error: LanguageRouteError) -> Fault {
    match &error {
        LanguageRouteError::Unknown { .. } | LanguageRouteError::UnknownVersion { .. } => {
            Fault::not_found(error.to_string()).about("model").because("model_not_found")
        }
        LanguageRouteError::NotLanguage { .. }
        | LanguageRouteError::NotEncoder { .. }
        | LanguageRouteError::NotPredictor { .. } => {
            Fault::invalid(error.to_string()).about("model").because("unsupported_model")
        }
        LanguageRouteError::NotServing { endpoint, .. } => {
            let known = app.control.endpoints().fault(endpoint, None).map(Fault::from);
            let known = known.unwrap_or_else(|| Fault::new(Code::FailedPrecondition, error.to_string()));
            // The machine's limit, not the client's: asking less often does not help.
            let code = if known.code == Code::ResourceExhausted { Code::Unavailable } else { known.code };
            Fault { code, ..known }.about("model")
        }
    }
}
