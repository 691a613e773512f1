//! What a file that is not GGUF looks like: the mistakes people make, each in a few words.

/// How many bytes are looked at.
const WINDOW: usize = 1024;

/// First bytes and what they mean. Earlier rows win.
const PREFIXES: &[(&[u8], &str)] = &[
    (
        b"version https://git-lfs",
        "a git-lfs pointer: the repository was cloned without its large files (git lfs pull gets them)",
    ),
    (
        b"PK\x03\x04",
        "a zip archive, such as a PyTorch checkpoint (.bin, .pt): convert it to GGUF",
    ),
    (
        b"\x80\x02",
        "a Python pickle, such as an old PyTorch checkpoint: convert it to GGUF",
    ),
    (b"\x80\x03", "a Python pickle: convert it to GGUF"),
    (b"\x80\x04", "a Python pickle: convert it to GGUF"),
    (b"\x80\x05", "a Python pickle: convert it to GGUF"),
    (
        b"lmgg",
        "a GGML file from before GGUF (2023): convert the original model again",
    ),
    (
        b"fmgg",
        "a GGML file from before GGUF (2023): convert the original model again",
    ),
    (
        b"tjgg",
        "a GGML file from before GGUF (2023): convert the original model again",
    ),
    (
        b"algg",
        "a GGML adapter from before GGUF (2023): convert the original adapter again",
    ),
    (b"FUGG", "a GGUF file with the bytes of its words swapped"),
    (b"\x1f\x8b", "gzip-compressed data: decompress it first"),
    (
        b"\x28\xb5\x2f\xfd",
        "zstd-compressed data: decompress it first",
    ),
    (b"\xfd7zXZ\x00", "xz-compressed data: decompress it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (
        b"\x89HDF",
        "an HDF5 file, such as a Keras model: convert it to GGUF",
    ),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
];

/// A guess at what `bytes`, the start of a file, are.
pub(crate) fn looks_like(bytes: &[u8]) -> &'static str {
    let head = &bytes[..bytes.len().min(WINDOW)];
    if let Some((_, what)) = PREFIXES.iter().find(|(prefix, _)| head.starts_with(prefix)) {
        return what;
    }
    if is_safetensors(head) {
        return "a safetensors file: convert it to GGUF";
    }
    if head.get(257..262) == Some(b"ustar") {
        return "a tar archive: unpack it first";
    }
    if head.iter().all(|&byte| byte == 0) {
        return "zeros: a download that was never finished?";
    }
    match text(head) {
        Some(text) => looks_like_text(text),
        None => "data of no known kind",
    }
}

/// safetensors starts with the length of a JSON object, and the object.
fn is_safetensors(head: &[u8]) -> bool {
    let Some((len, json)) = head.split_first_chunk() else {
        return false;
    };
    // The format allows headers of up to 100 MB.
    (2..100_000_000).contains(&u64::from_le_bytes(*len)) && json.starts_with(b"{")
}

/// The head as text, if it is nothing else: a character cut at the end of the window is left out.
fn text(head: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}');
    (!text.is_empty() && !text.contains(control)).then_some(text)
}

fn looks_like_text(text: &str) -> &'static str {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let start_lower: String = start.chars().take(16).collect::<String>().to_lowercase();
    if start_lower.starts_with("<!doctype") || start_lower.starts_with("<html") {
        "a web page: the download gave a page instead of the file (log-in, licence or error page?)"
    } else if start.starts_with('<') {
        "XML: the download gave an error message instead of the file?"
    } else if start.starts_with(['{', '[']) {
        "JSON: a configuration file or an error message instead of the model?"
    } else {
        "text: an error message instead of the model?"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_mistakes_are_recognised() {
        let safetensors = [&64u64.to_le_bytes()[..], b"{\"a\":{\"dtype\":\"F32\""].concat();
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let cases: [(&[u8], &str); 14] = [
            (
                b"version https://git-lfs.example/spec/v1\noid sha256:00",
                "git-lfs pointer",
            ),
            (b"PK\x03\x04rest", "zip archive"),
            (b"\x80\x02}q", "pickle"),
            (b"tjgg\x03\0\0\0", "GGML"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\n<!DOCTYPE html><html>", "web page"),
            (b"<HTML><head>", "web page"),
            (b"<?xml version='1.0'?>", "XML"),
            (b"{\"error\": \"gated\"}", "JSON"),
            (b"Access denied\n", "text"),
            (b"\0\0\0\0\0\0\0\0\0", "zeros"),
            (b"\x01\xfe\xff", "no known kind"),
            (&safetensors, "safetensors"),
            (&tar, "tar archive"),
        ];
        for (bytes, expected) in cases {
            let found = looks_like(bytes);
            assert!(found.contains(expected), "{bytes:?}: {found}");
        }
    }

    #[test]
    fn text_cut_inside_a_character_is_text() {
        let text = format!("{}é", "x".repeat(WINDOW - 1));
        assert!(looks_like(text.as_bytes()).starts_with("text"));
    }
}
