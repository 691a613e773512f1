//! What stands between a file and the first token: reading the file's head, binding tensors, packing rows.
//!
//! `cargo bench --bench load`. The whole way, from the start of a process to its first byte, is measured by
//! `benches/footprint.py`; vocabularies by `cargo bench --bench tokenizer -- FILE`.

use criterion::{Criterion, criterion_group, criterion_main};
use formats::{Access, Gguf};
use models::{Context, ContextOptions};
use pumice::synth::{self, Recipe, Shape};
use pumice::{Model, ModelOptions};

fn load(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for a file");
    let mut group = c.benchmark_group("load");
    group.sample_size(20);
    for name in ["tiny", "smollm2-135m"] {
        let shape = Shape::find(name).expect("a known shape");
        let path = folder.path().join(format!("{name}.gguf"));
        synth::write(shape, Recipe::Q4KM, &path).expect("room for a file");
        group.bench_function(format!("file {name}"), |b| {
            b.iter(|| Gguf::open(&path, Access::Mmap).expect("a file of ours"));
        });
        let model = Model::open(&path, ModelOptions::default()).expect("a model of ours");
        let options = ContextOptions { n_ctx: Some(512), ..ContextOptions::default() };
        group.bench_function(format!("context {name}"), |b| {
            b.iter(|| Context::new(model.core().clone(), &options).expect("memory"));
        });
    }
    group.finish();
}

criterion_group!(benches, load);
criterion_main!(benches);
