//! What brl-which, strat and bouncer read: D36, D37, D38.

use super::harness::{CONFIG, User, as_user};
use super::world;
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn get(path: &Path, name: &str) -> Result<String, Errno> {
    let len = rustix::fs::lgetxattr_query(path, name)?;
    let mut value = vec![0; 4096];
    let got = rustix::fs::lgetxattr(path, name, &mut value)?;
    assert_eq!(got, len, "the probe and the value agree");
    // A buffer of no bytes is another probe.
    if len > 1 {
        let short = rustix::fs::lgetxattr(path, name, &mut vec![0; len - 1]);
        assert_eq!(short, Err(Errno::RANGE));
    }
    Ok(String::from_utf8_lossy(&value[..got]).into_owned())
}

#[test]
fn d36_d37_every_path_tells_its_stratum_and_its_name() {
    world(|world| {
        let secret = world.etc("alpha", "secret");
        fs::write(&secret, "x").expect("write");
        fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("chmod");
        let check = || {
            for (path, stratum, local) in [
                ("hosts", "global", "/etc/hosts"),
                ("shadow", "global", "/etc/shadow"),
                ("fstab", "alpha", "/etc/fstab"),
                ("secret", "alpha", "/etc/secret"),
                ("ssl", "alpha", "/etc/ssl"),
                ("", "alpha", "/etc/"),
                (CONFIG, "global", "/"),
            ] {
                let path = world.etc("alpha", path);
                let said = (
                    get(&path, "user.bedrock.stratum"),
                    get(&path, "user.bedrock.localpath"),
                );
                assert_eq!(
                    said,
                    (Ok(stratum.to_owned()), Ok(local.to_owned())),
                    "{}",
                    path.display()
                );
            }
        };
        check();
        // The kernel itself (xattr_permission) answers for symlinks, which can have no user attributes.
        let link = world.etc("alpha", "link");
        symlink("nowhere", &link).expect("symlink");
        assert_eq!(get(&link, "user.bedrock.stratum"), Err(Errno::NODATA));
    });
}

#[test]
fn d36_brl_which_reads_them_with_getfattr() {
    world(|world| {
        symlink("/etc/hosts", world.etc("alpha", "to-hosts")).expect("symlink");
        for user in ["", "setpriv --reuid 1000 --regid 1000 --clear-groups "] {
            for (path, stratum) in [
                ("/etc/hosts", "global"),
                ("/etc/to-hosts", "global"),
                ("/etc/fstab", "alpha"),
                ("/etc/ssl", "alpha"),
                ("/", "alpha"),
            ] {
                let said = world.strat(
                    "alpha",
                    &format!(
                        "{user}getfattr --only-values --absolute-names -n user.bedrock.stratum {path}"
                    ),
                );
                assert_eq!(said, Ok(stratum.to_owned()), "{user}{path}");
            }
        }
    });
}

#[test]
fn d37_who_may_not_read_a_file_is_refused_by_the_kernel() {
    world(|world| {
        let secret = world.etc("alpha", "secret");
        fs::write(&secret, "x").expect("write");
        fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("chmod");
        assert_eq!(get(&secret, "user.bedrock.stratum"), Ok("alpha".to_owned()));
        // With default_permissions xattr_permission() wants the right to read for every attribute of the user
        // namespace, and no request reaches the daemon; brl-which then looks at the path instead.
        let refused = as_user(&User::plain(1000), || get(&secret, "user.bedrock.stratum"));
        assert_eq!(refused, Err(Errno::ACCESS));
    });
}

#[test]
fn d38_nobody_lists_sets_or_removes_them() {
    world(|world| {
        for path in ["hosts", "fstab", CONFIG] {
            let path = world.etc("alpha", path);
            let mut list = vec![0; 4096];
            let len = rustix::fs::llistxattr(&path, &mut list).expect("listxattr");
            assert!(!String::from_utf8_lossy(&list[..len]).contains("bedrock"));
            for name in ["user.bedrock.stratum", "user.bedrock.other"] {
                let flags = rustix::fs::XattrFlags::empty();
                assert_eq!(
                    rustix::fs::setxattr(&path, name, b"x", flags),
                    Err(Errno::PERM)
                );
                assert_eq!(rustix::fs::removexattr(&path, name), Err(Errno::PERM));
            }
        }
    });
}
