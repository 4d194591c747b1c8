/* SPDX-License-Identifier: Apache-2.0 */
/* factors.h - what the initialisers in this folder share. */
#ifndef MIL_ADAPT_METHODS_FACTORS_H
#define MIL_ADAPT_METHODS_FACTORS_H

#include "adapt/method.h"
#include "linalg/svd.h"

/* B0 = U sqrt(S / s), A0 = sqrt(S / s) V^T of the r triplets that `end` names, rounded to f32: then
 * s B0 A0 is that part of W for any scale s > 0, as in PEFT's PiSSA.  From io->cache where it has them.  Statuses of
 * svd_compute. */
enum mil_status factors_from_svd(struct method_init *io, enum svd_end end, struct mil_error *err);
/* B0 = U of those triplets: orthonormal columns; nothing else.  Likewise. */
enum mil_status factors_left_vectors(struct method_init *io, enum svd_end end,
                                     struct mil_error *err);
/* An initialiser: A0 uniform in [-1 / sqrt(n), 1 / sqrt(n)) by Philox (seed, RNG_INIT + stream, 0, element); B stays
 * zero. */
enum mil_status factors_kaiming(struct method_init *io, struct mil_error *err);

extern const struct method method_lora, method_rslora, method_lora_plus, method_dora, method_olora,
    method_mica, method_milora, method_pissa, method_mid, method_random, method_adalora,
    method_lora_ga, method_full;

#endif
