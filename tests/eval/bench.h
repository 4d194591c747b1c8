/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h - the taught model, a folder to write in, and files as text: for the tests of whole runs. */
#ifndef MIL_TESTS_EVAL_BENCH_H
#define MIL_TESTS_EVAL_BENCH_H

#include "support.h"

#define ROWS TEST_DATA "/taught/rows.jsonl"
enum { TEXT_CAP = 1 << 17 };

struct bench {
    struct opened m;
    char dir[512], samples[600], record[620], other[600];
};

static inline int bench_open(void **state) {
    struct bench *b = calloc(1, sizeof *b);
    b->m = open_model(TEST_DATA "/taught", DT_F32, 128, true);
    snprintf(b->dir, sizeof b->dir, "%s", test_tmp_dir());
    snprintf(b->samples, sizeof b->samples, "%s/samples.jsonl", b->dir);
    snprintf(b->record, sizeof b->record, "%s/samples.jsonl.run.json", b->dir);
    snprintf(b->other, sizeof b->other, "%s/other.jsonl", b->dir);
    *state = b;
    return 0;
}

static inline int bench_close(void **state) {
    struct bench *b = *state;
    opened_close(&b->m);
    free(b);
    return 0;
}

static inline struct task_run run_of(struct bench *b, const char *data,
                                     const struct mil_eval_options *o) {
    return (struct task_run){.model = b->m.m,
                             .tokenizer = b->m.tokenizer,
                             .positions = b->m.positions,
                             .data_path = data,
                             .options = o};
}

static inline size_t slurp(const char *path, char *text) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s cannot be read", path);
    size_t n = fread(text, 1, TEXT_CAP - 1, f);
    assert_true(n < TEXT_CAP - 1);
    text[n] = '\0';
    fclose(f);
    return n;
}

static inline void spill(const char *path, const char *text, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    fclose(f);
}

#endif
