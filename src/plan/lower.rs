use std::collections::{BTreeMap, HashMap, HashSet};

use super::env::{self, Variables};
use super::graph::{Graph, Origin};
use super::stage::StageState;
use super::{Base, BaseImage, Plan, StagePlan, config};
use crate::dockerfile::suggest::did_you_mean;
use crate::dockerfile::{Arg, Instruction};
use crate::progress::StepId;
use crate::source::{Diagnostic, Span};

/// The most bytes that a plan may hold. A file gets there only by variables that double themselves, or thousands of stages
/// on top of each other.
const LARGEST: u64 = 256 << 20;

/// What all stages of a plan share while it is made.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub escape: char,
    pub globals: &'a Variables,
    pub build_args: HashMap<&'a str, &'a str>,
    pub proxies: Vec<(String, String)>,
    pub warnings: Vec<Diagnostic>,
    pub errors: Vec<Diagnostic>,
    /// The numbers of the file's stages in the plan.
    pub places: HashMap<usize, usize>,
    next_step: usize,
    size: u64,
}

impl Context<'_> {
    /// Returns the number of a new step.
    pub fn step(&mut self) -> StepId {
        self.next_step += 1;
        StepId(self.next_step - 1)
    }

    /// Counts `bytes` of the plan.
    ///
    /// # Errors
    /// It grows too large.
    pub fn charge(&mut self, bytes: usize, span: Span) -> Result<(), Diagnostic> {
        self.size += bytes as u64;
        if self.size > LARGEST {
            let message = format!("the file becomes more than {} MiB with its variables expanded", LARGEST >> 20);
            return Err(Diagnostic::error(message).at(span));
        }
        Ok(())
    }

    /// Returns whether there is no use in going on.
    pub fn is_full(&self) -> bool {
        self.size > LARGEST
    }
}

impl Graph<'_> {
    /// Returns the plan, and what the user should know about it. `bases` has an image for each of [`Graph::images`].
    ///
    /// # Errors
    /// All of: an image that `bases` lacks, a base image with ONBUILD triggers, a variable that cannot be expanded, and
    /// values that make no sense once expanded.
    pub fn lower(&self, bases: &BTreeMap<String, BaseImage>) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
        let options = &self.options;
        let mut context = Context {
            escape: self.file.directives.escape,
            globals: &self.globals,
            build_args: options.build_args.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            proxies: env::proxies(&options.build_args),
            warnings: self.undeclared_args(),
            errors: Vec::new(),
            places: self.order.iter().enumerate().map(|(place, &index)| (index, place)).collect(),
            next_step: 0,
            size: 0,
        };
        for image in self.images() {
            if !bases.contains_key(&image.name) {
                context.errors.push(image.not_found());
            }
        }
        let mut states: Vec<StageState> = Vec::with_capacity(self.order.len());
        let mut stages = Vec::with_capacity(self.order.len());
        for &index in &self.order {
            let stage = &self.file.stages[index];
            let (base, mut state) = match &self.nodes[index].base {
                Origin::Scratch => (Base::Scratch, StageState::new(config::scratch(&options.platform))),
                Origin::Stage(below) => {
                    let place = context.places[below];
                    (Base::Stage(place), states[place].inherit())
                }
                Origin::Image(name) => {
                    let start = match bases.get(name) {
                        Some(image) => self.check_base(name, image, stage.from.span, &mut context),
                        // The error is told already; go on to find others.
                        None => config::scratch(&options.platform),
                    };
                    (Base::Image(name.clone()), StageState::new(start))
                }
            };
            let start = state.size();
            if let Err(error) = context.charge(start, stage.span) {
                context.errors.push(error);
            }
            let mut steps = Vec::with_capacity(stage.instructions.len());
            for (number, instruction) in stage.instructions.iter().enumerate() {
                if context.is_full() {
                    break;
                }
                let origins = |mount: usize| self.nodes[index].froms.get(&(number, mount)).cloned();
                match state.apply(instruction, &origins, &mut context) {
                    Ok(step) => steps.push(step),
                    Err(error) => context.errors.push(error),
                }
            }
            if context.is_full() {
                break;
            }
            let name = stage.name.as_ref().map_or_else(|| index.to_string(), |name| name.value.clone());
            stages.push(StagePlan { name, base, steps, config: state.config() });
            states.push(state);
        }
        if !context.errors.is_empty() {
            context.errors.sort_by_key(|error| error.span);
            return Err(context.errors);
        }
        // The target needs all others, and each stands behind those it needs.
        let target = stages.len() - 1;
        Ok((Plan { stages, target }, context.warnings))
    }

    /// Returns the configuration of a stage on `image`.
    fn check_base(
        &self,
        name: &str,
        image: &BaseImage,
        span: Span,
        context: &mut Context<'_>,
    ) -> crate::oci::ImageConfig {
        if !image.config.config.on_build.is_empty() {
            let message = format!("base image `{name}` has ONBUILD triggers: not supported yet");
            context.errors.push(Diagnostic::error(message).at(span));
        }
        let (have, want) = (&image.config.platform, &self.options.platform);
        if !config::fits(have, want) {
            let message = format!("base image `{name}` is for {have}, the build is for {want}");
            context.warnings.push(Diagnostic::warning(message).at(span));
        }
        config::on_image(&image.config, want)
    }

    /// Returns a warning for each build argument that no ARG declares.
    fn undeclared_args(&self) -> Vec<Diagnostic> {
        let of_stages = self.file.stages.iter().flat_map(|stage| &stage.instructions).flat_map(|it| match &it.value {
            Instruction::Arg(args) => args.as_slice(),
            _ => &[],
        });
        let declared: HashSet<&str> =
            self.file.global_args.iter().chain(of_stages).map(|Arg { name, .. }| name.as_str()).collect();
        let mut told = HashSet::new();
        let given = self.options.build_args.iter().map(|(name, _)| name.as_str());
        given
            .filter(|name| !declared.contains(name) && !is_predefined(name) && told.insert(*name))
            .map(|name| {
                let mut known: Vec<&str> = declared.iter().copied().collect();
                known.sort_unstable();
                let hint = did_you_mean(name, known);
                Diagnostic::warning(format!("no ARG declares the build argument `{name}`")).maybe_hint(hint)
            })
            .collect()
    }
}

/// Returns whether a build argument has a meaning without an ARG.
fn is_predefined(name: &str) -> bool {
    let platform = name.strip_prefix("BUILD").or_else(|| name.strip_prefix("TARGET"));
    env::is_proxy(name)
        || name.starts_with("BUILDKIT_")
        || matches!(name, "SOURCE_DATE_EPOCH" | "TARGETSTAGE")
        || platform.is_some_and(|rest| matches!(rest, "PLATFORM" | "OS" | "OSVERSION" | "ARCH" | "VARIANT"))
}
