use proptest::prelude::*;

use super::*;
use crate::source::{Diagnostic, Source};

fn good(text: &str) -> Dockerfile {
    let source = Source::new("Dockerfile", text);
    parse(&source).unwrap_or_else(|errors| panic!("{text}\n{}", render(&source, &errors)))
}

fn render(source: &Source, all: &[Diagnostic]) -> String {
    all.iter().map(|one| one.render(source, false) + "\n").collect()
}

/// Returns "line: message" for each error.
fn errors(text: &str) -> Vec<String> {
    let source = Source::new("Dockerfile", text);
    lines(&source, &parse(&source).expect_err(text))
}

fn warnings(text: &str) -> Vec<String> {
    lines(&Source::new("Dockerfile", text), &good(text).warnings)
}

fn lines(source: &Source, all: &[Diagnostic]) -> Vec<String> {
    let line = |one: &Diagnostic| one.span.map_or(0, |span| source.line_of(span.start));
    all.iter().map(|one| format!("{}: {}", line(one), one.message)).collect()
}

/// Returns the instructions of the last stage, as text.
fn texts(text: &str) -> Vec<String> {
    good(text).stages.last().unwrap().instructions.iter().map(|it| it.text.clone()).collect()
}

/// Returns the only instruction behind `FROM a`.
fn only(line: &str) -> Instruction {
    let file = good(&format!("FROM a\n{line}\n"));
    assert_eq!(file.stages[0].instructions.len(), 1, "{line}");
    file.stages[0].instructions[0].value.clone()
}

/// Returns the paths, and here-documents as `<<name`.
fn source_texts(sources: &[CopySource]) -> Vec<String> {
    let text = |source: &CopySource| match source {
        CopySource::Path(word) => word.text.clone(),
        CopySource::Heredoc(heredoc) => format!("<<{}", heredoc.name),
    };
    sources.iter().map(text).collect()
}

fn word_texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.text.as_str()).collect()
}

// Lines.

#[test]
fn keywords_have_any_case_and_leading_white_space_does_not_count() {
    assert_eq!(texts("from a\n  \trun b\n"), ["run b"]);
}

#[test]
fn an_instruction_goes_on_behind_the_escape_character() {
    assert_eq!(texts("FROM a\nRUN a \\\n  b \\ \t\n  c\nRUN d"), ["RUN a   b   c", "RUN d"]);
}

#[test]
fn a_doubled_escape_character_ends_the_instruction() {
    assert_eq!(texts("FROM a\nENV C x\\\\\nENV D y"), ["ENV C x\\\\", "ENV D y"]);
}

#[test]
fn comments_inside_an_instruction_are_dropped_and_behind_a_command_are_not() {
    assert_eq!(texts("FROM a\nRUN a \\\n# no\n   # no\n b # yes\n"), ["RUN a  b # yes"]);
}

#[test]
fn an_empty_line_inside_an_instruction_is_a_warning() {
    let text = "FROM a\nRUN a \\\n\n \t\n b\n";
    assert_eq!(texts(text), ["RUN a  b"]);
    assert_eq!(warnings(text), ["3: empty line inside an instruction"]);
}

#[test]
fn carriage_returns_and_a_byte_order_mark_do_not_count() {
    assert_eq!(texts("\u{feff}FROM a\r\nRUN a \\\r\n b\r\n"), ["RUN a  b"]);
    let file = good("\u{feff}# escape=`\r\nFROM a\r\nRUN b `\r\n c");
    assert_eq!(file.directives.escape, '`');
    assert_eq!(file.stages[0].instructions[0].text, "RUN b  c");
}

#[test]
fn a_file_may_end_inside_an_instruction() {
    assert_eq!(texts("FROM a\nRUN a \\"), ["RUN a"]);
    assert_eq!(texts("FROM a\nRUN a \\\n# x"), ["RUN a"]);
}

