//! What is printed is read again as what it was.

use proptest::prelude::*;

use super::*;
use crate::source::{Source, Span};

fn word(text: impl Into<String>) -> Word {
    Word { text: text.into(), span: Span::default() }
}

/// A word without white space, quotes and what begins something else.
fn plain() -> impl Strategy<Value = String> {
    "[a-z0-9/$][a-zA-Z0-9_./$:@%=-]{0,7}"
}

fn plain_words() -> impl Strategy<Value = Vec<Word>> {
    prop::collection::vec(plain().prop_map(word), 1..4)
}

fn maybe() -> impl Strategy<Value = Option<Word>> {
    prop::option::of(plain().prop_map(word))
}

fn switch() -> impl Strategy<Value = Option<Word>> {
    prop::option::of(any::<bool>().prop_map(|on| word(on.to_string())))
}

/// A value of ENV, quotes and escapes included.
fn value() -> impl Strategy<Value = Word> {
    prop_oneof!["[a-z0-9$./=]{0,6}", "\"[a-z $'é]{0,6}\"", "'[a-z $\"]{0,6}'", "[a-z](\\\\ [a-z]){0,2}"].prop_map(word)
}

fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    let pair = ("[a-z][a-z._]{0,4}", value()).prop_map(|(name, value)| Pair { name: word(name), value });
    prop::collection::vec(pair, 1..4)
}

fn line() -> impl Strategy<Value = CommandLine> {
    prop_oneof![
        "[a-z][a-z $&|;\"']{0,12}[a-z]".prop_map(CommandLine::Shell),
        prop::collection::vec("[ -~é\n]{0,6}", 1..4).prop_map(CommandLine::Exec),
    ]
}

/// A body of lines, none of which can be a name.
fn heredoc(name: &'static str) -> impl Strategy<Value = Heredoc> {
    (any::<bool>(), any::<bool>(), prop::collection::vec("[ \t]{0,2}#?[A-Z\\\\$<]{0,6}", 0..4)).prop_map(
        move |(expand, chomp, lines)| {
            let body = lines.iter().map(|line| format!("{line}\n")).collect();
            Heredoc { name: name.into(), expand, chomp, body, span: Span::default() }
        },
    )
}

fn copy() -> impl Strategy<Value = Copy> {
    let sources = (plain_words(), prop::option::of(heredoc("one")), prop::option::of(heredoc("two")));
    let exclude = prop::collection::vec(plain().prop_map(word), 0..3);
    let flags = (maybe(), maybe(), switch(), exclude);
    let of_copy = (maybe(), switch()).prop_map(|(from, parents)| (from, parents, None));
    let of_add = (switch(), maybe(), switch())
        .prop_map(|(keep_git_dir, checksum, unpack)| (None, None, Some(AddFlags { keep_git_dir, checksum, unpack })));
    (sources, flags, prop_oneof![of_copy, of_add], plain()).prop_map(
        |((paths, one, two), (chown, chmod, link, exclude), (from, parents, add), destination)| {
            let inline = one.into_iter().chain(two).map(CopySource::Heredoc);
            let sources = paths.into_iter().map(CopySource::Path).chain(inline).collect();
            Copy { from, chown, chmod, link, parents, exclude, sources, destination: word(destination), add }
        },
    )
}

fn run() -> impl Strategy<Value = Run> {
    let network = prop::option::of(prop_oneof![Just("none"), Just("host"), Just("default")].prop_map(word));
    let mounts = prop::collection::vec("type=[a-z]{1,5}(,[a-z]{1,6}=[a-z/$]{1,6}){0,3}".prop_map(word), 0..3);
    let plain = line().prop_map(|command| (command, Vec::new()));
    let with_bodies = (heredoc("one"), prop::option::of(heredoc("two"))).prop_map(|(one, two)| {
        let heredocs: Vec<Heredoc> = std::iter::once(one).chain(two).collect();
        (CommandLine::Shell(heredocs.iter().map(opened).collect::<Vec<_>>().join(" ")), heredocs)
    });
    (network, mounts, prop_oneof![plain, with_bodies]).prop_map(|(network, mounts, (command, heredocs))| Run {
        command,
        heredocs,
        mounts,
        network,
        security: None,
    })
}

