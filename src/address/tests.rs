use super::*;

fn git(text: &str) -> GitAddress {
    match remote(text, Written::AsContext) {
        Some(Ok(Remote::Git(git))) => git,
        other => panic!("{text}: {other:?}"),
    }
}

fn refused(text: &str) -> AddressError {
    match remote(text, Written::AsContext) {
        Some(Err(error)) => error,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn what_is_a_repository_and_what_a_file() {
    for text in [
        "https://host/a/b.git",
        "HTTPS://host/a.git#v1",
        "http://host:8080/a.git?ref=v1",
        "git://host/a",
        "ssh://git@host:22/a/b",
        "git@github.com:a/b.git",
        "user@host:path/to/repository#branch:dir",
        "github.com/a/b",
        "github.com/a/b.git#v1",
    ] {
        git(text);
    }
    for text in
        ["https://host/a.tar.gz", "https://host/a.git.tar", "https://host/?x=a.git", "http://host/a.git.zip#x.git"]
    {
        assert_eq!(remote(text, Written::AsSource), Some(Ok(Remote::File(text.into()))));
    }
    for text in [".", "/a@b:c", "./a@b:c", "a", "a.git", "ftp://host/a", "file:///a.git", "dir/github.com/a", "C:\\a"] {
        assert_eq!(remote(text, Written::AsContext), None, "{text}");
    }
    // It may be a folder of that name.
    assert_eq!(remote("github.com/a/b", Written::AsSource), None);
}

#[test]
fn the_fragment_and_the_parameters_say_the_same_things() {
    let plain = git("https://host/a.git#v1:docs/x");
    assert_eq!((plain.reference.as_deref(), plain.subdir.as_deref()), (Some("v1"), Some("docs/x")));
    assert_eq!(git("https://host/a.git?ref=v1&subdir=docs%2Fx"), plain);
    assert_eq!(git("https://host/a.git?ref=v1#:docs/x"), plain);
    assert_eq!(plain.url, "https://host/a.git");
    assert_eq!(git("https://host/a.git?branch=x").reference.as_deref(), Some("refs/heads/x"));
    assert_eq!(git("https://host/a.git?tag=x").reference.as_deref(), Some("refs/tags/x"));
    let all = git("git@host:a.git?checksum=ABCDEF1&keep-git-dir=true&submodules=false&subdir=/../a/./b/");
    assert_eq!(all.checksum.as_deref(), Some("abcdef1"));
    assert_eq!((all.keep_git_dir, all.submodules, all.subdir.as_deref()), (Some(true), false, Some("a/b")));
    assert_eq!((plain.keep_git_dir, plain.submodules), (None, true));
    assert_eq!(git("https://host/a.git#:/").subdir, None);
}

#[test]
fn an_address_that_contradicts_itself_is_refused() {
    for text in ["https://host/a.git?ref=a#b", "https://host/a.git?ref=a&tag=a", "https://host/a.git?subdir=a#:b"] {
        assert!(matches!(refused(text), AddressError::Twice { .. }), "{text}");
    }
    assert!(matches!(refused("https://host/a.git?rev=a"), AddressError::UnknownParameter { .. }));
    assert!(matches!(refused("https://host/a.git?submodules=maybe"), AddressError::NotBool { .. }));
    assert!(matches!(refused("https://host/a.git?checksum=main"), AddressError::BadCommit { .. }));
    assert!(git("https://host/a.git?checksum=abcdef1").with_checksum("abcdef2").is_err());
}

#[test]
fn nothing_in_an_address_can_be_taken_for_an_option_or_an_expression() {
    for reference in
        ["-b", "--upload-pack=x", "a..b", "HEAD~1", "HEAD^", "a b", "x@{1}", "+a", "a/.b", "a.lock", "@", "a\\b"]
    {
        let text = format!("https://host/a.git#{reference}");
        // A plus is fine in a name; git is never given one in front of a refspec of ours.
        assert_eq!(matches!(remote(&text, Written::AsContext), Some(Err(_))), reference != "+a", "{reference}");
    }
    assert!(matches!(
        refused("ssh://-oProxyCommand=x/a"),
        AddressError::LooksLikeOption { .. } | AddressError::NoUrl { .. }
    ));
    assert!(matches!(refused("-x@host:a"), AddressError::LooksLikeOption { .. }));
    assert!(matches!(refused("git@-host:a"), AddressError::LooksLikeOption { .. }));
    assert!(matches!(refused("git@host:-a"), AddressError::LooksLikeOption { .. }));
    assert!(matches!(refused("git://host/-a"), AddressError::LooksLikeOption { .. }));
    assert!(matches!(refused("git://host/a\nb"), AddressError::NoUrl { .. }));
    assert!(matches!(refused("https:///a.git"), AddressError::NoUrl { .. } | AddressError::LooksLikeOption { .. }));
}

#[test]
fn no_password_is_shown() {
    assert_eq!(shown("https://ann:secret@host/a?b#c"), "https://ann:***@host/a?b#c");
    assert_eq!(shown("https://token@host/a"), "https://***@host/a");
    assert_eq!(shown("ssh://git@host/a"), "ssh://git@host/a");
    assert_eq!(shown("https://host/a@b"), "https://host/a@b");
    let address = git("https://ann:secret@host/a.git#v1");
    assert_eq!(address.url, "https://host/a.git");
    assert_eq!(address.to_string(), "https://host/a.git#v1");
    assert!(!format!("{address:?}").contains("secret"));
    assert_eq!(address.credentials, Some(("ann".into(), "secret".into())));
    assert_eq!(git("ssh://git:secret@host/a").url, "ssh://git@host/a");
}

// Rule 15.
#[test]
fn a_file_is_named_by_the_last_part_of_the_path() {
    let name = |url| file_name(url).map(|name| String::from_utf8(name).expect("UTF-8"));
    assert_eq!(name("https://host/a/b.tar.gz?x=/y#/z").as_deref(), Some("b.tar.gz"));
    assert_eq!(name("https://host/a%20b").as_deref(), Some("a b"));
    assert_eq!(name("https://host/a%2Fb").as_deref(), Some("b"));
    assert_eq!(name("https://host/100%").as_deref(), Some("100%"));
    assert_eq!(name("https://host/a/").as_deref(), Some("a"));
    for url in ["https://host", "https://host/", "https://host/a/%2e%2e", "https://host?a/b", "https://h/a%00"] {
        assert_eq!(name(url), None, "{url}");
    }
}

#[test]
fn a_host_is_one_only_where_nobody_reads_another() {
    for (url, is) in [
        ("http://host/a", "host"),
        ("HTTPS://Host.Example:8443/a", "Host.Example:8443"),
        ("https://host:443", "host:443"),
        ("http://host:/a", "host"),
        ("https://a@b:c@host/x@y", "host"),
        ("https://host?a@b/c", "host"),
        (r"https://host?a\@b/c", "host"),
        ("https://host#@b", "host"),
        ("http://[::1]:80/a", "[::1]:80"),
        ("http://[0:0::1]/a", "[0:0::1]"),
        ("ssh://git@Host:22/a", "Host:22"),
        ("git://host.:9418/a", "host.:9418"),
        ("http://b\u{fc}cher.example/a", "xn--bcher-kva.example"),
    ] {
        assert_eq!(host(url).as_deref(), Some(is), "{url}");
    }
    for url in [
        r"http://127.0.0.1:5061\@good.example/file",
        r"http://bad.example\@good.example/file",
        r"http://bad.example\.good.example/file",
        "http:/bad.example/://good.example/",
        "http:///bad.example/a",
        "http://bad%2eexample/a",
        "http://2130706433/a",
        "http://0x7f.1/a",
        "http://127.1/a",
        "http://ho\tst/a",
        "http://b\u{ff0f}good.example/a",
        "http://b\u{ff20}good.example/a",
        "http://host:99999/a",
        "http://:80/a",
        "good.example/a",
        "",
    ] {
        assert_eq!(host(url), None, "{url}");
        if url.starts_with("http://") {
            assert!(matches!(refused(url), AddressError::NoUrl { .. }), "{url}");
        }
    }
}
