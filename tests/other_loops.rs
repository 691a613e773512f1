//! Answers that are not drawn token after token from one stack: models that fill masks, and models
//! whose decoder reads what an encoder made of the prompt.

mod common;
#[path = "common/tiny.rs"]
mod tiny;

use models::Model as Core;
use models::spec::Sureness;
use models::{Cancel, Context, ContextOptions, Row};
use pumice::models;
use pumice::sample::SamplerOptions;
use pumice::synth::build_tiny;
use pumice::unmask::UnmaskOptions;
use pumice::{Error, Finish, Limits, Message, Model, Session, SessionOptions};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The mask of the tiny models.
const MASK: u32 = 319;
const DIFFUSION: [&str; 4] = ["dream", "llada", "llada-moe", "rnd1"];

fn context() -> ContextOptions {
    ContextOptions {
        n_ctx: Some(64),
        n_threads: Some(1),
        deterministic: true,
        ..ContextOptions::default()
    }
}

fn model(name: &str) -> Model {
    Model::from_gguf(build_tiny(name, 0).unwrap()).unwrap()
}

fn options(temperature: f32, seed: u64) -> SamplerOptions {
    SamplerOptions { temperature, seed: Some(seed), ..SamplerOptions::default() }
}

/// What a session holds after an answer of at most `n` tokens, the answer's text, and its end.
fn answer(
    model: &Model,
    prompt: &[u32],
    n: usize,
    unmask: UnmaskOptions,
    sampling: &SamplerOptions,
) -> (Vec<u32>, String, Finish) {
    let options = SessionOptions { context: context(), unmask, ..SessionOptions::default() };
    let mut session = Session::new(model, &options).unwrap();
    session.set_prompt(prompt).unwrap();
    let mut sampler = session.sampler(sampling).unwrap();
    let limits = Limits { n_predict: Some(n), ..Limits::default() };
    let mut text = String::new();
    let finish = session.generate(&mut sampler, &limits, &mut |piece| {
        text.push_str(piece);
        ControlFlow::Continue(())
    });
    (session.tokens().to_vec(), text, finish.unwrap())
}

/// The loop of the papers, written down once more: one token a step, the surest first.
fn filled(core: &Arc<Core>, prompt: &[u32], n: usize, block: usize) -> Vec<u32> {
    let how = core.spec().unmask.unwrap();
    let mut ids = prompt.to_vec();
    ids.extend(vec![MASK; n]);
    let n_vocab = core.hparams().n_vocab;
    let mut open: Vec<usize> = (prompt.len()..ids.len()).collect();
    while !open.is_empty() {
        let logits = tiny::logits(core, &ids, ids.len()).unwrap();
        let mut best: Option<(f64, usize, u32)> = None;
        let last = prompt.len() + ((open[0] - prompt.len()) / block + 1) * block;
        for &at in open.iter().filter(|&&at| at < last) {
            let row = at - usize::from(how.shifted);
            let row = &logits[row * n_vocab..(row + 1) * n_vocab];
            let weights: Vec<f64> = (0..n_vocab)
                .map(|i| if i == MASK as usize { 0.0 } else { f64::from(row[i]).exp() })
                .collect();
            let sum: f64 = weights.iter().sum();
            let token = (0..n_vocab).max_by(|&a, &b| weights[a].total_cmp(&weights[b])).unwrap();
            let sure = match how.sureness {
                Sureness::Probability => weights[token] / sum,
                Sureness::Entropy => {
                    let term = |w: &f64| if *w > 0.0 { w / sum * (w / sum).ln() } else { 0.0 };
                    weights.iter().map(term).sum()
                }
            };
            if best.is_none_or(|(s, ..)| sure > s) {
                best = Some((sure, at, token as u32));
            }
        }
        let (_, at, token) = best.unwrap();
        ids[at] = token;
        open.retain(|&o| o != at);
    }
    ids
}

