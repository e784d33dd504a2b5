//! Who may: exactly those who may rename natively (contract B33). Every call is made on the mount, where it crosses
//! the sides, and on a native tree, where it does not.

use super::harness::{Pair, Root, User, errno};
use super::{EVERYWHERE, on};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

fn place(root: &Path, dir: &str, owner: u32, mode: u32) {
    let path = root.join(dir);
    fs::create_dir_all(&path).expect("mkdir");
    chown(&path, Some(owner), Some(owner)).expect("chown");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
}

fn file(path: &Path, owner: u32, mode: u32) {
    fs::write(path, "content").expect("write");
    chown(path, Some(owner), Some(owner)).expect("chown");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// A rename from a directory to another by a user.
struct Case {
    what: &'static str,
    user: User,
    /// Owner and mode of the source's directory, the source, the target's directory and, if it exists, the target.
    from: (u32, u32),
    old: (u32, u32),
    to: (u32, u32),
    new: Option<(u32, u32)>,
    answer: Result<(), Errno>,
}

fn cases() -> Vec<Case> {
    let user = || User::plain(1000);
    let own = (1000, 0o755);
    let case = |what, user, from, old, to, new, answer| Case {
        what,
        user,
        from,
        old,
        to,
        new,
        answer,
    };
    vec![
        case("own all", user(), own, (1000, 0o644), own, None, Ok(())),
        case(
            "another's unreadable file in own directories",
            user(),
            own,
            (0, 0o600),
            own,
            None,
            Ok(()),
        ),
        case(
            "own set-id file",
            user(),
            own,
            (1000, 0o6755),
            own,
            None,
            Ok(()),
        ),
        case(
            "over another's file",
            user(),
            own,
            (1000, 0o644),
            own,
            Some((0, 0o600)),
            Ok(()),
        ),
        case(
            "from another's directory",
            user(),
            (0, 0o755),
            (1000, 0o644),
            own,
            None,
            Err(Errno::ACCESS),
        ),
        case(
            "to another's directory",
            user(),
            own,
            (1000, 0o644),
            (0, 0o755),
            None,
            Err(Errno::ACCESS),
        ),
        case(
            "own file from a sticky directory",
            user(),
            (0, 0o1777),
            (1000, 0o644),
            own,
            None,
            Ok(()),
        ),
        case(
            "another's file from a sticky directory",
            user(),
            (0, 0o1777),
            (2000, 0o666),
            own,
            None,
            Err(Errno::PERM),
        ),
        case(
            "over another's file in a sticky directory",
            user(),
            own,
            (1000, 0o644),
            (0, 0o1777),
            Some((2000, 0o666)),
            Err(Errno::PERM),
        ),
        case(
            "over own file in a sticky directory",
            user(),
            own,
            (1000, 0o644),
            (0, 0o1777),
            Some((1000, 0o644)),
            Ok(()),
        ),
        case(
            "root without its capabilities",
            User::root_without(CapabilitySet::all()),
            own,
            (1000, 0o644),
            own,
            None,
            Err(Errno::ACCESS),
        ),
        case(
            "a user with CAP_DAC_OVERRIDE",
            user().with(CapabilitySet::DAC_OVERRIDE),
            (0, 0o700),
            (0, 0o600),
            (0, 0o700),
            None,
            Ok(()),
        ),
        case(
            "root",
            User::plain(0),
            (1000, 0o700),
            (1000, 0o600),
            own,
            None,
            Ok(()),
        ),
    ]
}

#[test]
fn b33_the_rights_are_those_of_a_native_rename() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            let mut pair = Pair::of(etcfs);
            for (n, case) in cases().into_iter().enumerate() {
                // Both directions: the directory of number `n` is below `gdir`, which is global, or is not.
                for (side, from, to) in [
                    ("to global", format!("f{n}"), format!("gdir/t{n}")),
                    ("to local", format!("gdir/F{n}"), format!("T{n}")),
                ] {
                    for root in [etcfs.mnt(), etcfs.native()] {
                        fs::create_dir_all(root.join("gdir")).expect("mkdir");
                        place(&root, &from, case.from.0, case.from.1);
                        place(&root, &to, case.to.0, case.to.1);
                        file(&root.join(&from).join("old"), case.old.0, case.old.1);
                        if let Some((owner, mode)) = case.new {
                            file(&root.join(&to).join("new"), owner, mode);
                        }
                    }
                    let what = format!("{} {side}", case.what);
                    let rename = |root: &Root| {
                        fs::rename(
                            root.path.join(&from).join("old"),
                            root.path.join(&to).join("new"),
                        )
                        .map_err(errno)
                    };
                    let native = pair.same_as(&case.user, &what, rename);
                    assert_eq!(native, case.answer, "{what}");
                }
            }
            pair.same_trees();
            pair.finish();
        });
    }
}
