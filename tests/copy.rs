//! COPY: what goes where, whose it is, and what is refused.

mod support;

use support::{Kind, Project};

/// A context with a folder `dir` that holds `a`, `b.txt` and `sub/c`.
fn project() -> Project {
    Project::new().file("dir/a", "a").file("dir/b.txt", "b").file("dir/sub/c", "c")
}

// Rule 1.
#[test]
fn a_directory_is_copied_as_its_contents() {
    for source in ["dir", "dir/", "dir/."] {
        let image = project().dockerfile(&format!("FROM busybox\nCOPY {source} /d")).build().succeeds();
        image.has_file("d/a", "a").has_file("d/sub/c", "c").has_no("d/dir");
    }
}

// Rule 1, second half.
#[test]
fn a_glob_that_matches_directories_takes_their_contents() {
    let image = project().dockerfile("FROM busybox\nCOPY dir/* /x/").build().succeeds();
    image.has_file("x/a", "a").has_file("x/c", "c").has_no("x/sub");
}

// Rule 2.
#[test]
fn a_slash_at_the_end_makes_the_destination_a_directory() {
    let image = project()
        .dockerfile(
            "
            FROM busybox
            COPY dir/a /file
            COPY dir/a /folder/
            COPY dir/b.txt /folder
            WORKDIR /w
            COPY dir/a .
            ",
        )
        .build()
        .succeeds();
    image.has_file("file", "a").has_file("folder/a", "a").has_file("folder/b.txt", "b").has_file("w/a", "a");
    image.has_owner("folder", "0:0", 0o755);
}

// Rule 3.
#[test]
fn a_source_never_leaves_the_context() {
    let image = project().dockerfile("FROM busybox\nCOPY ../../dir/a /dir/b.txt /x/").build().succeeds();
    image.has_file("x/a", "a").has_file("x/b.txt", "b");
}

// Rule 4.
#[test]
fn a_missing_file_is_an_error_and_a_glob_that_matches_nothing_a_warning() {
    project().dockerfile("FROM busybox\nCOPY nothing /x").build().fails_cleanly().stderr_has("nothing");
    let built = project().dockerfile("FROM busybox\nCOPY *.none /x/").build().stderr_has("*.none");
    built.succeeds().has_layers(2);
}

// Rule 5.
#[test]
fn globs_are_those_of_go() {
    let image = Project::new()
        .file("a.txt", "")
        .file(".hidden.txt", "")
        .file("[x].txt", "")
        .file("sub/b.txt", "")
        .dockerfile("FROM busybox\nCOPY *.txt /star/\nCOPY [[]x].txt /bracket/\nCOPY ?.txt /one/")
        .build()
        .succeeds();
    image.has_file("star/a.txt", "").has_file("star/.hidden.txt", "").has_no("star/b.txt");
    image.has_file("bracket/[x].txt", "").has_file("one/a.txt", "").has_no("one/.hidden.txt");
}

// Rule 6.
#[test]
fn a_link_that_is_named_is_followed_and_one_within_a_directory_is_kept() {
    let project = project().link("to-a", "dir/a").link("dir/inner", "a").link("out", "/etc/hostname");
    let image = project.clone().dockerfile("FROM busybox\nCOPY to-a /named\nCOPY dir /kept").build().succeeds();
    image.has_file("named", "a").has_link("kept/inner", "a");
    project.dockerfile("FROM busybox\nCOPY out /x").build().fails_cleanly().stderr_has("out");
}

// Rule 7.
#[test]
fn links_in_the_destination_are_followed_inside_the_image() {
    let image = project()
        .dockerfile(
            "FROM busybox\nRUN ln -s ../../../real /link && ln -s /usr /abs\nCOPY dir/a /link/\nCOPY dir/a /abs/b/",
        )
        .build()
        .succeeds();
    image.has_file("real/a", "a").has_file("usr/b/a", "a").has_link("link", "../../../real");
}

