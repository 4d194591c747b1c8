/* SPDX-License-Identifier: Apache-2.0 */
/* test_template.c - renderings byte for byte: against transformers' (recorded in
 * data/templates.json) for templates that models carry as Jinja, against the published texts for
 * the others; the spans that are learned and the template's own ones; recognition of a model's
 * chat_template. */
#include "check.h"

#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"
#include "text/template.h"

static struct mil_error err;

static const struct chat_template *find(const char *name) {
    const struct chat_template *t = NULL;
    assert_ok(template_find(name, &t, &err));
    assert_string_equal(template_name(t), name);
    return t;
}

static enum role role_of(const char *name) {
    return strcmp(name, "system") == 0 ? ROLE_SYSTEM
           : strcmp(name, "user") == 0 ? ROLE_USER
                                       : ROLE_ASSISTANT;
}

static void test_recorded(void **state) {
    (void)state;
    char path[PATH_CAP];
    json_t *rows = NULL;
    struct rendered r = {0};
    snprintf(path, sizeof path, "%s/templates.json", TEST_DATA);
    assert_ok(json_read_file(path, &rows, &err));
    assert_true(json_array_size(rows) >= 20);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i), *list = json_object_get(row, "messages");
        struct message m[8];
        size_t n = json_array_size(list);
        for (size_t k = 0; k < n; k++) {
            const json_t *message = json_array_get(list, k);
            m[k] = (struct message){
                .role = role_of(json_string_value(json_object_get(message, "role"))),
                .content = json_string_value(json_object_get(message, "content"))};
        }
        const char *name = json_string_value(json_object_get(row, "template"));
        assert_ok(template_render(find(name), m, n, json_is_true(json_object_get(row, "open")), &r,
                                  &err));
        assert_string_equal(str_c(&r.text), json_string_value(json_object_get(row, "text")));
    }
    rendered_release(&r);
    json_decref(rows);
}

/* The learned spans in brackets, the template's own text in braces. */
static char *marked(const struct rendered *r) {
    struct str s = {0};
    for (size_t i = 0; i <= r->text.len; i++) {
        for (size_t k = 0; k < r->n_literals; k++)
            if (r->literals[k].end == i) str_addc(&s, '}');
        for (size_t k = 0; k < r->n_spans; k++) {
            if (r->spans[k].end == i) str_addc(&s, ']');
            if (r->spans[k].begin == i) str_addc(&s, '[');
        }
        for (size_t k = 0; k < r->n_literals; k++)
            if (r->literals[k].begin == i) str_addc(&s, '{');
        if (i < r->text.len) str_addc(&s, r->text.data[i]);
    }
    return str_take(&s);
}

static const struct message turns[] = {{ROLE_USER, "Add", "1 2"}, {ROLE_ASSISTANT, "3", NULL}};
static const struct message bare[] = {{ROLE_USER, "Hi", ""}, {ROLE_ASSISTANT, "Yo", NULL}};

static void expect(const char *name, const struct message *m, size_t n, bool open,
                   const char *want) {
    struct rendered r = {0};
    assert_ok(template_render(find(name), m, n, open, &r, &err));
    char *got = marked(&r);
    assert_string_equal(got, want);
    mem_free(got);
    rendered_release(&r);
}

static void test_alpaca(void **state) {
    (void)state;
    expect("alpaca", turns, 2, false,
           "{Below is an instruction that describes a task, paired with an input that provides "
           "further context. Write a response that appropriately completes the request.\n\n"
           "### Instruction:\n}Add{\n\n### Input:\n}1 2{\n\n### Response:\n}[3]");
    expect("alpaca", bare, 1, true,
           "{Below is an instruction that describes a task. Write a response that appropriately "
           "completes the request.\n\n### Instruction:\n}Hi{\n\n### Response:\n}");
    /* the prompt of PiSSA and MiLoRA: the response follows the colon at once */
    expect("alpaca_short", bare, 2, false,
           "{Below is an instruction that describes a task. Write a response that appropriately "
           "completes the request.\n\n### Instruction:\n}Hi{\n\n### Response:}[Yo]");
    struct message system[] = {{ROLE_SYSTEM, "S", NULL}, {ROLE_USER, "U", NULL}};
    expect("alpaca", system, 2, true, "S{\n\n### Instruction:\n}U{\n\n### Response:\n}");
}

static void test_spans(void **state) {
    (void)state;
    expect("chatml_bare", bare, 2, false,
           "{<|im_start|>user\n}Hi{<|im_end|>\n<|im_start|>assistant\n}[Yo{<|im_end|>]\n}");
    expect("llama2", bare, 2, false, "{<s>[INST] }Hi{ [/INST][ }Yo{ </s>}]");
    expect("llama3", bare, 2, false,
           "{<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n}Hi{<|eot_id|>"
           "<|start_header_id|>assistant<|end_header_id|>\n\n}[Yo{<|eot_id|>}]");
    expect("plain", turns, 2, false, "Add{\n}1 2[3]");
    expect("chatml_bare", turns, 1, true,
           "{<|im_start|>user\n}Add{\n}1 2{<|im_end|>\n<|im_start|>assistant\n}");
    struct message four[] = {{ROLE_USER, "a", NULL},
                             {ROLE_ASSISTANT, "b", NULL},
                             {ROLE_USER, "c", NULL},
                             {ROLE_ASSISTANT, "d", NULL}};
    expect("vicuna", four, 4, false,
           "{A chat between a curious user and an artificial intelligence assistant. The assistant "
           "gives helpful, detailed, and polite answers to the user's questions. USER: }a{ "
           "ASSISTANT:[ }b{</s>]USER: }c{ ASSISTANT:[ }d{</s>}]");
}

