use std::path::Path;

use super::*;
use crate::build::{Around, CachePolicy, CacheUse, Times};
use coracle_runtime::probe::Wanted;

use crate::cli::args::{
    self, Compression, ContextLocation, Destination, Document, FilesOutput, Named, OutputSpec, PullPolicy, SourceArgs,
};
use crate::cli::args::{ImageOutput, Look, SortKey};
use crate::cli::progress::Mode;
use crate::cli::report::Style;
use crate::config::{Credentials, GivenCredentials, Places};
use crate::net::{Proxies, RetryPolicy, Roots};
use crate::oci::Platform;
use crate::output::content::{Form as ManifestForm, Selection};
use crate::registry::TlsCheck;
use crate::store::{Act, Keep, LabelIs, PruneOptions};
use crate::tree::TreePath;
use coracle_runtime::container::{Limits, Swap, UlimitKind};
use std::time::Duration;

/// Returns an environment with HOME, and more variables.
fn environment(vars: &[(&str, &str)]) -> Environment {
    let vars = [("HOME", "/home/ann"), ("TERM", "xterm")].iter().chain(vars);
    Environment {
        vars: vars.map(|(name, value)| (name.into(), value.into())).collect(),
        cwd: Some("/home/ann/web".into()),
        ..Environment::default()
    }
}

/// What is said about registries without a flag.
fn registry() -> RegistryRequest {
    let config_dir = Some("/home/ann/.config".into());
    let docker_dir = Some("/home/ann/.docker".into());
    let places = Places { docker_dir, config_dir, ..Places::default() };
    let network = network(RetryPolicy::default());
    RegistryRequest { places, credentials: None, tls: TlsCheck::AsConfigured, network }
}

fn network(retry: RetryPolicy) -> NetworkRequest {
    NetworkRequest { roots: Roots::default(), proxies: Proxies::default(), retry }
}

fn meant_in(environment: &Environment, words: &[&str]) -> Result<Request, UsageError> {
    let line = ["coracle"].iter().chain(words).map(Into::into);
    Request::new(args::parse(line).unwrap_or_else(|error| panic!("{words:?}: {error}")), environment)
}

fn meant(line: &str) -> Result<Request, UsageError> {
    meant_in(&environment(&[]), &line.split(' ').collect::<Vec<_>>())
}

fn build_in(environment: &Environment, words: &[&str]) -> Result<BuildRequest, UsageError> {
    match meant_in(environment, words)? {
        Request::Build(request) => Ok(*request),
        other => panic!("{words:?} is {other:?}"),
    }
}

fn build(line: &str) -> Result<BuildRequest, UsageError> {
    build_in(&environment(&[]), &line.split(' ').collect::<Vec<_>>())
}

fn run(words: &[&str]) -> Result<RunRequest, UsageError> {
    match meant_in(&environment(&[]), words)? {
        Request::Run(request) => Ok(*request),
        other => panic!("{words:?} is {other:?}"),
    }
}

/// What is read where only a folder is named.
fn sources(folder: &str) -> SourcesRequest {
    let meant = SourcesRequest::new(SourceArgs::default(), Path::new(folder), &environment(&[]));
    SourcesRequest { context: ContextLocation::Path(folder.into()), ..meant.expect("a folder") }
}

#[test]
fn a_build_of_this_folder_has_the_defaults() {
    let want = BuildRequest {
        root: "/home/ann/.local/share/coracle".into(),
        sources: sources("/home/ann/web"),
        tags: vec![],
        target: None,
        build_args: vec![],
        platforms: Platforms::OfBase,
        locked: false,
        bundle: None,
        changes: Changes::default(),
        rewrite_times: None,
        host: HostRequest::default(),
        cache: CachePolicy::default(),
        cache_from: vec![],
        cache_to: vec![],
        pull: PullPolicy::Missing,
        outputs: vec![],
        registry: registry(),
        digest_files: Default::default(),
        iidfile: None,
        metadata_file: None,
        progress: Mode::Plain,
        style: Style::Plain,
        isolation: Wanted::Any,
        jobs: None,
        times: Times::Keep,
        look: Look::default(),
        attest: AttestRequest::default(),
        limits: Limits::default(),
        task: Task::Build,
        explain: false,
        output_style: Style::Plain,
        around: Around::default(),
        given: GivenRequest::default(),
        warnings: vec![],
    };
    assert_eq!(build("build ."), Ok(want));
}

