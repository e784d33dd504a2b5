//! Where a mount is known to answer differently from a native tree, each with the reason.

use super::act::Act;
use super::party::Who;
use super::steps::Step;
use super::world::{World, by_descriptor, is_look};

/// A difference that there may be.
pub struct Known {
    pub what: &'static str,
    pub why: &'static str,
    is: fn(&mut World, &Step, (&str, &str)) -> bool,
}

pub const KNOWN: &[Known] = &[
    Known {
        what: "a descriptor goes by attributes that were true a while ago",
        why: "the kernel asks for none before it checks an owner (fuse_setattr, fuse_setxattr) or a copy's source for its \
              size (generic_copy_file_checks), and believes what it has for a tick of its clock (fuse_permission, \
              fuse_getattr); once they were asked for, it answers as natively",
        is: |world, step, (mount, native)| {
            mount != native
                && by_descriptor(step)
                && (is_refusal(mount) || is_refusal(native) || looks(&step.act))
                && world.again(step, mount).as_deref() == Some(native)
        },
    },
    Known {
        what: "root of a user namespace is its maker",
        why: "capabilities of another user namespace are not believed, so whoever has them acts without",
        is: |_, step, (mount, native)| {
            step.who == Who::Namespace && is_refusal(mount) && !is_refusal(native)
        },
    },
    Known {
        what: "a descriptor that opens nothing is stale once its file has moved beneath",
        why: "a file that nobody has open is reached by the name under which it was seen last; a descriptor for each would \
              not do for a million files",
        is: |world, step, (mount, native)| {
            if mount == native || !by_descriptor(step) || !world.renamed_elsewhere(step) {
                return false;
            }
            // The kernel makes another errno of it where it asks for the right to link (safe_hardlink_source), and may
            // go by what it saw last before it asks.
            mount == "errno 116"
                || is_refusal(mount) && matches!(step.act, Act::Link { .. })
                || (is_refusal(mount) || is_refusal(native) || looks(&step.act))
                    && world.again(step, mount).as_deref() == Some("errno 116")
        },
    },
    Known {
        what: "another fault is found before that an inode is append-only or immutable",
        why: "the kernel knows no such inode on a mount (S_APPEND, S_IMMUTABLE), so the lower file system is the last to ask",
        is: |world, step, (mount, native)| {
            // access(2) is the kernel's alone, and that a plain file has no default ACL it says before all (set_posix_acl).
            let unasked = matches!(step.act, Act::RemoveAttribute { .. } | Act::Access { .. });
            let other = mount.starts_with("errno") || unasked && mount == "done";
            native == "errno 1" && mount != native && other && world.has_flags
        },
    },
    Known {
        what: "a rename that is the first to meet a directory moved beneath is refused",
        why: "the kernel moves its own entry of a directory along, and cannot while a rename holds the lock for that \
              (__d_unalias); who has looked at the names before is not refused",
        is: |world, step, (mount, native)| {
            mount == "errno 116"
                && mount != native
                && matches!(step.act, Act::Rename { .. })
                && world.renamed_elsewhere(step)
                && world.again(step, mount).as_deref() == Some(native)
        },
    },
    Known {
        what: "a directory removed beneath is asked for permission before it is found to be gone",
        why: "natively the kernel knows (IS_DEADDIR, lookup_open); of a mount it asks for the directory only after its own \
              check of what it saw last",
        is: |world, step, (mount, native)| {
            native == "errno 2"
                && is_refusal(mount)
                && step.base.is_some()
                && world.renamed_elsewhere(step)
        },
    },
    Known {
        what: "what is made in a kept directory lacks set-group-id",
        why: "the kernel goes by attributes of the directory that were true less than a tick ago (mode_strip_sgid), when it \
              had set-group-id",
        is: |_, step, (mount, native)| {
            let made = |text: &str| {
                let mode = u32::from_str_radix(text.split(' ').nth(1)?, 8).ok()?;
                matches!(
                    step.act,
                    Act::Open { .. } | Act::Mkdir { .. } | Act::Mknod { .. }
                )
                .then_some(mode)
            };
            let (mount, native) = (made(mount), made(native));
            step.base.is_some()
                && mount.is_some()
                && mount.map(|mode| mode | 0o2000) == native
                && mount != native
        },
    },
    Known {
        what: "a passed-through write takes set-id bits by rules of its own",
        why: "the kernel writes to the lower file with rights that were fixed when it was registered, and CAP_FSETID is \
              not among them",
        is: |world, step, (mount, native)| {
            let passed = world.case.passthrough && matches!(step.act, Act::Write { .. });
            if !passed || native.starts_with("errno") {
                return false;
            }
            // Those of an append-only file cannot be taken, and the write is refused instead (ext4_setattr).
            mount == "errno 1" && world.has_flags || world.take_set_ids(step)
        },
    },
];

/// True for acts that go by what the kernel knows of a file, and change nothing where that is too little.
fn looks(act: &Act) -> bool {
    is_look(act) || matches!(act, Act::Copy { .. })
}

fn is_refusal(text: &str) -> bool {
    let errno = text
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok());
    text.contains("errno")
        && errno.is_some_and(|errno: i32| matches!(errno, libc::EPERM | libc::EACCES))
}

/// Which of them a difference is.
pub fn find(world: &mut World, step: &Step, outcome: (&str, &str)) -> Option<usize> {
    KNOWN
        .iter()
        .position(|known| (known.is)(world, step, outcome))
}