static void test_roles(void **state) {
    (void)state;
    struct rendered r = {0};
    struct message two[] = {{ROLE_USER, "a", NULL}, {ROLE_USER, "b", NULL}};
    struct message three[] = {
        {ROLE_USER, "a", NULL}, {ROLE_ASSISTANT, "b", NULL}, {ROLE_USER, "c", NULL}};
    struct message system = {ROLE_SYSTEM, "s", NULL};
    assert_fails(template_render(find("llama2"), two, 2, true, &r, &err), MIL_INPUT, "message 2");
    assert_fails(template_render(find("vicuna"), two, 2, true, &r, &err), MIL_INPUT, "message 2");
    assert_ok(template_render(find("chatml"), two, 2, true, &r, &err));
    assert_fails(template_render(find("alpaca"), three, 3, true, &r, &err), MIL_INPUT,
                 "one question");
    assert_fails(template_render(find("alpaca"), two, 2, false, &r, &err), MIL_INPUT, "message 2");
    assert_fails(template_render(find("llama2"), three, 2, true, &r, &err), MIL_INPUT,
                 "last message");
    assert_fails(template_render(find("plain"), &system, 1, true, &r, &err), MIL_INPUT, "turn");
    assert_fails(template_render(find("plain"), NULL, 0, true, &r, &err), MIL_INPUT, "turn");
    rendered_release(&r);
}

static void test_names(void **state) {
    (void)state;
    const struct chat_template *t = NULL;
    size_t n = 0;
    for (const char *const *name = template_names(); *name; name++, n++) find(*name);
    assert_int_equal(n, 8);
    assert_fails(template_find("lama3", &t, &err), MIL_USAGE, "did you mean 'llama3'");
    assert_string_equal(template_end_token(find("chatml")), "<|im_end|>");
    assert_null(template_end_token(find("alpaca")));
}

static void test_recognise(void **state) {
    (void)state;
    const struct chat_template *t = NULL;
    /* another spelling of the common form: spaces, quotes, joined literals */
    assert_ok(
        template_recognise("{%for message in messages%}{{ \"<|im_start|>\" + message['role'] + "
                           "'\\n' + message[\"content\"] + '<|im_end|>\\n' }}{% endfor %}"
                           "{% if add_generation_prompt %}{{'<|im_start|>' + 'assistant\n'}}"
                           "{% endif %}\n",
                           &t, &err));
    assert_string_equal(template_name(t), "chatml_bare");
    assert_fails(template_recognise("{{ bos_token }}", &t, &err), MIL_UNSUPPORTED, "--template");
    assert_fails(template_recognise(NULL, &t, &err), MIL_UNSUPPORTED, "--template");
    /* broken sources are read to their end and not beyond */
    static const char *const broken[] = {"",     "{",    "{{",    "{{'",
                                         "{{'a", "{%\\", "{{'\\", "{% \"\\\""};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        assert_fails(template_recognise(broken[i], &t, &err), MIL_UNSUPPORTED, "hash");
}

/* small-bytes writes <s> in front and </s> behind: an open turn must not end. */
static void test_encode(void **state) {
    (void)state;
    char path[PATH_CAP];
    struct tokenizer *tok = NULL;
    struct rendered r = {0};
    struct tokens k = {0};
    snprintf(path, sizeof path, "%s/small-bytes", TEST_DATA);
    assert_ok(tokenizer_open_dir(path, &tok, &err));
    assert_ok(template_encode(find("chatml_bare"), tok, turns, 1, true, &r, &k, &err));
    assert_int_equal(k.ids[0], tokenizer_bos(tok));
    assert_int_equal(k.ids[1], tokenizer_id(tok, "<|im_start|>"));
    assert_int_not_equal(k.ids[k.n - 1], tokenizer_eos(tok));
    assert_true(k.starts[k.n - 1] < (int64_t)r.text.len);
    assert_ok(template_encode(find("llama2"), tok, turns, 1, true, &r, &k, &err));
    assert_int_equal(k.ids[0], tokenizer_bos(tok));
    assert_int_not_equal(k.ids[1], tokenizer_bos(tok));
    assert_ok(template_encode(find("plain"), tok, turns, 2, false, &r, &k, &err));
    assert_int_equal(k.ids[k.n - 1], tokenizer_eos(tok));
    rendered_release(&r);
    tokens_release(&k);
    tokenizer_free(&tok);
}

static void recognise_from(const char *dir, const char *want) {
    struct tokenizer *tok = NULL;
    const struct chat_template *t = NULL;
    assert_ok(tokenizer_open_dir(dir, &tok, &err));
    assert_ok(template_recognise(tokenizer_chat_template(tok), &t, &err));
    assert_string_equal(template_name(t), want);
    tokenizer_free(&tok);
}

static void test_recognise_models(void **state) {
    (void)state;
    skip_without_data();
    char path[PATH_CAP];
    snprintf(path, sizeof path, "%s/tokenizers/llama3", test_data_dir());
    recognise_from(path, "llama3");
    const char *smollm2 = test_smollm2_path();
    if (!smollm2 || path_is_dir(smollm2)) return;
    struct gguf_file *f = NULL;
    struct tokenizer *tok = NULL;
    const struct chat_template *t = NULL;
    assert_ok(gguf_open(smollm2, &f, &err));
    assert_ok(tokenizer_open_gguf(f, &tok, &err));
    gguf_free(&f);
    assert_ok(template_recognise(tokenizer_chat_template(tok), &t, &err));
    assert_string_equal(template_name(t), "chatml");
    tokenizer_free(&tok);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_alpaca),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_recognise),
        cmocka_unit_test(test_recognise_models),
        cmocka_unit_test(test_encode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
