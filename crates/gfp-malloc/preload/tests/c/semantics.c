/* Trap "semantics": errno, zero and huge sizes, alignment, overflow. */
#include "check.h"
#include <limits.h>

/* Not in every C library. */
static void (*free_sized)(void *, size_t);
static void (*free_aligned_sized)(void *, size_t, size_t);
static size_t (*malloc_good_size)(size_t);
static int (*reallocarr)(void *, size_t, size_t);
static void (*cfree)(void *);

static void find(void *place, const char *name) {
    *(void **)place = dlsym(RTLD_DEFAULT, name);
    CHECK(*(void **)place);
}

static volatile size_t huge = PTRDIFF_MAX;

static void sizes(void) {
    for (size_t size = 0; size < 70000; size += size < 300 ? 1 : 997) {
        unsigned char *p = malloc(size), *q = malloc(size);
        CHECK(p && q && p != q); /* malloc(0) is unique, too */
        CHECK(aligned(p, size <= 8 ? 8 : 16) && aligned(q, size <= 8 ? 8 : 16));
        CHECK(malloc_usable_size(p) >= size && malloc_usable_size(p) > 0);
        CHECK(malloc_good_size(size) == malloc_usable_size(p));
        memset(p, 0x5a, malloc_usable_size(p));
        memset(q, 0xa5, size);
        CHECK(size == 0 || (p[0] == 0x5a && p[size - 1] == 0x5a && q[size - 1] == 0xa5));
        free(p);
        free(q);
    }
    size_t large[] = {1 << 17, 1 << 20, (1 << 20) + 1, 5 << 20, 33 << 20};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        unsigned char *p = malloc(large[i]);
        CHECK(p && aligned(p, 16) && malloc_usable_size(p) >= large[i]);
        p[0] = p[large[i] - 1] = 1;
        free(p);
    }
}

