//! [`Fault`]: why a request is not answered as asked, before a protocol gives it its own shape.

use std::time::Duration;

use http::StatusCode;

/// What kind of fault, in the vocabulary of `google.rpc.Code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Stopped on request.
    Cancelled,
    /// The request is wrong whatever the state of the system.
    InvalidArgument,
    /// It took longer than allowed.
    DeadlineExceeded,
    /// No such resource.
    NotFound,
    /// A resource of that name exists.
    AlreadyExists,
    /// The key may not.
    PermissionDenied,
    /// A limit is reached.
    ResourceExhausted,
    /// The request is right, but not in the present state.
    FailedPrecondition,
    /// Someone else wrote first.
    Aborted,
    /// A range that the object does not have.
    OutOfRange,
    /// A known part of the protocol that is not served.
    Unimplemented,
    /// A defect or an unforeseen state.
    Internal,
    /// Cannot be answered now.
    Unavailable,
    /// Stored bytes are not what was stored.
    DataLoss,
    /// No key, or none that is valid.
    Unauthenticated,
}

/// Why a request is not answered as asked.
#[derive(Debug)]
pub struct Fault {
    /// What kind.
    pub code: Code,
    /// What happened, on what, and what to do: safe to send.
    pub message: String,
    /// The cause, for the log alone.
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Another HTTP status than the code's own.
    pub http_status: Option<StatusCode>,
    /// The field of the request that it is about, for protocols that say so apart.
    pub field: Option<String>,
    /// A word for programs, for protocols that have one: `context_length_exceeded`.
    pub reason: Option<&'static str>,
}

impl Code {
    /// The number of `google.rpc.Code`.
    pub fn number(self) -> i32 {
        match self {
            Code::Cancelled => 1,
            Code::InvalidArgument => 3,
            Code::DeadlineExceeded => 4,
            Code::NotFound => 5,
            Code::AlreadyExists => 6,
            Code::PermissionDenied => 7,
            Code::ResourceExhausted => 8,
            Code::FailedPrecondition => 9,
            Code::Aborted => 10,
            Code::OutOfRange => 11,
            Code::Unimplemented => 12,
            Code::Internal => 13,
            Code::Unavailable => 14,
            Code::DataLoss => 15,
            Code::Unauthenticated => 16,
        }
    }

    /// The name of `google.rpc.Code`.
    pub fn name(self) -> &'static str {
        match self {
            Code::Cancelled => "CANCELLED",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Code::InvalidArgument | Code::FailedPrecondition => StatusCode::BAD_REQUEST,
            Code::OutOfRange => StatusCode::RANGE_NOT_SATISFIABLE,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            // 499 is what Google's services answer; the HTTP registry has no name for it.
            Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<control::ErrorCode> for Code {
    fn from(code: control::ErrorCode) -> Self {
        use control::ErrorCode as E;
        match code {
            E::InvalidArgument => Code::InvalidArgument,
            E::NotFound => Code::NotFound,
            E::AlreadyExists => Code::AlreadyExists,
            E::FailedPrecondition => Code::FailedPrecondition,
            E::Aborted => Code::Aborted,
            E::PermissionDenied => Code::PermissionDenied,
            E::ResourceExhausted => Code::ResourceExhausted,
            E::DeadlineExceeded => Code::DeadlineExceeded,
            E::Cancelled => Code::Cancelled,
            E::Unimplemented => Code::Unimplemented,
            E::Unavailable => Code::Unavailable,
            E::DataLoss => Code::DataLoss,
            E::Internal => Code::Internal,
        }
    }
}

impl Fault {
    /// A fault of `code` that tells the client `message`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let (cause, retry_after, http_status) = (None, None, None);
        Fault { code, message: message.into(), cause, retry_after, http_status, field: None, reason: None }
    }

    /// [`Code::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// [`Code::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// [`Code::Unimplemented`].
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Code::Unimplemented, message)
    }

    /// [`Code::Internal`], with the cause for the log.
    pub fn internal(attempted: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let message = format!("failed {attempted}; the server's log has the cause");
        Fault { cause: Some(cause.into()), ..Self::new(Code::Internal, message) }
    }

    /// Answers with `status` in place of the code's own.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.http_status = Some(status);
        self
    }

    /// Says which field of the request it is about.
    #[must_use]
    pub fn about(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Adds a word for programs.
    #[must_use]
    pub fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.http_status.unwrap_or_else(|| self.code.status())
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// What ends a reply that has begun.
impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        match error.downcast::<Fault>() {
            Ok(fault) => fault,
            Err(error) => Fault::internal("going on with a reply", error),
        }
    }
}

impl From<control::Error> for Fault {
    fn from(error: control::Error) -> Self {
        if let Some(exceeded) =
            error.source.as_ref().and_then(|source| source.downcast_ref::<control::Exceeded>())
        {
            return exceeded.clone().into();
        }
        Fault { cause: error.source, ..Fault::new(error.code.into(), error.message) }
    }
}

impl From<control::NameError> for Fault {
    fn from(error: control::NameError) -> Self {
        Fault::invalid(error.to_string())
    }
}
