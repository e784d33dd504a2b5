use super::*;
use crate::fs::Fs;
use crate::fs::lower::BaseDir;
use crate::fs::settings::Settings;
use crate::ledger::Region;
use crate::ledger::crash::killed_at;
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a change has ended: the commands, how many overrides there were before and after, and the version of the rules.
type Ended = (usize, usize, usize, u64);

/// A configuration, and what stands of it in a ledger.
#[derive(Clone)]
struct World {
    ledger: &'static Ledger,
    lower: Arc<Lower>,
    ended: Arc<Mutex<Vec<Ended>>>,
}

fn lower() -> Arc<Lower> {
    let base = || BaseDir::new(&std::fs::File::open("/").unwrap().into()).unwrap();
    Fs::new(base(), base(), Settings::default()).unwrap().lower
}

impl World {
    fn new(lower: &Arc<Lower>) -> World {
        World {
            ledger: Ledger::private().unwrap(),
            lower: lower.clone(),
            ended: Arc::default(),
        }
    }

    /// The configuration after whoever had it was killed.
    fn restored(&self) -> Arc<Configuration> {
        let restored = Restored::over(self.ledger).unwrap();
        self.lower.put_in_force(restored.rules());
        let mut configuration = Configuration::new(self.lower.clone(), restored, Box::default());
        let text = |text: &[u8]| -> Arc<[u8]> { text.into() };
        configuration.make_up_sources(Sources::from([
            (b"/a"[..].into(), text(b"text of a\n")),
            (b"/b"[..].into(), text(b"text of b\n")),
            (b"/long"[..].into(), vec![b'x'; 100_000].into()),
        ]));
        Arc::new(configuration)
    }

    fn write(
        &self,
        configuration: &Configuration,
        (unique, fh): (u64, u64),
        bytes: &[u8],
    ) -> Result<usize, i32> {
        let ended = configuration.write((unique, fh), bytes, &|commands, old, new, rules| {
            let mut paths = commands.iter().filter_map(Command::override_path);
            if paths.any(|path| old.override_of(path).is_some()) {
                let count = |config: &Config| config.overrides().count();
                crate::ledger::crash::point();
                lock(&self.ended).push((commands.len(), count(old), count(new), rules.version()));
            }
        });
        ended.map_err(|refused| match refused {
            Refused::Now(error) => error.errno(),
            Refused::Silently(errno) => errno,
        })
    }
}

/// All that is to be the same afterwards.
fn all(configuration: &Configuration) -> String {
    let kept = lock(&configuration.kept);
    assert_eq!(configuration.get().render(), kept.config.render());
    let rules = configuration.lower.rules();
    assert_eq!(rules.version(), kept.version);
    let mut text = format!("{} {}\n", kept.version, kept.config.render().escape_ascii());
    for over in kept.config.overrides() {
        text += &format!("{} {}\n", over.path.escape_ascii(), over.text.len());
    }
    for (fh, handle) in &kept.handles {
        let shown = handle
            .shown()
            .map(|shown| shown.whole().escape_ascii().to_string());
        text += &format!(
            "{fh}: {:?} {shown:?}\n",
            handle.leftover().escape_ascii().to_string()
        );
    }
    text
}

const LINES: [&str; 9] = [
    "add_global /one\n",
    "add_global /two/three\n",
    "rm_global /one\n",
    "add_override inject /file /a\n",
    "add_override inject /file /b\n",
    "add_override inject /large /long\n",
    "add_override symlink /link to\n",
    "rm_override /file\n",
    "nothing known\n",
];

