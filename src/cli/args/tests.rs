use clap::CommandFactory;

use super::*;

fn refused(line: &str) -> String {
    let error = parse(line.split(' ').map(OsString::from)).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}");
    error.to_string()
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn what_is_refused_and_how() {
    for (line, words) in [
        ("coracle build", "<CONTEXT>"),
        ("coracle build a b", "unexpected argument 'b'"),
        ("coracle build --progress loud .", "[possible values: auto, tty, plain, json, quiet]"),
        ("coracle build --isolation vm .", "[possible values: auto, userns, single-id, chroot, none]"),
        ("coracle build -q --progress plain .", "cannot be used with"),
        ("coracle build --jobs 0 .", "0 is not in 1..=1024"),
        ("coracle build --build-arg =x .", "there is no name before the equals sign"),
        ("coracle build --label =x .", "there is no name before the equals sign"),
        ("coracle build --compression xz .", "use none, gzip, gzip:0 to gzip:12, zstd, or zstd:1 to zstd:19"),
        ("coracle build --compression gzip:99 .", "gzip:0 to gzip:12"),
        ("coracle build --timestamp -1 .", "a time is a number of seconds since 1970"),
        ("coracle build -o type=moby .", "type=moby is not supported yet"),
        ("coracle build -t  .", "a value is required for '--tag <NAME>'"),
        ("coracle run", "<IMAGE>"),
        ("coracle run -e =x web", "there is no name before the equals sign"),
        ("coracle pull docker://Busybox", "is not the name of an image in a registry"),
        ("coracle pull containers-storage:busybox", "podman save"),
        ("coracle push", "<NAME>"),
        ("coracle pull --creds secret web", "credentials are USER:PASSWORD"),
        ("coracle pull --tls-verify=maybe web", "[possible values: true, false]"),
        ("coracle push --retry-delay 1d web", "a time is a number"),
        ("coracle images -q --json", "cannot be used with"),
        ("coracle inspect web --type layers", "[possible values: config, manifest, index, image, referrers]"),
        ("coracle copy web", "<DESTINATION>"),
        ("coracle copy containers-storage:web oci:x", "podman save"),
        ("coracle copy -a --platform linux/arm64 web oci:x", "cannot be used with"),
        ("coracle images --filter x", "there is no equals sign in it"),
        ("coracle rmi", "<NAME>..."),
        ("coracle biuld", "similar subcommands exist: 'bundle', 'build'"),
    ] {
        let said = refused(line);
        assert!(said.starts_with("error: ") && said.contains(words), "{line}: {said}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for line in [&["coracle", "--help"][..], &["coracle", "build", "-h"], &["coracle", "--version"]] {
        let error = parse(line.iter().map(OsString::from)).expect_err("help comes back as an error");
        assert_eq!(error.exit_code(), 0);
    }
}

fn help(verb: Option<&str>) -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let command = match verb {
        Some(verb) => command.find_subcommand_mut(verb).expect("a verb"),
        None => &mut command,
    };
    command.render_help().to_string()
}

#[test]
fn help_is_a_verb_too() {
    let said = |line: &str| {
        let error = parse(line.split(' ').map(OsString::from)).expect_err("help comes back as an error");
        (error.exit_code(), error.to_string())
    };
    for verb in ["", " build", " run", " prune"] {
        assert_eq!(said(&format!("coracle help{verb}")), said(&format!("coracle{verb} --help")), "{verb}");
    }
    for (line, same) in [
        ("coracle help manifest create", "coracle manifest create --help"),
        ("coracle help cache export x", "coracle cache export --help"),
        ("coracle help run -it busybox ls", "coracle run --help"),
        ("coracle help unshare ls", "coracle unshare --help"),
    ] {
        assert_eq!(said(line), said(same), "{line}");
    }
    for line in ["coracle help biuld", "coracle help manifest biuld"] {
        let (code, text) = said(line);
        assert!(code == 2 && text.contains("biuld"), "{text}");
    }
}

#[test]
fn every_flag_of_every_verb_is_explained() {
    let mut command = Cli::command();
    command.build();
    for verb in command.get_subcommands() {
        assert!(verb.get_about().is_some(), "{}", verb.get_name());
        for arg in verb.get_arguments() {
            assert!(arg.get_help().is_some(), "{} {}", verb.get_name(), arg.get_id());
        }
    }
}

