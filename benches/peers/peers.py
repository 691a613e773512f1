#!/usr/bin/env python3
"""Pumice and llama.cpp on the same file, threads and tokens, in turn (A B A B); prints the best of
each and their ratio.

usage: peers.py PUMICE MODEL.gguf TEXT [--rounds N] [--threads N] [--prompt N] [--predict N]

Needs the Python package llama-cpp-python (0.3.36, built natively). llama.cpp runs with and without
flash attention; its better figure counts.
"""
import argparse
import re
import subprocess
import time

import llama_cpp as llama


def peer(path, ids, args, flash):
    """Tokens a second of llama.cpp: prefill, decode."""
    context = llama.llama_context_default_params()
    context.n_ctx = args.prompt + args.predict + 8
    context.n_batch = context.n_ubatch = 512
    context.n_threads = context.n_threads_batch = args.threads
    context.flash_attn_type = 1 if flash else 0
    handle = llama.llama_init_from_model(path, context)
    batch = (llama.llama_token * len(ids))(*ids)
    start = time.perf_counter()
    assert llama.llama_decode(handle, llama.llama_batch_get_one(batch, len(ids))) == 0
    llama.llama_synchronize(handle)
    prefill = len(ids) / (time.perf_counter() - start)
    n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(path))
    start = time.perf_counter()
    for _ in range(args.predict):
        logits = llama.llama_get_logits_ith(handle, -1)
        best = max(range(0, n_vocab, 4096), key=lambda i: logits[i])
        one = (llama.llama_token * 1)(best)
        assert llama.llama_decode(handle, llama.llama_batch_get_one(one, 1)) == 0
        llama.llama_synchronize(handle)
    decode = args.predict / (time.perf_counter() - start)
    llama.llama_free(handle)
    return prefill, decode


def ours(args, prompt):
    """Tokens a second of Pumice: prefill, decode."""
    command = [
        args.pumice, "run", "-m", args.model, "--raw", "-f", prompt, "--no-stdin", "--temp", "0",
        "-n", str(args.predict), "-t", str(args.threads),
        "-c", str(args.prompt + args.predict + 8),
    ]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.search(r"prefill (\d+) tokens, ([\d.]+) t/s · decode (\d+) tokens, ([\d.]+) t/s", report)
    assert found, report
    return float(found[2]), float(found[4]), int(found[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pumice")
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--predict", type=int, default=128)
    args = parser.parse_args()

    silent = llama.llama_log_callback(lambda *_: None)  # Must outlive the last call.
    llama.llama_log_set(silent, None)
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(
        args.model.encode(), llama.llama_model_default_params())
    vocab = llama.llama_model_get_vocab(model)

    # A prompt of exactly the wanted number of tokens, cut where both tokenizers agree.
    text = open(args.text, encoding="utf-8").read()
    buffer = (llama.llama_token * len(text))()
    n = llama.llama_tokenize(vocab, text.encode(), len(text.encode()), buffer, len(text), True, False)
    ids = list(buffer[: min(n, args.prompt)])
    piece = bytes()
    for token in ids:
        out = (llama.ctypes.c_char * 64)()
        size = llama.llama_token_to_piece(vocab, token, out, 64, 0, False)
        piece += out.raw[:size]
    prompt = "/tmp/peers-prompt.txt"
    with open(prompt, "wb") as file:
        file.write(piece)

    best = {"pumice": [0.0, 0.0], "llama.cpp": [0.0, 0.0]}
    for _ in range(args.rounds):
        prefill, decode, n_ours = ours(args, prompt)
        results = {"pumice": [(prefill, decode)],
                   "llama.cpp": [peer(model, ids, args, flash) for flash in (False, True)]}
        for name, runs in results.items():
            for run in runs:
                best[name] = [max(a, b) for a, b in zip(best[name], run)]
    print(f"{args.model.rsplit('/')[-1]}: prompt {len(ids)} (ours {n_ours}), {args.predict} generated")
    for i, what in enumerate(("prefill", "decode")):
        a, b = best["pumice"][i], best["llama.cpp"][i]
        print(f"{what:8} pumice {a:8.1f} t/s   llama.cpp {b:8.1f} t/s   ratio {a / b:.2f}")


main()
