/* SPDX-License-Identifier: Apache-2.0 */
/* any_tmpl.h - one element of any plain float type as real, and back with one rounding.
 *
 * From f64 to a 16-bit type by way of f32 would round twice; rounding the first time to odd (the
 * last bit of the f32 records whether anything was cut) makes the two roundings equal to one,
 * since f32 has more than two bits to spare (Boldo and Melquiond, 2008). */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

static inline real load_any(enum dtype t, const void *p, int64_t i) {
    switch (t) {
    case DT_F32: return (real)((const float *)p)[i];
    case DT_BF16: return (real)bf16_to_f32(((const bf16 *)p)[i]);
    case DT_F16: return (real)f16_to_f32(((const f16 *)p)[i]);
    default: return (real)((const double *)p)[i];
    }
}

static inline float f32_round_to_odd(double x) {
    float f = (float)x;
    double back = (double)f;
    if (back == x || x != x || back - back != 0.0) return f; /* exact, NaN, infinite */
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((back > x) == (x > 0.0)) u -= 1; /* was rounded away from zero: back to the truncation */
    u |= 1;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline void store_any(enum dtype t, void *p, int64_t i, double x) {
    switch (t) {
    case DT_F32: ((float *)p)[i] = (float)x; break;
    case DT_BF16: ((bf16 *)p)[i] = bf16_from_f32(f32_round_to_odd(x)); break;
    case DT_F16: ((f16 *)p)[i] = f16_from_f32(f32_round_to_odd(x)); break;
    default: ((double *)p)[i] = x; break;
    }
}
