//! The plans of one Dockerfile for several platforms, as one plan.

use std::collections::HashMap;

use super::{Base, CopyFrom, MountKind, Op, Plan, StagePlan, Step};
use crate::oci::Platform;
use crate::progress::StepId;

/// Returns one plan that makes what each of `parts` makes: plans for platforms, in the order of the images. Images have the same keys
/// in all of them (see [`GraphOptions::plain`](super::GraphOptions::plain)). A stage that is the same for several platforms is there
/// once. One plan alone stays as it is.
///
/// # Panics
/// Where there is no part.
pub fn join(mut parts: Vec<(Platform, Plan)>) -> Plan {
    if parts.len() == 1 {
        return parts.remove(0).1;
    }
    let (mut stages, mut targets): (Vec<StagePlan>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    let mut next_step = 0;
    for (platform, part) in parts {
        let mut places: Vec<usize> = Vec::with_capacity(part.stages.len());
        for (at, mut stage) in part.stages.into_iter().enumerate() {
            move_references(&mut stage, &places);
            let namesakes = by_name.entry(stage.name.clone()).or_default();
            let is_target = at == part.target;
            // What becomes an image has a configuration of its own.
            let is_same = |known: &&usize| !targets.contains(known) && same(&stages[**known], &stage);
            if let Some(&known) = namesakes.iter().find(is_same).filter(|_| !is_target) {
                stages[known].shown = Some(stage.platform.normalised().to_string());
                places.push(known);
                continue;
            }
            stage.shown = Some(shown(&stage.platform, &platform));
            for step in &mut stage.steps {
                step.id = StepId(next_step);
                next_step += 1;
            }
            namesakes.push(stages.len());
            places.push(stages.len());
            if is_target {
                targets.push(stages.len());
            }
            stages.push(stage);
        }
    }
    let mut targets = targets.into_iter();
    let target = targets.next().expect("the caller gives a plan, and each has a target");
    Plan { stages, target, others: targets.collect() }
}

/// Makes the numbers of stages in `stage` those of the joined plan: `places` has them for the stages before it.
fn move_references(stage: &mut StagePlan, places: &[usize]) {
    let moved = |at: &mut usize| *at = places[*at];
    if let Base::Stage(below) = &mut stage.base {
        moved(below);
    }
    for step in &mut stage.steps {
        let from: Vec<&mut CopyFrom> = match &mut step.op {
            Op::Copy(copy) => vec![&mut copy.from],
            Op::Run(run) => {
                let mounts = run.mounts.iter_mut();
                mounts
                    .filter_map(|mount| match &mut mount.kind {
                        MountKind::Bind { from, .. } => Some(from),
                        MountKind::Cache { from, .. } => from.as_mut(),
                        _ => None,
                    })
                    .collect()
            }
            Op::Workdir { .. } | Op::Config => Vec::new(),
        };
        for from in from {
            if let CopyFrom::Stage(at) = from {
                moved(at);
            }
        }
    }
}

/// Whether two stages do the same. Of their configurations only what their steps see of them counts, and that is in the steps.
fn same(one: &StagePlan, other: &StagePlan) -> bool {
    let step = |(one, other): (&Step, &Step)| one.span == other.span && one.text == other.text && one.op == other.op;
    one.base == other.base
        && one.platform == other.platform
        && one.steps.len() == other.steps.len()
        && one.steps.iter().zip(&other.steps).all(step)
}

/// Returns how a stage whose programs are for `own` is shown, in the build of an image for `target`.
fn shown(own: &Platform, target: &Platform) -> String {
    let (own, target) = (own.normalised(), target.normalised());
    if own == target {
        return own.to_string();
    }
    let target = target.to_string();
    // As with BuildKit, the system goes without saying where it is the same.
    let short = target.strip_prefix(&format!("{}/", own.os)).unwrap_or(&target);
    format!("{own}->{short}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::dockerfile;
    use crate::oci::ImageConfig;
    use crate::plan::{BaseImage, Graph, GraphOptions};
    use crate::source::Source;

    fn joined(text: &str, platforms: &[&str]) -> Plan {
        let platforms: Vec<Platform> = platforms.iter().map(|text| text.parse().unwrap()).collect();
        let source = Source::new("Dockerfile", text.to_owned());
        let file = dockerfile::parse(&source).unwrap();
        let part = |platform: &Platform| {
            let options = GraphOptions {
                platform: Some(platform.clone()),
                build_platform: "linux/amd64".parse().unwrap(),
                plain: Some(platforms[0].clone()),
                ..GraphOptions::default()
            };
            let graph = Graph::new(&file, options).unwrap();
            let image = |used: &crate::plan::ImageUse| {
                let config = ImageConfig { platform: used.platform.clone(), ..ImageConfig::default() };
                (used.key.clone(), BaseImage { config })
            };
            let bases: BTreeMap<_, _> = graph.images().iter().map(image).collect();
            (platform.clone(), graph.lower(&bases).unwrap().0)
        };
        join(platforms.iter().map(part).collect())
    }

    fn stages(plan: &Plan) -> Vec<(String, &Base)> {
        let shown = |stage: &StagePlan| stage.shown.clone().unwrap_or_default() + " " + &stage.name;
        plan.stages.iter().map(|stage| (shown(stage), &stage.base)).collect()
    }

    const CROSS: &str = "FROM --platform=$BUILDPLATFORM go AS tools\nRUN fetch\n\
        FROM tools AS construct\nARG TARGETARCH\nRUN construct\n\
        FROM base\nCOPY --from=construct /x /x\nRUN --mount=type=bind,from=tools,target=/t check\n";

    #[test]
    fn what_is_the_same_for_several_platforms_is_there_once() {
        let plan = joined(CROSS, &["linux/arm64", "linux/amd64"]);
        let go = Base::Image("go (linux/amd64)".into());
        let (arm, amd) = (Base::Image("base".into()), Base::Image("base (linux/amd64)".into()));
        let expected = [
            ("linux/amd64 tools", &go),
            ("linux/amd64->arm64 construct", &Base::Stage(0)),
            ("linux/arm64 2", &arm),
            ("linux/amd64 construct", &Base::Stage(0)),
            ("linux/amd64 2", &amd),
        ];
        let expected: Vec<_> = expected.map(|(name, base)| (name.to_owned(), base)).into();
        assert_eq!(stages(&plan), expected);
        assert_eq!((plan.target, plan.targets().collect::<Vec<_>>()), (2, vec![2, 4]));
        assert_eq!(plan.config(4).platform.to_string(), "linux/amd64");
        let Op::Copy(copy) = &plan.stages[4].steps[0].op else { panic!("{plan}") };
        assert_eq!(copy.from, CopyFrom::Stage(3));
        let Op::Run(run) = &plan.stages[4].steps[1].op else { panic!("{plan}") };
        assert!(matches!(&run.mounts[0].kind, MountKind::Bind { from: CopyFrom::Stage(0), .. }), "{plan}");
        let ids: Vec<_> = plan.stages.iter().flat_map(|stage| &stage.steps).map(|step| step.id.0).collect();
        assert_eq!(ids, (0..ids.len()).collect::<Vec<_>>());
    }

    #[test]
    fn one_platform_alone_is_not_shown() {
        let plan = joined(CROSS, &["linux/arm64"]);
        assert!(plan.stages.iter().all(|stage| stage.shown.is_none()) && plan.others.is_empty());
    }
}
