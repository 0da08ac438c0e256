//! `RUN --mount`.

use std::collections::HashMap;

use super::graph::Origin;
use super::lower::Context;
use super::stage::StageState;
use super::{CopyFrom, Mount, MountKind, Sharing, magic, path};
use crate::dockerfile::Word;
use crate::dockerfile::suggest::did_you_mean;
use crate::source::{Diagnostic, Span};

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARING: [&str; 3] = ["shared", "private", "locked"];

/// The options, each under the name that it has here; other names for some of them follow.
const OPTIONS: [&str; 14] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "readwrite",
    "id",
    "sharing",
    "required",
    "mode",
    "uid",
    "gid",
    "size",
    "env",
];
const OTHER_NAMES: [(&str, &str); 5] =
    [("src", "source"), ("dst", "target"), ("destination", "target"), ("ro", "readonly"), ("rw", "readwrite")];

/// What a mount must know of its RUN.
pub(super) struct Surroundings<'a> {
    pub cwd: &'a str,
    /// What its `from` means; `None` where it has none.
    pub origin: Option<Origin>,
    /// How many sockets of ssh agents the RUN has so far.
    pub agents: &'a mut usize,
}

/// One option: `key`, or `key=value`.
struct Field {
    key: String,
    value: Option<String>,
    span: Span,
}

/// Returns the `from` of a mount, if it has one that means something. Errors are found when the mount is read.
pub(super) fn from(mount: &Word) -> Option<Word> {
    let fields = fields(mount).ok()?;
    let of = |name: &str| fields.iter().find(|field| canonical(&field.key) == name);
    let kind = of("type").and_then(|field| field.value.as_deref()).unwrap_or("bind").to_ascii_lowercase();
    if matches!(kind.as_str(), "secret" | "ssh" | "tmpfs") {
        return None;
    }
    let from = of("from")?;
    let text = from.value.clone().filter(|text| !text.is_empty())?;
    Some(Word { text, span: from.span })
}

/// Returns the mount that `word` describes.
pub(super) fn read(
    word: &Word,
    surroundings: Surroundings<'_>,
    stage: &StageState,
    context: &mut Context<'_>,
) -> Result<Mount, Diagnostic> {
    let mut options = Options { values: HashMap::new(), word };
    for Field { key, value, span } in fields(word)? {
        let name = canonical(&key);
        if !OPTIONS.contains(&name) {
            let known = OPTIONS.into_iter().chain(OTHER_NAMES.into_iter().map(|(name, _)| name));
            let hint = did_you_mean(&key, known);
            let hint = hint.unwrap_or_else(|| format!("the options are: {}", OPTIONS.join(", ")));
            return Err(Diagnostic::error(format!("unknown option `{key}` of a mount")).at(span).hint(hint));
        }
        let value = match value {
            Some(value) => Some(stage.expand(&Word { text: value, span }, context)?),
            None if matches!(name, "readonly" | "readwrite" | "required") => None,
            None => {
                let error = Diagnostic::error(format!("the option `{key}` needs a value")).at(span);
                return Err(error.hint(format!("write {key}=…")));
            }
        };
        if options.values.insert(name, (value, span)).is_some() {
            return Err(Diagnostic::error(format!("the option `{name}` is given twice")).at(span));
        }
    }
    let kind = options.one_of("type", &TYPES)?.unwrap_or("bind");
    options.check(kind, context)?;
    match kind {
        "cache" => options.cache(surroundings, context),
        "tmpfs" => options.tmpfs(surroundings),
        "secret" => options.secret(surroundings),
        "ssh" => options.ssh(surroundings),
        _ => options.bind(surroundings, context),
    }
}

/// The options of one mount: values expanded, `None` where a switch has none.
struct Options<'a> {
    values: HashMap<&'static str, (Option<String>, Span)>,
    word: &'a Word,
}

