//! ipc-channel: its channel of bytes, which skips serialisation.
//!
//! It is a datagram socket underneath, and blocks: whoever waits sleeps in the kernel. Its `try_recv` would not
//! help one that polls: each call switches the socket to non-blocking and back, by two more system calls. There are no
//! settings.
//!
//! The receiver makes the channel and brings the sender's end to it through an `IpcOneShotServer`, whose name stands in a
//! file in the run's place; the server's own directory is made there too.

use ::ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, bytes_channel};
use ringward_bench::Result;
use ringward_bench::peer::{Peer, Rx, Tx, patiently};
use ringward_bench::spec::Spec;

/// ipc-channel.
#[derive(Debug)]
pub(crate) struct IpcChannel;

/// A sending end, and before that where it comes from.
pub(crate) struct Sender {
    server: Option<IpcOneShotServer<IpcBytesSender>>,
    sender: Option<IpcBytesSender>,
}

/// A receiving end.
#[derive(Debug)]
pub(crate) struct Receiver(IpcBytesReceiver);

impl Tx for Sender {
    #[inline]
    fn try_send(&mut self, payload: &[u8]) -> bool {
        self.sender.as_ref().expect("settled").send(payload).expect("the other end is there");
        true
    }

    fn settle(&mut self) -> Result<()> {
        if let Some(server) = self.server.take() {
            self.sender = Some(server.accept()?.1);
        }
        Ok(())
    }
}

impl Rx for Receiver {
    #[inline]
    fn try_recv(&mut self, buf: &mut [u8]) -> Option<usize> {
        let payload = self.0.recv().expect("the other end is there");
        buf[..payload.len()].copy_from_slice(&payload);
        Some(payload.len())
    }
}

impl Peer for IpcChannel {
    type Tx = Sender;
    type Rx = Receiver;

    fn tx(spec: &Spec, name: &str) -> Result<Sender> {
        // The server makes its directory where temporary files go. Whoever set this first, set the same.
        let _ = tempfile::env::override_temp_dir(&spec.place);
        let (server, address) = IpcOneShotServer::new()?;
        let path = spec.place.join(name);
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, address)?;
        std::fs::rename(temporary, path)?;
        Ok(Sender { server: Some(server), sender: None })
    }

    fn rx(spec: &Spec, name: &str) -> Result<Receiver> {
        let address = patiently(|| Ok(std::fs::read_to_string(spec.place.join(name))?))?;
        let (sender, receiver) = bytes_channel()?;
        IpcSender::connect(address)?.send(sender)?;
        Ok(Receiver(receiver))
    }
}
