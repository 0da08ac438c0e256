//! What the flags of COPY and ADD become.

use super::*;

fn copy(line: &str) -> Copy {
    plan(&format!("FROM base\nENV e=x\nWORKDIR /w\n{line}\n")).copies()[0].clone()
}

#[track_caller]
fn error(line: &str) -> String {
    case(&format!("FROM base\n{line}\n")).errors().remove(0)
}

#[test]
fn flags_are_expanded_and_switches_are_not() {
    let made = copy("COPY --link --parents=TRUE --exclude=$e/*.md --exclude=**/y --chown=$e --chmod=7${e:+55} a b");
    assert_eq!((made.link, made.parents, made.exclude), (true, true, vec!["x/*.md".into(), "**/y".into()]));
    assert_eq!((made.chown.as_deref(), made.chmod), (Some("x"), Some(Chmod::Octal(0o755))));
    assert!(!copy("COPY --link=false a b").link);
    assert_eq!(error("COPY --link=$e a b"), "2: the flag `--link` is true or false, not `$e`");
    assert_eq!(error("COPY --parents= a b"), "2: the flag `--parents` is true or false, not ``");
    // An empty value is none.
    assert_eq!(copy("COPY --chown= --chmod= --from= a b").from, CopyFrom::Context);
}

#[test]
fn the_history_has_the_flags_that_buildkit_writes() {
    let plan =
        plan("FROM base\nCOPY --link --exclude=x --chmod=u+x --chown=1:2 --parents a b /\nADD --unpack=false a /\n");
    assert_eq!(
        plan.history(),
        [("COPY --parents --chown=1:2 --chmod=u+x a b / # buildkit", false), ("ADD a / # buildkit", false),]
    );
    assert_eq!(plan.last().steps[0].text, "COPY --link --exclude=x --parents --chown=1:2 --chmod=u+x a b /");
}

#[test]
fn add_tells_paths_urls_and_git_apart() {
    let made = copy("ADD a https://h/$e.tar https://h/r.git#main:d git@h:r /d/");
    assert_eq!(
        made.sources,
        [
            CopySource::Path("a".into()),
            CopySource::Url("https://h/x.tar".into()),
            CopySource::Git("https://h/r.git#main:d".into()),
            CopySource::Git("git@h:r".into()),
        ]
    );
    assert_eq!(made.add, Some(Add::default()));
    assert_eq!(copy("COPY a b").add, None);
    assert_eq!(error("ADD --from=x a b"), "2: unknown flag `--from` of ADD");
}

#[test]
fn the_flags_of_add() {
    let sum = format!("sha256:{}", "0a".repeat(32));
    let add = |line: &str| copy(line).add.unwrap();
    assert_eq!(add(&format!("ADD --checksum={sum} https://h/a /")).checksum, Some(sum.clone()));
    assert_eq!(add("ADD --checksum=0a1b2c3 git@h:r /").checksum.as_deref(), Some("0a1b2c3"));
    assert_eq!(add("ADD --unpack https://h/a /").unpack, Some(true));
    assert_eq!(add("ADD --unpack=false a /").unpack, Some(false));
    assert_eq!(add("ADD --keep-git-dir=true git@h:r /").keep_git_dir, Some(true));
    for (line, message) in [
        (format!("ADD --checksum={sum} a /"), "`--checksum` is for a URL or a git repository"),
        (format!("ADD --checksum={sum} https://h/a https://h/b /"), "`--checksum` is for one source, not for several"),
        ("ADD --checksum=md5:00 https://h/a /".into(), "`md5:00` is not a checksum"),
        ("ADD --checksum=main git@h:r /".into(), "`main` is not a checksum"),
    ] {
        assert_eq!(error(&line), format!("2: {message}"));
    }
    assert_eq!(error("COPY --checksum=x a b"), "2: unknown flag `--checksum` of COPY");
}

#[test]
fn every_flag_is_in_the_key() {
    let sum = "00".repeat(32);
    let lines = [
        "COPY a b".to_owned(),
        "COPY --link a b".into(),
        "COPY --parents a b".into(),
        "COPY --exclude=x a b".into(),
        "COPY --exclude=y a b".into(),
        "COPY --chmod=u+x a b".into(),
        "COPY --chmod=755 a b".into(),
        "COPY --chown=1 a b".into(),
        "COPY --from=base a b".into(),
        "ADD a b".into(),
        "ADD --unpack a b".into(),
        "ADD --unpack=false a b".into(),
        "ADD --keep-git-dir a b".into(),
        "ADD https://h/a b".into(),
        format!("ADD --checksum=sha256:{sum} https://h/a b"),
        "ADD https://h/a.git b".into(),
        "COPY <<a b\na\n".into(),
        "COPY <<a b\nx\na\n".into(),
    ];
    let mut keys: Vec<_> = lines.iter().map(|line| definition(&Op::Copy(copy(line)))).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), lines.len());
}
