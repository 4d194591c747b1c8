/* SPDX-License-Identifier: Apache-2.0 */
/* The core schema, what is refused and where, and the property that yaml_write's text reads back
 * as an equal tree, over random trees of awkward texts. */
#include "check.h"

#include "core/rng.h"
#include "io/json.h"
#include "io/yaml.h"

static json_t *read_yaml(const char *text) {
    struct mil_error err = {0};
    struct yaml_doc doc;
    assert_ok(yaml_read_text(text, strlen(text), "t.yaml", &doc, &err));
    json_t *root = json_incref(doc.root);
    yaml_release(&doc);
    return root;
}

static void scalars_follow_the_core_schema(void **state) {
    (void)state;
    struct mil_error err = {0};
    /* value as written -> the JSON it must equal */
    static const char *const table[][2] = {
        {"3e-4", "0.0003"},
        {".5", "0.5"},
        {"5.", "5.0"},
        {"-1.5E+3", "-1500.0"},
        {"+12", "12"},
        {"0x1F", "31"},
        {"0o17", "15"},
        {"007", "7"},
        {"1e3", "1000.0"},
        {"9223372036854775807", "9223372036854775807"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"1_000", "\"1_000\""},
        {"true", "true"},
        {"False", "false"},
        {"yes", "\"yes\""},
        {"no", "\"no\""},
        {"on", "\"on\""},
        {"~", "null"},
        {"null", "null"},
        {"", "\"\""},
        {"\"\"", "\"\""},
        {"'true'", "\"true\""},
        {"\"1\"", "\"1\""},
        {"[a, b]", "[\"a\", \"b\"]"},
        {"[1, 2.5, x y]", "[1, 2.5, \"x y\"]"},
        {"{a: 1}", "{\"a\": 1}"},
        {"1.2.3", "\"1.2.3\""},
        {".", "\".\""},
        {"-", "[null]"},
        {"e5", "\"e5\""},
        {"1e", "\"1e\""},
        {"0x", "\"0x\""},
        {"text with spaces", "\"text with spaces\""},
        {"\"a\\tb\\u00e9\"", "\"a\\tb\\u00e9\""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        json_t *got, *want;
        assert_ok(yaml_read_value(table[i][0], "value", &got, &err));
        assert_ok(json_read_text(table[i][1], strlen(table[i][1]), "want", &want, &err));
        if (!json_equal(got, want)) fail_msg("'%s' is not %s", table[i][0], table[i][1]);
        json_decref(got);
        json_decref(want);
    }
}

static void lines_of_keys_are_known(void **state) {
    (void)state;
    struct mil_error err = {0};
    static const char text[] = "# head\nr: 32\n\ndataset:\n  - path: a.json\n    limit: 5\n  - b\n";
    struct yaml_doc doc;
    assert_ok(yaml_read_text(text, strlen(text), "t.yaml", &doc, &err));
    assert_int_equal(yaml_line(&doc, "r"), 2);
    assert_int_equal(yaml_line(&doc, "dataset"), 4);
    assert_int_equal(yaml_line(&doc, "dataset.0.path"), 5);
    assert_int_equal(yaml_line(&doc, "dataset.0.limit"), 6);
    assert_int_equal(yaml_line(&doc, "dataset.1"), 7);
    assert_int_equal(yaml_line(&doc, "nothing"), 0);
    yaml_release(&doc);
}

static void bad_documents_are_refused_with_their_place(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
    } table[] = {
        {"a: 1\nb: &x 2\n", "line 2, column 4: anchors"},
        {"a: *x\n", "line 1, column 4: anchors"},
        {"a: !!str 1\n", "line 1, column 4: tags"},
        {"a: 1\nb: 2\na: 3\n", "line 3, column 1: key 'a' occurs twice"},
        {"a: {b: 1, b: 2}\n", "column 11: key 'b' occurs twice"},
        {"? [a]\n: 1\n", "column 3: a key must be"},
        {"<<: 1\n", "merge keys"},
        {"a: .inf\n", "line 1, column 4: infinity"},
        {"a: -.Inf\n", "infinity"},
        {"a: .nan\n", "infinity and NaN"},
        {"a: 99999999999999999999\n", "does not fit 64 bits"},
        {"a: 0xffffffffffffffffff\n", "does not fit 64 bits"},
        {"a: 1e999\n", "too large"},
        {"a: 1\n--- \nb: 2\n", "more than one document"},
        {"", "the document is empty"},
        {"# only this\n", "the document is empty"},
        {"a: \"x\\0y\"\n", "may not hold a NUL"},
        {"\"x\\0y\": 1\n", "may not hold a NUL"},
        {"a: [1, 2\n", "line 2, column 1"},
        {"a: b: c\n", "line 1, column 5"},
        {"\ta: 1\n", "line 1, column 1"},
        {"a: \xff\n", "byte 3"},
        {"a: \x01\n", "byte 3"},
        {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
         "nested too deeply"},
    };
    struct mil_error err;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct yaml_doc doc;
        assert_fails(yaml_read_text(table[i].text, strlen(table[i].text), "t.yaml", &doc, &err),
                     MIL_INPUT, table[i].part);
        assert_non_null(strstr(err.message, "t.yaml: "));
        assert_null(doc.root);
    }
    static char many[2 * YAML_MAX_NODES + 8];
    size_t n = 0;
    many[n++] = '[';
    for (int i = 0; i < YAML_MAX_NODES; i++) memcpy(many + n, "1,", 2), n += 2;
    many[n++] = ']';
    struct yaml_doc doc;
    assert_fails(yaml_read_text(many, n, "t.yaml", &doc, &err), MIL_INPUT, "too many values");
}

