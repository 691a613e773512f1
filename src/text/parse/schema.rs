//! The tools that a model was told of, and what they say about untyped values.

use serde_json::{Map, Value};

use super::python;

/// The tools that a model was told of.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Tools {
    /// Nobody says: whatever looks like a call is one.
    #[default]
    Unknown,
    /// These and no others; with none, nothing is a call.
    Known(Vec<Value>),
}

impl Tools {
    /// The tools of a request: a list of objects with `name` and `parameters` (a JSON schema), each
    /// of them bare or as the `function` of an object. `None` is unknown.
    pub fn from_json(tools: Option<&Value>) -> Tools {
        match tools.and_then(Value::as_array) {
            None => Tools::Unknown,
            Some(tools) => {
                let function = |tool: &Value| tool.get("function").unwrap_or(tool).clone();
                Tools::Known(tools.iter().map(function).collect())
            }
        }
    }

    /// Whether anything can be a call.
    pub(super) fn may_call(&self) -> bool {
        !matches!(self, Tools::Known(tools) if tools.is_empty())
    }

    /// Whether there may be a tool of this name.
    pub(super) fn may_be(&self, name: &str) -> bool {
        match self {
            Tools::Unknown => true,
            Tools::Known(tools) => tools.iter().any(|tool| tool["name"] == name),
        }
    }

    /// The schema of a tool's parameter.
    pub(super) fn parameter(&self, tool: &str, parameter: &str) -> Option<&Value> {
        self.parameters(tool)?.get(parameter)
    }

    /// The parameters of a tool, in order.
    fn parameters(&self, name: &str) -> Option<&Map<String, Value>> {
        let Tools::Known(tools) = self else { return None };
        let tool = tools.iter().find(|tool| tool["name"] == name)?;
        let parameters = tool.get("parameters").or_else(|| tool.get("input_schema"))?;
        parameters.get("properties")?.as_object()
    }

    /// The name of the parameter at a position.
    pub(super) fn parameter_at(&self, tool: &str, position: usize) -> Option<String> {
        self.parameters(tool)?.keys().nth(position).cloned()
    }

    /// The value that `text` stands for, by the parameter's type: formats that write values without
    /// quotation marks leave open whether `12` is a number.
    pub(super) fn typed(&self, tool: &str, parameter: &str, text: &str) -> Value {
        typed(self.parameter(tool, parameter), text)
    }
}

/// Whether a schema allows a type; one that does not say allows all.
pub(super) fn allows(schema: &Value, ty: &str) -> bool {
    let types = types_of(schema, 0);
    types.is_empty() || types.iter().any(|t| t == ty)
}

/// The value that `text` stands for, by its schema.
pub(super) fn typed(schema: Option<&Value>, text: &str) -> Value {
    let types = schema.map_or(vec![], |schema| types_of(schema, 0));
    let is_string = |types: &[String]| types.iter().all(|ty| ty == "string" || ty == "null");
    let text = if types.is_empty() || !is_string(&types) { text.trim() } else { text };
    let string = || Value::String(text.to_owned());
    if types.is_empty() {
        // Nothing is known: what reads as a value is one.
        let value = serde_json::from_str(text).unwrap_or_else(|_| string());
        return if value.is_string() { string() } else { value };
    }
    let has = |ty: &str| types.iter().any(|t| t == ty);
    let value = serde_json::from_str(text).ok().or_else(|| python::value(text));
    match value {
        Some(value) if !value.is_string() && has(type_of(&value)) => value,
        Some(value @ Value::Number(_)) if has("number") || has("integer") => value,
        Some(value) if !has("string") && !value.is_string() => value,
        _ if has("boolean") && text.eq_ignore_ascii_case("true") => Value::Bool(true),
        _ if has("boolean") && text.eq_ignore_ascii_case("false") => Value::Bool(false),
        _ => string(),
    }
}

/// The name of a value's type in a schema.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The types that a schema allows; empty if it does not say. `depth` bounds a hostile schema.
fn types_of(schema: &Value, depth: usize) -> Vec<String> {
    let mut types: Vec<String> = match schema.get("type") {
        Some(Value::String(ty)) => vec![ty.clone()],
        Some(Value::Array(types)) => {
            types.iter().filter_map(|t| Some(t.as_str()?.into())).collect()
        }
        _ => vec![],
    };
    let choices = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    let choices = choices.chain(schema.get("const"));
    if types.is_empty() {
        types.extend(choices.map(|choice| type_of(choice).to_owned()));
    }
    for key in ["anyOf", "oneOf"] {
        let parts = schema.get(key).and_then(Value::as_array).into_iter().flatten();
        if depth < 8 {
            types.extend(parts.flat_map(|part| types_of(part, depth + 1)));
        }
    }
    types
}
