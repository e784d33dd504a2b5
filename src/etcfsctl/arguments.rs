//! The command line as it may be written, brought into the one form that the parser takes: options of the program, the
//! command, its options, `--`, what is left. Options may stand before and after the command; what is wrong is one line that
//! names it and the remedy.

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};
use etcfs::cli::likely;

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arranged {
    /// A command: the arguments as the parser takes them.
    Run(Vec<String>),
    /// Help, about this if it is about something.
    Help(Option<String>),
}

/// Brings the arguments of the program `info` into order.
///
/// # Errors
/// One line without the program's name.
pub(crate) fn arrange(
    info: &CommandInfoWithArgs,
    args: impl IntoIterator<Item = String>,
) -> Result<Arranged, String> {
    let cut = Cut::new(info, args)?;
    let mut words = cut.words.into_iter();
    let Some(name) = words.next() else {
        if cut.help || cut.options.is_empty() {
            return Ok(Arranged::Help(None));
        }
        let all = "etcfsctl help lists the commands";
        return Err(match cut.options.first() {
            Some((option, _)) if !is_of(info.flags, option) => unknown(info, None, option),
            _ => format!("no command is given; {all}"),
        });
    };
    if name == "help" || cut.help {
        let about = if name == "help" {
            words.next()
        } else {
            Some(name)
        };
        return Ok(Arranged::Help(about));
    }
    let Some(command) = info.commands.iter().find(|c| c.name == name) else {
        return Err(unknown_command(info, &name));
    };
    let command = &command.command;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (option, value) in cut.options {
        let common = find(info.flags, &option);
        let Some(flag) = common.or_else(|| find(command.flags, &option)) else {
            return Err(unknown(info, Some(command), &option));
        };
        let place = if common.is_some() {
            &mut before
        } else {
            &mut after
        };
        // Said twice, the last one holds, and the parser would refuse it.
        if !repeats(flag) {
            place.retain(|(known, _): &(String, _)| *known != flag.long);
        }
        let value = match (&flag.kind, value) {
            (FlagInfoKind::Switch, Some(_)) => {
                return Err(format!(
                    "{}: takes no value; leave out what follows =",
                    flag.long
                ));
            }
            (FlagInfoKind::Option { arg_name }, None) => {
                return Err(format!(
                    "{}: needs a value; write {}={}",
                    flag.long,
                    flag.long,
                    arg_name.to_uppercase()
                ));
            }
            (_, value) => value,
        };
        place.push((flag.long.to_owned(), value));
    }
    let rest: Vec<String> = words.collect();
    count(command, &rest)?;
    let flat = |options: Vec<(String, Option<String>)>| {
        options
            .into_iter()
            .flat_map(|(name, value)| std::iter::once(name).chain(value))
    };
    let mut line: Vec<String> = flat(before).collect();
    line.push(name);
    line.extend(flat(after));
    if !rest.is_empty() {
        line.push("--".to_owned());
        line.extend(rest);
    }
    Ok(Arranged::Run(line))
}

/// A command line, cut into options with their values and other words.
#[derive(Default)]
struct Cut {
    help: bool,
    options: Vec<(String, Option<String>)>,
    words: Vec<String>,
}

impl Cut {
    fn new(
        info: &CommandInfoWithArgs,
        args: impl IntoIterator<Item = String>,
    ) -> Result<Cut, String> {
        let mut cut = Cut::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                cut.words.extend(args);
                break;
            }
            if arg == "-h" || arg == "--help" {
                cut.help = true;
            } else if matches!(arg.as_str(), "-V" | "--version") && cut.words.is_empty() {
                cut.words.push("version".to_owned());
            } else if arg == "-" || !arg.starts_with('-') {
                cut.words.push(arg);
            } else if let Some((name, value)) = arg.split_once('=') {
                cut.options.push((name.to_owned(), Some(value.to_owned())));
            } else {
                let value = if takes_value(info, cut.words.first(), &arg) {
                    args.next()
                } else {
                    None
                };
                cut.options.push((arg, value));
            }
        }
        Ok(cut)
    }
}

/// Whether the next argument is the value of an option; before the command is known, of any command's option of that name.
fn takes_value(info: &CommandInfoWithArgs, command: Option<&String>, option: &str) -> bool {
    let of = |flags| find(flags, option).is_some_and(|flag| flag.kind != FlagInfoKind::Switch);
    let mut commands = info.commands.iter();
    of(info.flags)
        || commands.any(|c| command.is_none_or(|name| c.name == name) && of(c.command.flags))
}

fn find<'a>(flags: &'a [FlagInfo<'a>], option: &str) -> Option<&'a FlagInfo<'a>> {
    let short = |flag: &FlagInfo<'_>| flag.short.is_some_and(|c| option == format!("-{c}"));
    flags.iter().find(|flag| flag.long == option || short(flag))
}

