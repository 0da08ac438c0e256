//! What a full map of ids has not got: a look ahead, and what becomes of a build that runs into it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, OnceLock, PoisonError};

use coracle_runtime::container::{ContainerSpec, Devices};
use coracle_runtime::{IdMaps, Lacking, RuntimeError, probe};

use crate::layer::LayerError;
use crate::plan::{self, MountKind, Op, Plan};
use crate::store::{Image, Index, LayerId, Store, View};
use crate::tree::{Entry, Kind, TreePath};

use super::chain::Chain;
use super::unpack::OnDisk;
use super::{BuildError, CopyError};

/// Words of a RUN beside which a number may be an id.
const ABOUT_IDS: [&str; 9] =
    ["chown", "useradd", "adduser", "usermod", "groupadd", "addgroup", "groupmod", "setpriv", "lchown"];
/// Words of a RUN that makes devices.
const ABOUT_DEVICES: [&str; 4] = ["MAKEDEV", "debootstrap", "cdebootstrap", "mmdebstrap"];

/// Returns what `plan` wants and `maps` have not got, as far as that is written in it. What a script does is guessed: a guess that is
/// wrong costs some time, and changes no image.
pub(super) fn of_plan(plan: &Plan, maps: &IdMaps) -> Option<Lacking> {
    let is_outside = |id: &u32| !maps.has(*id);
    plan.stages.iter().flat_map(|stage| &stage.steps).find_map(|step| match &step.op {
        Op::Workdir { user, .. } => numbers_of(user).find(is_outside).map(Lacking::Id),
        Op::Copy(copy) => numbers_of(copy.chown.as_deref().unwrap_or_default()).find(is_outside).map(Lacking::Id),
        Op::Run(run) => of_run(run, maps),
        Op::Config => None,
    })
}

fn of_run(run: &plan::Run, maps: &IdMaps) -> Option<Lacking> {
    let of_mounts = run.mounts.iter().flat_map(|mount| match mount.kind {
        MountKind::Cache { uid, gid, .. } | MountKind::Secret { uid, gid, .. } | MountKind::Ssh { uid, gid, .. } => {
            vec![uid, gid]
        }
        MountKind::Bind { .. } | MountKind::Tmpfs { .. } => vec![],
    });
    let mut said = numbers_of(&run.user).chain(of_mounts);
    if let Some(id) = said.find(|id| !maps.has(*id)) {
        return Some(Lacking::Id(id));
    }
    let texts = run.args.iter().chain(run.script.iter().map(|script| &script.text));
    texts.into_iter().find_map(|text| of_text(text, maps))
}

/// Looks for ids and devices in the text of a script.
fn of_text(text: &str, maps: &IdMaps) -> Option<Lacking> {
    let has_word = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has_word(&ABOUT_IDS) {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        // The last two are no ids.
        let outside = words.filter_map(|word| word.parse().ok()).find(|id| *id < u32::MAX - 1 && !maps.has(*id));
        if let Some(id) = outside {
            return Some(Lacking::Id(id));
        }
    }
    let makes_node = |part: &str| {
        let words: Vec<&str> = part.split_whitespace().collect();
        let is_number = |word: &str| word.starts_with(|letter: char| letter.is_ascii_digit() || letter == '$');
        words.windows(2).any(|pair| matches!(pair[0], "c" | "b" | "u") && is_number(pair[1]))
    };
    let makes_devices = has_word(&ABOUT_DEVICES) || text.split("mknod").skip(1).any(makes_node);
    makes_devices.then_some(Lacking::Devices)
}

/// The numbers of `user:group`.
fn numbers_of(owner: &str) -> impl Iterator<Item = u32> + '_ {
    owner.split(':').filter_map(|part| part.parse().ok())
}

/// Returns what images want whose layers are known, and are not on disk as a full map has them: that was tried in vain, maybe.
pub(super) fn of_bases(
    store: &Store,
    bases: &BTreeMap<String, Image>,
    on_disk: &OnDisk,
    maps: &IdMaps,
) -> Option<Lacking> {
    bases.values().find_map(|image| {
        let chain = Chain::of_image(image, store);
        let elsewhere = chain.links().iter().filter(|link| !store.has_snapshot(&on_disk.realm, &link.id));
        let mut known = elsewhere.filter_map(|link| store.index(&link.id).ok().flatten());
        known.find_map(|index| outside(&index, maps))
    })
}

/// Returns an id of `index` that is not in `maps`.
fn outside(index: &Index, maps: &IdMaps) -> Option<Lacking> {
    let mut ids = index.entries().iter().flat_map(|entry| [entry.meta.uid, entry.meta.gid]);
    ids.find(|id| *id != u32::MAX && !maps.has(*id)).map(Lacking::Id)
}

/// Returns whether ids and devices can be emulated where this process is.
pub(super) fn can_emulate(store: &Store) -> bool {
    probe::emulation(&store.tmp()).is_ok()
}

/// Looks before each RUN whether a full map of ids will do, and knows what it has seen.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// Layers without devices that a step would see.
    without: Mutex<HashSet<LayerId>>,
    can_emulate: OnceLock<bool>,
}

