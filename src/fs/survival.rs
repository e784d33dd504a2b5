//! Tests: a daemon that is gone, and its successor over the same ledger.

mod broken;
mod counted;
mod killed;
mod random;
mod world;

use super::ids::NodeId;
use crate::ledger::Ledger;
use rustix::fs::OFlags;
use std::os::unix::fs::FileExt as _;
use world::{NOBODY, World};

#[test]
fn what_the_kernel_knows_is_known_to_the_successor() {
    let mut world = World::new();
    std::fs::create_dir(world.path("d")).unwrap();
    std::fs::write(world.path("d/f"), "text").unwrap();
    std::fs::hard_link(world.path("d/f"), world.path("g")).unwrap();
    let dir = world.look_up(NodeId::ROOT, "d");
    let file = world.look_up(dir, "f");
    assert_eq!(
        world.look_up(NodeId::ROOT, "g"),
        file,
        "hard links are one node"
    );
    let size = world.stat(file).0.stx_size;
    world.crash();
    assert_eq!(world.stat(file).0.stx_size, size);
    assert_eq!(world.look_up(dir, "f"), file);
    assert_eq!(world.path_of(file), "d/f");
    world.crash();
    let other = world.make(dir, "other");
    assert!(other > file, "numbers are never used twice");
    assert_eq!(world.lookups(file), 3);
    world.fs().lower.nodes.forget(file, 3, NOBODY);
    world.crash();
    assert_eq!(
        world.lookups(file),
        0,
        "and it stays, to be asked for by number"
    );
    assert_eq!(world.look_up(dir, "f"), file);
    assert_eq!(world.fs().lower.nodes.count(), 4);
}

#[test]
fn what_is_open_stays_open() {
    let mut world = World::new();
    std::fs::write(world.path("f"), "text").unwrap();
    let file = world.look_up(NodeId::ROOT, "f");
    let fh = world.open(file, OFlags::RDWR);
    std::fs::remove_file(world.path("f")).unwrap();
    let charged = world.fs().opens.descriptors.len();
    world.crash();
    let copy = world.file(file, fh).expect("it is open").fd.try_clone();
    let open = std::fs::File::from(copy.unwrap());
    open.write_all_at(b"TEXT", 0).unwrap();
    let mut text = [0; 4];
    open.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"TEXT");
    assert_eq!(world.stat(file).0.stx_nlink, 0);
    assert_eq!(world.fs().opens.descriptors.len(), charged);
    let again = world.open(file, OFlags::RDONLY);
    assert_ne!(again, fh);
    world.close(file, fh);
    world.close(file, again);
    assert!(world.fs().opens.descriptors.is_empty());
    world.crash();
    assert!(world.file(file, fh).is_none());
    assert_eq!(world.left_open(), 0);
}

#[test]
fn opens_that_are_alike_share_their_descriptor_afterwards() {
    let mut world = World::new();
    std::fs::write(world.path("f"), "text").unwrap();
    let file = world.look_up(NodeId::ROOT, "f");
    let handles: Vec<_> = (0..40).map(|_| world.open(file, OFlags::RDONLY)).collect();
    let charged = world.fs().opens.descriptors.len();
    assert!(charged < 40, "{charged} descriptors");
    world.crash();
    assert_eq!(world.fs().opens.descriptors.len(), charged);
    for &fh in &handles {
        assert!(world.file(file, fh).is_some());
        world.close(file, fh);
    }
    assert!(world.fs().opens.descriptors.is_empty());
    world.crash();
    assert_eq!(world.left_open(), 0);
}

#[test]
fn an_object_without_a_name_is_held_until_it_is_forgotten() {
    let mut world = World::new();
    std::fs::write(world.path("f"), "text").unwrap();
    let file = world.look_up(NodeId::ROOT, "f");
    world.unlink(NodeId::ROOT, "f");
    world.crash();
    assert_eq!(world.stat(file).0.stx_nlink, 0);
    world.fs().lower.nodes.forget(file, 1, NOBODY);
    world.crash();
    assert!(world.fs().lower.nodes.get(file).is_none());
    assert_eq!(world.left_open(), 0);
}

