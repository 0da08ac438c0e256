//! What the process is given besides its arguments: variables, the working directory, terminals. Captured once;
//! nothing else in coracle reads them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::args::{Assignment, Timestamp};
use super::request::UsageError;

/// The surroundings of the process.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Variables.
    pub vars: BTreeMap<OsString, OsString>,
    /// The working directory, absolute; `None` where it is gone.
    pub cwd: Option<PathBuf>,
    /// Whether standard input is a terminal.
    pub stdin_is_terminal: bool,
    /// Whether standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// Whether standard error is a terminal.
    pub stderr_is_terminal: bool,
}

impl Environment {
    /// Returns the surroundings of this process.
    pub fn capture() -> Self {
        Environment {
            vars: std::env::vars_os().collect(),
            cwd: std::env::current_dir().ok(),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Returns the value of a variable; `None` where it is not set, or empty.
    pub fn var(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Returns `path` from the working directory on, absolute and without `.`; links and `..` stay.
    ///
    /// # Errors
    /// [`UsageError::NoWorkingDirectory`] for a relative path where there is none.
    pub fn absolute(&self, path: &Path) -> Result<PathBuf, UsageError> {
        let path = match (&self.cwd, path.is_absolute()) {
            (_, true) => path.to_path_buf(),
            (Some(cwd), false) => cwd.join(path),
            (None, false) => return Err(UsageError::NoWorkingDirectory { path: path.into() }),
        };
        Ok(path.components().collect())
    }

    /// Returns the folder of the store: `flag`, `$CORACLE_ROOT`, `$XDG_DATA_HOME/coracle` or
    /// `$HOME/.local/share/coracle`, whichever is there first. It need not exist.
    ///
    /// # Errors
    /// [`UsageError::NoRoot`] where none of them is set, [`UsageError::NoWorkingDirectory`].
    pub fn root(&self, flag: Option<&Path>) -> Result<PathBuf, UsageError> {
        if let Some(root) = flag.or(self.var("CORACLE_ROOT").map(Path::new)) {
            return self.absolute(root);
        }
        // The XDG specification: a relative path is to be ignored.
        let absolute = |name| self.var(name).map(Path::new).filter(|path| path.is_absolute());
        absolute("XDG_DATA_HOME")
            .map(|data| data.join("coracle"))
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share/coracle")))
            .ok_or(UsageError::NoRoot)
    }

    /// Returns the folder for temporary files outside of the store: `$TMPDIR`, else `/tmp`.
    pub fn temp_dir(&self) -> PathBuf {
        self.var("TMPDIR").map(PathBuf::from).filter(|dir| dir.is_absolute()).unwrap_or_else(|| "/tmp".into())
    }

    /// Returns whether colours may go to standard error: it is a terminal that knows them, and NO_COLOR is not set.
    pub fn colour(&self) -> bool {
        self.terminal() && self.var("NO_COLOR").is_none()
    }

    /// Returns whether standard error is a terminal on which lines can be redrawn.
    pub fn terminal(&self) -> bool {
        self.stderr_is_terminal && self.var("TERM").is_some_and(|term| term != "dumb")
    }

    /// Returns SOURCE_DATE_EPOCH.
    ///
    /// # Errors
    /// [`UsageError::BadEpoch`] where it is no whole number of seconds from 0 to the year 9999.
    pub fn source_date_epoch(&self) -> Result<Option<Timestamp>, UsageError> {
        let Some(value) = self.var("SOURCE_DATE_EPOCH") else { return Ok(None) };
        match value.to_str().and_then(Timestamp::from_seconds) {
            Some(time) => Ok(Some(time)),
            None => Err(UsageError::BadEpoch { value: value.to_string_lossy().into_owned() }),
        }
    }

    /// Returns name and value of each assignment, in order. One without a value has that of the variable; where that is
    /// not set either, the assignment is dropped, as docker does it.
    ///
    /// # Errors
    /// [`UsageError::NotUtf8`].
    pub fn fill(&self, assignments: Vec<Assignment>) -> Result<Vec<(String, String)>, UsageError> {
        let mut filled = Vec::with_capacity(assignments.len());
        for Assignment { name, value } in assignments {
            let value = match (value, self.vars.get(OsStr::new(&name))) {
                (Some(value), _) => value,
                (None, Some(value)) => match value.to_str() {
                    Some(value) => value.to_owned(),
                    None => return Err(UsageError::NotUtf8 { what: format!("the value of the variable {name:?}") }),
                },
                (None, None) => continue,
            };
            filled.push((name, value));
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(vars: &[(&str, &str)]) -> Environment {
        Environment {
            vars: vars.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            cwd: Some("/home/ann/web".into()),
            ..Environment::default()
        }
    }

    #[test]
    fn where_the_store_is() {
        for (flag, vars, root) in [
            (Some("/flag"), &[("CORACLE_ROOT", "/var"), ("HOME", "/home/ann")][..], "/flag"),
            (Some("../here/./store"), &[], "/home/ann/web/../here/store"),
            (None, &[("CORACLE_ROOT", "rel"), ("HOME", "/home/ann")], "/home/ann/web/rel"),
            (None, &[("CORACLE_ROOT", ""), ("XDG_DATA_HOME", "/data")], "/data/coracle"),
            (None, &[("XDG_DATA_HOME", "data"), ("HOME", "/home/ann")], "/home/ann/.local/share/coracle"),
            (None, &[("HOME", "/")], "/.local/share/coracle"),
        ] {
            let found = environment(vars).root(flag.map(Path::new)).expect("a root");
            assert_eq!(found, Path::new(root));
        }
        assert_eq!(environment(&[("HOME", "")]).root(None), Err(UsageError::NoRoot));
    }

    #[test]
    fn source_date_epoch_is_a_whole_number_of_seconds() {
        let epoch = |value| environment(&[("SOURCE_DATE_EPOCH", value)]).source_date_epoch();
        assert_eq!(epoch("0"), Ok(Some(Timestamp(0))));
        assert_eq!(epoch("1700000000"), Ok(Some(Timestamp(1_700_000_000))));
        assert_eq!(epoch(""), Ok(None));
        for bad in ["-1", "1.5", "2026-01-01T00:00:00Z", "now", " 1", "99999999999999"] {
            assert_eq!(epoch(bad), Err(UsageError::BadEpoch { value: bad.into() }));
        }
    }

    #[test]
    fn an_assignment_without_a_value_has_the_variables() {
        let assignments = ["A=1", "TOKEN", "EMPTY", "UNSET"].map(|text| text.parse().expect("an assignment"));
        let filled = environment(&[("TOKEN", "t"), ("EMPTY", ""), ("A", "2")]).fill(assignments.into());
        let want = [("A", "1"), ("TOKEN", "t"), ("EMPTY", "")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(filled, Ok(want.to_vec()));
    }

    #[test]
    fn colours_need_a_terminal_that_is_not_dumb_and_no_no_color() {
        let colour = |vars: &[(&str, &str)], stderr_is_terminal| {
            Environment { stderr_is_terminal, ..environment(vars) }.colour()
        };
        assert!(colour(&[("TERM", "xterm")], true));
        assert!(colour(&[("TERM", "xterm"), ("NO_COLOR", "")], true));
        assert!(!colour(&[("TERM", "xterm"), ("NO_COLOR", "1")], true));
        assert!(!colour(&[("TERM", "dumb")], true) && !colour(&[], true) && !colour(&[("TERM", "xterm")], false));
    }
}
