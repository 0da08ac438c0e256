//! How an image was made, as SLSA's provenance says it: with the members that BuildKit's has, and no clock in it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::args::{Provenance, ProvenanceMode, Slsa};
use super::elsewhere::Elsewhere;
use super::finder;
use super::report::Failure;
use super::request::{BuildRequest, DockerfileFrom};
use super::sources::Origin;
use crate::build::{Access, BuildOptions, Remote};
use crate::input::{ContextLocation, NamedLocation};
use crate::oci::{Platform, Reference};
use crate::output::attest::{Claim, STATEMENT_V01, STATEMENT_V1};
use crate::plan::{CopyFrom, ImageUse, MountKind, Network, Op, Plan, Run, Step};
use crate::source::Source;
use crate::store::Image;

const BUILD_TYPE_V1: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const BUILD_TYPE_V02: &str = "https://mobyproject.org/buildkit@v1";

/// What is known of a build.
pub(super) struct Facts<'a> {
    pub request: &'a BuildRequest,
    pub options: &'a BuildOptions,
    pub plan: &'a Plan,
    /// The images that the Dockerfile names, and what they were.
    pub uses: &'a [ImageUse],
    pub bases: &'a BTreeMap<String, Image>,
    pub elsewhere: &'a Elsewhere<'a>,
    pub dockerfile: &'a Source,
    /// What the context was, where it is not on this machine.
    pub origin: Option<&'a Origin>,
}

/// The names of variables whose values are about this machine, and may hold a password.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// Returns the address of the package that an image is, as `pkg:docker/alpine@3.17?platform=linux%2Famd64`.
pub(super) fn package(name: &str, platform: Option<&Platform>) -> Option<String> {
    let reference = Reference::parse(finder::bare(name)).ok()?;
    let name = reference.name();
    let short = name.strip_prefix("docker.io/library/").or(name.strip_prefix("docker.io/")).unwrap_or(&name);
    let mut text = format!("pkg:docker/{}", encoded(short));
    if let Some(tag) = reference.tag().or(reference.digest().is_none().then_some("latest")) {
        text += &format!("@{}", encoded(tag));
    }
    let mut more = Vec::new();
    more.extend(reference.digest().map(|digest| format!("digest={digest}")));
    more.extend(platform.map(|platform| format!("platform={}", platform.normalised().to_string().replace('/', "%2F"))));
    if !more.is_empty() {
        text += &format!("?{}", more.join("&"));
    }
    Some(text)
}

