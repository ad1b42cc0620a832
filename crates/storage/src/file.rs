//! The file of an SQLite database: made for its owner alone, and looked after while it is open.

use std::io;
use std::path::Path;

use crate::Error;

/// Which file a path named when it was opened. What is written into one that has another name meanwhile, or none, may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Place {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let found = std::fs::metadata(path)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Ok(Self { device: found.dev(), inode: found.ino() })
        }
        #[cfg(not(unix))]
        {
            drop(found);
            Ok(Self {})
        }
    }

    /// Whether the path still names the file that was opened.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if not.
    pub(crate) fn check(self, path: &Path) -> Result<(), Error> {
        let wrong = |what: &str, advice: &str| {
            Err(Error::Unavailable { what: format!("the database file {} {what}: {advice}", path.display()) })
        };
        match Self::of(path) {
            Ok(found) if found == self => Ok(()),
            Ok(_) => wrong(
                "was replaced while it was in use",
                "start this program anew to use the new one, or put the old one back",
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                wrong("was moved away or removed while it was in use", "put it back")
            }
            Err(error) => wrong("can't be looked at any more", &error.to_string()),
        }
    }
}

/// A new, empty file with the folders that it needs, for their owner alone whatever the umask. SQLite makes the files beside
/// it like it.
///
/// # Errors
/// [`Error::Unavailable`] if they can't be made.
pub(crate) fn make(path: &Path) -> Result<(), Error> {
    let failed = |what: &Path, error: &io::Error| Error::Unavailable {
        what: format!("{} can't be created: {error}", what.display()),
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let mut folders = std::fs::DirBuilder::new();
        folders.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folders, 0o700);
        folders.create(folder).map_err(|error| failed(folder, &error))?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(file) => {
            #[cfg(unix)]
            {
                // The umask may have taken more.
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                file.set_permissions(mode).map_err(|error| failed(path, &error))?;
            }
            drop(file);
            Ok(())
        }
        // Another process makes it as well.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(path, &error)),
    }
}
