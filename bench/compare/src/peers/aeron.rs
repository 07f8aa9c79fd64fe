//! Aeron (C) over its IPC transport: an exclusive publication, and a subscription.
//!
//! The media driver is a thread of side 0, in shared mode, its directory and logs in the run's place. It and the clients'
//! conductors may run on any of the run's processors, because those two that are measured never leave theirs. Its idle
//! strategy is `sleep-ns`: the shortest sleep that the kernel gives. With a term of 1 MiB, the ones that stay awake took a
//! processor from one of the two, and were over ten times slower on two processors. A term is as large as other peers'
//! rings, and made in full at the start; 4, 16 and 64 MiB gave nothing that was clearly better. The largest fragment is
//! the largest that Aeron allows, so that only records of 64 KiB and more are cut. Smaller ones are claimed and filled in
//! place; larger ones are offered, and assembled by Aeron's fragment assembler. A poll takes up to [`FRAGMENTS`]. A
//! publication serves many subscriptions, and the slowest one holds it back.
//!
//! Its crates build Aeron's C sources, which takes cmake 3.30 or newer (Debian 12 has 3.25: put one from PyPI first in
//! `PATH`), a C++ compiler, libclang, and the headers of libuuid and libbsd, and no network.
//!
//! Nothing is left outside of the run's place.

use std::ffi::CString;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use ringward_bench::Result;
use ringward_bench::peer::{Peer, Rx, Tx, patiently};
use ringward_bench::spec::Spec;
use rusteron_client::{
    AERON_IPC_STREAM, Aeron as Client, AeronBufferClaim, AeronExclusivePublication, AeronFragmentClosureAssembler,
    AeronHeader, AeronSubscription, Handlers,
};
use rusteron_media_driver::bindings::aeron_threading_mode_enum;
use rusteron_media_driver::{AeronDriver, AeronDriverContext, EmbeddedMediaDriver};

use crate::here::Here;

/// Fragments of one poll.
const FRAGMENTS: usize = 256;
/// Aeron's largest fragment for IPC, header included.
const FRAGMENT: usize = 65_504;
const HEADER: usize = 32;

/// Aeron.
#[derive(Debug)]
pub(crate) struct Aeron;

/// A publication.
pub(crate) struct Sender(Here<Publication>);

/// Fields are dropped in this order.
struct Publication {
    publication: AeronExclusivePublication,
    claim: AeronBufferClaim,
    _client: Client,
    _driver: Option<EmbeddedMediaDriver>,
}

/// A subscription.
pub(crate) struct Receiver(Here<Subscription>);

struct Subscription {
    subscription: AeronSubscription,
    assembler: AeronFragmentClosureAssembler,
    /// Whether records come in fragments.
    cut: bool,
    _client: Client,
}

/// Runs `start` where threads that it starts may run on all processors of the run.
fn unpinned<T>(spec: &Spec, start: impl FnOnce() -> Result<T>) -> Result<T> {
    if spec.cpus.is_empty() {
        return start();
    }
    let mut all = CpuSet::new();
    spec.cpus.iter().try_for_each(|cpu| all.set(*cpu))?;
    sched_setaffinity(Pid::from_raw(0), &all)?;
    let started = start();
    if let Some(cpu) = spec.cpu() {
        ringward_bench::role::pin(cpu)?;
    }
    started
}

fn directory(spec: &Spec) -> Result<CString> {
    let path = spec.place.join("aeron").into_os_string().into_string().map_err(|path| format!("{path:?}"))?;
    Ok(CString::new(path)?)
}

fn driver(spec: &Spec) -> Result<EmbeddedMediaDriver> {
    let context = AeronDriverContext::new()?;
    context.set_dir(&directory(spec)?)?;
    context.set_dir_delete_on_start(true)?;
    context.set_dir_delete_on_shutdown(true)?;
    context.set_threading_mode(aeron_threading_mode_enum::AERON_THREADING_MODE_SHARED)?;
    context.set_shared_idle_strategy(c"sleep-ns")?;
    context.set_ipc_term_buffer_length(spec.capacity as usize)?;
    context.set_ipc_mtu_length(FRAGMENT)?;
    context.set_term_buffer_sparse_file(false)?;
    unpinned(spec, || Ok(AeronDriver::launch_embedded_guard(context, false)))
}

