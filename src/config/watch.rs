//! Tells when the configuration file, or a file it refers to, has other content than before.
//!
//! Folders are watched rather than files, so that an editor's rename-over and Kubernetes' swap of the `..data`
//! link are seen. What a reload does is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::input;

/// How long it must have been quiet before files are looked at: saving is several steps.
const QUIET: Duration = Duration::from_millis(200);

/// Files are looked at after this long even if it never becomes quiet, as in a folder with a busy log.
const PATIENCE: Duration = Duration::from_secs(2);

/// Watches a configuration file and what it refers to.
///
/// Start it before the configuration is loaded and then [`follow`](Self::follow) the files that were referred to:
/// a change in between is then seen too.
#[derive(Debug)]
pub struct ConfigWatcher {
    watcher: RecommendedWatcher,
    events: Arc<Notify>,
    folders: BTreeSet<PathBuf>,
    contents: BTreeMap<PathBuf, Content>,
    file: PathBuf,
    state: State,
}

/// The system does not let files be watched.
#[derive(Debug, Error)]
#[error("cannot watch `{path}` for changes; reload by SIGHUP or `postern reload` instead")]
pub struct WatchError {
    path: PathBuf,
    source: notify::Error,
}

/// Whether something has happened that has not been looked at. Kept here, not in a future, so that dropping
/// [`ConfigWatcher::changed`] half-way loses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Stirred,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Digest([u8; 32]),
    Unreadable,
}

impl ConfigWatcher {
    /// Watches the configuration file at `path`.
    ///
    /// # Errors
    /// The system has no watches left or does not let the folder be watched.
    pub fn start(path: &Path) -> Result<Self, WatchError> {
        let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let events = Arc::new(Notify::new());
        let stirred = Arc::clone(&events);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error can mean that events were lost: look.
            if event.is_ok_and(|event| is_reading(event.kind)) {
                return;
            }
            stirred.notify_one();
        });
        let watcher = watcher.map_err(|source| WatchError { path: file.clone(), source })?;
        let mut this = Self {
            watcher,
            events,
            folders: BTreeSet::new(),
            contents: BTreeMap::new(),
            file,
            state: State::Idle,
        };
        this.follow(&[])?;
        Ok(this)
    }

    /// Watches these files beside the configuration file, and no others any more. What is new among them counts
    /// as unchanged as of now.
    ///
    /// # Errors
    /// The system has no watches left or does not let a folder be watched; the other files are watched all the same.
    pub fn follow(&mut self, referenced_files: &[PathBuf]) -> Result<(), WatchError> {
        let files: BTreeSet<_> = referenced_files.iter().chain([&self.file]).cloned().collect();
        self.contents.retain(|file, _| files.contains(file));
        let watched = self.watch_folders(&files);
        for file in files {
            self.contents.entry(file).or_insert_with_key(|file| Content::of(file));
        }
        watched
    }

    /// Waits until the content of a watched file is different from what it was when this last returned. May be
    /// dropped at any time without losing a change.
    ///
    /// Reads small files; not for a thread that serves requests.
    pub async fn changed(&mut self) {
        loop {
            if self.state == State::Idle {
                self.events.notified().await;
                self.state = State::Stirred;
            }
            self.quiet().await;
            self.state = State::Idle;
            if self.look() == Finding::Changed {
                return;
            }
        }
    }

    /// Waits until nothing has happened for a moment.
    async fn quiet(&self) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if timeout(QUIET, self.events.notified()).await.is_err() {
                return;
            }
        }
    }

    /// Compares contents, and follows links to where they lead now.
    fn look(&mut self) -> Finding {
        let files: BTreeSet<_> = self.contents.keys().cloned().collect();
        // A folder that cannot be watched now was reported when it was first followed.
        let _ = self.watch_folders(&files);
        let mut finding = Finding::Same;
        for (file, content) in &mut self.contents {
            let now = Content::of(file);
            if now != *content {
                *content = now;
                finding = Finding::Changed;
            }
        }
        finding
    }

    /// Watches the folders of these files and of what they link to, and no others; the first failure is told.
    fn watch_folders(&mut self, files: &BTreeSet<PathBuf>) -> Result<(), WatchError> {
        let wanted: BTreeSet<PathBuf> = files.iter().flat_map(|file| folders_of(file)).collect();
        for folder in self.folders.difference(&wanted) {
            // Fails for a folder that is gone, and its watch with it.
            let _ = self.watcher.unwatch(folder);
        }
        self.folders.retain(|folder| wanted.contains(folder));
        let mut result = Ok(());
        for folder in wanted {
            // Watched anew even if it is already: a folder may have been replaced by another of the same name.
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(folder);
                }
                Err(source) => result = result.and(Err(WatchError { path: folder, source })),
            }
        }
        result
    }
}

/// What a look at the files found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Changed,
    Same,
}

impl Content {
    fn of(file: &Path) -> Self {
        match input::read(file) {
            Ok(content) => Self::Digest(Sha256::digest(content).into()),
            Err(_) => Self::Unreadable,
        }
    }
}

/// The folder a file is in, and those that its links lead through; of a missing folder the nearest that exists.
fn folders_of(file: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut current = file.to_owned();
    // As many links as the system itself follows.
    for _ in 0..40 {
        let existing = current.ancestors().skip(1).find(|folder| folder.is_dir());
        folders.extend(existing.map(Path::to_owned));
        // A folder on the way can be a link that is swapped, as `current` often is.
        let links = current.ancestors().skip(1).filter(|folder| folder.is_symlink());
        folders.extend(links.filter_map(Path::parent).map(Path::to_owned));
        let Ok(target) = std::fs::read_link(&current) else { break };
        current = current.parent().unwrap_or(Path::new("/")).join(target);
    }
    // Where links of folders lead in the end, too.
    let real = std::fs::canonicalize(file).ok();
    folders.extend(real.as_deref().and_then(Path::parent).map(Path::to_owned));
    folders
}

/// Reading a file is no change; this program's own looking would otherwise never end.
const fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