#[test]
fn a_build_with_every_flag() {
    let environment = environment(&[("TOKEN", "secret")]);
    let words = "--root store build -t web:1 --tag web:1 -t web:latest -f ../Dockerfile --target test --build-arg A=1 \
                 --build-arg TOKEN --build-arg UNSET --label org.example=x=y --label flag --no-cache --pull newer \
                 -o type=oci,dest=web.tar --output out --iidfile id --metadata-file /m.json --progress json \
                 --isolation userns --jobs 4 --timestamp 1700000000 --compression zstd:9 --ignorefile ignore --push --locked \
                 --authfile auth.json --creds ann:pass:word --cert-dir /certs --tls-verify=false --retry 7 \
                 --retry-delay 500ms --context-sub-path inner app/./src";
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let want = BuildRequest {
        root: "/home/ann/web/store".into(),
        sources: SourcesRequest {
            dockerfile: DockerfileFrom::File {
                path: "/home/ann/web/../Dockerfile".into(),
                written: "../Dockerfile".into(),
            },
            below: TreePath::new("inner").expect("a path"),
            ignore_file: Some("/home/ann/web/ignore".into()),
            network: network(RetryPolicy { retries: 7, delay: Duration::from_millis(500), ..RetryPolicy::default() }),
            ..sources("/home/ann/web/app/src")
        },
        tags: vec!["web:1".into(), "web:latest".into()],
        target: Some("test".into()),
        build_args: vec![pair("A", "1"), pair("TOKEN", "secret")],
        platforms: Platforms::OfBase,
        locked: true,
        bundle: None,
        changes: Changes { labels: vec![pair("org.example", "x=y"), pair("flag", "")], ..Changes::default() },
        rewrite_times: None,
        host: HostRequest::default(),
        cache: CachePolicy { uses: CacheUse::Ignore, ..CachePolicy::default() },
        cache_from: vec![],
        cache_to: vec![],
        pull: PullPolicy::Newer,
        outputs: vec![
            OutputSpec::OciArchive(Destination::File("/home/ann/web/web.tar".into()), Look::default()),
            OutputSpec::Local("/home/ann/web/out".into(), FilesOutput::default()),
            OutputSpec::Image(ImageOutput { push: true, ..ImageOutput::default() }),
        ],
        registry: RegistryRequest {
            places: Places {
                auth_file: Some("/home/ann/web/auth.json".into()),
                cert_dir: Some("/certs".into()),
                ..registry().places
            },
            credentials: Credentials::parse("ann:pass:word").map(|credentials| GivenCredentials {
                credentials,
                images: ["web:1", "web:latest"].map(|name| format!("docker.io/library/{name}")).into(),
            }),
            tls: TlsCheck::Never,
            network: network(RetryPolicy { retries: 7, delay: Duration::from_millis(500), ..RetryPolicy::default() }),
        },
        digest_files: Default::default(),
        iidfile: Some("/home/ann/web/id".into()),
        metadata_file: Some("/m.json".into()),
        progress: Mode::Json,
        style: Style::Plain,
        isolation: Wanted::UserNamespace,
        jobs: Some(4),
        times: Times::Set(1_700_000_000),
        look: Look { compression: Some(Compression::Zstd(9)), ..Look::default() },
        attest: AttestRequest::default(),
        limits: Limits::default(),
        task: Task::Build,
        explain: false,
        output_style: Style::Plain,
        around: Around::default(),
        given: GivenRequest::default(),
        warnings: vec![],
    };
    assert_eq!(build_in(&environment, &words.split_whitespace().collect::<Vec<_>>()), Ok(want));
}

