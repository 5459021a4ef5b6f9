//! Which number a project has: Google's library asks before it trusts a bucket.

use std::time::Instant;

use prost::Message;

use crate::Fault;
use crate::http::Permission::Read;
use crate::http::{Access, Call, Route, grpc};
use crate::ids::project_number;

/// `google.cloud.resourcemanager.v3.GetProjectRequest`.
#[derive(Clone, PartialEq, Message)]
struct GetProject {
    #[prost(string, tag = "1")]
    name: String,
}

/// `google.cloud.resourcemanager.v3.Project`.
#[derive(Clone, PartialEq, Message)]
struct Project {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    project_id: String,
    #[prost(int32, tag = "4")]
    state: i32,
    #[prost(string, tag = "5")]
    display_name: String,
}

/// `Project.State.ACTIVE`.
const ACTIVE: i32 = 1;

/// The route of the one procedure that is served.
pub(super) fn route() -> Option<Route> {
    grpc::unary("google.cloud.resourcemanager.v3.Projects", "GetProject", Access::Needs(Read), get)
}

async fn get(call: Call, request: GetProject, _: Instant) -> Result<Project, Fault> {
    let named = request.name.strip_prefix("projects/").unwrap_or_default();
    if !control::is_id(named) {
        return Err(Fault::invalid(format!("{:?} is no project: projects/NAME", request.name)));
    }
    // A number is understood where it is that of the key's own project.
    let own = call.principal.as_ref().map_or("", |principal| principal.project.as_str());
    let id = if project_number(own) == named { own } else { named };
    call.allow_name(&format!("projects/{id}"))?;
    Ok(Project {
        name: format!("projects/{}", project_number(id)),
        project_id: id.to_owned(),
        state: ACTIVE,
        display_name: id.to_owned(),
    })
}
