//! COPY --parents, --exclude, --link, --chmod and here-documents, built.

mod support;

use support::{Project, User};

fn project() -> Project {
    Project::new().file("src/a.txt", "a").file("src/x/b.txt", "b").file("src/x/y/c.md", "c").file("top.txt", "t")
}

fn build(lines: &str) -> support::Image {
    project().dockerfile(&format!("FROM busybox\n{lines}\n")).build().succeeds()
}

#[test]
fn parents_keep_the_directories_of_a_source() {
    let image = build("COPY --parents src/**/*.txt top.txt /p/\nCOPY --parents ./src/./x/*.txt /q");
    image.has_file("p/src/a.txt", "a").has_file("p/src/x/b.txt", "b").has_file("p/top.txt", "t").has_no("p/src/x/y");
    image.has_file("q/x/b.txt", "b").has_no("q/src");
    project()
        .dockerfile("FROM scratch\nCOPY --parents none /")
        .build()
        .fails_cleanly()
        .stderr_has("\"none\" is not there");
    let stage = "FROM busybox\nRUN mkdir -p /in/d && echo x >/in/d/f && chown -R 4:5 /in\n\
                 FROM scratch\nCOPY --from=0 --parents --chmod=u=rwX,go= /in/./d/f /out/\n";
    let stage = stage.replace("FROM busybox", "FROM busybox AS s").replace("--from=0", "--from=s");
    let image = Project::new().dockerfile(&stage).build().succeeds();
    image.has_owner("out", "0:0", 0o700).has_owner("out/d", "4:5", 0o700).has_owner("out/d/f", "4:5", 0o600);
}

#[test]
fn excluded_files_are_not_copied_and_do_not_count() {
    let project = project().dockerfile("FROM busybox\nCOPY --exclude=**/*.md --exclude=a.* src /d\n");
    let image = project.build().succeeds();
    image.has_file("d/x/b.txt", "b").has_no("d/a.txt").has_no("d/x/y/c.md").has_dir("d/x/y");
    project.clone().file("src/new.md", "new").file("src/a.txt", "changed").build().cached(1);
    project.file("src/x/b.txt", "changed").build().cached(0);
}

#[test]
fn here_documents_are_files() {
    let image = build(
        "ENV who=you\nCOPY --chown=1:2 --chmod=0755 <<one <<-\"two\" /d/\nhello $who\none\n\thello $who\ntwo\nCOPY <<EOF /f\nx\nEOF",
    );
    image.has_file("d/one", "hello you\n").has_file("d/two", "hello $who\n").has_file("f", "x\n");
    image.has_owner("d", "1:2", 0o755).has_owner("d/one", "1:2", 0o755).has_owner("f", "0:0", 0o644);
    let lines = |text: &str| Project::new().dockerfile(&format!("FROM scratch\nCOPY <<EOF /f\n{text}\nEOF\n"));
    let user = lines("a");
    user.build().cached(0);
    user.clone().build().cached(1);
    user.dockerfile("FROM scratch\nCOPY <<EOF /f\nb\nEOF\n").build().cached(0);
}

#[test]
fn with_link_directories_take_the_place_of_links() {
    let image = build(
        "RUN mkdir /real && ln -s /real /link && touch /file\nCOPY --link src /link/\nCOPY --link top.txt /file/x\nRUN ls /link/a.txt /file/x",
    );
    image.has_dir("link").has_file("link/a.txt", "a").has_no("real/a.txt").has_file("file/x", "t");
    image.has_owner("link", "0:0", 0o755);
    // Without it the link is followed.
    build("RUN mkdir /real && ln -s /real /link\nCOPY src /link/")
        .has_file("real/a.txt", "a")
        .has_link("link", "/real");
}

#[test]
fn a_layer_of_link_is_the_same_on_another_base() {
    let user = User::with_busybox();
    let project = Project::of(&user).file("f", "text");
    let lines = |first: &str| format!("FROM busybox\nRUN {first}\nCOPY --link --chown=5:6 f /a/b/\n");
    let one = project.clone().dockerfile(&lines("echo 1 >/one")).build().cached(0).succeeds();
    let two = project.clone().dockerfile(&lines("echo 2 >/two")).build().cached(1).succeeds();
    let layer = |image: &support::Image| image.manifest()["layers"][image.layer_count() - 1]["digest"].clone();
    assert_eq!(layer(&one), layer(&two));
    two.has_owner("a", "5:6", 0o755).has_owner("a/b/f", "5:6", 0o644).has_file("two", "2\n");
    // Nothing of the layers below is in it.
    assert_eq!(two.top_layer().paths(), ["a", "a/b", "a/b/f"]);
}

#[test]
fn names_cannot_be_looked_up_for_a_layer_of_link() {
    let fails = |chown: &str| {
        let lines = format!("FROM busybox\nCOPY --link --chown={chown} top.txt /x\n");
        project().dockerfile(&lines).build().fails_cleanly().stderr_has("Dockerfile:2").stderr_has("--link");
    };
    fails("www-data");
    fails("0:staff");
    build("COPY --link --chown=root:0 top.txt /x").has_owner("x", "0:0", 0o644);
    // With --chmod it is an ordinary COPY, as in BuildKit.
    build("COPY --link --chmod=600 --chown=www-data top.txt /x").has_owner("x", "33:33", 0o600);
}

#[test]
fn link_false_is_an_ordinary_copy() {
    build("RUN mkdir /real && ln -s /real /link\nCOPY --link=false src /link/").has_file("real/a.txt", "a");
}
