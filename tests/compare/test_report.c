/* SPDX-License-Identifier: Apache-2.0 */
/* The reports of recorded results (tools/report-fixture made them): what they say, that nothing of a hostile document
 * gets past the escapes, that they are well-formed whatever the document holds, and that they are the same bytes again.
 * With $MILORA_REPORT_DIR the pages are written there, for tools/check-report to look at in a browser. */
#include "check.h"

#include "compare/report/report.h"
#include "core/mem.h"

static const char *const fixtures[] = {"results",      "no-baseline", "one-seed", "bare",
                                       "nothing-done", "setups",      "grid",     "crowded"};
enum { FIXTURES = sizeof fixtures / sizeof *fixtures };

static json_t *fixture(const char *name) {
    struct mil_error err = {0};
    char path[600];
    json_t *root = NULL;
    snprintf(path, sizeof path, "%s/%s.json", TEST_DATA, name);
    assert_ok(json_read_file(path, &root, &err));
    return root;
}

/* ---- well-formedness: a stack of elements, as an XML parser sees them ---- */

enum { DEEPEST = 64 };

/* Past the tag at p ("<"); depth and the stack follow it.  NULL: not well-formed. */
static const char *step_tag(const char *p, char stack[DEEPEST][24], int *depth) {
    char name[24] = "";
    bool closing = p[1] == '/';
    const char *from = p + 1 + closing, *end = strchr(p, '>');
    size_t n = strspn(from, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    if (!end || !n || n >= sizeof name || memchr(p + 1, '<', (size_t)(end - p - 1))) return NULL;
    memcpy(name, from, n);
    size_t quotes = 0;
    for (const char *q = p; q < end; q++) quotes += *q == '"';
    if (quotes % 2) return NULL;
    if (end[-1] == '/') return end + 1;
    if (!closing) {
        if (*depth == DEEPEST) return NULL;
        memcpy(stack[(*depth)++], name, sizeof name);
        return end + 1;
    }
    return *depth && !strcmp(stack[--*depth], name) ? end + 1 : NULL;
}

static bool known_entity(const char *p) {
    return str_starts(p, "&amp;") || str_starts(p, "&lt;") || str_starts(p, "&gt;") ||
           str_starts(p, "&quot;") || str_starts(p, "&#39;");
}

static void assert_well_formed(const char *html, size_t n) {
    static char stack[DEEPEST][24];
    int depth = 0;
    assert_int_equal(strlen(html), n);
    assert_int_equal(utf8_valid_prefix(html, n), n);
    assert_true(str_starts(html, "<!DOCTYPE html>\n"));
    for (const char *p = html + 16; *p;) {
        if (*p == '&' && !known_entity(p)) fail_msg("bare & at %.60s", p);
        if (*p != '<') {
            p++;
            continue;
        }
        const char *next = step_tag(p, stack, &depth);
        if (!next) fail_msg("tag at depth %d: %.80s", depth, p);
        p = next;
    }
    assert_int_equal(depth, 0);
}

/* Neither a script, nor an event, nor an address, nor what turns the direction of writing. */
static void assert_quiet(const char *html) {
    static const char *const never[] = {
        "<script", "<img",   "<iframe", "<b>",     " onload", " onerror",
        "http:",   "https:", "url(",    "@import", "\u202e",  "src="};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (strstr(html, never[i])) fail_msg("the page holds %s", never[i]);
}

static void assert_unique_ids(const char *html) {
    for (const char *p = strstr(html, " id=\""); p; p = strstr(p + 5, " id=\"")) {
        char attribute[128];
        size_t n = strcspn(p + 5, "\"") + 6;
        assert_true(n < sizeof attribute);
        memcpy(attribute, p, n);
        attribute[n] = 0;
        if (strstr(p + 5, attribute)) fail_msg("twice:%s", attribute);
    }
}

static void keep(const char *name, const char *ending, const struct str *text) {
    const char *dir = getenv("MILORA_REPORT_DIR");
    char path[600];
    if (!dir || !*dir) return;
    snprintf(path, sizeof path, "%s/%s.%s", dir, name, ending);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(text->data, 1, text->len, f) != text->len || fclose(f)) fail_msg("%s", path);
}

