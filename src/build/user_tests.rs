use super::*;
use crate::tree::memory::MemoryTree;

const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/sh\n\
    broken line\n#app:x:9:9::/:\nbad:x:-1:5::/:\nlarge:x:4294967295:5::/:\n\
    app:x:1000:1001:An App:/home/app:/bin/sh\nhomeless:x:7:8\n1000:x:55:56::/number:\n";
const GROUPS: &str =
    "root:x:0:\napp:x:1001:app\naudio:x:29:app,other\n\nbad:x:y:app\nwheel:x:10:other,app\nagain:x:29:app\n";

fn image() -> MemoryTree {
    MemoryTree::new().file("etc/passwd", ACCOUNTS).file("etc/group", GROUPS)
}

fn user(uid: u32, gid: u32, supplementary: &[u32], home: &str, name: &str) -> User {
    User { uid, gid, supplementary: supplementary.to_vec(), home: home.to_owned(), name: name.to_owned() }
}

#[test]
fn user_means_whom_the_image_says() {
    let table = [
        ("", user(0, 0, &[], "/root", "root")),
        ("0", user(0, 0, &[], "/root", "root")),
        ("root", user(0, 0, &[], "/root", "root")),
        ("app", user(1000, 1001, &[29, 10], "/home/app", "app")),
        ("app:wheel", user(1000, 10, &[], "/home/app", "app")),
        ("app:77", user(1000, 77, &[], "/home/app", "app")),
        ("7", user(7, 8, &[], "/", "homeless")),
        ("1234", user(1234, 0, &[], "/", "1234")),
        ("1234:app", user(1234, 1001, &[], "/", "1234")),
        ("4294967294", user(4294967294, 0, &[], "/", "4294967294")),
    ];
    for (spec, expected) in table {
        assert_eq!(lookup_user(&image(), spec).expect(spec), expected, "{spec}");
    }
}

#[test]
fn a_number_in_passwd_is_as_good_as_its_name() {
    let image = MemoryTree::new().file("etc/passwd", "app:x:5:6::/app:\n").file("etc/group", "g:x:9:app\n");
    assert_eq!(lookup_user(&image, "5").expect("known"), lookup_user(&image, "app").expect("known"));
}

#[test]
fn a_name_that_looks_like_a_number_is_a_name_first() {
    assert_eq!(lookup_user(&image(), "1000").expect("known").uid, 55);
}

#[test]
fn chown_means_whom_the_image_says() {
    let table = [
        ("0", (0, 0)),
        ("1000", (1000, 1000)),
        ("12:34", (12, 34)),
        ("app", (1000, 1001)),
        ("app:audio", (1000, 29)),
        ("app:5", (1000, 5)),
        ("5:app", (5, 1001)),
    ];
    for (spec, expected) in table {
        assert_eq!(lookup_owner(&image(), spec).expect(spec), expected, "{spec}");
    }
}

#[test]
fn numbers_need_no_files() {
    let scratch = MemoryTree::new();
    assert_eq!(lookup_owner(&scratch, "5:6").expect("numbers"), (5, 6));
    assert_eq!(lookup_user(&scratch, "5:6").expect("numbers"), user(5, 6, &[], "/", "5"));
    assert_eq!(lookup_user(&scratch, "").expect("root"), user(0, 0, &[], "/", "0"));
}

#[test]
fn an_unknown_name_is_an_error_that_says_which_file_lacks_it() {
    let table = [
        ("nobody", "there is no user \"nobody\" in /etc/passwd of the image"),
        ("app:nothing", "there is no group \"nothing\" in /etc/group of the image"),
        ("bad", "there is no user \"bad\" in /etc/passwd of the image"),
        ("a\u{1b}b", "there is no user \"a\\u{1b}b\" in /etc/passwd of the image"),
        ("4294967295", "4294967295 is no user id"),
        ("app:99999999999", "99999999999 is no group id"),
        (":app", "\":app\" lacks a user"),
        ("app:", "\"app:\" lacks a group"),
    ];
    for (spec, expected) in table {
        for error in [lookup_user(&image(), spec).map(drop), lookup_owner(&image(), spec).map(drop)] {
            let error = error.expect_err(spec).to_string();
            assert!(error.starts_with(expected), "{spec}: {error}");
        }
    }
    let error = lookup_owner(&MemoryTree::new(), "app").expect_err("no file");
    assert_eq!(error.to_string(), "cannot look up the user \"app\": the image has no /etc/passwd; give its number");
}

#[test]
fn the_files_are_found_through_links_inside_of_the_image() {
    let image =
        MemoryTree::new().link("etc", "/../usr/etc").file("usr/etc/real", ACCOUNTS).link("usr/etc/passwd", "real");
    assert_eq!(lookup_owner(&image, "app").expect("known"), (1000, 1001));
}

#[test]
fn a_fifo_or_a_huge_file_is_not_read() {
    for image in [
        MemoryTree::new().other("etc/passwd", Kind::Fifo),
        MemoryTree::new().dir("etc/passwd"),
        MemoryTree::new().file("etc/passwd", "x".repeat((1 << 20) + 1)),
    ] {
        assert!(matches!(lookup_user(&image, "app"), Err(UserError::BadFile { file: "/etc/passwd", .. })));
        assert!(matches!(lookup_owner(&image, "app"), Err(UserError::BadFile { .. })));
    }
}

#[test]
fn bytes_that_are_no_text_harm_only_their_line() {
    let image = MemoryTree::new().file("etc/passwd", b"\xff\xfe:x:1:1\napp:x:5:6::/a:\r\n");
    assert_eq!(lookup_owner(&image, "app").expect("known"), (5, 6));
}
