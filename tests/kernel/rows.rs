//! Rows of raw requests of root and of two users, made of any bytes: what a fuzzer or a random test feeds to a session.
//!
//! Bytes say which request, whose, about which node and handle that answers have told of, and what differs from zero in its
//! arguments; so most requests are such as a kernel sends, but by no rule of any kernel. No kernel has checked anything:
//! what users may not change is for the lower file system to refuse.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, Instant};

use etcfs::sys::creds::LOOKING;
use etcfs_proto::Opcode;
use etcfs_proto::abi::{EntryOut, InHeader, InterruptIn};
use etcfs_proto::op::{Body, SHAPES, Shape, Tail};
use rustix::process::{Resource, Rlimit, setrlimit};
use zerocopy::IntoBytes;

use super::{Kernel, MOMENT, PATIENCE, read, seconds};

const NAMES: [&[u8]; 12] = [
    b"secret",
    b"closed",
    b"a",
    b"b",
    b"c",
    b"d",
    b"user.x",
    b"trusted.y",
    b"system.posix_acl_access",
    b"security.capability",
    b".etcfs-hidden-1",
    b"..",
];

/// Largest file: random lengths must not fill the disk.
const LARGEST: u64 = 16 << 20;

/// Bytes that are read one by one, and are 0 when they have come to their end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    fn ended(&self) -> bool {
        self.0.is_empty()
    }
}

/// A session, and what its answers have told.
pub struct Rows {
    kernel: Kernel,
    nodes: Vec<u64>,
    handles: Vec<u64>,
    /// Requests that wait, by number.
    waiting: BTreeMap<u64, &'static Shape>,
    /// Answers, and those that are no errno.
    pub answers: (u64, u64),
}

