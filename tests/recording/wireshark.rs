//! A recording in Wireshark, by way of pcapng and scripts/etcfs-fuse.lua.

use super::*;
use etcfs_proto::op::SHAPES;

const DISSECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/etcfs-fuse.lua");

fn tshark(args: &[&str], file: &Path) -> String {
    let dissector = format!("lua_script:{DISSECTOR}");
    let output = Command::new("tshark")
        .args(["-X", &dissector, "-r", str(file)])
        .args(args)
        .output()
        .expect("tshark runs (scripts/setup test installs it)");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn wireshark_reads_a_recording() {
    let dir = std::env::temp_dir().join(format!("etcfs-pcapng-{}", std::process::id()));
    fs::create_dir(&dir).expect("a scratch directory");
    let file = dir.join("storm.pcapng");
    let written = output(&["decode", "--pcapng", str(&file), STORM]);
    assert!(written.status.success(), "{}", text(&written.stderr));
    let count = |filter: &str| {
        tshark(&["-Y", filter, "-T", "fields", "-e", "frame.number"], &file)
            .lines()
            .count()
    };
    let told = text(&output(&["--json", "decode", STORM]).stdout);
    let lines: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .filter(|line: &Value| line["kind"].is_string())
        .collect();
    let same = |kind: &str, opcode: &str| {
        let of = |line: &&Value| line["kind"] == kind && line["opcode"] == opcode;
        lines.iter().filter(of).count()
    };
    assert_eq!(
        count("etcfs"),
        lines.len(),
        "every record is a packet that is understood"
    );
    assert_eq!(count("_ws.malformed or _ws.lua.error"), 0);
    assert_eq!(
        count("etcfs.kind == 2 and etcfs.opcode == 5"),
        same("request", "READLINK")
    );
    let failed = lines.iter().filter(|line| line["errno"] == 2).count();
    assert_eq!(count("etcfs.error == -2"), failed);
    assert_eq!(count("etcfs.kind == 3 and not etcfs.asked_in"), 0);
    assert!(count("etcfs.name == \"systemd\"") > 100);
    let info = tshark(&["-T", "fields", "-e", "_ws.col.Info"], &file);
    assert!(info.starts_with("INIT INIT ok\n"), "{info}");
    assert!(
        info.contains("\nLOOKUP request systemd\nLOOKUP answer ok\n"),
        "{info}"
    );
    fs::remove_dir_all(&dir).expect("cleaning up");
}

#[test]
fn the_dissector_knows_every_opcode_as_the_wire_crate_does() {
    let lua = fs::read_to_string(DISSECTOR).expect("scripts/etcfs-fuse.lua");
    for shape in SHAPES {
        let row = format!(
            "[{}] = {{ \"{}\", {}, ",
            shape.opcode.0, shape.name, shape.args
        );
        assert!(lua.contains(&row), "{row}");
    }
    assert_eq!(lua.matches("] = { \"").count(), SHAPES.len());
}
