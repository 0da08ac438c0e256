use std::collections::{BTreeMap, HashMap, HashSet};

use super::env::{self, Variables};
use super::graph::{Graph, Origin};
use super::stage::StageState;
use super::{Base, BaseImage, BaseLabels, GraphOptions, Plan, StagePlan, config, magic, triggers};
use crate::dockerfile::suggest::did_you_mean;
use crate::dockerfile::{Arg, Instruction};
use crate::oci::{ImageConfig, Platform};
use crate::progress::StepId;
use crate::source::{Diagnostic, Span};

/// The most bytes that a plan may hold. A file gets there only by variables that double themselves, or thousands of stages
/// on top of each other.
const LARGEST: u64 = 256 << 20;

/// What all stages of a plan share while it is made.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub escape: char,
    pub options: &'a GraphOptions,
    pub globals: &'a Variables,
    pub build_args: HashMap<&'a str, &'a str>,
    pub proxies: Vec<(String, String)>,
    /// The name of the machine in RUN, where the user chose one.
    pub hostname: Option<&'a str>,
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
    /// Returns the plan, and what the user should know about it. `bases` has an image for each of [`Graph::images`], by its key;
    /// [`Graph::take_triggers`] has seen them.
    ///
    /// # Errors
    /// All of: an image that `bases` lacks, a variable that cannot be expanded, and values that make no sense once expanded.
    pub fn lower(&self, bases: &BTreeMap<String, BaseImage>) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
        let options = &self.options;
        let hostname = magic::hostname(&options.build_args).map_err(|error| vec![error])?;
        let mut context = Context {
            escape: self.file.directives.escape,
            options,
            globals: &self.globals,
            build_args: options.build_args.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            proxies: env::proxies(&options.build_args),
            hostname,
            warnings: [self.undeclared_args(), magic::warnings(&options.build_args)].concat(),
            errors: Vec::new(),
            places: self.order.iter().enumerate().map(|(place, &index)| (index, place)).collect(),
            next_step: 0,
            size: 0,
        };
        for image in self.images() {
            if !bases.contains_key(&image.key) {
                context.errors.push(image.not_found());
            }
        }
        let mut states: Vec<Option<StageState>> = Vec::with_capacity(self.order.len());
        // The last one that needs a state takes it.
        let takers: HashMap<usize, usize> = self
            .order
            .iter()
            .filter_map(|&index| match self.nodes[index].base {
                Origin::Stage(below) => Some((below, index)),
                _ => None,
            })
            .collect();
        let mut stages: Vec<StagePlan> = Vec::with_capacity(self.order.len());
        for &index in &self.order {
            let stage = &self.file.stages[index];
            let (base, mut state) = match &self.nodes[index].base {
                // A stage that is a folder is never one that the target needs.
                Origin::Scratch | Origin::Folder(_) => {
                    (Base::Scratch, StageState::new(config::scratch(options.target_platform())))
                }
                Origin::Stage(below) => {
                    let place = context.places[below];
                    let state = match takers.get(below) == Some(&index) {
                        true => states[place].take(),
                        false => states[place].clone(),
                    };
                    (Base::Stage(place), state.expect("the last one takes it").inherit())
                }
                Origin::Image { name, platform } => {
                    let key = options.key(name, platform);
                    let start = match bases.get(&key) {
                        Some(image) => self.check_base(name, platform, image, stage.from.span, &mut context),
                        // The error is told already; go on to find others.
                        None => config::scratch(options.target_platform()),
                    };
                    (Base::Image(key), StageState::new(start))
                }
            };
            if options.labels == BaseLabels::Dropped {
                state.config.config.labels.clear();
            }
            let start = state.size();
            if let Err(error) = context.charge(start, stage.span) {
                context.errors.push(error);
            }
            let mut steps = Vec::with_capacity(stage.instructions.len());
            let triggers = self.nodes[index].triggers.len();
            for (number, instruction) in self.instructions(index).enumerate() {
                if context.is_full() {
                    break;
                }
                let origins = |mount: usize| self.nodes[index].froms.get(&(number, mount)).cloned();
                match state.apply(instruction, &origins, &mut context) {
                    Ok(None) => {}
                    Ok(Some(mut step)) => {
                        if number < triggers {
                            step.text.insert_str(0, "ONBUILD ");
                        }
                        steps.push(step);
                    }
                    Err(error) if number < triggers => {
                        context.errors.push(triggers::labelled(error, &instruction.text));
                    }
                    Err(error) => context.errors.push(error),
                }
            }
            if context.is_full() {
                break;
            }
            let name = stage.name.as_ref().map_or_else(|| index.to_string(), |name| name.value.clone());
            let platform = match &base {
                Base::Stage(below) => stages[*below].platform.clone(),
                Base::Scratch => options.target_platform().clone(),
                Base::Image(key) => config::platform_of(bases.get(key), options.target_platform()),
            };
            let mut stage = StagePlan { name, base, platform, shown: None, steps, config: None };
            // A history is long, and only an image shows it.
            if index == self.target {
                let mut config = state.into_config();
                config.platform = config.platform.normalised();
                stage.config = Some(config);
                states.push(None);
            } else {
                states.push(Some(state));
            }
            stages.push(stage);
        }
        if !context.errors.is_empty() {
            context.errors.sort_by_key(|error| error.span);
            return Err(context.errors);
        }
        // The target needs all others, and each stands behind those it needs.
        let target = stages.len() - 1;
        Ok((Plan { stages, target, others: Vec::new() }, context.warnings))
    }

    /// Returns the configuration of a stage on `image`, which is wanted for `platform`.
    fn check_base(
        &self,
        name: &str,
        platform: &Platform,
        image: &BaseImage,
        span: Span,
        context: &mut Context<'_>,
    ) -> ImageConfig {
        let have = &image.config.platform;
        if !have.architecture.is_empty() && !config::fits(have, platform) {
            let message = format!("base image `{name}` is for {have}, the build is for {platform}");
            context.warnings.push(Diagnostic::warning(message).at(span).rule("InvalidBaseImagePlatform"));
        }
        config::on_image(&image.config, self.options.platform.as_ref(), platform)
    }

    /// Returns a warning for each build argument that no ARG declares.
    fn undeclared_args(&self) -> Vec<Diagnostic> {
        let all = (0..self.nodes.len()).flat_map(|index| self.instructions(index));
        let of_stages = all.flat_map(|it| match &it.value {
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
                if name.starts_with("BUILDKIT_") {
                    magic::names().for_each(|name| known.push(name));
                }
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
        || magic::names().any(|known| known == name)
        || platform.is_some_and(|rest| matches!(rest, "PLATFORM" | "OS" | "OSVERSION" | "ARCH" | "VARIANT"))
}
