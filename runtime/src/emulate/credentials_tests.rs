use super::*;

const DOCKER: u64 = 0xa804_25fb;

fn root() -> Credentials {
    Credentials::new(0, 0, &[], DOCKER)
}

fn ids(ids: Ids) -> [u32; 4] {
    [ids.real, ids.effective, ids.saved, ids.fs]
}

#[test]
fn root_becomes_anybody_and_nobody_becomes_root_again() {
    let mut user = root();
    user.set_groups(vec![27, 4]).expect("may");
    user.set_gid(Change::One(50)).expect("may");
    user.set_uid(Change::Three([1000; 3])).expect("may");
    assert_eq!((ids(user.uid), ids(user.gid), &user.groups[..]), ([1000; 4], [50; 4], &[4, 27][..]));
    assert_eq!(user.caps, Caps { effective: 0, permitted: 0, inheritable: 0, bounding: DOCKER, ambient: 0 });
    let before = user.clone();
    for change in [Change::One(0), Change::Two(0, 0), Change::Two(KEEP, 0), Change::Three([KEEP, 0, KEEP])] {
        assert_eq!(user.set_uid(change), Err(Errno::PERM));
        assert_eq!(user.set_gid(change), Err(Errno::PERM));
    }
    assert_eq!(user.set_groups(vec![]), Err(Errno::PERM));
    assert_eq!(user.set_uid(Change::One(KEEP)), Err(Errno::INVAL));
    assert_eq!(user, before);
}

#[test]
fn a_setuid_program_can_step_back_and_forth() {
    let mut user = Credentials::new(1000, 1000, &[], DOCKER);
    user.execute(Program { setuid: Some(0), ..Program::default() }).expect("may");
    assert_eq!(ids(user.uid), [1000, 0, 0, 0]);
    assert_eq!((user.caps.effective, user.caps.permitted), (DOCKER, DOCKER));
    user.set_uid(Change::Two(KEEP, 1000)).expect("its own");
    assert_eq!((ids(user.uid), user.caps.effective, user.caps.permitted), ([1000, 1000, 0, 1000], 0, DOCKER));
    user.set_uid(Change::Two(KEEP, 0)).expect("saved");
    assert_eq!((ids(user.uid), user.caps.effective), ([1000, 0, 0, 0], DOCKER));
    user.set_uid(Change::Two(1000, 1000)).expect("may");
    assert_eq!((ids(user.uid), user.caps.permitted), ([1000; 4], 0));
}

#[test]
fn what_each_form_does_to_the_saved_id() {
    for (change, expected) in [
        (Change::Two(KEEP, 0), [0, 0, 0, 0]),
        (Change::Two(KEEP, 5), [0, 5, 5, 5]),
        (Change::Two(7, KEEP), [7, 0, 0, 0]),
        (Change::Two(7, 8), [7, 8, 8, 8]),
        (Change::Three([KEEP, 5, KEEP]), [0, 5, 0, 5]),
        (Change::Three([1, 2, 3]), [1, 2, 3, 2]),
        (Change::One(9), [9; 4]),
        (Change::Fs(9), [0, 0, 0, 9]),
    ] {
        let mut user = root();
        user.set_gid(change).expect("may");
        user.set_uid(change).expect("may");
        assert_eq!((ids(user.uid), ids(user.gid)), (expected, expected), "{change:?}");
    }
}

#[test]
fn the_user_of_files_takes_the_capabilities_for_files_along() {
    let mut user = root();
    assert_eq!(user.set_uid(Change::Fs(1000)), Ok(0));
    assert_eq!(user.caps.effective, DOCKER & !FILE_CAPS);
    assert_eq!(user.set_uid(Change::Fs(KEEP)), Ok(1000), "an id that is none asks for the old one");
    assert_eq!(user.set_uid(Change::Fs(0)), Ok(1000));
    assert_eq!(user.caps.effective, DOCKER);
}

#[test]
fn capabilities_are_kept_over_a_change_of_user_where_that_was_asked_for() {
    let mut user = root();
    user.set_keep_caps(1).expect("may");
    user.set_uid(Change::One(1000)).expect("may");
    assert_eq!((user.caps.effective, user.caps.permitted), (0, DOCKER));
    user.set_caps(Cap::CHOWN.bit(), DOCKER, Cap::CHOWN.bit()).expect("permitted");
    user.raise_ambient(Cap::CHOWN).expect("permitted and inheritable");
    user.execute(Program::default()).expect("may");
    assert_eq!((user.caps.effective, user.caps.permitted), (Cap::CHOWN.bit(), Cap::CHOWN.bit()));
    assert_eq!(user.securebits, 0);
    assert_eq!(user.set_caps(Cap::KILL.bit(), Cap::KILL.bit(), 0), Err(Errno::PERM));
}

