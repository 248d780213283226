/* Trap "foreign pointers", and double frees. Prints the addresses that the reports must name. */
#include "check.h"

static char data[100];

__attribute__((noinline)) static void bad_free(const char *what, void *p) {
    printf("%s %p\n", what, p);
    fflush(stdout);
    errno = 5;
    free(p);
    CHECK(errno == 5);
}

/* Within a page of `bad_free`, as the test wants callers to be. */
__attribute__((noinline)) static void bad_realloc(const char *what, void *p) {
    printf("%s %p\n", what, p);
    errno = 0;
    CHECK(realloc(p, 10) == NULL && errno == ENOMEM);
}

int main(int argc, char **argv) {
    (void)argv;
    char local[100];
    char *mapped = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc == 1) {
        printf("bad_free %p\n", (void *)bad_free);
        bad_free("wild", local);
        bad_free("wild", local + 1);
        bad_free("wild", data);
        bad_free("wild", mapped);
        bad_free("wild", (void *)24);
        bad_free("wild", (void *)16); /* kmalloc's pointer to nothing */
        bad_free("wild", (void *)(intptr_t)-16);
        char *p = malloc(200);
        memset(p, 9, 200);
        bad_free("interior", p + 32);
        CHECK(malloc_usable_size(local) == 0 && malloc_usable_size(mapped) == 0);
        bad_realloc("wild", local);
        bad_realloc("interior", p + 32);
        char *large = malloc(6 << 20);
        bad_realloc("interior", large + 4096);
        CHECK(large[6 << 19] == 0);
        free(large);
        char *freed = malloc(300);
        free(freed);
        bad_realloc("double", freed);
        CHECK(p[0] == 9 && p[199] == 9);
        free(p);
    }
    size_t size[] = {16, 100, 5000, 100000, 3 << 20, 6 << 20};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        void *p = malloc(size[i]);
        free(p);
        bad_free("double", p);
        void *a = malloc(size[i]), *b = malloc(size[i]);
        CHECK(a && b && a != b); /* never given out twice because of it */
        free(a);
        free(b);
    }
    puts("done");
}