impl Options<'_> {
    /// Returns the value of an option that is there and not empty.
    fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.0.as_deref().filter(|text| !text.is_empty())
    }

    fn span(&self, name: &str) -> Span {
        self.values.get(name).map_or(self.word.span, |(_, span)| *span)
    }

    fn one_of(&self, name: &str, known: &[&'static str]) -> Result<Option<&'static str>, Diagnostic> {
        let Some((Some(value), span)) = self.values.get(name) else { return Ok(None) };
        let lower = value.to_ascii_lowercase();
        let found = known.iter().find(|known| **known == lower);
        found.map(|found| Some(*found)).ok_or_else(|| {
            let hint = did_you_mean(value, known.iter().copied());
            let hint = hint.unwrap_or_else(|| format!("one of {}", known.join(", ")));
            Diagnostic::error(format!("`{value}` is no {name} of a mount")).at(*span).hint(hint)
        })
    }

    /// Refuses what has no meaning for `kind`, and warns of what has none but does no harm.
    fn check(&self, kind: &str, context: &mut Context<'_>) -> Result<(), Diagnostic> {
        let meant: &[&str] = match kind {
            "cache" => &["from", "source", "target", "readonly", "readwrite", "id", "sharing", "mode", "uid", "gid"],
            "tmpfs" => &["target", "size"],
            "secret" => &["source", "target", "id", "required", "mode", "uid", "gid", "env"],
            "ssh" => &["target", "id", "required", "mode", "uid", "gid"],
            _ => &["from", "source", "target", "readonly", "readwrite"],
        };
        let mut idle: Vec<(&str, Span)> = Vec::new();
        for (name, (_, span)) in &self.values {
            let harmless = match *name {
                "id" | "readonly" | "readwrite" => true,
                "from" => kind != "secret",
                "source" => kind == "tmpfs",
                _ => false,
            };
            if *name == "type" || meant.contains(name) {
            } else if harmless {
                idle.push((name, *span));
            } else {
                let error = Diagnostic::error(format!("a mount of type {kind} has no option `{name}`")).at(*span);
                return Err(error.hint(format!("its options are: {}", meant.join(", "))));
            }
        }
        idle.sort_by_key(|(_, span)| *span);
        let warning = |(name, span)| {
            Diagnostic::warning(format!("the option `{name}` means nothing for a mount of type {kind}")).at(span)
        };
        context.warnings.extend(idle.into_iter().map(warning));
        Ok(())
    }

    /// Returns what a switch says; `None` where it is not there.
    fn switch(&self, name: &str) -> Result<Option<bool>, Diagnostic> {
        let Some((value, span)) = self.values.get(name) else { return Ok(None) };
        match value.as_deref() {
            None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => {
                Err(Diagnostic::error(format!("the option `{name}` is true or false, not `{other}`")).at(*span))
            }
        }
    }

    /// Returns whether the command may write.
    fn writable(&self, default: bool) -> Result<bool, Diagnostic> {
        Ok(match (self.switch("readwrite")?, self.switch("readonly")?) {
            (Some(_), Some(_)) => {
                let error = Diagnostic::error("a mount is `readonly` or `readwrite`, not both");
                return Err(error.at(self.span("readwrite")));
            }
            (Some(writable), None) => writable,
            (None, Some(read_only)) => !read_only,
            (None, None) => default,
        })
    }

    fn number(&self, name: &str, default: u32) -> Result<u32, Diagnostic> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        // The highest one is no id: the kernel means "none" by it.
        let number = text.parse::<u32>().ok().filter(|number| digits && *number < u32::MAX);
        number.ok_or_else(|| Diagnostic::error(format!("`{text}` is not a {name}")).at(self.span(name)))
    }

    fn mode(&self, default: u32) -> Result<u32, Diagnostic> {
        let Some(text) = self.text("mode") else { return Ok(default) };
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o7777);
        mode.ok_or_else(|| {
            let error = Diagnostic::error(format!("`{text}` is not a mode")).at(self.span("mode"));
            error.hint("octal digits, at most 7777")
        })
    }

    /// Returns the place in the container; that is the working directory where none is given.
    fn target(&self, cwd: &str) -> Result<String, Diagnostic> {
        let target = path::absolute(cwd, self.text("target").unwrap_or_default());
        match target.trim_end_matches('/') {
            "" => {
                let error = Diagnostic::error("a mount cannot be on `/`").at(self.span("target"));
                Err(if self.text("target").is_none() { error.hint("say where: target=…") } else { error })
            }
            target => Ok(target.into()),
        }
    }

    fn source(&self) -> String {
        let source = path::absolute("/", self.text("source").unwrap_or_default());
        if source.len() > 1 { source.trim_end_matches('/').into() } else { source }
    }

    fn mount(&self, target: String, kind: MountKind) -> Mount {
        Mount { span: self.word.span, target, kind }
    }

    fn bind(&self, surroundings: Surroundings<'_>, context: &Context<'_>) -> Result<Mount, Diagnostic> {
        let from = match &surroundings.origin {
            None => CopyFrom::Context,
            Some(origin) => origin.in_plan(context).ok_or_else(|| {
                let error = Diagnostic::error("there is nothing in `scratch` to mount").at(self.span("from"));
                error.hint("an empty directory is type=tmpfs")
            })?,
        };
        let kind = MountKind::Bind { from, source: self.source(), writable: self.writable(false)? };
        Ok(self.mount(self.target(surroundings.cwd)?, kind))
    }

    fn cache(&self, surroundings: Surroundings<'_>, context: &Context<'_>) -> Result<Mount, Diagnostic> {
        let sharing = match self.one_of("sharing", &SHARING)? {
            Some("private") => Sharing::Private,
            Some("locked") => Sharing::Locked,
            _ => Sharing::Shared,
        };
        let id = match self.text("id") {
            Some(id) => id.to_owned(),
            None => path::clean(self.text("target").unwrap_or_default()),
        };
        let id = match magic::cache_namespace(&context.options.build_args) {
            Some(namespace) => format!("{namespace}/{id}"),
            None => id,
        };
        let from = surroundings.origin.as_ref().and_then(|origin| origin.in_plan(context));
        let source = self.source();
        if from.is_none() && source != "/" {
            let error =
                Diagnostic::error("the `source` of a cache mount is a folder of its `from`").at(self.span("source"));
            return Err(error.hint("add from=…, or leave it out: the cache begins empty then"));
        }
        let kind = MountKind::Cache {
            id,
            sharing,
            from,
            source,
            read_only: !self.writable(true)?,
            mode: self.mode(0o755)?,
            uid: self.number("uid", 0)?,
            gid: self.number("gid", 0)?,
        };
        Ok(self.mount(self.target(surroundings.cwd)?, kind))
    }

    fn tmpfs(&self, surroundings: Surroundings<'_>) -> Result<Mount, Diagnostic> {
        let size = self.text("size").map(|text| {
            bytes(text).ok_or_else(|| {
                let error = Diagnostic::error(format!("`{text}` is not a size")).at(self.span("size"));
                error.hint("a number of bytes, or one with k, m, g or t behind it")
            })
        });
        // As for the program that makes them: no limit is 0.
        let size = size.transpose()?.filter(|size| *size != 0);
        Ok(self.mount(self.target(surroundings.cwd)?, MountKind::Tmpfs { size }))
    }

    fn secret(&self, surroundings: Surroundings<'_>) -> Result<Mount, Diagnostic> {
        let id = match (self.text("id"), self.text("source"), self.text("target")) {
            (Some(_), Some(_), _) => {
                let error = Diagnostic::error("a secret has an `id` or a `source`, not both");
                return Err(error.at(self.span("source")));
            }
            (Some(id), ..) | (_, Some(id), _) => id.to_owned(),
            (None, None, Some(target)) => path::base(target),
            (None, None, None) => {
                let error = Diagnostic::error("which secret is mounted is not said").at(self.word.span);
                return Err(error.hint("write id=…"));
            }
        };
        let env = self.text("env").map(str::to_owned);
        if let Some(name) = env.as_deref().filter(|name| name.contains(['=', '\0'])) {
            return Err(Diagnostic::error(format!("`{name}` cannot be a variable")).at(self.span("env")));
        }
        let file = self.text("target").is_some() || env.is_none();
        let target = match (file, self.text("target")) {
            (false, _) => String::new(),
            (true, Some(_)) => self.target(surroundings.cwd)?,
            (true, None) => format!("/run/secrets/{}", path::base(&id)),
        };
        let kind = MountKind::Secret {
            id,
            env,
            file,
            required: self.switch("required")?.unwrap_or(false),
            mode: self.mode(0o400)?,
            uid: self.number("uid", 0)?,
            gid: self.number("gid", 0)?,
        };
        Ok(self.mount(target, kind))
    }

    fn ssh(&self, surroundings: Surroundings<'_>) -> Result<Mount, Diagnostic> {
        let target = match self.text("target") {
            Some(_) => self.target(surroundings.cwd)?,
            None => format!("/run/buildkit/ssh_agent.{}", surroundings.agents),
        };
        *surroundings.agents += 1;
        let kind = MountKind::Ssh {
            id: self.text("id").unwrap_or("default").into(),
            required: self.switch("required")?.unwrap_or(false),
            mode: self.mode(0o600)?,
            uid: self.number("uid", 0)?,
            gid: self.number("gid", 0)?,
        };
        Ok(self.mount(target, kind))
    }
}

