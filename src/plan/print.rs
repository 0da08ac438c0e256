use std::fmt;

use super::{Add, Base, Copy, CopyFrom, CopySource, Mount, MountKind, Network, Op, Plan, Run, Sharing};

/// Prints a line for each stage and step, the same text for the same plan. Strings that come from the file are quoted, so
/// that no control character gets through.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, stage) in self.stages.iter().enumerate() {
            let target = if self.targets().any(|target| target == number) { " (target)" } else { "" };
            write!(f, "stage {number} {:?} from ", stage.name)?;
            match &stage.base {
                Base::Scratch => write!(f, "scratch")?,
                Base::Image(name) => write!(f, "image {name:?}")?,
                Base::Stage(stage) => write!(f, "stage {stage}")?,
            }
            if stage.platform != self.config(self.target).platform {
                write!(f, " for {}", stage.platform)?;
            }
            writeln!(f, "{target}")?;
            for step in &stage.steps {
                write!(f, "  {} ", step.id.0)?;
                match &step.op {
                    Op::Workdir { path, user } => write!(f, "workdir {path:?} user={user:?}")?,
                    Op::Copy(copy) => print_copy(f, copy)?,
                    Op::Run(run) => print_run(f, run)?,
                    Op::Config => write!(f, "config {:?}", step.created_by)?,
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

fn print_copy(f: &mut fmt::Formatter<'_>, copy: &Copy) -> fmt::Result {
    write!(f, "{} ", if copy.add.is_some() { "add" } else { "copy" })?;
    print_from(f, &copy.from)?;
    write!(f, " [")?;
    for (number, source) in copy.sources.iter().enumerate() {
        write!(f, "{}", if number > 0 { ", " } else { "" })?;
        match source {
            CopySource::Path(path) => write!(f, "{path:?}")?,
            CopySource::Inline { name, text } => write!(f, "inline {name:?} {text:?}")?,
            CopySource::Url(url) => write!(f, "url {url:?}")?,
            CopySource::Git(url) => write!(f, "git {url:?}")?,
        }
    }
    write!(f, "] -> {:?}", copy.destination)?;
    copy.chown.iter().try_for_each(|owner| write!(f, " chown={owner:?}"))?;
    copy.chmod.iter().try_for_each(|mode| write!(f, " chmod={mode}"))?;
    print_if(f, copy.link, "link")?;
    print_if(f, copy.parents, "parents")?;
    if !copy.exclude.is_empty() {
        write!(f, " exclude={:?}", copy.exclude)?;
    }
    if let Some(Add { unpack, checksum, keep_git_dir }) = &copy.add {
        unpack.iter().try_for_each(|unpack| write!(f, " unpack={unpack}"))?;
        checksum.iter().try_for_each(|checksum| write!(f, " checksum={checksum:?}"))?;
        print_if(f, *keep_git_dir == Some(true), "keep-git-dir")?;
    }
    Ok(())
}

fn print_run(f: &mut fmt::Formatter<'_>, run: &Run) -> fmt::Result {
    write!(f, "run {:?} cwd={:?} user={:?} env={:?}", run.args, run.cwd, run.user, run.env)?;
    if !run.uncached_env.is_empty() {
        write!(f, " uncached={:?}", run.uncached_env)?;
    }
    match run.network {
        Network::Default => {}
        Network::None => write!(f, " network=none")?,
        Network::Host => write!(f, " network=host")?,
    }
    if let Some(hostname) = &run.hostname {
        write!(f, " hostname={hostname:?}")?;
    }
    if let Some(script) = &run.script {
        write!(f, " script={:?} {:?}", script.name, script.text)?;
    }
    run.mounts.iter().try_for_each(|mount| print_mount(f, mount))
}

fn print_mount(f: &mut fmt::Formatter<'_>, mount: &Mount) -> fmt::Result {
    write!(f, "\n      mount {:?} ", mount.target)?;
    match &mount.kind {
        MountKind::Bind { from, source, writable } => {
            write!(f, "bind ")?;
            print_from(f, from)?;
            write!(f, " {source:?}")?;
            print_if(f, *writable, "writable")
        }
        MountKind::Cache { id, sharing, from, source, read_only, mode, uid, gid } => {
            write!(f, "cache {id:?}")?;
            match sharing {
                Sharing::Shared => write!(f, " shared")?,
                Sharing::Private => write!(f, " private")?,
                Sharing::Locked => write!(f, " locked")?,
            }
            if let Some(from) = from {
                write!(f, " from ")?;
                print_from(f, from)?;
                write!(f, " {source:?}")?;
            }
            print_if(f, *read_only, "read-only")?;
            write!(f, " mode={mode:04o} owner={uid}:{gid}")
        }
        MountKind::Tmpfs { size } => {
            write!(f, "tmpfs")?;
            size.iter().try_for_each(|size| write!(f, " size={size}"))
        }
        MountKind::Secret { id, env, file, required, mode, uid, gid } => {
            write!(f, "secret {id:?}")?;
            env.iter().try_for_each(|env| write!(f, " env={env:?}"))?;
            print_if(f, *required, "required")?;
            if *file { write!(f, " mode={mode:04o} owner={uid}:{gid}") } else { Ok(()) }
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            write!(f, "ssh {id:?}")?;
            print_if(f, *required, "required")?;
            write!(f, " mode={mode:04o} owner={uid}:{gid}")
        }
    }
}

fn print_from(f: &mut fmt::Formatter<'_>, from: &CopyFrom) -> fmt::Result {
    match from {
        CopyFrom::Context => write!(f, "context"),
        CopyFrom::Stage(stage) => write!(f, "stage {stage}"),
        CopyFrom::Image(name) => write!(f, "image {name:?}"),
        CopyFrom::Named(name) => write!(f, "named {name:?}"),
    }
}

fn print_if(f: &mut fmt::Formatter<'_>, condition: bool, word: &str) -> fmt::Result {
    if condition { write!(f, " {word}") } else { Ok(()) }
}
