//! One build under way: what its stages and steps share.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use coracle_runtime::RuntimeError;
use coracle_runtime::container::Control;

use crate::layer::LayerError;
use crate::plan::{self, Base, CopyFrom, CopySource, Op, Plan, Step, definition};
use crate::progress::{Event, Sink};
use crate::store::{Active, CachedStep, Image, Index, RemoteSteps, Store, View};
use crate::tree::{self, Entry, Tree};

use super::chain::{Chain, step_key};
use super::clerk::{Desk, Note};
use super::copy::{Nothing, Selection, Trust};
use super::failure::OnFailure;
use super::journal::Journal;
use super::lacking::Lookout;
use super::mounts::{self, Gathered};
use super::run_step::StepPlace;
use super::running::Running;
use super::ship::Ship;
use super::stubs::Stubs;
use super::unpack::{self, OnDisk};
use super::worktree::WorkTree;
use super::{BuildError, BuildOptions, CopyError, Explain, Inputs, MAX_LAYERS, copy, users};

/// What is known of a stage at some step.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    /// Its layers.
    pub chain: Chain,
    /// When each of its steps was done: seconds since 1970; `None` for a step that changes the configuration only.
    pub created: Vec<Option<i64>>,
}

/// Where a stage stands.
#[derive(Debug, Clone)]
pub(super) enum StageState {
    Running,
    Done(Progress),
    Failed,
}

/// What the cache knows of a stage.
pub(super) enum StageReplay {
    /// Each step.
    Known(Progress),
    /// Not this step, counted from 0, and maybe not those after it; what is below it is known.
    Missing { step: usize, below: Progress },
}

/// What the stages of one build share.
pub(super) struct Work<'a> {
    pub store: &'a Store,
    pub plan: &'a Plan,
    pub bases: &'a BTreeMap<String, Image>,
    pub inputs: &'a Inputs<'a>,
    pub options: &'a BuildOptions,
    pub sink: &'a dyn Sink,
    pub control: &'a Control,
    pub on_disk: OnDisk,
    /// For each stage of the plan, and a bell that rings when one changes.
    pub stages: (Mutex<Vec<StageState>>, Condvar),
    /// What the COPY steps read: found once, used for the key and for copying.
    pub selections: Mutex<HashMap<usize, Arc<Selection>>>,
    /// What the mounts of RUN steps read from the context, by path.
    pub gathered: Mutex<HashMap<(String, String), Arc<Gathered>>>,
    /// What is done when the command of a step fails.
    pub on_failure: OnFailure<'a>,
    /// Where layers go while later steps still run.
    pub ship: Option<Ship<'a>>,
    /// What is around the steps.
    pub place: StepPlace,
    /// Why layers cannot be stacked here, once the kernel has said so: then steps work on copies.
    pub no_overlay: OnceLock<RuntimeError>,
    /// Whether no more steps are begun, because the build begins again.
    pub begins_anew: AtomicBool,
    /// What a full map of ids has not got, and what is done about it.
    pub lookout: Lookout,
    /// Whether the user knows what those copies cost.
    pub told_cost: AtomicBool,
    /// Whether the user knows what is missing in this environment.
    pub warned: AtomicBool,
    /// The steps that are being carried out.
    pub running: Running,
    /// Held while layers are unpacked, so that no two stages unpack the same one.
    pub unpacking: Mutex<()>,
    /// Where the files of the host are mounted.
    pub stubs: Stubs<'a>,
    /// Results of steps that lie elsewhere.
    pub remote: Option<&'a dyn RemoteSteps>,
    /// What became of the steps.
    pub journal: Arc<Journal>,
}

/// A cache key, and how sure it is.
pub(super) enum Lookup {
    /// What is there, and the key under which it was found.
    Hit(CachedStep, String),
    /// The keys under which the result is to be remembered.
    Miss(Vec<String>),
}

