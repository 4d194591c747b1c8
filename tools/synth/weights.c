/* SPDX-License-Identifier: Apache-2.0 */
/* weights.c - a random matrix with the spectrum of a trained one.
 *
 *     W = diag(r) Z diag(c) Q diag(p)  +  sum_i  h g (i + 1)^-a  u_i v_i^T
 *
 * Z independent normals; r, c, p log-normal gains; Q orthogonal in blocks of 64 channels
 * (Hadamard), so that the gains c spread the spectrum without spreading the norms of the columns;
 * u, v random directions of length about one; h in units of the bulk's upper edge rms (sqrt m +
 * sqrt n).  1 % of the gains r and c are weak ones, the values below the bulk.  The gains' widths,
 * h and a are fitted, kind by kind, to the mean log spectra of nine layers (2 to 28) of
 * SmolLM2-135M; geometric means of the singular values over the largest, there and here:
 *
 *   index      1     8    32    k/4   k/2  3k/4  0.9k   k-8    k-1    largest / bulk's edge
 *   q  real   .93   .71   .54  .28   .14   .052  .018  .0021  .0000   1.9
 *      here   .89   .68   .50  .25   .12   .050  .018  .0023  .0001   2.1
 *   k  real   .73   .63   .48  .42   .27   .16   .090  .064   .034    1.8
 *      here   .89   .67   .46  .38   .23   .14   .096  .077   .059    1.9
 *   v  real   .97   .88   .77  .72   .56   .41   .30   .25    .17     1.1
 *      here   .97   .89   .75  .68   .52   .38   .30   .26    .19     1.1
 *   o  real   .87   .73   .62  .37   .18   .073  .026  .0033  .0002   1.6
 *      here   .91   .70   .54  .29   .15   .063  .024  .0030  .0001   1.9
 *   gate real .77   .63   .52  .38   .28   .19   .14   .088   .048    1.9
 *      here   .79   .66   .56  .40   .28   .19   .14   .100   .080    1.9
 *   up real   .78   .71   .65  .51   .38   .27   .20   .13    .056    1.6
 *      here   .84   .75   .67  .49   .36   .25   .19   .14    .11     1.5
 *   down real .70   .59   .52  .39   .29   .20   .15   .10    .067    1.9
 *      here   .74   .60   .51  .36   .26   .18   .13   .10    .072    2.0
 * (one layer differs from another by a factor of 1.1 to 1.4).  The head of wider models is taken to
 * grow with the square root of the width, 2.7 times as far from the bulk at 4096 as at 576: an
 * assumption, and gives 4 to 5 times the bulk's edge there.  In layer 0 the heads of q, k, v, o are
 * 2.5 times as strong, as SmolLM2's are (1.8 to 3.2).
 *
 * Numbers come from Philox, one word each: its four bytes are summed (variance 21845), and the
 * Hadamard transform, a sum over 64 of them, brings them close to normal.  116 M numbers a second on
 * two cores of an EPYC Zen 4 that others used, too. */
#include "synth/weights.h"

#include <cblas.h>
#include <math.h>

#include "core/mem.h"
#include "core/rng.h"
#include "core/threads.h"

enum { LANES = 64, COUNTERS = LANES / 4, ROWS = 64, STRIP = 512, MAX_HEAD = 128 };
/* What the numbers of one matrix are drawn for: Philox's step. */
enum {
    FOR_BULK,
    FOR_U,
    FOR_V,
    FOR_ROWS,
    FOR_COLUMNS,
    FOR_MIXED,
    FOR_WEAK_ROWS,
    FOR_WEAK,
    FOR_LAYER
};

/* Widths of the gains (standard deviations of their logarithms) and the head. */
static const struct profile {
    double row, column, mixed, head, decay;
} profiles[SYNTH_KINDS] = {
    [SYNTH_Q] = {.35, .10, .55, 1.12, .56},    [SYNTH_K] = {.49, .12, .40, 1.20, .20},
    [SYNTH_V] = {.16, .10, .05, .364, .43},    [SYNTH_O] = {.25, .15, .46, 1.22, .48},
    [SYNTH_GATE] = {.08, .06, .33, 1.72, .81}, [SYNTH_UP] = {.12, .08, .22, 1.23, .68},
    [SYNTH_DOWN] = {.28, .05, .02, 1.76, .97},
};
static const double weak_share = 0.01, fitted_width = 576;

