//! How people log in and come to be members, in SQLite: reading and changing it.

use rusqlite::{Row, params};

use super::events::Record;
use super::read::Reader;
use super::rows::{address, optional_time, time};
use super::write::Writer;
use crate::directory::error::StoreError;
use crate::directory::model::{Invitation, PasswordRecord, PasswordReset, Timestamp, TotpRecord};
use crate::directory::store::people::{PeopleChanges, PeopleRecords};
use crate::token::{TokenDigest, TokenKind};

const INVITATION: &str =
    "organization_id, user_email, inviter_user_id, create_time, expiry_time, code_digest";

impl Reader<'_> {
    fn invitations_where(&self, condition: &str, value: &str) -> Result<Vec<Invitation>, StoreError> {
        let sql = format!(
            "SELECT {INVITATION} FROM invitations WHERE {condition} = ?1 ORDER BY user_email, organization_id"
        );
        self.all(&sql, [value], invitation)
    }
}

impl PeopleRecords for Reader<'_> {
    fn password(&self, user_id: &str) -> Result<Option<PasswordRecord>, StoreError> {
        let sql = "SELECT user_id, hash, update_time, from_code FROM passwords WHERE user_id = ?1";
        self.one(sql, [user_id], |row| {
            Ok(PasswordRecord {
                user_id: row.get(0)?,
                hash: row.get(1)?,
                update_time: time(row, 2)?,
                from_code: row.get(3)?,
            })
        })
    }

    fn totp(&self, user_id: &str) -> Result<Option<TotpRecord>, StoreError> {
        let sql =
            "SELECT user_id, sealed_secret, last_step, create_time FROM totp_secrets WHERE user_id = ?1";
        self.one(sql, [user_id], |row| {
            let last_step: i64 = row.get(2)?;
            Ok(TotpRecord {
                user_id: row.get(0)?,
                sealed_secret: row.get(1)?,
                last_step: last_step.unsigned_abs(),
                create_time: time(row, 3)?,
            })
        })
    }

    fn password_reset(&self, code: &TokenDigest) -> Result<Option<PasswordReset>, StoreError> {
        let sql = "SELECT user_id, code_digest, create_time, expiry_time FROM password_resets
             WHERE code_digest = ?1";
        self.one(sql, [code.as_bytes()], |row| {
            Ok(PasswordReset {
                user_id: row.get(0)?,
                code_digest: TokenDigest::from_bytes(row.get(1)?),
                create_time: time(row, 2)?,
                expiry_time: time(row, 3)?,
            })
        })
    }

    fn invitation(&self, organization_id: &str, email: &str) -> Result<Option<Invitation>, StoreError> {
        let sql =
            format!("SELECT {INVITATION} FROM invitations WHERE organization_id = ?1 AND user_email = ?2");
        self.one(&sql, [organization_id, email], invitation)
    }

    fn invitation_by_code(&self, code: &TokenDigest) -> Result<Option<Invitation>, StoreError> {
        let sql = format!("SELECT {INVITATION} FROM invitations WHERE code_digest = ?1");
        self.one(&sql, [code.as_bytes()], invitation)
    }

    fn invitations(&self, organization_id: &str) -> Result<Vec<Invitation>, StoreError> {
        self.invitations_where("organization_id", organization_id)
    }

    fn invitations_of(&self, email: &str) -> Result<Vec<Invitation>, StoreError> {
        self.invitations_where("user_email", email)
    }

    fn living_tokens(&self, user_id: &str, kind: TokenKind, now: Timestamp) -> Result<Vec<u32>, StoreError> {
        let sql = "SELECT t.number FROM users u JOIN tokens t ON t.user_number = u.number
             LEFT JOIN token_usage s ON s.token_number = t.number
             WHERE u.id = ?1 AND t.kind = ?2 AND t.revoked_time IS NULL AND t.create_time >= u.token_validity_begin
                 AND coalesce(t.end_time > ?3, 1)
                 AND coalesce(t.max_age_seconds + CASE WHEN t.extend_when_used
                     THEN max(t.create_time, coalesce(s.last_used_time, 0)) ELSE t.create_time END > ?3, 1)
             ORDER BY t.number";
        self.all(sql, params![user_id, kind.as_str(), now.0], |row| row.get(0))
    }

    fn last_activity(&self, user_id: &str) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT max(s.last_used_time) FROM tokens t JOIN token_usage s ON s.token_number = t.number
             WHERE t.user_number = (SELECT number FROM users WHERE id = ?1)";
        Ok(self.one(sql, [user_id], |row| optional_time(row, 0))?.flatten())
    }

    fn session_addresses(&self) -> Result<Vec<(String, std::net::IpAddr)>, StoreError> {
        // In this order: people are few and tokens can be millions.
        let sql = "SELECT u.email, s.last_ip FROM users u CROSS JOIN tokens t ON t.user_number = u.number
             CROSS JOIN token_usage s ON s.token_number = t.number
             WHERE u.kind = 'organization_user' AND t.kind = 'session' AND t.revoked_time IS NULL
                 AND s.last_ip IS NOT NULL
             ORDER BY s.last_used_time";
        let found = self.all(sql, [], |row| Ok((row.get(0)?, address(row, 1)?)))?;
        Ok(found.into_iter().filter_map(|(email, address)| Some((email, address?))).collect())
    }
}