impl Rows {
    /// A session over directories with objects of root's and of each user's.
    pub fn new() -> Rows {
        limit();
        let kernel = Kernel::new();
        let local = kernel.local();
        let own = |name: &str, uid: u32, mode: u32| {
            let path = local.join(name);
            std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("chown; run as root");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, mode).expect("chmod");
        };
        for (name, uid, mode) in [
            ("secret", 0, 0o600),
            ("a", 1000, 0o644),
            ("b", 1001, 0o6775),
        ] {
            std::fs::write(local.join(name), "text").expect("write");
            own(name, uid, mode);
        }
        for (name, uid, mode) in [("closed", 0, 0o700), ("c", 1000, 0o755), ("d", 0, 0o1777)] {
            std::fs::create_dir(local.join(name)).expect("mkdir");
            std::fs::write(local.join(name).join("secret"), "text").expect("write");
            own(name, uid, mode);
        }
        own(".", 0, 0o755);
        Rows {
            kernel,
            nodes: vec![1],
            handles: vec![0],
            waiting: BTreeMap::new(),
            answers: (0, 0),
        }
    }

    /// Sends the row of requests that `bytes` are. Each gets exactly one answer, no thread keeps more capabilities than it
    /// may look with, and what is root's is still as it was unless root was among those who asked.
    pub fn run(&mut self, bytes: &[u8]) {
        let mut input = Input(bytes);
        let by_root = input.byte() & 1 == 1;
        let before = roots_own(&self.kernel.local());
        while !input.ended() {
            self.request(&mut input, by_root);
        }
        self.let_go();
        assert_eq!(
            self.kernel.stray_answer(),
            None,
            "nothing is answered twice"
        );
        assert!(self.kernel.lives());
        capabilities_are_few();
        if !by_root {
            assert_eq!(roots_own(&self.kernel.local()), before, "what is root's");
        }
    }

    fn request(&mut self, input: &mut Input<'_>, by_root: bool) {
        let shape = &SHAPES[usize::from(input.byte()) % SHAPES.len()];
        let own = rustix::thread::gettid().as_raw_pid() as u32;
        let ids: (u32, u32) = match by_root {
            true => input.of(&[(0, 0), (1000, 1000), (1001, 0), (u32::MAX, 0), (0, 1000)]),
            false => input.of(&[
                (1000, 1000),
                (1001, 1001),
                (1000, 1001),
                (u32::MAX, u32::MAX),
            ]),
        };
        // A thread whose ids nobody can look at is believed to have passed the kernel's check.
        let pid = match by_root {
            true => input.of(&[own, 0, 1, u32::MAX]),
            false => input.of(&[own, 1, u32::MAX]),
        };
        let nodeid = match input.byte() {
            raw @ 250.. => u64::from(raw) << 56,
            index => self.nodes[usize::from(index) % self.nodes.len()],
        };
        let body = self.body(shape, input);
        let unique = self.kernel.unique();
        let head = InHeader {
            len: u32::try_from(size_of::<InHeader>() + body.len()).expect("small"),
            opcode: shape.opcode.0,
            unique,
            nodeid,
            uid: ids.0,
            gid: ids.1,
            pid,
            ..InHeader::default()
        };
        self.kernel.send(&[head.as_bytes(), &body].concat());
        if shape.body != Body::NoAnswer {
            self.waiting.insert(unique, shape);
        }
        // Who waits for a lock is answered when it is free; all others are answered.
        while shape.opcode != Opcode::SETLKW && self.waiting.contains_key(&unique) {
            self.hear(PATIENCE);
        }
    }

    fn body(&self, shape: &Shape, input: &mut Input<'_>) -> Vec<u8> {
        let mut body = vec![0; shape.args];
        let differs = input.byte() % 10;
        for _ in 0..differs {
            let (at, value) = (usize::from(input.byte()), input.byte());
            if !body.is_empty() {
                let at = at % body.len();
                body[at] = value;
            }
        }
        let mut put = |at: usize, value: u64| {
            if let Some(place) = body.get_mut(at..at + 8) {
                place.copy_from_slice(&value.to_ne_bytes());
            }
        };
        let handle = input.of(&self.handles);
        let node = input.of(&self.nodes);
        match shape.opcode {
            Opcode::RENAME | Opcode::RENAME2 | Opcode::LINK => put(0, node),
            Opcode::SETATTR | Opcode::GETATTR | Opcode::STATX => put(8, handle),
            Opcode::COPY_FILE_RANGE | Opcode::COPY_FILE_RANGE_64 => {
                put(0, handle);
                put(16, node);
                put(24, handle);
            }
            Opcode::READ
            | Opcode::WRITE
            | Opcode::RELEASE
            | Opcode::FSYNC
            | Opcode::FLUSH
            | Opcode::READDIR
            | Opcode::READDIRPLUS
            | Opcode::RELEASEDIR
            | Opcode::FSYNCDIR
            | Opcode::GETLK
            | Opcode::SETLK
            | Opcode::SETLKW
            | Opcode::FALLOCATE
            | Opcode::LSEEK
            | Opcode::IOCTL => put(0, handle),
            _ => {}
        }
        let data = vec![b'x'; usize::from(input.byte())];
        match shape.opcode {
            Opcode::WRITE => body[16..20]
                .copy_from_slice(&u32::try_from(data.len()).expect("small").to_ne_bytes()),
            Opcode::SETXATTR => {
                body[..4].copy_from_slice(&u32::try_from(data.len()).expect("small").to_ne_bytes())
            }
            _ => {}
        }
        let mut name = || [input.of(&NAMES), b"\0"].concat();
        match shape.tail {
            Tail::Name => body.extend(name()),
            Tail::Names => {
                body.extend(name());
                body.extend(name());
            }
            Tail::NameAndValue => {
                // The longer arguments that INIT has agreed on.
                body.resize(16, 0);
                body.extend(name());
                body.extend(data);
            }
            _ => body.extend(data),
        }
        body
    }

    /// Takes one answer.
    fn hear(&mut self, wait: i64) -> bool {
        let wait = if wait == 0 { MOMENT } else { seconds(wait) };
        let Some((head, body)) = read(self.kernel.end(), wait) else {
            assert!(wait == MOMENT, "no answer to {:?}", self.waiting);
            return false;
        };
        let shape = self.waiting.remove(&head.unique);
        let shape =
            shape.unwrap_or_else(|| panic!("{} is answered again, or was not asked", head.unique));
        self.answers.0 += 1;
        if head.error == 0 {
            self.answers.1 += 1;
            self.learn(shape, &body);
        }
        true
    }

    fn learn(&mut self, shape: &Shape, body: &[u8]) {
        let word = |at: usize| {
            let bytes = body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_ne_bytes)
        };
        let (node, handle) = match shape.body {
            Body::Entry => (word(0), None),
            Body::Create => (word(0), word(size_of::<EntryOut>())),
            Body::Open => (None, word(0)),
            _ => (None, None),
        };
        self.nodes.extend(node);
        self.handles.extend(handle);
        for known in [&mut self.nodes, &mut self.handles] {
            if known.len() > 200 {
                known.drain(1..100);
            }
        }
    }

    /// Gives up what still waits, as a killed client does.
    fn let_go(&mut self) {
        while self.hear(0) {}
        let waiting: Vec<u64> = self.waiting.keys().copied().collect();
        for unique in waiting {
            let head = self.kernel.unique() | 1;
            let body = InterruptIn { unique };
            self.kernel
                .send(&super::message(Opcode::INTERRUPT, head, 0, body.as_bytes()));
        }
        while !self.waiting.is_empty() {
            self.hear(PATIENCE);
        }
    }
}