struct maker {
    struct synth_spec spec;
    uint32_t stream;
    struct profile p;
    int64_t head;                /* rank of the head */
    float *row, *column, *mixed; /* gains [m], [n], [n] */
    float *u, *v;                /* [m, head], [head, n], scaled */
    bf16 *out;
};

/* ---- numbers ---- */

/* philox4x32_10 of COUNTERS successive counters, word by word: the compiler makes vectors of it. */
static void philox_lanes(const struct maker *k, uint32_t step, uint64_t block,
                         uint32_t w[4][COUNTERS]) {
    uint32_t k0 = (uint32_t)k->spec.seed, k1 = (uint32_t)(k->spec.seed >> 32);
    for (uint32_t i = 0; i < COUNTERS; i++) {
        w[0][i] = (uint32_t)(block * COUNTERS) + i;
        w[1][i] = (uint32_t)(block * COUNTERS >> 32);
        w[2][i] = step;
        w[3][i] = k->stream;
    }
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < COUNTERS; i++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * w[0][i], p1 = (uint64_t)0xCD9E8D57u * w[2][i];
            w[0][i] = (uint32_t)(p1 >> 32) ^ w[1][i] ^ k0;
            w[1][i] = (uint32_t)p1;
            w[2][i] = (uint32_t)(p0 >> 32) ^ w[3][i] ^ k1;
            w[3][i] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* LANES numbers of mean 0 and variance 1, nearly normal. */
static void nearly_normal(const struct maker *k, uint32_t step, uint64_t block, float x[LANES]) {
    uint32_t w[4][COUNTERS];
    philox_lanes(k, step, block, w);
    for (int i = 0; i < LANES; i++) {
        uint32_t b = w[i / COUNTERS][i % COUNTERS];
        int32_t sum = (int32_t)((b & 255) + (b >> 8 & 255) + (b >> 16 & 255) + (b >> 24));
        x[i] = (float)(sum - 510) * 0.0067659f; /* 1 / sqrt(21845) */
    }
}

/* Orthogonal: the Walsh-Hadamard transform over 8. */
static void mix(float x[LANES]) {
    for (int h = LANES / 2; h; h /= 2)
        for (int i = 0; i < LANES; i += 2 * h)
            for (int j = i; j < i + h; j++) {
                float a = x[j], b = x[j + h];
                x[j] = a + b;
                x[j + h] = a - b;
            }
    for (int i = 0; i < LANES; i++) x[i] *= 0.125f;
}

/* ---- the parts ---- */

/* Log-normal gains of mean square 1, a few of them weak. */
static void fill_gains(const struct maker *k, uint32_t step, uint32_t weak_step, double width,
                       int64_t n, float *out) {
    uint64_t seed = k->spec.seed;
    for (int64_t i = 0; i < n; i++) {
        double gain = exp(width * rng_normal(seed, k->stream, step, (uint64_t)i) - width * width);
        double weak = weak_step ? rng_uniform(seed, k->stream, weak_step, (uint64_t)i) : 1;
        out[i] = (float)(weak < weak_share ? gain * (0.3 + 0.7 * weak / weak_share) : gain);
    }
}

static double rms_of(const struct synth_spec *s) {
    int64_t width = s->kind == SYNTH_DOWN ? s->m : s->n;
    return 0.19 * fitted_width / (double)(width > 576 ? width : 576);
}

/* Gains a little different in every layer, and the head as wide models have it. */
static struct profile layer_profile(const struct maker *k) {
    struct profile p = profiles[k->spec.kind];
    double width = (double)(k->spec.kind == SYNTH_DOWN ? k->spec.m : k->spec.n), z[3];
    for (uint64_t i = 0; i < 3; i++)
        z[i] = exp(0.15 * rng_normal(k->spec.seed, k->stream, FOR_LAYER, i));
    p.row *= z[0];
    p.mixed *= z[1];
    p.head *= z[2] * (k->spec.layer == 0 && k->spec.kind <= SYNTH_O ? 2.5 : 1);
    if (width > fitted_width) p.head *= sqrt(width / fitted_width);
    return p;
}

static void fill_u(void *ctx, int64_t begin, int64_t end) {
    const struct maker *k = ctx;
    float x[LANES], scale = (float)(1 / sqrt((double)k->spec.m));
    int64_t blocks = (k->head + LANES - 1) / LANES;
    for (int64_t i = begin; i < end; i++)
        for (int64_t b = 0; b < blocks; b++) {
            nearly_normal(k, FOR_U, (uint64_t)(i * blocks + b), x);
            for (int64_t j = b * LANES; j < (b + 1) * LANES && j < k->head; j++)
                k->u[i * k->head + j] = x[j % LANES] * scale;
        }
}

static void fill_v(void *ctx, int64_t begin, int64_t end) {
    const struct maker *k = ctx;
    int64_t n = k->spec.n, blocks = (n + LANES - 1) / LANES;
    double edge = rms_of(&k->spec) * (sqrt((double)k->spec.m) + sqrt((double)n));
    float x[LANES];
    for (int64_t i = begin; i < end; i++) {
        double sigma = k->p.head * edge * pow((double)i + 1, -k->p.decay);
        float scale = (float)(sigma / sqrt((double)n));
        for (int64_t b = 0; b < blocks; b++) {
            nearly_normal(k, FOR_V, (uint64_t)(i * blocks + b), x);
            for (int64_t j = b * LANES; j < (b + 1) * LANES && j < n; j++)
                k->v[i * n + j] = x[j % LANES] * scale;
        }
    }
}

/* Row i's channels from j on: the bulk, added to what lies in head, rounded. */
static void finish_block(const struct maker *k, int64_t i, int64_t j, const float *head) {
    int64_t n = k->spec.n, blocks = (n + LANES - 1) / LANES;
    float x[LANES], gain = k->row[i];
    bf16 *to = k->out + i * n + j;
    nearly_normal(k, FOR_BULK, (uint64_t)(i * blocks + j / LANES), x);
    if (j + LANES <= n) {
        for (int c = 0; c < LANES; c++) x[c] *= k->mixed[j + c];
        mix(x);
        for (int c = 0; c < LANES; c++)
            to[c] = bf16_from_f32(x[c] * (gain * k->column[j + c]) + head[c]);
        return;
    }
    for (int64_t c = 0; c < n - j; c++)
        to[c] = bf16_from_f32(x[c] * (gain * k->mixed[j + c] * k->column[j + c]) + head[c]);
}

/* ROWS rows, strip by strip so that the head's part stays in the cache. */
static void fill_rows(void *ctx, int64_t begin, int64_t end) {
    const struct maker *k = ctx;
    int64_t n = k->spec.n, rows = (end < k->spec.m ? end : k->spec.m) - begin, r = k->head;
    float head[ROWS * STRIP];
    if (rows <= 0) return;
    for (int64_t j = 0; j < n; j += STRIP) {
        int64_t width = n - j < STRIP ? n - j : STRIP;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)width, (int)r, 1,
                    k->u + begin * r, (int)r, k->v + j, (int)n, 0, head, STRIP);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t c = 0; c < width; c += LANES)
                finish_block(k, begin + i, j + c, head + i * STRIP + c);
    }
}

