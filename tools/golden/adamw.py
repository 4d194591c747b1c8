# SPDX-License-Identifier: Apache-2.0
"""Five steps of torch.optim.AdamW in f64: the numbers in tests/backend/test_ops.c."""
import torch

p = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
opt = torch.optim.AdamW([p], lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
for t in range(1, 6):
    p.grad = torch.tensor([0.1 * t, -0.2, 0.3 * (-1) ** t], dtype=torch.float64)
    opt.step()
    print("    {" + ", ".join(repr(x) for x in p.tolist()) + "},")
