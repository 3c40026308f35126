//! How a cluster comes to be: who founds it, who may, and when nobody may. Pure.

pub mod formation;
