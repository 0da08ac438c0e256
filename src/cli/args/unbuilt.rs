//! Flags that users of docker, buildah and podman expect and that are not there yet: they must hear so, and not that
//! their flag is unknown.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Error};

use super::Cli;

/// For each verb: flags of others, with a space between them, short ones too.
const UNBUILT: &[(&str, &str)] = &[
    (
        "build",
        "--allow --builder \
         --cgroupns \
         --compress --cpp-flag --cpu-period --cpu-quota --cpu-shares --cpuset-cpus --cpuset-mems \
         --cw --debug -D --decryption-key --from \
         --group-add --hooks-dir --identity-label \
         --ipc --layer-label --logfile --logsplit --log-rusage \
         --no-hostname --os-feature \
         --pid --policy \
         --runtime --runtime-flag --security-opt --sign-by --signature-policy \
         --source-policy-file --stdin \
         --userns --userns-gid-map --userns-uid-map \
         --uts",
    ),
    (
        "run",
        "--annotation --attach -a --cgroupns --cidfile \
         --cpu-shares -c --cpuset-cpus --detach -d --device --env-file --expose \
         --gidmap --gpus --group-add --health-cmd --hostname --http-proxy --init --ip --ipc \
         --label -l --link --log-driver --log-opt --mount --name \
         --no-healthcheck --oom-score-adj --pid --platform --privileged --publish-all -P --pull --quiet -q --read-only --replace --restart --runtime --secret --security-opt \
         --sig-proxy --stop-signal --stop-timeout --sysctl --timeout --tmpfs --tty -t --tz --uidmap \
         --umask --unsetenv --userns --uts --volumes-from",
    ),
    ("pull", "--signature-policy"),
    ("push", "--encryption-key --remove-signatures --rm --sign-by"),
    ("images", "--history --tree"),
    ("inspect", "--latest -l --size -s"),
    ("history", "--human -H"),
    ("rmi", "--no-prune --platform --prune -p"),
    (
        "copy",
        "--additional-tag --dest-compress --dest-creds --encryption-key --multi-arch --preserve-digests \
         --remove-signatures --retry-times --sign-by --src-creds",
    ),
    ("save", "--compress --multi-image-archive -m --platform"),
    ("prune", "--build-cache --external --min-free-space --reserved-space --volumes"),
    ("version", "--format -f"),
    ("login", "--password -p"),
];

/// What to do in place of a flag, where that can be said.
fn instead(verb: &str, flag: &str) -> Option<&'static str> {
    Some(match (verb, flag) {
        ("build", "--compress") => "--compression says how layers are compressed",
        ("build", "--debug" | "-D") => "--progress=plain shows all that steps write",
        ("build", "--userns" | "--userns-uid-map" | "--userns-gid-map") => {
            "each build has a user namespace of its own, with all ids that /etc/subuid and /etc/subgid give the caller"
        }
        ("build", "--cgroupns" | "--pid" | "--ipc" | "--uts") => {
            "each step has namespaces of its own where the machine allows it; --isolation=chroot shares those of here"
        }
        ("build", "--from") => "--build-context NAME=docker-image://OTHER puts another image in the place of NAME",
        ("build", "--layer-label" | "--identity-label") => "--label is for the image, and no other label is added",
        ("build", "--security-opt") => "--cap-add, --cap-drop and --isolation say what steps may do",
        ("build", "--logfile") => "what is told goes to standard error: 2>FILE",
        ("build", "--stdin") => "steps read nothing; RUN --mount=type=bind or a here-document gives them text",
        ("build", "--os-feature") => "--os-version says the version of the operating system",
        ("build", "--no-hostname") => "/etc/hostname is that of the image in any case",
        ("run", "--tty" | "-t") => "the command has coracle's standard input and output, but no terminal of its own",
        ("run", "--publish-all" | "-P") => "the container is on the host's network: its ports are there already",
        ("run", "--quiet" | "-q") => "`coracle run` prints nothing of its own",
        ("push", "--remove-signatures") => "signatures are not in the store, and never pushed with an image",
        ("copy", "--remove-signatures") => "signatures stay behind in any case, but for --referrers",
        ("copy", "--preserve-digests") => "digests are kept unless --format or docker-archive makes new manifests",
        ("copy", "--multi-arch") => "--all copies all platforms, --platform one",
        ("save", "--multi-image-archive" | "-m") => "name several images: all go into the archive",
        ("login", "--password" | "-p") => {
            "others can read the command line; --password-stdin takes it from standard input: \
             echo \"$PASSWORD\" | coracle login -u NAME --password-stdin HOST"
        }
        _ => return None,
    })
}

/// Returns `error` in clearer words where it is about a flag that is not built yet, else unchanged.
pub(super) fn explain(error: Error, args: &[OsString]) -> Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return error };
    let mut command = Cli::command();
    command.build();
    let verb = args.iter().skip(1).filter_map(|arg| arg.to_str()).find_map(|arg| command.find_subcommand(arg));
    let Some(verb) = verb else { return error };
    // clap reports `--flag=value` with, and `-xvalue` without its value.
    let flag = flag.split_once('=').map_or(flag.as_str(), |(flag, _)| flag);
    let known = UNBUILT.iter().any(|(name, flags)| *name == verb.get_name() && flags.split(' ').any(|f| f == flag));
    if !known {
        return error;
    }
    let advice = instead(verb.get_name(), flag).map(|advice| format!("\n\n  = hint: {advice}")).unwrap_or_default();
    let message = format!("{flag} is not supported yet by `coracle {}`{advice}", verb.get_name());
    verb.clone().error(ErrorKind::UnknownArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flag_of_the_table_exists() {
        let command = Cli::command();
        for (verb, flags) in UNBUILT {
            let verb = command.find_subcommand(verb).expect("a verb");
            for flag in flags.split(' ') {
                let taken = verb.get_arguments().any(|arg| match flag.strip_prefix("--") {
                    Some(long) => arg.get_long() == Some(long),
                    None => arg.get_short() == flag.chars().nth(1) || flag.len() != 2,
                });
                assert!(!taken, "{} {flag}", verb.get_name());
            }
        }
    }

    #[test]
    fn a_flag_of_others_is_not_supported_yet_and_a_mistyped_one_unknown() {
        let explained = |line: &str| {
            let error = super::super::parse(line.split(' ').map(OsString::from)).expect_err(line);
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        for (line, flag) in [
            ("coracle build --uts=host .", "--uts"),
            ("coracle build --policy=x .", "--policy"),
            ("coracle --root /x build --cpp-flag=-D .", "--cpp-flag"),
            ("coracle run -it web", "-t"),
            ("coracle run --name=x web", "--name"),
            ("coracle rmi --prune web", "--prune"),
        ] {
            let text = explained(line);
            assert!(text.starts_with(&format!("error: {flag} is not supported yet by `coracle ")), "{line}: {text}");
        }
        // CI logs keep what is printed.
        for line in ["coracle login --password=hush -u me", "coracle login -u me -phush"] {
            let text = explained(line);
            assert!(text.contains("--password-stdin") && !text.contains("hush"), "{line}: {text}");
        }
        let text = explained("coracle build --targte x .");
        assert!(text.contains("unexpected argument '--targte'") && text.contains("'--target'"), "{text}");
    }
}
