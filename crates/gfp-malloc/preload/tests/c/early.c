/* Trap "calls before our constructor": .preinit_array runs before any library's constructor,
   when `environ` is still null; so does the constructor of a library that asks to be first. */
#include "check.h"

static void *early[100];
static int ran;

static void preinit(void) {
    for (int i = 0; i < 100; i++) {
        early[i] = i % 2 ? malloc(10 + i * 100) : calloc(i + 1, 50);
        if (early[i])
            memset(early[i], i, 10);
    }
    for (int i = 0; i < 100; i += 3) {
        free(early[i]);
        early[i] = NULL;
    }
    ran = 1;
}

__attribute__((section(".preinit_array"), used)) static void (*const entry)(void) = preinit;

int main(void) {
    CHECK(ran);
    for (int i = 0; i < 100; i++)
        if (early[i]) {
            CHECK(malloc_usable_size(early[i]) >= 10); /* ours */
            CHECK(((unsigned char *)early[i])[9] == i);
            free(early[i]);
        }
    /* GFP_MEMORY was read although `environ` was not there yet. */
    struct mallinfo2 info = mallinfo2();
    CHECK(info.arena + info.hblkhd <= 64 << 20 && info.arena + info.hblkhd > 32 << 20);
    puts("ok");
}
