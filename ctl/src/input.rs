//! Stdin, cut into records.

use std::io::{self, Stdin};
use std::os::fd::AsFd;

use rustix::event::PollFlags;
use rustix::fs::{FileType, SeekFrom};

use crate::exit::Failure;
use crate::stop::Stop;
use crate::units::size;

/// Bytes that are read at once, unless a record needs more.
const READ: usize = 128 << 10;

/// How a stream is cut into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// At newlines, which are no part of a record.
    Lines,
    /// Into pieces of so many bytes.
    Chunk(usize),
}

impl Frame {
    pub(crate) fn parse(text: &str) -> Result<Frame, String> {
        match text.split_once(':') {
            None if text == "lines" => Ok(Frame::Lines),
            Some(("chunk", bytes)) => match size(bytes)? {
                0 => Err("a chunk of no bytes would never get through stdin; write chunk:4096".to_owned()),
                bytes if bytes > u64::from(u32::MAX) => {
                    Err(format!("{bytes} bytes are more than a record can have ({})", u32::MAX))
                }
                bytes => Ok(Frame::Chunk(bytes as usize)),
            },
            _ => Err(format!("{text:?} is neither lines nor chunk:SIZE")),
        }
    }
}

/// Stdin with what was read ahead of it.
#[derive(Debug)]
pub(crate) struct Input {
    stdin: Stdin,
    stop: Stop,
    frame: Frame,
    /// Largest record, in bytes.
    limit: usize,
    bytes: Vec<u8>,
    /// What of `bytes` is still to be handed out.
    from: usize,
    to: usize,
    ended: bool,
    /// Never blocks: no need to ask whether it can be read.
    is_file: bool,
    /// Records handed out or skipped.
    pub(crate) records: u64,
}

/// How skipping ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skipped {
    /// That many records are behind us.
    All,
    /// Stdin ended after this many.
    Only(u64),
}

impl Input {
    /// Stdin, for records of at most `limit` bytes.
    pub(crate) fn new(frame: Frame, limit: u64, stop: &Stop) -> Input {
        let stdin = io::stdin();
        let is_file =
            rustix::fs::fstat(&stdin).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        Input {
            stdin,
            stop: stop.clone(),
            frame,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            bytes: Vec::new(),
            from: 0,
            to: 0,
            ended: false,
            is_file,
            records: 0,
        }
    }

    /// The next record, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        let (record, whole) = match self.frame {
            Frame::Lines => self.line()?,
            Frame::Chunk(size) => {
                while self.to - self.from < size && self.more(size)? {}
                let len = size.min(self.to - self.from);
                (len, len)
            }
        };
        if whole == 0 {
            return Ok(None);
        }
        let at = self.from;
        self.from += whole;
        self.records += 1;
        Ok(Some(&self.bytes[at..at + record]))
    }

    /// Length of the next line without and with its newline; both 0 at the end.
    fn line(&mut self) -> Result<(usize, usize), Failure> {
        let mut looked = 0;
        loop {
            let there = &self.bytes[self.from..self.to];
            if let Some(at) = there[looked..].iter().position(|byte| *byte == b'\n') {
                return self.fits(looked + at).map(|len| (len, len + 1));
            }
            looked = self.fits(there.len())?;
            if !self.more(looked.saturating_add(READ))? {
                return Ok((looked, looked));
            }
        }
    }

    fn fits(&self, len: usize) -> Result<usize, Failure> {
        if len <= self.limit {
            return Ok(len);
        }
        Err(Failure::Refused(format!(
            "line {} of stdin has more than {} bytes, the channel's record limit; use --frame chunk:SIZE or a larger \
             --capacity [RW-PUSH-SIZE]",
            self.records + 1,
            self.limit
        )))
    }

    /// Reads on, with room for at least `want` unread bytes; false at the end.
    fn more(&mut self, want: usize) -> Result<bool, Failure> {
        if self.ended {
            return Ok(false);
        }
        let room = want.max(READ);
        if self.bytes.len() - self.from < room {
            self.bytes.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
            if self.bytes.len() < room {
                self.bytes.resize(room, 0);
            }
        }
        if !self.is_file {
            self.stop.ready(self.stdin.as_fd(), PollFlags::IN)?;
        }
        loop {
            self.stop.check()?;
            match rustix::io::read(&self.stdin, &mut self.bytes[self.to..]) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(false);
                }
                Ok(got) => {
                    self.to += got;
                    return Ok(true);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => self.stop.ready(self.stdin.as_fd(), PollFlags::IN)?,
                Err(error) => return Err(Failure::Refused(format!("read stdin: {error} [RW-CTL-STDIN]"))),
            }
        }
    }

    /// Skips `count` records from the start.
    pub(crate) fn skip(&mut self, count: u64) -> Result<Skipped, Failure> {
        if let (Frame::Chunk(size), true) = (self.frame, self.is_file)
            && let Some(skipped) = self.seek(count, size as u64)
        {
            return Ok(skipped);
        }
        while self.records < count {
            if self.next()?.is_none() {
                return Ok(Skipped::Only(self.records));
            }
        }
        Ok(Skipped::All)
    }

    /// Skips chunks of a file without reading them; `None` if it can't be done this way.
    fn seek(&mut self, count: u64, size: u64) -> Option<Skipped> {
        let len = u64::try_from(rustix::fs::fstat(&self.stdin).ok()?.st_size).ok()?;
        let at = rustix::fs::tell(&self.stdin).ok()?;
        let there = len.saturating_sub(at).div_ceil(size);
        if count > there {
            return Some(Skipped::Only(there));
        }
        let to = at.checked_add(count.checked_mul(size)?)?.min(len.max(at));
        rustix::fs::seek(&self.stdin, SeekFrom::Start(to)).ok()?;
        self.records = count;
        Some(Skipped::All)
    }
}
