use super::*;

/// A folder that looks like a control group to which `controllers` were handed down.
fn fake(controllers: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let files = [
        ("cgroup.controllers", controllers),
        ("cgroup.subtree_control", controllers),
        ("cgroup.procs", ""),
        ("memory.max", ""),
    ];
    for (name, text) in files {
        fs::write(dir.path().join(name), text).expect("writes");
    }
    dir
}

/// A group for one step, of which the kernel would have made the files.
fn limited(
    base: &tempfile::TempDir,
    files: &[&str],
    limits: &Limits,
) -> (tempfile::TempDir, Vec<Controller>, Option<NoGroup>) {
    // mkdir(2) in a control group makes its files; here they are there before, in the group around it.
    let parent = tempfile::tempdir().expect("a temporary folder");
    for name in files {
        fs::write(parent.path().join(name), "").expect("writes");
    }
    let base = Base::new(base.path(), &Controller::wanted(limits)).expect("a base");
    let mut keeps = base.keeps.clone();
    let mut reason = base.reason.clone();
    let swap = set_limits(parent.path(), limits, &mut keeps, &mut reason);
    assert_eq!(swap, files.contains(&"memory.swap.max") && keeps.contains(&Controller::Memory));
    (parent, keeps, reason)
}

fn read(dir: &tempfile::TempDir, name: &str) -> String {
    fs::read_to_string(dir.path().join(name)).expect("reads")
}

const ALL: &[&str] = &["memory.max", "memory.swap.max", "cpu.max", "pids.max"];

#[test]
fn limits_are_written_as_the_kernel_reads_them() {
    let limits = Limits { memory: Some(64 << 20), cpus: Some(1500), pids: Some(20), ..Limits::default() };
    let (group, keeps, reason) = limited(&fake("cpu memory pids"), ALL, &limits);
    assert_eq!(read(&group, "memory.max"), "67108864");
    assert_eq!(read(&group, "memory.swap.max"), "67108864", "as much swap as memory");
    assert_eq!(read(&group, "cpu.max"), "150000 100000");
    assert_eq!(read(&group, "pids.max"), "20");
    assert_eq!((keeps.len(), reason), (3, None));
}

#[test]
fn swap_is_what_was_asked_for() {
    let limits = |swap| Limits { memory: Some(64 << 20), swap: Some(swap), ..Limits::default() };
    let (group, ..) = limited(&fake("memory"), ALL, &limits(Swap::Bytes(0)));
    assert_eq!(read(&group, "memory.swap.max"), "0");
    let (group, ..) = limited(&fake("memory"), ALL, &limits(Swap::Unlimited));
    assert_eq!(read(&group, "memory.swap.max"), "max");
    let (_, keeps, reason) = limited(&fake("memory"), &["memory.max"], &limits(Swap::Bytes(0)));
    assert_eq!(keeps, [Controller::Memory], "a kernel without an account of swap");
    assert!(matches!(reason, Some(NoGroup::Call { call, .. }) if call.contains("memory.swap.max")));
}

#[test]
fn a_group_without_limits_can_be_made_in_another_one() {
    let base = Base::new(fake("memory").path(), &[]).expect("nothing is asked of it");
    assert_eq!((base.keeps.len(), base.reason), (0, None));
    let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    assert_eq!(find_group("0::/builds/one", mounts), Some("/sys/fs/cgroup/builds/one".into()));
    assert_eq!(find_group("0::/../one", mounts), None);
    let name = Path::new("/there/is/none");
    assert_eq!(group_at(name), Err(NoGroup::Missing { path: name.into() }));
}

#[test]
fn what_is_not_handed_down_is_named() {
    let limits = Limits { memory: Some(64 << 20), cpus: Some(500), pids: Some(20), ..Limits::default() };
    let (_, keeps, reason) = limited(&fake("memory pids"), ALL, &limits);
    assert_eq!(keeps, [Controller::Memory, Controller::Pids]);
    assert!(matches!(reason, Some(NoGroup::NoController { controllers, .. }) if controllers == "cpu"));
    let nothing = fake("hugetlb");
    let error = Base::new(nothing.path(), &[Controller::Memory, Controller::Cpu]).expect_err("nothing is there");
    assert!(matches!(error, NoGroup::NoController { controllers, .. } if controllers == "memory, cpu"));
}

