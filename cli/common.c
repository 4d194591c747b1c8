/* SPDX-License-Identifier: Apache-2.0 */
/* common.c - what several verbs share: sets and lists of names, JSON output, the stop signals. */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>

#include "cli.h"

const char *const *choices_compute(void) {
    static const char *const names[] = {"bf16", "f32", NULL};
    return names;
}

const char *const *choices_stored(void) {
    static const char *const names[] = {"bf16", "f16", "f32", NULL};
    return names;
}

enum mil_compute cli_compute(const char *dtype) {
    return strcmp(dtype, "f32") == 0 ? MIL_F32 : MIL_BF16;
}

enum mil_status cli_names(const char *option, const char *value, struct name_list *out,
                          struct mil_error *err) {
    size_t bytes = strlen(value), most = sizeof out->names / sizeof *out->names;
    out->n = 0;
    if (bytes >= sizeof out->text)
        return cli_usage(err, "%s: more than %zu bytes", option, sizeof out->text - 1);
    memcpy(out->text, value, bytes + 1);
    for (char *s = out->text + strspn(out->text, ", "); *s; s += strspn(s, ", ")) {
        if (out->n == most) return cli_usage(err, "%s: more than %zu names", option, most);
        out->names[out->n++] = s;
        s += strcspn(s, ", ");
        if (*s) *s++ = '\0';
    }
    return out->n ? MIL_OK : cli_usage(err, "%s '%s': no module named", option, value);
}

const char *cli_grouped(char buf[32], int64_t n) {
    char digits[32];
    int count = snprintf(digits, sizeof digits, "%lld", (long long)n), at = 0;
    for (int i = 0; i < count; i++) {
        bool digit_before = i > 0 && digits[i - 1] != '-';
        if (digit_before && (count - i) % 3 == 0) buf[at++] = ',';
        buf[at++] = digits[i];
    }
    buf[at] = '\0';
    return buf;
}

void cli_print_trainable(FILE *f, int64_t trainable, int64_t all) {
    char a[32], b[32];
    fprintf(f, "trainable params: %s || all params: %s || trainable%%: %.4f\n",
            cli_grouped(a, trainable), cli_grouped(b, all),
            all > 0 ? 100.0 * (double)trainable / (double)all : 0.0);
}

enum mil_status cli_flush(struct mil_error *err) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return MIL_OK;
    return cli_fail(err, MIL_IO, "standard output: %s", strerror(errno ? errno : EIO));
}

/* 15 digits: every decimal number of at most that many digits prints as it was written. */
enum mil_status cli_print_json(struct json_t *root, struct mil_error *err) {
    if (!root)
        return cli_fail(err, MIL_NOMEM,
                        "no JSON could be made: out of memory, or a number that is not finite");
    json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    json_decref(root);
    fputc('\n', stdout);
    return cli_flush(err);
}

static void on_stop(int signal_number) {
    mil_request_stop();
    /* The next one takes the default action: it kills. */
    signal(signal_number, SIG_DFL);
}

void cli_catch_stop(void) {
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}