/// Every name in the directories of root's own, with what only root may change of it.
fn roots_own(local: &Path) -> Vec<(String, u32, u32, u32)> {
    let mut found = Vec::new();
    for dir in [".", "closed"] {
        // Root may have renamed it.
        let Ok(list) = std::fs::read_dir(local.join(dir)) else {
            continue;
        };
        for entry in list.map(|entry| entry.expect("an entry")) {
            let stat = entry.metadata().expect("stat");
            if stat.uid() == 0 || dir == "closed" {
                let name = format!("{dir}/{}", entry.file_name().to_string_lossy());
                found.push((name, stat.mode(), stat.uid(), stat.gid()));
            }
        }
    }
    found.sort();
    found
}

/// No thread that serves has more in effect than what it may look with. One that has just been started may, until it has
/// prepared itself.
fn capabilities_are_few() {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let serving = serving();
        assert!(serving.len() >= 2, "the workers are found by their names");
        let more = serving
            .iter()
            .find(|(_, effective)| effective & !LOOKING.bits() != 0);
        let Some((name, effective)) = more else {
            return;
        };
        assert!(Instant::now() < until, "{name} has {effective:x} in effect");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The threads of sessions that serve, by name, and what each has in effect.
fn serving() -> Vec<(String, u64)> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("list the threads");
    let of = |task: std::path::PathBuf| {
        let name = std::fs::read_to_string(task.join("comm")).ok()?;
        let rest = name.trim().strip_prefix("etcfs-")?;
        let serves = rest == "aside" || rest.bytes().all(|byte| byte.is_ascii_digit());
        let status = std::fs::read_to_string(task.join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))?;
        let effective = u64::from_str_radix(line.trim(), 16).ok()?;
        serves.then(|| (name.trim().to_owned(), effective))
    };
    tasks.filter_map(|task| of(task.ok()?.path())).collect()
}

/// Keeps files small: what is too large gets EFBIG.
fn limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[allow(unsafe_code)]
        // SAFETY: the disposition becomes "ignored"; no handler is installed.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN)
        };
        let most = Rlimit {
            current: Some(LARGEST),
            maximum: Some(LARGEST),
        };
        setrlimit(Resource::Fsize, most).expect("limit the size of files");
    });
}