#[test]
fn a_moved_directory_is_found_and_a_removed_one_is_empty() {
    let mut world = World::new();
    std::fs::create_dir_all(world.path("a/b/c")).unwrap();
    let [a, b, c] = world.look_up_all(NodeId::ROOT, ["a", "b", "c"]);
    std::fs::rename(world.path("a/b"), world.path("moved")).unwrap();
    world.crash();
    assert_eq!(world.look_up(NodeId::ROOT, "moved"), b);
    assert_eq!(world.path_of(c), "moved/c");
    assert_eq!(world.look_up(b, "c"), c);
    // As that of a working directory that somebody is in.
    world.fs().lower.dir_fd(&world.node(c)).unwrap();
    std::fs::remove_dir(world.path("moved/c")).unwrap();
    world.crash();
    assert_eq!(world.stat(c).0.stx_nlink, 0);
    assert_eq!(world.path_of(a), "a");
}

#[test]
fn a_listing_goes_on_where_it_was() {
    let mut world = World::new();
    for number in 0..2000 {
        std::fs::write(world.path(&format!("file-{number:04}")), "").unwrap();
    }
    let fh = world.open_dir(NodeId::ROOT);
    let mut names = Vec::new();
    let mut offset = 0;
    loop {
        let (some, next) = world.list(NodeId::ROOT, fh, offset, 150);
        if some.is_empty() {
            break;
        }
        names.extend(some);
        offset = next;
        world.crash();
    }
    names.retain(|name| name.starts_with("file-"));
    names.sort();
    let all: Vec<_> = (0..2000)
        .map(|number| format!("file-{number:04}"))
        .collect();
    assert_eq!(names, all, "each entry exactly once");
}

/// How long a successor takes to know what its predecessor knew: printed, and compared.
#[test]
fn a_large_tree_is_known_at_once() {
    for count in [10_000, 200_000] {
        let mut world = World::new();
        let begin = std::time::Instant::now();
        let last = world.know_many(count);
        let built = begin.elapsed();
        let begin = std::time::Instant::now();
        world.crash();
        println!(
            "{count} nodes: made in {built:?}, known again in {:?}",
            begin.elapsed()
        );
        assert_eq!(world.fs().lower.nodes.count() as u64, count + 1);
        assert_eq!(world.path_of(last), format!("file-{:06}", count - 1));
        assert_eq!(
            world.know_many(count),
            last,
            "each is found by its identity"
        );
        assert_eq!(world.lookups(last), 2);
    }
}

#[test]
fn the_memory_of_nodes_falls_when_they_are_forgotten() {
    let ledger = Ledger::create().unwrap();
    let blocks = || rustix::fs::fstat(ledger.file().unwrap()).unwrap().st_blocks;
    let mut world = World::over(ledger);
    let last = world.know_many(100_000);
    let full = blocks();
    // The kernel names them in the order of its lists, which is nearly that of their birth.
    let ids: Vec<_> = (NodeId::FIRST..=last.0).collect();
    for id in ids.iter().rev().step_by(2).chain(ids.iter().step_by(2)) {
        world.fs().lower.nodes.forget(NodeId(*id), 1, NOBODY);
    }
    // The indexes let go of what they have lost by and by, as they are used.
    for _ in 0..1000 {
        let id = world.make_known(1);
        world.fs().lower.nodes.forget(id, 1, NOBODY);
    }
    let forgotten = blocks();
    println!("{full} blocks of 512 bytes, {forgotten} afterwards");
    assert!(forgotten < full / 2, "{forgotten} of {full} blocks");
    world.crash();
    assert!(blocks() <= forgotten, "a successor takes no more");
}
