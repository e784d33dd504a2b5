//! What a client holds while another program takes the place of the one that serves: all of it goes on, as where nothing
//! happens.
#![allow(unsafe_code)]

use super::{serve, upgraded};
use crate::DEADLINE;
use crate::harness::{Bases, CONFIG, Lower, counted, private};
use rustix::fd::{AsFd as _, AsRawFd as _};
use rustix::fs::{Dir, FlockOperation, Mode, OFlags, flock, inotify, openat};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// What happens in the middle.
pub(super) type Meanwhile<'a> = &'a dyn Fn();

/// What a client sees of itself before and after.
pub(super) type Seen = Vec<String>;

fn create(path: &Path) -> File {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true);
    options.open(path).expect("create")
}

fn open_files(dir: &Path, meanwhile: Meanwhile<'_>) -> Seen {
    let mut file = create(&dir.join("plain"));
    let mut appending = OpenOptions::new();
    let appending = appending.append(true).create(true);
    let mut appending = appending.open(dir.join("appended")).expect("create");
    let nameless = create(&dir.join("nameless"));
    fs::remove_file(dir.join("nameless")).expect("unlink");
    let moved = create(&dir.join("moved"));
    fs::rename(dir.join("moved"), dir.join("here")).expect("rename");
    for file in [&mut file, &mut appending] {
        file.write_all(b"before,").expect("write");
    }
    nameless.write_all_at(b"before,", 0).expect("write");
    let numbers = |file: &File| {
        let meta = file.metadata().expect("stat");
        (meta.ino(), meta.nlink(), meta.len())
    };
    let before = [&file, &nameless, &moved].map(numbers);
    meanwhile();
    let same = [&file, &nameless, &moved].map(numbers) == before;
    fs::write(dir.join("appended"), "shorter,").expect("write");
    for file in [&mut file, &mut appending] {
        file.write_all(b"after").expect("write");
    }
    nameless.write_all_at(b"after", 7).expect("write");
    moved.set_len(9).expect("truncate");
    let text = |file: &File| {
        let mut text = vec![0; 64];
        let len = file.read_at(&mut text, 0).expect("read");
        String::from_utf8_lossy(&text[..len]).into_owned()
    };
    vec![
        same.to_string(),
        text(&file),
        text(&nameless),
        fs::read_to_string(dir.join("appended")).expect("read"),
        text(&File::open(dir.join("here")).expect("open"))
            .len()
            .to_string(),
        numbers(&nameless).1.to_string(),
    ]
}

fn a_mapping(dir: &Path, meanwhile: Meanwhile<'_>) -> Seen {
    let path = dir.join("mapped");
    fs::write(&path, vec![b'.'; 8192]).expect("write");
    let file = create(&path);
    let both = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, of which nobody else has a reference.
    let at = unsafe { mmap(std::ptr::null_mut(), 8192, both, MapFlags::SHARED, &file, 0) };
    let at = at.expect("mmap").cast::<u8>();
    // SAFETY: inside of the mapping, which stays.
    let put = |index: usize, byte: u8| unsafe { at.add(index).write_volatile(byte) };
    put(0, b'a');
    meanwhile();
    put(1, b'b');
    // A page that has not been there.
    put(4096, b'c');
    drop(file);
    put(2, b'd');
    let text = fs::read(&path).expect("read");
    // SAFETY: the whole of the mapping; it is not used again.
    unsafe { rustix::mm::munmap(at.cast(), 8192) }.expect("munmap");
    let again = fs::read(&path).expect("read");
    vec![
        String::from_utf8_lossy(&text[..4]).into_owned(),
        String::from_utf8_lossy(&again[4095..4098]).into_owned(),
    ]
}

fn a_listing(dir: &Path, meanwhile: Meanwhile<'_>) -> Seen {
    let many = dir.join("many");
    fs::create_dir(&many).expect("mkdir");
    for number in 0..1500 {
        File::create(many.join(format!("{number:04}"))).expect("create");
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = openat(rustix::fs::CWD, &many, flags, Mode::empty()).expect("open");
    let mut entries = Dir::new(open).expect("list");
    let mut names: Vec<_> = (0..500).filter_map(|_| entries.next()).collect();
    meanwhile();
    names.extend(entries);
    let mut names: Vec<_> = names
        .into_iter()
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| !name.starts_with('.'))
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    vec![count.to_string(), names.len().to_string()]
}

fn a_working_directory(dir: &Path, meanwhile: Meanwhile<'_>) -> Seen {
    let within = dir.join("within");
    fs::create_dir(&within).expect("mkdir");
    let script = "echo there; read line; echo more >made; cat made; cd ..; ls -d within; cd /";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(&within);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().expect("start a shell");
    let mut said = BufReader::new(shell.stdout.take().expect("a pipe"));
    let mut text = String::new();
    said.read_line(&mut text).expect("read");
    meanwhile();
    writeln!(shell.stdin.take().expect("a pipe"), "go on").expect("write");
    said.read_to_string(&mut text).expect("read");
    let status = shell.wait().expect("wait");
    vec![text, status.to_string()]
}

