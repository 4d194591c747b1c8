/* SPDX-License-Identifier: Apache-2.0 */
/* The resident set as the system counts it: touched memory is in it, freed heap memory is not after
 * a trim, mapped files never are. */
#include "check.h"

#include <sys/mman.h>

#include "core/resident.h"

enum { BLOCK = 64 << 10, BLOCKS = 512 }; /* small enough for the heap; 32 MiB together */

static void touched_is_counted_and_trimmed(void **state) {
    (void)state;
    static char *blocks[BLOCKS];
    size_t all = (size_t)BLOCK * BLOCKS, before = resident_anonymous();
    if (before == 0) skip(); /* the system does not say */
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BLOCK);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, BLOCK);
    }
    size_t held = resident_anonymous();
    assert_true(held >= before + all);
    for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
    resident_trim();
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
    /* Freed last, the top of the heap goes back but for malloc's own margin. */
    assert_true(resident_anonymous() < held - all / 2);
#endif
}

static void a_mapped_file_is_not_counted(void **state) {
    (void)state;
    struct stat s;
    size_t before = resident_anonymous(), n = 0;
    FILE *f = fopen("/proc/self/exe", "rb");
    if (!f || before == 0) skip();
    assert_int_equal(fstat(fileno(f), &s), 0);
    const unsigned char *p = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fileno(f), 0);
    assert_true(p != MAP_FAILED);
    for (off_t i = 0; i < s.st_size; i += 4096) n += p[i];
    assert_true(n > 0 && resident_anonymous() < before + (1 << 20));
    munmap((void *)(uintptr_t)p, (size_t)s.st_size);
    fclose(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(touched_is_counted_and_trimmed),
        cmocka_unit_test(a_mapped_file_is_not_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
