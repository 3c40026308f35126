//! The model Kubernetes through its public face: preconditions, lifecycle of sets and pods, and real clients.

mod kubelets;
mod preconditions;
mod statefulsets;
mod support;