fn client(spec: &Spec) -> Result<Client> {
    let directory = directory(spec)?;
    // Connecting before there is a driver would wait inside of Aeron, by whole seconds.
    let file = spec.place.join("aeron").join("cnc.dat");
    patiently(|| if file.exists() { Ok(()) } else { Err("no driver yet".into()) })?;
    unpinned(spec, || Ok(Client::connect_dir(directory.to_str()?)?))
}

/// The stream of a name, the same in all processes.
fn stream(name: &str) -> i32 {
    name.bytes().fold(1001, |sum, byte| sum * 31 % 1_000_003 + i32::from(byte))
}

impl Tx for Sender {
    #[inline]
    fn try_send(&mut self, payload: &[u8]) -> bool {
        let Publication { publication, claim, .. } = self.0.get();
        if payload.len() <= FRAGMENT - HEADER {
            if publication.try_claim_raw(payload.len(), claim) < 0 {
                return false;
            }
            claim.data_mut().copy_from_slice(payload);
            claim.commit().expect("a claim");
            true
        } else {
            publication.offer(payload).is_ok()
        }
    }
}

impl Receiver {
    #[inline]
    fn take(&mut self, fragments: usize, mut each: impl FnMut(&[u8])) -> bool {
        let Subscription { subscription, assembler, cut, .. } = self.0.get();
        let polled = if *cut {
            let mut each: &mut dyn FnMut(&[u8]) = &mut each;
            assembler.poll(subscription, &mut each, |each, payload, _: AeronHeader| each(payload), fragments)
        } else {
            subscription.poll_fn(|payload, _: AeronHeader| each(payload), fragments)
        };
        polled.expect("a subscription") > 0
    }
}

impl Rx for Receiver {
    #[inline]
    fn try_recv(&mut self, buf: &mut [u8]) -> Option<usize> {
        let mut got = None;
        self.take(1, |payload| {
            buf[..payload.len()].copy_from_slice(payload);
            got = Some(payload.len());
        });
        got
    }

    #[inline]
    fn drain(&mut self, buf: &mut [u8], each: &mut impl FnMut(&[u8])) {
        let taken = self.take(FRAGMENTS, |payload| {
            buf[..payload.len()].copy_from_slice(payload);
            each(&buf[..payload.len()]);
        });
        if !taken {
            std::hint::spin_loop();
        }
    }
}

impl Peer for Aeron {
    type Tx = Sender;
    type Rx = Receiver;
    const BROADCAST: bool = true;

    fn tx(spec: &Spec, name: &str) -> Result<Sender> {
        let driver = if spec.side == 0 { Some(driver(spec)?) } else { None };
        let client = client(spec)?;
        let wait = std::time::Duration::from_secs(10);
        let publication =
            client.async_add_exclusive_publication(AERON_IPC_STREAM, stream(name))?.poll_blocking(wait)?;
        let claim = AeronBufferClaim::default();
        Ok(Sender(Here::new(Publication { publication, claim, _client: client, _driver: driver })))
    }

    fn rx(spec: &Spec, name: &str) -> Result<Receiver> {
        let client = client(spec)?;
        let wait = std::time::Duration::from_secs(10);
        let subscription = client
            .async_add_subscription(AERON_IPC_STREAM, stream(name), Handlers::NONE, Handlers::NONE)?
            .poll_blocking(wait)?;
        let cut = spec.size > FRAGMENT - HEADER;
        let assembler = AeronFragmentClosureAssembler::new()?;
        Ok(Receiver(Here::new(Subscription { subscription, assembler, cut, _client: client })))
    }
}
