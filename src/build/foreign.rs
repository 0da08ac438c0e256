//! Programs for another processor: whether the kernel of this machine hands them to an emulator.
//!
//! What it hands to whom is in a folder, but containers mostly do not see that: there a program that does nothing is tried.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::oci::Platform;

/// Where the kernel says which programs it hands to which interpreter. It shows nothing where that is not mounted.
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// The first bytes of a program: class (1 is 32 bits, 2 is 64), byte order (1 is little, 2 is big) and machine of its ELF header.
const MACHINES: [(&str, u8, u8, u16); 15] = [
    ("386", 1, 1, 3),
    ("amd64", 2, 1, 62),
    ("arm", 1, 1, 40),
    ("arm64", 2, 1, 183),
    ("loong64", 2, 1, 258),
    ("mips", 1, 2, 8),
    ("mips64", 2, 2, 8),
    ("mips64le", 2, 1, 8),
    ("mipsle", 1, 1, 8),
    ("ppc64", 2, 2, 21),
    ("ppc64le", 2, 1, 21),
    ("riscv64", 2, 1, 243),
    ("s390x", 2, 2, 22),
    ("sparc64", 2, 2, 43),
    ("ppc", 1, 2, 20),
];

/// What the programs do that are tried: the machine code of `exit(42)`, and the flags of its ELF header. Where there is none, the
/// folder alone counts.
const EXITS: [(&str, u32, &[u32]); 7] = [
    ("arm", 0x0500_0000, &[0xe3a0_7001, 0xe3a0_002a, 0xef00_0000]),
    ("arm64", 0, &[0xd280_0ba8, 0xd280_0540, 0xd400_0001]),
    ("loong64", 0x43, &[0x0281_740b, 0x0280_a804, 0x002b_0000]),
    ("mips64le", 0x8000_0007, &[0x2402_13c2, 0x2404_002a, 0x0000_000c]),
    ("ppc64le", 2, &[0x3800_0001, 0x3860_002a, 0x4400_0002]),
    ("riscv64", 0, &[0x05d0_0893, 0x02a0_0513, 0x0000_0073]),
    // A load, and a call of two bytes.
    ("s390x", 0, &[0xa729_002a, 0x0a01_0000]),
];

/// How they end.
const ENDS: i32 = 42;

/// Returns whether programs for `platform` run on this machine, by themselves or in an emulator. `scratch` is a folder for a program.
pub(super) fn runs(platform: &Platform, scratch: &Path) -> bool {
    let handlers = Path::new(HANDLERS);
    runs_on(platform, &Platform::host(), handlers)
        // Where the kernel's folder is there, what is not in it does not run.
        || (platform.os == "linux" && !handlers.join("status").exists() && is_tried(platform, scratch))
}

/// Returns the platforms of other processors whose programs run on this machine in an emulator. `scratch` is a folder for programs.
pub fn emulated(scratch: &Path) -> Vec<Platform> {
    let host = Platform::host().normalised();
    let platforms = MACHINES.iter().map(|(name, ..)| Platform { architecture: (*name).into(), ..host.clone() });
    // What runs by itself needs none.
    let foreign = platforms
        .map(|platform| Platform { variant: None, ..platform })
        .filter(|platform| !runs_on(platform, &host, Path::new("/nonexistent")));
    foreign.filter(|platform| runs(platform, scratch)).collect()
}

/// Returns whether a program for `platform` that is tried runs.
fn is_tried(platform: &Platform, scratch: &Path) -> bool {
    let Some(program) = program(&platform.normalised().architecture) else { return false };
    let file = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o700)).tempfile_in(scratch);
    let Ok(mut file) = file else { return false };
    if file.write_all(&program).is_err() {
        return false;
    }
    // Nobody runs what somebody may still write to.
    let path = file.into_temp_path();
    let run = || Command::new(&*path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    for _ in 0..100 {
        match run() {
            // A child that another thread is starting may, until it becomes another program.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::sleep(Duration::from_millis(5)),
            tried => return tried.is_ok_and(|status| status.code() == Some(ENDS)),
        }
    }
    false
}

/// Returns a program for `architecture` that ends with status 42.
fn program(architecture: &str) -> Option<Vec<u8>> {
    let (_, flags, code) = *EXITS.iter().find(|(name, ..)| *name == architecture)?;
    let (_, class, order, _) = *MACHINES.iter().find(|(name, ..)| *name == architecture)?;
    let (wide, little) = (class == 2, order == 1);
    let mut bytes: Vec<u8> = header(architecture)?.into();
    let number = |bytes: &mut Vec<u8>, value: u64, length: usize| match little {
        true => bytes.extend_from_slice(&value.to_le_bytes()[..length]),
        false => bytes.extend_from_slice(&value.to_be_bytes()[8 - length..]),
    };
    let word = if wide { 8 } else { 4 };
    let (head, table): (u64, u64) = if wide { (64, 56) } else { (52, 32) };
    let (base, size) = (0x40_0000, head + table + 4 * code.len() as u64);
    number(&mut bytes, 1, 4);
    // Where it begins, where the table of its segments is, and that it has no sections.
    for value in [base + head + table, head, 0] {
        number(&mut bytes, value, word);
    }
    number(&mut bytes, flags.into(), 4);
    for value in [head, table, 1, 0, 0, 0] {
        number(&mut bytes, value, 2);
    }
    // One segment: the whole file, to be read and run.
    let (load, read_and_run, page) = (1, 5, 0x1_0000);
    number(&mut bytes, load, 4);
    if wide {
        number(&mut bytes, read_and_run, 4);
    }
    for value in [0, base, base, size, size] {
        number(&mut bytes, value, word);
    }
    if !wide {
        number(&mut bytes, read_and_run, 4);
    }
    number(&mut bytes, page, word);
    for instruction in code {
        number(&mut bytes, (*instruction).into(), 4);
    }
    Some(bytes)
}

