/* SPDX-License-Identifier: Apache-2.0 */
/* Every row is an object, and the cursor only moves forward. */
#include "fuzz.h"
#include "io/records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char path[32];
    struct mil_error err = {0};
    struct records r;
    int fd = bytes_as_file(data, n, path);
    enum mil_status st = records_open(&r, path, &err);
    check_error(st, &err);
    while (st == MIL_OK) {
        json_t *row;
        size_t before = r.at;
        st = records_next(&r, &row, &err);
        check_error(st, &err);
        if (!row) break;
        REQUIRE(json_is_object(row) && r.at > before && r.at <= n);
        json_decref(row);
    }
    records_close(&r);
    close(fd);
    return 0;
}
