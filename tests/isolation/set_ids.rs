//! Set-id bits of root's files: no capability of a user namespace keeps them at a change or takes them without one, and
//! what was set beneath the mount goes at a write through an older descriptor.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;

use crate::DEADLINE;
use crate::harness::{Bases, Env, Etcfs, Lower, Opts, User, as_user, counted, private};

fn options(passthrough: bool) -> Opts {
    Opts {
        lower: Lower::Ext4,
        options: passthrough
            .then(|| "passthrough".to_owned())
            .into_iter()
            .collect(),
        ..Opts::default()
    }
}

/// Changes of the file `f`, as perl programs. perl comes with every Debian; a shell has no words for some of them.
fn changes() -> [(&'static str, u32, String); 5] {
    let copy = format!(
        "open S,'<','src'; open F,'+<','f' or die $!; syscall({}, fileno S, 0, fileno F, 0, 64, 0) == 64 or die $!",
        libc::SYS_copy_file_range
    );
    let allocate = format!(
        "open F,'+<','f' or die $!; syscall({}, fileno F, 0, 0, 8192) == 0 or die $!",
        libc::SYS_fallocate
    );
    let write = "open F,'+<','f' or die $!; syswrite F,'EVIL' or die $!".to_owned();
    let own = "chown(-1,-1,'f') == 1 or die $!".to_owned();
    [
        ("chown(-1,-1) of a 4755 file", 0o4755, own.clone()),
        ("chown(-1,-1) of a 4777 file", 0o4777, own),
        ("a write", 0o6777, write),
        ("fallocate", 0o6777, allocate),
        ("copy_file_range", 0o6777, copy),
    ]
}

/// Runs `program` in `dir` as uid 1000, as root of a user namespace of its own if `mapped`; true if it succeeded, and the
/// mode of `f` afterwards.
fn changed(dir: &Path, mode: u32, program: &str, mapped: bool) -> (bool, u32) {
    let file = dir.join("f");
    let _ = fs::remove_file(&file);
    fs::write(dir.join("src"), [b's'; 100]).expect("write");
    fs::write(&file, [b'x'; 100]).expect("write");
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("chmod");
    let done = as_user(&User::plain(1000), || {
        let mut command = match mapped {
            true => Command::new("unshare"),
            false => Command::new("perl"),
        };
        if mapped {
            command.args(["--user", "--map-root-user", "perl"]);
        }
        let output = command.args(["-e", program]).current_dir(dir).output();
        output.expect("perl").status.success()
    });
    (done, fs::metadata(&file).expect("stat").mode() & 0o7777)
}

fn capabilities_of_a_namespace_are_not_real(env: &Env, passthrough: bool) {
    let etcfs = Etcfs::start(env, options(passthrough));
    for (what, mode, program) in changes() {
        for mapped in [false, true] {
            let native = changed(&etcfs.native(), mode, &program, mapped);
            let mount = changed(&etcfs.mnt(), mode, &program, mapped);
            assert_eq!(mount, native, "{what}, in a user namespace: {mapped}");
            let keeps = mode == 0o4755 || what.starts_with("chown");
            assert_eq!(native.1 & 0o6000 != 0, keeps, "{what} natively: {native:?}");
        }
    }
    let written = counted(&etcfs, "WRITE");
    assert_eq!(
        written == 0,
        passthrough,
        "{written} writes reached the daemon"
    );
}

#[test]
fn capabilities_of_a_user_namespace_count_for_nothing() {
    private(DEADLINE, |env| {
        capabilities_of_a_namespace_are_not_real(env, false)
    });
}

#[test]
fn capabilities_of_a_user_namespace_count_for_nothing_with_passthrough() {
    private(DEADLINE, |env| {
        capabilities_of_a_namespace_are_not_real(env, true)
    });
}

/// A user has a file open for writing; root takes it over and makes it set-user-id, by `root`; the user writes.
fn mode_after_an_old_writers_write(user: &Path, root: &Path) -> u32 {
    let _ = fs::remove_file(root);
    fs::write(root, "good program\n").expect("write");
    fs::set_permissions(root, fs::Permissions::from_mode(0o777)).expect("chmod");
    let (opened, is_open) = channel();
    let (set, is_set) = channel();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            as_user(&User::plain(1000), move || {
                let file = fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(user)
                    .expect("open");
                file.metadata().expect("fstat");
                opened.send(()).expect("root listens");
                is_set.recv().expect("root sets it");
                file.write_all_at(b"EVIL", 0).expect("write");
            });
        });
        is_open.recv().expect("the user opens");
        chown(root, Some(0), Some(0)).expect("chown");
        fs::set_permissions(root, fs::Permissions::from_mode(0o6755)).expect("chmod");
        set.send(()).expect("the user waits");
        writer.join().expect("the writer");
    });
    assert!(fs::read(root).expect("read").starts_with(b"EVIL"));
    fs::metadata(root).expect("stat").mode() & 0o7777
}

