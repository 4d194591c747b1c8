/* SPDX-License-Identifier: Apache-2.0 */
/* dropout_tmpl.h - inverted dropout whose mask is a function of the element's number; see structs
 * kern_dropout_mask and kern_dropout_apply. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif
#include "core/rng.h"

static void dropout_mask(const struct kern_dropout_mask *a, int64_t begin, int64_t end) {
    memset(a->mask + 8 * begin, 0, (size_t)(8 * (end - begin)));
    for (int64_t c = 64 * begin; c < 64 * end && c < a->cols; c++) {
        uint64_t e = a->first + (uint64_t)c;
        struct rng_words r = rng_words(a->seed, a->stream, a->step, e / 4);
        if (r.w[e % 4] >> 8 >= a->threshold) a->mask[c / 8] |= (uint8_t)(1u << (c % 8));
    }
}

static void dropout_apply(const struct kern_dropout_apply *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        bool keep = a->mask[i / 8] >> (i % 8) & 1;
        real x = load_any(a->x_type, a->x, i);
        real v = keep ? x * (real)a->inv_keep : 0;
        store_any(a->kept_type, a->kept, i, (double)v);
        if (a->change) store_any(a->change_type, a->change, i, (double)(v - x));
    }
}
