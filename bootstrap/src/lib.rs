//! How a cluster comes to be: its objects made from one document, pilots brought into a StatefulSet that is there
//! already, and the rules of founding. Pure.

pub mod cassandra;
pub mod chart;
pub mod cluster;
pub mod first_size;
pub mod formation;
pub mod image;
pub mod inject;
pub mod labels;
pub mod manifest;
pub mod names;
pub mod pod;
pub mod rbac;
pub mod rights;
