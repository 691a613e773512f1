//! What is typed into the chat: messages of one or more lines, and commands.

/// The commands: name, argument, what it does.
pub(super) const COMMANDS: &[(&str, &str, &str)] = &[
    ("/help", "", "list the commands"),
    ("/clear", "", "forget the conversation; the system message stays"),
    ("/system", "TEXT", "set the system message ('-' removes it, nothing shows it)"),
    ("/regen", "", "answer the last message again"),
    ("/save", "FILE", "write the conversation to a JSON file"),
    ("/load", "FILE", "continue the conversation of a JSON file"),
    ("/stats", "", "tokens and speed"),
    ("/exit", "", "end the program (Ctrl-D does too)"),
];

/// Begins and ends a message of several lines.
const BLOCK: &str = "\"\"\"";

/// An order to the chat itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Help,
    Clear,
    /// A new system message; empty = show it.
    System(&'a str),
    Regen,
    Save(&'a str),
    Load(&'a str),
    Stats,
    Exit,
}

/// What an input means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input<'a> {
    Nothing,
    Command(Command<'a>),
    /// A message for the model.
    Message(String),
}

/// The help text.
pub(super) fn help() -> String {
    let width = COMMANDS.iter().map(|(name, arg, _)| name.len() + 1 + arg.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, arg, what) in COMMANDS {
        let usage = format!("{name} {arg}");
        text += &format!("{usage:width$}  {what}\n");
    }
    text + "\nCtrl-C stops an answer. A line that ends in \\ goes on in the next one, and \
            \"\"\" begins and ends a message of several lines. A message that begins with / is \
            written with a space before it."
}

/// Whether `text` is a whole input, or more lines belong to it.
pub(super) fn is_complete(text: &str) -> bool {
    match text.trim_start().strip_prefix(BLOCK) {
        Some(block) => block.contains(BLOCK),
        None => !is_continued(text),
    }
}

/// Whether the last line ends in a backslash that is not itself escaped by one.
fn is_continued(line: &str) -> bool {
    let backslashes = line.len() - line.trim_end_matches('\\').len();
    backslashes % 2 == 1
}

/// Takes an input apart. An input that ends before it is complete means what it holds so far.
///
/// # Errors
/// An unknown command, or one without its argument: a message that names the known ones.
pub(super) fn parse(text: &str) -> Result<Input<'_>, String> {
    if let Some(block) = text.trim_start().strip_prefix(BLOCK) {
        let (inner, after) = block.split_once(BLOCK).unwrap_or((block, ""));
        let inner = inner.strip_prefix('\n').unwrap_or(inner);
        let inner = inner.strip_suffix('\n').unwrap_or(inner);
        let message = inner.to_string() + after.trim_end();
        return Ok(if message.trim().is_empty() {
            Input::Nothing
        } else {
            Input::Message(message)
        });
    }
    if text.trim().is_empty() {
        return Ok(Input::Nothing);
    }
    if text.starts_with('/') {
        return command(text.trim_end()).map(Input::Command);
    }
    let mut message = String::new();
    for line in text.trim_end_matches('\n').split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        message += if is_continued(body) { &body[..body.len() - 1] } else { body };
        message += end;
    }
    Ok(Input::Message(message))
}

fn command<'a>(text: &'a str) -> Result<Command<'a>, String> {
    let (name, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let argument = argument.trim();
    let needs_file = |make: fn(&'a str) -> Command<'a>| match argument {
        "" => Err(format!("{name} needs the name of a file")),
        file => Ok(make(file)),
    };
    let command = match name {
        "/help" => Command::Help,
        "/clear" => Command::Clear,
        "/system" => Command::System(argument),
        "/regen" => Command::Regen,
        "/save" => return needs_file(Command::Save),
        "/load" => return needs_file(Command::Load),
        "/stats" => Command::Stats,
        "/exit" => Command::Exit,
        _ => {
            let known: Vec<&str> = COMMANDS.iter().map(|(name, ..)| *name).collect();
            return Err(format!(
                "unknown command {name:?}; known are {} (a message that begins with / is written \
                 with a space before it)",
                known.join(" ")
            ));
        }
    };
    let takes_text = matches!(command, Command::System(_));
    if !takes_text && !argument.is_empty() {
        return Err(format!("{name} takes no argument; found {argument:?}"));
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Input<'_> {
        Input::Message(text.into())
    }

    #[test]
    fn a_backslash_at_the_end_asks_for_another_line() {
        assert!(is_complete("a"));
        assert!(!is_complete("a\\"));
        assert!(is_complete("a\\\\"), "an escaped backslash");
        assert!(is_complete("a\\\nb"));
        assert_eq!(parse("a\\\nb"), Ok(message("a\nb")));
        assert_eq!(parse("a\\"), Ok(message("a")), "the input ended");
        assert_eq!(parse("  if x:\n    y\n"), Ok(message("  if x:\n    y")), "a pasted text");
    }

    #[test]
    fn a_block_holds_what_stands_between_its_marks() {
        assert!(!is_complete("\"\"\"a"));
        assert!(!is_complete("\"\"\"\na\\"));
        assert!(is_complete("\"\"\"\na\n\"\"\""));
        assert_eq!(parse("\"\"\"\n/a\\\n\nb\n\"\"\""), Ok(message("/a\\\n\nb")));
        assert_eq!(parse("\"\"\"a\"\"\" b"), Ok(message("a b")));
        assert_eq!(parse("\"\"\"\nhalf"), Ok(message("half")), "the input ended");
        assert_eq!(parse("\"\"\"\n\"\"\""), Ok(Input::Nothing));
    }

    #[test]
    fn every_listed_command_is_understood() {
        for (name, arg, _) in COMMANDS {
            let line = format!("{name} {arg}");
            assert!(matches!(parse(&line), Ok(Input::Command(_))), "{line}");
        }
        assert_eq!(parse("/system  be  brief "), Ok(Input::Command(Command::System("be  brief"))));
        assert_eq!(parse(" \n "), Ok(Input::Nothing));
        assert_eq!(parse(" /etc"), Ok(message(" /etc")));
    }

    #[test]
    fn a_wrong_command_says_what_is_right() {
        let error = parse("/quit now").unwrap_err();
        assert!(error.contains("\"/quit\""), "{error}");
        assert!(COMMANDS.iter().all(|(name, ..)| error.contains(name)), "{error}");
        assert!(parse("/save").unwrap_err().contains("the name of a file"));
        assert!(parse("/clear all").unwrap_err().contains("no argument"));
    }
}