#[test]
fn the_place_of_a_word_is_known_behind_continuation_lines() {
    let text = "FROM a\nCOPY --chown=b \\\n  # comment\n  src \\\n  dst\n";
    let file = good(text);
    let Instruction::Copy(copy) = &file.stages[0].instructions[0].value else { panic!() };
    let at = |word: &Word| &text[word.span.start..word.span.end];
    assert_eq!(source_texts(&copy.sources), ["src"]);
    assert_eq!(at(&copy.destination), "dst");
    assert_eq!(at(copy.chown.as_ref().unwrap()), "b");
    let span = file.stages[0].instructions[0].span;
    assert_eq!(&text[span.start..span.end], "COPY --chown=b \\\n  # comment\n  src \\\n  dst");
}

// Directives.

#[test]
fn the_escape_directive_must_come_first_and_once() {
    for (text, escape) in [
        ("# escape=`\nFROM a", '`'),
        ("#escape = `\nFROM a", '`'),
        ("# ESCAPE=\\\nFROM a", '\\'),
        ("# syntax=docker/dockerfile:1\n# escape=`\nFROM a", '`'),
        ("\n# escape=`\nFROM a", '\\'),
        ("# a comment\n# escape=`\nFROM a", '\\'),
        ("# unknown=x\n# escape=`\nFROM a", '\\'),
        ("FROM a\n# escape=`", '\\'),
    ] {
        assert_eq!(good(text).directives.escape, escape, "{text:?}");
    }
    assert_eq!(errors("# escape=x\nFROM a"), ["1: `x` cannot be the escape character"]);
    assert_eq!(errors("# escape=`\n# escape=`\nFROM a"), ["2: only one `# escape=` can be used"]);
}

#[test]
fn a_syntax_directive_is_accepted_and_never_fetched() {
    for syntax in ["docker/dockerfile:1", "docker.io/docker/dockerfile:1.7-labs", "docker/dockerfile@sha256:00"] {
        let file = good(&format!("# syntax={syntax}\nFROM a"));
        assert_eq!(file.directives.syntax.unwrap().value, syntax);
        assert_eq!(file.warnings, []);
    }
    assert_eq!(warnings("# syntax=example/frontend\nFROM a"), ["1: the frontend `example/frontend` is not fetched"]);
}

#[test]
fn a_newer_language_than_ours_is_a_warning() {
    for syntax in
        ["docker/dockerfile:1.24", "docker/dockerfile:1.24.7-labs", "docker/dockerfile:labs", "docker/dockerfile:1 x=y"]
    {
        assert_eq!(warnings(&format!("# syntax={syntax}\nFROM a")), [""; 0], "{syntax}");
    }
    for (syntax, version) in [
        ("docker/dockerfile:1.99", "1.99"),
        ("docker/dockerfile:2", "2.0"),
        ("docker.io/docker/dockerfile-upstream:1.25-labs", "1.25"),
    ] {
        let message = format!("1: the Dockerfile is written for version {version} of its language");
        assert_eq!(warnings(&format!("# syntax={syntax}\nFROM a")), [message]);
    }
}

#[test]
fn a_check_directive_is_kept_for_the_checks() {
    let file = good("# check=skip=all;error=true \nFROM a");
    assert_eq!(file.directives.check.unwrap().value, "skip=all;error=true");
    assert_eq!(good("FROM a\n# check=skip=all\nRUN b").directives.check, None);
}

// FROM and the order of things.

#[test]
fn a_stage_has_a_base_and_perhaps_a_name_in_lower_case() {
    let file = good("ARG V=1\nFROM a:$V AS Build\nFROM b@sha256:00 as x-1_2.3\nFROM scratch\n");
    let names: Vec<_> = file.stages.iter().map(|stage| stage.name.as_ref().map(|name| name.value.as_str())).collect();
    assert_eq!(names, [Some("build"), Some("x-1_2.3"), None]);
    assert_eq!(file.stages[0].from.text, "a:$V");
    assert_eq!(file.global_args[0].name, "V");
}