impl Lookout {
    /// Returns whether ids and devices can be emulated where this process is, which it found out once.
    pub fn can_emulate(&self, store: &Store) -> bool {
        *self.can_emulate.get_or_init(|| can_emulate(store))
    }

    /// Refuses what a step on `view` cannot be given, and could be with emulated owners. Returns what becomes of the devices that
    /// it makes. Where nothing can be emulated, files stand for devices as well as they can; who runs the step says so.
    pub fn check(
        &self,
        on_disk: &OnDisk,
        spec: &ContainerSpec,
        view: &View,
        store: &Store,
    ) -> Result<Devices, BuildError> {
        let Some(maps) = &on_disk.maps else { return Ok(Devices::StandIn) };
        let mut ids = [spec.uid, spec.gid].into_iter().chain(spec.groups.iter().copied());
        if let Some(id) = ids.find(|id| !maps.has(*id)) {
            return Err(RuntimeError::Lacking(Lacking::Id(id)).into());
        }
        match self.shows_devices(view) {
            false => Ok(Devices::End),
            true if self.can_emulate(store) => Err(RuntimeError::Lacking(Lacking::Devices).into()),
            true => Ok(Devices::StandIn),
        }
    }

    /// Returns whether a step would see a device of `view` that is none for it: what is below /dev is covered.
    fn shows_devices(&self, view: &View) -> bool {
        let dev = TreePath::new("dev").expect("a constant name");
        let mut without = self.without.lock().unwrap_or_else(PoisonError::into_inner);
        let mut layers = view.layers().iter();
        layers.any(|layer| {
            if without.contains(&layer.id) {
                return false;
            }
            let is_device = |entry: &&Entry| matches!(entry.kind, Kind::Char { .. } | Kind::Block { .. });
            let entries = layer.index.entries().iter();
            let mut devices = entries.filter(is_device).filter(|entry| !entry.path.starts_with(&dev)).peekable();
            if devices.peek().is_none() {
                without.insert(layer.id);
            }
            devices.any(|device| view.entry(&device.path) == Some(device))
        })
    }
}

impl BuildError {
    /// Returns what was lacking, where that is a thing that emulated owners have.
    pub(super) fn lacking(&self) -> Option<Lacking> {
        match self {
            BuildError::Step { source, .. } => source.lacking(),
            BuildError::Runtime(RuntimeError::Lacking(lacking)) => Some(*lacking),
            BuildError::Layer(error) | BuildError::Copy(CopyError::Archive { source: error, .. }) => match error {
                LayerError::UnmappedOwner { uid, gid, .. } => Some(Lacking::Id(*uid.max(gid))),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::ViewLayer;
    use crate::tree::Meta;

    #[test]
    fn a_device_below_dev_is_seen_by_no_step() {
        let view = |layers: &[&[(&str, Kind)]]| {
            let layer = |entries: &&[(&str, Kind)]| {
                let entry = |(path, kind): &(&str, Kind)| {
                    let path = TreePath::new(path).unwrap();
                    Entry { path, kind: kind.clone(), meta: Meta::default(), implied: false }
                };
                let index = Index::new(entries.iter().map(entry).collect());
                ViewLayer { id: index.layer_id(), index: Arc::new(index), dir: std::path::Path::new("/nowhere").into() }
            };
            View::new(layers.iter().map(layer).collect())
        };
        let device = Kind::Char { device: (10, 200) };
        let below =
            [("dev", Kind::Dir), ("dev/net", Kind::Dir), ("dev/net/tun", device.clone()), ("dev/null", device.clone())];
        let beside = [("device", device.clone())];
        let gone = [("device", Kind::Whiteout)];
        let lookout = Lookout::default();
        for _ in 0..2 {
            assert!(!lookout.shows_devices(&view(&[&below])));
            assert!(lookout.shows_devices(&view(&[&below, &beside])));
            assert!(!lookout.shows_devices(&view(&[&below, &beside, &gone])));
        }
        assert_eq!(lookout.without.lock().unwrap().len(), 2, "those need not be looked at again");
    }

    #[test]
    fn a_script_says_what_it_will_want() {
        // One id.
        let maps = IdMaps::single();
        let id = |id| Some(Lacking::Id(id));
        for (text, lacking) in [
            ("chown 100000:5 /f", id(100_000)),
            ("useradd --uid=1000680000 app", id(1_000_680_000)),
            ("chown root:0 /f", None),
            ("chown -R app /opt/v12", None),
            ("chown 4294967295 /f", None),
            ("echo 100000", None),
            ("mknod -m 666 /jail/dev/null c 1 3", Some(Lacking::Devices)),
            ("cd /x; mknod sda b $MAJOR 0 && ls", Some(Lacking::Devices)),
            ("mknod /run/pipe p", None),
            ("apt-get install -y debootstrap", Some(Lacking::Devices)),
            ("[ -c /dev/null ] || exit 1", None),
        ] {
            assert_eq!(of_text(text, &maps), lacking, "{text}");
        }
    }
}
