//! Completions for bash, zsh and fish.

use super::help::Help;
use super::pages::CommandHelp;
use std::fmt::Write as _;

const SWITCHES: &[(&str, &str)] = &[
    ("-h", "help"),
    ("-V", "version"),
    ("-f", "foreground"),
    ("-d", "print every request"),
    ("-s", "one thread"),
    ("-o", "options"),
];

/// Up to and including `=`: what is completed of an option with a value.
fn stem(option: &str) -> &str {
    match option.find('=') {
        Some(at) => &option[..=at],
        None => option,
    }
}

/// The stems of all `-o` options, each once.
fn stems(help: &Help) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, text) in help.mount_options() {
        let stem = stem(&name).to_owned();
        if !stem.contains("..") && !all.iter().any(|(known, _)| *known == stem) {
            all.push((stem, text));
        }
    }
    all
}

/// The switches and options of a subcommand.
fn switches(help: &Help) -> Vec<(String, String)> {
    let items = help.items("Options");
    items
        .filter_map(|item| {
            let names = item.term.split([',', ' ']).map(str::trim);
            let long = names.rev().find(|n| n.starts_with("--"))?;
            Some((long.to_owned(), item.text.clone()))
        })
        .collect()
}

fn words(list: &[(String, String)]) -> String {
    let names: Vec<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
    names.join(" ")
}

/// bash, for etcfs.
pub(crate) fn bash_etcfs(help: &Help) -> String {
    let switches: Vec<&str> = SWITCHES.iter().map(|(name, _)| *name).collect();
    format!(
        r#"# bash completion for etcfs
_etcfs() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}
    if [ "$prev" = -o ]; then
        local head=
        case $cur in *,*) head=${{cur%,*}}, ;; esac
        compopt -o nospace
        COMPREPLY=($(compgen -P "$head" -W "{}" -- "${{cur##*,}}"))
    elif [ "${{cur:0:1}}" = - ]; then
        COMPREPLY=($(compgen -W "{}" -- "$cur"))
    else
        COMPREPLY=($(compgen -d -- "$cur"))
    fi
}}
complete -F _etcfs etcfs
"#,
        words(&stems(help)),
        switches.join(" ")
    )
}

/// bash, for etcfsctl.
pub(crate) fn bash_ctl(commands: &[CommandHelp]) -> String {
    let mut cases = String::new();
    for (name, _, help) in commands {
        let _ = writeln!(cases, "    {name}) words=\"{}\" ;;", words(&switches(help)));
    }
    let names: Vec<&str> = commands.iter().map(|(name, ..)| name.as_str()).collect();
    format!(
        r#"# bash completion for etcfsctl
_etcfsctl() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} command= word words
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in -*) ;; *) command=$word; break ;; esac
    done
    case $command in
    "") words="{} --json --timeout --help" ;;
{cases}    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    [ -n "$command" ] && [ "${{cur:0:1}}" != - ] && COMPREPLY+=($(compgen -f -- "$cur"))
}}
complete -F _etcfsctl etcfsctl
"#,
        names.join(" ")
    )
}

/// zsh, for etcfs.
pub(crate) fn zsh_etcfs(help: &Help) -> String {
    let mut text = "#compdef etcfs\nlocal -a mount_options=(\n".to_owned();
    for (name, what) in stems(help) {
        let _ = writeln!(
            text,
            "  {}",
            quoted(&format!("{}:{}", name.replace(':', "\\:"), short(&what)))
        );
    }
    text.push_str(")\n_etcfs_options() { compset -P '*,'; _describe -t mount-options option mount_options -S '' }\n_arguments -s \\\n");
    for (name, what) in SWITCHES {
        let _ = match *name {
            "-o" => writeln!(text, "  '*-o+[{what}]:option:_etcfs_options' \\"),
            name => writeln!(text, "  '{name}[{what}]' \\"),
        };
    }
    text.push_str("  '*:mount point:_directories'\n");
    text
}

/// zsh, for etcfsctl.
pub(crate) fn zsh_ctl(commands: &[CommandHelp]) -> String {
    let mut text = "#compdef etcfsctl\nlocal -a commands=(\n".to_owned();
    for (name, what, _) in commands {
        let _ = writeln!(text, "  {}", quoted(&format!("{name}:{}", short(what))));
    }
    text.push_str(")\nif (( CURRENT == 2 )); then\n  _describe command commands\n  return\nfi\ncase $words[2] in\n");
    for (name, _, help) in commands {
        let _ = write!(text, "{name}) _arguments");
        for (switch, what) in switches(help) {
            let what = short(&what).replace(['[', ']'], "");
            let _ = write!(text, " {}", quoted(&format!("{switch}[{what}]")));
        }
        text.push_str(" '*:file:_files' ;;\n");
    }
    text.push_str("esac\n");
    text
}

/// fish, for etcfs.
pub(crate) fn fish_etcfs(help: &Help) -> String {
    let mut text = String::new();
    for (name, what) in SWITCHES {
        if *name == "-o" {
            continue;
        }
        let _ = writeln!(
            text,
            "complete -c etcfs -s {} -d {}",
            &name[1..],
            quoted(what)
        );
    }
    // What stands before the last comma of the word is part of each candidate.
    let _ = writeln!(
        text,
        r#"function __etcfs_options
    set -l head (string replace -r '[^,]*$' '' -- (commandline -ct))
    for option in {}
        echo -- "$head$option"
    end
end
complete -c etcfs -s o -x -d options -a '(__etcfs_options)'"#,
        words(&stems(help))
    );
    text
}

/// fish, for etcfsctl.
pub(crate) fn fish_ctl(commands: &[CommandHelp]) -> String {
    let mut text = String::new();
    for (name, what, help) in commands {
        let _ = writeln!(
            text,
            "complete -c etcfsctl -n __fish_use_subcommand -f -a {name} -d {}",
            quoted(&short(what))
        );
        for (switch, what) in switches(help) {
            let _ = writeln!(
                text,
                "complete -c etcfsctl -n '__fish_seen_subcommand_from {name}' -l {} -d {}",
                switch.trim_start_matches('-'),
                quoted(&short(&what))
            );
        }
    }
    text
}

/// The first clause, without what shells would trip over.
fn short(text: &str) -> String {
    let end = text.find([';', '(', ':']).unwrap_or(text.len());
    text[..end]
        .trim()
        .chars()
        .filter(|c| !matches!(c, '\\' | '`' | '$'))
        .collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
