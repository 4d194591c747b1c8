/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever is accepted must come back equal from the text that we write for it. */
#include "fuzz.h"
#include "io/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct mil_error err = {0};
    json_t *v, *back;
    enum mil_status st = json_read_text((const char *)data, n, "input", &v, &err);
    check_error(st, &err);
    if (st != MIL_OK) return 0;
    struct str out = {0};
    json_append(v, -1, &out);
    REQUIRE(json_read_text(str_c(&out), out.len, "output", &back, &err) == MIL_OK);
    REQUIRE(json_equal(v, back));
    str_release(&out);
    json_decref(back);
    json_decref(v);
    return 0;
}
