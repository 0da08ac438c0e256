//! Images whose documents are in the store, and whose layers still are to come: that is put off until they can be unpacked while
//! they come, for which the process must have entered what it works in.

use std::cell::RefCell;

use oci_spec::image::Descriptor;

use super::registry::{LazyClient, remote_error};
use super::report::Failure;
use crate::build::Builder;
use crate::oci::Reference;
use crate::output::remote::ArrivingIn;
use crate::registry::Located;
use crate::source::Span;
use crate::store::{Arrivals, Image, Store, StoreError};

/// The images that are waited for.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    waiting: RefCell<Vec<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    found: Located,
    image: Image,
    descriptor: Descriptor,
    name: Reference,
    span: Option<Span>,
}

/// An image did not come.
pub(super) struct NotArrived {
    /// Where it is named.
    pub span: Option<Span>,
    /// Why.
    pub failure: Failure,
}

impl Arriving {
    /// Puts an image on the list, whose documents are in the store; `descriptor` is what `name` is to lead to.
    pub fn add(&self, found: Located, image: Image, descriptor: Descriptor, name: &Reference) {
        self.waiting.borrow_mut().push(Waiting { found, image, descriptor, name: name.clone(), span: None });
    }

    /// Tells where those are named that were put on the list last.
    pub fn named_at(&self, span: Span) {
        self.waiting.borrow_mut().iter_mut().filter(|one| one.span.is_none()).for_each(|one| one.span = Some(span));
    }

    /// Brings the layers of all images into the store, and unpacks them while they come, where that can be. They have no name yet.
    pub fn bring(&self, builder: &mut Builder<'_>, client: &LazyClient<'_>) -> Result<Arrived, NotArrived> {
        let waiting = self.waiting.take();
        if waiting.is_empty() {
            return Ok(Arrived(Vec::new()));
        }
        let (store, sink, arrivals) = (builder.store, builder.sink, Arrivals::default());
        let destination = ArrivingIn { store, arrivals: &arrivals };
        let images: Vec<Image> = waiting.iter().map(|one| one.image.clone()).collect();
        builder.unpack_while(&images, &arrivals, || {
            for Waiting { found, span, .. } in &waiting {
                let failed = |failure| NotArrived { span: *span, failure };
                let client = client.get().map_err(failed)?;
                client.fetch(found, &destination, sink).map_err(|error| failed(remote_error(error)))?;
            }
            Ok(())
        })?;
        Ok(Arrived(waiting.into_iter().map(|one| (one.name, one.descriptor)).collect()))
    }
}

/// Images all of whose blobs are in the store now.
pub(super) struct Arrived(Vec<(Reference, Descriptor)>);

impl Arrived {
    /// Gives them their names.
    pub fn name(self, store: &Store) -> Result<(), StoreError> {
        self.0.iter().try_for_each(|(name, descriptor)| store.tag(&[name.to_string()], descriptor))
    }
}
