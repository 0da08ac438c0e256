use std::str::FromStr;

use clap::{Args, ValueEnum};

/// What is done with a Dockerfile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    /// It is built.
    #[default]
    Build,
    /// It is checked.
    Check,
    /// What a target takes is listed.
    Outline,
    /// Its targets are listed.
    Targets,
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PrintForm {
    /// For people.
    #[default]
    Text,
    /// As one JSON document.
    Json,
}

/// A value of `--call`: a method, and `,format=json` behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Call {
    /// What is done.
    pub method: Method,
    /// How it is printed.
    pub form: PrintForm,
}

/// A value of `--call` makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No such method.
    #[error("there is no method {0:?}: build, check, outline, targets")]
    Method(String),
    /// Something else than `format=` behind it.
    #[error("{0:?} is not format=text or format=json")]
    Option(String),
}

impl FromStr for Call {
    type Err = CallError;

    fn from_str(text: &str) -> Result<Self, CallError> {
        let (method, options) = text.split_once(',').unwrap_or((text, ""));
        let method = match method.strip_prefix("subrequest=").unwrap_or(method) {
            "build" => Method::Build,
            "check" | "lint" => Method::Check,
            "outline" => Method::Outline,
            "targets" => Method::Targets,
            other => return Err(CallError::Method(other.into())),
        };
        let form = match options {
            "" | "format=text" => PrintForm::Text,
            "format=json" => PrintForm::Json,
            other => return Err(CallError::Option(other.into())),
        };
        Ok(Call { method, form })
    }
}

/// Flags of `coracle build` that tell of a build, or do something else in its place.
#[derive(Debug, Args)]
#[command(next_help_heading = "Ask before or after")]
pub struct CallArgs {
    /// Check the Dockerfile and build nothing: --call=check
    #[arg(long, conflicts_with_all = ["call", "plan"])]
    pub check: bool,
    /// build, check, outline or targets; `,format=json` behind it
    #[arg(long, value_name = "METHOD", conflicts_with = "plan")]
    pub call: Option<Call>,
    /// Say what is in the cache and build nothing: text or json
    #[arg(
        long,
        value_name = "FORM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text",
        hide_possible_values = true
    )]
    pub plan: Option<PrintForm>,
    /// With --plan, exit with 10 where a step would have to run
    #[arg(long, requires = "plan")]
    pub plan_exit_code: bool,
    /// Say of each step that is not in the cache what changed
    #[arg(long)]
    pub explain: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_a_method_and_maybe_a_format() {
        let call = |method, form| Ok(Call { method, form });
        for (text, want) in [
            ("build", call(Method::Build, PrintForm::Text)),
            ("check", call(Method::Check, PrintForm::Text)),
            ("lint", call(Method::Check, PrintForm::Text)),
            ("outline,format=json", call(Method::Outline, PrintForm::Json)),
            ("targets,format=text", call(Method::Targets, PrintForm::Text)),
            ("tests", Err(CallError::Method("tests".into()))),
            ("check,format=xml", Err(CallError::Option("format=xml".into()))),
            ("check,json", Err(CallError::Option("json".into()))),
        ] {
            assert_eq!(text.parse::<Call>(), want, "{text}");
        }
    }
}
