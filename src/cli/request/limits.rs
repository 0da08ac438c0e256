use coracle_runtime::container::{LEAST_MEMORY, Limits, Swap};

use super::UsageError;
use crate::cli::args::{LimitArgs, SwapSize};

/// Returns the limits that the flags ask for.
pub(super) fn limits(args: LimitArgs) -> Result<Limits, UsageError> {
    // As with docker, 0 is no limit.
    let memory = args.memory.map(|size| size.0).filter(|bytes| *bytes != 0);
    if memory.is_some_and(|bytes| bytes < LEAST_MEMORY) {
        return Err(UsageError::TooLittleMemory { least: LEAST_MEMORY });
    }
    // docker's --memory-swap is memory and swap together.
    let swap = match (args.memory_swap, memory) {
        (None | Some(SwapSize::Bytes(0)), _) => None,
        (Some(_), None) => return Err(UsageError::SwapWithoutMemory),
        (Some(SwapSize::Unlimited), _) => Some(Swap::Unlimited),
        (Some(SwapSize::Bytes(total)), Some(memory)) => {
            Some(Swap::Bytes(total.checked_sub(memory).ok_or(UsageError::SwapLessThanMemory)?))
        }
    };
    Ok(Limits {
        memory,
        swap,
        cpus: args.cpus.and_then(|cpus| cpus.0),
        pids: args.pids_limit.and_then(|pids| pids.0),
        ulimits: args.ulimits.into_iter().map(|ulimit| ulimit.0).collect(),
        parent: args.cgroup_parent,
        shm: args.shm_size.map(|size| size.0).filter(|bytes| *bytes != 0),
    })
}
