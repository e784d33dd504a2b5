//! `etcfsctl`, run as a user would, against real mounts (contract P1 to P9).

#[path = "../harness/mod.rs"]
mod harness;

mod bedrock;
mod elsewhere;
mod idle;
mod killed;
mod lines;
mod live;
mod reports;
mod screen;
mod trouble;
mod usage;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

/// The program with arguments.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"));
    command.args(args);
    command
}

/// What it prints, once it has ended.
fn run(args: &[&str]) -> Output {
    command(args)
        .output()
        .unwrap_or_else(|e| panic!("run etcfsctl {args:?}: {e}"))
}

/// Its standard output; it must succeed.
fn text(args: &[&str]) -> String {
    let output = run(args);
    assert!(
        output.status.success(),
        "etcfsctl {args:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Its standard output as JSON.
fn json(args: &[&str]) -> serde_json::Value {
    let args = [&["--json"], args].concat();
    let text = text(&args);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
}

/// A path as an argument.
fn arg(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Its line on standard error; it must fail.
fn failure(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(1), "etcfsctl {args:?}");
    let line = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(line.lines().count(), 1, "one line: {line}");
    line
}
