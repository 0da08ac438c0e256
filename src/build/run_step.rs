//! RUN, as a step of a build: in which way it is run, and what the user hears of it.

use std::ffi::OsString;
use std::sync::atomic::Ordering;

use coracle_runtime::container::{self, ContainerSpec, Io, Place};

use crate::layer::Otherwise;
use crate::plan::{self, Op, Step};
use crate::progress::{Event, Stream};
use crate::store::{Active, Index, View};
use crate::tree::Entry;

use super::given::{Access, Around, HOSTNAME};
use super::mounts::{Mask, Masked, Mounts, Stacking};
use super::run::Ended;
use super::utf8::Utf8Stream;
use super::work::Work;
use super::worktree::{Cost, WorkTree};
use super::{BuildError, Command, in_place, run, warnings};

/// Where less than this is free on a disk, in bytes, it is full.
const FULL: u64 = 64 << 10;

/// What is around the steps of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepPlace {
    /// Namespaces, with layers stacked by the kernel where it can do that.
    Namespaces,
    /// A directory that is their root, and nothing else.
    Chroot,
}

impl StepPlace {
    /// Returns what is around a step that works on `tree`.
    pub fn of(self, tree: &WorkTree) -> Place {
        match self {
            StepPlace::Namespaces => Place::Namespaces,
            StepPlace::Chroot => Place::Chroot { mark: tree.place().mark() },
        }
    }
}

