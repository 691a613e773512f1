//! `pumice parse`: takes what models wrote apart.

use super::template::{TemplateArgs, tail_of};
use super::tokenize::each_line;
use anyhow::Context as _;
use pumice::text::parse::{Event, Format, ParseOptions, Parsed, Parser, ToolCall, Tools};
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["format", "model", "template"])))]
pub(super) struct Args {
    /// How the model writes thoughts and calls
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "template"],
        value_parser = clap::builder::PossibleValuesParser::new(Format::names()))]
    format: Option<String>,
    #[command(flatten)]
    source: TemplateArgs,
    /// Each line of stdin is an object: text, and at will tools, prompt_tail and
    /// starts_in_reasoning; each line of stdout is an object with content, reasoning_content and
    /// tool_calls
    #[arg(long, required = true)]
    jsonl: bool,
    /// Take texts in pieces of N characters and print each event on a line
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    stream: Option<u32>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (format, tail) = match &args.format {
        Some(name) => (Format::by_name(name).context("no such format")?, None),
        None => {
            let template = args.source.read()?;
            (Format::of_template(&template), tail_of(&template))
        }
    };
    each_line(|line| {
        let input: Value = serde_json::from_str(line).context("expected a JSON object")?;
        let text = input["text"].as_str().context("expected an object with a string `text`")?;
        let options = options(&input, tail.clone());
        Ok(match args.stream {
            Some(n) => stream(format, options, text, n as usize),
            None => {
                let mut parsed = Parsed::default();
                let mut parser = Parser::new(format, options);
                parsed.extend(parser.push(text));
                parsed.extend(parser.finish());
                let calls: Vec<Value> = parsed.tool_calls.iter().map(call).collect();
                let (content, reasoning) = (parsed.content, parsed.reasoning_content);
                json!({"content": content, "reasoning_content": reasoning, "tool_calls": calls})
                    .to_string()
            }
        })
    })
}

/// What a line says besides its text; `tail` is the end of the template's prompts.
fn options(input: &Value, tail: Option<String>) -> ParseOptions {
    let no_tools = input["tools_given"] == false;
    let none = Value::Array(vec![]);
    let tools = if no_tools { Some(&none) } else { input.get("tools") };
    ParseOptions {
        tools: Tools::from_json(tools),
        starts_in_reasoning: input["starts_in_reasoning"].as_bool(),
        prompt_tail: input["prompt_tail"].as_str().map(str::to_owned).or(tail),
    }
}

/// The events of a text that comes in pieces, one on a line.
fn stream(format: Format, options: ParseOptions, text: &str, n: usize) -> String {
    let mut parser = Parser::new(format, options);
    let mut events = vec![];
    let chars: Vec<char> = text.chars().collect();
    for piece in chars.chunks(n) {
        events.extend(parser.push(&piece.iter().collect::<String>()));
    }
    events.extend(parser.finish());
    let lines = events.iter().map(|event| match event {
        Event::Content(text) => json!({"content": text}).to_string(),
        Event::Reasoning(text) => json!({"reasoning_content": text}).to_string(),
        Event::Call(found) => json!({"tool_call": call(found)}).to_string(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn call(call: &ToolCall) -> Value {
    json!({"id": call.id, "name": call.name, "arguments": call.arguments})
}
