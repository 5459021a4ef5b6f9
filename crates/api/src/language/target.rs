//! Who is asked: the project of a call, and the model that a name stands for in it.

use control::ALL_PROJECTS;
use serving::{EmbedderRoute, LanguageRoute, LanguageRouteError, Pick, PredictorRoute};

use crate::fields::invalid;
use crate::http::{App, Call};
use crate::tenant::Tenant;
use crate::{Code, Fault};

/// The project of a key for all projects that names none.
const USUAL_PROJECT: &str = "default";
/// The longest name of a model, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// The project in which a call acts: the key's; for a key of all projects the one that `header` names, in protocols
/// that have one.
pub(crate) fn project_of(call: &Call, header: Option<&str>) -> Result<Tenant, Fault> {
    let named = header.and_then(|header| call.header(header)).filter(|name| !name.is_empty());
    let own = call.principal.as_ref().map_or("", |principal| principal.project.as_str());
    let project = match named {
        _ if own == ALL_PROJECTS => named.unwrap_or(USUAL_PROJECT),
        Some(named) if named != own => {
            let header = header.unwrap_or_default();
            let message = format!("this key belongs to project {own}, not to the one that `{header}` names");
            return Err(Fault::new(Code::PermissionDenied, message));
        }
        _ => own,
    };
    Ok(Tenant::of(call.principal.as_deref(), project))
}

/// The language model that `tenant` calls `name`.
pub(crate) fn find(app: &App, tenant: &Tenant, name: &str) -> Result<LanguageRoute, Fault> {
    check(name)?;
    let found = app.router.language(tenant, name);
    known(tenant, name, found, |route| [&route.endpoint, &route.deployed.model_name])
        .map_err(|error| missing(app, error))
}

/// The encoder that `tenant` calls `name`.
pub(crate) fn find_encoder(app: &App, tenant: &Tenant, name: &str) -> Result<EmbedderRoute, Fault> {
    check(name)?;
    let found = app.router.embedder(tenant, name);
    known(tenant, name, found, |route| [&route.endpoint, &route.deployed.model_name])
        .map_err(|error| missing(app, error))
}

/// The model that predicts and that `tenant` calls `name`.
pub(crate) fn find_predictor(
    app: &App,
    tenant: &Tenant,
    name: &str,
    pick: Pick<'_>,
) -> Result<PredictorRoute, Fault> {
    check(name)?;
    let found = app.router.predictor(tenant, name, pick);
    known(tenant, name, found, |route| [&route.endpoint, &route.deployed.model_name])
        .map_err(|error| missing(app, error))
}

/// What was found, if `tenant` may know of it; else the same as if there were nothing.
fn known<Route>(
    tenant: &Tenant,
    name: &str,
    found: Result<Route, LanguageRouteError>,
    names: impl Fn(&Route) -> [&String; 2],
) -> Result<Route, LanguageRouteError> {
    let may_know = match &found {
        Ok(route) => tenant.knows(names(route).map(String::as_str)),
        Err(_) => tenant.knows([name]),
    };
    let (name, project) = (name.to_owned(), tenant.to_string());
    if may_know { found } else { Err(LanguageRouteError::Unknown { name, project }) }
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