enum mil_status synth_weight(const struct synth_spec *spec, bf16 *out, struct mil_error *err) {
    int64_t m = spec->m, n = spec->n, k = m < n ? m : n;
    struct maker maker = {.spec = *spec, .out = out};
    maker.stream = rng_stream(RNG_INIT, (uint32_t)(spec->layer * SYNTH_KINDS + (int)spec->kind));
    maker.p = layer_profile(&maker);
    maker.head = k / 4 > MAX_HEAD ? MAX_HEAD : (k + 3) / 4;
    size_t sum = (size_t)(m + 2 * n + maker.head * (m + n));
    float *all = mem_alloc(MEM_SCRATCH, sum, sizeof *all);
    if (!all) return error_nomem(err, sum * sizeof *all);
    maker.row = all;
    maker.column = maker.row + m;
    maker.mixed = maker.column + n;
    maker.u = maker.mixed + n;
    maker.v = maker.u + m * maker.head;
    fill_gains(&maker, FOR_ROWS, FOR_WEAK_ROWS, maker.p.row, m, maker.row);
    fill_gains(&maker, FOR_COLUMNS, 0, maker.p.column, n, maker.column);
    fill_gains(&maker, FOR_MIXED, FOR_WEAK, maker.p.mixed, n, maker.mixed);
    for (int64_t i = 0; i < m; i++) maker.row[i] *= (float)rms_of(spec);
    parallel_for(m, ROWS, fill_u, &maker);
    parallel_for(maker.head, 1, fill_v, &maker);
    /* At least two chunks: a lone one would run outside a parallel region, where the library's
     * product splits its sums as the number of threads says. */
    parallel_for(m > ROWS ? m : ROWS + 1, ROWS, fill_rows, &maker);
    mem_free(all);
    return MIL_OK;
}
