/* SPDX-License-Identifier: Apache-2.0 */
/* test_generate.c - completions, conversations and evaluation through the public interface, on the
 * taught model of tests/eval (and on SmolLM2 where it is present). */
#include "check.h"

#include "core/threads.h"
#include "io/json.h"
#include "milora/eval.h"
#include "milora/generate.h"
#include "milora/tokenizer.h"

#define TAUGHT TEST_ROOT "/tests/eval/data/taught"

static mil_model *open_model(const char *path, int64_t positions) {
    struct mil_error err;
    struct mil_model_options o = {.path = path, .compute = MIL_F32, .max_positions = positions};
    mil_model *m;
    threads_set(1);
    assert_ok(mil_model_open(&o, &m, &err));
    return m;
}

struct stream {
    char text[4][2048];
    size_t n[4], limit;
};
static int on_piece(void *ctx, size_t prompt, const char *piece, size_t n, int32_t id) {
    struct stream *s = ctx;
    assert_true(prompt < 4 && id >= 0);
    strncat(s->text[prompt], piece, n);
    return ++s->n[prompt] != s->limit;
}

static void completions(void **state) {
    (void)state;
    struct mil_error err;
    mil_model *m = open_model(TAUGHT, 128);
    struct stream s = {.limit = 0};
    struct mil_prompt prompts[3] = {
        {.text = "Is 14 even?"}, {.text = "Is 69 even?"}, {.text = "Add 3 and 7."}};
    static const char *const want[3] = {"true", "false", "The answer is 10"};
    struct mil_completion out[3];
    for (int beams = 1; beams <= 3; beams += 2) {
        struct mil_generate_options o = {
            .template_name = "alpaca", .max_new_tokens = 12, .num_beams = beams};
        memset(&s, 0, sizeof s);
        assert_ok(mil_generate(m, prompts, 3, &o, on_piece, &s, out, &err));
        for (int i = 0; i < 3; i++) {
            assert_string_equal(out[i].text, want[i]);
            assert_string_equal(s.text[i], want[i]);
            assert_int_equal(out[i].n_ids, s.n[i]);
            assert_true(out[i].ended && out[i].n_prompt > 10);
        }
        mil_completions_release(out, 3);
        assert_null(out[0].text);
    }
    /* The callback stops a prompt after two tokens. */
    s = (struct stream){.limit = 2};
    struct mil_generate_options o = {.template_name = "alpaca"};
    assert_ok(mil_generate(m, prompts + 2, 1, &o, on_piece, &s, out, &err));
    assert_int_equal(out[0].n_ids, 2);
    assert_false(out[0].ended);
    mil_completions_release(out, 1);
    mil_model_free(&m);
}

/* The same prompt as text, as rendered text and as ids. */
static void ids_and_text(void **state) {
    (void)state;
    struct mil_error err;
    mil_model *m = open_model(TAUGHT, 128);
    struct mil_completion a[1], b[1];
    struct mil_prompt text = {.text = "Below is an instruction that describes a task. Write a "
                                      "response that appropriately completes the request.\n\n"
                                      "### Instruction:\nIs 14 even?\n\n### Response:\n"};
    struct mil_prompt rows = {.text = "Is 14 even?"};
    struct mil_generate_options raw = {.max_new_tokens = 5},
                                alpaca = {.max_new_tokens = 5, .template_name = "alpaca"};
    assert_ok(mil_generate(m, &text, 1, &raw, NULL, NULL, a, &err));
    assert_ok(mil_generate(m, &rows, 1, &alpaca, NULL, NULL, b, &err));
    assert_string_equal(a[0].text, b[0].text);
    assert_int_equal(a[0].n_prompt, b[0].n_prompt);
    mil_completions_release(b, 1);
    int32_t some[3] = {5, 6, 7};
    struct mil_prompt ids = {.ids = some, .n_ids = 3};
    assert_ok(mil_generate(m, &ids, 1, &raw, NULL, NULL, b, &err));
    assert_int_equal(b[0].n_prompt, 3);
    mil_completions_release(a, 1);
    mil_completions_release(b, 1);
    assert_ok(mil_generate(m, NULL, 0, &raw, NULL, NULL, NULL, &err));
    mil_model_free(&m);
}

