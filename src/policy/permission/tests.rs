#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[track_caller]
fn check_role(name: &str, expect: &[&str]) {
    let role: Role = name.parse().unwrap();
    assert_eq!(role.as_str(), name);
    let mut names: Vec<_> = role.permissions().iter().map(Permission::as_str).collect();
    let mut expect = expect.to_vec();
    names.sort_unstable();
    expect.sort_unstable();
    assert_eq!(names, expect);
    assert_eq!(expand([name]).unwrap(), role.permissions());
}

fn names_beginning(beginnings: &[&str]) -> Vec<&'static str> {
    let begins = |name: &&str| beginnings.iter().any(|beginning| name.starts_with(beginning));
    Permission::ALL.into_iter().map(Permission::as_str).filter(begins).collect()
}

#[test]
fn roles_stand_for_what_the_table_says() {
    let below = names_beginning(&["project:", "service:"]);
    check_role("role:organization:admin", &names_beginning(&["organization:", "project:", "service:"]));
    check_role("role:project:admin", &below);
    check_role("admin", &below);
    check_role(
        "operator",
        &[
            "project:event_logs:read",
            "project:integrations:read",
            "project:integrations:write",
            "project:networking:read",
            "project:networking:write",
            "project:permissions:read",
            "project:services:read",
            "project:services:write",
            "service:configuration:write",
            "service:logs:read",
            "service:metrics:read",
            "service:secrets:read",
            "service:users:write",
        ],
    );
    check_role(
        "developer",
        &[
            "project:event_logs:read",
            "project:integrations:read",
            "project:networking:read",
            "project:permissions:read",
            "project:services:read",
            "service:data:write",
            "service:logs:read",
            "service:metrics:read",
            "service:secrets:read",
            "service:users:write",
        ],
    );
    let read_only = [
        "project:event_logs:read",
        "project:integrations:read",
        "project:permissions:read",
        "project:services:read",
    ];
    check_role("read_only", &read_only);
    check_role("role:project:read", &read_only);
    check_role("role:services:maintenance", &["project:services:read", "service:configuration:write"]);
    check_role("role:services:recover", &["project:services:read", "project:services:write"]);
    assert_eq!(Role::ALL.len(), 9);
}

#[test]
fn the_list_of_permissions_is_the_tables() {
    assert_eq!(names_beginning(&["organization:"]).len(), 12);
    assert_eq!(names_beginning(&["project:"]).len(), 11);
    assert_eq!(names_beginning(&["service:"]).len(), 6);
    assert_eq!(names_beginning(&["user:"]), ["user:read", "user:write"]);
    assert_eq!(Permission::ALL.len(), 31);
    for permission in Permission::ALL {
        assert_eq!(permission.as_str().parse(), Ok(permission));
        let json = serde_json::to_string(&permission).unwrap();
        assert_eq!(json, format!("\"{permission}\""));
        assert_eq!(serde_json::from_str::<Permission>(&json).unwrap(), permission);
    }
}

#[test]
fn a_set_has_what_was_put_in_and_nothing_else() {
    assert!(PermissionSet::EMPTY.is_empty());
    for one in Permission::ALL {
        for other in Permission::ALL {
            let set = PermissionSet::EMPTY.with(one);
            assert_eq!(set.contains(other), one == other);
            assert_eq!(set.union(other.into()).iter().count(), if one == other { 1 } else { 2 });
        }
    }
    assert_eq!(PermissionSet::ALL.iter().collect::<Vec<_>>(), Permission::ALL);
    let set: PermissionSet = [Permission::UserRead, Permission::ServiceDataWrite].into_iter().collect();
    assert_eq!(set.to_string(), "service:data:write user:read");
    assert_eq!(PermissionSet::EMPTY.to_string(), "");
}

#[test]
fn grants_add_up_and_scopes_may_be_the_callers_own() {
    let both = expand(["role:services:recover", "service:data:write", "service:data:write"]).unwrap();
    assert_eq!(both.to_string(), "project:services:read project:services:write service:data:write");
    assert_eq!(expand::<&str>([]), Ok(PermissionSet::EMPTY));
    assert_eq!(
        scopes(["user:read", "service:logs:read"]).unwrap().to_string(),
        "service:logs:read user:read"
    );
    assert_eq!(scopes(["developer"]).unwrap(), Role::Developer.permissions());
}

#[track_caller]
fn check_refused<E: std::error::Error>(refused: Result<impl fmt::Debug, E>, expect: &str) {
    assert_eq!(refused.unwrap_err().to_string(), expect);
}

#[test]
fn unknown_names_are_refused_with_the_nearest_known_one() {
    check_refused(
        expand(["developer", "service:data:read"]),
        "unknown permission or role \"service:data:read\"; did you mean `service:data:write`?",
    );
    check_refused(
        expand(["Developer "]),
        "unknown permission or role \"Developer \"; did you mean `developer`?",
    );
    check_refused(
        expand(["user:read"]),
        "`user:read` can be a token's scope but cannot be granted; grant a permission or role instead",
    );
    check_refused(scopes(["user:writ"]), "unknown scope \"user:writ\"; did you mean `user:write`?");
    check_refused(
        scopes(["\u{1b}[31m"]),
        "unknown scope \"\\u{1b}[31m\"; write a name such as `service:data:write` or `developer`",
    );
    check_refused(
        "service:log:read".parse::<Permission>(),
        "unknown permission \"service:log:read\"; did you mean `service:logs:read`?",
    );
    check_refused("operators".parse::<Role>(), "unknown role \"operators\"; did you mean `operator`?");
    check_refused(
        "".parse::<Role>(),
        "unknown role \"\"; write a name such as `service:data:write` or `developer`",
    );
    let endless = "x".repeat(1_000_000);
    assert!(scopes([endless]).unwrap_err().to_string().len() < 200);
}
