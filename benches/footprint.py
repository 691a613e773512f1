#!/usr/bin/env python3
"""Start-up time and memory of `pumice run`, on Linux.

usage: footprint.py [--pumice BINARY] [--runs N] MODEL.gguf...

Prints, for each model file: milliseconds from the start of the process to the first byte of an answer of one
token (`run --raw -n 1`, best and median; the page cache is warm after the first run), and the peak of what the
process holds beyond the model while it runs a prompt that fills a context of 4096 (micro-batch 512): private
memory (weights laid out anew are in it) and pages of mapped files, less the size of the model file and of keys
and values. The peak is polled, every few milliseconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

MIB = 1 << 20
N_CTX = 4096


def first_byte(command):
    """Seconds to the first byte on stdout."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        byte = process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.stdout.read()
    if not byte or process.returncode:
        raise SystemExit(f"{command}: no answer, exit code {process.returncode}")
    return seconds


def resident(pid, model):
    """(private bytes, bytes of the model file, bytes of other files) that are in memory now."""
    private = mapped = files = 0
    of_model = False
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as smaps:
        for line in smaps:
            words = line.split()
            if not words[0].endswith(":"):
                of_model = line.rstrip().endswith(model)
            elif of_model and words[0] == "Rss:":
                mapped += 1024 * int(words[1])
            elif not of_model and words[0] in ("Private_Clean:", "Private_Dirty:"):
                private += 1024 * int(words[1])
            elif not of_model and words[0] in ("Shared_Clean:", "Shared_Dirty:"):
                files += 1024 * int(words[1])
    return private, mapped, files


def peak(pumice, model):
    """The peak of `resident`, in bytes, while a prompt fills the context."""
    command = [pumice, "bench", "-q", "--no-limits", "-m", model, "-p", str(N_CTX - 8), "-n", "8"]
    command += ["-r", "1"]
    most = (0, 0, 0)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                most = max(most, resident(process.pid, model), key=sum)
            except (FileNotFoundError, ProcessLookupError, IndexError):
                pass
            time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"{command}: exit code {process.returncode}")
    return most


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pumice", default="pumice", help="the binary")
    parser.add_argument("--runs", type=int, default=15, help="starts of each model")
    parser.add_argument("models", nargs="+", metavar="MODEL.gguf")
    args = parser.parse_args()
    for model in args.models:
        run = [args.pumice, "run", "-m", model, "--raw", "-n", "1", "Hello"]
        times = sorted(first_byte(run) for _ in range(args.runs))
        inspect = [args.pumice, "inspect", "--json", "-c", str(N_CTX), model]
        said = json.loads(subprocess.run(inspect, check=True, capture_output=True).stdout)
        kv = said["context"]["state_bytes"]
        held = peak(args.pumice, model)
        private, mapped, files = (n / MIB for n in held)
        beyond = (sum(held) - kv - os.path.getsize(model)) / MIB
        print(
            f"{model}: first byte {1e3 * times[0]:.1f} ms (median {1e3 * statistics.median(times):.1f}); "
            f"at the peak {beyond:.1f} MiB beyond the model and its {kv / MIB:.0f} MiB of keys and values "
            f"({private:.1f} private, {mapped:.1f} of the model file, {files:.1f} of other files)"
        )


if __name__ == "__main__":
    main()
