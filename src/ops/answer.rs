//! Attributes and entries as the wire wants them.

use crate::fs::Fs;
use crate::fs::attributes::may_be_kept;
use crate::fs::ids::CONFIG_INO;
use crate::fs::node::Node;
use crate::fs::stat::Stat;
use crate::fs::watch::{Valid, WatchLease};
use etcfs_proto::Opcode;
use etcfs_proto::abi::{Attr, AttrOut, EntryOut, ROOT_ID, Statx, SxTime};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// How long the kernel may use attributes. It rounds up to a tick of its clock, which is enough to
/// save the GETATTR that would follow every LOOKUP, and too short for anyone to see something old by name: every path
/// component is looked up anew (its own validity is 0).
pub(crate) const ATTR_VALID: Valid = Valid::TICK;

/// The attributes of a lower object, which is `node`, as the mount shows them.
pub(crate) fn attr(fs: &Fs, node: &Node, stat: &Stat) -> Attr {
    let s = &stat.0;
    let shown = fs.grants.shown_of(node, stat);
    Attr {
        ino: fs.lower.ino(stat.dev(), s.stx_ino),
        size: s.stx_size,
        blocks: s.stx_blocks,
        atime: s.stx_atime.tv_sec as u64,
        mtime: s.stx_mtime.tv_sec as u64,
        ctime: s.stx_ctime.tv_sec as u64,
        atimensec: s.stx_atime.tv_nsec,
        mtimensec: s.stx_mtime.tv_nsec,
        ctimensec: s.stx_ctime.tv_nsec,
        mode: shown.mode,
        nlink: s.stx_nlink,
        uid: s.stx_uid,
        gid: s.stx_gid,
        rdev: encode_dev(shown.rdev.0, shown.rdev.1),
        blksize: s.stx_blksize,
        flags: 0,
    }
}

/// How long the kernel may use the attributes `stat` of `node`, which were looked at under `lease`.
pub(crate) fn validity(fs: &Fs, lease: Option<&WatchLease>, node: &Node, stat: &Stat) -> Valid {
    let watched = fs.watch.on().zip(lease);
    let kept = watched.and_then(|(on, lease)| on.attributes(lease, node, stat));
    kept.unwrap_or_else(|| match may_be_kept(node) {
        true => ATTR_VALID,
        false => Valid::NOT,
    })
}

/// The answer to GETATTR and SETATTR.
pub(crate) fn attr_out(attr: Attr, valid: Valid) -> AttrOut {
    AttrOut {
        attr_valid: valid.sec,
        attr_valid_nsec: valid.nsec,
        dummy: 0,
        attr,
    }
}

/// The answer to LOOKUP of a name that is not there, and that the kernel may keep so.
pub(crate) fn absent_out(valid: Valid) -> EntryOut {
    EntryOut {
        entry_valid: valid.sec,
        entry_valid_nsec: valid.nsec,
        ..EntryOut::default()
    }
}

/// The answer to LOOKUP and to everything that creates a name, which may be used for as long as `valid`, and the attributes for
/// as long as `attr_valid`.
pub(crate) fn entry_out(
    fs: &Fs,
    nodeid: u64,
    attr: Attr,
    valid: Valid,
    attr_valid: Valid,
) -> EntryOut {
    EntryOut {
        nodeid,
        // The kernel has made the root by itself, with 0.
        generation: match nodeid {
            ROOT_ID => 0,
            _ => fs.settings.generation.into(),
        },
        entry_valid: valid.sec,
        attr_valid: attr_valid.sec,
        entry_valid_nsec: valid.nsec,
        attr_valid_nsec: attr_valid.nsec,
        attr,
    }
}

/// Has the answer `body` to a request of this kind say that nothing of it is kept.
pub(crate) fn keep_nothing(opcode: Opcode, body: &mut [u8]) {
    match opcode {
        Opcode::LOOKUP => {
            if let Ok((mut entry, _)) = EntryOut::read_from_prefix(body) {
                entry.entry_valid = 0;
                entry.entry_valid_nsec = 0;
                entry.attr_valid = 0;
                entry.attr_valid_nsec = 0;
                let _ = entry.write_to_prefix(body);
            }
        }
        Opcode::GETATTR | Opcode::SETATTR => {
            if let Ok((mut answer, _)) = AttrOut::read_from_prefix(body) {
                answer.attr_valid = 0;
                answer.attr_valid_nsec = 0;
                let _ = answer.write_to_prefix(body);
            }
        }
        _ => {}
    }
}

/// The body of the answer to STATX.
pub(crate) fn statx(fs: &Fs, node: &Node, stat: &Stat) -> Statx {
    let s = &stat.0;
    let shown = fs.grants.shown_of(node, stat);
    let time = |t: &rustix::fs::StatxTimestamp| SxTime {
        tv_sec: t.tv_sec,
        tv_nsec: t.tv_nsec,
        __reserved: 0,
    };
    Statx {
        mask: s.stx_mask,
        blksize: s.stx_blksize,
        attributes: s.stx_attributes.bits(),
        nlink: s.stx_nlink,
        uid: s.stx_uid,
        gid: s.stx_gid,
        mode: shown.mode as u16,
        ino: fs.lower.ino(stat.dev(), s.stx_ino),
        size: s.stx_size,
        blocks: s.stx_blocks,
        attributes_mask: s.stx_attributes_mask.bits(),
        atime: time(&s.stx_atime),
        btime: time(&s.stx_btime),
        ctime: time(&s.stx_ctime),
        mtime: time(&s.stx_mtime),
        rdev_major: shown.rdev.0,
        rdev_minor: shown.rdev.1,
        dev_major: s.stx_dev_major,
        dev_minor: s.stx_dev_minor,
        ..Statx::default()
    }
}

/// The configuration file: regular, 0600, root's, as long as a full read (contract D24).
pub(crate) fn config_attr(size: u64) -> Attr {
    Attr {
        ino: CONFIG_INO,
        size,
        blocks: size.div_ceil(512),
        mode: libc::S_IFREG | 0o600,
        nlink: 1,
        blksize: 4096,
        ..Attr::default()
    }
}

/// A device number in the kernel's 32-bit encoding (`new_encode_dev`): minor bits 0-7, major 8-19, minor 20-31.
fn encode_dev(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The reverse of [`encode_dev`]: major and minor.
pub(crate) fn decode_dev(dev: u32) -> (u32, u32) {
    ((dev & 0xfff00) >> 8, (dev & 0xff) | ((dev >> 12) & 0xfff00))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_given_again_lets_nothing_be_kept() {
        let mut entry = EntryOut {
            nodeid: 7,
            entry_valid: 60,
            attr_valid: 60,
            ..EntryOut::default()
        };
        keep_nothing(Opcode::LOOKUP, entry.as_mut_bytes());
        assert_eq!(
            (entry.nodeid, entry.entry_valid, entry.attr_valid),
            (7, 0, 0)
        );
        let mut attr = attr_out(config_attr(5), Valid { sec: 60, nsec: 1 });
        keep_nothing(Opcode::GETATTR, attr.as_mut_bytes());
        assert_eq!(
            (attr.attr_valid, attr.attr_valid_nsec, attr.attr.size),
            (0, 0, 5)
        );
        keep_nothing(Opcode::LOOKUP, &mut []);
    }

    #[test]
    fn device_numbers_survive_the_wire() {
        for (major, minor) in [(1, 3), (8, 255), (259, 300), (4095, 0xfffff)] {
            assert_eq!(decode_dev(encode_dev(major, minor)), (major, minor));
        }
    }
}
