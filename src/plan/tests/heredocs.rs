//! Here-documents. Semantics 16.

use super::*;

fn inline(text: &str) -> Vec<(String, String)> {
    let plan = plan(text);
    let sources = plan.copies()[0].sources.clone();
    sources
        .into_iter()
        .map(|source| match source {
            CopySource::Inline { name, text } => (name, text),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn pair(name: &str, text: &str) -> (String, String) {
    (name.into(), text.into())
}

#[test]
fn rule_16_a_heredoc_is_a_file_with_the_name_of_its_delimiter() {
    assert_eq!(inline("FROM base\nCOPY <<a.txt /d/\none\na.txt\n"), [pair("a.txt", "one\n")]);
}

#[test]
fn rule_16_several_heredocs_follow_each_other() {
    let text = "FROM base\nCOPY <<a <<-b <<c /d/\n1\na\n\t\t2\n\tb\nc\nRUN x\n";
    assert_eq!(inline(text), [pair("a", "1\n"), pair("b", "2\n"), pair("c", "")]);
    assert_eq!(plan(text).runs().len(), 1);
}

#[test]
fn rule_16_variables_are_expanded_unless_the_name_is_quoted() {
    let text =
        |name: &str| format!("FROM base\nENV v=1\nCOPY <<{name} /d\n$v \"${{v:-2}}\" '$v' $none \\$v \\\\ \\x\nE\n");
    let expanded = pair("E", "1 \"1\" '1'  $v \\ x\n");
    let raw = pair("E", "$v \"${v:-2}\" '$v' $none \\$v \\\\ \\x\n");
    for (name, expected) in [
        ("E", &expanded),
        ("-E", &expanded),
        ("'E'", &raw),
        ("\"E\"", &raw),
        ("\\E", &raw),
        ("E''", &raw),
        ("-'E'", &raw),
    ] {
        assert_eq!(&inline(&text(name))[0], expected, "{name}");
    }
}

#[test]
fn rule_16_a_backslash_stands_for_what_follows_it_whatever_the_escape_character() {
    let text = "# escape=`\nFROM base\nCOPY <<E /d\na\\\nb `$x \\$x\nE\n";
    assert_eq!(inline(text), [pair("E", "a\nb ` $x\n")]);
}

#[test]
fn rule_16_only_tabs_are_cut_off_and_only_with_a_dash() {
    assert_eq!(inline("FROM base\nCOPY <<-E /d\n\t a\n \tb\n\t\n\tE\n"), [pair("E", " a\n \tb\n\n")]);
    assert_eq!(inline("FROM base\nCOPY <<E /d\n\ta\n\tE\nE\n"), [pair("E", "\ta\n\tE\n")]);
}

#[test]
fn rule_16_line_ends_stay_as_they_are() {
    assert_eq!(inline("FROM base\r\nCOPY <<E /d\r\na\r\nE\r\n"), [pair("E", "a\r\n")]);
}

#[test]
fn rule_16_the_history_names_it_and_the_content_is_in_the_key() {
    let plan = plan("FROM base\nCOPY <<E x /d/\na\nE\nADD <<E /d/\na\nE\nCOPY <<E x /d/\nb\nE\n");
    assert_eq!(
        plan.history(),
        [("COPY x <<E /d/ # buildkit", false), ("ADD <<E /d/ # buildkit", false), ("COPY x <<E /d/ # buildkit", false),]
    );
    let keys: Vec<_> = plan.last().steps.iter().map(|step| definition(&step.op)).collect();
    assert!(keys[0] != keys[1] && keys[0] != keys[2]);
}

#[test]
fn rule_16_a_heredoc_cannot_be_the_destination() {
    assert_eq!(case("FROM base\nCOPY a <<E\nx\nE\n").errors(), ["2: a here-document cannot be the destination"]);
}

#[test]
fn a_heredoc_cannot_have_the_name_of_another_folder() {
    for name in ["../x", "a/b", ".", ".."] {
        let errors = case(&format!("FROM base\nCOPY <<{name} /d\nx\n{name}\n")).errors();
        assert_eq!(errors, [format!("3: `{name}` cannot be the name of a file")]);
    }
}

#[test]
fn a_heredoc_that_doubles_itself_is_refused() {
    let mut text = String::from("FROM base\nENV a=xxxxxxxxxxxxxxxx\n");
    text.push_str(&"ENV a=$a$a\n".repeat(16));
    text.push_str(&format!("COPY <<E /d\n{}E\n", "$a\n".repeat(100)));
    assert_eq!(case(&text).errors(), ["20: more than 16777216 bytes after expansion"]);
}

fn run(line: &str) -> Run {
    plan(&format!("FROM base\n{line}")).runs()[0].clone()
}

#[test]
fn a_lone_heredoc_of_run_is_the_script_for_the_shell() {
    let made = run("RUN <<EOF\necho $a\necho 'b'\nEOF\n");
    assert_eq!(made.args, ["/bin/sh", "-c", "echo $a\necho 'b'\n"]);
    assert_eq!(made.script, None);
    let plan = plan("FROM base\nRUN <<EOF\necho a\necho b\nEOF\nRUN <<-'X'\n\techo c\n\tX\n");
    let texts: Vec<&str> = plan.last().steps.iter().map(|step| step.text.as_str()).collect();
    assert_eq!(texts, ["RUN <<EOF (echo a...)", "RUN <<-'X' (echo c)"]);
    assert_eq!(plan.history()[1], ("RUN /bin/sh -c echo c\n # buildkit", false));
    // The shell that counts is the one of the stage.
    assert_eq!(run("SHELL [\"bash\", \"-ec\"]\nRUN <<E\nx\nE\n").args, ["bash", "-ec", "x\n"]);
}

#[test]
fn a_lone_heredoc_with_a_shebang_is_a_program() {
    let made = run("RUN <<-prog\n\t#!/usr/bin/env python\n\tprint(1)\nprog\n");
    assert_eq!(made.args, ["/bin/sh", "-c", "/dev/pipes/prog"]);
    let script = Script { name: "prog".into(), text: "#!/usr/bin/env python\nprint(1)\n".into() };
    assert_eq!(made.script, Some(script));
    let key = |text: &str| definition(&Op::Run(run(&format!("RUN <<p\n#!{text}\np\n"))));
    assert_ne!(key("a"), key("b"));
}

#[test]
fn a_program_with_the_line_ends_of_windows_is_warned_of() {
    let warnings = |text: &str| case(text).made().warnings;
    let text = "FROM base\r\nRUN <<E\r\n#!/bin/sh\r\nx\r\nE\r\n";
    assert_eq!(warnings(text), ["2: `#!/bin/sh` ends with a carriage return: there is no interpreter of that name"]);
    assert_eq!(warnings(&text.replace('\r', "")), [""; 0]);
}

#[test]
fn heredocs_beside_a_command_are_left_to_the_shell() {
    assert_eq!(
        run("RUN cat <<-a <<'b' 3<<c >/f\n\t1\n\ta\n$2\nb\n3\nc\n").args[2],
        "cat <<-a <<'b' 3<<c >/f\n\t1\na\n$2\nb\n3\nc"
    );
    assert_eq!(run("RUN <<E cat\nx\nE\n").args[2], "<<E cat\nx\nE");
    assert_eq!(run("RUN <<a <<b\n1\na\n2\nb\n").args[2], "<<a <<b\n1\na\n2\nb");
    // One with `#!` is no program there.
    assert_eq!(run("RUN cat <<E\n#!x\nE\n").script, None);
}

#[test]
fn flags_and_continuation_lines_stand_before_the_heredoc() {
    let made = run("RUN --network=none \\\n  <<E\nx\nE\n");
    assert_eq!((made.args[2].as_str(), made.network), ("x\n", Network::None));
}
