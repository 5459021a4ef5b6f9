//! The HTTP server: connections, limits, routes, keys. Knows no protocol.

mod access;
mod account;
mod audit;
pub(crate) mod authority;
mod body;
mod call;
mod connect;
mod connection;
mod door;
pub(crate) mod grpc;
mod limits;
mod metrics;
mod path;
mod rates;
mod reply;
mod route;
mod server;
mod template;
mod tls;
mod within;

pub use access::{Access, Permission};
pub use body::RequestBody;
pub use call::{App, Call};
pub use limits::Limits;
pub use metrics::Metrics;
pub(crate) use path::percent_decode;
pub use reply::{ReplyBody, Response, bytes_reply, json_reply, stream_reply};
pub use route::{Handler, Protocol, Route, Routes, Takes, handler};
pub use server::serve;
pub(crate) use template::Part;
pub use template::Template;
pub use tls::{Tls, TlsError};
pub(crate) use within::Within;
