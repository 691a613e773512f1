//! The bytes of a file: mapped, or read into memory. The crate's only unsafe code is here.

#![allow(unsafe_code, reason = "mapping a file is unsafe: see the SAFETY line")]

use std::fs::{File, Metadata as FileMetadata};
use std::io::{self, Read};
use std::path::Path;

use memmap2::{Mmap, MmapMut};

use crate::error::Error;

/// How to get at the bytes of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Map the file: opens at once, pages come in as they are read and are shared between
    /// processes.
    #[default]
    Mmap,
    /// Read the whole file into memory that this process owns: later changes of the file do no
    /// harm.
    Read,
}

/// Bytes at an address that is a multiple of the page size, so that blocks and floats in them may
/// be read in place.
pub(crate) struct Bytes {
    map: Mmap,
    /// Length in bytes; an anonymous map of an empty buffer is one byte longer.
    len: usize,
    /// The mapped file, kept open to ask for its length; `None` where the process owns the bytes.
    file: Option<File>,
}

/// Opens a regular file. What is something else is refused before it is opened, because opening a
/// named pipe waits for a writer.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64), Error> {
    let found = std::fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::FileMissing,
        _ => Error::Io { doing: "look at the file", source },
    })?;
    if !found.is_file() {
        return Err(Error::NotAFile { found: kind_of(&found) });
    }
    let file = File::open(path).map_err(|source| Error::Io { doing: "open the file", source })?;
    let len = file_len(&file)?;
    Ok((file, len))
}

fn file_len(file: &File) -> Result<u64, Error> {
    match file.metadata() {
        Ok(metadata) => Ok(metadata.len()),
        Err(source) => Err(Error::Io { doing: "ask for the length of the file", source }),
    }
}

#[cfg(unix)]
fn kind_of(found: &FileMetadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let ty = found.file_type();
    if ty.is_dir() {
        "a directory"
    } else if ty.is_fifo() {
        "a named pipe"
    } else if ty.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn kind_of(found: &FileMetadata) -> &'static str {
    if found.is_dir() { "a directory" } else { "a device" }
}

fn too_long(len: u64) -> Error {
    let source = io::Error::new(
        io::ErrorKind::OutOfMemory,
        format!("{len} bytes are more than this machine can address"),
    );
    Error::Io { doing: "map the file", source }
}

impl Bytes {
    /// Maps the first `len` bytes of `file`. Some file systems cannot do that.
    pub(crate) fn map(file: &File, len: u64) -> Result<Self, Error> {
        let len = usize::try_from(len).map_err(|_| too_long(len))?;
        // SAFETY: the map is private and never written, so this process does not change the bytes
        // that it lends out. Another process may: one that writes into the file changes what
        // is read here (all later use is bounds-checked against the length of this map, so wrong
        // values, not wild reads, are the result), and one that shortens it makes reads beyond the
        // new end raise SIGBUS, which `check_len` keeps to a short window. `Gguf` documents this.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(file) };
        let map = map.map_err(|source| Error::Io { doing: "map the file", source })?;
        let file =
            file.try_clone().map_err(|source| Error::Io { doing: "keep the file open", source })?;
        Ok(Self { map, len, file: Some(file) })
    }