/* ---- the fixtures ---- */

static void pages_are_sound(void **state) {
    (void)state;
    for (size_t i = 0; i < FIXTURES; i++) {
        struct mil_error err = {0};
        struct str html = {0}, again = {0}, text = {0};
        json_t *root = fixture(fixtures[i]);
        assert_ok(report_html(root, &html, &err));
        assert_ok(report_html(root, &again, &err));
        assert_ok(report_markdown(root, &text, &err));
        assert_well_formed(html.data, html.len);
        assert_quiet(html.data);
        assert_unique_ids(html.data);
        assert_int_equal(html.len, again.len);
        assert_memory_equal(html.data, again.data, html.len);
        keep(fixtures[i], "html", &html);
        keep(fixtures[i], "md", &text);
        str_release(&html);
        str_release(&again);
        str_release(&text);
        json_decref(root);
    }
}

/* ---- what they say ---- */

static void assert_says(const char *text, const char *what) {
    if (!strstr(text, what)) fail_msg("'%s' is not in: %.3000s", what, text);
}

/* The numbers are the document's own: lines computed by hand from results.json. */
static void the_words_are_computed(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct str text = {0};
    json_t *root = fixture("results");
    assert_ok(report_markdown(root, &text, &err));
    const json_t *milora = json_array_get(json_object_get(root, "groups"), 2);
    const json_t *average = json_object_get(json_object_get(milora, "summary"), "average");
    char line[256];
    snprintf(line, sizeof line,
             "- MiLoRA has the highest average score: %.1f %% (standard deviation %.1f, 3 seeds)",
             100 * json_number_value(json_object_get(average, "mean")),
             100 * json_number_value(json_object_get(average, "sd")));
    assert_says(text.data, line);
    assert_says(text.data, "Incomplete: of 21 cells 19 are done, 1 failed, 1 is still to run");
    assert_says(text.data, "Of 18 paired comparisons with the baseline");
    assert_says(text.data, "chance would give about 0.9.");
    assert_says(text.data, "| dora/seed-2 | train | milora train: step 113: the loss is NaN;");
    assert_says(text.data, "| Method | LoRA | PiSSA | MiLoRA | mid | random | DoRA | full |");
    assert_says(text.data, "| Task | Principal | Middle | Random | Minor |");
    assert_says(text.data, "| U and V from | W | Random | LoRA |");
    assert_says(text.data, "\\| ");
    assert_says(text.data, "&lt;script&gt;");
    str_release(&text);
    json_decref(root);
}

/* Two seeds with the same difference: an interval of no width is no finding. */
static void equal_differences_are_no_finding(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct str text = {0};
    json_t *root = fixture("results"), *groups = json_object_get(root, "groups");
    for (size_t i = 0; i < json_array_size(groups); i++) {
        json_t *all = json_object_get(json_array_get(groups, i), "difference"), *one;
        const char *key;
        json_object_foreach(all, key, one) {
            json_object_set_new(one, "mean", json_real(0.02));
            json_object_set_new(one, "low", json_real(0.02 - 1e-17));
            json_object_set_new(one, "high", json_real(0.02 + 1e-17));
            json_object_del(one, "rows");
        }
    }
    assert_ok(report_markdown(root, &text, &err));
    assert_says(text.data, "pairs of seeds: no interval, hence no finding");
    assert_null(strstr(text.data, "paired comparisons with the baseline"));
    assert_null(strstr(text.data, "\xe2\x96\xb2 |")); /* the mark of a finding */
    str_release(&text);
    json_decref(root);
}

