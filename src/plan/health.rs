//! HEALTHCHECK, as the configuration and the history hold it.

use serde_json::{Map, Value};

use super::gostring::plain_list;
use crate::dockerfile::{CommandLine, Healthcheck};

/// Returns what the configuration holds, and the text for the history.
pub(super) fn stored(health: &Healthcheck) -> (Value, String) {
    let test = match &health.check {
        None => vec!["NONE".to_owned()],
        Some(CommandLine::Shell(text)) => vec!["CMD-SHELL".into(), text.clone()],
        Some(CommandLine::Exec(args)) => [&["CMD".to_owned()], args.as_slice()].concat(),
    };
    let times = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    let mut members = Map::new();
    members.insert("Test".into(), test.clone().into());
    for (name, time) in times.into_iter().filter(|(_, time)| *time != 0) {
        members.insert(name.into(), time.into());
    }
    if health.retries != 0 {
        members.insert("Retries".into(), health.retries.into());
    }
    let mut created_by = format!("HEALTHCHECK {{Test:{}", plain_list(&test));
    for (name, time) in times {
        created_by.push_str(&format!(" {name}:{}", duration(time)));
    }
    created_by.push_str(&format!(" Retries:{}}}", health.retries));
    (Value::Object(members), created_by)
}

/// Returns a length of time as Go prints it: 1m30s, 1.5s, 250ms. No time is 0s; there is none below a millisecond.
fn duration(nanoseconds: u64) -> String {
    let decimal = |whole: u64, below: u64, digits: usize| match below {
        0 => whole.to_string(),
        below => format!("{whole}.{below:0digits$}").trim_end_matches('0').to_owned(),
    };
    const S: u64 = 1_000_000_000;
    if nanoseconds == 0 {
        return "0s".into();
    }
    if nanoseconds < S {
        return format!("{}ms", decimal(nanoseconds / 1_000_000, nanoseconds % 1_000_000, 6));
    }
    let (minutes, seconds) = (nanoseconds / S / 60, nanoseconds / S % 60);
    let seconds = decimal(seconds, nanoseconds % S, 9);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_printed_as_go_prints_it() {
        const MS: u64 = 1_000_000;
        for (time, text) in [
            (0, "0s"),
            (30_000 * MS, "30s"),
            (90_000 * MS, "1m30s"),
            (3_600_000 * MS, "1h0m0s"),
            (5_400_500 * MS, "1h30m0.5s"),
            (1_500 * MS, "1.5s"),
            (250 * MS, "250ms"),
            (1_500_000, "1.5ms"),
            (1_000_000_001, "1.000000001s"),
        ] {
            assert_eq!(duration(time), text);
        }
    }
}
