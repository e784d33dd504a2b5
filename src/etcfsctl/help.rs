//! `etcfsctl help`, of the program, of each command, and of what is worth knowing besides.

use crate::Args;
use argh::{ArgsInfo as _, FromArgs as _};
use std::fmt::Write as _;
use std::process::ExitCode;

/// What is explained besides the commands: name, one line, text.
const TOPICS: [(&str, &str, &str); 10] = [
    (
        "limits",
        "what differs from a native file system, and what to do instead",
        include_str!("../docs/topics/limits.txt"),
    ),
    (
        "locks",
        "file locks: what an administrator sees, and what differs",
        include_str!("../docs/topics/locks.txt"),
    ),
    (
        "renames",
        "renames between a local and a global name",
        include_str!("../docs/topics/renames.txt"),
    ),
    (
        "passthrough",
        "what the kernel reads, writes and maps by itself",
        include_str!("../docs/topics/passthrough.txt"),
    ),
    (
        "cache",
        "what the kernel keeps of names, attributes and listings, and what makes it let go",
        include_str!("../docs/topics/cache.txt"),
    ),
    (
        "security",
        "who may do what, how users share the daemon, what it gives up",
        include_str!("../docs/topics/security.txt"),
    ),
    (
        "costs",
        "what a request costs, and what a file",
        include_str!("../docs/topics/costs.txt"),
    ),
    (
        "shutdown",
        "how the daemon outlives the services that read the mount while they stop",
        include_str!("../docs/topics/shutdown.txt"),
    ),
    (
        "survival",
        "what happens when the daemon dies, hangs, or is to be another program",
        include_str!("../docs/topics/survival.txt"),
    ),
    (
        "faults",
        "what callers get when something beneath or around the daemon fails",
        include_str!("../docs/topics/faults.txt"),
    ),
];

/// Prints what there is to say about a command, or about all of it.
pub(crate) fn show(about: Option<&str>) -> ExitCode {
    match text(about) {
        Ok(text) => {
            // Somebody may have read enough of it.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(why) => {
            crate::say(&format!("etcfsctl: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn text(about: Option<&str>) -> Result<String, String> {
    let info = Args::get_args_info();
    let Some(about) = about else {
        let mut text = told(&["--help"]);
        text.push_str("\nTopics, for etcfsctl help:\n");
        for (name, what, _) in TOPICS {
            let _ = writeln!(text, "  {name:<17} {what}");
        }
        return Ok(text);
    };
    if let Some((.., topic)) = TOPICS.iter().find(|(name, ..)| *name == about) {
        return Ok((*topic).to_owned());
    }
    if !info.commands.iter().any(|command| command.name == about) {
        return Err(crate::arguments::unknown_command(&info, about));
    }
    let mut text = told(&[about, "--help"]);
    text.push_str("\nOptions of all commands, before or after the command:\n");
    for flag in info.flags.iter().filter(|flag| flag.long != "--help") {
        let short = flag.short.map_or_else(String::new, |c| format!("-{c}, "));
        let name = format!("{short}{}", flag.long);
        // Writing to a string never fails.
        let _ = writeln!(text, "  {name:<17} {}", flag.description);
    }
    Ok(text)
}

/// What the parser says to these arguments.
fn told(args: &[&str]) -> String {
    match Args::from_args(&["etcfsctl"], args) {
        Ok(_) => String::new(),
        Err(exit) => exit.output,
    }
}
