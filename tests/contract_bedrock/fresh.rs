//! U3: what one stratum writes is what the other reads with its next call.

use super::world;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

fn number(bytes: &[u8]) -> u32 {
    std::str::from_utf8(bytes)
        .expect("digits")
        .trim()
        .parse()
        .expect("a number")
}

/// Writes versions through `writer` and checks each one through `reader`, both files being open all the time.
fn through_open_files(writer: &Path, reader: &Path, versions: std::ops::Range<u32>) -> u32 {
    let out = OpenOptions::new().write(true).open(writer).expect("open");
    let read = fs::File::open(reader).expect("open");
    let mut checks = 0;
    for version in versions {
        out.write_all_at(format!("{version:08}").as_bytes(), 0)
            .expect("write");
        let mut bytes = [0; 8];
        read.read_exact_at(&mut bytes, 0).expect("read");
        assert_eq!(number(&bytes), version, "stale data");
        checks += 1;
    }
    checks
}

/// The same with everything opened by name each time.
fn by_name(reader: &Path, versions: std::ops::Range<u32>, write: &mut dyn FnMut(&str)) -> u32 {
    let mut checks = 0;
    for version in versions {
        // The length changes, so that old attributes would show as well.
        let text = format!("{version:0width$}", width = 8 + (version % 5) as usize);
        write(&text);
        assert_eq!(fs::metadata(reader).expect("stat").len(), text.len() as u64);
        assert_eq!(
            number(&fs::read(reader).expect("read")),
            version,
            "stale data"
        );
        checks += 2;
    }
    checks
}

#[test]
fn u3_a_hundred_thousand_version_checks_and_no_stale_read() {
    world(|world| {
        let alpha = world.etc("alpha", "hosts");
        let beta = world.etc("beta", "hosts");
        let beneath = world.stratum("bedrock").join("etc/hosts");
        fs::write(&alpha, "00000000").expect("write");
        let mut checks = 0;
        for (writer, reader, base) in [(&alpha, &beta, 0), (&beta, &alpha, 1_000_000)] {
            checks += through_open_files(writer, reader, base + 1..base + 45_001);
            checks += by_name(reader, base + 45_001..base + 46_501, &mut |text| {
                fs::write(writer, text).expect("write");
            });
            let temporary = writer.with_file_name("hosts.new");
            checks += by_name(reader, base + 46_501..base + 48_001, &mut |text| {
                fs::write(&temporary, text).expect("write");
                fs::rename(&temporary, writer).expect("rename");
            });
            checks += by_name(reader, base + 48_001..base + 48_501, &mut |text| {
                fs::write(&beneath, text).expect("write through the third stratum");
            });
        }
        assert!(checks >= 100_000, "{checks}");
    });
}

#[test]
fn u3_names_that_come_and_go_are_seen_at_once() {
    world(|world| {
        let alpha = world.etc("alpha", "resolv.conf");
        let beta = world.etc("beta", "resolv.conf");
        let _ = fs::remove_file(&alpha);
        for n in 0..500 {
            assert!(fs::symlink_metadata(&beta).is_err(), "round {n}");
            std::os::unix::fs::symlink(format!("{n}"), &alpha).expect("symlink");
            assert_eq!(
                fs::read_link(&beta).expect("readlink"),
                Path::new(&format!("{n}"))
            );
            fs::remove_file(&beta).expect("remove");
            assert!(fs::symlink_metadata(&alpha).is_err(), "round {n}");
            // Beneath the mount, as a package manager of another stratum does it.
            let lower = world.etc("alpha", "fstab");
            fs::write(&lower, format!("{n}")).expect("write");
            assert_eq!(fs::read_to_string(&lower).expect("read"), format!("{n}"));
        }
    });
}
