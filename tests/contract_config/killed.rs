//! The process that serves is killed, and another one goes on with the configuration: each write counts once, begun lines and
//! what readers are shown stay as they are, and text that was configured no more leaves its files (D25, D30, D34).

use crate::harness::{Bases, CONFIG, Env, Etcfs, Lower, Opts, private};
use crate::{DEADLINE, names};
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn kept(env: &Env, lower: Lower) -> Etcfs {
    Etcfs::serve(
        env,
        Bases::new(env, lower),
        Opts {
            options: vec!["keeper=yes,max_deaths=0".into()],
            ..Opts::default()
        },
    )
}

fn writer(etcfs: &Etcfs) -> File {
    let open = OpenOptions::new()
        .append(true)
        .open(etcfs.mnt().join(CONFIG));
    open.expect("open the configuration")
}

/// Carries out `work` while servers are killed one after the other, each after another time. Answers how many were.
fn struck(etcfs: &Etcfs, work: impl FnOnce()) -> usize {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let striker = scope.spawn(|| {
            let mut kills = 0;
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(3000 + kills as u64 * 701 % 9000));
                etcfs.kill_server();
                kills += 1;
            }
            kills
        });
        work();
        over.store(true, Ordering::Relaxed);
        striker.join().expect("the striker")
    })
}

#[test]
fn d30_each_write_counts_once_and_begun_lines_go_on() {
    private(DEADLINE, |env| {
        let etcfs = kept(env, Lower::Tmpfs);
        let mut writer = writer(&etcfs);
        let mut lines = String::new();
        let mut expected = String::new();
        for n in 0..150 {
            lines += &format!("add_global /name{n}\n");
            if n % 3 == 0 {
                lines += &format!("rm_global /name{n}\nadd_global /dir/name{n}\n");
                expected += &format!("global /dir/name{n}\n");
            } else {
                expected += &format!("global /name{n}\n");
            }
        }
        let kills = struck(&etcfs, || {
            // Cut anywhere, as a program that writes through a buffer does.
            for (n, piece) in lines.as_bytes().chunks(13).enumerate() {
                assert_eq!(writer.write(piece).ok(), Some(piece.len()), "piece {n}");
            }
        });
        assert_eq!(
            etcfs.read_config().expect("read"),
            expected,
            "{kills} kills"
        );
        assert!(kills > 2, "{kills}");
        // A line that never got its newline is none, whoever was told its beginning.
        writer.write_all(b"add_global /nev").expect("write");
        etcfs.kill_server();
        drop(writer);
        etcfs.kill_server();
        assert_eq!(etcfs.read_config().expect("read"), expected);
    });
}

#[test]
fn d24_a_reader_is_shown_one_configuration_to_its_end() {
    private(DEADLINE, |env| {
        let etcfs = kept(env, Lower::Tmpfs);
        let rules: Vec<String> = (0..500).map(|n| format!("add_global /a{n}")).collect();
        etcfs.write_config(&rules).expect("write");
        let shown = etcfs.read_config().expect("read");
        let mut reader = File::open(etcfs.mnt().join(CONFIG)).expect("open");
        let mut text = vec![0; 100];
        reader.read_exact(&mut text).expect("read");
        etcfs.kill_server();
        etcfs
            .write_config(&["rm_global /a0", "add_global /other"])
            .expect("write");
        // Enough to have what there was written anew, without what is no more.
        for _ in 0..200 {
            etcfs.read_config().expect("read");
        }
        etcfs.kill_server();
        reader.read_to_end(&mut text).expect("read");
        assert_eq!(String::from_utf8_lossy(&text), shown);
        assert_ne!(etcfs.read_config().expect("read"), shown);
    });
}

const OWN: &str = "own line\n";
const TEXT: &str = "# injected\nmore\n";

/// Text is put into a file and taken out of it again and again, while servers are killed.
fn injected_and_taken_out(lower: Lower, links: bool) {
    private(DEADLINE, move |env| {
        let etcfs = kept(env, lower);
        let source = env.scratch().join("source");
        fs::write(&source, TEXT).expect("write");
        let below = etcfs.local().join("dir");
        fs::create_dir(&below).expect("mkdir");
        let file = below.join("file");
        fs::write(&file, OWN).expect("write");
        if links {
            fs::hard_link(&file, below.join("link")).expect("link");
        }
        let add = format!("add_override inject /dir/file {}", source.display());
        let seen = etcfs.mnt().join("dir/file");
        let kills = struck(&etcfs, || {
            for round in 0..25 {
                etcfs.write_config(&[&add]).expect("add");
                let text = fs::read_to_string(&seen).expect("read");
                assert!(text.contains(TEXT) && text.contains(OWN), "{round}: {text}");
                etcfs
                    .write_config(&["rm_override /dir/file"])
                    .expect("remove");
                assert_eq!(fs::read_to_string(&file).expect("read"), OWN, "{round}");
            }
        });
        assert!(kills > 2, "{kills}");
        let expected: &[&str] = if links { &["file", "link"] } else { &["file"] };
        assert_eq!(
            names(&below).into_iter().collect::<Vec<_>>(),
            expected,
            "{kills} kills"
        );
        let marked = rustix::fs::getxattr(&file, c"trusted.etcfs.length", &mut [0_u8; 8][..]);
        assert!(marked.is_err(), "no edit is left half way");
        fs::remove_dir_all(etcfs.mnt().join("dir")).expect("remove all");
    });
}

#[test]
fn d34_text_is_taken_out_whoever_is_killed_over_it() {
    injected_and_taken_out(Lower::Tmpfs, false);
}

#[test]
fn d34_text_is_taken_out_of_a_file_with_several_names_whoever_is_killed_over_it() {
    injected_and_taken_out(Lower::Ext4, true);
}
