//! What must be recoverable and may not stand in the store as it is: TOTP secrets and client secrets, encrypted with a
//! key in a file beside the store. Who has the store alone, a backup of it for example, has none of them.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use data_encoding::HEXLOWER_PERMISSIVE;
use parking_lot::Mutex;
use secrecy::zeroize::Zeroizing;

/// First byte of what is sealed, should there ever be another way.
const VERSION: u8 = 1;

/// Length of the key in bytes.
const KEY_LENGTH: usize = 32;

/// What a secret is and whose: a sealed one that is moved to another row opens there for nobody.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// The TOTP secret of the user with this id.
    Totp(&'a str),
    /// The client secret of the identity provider with this id.
    ClientSecret(&'a str),
}

/// Encrypts and decrypts with the key in the store's key file. The file is read, or made if it is missing, when the
/// first secret is sealed or opened.
pub struct Sealer {
    path: PathBuf,
    key: OnceLock<RandomizedNonceKey>,
    reading: Mutex<()>,
}

/// Why nothing was sealed or opened. The messages say what to do.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read or made.
    #[error(
        "the key file {path:?} cannot be read or made ({error}): let the user that Postern runs as read it, and \
         write its folder"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others may read the key.
    #[error("the key file {path:?} can be read by every user of this system: `chmod 600 {path:?}`")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The file does not hold a key.
    #[error("the key file {path:?} does not hold a key of 64 hexadecimal digits: restore it from a backup")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key does not open what was sealed.
    #[error(
        "the key in {path:?} does not open this secret: put the key file back that belongs to the store, or reset \
         what was sealed with the lost one"
    )]
    WrongKey {
        /// The file.
        path: PathBuf,
    },
}

impl Sealer {
    /// With the key file of the store in `store`: the same name with `.key` at the end.
    pub fn beside(store: &Path) -> Self {
        let mut name = store.as_os_str().to_owned();
        name.push(".key");
        Self { path: name.into(), key: OnceLock::new(), reading: Mutex::new(()) }
    }

    /// Encrypts a secret.
    ///
    /// # Errors
    /// If the key file cannot be read or made.
    pub fn seal(&self, purpose: Purpose<'_>, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut sealed = secret.to_vec();
        let nonce = self
            .key()?
            .seal_in_place_append_tag(Aad::from(purpose.text()), &mut sealed)
            .expect("a secret is shorter than what one key may encrypt at once");
        let mut whole = Vec::with_capacity(1 + NONCE_LEN + sealed.len());
        whole.push(VERSION);
        whole.extend_from_slice(nonce.as_ref());
        whole.extend_from_slice(&sealed);
        Ok(whole)
    }

    /// Decrypts what [`Self::seal`] made for the same purpose.
    ///
    /// # Errors
    /// If the key file cannot be read, or its key is not the one.
    pub fn open(&self, purpose: Purpose<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let wrong = || SealError::WrongKey { path: self.path.clone() };
        let (&version, rest) = sealed.split_first().ok_or_else(wrong)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        if version != VERSION {
            return Err(wrong());
        }
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key()?.open_in_place(nonce, Aad::from(purpose.text()), &mut text);
        let length = opened.map_err(|_unspecified| wrong())?.len();
        text.truncate(length);
        Ok(text)
    }

    fn key(&self) -> Result<&RandomizedNonceKey, SealError> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        let _one_at_a_time = self.reading.lock();
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        let unreadable = |error| SealError::Unreadable { path: self.path.clone(), error };
        if !self.path.try_exists().map_err(unreadable)? {
            make_key_file(&self.path).map_err(unreadable)?;
        }
        let bytes = self.read()?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes.as_slice());
        Ok(self.key.get_or_init(|| key.expect("the key has the algorithm's length")))
    }

    fn read(&self) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let unreadable = |error| SealError::Unreadable { path: self.path.clone(), error };
        let mode = fs::metadata(&self.path).map_err(unreadable)?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(SealError::Exposed { path: self.path.clone() });
        }
        let text = Zeroizing::new(fs::read(&self.path).map_err(unreadable)?);
        let bytes = HEXLOWER_PERMISSIVE.decode(text.trim_ascii()).map(Zeroizing::new);
        bytes
            .ok()
            .filter(|bytes| bytes.len() == KEY_LENGTH)
            .ok_or_else(|| SealError::NoKey { path: self.path.clone() })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Purpose<'_> {
    fn text(self) -> String {
        match self {
            Self::Totp(user_id) => format!("totp {user_id}"),
            Self::ClientSecret(provider_id) => format!("client-secret {provider_id}"),
        }
    }
}

