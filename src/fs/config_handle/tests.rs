use super::ConfigHandle;
use crate::fs::config::{Command, CommandError, Config, Problem};
use std::collections::HashSet;
use std::sync::Arc;

/// A mount's configuration as far as the file shows it, and what its writers met.
struct Mount {
    config: Config,
    /// Bytes of every inject's source.
    source: Arc<[u8]>,
}

impl Mount {
    fn new() -> Mount {
        Mount {
            config: Config::new(),
            source: (*b"# text\n").into(),
        }
    }

    fn write(&mut self, handle: &mut ConfigHandle, bytes: &[u8]) -> Result<usize, CommandError> {
        handle.write(bytes, |commands: &[Command], _| {
            let text = |command: &Command| command.source().map(|_| Arc::clone(&self.source));
            self.config = self
                .config
                .apply_all(commands.iter().map(|command| (command, text(command))))?;
            Ok(())
        })
    }

    /// Reads to the end in pieces of `size` bytes.
    fn read(&self, size: usize) -> Vec<u8> {
        let mut handle = ConfigHandle::default();
        let mut text = Vec::new();
        loop {
            let part = handle.read(&self.config, text.len() as u64, size);
            if part.is_empty() {
                assert!(handle.close().is_none());
                return text;
            }
            text.extend_from_slice(part);
        }
    }

    /// Drives the file as `brl apply` does (D26): reads every line and closes; then, through one appending handle,
    /// one write per line, first `rm_` with the first field and the third for each line that is not wanted, then
    /// `add_` with the line for each wanted one that is not there, each as often as the generated list has it.
    /// Returns the lines sent and what each write returned.
    fn brl_apply(&mut self, wanted: &[&str]) -> Vec<(String, Result<usize, i32>)> {
        let text = String::from_utf8(self.read(4096)).unwrap();
        let found: HashSet<&str> = text.lines().collect();
        let asked: HashSet<&str> = wanted.iter().copied().collect();
        let field = |line: &str, index: usize| {
            let mut fields = line.split_ascii_whitespace();
            fields.nth(index).unwrap_or_default().to_owned()
        };
        let removed = text
            .lines()
            .filter(|line| !asked.contains(line))
            .map(|line| format!("rm_{} {}\n", field(line, 0), field(line, 2)));
        let added = wanted
            .iter()
            .filter(|line| !found.contains(*line))
            .map(|line| format!("add_{line}\n"));
        let sent: Vec<_> = removed.chain(added).collect();
        let mut handle = ConfigHandle::default();
        let sent = sent
            .into_iter()
            .map(|line| {
                let result = self.write(&mut handle, line.as_bytes());
                (line, result.map_err(|error| error.errno()))
            })
            .collect();
        assert!(handle.close().is_none());
        sent
    }
}

/// A configuration of the default's size and shape: 33 global names, nested ones and a directory among them (D39), and
/// overrides of each type, one path injected that is global, one line generated twice (D28).
const DEFAULT: &[&str] = &[
    "global /adjtime",
    "global /animation.conf",
    "global /default/grub",
    "global /fstab",
    "global /group",
    "global /group-",
    "global /gshadow",
    "global /gshadow-",
    "global /hostid",
    "global /hostname",
    "global /hosts",
    "global /hosts.allow",
    "global /hosts.deny",
    "global /locale.conf",
    "global /login.defs",
    "global /machine-id",
    "global /modprobe.d/blacklist.conf",
    "global /modules",
    "global /mtab",
    "global /nsswitch.conf",
    "global /passwd",
    "global /passwd-",
    "global /resolv.conf",
    "global /resolvconf/run",
    "global /securetty",
    "global /shadow",
    "global /shadow-",
    "global /shells",
    "global /subgid",
    "global /subuid",
    "global /sudoers",
    "global /timezone",
    "global /vconsole.conf",
    "override symlink /localtime /bedrock/run/localtime",
    "override symlink /zsh/zprofile /etc/zprofile with a space",
    "override directory /zsh x",
    "override directory /zsh x",
    "override directory /X11 x",
    "override directory /X11/Xsession.d x",
    "override inject /profile /bedrock/share/resources/etc/profile",
    "override inject /zsh/zprofile.local /bedrock/share/resources/etc/zprofile",
    "override inject /zsh/zshenv /bedrock/share/resources/etc/zshenv",
    "override inject /sudoers /bedrock/share/resources/etc/sudoers",
];