fn healthcheck() -> impl Strategy<Value = Healthcheck> {
    let time = || prop_oneof![Just(0), 1_000_000..u64::from(u32::MAX)];
    (line(), time(), time(), 0..9u32).prop_map(|(line, interval, timeout, retries)| Healthcheck {
        check: Some(line),
        interval,
        timeout,
        start_period: 0,
        start_interval: interval,
        retries,
    })
}

fn instruction() -> impl Strategy<Value = Instruction> {
    let plain_one = || {
        prop_oneof![
            pairs().prop_map(Instruction::Env),
            pairs().prop_map(Instruction::Label),
            plain().prop_map(|text| Instruction::Workdir(word(text))),
            plain().prop_map(|text| Instruction::User(word(text))),
            plain().prop_map(|text| Instruction::StopSignal(word(text))),
            copy().prop_map(Instruction::Copy),
            run().prop_map(Instruction::Run),
            line().prop_map(Instruction::Cmd),
            line().prop_map(Instruction::Entrypoint),
            plain_words().prop_map(Instruction::Expose),
            plain_words().prop_map(Instruction::Volume),
            prop::collection::vec("[ -~]{1,6}", 1..4).prop_map(Instruction::Shell),
            healthcheck().prop_map(Instruction::Healthcheck),
            prop::collection::vec(("[a-z]{1,4}", prop::option::of(value())), 1..4).prop_map(|args| {
                let arg = |(name, default)| Arg { name, default, span: Span::default() };
                Instruction::Arg(args.into_iter().map(arg).collect())
            }),
        ]
    };
    let trigger = plain_one().prop_map(|value| {
        let text = printed(&value);
        let trigger = text.trim_end_matches('\n').to_owned();
        let first = trigger.lines().next().unwrap_or_default().to_owned();
        Instruction::OnBuild(OnBuild {
            trigger,
            instruction: Box::new(Spanned { value, span: Span::default(), text: first }),
        })
    });
    prop_oneof![9 => plain_one(), 1 => trigger]
}

fn opened(heredoc: &Heredoc) -> String {
    let dash = if heredoc.chomp { "-" } else { "" };
    let quote = if heredoc.expand { "" } else { "'" };
    format!("<<{dash}{quote}{}{quote}", heredoc.name)
}

fn joined(words: &[Word]) -> String {
    words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")
}

fn printed_line(line: &CommandLine) -> String {
    match line {
        CommandLine::Shell(text) => text.clone(),
        CommandLine::Exec(args) => serde_json::to_string(args).unwrap(),
    }
}

