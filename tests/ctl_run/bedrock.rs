//! `bedrock`, on made-up roots.

use crate::{arg, json, run};
use std::fs;
use std::path::PathBuf;

/// A root directory, removed at the end.
struct Root(PathBuf);

impl Root {
    /// With nothing to be said about it, but for what `change` does.
    fn new(name: &str, change: impl FnOnce(&Root)) -> Root {
        let name = format!("etcfsctl-bedrock-{name}-{}", std::process::id());
        let root = Root(std::env::temp_dir().join(name));
        root.write(
            "bedrock/etc/bedrock.conf",
            "[global]\netc = passwd, group, .pwd.lock\n[etc-symlinks]\nlocaltime = /run/zone\n",
        );
        root.write("bedrock/etc/bedrock-release", "Bedrock Linux 0.7.32 Poki\n");
        root.write(
            "bedrock/share/common-code",
            "apply() {\n\tawk '{ print \"rm_\" $1 \" \" $2 }'\n}\n",
        );
        root.write(
            "bedrock/libexec/brl-repair",
            "#!/bedrock/libexec/busybox sh\n",
        );
        root.write("proc/sys/kernel/osrelease", "6.12.1-made-up\n");
        let program = root.path("bedrock/libexec/etcfs");
        fs::copy(env!("CARGO_BIN_EXE_etcfs"), program).expect("copy the daemon");
        change(&root);
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
        fs::write(path, text).expect("write");
    }

    /// The exit status and the lines.
    fn said(&self) -> (Option<i32>, Vec<String>) {
        let output = run(&["bedrock", "--root", arg(&self.0)]);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        (
            output.status.code(),
            text.lines().map(str::to_owned).collect(),
        )
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn bedrock_has_nothing_to_say_where_all_is_well() {
    let root = Root::new("well", |_| {});
    assert_eq!(root.said(), (Some(0), vec![]));
    let said = json(&["bedrock", "--root", arg(&root.0)]);
    assert_eq!(said, serde_json::json!({ "findings": [] }));
}

#[test]
fn bedrock_names_each_thing_with_its_remedy() {
    type Change = fn(&Root);
    let cases: &[(&str, Change, &[&[&str]])] = &[
        (
            "lock",
            |root| root.write("bedrock/etc/bedrock.conf", "[global]\netc = passwd\n"),
            &[&[
                "/bedrock/etc/bedrock.conf: /etc/.pwd.lock is not global",
                "; add .pwd.lock to etc in [global]",
            ]],
        ),
        (
            "conf",
            |root| {
                root.write(
                    "bedrock/etc/bedrock.conf",
                    "[global]\netc = .pwd.lock, ../x\n",
                )
            },
            &[&[
                "/bedrock/etc/bedrock.conf:2: ",
                "component . or ..",
                "; correct the line",
            ]],
        ),
        (
            "removal",
            |root| {
                let line = "apply() {\n\tawk '{ print \"rm_\" $1 \" \" $3 }'\n}\n";
                root.write("bedrock/share/common-code", line);
            },
            &[&[
                "/bedrock/share/common-code:2: ",
                "empty path",
                "; send the second field",
                "rm_global /NAME",
            ]],
        ),
        (
            "repair",
            |root| root.write("bedrock/etc/bedrock-release", "Bedrock Linux 0.7.31 Poki\n"),
            &[&[
                "/bedrock/libexec/brl-repair: ",
                "cannot mend",
                "; start that daemon anew",
                "chroot /bedrock/strata/",
            ]],
        ),
        (
            "old kernel",
            |root| root.write("proc/sys/kernel/osrelease", "5.15.0-91-generic\n"),
            &[&[
                "kernel: Linux 5.15.0-91-generic has no passthrough",
                "; boot Linux 6.9 or newer",
            ]],
        ),
        (
            "older kernel",
            |root| root.write("proc/sys/kernel/osrelease", "4.19.0\n"),
            &[&["kernel: Linux 4.19.0 is too old", "; boot Linux 5.4"]],
        ),
        (
            "other program",
            |root| root.write("bedrock/libexec/etcfs", "another program"),
            &[&[
                "/bedrock/libexec/etcfs: this is another program",
                "; keep it as etcfs.c",
            ]],
        ),
        (
            "no program",
            |root| {
                fs::remove_file(root.path("bedrock/libexec/etcfs")).expect("remove");
                fs::create_dir(root.path("bedrock/libexec/etcfs")).expect("mkdir");
            },
            &[&[
                "/bedrock/libexec/etcfs: it cannot be read: it is not a regular file",
                "; copy etcfs there",
            ]],
        ),
    ];
    for (name, change, expected) in cases {
        let root = Root::new(name, change);
        let (code, lines) = root.said();
        assert_eq!(
            (code, lines.len()),
            (Some(1), expected.len()),
            "{name}: {lines:?}"
        );
        for (line, parts) in lines.iter().zip(*expected) {
            assert!(line.starts_with(parts[0]), "{line}");
            for part in *parts {
                assert!(line.contains(part), "{line:?} lacks {part:?}");
            }
            assert!(!line.contains("(os error"), "{line}");
        }
        let said = run(&["-j", "bedrock", "--root", arg(&root.0)]);
        assert_eq!(said.status.code(), Some(1), "{name}");
        let said: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
        let first = &said["findings"][0];
        for field in ["path", "text", "remedy"] {
            assert!(!first[field].as_str().expect(field).is_empty(), "{first}");
        }
    }
}

#[test]
fn bedrock_ends_with_2_where_it_cannot_look() {
    for line in [
        &["bedrock", "--root", "/no/such/root"][..],
        &["bedrock", "--bogus"],
        &["bedrock", "too", "many"],
    ] {
        let output = run(line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
