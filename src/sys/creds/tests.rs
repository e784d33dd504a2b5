use super::*;

/// Runs `body` in a prepared thread; says nothing where the tests do not run as root.
fn prepared(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        prepare_thread().expect("prepare");
        if acts_for_others() {
            body();
        }
    });
    thread.join().expect("the prepared thread");
}

fn effective() -> CapabilitySet {
    capabilities(None).expect("capget").effective
}

fn ids() -> (String, String, String) {
    let text = std::fs::read_to_string("/proc/thread-self/status").expect("status");
    let last = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a field").trim().to_owned()
    };
    let fs = |name| last(name).rsplit('\t').next().expect("an id").to_owned();
    (fs("Uid:"), fs("Gid:"), last("Groups:"))
}

#[test]
fn an_act_has_the_callers_ids_and_nothing_that_overrules() {
    prepared(|| {
        let permitted = capabilities(None).expect("capget").permitted;
        let own = ids();
        act_as((1000, 1001), Some(44), || {
            assert_eq!(ids(), ("1000".into(), "1001".into(), "44".into()));
            assert_eq!(effective(), ACTING & permitted);
            Ok(())
        })
        .expect("act");
        act_as((1000, 1001), None, || {
            assert_eq!(ids().2, "");
            Ok(())
        })
        .expect("act");
        assert_eq!(own.2, "", "the starter's groups are gone");
    });
}

#[test]
fn what_a_caller_holds_comes_off_after_the_act_and_after_a_panic() {
    prepared(|| {
        let permitted = capabilities(None).expect("capget").permitted;
        let held = Held {
            groups: vec![7, 8],
            capabilities: CapabilitySet::CHOWN | CapabilitySet::FOWNER,
        };
        act_as_held((1000, 1000), &held, || {
            assert_eq!(effective(), held.capabilities & permitted);
            assert_eq!(ids().2, "7 8");
            Ok(())
        })
        .expect("act");
        assert_eq!(effective(), ACTING & permitted);
        let panicked = std::panic::catch_unwind(|| {
            act_as_held((1000, 1000), &held, || -> io::Result<()> {
                panic!("on purpose")
            })
        });
        assert!(panicked.is_err());
        assert_eq!(effective(), ACTING & permitted);
        act_as((0, 0), None, || {
            assert_eq!(ids(), ("0".into(), "0".into(), String::new()));
            Ok(())
        })
        .expect("act");
    });
}

#[test]
fn a_look_reaches_more_only_where_it_must_and_never_inside_an_act() {
    prepared(|| {
        let permitted = capabilities(None).expect("capget").permitted;
        act_as((1000, 1000), None, || Ok(())).expect("act");
        looking(|| Ok(())).expect("look");
        assert_eq!(effective(), ACTING & permitted);
        act_as((1000, 1000), None, || {
            let refused = looking(|| -> io::Result<()> { Err(Errno::ACCESS) });
            assert_eq!(refused, Err(Errno::ACCESS));
            assert_eq!(effective(), ACTING & permitted);
            Ok(())
        })
        .expect("act");
        let mut tries = 0;
        let reached = looking(|| {
            tries += 1;
            if tries == 1 {
                Err(Errno::ACCESS)
            } else {
                Ok(effective())
            }
        });
        assert_eq!(reached, Ok(LOOKING & permitted));
    });
}

#[test]
fn own_work_is_roots_and_the_next_act_the_callers_again() {
    prepared(|| {
        let permitted = capabilities(None).expect("capget").permitted;
        act_as((1000, 1000), Some(5), || Ok(())).expect("act");
        own(|| {
            assert_eq!(ids(), ("0".into(), "0".into(), String::new()));
            assert_eq!(effective(), permitted);
            Ok(())
        })
        .expect("own");
        assert_eq!(effective(), LOOKING & permitted);
        registering(true, || {
            assert_eq!(ids().0, NOBODY.to_string());
            let overruling = CapabilitySet::FSETID | CapabilitySet::SYS_RESOURCE;
            assert!(!effective().intersects(overruling));
            Ok(())
        })
        .expect("register");
    });
}

#[test]
fn nobody_acts_as_the_id_that_stands_for_none() {
    prepared(|| {
        for ids in [(u32::MAX, 0), (0, u32::MAX)] {
            assert_eq!(act_as(ids, None, || Ok(())), Err(Errno::PERM));
        }
    });
}
