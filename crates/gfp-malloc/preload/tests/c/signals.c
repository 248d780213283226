/* Signal handlers that allocate in the middle of an allocation. */
#include "check.h"

static volatile sig_atomic_t handled, refused;
static void *kept[64];

static void handler(int signal) {
    (void)signal;
    int before = errno;
    static const size_t size[] = {1, 24, 100, 1000, 4096, 20000};
    for (int i = 0; i < 6; i++) {
        unsigned char *p = i & 1 ? calloc(1, size[i]) : malloc(size[i]);
        if (!p) {
            CHECK(errno == ENOMEM);
            refused++;
            continue;
        }
        CHECK(!(i & 1) || (p[0] == 0 && p[size[i] - 1] == 0));
        memset(p, 0xee, size[i]);
        p = realloc(p, size[i] + 10) ?: p;
        CHECK(p[0] == 0xee && p[size[i] - 1] == 0xee);
        free(p);
    }
    unsigned at = (unsigned)handled & 63; /* from one handler to another */
    free(kept[at]);
    kept[at] = malloc(64);
    handled++;
    errno = before;
}

static void *run(void *arg) {
    unsigned seed = (unsigned)(uintptr_t)arg;
    enum { N = 256 };
    unsigned char *p[N] = {0};
    size_t size[N] = {0};
    while (handled < 3000) {
        for (int k = 0; k < 100; k++) {
            seed = seed * 1103515245 + 12345;
            unsigned at = seed >> 16 & (N - 1);
            if (p[at])
                for (size_t i = 0; i < size[at]; i += 61)
                    CHECK(p[at][i] == (unsigned char)at); /* nobody else wrote here */
            free(p[at]);
            size[at] = 1 + (seed >> 8 & (seed & 0x70 ? 0x1ff : 0x7fff));
            p[at] = malloc(size[at]);
            CHECK(p[at]);
            memset(p[at], (int)at, size[at]);
        }
    }
    for (int i = 0; i < N; i++)
        free(p[i]);
    return NULL;
}

int main(void) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 50}, {0, 50}}; /* as often as the kernel likes */
    alarm(0);
    setitimer(ITIMER_REAL, &often, NULL);
    run((void *)1);
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, NULL);
    for (int i = 0; i < 64; i++)
        free(kept[i]);
    CHECK(handled >= 3000);
    CHECK(refused < handled); /* small sizes were served mostly */
    puts("ok");
}