static void refused(void **state) {
    (void)state;
    struct mil_error err;
    mil_model *m = open_model(TAUGHT, 64),
              *bare = open_model(TEST_ROOT "/tests/model/data/llama", 64);
    static int32_t many[100];
    struct mil_completion out[2];
    struct mil_prompt p[2] = {{.text = "a"}, {.text = ""}};
    struct mil_generate_options o = {.max_new_tokens = 5};
    assert_fails(mil_generate(m, p, 2, &o, NULL, NULL, out, &err), MIL_INPUT, "prompt 2 has no");
    assert_null(out[0].ids);
    p[1] = (struct mil_prompt){.ids = many, .n_ids = 100};
    assert_fails(mil_generate(m, p, 2, &o, NULL, NULL, out, &err), MIL_INPUT,
                 "prompt 2 has 100 tokens; a context of 64");
    p[1] = (struct mil_prompt){.text = "\xff"};
    assert_fails(mil_generate(m, p, 2, &o, NULL, NULL, out, &err), MIL_INPUT, "prompt 2: ");
    many[0] = 400;
    p[1] = (struct mil_prompt){.ids = many, .n_ids = 1};
    assert_fails(mil_generate(m, p, 2, &o, NULL, NULL, out, &err), MIL_INPUT, "id 400");
    many[0] = 0;
    o.temperature = -1;
    assert_fails(mil_generate(m, p, 1, &o, NULL, NULL, out, &err), MIL_USAGE, "temperature");
    o.temperature = 0;
    o.num_beams = 1000;
    assert_fails(mil_generate(m, p, 1, &o, NULL, NULL, out, &err), MIL_USAGE, "num_beams");
    o.num_beams = 1;
    o.batch_size = -1;
    assert_fails(mil_generate(m, p, 1, &o, NULL, NULL, out, &err), MIL_USAGE, "batch_size");
    o.batch_size = 0;
    o.template_name = "alpacca";
    assert_fails(mil_generate(m, p, 1, &o, NULL, NULL, out, &err), MIL_USAGE, "alpaca");
    o.template_name = "chat";
    assert_fails(mil_generate(m, p, 1, &o, NULL, NULL, out, &err), MIL_UNSUPPORTED, "template");
    o.template_name = NULL;
    assert_fails(mil_generate(bare, p, 1, &o, NULL, NULL, out, &err), MIL_USAGE, "no tokenizer");
    struct mil_prompt ids = {.ids = many + 1, .n_ids = 3};
    assert_ok(mil_generate(bare, &ids, 1, &o, NULL, NULL, out, &err));
    assert_null(out[0].text);
    mil_completions_release(out, 1);
    mil_model_free(&m);
    mil_model_free(&bare);
}

/* The `plain` template is the bare contents, so each turn of a conversation is the raw completion
 * of all that was said; the cache must not show. */
static void conversation(void **state) {
    (void)state;
    struct mil_error err;
    mil_model *m = open_model(TAUGHT, 96);
    static const char *const turns[3] = {"Is 14 even?", " Add 3 and", " Is 7"};
    struct mil_chat_options o = {.template_name = "plain", .max_new_tokens = 6};
    struct mil_generate_options raw = {.max_new_tokens = 6};
    mil_chat *chat;
    assert_ok(mil_chat_new(m, &o, &chat, &err));
    assert_string_equal(mil_chat_template(chat), "plain");
    assert_int_equal(mil_chat_context(chat), 96);
    assert_int_equal(mil_chat_tokens(chat), 0);
    for (int round = 0; round < 2; round++) {
        char all[1024] = "";
        for (int i = 0; i < 3; i++) {
            struct mil_completion reply, want;
            struct stream s = {.limit = 0};
            strcat(all, turns[i]);
            struct mil_prompt p = {.text = all};
            assert_ok(mil_chat_say(chat, turns[i], on_piece, &s, &reply, &err));
            assert_ok(mil_generate(m, &p, 1, &raw, NULL, NULL, &want, &err));
            assert_string_equal(reply.text, want.text);
            assert_string_equal(s.text[0], want.text);
            assert_int_equal(reply.n_prompt, want.n_prompt);
            assert_true(mil_chat_tokens(chat) >= (int64_t)reply.n_prompt);
            strcat(all, reply.text);
            mil_completions_release(&reply, 1);
            mil_completions_release(&want, 1);
        }
        mil_chat_reset(chat);
        assert_int_equal(mil_chat_tokens(chat), 0);
    }
    /* It grows until it no longer fits; the failed turn leaves no trace. */
    enum mil_status st = MIL_OK;
    int said = 0;
    while (st == MIL_OK && said++ < 100)
        st = mil_chat_say(chat, "Is 1 even?", NULL, NULL, NULL, &err);
    assert_int_equal(st, MIL_INPUT);
    assert_non_null(strstr(err.message, "context of 96"));
    mil_chat_reset(chat);
    assert_ok(mil_chat_say(chat, "Is 1 even?", NULL, NULL, NULL, &err));
    mil_chat_free(&chat);
    mil_chat_free(&chat);

    o.template_name = NULL;
    assert_fails(mil_chat_new(m, &o, &chat, &err), MIL_UNSUPPORTED, "template");
    o.template_name = "plain";
    o.context = 97;
    assert_fails(mil_chat_new(m, &o, &chat, &err), MIL_USAGE, "context is 97");
    mil_model_free(&m);
}

