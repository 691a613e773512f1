//! Answers one question with a model file: `cargo run --release --example answer -- FILE QUESTION`.

use pumice::sample::SamplerOptions;
use pumice::{Limits, Message, Model, ModelOptions, Session, SessionOptions};
use std::io::Write;
use std::ops::ControlFlow;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: answer FILE QUESTION")?;
    let question = args.next().ok_or("usage: answer FILE QUESTION")?;

    let model = Model::open(path, ModelOptions::default())?;
    let mut session = Session::new(&model, &SessionOptions::default())?;
    session.set_prompt(&model.chat_tokens(&[Message::new("user", question)])?)?;
    let mut sampler = session.sampler(&SamplerOptions::default())?;
    session.generate(&mut sampler, &Limits::default(), &mut |text| {
        print!("{text}");
        // A reader that went away ends the answer.
        match std::io::stdout().flush() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    println!();
    Ok(())
}
