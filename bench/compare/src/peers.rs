//! Peers from other projects, each configured as well as we know how.

#[cfg(feature = "aeron")]
mod aeron;
mod iceoryx2;
mod ipc_channel;
mod rtrb;
mod shaq;
mod shmem_ipc;

use ringward_bench::works::{Entry, entry, entry_in_place};

/// All that were built in.
pub(crate) fn all() -> Vec<Entry> {
    vec![
        #[cfg(feature = "aeron")]
        entry::<aeron::Aeron>("aeron"),
        entry_in_place::<iceoryx2::Iceoryx2>("iceoryx2"),
        Entry { name: "shaq", run: shaq::run },
        entry::<shmem_ipc::ShmemIpc>("shmem-ipc"),
        entry::<ipc_channel::IpcChannel>("ipc-channel"),
        entry::<rtrb::Rtrb>("rtrb"),
    ]
}

pub(crate) use iceoryx2::{config as iceoryx2_config, prefix as iceoryx2_prefix};

/// Takes away what peers leave outside of a run's place, though it ended well.
pub(crate) fn tidy(place: &std::path::Path) {
    iceoryx2::tidy(place);
}
