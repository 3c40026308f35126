//! Kubernetes objects as trees that keep their order and their comments, read and printed as YAML at the edge.

pub mod print;
pub mod read;
pub mod tree;

pub use tree::{Map, Value};
