//! Who may: the [`Permission`] that a route needs and the key that a request carries.

use control::Role;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone. For health and nothing that tells of a project.
    Public,
    /// Keys whose role grants this.
    Needs(Permission),
}

/// What a route does, as far as roles are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Reads descriptions: models, endpoints, jobs, evaluations, objects.
    Read,
    /// Asks a deployed model.
    Invoke,
    /// Creates, changes and deletes in the project.
    Write,
    /// Hands out keys and reads what concerns the whole server.
    Administer,
}

impl Permission {
    /// Whether `role` grants it. An invoker reads, too: clients look at an endpoint before they call it.
    pub fn granted_to(self, role: Role) -> bool {
        match role {
            Role::Admin => true,
            Role::Deployer => self != Permission::Administer,
            Role::Invoker => matches!(self, Permission::Read | Permission::Invoke),
            Role::Viewer => self == Permission::Read,
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

    #[test]
    fn roles_grant_what_they_say() {
        use Permission::{Administer, Invoke, Read, Write};
        let granted = |role| [Read, Invoke, Write, Administer].map(|p: Permission| p.granted_to(role));
        assert_eq!(granted(Role::Viewer), [true, false, false, false]);
        assert_eq!(granted(Role::Invoker), [true, true, false, false]);
        assert_eq!(granted(Role::Deployer), [true, true, true, false]);
        assert_eq!(granted(Role::Admin), [true; 4]);
    }
}
