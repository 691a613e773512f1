#!/usr/bin/env python3
"""The logits that llama.cpp gives for some tokens, for tests/peer_logits.rs.

usage: logits.py MODEL TOKENS OUTPUT [--encoder TOKENS | --embeddings]

TOKENS holds ids separated by white space. OUTPUT receives little-endian float32: the logits after
each token, or with --embeddings its row before pooling. Needs llama-cpp-python.
"""

import argparse
import array
import sys

import llama_cpp as lib


def batch_of(ids):
    """All ids as one sequence from position 0 on, each with an output."""
    batch = lib.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i] = token
        batch.pos[i] = i
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = 0
        batch.logits[i] = 1
    return batch


def read_ids(path):
    with open(path) as file:
        return [int(word) for word in file.read().split()]


def main():
    parser = argparse.ArgumentParser()
    for name in ("model", "tokens", "output"):
        parser.add_argument(name)
    parser.add_argument("--encoder")
    parser.add_argument("--embeddings", action="store_true")
    args = parser.parse_args()
    ids = read_ids(args.tokens)
    encoder_ids = read_ids(args.encoder) if args.encoder else []

    lib.llama_backend_init()
    options = lib.llama_model_default_params()
    options.n_gpu_layers = 0
    # Tensors in the layout of the file: a layout of its own would round activations.
    options.use_extra_bufts = False
    model = lib.llama_model_load_from_file(args.model.encode(), options)
    if not model:
        sys.exit("the model was not loaded")
    longest = max(len(ids), len(encoder_ids))
    options = lib.llama_context_default_params()
    options.n_ctx = longest
    options.n_batch = options.n_ubatch = longest
    options.n_threads = options.n_threads_batch = 1
    options.type_k = options.type_v = lib.GGML_TYPE_F32
    options.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    options.embeddings = args.embeddings
    if args.embeddings:
        options.pooling_type = lib.LLAMA_POOLING_TYPE_NONE
    context = lib.llama_init_from_model(model, options)
    if not context:
        sys.exit("the context was not made")

    if encoder_ids and lib.llama_encode(context, batch_of(encoder_ids)) != 0:
        sys.exit("the encoder failed")
    decodes = lib.llama_model_has_decoder(model)
    run = lib.llama_decode if decodes else lib.llama_encode
    if run(context, batch_of(ids)) != 0:
        sys.exit("the decoder failed" if decodes else "the encoder failed")
    if args.embeddings:
        row, size = lib.llama_get_embeddings_ith, lib.llama_model_n_embd(model)
    else:
        row = lib.llama_get_logits_ith
        size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    with open(args.output, "wb") as file:
        for i in range(len(ids)):
            array.array("f", row(context, i)[:size]).tofile(file)


main()
