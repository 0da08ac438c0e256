use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use coracle_runtime::container::{ContainerSpec, Control, Io};
use coracle_runtime::probe::{self, Choice, Mode, Rung, Wanted};
use coracle_runtime::{IdMaps, Lacking, MapKind, RuntimeError, userns};

use crate::layer::Compression;
use crate::plan::{MountKind, Op, Plan, Step};
use crate::progress::{Event, Sink};
use crate::store::{Arrivals, Image, Packed, RemoteSteps, Store, View};
use crate::tree::Owners;

use super::chain::Chain;
use super::execute::execute;
use super::failure::OnFailure;
use super::given::{Access, Volume};
use super::journal::{Journal, Made};
use super::lacking::{self, Lookout};
use super::mounts::Mounts;
use super::replay::{Replayed, replay};
use super::run_step::StepPlace;
use super::running::Running;
use super::ship::Ship;
use super::stubs::Stubs;
use super::unpack::OnDisk;
use super::work::{StageState, Work, at_step};
use super::worktree::WorkTree;
use super::{BuildError, BuildOptions, Command, Inputs, Squash, Times, assemble, in_place, run};

/// Builds images: all that the builds of one process share.
pub struct Builder<'a> {
    /// Where everything is kept.
    pub store: &'a Store,
    /// Who hears of what happens.
    pub sink: &'a dyn Sink,
    /// Stops steps from another thread.
    pub control: &'a Control,
    /// How RUN steps are isolated: found out when something must be done.
    pub isolation: Isolation,
    /// Results of steps that lie elsewhere, where there are any.
    pub remote: Option<&'a dyn RemoteSteps>,
    /// Hears of each step whose result is known.
    pub journal: Arc<Journal>,
    /// Called once, when this process has entered what it works in: afterwards it may start threads of its own.
    pub on_enter: &'a dyn Fn(),
    /// What is done when the command of a RUN step fails.
    pub on_failure: OnFailure<'a>,
    /// Where layers go while later steps still run.
    pub ship: Option<Ship<'a>>,
}

/// Whether and how this process isolates what it runs.
#[derive(Debug)]
pub enum Isolation {
    /// Not known yet: the best of these that works. What is in the cache can be built without knowing.
    Undecided(Wanted),
    /// In this way, which was tried.
    Decided(Choice),
    /// In this way, and this process is in it already.
    Entered(Mode),
}

/// What a build made for one platform.
#[derive(Debug)]
pub struct Built {
    /// The image in the store; it has no name yet.
    pub image: Image,
    /// Whether every step came from the cache.
    pub cached: bool,
    chain: Chain,
    base_layers: usize,
}

impl Built {
    /// Returns how many layers of the image are those of its base.
    pub fn base_layers(&self) -> usize {
        self.base_layers
    }

    fn new(image: Image, cached: bool, chain: Chain, squash: Squash) -> Self {
        let of_base = || chain.links().iter().filter(|link| link.origin.is_some()).count();
        let base_layers = squash.below(&chain).unwrap_or_else(of_base);
        Built { image, cached, chain, base_layers }
    }
}

impl std::fmt::Debug for Builder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("store", &self.store)
            .field("isolation", &self.isolation)
            .finish_non_exhaustive()
    }
}

