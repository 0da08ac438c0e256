//! Any ignore file and any path: an answer, and one that agrees with what may be left unread.

#![no_main]

use coracle_fuzz::context::{Glob, IgnoreRules};
use coracle_fuzz::tree::TreePath;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (rules, path) = input;
    // Each folder on the way is asked for below, with all that lead to it: long paths would measure this test.
    if path.len() > 256 {
        return;
    }
    let path = TreePath::new(path);
    if let (Ok(rules), Ok(path)) = (IgnoreRules::parse(rules), &path) {
        let ignored = rules.is_ignored(path);
        assert_eq!(ignored, rules.explain(path).is_some());
        // A folder that need not be read holds nothing that is wanted.
        if path.ancestors().filter(|dir| !dir.is_root()).any(|dir| rules.can_prune(&dir)) {
            assert!(ignored);
        }
    }
    if let Ok(glob) = Glob::new(rules) {
        glob.matches(input.1);
    }
});
