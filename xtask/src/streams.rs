//! `cargo xtask streams URL --bodies FILE`: asks for several streamed answers at once and says when their text came.
//!
//! One thread a stream; all send at the same moment. FILE holds one JSON body a line, each a request with
//! `"stream": true` in OpenAI's shapes. Prints one line of JSON: for each stream the milliseconds from the common
//! start to each event that brought text and to its end; and what the answers' usage says.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::load::connect;

/// No event within this time ends the measurement.
const TIMEOUT: Duration = Duration::from_secs(300);
/// A longer line is not an event of ours.
const LINE_MAX: u64 = 1 << 20;

/// What one stream saw.
struct Seen {
    /// When text came.
    texts: Vec<Duration>,
    end: Duration,
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// Asks for the streams that `arguments` describe.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let (url, options) = arguments.split_first().ok_or(crate::USAGE)?;
    let rest = url.strip_prefix("http://").ok_or("the URL has to begin with http://")?;
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (mut bodies, mut bearer) = (String::new(), String::new());
    for option in options.chunks(2) {
        match option {
            [name, value] if name == "--bodies" => {
                bodies = std::fs::read_to_string(value)
                    .map_err(|error| format!("{value} cannot be read: {error}"))?;
            }
            [name, value] if name == "--bearer" => bearer = format!("authorization: Bearer {value}\r\n"),
            _ => return Err(format!("`{}` is no option with a value\n{}", option.concat(), crate::USAGE)),
        }
    }
    let requests: Vec<String> = bodies
        .lines()
        .map(|body| {
            format!(
                "POST /{path} HTTP/1.1\r\nhost: {address}\r\n{bearer}content-type: application/json\r\n\
                 connection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        })
        .collect();
    let barrier = Barrier::new(requests.len());
    let seen: Result<Vec<Seen>, String> = std::thread::scope(|scope| {
        let streams: Vec<_> =
            requests.iter().map(|request| scope.spawn(|| stream(address, request, &barrier))).collect();
        let joined = streams.into_iter().map(|s| s.join().map_err(|_| "a stream failed".to_owned()));
        joined.map(|result| result.and_then(|inner| inner)).collect()
    });
    println!("{}", report(&seen?));
    Ok(true)
}

fn stream(address: &str, request: &str, barrier: &Barrier) -> Result<Seen, String> {
    let connected = connect(address, TIMEOUT);
    barrier.wait();
    let begun = Instant::now();
    let mut connection = connected?;
    connection.write_all(request.as_bytes()).map_err(|error| format!("sending failed: {error}"))?;
    let mut answer = BufReader::new(connection);
    let chunked = head(&mut answer)?;
    let mut body: Box<dyn BufRead> =
        if chunked { Box::new(BufReader::new(Chunks { inner: answer, left: 0 })) } else { Box::new(answer) };
    let mut seen = Seen { texts: Vec::new(), end: Duration::ZERO, prompt_tokens: 0, completion_tokens: 0 };
    loop {
        let line = line(&mut body)?;
        let Some(event) = line.strip_prefix("data:").map(str::trim) else {
            if line.is_empty() {
                return Err("a stream ended without [DONE]".to_owned());
            }
            continue;
        };
        if event == "[DONE]" {
            return Ok(seen);
        }
        seen.end = begun.elapsed();
        if brings_text(event) {
            seen.texts.push(seen.end);
        }
        seen.prompt_tokens = number_after(event, "\"prompt_tokens\":").unwrap_or(seen.prompt_tokens);
        seen.completion_tokens =
            number_after(event, "\"completion_tokens\":").unwrap_or(seen.completion_tokens);
    }
}

/// Reads the head of a response: whether its body is chunked.
fn head(answer: &mut impl BufRead) -> Result<bool, String> {
    let status = line(answer)?;
    if !status.split_whitespace().nth(1).is_some_and(|code| code.starts_with('2')) {
        let mut rest = String::new();
        let _ = answer.take(LINE_MAX).read_to_string(&mut rest);
        return Err(format!("{status}\n{rest}"));
    }
    let mut chunked = false;
    loop {
        let field = line(answer)?.to_ascii_lowercase();
        if field.trim().is_empty() {
            return Ok(chunked);
        }
        chunked |= field.starts_with("transfer-encoding:") && field.contains("chunked");
    }
}

/// One line with its end; empty at the end of the body.
fn line(from: &mut impl BufRead) -> Result<String, String> {
    let mut line = String::new();
    from.take(LINE_MAX).read_line(&mut line).map_err(|error| format!("half an answer: {error}"))?;
    Ok(line)
}

/// Whether a chunk of an answer holds text that is not empty.
fn brings_text(event: &str) -> bool {
    ["\"content\":\"", "\"text\":\""]
        .iter()
        .filter_map(|key| event.split_once(key))
        .any(|(_, text)| !text.starts_with('"'))
}

fn number_after(event: &str, key: &str) -> Option<u64> {
    let digits: String =
        event.split_once(key)?.1.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The content of a chunked body (RFC 9112, section 7.1).
struct Chunks<R> {
    inner: R,
    /// Bytes left of the present chunk.
    left: usize,
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left == 0 {
            let mut size = String::new();
            if self.inner.read_line(&mut size)? == 0 {
                return Ok(0);
            }
            let size = size.trim();
            if size.is_empty() {
                continue;
            }
            let digits = size.split(';').next().unwrap_or(size);
            self.left = usize::from_str_radix(digits, 16).map_err(std::io::Error::other)?;
            if self.left == 0 {
                return Ok(0);
            }
        }
        let most = self.left.min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}

fn report(seen: &[Seen]) -> String {
    let streams: Vec<String> = seen
        .iter()
        .map(|s| {
            let ms = |time: &Duration| format!("{:.3}", time.as_secs_f64() * 1e3);
            let texts: Vec<String> = s.texts.iter().map(ms).collect();
            format!(
                "{{\"text_ms\": [{}], \"end_ms\": {}, \"prompt_tokens\": {}, \"completion_tokens\": {}}}",
                texts.join(", "),
                ms(&s.end),
                s.prompt_tokens,
                s.completion_tokens
            )
        })
        .collect();
    format!("{{\"streams\": [{}]}}", streams.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_reads_as_its_content() {
        let body = "5\r\ndata:\r\n3;x=y\r\n 1\n\r\n0\r\n\r\n";
        let mut text = String::new();
        Chunks { inner: body.as_bytes(), left: 0 }.read_to_string(&mut text).unwrap_or_default();
        assert_eq!(text, "data: 1\n");
    }

    #[test]
    fn events_tell_their_text_and_their_counts() {
        assert!(brings_text(r#"{"choices":[{"delta":{"content":"a"}}]}"#));
        assert!(!brings_text(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#));
        assert!(!brings_text(r#"{"choices":[{"delta":{"content":null}}]}"#));
        assert_eq!(number_after(r#"{"usage":{"prompt_tokens": 12,"#, "\"prompt_tokens\":"), Some(12));
    }
}
