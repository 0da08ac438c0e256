//! Who a name is in an image: look-ups in its /etc/passwd and /etc/group, which are read as data, by hand.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::oci::Digest;
use crate::tree::{self, FileDigest, Kind, Tree, resolve};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The longest of these files that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// The largest user or group id. The next one means "none" to the kernel.
const MAX_ID: u32 = u32::MAX - 1;

/// Whom a RUN runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id in the image.
    pub uid: u32,
    /// Primary group id in the image.
    pub gid: u32,
    /// Other group ids, in the order of /etc/group, without `gid`.
    pub supplementary: Vec<u32>,
    /// Home directory; "/" where the image does not know one.
    pub home: String,
    /// Name in /etc/passwd, or the number where it has none.
    pub name: String,
}

/// A user or group of an image cannot be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// A name is not in /etc/passwd or /etc/group.
    #[error("there is no {what} {name:?} in {file} of the image; make it in an earlier RUN, or give its number")]
    Unknown {
        /// "user" or "group".
        what: &'static str,
        /// The name.
        name: String,
        /// The file that lacks it.
        file: &'static str,
    },
    /// A name is given, and the image has no file to look it up in.
    #[error("cannot look up the {what} {name:?}: the image has no {file}; give its number")]
    NoFile {
        /// "user" or "group".
        what: &'static str,
        /// The name.
        name: String,
        /// The file that is missing.
        file: &'static str,
    },
    /// A number is no user or group id.
    #[error("{number} is no {what} id: the largest is 4294967294")]
    BadId {
        /// "user" or "group".
        what: &'static str,
        /// The number.
        number: String,
    },
    /// The user or the group is missing in `user:group`.
    #[error("{spec:?} lacks a {what}: give user or user:group")]
    Empty {
        /// "user" or "group".
        what: &'static str,
        /// The whole of it.
        spec: String,
    },
    /// /etc/passwd or /etc/group is no regular file, or too large.
    #[error("{file} of the image is {found}")]
    BadFile {
        /// The file.
        file: &'static str,
        /// What it is.
        found: String,
    },
    /// /etc/passwd or /etc/group cannot be read.
    #[error("cannot read {file} of the image")]
    Read {
        /// The file.
        file: &'static str,
        /// Why not.
        #[source]
        source: tree::Error,
    },
}

/// A line of /etc/passwd.
#[derive(Debug, PartialEq, Eq)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// A line of /etc/group.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// What is given for a user or a group.
enum Given<'a> {
    Id(u32),
    Name(&'a str),
}

/// Returns whom `USER spec` means in the image `tree`: `user` or `user:group`, names or numbers, "" for root.
///
/// A number that is in /etc/passwd is as good as its name. One that is not has group 0 and no other groups. With a
/// group given, that is the only one.
///
/// # Errors
/// [`UserError`] where a name is unknown or a file cannot be read.
pub fn lookup_user(tree: &dyn Tree, spec: &str) -> Result<User, UserError> {
    let (user, group) = split(if spec.is_empty() { "0" } else { spec })?;
    let passwd = read(tree, PASSWD)?;
    let mut accounts = passwd.as_deref().unwrap_or_default().lines().filter_map(account);
    let account = match given("user", user)? {
        // A name may look like a number.
        Given::Id(uid) => {
            let mut by_id = None;
            let by_name = accounts.find(|account| {
                if account.uid == uid && by_id.is_none() {
                    by_id = Some(Account { name: account.name.clone(), home: account.home.clone(), ..*account });
                }
                account.name == user
            });
            by_name.or(by_id).unwrap_or(Account { name: uid.to_string(), uid, gid: 0, home: String::new() })
        }
        Given::Name(name) => accounts
            .find(|account| account.name == name)
            .ok_or_else(|| unknown("user", name, PASSWD, passwd.is_some()))?,
    };
    let home = if account.home.is_empty() { "/".to_owned() } else { account.home };
    let (gid, supplementary) = match group {
        Some(group) => (group_id(tree, group)?, Vec::new()),
        None => (account.gid, supplementary(tree, &account.name, account.gid)?),
    };
    Ok(User { uid: account.uid, gid, supplementary, home, name: account.name })
}

/// Returns the user and group id that `--chown=spec` means in the image `tree`: `user` or `user:group`, names or
/// numbers. A number alone is both. A name alone has its primary group. Numbers need no files.
///
/// # Errors
/// [`UserError`] where a name is unknown or a file cannot be read.
pub fn lookup_owner(tree: &dyn Tree, spec: &str) -> Result<(u32, u32), UserError> {
    let (user, group) = split(spec)?;
    let group = group.map(|group| group_id(tree, group)).transpose()?;
    match given("user", user)? {
        Given::Id(uid) => Ok((uid, group.unwrap_or(uid))),
        Given::Name(name) => {
            let passwd = read(tree, PASSWD)?;
            let account = passwd.as_deref().unwrap_or_default().lines().filter_map(account).find(|a| a.name == name);
            let account = account.ok_or_else(|| unknown("user", name, PASSWD, passwd.is_some()))?;
            Ok((account.uid, group.unwrap_or(account.gid)))
        }
    }
}

