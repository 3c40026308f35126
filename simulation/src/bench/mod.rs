//! What a mesh costs and how quick it is: real pilots over the model database, on this machine, beside serf where that
//! is installed. No test: figures depend on the machine, and so they are told together with its load.

pub mod cli;
mod figures;
mod idle;
mod mesh;
mod metrics;
mod notice;
mod process;
mod serf;
mod table;
mod takeover;
mod watching;
