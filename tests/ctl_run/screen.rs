//! `top` in a real terminal, tmux's.

use super::harness::{Env, Etcfs, Opts, private};
use super::{DEADLINE, arg, failure, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A terminal of its own, 110 columns by 24 lines, in which `top` runs.
struct Terminal {
    dir: PathBuf,
}

impl Terminal {
    fn start(env: &Env, mnt: &Path) -> Terminal {
        Terminal::sized(env, mnt, "110", "24")
    }

    fn sized(env: &Env, mnt: &Path, columns: &str, lines: &str) -> Terminal {
        let terminal = Terminal {
            dir: env.dir("tmux"),
        };
        let top = format!(
            "'{}' top --interval 0.5 '{}'; echo left with $?; sleep 60",
            env!("CARGO_BIN_EXE_tested-etcfsctl"),
            mnt.display()
        );
        terminal.tmux(&["new-session", "-d", "-x", columns, "-y", lines, &top]);
        terminal
    }

    /// Runs tmux with a server of this test alone.
    fn tmux(&self, args: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-f", "/dev/null", "-S"])
            .arg(self.dir.join("socket"))
            .args(args)
            .env("TERM", "xterm-256color")
            .output()
            .unwrap_or_else(|e| panic!("run tmux: {e}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "tmux {args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// The screen, as soon as it shows `what`.
    fn shows(&self, what: &str) -> String {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if screen.contains(what) {
                return screen;
            }
            assert!(Instant::now() < until, "{what} is never shown:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(self.dir.join("socket"))
            .arg("kill-server")
            .output();
    }
}

/// Uses the mount until it is dropped.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Traffic {
    fn start(mnt: &Path) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, file, missing) = (stop.clone(), mnt.join("passwd"), mnt.join("nothing"));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let _ = fs::read(&file);
                let _ = fs::metadata(&missing);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Traffic {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn top_shows_who_and_what_and_takes_keys() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            Opts {
                config: vec!["add_global /passwd".to_owned()],
                ..Opts::strict()
            },
        );
        let mnt = etcfs.mnt();
        fs::write(etcfs.global().join("passwd"), "root\n").expect("write");
        let _traffic = Traffic::start(&mnt);
        let top = Terminal::start(env, &mnt);
        let processes = top.shows("]");
        assert!(
            processes.contains("*ops/s") && processes.contains("process"),
            "{processes}"
        );
        assert!(processes.contains("stratum here"), "{processes}");
        top.press("f");
        let paths = top.shows(&format!("{}/passwd", mnt.display()));
        assert!(paths.contains("/nothing"), "{paths}");
        top.press("/");
        for key in ["p", "a", "s", "s"] {
            top.press(key);
        }
        top.press("Enter");
        let filtered = top.shows("[only pass]");
        assert!(!filtered.contains("/nothing"), "{filtered}");
        top.press("/");
        for _ in 0..4 {
            top.press("BSpace");
        }
        top.press("Enter");
        top.press("o");
        let requests = top.shows("LOOKUP");
        assert!(requests.contains("OPEN"), "{requests}");
        top.press("s");
        top.shows("*ms/s");
        top.press("r");
        top.shows("global");
        top.press("Space");
        top.shows("PAUSED");
        top.press("q");
        top.shows("left with 0");
    });
}

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const BEGIN: &str = "<!-- top: ETCFS_WRITE_SCREEN=1 cargo nextest run screenshot writes this -->\n";
const END: &str = "<!-- /top -->\n";

/// Programs that use a mount until they are dropped: one reads accounts, one looks for what is not there, one searches units.
struct Load(Vec<std::process::Child>);

impl Load {
    fn start(mnt: &Path) -> Load {
        let unit = mnt.join("systemd/system");
        fs::create_dir_all(&unit).expect("mkdir");
        for n in 0..20 {
            fs::write(unit.join(format!("unit-{n}.service")), "[Unit]\n").expect("write");
        }
        for name in ["group", "nsswitch.conf", "resolv.conf"] {
            fs::write(mnt.join(name), "x\n").expect("write");
        }
        let awk =
            r#"BEGIN { while (1) { while ((getline line < "passwd") > 0); close("passwd") } }"#;
        let sh = "while :; do read line <nsswitch.conf; [ -e ld.so.preload ]; done";
        let list = "while :; do grep -rq Description systemd; sleep 0.1; done";
        let programs = [
            ("awk", vec![awk]),
            ("sh", vec!["-c", sh]),
            ("bash", vec!["-c", list]),
        ];
        let run = |(program, args)| {
            let mut command = Command::new(program);
            let child = command.args::<_, &str>(args).current_dir(mnt).spawn();
            child.unwrap_or_else(|e| panic!("run {program}: {e}"))
        };
        Load(programs.map(run).into())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// With ETCFS_WRITE_SCREEN set, what this sees becomes the screenshot.
#[test]
fn the_screenshot_in_the_readme_is_what_top_shows() {
    private(DEADLINE, |env| {
        let opts = Opts {
            config: ["passwd", "group", "hosts"]
                .map(|name| format!("add_global /{name}"))
                .into(),
            options: vec!["threads=2".to_owned(), "cache=strict".to_owned()],
            ..Opts::default()
        };
        let etcfs = Etcfs::start(env, opts);
        let mnt = etcfs.mnt();
        for name in ["passwd", "hosts"] {
            fs::write(etcfs.global().join(name), "root\n").expect("write");
        }
        let _load = Load::start(&mnt);
        let top = Terminal::sized(env, &mnt, "100", "16");
        for what in ["awk[", "sh["] {
            top.shows(what);
        }
        let processes = top.shows("grep[");
        top.press("f");
        top.shows("ld.so.preload");
        top.shows("/unit-");
        let readme = fs::read_to_string(README).expect("README.md");
        let begin = readme.find(BEGIN).expect("the mark before the screenshot") + BEGIN.len();
        let end = readme.find(END).expect("the mark after it");
        if std::env::var_os("ETCFS_WRITE_SCREEN").is_some() {
            // What was mounted is a test's own directory.
            let lines = processes.lines().filter(|line| !line.trim().is_empty());
            let lines: Vec<&str> = lines.collect();
            let block = format!(
                "```\n{}\n```\n",
                lines.join("\n").replace(arg(&mnt), "/etc")
            );
            let whole = [&readme[..begin], &block, &readme[end..]].concat();
            fs::write(README, whole).expect("write README.md");
            return;
        }
        let is_head = |line: &&str| line.contains("*ops/s");
        let shown: Vec<&str> = readme[begin..end].lines().filter(is_head).collect();
        let live: Vec<&str> = processes.lines().filter(is_head).collect();
        assert_eq!(shown, live);
    });
}

#[test]
fn top_without_a_terminal_points_elsewhere_or_prints_json() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        fs::write(mnt.join("passwd"), "root\n").expect("write");
        assert!(failure(&["top", arg(&mnt)]).contains("needs a terminal"));
        let _traffic = Traffic::start(&mnt);
        let sums = json(&["top", "--count", "1", "--interval", "0.5", arg(&mnt)]);
        let paths = sums["paths"].as_array().expect("paths");
        let name = arg(&mnt.join("passwd")).to_owned();
        assert!(
            paths.iter().any(|row| row["name"] == name.as_str()),
            "{sums}"
        );
    });
}