#[test]
fn masks_are_filled_as_the_papers_say() {
    for (name, block) in [("dream", 99), ("llada", 32), ("llada-moe", 32), ("rnd1", 99)] {
        let (model, prompt) = (model(name), &tiny::ids()[..6]);
        let expected = filled(model.core(), prompt, 10, block);
        let (ids, text, finish) =
            answer(&model, prompt, 10, UnmaskOptions::default(), &options(0.0, 1));
        assert_eq!(ids, expected[..ids.len()], "{name}");
        assert!(ids.len() == 16 || matches!(finish, Finish::EndOfAnswer(_)), "{name}: {finish:?}");
        // A text of its own begins without the space that goes on with one.
        let whole = model.text_of(&ids[6..]).unwrap();
        assert_eq!(text.trim_start(), whole.trim_start(), "{name}");
        // Blocks of 4: not the same order, and here not the same text.
        let blocks = UnmaskOptions { block: Some(4), ..UnmaskOptions::default() };
        let (ids, ..) = answer(&model, prompt, 10, blocks, &options(0.0, 1));
        let in_blocks = filled(model.core(), prompt, 10, 4);
        assert_eq!(ids, in_blocks[..ids.len()], "{name} in blocks");
    }
}

#[test]
fn all_masks_are_filled_and_the_prompt_stays_whatever_the_number_of_steps() {
    for name in DIFFUSION {
        let model = model(name);
        let prompt = [5, MASK, 77, 9];
        for (steps, block) in
            [(None, None), (Some(1), None), (Some(3), Some(5)), (Some(99), Some(1))]
        {
            let how = UnmaskOptions { steps, block };
            let run = |seed| answer(&model, &prompt, 17, how, &options(0.8, seed));
            let (ids, text, finish) = run(7);
            assert_eq!(ids[..4], prompt, "{name}: a mask of the prompt is a token like others");
            assert!(!ids[4..].contains(&MASK), "{name}, {how:?}");
            let whole = ids.len() == 21 && finish == Finish::Length;
            assert!(whole || matches!(finish, Finish::EndOfAnswer(_)), "{name}: {finish:?}");
            assert_eq!(run(7), (ids.clone(), text, finish), "{name}: one seed, one answer");
            assert_ne!(run(8).0, ids, "{name}: another seed");
        }
    }
}

#[test]
fn answers_about_masks_end_where_the_context_ends_and_when_they_are_told_to() {
    let model = model("llada");
    let prompt: Vec<u32> = (0..60).map(|i| 3 + i).collect();
    let (ids, _, finish) = answer(&model, &prompt, 9, UnmaskOptions::default(), &options(0.0, 1));
    assert!(ids.len() == 64 && finish == Finish::ContextFull || ids.len() < 64, "{finish:?}");
    let options = SessionOptions { context: context(), ..SessionOptions::default() };
    let mut session = Session::new(&model, &options).unwrap();
    let too_long: Vec<u32> = vec![3; 65];
    let e = session.set_prompt(&too_long).unwrap_err();
    assert!(e.to_string().contains("65") && e.to_string().contains("64"), "{e}");
    assert!(matches!(session.set_prompt(&[]), Err(Error::EmptyPrompt)));
    let mut sampler = session.sampler(&SamplerOptions::default()).unwrap();
    session.set_prompt(&prompt[..5]).unwrap();
    session.cancel_flag().cancel();
    let end =
        session.generate(&mut sampler, &Limits::default(), &mut |_| ControlFlow::Continue(()));
    assert_eq!(end.unwrap(), Finish::Cancelled);
    assert_eq!(session.tokens(), &prompt[..5]);
}

