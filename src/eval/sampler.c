/* SPDX-License-Identifier: Apache-2.0 */
/* sampler.c - the next token from logits z: argmax, or a draw from
 *     p_i = exp((z_i - max z) / t) / Z
 * restricted to the nucleus (Holtzman et al., "The curious case of neural text degeneration").
 *
 * Sums are in double.  The nucleus is found with a binary heap over ids, built in O(V) and popped
 * once per kept token: at usual settings some tens of pops, where a sort of 128,000 logits would
 * cost more than the draw is worth. */
#include "eval/sampler.h"

#include <math.h>
#include <stdbool.h>

static enum mil_status not_finite(int64_t id, float value, struct mil_error *err) {
    return error_set(err, MIL_NUMERIC, "the logit of token %lld is %s", (long long)id,
                     isnan(value) ? "NaN" : "infinite");
}

enum mil_status sample_greedy(const float *logits, int64_t vocab, int32_t *id,
                              struct mil_error *err) {
    int64_t best = 0;
    for (int64_t i = 0; i < vocab; i++) {
        /* One comparison catches NaN and +infinity. */
        if (!(logits[i] < INFINITY)) return not_finite(i, logits[i], err);
        if (logits[i] > logits[best]) best = i;
    }
    *id = (int32_t)best;
    return MIL_OK;
}

enum mil_status log_sum_exp(const float *logits, int64_t vocab, double *out,
                            struct mil_error *err) {
    int32_t top = 0;
    TRY(sample_greedy(logits, vocab, &top, err));
    double max = logits[top], sum = 0;
    if (max == -INFINITY) return not_finite(top, logits[top], err);
    for (int64_t i = 0; i < vocab; i++) sum += exp(logits[i] - max);
    *out = max + log(sum);
    return MIL_OK;
}

/* Heap order: larger logit first, smaller id among equals. */
static bool before(const float *logits, int32_t a, int32_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

static void sift_down(const float *logits, int32_t *heap, int64_t n, int64_t at) {
    for (;;) {
        int64_t top = at, left = 2 * at + 1;
        if (left < n && before(logits, heap[left], heap[top])) top = left;
        if (left + 1 < n && before(logits, heap[left + 1], heap[top])) top = left + 1;
        if (top == at) return;
        int32_t swap = heap[at];
        heap[at] = heap[top];
        heap[top] = swap;
        at = top;
    }
}

/* Fills scratch's end, from the last element downwards, with the nucleus in descending order;
 * returns how many, and their weight sum. */
static int64_t nucleus(const float *logits, int64_t vocab, double t, double limit, double max,
                       int32_t *scratch, double *mass) {
    int64_t kept = 0;
    *mass = 0;
    for (int64_t i = 0; i < vocab; i++) scratch[i] = (int32_t)i;
    for (int64_t i = vocab / 2 - 1; i >= 0; i--) sift_down(logits, scratch, vocab, i);
    while (kept < vocab && (kept == 0 || *mass < limit)) {
        int64_t last = vocab - 1 - kept;
        int32_t top = scratch[0];
        scratch[0] = scratch[last];
        scratch[last] = top;
        sift_down(logits, scratch, last, 0);
        *mass += exp((logits[top] - max) / t);
        kept++;
    }
    return kept;
}

enum mil_status sample_nucleus(const float *logits, int64_t vocab, double temperature, double top_p,
                               double u, int32_t *scratch, int32_t *id, struct mil_error *err) {
    REQUIRE(temperature > 0 && vocab > 0);
    int32_t top = 0;
    TRY(sample_greedy(logits, vocab, &top, err));
    double max = logits[top], total = 0, mass;
    if (max == -INFINITY) return not_finite(top, logits[top], err);
    for (int64_t i = 0; i < vocab; i++) total += exp((logits[i] - max) / temperature);

    bool all = top_p >= 1;
    int64_t kept = vocab;
    mass = total;
    if (!all) kept = nucleus(logits, vocab, temperature, top_p * total, max, scratch, &mass);

    /* Walk until the sum passes u: the last token with a weight takes what rounding leaves over. */
    double sum = 0;
    *id = top;
    for (int64_t i = 0; i < kept; i++) {
        int32_t candidate = all ? (int32_t)i : scratch[vocab - 1 - i];
        double weight = exp((logits[candidate] - max) / temperature);
        if (weight > 0) *id = candidate;
        sum += weight;
        if (sum > u * mass) break;
    }
    return MIL_OK;
}