    /// Reads `len` bytes of `file`, from where it stands, into memory.
    pub(crate) fn read(mut file: impl Read, len: u64) -> Result<Self, Error> {
        let size = usize::try_from(len).map_err(|_| too_long(len))?;
        let (mut map, mut done) = (anonymous(size)?, 0);
        while done < size {
            match file.read(&mut map[done..size]) {
                Ok(0) => {
                    return Err(Error::FileShrank { expected: len, found: done as u64 });
                }
                Ok(n) => done += n,
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::Io { doing: "read the file", source });
                }
            }
        }
        Self::owned(map, size)
    }

    /// Copies `bytes` to an aligned address.
    pub(crate) fn copy_of(bytes: &[u8]) -> Result<Self, Error> {
        let mut map = anonymous(bytes.len())?;
        map[..bytes.len()].copy_from_slice(bytes);
        Self::owned(map, bytes.len())
    }

    fn owned(map: MmapMut, len: usize) -> Result<Self, Error> {
        let map = map.make_read_only();
        let map = map.map_err(|source| Error::Io { doing: "protect the memory", source })?;
        Ok(Self { map, len, file: None })
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.map[..self.len]
    }

    pub(crate) fn is_mapped(&self) -> bool {
        self.file.is_some()
    }

    /// Gives the mapped file back; `None` where the process owns the bytes already.
    pub(crate) fn into_file(self) -> Result<File, Self> {
        match self.file {
            Some(file) => Ok(file),
            None => Err(self),
        }
    }

    /// An error when a mapped file has become shorter than its map.
    pub(crate) fn check_len(&self) -> Result<(), Error> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let (expected, found) = (self.len as u64, file_len(file)?);
        if found < expected {
            return Err(Error::FileShrank { expected, found });
        }
        Ok(())
    }

    /// Pins the bytes in memory.
    #[cfg(unix)]
    pub(crate) fn lock(&self) -> io::Result<()> {
        self.map.lock()
    }

    /// Pins the bytes in memory: not offered here.
    #[cfg(not(unix))]
    pub(crate) fn lock(&self) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "locking memory needs a Unix system"))
    }

    /// Gives the pages of `part` back where they are a mapped file's, which they can be read from again.
    pub(crate) fn forget(&self, part: &[u8]) {
        #[cfg(target_os = "linux")]
        if self.is_mapped() {
            let at = (part.as_ptr() as usize).checked_sub(self.map.as_ptr() as usize);
            let inside = at.filter(|at| at + part.len() <= self.len);
            if let Some(at) = inside {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                // SAFETY: pages of a file that is mapped read-only: what is read there later is the
                // file's again.
                let _ = unsafe { self.map.unchecked_advise_range(advice, at, part.len()) };
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = part;
    }

    /// Asks the system to bring the bytes in soon; a hint, which systems without it ignore.
    #[cfg(unix)]
    pub(crate) fn will_need(&self) -> io::Result<()> {
        self.map.advise(memmap2::Advice::WillNeed)
    }

    /// Asks the system to bring the bytes in soon: no such hint here.
    #[cfg(not(unix))]
    pub(crate) fn will_need(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Zeroed memory of at least `len` bytes, at least one (an empty map is refused by some systems).
fn anonymous(len: usize) -> Result<MmapMut, Error> {
    let map = MmapMut::map_anon(len.max(1));
    let map = map.map_err(|source| Error::Io { doing: "allocate memory for the file", source })?;
    // Weights are read front to back again and again: large pages save look-ups in page tables.
    // Only a hint, so a refusal does not matter.
    #[cfg(target_os = "linux")]
    if len >= HUGE_PAGE {
        let _ = map.advise(memmap2::Advice::HugePage);
    }
    Ok(map)
}

/// Size of a large page on most Linux systems; smaller buffers have no use for one.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes one at a time, is interrupted before each, and fails at the end if told so.
    struct Slow {
        bytes: Vec<u8>,
        interrupted: bool,
        fails: bool,
    }

    impl Read for Slow {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            self.interrupted = !self.interrupted;
            if self.interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.bytes.is_empty() && self.fails {
                return Err(io::Error::other("the disk is gone"));
            }
            if self.bytes.is_empty() {
                return Ok(0);
            }
            to[0] = self.bytes.remove(0);
            Ok(1)
        }
    }

    fn slow(fails: bool) -> Slow {
        Slow { bytes: vec![1, 2, 3], interrupted: false, fails }
    }

    #[test]
    fn short_and_interrupted_reads_are_put_together() {
        let bytes = Bytes::read(slow(false), 3).unwrap();
        assert_eq!(bytes.as_slice(), [1, 2, 3]);
        assert!(!bytes.is_mapped() && bytes.check_len().is_ok());
    }

    #[test]
    fn reads_that_end_early_or_fail_are_errors() {
        let error = Bytes::read(slow(false), 4).err().unwrap();
        assert!(matches!(error, Error::FileShrank { expected: 4, found: 3 }), "{error:?}");
        let error = Bytes::read(slow(true), 4).err().unwrap();
        assert!(error.to_string().contains("cannot read the file: the disk is gone"), "{error}");
    }

    #[test]
    fn no_bytes_are_bytes_too() {
        assert_eq!(Bytes::copy_of(&[]).unwrap().as_slice(), [0u8; 0]);
        assert!(Bytes::read(io::empty(), u64::MAX).is_err());
    }
}
