//! What is measured: works, sizes, and who takes part.

/// One row of cells: a work at a size, done by every peer that can.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Name of the work.
    pub work: &'static str,
    /// Bytes of a payload.
    pub size: usize,
    /// What the work counts.
    pub count: u64,
    /// Processes of a run.
    pub sides: usize,
    /// Peers that take part.
    pub peers: Vec<&'static str>,
}

/// Peers that live in `bench/compare`.
pub const FOREIGN: [&str; 5] = ["iceoryx2", "shaq", "shmem-ipc", "ipc-channel", "rtrb"];
/// Peers whose both ends are in one process: a ceiling, not rivals.
pub const IN_PROCESS: [&str; 1] = ["rtrb"];

const FLOW: [usize; 6] = [8, 64, 256, 1 << 10, 64 << 10, 1 << 20];
const ALL: [&str; 10] = [
    "ringward",
    "ringward-header",
    "ringward-batch",
    "textbook",
    "rtrb",
    "shaq",
    "iceoryx2",
    "shmem-ipc",
    "ipc-channel",
    "socket",
];

/// The whole plan.
pub fn plan() -> Vec<Cell> {
    let without = |names: &[&str]| ALL.into_iter().filter(|peer| !names.contains(peer)).collect::<Vec<_>>();
    let mut cells = vec![Cell {
        work: "trip",
        size: 64,
        count: 0,
        sides: 2,
        peers: [without(&["ringward-header", "ringward-batch"]), vec!["pipe"]].concat(),
    }];
    for size in FLOW {
        let mut peers = ALL.to_vec();
        if size >= 1 << 10 {
            peers.retain(|peer| *peer != "ringward-batch");
        } else {
            peers.retain(|peer| *peer != "ringward-header");
        }
        peers.push("pipe");
        cells.push(Cell { work: "flow", size, count: 0, sides: 2, peers });
    }
    for (readers, peers) in [(1, vec!["ringward", "textbook"]), (8, vec!["ringward", "textbook", "iceoryx2"])] {
        cells.push(Cell { work: "fan", size: 1 << 10, count: readers, sides: 1 + readers as usize, peers });
    }
    cells
}
