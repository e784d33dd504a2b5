//! The structs and numbers of this crate against those that a C compiler found in the kernel's header.
//!
//! `layout.txt` and `constants.txt` were printed by a C program that includes `linux/fuse.h` of protocol 7.45 (x86_64):
//! `struct size`, then `  field offset size`; and `NAME value`.

use etcfs_proto::abi::*;
use etcfs_proto::flags::*;
use etcfs_proto::notify::Notice;
use etcfs_proto::op::SHAPES;
use std::fmt::Write;

fn size_of_field<S, F>(_: impl Fn(&S) -> &F) -> usize {
    size_of::<F>()
}

#[test]
fn every_struct_is_laid_out_as_in_c() {
    let mut ours = String::new();
    macro_rules! layout {
        ($($c:ident $name:ident: $($field:ident)*;)*) => {$(
            writeln!(ours, "{} {}", stringify!($c), size_of::<$name>()).unwrap();
            $(
                let size = size_of_field(|s: &$name| &s.$field);
                let field = stringify!($field).trim_start_matches("r#");
                writeln!(ours, "  {field} {} {size}", std::mem::offset_of!($name, $field)).unwrap();
            )*
        )*};
    }
    layout! {
        fuse_attr Attr: ino size blocks atime mtime ctime atimensec mtimensec ctimensec mode nlink uid gid rdev
            blksize flags;
        fuse_sx_time SxTime: tv_sec tv_nsec __reserved;
        fuse_statx Statx: mask blksize attributes nlink uid gid mode __spare0 ino size blocks attributes_mask atime
            btime ctime mtime rdev_major rdev_minor dev_major dev_minor __spare2;
        fuse_kstatfs Kstatfs: blocks bfree bavail files ffree bsize namelen frsize padding spare;
        fuse_file_lock FileLock: start end r#type pid;
        fuse_entry_out EntryOut: nodeid generation entry_valid attr_valid entry_valid_nsec attr_valid_nsec attr;
        fuse_forget_in ForgetIn: nlookup;
        fuse_forget_one ForgetOne: nodeid nlookup;
        fuse_batch_forget_in BatchForgetIn: count dummy;
        fuse_getattr_in GetattrIn: getattr_flags dummy fh;
        fuse_attr_out AttrOut: attr_valid attr_valid_nsec dummy attr;
        fuse_statx_in StatxIn: getattr_flags reserved fh sx_flags sx_mask;
        fuse_statx_out StatxOut: attr_valid attr_valid_nsec flags spare stat;
        fuse_mknod_in MknodIn: mode rdev umask padding;
        fuse_mkdir_in MkdirIn: mode umask;
        fuse_rename_in RenameIn: newdir;
        fuse_rename2_in Rename2In: newdir flags padding;
        fuse_link_in LinkIn: oldnodeid;
        fuse_setattr_in SetattrIn: valid padding fh size lock_owner atime mtime ctime atimensec mtimensec ctimensec
            mode unused4 uid gid unused5;
        fuse_open_in OpenIn: flags open_flags;
        fuse_create_in CreateIn: flags mode umask open_flags;
        fuse_open_out OpenOut: fh open_flags backing_id;
        fuse_release_in ReleaseIn: fh flags release_flags lock_owner;
        fuse_flush_in FlushIn: fh unused padding lock_owner;
        fuse_read_in ReadIn: fh offset size read_flags lock_owner flags padding;
        fuse_write_in WriteIn: fh offset size write_flags lock_owner flags padding;
        fuse_write_out WriteOut: size padding;
        fuse_statfs_out StatfsOut: st;
        fuse_fsync_in FsyncIn: fh fsync_flags padding;
        fuse_setxattr_in SetxattrIn: size flags setxattr_flags padding;
        fuse_getxattr_in GetxattrIn: size padding;
        fuse_getxattr_out GetxattrOut: size padding;
        fuse_lk_in LkIn: fh owner lk lk_flags padding;
        fuse_lk_out LkOut: lk;
        fuse_access_in AccessIn: mask padding;
        fuse_init_in InitIn: major minor max_readahead flags flags2 unused;
        fuse_init_out InitOut: major minor max_readahead flags max_background congestion_threshold max_write
            time_gran max_pages map_alignment flags2 max_stack_depth request_timeout unused;
        cuse_init_in CuseInitIn: major minor unused flags;
        cuse_init_out CuseInitOut: major minor unused flags max_read max_write dev_major dev_minor spare;
        fuse_interrupt_in InterruptIn: unique;
        fuse_bmap_in BmapIn: block blocksize padding;
        fuse_bmap_out BmapOut: block;
        fuse_ioctl_in IoctlIn: fh flags cmd arg in_size out_size;
        fuse_ioctl_iovec IoctlIovec: base len;
        fuse_ioctl_out IoctlOut: result flags in_iovs out_iovs;
        fuse_poll_in PollIn: fh kh flags events;
        fuse_poll_out PollOut: revents padding;
        fuse_notify_poll_wakeup_out NotifyPollWakeupOut: kh;
        fuse_fallocate_in FallocateIn: fh offset length mode padding;
        fuse_in_header InHeader: len opcode unique nodeid uid gid pid total_extlen padding;
        fuse_out_header OutHeader: len error unique;
        fuse_dirent Dirent: ino off namelen r#type;
        fuse_direntplus Direntplus: entry_out dirent;
        fuse_notify_inval_inode_out NotifyInvalInodeOut: ino off len;
        fuse_notify_inval_entry_out NotifyInvalEntryOut: parent namelen flags;
        fuse_notify_delete_out NotifyDeleteOut: parent child namelen padding;
        fuse_notify_store_out NotifyStoreOut: nodeid offset size padding;
        fuse_notify_retrieve_out NotifyRetrieveOut: notify_unique nodeid offset size padding;
        fuse_notify_retrieve_in NotifyRetrieveIn: dummy1 offset size dummy2 dummy3 dummy4;
        fuse_notify_prune_out NotifyPruneOut: count padding spare;
        fuse_backing_map BackingMap: fd flags padding;
        fuse_lseek_in LseekIn: fh offset whence padding;
        fuse_lseek_out LseekOut: offset;
        fuse_copy_file_range_in CopyFileRangeIn: fh_in off_in nodeid_out fh_out off_out len flags;
        fuse_copy_file_range_out CopyFileRangeOut: bytes_copied;
        fuse_setupmapping_in SetupmappingIn: fh foffset len flags moffset;
        fuse_removemapping_in RemovemappingIn: count;
        fuse_removemapping_one RemovemappingOne: moffset len;
        fuse_syncfs_in SyncfsIn: padding;
        fuse_secctx Secctx: size padding;
        fuse_secctx_header SecctxHeader: size nr_secctx;
        fuse_ext_header ExtHeader: size r#type;
        fuse_supp_groups SuppGroups: nr_groups;
        fuse_uring_ent_in_out UringEntInOut: flags commit_id payload_sz padding reserved;
        fuse_uring_req_header UringReqHeader: in_out op_in ring_ent_in_out;
        fuse_uring_cmd_req UringCmdReq: flags commit_id qid padding;
    }
    assert_eq!(ours, include_str!("layout.txt"));
}

