/* GFP_OOM=kill: what still fails, and what ends the process. */
#include "check.h"

#define MANY 2000000

static void *all[MANY];

int main(int argc, char **argv) {
    CHECK(argc == 3);
    size_t size = strtoul(argv[1], NULL, 10);
    int count = atoi(argv[2]);
    /* Nobody's death would help these. */
    volatile size_t huge = 1UL << 40;
    CHECK(malloc(huge) == NULL && errno == ENOMEM);
    CHECK(calloc(huge, huge) == NULL && errno == ENOMEM);
    char *large = malloc(4 << 20);
    CHECK(large);
    puts("begun");
    fflush(stdout);
    int got = 0;
    while (got < count && got < MANY && (all[got] = malloc(size)))
        got++;
    /* Who wants less has something already. */
    CHECK((large = realloc(large, 1 << 20)));
    printf("%d\n", got);
}