fn a_watch(dir: &Path, meanwhile: Meanwhile<'_>) -> Seen {
    let watched = dir.join("watched");
    fs::create_dir(&watched).expect("mkdir");
    let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
    let watch = inotify::init(flags).expect("inotify");
    let what = inotify::WatchFlags::CREATE | inotify::WatchFlags::DELETE;
    inotify::add_watch(&watch, &watched, what).expect("watch");
    fs::write(watched.join("before"), "").expect("write");
    meanwhile();
    fs::write(watched.join("after"), "").expect("write");
    fs::remove_file(watched.join("before")).expect("unlink");
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    let mut seen = Vec::new();
    while let Ok(event) = events.next() {
        seen.push(format!("{:?} {:?}", event.events(), event.file_name()));
    }
    seen
}

/// A lock of `kind` as another description of the file sees it.
fn others(file: &File, from: i64) -> String {
    // SAFETY: all zero is a whole `struct flock`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_start = from;
    lock.l_len = 10;
    // SAFETY: the struct lives until the call returns.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    assert_eq!(done, 0, "F_OFD_GETLK");
    format!("{} {} {}", lock.l_type, lock.l_start, lock.l_len)
}

fn set(file: &File, command: libc::c_int, kind: libc::c_int, from: i64) -> libc::c_int {
    // SAFETY: all zero is a whole `struct flock`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_start = from;
    lock.l_len = 10;
    // SAFETY: the struct lives until the call returns.
    unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) }
}

fn locks(dir: &Path, meanwhile: Meanwhile<'_>) -> Seen {
    let path = dir.join("locked");
    let (file, other) = (create(&path), create(&path));
    flock(&file, FlockOperation::LockExclusive).expect("flock");
    assert_eq!(set(&file, libc::F_OFD_SETLK, libc::F_WRLCK, 0), 0);
    assert_eq!(set(&file, libc::F_SETLK, libc::F_WRLCK, 100), 0);
    let waits = Command::new("flock").arg(&path).arg("true").spawn();
    let mut waits = waits.expect("start flock(1)");
    let look = || {
        let again = flock(other.as_fd(), FlockOperation::NonBlockingLockExclusive);
        format!("{again:?}, {}, {}", others(&other, 0), others(&other, 100))
    };
    let mut seen = vec![look()];
    meanwhile();
    seen.push(look());
    assert_eq!(set(&file, libc::F_SETLK, libc::F_UNLCK, 100), 0);
    assert_eq!(set(&file, libc::F_OFD_SETLK, libc::F_UNLCK, 0), 0);
    seen.push(look());
    drop(file);
    seen.push(waits.wait().expect("wait").to_string());
    seen.push(look());
    seen
}

/// All of it, in one directory.
pub(super) fn all(dir: &Path, meanwhile: Meanwhile<'_>) -> Vec<Seen> {
    [
        open_files,
        a_mapping,
        a_listing,
        a_working_directory,
        a_watch,
        locks,
    ]
    .map(|what| what(dir, meanwhile))
    .into()
}

fn held(lower: Lower, options: &'static [&'static str]) {
    private(DEADLINE, move |env| {
        let etcfs = serve(env, Bases::new(env, lower), options);
        let native = all(&etcfs.native(), &|| {});
        let mnt = etcfs.mnt();
        let served = all(&mnt, &|| upgraded(&mnt));
        assert_eq!(served, native);
    });
}

#[test]
fn what_a_client_holds_goes_on_with_another_program() {
    held(Lower::Tmpfs, &[]);
}

#[test]
fn what_a_client_holds_and_the_kernel_passes_through_goes_on() {
    held(Lower::Ext4, &["passthrough"]);
}

/// Contract: what the init of Bedrock sends at each apply is compared with what reads as the configuration.
#[test]
fn the_configuration_reads_as_before_and_a_file_stays_passed_through() {
    private(DEADLINE, |env| {
        let etcfs = serve(env, Bases::new(env, Lower::Ext4), &["passthrough"]);
        let mnt = etcfs.mnt();
        let lines = [
            "add_global /hosts",
            "add_override symlink /link target",
            "add_override directory /made x",
        ];
        etcfs.write_config(&lines).expect("configure");
        let half = OpenOptions::new().append(true).open(mnt.join(CONFIG));
        let mut half = half.expect("open the configuration");
        half.write_all(b"add_glo").expect("half a line");
        let mut file = create(&mnt.join("f"));
        file.write_all(b"before").expect("write");
        let before = etcfs.read_config().expect("read");
        let asked = || counted(&etcfs, "READ") + counted(&etcfs, "WRITE");
        let requests = asked();
        upgraded(&mnt);
        file.write_all(b"after").expect("write");
        file.read_at(&mut [0; 64], 0).expect("read");
        // Those of the configuration's file are not files' own.
        assert_eq!(asked(), requests, "the kernel does it by itself");
        assert_eq!(etcfs.read_config().expect("read"), before);
        half.write_all(b"bal /passwd\n").expect("the other half");
        let now = etcfs.read_config().expect("read");
        assert!(now.contains("/passwd") && now.contains("/hosts"), "{now}");
        assert_eq!(
            fs::read_link(mnt.join("link")).expect("enforced"),
            Path::new("target")
        );
    });
}
