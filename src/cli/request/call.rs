use crate::cli::args::{CallArgs, Method, PrintForm};

/// What `coracle build` is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Task {
    /// Build.
    #[default]
    Build,
    /// Check the Dockerfile.
    Check(PrintForm),
    /// List what a target takes.
    Outline(PrintForm),
    /// List the targets.
    Targets(PrintForm),
    /// Say what is in the cache.
    Plan {
        /// How it is printed.
        form: PrintForm,
        /// Whether the exit code says that a step would have to run.
        status: PlanStatus,
    },
}

/// What the exit code of a plan says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PlanStatus {
    /// That there is a plan.
    #[default]
    Made,
    /// Whether all of it is in the cache.
    Cached,
}

impl Task {
    pub(super) fn new(args: &CallArgs) -> Self {
        if let Some(form) = args.plan {
            let status = if args.plan_exit_code { PlanStatus::Cached } else { PlanStatus::Made };
            return Task::Plan { form, status };
        }
        if args.check {
            return Task::Check(PrintForm::Text);
        }
        let call = args.call.unwrap_or_default();
        match call.method {
            Method::Build => Task::Build,
            Method::Check => Task::Check(call.form),
            Method::Outline => Task::Outline(call.form),
            Method::Targets => Task::Targets(call.form),
        }
    }
}
