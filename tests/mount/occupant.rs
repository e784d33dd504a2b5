//! What is on the mountpoint already: what a killed daemon has left there goes (contract D15), what lives stays.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::process::Command;

use etcfs::mount::{
    Attached, Live, Method, MountError, MountRequest, Occupants, Prepared, Serving, make_room,
};

use crate::harness::{User, as_user, private};
use crate::server::{dead_mount, mount};
use crate::{DEADLINE, prepare, request, tmpfs, types_at};

/// A daemon that is seen, with this state.
const DAEMON: Serving = Serving {
    pid: 7,
    mount: None,
    is_ending: false,
};

/// With no daemon to be seen.
fn room(at: &Path, way: Method) -> Result<Occupants, MountError> {
    make_room(at, way, &|_, _| None)
}

fn free(replaced: u32) -> Result<Occupants, MountError> {
    Ok(Occupants {
        replaced,
        ..Occupants::default()
    })
}

fn live(replaced: u32, pid: Option<u32>) -> Result<Occupants, MountError> {
    let live = Some(Live { pid });
    Ok(Occupants {
        replaced,
        live,
        ..Occupants::default()
    })
}

/// A mount whose requests nobody reads.
fn unread(request: &MountRequest) -> (std::os::fd::OwnedFd, Attached) {
    let Prepared { device, pending } = prepare(request).expect("prepare");
    (device, pending.attach().expect("attach"))
}

#[test]
fn dead_mounts_are_taken_away_and_the_living_stay() {
    private(DEADLINE, |env| {
        let request = request(env, "mnt");
        let at = &request.mountpoint;
        assert_eq!(room(at, Method::Auto), free(0), "an ordinary directory");
        assert_eq!(room(&env.scratch().join("missing"), Method::Auto), free(0));
        let (_living, _server) = mount(&request);
        assert_eq!(
            room(at, Method::Auto),
            live(0, None),
            "an etcfs that answers, served by nobody who is seen"
        );
        dead_mount(&request);
        dead_mount(&request);
        assert_eq!(types_at(at).len(), 3);
        assert_eq!(room(at, Method::Direct), live(2, None));
        assert_eq!(types_at(at), ["fuse.etcfs"], "the one that answers");
        tmpfs(at);
        dead_mount(&request);
        let covered = Some("tmpfs".to_owned());
        let found = Occupants {
            replaced: 1,
            covered,
            ..Occupants::default()
        };
        assert_eq!(room(&at.join("."), Method::Auto), Ok(found));
        assert_eq!(types_at(at), ["fuse.etcfs", "tmpfs"]);
    });
}

#[test]
fn mount_succeeds_where_a_dead_one_was() {
    private(DEADLINE, |env| {
        let request = request(env, "mnt");
        dead_mount(&request);
        let dead = std::fs::metadata(&request.mountpoint).expect_err("nobody answers");
        assert_eq!(
            dead.raw_os_error(),
            Some(rustix::io::Errno::NOTCONN.raw_os_error())
        );
        // Even without taking it away: a path that ends at a dead mount can be resolved.
        let (over, _server) = mount(&request);
        over.detach_lazily().expect("detach");
        assert_eq!(room(&request.mountpoint, Method::Auto), free(1));
        let (_attached, _server) = mount(&request);
        assert_eq!(types_at(&request.mountpoint), ["fuse.etcfs"]);
        std::fs::metadata(&request.mountpoint).expect("it answers");
    });
}

#[test]
fn mount_that_hangs_is_not_taken_for_dead() {
    private(DEADLINE, |env| {
        let request = request(env, "unread");
        let (_device, _mount) = unread(&request);
        let found = make_room(&request.mountpoint, Method::Auto, &|_, user| {
            assert_eq!(user, 0, "who has mounted");
            Some(DAEMON)
        });
        assert_eq!(found, live(0, Some(7)));
        let line = Live { pid: Some(7) }
            .refuse(&request.mountpoint)
            .to_string();
        for part in ["/unread: ", "pid 7", "unmount", "-o stack"] {
            assert!(line.contains(part), "{line}");
        }
        assert_eq!(types_at(&request.mountpoint), ["fuse.etcfs"]);
    });
}

