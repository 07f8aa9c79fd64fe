//! Which instruction to die at next.
//!
//! A mix of two draws. *Uniform*: a traced call at random, a moment of it at random; so the chance of an instruction
//! is the share of time that the processor executes it. *Coverage*: a site that no kill has hit yet, so that rare
//! ones get their turn. A target on a rare path (wrap-around, waiting, waking) is kept over several calls, since the
//! next call may not take that path; one that was missed too often is put back, and gets more patience when its turn
//! comes again.

use super::sites::{Site, Sites};

/// An instruction to die at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub site: Site,
    /// At which execution of it in the call, from 1.
    pub occurrence: u32,
    /// After how many calls without it to give up.
    pub patience: u32,
}

/// Chooses targets, and keeps score.
#[derive(Debug)]
pub struct Aim {
    /// What is known, and the score.
    pub sites: Sites,
    /// Sites that no kill has hit and that may still be hit, next one last.
    queue: Vec<Site>,
    patience: u32,
    rounds: u64,
    seed: u64,
    turn: u64,
}

impl Aim {
    /// Aims at `sites`; the choices depend on `seed` and the calls made, on nothing else. `patience`: how many calls
    /// a target waits for its path to be taken, the first time it is tried; a site is given up for good after
    /// `rounds` tries.
    #[must_use]
    pub fn new(sites: Sites, seed: u64, patience: u32, rounds: u64) -> Aim {
        Aim { sites, queue: Vec::new(), patience, rounds, seed, turn: 0 }
    }

    fn random(&mut self, below: usize) -> usize {
        // SplitMix64.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * below as u128) >> 64) as usize
    }

    /// The next target; `None` while no site is known.
    pub fn choose(&mut self) -> Option<Target> {
        self.turn += 1;
        // Every other kill is uniform, so that the distribution of a long run isn't bent by the hunt for rare sites.
        if self.turn.is_multiple_of(2)
            && let Some(target) = self.uncovered()
        {
            return Some(target);
        }
        self.uniform().or_else(|| self.uncovered())
    }

    /// The next target, one that no kill has hit if there still is one; `None` while no site is known. Its patience does
    /// not grow.
    pub fn choose_uncovered(&mut self) -> Option<Target> {
        self.turn += 1;
        let target = self.uncovered().or_else(|| self.uniform())?;
        Some(Target { patience: self.patience, ..target })
    }

    fn uniform(&mut self) -> Option<Target> {
        let samples = self.sites.samples().len();
        if samples == 0 {
            return None;
        }
        let sample = self.random(samples);
        let moment = self.random(self.sites.samples()[sample].len());
        let trace = &self.sites.samples()[sample];
        let site = trace[moment];
        let occurrence = trace[..=moment].iter().filter(|&&other| other == site).count() as u32;
        Some(Target { site, occurrence, patience: self.patience })
    }

    fn uncovered(&mut self) -> Option<Target> {
        loop {
            if self.queue.is_empty() {
                let fresh: Vec<Site> = self
                    .sites
                    .iter()
                    .filter(|(_, tally)| tally.hits == 0 && tally.misses < self.rounds)
                    .map(|(site, _)| site)
                    .collect();
                if fresh.is_empty() {
                    return None;
                }
                self.queue = fresh;
                for at in (1..self.queue.len()).rev() {
                    let other = self.random(at + 1);
                    self.queue.swap(at, other);
                }
            }
            let site = self.queue.pop()?;
            let Some(tally) = self.sites.tally(site) else { continue };
            if tally.hits > 0 {
                continue;
            }
            let patience = self.patience.saturating_mul(1 << tally.misses.min(8));
            // The first execution: of those that were executed at all, it is the most certain.
            return Some(Target { site, occurrence: 1, patience });
        }
    }

    /// Books a kill at `site`.
    pub fn hit(&mut self, site: Site) {
        self.sites.hit(site);
    }

    /// Books that `target` was given up: its patience was used up.
    pub fn gave_up(&mut self, target: Target) {
        self.sites.miss(target.site);
    }

    /// Sites that were given up for good.
    #[must_use]
    pub fn given_up(&self) -> usize {
        self.sites.iter().filter(|(_, tally)| tally.hits == 0 && tally.misses >= self.rounds).count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::modules::Modules;
    use super::*;

    fn aim(common: u64, rare: u64) -> Aim {
        let modules = Modules::parse("1000-9000 r-xp 00000000 08:01 7 /x/lib.so\n");
        let mut sites = Sites::new();
        for _ in 0..64 {
            sites.add(&modules, &(0..common).map(|n| 0x1000 + n).collect::<Vec<_>>());
        }
        sites.add(&modules, &(0..rare).map(|n| 0x8000 + n).collect::<Vec<_>>());
        Aim::new(sites, 7, 4, 3)
    }

    #[test]
    fn covers_all_sites_soon_and_repeats_with_the_seed() {
        let run = || {
            let mut aim = aim(300, 100);
            let mut chosen = Vec::new();
            for _ in 0..900 {
                let target = aim.choose().unwrap();
                chosen.push(target);
                aim.hit(target.site);
            }
            assert_eq!(aim.sites.coverage(), (400, 400));
            chosen
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn gives_up_after_the_rounds_and_grows_more_patient() {
        let mut aim = aim(10, 10);
        let (mut most, mut shots) = (0, 0);
        while aim.sites.coverage().0 < 10 || aim.given_up() < 10 {
            let target = aim.choose().unwrap();
            most = most.max(target.patience);
            shots += 1;
            assert!(shots < 10_000);
            // Nobody ever takes the rare path.
            if target.site.offset >= 0x7000 { aim.gave_up(target) } else { aim.hit(target.site) }
        }
        assert_eq!(most, 4 << 2);
        assert!(aim.choose().is_some());
    }

    #[test]
    fn nothing_known_nothing_chosen() {
        assert_eq!(Aim::new(Sites::new(), 1, 1, 1).choose(), None);
    }
}