#[test]
fn every_constant_has_its_number_in_c() {
    let mut ours = Vec::new();
    for shape in SHAPES {
        let prefix = if shape.name.starts_with("CUSE") {
            ""
        } else {
            "FUSE_"
        };
        ours.push(format!("{prefix}{} {:#x}", shape.name, shape.opcode.0));
    }
    macro_rules! flags {
        ($($prefix:literal $name:ident)*) => {$(
            for (name, bit) in $name::all().iter_names() {
                ours.push(format!("{}{} {:#x}", $prefix, name.trim_start_matches("IS_"), bit.bits()));
            }
        )*};
    }
    flags! {
        "FUSE_" InitFlags "FOPEN_" OpenFlags "FATTR_" SetattrValid "FUSE_GETATTR_" GetattrFlags "FUSE_OPEN_" OpenInFlags
        "FUSE_WRITE_" WriteFlags "FUSE_READ_" ReadFlags "FUSE_RELEASE_" ReleaseFlags "FUSE_FSYNC_" FsyncFlags
        "FUSE_SETXATTR_" SetxattrFlags "FUSE_ATTR_" AttrFlags "FUSE_LK_" LkFlags "FUSE_" InvalEntryFlags
        "FUSE_IOCTL_" IoctlFlags "FUSE_POLL_" PollFlags "FUSE_SETUPMAPPING_FLAG_" SetupmappingFlags
    }
    let notices = [
        ("POLL", Notice::Poll { kh: 0 }),
        (
            "INVAL_INODE",
            Notice::InvalInode {
                nodeid: 0,
                off: 0,
                len: 0,
            },
        ),
        (
            "INVAL_ENTRY",
            Notice::InvalEntry {
                parent: 0,
                name: b"",
                flags: InvalEntryFlags::empty(),
            },
        ),
        (
            "STORE",
            Notice::Store {
                nodeid: 0,
                offset: 0,
                data: b"",
            },
        ),
        (
            "RETRIEVE",
            Notice::Retrieve {
                notify_unique: 0,
                nodeid: 0,
                offset: 0,
                size: 0,
            },
        ),
        (
            "DELETE",
            Notice::Delete {
                parent: 0,
                child: 0,
                name: b"",
            },
        ),
        ("RESEND", Notice::Resend),
        ("INC_EPOCH", Notice::IncEpoch),
        ("PRUNE", Notice::Prune { nodeids: &[] }),
    ];
    ours.extend(
        notices
            .iter()
            .map(|(name, notice)| format!("FUSE_NOTIFY_{name} {:#x}", notice.code())),
    );
    macro_rules! numbers {
        ($($name:ident)*) => {$(ours.push(format!("FUSE_{} {:#x}", stringify!($name), $name));)*};
    }
    numbers! {
        MAX_NR_SECCTX EXT_GROUPS IO_URING_CMD_REGISTER IO_URING_CMD_COMMIT_AND_FETCH KERNEL_VERSION KERNEL_MINOR_VERSION
        ROOT_ID MIN_READ_BUFFER UNIQUE_RESEND INVALID_UIDGID
    }
    ours.sort();
    let theirs: Vec<_> = include_str!("constants.txt").lines().collect();
    assert_eq!(ours, theirs);
}

#[test]
fn the_table_is_sorted_so_that_every_opcode_is_found() {
    assert!(SHAPES.is_sorted_by(|a, b| a.opcode < b.opcode));
    for shape in SHAPES {
        assert_eq!(shape.opcode.shape(), Some(shape));
    }
}