fn split(spec: &str) -> Result<(&str, Option<&str>), UserError> {
    let (user, group) = spec.split_once(':').map_or((spec, None), |(user, group)| (user, Some(group)));
    for (what, given) in [("user", Some(user)), ("group", group)] {
        if given == Some("") {
            return Err(UserError::Empty { what, spec: spec.to_owned() });
        }
    }
    Ok((user, group))
}

fn given<'a>(what: &'static str, text: &'a str) -> Result<Given<'a>, UserError> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Given::Name(text));
    }
    id(text).map(Given::Id).ok_or_else(|| UserError::BadId { what, number: text.to_owned() })
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID && text.bytes().all(|b| b.is_ascii_digit()))
}

fn group_id(tree: &dyn Tree, group: &str) -> Result<u32, UserError> {
    match given("group", group)? {
        Given::Id(gid) => Ok(gid),
        Given::Name(name) => {
            let file = read(tree, GROUP)?;
            let group = file.as_deref().unwrap_or_default().lines().filter_map(self::group).find(|g| g.name == name);
            group.map(|group| group.gid).ok_or_else(|| unknown("group", name, GROUP, file.is_some()))
        }
    }
}

/// Returns the groups that list `name` as a member, without `primary`.
fn supplementary(tree: &dyn Tree, name: &str, primary: u32) -> Result<Vec<u32>, UserError> {
    let file = read(tree, GROUP)?;
    let mut found = Vec::new();
    for group in file.as_deref().unwrap_or_default().lines().filter_map(group) {
        if group.gid != primary && !found.contains(&group.gid) && group.members.iter().any(|member| member == name) {
            found.push(group.gid);
        }
    }
    Ok(found)
}

fn unknown(what: &'static str, name: &str, file: &'static str, there: bool) -> UserError {
    let name = name.to_owned();
    if there { UserError::Unknown { what, name, file } } else { UserError::NoFile { what, name, file } }
}

/// Returns the text of a file of the image, links followed inside of it; `None` where it is missing.
fn read(tree: &dyn Tree, file: &'static str) -> Result<Option<Arc<str>>, UserError> {
    let fail = |source| UserError::Read { file, source };
    let found = resolve(tree, file.as_bytes()).map_err(fail)?;
    let (size, digest) = match found.node.map(|node| node.kind) {
        None => return Ok(None),
        Some(Kind::File { size, digest }) => (size, digest),
        Some(kind) => return Err(UserError::BadFile { file, found: format!("a {}, not a regular file", kind.word()) }),
    };
    let too_large = || UserError::BadFile { file, found: format!("larger than {LIMIT} bytes") };
    if size > LIMIT {
        return Err(too_large());
    }
    if let Some(text) = digest.and_then(|digest| known().get(&digest).cloned()) {
        return Ok(Some(text));
    }
    let mut bytes = Vec::new();
    let open = tree.open(&found.path).map_err(fail)?;
    let read = open.take(LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|source| fail(tree::Error { call: "read", path: found.path.to_string(), source }))?;
    if bytes.len() as u64 > LIMIT {
        return Err(too_large());
    }
    let text: Arc<str> = String::from_utf8_lossy(&bytes).into();
    // Who made the index may have claimed anything.
    let is_it = |digest: &FileDigest| bytes.len() <= SHORT && Digest::of(&bytes).raw() == &digest.0;
    if let Some(digest) = digest.filter(is_it) {
        let mut known = known();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(digest, Arc::clone(&text));
    }
    Ok(Some(text))
}

/// A file of so many bytes is kept in memory, and so many files.
const SHORT: usize = 64 << 10;
const MOST: usize = 16;

/// Returns the files that were read before, by what is in them: the steps of a build ask for the same ones.
fn known() -> MutexGuard<'static, HashMap<FileDigest, Arc<str>>> {
    static KNOWN: LazyLock<Mutex<HashMap<FileDigest, Arc<str>>>> = LazyLock::new(Mutex::default);
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns what a line of /etc/passwd says; `None` where it is malformed: such a line is passed over, as libc does it.
fn account(line: &str) -> Option<Account> {
    let mut fields = line.trim_end_matches('\r').split(':');
    let (name, _password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let home = fields.nth(1).unwrap_or_default();
    if name.is_empty() || name.starts_with('#') || home.contains('\0') {
        return None;
    }
    Some(Account { name: name.to_owned(), uid: id(uid)?, gid: id(gid)?, home: home.to_owned() })
}

/// Returns what a line of /etc/group says; `None` where it is malformed.
fn group(line: &str) -> Option<Group> {
    let mut fields = line.trim_end_matches('\r').split(':');
    let (name, _password, gid) = (fields.next()?, fields.next()?, fields.next()?);
    let members = fields.next().unwrap_or_default().split(',').filter(|member| !member.is_empty());
    if name.is_empty() || name.starts_with('#') {
        return None;
    }
    Some(Group { name: name.to_owned(), gid: id(gid)?, members: members.map(str::to_owned).collect() })
}

#[cfg(test)]
#[path = "user_tests.rs"]
mod tests;