impl Work<'_> {
    /// Runs `command` on the files of `below`. Returns the index of the layer, whose files are in `active`.
    pub fn run(
        &self,
        step: &Step,
        run: &plan::Run,
        below: &View,
        active: &mut Active,
        tree: &mut Option<WorkTree>,
    ) -> Result<Index, BuildError> {
        let words = |list: &[String]| list.iter().map(OsString::from).collect::<Vec<_>>();
        let mut env = words(&run.env);
        run::set(&mut env, &words(&run.uncached_env));
        let command = Command {
            args: words(&run.args),
            env,
            cwd: run.cwd.clone(),
            user: run.user.clone(),
            limits: self.options.limits.clone(),
            around: Around { network: self.access(run), hostname: run.hostname.clone(), ..self.options.around.clone() },
        };
        if self.place == StepPlace::Namespaces && self.no_overlay.get().is_none() {
            let mounts = self.mounts(run, active, Stacking::Works)?;
            let spec = run::container(&command, below, active, self.on_disk.owners, &self.stubs, &mounts)?;
            let spec = self.checked(spec, below)?;
            match self.execute(step, &spec, &mounts.mask, active) {
                Ok(Ended { finished, problem }) => {
                    self.warn(mounts.keep_owners(&finished));
                    let owners = self.on_disk.owners;
                    let changes = || run::changes(&active.upper(), below, owners, &finished.special).map(Index::new);
                    return match problem {
                        None => Ok(changes()?),
                        Some(problem) => {
                            if problem.is_of_command() && self.keeps_failed() {
                                self.show_files(changes()?, below, active);
                            }
                            Err(problem)
                        }
                    };
                }
                Err(error) => match in_place::cannot_stack(&error) {
                    Some(reason) => drop(self.no_overlay.set(reason.clone())),
                    None => return Err(error),
                },
            }
            *active = self.store.prepare()?;
        }
        let mounts = self.mounts(run, active, Stacking::Fails)?;
        let entries = self.run_in_place(step, (&command, &mounts), below, active, tree);
        if entries.is_err() {
            *tree = None;
        }
        Ok(Index::new(entries?))
    }

    /// Returns `spec`, if that can be run here as it is everywhere.
    fn checked(&self, spec: ContainerSpec, below: &View) -> Result<ContainerSpec, BuildError> {
        let devices = self.lookout.check(&self.on_disk, &spec, below, self.store)?;
        Ok(ContainerSpec { devices, ..spec })
    }

    fn run_in_place(
        &self,
        step: &Step,
        (command, mounts): (&Command, &Mounts),
        below: &View,
        active: &Active,
        tree: &mut Option<WorkTree>,
    ) -> Result<Vec<Entry>, BuildError> {
        if !tree.as_ref().is_some_and(|tree| tree.is_below(below)) {
            *tree = None;
        }
        let owners = self.on_disk.owners;
        let tree = match tree {
            Some(tree) => tree,
            None => tree.insert(WorkTree::new(self.store, owners)?),
        };
        let cost = tree.bring(below, self.control)?;
        self.tell_cost(cost);
        let place = self.place.of(tree);
        let prepared = in_place::prepare(command, below, tree, active, owners, place, mounts)?;
        let spec = self.checked(prepared.spec.clone(), below)?;
        let execute = |_: &ContainerSpec| self.execute(step, &spec, &mounts.mask, active);
        let (entries, ended) = prepared.during(tree, below, active, owners, execute)?;
        self.warn(mounts.keep_owners(&ended.finished));
        self.tell_otherwise(tree);
        match ended.problem {
            None => Ok(entries),
            Some(problem) => {
                if problem.is_of_command() {
                    self.show_files(Index::new(entries), below, active);
                }
                Err(problem)
            }
        }
    }

    /// Returns which network the step `run` has.
    pub fn access(&self, run: &plan::Run) -> Access {
        match run.network {
            plan::Network::Default => self.options.around.network,
            plan::Network::None => Access::None,
            plan::Network::Host => Access::Host,
        }
    }

    /// Says once what it costs that steps work on copies.
    fn tell_cost(&self, cost: Cost) {
        if self.told_cost.swap(true, Ordering::Relaxed) {
            return;
        }
        let why = match self.no_overlay.get() {
            Some(error) => {
                let cause = error.errno().map_or_else(String::new, |errno| format!(": {errno}"));
                format!("layers cannot be stacked here ({error}{cause})")
            }
            None => "layers cannot be stacked without namespaces".into(),
        };
        let message = format!(
            "{why}, so each stage with a RUN works on a copy of its files: {} in {:.1} s for this one",
            size(cost.bytes),
            cost.took.as_secs_f64()
        );
        self.sink.emit(Event::Warning { message, line: None });
    }

    /// Says what the step could do that it can not elsewhere: nobody knows what it would have done instead.
    fn tell_otherwise(&self, tree: &WorkTree) {
        let (names, others): (Vec<_>, Vec<_>) =
            tree.otherwise().iter().partition(|what| matches!(what, Otherwise::Names(_)));
        // One step may do it to all links of a folder.
        let more = names.len().saturating_sub(1);
        for what in others.into_iter().chain(names.into_iter().take(1)) {
            let message = match what {
                Otherwise::Names(path) => format!(
                    "/{path}{} is a file that had several names in the layers below: where layers can be stacked, the new names that \
                     the step gave it may be files of their own, and its changes may be in other names of it",
                    if more > 0 { format!(" (and {more} more like it)") } else { String::new() }
                ),
                Otherwise::Renamed(path) => format!(
                    "the step renamed the folder /{path} of the layers below, which is refused (EXDEV) where layers can be \
                     stacked: there it may make another layer"
                ),
                Otherwise::Shared(path) => format!(
                    "the step wrote to /{path}, whose other names showed that until its end, and do not where layers can be \
                     stacked: if it looked at them, it may make another layer there"
                ),
            };
            self.sink.emit(Event::Warning { message, line: None });
        }
    }

    /// Runs the command of a step and shows what it writes.
    fn execute(&self, step: &Step, spec: &ContainerSpec, mask: &Mask, active: &Active) -> Result<Ended, BuildError> {
        let mut texts = [Utf8Stream::default(), Utf8Stream::default()];
        let mut masked = [Masked::new(mask), Masked::new(mask)];
        let mut on_output = |stream: container::Stream, bytes: &[u8]| {
            let (stream, at) = match stream {
                container::Stream::Stdout => (Stream::Stdout, 0),
                container::Stream::Stderr => (Stream::Stderr, 1),
            };
            let text = texts[at].push(&masked[at].push(bytes));
            if !text.is_empty() {
                self.sink.emit(Event::Output { step: step.id, stream, text });
            }
        };
        let io = Io::Capture { on_output: &mut on_output, following: self.runs_after(step) };
        let ran = run::run(spec, io, self.control, &|report| self.warn_once(report));
        for ((stream, text), masked) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&mut texts).zip(&mut masked) {
            let text = text.push(&masked.finish()) + &text.finish();
            if !text.is_empty() {
                self.sink.emit(Event::Output { step: step.id, stream, text });
            }
        }
        let mut ended = ran?;
        // The key of the step says that it had that name.
        if ended.finished.report.hostname_kept && spec.hostname != HOSTNAME {
            return Err(BuildError::NoOwnHostname);
        }
        ended.problem = ended.problem.map(|error| self.or_disk_full(error));
        if ended.problem.as_ref().is_some_and(BuildError::is_of_command) {
            self.open_shell(spec, active)?;
        }
        Ok(ended)
    }

    /// Returns how many later steps of the same stage run a command.
    fn runs_after(&self, step: &Step) -> usize {
        self.after(step).iter().filter(|step| matches!(step.op, Op::Run(_))).count()
    }

    /// Returns how many later steps of the same stage have layers.
    pub fn layers_after(&self, step: &Step) -> usize {
        self.after(step).iter().filter(|step| step.op != Op::Config).count()
    }

    /// Returns the later steps of the same stage.
    fn after(&self, step: &Step) -> &[Step] {
        let later = self.plan.stages.iter().find_map(|stage| {
            let at = stage.steps.iter().position(|other| other.id == step.id)?;
            Some(&stage.steps[at + 1..])
        });
        later.unwrap_or_default()
    }

    /// A command that ran out of space says so in its own words, if at all.
    fn or_disk_full(&self, error: BuildError) -> BuildError {
        let free = rustix::fs::statvfs(self.store.root()).map_or(u64::MAX, |fs| fs.f_bavail * fs.f_frsize);
        match error {
            BuildError::ExitStatus { code } if free < FULL => {
                BuildError::DiskFull { code, store: self.store.root().to_path_buf() }
            }
            other => other,
        }
    }

    fn warn_once(&self, report: &container::Report) {
        let messages = warnings::of_report(report);
        if !messages.is_empty() && !self.warned.swap(true, Ordering::Relaxed) {
            self.warn(messages);
        }
    }

    fn warn(&self, messages: Vec<String>) {
        for message in messages {
            self.sink.emit(Event::Warning { message, line: None });
        }
    }
}

/// Returns a number of bytes as a person says it.
fn size(bytes: u64) -> String {
    if bytes < 1_000_000 { format!("{} kB", bytes / 1000) } else { format!("{} MB", bytes / 1_000_000) }
}