#[test]
fn what_is_out_of_the_bounding_set_does_not_come_back() {
    let mut user = root();
    user.drop_bound(Cap::MKNOD).expect("may");
    assert_eq!(user.drop_bound(Cap(64)), Err(Errno::INVAL));
    user.execute(Program::default()).expect("may");
    assert!(!user.may(Cap::MKNOD) && user.may(Cap::CHOWN));
}

#[test]
fn capabilities_of_files_are_given() {
    let net_raw = FileCaps { permitted: 1 << 13, inheritable: 0, effective: true };
    let program = Program { caps: Some(net_raw), ..Program::default() };
    let mut user = Credentials::new(1000, 1000, &[], DOCKER);
    user.execute(program).expect("may");
    assert_eq!((user.caps.effective, user.caps.permitted), (1 << 13, 1 << 13));
    let admin = FileCaps { permitted: Cap::SYS_ADMIN.bit(), ..net_raw };
    let mut user = Credentials::new(1000, 1000, &[], DOCKER);
    assert_eq!(user.execute(Program { caps: Some(admin), ..program }), Err(Errno::PERM), "out of bounds");
    let mut user = Credentials::new(1000, 1000, &[], DOCKER);
    user.execute(Program { setuid: Some(0), ..program }).expect("may");
    assert_eq!(user.caps.permitted, 1 << 13, "root by setuid gets what the file says");
}

#[test]
fn no_new_privs_keeps_setuid_programs_from_changing_anything() {
    let mut user = Credentials::new(1000, 1000, &[], DOCKER);
    user.no_new_privs = true;
    let before = user.clone();
    user.execute(Program { setuid: Some(0), setgid: Some(0), ..Program::default() }).expect("runs");
    assert_eq!(user, before);
}

#[test]
fn securebits_are_locked_for_good() {
    let mut user = root();
    user.set_securebits(u64::from(NO_SETUID_FIXUP | NO_SETUID_FIXUP << 1)).expect("may");
    assert_eq!(user.set_securebits(0), Err(Errno::PERM));
    assert_eq!(user.set_securebits(1 << 40), Err(Errno::PERM));
    user.set_uid(Change::One(1000)).expect("may");
    assert_eq!(user.caps.effective, DOCKER, "nothing is taken");
    let mut locked = root();
    locked.set_securebits(u64::from(KEEP_CAPS_LOCKED)).expect("may");
    assert_eq!(locked.set_keep_caps(1), Err(Errno::PERM));
    assert_eq!(root().set_keep_caps(2), Err(Errno::INVAL));
}

#[test]
fn access_is_asked_for_the_real_user() {
    let mut user = Credentials::new(1000, 1000, &[], DOCKER);
    user.execute(Program { setuid: Some(0), ..Program::default() }).expect("may");
    let real = user.real();
    assert_eq!((real.uid.fs, real.caps.effective), (1000, 0));
    assert_eq!(root().real(), root());
}

#[test]
fn capabilities_of_files_are_read_as_the_kernel_writes_them() {
    let text = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let caps = |permitted, inheritable, effective| Some(FileCaps { permitted, inheritable, effective });
    for (words, expected) in [
        (&[0x0200_0001, 1 << 13, 0, 0, 0][..], caps(1 << 13, 0, true)),
        (&[0x0300_0000, 0, 1, 1 << 7, 0, 1000], caps(1 << 39, 1, false)),
        (&[0x0100_0000, 5, 6], caps(5, 6, false)),
        (&[0x0200_0001, 0, 0, u32::MAX, 0], caps(0x1ff_0000_0000, 0, true)),
        (&[0x0200_0001, 1 << 13, 0, 0], None),
        (&[0x0300_0001, 1 << 13, 0, 0, 0], None),
        (&[0x0400_0001, 1 << 13, 0, 0, 0], None),
        (&[], None),
    ] {
        assert_eq!(FileCaps::parse(&text(words)), expected, "{words:x?}");
    }
}
