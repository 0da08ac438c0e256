//! Programs for another processor: whether the kernel of this machine hands them to an emulator.

use std::path::Path;

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

/// Returns whether programs for `platform` run on this machine, by themselves or in an emulator.
pub(super) fn runs(platform: &Platform) -> bool {
    runs_on(platform, &Platform::host(), Path::new(HANDLERS))
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