fn is_of(flags: &[FlagInfo<'_>], option: &str) -> bool {
    find(flags, option).is_some()
}

fn repeats(flag: &FlagInfo<'_>) -> bool {
    matches!(
        flag.optionality,
        Optionality::Repeating | Optionality::Greedy
    )
}

fn unknown(
    info: &CommandInfoWithArgs,
    command: Option<&CommandInfoWithArgs>,
    option: &str,
) -> String {
    let own = command.map_or(&[][..], |command| command.flags);
    let known = info.flags.iter().chain(own).map(|flag| flag.long);
    let about = command.map_or_else(String::new, |command| format!(" {}", command.name));
    let help = format!("etcfsctl help{about} lists what there is");
    if let Some(meant) = likely(option, known) {
        return format!("{option}: unknown option; did you mean {meant}? ({help})");
    }
    let others = info
        .commands
        .iter()
        .filter(|c| is_of(c.command.flags, option));
    let others: Vec<&str> = others.map(|c| c.name).collect();
    match others.as_slice() {
        [] => format!("{option}: unknown option; {help}"),
        others => format!("{option}: is an option of {}; {help}", others.join(", ")),
    }
}

pub(crate) fn unknown_command(info: &CommandInfoWithArgs, name: &str) -> String {
    let help = "etcfsctl help lists the commands";
    match likely(name, info.commands.iter().map(|c| c.name)) {
        Some(meant) => format!("{name}: unknown command; did you mean {meant}? ({help})"),
        None => format!("{name}: unknown command; {help}"),
    }
}

/// Whether a command's words are as many as it takes.
fn count(command: &CommandInfoWithArgs, words: &[String]) -> Result<(), String> {
    let all = command.positionals;
    let help = format!("etcfsctl help {}", command.name);
    if let Some(missing) = all
        .get(words.len())
        .filter(|p| p.optionality == Optionality::Required)
    {
        let what = missing.name.to_uppercase();
        return Err(format!("{}: {what} is missing; see {help}", command.name));
    }
    let takes_all = all
        .last()
        .is_some_and(|last| matches!(last.optionality, Optionality::Repeating));
    match words.get(all.len()).filter(|_| !takes_all) {
        Some(extra) => Err(format!(
            "{extra}: is one word too many for {}; see {help}",
            command.name
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argh::ArgsInfo as _;

    fn line(words: &str) -> Result<String, String> {
        let info = crate::Args::get_args_info();
        match arrange(&info, words.split_whitespace().map(str::to_owned))? {
            Arranged::Run(words) => Ok(words.join(" ")),
            Arranged::Help(about) => Ok(format!("? {}", about.unwrap_or_default())),
        }
    }

    #[test]
    fn options_are_taken_before_and_after_the_command() {
        for (written, meant) in [
            ("stats --json /etc", "--json stats -- /etc"),
            ("stats -j /etc", "--json stats -- /etc"),
            ("-j stats /etc --reset", "--json stats --reset -- /etc"),
            ("--reset stats --json", "--json stats --reset"),
            (
                "stats /etc --timeout 3 --reset",
                "--timeout 3 stats --reset -- /etc",
            ),
            (
                "--path /etc/ssh log --count=3 /etc",
                "log --path /etc/ssh --count 3 -- /etc",
            ),
            (
                "--timeout 1 stats --timeout=2 -j --json",
                "--timeout 2 --json stats",
            ),
            ("which -- -j", "which -- -j"),
            ("-V", "version"),
        ] {
            assert_eq!(line(written).as_deref(), Ok(meant), "{written}");
        }
    }

    #[test]
    fn help_is_asked_for_in_every_way() {
        for written in ["", "help", "-h", "--help", "-j -h"] {
            assert_eq!(line(written).as_deref(), Ok("? "), "{written}");
        }
        for written in [
            "help stats",
            "stats -h",
            "-h stats",
            "stats /etc --help",
            "stats --bogus -h",
        ] {
            assert_eq!(line(written).as_deref(), Ok("? stats"), "{written}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_remedy() {
        for (written, parts) in [
            (
                "stats --bogus",
                &["--bogus: unknown option", "help stats"][..],
            ),
            ("--bogus", &["--bogus: unknown option", "etcfsctl help"]),
            ("--bogus stats", &["--bogus: unknown option", "help stats"]),
            ("stats --jsn", &["--jsn:", "did you mean --json?"]),
            (
                "log --reset",
                &["--reset: is an option of stats", "help log"],
            ),
            ("-x stats", &["-x: unknown option"]),
            ("statz", &["statz: unknown command", "did you mean stats?"]),
            ("nothing", &["nothing: unknown command", "etcfsctl help"]),
            ("-j", &["no command is given", "etcfsctl help"]),
            ("stats --json=yes", &["--json: takes no value"]),
            ("log --count", &["--count: needs a value", "--count=COUNT"]),
            ("which", &["which: PATH is missing", "help which"]),
            ("stats /etc /usr", &["/usr: is one word too many for stats"]),
        ] {
            let said = line(written).expect_err(written);
            for part in parts {
                assert!(said.contains(part), "{written}: {said:?} lacks {part:?}");
            }
        }
    }
}
