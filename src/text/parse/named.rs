//! Calls that name the tool first and then give a JSON object: DeepSeek, Kimi, Solar, Mistral, Functionary.

use super::cursor::{Cursor, Next, Quotes};
use super::json::{self, Objects};
use super::reader::{Call, Read, Reader, got, is_name};
use super::schema::Tools;

/// Marks of a section of calls.
#[derive(Debug)]
pub(super) struct Marks {
    /// Opens one call.
    pub(super) opens: &'static [&'static str],
    /// Stands between a call's id and its name; nothing where calls have no id.
    pub(super) id_ends: &'static [&'static str],
    /// Stands between name and arguments.
    pub(super) between: &'static [&'static str],
    /// Closes one call.
    pub(super) closes: &'static [&'static str],
    /// Closes the section.
    pub(super) ends: &'static [&'static str],
}

/// A section of calls, each `open NAME between {..} close`, or `open ID id_end NAME ..`.
///
/// DeepSeek R1 writes `function between NAME`, a line break and the object in a fence of back-ticks;
/// Kimi writes `functions.NAME:7` for the name, which is the call's id too.
#[derive(Debug)]
pub(super) struct Section {
    cursor: Cursor,
    marks: &'static Marks,
    state: State,
    name: String,
    id: Option<String>,
}

#[derive(Debug)]
enum State {
    Between,
    Id,
    Name,
    NameInFence,
    Arguments,
    Closing,
}

impl State {
    /// What a call begins with.
    fn opened(marks: &Marks) -> State {
        if marks.id_ends.is_empty() { State::Name } else { State::Id }
    }
}

impl Section {
    /// `is_open`: the marker has opened a call already.
    pub(super) fn new(marker: &str, marks: &'static Marks, is_open: bool) -> Section {
        let state = if is_open { State::opened(marks) } else { State::Between };
        Section { cursor: Cursor::new(marker.len()), marks, state, name: String::new(), id: None }
    }

    /// Takes the name as it is written; false if it is none.
    fn take_name(&mut self, written: &str) -> bool {
        let written = written.trim();
        self.name = written.to_owned();
        if self.marks.id_ends.is_empty()
            && let Some((name, index)) = written.rsplit_once(':')
            && index.bytes().all(|b| b.is_ascii_digit())
        {
            self.name = name.strip_prefix("functions.").unwrap_or(name).to_owned();
            self.id = Some(written.to_owned());
        }
        is_name(&self.name)
    }
}

impl Reader for Section {
    fn read(&mut self, text: &str, at_end: bool, _: &Tools) -> Read {
        loop {
            match self.state {
                State::Between => {
                    self.cursor.skip_space(text);
                    let end = match self.cursor.spent {
                        0 => Read::Bad,
                        spent => Read::End(spent),
                    };
                    let words: Vec<&str> = [self.marks.opens, self.marks.ends].concat();
                    let which = got!(self.cursor.word(text, &words, at_end), end);
                    if which >= self.marks.opens.len() {
                        return Read::End(self.cursor.at);
                    }
                    self.state = State::opened(self.marks);
                }
                State::Id => {
                    let next = self.cursor.name_until(text, self.marks.id_ends);
                    self.id = Some(got!(next, Read::Bad).0.trim().to_owned());
                    self.state = State::Name;
                }
                State::Name => {
                    let next = self.cursor.name_until(text, self.marks.between);
                    let (written, _) = got!(next, Read::Bad);
                    let is_kind = written.trim() == "function";
                    if !is_kind && !self.take_name(written) {
                        return Read::Bad;
                    }
                    self.state = if is_kind { State::NameInFence } else { State::Arguments };
                }
                State::NameInFence => {
                    let (written, _) = got!(self.cursor.name_until(text, &["\n"]), Read::Bad);
                    if !self.take_name(written) {
                        return Read::Bad;
                    }
                    self.cursor.skip_space(text);
                    self.state = State::Arguments;
                }
                State::Arguments => {
                    self.cursor.skip_space(text);
                    match self.cursor.word(text, &["```json", "```"], at_end) {
                        Next::More => return Read::More,
                        // A fence whose kind may yet come.
                        Next::Got(1) if !at_end && "json".starts_with(self.cursor.rest(text)) => {
                            self.cursor.at -= 3;
                            return Read::More;
                        }
                        Next::Got(_) | Next::No => self.cursor.skip_space(text),
                    }
                    let object = got!(self.cursor.brackets(text, Quotes::Double), Read::Bad);
                    let Some(arguments) = json::arguments(object) else { return Read::Bad };
                    self.state = State::Closing;
                    let (name, id) = (std::mem::take(&mut self.name), self.id.take());
                    return Read::Calls(vec![Call { name, arguments, id }], self.cursor.spend());
                }
                State::Closing => {
                    self.cursor.skip_space(text);
                    match self.cursor.word(text, &["```"], at_end) {
                        Next::More => return Read::More,
                        Next::Got(_) => drop(self.cursor.spend()),
                        Next::No => {
                            let end = Read::End(self.cursor.spent);
                            got!(self.cursor.word(text, self.marks.closes, at_end), end);
                            self.cursor.spend();
                            self.state = State::Between;
                        }
                    }
                }
            }
        }
    }
}