static void too_large(void) {
    void *keep = malloc(100);
    memset(keep, 7, 100);
    size_t bad[] = {huge + 1, SIZE_MAX, SIZE_MAX - 4095, huge};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        errno = 0;
        CHECK(malloc(bad[i]) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(1, bad[i]) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(realloc(keep, bad[i]) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(aligned_alloc(64, bad[i]) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(pvalloc(bad[i]) == NULL && errno == ENOMEM);
    }
    errno = 0;
    CHECK(calloc(huge, 4) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(calloc(4, huge) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(reallocarray(keep, huge, 4) == NULL && errno == ENOMEM);
    CHECK(((char *)keep)[0] == 7 && ((char *)keep)[99] == 7); /* failure leaves the old memory */
    free(keep);
}

static void zeroes(void) {
    size_t size[] = {1, 16, 64, 100, 4096, 8192, 8193, 65536, 1 << 20, 3 << 20};
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
            unsigned char *p = calloc(size[i] / 2 + 1, 2);
            CHECK(p);
            for (size_t at = 0; at < size[i]; at++)
                CHECK(p[at] == 0);
            memset(p, 0xff, size[i]); /* the next round must see zeroes again */
            free(p);
        }
    void *p = calloc(0, 10), *q = calloc(10, 0);
    CHECK(p && q && p != q);
    free(p);
    free(q);
}

static void alignment(void) {
    for (size_t align = 1; align <= (16 << 20); align *= 2)
        for (size_t size = 1; size <= 300000; size = size * 7 + 1) {
            unsigned char *p = memalign(align, size);
            CHECK(p && aligned(p, align) && malloc_usable_size(p) >= size);
            memset(p, 1, size);
            p = realloc(p, size * 2);
            CHECK(p && p[0] == 1 && p[size - 1] == 1);
            free(p);
        }
    void *p = (void *)123;
    errno = 77;
    CHECK(posix_memalign(&p, 3, 10) == EINVAL && p == (void *)123 && errno == 77);
    CHECK(posix_memalign(&p, 4, 10) == EINVAL && p == (void *)123 && errno == 77);
    CHECK(posix_memalign(&p, 0, 10) == EINVAL && p == (void *)123 && errno == 77);
    CHECK(posix_memalign(&p, 64, huge) == ENOMEM && p == (void *)123 && errno == 77);
    CHECK(posix_memalign(&p, 64, 0) == 0 && p && p != (void *)123 && aligned(p, 64) && errno == 77);
    free_aligned_sized(p, 64, 0);
    errno = 0;
    CHECK(aligned_alloc(24, 48) == NULL && errno == EINVAL);
    CHECK((p = memalign(24, 48)) && aligned(p, 32)); /* as glibc: rounded up */
    free(p);
    errno = 0;
    CHECK(memalign(SIZE_MAX / 2 + 2, 8) == NULL && errno == EINVAL);
    CHECK((p = valloc(10)) && aligned(p, 4096));
    free(p);
    CHECK((p = pvalloc(10)) && aligned(p, 4096) && malloc_usable_size(p) >= 4096);
    free(p);
}

static void resizing(void) {
    unsigned char *p = realloc(NULL, 10);
    CHECK(p);
    for (size_t size = 10; size < (6 << 20); size = size * 3 / 2) {
        for (size_t i = 0; i < 10; i++)
            p[i] = (unsigned char)i;
        p[size - 1] = 0x77;
        p = realloc(p, size * 3 / 2);
        CHECK(p && p[size - 1] == 0x77);
        for (size_t i = 0; i < 9; i++)
            CHECK(p[i] == i);
    }
    p = realloc(p, 5);
    CHECK(p && p[0] == 0 && p[4] == 4);
    errno = 55;
    CHECK(realloc(p, 0) == NULL && errno == 55); /* as glibc: freed */
    void *q = realloc(NULL, 0);
    CHECK(q);
    CHECK(reallocarr(&q, 10, 10) == 0 && malloc_usable_size(q) >= 100);
    void *before = q;
    errno = 55;
    CHECK(reallocarr(&q, huge, 3) == EOVERFLOW && q == before && errno == 55);
    CHECK(reallocarr(&q, huge, 1) == ENOMEM && q == before && errno == 55);
    q = reallocarray(q, 1000, 3);
    CHECK(q);
    free_sized(q, 3000);
}

static void errno_of_free(void) {
    size_t size[] = {0, 8, 100, 4096, 9000, 1 << 20, 40 << 20};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        void *p = malloc(size[i]);
        CHECK(p);
        errno = 4321;
        free(p);
        CHECK(errno == 4321);
    }
    errno = 4321;
    free(NULL);
    cfree(NULL);
    CHECK(errno == 4321 && malloc_usable_size(NULL) == 0);
}

static void about_itself(void) {
    void *p = malloc(1 << 18);
    struct mallinfo2 info = mallinfo2();
    CHECK(info.arena + info.hblkhd > 100 << 20); /* 256 MiB are managed */
    CHECK(info.uordblks >= 1 << 18 && info.fordblks < info.arena);
    CHECK((size_t)mallinfo().uordblks >= 1 << 18);
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1 && mallopt(999, 1) == 0);
    malloc_trim(0);
    char text[1000] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    CHECK(malloc_info(1, f) == EINVAL && malloc_info(0, f) == 0);
    fclose(f);
    CHECK(strstr(text, "<malloc version=\"1\">") && strstr(text, "</malloc>"));
    free(p);
}

/* Between 4 and 8 KiB an object wastes less than a page. */
static void a_page_and_a_header(void) {
    for (size_t size = 4097; size <= 8192; size += 13) {
        char *p = malloc(size);
        CHECK(p && aligned(p, 16));
        size_t usable = malloc_usable_size(p);
        CHECK(usable >= size && usable == malloc_good_size(size));
        CHECK(size > 6544 || usable < size + 1200);
        memset(p, 7, usable);
        free(p);
        p = calloc(1, size);
        CHECK(p);
        for (size_t i = 0; i < size; i++)
            CHECK(p[i] == 0);
        p = realloc(p, size + 100);
        CHECK(p && p[size - 1] == 0);
        free(p);
    }
}

int main(void) {
    find(&free_sized, "free_sized");
    find(&free_aligned_sized, "free_aligned_sized");
    find(&malloc_good_size, "malloc_good_size");
    find(&reallocarr, "reallocarr");
    find(&cfree, "cfree");
    sizes();
    a_page_and_a_header();
    too_large();
    zeroes();
    alignment();
    resizing();
    errno_of_free();
    about_itself();
    puts("ok");
}
