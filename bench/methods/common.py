# SPDX-License-Identifier: Apache-2.0
"""Shared by accuracy and cost: the methods, running the program, its log, tables of Markdown."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
METHODS = [
    "full", "lora", "rslora", "lora_plus", "dora", "adalora", "lora_ga",
    "pissa", "milora", "mid", "random", "olora", "mica",
]  # fmt: skip
TARGETS = "[q_proj, k_proj, v_proj, up_proj, down_proj]"
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """The program ended with another exit code than 0: .code, and what it said."""

    def __init__(self, command, code, text):
        super().__init__(f"{' '.join(command)}\nended with {code}: {text[-2000:]}")
        self.code, self.text = code, text


def tell(text):
    print(text, file=sys.stderr, flush=True)


def processor():
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


def thread_count(args):
    return len(os.sched_getaffinity(0)) if args.threads == "all" else args.threads


def processor_seconds(pid):
    """Used so far by a process and its threads, in steps of a clock tick; None once it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / TICKS


def process(command, env=None, watch=None):
    """Run it; -> standard output, {"seconds", "cpu_seconds", "rss"}.  watch(pid), if given, is called a hundred times a second."""
    command = [str(c) for c in command]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.monotonic()
        p = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **(env or {})})
        try:
            pid, status, used = os.wait4(p.pid, os.WNOHANG) if watch else os.wait4(p.pid, 0)
            while pid == 0:
                watch(p.pid)
                time.sleep(0.01)
                pid, status, used = os.wait4(p.pid, os.WNOHANG)
        except KeyboardInterrupt:
            p.terminate()
            raise
        p.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        text, messages = out.read(), err.read()
    if p.returncode != 0:
        raise Failed(command, p.returncode, messages)
    seconds = time.monotonic() - start
    return text, {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "rss": used.ru_maxrss * 1024}


def read_log(folder):
    """Rows of trainer_log.jsonl; one that is half written is left out."""
    path, rows = pathlib.Path(folder) / "trainer_log.jsonl", []
    for line in open(path, encoding="utf-8") if path.exists() else ():
        if line.endswith("\n"):
            rows.append(json.loads(line))
    return rows


def read_setting(folder, key):
    """A value of train_config.yaml, which holds the configuration as it was resolved."""
    found = re.search(rf"^{key}: *(\S+)", (pathlib.Path(folder) / "train_config.yaml").read_text(encoding="utf-8"), re.M)
    return found.group(1) if found else None


def known_methods(asked, milora, words):
    """Those of the asked that this program has; the others are told.  words: a training configuration."""
    known = []
    for method in asked:
        try:
            process([milora, "train", *words, f"method={method}", "--dry-run", "--quiet"])
            known.append(method)
        except Failed as e:
            if e.code != 2 or not re.search(rf"'{method}' is not (known|in this version|part)", e.text):
                raise
            tell(f"{method}: skipped, not part of this program")
    return known


def add_options(parser):
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="where the program lies")
    parser.add_argument("--model", default=ROOT / "build/models/SmolLM2-135M-Instruct.gguf")
    parser.add_argument("--data", type=pathlib.Path, default=os.environ.get("MILORA_DATA", ROOT / "../shared/data"))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, help="one for all; without it each method's default")
    parser.add_argument("--threads", default="all")


def asked_methods(parser, args):
    asked = [m for m in args.methods.split(",") if m]
    unknown = [m for m in asked if m not in METHODS]
    if unknown:
        parser.error(f"no such method: {', '.join(unknown)} (there are {', '.join(METHODS)})")
    return asked


def markdown(header, rows):
    return "\n".join("| " + " | ".join(r) + " |" for r in [header, ["---"] * len(header), *rows]) + "\n"
