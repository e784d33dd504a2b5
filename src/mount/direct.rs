//! Mounting with the kernel's own calls.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};
use rustix::process::{getegid, geteuid};

use super::error::MountError;
use super::mountinfo::FSTYPE;
use super::point::Point;
use super::request::{Atime, Calls, MountRequest};

/// A mount made of a device, in one of the two states in which the kernel's calls leave it.
pub(super) enum Made {
    /// Not visible yet; requests are answered all the same.
    Detached(OwnedFd),
    /// On the mountpoint.
    Visible,
}

/// Makes the mount.
pub(super) fn make(
    request: &MountRequest,
    point: &Point,
    device: BorrowedFd<'_>,
) -> Result<Made, MountError> {
    let at = point.path();
    if request.calls == Calls::Newest {
        match detached(request, device) {
            // EPERM can be a filter that knows mount(2) only; without the capability that call fails alike.
            Err((_, Errno::NOSYS | Errno::PERM, _)) => {}
            Err((call, errno, message)) => return Err(refused(at, &call, errno, &message)),
            Ok(mount) => return Ok(Made::Detached(mount)),
        }
    }
    let Some(magic) = point.magic() else {
        let remedy = "mount /proc: without it and with mount(2) alone nobody could tell where the mount would appear";
        let operation = "find the mountpoint's descriptor in /proc";
        return Err(MountError::new(at, operation, None, remedy));
    };
    visible(request, &magic, device).map_err(|errno| refused(at, "mount", errno, ""))?;
    Ok(Made::Visible)
}

/// Puts a detached mount on its mountpoint, or on top of what has been mounted on that meanwhile (`lock_mount`).
pub(super) fn attach(mount: &OwnedFd, point: &Point) -> Result<(), MountError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", point, "", flags)
        .map_err(|errno| refused(point.path(), "move_mount", errno, ""))
}

/// A failed call: its name, the errno, and what the kernel had to say besides.
type FailedCall = (String, Errno, String);

fn detached(request: &MountRequest, device: BorrowedFd<'_>) -> Result<OwnedFd, FailedCall> {
    let failed = |call: &str, errno| (call.to_owned(), errno, String::new());
    // With "fuse.etcfs" here the subtype is lost: mountinfo then says "fuse".
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| failed("fsopen", e))?;
    configure(request, device, &context)
        .map_err(|(call, errno)| (call, errno, message(&context)))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(request))
        .map_err(|e| ("fsmount".to_owned(), e, message(&context)))
}

fn configure(
    request: &MountRequest,
    device: BorrowedFd<'_>,
    context: &OwnedFd,
) -> Result<(), (String, Errno)> {
    let string = |key: &str, value: &str| {
        fsconfig_set_string(context, key, value).map_err(|e| (format!("fsconfig {key}={value}"), e))
    };
    let flag = |on: bool, key: &str| {
        if !on {
            return Ok(());
        }
        fsconfig_set_flag(context, key).map_err(|e| (format!("fsconfig {key}"), e))
    };
    fsconfig_set_string(context, "source", request.source.as_os_str())
        .map_err(|e| ("fsconfig source".to_owned(), e))?;
    string("subtype", "etcfs")?;
    // As a string: FSCONFIG_SET_FD is refused on Linux 6.18 ("Bad value for 'fd'").
    string("fd", &device.as_raw_fd().to_string())?;
    string("rootmode", "40000")?;
    string("user_id", &geteuid().as_raw().to_string())?;
    string("group_id", &getegid().as_raw().to_string())?;
    if let Some(max_read) = request.max_read {
        string("max_read", &max_read.to_string())?;
    }
    flag(true, "default_permissions")?;
    flag(request.allow_other, "allow_other")?;
    flag(request.read_only, "ro")?;
    flag(request.sync, "sync")?;
    flag(request.dirsync, "dirsync")?;
    fsconfig_create(context).map_err(|e| ("fsconfig create".to_owned(), e))
}

fn attributes(request: &MountRequest) -> MountAttrFlags {
    let mut flags = MountAttrFlags::empty();
    flags.set(MountAttrFlags::MOUNT_ATTR_NOSUID, !request.suid);
    flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, !request.dev);
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, request.read_only);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, request.noexec);
    flags.set(MountAttrFlags::MOUNT_ATTR_NODIRATIME, request.nodiratime);
    // MOUNT_ATTR_RELATIME is 0.
    flags |= match request.atime {
        None | Some(Atime::Relatime) => MountAttrFlags::empty(),
        Some(Atime::Noatime) => MountAttrFlags::MOUNT_ATTR_NOATIME,
        Some(Atime::Strictatime) => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
    };
    flags
}

/// What the kernel logged in a file system context: lines like `e fuse: Bad value for 'fd'`, one per read(2).
fn message(context: &OwnedFd) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        text.push_str(String::from_utf8_lossy(&buffer[..length]).trim());
        text.push(' ');
    }
    text.trim_end().to_owned()
}

fn visible(request: &MountRequest, at: &Path, device: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_fd().as_raw_fd(),
        geteuid().as_raw(),
        getegid().as_raw()
    );
    if request.allow_other {
        data.push_str(",allow_other");
    }
    if let Some(max_read) = request.max_read {
        data.push_str(&format!(",max_read={max_read}"));
    }
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::NOSUID, !request.suid);
    flags.set(MountFlags::NODEV, !request.dev);
    flags.set(MountFlags::RDONLY, request.read_only);
    flags.set(MountFlags::NOEXEC, request.noexec);
    flags.set(MountFlags::NODIRATIME, request.nodiratime);
    flags.set(MountFlags::SYNCHRONOUS, request.sync);
    flags.set(MountFlags::DIRSYNC, request.dirsync);
    flags |= match request.atime {
        None | Some(Atime::Relatime) => MountFlags::RELATIME,
        Some(Atime::Noatime) => MountFlags::NOATIME,
        Some(Atime::Strictatime) => MountFlags::STRICTATIME,
    };
    let data = std::ffi::CString::new(data).expect("the text holds no NUL");
    mount(
        request.source.as_os_str(),
        at,
        FSTYPE,
        flags,
        data.as_c_str(),
    )
}

fn refused(at: &Path, call: &str, errno: Errno, message: &str) -> MountError {
    let remedy = match errno {
        Errno::PERM | Errno::ACCESS => {
            "mounting needs root (CAP_SYS_ADMIN); ordinary users have -o mount=fusermount3"
        }
        Errno::NODEV => "the kernel has no FUSE; load the module (modprobe fuse)",
        Errno::NOENT | Errno::NOTDIR => "create the mountpoint, a directory, or name another",
        Errno::INVAL if call == "move_mount" => {
            "what the mountpoint lies on was unmounted meanwhile; try again"
        }
        Errno::BUSY => "another mount is being made there; try again",
        Errno::NOSPC => "the limit of mounts is reached (sysctl fs.mount-max)",
        _ => "see the options and the kernel log",
    };
    let operation = match message {
        "" => format!("mount with {call}"),
        message => format!("mount with {call} ({message})"),
    };
    MountError::new(at, operation, errno, remedy)
}
