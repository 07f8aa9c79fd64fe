//! What is measured: works, sizes, and who takes part.

use crate::harness::Line;
use crate::spec::capacity_for;

/// One row of cells: a work at a size, done by every peer that can.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Name of the work.
    pub work: &'static str,
    /// Bytes of a payload.
    pub size: usize,
    /// What the work counts.
    pub count: u64,
    /// Bytes of the ring.
    pub capacity: u64,
    /// Every process has a processor of its own; otherwise they are where the system puts them.
    pub pinned: bool,
    /// Processes of a run that the harness starts.
    pub sides: usize,
    /// Peers that take part.
    pub peers: Vec<&'static str>,
}

impl Cell {
    /// Whether a line is one of this cell's.
    pub fn holds(&self, line: &Line) -> bool {
        (line.work.as_str(), line.size, line.count, line.capacity) == (self.work, self.size, self.count, self.capacity)
    }
}

/// Peers that live in `bench/compare`.
pub const FOREIGN: [&str; 6] = ["iceoryx2", "aeron", "shaq", "shmem-ipc", "ipc-channel", "rtrb"];
/// Peers whose both ends are in one process: a ceiling, not rivals.
pub const IN_PROCESS: [&str; 1] = ["rtrb"];

/// Sizes of a payload, in bytes, at which all peers' throughput is measured.
pub const FLOW: [usize; 6] = [8, 64, 256, 1 << 10, 64 << 10, 1 << 20];
const ALL: [&str; 11] = [
    "ringward",
    "ringward-header",
    "ringward-batch",
    "textbook",
    "rtrb",
    "aeron",
    "shaq",
    "iceoryx2",
    "shmem-ipc",
    "ipc-channel",
    "socket",
];

/// A cell of two pinned processes with the usual ring.
fn cell(work: &'static str, size: usize, peers: &[&'static str]) -> Cell {
    Cell { work, size, count: 0, capacity: capacity_for(size), pinned: true, sides: 2, peers: peers.to_vec() }
}

/// The whole plan.
pub fn plan() -> Vec<Cell> {
    let without = |names: &[&str]| ALL.into_iter().filter(|peer| !names.contains(peer)).collect::<Vec<_>>();
    let mut cells = vec![cell("trip", 64, &[without(&["ringward-header", "ringward-batch"]), vec!["pipe"]].concat())];
    for size in FLOW {
        let mut peers = without(&[if size >= 1 << 10 { "ringward-batch" } else { "ringward-header" }]);
        peers.push("pipe");
        cells.push(cell("flow", size, &peers));
    }
    cells.push(Cell { capacity: 32 << 20, ..cell("lend", 1 << 20, &["ringward-header", "iceoryx2"]) });
    for (readers, peers) in [(1, vec!["ringward", "textbook"]), (8, vec!["ringward", "textbook", "iceoryx2"])] {
        cells.push(Cell { count: readers, sides: 1 + readers as usize, ..cell("fan", 1 << 10, &peers) });
    }
    cells.push(cell("wake", 64, &["ringward", "futex", "socket", "pipe"]));
    let alone = |work, peers: &[&'static str]| Cell { sides: 1, pinned: false, ..cell(work, 64, peers) };
    for (capacity, count) in [(1 << 20, 60), (64 << 20, 20), (1 << 30, 5)] {
        cells.push(Cell { capacity, count, ..alone("failover", &["ringward-own"]) });
    }
    cells.push(alone("open", &["ringward", "iceoryx2", "shaq", "socket"]));
    for count in [10, 100, 1_000, 10_000] {
        cells.push(Cell { count, ..alone("watch", &["ringward-own"]) });
    }
    cells.push(alone("idle", &["ringward-own"]));
    for size in (0..8).map(|step| 8 << (3 * step)) {
        cells.push(Cell { count: 1, ..cell("growth", size, &["ringward", "textbook"]) });
    }
    for capacity in (0..9).map(|step| 64 << (10 + 2 * step)) {
        cells.push(Cell { capacity, ..cell("growth", 1 << 10, &["ringward", "textbook"]) });
    }
    for readers in [1, 2, 4, 8, 16, 32] {
        cells.push(Cell { count: readers, sides: 1 + readers as usize, ..cell("fan", 64, &["ringward"]) });
    }
    cells
}
