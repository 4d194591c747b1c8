/* SPDX-License-Identifier: Apache-2.0 */
/* product.h - matrix products by oneDNN, with prepared products kept by shape; private to the CPU
 * backend.
 *
 * oneDNN generates code for a shape (half a millisecond, 150 KiB), so prepared products are kept in a
 * table; a table that is full is emptied, so that a run whose shapes never repeat stays within
 * bounds.  One object, one thread (the library itself uses all of them). */
#ifndef MIL_BACKEND_PRODUCT_H
#define MIL_BACKEND_PRODUCT_H

#include "backend/backend.h"

struct product {
    struct dnnl_engine *engine;
    struct dnnl_stream *stream;
    struct product_entry *entries; /* open addressing, PRODUCT_SLOTS of them */
    size_t n_entries;
    /* At the level in use the library multiplies bf16 by the processor's instructions for it, whose rows
     * do not depend on how many there are; and by AMX. */
    bool has_bf16, has_amx;
};

enum mil_status product_init(struct product *p, struct mil_error *err);
/* Also on a zeroed or partly initialised struct. */
void product_release(struct product *p);
/* C = alpha op(A) op(B) + beta C; A, B: both bf16 or both f32; C: f32, or bf16 with bf16 operands.
 * No dimension is zero.  MIL_DEVICE, MIL_NOMEM. */
enum mil_status product_run(struct product *p, unsigned flags, double alpha, struct tensor a,
                            struct tensor b, double beta, struct tensor c, struct mil_error *err);
/* "oneDNN 2.6.3", static storage. */
const char *product_library(void);

#endif
