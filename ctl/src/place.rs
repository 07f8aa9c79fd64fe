//! Where the channels are: root and namespace, as the command line says.

use ringward_recovery::{Channel, Config, Namespace};

use crate::args::Place;
use crate::exit::Failure;

/// Opens the namespace; `create` if whoever asks may be the first there.
pub(crate) fn namespace(place: &Place, create: bool) -> Result<Namespace, Failure> {
    let name = place.namespace.clone().unwrap_or_else(Namespace::default_name);
    let mut builder = Namespace::builder(name).create(create);
    if let Some(root) = &place.root {
        builder = builder.root(root);
    }
    builder.open().map_err(Failure::refused)
}

/// A channel of it.
pub(crate) fn channel(namespace: &Namespace, name: &str, config: Config) -> Result<Channel, Failure> {
    use ringward_recovery::OpenError;
    Channel::new(namespace, name, config).map_err(|error| match error {
        OpenError::Config(error) => Failure::Usage(error.to_string()),
        error => Failure::refused(error),
    })
}