impl Builder<'_> {
    pub(super) fn place(&self) -> StepPlace {
        match self.mode() {
            Some(Mode::Chroot { .. }) => StepPlace::Chroot,
            _ => StepPlace::Namespaces,
        }
    }

    pub(super) fn on_disk(&self) -> OnDisk {
        let mut on_disk = self.on_disk_of_mode();
        // Nobody must stack layers whose whiteouts are in their indexes only.
        if on_disk.owners != Owners::Caller && !self.store.has_whiteouts() {
            on_disk.realm.push_str("-bare");
        }
        on_disk
    }

    fn on_disk_of_mode(&self) -> OnDisk {
        match &self.isolation {
            Isolation::Decided(Choice { mode, .. }) | Isolation::Entered(mode) => on_disk(mode),
            // What is there in other realms does not count before it is known that they are not the one.
            Isolation::Undecided(Wanted::Any | Wanted::UserNamespace) => {
                on_disk(&Mode::UserNamespace(IdMaps::discover().unwrap_or_else(|_| IdMaps::single())))
            }
            Isolation::Undecided(Wanted::OneId | Wanted::OneIdFirst { .. }) => {
                on_disk(&Mode::UserNamespace(IdMaps::single()))
            }
            Isolation::Undecided(Wanted::Chroot | Wanted::ChrootFirst) => on_disk(&Mode::Chroot { emulated: true }),
            Isolation::Undecided(Wanted::Nothing) => on_disk(&Mode::None(RuntimeError::NotWanted)),
        }
    }

    /// Finds out how steps can be run, if that is not known yet. No other thread may run.
    fn decide(&mut self) -> &Mode {
        if let Isolation::Undecided(wanted) = self.isolation {
            self.isolation = Isolation::Decided(probe::choose(&self.store.tmp(), wanted));
        }
        self.mode().expect("it was just decided")
    }

    /// Returns how steps are run, if that is known.
    fn mode(&self) -> Option<&Mode> {
        match &self.isolation {
            Isolation::Undecided(_) => None,
            Isolation::Decided(choice) => Some(&choice.mode),
            Isolation::Entered(mode) => Some(mode),
        }
    }

    /// Makes this process what its mode wants: root of its user namespace, if there is one; and says which it is. No other thread may
    /// run, if it was not called before.
    ///
    /// # Errors
    /// [`BuildError::Runtime`] where the environment does not allow it after all.
    pub fn enter(&mut self) -> Result<(), BuildError> {
        self.decide();
        let Isolation::Decided(choice) = &self.isolation else { return Ok(()) };
        let (mode, line) = (choice.mode.clone(), described(choice));
        if let Mode::UserNamespace(maps) = &mode {
            match &choice.tried {
                Some(tried) => userns::enter_tried(tried, maps)?,
                None => userns::enter(maps)?,
            }
        }
        self.sink.emit(Event::Isolation { mode: line });
        self.isolation = Isolation::Entered(mode);
        (self.on_enter)();
        // What killed builds left behind can be removed only from in here.
        self.store.clean();
        Ok(())
    }

    /// Has owners emulated from the start where `plan` on `bases` shows that a full map of ids would not do. To be called as soon as
    /// they are known; a build that finds it out later begins again.
    pub fn foresee(&mut self, plan: &Plan, bases: &BTreeMap<String, Image>) {
        let could_be_full = match &self.isolation {
            Isolation::Undecided(wanted) => matches!(wanted, Wanted::Any | Wanted::UserNamespace),
            Isolation::Decided(_) | Isolation::Entered(_) => true,
        };
        let on_disk = self.on_disk();
        let Some(maps) = on_disk.maps.as_ref().filter(|_| could_be_full) else { return };
        let lacking = lacking::of_plan(plan, maps).or_else(|| lacking::of_bases(self.store, bases, &on_disk, maps));
        if let Some(lacking) = lacking {
            self.emulate(lacking);
        }
    }

    /// Has owners emulated from now on, because of what a full map of ids has not got; returns whether there was one.
    fn emulate(&mut self, lacking: Lacking) -> bool {
        let is_full = |mode: &Mode| matches!(mode, Mode::UserNamespace(maps) if maps.kind() != MapKind::Single);
        match &self.isolation {
            Isolation::Undecided(wanted @ (Wanted::Any | Wanted::UserNamespace)) => {
                let or_chroot = *wanted == Wanted::Any;
                self.isolation = Isolation::Undecided(Wanted::OneIdFirst { lacking, or_chroot });
            }
            Isolation::Decided(choice) if is_full(&choice.mode) => {
                self.isolation = Isolation::Undecided(Wanted::OneIdFirst { lacking, or_chroot: false });
            }
            // A namespace cannot be left. Emulated owners need none of its own: root of this one has all that root of one id has.
            Isolation::Entered(mode) if is_full(mode) && lacking::can_emulate(self.store) => {
                let mode = Mode::UserNamespace(IdMaps::single());
                self.sink.emit(Event::Isolation { mode: format!("{mode} (no {}: {lacking})", Rung::FullMap) });
                self.isolation = Isolation::Entered(mode);
            }
            _ => return false,
        }
        true
    }

    /// Returns why no step can be run; `None` where one can.
    fn obstacle(&self) -> Option<RuntimeError> {
        self.mode().and_then(obstacle)
    }

    /// Carries out `plan` and returns the image of each target. `bases` are the images that the plan names, `inputs` all else that
    /// it reads.
    ///
    /// # Errors
    /// [`BuildError`]. What was done by then stays in the cache.
    pub fn build(
        &mut self,
        plan: &Plan,
        bases: &BTreeMap<String, Image>,
        inputs: &Inputs<'_>,
        options: &BuildOptions,
    ) -> Result<Vec<Built>, BuildError> {
        self.foresee(plan, bases);
        let mut result = self.carry_out(plan, bases, inputs, options);
        while let Err(error) = &result
            && let Some(lacking) = error.lacking()
            && self.emulate(lacking)
        {
            result = self.carry_out(plan, bases, inputs, options);
        }
        let settled = self.store.settle();
        let built = result?;
        settled?;
        Ok(built)
    }

    fn carry_out(
        &mut self,
        plan: &Plan,
        bases: &BTreeMap<String, Image>,
        inputs: &Inputs<'_>,
        options: &BuildOptions,
    ) -> Result<Vec<Built>, BuildError> {
        let begun = Begin { store: self.store, sink: self.sink, control: self.control };
        let mut work = begun.work((self.on_disk(), self.place()), plan, bases, inputs, options);
        work.remote = self.remote;
        work.journal = Arc::clone(&self.journal);
        work.on_failure = self.on_failure;
        work.ship = self.ship;
        let mut replayed = replay(&work)?;
        if let Some(images) = replayed.images(&work)? {
            return Ok(images);
        }
        self.decide();
        work.place = self.place();
        // The files of two ways may be the same, and what can be done with them is not.
        let seemed = std::mem::replace(&mut work.on_disk, self.on_disk());
        if seemed.realm != work.on_disk.realm {
            // Other files are there than it seemed.
            replayed = replay(&work)?;
            if let Some(images) = replayed.images(&work)? {
                return Ok(images);
            }
        }
        if let Replayed::All(targets) = &replayed
            && !targets.iter().all(|progress| work.bring_layers(progress))
        {
            // A cache elsewhere promised a layer that cannot be had: by now it knows that itself.
            replayed = replay(&work)?;
        }
        if let Replayed::Missing { runs, foreign } = &replayed {
            self.check_runs(&work, runs)?;
            if let Some((step, platform)) = foreign {
                return Err(at_step(step, BuildError::ForeignPlatform { platform: (*platform).clone() }));
            }
        }
        self.enter()?;
        let (targets, cached) = match replayed {
            Replayed::All(targets) => {
                work.all_cached();
                (targets, true)
            }
            Replayed::Missing { .. } => (execute(&work)?, false),
        };
        let mut built = Vec::with_capacity(targets.len());
        for (target, progress) in plan.targets().zip(targets) {
            let image = work.unless_interrupted(assemble::image(&work, target, &progress))?;
            built.push(Built::new(image, cached, progress.chain, options.making.squash));
        }
        self.store.sync()?;
        work.unless_interrupted(Ok(()))?;
        Ok(built)
    }

    /// Refuses, before anything is done, what no way to run a step can do here. `runs` are the steps that would be run, in the order of
    /// the Dockerfile.
    fn check_runs(&self, work: &Work<'_>, runs: &[&Step]) -> Result<(), BuildError> {
        if let (Some(step), Some(source)) = (runs.first(), self.obstacle()) {
            return Err(at_step(step, BuildError::CannotRun { source }));
        }
        for step in runs {
            let Op::Run(run) = &step.op else { continue };
            work.check_given(run).map_err(|error| at_step(step, error))?;
            if self.place() != StepPlace::Chroot {
                continue;
            }
            if work.access(run) == Access::None {
                return Err(at_step(step, BuildError::NoOwnNetwork));
            }
            if !work.options.around.volumes.is_empty() {
                return Err(at_step(step, BuildError::NoVolumes));
            }
            if run.hostname.is_some() {
                return Err(at_step(step, BuildError::NoOwnHostname));
            }
            if run.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Cache { .. })) {
                work.check_cache_disk().map_err(|error| at_step(step, error))?;
            }
        }
        Ok(())
    }

    /// Returns the files of the image `built`, all of them on disk.
    ///
    /// # Errors
    /// [`BuildError`] where they have to be unpacked, and cannot be.
    pub fn files(&mut self, built: &Built) -> Result<View, BuildError> {
        self.enter()?;
        let on_disk = self.on_disk();
        let is_here = |id| self.store.has_snapshot(&on_disk.realm, id) || self.store.packed_any(id).is_some();
        for link in built.chain.links().iter().filter(|link| link.origin.is_none() && !is_here(&link.id)) {
            // It was to stay elsewhere. Where it cannot be had, the view says so.
            let _ = self.remote.map(|remote| remote.bring_blob(&link.id));
        }
        super::unpack::view(self.store, &on_disk, built.chain.links(), self.control)
    }

    /// Returns the blob that holds the layer of `made` just as it is, made here or brought from one of the caches `from`, and the name of
    /// the way in which it is packed; packs it where there is none. `None` where its files are not here either.
    ///
    /// # Errors
    /// [`BuildError`] where it cannot be packed.
    pub fn packed(
        &mut self,
        made: &Made,
        compression: Compression,
        from: &[String],
    ) -> Result<Option<(String, Packed)>, BuildError> {
        let layer = &made.step.layer;
        if let Some(known) = self.store.packed_as_it_is(layer, from) {
            return Ok(Some(known));
        }
        self.enter()?;
        let Some(layer) = self.store.layer(&self.on_disk().realm, layer)? else { return Ok(None) };
        // A control of its own: that of a build which failed stops everything.
        super::pack::pack(self.store, &layer, compression, Times::Keep, &Control::new())?;
        self.store.settle()?;
        Ok(self.store.packed_as_it_is(&layer.id, from))
    }

    /// Unpacks the layers of `image`, so that the first build on it need not. Where no step can be run, that is left to the build:
    /// it may never need them.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn unpack(&mut self, image: &Image) -> Result<(), BuildError> {
        if let Mode::None(_) = self.decide() {
            return Ok(());
        }
        self.enter()?;
        let links = Chain::of_image(image, self.store);
        let mut unpacked = super::unpack::view(self.store, &self.on_disk(), links.links(), self.control);
        if let Err(error) = &unpacked
            && let Some(lacking) = error.lacking()
            && self.emulate(lacking)
        {
            unpacked = super::unpack::view(self.store, &self.on_disk(), links.links(), self.control);
        }
        if self.control.cancelled() {
            return Err(BuildError::Interrupted);
        }
        unpacked?;
        Ok(self.store.sync()?)
    }

    /// Returns what `fetch` returns, which brings the layers of `images` into the store and tells `arrivals` of them; they are unpacked
    /// while they come. What cannot be unpacked now, here or at all, is left to who needs it, and to [`unpack`](Self::unpack).
    ///
    /// No other thread may run, if this builder has not entered what it works in before.
    pub fn unpack_while<R>(&mut self, images: &[Image], arrivals: &Arrivals, fetch: impl FnOnce() -> R) -> R {
        if matches!(self.decide(), Mode::None(_)) || self.enter().is_err() {
            return fetch();
        }
        let chains: Vec<Chain> = images.iter().map(|image| Chain::of_image(image, self.store)).collect();
        super::unpack::while_fetched(self.store, &self.on_disk(), &chains, arrivals, self.control, fetch)
    }

    /// Runs `command` in a container of `image`, whose changes are dropped in the end. Input and output are those of this process;
    /// returns how the command ended. Limits that no control group keeps are a warning, and out of memory is one too.
    ///
    /// # Errors
    /// [`BuildError`] where the container cannot be made.
    pub fn run(
        &mut self,
        image: &Image,
        command: &Command,
        volumes: &[Volume],
    ) -> Result<coracle_runtime::container::Exit, BuildError> {
        match self.run_once(image, command, volumes) {
            // It has not begun.
            Err(error) if error.lacking().is_some_and(|lacking| self.emulate(lacking)) => {
                self.run_once(image, command, volumes)
            }
            result => result,
        }
    }

    fn run_once(
        &mut self,
        image: &Image,
        command: &Command,
        volumes: &[Volume],
    ) -> Result<coracle_runtime::container::Exit, BuildError> {
        self.decide();
        if let Some(source) = self.obstacle() {
            return Err(BuildError::CannotRun { source });
        }
        if self.place() == StepPlace::Chroot && command.around.network == Access::None {
            return Err(BuildError::NoOwnNetwork);
        }
        if self.place() == StepPlace::Chroot && !volumes.is_empty() {
            return Err(BuildError::NoVolumes);
        }
        self.enter()?;
        let on_disk = self.on_disk();
        let view = super::unpack::view(self.store, &on_disk, Chain::of_image(image, self.store).links(), self.control)?;
        let active = self.store.prepare()?;
        let mounts = Mounts::of_volumes(volumes)?;
        let attached = |mut spec: ContainerSpec| {
            spec.stdin = coracle_runtime::container::Stdin::Inherit;
            spec.new_session = false;
            let finished = coracle_runtime::container::run(&spec, Io::Inherit, self.control)?;
            let warn = |message| self.sink.emit(Event::Warning { message, line: None });
            super::warnings::of_limits(&finished.report.limits).into_iter().for_each(warn);
            if finished.out_of_memory {
                warn("a process was killed because the memory limit was reached".into());
            }
            Ok(finished.exit)
        };
        if self.place() == StepPlace::Namespaces {
            // Its layer is there as long as the container.
            let stubs = Stubs::new(self.store);
            let spec = run::container(command, &view, &active, on_disk.owners, &stubs, &mounts)?;
            Lookout::default().check(&on_disk, &spec, &view, self.store)?;
            match attached(spec) {
                Err(error) if in_place::cannot_stack(&error).is_some() => {}
                result => return result,
            }
        }
        let active = self.store.prepare()?;
        let mut tree = WorkTree::new(self.store, on_disk.owners)?;
        tree.bring(&view, self.control)?;
        let place = self.place().of(&tree);
        attached(in_place::prepare(command, &view, &mut tree, &active, on_disk.owners, place, &mounts)?.spec)
    }
}

