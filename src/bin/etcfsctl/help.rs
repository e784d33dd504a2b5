//! `etcfsctl help`, of the program and of each command.

use crate::Args;
use argh::{ArgsInfo as _, FromArgs as _};
use std::fmt::Write as _;
use std::process::ExitCode;

/// Prints what there is to say about a command, or about all of it.
pub fn show(about: Option<&str>) -> ExitCode {
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
        return Ok(told(&["--help"]));
    };
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
