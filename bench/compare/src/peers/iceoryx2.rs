//! iceoryx2: publish-subscribe on slices of bytes.
//!
//! Safe overflow is off and a publisher waits when a subscriber's buffer is full, so nothing is ever dropped. A buffer has
//! as many places as other peers' rings have room for records, at most 1024 (7 to 4096 made no clear difference): each place is a whole
//! slice in the publisher's data segment, which is allocated once, statically, for slices of the run's size. Ports are
//! those for one thread (`ipc::Service`), which saves a lock; signal handling is off; there is one node in each process,
//! and as many subscribers as the run has. A subscriber is connected only after it has looked for publishers, and what
//! fills its buffer before that is dropped, without an error: so ours looks before it says that it is ready, and each
//! send checks how many were reached. A subscriber receives one sample at a time and gives it back at once: there is
//! no batched call.
//!
//! Its files lie in the run's place; but the shared memory objects (`shm_open`) can lie nowhere but in `/dev/shm`, under a
//! prefix of the run's own. They go when the ports are dropped, but for one that iceoryx2 keeps for its next node: [`tidy`]
//! takes that away. A run that is killed leaves them.
//!
//! # Safety
//!
//! What is handed over in place is taken for initialised without having been written: it is bytes, any of which will do,
//! in a mapping of pages that the kernel has zeroed.
#![allow(unsafe_code)]

use ::iceoryx2::port::publisher::Publisher;
use ::iceoryx2::port::subscriber::Subscriber;
use ::iceoryx2::port::update_connections::UpdateConnections;
use ::iceoryx2::prelude::{
    BackpressureStrategy, Config, FileName, LogLevel, Node, NodeBuilder, Path, PortFactory as _, SemanticString,
    SignalHandlingMode, ipc, set_log_level,
};
use ::iceoryx2::service::port_factory::publish_subscribe::PortFactory;
use ringward_bench::Result;
use ringward_bench::peer::{InPlace, Look, Peer, Place, Rx, Tx, patiently};
use ringward_bench::spec::Spec;

use crate::here::Here;

/// iceoryx2.
#[derive(Debug)]
pub(crate) struct Iceoryx2;

type Service = PortFactory<ipc::Service, [u8], ()>;

/// An end with what it lives in. Fields are dropped in this order.
struct End<P> {
    port: P,
    subscribers: usize,
    service: Service,
    _node: Node<ipc::Service>,
}

/// A publisher.
pub(crate) struct Sender(Here<End<Publisher<ipc::Service, [u8], ()>>>);

/// A subscriber.
pub(crate) struct Receiver(Here<End<Subscriber<ipc::Service, [u8], ()>>>);

/// A configuration whose files lie in `place`, and whose shared memory has a prefix made from its name.
pub(crate) fn config(place: &std::path::Path) -> Result<Config> {
    let mut config = Config::default();
    let root = place.join("iceoryx2");
    config.global.set_root_path(&Path::new(root.as_os_str().as_encoded_bytes()).map_err(|e| format!("{e:?}"))?);
    config.global.prefix = FileName::new(prefix(place).as_bytes()).map_err(|error| format!("{error:?}"))?;
    Ok(config)
}

/// Takes away what nodes leave in `/dev/shm` on purpose.
pub(crate) fn tidy(place: &std::path::Path) {
    let prefix = prefix(place);
    for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(".global_mgmt") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// How the names of all shared memory objects of a place begin.
pub(crate) fn prefix(place: &std::path::Path) -> String {
    format!("{}_", place.file_name().unwrap_or_default().to_string_lossy())
}

fn subscribers(spec: &Spec) -> usize {
    spec.count.max(1) as usize
}

fn node_and_service(spec: &Spec, name: &str) -> Result<(Node<ipc::Service>, Service)> {
    set_log_level(LogLevel::Fatal);
    let node = NodeBuilder::new()
        .config(&config(&spec.place)?)
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<ipc::Service>()?;
    let service = node
        .service_builder(&name.try_into()?)
        .publish_subscribe::<[u8]>()
        .enable_safe_overflow(false)
        .history_size(0)
        .subscriber_max_buffer_size((spec.capacity / spec.size as u64).clamp(7, 1024) as usize)
        .subscriber_max_borrowed_samples(2)
        .max_publishers(1)
        .max_subscribers(subscribers(spec))
        .max_nodes(subscribers(spec) + 2)
        .open_or_create()?;
    Ok((node, service))
}

impl Tx for Sender {
    #[inline]
    fn try_send(&mut self, payload: &[u8]) -> bool {
        let End { port, subscribers, .. } = self.0.get();
        let sample = port.loan_slice_uninit(payload.len()).expect("a free place");
        let reached = sample.write_from_slice(payload).send().expect("subscribers");
        assert_eq!(reached, *subscribers, "subscribers that were reached");
        true
    }

    fn settle(&mut self) -> Result<()> {
        let End { port, subscribers, service, .. } = self.0.get();
        patiently(|| match service.dynamic_config().number_of_subscribers() {
            there if there == *subscribers => Ok(port.update_connections()?),
            there => Err(format!("{there} of {subscribers} subscribers").into()),
        })
    }
}

impl Rx for Receiver {
    #[inline]
    fn try_recv(&mut self, buf: &mut [u8]) -> Option<usize> {
        let sample = self.0.get().port.receive().expect("a publisher")?;
        let payload = sample.payload();
        buf[..payload.len()].copy_from_slice(payload);
        Some(payload.len())
    }
}

impl Peer for Iceoryx2 {
    type Tx = Sender;
    type Rx = Receiver;
    const BROADCAST: bool = true;

    fn tx(spec: &Spec, name: &str) -> Result<Sender> {
        let (node, service) = patiently(|| node_and_service(spec, name))?;
        let port = service
            .publisher_builder()
            .initial_max_slice_len(spec.size)
            .max_loaned_samples(1)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        Ok(Sender(Here::new(End { port, subscribers: subscribers(spec), service, _node: node })))
    }

    fn rx(spec: &Spec, name: &str) -> Result<Receiver> {
        let (node, service) = patiently(|| node_and_service(spec, name))?;
        let port = service.subscriber_builder().create()?;
        patiently(|| match service.dynamic_config().number_of_publishers() {
            0 => Err("no publisher yet".into()),
            _ => Ok(port.update_connections()?),
        })?;
        Ok(Receiver(Here::new(End { port, subscribers: subscribers(spec), service, _node: node })))
    }
}

impl InPlace for Iceoryx2 {
    type Placer = Sender;
    type Looker = Receiver;

    fn placer(spec: &Spec) -> Result<Sender> {
        let mut sender = Self::tx(spec, "lend")?;
        sender.settle()?;
        Ok(sender)
    }

    fn looker(spec: &Spec) -> Result<Receiver> {
        Self::rx(spec, "lend")
    }
}

impl Place for Sender {
    #[inline]
    fn try_place(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let End { port, subscribers, .. } = self.0.get();
        let sample = port.loan_slice_uninit(size).expect("a free place");
        // SAFETY: see the module.
        let mut sample = unsafe { sample.assume_init() };
        fill(sample.payload_mut());
        assert_eq!(sample.send().expect("subscribers"), *subscribers, "subscribers that were reached");
        true
    }
}

impl Look for Receiver {
    #[inline]
    fn look(&mut self, look: &mut impl FnMut(&[u8])) {
        match self.0.get().port.receive().expect("a publisher") {
            Some(sample) => look(sample.payload()),
            None => std::hint::spin_loop(),
        }
    }
}
