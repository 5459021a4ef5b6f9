//! `cargo xtask load URL`: asks the same thing over many kept-alive connections and says how fast it is answered.
//!
//! One thread a connection, each sending its next request as soon as the last is answered (closed loop). Prints one
//! line of JSON. It counts every response that is not 2xx as an error and stops at the first that is not HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// A response head larger than this is not one of ours.
const HEAD_MAX: usize = 64 * 1024;
/// No answer within this time ends the measurement.
const TIMEOUT: Duration = Duration::from_secs(30);

struct Plan {
    address: String,
    request: Vec<u8>,
    connections: usize,
    duration: Duration,
    /// Time at the beginning that is not measured.
    warm_up: Duration,
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    latencies_us: Vec<u32>,
    errors: u64,
    /// Requests that were not measured, at the beginning.
    unmeasured: u64,
}

/// Runs the load that `arguments` describe.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let plan = plan(arguments)?;
    let barrier = Barrier::new(plan.connections);
    let seen: Result<Vec<Seen>, String> = std::thread::scope(|scope| {
        let connections: Vec<_> =
            (0..plan.connections).map(|_| scope.spawn(|| connection(&plan, &barrier))).collect();
        let joined = connections.into_iter().map(|c| c.join().map_err(|_| "a connection failed".to_owned()));
        joined.map(|result| result.and_then(|inner| inner)).collect()
    });
    println!("{}", report(&plan, seen?));
    Ok(true)
}

fn plan(arguments: &[String]) -> Result<Plan, String> {
    let (url, options) = arguments.split_first().ok_or(crate::USAGE)?;
    let rest = url.strip_prefix("http://").ok_or("the URL has to begin with http://")?;
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (mut connections, mut seconds, mut warm_up) = (64, 10.0, 1.0);
    let (mut body, mut bearer, mut headers) = (None, String::new(), String::new());
    let mut content_type = "content-type: application/json".to_owned();
    for option in options.chunks(2) {
        let [name, value] = option else { return Err(format!("`{}` needs a value", option.concat())) };
        let number = || value.parse::<f64>().map_err(|_| format!("{name} needs a number, not `{value}`"));
        match name.as_str() {
            "--connections" => connections = number()?.max(1.0) as usize,
            "--seconds" => seconds = number()?,
            "--warm-up" => warm_up = number()?,
            "--body" => {
                body =
                    Some(std::fs::read(value).map_err(|error| format!("{value} cannot be read: {error}"))?);
            }
            "--header" if value.to_lowercase().starts_with("content-type:") => content_type = value.clone(),
            "--header" => headers += &format!("{value}\r\n"),
            "--bearer" => bearer = format!("authorization: Bearer {value}\r\n"),
            _ => return Err(format!("there is no option `{name}`\n{}", crate::USAGE)),
        }
    }
    let method = if body.is_some() { "POST" } else { "GET" };
    let body = body.unwrap_or_default();
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {address}\r\n{bearer}{content_type}\r\n{headers}\
         content-length: {}\r\n\r\n",
        body.len()
    );
    Ok(Plan {
        address: address.to_owned(),
        request: [head.into_bytes(), body].concat(),
        connections,
        duration: Duration::from_secs_f64(seconds),
        warm_up: Duration::from_secs_f64(warm_up),
    })
}

fn connection(plan: &Plan, barrier: &Barrier) -> Result<Seen, String> {
    let connected = connect(&plan.address, TIMEOUT);
    barrier.wait();
    let mut stream = connected?;
    let mut buffer = vec![0; HEAD_MAX];
    let mut seen = Seen::default();
    let begun = Instant::now();
    let measured_from = begun + plan.warm_up;
    let until = measured_from + plan.duration;
    loop {
        let sent = Instant::now();
        if sent >= until {
            return Ok(seen);
        }
        stream.write_all(&plan.request).map_err(|error| format!("sending failed: {error}"))?;
        let good = response(&mut stream, &mut buffer)?;
        if sent >= measured_from {
            seen.latencies_us.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
            seen.errors += u64::from(!good);
        } else {
            seen.unmeasured += 1;
        }
    }
}

/// A connection on which nothing waits: neither small writes, nor reads for longer than `patience`.
pub(crate) fn connect(address: &str, patience: Duration) -> Result<TcpStream, String> {
    let failed = |error| format!("{address} cannot be reached: {error}");
    let stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    stream.set_read_timeout(Some(patience)).map_err(failed)?;
    Ok(stream)
}

/// Reads one response with a `content-length`; whether its status is 2xx.
fn response(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<bool, String> {
    let mut filled = 0;
    let head_end = loop {
        let read = stream.read(&mut buffer[filled..]).map_err(|error| format!("no answer: {error}"))?;
        if read == 0 {
            return Err("the server closed a connection".to_owned());
        }
        filled += read;
        if let Some(end) = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]);
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .ok_or("an answer has no content-length")?;
    let good = head.split_whitespace().nth(1).is_some_and(|status| status.starts_with('2'));
    let mut left = (head_end + length).saturating_sub(filled);
    while left > 0 {
        let most = left.min(buffer.len());
        let read = stream.read(&mut buffer[..most]).map_err(|error| format!("half an answer: {error}"))?;
        if read == 0 {
            return Err("the server closed a connection".to_owned());
        }
        left -= read;
    }
    Ok(good)
}

fn report(plan: &Plan, seen: Vec<Seen>) -> String {
    let errors: u64 = seen.iter().map(|s| s.errors).sum();
    let unmeasured: u64 = seen.iter().map(|s| s.unmeasured).sum();
    let mut latencies: Vec<u32> = seen.into_iter().flat_map(|s| s.latencies_us).collect();
    latencies.sort_unstable();
    let quantile = |q: f64| {
        let index = ((latencies.len() as f64 * q) as usize).min(latencies.len().saturating_sub(1));
        f64::from(latencies.get(index).copied().unwrap_or_default()) / 1000.0
    };
    format!(
        "{{\"connections\": {}, \"seconds\": {}, \"requests\": {}, \"unmeasured\": {unmeasured}, \"errors\": {errors}, \
         \"requests_per_second\": {:.1}, \"p50_ms\": {:.3}, \"p99_ms\": {:.3}, \"max_ms\": {:.3}}}",
        plan.connections,
        plan.duration.as_secs_f64(),
        latencies.len(),
        latencies.len() as f64 / plan.duration.as_secs_f64(),
        quantile(0.5),
        quantile(0.99),
        quantile(1.0),
    )
}
