//! iceoryx2 in a trial: publish-subscribe on slices without overflow, a publisher waits for room, everything else at its
//! defaults (dead nodes are cleaned whenever a node is made or dropped, or a service opened), with room for as many nodes
//! and publishers as a trial kills.
//!
//! It has no standby: the one here has its node, service and publisher open, asks for the list of nodes every 100 µs, and
//! publishes as soon as a node in it is dead.

use std::path::Path;
use std::time::{Duration, Instant};

use ::iceoryx2::port::publisher::Publisher;
use ::iceoryx2::port::subscriber::Subscriber;
use ::iceoryx2::port::update_connections::UpdateConnections;
use ::iceoryx2::prelude::{
    BackpressureStrategy, CallbackProgression, Config, LogLevel, Node, NodeBuilder, NodeState, PortFactory as _,
    SignalHandlingMode, ipc, set_log_level,
};
use ::iceoryx2::service::port_factory::publish_subscribe::PortFactory;
use serde_json::{Value, json};

use super::side::RECORD;
use super::system::{How, Push, Take, Taken};
use crate::peers::iceoryx2_config;

type Service = PortFactory<ipc::Service, [u8], ()>;

/// A publisher with what it lives in, dropped in this order.
struct Writer {
    publisher: Publisher<ipc::Service, [u8], ()>,
    service: Service,
    opened: Instant,
    _node: Node<ipc::Service>,
}

/// A subscriber, likewise.
struct Reader {
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    _service: Service,
    _node: Node<ipc::Service>,
}

fn config(place: &Path) -> Result<Config, String> {
    set_log_level(LogLevel::Fatal);
    iceoryx2_config(place).map_err(|error| error.to_string())
}

fn open(place: &Path) -> Result<(Node<ipc::Service>, Service), String> {
    let node = NodeBuilder::new()
        .config(&config(place)?)
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<ipc::Service>()
        .map_err(|error| error.to_string())?;
    let name = "trial".try_into().map_err(|error| format!("{error:?}"))?;
    let service = node
        .service_builder(&name)
        .publish_subscribe::<[u8]>()
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(1024)
        .max_publishers(128)
        .max_subscribers(4)
        .max_nodes(160)
        .open_or_create()
        .map_err(|error| error.to_string())?;
    Ok((node, service))
}

fn some_node_is_dead(config: &Config) -> Result<bool, String> {
    let mut dead = false;
    let listed = Node::<ipc::Service>::list(config, |state| {
        dead |= matches!(state, NodeState::Dead(_));
        CallbackProgression::Continue
    });
    listed.map(|()| dead).map_err(|error| format!("{error:?}"))
}

/// Opens a publisher.
pub(crate) fn writer(place: &Path, how: How, ready: impl FnOnce()) -> Result<Box<dyn Push>, String> {
    let (node, service) = open(place)?;
    let publisher = service
        .publisher_builder()
        .initial_max_slice_len(RECORD)
        .max_loaned_samples(1)
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
        .create()
        .map_err(|error| error.to_string())?;
    if how == How::StandBy {
        publisher.update_connections().map_err(|error| format!("{error:?}"))?;
        ready();
        let config = config(place)?;
        while !some_node_is_dead(&config)? {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    Ok(Box::new(Writer { publisher, service, opened: Instant::now(), _node: node }))
}

impl Push for Writer {
    fn push(&mut self, payload: &[u8]) -> Result<(), String> {
        loop {
            let sample = self.publisher.loan_slice_uninit(payload.len()).map_err(|error| error.to_string())?;
            let reached = sample.write_from_slice(payload).send().map_err(|error| error.to_string())?;
            // Until the subscriber has found a new publisher, what does not fit its buffer is dropped without an error.
            if reached > 0 || self.opened.elapsed() > Duration::from_millis(100) || !self.is_read() {
                return Ok(());
            }
        }
    }

    fn is_read(&mut self) -> bool {
        self.service.dynamic_config().number_of_subscribers() > 0
    }
}

/// Opens a subscriber.
pub(crate) fn reader(place: &Path) -> Result<Box<dyn Take>, String> {
    let (node, service) = open(place)?;
    let subscriber = service.subscriber_builder().create().map_err(|error| error.to_string())?;
    Ok(Box::new(Reader { subscriber, _service: service, _node: node }))
}

impl Take for Reader {
    fn take(&mut self, buf: &mut [u8]) -> Result<Taken, String> {
        match self.subscriber.receive() {
            Ok(Some(sample)) => {
                let payload = sample.payload();
                buf[..payload.len()].copy_from_slice(payload);
                Ok(Taken::Record(payload.len()))
            }
            Ok(None) => {
                std::thread::yield_now();
                Ok(Taken::Nothing)
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Removes what dead nodes left, until there is no dead one any more, ten times at most.
pub(crate) fn clean(place: &Path) -> Result<Value, String> {
    let config = config(place)?;
    let (mut before, mut left, mut failed) = (None, 0, Vec::new());
    for _ in 0..10 {
        let (mut dead, mut undefined) = (0, 0);
        let listed = Node::<ipc::Service>::list(&config, |state| {
            match state {
                NodeState::Dead(node) => {
                    dead += 1;
                    if let Err(error) = node.blocking_remove_stale_resources(Duration::from_millis(100)) {
                        failed.push(format!("{error:?}"));
                    }
                }
                NodeState::Undefined(_) | NodeState::Inaccessible(_) => undefined += 1,
                NodeState::Alive(_) => {}
            }
            CallbackProgression::Continue
        });
        listed.map_err(|error| format!("{error:?}"))?;
        before.get_or_insert(dead + undefined);
        left = dead + undefined;
        if left == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    failed.dedup();
    Ok(json!({ "dead_nodes_before": before, "dead_nodes_left_after_ten_tries": left, "failed": failed }))
}
