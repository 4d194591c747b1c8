/* SPDX-License-Identifier: Apache-2.0 */
/* tfevents.c - TFRecord framing around protobuf-c's Event messages.  The checksum is CRC-32C, bit
 * by bit reflected polynomial 0x82f63b78, "masked" by a rotation and an offset (so that a checksum
 * of data that holds checksums stays useful).  Records are a few dozen bytes a step: no table
 * needed. */
#include "train/tfevents.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/mem.h"
#include "proto/event.pb-c.h"

uint32_t crc32c(const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1u)));
    }
    return ~crc;
}

static void add_little_endian(struct str *out, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) str_addc(out, (char)(value >> (8 * i) & 0xff));
}

static void add_checksum(struct str *out, size_t from) {
    uint32_t crc = crc32c(str_c(out) + from, out->len - from);
    add_little_endian(out, ((crc >> 15) | (crc << 17)) + 0xa282ead8u, 4);
}

static enum mil_status put(struct tfevents *t, Tb__Event *event, struct mil_error *err) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    event->wall_time = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    size_t n = tb__event__get_packed_size(event);
    uint8_t *packed = mem_alloc(MEM_IO, n, 1);
    if (!packed) return error_nomem(err, n);
    tb__event__pack(event, packed);
    str_reset(&t->record);
    add_little_endian(&t->record, n, 8);
    add_checksum(&t->record, 0);
    str_addn(&t->record, packed, n);
    mem_free(packed);
    add_checksum(&t->record, 12);
    TRY(str_status(&t->record, err));
    if (fwrite(str_c(&t->record), 1, t->record.len, t->f) != t->record.len || fflush(t->f) != 0)
        return error_errno(err, errno, "%s", t->path);
    return MIL_OK;
}

enum mil_status tfevents_open(struct tfevents *t, const char *dir, int64_t from_step,
                              struct mil_error *err) {
    char host[128] = "localhost", name[256];
    memset(t, 0, sizeof *t);
    TRY(dir_make(dir, err));
    gethostname(host, sizeof host - 1);
    for (char *p = host; *p; p++)
        if (*p == '/') *p = '-';
    snprintf(name, sizeof name, "events.out.tfevents.%lld.%s.%ld", (long long)time(NULL), host,
             (long)getpid());
    TRY(path_join(t->path, dir, name, err));
    t->f = fopen(t->path, "ab");
    if (!t->f) return error_errno(err, errno, "%s", t->path);
    Tb__Event version = TB__EVENT__INIT;
    version.what_case = TB__EVENT__WHAT_FILE_VERSION;
    version.file_version = (char[]){"brain.Event:2"};
    TRY(put(t, &version, err));
    if (from_step <= 0) return MIL_OK;
    Tb__SessionLog start = TB__SESSION_LOG__INIT;
    Tb__Event restart = TB__EVENT__INIT;
    start.status = TB__SESSION_LOG__SESSION_STATUS__START;
    restart.step = from_step + 1;
    restart.what_case = TB__EVENT__WHAT_SESSION_LOG;
    restart.session_log = &start;
    return put(t, &restart, err);
}

enum mil_status tfevents_scalar(struct tfevents *t, int64_t step, const char *tag, double value,
                                struct mil_error *err) {
    char name[64];
    snprintf(name, sizeof name, "%s", tag);
    Tb__SummaryValue scalar = TB__SUMMARY_VALUE__INIT;
    scalar.tag = name;
    scalar.value_case = TB__SUMMARY_VALUE__VALUE_SIMPLE_VALUE;
    scalar.simple_value = (float)value;
    Tb__SummaryValue *list[] = {&scalar};
    Tb__Summary summary = TB__SUMMARY__INIT;
    summary.n_value = 1;
    summary.value = list;
    Tb__Event event = TB__EVENT__INIT;
    event.step = step;
    event.what_case = TB__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    return put(t, &event, err);
}

void tfevents_close(struct tfevents *t) {
    if (t->f) fclose(t->f);
    t->f = NULL;
    str_release(&t->record);
}