#[test]
fn set_id_bits_that_were_set_beneath_go_at_an_older_descriptors_write() {
    for passthrough in [false, true] {
        private(DEADLINE, move |env| {
            let bases = Bases::new(env, Lower::Ext4);
            fs::create_dir(bases.global().join("shared")).expect("mkdir");
            let second = bases.second(env, "second");
            let first = Etcfs::serve(env, bases.clone(), options(passthrough));
            let other = Etcfs::serve(env, second, options(passthrough));
            for etcfs in [&first, &other] {
                etcfs
                    .write_config(&["add_global /shared"])
                    .expect("configure");
            }
            let (native, mnt) = (first.native(), first.mnt());
            let ways = [
                ("natively", native.join("n"), native.join("n")),
                ("beneath", mnt.join("b"), first.local().join("b")),
                (
                    "through another stratum",
                    mnt.join("shared/s"),
                    other.mnt().join("shared/s"),
                ),
                ("through the mount", mnt.join("m"), mnt.join("m")),
            ];
            for (way, user, root) in ways {
                let mode = mode_after_an_old_writers_write(&user, &root);
                assert_eq!(
                    mode, 0o755,
                    "set {way}, passthrough {passthrough}: {mode:o}"
                );
            }
        });
    }
}

/// `fchown32(fd, -1, -1)` as a 32-bit program calls it, in a process of its own: its error number, or `None` where the kernel
/// runs no such programs.
#[cfg(target_arch = "x86_64")]
fn fchown_of_a_32_bit_program(fd: &fs::File) -> Option<i32> {
    const FCHOWN32: i64 = 207;
    let fd = i64::from(fd.as_raw_fd());
    // SAFETY: the child makes two system calls and touches no memory.
    #[allow(unsafe_code)]
    let status = unsafe {
        let child = libc::fork();
        if child == 0 {
            let mut result = FCHOWN32;
            std::arch::asm!(
                "push rbx", "mov rbx, {fd}", "int 0x80", "pop rbx",
                fd = in(reg) fd, inout("rax") result, in("rcx") -1i64, in("rdx") -1i64,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
            libc::_exit(-(result as i32));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status
    };
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

/// The numbers of its calls mean others to a 64-bit kernel, and so it could take set-group-id from a file that somebody has
/// open for writing.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_32_bit_program_that_changes_no_owner_is_refused_as_natively() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, options(false));
        for mode in [0o2644, 0o2755, 0o4755] {
            let [mount, native] = [etcfs.mnt(), etcfs.native()].map(|dir| {
                let path = dir.join("f");
                fs::write(&path, "text").expect("write");
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
                let _writer = fs::OpenOptions::new()
                    .append(true)
                    .open(&path)
                    .expect("open");
                let refused = as_user(&User::plain(1000), || {
                    fchown_of_a_32_bit_program(&fs::File::open(&path).expect("open"))
                });
                let left = fs::metadata(&path).expect("stat").mode() & 0o7777;
                (refused, left)
            });
            assert_eq!(mount, native, "{mode:o}");
            let Some(refused) = native.0 else {
                println!("not run: this kernel runs no 32-bit programs");
                return;
            };
            assert_eq!((refused, native.1), (libc::EPERM, mode), "{mode:o}");
        }
    });
}
