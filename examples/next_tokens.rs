//! Shows what a model expects after a text, and ends a long prefill from another thread:
//! `cargo run --release --example next_tokens -- FILE TEXT`.

use pumice::sample::top_logprobs;
use pumice::{Model, ModelOptions, Session, SessionOptions};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: next_tokens FILE TEXT")?;
    let text = args.next().ok_or("usage: next_tokens FILE TEXT")?;

    let model = Model::open(path, ModelOptions::default())?;
    let mut session = Session::new(&model, &SessionOptions::default())?;
    let cancel = session.cancel_flag();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(60));
        cancel.cancel();
    });
    session.set_prompt(&model.raw_tokens(&text)?)?;
    for top in top_logprobs(session.logits(), 10)? {
        let piece = model.text_of(&[top.token])?;
        println!("{:6.2} %  {piece:?}", f64::from(top.logprob).exp() * 100.0);
    }
    Ok(())
}
