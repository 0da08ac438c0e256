use super::*;

fn shown(text: &str, place: Range<usize>) -> String {
    Diagnostic::error("bad").at(place).render(&Source::new("Dockerfile", text), false)
}

#[test]
fn an_error_points_at_its_place_and_says_what_to_do() {
    let text = "FROM runtime\nCOPY --from=constuct /web/site ./\n";
    let at = text.find("constuct").unwrap();
    let error = Diagnostic::error("no stage or image named `constuct`")
        .at(at..at + "constuct".len())
        .hint("did you mean `construct`?");
    assert_eq!(
        error.render(&Source::new("Dockerfile", text), false),
        "\
error: no stage or image named `constuct`
 --> Dockerfile:2:13
  |
2 | COPY --from=constuct /web/site ./
  |             ^^^^^^^^
  |
  = hint: did you mean `construct`?"
    );
}

#[test]
fn a_warning_has_its_word_and_a_label_its_place() {
    let warning = Diagnostic::warning("old").at(0..3).label("since 2017");
    assert_eq!(
        warning.render(&Source::new("f", "ENV a b"), false),
        "\
warning: old
 --> f:1:1
  |
1 | ENV a b
  | ^^^ since 2017"
    );
}

#[test]
fn without_a_place_there_is_no_snippet() {
    let error = Diagnostic::error("no stage named `x`").hint("the stages are: `a`, `b`");
    assert_eq!(
        error.render(&Source::new("f", "FROM a"), false),
        "error: no stage named `x`\n |\n = hint: the stages are: `a`, `b`"
    );
}

#[test]
fn tabs_are_four_columns_wide() {
    assert_eq!(shown("\tRUN\tx", 5..6), "error: bad\n --> Dockerfile:1:6\n  |\n1 |     RUN    x\n  |            ^");
}

#[test]
fn columns_count_characters_and_carets_their_width() {
    assert_eq!(
        shown("RUN é日x", "RUN é日".len().."RUN é日x".len()),
        "error: bad\n --> Dockerfile:1:7\n  |\n1 | RUN é日x\n  |        ^"
    );
}

#[test]
fn a_place_in_the_middle_of_a_character_is_moved_to_its_start() {
    assert!(shown("é", 1..2).contains("1 | é"));
}

#[test]
fn the_end_of_the_file_is_on_its_last_line() {
    assert_eq!(shown("FROM a", 6..6), "error: bad\n --> Dockerfile:1:7\n  |\n1 | FROM a\n  |       ^");
    assert_eq!(shown("", 0..0), "error: bad\n --> Dockerfile:1:1\n  |\n1 |\n  | ^");
    assert_eq!(shown("FROM a", 100..200), "error: bad\n --> Dockerfile:1:7\n  |\n1 | FROM a\n  |       ^");
}

#[test]
fn a_carriage_return_belongs_to_the_line_end() {
    assert_eq!(shown("FROM a\r\nRUN b\r\n", 12..13), "error: bad\n --> Dockerfile:2:5\n  |\n2 | RUN b\n  |     ^");
}

#[test]
fn of_several_lines_the_first_is_shown() {
    assert_eq!(shown("RUN a \\\n  b\n", 0..11), "error: bad\n --> Dockerfile:1:1\n  |\n1 | RUN a \\\n  | ^^^^^^^");
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let evil = "RUN \x1b[31m \u{9b}2J \u{202e}x";
    let source = Source::new("\x1b]0;name\x07", evil);
    let error = Diagnostic::error("bad \x1b[2J\nline").at(4..5).label("\x07").hint("\x1b");
    let shown = error.render(&source, false);
    assert!(shown.chars().all(|c| c == '\n' || !(c.is_control() || is_bidi_control(c))), "{shown:?}");
    assert!(shown.contains(r"1 | RUN \u{1b}[31m \u{9b}2J \u{202e}x"), "{shown}");
    assert!(shown.contains(r"error: bad \u{1b}[2J\nline"), "{shown}");
}

#[test]
fn a_line_of_megabytes_is_cut_around_the_place() {
    let text = format!("RUN {} HERE {}", "x".repeat(1 << 21), "y".repeat(1 << 21));
    let at = text.find("HERE").unwrap();
    let shown = shown(&text, at..at + 4);
    assert!(shown.len() < 2000, "{}", shown.len());
    assert!(shown.contains("HERE"));
}

#[test]
fn color_is_ansi_and_only_on_request() {
    let error = Diagnostic::error("bad").at(0..1);
    let source = Source::new("f", "x");
    assert!(error.render(&source, true).contains('\x1b'));
    assert!(!error.render(&source, false).contains('\x1b'));
}

#[test]
fn lines_count_from_one() {
    let source = Source::new("f", "a\nb\n");
    assert_eq!([0, 1, 2, 3, 4, 99].map(|at| source.line_of(at)), [1, 1, 2, 2, 3, 3]);
}

#[test]
fn the_check_that_found_something_is_named() {
    let source = Source::new("Dockerfile", "FROM $a\n");
    let found = Diagnostic::warning("`a` is not declared").at(5..7).rule("UndefinedArgInFrom");
    assert!(
        found
            .render(&source, false)
            .starts_with("warning[UndefinedArgInFrom]: `a` is not declared\n --> Dockerfile:1:6\n")
    );
}

#[test]
fn lines_are_counted_from_one() {
    let source = Source::new("Dockerfile", "a\r\n\nb");
    assert_eq!([0, 1, 2, 3, 4].map(|line| source.line_text(line)), ["", "a", "", "b", ""]);
}
