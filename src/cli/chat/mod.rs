//! `pumice chat`: a conversation, typed line by line or read from a pipe.
//!
//! The conversation is a list of messages; each answer sets the session's prompt to all of it, of
//! which only what is new has to run. What fails (a context that is too small, a template that
//! refuses) leaves the conversation as it was before.

mod command;
mod input;
mod saved;
mod screen;

use super::answer::{Answer, ThinkArgs};
use super::interrupt::{self, Interrupt};
use super::options::{EngineArgs, UnmaskArgs};
use super::run::bytes_per_token;
use command::{Command, Input};
use input::{Read, Source};
use pumice::sample::{SamplerArgs, SamplerOptions};
use pumice::{ChatOptions, Error, Finish, Limits, Message, Model, Session};
use screen::Screen;
use std::io;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Ctrl-Cs that an answer takes before the program ends: the first stops the answer at its next
/// step, and impatience must not cost the conversation.
const PATIENCE: u32 = 4;

#[derive(clap::Args)]
pub(super) struct Args {
    /// A system message before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Most tokens of an answer [default: until its end]
    #[arg(short, long, value_name = "N")]
    n_predict: Option<usize>,
    /// Keep no history of what is typed
    #[arg(long)]
    no_history: bool,
    #[command(flatten)]
    thinking: ThinkArgs,
    #[command(flatten)]
    sampling: SamplerArgs,
    #[command(flatten)]
    unmask: UnmaskArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let screen = Screen::new(args.engine.quiet);
    let model = args.engine.open()?;
    model.tokenizer()?.warnings().iter().for_each(|w| screen.note(&format!("warning: {w}")));
    if let Some(name) = model.fallback_template()? {
        screen.note(&format!("note: the model has no chat template; using the one called {name}"));
    }
    let asks = args.thinking.options();
    if !model.chat_prompt(&[Message::new("user", "")], &asks).is_ok_and(|p| p.steered) {
        screen.note(ThinkArgs::UNKNOWN);
    }
    let session = args.engine.session(&model, &args.unmask)?;
    let interrupt = Interrupt::install(session.cancel_flag())?;
    let options = args.sampling.over(model.sampler_options())?;
    let seed = session.sampler(&options)?.seed();
    let mut source = Source::new(super::out::colours_allowed(), !args.no_history)?;
    if source.is_terminal() {
        screen.note(&banner(&model, &session));
    }
    let mut chat = Chat {
        messages: args.system.iter().map(|text| Message::new("system", text)).collect(),
        limits: Limits {
            n_predict: args.n_predict,
            stop: Vec::new(),
            shown: model.answer_markers()?,
        },
        asks,
        options,
        typed: source.is_terminal(),
        verbose: args.engine.verbose,
        last: None,
        n_answers: 0,
        session,
        interrupt,
        screen,
        seed,
    };
    chat.talk(&mut source)
}

fn banner(model: &Model, session: &Session) -> String {
    let name = model.gguf().metadata().str("general.name").ok().flatten();
    let file = || model.gguf().path()?.file_stem()?.to_str();
    let name = name.or_else(file).unwrap_or("model");
    format!("{name} · context {} · /help lists the commands", session.context().n_ctx())
}

struct Chat {
    session: Session,
    messages: Vec<Message>,
    interrupt: Interrupt,
    screen: Screen,
    limits: Limits,
    options: SamplerOptions,
    asks: ChatOptions,
    /// Seed of the first answer; each later one has the next.
    seed: u64,
    n_answers: u64,
    /// A person types.
    typed: bool,
    verbose: bool,
    last: Option<Figures>,
}

/// What the last answer took.
struct Figures {
    n_reused: usize,
    n_prefill: usize,
    prefill: Duration,
    n_decode: usize,
    decode: Duration,
    first: Option<Duration>,
    seed: u64,
}

/// How an attempt to answer ended.
enum Outcome {
    /// The answer is part of the conversation.
    Answered,
    /// So it is, as far as it came.
    Stopped,
    /// Ctrl-C before there was any text: the conversation is what it was.
    Nothing,
    /// The conversation is what it was; a message for the user.
    Failed(String),
}

