//! The instructions that an operation executes, over many traced calls, and how often the process was killed at each.

use std::collections::{BTreeMap, HashMap};

use super::modules::{Location, Modules};

/// An instruction: module number and offset in the module. Means the same in every process that runs the same files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// Index into [`Sites::modules`].
    pub module: u16,
    /// Distance from the module's lowest mapping.
    pub offset: u64,
}

/// What is known of one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Traced calls that executed it.
    pub calls: u64,
    /// Times it was executed in all of them.
    pub runs: u64,
    /// Times it was executed in the call that executed it most.
    pub most: u32,
    /// Kills that landed on it.
    pub hits: u64,
    /// Calls that it was aimed at in and that went another way.
    pub misses: u64,
    /// Somebody else aims at it.
    pub elsewhere: bool,
    /// Place in the file, for symbols.
    pub file_offset: Option<u64>,
}

/// How many traces are kept whole, to draw from.
const SAMPLES: usize = 64;

/// The set of sites.
#[derive(Debug, Clone, Default)]
pub struct Sites {
    modules: Vec<String>,
    tallies: BTreeMap<Site, Tally>,
    /// Sites in the order in which they became known.
    order: Vec<Site>,
    places: HashMap<Site, u32>,
    /// The last traces: places in `order`. A night of them stays small.
    samples: Vec<Box<[u32]>>,
    traces: u64,
    instructions: u64,
}

impl Sites {
    /// None yet.
    #[must_use]
    pub fn new() -> Sites {
        Sites::default()
    }

    fn module(&mut self, path: &str) -> u16 {
        if let Some(at) = self.modules.iter().position(|known| known == path) {
            return at as u16;
        }
        self.modules.push(path.to_owned());
        (self.modules.len() - 1) as u16
    }

    fn intern(&mut self, location: &Location) -> Site {
        let site = Site { module: self.module(&location.module), offset: location.offset };
        self.tallies.entry(site).or_default().file_offset = location.file_offset;
        site
    }

    /// The site of address `pc`, made known if it isn't.
    pub fn site(&mut self, modules: &Modules, pc: u64) -> Site {
        self.intern(&modules.locate(pc))
    }

    /// Adds the instructions of one whole call; returns how many sites were new.
    pub fn add(&mut self, modules: &Modules, pcs: &[u64]) -> usize {
        let before = self.tallies.len();
        let mut counts: HashMap<u64, (Site, u32, u32)> = HashMap::new();
        let mut sample = Vec::with_capacity(pcs.len());
        for &pc in pcs {
            let (_, place, count) = counts.entry(pc).or_insert_with(|| {
                let site = self.site(modules, pc);
                (site, self.place(site), 0)
            });
            *count += 1;
            sample.push(*place);
        }
        for (site, _, count) in counts.into_values() {
            let tally = self.tallies.entry(site).or_default();
            tally.calls += 1;
            tally.runs += u64::from(count);
            tally.most = tally.most.max(count);
        }
        self.instructions += pcs.len() as u64;
        self.keep(sample);
        self.tallies.len() - before
    }

    /// Where `site` is in `order`.
    fn place(&mut self, site: Site) -> u32 {
        *self.places.entry(site).or_insert_with(|| {
            self.order.push(site);
            (self.order.len() - 1) as u32
        })
    }

    fn keep(&mut self, sample: Vec<u32>) {
        if !sample.is_empty() {
            let sample = sample.into_boxed_slice();
            if self.samples.len() < SAMPLES {
                self.samples.push(sample);
            } else {
                let at = (self.traces % SAMPLES as u64) as usize;
                self.samples[at] = sample;
            }
            self.traces += 1;
        }
    }

    /// Adds what `other` knows of each site, but none of its calls.
    pub fn merge_tallies(&mut self, other: &Sites) {
        let map: Vec<u16> = other.modules.iter().map(|path| self.module(path)).collect();
        let here = |site: &Site| Site { module: map[usize::from(site.module)], offset: site.offset };
        for (site, theirs) in &other.tallies {
            let tally = self.tallies.entry(here(site)).or_default();
            tally.calls += theirs.calls;
            tally.runs += theirs.runs;
            tally.most = tally.most.max(theirs.most);
            tally.hits += theirs.hits;
            tally.misses += theirs.misses;
            tally.file_offset = tally.file_offset.or(theirs.file_offset);
        }
    }

    /// Books a kill at `site`.
    pub fn hit(&mut self, site: Site) {
        self.tallies.entry(site).or_default().hits += 1;
    }

