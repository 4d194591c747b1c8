/* SPDX-License-Identifier: Apache-2.0 */
/* A training configuration: what is accepted must read back as itself from the text that a run writes
 * beside its results.  The first line goes to the door of the command line too. */
#include <string.h>

#include "core/mem.h"
#include "fuzz.h"
#include "train/config.h"

static void assign_first_line(const uint8_t *data, size_t n) {
    struct mil_error err = {0};
    struct config c;
    size_t line = 0;
    while (line < n && data[line] != '\n' && data[line]) line++;
    char *text = mem_strndup(MEM_OTHER, (const char *)data, line);
    REQUIRE(text && config_init(&c, &err) == MIL_OK);
    check_error(config_assign(&c, text, &err), &err);
    config_release(&c);
    mem_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct mil_error err = {0};
    struct config c, back;
    assign_first_line(data, n);
    REQUIRE(config_init(&c, &err) == MIL_OK);
    enum mil_status st = config_read_text(&c, (const char *)data, n, "input", &err);
    check_error(st, &err);
    if (st == MIL_OK) {
        struct str out = {0};
        check_error(config_check(&c, &err), &err);
        REQUIRE(config_init(&back, &err) == MIL_OK);
        REQUIRE(config_write(&c, &out, &err) == MIL_OK);
        REQUIRE(config_read_text(&back, str_c(&out), out.len, "output", &err) == MIL_OK);
        if (json_is_null(json_object_get(c.values, "lora_alpha")))
            REQUIRE(config_alpha(&c) == config_alpha(&back));
        else
            REQUIRE(json_equal(c.values, back.values));
        config_release(&back);
        str_release(&out);
    }
    config_release(&c);
    return 0;
}
