//! Which file an address belongs to: so that sites mean the same in every process and can be looked up afterwards.

use std::fmt;
use std::fs;
use std::path::Path;

use object::elf::{PT_LOAD, STT_FUNC, STT_GNU_IFUNC};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _};

use super::error::{EngineError, Result};

/// One line of /proc/PID/maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Whether code can run from it.
    pub executable: bool,
    /// Where in the file it begins.
    pub file_offset: u64,
    /// The file, or a name in brackets, or nothing.
    pub path: String,
}

/// What is mapped in a process.
#[derive(Debug, Clone, Default)]
pub struct Modules {
    mappings: Vec<Mapping>,
}

/// An address, in terms of the file that it was mapped from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The file's path, or `[vdso]`, or `?`.
    pub module: String,
    /// Distance from the module's lowest mapping: for executables and libraries the address in the ELF file, if that
    /// begins at 0, as position-independent ones do.
    pub offset: u64,
    /// Where in the file the byte is; `None` if it isn't in one.
    pub file_offset: Option<u64>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.module.rsplit('/').next().unwrap_or(&self.module);
        write!(f, "{name}+{:#x}", self.offset)
    }
}

impl Modules {
    /// What is mapped in `pid` now.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`].
    pub fn of(pid: i32) -> Result<Modules> {
        let path = format!("/proc/{pid}/maps");
        let text = fs::read(&path).map_err(EngineError::io(path))?;
        Ok(Modules::parse(&String::from_utf8_lossy(&text)))
    }

    /// Parses the text of a maps file; lines that make no sense are left out.
    #[must_use]
    pub fn parse(text: &str) -> Modules {
        Modules { mappings: text.lines().filter_map(parse_line).collect() }
    }

    /// All mappings, ascending.
    #[must_use]
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// The mapping that holds `addr`.
    #[must_use]
    pub fn mapping(&self, addr: u64) -> Option<&Mapping> {
        let at = self.mappings.partition_point(|mapping| mapping.end <= addr);
        self.mappings.get(at).filter(|mapping| mapping.start <= addr)
    }

    /// Lowest address at which `path` is mapped.
    #[must_use]
    pub fn base(&self, path: &str) -> Option<u64> {
        self.mappings.iter().find(|mapping| mapping.path == path).map(|mapping| mapping.start)
    }

    /// `addr` as module and offset. Addresses outside of all named mappings are given as they are, in module `?`.
    #[must_use]
    pub fn locate(&self, addr: u64) -> Location {
        match self.mapping(addr) {
            Some(mapping) if !mapping.path.is_empty() => Location {
                module: mapping.path.clone(),
                offset: addr - self.base(&mapping.path).unwrap_or(mapping.start),
                file_offset: mapping.path.starts_with('/').then(|| addr - mapping.start + mapping.file_offset),
            },
            _ => Location { module: "?".into(), offset: addr, file_offset: None },
        }
    }

    /// The address of function `name`, defined by the file `path`, in this process.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoSymbol`] if the file defines none, or isn't mapped; [`EngineError::Io`].
    pub fn find_function(&self, path: &str, name: &str) -> Result<u64> {
        let symbols = Symbols::load(Path::new(path))?;
        let found = symbols.offset_of(name).zip(self.base(path)).map(|(offset, base)| base + offset);
        found.ok_or_else(|| EngineError::NoSymbol { path: path.into(), name: name.into() })
    }
}

fn parse_line(line: &str) -> Option<Mapping> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let permissions = words.next()?;
    let file_offset = u64::from_str_radix(words.next()?, 16).ok()?;
    let path = words.nth(2).unwrap_or("").trim_start();
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        executable: permissions.contains('x'),
        file_offset,
        path: path.strip_suffix(" (deleted)").unwrap_or(path).to_owned(),
    })
}

/// The functions that an ELF file defines, by offset from its lowest mapping, as [`Location::offset`] counts.
#[derive(Debug, Clone, Default)]
pub struct Symbols {
    functions: Vec<(u64, u64, String)>,
}

impl Symbols {
    /// Reads `.symtab` and `.dynsym`; a stripped file has few or none.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`].
    pub fn load(path: &Path) -> Result<Symbols> {
        let what = path.display().to_string();
        let bytes = fs::read(path).map_err(EngineError::io(what.clone()))?;
        let bad = |error: object::Error| EngineError::io(what.clone())(std::io::Error::other(error.to_string()));
        let file = ElfFile64::<Endianness>::parse(&*bytes).map_err(bad)?;
        let endian = file.endian();
        let headers = file.elf_header().program_headers(endian, &*bytes).map_err(bad)?;
        let loads = headers.iter().filter(|header| header.p_type(endian) == PT_LOAD);
        let lowest = loads.map(|header| header.p_vaddr(endian) & !0xfff).min().unwrap_or(0);
        let mut functions: Vec<(u64, u64, String)> = file
            .symbols()
            .chain(file.dynamic_symbols())
            .filter(|symbol| {
                matches!(symbol.elf_symbol().st_type(), STT_FUNC | STT_GNU_IFUNC) && symbol.is_definition()
            })
            .filter_map(|symbol| {
                Some((symbol.address().checked_sub(lowest)?, symbol.size(), symbol.name().ok()?.to_owned()))
            })
            .collect();
        functions.sort();
        functions.dedup();
        Ok(Symbols { functions })
    }

    /// Where function `name` begins.
    #[must_use]
    pub fn offset_of(&self, name: &str) -> Option<u64> {
        self.functions.iter().find(|(_, _, known)| known == name).map(|&(offset, ..)| offset)
    }

    /// The shortest name that `wanted` says yes to, and where it begins: for functions whose full, mangled name can't be
    /// known beforehand.
    #[must_use]
    pub fn find(&self, wanted: impl Fn(&str) -> bool) -> Option<(&str, u64)> {
        let fitting = self.functions.iter().filter(|(_, _, name)| wanted(name));
        fitting.min_by_key(|(_, _, name)| name.len()).map(|(offset, _, name)| (name.as_str(), *offset))
    }

    /// The function that holds `offset`, and how far into it: names as in the file, mangled.
    #[must_use]
    pub fn at(&self, offset: u64) -> Option<(&str, u64)> {
        let at = self.functions.partition_point(|&(start, ..)| start <= offset);
        let (start, size, name) = self.functions[..at].last()?;
        (offset - start < (*size).max(1)).then(|| (name.as_str(), offset - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_locates() {
        let modules = Modules::parse(
            "1000-2000 r--p 00000000 08:01 77 /a b/lib.so\n2000-4000 r-xp 00001000 08:01 77 /a b/lib.so\n\
             9000-a000 rw-p 00000000 00:00 0 \nb000-c000 r-xp 00000000 00:00 0      [vdso]\njunk\n",
        );
        assert_eq!(modules.mappings().len(), 4);
        let here = modules.locate(0x2010);
        assert_eq!((here.module.as_str(), here.offset, here.file_offset), ("/a b/lib.so", 0x1010, Some(0x1010)));
        assert_eq!(here.to_string(), "lib.so+0x1010");
        assert_eq!(modules.locate(0x9000).module, "?");
        assert_eq!(modules.locate(0xb008).to_string(), "[vdso]+0x8");
        assert!(modules.mapping(0x4000).is_none());
    }
}
