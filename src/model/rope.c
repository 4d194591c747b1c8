/* SPDX-License-Identifier: Apache-2.0 */
/* rope.c - rotary position embedding (Su et al., RoFormer, arXiv 2104.09864), its frequencies and
 * their scalings.
 *
 *     f_i = theta^(-2 i / D),  i = 0 .. D/2 - 1;   the pair (i, i + D/2) turns by position * f_i
 *
 * linear:  f_i / factor.  llama3 (Llama 3.1): with the wavelength l = 2 pi / f and the original
 * context P, frequencies with l < P / high stay, those with l > P / low are divided by factor, and
 * between them f is interpolated with the weight (P / l - low) / (high - low).
 *
 * Precision: f_i and the angle position * f_i are rounded to f32, and only then cos and sin are
 * taken (in f64).  This is how the models were trained and how transformers runs them; with
 * unrounded frequencies the angle at position 1,500 differs by up to 1e-4, which shows in the
 * logits (docs/numerics.md).  The scalings themselves are computed in f64 and rounded once. */
#include "model/rope.h"

#include <math.h>

static const double two_pi = 6.283185307179586476925286766559;

/* theta^(-2 i / D), each of exponent, power and reciprocal rounded to f32. */
static float plain_frequency(double theta, int64_t i, int64_t head_dim) {
    float exponent = (float)(2 * i) / (float)head_dim;
    float power = (float)pow(theta, (double)exponent);
    return 1.0f / power;
}

/* By how much llama3 scaling divides the frequency f. */
static double llama3_divisor(const struct rope_config *r, double f) {
    double turns = (double)r->original_positions * f / two_pi; /* P / wavelength */
    if (turns > r->high_freq_factor) return 1;
    if (turns < r->low_freq_factor) return r->factor;
    double keep = (turns - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
    return 1 / ((1 - keep) / r->factor + keep);
}

void rope_frequencies(const struct rope_config *r, int64_t head_dim, float *out) {
    for (int64_t i = 0; i < head_dim / 2; i++) {
        float f = plain_frequency(r->theta, i, head_dim);
        if (r->kind == ROPE_LINEAR)
            f = (float)((double)f / r->factor);
        else if (r->kind == ROPE_LLAMA3)
            f = (float)((double)f / llama3_divisor(r, (double)f));
        out[i] = f;
    }
}

void rope_llama3_divisors(const struct rope_config *r, int64_t head_dim, double *out) {
    for (int64_t i = 0; i < head_dim / 2; i++)
        out[i] = llama3_divisor(r, (double)plain_frequency(r->theta, i, head_dim));
}

void rope_row_f64(const float *frequencies, int64_t head_dim, int64_t position, double *row) {
    int64_t half = head_dim / 2;
    for (int64_t i = 0; i < half; i++) {
        float angle = (float)position * frequencies[i];
        row[i] = cos((double)angle);
        row[half + i] = sin((double)angle);
    }
}

void rope_row_f32(const float *frequencies, int64_t head_dim, int64_t position, float *row) {
    int64_t half = head_dim / 2;
    for (int64_t i = 0; i < half; i++) {
        float angle = (float)position * frequencies[i];
        row[i] = (float)cos((double)angle);
        row[half + i] = (float)sin((double)angle);
    }
}
