#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Record raw blocks of every GGUF block type and what the gguf package makes of them.

    record_dequant.py OUT_DIR

OUT_DIR/dequant.bin holds records: 8 bytes type name (NUL-padded), u32 elements, u32 raw bytes, the
raw bytes, the expected float32.  The blocks are random bytes whose f16 scales are replaced by finite
ones (subnormals and both signs included).
"""
import struct
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize

# type name -> byte offsets of its f16 scales
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}
ELEMENTS = 2048


def blocks_of(name, rng):
    kind = gguf.GGMLQuantizationType[name]
    elems, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (ELEMENTS // elems, size), dtype=np.uint8)
    for at in SCALES[name]:
        scale = (rng.standard_normal(len(raw)) * 10.0 ** rng.integers(-7, 1, len(raw))).astype("<f2")
        raw[:, at:at + 2] = scale.view(np.uint8).reshape(-1, 2)
    return raw, dequantize(raw, kind).astype("<f4").reshape(-1)


def main():
    out = Path(sys.argv[1])
    rng = np.random.default_rng(20240613)
    with open(out / "dequant.bin", "wb") as f:
        for name in SCALES:
            raw, want = blocks_of(name, rng)
            assert np.isfinite(want).all()
            f.write(struct.pack("<8sII", name.encode(), want.size, raw.size))
            f.write(raw.tobytes() + want.tobytes())


if __name__ == "__main__":
    main()
