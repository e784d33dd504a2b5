//! What a killed daemon leaves on the mountpoint (contract D15).

use etcfs::mount::{MountRequest, Prepared, Way, replace_dead};

use crate::harness::{User, as_user, private};
use crate::server::{dead_mount, mount};
use crate::{DEADLINE, prepare, request, tmpfs, types_at};

#[test]
fn dead_mounts_are_taken_away_and_the_living_stay() {
    private(DEADLINE, |env| {
        let request = request(env, "mnt");
        let at = &request.mountpoint;
        assert_eq!(replace_dead(at, Way::Auto), Ok(0), "an ordinary directory");
        assert_eq!(
            replace_dead(&env.scratch().join("missing"), Way::Auto),
            Ok(0)
        );
        let (_living, _server) = mount(&request);
        assert_eq!(replace_dead(at, Way::Auto), Ok(0), "an etcfs that answers");
        dead_mount(&request);
        dead_mount(&request);
        assert_eq!(types_at(at).len(), 3);
        assert_eq!(replace_dead(at, Way::Direct), Ok(2));
        assert_eq!(types_at(at), ["fuse.etcfs"], "the one that answers");
        tmpfs(at);
        dead_mount(&request);
        assert_eq!(replace_dead(&at.join("."), Way::Auto), Ok(1));
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
        replace_dead(&request.mountpoint, Way::Auto).expect("replace");
        let (_attached, _server) = mount(&request);
        assert_eq!(types_at(&request.mountpoint), ["fuse.etcfs"]);
        std::fs::metadata(&request.mountpoint).expect("it answers");
    });
}

#[test]
fn mount_that_hangs_is_not_taken_for_dead() {
    private(DEADLINE, |env| {
        // Nobody reads its requests.
        let unread = request(env, "unread");
        let Prepared {
            device: _unread,
            pending,
        } = prepare(&unread).expect("prepare");
        pending.attach().expect("attach");
        assert_eq!(replace_dead(&unread.mountpoint, Way::Auto), Ok(0));
        assert_eq!(types_at(&unread.mountpoint), ["fuse.etcfs"]);
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
            assert_eq!(replace_dead(&request.mountpoint, Way::Auto), Ok(1));
        });
        assert_eq!(types_at(&request.mountpoint), [""; 0]);
    });
}
