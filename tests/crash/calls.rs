//! System calls, and the request of each that servers are killed over.

use crate::harness::linux;
use etcfs_proto::Opcode;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps,
    XattrFlags,
};
use rustix::io::Errno;
use std::fmt::Debug;
use std::io::Write as _;
use std::path::Path;

/// A system call.
pub struct Call {
    pub name: &'static str,
    opcode: Opcode,
    /// Where the first, second, ... server of a mount is killed. Five deaths within ten seconds are one too many.
    pub points: [&'static str; 4],
    /// It is carried out aside.
    pub is_aside: bool,
    /// Several servers may die of one run.
    pub many: bool,
    /// Makes what it needs, beneath the mount.
    pub prepare: fn(&Path),
    /// Makes the call in that directory: what it answers.
    pub run: fn(&Path) -> String,
}

impl Call {
    /// The request that this kernel makes of it.
    pub fn request(&self) -> Opcode {
        match self.opcode {
            Opcode::COPY_FILE_RANGE_64 if linux() < (6, 18) => Opcode::COPY_FILE_RANGE,
            opcode => opcode,
        }
    }
}

fn said<T: Debug>(result: Result<T, Errno>) -> String {
    format!("{result:?}")
}

fn file(dir: &Path) {
    std::fs::write(dir.join("f"), "text").expect("write");
}

fn two(dir: &Path) {
    file(dir);
    std::fs::write(dir.join("g"), "other").expect("write");
}

fn nothing(_: &Path) {}

const fn call(
    name: &'static str,
    opcode: Opcode,
    prepare: fn(&Path),
    run: fn(&Path) -> String,
) -> Call {
    Call {
        name,
        opcode,
        points: ["Read", "Begun", "Acted", "Made"],
        is_aside: false,
        many: false,
        prepare,
        run,
    }
}

/// A call that changes what may be changed twice, of which nothing is noted before.
const fn plain(mut call: Call) -> Call {
    call.points = ["Read", "Cut", "Acted", "Made"];
    call
}

/// A call that changes nothing below.
const fn look(mut call: Call) -> Call {
    call.points = ["Read", "Cut", "Noted", "Made"];
    call
}

const fn aside(mut call: Call) -> Call {
    call.points = ["Parked", "Cut", "Noted", "Made"];
    call.is_aside = true;
    call.many = true;
    call
}

/// A call that makes several such requests.
const fn many(mut call: Call) -> Call {
    call.many = true;
    call
}

fn open(dir: &Path, name: &str, flags: OFlags) -> Result<rustix::fd::OwnedFd, Errno> {
    rustix::fs::open(
        dir.join(name),
        flags | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o640),
    )
}

