//! Whether a process has its table of descriptors for itself.
#![allow(unsafe_code)]

use rustix::fs::{Mode, OFlags};
use rustix::io;

/// `KCMP_FILES` (include/uapi/linux/kcmp.h).
const KCMP_FILES: libc::c_int = 2;

/// True if a process shares its table of descriptors with the one that made it (`CLONE_FILES` without `CLONE_THREAD`), by
/// which one of them can end and the table stays. Wants CAP_SYS_PTRACE for other users' processes; false where it cannot be
/// told.
pub(crate) fn shares_descriptors(process: u32) -> bool {
    parent_of(process).is_some_and(|parent| {
        // SAFETY: kcmp(2) takes integers, and compares.
        0 == unsafe { libc::syscall(libc::SYS_kcmp, process, parent, KCMP_FILES, 0, 0) }
    })
}

/// From `/proc/PID/stat` (proc(5)): number, name in parentheses, state, parent.
fn parent_of(process: u32) -> Option<libc::pid_t> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let path = format!("/proc/{process}/stat");
    let fd = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let mut text = [0; 512];
    let len = io::read(&fd, &mut text).ok()?;
    let text = String::from_utf8_lossy(&text[..len]);
    let (_, after_name) = text.rsplit_once(')')?;
    let parent = after_name.split_ascii_whitespace().nth(1)?;
    parent.parse().ok().filter(|&pid| pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_a_parent_and_descriptors_of_its_own() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let own = std::process::id();
        assert_eq!(parent_of(child.id()), Some(own as i32));
        assert!(!shares_descriptors(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(parent_of(u32::MAX), None);
    }
}
