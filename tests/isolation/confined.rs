//! What a daemon has left once it serves: few capabilities, nothing to gain, and few system calls.

use super::DEADLINE;
use crate::harness::{Etcfs, Opts, private};
use etcfs::sys::privileges::NEEDED;
use rustix::thread::{CapabilitySet, capabilities};
use std::fs;

/// A field of every thread's status (proc_pid_status(5)).
fn fields(etcfs: &Etcfs, name: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{}/task", etcfs.pid())).expect("threads");
    let field = |entry: std::io::Result<fs::DirEntry>| {
        let status = entry.expect("a thread").path().join("status");
        let status = fs::read_to_string(status).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name}: {status}"))
            .trim()
            .to_owned()
    };
    threads.map(field).collect()
}

fn sets(etcfs: &Etcfs, name: &str) -> Vec<CapabilitySet> {
    let set = |text: String| u64::from_str_radix(&text, 16).expect("a set");
    let sets = fields(etcfs, name).into_iter().map(set);
    sets.map(CapabilitySet::from_bits_retain).collect()
}

fn start(env: &crate::harness::Env, options: &[&str], vars: &[(&str, &str)]) -> Etcfs {
    let owned = |text: &str| text.to_owned();
    let opts = Opts {
        options: options.iter().map(|o| owned(o)).collect(),
        vars: vars.iter().map(|(k, v)| (owned(k), owned(v))).collect(),
        ..Opts::default()
    };
    Etcfs::start(env, opts)
}

#[test]
fn every_thread_has_only_what_serving_needs() {
    private(DEADLINE, |env| {
        let own = capabilities(None).expect("capget").permitted;
        for options in [&[][..], &["passthrough"], &["mount=fusermount3"]] {
            let etcfs = start(env, options, &[]);
            // A thread for a long request, and one for a client of the control socket, are made later.
            let file = fs::File::create(etcfs.mnt().join("file")).expect("create");
            file.sync_all().expect("fsync");
            for set in sets(&etcfs, "CapPrm:") {
                assert_eq!(set, own & NEEDED, "{options:?}");
            }
            for set in sets(&etcfs, "CapEff:") {
                assert!((own & NEEDED).contains(set), "{options:?}: {set:?}");
            }
            // What goes on as another program keeps what it has, and gets no more.
            for set in sets(&etcfs, "CapBnd:") {
                assert!((own & NEEDED).contains(set), "{options:?}: {set:?}");
            }
            for name in ["CapInh:", "CapAmb:"] {
                for set in sets(&etcfs, name) {
                    assert_eq!(set, CapabilitySet::empty(), "{options:?}: {name}");
                }
            }
            for value in fields(&etcfs, "NoNewPrivs:") {
                assert_eq!(value, "1", "{options:?}");
            }
        }
    });
}

#[test]
fn every_thread_is_filtered_unless_it_is_switched_off() {
    private(DEADLINE, |env| {
        for (options, vars, filtered) in [
            (&[][..], &[("ETCFS_SECCOMP", "")][..], "2"),
            (&[], &[("ETCFS_SECCOMP", "kill")], "2"),
            (&[], &[("ETCFS_SECCOMP", "off")], "0"),
            (&["seccomp=kill"], &[("ETCFS_SECCOMP", "off")], "2"),
            (&["seccomp=log"], &[], "2"),
            (&["seccomp=off"], &[("ETCFS_SECCOMP", "kill")], "0"),
            (&[], &[("ETCFS_SECCOMP", "maybe")], "2"),
        ] {
            let etcfs = start(env, options, vars);
            // Once the mount is there, the filter is a moment away.
            fs::write(etcfs.mnt().join("file"), "x").expect("it answers");
            std::thread::sleep(std::time::Duration::from_millis(50));
            for mode in fields(&etcfs, "Seccomp:") {
                assert_eq!(mode, filtered, "{options:?}, {vars:?}");
            }
            let told = etcfs.stderr().contains("ETCFS_SECCOMP is \"maybe\"");
            assert_eq!(told, vars.contains(&("ETCFS_SECCOMP", "maybe")));
        }
    });
}

/// The daemon under a debugger that makes it call what it never calls: with `kill` that ends it, with `log` it goes on.
#[test]
fn a_call_that_is_not_on_the_list_ends_the_daemon_or_is_logged() {
    use rustix::process::{WaitOptions, WaitStatus};
    let ended_by = |mode: etcfs::sys::seccomp::Mode| -> WaitStatus {
        // SAFETY: the child makes system calls only, and ends itself.
        #[allow(unsafe_code)]
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let limited = etcfs::sys::privileges::reduce().is_ok()
                && etcfs::sys::seccomp::apply(mode, None).is_ok();
            let socket = rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                None,
            );
            // SAFETY: leaves without running the parent's destructors.
            #[allow(unsafe_code)]
            unsafe {
                libc::_exit(if limited && socket.is_ok() { 7 } else { 8 })
            };
        }
        let pid = rustix::process::Pid::from_raw(pid).expect("a child");
        let (_, status) = rustix::process::waitpid(Some(pid), WaitOptions::empty())
            .expect("wait")
            .expect("it ended");
        status
    };
    use etcfs::sys::seccomp::Mode;
    assert_eq!(
        ended_by(Mode::Kill).terminating_signal(),
        Some(libc::SIGSYS)
    );
    assert_eq!(ended_by(Mode::Log).exit_status(), Some(7));
    assert_eq!(ended_by(Mode::Off).exit_status(), Some(7));
}