#[test]
fn the_help_of_coracle() {
    let want = r#"Builds container images without a daemon, without root, and without asking the administrator for
anything

Usage: coracle [OPTIONS] <COMMAND>

Commands:
  build     Build an image from a Dockerfile
  lock      Write down what a Dockerfile names elsewhere, as it is now
  bundle    Take what a Dockerfile names elsewhere to where there is no network
  run       Run a command in a new container of an image
  pull      Bring an image into the store
  push      Write an image of the store somewhere else
  copy      Copy an image from one place to another as it is
  save      Write images of the store into an archive
  load      Bring the images of an archive into the store
  login     Keep credentials for a registry
  logout    Forget credentials for a registry
  images    List the images in the store
  inspect   Show what an image says about itself
  history   Show the steps that made an image
  diff      Show in what two images differ
  tag       Give an image more names
  untag     Take names from images
  rmi       Remove images: their names; `prune` takes what has none
  manifest  Make and change lists of images for several platforms
  prune     Remove what no image needs
  cache     List, remove, prune, export and import cache mounts
  df        Show what takes how much of the disk
  context   Look at what a build can see
  unshare   Run a command with the ids that steps have
  version   Show the version
  info      Show the store, this machine and what a build will use
  doctor    Show what this machine allows, and how to get more

Options:
  -V, --version  Print version

Everywhere:
      --root <DIR>  The store [default: $CORACLE_ROOT, or coracle in the XDG data folder]
  -h, --help        Print this help

Examples:
  coracle pull busybox                           bring a base image in: FROM does it too
  coracle build -t web:1 .                       build the Dockerfile of this folder
  coracle run --rm web:1                         try it
  coracle push web:1 registry.example/web:1      hand it on
  coracle doctor                                 see what this machine allows
  coracle help build                             the flags of a verb

The store is the folder that --root names, else $CORACLE_ROOT, else $XDG_DATA_HOME/coracle, else
$HOME/.local/share/coracle.

Exit status: 0 done, 1 the build failed, 2 usage, 3 an input is bad, 4 network, 5 store,
6 this machine cannot do it, 10 a plan misses, 125 a fault of coracle, 130 interrupted
"#;
    assert_eq!(help(None), want);
}

