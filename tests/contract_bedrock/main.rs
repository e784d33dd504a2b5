//! The drop-in contract (D1 to D45) in a small Bedrock of pid 1, three strata and their daemons.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../minibedrock/mod.rs"]
mod minibedrock;

mod advice;
mod apply;
mod attributes;
mod configured;
mod fresh;
mod mounted;
mod shutdown;
mod started;
mod stopped;

use harness::private;
use minibedrock::World;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(220);

/// What Bedrock configures by default, as far as the tests use it, in the order of its sections.
const CONFIG_LINES: [&str; 16] = [
    "add_global /passwd",
    "add_global /group",
    "add_global /shadow",
    "add_global /gshadow",
    "add_global /hosts",
    "add_global /hostname",
    "add_global /resolv.conf",
    "add_global /login.defs",
    "add_global /sudoers",
    "add_global /default/grub",
    "add_global /resolvconf/run",
    "add_override symlink /localtime /usr/share/zoneinfo/UTC",
    "add_override symlink /mtab ../proc/self/mounts",
    "add_override directory /zsh x",
    "add_override directory /zsh x",
    "add_override inject /profile /bedrock/share/profile",
];

/// A world with its three daemons, configured.
fn world(body: impl FnOnce(&World) + Send + 'static) {
    private(DEADLINE, |env| {
        let world = World::new(env);
        std::fs::write(
            world.root().join("bedrock/share/profile"),
            "# bedrock's profile\n",
        )
        .expect("write the inject source");
        world.start(&CONFIG_LINES);
        body(&world);
    });
}

/// A world without daemons.
fn bare(body: impl FnOnce(&World) + Send + 'static) {
    private(DEADLINE, |env| body(&World::new(env)));
}
