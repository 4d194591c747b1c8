#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Record small files as the reference implementations write them, for tests/io.

    record_io.py OUT_DIR

reference.safetensors (package safetensors), reference.gguf (package gguf), reference.npy (numpy).
"""
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file


def write_safetensors(path):
    tensors = {
        "f32": torch.arange(6, dtype=torch.float32).reshape(2, 3) / 2,
        "bf16": torch.tensor([0.25, -1.5, 3.0], dtype=torch.bfloat16),
        "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(7, dtype=torch.int64),
    }
    save_file(tensors, path, metadata={"format": "pt"})


def write_gguf(path):
    w = gguf.GGUFWriter(path, "llama")
    w.add_custom_alignment(64)
    w.add_uint8("t.u8", 200)
    w.add_int8("t.i8", -100)
    w.add_uint16("t.u16", 60000)
    w.add_int16("t.i16", -30000)
    w.add_uint32("t.u32", 4000000000)
    w.add_int32("t.i32", -2000000000)
    w.add_uint64("t.u64", 2**63)
    w.add_int64("t.i64", -(2**62))
    w.add_float32("t.f32", 1.5)
    w.add_float64("t.f64", 0.1)
    w.add_bool("t.bool", True)
    w.add_string("t.str", "grüße")
    w.add_array("t.strings", ["a", "", "ccc"])
    w.add_array("t.ints", [1, -2, 3])
    w.add_array("t.floats", [0.5, -0.25])
    w.add_tensor("plain", np.arange(6, dtype=np.float32).reshape(2, 3))
    rows = np.linspace(-1, 1, 4 * 64, dtype=np.float32).reshape(4, 64)
    kind = gguf.GGMLQuantizationType.Q8_0
    w.add_tensor("blocks", gguf.quants.quantize(rows, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    out = Path(sys.argv[1])
    write_safetensors(out / "reference.safetensors")
    write_gguf(out / "reference.gguf")
    np.save(out / "reference.npy", np.arange(24, dtype=np.float32).reshape(2, 3, 4))


if __name__ == "__main__":
    main()
