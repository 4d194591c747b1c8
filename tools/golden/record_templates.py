#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Record what transformers renders from models' own chat templates.

usage: record_templates.py OUT NAME=SOURCE[,BOS,EOS] ...

NAME is the template of this program that SOURCE (a tokenizer_config.json or a .jinja file) should equal.
Writes OUT: a list of {"template", "open", "messages", "text"}.
"""

import argparse
import json

from transformers.utils.chat_template_utils import render_jinja_template

USER = {"role": "user", "content": "What is 2 + 2?"}
ANSWER = {"role": "assistant", "content": "It is 4."}
SYSTEM = {"role": "system", "content": "You are terse."}
CONVERSATIONS = [
    ([USER], True),
    ([SYSTEM, USER], True),
    ([USER, ANSWER], False),
    ([SYSTEM, USER, ANSWER], False),
    ([SYSTEM, USER, ANSWER, {"role": "user", "content": "And 3 + 3?\n\n"}], True),
    ([USER, ANSWER, {"role": "user", "content": "  \u00fcber\u3000 "}, {"role": "assistant", "content": "\n6 \n"}], False),
    ([{"role": "user", "content": " a\n\nb\t"}], True),
]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("sources", nargs="+")
    a = p.parse_args()
    rows = []
    for item in a.sources:
        name, rest = item.split("=", 1)
        path, bos, eos = (rest.split(",") + ["", ""])[:3]
        with open(path) as f:
            source = f.read()
        if path.endswith(".json"):
            source = json.loads(source)["chat_template"]
        for messages, open_turn in CONVERSATIONS:
            texts, _ = render_jinja_template([messages], chat_template=source, add_generation_prompt=open_turn,
                                             bos_token=bos, eos_token=eos)
            rows.append({"template": name, "open": open_turn, "messages": messages, "text": texts[0]})
    with open(a.out, "w") as f:
        json.dump(rows, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
