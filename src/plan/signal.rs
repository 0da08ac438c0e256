/// Linux's signals below the real-time ones, without `SIG`.
const NAMES: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN",
];

/// Returns whether `text` names a signal: a number, or a name with or without `SIG`, in any case.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number) && !text.starts_with('+');
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, most: u32| {
        let digits = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) && !rest.starts_with('0');
        digits && rest.parse::<u32>().is_ok_and(|offset| offset <= most)
    };
    match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
        (Some(rest), _) => offset(rest, 15),
        (_, Some(rest)) => offset(rest, 14),
        _ => name == "RTMAX" || NAMES.contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_number_or_a_name() {
        for good in ["9", "64", "SIGTERM", "term", "sigquit", "RTMIN", "SIGRTMIN+3", "RTMAX-14", "RTMAX"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "0", "65", "-1", "SIG", "SIGFOO", "RTMIN+16", "RTMIN+", "RTMAX-15", "RTMIN+03", "9 "] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