#[test]
fn pull_takes_a_word_or_none_and_leaves_the_context_alone() {
    for (line, pull) in [
        ("build --pull .", PullPolicy::Always),
        ("build . --pull", PullPolicy::Always),
        ("build --pull -t web .", PullPolicy::Always),
        ("build --pull always .", PullPolicy::Always),
        ("build --pull=never .", PullPolicy::Never),
        ("build . --pull missing", PullPolicy::Missing),
    ] {
        let request = build(line).expect(line);
        assert_eq!(
            (request.pull, request.sources.context),
            (pull, ContextLocation::Path("/home/ann/web".into())),
            "{line}"
        );
    }
    assert_eq!(build("build --pull sometimes ."), Err(UsageError::BadPull { word: "sometimes".into() }));
    assert_eq!(build("build --pull"), Err(UsageError::NoContext));
    assert_eq!(build("build --pull always"), Err(UsageError::NoContext));
}

#[test]
fn a_context_is_a_folder_or_elsewhere() {
    for (context, kind) in [
        ("-", ContextLocation::Stdin),
        ("https://example.org/a.tar", ContextLocation::Url("https://example.org/a.tar".into())),
        ("../a:b", ContextLocation::Path("/home/ann/web/../a:b".into())),
    ] {
        assert_eq!(build(&format!("build {context}")).expect(context).sources.context, kind);
    }
    for git in ["https://example.org/a.git#v1:dir", "git@example.org:a", "github.com/a/b"] {
        let context = build(&format!("build {git}")).expect(git).sources.context;
        assert!(matches!(context, ContextLocation::Git(_)), "{git}");
    }
    for bad in ["s3://bucket/a", "https://example.org/a.git#-x"] {
        assert!(matches!(build(&format!("build {bad}")), Err(UsageError::Location(_))), "{bad}");
    }
    assert_eq!(build("build -f - -"), Err(UsageError::StdinTwice));
    let elsewhere = build("build -f http://example.org/Dockerfile .").expect("a URL").sources.dockerfile;
    assert_eq!(elsewhere, DockerfileFrom::Url("http://example.org/Dockerfile".into()));
    assert_eq!(build_in(&environment(&[]), &["build", "--pull", ""]), Err(UsageError::NoContext));
    let gone = Environment { cwd: None, ..environment(&[]) };
    assert_eq!(build_in(&gone, &["build", "."]), Err(UsageError::NoWorkingDirectory { path: ".".into() }));
    assert!(build_in(&gone, &["build", "/app"]).is_ok());
}

#[test]
fn only_one_output_goes_to_standard_output_and_never_to_a_terminal() {
    let request = build("build -o - .").expect("one output");
    assert!(request.stdout_is_taken());
    assert_eq!(build("build -o - -o type=oci,dest=- ."), Err(UsageError::TwoToStdout));
    let terminal = Environment { stdout_is_terminal: true, ..environment(&[]) };
    assert_eq!(build_in(&terminal, &["build", "-o", "-", "."]), Err(UsageError::ArchiveToTerminal));
}

#[test]
fn two_flags_never_write_the_same_file() {
    let same = UsageError::SameFile { path: "/home/ann/web/a".into() };
    assert_eq!(build("build --iidfile a --metadata-file ./a ."), Err(same.clone()));
    assert_eq!(build("build -o type=tar,dest=a --iidfile a ."), Err(same));
    assert!(build("build --iidfile /dev/null --metadata-file /dev/null .").is_ok());
}

