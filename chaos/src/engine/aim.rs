//! Which instruction to die at next.
//!
//! A mix of two draws. *Uniform*: a traced call at random, a moment of it at random; so the chance of an instruction
//! is the share of time that the processor executes it. *Coverage*: a few sites that no kill has hit yet, so that rare
//! ones get their turn. Which way the next call takes is not known, so several of those are aimed at together, and whatever the
//! call comes to first is where it ends: rare paths (wrap-around, waiting, waking) are lain in wait for, and yet hardly a
//! call is wasted.

use std::cmp::Reverse;

use super::sites::{Site, Sites, Tally};

/// Where a call is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// At one execution of an instruction.
    One {
        /// The instruction.
        site: Site,
        /// At which execution of it in the call, from 1.
        occurrence: u32,
    },
    /// At the first execution of any of some instructions that no kill has hit; never none.
    Any(Vec<Site>),
}

/// Chooses targets, and keeps score.
#[derive(Debug)]
pub struct Aim {
    /// What is known, and the score.
    pub sites: Sites,
    /// Sites that no kill has hit, next one last.
    queue: Vec<Site>,
    rounds: u64,
    seed: u64,
    turn: u64,
}

/// So many sites that no kill has hit are aimed at together: a breakpoint each, and the fewer calls that come to none of them.
const TOGETHER: usize = 24;

impl Aim {
    /// Aims at `sites`; the choices depend on `seed` and the calls made, on nothing else. A site that `rounds` calls have
    /// not come to although they were aimed at it counts as given up; it is aimed at all the same.
    #[must_use]
    pub fn new(sites: Sites, seed: u64, rounds: u64) -> Aim {
        Aim { sites, queue: Vec::new(), rounds, seed, turn: 0 }
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
        // What no call comes to is tried more seldom.
        let every = if self.left() > 0 { 2 } else { 16 };
        if self.turn.is_multiple_of(every) { self.uncovered().or_else(|| self.uniform()) } else { self.uniform() }
    }

    /// The next target, of those that no kill has hit if there still are any; `None` while no site is known.
    pub fn choose_uncovered(&mut self) -> Option<Target> {
        self.turn += 1;
        self.uncovered().or_else(|| self.uniform())
    }

    fn uniform(&mut self) -> Option<Target> {
        let samples = self.sites.samples();
        if samples.is_empty() {
            return None;
        }
        let sample = self.random(samples.len());
        let moment = self.random(samples[sample]);
        self.sites.moment(sample, moment).map(|(site, occurrence)| Target::One { site, occurrence })
    }

    /// The next few sites that no kill has hit: all of them before one comes again, those first that have been missed least.
    fn uncovered(&mut self) -> Option<Target> {
        let mut next: Vec<Site> = Vec::new();
        let mut refilled = false;
        while next.len() < TOGETHER {
            let Some(site) = self.queue.pop() else {
                if std::mem::replace(&mut refilled, true) {
                    break;
                }
                let fresh = self.sites.iter().filter(|(site, tally)| is_open(tally) && !next.contains(site));
                self.queue = fresh.map(|(site, _)| site).collect();
                for at in (1..self.queue.len()).rev() {
                    let other = self.random(at + 1);
                    self.queue.swap(at, other);
                }
                let sites = &self.sites;
                self.queue.sort_by_key(|&site| Reverse(sites.tally(site).map_or(0, |tally| tally.misses)));
                continue;
            };
            if self.sites.tally(site).is_some_and(is_open) {
                next.push(site);
            }
        }
        if next.is_empty() { None } else { Some(Target::Any(next)) }
    }

    /// Books a kill at `site`.
    pub fn hit(&mut self, site: Site) {
        self.sites.hit(site);
    }

    /// Books that a call did not come to `target`.
    pub fn missed(&mut self, target: &Target) {
        match target {
            Target::One { site, .. } => self.sites.miss(*site),
            Target::Any(sites) => sites.iter().for_each(|&site| self.sites.miss(site)),
        }
    }

    /// Sites that no kill has hit, that nobody else aims at, and that are not given up: not missed too often.
    #[must_use]
    pub fn left(&self) -> usize {
        self.sites.iter().filter(|(_, tally)| is_open(tally) && tally.misses < self.rounds).count()
    }
}

/// Whether a site is aimed at by itself.
fn is_open(tally: &Tally) -> bool {
    tally.hits == 0 && !tally.elsewhere
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
        Aim::new(sites, 7, 3)
    }

    fn any(target: Option<Target>) -> Vec<Site> {
        match target {
            Some(Target::Any(sites)) => sites,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn covers_all_sites_soon_and_repeats_with_the_seed() {
        let run = || {
            let mut aim = aim(300, 100);
            let mut chosen = Vec::new();
            for _ in 0..900 {
                let target = aim.choose().unwrap();
                match &target {
                    Target::One { site, .. } => aim.hit(*site),
                    Target::Any(sites) => aim.hit(sites[0]),
                }
                chosen.push(target);
            }
            assert_eq!(aim.sites.coverage(), (400, 400));
            chosen
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn lies_in_wait_for_all_that_no_kill_has_hit_in_turn() {
        let mut aim = aim(0, 100);
        let mut aimed: Vec<Site> = Vec::new();
        for _ in 0..100_usize.div_ceil(TOGETHER) {
            let sites = any(aim.choose_uncovered());
            assert_eq!(sites.len(), TOGETHER);
            aimed.extend(sites);
        }
        // The last turn begins anew: nobody twice before everybody once.
        aimed.truncate(100);
        aimed.sort();
        aimed.dedup();
        assert_eq!(aimed.len(), 100);
        for _ in 0..97 {
            let site = any(aim.choose_uncovered())[0];
            aim.hit(site);
        }
        assert_eq!(any(aim.choose_uncovered()).len(), 3, "what is left, each once");
        for _ in 0..3 {
            let site = any(aim.choose_uncovered())[0];
            aim.hit(site);
        }
        assert!(matches!(aim.choose_uncovered(), Some(Target::One { .. })));
    }

    #[test]
    fn gives_up_after_the_rounds_and_goes_on_all_the_same() {
        let mut aim = aim(10, 10);
        for turn in 0.. {
            assert!(turn < 10_000);
            if aim.left() == 0 {
                break;
            }
            let target = aim.choose().unwrap();
            let sites = match &target {
                Target::One { site, .. } => vec![*site],
                Target::Any(sites) => sites.clone(),
            };
            // Nobody ever takes the rare path.
            match sites.iter().find(|site| site.offset < 0x7000) {
                Some(&site) => aim.hit(site),
                None => aim.missed(&target),
            }
        }
        assert_eq!(aim.sites.coverage().0, 10);
        assert_eq!(any(aim.choose_uncovered()).len(), TOGETHER.min(10), "aimed at all the same");
    }

    #[test]
    fn leaves_to_others_what_they_aim_at() {
        let mut one = aim(10, 2);
        one.sites.leave_to(&aim(9, 1).sites);
        assert_eq!(any(one.choose_uncovered()).len(), 2);
        assert_eq!(one.left(), 2);
    }

    #[test]
    fn nothing_known_nothing_chosen() {
        assert_eq!(Aim::new(Sites::new(), 1, 1).choose(), None);
    }
}
