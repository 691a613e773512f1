//! Downloads from the model hub: redirects, resumption, checksums from headers.
//!
//! Redirects are followed here, not by the HTTP crate: the hub states size and sha256 on its own
//! answer before it redirects to a store, and the user's token must not follow to another host.

use super::progress::Meter;
use super::{HubError, Options};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::Response;
use ureq::{Agent, Body};

const MAX_REDIRECTS: usize = 8;
const MAX_JSON: u64 = 16 << 20;
const BUFFER: usize = 256 << 10;

/// What is known of a file before its bytes are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// Bytes.
    pub(super) size: Option<u64>,
    /// Lower-case hexadecimal sha256.
    pub(super) sha256: Option<String>,
}

/// The client of one hub.
pub(super) struct Client<'a> {
    agent: Agent,
    options: &'a Options,
}

/// An answer with what the hub said on the way to it.
struct Answer {
    url: String,
    response: Response<Body>,
    stated: Expected,
}

impl<'a> Client<'a> {
    pub(super) fn new(options: &'a Options) -> Client<'a> {
        let config = Agent::config_builder()
            .user_agent(concat!("pumice/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_recv_response(Some(options.read_timeout))
            .timeout_per_read(Some(options.read_timeout))
            .timeout_per_write(Some(options.read_timeout))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .build();
        Client { agent: config.into(), options }
    }

    /// The GGUF and other files of a repository.
    pub(super) fn files(&self, repo: &str) -> Result<Vec<String>, HubError> {
        #[derive(serde::Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        #[derive(serde::Deserialize)]
        struct Repo {
            #[serde(default)]
            siblings: Vec<Sibling>,
        }
        let url = format!("{}/api/models/{repo}", self.options.endpoint);
        let mut answer = self.get(&url, 0)?;
        let url = answer.url.clone();
        if answer.response.status().as_u16() != 200 {
            return Err(status_error(&url, answer.response.status().as_u16()));
        }
        let body = answer.response.body_mut().with_config().limit(MAX_JSON).read_to_vec();
        let body = body.map_err(|e| network(&url, &e))?;
        let repo: Repo = serde_json::from_slice(&body)
            .map_err(|e| HubError::Protocol { url, what: format!("not a list of files: {e}") })?;
        Ok(repo.siblings.into_iter().map(|s| s.rfilename).collect())
    }

    /// The address of a repository's file.
    pub(super) fn file_url(&self, repo: &str, file: &str) -> String {
        let mut path = String::new();
        for b in file.bytes() {
            if b.is_ascii_alphanumeric() || b"-._~/".contains(&b) {
                path.push(char::from(b));
            } else {
                path.push_str(&format!("%{b:02X}"));
            }
        }
        format!("{}/{repo}/resolve/main/{path}", self.options.endpoint)
    }

    /// One request with its redirects. The token goes to the hub's own host alone.
    fn get(&self, url: &str, offset: u64) -> Result<Answer, HubError> {
        let mut url = url.to_string();
        let mut stated = Expected::default();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(&url);
            if let Some(token) = &self.options.token
                && origin(&url) == origin(&self.options.endpoint)
            {
                request = request.header("Authorization", format!("Bearer {}", token.0));
            }
            if offset > 0 {
                request = request.header("Range", format!("bytes={offset}-"));
            }
            let response = request.call().map_err(|e| network(&url, &e))?;
            let header = |name: &str| {
                response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_string)
            };
            stated.size =
                stated.size.or_else(|| header("x-linked-size").and_then(|s| s.parse().ok()));
            stated.sha256 =
                stated.sha256.or_else(|| header("x-linked-etag").and_then(|s| sha256_in(&s)));
            if !response.status().is_redirection() {
                return Ok(Answer { url, response, stated });
            }
            let to = header("location")
                .ok_or_else(|| protocol(&url, "a redirect without an address"))?;
            let next =
                join(&url, &to).ok_or_else(|| protocol(&url, "a redirect to no web address"))?;
            if url.starts_with("https:") && !next.starts_with("https:") {
                return Err(protocol(&url, "a redirect from https to http"));
            }
            url = next;
        }
        Err(protocol(&url, "too many redirects"))
    }

    /// Downloads a file into `part`, continuing what is there from an earlier try.
    ///
    /// Gives what the hub states about the file. The caller verifies the bytes.
    pub(super) fn download(
        &self,
        url: &str,
        part: &Path,
        known: &Expected,
        meter: impl Fn(Option<u64>) -> Meter,
    ) -> Result<Expected, HubError> {
        let mut bar: Option<Meter> = None;
        let mut idle = 0;
        loop {
            let have = fs::metadata(part).map(|m| m.len()).unwrap_or(0);
            match self.attempt(url, part, known, have, &mut bar, &meter) {
                Ok(stated) => return Ok(stated),
                Err(e @ HubError::Network { .. }) => {
                    // a try that brought bytes does not count against the limit
                    let progressed = fs::metadata(part).is_ok_and(|m| m.len() > have);
                    idle = if progressed { 0 } else { idle + 1 };
                    if idle > self.options.retries || (have == 0 && !progressed && bar.is_none()) {
                        return Err(e);
                    }
                    std::thread::sleep(self.options.retry_pause);
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn attempt(
        &self,
        url: &str,
        part: &Path,
        known: &Expected,
        have: u64,
        bar: &mut Option<Meter>,
        meter: &impl Fn(Option<u64>) -> Meter,
    ) -> Result<Expected, HubError> {
        let mut answer = self.get(url, have)?;
        let stated = answer.stated.clone();
        agree(url, known, &stated)?;
        let id = known
            .sha256
            .clone()
            .or_else(|| stated.sha256.clone())
            .unwrap_or_else(|| url.to_string());
        let id_path = id_path(part);
        let same = fs::read_to_string(&id_path).is_ok_and(|old| old == id);
        let size = known.size.or(stated.size);
        let mut offset = have;
        match answer.response.status().as_u16() {
            206 if have > 0 && same && range_starts_at(&answer, have) => {}
            // what is there belongs to another file, or goes beyond its end: start again
            206 | 416 if have > 0 => {
                if same && size == Some(have) {
                    return Ok(stated);
                }
                fs::remove_file(part).map_err(HubError::io(part))?;
                return self.attempt(url, part, known, 0, bar, meter);
            }
            200 => offset = 0,
            status => return Err(status_error(&answer.url, status)),
        }
        let length = answer
            .response
            .headers()
            .get("content-length")
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.parse::<u64>().ok());
        let total = size.or(length.map(|l| l + offset));
        if bar.is_none() {
            *bar = Some(meter(total));
        }
        if let Some(folder) = part.parent() {
            fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        }
        fs::write(&id_path, &id).map_err(HubError::io(&id_path))?;
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(part)
            .map_err(HubError::io(part))?;
        file.set_len(offset)
            .and_then(|()| file.seek(SeekFrom::Start(offset)))
            .map_err(HubError::io(part))?;
        copy(
            &answer.url,
            answer.response.body_mut().as_reader(),
            &mut file,
            part,
            offset,
            total,
            bar.as_ref(),
        )?;
        Ok(stated)
    }
}

/// Copies a body to its file.
fn copy(
    url: &str,
    mut body: impl Read,
    file: &mut File,
    part: &Path,
    from: u64,
    total: Option<u64>,
    bar: Option<&Meter>,
) -> Result<(), HubError> {
    let mut buffer = vec![0; BUFFER];
    let mut at = from;
    loop {
        let n = body.read(&mut buffer).map_err(|e| HubError::Network {
            url: url.into(),
            why: format!("the connection broke after {at} bytes: {e}"),
        })?;
        if n == 0 {
            break;
        }
        file.write_all(&buffer[..n]).map_err(HubError::io(part))?;
        at += n as u64;
        if total.is_some_and(|t| at > t) {
            return Err(protocol(
                url,
                &format!("more than the {} bytes that were announced", total.unwrap_or(0)),
            ));
        }
        if let Some(bar) = bar {
            bar.set(at);
        }
    }
    match total {
        Some(t) if at < t => Err(HubError::Network {
            url: url.into(),
            why: format!("the connection ended after {at} of {t} bytes"),
        }),
        _ => Ok(()),
    }
}

/// Says which file an unfinished download is of.
fn id_path(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(".id");
    name.into()
}

/// A pinned file and the hub's statement about it must agree before a byte is fetched.
fn agree(url: &str, known: &Expected, stated: &Expected) -> Result<(), HubError> {
    let mismatch = |kind, found: String, expected: String| HubError::Mismatch {
        what: url.to_string(),
        kind,
        found,
        expected,
    };
    if let (Some(k), Some(s)) = (&known.sha256, &stated.sha256)
        && k != s
    {
        return Err(mismatch("sha256", s.clone(), k.clone()));
    }
    match (known.size, stated.size) {
        (Some(k), Some(s)) if k != s => Err(mismatch("size", s.to_string(), k.to_string())),
        _ => Ok(()),
    }
}

/// The answer to a Range request starts where it was asked to.
fn range_starts_at(answer: &Answer, have: u64) -> bool {
    let range = answer.response.headers().get("content-range").and_then(|v| v.to_str().ok());
    let start =
        range.and_then(|r| r.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
    start == Some(have)
}

/// A sha256 in an ETag header; other tags are no checksums.
fn sha256_in(etag: &str) -> Option<String> {
    let tag = etag.trim().trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
    (tag.len() == 64 && tag.bytes().all(|b| b.is_ascii_hexdigit())).then_some(tag)
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    Some(format!("{scheme}://{host}").to_ascii_lowercase())
}

/// An absolute address from a redirect's target.
fn join(base: &str, to: &str) -> Option<String> {
    if to.starts_with("http://") || to.starts_with("https://") {
        return Some(to.to_string());
    }
    let origin = origin(base)?;
    if let Some(rest) = to.strip_prefix("//") {
        return Some(format!("{}://{rest}", origin.split("://").next()?));
    }
    if to.contains("://") {
        return None;
    }
    if to.starts_with('/') {
        return Some(origin + to);
    }
    let path = base.split(['?', '#']).next()?;
    Some(format!(
        "{}/{to}",
        path.rsplit_once('/').filter(|p| p.0.len() >= origin.len()).map_or(&*origin, |p| p.0)
    ))
}

fn protocol(url: &str, what: &str) -> HubError {
    HubError::Protocol { url: url.into(), what: what.into() }
}

fn network(url: &str, e: &ureq::Error) -> HubError {
    let why = match e {
        ureq::Error::HostNotFound => "the host's name cannot be resolved".into(),
        ureq::Error::ConnectionFailed => "no connection".into(),
        ureq::Error::Timeout(_) => "no answer in time".to_string(),
        other => other.to_string(),
    };
    HubError::Network { url: url.into(), why }
}

fn status_error(url: &str, status: u16) -> HubError {
    let hint = match status {
        401 | 403 => ": the model may need its licence accepted on the hub, and HF_TOKEN set",
        404 => ": no such repository or file",
        429 => ": too many requests, try again later",
        500..=599 => ": the server has a problem, try again later",
        _ => "",
    };
    HubError::Status { url: url.into(), status, hint }
}

/// Timeouts that suit people waiting at a terminal.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_joined_and_origins_compared() {
        let at = "https://h.example:8/a/b/c?x=/y";
        assert_eq!(join(at, "/d?e").as_deref(), Some("https://h.example:8/d?e"));
        assert_eq!(join(at, "d").as_deref(), Some("https://h.example:8/a/b/d"));
        assert_eq!(join(at, "//o.example/d").as_deref(), Some("https://o.example/d"));
        assert_eq!(join(at, "http://o.example/").as_deref(), Some("http://o.example/"));
        assert_eq!(join(at, "file:///etc/passwd"), None);
        assert_ne!(origin("https://h.example"), origin("https://h.example.evil"));
        assert_ne!(origin("https://h.example"), origin("http://h.example"));
        assert_eq!(sha256_in(&format!("\"{}\"", "AB".repeat(32))), Some("ab".repeat(32)));
        assert_eq!(sha256_in("\"d41d8cd98f00b204e9800998ecf8427e\""), None);
    }
}
