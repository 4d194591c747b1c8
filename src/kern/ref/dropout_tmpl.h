/* SPDX-License-Identifier: Apache-2.0 */
/* dropout_tmpl.h - inverted dropout whose mask is a function of the element's number; see struct
 * kern_dropout. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif
#include "core/rng.h"

static void dropout(const struct kern_dropout *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        uint64_t e = a->first + (uint64_t)i;
        struct rng_words r = rng_words(a->seed, a->stream, a->step, e / 4);
        bool keep = (r.w[e % 4] >> 8) >= a->threshold;
        real x = load_any(a->x_type, a->x, i);
        real v = keep ? x * (real)a->inv_keep : 0;
        if (a->difference) v -= x;
        if (a->accumulate) v += load_any(a->y_type, a->y, i);
        store_any(a->y_type, a->y, i, (double)v);
    }
}