fn lines(sent: &[(String, Result<usize, i32>)]) -> Vec<&str> {
    sent.iter().map(|(line, _)| line.trim_end()).collect()
}

#[test]
fn d25_d28_a_second_apply_of_the_default_configuration_sends_nothing() {
    let mut mount = Mount::new();
    let first = mount.brl_apply(DEFAULT);
    assert_eq!(first.len(), DEFAULT.len());
    for (line, result) in &first {
        assert_eq!(*result, Ok(line.len()), "{line}");
    }
    let mut shown: Vec<_> = DEFAULT.to_vec();
    shown.dedup();
    assert_eq!(mount.read(7), (shown.join("\n") + "\n").as_bytes());
    assert_eq!(lines(&mount.brl_apply(DEFAULT)), [""; 0]);
}

#[test]
fn d32_repeating_the_inject_commands_as_every_apply_does_succeeds() {
    let mut mount = Mount::new();
    mount.brl_apply(DEFAULT);
    let before = mount.config.clone();
    let injects = DEFAULT.iter().filter(|line| line.contains(" inject "));
    let commands: Vec<_> = injects.map(|line| format!("add_{line}\n")).collect();
    let mut handle = ConfigHandle::default();
    for line in &commands {
        assert_eq!(
            mount.write(&mut handle, line.as_bytes()).unwrap(),
            line.len()
        );
    }
    assert!(mount.config.is_unchanged_from(&before));

    mount.source = (*b"# another\n").into();
    for line in &commands {
        assert_eq!(
            mount.write(&mut handle, line.as_bytes()).unwrap(),
            line.len()
        );
    }
    let texts = mount
        .config
        .overrides()
        .filter(|over| *over.text == *b"# another\n");
    assert_eq!(texts.count(), commands.len());
    assert_eq!(mount.config.render(), before.render());
    assert_eq!(lines(&mount.brl_apply(DEFAULT)), [""; 0]);
}

#[test]
fn d34_a_changed_override_is_removed_and_added() {
    let mut mount = Mount::new();
    mount.brl_apply(&["override symlink /a /one", "override directory /b x"]);
    let wanted = ["override symlink /a /two", "override directory /b x"];
    let sent = mount.brl_apply(&wanted);
    assert_eq!(
        lines(&sent),
        ["rm_override /a", "add_override symlink /a /two"]
    );
    assert_eq!(
        mount.read(4096),
        b"override directory /b x\noverride symlink /a /two\n"
    );
    assert_eq!(lines(&mount.brl_apply(&wanted)), [""; 0]);
}

#[test]
fn d29_the_writers_removal_of_a_global_is_refused_and_the_global_stays() {
    let mut mount = Mount::new();
    mount.brl_apply(&["global /passwd", "global /shadow"]);
    let sent = mount.brl_apply(&["global /shadow", "global /group"]);
    assert_eq!(
        sent,
        [
            ("rm_global \n".to_owned(), Err(22)),
            ("add_global /group\n".to_owned(), Ok(18)),
        ]
    );
    assert_eq!(
        mount.read(4096),
        b"global /passwd\nglobal /shadow\nglobal /group\n"
    );
    let mut handle = ConfigHandle::default();
    mount.write(&mut handle, b"rm_global /passwd\n").unwrap();
    assert_eq!(mount.read(4096), b"global /shadow\nglobal /group\n");
}

#[test]
fn d24_d45_the_size_shown_is_the_size_read_in_pieces_of_any_size() {
    let mut mount = Mount::new();
    assert_eq!(mount.read(4096), b"");
    mount.brl_apply(DEFAULT);
    for size in [1, 100, 4096, usize::MAX] {
        assert_eq!(mount.read(size).len() as u64, mount.config.rendered_len());
    }
    let mut handle = ConfigHandle::default();
    for offset in [mount.config.rendered_len(), 1 << 40, u64::MAX] {
        assert_eq!(handle.read(&mount.config, offset, 4096), b"");
    }
}

