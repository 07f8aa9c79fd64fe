//! Integration tests of the recovery crate: one binary, a module a noun.

mod attacks;
mod attacks_child;
mod attacks_fence;
mod attacks_limits;
mod attacks_memory;
mod attacks_names;
mod attacks_order;
mod attacks_places;
mod attacks_process;
mod attacks_readers;
mod attacks_refusals;
mod attacks_steps;
mod common;
mod glances;
mod heals;
mod life;
mod life_model;
mod lost;
mod reboot;
mod removed;
mod security;
mod steps;
mod steps_chain;
mod steps_retire;
mod swept;
mod watchdog;
