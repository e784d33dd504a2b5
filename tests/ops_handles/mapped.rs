//! Mapped files: coherent with reads and writes, and with the lower file (B21); times after reads and mapped writes.

use crate::on_each_lower;
use rustix::fs::{Mode, OFlags, fstat};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};
use std::fs;
use std::os::fd::AsFd;

/// A shared mapping of the beginning of a file.
pub struct Mapping {
    at: *mut u8,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes for reading and writing.
    #[allow(unsafe_code)]
    pub fn shared(file: impl AsFd, len: usize) -> Self {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of this process.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file.as_fd(),
                0,
            )
        };
        Self {
            at: at.expect("mmap").cast(),
            len,
        }
    }

    /// The byte at `n`.
    #[allow(unsafe_code)]
    pub fn get(&self, n: usize) -> u8 {
        assert!(n < self.len);
        // SAFETY: within the mapping, which lives as long as `self`; the kernel may change the byte, hence volatile.
        unsafe { self.at.add(n).read_volatile() }
    }

    /// Stores a byte.
    #[allow(unsafe_code)]
    pub fn set(&self, n: usize, byte: u8) {
        assert!(n < self.len);
        // SAFETY: within the mapping, which is writable and lives as long as `self`.
        unsafe { self.at.add(n).write_volatile(byte) }
    }

    /// Has the pages written.
    #[allow(unsafe_code)]
    pub fn sync(&self) {
        // SAFETY: the whole mapping and nothing else.
        unsafe { rustix::mm::msync(self.at.cast(), self.len, MsyncFlags::SYNC) }.expect("msync");
    }
}

impl Drop for Mapping {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it was ever made.
        let _ = unsafe { rustix::mm::munmap(self.at.cast(), self.len) };
    }
}

fn open(path: &std::path::Path) -> std::os::fd::OwnedFd {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).expect("open")
}

#[test]
fn a_mapped_write_reaches_the_lower_file_and_its_mtime() {
    on_each_lower(|_, etcfs| {
        let path = etcfs.mnt().join("f");
        fs::write(&path, vec![b'a'; 8192]).expect("write");
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|f| f.set_modified(old))
            .expect("set the time");
        let fd = open(&path);
        let map = Mapping::shared(&fd, 8192);
        assert_eq!(map.get(5000), b'a');
        map.set(5000, b'b');
        map.sync();
        drop(map);
        drop(fd);
        crate::a_tick();
        assert_eq!(fs::read(etcfs.local().join("f")).expect("read")[5000], b'b');
        let mtime = fs::metadata(&path)
            .and_then(|m| m.modified())
            .expect("stat");
        assert!(
            mtime.elapsed().expect("in the past").as_secs() < 3600,
            "mtime follows: {mtime:?}"
        );
    });
}

#[test]
fn b21_reads_and_writes_of_a_mapped_file_see_each_other() {
    on_each_lower(|_, etcfs| {
        let path = etcfs.mnt().join("f");
        fs::write(&path, vec![b'a'; 4096]).expect("write");
        let fd = open(&path);
        let map = Mapping::shared(&fd, 4096);
        map.set(0, b'm');
        map.sync();
        assert_eq!(
            crate::contents(&fd).expect("read")[0],
            b'm',
            "a mapped write is read"
        );
        rustix::io::pwrite(&fd, b"w", 1).expect("write");
        assert_eq!(map.get(1), b'w', "a write is seen in the mapping");
        let other = open(&path);
        rustix::io::pwrite(&other, b"o", 2).expect("write");
        assert_eq!(map.get(2), b'o', "through another handle too");
    });
}