/* The model's own template is found; a conversation's first turn is the templated completion. */
static void smollm2(void **state) {
    (void)state;
    skip_without_smollm2();
    struct mil_error err;
    mil_model *m = open_model(test_smollm2_path(), 256);
    struct mil_chat_options o = {.max_new_tokens = 12};
    struct mil_generate_options g = {.max_new_tokens = 12, .template_name = "chat"};
    struct mil_prompt p = {.text = "What is the capital of France?"};
    struct mil_completion reply, want;
    mil_chat *chat;
    assert_ok(mil_chat_new(m, &o, &chat, &err));
    assert_string_equal(mil_chat_template(chat), "chatml");
    assert_ok(mil_chat_say(chat, p.text, NULL, NULL, &reply, &err));
    assert_ok(mil_generate(m, &p, 1, &g, NULL, NULL, &want, &err));
    assert_string_equal(reply.text, want.text);
    assert_non_null(strstr(reply.text, "Paris"));
    mil_completions_release(&reply, 1);
    mil_completions_release(&want, 1);
    mil_chat_free(&chat);
    mil_model_free(&m);
}

/* ---- evaluation */

static void tasks(void **state) {
    (void)state;
    size_t n, available = 0;
    const struct mil_eval_task *t = mil_eval_tasks(&n);
    static const char *const promised[] = {
        "gsm8k",     "math",        "boolq",     "piqa",          "social_i_qa",
        "hellaswag", "winogrande",  "arc_easy",  "arc_challenge", "openbookqa",
        "humaneval", "alpaca_eval", "perplexity"};
    for (size_t p = 0; p < sizeof promised / sizeof *promised; p++) {
        bool found = false;
        for (size_t i = 0; i < n; i++) found = found || strcmp(t[i].name, promised[p]) == 0;
        if (!found) fail_msg("no task %s", promised[p]);
    }
    for (size_t i = 0; i < n; i++) {
        assert_true(t[i].summary[0] && t[i].metric[0]);
        available += t[i].available != 0;
    }
    assert_int_equal(available, n);
}

static void results(void **state) {
    (void)state;
    struct mil_error err;
    mil_model *m = open_model(TAUGHT, 128);
    struct mil_eval_options o = {.max_new_tokens = 12, .limit = 8, .seed = 3};
    struct mil_eval_result r;
    char path[600], *text = NULL;
    snprintf(path, sizeof path, "%s/results.json", test_tmp_dir());
    assert_ok(mil_eval(m, "exact_match", TAUGHT "/rows.jsonl", &o, NULL, NULL, &r, &err));
    assert_ok(mil_eval_write(m, &r, path, &err));
    assert_ok(mil_eval_json(m, &r, &text, &err));
    json_t *file = NULL, *same = NULL;
    assert_ok(json_read_file(path, &file, &err));
    assert_ok(json_read_text(text, strlen(text), "text", &same, &err));
    assert_true(json_equal(file, same));
    assert_int_equal(json_integer_value(json_object_get(file, "version")), 1);
    assert_string_equal(json_string_value(json_object_get(file, "task")), "exact_match");
    assert_string_equal(json_string_value(json_object_get(file, "metric")), "accuracy");
    assert_string_equal(json_string_value(json_object_get(file, "protocol")), r.protocol);
    assert_string_equal(json_string_value(json_object_get(file, "data")), TAUGHT "/rows.jsonl");
    assert_string_equal(json_string_value(json_object_get(file, "data_hash")), r.data_hash);
    assert_int_equal(strlen(r.data_hash), 32);
    assert_string_equal(json_string_value(json_object_get(file, "model")), TAUGHT);
    assert_true(json_is_null(json_object_get(file, "adapter")));
    assert_true(json_real_value(json_object_get(file, "value")) == r.value);
    assert_int_equal(json_integer_value(json_object_get(file, "n")), 8);
    const json_t *settings = json_object_get(file, "settings");
    assert_int_equal(json_integer_value(json_object_get(settings, "limit")), 8);
    assert_int_equal(json_integer_value(json_object_get(settings, "seed")), 3);
    const json_t *values = json_object_get(file, "values");
    assert_true(json_real_value(json_object_get(values, "correct")) == 8 * r.value);
    json_decref(file);
    json_decref(same);
    mil_eval_text_free(&text);
    assert_null(text);
    assert_fails(mil_eval_write(m, &r, "/nonexistent/r.json", &err), MIL_ACCESS, "/nonexistent");
    assert_fails(mil_eval(m, "gsm8k", "/nonexistent/x.jsonl", &o, NULL, NULL, &r, &err), MIL_ACCESS,
                 "/nonexistent/x.jsonl");
    mil_model_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completions),  cmocka_unit_test(ids_and_text), cmocka_unit_test(refused),
        cmocka_unit_test(conversation), cmocka_unit_test(smollm2),      cmocka_unit_test(tasks),
        cmocka_unit_test(results)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
