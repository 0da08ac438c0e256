//! Stages that look at the result of a plan: with the protocol of BuildKit for generators of SBOMs.

use super::{Base, CopyFrom, Mount, MountKind, Network, Op, Plan, Run, StagePlan, Step};
use crate::oci::{ImageConfig, Platform};
use crate::progress::StepId;
use crate::source::Span;

/// Where a generator finds what it looks at.
const SOURCES: &str = "/run/src";

/// A program that looks at files, and the image that it is in.
#[derive(Debug, Clone, PartialEq)]
pub struct Scanner {
    /// The key of its image.
    pub key: String,
    /// The name of its image, for people.
    pub name: String,
    /// The configuration of that.
    pub config: ImageConfig,
    /// For what its programs are.
    pub platform: Platform,
    /// More variables for it.
    pub env: Vec<String>,
    /// Where it is asked for.
    pub span: Span,
    /// Whether it looks at the context, too.
    pub context: ScanContext,
    /// The names of stages that it looks at, too.
    pub stages: Vec<String>,
}

/// Whether the context is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScanContext {
    /// No.
    #[default]
    No,
    /// Yes.
    Yes,
}

impl Scanner {
    /// The folder in which it leaves what it found.
    pub const RESULTS: &'static str = "/run/out";
    /// The name of its stage, which no stage of a Dockerfile can have.
    pub const STAGE: &'static str = "sbom scan";

    /// Returns its command; nothing where the image has none.
    pub fn command(&self) -> Vec<String> {
        let config = &self.config.config;
        config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned().collect()
    }

    /// Returns `plan` with a stage for each of its targets that looks at it. The targets of the plan that is returned are these stages.
    pub fn scans(&self, plan: &Plan) -> Plan {
        let mut stages = plan.stages.clone();
        let ids = plan.stages.iter().flat_map(|stage| &stage.steps).map(|step| step.id.0 + 1);
        let mut next = ids.max().unwrap_or(0);
        let mut targets = Vec::new();
        for target in plan.targets() {
            targets.push(stages.len());
            stages.push(self.stage(plan, target, &mut next));
        }
        Plan { stages, target: targets.remove(0), others: targets }
    }

    fn stage(&self, plan: &Plan, target: usize, next: &mut usize) -> StagePlan {
        let mut step = |text: String, op: Op| {
            *next += 1;
            Step { id: StepId(*next - 1), span: self.span, created_by: text.clone(), text, op }
        };
        let made =
            step(format!("WORKDIR {}", Self::RESULTS), Op::Workdir { path: Self::RESULTS.into(), user: String::new() });
        let run = step(format!("generating sbom using {}", self.name), Op::Run(self.run(plan, target)));
        StagePlan {
            name: Self::STAGE.into(),
            base: Base::Image(self.key.clone()),
            platform: self.platform.clone(),
            shown: plan.stages[target].shown.clone(),
            steps: vec![made, run],
            config: Some(self.config.clone()),
        }
    }

    fn run(&self, plan: &Plan, target: usize) -> Run {
        let core = format!("{SOURCES}/core/sbom");
        let bind = |target: String, from| Mount {
            span: self.span,
            target,
            kind: MountKind::Bind { from, source: "/".into(), writable: false },
        };
        let mut mounts = vec![
            Mount { span: self.span, target: "/tmp".into(), kind: MountKind::Tmpfs { size: None } },
            bind(core.clone(), CopyFrom::Stage(target)),
        ];
        let extra = |name: &str| format!("{SOURCES}/extras/sbom-{name}");
        if self.context == ScanContext::Yes {
            mounts.push(bind(extra("context"), CopyFrom::Context));
        }
        for at in plan.needed_by(target).into_iter().filter(|at| *at != target) {
            let name = &plan.stages[at].name;
            if self.stages.contains(name) {
                mounts.push(bind(extra(name), CopyFrom::Stage(at)));
            }
        }
        let mut env = self.config.config.env.clone();
        env.push(format!("BUILDKIT_SCAN_DESTINATION={}/", Self::RESULTS));
        env.push(format!("BUILDKIT_SCAN_SOURCE={core}"));
        if mounts.len() > 2 {
            env.push(format!("BUILDKIT_SCAN_SOURCE_EXTRAS={SOURCES}/extras"));
        }
        env.extend(self.env.iter().cloned());
        let cwd = &self.config.config.working_dir;
        Run {
            args: self.command(),
            env,
            uncached_env: Vec::new(),
            cwd: if cwd.starts_with('/') { cwd.clone() } else { "/".into() },
            user: String::new(),
            mounts,
            network: Network::Default,
            hostname: None,
            script: None,
        }
    }
}