pub static CALLS: &[Call] = &[
    call("mkdir", Opcode::MKDIR, nothing, |d| {
        said(rustix::fs::mkdir(d.join("new"), Mode::RWXU))
    }),
    call("mknod", Opcode::MKNOD, nothing, |d| {
        let kind = rustix::fs::FileType::Fifo;
        said(rustix::fs::mknodat(CWD, d.join("new"), kind, Mode::RWXU, 0))
    }),
    call("symlink", Opcode::SYMLINK, nothing, |d| {
        said(rustix::fs::symlink("target", d.join("new")))
    }),
    call("link", Opcode::LINK, file, |d| {
        said(rustix::fs::link(d.join("f"), d.join("new")))
    }),
    call("unlink", Opcode::UNLINK, file, |d| {
        said(rustix::fs::unlink(d.join("f")))
    }),
    call(
        "rmdir",
        Opcode::RMDIR,
        |d| std::fs::create_dir(d.join("sub")).expect("mkdir"),
        |d| said(rustix::fs::rmdir(d.join("sub"))),
    ),
    call("rename", Opcode::RENAME, two, |d| {
        said(rustix::fs::rename(d.join("f"), d.join("g")))
    }),
    call("renameat2 that exchanges", Opcode::RENAME2, two, |d| {
        let flags = RenameFlags::EXCHANGE;
        said(rustix::fs::renameat_with(
            CWD,
            d.join("f"),
            CWD,
            d.join("g"),
            flags,
        ))
    }),
    call("renameat2 not over anything", Opcode::RENAME2, file, |d| {
        let flags = RenameFlags::NOREPLACE;
        said(rustix::fs::renameat_with(
            CWD,
            d.join("f"),
            CWD,
            d.join("g"),
            flags,
        ))
    }),
    call("open that creates", Opcode::CREATE, nothing, |d| {
        let fd = open(d, "new", OFlags::RDWR | OFlags::CREATE | OFlags::EXCL);
        said(fd.and_then(|fd| rustix::io::write(&fd, b"data")))
    }),
    plain(call(
        "open of a file without a name",
        Opcode::TMPFILE,
        nothing,
        |d| {
            let fd = open(d, ".", OFlags::RDWR | OFlags::TMPFILE);
            said(fd.and_then(|fd| rustix::io::write(&fd, b"data")))
        },
    )),
    plain(call("open that empties", Opcode::OPEN, file, |d| {
        said(open(d, "f", OFlags::RDWR | OFlags::TRUNC).map(drop))
    })),
    many(look(call("open, read", Opcode::READ, file, |d| {
        std::fs::read_to_string(d.join("f")).expect("read")
    }))),
    plain(call("write", Opcode::WRITE, file, |d| {
        let fd = open(d, "f", OFlags::WRONLY).expect("open");
        said(rustix::io::pwrite(&fd, b"data", 2))
    })),
    many(call("write that appends", Opcode::WRITE, file, |d| {
        let fd = open(d, "f", OFlags::WRONLY | OFlags::APPEND).expect("open");
        let mut answers = String::new();
        for _ in 0..3 {
            answers += &said(rustix::io::write(&fd, b"line\n"));
        }
        answers
    })),
    plain(call("chmod", Opcode::SETATTR, file, |d| {
        said(rustix::fs::chmod(d.join("f"), Mode::from_raw_mode(0o4711)))
    })),
    plain(call("chown", Opcode::SETATTR, file, |d| {
        said(std::os::unix::fs::chown(d.join("f"), Some(1000), None).map_err(crate::harness::errno))
    })),
    plain(call("utimensat", Opcode::SETATTR, file, |d| {
        let at = Timespec {
            tv_sec: 1000,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: at,
            last_modification: at,
        };
        said(rustix::fs::utimensat(
            CWD,
            d.join("f"),
            &times,
            AtFlags::empty(),
        ))
    })),
    plain(call("truncate", Opcode::SETATTR, file, |d| {
        let file = std::fs::OpenOptions::new().write(true).open(d.join("f"));
        said(rustix::fs::ftruncate(file.expect("open"), 2))
    })),
    call("setxattr that creates", Opcode::SETXATTR, file, |d| {
        said(rustix::fs::setxattr(
            d.join("f"),
            c"trusted.x",
            b"v",
            XattrFlags::CREATE,
        ))
    }),
    call(
        "removexattr",
        Opcode::REMOVEXATTR,
        |d| {
            file(d);
            rustix::fs::setxattr(d.join("f"), c"trusted.x", b"v", XattrFlags::CREATE).expect("set");
        },
        |d| said(rustix::fs::removexattr(d.join("f"), c"trusted.x")),
    ),
    aside(call("fallocate", Opcode::FALLOCATE, file, |d| {
        let fd = open(d, "f", OFlags::WRONLY).expect("open");
        said(rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, 10))
    })),
    aside(call(
        "copy_file_range",
        Opcode::COPY_FILE_RANGE_64,
        two,
        |d| {
            let from = open(d, "f", OFlags::RDONLY).expect("open");
            let to = open(d, "g", OFlags::WRONLY).expect("open");
            said(rustix::fs::copy_file_range(&from, None, &to, None, 3))
        },
    )),
    look(call("flock", Opcode::SETLK, file, |d| {
        let fd = open(d, "f", OFlags::RDWR).expect("open");
        said(rustix::fs::flock(
            &fd,
            FlockOperation::NonBlockingLockExclusive,
        ))
    })),
    aside(call("fsync", Opcode::FSYNC, file, |d| {
        let mut file = std::fs::File::options()
            .append(true)
            .open(d.join("f"))
            .expect("open");
        file.write_all(b"more").expect("write");
        said(rustix::fs::fsync(&file))
    })),
    many(look(call("stat", Opcode::LOOKUP, file, |d| {
        said(rustix::fs::stat(d.join("f")).map(|stat| stat.st_size))
    }))),
    many(look(call("readdir", Opcode::READDIR, two, |d| {
        let mut names: Vec<_> = std::fs::read_dir(d)
            .expect("list")
            .map(|e| e.expect("an entry").file_name())
            .collect();
        names.sort();
        format!("{names:?}")
    }))),
];