#[test]
fn a_bad_stage_name_or_from_is_an_error() {
    assert_eq!(errors("FROM a AS 1x"), ["1: `1x` cannot be the name of a stage"]);
    assert_eq!(errors("FROM a AS x/y"), ["1: `x/y` cannot be the name of a stage"]);
    assert_eq!(errors("FROM a b"), ["1: FROM takes one word, or `image AS name`"]);
    assert_eq!(errors("FROM a AS"), ["1: FROM takes one word, or `image AS name`"]);
    let hint = |text: &str| parse(&Source::new("Dockerfile", text)).unwrap_err()[0].hint.clone().unwrap();
    assert_eq!(hint("FROM a AS"), "write `AS NAME` to name the stage");
    assert_eq!(hint("FROM a b"), "write `AS b` to name the stage");
    assert_eq!(errors("FROM"), ["1: FROM takes one word, or `image AS name`"]);
    assert_eq!(good("FROM --platform=$P a").stages[0].platform.as_ref().unwrap().text, "$P");
}

#[test]
fn names_that_mean_something_else_and_names_used_twice_are_warnings() {
    assert_eq!(warnings("FROM a AS context"), ["1: the stage name `context` has a meaning of its own"]);
    assert_eq!(warnings("FROM a AS x\nFROM b AS X"), ["2: there is a stage named `x` already"]);
}

#[test]
fn only_arg_may_stand_before_from() {
    assert_eq!(errors("RUN a\nENV b=c\nFROM d"), ["1: RUN before the first FROM"]);
    assert_eq!(errors(""), ["1: there is no FROM"]);
    assert_eq!(errors("# only a comment\n"), ["2: there is no FROM"]);
    assert_eq!(errors("ARG A\n"), ["2: there is no FROM"]);
}

// All errors, and none of them skipped.

#[test]
fn all_errors_are_found_at_once() {
    let text = "FROM a AS 1\nRNU b\nCOPY c\nENV\nRUN ok\nSHELL bash\n";
    assert_eq!(
        errors(text),
        [
            "1: `1` cannot be the name of a stage",
            "2: unknown instruction `RNU`",
            "3: COPY needs at least one source and a destination",
            "4: ENV needs a name and a value",
            "6: SHELL must be a JSON array",
        ]
    );
}