#[test]
fn what_was_not_handed_down_is_enabled() {
    let base = fake("memory pids");
    fs::write(base.path().join("cgroup.subtree_control"), "pids").expect("writes");
    let ready = Base::new(base.path(), &[Controller::Memory, Controller::Pids]).expect("a base");
    assert_eq!(ready.keeps, [Controller::Memory, Controller::Pids]);
    assert!(read(&base, "cgroup.subtree_control").starts_with("+memory"));
}

#[test]
fn a_folder_that_is_no_control_group_is_not_taken_for_one() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(Base::new(dir.path(), &[Controller::Pids]).map(|_| ()), Err(NoGroup::NotInSight));
}

#[test]
fn a_group_with_other_processes_is_left_alone() {
    let base = fake("memory");
    fs::write(base.path().join("cgroup.procs"), format!("{}\n1\n", std::process::id())).expect("writes");
    assert_eq!(make_room(base.path()).map(|_| ()), Err(NoGroup::Shared { path: base.path().into() }));
}

#[test]
fn left_overs_go_and_what_is_locked_stays() {
    let base = fake("memory");
    let held = Held::new(base.path(), "step").expect("a group");
    let left = base.path().join("coracle-step-1-0");
    let foreign = base.path().join("somebody.scope");
    for dir in [&left, &foreign] {
        fs::create_dir(dir).expect("mkdir");
    }
    clean(base.path());
    assert!(held.path.exists() && foreign.exists() && !left.exists());
    let path = held.path.clone();
    drop(held);
    assert!(!path.exists());
}

#[test]
fn the_group_of_a_process_is_found_where_it_is_mounted() {
    let mounts = "\
22 1 0:5 / /proc rw shared:1 - proc proc rw
30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
";
    let found = |groups: &str, mounts: &str| find_group(groups, mounts);
    assert_eq!(found("0::/user.slice/a.scope\n", mounts), Some("/sys/fs/cgroup/user.slice/a.scope".into()));
    assert_eq!(found("0::/\n", mounts), Some("/sys/fs/cgroup".into()));
    assert_eq!(found("0::/../b\n", mounts), None, "outside of the namespace");
    assert_eq!(found("3:cpu:/x\n", mounts), None, "version 1");
    let hybrid = "31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    assert_eq!(found("4:memory:/x\n0::/y\n", hybrid), Some("/sys/fs/cgroup/unified/y".into()));
    let part = "31 24 0:27 /pod /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    assert_eq!(found("0::/pod/c\n", part), Some("/sys/fs/cgroup/c".into()));
    assert_eq!(found("0::/other\n", part), None);
    let odd = "31 24 0:27 / /a\\040b rw - cgroup2 cgroup2 rw\n";
    assert_eq!(found("0::/c\n", odd), Some("/a b/c".into()));
}

/// The real thing, as far as root without controllers has it: groups are made, joined, emptied and removed.
#[test]
fn a_real_group_kills_what_is_in_it_and_goes() {
    let not_here = |why: &str| {
        let must = std::env::var_os("CI").is_some() && rustix::process::getuid().is_root();
        assert!(!must, "{why}");
        eprintln!("not tested: {why}");
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(root) = find_group("0::/\n", &mounts) else {
        return not_here("control groups of version 2 are not mounted");
    };
    let base = root.join(format!("test-of-coracle-{}", std::process::id()));
    if let Err(error) = fs::create_dir(&base) {
        return not_here(&format!("mkdir({base:?}): {error}"));
    }
    let held = Held::new(&base, "step").expect("a group");
    let path = held.path.clone();
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
    write(&path, "cgroup.procs", &sleeper.id().to_string()).expect("moves");
    assert_eq!(fs::read_to_string(path.join("cgroup.procs")).expect("reads").trim(), sleeper.id().to_string());
    drop(Group { held, keeps: vec![], swap: false });
    assert!(!path.exists());
    assert!(!sleeper.wait().expect("our child").success(), "it was killed");
    // Of a build that was killed: with a process in it, and without a lock.
    let left = base.join("coracle-step-1-0");
    fs::create_dir(&left).expect("mkdir");
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
    write(&left, "cgroup.procs", &sleeper.id().to_string()).expect("moves");
    clean(&base);
    assert!(!sleeper.wait().expect("our child").success(), "it was killed");
    clean(&base);
    assert!(!left.exists());
    fs::remove_dir(&base).expect("is empty");
}
