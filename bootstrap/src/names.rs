//! What the objects of one cluster are called, derived from its set's name.

/// The longest name of a set: that of a pod, with a dash and an ordinal of up to four digits, must be a DNS label of at
/// most 63 characters, and Kubernetes adds a dash and ten more to it as the label of a set's revision.
pub const MAX_SET_CHARS: usize = 52;

/// The account the pilots of a set run under; their Role and its binding have the same name.
pub fn account(set: &str) -> String {
    format!("{set}-pilot")
}

/// The Lease of the coordinator.
pub fn lease(set: &str) -> String {
    format!("{set}-pilots")
}

/// The ConfigMap with the record of the cluster.
pub fn record(set: &str) -> String {
    format!("{set}-pilots")
}

/// The ConfigMap with the policy file.
pub fn policy(set: &str) -> String {
    format!("{set}-policy")
}

/// The ConfigMap with the settings of the database's driver.
pub fn settings(set: &str) -> String {
    format!("{set}-settings")
}

/// The Secret with the mesh keys, where no other is named.
pub fn keys(set: &str) -> String {
    format!("{set}-mesh-keys")
}

/// The headless Service through which members and pilots find each other.
pub fn members(set: &str) -> String {
    format!("{set}-members")
}

/// Whether Kubernetes takes this as the name of an object whose name becomes a DNS label.
pub fn is_label(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= 63 && name.chars().all(allowed) && !name.starts_with('-') && !name.ends_with('-')
}

/// The same, and not beginning with a digit: what a Service demands.
pub fn is_service(name: &str) -> bool {
    is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase())
}
