//! Tests of the machine as a whole live in the simulator; here are those of single rules.
