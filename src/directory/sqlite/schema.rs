//! The schema of the SQLite store, as the steps that lead from one version to the next. A step that has been
//! released is never edited: what it got wrong, a later step puts right.

/// `PRAGMA application_id` of a Postern store: the letters `Pstn`.
pub(super) const APPLICATION_ID: u32 = 0x5073_746e;

/// Step `n` leads from schema version `n` to `n + 1`.
pub(super) const STEPS: &[&str] = &[FIRST, MANAGEMENT, SUCCESSORS];

/// The schema version this program reads and writes.
pub(super) fn latest_version() -> u32 {
    u32::try_from(STEPS.len()).expect("a handful of steps")
}

const FIRST: &str = "
CREATE TABLE organizations (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    authentication_policy TEXT NOT NULL,            -- JSON
    create_time INTEGER NOT NULL,                   -- times: seconds since the Unix epoch, UTC
    update_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE units (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    parent_id TEXT REFERENCES units (id),
    create_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX units_by_organization ON units (organization_id);
CREATE INDEX units_by_parent ON units (parent_id);

CREATE TABLE projects (
    name TEXT PRIMARY KEY NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    unit_id TEXT REFERENCES units (id),
    create_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX projects_by_organization ON projects (organization_id);
CREATE INDEX projects_by_unit ON projects (unit_id);

CREATE TABLE users (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    email TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    state TEXT NOT NULL,
    two_factor_enabled INTEGER NOT NULL,
    token_validity_begin INTEGER NOT NULL,
    managing_organization_id TEXT REFERENCES organizations (id),
    create_time INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX users_by_email ON users (email) WHERE state <> 'deleted';

CREATE TABLE memberships (
    user_id TEXT NOT NULL REFERENCES users (id),
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    is_super_admin INTEGER NOT NULL,
    join_time INTEGER NOT NULL,
    PRIMARY KEY (user_id, organization_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX memberships_by_organization ON memberships (organization_id);

CREATE TABLE identity_providers (
    id TEXT PRIMARY KEY NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    linked_domain_ids TEXT NOT NULL,                -- JSON
    auto_join_user_group_id TEXT,
    auth_token_max_age_seconds INTEGER,
    auth_token_extend_when_used INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_providers_by_organization ON identity_providers (organization_id);

CREATE TABLE authentication_methods (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES users (id),
    kind TEXT NOT NULL,
    identity_provider_id TEXT REFERENCES identity_providers (id),
    create_time INTEGER NOT NULL
) STRICT;
CREATE INDEX authentication_methods_by_user ON authentication_methods (user_id);
CREATE INDEX authentication_methods_by_provider ON authentication_methods (identity_provider_id);

CREATE TABLE domains (
    id TEXT PRIMARY KEY NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    verification_type TEXT NOT NULL,
    challenge_token TEXT NOT NULL,
    create_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX domains_by_organization ON domains (organization_id);
CREATE UNIQUE INDEX domains_verified_once ON domains (name) WHERE state = 'verified';

CREATE TABLE groups (
    id TEXT PRIMARY KEY NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    managed_by_scim INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    UNIQUE (organization_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE group_members (
    group_id TEXT NOT NULL REFERENCES groups (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    PRIMARY KEY (group_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX group_members_by_user ON group_members (user_id);

CREATE TABLE grants (
    principal_type TEXT NOT NULL,
    principal_id TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    permissions TEXT NOT NULL,                      -- JSON: names of permissions and roles
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    PRIMARY KEY (principal_type, principal_id, resource_type, resource_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_by_resource ON grants (resource_type, resource_id);

-- What start-up reads of a million rows stands first.
CREATE TABLE tokens (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    user_number INTEGER NOT NULL REFERENCES users (number),
    kind TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    max_age_seconds INTEGER,                        -- NULL: never ends
    extend_when_used INTEGER NOT NULL,
    revoked_time INTEGER,
    method_number INTEGER REFERENCES authentication_methods (number) ON DELETE SET NULL,
    ip_allowlist TEXT,                              -- JSON; NULL: any
    scopes TEXT,                                    -- JSON; NULL: not restricted
    imported INTEGER NOT NULL,
    prefix TEXT NOT NULL UNIQUE,
    created_manually INTEGER NOT NULL,
    description TEXT NOT NULL
) STRICT;
CREATE INDEX tokens_by_user ON tokens (user_number);
CREATE INDEX tokens_by_method ON tokens (method_number) WHERE method_number IS NOT NULL;

CREATE TABLE token_usage (
    token_number INTEGER PRIMARY KEY REFERENCES tokens (number),
    last_used_time INTEGER NOT NULL,
    last_ip TEXT,
    last_user_agent TEXT
) STRICT;

CREATE TABLE changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    entity TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    change_time INTEGER NOT NULL
) STRICT;
";

/// What the management API needs: who did what, how people log in, and what may still end a token.
const MANAGEMENT: &str = "
-- Append-only: nothing here is ever changed; what is older than the configured time is removed whole.
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    event_time INTEGER NOT NULL,
    organization_id TEXT,                           -- NULL: concerns no one organization
    event_type TEXT NOT NULL,
    channel TEXT NOT NULL,                          -- through what it was done
    actor_user_id TEXT,
    actor_token_prefix TEXT,
    actor_address TEXT,
    request_id TEXT,
    entity TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    before TEXT,                                    -- JSON: what differs, as it was
    after TEXT                                      -- JSON: what differs, as it is
) STRICT;
CREATE INDEX events_by_organization ON events (organization_id, number);

CREATE TABLE passwords (
    user_id TEXT PRIMARY KEY NOT NULL REFERENCES users (id),
    hash TEXT NOT NULL,                             -- PHC string, argon2id
    update_time INTEGER NOT NULL,
    from_code INTEGER NOT NULL                      -- whether it goes back to a code that somebody handed over
) STRICT, WITHOUT ROWID;

CREATE TABLE totp_secrets (
    user_id TEXT PRIMARY KEY NOT NULL REFERENCES users (id),
    sealed_secret BLOB NOT NULL,                    -- encrypted with a key that is not in the store
    last_step INTEGER NOT NULL,                     -- no step is accepted twice
    create_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE invitations (
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    user_email TEXT NOT NULL,
    inviter_user_id TEXT,
    create_time INTEGER NOT NULL,
    expiry_time INTEGER NOT NULL,
    code_digest BLOB,                               -- with the code the invited person makes an account; NULL: has one
    PRIMARY KEY (organization_id, user_email)
) STRICT, WITHOUT ROWID;
CREATE INDEX invitations_by_email ON invitations (user_email);
CREATE UNIQUE INDEX invitations_by_code ON invitations (code_digest) WHERE code_digest IS NOT NULL;

-- One-time codes that an admin hands over to somebody who cannot log in any more.
CREATE TABLE password_resets (
    user_id TEXT PRIMARY KEY NOT NULL REFERENCES users (id),
    code_digest BLOB NOT NULL UNIQUE,
    create_time INTEGER NOT NULL,
    expiry_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE authentication_methods ADD COLUMN subject TEXT;         -- who it is at the third party or provider
CREATE UNIQUE INDEX authentication_methods_by_subject
    ON authentication_methods (kind, coalesce(identity_provider_id, ''), subject) WHERE subject IS NOT NULL;
ALTER TABLE identity_providers ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';  -- JSON: issuer, client id, SAML's fields
ALTER TABLE identity_providers ADD COLUMN sealed_client_secret BLOB;
ALTER TABLE organizations ADD COLUMN candidate_policy TEXT;         -- JSON; NULL: none is tried
ALTER TABLE tokens ADD COLUMN end_time INTEGER;                     -- NULL: none but by its lifetime
ALTER TABLE token_usage ADD COLUMN request_count INTEGER NOT NULL DEFAULT 0;
";

/// What has taken a token's place.
const SUCCESSORS: &str = "
ALTER TABLE tokens ADD COLUMN successor_prefix TEXT;                -- NULL: nothing has
";
