//! Conversations in files: a JSON array of {"role", "content"}.

use anyhow::{Context as _, bail};
use pumice::Message;
use std::path::{Path, PathBuf};

/// A conversation as other programs write it too.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Conversation {
    Bare(Vec<Message>),
    Wrapped { messages: Vec<Message> },
}

/// The path of a name that was typed, where no shell replaces `~`.
fn path(name: &str) -> PathBuf {
    let home = name.strip_prefix("~/").zip(std::env::home_dir());
    home.map_or_else(|| PathBuf::from(name), |(rest, home)| home.join(rest))
}

/// Reads a conversation: an array of messages, or an object that has one as `messages`.
///
/// # Errors
/// The system's; a file that holds something else.
pub(super) fn load(name: &str) -> anyhow::Result<Vec<Message>> {
    let path = path(name);
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    parse(&text).with_context(|| {
        format!("{}: expected a JSON array of {{\"role\", \"content\"}}", path.display())
    })
}

fn parse(text: &[u8]) -> anyhow::Result<Vec<Message>> {
    // First as plain JSON, whose errors tell the place.
    let value: serde_json::Value = serde_json::from_slice(text)?;
    match serde_json::from_value(value) {
        Ok(Conversation::Bare(messages) | Conversation::Wrapped { messages }) => Ok(messages),
        Err(_) => bail!("the JSON is something else"),
    }
}

/// Writes a conversation. Only a file that is a conversation itself is replaced: a slip of the
/// fingers costs no other file.
///
/// # Errors
/// The system's; a file that holds something else.
pub(super) fn save(name: &str, messages: &[Message]) -> anyhow::Result<()> {
    let path = path(name);
    if holds_something_else(&path) {
        bail!("{} exists and is no conversation; it was left as it is", path.display());
    }
    let text = serde_json::to_string_pretty(messages)? + "\n";
    std::fs::write(&path, text).with_context(|| path.display().to_string())
}

fn holds_something_else(path: &Path) -> bool {
    // Devices (/dev/stderr) take what they are given; they cannot be read first.
    path.is_file() && std::fs::read(path).is_ok_and(|t| !t.is_empty() && parse(&t).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_common_forms_are_read() {
        let bare = br#"[{"role": "user", "content": "a", "more": 1}]"#;
        let wrapped = br#"{"model": "x", "messages": [{"role": "user", "content": "a"}]}"#;
        assert_eq!(parse(bare).unwrap(), [Message::new("user", "a")]);
        assert_eq!(parse(wrapped).unwrap(), [Message::new("user", "a")]);
        assert!(parse(b"[{]").unwrap_err().to_string().contains("line 1 column 3"));
        assert!(parse(b"[{\"role\": \"user\"}]").is_err());
    }

    #[test]
    fn other_files_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let name = file.to_str().unwrap();
        let messages = [Message::new("user", "a\n\"b\"")];
        save(name, &messages).unwrap();
        save(name, &messages).unwrap();
        assert_eq!(load(name).unwrap(), messages);
        std::fs::write(&file, "my notes").unwrap();
        assert!(save(name, &messages).unwrap_err().to_string().contains("no conversation"));
        assert_eq!(std::fs::read(&file).unwrap(), b"my notes");
        assert!(format!("{:#}", load(name).unwrap_err()).contains("JSON array"));
    }
}
