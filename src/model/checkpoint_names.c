/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint_names.c - the sorted set of names that a model's weights have in a file. */
#include <stdlib.h>

#include "core/mem.h"
#include "model/checkpoint_bind.h"

static int compare(const void *a, const void *b) {
    return strcmp(a, b);
}

enum mil_status name_set_init(struct name_set *s, const struct model_config *c,
                              void (*name_of)(const struct weight_slot *, char *),
                              struct mil_error *err) {
    s->n = weight_count(c);
    s->names = mem_alloc(MEM_OTHER, s->n, sizeof *s->names);
    if (!s->names) return error_nomem(err, s->n * sizeof *s->names);
    for (size_t i = 0; i < s->n; i++) {
        struct weight_slot slot = weight_slot_at(c, i);
        name_of(&slot, s->names[i]);
    }
    qsort(s->names, s->n, sizeof *s->names, compare);
    return MIL_OK;
}

bool name_set_has(const struct name_set *s, const char *name, size_t n) {
    char key[WEIGHT_NAME_CAP];
    if (n >= sizeof key) return false;
    memcpy(key, name, n);
    key[n] = 0;
    return strlen(key) == n && bsearch(key, s->names, s->n, sizeof *s->names, compare) != NULL;
}

void name_set_release(struct name_set *s) {
    mem_free(s->names);
    *s = (struct name_set){0};
}