#[test]
fn times_come_from_the_flag_or_the_variable() {
    let epoch = environment(&[("SOURCE_DATE_EPOCH", "1600000000")]);
    let times = |environment: &Environment, words: &[&str]| build_in(environment, words).map(|build| build.times);
    assert_eq!(times(&epoch, &["build", "."]), Ok(Times::Clamp(1_600_000_000)));
    assert_eq!(times(&epoch, &["build", "--timestamp", "0", "."]), Ok(Times::Set(0)));
    let bad = environment(&[("SOURCE_DATE_EPOCH", "today")]);
    assert_eq!(times(&bad, &["build", "."]), Err(UsageError::BadEpoch { value: "today".into() }));
    assert!(meant_in(&bad, &["images"]).is_ok());
}

#[test]
fn progress_is_drawn_on_a_terminal() {
    let terminal = Environment { stderr_is_terminal: true, ..environment(&[]) };
    let mode = |words: &[&str]| build_in(&terminal, words).map(|build| build.progress);
    assert_eq!(mode(&["build", "."]), Ok(Mode::Tty));
    assert_eq!(mode(&["build", "--progress", "plain", "."]), Ok(Mode::Plain));
    assert_eq!(mode(&["build", "-q", "."]), Ok(Mode::Quiet));
    assert_eq!(build("build --progress tty .").map(|build| build.progress), Ok(Mode::Tty));
}

#[test]
fn buildahs_isolation_is_a_wish_and_the_flag_counts_more() {
    for (value, words, wanted, warned) in [
        ("chroot", &["build", "."][..], Wanted::ChrootFirst, false),
        ("rootless", &["build", "."], Wanted::Any, false),
        ("oci", &["build", "."], Wanted::Any, false),
        ("default", &["build", "."], Wanted::Any, false),
        ("", &["build", "."], Wanted::Any, false),
        ("vm", &["build", "."], Wanted::Any, true),
        ("chroot", &["build", "--isolation=userns", "."], Wanted::UserNamespace, false),
        ("vm", &["build", "--isolation=none", "."], Wanted::Nothing, false),
        ("oci", &["build", "--isolation=chroot", "."], Wanted::Chroot, false),
        ("oci", &["build", "--isolation=single-id", "."], Wanted::OneId, false),
    ] {
        let build = build_in(&environment(&[("BUILDAH_ISOLATION", value)]), words).expect("makes sense");
        assert_eq!((build.isolation, build.warnings.len()), (wanted, usize::from(warned)), "{value} {words:?}");
    }
}

#[test]
fn a_dockerfile_can_come_from_standard_input() {
    assert_eq!(build("build -f - .").map(|build| build.sources.dockerfile), Ok(DockerfileFrom::Stdin));
}

#[test]
fn all_behind_the_image_belongs_to_the_command() {
    let request =
        run(&["run", "--rm", "-e", "A=1", "web:1", "-e", "x", "--root", "/y", "--", "--help"]).expect("a run");
    assert_eq!(request.image, "web:1");
    assert_eq!(request.command, ["-e", "x", "--root", "/y", "--", "--help"]);
    assert_eq!(request.env, [("A".into(), "1".into())]);
    assert_eq!(request.root, PathBuf::from("/home/ann/.local/share/coracle"));
    assert!(run(&["run", "web:1"]).expect("a run").command.is_empty());
    assert_eq!(run(&["run", "--", "web:1", "ls"]).expect("a run").command, ["ls"]);
}

#[test]
fn a_run_with_every_flag() {
    let request = run(&["run", "-w", "/srv", "-u", "1000:1000", "--entrypoint", "sh", "web:1", "-c", "ls"]);
    let request = request.expect("a run");
    assert_eq!(request.workdir.as_deref(), Some("/srv"));
    assert_eq!(request.user.as_deref(), Some("1000:1000"));
    assert_eq!(request.entrypoint, Some(vec!["sh".into()]));
    let entrypoint = |text| run(&["run", "--entrypoint", text, "web:1"]).expect("a run").entrypoint;
    assert_eq!(entrypoint(""), Some(vec![]));
    assert_eq!(entrypoint("[\"sh\", \"-c\"]"), Some(vec!["sh".into(), "-c".into()]));
    assert_eq!(entrypoint("[sh]"), Some(vec!["[sh]".into()]));
    assert_eq!(run(&["run", "-w", "srv", "web:1"]), Err(UsageError::RelativeWorkdir { path: "srv".into() }));
    assert_eq!(run(&["run", ""]), Err(UsageError::NoImage));
}

