//! The ways in which a client has a file open, and what it does with it then.

use crate::harness::errno;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// How a client opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Rdonly,
    Wronly,
    Rdwr,
    Append,
    Trunc,
    Direct,
    /// A shared mapping that outlives its descriptor.
    Mmap,
    /// The file is a program, and runs.
    Exec,
    /// O_CREAT: makes the file, or meets it.
    Create,
    /// O_TMPFILE: a file without a name, in the same directory.
    Tmpfile,
}

pub const EVERY: [How; 10] = [
    How::Rdonly,
    How::Wronly,
    How::Rdwr,
    How::Append,
    How::Trunc,
    How::Direct,
    How::Mmap,
    How::Exec,
    How::Create,
    How::Tmpfile,
];

/// The modes that are open(2)'s alone, on a file that is there.
pub const PLAIN: [How; 6] = [
    How::Rdonly,
    How::Wronly,
    How::Rdwr,
    How::Append,
    How::Trunc,
    How::Direct,
];

/// What an open has given.
pub enum Held {
    File(File),
    Map(Mapping),
    Program(Child),
}

/// The first page of a file, mapped.
pub struct Mapping(usize);

#[repr(align(4096))]
struct Aligned([u8; 4096]);

/// What runs: it writes what it reads until its input ends.
pub const PROGRAM: &str = "/bin/cat";

impl How {
    /// Opens the file at `path`, or for [`How::Tmpfile`] one in `dir`.
    pub fn open(self, path: &Path, dir: &Path) -> Result<Held, Errno> {
        let flags = match self {
            How::Rdonly => OFlags::RDONLY,
            How::Wronly => OFlags::WRONLY,
            How::Rdwr | How::Mmap => OFlags::RDWR,
            How::Append => OFlags::WRONLY | OFlags::APPEND,
            How::Trunc => OFlags::WRONLY | OFlags::TRUNC,
            How::Direct => OFlags::RDWR | OFlags::DIRECT,
            How::Create => OFlags::RDWR | OFlags::CREATE,
            How::Tmpfile => OFlags::RDWR | OFlags::TMPFILE,
            How::Exec => return run(path).map(Held::Program),
        };
        let at = if self == How::Tmpfile { dir } else { path };
        let mode = Mode::from_raw_mode(0o777);
        let file = File::from(openat(CWD, at, flags | OFlags::CLOEXEC, mode)?);
        match self {
            How::Mmap => Ok(Held::Map(Mapping::of(&file)?)),
            _ => Ok(Held::File(file)),
        }
    }
}

fn run(path: &Path) -> Result<Child, Errno> {
    let mut command = Command::new(path);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().map_err(errno)
}

impl Held {
    /// Uses what is open, writing `page` over the file's beginning where that is possible, and says what came of it.
    pub fn use_it(&mut self, page: &[u8; 4096]) -> String {
        match self {
            Held::File(file) => {
                let mut buffer = Box::new(Aligned([0; 4096]));
                let read = file.read_at(&mut buffer.0, 0).map_err(errno);
                let beginning = crate::harness::fnv(&buffer.0);
                buffer.0 = *page;
                let written = file.write_at(&buffer.0, 0).map_err(errno);
                let size = file.metadata().map(|m| m.len()).map_err(errno);
                format!("read {read:?} {beginning:x}, written {written:?}, size {size:?}")
            }
            Held::Map(mapping) => format!("stored over {:?}", mapping.store(page[0])),
            Held::Program(child) => {
                let mut line = [0; 5];
                let pipe = child.stdin.as_mut().expect("a pipe");
                pipe.write_all(b"line\n").expect("write to the program");
                let out = child.stdout.as_mut().expect("a pipe");
                out.read_exact(&mut line).expect("read from the program");
                format!("ran {line:?}")
            }
        }
    }

    /// The open file, if a descriptor is left of it.
    pub fn file(&self) -> Option<&File> {
        match self {
            Held::File(file) => Some(file),
            _ => None,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Held::Program(child) = self {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

impl Mapping {
    /// Maps the first page of `file`, which is made one page long if it is shorter.
    pub fn of(file: &File) -> Result<Mapping, Errno> {
        if file.metadata().map_err(errno)?.len() < 4096 {
            file.set_len(4096).map_err(errno)?;
        }
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        #[allow(unsafe_code)]
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let at = unsafe { mmap(std::ptr::null_mut(), 4096, prot, MapFlags::SHARED, file, 0) }?;
        Ok(Mapping(at as usize))
    }

    /// Stores a byte at the beginning; returns what stood there.
    pub fn store(&mut self, byte: u8) -> u8 {
        let at = self.0 as *mut u8;
        #[allow(unsafe_code)]
        // SAFETY: the page is mapped until the drop, and the file beneath it is a page long: the table never leaves a
        // truncated file before something has been written to it.
        unsafe {
            let old = at.read_volatile();
            at.write_volatile(byte);
            old
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let at = self.0 as *mut std::ffi::c_void;
        #[allow(unsafe_code)]
        // SAFETY: it was mapped by `of`, and nothing refers to it any more.
        let _ = unsafe { munmap(at, 4096) };
    }
}

/// Holds a file's inode without opening it, and names it whatever becomes of its name.
pub struct Anchor(OwnedFd);

impl Anchor {
    /// Of the file at `path`.
    pub fn of(path: &Path) -> Anchor {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Anchor(openat(CWD, path, flags, Mode::empty()).expect("open with O_PATH"))
    }

    /// Of an open file.
    pub fn of_open(file: &File) -> Anchor {
        Anchor::of(&name_of(file.as_raw_fd()))
    }

    /// A path that leads to the inode.
    pub fn path(&self) -> PathBuf {
        name_of(self.0.as_raw_fd())
    }

    /// Gives it another name.
    pub fn link(&self, to: &Path) {
        rustix::fs::linkat(CWD, self.path(), CWD, to, AtFlags::SYMLINK_FOLLOW).expect("link");
    }
}

fn name_of(fd: i32) -> PathBuf {
    PathBuf::from(format!("/proc/thread-self/fd/{fd}"))
}

/// The program's bytes.
pub fn program() -> Vec<u8> {
    fs::read(PROGRAM).expect("read a program")
}
