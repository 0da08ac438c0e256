use std::io;

use oci_spec::image::Descriptor;

use super::Origin;
use crate::oci::{Digest, digest_of};
use crate::output::OutputError;
use crate::output::source::{Failure, Meter, copy_bytes};
use crate::registry::RegistryError;
use crate::store::{PartialBlob, Store, StoreError};

/// Brings the blob that `descriptor` leads to into the store, verified. One that comes over a network goes on where an earlier attempt
/// stopped, be it in another process.
///
/// # Errors
/// [`OutputError`].
pub(in crate::output) fn bring(
    from: &dyn Origin,
    descriptor: &Descriptor,
    store: &Store,
    meter: &Meter<'_>,
) -> Result<(), OutputError> {
    if from.is_remote() {
        return bring_as(from, descriptor, meter, &|digest, size| store.partial_blob(digest, size));
    }
    let (digest, size) = (digest_of(descriptor)?, descriptor.size());
    let mut writer = store.blob_writer()?;
    let (mut reader, length) = from.blob(descriptor)?;
    if length != size {
        return Err(from.wrong((digest, size), (digest, length)));
    }
    let copied = copy_bytes(&mut reader, &mut writer, size, meter);
    let copied = copied.map_err(|failure| match failure {
        Failure::Read(source) => read_failed(from, &digest, source),
        Failure::Write(source) => writer.error(source).into(),
    })?;
    if copied != size {
        return Err(from.wrong((digest, size), (digest, copied)));
    }
    match writer.finish_as(&digest, size) {
        Err(StoreError::Mismatch { found, found_size, .. }) => Err(from.wrong((digest, size), (found, found_size))),
        other => Ok(other?),
    }
}

/// Brings a blob over a network to the place that `begin` says, which may have a part of it.
///
/// # Errors
/// [`OutputError`].
pub(in crate::output) fn bring_as(
    from: &dyn Origin,
    descriptor: &Descriptor,
    meter: &Meter<'_>,
    begin: &dyn Fn(&Digest, u64) -> Result<PartialBlob, StoreError>,
) -> Result<(), OutputError> {
    let (digest, size) = (digest_of(descriptor)?, descriptor.size());
    loop {
        let mut blob = begin(&digest, size)?;
        let kept = blob.kept();
        meter.advance(kept);
        if kept < size {
            let (mut reader, length) = from.blob_from(descriptor, kept)?;
            if length != size {
                return Err(from.wrong((digest, size), (digest, length)));
            }
            let copied = copy_bytes(&mut reader, &mut blob, size - kept, meter).map_err(|failure| match failure {
                Failure::Read(source) => read_failed(from, &digest, source),
                Failure::Write(source) => write_failed(&digest, source),
            })?;
            if copied != size - kept {
                return Err(from.wrong((digest, size), (digest, kept + copied)));
            }
        }
        match blob.finish()? {
            None => return Ok(()),
            // What was there already may be at fault: it is thrown away now.
            Some(_) if kept > 0 => {}
            Some(found) => return Err(from.wrong((digest, size), (found, size))),
        }
    }
}

/// Returns the error for a blob that cannot be read: where it comes over a network, what happened there.
pub(in crate::output) fn read_failed(from: &dyn Origin, digest: &Digest, source: io::Error) -> OutputError {
    match source.downcast::<RegistryError>() {
        Ok(error) => error.into(),
        Err(source) => OutputError::Read { what: from.blob_name(digest), source },
    }
}

fn write_failed(digest: &Digest, source: io::Error) -> OutputError {
    StoreError::Io { call: "write", path: digest.to_string().into(), source }.into()
}