#[test]
fn the_other_verbs() {
    let root = PathBuf::from("/s");
    let location = |text: &str| text.parse().expect("a location");
    let name = || "web:1".to_owned();
    let listed = |form| ImagesRequest {
        root: root.clone(),
        form,
        pattern: None,
        filters: Vec::new(),
        unnamed: false,
        full: false,
        sort: SortKey::default(),
        headless: false,
    };
    for (line, want) in [
        (
            "--root /s pull oci:base:1 web:1",
            Request::Pull(PullRequest {
                all_tags: false,
                root: root.clone(),
                source: location("oci:/home/ann/web/base:1"),
                written: "oci:base:1".into(),
                name: Some(name()),
                policy: PullPolicy::Always,
                selection: Selection::Platform(Platform::host()),
                quiet: false,
                registry: registry(),
            }),
        ),
        (
            "push --root /s web:1 docker-archive:/a.tar",
            Request::Push(PushRequest {
                all_tags: false,
                look: Look::default(),
                root: root.clone(),
                name: name(),
                destination: Some(location("docker-archive:/a.tar")),
                selection: None,
                digest_file: None,
                quiet: false,
                registry: registry(),
            }),
        ),
        ("--root /s images", Request::Images(listed(Form::Table))),
        ("--root /s images -q", Request::Images(listed(Form::Ids))),
        ("--root /s images --json", Request::Images(listed(Form::Json))),
        ("--root /s images --format json", Request::Images(listed(Form::Json))),
        (
            "--root /s inspect web:1 --type manifest",
            Request::Inspect(InspectRequest {
                root: root.clone(),
                temp: "/tmp".into(),
                name: Named::Store(name()),
                document: Some(Document::Manifest),
                raw: false,
                template: None,
                platform: Platform::host(),
                registry: registry(),
            }),
        ),
        (
            "--root /s history web:1 --no-trunc",
            Request::History(HistoryRequest {
                root: root.clone(),
                name: name(),
                form: Form::Table,
                full: true,
                platform: Platform::host(),
            }),
        ),
        (
            "--root /s tag web:1 web:2",
            Request::Tag(TagRequest { root: root.clone(), name: name(), new: vec!["web:2".into()] }),
        ),
        (
            "--root /s rmi web:1 web:2",
            Request::Rmi(RmiRequest { root: root.clone(), names: Some(vec![name(), "web:2".into()]), ignore: false }),
        ),
        ("--root /s rmi -a", Request::Rmi(RmiRequest { root: root.clone(), names: None, ignore: false })),
        (
            "--root /s copy -a web:1 dir:out --format v2s2",
            Request::Copy(CopyRequest {
                quiet: false,
                root: root.clone(),
                temp: "/tmp".into(),
                source: Named::Store(name()),
                destination: Named::Place(location("dir:/home/ann/web/out")),
                selection: Selection::All,
                form: Some(ManifestForm::Docker),
                referrers: false,
                digestfile: None,
                registry: registry(),
            }),
        ),
        (
            "--root /s prune --all --json",
            Request::Prune(PruneRequest {
                root: root.clone(),
                options: PruneOptions { keep: Keep::Named, ..PruneOptions::default() },
                json: true,
            }),
        ),
        (
            "--root /s prune --max-size 10g --keep-for 7d --filter label!=keep=yes --dry-run",
            Request::Prune(PruneRequest {
                root: root.clone(),
                options: PruneOptions {
                    keep: Keep::Cache,
                    max_size: Some(10 << 30),
                    keep_for: Some(std::time::Duration::from_secs(604_800)),
                    labels: vec![LabelIs { key: "keep".into(), value: Some("yes".into()), wanted: false }],
                    act: Act::Look,
                },
                json: false,
            }),
        ),
        ("version --json", Request::Version(VersionRequest { json: true })),
        (
            "--root /s doctor",
            Request::Doctor(DoctorRequest { root: Ok(root.clone()), temp: "/tmp".into(), json: false, colour: false }),
        ),
    ] {
        assert_eq!(meant(line), Ok(want), "{line}");
    }
}

