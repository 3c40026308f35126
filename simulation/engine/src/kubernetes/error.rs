//! Refusals, worded and coded as a real API server words and codes them.

use serde_json::{Value, json};

/// The machine-readable cause of a refusal (`metav1.StatusReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 409: something of that name exists
    AlreadyExists,
    /// 409: a precondition or an owner stood in the way
    Conflict,
    /// 410: the revision asked for is compacted
    Expired,
    /// 415
    UnsupportedMediaType,
    /// 422
    Invalid,
    /// 429
    TooManyRequests,
    /// 500
    InternalError,
    /// 500 of which the server names no reason
    Unnamed,
    /// 503
    ServiceUnavailable,
    /// 504
    Timeout,
}

impl Reason {
    /// The HTTP status that goes with the reason.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Expired => 410,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::Unnamed => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Expired => "Expired",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::Invalid => "Invalid",
            Self::TooManyRequests => "TooManyRequests",
            Self::InternalError => "InternalError",
            Self::Unnamed => "",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
        }
    }
}

/// What a refusal is about: shown in the message and in `details`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    pub(crate) group: String,
    /// Plural resource name, as `details.kind` confusingly carries it.
    pub(crate) resource: String,
    pub(crate) name: String,
}

impl Subject {
    fn qualified(&self) -> String {
        if self.group.is_empty() { self.resource.clone() } else { format!("{}.{}", self.resource, self.group) }
    }
}

/// One thing wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where, as `spec.containers[0].image`.
    pub(crate) field: String,
    /// What; the first words say of which sort, as in real messages.
    pub(crate) why: String,
}

impl Fault {
    fn to_cause(&self) -> Value {
        const SORTS: [(&str, &str); 5] = [
            ("Forbidden", "FieldValueForbidden"),
            ("Required value", "FieldValueRequired"),
            ("Unsupported value", "FieldValueNotSupported"),
            ("Duplicate value", "FieldValueDuplicate"),
            ("Not found", "FieldValueNotFound"),
        ];
        let sort =
            SORTS.iter().find(|(word, _)| self.why.starts_with(word)).map_or("FieldValueInvalid", |(_, sort)| sort);
        json!({"reason": sort, "message": self.why, "field": self.field})
    }
}

/// A refusal of a request: becomes a `Status` body.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Why, for machines.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
    /// What it is about, and the single causes.
    pub details: Value,
}

impl ApiError {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), details: Value::Null }
    }

    fn about(reason: Reason, subject: &Subject, message: String) -> Self {
        let mut details = json!({"name": subject.name, "kind": subject.resource});
        if !subject.group.is_empty() {
            details["group"] = Value::from(subject.group.clone());
        }
        Self { reason, message, details }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    pub(crate) fn not_found(subject: &Subject) -> Self {
        let message = format!("{} \"{}\" not found", subject.qualified(), subject.name);
        Self::about(Reason::NotFound, subject, message)
    }

    pub(crate) fn already_exists(subject: &Subject) -> Self {
        let message = format!("{} \"{}\" already exists", subject.qualified(), subject.name);
        Self::about(Reason::AlreadyExists, subject, message)
    }

    pub(crate) fn conflict(subject: &Subject, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{}\": {why}", subject.qualified(), subject.name);
        Self::about(Reason::Conflict, subject, message)
    }

    pub(crate) fn stale(subject: &Subject) -> Self {
        Self::conflict(
            subject,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(crate) fn uid_precondition(subject: &Subject, wanted: &str, found: &str) -> Self {
        Self::conflict(
            subject,
            &format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"),
        )
    }

    pub(crate) fn revision_precondition(subject: &Subject, wanted: &str, found: &str) -> Self {
        Self::conflict(
            subject,
            &format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {found}"
            ),
        )
    }

    pub(crate) fn invalid(kind: &str, subject: &Subject, field: &str, why: &str) -> Self {
        Self::invalid_in(kind, subject, &[Fault { field: field.to_owned(), why: why.to_owned() }])
    }

    /// One refusal for all that is wrong.
    pub(crate) fn invalid_in(kind: &str, subject: &Subject, faults: &[Fault]) -> Self {
        let qualified = if subject.group.is_empty() { kind.to_owned() } else { format!("{kind}.{}", subject.group) };
        let told: Vec<String> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.why)).collect();
        let told = if let [only] = told.as_slice() { only.clone() } else { format!("[{}]", told.join(", ")) };
        let message = format!("{qualified} \"{}\" is invalid: {told}", subject.name);
        let mut error = Self::about(Reason::Invalid, subject, message);
        error.details["kind"] = Value::from(kind);
        error.details["causes"] = faults.iter().map(Fault::to_cause).collect::<Vec<_>>().into();
        error
    }

    /// A query or an option that cannot be.
    pub(crate) fn invalid_option(kind: &str, field: &str, why: &str) -> Self {
        Self::invalid(kind, &Subject::default(), field, why)
    }

    /// A revision that the server has not come to.
    pub(crate) fn too_new(wanted: u64, newest: u64) -> Self {
        let mut error = Self::new(Reason::Timeout, format!("Too large resource version: {wanted}, current: {newest}"));
        error.details = json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        });
        error
    }

    /// The `Status` object a client receives.
    #[must_use]
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.reason.code(),
        });
        if !self.reason.word().is_empty() {
            status["reason"] = Value::from(self.reason.word());
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}
