//! Who may: the [`Permission`] that a route needs and the key that a request carries.

use control::Role;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone. For health, for what brings a credential in its body, and for nothing that tells of a project.
    Public,
    /// Keys whose role grants this.
    Needs(Permission),
}

impl Access {
    /// Whether a call is an administrative act, which leaves a trace.
    pub(super) fn is_act(self) -> bool {
        matches!(
            self,
            Access::Needs(
                Permission::Write | Permission::Administer | Permission::Operate | Permission::Audit
            )
        )
    }
}

/// What a route does, as far as roles are concerned: to what there is, or with the data that passes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Reads descriptions: models, endpoints, jobs, evaluations, objects' names.
    Read,
    /// Creates, changes and deletes what there is. Recorded in the audit log.
    Write,
    /// Hands out keys and limits what they may use. Recorded in the audit log.
    Administer,
    /// Decides what holds for the whole server: an admin's whose key acts in all projects. Recorded in the audit log.
    Operate,
    /// Reads the figures of the whole server: an admin's whose key acts in all projects.
    Observe,
    /// Reads the audit log. Recorded in it.
    Audit,
    /// Sees which models can be asked, and how.
    Look,
    /// Asks a deployed model.
    Invoke,
    /// Reads the contents of objects and files.
    Fetch,
    /// Puts and removes objects and files.
    Store,
}

impl Permission {
    /// All of them, those of the control plane first.
    pub const ALL: [Permission; 10] = {
        use Permission::{Administer, Audit, Fetch, Invoke, Look, Observe, Operate, Read, Store, Write};
        [Read, Write, Administer, Operate, Observe, Audit, Look, Invoke, Fetch, Store]
    };

    /// How it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::Read => "read",
            Permission::Write => "write",
            Permission::Administer => "administer",
            Permission::Operate => "operate",
            Permission::Observe => "observe",
            Permission::Audit => "audit",
            Permission::Look => "look",
            Permission::Invoke => "invoke",
            Permission::Fetch => "fetch",
            Permission::Store => "store",
        }
    }

    /// Whether it concerns the whole server, so that a key for one project is not enough.
    pub fn is_of_the_server(self) -> bool {
        matches!(self, Permission::Operate | Permission::Observe)
    }

    /// Whether `role` grants it. A deployer's jobs ask models and read data anyway, so it may do that itself, too.
    pub fn granted_to(self, role: Role) -> bool {
        use Permission::{Administer, Audit, Invoke, Look, Observe, Operate, Read};
        match role {
            Role::Viewer => matches!(self, Read | Look),
            Role::Invoker => matches!(self, Read | Look | Invoke),
            Role::Deployer => !matches!(self, Administer | Operate | Observe | Audit),
            Role::Admin => true,
            Role::Auditor => self == Audit,
        }
    }
}

/// The key of a request: `Authorization: Bearer`, `x-api-key` or `x-goog-api-key`.
pub(super) fn key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(bearer);
    bearer
        .or_else(|| headers.get("x-api-key").and_then(|v| v.to_str().ok()))
        .or_else(|| headers.get("x-goog-api-key").and_then(|v| v.to_str().ok()))
        .filter(|key| !key.is_empty())
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_found_in_three_headers() {
        for (name, value, expected) in [
            ("authorization", "Bearer abc", Some("abc")),
            ("authorization", "bearer  abc", Some("abc")),
            ("authorization", "Basic abc", None),
            ("authorization", "Bearer ", None),
            ("x-api-key", "abc", Some("abc")),
            ("x-goog-api-key", "abc", Some("abc")),
            ("cookie", "abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(key(&headers), expected, "{name}: {value}");
        }
    }

    /// The table of docs/roles.md.
    #[test]
    fn roles_grant_what_is_documented() {
        let table = include_str!("../../../../docs/roles.md");
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        };
        let mut lines = table.lines().filter(|line| line.starts_with('|')).map(cells);
        let head = lines.next().unwrap();
        let roles: Vec<Role> = head[2..].iter().map(|role| role.parse().unwrap()).collect();
        assert_eq!(roles, Role::ALL);
        let rows: Vec<Vec<String>> = lines.skip(1).collect();
        let documented: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(documented, Permission::ALL.map(Permission::as_str));
        for (permission, row) in Permission::ALL.into_iter().zip(&rows) {
            for (role, cell) in roles.iter().zip(&row[2..]) {
                assert_eq!(permission.granted_to(*role), cell == "yes", "{role} {}", permission.as_str());
            }
        }
    }
}
