//! What `# check=` says: which checks are made, and whether a finding is an error.

use std::collections::BTreeSet;

use super::rules::{RULES, rule};
use crate::dockerfile::suggest::did_you_mean;

/// Some of the checks, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    Named(BTreeSet<String>),
    All,
}

impl Default for Which {
    fn default() -> Self {
        Which::Named(BTreeSet::new())
    }
}

impl Which {
    fn parse(value: &str) -> Self {
        match value {
            "all" => Which::All,
            value => Which::Named(value.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn contains(&self, name: &str) -> bool {
        match self {
            Which::All => true,
            Which::Named(names) => names.contains(name),
        }
    }
}

/// What `# check=` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    skip: Which,
    experimental: Which,
    /// Whether a finding fails the build.
    pub error: bool,
}

/// What `# check=` says makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Not `name=value`.
    #[error("`{part}` is not of the form name=value")]
    NoValue {
        /// The part.
        part: String,
    },
    /// Neither skip nor error nor experimental.
    #[error("there is no `{name}` in `# check=`: it takes skip, error and experimental")]
    Unknown {
        /// The name.
        name: String,
    },
    /// `error=` with something else than a truth value.
    #[error("`error={value}` is neither true nor false")]
    NotBool {
        /// The value.
        value: String,
    },
}

impl Settings {
    /// Returns what `text` says: parts `skip=…`, `error=…` and `experimental=…` with semicolons between them.
    ///
    /// ```
    /// use coracle::plan::check::Settings;
    /// let settings = Settings::parse("skip=UndefinedVar,StageNameCasing;error=true").unwrap();
    /// assert!(settings.error && !settings.makes("UndefinedVar") && settings.makes("FromAsCasing"));
    /// ```
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let mut settings = Settings::default();
        if text.trim().is_empty() {
            return Ok(settings);
        }
        for part in text.split(';') {
            let Some((name, value)) = part.split_once('=') else {
                return Err(SettingsError::NoValue { part: part.trim().into() });
            };
            let value = value.trim();
            match name.trim() {
                "skip" => settings.skip = Which::parse(value),
                "experimental" => settings.experimental = Which::parse(value),
                "error" => {
                    settings.error = match value {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        value => return Err(SettingsError::NotBool { value: value.into() }),
                    }
                }
                name => return Err(SettingsError::Unknown { name: name.into() }),
            }
        }
        Ok(settings)
    }

    /// Returns whether the check `name` is made.
    pub fn makes(&self, name: &str) -> bool {
        match rule(name) {
            Some(rule) if rule.experimental => self.experimental.contains(name),
            _ => !self.skip.contains(name),
        }
    }

    /// Returns whether the check is made where a comment at an instruction says `more`, too.
    pub(super) fn makes_with(&self, more: &Settings, name: &str) -> bool {
        match rule(name) {
            Some(rule) if rule.experimental => self.makes(name) || more.makes(name),
            _ => self.makes(name) && more.makes(name),
        }
    }

    /// Returns the names in it that no check has, each with the one that may be meant.
    pub(super) fn unknown(&self) -> Vec<(String, Option<String>)> {
        let named = [&self.skip, &self.experimental].into_iter().flat_map(|some| match some {
            Which::Named(names) => names.iter().filter(|name| !name.is_empty()).cloned().collect::<Vec<_>>(),
            Which::All => Vec::new(),
        });
        let hint = |name: String| {
            let hint = did_you_mean(&name, RULES.iter().map(|rule| rule.name));
            (name, hint)
        };
        named.filter(|name| rule(name).is_none()).map(hint).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skip_and_experimental_name_checks_or_all_of_them() {
        let settings = Settings::parse(" skip = UndefinedVar , FromAsCasing ;error=1; experimental=all").unwrap();
        assert!(settings.error);
        assert!(
            !settings.makes("UndefinedVar") && !settings.makes("FromAsCasing") && settings.makes("StageNameCasing")
        );
        assert!(settings.makes("InvalidDefinitionDescription"));
        let all = Settings::parse("skip=all").unwrap();
        assert!(RULES.iter().all(|rule| !all.makes(rule.name)));
        let none = Settings::default();
        assert!(RULES.iter().all(|rule| none.makes(rule.name) != rule.experimental));
        assert_eq!(Settings::parse("").unwrap(), none);
    }

    #[test]
    fn skip_all_does_not_skip_an_experimental_check_that_is_asked_for() {
        let settings = Settings::parse("skip=all;experimental=InvalidDefinitionDescription").unwrap();
        assert!(settings.makes("InvalidDefinitionDescription"));
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        assert_eq!(Settings::parse("skip"), Err(SettingsError::NoValue { part: "skip".into() }));
        assert_eq!(Settings::parse("warn=x"), Err(SettingsError::Unknown { name: "warn".into() }));
        assert_eq!(Settings::parse("error=maybe"), Err(SettingsError::NotBool { value: "maybe".into() }));
    }

    #[test]
    fn names_that_no_check_has_are_found() {
        let settings = Settings::parse("skip=UndefinedVra,StageNameCasing").unwrap();
        assert_eq!(settings.unknown(), [("UndefinedVra".to_owned(), Some("did you mean `UndefinedVar`?".to_owned()))]);
    }
}
