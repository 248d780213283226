/* Large blocks that are freed and asked for again, and that do not stand in anyone's way meanwhile. */
#include "check.h"

#define LARGE (12u << 20)

int main(void) {
    char *p = malloc(LARGE);
    CHECK(p && malloc_usable_size(p) >= LARGE);
    memset(p, 0x5a, LARGE);
    free(p);
    CHECK(malloc_usable_size(p) == 0);
    char *q = malloc(LARGE);
    CHECK(q == p); /* the same pages, which are there already */
    free(q);
    char *z = calloc(1, LARGE);
    CHECK(z == p);
    for (size_t i = 0; i < LARGE; i++)
        CHECK(z[i] == 0);
    free(z);
    char *small = malloc(5 << 20); /* less than the half: not from there */
    CHECK(small && small != p);
    free(small);
    free(p + 4096); /* interior, and twice: told, and nothing else happens */
    free(p);
    /* All memory can be had, though some of it waits for a request of its size. */
    size_t got = 0;
    while (malloc(100000))
        got += 128 << 10;
    CHECK(got > 230u << 20);
    puts("ok");
    return 0;
}
