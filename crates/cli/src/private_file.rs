//! Files that this program alone makes: they hold names and usage, and are for their owner alone, whatever the umask. A file
//! that is there keeps its mode.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use anyhow::Context;

/// A file to write from its beginning.
pub(crate) fn create(path: impl AsRef<Path>) -> anyhow::Result<File> {
    let path = path.as_ref();
    let file = match make(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().write(true).truncate(true).open(path)
        }
        made => made,
    };
    file.with_context(|| format!("{} can't be written", path.display()))
}

/// A file that was not there.
pub(crate) fn create_new(path: &Path) -> anyhow::Result<File> {
    make(path).with_context(|| {
        format!("making the file {}: name one that is not there yet, in a folder that is", path.display())
    })
}

fn make(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(0o600).open(path)?;
        // The umask may have taken more.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn new_ones_are_for_their_owner_and_others_keep_their_mode() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        create(&new).unwrap();
        assert_eq!(mode(&new), 0o600);
        std::fs::write(&old, "longer than before").unwrap();
        std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o640)).unwrap();
        create(&old).unwrap();
        assert_eq!((mode(&old), std::fs::metadata(&old).unwrap().len()), (0o640, 0));
        assert!(create_new(&old).is_err());
        // Where a program reads from, as in `--output /dev/stdout`.
        assert!(create("/dev/null").is_ok());
    }
}
