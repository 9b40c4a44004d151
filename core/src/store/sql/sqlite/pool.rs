//! Connections to files, kept per process.

use super::gate::Counted;
use crate::fork::PerProcess;
use crate::store::files;
use crate::sync::Mutex;
use crate::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Idle connections kept per file.
const MOST_IDLE: usize = 8;

/// How a file is opened.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Source {
    pub path: String,
    /// Ours alone: written ahead to a log. Otherwise it stays as its owner has set it up.
    pub wal: bool,
    /// Each commit waits for the disk.
    pub full_sync: bool,
    pub allow_network_fs: bool,
}

type Idle = HashMap<Source, Vec<Kept>>;

static IDLE: PerProcess<Mutex<Idle>> = PerProcess::new();

/// Its device and number: what else has its name is another file.
pub(super) type FileId = (u64, u64);

#[derive(Debug)]
pub(super) struct Kept {
    pub connection: Connection,
    file: FileId,
    _counted: Counted,
}

/// Before a fork.
pub(super) fn close_idle() {
    if let Some(idle) = IDLE.get() {
        idle.lock().clear();
    }
}

/// A connection to the file that has the name now. Others lock there: what is open of one that was removed or
/// replaced is closed.
pub(super) fn take(source: &Source) -> Option<Kept> {
    let now = file_at(Path::new(&source.path)).ok();
    let mut idle = IDLE.get_or_init(Mutex::default).lock();
    let same = idle.get_mut(source)?;
    same.retain(|kept| Some(kept.file) == now);
    same.pop()
}

fn file_at(path: &Path) -> std::io::Result<FileId> {
    std::fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

pub(super) fn give_back(source: &Source, kept: Kept) {
    let mut idle = IDLE.get_or_init(Mutex::default).lock();
    let same = match idle.get_mut(source) {
        Some(same) => same,
        None => idle.entry(source.clone()).or_default(),
    };
    if same.len() < MOST_IDLE {
        same.push(kept);
    }
}

/// Makes the file if it is not there, for its owner alone, and looks where it lies. An existing one
/// is not opened here: closing it would end SQLite's own locks on it.
pub(super) fn prepare(source: &Source) -> Result<FileId> {
    let path = Path::new(&source.path);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let opened = File::open(folder)
        .map_err(|error| Error::from_io(error, "the folder of the database cannot be opened"))?;
    if !source.allow_network_fs {
        files::check_file_system(&opened, "the database").map_err(|error| {
            Error::new(
                error.code(),
                format!(
                    "{}, where SQLite's locks may not reach other machines; `allow_network_fs=1` uses it all the same",
                    error.message()
                ),
            )
        })?;
    }
    if !path.exists() {
        let made = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match made {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::from_io(error, "the database cannot be made"));
            }
            _ => {}
        }
    }
    file_at(path).map_err(|error| Error::from_io(error, "the database cannot be looked at"))
}

/// Opens a connection; may find the file busy. `file` was there just before: if another one is now, the connection
/// is not used twice.
pub(super) fn open(source: &Source, file: FileId) -> rusqlite::Result<Kept> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let counted = Counted::new();
    let connection = Connection::open_with_flags(&source.path, flags)?;
    // Not by its method, which needs a newer SQLite than some systems have.
    connection.query_row("PRAGMA busy_timeout = 0", [], |_| Ok(()))?;
    // Closing must be quick: it happens at every fork.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Drupal's tables compare by a collation that its own driver brings along.
    connection.create_collation("NOCASE_UTF8", |a: &str, b: &str| {
        a.to_lowercase().cmp(&b.to_lowercase())
    })?;
    if source.wal {
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        if mode != "wal" {
            connection.query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))?;
        }
        let sync = if source.full_sync { "full" } else { "normal" };
        connection.pragma_update(None, "synchronous", sync)?;
    }
    Ok(Kept {
        connection,
        file,
        _counted: counted,
    })
}