impl Chat {
    /// Reads and answers to the end of the input. From a pipe, a failure is remembered in the exit
    /// code and an interrupt ends all.
    fn talk(&mut self, source: &mut Source) -> anyhow::Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        loop {
            let text = match source.read()? {
                Read::Text(text) => text,
                Read::Interrupted => {
                    self.screen.note("(Ctrl-D or /exit ends the chat)");
                    continue;
                }
                Read::End => return Ok(code),
            };
            let outcome = match command::parse(&text) {
                Ok(Input::Nothing) => continue,
                Ok(Input::Command(Command::Exit)) => return Ok(code),
                Ok(Input::Command(command)) => self.obey(command)?,
                Ok(Input::Message(text)) => self.say(text)?,
                Err(message) => Outcome::Failed(message),
            };
            match outcome {
                Outcome::Answered => {}
                Outcome::Stopped | Outcome::Nothing if !self.typed => {
                    return Ok(interrupt::exit_code());
                }
                Outcome::Stopped => self.screen.note("(stopped)"),
                Outcome::Nothing => self.screen.note("(stopped before there was an answer)"),
                Outcome::Failed(message) => {
                    self.screen.error(&message);
                    if !self.typed {
                        code = ExitCode::FAILURE;
                    }
                }
            }
        }
    }

    /// Carries out a command.
    fn obey(&mut self, command: Command<'_>) -> anyhow::Result<Outcome> {
        let done = match command {
            Command::Regen => return self.regenerate(),
            Command::Help => {
                self.screen.tell(&command::help());
                Ok(())
            }
            Command::Clear => {
                self.messages.retain(|m| m.role == "system");
                self.screen.note("the conversation is forgotten");
                Ok(())
            }
            Command::System(text) => {
                self.set_system(text);
                Ok(())
            }
            Command::Save(file) => saved::save(file, &self.messages).map(|()| {
                let n = self.messages.len();
                self.screen.note(&format!("{n} messages saved in {file}"));
            }),
            Command::Load(file) => saved::load(file).map(|messages| {
                self.screen.note(&format!("{} messages loaded from {file}", messages.len()));
                self.messages = messages;
            }),
            Command::Stats => {
                self.screen.tell(&self.stats());
                Ok(())
            }
            // The loop ends before it comes here.
            Command::Exit => Ok(()),
        };
        Ok(done.map_or_else(|e| Outcome::Failed(crate::cli::described(&e)), |()| Outcome::Answered))
    }

    fn set_system(&mut self, text: &str) {
        let has_one = self.messages.first().is_some_and(|m| m.role == "system");
        match text {
            "" if has_one => return self.screen.tell(&self.messages[0].content),
            "" => return self.screen.tell("there is no system message"),
            "-" if has_one => drop(self.messages.remove(0)),
            "-" => {}
            text if has_one => self.messages[0].content = text.into(),
            text => self.messages.insert(0, Message::new("system", text)),
        }
        self.screen.note("the system message holds from the next answer on");
    }

    /// Adds a message and answers it.
    fn say(&mut self, text: String) -> anyhow::Result<Outcome> {
        self.messages.push(Message::new("user", text));
        let outcome = self.answer()?;
        if let Outcome::Nothing | Outcome::Failed(_) = outcome {
            self.messages.pop();
        }
        Ok(outcome)
    }

    /// Answers the last message again; the old answer stays if no new one comes.
    fn regenerate(&mut self) -> anyhow::Result<Outcome> {
        let old = self.messages.pop_if(|m| m.role == "assistant");
        let outcome = match self.messages.last() {
            Some(m) if m.role != "system" => self.answer()?,
            _ => Outcome::Failed("there is no message to answer again".into()),
        };
        if let Outcome::Nothing | Outcome::Failed(_) = outcome {
            self.messages.extend(old);
        }
        Ok(outcome)
    }

    /// Answers the conversation as it stands. The error is stdout's: nobody reads on.
    fn answer(&mut self) -> anyhow::Result<Outcome> {
        let mut written = Ok(());
        let _watch = self.interrupt.watch(PATIENCE);
        let mut answer = Answer::raw();
        let made = make_answer(
            &mut self.session,
            (&self.messages, &self.asks),
            &SamplerOptions {
                seed: Some(self.seed.wrapping_add(self.n_answers)),
                ..self.options.clone()
            },
            &self.limits,
            &mut answer,
            &mut written,
        );
        if answer.has_begun {
            written = written.and_then(|()| answer.finish());
        }
        written?;
        self.n_answers += 1;
        let (finish, figures) = match made {
            Ok(made) => made,
            Err(e) if e.is_cancelled() => return Ok(Outcome::Nothing),
            Err(e) => return Ok(Outcome::Failed(self.explain(&e))),
        };
        if finish == Finish::Cancelled && answer.is_empty() {
            return Ok(Outcome::Nothing);
        }
        let mut message = Message::new("assistant", answer.parsed.content);
        let thoughts = answer.parsed.reasoning_content;
        message.reasoning_content = (!thoughts.is_empty()).then_some(thoughts);
        self.messages.push(message);
        if self.verbose {
            self.screen.note(&self.figures(&figures));
        }
        self.last = Some(figures);
        match finish {
            Finish::Cancelled => return Ok(Outcome::Stopped),
            Finish::ContextFull => self.screen.note(&format!(
                "note: the context of {} tokens is full and the answer cut off; /clear begins \
                 anew, a larger context is set with -c",
                self.session.context().n_ctx()
            )),
            Finish::Length => self.screen.note("note: ended by -n"),
            Finish::EndOfAnswer(_) | Finish::StopText => {}
        }
        Ok(Outcome::Answered)
    }

    /// An error in the words of a chat.
    fn explain(&self, e: &Error) -> String {
        match e {
            Error::Model(models::Error::ContextOverflow { asked, n_ctx, .. }) => format!(
                "with this message the conversation has {asked} tokens, but the context has \
                 {n_ctx}: the message was not taken; /clear begins anew, a larger context is set \
                 with -c"
            ),
            other => other.to_string(),
        }
    }

    fn stats(&self) -> String {
        let (n, n_ctx) = (self.session.tokens().len(), self.session.context().n_ctx());
        let mut text = format!("{} messages · {n} of {n_ctx} tokens", self.messages.len());
        if let Some(last) = &self.last {
            text = text + "\n" + &self.figures(last);
        }
        text
    }

    fn figures(&self, f: &Figures) -> String {
        let rate = |n: usize, time: Duration| n as f64 / time.as_secs_f64().max(1e-9);
        let decode = rate(f.n_decode, f.decode);
        let first = f.first.unwrap_or_default().as_secs_f64() * 1e3;
        format!(
            "first token {first:.0} ms · prefill {} tokens ({} reused), {:.1} t/s · decode {} \
             tokens, {decode:.1} t/s, {:.1} GB/s · seed {}",
            f.n_prefill,
            f.n_reused,
            rate(f.n_prefill, f.prefill),
            f.n_decode,
            decode * bytes_per_token(self.session.model()) as f64 / 1e9,
            f.seed,
        )
    }
}

