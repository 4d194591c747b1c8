/* SPDX-License-Identifier: Apache-2.0 */
/* models.c - the shapes of published decoders, and the names of their modules. */
#include <string.h>

#include "core/str.h"
#include "synth/weights.h"

const struct synth_model synth_models[] = {
    {"smollm2-135m", 576, 1536, 30, 9, 3, 49152, 8192, 100000, 1e-5, 1, 2, true},
    {"llama2-7b", 4096, 11008, 32, 32, 32, 32000, 4096, 10000, 1e-5, 1, 2, false},
    {"llama3-8b", 4096, 14336, 32, 32, 8, 128256, 8192, 500000, 1e-5, 128000, 128001, false},
    {"llama3-70b", 8192, 28672, 80, 64, 8, 128256, 8192, 500000, 1e-5, 128000, 128001, false},
    {0},
};

enum mil_status synth_model_find(const char *name, const struct synth_model **out,
                                 struct mil_error *err) {
    struct str known = {0};
    *out = NULL;
    for (const struct synth_model *s = synth_models; s->name && !*out; s++) {
        if (strcmp(s->name, name) == 0) *out = s;
        str_addf(&known, "%s%s", known.len ? ", " : "", s->name);
    }
    enum mil_status st = MIL_OK;
    if (!*out)
        st = error_set(err, MIL_USAGE, "no model is named '%s'; known: %s", name, str_c(&known));
    str_release(&known);
    return st;
}

void synth_module_shape(const struct synth_model *s, enum synth_kind kind, int64_t *m, int64_t *n) {
    int64_t kv = s->width / s->heads * s->kv_heads;
    *m = kind == SYNTH_K || kind == SYNTH_V ? kv : s->width;
    *n = s->width;
    if (kind == SYNTH_UP || kind == SYNTH_GATE) *m = s->ffn;
    if (kind == SYNTH_DOWN) *n = s->ffn;
}

static const char *const names[SYNTH_KINDS] = {"q", "k", "v", "o", "gate", "up", "down"};

const char *synth_kind_name(enum synth_kind kind) {
    return names[kind];
}

static bool find_kind(const char *name, size_t length, enum synth_kind *out) {
    for (int i = 0; i < SYNTH_KINDS; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) {
            *out = (enum synth_kind)i;
            return true;
        }
    return false;
}

bool synth_kind_from_name(const char *name, enum synth_kind *out) {
    return find_kind(name, strlen(name), out);
}

enum mil_status synth_kinds_parse(const char *list, unsigned *set, struct mil_error *err) {
    *set = 0;
    for (const char *s = list; *s || s == list;) {
        size_t n = strcspn(s, ",");
        enum synth_kind kind;
        if (!find_kind(s, n, &kind))
            return error_set(err, MIL_USAGE,
                             "'%.*s' is no module; known: q, k, v, o, gate, up, down", (int)n, s);
        *set |= 1u << kind;
        s += n + (s[n] == ',');
    }
    return MIL_OK;
}

/* Square ones are q; tall ones up; of the wide ones, key projections are shared by 3 to 8 heads and
 * down projections 2.7 to 3.5 times as wide as tall. */
enum synth_kind synth_kind_of_shape(int64_t m, int64_t n) {
    if (m == n) return SYNTH_Q;
    if (m > n) return SYNTH_UP;
    bool key = m * 4 <= n || (m == 192 && n == 576);
    return key ? SYNTH_K : SYNTH_DOWN;
}
