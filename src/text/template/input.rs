//! What a conversation passes to its template.

use super::value::{Dict, List, Shape, Trust, from_json, json_bytes, text};
use super::{DateTime, KNOWN_ROLES, TemplateError};
use minijinja::Error;
use minijinja::value::Value;
use serde_json::{Map, Value as Json};

/// The variables of one rendering.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderInput {
    /// A list of message objects, as the template sees them.
    pub messages: Json,
    /// Tool definitions; None is passed as null.
    pub tools: Option<Json>,
    /// Documents for retrieval templates; None is passed as null.
    pub documents: Option<Json>,
    /// Whether the rendering ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Extra variables such as `enable_thinking`.
    pub kwargs: Map<String, Json>,
    /// What `strftime_now` answers from.
    pub now: DateTime,
    /// The text of the BOS token, trusted.
    pub bos_token: String,
    /// The text of the EOS token, trusted.
    pub eos_token: String,
    /// Variables that are left undefined instead of being passed as null.
    pub absent: Vec<String>,
}

impl RenderInput {
    /// A conversation with the generation prompt, without tools, at the present local time.
    pub fn new(messages: Json) -> RenderInput {
        RenderInput {
            messages,
            tools: None,
            documents: None,
            add_generation_prompt: true,
            kwargs: Map::new(),
            now: DateTime::now_local(),
            bos_token: String::new(),
            eos_token: String::new(),
            absent: Vec::new(),
        }
    }

    /// Reads an object with the fields of this struct (`pumice template --jsonl`); fields other than
    /// `messages` may be missing.
    ///
    /// # Errors
    /// [`TemplateError::Input`] naming the field.
    pub fn from_json(object: &Json) -> Result<RenderInput, TemplateError> {
        let wrong = |field: &str, what: &str| {
            TemplateError::Input(format!("the input's `{field}` must be {what}"))
        };
        let Some(map) = object.as_object() else {
            return Err(TemplateError::Input("the input must be a JSON object".into()));
        };
        let given = |field: &str| map.get(field).filter(|v| !v.is_null());
        let string = |field: &str| match given(field) {
            None => Ok(String::new()),
            Some(v) => v.as_str().map(str::to_string).ok_or_else(|| wrong(field, "a string")),
        };
        let mut rv = RenderInput::new(
            given("messages").cloned().ok_or_else(|| wrong("messages", "a list of messages"))?,
        );
        rv.tools = given("tools").cloned();
        rv.documents = given("documents").cloned();
        rv.bos_token = string("bos_token")?;
        rv.eos_token = string("eos_token")?;
        rv.add_generation_prompt = match given("add_generation_prompt") {
            None => false,
            Some(v) => {
                v.as_bool().ok_or_else(|| wrong("add_generation_prompt", "true or false"))?
            }
        };
        if let Some(v) = given("kwargs") {
            rv.kwargs = v.as_object().cloned().ok_or_else(|| wrong("kwargs", "an object"))?;
        }
        if given("now").is_some() {
            rv.now = string("now")?.parse().map_err(|e| wrong("now", &format!("a date: {e}")))?;
        }
        if let Some(v) = given("absent") {
            let names = v.as_array().ok_or_else(|| wrong("absent", "a list of names"))?;
            rv.absent = names.iter().filter_map(|n| n.as_str().map(str::to_string)).collect();
        }
        Ok(rv)
    }

    /// A measure of the input's size in bytes.
    pub(super) fn bytes(&self) -> usize {
        let optional =
            [&self.tools, &self.documents].into_iter().flatten().map(json_bytes).sum::<usize>();
        json_bytes(&self.messages) + optional + self.kwargs.values().map(json_bytes).sum::<usize>()
    }

    /// The template's variables.
    pub(super) fn context(&self) -> Result<Value, Error> {
        let optional = |v: &Option<Json>| {
            v.as_ref().map_or(Ok(Value::from(())), |v| from_json(v, Trust::Caller))
        };
        let mut vars = vec![
            ("messages".to_string(), messages(&self.messages)?),
            ("tools".to_string(), optional(&self.tools)?),
            ("documents".to_string(), optional(&self.documents)?),
            ("add_generation_prompt".to_string(), Value::from(self.add_generation_prompt)),
            ("bos_token".to_string(), text(&self.bos_token, Trust::Template)),
            ("eos_token".to_string(), text(&self.eos_token, Trust::Template)),
        ];
        let empty = |v: &Value| v.is_none() || v.as_str() == Some("");
        vars.retain(|(name, v)| !(empty(v) && self.absent.contains(name)));
        for (name, v) in &self.kwargs {
            vars.push((name.clone(), from_json(v, Trust::Caller)?));
        }
        Ok(Value::from_pairs(vars))
    }
}

/// The conversation, with known roles trusted.
fn messages(v: &Json) -> Result<Value, Error> {
    let Some(list) = v.as_array() else {
        return from_json(v, Trust::Caller);
    };
    let mut rv = Vec::with_capacity(list.len());
    for message in list {
        let Some(map) = message.as_object() else {
            rv.push(from_json(message, Trust::Caller)?);
            continue;
        };
        let mut pairs = Vec::with_capacity(map.len());
        for (k, v) in map {
            let known = k == "role" && v.as_str().is_some_and(|r| KNOWN_ROLES.contains(&r));
            pairs.push((
                text(k, Trust::Caller),
                from_json(v, if known { Trust::Template } else { Trust::Caller })?,
            ));
        }
        rv.push(Dict::value(pairs, true)?);
    }
    List::value(rv, Shape::List, true)
}
