/* SPDX-License-Identifier: Apache-2.0 */
/* reduce_tmpl.h - sums over rows, and of squares; equations in kern/ref/reduce_tmpl.h. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

static void bias_grad(const struct kern_bias_grad *a, int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c += VL) {
        int64_t n = lanes_left(c, end);
        double total[VL] = {0};
        for (int64_t block = 0; block < a->rows; block += SUM_BLOCK) {
            int64_t past = block + SUM_BLOCK < a->rows ? block + SUM_BLOCK : a->rows;
            vf sum = vf_set(0);
            for (int64_t t = block; t < past; t++)
                sum = sum + vf_load_any(a->dy_type, a->dy, t * a->ld_dy + c, n);
            lanes_add(total, sum);
        }
        for (int64_t i = 0; i < n; i++)
            ((float *)a->db)[c + i] = (float)((double)((float *)a->db)[c + i] + total[i]);
    }
}

/* Squares in double, in VL lanes: exact for the types of 32 bits and fewer. */
static void sum_squares(const struct kern_sum_squares *a, int64_t begin, int64_t end) {
    double total[VL] = {0}, sum = 0;
    for (int64_t i = begin; i < end; i += VL) {
        int64_t n = lanes_left(i, end);
        if (a->x_type == DT_F64) {
            for (int64_t l = 0; l < n; l++) {
                double x = ((const double *)a->x)[i + l];
                total[l] += x * x;
            }
            continue;
        }
        float lanes[VL];
        vf_store(lanes, vf_load_any(a->x_type, a->x, i, n));
        for (int l = 0; l < VL; l++) total[l] += (double)lanes[l] * (double)lanes[l];
    }
    for (int l = 0; l < VL; l++) sum += total[l];
    *a->sum = sum;
}