/// Runs a conversation and draws its answer; `written` is how writing it to stdout went.
fn make_answer(
    session: &mut Session,
    (messages, asks): (&[Message], &ChatOptions),
    options: &SamplerOptions,
    limits: &Limits,
    answer: &mut Answer,
    written: &mut io::Result<()>,
) -> Result<(Finish, Figures), Error> {
    let start = Instant::now();
    let before = session.timings();
    let prompt = session.model().chat_prompt(messages, asks)?;
    *answer = Answer::new(session.model(), &prompt)?;
    let ids = prompt.tokens;
    let mut sampler = session.sampler(options)?;
    ids.iter().for_each(|&id| sampler.accept(id));
    session.set_prompt(&ids)?;
    let mut first = None;
    let finish = session.generate(&mut sampler, limits, &mut |text| {
        first.get_or_insert_with(|| start.elapsed());
        *written = answer.push(text);
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let after = session.timings();
    let n_prefill = after.n_prefill - before.n_prefill;
    let figures = Figures {
        n_reused: ids.len() - n_prefill,
        n_prefill,
        prefill: after.prefill - before.prefill,
        n_decode: after.n_decode - before.n_decode,
        decode: after.decode - before.decode,
        first,
        seed: sampler.seed(),
    };
    Ok((finish, figures))
}