#[test]
fn only_verbs_that_need_the_store_need_a_home() {
    let homeless = Environment::default();
    assert_eq!(meant_in(&homeless, &["images"]), Err(UsageError::NoRoot));
    assert!(meant_in(&homeless, &["version"]).is_ok());
    let doctor = DoctorRequest { root: Err(UsageError::NoRoot), temp: "/tmp".into(), json: false, colour: false };
    assert_eq!(meant_in(&homeless, &["doctor"]), Ok(Request::Doctor(doctor)));
}

#[test]
fn limits_are_those_of_docker() {
    let limits = |flags: &str| {
        let words: Vec<&str> = ["build"].into_iter().chain(flags.split_whitespace()).chain(["."]).collect();
        match meant_in(&environment(&[]), &words) {
            Ok(Request::Build(build)) => Ok(build.limits),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    };
    let some =
        limits("-m 1g --memory-swap 1.5g --cpus 1.5 --pids-limit 20 --ulimit core=0 --shm-size 1m").expect("sense");
    assert_eq!((some.memory, some.swap), (Some(1 << 30), Some(Swap::Bytes(1 << 29))));
    assert_eq!((some.cpus, some.pids, some.shm), (Some(1500), Some(20), Some(1 << 20)));
    assert_eq!(some.ulimits[0].kind, UlimitKind::Core);
    assert_eq!(limits("-m 1g --memory-swap -1").expect("sense").swap, Some(Swap::Unlimited));
    assert_eq!(limits("--memory 0 --cpus 0 --pids-limit -1 --shm-size 0").expect("sense"), Limits::default());
    assert_eq!(limits("--memory 1m"), Err(UsageError::TooLittleMemory { least: 6 << 20 }));
    assert_eq!(limits("--memory-swap 1g"), Err(UsageError::SwapWithoutMemory));
    assert_eq!(limits("--memory 1g --memory-swap 1m"), Err(UsageError::SwapLessThanMemory));
}

#[test]
fn who_we_are_to_a_registry() {
    let login = |words: &[&str]| match meant_in(&environment(&[("REGISTRY_AUTH_FILE", "auth.json")]), words) {
        Ok(Request::Login(request)) => Ok((request.registry, request.action, request.access.places.auth_file)),
        Ok(other) => panic!("{words:?} is {other:?}"),
        Err(error) => Err(error),
    };
    let file = Some(PathBuf::from("/home/ann/web/auth.json"));
    let stdin = |user: &str| LoginAction::LogIn { user: Some(user.into()), password: PasswordFrom::Stdin };
    assert_eq!(
        login(&["login", "-u", "ann", "--password-stdin"]),
        Ok(("docker.io".into(), stdin("ann"), file.clone()))
    );
    let asked = LoginAction::LogIn { user: None, password: PasswordFrom::Terminal };
    assert_eq!(login(&["login", "https://index.docker.io/v1/"]), Ok(("docker.io".into(), asked, file.clone())));
    assert_eq!(
        login(&["login", "--get-login", "r.example/team/"]),
        Ok(("r.example/team".into(), LoginAction::Show, file))
    );
    assert_eq!(login(&["login", "--password-stdin"]), Err(UsageError::PasswordWithoutUser));
    let all = match meant("logout --all").expect("meant") {
        Request::Logout(request) => request.registry,
        other => panic!("{other:?}"),
    };
    assert_eq!(all, None);
    assert_eq!(build("build --push ."), Err(UsageError::PushWithoutTag));
}
