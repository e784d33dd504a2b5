//! What mount(8) was asked for, when it is mount(8) that runs this program.
//!
//! mount(8) leaves out `dev` and `suid`, which are its defaults, and mount.fuse3 appends both to every list that does not say
//! otherwise: so the list cannot tell whether anybody has asked for them. The command line of mount(8) can, and fstab.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::list;

/// Whether somebody has asked for these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `dev`.
    pub(crate) dev: bool,
    /// `suid`.
    pub(crate) suid: bool,
}

impl Wanted {
    /// What one list says; of opposites the last one holds.
    fn take(&mut self, list: &OsStr) {
        for item in list::split(list) {
            match item.as_bytes() {
                b"dev" => self.dev = true,
                b"nodev" => self.dev = false,
                b"suid" => self.suid = true,
                b"nosuid" => self.suid = false,
                _ => {}
            }
        }
    }
}

/// Takes off `list` what mount.fuse3 has appended to it: `dev` unless there is `nodev`, and `suid` unless there is `nosuid`.
/// None: it is not a list of mount(8)'s, which begin with `rw` or `ro`.
pub(super) fn without_appended(list: &mut Vec<OsString>) -> Option<Wanted> {
    let has = |list: &[OsString], item: &str| list.iter().any(|i| i == item);
    if !list
        .first()
        .is_some_and(|first| first == "rw" || first == "ro")
    {
        return None;
    }
    let appended = Wanted {
        dev: !has(list, "nodev"),
        suid: !has(list, "nosuid"),
    };
    for (item, on) in [("suid", appended.suid), ("dev", appended.dev)] {
        if on {
            list.last().filter(|last| *last == item)?;
            list.pop();
        }
    }
    Some(appended)
}

/// How many processes above are looked at: a shell, mount.fuse3, mount(8), and a margin.
const ABOVE: u32 = 6;

/// What mount(8), a process above this one, was asked for on its command line or in fstab for this mountpoint. Nothing if
/// there is no such process, or it is not root's.
pub fn asked_of_mount(mountpoint: &Path) -> Wanted {
    let mut asked = Wanted::default();
    let Some(command) = mount_above() else {
        return asked;
    };
    let mut fstab = OsString::from("/etc/fstab");
    let mut lists = Vec::new();
    let mut args = lexopt::Parser::from_args(command.into_iter().skip(1));
    while let Ok(Some(arg)) = args.next() {
        use lexopt::Arg::{Long, Short};
        match arg {
            Short('o') | Long("options") => lists.extend(args.value()),
            Short('T') | Long("fstab") => fstab = args.value().unwrap_or_default(),
            // The others of mount(8) that take a value.
            Short('t' | 'O' | 'L' | 'U' | 'N') => drop(args.value()),
            _ => {}
        }
    }
    if let Ok(text) = std::fs::read(fstab) {
        fstab_options(&text, mountpoint)
            .iter()
            .for_each(|list| asked.take(list));
    }
    lists.iter().for_each(|list| asked.take(list));
    asked
}

/// The options of the lines for `mountpoint`.
fn fstab_options(text: &[u8], mountpoint: &Path) -> Vec<OsString> {
    let fields = |line: &[u8]| -> Vec<Vec<u8>> {
        line.split(|b| b.is_ascii_whitespace())
            .filter(|field| !field.is_empty())
            .map(crate::mount::mountinfo::unescape)
            .collect()
    };
    text.split(|&b| b == b'\n')
        .map(fields)
        .filter(|line| line.len() >= 4 && !line[0].starts_with(b"#"))
        .filter(|line| Path::new(OsStr::from_bytes(&line[1])) == mountpoint)
        .map(|line| OsStr::from_bytes(&line[3]).to_owned())
        .collect()
}

/// The command line of root's mount(8) above this process.
fn mount_above() -> Option<Vec<OsString>> {
    let mut pid = rustix::process::getppid()?.as_raw_pid();
    for _ in 0..ABOVE {
        let dir = format!("/proc/{pid}");
        let line = std::fs::read(format!("{dir}/cmdline")).ok()?;
        let args: Vec<OsString> = line
            .split(|&b| b == 0)
            .map(|arg| OsStr::from_bytes(arg).to_owned())
            .collect();
        let program = args.first().and_then(|arg| Path::new(arg).file_name());
        if program == Some(OsStr::new("mount")) {
            return std::fs::metadata(&dir)
                .is_ok_and(|dir| dir.uid() == 0)
                .then_some(args);
        }
        let stat = std::fs::read_to_string(format!("{dir}/stat")).ok()?;
        // The command's name, in parentheses, may hold anything.
        let (_, after) = stat.rsplit_once(')')?;
        pid = after.split_ascii_whitespace().nth(1)?.parse().ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<OsString> {
        list::split(OsStr::new(text))
    }

    #[test]
    fn what_mount_fuse3_appends_is_taken_off_again() {
        for (text, rest, dev, suid) in [
            ("rw,dev,suid", "rw", true, true),
            ("ro,global=/g,dev,suid", "ro,global=/g", true, true),
            ("rw,nosuid,dev", "rw,nosuid", true, false),
            ("rw,nodev,suid", "rw,nodev", false, true),
            ("rw,nodev,nosuid", "rw,nodev,nosuid", false, false),
        ] {
            let mut items = list(text);
            let appended = without_appended(&mut items);
            assert_eq!(appended, Some(Wanted { dev, suid }), "{text}");
            assert_eq!(items, list(rest), "{text}");
        }
        for text in ["dev,suid", "dev", "rw,dev", "rw,suid,dev", ""] {
            assert_eq!(without_appended(&mut list(text)), None, "{text}");
        }
    }

    #[test]
    fn a_line_of_fstab_counts_for_its_mountpoint() {
        let text = b"# etc /mnt fuse.etcfs dev 0 0\n\netcfs /a\\040b fuse.etcfs allow_other,dev 0 0\nx /c fuse suid\n";
        let of = |at: &str| {
            let mut asked = Wanted::default();
            let lists = fstab_options(text, Path::new(at));
            lists.iter().for_each(|list| asked.take(list));
            (asked.dev, asked.suid)
        };
        assert_eq!(of("/a b"), (true, false));
        assert_eq!(of("/c/"), (false, true));
        assert_eq!(of("/mnt"), (false, false));
    }
}
