use std::path::PathBuf;

use super::network::NetworkRequest;
use super::{PullRequest, PushRequest, UsageError};
use crate::cli::args::{LoginArgs, LogoutArgs, Named, PullArgs, PullPolicy, PushArgs, RegistryArgs};
use crate::cli::environment::Environment;
use crate::config::{Credentials, GivenCredentials, Places};
use crate::net::RetryPolicy;
use crate::oci::Reference;
use crate::output::Location;
use crate::output::content::Selection;
use crate::registry::TlsCheck;

/// How registries are talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryRequest {
    /// Where the user's files are.
    pub places: Places,
    /// Who we are to the registries that the command line names, where that was said.
    pub credentials: Option<GivenCredentials>,
    /// Whether certificates are checked.
    pub tls: TlsCheck,
    /// How hosts are reached.
    pub network: NetworkRequest,
}

impl RegistryRequest {
    pub(super) fn new(args: RegistryArgs, environment: &Environment) -> Result<Self, UsageError> {
        let absolute = |path: Option<PathBuf>| path.map(|path| environment.absolute(&path)).transpose();
        let mut network = NetworkRequest::new(environment);
        let usual = RetryPolicy::default();
        network.retry.retries = args.retry.unwrap_or(usual.retries);
        network.retry.delay = args.retry_delay.map_or(usual.delay, |time| time.0);
        let mut given = args.given;
        let clients = given.clients.iter_mut().flat_map(|(_, client)| [&mut client.certificate, &mut client.key]);
        for file in given.roots.iter_mut().map(|(_, file)| file).chain(clients) {
            *file = environment.absolute(file)?;
        }
        Ok(RegistryRequest {
            places: Places {
                given,
                auth_file: absolute(args.authfile)?.or(places(environment)?.auth_file),
                cert_dir: absolute(args.cert_dir)?,
                ..places(environment)?
            },
            credentials: args.creds.and_then(|creds| {
                let credentials = Credentials::parse(&creds.0)?;
                Some(GivenCredentials { credentials, images: Vec::new() })
            }),
            tls: tls(args.tls_verify),
            network,
        })
    }
}

impl RegistryRequest {
    /// Says which images the command line names: what it says of who we are is for their registries.
    pub(super) fn naming(mut self, images: impl IntoIterator<Item = String>) -> Self {
        if let Some(given) = &mut self.credentials {
            given.images.extend(images);
        }
        self
    }

    /// As [`naming`](Self::naming), of what may lie elsewhere.
    pub(super) fn naming_places<'a>(self, places: impl IntoIterator<Item = &'a Named>) -> Self {
        self.naming(places.into_iter().filter_map(|named| match named {
            Named::Place(location) => in_registry(location),
            Named::Store(_) => None,
        }))
    }
}

/// Returns the name of an image that is pushed: a short one is one of docker.io, whatever the files say.
pub(super) fn in_full(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.to_string())
}

/// Returns the image of a location in a registry.
pub(super) fn in_registry(location: &Location) -> Option<String> {
    match location {
        Location::Registry(reference) => Some(reference.to_string()),
        _ => None,
    }
}

fn tls(verify: Option<bool>) -> TlsCheck {
    match verify {
        None => TlsCheck::AsConfigured,
        Some(true) => TlsCheck::Always,
        Some(false) => TlsCheck::Never,
    }
}

