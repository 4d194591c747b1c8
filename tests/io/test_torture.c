/* SPDX-License-Identifier: Apache-2.0 */
/* Let the n-th allocation fail for n = 0, 1, 2 ... until a run needs no more: each failure must be
 * MIL_NOMEM, leave no memory behind and no file changed. */
#define FILE_NAME "t"
#include "hostile.h"

#include "core/mem.h"
#include "io/gguf.h"
#include "io/json.h"
#include "io/npy.h"
#include "io/records.h"
#include "io/safetensors.h"
#include "io/yaml.h"

static const char json_text[] =
    "{\"a\": [1, 2.5, \"text\", {\"b\": null}], \"long key and value\": "
    "\"a text that is longer than a small buffer would be ........\", "
    "\"n\": 1000000000000000019884624838656}";

static enum mil_status read_json(struct mil_error *err) {
    json_t *v;
    enum mil_status st = json_read_text(json_text, sizeof json_text - 1, "t", &v, err);
    json_decref(v);
    return st;
}

static enum mil_status read_yaml(struct mil_error *err) {
    static const char text[] = "a: 1\nb: [x, 2.5, {c: null}]\nlonger_key: 'text'\n";
    struct yaml_doc doc;
    enum mil_status st = yaml_read_text(text, sizeof text - 1, "t", &doc, err);
    yaml_release(&doc);
    return st;
}

static enum mil_status read_st(struct mil_error *err) {
    struct st_file *f;
    enum mil_status st = st_open(TEST_DATA "/reference.safetensors", &f, err);
    st_free(&f);
    return st;
}

static enum mil_status read_gguf(struct mil_error *err) {
    struct gguf_file *f;
    enum mil_status st = gguf_open(TEST_DATA "/reference.gguf", &f, err);
    gguf_free(&f);
    return st;
}

static enum mil_status read_npy(struct mil_error *err) {
    float *data;
    int ndim;
    int64_t shape[4];
    enum mil_status st = npy_read_f32(TEST_DATA "/reference.npy", &data, &ndim, shape, err);
    mem_free(data);
    return st;
}

static char rows_path[PATH_CAP]; /* written before anything fails */

static enum mil_status read_rows(struct mil_error *err) {
    struct records r;
    json_t *row = NULL;
    enum mil_status st = records_open(&r, rows_path, err);
    while (st == MIL_OK) {
        st = records_next(&r, &row, err);
        if (!row) break;
        json_decref(row);
    }
    records_close(&r);
    return st;
}

static enum mil_status write_st(struct mil_error *err) {
    static const struct st_decl decls[] = {{"a", DT_F32, 1, {2}}, {"b", DT_F32, 1, {2}}};
    static const float x[2] = {1, 2};
    struct st_writer *w;
    TRY(st_writer_new(path, NULL, decls, 2, &w, err));
    enum mil_status st = st_writer_put(w, x, sizeof x, err);
    if (st == MIL_OK) st = st_writer_put(w, x, sizeof x, err);
    if (st == MIL_OK) return st_writer_commit(&w, err);
    st_writer_free(&w);
    return st;
}

static enum mil_status write_gguf(struct mil_error *err) {
    static const float x[2] = {1, 2};
    static const int64_t ne = 2;
    struct gguf_writer *w;
    TRY(gguf_writer_new(path, &w, err));
    gguf_put_str(w, "k", "v");
    gguf_put_tensor(w, "x", DT_F32, 1, &ne, x);
    return gguf_writer_commit(&w, err);
}

static enum mil_status write_yaml_and_json(struct mil_error *err) {
    json_t *v;
    struct str out = {0};
    TRY(json_read_text("{\"a\": [1, {\"b\": \"c\"}]}", 22, "t", &v, err));
    enum mil_status st = yaml_write(v, &out, err);
    if (st == MIL_OK) st = json_write_file(path, v, err);
    str_release(&out);
    json_decref(v);
    return st;
}

static enum mil_status list_and_copy(struct mil_error *err) {
    char **names;
    size_t n;
    TRY(dir_list(dir, &names, &n, err));
    dir_list_free(names, n);
    return file_copy(rows_path, path, err);
}

static size_t memory_in_use(void) {
    size_t sum = 0;
    for (int c = 0; c < MEM_CATEGORIES; c++) sum += mem_stats((enum mem_category)c).now;
    return sum;
}

static void torture(const char *name, enum mil_status (*run)(struct mil_error *err)) {
    size_t before = memory_in_use();
    for (long n = 0; n < 10000; n++) {
        struct mil_error err = {0};
        mem_fail_after(n);
        enum mil_status st = run(&err);
        mem_fail_after(-1);
        if (memory_in_use() != before) fail_msg("%s: allocation %ld: memory is left", name, n);
        if (st == MIL_OK) {
            assert_true(n > 0);
            return;
        }
        if (st != MIL_NOMEM || err.status != MIL_NOMEM)
            fail_msg("%s: allocation %ld: %s: %s", name, n, mil_status_name(st), err.message);
        assert_false(path_exists(path)); /* what failed wrote nothing */
    }
    fail_msg("%s: never succeeds", name);
}

static void every_failed_allocation_is_survived(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum mil_status (*run)(struct mil_error *err);
    } runs[] = {{"json", read_json},
                {"yaml", read_yaml},
                {"safetensors", read_st},
                {"gguf", read_gguf},
                {"npy", read_npy},
                {"records", read_rows},
                {"st_write", write_st},
                {"gguf_write", write_gguf},
                {"yaml and json", write_yaml_and_json},
                {"list and copy", list_and_copy}};
    struct mil_error err = {0};
    snprintf(rows_path, sizeof rows_path, "%s/rows", dir);
    static const char rows[] = "[{\"a\": \"text\"}, {\"b\": [1, 2]}]";
    assert_ok(file_write(rows_path, rows, sizeof rows - 1, &err));
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        torture(runs[i].name, runs[i].run);
        unlink(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_failed_allocation_is_survived, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