/// Mistral: `[TOOL_CALLS]NAME[ARGS]{..}`, with `[CALL_ID]ID` before the arguments at times, or
/// `[TOOL_CALLS]` and a list of objects.
#[derive(Debug)]
pub(super) struct Mistral {
    cursor: Cursor,
    list: Option<Objects>,
    name: String,
    id: Option<String>,
    state: MistralState,
}

#[derive(Debug)]
enum MistralState {
    Start,
    Name,
    Id,
    Arguments,
    End,
}

impl Mistral {
    pub(super) fn new(marker: &str) -> Mistral {
        let (list, name, id) = (None, String::new(), None);
        Mistral { cursor: Cursor::new(marker.len()), list, name, id, state: MistralState::Start }
    }
}

impl Reader for Mistral {
    fn read(&mut self, text: &str, at_end: bool, tools: &Tools) -> Read {
        if let Some(list) = &mut self.list {
            return list.read(text, at_end, tools);
        }
        loop {
            match self.state {
                MistralState::Start => {
                    self.cursor.skip_space(text);
                    match self.cursor.peek(text) {
                        None => return if at_end { Read::Bad } else { Read::More },
                        Some('[' | '{') => {
                            let list = Objects::new(&text[..self.cursor.at], &[]);
                            return self.list.insert(list).read(text, at_end, tools);
                        }
                        Some(_) => self.state = MistralState::Name,
                    }
                }
                MistralState::Name => {
                    let words = ["[ARGS]", "[CALL_ID]", "{"];
                    let (name, which) = got!(self.cursor.name_until(text, &words), Read::Bad);
                    if !is_name(name.trim()) {
                        return Read::Bad;
                    }
                    self.name = name.trim().to_owned();
                    self.cursor.at -= usize::from(which == 2);
                    self.state =
                        if which == 1 { MistralState::Id } else { MistralState::Arguments };
                }
                MistralState::Id => {
                    let (id, _) = got!(self.cursor.name_until(text, &["[ARGS]"]), Read::Bad);
                    self.id = Some(id.trim().to_owned());
                    self.state = MistralState::Arguments;
                }
                MistralState::Arguments => {
                    self.cursor.skip_space(text);
                    let object = got!(self.cursor.brackets(text, Quotes::Double), Read::Bad);
                    let Some(arguments) = json::arguments(object) else { return Read::Bad };
                    self.state = MistralState::End;
                    let (name, id) = (std::mem::take(&mut self.name), self.id.take());
                    return Read::Calls(vec![Call { name, arguments, id }], self.cursor.spend());
                }
                MistralState::End => return Read::End(self.cursor.at),
            }
        }
    }
}

/// Functionary 3.2: `NAME`, a line break and what it is told: text for `all`, an object for a tool.
#[derive(Debug)]
pub(super) struct Addressed {
    cursor: Cursor,
    name: Option<String>,
    is_done: bool,
}

impl Addressed {
    pub(super) fn new(marker: &str) -> Addressed {
        Addressed { cursor: Cursor::new(marker.len()), name: None, is_done: false }
    }
}

impl Reader for Addressed {
    fn read(&mut self, text: &str, _: bool, tools: &Tools) -> Read {
        if self.is_done {
            return Read::End(self.cursor.at);
        }
        let name = match &self.name {
            Some(name) => name,
            None => {
                let (name, _) = got!(self.cursor.name_until(text, &["\n"]), Read::Bad);
                let name = name.trim();
                if name == "all" {
                    return Read::End(self.cursor.at);
                }
                if !is_name(name) || !tools.may_call() || !tools.may_be(name) {
                    return Read::Bad;
                }
                self.name.insert(name.to_owned())
            }
        };
        self.cursor.skip_space(text);
        let object = got!(self.cursor.brackets(text, Quotes::Double), Read::Bad);
        let Some(arguments) = json::arguments(object) else { return Read::Bad };
        self.is_done = true;
        Read::Calls(vec![Call { name: name.clone(), arguments, id: None }], self.cursor.spend())
    }
}
