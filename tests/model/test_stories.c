/* SPDX-License-Identifier: Apache-2.0 */
/* test_stories.c - stories260K, the small model of llama2.c, tells the story that its page prints,
 * token by token, greedily, in f32. */
#include "model/llama2c.h"
#include "model/support.h"

enum { STEPS = 256 };

static const char *stories(char path[600], const char *name) {
    snprintf(path, 600, "%s/models/stories260K/%s", test_data_dir(), name);
    return path;
}

/* The story that follows "-t 0.0\n" in the page, up to the closing fence. */
static void expected_story(struct str *out) {
    struct mil_error err = {0};
    struct str page = {0};
    char path[600];
    assert_ok(file_read(stories(path, "stories260K.md"), 1 << 20, &page, &err));
    const char *begin = strstr(page.data, "-t 0.0\n");
    assert_non_null(begin);
    begin += strlen("-t 0.0\n");
    const char *end = strstr(begin, "\n```");
    assert_non_null(end);
    str_addn(out, begin, (size_t)(end - begin));
    str_release(&page);
}

static int32_t largest(const float *z, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (z[i] > z[best]) best = i;
    return (int32_t)best;
}

static void tell(struct opened *o, struct str *out) {
    struct mil_error err = {0};
    struct infer_options options = {1, STEPS, 1, 1};
    struct infer *s = NULL;
    struct mapped_file tokenizer;
    char path[600];
    float logits[512];
    int32_t id = o->c->config.bos, slot = 0;
    assert_true(o->c->config.vocab == 512);
    assert_ok(file_map(stories(path, "tok512.bin"), &tokenizer, &err));
    assert_ok(infer_new(o->m, &options, &s, &err));
    for (int64_t past = 0; past < STEPS; past++) {
        int64_t n = 1;
        struct infer_call call = {&id, &slot, &past, &n, 1, false, logits};
        assert_ok(infer_run(s, &call, &err));
        int32_t next = largest(logits, 512);
        if (next == 1) break;
        llama2c_decode(&tokenizer, id, next, out);
        id = next;
    }
    infer_free(&s);
    file_unmap(&tokenizer);
}

static void test_story(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct llama2c m;
    struct str want = {0}, got = {0};
    char path[600];
    skip_without_data();
    if (!path_exists(stories(path, "stories260K.bin"))) {
        fprintf(stderr, "SKIP: the data sets hold no stories260K\n");
        skip();
    }
    const char *dir = test_tmp_dir();
    llama2c_open(&m, path);
    llama2c_write_hf(&m, dir);
    file_unmap(&m.file);
    expected_story(&want);
    struct opened o = {0};
    assert_ok(backend_open("cpu", DT_F32, &o.b, &err));
    assert_ok(checkpoint_open(dir, CHECKPOINT_WEIGHTS, &o.c, &err));
    assert_ok(model_new(o.c, o.b, STEPS, &o.m, &err));
    tell(&o, &got);
    /* The page's last line ends where its author cut it. */
    assert_true(want.len > 500 && got.len >= want.len);
    assert_memory_equal(got.data, want.data, want.len);
    opened_close(&o);
    assert_ok(dir_remove(dir, &err));
    str_release(&want);
    str_release(&got);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_story)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
