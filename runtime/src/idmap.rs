use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::around::Surroundings;
use crate::error::RuntimeError;

/// Extents that the kernel takes in one map (user_namespaces(7)).
const MAX_EXTENTS: usize = 340;
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

/// Some ids that follow each other, and what they are outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first id inside the user namespace.
    pub inside: u32,
    /// The id in the parent user namespace that it stands for.
    pub outside: u32,
    /// How many there are.
    pub count: u32,
}

/// Who writes the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MapKind {
    /// This program: every id that it has stands for itself.
    Direct,
    /// newuidmap and newgidmap: the own id is 0, the subordinate ids come after it.
    SubIds,
    /// This program: the own id is 0, and there is no other. Other owners and users are emulated.
    Single,
}

/// Which users and groups there are inside a user namespace. See [`IdMaps::discover`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    kind: MapKind,
    uids: Vec<IdRange>,
    gids: Vec<IdRange>,
}

/// What the decision is made from.
struct Sources<'a> {
    uid: u32,
    gid: u32,
    status: &'a str,
    uid_map: &'a str,
    gid_map: &'a str,
    passwd: &'a [u8],
    subuid: &'a [u8],
    subgid: &'a [u8],
    /// Whether this looks like a container.
    container: bool,
}

impl IdMaps {
    /// Returns the best full map that this process should be able to have: [`MapKind::Direct`] with CAP_SETUID and
    /// CAP_SETGID, else [`MapKind::SubIds`]. Enters no namespace; whether it works is seen by
    /// [`enter`](crate::userns::enter) and [`probe::choose`](crate::probe::choose).
    ///
    /// # Errors
    /// [`RuntimeError::NoSubIds`], [`RuntimeError::NoNewPrivs`], [`RuntimeError::NoProc`], and [`RuntimeError::Call`] where /proc can not be read.
    pub fn discover() -> Result<IdMaps, RuntimeError> {
        let proc = |path: &str| {
            fs::read_to_string(path).map_err(|error| match Surroundings::of_this_process().proc {
                false => RuntimeError::NoProc,
                true => RuntimeError::call(format!("read({path:?})"), error),
            })
        };
        // A missing file of /etc has no lines.
        let etc = |path: &str| fs::read(path).unwrap_or_default();
        decide(&Sources {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            status: &proc("/proc/self/status")?,
            uid_map: &proc("/proc/self/uid_map")?,
            gid_map: &proc("/proc/self/gid_map")?,
            passwd: &etc("/etc/passwd"),
            subuid: &etc("/etc/subuid"),
            subgid: &etc("/etc/subgid"),
            container: Surroundings::of_this_process().host.is_container(),
        })
    }

    /// Returns the map that every process may write: its own ids are root, and no other ones are there.
    pub fn single() -> IdMaps {
        let one = |outside| vec![IdRange { inside: 0, outside, count: 1 }];
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        IdMaps { kind: MapKind::Single, uids: one(uid), gids: one(gid) }
    }

    /// Returns who writes the maps.
    pub fn kind(&self) -> MapKind {
        self.kind
    }

    /// Returns the users, in the order in which they are written.
    pub fn uids(&self) -> &[IdRange] {
        &self.uids
    }

    /// Returns the groups, in the order in which they are written.
    pub fn gids(&self) -> &[IdRange] {
        &self.gids
    }

    /// Returns whether `id` is in the map of users and in that of groups.
    pub fn has(&self, id: u32) -> bool {
        let holds = |range: &IdRange| id >= range.inside && id - range.inside < range.count;
        self.uids.iter().any(holds) && self.gids.iter().any(holds)
    }

    /// Returns a short name, fit for a file, of all maps under which the owners of files on disk mean the same:
    /// "direct", "single", or "sub-" and twelve hexadecimal digits. Stable between versions.
    pub fn realm(&self) -> String {
        match self.kind {
            MapKind::Direct => return "direct".into(),
            MapKind::Single => return "single".into(),
            MapKind::SubIds => {}
        }
        // FNV-1a, 64 bits.
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for byte in format!("{};{}", map_text(&self.uids), map_text(&self.gids)).bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        format!("sub-{:012x}", hash >> 16)
    }
}

impl fmt::Display for IdMaps {
    /// Writes a line for a person: "user namespace, subordinate ids 100000-165535".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            MapKind::Direct => return f.write_str("user namespace, all own ids"),
            MapKind::Single => return f.write_str("user namespace, one id, owners emulated"),
            MapKind::SubIds => {}
        }
        f.write_str("user namespace, subordinate ids ")?;
        for (at, range) in self.uids.iter().skip(1).enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}-{}", range.outside, u64::from(range.outside) + u64::from(range.count) - 1)?;
        }
        Ok(())
    }
}

/// Returns `ranges` as the kernel wants them written, a line each.
pub(crate) fn map_text(ranges: &[IdRange]) -> String {
    ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect()
}

