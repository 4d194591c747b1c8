/* SPDX-License-Identifier: Apache-2.0 */
/* logits.h - logits of a few tokens by a model, with an adapter attached or without. */
#ifndef MIL_TESTS_ADAPT_LOGITS_H
#define MIL_TESTS_ADAPT_LOGITS_H

#include "fixture.h"

enum { IDS = 8, VOCAB = 40 };
static const int32_t some_ids[IDS] = {1, 7, 3, 39, 20, 5, 5, 11};

/* out: [IDS, vocab]; a: NULL for the base alone. */
static inline void logits_of(struct checkpoint *c, struct adapter *a, enum dtype compute,
                             const int32_t *ids, float *out) {
    struct backend *b;
    struct model *m;
    struct adapter_runtime *rt = NULL;
    struct infer *s;
    struct infer_options o = {.slots = 1, .length = IDS, .max_tokens = IDS, .max_rows = IDS};
    int32_t slot = 0;
    int64_t past = 0, n = IDS;
    assert_ok(backend_open("cpu", compute, &b, &err));
    assert_ok(model_new(c, b, IDS, &m, &err));
    if (a) assert_ok(adapter_attach(a, m, false, &rt, &err));
    assert_ok(infer_new(m, &o, &s, &err));
    struct infer_call call = {.ids = ids,
                              .slot = &slot,
                              .past = &past,
                              .n = &n,
                              .n_seqs = 1,
                              .all_rows = true,
                              .logits = out};
    assert_ok(infer_run(s, &call, &err));
    infer_free(&s);
    adapter_detach(&rt);
    model_free(&m);
    backend_free(&b);
}

#endif
