//! One shared-memory segment's life: layout, record codec, writer, reader, waiting, mapping, SIGBUS guard, role locks.
//!
//! A segment is written by exactly one writer, ever. This crate is the mechanism; how a channel goes on from one segment to the next is
//! policy, and `ringward-recovery`'s business. Start there unless you build something of your own on segments.
//!
//! The protocol files ([`writer`], [`reader`], [`succession`], [`table`], [`wait`]) work on a [`memory::Memory`] and take their
//! atomics from one module, so that the model checker runs them on the heap; only [`segment`] and [`sys`] meet the
//! operating system. `docs/FORMAT.md` has the layout in words, `docs/PROTOCOL.md` the happens-before edges.
#![deny(unsafe_code)]

#[cfg(not(feature = "loom"))]
pub mod alone;
mod atomic;
#[cfg(not(feature = "loom"))]
pub mod build;
#[doc(hidden)]
pub mod canary;
pub mod checksum;
mod copy;
pub mod cursor;
pub mod identity;
#[cfg(not(feature = "loom"))]
pub mod image;
pub mod layout;
#[cfg(not(feature = "loom"))]
pub mod lend;
pub mod memory;
#[cfg(all(test, feature = "loom"))]
mod model;
pub mod reader;
mod record;
#[cfg(not(feature = "loom"))]
pub mod segment;
pub mod succession;
#[cfg(not(feature = "loom"))]
pub mod sys;
pub mod table;
pub mod wait;
pub mod word;
pub mod writer;