/* What is small is not told as nothing. */
static void small_differences_have_digits(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct str text = {0};
    json_t *root = fixture("results");
    const json_t *milora = json_array_get(json_object_get(root, "groups"), 2);
    json_t *one = json_object_get(json_object_get(milora, "difference"), "forgetting_loss");
    json_object_set_new(one, "mean", json_real(-0.00321));
    json_object_set_new(one, "low", json_real(-0.0321));
    json_object_set_new(one, "high", json_real(-0.000321));
    assert_ok(report_markdown(root, &text, &err));
    assert_says(text.data, "\xe2\x88\x92"
                           "0.0032 \\[\xe2\x88\x92"
                           "0.032, \xe2\x88\x92"
                           "0.00032\\]");
    str_release(&text);
    json_decref(root);
}

static void say(const char *name, const char *const *what, size_t n, const char *never) {
    struct mil_error err = {0};
    struct str text = {0};
    json_t *root = fixture(name);
    assert_ok(report_markdown(root, &text, &err));
    for (size_t i = 0; i < n; i++) assert_says(text.data, what[i]);
    if (strstr(text.data, never)) fail_msg("%s: holds '%s'", name, never);
    str_release(&text);
    json_decref(root);
}

static void what_is_missing_is_not_invented(void **state) {
    (void)state;
    const char *const one[] = {"(1 seed)", "no interval, hence no finding"};
    const char *const none[] = {"Incomplete: of 6 cells 0 are done, 2 failed, 4 are still to run"};
    const char *const bare[] = {"All 9 cells are done.", "## Scores", "## Differences"};
    const char *const lone[] = {"## Scores", "## Forgetting"};
    const char *const setups[] = {"Settings and methods side by side",
                                  "| PiSSA's &lt;one&gt; | GSM8K, % |"};
    const char *const grid[] = {"| MiLoRA | r = 8, learning\\_rate = 0.0001 |"};
    const char *const crowded[] = {"Not in the average: T5."};
    say("crowded", crowded, 1, "\u202e");
    say("one-seed", one, 2, "excludes zero;");
    say("nothing-done", none, 1, "highest");
    say("bare", bare, 3, "## Forgetting");
    say("no-baseline", lone, 2, "## Differences");
    say("setups", setups, 2, "## Subspaces");
    say("grid", grid, 1, "## What the change does");
}

/* A table has as many cells in every row as in its head. */
static void markdown_tables_are_regular(void **state) {
    (void)state;
    for (size_t i = 0; i < FIXTURES; i++) {
        struct mil_error err = {0};
        struct str text = {0};
        json_t *root = fixture(fixtures[i]);
        assert_ok(report_markdown(root, &text, &err));
        size_t head = 0;
        for (char *line = text.data; *line; line += strcspn(line, "\n") + 1) {
            size_t bars = 0, n = strcspn(line, "\n");
            for (size_t k = 0; k < n; k++) bars += line[k] == '|' && (!k || line[k - 1] != '\\');
            if (head && bars && bars != head) fail_msg("%s: %.*s", fixtures[i], (int)n, line);
            head = line[0] == '|' ? bars : 0;
            if (!line[n]) break;
        }
        str_release(&text);
        json_decref(root);
    }
}

/* ---- documents that hold anything ---- */

static void assert_refused(const char *text, const char *part) {
    struct mil_error err = {0};
    struct str out = {0};
    json_t *root = json_loads(text, 0, NULL);
    assert_fails(report_html(root, &out, &err), MIL_INPUT, part);
    assert_fails(report_markdown(root, &out, &err), MIL_INPUT, part);
    str_release(&out);
    json_decref(root);
}

