//! An exhaustive explorer: every order in which the steps of some processes can follow each other, with deaths and stops in between.
//!
//! What it explores are models of the protocols of several processes, one step for each system call or access to a shared word that
//! others can see ([`crate::steps_chain`], [`crate::steps_retire`]): the same order of steps as docs/RECOVERY.md's tables and the code
//! behind them, which `attacks_steps` stops at real system calls. A model has *guards*, the precautions of the code; each can be taken out,
//! and must then be missed: exploring finds what goes wrong without it.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// What one process can do next.
pub(crate) struct Move<W> {
    /// Which process.
    pub(crate) who: usize,
    /// Which step, for the trace.
    pub(crate) what: &'static str,
    /// The world behind the step, or what is wrong with it.
    pub(crate) then: Result<W, String>,
}

/// A state of everything, and what can happen in it.
pub(crate) trait World: Clone + Hash + Debug {
    /// Every step that any process can take, and every fault that can strike.
    fn moves(&self, out: &mut Vec<Move<Self>>);
    /// Nobody can move: is that how it should end?
    fn at_rest(&self) -> Result<(), String>;
}

/// What exploring found.
#[derive(Debug)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    /// States in which nobody could move.
    pub(crate) rests: usize,
}

/// Explores everything that can follow; an error is the way to what went wrong.
pub(crate) fn explore<W: World>(first: W) -> Result<Explored, String> {
    /// Above this, a model is too large for a test.
    const MOST: usize = 20_000_000;
    let mut seen = HashSet::new();
    let mut ways: Vec<(u32, usize, &'static str)> = vec![(u32::MAX, 0, "begin")];
    seen.insert(key(&first));
    let mut open = vec![(first, 0u32)];
    let (mut rests, mut moves) = (0, Vec::new());
    while let Some((world, at)) = open.pop() {
        world.moves(&mut moves);
        if moves.is_empty() {
            rests += 1;
            world.at_rest().map_err(|why| way(&ways, at, None, &why, &world))?;
        }
        for Move { who, what, then } in moves.drain(..) {
            let next = then.map_err(|why| way(&ways, at, Some((who, what)), &why, &world))?;
            if seen.insert(key(&next)) {
                open.push((next, u32::try_from(ways.len()).unwrap()));
                ways.push((at, who, what));
            }
        }
        assert!(ways.len() < MOST, "the model is too large");
    }
    Ok(Explored { states: ways.len(), rests })
}

/// 128 bits that stand for a state (FNV-1a, which is quick for the single bytes that states are made of).
fn key<W: Hash>(world: &W) -> u128 {
    let mut hasher = Fnv(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    world.hash(&mut hasher);
    hasher.0
}

struct Fnv(u128);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }
    fn write_u8(&mut self, byte: u8) {
        self.0 = (self.0 ^ u128::from(byte)).wrapping_mul((1 << 88) + 0x13b);
    }
    fn write_isize(&mut self, discriminant: isize) {
        self.write_u8(discriminant as u8); // of an enum; none here has more than 256 variants
    }
    fn finish(&self) -> u64 {
        self.0 as u64
    }
}

fn way<W: Debug>(
    ways: &[(u32, usize, &'static str)],
    at: u32,
    last: Option<(usize, &'static str)>,
    why: &str,
    world: &W,
) -> String {
    let mut steps: Vec<String> = last.iter().map(|(who, what)| format!("{who}: {what}")).collect();
    let mut at = at;
    while at != 0 {
        let (before, who, what) = ways[at as usize];
        steps.push(format!("{who}: {what}"));
        at = before;
    }
    steps.reverse();
    format!("{why}\n{}\nin {world:?}", steps.join("\n"))
}
