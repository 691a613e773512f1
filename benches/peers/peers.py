#!/usr/bin/env python3
"""Pumice and llama.cpp on the same files, threads and numbers of tokens, in turn (A B A B); prints the
best of each and their ratio.

usage: peers.py PUMICE MODEL.gguf... [-p N,..] [-n N,..] [-d N,..] [-t N] [--rounds N] [--kv TYPE]

Needs the Python package llama-cpp-python (0.3.36, built natively). llama.cpp runs with and without
flash attention; its better figure counts. Models with random weights come from `pumice synth`.
"""
import argparse
import json
import random
import subprocess
import time

import llama_cpp as llama


def numbers(text):
    return [int(word) for word in text.split(",")]


class Peer:
    """llama.cpp with one model."""

    def __init__(self, path, args):
        self.args = args
        self.model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
        assert self.model, path
        vocab = llama.llama_model_get_vocab(self.model)
        self.n_vocab = llama.llama_vocab_n_tokens(vocab)

    def ids(self, n):
        generator = random.Random(1)
        return [generator.randrange(self.n_vocab) for _ in range(n)]

    def decode(self, handle, ids):
        for first in range(0, len(ids), 2048):
            part = ids[first:first + 2048]
            batch = (llama.llama_token * len(part))(*part)
            assert llama.llama_decode(handle, llama.llama_batch_get_one(batch, len(part))) == 0
        llama.llama_synchronize(handle)

    def run(self, test, flash):
        """Tokens a second of one test."""
        n_prompt, n_gen, n_depth = test
        options = llama.llama_context_default_params()
        options.n_ctx = n_depth + n_prompt + n_gen + 8
        options.n_batch, options.n_ubatch = 2048, 512
        options.n_threads = options.n_threads_batch = self.args.threads
        options.flash_attn_type = 1 if flash else 0
        kinds = {"f16": llama.GGML_TYPE_F16, "q8_0": llama.GGML_TYPE_Q8_0, "q4_0": llama.GGML_TYPE_Q4_0,
                 "f32": llama.GGML_TYPE_F32}
        options.type_k = options.type_v = kinds[self.args.kv]
        handle = llama.llama_init_from_model(self.model, options)
        assert handle, "llama.cpp refuses these options"
        ids = self.ids(n_depth + n_prompt + n_gen)
        self.decode(handle, ids[:n_depth])
        self.decode(handle, ids[n_depth:n_depth + 1] if n_gen else [])  # Warms up.
        start = time.perf_counter()
        if n_prompt:
            self.decode(handle, ids[n_depth:n_depth + n_prompt])
        else:
            for id in ids[n_depth + 1:]:
                self.decode(handle, [id])
        seconds = time.perf_counter() - start
        llama.llama_free(handle)
        return (n_prompt or n_gen - 1) / seconds

    def close(self):
        llama.llama_model_free(self.model)


def ours(path, args):
    """Tokens a second of Pumice for every test."""
    command = [
        args.pumice, "bench", "-m", path, "-p", args.prompt, "-n", args.gen, "-d", args.depth,
        "-t", str(args.threads), "-r", "1", "-o", "json", "--no-limits", "-q",
        "--cache-type-k", args.kv, "--cache-type-v", args.kv,
    ]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {(e["n_prompt"], e["n_gen"], e["n_depth"]): e["avg_ts"] for e in report}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pumice")
    parser.add_argument("models", nargs="+")
    parser.add_argument("-p", "--prompt", default="512")
    parser.add_argument("-n", "--gen", default="128")
    parser.add_argument("-d", "--depth", default="0")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kv", default="f16", choices=["f16", "q8_0", "q4_0", "f32"])
    args = parser.parse_args()

    silent = llama.llama_log_callback(lambda *_: None)  # Must outlive the last call.
    llama.llama_log_set(silent, None)
    llama.llama_backend_init()
    print("| model | test | pumice t/s | llama.cpp t/s | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for path in args.models:
        peer = Peer(path, args)
        best = {}
        for _ in range(args.rounds):
            for test, speed in ours(path, args).items():
                theirs = max(peer.run(test, flash) for flash in (False, True)
                             if flash or args.kv not in ("q8_0", "q4_0"))
                a, b = best.get(test, (0.0, 0.0))
                best[test] = (max(a, speed), max(b, theirs))
        for (n_prompt, n_gen, n_depth), (a, b) in best.items():
            name = f"pp{n_prompt}" if n_prompt else f"tg{n_gen}"
            name += f" @ d{n_depth}" if n_depth else ""
            print(f"| {path.rsplit('/')[-1]} | {name} | {a:.1f} | {b:.1f} | {a / b:.2f} |", flush=True)
        peer.close()


main()
