//! The model Kubernetes through its public face: preconditions, lifecycle of sets and pods, and real clients.

mod first_size;
mod kubectl;
mod kubelets;
mod preconditions;
mod served;
mod statefulsets;
mod support;
