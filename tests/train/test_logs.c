/* SPDX-License-Identifier: Apache-2.0 */
/* trainer_log.jsonl and the event file: fields, framing, checksums.  That the real TensorBoard
 * reads the file was tried with tools/golden/read_events.py, which prints what its loader found. */
#include "fixture.h"

#include <dirent.h>
#include <math.h>

#include "proto/event.pb-c.h"

static void crc32c_check_value(void **state) {
    (void)state;
    assert_true(crc32c("123456789", 9) == 0xe3069283u); /* the catalogue's check value */
    assert_true(crc32c("", 0) == 0);
    unsigned char zeros[32] = {0};
    assert_true(crc32c(zeros, sizeof zeros) == 0x8a9136aau); /* RFC 3720, B.4 */
}

static uint64_t little_endian(const unsigned char *p, int n) {
    uint64_t v = 0;
    for (int i = 0; i < n; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static void assert_checksum(const unsigned char *bytes, size_t n, const unsigned char *stored) {
    uint32_t crc = crc32c(bytes, n), masked = ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
    assert_int_equal(little_endian(stored, 4), masked);
}

/* The i-th event of a file; false at its end. */
static bool event_at(const struct str *file, size_t i, Tb__Event **out) {
    size_t at = 0;
    for (;; i--) {
        if (at == file->len) return false;
        const unsigned char *p = (const unsigned char *)file->data + at;
        assert_true(file->len - at >= 12);
        size_t n = little_endian(p, 8);
        assert_true(n + 16 <= file->len - at);
        assert_checksum(p, 8, p + 8);
        assert_checksum(p + 12, n, p + 12 + n);
        if (i == 0) {
            *out = tb__event__unpack(NULL, n, p + 12);
            assert_non_null(*out);
            return true;
        }
        at += n + 16;
    }
}

static void read_only_file_in(const char *dir, struct str *out) {
    DIR *d = opendir(dir);
    struct dirent *e;
    assert_non_null(d);
    while ((e = readdir(d)))
        if (e->d_name[0] != '.') read_whole(dir, e->d_name, out);
    closedir(d);
}

static void event_file(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct tfevents t;
    struct str file = {0};
    Tb__Event *e = NULL;
    const char *dir = test_tmp_dir();
    assert_ok(tfevents_open(&t, dir, 4, &err));
    assert_ok(tfevents_scalar(&t, 5, "train/loss", 1.5, &err));
    assert_ok(tfevents_scalar(&t, 5, "train/learning_rate", 0, &err));
    tfevents_close(&t);
    tfevents_close(&t);
    read_only_file_in(dir, &file);
    assert_true(event_at(&file, 0, &e));
    assert_int_equal(e->what_case, TB__EVENT__WHAT_FILE_VERSION);
    assert_string_equal(e->file_version, "brain.Event:2");
    tb__event__free_unpacked(e, NULL);
    assert_true(event_at(&file, 1, &e));
    assert_int_equal(e->session_log->status, TB__SESSION_LOG__SESSION_STATUS__START);
    assert_int_equal(e->step, 5);
    tb__event__free_unpacked(e, NULL);
    for (size_t i = 2; i < 4; i++) {
        assert_true(event_at(&file, i, &e));
        Tb__SummaryValue *v = e->summary->value[0];
        assert_int_equal(e->step, 5);
        assert_string_equal(v->tag, i == 2 ? "train/loss" : "train/learning_rate");
        /* A zero is written, not left out as proto3's plain fields would be. */
        assert_int_equal(v->value_case, TB__SUMMARY_VALUE__VALUE_SIMPLE_VALUE);
        assert_true(v->simple_value == (i == 2 ? 1.5f : 0.0f));
        tb__event__free_unpacked(e, NULL);
    }
    assert_false(event_at(&file, 4, &e));
    str_release(&file);
}

static void rows_have_the_contract_s_fields(void **state) {
    (void)state;
    static const char *const fields[] = {
        "step",         "total_steps",       "epoch",          "loss",         "grad_norm",
        "tokens",       "supervised_tokens", "learning_rate",  "elapsed_time", "remaining_time",
        "total_tokens", "tokens_per_second", "peak_rss_bytes", "eval_loss"};
    struct mil_error err = {0};
    struct config c;
    struct train_log log = {0};
    struct str text = {0};
    const char *dir = test_tmp_dir();
    tiny_config(&c, dir, NULL);
    assert_ok(train_log_open(&log, &c, 0, &err));
    struct mil_train_step row = {
        .step = 3, .total_steps = 6, .epoch = 0.5, .loss = 0.1, .grad_norm = 1e-300};
    struct mil_eval_row eval = {.step = 3, .epoch = 0.5, .eval_loss = 2.5, .samples = 8};
    assert_ok(train_log_row(&log, &row, &eval, &err));
    eval.eval_loss = NAN;
    assert_ok(train_log_row(&log, NULL, &eval, &err));
    assert_ok(train_log_row(&log, NULL, NULL, &err));
    read_whole(dir, "trainer_log.jsonl", &text);
    assert_string_equal(str_c(&text), str_c(&log.history));
    char *second = strchr(text.data, '\n') + 1;
    json_t *object = NULL;
    assert_ok(json_read_text(text.data, (size_t)(second - text.data), "row", &object, &err));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!json_object_get(object, fields[i])) fail_msg("no field %s", fields[i]);
    assert_true(json_real_value(json_object_get(object, "loss")) == 0.1); /* full precision */
    json_decref(object);
    assert_ok(json_read_text(second, strlen(second), "row", &object, &err));
    assert_true(json_is_null(json_object_get(object, "eval_loss"))); /* JSON has no NaN */
    assert_null(json_object_get(object, "loss"));
    json_decref(object);
    str_release(&text);
    train_log_release(&log);
    config_release(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_check_value),
        cmocka_unit_test(event_file),
        cmocka_unit_test(rows_have_the_contract_s_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