/// Returns a part of such an address.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b'/' | b':');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl Facts<'_> {
    /// Returns what is to be said of how each image was made.
    pub fn claims(&self, wanted: &Provenance) -> Result<Vec<Claim>, Failure> {
        let claim = |target: usize| {
            let predicate = self.predicate(wanted, target)?;
            Ok(Claim {
                statement: if wanted.version == Slsa::V1 { STATEMENT_V1 } else { STATEMENT_V01 },
                kind: match wanted.version {
                    Slsa::V1 => "https://slsa.dev/provenance/v1".into(),
                    Slsa::V02 => "https://slsa.dev/provenance/v0.2".into(),
                },
                predicate,
                file: (!wanted.inline_only).then(|| wanted.filename.clone()),
            })
        };
        self.plan.targets().map(claim).collect()
    }

    fn predicate(&self, wanted: &Provenance, target: usize) -> Result<Value, Failure> {
        let stages = self.plan.needed_by(target);
        let is_max = wanted.mode == ProvenanceMode::Max;
        let materials = self.materials(&stages)?;
        let config_source = self.config_source(wanted.version);
        let request = self.parameters(&stages, is_max);
        let platform = Platform::host().normalised().to_string();
        let steps = is_max.then(|| self.steps(&stages));
        let known = self.origin.is_some() && self.locals(&stages).is_empty();
        let hermetic = self.runs(&stages).all(|run| self.has_no_network(run));
        let source = json!({"source": {"infos": [{
            "filename": self.dockerfile.name(),
            "language": "Dockerfile",
            "data": STANDARD.encode(self.dockerfile.text()),
        }]}});
        let details = if is_max { source } else { json!({}) };
        let time = self.options.making.times.fixed().and_then(|time| jiff::Timestamp::from_second(time).ok());
        let time = time.map(|time| time.to_string());
        let times = |metadata: &mut Value, names: [&str; 2]| {
            for name in names.iter().filter(|_| time.is_some()) {
                metadata[*name] = time.clone().into();
            }
        };
        Ok(match wanted.version {
            Slsa::V1 => {
                let mut metadata = json!({
                    "buildkit_hermetic": hermetic,
                    "buildkit_completeness": {"request": is_max, "resolvedDependencies": known},
                    "buildkit_reproducible": wanted.reproducible,
                    "buildkit_metadata": details,
                });
                times(&mut metadata, ["startedOn", "finishedOn"]);
                let mut internal = json!({"builderPlatform": platform});
                if let Some(steps) = steps {
                    internal["buildConfig"] = json!({"steps": steps});
                }
                json!({
                    "buildDefinition": {
                        "buildType": BUILD_TYPE_V1,
                        "externalParameters": {"configSource": config_source, "request": request},
                        "internalParameters": internal,
                        "resolvedDependencies": materials,
                    },
                    "runDetails": {"builder": {"id": wanted.builder_id}, "metadata": metadata},
                })
            }
            Slsa::V02 => {
                let mut metadata = json!({
                    "completeness": {"parameters": is_max, "environment": true, "materials": known},
                    "reproducible": wanted.reproducible,
                    "https://mobyproject.org/buildkit@v1#hermetic": hermetic,
                    "https://mobyproject.org/buildkit@v1#metadata": details,
                });
                times(&mut metadata, ["buildStartedOn", "buildFinishedOn"]);
                let mut predicate = json!({
                    "builder": {"id": wanted.builder_id},
                    "buildType": BUILD_TYPE_V02,
                    "materials": materials,
                    "invocation": {
                        "configSource": config_source,
                        "parameters": request,
                        "environment": {"platform": platform},
                    },
                    "metadata": metadata,
                });
                if let Some(steps) = steps {
                    predicate["buildConfig"] = json!({"steps": steps});
                }
                predicate
            }
        })
    }

    /// Returns all from elsewhere that these stages are made of, with digests.
    fn materials(&self, stages: &BTreeSet<usize>) -> Result<Vec<Value>, Failure> {
        let mut found: BTreeMap<String, Value> = BTreeMap::new();
        let keys = self.plan.images_of(stages);
        for used in self.uses.iter().filter(|used| keys.contains(used.key.as_str())) {
            let Some(image) = self.bases.get(&used.key) else { continue };
            let uri = match finder::is_place(&used.name) {
                // Its folder is nobody's business.
                true => format!("pkg:oci/{}", encoded(used.name.split(':').next().unwrap_or_default())),
                false => package(&used.name, Some(&used.platform)).unwrap_or_else(|| used.name.clone()),
            };
            found.insert(uri, json!({"sha256": image.digest.hex()}));
        }
        for fetch in self.plan.fetches() {
            let of_these = stages.iter().flat_map(|&at| &self.plan.stages[at].steps);
            if !of_these.into_iter().any(|step| step.span == fetch.span) {
                continue;
            }
            // It is known already: the key of the step needs it.
            self.elsewhere.fetch(fetch.source, fetch.add)?;
            let key = finder::fetch_key(&fetch)?;
            if let Some((kind, hex)) = self.elsewhere.resolved(&key) {
                found.insert(key, json!({kind: hex}));
            }
        }
        if let Some(Origin { uri, digest: Some((kind, hex)) }) = self.origin {
            found.insert(uri.clone(), json!({*kind: hex}));
        }
        Ok(found.into_iter().map(|(uri, digest)| json!({"uri": uri, "digest": digest})).collect())
    }

    /// Returns where the instructions are from.
    fn config_source(&self, version: Slsa) -> Value {
        let path = match &self.request.sources.dockerfile {
            DockerfileFrom::Context => self.dockerfile.name().to_owned(),
            DockerfileFrom::File { written, .. } => written.display().to_string(),
            DockerfileFrom::Stdin => "-".into(),
            DockerfileFrom::Url(url) => crate::address::shown(url),
        };
        let mut source = Map::new();
        if let Some(Origin { uri, digest }) = self.origin {
            source.insert("uri".into(), uri.clone().into());
            if let Some((kind, hex)) = digest {
                source.insert("digest".into(), json!({*kind: hex}));
            }
        }
        source.insert(if version == Slsa::V1 { "path" } else { "entryPoint" }.into(), path.into());
        source.into()
    }

    /// Returns what the user asked for.
    fn parameters(&self, stages: &BTreeSet<usize>, is_max: bool) -> Value {
        let mut args: BTreeMap<String, String> = BTreeMap::new();
        args.extend(self.request.target.clone().map(|target| ("target".into(), target)));
        if is_max {
            let is_proxy = |name: &str| PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name));
            let given = self.request.build_args.iter().filter(|(name, _)| !is_proxy(name));
            args.extend(given.map(|(name, value)| (format!("build-arg:{name}"), value.clone())));
            let labels = self.request.changes.labels.iter();
            args.extend(labels.map(|(name, value)| (format!("label:{name}"), value.clone())));
        }
        let mut parameters = json!({"frontend": "dockerfile.v0", "args": args});
        if is_max {
            let (mut secrets, mut agents) = (BTreeMap::new(), BTreeMap::new());
            for mount in self.runs(stages).flat_map(|run| &run.mounts) {
                match &mount.kind {
                    MountKind::Secret { id, required, .. } => *secrets.entry(id).or_insert(false) |= required,
                    MountKind::Ssh { id, required, .. } => *agents.entry(id).or_insert(false) |= required,
                    _ => {}
                }
            }
            let listed = |found: BTreeMap<&String, bool>| -> Vec<Value> {
                found.into_iter().map(|(id, required)| json!({"id": id, "optional": !required})).collect()
            };
            parameters["secrets"] = listed(secrets).into();
            parameters["ssh"] = listed(agents).into();
        }
        let locals = self.locals(stages).into_iter().map(|name| json!({"name": name}));
        parameters["locals"] = locals.collect::<Vec<_>>().into();
        parameters
    }

    /// Returns the names of all that was read on this machine, and of which nothing more is known.
    fn locals(&self, stages: &BTreeSet<usize>) -> BTreeSet<String> {
        let mut locals = BTreeSet::new();
        let is_local =
            |location: &ContextLocation| matches!(location, ContextLocation::Path(_) | ContextLocation::Stdin);
        let sources = &self.request.sources;
        let steps = || self.steps_of(stages);
        if is_local(&sources.context) && steps().any(|step| step.op.reads_context()) {
            locals.insert("context".into());
        }
        let in_context = matches!(sources.dockerfile, DockerfileFrom::Context | DockerfileFrom::File { .. });
        if sources.dockerfile == DockerfileFrom::Stdin || in_context && is_local(&sources.context) {
            locals.insert("dockerfile".into());
        }
        for named in &sources.named {
            let from = CopyFrom::Named(named.name.clone());
            let reads = |step: &Step| match &step.op {
                Op::Copy(copy) => copy.from == from,
                Op::Run(run) => run.mounts.iter().any(|mount| mount.kind.from() == Some(&from)),
                Op::Workdir { .. } | Op::Config => false,
            };
            if matches!(&named.location, NamedLocation::Files(location) if is_local(location)) && steps().any(reads) {
                locals.insert(named.name.clone());
            }
        }
        locals
    }

    fn steps_of<'b>(&'b self, stages: &'b BTreeSet<usize>) -> impl Iterator<Item = &'b Step> {
        stages.iter().flat_map(|&at| &self.plan.stages[at].steps)
    }

    fn runs<'b>(&'b self, stages: &'b BTreeSet<usize>) -> impl Iterator<Item = &'b Run> {
        self.steps_of(stages).filter_map(|step| match &step.op {
            Op::Run(run) => Some(run),
            _ => None,
        })
    }

    fn has_no_network(&self, run: &Run) -> bool {
        match run.network {
            Network::None => true,
            Network::Default => self.request.around.network == Access::None,
            Network::Host => false,
        }
    }

    /// Returns what was done, in the order of the plan.
    fn steps(&self, stages: &BTreeSet<usize>) -> Vec<Value> {
        let mut steps = Vec::new();
        for &at in stages {
            let stage = &self.plan.stages[at];
            for step in &stage.steps {
                let line = self.dockerfile.line_of(step.span.start);
                steps.push(json!({
                    "id": format!("step{}", steps.len()),
                    "stage": stage.name,
                    "platform": stage.platform.normalised().to_string(),
                    "line": line,
                    "instruction": step.text,
                }));
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_addresses_as_packages() {
        let platform: Platform = "linux/arm64/v8".parse().unwrap();
        let digest = crate::oci::Digest::of(b"x");
        for (name, expected) in [
            ("alpine", "pkg:docker/alpine@latest?platform=linux%2Farm64".to_owned()),
            ("docker://alpine:3.17", "pkg:docker/alpine@3.17?platform=linux%2Farm64".into()),
            ("127.0.0.1:5000/a/b:1", "pkg:docker/127.0.0.1:5000/a/b@1?platform=linux%2Farm64".into()),
            (
                &format!("ghcr.io/a/b:1@{digest}"),
                format!("pkg:docker/ghcr.io/a/b@1?digest={digest}&platform=linux%2Farm64"),
            ),
            (&format!("alpine@{digest}"), format!("pkg:docker/alpine?digest={digest}&platform=linux%2Farm64")),
        ] {
            assert_eq!(package(name, Some(&platform)), Some(expected), "{name}");
        }
    }
}