#[derive(Debug, Clone)]
enum Step {
    Open,
    Close(u64),
    Read(u64, u64),
    /// Lines, cut off so many bytes before the end.
    Write(u64, Vec<usize>, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let lines = prop::collection::vec(0..LINES.len(), 1..4);
    prop_oneof![
        1 => Just(Step::Open),
        1 => (0..4_u64).prop_map(Step::Close),
        2 => (0..4_u64, 0..40_u64).prop_map(|(fh, at)| Step::Read(fh, at / 20 * at)),
        6 => (0..4_u64, lines, 0..12_usize).prop_map(|(fh, lines, cut)| Step::Write(fh, lines, cut)),
    ]
}

impl Step {
    /// As request `unique`.
    fn take(
        &self,
        world: &World,
        configuration: &Configuration,
        unique: u64,
    ) -> Result<usize, i32> {
        match self {
            Step::Open => {
                let fh = configuration.open(unique, || unique % 4);
                Ok(fh.unwrap() as usize)
            }
            Step::Close(fh) => {
                configuration.close(*fh);
                Ok(0)
            }
            Step::Read(fh, at) => {
                let read = configuration.read(*fh, (*at, 30), <[u8]>::len);
                read.map_err(Errno::raw_os_error)
            }
            Step::Write(fh, lines, cut) => {
                let lines: String = lines.iter().map(|&line| LINES[line]).collect();
                let bytes = &lines.as_bytes()[..lines.len() - cut];
                world.write(configuration, (unique, *fh), bytes)
            }
        }
    }
}

/// `Lower` is the same for all cases, which make no use of anything else of it.
fn with_lower(test: impl Fn(&Arc<Lower>)) {
    thread_local!(static LOWER: Arc<Lower> = lower());
    LOWER.with(test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_successor_has_the_same_configuration_and_handles(steps in prop::collection::vec(step(), 0..40)) {
        with_lower(|lower| {
            let world = World::new(lower);
            let configuration = world.restored();
            for (number, step) in steps.iter().enumerate() {
                let _ = step.take(&world, &configuration, number as u64);
            }
            let had = all(&configuration);
            assert_eq!(all(&world.restored()), had);
        });
    }

    #[test]
    fn a_step_killed_anywhere_and_taken_again_is_taken_once(
        before in prop::collection::vec(step(), 0..12),
        last in step(),
    ) {
        with_lower(|lower| kill_everywhere(lower, &before, &last));
    }

    #[test]
    fn what_is_broken_is_said_to_be(
        words in prop::collection::vec((0..200_usize, prop_oneof![0..40_u64, any::<u64>()]), 0..20),
        count in prop_oneof![0..200_u64, any::<u64>()],
        steps in prop::collection::vec(step(), 0..10),
    ) {
        with_lower(|lower| {
            let world = World::new(lower);
            let configuration = world.restored();
            for (number, step) in steps.iter().enumerate() {
                let _ = step.take(&world, &configuration, number as u64);
            }
            let region = world.ledger.words(Region::Configuration);
            for &(at, word) in &words {
                region[1 + at].store(word, Ordering::Relaxed);
            }
            if words.len() % 2 == 0 {
                region[0].store(count, Ordering::Relaxed);
            }
            let _ = Restored::over(world.ledger);
        });
    }
}

fn kill_everywhere(lower: &Arc<Lower>, before: &[Step], last: &Step) {
    let unique = before.len() as u64 + 4;
    let begun = || {
        let world = World::new(lower);
        let configuration = world.restored();
        for (number, step) in before.iter().enumerate() {
            let _ = step.take(&world, &configuration, number as u64);
        }
        lock(&world.ended).clear();
        (world, configuration)
    };
    let (world, configuration) = begun();
    let answer = last.take(&world, &configuration, unique);
    let (clean, ended) = (all(&configuration), lock(&world.ended).clone());
    for at in 0.. {
        let (world, configuration) = begun();
        let (own, step) = (world.clone(), last.clone());
        let killed = killed_at(at, move || {
            _ = step.take(&own, &configuration, unique);
        });
        let configuration = world.restored();
        // The kernel marks what it hands out again.
        let again = last.take(&world, &configuration, unique | 1 << 63);
        let closed = matches!(last, Step::Close(_));
        assert!(
            closed || again == answer,
            "{last:?} killed at {at}: {again:?}, not {answer:?}"
        );
        assert_eq!(all(&configuration), clean, "{last:?} killed at {at}");
        // What was ended may be ended once more, and always is.
        let mut told = lock(&world.ended).clone();
        assert!(told.len() <= ended.len() + 1, "{told:?} not {ended:?}");
        told.dedup();
        assert_eq!(told, ended, "{last:?} killed at {at}");
        if !killed {
            break;
        }
    }
}

#[test]
fn a_log_that_grows_is_written_anew_and_says_the_same() {
    with_lower(|lower| {
        let world = World::new(lower);
        let configuration = world.restored();
        for fh in 0..3 {
            configuration.open(fh + 10, || fh).unwrap();
        }
        for line in [3, 5, 6, 0] {
            let unique = 20 + line as u64;
            world
                .write(&configuration, (unique, 0), LINES[line].as_bytes())
                .unwrap();
        }
        // A reader who has begun is shown the same to the end, whatever becomes of the configuration.
        configuration.read(1, (0, 10), |_| ()).unwrap();
        world
            .write(&configuration, (30, 0), b"rm_global /one\nadd_glob")
            .unwrap();
        let had = all(&configuration);
        let grows = AtomicUsize::new(0);
        let mut len = lock(&configuration.kept).log_len();
        for n in 0..40_000 {
            configuration.open(0, || 7).unwrap();
            configuration.close(7);
            let now = lock(&configuration.kept).log_len();
            if now < len {
                grows.fetch_add(1, Ordering::Relaxed);
                assert_eq!(all(&world.restored()), had, "{n}");
            }
            len = now;
        }
        assert!(grows.into_inner() > 1);
        assert!(len < 100_000, "{len} words");
        let configuration = world.restored();
        assert_eq!(all(&configuration), had);
        // The answer is remembered, too.
        let again = world.write(&configuration, (30, 0), b"rm_global /one\nadd_glob");
        assert_eq!(again, Ok(23));
        assert_eq!(all(&configuration), had);
    });
}

/// With few addresses there is room for less, and the refusal says for how much.
#[test]
fn texts_without_room_are_refused_in_figures_of_the_room_that_there_is() {
    with_lower(|lower| {
        let ledger = Ledger::least();
        let restored = Restored::over(ledger).unwrap();
        let mut configuration = Configuration::new(lower.clone(), restored, Box::default());
        let room = lock(&configuration.kept).room();
        assert!(room < 1 << 20, "{room}");
        let large: Arc<[u8]> = vec![b'x'; room + 1].into();
        configuration.make_up_sources(Sources::from([(b"/large"[..].into(), large)]));
        configuration.open(1, || 1).unwrap();
        let line = b"add_override inject /file /large\n";
        let refused = configuration.write((2, 1), line, &|_, _, _, _| {});
        let Err(Refused::Now(error)) = refused else {
            panic!("it does not fit");
        };
        assert_eq!(error.problem(), Problem::NoRoom(room));
        let said = format!("would exceed {} KiB;", room >> 10);
        assert!(error.to_string().contains(&said), "{error}");
    });
}

#[test]
fn texts_without_room_are_refused_and_nothing_changes() {
    with_lower(|lower| {
        let world = World::new(lower);
        let mut configuration = Configuration::new(
            lower.clone(),
            Restored::over(world.ledger).unwrap(),
            Box::default(),
        );
        let large: Arc<[u8]> = vec![b'x'; 1 << 20].into();
        configuration.make_up_sources(Sources::from([(b"/large"[..].into(), large)]));
        configuration.open(1, || 1).unwrap();
        let line = |n: usize| format!("add_override inject /file{n} /large\n");
        let mut taken = 0;
        while world
            .write(
                &configuration,
                (taken as u64 + 2, 1),
                line(taken).as_bytes(),
            )
            .is_ok()
        {
            taken += 1;
        }
        assert!(taken > 5, "{taken} MiB");
        let refused = world.write(&configuration, (1000, 1), line(taken).as_bytes());
        assert_eq!(refused, Err(Errno::NOSPC.raw_os_error()));
        let had = all(&configuration);
        assert_eq!(all(&world.restored()), had);
        world
            .write(&configuration, (1001, 1), b"rm_override /file0\n")
            .unwrap();
        assert_eq!(
            world.write(&configuration, (1002, 1), line(0).as_bytes()),
            Ok(line(0).len())
        );
    });
}
