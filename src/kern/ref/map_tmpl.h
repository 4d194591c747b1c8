/* SPDX-License-Identifier: Apache-2.0 */
/* map_tmpl.h - y = [y +] scale x between any plain float types, y = x f; see struct kern_map, kern_times.
 *
 * A plain conversion does not pass through real (f64 -> bf16 in a table whose real is f32 would
 * round twice); equal types are copied as they are. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

static double load_double(enum dtype t, const void *p, int64_t i) {
    switch (t) {
    case DT_F32: return (double)((const float *)p)[i];
    case DT_BF16: return (double)bf16_to_f32(((const bf16 *)p)[i]);
    case DT_F16: return (double)f16_to_f32(((const f16 *)p)[i]);
    default: return ((const double *)p)[i];
    }
}

static void map(const struct kern_map *a, int64_t begin, int64_t end) {
    bool convert = !a->accumulate && a->scale == 1.0;
    if (convert && a->y_type == a->x_type) {
        size_t size = dtype_size(a->x_type), at = (size_t)begin * size;
        memmove((char *)a->y + at, (const char *)a->x + at, (size_t)(end - begin) * size);
        return;
    }
    for (int64_t i = begin; i < end; i++) {
        if (convert) {
            store_any(a->y_type, a->y, i, load_double(a->x_type, a->x, i));
        } else {
            real v = (real)a->scale * load_any(a->x_type, a->x, i);
            if (a->accumulate) v = load_any(a->y_type, a->y, i) + v;
            store_any(a->y_type, a->y, i, (double)v);
        }
    }
}

static void times(const struct kern_times *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        store_any(a->y_type, a->y, i,
                  (double)(load_any(a->x_type, a->x, i) * load_any(REAL_TYPE, a->f, i)));
}
