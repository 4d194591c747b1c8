/* SPDX-License-Identifier: Apache-2.0 */
/* rope_tmpl.h - rotary position embedding (Su et al. 2021), halves layout: component i of a head
 * pairs with component i + D/2.  The rotation is orthogonal, so its backward pass is the inverse.
 */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

static void rope(const struct kern_rope *a, int64_t begin, int64_t end) {
    int64_t half = a->head_dim / 2;
    for (int64_t t = begin; t < end; t++) {
        const real *cosine = (const real *)a->table + (int64_t)a->position[t] * a->ld_table;
        const real *sine = cosine + half;
        for (int64_t h = 0; h < a->heads; h++) {
            act *x = (act *)a->x + t * a->ldx + h * a->head_dim;
            for (int64_t i = 0; i < half; i++) {
                real u = act_load(x[i]), v = act_load(x[i + half]);
                real s = a->inverse ? -sine[i] : sine[i];
                x[i] = act_store(u * cosine[i] - v * s);
                x[i + half] = act_store(v * cosine[i] + u * s);
            }
        }
    }
}