impl PeopleChanges for Writer<'_> {
    fn put_password(&self, password: &PasswordRecord) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO passwords (user_id, hash, update_time, from_code) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash, update_time = excluded.update_time,
                 from_code = excluded.from_code",
            params![password.user_id, password.hash, password.update_time.0, password.from_code],
        )?;
        Ok(())
    }

    fn delete_password(&self, user_id: &str) -> Result<(), StoreError> {
        self.execute("DELETE FROM passwords WHERE user_id = ?1", [user_id])?;
        self.delete_password_reset(user_id)
    }

    fn put_totp(&self, totp: &TotpRecord) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO totp_secrets (user_id, sealed_secret, last_step, create_time) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (user_id) DO UPDATE SET sealed_secret = excluded.sealed_secret,
                 last_step = excluded.last_step, create_time = excluded.create_time",
            params![totp.user_id, totp.sealed_secret, step(totp.last_step), totp.create_time.0],
        )?;
        Ok(())
    }

    fn use_totp_step(&self, user_id: &str, used: u64) -> Result<bool, StoreError> {
        let sql = "UPDATE totp_secrets SET last_step = ?2 WHERE user_id = ?1 AND last_step < ?2";
        Ok(self.execute(sql, params![user_id, step(used)])? == 1)
    }

    fn delete_totp(&self, user_id: &str) -> Result<(), StoreError> {
        self.execute("DELETE FROM totp_secrets WHERE user_id = ?1", [user_id])?;
        Ok(())
    }

    fn put_password_reset(&self, reset: &PasswordReset) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO password_resets (user_id, code_digest, create_time, expiry_time) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (user_id) DO UPDATE SET code_digest = excluded.code_digest,
                 create_time = excluded.create_time, expiry_time = excluded.expiry_time",
            params![reset.user_id, reset.code_digest.as_bytes(), reset.create_time.0, reset.expiry_time.0],
        )?;
        Ok(())
    }

    fn delete_password_reset(&self, user_id: &str) -> Result<(), StoreError> {
        self.execute("DELETE FROM password_resets WHERE user_id = ?1", [user_id])?;
        Ok(())
    }

    fn put_invitation(&self, invitation: &Invitation) -> Result<(), StoreError> {
        let Invitation { organization_id, user_email, .. } = invitation;
        let before = self.invitation(organization_id, user_email)?;
        let record =
            Record { entity: "invitation", id: user_email, before: before.as_ref(), after: Some(invitation) };
        self.note(Some(organization_id), record)?;
        self.execute(
            "INSERT INTO invitations (organization_id, user_email, inviter_user_id, create_time, expiry_time,
                 code_digest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (organization_id, user_email) DO UPDATE SET inviter_user_id = excluded.inviter_user_id,
                 create_time = excluded.create_time, expiry_time = excluded.expiry_time,
                 code_digest = excluded.code_digest",
            params![
                organization_id,
                user_email,
                invitation.inviter_user_id,
                invitation.create_time.0,
                invitation.expiry_time.0,
                invitation.code_digest.as_ref().map(TokenDigest::as_bytes),
            ],
        )?;
        Ok(())
    }

    fn delete_invitation(&self, organization_id: &str, email: &str) -> Result<(), StoreError> {
        let before = self.invitation(organization_id, email)?;
        let record = Record { entity: "invitation", id: email, before: before.as_ref(), after: None };
        self.note(Some(organization_id), record)?;
        let sql = "DELETE FROM invitations WHERE organization_id = ?1 AND user_email = ?2";
        self.execute(sql, [organization_id, email])?;
        Ok(())
    }

    fn revoke_sessions(&self, user_id: &str) -> Result<usize, StoreError> {
        let condition = "kind = 'session' AND user_number = (SELECT number FROM users WHERE id = ?1)";
        self.revoke_where(condition, params![user_id, self.now.0])
    }

    fn revoke_password_sessions(&self, user_id: &str) -> Result<usize, StoreError> {
        let condition = "kind = 'session' AND method_number IN (SELECT number FROM authentication_methods
             WHERE user_id = ?1 AND kind = 'password')";
        self.revoke_where(condition, params![user_id, self.now.0])
    }
}

fn invitation(row: &Row<'_>) -> rusqlite::Result<Invitation> {
    let code: Option<[u8; 32]> = row.get(5)?;
    Ok(Invitation {
        organization_id: row.get(0)?,
        user_email: row.get(1)?,
        inviter_user_id: row.get(2)?,
        create_time: time(row, 3)?,
        expiry_time: time(row, 4)?,
        code_digest: code.map(TokenDigest::from_bytes),
    })
}

/// Steps are as many as half minutes since 1970: they fit.
fn step(step: u64) -> i64 {
    i64::try_from(step).unwrap_or(i64::MAX)
}
