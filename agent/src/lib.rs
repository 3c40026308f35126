//! The pilot: a step machine that decides, and adapters that translate.

pub mod effect;
pub mod event;
pub mod kubernetes;
pub mod pilot;
