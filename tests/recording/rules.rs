//! The rules that a recording was made under are carried out with it.

use super::*;

/// A stratum with every kind of rule.
fn configured(env: &Env) -> Etcfs {
    let source = path(env, "injection");
    fs::write(&source, "injected line\n").expect("write");
    let etcfs = Etcfs::start(env, Opts::default());
    let (local, global) = (etcfs.local(), etcfs.global());
    for dir in [
        local.join("default"),
        global.join("default"),
        global.join("shared"),
    ] {
        fs::create_dir(dir).expect("mkdir");
    }
    for (file, text) in [
        (local.join("passwd"), "root:x:0:0"),
        (local.join("profile"), "PATH=/bin\n"),
        (local.join("later"), "the stratum's own"),
        (global.join("hosts"), "127.0.0.1 localhost"),
        (global.join("default/grub"), "GRUB_DEFAULT=0"),
        (global.join("shared/one"), "1"),
        (global.join("later"), "everybody's, and longer"),
    ] {
        fs::write(file, text).expect("write below");
    }
    let inject = format!("add_override inject /profile {}", str(&source));
    let lines = [
        "add_global /hosts",
        "add_global /default/grub",
        "add_global /shared",
        "add_override symlink /localtime /usr/share/zoneinfo/UTC",
        "add_override directory /made x",
        &inject,
    ];
    etcfs.write_config(&lines).expect("configure");
    etcfs
}

fn use_what_is_configured(etcfs: &Etcfs) {
    let mnt = etcfs.mnt();
    let read = |name: &str| fs::read_to_string(mnt.join(name)).expect("read");
    assert_eq!(read("hosts"), "127.0.0.1 localhost");
    assert_eq!(read("default/grub"), "GRUB_DEFAULT=0");
    assert_eq!(read("profile"), "PATH=/bin\ninjected line\n");
    assert_eq!(read("later"), "the stratum's own");
    let zone = fs::read_link(mnt.join("localtime")).expect("readlink");
    assert_eq!(zone, Path::new("/usr/share/zoneinfo/UTC"));
    for dir in [mnt.clone(), mnt.join("shared"), mnt.join("made")] {
        fs::read_dir(dir).expect("list").count();
    }
    fs::write(mnt.join("shared/two"), "22").expect("write");
    // What passwd(1) and editors do: a local temporary file over a global name.
    fs::write(mnt.join("hosts.new"), "::1 localhost").expect("write");
    fs::rename(mnt.join("hosts.new"), mnt.join("hosts")).expect("rename");
    assert_eq!(read("hosts"), "::1 localhost");
    // The rules change in the middle.
    let lines = ["add_global /later", "rm_override /localtime"];
    etcfs.write_config(&lines).expect("configure");
    assert_eq!(read("later"), "everybody's, and longer");
    fs::remove_file(mnt.join("localtime")).expect("unlink");
    assert!(!mnt.join("localtime").exists());
}

#[test]
fn a_recording_is_carried_out_under_the_rules_that_it_was_made_under() {
    private(DEADLINE, |env| {
        let etcfs = configured(env);
        let file = path(env, "a.etcfsrec");
        // The two sides as they were at the beginning.
        let (local, global) = (path(env, "local"), path(env, "global"));
        for (from, to) in [(etcfs.local(), &local), (etcfs.global(), &global)] {
            let copied = Command::new("cp").arg("-a").args([&from, to]).status();
            assert!(copied.expect("cp").success());
        }
        record(&etcfs, &file, &[], || use_what_is_configured(&etcfs));
        let decoded = text(&output(&["decode", str(&file)]).stdout);
        assert!(
            decoded.contains("= rules: add_global /hosts; add_global /default/grub; "),
            "{decoded}"
        );
        assert!(decoded.contains("; source 14 /"), "{decoded}");
        // Elsewhere there is no such file.
        fs::remove_file(path(env, "injection")).expect("remove");
        let report = replay(&[str(&file)]);
        assert_eq!(report["differing"], 0, "{report:#}");
        assert_eq!(report["left_out"], serde_json::json!({}), "{report:#}");
        let report = replay(&[
            "--against",
            str(&local),
            "--global",
            str(&global),
            str(&file),
        ]);
        assert_eq!(report["differing"], 0, "{report:#}");
    });
}

#[test]
fn rules_are_carried_out_with_hidden_names_too() {
    private(DEADLINE, |env| {
        let etcfs = configured(env);
        let file = path(env, "hidden.etcfsrec");
        record(&etcfs, &file, &["--redact"], || {
            use_what_is_configured(&etcfs)
        });
        let bytes = fs::read(&file).expect("the recording");
        for word in ["hosts", "localtime", "injection", "zoneinfo"] {
            let found = bytes.windows(word.len()).any(|at| at == word.as_bytes());
            assert!(!found, "{word}");
        }
        let report = replay(&[str(&file)]);
        assert_eq!(report["differing"], 0, "{report:#}");
    });
}