#[test]
fn an_unknown_instruction_says_what_may_be_meant() {
    let source = Source::new("Dockerfile", "FROM a\nENTRYPIONT [\"b\"]\n");
    let errors = parse(&source).unwrap_err();
    assert_eq!(
        errors[0].render(&source, false),
        "\
error: unknown instruction `ENTRYPIONT`
 --> Dockerfile:2:1
  |
2 | ENTRYPIONT [\"b\"]
  | ^^^^^^^^^^
  |
  = hint: did you mean `ENTRYPOINT`?"
    );
}

#[test]
fn a_heredoc_without_its_end_is_an_error_with_its_place() {
    let source = Source::new("Dockerfile", "FROM a\nRUN cat <<EOF >/x\nb\n EOF\n");
    let errors = parse(&source).unwrap_err();
    assert_eq!(
        render(&source, &errors),
        "\
error: the here-document `EOF` does not end
 --> Dockerfile:2:9
  |
2 | RUN cat <<EOF >/x
  |         ^^^^^
  |
  = hint: the line that ends it is `EOF` and nothing else
"
    );
    // What follows is its body, and no further error.
    assert_eq!(errors_of_bodies("RUN <<EOF\nRNU\n"), ["2: the here-document `EOF` does not end"]);
    assert_eq!(errors_of_bodies("COPY <<a <<b /d\na\n"), ["2: the here-document `b` does not end"]);
    assert_eq!(errors_of_bodies("ONBUILD COPY <<a /d\nx\n"), ["2: the here-document `a` does not end"]);
}

fn errors_of_bodies(text: &str) -> Vec<String> {
    errors(&format!("FROM a\n{text}"))
}

#[test]
fn a_body_makes_no_instruction_and_no_comment() {
    let text = "FROM a\nRUN <<EOF\nFROM b\n# c\n\\\nEOF\nCOPY <<-x <<y /d/\n#\n\tx\ny\nUSER z\n";
    let file = good(text);
    let instructions = &file.stages[0].instructions;
    assert_eq!(instructions.len(), 3);
    let Instruction::Run(run) = &instructions[0].value else { panic!() };
    assert_eq!(run.heredocs[0].body, "FROM b\n# c\n\\\n");
    let span = run.heredocs[0].span;
    assert_eq!(&text[span.start..span.end], run.heredocs[0].body);
    let Instruction::Copy(copy) = &instructions[1].value else { panic!() };
    assert_eq!(source_texts(&copy.sources), ["<<x", "<<y"]);
}

#[test]
fn only_run_copy_and_add_have_heredocs_and_never_in_json() {
    for line in [
        "RUN [\"cat\", \"<<EOF\"]",
        "COPY [\"<<EOF\", \"/d\"]",
        "ENV a=<<EOF",
        "CMD cat <<EOF",
        "USER <<x",
        "RUN echo $((1<<3))",
    ] {
        only(line);
    }
}

#[test]
fn words_of_copy_are_parted_by_white_space_only_so_a_heredoc_needs_a_plain_name() {
    for (text, message) in [
        ("COPY << E /d\nE\n", "the here-document `E` is no source"),
        ("COPY <<'a b' /d\na b\n", "the here-document `a b` is no source"),
        ("COPY \"x <<E y\" /d\nE\n", "the here-document `E` stands in quotes"),
    ] {
        assert_eq!(errors_of_bodies(text)[0], format!("2: {message}"), "{text}");
    }
    let Instruction::Copy(copy) = only("COPY <<E <<'E' /d\n1\nE\n2\nE") else { panic!() };
    let bodies: Vec<_> = copy
        .sources
        .iter()
        .map(|it| if let CopySource::Heredoc(it) = it { (it.body.as_str(), it.expand) } else { panic!() })
        .collect();
    // Of two of one name the last body counts, as in BuildKit.
    assert_eq!(bodies, [("2\n", true), ("2\n", false)]);
}

#[test]
fn onbuild_holds_an_instruction_of_its_own() {
    let Instruction::OnBuild(on_build) = only("ONBUILD  copy --chown=1 a \\\n  b ") else { panic!() };
    assert_eq!(on_build.trigger, "copy --chown=1 a   b ");
    assert!(matches!(on_build.instruction.value, Instruction::Copy(_)));
    assert_eq!(on_build.instruction.text, "copy --chown=1 a   b");
    for (line, message) in [
        ("ONBUILD", "ONBUILD needs an instruction"),
        ("ONBUILD RNU x", "unknown instruction `RNU`"),
        ("ONBUILD ONBUILD RUN x", "ONBUILD cannot be the instruction of an ONBUILD"),
        ("ONBUILD from x", "FROM cannot be the instruction of an ONBUILD"),
        ("ONBUILD maintainer x", "MAINTAINER cannot be the instruction of an ONBUILD"),
        ("ONBUILD --x RUN y", "unknown flag `--x` of ONBUILD"),
        ("ONBUILD COPY --form=a b c", "unknown flag `--form` of COPY"),
    ] {
        assert_eq!(errors_of_bodies(line), [format!("2: {message}")], "{line}");
    }
}

#[test]
fn healthcheck_is_a_command_with_times_or_none() {
    let Instruction::Healthcheck(health) = only(
        "HEALTHCHECK --interval=1m30s --timeout=3s --start-period=500ms --start-interval=1s --retries=3 CMD  curl -f x",
    ) else {
        panic!()
    };
    assert_eq!(health.check, Some(CommandLine::Shell("curl -f x".into())));
    assert_eq!((health.interval, health.timeout), (90_000_000_000, 3_000_000_000));
    assert_eq!((health.start_period, health.start_interval, health.retries), (500_000_000, 1_000_000_000, 3));
    assert!(
        matches!(only("HEALTHCHECK cmd [\"a\", \"b\"]"), Instruction::Healthcheck(it) if it.check == Some(CommandLine::Exec(vec!["a".into(), "b".into()])))
    );
    assert!(matches!(only("HEALTHCHECK none"), Instruction::Healthcheck(it) if it.check.is_none()));
    assert!(matches!(only("HEALTHCHECK --interval=0 CMD a"), Instruction::Healthcheck(it) if it.interval == 0));
    for (line, message) in [
        ("HEALTHCHECK", "HEALTHCHECK needs CMD and a command, or NONE"),
        ("HEALTHCHECK CMD", "HEALTHCHECK needs a command behind CMD"),
        ("HEALTHCHECK CMD []", "HEALTHCHECK needs a command behind CMD"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes nothing else"),
        ("HEALTHCHECK curl x", "`CURL` is no kind of HEALTHCHECK"),
        ("HEALTHCHECK --interval=1us CMD a", "`--interval`: `1us` is less than a millisecond"),
        ("HEALTHCHECK --timeout=30 CMD a", "`--timeout`: `30` is not a length of time, as in 30s or 1m30s"),
        ("HEALTHCHECK --retries=-1 CMD a", "`-1` is not a number of retries"),
        ("HEALTHCHECK --interval=1s --interval=1s CMD a", "the flag `--interval` is given twice"),
        ("HEALTHCHECK --every=1s CMD a", "unknown flag `--every` of HEALTHCHECK"),
    ] {
        assert_eq!(errors_of_bodies(line), [format!("2: {message}")], "{line}");
    }
    assert_eq!(warnings("FROM a\nHEALTHCHECK --retries=1 NONE"), ["2: HEALTHCHECK NONE has no use for its flags"]);
}

#[test]
fn unknown_repeated_and_empty_flags_are_errors() {
    assert_eq!(errors("FROM a\nCOPY --form=b c d"), ["2: unknown flag `--form` of COPY"]);
    assert_eq!(errors("FROM a\nCOPY --from=b --from=c d e"), ["2: the flag `--from` is given twice"]);
    assert_eq!(errors("FROM a\nCOPY --from b c"), ["2: the flag `--from` needs a value"]);
    assert_eq!(errors("FROM a\nCMD --x y"), ["2: unknown flag `--x` of CMD"]);
    assert_eq!(errors("FROM a\nARG --x=y z"), ["2: unknown flag `--x` of ARG"]);
}

#[test]
fn a_flag_behind_two_dashes_is_a_word() {
    let Instruction::Copy(copy) = only("COPY -- --from=x /d") else { panic!() };
    assert_eq!((source_texts(&copy.sources), copy.from), (vec!["--from=x".to_owned()], None));
}

#[test]
fn a_nul_byte_or_a_file_without_end_is_refused() {
    assert_eq!(errors("FROM a\nRUN \0"), ["2: the file has a NUL byte: it is not a text"]);
    assert_eq!(errors(&" ".repeat(65 << 20)), ["0: the file has more than 64 MiB"]);
}

// Each instruction.

#[test]
fn arg_takes_several_variables_with_and_without_defaults() {
    let Instruction::Arg(args) = only(r#"ARG A B= C="x y" D=$A"#) else { panic!() };
    let args: Vec<_> =
        args.iter().map(|arg| (arg.name.as_str(), arg.default.as_ref().map(|it| it.text.as_str()))).collect();
    assert_eq!(args, [("A", None), ("B", Some("")), ("C", Some("\"x y\"")), ("D", Some("$A"))]);
    assert_eq!(errors("FROM a\nARG"), ["2: ARG needs the name of a variable"]);
    assert_eq!(errors("FROM a\nARG =x"), ["2: ARG without a name before `=`"]);
}

#[test]
fn env_and_label_take_pairs_or_one_name_and_the_rest_of_the_line() {
    for (line, expected) in [
        ("ENV a=1 b=\"x y\" c=d\\ e", vec![("a", "1"), ("b", "\"x y\""), ("c", "d\\ e")]),
        ("ENV a  b  c ", vec![("a", "b  c")]),
        ("ENV a b=c", vec![("a", "b=c")]),
        ("ENV a=", vec![("a", "")]),
        ("ENV a=b=c", vec![("a", "b=c")]),
        ("LABEL \"x.y\"=z", vec![("\"x.y\"", "z")]),
    ] {
        let (Instruction::Env(pairs) | Instruction::Label(pairs)) = only(line) else { panic!() };
        let pairs: Vec<_> = pairs.iter().map(|pair| (pair.name.text.as_str(), pair.value.text.as_str())).collect();
        assert_eq!(pairs, expected, "{line}");
    }
    assert_eq!(errors("FROM a\nENV a"), ["2: ENV needs a value"]);
    assert_eq!(errors("FROM a\nENV a=1 b"), ["2: `b` is not of the form name=value"]);
    assert_eq!(errors("FROM a\nLABEL =1"), ["2: there is no name before `=`"]);
}

#[test]
fn copy_takes_words_without_quotes_or_a_json_array() {
    for (line, sources, destination) in [
        ("COPY a b /d/", vec!["a", "b"], "/d/"),
        (r#"COPY ["a b", "c", "/d e/"]"#, vec!["a b", "c"], "/d e/"),
        (r#"COPY "a b" /d"#, vec!["\"a", "b\""], "/d"),
    ] {
        let Instruction::Copy(copy) = only(line) else { panic!() };
        assert_eq!(source_texts(&copy.sources), sources, "{line}");
        assert_eq!(copy.destination.text, destination, "{line}");
    }
    assert_eq!(errors("FROM a\nCOPY [\"a\", 1]"), ["2: a JSON array here may hold strings only"]);
    assert_eq!(errors("FROM a\nCOPY [\"a\"]"), ["2: COPY needs at least one source and a destination"]);
}

#[test]
fn a_command_is_json_or_else_a_text_for_the_shell() {
    let shell = |text: &str| CommandLine::Shell(text.into());
    let exec = |args: &[&str]| CommandLine::Exec(args.iter().map(|arg| arg.to_string()).collect());
    for (text, expected) in [
        (r#"["a", "b c"]"#, exec(&["a", "b c"])),
        (r#"[ "é", "\u0041\n" ]"#, exec(&["é", "A\n"])),
        ("[]", exec(&[])),
        ("a  b", shell("a  b")),
        ("[ -f /x ] && y", shell("[ -f /x ] && y")),
        ("['a']", shell("['a']")),
        (r#"["a","#, shell(r#"["a","#)),
        (r#"["a"] b"#, shell(r#"["a"] b"#)),
        ("$X \"$Y\"", shell("$X \"$Y\"")),
    ] {
        let (Instruction::Cmd(line) | Instruction::Entrypoint(line)) = only(&format!("CMD {text}")) else { panic!() };
        assert_eq!(line, expected, "{text}");
    }
    assert_eq!(errors("FROM a\nCMD [1]"), ["2: a JSON array here may hold strings only"]);
    assert_eq!(errors("FROM a\nRUN []"), ["2: RUN needs a command"]);
    assert_eq!(errors("FROM a\nRUN"), ["2: RUN needs a command"]);
    assert_eq!(warnings("FROM a\nCMD ['a']"), ["2: this is not JSON, so it is read as a text for the shell"]);
    assert_eq!(warnings("FROM a\nRUN [ -f /x ]"), [""; 0]);
}

#[test]
fn of_several_cmd_the_last_one_counts() {
    assert_eq!(warnings("FROM a\nCMD b\nCMD c"), ["2: a later CMD of this stage replaces this one"]);
    assert_eq!(warnings("FROM a\nCMD b\nFROM a\nCMD c"), [""; 0]);
}

#[test]
fn the_other_instructions_take_a_word_or_a_list() {
    assert!(matches!(only("WORKDIR /a b"), Instruction::Workdir(word) if word.text == "/a b"));
    assert!(matches!(only("USER a:b"), Instruction::User(word) if word.text == "a:b"));
    assert!(matches!(only("STOPSIGNAL $S"), Instruction::StopSignal(word) if word.text == "$S"));
    assert!(matches!(only("EXPOSE 80 $P"), Instruction::Expose(words) if word_texts(&words) == ["80", "$P"]));
    assert!(matches!(only("VOLUME /a /b"), Instruction::Volume(words) if word_texts(&words) == ["/a", "/b"]));
    assert!(matches!(only("VOLUME [\"/a b\"]"), Instruction::Volume(words) if word_texts(&words) == ["/a b"]));
    assert!(matches!(only("SHELL [\"a\", \"-c\"]"), Instruction::Shell(shell) if shell == ["a", "-c"]));
    assert_eq!(errors("FROM a\nVOLUME [\"\"]"), ["2: a path of VOLUME is empty"]);
    assert_eq!(errors("FROM a\nSHELL []"), ["2: SHELL needs a program"]);
    for (line, what) in [
        ("WORKDIR", "a directory"),
        ("USER", "a user"),
        ("STOPSIGNAL", "a signal"),
        ("EXPOSE", "a port"),
        ("VOLUME", "a path"),
    ] {
        assert_eq!(errors(&format!("FROM a\n{line}")), [format!("2: {line} needs {what}")]);
    }
}

#[test]
fn maintainer_is_a_warning() {
    assert_eq!(warnings("FROM a\nMAINTAINER me <me@example.org>"), ["2: MAINTAINER is deprecated"]);
}

// Absurd inputs.

#[test]
fn a_hundred_thousand_instructions_and_a_line_of_megabytes_are_read_fast() {
    let start = std::time::Instant::now();
    let many = format!("FROM a\n{}", "ENV a=1 b=\"x y\"\nRUN echo $a\n".repeat(50_000));
    assert_eq!(good(&many).stages[0].instructions.len(), 100_000);
    let long = format!("FROM a\nRUN {}\nENV {}\n", "x ".repeat(2 << 20), "a=b ".repeat(1 << 18));
    good(&long);
    let continued = format!("FROM a\nRUN x{}\n", " \\\n  y".repeat(200_000));
    good(&continued);
    let quoted = format!("FROM a\nRUN {} <<\n", "'x' \"$y\" ".repeat(100_000));
    good(&quoted);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn very_many_errors_are_found_fast() {
    let start = std::time::Instant::now();
    assert_eq!(errors(&format!("FROM a\n{}", "RNU x\n".repeat(50_000))).len(), 50_000);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC{0,200}") {
        let _ = parse(&Source::new("f", text));
    }

    #[test]
    fn parsing_what_looks_like_a_dockerfile_never_panics(
        lines in prop::collection::vec(
            "(FROM|RUN|COPY|ENV|ARG|LABEL|CMD|EXPOSE|ONBUILD|#|# escape=`|SHELL|)[ \t]?[-a=\"'\\\\`$\\{\\}\\[\\],<é :/#]{0,20}(\r|\\\\|`|)",
            0..12,
        )
    ) {
        let source = Source::new("f", lines.join("\n"));
        let found = match parse(&source) {
            Ok(file) => file.warnings,
            Err(errors) => errors,
        };
        for one in found {
            one.render(&source, false);
        }
    }
}
