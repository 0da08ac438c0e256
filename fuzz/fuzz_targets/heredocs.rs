//! Any line with here-documents, and any lines behind it: bodies are whole lines of the file, and nothing is read twice.

#![no_main]

use coracle_fuzz::dockerfile::{CopySource, Instruction, parse};
use coracle_fuzz::source::Source;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &str, &str)| {
    let (kind, line, rest) = input;
    let keyword = ["RUN", "COPY", "ADD", "ONBUILD RUN", "ONBUILD COPY"][usize::from(kind) % 5];
    let text = format!("FROM a\n{keyword} <<{line}\n{rest}");
    let source = Source::new("Dockerfile", text.clone());
    let Ok(file) = parse(&source) else { return };
    let heredocs = file.stages.iter().flat_map(|stage| &stage.instructions).flat_map(|it| match &it.value {
        Instruction::Run(run) => run.heredocs.clone(),
        Instruction::Copy(copy) => {
            let heredoc = |source: &CopySource| match source {
                CopySource::Heredoc(heredoc) => Some(heredoc.clone()),
                CopySource::Path(_) => None,
            };
            copy.sources.iter().filter_map(heredoc).collect()
        }
        _ => Vec::new(),
    });
    for heredoc in heredocs {
        let body = &text[heredoc.span.start..heredoc.span.end];
        assert_eq!(body, heredoc.body);
        assert!(body.is_empty() || body.ends_with('\n'));
        assert!(text.as_bytes()[heredoc.span.start - 1] == b'\n');
        assert!(heredoc.text().len() <= body.len());
        let end = text[heredoc.span.end..].lines().next().unwrap_or_default();
        let end = end.trim_end_matches('\r');
        let end = if heredoc.chomp { end.trim_start_matches('\t') } else { end };
        assert_eq!(end, heredoc.name);
    }
});