fn decide(from: &Sources<'_>) -> Result<IdMaps, RuntimeError> {
    let capabilities = status_field(from.status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let may = |capability: u32| capabilities.is_some_and(|set| set & (1 << capability) != 0);
    if may(CAP_SETUID) && may(CAP_SETGID) {
        let (uids, gids) = (own_ids(from.uid_map), own_ids(from.gid_map));
        let maps_root = |ranges: &[IdRange]| ranges.iter().any(|range| range.inside == 0);
        // A user that is not root may hold both capabilities; without an id 0 nothing can be built.
        if maps_root(&uids) && maps_root(&gids) {
            return Ok(IdMaps { kind: MapKind::Direct, uids, gids });
        }
    }
    // First: with this, no range of ids would help.
    if status_field(from.status, "NoNewPrivs") == Some("1") {
        return Err(RuntimeError::NoNewPrivs);
    }
    let name = user_name(from.passwd, from.uid);
    let ranges = |own: u32, text: &[u8], file: &str| {
        let found = sub_ids(text, from.uid, name.as_deref(), own);
        if found.len() > 1 {
            return Ok(found);
        }
        Err(RuntimeError::NoSubIds {
            user: name.clone().unwrap_or_else(|| from.uid.to_string()),
            file: file.into(),
            container: from.container || name.is_none(),
            free: free_range([from.subuid, from.subgid]),
        })
    };
    let uids = ranges(from.uid, from.subuid, "/etc/subuid")?;
    let gids = ranges(from.gid, from.subgid, "/etc/subgid")?;
    Ok(IdMaps { kind: MapKind::SubIds, uids, gids })
}

/// Returns the first of 65536 ids, from 100000 on as useradd(8) gives them, that are in none of `files`.
fn free_range(files: [&[u8]; 2]) -> Option<u32> {
    const COUNT: u64 = 65_536;
    let mut taken: Vec<(u64, u64)> = files
        .iter()
        .flat_map(|text| text.split(|&b| b == b'\n'))
        .filter_map(|line| {
            let mut fields = line.split(|&b| b == b':').skip(1);
            let start = u64::from(number(fields.next()?)?);
            Some((start, start + u64::from(number(fields.next()?.trim_ascii_end())?)))
        })
        .collect();
    taken.sort_unstable();
    let mut first = 100_000;
    for (start, end) in taken {
        if start >= first + COUNT {
            break;
        }
        first = first.max(end);
    }
    // The last number is no id.
    u32::try_from(first).ok().filter(|_| first + COUNT <= u64::from(u32::MAX))
}

/// Returns the value of a line of /proc/PID/status.
pub(crate) fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Every id that this user namespace has, onto itself.
fn own_ids(map: &str) -> Vec<IdRange> {
    map.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().map(str::parse::<u32>);
            let (inside, _, count) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
            (count > 0).then_some(IdRange { inside, outside: inside, count })
        })
        .take(MAX_EXTENTS)
        .collect()
}

fn user_name(passwd: &[u8], uid: u32) -> Option<String> {
    passwd.split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let name = std::str::from_utf8(fields.next()?).ok()?;
        (number(fields.nth(1)?)? == uid && !name.is_empty()).then(|| name.to_owned())
    })
}