fn runs_on(platform: &Platform, host: &Platform, handlers: &Path) -> bool {
    let (wanted, host) = (platform.normalised(), host.normalised());
    if wanted.os != "linux" {
        return false;
    }
    // Of a variant that is too new the program itself complains.
    let native = match (host.architecture.as_str(), wanted.architecture.as_str()) {
        (host, wanted) if host == wanted => true,
        ("amd64", "386") => true,
        _ => false,
    };
    native || header(&wanted.architecture).is_some_and(|header| has_handler(handlers, &header))
}

/// Returns the beginning of a program for `architecture`.
fn header(architecture: &str) -> Option<[u8; 20]> {
    let (_, class, order, machine) = *MACHINES.iter().find(|(name, ..)| *name == architecture)?;
    let two = |number: u16| if order == 1 { number.to_le_bytes() } else { number.to_be_bytes() };
    let mut header = [0; 20];
    header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order, 1]);
    // A program, at its place: ET_EXEC.
    header[16..18].copy_from_slice(&two(2));
    header[18..].copy_from_slice(&two(machine));
    Some(header)
}

/// Returns whether a handler takes programs that begin with `header`, and its interpreter needs not be in the image.
fn has_handler(folder: &Path, header: &[u8]) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let texts = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts.into_iter().any(|text| takes(&text, header))
}

/// Returns whether the handler that `text` describes takes `header`.
fn takes(text: &str, header: &[u8]) -> bool {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let bytes = |name: &str| value(name).and_then(from_hex);
    let Some(magic) = bytes("magic ") else { return false };
    let mask = bytes("mask ").unwrap_or_else(|| vec![0xff; magic.len()]);
    let offset = value("offset ").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let fixed = value("flags:").is_some_and(|flags| flags.contains('F'));
    let enabled = text.lines().next() == Some("enabled");
    enabled
        && fixed
        && offset == 0
        && magic.len() <= header.len()
        && mask.len() == magic.len()
        && magic.iter().zip(&mask).zip(header).all(|((magic, mask), byte)| byte & mask == magic & mask)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    if digits.len().is_multiple_of(2) { pairs.collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM64: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";
    const S390X: &str = "enabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: F\noffset 0\n\
        magic 7f454c4602020100000000000000000000020016\nmask ffffffffffffff00fffffffffffffffffffeffff\n";

    fn runs_with(handlers: &[(&str, &str)], platform: &str, host: &str) -> bool {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in handlers {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        runs_on(&platform.parse().unwrap(), &host.parse().unwrap(), folder.path())
    }

    #[test]
    fn programs_of_this_machine_run() {
        for (platform, host) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64"),
            ("linux/386", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm/v6", "linux/arm"),
        ] {
            assert!(runs_with(&[], platform, host), "{platform} on {host}");
        }
        for (platform, host) in [("windows/amd64", "linux/amd64"), ("linux/arm64", "linux/amd64")] {
            assert!(!runs_with(&[], platform, host), "{platform} on {host}");
        }
    }

    #[test]
    fn the_programs_that_are_tried_are_whole_and_end_as_they_should() {
        let folder = tempfile::tempdir().unwrap();
        for (architecture, emulator) in [
            ("arm", "arm"),
            ("arm64", "aarch64"),
            ("loong64", "loongarch64"),
            ("mips64le", "mips64el"),
            ("ppc64le", "ppc64le"),
            ("riscv64", "riscv64"),
            ("s390x", "s390x"),
        ] {
            let file = folder.path().join(architecture);
            std::fs::write(&file, program(architecture).unwrap()).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
            let tried = Command::new(format!("qemu-{emulator}-static")).arg(&file).status();
            match tried {
                Ok(status) => assert_eq!(status.code(), Some(ENDS), "{architecture}"),
                Err(error) => {
                    assert!(std::env::var_os("CI").is_none(), "qemu-{emulator}-static: {error}");
                    eprintln!("skipped: there is no qemu-{emulator}-static (scripts/need test)");
                }
            }
        }
        assert!(program("386").is_none() && !is_tried(&"linux/wasm".parse().unwrap(), folder.path()));
    }

    #[test]
    fn a_handler_makes_programs_of_another_machine_run() {
        let handlers = [("status", "enabled"), ("qemu-aarch64", ARM64), ("qemu-s390x", S390X)];
        for (platform, expected) in
            [("linux/arm64", true), ("linux/s390x", true), ("linux/riscv64", false), ("linux/arm/v7", false)]
        {
            assert_eq!(runs_with(&handlers, platform, "linux/amd64"), expected, "{platform}");
        }
    }

    #[test]
    fn a_handler_that_is_off_or_whose_interpreter_must_be_in_the_image_is_none() {
        let off = ARM64.replace("enabled", "disabled");
        let loose = ARM64.replace("POCF", "POC");
        for text in [off.as_str(), &loose, "enabled\n", "enabled\nflags: F\nmagic 7\n", "", "\u{0}"] {
            assert!(!runs_with(&[("x", text)], "linux/arm64", "linux/amd64"), "{text}");
        }
    }
}