static void what_is_none_is_refused(void **state) {
    (void)state;
    assert_refused("[]", "not what milora compare writes");
    assert_refused("{\"tasks\": [], \"groups\": {}}", "not what milora compare writes");
    assert_refused("{\"tasks\": [], \"groups\": []}", "'version'");
    assert_refused("{\"version\": 2, \"tasks\": [], \"groups\": []}", "'version' is 2");
    struct str many = {0};
    str_add(&many, "{\"version\": 1, \"tasks\": [], \"groups\": [0");
    for (int i = 0; i < 512; i++) str_add(&many, ",0");
    str_add(&many, "]}");
    assert_refused(many.data, "513 groups");
    str_release(&many);
}

static json_t *replacement(size_t i) {
    switch (i % 7) {
    case 0: return json_null();
    case 1: return json_string("<script>\"'&|`\xef\xbf\xbe\xe2\x80\xae\n]]>");
    case 2: return json_real(-1e308);
    case 3: return json_array();
    case 4: return json_object();
    case 5: return json_real(1e308);
    default: return json_real(1e-320);
    }
}

static void check_both(const json_t *root) {
    struct mil_error err = {0};
    struct str html = {0}, text = {0};
    enum mil_status st = report_html(root, &html, &err);
    if (st == MIL_OK) {
        assert_well_formed(html.data, html.len);
        assert_quiet(html.data);
        if (strstr(html.data, "nan") || strstr(html.data, "inf\"") || strstr(html.data, "inf,"))
            fail_msg("a number is none");
        assert_ok(report_markdown(root, &text, &err));
    } else {
        assert_int_equal(st, MIL_INPUT);
    }
    str_release(&html);
    str_release(&text);
}

/* Every value in turn (of lists the first two) becomes something else; *place counts them. */
static void mutate(const json_t *root, json_t *at, size_t *place) {
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(at, next, key, value) {
        json_t *kept = json_incref(value);
        json_object_set_new(at, key, replacement((*place)++));
        check_both(root);
        json_object_set_new(at, key, kept);
        mutate(root, kept, place);
    }
    for (size_t i = 0; i < json_array_size(at) && i < 2; i++) {
        json_t *kept = json_incref(json_array_get(at, i));
        json_array_set_new(at, i, replacement((*place)++));
        check_both(root);
        json_array_set_new(at, i, kept);
        mutate(root, kept, place);
    }
}

static void no_document_breaks_the_page(void **state) {
    (void)state;
    for (size_t round = 0; round < 2; round++) {
        size_t place = 3 * round; /* another replacement at every place */
        json_t *root = fixture("one-seed");
        mutate(root, root, &place);
        assert_true(place > 300);
        json_decref(root);
    }
}

/* ---- memory ---- */

static size_t memory_now(void) {
    size_t sum = 0;
    for (int c = 0; c < MEM_CATEGORIES; c++) sum += mem_stats((enum mem_category)c).now;
    return sum;
}

/* Every request for memory fails once: an error and nothing kept, or the same page. */
static void no_memory_is_an_error(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct str whole = {0};
    json_t *root = fixture("bare");
    assert_ok(report_html(root, &whole, &err));
    size_t before = memory_now();
    for (long n = 0;; n++) {
        struct str out = {0};
        mem_fail_after(n);
        enum mil_status st = report_html(root, &out, &err);
        mem_fail_after(-1);
        bool same = st == MIL_OK && out.len == whole.len && !memcmp(out.data, whole.data, out.len);
        str_release(&out);
        assert_int_equal(memory_now(), before);
        if (same) break;
        if (st != MIL_NOMEM) fail_msg("request %ld: %s", n, mil_status_name(st));
        assert_true(n < 100000);
    }
    str_release(&whole);
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_sound),
        cmocka_unit_test(the_words_are_computed),
        cmocka_unit_test(equal_differences_are_no_finding),
        cmocka_unit_test(small_differences_have_digits),
        cmocka_unit_test(what_is_missing_is_not_invented),
        cmocka_unit_test(markdown_tables_are_regular),
        cmocka_unit_test(what_is_none_is_refused),
        cmocka_unit_test(no_document_breaks_the_page),
        cmocka_unit_test(no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
