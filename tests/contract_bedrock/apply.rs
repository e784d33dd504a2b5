//! D25 to D29: our own form of how `brl apply` drives the configuration file, with each awk that Bedrock meets.

use super::harness::CONFIG;
use super::minibedrock::World;
use super::world;
use std::fs;

/// Reads what is configured and what is wanted, and sends the differences: removals first, then additions in the order
/// wanted, each flushed by itself.
const APPLY: &str = r#"
BEGIN {
    while ((getline line < config) > 0) have[line] = 1
    close(config)
    while ((getline line < wanted) > 0) { want[line] = 1; order[++n] = line }
    close(wanted)
    for (line in have)
        if (!(line in want)) {
            split(line, field, " ")
            printf "rm_%s %s\n", field[1], field[3] >> config
            fflush(config)
        }
    for (i = 1; i <= n; i++)
        if (!(order[i] in have)) {
            print "add_" order[i] >> config
            fflush(config)
        }
    close(config)
}
"#;

const WANTED: &str = "\
global /passwd
global /group
global /hosts
global /default/grub
global /resolvconf/run
override symlink /localtime /usr/share/zoneinfo/UTC
override symlink /mtab ../proc/self/mounts
override directory /zsh x
override directory /zsh x
override inject /profile /bedrock/share/profile
override inject /zsh/zprofile /bedrock/share/profile
";

/// Runs the script with `awk` and returns the writes to the configuration file, as strace shows them.
fn apply(world: &World, awk: &str, wanted: &str) -> (Result<String, String>, Vec<String>) {
    let tmp = world.root().join("tmp");
    fs::write(tmp.join("apply.awk"), APPLY).expect("write");
    fs::write(tmp.join("wanted"), wanted).expect("write");
    let config = format!("/bedrock/strata/alpha/etc/{CONFIG}");
    let result = world.sh(&format!(
        "exec strace -qq -s 4096 -e trace=write,writev -o /tmp/trace \
         {awk} -v config={config} -v wanted=/tmp/wanted -f /tmp/apply.awk"
    ));
    let trace = fs::read_to_string(tmp.join("trace")).expect("the trace");
    let writes = trace
        .lines()
        .filter(|line| line.contains("\"add_") || line.contains("\"rm_"))
        .map(str::to_owned)
        .collect();
    (result, writes)
}

fn config(world: &World) -> Vec<String> {
    let text = fs::read_to_string(world.etc("alpha", CONFIG)).expect("read");
    text.lines().map(str::to_owned).collect()
}

fn set(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    lines
}

#[test]
fn d25_d26_d28_a_second_apply_sends_nothing() {
    for awk in ["mawk", "gawk", "busybox awk"] {
        super::bare(move |world| {
            fs::write(world.root().join("bedrock/share/profile"), "# ours\n").expect("write");
            world.enable("bedrock").expect("start");
            world.enable("alpha").expect("start");
            let (result, writes) = apply(world, awk, WANTED);
            result.unwrap_or_else(|e| panic!("{awk}: {e}"));
            assert_eq!(
                writes.len(),
                WANTED.lines().count(),
                "{awk}: one write for each line: {writes:#?}"
            );
            let mut now = config(world);
            let first = now.clone();
            now.sort();
            assert_eq!(now, set(WANTED), "{awk}");
            let globals = first
                .iter()
                .take_while(|l| l.starts_with("global "))
                .count();
            assert!(
                first[globals..].iter().all(|l| l.starts_with("override ")),
                "globals come first: {first:#?}"
            );
            let (result, writes) = apply(world, awk, WANTED);
            result.unwrap_or_else(|e| panic!("{awk}: {e}"));
            assert_eq!(writes, Vec::<String>::new(), "{awk}");
            // D32: each injection is sent once more, one file after the other.
            for line in WANTED.lines().filter(|l| l.contains(" inject ")) {
                world
                    .sh(&format!(
                        "echo 'add_{line}' > /bedrock/strata/alpha/etc/{CONFIG}"
                    ))
                    .unwrap_or_else(|e| panic!("{line}: {e}"));
            }
            assert_eq!(config(world), first, "{awk}");
            let (_, writes) = apply(world, awk, WANTED);
            assert_eq!(writes, Vec::<String>::new(), "{awk}");
        });
    }
}

#[test]
fn d34_a_changed_override_is_removed_and_added() {
    for awk in ["mawk", "gawk", "busybox awk"] {
        super::bare(move |world| {
            fs::write(world.root().join("bedrock/share/profile"), "# ours\n").expect("write");
            world.enable("bedrock").expect("start");
            world.enable("alpha").expect("start");
            apply(world, awk, WANTED)
                .0
                .unwrap_or_else(|e| panic!("{awk}: {e}"));
            let profile = || fs::read_to_string(world.etc("alpha", "profile")).expect("read");
            assert!(profile().ends_with("# ours\n"), "{awk}");
            let changed = WANTED
                .replace("zoneinfo/UTC", "zoneinfo/Europe/Berlin")
                .replace("override inject /profile /bedrock/share/profile\n", "");
            let (result, writes) = apply(world, awk, &changed);
            result.unwrap_or_else(|e| panic!("{awk}: {e}"));
            assert_eq!(writes.len(), 3, "{awk}: {writes:#?}");
            let mut now = config(world);
            now.sort();
            assert_eq!(now, set(&changed), "{awk}");
            assert!(!profile().contains("# ours"), "{awk}");
            let (_, writes) = apply(world, awk, &changed);
            assert_eq!(writes, Vec::<String>::new(), "{awk}");
        });
    }
}

#[test]
fn d29_the_shipped_removal_of_a_global_is_refused() {
    world(|world| {
        let path = world.etc("alpha", CONFIG);
        let before = config(world);
        let write = |text: &str| {
            use std::io::Write;
            let file = fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .expect("open");
            (&file)
                .write(text.as_bytes())
                .map_err(super::harness::errno)
        };
        // awk's third field of `global /hosts` is empty.
        assert_eq!(write("rm_global \n"), Err(rustix::io::Errno::INVAL));
        assert_eq!(config(world), before);
        assert_eq!(write("rm_global /hosts\n"), Ok(17));
        assert_eq!(config(world).len(), before.len() - 1);
    });
}
