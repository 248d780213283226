/* The budget: a program that wants more than there is sees ENOMEM, and goes on. */
#include "check.h"

int main(void) {
    size_t chunk[] = {64, 4096, 100000, 2 << 20, (2 << 20) + 4096};
    for (size_t c = 0; c < 5; c++) {
        void **list = NULL;
        size_t got = 0;
        errno = 0;
        for (;;) {
            void **p = malloc(chunk[c]);
            if (!p)
                break;
            got += chunk[c];
            p[0] = list;
            memset(p + 1, 1, chunk[c] - sizeof *p);
            list = p;
            CHECK(got <= 64 << 20);
        }
        CHECK(errno == ENOMEM);
        CHECK(got > 40 << 20); /* most of it can be had in any size: blocks are not rounded up far */
        while (list) {
            void **next = list[0];
            free(list);
            list = next;
        }
    }
    /* Free memory in pieces of 16 KiB is enough for one of 100000 bytes. */
    static void *piece[5000];
    int pieces = 0;
    while ((piece[pieces] = malloc(12000)))
        CHECK(++pieces < 5000);
    for (int i = 0; i < pieces; i += 2)
        free(piece[i]);
    char *scattered[50];
    for (int i = 0; i < 50; i++) {
        CHECK((scattered[i] = malloc(100000)));
        memset(scattered[i], 1, 100000);
    }
    for (int i = 0; i < 50; i++)
        free(scattered[i]);
    for (int i = 1; i < pieces; i += 2)
        free(piece[i]);
    errno = 0;
    CHECK(malloc(1 << 30) == NULL && errno == ENOMEM);
    void *p = malloc(20 << 20);
    CHECK(p);
    free(p);
    puts("ok");
}