    /// Takes over from `other` which sites have been hit, not how often, for those that are known here.
    pub fn share_hits(&mut self, other: &Sites) {
        for (site, _) in other.tallies.iter().filter(|(_, tally)| tally.hits > 0) {
            let path = &other.modules[usize::from(site.module)];
            let Some(module) = self.modules.iter().position(|known| known == path) else { continue };
            if let Some(tally) = self.tallies.get_mut(&Site { module: module as u16, offset: site.offset }) {
                tally.hits = tally.hits.max(1);
            }
        }
    }

    /// Leaves the sites that `other` knows to whoever aims at those.
    pub fn leave_to(&mut self, other: &Sites) {
        let numbers: Vec<Option<u16>> = self
            .modules
            .iter()
            .map(|path| other.modules.iter().position(|known| known == path).map(|at| at as u16))
            .collect();
        for (site, tally) in &mut self.tallies {
            if let Some(module) = numbers[usize::from(site.module)] {
                tally.elsewhere |= other.tallies.contains_key(&Site { module, offset: site.offset });
            }
        }
    }

    pub(crate) fn miss(&mut self, site: Site) {
        self.tallies.entry(site).or_default().misses += 1;
    }

    /// Known sites, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Site, &Tally)> {
        self.tallies.iter().map(|(&site, tally)| (site, tally))
    }

    /// What is known of `site`.
    #[must_use]
    pub fn tally(&self, site: Site) -> Option<&Tally> {
        self.tallies.get(&site)
    }

    /// Paths of the modules, by number.
    #[must_use]
    pub fn modules(&self) -> &[String] {
        &self.modules
    }

    /// Sites with at least one kill, and all: `kill_sites{hit,of}`.
    #[must_use]
    pub fn coverage(&self) -> (usize, usize) {
        (self.tallies.values().filter(|tally| tally.hits > 0).count(), self.tallies.len())
    }

    /// Traced calls, and the instructions in them all.
    #[must_use]
    pub fn traced(&self) -> (u64, u64) {
        (self.traces, self.instructions)
    }

    /// Lengths of the last traces, which are kept whole.
    #[must_use]
    pub fn samples(&self) -> Vec<usize> {
        self.samples.iter().map(|sample| sample.len()).collect()
    }

    /// The instruction at `moment` of trace `sample`, and which execution of it that was, from 1.
    #[must_use]
    pub fn moment(&self, sample: usize, moment: usize) -> Option<(Site, u32)> {
        let trace = self.samples.get(sample)?;
        let place = *trace.get(moment)?;
        let occurrence = trace[..=moment].iter().filter(|other| **other == place).count();
        Some((*self.order.get(place as usize)?, occurrence as u32))
    }

    /// Where `site` is in a process with these modules; `None` if it has no such module.
    #[must_use]
    pub fn address(&self, modules: &Modules, site: Site) -> Option<u64> {
        let path = self.modules.get(usize::from(site.module))?;
        if path == "?" {
            return Some(site.offset);
        }
        modules.base(path).map(|base| base + site.offset)
    }

    /// `module+0xoffset`.
    #[must_use]
    pub fn name(&self, site: Site) -> String {
        let path = self.modules.get(usize::from(site.module)).map_or("?", String::as_str);
        format!("{}+{:#x}", path.rsplit('/').next().unwrap_or(path), site.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_merges_over_different_layouts() {
        let low = Modules::parse("1000-3000 r-xp 00000000 08:01 7 /x/lib.so\n");
        let high = Modules::parse("71000-73000 r-xp 00000000 08:01 7 /x/lib.so\n80000-81000 r-xp 0 00:00 0 [vdso]\n");
        let mut one = Sites::new();
        assert_eq!(one.add(&low, &[0x1000, 0x1004, 0x1004, 0x1008]), 3);
        assert_eq!(one.add(&low, &[0x1000, 0x1008]), 0);
        let mut two = Sites::new();
        two.add(&high, &[0x80010, 0x71004, 0x71004, 0x71004]);
        one.merge_tallies(&two);
        assert_eq!(one.coverage(), (0, 4));
        assert_eq!(one.samples(), [4, 2]);
        assert_eq!(one.moment(0, 2), Some((one.site(&low, 0x1004), 2)));
        assert_eq!(one.moment(1, 1), Some((one.site(&low, 0x1008), 1)));
        assert_eq!((one.moment(1, 2), one.moment(2, 0)), (None, None));
        let site = one.site(&high, 0x71004);
        let tally = *one.tally(site).unwrap();
        assert_eq!((tally.calls, tally.runs, tally.most), (2, 5, 3));
        assert_eq!(one.address(&low, site), Some(0x1004));
        assert_eq!(one.name(site), "lib.so+0x4");
        one.hit(site);
        assert_eq!(one.coverage(), (1, 4));
        assert_eq!(one.traced(), (2, 6), "what was merged was traced elsewhere");
    }
}
