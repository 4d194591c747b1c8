/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever is accepted must come back equal from the YAML that we write for it. */
#include "fuzz.h"
#include "io/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct mil_error err = {0};
    struct yaml_doc doc, back;
    enum mil_status st = yaml_read_text((const char *)data, n, "input", &doc, &err);
    check_error(st, &err);
    if (st != MIL_OK) return 0;
    struct str out = {0};
    REQUIRE(yaml_write(doc.root, &out, &err) == MIL_OK);
    REQUIRE(yaml_read_text(str_c(&out), out.len, "output", &back, &err) == MIL_OK);
    REQUIRE(json_equal(doc.root, back.root));
    str_release(&out);
    yaml_release(&back);
    yaml_release(&doc);
    return 0;
}
