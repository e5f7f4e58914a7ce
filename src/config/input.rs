//! Reading the files a configuration refers to: bounded, regular files only, and failures in an operator's words.

use std::io::{self, Read};
use std::path::Path;

/// Larger than any configuration, certificate chain or secret; keeps a wrong path such as `/dev/zero` from
/// filling the memory.
const MAXIMUM_BYTES: u64 = 4 * 1024 * 1024;

/// The whole file.
///
/// # Errors
/// Whatever the system says; [`io::ErrorKind::InvalidInput`] for what is no regular file, and
/// [`io::ErrorKind::FileTooLarge`] beyond 4 MiB.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Before opening: opening a named pipe would wait for its other end.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut content = Vec::new();
    std::fs::File::open(path)?.take(MAXIMUM_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAXIMUM_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 4 MiB"));
    }
    Ok(content)
}

/// Why a file cannot be read, in words.
pub(crate) fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// What to do about a file that cannot be read.
pub(crate) fn what_to_do(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "make the file or correct the path; relative paths start from the configuration file's folder"
        }
        io::ErrorKind::PermissionDenied => {
            "let the user that postern runs as read the file and enter its folders"
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => "correct the path",
        _ => "see that the user that postern runs as can read the file",
    }
}