impl<'b> Work<'b> {
    /// Returns the layers of the image or stage that `base` names. Waits for a stage.
    pub fn base(&self, base: &Base) -> Result<Progress, BuildError> {
        match base {
            Base::Scratch => Ok(Progress { chain: Chain::scratch(), created: Vec::new() }),
            Base::Image(name) => {
                Ok(Progress { chain: Chain::of_image(self.image(name), self.store), created: Vec::new() })
            }
            Base::Stage(at) => self.wait_for(*at),
        }
    }

    fn image(&self, name: &str) -> &Image {
        self.bases.get(name).expect("the caller gives each image that the plan names")
    }

    /// Waits for what `step` needs of other stages.
    pub fn ready(&self, step: &Step) -> Result<(), BuildError> {
        match &step.op {
            Op::Copy(plan::Copy { from: CopyFrom::Stage(at), .. }) => self.wait_for(*at).map(|_| ()),
            Op::Run(run) => mounts::stages(run).try_for_each(|at| self.wait_for(at).map(|_| ())),
            _ => Ok(()),
        }
    }

    fn wait_for(&self, stage: usize) -> Result<Progress, BuildError> {
        let (states, bell) = &self.stages;
        let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &states[stage] {
                StageState::Done(progress) => return Ok(progress.clone()),
                StageState::Failed => {
                    return Err(BuildError::StageFailed { stage: self.plan.stages[stage].name.clone() });
                }
                StageState::Running => states = bell.wait(states).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Records how a stage ended.
    pub fn finish_stage(&self, stage: usize, state: StageState) {
        let (states, bell) = &self.stages;
        states.lock().unwrap_or_else(PoisonError::into_inner)[stage] = state;
        bell.notify_all();
    }

    /// Returns whether a stage is neither done nor has failed.
    pub fn is_running(&self, stage: usize) -> bool {
        matches!(self.stages.0.lock().unwrap_or_else(PoisonError::into_inner)[stage], StageState::Running)
    }

    /// Returns `result`, or that the build was interrupted, which may be why it failed.
    pub fn unless_interrupted<T>(&self, result: Result<T, BuildError>) -> Result<T, BuildError> {
        if self.control.cancelled() { Err(BuildError::Interrupted) } else { result }
    }

    /// Returns each target, if all stages are done.
    pub fn all_done(&self) -> Option<Vec<Progress>> {
        let states = self.stages.0.lock().unwrap_or_else(PoisonError::into_inner);
        if states.iter().all(|state| matches!(state, StageState::Done(_))) {
            let target = |at: usize| match &states[at] {
                StageState::Done(target) => Some(target.clone()),
                _ => None,
            };
            return self.plan.targets().map(target).collect();
        }
        None
    }

    /// Forgets what is known of the stages.
    pub fn forget_stages(&self) {
        self.stages.0.lock().unwrap_or_else(PoisonError::into_inner).fill(StageState::Running);
    }

    /// Returns a stage that is done, without waiting.
    pub fn done(&self, stage: usize) -> Option<Progress> {
        match &self.stages.0.lock().unwrap_or_else(PoisonError::into_inner)[stage] {
            StageState::Done(progress) => Some(progress.clone()),
            _ => None,
        }
    }

    /// Says of each step that it is in the cache.
    pub fn all_cached(&self) {
        for step in self.plan.stages.iter().flat_map(|stage| &stage.steps).filter(|step| step.op != Op::Config) {
            self.sink.emit(Event::Cached { step: step.id });
        }
    }

    /// Returns the whole stage if the cache knows each of its steps. Touches nothing but the store's records and the files
    /// of the context.
    pub fn replay(&self, stage: usize) -> Result<StageReplay, BuildError> {
        let plan = &self.plan.stages[stage];
        let mut progress = match &plan.base {
            Base::Stage(at) => match self.done(*at) {
                Some(progress) => progress,
                None => {
                    let below = Progress { chain: Chain::scratch(), created: Vec::new() };
                    return Ok(StageReplay::Missing { step: 0, below });
                }
            },
            other => self.base(other)?,
        };
        for (at, step) in plan.steps.iter().enumerate() {
            let missing = |below| Ok(StageReplay::Missing { step: at, below });
            if step.op == Op::Config {
                progress.created.push(None);
                continue;
            }
            if let Op::Copy(plan::Copy { from: CopyFrom::Stage(from), .. }) = &step.op
                && self.done(*from).is_none()
            {
                return missing(progress);
            }
            if let Op::Run(run) = &step.op
                && mounts::stages(run).any(|from| self.done(from).is_none())
            {
                return missing(progress);
            }
            let Lookup::Hit(hit, _) =
                self.look_up(step, &progress.chain, Depth::Quick).map_err(|e| at_step(step, e))?
            else {
                return missing(progress);
            };
            progress.chain = progress.chain.with(hit.layer);
            progress.created.push(Some(hit.created));
        }
        Ok(StageReplay::Known(progress))
    }

    /// Carries out `step` on the layers `chain`, or takes its result from the cache. `tree` is that of the stage, if it has one.
    pub fn step(
        &self,
        step: &'b Step,
        chain: &Chain,
        tree: &mut Option<WorkTree>,
        desk: &Desk<'b>,
    ) -> Result<(Chain, Option<i64>), BuildError> {
        if step.op == Op::Config {
            return Ok((chain.clone(), None));
        }
        let result = self.layer_step(step, chain, tree, desk);
        result.map_err(|error| at_step(step, error))
    }

    fn layer_step(
        &self,
        step: &'b Step,
        chain: &Chain,
        tree: &mut Option<WorkTree>,
        desk: &Desk<'b>,
    ) -> Result<(Chain, Option<i64>), BuildError> {
        if self.control.cancelled() || self.begins_anew.load(Ordering::Relaxed) {
            return Err(BuildError::Interrupted);
        }
        // Waiting for another stage is not this step's time.
        let source = match &step.op {
            Op::Copy(copy) => Some(self.source_chain(&copy.from)?),
            _ => None,
        }
        .flatten();
        let keys = match self.look_up(step, chain, Depth::Full)? {
            Lookup::Hit(hit, _) => {
                self.sink.emit(Event::Cached { step: step.id });
                return Ok((chain.with(hit.layer), Some(hit.created)));
            }
            Lookup::Miss(keys) => keys,
        };
        // Equal steps of several stages run once, whether or not earlier builds count.
        let key = keys.last().expect("a step has a key").clone();
        let _turn = match self.running.take(&key) {
            Ok(turn) => turn,
            Err(done) => {
                self.sink.emit(Event::Cached { step: step.id });
                return Ok((chain.with(done.layer), Some(done.created)));
            }
        };
        if self.options.explain == Explain::Misses {
            let reasons = self.reasons(step, &self.record(step, chain, &keys));
            self.sink.emit(Event::Missed { step: step.id, reasons });
        }
        self.sink.emit(Event::Started { step: step.id });
        let began = Instant::now();
        let result = self.act(step, chain, source.as_ref(), tree);
        let took = began.elapsed();
        self.sink.emit(match &result {
            Err(error) if self.has_to_begin_anew(error) => Event::Again { step: step.id, took },
            result => Event::Finished { step: step.id, took, ok: result.is_ok() },
        });
        let layer = result?;
        let done = CachedStep { layer: layer.id, created: super::now(), keys: keys.clone(), from: None };
        self.journal.note(step.id, &keys, &done);
        desk.hand_in(self, Note { step, below: chain.clone(), keys, done: done.clone() })?;
        self.running.done(key, done.clone());
        Ok((chain.with(done.layer), Some(done.created)))
    }

    /// Whether this is what a full map of ids has not got, and emulated owners have: the build begins again with them.
    pub fn has_to_begin_anew(&self, error: &BuildError) -> bool {
        self.on_disk.maps.is_some() && error.lacking().is_some() && self.lookout.can_emulate(self.store)
    }

    fn act(
        &self,
        step: &Step,
        chain: &Chain,
        source: Option<&Chain>,
        tree: &mut Option<WorkTree>,
    ) -> Result<crate::store::ViewLayer, BuildError> {
        if chain.links().len() >= MAX_LAYERS {
            return Err(BuildError::TooManyLayers { count: chain.links().len() + 1 });
        }
        let below = self.view(chain)?;
        let mut active = self.store.prepare()?;
        let index = match &step.op {
            Op::Config => Index::default(),
            Op::Workdir { path, user } => self.workdir(path, user, &below, &active)?,
            Op::Copy(copy) => self.copy(step, copy, source, &below, &active)?,
            Op::Run(run) => self.run(step, run, &below, &mut active, tree)?,
        };
        // No archive can hold these, and it is this step that made them.
        let reserved = |entry: &&Entry| entry.path.name().is_some_and(|name| name.starts_with(b".wh."));
        if let Some(entry) = index.entries().iter().find(reserved) {
            return Err(LayerError::Reserved { path: entry.path.clone() }.into());
        }
        let layer = self.store.commit(active, &self.on_disk.realm, None, index)?;
        if let (Op::Run(_), Some(tree)) = (&step.op, tree) {
            tree.hold(layer.id);
        }
        Ok(layer)
    }

    /// Returns the files of `chain`, all of them on disk.
    pub fn view(&self, chain: &Chain) -> Result<View, BuildError> {
        let _alone = self.unpacking.lock().unwrap_or_else(PoisonError::into_inner);
        unpack::view(self.store, &self.on_disk, chain.links(), self.control)
    }

    fn workdir(&self, path: &str, user: &str, below: &View, active: &Active) -> Result<Index, BuildError> {
        let place = tree::resolve(below, path.as_bytes())?;
        let mut composer = copy::Composer::new(active, self.on_disk.owners, below, self.control)?;
        match place.node {
            Some(node) if node.kind.is_dir() => {}
            Some(node) => return Err(BuildError::NotADirectory { path: path.into(), what: node.kind.word() }),
            None => {
                // As for --chown, not as for RUN: a number alone is the group, too.
                let owner = if user.is_empty() { (0, 0) } else { users::lookup_owner(below, user)? };
                composer.directory(&place.path, owner, 0o755)?;
            }
        }
        composer.finish()
    }

    fn copy(
        &self,
        step: &Step,
        copy: &plan::Copy,
        source: Option<&Chain>,
        below: &View,
        active: &Active,
    ) -> Result<Index, BuildError> {
        let alone = View::default();
        let below = if is_independent(copy) { &alone } else { below };
        let owner = match &copy.chown {
            Some(chown) if is_independent(copy) => Some(copy::owner_in_numbers(chown)?),
            Some(chown) => Some(users::lookup_owner(below, chown)?),
            None => None,
        };
        let of_layers = match source {
            Some(chain) => Some(self.view(chain)?),
            None => None,
        };
        let main = match &of_layers {
            Some(view) => copy::Main { tree: view, trust: Trust::Fixed },
            None => copy::Main { tree: self.folder(&copy.from)?, trust: Trust::MayChange },
        };
        let selection = self.selection(step, copy, main.tree)?;
        let place = copy::Place { store: self.store, active, owners: self.on_disk.owners, control: self.control };
        let (index, warnings) = copy::copy(&selection, &main, below, owner, &place)?;
        for message in warnings {
            self.sink.emit(Event::Warning { message, line: None });
        }
        Ok(index)
    }

    /// Returns what was found to be selected by `step`, if it was looked at.
    pub fn selected(&self, step: &Step) -> Option<Arc<Selection>> {
        self.selections.lock().unwrap_or_else(PoisonError::into_inner).get(&step.id.0).cloned()
    }

    /// Returns the files of the folder that `from` means: none where the build has no context.
    pub fn folder(&self, from: &CopyFrom) -> Result<&dyn Tree, CopyError> {
        Ok(match self.inputs.folder(from)? {
            Some(context) => context,
            None => &Nothing,
        })
    }

    /// Returns what a COPY or ADD selects: looked at once.
    fn selection(&self, step: &Step, copy: &plan::Copy, tree: &dyn Tree) -> Result<Arc<Selection>, BuildError> {
        if let Some(known) = self.selected(step) {
            return Ok(known);
        }
        let mut fetched = Vec::new();
        for source in &copy.sources {
            if let (CopySource::Url(_) | CopySource::Git(_), Some(add)) = (source, &copy.add) {
                let remote = self.inputs.remote.ok_or(BuildError::Unbuilt { what: "ADD of what is elsewhere" })?;
                fetched.push(remote.fetch(source, add)?);
            }
        }
        let selection = Arc::new(copy::select(copy, tree, fetched)?);
        self.selections.lock().unwrap_or_else(PoisonError::into_inner).insert(step.id.0, Arc::clone(&selection));
        Ok(selection)
    }

    pub fn source_chain(&self, from: &CopyFrom) -> Result<Option<Chain>, BuildError> {
        match from {
            CopyFrom::Context | CopyFrom::Named(_) => Ok(None),
            CopyFrom::Stage(at) => self.wait_for(*at).map(|progress| Some(progress.chain)),
            CopyFrom::Image(name) => Ok(Some(Chain::of_image(self.image(name), self.store))),
        }
    }

    /// Returns as [`source_chain`](Self::source_chain), without waiting; `None` also where it is not known.
    pub fn known_source(&self, from: &CopyFrom) -> Option<Chain> {
        match from {
            CopyFrom::Stage(at) => self.done(*at).map(|progress| progress.chain),
            CopyFrom::Image(name) => self.bases.get(name).map(|image| Chain::of_image(image, self.store)),
            _ => None,
        }
    }

    pub fn look_up(&self, step: &Step, below: &Chain, depth: Depth) -> Result<Lookup, BuildError> {
        let definition = definition(&step.op);
        let mut keys = Vec::new();
        match &step.op {
            Op::Copy(copy) => {
                // What --link makes is the same on all layers.
                let alone = Chain::scratch();
                let below = if is_independent(copy) { &alone } else { below };
                match self.source_chain(&copy.from)? {
                    // A folder: what it holds.
                    None => {
                        let digest = self.selection(step, copy, self.folder(&copy.from)?)?.digest();
                        keys.push(step_key(below, &definition, &[("content", &digest)]));
                    }
                    // Layers: first by what they are called, for which no file need be looked at; then by what they hold, so
                    // that a stage that was built again with the same result is no change.
                    Some(source) => {
                        keys.push(step_key(below, &definition, &[("layers", &source.identity().0)]));
                        if depth == Depth::Full && !self.is_enough(step, &keys[0].to_string(), depth, &[&source]) {
                            let view = self.view(&source)?;
                            let digest = self.selection(step, copy, &view)?.digest();
                            keys.push(step_key(below, &definition, &[("content", &digest)]));
                        }
                    }
                }
            }
            Op::Run(run) => keys.extend(self.run_keys((step, run), below, &definition, depth)?),
            _ => keys.push(step_key(below, &definition, &[])),
        }
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        for (at, key) in keys.iter().enumerate() {
            if let Some(hit) = self.hit(step, key, depth) {
                for earlier in &keys[..at] {
                    self.store.remember(earlier, &hit)?;
                }
                self.journal.note(step.id, &keys, &hit);
                return Ok(Lookup::Hit(hit, key.clone()));
            }
        }
        Ok(Lookup::Miss(keys))
    }
}

/// Returns whether a COPY or ADD makes a layer that knows no other: with `--link`, but not with `--chmod` too, as in BuildKit.
pub(super) fn is_independent(copy: &plan::Copy) -> bool {
    copy.link && copy.chmod.is_none()
}

/// How far a look-up goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Reads no layers.
    Quick,
    /// Reads what it takes to be sure.
    Full,
}

pub(super) fn at_step(step: &Step, error: BuildError) -> BuildError {
    match error {
        error @ (BuildError::StageFailed { .. } | BuildError::Interrupted | BuildError::Step { .. }) => error,
        error => BuildError::Step { step: step.id, text: step.text.clone(), span: step.span, source: Box::new(error) },
    }
}
