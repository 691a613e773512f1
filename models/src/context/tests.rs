//! Faults of workers in a context.

use super::*;
use crate::ops::Fault;
use std::path::Path;

fn context(n_threads: usize) -> Context {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/archs");
    let file = data.join("llama-yarn/model.gguf");
    let gguf = Gguf::open(&file, formats::Access::Read).unwrap();
    let n_threads = Some(n_threads);
    let options = ContextOptions { n_threads, steady: true, ..ContextOptions::default() };
    Context::new(Arc::new(Model::new(Arc::new(gguf)).unwrap()), &options).unwrap()
}

fn run(context: &mut Context) -> Result<Vec<f32>, Error> {
    let row = |pos| Row { token: 3 + pos as u32, seq: 0, pos, logits: true };
    let rows: Vec<Row> = (0..9).map(row).collect();
    let mut out = Vec::new();
    context.step(&rows, &Cancel::new(), &mut |_, l| out.extend_from_slice(l)).map(|()| out)
}

#[test]
fn a_panic_of_any_worker_in_any_layer_ends_the_step_and_leaves_the_context_usable() {
    let expected = run(&mut context(3)).unwrap();
    let mut context = context(3);
    for layer in 0..2 {
        for worker in 0..3 {
            context.fault = Some(Fault { layer, worker });
            let Err(Error::Worker(message)) = run(&mut context) else {
                panic!("layer {layer}, worker {worker}: no error of a worker");
            };
            assert_eq!(message, format!("a fault made on purpose in layer {layer}"));
            assert_eq!(context.len(0), 0, "a failed step leaves nothing behind");
        }
    }
    context.fault = None;
    assert!(run(&mut context).unwrap() == expected);
}