/// Returns the instruction as text, with a line feed at its end.
fn printed(instruction: &Instruction) -> String {
    let mut text = instruction.keyword().to_owned();
    let mut bodies: &[Heredoc] = &[];
    let mut flags: Vec<(&str, String)> = Vec::new();
    let copied;
    let rest = match instruction {
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            pairs.iter().map(|pair| format!("{}={}", pair.name.text, pair.value.text)).collect::<Vec<_>>().join(" ")
        }
        Instruction::Arg(args) => {
            let arg = |arg: &Arg| match &arg.default {
                Some(default) => format!("{}={}", arg.name, default.text),
                None => arg.name.clone(),
            };
            args.iter().map(arg).collect::<Vec<_>>().join(" ")
        }
        Instruction::Workdir(word) | Instruction::User(word) | Instruction::StopSignal(word) => word.text.clone(),
        Instruction::Expose(words) | Instruction::Volume(words) => joined(words),
        Instruction::Cmd(line) | Instruction::Entrypoint(line) => printed_line(line),
        Instruction::Shell(args) => serde_json::to_string(args).unwrap(),
        Instruction::Run(run) => {
            bodies = &run.heredocs;
            flags.extend(run.mounts.iter().map(|mount| ("mount", mount.text.clone())));
            flags.extend(run.network.iter().map(|network| ("network", network.text.clone())));
            printed_line(&run.command)
        }
        Instruction::Healthcheck(health) => {
            for (name, time) in
                [("interval", health.interval), ("timeout", health.timeout), ("start-interval", health.start_interval)]
            {
                flags.push((name, format!("{time}ns")));
            }
            flags.push(("retries", health.retries.to_string()));
            health.check.as_ref().map_or("NONE".into(), |line| format!("CMD {}", printed_line(line)))
        }
        Instruction::Copy(copy) => {
            let add = copy.add.clone().unwrap_or_default();
            for (name, word) in [
                ("from", &copy.from),
                ("chown", &copy.chown),
                ("chmod", &copy.chmod),
                ("link", &copy.link),
                ("parents", &copy.parents),
                ("keep-git-dir", &add.keep_git_dir),
                ("checksum", &add.checksum),
                ("unpack", &add.unpack),
            ] {
                flags.extend(word.iter().map(|word| (name, word.text.clone())));
            }
            flags.extend(copy.exclude.iter().map(|word| ("exclude", word.text.clone())));
            let source = |source: &CopySource| match source {
                CopySource::Path(word) => word.text.clone(),
                CopySource::Heredoc(heredoc) => opened(heredoc),
            };
            copied = copy
                .sources
                .iter()
                .filter_map(|source| if let CopySource::Heredoc(it) = source { Some(it.clone()) } else { None })
                .collect::<Vec<_>>();
            bodies = &copied;
            format!("{} {}", copy.sources.iter().map(source).collect::<Vec<_>>().join(" "), copy.destination.text)
        }
        Instruction::OnBuild(on_build) => on_build.trigger.clone(),
        Instruction::Maintainer(name) => name.clone(),
    };
    flags.iter().for_each(|(name, value)| text.push_str(&format!(" --{name}={value}")));
    text.push_str(&format!(" {rest}\n"));
    bodies.iter().for_each(|heredoc| text.push_str(&format!("{}{}\n", heredoc.body, heredoc.name)));
    text
}

/// Returns what an instruction says, without where it says it.
fn said(instruction: &Instruction) -> String {
    let mut text = format!("{instruction:?}");
    while let Some(start) = text.find("Span { start: ") {
        let end = start + text[start..].find('}').expect("a span ends");
        text.replace_range(start..=end, "_");
    }
    text
}

proptest! {
    #[test]
    fn a_printed_instruction_is_read_as_what_it_was(instructions in prop::collection::vec(instruction(), 1..6)) {
        let text = instructions.iter().map(printed).collect::<String>();
        let source = Source::new("Dockerfile", format!("FROM a\n{text}"));
        let file = parse(&source).map_err(|errors| {
            let shown: Vec<String> = errors.iter().map(|error| error.render(&source, false)).collect();
            TestCaseError::fail(format!("{}\n{text}", shown.join("\n")))
        })?;
        let read: Vec<String> = file.stages[0].instructions.iter().map(|it| said(&it.value)).collect();
        let meant: Vec<String> = instructions.iter().map(said).collect();
        prop_assert_eq!(read, meant, "{}", text);
    }

    #[test]
    fn text_in_quotes_comes_out_as_it_went_in(text in "[^'\\x00]{0,30}") {
        let single = Word { text: format!("'{text}'"), span: Span::default() };
        prop_assert_eq!(expand(&single, &|_| Some("value".into()), '\\'), Ok(text.clone()));
        let mut double = String::from("\"");
        for c in text.chars() {
            if matches!(c, '"' | '$' | '\\') {
                double.push('\\');
            }
            double.push(c);
        }
        let double = Word { text: double + "\"", span: Span::default() };
        prop_assert_eq!(expand(&double, &|_| Some("value".into()), '\\'), Ok(text.clone()));
        // In a here-document every character can be escaped.
        let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
        prop_assert_eq!(expand_heredoc(&escaped, &|_| Some("value".into())), Ok(text));
    }
}