/// What a build begins with.
pub(super) struct Begin<'a> {
    pub store: &'a Store,
    pub sink: &'a dyn Sink,
    pub control: &'a Control,
}

impl<'a> Begin<'a> {
    /// Returns a build of `plan` that has not begun; `place` says how files lie on disk, and what is around the steps.
    pub fn work(
        self,
        place: (OnDisk, StepPlace),
        plan: &'a Plan,
        bases: &'a BTreeMap<String, Image>,
        inputs: &'a Inputs<'a>,
        options: &'a BuildOptions,
    ) -> Work<'a> {
        Work {
            store: self.store,
            plan,
            bases,
            inputs,
            options,
            sink: self.sink,
            control: self.control,
            on_disk: place.0,
            stages: (Mutex::new(vec![StageState::Running; plan.stages.len()]), Condvar::new()),
            selections: Mutex::new(HashMap::new()),
            gathered: Mutex::new(HashMap::new()),
            on_failure: OnFailure::Nothing,
            ship: None,
            running: Running::default(),
            place: place.1,
            no_overlay: OnceLock::new(),
            begins_anew: AtomicBool::new(false),
            lookout: Lookout::default(),
            told_cost: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            unpacking: Mutex::new(()),
            stubs: Stubs::new(self.store),
            remote: None,
            journal: Arc::default(),
        }
    }
}