#[test]
fn the_help_of_build() {
    let want = r#"Build an image from a Dockerfile

Usage: coracle build [OPTIONS] CONTEXT

Arguments:
  [CONTEXT]  What COPY copies from: a folder, or see below

Options:
  -t, --tag <NAME>                  Give the image this name; can be repeated
  -f, --file <FILE>                 Instructions [default: Containerfile or Dockerfile of CONTEXT]
                                    [alias: --dockerfile]
      --ignorefile <FILE>           Leave out what FILE says, in place of .dockerignore
      --context-sub-path <DIR>      Take only this folder of CONTEXT
      --build-context <NAME=PLACE>  Name files or an image for FROM and --from; can be repeated
      --target <STAGE>              Build this stage [default: the last]
      --build-arg <NAME[=VALUE]>    Set an ARG, or hand on a variable of here; can be repeated
      --label <NAME[=VALUE]>        Add a label to the image; can be repeated
      --pull [<POLICY>]             Look for base images: always, missing, newer or never
  -o, --output <SPEC>               Write the result here too: see below; can be repeated
      --load                        Keep the image in the store: so it is in any case
      --push                        Push the image too, to the registry of each of its names
      --iidfile <FILE>              Write the image's id to FILE
      --metadata-file <FILE>        Write what is known about the result to FILE, as JSON
      --progress <HOW>              auto, tty, plain, json or quiet [default: auto]
  -q, --quiet                       Print the image's id only: --progress=quiet
      --isolation <HOW>             How to isolate RUN: auto, userns, single-id, chroot or none
                                    [default: auto]
      --jobs <N>                    Stages at the same time, at most [default: one a processor]
      --timestamp <TIME>            Set all times to this one: seconds since 1970, or RFC 3339
      --compression <KIND[:LEVEL]>  How to compress layers: gzip, zstd or none [default: gzip]
      --force-compression[=<BOOL>]  Compress the layers of base images so too
      --format <FORM>               The form of manifests: oci or docker [default: oci]
      --annotation <KEY=VALUE>      Annotate the image: see below; can be repeated
      --provenance <SPEC>           Say how the image was made: true, false, or mode=min|max,…
      --sbom <SPEC>                 Say what is in the image: true, false, or generator=IMAGE
      --attest <SPEC>               The same in one flag: type=provenance,… or type=sbom,…; can be
                                    repeated
      --platform <PLATFORM,…>       Build for these platforms, as linux/amd64,linux/arm64
      --all-platforms               Build for all platforms that the base images share
      --arch <ARCH>                 The processor of --platform alone [default: that of this
                                    machine]
      --os <OS>                     The operating system of --platform alone [default: linux]
      --variant <VARIANT>           The variant of --arch
      --os-version <VERSION>        The version of the operating system that the image says
      --locked                      Use what the lock beside the Dockerfile says, and nothing else
      --bundle <FILE>               Take images, URLs and Git commits from this bundle alone

The image:
      --env <NAME[=VALUE]>            Set a variable of the image alone: steps do not see it; can be
                                      repeated
      --unsetenv <NAME>               Take a variable out of the image; can be repeated
      --unsetlabel <NAME>             Take a label out of the image; can be repeated
      --unsetannotation <KEY>         Take an annotation out of the manifest; can be repeated
      --inherit-labels[=<BOOL>]       Have the labels of base images and stages [default: true]
      --inherit-annotations[=<BOOL>]  Have the annotations of the base image [default: false]
      --omit-history[=<BOOL>]         Leave the history out of the image
      --source-date-epoch <SECONDS>   SOURCE_DATE_EPOCH: the latest time of a file and of the image
      --rewrite-timestamp[=<BOOL>]    false: SOURCE_DATE_EPOCH is for the image alone, not for files
      --squash[=<BOOL>]               Make one layer of those that the build adds
      --squash-all[=<BOOL>]           Make one layer of all, the base image's too
      --manifest <NAME>               Add the image to this list of the store, in place of one for
                                      its platform

Cache:
      --no-cache                  Run every step, also those whose result is known
      --no-cache-filter <STAGES>  Run every step of these stages: a,b
      --cache-from <SPEC>         Take results from here: type=registry,ref=NAME,
                                  type=local,src=DIR, type=s3,bucket=NAME or type=gha; can be
                                  repeated
      --cache-to <SPEC>           Write results to here: as --cache-from, with dest= and
                                  mode=min|max, or type=inline; can be repeated
      --cache-ttl <TIME>          Results may be this old: 90m, 24h, 7d

Limits:
  -m, --memory <SIZE>              Memory: bytes, or with b, k, m or g
      --memory-swap <SIZE>         Memory and swap together, or -1 [default: twice --memory]
      --cpus <NUMBER>              Processors: 1.5
      --pids-limit <N>             Processes and threads
      --ulimit <NAME=SOFT[:HARD]>  A limit of each process, as nofile=1024:4096; can be repeated
      --cgroup-parent <PATH>       Make the control group of each command in this one, which must be
                                   yours: /builds
      --shm-size <SIZE>            Size of /dev/shm [default: 64m]

Network and privileges:
      --network <MODE>           default, none or host: the host's, or none [default: default]
      --add-host <NAME:ADDRESS>  A line for /etc/hosts: NAME:ADDRESS, or NAME:host-gateway; can be
                                 repeated
      --no-hosts                 Leave /etc/hosts as it is in the image
      --dns <ADDRESS>            A server for names in place of the host's, or none; can be repeated
      --dns-search <DOMAIN>      A domain to search in place of the host's; . is none
      --dns-option <OPTION>      An option of resolv.conf in place of the host's
      --cap-add <NAME>           Give root a capability, or ALL; can be repeated
      --cap-drop <NAME>          Take a capability from root, or ALL; can be repeated

What of the host each RUN sees:
      --volume <SPEC>        A file or folder: SOURCE:TARGET[:ro|O]; without ro or O no RUN is in
                             the cache; can be repeated
      --device <SPEC>        A device: PATH[:TARGET]; no RUN is in the cache then; can be repeated
      --http-proxy[=<BOOL>]  Hand on HTTP_PROXY and its sisters as they are set here

For RUN --mount, and when a RUN fails:
      --secret <SPEC>        A secret: id=NAME[,src=FILE] or id=NAME,env=VARIABLE; can be repeated
      --ssh <SPEC>           An ssh agent: default, NAME=SOCKET or NAME=KEYFILE; can be repeated
      --cache-dir <DIR>      The folder of cache mounts [default: $CORACLE_CACHE_DIR, or in the
                             store]
      --on-failure <ACTION>  shell, save=DIR or export=PATH:FILE; the last two can be repeated

As kaniko has it (docs/kaniko.md):
  -c, --context <CONTEXT>   The context: a folder, dir://, tar:// or git://
  -d, --destination <NAME>  Name the image, and push it there; can be repeated
      --no-push[=<BOOL>]    Do not push [possible values: true, false]
      --digest-file <FILE>  Write the digest to FILE

Registries:
      --authfile <FILE>        Take credentials from FILE, and from nowhere else
      --creds <USER:PASSWORD>  Show these credentials to the registries named here
      --cert-dir <DIR>         Trust the certificates in DIR: *.crt; *.cert and *.key are ours
      --tls-verify[=<BOOL>]    Demand TLS and check certificates, or do not: true or false
      --retry <N>              Try again N times [default: 3]
      --retry-delay <TIME>     Wait so long before the first of them: 2s, 500ms, 1m [default: 1s]

Ask before or after:
      --check           Check the Dockerfile and build nothing: --call=check
      --call <METHOD>   build, check, outline or targets; `,format=json` behind it
      --plan[=<FORM>]   Say what is in the cache and build nothing: text or json
      --plan-exit-code  With --plan, exit with 10 where a step would have to run
      --explain         Say of each step that is not in the cache what changed

Everywhere:
      --root <DIR>  The store [default: $CORACLE_ROOT, or coracle in the XDG data folder]
  -h, --help        Print this help

Examples:
  coracle build -t web:1 .                                  into the store
  coracle build -f deploy/Dockerfile --target test .        one stage of another file
  coracle build -t web:1 -o type=oci,dest=web.tar .         into an archive too
  coracle build -t registry.example/web:1 --push .          into a registry too
  coracle build --build-arg VERSION=3 --build-arg TOKEN .   TOKEN as it is set here

Contexts:
  DIR                           a folder
  FILE                          a tar archive, compressed or not
  -                             such an archive, or a Dockerfile alone, on standard input
  https://HOST/FILE             the same behind a URL
  https://HOST/REPO.git#REF:DIR a directory at a branch, tag or commit; also ssh://, git@HOST:PATH
--build-context takes NAME=DIR, FILE, a URL, docker-image://IMAGE or oci-layout://DIR[:TAG].

Outputs:
  type=oci,dest=FILE            an OCI archive; dest=- is standard output
  type=oci,dest=DIR,tar=false   an OCI image layout
  type=docker,dest=FILE         what `docker load` reads
  type=local,dest=DIR           the files of the image; DIR alone is the same
  type=tar,dest=FILE            the files of the image in a tar file
  type=registry[,name=NAME]     a registry, as --push; push-by-digest=true gives it no tag there
  type=image,name=NAME          one more name in the store
  type=cacheonly                nothing but the results of steps: the image gets no name
oci, image and registry also take compression=KIND, compression-level=N, force-compression=true,
oci-mediatypes=false and annotation.KEY=VALUE, for this output alone or for the image in all places.
local and tar take platform-split=BOOL, local mode=delete: files that the image lacks are removed.
A part with a comma stands in quotes: 'type=local,"dest=a,b"'

--annotation is for the manifest, and LEVEL:KEY=VALUE for a level: manifest, manifest-descriptor,
index, index-descriptor; manifest[linux/arm64]:KEY=VALUE is for the image of one platform.

--file - reads the instructions from standard input.
--build-arg NAME hands on the variable NAME, where it is set.
--pull alone means always; without it, base images are looked for where they are missing.
--compression takes levels from gzip:1 to gzip:12 and from zstd:1 to zstd:19.
SOURCE_DATE_EPOCH, where it is set, is the latest time that a file or the image gets.
"#;
    assert_eq!(help(Some("build")), want);
}