fn canonical(key: &str) -> &'static str {
    let lower = key.to_ascii_lowercase();
    let other = OTHER_NAMES.iter().find(|(name, _)| *name == lower).map(|(_, name)| *name);
    other.or_else(|| OPTIONS.into_iter().find(|name| *name == lower)).unwrap_or_default()
}

/// Returns the options of a mount: fields with commas between them, as in a line of CSV.
fn fields(mount: &Word) -> Result<Vec<Field>, Diagnostic> {
    let text = mount.text.as_str();
    // Where quotes and escapes are taken away already, the place of an option is not known.
    let exact = mount.span.end - mount.span.start == text.len();
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let start = at;
        let field = match text[at..].strip_prefix('"') {
            Some(_) => {
                let (field, end) = quoted_field(text, at)
                    .ok_or_else(|| Diagnostic::error("a quote in a mount without its partner").at(mount.span))?;
                at = end;
                field
            }
            None => {
                let length = text[at..].find(',').unwrap_or(text.len() - at);
                at += length;
                text[start..at].to_owned()
            }
        };
        let span = match exact {
            true => Span::new(mount.span.start + start, mount.span.start + at),
            false => mount.span,
        };
        if field.trim().is_empty() {
            return Err(Diagnostic::error("an option of the mount is empty").at(span));
        }
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (field, None),
        };
        fields.push(Field { key, value, span });
        if at >= text.len() {
            return Ok(fields);
        }
        at += 1;
    }
}

/// Returns the field in quotes that starts at `start`, and where the comma behind it is, or the end. Two quotes stand for one.
fn quoted_field(text: &str, start: usize) -> Option<(String, usize)> {
    let mut field = String::new();
    let mut at = start + 1;
    loop {
        let length = text[at..].find('"')?;
        field.push_str(&text[at..at + length]);
        at += length + 1;
        match text.as_bytes().get(at) {
            None | Some(b',') => return Some((field, at)),
            Some(b'"') => {
                field.push('"');
                at += 1;
            }
            Some(_) => return None,
        }
    }
}

/// Returns the bytes that `text` says, as docker reads sizes: a number, and perhaps k, m, g, t or p, and `b` or `ib` behind it.
fn bytes(text: &str) -> Option<u64> {
    let length = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(length);
    let unit = unit.trim_start().to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let number = number.parse::<f64>().ok()?;
    let bytes = number * 1024f64.powi(power);
    (bytes < i64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