#[test]
fn mount_of_a_daemon_that_is_ending_is_waited_for() {
    private(DEADLINE, |env| {
        // The daemon has been sent SIGKILL, and its device is closed only when its end has been seen a few times.
        let request = request(env, "mnt");
        let (device, _mount) = unread(&request);
        let daemon = Command::new("sleep").arg("infinity").stdin(device).spawn();
        let (daemon, looks) = (RefCell::new(daemon.expect("sleep(1)")), Cell::new(0));
        let found = make_room(&request.mountpoint, Method::Auto, &|_, _| {
            looks.set(looks.get() + 1);
            if looks.get() == 3 {
                daemon.borrow_mut().kill().expect("kill");
            }
            let is_ending = true;
            (looks.get() <= 3).then_some(Serving {
                is_ending,
                ..DAEMON
            })
        });
        daemon.borrow_mut().wait().expect("wait");
        assert_eq!(found, free(1), "after {} looks", looks.get());
        assert_eq!(types_at(&request.mountpoint), [""; 0]);
    });
}

#[test]
fn what_only_shows_another_mount_is_the_users_directory() {
    private(DEADLINE, |env| {
        let request = request(env, "mnt");
        let Prepared { device, pending } = prepare(&request).expect("prepare");
        let number = pending.number();
        assert!(number.is_some(), "Linux 5.8");
        let server = crate::server::Server::start(device);
        server.wait_for_init();
        let _mount = pending.attach().expect("attach");
        let who = |_, _| {
            Some(Serving {
                mount: number,
                ..DAEMON
            })
        };
        assert_eq!(
            make_room(&request.mountpoint, Method::Auto, &who),
            live(0, Some(7))
        );
        let bound = env.dir("bound");
        rustix::mount::mount_bind(&request.mountpoint, &bound).expect("bind");
        assert_eq!(make_room(&bound, Method::Auto, &who), free(0));
        assert_eq!(types_at(&bound), ["fuse.etcfs"]);
    });
}

#[test]
fn ordinary_user_takes_away_a_dead_mount_of_his_own() {
    private(DEADLINE, |env| {
        crate::helper::everybodys_device(env);
        let at = env.dir("mnt");
        std::os::unix::fs::chown(&at, Some(65534), Some(65534)).expect("chown");
        let request = MountRequest {
            mountpoint: at,
            ..MountRequest::default()
        };
        as_user(&User::plain(65534), || {
            dead_mount(&request);
            assert_eq!(room(&request.mountpoint, Method::Auto), free(1));
        });
        assert_eq!(types_at(&request.mountpoint), [""; 0]);
    });
}

/// Another program's FUSE mount.
fn others(at: &Path) -> std::os::fd::OwnedFd {
    let device = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .expect("open /dev/fuse");
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0",
        std::os::fd::AsRawFd::as_raw_fd(&device)
    );
    let data = std::ffi::CString::new(data).expect("no NUL");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("other", at, "fuse.other", flags, data.as_c_str()).expect("mount");
    device.into()
}

#[test]
fn dead_mount_of_another_program_goes_and_a_living_or_hanging_one_is_the_users_directory() {
    private(DEADLINE, |env| {
        let at = env.dir("mnt");
        drop(others(&at));
        assert_eq!(types_at(&at), ["fuse.other"]);
        assert_eq!(room(&at, Method::Auto), free(1));
        assert_eq!(types_at(&at), [""; 0]);
        let hanging = others(&at);
        let start = std::time::Instant::now();
        assert_eq!(room(&at, Method::Auto), free(0));
        assert!(start.elapsed() < DEADLINE / 2, "it is not waited for");
        let server = crate::server::Server::start(hanging);
        server.wait_for_init();
        assert_eq!(room(&at, Method::Auto), free(0));
        assert_eq!(types_at(&at), ["fuse.other"]);
    });
}

#[test]
fn etcfs_that_another_mount_covers_is_told_of_unless_it_is_served() {
    private(DEADLINE, |env| {
        let request = request(env, "mnt");
        let at = &request.mountpoint;
        let (device, _mount) = unread(&request);
        let server = crate::server::Server::start(device);
        server.wait_for_init();
        tmpfs(at);
        let found = room(at, Method::Auto).expect("room");
        assert_eq!((found.replaced, found.within.len()), (0, 0));
        assert_eq!(found.covered.as_deref(), Some("tmpfs"));
        let line = found.remarks(at).join("");
        for part in ["/mnt: the tmpfs there covers an etcfs", "by hand"] {
            assert!(line.contains(part), "{line}");
        }
        let served = make_room(at, Method::Auto, &|_, _| Some(DAEMON)).expect("room");
        assert_eq!(served.covered, None, "one that is served");
    });
}