/* ---- writing ---- */

static uint64_t draws;

static uint32_t draw(uint32_t n) {
    return rng_words(7, rng_stream(RNG_TEST, 1), 0, draws++).w[0] % n;
}

static json_t *random_text(void) {
    static const char *const awkward[] = {"",
                                          "true",
                                          "null",
                                          "~",
                                          "no",
                                          "3",
                                          "3e-4",
                                          ".5",
                                          "a: b",
                                          "#x",
                                          "- x",
                                          "x #y",
                                          "[",
                                          "{a}",
                                          "*a",
                                          "&a",
                                          "!t",
                                          "|",
                                          ">",
                                          "%d",
                                          "@x",
                                          "`",
                                          "'",
                                          "\"q\"",
                                          "\\",
                                          "a\nb",
                                          "\n",
                                          " lead",
                                          "trail ",
                                          "\t",
                                          "\x01",
                                          "\x7f",
                                          "\xc2\x85",
                                          "\xe2\x80\xa8",
                                          "\xef\xbb\xbf",
                                          "\xef\xbf\xbf",
                                          "\xf0\x9f\x98\x80",
                                          "é",
                                          "q_proj",
                                          "./out/x",
                                          "a,b",
                                          "?",
                                          "? x",
                                          "---",
                                          "...",
                                          "<<",
                                          "=",
                                          "0x1F",
                                          "1_000",
                                          "a:",
                                          ":a",
                                          "model.layers.0",
                                          "\r\n",
                                          "\xc2\xa0"};
    uint32_t k = draw(sizeof awkward / sizeof *awkward + 2);
    if (k < sizeof awkward / sizeof *awkward) return json_string(awkward[k]);
    char text[3000];
    size_t n = draw(k % 2 ? 20 : sizeof text - 1);
    for (size_t i = 0; i < n; i++) text[i] = (char)(0x20 + draw(95));
    return json_stringn(text, n);
}

static json_t *random_tree(int depth) {
    switch (draw(depth > 0 ? 8 : 6)) {
    case 0: return json_integer((json_int_t)draw(1000) - 500);
    case 1: return json_real((draw(1000) - 500.0) * 1e-3 * (draw(2) ? 1e30 : 1));
    case 2: return json_boolean(draw(2));
    case 3: return json_null();
    case 4:
    case 5: return random_text();
    default: break;
    }
    json_t *v = draw(2) ? json_object() : json_array();
    for (uint32_t n = draw(5); n--;) {
        json_t *item = random_tree(depth - 1);
        if (json_is_array(v)) {
            json_array_append_new(v, item);
        } else {
            json_t *key = random_text();
            json_object_set_new(v, json_string_value(key), item);
            json_decref(key);
        }
    }
    return v;
}

static void what_is_written_reads_back_equal(void **state) {
    (void)state;
    struct mil_error err = {0};
    for (int i = 0; i < 3000; i++) {
        json_t *tree = random_tree(5);
        struct str out = {0};
        assert_ok(yaml_write(tree, &out, &err));
        struct yaml_doc doc;
        if (yaml_read_text(out.data, out.len, "out.yaml", &doc, &err) != MIL_OK)
            fail_msg("%s in:\n%s", err.message, out.data);
        if (!json_equal(tree, doc.root)) fail_msg("tree %d is not equal after:\n%s", i, out.data);
        yaml_release(&doc);
        str_release(&out);
        json_decref(tree);
    }
}

static void a_configuration_looks_as_people_write_it(void **state) {
    (void)state;
    struct mil_error err = {0};
    json_t *tree = read_yaml("{r: 32, learning_rate: 3e-4, x: [q_proj, k_proj], d: [{path: a.json, "
                             "limit: 5}], yes: 'no', e: {}, f: 0.05}");
    struct str out = {0};
    assert_ok(yaml_write(tree, &out, &err));
    assert_string_equal(str_c(&out), "r: 32\nlearning_rate: 0.0003\nx: [q_proj, k_proj]\nd:\n"
                                     "  - path: a.json\n    limit: 5\n\"yes\": \"no\"\ne: {}\n"
                                     "f: 0.05\n");
    str_release(&out);
    json_decref(tree);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_follow_the_core_schema),
        cmocka_unit_test(lines_of_keys_are_known),
        cmocka_unit_test(bad_documents_are_refused_with_their_place),
        cmocka_unit_test(what_is_written_reads_back_equal),
        cmocka_unit_test(a_configuration_looks_as_people_write_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
