//! Where the model is known to answer differently, and why that is left so.

/// Script, step, and the reason.
pub(crate) const KNOWN: &[(&str, &str, &str)] = &[(
    "what is absent is not found",
    "GET /apis/gadgets.test/v1/gadgets",
    "of a group that it does not serve the real one says so in plain text; clients look at the code alone",
)];
