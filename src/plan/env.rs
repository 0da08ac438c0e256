//! Variables while a stage is read: those of the configuration, and with them the ARGs.

use std::collections::HashMap;

/// Names and values, in the order in which the names came first. Look-ups do not depend on how many there are.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    entries: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Variables {
    /// Sets `name`; where it is there already, in its old place.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.places.get(name) {
            Some(&place) => self.entries[place].1 = value.into(),
            None => {
                self.places.insert(name.into(), self.entries.len());
                self.entries.push((name.into(), value.into()));
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|&place| self.entries[place].1.as_str())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns "NAME=value" for each.
    pub fn to_strings(&self) -> Vec<String> {
        self.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// Splits "NAME=value". A base image may have a name alone.
pub(super) fn split(entry: &str) -> (&str, &str) {
    entry.split_once('=').unwrap_or((entry, ""))
}

/// The names of proxies that a build argument may set without an ARG, in lower case. Each counts in capitals, too.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// Returns whether `name` is that of a proxy, in any case.
pub(super) fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

/// Returns the proxies among `build_args`, in small letters and in capitals, as programs look for either.
pub(super) fn proxies(build_args: &[(String, String)]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for proxy in PROXIES {
        // The later one wins, as for every build argument.
        let given = build_args.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(proxy));
        if let Some((_, value)) = given.filter(|(_, value)| !value.is_empty()) {
            found.push((proxy.to_ascii_uppercase(), value.clone()));
            found.push((proxy.to_owned(), value.clone()));
        }
    }
    found
}