#[test]
fn b21_data_written_beneath_is_read_at_once_and_mapped_after_the_next_open() {
    on_each_lower(|_, etcfs| {
        let (path, below) = (etcfs.mnt().join("f"), etcfs.local().join("f"));
        fs::write(&below, vec![b'1'; 4096]).expect("write");
        let fd = open(&path);
        let map = Mapping::shared(&fd, 4096);
        assert_eq!(
            (map.get(0), crate::contents(&fd).expect("read")[0]),
            (b'1', b'1')
        );
        drop(map);
        let lower = open(&below);
        rustix::io::pwrite(&lower, b"2", 0).expect("write beneath");
        assert_eq!(
            crate::contents(&fd).expect("read")[0],
            b'2',
            "by an open handle"
        );
        // Longer, too: a reader that follows a log sees what is appended beneath.
        rustix::io::pwrite(&lower, b"tail", 4096).expect("append beneath");
        assert_eq!(crate::contents(&fd).expect("read").len(), 4100);
        let again = open(&path);
        assert_eq!(
            Mapping::shared(&again, 4096).get(0),
            b'2',
            "by a new mapping"
        );
    });
}

/// A lock of the open file on all of it, or its end.
fn set_lock(file: impl AsFd, kind: i32) {
    use std::os::fd::AsRawFd as _;
    // SAFETY: zero is a value of every field.
    #[allow(unsafe_code)]
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as _;
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the command reads one `struct flock`, which lives until the call returns.
    #[allow(unsafe_code)]
    let result = unsafe { libc::fcntl(fd, libc::F_OFD_SETLKW, &raw mut lock) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Whatever the kernel keeps of the file: who has a lock sees in a mapping what the last holder wrote beneath, and leaves
/// beneath what it stored there. Without that the first round shows the old byte.
#[test]
fn a_mapping_shows_and_leaves_under_a_lock_what_it_does_natively_9_2() {
    on_each_lower(|_, etcfs| {
        for dirs in [
            (etcfs.native(), etcfs.native()),
            (etcfs.mnt(), etcfs.local()),
        ] {
            let (path, below) = (dirs.0.join("f"), dirs.1.join("f"));
            fs::write(&below, vec![b'a'; 8192]).expect("write");
            let (here, beneath) = (open(&path), open(&below));
            let map = Mapping::shared(&here, 8192);
            for round in 0..50_u8 {
                set_lock(&beneath, libc::F_WRLCK);
                let mut stored = [0; 1];
                rustix::io::pread(&beneath, &mut stored, 4097).expect("read beneath");
                let expected = if round == 0 { b'a' } else { b'0' + round - 1 };
                assert_eq!(stored[0], expected, "stored in {path:?}, round {round}");
                rustix::io::pwrite(&beneath, &[b'A' + round % 26], 5).expect("write beneath");
                set_lock(&beneath, libc::F_UNLCK);
                set_lock(&here, libc::F_WRLCK);
                assert_eq!(map.get(5), b'A' + round % 26, "{path:?}, round {round}");
                map.set(4097, b'0' + round);
                set_lock(&here, libc::F_UNLCK);
            }
        }
    });
}

#[test]
fn reading_updates_the_access_time() {
    on_each_lower(|_, etcfs| {
        let path = etcfs.mnt().join("f");
        fs::write(&path, "text").expect("write");
        fs::create_dir(etcfs.mnt().join("d")).expect("mkdir");
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        let times = fs::FileTimes::new().set_accessed(old);
        fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|f| f.set_times(times))
            .expect("set");
        fs::File::open(etcfs.mnt().join("d"))
            .and_then(|f| f.set_times(times))
            .expect("set");
        crate::a_tick();
        assert_eq!(
            fs::metadata(&path)
                .and_then(|m| m.accessed())
                .expect("stat"),
            old
        );
        assert_eq!(fs::read(&path).expect("read"), b"text");
        assert_eq!(
            fs::read_dir(etcfs.mnt().join("d")).expect("list").count(),
            0
        );
        crate::a_tick();
        for name in ["f", "d"] {
            for base in [etcfs.mnt(), etcfs.local()] {
                let atime = fs::metadata(base.join(name))
                    .and_then(|m| m.accessed())
                    .expect("stat");
                assert!(
                    atime.elapsed().expect("in the past").as_secs() < 3600,
                    "{name} in {base:?}: {atime:?}"
                );
            }
        }
        let fd = open(&path);
        assert_eq!(fstat(&fd).expect("fstat").st_size, 4);
    });
}
