use std::fmt;

use super::{Base, CopyFrom, Op, Plan};

/// Prints a line for each stage and step, the same text for the same plan. Strings that come from the file are quoted, so
/// that no control character gets through.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, stage) in self.stages.iter().enumerate() {
            let target = if number == self.target { " (target)" } else { "" };
            write!(f, "stage {number} {:?} from ", stage.name)?;
            match &stage.base {
                Base::Scratch => write!(f, "scratch")?,
                Base::Image(name) => write!(f, "image {name:?}")?,
                Base::Stage(stage) => write!(f, "stage {stage}")?,
            }
            writeln!(f, "{target}")?;
            for step in &stage.steps {
                write!(f, "  {} ", step.id.0)?;
                match &step.op {
                    Op::Workdir { path, user } => write!(f, "workdir {path:?} user={user:?}")?,
                    Op::Copy(copy) => {
                        match &copy.from {
                            CopyFrom::Context => write!(f, "copy context")?,
                            CopyFrom::Stage(stage) => write!(f, "copy stage {stage}")?,
                            CopyFrom::Image(name) => write!(f, "copy image {name:?}")?,
                        }
                        write!(f, " {:?} -> {:?}", copy.sources, copy.destination)?;
                        copy.chown.iter().try_for_each(|owner| write!(f, " chown={owner:?}"))?;
                        copy.chmod.iter().try_for_each(|mode| write!(f, " chmod={mode:04o}"))?;
                    }
                    Op::Run(run) => {
                        write!(f, "run {:?} cwd={:?} user={:?} env={:?}", run.args, run.cwd, run.user, run.env)?;
                        if !run.uncached_env.is_empty() {
                            write!(f, " uncached={:?}", run.uncached_env)?;
                        }
                    }
                    Op::Config => write!(f, "config {:?}", step.created_by)?,
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}