/// Makes the file whole or not at all: two processes that find it missing end up with the same key.
fn make_key_file(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut key = Zeroizing::new([0_u8; KEY_LENGTH]);
    getrandom::fill(key.as_mut_slice())?;
    let text = Zeroizing::new(HEXLOWER_PERMISSIVE.encode(key.as_slice()) + "\n");
    // Nobody but its owner may read a temporary file either.
    let mut file = tempfile::Builder::new().prefix(".postern-key-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(refused) => return Err(refused.error),
    }
    // The name must last as long as what will be sealed.
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("directory.db");
        (folder, store)
    }

    #[test]
    fn what_is_sealed_opens_in_another_process_for_the_same_owner_only() {
        let (_folder, store) = folder();
        let sealed = Sealer::beside(&store).seal(Purpose::Totp("u1"), b"secret").unwrap();
        let again = Sealer::beside(&store);
        assert_eq!(again.open(Purpose::Totp("u1"), &sealed).unwrap().as_slice(), b"secret");
        for purpose in [Purpose::Totp("u2"), Purpose::ClientSecret("u1")] {
            assert!(matches!(again.open(purpose, &sealed), Err(SealError::WrongKey { .. })));
        }
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_ne!(again.seal(Purpose::Totp("u1"), b"secret").unwrap(), sealed);
    }

    #[test]
    fn every_changed_byte_is_found() {
        let (_folder, store) = folder();
        let sealer = Sealer::beside(&store);
        let sealed = sealer.seal(Purpose::Totp("u1"), b"secret").unwrap();
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(sealer.open(Purpose::Totp("u1"), &changed).is_err(), "byte {position}");
        }
        for length in 0..sealed.len() {
            assert!(sealer.open(Purpose::Totp("u1"), &sealed[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn the_key_file_is_its_owners_alone_and_is_never_made_anew() {
        let (folder, store) = folder();
        let file = folder.path().join("directory.db.key");
        Sealer::beside(&store).seal(Purpose::Totp("u1"), b"secret").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        let key = fs::read(&file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let exposed = Sealer::beside(&store).seal(Purpose::Totp("u1"), b"secret");
        assert!(matches!(exposed, Err(SealError::Exposed { .. })));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fs::read(&file).unwrap(), key);
        fs::write(&file, "short").unwrap();
        let broken = Sealer::beside(&store).seal(Purpose::Totp("u1"), b"secret");
        assert!(matches!(broken, Err(SealError::NoKey { .. })));
        assert_eq!(fs::read(&file).unwrap(), b"short");
    }

    #[test]
    fn another_key_says_which_file_is_wrong() {
        let (folder, store) = folder();
        let sealed = Sealer::beside(&store).seal(Purpose::Totp("u1"), b"secret").unwrap();
        fs::remove_file(folder.path().join("directory.db.key")).unwrap();
        let error = Sealer::beside(&store).open(Purpose::Totp("u1"), &sealed).unwrap_err();
        assert!(error.to_string().contains("directory.db.key"), "{error}");
    }

    #[test]
    fn many_that_find_it_missing_agree_on_one_key() {
        let (_folder, store) = folder();
        let sealers: Vec<_> = (0..8).map(|_| Sealer::beside(&store)).collect();
        let sealed: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = sealers
                .iter()
                .map(|sealer| scope.spawn(|| sealer.seal(Purpose::Totp("u1"), b"secret").unwrap()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for sealed in sealed {
            assert_eq!(sealers[0].open(Purpose::Totp("u1"), &sealed).unwrap().as_slice(), b"secret");
        }
    }
}
