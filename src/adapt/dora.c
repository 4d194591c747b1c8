/* SPDX-License-Identifier: Apache-2.0 */
/* dora.c - a magnitude for each row of an adapted weight (Liu et al., DoRA, 2024, equation 5), on top of any low-rank
 * form:
 *     y = f * (W x + s Delta x'),   f_i = magnitude_i / || W_i + s Delta_i ||
 * The norm is a constant in the backward pass (section 4.3 of the paper), and follows the factors after each update:
 *     || W_i + b_i A ||^2 = || W_i ||^2 + 2 b_i . (A W_i) + b_i (A A^T) b_i^T
 * with b = s [dB | B0], A = [A ; dA] as the forward pass uses them, so that no m x n product is formed. */
#include "adapt/delta.h"

const struct linear_adapter_ops dora_ops;

enum mil_status dora_prepare(const struct delta_runtime *d, struct stream *s,
                             struct mil_error *err) {
    (void)d, (void)s;
    return error_set(err, MIL_UNSUPPORTED, "use_dora is not in this version");
}

size_t dora_scratch(const struct delta_runtime *d) {
    (void)d;
    return 0;
}

void dora_refresh(const struct delta_runtime *d, struct stream *s, void *scratch) {
    (void)d, (void)s, (void)scratch;
}
