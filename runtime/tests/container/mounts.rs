//! What is mounted besides the root, the network, and what root may do.

use std::fs;
use std::os::unix::fs::symlink;

use coracle_runtime::container::{Hidden, Mount, MountSource, Network, RawPath};
use coracle_runtime::{Capabilities, Capability};

use crate::Case;
use crate::place::{Place, Step};

pub const CASES: &[Case] = &[
    ("a mount: text in memory has its owner and mode, and is in no layer", text),
    ("a mount: memory has its size, and everybody may write there", memory),
    ("a mount: layers show a part of them, and changes are dropped", layers),
    ("a mount: a place inside of another one is made, and in the image it is not", places),
    ("without a network there is the loopback interface alone", no_network),
    ("capabilities can be given and taken", capabilities),
];

fn with(mut step: Step, target: &str, source: MountSource, read_only: bool) -> Step {
    step.spec.mounts.push(Mount { target: target.into(), source, read_only });
    step
}

fn written(text: &str, uid: u32, mode: u32) -> MountSource {
    MountSource::Text { text: Hidden(text.into()), mode, uid, gid: uid }
}

fn text(place: &Place) {
    let stubs = place.dir("stubs");
    fs::create_dir(stubs.join("run")).expect("mkdir");
    fs::write(stubs.join("run/secret"), "").expect("writes");
    let script = "cat /run/secret; stat -c %a:%u:%g /run/secret; echo x 2>/dev/null >/run/secret || echo no";
    let step = with(place.shell(script).lower(stubs), "/run/secret", written("hidden\n", 0, 0o400), true);
    assert_eq!(step.prints(), "hidden\n400:0:0\nno");
    assert_eq!(fs::read_dir(step.upper()).expect("reads").count(), 0);
    assert!(!format!("{:?}", step.spec).contains("hidden"));
    // A place in /dev, which is a mount.
    let script = "cat /dev/pipes/EOF; stat -c %u /dev/pipes/EOF";
    let step = with(place.shell(script), "/dev/pipes/EOF", written("script\n", 7, 0o444), true);
    if !place.name.contains("single") {
        assert_eq!(step.prints(), "script\n7");
    }
}

fn memory(place: &Place) {
    let stubs = place.dir("stubs");
    fs::create_dir(stubs.join("fast")).expect("mkdir");
    let script = "stat -c %a /fast; echo x >/fast/x; head -c 100000 /dev/zero >/fast/y 2>/dev/null || echo full";
    let source = MountSource::Memory { size: Some(8192) };
    let step = with(place.shell(script).user(5, 5, &[]).lower(stubs), "/fast", source, false);
    assert_eq!(step.prints(), "1777\nfull");
    assert_eq!(fs::read_dir(step.upper()).expect("reads").count(), 0);
}

fn layers(place: &Place) {
    let (stubs, low, high) = (place.dir("stubs"), place.dir("low"), place.dir("high"));
    fs::create_dir(stubs.join("src")).expect("mkdir");
    for (dir, name) in [(&low, "a"), (&high, "b")] {
        fs::create_dir_all(dir.join("part/of")).expect("mkdir");
        fs::write(dir.join("part/of").join(name), name).expect("writes");
    }
    symlink("/part", high.join("link")).expect("link");
    let (upper, work) = (place.dir("changes"), place.dir("changes-work"));
    let source = |at: &str| MountSource::Layers {
        lower: vec![high.clone(), low.clone()],
        changes: (RawPath(upper.clone()), RawPath(work.clone())),
        at: at.into(),
    };
    let script = "cat /src/a /src/b; echo new 2>/dev/null >/src/a && cat /src/a || echo no";
    let step = with(place.shell(script).lower(stubs.clone()), "/src", source("/link/of"), true);
    assert_eq!(step.prints(), "abno");
    let work = place.dir("changes-work");
    let source = MountSource::Layers {
        lower: vec![low.clone()],
        changes: (RawPath(upper.clone()), RawPath(work)),
        at: "/part/of".into(),
    };
    let script = "echo new >/src/a; echo more >/src/more; cat /src/a /src/more";
    assert_eq!(with(place.shell(script).lower(stubs), "/src", source, false).prints(), "new\nmore");
    assert_eq!(fs::read_to_string(low.join("part/of/a")).expect("reads"), "a");
}

fn places(place: &Place) {
    let stubs = place.dir("stubs");
    fs::create_dir(stubs.join("outer")).expect("mkdir");
    let source = place.dir("source");
    let outer = |script: &str| {
        with(place.shell(script).lower(stubs.clone()), "/outer", MountSource::Host(source.clone()), false)
    };
    let step = with(outer("echo x >/outer/in/ner/file"), "/outer/in/ner", MountSource::Memory { size: None }, false);
    step.prints();
    assert_eq!(fs::read_dir(source.join("in/ner")).expect("made").count(), 0);
    let mut step = place.step(&["true"]);
    step = with(step, "/not/there", MountSource::Memory { size: None }, false);
    let failed = step.try_run(&coracle_runtime::container::Control::new()).err().expect("fails");
    assert_eq!(failed.to_string(), "openat2(\"/not/there\", RESOLVE_IN_ROOT)");
}

fn no_network(place: &Place) {
    let mut step = place.shell("awk 'NR > 2 { print $1 }' /proc/net/dev; (echo hi | nc -l -p 7 127.0.0.1 >/dev/null & ); sleep 0.2; nc 127.0.0.1 7 </dev/null");
    step.spec.network = Network::None;
    if !place.name.contains("masked") {
        assert_eq!(step.prints(), "lo:\nhi");
    }
}

fn capabilities(place: &Place) {
    let capability = |name| Capability::parse(name).expect("a name");
    let mut step = place.shell("grep CapEff /proc/self/status");
    step.spec.capabilities = Capabilities::default().without(capability("all")).with(capability("SYS_NICE"));
    assert_eq!(step.prints(), "CapEff:\t0000000000800000");
    step.spec.capabilities = Capabilities::default().without(capability("CHOWN"));
    assert_eq!(step.prints(), "CapEff:\t00000000a80425fa");
    let mut step = place.shell("touch /tmp/f && chown 5 /tmp/f 2>/dev/null || echo refused");
    step.spec.capabilities = Capabilities::default().without(capability("CHOWN"));
    assert_eq!(step.prints(), "refused");
}
