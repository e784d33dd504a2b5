//! Extended attributes of all namespaces on objects of every kind, with the native limits and probes (B11).

use crate::compared;
use crate::harness::{Root, User, errno};
use rustix::fs::{
    FileType, Mode, XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr, mknodat, symlinkat,
};
use rustix::io::{Errno, Result};
use std::fs;

const KINDS: [&str; 6] = ["file", "dir", "link", "fifo", "secret", "run"];
const ATTRS: [&str; 6] = [
    "user.k",
    "trusted.k",
    "security.k",
    "security.capability",
    "system.k",
    "unknown.k",
];

fn make(root: &Root) -> Result<()> {
    fs::write(root.join("file"), "x").map_err(errno)?;
    fs::create_dir(root.join("dir")).map_err(errno)?;
    symlinkat("missing", &root.dir, "link")?;
    mknodat(&root.dir, "fifo", FileType::Fifo, Mode::RWXU, 0)?;
    for (name, mode) in [("secret", 0), ("run", 0o777)] {
        fs::write(root.join(name), "x").map_err(errno)?;
        fs::set_permissions(
            root.join(name),
            std::os::unix::fs::PermissionsExt::from_mode(mode),
        )
        .map_err(errno)?;
    }
    Ok(())
}

fn get(root: &Root, name: &str, attr: &str, size: usize) -> Result<Vec<u8>> {
    let mut value = vec![0_u8; size];
    let len = lgetxattr(root.join(name), attr, &mut value[..])?;
    value.truncate(len);
    Ok(value)
}

/// The listed names, in order of the alphabet: file systems list in orders of their own.
fn list(root: &Root, name: &str) -> Result<Vec<Vec<u8>>> {
    let mut names = vec![0_u8; 65536];
    let len = llistxattr(root.join(name), &mut names[..])?;
    let mut all: Vec<_> = names[..len]
        .split_inclusive(|b| *b == 0)
        .map(<[u8]>::to_vec)
        .collect();
    all.sort();
    Ok(all)
}

#[test]
fn b11_every_namespace_passes_through_on_every_kind() {
    compared(|pair| {
        assert_eq!(pair.same("make", make), Ok(()));
        for user in [User::plain(0), User::plain(1000)] {
            for name in KINDS {
                pair.each_as(&user, |root| {
                    let mut all = Vec::new();
                    let path = root.join(name);
                    let mut note = |what: String, result: Result<String>| {
                        all.push((format!("{what} {name}"), result))
                    };
                    for attr in ATTRS {
                        let value: &[u8] = match attr {
                            "security.capability" => &[
                                1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                            ],
                            _ => b"value\0with nul",
                        };
                        let set =
                            |flags| lsetxattr(&path, attr, value, flags).map(|()| String::new());
                        note(format!("replace {attr}"), set(XattrFlags::REPLACE));
                        note(format!("create {attr}"), set(XattrFlags::CREATE));
                        note(format!("create {attr} again"), set(XattrFlags::CREATE));
                        note(format!("set {attr}"), set(XattrFlags::empty()));
                        note(
                            format!("get {attr}"),
                            get(root, name, attr, 100).map(|v| format!("{v:?}")),
                        );
                        note(
                            format!("get {attr} short"),
                            get(root, name, attr, 3).map(|v| format!("{v:?}")),
                        );
                        let probe = lgetxattr(&path, attr, &mut [0_u8; 0][..]);
                        note(format!("probe {attr}"), probe.map(|n| n.to_string()));
                    }
                    note(
                        "list".to_owned(),
                        list(root, name).map(|l| format!("{l:?}")),
                    );
                    let short = llistxattr(&path, &mut [0_u8; 3][..]);
                    note("list short".to_owned(), short.map(|n| n.to_string()));
                    for attr in ATTRS {
                        let removed = lremovexattr(&path, attr);
                        note(format!("remove {attr}"), removed.map(|()| String::new()));
                        let again = lremovexattr(&path, attr);
                        note(
                            format!("remove {attr} again"),
                            again.map(|()| String::new()),
                        );
                    }
                    note(
                        "list nothing".to_owned(),
                        list(root, name).map(|l| format!("{l:?}")),
                    );
                    all
                });
            }
        }
    });
}

#[test]
fn b11_sizes_have_the_native_limits() {
    compared(|pair| {
        assert_eq!(pair.same("make", make), Ok(()));
        for name in ["file", "dir"] {
            for size in [0, 1, 255, 3000, 65535, 65536, 65537] {
                let value = vec![b'v'; size];
                let _ = pair.same(&format!("set {size} on {name}"), |root| {
                    let path = root.join(name);
                    let set = lsetxattr(&path, "user.big", &value, XattrFlags::empty());
                    let whole = get(root, name, "user.big", 65536).map(|v| v.len());
                    let exact = get(root, name, "user.big", size).map(|v| v.len());
                    let short =
                        get(root, name, "user.big", size.saturating_sub(1)).map(|v| v.len());
                    Ok((set, whole, exact, short))
                });
            }
        }
        let long = format!("user.{}", "n".repeat(251));
        let refused = pair.same("a name of 256 bytes", |root| {
            lsetxattr(root.join("file"), &*long, b"v", XattrFlags::empty())
        });
        assert_eq!(refused, Err(Errno::RANGE));
        let fits = pair.same("a name of 255 bytes", |root| {
            lsetxattr(root.join("dir"), &long[..255], b"v", XattrFlags::empty())?;
            list(root, "dir")
        });
        assert!(fits.is_ok_and(|l| l.iter().any(|n| n.len() == 256)));
    });
}

#[test]
fn many_attributes_are_listed() {
    compared(|pair| {
        assert_eq!(pair.same("make", make), Ok(()));
        let listed = pair.same("many", |root| {
            for n in 0..60 {
                lsetxattr(
                    root.join("file"),
                    format!("user.attribute-number-{n}"),
                    b"v",
                    XattrFlags::empty(),
                )?;
            }
            list(root, "file")
        });
        assert_eq!(listed.map(|l| l.len()), Ok(60));
    });
}
