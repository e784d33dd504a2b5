//! The editing of injected files, step by step: what a kill or a power cut at each step leaves (contract B9), what is
//! kept of the original (B34), and that no writer's change is lost.

#[path = "../harness/mod.rs"]
mod harness;

mod crashes;
mod kept;

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use etcfs::fs::enforce::inject_file::{Change, Edited, edit};
use etcfs::fs::enforce::original::EditStep;
use harness::{run, snapshot};
use rustix::fd::AsFd;
use rustix::fs::XattrFlags;

const DEADLINE: Duration = Duration::from_secs(120);
const OLD: &[u8] = b"first line\nlast line";
const TEXT: &[u8] = b"# INJECTED\nmore\n";
const NEW: &[u8] = b"first line\nlast line\n# INJECTED\nmore\n";

/// All steps that an edit may take.
const STEPS: [EditStep; 11] = [
    EditStep::Written,
    EditStep::Dressed,
    EditStep::Synced,
    EditStep::Named,
    EditStep::Switched,
    EditStep::Removed,
    EditStep::Durable,
    EditStep::Marked,
    EditStep::Changed,
    EditStep::ChangeSynced,
    EditStep::Unmarked,
];

fn put(dir: &Path, name: &str, reached: &mut dyn FnMut(EditStep)) -> Edited {
    let dir = File::open(dir).expect("open the directory");
    let name = CString::new(name).expect("a name");
    edit(dir.as_fd(), &name, Change::Put(TEXT), &|| true, reached).expect("edit")
}

/// A file with everything that an edit must keep.
fn dress(path: &Path) {
    fs::write(path, OLD).unwrap();
    std::os::unix::fs::chown(path, Some(1000), Some(1001)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    rustix::fs::setxattr(path, "user.note", b"kept", XattrFlags::empty()).unwrap();
    run(Command::new("setfacl").args(["-m", "u:1234:r"]).arg(path)).unwrap();
    let date = ["-m", "-d", "2001-02-03 04:05:06.789 UTC"];
    run(Command::new("touch").args(date).arg(path)).unwrap();
}

fn without_data(dir: &Path) -> Vec<String> {
    let tree = snapshot(dir, &["lost+found"]);
    tree.into_iter()
        .map(|(path, mut entry)| {
            entry.data = String::new();
            entry.size = 0;
            format!("{}: {entry:?}", path.display())
        })
        .collect()
}
