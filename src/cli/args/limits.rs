use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use coracle_runtime::container::{LEAST_CPUS, Ulimit, UlimitKind};

/// Flags that limit what a container may use. Names and units are those of docker.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Memory: bytes, or with b, k, m or g
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Memory and swap together, or -1 [default: twice --memory]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    pub memory_swap: Option<SwapSize>,
    /// Processors: 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<Cpus>,
    /// Processes and threads
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<Pids>,
    /// A limit of each process, as nofile=1024:4096; can be repeated
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub ulimits: Vec<UlimitArg>,
    /// Make the control group of each command in this one, which must be yours: /builds
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<PathBuf>,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<Size>,
}

/// The value of a limit makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// No size.
    #[error("a size is a number, and b, k, m or g behind it: 512m")]
    Size,
    /// No number of processors.
    #[error("a number of processors is at least 0.01, with at most three places: 1.5")]
    Cpus,
    /// No number of processes.
    #[error("a number of processes is 1 or more; -1 is no limit")]
    Pids,
    /// Not of the form of a ulimit.
    #[error("a ulimit is NAME=SOFT or NAME=SOFT:HARD with numbers, where -1 is no limit: nofile=1024:4096")]
    Ulimit,
    /// A kind of ulimit that is not there.
    #[error("there is no ulimit {name:?} (there are {})", names())]
    UlimitName {
        /// As it was given.
        name: String,
    },
    /// The soft limit is over the hard one.
    #[error("the soft limit of {name} is over its hard limit")]
    SoftOverHard {
        /// Its name.
        name: &'static str,
    },
}

fn names() -> String {
    UlimitKind::ALL.map(UlimitKind::name).join(", ")
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = LimitError;

    /// The rule of docker: a decimal number, a letter for a power of 1024, and nothing, `b` or `ib` behind it.
    fn from_str(text: &str) -> Result<Self, LimitError> {
        let lower = text.to_ascii_lowercase();
        let end = lower.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(lower.len());
        let (number, unit) = lower.split_at(end);
        let unit = unit.trim_start();
        let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(unit) {
            "" if unit != "ib" => 0,
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            "p" => 5,
            _ => return Err(LimitError::Size),
        };
        thousandths(number, u128::MAX)
            .and_then(|value| value.checked_mul(1024_u128.pow(power)))
            .and_then(|value| u64::try_from(value / 1000).ok())
            .map(Size)
            .ok_or(LimitError::Size)
    }
}

/// `--memory-swap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwapSize {
    /// `-1`.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
}

impl FromStr for SwapSize {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        match text {
            "-1" => Ok(SwapSize::Unlimited),
            text => Ok(SwapSize::Bytes(text.parse::<Size>()?.0)),
        }
    }
}

/// Processors, in thousandths of one; `None` for no limit, which is 0 as with docker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpus(pub Option<u32>);

impl FromStr for Cpus {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let places = text.split_once('.').map_or(0, |(_, places)| places.trim_end_matches('0').len());
        match thousandths(text, 1_000_000_000).and_then(|value| u32::try_from(value).ok()) {
            Some(0) if places == 0 => Ok(Cpus(None)),
            Some(value) if value >= LEAST_CPUS && places <= 3 => Ok(Cpus(Some(value))),
            _ => Err(LimitError::Cpus),
        }
    }
}

/// Processes and threads; `None` for no limit, which is -1 or 0 as with docker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pids(pub Option<u32>);

impl FromStr for Pids {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        match text.parse::<i64>() {
            Ok(-1 | 0) => Ok(Pids(None)),
            Ok(number) => u32::try_from(number).map(|number| Pids(Some(number))).map_err(|_| LimitError::Pids),
            Err(_) => Err(LimitError::Pids),
        }
    }
}

/// One `--ulimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UlimitArg(pub Ulimit);

impl FromStr for UlimitArg {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let (name, values) = text.split_once('=').ok_or(LimitError::Ulimit)?;
        let kind = UlimitKind::from_name(name).ok_or_else(|| LimitError::UlimitName { name: name.into() })?;
        let number = |text: &str| match text {
            "-1" => Ok(None),
            text if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map(Some).map_err(|_| LimitError::Ulimit)
            }
            _ => Err(LimitError::Ulimit),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (number(soft)?, number(hard)?);
        let is_over = hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard));
        if is_over {
            Err(LimitError::SoftOverHard { name: kind.name() })
        } else {
            Ok(UlimitArg(Ulimit { kind, soft, hard }))
        }
    }
}

/// Returns a decimal number in thousandths, where it is less than `most` of them; more places than three are cut.
fn thousandths(text: &str, most: u128) -> Option<u128> {
    let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(places) {
        return None;
    }
    let places: String = places.chars().chain("000".chars()).take(3).collect();
    let value = whole.parse::<u128>().ok()?.checked_mul(1000)? + places.parse::<u128>().ok()?;
    (value < most).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("64b", 64),
            ("2k", 2048),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("1GB", 1 << 30),
            ("1GiB", 1 << 30),
            ("10 m", 10 << 20),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1.", ".5", "1e3", "1mm", "99999999999999999999g", "1ib", "1bk"] {
            assert_eq!(text.parse::<Size>(), Err(LimitError::Size), "{text}");
        }
        assert_eq!("-1".parse(), Ok(SwapSize::Unlimited));
        assert_eq!("1g".parse(), Ok(SwapSize::Bytes(1 << 30)));
    }

    #[test]
    fn processors_have_three_places() {
        for (text, cpus) in
            [("1", Some(1000)), ("0.5", Some(500)), ("1.250", Some(1250)), ("0.01", Some(10)), ("0", None)]
        {
            assert_eq!(text.parse(), Ok(Cpus(cpus)), "{text}");
        }
        for text in ["", "0.001", "0.0005", "1.2345", "-1", "all", "1,5", "99999999999"] {
            assert_eq!(text.parse::<Cpus>(), Err(LimitError::Cpus), "{text}");
        }
    }

    #[test]
    fn a_number_of_processes_may_be_no_limit() {
        assert_eq!("20".parse(), Ok(Pids(Some(20))));
        assert_eq!("-1".parse(), Ok(Pids(None)));
        assert_eq!("0".parse(), Ok(Pids(None)));
        for text in ["-2", "x", "", "4294967296"] {
            assert_eq!(text.parse::<Pids>(), Err(LimitError::Pids), "{text}");
        }
    }

    #[test]
    fn ulimits_have_a_name_and_one_or_two_numbers() {
        let parse =
            |text: &str| text.parse::<UlimitArg>().map(|ulimit| (ulimit.0.kind.name(), ulimit.0.soft, ulimit.0.hard));
        assert_eq!(parse("nofile=1024"), Ok(("nofile", Some(1024), Some(1024))));
        assert_eq!(parse("nofile=1024:4096"), Ok(("nofile", Some(1024), Some(4096))));
        assert_eq!(parse("core=0:-1"), Ok(("core", Some(0), None)));
        assert_eq!(parse("stack=-1"), Ok(("stack", None, None)));
        assert_eq!(parse("core=2:1"), Err(LimitError::SoftOverHard { name: "core" }));
        assert_eq!(parse("core=-1:1"), Err(LimitError::SoftOverHard { name: "core" }));
        for text in ["nofile", "nofile=", "nofile=a", "nofile=1:", "nofile=1:2:3", "nofile=+1", "nofile=-2"] {
            assert_eq!(parse(text), Err(LimitError::Ulimit), "{text}");
        }
        let error = parse("files=1").expect_err("no such ulimit").to_string();
        assert!(error.contains("\"files\"") && error.contains("nofile"), "{error}");
    }
}
