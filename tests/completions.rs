//! The completions, made as `make docs` makes them, loaded by real shells in a real terminal (tmux's) and asked with Tab.

#[path = "../src/docs/completions.rs"]
mod completions;
#[path = "../src/docs/help.rs"]
mod help;
mod pages {
    //! What `src/docs/pages.rs` calls a subcommand.
    pub type CommandHelp = (String, String, super::help::Help);
}

use help::Help;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

fn help_of(program: &str, arguments: &[&str]) -> Help {
    let mut command = Command::new(program);
    let output = command.args(arguments).arg("--help").output();
    let output = output.unwrap_or_else(|e| panic!("run {program}: {e}"));
    assert!(output.status.success(), "{program} {arguments:?} --help");
    Help::parse(&String::from_utf8(output.stdout).expect("UTF-8"))
}

/// A directory with the completion files and for a shell's own files; removed at the end, with the terminal in it.
struct Shell(PathBuf);

impl Shell {
    /// Starts `command` with the completions of this shell in `files`, and nothing of this machine's.
    fn start(command: &str, files: &[(&str, String)]) -> Shell {
        let name = command.split(' ').next().expect("a program");
        let dir = format!("etcfs-completions-{name}-{}", std::process::id());
        let shell = Shell(std::env::temp_dir().join(dir));
        fs::create_dir_all(&shell.0).expect("a scratch directory");
        for (name, text) in files {
            fs::write(shell.0.join(name), text).expect("write");
        }
        shell.tmux(&["new-session", "-d", "-x", "150", "-y", "50", command]);
        shell
    }

    fn tmux(&self, args: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-f", "/dev/null", "-S"])
            .arg(self.0.join("socket"))
            .args(args)
            .env("HOME", &self.0)
            .env("TERM", "xterm-256color")
            .current_dir(&self.0)
            .output()
            .unwrap_or_else(|e| panic!("run tmux: {e}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "tmux {args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn types(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys", "--"], keys].concat());
    }

    /// Waits until the screen shows `what`.
    fn shows(&self, what: &str) {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if screen.contains(what) {
                return;
            }
            assert!(Instant::now() < until, "{what} is never shown:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Has the shell load its files, then asks both completions.
    fn completes(&self, load: &str) {
        // The word appears on the screen as output only: what is typed has a quote in it.
        self.types(&[&format!("{load}; echo lo'aded'"), "Enter"]);
        self.shows("loaded");
        for (typed, completed) in [
            ("etcfsctl sta", "etcfsctl stats"),
            ("etcfsctl doc", "etcfsctl doctor"),
            ("etcfsctl stats --prom", "etcfsctl stats --prometheus"),
            ("etcfs -o pass", "etcfs -o passthrough"),
            (
                "etcfs -o allow_other,pass",
                "etcfs -o allow_other,passthrough",
            ),
            ("etcfs -o glob", "etcfs -o global="),
        ] {
            self.types(&[typed, "Tab"]);
            self.shows(completed);
            // Away with the line; not by an interrupt, at which the terminal drops what is typed next.
            self.types(&["C-u"]);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(self.0.join("socket"));
        let _ = tmux.arg("kill-server").output();
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the files are made from.
fn sources() -> (Help, Vec<pages::CommandHelp>) {
    let ctl = env!("CARGO_BIN_EXE_tested-etcfsctl");
    let help = help_of(ctl, &[]);
    let commands = help.items("Commands").map(|item| {
        let name = item.term.split_whitespace().next().expect("a name");
        (name.to_owned(), item.text.clone(), help_of(ctl, &[name]))
    });
    (
        help_of(env!("CARGO_BIN_EXE_etcfs"), &[]),
        commands.collect(),
    )
}

#[test]
fn bash_completes_subcommands_and_options() {
    let (etcfs, commands) = sources();
    let files = [
        ("etcfs", completions::bash_etcfs(&etcfs)),
        ("etcfsctl", completions::bash_ctl(&commands)),
    ];
    let shell = Shell::start("bash --norc --noprofile", &files);
    shell.completes("source ./etcfs && source ./etcfsctl");
}

#[test]
fn zsh_completes_subcommands_and_options() {
    let (etcfs, commands) = sources();
    let files = [
        ("_etcfs", completions::zsh_etcfs(&etcfs)),
        ("_etcfsctl", completions::zsh_ctl(&commands)),
    ];
    let shell = Shell::start("zsh -f", &files);
    shell.completes("fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D");
}

#[test]
fn fish_completes_subcommands_and_options() {
    let (etcfs, commands) = sources();
    let files = [
        ("etcfs.fish", completions::fish_etcfs(&etcfs)),
        ("etcfsctl.fish", completions::fish_ctl(&commands)),
    ];
    let shell = Shell::start("fish --no-config", &files);
    shell.completes("source etcfs.fish; source etcfsctl.fish");
}
