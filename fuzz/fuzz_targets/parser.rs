//! Any text is read as a Dockerfile, or refused with errors that can be shown.

#![no_main]

use coracle_fuzz::dockerfile::{Instruction, parse, parse_trigger};
use coracle_fuzz::source::{Source, Span};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let source = Source::new("Dockerfile", text);
    match parse(&source) {
        Ok(file) => {
            assert!(!file.stages.is_empty());
            for warning in file.warnings {
                warning.render(&source, false);
            }
            for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
                assert!(instruction.span.start <= instruction.span.end && instruction.span.end <= text.len());
                if let Instruction::OnBuild(on_build) = &instruction.value {
                    // What is stored can be read again, but for what only the escape character of this file makes whole.
                    let _ = parse_trigger(&on_build.trigger, Span::default());
                }
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                error.render(&source, false);
            }
        }
    }
});
