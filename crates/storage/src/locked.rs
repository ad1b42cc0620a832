//! Who keeps an SQLite file locked, as far as the system tells: Linux lists locks with the processes that hold them.

use std::path::{Path, PathBuf};

use crate::DatabaseUrl;

/// The bytes by which a writer without a write-ahead log locks the database file: PENDING, RESERVED and SHARED.
const OF_THE_FILE: std::ops::RangeInclusive<u64> = 0x4000_0000..=0x4000_01ff;
/// The byte by which a writer locks the index of the write-ahead log.
const OF_THE_LOG: std::ops::RangeInclusive<u64> = 120..=120;

/// The other processes that keep the file of an SQLite database locked against writing, each as `python3 (process 4711)`. Empty
/// where the system does not tell, as it does not tell a container of processes outside.
pub fn holders(url: &DatabaseUrl) -> Vec<String> {
    let Some(path) = url.path() else { return Vec::new() };
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else { return Vec::new() };
    let mut index = path.as_os_str().to_owned();
    index.push("-shm");
    let files = [(inode(path), OF_THE_FILE), (inode(&PathBuf::from(index)), OF_THE_LOG)];
    let mut processes: Vec<u32> = locks
        .lines()
        .filter_map(read)
        .filter(|lock| {
            files.iter().any(|(inode, bytes)| *inode == Some(lock.inode) && bytes.contains(&lock.first))
        })
        .map(|lock| lock.process)
        .filter(|process| *process != 0 && *process != std::process::id())
        .collect();
    processes.sort_unstable();
    processes.dedup();
    processes.into_iter().map(named).collect()
}

/// A lock for writing.
#[derive(Debug, PartialEq, Eq)]
struct Lock {
    process: u32,
    inode: u64,
    first: u64,
}

/// A line such as `1: POSIX  ADVISORY  WRITE 1728 fe:00:10592263 1073741825 1073741825`; one with an arrow waits for a lock.
fn read(line: &str) -> Option<Lock> {
    let mut words = line.split_whitespace().skip(1);
    let (kind, _, access) = (words.next()?, words.next()?, words.next()?);
    if kind != "POSIX" || access != "WRITE" {
        return None;
    }
    let (process, file, first) = (words.next()?, words.next()?, words.next()?);
    Some(Lock {
        process: process.parse().ok()?,
        inode: file.rsplit(':').next()?.parse().ok()?,
        first: first.parse().ok()?,
    })
}

fn named(process: u32) -> String {
    match std::fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(name) => format!("{} (process {process})", name.trim()),
        Err(_) => format!("process {process}"),
    }
}

#[cfg(unix)]
fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|found| found.ino())
}

#[cfg(not(unix))]
fn inode(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_for_writing_are_read() {
        let lock = |process, inode, first| Some(Lock { process, inode, first });
        for (line, expected) in [
            (
                "1: POSIX  ADVISORY  WRITE 1728 fe:00:10592263 1073741825 1073741825",
                lock(1728, 10_592_263, 0x4000_0001),
            ),
            ("12: POSIX  ADVISORY  WRITE 17 00:2a:9 120 120", lock(17, 9, 120)),
            ("2: POSIX  ADVISORY  READ 1728 fe:00:10592263 1073741826 1073742335", None),
            ("3: FLOCK  ADVISORY  WRITE 1637 fe:00:5472615 0 EOF", None),
            ("1: -> POSIX  ADVISORY  WRITE 1728 fe:00:10592263 120 120", None),
            ("", None),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }
}