#[test]
fn a_model_that_fills_masks_must_have_one() {
    let gguf = build_tiny("dream", 0).unwrap();
    let mut writer = pumice::formats::GgufWriter::new();
    for (key, value) in gguf.metadata().iter().filter(|(key, _)| !key.ends_with("mask_token_id")) {
        writer.set(key, value.clone());
    }
    for t in gguf.tensors() {
        writer.tensor(&t.name, t.ty, &t.dims, gguf.data(t).unwrap().to_vec());
    }
    let gguf = pumice::formats::Gguf::from_bytes(writer.build().unwrap()).unwrap();
    let model = Model::from_gguf(gguf).unwrap();
    let options = SessionOptions { context: context(), ..SessionOptions::default() };
    let mut session = Session::new(&model, &options).unwrap();
    session.set_prompt(&[5]).unwrap();
    let mut sampler = session.sampler(&SamplerOptions::default()).unwrap();
    let e = session.generate(&mut sampler, &Limits::default(), &mut |_| ControlFlow::Continue(()));
    assert!(e.unwrap_err().to_string().contains("tokenizer.ggml.mask_token_id"));
}

/// The best token after each step of a decoder that has read `ids`, `n` of them or up to EOS.
fn greedy(core: &Arc<Core>, ids: &[u32], n: usize, eos: u32) -> Vec<u32> {
    let mut context = Context::new(core.clone(), &context()).unwrap();
    context.encode(0, ids, &Cancel::new()).unwrap();
    let (mut all, mut token) = (Vec::new(), 0);
    for pos in 0..n {
        let row = Row { token, seq: 0, pos, logits: true };
        context
            .step(&[row], &Cancel::new(), &mut |_, l| {
                token = (0..l.len()).max_by(|&a, &b| l[a].total_cmp(&l[b])).unwrap() as u32;
            })
            .unwrap();
        if token == eos {
            break;
        }
        all.push(token);
    }
    all
}

#[test]
fn a_decoder_answers_to_the_prompt_that_the_encoder_read() {
    let path = common::data().join("archs/t5/model.gguf");
    let golden = Model::open(&path, pumice::ModelOptions::default()).unwrap();
    for model in [golden, model("t5"), model("t5/relu")] {
        let eos = model.tokenizer().unwrap().special().eos.unwrap();
        let messages = [
            Message::new("system", "be brief"),
            Message::new("user", "one"),
            Message::new("assistant", "two"),
            Message::new("user", "three"),
        ];
        let prompt = model.chat_tokens(&messages).unwrap();
        // No template, no roles, nothing of earlier turns; the end that encoders were trained with.
        let text = model.text_of(&prompt).unwrap();
        assert!(text.contains("be brief") && text.contains("three"), "{text:?}");
        assert!(!text.contains("one") && !text.contains("user"), "{text:?}");
        assert_eq!(prompt.iter().filter(|&&id| id == eos).count(), 1);
        assert_eq!(prompt.last(), Some(&eos));
        assert_eq!(model.raw_tokens("three").unwrap().last(), Some(&eos));
        let expected = greedy(model.core(), &prompt, 8, eos);
        let none = UnmaskOptions::default();
        let (held, text, finish) = answer(&model, &prompt, 8, none, &options(0.0, 1));
        assert_eq!(text.trim_start(), model.text_of(&expected).unwrap().trim_start());
        // The first token of a decoder stands before its answer; the last one drawn is not run.
        let n = expected.len().min(7);
        assert_eq!(held[..=n], [&[0], &expected[..n]].concat());
        assert!(expected.len() == 8 || matches!(finish, Finish::EndOfAnswer(_)), "{finish:?}");
        // A second prompt begins anew.
        let options = SessionOptions { context: context(), ..SessionOptions::default() };
        let mut session = Session::new(&model, &options).unwrap();
        session.set_prompt(&[9, 8, eos]).unwrap();
        session.set_prompt(&prompt).unwrap();
        let best = (0..session.logits().len())
            .max_by(|&a, &b| session.logits()[a].total_cmp(&session.logits()[b]));
        assert_eq!(best.map(|b| b as u32), expected.first().copied().or(Some(eos)));
    }
}