/// The own id as 0, then the ranges of this user in `text` from 1 on. Ranges that overlap one before, or hold the own
/// id, are left out: the kernel refuses such a map.
fn sub_ids(text: &[u8], uid: u32, name: Option<&str>, own: u32) -> Vec<IdRange> {
    let mut ranges = vec![IdRange { inside: 0, outside: own, count: 1 }];
    let mut next = 1u32;
    for line in text.split(|&b| b == b'\n') {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let [owner, start, count] = fields[..] else { continue };
        let is_ours = number(owner) == Some(uid) || name.is_some_and(|name| name.as_bytes() == owner);
        let (Some(outside), Some(count)) = (number(start), number(count.trim_ascii_end())) else { continue };
        // 4294967295 is no id, neither inside nor outside.
        let fits = outside.checked_add(count).is_some() && next.checked_add(count).is_some();
        let overlaps = |r: &IdRange| outside < r.outside + r.count && r.outside < outside.saturating_add(count);
        if !is_ours || count == 0 || !fits || ranges.iter().any(overlaps) || ranges.len() == MAX_EXTENTS {
            continue;
        }
        ranges.push(IdRange { inside: next, outside, count });
        next += count;
    }
    ranges
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Sources<'_> = Sources {
        uid: 1000,
        gid: 100,
        status: "Name:\tx\nCapEff:\t0000000000000000\nNoNewPrivs:\t0\n",
        uid_map: "         0          0 4294967295\n",
        gid_map: "         0          0 4294967295\n",
        passwd: b"root:x:0:0::/:/bin/sh\nada:x:1000:100::/home/ada:/bin/sh\n",
        subuid: b"bob:1:2\nada:100000:65536\n",
        subgid: b"1000:200000:65536\n",
        container: false,
    };

    #[test]
    fn a_user_gets_its_own_id_as_root_and_then_its_ranges() {
        let maps = decide(&USER).expect("has sub-ids");
        assert_eq!(map_text(maps.uids()), "0 1000 1\n1 100000 65536\n");
        assert_eq!(map_text(maps.gids()), "0 100 1\n1 200000 65536\n");
        assert_eq!(maps.to_string(), "user namespace, subordinate ids 100000-165535");
    }

    #[test]
    fn a_map_knows_its_ids() {
        let maps = decide(&USER).expect("has sub-ids");
        assert!([0, 1, 65536].into_iter().all(|id| maps.has(id)));
        assert!([65537, 1_000_680_000, u32::MAX].into_iter().all(|id| !maps.has(id)));
    }

    #[test]
    fn the_realm_is_stable_and_tells_maps_apart() {
        let maps = decide(&USER).expect("has sub-ids");
        assert_eq!(maps.realm(), "sub-0355bba1db72");
        let other = decide(&Sources { subuid: b"ada:100001:65536\n", ..USER }).expect("has sub-ids");
        assert_ne!(maps.realm(), other.realm());
    }

    #[test]
    fn root_maps_every_id_that_it_has_onto_itself() {
        let root = Sources { uid: 0, status: "CapEff:\t00000000a80425fb\nNoNewPrivs:\t1\n", ..USER };
        let maps = decide(&root).expect("may write the map");
        assert_eq!((map_text(maps.uids()).as_str(), maps.realm().as_str()), ("0 0 4294967295\n", "direct"));
        let nested = decide(&Sources { uid_map: "0 1000 1\n1 100000 65536\n", ..root }).expect("may write the map");
        assert_eq!(map_text(nested.uids()), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn everybody_may_map_the_own_id() {
        let maps = IdMaps::single();
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        assert_eq!((map_text(maps.uids()), map_text(maps.gids())), (format!("0 {uid} 1\n"), format!("0 {gid} 1\n")));
        assert_eq!((maps.kind(), maps.realm().as_str()), (MapKind::Single, "single"));
        assert_eq!(maps.to_string(), "user namespace, one id, owners emulated");
    }

    #[test]
    fn what_is_missing_is_named() {
        let cases = [
            (Sources { subuid: b"", ..USER }, "user ada has no range in /etc/subuid"),
            (
                Sources { subgid: b"eve:1:2\n", passwd: b"", subuid: b"1000:9:9\n", ..USER },
                "user 1000 has no range in /etc/subgid",
            ),
            (
                // Both are the cause; ranges alone would not help.
                Sources { status: "NoNewPrivs:\t1\n", subuid: b"", ..USER },
                "no_new_privs is set: newuidmap cannot gain the privilege to map subordinate ids",
            ),
        ];
        for (sources, message) in cases {
            assert_eq!(decide(&sources).expect_err(message).to_string(), message);
        }
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        let text = b"ada:x:1\nada:5\n\nada:100:0\nada:4294967290:10\nada:990:20\nada:2000:10\nada:2005:10\nada:+1:1\n\xff:1:1\n";
        let ranges = sub_ids(text, 1000, Some("ada"), 1000);
        assert_eq!(map_text(&ranges), "0 1000 1\n1 2000 10\n", "990 holds the own id, 2005 overlaps 2000");
    }

    #[test]
    fn the_hint_fits_who_asks() {
        let hint = |sources: Sources<'_>| decide(&sources).expect_err("has no ids").hint().expect("has a hint");
        let bare = Sources { subuid: b"bob:100000:65536\n", subgid: b"", ..USER };
        assert_eq!(hint(bare), "sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ada");
        for pod in [
            Sources { subuid: b"", container: true, ..USER },
            Sources { subuid: b"", passwd: b"root:x:0:0::/:/bin/sh\n", ..USER },
        ] {
            assert!(hint(pod).contains("hostUsers: false"));
        }
    }

    #[test]
    fn a_free_range_overlaps_nobody() {
        let cases: [(&[u8], &[u8], Option<u32>); 6] = [
            (b"", b"", Some(100_000)),
            (b"a:100000:65536\nb:165536:65536\n", b"", Some(231_072)),
            (b"b:300000:65536\n", b"a:100000:65536\n", Some(165_536)),
            (b"b:200000:65536\n", b"a:100000:65536\n", Some(265_536)),
            (b"a:0:4294967295\n", b"", None),
            (b"nonsense\n\n:::\na:5\n", b"\xff:1:1\n", Some(100_000)),
        ];
        for (subuid, subgid, first) in cases {
            assert_eq!(free_range([subuid, subgid]), first);
        }
    }
}
