/* SPDX-License-Identifier: Apache-2.0 */
/* adalora_file.c - which triplets of an AdaLoRA are written, and in what scale.
 *
 * PEFT drops pruned triplets from the file and says in rank_pattern which of init_r they were; its scale is
 * lora_alpha / (init_r + 1e-5) for all modules alike.  A triplet that AdaLoRA's mask keeps at Lambda = 0 is left out,
 * which changes nothing.  A module with a scale of its own gets the quotient folded into Lambda. */
#include <math.h>

#include "adapt/files.h"

void adalora_layout(const struct adapter *a, struct adalora_layout *out) {
    *out = (struct adalora_layout){.init_r = a->options.r, .alpha = a->options.alpha};
    for (size_t i = 0; i < a->n; i++)
        if (a->deltas[i].r > out->init_r) out->init_r = a->deltas[i].r;
    for (size_t i = 0; i < a->n; i++)
        if (adalora_rank(&a->deltas[i]) < out->init_r) out->masked = true;
}

bool adalora_kept(const struct delta *d, int64_t t) {
    return t < d->r && (d->pruned[t] == 0 || d->e[t] != 0);
}

int64_t adalora_rank(const struct delta *d) {
    int64_t n = 0;
    for (int64_t t = 0; t < d->r; t++) n += adalora_kept(d, t);
    return n;
}

double adalora_fold(const struct adalora_layout *l, const struct delta *d) {
    double fold = delta_scale(d) / (l->alpha / ((double)l->init_r + 1e-5));
    return fabs(fold - 1) < 1e-12 ? 1 : fold; /* roundings of the same scale */
}
