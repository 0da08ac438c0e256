//! Any text is expanded within its bounds, or refused.

#![no_main]

use coracle_fuzz::dockerfile::{LONGEST_HEREDOC, LONGEST_WORD, Word, expand, expand_heredoc, expand_words};
use coracle_fuzz::source::Span;
use libfuzzer_sys::fuzz_target;

fn lookup(name: &str) -> Option<String> {
    Some(match name {
        "a" => "value".into(),
        "b" => "a/b.c*d?e\\f g".into(),
        "e" => String::new(),
        "long" => "xyz".repeat(1000),
        _ => return None,
    })
}

fuzz_target!(|text: &str| {
    let word = Word { text: text.into(), span: Span::default() };
    for escape in ['\\', '`'] {
        if let Ok(text) = expand(&word, &lookup, escape) {
            assert!(text.len() <= LONGEST_WORD + 4096);
        }
        if let Ok(words) = expand_words(&word, &lookup, escape) {
            assert!(words.iter().all(|word| !word.is_empty()));
        }
    }
    if let Ok(text) = expand_heredoc(text, &lookup) {
        assert!(text.len() <= LONGEST_HEREDOC + 4096);
    }
    // What stands in single quotes is what comes out.
    if !text.contains('\'') {
        let quoted = Word { text: format!("'{text}'"), span: Span::default() };
        assert_eq!(expand(&quoted, &lookup, '\\').as_deref().ok(), (text.len() <= LONGEST_WORD).then_some(text));
    }
});