/// Returns where the user's files about registries are.
fn places(environment: &Environment) -> Result<Places, UsageError> {
    let path = |name: &str| environment.var(name).map(|path| environment.absolute(path.as_ref())).transpose();
    // The XDG specification: a relative path is to be ignored.
    let dir = |name: &str| environment.var(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = dir("HOME");
    let below = |name: &str| home.as_ref().map(|home| home.join(name));
    Ok(Places {
        auth_file: path("REGISTRY_AUTH_FILE")?,
        runtime_dir: dir("XDG_RUNTIME_DIR"),
        docker_dir: path("DOCKER_CONFIG")?.or(below(".docker")),
        config_dir: dir("XDG_CONFIG_HOME").or(below(".config")),
        registries_conf: path("CONTAINERS_REGISTRIES_CONF")?,
        ..Places::default()
    })
}

impl PullRequest {
    pub(super) fn new(args: PullArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        let is_registry = matches!(args.source.location, Location::Registry(_));
        if args.all_tags && (!is_registry || has_tag(&args.source.written)) {
            return Err(UsageError::OneTag { name: args.source.written });
        }
        if args.all_tags && args.policy == PullPolicy::Never {
            return Err(UsageError::NoList);
        }
        let named = is_registry.then(|| args.source.written.clone());
        Ok(PullRequest {
            root,
            all_tags: args.all_tags,
            source: located(args.source.location, environment)?,
            written: args.source.written,
            name: args.name,
            policy: args.policy,
            selection: super::images::selection(args.platform.or(args.parts.platform()), args.all),
            quiet: args.quiet,
            registry: RegistryRequest::new(args.registry, environment)?.naming(named),
        })
    }
}

impl PushRequest {
    pub(super) fn new(args: PushArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        if args.all_tags && has_tag(&args.name) {
            return Err(UsageError::OneTag { name: args.name });
        }
        let named = match &args.destination {
            Some(destination) => in_registry(destination),
            None => Some(in_full(&args.name)),
        };
        Ok(PushRequest {
            root,
            all_tags: args.all_tags,
            name: args.name,
            destination: args.destination.map(|location| located(location, environment)).transpose()?,
            selection: match (args.all, args.platform) {
                (true, _) => Some(Selection::All),
                (false, platform) => platform.map(Selection::Platform),
            },
            digest_file: args.digestfile.map(|path| environment.absolute(&path)).transpose()?,
            quiet: args.quiet,
            look: super::look::checked(args.look.look()?)?,
            registry: RegistryRequest::new(args.registry, environment)?.naming(named),
        })
    }
}

/// Whether a name says a tag or a digest.
fn has_tag(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']))
}

/// Returns a location with an absolute path.
fn located(mut location: Location, environment: &Environment) -> Result<Location, UsageError> {
    if let Some(path) = location.path_mut() {
        *path = environment.absolute(path)?;
    }
    Ok(location)
}

/// `coracle login`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRequest {
    /// The registry, or a part of it.
    pub registry: String,
    /// What it is called in the file.
    pub key: String,
    /// What is to be done.
    pub action: LoginAction,
    /// How registries are talked to.
    pub access: RegistryRequest,
}

/// What `login` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginAction {
    /// Tell who is logged in.
    Show,
    /// Log in, with the password from standard input, or from the terminal.
    LogIn {
        /// The name of the account; `None` to ask for it.
        user: Option<String>,
        /// Where the password comes from.
        password: PasswordFrom,
    },
}

/// Where a password comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordFrom {
    /// All of standard input.
    Stdin,
    /// The user is asked.
    Terminal,
}

impl LoginRequest {
    pub(super) fn new(args: LoginArgs, environment: &Environment) -> Result<Self, UsageError> {
        let action = match (args.get_login, args.password_stdin, args.username) {
            (true, ..) => LoginAction::Show,
            (false, true, None) => return Err(UsageError::PasswordWithoutUser),
            (false, true, user) => LoginAction::LogIn { user, password: PasswordFrom::Stdin },
            (false, false, user) => LoginAction::LogIn { user, password: PasswordFrom::Terminal },
        };
        let RegistryArgs { creds, retry, retry_delay, .. } = RegistryArgs::default();
        let LoginArgs { authfile, cert_dir, tls_verify, compat_auth_file, .. } = args;
        let registry = host(&args.registry);
        let key = match &compat_auth_file {
            // Docker knows hosts only, and its own under an old name.
            Some(_) if registry.contains('/') => return Err(UsageError::DockerKnowsHosts { registry }),
            Some(_) if registry == "docker.io" => "https://index.docker.io/v1/".into(),
            _ => registry.clone(),
        };
        let authfile = authfile.or(compat_auth_file);
        let flags =
            RegistryArgs { authfile, creds, cert_dir, tls_verify, retry, retry_delay, ..RegistryArgs::default() };
        Ok(LoginRequest { registry, key, action, access: RegistryRequest::new(flags, environment)? })
    }
}

/// `coracle logout`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogoutRequest {
    /// The registry, or a part of it; `None` for all.
    pub registry: Option<String>,
    /// Where the user's files are.
    pub places: Places,
}

impl LogoutRequest {
    pub(super) fn new(args: LogoutArgs, environment: &Environment) -> Result<Self, UsageError> {
        let flags = RegistryArgs { authfile: args.authfile.or(args.compat_auth_file), ..RegistryArgs::default() };
        let places = RegistryRequest::new(flags, environment)?.places;
        Ok(LogoutRequest { registry: (!args.all).then(|| host(&args.registry)), places })
    }
}

/// Returns a registry as names of images have it; many write it as a URL.
fn host(text: &str) -> String {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let is_url = rest.len() != text.len();
    let host = if is_url { rest.split('/').next().unwrap_or(rest) } else { rest.trim_end_matches('/') };
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        host => host.into(),
    }
}