#[test]
fn a_reading_under_way_shows_one_configuration_and_a_new_one_the_next() {
    let mut mount = Mount::new();
    let mut reader = ConfigHandle::default();
    let mut writer = ConfigHandle::default();
    mount.write(&mut writer, b"add_global /a\n").unwrap();
    assert_eq!(reader.read(&mount.config, 0, 8), b"global /");
    mount
        .write(&mut writer, b"rm_global /a\nadd_global /bbb\n")
        .unwrap();
    assert_eq!(reader.read(&mount.config, 8, 4096), b"a\n");
    assert_eq!(reader.read(&mount.config, 10, 4096), b"");
    assert_eq!(reader.read(&mount.config, 0, 4096), b"global /bbb\n");
    // A handle that writes reads what it wrote.
    assert_eq!(writer.read(&mount.config, 0, 4096), b"global /bbb\n");
}

#[test]
fn d30_several_lines_in_one_write_are_all_applied_or_none() {
    let mut mount = Mount::new();
    let mut handle = ConfigHandle::default();
    let all = b"add_global /a\nadd_override directory /b x\nadd_global /c\n";
    assert_eq!(mount.write(&mut handle, all).unwrap(), all.len());
    let before = mount.read(4096);
    let error = mount
        .write(
            &mut handle,
            b"rm_global /a\nadd_glob /d\nrm_global /c\nadd_",
        )
        .unwrap_err();
    assert_eq!(error.problem(), Problem::UnknownCommand);
    assert!(error.to_string().contains("\"add_glob /d\""), "{error}");
    assert_eq!(mount.read(4096), before);
    assert!(handle.close().is_none());
}

#[test]
fn d30_a_line_split_over_writes_is_one_command() {
    let mut mount = Mount::new();
    let mut handle = ConfigHandle::default();
    for part in [
        &b"add_global /a\nadd_ove"[..],
        b"",
        b"rride symlink /",
        b"b /c",
        b"\n",
    ] {
        assert_eq!(mount.write(&mut handle, part).unwrap(), part.len());
    }
    assert_eq!(mount.read(4096), b"global /a\noverride symlink /b /c\n");
    assert!(handle.close().is_none());
}

#[test]
fn d30_a_line_without_newline_at_close_is_an_error_to_log() {
    let mut mount = Mount::new();
    let mut handle = ConfigHandle::default();
    mount.write(&mut handle, b"add_global /a").unwrap();
    let error = handle.close().unwrap();
    assert_eq!(error.problem(), Problem::Unfinished);
    assert!(error.to_string().contains("\"add_global /a\""), "{error}");
    assert_eq!(mount.read(4096), b"");
}

#[test]
fn a_refused_line_does_not_spoil_the_next_write() {
    let mut mount = Mount::new();
    let mut handle = ConfigHandle::default();
    mount.write(&mut handle, b"add_global /../").unwrap();
    assert!(mount.write(&mut handle, b"shadow\n").is_err());
    mount.write(&mut handle, b"add_global /shadow\n").unwrap();
    assert!(mount.write(&mut handle, b"\0").is_ok());
    assert!(mount.write(&mut handle, b"\n").is_err());
    mount.write(&mut handle, b"add_global /a\n").unwrap();
    assert_eq!(mount.read(4096), b"global /shadow\nglobal /a\n");
}

#[test]
fn what_the_commit_refuses_is_what_the_writer_gets() {
    let mut handle = ConfigHandle::default();
    let source = Problem::Source(rustix::io::Errno::NOENT);
    let line = b"add_override inject /a /missing\n";
    let error = handle
        .write(line, |commands, _| {
            Err(CommandError::new(&commands[0].line(), source))
        })
        .unwrap_err();
    assert_eq!((error.problem(), error.errno()), (source, 2));
}

#[test]
fn a_mebibyte_of_commands_in_one_write_is_applied() {
    let mut mount = Mount::new();
    let commands: Vec<u8> = (0..)
        .flat_map(|index| format!("add_global /d{}/n{index}\n", index % 100).into_bytes())
        .take(1 << 20)
        .collect();
    let end = commands.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let mut handle = ConfigHandle::default();
    assert_eq!(mount.write(&mut handle, &commands).unwrap(), 1 << 20);
    let lines = commands[..end]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count();
    assert!(lines > 40_000, "{lines}");
    assert_eq!(mount.config.globals().count(), lines);
    assert_eq!(mount.read(65_536).len(), end - lines * "add_".len());
}
