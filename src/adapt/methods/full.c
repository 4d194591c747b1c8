/* SPDX-License-Identifier: Apache-2.0 */
/* full.c - every weight is trained; there is no adapter (src/model/ does it).
 * See docs/methods/full.md. */
#include "adapt/methods/factors.h"

const struct method method_full = {
    .name = "full",
    .summary = "full fine-tuning: every weight is trained, no adapter",
    .reference = "the baseline of the papers above",
    .learning_rate = 2e-5,
};
