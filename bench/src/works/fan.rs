//! One writer, many readers, each of which receives everything. A peer that has no such thing gets a ring for each reader.

use serde_json::{Map, Value, json};

use crate::Result;
use crate::peer::{Peer, Tx};
use crate::role::Gate;
use crate::spec::Spec;
use crate::works::flow;

struct Many<T>(Vec<T>);

impl<T: Tx> Tx for Many<T> {
    #[inline]
    fn try_send(&mut self, payload: &[u8]) -> bool {
        self.0.iter_mut().for_each(|tx| tx.send(payload));
        true
    }
    fn flush(&mut self) {
        self.0.iter_mut().for_each(Tx::flush);
    }
}

/// Side 0 sends; sides 1 to `count` receive.
///
/// # Errors
///
/// What the peer said, and that it has its ends in one process only.
pub fn run<P: Peer>(spec: &Spec, gate: &Gate) -> Result<Value> {
    if P::IN_PROCESS {
        return Err("not in one process".into());
    }
    let name = |reader: u64| if P::BROADCAST { "fan".to_owned() } else { format!("fan{reader}") };
    if spec.side == 0 {
        let rings = if P::BROADCAST { 1 } else { spec.count };
        let mut all = (1..=rings).map(|reader| P::tx(spec, &name(reader))).collect::<Result<Vec<_>>>()?;
        gate.ready()?;
        all.iter_mut().try_for_each(Tx::settle)?;
        gate.go()?;
        Ok(flow::send(spec, Many(all)))
    } else {
        let rx = P::rx(spec, &name(spec.side as u64))?;
        gate.ready()?;
        gate.go()?;
        let Value::Object(got) = flow::receive(spec, rx) else { return Err("no object".into()) };
        let tagged = got.into_iter().map(|(key, value)| (format!("{key}_{}", spec.side), value));
        Ok(json!(tagged.collect::<Map<_, _>>()))
    }
}