// Rule 8.
#[test]
fn a_file_does_not_replace_a_directory_nor_the_other_way_round() {
    let over = |lines: &str| project().dockerfile(&format!("FROM busybox\n{lines}")).build().fails_cleanly();
    over("RUN mkdir -p /x/a\nCOPY dir/a /x/").stderr_has("/x/a");
    over("RUN echo >/x\nCOPY dir /x").stderr_has("/x");
}

// Rule 9.
#[test]
fn directories_that_are_there_keep_owner_and_mode() {
    let image = project()
        .dockerfile("FROM busybox\nRUN mkdir -m 700 /x && chown 5:6 /x\nCOPY --chown=1:2 dir /x")
        .build()
        .succeeds();
    image.has_owner("x", "5:6", 0o700).has_owner("x/a", "1:2", 0o644).has_owner("x/sub", "1:2", 0o755);
}

// Rule 10.
#[test]
fn files_of_the_context_are_roots_whoever_builds_and_whatever_user_says() {
    let image = project().dockerfile("FROM busybox\nUSER 33\nCOPY dir/a /x").build().succeeds();
    image.has_owner("x", "0:0", 0o644);
}

// Rule 10, second half, and rule 13.
#[test]
fn files_of_a_stage_keep_owner_mode_and_links() {
    let image = Project::new()
        .dockerfile(
            "
            FROM busybox AS made
            RUN mkdir -p /out/d && echo x >/out/f && ln /out/f /out/g && chown -R 7:8 /out && chmod 4750 /out/f
            FROM busybox
            COPY --from=made /out /in
            ",
        )
        .build()
        .succeeds();
    image.has_owner("in/f", "7:8", 0o4750).has_owner("in/d", "7:8", 0o755);
    assert_eq!(image.top_layer().node("in/g").kind, Kind::HardLink("in/f".into()));
}

// Rule 12.
#[test]
fn chmod_holds_for_files_and_directories() {
    let image = project().dockerfile("FROM busybox\nCOPY --chmod=750 dir /new/x").build().succeeds();
    image.has_owner("new/x/a", "0:0", 0o750).has_owner("new/x/sub", "0:0", 0o750);
    project().dockerfile("FROM busybox\nCOPY --chmod=888 dir /x").build().fails_cleanly().stderr_has("888");
}

// Rule 13.
#[test]
fn modes_and_times_of_the_context_are_kept() {
    let project = project().mode("dir/a", 0o755).touch("dir/b.txt");
    let image = project.clone().dockerfile("FROM busybox\nCOPY dir /x").build().succeeds();
    image.has_owner("x/a", "0:0", 0o755);
    let time = std::fs::metadata(project.path("dir/b.txt")).and_then(|file| file.modified()).unwrap();
    let seconds = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(image.node("x/b.txt").mtime, seconds);
}

// Rule 14.
#[test]
fn copy_does_not_unpack_an_archive() {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_cksum();
    archive.append_data(&mut header, "inside", &[][..]).unwrap();
    let image = Project::new()
        .file("a.tar", archive.into_inner().unwrap())
        .dockerfile("FROM busybox\nCOPY a.tar /x/")
        .build()
        .succeeds();
    assert!(matches!(image.node("x/a.tar").kind, Kind::File(_)));
    image.has_no("x/inside");
}

#[test]
fn a_fifo_in_the_context_does_not_hang_the_build() {
    let project = project();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        project.path("dir/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let built = project.dockerfile("FROM busybox\nCOPY dir /x").build();
    assert!(matches!(built.code(), Some(0..=6)), "{:?}", built);
}

#[test]
fn of_several_names_of_a_file_the_first_in_the_archive_is_the_file() {
    let image = Project::new()
        .file("m/b", "one file")
        .hard_link("m/a", "m/b")
        .dockerfile("FROM scratch AS first\nCOPY m/b m/a /dst/\nFROM scratch\nCOPY --from=first /dst/b /dst/a /more/\n")
        .build()
        .succeeds();
    image.has_file("more/a", "one file").has_file("more/b", "one file");
}