/// Returns how files lie on disk in `mode`.
fn on_disk(mode: &Mode) -> OnDisk {
    match mode {
        Mode::UserNamespace(maps) => {
            let owners = if maps.kind() == MapKind::Single { Owners::Emulated } else { Owners::Native };
            OnDisk { realm: maps.realm(), owners, maps: Some(maps.clone()).filter(|_| owners == Owners::Native) }
        }
        // Owners on disk are those of the image, as where every id maps to itself.
        Mode::Chroot { emulated: false } => OnDisk { realm: "direct".into(), owners: Owners::Native, maps: None },
        Mode::Chroot { emulated: true } => on_disk(&Mode::UserNamespace(IdMaps::single())),
        Mode::None(_) => OnDisk { realm: "caller".into(), owners: Owners::Caller, maps: None },
    }
}

/// Returns the line that names the mode, and what keeps from a better one.
fn described(choice: &Choice) -> String {
    let mode = &choice.mode;
    match choice.obstacle() {
        Some((rung, RuntimeError::Lacking(lacking))) => format!("{mode} (no {rung}: {lacking})"),
        Some((rung, error)) => {
            let source = error.errno().map(|errno| format!(": {errno}")).unwrap_or_default();
            format!("{mode} (no {rung}: {error}{source})")
        }
        None => mode.to_string(),
    }
}

/// Returns why no step can be run in `mode`; `None` where one can.
pub fn obstacle(mode: &Mode) -> Option<RuntimeError> {
    match mode {
        Mode::UserNamespace(_) | Mode::Chroot { .. } => None,
        Mode::None(error) => Some(error.clone()),
    }
}

impl Replayed<'_> {
    /// Returns the images if all can be put together from blobs.
    fn images(&self, work: &Work<'_>) -> Result<Option<Vec<Built>>, BuildError> {
        let Replayed::All(targets) = self else { return Ok(None) };
        let mut built = Vec::with_capacity(targets.len());
        for (target, progress) in work.plan.targets().zip(targets) {
            let Some(image) = assemble::from_blobs(work, target, progress)? else { return Ok(None) };
            built.push(Built::new(image, true, progress.chain.clone(), work.options.making.squash));
        }
        work.all_cached();
        Ok(Some(built))
    }
}
